//! Time as an argument.
//!
//! Owns: reading the machine's clocks and waiting on the runtime's timers.
//! Does not own: deadlines and what happens at them.
//!
//! Two clocks that are never mixed: [`Tick`] only grows and is for waiting and measuring;
//! [`Timestamp`] is what humans and records carry, may jump, and decides nothing about safety.

use futures::future::BoxFuture;
use std::fmt;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;
use vocabulary::{Tick, Timestamp};

/// Where a room reads the time and waits for it.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Monotonic time since the clock was made.
    fn now(&self) -> Tick;

    /// Wall time, which may jump in both directions.
    fn wall(&self) -> Timestamp;

    /// Resolves at `at` or soon after; at once when that has passed.
    fn sleep_until(&self, at: Tick) -> BoxFuture<'static, ()>;

    /// Resolves after `wait` from now.
    fn sleep(&self, wait: Duration) -> BoxFuture<'static, ()> {
        self.sleep_until(self.now().plus(wait))
    }
}

/// The machine's clocks and tokio's timers (whose grain is a millisecond).
#[derive(Debug)]
pub struct SystemClock {
    origin: Instant,
}

impl SystemClock {
    pub fn new() -> SystemClock {
        SystemClock { origin: instant() }
    }
}

impl Default for SystemClock {
    fn default() -> SystemClock {
        SystemClock::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Tick {
        ticks_since(self.origin)
    }

    #[expect(clippy::disallowed_methods, reason = "this is the clock the lint points to")]
    fn wall(&self) -> Timestamp {
        match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX)),
            Err(before) => {
                Timestamp(-i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX))
            }
        }
    }

    fn sleep_until(&self, at: Tick) -> BoxFuture<'static, ()> {
        sleep_until(self.origin, at)
    }
}

/// Tokio's time, with wall time derived from it. Under a paused runtime it moves only when every
/// task waits, or when a test advances it, so a run is a function of its inputs.
#[derive(Debug)]
pub struct SimulatedClock {
    origin: Instant,
    wall_at_origin: Timestamp,
}

impl SimulatedClock {
    /// Call it inside the runtime whose time it shall follow.
    pub fn starting_at(wall: Timestamp) -> SimulatedClock {
        SimulatedClock { origin: instant(), wall_at_origin: wall }
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> Tick {
        ticks_since(self.origin)
    }

    fn wall(&self) -> Timestamp {
        let elapsed_ms = i64::try_from(self.now().0 / 1000).unwrap_or(i64::MAX);
        Timestamp(self.wall_at_origin.0.saturating_add(elapsed_ms))
    }

    fn sleep_until(&self, at: Tick) -> BoxFuture<'static, ()> {
        sleep_until(self.origin, at)
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the clock the lint points to")]
fn instant() -> Instant {
    Instant::now()
}

fn ticks_since(origin: Instant) -> Tick {
    let micros = instant().saturating_duration_since(origin).as_micros();
    Tick(u64::try_from(micros).unwrap_or(u64::MAX))
}

fn sleep_until(origin: Instant, at: Tick) -> BoxFuture<'static, ()> {
    match origin.checked_add(Duration::from_micros(at.0)) {
        Some(instant) => Box::pin(tokio::time::sleep_until(instant)),
        None => Box::pin(std::future::pending()), // Beyond what the machine can count to.
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn simulated_time_moves_only_by_waiting() {
        let clock = SimulatedClock::starting_at(Timestamp(1000));
        assert_eq!((clock.now(), clock.wall()), (Tick(0), Timestamp(1000)));
        clock.sleep(Duration::from_millis(250)).await;
        assert_eq!((clock.now(), clock.wall()), (Tick(250_000), Timestamp(1250)));
        clock.sleep_until(Tick(100)).await; // Past: at once.
        assert_eq!(clock.now(), Tick(250_000));
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_time_is_never_reached() {
        let clock = SimulatedClock::starting_at(Timestamp(0));
        let mut end = clock.sleep_until(Tick(u64::MAX));
        tokio::select! {
            biased;
            () = &mut end => panic!("woke at the end of time"),
            () = clock.sleep(Duration::from_secs(3600)) => (),
        }
    }

    #[test]
    fn the_system_clock_counts_up() {
        let clock = SystemClock::new();
        let (first, second) = (clock.now(), clock.now());
        assert!(first <= second);
        assert!(clock.wall() > Timestamp(1_700_000_000_000));
    }
}
