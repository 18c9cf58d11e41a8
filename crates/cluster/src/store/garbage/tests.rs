//! Goal: what a read may still need is not deleted, and all garbage goes in the end.

use super::*;
use environment::SimulatedClock;
use vocabulary::Timestamp;

fn grace() -> (Arc<SimulatedClock>, Grace) {
    let clock = Arc::new(SimulatedClock::starting_at(Timestamp(1_767_225_600_000)));
    (Arc::clone(&clock), Grace::new(clock))
}

fn found(files: &[&str]) -> HashSet<ObjectMetadata> {
    let of = |file: &&str| ObjectMetadata {
        location: Path::from(*file),
        last_modified: chrono::DateTime::UNIX_EPOCH,
        size: 1,
        e_tag: None,
        version: None,
    };
    files.iter().map(of).collect()
}

#[tokio::test(start_paused = true)]
async fn a_sorted_file_goes_when_it_was_garbage_for_the_grace() {
    let (clock, grace) = grace();
    let first = found(&["meta/compacted/1.sst"]);
    assert_eq!(grace.filter(first.clone()).await, HashSet::new());
    clock.sleep(SORTED_FILE_GRACE - Duration::from_secs(1)).await;
    let both = found(&["meta/compacted/1.sst", "meta/compacted/2.sst"]);
    assert_eq!(grace.filter(both.clone()).await, HashSet::new());
    clock.sleep(Duration::from_secs(1)).await;
    assert_eq!(grace.filter(both.clone()).await, first);
    clock.sleep(SORTED_FILE_GRACE).await;
    assert_eq!(grace.filter(both.clone()).await, both);
}

#[tokio::test(start_paused = true)]
async fn everything_else_goes_at_once() {
    let (_, grace) = grace();
    let files = ["meta/wal/1.sst", "meta/manifest/1.manifest", "meta/compactions/1.compactions"];
    assert_eq!(grace.filter(found(&files)).await, found(&files));
}

#[tokio::test(start_paused = true)]
async fn what_is_gone_is_forgotten() {
    let (clock, grace) = grace();
    grace.filter(found(&["meta/compacted/1.sst"])).await;
    clock.sleep(FORGOTTEN_AFTER).await;
    grace.filter(found(&["meta/compacted/2.sst"])).await;
    let known: Vec<Path> = grace.found.lock().expect("not poisoned").keys().cloned().collect();
    assert_eq!(known, [Path::from("meta/compacted/2.sst")]);
}
