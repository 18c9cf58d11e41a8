//! The simulation's time, which is not tokio's, and why.
//!
//! Owns: a clock that jumps to the next sleeper once every task waits; how far SlateDB's clock is
//! ahead. Does not own: when processes live.
//!
//! SlateDB reads the machine's clock when it opens, lets it run with tokio's, and refuses to write
//! sorted files, or to open at all, once a clock is behind what it has written. In tokio's paused time
//! minutes pass within milliseconds of the machine's, and most lives would be refused. So one jump
//! here, however long, costs tokio's clock a millisecond, and [`DatabaseTime`] waits between two lives
//! until the machine's clock is where SlateDB has been. Once the metadata store takes its clock from
//! the environment, all of this can go.

use environment::{Clock, SystemClock};
use futures::FutureExt;
use futures::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use vocabulary::{Tick, Timestamp};

/// What tokio's paused clock moves by at least: it only does once no task can run.
const STEP: Duration = Duration::from_millis(1);

/// Sleepers that wake within so much of each other wake together, in microseconds.
const GRAIN: u64 = 5000;

/// The same while time is hurried along.
const GRAIN_HURRIED: u64 = 200_000;

/// One jump's length at most, in microseconds, unless time is hurried along: SlateDB's own waits are
/// tokio's, and must not seem to take hours.
const JUMP_MAX: u64 = 20_000;

/// Wall time derives from ticks and never jumps back.
#[derive(Debug)]
pub(crate) struct JumpingClock {
    wall_at_start: Timestamp,
    /// Leaf lock around a queue.
    sleepers: Mutex<Sleepers>,
}

#[derive(Debug, Default)]
struct Sleepers {
    now: Tick,
    is_hurried: bool,
    next_id: u64,
    waiting: BTreeMap<(Tick, u64), oneshot::Sender<()>>,
}

impl JumpingClock {
    pub(crate) fn starting_at(wall: Timestamp) -> JumpingClock {
        JumpingClock { wall_at_start: wall, sleepers: Mutex::default() }
    }

    /// Moves time for as long as it is polled. The runtime's time must be paused.
    pub(crate) async fn run(&self) {
        loop {
            // Over when nothing else could run.
            let _ = tokio::time::timeout(STEP, std::future::pending::<()>()).await;
            self.jump();
        }
    }

    /// While true, a jump may be of any length: for when nobody waits for the metadata.
    pub(crate) fn hurry(&self, is_hurried: bool) {
        self.sleepers().is_hurried = is_hurried;
    }

    fn sleepers(&self) -> MutexGuard<'_, Sleepers> {
        self.sleepers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn jump(&self) {
        let mut sleepers = self.sleepers();
        sleepers.waiting.retain(|_, sleeper| !sleeper.is_closed());
        let Some(((first, _), _)) = sleepers.waiting.first_key_value() else { return };
        let (grain, jump_max) = match sleepers.is_hurried {
            true => (GRAIN_HURRIED, u64::MAX),
            false => (GRAIN, sleepers.now.0 + JUMP_MAX),
        };
        let next = first.0.next_multiple_of(grain).max(sleepers.now.0);
        sleepers.now = Tick(next.min(jump_max));
        let due = Tick(sleepers.now.0 + 1);
        let later = sleepers.waiting.split_off(&(due, 0));
        for sleeper in std::mem::replace(&mut sleepers.waiting, later).into_values() {
            let _ = sleeper.send(()); // Its task may have gone just now.
        }
    }
}

impl Clock for JumpingClock {
    fn now(&self) -> Tick {
        self.sleepers().now
    }

    fn wall(&self) -> Timestamp {
        Timestamp(self.wall_at_start.0 + (self.now().0 / 1000) as i64)
    }

    fn sleep_until(&self, at: Tick) -> BoxFuture<'static, ()> {
        let mut sleepers = self.sleepers();
        if at <= sleepers.now {
            return futures::future::ready(()).boxed();
        }
        let (wake, woken) = oneshot::channel();
        sleepers.next_id += 1;
        let id = sleepers.next_id;
        sleepers.waiting.insert((at, id), wake);
        woken.map(drop).boxed()
    }
}

/// SlateDB's time over all lives: what it may have written last.
#[derive(Debug, Default)]
pub(crate) struct DatabaseTime {
    written: Timestamp,
}

impl DatabaseTime {
    /// A life has ended.
    pub(crate) fn ended(&mut self, at: Timestamp) {
        self.written = self.written.max(at);
    }

    /// Waits until the next life's clock is not behind.
    pub(crate) fn catch_up(&self) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime.expect("a runtime").block_on(async {
            let clock = SystemClock::new();
            let ahead_ms = (self.written.0 - clock.wall().0).max(0) as u64;
            tracing::debug!(ahead_ms, "the database's clock is ahead");
            clock.sleep(Duration::from_millis(ahead_ms)).await;
        });
    }
}

/// When a life started, on the machine's clock, inside of its runtime.
#[derive(Debug)]
pub(crate) struct Started {
    wall: Timestamp,
    clock: SystemClock,
}

impl Started {
    pub(crate) fn now() -> Started {
        let clock = SystemClock::new();
        Started { wall: clock.wall(), clock }
    }

    /// The time that SlateDB may have reached: what has passed for the machine and for the runtime.
    pub(crate) fn elapsed(&self) -> Timestamp {
        let elapsed_ms = (self.clock.now().0 / 1000) as i64;
        Timestamp(self.clock.wall().0.max(self.wall.0) + elapsed_ms)
    }
}
