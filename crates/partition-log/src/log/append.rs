//! Appending: offsets are given under the partition's lock, acknowledged when the WAL is durable.
//!
//! Owns: the order of the checks, what an append leaves behind, what durable and lost mean here.
//! Does not own: validation of the batch (`protocol::records`), grouping and writing (`wal`).
//!
//! The batch's bytes are patched in place and then shared: with the WAL, the tail and readers. They
//! are never copied.

use super::producers::{ProducedBatch, SeenBatch, SequenceRule, Verdict};
use super::{BaseError, DurableWait, LogState, PartitionLog, Seal, Verification, cost};
use crate::segment::{BatchEntry, MarkerEntry};
use crate::wal::{Append, CommitListener, Reservation, WalPlace};
use protocol::records::{Batch, BatchHeader, TimestampType};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use vocabulary::{LeaderEpoch, Offset, Timestamp};

/// An append whose offsets are fixed. It may be served and acknowledged once `durable` says so.
#[derive(Debug)]
pub struct Appended {
    pub base_offset: Offset,
    /// Exclusive.
    pub end_offset: Offset,
    /// [`Timestamp::NONE`] unless the topic stamps batches (message.timestamp.type=LogAppendTime).
    pub log_append_time: Timestamp,
    /// Resolves when everything up to `end_offset` is durable (A1).
    pub durable: DurableWait,
    /// The producer had sent the batch before; the offsets are those of the first time (A5).
    pub duplicate: bool,
}

/// A variant exists only if some caller acts differently on it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// A batch is missing before this one; the producer decides.
    #[error("sequence {sequence} where {expected} is expected")]
    OutOfOrderSequence { expected: i32, sequence: i32 },
    /// A newer incarnation of the producer has written.
    #[error("producer epoch {epoch} is older than {current}")]
    StaleProducerEpoch { epoch: i16, current: i16 },
    /// The batch does not fit its producer's transaction here: it is not part of one that is open, or
    /// of one that has ended since it was verified.
    #[error("not in this state of the transaction: {reason}")]
    InvalidTxnState { reason: &'static str },
    /// A later coordinator has ended a transaction of the producer here.
    #[error("coordinator epoch {epoch} is older than {current}")]
    StaleCoordinatorEpoch { epoch: i32, current: i32 },
    /// The caller believes in another leader epoch.
    #[error("leader epoch {expected} is not the current one, {current}")]
    WrongLeaderEpoch { expected: LeaderEpoch, current: LeaderEpoch },
    /// The partition is not served here any more.
    #[error("the partition is not served here any more")]
    Removed,
    /// This broker stops, or was fenced: another one will lead.
    #[error("the partition's leader is stopping")]
    Stopping,
    /// Storage has trouble; the producer retries.
    #[error("the partition's storage is unavailable")]
    Unavailable,
    /// The batch may be in the log for ever, or not at all.
    #[error("the outcome of the append is unknown")]
    Unknown,
}

/// The state of the world after the error: the one thing a caller must never guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aftermath {
    NotWritten,
    MaybeWritten,
}

impl AppendError {
    /// `Removed` from [`Appended::durable`] comes after the batch was submitted, hence "maybe".
    pub fn aftermath(&self) -> Aftermath {
        match self {
            AppendError::OutOfOrderSequence { .. }
            | AppendError::StaleProducerEpoch { .. }
            | AppendError::InvalidTxnState { .. }
            | AppendError::StaleCoordinatorEpoch { .. }
            | AppendError::WrongLeaderEpoch { .. }
            | AppendError::Stopping
            | AppendError::Unavailable => Aftermath::NotWritten,
            AppendError::Removed | AppendError::Unknown => Aftermath::MaybeWritten,
        }
    }
}

/// What the caller knows of a batch's producer. `Default` is right for a batch without transactions.
#[derive(Debug, Clone, Copy, Default)]
pub struct AppendRules {
    pub sequence: SequenceRule,
    /// For a batch whose transaction the coordinator was asked about; see
    /// [`PartitionLog::verification`].
    pub verification: Option<Verification>,
}

impl PartitionLog {
    /// [`PartitionLog::append_with`] the default rules.
    ///
    /// # Errors
    /// See [`AppendError`]; none of those returned here has written anything.
    pub async fn append(
        &self,
        batch: Batch,
        expected_leader_epoch: Option<LeaderEpoch>,
    ) -> Result<Appended, AppendError> {
        self.append_with(batch, expected_leader_epoch, AppendRules::default()).await
    }

