//! Where the greatest timestamp of a partition's committed runs grows: an index for lookups by time.
//!
//! Owns: the steps, how many are kept, what a moved log start means for them. Pure but for the cache.
//! Does not own: reading run descriptions (`lookup`).
//!
//! Timestamps are not in the order of offsets, but the *greatest timestamp so far* is. The first run
//! that has a record at `target` or later is always one that raises it: had an earlier run raised it
//! to `target`, that one would be first. So only runs that raise it are kept, as steps, and a lookup
//! is a binary search; the run with the greatest timestamp of all is the last step.
//!
//! A step says something about offsets, not about runs: every record below its base is earlier than
//! its timestamp. Merging runs changes nothing about that.
//!
//! Invariants of [`Times`]: bases and timestamps of the steps grow; the steps are those of
//! `[start, end)`, thinned to every n-th, the last one always kept.

use crate::run_index::RunDescription;
use quick_cache::sync::Cache;
use std::sync::Arc;
use vocabulary::{Offset, Partition, Timestamp};

/// Steps of one partition, 16 bytes each. Beyond it every second one is forgotten, and a lookup reads
/// the run descriptions between two.
const STEPS_MAX: usize = 4096;

/// Steps of all partitions, in bytes. What does not fit is found out again by the next lookup.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;

/// What a partition costs besides its steps.
const ENTRY_BYTES: u64 = 128;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) base: Offset,
    pub(super) max_timestamp: Timestamp,
}

/// The steps of the runs of `[start, end)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) start: Offset,
    pub(super) end: Offset,
    steps: Vec<Step>,
    steps_max: usize,
    /// One of so many steps is kept.
    stride: usize,
    /// Steps since the one before the last that is kept.
    since: usize,
}

impl Times {
    /// Nothing known yet of what follows `start`.
    pub(super) fn starting_at(start: Offset) -> Times {
        Times::with_steps_max(start, STEPS_MAX)
    }

    fn with_steps_max(start: Offset, steps_max: usize) -> Times {
        Times { start, end: start, steps: Vec::new(), steps_max, stride: 1, since: 0 }
    }

    /// The run that follows. What the steps know already of it, if it was merged, is not added again.
    pub(super) fn add(&mut self, run: &RunDescription) {
        debug_assert!(run.base <= self.end, "A3: runs follow each other");
        if run.end <= self.end {
            return;
        }
        let base = self.end.max(run.base);
        self.end = run.end;
        let is_step = self.steps.last().is_none_or(|it| it.max_timestamp < run.max_timestamp);
        if is_step && run.max_timestamp != Timestamp::NONE {
            self.push(Step { base, max_timestamp: run.max_timestamp });
        }
    }

    /// Where to look for the first record at `target` or later: runs from the first offset on, up to
    /// the one that holds the second. `None` if no run has one.
    pub(super) fn bracket(&self, target: Timestamp) -> Option<(Offset, Offset)> {
        let at = self.steps.partition_point(|it| it.max_timestamp < target);
        let last = self.steps.get(at)?;
        let first = at.checked_sub(1).map_or(self.start, |before| self.steps[before].base);
        // Not thinned, nothing between two steps can be it.
        Some((if 1 < self.stride { first } else { last.base }, last.base))
    }

    /// The run that has the greatest timestamp, and is the first to.
    pub(super) fn latest(&self) -> Option<Step> {
        self.steps.last().copied()
    }

    /// The log starts later: what was hidden behind a dropped step is to be looked at again. Returns
    /// the steps from `start` on, without what lies before the first of them that is left.
    pub(super) fn restarted(&self, start: Offset) -> (Times, Option<Times>) {
        let steps_max = self.steps_max;
        let left = self.steps.partition_point(|it| it.base < start);
        let fresh = Times::with_steps_max(start, steps_max);
        match self.steps.get(left) {
            None => (fresh, None),
            Some(first) => {
                let (start, steps) = (first.base, self.steps[left..].to_vec());
                (fresh, Some(Times { start, steps, ..self.clone() }))
            }
        }
    }

    /// Appends what is known of the offsets from this end on.
    pub(super) fn append(&mut self, rest: Times) {
        debug_assert!(rest.start <= self.end, "no gap between the two");
        for step in rest.steps {
            if self.steps.last().is_none_or(|it| it.max_timestamp < step.max_timestamp) {
                self.steps.push(step);
            }
        }
        self.end = self.end.max(rest.end);
        (self.stride, self.since) = (self.stride.max(rest.stride), rest.since);
        while self.steps_max < self.steps.len() {
            self.thin();
        }
    }

    /// The last step is always kept; it gives way to the next unless it is one of those to keep.
    fn push(&mut self, step: Step) {
        if 0 < self.since && self.since < self.stride {
            self.steps.pop();
            self.since += 1;
        } else {
            self.since = 1;
        }
        self.steps.push(step);
        if self.steps_max < self.steps.len() {
            self.thin();
        }
    }

    fn thin(&mut self) {
        (self.stride, self.since) = (self.stride * 2, self.stride);
        let last = self.steps.len() - 1;
        let mut index = 0;
        self.steps.retain(|_| {
            index += 1;
            (index - 1) % 2 == 1 || index - 1 == last
        });
    }
}

#[derive(Clone)]
struct TimesWeight;

impl quick_cache::Weighter<Partition, Arc<Times>> for TimesWeight {
    fn weight(&self, _: &Partition, times: &Arc<Times>) -> u64 {
        (times.steps.len() * size_of::<Step>()) as u64 + ENTRY_BYTES
    }
}

/// The steps of many partitions.
pub(super) struct TimesCache(Cache<Partition, Arc<Times>, TimesWeight>);

impl TimesCache {
    pub(super) fn new() -> TimesCache {
        TimesCache(Cache::with_weighter(4096, CACHE_BYTES, TimesWeight))
    }

    pub(super) fn get(&self, partition: Partition) -> Option<Arc<Times>> {
        self.0.get(&partition)
    }

    pub(super) fn insert(&self, partition: Partition, times: Arc<Times>) {
        self.0.insert(partition, times);
    }
}

#[cfg(test)]
mod tests;
