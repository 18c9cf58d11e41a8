//! Tails become data segments; nothing is lost, nothing is told twice.

use super::world::{World, acked, append, batch, expected, partition, produced, read_all};
use crate::log::AppendError;
use crate::run_index::RunIndex;
use std::time::Duration;
use vocabulary::{LeaderEpoch, Offset};

#[tokio::test(start_paused = true)]
async fn a_flush_commits_runs_and_frees_the_wal() {
    let world = World::new(1);
    let life = world.start().await;
    let logs: Vec<_> = (0..3).map(|index| world.host(&life, partition(index))).collect();
    let mut wanted = vec![Vec::new(); 3];
    for label in 0..120u64 {
        let batch = batch(label, 2, 300);
        let bytes = expected(&batch);
        let base = acked(&logs[label as usize % 3], batch).await;
        wanted[label as usize % 3].push((base.0, bytes));
    }
    life.engine.flush_all().await;
    assert_eq!(life.engine.health().unflushed.0, 0);
    for (index, log) in logs.iter().enumerate() {
        assert_eq!(log.offsets().committed_end, log.offsets().end);
        assert_eq!(
            log.size_bytes(),
            world.runs.runs(partition(index as i32)).iter().map(|it| it.length).sum::<u64>()
        );
        assert_eq!(read_all(&world, log, Offset(0)).await, wanted[index]);
    }
    world.check(&[partition(0), partition(1), partition(2)]).await;
    life.engine.shutdown().await;
    let life = world.start().await;
    let unhosted = life.engine.recovered_unhosted();
    assert!(unhosted.iter().all(|it| it.sequence > 0), "the WAL was trimmed: {unhosted:?}");
    let log = world.host(&life, partition(1));
    assert_eq!(read_all(&world, &log, Offset(0)).await, wanted[1]);
}

#[tokio::test(start_paused = true)]
async fn age_and_size_start_a_flush() {
    let world = World::new(2);
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    acked(&log, batch(1, 1, 100)).await;
    world.sleep(Duration::from_secs(50)).await;
    assert_eq!(log.offsets().committed_end, Offset(0));
    world.sleep(Duration::from_secs(15)).await;
    assert_eq!(log.offsets().committed_end, Offset(1), "by age");
    for label in 0..20 {
        acked(&log, batch(label, 1, 4000)).await;
    }
    world.sleep(Duration::from_secs(1)).await;
    assert!(Offset(10) < log.offsets().committed_end, "by size");
    world.check(&[partition(0)]).await;
}

