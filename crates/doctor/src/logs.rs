//! Write-ahead logs in the bucket: what is acknowledged is there (A1, A2), what is ended is fenced (A4).
//!
//! Owns: walking a log from its trim point to its first hole, the fence of one that has ended. Does not
//! own: ending a log, which is `partition_log`'s.
//!
//! A writer acknowledges in sequence, so nothing behind the first hole was ever acknowledged. But it
//! never has more than [`IN_FLIGHT_MAX`] segments under way: when the log goes on further behind a hole
//! than that, the hole was a segment once.
//!
//! The objects are read before the metadata is looked at again: what is committed and trimmed meanwhile
//! is then known, and a partition's runs in the log must go on from its committed end.

use std::collections::BTreeMap;
use std::ops::Range;

use bucket::{Bucket, BucketError, Purpose};
use cluster::{MetadataInspection, StoreError, WalKind, WalLog};
use futures::{StreamExt, TryStreamExt};
use partition_log::segment::{
    SEGMENT_LENGTH_MIN, SegmentIndex, segment_key, segment_of, wal_prefix,
};
use partition_log::wal::ledger::WalId;
use partition_log::wal::{FENCE_LENGTH, Fence};
use vocabulary::{LeaderEpoch, Offset, Partition, SegmentName};

use crate::examination::{DoctorError, OBJECTS_AT_ONCE};
use crate::finding::{Finding, Invariant};
use crate::object::{Seen, look_at};

/// Segments that a writer has under way at most.
const IN_FLIGHT_MAX: u64 = 16;

/// Objects listed at a time.
const LIST_PAGE: usize = 1000;

/// Looks at a log that changes meanwhile.
const TRIES_MAX: u32 = 3;

const SAFE: &str = "Nothing was changed. Committed records are not affected.";
const LOST: &str = "Restore this object from a copy or an earlier version of the bucket before the \
                    broker's log is taken over: afterwards the records are lost.";
const REPORT: &str = "Keep a copy of the bucket's `wal` and `meta` prefixes, and report this.";

/// What was found of all logs.
#[derive(Debug, Default)]
pub(crate) struct Examined {
    pub(crate) open: u64,
    pub(crate) closed: u64,
    pub(crate) segments: u64,
    pub(crate) findings: Vec<Finding>,
    pub(crate) notes: Vec<String>,
}

/// Looks at every log of the bucket.
///
/// # Errors
/// Store or metadata did not answer.
pub(crate) async fn examine(
    bucket: &dyn Bucket,
    look: &MetadataInspection,
) -> Result<Examined, DoctorError> {
    let mut examined = Examined::default();
    for log in look.wal_logs().into_iter().filter(|it| it.kind == WalKind::Bucket) {
        let findings = match log.fence {
            Some(fence) => {
                examined.closed += 1;
                check_fence(bucket, &log, fence).await?
            }
            None => {
                examined.open += 1;
                check_open(bucket, look, log, &mut examined).await?
            }
        };
        examined.findings.extend(findings);
    }
    Ok(examined)
}

async fn check_fence(
    bucket: &dyn Bucket,
    log: &WalLog,
    fence: u64,
) -> Result<Vec<Finding>, BucketError> {
    let key = segment_key(name(log, fence));
    let what = match bucket.get_suffix(&key, FENCE_LENGTH as u64, Purpose::ReadCold).await {
        Ok(suffix) => match Fence::read(&suffix, id(log), fence) {
            Ok(Some(_)) => return Ok(Vec::new()),
            Ok(None) => "where the log's fence should be, there is a segment".to_owned(),
            Err(reason) => format!("the log's fence cannot be read: {reason}"),
        },
        Err(BucketError::NotFound { .. }) => "the log's fence does not exist".to_owned(),
        Err(error) => return Err(error),
    };
    let advice = "Make sure that the broker of this log, in this epoch, does not run any more: without \
                  the fence it could acknowledge records that nobody will ever read.";
    Ok(vec![Finding {
        invariant: Invariant::A4,
        object: key.to_string(),
        range: None,
        what,
        safe: SAFE,
        advice,
    }])
}

