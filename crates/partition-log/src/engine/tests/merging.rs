//! Small runs become large ones while everything else goes on.

use super::world::{Life, World, acked, append, batch, expected, partition, produced, read_all};
use crate::MergeOptions;
use crate::log::{LogSettings, PartitionLog, ProducerTable};
use crate::run_index::{Adoption, KeptProducers, RunCommit, RunDescription, RunIndex};
use crate::segment::{SegmentBuilder, segment_key};
use crate::wal::ledger::{MemoryWalLedger, WalId, WalKind, WalLedger};
use bucket::{Bucket, Faults, Key, Purpose};
use bytes::Bytes;
use environment::TaskKind;
use std::sync::Arc;
use std::time::Duration;
use vocabulary::{
    BrokerEpoch, BrokerId, ByteCount, LeaderEpoch, Offset, Partition, SegmentName, Timestamp,
};

/// Longer than the grace of garbage and the interval of its collection.
const GARBAGE_GONE: Duration = Duration::from_secs(120);

/// So small that a few flushes are worth a merge.
fn options() -> MergeOptions {
    MergeOptions { target_bytes: ByteCount::kib(32), fan_in: 4, ..MergeOptions::default() }
}

fn world(seed: u64) -> World {
    let mut world = World::new(seed);
    world.options.merge = options();
    world
}

/// Each of `rounds` flushes a batch of every partition. What [`read_all`] must give, by partition.
async fn flushes(
    life: &Life,
    logs: &[Arc<PartitionLog>],
    rounds: std::ops::Range<u64>,
    length: usize,
) -> Vec<Vec<(i64, Bytes)>> {
    let mut wanted = vec![Vec::new(); logs.len()];
    for round in rounds {
        for (log, wanted) in logs.iter().zip(&mut wanted) {
            let batch = batch(round, 2, length);
            let bytes = expected(&batch);
            wanted.push((acked(log, batch).await.0, bytes));
        }
        life.engine.flush_all().await;
    }
    wanted
}

async fn keys(world: &World, prefix: &str) -> Vec<Key> {
    let listed = world.bucket.list(&Key::new(prefix), None, 10_000).await.expect("it lists");
    listed.into_iter().map(|it| it.key).collect()
}

/// A7: what the bucket holds is what the metadata knows, and all of that is live.
async fn check_nothing_leaks(world: &World) {
    let known: Vec<Key> = world.runs.segments().into_iter().map(segment_key).collect();
    let mut found = keys(world, "data").await;
    found.extend(keys(world, "wal").await);
    for key in &found {
        assert!(known.contains(key), "A7: {key} is nobody's");
    }
    assert_eq!(found.len(), known.len());
}

