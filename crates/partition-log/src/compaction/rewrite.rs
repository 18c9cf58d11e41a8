//! Runs in, cleaned runs in their place.
//!
//! Owns: which neighbours become one run, reading and checking their batches, the new segment, its commit.
//! Does not own: what is left of a batch (`clean`), retries of the bucket and the metadata (`merge`).
//!
//! Neighbours of one leader epoch are joined as long as they are no more than merging's target together,
//! so that a log that shrinks does not end as a thousand little runs. A run that is clean already and
//! loses nothing stays where it is: it costs a read, no upload.
//!
//! Every run is checked against its checksum before anything refers to a copy of its bytes (A6).

use super::clean::{Cleaned, Counts, Rules};
use super::fates::{Fate, Fates};
use super::mapping::Mapped;
use super::{CHANGES_MAX, CompactionError, PAGE_RUNS};
use crate::engine::Shared;
use crate::flush::insist_until;
use crate::log::{PartitionLog, Seal};
use crate::merge::{
    COMPACTED_LEVEL, Keep, LEVEL_MAX, MergeError, Producers, entry_of, fresh_name, is_compacted,
    load_index, producers, put_segment, read_bytes, replace,
};
use crate::run_index::{Replacement, RunCommit, RunDescription};
use crate::segment::{Assembly, BatchEntry, RunCrc, RunEntry};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use protocol::records::BatchError;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use vocabulary::{Offset, Tick};

/// Larger: a faster pass, more memory and more of the bucket's attention.
pub(super) const READS_AT_ONCE: usize = 2;

/// Of one read, unless a batch is larger. Larger: fewer requests, more memory.
pub(super) const READ_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// What is kept is copied into pieces of about this size.
const PIECE_BYTES: usize = 1024 * 1024;

/// After so much looked at without a wait, others get their turn.
const YIELD_BYTES: u64 = 256 * 1024;

/// Until a cleaned run is committed, a reader may begin with what was there before, and see a record that is superseded
/// by a tombstone. The horizon of that counts from the last moment at which this may be: so long after the cleaning
/// begins. What is not committed by then is thrown away, and has twice the time it took at the next try. Longer: fewer
/// runs written twice, tombstones that stay longer.
const LEEWAY: Duration = Duration::from_secs(10);

/// Cleans everything below the end of what was mapped, from the log start on.
pub(super) async fn rewrite(
    shared: &Arc<Shared>,
    log: &PartitionLog,
    mapped: &Mapped,
) -> Result<(), CompactionError> {
    let mut next = log.offsets().log_start;
    let mut changes = 0;
    let mut fates = Fates::default();
    let mut leeway = LEEWAY;
    let clock = &shared.environment.clock;
    while next < mapped.end && log.seal() < Seal::Fenced {
        let began = clock.now();
        // What comes instead of a group that has changed is looked at from the same point.
        let mut told = fates.clone();
        let error = match step(shared, log, mapped, (next, leeway), &mut told).await {
            Ok(None) => break,
            Ok(Some((end, Outcome::Done))) => {
                (fates, next, changes) = (told, end, 0);
                continue;
            }
            // C2: nothing behind it may count as clean before it is.
            Ok(Some((_, Outcome::NotNow))) => {
                return Err(CompactionError::Overtaken { from: next });
            }
            // Merged or deleted since: what is there now is looked at.
            Ok(Some((_, Outcome::Changed))) => CompactionError::Overtaken { from: next },
            Ok(Some((_, Outcome::Late))) => {
                leeway = leeway.max(2 * clock.now().since(began));
                CompactionError::TooSlow { from: next }
            }
            // Merged since, and collected.
            Err(error) if error.is_gone() => error,
            Err(error) => return Err(error),
        };
        changes += 1;
        next = next.max(log.offsets().log_start);
        if changes == CHANGES_MAX {
            return Err(error);
        }
    }
    Ok(())
}

