//! One conformance suite for every volume, and what is particular to each.

use super::*;
use environment::Environment;
use std::time::Duration;

fn chunks(pieces: &[&str]) -> Chunks {
    Arc::new(pieces.iter().map(|it| Bytes::copy_from_slice(it.as_bytes())).collect())
}

/// What every volume does, with an empty one to start from.
async fn conformance(volume: &dyn Volume) {
    assert_eq!(volume.list().await.expect("lists"), vec![]);
    assert!(matches!(volume.open("absent").await, Err(VolumeError::NotFound { .. })));
    volume.delete("absent").await.expect("absent is fine");

    let file = volume.create("b", 0).await.expect("creates");
    assert!(matches!(volume.create("b", 0).await, Err(VolumeError::AlreadyExists { .. })));
    assert_eq!(file.length().await.expect("measures"), 0);
    file.write_at(3, chunks(&["lo", "", "cal"])).await.expect("writes");
    file.write_at(0, chunks(&["the"])).await.expect("writes");
    file.sync().await.expect("syncs");
    file.write_synced(8, chunks(&[" disk"])).await.expect("writes and syncs");
    assert_eq!(file.length().await.expect("measures"), 13);
    assert_eq!(file.read_at(0, 13).await.expect("reads"), "thelocal disk");

    // Short at the end, empty behind it, and bounded by the file whatever is asked for.
    assert_eq!(file.read_at(9, 100).await.expect("reads"), "disk");
    assert_eq!(file.read_at(13, 1).await.expect("reads"), "");
    assert_eq!(file.read_at(u64::MAX, 1).await.expect("reads"), "");
    assert_eq!(file.read_at(0, usize::MAX).await.expect("reads").len(), 13);

    // More pieces than one system call takes.
    let many: Vec<String> = (0..2500).map(|it| format!("{it:04}")).collect();
    let pieces: Vec<&str> = many.iter().map(String::as_str).collect();
    let other = volume.create("a", 20_000).await.expect("creates");
    other.write_synced(4096, chunks(&pieces)).await.expect("writes");
    assert_eq!(other.read_at(4096, 10_000).await.expect("reads"), many.concat());

    // Another handle sees the same bytes, a deleted file stays readable where it is open.
    volume.sync_directory().await.expect("syncs");
    let again = volume.open("b").await.expect("opens");
    assert_eq!(again.read_at(9, 4).await.expect("reads"), "disk");
    let names: Vec<_> = volume.list().await.expect("lists").into_iter().map(|it| it.name).collect();
    assert_eq!(names, ["a", "b"]);
    volume.delete("b").await.expect("deletes");
    volume.sync_directory().await.expect("syncs");
    assert_eq!(again.read_at(9, 4).await.expect("reads"), "disk");
    let files = volume.list().await.expect("lists");
    assert_eq!(files.len(), 1);
    assert!(14_096 <= files[0].length && files[0].length <= 20_000, "{files:?}");
}

#[tokio::test]
async fn the_local_volume_conforms() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("deep/er");
    conformance(&LocalVolume::open(&path).await.expect("opens")).await;
}

#[tokio::test(start_paused = true)]
async fn the_memory_volume_conforms() {
    for seed in 0..20 {
        let volume = MemoryVolume::new(&Environment::simulated(seed));
        let latency_max = Duration::from_millis(seed);
        volume.set_faults(MemoryFaults { latency_max, ..MemoryFaults::default() });
        conformance(&volume).await;
    }
}

#[tokio::test]
async fn a_second_owner_is_refused_and_told_who_has_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let first = LocalVolume::open(directory.path()).await.expect("opens");
    let error = LocalVolume::open(directory.path()).await.expect_err("is locked");
    let (path, pid) = (directory.path().display(), std::process::id());
    assert_eq!(error.to_string(), format!("directory {path} is in use by process {pid}"));
    drop(first);
    LocalVolume::open(directory.path()).await.expect("the lock went with its owner");
}

#[tokio::test]
async fn foreign_and_hidden_entries_are_not_listed() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(directory.path().join("sub")).expect("creates");
    let volume = LocalVolume::open(directory.path()).await.expect("opens");
    assert_eq!(volume.list().await.expect("lists"), vec![]);
    assert_eq!(volume.directory(), directory.path());
}

