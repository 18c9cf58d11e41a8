//! Goal: whatever request a process is killed at, the next one finds everything that was answered,
//! nothing half done, and A3 and A6 hold in the store itself.
//!
//! Method: lives on one store in memory. In each, three workers create, commit, advance and delete
//! as fast as they are answered, until the store stops answering; then the whole runtime is dropped,
//! with every task in it. Each next life first checks what the workers were promised.

use crate::open;
use crate::stores::Odd;
use bytes::Bytes;
use cluster::{
    AdoptRuns, CommitRuns, Controller, KeptProducers, Progress, RegisterBroker, Registration,
    ReplaceRuns, Run, RunsOfSegment, WalKind,
};
use environment::{Entropy, Environment, SeededEntropy};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};
use vocabulary::{BrokerEpoch, BrokerId, LeaderEpoch, Offset, Partition, SegmentName, Timestamp};

const WORKERS: usize = 3;
const PARTITIONS: u32 = 2;
const BROKER: BrokerId = BrokerId(1);
const CREATED: Timestamp = Timestamp(1);

/// What one worker knows of one partition of its topic.
#[derive(Debug, Clone, Default)]
struct Expected {
    /// Answered, and possibly done since.
    end: Offset,
    end_tried: Offset,
    log_start: Offset,
    log_start_tried: Offset,
}

#[derive(Debug, Default)]
struct Promises {
    /// By worker: what was answered about its topic, if it was created and not deleted.
    topics: BTreeMap<usize, Vec<Expected>>,
    /// A creation or deletion of the worker's topic was not answered.
    unknown: BTreeSet<usize>,
    segments: BTreeSet<SegmentName>,
    producer_ids: Vec<Range<i64>>,
    epoch: BrokerEpoch,
    answers: u64,
}

type Shared = Arc<Mutex<Promises>>;

fn lock(told: &Shared) -> MutexGuard<'_, Promises> {
    told.lock().expect("a worker that panics ends the test")
}

fn name(worker: usize) -> String {
    format!("worker.{worker}")
}

/// Works for ever; the kill ends it.
async fn work(controller: Controller, worker: usize, seed: u64, epoch: BrokerEpoch, told: Shared) {
    let random = SeededEntropy::new(seed * 31 + worker as u64);
    loop {
        match random.below(24) {
            20..22 => adopt(&controller, worker, &random, epoch, &told).await,
            22..24 => replace(&controller, worker, &random, epoch, &told).await,
            0 => toggle_topic(&controller, worker, &told).await,
            1 => {
                let ids = controller.allocate_producer_ids(10).await.expect("answered");
                lock(&told).producer_ids.push(ids);
            }
            2 => {
                let dead = controller.view().garbage(3);
                let dead: Vec<SegmentName> = dead.into_iter().map(|it| it.0).collect();
                controller.forget_segments(dead).await.expect("answered");
            }
            3..6 => advance(&controller, worker, &random, &told).await,
            _ => commit(&controller, worker, &random, epoch, &told).await,
        }
        lock(&told).answers += 1;
    }
}

async fn toggle_topic(controller: &Controller, worker: usize, told: &Shared) {
    let existing = controller.view().topic(&name(worker));
    lock(told).unknown.insert(worker);
    match existing {
        Some(topic) => {
            controller.delete_topic(topic.id).await.expect("answered").expect("it exists");
            lock(told).topics.remove(&worker);
        }
        None => {
            let created = controller.create_topic(&name(worker), PARTITIONS, BTreeMap::new()).await;
            created.expect("answered").expect("it does not exist");
            let fresh = vec![Expected::default(); PARTITIONS as usize];
            lock(told).topics.insert(worker, fresh);
        }
    }
    lock(told).unknown.remove(&worker);
}

