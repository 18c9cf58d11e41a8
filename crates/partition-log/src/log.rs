//! One partition as its leader sees it.
//!
//! Owns: offsets, leader epochs, producers, the tail, who waits for what.
//! Does not own: the WAL, the bucket, the metadata and the budgets (all in `engine`'s `Shared`),
//! committed bytes (`read`), when to flush (`flush`) and what to delete (`retention`).
//!
//! Locking: the state sits behind a std mutex because it is touched from three sides, appends, the
//! WAL's committer and fetches, each for a few steps; an owner task would cost a hand-over per batch.
//! It is never held across an await. Below it, in this order: the engine's dirty set, the
//! partition's waits. Two partitions' states are never locked together.
//!
//! Invariants, besides T1-T3 of the tail and P1-P3 of the producers:
//! - L1 committed end <= high watermark <= end, and log start <= high watermark (A2, A3);
//! - L2 the tail starts at or below the committed end and reaches to the end, without gaps;
//! - L3 a producer table, once loaded, is the one as of the end; the base snapshot, once loaded, is
//!   the one as of the committed end (A5);
//! - L4 log start <= last stable offset <= high watermark, and no open transaction starts below (A8).

use crate::engine::Shared;
use crate::segment::BatchEntry;
use crate::wal::WalPlace;
use bytes::Bytes;
use epochs::EpochHistory;
use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use tail::Tail;
use transactions::Undecided;
use vocabulary::{LeaderEpoch, Offset, Partition, Timestamp};
use wait::Waits;

mod append;
mod epochs;
mod flushing;
mod producers;
mod settings;
mod tail;
mod transactions;
mod wait;

pub use append::{Aftermath, AppendError, AppendRules, Appended};
pub use producers::{MarkerRule, OpenTransaction, ProducerSnapshot, ProducerState, SequenceRule};
pub use settings::{Cleanup, LogSettings};
pub use transactions::Verification;
pub use wait::{DurableWait, FetchWaiter, WatchGuard};

pub(crate) use flushing::{BaseError, FlushPart};
#[cfg(test)]
pub(crate) use producers::Verdict;
pub(crate) use producers::{ProducedBatch, ProducerTable};
pub(crate) use tail::{Piece, Stretch, TailCosts, TailEntry, cost};

/// What the metadata says of a partition when a broker starts to lead it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionStart {
    pub partition: Partition,
    pub leader_epoch: LeaderEpoch,
    pub log_start: Offset,
    pub committed_end: Offset,
    /// Bytes of all committed runs, those wholly below the log start included if there are any still.
    pub committed_bytes: u64,
    /// The start offset of each epoch that has committed data, ascending.
    pub epochs: Vec<(LeaderEpoch, Offset)>,
}

/// All taken at one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogOffsets {
    pub log_start: Offset,
    /// Data segments hold everything below.
    pub committed_end: Offset,
    /// Everything below is durable; nothing at or above is served (A2).
    pub high_watermark: Offset,
    /// Everything below is decided: the earliest open transaction, or one whose marker is not durable,
    /// starts here (A8); the high watermark without any. As long as the producers are not known it is
    /// the log start: [`PartitionLog::load_producers`] makes them known.
    pub last_stable: Offset,
    /// The offset the next record gets.
    pub end: Offset,
}

/// Up to where a reader may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadLimit {
    /// read_uncommitted
    HighWatermark,
    /// read_committed
    LastStable,
}

/// Why records were not deleted. Nothing was changed, except after `Unavailable`, when the log start
/// may or may not have moved; asking again is harmless.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeleteRecordsError {
    #[error("offset {asked} is above the high watermark {high_watermark}")]
    OffsetOutOfRange { asked: Offset, high_watermark: Offset },
    #[error("the partition is not served here any more")]
    Removed,
    #[error("the metadata did not answer")]
    Unavailable,
}

/// Why a partition takes no appends (and, for the last three, why some reads fail). Ordered: a later
/// reason replaces an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Seal {
    Open = 0,
    /// The engine is stopping, or its WAL is.
    Stopping = 1,
    /// An append is lost, or the metadata refused a run: another leader took over (A4).
    Fenced = 2,
    /// WAL and metadata contradict each other. An operator decides; see the error log.
    Damaged = 3,
    /// Not served here any more.
    Removed = 4,
}

