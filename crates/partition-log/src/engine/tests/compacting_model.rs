//! Compaction against a model, by seed: keys, tombstones, codecs and batch sizes at random, in and out of
//! transactions; deaths at any point, a bucket that lies, metadata that dawdles, merging and DeleteRecords
//! meanwhile.
//!
//! At any time, whoever reads from the beginning sees of each key its newest record last, at the offset it
//! got; nothing else than what was produced; and no key that was deleted, but by its tombstone. Whoever reads
//! committed records sees that of those up to the last stable offset, and nothing that was aborted (A8). Once
//! all is healed, of each key exactly one record is left, and nothing that was aborted.

use super::compacting::{Seen, Value, consume, keyed, settings, world};
use super::compacting_transactions::{committed, keyed_within};
use super::crashes::Dawdling;
use super::transactions::mark;
use super::world::{Life, World, partition};
use crate::CompactionOptions;
use crate::log::{AppendError, Appended, LogSettings, MarkerRule, PartitionLog};
use crate::run_index::RunIndex;
use bucket::Faults;
use bytes::Bytes;
use environment::{Entropy, SeededEntropy};
use protocol::records::{Batch, Compression, TransactionResult};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use vocabulary::{ByteCount, Offset};

const SEEDS: u64 = 24;
const STEPS: u64 = 120;
const KEYS: u64 = 24;
const PRODUCERS: u64 = 3;

const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

/// What was acknowledged: every record, and which of them count.
#[derive(Default)]
struct Model {
    all: Seen,
    /// Of no transaction, or of a committed one.
    committed: BTreeSet<i64>,
    /// By producer: what its transaction holds so far.
    open: BTreeMap<i64, Vec<i64>>,
    sequences: BTreeMap<i64, i32>,
    log_start: i64,
}

impl Model {
    fn add(&mut self, base: Offset, pairs: &[(u8, Value)], within: Option<i64>) {
        for (offset, (key, value)) in (base.0..).zip(pairs) {
            self.all.insert(offset, (Bytes::copy_from_slice(&[*key]), value.clone()));
            match within {
                Some(producer) => self.open.entry(producer).or_default().push(offset),
                None => {
                    self.committed.insert(offset);
                }
            }
        }
    }

    fn end(&mut self, producer: i64, result: TransactionResult) {
        let offsets = self.open.remove(&producer).unwrap_or_default();
        if result == TransactionResult::Commit {
            self.committed.extend(offsets);
        }
    }

    fn check(&self, seen: &Seen, seed: u64) {
        for offset in self.open.values().flatten().filter(|it| self.log_start <= **it) {
            assert!(seen.contains_key(offset), "seed {seed}: undecided {offset} is gone");
        }
        let is_committed = |it: &(&i64, _)| self.committed.contains(it.0);
        let counting: Seen =
            seen.iter().filter(is_committed).map(|it| (*it.0, it.1.clone())).collect();
        let others = seen.iter().filter(|it| !is_committed(it));
        for (offset, record) in others {
            assert_eq!(self.all.get(offset), Some(record), "seed {seed}: offset {offset}");
        }
        self.check_counting(&counting, i64::MAX, seed);
    }

    /// What a reader of committed records keeps up to `stable`.
    fn check_counting(&self, seen: &Seen, stable: i64, seed: u64) {
        for (offset, record) in seen {
            assert!(self.committed.contains(offset), "seed {seed}: A8: {offset} is shown");
            assert_eq!(self.all.get(offset), Some(record), "seed {seed}: offset {offset}");
        }
        let mut newest: BTreeMap<&[u8], i64> = BTreeMap::new();
        for offset in self.committed.range(..stable) {
            newest.insert(&self.all[offset].0, *offset);
        }
        for (key, newest) in newest {
            let last = seen.iter().rfind(|it| it.1.0 == key).map(|it| *it.0);
            let is_gone = self.all[&newest].1.is_none() || newest < self.log_start;
            match last {
                Some(last) => assert_eq!(last, newest, "seed {seed}: key {key:?}"),
                None => assert!(is_gone, "seed {seed}: key {key:?} is lost"),
            }
        }
    }
}