#[tokio::test(start_paused = true)]
async fn small_runs_become_one_and_their_objects_go() {
    let world = world(1);
    let life = world.start().await;
    let partitions = [0, 1, 2].map(partition);
    let logs = partitions.map(|it| world.host(&life, it));
    let wanted = flushes(&life, &logs, 0..9, 200).await;
    let sizes = logs.each_ref().map(|it| it.size_bytes());
    world.sleep(Duration::from_secs(10)).await;
    for (at, partition) in partitions.into_iter().enumerate() {
        assert_eq!(world.runs.runs(partition).len(), 1, "A3: one run of nine");
        assert_eq!(read_all(&world, &logs[at], Offset(0)).await, wanted[at]);
    }
    assert_eq!(logs.each_ref().map(|it| it.size_bytes()), sizes);
    let metrics = life.engine.metrics();
    assert_eq!((metrics.segments_merged.get(), metrics.runs_merged.get()), (1, 27));
    assert!(metrics.merged_bytes.get() < 2 * metrics.flushed_bytes.get());
    world.sleep(GARBAGE_GONE).await;
    assert_eq!(keys(&world, "data").await.len(), 1);
    check_nothing_leaks(&world).await;
    world.check(&partitions).await;
    // Without anything new there is nothing to do, for hours.
    world.sleep(Duration::from_secs(4 * 3600)).await;
    assert_eq!(life.engine.metrics().segments_merged.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_larger_than_a_segment_in_memory_is_streamed() {
    let mut world = world(2);
    world.options.merge.target_bytes = ByteCount::kib(256);
    world.options.merge.fan_in = 64;
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    let wanted = flushes(&life, &[Arc::clone(&log)], 0..20, 6000).await;
    world.sleep(Duration::from_secs(10)).await;
    let runs = world.runs.runs(partition(0));
    assert!(world.options.segment_bytes_max.0 < runs[0].length, "{runs:?}");
    assert_eq!(read_all(&world, &log, Offset(0)).await, wanted[0]);
    world.sleep(GARBAGE_GONE).await;
    check_nothing_leaks(&world).await;
    world.check(&[partition(0)]).await;
}

#[tokio::test(start_paused = true)]
async fn producers_are_known_from_a_merged_run() {
    let world = world(3);
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    for sequence in 0..8 {
        acked(&log, produced(7, 0, sequence, 1)).await;
        life.engine.flush_all().await;
    }
    world.sleep(GARBAGE_GONE).await;
    assert_eq!(world.runs.runs(partition(0)).len(), 1);
    world.crash(life).await;
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    for sequence in 3..8 {
        let again = append(&log, produced(7, 0, sequence, 1)).await;
        assert_eq!((again.duplicate, again.base_offset), (true, Offset(i64::from(sequence))), "A5");
    }
    assert_eq!(acked(&log, produced(7, 0, 8, 1)).await, Offset(8));
}

#[tokio::test(start_paused = true)]
async fn leader_epochs_stay_apart_and_share_a_segment() {
    let world = world(4);
    for _ in 0..2 {
        let life = world.start().await;
        let log = world.host(&life, partition(0));
        // Not merged before the next leader comes.
        flushes(&life, &[log], 0..4, 100).await;
        world.crash(life).await;
    }
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    world.sleep(Duration::from_secs(30)).await;
    let runs = world.runs.runs(partition(0));
    let epochs: Vec<i32> = runs.iter().map(|it| it.leader_epoch.0).collect();
    assert_eq!(epochs, [1, 2]);
    assert_eq!(runs[0].segment, runs[1].segment);
    assert_eq!(log.epoch_at(Offset(7)), LeaderEpoch(1));
    assert_eq!(read_all(&world, &log, Offset(0)).await.len(), 8);
    world.check(&[partition(0)]).await;
}

/// Batches of a dead broker in its log in the bucket, one segment a batch, taken over where they lie.
async fn adopt(world: &World, ledger: &MemoryWalLedger, partition: Partition, sequences: i32) {
    let id = WalId { broker: BrokerId(9), epoch: BrokerEpoch(3) };
    ledger.register(id, WalKind::Bucket, &[]);
    let leader_epoch = LeaderEpoch(0);
    let (mut table, mut segments) = (ProducerTable::default(), Vec::new());
    for sequence in 0..sequences {
        let (broker, epoch) = (id.broker, id.epoch);
        let name = SegmentName::Wal { broker, epoch, sequence: sequence as u64 };
        let mut built = produced(7, 0, sequence, 1);
        built.stamp(Offset(i64::from(sequence)), leader_epoch);
        let (header, bytes) = built.freeze();
        table.replay(&crate::log::ProducedBatch::from(&header), Timestamp(0));
        let mut builder = SegmentBuilder::new(name);
        builder.push(partition, leader_epoch, &header, bytes);
        let segment = builder.finish();
        let (key, body) = (segment_key(name), segment.chunks.clone());
        world.bucket.put_new(&key, body, Purpose::Wal).await.expect("stored");
        let run = &segment.index.runs[0];
        let run = RunDescription {
            partition,
            leader_epoch,
            base: run.base,
            end: run.end,
            max_timestamp: run.max_timestamp,
            segment: name,
            position: run.position,
            length: run.length,
            crc: run.crc,
        };
        let (segment_bytes, created) = (segment.length, Timestamp(0));
        segments.push(RunCommit { segment: name, segment_bytes, created, runs: vec![run] });
    }
    let as_of = Offset(i64::from(sequences));
    let producers = vec![KeptProducers { partition, as_of, snapshot: table.encode() }];
    world.runs.create(partition);
    assert_eq!(world.runs.adopt(Adoption { segments, producers }).await, Ok(vec![]));
    let fence = SegmentName::Wal { broker: id.broker, epoch: id.epoch, sequence: sequences as u64 };
    let fence_bytes = vec![Bytes::from_static(b"a fence")];
    world.bucket.put_new(&segment_key(fence), fence_bytes, Purpose::Wal).await.expect("stored");
}

#[tokio::test(start_paused = true)]
async fn adopted_runs_leave_the_log_they_lie_in() {
    let world = world(5);
    let ledger = Arc::new(MemoryWalLedger::new());
    adopt(&world, &ledger, partition(0), 3).await;
    let life = world.start().await;
    life.engine.sweep_logs(Arc::<MemoryWalLedger>::clone(&ledger));
    let log = world.host(&life, partition(0));
    let before = read_all(&world, &log, Offset(0)).await;
    assert_eq!(before.len(), 3);
    world.sleep(Duration::from_secs(10)).await;
    let runs = world.runs.runs(partition(0));
    assert_eq!(runs.len(), 1);
    assert!(matches!(runs[0].segment, SegmentName::Data(_)), "first of all, however few");
    // Nobody has said that the log is over: a walk may still come by.
    world.sleep(GARBAGE_GONE).await;
    assert_eq!(keys(&world, "wal").await.len(), 4);
    let id = WalId { broker: BrokerId(9), epoch: BrokerEpoch(3) };
    ledger.closed(id, 3).await.expect("it answers");
    world.sleep(GARBAGE_GONE).await;
    let fence = SegmentName::Wal { broker: id.broker, epoch: id.epoch, sequence: 3 };
    assert_eq!(keys(&world, "wal").await, [segment_key(fence)], "A4: a fence stays");
    assert_eq!(read_all(&world, &log, Offset(0)).await, before);
    // A5: as of the end of what the dead broker acknowledged.
    world.crash(life).await;
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    let again = append(&log, produced(7, 0, 2, 1)).await;
    assert_eq!((again.duplicate, again.base_offset), (true, Offset(2)), "A5");
    assert_eq!(acked(&log, produced(7, 0, 3, 1)).await, Offset(3));
    life.engine.flush_all().await;
    world.check(&[partition(0)]).await;
}

#[tokio::test(start_paused = true)]
async fn lost_answers_and_a_bad_day_change_nothing() {
    for seed in 0..12 {
        let mut world = world(100 + seed);
        let settings = LogSettings { retention_bytes: Some(30_000), ..LogSettings::default() };
        world.settings = Arc::new(settings);
        world.options.retention_check_interval = Duration::from_secs(20);
        let life = world.start().await;
        let partitions = [0, 1, 2].map(partition);
        let logs = partitions.map(|it| world.host(&life, it));
        for round in 0..20 {
            match world.environment.entropy.below(4) {
                0 => world.bucket.set_faults(Faults::bad_day()),
                1 => world.runs.lose_answers(2),
                2 => world.runs.refuse_calls(2),
                _ => world.bucket.set_faults(Faults::NONE),
            }
            flushes(&life, &logs, round..round + 1, 300).await;
            world.sleep(Duration::from_secs(world.environment.entropy.below(12))).await;
            if round == 12 {
                // Perhaps in the middle of a merge.
                world.runs.delete(partitions[2]);
                life.engine.remove(partitions[2]);
                world.runs.create(partitions[2]);
                world.host(&life, partitions[2]);
                break;
            }
        }
        for round in 13..30 {
            flushes(&life, &logs[..2], round..round + 1, 300).await;
            world.sleep(Duration::from_secs(world.environment.entropy.below(12))).await;
        }
        world.bucket.set_faults(Faults::NONE);
        world.runs.lose_answers(0);
        world.runs.refuse_calls(0);
        world.sleep(Duration::from_secs(600)).await;
        world.check(&partitions).await;
        assert!(0 < life.engine.metrics().segments_merged.get(), "seed {seed}");
        assert_eq!(life.engine.health().damaged, [], "seed {seed}");
        for log in &logs[..2] {
            let start = log.offsets().log_start;
            let read = read_all(&world, log, start).await;
            let count = 30 - start.0 / 2;
            assert_eq!(read.len() as i64, count, "seed {seed}: two records a batch");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_damaged_segment_is_left_alone_and_the_others_are_merged() {
    let world = world(6);
    let life = world.start().await;
    let (bad, good) = (world.host(&life, partition(0)), world.host(&life, partition(1)));
    flushes(&life, &[bad], 0..3, 300).await;
    flushes(&life, &[good], 0..3, 300).await;
    // One byte of a batch of partition 0 rots; its index is as it was.
    let rotten = world.runs.runs(partition(0))[1];
    let key = segment_key(rotten.segment);
    let whole =
        world.bucket.get_suffix(&key, 1 << 20, Purpose::ReadCold).await.expect("it is there");
    let mut bytes = whole.bytes.to_vec();
    bytes[rotten.position as usize + 100] ^= 1;
    world.bucket.delete(&key, Purpose::Collection).await.expect("deleted");
    let put = world.bucket.put_new(&key, vec![Bytes::from(bytes)], Purpose::Flush);
    put.await.expect("stored");
    let logs = [partition(0), partition(1)].map(|it| life.engine.partition(it).expect("hosted"));
    flushes(&life, &logs, 3..6, 300).await;
    world.sleep(Duration::from_secs(600)).await;
    assert_eq!(world.runs.runs(partition(1)).len(), 1);
    let left = world.runs.runs(partition(0));
    assert!(left.contains(&rotten), "A6: it is not copied, and what refers to it is as it was");
    assert!(0 < life.engine.metrics().corrupt_reads.get());
    assert_eq!(left.len(), 3, "what lies before, the rotten one, and the four behind it in one");
}

#[tokio::test(start_paused = true)]
async fn a_reader_with_old_descriptions_looks_again() {
    let mut world = world(7);
    world.options.block_cache_bytes = ByteCount(1);
    world.options.tail_cache_bytes = ByteCount(0);
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    let wanted = flushes(&life, &[Arc::clone(&log)], 0..3, 300).await;
    // The reader knows where the runs are.
    assert_eq!(read_all(&world, &log, Offset(0)).await, wanted[0]);
    let more = flushes(&life, &[Arc::clone(&log)], 3..6, 300).await;
    let old: Vec<Key> =
        world.runs.runs(partition(0)).iter().map(|it| segment_key(it.segment)).collect();
    // Within the grace everything is where the reader believes it to be.
    world.sleep(Duration::from_secs(20)).await;
    assert_eq!(world.runs.runs(partition(0)).len(), 1, "merged");
    let there = keys(&world, "data").await;
    assert!(old.iter().all(|it| there.contains(it)), "A6: readers may be under way");
    // After it, the reader finds out and asks the metadata.
    world.sleep(GARBAGE_GONE).await;
    let there = keys(&world, "data").await;
    assert!(old.iter().all(|it| !there.contains(it)));
    let all: Vec<_> = wanted[0].iter().chain(&more[0]).cloned().collect();
    assert_eq!(read_all(&world, &log, Offset(0)).await, all);
    assert_eq!(life.engine.metrics().read_failures.get(), 0, "nobody was told of it");
}

#[tokio::test(start_paused = true)]
async fn merging_waits_while_flushes_fail_and_goes_on_after_that() {
    let world = world(8);
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    flushes(&life, &[Arc::clone(&log)], 0..6, 300).await;
    world.bucket.set_faults(Faults { failed_per_mille: 1000, ..Faults::NONE });
    acked(&log, batch(9, 1, 100)).await;
    let flushing = Arc::clone(&life.engine);
    let flush = async move { flushing.flush_all().await };
    let tasks = &world.environment.tasks;
    let flush = tasks.spawn(TaskKind::Background, "flush", flush);
    world.sleep(Duration::from_secs(60)).await;
    assert!(life.engine.health().flush_failing.is_some());
    assert_eq!(life.engine.metrics().merge_failures.get(), 0, "it does not even try");
    world.bucket.set_faults(Faults::NONE);
    flush.await.expect("it ends");
    world.sleep(Duration::from_secs(60)).await;
    assert_eq!(world.runs.runs(partition(0)).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn without_the_role_nothing_is_merged() {
    let mut world = world(9);
    world.options.merge.is_enabled = false;
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    flushes(&life, &[log], 0..9, 100).await;
    world.sleep(Duration::from_secs(2 * 3600)).await;
    assert_eq!(world.runs.runs(partition(0)).len(), 9);
}

/// Goal: when everything in it has expired, the bucket is empty, whoever shared segments with whom; and
/// what is kept longer does not keep it.
#[tokio::test(start_paused = true)]
async fn retention_frees_shared_segments() {
    let mut world = world(10);
    let short = LogSettings { retention_ms: Some(7_200_000), ..LogSettings::default() };
    world.settings = Arc::new(short.clone());
    let life = world.start().await;
    let logs: Vec<_> = (0..40).map(|index| world.host(&life, partition(index))).collect();
    let long = LogSettings { retention_ms: Some(10 * 7_200_000), ..short };
    logs.iter().skip(1).step_by(2).for_each(|it| it.set_settings(Arc::new(long.clone())));
    for round in 0..6u64 {
        for log in &logs {
            let now = world.environment.clock.wall().0;
            acked(log, super::world::batch_of(None, round, 2, 300, now)).await;
        }
        life.engine.flush_all().await;
    }
    world.sleep(GARBAGE_GONE).await;
    let merged = keys(&world, "data").await.len();
    assert!(merged <= 8, "{merged} segments of packed runs: {:?}", world.runs.runs(partition(0)));
    world.sleep(Duration::from_secs(7_200 + 1_200)).await;
    let is_empty = |index: i32| world.runs.runs(partition(index)).is_empty();
    assert!((0..40).all(|it| is_empty(it) == (it % 2 == 0)));
    let left = keys(&world, "data").await.len();
    assert!(left <= merged / 2 + 1, "those kept longer lie elsewhere: {left} of {merged}");
    world.sleep(Duration::from_secs(10 * 7_200)).await;
    assert!((0..40).all(is_empty));
    assert_eq!(keys(&world, "data").await, [], "A7");
    assert_eq!(world.runs.segments(), []);
}
