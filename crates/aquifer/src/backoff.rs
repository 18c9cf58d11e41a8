//! Waits that grow with each failure.

use std::time::Duration;

use environment::Entropy;

/// Doubles from the first wait to the last; half of each wait is chance.
#[derive(Debug)]
pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    pub(crate) fn new(min: Duration, max: Duration) -> Backoff {
        Backoff { min, max, next: min }
    }

    /// How long to wait now.
    pub(crate) fn next(&mut self, entropy: &dyn Entropy) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(self.max);
        let half = u64::try_from(whole.as_millis() / 2).unwrap_or(u64::MAX);
        Duration::from_millis(half + entropy.below(half + 1))
    }

    /// The next wait is the shortest one.
    pub(crate) fn reset(&mut self) {
        self.next = self.min;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use environment::SeededEntropy;

    #[test]
    fn waits_grow_to_a_limit_and_start_again() {
        let entropy = SeededEntropy::new(1);
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(8));
        for seconds in [1, 2, 4, 8, 8] {
            let (wait, whole) = (backoff.next(&entropy), Duration::from_secs(seconds));
            assert!(whole / 2 <= wait && wait <= whole, "{wait:?} of {whole:?}");
        }
        backoff.reset();
        assert!(backoff.next(&entropy) <= Duration::from_secs(1));
    }
}
