//! Lives and deaths by seed: a process that is killed anywhere, over a disk that tears, a bucket that
//! lies and metadata that dawdles.
//!
//! Safety, after every restart: what was acknowledged is there, byte for byte, at the offset it got;
//! offsets are dense; what a producer repeats gets its first offset; A3 and A6 hold.
//! Liveness, once all is healed: everything appended is acknowledged and flushed.

use super::world::{Life, World, batch_of, partition, read_all};
use crate::log::PartitionLog;
use crate::run_index::{
    Adoption, GarbageSegment, KeptProducers, MemoryRunIndex, Replacement, RunCommit,
    RunDescription, RunIndex, RunIndexError, RunRefusal,
};
use crate::volume::MemoryFaults;
use async_trait::async_trait;
use bucket::Faults;
use bytes::Bytes;
use environment::{Clock, Entropy, SeededEntropy};
use protocol::records::Batch;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use vocabulary::{Offset, Partition, SegmentName};

const PARTITIONS: i32 = 3;
const LIVES: usize = 5;
const SEEDS: u64 = 20;

/// Metadata whose calls take time before and after they take effect, so that a crash finds every
/// point in between; sometimes the answer gets lost.
#[derive(Debug)]
pub(super) struct Dawdling {
    pub(super) inner: Arc<MemoryRunIndex>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: SeededEntropy,
    pub(super) lost_per_mille: u64,
}

impl Dawdling {
    async fn dawdle(&self) {
        let wait = Duration::from_micros(self.entropy.below(20_000));
        self.clock.sleep(wait).await;
    }

    fn answer<T>(&self, answer: Result<T, RunIndexError>) -> Result<T, RunIndexError> {
        match self.entropy.below(1000) < self.lost_per_mille {
            true => Err(RunIndexError::Unavailable { reason: "the answer got lost".into() }),
            false => answer,
        }
    }
}

#[async_trait]
impl RunIndex for Dawdling {
    async fn commit(&self, commit: RunCommit) -> Result<Vec<RunRefusal>, RunIndexError> {
        self.dawdle().await;
        let answer = self.inner.commit(commit).await;
        self.dawdle().await;
        self.answer(answer)
    }

    async fn adopt(&self, adoption: Adoption) -> Result<Vec<RunRefusal>, RunIndexError> {
        self.dawdle().await;
        let answer = self.inner.adopt(adoption).await;
        self.dawdle().await;
        self.answer(answer)
    }

    async fn replace(&self, replacement: Replacement) -> Result<Vec<RunRefusal>, RunIndexError> {
        self.dawdle().await;
        let answer = self.inner.replace(replacement).await;
        self.dawdle().await;
        self.answer(answer)
    }

    async fn kept_producers(
        &self,
        partition: Partition,
    ) -> Result<Option<KeptProducers>, RunIndexError> {
        self.dawdle().await;
        self.answer(self.inner.kept_producers(partition).await)
    }

    async fn runs_from(
        &self,
        partition: Partition,
        offset: Offset,
        count_max: usize,
    ) -> Result<Vec<RunDescription>, RunIndexError> {
        self.dawdle().await;
        self.answer(self.inner.runs_from(partition, offset, count_max).await)
    }

    async fn last_run(
        &self,
        partition: Partition,
    ) -> Result<Option<RunDescription>, RunIndexError> {
        self.dawdle().await;
        self.answer(self.inner.last_run(partition).await)
    }

    async fn log_start(&self, partition: Partition) -> Result<Option<Offset>, RunIndexError> {
        self.dawdle().await;
        self.answer(self.inner.log_start(partition).await)
    }

    async fn advance_log_start(
        &self,
        partition: Partition,
        log_start: Offset,
        producers: Option<KeptProducers>,
    ) -> Result<(), RunIndexError> {
        self.dawdle().await;
        let answer = self.inner.advance_log_start(partition, log_start, producers).await;
        self.dawdle().await;
        self.answer(answer)
    }

    async fn garbage(&self, count_max: usize) -> Result<Vec<GarbageSegment>, RunIndexError> {
        self.dawdle().await;
        self.answer(self.inner.garbage(count_max).await)
    }

    async fn forget(&self, segments: &[SegmentName]) -> Result<(), RunIndexError> {
        self.dawdle().await;
        let answer = self.inner.forget(segments).await;
        self.answer(answer)
    }

