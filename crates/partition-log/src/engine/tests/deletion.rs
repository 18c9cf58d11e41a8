//! Retention, deletion on request, garbage and orphans.

use super::crashes::Dawdling;
use super::meddling::Meddling;
use super::world::{World, acked, batch, batch_of, partition, read_all};
use crate::log::{Cleanup, DeleteRecordsError, LogSettings, ReadLimit};
use crate::read::ReadError;
use crate::run_index::RunIndex;
use bucket::{Bucket, Faults, Key, Purpose};
use bytes::Bytes;
use environment::SeededEntropy;
use std::sync::Arc;
use std::time::Duration;
use vocabulary::{Offset, SegmentName, Timestamp};

async fn objects(world: &World) -> usize {
    world.bucket.list(&Key::new("data"), None, 10_000).await.unwrap().len()
}

#[tokio::test(start_paused = true)]
async fn old_runs_go_and_so_do_their_objects() {
    let mut world = World::new(1);
    let settings = LogSettings { retention_ms: Some(3_600_000), ..LogSettings::default() };
    world.settings = Arc::new(settings);
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    let now = world.environment.clock.wall().0;
    acked(&log, batch_of(None, 1, 3, 50, now)).await;
    life.engine.flush_all().await;
    world.sleep(Duration::from_secs(1800)).await;
    acked(&log, batch_of(None, 2, 3, 50, now + 1_800_000)).await;
    life.engine.flush_all().await;
    assert_eq!((log.offsets().log_start, objects(&world).await), (Offset(0), 2));
    world.sleep(Duration::from_secs(2200)).await;
    assert_eq!(log.offsets().log_start, Offset(3));
    world.sleep(Duration::from_secs(120)).await;
    assert_eq!(objects(&world).await, 1, "A7");
    assert_eq!(world.runs.segments().len(), 1);
    assert_eq!(read_all(&world, &log, Offset(3)).await.len(), 1);
    let below = log.read(Offset(0), 1000, true, ReadLimit::HighWatermark).await;
    assert!(matches!(below, Err(ReadError::OffsetOutOfRange { .. })));
    world.check(&[partition(0)]).await;
}

/// A run whose records have no time has no age: it shields nothing behind it, and goes with it.
#[tokio::test(start_paused = true)]
async fn runs_without_times_go_with_the_next_that_has_one() {
    let mut world = World::new(11);
    world.options.merge.is_enabled = false; // Merged runs have the times of all.
    let settings = LogSettings { retention_ms: Some(3_600_000), ..LogSettings::default() };
    world.settings = Arc::new(settings);
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    let now = world.environment.clock.wall().0;
    for (label, time) in [(1, -1), (2, -1), (3, now), (4, -1)] {
        acked(&log, batch_of(None, label, 1, 50, time)).await;
        life.engine.flush_all().await;
    }
    world.sleep(Duration::from_secs(1800)).await;
    assert_eq!(log.offsets().log_start, Offset(0), "the next that has a time is young");
    world.sleep(Duration::from_secs(2200)).await;
    assert_eq!(log.offsets().log_start, Offset(3), "behind the last run there is no time yet");
    assert_eq!(read_all(&world, &log, Offset(3)).await.len(), 1);
    world.check(&[partition(0)]).await;
}

#[tokio::test(start_paused = true)]
async fn what_exceeds_the_size_goes_from_the_start() {
    let mut world = World::new(2);
    let settings = LogSettings { retention_bytes: Some(3000), ..LogSettings::default() };
    world.settings = Arc::new(settings);
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    for label in 0..10 {
        let now = world.environment.clock.wall().0;
        acked(&log, batch_of(None, label, 1, 500, now)).await;
        life.engine.flush_all().await;
    }
    let before = log.size_bytes();
    world.sleep(Duration::from_secs(700)).await;
    let after = log.size_bytes();
    assert!(3000 <= after && after < 3000 + before / 10, "{before} became {after}");
    let runs = world.runs.runs(partition(0));
    assert_eq!(after, runs.iter().map(|it| it.length).sum::<u64>());
    assert_eq!(log.offsets().log_start, runs[0].base);
}

