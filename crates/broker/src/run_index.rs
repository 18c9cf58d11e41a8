//! The log's port to the metadata, implemented over the controller.
//!
//! Two rooms that do not know each other meet here; their types are converted, nothing is decided.

use async_trait::async_trait;
use cluster::{CommitRefusal, CommitRuns, Controller, Run, SubmitError};
use partition_log::run_index::{
    GarbageSegment, RefusalReason, RunCommit, RunDescription, RunIndex, RunIndexError, RunRefusal,
};
use vocabulary::{BrokerEpoch, BrokerId, Offset, Partition, SegmentName};

/// One broker's access to the runs, in the epoch it registered with.
#[derive(Debug)]
pub struct ClusterRunIndex {
    controller: Controller,
    broker: BrokerId,
    broker_epoch: BrokerEpoch,
}

impl ClusterRunIndex {
    pub fn new(
        controller: Controller,
        broker: BrokerId,
        broker_epoch: BrokerEpoch,
    ) -> ClusterRunIndex {
        ClusterRunIndex { controller, broker, broker_epoch }
    }
}

#[async_trait]
impl RunIndex for ClusterRunIndex {
    async fn commit(&self, commit: RunCommit) -> Result<Vec<RunRefusal>, RunIndexError> {
        let bases: Vec<(Partition, Offset)> =
            commit.runs.iter().map(|run| (run.partition, run.base)).collect();
        let command = CommitRuns {
            broker: self.broker,
            broker_epoch: self.broker_epoch,
            segment: commit.segment,
            segment_bytes: commit.segment_bytes,
            created: commit.created,
            runs: commit.runs.iter().map(to_cluster).collect(),
        };
        let decided = self.controller.commit_runs(command).await.map_err(unanswered)?;
        let refused = decided.map_err(|refusal| match refusal {
            CommitRefusal::StaleBroker { .. } => {
                tracing::error!(%refusal, "this process is fenced: it must not commit any more");
                RunIndexError::Fenced
            }
            CommitRefusal::SegmentReused(_) => {
                RunIndexError::Unavailable { reason: refusal.to_string() }
            }
        })?;
        let with_base = |(partition, refusal): (Partition, cluster::RunRefusal)| {
            let base = bases.iter().find(|it| it.0 == partition).map_or(Offset::ZERO, |it| it.1);
            RunRefusal { partition, base, reason: reason(refusal) }
        };
        Ok(refused.into_iter().map(with_base).collect())
    }

    async fn runs_from(
        &self,
        partition: Partition,
        offset: Offset,
        count_max: usize,
    ) -> Result<Vec<RunDescription>, RunIndexError> {
        let runs = self.controller.runs_from(partition, offset, count_max).await;
        Ok(runs.map_err(unanswered)?.into_iter().map(from_cluster).collect())
    }

    async fn last_run(
        &self,
        partition: Partition,
    ) -> Result<Option<RunDescription>, RunIndexError> {
        let run = self.controller.last_run(partition).await.map_err(unanswered)?;
        Ok(run.map(from_cluster))
    }

    async fn advance_log_start(
        &self,
        partition: Partition,
        log_start: Offset,
    ) -> Result<(), RunIndexError> {
        let advanced = self.controller.advance_log_start(partition, log_start).await;
        // A partition that is gone has no log start to move: that is as good as done.
        advanced.map_err(unanswered)?.or(Ok(()))
    }

    async fn garbage(&self, count_max: usize) -> Result<Vec<GarbageSegment>, RunIndexError> {
        let garbage = self.controller.view().garbage(count_max).into_iter();
        let mut garbage: Vec<GarbageSegment> = garbage
            .filter_map(|(segment, it)| Some(GarbageSegment { segment, since: it.garbage_since? }))
            .collect();
        garbage.sort_by_key(|it| it.since);
        Ok(garbage)
    }

    async fn forget(&self, segments: &[SegmentName]) -> Result<(), RunIndexError> {
        self.controller.forget_segments(segments.to_vec()).await.map_err(unanswered)
    }

    async fn known(&self, segments: &[SegmentName]) -> Result<Vec<bool>, RunIndexError> {
        let view = self.controller.view();
        Ok(segments.iter().map(|id| view.segment(*id).is_some()).collect())
    }
}

fn unanswered(error: SubmitError) -> RunIndexError {
    match error {
        SubmitError::Fenced => RunIndexError::Fenced,
        SubmitError::Stopping | SubmitError::Unavailable(_) => {
            RunIndexError::Unavailable { reason: error.to_string() }
        }
    }
}

fn reason(refusal: cluster::RunRefusal) -> RefusalReason {
    match refusal {
        cluster::RunRefusal::UnknownPartition => RefusalReason::UnknownPartition,
        cluster::RunRefusal::WrongLeaderEpoch => RefusalReason::WrongEpoch,
        cluster::RunRefusal::NotContiguous { committed_end } => {
            RefusalReason::NotContiguous { committed_end }
        }
    }
}

fn to_cluster(run: &RunDescription) -> Run {
    Run {
        partition: run.partition,
        leader_epoch: run.leader_epoch,
        base: run.base,
        end: run.end,
        max_timestamp: run.max_timestamp,
        segment: run.segment,
        position: run.position,
        length: run.length,
        crc: run.crc,
    }
}

fn from_cluster(run: Run) -> RunDescription {
    RunDescription {
        partition: run.partition,
        leader_epoch: run.leader_epoch,
        base: run.base,
        end: run.end,
        max_timestamp: run.max_timestamp,
        segment: run.segment,
        position: run.position,
        length: run.length,
        crc: run.crc,
    }
}

#[cfg(test)]
mod tests;
