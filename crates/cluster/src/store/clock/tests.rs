//! Goal: the database's time never goes back, stays near the wall clock, and what SlateDB says when it
//! refuses a time is understood.

use super::*;
use crate::store::sealed::sealed;
use crate::store::{Store, StoreOptions};
use environment::{Environment, SimulatedClock};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use slatedb::Db;
use slatedb::admin::Admin;
use slatedb::compactor::{CompactionSpec, SourceId};
use std::sync::atomic::{AtomicI64, Ordering};

const START: i64 = 1_767_225_600_000;
const HOUR_MS: i64 = 3_600_000;
const YEAR_MS: i64 = 365 * 24 * HOUR_MS;

/// A wall clock that is set by hand, over tokio's paused time.
#[derive(Debug)]
struct Stepped {
    inner: SimulatedClock,
    ahead_ms: AtomicI64,
}

impl Stepped {
    fn new() -> Arc<Stepped> {
        let inner = SimulatedClock::starting_at(Timestamp(START));
        Arc::new(Stepped { inner, ahead_ms: AtomicI64::new(0) })
    }

    fn step(&self, by_ms: i64) {
        self.ahead_ms.fetch_add(by_ms, Ordering::SeqCst);
    }
}

impl Clock for Stepped {
    fn now(&self) -> Tick {
        self.inner.now()
    }

    fn wall(&self) -> Timestamp {
        Timestamp(self.inner.wall().0.saturating_add(self.ahead_ms.load(Ordering::SeqCst)))
    }

    fn sleep_until(&self, at: Tick) -> futures::future::BoxFuture<'static, ()> {
        self.inner.sleep_until(at)
    }
}

fn database(clock: &Arc<Stepped>) -> DatabaseClock {
    DatabaseClock::new(Arc::<Stepped>::clone(clock))
}

#[tokio::test(start_paused = true)]
async fn it_is_the_wall_clock_while_that_only_runs() {
    let clock = Stepped::new();
    let time = database(&clock);
    for _ in 0..100 {
        clock.sleep(Duration::from_micros(1_234_567)).await;
        assert_eq!(time.time(), clock.wall());
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_in_either_direction_is_caught_up_slowly() {
    for step in [HOUR_MS, -HOUR_MS, YEAR_MS, -YEAR_MS, i64::MAX - START, -START - HOUR_MS] {
        let clock = Stepped::new();
        let time = database(&clock);
        clock.step(step);
        let mut last = time.time();
        assert_eq!(last, Timestamp(START), "a step of {step} ms is not followed at once");
        for _ in 0..180 {
            clock.sleep(Duration::from_secs(60)).await;
            let now = time.time();
            let passed = now.0 - last.0;
            assert!((30_000..=120_000).contains(&passed), "{passed} ms in a minute, step {step}");
            last = now;
        }
        // Three hours catch up one hour ahead, and one and a half hours behind.
        assert_eq!(last == clock.wall(), step.abs() == HOUR_MS, "step {step}");
        // And back again.
        clock.step(-step);
        clock.sleep(Duration::from_secs(24 * 3600)).await;
        assert!(last <= time.time(), "step {step}");
        assert_eq!(time.time(), clock.wall(), "step {step}");
    }
}

#[tokio::test(start_paused = true)]
async fn it_goes_on_from_what_is_stored() {
    let clock = Stepped::new();
    let time = database(&clock);
    time.raise(Timestamp(START - 5));
    assert_eq!(time.time(), Timestamp(START));
    time.raise(Timestamp(START + YEAR_MS));
    assert_eq!(time.time(), Timestamp(START + YEAR_MS));
    clock.sleep(Duration::from_secs(10)).await;
    assert_eq!(time.time(), Timestamp(START + YEAR_MS + 5000));
}

#[tokio::test(start_paused = true)]
async fn times_that_file_names_cannot_hold_are_not_given() {
    for (step, first) in [(i64::MIN / 2, 0), (i64::MAX / 2, TIME_MS_MAX)] {
        let clock = Stepped::new();
        clock.step(step);
        let time = database(&clock);
        assert_eq!(time.now().timestamp_millis(), first);
        time.raise(Timestamp(i64::MAX));
        clock.sleep(Duration::from_secs(1000)).await;
        assert_eq!(time.now().timestamp_millis(), TIME_MS_MAX);
    }
}

/// Whatever a later SlateDB says instead, this finds it.
#[tokio::test(start_paused = true)]
async fn a_refusal_is_understood() {
    let bucket: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let open = |time: &Arc<DatabaseClock>| {
        let time = Arc::<DatabaseClock>::clone(time);
        Db::builder("meta", Arc::clone(&bucket)).with_system_clock(time).build()
    };
    let clock = Stepped::new();
    let first = open(&Arc::new(database(&clock))).await.expect("opened");
    first.put(b"a", b"1").await.expect("written");
    first.close().await.expect("closed");
    let stored = clock.wall();

    clock.step(-YEAR_MS);
    let time = Arc::new(database(&clock));
    let second = open(&time).await.expect("opened");
    let refused = second.put(b"a", b"2").await.map(drop).expect_err("a year too early");
    assert!(second.status().close_reason.is_some(), "it ends itself");
    assert_eq!(time.refusals(), 0);
    assert!(time.heed(&refused), "{refused}");
    assert_eq!(time.refusals(), 1);
    let ahead_ms = time.time().0 - stored.0;
    assert!((0..HOUR_MS).contains(&ahead_ms), "raised by {ahead_ms} ms too much");
    assert!(!time.heed(&slatedb::Error::unavailable("try later".into())));

    let third = open(&time).await.expect("opened");
    third.put(b"a", b"3").await.expect("written");
    assert_eq!(third.get(b"a").await.expect("read").as_deref(), Some(b"3".as_slice()));
}

/// Its last sign of life has to get old before somebody else does the work.
#[tokio::test(start_paused = true)]
async fn it_goes_on_from_a_compaction_that_is_ahead_of_everything_else() {
    let bucket: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let clock = Stepped::new();
    let environment =
        Environment { clock: Arc::<Stepped>::clone(&clock), ..Environment::simulated(1) };
    let options = StoreOptions::default();
    let open = || Store::open(Arc::clone(&bucket), "meta", &options, &environment);
    let (first, _) = open().await.expect("opened");
    first.close().await.expect("closed");

    clock.step(YEAR_MS);
    let admin = Admin::builder("meta", sealed(Arc::clone(&bucket)))
        .with_system_clock(Arc::new(database(&clock)));
    let spec = CompactionSpec::new(vec![SourceId::SortedRun(0)], 0);
    admin.build().submit_compaction(spec).await.expect("submitted");
    let ahead = clock.wall();

    clock.step(-YEAR_MS);
    let (second, _) = open().await.expect("opened");
    assert!(ahead <= second.time(), "{} is before {ahead}", second.time());
}