/// Goal: a partition's size is right from the moment it is hosted, before anybody has looked at its runs,
/// and while the log start moves.
#[tokio::test(start_paused = true)]
async fn the_size_is_known_from_the_start() {
    let world = World::new(9);
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    let now = world.environment.clock.wall().0;
    let mut sizes = vec![0];
    for label in 0..6 {
        acked(&log, batch_of(None, label, 3, 50, now)).await;
        sizes.push(log.size_bytes());
        if label < 4 {
            life.engine.flush_all().await;
            assert_eq!(log.size_bytes(), sizes[label as usize + 1], "a flush changes nothing");
        }
    }
    let whole = *sizes.last().expect("some");
    assert_eq!(whole, 6 * sizes[1], "batches of one size");
    world.crash(life).await;
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    assert_eq!(log.size_bytes(), whole, "four runs and a tail of two batches");
    assert_eq!(log.delete_before(Offset(7)).await, Ok(Offset(7)));
    assert_eq!(log.size_bytes(), whole - sizes[2], "the third run is needed in part");
    // Into the tail: nothing committed is left, and of the tail one batch.
    assert_eq!(log.delete_before(Offset(15)).await, Ok(Offset(15)));
    assert_eq!(log.size_bytes(), sizes[1]);
    life.engine.flush_all().await;
    assert_eq!(log.size_bytes(), sizes[2], "one run of both batches");
    world.crash(life).await;
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    let size = log.size_bytes();
    world.sleep(Duration::from_secs(40)).await;
    assert_eq!(log.size_bytes(), size, "retention has looked");
    let runs = world.runs.runs(partition(0));
    let live = runs.iter().filter(|it| Offset(15) < it.end).map(|it| it.length);
    assert_eq!(size, live.sum::<u64>());
}

#[tokio::test(start_paused = true)]
async fn without_the_delete_policy_nothing_goes() {
    let mut world = World::new(3);
    let cleanup = Cleanup { delete: false, compact: true };
    let settings = LogSettings { cleanup, retention_ms: Some(1), ..LogSettings::default() };
    world.settings = Arc::new(settings);
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    acked(&log, batch(1, 1, 50)).await;
    life.engine.flush_all().await;
    world.sleep(Duration::from_secs(3600)).await;
    assert_eq!(log.offsets().log_start, Offset(0));
}

#[tokio::test(start_paused = true)]
async fn records_are_deleted_on_request_even_in_the_tail() {
    let world = World::new(4);
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    for label in 0..4 {
        acked(&log, batch(label, 3, 50)).await;
    }
    life.engine.flush_all().await;
    for label in 4..8 {
        acked(&log, batch(label, 3, 50)).await;
    }
    assert_eq!(log.delete_before(Offset(4)).await, Ok(Offset(4)));
    assert_eq!(log.delete_before(Offset(2)).await, Ok(Offset(4)), "it never moves back");
    let high_watermark = Offset(24);
    let beyond = log.delete_before(Offset(25)).await;
    let asked = Offset(25);
    assert_eq!(beyond, Err(DeleteRecordsError::OffsetOutOfRange { asked, high_watermark }));
    assert_eq!(read_all(&world, &log, Offset(4)).await[0].0, 3, "whole batches");
    assert_eq!(log.delete_before(Offset(17)).await, Ok(Offset(17)));
    // The log start is inside of the tail: the flush keeps A3, and a restart remembers.
    life.engine.flush_all().await;
    world.check(&[partition(0)]).await;
    world.crash(life).await;
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    assert_eq!(log.offsets().log_start, Offset(17));
    assert_eq!(log.delete_before(Offset(-1)).await, Ok(Offset(24)));
    assert_eq!(log.size_bytes(), 0);
    assert_eq!(read_all(&world, &log, Offset(24)).await.len(), 0);
    assert_eq!(acked(&log, batch(9, 1, 50)).await, Offset(24));
    world.sleep(Duration::from_secs(200)).await;
    assert_eq!(objects(&world).await, world.runs.segments().len());
    world.check(&[partition(0)]).await;
}

