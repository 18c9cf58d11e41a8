//! Appending: offsets, duplicates, epochs, what durable means.

use super::world::{World, acked, append, batch, expected, partition, produced, read_all};
use crate::log::{AppendError, FetchWaiter, ReadLimit};
use crate::volume::MemoryFaults;
use std::sync::Arc;
use std::time::Duration;
use vocabulary::{LeaderEpoch, Offset};

#[tokio::test(start_paused = true)]
async fn offsets_are_dense_and_bytes_come_back() {
    let world = World::new(1);
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    let mut wanted = Vec::new();
    for label in 0..20 {
        let batch = batch(label, 1 + label as usize % 3, 50);
        let bytes = expected(&batch);
        let appended = append(&log, batch).await;
        wanted.push((appended.base_offset.0, bytes));
        appended.durable.await.unwrap();
    }
    assert_eq!(read_all(&world, &log, Offset(0)).await, wanted);
    let offsets = log.offsets();
    assert_eq!(offsets.high_watermark, offsets.end);
    assert_eq!(offsets.end, Offset(20 + 19));
    assert_eq!(log.end_of_epoch(LeaderEpoch(1)), Some((LeaderEpoch(1), offsets.end)));
}

#[tokio::test(start_paused = true)]
async fn nothing_above_the_durable_end_is_served() {
    let world = World::new(2);
    let latency_max = Duration::from_millis(500);
    world.volume.set_faults(MemoryFaults { latency_max, ..Default::default() });
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    let waiter = Arc::new(FetchWaiter::new());
    let guard = log.watch(&waiter);
    let appended = append(&log, batch(1, 2, 50)).await;
    assert_eq!((log.offsets().high_watermark, log.offsets().end), (Offset(0), Offset(2)));
    assert_eq!(log.bytes_available(Offset(0), ReadLimit::HighWatermark, 1), 0);
    let fetched = log.read(Offset(0), 1000, true, ReadLimit::HighWatermark).await.unwrap();
    assert_eq!(fetched.bytes, 0, "A2");
    waiter.woken().await;
    assert_eq!(log.offsets().high_watermark, Offset(2));
    assert!(0 < log.bytes_available(Offset(0), ReadLimit::HighWatermark, 1));
    appended.durable.await.unwrap();
    drop(guard);
}

#[tokio::test(start_paused = true)]
async fn a_repeated_batch_gets_its_first_offset_and_waits_for_it() {
    let world = World::new(3);
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    let latency_max = Duration::from_millis(500);
    world.volume.set_faults(MemoryFaults { latency_max, ..Default::default() });
    let first = append(&log, produced(7, 0, 0, 3)).await;
    let again = append(&log, produced(7, 0, 0, 3)).await;
    assert!(again.duplicate && !first.duplicate);
    assert_eq!((again.base_offset, again.end_offset), (first.base_offset, first.end_offset));
    assert_eq!(log.offsets().high_watermark, Offset(0), "A1: not acknowledged yet");
    again.durable.await.unwrap();
    assert_eq!(log.offsets().high_watermark, Offset(3));
    first.durable.await.unwrap();
    assert_eq!(log.offsets().end, Offset(3));
}

