//! The metadata over real, lying and dying object stores, through the room's public surface.

mod clocks;
mod kills;
mod stores;

use cluster::{
    CommitRuns, Controller, OpenError, RegisterBroker, Run, StoreOptions, SubmitError, WalKind,
};
use environment::Environment;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use stores::{Habit, Odd};
use vocabulary::{BrokerEpoch, BrokerId, LeaderEpoch, Offset, Partition, SegmentName, Timestamp};

async fn open(
    store: Arc<dyn ObjectStore>,
    environment: &Environment,
) -> Result<Controller, OpenError> {
    Controller::open(store, "meta", "cluster".into(), &StoreOptions::default(), environment).await
}

async fn register(controller: &Controller) -> Result<(), SubmitError> {
    let command = RegisterBroker {
        id: BrokerId(1),
        host: "h".into(),
        port: 9,
        rack: None,
        wal: WalKind::File,
        volume: None,
        gives_up: None,
        takes_over: Vec::new(),
    };
    controller.register_broker(command).await.map(drop)
}

async fn create(controller: &Controller, name: &str) -> Result<(), SubmitError> {
    let created = controller.create_topic(name, 1, BTreeMap::new()).await?;
    created.expect("a new name");
    Ok(())
}

fn run_of(partition: Partition, segment: SegmentName, base: i64, end: i64) -> Run {
    Run {
        partition,
        leader_epoch: LeaderEpoch(0),
        base: Offset(base),
        end: Offset(end),
        max_timestamp: Timestamp(1),
        segment,
        position: 0,
        length: 10,
        crc: 0,
    }
}

/// What the broker of [`register`] commits in its first epoch.
fn commit_of(segment: SegmentName, runs: Vec<Run>) -> CommitRuns {
    CommitRuns {
        broker: BrokerId(1),
        broker_epoch: BrokerEpoch(1),
        segment,
        segment_bytes: 100,
        created: Timestamp(1),
        runs,
    }
}

#[tokio::test(start_paused = true)]
async fn a_lying_store_delays_changes_and_loses_none() {
    for seed in 0..10 {
        let environment = Environment::simulated(seed);
        let memory: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let faults = bucket::Faults::bad_day();
        let lying = bucket::LyingStore::new(Arc::clone(&memory), seed, faults, &environment);
        let controller = open(Arc::new(lying), &environment).await.expect("opened in the end");
        register(&controller).await.expect("answered in the end");
        for number in 0..30 {
            create(&controller, &format!("t{number}")).await.expect("answered in the end");
        }
        // A kill, and a better day.
        let healed = open(memory, &Environment::simulated(1000 + seed)).await.expect("opened");
        assert_eq!(healed.view().topics().len(), 30, "seed {seed}");
        assert_eq!(create(&controller, "late").await, Err(SubmitError::Fenced), "seed {seed}");
    }
}

/// A local directory holds no object attributes, so SlateDB cannot tell its own write from another's
/// when the answer was lost, and reports that it is fenced. Nobody has taken over, so work goes on.
#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_not_taken_for_another_controller() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let habit = Habit::LosesAnswer { armed: AtomicBool::new(false) };
    let odd = Arc::new(Odd { store, habit });
    let environment = Environment::simulated(1);
    let below: Arc<dyn ObjectStore> = Arc::<Odd>::clone(&odd);
    let controller = open(below, &environment).await.expect("opened");
    register(&controller).await.expect("answered");
    for number in 0..5 {
        if let Habit::LosesAnswer { armed } = &odd.habit {
            armed.store(true, Ordering::SeqCst);
        }
        create(&controller, &format!("t{number}")).await.expect("answered");
    }
    let below: Arc<dyn ObjectStore> = Arc::<Odd>::clone(&odd);
    let second = open(below, &environment).await.expect("opened");
    assert_eq!(second.view().topics().len(), 5);
    assert_eq!(create(&controller, "late").await, Err(SubmitError::Fenced), "but this one is");
    assert_eq!(create(&controller, "late").await, Err(SubmitError::Fenced), "for ever");
    controller.close().await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_controller_writes_nothing() {
    let habit = Habit::CountsWrites(AtomicU64::new(0));
    let odd = Arc::new(Odd { store: Arc::new(InMemory::new()), habit });
    let environment = Environment::simulated(1);
    let below: Arc<dyn ObjectStore> = Arc::<Odd>::clone(&odd);
    let controller = open(below, &environment).await.expect("opened");
    register(&controller).await.expect("answered");
    create(&controller, "t").await.expect("answered");
    let writes = || match &odd.habit {
        Habit::CountsWrites(count) => count.load(Ordering::SeqCst),
        Habit::Freezes { .. } | Habit::LosesAnswer { .. } | Habit::Holds { .. } => 0,
    };
    // What is started by the first changes may come to its end.
    environment.clock.sleep(Duration::from_secs(3600)).await;
    let before = writes();
    environment.clock.sleep(Duration::from_secs(6 * 3600)).await;
    assert_eq!(writes() - before, 0, "no request that costs, while nothing changes");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_never_answers_does_not_hold_up_a_stop() {
    let odd = Odd::freezing(Arc::new(InMemory::new()), 200, false);
    let environment = Environment::simulated(1);
    let below: Arc<dyn ObjectStore> = Arc::<Odd>::clone(&odd);
    let controller = open(below, &environment).await.expect("opened");
    register(&controller).await.expect("answered");
    let asked = async {
        for number in 0.. {
            if let Err(error) = create(&controller, &format!("t{number}")).await {
                return error;
            }
        }
        SubmitError::Stopping
    };
    let stopped = async {
        odd.frozen().await;
        controller.close().await;
    };
    let (error, ()) = futures::join!(asked, stopped);
    assert_eq!(error, SubmitError::Stopping);
}

#[tokio::test]
async fn a_local_directory_is_opened_again_after_a_kill_and_after_a_close() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let environment = Environment::system();
    for life in 0..4 {
        let bucket = bucket::StoreBucket::local(scratch.path(), &environment).expect("a directory");
        let controller = open(bucket.object_store(), &environment).await.expect("opened");
        assert_eq!(controller.view().topics().len(), life * 2);
        register(&controller).await.expect("answered");
        create(&controller, &format!("a{life}")).await.expect("answered");
        create(&controller, &format!("b{life}")).await.expect("answered");
        if life % 2 == 0 {
            controller.close().await;
        }
    }
}

