//! Amounts with a unit.

use std::fmt;

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteCount(pub u64);

impl ByteCount {
    pub const fn kib(count: u64) -> ByteCount {
        ByteCount(count * 1024)
    }

    pub const fn mib(count: u64) -> ByteCount {
        ByteCount(count * 1024 * 1024)
    }
}

impl fmt::Display for ByteCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        match UNITS.iter().find(|(size, _)| *size <= self.0) {
            Some((size, unit)) if self.0.is_multiple_of(*size) => {
                write!(f, "{} {unit}", self.0 / size)
            }
            Some((size, unit)) => write!(f, "{:.1} {unit}", self.0 as f64 / *size as f64),
            None => write!(f, "{} B", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_print_in_the_largest_fitting_unit() {
        assert_eq!(ByteCount(12).to_string(), "12 B");
        assert_eq!(ByteCount::mib(256).to_string(), "256 MiB");
        assert_eq!(ByteCount(1536).to_string(), "1.5 KiB");
    }
}
