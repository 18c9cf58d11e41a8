//! What is merged with what. Pure: runs in, jobs out; the policy is in the room's head comment.
//!
//! Owns: which neighbours of a partition become one run, which partitions share a segment.
//! Does not own: when a partition is looked at (`backlog`), reading and writing (`gather`, `write`).
//!
//! Invariants of every job, which the property tests check:
//! - the runs of a group are neighbours of one partition and one leader epoch, all of the job's stage;
//! - a segment's payload stays within the limit, unless one group alone, which is never above the
//!   target, exceeds it;
//! - a job makes fewer runs, or frees segments for fewer.

use super::level::{LEVEL_MAX, level_of};
use crate::log::LogSettings;
use crate::run_index::RunDescription;
use std::collections::HashSet;
use std::time::Duration;
use vocabulary::{Offset, Partition, Tick, Timestamp};

/// The limits of one broker's merging.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rules {
    /// A merged run is at most this large. From half of it on a run is large: it is left as it is,
    /// and gets a segment of its own.
    pub(super) target_bytes: u64,
    /// Payload of a segment that partitions share.
    pub(super) packed_bytes_max: u64,
    /// So many small runs are merged even if they stay small together.
    pub(super) fan_in: u32,
    /// Runs that one job replaces, which is what one metadata step takes.
    pub(super) job_runs_max: usize,
    /// A flushed run that is still alone after this is merged with whatever there is.
    pub(super) age_max: Duration,
}

impl Rules {
    pub(super) fn large_bytes(&self) -> u64 {
        self.target_bytes / 2
    }
}

/// What a run is a candidate for, most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// It lies in a dead log's WAL segment. Its output is what a flush would have written.
    Adopted,
    /// It was flushed, and it is small.
    Flushed,
    /// It was merged once, and is still small.
    Merged,
}

impl Stage {
    pub(super) const ALL: [Stage; 3] = [Stage::Adopted, Stage::Flushed, Stage::Merged];

    /// Of the segments that merging writes at this stage.
    pub(super) fn output_level(self) -> u8 {
        match self {
            Stage::Adopted => 0,
            Stage::Flushed => 1,
            Stage::Merged => LEVEL_MAX,
        }
    }

    /// `None` for a run that stays where it is.
    pub(super) fn of(run: &RunDescription, large_bytes: u64) -> Option<Stage> {
        match level_of(run.segment) {
            None => Some(Stage::Adopted),
            Some(_) if large_bytes <= run.length => None,
            Some(0) => Some(Stage::Flushed),
            Some(1) => Some(Stage::Merged),
            Some(_) => None,
        }
    }
}

/// What a topic's retention means to merging: what goes soon is not rewritten, and no merged run is
/// so long that the whole of it stays for the sake of its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Keep {
    /// Partitions of one class lose their runs after about the same time. They share segments, so
    /// that a segment is free soon after its first run goes.
    pub(super) class: u8,
    /// Runs whose newest record is older go soon.
    pub(super) going_before: Timestamp,
    /// Runs that end at or below this go soon.
    pub(super) going_below: Offset,
    /// Between the newest records of the first and the last run that become one.
    pub(crate) span_ms_max: i64,
    /// Of a merged run, if retention.bytes asks for less than the target.
    pub(crate) bytes_max: u64,
}

/// So many parts of what retention keeps one merged run may take.
const KEPT_PARTS: u64 = 8;

impl Keep {
    pub(crate) fn of(settings: &LogSettings, going_below: Offset, now: Timestamp) -> Keep {
        let deletes = settings.cleanup.delete;
        let kept_ms = settings.retention_ms.filter(|it| deletes && 0 <= *it);
        let part_ms = kept_ms.map(|it| it / KEPT_PARTS as i64);
        let kept_bytes = settings.retention_bytes.filter(|_| deletes);
        let going = kept_ms.zip(part_ms).map(|(kept, part)| now.0.saturating_sub(kept - part));
        Keep {
            class: kept_ms.map_or(u8::MAX, |it| it.max(1).ilog2() as u8),
            going_before: Timestamp(going.unwrap_or(i64::MIN)),
            going_below,
            span_ms_max: part_ms.unwrap_or(i64::MAX),
            bytes_max: kept_bytes.map_or(u64::MAX, |it| it / KEPT_PARTS),
        }
    }

    fn is_going(&self, run: &RunDescription) -> bool {
        let is_old = run.max_timestamp != Timestamp::NONE && run.max_timestamp < self.going_before;
        is_old || run.end <= self.going_below
    }
}

/// Runs of one partition as the metadata has them, in order and without a gap.
#[derive(Debug, Clone)]
pub(super) struct Window {
    pub(super) partition: Partition,
    pub(super) keep: Keep,
    /// Whether small runs have waited long enough.
    pub(super) is_aged: bool,
    /// Whether more runs follow than are looked at together.
    pub(super) is_cut: bool,
    pub(super) runs: Vec<RunDescription>,
}

/// Neighbours that become one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) partition: Partition,
    pub(super) class: u8,
    /// Of all runs.
    pub(super) bytes: u64,
    /// Never empty.
    pub(super) runs: Vec<RunDescription>,
}

/// What becomes one segment, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) stage: Stage,
    pub(super) groups: Vec<Group>,
}

impl Job {
    pub(super) fn bytes(&self) -> u64 {
        self.groups.iter().map(|it| it.bytes).sum()
    }
}

/// Candidates of one partition that wait: how many, how large, since when and from where on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) runs: u32,
    pub(super) bytes: u64,
    /// The first of them ends above this.
    pub(super) from: Offset,
    pub(super) since: Tick,
}

