//! Which committed runs lie in which segment, as many as fit into memory at a time.
//!
//! Owns: the bound. A pass over all runs fills it with those of the first segments, by name; further
//! passes take the next ones. Does not own: reading runs (`partitions`).

use std::collections::BTreeMap;

use cluster::Run;
use vocabulary::{Partition, SegmentName};

/// Runs held at a time: about a hundred bytes each.
pub(crate) const RUNS_HELD_MAX: usize = 1_000_000;

/// The runs of a stretch of segments.
#[derive(Debug)]
pub(crate) struct Holdings {
    held_max: usize,
    held: usize,
    /// Segments up to this one were compared in an earlier pass.
    after: Option<SegmentName>,
    /// Segments from this one on are left to a later pass.
    before: Option<SegmentName>,
    runs: BTreeMap<SegmentName, Vec<Run>>,
}

impl Holdings {
    pub(crate) fn new(after: Option<SegmentName>, held_max: usize) -> Holdings {
        Holdings { held_max, held: 0, after, before: None, runs: BTreeMap::new() }
    }

    pub(crate) fn add(&mut self, run: Run) {
        if !self.covers(run.segment) {
            return;
        }
        self.runs.entry(run.segment).or_default().push(run);
        self.held += 1;
        while self.held_max < self.held && 1 < self.runs.len() {
            let Some((name, runs)) = self.runs.pop_last() else { break };
            self.held -= runs.len();
            self.before = Some(name);
        }
    }

    /// Takes back what was added of a partition that has to be read again.
    pub(crate) fn forget(&mut self, partition: Partition) {
        for runs in self.runs.values_mut() {
            runs.retain(|it| it.partition != partition);
        }
        self.runs.retain(|_, runs| !runs.is_empty());
        self.held = self.runs.values().map(Vec::len).sum();
    }

    /// Whether all runs of this segment are held after a pass.
    pub(crate) fn covers(&self, segment: SegmentName) -> bool {
        self.after.is_none_or(|after| after < segment)
            && self.before.is_none_or(|before| segment < before)
    }

    pub(crate) fn of(&self, segment: SegmentName) -> &[Run] {
        self.runs.get(&segment).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn segments(&self) -> impl Iterator<Item = SegmentName> {
        self.runs.keys().copied()
    }

    /// Where the next pass goes on. `None` after the last.
    pub(crate) fn next_after(&self) -> Option<SegmentName> {
        self.before.and_then(|_| self.runs.last_key_value().map(|(name, _)| *name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vocabulary::{LeaderEpoch, Offset, Timestamp};

    fn run(segment: u128, base: i64) -> Run {
        Run {
            partition: Partition::default(),
            leader_epoch: LeaderEpoch(0),
            base: Offset(base),
            end: Offset(base + 1),
            max_timestamp: Timestamp(0),
            segment: SegmentName::data(segment),
            position: 64,
            length: 1,
            crc: 0,
        }
    }

    /// However the runs come, every segment is held whole in exactly one pass.
    #[test]
    fn passes_cover_every_segment_once() {
        let runs: Vec<Run> = (0..100).map(|it| run((it * 37 % 11) as u128, it)).collect();
        let (mut after, mut seen) = (None, Vec::new());
        for _ in 0..20 {
            let mut holdings = Holdings::new(after, 25);
            runs.iter().for_each(|it| holdings.add(*it));
            for segment in holdings.segments() {
                let expected = runs.iter().filter(|it| it.segment == segment).count();
                assert_eq!(holdings.of(segment).len(), expected);
                seen.push(segment);
            }
            after = match holdings.next_after() {
                Some(next) => Some(next),
                None => break,
            };
        }
        assert_eq!(seen, (0..11).map(SegmentName::data).collect::<Vec<_>>());
    }
}