async fn commit(
    controller: &Controller,
    worker: usize,
    random: &SeededEntropy,
    broker_epoch: BrokerEpoch,
    told: &Shared,
) {
    let Some(topic) = controller.view().topic(&name(worker)) else { return };
    let segment = SegmentName::data(random.next_u128());
    let mut runs = Vec::new();
    for index in 0..1 + random.below(u64::from(PARTITIONS)) as i32 {
        let partition = Partition { topic: topic.id, index };
        let base = controller.view().progress(partition).expect("it exists").committed_end;
        let end = base.plus(1 + random.below(9) as i64);
        runs.push(Run { base, end, segment, ..run_of(partition) });
        lock(told).topics.get_mut(&worker).expect("known")[index as usize].end_tried = end;
    }
    lock(told).segments.insert(segment);
    let command = CommitRuns {
        broker: BROKER,
        broker_epoch,
        segment,
        segment_bytes: 100,
        created: CREATED,
        runs: runs.clone(),
    };
    let refused = controller.commit_runs(command).await.expect("answered").expect("not stale");
    assert_eq!(refused, [], "A3");
    for run in runs {
        let mut told = lock(told);
        told.topics.get_mut(&worker).expect("known")[run.partition.index as usize].end = run.end;
    }
}

fn producers(partition: Partition, as_of: Offset) -> KeptProducers {
    KeptProducers { partition, as_of, snapshot: Bytes::from(format!("as of {as_of}")) }
}

/// Two runs of each partition, each in a segment of its own, in one step.
async fn adopt(
    controller: &Controller,
    worker: usize,
    random: &SeededEntropy,
    epoch: BrokerEpoch,
    told: &Shared,
) {
    let Some(topic) = controller.view().topic(&name(worker)) else { return };
    let (mut segments, mut kept) = (Vec::new(), Vec::new());
    for index in 0..PARTITIONS as i32 {
        let partition = Partition { topic: topic.id, index };
        let mut end = controller.view().progress(partition).expect("it exists").committed_end;
        for _ in 0..2 {
            let segment = SegmentName::Wal { broker: BROKER, epoch, sequence: random.next_u64() };
            let base = end;
            end = base.plus(1 + random.below(9) as i64);
            let run = Run { segment, base, end, ..run_of(partition) };
            let runs = vec![run];
            segments.push(RunsOfSegment { segment, segment_bytes: 100, created: CREATED, runs });
            lock(told).segments.insert(segment);
        }
        kept.push(producers(partition, end));
        lock(told).topics.get_mut(&worker).expect("known")[index as usize].end_tried = end;
    }
    let by = Registration { broker: BROKER, epoch };
    let command = AdoptRuns { by, segments, producers: kept.clone() };
    let refused = controller.adopt_runs(command).await.expect("answered").expect("not stale");
    assert_eq!(refused, [], "A3");
    for it in kept {
        let mut told = lock(told);
        let index = it.partition.index as usize;
        told.topics.get_mut(&worker).expect("known")[index].end = it.as_of;
    }
}

/// Some runs that follow each other become one. Nobody is promised anything else.
async fn replace(
    controller: &Controller,
    worker: usize,
    random: &SeededEntropy,
    epoch: BrokerEpoch,
    told: &Shared,
) {
    let Some(topic) = controller.view().topic(&name(worker)) else { return };
    let index = random.below(u64::from(PARTITIONS)) as i32;
    let partition = Partition { topic: topic.id, index };
    let count = 2 + random.below(5) as usize;
    let runs = controller.runs_from(partition, Offset::ZERO, count).await.expect("readable");
    let skipped = random.below(2) as usize;
    let Some(replaced) = runs.get(skipped..).filter(|it| 1 < it.len()) else { return };
    let segment = SegmentName::data(random.next_u128());
    let end = replaced[replaced.len() - 1].end;
    let merged = Run { segment, base: replaced[0].base, end, ..run_of(partition) };
    lock(told).segments.insert(segment);
    let runs = vec![merged];
    let merged = RunsOfSegment { segment, segment_bytes: 100, created: CREATED, runs };
    let by = Registration { broker: BROKER, epoch };
    let command = ReplaceRuns { by, merged, replaced: replaced.to_vec() };
    let refused = controller.replace_runs(command).await.expect("answered").expect("not stale");
    assert_eq!(refused, [], "A3: nobody else changes this topic");
}

