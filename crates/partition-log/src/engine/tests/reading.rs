//! Reads from memory, WAL and bucket, across their borders; lookups by time; damage.

use super::world::{World, acked, batch, batch_of, expected, partition, read_all};
use crate::log::ReadLimit;
use crate::read::{ReadError, TimestampedOffset};
use bucket::{Bucket, Faults, Purpose};
use bytes::Bytes;
use std::time::Duration;
use vocabulary::{ByteCount, LeaderEpoch, Offset, Timestamp};

const HIGH: ReadLimit = ReadLimit::HighWatermark;

#[tokio::test(start_paused = true)]
async fn every_offset_reads_the_batch_that_contains_it_wherever_it_lies() {
    let mut world = World::new(1);
    world.options.tail_cache_bytes.0 = 8 * 1024;
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    let mut batches = Vec::new();
    for label in 0..90u64 {
        if label == 30 {
            life.engine.flush_all().await;
        }
        let batch = batch(label, 1 + label as usize % 4, 400);
        let bytes = expected(&batch);
        let base = acked(&log, batch).await;
        batches.push((base.0, log.offsets().end.0, bytes));
    }
    let wal_before = life.engine.metrics().wal_read_bytes.get();
    for (base, end, bytes) in &batches {
        for offset in *base..*end {
            let fetched = log.read(Offset(offset), 1, true, HIGH).await.unwrap();
            assert_eq!(fetched.chunks.len(), 1);
            assert_eq!(fetched.chunks[0].slice(16..), bytes, "offset {offset}");
        }
    }
    assert!(wal_before < life.engine.metrics().wal_read_bytes.get(), "some came from the WAL");
    assert!(0 < life.engine.metrics().tail_span_misses.get(), "some came from the bucket");
    let end = log.offsets().end;
    assert_eq!(log.read(end, 100, true, HIGH).await.unwrap().bytes, 0);
    let beyond = log.read(end.plus(1), 100, true, HIGH).await;
    assert!(matches!(beyond, Err(ReadError::OffsetOutOfRange { .. })));
    let below = log.read(Offset(-1), 100, true, HIGH).await;
    assert!(matches!(below, Err(ReadError::OffsetOutOfRange { .. })));
}

#[tokio::test(start_paused = true)]
async fn one_read_goes_from_the_wal_into_memory() {
    let mut world = World::new(15);
    world.options.tail_cache_bytes.0 = 8 * 1024;
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    let mut batches = Vec::new();
    for label in 0..40 {
        let batch = batch(label, 1, 400);
        batches.push(expected(&batch));
        acked(&log, batch).await; // A group, and so a piece, of its own.
    }
    let from_wal = || life.engine.metrics().wal_read_bytes.get();
    let last = log.read(Offset(35), 1 << 20, true, HIGH).await.unwrap();
    assert_eq!((last.chunks.len(), from_wal()), (5, 0), "all in memory");
    let all = log.read(Offset(0), 1 << 20, true, HIGH).await.unwrap();
    assert!(0 < from_wal() && from_wal() < all.bytes as u64, "some from either");
    let read: Vec<_> = all.chunks.iter().map(|it| it.slice(16..)).collect();
    assert!(read == batches, "in order, and each once");
    assert_eq!(all.end, Offset(40));
}

#[tokio::test(start_paused = true)]
async fn limits_are_kept_but_for_the_first_batch() {
    let world = World::new(2);
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    for label in 0..10 {
        acked(&log, batch(label, 1, 400)).await;
    }
    for flushed in [false, true] {
        if flushed {
            life.engine.flush_all().await;
        }
        let one = log.read(Offset(0), 1, true, HIGH).await.unwrap();
        assert!(400 < one.bytes && one.bytes < 600);
        assert_eq!(log.read(Offset(0), 1, false, HIGH).await.unwrap().bytes, 0);
        assert_eq!(log.read(Offset(0), 0, false, HIGH).await.unwrap().bytes, 0);
        let three = log.read(Offset(0), one.bytes * 3 + 5, true, HIGH).await.unwrap();
        assert_eq!(three.bytes, one.bytes * 3);
        let all = log.read(Offset(2), usize::MAX, false, HIGH).await.unwrap();
        assert_eq!(all.bytes, one.bytes * 8);
    }
}

