//! Waiting out a store or a metadata service in trouble, while nobody can be answered anyway (A9).
//!
//! Owns: the pauses between tries and saying that there are any. Does not own: which errors pass.

use environment::Environment;
use std::fmt;
use std::time::Duration;

const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Pauses that double, half of each chance.
pub(super) struct Patience<'a> {
    environment: &'a Environment,
    pause: Duration,
}

impl Patience<'_> {
    pub(super) fn new(environment: &Environment) -> Patience<'_> {
        Patience { environment, pause: PAUSE_MIN }
    }

    /// One pause. It ends with the caller: whoever does not want to wait drops the future.
    pub(super) async fn wait(&mut self, doing: &str, error: &(dyn fmt::Display + Sync)) {
        let pause = self.pause;
        if pause == PAUSE_MIN {
            tracing::debug!(doing, %error, "a write-ahead log is being taken over; trying again");
        } else {
            tracing::warn!(doing, %error, ?pause, "a log's takeover is held up; trying again");
        }
        let micros = u64::try_from(pause.as_micros()).unwrap_or(u64::MAX);
        let wait = micros / 2 + self.environment.entropy.below(micros / 2 + 1);
        self.environment.clock.sleep(Duration::from_micros(wait)).await;
        self.pause = (pause * 2).min(PAUSE_MAX);
    }
}
