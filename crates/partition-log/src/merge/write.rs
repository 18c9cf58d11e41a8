//! One merged segment: its bytes read and checked, written, committed in the place of the old runs.
//!
//! Owns: the order of the bytes, every checksum on the way (A6), the retries of upload and commit.
//! Does not own: what goes into it (`plan`, `gather`), which reads become one (`reads`).
//!
//! Every part is checked against the checksum of the run it is, before anything refers to the copy.
//! Outcomes that are not known are not guessed: an upload is repeated under a new name (the old one is
//! swept, A7), a replacement as it was, until it is answered or too old.

use super::gather::{Gathered, GatheredGroup, read_error};
use super::level::fresh_name;
use super::reads::{Piece, Read, pieces, reads};
use super::{MergeError, wait_for_turn};
use crate::engine::{Shared, Uploading};
use crate::flush::insist_until;
use crate::run_index::{Replacement, RunCommit, RunDescription, RunIndexError, RunRefusal};
use crate::segment::{Assembly, RunCrc, RunEntry, SegmentIndex, segment_key};
use bucket::{BucketError, Key, Purpose, PutOutcome};
use bytes::Bytes;
use futures::StreamExt;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use vocabulary::{SegmentName, Tick, Timestamp};

/// Larger: a faster merge, more memory and more of the bucket's attention.
pub(super) const READS_AT_ONCE: usize = 4;

/// Of one read. Larger: fewer requests, more memory.
pub(super) const READ_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Uploads of one segment before the merge is given up for now.
const TRIES_MAX: u32 = 4;

/// Between tries: doubled from the first to the last.
const BACKOFF_MIN: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// What a merge has done.
#[derive(Debug, Default)]
pub(super) struct Merged {
    /// Committed; without those that somebody else was faster with.
    pub(super) runs: Vec<RunDescription>,
    /// Of payload, written.
    pub(super) bytes: u64,
}

pub(super) async fn write(shared: &Arc<Shared>, gathered: Gathered) -> Result<Merged, MergeError> {
    if gathered.groups.is_empty() {
        return Ok(Merged::default());
    }
    let level = gathered.stage.output_level();
    let draft = Draft::new(gathered.groups);
    let bytes = draft.payload_bytes();
    let (index, _uploading) = match bytes <= shared.options.segment_bytes_max.0 {
        true => upload_whole(shared, &draft, level).await?,
        false => upload_in_parts(shared, &draft, level).await?,
    };
    let uploaded_at = shared.environment.clock.now();
    let replacement = draft.replacement(&index, shared.environment.clock.wall());
    let merged_runs = replacement.merged.runs.clone();
    let refusals =
        replace(shared, &replacement, insist_until(&shared.options, uploaded_at)).await?;
    let is_taken = |run: &RunDescription| {
        !refusals.iter().any(|it| (it.partition, it.base) == (run.partition, run.base))
    };
    let metrics = &shared.metrics;
    metrics.segments_merged.inc();
    metrics.merged_bytes.inc_by(index.length);
    metrics.merges_refused.inc_by(refusals.len() as u64);
    metrics.runs_merged.inc_by(replacement.replaced.len() as u64);
    for refusal in &refusals {
        let (partition, base, reason) = (refusal.partition, refusal.base, refusal.reason);
        tracing::debug!(%partition, %base, %reason, "a merged run is not wanted");
    }
    shared.reader.learn(index.name, index);
    Ok(Merged { runs: merged_runs.into_iter().filter(is_taken).collect(), bytes })
}

/// Everything a merged segment is made of, before it has a name.
struct Draft {
    groups: Vec<GatheredGroup>,
    runs: Vec<RunEntry>,
    pieces: Vec<Piece>,
}

impl Draft {
    fn new(groups: Vec<GatheredGroup>) -> Draft {
        let joined = |it: &GatheredGroup| RunEntry {
            producers: it.producers.clone(),
            ..RunEntry::joined(&it.parts)
        };
        let runs = groups.iter().map(joined).collect();
        let sources =
            groups.iter().flat_map(|it| it.runs.iter().map(|run| run.segment).zip(&it.parts));
        let pieces = pieces(sources, READ_BYTES_MAX);
        Draft { groups, runs, pieces }
    }

    fn payload_bytes(&self) -> u64 {
        self.runs.iter().map(|it| it.length).sum()
    }

    fn assembly(&self, shared: &Shared, level: u8) -> Assembly {
        let name = fresh_name(&*shared.environment.entropy, level);
        Assembly::new(name, self.runs.clone())
    }

    fn replacement(&self, index: &SegmentIndex, created: Timestamp) -> Replacement {
        let segment = index.name;
        let runs = index.runs.iter().map(|it| it.described(segment)).collect();
        Replacement {
            merged: RunCommit { segment, segment_bytes: index.length, created, runs },
            replaced: self.groups.iter().flat_map(|it| it.runs.iter().copied()).collect(),
        }
    }