#[tokio::test(start_paused = true)]
async fn large_partitions_get_their_own_segment_and_small_ones_share() {
    let world = World::new(3);
    let life = world.start().await;
    let logs: Vec<_> = (0..4).map(|index| world.host(&life, partition(index))).collect();
    for log in &logs {
        acked(log, batch(1, 1, 100)).await;
    }
    for label in 0..5 {
        acked(&logs[2], batch(label, 1, 2000)).await;
    }
    life.engine.flush_all().await;
    let segment = |index: i32| world.runs.runs(partition(index))[0].segment;
    assert_eq!(segment(0), segment(1));
    assert_eq!(segment(0), segment(3));
    assert_ne!(segment(0), segment(2));
    assert_eq!(world.runs.segments().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn answers_that_get_lost_are_found_out() {
    let world = World::new(4);
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    acked(&log, produced(7, 0, 0, 2)).await;
    world.runs.lose_answers(1);
    life.engine.flush_all().await;
    assert_eq!(log.offsets().committed_end, Offset(2));
    assert_eq!(world.runs.runs(partition(0)).len(), 1, "A3: committed once");
    assert_eq!(acked(&log, produced(7, 0, 2, 1)).await, Offset(2));
    world.runs.refuse_calls(3);
    life.engine.flush_all().await;
    assert_eq!(log.offsets().committed_end, Offset(3));
    assert_eq!(life.engine.health().flush_failing, None);
    world.check(&[partition(0)]).await;
}

#[tokio::test(start_paused = true)]
async fn duplicates_are_known_across_flush_and_restart() {
    let world = World::new(5);
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    for sequence in 0..4 {
        acked(&log, produced(7, 0, sequence, 1)).await;
    }
    life.engine.flush_all().await;
    for sequence in 4..6 {
        acked(&log, produced(7, 0, sequence, 1)).await;
    }
    world.crash(life).await;
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    for sequence in 1..6 {
        let again = append(&log, produced(7, 0, sequence, 1)).await;
        assert_eq!((again.duplicate, again.base_offset), (true, Offset(i64::from(sequence))), "A5");
        again.durable.await.unwrap();
    }
    let old = log.append(produced(7, 0, 0, 1), None).await.unwrap_err();
    assert_eq!(old, AppendError::OutOfOrderSequence { expected: 6, sequence: 0 });
    // A partition written by others only carries the producers on, too.
    life.engine.flush_all().await;
    let life = {
        world.crash(life).await;
        world.start().await
    };
    let log = world.host(&life, partition(0));
    acked(&log, batch(1, 1, 50)).await;
    life.engine.flush_all().await;
    world.crash(life).await;
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    assert_eq!(append(&log, produced(7, 0, 5, 1)).await.base_offset, Offset(5), "A5");
    assert_eq!(acked(&log, produced(7, 0, 6, 1)).await, Offset(7));
}

#[tokio::test(start_paused = true)]
async fn a_run_holds_one_leader_epoch() {
    let world = World::new(6);
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    acked(&log, batch(1, 2, 50)).await;
    world.crash(life).await;
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    acked(&log, batch(2, 3, 50)).await;
    life.engine.flush_all().await;
    let runs = world.runs.runs(partition(0));
    let shown: Vec<_> = runs.iter().map(|it| (it.leader_epoch.0, it.base.0, it.end.0)).collect();
    assert_eq!(shown, [(1, 0, 2), (2, 2, 5)]);
    assert_eq!(log.end_of_epoch(LeaderEpoch(1)), Some((LeaderEpoch(1), Offset(2))));
    assert_eq!(log.end_of_epoch(LeaderEpoch(2)), Some((LeaderEpoch(2), Offset(5))));
    assert_eq!(log.epoch_at(Offset(1)), LeaderEpoch(1));
    assert_eq!(log.epoch_at(Offset(5)), LeaderEpoch(2));
}

/// Goal: a commit of runs of two leader epochs whose answer is lost is found done. Asked again, the first
/// run is older than what is committed by then; that is no other leader's doing.
#[tokio::test(start_paused = true)]
async fn lost_answers_are_found_out_across_leader_epochs() {
    let world = World::new(12);
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    acked(&log, produced(7, 0, 0, 2)).await;
    world.crash(life).await;
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    acked(&log, produced(7, 0, 2, 3)).await;
    world.runs.lose_answers(1);
    life.engine.flush_all().await;
    assert_eq!(log.offsets().committed_end, Offset(5));
    let runs = world.runs.runs(partition(0));
    let shown: Vec<_> = runs.iter().map(|it| (it.leader_epoch.0, it.base.0, it.end.0)).collect();
    assert_eq!(shown, [(1, 0, 2), (2, 2, 5)], "A3: committed once");
    assert_eq!(life.engine.health().unflushed.0, 0);
    assert_eq!(life.engine.health().damaged, []);
    assert_eq!(acked(&log, produced(7, 0, 5, 1)).await, Offset(5), "A4: nobody else leads");
    life.engine.flush_all().await;
    assert_eq!(log.offsets().committed_end, Offset(6));
    world.check(&[partition(0)]).await;
}

#[tokio::test(start_paused = true)]
async fn a_deleted_topic_does_not_hold_up_the_others() {
    let world = World::new(7);
    let life = world.start().await;
    let gone = world.host(&life, partition(0));
    let stays = world.host(&life, partition(1));
    acked(&gone, batch(1, 1, 50)).await;
    acked(&stays, batch(2, 1, 50)).await;
    world.runs.delete(partition(0));
    life.engine.flush_all().await;
    assert!(life.engine.partition(partition(0)).is_none());
    assert_eq!(stays.offsets().committed_end, Offset(1));
    assert_eq!(life.engine.health().unflushed.0, 0);
}

#[tokio::test(start_paused = true)]
async fn another_leader_stops_this_one() {
    let world = World::new(8);
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    acked(&log, batch(1, 1, 50)).await;
    // A newer leader has committed something else under its own epoch.
    let facts = world.runs.next_epoch(partition(0));
    let run = crate::run_index::RunDescription {
        partition: partition(0),
        leader_epoch: facts.leader_epoch,
        base: Offset(0),
        end: Offset(5),
        max_timestamp: vocabulary::Timestamp(0),
        segment: vocabulary::SegmentName::data(1),
        position: 64,
        length: 100,
        crc: 0,
    };
    let commit = crate::run_index::RunCommit {
        segment: run.segment,
        segment_bytes: 200,
        created: vocabulary::Timestamp(0),
        runs: vec![run],
    };
    world.runs.commit(commit).await.unwrap();
    life.engine.flush_all().await;
    assert_eq!(log.append(batch(2, 1, 50), None).await.unwrap_err(), AppendError::Stopping, "A4");
    assert_eq!(log.offsets().committed_end, Offset(0));
}

#[tokio::test(start_paused = true)]
async fn runs_that_are_not_ours_are_never_adopted() {
    let world = World::new(11);
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    let bystander = world.host(&life, partition(1));
    acked(&log, batch(1, 2, 50)).await;
    acked(&bystander, batch(2, 1, 50)).await;
    let foreign = crate::run_index::RunDescription {
        partition: partition(0),
        leader_epoch: LeaderEpoch(1),
        base: Offset(0),
        end: Offset(1), // Inside of our batch.
        max_timestamp: vocabulary::Timestamp(0),
        segment: vocabulary::SegmentName::data(1),
        position: 64,
        length: 100,
        crc: 0,
    };
    let commit = crate::run_index::RunCommit {
        segment: foreign.segment,
        segment_bytes: 200,
        created: vocabulary::Timestamp(0),
        runs: vec![foreign],
    };
    world.runs.commit(commit).await.unwrap();
    life.engine.flush_all().await;
    assert_eq!(life.engine.health().damaged, [partition(0)], "A3");
    assert_eq!(bystander.offsets().committed_end, Offset(1), "the others go on");
    assert_eq!(log.append(batch(3, 1, 50), None).await.unwrap_err(), AppendError::Unavailable);
    assert_eq!(life.engine.health().unflushed.0, 0);
}

#[tokio::test(start_paused = true)]
async fn metadata_that_contradicts_the_wal_is_refused_loudly() {
    let world = World::new(9);
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    for label in 0..3 {
        acked(&log, batch(label, 2, 50)).await;
    }
    world.crash(life).await;
    let life = world.start().await;
    world.runs.create(partition(0));
    let start = crate::log::PartitionStart {
        partition: partition(0),
        leader_epoch: LeaderEpoch(2),
        log_start: Offset(0),
        committed_end: Offset(3), // Inside of a batch: no flush ever ended there.
        committed_bytes: 0,
        epochs: Vec::new(),
    };
    let log = life.engine.host(start, std::sync::Arc::clone(&world.settings));
    assert_eq!(log.append(batch(9, 1, 50), None).await.unwrap_err(), AppendError::Unavailable);
    assert_eq!(life.engine.health().damaged, [partition(0)]);
    assert!(life.engine.health().problem().is_some());
}

#[tokio::test(start_paused = true)]
async fn what_nobody_has_hosted_yet_is_not_trimmed() {
    let mut world = World::new(10);
    world.file_bytes = vocabulary::ByteCount::kib(8);
    let life = world.start().await;
    let logs: Vec<_> = (0..3).map(|index| world.host(&life, partition(index))).collect();
    let mut wanted = Vec::new();
    for label in 0..30u64 {
        let batch = batch(label, 1, 1000);
        let bytes = expected(&batch);
        let base = acked(&logs[label as usize % 3], batch).await;
        if label % 3 == 1 {
            wanted.push((base.0, bytes));
        }
    }
    world.crash(life).await;
    let life = world.start().await;
    world.host(&life, partition(0));
    life.engine.flush_all().await;
    let unhosted = life.engine.recovered_unhosted();
    let shown: Vec<_> = unhosted.iter().map(|it| (it.partition.index, it.end.0)).collect();
    assert_eq!(shown, [(1, 10), (2, 10)]);
    let log = world.host(&life, partition(1));
    assert_eq!(read_all(&world, &log, Offset(0)).await, wanted, "A1");
    life.engine.discard_unhosted();
    assert_eq!(life.engine.recovered_unhosted(), []);
    life.engine.flush_all().await;
    life.engine.shutdown().await;
    let life = world.start().await;
    let left = life.engine.recovered_unhosted();
    assert!(left.iter().all(|it| 20 < it.sequence), "the WAL was trimmed: {left:?}");
}
