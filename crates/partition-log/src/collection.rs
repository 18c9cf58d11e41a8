//! What becomes of objects nobody needs: garbage segments after their grace, orphans after theirs.
//!
//! Owns: the order of deletion (object first, then the metadata's memory of it), the two graces.
//! Does not own: which segments are garbage or known (the metadata), retention.
//!
//! A WAL segment that dead runs lie in is deleted only once its log has been ended and all of it
//! adopted, or is trimmed beyond it: whoever ends a log must not meet a hole (see `wal::ledger`).
//!
//! An orphan is an object under `data/` that the metadata does not know: an upload whose commit never
//! happened. It is told from an upload whose commit is still to come by its age alone, which is why a
//! flush stops insisting on a commit long before (see `LogOptions::orphan_grace`).
//!
//! An object under `wal/` is left over when its log does not need it (`LogEnds::is_over`) and no run
//! lies in it. Fences are kept for ever: they are tiny, and all that keeps a writer which was stalled for
//! days from believing that it still owns its log (A4). Objects of logs that the ledger does not have
//! are nobody's to judge, and stay.
//!
//! What a crashed upload leaves besides objects is the bucket's own: staged files are swept when a
//! directory is opened, unfinished parts by the store's lifecycle rule.

use crate::engine::Shared;
use crate::segment::{DATA_PREFIX, WAL_PREFIX, segment_key, segment_of};
use crate::wal::ledger::{WalId, WalRecord};
use bucket::{Bucket, BucketError, Key, ObjectInfo, Purpose};
use std::collections::HashMap;
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
    let grace = shared.options.collection_grace;
    let mut deleted = Vec::new();
    let mut failures = 0;
    let ends = match garbage.iter().any(|it| is_of_wal(it.segment)) {
        true => LogEnds::ask(shared).await.unwrap_or_default(), // Unknown: those wait.
        false => LogEnds::default(),
    };
    let is_free = |segment| !is_of_wal(segment) || ends.is_over(segment);
    let due = garbage.into_iter().filter(|it| grace <= it.age && is_free(it.segment));
    for segment in due {
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
        let swept = async { Ok(sweep_data(&shared).await? + sweep_logs(&shared).await?) };
        match swept.await {
            Ok(0) => (),
            Ok(swept) => tracing::info!(swept, "objects the metadata does not know are deleted"),
            Err::<u64, String>(error) => {
                tracing::warn!(error, "the sweep of orphans goes on later")
            }
        }
    }
}

/// Data segments that the metadata does not know.
async fn sweep_data(shared: &Shared) -> Result<u64, String> {
    let mut pages = Pages::below(DATA_PREFIX);
    let mut swept = 0;
    while let Some(listed) = pages.next(shared).await? {
        let cutoff = cutoff(shared);
        let old: Vec<_> = listed.iter().filter_map(|it| old_segment(it, cutoff)).collect();
        swept += sweep_unknown(shared, &old).await?;
    }
    Ok(swept)
}

/// WAL segments that neither their log nor a committed run needs.
async fn sweep_logs(shared: &Shared) -> Result<u64, String> {
    if shared.ledger().is_none() {
        return Ok(0);
    }
    let mut pages = Pages::below(WAL_PREFIX);
    let mut swept = 0;
    while let Some(listed) = pages.next(shared).await? {
        let cutoff = cutoff(shared);
        let old: Vec<_> = listed.iter().filter_map(|it| old_segment(it, cutoff)).collect();
        // Asked after listing: a log was known before its first object was written.
        let Some(ends) = LogEnds::ask(shared).await else {
            return Err("the ledger of logs did not answer".to_owned());
        };
        let over: Vec<_> = old.into_iter().filter(|it| ends.is_over(*it)).collect();
        swept += sweep_unknown(shared, &over).await?;
    }
    Ok(swept)
}

async fn sweep_unknown(shared: &Shared, segments: &[SegmentName]) -> Result<u64, String> {
    let known = shared.runs.known(segments).await.map_err(|it| it.to_string())?;
    let orphans = segments.iter().zip(known).filter(|(_, known)| !known).map(|(id, _)| *id);
    let mut swept = 0;
    // Age tells uploads of other brokers; our own are known, whatever the clocks say.
    for id in orphans.filter(|id| !shared.is_uploading(*id)) {
        delete_orphan(&*shared.bucket, id).await.map_err(|it| it.to_string())?;
        shared.metrics.orphans_swept.inc();
        swept += 1;
    }
    Ok(swept)
}

/// A listing, page by page.
struct Pages {
    prefix: Key,
    after: Option<Key>,
    is_over: bool,
}

impl Pages {
    fn below(prefix: &str) -> Pages {
        Pages { prefix: Key::new(prefix), after: None, is_over: false }
    }

    async fn next(&mut self, shared: &Shared) -> Result<Option<Vec<ObjectInfo>>, String> {
        if self.is_over {
            return Ok(None);
        }
        let listed = shared.bucket.list(&self.prefix, self.after.as_ref(), LIST_BATCH).await;
        let listed = listed.map_err(|it| it.to_string())?;
        self.is_over = listed.len() < LIST_BATCH;
        self.after = listed.last().map(|it| it.key.clone());
        Ok(Some(listed))
    }
}

/// Which part of each log nobody will ever walk again.
#[derive(Debug, Default)]
struct LogEnds {
    logs: HashMap<WalId, WalRecord>,
}

impl LogEnds {
    /// `None` if nobody answered, or there is no ledger.
    async fn ask(shared: &Shared) -> Option<LogEnds> {
        let logs = shared.ledger()?.logs().await;
        let logs = logs.inspect_err(|error| tracing::debug!(%error, "logs not asked for")).ok()?;
        Some(LogEnds { logs: logs.into_iter().map(|it| (it.id, it)).collect() })
    }

    /// Whether the log does without this segment: it is below the trim, or the log has ended and this
    /// is not its fence. What lies behind a fence was never acknowledged.
    fn is_over(&self, segment: SegmentName) -> bool {
        let SegmentName::Wal { broker, epoch, sequence } = segment else { return false };
        let Some(log) = self.logs.get(&WalId { broker, epoch }) else { return false };
        match log.fence {
            Some(fence) => sequence != fence,
            None => sequence < log.trimmed,
        }
    }
}

fn is_of_wal(segment: SegmentName) -> bool {
    matches!(segment, SegmentName::Wal { .. })
}

fn cutoff(shared: &Shared) -> Timestamp {
    let grace_ms = i64::try_from(shared.options.orphan_grace.as_millis()).unwrap_or(i64::MAX);
    Timestamp(shared.environment.clock.wall().0.saturating_sub(grace_ms))
}

/// A segment's object that is older than the grace period allows for uploads under way.
fn old_segment(object: &ObjectInfo, cutoff: Timestamp) -> Option<SegmentName> {
    segment_of(&object.key).filter(|_| object.modified < cutoff)
}

async fn delete_orphan(bucket: &dyn Bucket, id: SegmentName) -> Result<(), BucketError> {
    tracing::debug!(segment = %id, "an orphan is deleted");
    bucket.delete(&segment_key(id), Purpose::Collection).await
}
