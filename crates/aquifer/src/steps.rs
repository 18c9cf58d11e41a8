//! How long each step of a start took, for an operator who waits for one.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use environment::Clock;
use vocabulary::Tick;

/// The steps so far, in order. Printed as one line: the whole, then each.
pub(crate) struct Steps {
    clock: Arc<dyn Clock>,
    began: Tick,
    last: Tick,
    taken: Vec<(&'static str, Duration)>,
}

impl Steps {
    pub(crate) fn begin(clock: &Arc<dyn Clock>) -> Steps {
        let now = clock.now();
        Steps { clock: Arc::clone(clock), began: now, last: now, taken: Vec::new() }
    }

    /// `step` is over; the next one begins.
    pub(crate) fn done(&mut self, step: &'static str) {
        let now = self.clock.now();
        let took = now.since(self.last);
        tracing::debug!(?took, "start: {step}");
        self.taken.push((step, took));
        self.last = now;
    }
}

impl fmt::Display for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.last.since(self.began).as_millis())?;
        for (place, (step, took)) in self.taken.iter().enumerate() {
            let before = if place == 0 { ": " } else { ", " };
            write!(f, "{before}{step} {}", took.as_millis())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use environment::Environment;

    #[tokio::test(start_paused = true)]
    async fn each_step_has_the_time_since_the_one_before() {
        let clock = Environment::simulated(1).clock;
        let mut steps = Steps::begin(&clock);
        clock.sleep(Duration::from_millis(40)).await;
        steps.done("bucket");
        steps.done("standby");
        clock.sleep(Duration::from_millis(700)).await;
        steps.done("metadata");
        assert_eq!(steps.to_string(), "740 ms: bucket 40, standby 0, metadata 700");
    }
}