struct Run {
    seed: u64,
    chance: SeededEntropy,
    world: World,
    model: Model,
    transacts: bool,
}

impl Run {
    fn new(seed: u64) -> Run {
        let chance = SeededEntropy::new(seed);
        let mut world = world(seed);
        let room = [3, 20, 4096][chance.below(3) as usize];
        world.options.compaction = CompactionOptions {
            dedupe_bytes: ByteCount(24 * (12 + room)),
            backoff: Duration::from_secs(5),
            ..Default::default()
        };
        world.options.collection_grace = Duration::from_secs(2);
        world.options.merge.fan_in = 2;
        world.options.merge.interval = Duration::from_secs(3);
        world.settings = Arc::new(LogSettings {
            min_cleanable_dirty_ratio: [0.0, 0.3][chance.below(2) as usize],
            delete_retention_ms: [0, 60_000][chance.below(2) as usize],
            ..settings()
        });
        let transacts = chance.below(4) != 0;
        Run { seed, chance, world, model: Model::default(), transacts }
    }

    async fn start(&self) -> (Life, Arc<PartitionLog>) {
        let runs: Arc<dyn RunIndex> = Arc::new(Dawdling {
            inner: Arc::clone(&self.world.runs),
            clock: Arc::clone(&self.world.environment.clock),
            entropy: SeededEntropy::new(self.chance.next_u64()),
            lost_per_mille: 30,
        });
        let life = self.world.start_with(runs).await;
        let log = self.world.host(&life, partition(0));
        (life, log)
    }

    async fn step(&mut self, life: &Life, log: &PartitionLog) {
        match self.chance.below(10) {
            0..=1 if self.transacts => self.write_within(log).await,
            2 if self.transacts => {
                let result = match self.chance.below(2) {
                    0 => TransactionResult::Abort,
                    _ => TransactionResult::Commit,
                };
                self.end(log, self.chance.below(PRODUCERS) as i64, result).await;
            }
            0..=4 => {
                let pairs = self.pairs();
                let codec = CODECS[self.chance.below(5) as usize];
                let now = self.world.environment.clock.wall();
                let batch = || keyed(codec, None, now, &pairs);
                if let Some(base) = self.append(log, batch).await {
                    self.model.add(base, &pairs, None);
                }
            }
            5..=6 => life.engine.flush_all().await,
            7 => self.check(log).await,
            8 => self.world.sleep(Duration::from_secs(self.chance.below(20))).await,
            _ if self.chance.below(6) == 0 => {
                let offsets = log.offsets();
                let room = (offsets.high_watermark.0 - offsets.log_start.0) as u64;
                let to = Offset(offsets.log_start.0 + self.chance.below(room / 3 + 1) as i64);
                // Without an answer it may have happened: asked again, as a client does.
                while log.delete_before(to).await.is_err() {
                    self.world.sleep(Duration::from_millis(500)).await;
                }
                self.model.log_start = self.model.log_start.max(to.0);
            }
            _ => self.world.sleep(Duration::from_millis(self.chance.below(3000))).await,
        }
    }

    async fn check(&self, log: &PartitionLog) {
        let seen = consume(&self.world, log, log.offsets().log_start).await;
        self.model.check(&seen, self.seed);
        while log.load_producers().await.is_err() {
            self.world.sleep(Duration::from_millis(500)).await;
        }
        let offsets = log.offsets();
        let seen = committed(&self.world, log, offsets.log_start).await;
        let seen: Seen = seen.into_iter().map(|(at, key, value)| (at, (key, value))).collect();
        self.model.check_counting(&seen, offsets.last_stable.0, self.seed);
    }

    /// A commit whose answer is lost can read as another leader's: then the next life goes on.
    async fn append(&self, log: &PartitionLog, batch: impl Fn() -> Batch) -> Option<Offset> {
        loop {
            match log.append(batch(), None).await {
                Err(AppendError::Stopping) => return None,
                // The producers cannot be read now.
                Err(AppendError::Unavailable) => {
                    self.world.sleep(Duration::from_millis(500)).await;
                }
                appended => return Some(self.durable(appended).await),
            }
        }
    }