    fn checker(&self) -> Checker {
        let parts = self.groups.iter().enumerate().flat_map(|(run, group)| {
            let of = move |(source, part)| Expected::of(run, source, part);
            group.runs.iter().zip(&group.parts).map(of)
        });
        Checker {
            expected: parts.collect(),
            at: 0,
            seen: 0,
            part: RunCrc::new(),
            runs: self.runs.iter().map(|_| RunCrc::new()).collect(),
            damage: None,
        }
    }
}

/// One part of a merged run.
struct Expected {
    /// The merged run's number.
    run: usize,
    segment: SegmentName,
    length: u64,
    crc: u32,
    what: String,
}

impl Expected {
    fn of(run: usize, source: &RunDescription, part: &RunEntry) -> Expected {
        let what = format!("{} from {} to {}", source.partition, source.base, source.end);
        let (segment, length, crc) = (source.segment, part.length, part.crc);
        Expected { run, segment, length, crc, what }
    }
}

/// Sees the payload go by, in order, and knows at its end each merged run's checksum.
struct Checker {
    expected: Vec<Expected>,
    at: usize,
    seen: u64,
    part: RunCrc,
    runs: Vec<RunCrc>,
    damage: Option<(SegmentName, String)>,
}

impl Checker {
    /// A piece never holds bytes of two parts. False after damage.
    fn see(&mut self, bytes: &[u8]) -> bool {
        let Some(expected) = self.expected.get(self.at) else { return false };
        self.part.update(bytes);
        self.runs[expected.run].update(bytes);
        self.seen += bytes.len() as u64;
        if expected.length <= self.seen {
            let part = std::mem::replace(&mut self.part, RunCrc::new());
            if part.finish() != expected.crc || self.seen != expected.length {
                let reason = format!("{} has another checksum", expected.what);
                self.damage = Some((expected.segment, reason));
                return false;
            }
            self.at += 1;
            self.seen = 0;
        }
        true
    }

    fn crcs(&self) -> Vec<u32> {
        assert_eq!(self.at, self.expected.len(), "A6: every part is checked");
        self.runs.iter().map(RunCrc::finish).collect()
    }

    fn told(&self) -> Result<(), MergeError> {
        match self.damage.clone() {
            Some((segment, reason)) => Err(MergeError::Corrupt { segment, reason }),
            None => Ok(()),
        }
    }
}

/// In memory as a whole, and one PUT.
async fn upload_whole<'a>(
    shared: &'a Arc<Shared>,
    draft: &Draft,
    level: u8,
) -> Result<(SegmentIndex, Uploading<'a>), MergeError> {
    let payload = read_whole(shared, &draft.pieces).await?;
    let mut checker = draft.checker();
    if !payload.iter().all(|it| checker.see(it)) {
        checker.told()?;
    }
    let assembly = draft.assembly(shared, level);
    put_segment(shared, assembly, &checker.crcs(), &payload, level).await
}

