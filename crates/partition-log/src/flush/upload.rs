//! One data segment: gathered, uploaded, committed.
//!
//! Owns: the retries of both steps, and finding out what a commit without an answer has done.
//! Does not own: what the segment holds (`flush` decides), reading the WAL (`read_back`), the partitions'
//! states (`log`).
//!
//! After an unknown outcome nothing is guessed: an upload is repeated with the same key and bytes, or
//! under a new id if the key turns out to be taken; a commit is repeated as it was, and a run that is
//! then refused because the committed end is ahead is looked up before it counts as done.

use super::read_back::{self, Batches};
use super::{BACKOFF_MAX, BACKOFF_MIN, insist_until};
use crate::engine::{Shared, Uploading};
use crate::log::{BaseError, FlushPart, Seal};
use crate::merge::fresh_name;
use crate::run_index::{RefusalReason, RunCommit, RunDescription, RunIndexError, RunRefusal};
use crate::segment::{EncodedSegment, SegmentBuilder, segment_key};
use bucket::{BucketError, Purpose, PutOutcome};
use bytes::Bytes;
use std::sync::Arc;
use vocabulary::{Offset, SegmentName, Tick};

/// Tries of one upload or commit before the flush starts over (and says so in its health).
const TRIES_MAX: u32 = 8;

/// Runs looked up at once to find out what an unanswered commit has done.
const LOOKUP_RUNS: usize = 16;