/// Goal: a deletion that happened without an answer is learnt by whoever comes to what is gone, and by
/// retention where nobody does.
#[tokio::test(start_paused = true)]
async fn a_deletion_whose_answer_is_lost_is_found_done() {
    let mut world = World::new(8);
    world.options.tail_cache_bytes.0 = 0; // Memory would serve what it still has.
    let life = world.start().await;
    let now = world.environment.clock.wall().0;
    let logs = [0, 1, 2].map(|index| world.host(&life, partition(index)));
    for log in &logs {
        for label in 0..4 {
            acked(log, batch_of(None, label, 3, 50, now)).await;
            life.engine.flush_all().await;
        }
    }
    for log in &logs {
        world.runs.lose_answers(1);
        assert_eq!(log.delete_before(Offset(6)).await, Err(DeleteRecordsError::Unavailable));
        assert_eq!(log.offsets().log_start, Offset(0), "maybe moved, it says");
    }
    let (asked, log_start, end) = (Offset(3), Offset(6), Offset(12));
    let gone = Err(ReadError::OffsetOutOfRange { asked, log_start, end });
    assert_eq!(logs[0].read(asked, 1000, true, ReadLimit::HighWatermark).await, gone);
    assert_eq!(logs[0].offsets().log_start, log_start);
    assert_eq!(logs[0].delete_before(Offset(5)).await, Ok(log_start));
    assert_eq!(read_all(&world, &logs[0], log_start).await.len(), 2);
    let gone = Err(ReadError::OffsetOutOfRange { asked, log_start, end });
    assert_eq!(logs[1].aborted_transactions(asked, Offset(9)).await, gone);
    let kept = world.runs.runs(partition(1)).iter().map(|it| it.length).sum::<u64>();
    assert_eq!(logs[1].size_bytes(), kept);

    world.sleep(Duration::from_secs(40)).await;
    assert_eq!(logs[2].offsets().log_start, log_start, "retention has looked");
    world.check(&[partition(0), partition(1), partition(2)]).await;
}

#[tokio::test(start_paused = true)]
async fn a_deletion_whose_asker_has_gone_is_found_done() {
    let world = World::new(8);
    let runs = Dawdling {
        inner: Arc::clone(&world.runs),
        clock: Arc::clone(&world.environment.clock),
        entropy: SeededEntropy::new(8),
        lost_per_mille: 0,
    };
    let life = world.start_with(Arc::new(runs)).await;
    let log = world.host(&life, partition(0));
    let now = world.environment.clock.wall().0;
    for label in 0..4 {
        acked(&log, batch_of(None, label, 3, 50, now)).await;
        life.engine.flush_all().await;
    }
    let moved = async {
        while world.runs.log_start(partition(0)).await != Ok(Some(Offset(6))) {
            world.sleep(Duration::from_micros(10)).await;
        }
    };
    tokio::select! {
        biased;
        () = moved => (),
        answer = log.delete_before(Offset(6)) => panic!("{answer:?} before it was done"),
    }
    assert_eq!(log.offsets().log_start, Offset(0), "nobody was there to hear of it");
    world.sleep(Duration::from_secs(40)).await;
    assert_eq!(log.offsets().log_start, Offset(6), "retention has looked");
    let kept = world.runs.runs(partition(0)).iter().map(|it| it.length).sum::<u64>();
    assert_eq!(log.size_bytes(), kept);
}