    async fn known(&self, segments: &[SegmentName]) -> Result<Vec<bool>, RunIndexError> {
        self.dawdle().await;
        self.answer(self.inner.known(segments).await)
    }
}

/// A client that writes one producer's batches in order, several in flight, and retries what it does
/// not know the outcome of. What it was told outlives every process.
#[derive(Debug, Default)]
struct Story {
    next_sequence: i32,
    /// By first sequence: sent, not known to be acknowledged.
    in_flight: BTreeMap<i32, usize>,
    /// By offset: the batch behind its stamped fields, and its sequence.
    acknowledged: BTreeMap<i64, (Bytes, i32)>,
}

const IN_FLIGHT_MAX: usize = 5;

fn story_batch(producer: i64, sequence: i32, count: usize) -> Batch {
    let label = producer as u64 * 1_000_000 + sequence as u64;
    let length = 50 + (label % 7) as usize * 300;
    batch_of(Some((producer, 0, sequence)), label, count, length, 1_767_225_600_000)
}

/// Appends for as long as the process lives. In flight batches of an earlier life go first.
async fn tell(log: Arc<PartitionLog>, producer: i64, story: Arc<Mutex<Story>>, entropy: u64) {
    let entropy = SeededEntropy::new(entropy);
    let mut waiting = std::collections::VecDeque::new();
    let retries: Vec<_> = story.lock().unwrap().in_flight.clone().into_iter().collect();
    let mut retries = retries.into_iter();
    loop {
        while waiting.len() < IN_FLIGHT_MAX {
            let (sequence, count) = match retries.next() {
                Some(retry) => retry,
                None => {
                    let mut story = story.lock().unwrap();
                    let (sequence, count) = (story.next_sequence, 1 + entropy.below(3) as usize);
                    story.next_sequence += count as i32;
                    story.in_flight.insert(sequence, count);
                    (sequence, count)
                }
            };
            let appended = loop {
                match log.append(story_batch(producer, sequence, count), None).await {
                    Ok(appended) => break appended,
                    Err(crate::AppendError::Unavailable) => {
                        log.shared.environment.clock.sleep(Duration::from_millis(50)).await;
                    }
                    Err(crate::AppendError::Stopping) => return,
                    Err(error) => panic!("sequence {sequence}: {error}"),
                }
            };
            waiting.push_back((sequence, count, appended));
        }
        let Some((sequence, count, appended)) = waiting.pop_front() else { return };
        if appended.durable.await.is_err() {
            return; // Unknown: the next life retries.
        }
        let bytes = super::world::expected(&story_batch(producer, sequence, count));
        let mut story = story.lock().unwrap();
        story.in_flight.remove(&sequence);
        let before = story.acknowledged.insert(appended.base_offset.0, (bytes, sequence));
        assert!(before.is_none(), "two acknowledged batches at {}", appended.base_offset);
    }
}

async fn check(world: &World, log: &PartitionLog, story: &Mutex<Story>) {
    let acknowledged = story.lock().unwrap().acknowledged.clone();
    let found: BTreeMap<_, _> = read_all(world, log, Offset(0)).await.into_iter().collect();
    for (offset, (bytes, sequence)) in &acknowledged {
        assert_eq!(found.get(offset), Some(bytes), "A1: sequence {sequence} at offset {offset}");
    }
    // Nothing is there twice: each sequence was sent with one length only, and offsets are dense.
    let mut sequences: Vec<_> = found
        .values()
        .map(|bytes| i32::from_be_bytes(bytes[37..41].try_into().expect("four bytes")))
        .collect();
    let count = sequences.len();
    sequences.sort_unstable();
    sequences.dedup();
    assert_eq!(sequences.len(), count, "A5: a batch is in the log twice");
}

fn hosted(world: &World, life: &Life) -> Vec<Arc<PartitionLog>> {
    (0..PARTITIONS).map(|index| world.host(life, partition(index))).collect()
}

