//! The metadata's wall clock, which is set forth and back while everything runs.
//!
//! Owns: how far the clock that the metadata is given is wrong, and when it is stepped.
//! Does not own: time itself, which is tokio's paused one (`environment::SimulatedClock`).
//!
//! Only the metadata is given the stepped clock. The log goes by the right one: how records expire and
//! when garbage is old would be another result after each step, and rightly so, but not one that the
//! history could foretell.

use environment::{Clock, Entropy, SeededEntropy};
use futures::future::BoxFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;
use vocabulary::{Tick, Timestamp};

const SECOND_MS: u64 = 1000;
const HOUR_MS: u64 = 3600 * SECOND_MS;
const YEAR_MS: u64 = 365 * 24 * HOUR_MS;

/// How far one step goes at most: a correction, a time zone, a dead battery.
const STEPS_MS: [u64; 4] = [SECOND_MS / 10, 10 * SECOND_MS, 3 * HOUR_MS, 2 * YEAR_MS];

/// Another clock whose wall time is set by hand.
#[derive(Debug)]
pub(crate) struct SteppedClock {
    right: Arc<dyn Clock>,
    ahead_ms: AtomicI64,
    steps: AtomicU64,
}

impl SteppedClock {
    pub(crate) fn new(right: Arc<dyn Clock>, ahead_ms: i64) -> SteppedClock {
        SteppedClock { right, ahead_ms: AtomicI64::new(ahead_ms), steps: AtomicU64::new(0) }
    }

    /// By how much it is wrong; negative when it is behind.
    pub(crate) fn ahead_ms(&self) -> i64 {
        self.ahead_ms.load(Ordering::Relaxed)
    }

    /// How often it was stepped.
    pub(crate) fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    /// Steps at any time, with pauses of up to `pause_max`, for as long as it is polled.
    pub(crate) async fn wander(&self, pause_max: Duration, chance: SeededEntropy) {
        loop {
            let pause_us = chance.below(pause_max.as_micros() as u64 + 1);
            self.right.sleep(Duration::from_micros(pause_us)).await;
            let far_ms = STEPS_MS[chance.below(STEPS_MS.len() as u64) as usize];
            let ahead_ms = match chance.below(4) {
                0 => 0, // It is set right.
                _ => self.ahead_ms() + chance.below(2 * far_ms + 1) as i64 - far_ms as i64,
            };
            tracing::debug!(ahead_ms, "the metadata's clock is set");
            self.ahead_ms.store(ahead_ms, Ordering::Relaxed);
            self.steps.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Clock for SteppedClock {
    fn now(&self) -> Tick {
        self.right.now()
    }

    fn wall(&self) -> Timestamp {
        Timestamp(self.right.wall().0 + self.ahead_ms())
    }

    fn sleep_until(&self, at: Tick) -> BoxFuture<'static, ()> {
        self.right.sleep_until(at)
    }
}
