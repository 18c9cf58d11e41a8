//! What a job's runs are made of: the entries of their segments' indexes.
//!
//! Owns: reading indexes (no payload), the bound on batches in memory, the producers of a merged run
//! (A5). Does not own: which runs (`plan`), their bytes (`write`).
//!
//! A segment's index is read, what the job needs of it is kept, the rest is let go: at most
//! [`INDEXES_AT_ONCE`] indexes and the entries of one job are in memory. A job with too many batches is
//! cut; what is cut off waits for another one.

use super::plan::{Group, Job, Stage};
use super::{MergeError, wait_for_turn};
use crate::engine::Shared;
use crate::run_index::RunDescription;
use crate::segment::{IndexRead, RunEntry, SegmentIndex, read_index, segment_key};
use bucket::{BucketError, Purpose};
use bytes::Bytes;
use futures::StreamExt;
use std::collections::HashMap;
use std::sync::Arc;
use vocabulary::SegmentName;

/// Larger: a faster merge of many segments, more memory (about 9 MiB for the largest index).
const INDEXES_AT_ONCE: usize = 4;

/// The first try at a segment's index: enough for a few hundred runs and batches.
const INDEX_SUFFIX_BYTES: u64 = 64 * 1024;

/// Suffix reads for one index; two suffice unless the object lies about its length.
const INDEX_TRIES_MAX: usize = 3;

/// A job with everything but the payload.
pub(super) struct Gathered {
    pub(super) stage: Stage,
    pub(super) groups: Vec<GatheredGroup>,
    /// Runs of the job that were too much for it.
    pub(super) left: Vec<RunDescription>,
}

pub(super) struct GatheredGroup {
    pub(super) runs: Vec<RunDescription>,
    /// One for each run, with its checksum.
    pub(super) parts: Vec<RunEntry>,
    /// As of the end of the last run, if it may be the partition's last.
    pub(super) producers: Option<Bytes>,
}

pub(super) async fn gather(shared: &Arc<Shared>, job: Job) -> Result<Gathered, MergeError> {
    let stage = job.stage;
    let mut loading = Loading::new(job.groups, shared.options.segment_batches_max);
    let segments = loading.segments();
    let indexes = futures::stream::iter(segments)
        .map(|segment| async move { (segment, load_index(shared, segment).await) })
        .buffered(INDEXES_AT_ONCE);
    let mut indexes = std::pin::pin!(indexes);
    while let Some((segment, index)) = indexes.next().await {
        loading.take(segment, &index?)?;
    }
    let (groups, left) = loading.finish();
    let mut gathered = Gathered { stage, groups: Vec::new(), left };
    for (runs, parts) in groups {
        match producers(shared, &runs, &parts).await? {
            Producers::Known(producers) => {
                gathered.groups.push(GatheredGroup { runs, parts, producers });
            }
            Producers::Unknown => gathered.left.extend(runs),
        }
    }
    Ok(gathered)
}

/// The groups of a job, filling up with entries.
struct Loading {
    groups: Vec<Group>,
    /// As the runs of the groups.
    parts: Vec<Vec<Option<RunEntry>>>,
    /// Where in the groups the runs of a segment are wanted.
    wanted: HashMap<SegmentName, Vec<(usize, usize)>>,
    batches: usize,
    batches_max: usize,
    left: Vec<RunDescription>,
}

impl Loading {
    fn new(groups: Vec<Group>, batches_max: usize) -> Loading {
        let mut wanted: HashMap<SegmentName, Vec<(usize, usize)>> = HashMap::new();
        for (group, it) in groups.iter().enumerate() {
            for (at, run) in it.runs.iter().enumerate() {
                wanted.entry(run.segment).or_default().push((group, at));
            }
        }
        let parts = groups.iter().map(|it| vec![None; it.runs.len()]).collect();
        Loading { groups, parts, wanted, batches: 0, batches_max, left: Vec::new() }
    }

    /// Each segment once, in the order in which the runs need them.
    fn segments(&self) -> Vec<SegmentName> {
        let mut segments = Vec::new();
        let mut seen = std::collections::HashSet::new();
        for run in self.groups.iter().flat_map(|it| &it.runs) {
            if seen.insert(run.segment) {
                segments.push(run.segment);
            }
        }
        segments
    }

    fn take(&mut self, segment: SegmentName, index: &SegmentIndex) -> Result<(), MergeError> {
        for (group, at) in self.wanted.remove(&segment).unwrap_or_default() {
            let Some(run) = self.groups.get(group).and_then(|it| it.runs.get(at)) else {
                continue; // Cut off meanwhile.
            };
            let Some(part) = entry_of(run, index) else {
                let reason =
                    format!("its index does not have {} from {} on", run.partition, run.base);
                return Err(MergeError::Corrupt { segment, reason });
            };
            self.batches += part.batches.len();
            self.parts[group][at] = Some(part);
        }
        self.cut();
        Ok(())
    }

