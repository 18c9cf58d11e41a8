//! Which records end: by age and size (KIP-71's delete policy), and by request (KIP-107).
//!
//! Owns: the decision, moving the log start in metadata and then in memory.
//! Does not own: the objects that become garbage (`collection`), Kafka's key compaction.
//!
//! Retention works on whole committed runs; what is still in the tail gets there by the flush's age.
//! A run whose records all have no time (-1) has no age of its own: it goes by age with the next run behind it that
//! has one. Kafka takes the time at which its segment's file was last written, which no run has.
//! The metadata moves first: a log start that was told to a client never moves back.

use crate::engine::Shared;
use crate::log::{DeleteRecordsError, LogOffsets, LogSettings, PartitionLog, Seal};
use crate::read::ReadError;
use crate::run_index::RunDescription;
use std::sync::Arc;
use std::time::Duration;
use vocabulary::{Offset, Timestamp};

/// The first look comes this early, as in Kafka, so that sizes are known soon after a start.
const FIRST_CHECK_MAX: Duration = Duration::from_secs(30);

/// Run descriptions looked at per question to the metadata.
const PAGE_RUNS: usize = 256;

/// Questions that one look asks while no run goes and none stays: other partitions wait. The next look goes on there.
const UNDECIDED_PAGES_MAX: usize = 64;

/// The retention loop, until it is dropped.
pub(crate) async fn run(shared: Arc<Shared>) {
    let interval = shared.options.retention_check_interval;
    let mut wait = interval.min(FIRST_CHECK_MAX);
    loop {
        shared.environment.clock.sleep(shared.jittered(wait)).await;
        wait = interval;
        for log in shared.logs() {
            log.expire_producers(shared.environment.clock.wall());
            if let Err(error) = log.retain().await {
                tracing::warn!(partition = %log.partition(), %error, "retention skipped for now");
            }
        }
    }
}

/// What retention still has to free of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Demand {
    /// Runs whose newest record is older go.
    older_than: Option<Timestamp>,
    /// Bytes beyond retention.bytes.
    excess: u64,
}

impl Demand {
    fn of(settings: &LogSettings, size: u64, now: Timestamp) -> Demand {
        let older_than = settings.retention_ms.map(|it| Timestamp(now.0.saturating_sub(it)));
        let excess = settings.retention_bytes.map_or(0, |max| size.saturating_sub(max));
        Demand { older_than, excess }
    }
}

/// What to do about a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It goes, and so does every run before it.
    Goes,
    /// It has no time: the next run that has one decides.
    Undecided,
    /// It stays, and so does every run behind it.
    Stays,
}

/// Goes through the runs of a partition, from the log start on.
#[derive(Debug)]
struct Judge {
    demand: Demand,
    /// Bytes of the runs before that are undecided.
    undecided: u64,
    is_undecided: bool,
}

impl Judge {
    fn new(demand: Demand) -> Judge {
        Judge { demand, undecided: 0, is_undecided: false }
    }

    /// Steps over runs that have no time, and leaves what goes by size to the next look: nobody has counted them.
    fn step_over(&mut self) {
        self.demand.excess = 0;
    }

    /// A run larger than the excess stays: retention.bytes is a floor.
    fn judge(&mut self, run: &RunDescription) -> Verdict {
        let has_time = run.max_timestamp != Timestamp::NONE;
        let demand = &mut self.demand;
        let is_old = has_time && demand.older_than.is_some_and(|it| run.max_timestamp < it);
        // Size takes from the start, and does not step over a run.
        let is_excess = !self.is_undecided && 0 < run.length && run.length <= demand.excess;
        if is_old || is_excess {
            demand.excess = demand.excess.saturating_sub(run.length.saturating_add(self.undecided));
            (self.undecided, self.is_undecided) = (0, false);
            return Verdict::Goes;
        }
        if has_time || demand.older_than.is_none() {
            return Verdict::Stays;
        }
        self.undecided = self.undecided.saturating_add(run.length);
        self.is_undecided = true;
        Verdict::Undecided
    }
}

/// The metadata was asked to move the log start. Unless it says that it has, nobody knows, be it for an error, be it
/// because whoever asked is not there any more: a request ends with its connection. It may happen later, too, so the
/// doubt lasts until the log start is there; that costs retention's looks a question to what is in memory.
struct StartInDoubt<'a> {
    log: &'a PartitionLog,
    asked: Offset,
    is_over: bool,
}

impl Drop for StartInDoubt<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            let mut state = self.log.state();
            state.start_in_doubt = state.start_in_doubt.max(Some(self.asked));
            state.counts_due += 1;
        }
    }
}

