//! Epochs: numbers that only grow, so that the newer of two claims is told from the older.

use std::fmt;

/// Issued by the controller at each registration of a broker. Starts at 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BrokerEpoch(pub u64);

/// Issued at each change of a partition's leader (KIP-101, KIP-320). Starts at 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LeaderEpoch(pub i32);

impl LeaderEpoch {
    /// The epoch of the next leader. Two billion leaders of one partition do not happen.
    pub fn next(self) -> LeaderEpoch {
        LeaderEpoch(self.0 + 1)
    }
}

impl BrokerEpoch {
    pub fn next(self) -> BrokerEpoch {
        BrokerEpoch(self.0 + 1)
    }
}

impl fmt::Display for BrokerEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for LeaderEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
