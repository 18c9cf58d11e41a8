//! A partition's side of a flush: what is to be written, and what changes once it is committed.
//!
//! Owns: the snapshot of producers as of the committed end, moving that end.
//! Does not own: segments, the bucket, the order of partitions (`flush`).

use super::producers::{ProducedBatch, ProducerTable};
use super::tail::{TailEntry, cost};
use super::{AppendError, PartitionLog, Seal, TailCosts};
use crate::read::ReadError;
use crate::run_index::{KeptProducers, RunIndexError};
use bytes::Bytes;
use std::sync::Arc;
use vocabulary::{LeaderEpoch, Offset, Timestamp};

/// Base snapshots up to this size stay in memory between flushes; larger ones are read again from the
/// last run's index, which is the price of having many producers.
const BASE_BYTES_KEPT_MAX: usize = 1024;

/// Looks for kept producers and, if there are none, a last run. The second look finds what was deleted
/// during the first one; a third is for a commit during the second.
const BASE_LOOKS_MAX: u32 = 3;

/// The durable batches of one partition that one data segment takes.
#[derive(Debug)]
pub(crate) struct FlushPart {
    pub(crate) log: Arc<PartitionLog>,
    pub(crate) base: Offset,
    /// Exclusive.
    pub(crate) end: Offset,
    /// Of the batches.
    pub(crate) bytes: u64,
    /// In offset order, never empty.
    pub(crate) entries: Vec<TailEntry>,
}

/// Why the producers as of the committed end are not known.
#[derive(Debug)]
pub(crate) enum BaseError {
    Removed,
    /// Try again later; what failed is for the log.
    Failed(String),
}

impl From<RunIndexError> for BaseError {
    fn from(error: RunIndexError) -> BaseError {
        BaseError::Failed(error.to_string())
    }
}

impl FlushPart {
    /// The producers as of the part's end, given those as of its base (P2).
    pub(crate) fn producers_at_end(
        &self,
        mut table: ProducerTable,
        now: Timestamp,
        expiration_ms: i64,
    ) -> Bytes {
        for batch in self.entries.iter().filter_map(|it| ProducedBatch::of(&it.batch)) {
            table.replay(&batch, now);
        }
        table.expire(now, expiration_ms);
        table.encode()
    }

    /// What the part weighs in the budgets of the unflushed: cost and batches.
    pub(crate) fn weight(&self) -> (u64, u64) {
        let cost = self.entries.iter().map(|it| cost(it.batch.length)).sum();
        (cost, self.entries.len() as u64)
    }
}

impl PartitionLog {
    /// The next durable batches to flush: up to `bytes_max` and `batches_max`, at least one, and
    /// nothing at or above `up_to`. `None` when there are none.
    pub(crate) fn unflushed(
        &self,
        up_to: Offset,
        bytes_max: u64,
        batches_max: usize,
    ) -> Option<FlushPart> {
        let log = self.weak().upgrade()?;
        if Seal::Fenced <= self.seal() {
            return None;
        }
        let state = self.state();
        let mut entries = state.tail.as_ref()?.unflushed(bytes_max, batches_max);
        entries.truncate(entries.partition_point(|it| it.batch.end_offset() <= up_to));
        let (first, last) = (entries.first()?, entries.last()?);
        let (base, end) = (first.batch.base_offset, last.batch.end_offset());
        assert_eq!(base, state.committed_end, "A3: a flush starts at the committed end");
        let bytes = entries.iter().map(|it| u64::from(it.batch.length)).sum();
        Some(FlushPart { log, base, end, bytes, entries })
    }

    /// The metadata has the run `[base, end)` of `bytes`: it is served from there from now on. Without
    /// `producers`, their state as of `end` is read from the run when it is needed. False if the
    /// partition was removed meanwhile, and its tail with it.
    pub(crate) fn committed(
        &self,
        base: Offset,
        end: Offset,
        bytes: u64,
        producers: Option<Bytes>,
    ) -> bool {
        let mut state = self.state();
        let state = &mut *state;
        assert_eq!(state.committed_end, base, "A3: runs are committed in offset order");
        assert!(end <= state.high_watermark, "A2: only durable batches are committed");
        state.committed_end = end;
        state.may_have_leftovers |= base < state.log_start;
        // Where nobody was and no table is, nobody has come: the last stable offset stays known.
        let is_nobody = state.producers.is_none() && state.is_without_producers();
        let unread = is_nobody.then(Bytes::new);
        state.base_producers = producers.or(unread).filter(|it| it.len() <= BASE_BYTES_KEPT_MAX);
        state.committed_bytes += if end <= state.log_start { 0 } else { bytes };
        let Some(tail) = state.tail.as_mut() else { return false };
        tail.commit(end);
        if tail.is_flushed() {
            self.shared.mark_clean(self.partition());
        }
        if tail.is_empty() {
            state.tail = None;
        }
        true
    }

    /// The run that ends at `end` has become smaller: memory must not show what it was.
    pub(crate) fn compacted(&self, end: Offset) {
        let mut state = self.state();
        let Some(tail) = state.tail.as_mut() else { return };
        tail.let_go_below(end);
        if tail.is_empty() {
            state.tail = None;
        }
    }

    /// The WAL segment that holds the first durable batch no run covers; `None` if there is none.
    pub(crate) fn needed_sequence(&self) -> Option<u64> {
        self.state().tail.as_ref().and_then(|tail| tail.needed_sequence())
    }

