//! What the doctor finds in a bucket: nothing while it is whole, and exactly what was damaged.

mod compacted;
mod metadata;
mod world;

use bucket::Key;
use doctor::{DoctorOptions, Field, Invariant, Report, Subject};
use partition_log::segment::HEADER_LEN;
use partition_log::segment_key;
use partition_log::wal::ledger::WalId;
use vocabulary::SegmentName;
use world::{TAIL_BATCHES, World};

const DEEP: bool = true;

fn options(is_deep: bool) -> DoctorOptions {
    DoctorOptions { is_deep, ..DoctorOptions::default() }
}

fn key(log: WalId, sequence: u64) -> String {
    let WalId { broker, epoch } = log;
    segment_key(SegmentName::Wal { broker, epoch, sequence }).to_string()
}

/// Which invariants are broken at which objects.
fn found(report: &Report) -> Vec<(Invariant, String)> {
    let all = report.findings().iter().map(|it| (it.invariant, it.object.clone()));
    let mut found: Vec<_> = all.collect();
    found.sort();
    found.dedup();
    found
}

#[track_caller]
fn is_exactly(report: &Report, invariant: Invariant, object: &str) {
    assert_eq!(found(report), [(invariant, object.to_owned())], "{:#?}", report.findings());
}

#[tokio::test(start_paused = true)]
async fn a_whole_bucket_is_healthy_and_everything_in_it_was_checked() {
    let world = World::build().await;
    let report = world.copy().examine(&options(DEEP)).await;
    assert!(report.is_healthy(), "{:#?}", report.findings());
    assert_eq!(report.checked("partitions"), Some(2));
    assert_eq!(report.checked("fences of ended logs"), Some(1));
    assert_eq!(report.checked("open logs in the bucket"), Some(1));
    assert_eq!(report.checked("WAL segments in the bucket"), Some(TAIL_BATCHES as u64));
    for what in ["runs", "segments", "objects", "entries", "payload bytes"] {
        assert!(report.checked(what).is_some_and(|it| 0 < it), "{what}");
    }
    // What was flushed lies in the ended log, too, until the sweep takes it.
    let notes = ["12 object(s) that nothing refers to are too young to say more"];
    assert_eq!(report.notes(), notes, "nothing else is odd");
}