/// Why a segment was not flushed. Nothing is lost: its batches stay in the tails.
#[derive(Debug, thiserror::Error)]
pub(super) enum FlushError {
    #[error("producers of {partition} are not known: {reason}")]
    Producers { partition: vocabulary::Partition, reason: String },
    #[error("the WAL cannot be read back: {0}")]
    Wal(#[from] crate::wal::WalError),
    #[error("the bucket does not take a segment: {0}")]
    Bucket(#[from] BucketError),
    #[error("the metadata does not take a segment: {0}")]
    RunIndex(#[from] RunIndexError),
    #[error("a segment was uploaded too long ago to commit it")]
    TooOld,
}

/// Everything a segment is made of, before it has a name.
struct Draft {
    parts: Vec<Gathered>,
}

struct Gathered {
    part: FlushPart,
    batches: Batches,
    /// As of the part's end.
    producers: Bytes,
}

pub(super) async fn write(shared: &Arc<Shared>, parts: Vec<FlushPart>) -> Result<(), FlushError> {
    let draft = Draft { parts: gather(shared, parts).await? };
    if draft.parts.is_empty() {
        return Ok(());
    }
    let (id, segment, _uploading) = upload(shared, &draft).await?;
    let uploaded_at = shared.environment.clock.now();
    let commit = describe(shared, id, &segment);
    let refusals = commit_runs(shared, &commit, uploaded_at).await?;
    shared.reader.learn(id, segment.index);
    shared.metrics.segments_written.inc();
    shared.metrics.flushed_bytes.inc_by(segment.length);
    for gathered in draft.parts {
        settle(shared, gathered, &commit, &refusals).await?;
    }
    Ok(())
}

/// The parts with their bytes and their producers, without those whose partition is gone or has moved on.
async fn gather(shared: &Arc<Shared>, parts: Vec<FlushPart>) -> Result<Vec<Gathered>, FlushError> {
    let (mut here, mut producers) = (Vec::with_capacity(parts.len()), Vec::new());
    for part in parts {
        if let Some(known) = producers_of(shared, &part).await? {
            here.push(part);
            producers.push(known);
        }
    }
    let batches = read_back::batches_of(shared, &here).await?;
    let mut gathered = Vec::with_capacity(here.len());
    for ((part, producers), batches) in here.into_iter().zip(producers).zip(batches) {
        match batches {
            Some(batches) => gathered.push(Gathered { part, batches, producers }),
            None => damaged(shared, &part),
        }
    }
    Ok(gathered)
}

/// The producers as of the end of a part. `None` if its partition is gone or has moved on.
async fn producers_of(shared: &Arc<Shared>, part: &FlushPart) -> Result<Option<Bytes>, FlushError> {
    let partition = part.log.partition();
    let (as_of, table) = match part.log.base_producers().await {
        Ok(base) => base,
        Err(BaseError::Removed) => return Ok(None),
        Err(BaseError::Failed(reason)) => return Err(FlushError::Producers { partition, reason }),
    };
    if part.base < as_of {
        // An earlier commit of ours went through without telling us.
        adopt(shared, part, as_of).await?;
        return Ok(None);
    }
    let now = shared.environment.clock.wall();
    Ok(Some(part.producers_at_end(table, now, shared.options.producer_expiration_ms)))
}

/// Acknowledged, and gone from the disk. The others must not suffer from it.
fn damaged(shared: &Shared, part: &FlushPart) {
    let (partition, base, end) = (part.log.partition(), part.base, part.end);
    tracing::error!(%partition, %base, %end, "A6: a WAL batch is corrupt, the partition stops");
    shared.metrics.damaged_partitions.inc();
    part.log.seal_and_fail(Seal::Damaged);
}

impl Draft {
    fn encode(&self, id: SegmentName) -> EncodedSegment {
        let mut builder = SegmentBuilder::new(id);
        for gathered in &self.parts {
            let partition = gathered.part.log.partition();
            let entries = &gathered.part.entries;
            for ((epoch, header, bytes), entry) in gathered.batches.iter().zip(entries) {
                let marker = entry.batch.marker;
                builder.push_checked(partition, *epoch, header, marker, bytes.clone());
            }
            if !gathered.producers.is_empty() {
                builder.attach_producers(partition, gathered.producers.clone());
            }
        }
        builder.finish()
    }
}

/// Durable under the returned id.
async fn upload<'a>(
    shared: &'a Shared,
    draft: &Draft,
) -> Result<(SegmentName, EncodedSegment, Uploading<'a>), FlushError> {
    let fresh = || fresh_name(&*shared.environment.entropy, 0);
    let mut id = fresh();
    let mut uploading = shared.uploading(id);
    let mut segment = draft.encode(id);
    let mut backoff = BACKOFF_MIN;
    let mut tries = 0;
    loop {
        tries += 1;
        let body = segment.chunks.clone();
        match shared.bucket.put_new(&segment_key(id), body, Purpose::Flush).await {
            Ok(PutOutcome::Created) => return Ok((id, segment, uploading)),
            Ok(PutOutcome::AlreadyExists) => {
                // Not our bytes, or the store cannot tell: a new name costs nothing, and what has
                // the old one is swept if nobody wants it (A7).
                id = fresh();
                uploading = shared.uploading(id);
                segment = draft.encode(id);
            }
            Err(error) if tries == TRIES_MAX => return Err(error.into()),
            Err(error) => shared.set_failing(error.to_string()),
        }
        if tries == TRIES_MAX {
            let key = segment_key(id);
            let reason = "every new key is taken".to_owned();
            return Err(BucketError::Refused { key, reason }.into());
        }
        shared.environment.clock.sleep(shared.jittered(backoff)).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

fn describe(shared: &Shared, id: SegmentName, segment: &EncodedSegment) -> RunCommit {
    let runs = segment.index.runs.iter().map(|run| RunDescription {
        partition: run.partition,
        leader_epoch: run.leader_epoch,
        base: run.base,
        end: run.end,
        max_timestamp: run.max_timestamp,
        segment: id,
        position: run.position,
        length: run.length,
        crc: run.crc,
    });
    RunCommit {
        segment: id,
        segment_bytes: segment.length,
        created: shared.environment.clock.wall(),
        runs: runs.collect(),
    }
}

async fn commit_runs(
    shared: &Shared,
    commit: &RunCommit,
    uploaded_at: Tick,
) -> Result<Vec<RunRefusal>, FlushError> {
    let insist_until = insist_until(&shared.options, uploaded_at);
    let mut backoff = BACKOFF_MIN;
    loop {
        match shared.runs.commit(commit.clone()).await {
            Ok(refusals) => return Ok(refusals),
            Err(RunIndexError::Fenced) => return Err(RunIndexError::Fenced.into()),
            Err(error @ RunIndexError::Unavailable { .. }) => {
                tracing::debug!(segment = %commit.segment, %error, "commit not answered");
                shared.set_failing(error.to_string());
            }
        }
        shared.environment.clock.sleep(shared.jittered(backoff)).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
        if insist_until <= shared.environment.clock.now() {
            return Err(FlushError::TooOld);
        }
    }
}

/// What the metadata's answer means for one partition.
async fn settle(
    shared: &Arc<Shared>,
    gathered: Gathered,
    commit: &RunCommit,
    refusals: &[RunRefusal],
) -> Result<(), FlushError> {
    let Gathered { part, producers, .. } = gathered;
    let partition = part.log.partition();
    let refusal = refusals.iter().find(|it| it.partition == partition);
    let Some(refusal) = refusal else {
        let now = shared.environment.clock.now();
        let runs = commit.runs.iter().filter(|it| it.partition == partition);
        let bytes = runs.clone().map(|it| it.length).sum();
        runs.for_each(|it| shared.merging.flushed(it, now));
        let (cost, batches) = part.weight();
        if part.log.committed(part.base, part.end, bytes, Some(producers)) {
            shared.flushed(cost, batches);
        }
        return Ok(());
    };
    shared.metrics.runs_refused.inc();
    match refusal.reason {
        RefusalReason::UnknownPartition => {
            tracing::info!(%partition, "the topic is gone, its tail is dropped");
            shared.remove(partition);
            Ok(())
        }
        RefusalReason::WrongEpoch => {
            tracing::error!(%partition, "A4: the metadata knows another leader, appends stop");
            part.log.seal_and_fail(Seal::Fenced);
            Ok(())
        }
        RefusalReason::NotContiguous { committed_end } => adopt(shared, &part, committed_end).await,
        // An answer to another question: ask again.
        RefusalReason::Changed => {
            let reason = format!("{partition}: a commit is answered like a replacement");
            Err(RunIndexError::Unavailable { reason }.into())
        }
    }
}

/// The metadata is ahead of us: the runs up to `committed_end` must be an earlier commit of ours that
/// went through without telling. Anything else contradicts A3, and the partition stops.
async fn adopt(
    shared: &Arc<Shared>,
    part: &FlushPart,
    committed_end: Offset,
) -> Result<(), FlushError> {
    let log = &part.log;
    let partition = log.partition();
    let mut next = part.base;
    while next < committed_end {
        let runs = shared.runs.runs_from(partition, next, LOOKUP_RUNS).await?;
        let deleted_to = log.offsets().log_start.min(committed_end);
        let (end, bytes, epoch) = match runs.first() {
            Some(run) if run.base == next => (run.end, run.length, Some(run.leader_epoch)),
            Some(run) if run.base <= deleted_to => (run.base, 0, None), // Deleted as it was committed.
            None if committed_end == deleted_to => (committed_end, 0, None),
            _ => break,
        };
        let Some((cost, batches)) = log.weight_between(next, end, epoch) else { break };
        if log.committed(next, end, bytes, None) {
            shared.flushed(cost, batches);
        }
        tracing::info!(%partition, base = %next, %end, "an unanswered commit is found done");
        next = end;
    }
    if next != committed_end {
        let (base, end) = (part.base, part.end);
        tracing::error!(
            %partition, %base, %end, %committed_end,
            "A3: the metadata has another committed end than this leader, the partition stops"
        );
        shared.metrics.damaged_partitions.inc();
        log.seal_and_fail(Seal::Damaged);
    }
    Ok(())
}
