//! The memory twin of the metadata: for tests and simulations of this room and of those above it.
//!
//! Owns: the promises of the port, kept in maps. Does not own: durability; it survives what the
//! simulation lets it survive by being shared between the engine's lives.
//!
//! Outcomes can be made unknown: [`MemoryRunIndex::lose_answers`] performs a change and then says
//! that nobody answered, [`MemoryRunIndex::refuse_calls`] fails without performing it.

use super::{
    GarbageSegment, RefusalReason, RunCommit, RunDescription, RunIndex, RunIndexError, RunRefusal,
};
use async_trait::async_trait;
use environment::Clock;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use vocabulary::{LeaderEpoch, Offset, Partition, SegmentName, Timestamp};

/// The whole state behind one lock, which no call holds across an await.
#[derive(Debug)]
pub struct MemoryRunIndex {
    clock: Arc<dyn Clock>,
    /// A leaf lock: every operation is a few map steps and calls nothing else.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    partitions: BTreeMap<Partition, PartitionRuns>,
    segments: BTreeMap<SegmentName, Segment>,
    answers_to_lose: usize,
    calls_to_refuse: usize,
}

#[derive(Debug, Default)]
struct PartitionRuns {
    leader_epoch: LeaderEpoch,
    log_start: Offset,
    committed_end: Offset,
    last_run_epoch: LeaderEpoch,
    /// By base offset.
    runs: BTreeMap<Offset, RunDescription>,
    epochs: Vec<(LeaderEpoch, Offset)>,
}

#[derive(Debug)]
struct Segment {
    live_runs: usize,
    dead_since: Option<Timestamp>,
}

/// What a broker is told when it hosts a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionFacts {
    pub leader_epoch: LeaderEpoch,
    pub log_start: Offset,
    pub committed_end: Offset,
    pub epochs: Vec<(LeaderEpoch, Offset)>,
}

impl MemoryRunIndex {
    pub fn new(clock: Arc<dyn Clock>) -> MemoryRunIndex {
        MemoryRunIndex { clock, state: Mutex::default() }
    }

    /// Makes a partition known, at leader epoch 0.
    pub fn create(&self, partition: Partition) {
        self.state().partitions.entry(partition).or_default();
    }

    /// As when the broker registers again: a new leader epoch, and what it has to know to host.
    pub fn next_epoch(&self, partition: Partition) -> PartitionFacts {
        let mut state = self.state();
        let found = state.partitions.get_mut(&partition);
        let found = found.expect("the test created the partition");
        found.leader_epoch = found.leader_epoch.next();
        found.facts()
    }

    /// The partition as it is, without a new leader.
    pub fn facts(&self, partition: Partition) -> Option<PartitionFacts> {
        self.state().partitions.get(&partition).map(PartitionRuns::facts)
    }

    /// As when the topic is deleted: its runs are dropped, later commits of it refused.
    pub fn delete(&self, partition: Partition) {
        let now = self.clock.wall();
        let mut state = self.state();
        if let Some(gone) = state.partitions.remove(&partition) {
            for run in gone.runs.values() {
                state.release(run.segment, now);
            }
        }
    }

    /// The next `count` changes happen, but their callers are told that nobody answered.
    pub fn lose_answers(&self, count: usize) {
        self.state().answers_to_lose = count;
    }

    /// The next `count` calls do nothing but fail.
    pub fn refuse_calls(&self, count: usize) {
        self.state().calls_to_refuse = count;
    }

    /// Every committed run of a partition, in offset order.
    pub fn runs(&self, partition: Partition) -> Vec<RunDescription> {
        let state = self.state();
        state
            .partitions
            .get(&partition)
            .map_or(Vec::new(), |it| it.runs.values().copied().collect())
    }

    /// Every known segment, live or garbage.
    pub fn segments(&self) -> Vec<SegmentName> {
        self.state().segments.keys().copied().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this leaf lock panics: map operations only")
    }

    /// The lock, unless the test wants this call to fail.
    fn call(&self) -> Result<MutexGuard<'_, State>, RunIndexError> {
        let mut state = self.state();
        if state.calls_to_refuse == 0 {
            return Ok(state);
        }
        state.calls_to_refuse -= 1;
        Err(RunIndexError::Unavailable { reason: "the test refuses this call".into() })
    }
}

impl State {
    fn answer<T>(&mut self, value: T) -> Result<T, RunIndexError> {
        if self.answers_to_lose == 0 {
            return Ok(value);
        }
        self.answers_to_lose -= 1;
        Err(RunIndexError::Unavailable { reason: "the test loses this answer".into() })
    }

    fn release(&mut self, id: SegmentName, now: Timestamp) {
        if let Some(segment) = self.segments.get_mut(&id) {
            segment.live_runs = segment.live_runs.saturating_sub(1);
            if segment.live_runs == 0 {
                segment.dead_since.get_or_insert(now);
            }
        }
    }