/// Goal: a deletion that happens long after its asker has gone is found done as well.
#[tokio::test(start_paused = true)]
async fn a_deletion_that_happens_late_is_found_done() {
    let mut world = World::new(8);
    world.options.retention_check_interval = Duration::from_secs(20);
    let runs = Meddling::new(&world.runs, &world.environment);
    let life = world.start_with(Arc::<Meddling>::clone(&runs)).await;
    let log = world.host(&life, partition(0));
    let now = world.environment.clock.wall().0;
    for label in 0..4 {
        acked(&log, batch_of(None, label, 3, 50, now)).await;
        life.engine.flush_all().await;
    }
    runs.advance_after(Duration::from_secs(90));
    tokio::select! {
        biased;
        () = world.sleep(Duration::from_secs(1)) => (),
        answer = log.delete_before(Offset(6)) => panic!("{answer:?} before it was done"),
    }
    world.sleep(Duration::from_secs(80)).await;
    assert_eq!(log.offsets().log_start, Offset(0), "retention has looked, and it was not done");
    world.sleep(Duration::from_secs(40)).await;
    assert_eq!(log.offsets().log_start, Offset(6), "retention has looked again");
    let kept = world.runs.runs(partition(0)).iter().map(|it| it.length).sum::<u64>();
    assert_eq!(log.size_bytes(), kept);
}

/// Goal: retention does not go through all runs without a time at each of its looks, and deletes them, and those that
/// size does not allow, all the same.
#[tokio::test(start_paused = true)]
async fn runs_without_times_are_gone_through_once() {
    let mut world = World::new(12);
    world.options.merge.is_enabled = false; // Merged runs have the times of all.
    world.options.retention_check_interval = Duration::from_secs(20);
    let settings = LogSettings { retention_ms: Some(3_600_000), ..LogSettings::default() };
    world.settings = Arc::new(settings.clone());
    let runs = Meddling::new(&world.runs, &world.environment);
    let life = world.start_with(Arc::<Meddling>::clone(&runs)).await;
    let log = world.host(&life, partition(0));
    let flush = async |label: u64, time| {
        acked(&log, batch_of(None, label, 1, 50, time)).await;
        life.engine.flush_all().await;
    };
    for label in 0..600 {
        flush(label, -1).await;
    }
    world.sleep(Duration::from_secs(60)).await;
    let asked = runs.pages_asked();
    world.sleep(Duration::from_secs(200)).await;
    let asked = runs.pages_asked() - asked;
    assert!((10..=24).contains(&asked), "{asked} questions in ten looks");
    // More without a time, and at last one with: all up to it go when it is old.
    for label in 600..610 {
        flush(label, -1).await;
    }
    flush(610, world.environment.clock.wall().0 - 1_800_000).await;
    flush(611, -1).await;
    world.sleep(Duration::from_secs(1700)).await;
    assert_eq!(log.offsets().log_start, Offset(0));
    world.sleep(Duration::from_secs(200)).await;
    assert_eq!(log.offsets().log_start, Offset(611));
    // By size they go from the start, as ever.
    for label in 612..620 {
        flush(label, -1).await;
    }
    world.sleep(Duration::from_secs(60)).await;
    let retention_bytes = Some(log.size_bytes() / 2);
    log.set_settings(Arc::new(LogSettings { retention_bytes, ..settings }));
    world.sleep(Duration::from_secs(60)).await;
    assert_eq!(log.offsets().log_start, Offset(615), "four of nine");
    world.check(&[partition(0)]).await;
}