/// Any run: 10 bytes of leader epoch 0.
fn run_of(partition: Partition) -> Run {
    Run {
        partition,
        leader_epoch: LeaderEpoch(0),
        base: Offset::ZERO,
        end: Offset::ZERO,
        max_timestamp: CREATED,
        segment: SegmentName::data(0),
        position: 0,
        length: 10,
        crc: 0,
    }
}

async fn advance(controller: &Controller, worker: usize, random: &SeededEntropy, told: &Shared) {
    let Some(topic) = controller.view().topic(&name(worker)) else { return };
    let index = random.below(u64::from(PARTITIONS)) as usize;
    let partition = Partition { topic: topic.id, index: index as i32 };
    let progress = controller.view().progress(partition).expect("it exists");
    // Sometimes into the tail, above what is committed.
    let to = Offset(random.below(progress.committed_end.0 as u64 + 5) as i64);
    let set = |tried: bool| {
        let mut told = lock(told);
        let expected = &mut told.topics.get_mut(&worker).expect("known")[index];
        let place = if tried { &mut expected.log_start_tried } else { &mut expected.log_start };
        *place = to.max(*place);
    };
    set(true);
    let kept = (random.below(2) == 0).then(|| producers(partition, progress.committed_end));
    let advanced = controller.advance_log_start(partition, to, kept).await;
    advanced.expect("answered").expect("it exists");
    set(false);
}

type Found = Vec<Option<Vec<(Progress, Vec<Run>, Option<KeptProducers>)>>>;

/// What is there of each worker's topic: each partition's progress and runs.
async fn look(controller: &Controller) -> Found {
    let view = controller.view();
    let mut found = Vec::new();
    for worker in 0..WORKERS {
        let Some(topic) = view.topic(&name(worker)) else {
            found.push(None);
            continue;
        };
        let mut partitions = Vec::new();
        for index in 0..PARTITIONS as i32 {
            let partition = Partition { topic: topic.id, index };
            let progress = view.progress(partition).expect("it exists");
            let runs = controller.runs_from(partition, Offset::ZERO, usize::MAX).await;
            let kept = controller.kept_producers(partition).await.expect("readable");
            check_producers(partition, &progress, kept.as_ref());
            partitions.push((progress, runs.expect("readable"), kept));
        }
        found.push(Some(partitions));
    }
    found
}

/// Holds what was promised against what is there, and takes over what turned out to be done.
async fn check(controller: &Controller, told: &Shared) {
    let found = look(controller).await;
    let mut told = lock(told);
    let mut live: BTreeMap<SegmentName, u32> = BTreeMap::new();
    for (worker, found) in found.into_iter().enumerate() {
        if told.unknown.remove(&worker) {
            let fresh = vec![Expected::default(); PARTITIONS as usize];
            match &found {
                Some(_) => drop(told.topics.entry(worker).or_insert(fresh)),
                None => drop(told.topics.remove(&worker)),
            }
        }
        assert_eq!(found.is_some(), told.topics.contains_key(&worker), "{}", name(worker));
        for (index, (progress, runs, kept)) in found.unwrap_or_default().into_iter().enumerate() {
            let expected = &mut told.topics.get_mut(&worker).expect("known")[index];
            check_partition(&progress, &runs, expected);
            let needs_kept = match runs.last() {
                Some(last) => matches!(last.segment, SegmentName::Wal { .. }),
                None => progress.committed_end != Offset::ZERO,
            };
            assert!(kept.is_some() || !needs_kept, "A5: {progress:?}");
            runs.iter().for_each(|run| *live.entry(run.segment).or_default() += 1);
        }
    }
    for (segment, count) in live {
        let stored = controller.view().segment(segment).expect("A6: what is referenced is known");
        // Runs of deleted topics may still count.
        assert!(count <= stored.live_runs && stored.garbage_since.is_none(), "A6");
    }
    let mut ids = told.producer_ids.clone();
    ids.sort_by_key(|it| it.start);
    assert!(ids.windows(2).all(|it| it[0].end <= it[1].start), "no id is given twice: {ids:?}");
}

