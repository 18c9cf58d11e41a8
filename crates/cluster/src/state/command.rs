//! What is asked of the metadata where it is more than a few arguments, and why it can be refused.
//!
//! A refusal leaves nothing behind. Each command has its own reasons, so that a caller handles
//! exactly those that can happen.

use bytes::Bytes;
use vocabulary::{BrokerEpoch, BrokerId, Offset, Partition, SegmentName, Timestamp, VolumeId};

use super::Run;
use super::topic::TopicNameError;
use super::wal::WalKind;

/// Announces a broker that starts: it gets a new broker epoch, a record of its new write-ahead log,
/// and each partition it leads a new leader epoch, in one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisterBroker {
    pub id: BrokerId,
    pub host: String,
    pub port: u16,
    pub rack: Option<String>,
    pub wal: WalKind,
    /// Which volume its log lies on, if on one. Logs on it go on in the new epoch.
    pub volume: Option<VolumeId>,
    /// A volume that is given up: an operator knows that it is lost, with what only it had.
    pub gives_up: Option<VolumeId>,
    /// Brokers that are gone: their partitions are led by this one from now on, and they are not
    /// registered any more. Of those with a log on a volume, this broker has the volume if its own
    /// log is on one.
    pub takes_over: Vec<BrokerId>,
}

/// A process that changes runs or logs, in the epoch it registered with (A4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registration {
    pub broker: BrokerId,
    pub epoch: BrokerEpoch,
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

/// The producers of a partition as of its committed end, which no run's index has (A5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptProducers {
    pub partition: Partition,
    pub as_of: Offset,
    /// Opaque here.
    pub snapshot: Bytes,
}

/// One segment and some of its runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunsOfSegment {
    pub segment: SegmentName,
    pub segment_bytes: u64,
    pub created: Timestamp,
    pub runs: Vec<Run>,
}

/// Makes runs of a dead log committed ones where they lie, with the producers as of their end. At
/// most [`ADOPTED_RUNS_MAX`] runs and [`ADOPTED_PRODUCERS_BYTES_MAX`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdoptRuns {
    pub by: Registration,
    /// A partition's runs in their order.
    pub segments: Vec<RunsOfSegment>,
    /// One for each partition, as of the end of its last run here.
    pub producers: Vec<KeptProducers>,
}

/// Puts merged runs in the place of those they were made of, which are given as they were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplaceRuns {
    pub by: Registration,
    pub merged: RunsOfSegment,
    /// Of each partition in offset order.
    pub replaced: Vec<Run>,
}

/// Runs that one command adopts, or replaces. About a hundred bytes each in one atomic write.
pub const ADOPTED_RUNS_MAX: usize = 4096;

/// Bytes of the snapshots that one command adopts. One partition's has 2 MiB at most.
pub const ADOPTED_PRODUCERS_BYTES_MAX: usize = 8 * 1024 * 1024;

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
pub enum GroupConfigsError {
    #[error("{max} groups have configs of their own, which is as many as may")]
    TooMany { max: usize },
    #[error("the name of a group with configs of its own has at most {max} bytes")]
    TooLong { max: usize },
}

/// Why one ACL was not created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AclError {
    #[error("there are {max} ACLs, which is as many as may be")]
    TooMany { max: usize },
    #[error("the names in an ACL have at most {max} bytes together")]
    TooLong { max: usize },
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
    /// A mistake of the caller: nothing was done.
    #[error("{runs} runs with {producers_bytes} bytes of producers are too many for one step")]
    TooLarge { runs: usize, producers_bytes: usize },
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
    #[error("A3: the runs it was merged from are not what is committed")]
    Changed,
}

/// A run that was not committed. All others of the command were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefusedRun {
    pub partition: Partition,
    pub base: Offset,
    pub refusal: RunRefusal,
}

/// A change to a write-ahead log's record is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WalError {
    #[error("A4: broker {broker} writes in epoch {stale}, it was registered anew in {current:?}")]
    StaleBroker { broker: BrokerId, stale: BrokerEpoch, current: Option<BrokerEpoch> },
    #[error("the metadata knows no such log: another registration has taken its place")]
    UnknownLog,
    #[error("A4: the log ends at sequence {fence} for ever")]
    EndsElsewhere { fence: u64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LogStartError {
    #[error("the partition is gone")]
    UnknownPartition,
}
