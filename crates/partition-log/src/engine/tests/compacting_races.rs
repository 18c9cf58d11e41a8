//! Compaction beside what others do at the same time: it waits for none of it longer than need be, and says nothing
//! about damage that is none.

use super::compacting::{Value, consume, keyed, settings, world};
use super::meddling::{Meddling, Told};
use super::world::{Life, World, acked, partition};
use crate::CompactionOptions;
use crate::log::{LogSettings, PartitionLog, ReadLimit};
use crate::merge::is_compacted;
use crate::run_index::RunDescription;
use bucket::Faults;
use bytes::Bytes;
use protocol::records::{Compression, batches};
use std::sync::Arc;
use std::time::Duration;
use vocabulary::Offset;

/// Longer than the backoff of compaction.
const COMPACTED: Duration = Duration::from_secs(40);

fn value(label: u8) -> Value {
    Some(Bytes::from(vec![label; 20]))
}

async fn put(world: &World, log: &PartitionLog, key: u8, value: Value) {
    let now = world.environment.clock.wall();
    acked(log, keyed(Compression::None, None, now, &[(key, value)])).await;
}

/// A partition whose small runs were merged, and their objects deleted, before compaction looks; and those runs.
struct Merged {
    world: World,
    runs: Arc<Meddling>,
    life: Life,
    log: Arc<PartitionLog>,
    before: Vec<RunDescription>,
}

impl Merged {
    async fn new(seed: u64) -> Merged {
        let mut world = world(seed);
        world.options.compaction.is_enabled = false;
        world.options.merge.is_enabled = true;
        world.options.merge.fan_in = 4;
        // Only compaction asks for pages later on.
        world.options.retention_check_interval = Duration::from_secs(100_000);
        let runs = Meddling::new(&world.runs, &world.environment);
        let life = world.start_with(Arc::<Meddling>::clone(&runs)).await;
        let log = world.host(&life, partition(0));
        for label in 0..4 {
            put(&world, &log, label % 2, value(label)).await;
            life.engine.flush_all().await;
        }
        let before = world.runs.runs(partition(0));
        world.sleep(Duration::from_secs(300)).await;
        let after = world.runs.runs(partition(0));
        assert_eq!((before.len(), after.len()), (4, 1), "merged");
        assert_eq!(world.runs.segments().len(), 1, "and collected");
        Merged { world, runs, life, log, before }
    }

    fn old(&self) -> Told {
        Told::Old(self.before.clone())
    }

    async fn compact(&self) {
        self.life.engine.set_compaction(CompactionOptions::default());
        self.world.sleep(COMPACTED).await;
        assert_eq!(self.runs.untold(), 0, "all of it was asked");
    }

    async fn is_compacted(&self) -> bool {
        let seen = consume(&self.world, &self.log, Offset(0)).await;
        let is_marked =
            self.world.runs.runs(partition(0)).iter().all(|it| is_compacted(it.segment));
        is_marked && seen.into_keys().eq([2, 3])
    }
}

/// Goal: a page of runs that merging has replaced, and the collection deleted, since it was asked for, is asked for
/// again at once, wherever a pass is.
#[tokio::test(start_paused = true)]
async fn runs_that_are_gone_since_they_were_told_are_asked_for_again() {
    // What a pass asks for: a survey, what to map, what to rewrite.
    for (seed, asked) in [(1, "survey"), (2, "map"), (3, "rewrite")] {
        let it = Merged::new(seed).await;
        it.runs.tell_pages(match asked {
            "survey" => vec![it.old(), it.old(), it.old()],
            "map" => vec![Told::AsItIs, it.old(), it.old()],
            _ => vec![Told::AsItIs, Told::AsItIs, it.old(), it.old()],
        });
        it.compact().await;
        assert!(it.is_compacted().await, "{asked}");
        let metrics = it.life.engine.metrics();
        assert_eq!(metrics.compaction_failures.get(), 0, "{asked}");
        assert_eq!(metrics.uncleanable_partitions.get(), 0, "{asked}");
    }
}

/// Goal: an object that is gone for good is told as what it is, after a bounded number of looks.
#[tokio::test(start_paused = true)]
async fn an_object_that_stays_gone_is_told() {
    let it = Merged::new(4).await;
    it.runs.tell_pages((0..6).map(|_| it.old()));
    it.compact().await;
    let metrics = it.life.engine.metrics();
    assert_eq!(metrics.compaction_failures.get(), 1);
    assert_eq!(metrics.uncleanable_partitions.get(), 1);
    it.world.sleep(Duration::from_secs(700)).await;
    assert!(it.is_compacted().await, "it is tried again");
    assert_eq!(metrics.uncleanable_partitions.get(), 0);
}

