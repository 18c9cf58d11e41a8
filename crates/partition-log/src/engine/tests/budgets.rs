//! What a produced byte costs: uploads of the WAL, the flush and merging, and their requests. Counts,
//! at a sixteenth of the real sizes, so that 10,000 partitions fit into a test; rates are simulated.

use super::world::{World, batch_of, partition};
use crate::log::PartitionLog;
use crate::run_index::RunIndex;
use crate::wal::{FileWal, FileWalOptions};
use crate::{LogEngine, LogOptions, MergeOptions};
use bucket::{BucketMetrics, Operation, Purpose, StoreBucket};
use std::sync::Arc;
use std::time::Duration;
use vocabulary::{BrokerEpoch, BrokerId, ByteCount};

/// Sizes are so many times smaller than a broker's with a WAL in the bucket. Rates are, too.
const SCALE: u64 = 16;

/// Of the real broker, in MiB.
const RATE_MIB: u64 = 100;

/// Of overhead in a thousand bytes: headers and indexes, which do not shrink with the scale, and are
/// most where runs are shortest.
const OVERHEAD_PER_MILLE_MAX: u64 = 250;

struct Costs {
    produced: u64,
    wal: u64,
    flushed: u64,
    merged: u64,
    flush_puts: u64,
    merge_puts: u64,
}

impl Costs {
    /// Per GiB that a broker of real size would produce.
    fn puts_per_gib(&self) -> u64 {
        (self.flush_puts + self.merge_puts) * (1 << 30) / SCALE / self.produced
    }
}

fn options() -> LogOptions {
    let mut options = LogOptions::new(BrokerId(1), BrokerEpoch(1)).for_bucket_wal();
    let scaled = |it: ByteCount| ByteCount(it.0 / SCALE);
    options.flush_bytes = scaled(options.flush_bytes);
    options.segment_bytes_max = scaled(options.segment_bytes_max);
    options.own_segment_bytes_min = scaled(options.own_segment_bytes_min);
    options.tail_cache_bytes = scaled(options.tail_cache_bytes);
    let target_bytes = scaled(options.merge.target_bytes);
    // Eight flushes instead of 64 are enough for a merge: a test does not produce as long.
    options.merge = MergeOptions { target_bytes, fan_in: 8, ..options.merge };
    options
}

fn puts(metrics: &BucketMetrics, purpose: Purpose) -> u64 {
    let usage = metrics.snapshot();
    let wanted = usage.iter().filter(|it| (it.purpose, it.operation) == (purpose, Operation::Put));
    wanted.map(|it| it.requests).sum()
}

/// Batches of `batch_bytes` for `count` partitions in turn, `total` bytes in all.
async fn produce(count: usize, batch_bytes: u64, total: u64) -> Costs {
    let world = World::new(count as u64);
    let bucket = Arc::new(StoreBucket::memory(&world.environment));
    let file_bytes = ByteCount::mib(4);
    let wal_options = FileWalOptions { file_bytes, ..FileWalOptions::default() };
    let volume = Arc::new(world.volume.remount(&world.environment));
    let backend = Arc::new(FileWal::new(volume, wal_options, &world.environment));
    let runs: Arc<dyn RunIndex> = Arc::<crate::run_index::MemoryRunIndex>::clone(&world.runs);
    let (store, environment) = (Arc::<StoreBucket>::clone(&bucket), world.environment.clone());
    let engine = LogEngine::open(options(), backend, store, runs, environment).await;
    let engine = engine.expect("it opens");
    let logs: Vec<Arc<PartitionLog>> =
        (0..count).map(|index| world.host_in(&engine, partition(index as i32))).collect();
    let now = world.environment.clock.wall().0;
    let tick = Duration::from_millis(100);
    let per_tick = RATE_MIB * (1 << 20) / SCALE / 10;
    let (mut produced, mut next) = (0, 0);
    while produced < total {
        let mut in_tick = 0;
        while in_tick < per_tick {
            let batch = batch_of(None, produced, 1, batch_bytes as usize - 70, now);
            in_tick += batch.bytes().len() as u64;
            let log: &PartitionLog = &logs[next % count];
            next += 1;
            drop(log.append(batch, None).await.expect("it takes appends"));
        }
        produced += in_tick;
        world.sleep(tick).await;
    }
    engine.flush_all().await;
    world.sleep(Duration::from_secs(60)).await;
    let metrics = bucket.metrics();
    Costs {
        produced,
        wal: engine.shared.wal.metrics().bytes.get(),
        flushed: metrics.written_bytes(Purpose::Flush),
        merged: metrics.written_bytes(Purpose::Merge),
        flush_puts: puts(metrics, Purpose::Flush),
        merge_puts: puts(metrics, Purpose::Merge),
    }
}

#[tokio::test(start_paused = true)]
async fn a_byte_is_uploaded_twice_before_merging_and_three_times_in_all() {
    for (partitions, batch_bytes, total) in
        [(1, 16 << 10, 128 << 20), (100, 16 << 10, 128 << 20), (10_000, 1600, 144 << 20)]
    {
        let costs = produce(partitions, batch_bytes, total).await;
        let with_overhead =
            |times: u64| times * costs.produced / 1000 * (1000 + OVERHEAD_PER_MILLE_MAX);
        let (before, all) = (costs.wal + costs.flushed, costs.wal + costs.flushed + costs.merged);
        assert!(
            2 * costs.produced <= before && before <= with_overhead(2),
            "{partitions}: {before}"
        );
        assert!(all <= with_overhead(3), "{partitions} partitions: {all} of {}", costs.produced);
        // The WAL takes 64 a GiB with groups of 16 MiB; its own tests count them.
        let puts = costs.puts_per_gib();
        assert!(puts <= 64, "{partitions} partitions: {puts} PUTs for a GiB");
        assert_eq!(costs.merged == 0, partitions == 1, "only small runs are merged");
    }
}