// Goal: V1 and V2. What was synced survives every crash; what was not survives some.
#[tokio::test(start_paused = true)]
async fn a_crash_keeps_what_was_synced() {
    let mut kept = [0; 3];
    for seed in 0..100 {
        let environment = Environment::simulated(seed);
        let volume = MemoryVolume::new(&environment);
        let file = volume.create("kept", 0).await.expect("creates");
        file.write_synced(0, chunks(&["synced"])).await.expect("writes");
        volume.sync_directory().await.expect("syncs");
        file.write_at(6, chunks(&[" and not"])).await.expect("writes");
        volume.create("maybe", 0).await.expect("creates");
        volume.crash();

        assert!(file.read_at(0, 6).await.is_err(), "a handle dies with its machine");
        let volume = volume.remount(&Environment::simulated(seed + 1));
        let file = volume.open("kept").await.expect("is there");
        let bytes = file.read_at(0, 100).await.expect("reads");
        assert!(bytes.starts_with(b"synced"), "seed {seed}: {bytes:?}");
        kept[0] += u32::from(bytes.len() == 14);
        kept[1] += u32::from(volume.open("maybe").await.is_ok());
        volume.delete("kept").await.expect("deletes");
        volume.crash();
        kept[2] += u32::from(volume.open("kept").await.is_ok());
    }
    assert!(kept.iter().all(|it| (20..80).contains(it)), "{kept:?}");
}

// Goal: V3. After a failed sync a later one that works proves nothing.
#[tokio::test(start_paused = true)]
async fn a_failed_sync_drops_bytes_for_good() {
    let mut lost = 0;
    for seed in 0..50 {
        let volume = MemoryVolume::new(&Environment::simulated(seed));
        let file = volume.create("file", 0).await.expect("creates");
        volume.sync_directory().await.expect("syncs");
        volume.set_faults(MemoryFaults { sync_fails_per_mille: 1000, ..MemoryFaults::default() });
        assert!(file.write_synced(0, chunks(&["gone"])).await.is_err());
        volume.set_faults(MemoryFaults::default());
        file.sync().await.expect("syncs");
        assert_eq!(file.read_at(0, 4).await.expect("reads"), "gone", "the page cache has it");
        volume.crash();
        let file = volume.open("file").await.expect("is there");
        lost += u32::from(file.read_at(0, 4).await.expect("reads") != "gone");
    }
    assert!((10..40).contains(&lost), "{lost} of 50");
}

#[tokio::test(start_paused = true)]
async fn faults_come_as_planned() {
    let environment = Environment::simulated(1);
    let volume = MemoryVolume::new(&environment);
    let faults = MemoryFaults { capacity_bytes: 10_000, ..MemoryFaults::default() };
    volume.set_faults(faults.clone());
    assert!(matches!(volume.create("a", 10_001).await, Err(VolumeError::Full { .. })));
    let file = volume.create("a", 9_998).await.expect("fits");
    let error = file.write_at(9_998, chunks(&["abc"])).await.expect_err("does not fit");
    assert_eq!(error.to_string(), "no space left to write a");
    file.write_at(9_998, chunks(&["ab"])).await.expect("fits");

    volume.set_faults(MemoryFaults { write_fails_per_mille: 1000, ..faults.clone() });
    assert!(matches!(file.write_at(0, chunks(&["x"])).await, Err(VolumeError::Failed { .. })));
    volume.set_faults(MemoryFaults { directory_fails_per_mille: 1000, ..faults.clone() });
    assert!(volume.sync_directory().await.is_err());

    let latency_max = Duration::from_millis(10);
    volume.set_faults(MemoryFaults { latency_max, ..faults });
    let before = environment.clock.now();
    for _ in 0..10 {
        volume.list().await.expect("lists");
    }
    assert!(Duration::from_millis(20) < environment.clock.now().since(before));
}

#[tokio::test]
async fn deleted_files_are_used_again_but_not_while_somebody_reads_them() {
    const BYTES: u64 = 1024 * 1024;
    let directory = tempfile::tempdir().expect("a directory");
    let volume = LocalVolume::open(directory.path()).await.expect("opens");
    let entries = || std::fs::read_dir(directory.path()).expect("lists").count();
    let first = volume.create("a", BYTES).await.expect("creates");
    first.write_synced(0, chunks(&["old bytes"])).await.expect("writes");
    volume.delete("a").await.expect("deletes");
    assert_eq!(volume.list().await.expect("lists"), vec![], "a spare is not a file");

    // Still read: the next file has blocks of its own.
    let second = volume.create("b", BYTES).await.expect("creates");
    second.write_synced(0, chunks(&["new bytes"])).await.expect("writes");
    assert_eq!(first.read_at(0, 9).await.expect("reads"), "old bytes");
    let before = entries();
    drop(first);
    let third = volume.create("c", BYTES).await.expect("creates");
    assert_eq!(entries(), before, "the spare became the file");
    assert_eq!(third.read_at(0, 9).await.expect("reads"), "old bytes", "V4");
    assert!(matches!(volume.create("c", BYTES).await, Err(VolumeError::AlreadyExists { .. })));

    // A later process finds the spares of an earlier one.
    drop((second, third));
    volume.delete("b").await.expect("deletes");
    drop(volume);
    let volume = LocalVolume::open(directory.path()).await.expect("opens");
    let again = volume.create("d", BYTES).await.expect("creates");
    assert_eq!(again.read_at(0, 9).await.expect("reads"), "new bytes");
}
