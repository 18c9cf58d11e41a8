//! What an idle partition costs.

use super::world::{World, acked, partition, produced};
use crate::log::PartitionLog;
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