    async fn durable(&self, appended: Result<Appended, AppendError>) -> Offset {
        let appended = appended.expect("it takes appends");
        assert!(!appended.duplicate, "A5: nothing is written twice");
        appended.durable.await.expect("the disk works");
        appended.base_offset
    }

    async fn write_within(&mut self, log: &PartitionLog) {
        let producer = self.chance.below(PRODUCERS) as i64;
        let pairs = self.pairs();
        let sequence = self.model.sequences.get(&producer).copied().unwrap_or_default();
        let now = self.world.environment.clock.wall();
        let batch = || keyed_within(producer, sequence, now, &pairs);
        if let Some(base) = self.append(log, batch).await {
            self.model.sequences.insert(producer, sequence + pairs.len() as i32);
            self.model.add(base, &pairs, Some(producer));
        }
    }

    async fn end(&mut self, log: &PartitionLog, producer: i64, result: TransactionResult) {
        loop {
            match mark(log, producer, 0, result, MarkerRule::V1).await {
                Err(AppendError::Stopping) => return,
                Err(AppendError::Unavailable) => {
                    self.world.sleep(Duration::from_millis(500)).await;
                }
                marked => {
                    self.durable(marked).await;
                    return self.model.end(producer, result);
                }
            }
        }
    }

    fn pairs(&self) -> Vec<(u8, Value)> {
        (0..1 + self.chance.below(8)).map(|_| self.pair()).collect()
    }

    fn pair(&self) -> (u8, Value) {
        let value = vec![self.chance.below(256) as u8; 1 + self.chance.below(300) as usize];
        let value = (self.chance.below(4) != 0).then(|| Bytes::from(value));
        (self.chance.below(KEYS) as u8, value)
    }
}

#[tokio::test(start_paused = true)]
async fn readers_see_the_newest_of_every_key_last() {
    let (mut dropped, mut passes, mut aborted, mut markers) = (0, 0, 0, 0);
    for seed in 0..SEEDS {
        let mut run = Run::new(seed);
        let is_bad_day = run.chance.below(2) == 0;
        if is_bad_day {
            run.world.bucket.set_faults(Faults::bad_day());
        }
        for _ in 0..4 {
            let (life, log) = run.start().await;
            run.check(&log).await;
            for _ in 0..STEPS / 4 {
                run.step(&life, &log).await;
            }
            let metrics = life.engine.metrics();
            dropped += metrics.compaction_records_dropped.get();
            passes += metrics.compaction_passes.get();
            aborted += metrics.compaction_aborted_dropped.get();
            markers += metrics.compaction_markers_dropped.get();
            run.world.crash(life).await;
        }
        run.world.bucket.set_faults(Faults::NONE);
        let life = run.world.start().await;
        let log = run.world.host(&life, partition(0));
        for producer in 0..PRODUCERS as i64 {
            run.end(&log, producer, TransactionResult::Abort).await;
        }
        life.engine.flush_all().await;
        let always = LogSettings { min_cleanable_dirty_ratio: 0.0, ..(*log.settings()).clone() };
        log.set_settings(Arc::new(always));
        run.world.sleep(Duration::from_secs(1800)).await;
        // Passes that find markers of nothing, and let them go.
        for _ in 0..3 {
            let pairs = [(KEYS as u8, None)];
            let now = run.world.environment.clock.wall();
            let base = run.append(&log, || keyed(Compression::None, None, now, &pairs)).await;
            run.model.add(base.expect("nothing ends it"), &pairs, None);
            life.engine.flush_all().await;
            run.world.sleep(Duration::from_secs(120)).await;
        }
        markers += life.engine.metrics().compaction_markers_dropped.get();
        run.check(&log).await;
        let seen = consume(&run.world, &log, log.offsets().log_start).await;
        let keys: BTreeSet<_> = seen.values().map(|it| it.0.clone()).collect();
        assert_eq!(keys.len(), seen.len(), "seed {seed}: C2");
        assert!(seen.keys().all(|it| run.model.committed.contains(it)), "seed {seed}: A8");
        run.world.check(&[partition(0)]).await;
        run.world.crash(life).await;
    }
    assert!(1000 < dropped && 2 * SEEDS < passes, "{dropped} records in {passes} passes");
    assert!(50 < aborted && 50 < markers, "{aborted} aborted records, {markers} markers");
}
