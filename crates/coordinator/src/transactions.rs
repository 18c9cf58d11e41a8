//! Transactions: all transactional ids of one `__transaction_state` partition (KIP-98, KIP-360, KIP-890).
//!
//! | module | in it |
//! | --- | --- |
//! | `command` | what may be asked, and the answers |
//! | `image` | what the log says of one id |
//! | [`format`](mod@format) | its encoding, Kafka's own |
//! | `shard` | [`TransactionShard`]: the only way in, and when ids change by themselves |
//! | `producer` | who may use an id: InitProducerId and its fencing |
//! | `ending` | commit, abort, time-out, and what follows when the markers are written |
//!
//! A transaction ends in two steps. The decision (`PrepareCommit`, `PrepareAbort`) becomes durable, and from then
//! on nothing changes it. Then markers are ordered ([`MarkersOrder`]): the caller writes them to every partition, for
//! as long as it takes, and says so; that completes the transaction. A coordinator that is loaded again orders the
//! markers of every undecided end anew, so none is ever lost; writing one twice is harmless.
//!
//! # Invariants
//!
//! Checked by [`TransactionShard::check`] after every step in debug builds:
//!
//! - **T1** the queue of deadlines holds exactly the transactions that are `Ongoing`;
//! - **T2** partitions belong to an id that is `Ongoing` or about to end, and to no other;
//! - **T3** a producer id waits to be given out (`next_producer`) only while its transaction ends;
//! - **T4** an epoch never goes down under one producer id, and an id that is stored has one.

mod command;
mod ending;
pub mod format;
mod image;
mod producer;
mod shard;

pub use command::{
    AddPartitions, DescribedTransaction, EndTransaction, InitProducer, ListedTransaction,
    TransactionCommand, TransactionFilter, TransactionPartitions, TransactionReply,
    VerifyPartitions,
};
pub use image::{TransactionEvent, TransactionImage, TransactionState, TransactionVersion};
pub use shard::{
    MarkersOrder, TransactionCensus, TransactionInput, TransactionOptions, TransactionOutputs,
    TransactionShard, TransactionTally,
};