#[tokio::test(start_paused = true)]
async fn a_bad_day_of_the_bucket_is_waited_out() {
    let world = World::new(3);
    world.bucket.set_faults(Faults::bad_day());
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    let mut wanted = Vec::new();
    for label in 0..300u64 {
        let batch = batch(label, 1, 1000);
        let bytes = expected(&batch);
        wanted.push((acked(&log, batch).await.0, bytes));
    }
    life.engine.flush_all().await;
    assert_eq!(read_all(&world, &log, Offset(0)).await, wanted);
    world.check(&[partition(0)]).await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_bucket_is_unavailable_and_the_tail_stays_readable() {
    let world = World::new(4);
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    for label in 0..60 {
        acked(&log, batch(label, 1, 1000)).await;
    }
    life.engine.flush_all().await;
    let dead = Faults { failed_per_mille: 1000, ..Faults::NONE };
    world.bucket.set_faults(dead);
    acked(&log, batch(60, 1, 1000)).await;
    let cold = log.read(Offset(0), 1000, true, HIGH).await;
    assert_eq!(cold, Err(ReadError::Unavailable), "A9");
    assert!(0 < log.read(Offset(60), 1000, true, HIGH).await.unwrap().bytes);
    let slow = Faults { slow_per_mille: 1000, slow_max: Duration::from_secs(600), ..Faults::NONE };
    world.bucket.set_faults(slow);
    let before = world.environment.clock.now();
    let _ = log.read(Offset(0), 1000, true, HIGH).await;
    let took = world.environment.clock.now().since(before);
    assert!(took <= world.options.read_timeout * 3, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn damage_is_told_with_its_object_and_range_and_counted() {
    let mut world = World::new(5);
    world.options.tail_cache_bytes.0 = 0;
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    for label in 0..3 {
        acked(&log, batch(label, 1, 100)).await;
    }
    life.engine.flush_all().await;
    let run = world.runs.runs(partition(0))[0];
    let key = crate::segment_key(run.segment);
    let length = world.bucket.get_suffix(&key, 1, Purpose::ReadCold).await.unwrap().object_length;
    let mut bytes = world.bucket.get(&key, 0..length, Purpose::ReadCold).await.unwrap().to_vec();
    bytes[run.position as usize + 70] ^= 1;
    world.bucket.delete(&key, Purpose::Collection).await.unwrap();
    world.bucket.put_new(&key, vec![Bytes::from(bytes)], Purpose::Flush).await.unwrap();
    let read = log.read(Offset(0), 1000, true, HIGH).await;
    let Err(ReadError::Corrupt { object, range, .. }) = read else { panic!("{read:?}") };
    assert_eq!(object, key.to_string());
    assert_eq!(range, run.position..run.position + run.length);
    assert_eq!(life.engine.metrics().corrupt_reads.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn records_are_found_by_time_in_runs_and_tail() {
    let world = World::new(6);
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    let mut stamps = Vec::new();
    // Times go up and down: 10 records a batch, each a millisecond later than the one before.
    for label in 0..40u64 {
        if label == 20 {
            life.engine.flush_all().await;
        }
        let base = 1_000_000 + (label as i64 * 37) % 100 * 100;
        let offset = acked(&log, batch_of(None, label, 10, 100, base)).await;
        stamps.extend((0..10).map(|index| (offset.0 + index, base + index)));
    }
    log.delete_before(Offset(15)).await.unwrap();
    for target in (999_990..1_010_200).step_by(33) {
        let wanted = stamps.iter().find(|(offset, stamp)| 15 <= *offset && target <= *stamp);
        let found = log.offset_for_timestamp(Timestamp(target), HIGH).await.unwrap();
        let epoch = LeaderEpoch(1);
        let wanted = wanted.map(|(offset, stamp)| TimestampedOffset {
            offset: Offset(*offset),
            timestamp: Timestamp(*stamp),
            leader_epoch: epoch,
        });
        assert_eq!(found, wanted, "target {target}");
    }
    let latest = stamps.iter().map(|it| it.1).max().unwrap();
    let first = stamps.iter().find(|it| it.1 == latest).unwrap();
    let found = log.offset_of_max_timestamp(HIGH).await.unwrap().unwrap();
    assert_eq!((found.offset.0, found.timestamp.0), *first);
    let empty = world.host(&life, partition(1));
    assert_eq!(empty.offset_of_max_timestamp(HIGH).await.unwrap(), None);
    assert_eq!(empty.offset_for_timestamp(Timestamp(0), HIGH).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn many_readers_of_one_place_cost_one_request() {
    let mut world = World::new(7);
    world.options.tail_cache_bytes.0 = 0;
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    for label in 0..30 {
        acked(&log, batch(label, 1, 500)).await;
    }
    life.engine.flush_all().await;
    let slow = Faults { slow_per_mille: 1000, slow_max: Duration::from_secs(1), ..Faults::NONE };
    world.bucket.set_faults(slow);
    let reads = (0..50).map(|_| log.read(Offset(0), 100_000, true, HIGH));
    let fetched = futures::future::join_all(reads).await;
    assert!(fetched.iter().all(|it| it.as_ref().unwrap() == fetched[0].as_ref().unwrap()));
    let metrics = life.engine.metrics();
    assert_eq!(metrics.read_failures.get(), 0);
    assert!(fetched[0].as_ref().unwrap().chunks.len() <= 2, "spans are shared slices");
}

#[tokio::test(start_paused = true)]
async fn long_runs_are_read_span_by_span_and_ahead() {
    let mut world = World::new(8);
    world.options.tail_cache_bytes.0 = 0;
    world.options.flush_bytes = ByteCount::mib(64);
    world.options.unflushed_bytes_max = ByteCount::mib(64);
    world.options.segment_bytes_max = ByteCount::mib(16);
    world.file_bytes = ByteCount::mib(1);
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    let mut batches = Vec::new();
    for label in 0..60u64 {
        let batch = batch(label, 2, 50_000);
        let bytes = expected(&batch);
        let base = acked(&log, batch).await;
        batches.push((base.0, bytes));
    }
    life.engine.flush_all().await;
    assert_eq!(world.runs.runs(partition(0)).len(), 1);
    // From the middle, one batch at a time: each span is asked for once.
    for (base, bytes) in &batches[30..] {
        let fetched = log.read(Offset(*base), 1, true, HIGH).await.unwrap();
        assert_eq!(fetched.chunks[0].slice(16..), bytes);
        world.sleep(Duration::from_millis(1)).await; // Read-ahead gets its turn.
    }
    let metrics = life.engine.metrics();
    assert_eq!(metrics.tail_span_misses.get(), 1, "what follows was read ahead");
    assert_eq!(read_all(&world, &log, Offset(0)).await, batches);
    let all = log.read(Offset(0), usize::MAX, true, HIGH).await.unwrap();
    assert!((4..=7).contains(&all.chunks.len()), "about 1 MiB each: {}", all.chunks.len());
    assert_eq!(metrics.corrupt_reads.get(), 0);
}