    /// Drops the runs wholly below the partition's log start.
    fn drop_dead_runs(&mut self, partition: Partition, now: Timestamp) {
        let Some(found) = self.partitions.get_mut(&partition) else { return };
        let start = found.log_start;
        let mut dead = Vec::new();
        found.runs.retain(|_, run| {
            let lives = start < run.end;
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
    fn facts(&self) -> PartitionFacts {
        PartitionFacts {
            leader_epoch: self.leader_epoch,
            log_start: self.log_start,
            committed_end: self.committed_end,
            epochs: self.epochs.clone(),
        }
    }

    fn refusal(&self, run: &RunDescription) -> Option<RefusalReason> {
        if run.leader_epoch < self.last_run_epoch || self.leader_epoch < run.leader_epoch {
            return Some(RefusalReason::WrongEpoch);
        }
        let committed_end = self.committed_end;
        (run.base != committed_end).then_some(RefusalReason::NotContiguous { committed_end })
    }

    fn commit(&mut self, run: RunDescription) {
        assert_eq!(run.base, self.committed_end, "A3: runs follow each other");
        assert!(run.base < run.end, "A3: a run is not empty");
        self.committed_end = run.end;
        self.last_run_epoch = run.leader_epoch;
        if self.epochs.last().is_none_or(|(epoch, _)| *epoch < run.leader_epoch) {
            self.epochs.push((run.leader_epoch, run.base));
        }
        self.runs.insert(run.base, run);
    }
}

#[async_trait]
impl RunIndex for MemoryRunIndex {
    async fn commit(&self, commit: RunCommit) -> Result<Vec<RunRefusal>, RunIndexError> {
        let now = self.clock.wall();
        let mut state = self.call()?;
        let mut refusals = Vec::new();
        let mut live_runs = 0;
        for run in &commit.runs {
            let refused = match state.partitions.get_mut(&run.partition) {
                None => Some(RefusalReason::UnknownPartition),
                Some(found) => match found.refusal(run) {
                    Some(reason) => Some(reason),
                    None => {
                        found.commit(*run);
                        None
                    }
                },
            };
            match refused {
                None => live_runs += 1,
                Some(reason) => {
                    let (partition, base) = (run.partition, run.base);
                    refusals.push(RunRefusal { partition, base, reason });
                }
            }
        }
        let segment = state
            .segments
            .entry(commit.segment)
            .or_insert(Segment { live_runs: 0, dead_since: None });
        segment.live_runs += live_runs;
        if segment.live_runs == 0 {
            segment.dead_since.get_or_insert(now);
        }
        for run in &commit.runs {
            state.drop_dead_runs(run.partition, now);
        }
        state.answer(refusals)
    }

    async fn runs_from(
        &self,
        partition: Partition,
        offset: Offset,
        count_max: usize,
    ) -> Result<Vec<RunDescription>, RunIndexError> {
        let state = self.call()?;
        let Some(found) = state.partitions.get(&partition) else { return Ok(Vec::new()) };
        let wanted = found.runs.values().skip_while(|run| run.end <= offset);
        Ok(wanted.take(count_max).copied().collect())
    }

    async fn last_run(
        &self,
        partition: Partition,
    ) -> Result<Option<RunDescription>, RunIndexError> {
        let state = self.call()?;
        let found = state.partitions.get(&partition);
        Ok(found.and_then(|it| it.runs.values().next_back().copied()))
    }

    async fn advance_log_start(
        &self,
        partition: Partition,
        log_start: Offset,
    ) -> Result<(), RunIndexError> {
        let now = self.clock.wall();
        let mut state = self.call()?;
        if let Some(found) = state.partitions.get_mut(&partition) {
            found.log_start = found.log_start.max(log_start);
        }
        state.drop_dead_runs(partition, now);
        state.answer(())
    }

    async fn garbage(&self, count_max: usize) -> Result<Vec<GarbageSegment>, RunIndexError> {
        let state = self.call()?;
        let dead = state.segments.iter().filter_map(|(segment, it)| {
            it.dead_since.map(|since| GarbageSegment { segment: *segment, since })
        });
        let mut garbage: Vec<_> = dead.collect();
        garbage.sort_by_key(|it| (it.since, it.segment));
        garbage.truncate(count_max);
        Ok(garbage)
    }

    async fn forget(&self, segments: &[SegmentName]) -> Result<(), RunIndexError> {
        let mut state = self.call()?;
        for id in segments {
            let segment = state.segments.remove(id);
            assert!(segment.is_none_or(|it| it.live_runs == 0), "A6: only dead segments go");
        }
        state.answer(())
    }

    async fn known(&self, segments: &[SegmentName]) -> Result<Vec<bool>, RunIndexError> {
        let state = self.call()?;
        Ok(segments.iter().map(|it| state.segments.contains_key(it)).collect())
    }
}
