//! A timer that many waits share, one after another.
//!
//! Hardly a wait on the way of a request reaches its deadline. A timer of its own would cost each of them an
//! allocation, and the lock of all timers twice. This one stays armed for a moment that is not too late, and is armed
//! again when it went off too early.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use environment::Clock;
use futures::future::BoxFuture;
use vocabulary::Tick;

/// One at a time waits for it.
pub(crate) struct Alarm {
    clock: Arc<dyn Clock>,
    /// When it goes off.
    armed: Option<(Tick, BoxFuture<'static, ()>)>,
}

impl Alarm {
    /// Not armed: what never waits costs nothing.
    pub(crate) fn new(clock: &Arc<dyn Clock>) -> Alarm {
        Alarm { clock: Arc::clone(clock), armed: None }
    }

    /// Resolves at `at` or soon after; at once when that has passed. Safe to drop and call again, for any moment.
    pub(crate) async fn at(&mut self, at: Tick) {
        loop {
            let armed = self.armed.take_if(|(armed, _)| *armed <= at);
            let (armed, sleep) =
                self.armed.insert(armed.unwrap_or_else(|| (at, self.clock.sleep_until(at))));
            let is_time = at <= *armed;
            sleep.await;
            self.armed = None;
            if is_time {
                return;
            }
        }
    }

    /// Resolves when so much time has passed since it was first polled.
    pub(crate) async fn after(&mut self, wait: Duration) {
        let at = self.clock.now().plus(wait);
        self.at(at).await;
    }
}

impl fmt::Debug for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Alarm").field("armed", &self.armed.as_ref().map(|it| it.0)).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use environment::Environment;
    use vocabulary::Timestamp;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Counts the timers it makes.
    #[derive(Debug)]
    struct Counting {
        clock: Arc<dyn Clock>,
        timers: AtomicUsize,
    }

    impl Clock for Counting {
        fn now(&self) -> Tick {
            self.clock.now()
        }

        fn wall(&self) -> Timestamp {
            self.clock.wall()
        }

        fn sleep_until(&self, at: Tick) -> BoxFuture<'static, ()> {
            self.timers.fetch_add(1, Ordering::Relaxed);
            self.clock.sleep_until(at)
        }
    }

    fn counting() -> (Arc<Counting>, Alarm) {
        let clock = Environment::simulated(1).clock;
        let counting = Arc::new(Counting { clock, timers: AtomicUsize::new(0) });
        let clock: Arc<dyn Clock> = Arc::clone(&counting) as _;
        (counting, Alarm::new(&clock))
    }

    #[tokio::test(start_paused = true)]
    async fn waits_that_end_before_their_time_share_a_timer() {
        let (clock, mut alarm) = counting();
        for _ in 0..50 {
            tokio::select! {
                biased;
                () = clock.clock.sleep(SECOND) => (),
                () = alarm.after(60 * SECOND) => panic!("too early"),
            }
        }
        assert_eq!(clock.timers.load(Ordering::Relaxed), 1);
        let begun = clock.now();
        alarm.after(60 * SECOND).await;
        assert_eq!(clock.now(), begun.plus(60 * SECOND), "and the last one waits all its time");
        assert_eq!(clock.timers.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_shorter_wait_is_not_held_up_by_a_longer_one() {
        let (clock, mut alarm) = counting();
        assert!(futures::poll!(Box::pin(alarm.after(600 * SECOND))).is_pending());
        let begun = clock.now();
        alarm.after(SECOND).await;
        assert_eq!(clock.now(), begun.plus(SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_passed_is_told_as_often_as_it_is_asked() {
        let (clock, mut alarm) = counting();
        let at = clock.now().plus(SECOND);
        for _ in 0..3 {
            alarm.at(at).await;
            assert_eq!(clock.now(), at);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_may_go_off_while_nobody_waits() {
        let (clock, mut alarm) = counting();
        assert!(futures::poll!(Box::pin(alarm.after(SECOND))).is_pending());
        clock.clock.sleep(10 * SECOND).await;
        let begun = clock.now();
        alarm.after(5 * SECOND).await;
        assert_eq!(clock.now(), begun.plus(5 * SECOND));
    }
}