/// The runs from `next` on that become one, and where they end. `None` behind the mapped part.
async fn step(
    shared: &Arc<Shared>,
    log: &PartitionLog,
    mapped: &Mapped,
    (next, leeway): (Offset, Duration),
    fates: &mut Fates,
) -> Result<Option<(Offset, Outcome)>, CompactionError> {
    let Some(group) = group(shared, log, next, mapped.end).await? else { return Ok(None) };
    let mut of_group = Vec::new();
    for entry in &group.entries {
        let of_run = fates.of(log, entry, mapped.end).await?;
        of_group.push(of_run.ok_or(CompactionError::Undecided { from: entry.base })?);
    }
    let outcome = clean(shared, log, mapped, (&group, of_group), leeway).await?;
    Ok(Some((group.end(), outcome)))
}

/// Neighbours that become one run. Never empty.
struct Group {
    runs: Vec<RunDescription>,
    entries: Vec<RunEntry>,
}

impl Group {
    fn end(&self) -> Offset {
        self.runs[self.runs.len() - 1].end
    }
}

async fn group(
    shared: &Arc<Shared>,
    log: &PartitionLog,
    from: Offset,
    mapped_end: Offset,
) -> Result<Option<Group>, CompactionError> {
    let mut page = shared.runs.runs_from(log.partition(), from, PAGE_RUNS).await?.into_iter();
    let Some(first) = page.next().filter(|it| it.base < mapped_end) else { return Ok(None) };
    let now = shared.environment.clock.wall();
    let keep = Keep::of(&log.settings(), Offset::ZERO, now);
    let limit = shared.options.merge.target_bytes.0.min(keep.bytes_max);
    let mut bytes = first.length;
    let first_entry = entry(shared, &first).await?;
    let mut batches = first_entry.batches.len();
    let mut group = Group { runs: vec![first], entries: vec![first_entry] };
    for run in page {
        bytes += run.length;
        let span_ms = run.max_timestamp.0.saturating_sub(first.max_timestamp.0);
        let is_next = run.base == group.end() && run.leader_epoch == first.leader_epoch;
        if !is_next || mapped_end < run.end || limit < bytes || keep.span_ms_max < span_ms {
            break;
        }
        let entry = entry(shared, &run).await?;
        batches += entry.batches.len();
        if shared.options.segment_batches_max < batches {
            break;
        }
        group.runs.push(run);
        group.entries.push(entry);
    }
    Ok(Some(group))
}

enum Outcome {
    Done,
    Changed,
    NotNow,
    /// A horizon in it is of too early a time.
    Late,
}

async fn clean(
    shared: &Arc<Shared>,
    log: &PartitionLog,
    mapped: &Mapped,
    (group, fates): (&Group, Vec<Vec<Fate>>),
    leeway: Duration,
) -> Result<Outcome, CompactionError> {
    let settings = log.settings();
    let began = shared.environment.clock.now();
    // Who is promised no time for tombstones needs none before it.
    let leeway = if 0 < settings.delete_retention_ms { leeway } else { Duration::ZERO };
    let leeway_ms = i64::try_from(leeway.as_millis()).unwrap_or(i64::MAX);
    let grace_ms = shared.options.collection_grace.as_millis() as i64;
    let rules = Rules {
        keys: &mapped.keys,
        below: mapped.end,
        now: shared.environment.clock.wall(),
        delete_retention_ms: settings.delete_retention_ms.saturating_add(leeway_ms),
        // Whoever has read records from a run that is replaced since must find how they were decided.
        markers_kept_ms: settings.delete_retention_ms.max(grace_ms),
        levels: settings.compression,
    };
    let mut draft = Draft::default();
    let mut counts = Counts::default();
    let last = group.entries.last().and_then(|it| it.batches.last()).map(|it| it.base_offset);
    for ((run, entry), fates) in group.runs.iter().zip(&group.entries).zip(fates) {
        let mut fates = fates.into_iter();
        each_batch(shared, run, entry, |batch, bytes| {
            let is_last = last == Some(batch.base_offset);
            let fate = fates.next().expect("there is one for each batch");
            let cleaned = rules.clean(bytes, fate, is_last, &mut counts);
            draft.add(batch, bytes, cleaned.map_err(|error| damaged(run, batch, &error))?);
            Ok(())
        })
        .await?;
    }
    let has_horizon = 0 < counts.horizons && !leeway.is_zero();
    draft.commit_until = has_horizon.then(|| began.plus(leeway));
    let metrics = &shared.metrics;
    metrics.compaction_records_kept.inc_by(counts.kept);
    metrics.compaction_records_dropped.inc_by(counts.dropped);
    metrics.compaction_aborted_dropped.inc_by(counts.aborted);
    metrics.compaction_markers_dropped.inc_by(counts.markers);
    // Of a run that reaches beyond the mapped part, the rest is still dirty.
    let is_whole = group.end() <= mapped.end;
    let is_marked = group.runs.len() == 1 && (is_compacted(group.runs[0].segment) || !is_whole);
    if is_marked && !draft.is_changed {
        return Ok(Outcome::Done);
    }
    let level = if is_whole { COMPACTED_LEVEL } else { LEVEL_MAX };
    match producers(shared, &group.runs, &group.entries).await? {
        Producers::Known(producers) => commit(shared, log, group, draft, (producers, level)).await,
        Producers::Unknown => Ok(Outcome::NotNow),
    }
}

