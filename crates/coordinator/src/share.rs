//! Which records of a partition a share group has delivered to whom, and how that ended (KIP-932): all
//! share-partitions of the groups of one `__share_group_state` partition, as a pure machine.
//!
//! A share-partition is one group's view of one partition. Everything below its start offset is done with;
//! above it each offset is available, acquired by a member for a while, acknowledged, or archived.
//!
//! | module | in it |
//! | --- | --- |
//! | `command` | what may be asked, and what is answered |
//! | `image` | what is durable of a share-partition, and the events that change it |
//! | `partition` | one share-partition: acquiring, acknowledging, locks that run out |
//! | `ranges` | values over ranges of offsets |
//! | `shard` | all share-partitions of one log: the only way in is [`ShareShard::step`] |
//! | [`format`](mod@format) | the records of `__share_group_state`, Kafka's own |
//!
//! Locks are soft state: when the log is read again every record that was acquired is available, with the
//! deliveries the log tells of. What a member has been told is acknowledged is durable (A1): such an
//! [`Answer`](crate::Answer) waits for the log.
//!
//! # Invariants
//!
//! Checked by [`ShareShard::check`] after every step in debug builds:
//!
//! - **H1** nothing below the start offset is remembered, and the offset at the start is not done with;
//! - **H2** an offset that is locked is not done with, and has one holder;
//! - **H3** acquiring never makes it more offsets from the start to the last acquired one than may be locked;
//! - **H4** the deadlines are those of the locks;
//! - **H5** the log is needed from where the oldest snapshot lies, and is never cut above it.

mod command;
pub mod format;
mod image;
mod partition;
mod ranges;
mod shard;

pub use command::{
    Acknowledge, AcknowledgeKind, AcknowledgementBatch, Acquire, AcquiredSpan, DescribedShare,
    LogBatch, Look, LookAt, NextFetch, ShareCommand, ShareLimits, ShareReply, StartAt,
};
pub use image::{DeliveryState, ShareEvent, ShareImage, ShareKey, StateSpan};
pub use shard::{ShareInput, ShareOptions, ShareOrder, ShareOutputs, ShareShard, ShareTally};
