//! The latest time that the stored metadata names.
//!
//! Owns: which times SlateDB compares with its clock, and where they stand.
//! Does not own: the clock itself (`clock`). What it cannot see are stamps of rows that are in the log only; those
//! are known once the metadata is loaded.

use std::sync::Arc;

use futures::future::try_join;
use object_store::ObjectStore;
use slatedb::admin::Admin;
use slatedb::compactor::Compaction;
use slatedb::{VersionedCompactions, VersionedManifest};
use slatedb_common::clock::SystemClock;
use vocabulary::Timestamp;

/// Of a database that is not open yet, in four requests.
///
/// A compaction that a process of the past has claimed is given up when its last sign of life is old enough. Before
/// a clock that is behind it never is: sorted files would pile up until the metadata takes no more changes, and a
/// start that has a long log to read would not end.
pub(super) async fn stored(
    object_store: &Arc<dyn ObjectStore>,
    path: &str,
    clock: Arc<dyn SystemClock>,
    seed: u64,
) -> Result<Timestamp, slatedb::Error> {
    let admin = Admin::builder(path, Arc::clone(object_store))
        .with_system_clock(clock)
        .with_seed(seed)
        .build();
    let (manifest, compactions) =
        try_join(admin.read_manifest(None), admin.read_compactions(None)).await?;
    let manifest = manifest.map_or(Timestamp(0), |it| of_manifest(&it));
    Ok(manifest.max(compactions.map_or(Timestamp(0), |it| of_compactions(&it))))
}

/// Of a row, or of a sorted file.
pub(super) fn of_manifest(manifest: &VersionedManifest) -> Timestamp {
    let files = manifest.all_sst_views().map(|view| view.sst.id.value().timestamp_ms());
    let compacted = manifest.last_compacted_l0_sst_id().map(|id| id.timestamp_ms());
    let latest = files.chain(compacted).max().unwrap_or(0);
    timestamp(latest).max(Timestamp(manifest.last_l0_clock_tick()))
}

/// Of a compaction's start, of its worker's last sign of life, or of a file that it has written.
fn of_compactions(compactions: &VersionedCompactions) -> Timestamp {
    let latest = |it: &Compaction| {
        let files = it.output_ssts().into_iter().map(|file| file.id.value().timestamp_ms());
        let alive = it.worker().map(|worker| worker.last_heartbeat_ms);
        files.chain(alive).fold(it.id().timestamp_ms(), u64::max)
    };
    timestamp(compactions.recent_compactions().map(latest).max().unwrap_or(0))
}

fn timestamp(ms: u64) -> Timestamp {
    Timestamp(i64::try_from(ms).unwrap_or(i64::MAX))
}
