//! The memory twin's maps and the rules by which they change. No lock, no clock, no answers.

use super::super::{
    Adoption, KeptProducers, RefusalReason, Replacement, RunCommit, RunDescription, RunRefusal,
};
use super::PartitionFacts;
use std::collections::BTreeMap;
use vocabulary::{LeaderEpoch, Offset, Partition, SegmentName, Timestamp};

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) partitions: BTreeMap<Partition, PartitionRuns>,
    pub(super) segments: BTreeMap<SegmentName, Segment>,
    pub(super) answers_to_lose: usize,
    pub(super) calls_to_refuse: usize,
}

#[derive(Debug, Default, Clone)]
pub(super) struct PartitionRuns {
    pub(super) leader_epoch: LeaderEpoch,
    pub(super) log_start: Offset,
    pub(super) committed_end: Offset,
    pub(super) last_run_epoch: LeaderEpoch,
    /// By base offset.
    pub(super) runs: BTreeMap<Offset, RunDescription>,
    pub(super) epochs: Vec<(LeaderEpoch, Offset)>,
    /// As of the committed end, or absent.
    pub(super) kept: Option<KeptProducers>,
}

#[derive(Debug)]
pub(super) struct Segment {
    pub(super) live_runs: usize,
    pub(super) dead_since: Option<Timestamp>,
}

impl State {
    pub(super) fn commit(&mut self, commit: &RunCommit, now: Timestamp) -> Vec<RunRefusal> {
        let (mut refusals, mut live_runs) = (Vec::new(), 0);
        for run in &commit.runs {
            match self.partitions.get_mut(&run.partition).map(|it| it.commit(*run)) {
                Some(Ok(())) => live_runs += 1,
                Some(Err(reason)) => refusals.push(refusal(run, reason)),
                None => refusals.push(refusal(run, RefusalReason::UnknownPartition)),
            }
        }
        self.refer(commit.segment, live_runs, now);
        for run in &commit.runs {
            self.drop_dead_runs(run.partition, now);
        }
        refusals
    }

    pub(super) fn adopt(&mut self, adoption: &Adoption, now: Timestamp) -> Vec<RunRefusal> {
        let mut refusals = Vec::new();
        let (mut working, mut taken) = (BTreeMap::new(), Vec::new());
        for run in adoption.segments.iter().flat_map(|it| &it.runs) {
            let found = self.partitions.get(&run.partition);
            let partition: Option<&mut PartitionRuns> = found
                .map(|it| working.entry(run.partition).or_insert_with(|| PartitionRuns::clone(it)));
            match partition.map(|it| it.commit(*run)) {
                Some(Ok(())) => taken.push(*run),
                Some(Err(reason)) => refusals.push(refusal(run, reason)),
                None => refusals.push(refusal(run, RefusalReason::UnknownPartition)),
            }
        }
        for kept in &adoption.producers {
            if let Some(it) = working.get_mut(&kept.partition) {
                it.keep(kept);
            }
        }
        // Without producers as of its new end, a partition stays as it was (A5).
        working.retain(|_, it| it.has_kept());
        for run in taken {
            if working.contains_key(&run.partition) {
                self.refer(run.segment, 1, now);
            } else {
                let committed_end = self.partitions[&run.partition].committed_end;
                refusals.push(refusal(&run, RefusalReason::NotContiguous { committed_end }));
            }
        }
        for (partition, adopted) in working {
            self.partitions.insert(partition, adopted);
            self.drop_dead_runs(partition, now);
        }
        refusals
    }

    pub(super) fn replace(&mut self, command: &Replacement, now: Timestamp) -> Vec<RunRefusal> {
        let (mut refusals, mut live_runs) = (Vec::new(), 0);
        for merged in &command.merged.runs {
            let is_part = |it: &&RunDescription| {
                it.partition == merged.partition && merged.base <= it.base && it.end <= merged.end
            };
            let parts: Vec<RunDescription> =
                command.replaced.iter().filter(is_part).copied().collect();
            let Some(partition) = self.partitions.get_mut(&merged.partition) else {
                refusals.push(refusal(merged, RefusalReason::UnknownPartition));
                continue;
            };
            if partition.runs.get(&merged.base) == Some(merged) {
                continue; // An earlier try, whose answer was lost.
            }
            if !partition.replace(*merged, &parts) {
                refusals.push(refusal(merged, RefusalReason::Changed));
                continue;
            }
            live_runs += 1;
            for part in parts {
                self.release(part.segment, now);
            }
        }
        self.refer(command.merged.segment, live_runs, now);
        refusals
    }

