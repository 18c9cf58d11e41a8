//! Waits that grow with each failure, and a number of tries with such waits between.

use std::fmt;
use std::time::Duration;

use environment::{Entropy, Environment};

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

/// Something is tried so often, with such waits between.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tries {
    pub(crate) count_max: u32,
    pub(crate) wait_min: Duration,
    pub(crate) wait_max: Duration,
}

impl Tries {
    /// Makes tries until one is good or fails for good.
    ///
    /// # Errors
    ///
    /// The first one that does not pass, or that of the last try.
    pub(crate) async fn run<T, E, F>(
        self,
        environment: &Environment,
        passes: impl Fn(&E) -> bool,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, E>
    where
        E: fmt::Display,
        F: Future<Output = Result<T, E>>,
    {
        let mut waits = Backoff::new(self.wait_min, self.wait_max);
        let mut tries = 0;
        loop {
            tries += 1;
            match attempt().await {
                Err(error) if tries < self.count_max && passes(&error) => {
                    let wait = waits.next(&*environment.entropy);
                    tracing::info!(%error, ?wait, tries, "this passes, mostly: trying again");
                    environment.clock.sleep(wait).await;
                }
                answer => return answer,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use environment::SeededEntropy;

    #[tokio::test(start_paused = true)]
    async fn what_passes_is_tried_so_often_and_what_does_not_once() {
        let environment = Environment::system();
        let wait = Duration::from_secs(1);
        let tries = Tries { count_max: 4, wait_min: wait, wait_max: wait };
        for (good_at, passes, made, good) in
            [(1, true, 1, true), (3, true, 3, true), (9, true, 4, false), (9, false, 1, false)]
        {
            let mut count = 0;
            let answer = tries.run(
                &environment,
                |_: &&str| passes,
                || {
                    count += 1;
                    std::future::ready(if good_at <= count { Ok(()) } else { Err("not yet") })
                },
            );
            assert_eq!(answer.await.is_ok(), good, "good at {good_at}");
            assert_eq!(count, made, "good at {good_at}");
        }
    }

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