/// One hosted partition. Cheap while idle: a few hundred bytes.
pub struct PartitionLog {
    partition: Partition,
    me: Weak<PartitionLog>,
    pub(crate) shared: Arc<Shared>,
    /// A [`Seal`]. Outside the state so that a lost append can set it from under the state's lock.
    seal: AtomicU8,
    state: Mutex<LogState>,
    waits: Mutex<Waits>,
    /// A leaf lock around a pointer.
    settings: Mutex<Arc<LogSettings>>,
}

#[derive(Debug)]
pub(crate) struct LogState {
    pub(crate) leader_epoch: LeaderEpoch,
    pub(crate) log_start: Offset,
    pub(crate) committed_end: Offset,
    pub(crate) high_watermark: Offset,
    pub(crate) end: Offset,
    /// Absent while there is nothing in it.
    pub(crate) tail: Option<Box<Tail>>,
    pub(crate) epochs: EpochHistory,
    /// As of `end`; absent until the first append that needs it.
    producers: Option<Box<ProducerTable>>,
    /// The encoded table as of `committed_end`; absent until needed, and while it would be large.
    base_producers: Option<Bytes>,
    /// Transactions that have ended above the high watermark.
    undecided: Undecided,
    /// Recovery found batches of producers.
    is_tail_produced: bool,
    /// Bytes of committed runs at or above the log start, as far as is known: after a change that does
    /// not tell how much it took they are counted anew.
    pub(crate) committed_bytes: u64,
    /// How often they were to be counted, and the latest of those that they were counted for.
    pub(crate) counts_due: u32,
    pub(crate) counts_done: u32,
    /// The metadata may still have runs wholly below the log start: retention looks.
    pub(crate) may_have_leftovers: bool,
    /// The metadata may have this log start, or come to it yet: it was to move it and did not answer.
    pub(crate) start_in_doubt: Option<Offset>,
    /// No run between the log start and here has a time, as far as retention has looked.
    pub(crate) timeless_end: Offset,
    /// The unflushed are not in the engine's budgets any more: nobody will flush them.
    is_off_budget: bool,
}

/// A run that recovery found in the WAL.
#[derive(Debug, Clone)]
pub(crate) struct RecoveredRun {
    pub(crate) sequence: u64,
    pub(crate) leader_epoch: LeaderEpoch,
    /// Of the run in its WAL segment.
    pub(crate) position: u64,
    pub(crate) batches: Vec<BatchEntry>,
}

impl PartitionLog {
    /// A partition as the metadata and the WAL together describe it. A contradiction between the
    /// two seals it as damaged.
    pub(crate) fn open(
        start: PartitionStart,
        recovered: Vec<RecoveredRun>,
        settings: Arc<LogSettings>,
        shared: Arc<Shared>,
    ) -> Arc<PartitionLog> {
        let partition = start.partition;
        let committed_end = start.committed_end;
        let mut state = LogState {
            leader_epoch: start.leader_epoch,
            log_start: start.log_start,
            committed_end,
            high_watermark: committed_end,
            end: committed_end,
            tail: None,
            epochs: EpochHistory::new(start.epochs),
            producers: None,
            base_producers: (committed_end == Offset::ZERO).then(Bytes::new),
            undecided: Undecided::default(),
            is_tail_produced: false,
            // What the metadata has below the log start is little, and seen by retention's first look.
            committed_bytes: if committed_end <= start.log_start {
                0
            } else {
                start.committed_bytes
            },
            counts_due: u32::from(Offset::ZERO < start.log_start),
            counts_done: 0,
            may_have_leftovers: Offset::ZERO < start.log_start,
            start_in_doubt: None,
            timeless_end: Offset::ZERO,
            is_off_budget: false,
        };
        let spliced = state.splice(recovered).and_then(|()| match state.end < start.log_start {
            true => {
                Err(format!("the log start {} is above the end {}", start.log_start, state.end))
            }
            false => Ok(()),
        });
        if spliced.is_ok() && state.base_producers.is_some() && state.is_tail_produced {
            let now = shared.environment.clock.wall();
            state.load_producers(Offset::ZERO, ProducerTable::default(), now);
        }
        let end = state.end;
        state.epochs.begin(start.leader_epoch, end);
        state.epochs.truncate_before(start.log_start);
        let seal = match &spliced {
            Ok(()) => Seal::Open,
            Err(reason) => {
                tracing::error!(%partition, reason, "A3: partition refused: WAL and metadata disagree");
                Seal::Damaged
            }
        };
        Arc::new_cyclic(|me| PartitionLog {
            partition,
            me: me.clone(),
            shared,
            seal: AtomicU8::new(seal as u8),
            state: Mutex::new(state),
            waits: Mutex::default(),
            settings: Mutex::new(settings),
        })
    }

