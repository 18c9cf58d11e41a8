//! The log's port to the metadata, implemented over the controller.
//!
//! Two rooms that do not know each other meet here; their types are converted, nothing is decided.

use async_trait::async_trait;
use cluster::{
    AdoptRuns, CommitRefusal, CommitRuns, Controller, RefusedRun, Registration, ReplaceRuns, Run,
    RunsOfSegment, SubmitError, WalError,
};
use partition_log::run_index::{
    Adoption, GarbageSegment, KeptProducers, RefusalReason, Replacement, RunCommit, RunDescription,
    RunIndex, RunIndexError, RunRefusal,
};
use partition_log::wal::ledger::{WalId, WalKind, WalLedger, WalRecord};
use std::cmp::Reverse;
use std::time::Duration;
use vocabulary::{BrokerEpoch, BrokerId, Offset, Partition, SegmentName};

/// One broker's access to the runs and logs, in the epoch it registered with.
#[derive(Debug)]
pub struct ClusterRunIndex {
    controller: Controller,
    registration: Registration,
}

impl ClusterRunIndex {
    pub fn new(
        controller: Controller,
        broker: BrokerId,
        broker_epoch: BrokerEpoch,
    ) -> ClusterRunIndex {
        let registration = Registration { broker, epoch: broker_epoch };
        ClusterRunIndex { controller, registration }
    }

    /// Runs of a deleted topic leave the metadata a thousand at a time; until then they are nobody's.
    fn is_deleted(&self, partition: Partition) -> bool {
        self.controller.view().topic_by_id(partition.topic).is_none()
    }
}

#[async_trait]
impl RunIndex for ClusterRunIndex {
    async fn commit(&self, commit: RunCommit) -> Result<Vec<RunRefusal>, RunIndexError> {
        let command = CommitRuns {
            broker: self.registration.broker,
            broker_epoch: self.registration.epoch,
            segment: commit.segment,
            segment_bytes: commit.segment_bytes,
            created: commit.created,
            runs: commit.runs.iter().map(to_cluster).collect(),
        };
        refusals(self.controller.commit_runs(command).await)
    }

    async fn adopt(&self, adoption: Adoption) -> Result<Vec<RunRefusal>, RunIndexError> {
        let command = AdoptRuns {
            by: self.registration,
            segments: adoption.segments.iter().map(of_segment).collect(),
            producers: adoption.producers.into_iter().map(kept_to_cluster).collect(),
        };
        refusals(self.controller.adopt_runs(command).await)
    }

    async fn replace(&self, replacement: Replacement) -> Result<Vec<RunRefusal>, RunIndexError> {
        let command = ReplaceRuns {
            by: self.registration,
            merged: of_segment(&replacement.merged),
            replaced: replacement.replaced.iter().map(to_cluster).collect(),
        };
        refusals(self.controller.replace_runs(command).await)
    }

    async fn kept_producers(
        &self,
        partition: Partition,
    ) -> Result<Option<KeptProducers>, RunIndexError> {
        if self.is_deleted(partition) {
            return Ok(None);
        }
        let kept = self.controller.kept_producers(partition).await.map_err(unanswered)?;
        Ok(kept.map(|it| KeptProducers {
            partition: it.partition,
            as_of: it.as_of,
            snapshot: it.snapshot,
        }))
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
        if self.is_deleted(partition) {
            return Ok(None);
        }
        let run = self.controller.last_run(partition).await.map_err(unanswered)?;
        Ok(run.map(from_cluster))
    }

    async fn log_start(&self, partition: Partition) -> Result<Option<Offset>, RunIndexError> {
        Ok(self.controller.view().progress(partition).map(|it| it.log_start))
    }

    async fn advance_log_start(
        &self,
        partition: Partition,
        log_start: Offset,
        producers: Option<KeptProducers>,
    ) -> Result<(), RunIndexError> {
        let producers = producers.map(kept_to_cluster);
        let advanced = self.controller.advance_log_start(partition, log_start, producers).await;
        // A partition that is gone has no log start to move: that is as good as done.
        advanced.map_err(unanswered)?.or(Ok(()))
    }

