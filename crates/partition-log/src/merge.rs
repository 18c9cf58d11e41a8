//! Merging: small runs become large ones, so that metadata stays small and readers read in one go.
//!
//! Owns: when merging works and pauses, which partitions are looked at, what is done with a job.
//! Does not own: what is merged with what (`plan`), whom to look at (`backlog`), how fast (`pace`),
//! indexes and bytes (`gather`, `write`); deleting what was replaced (`collection`).
//!
//! # Policy
//!
//! A data segment has a level, which is in its name: 0 as flushed, one more each time its bytes are
//! rewritten. A run from half of the target (64 MiB) on is large, and left alone for ever. Neighbours
//! of a partition and leader epoch that are small and of one level become one run of the next level
//! - when they fill three quarters of the target, or nothing more fits;
//! - when there are [`FAN_IN`] of them, even if they stay small together;
//! - at level 0 also when the oldest is [`AGE_MAX`] old, even if it is alone: what it shares a segment
//!   with may be gone, and the segment is kept for it.
//!
//! A result from half of the target on gets a segment of its own; the others share segments, those of
//! topics with a similar retention together. (Already from 8 MiB on, as flushes once did, merging alone
//! could cost 128 PUTs per GiB; with half of the target it is 32 at most, about 18 as a rule.)
//!
//! Runs that lie in a dead broker's WAL come first. They are written as a flush would have written
//! them, at level 0.
//!
//! What retention is about to delete is not rewritten, and no merged run covers more than an eighth of
//! what retention keeps, in time or in bytes: it is deleted as a whole, when its end is old enough.
//!
//! # What it costs
//!
//! Bytes uploaded for a byte produced: 1 by the WAL, 1 by the flush (or by merging it out of a dead
//! WAL), and at most 1 by merging on average:
//! - from level 0 to 1 each byte goes at most once, and only as part of a small run;
//! - from level 1 to 2 go at most as many bytes as were flushed as large runs since the start, which
//!   never go anywhere ([`Backlog::spare_bytes`]).
//!
//! So a byte is rewritten at most twice, three times if its first broker died.
//!
//! Memory of a merge: one segment's payload ([`crate::LogOptions::segment_bytes_max`]) in one PUT, or
//! parts of it if it is larger; [`write::READS_AT_ONCE`] reads of [`write::READ_BYTES_MAX`]; headers of at
//! most [`crate::LogOptions::segment_batches_max`] batches. One merge at a time.
//!
//! # Safety
//!
//! The merger is one more writer without any rights: the metadata takes a merged run only in the place
//! of exactly the runs that were read. Whatever races with it (a flush, retention, a deleted topic,
//! another merger) wins, and the merged bytes are garbage or an orphan (A6, A7).

use crate::engine::Shared;
use crate::log::{PartitionLog, Seal};
use crate::run_index::{RunDescription, RunIndexError};
use crate::wal::WalHealth;
use backlog::{AGED_ROUNDS, Due};
use bucket::BucketError;
use pace::Pace;
use plan::{Job, Rules, Stage, Tally, Window};
use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use vocabulary::{ByteCount, Offset, Partition, SegmentName, Tick};

mod backlog;
mod gather;
mod level;
mod pace;
mod plan;
mod reads;
mod write;

pub(crate) use backlog::Backlog;
pub(crate) use gather::{Producers, entry_of, load_index, producers};
pub(crate) use level::{COMPACTED_LEVEL, LEVEL_MAX, fresh_name, is_compacted};
pub(crate) use plan::Keep;
pub(crate) use write::{put_segment, read_bytes, replace};

/// So many small runs become one. Larger: fewer rewrites for the same length of runs, more small runs
/// that wait, more reads for one merge.
const FAN_IN: u32 = 64;

/// A small run waits this long for company. Larger: fewer rewrites, more segments kept for little.
const AGE_MAX: Duration = Duration::from_secs(3600);

/// Between looks at what there is to merge.
const INTERVAL: Duration = Duration::from_secs(5);

/// After trouble: doubled up to this.
const INTERVAL_MAX: Duration = Duration::from_secs(120);

/// Between looks at whether a pause is over.
const PAUSE: Duration = Duration::from_secs(1);

/// Runs that one job replaces, and that one metadata step takes.
const JOB_RUNS_MAX: usize = 4096;

/// Runs of one partition that are looked at together: some kilobytes for each partition of a job.
const WINDOW_RUNS_MAX: usize = 1024;

/// Run descriptions asked for at once.
const PAGE_RUNS: usize = 256;