/// Again and again until a look has no findings, or they stay.
async fn check_open(
    bucket: &dyn Bucket,
    look: &MetadataInspection,
    log: WalLog,
    examined: &mut Examined,
) -> Result<Vec<Finding>, DoctorError> {
    let mut record = log;
    let mut findings = Vec::new();
    for attempt in 1..=TRIES_MAX {
        let walked = walk(bucket, &record).await?;
        let later = look.again().await?;
        let found = later.wal_logs().into_iter().find(|it| id(it) == id(&log));
        findings = match found {
            Some(log) if log.fence.is_none() => {
                record = log;
                walked.judge(&record, &later)
            }
            _ => Vec::new(), // Ended while we looked: another examination sees its fence.
        };
        later.close().await;
        if findings.is_empty() || attempt == TRIES_MAX {
            examined.segments += walked.sequences.len() as u64;
            examined.notes.extend(walked.notes(&record));
            break;
        }
    }
    Ok(findings)
}

/// What a walk met.
struct Walked {
    /// The segments without a hole between them.
    sequences: Vec<u64>,
    /// The first sequence that is no segment, and how far the log goes on behind it.
    hole: u64,
    last_behind: Option<u64>,
    is_fenced: bool,
    /// By sequence, with what they are about.
    broken: Vec<(u64, Option<Range<u64>>, String)>,
    /// Stretches of offsets, by partition, in the order of the log; each with its first sequence.
    stretches: BTreeMap<Partition, Vec<Stretch>>,
}

#[derive(Clone, Copy)]
struct Stretch {
    sequence: u64,
    base: Offset,
    end: Offset,
    leader_epoch: LeaderEpoch,
}

async fn walk(bucket: &dyn Bucket, log: &WalLog) -> Result<Walked, BucketError> {
    let mut walked = list(bucket, log).await?;
    let looked = futures::stream::iter(walked.sequences.clone())
        .map(|sequence| async move {
            let seen = look_at(bucket, &segment_key(name(log, sequence))).await?;
            Ok::<_, BucketError>((sequence, seen))
        })
        .buffered(OBJECTS_AT_ONCE);
    let mut looked = std::pin::pin!(looked);
    while let Some((sequence, seen)) = looked.try_next().await? {
        match seen {
            Seen::Index(index) if index.name == name(log, sequence) => walked.add(sequence, &index),
            Seen::Index(index) => {
                let what = format!("the object says that it is {}", index.name);
                walked.broken.push((sequence, None, what));
            }
            Seen::Gone => walked.broken.push((sequence, None, "it has disappeared".to_owned())),
            Seen::Short { length, .. } => {
                let what = format!("{length} bytes are no segment");
                walked.broken.push((sequence, Some(0..length), what));
            }
            Seen::Broken(it) => walked.broken.push((sequence, Some(it.range), it.reason)),
        }
    }
    Ok(walked)
}

/// From the trim point to the first hole.
async fn list(bucket: &dyn Bucket, log: &WalLog) -> Result<Walked, BucketError> {
    let prefix = wal_prefix(log.broker, log.epoch);
    let mut walked = Walked {
        sequences: Vec::new(),
        hole: log.trimmed,
        last_behind: None,
        is_fenced: false,
        broken: Vec::new(),
        stretches: BTreeMap::new(),
    };
    let mut after = log.trimmed.checked_sub(1).map(|it| segment_key(name(log, it)));
    loop {
        let page = bucket.list(&prefix, after.as_ref(), LIST_PAGE).await?;
        for object in &page {
            let Some(SegmentName::Wal { sequence, .. }) = segment_of(&object.key) else { continue };
            let is_segment = SEGMENT_LENGTH_MIN <= object.length;
            if sequence == walked.hole && is_segment {
                walked.sequences.push(sequence);
                walked.hole += 1;
            } else if sequence == walked.hole {
                let wanted = FENCE_LENGTH as u64;
                match bucket.get_suffix(&object.key, wanted, Purpose::ReadCold).await {
                    Ok(suffix) => match Fence::read(&suffix, id(log), sequence) {
                        Ok(_) => walked.is_fenced = true,
                        Err(reason) => walked.broken.push((
                            sequence,
                            Some(0..object.length),
                            format!("neither a segment nor a fence: {reason}"),
                        )),
                    },
                    Err(BucketError::NotFound { .. }) => (),
                    Err(error) => return Err(error),
                }
                return Ok(walked);
            } else if is_segment {
                walked.last_behind = walked.last_behind.max(Some(sequence));
            }
        }
        if page.len() < LIST_PAGE {
            return Ok(walked);
        }
        after = page.last().map(|it| it.key.clone());
    }
}