    /// Gives `batch`, which may be transactional but no control batch, its offsets. Waits for room in
    /// the WAL and, at a partition's first idempotent append, for its producer state; offsets and order
    /// are fixed when it returns. Cancelling it before leaves nothing behind.
    ///
    /// # Errors
    /// See [`AppendError`]; none of those returned here has written anything.
    pub async fn append_with(
        &self,
        batch: Batch,
        expected_leader_epoch: Option<LeaderEpoch>,
        rules: AppendRules,
    ) -> Result<Appended, AppendError> {
        let is_produced = batch.header.producer().is_some();
        let reservation = self.make_ready(batch.header.byte_length(), is_produced).await?;
        self.append_now(batch, expected_leader_epoch, rules, reservation)
    }

    /// Room in the WAL for so many bytes, and producers, if they are needed.
    pub(super) async fn make_ready(
        &self,
        bytes: usize,
        needs_producers: bool,
    ) -> Result<Reservation, AppendError> {
        self.check_open()?;
        self.shared.wait_for_room().await;
        let reserved = self.shared.wal.reserve(bytes).await;
        if needs_producers {
            self.ensure_producers().await?;
        }
        reserved.map_err(|_| AppendError::Stopping)
    }

    pub(super) fn check_open(&self) -> Result<(), AppendError> {
        match self.seal() {
            Seal::Open => Ok(()),
            Seal::Stopping | Seal::Fenced => Err(AppendError::Stopping),
            Seal::Damaged => Err(AppendError::Unavailable),
            Seal::Removed => Err(AppendError::Removed),
        }
    }

    fn append_now(
        &self,
        batch: Batch,
        expected_leader_epoch: Option<LeaderEpoch>,
        rules: AppendRules,
        reservation: Reservation,
    ) -> Result<Appended, AppendError> {
        let log = self.weak().upgrade().ok_or(AppendError::Removed)?;
        let mut state = self.state();
        self.check_open()?;
        let current = state.leader_epoch;
        if let Some(expected) = expected_leader_epoch.filter(|it| *it != current) {
            return Err(AppendError::WrongLeaderEpoch { expected, current });
        }
        let is_stamped = batch.header.attributes.timestamp_type() == TimestampType::LogAppendTime;
        let is_produced = batch.header.producer().is_some();
        if is_produced && let Some(seen) = judge(&state, &batch.header, rules)? {
            return Ok(self.answer_duplicate(&seen, state.high_watermark, is_stamped));
        }
        Ok(self.write(log, &mut state, batch, None, reservation))
    }

    /// Gives the batch the next offsets and hands it to the WAL; it was judged before. Under the state's
    /// lock, so that the WAL's order is the offsets' order.
    pub(super) fn write(
        &self,
        log: Arc<PartitionLog>,
        state: &mut LogState,
        mut batch: Batch,
        marker: Option<MarkerEntry>,
        reservation: Reservation,
    ) -> Appended {
        let now = self.shared.environment.clock.wall();
        let (base, leader_epoch) = (state.end, state.leader_epoch);
        let is_stamped = batch.header.attributes.timestamp_type() == TimestampType::LogAppendTime;
        batch.stamp(base, leader_epoch);
        let (header, bytes) = batch.freeze();
        assert_eq!(header.base_offset, base, "A2: a batch starts where the log ends");
        let length = u32::try_from(bytes.len()).expect("a batch is shorter than its 31-bit length");
        let entry = BatchEntry::of(&header, marker, 0, length);
        if let (Some(produced), Some(table)) = (ProducedBatch::of(&entry), state.producers.as_mut())
        {
            table.replay(&produced, now);
        }
        let tail = state.tail.get_or_insert_default();
        let starts_tail = tail.is_flushed();
        tail.push(entry, leader_epoch, bytes.clone());
        let end = header.end_offset();
        state.end = end;
        if starts_tail {
            self.shared.mark_dirty(&log);
        }
        let durable = self.waits().until(end);
        let listener = Arc::new(Ticket { log, base, length, is_told: AtomicBool::new(false) });
        self.shared.metrics.appended(u64::from(length));
        self.shared.wal.submit(Append {
            partition: self.partition,
            leader_epoch,
            header,
            marker,
            bytes,
            listener,
            reservation,
        });
        Appended {
            base_offset: base,
            end_offset: end,
            log_append_time: if is_stamped { header.max_timestamp } else { Timestamp::NONE },
            durable,
            duplicate: false,
        }
    }