impl Tally {
    pub(super) fn of(run: &RunDescription, since: Tick) -> Tally {
        Tally { runs: 1, bytes: run.length, from: run.base, since }
    }

    pub(super) fn and(self, other: Tally) -> Tally {
        Tally {
            runs: self.runs + other.runs,
            bytes: self.bytes + other.bytes,
            from: self.from.min(other.from),
            since: self.since.min(other.since),
        }
    }
}

/// The groups of a window that are worth a merge now. What else is a candidate is left.
pub(super) fn groups(window: &Window, stage: Stage, rules: &Rules) -> Found {
    let target_bytes = rules.target_bytes.min(window.keep.bytes_max);
    let mut open = Open { window, stage, rules, target_bytes, runs: Vec::new(), bytes: 0 };
    let mut found = Found::default();
    for run in &window.runs {
        if Stage::of(run, target_bytes / 2) != Some(stage) || window.keep.is_going(run) {
            open.close(End::Barrier, &mut found);
            continue;
        }
        if let Some(end) = open.end_before(run) {
            open.close(end, &mut found);
        }
        open.runs.push(*run);
        open.bytes += run.length;
    }
    let left_before = found.left.len();
    open.close(End::OfWindow, &mut found);
    found.trailing = found.left.len() - left_before;
    found
}

#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) groups: Vec<Group>,
    /// Candidates that wait for more, in order.
    pub(super) left: Vec<RunDescription>,
    /// So many of them, at the end, can still grow together.
    pub(super) trailing: usize,
}

/// Why no more runs follow in a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The next one would be too much, in bytes or in time.
    Full,
    /// The next one is no candidate, or of another leader epoch.
    Barrier,
    /// There is no next one yet.
    OfWindow,
}

/// A group that may still grow.
struct Open<'a> {
    window: &'a Window,
    stage: Stage,
    rules: &'a Rules,
    target_bytes: u64,
    runs: Vec<RunDescription>,
    bytes: u64,
}

impl Open<'_> {
    fn end_before(&self, next: &RunDescription) -> Option<End> {
        let (first, last) = (self.runs.first()?, self.runs.last()?);
        if last.leader_epoch != next.leader_epoch || last.end != next.base {
            return Some(End::Barrier);
        }
        let span_ms = next.max_timestamp.0.saturating_sub(first.max_timestamp.0);
        let is_full = self.target_bytes < self.bytes + next.length
            || self.window.keep.span_ms_max < span_ms
            || self.rules.job_runs_max <= self.runs.len();
        is_full.then_some(End::Full)
    }

    fn close(&mut self, end: End, found: &mut Found) {
        let (runs, bytes) = (std::mem::take(&mut self.runs), std::mem::take(&mut self.bytes));
        if runs.is_empty() {
            return;
        }
        if !self.is_worth_it(runs.len(), bytes, end) {
            found.left.extend(runs);
            return;
        }
        let (partition, class) = (self.window.partition, self.window.keep.class);
        found.groups.push(Group { partition, class, bytes, runs });
    }

    fn is_worth_it(&self, count: usize, bytes: u64, end: End) -> bool {
        let is_old = self.stage == Stage::Flushed && self.window.is_aged;
        let is_many = self.rules.fan_in as usize <= count;
        let is_nearly_full = ripe_bytes(self.target_bytes) <= bytes;
        match end {
            _ if self.stage == Stage::Adopted => true,
            _ if is_old => true, // Even alone: what it shares a segment with may be gone.
            _ if count < 2 => false,
            End::Full => true,
            End::Barrier | End::OfWindow => is_many || is_nearly_full,
        }
    }
}

/// From here on waiting for more would improve little.
pub(super) fn ripe_bytes(target_bytes: u64) -> u64 {
    target_bytes / 4 * 3
}

/// Jobs for the groups of many partitions, which are put into the order of segments: by class, then
/// by partition; and the groups for which a merge would change nothing.
pub(super) fn jobs(mut groups: Vec<Group>, stage: Stage, rules: &Rules) -> (Vec<Job>, Vec<Group>) {
    groups.sort_by_key(|it| (it.class, it.partition, it.runs[0].base));
    let mut jobs = Vec::new();
    let mut open: Vec<Group> = Vec::new();
    let (mut bytes, mut runs) = (0, 0);
    for group in groups {
        if rules.large_bytes() <= group.bytes {
            jobs.push(Job { stage, groups: vec![group] });
            continue;
        }
        let is_full = rules.packed_bytes_max < bytes + group.bytes
            || rules.job_runs_max < runs + group.runs.len();
        let is_of_another_time = rules.packed_bytes_max / 8 <= bytes
            && open.last().is_some_and(|it| it.class != group.class);
        if is_full || is_of_another_time {
            jobs.push(Job { stage, groups: std::mem::take(&mut open) });
            (bytes, runs) = (0, 0);
        }
        bytes += group.bytes;
        runs += group.runs.len();
        open.push(group);
    }
    jobs.push(Job { stage, groups: open });
    let (useful, useless): (Vec<Job>, Vec<Job>) = jobs.into_iter().partition(is_useful);
    (useful, useless.into_iter().flat_map(|it| it.groups).collect())
}

/// Whether the metadata or the bucket has less to keep afterwards.
fn is_useful(job: &Job) -> bool {
    let runs = job.groups.iter().flat_map(|it| &it.runs);
    let segments: HashSet<_> = runs.clone().map(|it| it.segment).collect();
    let has_any = !job.groups.is_empty();
    has_any
        && (job.stage == Stage::Adopted || job.groups.len() < runs.count() || 1 < segments.len())
}

#[cfg(test)]
mod tests;
