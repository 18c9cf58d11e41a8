//! The memory twin of the metadata: for tests and simulations of this room and of those above it.
//!
//! Owns: the promises of the port, kept in maps. Does not own: durability; it survives what the
//! simulation lets it survive by being shared between the engine's lives.
//!
//! Outcomes can be made unknown: [`MemoryRunIndex::lose_answers`] performs a change and then says
//! that nobody answered, [`MemoryRunIndex::refuse_calls`] fails without performing it.

use super::{
    Adoption, GarbageSegment, KeptProducers, Replacement, RunCommit, RunDescription, RunIndex,
    RunIndexError, RunRefusal,
};
use async_trait::async_trait;
use environment::Clock;
use state::{PartitionRuns, State};
use std::cmp::Reverse;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use vocabulary::{LeaderEpoch, Offset, Partition, SegmentName};

mod state;

/// The whole state behind one lock, which no call holds across an await.
#[derive(Debug)]
pub struct MemoryRunIndex {
    clock: Arc<dyn Clock>,
    /// A leaf lock: every operation is a few map steps and calls nothing else.
    state: Mutex<State>,
}

/// What a broker is told when it hosts a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionFacts {
    pub leader_epoch: LeaderEpoch,
    pub log_start: Offset,
    pub committed_end: Offset,
    /// Of its live runs.
    pub committed_bytes: u64,
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
}

#[async_trait]
impl RunIndex for MemoryRunIndex {
    async fn commit(&self, commit: RunCommit) -> Result<Vec<RunRefusal>, RunIndexError> {
        let now = self.clock.wall();
        let mut state = self.call()?;
        let refusals = state.commit(&commit, now);
        state.answer(refusals)
    }

    async fn adopt(&self, adoption: Adoption) -> Result<Vec<RunRefusal>, RunIndexError> {
        let now = self.clock.wall();
        let mut state = self.call()?;
        let refusals = state.adopt(&adoption, now);
        state.answer(refusals)
    }

    async fn replace(&self, replacement: Replacement) -> Result<Vec<RunRefusal>, RunIndexError> {
        let now = self.clock.wall();
        let mut state = self.call()?;
        let refusals = state.replace(&replacement, now);
        state.answer(refusals)
    }

    async fn kept_producers(
        &self,
        partition: Partition,
    ) -> Result<Option<KeptProducers>, RunIndexError> {
        let state = self.call()?;
        Ok(state.partitions.get(&partition).and_then(|it| it.kept.clone()))
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

    async fn log_start(&self, partition: Partition) -> Result<Option<Offset>, RunIndexError> {
        let state = self.call()?;
        Ok(state.partitions.get(&partition).map(|it| it.log_start))
    }

    async fn advance_log_start(
        &self,
        partition: Partition,
        log_start: Offset,
        producers: Option<KeptProducers>,
    ) -> Result<(), RunIndexError> {
        let now = self.clock.wall();
        let mut state = self.call()?;
        state.advance_log_start(partition, log_start, producers.as_ref(), now);
        state.answer(())
    }

    async fn garbage(&self, count_max: usize) -> Result<Vec<GarbageSegment>, RunIndexError> {
        let now = self.clock.wall();
        let state = self.call()?;
        let dead = state.segments.iter().filter_map(|(segment, it)| {
            let age_ms = u64::try_from(now.0 - it.dead_since?.0).unwrap_or(0);
            Some(GarbageSegment { segment: *segment, age: Duration::from_millis(age_ms) })
        });
        let mut garbage: Vec<_> = dead.collect();
        garbage.sort_by_key(|it| (Reverse(it.age), it.segment));
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
