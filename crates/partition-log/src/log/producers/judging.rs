//! Which batches and markers of a producer fit behind what the log has of it.
//!
//! Owns: the order of the checks, which is Kafka's: a stale epoch before everything else
//! (apache/kafka#20534: a zombie must learn that it is one), then duplicates, the transaction,
//! sequences. Does not own: the table (`producers`).

use super::{PRODUCERS_MAX, ProducedBatch, Producer, ProducerTable, SeenBatch};
use protocol::records::{EndTxnMarker, sequence_after};
use vocabulary::{Offset, ProducerId};

/// Which sequence a producer may start with that the partition does not know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SequenceRule {
    /// Any: its state may have expired.
    #[default]
    Any,
    /// Zero: what transactions of version 2 demand (KIP-890).
    Zero,
}

/// Which epoch a marker must have, by the version of transactions (KIP-890).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MarkerRule {
    /// The producer's or a later one.
    V1,
    /// A later one than that of the data. The same one, while no transaction is open, is a marker that
    /// was written before.
    V2,
}

/// What to do with a produced batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Append,
    Duplicate(SeenBatch),
    /// INVALID_PRODUCER_EPOCH: a newer incarnation of the producer has written.
    StaleEpoch {
        current: i16,
    },
    /// OUT_OF_ORDER_SEQUENCE_NUMBER.
    OutOfOrder {
        expected: i32,
    },
    /// INVALID_TXN_STATE.
    WrongTransaction {
        reason: &'static str,
    },
    /// As many transactions are open as may be.
    TooManyOpen,
}

/// What to do with a marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MarkerVerdict {
    Append,
    /// The log has it, at this offset unless it is long ago.
    Repeated(Option<Offset>),
    /// INVALID_PRODUCER_EPOCH.
    StaleEpoch {
        current: i16,
    },
    /// TRANSACTION_COORDINATOR_FENCED.
    StaleCoordinator {
        current: i32,
    },
}

impl ProducerTable {
    /// Judges a batch, not a marker, that is not yet in the log; its base offset is ignored. If the
    /// coordinator was asked about its transaction, `verified` is where the log ended then.
    pub(crate) fn judge(
        &self,
        batch: &ProducedBatch,
        rule: SequenceRule,
        verified: Option<Offset>,
    ) -> Verdict {
        let Some(known) = self.producers.get(&batch.producer) else {
            return match (rule, batch.base_sequence) {
                (SequenceRule::Any, _) | (SequenceRule::Zero, 0) => self.judge_room(batch),
                (SequenceRule::Zero, _) => Verdict::OutOfOrder { expected: 0 },
            };
        };
        if batch.epoch < known.epoch {
            return Verdict::StaleEpoch { current: known.epoch };
        }
        let is_open = known.open().is_some();
        if let Some(seen) = known.seen(batch) {
            return Verdict::Duplicate(seen);
        }
        let last_marker = known.transactional.as_ref().and_then(|it| it.last_marker);
        if batch.is_transactional && !is_open && verified.is_some_and(|it| Some(it) <= last_marker)
        {
            let reason = "its transaction has ended since the coordinator was asked";
            return Verdict::WrongTransaction { reason };
        }
        let expected = known.expected(batch.epoch);
        if batch.is_sequenced() && batch.base_sequence != expected {
            return Verdict::OutOfOrder { expected };
        }
        if is_open && !batch.is_transactional {
            let reason = "its producer has a transaction open here";
            return Verdict::WrongTransaction { reason };
        }
        if is_open { Verdict::Append } else { self.judge_room(batch) }
    }

    fn judge_room(&self, batch: &ProducedBatch) -> Verdict {
        match batch.is_transactional && PRODUCERS_MAX <= self.open.len() {
            true => Verdict::TooManyOpen,
            false => Verdict::Append,
        }
    }

    pub(crate) fn judge_marker(
        &self,
        producer: ProducerId,
        epoch: i16,
        marker: EndTxnMarker,
        rule: MarkerRule,
    ) -> MarkerVerdict {
        let Some(known) = self.producers.get(&producer) else { return MarkerVerdict::Append };
        let transactional = known.transactional.as_ref();
        let is_stale = match rule {
            MarkerRule::V1 => epoch < known.epoch,
            MarkerRule::V2 if epoch == known.epoch && known.open().is_none() => {
                return MarkerVerdict::Repeated(transactional.and_then(|it| it.last_marker));
            }
            MarkerRule::V2 => epoch <= known.epoch,
        };
        if is_stale {
            return MarkerVerdict::StaleEpoch { current: known.epoch };
        }
        match transactional.map(|it| it.coordinator_epoch) {
            Some(current) if marker.coordinator_epoch < current => {
                MarkerVerdict::StaleCoordinator { current }
            }
            _ => MarkerVerdict::Append,
        }
    }
}

impl Producer {
    /// The batch, if it is one of the last.
    fn seen(&self, batch: &ProducedBatch) -> Option<SeenBatch> {
        if !batch.is_sequenced() {
            return None;
        }
        let repeats = |seen: &&SeenBatch| {
            seen.base_sequence == batch.base_sequence
                && seen.last_offset_delta == batch.last_offset_delta
        };
        self.batches.iter().find(repeats).filter(|_| batch.epoch == self.epoch).copied()
    }

    /// The sequence that the next batch of `epoch`, which is not older, must have.
    fn expected(&self, epoch: i16) -> i32 {
        match self.batches.back() {
            Some(last) if epoch == self.epoch => sequence_after(last.last_sequence(), 1),
            _ => 0,
        }
    }
}
