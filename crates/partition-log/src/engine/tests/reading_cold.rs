//! Cold data: requests counted, shares kept apart, neighbours spared by damage.

use super::world::{Life, World, acked, batch, batch_of, expected, partition, read_all};
use crate::log::{PartitionLog, ReadLimit};
use crate::read::ReadError;
use bucket::{Bucket, Faults, Key, Purpose};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use vocabulary::{ByteCount, Offset, SegmentName, Timestamp};

const HIGH: ReadLimit = ReadLimit::HighWatermark;
const MIB: usize = 1024 * 1024;

/// Few, large runs, nothing of them in memory once they are flushed.
fn cold_world(seed: u64, run_mib: u64) -> World {
    let mut world = World::new(seed);
    world.options.tail_cache_bytes.0 = 0;
    world.options.flush_bytes = ByteCount::mib(512);
    world.options.unflushed_bytes_max = ByteCount::mib(512);
    world.options.segment_bytes_max = ByteCount::mib(run_mib);
    world.options.own_segment_bytes_min = ByteCount::mib(1);
    world.file_bytes = ByteCount::mib(1);
    world
}

/// A partition of `batches` batches of `bytes` each, all flushed.
async fn filled(
    world: &World,
    life: &Life,
    batches: u64,
    bytes: usize,
) -> (Arc<PartitionLog>, Vec<(i64, Bytes)>) {
    let log = world.host(life, partition(0));
    let mut wanted = Vec::new();
    for label in 0..batches {
        let batch = batch(label, 1, bytes - 100);
        let bytes = expected(&batch);
        wanted.push((acked(&log, batch).await.0, bytes));
    }
    life.engine.flush_all().await;
    (log, wanted)
}

/// Reads on as a consumer does; the offset behind what came.
async fn step(world: &World, log: &PartitionLog, next: Offset, bytes_max: usize) -> Offset {
    let fetched = log.read(next, bytes_max, true, HIGH).await.expect("the bucket works");
    world.sleep(Duration::from_millis(1)).await; // What was started meanwhile gets its turn.
    let batches = fetched.chunks.into_iter().flat_map(protocol::records::batches);
    let last = batches.last().expect("not at the end").expect("whole batches");
    last.0.end_offset()
}

async fn rewrite(world: &World, key: &Key, change: impl FnOnce(&mut Vec<u8>)) {
    let suffix = world.bucket.get_suffix(key, u64::MAX, Purpose::Collection).await.unwrap();
    let mut bytes = suffix.bytes.to_vec();
    change(&mut bytes);
    world.bucket.delete(key, Purpose::Collection).await.unwrap();
    world.bucket.put_new(key, vec![Bytes::from(bytes)], Purpose::Flush).await.unwrap();
}

// Goal: requests per GiB of a scan, counted. Two runs of 64 MiB, as a leader with one busy partition
// writes them; a consumer that takes 1 MiB at a time.
#[tokio::test(start_paused = true)]
async fn a_cold_scan_costs_few_requests() {
    let world = cold_world(1, 64);
    let life = world.start().await;
    let (log, wanted) = filled(&world, &life, 128, MIB).await;
    assert!(world.runs.runs(partition(0)).len() <= 3);
    let mut next = Offset(0);
    while next < log.offsets().high_watermark {
        next = step(&world, &log, next, MIB).await;
    }
    let metrics = life.engine.metrics();
    let loads = metrics.tail_loads.get() + metrics.lagging_loads.get();
    let bytes: u64 = wanted.iter().map(|it| it.1.len() as u64 + 16).sum();
    let per_gib = loads * (1 << 30) / bytes;
    assert!(per_gib <= 256, "{per_gib} GETs per GiB: {loads} for {bytes} bytes");
    let loaded = metrics.tail_load_bytes.get() + metrics.lagging_load_bytes.get();
    assert!(loaded < bytes + bytes / 50, "nothing is read twice: {loaded} of {bytes}");
    assert!(metrics.lagging_span_misses.get() < 10, "the reader hardly ever waits");
}

