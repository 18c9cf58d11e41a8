//! Compaction against a model, by seed: keys, tombstones, codecs and batch sizes at random; deaths at any
//! point, a bucket that lies, metadata that dawdles, merging and DeleteRecords meanwhile.
//!
//! At any time, whoever reads from the beginning sees of each key its newest record last, at the offset it
//! got; nothing else than what was produced; and no key that was deleted, but by its tombstone. Once all is
//! healed, of each key exactly one record is left.

use super::compacting::{Seen, Value, consume, keyed, settings, world};
use super::crashes::Dawdling;
use super::world::{Life, World, partition};
use crate::CompactionOptions;
use crate::log::{AppendError, LogSettings, PartitionLog};
use crate::run_index::RunIndex;
use bucket::Faults;
use bytes::Bytes;
use environment::{Entropy, SeededEntropy};
use protocol::records::Compression;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use vocabulary::{ByteCount, Offset};

const SEEDS: u64 = 12;
const STEPS: u64 = 120;
const KEYS: u64 = 24;

const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

/// What was acknowledged: every record, and where each key is last.
#[derive(Default)]
struct Model {
    all: Seen,
    newest: BTreeMap<u8, i64>,
    log_start: i64,
}

impl Model {
    fn add(&mut self, base: Offset, pairs: &[(u8, Value)]) {
        for (offset, (key, value)) in (base.0..).zip(pairs) {
            self.all.insert(offset, (Bytes::copy_from_slice(&[*key]), value.clone()));
            self.newest.insert(*key, offset);
        }
    }

    fn check(&self, seen: &Seen, seed: u64) {
        for (offset, record) in seen {
            assert_eq!(self.all.get(offset), Some(record), "seed {seed}: offset {offset}");
        }
        for (key, newest) in &self.newest {
            let last = seen.iter().rfind(|it| it.1.0[..] == [*key]).map(|it| *it.0);
            let is_gone = self.all[newest].1.is_none() || *newest < self.log_start;
            match last {
                Some(last) => assert_eq!(last, *newest, "seed {seed}: key {key}"),
                None => assert!(is_gone, "seed {seed}: key {key} is lost"),
            }
        }
    }
}

struct Run {
    seed: u64,
    chance: SeededEntropy,
    world: World,
    model: Model,
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
        world.options.merge.fan_in = 2;
        world.options.merge.interval = Duration::from_secs(3);
        world.settings = Arc::new(LogSettings {
            min_cleanable_dirty_ratio: [0.0, 0.3][chance.below(2) as usize],
            delete_retention_ms: [0, 60_000][chance.below(2) as usize],
            ..settings()
        });
        Run { seed, chance, world, model: Model::default() }
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
            0..=4 => {
                let count = 1 + self.chance.below(8);
                let pairs: Vec<(u8, Value)> = (0..count).map(|_| self.pair()).collect();
                let codec = CODECS[self.chance.below(5) as usize];
                let now = self.world.environment.clock.wall();
                // A commit whose answer is lost can read as another leader's: the next life goes on.
                let appended = match log.append(keyed(codec, None, now, &pairs), None).await {
                    Err(AppendError::Stopping) => return,
                    appended => appended.expect("it takes appends"),
                };
                appended.durable.await.expect("the disk works");
                self.model.add(appended.base_offset, &pairs);
            }
            5..=6 => life.engine.flush_all().await,
            7 => self
                .model
                .check(&consume(&self.world, log, log.offsets().log_start).await, self.seed),
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

    fn pair(&self) -> (u8, Value) {
        let value = vec![self.chance.below(256) as u8; 1 + self.chance.below(300) as usize];
        let value = (self.chance.below(4) != 0).then(|| Bytes::from(value));
        (self.chance.below(KEYS) as u8, value)
    }
}

#[tokio::test(start_paused = true)]
async fn readers_see_the_newest_of_every_key_last() {
    let (mut dropped, mut passes) = (0, 0);
    for seed in 0..SEEDS {
        let mut run = Run::new(seed);
        let is_bad_day = run.chance.below(2) == 0;
        if is_bad_day {
            run.world.bucket.set_faults(Faults::bad_day());
        }
        for _ in 0..4 {
            let (life, log) = run.start().await;
            run.model.check(&consume(&run.world, &log, log.offsets().log_start).await, seed);
            for _ in 0..STEPS / 4 {
                run.step(&life, &log).await;
            }
            let metrics = life.engine.metrics();
            dropped += metrics.compaction_records_dropped.get();
            passes += metrics.compaction_passes.get();
            run.world.crash(life).await;
        }
        run.world.bucket.set_faults(Faults::NONE);
        let life = run.world.start().await;
        let log = run.world.host(&life, partition(0));
        life.engine.flush_all().await;
        let always = LogSettings { min_cleanable_dirty_ratio: 0.0, ..(*log.settings()).clone() };
        log.set_settings(Arc::new(always));
        run.world.sleep(Duration::from_secs(1800)).await;
        let seen = consume(&run.world, &log, log.offsets().log_start).await;
        run.model.check(&seen, seed);
        let keys: std::collections::BTreeSet<_> = seen.values().map(|it| it.0.clone()).collect();
        assert_eq!(keys.len(), seen.len(), "seed {seed}: C2");
        run.world.check(&[partition(0)]).await;
        run.world.crash(life).await;
    }
    assert!(1000 < dropped && 2 * SEEDS < passes, "{dropped} records in {passes} passes");
}