/// Pages of first looks between two rounds: what is merged must not wait for them.
const FIRST_LOOK_PAGES_MAX: usize = 64;

/// Jobs between two rounds of a stage, so that a more urgent stage gets its turn.
const STEPS_MAX: usize = 16;

/// Segments remembered as unreadable, which merging leaves alone until the next start.
const DAMAGED_MAX: usize = 1024;

/// How one broker merges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MergeOptions {
    /// Whether it does: the broker's role as a compactor.
    pub is_enabled: bool,
    /// Runs from half of this on are large. Larger: fewer, longer runs; merges take longer.
    pub target_bytes: ByteCount,
    /// What merging uploads in a second at most, while nobody else needs the bucket.
    pub bytes_per_second_max: ByteCount,
    /// See the policy above; 2 at least.
    pub fan_in: u32,
    /// See the policy above.
    pub age_max: Duration,
    /// Between looks at what there is to merge.
    pub interval: Duration,
}

impl MergeOptions {
    pub(crate) fn problems(&self) -> Vec<&'static str> {
        let mut problems = Vec::new();
        if self.target_bytes.0 < 4 {
            problems.push("merge: target_bytes must be at least 4");
        }
        if self.bytes_per_second_max.0 == 0 {
            problems.push("merge: bytes_per_second_max must be positive; is_enabled turns it off");
        }
        if self.fan_in < 2 {
            problems.push("merge: fan_in must be at least 2");
        }
        if self.age_max.is_zero() || self.interval.is_zero() {
            problems.push("merge: age_max and interval must be positive");
        }
        problems
    }
}

impl Default for MergeOptions {
    fn default() -> MergeOptions {
        MergeOptions {
            is_enabled: true,
            target_bytes: ByteCount::mib(64),
            bytes_per_second_max: ByteCount::mib(256),
            fan_in: FAN_IN,
            age_max: AGE_MAX,
            interval: INTERVAL,
        }
    }
}

/// What merging remembers of one engine.
pub(crate) struct Merging {
    rules: Rules,
    /// A leaf lock around a map.
    backlog: Mutex<Backlog>,
    /// A leaf lock around some numbers.
    pace: Mutex<Pace>,
    /// Segments that could not be read. A leaf lock around a set.
    damaged: Mutex<HashSet<SegmentName>>,
}

impl Merging {
    pub(crate) fn new(options: &MergeOptions, segment_bytes_max: ByteCount) -> Merging {
        let target_bytes = options.target_bytes.0;
        let rules = Rules {
            target_bytes,
            packed_bytes_max: segment_bytes_max.0.min(target_bytes),
            fan_in: options.fan_in,
            job_runs_max: JOB_RUNS_MAX,
            age_max: options.age_max,
        };
        Merging {
            rules,
            backlog: Mutex::default(),
            pace: Mutex::new(Pace::new(options.bytes_per_second_max.0)),
            damaged: Mutex::default(),
        }
    }

    /// The flush has committed a run.
    pub(crate) fn flushed(&self, run: &RunDescription, now: Tick) {
        self.backlog().flushed(run, now, &self.rules);
    }

    fn backlog(&self) -> MutexGuard<'_, Backlog> {
        self.backlog.lock().expect("no holder of this leaf lock panics: map steps only")
    }

    fn is_damaged(&self, segment: SegmentName) -> bool {
        self.damaged.lock().expect("no holder of this leaf lock panics").contains(&segment)
    }

    fn leave_alone(&self, segment: SegmentName) {
        let mut damaged = self.damaged.lock().expect("no holder of this leaf lock panics");
        if damaged.len() < DAMAGED_MAX {
            damaged.insert(segment);
        }
    }
}

impl fmt::Debug for Merging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Merging").field("rules", &self.rules).finish_non_exhaustive()
    }
}

