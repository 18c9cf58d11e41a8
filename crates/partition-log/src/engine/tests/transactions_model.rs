//! Random transactions against a model that keeps everything in one list, while flushes, merges,
//! deletions, stops and crashes happen at random (A8).
//!
//! A reader filters as clients do: from the records below the last stable offset it leaves out those
//! that lie in the aborted transactions it was told of. What is left must be what the model committed.

use super::transactions::{ended, within};
use super::world::{Life, World, acked, batch, partition};
use crate::MergeOptions;
use crate::log::{AppendError, PartitionLog, ReadLimit};
use crate::read::AbortedTransaction;
use environment::{Entropy, SeededEntropy};
use protocol::records::{EndTxnMarker, TransactionResult, batches};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use vocabulary::{ByteCount, Offset};

const SEEDS: u64 = 12;
const STEPS: usize = 150;
const PRODUCERS: i64 = 4;

/// Whose batch it is, and how that went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Plain,
    Open,
    Committed,
    Aborted,
    Marker,
}

#[derive(Debug, Default)]
struct Model {
    /// By base offset: producer, end offset, fate.
    batches: BTreeMap<i64, (i64, i64, Fate)>,
    aborted: Vec<AbortedTransaction>,
    sequences: BTreeMap<i64, i32>,
    log_start: i64,
    end: i64,
}

impl Model {
    fn add(&mut self, producer: i64, base: Offset, count: i64, fate: Fate) {
        assert_eq!(base.0, self.end, "A2: dense offsets");
        self.end += count;
        self.batches.insert(base.0, (producer, self.end, fate));
    }

    fn end_transaction(&mut self, producer: i64, base: Offset, result: TransactionResult) {
        let fate = match result {
            TransactionResult::Abort => Fate::Aborted,
            TransactionResult::Commit => Fate::Committed,
        };
        let mut first = None;
        for (offset, (whose, _, was)) in &mut self.batches {
            if *whose == producer && *was == Fate::Open {
                *was = fate;
                first.get_or_insert(Offset(*offset));
            }
        }
        self.add(producer, base, 1, Fate::Marker);
        if let (Some(first_offset), Fate::Aborted) = (first, fate) {
            let producer = vocabulary::ProducerId(producer);
            self.aborted.push(AbortedTransaction { producer, first_offset, last_offset: base });
        }
    }

    fn last_stable(&self) -> i64 {
        let open = self.batches.iter().find(|(_, (_, _, fate))| *fate == Fate::Open);
        open.map_or(self.end, |(offset, _)| (*offset).max(self.log_start))
    }

    /// What a reader of committed records gets from `from` on.
    fn visible(&self, from: i64) -> Vec<i64> {
        let stable = self.last_stable();
        let shown = self.batches.iter().filter(|(_, (_, end, fate))| {
            from < *end && *end <= stable && matches!(fate, Fate::Plain | Fate::Committed)
        });
        shown.map(|(offset, _)| *offset).collect()
    }
}

struct Run {
    world: World,
    life: Option<Life>,
    log: Arc<PartitionLog>,
    model: Model,
    chance: SeededEntropy,
}

impl Run {
    async fn new(seed: u64) -> Run {
        let mut world = World::new(seed);
        let chance = SeededEntropy::new(seed ^ 0xace);
        world.options.tail_cache_bytes.0 = chance.below(16 * 1024);
        world.options.segment_batches_max = 1 + chance.below(20) as usize;
        world.options.flush_age = Duration::from_secs(3600);
        world.options.producer_expiration_ms = 1 + chance.below(100_000) as i64;
        world.options.merge =
            MergeOptions { target_bytes: ByteCount::kib(8), fan_in: 2, ..MergeOptions::default() };
        let life = world.start().await;
        let log = world.host(&life, partition(0));
        Run { world, life: Some(life), log, model: Model::default(), chance }
    }

