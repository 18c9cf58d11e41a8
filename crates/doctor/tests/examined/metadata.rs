//! Goal: a flipped bit anywhere in what the metadata lives of does not go unnoticed.
//!
//! Method: of a stopped cluster every live file below `meta`, and in it bits from its first byte to its
//! last, in the manifest one of each byte. The doctor has to name the file, in a finding or in the error that
//! keeps it from looking.

use crate::world::World;
use cluster::StoreOptions;
use doctor::Invariant;

/// Flips of one file, but of a manifest, which has no checksum of SlateDB's.
const FLIPS: usize = 40;

/// Small enough that a few topics become sorted files.
const MEMTABLE_BYTES: usize = 1024;

/// Positions from the first to the last byte.
fn positions(file: &str, length: usize) -> impl Iterator<Item = usize> + use<> {
    let count = if file.contains("/manifest/") { length } else { FLIPS.min(length) };
    (0..count).map(move |number| number * (length - 1) / (count - 1).max(1))
}

fn names(finding: &doctor::Finding, file: &str) -> bool {
    finding.invariant == Invariant::Metadata && finding.object == file
}

#[tokio::test(start_paused = true)]
async fn a_flipped_bit_of_a_live_metadata_file_is_found() {
    let options = StoreOptions { memtable_bytes: MEMTABLE_BYTES, ..StoreOptions::default() };
    let world = World::build_with(&options).await;
    let whole = world.copy();
    let report = whole.try_examine().await.expect("it can be read");
    assert!(report.is_healthy(), "{:#?}", report.findings());
    let files = whole.metadata_files().await.files;
    for kind in ["/manifest/", "/compacted/", "/wal/"] {
        assert!(files.iter().any(|it| it.contains(kind)), "{kind} of {files:?}");
    }
    let mut unnoticed = Vec::new();
    for file in files {
        let length = whole.bytes(&file).await.len();
        let name = file.rsplit('/').next().expect("a key has parts").to_owned();
        for at in (0 < length).then(|| positions(&file, length)).into_iter().flatten() {
            let copy = world.copy();
            copy.flip(&file, at as i64).await;
            let told = match copy.try_examine().await {
                Ok(report) if report.findings().iter().any(|it| names(it, &file)) => continue,
                Ok(report) => format!("{:?}", report.findings()),
                Err(told) if told.contains(&name) => continue,
                Err(told) => told,
            };
            unnoticed.push((file.clone(), at, length, told));
        }
    }
    assert_eq!(unnoticed, [], "flips that nobody names");
}