#[tokio::test(start_paused = true)]
async fn damage_of_a_data_segment_is_found_where_it_is() {
    let world = World::build().await;
    let data = world.copy().keys("data").await.remove(0);
    let length = world.copy().bytes(&data).await.len() as u64;

    let payload = world.copy();
    payload.flip(&data, HEADER_LEN as i64 + 100).await;
    assert!(payload.examine(&options(!DEEP)).await.is_healthy(), "nobody has read the payload");
    let report = payload.examine(&options(DEEP)).await;
    is_exactly(&report, Invariant::A6, &data);
    let range = report.findings()[0].range.clone().expect("a run's bytes");
    assert!(range.contains(&(HEADER_LEN as u64 + 100)) && range.end < length, "{range:?}");

    let footer = world.copy();
    footer.flip(&data, -30).await;
    let report = footer.examine(&options(!DEEP)).await;
    is_exactly(&report, Invariant::A6, &data);
    assert_eq!(report.findings()[0].range, Some(length - 40..length));

    let index = world.copy();
    index.flip(&data, -50).await;
    let report = index.examine(&options(!DEEP)).await;
    is_exactly(&report, Invariant::A6, &data);
    let range = report.findings()[0].range.clone().expect("the index");
    assert!(range.end == length - 40 && HEADER_LEN as u64 <= range.start, "{range:?}");

    let header = world.copy();
    header.flip(&data, 3).await;
    let report = header.examine(&options(DEEP)).await;
    is_exactly(&report, Invariant::A6, &data);
    assert_eq!(report.findings()[0].range, Some(0..HEADER_LEN as u64));

    let gone = world.copy();
    gone.delete(&data).await;
    let report = gone.examine(&options(!DEEP)).await;
    is_exactly(&report, Invariant::A6, &data);
    assert!(report.findings()[0].what.contains("does not exist"), "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn damage_of_an_adopted_wal_segment_is_found() {
    let world = World::build().await;
    let copy = world.copy();
    let (_, rows) = copy.inspect(&Subject::Partition { topic: "orders".into(), index: 0 }).await;
    let objects = rows.iter().filter(|it| it.kind == "run").filter_map(|it| it.get("object"));
    let mut adopted = objects.filter_map(|it| match it {
        Field::Text(key) if key.starts_with("wal/") => Some(key.clone()),
        _ => None,
    });
    let adopted = adopted.next_back().expect("the first log was taken over");
    copy.delete(&adopted).await;
    is_exactly(&copy.examine(&options(!DEEP)).await, Invariant::A6, &adopted);
}

#[tokio::test(start_paused = true)]
async fn an_ended_log_without_its_fence_is_found() {
    let world = World::build().await;
    let copy = world.copy();
    let fence = copy.keys(&format!("wal/1/{}", world.first.epoch)).await.pop().expect("a fence");
    let (is_broken, rows) =
        copy.inspect(&Subject::Segment { key: Key::new(&*fence), with_batches: false }).await;
    assert!(!is_broken && rows[0].kind == "fence", "{rows:?}");
    let spoilt = world.copy();
    spoilt.flip(&fence, 70).await;
    is_exactly(&spoilt.examine(&options(!DEEP)).await, Invariant::A4, &fence);
    copy.delete(&fence).await;
    is_exactly(&copy.examine(&options(!DEEP)).await, Invariant::A4, &fence);
}

#[tokio::test(start_paused = true)]
async fn what_is_acknowledged_and_missing_in_an_open_log_is_found() {
    let world = World::build().await;
    let deleted = world.copy();
    deleted.delete(&key(world.second, 2)).await;
    is_exactly(&deleted.examine(&options(!DEEP)).await, Invariant::A1, &key(world.second, 2));

    let spoilt = world.copy();
    spoilt.flip(&key(world.second, 7), -50).await;
    // It is told twice: the segment is broken, and the next one does not go on from the one before.
    let report = spoilt.examine(&options(!DEEP)).await;
    let expected = [(Invariant::A1, key(world.second, 7)), (Invariant::A2, key(world.second, 8))];
    assert_eq!(found(&report), expected, "{:#?}", report.findings());

    // The last ones may never have been acknowledged.
    let torn = world.copy();
    torn.delete(&key(world.second, TAIL_BATCHES as u64 - 2)).await;
    let report = torn.examine(&options(!DEEP)).await;
    assert!(report.is_healthy(), "{:#?}", report.findings());
    assert!(report.notes()[0].contains("never acknowledged"), "{:?}", report.notes());
}

#[tokio::test(start_paused = true)]
async fn old_objects_that_nobody_refers_to_are_found_and_young_ones_are_not() {
    let world = World::build().await;
    let before = found(&world.copy().examine_late().await);
    let copy = world.copy();
    let orphan = "data/00/00000000000000000000000000000007";
    copy.write(orphan, vec![7; 200]).await;
    let young = copy.examine(&options(!DEEP)).await;
    assert!(young.is_healthy(), "{:#?}", young.findings());
    assert!(young.notes()[0].contains("too young"), "{:?}", young.notes());
    let late = found(&copy.examine_late().await);
    let new: Vec<_> = late.into_iter().filter(|it| !before.contains(it)).collect();
    assert_eq!(new, [(Invariant::A7, orphan.to_owned())]);
    let is_garbage = |it: &(Invariant, String)| it.0 == Invariant::A7 && it.1.starts_with("wal/");
    assert!(before.iter().all(is_garbage), "only what an ended log has left over: {before:?}");
}

#[tokio::test(start_paused = true)]
async fn inspection_shows_what_is_readable_and_says_where_it_breaks() {
    let world = World::build().await;
    let copy = world.copy();
    let data = copy.keys("data").await.remove(0);
    let subject = Subject::Segment { key: Key::new(&*data), with_batches: true };
    let (is_broken, rows) = copy.inspect(&subject).await;
    assert!(!is_broken, "{rows:?}");
    let count = |kind: &str| rows.iter().filter(|it| it.kind == kind).count();
    assert_eq!((count("segment"), count("broken")), (1, 0));
    assert!(0 < count("segment_run") && 6 <= count("batch"), "{rows:?}");

    copy.flip(&data, -50).await;
    let (is_broken, rows) = copy.inspect(&subject).await;
    assert!(is_broken);
    assert_eq!(rows.iter().map(|it| it.kind).collect::<Vec<_>>(), ["header", "broken"]);
    assert_eq!(rows[1].get("object"), Some(&Field::Text(data)));

    for subject in [
        Subject::Cluster,
        Subject::Topics,
        Subject::Wal,
        Subject::Metadata { prefix: Vec::new() },
        Subject::Metadata { prefix: b"r".to_vec() },
    ] {
        let (is_broken, rows) = copy.inspect(&subject).await;
        assert!(!is_broken && !rows.is_empty(), "{subject:?}: {rows:?}");
    }
}