/// A caller that goes away, such as a client's timed-out request, leaves its command behind. Who asks
/// again meanwhile must not drop the same runs a second time (A6).
#[tokio::test(start_paused = true)]
async fn a_caller_that_went_away_does_not_drop_runs_twice() {
    let environment = Environment::simulated(1);
    let controller = open(Arc::new(InMemory::new()), &environment).await.expect("opened");
    register(&controller).await.expect("answered");
    let topic = controller.create_topic("t", 2, BTreeMap::new()).await;
    let topic = topic.expect("answered").expect("created");
    let segment = SegmentName::data(1);
    let run = |index, base, end| run_of(Partition { topic: topic.id, index }, segment, base, end);
    let command = commit_of(segment, vec![run(0, 0, 5), run(1, 0, 5), run(1, 5, 8)]);
    assert_eq!(controller.commit_runs(command).await.expect("answered").expect("fits"), []);
    let partition = Partition { topic: topic.id, index: 0 };
    let snapshot = bytes::Bytes::from_static(b"as of 5");
    let kept = cluster::KeptProducers { partition, as_of: Offset(5), snapshot };
    for patience in 0..20 {
        let advance = controller.advance_log_start(partition, Offset(5), Some(kept.clone()));
        let soon = async {
            for _ in 0..patience {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            _ = advance => (),
            () = soon => (),
        }
    }
    let advanced = controller.advance_log_start(partition, Offset(5), Some(kept.clone())).await;
    advanced.expect("answered").expect("it exists");
    let stored = controller.view().segment(segment).expect("known");
    assert_eq!((stored.live_runs, stored.garbage_since), (2, None));
    assert_eq!(controller.kept_producers(partition).await, Ok(Some(kept)), "A5");
}

/// Whoever asked for a deletion may be gone when it becomes durable. The runs are dropped all the same (A7).
#[tokio::test(start_paused = true)]
async fn a_topic_whose_deleter_went_away_leaves_nothing_behind() {
    let environment = Environment::simulated(1);
    let odd = Odd::holding(Arc::new(InMemory::new()), false);
    let below: Arc<dyn ObjectStore> = Arc::<Odd>::clone(&odd);
    let controller = open(below, &environment).await.expect("opened");
    register(&controller).await.expect("answered");
    let topic = controller.create_topic("t", 1, BTreeMap::new()).await;
    let topic = topic.expect("answered").expect("created");
    let segment = SegmentName::data(1);
    let partition = Partition { topic: topic.id, index: 0 };
    let command = commit_of(segment, vec![run_of(partition, segment, 0, 5)]);
    assert_eq!(controller.commit_runs(command).await.expect("answered").expect("fits"), []);

    odd.hold();
    tokio::select! {
        biased;
        deleted = controller.delete_topic(topic.id) => panic!("{deleted:?}"),
        () = odd.frozen() => (),
    }
    odd.let_go();
    let garbage = || controller.view().segment(segment).is_some_and(|it| it.live_runs == 0);
    for _ in 0..60 {
        environment.clock.sleep(Duration::from_secs(1)).await;
    }
    assert!(controller.view().topic("t").is_none(), "deleted");
    assert!(garbage(), "its runs are dropped");
}
