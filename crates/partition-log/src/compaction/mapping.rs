//! Where each key of the dirty part comes last.
//!
//! Owns: reading that part, how far memory reaches. Does not own: the table (`keys`).

use super::clean::RECORDS_BYTES_MAX;
use super::fates::{Fate, Fates};
use super::keys::{Full, KeyMap};
use super::rewrite::{damaged, each_batch, entry};
use super::{CHANGES_MAX, CompactionError, PAGE_RUNS};
use crate::engine::Shared;
use crate::log::PartitionLog;
use crate::run_index::RunDescription;
use crate::segment::BatchEntry;
use protocol::records::OpenedBatch;
use std::sync::Arc;
use vocabulary::Offset;

/// The keys of `[from, end)` of a partition.
#[derive(Debug)]
pub(super) struct Mapped {
    pub(super) keys: KeyMap,
    /// Where a batch ends; `from` if nothing can be decided yet.
    pub(super) end: Offset,
}

/// As much of `[from, to)` as memory has room for. What was aborted has no say. Where a transaction is not
/// decided, which below the last stable offset none is, the mapped part ends.
pub(super) async fn map_keys(
    shared: &Arc<Shared>,
    log: &PartitionLog,
    from: Offset,
    to: Offset,
) -> Result<Mapped, CompactionError> {
    let options = shared.compaction.options();
    let entropy = &shared.environment.entropy;
    let prefixes = [entropy.next_u64(), entropy.next_u64()];
    // No more records than offsets.
    let records = (to.0 - from.0).unsigned_abs();
    let keys = KeyMap::new(records, options.dedupe_bytes.0, options.load_factor, prefixes);
    let mut mapped = Mapped { keys, end: from };
    let mut fates = Fates::default();
    let mut changes = 0;
    'pages: while mapped.end < to {
        let page = shared.runs.runs_from(log.partition(), mapped.end, PAGE_RUNS).await?;
        let before = mapped.end;
        for run in page.iter().take_while(|it| it.base < to) {
            let entry = match entry(shared, run).await {
                Ok(entry) => entry,
                Err(error) if error.is_gone() && changes < CHANGES_MAX => {
                    // Merged since this page was read, and collected: it is read anew.
                    changes += 1;
                    continue 'pages;
                }
                Err(error) => return Err(error),
            };
            let wanted = |it: &BatchEntry| from <= it.base_offset && it.base_offset < to;
            let Some(fates) = fates.of(log, &entry, to).await? else { return Ok(mapped) };
            let mut fates = fates.into_iter();
            let mut full_at = None;
            let read = each_batch(shared, run, &entry, |batch, bytes| {
                let fate = fates.next().expect("there is one for each batch");
                if !wanted(batch) || full_at.is_some() || fate != Fate::Counts {
                    return Ok(());
                }
                let opened = OpenedBatch::open(bytes, RECORDS_BYTES_MAX);
                let opened = opened.map_err(|error| damaged(run, batch, &error))?;
                for record in opened.records() {
                    let record = record.map_err(|error| damaged(run, batch, &error))?;
                    let Some(key) = record.key else { continue };
                    if let Err(Full) = mapped.keys.put(key, record.offset) {
                        full_at = Some(batch.base_offset);
                        break;
                    }
                }
                Ok(())
            })
            .await;
            read.map_err(|error| of_half_a_run(run, error))?;
            if let Some(at) = full_at {
                mapped.end = at;
                return match from < at {
                    true => Ok(mapped),
                    false => Err(CompactionError::TooManyKeys { at }),
                };
            }
            mapped.end = run.end.min(to);
            changes = 0;
        }
        if mapped.end == before {
            break; // Deleted meanwhile.
        }
    }
    Ok(mapped)
}

/// What went while it was read: some of its keys are known, and its checksum is not, so another pass starts afresh.
fn of_half_a_run(run: &RunDescription, error: CompactionError) -> CompactionError {
    match error.is_gone() {
        true => CompactionError::Overtaken { from: run.base },
        false => error,
    }
}