    /// Lets go of groups at the end, then of runs that have not been loaded, while there is too much.
    fn cut(&mut self) {
        while self.batches_max < self.batches && 1 < self.groups.len() {
            let (group, parts) = (self.groups.pop(), self.parts.pop());
            self.left.extend(group.into_iter().flat_map(|it| it.runs));
            let loaded = parts.iter().flatten().flatten();
            self.batches -= loaded.map(|it| it.batches.len()).sum::<usize>();
        }
        if self.batches_max < self.batches
            && let (Some(group), Some(parts)) = (self.groups.first_mut(), self.parts.first_mut())
        {
            let loaded = parts.iter().take_while(|it| it.is_some()).count().max(1);
            self.left.extend(group.runs.drain(loaded..));
            parts.truncate(loaded);
        }
    }

    /// The groups with an entry for each run, and what was cut off.
    fn finish(self) -> (Vec<WithEntries>, Vec<RunDescription>) {
        let whole = self.groups.into_iter().zip(self.parts).map(|(group, parts)| {
            let parts: Vec<RunEntry> = parts.into_iter().flatten().collect();
            assert_eq!(parts.len(), group.runs.len(), "every segment of the job was taken");
            (group.runs, parts)
        });
        (whole.collect(), self.left)
    }
}

/// Runs, and what their segments' indexes say of each.
type WithEntries = (Vec<RunDescription>, Vec<RunEntry>);

/// The index's account of a committed run, which may be a part of one of its entries. `None` if the two
/// do not agree.
pub(crate) fn entry_of(run: &RunDescription, index: &SegmentIndex) -> Option<RunEntry> {
    let holds =
        |it: &&RunEntry| it.partition == run.partition && it.base <= run.base && run.end <= it.end;
    let entry = index.runs.iter().find(holds)?;
    let is_whole = (entry.base, entry.end) == (run.base, run.end);
    let part = match is_whole {
        true => entry.clone(),
        false => RunEntry { crc: run.crc, ..entry.part(run.base, run.end)? },
    };
    let told = (run.position, run.length, run.crc, run.leader_epoch);
    (told == (part.position, part.length, part.crc, part.leader_epoch)).then_some(part)
}

pub(crate) enum Producers {
    /// `None`: nobody will ask.
    Known(Option<Bytes>),
    Unknown,
}

/// The producers as of the end of the last run (A5). A run that another one follows is never asked for
/// them: loading looks at the partition's last run only.
pub(crate) async fn producers(
    shared: &Shared,
    runs: &[RunDescription],
    parts: &[RunEntry],
) -> Result<Producers, MergeError> {
    let (Some(run), Some(part)) = (runs.last(), parts.last()) else {
        return Ok(Producers::Known(None));
    };
    let log = shared.partition(run.partition);
    // What is committed in memory is committed in the metadata, which may be ahead.
    if log.is_some_and(|it| run.end < it.offsets().committed_end) {
        return Ok(Producers::Known(None));
    }
    if let SegmentName::Data(_) = run.segment {
        return Ok(Producers::Known(part.producers.clone()));
    }
    let kept = shared.runs.kept_producers(run.partition).await?;
    Ok(match kept.filter(|it| it.as_of == run.end) {
        Some(kept) => Producers::Known(Some(kept.snapshot)),
        None => Producers::Unknown, // The flush is about to commit what follows.
    })
}

pub(crate) async fn load_index(
    shared: &Arc<Shared>,
    segment: SegmentName,
) -> Result<SegmentIndex, MergeError> {
    let object = segment_key(segment);
    let mut length = INDEX_SUFFIX_BYTES;
    for _ in 0..INDEX_TRIES_MAX {
        wait_for_turn(shared, length).await;
        let suffix = shared.bucket.get_suffix(&object, length, Purpose::Merge).await;
        let suffix = suffix.map_err(|error| read_error(segment, error))?;
        match read_index(&suffix.bytes, suffix.object_length) {
            Ok(IndexRead::NeedSuffix { suffix }) => length = suffix,
            Ok(IndexRead::Index(index)) if index.name == segment => return Ok(index),
            Ok(IndexRead::Index(index)) => {
                let reason = format!("it says that it is {}", index.name);
                return Err(MergeError::Corrupt { segment, reason });
            }
            Err(error) => {
                return Err(MergeError::Corrupt { segment, reason: error.to_string() });
            }
        }
    }
    let reason = "the index asks for more without end".to_owned();
    Err(MergeError::Corrupt { segment, reason })
}

pub(super) fn read_error(segment: SegmentName, error: BucketError) -> MergeError {
    match error {
        BucketError::NotFound { .. } => MergeError::Gone(segment),
        BucketError::OutOfRange { length, .. } => {
            let reason = format!("the object ends at {length}");
            MergeError::Corrupt { segment, reason }
        }
        error => MergeError::Bucket(error),
    }
}