#[tokio::test(start_paused = true)]
async fn many_readers_of_the_same_cold_data_cost_one_set_of_requests() {
    for (seed, behind) in [(2, 0), (3, 1), (4, 2)] {
        let mut world = cold_world(seed, 64);
        world.options.block_cache_bytes = ByteCount::mib(64);
        let life = world.start().await;
        let (log, wanted) = filled(&world, &life, 48, MIB).await;
        let bytes: u64 = wanted.iter().map(|it| it.1.len() as u64 + 16).sum();
        let end = log.offsets().high_watermark;
        // Each reader starts `behind` steps after the one before.
        let mut readers = [Offset(0); 8];
        let mut round = 0;
        while readers[7] < end {
            for (at, next) in readers.iter_mut().enumerate() {
                if at * behind <= round && *next < end {
                    *next = step(&world, &log, *next, MIB).await;
                }
            }
            round += 1;
        }
        let metrics = life.engine.metrics();
        let loaded = metrics.tail_load_bytes.get() + metrics.lagging_load_bytes.get();
        let loads = metrics.tail_loads.get() + metrics.lagging_loads.get();
        assert!(loaded <= bytes + bytes / 20, "{behind} steps apart: {loaded} of {bytes}");
        assert!(loads <= 48, "{behind} steps apart: {loads} requests for 48 MiB");
    }
}