    /// The first time's offsets, acknowledged when the first time's bytes are durable (A1, A5).
    fn answer_duplicate(
        &self,
        seen: &SeenBatch,
        high_watermark: Offset,
        is_stamped: bool,
    ) -> Appended {
        let end_offset = seen.end_offset();
        let durable = match end_offset <= high_watermark {
            true => DurableWait::durable(),
            false => self.waits().until(end_offset),
        };
        Appended {
            base_offset: seen.base_offset,
            end_offset,
            log_append_time: if is_stamped { seen.timestamp } else { Timestamp::NONE },
            durable,
            duplicate: true,
        }
    }

    /// Loads the producer table, unless it is there.
    pub(super) async fn ensure_producers(&self) -> Result<(), AppendError> {
        while self.state().producers.is_none() {
            let (as_of, base) = match self.base_producers().await {
                Ok(base) => base,
                Err(BaseError::Removed) => return Err(AppendError::Removed),
                Err(BaseError::Failed(error)) => {
                    let partition = self.partition;
                    tracing::warn!(%partition, %error, "producer state not loaded, append refused");
                    return Err(AppendError::Unavailable);
                }
            };
            let now = self.shared.environment.clock.wall();
            let mut state = self.state();
            // A flush may have moved the committed end past the snapshot: then look again.
            if state.producers.is_none() && state.committed_end <= as_of {
                state.load_producers(as_of, base, now);
            }
        }
        Ok(())
    }

    fn on_durable(&self, base: Offset, length: u32, end: Offset, place: WalPlace) {
        if Seal::Fenced <= self.seal() {
            return self.on_lost(base); // A4: nothing is acknowledged after a loss.
        }
        {
            let mut state = self.state();
            let state = &mut *state;
            // Removed meanwhile: nobody waits, and nothing of it is wanted any more.
            let Some(tail) = state.tail.as_mut() else { return };
            let entry = tail.mark_durable(end, place);
            assert_eq!(entry.batch.base_offset, base, "A2: batches become durable in order");
            assert_eq!(state.high_watermark, base, "A2: the high watermark moves without gaps");
            state.high_watermark = end;
            state.undecided.became_durable(end);
            self.shared.count_durable(cost(length), place.sequence);
        }
        self.waits().advance(end);
        self.shared.keep_cached(self.weak(), base, cost(length));
    }

    /// May run under this partition's state lock, inside `Wal::submit`: takes only the waits.
    fn on_lost(&self, base: Offset) {
        self.set_seal(Seal::Fenced);
        self.waits().fail_above(base, &AppendError::Unknown);
    }
}

/// Whether a producer's batch fits behind its last ones; `Some` if it was appended before (A5).
fn judge(
    state: &LogState,
    header: &BatchHeader,
    rules: AppendRules,
) -> Result<Option<SeenBatch>, AppendError> {
    let produced = ProducedBatch::from(header);
    let table = state.producers.as_ref().ok_or(AppendError::Unavailable)?;
    let verified = rules.verification.map(|it| it.end);
    match table.judge(&produced, rules.sequence, verified) {
        Verdict::Append => Ok(None),
        Verdict::Duplicate(seen) => Ok(Some(seen)),
        Verdict::StaleEpoch { current } => {
            Err(AppendError::StaleProducerEpoch { epoch: produced.epoch, current })
        }
        Verdict::OutOfOrder { expected } => {
            let sequence = produced.base_sequence;
            Err(AppendError::OutOfOrderSequence { expected, sequence })
        }
        Verdict::WrongTransaction { reason } => Err(AppendError::InvalidTxnState { reason }),
        Verdict::TooManyOpen => Err(AppendError::Unavailable),
    }
}

/// One submitted append's way back from the WAL.
struct Ticket {
    log: Arc<PartitionLog>,
    base: Offset,
    length: u32,
    is_told: AtomicBool,
}

impl CommitListener for Ticket {
    fn durable(&self, end_offset: Offset, place: WalPlace) {
        self.is_told.store(true, Ordering::Relaxed);
        self.log.on_durable(self.base, self.length, end_offset, place);
    }

    fn lost(&self, base_offset: Offset) {
        self.is_told.store(true, Ordering::Relaxed);
        self.log.on_lost(base_offset);
    }
}

/// A dropped append reads as an unknown outcome, never as success.
impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.is_told.load(Ordering::Relaxed) {
            self.log.on_lost(self.base);
        }
    }
}