    async fn garbage(&self, count_max: usize) -> Result<Vec<GarbageSegment>, RunIndexError> {
        let now = self.controller.time();
        let garbage = self.controller.view().garbage(count_max).into_iter();
        let mut garbage: Vec<GarbageSegment> = garbage
            .filter_map(|(segment, it)| {
                // What was stamped by a clock that was ahead has no age yet.
                let age_ms = u64::try_from(now.0 - it.garbage_since?.0).unwrap_or(0);
                Some(GarbageSegment { segment, age: Duration::from_millis(age_ms) })
            })
            .collect();
        garbage.sort_by_key(|it| Reverse(it.age));
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

#[async_trait]
impl WalLedger for ClusterRunIndex {
    async fn logs(&self) -> Result<Vec<WalRecord>, RunIndexError> {
        let record = |it: cluster::WalLog| WalRecord {
            id: WalId { broker: it.broker, epoch: it.epoch },
            kind: match it.kind {
                cluster::WalKind::File => WalKind::File,
                cluster::WalKind::Bucket => WalKind::Bucket,
            },
            trimmed: it.trimmed,
            fence: it.fence,
        };
        Ok(self.controller.view().wal_logs().into_iter().map(record).collect())
    }

    async fn trimmed(&self, id: WalId, before: u64) -> Result<(), RunIndexError> {
        let log = Registration { broker: id.broker, epoch: id.epoch };
        match self.controller.trim_log(self.registration, log, before).await {
            // Somebody has ended it: its writer has nothing to say any more.
            Ok(Err(WalError::EndsElsewhere { .. })) => Err(RunIndexError::Fenced),
            decided => changed(decided),
        }
    }

    async fn closed(&self, id: WalId, fence: u64) -> Result<(), RunIndexError> {
        let log = Registration { broker: id.broker, epoch: id.epoch };
        changed(self.controller.close_log(self.registration, log, fence).await)
    }
}

fn refusals(
    decided: Result<Result<Vec<RefusedRun>, CommitRefusal>, SubmitError>,
) -> Result<Vec<RunRefusal>, RunIndexError> {
    let refused = decided.map_err(unanswered)?.map_err(|refusal| match refusal {
        CommitRefusal::StaleBroker { .. } => {
            tracing::error!(%refusal, "this process is fenced: it must not commit any more");
            RunIndexError::Fenced
        }
        CommitRefusal::SegmentReused(_) | CommitRefusal::TooLarge { .. } => {
            RunIndexError::Unavailable { reason: refusal.to_string() }
        }
    })?;
    let refusal = |it: RefusedRun| RunRefusal {
        partition: it.partition,
        base: it.base,
        reason: reason(it.refusal),
    };
    Ok(refused.into_iter().map(refusal).collect())
}

fn changed(decided: Result<Result<(), WalError>, SubmitError>) -> Result<(), RunIndexError> {
    decided.map_err(unanswered)?.map_err(|refusal| match refusal {
        WalError::StaleBroker { .. } | WalError::UnknownLog => {
            tracing::error!(%refusal, "this process is fenced: it must not change logs any more");
            RunIndexError::Fenced
        }
        WalError::EndsElsewhere { .. } => {
            tracing::error!(%refusal, "two walkers found different ends of one log");
            RunIndexError::Unavailable { reason: refusal.to_string() }
        }
    })
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
        cluster::RunRefusal::Changed => RefusalReason::Changed,
    }
}

fn kept_to_cluster(kept: KeptProducers) -> cluster::KeptProducers {
    let KeptProducers { partition, as_of, snapshot } = kept;
    cluster::KeptProducers { partition, as_of, snapshot }
}

fn of_segment(commit: &RunCommit) -> RunsOfSegment {
    RunsOfSegment {
        segment: commit.segment,
        segment_bytes: commit.segment_bytes,
        created: commit.created,
        runs: commit.runs.iter().map(to_cluster).collect(),
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
