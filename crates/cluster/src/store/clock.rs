//! The time that the metadata database sees.
//!
//! Owns: time that never goes back, whatever the machine's wall clock does, and how it is caught up.
//! Does not own: deadlines and waits, which are the environment's; opening again (`store`).
//!
//! SlateDB stamps its rows and names its files by the time, and refuses to write with a time below
//! what it has stored (`InvalidClockTick`). A wall clock that was stepped back would therefore stop
//! the metadata, and refuse starts, until it has caught up. And by the age of files SlateDB tells
//! what is garbage and which compaction is dead: a wall clock that is stepped ahead would make
//! everything old at once. So the time given here is a slewed one:
//!
//! - it starts at the wall time, and is raised to what the database has stored when that is later;
//! - from there it follows the wall clock, but never faster than [`FASTEST`] and never slower than
//!   one [`SLOWEST`]th of the monotonic clock. It never goes back.
//!
//! While the wall clock is behind, files seem younger than they are and garbage stays longer. While
//! it is ahead at a start, garbage of the metadata database goes sooner than its grace; what the
//! database still refers to is never garbage. No other harm is done, so nobody waits for a clock.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};
use environment::Clock;
use slatedb_common::clock::{SystemClock, SystemClockTicker};
use vocabulary::{Tick, Timestamp};

/// How many times as fast as the monotonic clock the database's time runs while it is behind.
const FASTEST: i64 = 2;

/// How many times slower than the monotonic clock it runs while it is ahead.
const SLOWEST: i64 = 2;

/// The last time there is, in milliseconds since 1970: what SlateDB's file names can hold (48 bits,
/// the year 10889). From there on time stands still, which SlateDB allows.
const TIME_MS_MAX: i64 = (1 << 48) - 1;
const TIME_US_MAX: i64 = TIME_MS_MAX * 1000;
const _: () = assert!(TIME_MS_MAX < i64::MAX / 1000);

/// Clocks of two machines differ by so much without anything being wrong, in milliseconds.
const SKEW_MS_TOLD: i64 = 1000;

/// Never goes back. Shared by one process's openings of the database.
pub(super) struct DatabaseClock {
    clock: Arc<dyn Clock>,
    /// Leaf lock around a few numbers.
    given: Mutex<Given>,
}

#[derive(Debug)]
struct Given {
    /// When it was given.
    at: Tick,
    /// The latest time given, in microseconds since 1970.
    time_us: i64,
    refusals: u64,
}

impl DatabaseClock {
    pub(super) fn new(clock: Arc<dyn Clock>) -> DatabaseClock {
        let given = Given { at: clock.now(), time_us: wall_us(&*clock), refusals: 0 };
        DatabaseClock { clock, given: Mutex::new(given) }
    }

    pub(super) fn time(&self) -> Timestamp {
        let (at, wall_us) = (self.clock.now(), wall_us(&*self.clock));
        let mut given = self.given();
        let elapsed = at.0.saturating_sub(given.at.0);
        let elapsed = i64::try_from(elapsed).unwrap_or(i64::MAX);
        let slowest = given.time_us.saturating_add(elapsed / SLOWEST);
        let fastest = given.time_us.saturating_add(elapsed.saturating_mul(FASTEST));
        given.time_us = wall_us.clamp(slowest, fastest).min(TIME_US_MAX);
        given.at = given.at.max(at);
        Timestamp(given.time_us / 1000)
    }

    /// From now on no time before `stored` is given. Tells the operator if that is news.
    pub(super) fn raise(&self, stored: Timestamp) {
        let before = self.time();
        let stored = Timestamp(stored.0.min(TIME_MS_MAX));
        let behind_ms = stored.0 - before.0;
        if behind_ms <= 0 {
            return;
        }
        {
            let mut given = self.given();
            given.time_us = given.time_us.max(stored.0 * 1000);
        }
        if behind_ms < SKEW_MS_TOLD {
            tracing::debug!(behind_ms, "the metadata's time is a little later than the clock's");
            return;
        }
        tracing::warn!(
            behind_ms,
            stored_ms = stored.0,
            "this machine's clock is behind the time at which the metadata was written: it was set \
             back, or the machine that wrote the metadata was ahead. The metadata goes on from its \
             own time; nothing is lost and nothing waits. Check that the clocks are synchronised: \
             retention of records still goes by this machine's clock"
        );
    }

    /// Whether the database has refused the time; if so, the next time given is late enough.
    ///
    /// SlateDB says it in words only (0.18: kind `Invalid`, the time after `last_tick=`). The test
    /// `a_refusal_is_understood` has the words from SlateDB itself.
    pub(super) fn heed(&self, error: &slatedb::Error) -> bool {
        let text = error.to_string();
        let stored = text.split_once("last_tick=`").and_then(|(_, rest)| rest.split_once('`'));
        let Some(Ok(stored)) = stored.map(|(tick, _)| tick.parse::<i64>()) else { return false };
        self.raise(Timestamp(stored));
        self.given().refusals += 1;
        true
    }

    /// How often the database has refused the time.
    pub(super) fn refusals(&self) -> u64 {
        self.given().refusals
    }

    fn given(&self) -> std::sync::MutexGuard<'_, Given> {
        self.given.lock().expect("no holder of this leaf lock panics: it only counts")
    }
}

fn wall_us(clock: &dyn Clock) -> i64 {
    clock.wall().0.clamp(0, TIME_MS_MAX) * 1000
}

impl fmt::Debug for DatabaseClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseClock").field("given", &self.given).finish_non_exhaustive()
    }
}

impl SystemClock for DatabaseClock {
    fn now(&self) -> DateTime<Utc> {
        let time = self.time();
        DateTime::from_timestamp_millis(time.0).expect("between 1970 and TIME_MS_MAX")
    }

    fn sleep<'a>(&'a self, wait: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        self.clock.sleep(wait)
    }

    fn ticker<'a>(&'a self, interval: Duration) -> SystemClockTicker<'a> {
        SystemClockTicker::new(self, interval)
    }
}

#[cfg(test)]
mod tests;