    pub fn partition(&self) -> Partition {
        self.partition
    }

    pub fn offsets(&self) -> LogOffsets {
        self.state().offsets()
    }

    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.state().leader_epoch
    }

    /// The epoch whose leader wrote, or will write, `offset`.
    pub fn epoch_at(&self, offset: Offset) -> LeaderEpoch {
        let state = self.state();
        state.epochs.at(offset).unwrap_or(state.leader_epoch)
    }

    /// Kafka's OffsetForLeaderEpoch: the greatest epoch not above `epoch` and where it ended, for the
    /// current one the high watermark. `None` for an epoch that is still to come.
    pub fn end_of_epoch(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        let state = self.state();
        state.epochs.end_of(epoch, state.high_watermark)
    }

    pub fn settings(&self) -> Arc<LogSettings> {
        Arc::clone(&self.settings.lock().expect("no holder of this leaf lock panics"))
    }

    pub fn set_settings(&self, settings: Arc<LogSettings>) {
        *self.settings.lock().expect("no holder of this leaf lock panics") = settings;
    }

    /// Bytes from the log start on, committed and not: of whole runs and batches, the first of which may
    /// start below it.
    pub fn size_bytes(&self) -> u64 {
        let state = self.state();
        let from = state.log_start.max(state.committed_end);
        let tail = state.tail.as_ref().map_or(0, |tail| tail.bytes_between(from, state.end));
        state.committed_bytes + tail
    }

    /// Wakes `waiter` whenever the high watermark or the log start moves or the partition goes, for
    /// as long as the guard lives. Look at the partition after calling this, not before.
    pub fn watch(&self, waiter: &Arc<FetchWaiter>) -> WatchGuard {
        self.waits().watch(Arc::clone(waiter));
        WatchGuard { log: self.me.clone(), waiter: Arc::clone(waiter) }
    }

    /// How many bytes a read from `from` could get, for fetch.min.bytes, without any IO: exact in
    /// the tail; for what lies in the bucket, `enough` is assumed to be there.
    pub fn bytes_available(&self, from: Offset, limit: ReadLimit, enough: usize) -> usize {
        let state = self.state();
        let limit = state.offsets().limit(limit);
        if from < state.log_start || limit <= from {
            return 0;
        }
        match state.tail.as_ref() {
            Some(tail) if tail.base().is_some_and(|base| base <= from) => {
                usize::try_from(tail.bytes_between(from, limit)).unwrap_or(usize::MAX)
            }
            _ => enough,
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, LogState> {
        self.state.lock().expect("a panic under this lock is a broken invariant: stop, not limp")
    }

    pub(crate) fn waits(&self) -> MutexGuard<'_, Waits> {
        self.waits.lock().expect("no holder of this leaf lock panics: queue steps only")
    }

    pub(crate) fn weak(&self) -> Weak<PartitionLog> {
        self.me.clone()
    }

    pub(crate) fn seal(&self) -> Seal {
        match self.seal.load(Ordering::Acquire) {
            0 => Seal::Open,
            1 => Seal::Stopping,
            2 => Seal::Fenced,
            3 => Seal::Damaged,
            _ => Seal::Removed,
        }
    }

    pub(crate) fn set_seal(&self, seal: Seal) {
        self.seal.fetch_max(seal as u8, Ordering::AcqRel);
    }

    /// Ends the partition here: its waiters learn it, its tail is dropped. Returns what the tail
    /// weighed in the engine's budgets.
    pub(crate) fn retire(&self) -> TailCosts {
        self.set_seal(Seal::Removed);
        let costs = {
            let mut state = self.state();
            state.producers = None;
            let tail = state.tail.take();
            let mut costs = tail.map_or(TailCosts::default(), |tail| tail.costs());
            if state.is_off_budget {
                (costs.unflushed, costs.unflushed_batches) = (0, 0);
            }
            costs
        };
        self.waits().fail_above(Offset(-1), &AppendError::Removed);
        costs
    }

    /// What the tail weighs in the engine's budgets.
    pub(crate) fn costs(&self) -> TailCosts {
        self.state().tail.as_ref().map_or(TailCosts::default(), |tail| tail.costs())
    }

    /// Moves the log start up, in memory; the metadata knows already.
    pub(crate) fn log_start_moved(&self, log_start: Offset) {
        {
            let mut state = self.state();
            assert!(log_start <= state.high_watermark, "L1: only durable records are deleted");
            if log_start <= state.log_start {
                return;
            }
            state.log_start = log_start;
            state.epochs.truncate_before(log_start);
        }
        self.waits().wake();
    }

    /// A new leader epoch of the same leader: as when the broker registered again.
    pub(crate) fn begin_epoch(&self, epoch: LeaderEpoch) {
        let mut state = self.state();
        if state.leader_epoch < epoch {
            state.leader_epoch = epoch;
            let end = state.end;
            state.epochs.begin(epoch, end);
        }
    }
}

