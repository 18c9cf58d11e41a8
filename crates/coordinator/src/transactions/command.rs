//! What may be asked of the transactional ids, and what is answered.

use std::collections::{BTreeMap, BTreeSet};

use protocol::ErrorCode;
use protocol::records::TransactionResult;
use vocabulary::ProducerId;

use crate::transactions::image::{TransactionImage, TransactionState, TransactionVersion};

/// Partitions by the names of their topics.
pub type TransactionPartitions = BTreeMap<String, BTreeSet<i32>>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransactionCommand {
    Init(InitProducer),
    Add(AddPartitions),
    Verify(VerifyPartitions),
    End(EndTransaction),
    /// All markers of an order are written. Anything but the newest order of the id is ignored.
    MarkersWritten {
        id: String,
        producer: ProducerId,
        epoch: i16,
    },
    Describe(String),
    List(TransactionFilter),
}

/// InitProducerId with a transactional id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitProducer {
    pub id: String,
    pub timeout_ms: i32,
    /// What the producer has been given before; it asks for the next epoch then, and fences nobody (KIP-360).
    pub claimed: Option<(ProducerId, i16)>,
    /// For the case that a producer id is needed. Without it the answer may be [`TransactionReply::NeedsProducerId`].
    pub fresh: Option<ProducerId>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddPartitions {
    pub id: String,
    pub producer: ProducerId,
    pub epoch: i16,
    pub partitions: TransactionPartitions,
    pub version: TransactionVersion,
}

/// Whether the partitions belong to the open transaction (KIP-890, part 1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyPartitions {
    pub id: String,
    pub producer: ProducerId,
    pub epoch: i16,
    pub partitions: TransactionPartitions,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndTransaction {
    pub id: String,
    pub producer: ProducerId,
    pub epoch: i16,
    pub result: TransactionResult,
    pub version: TransactionVersion,
    /// As in [`InitProducer`].
    pub fresh: Option<ProducerId>,
}

/// Empty lists let everything pass.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TransactionFilter {
    pub states: Vec<TransactionState>,
    /// States were asked for, but none that exists: nothing passes.
    pub only_unknown_states: bool,
    pub producers: Vec<ProducerId>,
    /// Only what runs for longer than this (KIP-994); negative: everything.
    pub longer_than_ms: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransactionReply {
    /// Of `Init` and `End`: the producer id and epoch to go on with.
    Producer(Result<(ProducerId, i16), ErrorCode>),
    /// Of `Init` and `End`: ask again, with a fresh producer id. Nothing has changed.
    NeedsProducerId,
    /// Of `Add`.
    Added(ErrorCode),
    /// Of `Verify`: the partitions that are not in the transaction.
    Verified(Result<TransactionPartitions, ErrorCode>),
    /// Of `MarkersWritten`: whether that has completed the transaction.
    Completed(bool),
    Described(Option<DescribedTransaction>),
    Listed(Vec<ListedTransaction>),
}

/// As far as operators see it (KIP-664).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedTransaction {
    pub state: TransactionState,
    pub timeout_ms: i32,
    /// Wall milliseconds; -1 when it has not begun.
    pub started_at: i64,
    pub producer: ProducerId,
    pub epoch: i16,
    pub partitions: TransactionPartitions,
}

impl From<&TransactionImage> for DescribedTransaction {
    fn from(image: &TransactionImage) -> DescribedTransaction {
        DescribedTransaction {
            state: image.state,
            timeout_ms: image.timeout_ms,
            started_at: image.started_at,
            producer: image.producer,
            epoch: image.epoch,
            partitions: image.partitions.clone(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedTransaction {
    pub id: String,
    pub producer: ProducerId,
    pub state: TransactionState,
}