    async fn step(&mut self) {
        let producer = self.chance.below(PRODUCERS as u64) as i64;
        let count = 1 + self.chance.below(3) as usize;
        match self.chance.below(100) {
            0..15 => {
                let base = acked(&self.log, batch(self.chance.next_u64(), count, 40)).await;
                self.model.add(-1, base, count as i64, Fate::Plain);
            }
            15..60 => {
                let base = self.append_within(producer, count).await;
                self.model.add(producer, base, count as i64, Fate::Open);
            }
            60..80 => {
                let result = match self.chance.below(2) {
                    0 => TransactionResult::Abort,
                    _ => TransactionResult::Commit,
                };
                let base = ended(&self.log, producer, 0, result).await;
                self.model.end_transaction(producer, base, result);
            }
            80..88 => {
                let life = self.life.as_ref().expect("likewise");
                life.engine.flush_all().await;
            }
            88..92 => self.world.sleep(Duration::from_secs(self.chance.below(200))).await,
            92..94 => {
                let left = (self.model.end - self.model.log_start).unsigned_abs();
                let target = self.model.log_start + self.chance.below(1 + left).cast_signed();
                self.log.delete_before(Offset(target)).await.expect("the metadata answers");
                self.model.log_start = target;
            }
            _ => self.restart().await,
        }
    }

    /// A producer that was forgotten, and known again by a marker only, starts over, as clients do.
    async fn append_within(&mut self, producer: i64, count: usize) -> Offset {
        let sequence = self.model.sequences.entry(producer).or_default();
        let appended = match self.log.append(within(producer, 0, *sequence, count), None).await {
            Err(AppendError::OutOfOrderSequence { expected, .. }) => {
                assert_eq!(expected, 0, "P3: it has no batch");
                *sequence = 0;
                self.log.append(within(producer, 0, 0, count), None).await
            }
            appended => appended,
        };
        *sequence += count as i32;
        let appended = appended.expect("the sequence fits");
        appended.durable.await.expect("the WAL works");
        appended.base_offset
    }

    async fn restart(&mut self) {
        let last = self.life.take().expect("there is one between two steps");
        match self.chance.below(2) {
            0 => last.engine.shutdown().await,
            _ => self.world.crash(last).await,
        }
        let life = self.world.start().await;
        self.log = self.world.host(&life, partition(0));
        self.life = Some(life);
    }

    async fn check(&self) {
        let from = self.model.log_start
            + self.chance.below((self.model.end - self.model.log_start).unsigned_abs() + 1) as i64;
        let read = self.read_committed(Offset(from)).await;
        assert_eq!(read, self.model.visible(from), "A8: committed records from {from}");
        let offsets = self.log.offsets();
        assert_eq!(offsets.last_stable.0, self.model.last_stable(), "A8: {:?}", self.model);
    }

    /// Base offsets of the batches that a reader keeps.
    async fn read_committed(&self, from: Offset) -> Vec<i64> {
        let mut kept = Vec::new();
        let mut next = from;
        loop {
            let bytes_max = self.chance.below(2000) as usize;
            let read = self.log.read(next, bytes_max, true, ReadLimit::LastStable).await;
            let fetched = read.expect("nothing is wrong with the storage");
            if fetched.bytes == 0 {
                return kept;
            }
            let mut aborted =
                self.log.aborted_transactions(next, fetched.end).await.expect("likewise");
            for it in &aborted {
                let is_real = self.model.aborted.contains(it);
                let overlaps = it.first_offset < fetched.end && next <= it.last_offset;
                assert!(is_real && overlaps, "A8: {it:?} for {next} to {}", fetched.end);
            }
            aborted.sort_by_key(|it| it.first_offset);
            let mut aborted = aborted.into_iter().peekable();
            let mut ignored = HashSet::new();
            for batch in fetched.chunks.into_iter().flat_map(batches) {
                let (header, bytes) = batch.expect("whole batches come back");
                while let Some(it) = aborted.next_if(|it| it.first_offset <= header.last_offset()) {
                    ignored.insert(it.producer.0);
                }
                match EndTxnMarker::read(&bytes).expect("it is whole") {
                    Some(marker) if marker.result == TransactionResult::Abort => {
                        ignored.remove(&header.producer_id);
                    }
                    Some(_) => (),
                    None if header.attributes.is_transactional()
                        && ignored.contains(&header.producer_id) => {}
                    None => kept.push(header.base_offset.0),
                }
            }
            next = fetched.end;
        }
    }
}

async fn simulate(seed: u64) {
    let mut run = Run::new(seed).await;
    for _ in 0..STEPS {
        run.step().await;
        run.check().await;
    }
    let model = &run.model;
    assert!(10 < model.batches.len() && !model.aborted.is_empty(), "seed {seed} did too little");
}

#[test]
fn committed_records_are_what_the_model_committed() {
    for seed in 0..SEEDS {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let mut runtime = { runtime };
        let runtime = runtime.enable_time().start_paused(true).build().expect("a runtime");
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            runtime.block_on(simulate(seed));
        }));
        assert!(outcome.is_ok(), "seed {seed} failed");
    }
}
