//! What an idle partition costs.

use super::world::{World, acked, partition, produced};
use crate::log::PartitionLog;
use std::sync::Arc;
use std::time::Duration;

/// DESIGN: an idle partition costs less than this. The test allows half of it for what lies inline
/// and on the heap of a partition that was written to, flushed, and is now idle.
const IDLE_BYTES_MAX: usize = 2048;

#[test]
fn a_partition_is_small_in_itself() {
    assert!(size_of::<PartitionLog>() < IDLE_BYTES_MAX / 4, "{}", size_of::<PartitionLog>());
}

#[tokio::test(start_paused = true)]
async fn a_flushed_partition_holds_no_room_for_what_is_gone() {
    let mut world = World::new(1);
    world.options.tail_cache_bytes.0 = 0;
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    for sequence in 0..100 {
        acked(&log, produced(7, 0, sequence, 1)).await;
    }
    life.engine.flush_all().await;
    world.sleep(Duration::from_secs(1)).await;
    let heap = log.heap_bytes();
    assert!(heap + size_of::<PartitionLog>() < IDLE_BYTES_MAX, "{heap}");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_engine_lets_go_of_its_partitions_and_trims_nothing_more() {
    let world = World::new(1);
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    acked(&log, produced(7, 0, 0, 1)).await;
    life.engine.flush_all().await;
    acked(&log, produced(7, 0, 1, 1)).await;
    // As a loop has it that a stop did not reach.
    let shared = Arc::clone(&life.engine.shared);
    let needed = shared.needed_sequence();
    assert!(0 < needed && 0 < shared.unflushed_bytes(), "something only the WAL has");
    let left = Arc::downgrade(&log);
    drop((log, life));
    assert!(left.upgrade().is_none(), "nobody has it any more");
    assert_eq!(shared.needed_sequence(), 0, "A1: the WAL keeps all of it");
}
