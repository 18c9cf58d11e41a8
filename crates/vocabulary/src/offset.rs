//! Kafka's log offset.

use std::fmt;

/// The position of a record in its partition: 0 is the first record ever written. As an end, it
/// is exclusive: the offset the next record gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Offset(pub i64);

impl Offset {
    pub const ZERO: Offset = Offset(0);

    /// The offset `count` records further on.
    pub fn plus(self, count: i64) -> Offset {
        Offset(self.0 + count)
    }

    /// How many offsets lie in `[earlier, self)`; zero when `earlier` is not earlier.
    pub fn since(self, earlier: Offset) -> i64 {
        (self.0 - earlier.0).max(0)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
