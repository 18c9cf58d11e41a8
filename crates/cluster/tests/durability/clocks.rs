//! Goal: whatever the machine's wall clock does, the metadata is opened, changed and right (A9); and
//! what keeps it from being changed is shown.

use crate::stores::Odd;
use crate::{create, register};
use cluster::{CommitRuns, Controller, ControllerHealth, Run, StoreOptions, SubmitError};
use environment::{Clock, Entropy, Environment, SeededEntropy};
use futures::StreamExt;
use futures::future::BoxFuture;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::path::Path;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use vocabulary::{
    BrokerEpoch, BrokerId, LeaderEpoch, Offset, Partition, SegmentName, Tick, Timestamp,
};

const HOUR: Duration = Duration::from_secs(3600);
const HOUR_MS: i64 = 3_600_000;
const YEAR_MS: i64 = 365 * 24 * HOUR_MS;

/// A wall clock that is set by hand, over another clock.
#[derive(Debug)]
struct Stepped {
    inner: Arc<dyn Clock>,
    ahead_ms: AtomicI64,
}

impl Clock for Stepped {
    fn now(&self) -> Tick {
        self.inner.now()
    }

    fn wall(&self) -> Timestamp {
        Timestamp(self.inner.wall().0.saturating_add(self.ahead_ms.load(Ordering::SeqCst)))
    }

    fn sleep_until(&self, at: Tick) -> BoxFuture<'static, ()> {
        self.inner.sleep_until(at)
    }
}

/// One bucket, one machine with a bad clock, one controller after another.
struct Machine {
    bucket: Arc<dyn ObjectStore>,
    clock: Arc<Stepped>,
    environment: Environment,
    options: StoreOptions,
    created: usize,
}

impl Machine {
    fn new(seed: u64) -> Machine {
        let simulated = Environment::simulated(seed);
        let inner = Arc::clone(&simulated.clock);
        let clock = Arc::new(Stepped { inner, ahead_ms: AtomicI64::new(0) });
        let environment =
            Environment { clock: Arc::<Stepped>::clone(&clock) as Arc<dyn Clock>, ..simulated };
        // Small enough that sorted files and compactions, which carry times too, come and go.
        let manifest_poll_interval = Duration::from_secs(1);
        let options = StoreOptions { memtable_bytes: 4096, manifest_poll_interval };
        let bucket = Arc::new(InMemory::new());
        Machine { bucket, clock, environment, options, created: 0 }
    }

    fn step(&self, by_ms: i64) {
        self.clock.ahead_ms.fetch_add(by_ms, Ordering::SeqCst);
    }

    /// Finds everything that any life was answered.
    async fn open(&self) -> Controller {
        let bucket = Arc::clone(&self.bucket);
        let name = "cluster".to_owned();
        let opened = Controller::open(bucket, "meta", name, &self.options, &self.environment).await;
        let controller = opened.expect("a clock does not refuse a start");
        let mut found: Vec<_> =
            controller.view().topics().iter().map(|it| it.name.to_string()).collect();
        found.sort();
        let mut created: Vec<_> = (0..self.created).map(|it| format!("t{it}")).collect();
        created.sort();
        assert_eq!(found, created);
        controller
    }

    async fn create(&mut self, controller: &Controller, count: usize) {
        for _ in 0..count {
            self.answered(create(controller, &format!("t{}", self.created))).await;
            self.created += 1;
        }
    }

    async fn register(&self, controller: &Controller) {
        self.answered(register(controller)).await;
    }