/// Why a merge did not happen. Everything is as it was, but for an object that nobody refers to, or,
/// after `RunIndex`, a replacement that happened without an answer; the next look sees which.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MergeError {
    #[error("the bucket: {0}")]
    Bucket(#[from] BucketError),
    #[error("the metadata: {0}")]
    RunIndex(#[from] RunIndexError),
    /// The object of a run is not there: the run was dropped since, or A6 is broken.
    #[error("{0} is gone")]
    Gone(SegmentName),
    #[error("A6: {segment} is not what was written: {reason}")]
    Corrupt { segment: SegmentName, reason: String },
    #[error("a merged segment was uploaded too long ago to commit it")]
    TooOld,
}

/// The merge loop, until it is dropped or the broker is fenced.
pub(crate) async fn run(shared: Arc<Shared>) {
    let options = shared.options.merge;
    if !options.is_enabled {
        return;
    }
    let clock = Arc::clone(&shared.environment.clock);
    let mut wait = options.interval;
    let mut aged_at = clock.now().plus(options.age_max / AGED_ROUNDS);
    loop {
        clock.sleep(shared.jittered(wait)).await;
        if is_paused(&shared) {
            continue;
        }
        let now = clock.now();
        let due = match aged_at <= now {
            true => Due::aged(now, options.age_max),
            false => Due::not_aged(),
        };
        match round(&shared, due).await {
            Ok(()) => {
                wait = options.interval;
                if aged_at <= now {
                    aged_at = now.plus(options.age_max / AGED_ROUNDS);
                }
            }
            Err(MergeError::RunIndex(RunIndexError::Fenced)) => {
                return shared.fence("the metadata takes nothing from this broker any more");
            }
            Err(error) => {
                shared.metrics.merge_failures.inc();
                tracing::warn!(%error, "a merge failed, it is tried again later");
                wait = (wait * 2).min(INTERVAL_MAX);
            }
        }
    }
}

/// Whether somebody who matters more has trouble.
pub(crate) fn is_paused(shared: &Shared) -> bool {
    let is_wal_healthy = shared.wal.health() == WalHealth::Healthy;
    !is_wal_healthy || shared.failing().is_some() || shared.is_full() || shared.is_fenced()
}

/// Waits as long as it takes until `bytes` more may be moved.
async fn wait_for_turn(shared: &Shared, bytes: u64) {
    let clock = &shared.environment.clock;
    while is_paused(shared) {
        clock.sleep(PAUSE).await;
    }
    let metrics = &shared.metrics;
    let produced = metrics.appended_bytes.get();
    let fetched = metrics.tail_load_bytes.get()
        + metrics.lagging_load_bytes.get()
        + metrics.wal_read_bytes.get();
    let wait = {
        let mut pace = shared.merging.pace.lock().expect("no holder of this leaf lock panics");
        pace.take(clock.now(), produced, fetched, bytes)
    };
    clock.sleep(wait).await;
}

async fn round(shared: &Arc<Shared>, due: Due) -> Result<(), MergeError> {
    first_looks(shared).await?;
    for stage in Stage::ALL {
        for _ in 0..STEPS_MAX {
            if is_paused(shared) || !step(shared, stage, due).await? {
                break;
            }
        }
    }
    Ok(())
}

/// Tallies the runs of partitions that were hosted lately: a former leader may have left small ones.
async fn first_looks(shared: &Arc<Shared>) -> Result<(), MergeError> {
    let merging = &shared.merging;
    let logs = shared.logs();
    let hosted: Vec<Partition> = logs.iter().map(|it| it.partition()).collect();
    let unknown = merging.backlog().unknown(&hosted);
    let mut pages = 0;
    for partition in unknown {
        let Some(log) = shared.partition(partition) else { continue };
        let mut next = log.offsets().log_start;
        loop {
            let runs = shared.runs.runs_from(partition, next, PAGE_RUNS).await?;
            let now = shared.environment.clock.now();
            let mut backlog = merging.backlog();
            runs.iter().for_each(|run| backlog.found(run, now, &merging.rules));
            pages += 1;
            match runs.last().filter(|_| runs.len() == PAGE_RUNS) {
                Some(last) => next = last.end,
                None => break,
            }
        }
        merging.backlog().know(partition);
        if FIRST_LOOK_PAGES_MAX <= pages {
            break;
        }
    }
    Ok(())
}

/// Looks at some ripe partitions and merges what there is. False if nothing was.
async fn step(shared: &Arc<Shared>, stage: Stage, due: Due) -> Result<bool, MergeError> {
    let merging = &shared.merging;
    let rules = &merging.rules;
    let ripe = merging.backlog().ripe(stage, due, rules);
    let mut looks = Vec::new();
    for partition in ripe {
        let Some(log) = shared.partition(partition).filter(|it| it.seal() < Seal::Fenced) else {
            merging.backlog().take(partition, stage); // Whoever leads it now merges it.
            continue;
        };
        let Some(tally) = merging.backlog().tally(partition, stage) else { continue };
        looks.push((window(shared, &log, tally, due.is_aged(tally.since)).await?, tally));
    }
    let now = shared.environment.clock.now();
    let jobs = merging.backlog().decide(looks, stage, rules, now);
    let mut pending = Pending { shared, jobs: jobs.into() };
    let mut any = false;
    while let Some(job) = pending.jobs.front().cloned() {
        if stage == Stage::Merged && merging.backlog().spare_bytes() < job.bytes() {
            break; // What it may cost is not there yet.
        }
        perform(shared, job).await?;
        pending.jobs.pop_front();
        any = true;
    }
    Ok(any)
}

/// Jobs that are not done. When it is dropped, whatever the reason, their runs wait on.
struct Pending<'a> {
    shared: &'a Shared,
    jobs: VecDeque<Job>,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        for job in &self.jobs {
            let runs = job.groups.iter().flat_map(|it| &it.runs);
            put_back(self.shared, job.stage, runs);
        }
    }
}