impl PartitionLog {
    /// Deletes every record below `offset` (KIP-107); `Offset(-1)` means up to the high watermark.
    /// Returns the log start, which may have been higher before.
    pub async fn delete_before(&self, offset: Offset) -> Result<Offset, DeleteRecordsError> {
        match self.seal() {
            Seal::Removed => return Err(DeleteRecordsError::Removed),
            Seal::Damaged => return Err(DeleteRecordsError::Unavailable),
            Seal::Open | Seal::Stopping | Seal::Fenced => (),
        }
        let offsets = self.offsets();
        let high_watermark = offsets.high_watermark;
        let target = if offset == Offset(-1) { high_watermark } else { offset };
        if target < Offset::ZERO || high_watermark < target {
            return Err(DeleteRecordsError::OffsetOutOfRange { asked: target, high_watermark });
        }
        if target <= offsets.log_start {
            return Ok(offsets.log_start);
        }
        self.advance(target).await.map_err(|error| {
            tracing::warn!(partition = %self.partition(), %error, "records not deleted");
            DeleteRecordsError::Unavailable
        })?;
        Ok(self.offsets().log_start)
    }

    /// One look of the retention loop.
    async fn retain(&self) -> Result<(), ReadError> {
        if Seal::Fenced <= self.seal() {
            return Ok(());
        }
        if self.state().start_in_doubt.is_some() {
            self.learn_log_start().await?;
        }
        self.count_committed().await?;
        self.drop_leftovers().await?;
        let settings = self.settings();
        let offsets = self.offsets();
        if !settings.cleanup.delete || offsets.committed_end <= offsets.log_start {
            return Ok(());
        }
        let now = self.shared.environment.clock.wall();
        let mut judge = Judge::new(Demand::of(&settings, self.size_bytes(), now));
        let (mut start, mut next) = (offsets.log_start, offsets.log_start);
        let (mut deleted, mut seen) = (0, 0);
        let mut timeless_end = self.state().timeless_end;
        let mut undecided_pages = 0;
        'pages: while undecided_pages < UNDECIDED_PAGES_MAX {
            undecided_pages += 1;
            let runs = self.shared.reader.runs_from(self.partition(), next, PAGE_RUNS).await?;
            if runs.is_empty() {
                break;
            }
            for run in runs {
                (next, seen) = (run.end, seen + 1);
                match judge.judge(&run) {
                    Verdict::Goes => (start, deleted, undecided_pages) = (next, seen, 0),
                    Verdict::Undecided if next < timeless_end => {
                        judge.step_over();
                        next = timeless_end;
                        continue 'pages;
                    }
                    Verdict::Undecided => timeless_end = next,
                    Verdict::Stays => break 'pages,
                }
            }
        }
        // A commit under way may be known to the metadata before it is known here.
        let start = start.min(self.offsets().committed_end);
        if offsets.log_start < start {
            self.advance(start).await?;
            self.shared.metrics.runs_expired.inc_by(deleted);
            tracing::info!(partition = %self.partition(), %start, deleted, "old runs are deleted");
        }
        self.state().timeless_end = timeless_end; // Not before what lies in between is gone.
        Ok(())
    }

    /// Moves the log start in the metadata and then here.
    async fn advance(&self, log_start: Offset) -> Result<(), ReadError> {
        let advanced = self.advance_in_metadata(log_start).await;
        // Also without an answer: some runs may be gone.
        self.state().counts_due += 1;
        advanced?;
        self.log_start_moved(log_start);
        self.count_committed().await
    }

    /// Moves the log start in the metadata, together with the producers of what goes (A5).
    async fn advance_in_metadata(&self, log_start: Offset) -> Result<(), ReadError> {
        let producers = self.producers_to_keep(log_start).await;
        {
            // A commit on its way makes these producers those of another time: its run stays.
            let mut state = self.state();
            state.may_have_leftovers |= state.committed_end <= log_start;
        }
        let runs = &self.shared.runs;
        let mut doubt = StartInDoubt { log: self, asked: log_start, is_over: false };
        let advanced = runs.advance_log_start(self.partition(), log_start, producers).await;
        doubt.is_over = advanced.is_ok();
        advanced.map_err(|error| {
            tracing::debug!(partition = %self.partition(), %error, "log start not moved");
            ReadError::Unavailable
        })
    }

    /// Takes over the metadata's log start if it is higher: it was moved, and the answer was lost.
    pub(crate) async fn learn_log_start(&self) -> Result<(), ReadError> {
        let partition = self.partition();
        let asked = self.shared.runs.log_start(partition).await;
        let moved_to = asked.map_err(|error| {
            tracing::debug!(%partition, %error, "log start not known");
            ReadError::Unavailable
        })?;
        {
            let mut state = self.state();
            state.start_in_doubt = state.start_in_doubt.filter(|it| moved_to < Some(*it));
        }
        // Beyond what is durable here it is another leader's doing, and this one's end.
        let LogOffsets { log_start: before, high_watermark, .. } = self.offsets();
        if let Some(log_start) = moved_to.filter(|it| before < *it && *it <= high_watermark) {
            tracing::info!(%partition, %log_start, "an unanswered deletion is found done");
            self.log_start_moved(log_start);
            self.recount().await;
        }
        Ok(())
    }

    /// Drops runs that stayed below the log start: the last one whose producers could not be kept, or
    /// one that was committed there since.
    async fn drop_leftovers(&self) -> Result<(), ReadError> {
        // Before looking: what is committed meanwhile calls for another look.
        if !std::mem::take(&mut self.state().may_have_leftovers) {
            return Ok(());
        }
        let dropped = async {
            let log_start = self.offsets().log_start;
            let first = self.shared.runs.runs_from(self.partition(), Offset::ZERO, 1).await;
            let first = first.map_err(|_| ReadError::Unavailable)?;
            match first.first() {
                Some(run) if run.end <= log_start => self.advance_in_metadata(log_start).await,
                Some(_) | None => Ok(()),
            }
        };
        let dropped = dropped.await;
        self.state().may_have_leftovers |= dropped.is_err();
        dropped
    }

    /// Adds up the committed runs anew: some have become smaller, or are gone.
    pub(crate) async fn recount(&self) {
        self.state().counts_due += 1;
        if let Err(error) = self.count_committed().await {
            tracing::debug!(partition = %self.partition(), %error, "counted by retention, later");
        }
    }

    /// Adds up the committed runs, if that is due.
    async fn count_committed(&self) -> Result<(), ReadError> {
        loop {
            let (due, mut next, committed_end) = {
                let state = self.state();
                if state.counts_done == state.counts_due {
                    return Ok(());
                }
                (state.counts_due, state.log_start, state.committed_end)
            };
            let mut bytes = 0;
            while next < committed_end {
                let runs = self.shared.reader.runs_from(self.partition(), next, PAGE_RUNS).await?;
                let Some(last) = runs.last() else { break };
                next = last.end;
                let counted = runs.iter().take_while(|run| run.end <= committed_end);
                bytes += counted.map(|run| run.length).sum::<u64>();
            }
            let mut state = self.state();
            // What a flush in between has added is not in here: count again.
            if state.committed_end == committed_end {
                (state.committed_bytes, state.counts_done) = (bytes, due);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vocabulary::{LeaderEpoch, Partition, SegmentName};

    fn run(length: u64, max_timestamp: i64) -> RunDescription {
        RunDescription {
            partition: Partition::default(),
            leader_epoch: LeaderEpoch(0),
            base: Offset(0),
            end: Offset(1),
            max_timestamp: Timestamp(max_timestamp),
            segment: SegmentName::data(1),
            position: 0,
            length,
            crc: 0,
        }
    }

    fn judge(retention_ms: Option<i64>, retention_bytes: Option<u64>, size: u64) -> Judge {
        let settings = LogSettings { retention_ms, retention_bytes, ..LogSettings::default() };
        Judge::new(Demand::of(&settings, size, Timestamp(10_000)))
    }

    #[test]
    fn runs_go_when_their_newest_record_is_too_old() {
        let mut judge = judge(Some(1000), None, 0);
        assert_eq!(judge.judge(&run(10, 8_999)), Verdict::Goes);
        assert_eq!(judge.judge(&run(10, 9_000)), Verdict::Stays);
        assert_eq!(
            judge.judge(&run(10, 99_000)),
            Verdict::Stays,
            "a time in the future is not old"
        );
    }

    #[test]
    fn a_run_without_times_goes_with_the_next_that_has_one() {
        let mut judge = judge(Some(1000), Some(50), 100);
        assert_eq!(judge.judge(&run(60, -1)), Verdict::Undecided);
        assert_eq!(judge.judge(&run(10, -1)), Verdict::Undecided, "size steps over no run");
        assert_eq!(judge.judge(&run(10, 8_999)), Verdict::Goes);
        assert_eq!(judge.judge(&run(10, -1)), Verdict::Undecided, "no byte is in excess any more");
        assert_eq!(judge.judge(&run(10, 9_000)), Verdict::Stays);
    }

    #[test]
    fn runs_go_while_what_remains_is_enough() {
        let mut judge = judge(None, Some(100), 125);
        assert_eq!(judge.judge(&run(10, 0)), Verdict::Goes);
        assert_eq!(judge.judge(&run(10, -1)), Verdict::Goes);
        assert_eq!(
            judge.judge(&run(10, 0)),
            Verdict::Stays,
            "95 bytes would be fewer than asked for"
        );
    }

    #[test]
    fn without_limits_everything_stays() {
        assert_eq!(judge(None, None, u64::MAX).judge(&run(10, 0)), Verdict::Stays);
        assert_eq!(judge(None, None, u64::MAX).judge(&run(10, -1)), Verdict::Stays);
    }
}