#[cfg(test)]
impl PartitionLog {
    /// What the partition holds outside of itself, as far as it is its own.
    pub(crate) fn heap_bytes(&self) -> usize {
        let state = self.state();
        let tail = state.tail.as_ref().map_or(0, |it| size_of_val(&**it) + it.heap_bytes());
        let producers =
            state.producers.as_ref().map_or(0, |it| size_of_val(&**it) + it.heap_bytes());
        let base = state.base_producers.as_ref().map_or(0, Bytes::len);
        tail + producers + base + state.epochs.heap_bytes() + self.waits().heap_bytes()
    }
}

impl LogOffsets {
    pub(crate) fn limit(&self, limit: ReadLimit) -> Offset {
        match limit {
            ReadLimit::HighWatermark => self.high_watermark,
            ReadLimit::LastStable => self.last_stable,
        }
    }
}

impl LogState {
    pub(crate) fn offsets(&self) -> LogOffsets {
        LogOffsets {
            log_start: self.log_start,
            committed_end: self.committed_end,
            high_watermark: self.high_watermark,
            last_stable: self.last_stable(),
            end: self.end,
        }
    }

    /// Appends what the WAL holds beyond the committed end. An error says what contradicts A3.
    fn splice(&mut self, recovered: Vec<RecoveredRun>) -> Result<(), String> {
        for run in recovered {
            for batch in run.batches {
                if batch.end_offset() <= self.end && batch.end_offset() <= self.committed_end {
                    continue; // Flushed and committed before the WAL was trimmed.
                }
                if batch.base_offset != self.end {
                    let sequence = run.sequence;
                    let (base, end) = (batch.base_offset, self.end);
                    return Err(format!(
                        "WAL segment {sequence} has a batch at {base} where {end} is expected"
                    ));
                }
                self.epochs.begin(run.leader_epoch, self.end);
                let place = WalPlace {
                    sequence: run.sequence,
                    position: run.position + batch.position,
                    length: batch.length,
                };
                self.end = batch.end_offset();
                self.is_tail_produced |= 0 <= batch.producer_id;
                let tail = self.tail.get_or_insert_default();
                tail.push_recovered(batch, run.leader_epoch, place);
            }
        }
        self.high_watermark = self.end;
        Ok(())
    }

    /// The producer table as of `end`, from one as of `as_of` and the batches behind it (P2).
    fn load_producers(&mut self, as_of: Offset, base: ProducerTable, now: Timestamp) {
        let mut table = base;
        let uncommitted = self.tail.iter().flat_map(|tail| tail.uncommitted());
        for entry in uncommitted.filter(|it| as_of <= it.batch.base_offset) {
            if let Some(batch) = ProducedBatch::of(&entry.batch) {
                table.replay(&batch, now);
            }
        }
        self.producers = Some(Box::new(table));
    }
}

impl fmt::Debug for PartitionLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("PartitionLog");
        shown.field("partition", &format_args!("{}", self.partition)).field("seal", &self.seal());
        shown.field("offsets", &self.offsets()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