fn put_back<'r>(shared: &Shared, stage: Stage, runs: impl Iterator<Item = &'r RunDescription>) {
    let now = shared.environment.clock.now();
    let mut backlog = shared.merging.backlog();
    runs.for_each(|run| backlog.add(run.partition, stage, Tally::of(run, now)));
}

/// The runs of a partition from the first one of the tally on, as the metadata has them now.
async fn window(
    shared: &Shared,
    log: &PartitionLog,
    tally: Tally,
    is_aged: bool,
) -> Result<Window, MergeError> {
    let partition = log.partition();
    let mut runs: Vec<RunDescription> = Vec::new();
    let mut next = tally.from.max(log.offsets().log_start);
    while runs.len() < WINDOW_RUNS_MAX {
        let page = shared.runs.runs_from(partition, next, PAGE_RUNS).await?;
        let is_last = page.len() < PAGE_RUNS;
        runs.extend(page);
        match runs.last() {
            Some(last) if !is_last => next = last.end,
            _ => break,
        }
    }
    runs.truncate(WINDOW_RUNS_MAX);
    // What the flush does not know to be committed yet, it must find as it wrote it.
    let committed_end = log.offsets().committed_end;
    runs.truncate(runs.partition_point(|it| it.end <= committed_end));
    let is_cut = runs.len() == WINDOW_RUNS_MAX;
    let settings = log.settings();
    let going_below = going_below(log, &runs);
    let keep = Keep::of(&settings, going_below, shared.environment.clock.wall());
    runs.retain(|run| !shared.merging.is_damaged(run.segment));
    Ok(Window { partition, keep, is_aged, is_cut, runs })
}

/// Up to where retention by size deletes soon, as far as the runs from the log start on tell.
fn going_below(log: &PartitionLog, runs: &[RunDescription]) -> Offset {
    let settings = log.settings();
    let kept = settings.retention_bytes.filter(|_| settings.cleanup.delete);
    let (Some(kept), Some(first)) = (kept, runs.first()) else { return Offset::ZERO };
    if log.offsets().log_start < first.base {
        return Offset::ZERO; // Behind the log start: how much lies before is not known here.
    }
    let mut excess = log.size_bytes().saturating_sub(kept - kept / 8);
    let mut below = Offset::ZERO;
    for run in runs {
        if excess < run.length {
            break;
        }
        excess -= run.length;
        below = run.end;
    }
    below
}

/// Reads, writes and commits one segment.
async fn perform(shared: &Arc<Shared>, job: Job) -> Result<(), MergeError> {
    let merging = &shared.merging;
    let stage = job.stage;
    let outcome = async {
        let mut gathered = gather::gather(shared, job).await?;
        let left = std::mem::take(&mut gathered.left);
        Ok((write::write(shared, gathered).await?, left))
    };
    let (merged, left) = outcome.await.inspect_err(|error| leave_alone(shared, error))?;
    put_back(shared, stage, left.iter());
    let now = shared.environment.clock.now();
    let mut backlog = merging.backlog();
    for run in &merged.runs {
        match stage {
            Stage::Adopted => backlog.flushed(run, now, &merging.rules),
            Stage::Flushed | Stage::Merged => backlog.found(run, now, &merging.rules),
        }
    }
    if stage == Stage::Merged {
        backlog.spend(merged.bytes);
    }
    Ok(())
}

/// One damaged or missing segment must not keep everything else from being merged.
fn leave_alone(shared: &Shared, error: &MergeError) {
    match error {
        MergeError::Corrupt { segment, .. } => {
            shared.metrics.corrupt_reads.inc();
            tracing::error!(%error, "runs of a damaged segment stay where they are");
            shared.merging.leave_alone(*segment);
        }
        MergeError::Gone(segment) => shared.merging.leave_alone(*segment),
        MergeError::Bucket(_) | MergeError::RunIndex(_) | MergeError::TooOld => (),
    }
}