async fn simulate(seed: u64) {
    let mut world = World::new(seed);
    let chance = SeededEntropy::new(seed ^ 0x5eed);
    // Swarm: each seed is another configuration, too.
    world.options.tail_cache_bytes.0 = chance.below(64 * 1024);
    world.options.flush_bytes.0 = 4 * 1024 + chance.below(64 * 1024);
    world.options.flush_age = Duration::from_millis(50 + chance.below(2000));
    world.options.segment_bytes_max.0 = 2 * 1024 + chance.below(64 * 1024);
    world.options.segment_batches_max = 1 + chance.below(100) as usize;
    world.options.uploads_in_flight_max = 1 + chance.below(3) as usize;
    world.options.read_timeout = Duration::from_secs(1);
    world.options.block_cache_bytes.0 = chance.below(256 * 1024);
    world.options.collection_interval = Duration::from_secs(1);
    world.options.collection_grace = Duration::from_secs(1);
    let stories: Vec<_> = (0..PARTITIONS).map(|_| Arc::new(Mutex::new(Story::default()))).collect();
    let runs: Arc<dyn RunIndex> = Arc::new(Dawdling {
        inner: Arc::clone(&world.runs),
        clock: Arc::clone(&world.environment.clock),
        entropy: SeededEntropy::new(seed ^ 0xda),
        lost_per_mille: chance.below(100),
    });
    for _ in 0..LIVES {
        let is_bad_day = chance.below(2) == 0;
        world.bucket.set_faults(if is_bad_day { Faults::bad_day() } else { Faults::NONE });
        world.volume.set_faults(MemoryFaults {
            sync_fails_per_mille: chance.below(50),
            write_fails_per_mille: chance.below(50),
            latency_max: Duration::from_micros(1 + chance.below(5000)),
            ..MemoryFaults::default()
        });
        let life = world.start_with(Arc::clone(&runs)).await;
        let logs = hosted(&world, &life);
        assert_eq!(life.engine.recovered_unhosted(), []);
        for (log, story) in logs.iter().zip(&stories) {
            check(&world, log, story).await;
        }
        let clients = futures::future::join_all(logs.iter().enumerate().map(|(index, log)| {
            let story = Arc::clone(&stories[index]);
            tell(Arc::clone(log), index as i64, story, seed ^ chance.next_u64())
        }));
        let lifetime = Duration::from_micros(1 + chance.below(3_000_000));
        let killed = tokio::time::timeout(lifetime, clients).await;
        assert!(killed.is_err(), "seed {seed}: the clients gave up by themselves");
        world.crash(life).await;
        world.check(&(0..PARTITIONS).map(partition).collect::<Vec<_>>()).await;
    }
    heal(&world, &stories).await;
}

async fn heal(world: &World, stories: &[Arc<Mutex<Story>>]) {
    world.bucket.set_faults(Faults::NONE);
    world.volume.set_faults(MemoryFaults::default());
    let life = world.start().await;
    let logs = hosted(world, &life);
    for (index, (log, story)) in logs.iter().zip(stories).enumerate() {
        let in_flight = story.lock().unwrap().in_flight.clone();
        for (sequence, count) in in_flight {
            let batch = story_batch(index as i64, sequence, count);
            let bytes = super::world::expected(&batch);
            let offset = super::world::acked(log, batch).await;
            story.lock().unwrap().acknowledged.insert(offset.0, (bytes, sequence));
        }
        let records = story.lock().unwrap().next_sequence;
        check(world, log, story).await;
        assert_eq!(log.offsets().end, Offset(i64::from(records)), "every record is there once");
    }
    life.engine.flush_all().await;
    life.engine.shutdown().await;
    assert_eq!(life.engine.health().unflushed.0, 0);
    let life = world.start().await;
    for (log, story) in hosted(world, &life).iter().zip(stories) {
        assert_eq!(log.offsets().committed_end, log.offsets().end);
        check(world, log, story).await;
    }
    world.check(&(0..PARTITIONS).map(partition).collect::<Vec<_>>()).await;
}

#[test]
fn acknowledged_batches_survive_every_death() {
    let seeds = match std::env::var("SIM_SEED") {
        Ok(seed) => {
            let seed = seed.parse().expect("SIM_SEED is a u64");
            seed..seed + 1
        }
        Err(_) => 0..SEEDS,
    };
    for seed in seeds {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let mut runtime = { runtime };
        let runtime = runtime.enable_time().start_paused(true).build().expect("a runtime");
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            runtime.block_on(simulate(seed));
        }));
        assert!(outcome.is_ok(), "seed {seed} failed: run it alone with SIM_SEED={seed}");
    }
}
