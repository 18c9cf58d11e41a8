//! What is asked of the metadata where it is more than a few arguments, and why it can be refused.
//!
//! A refusal leaves nothing behind. Each command has its own reasons, so that a caller handles
//! exactly those that can happen.

use vocabulary::{BrokerEpoch, BrokerId, Offset, SegmentName, Timestamp};

use super::Run;
use super::topic::TopicNameError;

/// Announces a broker that starts: it gets a new broker epoch, and each partition it leads a new
/// leader epoch, in one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisterBroker {
    pub id: BrokerId,
    pub host: String,
    pub port: u16,
    pub rack: Option<String>,
}

/// Makes runs of one segment the committed end of their partitions. What is refused is listed;
/// what is not is committed together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitRuns {
    pub broker: BrokerId,
    pub broker_epoch: BrokerEpoch,
    pub segment: SegmentName,
    pub segment_bytes: u64,
    pub created: Timestamp,
    pub runs: Vec<Run>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CreateTopicError {
    #[error("topic exists already")]
    Exists,
    #[error("topic name collides with {other:?}: they differ only in '.' and '_'")]
    Collides { other: String },
    #[error(transparent)]
    Name(#[from] TopicNameError),
    #[error("a topic has 1 to {max} partitions, {asked} were asked for")]
    Partitions { asked: u32, max: u32 },
    #[error("no broker is registered to lead partitions")]
    NoBroker,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CreatePartitionsError {
    #[error("unknown topic")]
    UnknownTopic,
    #[error("topic has {has} partitions; {asked} is not an increase")]
    NotMore { has: u32, asked: u32 },
    #[error("a topic has at most {max} partitions, {asked} were asked for")]
    TooMany { asked: u32, max: u32 },
    #[error("no broker is registered to lead partitions")]
    NoBroker,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown topic")]
pub struct UnknownTopic;

/// The whole commit is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitRefusal {
    /// Another process has registered as this broker since. Nothing of this one counts any more.
    #[error("A4: broker {broker} commits in epoch {stale}, it was registered anew in {current:?}")]
    StaleBroker { broker: BrokerId, stale: BrokerEpoch, current: Option<BrokerEpoch> },
    #[error("segment {0} was committed before with other runs")]
    SegmentReused(SegmentName),
}

/// One run is refused; the caller drops it or finds out what became of its partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RunRefusal {
    #[error("the partition is gone")]
    UnknownPartition,
    #[error("A4: the run's leader epoch is not one this broker has led")]
    WrongLeaderEpoch,
    #[error("A3: the run does not start at the committed end {committed_end}")]
    NotContiguous { committed_end: Offset },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LogStartError {
    #[error("the partition is gone")]
    UnknownPartition,
}