impl Walked {
    fn add(&mut self, sequence: u64, index: &SegmentIndex) {
        for run in &index.runs {
            let (base, end, leader_epoch) = (run.base, run.end, run.leader_epoch);
            let stretches = self.stretches.entry(run.partition).or_default();
            match stretches.last_mut() {
                Some(last) if last.end == base && last.leader_epoch == leader_epoch => {
                    last.end = end;
                }
                _ => stretches.push(Stretch { sequence, base, end, leader_epoch }),
            }
        }
    }

    /// What is wrong, given the metadata as of after the walk.
    fn judge(&self, log: &WalLog, later: &MetadataInspection) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut find = |invariant, sequence, range, what, advice| {
            let object = segment_key(name(log, sequence)).to_string();
            findings.push(Finding { invariant, object, range, what, safe: SAFE, advice });
        };
        for (sequence, range, what) in self.broken.iter().filter(|it| log.trimmed <= it.0) {
            let what = format!("acknowledged records may lie in it, and {what}");
            find(Invariant::A1, *sequence, range.clone(), what, LOST);
        }
        let behind = self.last_behind.filter(|it| IN_FLIGHT_MAX <= it.saturating_sub(self.hole));
        if let Some(last) = behind.filter(|_| log.trimmed <= self.hole) {
            let what = format!("it does not exist, and the log goes on to segment {last}");
            find(Invariant::A1, self.hole, None, what, LOST);
        }
        for (partition, stretches) in &self.stretches {
            let topic = later.topic(partition.topic);
            let info = topic.and_then(|it| {
                it.partitions.get(usize::try_from(partition.index).unwrap_or(usize::MAX))
            });
            let (Some(info), Some(progress)) = (info, later.progress(*partition)) else { continue };
            let mut end = progress.committed_end;
            for it in stretches {
                if end < it.base {
                    let base = it.base;
                    let what = format!(
                        "offsets {end} to {base} of partition {partition} are nowhere: committed and \
                         logged before this segment is only what lies below"
                    );
                    find(Invariant::A2, it.sequence, None, what, REPORT);
                }
                if info.leader_epoch < it.leader_epoch {
                    let (epoch, current) = (it.leader_epoch.0, info.leader_epoch.0);
                    let what = format!(
                        "partition {partition} was written in leader epoch {epoch}, the metadata has \
                         given out {current}"
                    );
                    find(Invariant::A4, it.sequence, None, what, REPORT);
                }
                end = end.max(it.end);
            }
        }
        findings
    }

    fn notes(&self, log: &WalLog) -> Option<String> {
        let (id, hole) = (id(log), self.hole);
        if self.is_fenced {
            return Some(format!("{id} has a fence at {hole}: somebody is taking it over"));
        }
        let last = self.last_behind?;
        Some(format!(
            "{id} has a hole at {hole} and goes on to {last}: what lies behind was never acknowledged"
        ))
    }
}

fn name(log: &WalLog, sequence: u64) -> SegmentName {
    SegmentName::Wal { broker: log.broker, epoch: log.epoch, sequence }
}

fn id(log: &WalLog) -> WalId {
    WalId { broker: log.broker, epoch: log.epoch }
}

impl From<StoreError> for DoctorError {
    fn from(error: StoreError) -> DoctorError {
        DoctorError::Metadata(error)
    }
}
