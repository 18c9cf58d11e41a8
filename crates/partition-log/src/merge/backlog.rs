//! Which partitions have small runs, and which of them are worth a look. Pure.
//!
//! Owns: a few numbers for each hosted partition, fed by flushes, merges and first looks.
//! Does not own: the runs themselves (the metadata does), what becomes of them (`plan`).
//!
//! The numbers are hints: a merge is decided on the runs as the metadata has them then. What must be
//! right is [`Backlog::spare_bytes`], which never says more than was flushed.

use super::plan::{Found, Job, Rules, Stage, Tally, Window, groups, jobs, ripe_bytes};
use crate::run_index::RunDescription;
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;
use vocabulary::{Partition, Tick};

#[derive(Debug, Default)]
pub(crate) struct Backlog {
    partitions: BTreeMap<Partition, Tallies>,
    /// Flushed as large runs and so never rewritten themselves, less what was rewritten twice.
    spare_bytes: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Tallies {
    by_stage: [Option<Tally>; Stage::ALL.len()],
    is_known: bool,
}

/// Partitions are looked at together until they have enough for so many segments. Larger: fuller
/// segments, above all where topics are kept for different times; more run descriptions in memory (a
/// few megabytes at most).
const SEGMENTS_AT_ONCE: u64 = 8;

impl Backlog {
    /// The flush has committed a run.
    pub(super) fn flushed(&mut self, run: &RunDescription, now: Tick, rules: &Rules) {
        if rules.large_bytes() <= run.length {
            self.spare_bytes += run.length;
        }
        self.found(run, now, rules);
    }

    /// A run is there, as a merge or a look has it.
    pub(super) fn found(&mut self, run: &RunDescription, now: Tick, rules: &Rules) {
        if let Some(stage) = Stage::of(run, rules.large_bytes()) {
            self.add(run.partition, stage, Tally::of(run, now));
        }
    }

    /// What may be rewritten a second time.
    pub(super) fn spare_bytes(&self) -> u64 {
        self.spare_bytes
    }

    pub(super) fn spend(&mut self, bytes: u64) {
        self.spare_bytes = self.spare_bytes.saturating_sub(bytes);
    }

    pub(super) fn add(&mut self, partition: Partition, stage: Stage, tally: Tally) {
        let kept = &mut self.partitions.entry(partition).or_default().by_stage[stage as usize];
        *kept = Some(kept.map_or(tally, |it| it.and(tally)));
    }

    /// Forgets the numbers of one stage, which the caller is about to look at.
    pub(super) fn take(&mut self, partition: Partition, stage: Stage) -> Option<Tally> {
        self.partitions.get_mut(&partition)?.by_stage[stage as usize].take()
    }

    /// Partitions whose runs nobody has looked at yet, out of those hosted; others are forgotten.
    pub(super) fn unknown(&mut self, hosted: &[Partition]) -> Vec<Partition> {
        if hosted.len() < self.partitions.len() {
            let hosted: HashSet<_> = hosted.iter().collect();
            self.partitions.retain(|it, _| hosted.contains(it));
        }
        let is_known = |it: &Partition| self.partitions.get(it).is_some_and(|it| it.is_known);
        hosted.iter().filter(|it| !is_known(it)).copied().collect()
    }

    pub(super) fn know(&mut self, partition: Partition) {
        self.partitions.entry(partition).or_default().is_known = true;
    }

    /// Partitions worth a look at this stage, in the order of segments, as many as a few jobs take.
    pub(super) fn ripe(&self, stage: Stage, due: Due, rules: &Rules) -> Vec<Partition> {
        let bytes_enough = SEGMENTS_AT_ONCE * rules.packed_bytes_max;
        let runs_enough = SEGMENTS_AT_ONCE * rules.job_runs_max as u64;
        let (mut bytes, mut runs) = (0, 0);
        let mut ripe = Vec::new();
        for (partition, tallies) in &self.partitions {
            let Some(tally) = tallies.by_stage[stage as usize] else { continue };
            let is_ripe = match stage {
                Stage::Adopted => true,
                Stage::Flushed => is_many(&tally, rules) || due.is_aged(tally.since),
                // Enough for any one job.
                Stage::Merged => is_many(&tally, rules) && rules.target_bytes <= self.spare_bytes,
            };
            if !is_ripe {
                continue;
            }
            ripe.push(*partition);
            bytes += tally.bytes;
            runs += u64::from(tally.runs);
            if bytes_enough <= bytes || runs_enough <= runs {
                break;
            }
        }
        ripe
    }

    /// What is merged of the partitions that were looked at; their numbers become those of what is
    /// left to wait.
    pub(super) fn decide(
        &mut self,
        looks: Vec<(Window, Tally)>,
        stage: Stage,
        rules: &Rules,
        now: Tick,
    ) -> Vec<Job> {
        let mut all = Vec::new();
        for (window, before) in looks {
            self.take(window.partition, stage);
            let found = groups(&window, stage, rules);
            if let Some(left) = left(&window, &found, before, rules, now) {
                self.add(window.partition, stage, left);
            }
            all.extend(found.groups);
        }
        let (jobs, useless) = jobs(all, stage, rules);
        for group in useless {
            // Not to be looked at again before it is old once more.
            let tally = Tally { runs: 0, bytes: 0, from: group.runs[0].base, since: now };
            self.add(group.partition, stage, tally);
        }
        jobs
    }

    pub(super) fn tally(&self, partition: Partition, stage: Stage) -> Option<Tally> {
        self.partitions.get(&partition)?.by_stage[stage as usize]
    }
}

/// Since when a run has waited long enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Due {
    /// `None` between the rounds for old ones.
    aged: Option<(Tick, Duration)>,
}

/// Old runs are looked for so many times in the time in which they get old: then many are old at once
/// and share a segment.
pub(super) const AGED_ROUNDS: u32 = 4;

impl Due {
    pub(super) fn not_aged() -> Due {
        Due { aged: None }
    }

    /// In a round for old ones; the next one may come too late for what is this old.
    pub(super) fn aged(now: Tick, age_max: Duration) -> Due {
        Due { aged: Some((now, age_max - age_max / AGED_ROUNDS)) }
    }

    pub(super) fn is_aged(&self, since: Tick) -> bool {
        self.aged.is_some_and(|(now, age)| since.plus(age) <= now)
    }
}

fn is_many(tally: &Tally, rules: &Rules) -> bool {
    rules.fan_in <= tally.runs || ripe_bytes(rules.target_bytes) <= tally.bytes
}

/// The candidates that wait on. Those that can grow no more count only by their age, or a partition
/// with many of them would be looked at again and again.
fn left(window: &Window, found: &Found, before: Tally, rules: &Rules, now: Tick) -> Option<Tally> {
    let since = if window.is_aged { now } else { before.since };
    let trailing = &found.left[found.left.len() - found.trailing..];
    if window.is_cut {
        // Those before are left for good: a look goes on where this one ended.
        let behind = window.runs.last().map(|it| it.end);
        let from = trailing.first().map(|it| it.base).or(behind)?;
        return Some(Tally { runs: rules.fan_in, bytes: 0, from, since });
    }
    let from = found.left.first()?.base;
    let bytes = trailing.iter().map(|it| it.length).sum();
    Some(Tally { runs: trailing.len() as u32, bytes, from, since })
}