fn check_producers(partition: Partition, progress: &Progress, kept: Option<&KeptProducers>) {
    assert_eq!(kept.map(|it| it.as_of), progress.kept_as_of, "A5: what is kept is told");
    let expected = progress.kept_as_of.map(|as_of| producers(partition, as_of));
    assert_eq!(kept, expected.as_ref(), "A5");
    assert!(progress.kept_as_of.is_none_or(|it| it == progress.committed_end), "A5: of now");
}

fn check_partition(progress: &Progress, runs: &[Run], expected: &mut Expected) {
    let ends = [expected.end, expected.end_tried];
    assert!(ends.contains(&progress.committed_end), "{progress:?} {expected:?}");
    let starts = expected.log_start..=expected.log_start_tried;
    assert!(starts.contains(&progress.log_start), "{progress:?} {expected:?}");
    *expected = Expected {
        end: progress.committed_end,
        end_tried: progress.committed_end,
        log_start: progress.log_start,
        log_start_tried: progress.log_start,
    };
    let mut at = progress.runs_start;
    for run in runs {
        assert_eq!(run.base, at, "A3: no gap, no overlap");
        at = run.end;
    }
    assert_eq!(at, progress.committed_end, "A3: up to the committed end");
    assert_eq!(runs.len() as u64, progress.runs);
    assert_eq!(runs.len() as u64 * 10, progress.committed_bytes);
}

async fn live(store: Arc<dyn ObjectStore>, seed: u64, told: Shared) {
    let environment = Environment::simulated(seed);
    let controller = open(store, &environment).await.expect("opened");
    check(&controller, &told).await;
    let command = RegisterBroker {
        id: BROKER,
        host: "h".into(),
        port: 9,
        rack: None,
        wal: WalKind::File,
        volume: None,
        gives_up: None,
        takes_over: Vec::new(),
    };
    let epoch = controller.register_broker(command).await.expect("answered");
    let before = std::mem::replace(&mut lock(&told).epoch, epoch);
    assert!(before < epoch, "A4: epochs only grow");
    let workers =
        (0..WORKERS).map(|worker| work(controller.clone(), worker, seed, epoch, Arc::clone(&told)));
    futures::future::join_all(workers).await;
}

/// A life that ends well: everything dropped is garbage in the end (A7).
async fn last_life(store: Arc<dyn ObjectStore>, told: Shared) {
    let environment = Environment::simulated(u64::MAX); // No other life draws the same names.
    let controller = open(store, &environment).await.expect("opened");
    check(&controller, &told).await;
    for worker in 0..WORKERS {
        if let Some(topic) = controller.view().topic(&name(worker)) {
            controller.delete_topic(topic.id).await.expect("answered").expect("it exists");
        }
    }
    let segments = lock(&told).segments.clone();
    for segment in segments {
        // Topics are dropped in the background, step by step.
        while controller.view().segment(segment).is_some_and(|it| it.garbage_since.is_none()) {
            tokio::task::yield_now().await;
        }
    }
    controller.close().await;
}

fn in_a_process(life: impl Future<Output = ()>) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.expect("a runtime").block_on(life);
}

#[test]
fn nothing_answered_is_lost_whenever_the_process_is_killed() {
    let mut answers = 0;
    for seed in 0..12 {
        let random = SeededEntropy::new(seed);
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let told = Shared::default();
        for life_number in 0..10 {
            let requests = 1 + random.below(if life_number % 2 == 0 { 120 } else { 600 });
            let odd = Odd::freezing(Arc::clone(&store), requests, random.below(2) == 0);
            let seed = seed * 100 + life_number;
            in_a_process(async {
                let below: Arc<dyn ObjectStore> = Arc::<Odd>::clone(&odd);
                tokio::select! {
                    () = live(below, seed, Arc::clone(&told)) => (),
                    () = odd.frozen() => (),
                }
            });
        }
        in_a_process(last_life(Arc::clone(&store), Arc::clone(&told)));
        answers += lock(&told).answers;
    }
    assert!(5_000 < answers, "the test itself works: {answers} answers");
}