/// A cleaned run on its way.
#[derive(Default)]
struct Draft {
    batches: Vec<BatchEntry>,
    pieces: Vec<Bytes>,
    open: BytesMut,
    length: u64,
    is_changed: bool,
    /// Of too early a time are its horizons from then on.
    commit_until: Option<Tick>,
}

impl Draft {
    fn add(&mut self, batch: &BatchEntry, bytes: &Bytes, cleaned: Cleaned) {
        let position = self.length;
        let (entry, bytes) = match &cleaned {
            Cleaned::AsIs => (BatchEntry { position, ..*batch }, bytes),
            Cleaned::Thinned(header, thinned) => {
                self.is_changed = true;
                let length = u32::try_from(thinned.len()).expect("a batch's length has 31 bits");
                let marker = batch.marker.filter(|_| header.attributes.is_control());
                (BatchEntry::of(header, marker, position, length), thinned)
            }
            Cleaned::Gone => return self.is_changed = true,
        };
        self.length += bytes.len() as u64;
        self.batches.push(entry);
        self.open.extend_from_slice(bytes);
        if PIECE_BYTES <= self.open.len() {
            self.pieces.push(self.open.split().freeze());
        }
    }

    fn is_late(&self, shared: &Shared) -> bool {
        self.commit_until.is_some_and(|it| it <= shared.environment.clock.now())
    }

    fn finish(&mut self) -> u32 {
        self.pieces.push(self.open.split().freeze());
        let mut crc = RunCrc::new();
        self.pieces.iter().for_each(|it| crc.update(it));
        crc.finish()
    }
}

async fn commit(
    shared: &Arc<Shared>,
    log: &PartitionLog,
    group: &Group,
    mut draft: Draft,
    (producers, level): (Option<Bytes>, u8),
) -> Result<Outcome, CompactionError> {
    if draft.is_late(shared) {
        return Ok(Outcome::Late);
    }
    let crc = draft.finish();
    let first = &group.runs[0];
    let run = RunEntry {
        producers,
        ..RunEntry::of_batches(
            (first.partition, first.leader_epoch),
            (first.base, group.end()),
            std::mem::take(&mut draft.batches),
        )
    };
    let assembly = Assembly::new(fresh_name(&*shared.environment.entropy, level), vec![run]);
    let put = put_segment(shared, assembly, &[crc], &draft.pieces, level).await;
    let (index, _uploading) = put?;
    let uploaded_at = shared.environment.clock.now();
    if draft.is_late(shared) {
        return Ok(Outcome::Late); // An orphan, which is swept.
    }
    shared.metrics.compaction_written_bytes.inc_by(index.length);
    let merged = RunCommit {
        segment: index.name,
        segment_bytes: index.length,
        created: shared.environment.clock.wall(),
        runs: index.runs.iter().map(|it| it.described(index.name)).collect(),
    };
    let replacement = Replacement { merged, replaced: group.runs.clone() };
    let insist_until = insist_until(&shared.options, uploaded_at);
    let until = draft.commit_until.map_or(insist_until, |it| it.min(insist_until));
    let refusals = match replace(shared, &replacement, until).await {
        Err(MergeError::TooOld) if draft.is_late(shared) => return Ok(Outcome::Late),
        replaced => replaced?,
    };
    shared.reader.learn_compacted(first.partition, index);
    for refusal in &refusals {
        let (partition, base, reason) = (refusal.partition, refusal.base, refusal.reason);
        tracing::debug!(%partition, %base, %reason, "a compacted run is not wanted");
    }
    if !refusals.is_empty() {
        return Ok(Outcome::Changed);
    }
    log.compacted(group.end());
    Ok(Outcome::Done)
}