    async fn answered(&self, asked: impl Future<Output = Result<(), SubmitError>>) {
        tokio::select! {
            biased;
            answer = asked => answer.expect("answered"),
            () = self.clock.sleep(HOUR) => panic!("A9: not answered within an hour"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_set_back_while_running_stops_nothing() {
    let mut machine = Machine::new(1);
    let controller = machine.open().await;
    machine.register(&controller).await;
    for step in [-HOUR_MS, -HOUR_MS, -YEAR_MS, 10 * YEAR_MS, -20 * YEAR_MS, -1000 * YEAR_MS] {
        machine.create(&controller, 40).await;
        machine.step(step);
        let before = machine.clock.now();
        machine.create(&controller, 1).await;
        let waited_us = machine.clock.now().0 - before.0;
        assert_eq!(waited_us, 0, "a commit waits for no clock, step {step}");
        machine.clock.sleep(Duration::from_secs(30)).await;
    }
    machine.create(&controller, 40).await;
    assert_eq!(controller.health(), ControllerHealth::Healthy);
    drop(controller);
    machine.open().await;
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_set_back_between_two_lives_refuses_no_start() {
    for (seed, closes) in [(1, true), (2, false)] {
        let mut machine = Machine::new(seed);
        for step in [-HOUR_MS, YEAR_MS, -YEAR_MS, -10, -50 * YEAR_MS, 3 * HOUR_MS, -3 * HOUR_MS] {
            let controller = machine.open().await;
            machine.register(&controller).await;
            machine.create(&controller, 60).await;
            machine.clock.sleep(Duration::from_secs(5)).await;
            machine.create(&controller, 1).await;
            if closes {
                controller.close().await;
            }
            machine.step(step);
        }
        machine.open().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_year_ahead_and_back_is_survived_by_another_controller_too() {
    let mut machine = Machine::new(3);
    let first = machine.open().await;
    machine.register(&first).await;
    machine.create(&first, 30).await;
    machine.step(YEAR_MS);
    // Another process, which believes the clock and writes with it.
    let second = machine.open().await;
    machine.register(&second).await;
    machine.create(&second, 30).await;
    machine.step(-YEAR_MS);
    let third = machine.open().await;
    machine.register(&third).await;
    machine.create(&third, 30).await;
    assert_eq!(create(&second, "late").await, Err(SubmitError::Fenced));
    machine.open().await;
}

/// Steps, rests, closes and kills in any order, over sorted files and compactions.
#[tokio::test(start_paused = true)]
async fn any_walk_of_the_wall_clock_is_survived() {
    for seed in 0..12 {
        let mut machine = Machine::new(seed);
        let chance = SeededEntropy::new(seed);
        for _ in 0..8 {
            let controller = machine.open().await;
            machine.register(&controller).await;
            for _ in 0..10 {
                machine.create(&controller, chance.below(12) as usize).await;
                let far = [10, 1000, 60_000, HOUR_MS, YEAR_MS][chance.below(5) as usize];
                machine.step(chance.below(2 * far as u64 + 1) as i64 - far);
                machine.clock.sleep(Duration::from_millis(chance.below(3000))).await;
            }
            if chance.below(2) == 0 {
                controller.close().await;
            }
        }
        machine.open().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_controller_notices_that_it_is_fenced() {
    let machine = Machine::new(5);
    let first = machine.open().await;
    machine.register(&first).await;
    assert_eq!(first.health(), ControllerHealth::Healthy);
    let fenced = first.fenced();
    assert!(!fenced.is_stopped());
    let second = machine.open().await;
    tokio::select! {
        biased;
        () = fenced.stopped() => (),
        () = machine.clock.sleep(HOUR) => panic!("fenced, and not told within an hour"),
    }
    assert!(matches!(first.health(), ControllerHealth::Fenced { .. }));
    let problem = first.health().problem().expect("a problem");
    assert!(problem.starts_with("fenced: another process has opened the metadata"), "{problem}");
    assert_eq!(create(&first, "late").await, Err(SubmitError::Fenced));
    assert!(first.fenced().is_stopped(), "who asks later is told too");
    assert_eq!(second.health(), ControllerHealth::Healthy);
    machine.clock.sleep(HOUR).await;
    assert!(!second.fenced().is_stopped());
    assert_eq!(second.health(), ControllerHealth::Healthy);
}

#[tokio::test(start_paused = true)]
async fn a_busy_controller_notices_that_it_is_fenced() {
    let machine = Machine::new(6);
    let first = machine.open().await;
    machine.register(&first).await;
    let _second = machine.open().await;
    assert_eq!(create(&first, "late").await, Err(SubmitError::Fenced));
    assert!(first.fenced().is_stopped());
    assert!(matches!(first.health(), ControllerHealth::Fenced { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer_is_shown() {
    let odd = Odd::freezing(Arc::new(InMemory::new()), 200, false);
    let environment = Environment::simulated(7);
    let below: Arc<dyn ObjectStore> = Arc::<Odd>::clone(&odd);
    let controller = crate::open(below, &environment).await.expect("opened");
    register(&controller).await.expect("answered");
    let asked = async {
        for number in 0.. {
            create(&controller, &format!("t{number}")).await.expect("never refused");
        }
    };
    let looked = async {
        odd.frozen().await;
        let frozen = environment.clock.now();
        assert_eq!(controller.health().problem(), None, "a moment is no trouble");
        environment.clock.sleep(Duration::from_secs(60)).await;
        let ControllerHealth::Failing { since, .. } = controller.health() else {
            panic!("nothing is answered, and yet: {:?}", controller.health())
        };
        assert!(since <= frozen, "since the commit was begun");
        assert!(!controller.fenced().is_stopped());
    };
    tokio::select! {
        () = asked => (),
        () = looked => (),
    }
}

/// Garbage is collected once it is older than a grace, which readers rely on.
#[tokio::test(start_paused = true)]
async fn a_step_of_the_wall_clock_makes_no_garbage_older() {
    for step in [-YEAR_MS, YEAR_MS] {
        let machine = Machine::new(5);
        let controller = machine.open().await;
        machine.register(&controller).await;
        let topic = controller.create_topic("t", 1, BTreeMap::new()).await;
        let topic = topic.expect("answered").expect("created");
        let segment = SegmentName::data(1);
        let run = Run {
            partition: Partition { topic: topic.id, index: 0 },
            leader_epoch: LeaderEpoch(0),
            base: Offset(0),
            end: Offset(5),
            max_timestamp: Timestamp(1),
            segment,
            position: 0,
            length: 10,
            crc: 0,
        };
        let command = CommitRuns {
            broker: BrokerId(1),
            broker_epoch: BrokerEpoch(1),
            segment,
            segment_bytes: 100,
            created: machine.clock.wall(),
            runs: vec![run],
        };
        assert_eq!(controller.commit_runs(command).await.expect("answered").expect("fits"), []);
        // Set wrong before the run is dropped, and right again behind it; the other way round, too.
        machine.step(step);
        controller.delete_topic(topic.id).await.expect("answered").expect("it exists");
        let since = loop {
            let known = controller.view().segment(segment).expect("nobody collects it");
            match known.garbage_since {
                Some(since) => break since,
                None => machine.clock.sleep(Duration::from_millis(1)).await,
            }
        };
        for back in [-step, step, -step] {
            machine.step(back);
            let age_ms = controller.time().0 - since.0;
            assert!((0..1000).contains(&age_ms), "{age_ms} ms old, {back} ms after {step} ms");
        }
        machine.clock.sleep(HOUR).await;
        let age_ms = controller.time().0 - since.0;
        assert!(HOUR_MS / 2 <= age_ms, "A7: it grows old all the same, {age_ms} ms");
    }
}

/// SlateDB collects files of its log after five minutes, by age. A writer that is stalled for longer must
/// not win a name again that was its successor's, or its own.
#[tokio::test(start_paused = true)]
async fn a_write_under_way_while_its_log_is_collected_never_counts() {
    for stores_first in [false, true] {
        let mut machine = Machine::new(6);
        // Objects carry the machine's time, which has to be long ago by ours.
        machine.step(20 * YEAR_MS);
        let odd = Odd::holding(Arc::clone(&machine.bucket), stores_first);
        let below: Arc<dyn ObjectStore> = Arc::<Odd>::clone(&odd);
        let name = "cluster".to_owned();
        let opened = Controller::open(below, "meta", name, &machine.options, &machine.environment);
        let stalled = opened.await.expect("opened");
        machine.register(&stalled).await;
        machine.create(&stalled, 3).await;
        odd.hold();
        let name = format!("t{}", machine.created);
        let successor = async {
            odd.frozen().await;
            machine.created += usize::from(stores_first);
            let successor = machine.open().await;
            machine.register(&successor).await;
            let first = log_files(&machine.bucket).await.iter().min().copied();
            for _ in 0..10 {
                // Names that the stalled one does not know.
                for number in 0..60 {
                    let changes = [("a".to_owned(), Some(number.to_string()))].into();
                    successor.alter_broker_configs(None, changes).await.expect("answered");
                }
                machine.clock.sleep(HOUR / 6).await;
            }
            let left = log_files(&machine.bucket).await;
            assert!(first < left.iter().min().copied(), "nothing was collected of {left:?}");
            odd.let_go();
            successor
        };
        let (told, successor) = futures::join!(create(&stalled, &name), successor);
        // Stored at once it was replayed, and counts, whatever is told.
        assert!(stores_first || told == Err(SubmitError::Fenced), "{told:?}");
        let later = create(&stalled, "later").await;
        assert_eq!(later, Err(SubmitError::Fenced), "stored first: {stores_first}");
        drop(successor);
        machine.open().await;
    }
}

/// The numbers of the files of the log that hold something.
async fn log_files(bucket: &Arc<dyn ObjectStore>) -> Vec<u64> {
    let listed = bucket.list(Some(&Path::from("meta/wal")));
    let listed: Vec<_> = listed.map(|it| it.expect("memory answers")).collect().await;
    let held = listed.iter().filter(|it| 0 < it.size).filter_map(|it| it.location.filename());
    held.filter_map(|it| it.strip_suffix(".sst")?.parse().ok()).collect()
}
