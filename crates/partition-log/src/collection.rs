//! What becomes of objects nobody needs: garbage segments after their grace, orphans after theirs.
//!
//! Owns: the order of deletion (object first, then the metadata's memory of it), the two graces.
//! Does not own: which segments are garbage or known (the metadata), retention.
//!
//! An orphan is an object under `data/` that the metadata does not know: an upload whose commit never
//! happened. It is told from an upload whose commit is still to come by its age alone, which is why a
//! flush stops insisting on a commit long before (see `LogOptions::orphan_grace`).

use crate::engine::Shared;
use crate::segment::{DATA_PREFIX, segment_key, segment_of};
use bucket::{Bucket, BucketError, Key, ObjectInfo, Purpose};
use std::sync::Arc;
use vocabulary::{SegmentName, Timestamp};

/// Segments asked for, deleted and forgotten together.
const GARBAGE_BATCH: usize = 256;

/// Objects listed, and compared with the metadata, together.
const LIST_BATCH: usize = 1000;

/// Failed deletions after which one look at the garbage gives up.
const FAILURES_MAX: usize = 8;

/// The collection loop, until it is dropped.
pub(crate) async fn collect(shared: Arc<Shared>) {
    loop {
        let wait = shared.jittered(shared.options.collection_interval);
        shared.environment.clock.sleep(wait).await;
        while let Some(collected) = collect_batch(&shared).await {
            if collected < GARBAGE_BATCH {
                break;
            }
        }
    }
}

/// How many segments were deleted and forgotten; `None` if trouble ended it, to be tried again.
async fn collect_batch(shared: &Shared) -> Option<usize> {
    let garbage = match shared.runs.garbage(GARBAGE_BATCH).await {
        Ok(garbage) => garbage,
        Err(error) => {
            tracing::debug!(%error, "garbage not asked for");
            return None;
        }
    };
    let grace_ms = i64::try_from(shared.options.collection_grace.as_millis()).unwrap_or(i64::MAX);
    let cutoff = shared.environment.clock.wall().0.saturating_sub(grace_ms);
    let mut deleted = Vec::new();
    let mut failures = 0;
    for segment in garbage.into_iter().filter(|it| it.since.0 <= cutoff) {
        match shared.bucket.delete(&segment_key(segment.segment), Purpose::Collection).await {
            Ok(()) => deleted.push(segment.segment),
            Err(error) => {
                tracing::warn!(%error, "garbage stays for now");
                failures += 1;
                if failures == FAILURES_MAX {
                    break; // The bucket has trouble, not an object.
                }
            }
        }
    }
    if !deleted.is_empty() {
        // Only now: what is forgotten before it is deleted would have to wait for the sweep.
        if let Err(error) = shared.runs.forget(&deleted).await {
            tracing::warn!(%error, "deleted segments are forgotten later");
            return None;
        }
        shared.metrics.segments_collected.inc_by(deleted.len() as u64);
    }
    Some(deleted.len())
}

/// The sweep's loop, until it is dropped.
pub(crate) async fn sweep(shared: Arc<Shared>) {
    loop {
        let wait = shared.jittered(shared.options.orphan_interval);
        shared.environment.clock.sleep(wait).await;
        match sweep_once(&shared).await {
            Ok(0) => (),
            Ok(swept) => tracing::info!(swept, "objects the metadata does not know are deleted"),
            Err(error) => tracing::warn!(error, "the sweep of orphans goes on later"),
        }
    }
}

async fn sweep_once(shared: &Shared) -> Result<u64, String> {
    let grace_ms = i64::try_from(shared.options.orphan_grace.as_millis()).unwrap_or(i64::MAX);
    let cutoff = Timestamp(shared.environment.clock.wall().0.saturating_sub(grace_ms));
    let prefix = Key::new(DATA_PREFIX);
    let mut after: Option<Key> = None;
    let mut swept = 0;
    loop {
        let listed = shared.bucket.list(&prefix, after.as_ref(), LIST_BATCH).await;
        let listed = listed.map_err(|it| it.to_string())?;
        let old: Vec<_> = listed.iter().filter_map(|it| old_segment(it, cutoff)).collect();
        let known = shared.runs.known(&old).await.map_err(|it| it.to_string())?;
        let orphans = old.iter().zip(known).filter(|(_, known)| !known).map(|(id, _)| *id);
        // Age tells uploads of other brokers; our own are known, whatever the clocks say.
        for id in orphans.filter(|id| !shared.is_uploading(*id)) {
            delete_orphan(&*shared.bucket, id).await.map_err(|it| it.to_string())?;
            shared.metrics.orphans_swept.inc();
            swept += 1;
        }
        let is_last = listed.len() < LIST_BATCH;
        after = listed.into_iter().next_back().map(|it| it.key);
        if is_last || after.is_none() {
            return Ok(swept);
        }
    }
}

/// A data segment's object that is older than the grace period allows for uploads under way.
fn old_segment(object: &ObjectInfo, cutoff: Timestamp) -> Option<SegmentName> {
    segment_of(&object.key).filter(|_| object.modified < cutoff)
}

async fn delete_orphan(bucket: &dyn Bucket, id: SegmentName) -> Result<(), BucketError> {
    tracing::debug!(segment = %id, "an orphan is deleted");
    bucket.delete(&segment_key(id), Purpose::Collection).await
}