/// What the segment's own index says of a run.
pub(super) async fn entry(
    shared: &Arc<Shared>,
    run: &RunDescription,
) -> Result<RunEntry, CompactionError> {
    let index = load_index(shared, run.segment).await?;
    let entry = entry_of(run, &index).ok_or_else(|| MergeError::Corrupt {
        segment: run.segment,
        reason: format!("its index does not have {} from {} on", run.partition, run.base),
    })?;
    Ok(entry)
}

/// Shows every batch of a run, in order. Whether the run is what was written is known at its end: what was
/// made of it must not be used before this returns.
pub(super) async fn each_batch(
    shared: &Arc<Shared>,
    run: &RunDescription,
    entry: &RunEntry,
    mut each: impl FnMut(&BatchEntry, &Bytes) -> Result<(), CompactionError>,
) -> Result<(), CompactionError> {
    let mut crc = RunCrc::new();
    let mut unwaited = 0;
    let reads = stretches(&entry.batches).into_iter().map(|stretch| async move {
        let (first, last) = (&entry.batches[stretch.start], &entry.batches[stretch.end - 1]);
        let end = last.position + u64::from(last.length);
        let range = entry.position + first.position..entry.position + end;
        read_bytes(shared, run.segment, range).await.map(|bytes| (stretch, bytes))
    });
    let mut reads = std::pin::pin!(futures::stream::iter(reads).buffered(READS_AT_ONCE));
    while let Some(read) = reads.next().await {
        let (stretch, bytes) = read?;
        crc.update(&bytes);
        shared.metrics.compaction_read_bytes.inc_by(bytes.len() as u64);
        let start = entry.batches[stretch.start].position;
        for batch in &entry.batches[stretch] {
            let at = (batch.position - start) as usize; // Within a read in memory.
            each(batch, &bytes.slice(at..at + batch.length as usize))?;
            unwaited += u64::from(batch.length);
            if YIELD_BYTES <= unwaited {
                unwaited = 0;
                tokio::task::yield_now().await;
            }
        }
    }
    match crc.finish() == run.crc {
        true => Ok(()),
        false => {
            let (partition, base, end) = (run.partition, run.base, run.end);
            let reason = format!("{partition} from {base} to {end} has another checksum");
            Err(MergeError::Corrupt { segment: run.segment, reason }.into())
        }
    }
}

/// Batches that one read brings.
fn stretches(batches: &[BatchEntry]) -> Vec<Range<usize>> {
    let mut stretches: Vec<Range<usize>> = Vec::new();
    for (at, batch) in batches.iter().enumerate() {
        let end = batch.position + u64::from(batch.length);
        match stretches.last_mut() {
            Some(it) if end - batches[it.start].position <= READ_BYTES_MAX => it.end = at + 1,
            _ => stretches.push(at..at + 1),
        }
    }
    stretches
}

/// A batch that cannot be opened: nothing of its run is rewritten, nor of those behind it.
pub(super) fn damaged(
    run: &RunDescription,
    batch: &BatchEntry,
    error: &BatchError,
) -> CompactionError {
    let reason = format!("the batch at {}: {error}", batch.base_offset);
    MergeError::Corrupt { segment: run.segment, reason }.into()
}
