//! The controller's commands about runs and write-ahead logs.

use std::collections::BTreeMap;

use vocabulary::{Offset, Partition, SegmentName};

use super::{Controller, DROP_RUNS_MAX, SubmitError, either};
use crate::state::decide::{self, Advanced, Stored};
use crate::state::{
    AdoptRuns, CommitRefusal, CommitRuns, KeptProducers, LogStartError, RefusedRun, Registration,
    ReplaceRuns, Run, WalError,
};

/// How often runs are read again because others were replaced meanwhile. Beyond it the answer is
/// [`SubmitError::Unavailable`], and nothing is lost.
const READS_MAX: u32 = 8;

impl Controller {
    /// Commits what can be; the runs that cannot are listed with the reason.
    pub async fn commit_runs(
        &self,
        command: CommitRuns,
    ) -> Result<Result<Vec<RefusedRun>, CommitRefusal>, SubmitError> {
        let now = self.time();
        self.submit(move |state| either(decide::commit_runs(state, &command, now))).await
    }

    /// Commits runs of a dead log where they lie, with the producers as of their end, all that is not
    /// refused in one step.
    pub async fn adopt_runs(
        &self,
        command: AdoptRuns,
    ) -> Result<Result<Vec<RefusedRun>, CommitRefusal>, SubmitError> {
        let now = self.time();
        self.submit(move |state| either(decide::adopt_runs(state, &command, now))).await
    }

    /// Puts merged runs in the place of those they were made of, if those are what is committed.
    pub async fn replace_runs(
        &self,
        command: ReplaceRuns,
    ) -> Result<Result<Vec<RefusedRun>, CommitRefusal>, SubmitError> {
        for _ in 0..READS_MAX {
            let stored = self.stored_for(&command).await?;
            let (command, now) = (command.clone(), self.time());
            let replaced = self
                .submit(move |state| either(decide::replace_runs(state, &command, &stored, now)));
            match replaced.await? {
                Ok(Some(refused)) => return Ok(Ok(refused)),
                Ok(None) => (),
                Err(refusal) => return Ok(Err(refusal)),
            }
        }
        Err(SubmitError::Unavailable("other runs are being replaced all the time".into()))
    }

    /// The stored runs where `command` replaces some.
    async fn stored_for(
        &self,
        command: &ReplaceRuns,
    ) -> Result<BTreeMap<Partition, Stored>, SubmitError> {
        let mut stored: BTreeMap<Partition, Stored> = BTreeMap::new();
        for merged in &command.merged.runs {
            let partition = merged.partition;
            // Before the first runs are read: what is replaced afterwards is noticed.
            let read = stored.entry(partition).or_insert_with(|| {
                let replacements = self.view.progress(partition).map_or(0, |it| it.replacements);
                Stored { runs: Vec::new(), replacements }
            });
            // One run more than it was made of is one too many.
            let count_max = command.replaced.len() + 1;
            let runs = self.store.runs_between(partition, merged.base, merged.end, count_max).await;
            read.runs.extend(runs.map_err(|error| self.unread(&error))?);
        }
        Ok(stored)
    }

    /// Moves a partition's log start, never back, and drops the runs wholly below it; the last run of
    /// the partition only if the producers as of its end are kept, from before or from here. Of very
    /// many runs, some at a time: the log start never lies above a run that is not being dropped with
    /// it, but that last one, so that whoever stops half-way leaves nothing behind.
    pub async fn advance_log_start(
        &self,
        partition: Partition,
        log_start: Offset,
        producers: Option<KeptProducers>,
    ) -> Result<Result<(), LogStartError>, SubmitError> {
        let mut reads = 0;
        while reads < READS_MAX {
            let progress = self.view.progress(partition).unwrap_or_default();
            let after = progress.runs_start;
            let runs = self.store.runs_between(partition, after, log_start, DROP_RUNS_MAX).await;
            let runs = runs.map_err(|error| self.unread(&error))?;
            let (step, is_last) = match runs.last() {
                Some(last) if runs.len() == DROP_RUNS_MAX => (last.end, false),
                _ => (log_start, true),
            };
            let stored = Stored { runs, replacements: progress.replacements };
            let (producers, now) = (producers.clone(), self.time());
            let advanced = self.submit(move |state| {
                let kept = producers.as_ref();
                either(decide::advance_log_start(state, partition, step, kept, &stored, now))
            });
            match advanced.await? {
                Err(refusal) => return Ok(Err(refusal)),
                // Runs committed meanwhile are found by another look.
                Ok(Advanced::Dropped(0)) if is_last => return Ok(Ok(())),
                Ok(Advanced::Dropped(_)) => reads = 0,
                Ok(Advanced::ReadAgain) => reads += 1,
            }
        }
        Err(SubmitError::Unavailable("other runs are being replaced all the time".into()))
    }

    /// Strikes segments whose objects have been deleted. Those with live runs stay (A6).
    pub async fn forget_segments(&self, segments: Vec<SegmentName>) -> Result<(), SubmitError> {
        self.submit(move |state| (decide::forget_segments(state, &segments), ())).await
    }

    /// Segments of `log` below `before` are not needed from now on.
    pub async fn trim_log(
        &self,
        by: Registration,
        log: Registration,
        before: u64,
    ) -> Result<Result<(), WalError>, SubmitError> {
        self.submit(move |state| either(decide::trim_log(state, by, log, before))).await
    }

    /// `log` ends before `fence` for ever, and what survived of it is committed.
    pub async fn close_log(
        &self,
        by: Registration,
        log: Registration,
        fence: u64,
    ) -> Result<Result<(), WalError>, SubmitError> {
        self.submit(move |state| either(decide::close_log(state, by, log, fence))).await
    }

    /// At most `count_max` runs: the one that contains `offset`, and those after it.
    pub async fn runs_from(
        &self,
        partition: Partition,
        offset: Offset,
        count_max: usize,
    ) -> Result<Vec<Run>, SubmitError> {
        self.store
            .runs_from(partition, offset, count_max)
            .await
            .map_err(|error| self.unread(&error))
    }

    pub async fn last_run(&self, partition: Partition) -> Result<Option<Run>, SubmitError> {
        self.store.last_run(partition).await.map_err(|error| self.unread(&error))
    }

    /// The producers kept for a partition, which are as of its committed end.
    pub async fn kept_producers(
        &self,
        partition: Partition,
    ) -> Result<Option<KeptProducers>, SubmitError> {
        self.store.kept_producers(partition).await.map_err(|error| self.unread(&error))
    }
}
