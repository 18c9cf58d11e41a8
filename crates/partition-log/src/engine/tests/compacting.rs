//! Of each key the newest record stays, at the offset it had.

use super::world::{Life, World, acked, partition, produced};
use crate::log::{Cleanup, LogSettings, PartitionLog, ProducerTable, ReadLimit};
use crate::merge::is_compacted;
use crate::read::{Class, Wanted};
use crate::segment::segment_key;
use crate::{CompactionOptions, ReadError};
use bucket::{Bucket, Purpose};
use bytes::Bytes;
use protocol::records::{Batch, BatchBuilder, Compression, batches, records};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use vocabulary::{ByteCount, Offset, ProducerId, Timestamp};

/// Longer than the backoff of compaction.
const COMPACTED: Duration = Duration::from_secs(40);

/// `None`: a tombstone.
pub(super) type Value = Option<Bytes>;

/// Records by offset, as a consumer sees them.
pub(super) type Seen = BTreeMap<i64, (Bytes, Value)>;

/// What is flushed is not active any more a moment later.
pub(super) fn settings() -> LogSettings {
    LogSettings {
        cleanup: Cleanup { delete: false, compact: true },
        segment_ms: 1,
        ..LogSettings::default()
    }
}

pub(super) fn world(seed: u64) -> World {
    let mut world = World::new(seed);
    world.settings = Arc::new(settings());
    world.options.merge.target_bytes = ByteCount::kib(32);
    world
}

pub(super) fn keyed(
    codec: Compression,
    producer: Option<(i64, i16, i32)>,
    now: Timestamp,
    pairs: &[(u8, Value)],
) -> Batch {
    let producer = producer.map(|(id, epoch, sequence)| (ProducerId(id), epoch, sequence));
    let mut builder = BatchBuilder::new(codec, producer);
    for (key, value) in pairs {
        builder.push(now, Some(&[*key]), value.as_deref(), &[]);
    }
    builder.build()
}

fn value(label: u64) -> Value {
    Some(Bytes::from(vec![label as u8; 20]))
}

async fn put(world: &World, log: &PartitionLog, pairs: &[(u8, Value)]) -> Offset {
    let now = world.environment.clock.wall();
    acked(log, keyed(Compression::None, None, now, pairs)).await
}