    pub(super) fn advance_log_start(
        &mut self,
        partition: Partition,
        log_start: Offset,
        producers: Option<&KeptProducers>,
        now: Timestamp,
    ) {
        let Some(found) = self.partitions.get_mut(&partition) else { return };
        found.log_start = found.log_start.max(log_start);
        let passes_all = found.committed_end <= found.log_start;
        if let Some(kept) = producers.filter(|it| passes_all && it.partition == partition) {
            found.keep(kept);
        }
        self.drop_dead_runs(partition, now);
    }

    pub(super) fn release(&mut self, id: SegmentName, now: Timestamp) {
        if let Some(segment) = self.segments.get_mut(&id) {
            segment.live_runs = segment.live_runs.saturating_sub(1);
            if segment.live_runs == 0 {
                segment.dead_since.get_or_insert(now);
            }
        }
    }

    /// `count` more runs of the segment are live.
    fn refer(&mut self, id: SegmentName, count: usize, now: Timestamp) {
        let unknown = Segment { live_runs: 0, dead_since: None };
        let segment = self.segments.entry(id).or_insert(unknown);
        segment.live_runs += count;
        match segment.live_runs {
            0 => _ = segment.dead_since.get_or_insert(now),
            _ => segment.dead_since = None,
        }
    }

    /// Drops the runs wholly below the partition's log start, the last one only if its producers are
    /// kept (A5).
    fn drop_dead_runs(&mut self, partition: Partition, now: Timestamp) {
        let Some(found) = self.partitions.get_mut(&partition) else { return };
        let (start, has_kept, committed_end) =
            (found.log_start, found.has_kept(), found.committed_end);
        let mut dead = Vec::new();
        found.runs.retain(|_, run| {
            let lives = start < run.end || (run.end == committed_end && !has_kept);
            if !lives {
                dead.push(run.segment);
            }
            lives
        });
        for segment in dead {
            self.release(segment, now);
        }
    }
}

impl PartitionRuns {
    pub(super) fn facts(&self) -> PartitionFacts {
        PartitionFacts {
            leader_epoch: self.leader_epoch,
            log_start: self.log_start,
            committed_end: self.committed_end,
            committed_bytes: self.runs.values().map(|it| it.length).sum(),
            epochs: self.epochs.clone(),
        }
    }

    fn has_kept(&self) -> bool {
        self.kept.as_ref().is_some_and(|it| it.as_of == self.committed_end)
    }

    /// Unless they are of another time.
    fn keep(&mut self, producers: &KeptProducers) {
        if producers.as_of == self.committed_end {
            self.kept = Some(producers.clone());
        }
    }

    fn commit(&mut self, run: RunDescription) -> Result<(), RefusalReason> {
        let written_by = self.epochs.iter().rfind(|it| it.1 <= run.base).map(|it| it.0);
        let is_foreign = match run.base < self.committed_end {
            true => written_by.is_some_and(|it| it != run.leader_epoch),
            false => run.leader_epoch < self.last_run_epoch,
        };
        if self.leader_epoch < run.leader_epoch || is_foreign {
            return Err(RefusalReason::WrongEpoch);
        }
        if run.base != self.committed_end {
            return Err(RefusalReason::NotContiguous { committed_end: self.committed_end });
        }
        assert!(run.base < run.end, "A3: a run is not empty");
        self.committed_end = run.end;
        self.last_run_epoch = run.leader_epoch;
        if self.epochs.last().is_none_or(|(epoch, _)| *epoch < run.leader_epoch) {
            self.epochs.push((run.leader_epoch, run.base));
        }
        self.kept = None;
        self.runs.insert(run.base, run);
        Ok(())
    }

    /// False if `parts` are not what is committed, or do not make up `merged`.
    fn replace(&mut self, merged: RunDescription, parts: &[RunDescription]) -> bool {
        let mut next = merged.base;
        for part in parts {
            let is_next = part.base == next && part.leader_epoch == merged.leader_epoch;
            if !is_next || self.runs.get(&part.base) != Some(part) {
                return false;
            }
            next = part.end;
        }
        if parts.is_empty() || next != merged.end {
            return false;
        }
        for part in parts {
            self.runs.remove(&part.base);
        }
        self.runs.insert(merged.base, merged);
        true
    }
}

fn refusal(run: &RunDescription, reason: RefusalReason) -> RunRefusal {
    RunRefusal { partition: run.partition, base: run.base, reason }
}