#[tokio::test(start_paused = true)]
async fn a_point_read_loads_one_span() {
    let world = cold_world(5, 64);
    let life = world.start().await;
    let (log, wanted) = filled(&world, &life, 400, MIB / 10).await;
    for (number, at) in [177, 3, 399, 260].into_iter().enumerate() {
        let fetched = log.read(Offset(at), 1, true, HIGH).await.unwrap();
        assert_eq!(fetched.chunks[0].slice(16..), wanted[at as usize].1);
        world.sleep(Duration::from_millis(10)).await;
        let metrics = life.engine.metrics();
        let loaded = metrics.tail_load_bytes.get() + metrics.lagging_load_bytes.get();
        assert!(loaded < (number as u64 + 1) * 3 * MIB as u64 / 2, "{loaded} after {number}");
        assert_eq!(metrics.tail_loads.get() + metrics.lagging_loads.get(), number as u64 + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_backfill_takes_nothing_from_the_readers_of_the_tail() {
    let mut world = cold_world(6, 16);
    world.options.block_cache_bytes = ByteCount::mib(16);
    let life = world.start().await;
    let (log, _) = filled(&world, &life, 80, MIB).await;
    let tail = Offset(log.offsets().high_watermark.0 - 4);
    for _ in 0..3 {
        log.read(tail, 3 * MIB, true, HIGH).await.unwrap();
    }
    let metrics = life.engine.metrics();
    let before = metrics.tail_loads.get();
    let mut next = Offset(0);
    while next < Offset(60) {
        next = step(&world, &log, next, MIB).await;
        let hits = metrics.tail_span_hits.get();
        let fetched = log.read(tail, 2 * MIB, true, HIGH).await.unwrap();
        assert!(MIB < fetched.bytes && hits < metrics.tail_span_hits.get());
    }
    assert_eq!(metrics.tail_loads.get(), before, "the tail's spans stayed");
    assert!(0 < metrics.lagging_loads.get());
}

#[tokio::test(start_paused = true)]
async fn a_cache_on_disk_serves_what_memory_had_to_drop() {
    let directory = tempfile::tempdir().unwrap();
    let mut world = cold_world(7, 64);
    world.options.block_cache_bytes = ByteCount::mib(8);
    world.options.disk_cache_dir = Some(directory.path().to_owned());
    world.options.disk_cache_bytes = ByteCount::mib(64);
    let life = world.start().await;
    let (log, wanted) = filled(&world, &life, 40, MIB).await;
    let metrics = life.engine.metrics();
    assert_eq!(read_all(&world, &log, Offset(0)).await, wanted);
    let (loads, bytes) = (metrics.lagging_loads.get(), metrics.lagging_load_bytes.get());
    assert!(0 < loads && 0 < bytes);
    world.sleep(Duration::from_secs(1)).await;
    assert_eq!(read_all(&world, &log, Offset(0)).await, wanted);
    assert!(20 < metrics.disk_cache_hits.get());
    let again = metrics.lagging_load_bytes.get() - bytes;
    assert!(again < bytes / 10, "{again} of {bytes} bytes came from the bucket again");
    // A disk that goes bad is a slower read, never a failed one.
    let file = std::fs::OpenOptions::new().write(true).open(directory.path().join("spans.cache"));
    file.unwrap().set_len(0).unwrap();
    assert_eq!(read_all(&world, &log, Offset(0)).await, wanted);
    assert!(0 < metrics.disk_cache_failures.get());
    assert_eq!((metrics.read_failures.get(), metrics.corrupt_reads.get()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_cache_directory_that_cannot_be_used_costs_only_the_cache() {
    let mut world = cold_world(8, 64);
    world.options.disk_cache_dir = Some("/proc/no/such/place".into());
    world.options.disk_cache_bytes = ByteCount::mib(1);
    let life = world.start().await;
    let (log, wanted) = filled(&world, &life, 3, MIB).await;
    assert_eq!(read_all(&world, &log, Offset(0)).await, wanted);
}

// Goal: A6 for every part of an object. A flipped bit is told with object and range, counted, and
// costs no other offset than it must: a block its span, an index its segment.
#[tokio::test(start_paused = true)]
async fn a_flipped_bit_in_a_block_costs_its_span() {
    let world = cold_world(9, 64);
    let life = world.start().await;
    let (log, wanted) = filled(&world, &life, 24, MIB / 2).await;
    let run = world.runs.runs(partition(0))[0];
    let key = crate::segment_key(run.segment);
    rewrite(&world, &key, |bytes| bytes[run.position as usize + 5 * MIB] ^= 4).await;
    let mut damaged = 0;
    for (base, bytes) in &wanted {
        match log.read(Offset(*base), MIB, true, HIGH).await {
            Ok(fetched) => assert_eq!(fetched.chunks[0].slice(16..16 + bytes.len()), bytes),
            Err(ReadError::Corrupt { object, range, .. }) => {
                assert_eq!(object, key.to_string());
                assert!(range.contains(&(run.position + 5 * MIB as u64)), "{range:?}");
                assert!(range.end - range.start < 3 * MIB as u64, "a span: {range:?}");
                damaged += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!((1..=4).contains(&damaged), "{damaged} of 24 batches");
    assert!(damaged <= life.engine.metrics().corrupt_reads.get());
    // What lies before the damage is returned, the trouble comes with the next read.
    let fetched = log.read(Offset(0), usize::MAX, true, HIGH).await.unwrap();
    assert!(3 * MIB < fetched.bytes && fetched.bytes < 6 * MIB);
}

#[tokio::test(start_paused = true)]
async fn a_flipped_bit_in_index_or_footer_costs_its_segment() {
    for (seed, from_end) in [(10, 1), (11, 6), (12, 20), (13, 39), (14, 41), (15, 60)] {
        let mut world = cold_world(seed, 64);
        world.options.index_cache_bytes.0 = 0;
        let life = world.start().await;
        let (log, _) = filled(&world, &life, 2, 1000).await;
        let last = acked(&log, batch(7, 1, 500)).await;
        life.engine.flush_all().await;
        let run = world.runs.runs(partition(0))[0];
        let key = crate::segment_key(run.segment);
        rewrite(&world, &key, |bytes| {
            let at = bytes.len() - from_end;
            bytes[at] ^= 16;
        })
        .await;
        let read = log.read(Offset(0), MIB, true, HIGH).await;
        let Err(ReadError::Corrupt { object, range, .. }) = read else { panic!("{read:?}") };
        assert_eq!(object, key.to_string());
        assert!(!range.is_empty());
        assert_eq!(life.engine.metrics().corrupt_reads.get(), 1);
        assert!(0 < log.read(last, MIB, true, HIGH).await.unwrap().bytes, "another segment");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cut_object_is_corrupt_and_a_missing_one_unavailable() {
    let world = cold_world(16, 64);
    let life = world.start().await;
    let (log, _) = filled(&world, &life, 8, MIB).await;
    let run = world.runs.runs(partition(0))[0];
    let key = crate::segment_key(run.segment);
    rewrite(&world, &key, |bytes| bytes.truncate(3 * MIB)).await;
    let read = log.read(Offset(6), MIB, true, HIGH).await;
    let Err(ReadError::Corrupt { object, .. }) = read else { panic!("{read:?}") };
    assert_eq!(object, key.to_string());
    world.bucket.delete(&key, Purpose::Collection).await.unwrap();
    assert_eq!(log.read(Offset(6), MIB, true, HIGH).await, Err(ReadError::Unavailable));
}

// Goal: requests that a tail reader waits for are made twice when the answer is late, but only a few.
#[tokio::test(start_paused = true)]
async fn late_answers_are_asked_for_twice_within_a_share() {
    let mut world = cold_world(17, 64);
    world.options.block_cache_bytes.0 = 0;
    let life = world.start().await;
    let (log, _) = filled(&world, &life, 4, 1000).await;
    for _ in 0..100 {
        log.read(Offset(1), 1, true, HIGH).await.unwrap();
    }
    let metrics = life.engine.metrics();
    assert_eq!(metrics.hedged_reads.get(), 0, "the store was quick");
    let slow = Faults { slow_per_mille: 300, slow_max: Duration::from_secs(2), ..Faults::NONE };
    world.bucket.set_faults(slow);
    for _ in 0..100 {
        log.read(Offset(1), 1, true, HIGH).await.unwrap();
    }
    let hedged = metrics.hedged_reads.get();
    assert!((3..=11).contains(&hedged), "{hedged} of 100 and what was saved up");
}

// Goal: the steps that lookups use stay right while runs come, the log start moves and times jump.
#[tokio::test(start_paused = true)]
async fn lookups_by_time_stay_right_while_the_log_moves() {
    let mut world = World::new(18);
    world.options.tail_cache_bytes.0 = 0;
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    let mut stamps: Vec<(i64, i64)> = Vec::new();
    for round in 0..12i64 {
        for label in 0..5i64 {
            let base = 1_000_000 + (round * 500 + label * 7919 % 3000) % 4000;
            let batch = batch_of(None, (round * 10 + label) as u64, 3, 50, base);
            let offset = acked(&log, batch).await;
            stamps.extend((0..3).map(|index| (offset.0 + index, base + index)));
        }
        if round % 4 != 3 {
            life.engine.flush_all().await;
        }
        if round % 3 == 2 {
            log.delete_before(Offset(round * 11)).await.unwrap();
        }
        let start = log.offsets().log_start.0;
        let live = || stamps.iter().filter(|it| start <= it.0);
        for target in (1_000_000..1_004_100).step_by(61) {
            let wanted = live().find(|it| target <= it.1).map(|it| it.0);
            let found = log.offset_for_timestamp(Timestamp(target), HIGH).await.unwrap();
            assert_eq!(found.map(|it| it.offset.0), wanted, "round {round}, target {target}");
        }
        let latest = live().map(|it| it.1).max().unwrap();
        let first = live().find(|it| it.1 == latest).unwrap();
        let found = log.offset_of_max_timestamp(HIGH).await.unwrap().unwrap();
        assert_eq!((found.offset.0, found.timestamp.0), *first, "round {round}");
    }
    // Known by now: no question but for the run itself.
    assert!(matches!(world.runs.runs(partition(0))[0].segment, SegmentName::Data(_)));
}