/// One PUT of a segment whose payload is in memory. After trouble it is written under another name.
pub(crate) async fn put_segment<'a>(
    shared: &'a Shared,
    mut assembly: Assembly,
    crcs: &[u32],
    payload: &[Bytes],
    level: u8,
) -> Result<(SegmentIndex, Uploading<'a>), MergeError> {
    let mut backoff = BACKOFF_MIN;
    let mut tries = 0;
    loop {
        tries += 1;
        let uploading = shared.uploading(assembly.name());
        let (end, index) = assembly.end(crcs);
        let mut body = Vec::with_capacity(payload.len() + 2);
        body.push(assembly.header());
        body.extend(payload.iter().cloned());
        body.push(end);
        let key = segment_key(assembly.name());
        match shared.bucket.put_new(&key, body, Purpose::Merge).await {
            Ok(PutOutcome::Created) => return Ok((index, uploading)),
            Ok(PutOutcome::AlreadyExists) if tries == TRIES_MAX => return Err(taken(key).into()),
            Err(error) if tries == TRIES_MAX => return Err(error.into()),
            Ok(PutOutcome::AlreadyExists) => (),
            Err(error) => tracing::debug!(%error, "a merged segment is written again"),
        }
        let name = fresh_name(&*shared.environment.entropy, level);
        assembly = assembly.renamed(name);
        shared.environment.clock.sleep(shared.jittered(backoff)).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

fn taken(key: Key) -> BucketError {
    BucketError::Refused { key, reason: "every new key is taken".to_owned() }
}

/// The payload in the order of the segment.
async fn read_whole(shared: &Arc<Shared>, pieces: &[Piece]) -> Result<Vec<Bytes>, MergeError> {
    let mut payload = vec![Bytes::new(); pieces.len()];
    let planned = reads(pieces, READ_BYTES_MAX);
    let mut coming = std::pin::pin!(
        futures::stream::iter(planned)
            .map(|read| async move { read_range(shared, &read).await.map(|bytes| (read, bytes)) })
            .buffer_unordered(READS_AT_ONCE)
    );
    while let Some(read) = coming.next().await {
        let (read, bytes) = read?;
        for (number, bytes) in read.cut(pieces, &bytes) {
            payload[number] = bytes;
        }
    }
    Ok(payload)
}

async fn read_range(shared: &Shared, read: &Read) -> Result<Bytes, MergeError> {
    read_bytes(shared, read.segment, read.range.clone()).await
}

/// Some bytes of a segment, when it is their turn.
pub(crate) async fn read_bytes(
    shared: &Shared,
    segment: SegmentName,
    range: Range<u64>,
) -> Result<Bytes, MergeError> {
    let mut backoff = BACKOFF_MIN;
    let mut tries = 0;
    loop {
        tries += 1;
        wait_for_turn(shared, range.end - range.start).await;
        let key = segment_key(segment);
        let got = shared.bucket.get(&key, range.clone(), Purpose::Merge).await;
        match got.map_err(|error| read_error(segment, error)) {
            Ok(bytes) => return Ok(bytes),
            Err(MergeError::Bucket(error)) if error.is_transient() && tries < TRIES_MAX => (),
            Err(error) => return Err(error),
        }
        shared.environment.clock.sleep(shared.jittered(backoff)).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

/// Never in memory as a whole. The names of failed tries are garbage for the sweep.
async fn upload_in_parts<'a>(
    shared: &'a Arc<Shared>,
    draft: &Draft,
    level: u8,
) -> Result<(SegmentIndex, Uploading<'a>), MergeError> {
    let mut backoff = BACKOFF_MIN;
    let mut tries = 0;
    loop {
        tries += 1;
        let assembly = draft.assembly(shared, level);
        let uploading = shared.uploading(assembly.name());
        let key = segment_key(assembly.name());
        match stream(shared, draft, &assembly, &key).await {
            Ok((PutOutcome::Created, Some(index))) => return Ok((index, uploading)),
            Ok(_) if tries == TRIES_MAX => return Err(taken(key).into()),
            Err(MergeError::Bucket(error)) if error.is_transient() && tries < TRIES_MAX => {
                tracing::debug!(%error, "a merged segment is written again");
            }
            Err(error) => return Err(error),
            Ok(_) => (),
        }
        shared.environment.clock.sleep(shared.jittered(backoff)).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

/// What the stream of one upload leaves behind. A leaf lock: it is held for a checksum.
struct Passed {
    checker: Checker,
    failed: Option<MergeError>,
    index: Option<SegmentIndex>,
}

async fn stream(
    shared: &Arc<Shared>,
    draft: &Draft,
    assembly: &Assembly,
    key: &Key,
) -> Result<(PutOutcome, Option<SegmentIndex>), MergeError> {
    let passed = Passed { checker: draft.checker(), failed: None, index: None };
    let passed = Mutex::new(passed);
    let locked = || passed.lock().expect("no holder of this leaf lock panics: checksums only");
    let stopped = || BucketError::Refused { key: key.clone(), reason: "not to be read".to_owned() };
    let header = futures::stream::once(async { Ok(assembly.header()) });
    let payload = futures::stream::iter(draft.pieces.iter().map(Read::of))
        .map(|read| async move { read_range(shared, &read).await })
        .buffered(READS_AT_ONCE)
        .map(|read| {
            let mut passed = locked();
            match read {
                Ok(bytes) if passed.checker.see(&bytes) => return Ok(bytes),
                Ok(_) => passed.failed = passed.checker.told().err(),
                Err(error) => passed.failed = Some(error),
            }
            Err(stopped())
        });
    let end = futures::stream::once(async {
        let mut passed = locked();
        let (end, index) = assembly.end(&passed.checker.crcs());
        passed.index = Some(index);
        Ok(end)
    });
    let body = Box::pin(header.chain(payload).chain(end));
    let put = shared.bucket.put_new_large(key, body, assembly.length(), Purpose::Merge).await;
    let passed = passed.into_inner().expect("no holder of this leaf lock panics: checksums only");
    match passed.failed {
        Some(error) => Err(error),
        None => Ok((put?, passed.index)),
    }
}

/// The runs that were refused. Asks until it is answered, or until `insist_until`.
pub(crate) async fn replace(
    shared: &Shared,
    replacement: &Replacement,
    insist_until: Tick,
) -> Result<Vec<RunRefusal>, MergeError> {
    let mut backoff = BACKOFF_MIN;
    loop {
        match shared.runs.replace(replacement.clone()).await {
            Ok(refusals) => return Ok(refusals),
            Err(RunIndexError::Fenced) => return Err(RunIndexError::Fenced.into()),
            Err(error @ RunIndexError::Unavailable { .. }) => {
                tracing::debug!(segment = %replacement.merged.segment, %error, "not answered");
            }
        }
        shared.environment.clock.sleep(shared.jittered(backoff)).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
        if insist_until <= shared.environment.clock.now() {
            return Err(MergeError::TooOld);
        }
    }
}
