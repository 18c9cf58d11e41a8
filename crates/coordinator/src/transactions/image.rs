//! What a record of `__transaction_state` says of one transactional id.

use protocol::records::TransactionResult;
use vocabulary::ProducerId;

use crate::transactions::command::TransactionPartitions;

/// Kafka's states that a log can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TransactionState {
    /// A producer has the id, and has not begun.
    Empty,
    Ongoing,
    /// Decided; the markers are on their way.
    PrepareCommit,
    PrepareAbort,
    CompleteCommit,
    CompleteAbort,
}

impl TransactionState {
    pub const ALL: [TransactionState; 6] = [
        TransactionState::Empty,
        TransactionState::Ongoing,
        TransactionState::PrepareCommit,
        TransactionState::PrepareAbort,
        TransactionState::CompleteCommit,
        TransactionState::CompleteAbort,
    ];

    /// Kafka's name, as tools show it and filter by it.
    pub fn name(self) -> &'static str {
        match self {
            TransactionState::Empty => "Empty",
            TransactionState::Ongoing => "Ongoing",
            TransactionState::PrepareCommit => "PrepareCommit",
            TransactionState::PrepareAbort => "PrepareAbort",
            TransactionState::CompleteCommit => "CompleteCommit",
            TransactionState::CompleteAbort => "CompleteAbort",
        }
    }

    /// What has been decided, while the markers are on their way.
    pub(crate) fn ending(self) -> Option<TransactionResult> {
        match self {
            TransactionState::PrepareCommit => Some(TransactionResult::Commit),
            TransactionState::PrepareAbort => Some(TransactionResult::Abort),
            TransactionState::Empty
            | TransactionState::Ongoing
            | TransactionState::CompleteCommit
            | TransactionState::CompleteAbort => None,
        }
    }

    pub(crate) fn prepare(result: TransactionResult) -> TransactionState {
        match result {
            TransactionResult::Commit => TransactionState::PrepareCommit,
            TransactionResult::Abort => TransactionState::PrepareAbort,
        }
    }

    pub(crate) fn complete(result: TransactionResult) -> TransactionState {
        match result {
            TransactionResult::Commit => TransactionState::CompleteCommit,
            TransactionResult::Abort => TransactionState::CompleteAbort,
        }
    }
}

/// The rules a client follows (Kafka's feature `transaction.version`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TransactionVersion {
    /// Partitions are added by request, epochs stay.
    V1,
    /// Partitions are added by producing, every end bumps the epoch (KIP-890, part 2).
    V2,
}

/// A transactional id as its record stores it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionImage {
    pub producer: ProducerId,
    /// The producer id before this one, when epochs ran out.
    pub previous_producer: Option<ProducerId>,
    /// The producer id to go on with once the end is complete, when epochs run out with it.
    pub next_producer: Option<ProducerId>,
    pub epoch: i16,
    pub timeout_ms: i32,
    pub state: TransactionState,
    pub partitions: TransactionPartitions,
    /// Wall milliseconds of the last change.
    pub updated_at: i64,
    /// Wall milliseconds; -1 when it has not begun.
    pub started_at: i64,
    /// The client's, of the last transaction.
    pub version: TransactionVersion,
}

/// The last epoch that a client is ever given: one more is left to fence it with.
pub(crate) const CLIENT_EPOCH_MAX: i16 = i16::MAX - 1;

impl TransactionImage {
    pub(crate) fn is_exhausted(&self) -> bool {
        CLIENT_EPOCH_MAX <= self.epoch
    }

    /// Wall milliseconds from which on an open transaction is aborted.
    pub(crate) fn deadline(&self) -> Option<i64> {
        let open = self.state == TransactionState::Ongoing;
        open.then(|| self.started_at.saturating_add(i64::from(self.timeout_ms)))
    }
}

/// One fact. Applying the same fact twice is harmless.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransactionEvent {
    Stored { id: String, image: TransactionImage },
    Forgotten { id: String },
}