#[tokio::test(start_paused = true)]
async fn sequences_epochs_and_leaders_are_checked() {
    let world = World::new(4);
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    acked(&log, produced(7, 1, 0, 3)).await;
    let gap = log.append(produced(7, 1, 4, 1), None).await.unwrap_err();
    assert_eq!(gap, AppendError::OutOfOrderSequence { expected: 3, sequence: 4 });
    let stale = log.append(produced(7, 0, 0, 1), None).await.unwrap_err();
    assert_eq!(stale, AppendError::StaleProducerEpoch { epoch: 0, current: 1 });
    let wrong = log.append(batch(1, 1, 50), Some(LeaderEpoch(9))).await.unwrap_err();
    let current = LeaderEpoch(1);
    assert_eq!(wrong, AppendError::WrongLeaderEpoch { expected: LeaderEpoch(9), current });
    assert_eq!(acked(&log, produced(7, 1, 3, 1)).await, Offset(3));
    assert_eq!(log.producer_states().await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn partitions_do_not_wait_for_each_other_and_many_appends_share_a_group() {
    let world = World::new(5);
    let life = world.start().await;
    let logs: Vec<_> = (0..10).map(|index| world.host(&life, partition(index))).collect();
    let mut waits = Vec::new();
    for label in 0..200u64 {
        let log = &logs[label as usize % 10];
        waits.push(append(log, batch(label, 1, 100)).await.durable);
    }
    for wait in waits {
        wait.await.unwrap();
    }
    assert!(logs.iter().all(|log| log.offsets().high_watermark == Offset(20)));
    assert_eq!(life.engine.metrics().appended_batches.get(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_failing_disk_acknowledges_nothing_and_recovers() {
    let world = World::new(6);
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    acked(&log, batch(1, 1, 50)).await;
    world.volume.set_faults(MemoryFaults { sync_fails_per_mille: 1000, ..Default::default() });
    let appended = append(&log, batch(2, 1, 50)).await;
    world.sleep(Duration::from_secs(30)).await;
    assert_eq!(log.offsets().high_watermark, Offset(1), "A1");
    assert!(life.engine.health().problem().is_some());
    world.volume.set_faults(MemoryFaults::default());
    appended.durable.await.unwrap();
    assert_eq!(life.engine.health().problem(), None);
}

#[tokio::test(start_paused = true)]
async fn a_removed_partition_fails_its_waiters_and_frees_its_budgets() {
    let world = World::new(7);
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    acked(&log, batch(1, 1, 50)).await;
    let latency_max = Duration::from_millis(500);
    world.volume.set_faults(MemoryFaults { latency_max, ..Default::default() });
    let appended = append(&log, batch(2, 1, 50)).await;
    let waiter = Arc::new(FetchWaiter::new());
    let _guard = log.watch(&waiter);
    life.engine.remove(partition(0));
    assert_eq!(appended.durable.await, Err(AppendError::Removed));
    waiter.woken().await;
    assert_eq!(log.append(batch(3, 1, 50), None).await.unwrap_err(), AppendError::Removed);
    assert!(life.engine.partition(partition(0)).is_none());
    assert_eq!(life.engine.health().unflushed.0, 0);
    world.sleep(Duration::from_secs(5)).await; // The WAL answers for a partition that is gone.
    assert_eq!(life.engine.health().unflushed.0, 0);
}

#[tokio::test(start_paused = true)]
async fn stopping_refuses_appends_and_unanswered_ones_are_unknown() {
    let world = World::new(8);
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    acked(&log, batch(1, 1, 50)).await;
    world.volume.set_faults(MemoryFaults { sync_fails_per_mille: 1000, ..Default::default() });
    let appended = append(&log, batch(2, 1, 50)).await;
    life.engine.shutdown().await;
    assert_eq!(appended.durable.await, Err(AppendError::Unknown), "A4");
    assert!(log.append(batch(3, 1, 50), None).await.is_err());
    assert_eq!(log.offsets().high_watermark, Offset(1));
}

#[tokio::test(start_paused = true)]
async fn appends_wait_while_too_much_is_unflushed() {
    let mut world = World::new(9);
    world.options.unflushed_bytes_max = world.options.flush_bytes;
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    world.runs.refuse_calls(usize::MAX);
    let mut waits = Vec::new();
    while !life.engine.health().is_full {
        waits.push(append(&log, batch(1, 1, 4000)).await.durable);
        tokio::task::yield_now().await;
        world.sleep(Duration::from_millis(1)).await;
    }
    for wait in waits {
        wait.await.unwrap();
    }
    let late = tokio::time::timeout(Duration::from_secs(60), log.append(batch(2, 1, 50), None));
    assert!(late.await.is_err(), "A9: it waits, it does not fail");
    assert!(life.engine.health().problem().is_some());
    world.runs.refuse_calls(0);
    acked(&log, batch(2, 1, 50)).await;
    assert_eq!(life.engine.health().problem(), None);
}
