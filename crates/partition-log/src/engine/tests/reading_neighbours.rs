//! Small runs side by side in a segment: they come with one request where somebody reads them all.

use super::world::{Life, World, acked, batch, expected, partition, read_all};
use crate::log::{PartitionLog, ReadLimit};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use vocabulary::Offset;

const PARTITIONS: i32 = 10;
const SEGMENTS: u64 = 40;
const RUNS: u64 = PARTITIONS as u64 * SEGMENTS;
const BATCH_BYTES: usize = 2000;

/// A partition and what was written to it.
type Written = (Arc<PartitionLog>, Vec<(i64, Bytes)>);

/// Nothing in memory, nothing merged.
fn cold_world(seed: u64) -> World {
    let mut world = World::new(seed);
    world.options.tail_cache_bytes.0 = 0;
    world.options.merge.is_enabled = false;
    world
}

/// Partitions that share every segment, a small run of each in it.
async fn packed(world: &World) -> (Life, Vec<Written>) {
    let life = world.start().await;
    let mut logs: Vec<Written> =
        (0..PARTITIONS).map(|index| (world.host(&life, partition(index)), Vec::new())).collect();
    for label in 0..SEGMENTS {
        for (log, wanted) in &mut logs {
            let batch = batch(label, 1, BATCH_BYTES);
            let bytes = expected(&batch);
            wanted.push((acked(log, batch).await.0, bytes));
        }
        life.engine.flush_all().await;
    }
    assert_eq!(world.runs.segments().len() as u64, SEGMENTS, "all of them share each segment");
    (life, logs)
}

fn loads(life: &Life) -> u64 {
    let metrics = life.engine.metrics();
    metrics.tail_loads.get() + metrics.lagging_loads.get()
}

/// Reads all partitions as one consumer does, a fetch of a run's size from each in turn.
async fn consume(world: &World, logs: &[Written]) {
    for label in 0..SEGMENTS as usize {
        for (log, wanted) in logs {
            let next = Offset(wanted[label].0);
            let fetched = log.read(next, BATCH_BYTES, true, ReadLimit::HighWatermark).await;
            let fetched = fetched.expect("the bucket works");
            assert_eq!(fetched.chunks[0].slice(16..), wanted[label].1);
            assert_eq!(fetched.end, next.plus(1));
        }
        world.sleep(Duration::from_millis(1)).await; // What was started meanwhile gets its turn.
    }
}

#[tokio::test(start_paused = true)]
async fn who_reads_all_partitions_of_a_segment_asks_for_it_once() {
    let world = cold_world(1);
    let (life, logs) = packed(&world).await;
    consume(&world, &logs).await;
    // Of the first segment nobody knows yet who else comes.
    let most = PARTITIONS as u64 + SEGMENTS - 1;
    assert!(
        loads(&life) <= most,
        "{} requests for {RUNS} runs in {SEGMENTS} segments",
        loads(&life)
    );
    let metrics = life.engine.metrics();
    let loaded = metrics.tail_load_bytes.get() + metrics.lagging_load_bytes.get();
    let stored: u64 = logs.iter().map(|(log, _)| log.size_bytes()).sum();
    assert_eq!(loaded, stored, "each byte came once");
    for (log, wanted) in &logs {
        assert_eq!(read_all(&world, log, Offset(0)).await, *wanted);
    }
}

#[tokio::test(start_paused = true)]
async fn who_reads_one_partition_gets_one() {
    let world = cold_world(2);
    let (life, logs) = packed(&world).await;
    consume(&world, &logs[3..4]).await;
    let metrics = life.engine.metrics();
    let loaded = metrics.tail_load_bytes.get() + metrics.lagging_load_bytes.get();
    assert_eq!(loaded, logs[3].0.size_bytes(), "and nothing of the others");
    assert_eq!(loads(&life), SEGMENTS);
}

#[tokio::test(start_paused = true)]
async fn without_room_to_read_ahead_each_run_is_asked_for() {
    let mut world = cold_world(3);
    world.options.block_cache_bytes.0 = 0;
    let (life, logs) = packed(&world).await;
    consume(&world, &logs).await;
    assert_eq!(loads(&life), RUNS);
}