/// Goal: a retry of what was deleted meanwhile gets its first offset (A5), whether the producers went to
/// the metadata, stayed with the last run, or were committed below the log start.
#[tokio::test(start_paused = true)]
async fn producers_outlive_the_last_run_of_their_partition() {
    // Young, or retention would delete the run that the end looks for.
    let now = 1_767_225_600_000;
    let of_producer = |sequence| batch_of(Some((7, 0, sequence)), sequence as u64, 1, 50, now);
    for (seed, trouble) in [(0, None), (1, Some("hand-over")), (2, Some("tail"))] {
        let world = World::new(40 + seed);
        let life = world.start().await;
        let log = world.host(&life, partition(0));
        assert_eq!(acked(&log, of_producer(0)).await, Offset(0));
        life.engine.flush_all().await;
        if trouble == Some("tail") {
            assert_eq!(acked(&log, of_producer(1)).await, Offset(1));
        }
        world.crash(life).await;
        // Nothing is in memory.
        let life = world.start().await;
        let log = world.host(&life, partition(0));
        let down = match trouble {
            Some("hand-over") => Faults { failed_per_mille: 1000, ..Faults::NONE },
            _ => Faults::NONE,
        };
        world.bucket.set_faults(down);
        let end = log.offsets().high_watermark;
        assert_eq!(log.delete_before(Offset(-1)).await, Ok(end));
        world.bucket.set_faults(Faults::NONE);
        life.engine.flush_all().await;
        world.check(&[partition(0)]).await;
        world.crash(life).await;

        let life = world.start().await;
        let log = world.host(&life, partition(0));
        assert_eq!(acked(&log, of_producer(0)).await, Offset(0), "A5: {trouble:?}");
        let next = of_producer(end.0 as i32);
        assert_eq!(acked(&log, next).await, end, "A5: the next one, {trouble:?}");
        // Whatever stayed below the log start goes (A7).
        world.sleep(Duration::from_secs(1200)).await;
        assert_eq!(world.runs.runs(partition(0)).len(), 1, "{trouble:?}");
        assert_eq!(objects(&world).await, world.runs.segments().len());
    }
}

#[tokio::test(start_paused = true)]
async fn garbage_stays_for_its_grace_and_through_trouble() {
    let world = World::new(5);
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    acked(&log, batch(1, 1, 50)).await;
    life.engine.flush_all().await;
    log.delete_before(Offset(1)).await.unwrap();
    world.sleep(Duration::from_secs(55)).await;
    assert_eq!(objects(&world).await, 1, "A6: readers may be under way");
    world.bucket.set_faults(Faults { failed_per_mille: 1000, ..Faults::NONE });
    world.sleep(Duration::from_secs(300)).await;
    assert_eq!(world.runs.segments().len(), 1, "forgotten only once it is deleted");
    world.bucket.set_faults(Faults::NONE);
    world.sleep(Duration::from_secs(60)).await;
    assert_eq!((objects(&world).await, world.runs.segments().len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_sweep_takes_old_orphans_and_nothing_else() {
    // The store stamps objects with the machine's time: a world far ahead makes all of them old.
    let world = World::starting_at(6, Timestamp(7_000_000_000_000));
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    acked(&log, batch_of(None, 1, 1, 50, 7_000_000_000_000)).await;
    life.engine.flush_all().await;
    let orphan = crate::segment_key(SegmentName::data(0xdead));
    let foreign = Key::new("data/notes/readme");
    for key in [&orphan, &foreign] {
        world.bucket.put_new(key, vec![Bytes::from_static(b"x")], Purpose::Flush).await.unwrap();
    }
    assert_eq!(objects(&world).await, 3);
    world.sleep(Duration::from_secs(4200)).await;
    let left = world.bucket.list(&Key::new("data"), None, 10).await.unwrap();
    assert_eq!(left.len(), 2, "A7: {left:?}");
    assert!(left.iter().all(|it| it.key != orphan));
    assert_eq!(life.engine.metrics().orphans_swept.get(), 1);
    assert_eq!(read_all(&world, &log, Offset(0)).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn young_orphans_may_be_uploads_under_way() {
    let world = World::new(7); // Behind the machine's time: every object is young.
    let _life = world.start().await;
    let orphan = crate::segment_key(SegmentName::data(0xdead));
    world.bucket.put_new(&orphan, vec![Bytes::from_static(b"x")], Purpose::Flush).await.unwrap();
    world.sleep(Duration::from_secs(7200)).await;
    assert_eq!(objects(&world).await, 1);
}