/// As a consumer reads: from `from` on, each fetch from behind the last batch of the one before.
pub(super) async fn consume(world: &World, log: &PartitionLog, from: Offset) -> Seen {
    let end = log.offsets().high_watermark;
    let (mut seen, mut next, mut failures) = (Seen::new(), from, 0);
    while next < end {
        match log.read(next, 2000, true, ReadLimit::HighWatermark).await {
            Ok(fetched) => {
                assert!(0 < fetched.bytes, "a reader gets further than {next}");
                let before = next;
                for (header, bytes) in fetched.chunks.into_iter().flat_map(|it| {
                    batches(it).map(|it| it.expect("whole batches come back")).collect::<Vec<_>>()
                }) {
                    assert!(next < header.end_offset(), "offsets grow");
                    next = header.end_offset();
                    if header.attributes.is_control() {
                        continue;
                    }
                    for record in records(&bytes, 1 << 20).expect("it opens") {
                        let record = record.expect("it is intact");
                        if from <= record.offset {
                            let key = record.key.unwrap_or_default();
                            seen.insert(record.offset.0, (key, record.value));
                        }
                    }
                }
                assert!(before < next);
            }
            Err(ReadError::Unavailable) => {
                failures += 1;
                assert!(failures < 1000, "reads never come back");
                world.sleep(Duration::from_millis(100)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
    seen
}

fn offsets(seen: &Seen) -> Vec<i64> {
    seen.keys().copied().collect()
}

async fn flush(life: &Life, world: &World) {
    life.engine.flush_all().await;
    world.sleep(Duration::from_millis(10)).await;
}

#[tokio::test(start_paused = true)]
async fn the_newest_of_each_key_stays_where_it_was() {
    let world = world(1);
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    for label in 0..20 {
        put(&world, &log, &[(label as u8 % 4, value(label)), (9, value(label))]).await;
        flush(&life, &world).await;
    }
    let before = log.size_bytes();
    world.sleep(COMPACTED).await;
    let seen = consume(&world, &log, Offset(0)).await;
    assert_eq!(offsets(&seen), [32, 34, 36, 38, 39]);
    assert_eq!(seen[&38], (Bytes::from_static(&[3]), value(19)));
    assert_eq!(consume(&world, &log, Offset(33)).await.len(), 4, "from inside of a gap");
    let runs = world.runs.runs(partition(0));
    assert_eq!((runs.len(), runs[0].base, runs[0].end), (1, Offset(0), Offset(40)));
    assert!(is_compacted(runs[0].segment) && log.size_bytes() < before / 2);
    // Where nobody here knows yet that the run is there, records from some offset on are read elsewhere.
    let limit = Offset(20);
    let wanted = Wanted { next: Offset(5), limit, left: 2000, must: true };
    let cut = life.engine.shared.reader.read_run(&runs[0], wanted, Class::Lagging).await;
    let cut = cut.expect("it is read").expect("it is there");
    assert_eq!((cut.chunks.len(), cut.end), (0, limit), "the gap ends at 32");
    let metrics = life.engine.metrics();
    assert_eq!(metrics.compaction_records_dropped.get(), 35);
    let written = metrics.compaction_written_bytes.get();
    world.sleep(Duration::from_secs(7200)).await;
    assert_eq!(metrics.compaction_written_bytes.get(), written, "nothing is left to do");
    world.check(&[partition(0)]).await;
}

#[tokio::test(start_paused = true)]
async fn tombstones_stay_for_their_time_and_go() {
    let mut world = world(2);
    world.settings = Arc::new(LogSettings { delete_retention_ms: 300_000, ..settings() });
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    put(&world, &log, &[(1, value(1)), (2, value(2))]).await;
    put(&world, &log, &[(1, None)]).await;
    flush(&life, &world).await;
    world.sleep(COMPACTED).await;
    assert_eq!(offsets(&consume(&world, &log, Offset(0)).await), [1, 2]);
    // Dirty enough for another pass, before the horizon and behind it.
    for (label, left) in [(5, vec![1, 2, 3]), (6, vec![1, 4])] {
        put(&world, &log, &[(3, value(label))]).await;
        flush(&life, &world).await;
        let lots = LogSettings { min_cleanable_dirty_ratio: 0.0, ..(*log.settings()).clone() };
        log.set_settings(Arc::new(lots));
        world.sleep(COMPACTED).await;
        assert_eq!(offsets(&consume(&world, &log, Offset(0)).await), left);
        world.sleep(Duration::from_secs(300)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_memory_does_not_hold_takes_more_passes() {
    let mut world = world(3);
    let dedupe_bytes = ByteCount(8 * 24);
    world.options.compaction = CompactionOptions { dedupe_bytes, ..Default::default() };
    world.options.segment_bytes_max = ByteCount::kib(64);
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    // One run with many more keys than there is room for, and some more.
    for round in 0..4 {
        for key in 0..40 {
            put(&world, &log, &[(key, value(round)), (key, value(round + 1))]).await;
        }
        if 0 < round {
            flush(&life, &world).await;
        }
    }
    world.sleep(COMPACTED).await;
    let seen = consume(&world, &log, Offset(0)).await;
    let wanted: Vec<i64> = (0..40).map(|it| 240 + 2 * it + 1).collect();
    assert_eq!(offsets(&seen), wanted);
    assert!(40 / 6 < life.engine.metrics().compaction_passes.get());
    assert!(world.runs.runs(partition(0)).iter().all(|it| is_compacted(it.segment)));
}

#[tokio::test(start_paused = true)]
async fn a_batch_with_too_many_keys_is_told_and_hurts_nobody_else() {
    let mut world = world(4);
    let dedupe_bytes = ByteCount(4 * 24);
    world.options.compaction = CompactionOptions { dedupe_bytes, ..Default::default() };
    let life = world.start().await;
    let logs = [0, 1].map(|it| world.host(&life, partition(it)));
    let many: Vec<_> = (0..40).map(|key| (key, value(1))).collect();
    put(&world, &logs[0], &many).await;
    for _ in 0..2 {
        put(&world, &logs[1], &[(1, value(1))]).await;
    }
    flush(&life, &world).await;
    world.sleep(COMPACTED).await;
    assert_eq!(consume(&world, &logs[0], Offset(0)).await.len(), 40);
    assert_eq!(offsets(&consume(&world, &logs[1], Offset(0)).await), [1]);
    assert_eq!(life.engine.metrics().uncleanable_partitions.get(), 1);
    // With more room it is cleaned at the next try.
    life.engine.set_compaction(CompactionOptions::default());
    world.sleep(Duration::from_secs(700)).await;
    assert_eq!(life.engine.metrics().uncleanable_partitions.get(), 0);
    assert!(is_compacted(world.runs.runs(partition(0))[0].segment));
}

#[tokio::test(start_paused = true)]
async fn what_is_damaged_stops_a_pass_before_anything_goes() {
    let world = world(5);
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    for label in 0..3 {
        put(&world, &log, &[(1, value(label))]).await;
        flush(&life, &world).await;
    }
    let runs = world.runs.runs(partition(0));
    let key = segment_key(runs[0].segment);
    let whole = world.bucket.get_suffix(&key, 1 << 20, Purpose::ReadCold).await.expect("there");
    let mut bytes = whole.bytes.to_vec();
    bytes[runs[0].position as usize + 80] ^= 1;
    world.bucket.delete(&key, Purpose::Collection).await.expect("it goes");
    world.bucket.put_new(&key, vec![Bytes::from(bytes)], Purpose::Flush).await.expect("it comes");
    world.sleep(COMPACTED).await;
    assert_eq!(world.runs.runs(partition(0)), runs);
    assert_eq!(life.engine.metrics().uncleanable_partitions.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn producers_outlive_their_records() {
    let world = world(6);
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    let now = world.environment.clock.wall();
    for sequence in 0..7 {
        let batch = keyed(Compression::None, Some((7, 0, sequence)), now, &[(1, value(1))]);
        acked(&log, batch).await;
    }
    put(&world, &log, &[(1, value(9))]).await;
    flush(&life, &world).await;
    world.sleep(COMPACTED).await;
    assert_eq!(offsets(&consume(&world, &log, Offset(0)).await), [7]);
    world.crash(life).await;
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    let retried = log.append(produced(7, 0, 4, 1), None).await.expect("it is known");
    assert_eq!((retried.base_offset, retried.duplicate), (Offset(4), true), "A5");
    let next = log.append(produced(7, 0, 7, 1), None).await.expect("it follows");
    assert!(!next.duplicate);
    let (as_of, table) = log.base_producers().await.expect("they are there");
    assert_eq!((as_of, table.states().len()), (Offset(8), 1));
    assert_ne!(table, ProducerTable::default());
}

#[tokio::test(start_paused = true)]
async fn young_records_and_what_was_never_flushed_wait() {
    let mut world = world(7);
    world.settings = Arc::new(LogSettings { min_compaction_lag_ms: 120_000, ..settings() });
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    for label in 0..2 {
        put(&world, &log, &[(1, value(label))]).await;
    }
    flush(&life, &world).await;
    world.sleep(COMPACTED).await;
    assert_eq!(consume(&world, &log, Offset(0)).await.len(), 2);
    world.sleep(Duration::from_secs(180)).await;
    put(&world, &log, &[(1, value(3))]).await;
    assert_eq!(offsets(&consume(&world, &log, Offset(0)).await), [1, 2], "the tail is active");
}

#[tokio::test(start_paused = true)]
async fn lookups_by_time_find_what_is_left() {
    let world = world(8);
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    let start = world.environment.clock.wall().0 - 1_000_000;
    // The record with the greatest time of all is compacted away.
    for (key, time) in [(1, 10), (2, 900), (3, 20), (2, 30), (1, 40)] {
        let at = Timestamp(start + time);
        acked(&log, keyed(Compression::None, None, at, &[(key, value(1))])).await;
        flush(&life, &world).await;
    }
    let find_latest = || log.offset_of_max_timestamp(ReadLimit::HighWatermark);
    let latest = find_latest().await.expect("it is there").expect("there is one");
    assert_eq!(latest.offset, Offset(1));
    world.sleep(COMPACTED).await;
    let latest = find_latest().await.expect("it is there").expect("there is one");
    assert_eq!((latest.offset, latest.timestamp.0), (Offset(4), start + 40));
    let find = |time| log.offset_for_timestamp(Timestamp(start + time), ReadLimit::HighWatermark);
    assert_eq!(find(10).await.expect("it is there").map(|it| it.offset), Some(Offset(2)));
    assert_eq!(find(25).await.expect("it is there").map(|it| it.offset), Some(Offset(3)));
    assert_eq!(find(41).await.expect("it is there"), None);
}