/// Goal: a pass that others overtake all the time is tried again a minute later, and nobody is told of damage.
#[tokio::test(start_paused = true)]
async fn a_pass_that_is_overtaken_is_tried_again_soon() {
    let it = Merged::new(5).await;
    it.runs.overtake(4);
    it.compact().await;
    let metrics = it.life.engine.metrics();
    assert_eq!(metrics.compaction_failures.get(), 1);
    assert_eq!(metrics.uncleanable_partitions.get(), 0);
    assert!(!it.is_compacted().await);
    it.world.sleep(Duration::from_secs(90)).await;
    assert!(it.is_compacted().await);
}

/// Goal: what a reader was told of before a compaction is not what readers go by after it.
#[tokio::test(start_paused = true)]
async fn runs_told_of_before_a_compaction_are_not_kept_after_it() {
    let mut world = world(7);
    world.options.tail_cache_bytes.0 = 0; // Memory would serve what it still has.
    let runs = Meddling::new(&world.runs, &world.environment);
    let life = world.start_with(Arc::<Meddling>::clone(&runs)).await;
    let log = world.host(&life, partition(0));
    for label in 0..4 {
        put(&world, &log, label % 2, value(label)).await;
    }
    life.engine.flush_all().await;
    runs.tell_few([Told::Late(COMPACTED)]);
    let read = log.read(Offset(0), 1 << 20, true, ReadLimit::HighWatermark).await;
    assert_eq!(read.map(|it| it.end), Ok(Offset(4)), "as of before, which is there still");
    assert_eq!(runs.untold(), 0);
    assert!(world.runs.runs(partition(0)).iter().all(|it| is_compacted(it.segment)));
    let seen = consume(&world, &log, Offset(0)).await;
    assert!(seen.into_keys().eq([2, 3]), "readers of now see what is left");
}

/// Goal: whoever begins to read before compaction has replaced a record has all of delete.retention.ms to come to the
/// tombstone behind it, however slow the bucket is.
/// Method: the tombstone's horizon is compared with the moment at which its run was replaced.
#[tokio::test(start_paused = true)]
async fn a_tombstones_time_begins_when_older_records_are_gone() {
    const KEPT_MS: i64 = 30_000;
    let mut slowest_ms = 0;
    for seed in 10..18 {
        let mut world = world(seed);
        let settings = LogSettings { delete_retention_ms: KEPT_MS, ..settings() };
        world.settings = Arc::new(settings);
        let life = world.start().await;
        let log = world.host(&life, partition(0));
        put(&world, &log, 1, value(1)).await;
        put(&world, &log, 1, None).await;
        life.engine.flush_all().await;
        let slow_max = Duration::from_secs(40);
        world.bucket.set_faults(Faults { slow_per_mille: 1000, slow_max, ..Faults::NONE });
        let clock = &world.environment.clock;
        let is_done = || world.runs.runs(partition(0)).iter().all(|it| is_compacted(it.segment));
        let mut before = clock.wall();
        let began = before;
        while !is_done() {
            before = clock.wall();
            world.sleep(Duration::from_millis(20)).await;
        }
        slowest_ms = slowest_ms.max(before.0 - began.0);
        world.bucket.set_faults(Faults::NONE);
        let read = log.read(Offset(0), 1 << 20, true, ReadLimit::HighWatermark).await;
        let horizon = read.expect("readable").chunks.into_iter().flat_map(batches).find_map(|it| {
            let (header, _) = it.expect("whole batches come back");
            header.attributes.has_delete_horizon().then_some(header.base_timestamp)
        });
        let horizon = horizon.expect("the tombstone has one");
        assert!(before.0 + KEPT_MS <= horizon.0, "seed {seed}: {before} and {horizon}");
    }
    assert!(60_000 < slowest_ms, "some uploads come too late: {slowest_ms}");
}

/// Goal: what a flush commits while a look at the partition is under way is seen by the next one.
#[tokio::test(start_paused = true)]
async fn what_is_committed_during_a_look_is_looked_at() {
    let world = world(6);
    let runs = Meddling::new(&world.runs, &world.environment);
    let life = world.start_with(Arc::<Meddling>::clone(&runs)).await;
    let log = world.host(&life, partition(0));
    for label in 0..2 {
        put(&world, &log, 1, value(label)).await;
    }
    life.engine.flush_all().await;
    world.sleep(COMPACTED).await;
    assert!(world.runs.runs(partition(0)).iter().all(|it| is_compacted(it.segment)));
    // The next look finds nothing to do, and takes so long that a flush overtakes it.
    let late = Duration::from_secs(5);
    runs.tell_pages([Told::Late(late)]);
    while 0 < runs.untold() {
        world.sleep(Duration::from_millis(100)).await;
    }
    for label in 2..6 {
        put(&world, &log, 1, value(label)).await;
    }
    life.engine.flush_all().await;
    world.sleep(late + COMPACTED).await;
    let seen = consume(&world, &log, Offset(0)).await;
    assert_eq!(seen.into_keys().collect::<Vec<_>>(), [5]);
}