    /// What the durable batches of exactly `[base, end)` weigh in the budgets of the unflushed: cost
    /// and count. `None` unless they are the next to flush, `end` is where a batch ends, and all were
    /// written under `epoch`, if there is one.
    pub(crate) fn weight_between(
        &self,
        base: Offset,
        end: Offset,
        epoch: Option<LeaderEpoch>,
    ) -> Option<(u64, u64)> {
        let state = self.state();
        if state.committed_end != base || state.high_watermark < end {
            return None;
        }
        let (mut weight, mut count, mut reached) = (0, 0, base);
        for entry in state.tail.as_ref()?.uncommitted() {
            if end <= reached {
                break;
            }
            if epoch.is_some_and(|it| it != entry.leader_epoch) {
                return None;
            }
            reached = entry.batch.end_offset();
            weight += cost(entry.batch.length);
            count += 1;
        }
        (reached == end).then_some((weight, count))
    }

    /// Stops the partition: appends are refused from now on, those not yet acknowledged never will be.
    /// Its tail stays in the WAL for whoever sorts it out, and out of the budgets.
    pub(crate) fn seal_and_fail(&self, seal: Seal) {
        self.set_seal(seal);
        let (high_watermark, costs) = {
            let mut state = self.state();
            let costs = state.tail.as_ref().map_or(TailCosts::default(), |tail| tail.costs());
            let first_time = !std::mem::replace(&mut state.is_off_budget, true);
            (state.high_watermark, first_time.then_some(costs))
        };
        if let Some(costs) = costs {
            self.shared.flushed(costs.unflushed, costs.unflushed_batches);
        }
        self.waits().fail_above(high_watermark, &AppendError::Unknown);
    }

    /// Lets memory go of the durable batch at `base`. True if it held its bytes.
    pub(crate) fn demote(&self, base: Offset) -> bool {
        let mut state = self.state();
        let Some(tail) = state.tail.as_mut() else { return false };
        let had = tail.demote(base);
        if tail.is_empty() {
            state.tail = None;
        }
        had
    }

    /// Forgets idle producers (producer.id.expiration.ms).
    pub(crate) fn expire_producers(&self, now: Timestamp) {
        let expiration_ms = self.shared.options.producer_expiration_ms;
        if let Some(table) = self.state().producers.as_mut() {
            table.expire(now, expiration_ms);
        }
    }

    /// The producers as of the last committed run, and that run's end: the committed end, or beyond
    /// it while a commit is under way.
    pub(crate) async fn base_producers(&self) -> Result<(Offset, ProducerTable), BaseError> {
        if self.seal() == Seal::Removed {
            return Err(BaseError::Removed);
        }
        let (as_of, bytes) = self.base_snapshot().await?;
        let table =
            ProducerTable::decode(&bytes).map_err(|it| BaseError::Failed(it.to_string()))?;
        Ok((as_of, table))
    }

    /// As [`PartitionLog::base_producers`], as it is stored.
    async fn base_snapshot(&self) -> Result<(Offset, Bytes), BaseError> {
        let (committed_end, known) = {
            let state = self.state();
            (state.committed_end, state.base_producers.clone())
        };
        match known {
            Some(bytes) => Ok((committed_end, bytes)),
            None => self.load_base(committed_end).await,
        }
    }

    /// What the metadata is to keep when the log start moves to `log_start`: the producers as of the
    /// committed end, if no record below it is left. `None` if they cannot be told now: the last run
    /// stays then, with them in it (A5).
    pub(crate) async fn producers_to_keep(&self, log_start: Offset) -> Option<KeptProducers> {
        let committed_end = self.offsets().committed_end;
        if log_start < committed_end || committed_end == Offset::ZERO {
            return None;
        }
        let partition = self.partition();
        match self.base_snapshot().await {
            Ok((as_of, snapshot)) => Some(KeptProducers { partition, as_of, snapshot }),
            Err(BaseError::Removed) => None,
            Err(BaseError::Failed(reason)) => {
                tracing::debug!(%partition, reason, "the last run stays for its producers");
                None
            }
        }
    }

    async fn load_base(&self, committed_end: Offset) -> Result<(Offset, Bytes), BaseError> {
        // The metadata keeps them while no data run has them: the last run was adopted from a dead
        // broker's log, or all runs were deleted. That may happen between the two questions.
        let mut last = None;
        for _ in 0..BASE_LOOKS_MAX {
            if let Some(kept) = self.shared.runs.kept_producers(self.partition()).await? {
                self.remember_base(kept.as_of, &kept.snapshot);
                return Ok((kept.as_of, kept.snapshot));
            }
            last = self.shared.runs.last_run(self.partition()).await?;
            if last.is_some() {
                break;
            }
        }
        let Some(run) = last else {
            // Deleted before producers were kept: they read as unknown (P3).
            return Ok((committed_end, Bytes::new()));
        };
        if run.end < committed_end {
            let end = run.end;
            return Err(BaseError::Failed(format!(
                "A3: the last run ends at {end}, the committed end is {committed_end}"
            )));
        }
        let entry = match self.shared.reader.run_entry(&run).await {
            Ok(entry) => entry,
            Err(ReadError::Corrupt { object, reason, .. }) => {
                return Err(BaseError::Failed(format!("{object} is corrupt: {reason}")));
            }
            Err(error) => return Err(BaseError::Failed(error.to_string())),
        };
        let bytes = entry.producers.clone().unwrap_or_default();
        self.remember_base(run.end, &bytes);
        Ok((run.end, bytes))
    }

    fn remember_base(&self, as_of: Offset, snapshot: &Bytes) {
        let mut state = self.state();
        if state.committed_end == as_of && snapshot.len() <= BASE_BYTES_KEPT_MAX {
            state.base_producers = Some(snapshot.clone());
        }
    }
}
