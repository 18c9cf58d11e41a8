//! The port to the metadata: which committed runs exist, and which segments nobody needs any more.
//!
//! Owns: the trait and its types. Does not own: how a cluster stores them; the broker implements the
//! port over the controller, [`MemoryRunIndex`] is its memory twin.
//!
//! What an implementation promises:
//! - a run is committed only if it starts at its partition's committed end (A3) and its leader epoch
//!   is neither older than the last committed run's nor newer than the partition's;
//! - all runs of one commit that are not refused are committed atomically, or none is;
//! - `advance_log_start` drops the runs wholly below the new start, but the last one only if the
//!   producers as of its end are kept: somewhere they always are, whatever races with it (A5). A run
//!   committed wholly below the log start goes at the next `advance_log_start`, if not at once;
//! - a segment becomes garbage when its last run is dropped, and stays known until it is forgotten;
//! - `adopt` commits many segments' runs in one step, `replace` exchanges runs for merged ones in one
//!   step: a reader sees the one or the other, never neither (A3);
//! - kept producers are those of the last step that carried some, as long as their offset is the
//!   partition's committed end.

use async_trait::async_trait;
use bytes::Bytes;
use std::fmt;
use std::time::Duration;
use vocabulary::{LeaderEpoch, Offset, Partition, SegmentName, Timestamp};

pub mod conformance;
mod memory;
pub use memory::MemoryRunIndex;

/// The committed place of `[base, end)` of one partition: a byte range of one data segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunDescription {
    pub partition: Partition,
    /// Under which the run's batches were appended, which may be older than the current one.
    pub leader_epoch: LeaderEpoch,
    pub base: Offset,
    /// Exclusive.
    pub end: Offset,
    /// The largest record timestamp of the run.
    pub max_timestamp: Timestamp,
    pub segment: SegmentName,
    /// Of the run's first byte in the segment.
    pub position: u64,
    /// In bytes.
    pub length: u64,
    /// CRC32C of the run's bytes.
    pub crc: u32,
}

/// One data segment and its runs, in the order of the segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunCommit {
    pub segment: SegmentName,
    /// The whole object's length.
    pub segment_bytes: u64,
    pub created: Timestamp,
    pub runs: Vec<RunDescription>,
}

/// The producers of a partition as of its committed end, where no run's index has them: its last run
/// lies in a WAL segment, or every run was dropped (A5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptProducers {
    pub partition: Partition,
    pub as_of: Offset,
    /// Encoded as in a segment's index; empty when nobody is remembered.
    pub snapshot: Bytes,
}

/// Runs of a dead log that count from now on where they lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adoption {
    /// In the order of the log; a partition's runs continue each other.
    pub segments: Vec<RunCommit>,
    /// One for each partition with a run in `segments`, as of the end of its last one.
    pub producers: Vec<KeptProducers>,
}

/// Merged runs for the runs they were made of. A merged run that takes the place of a partition's last
/// run carries the same producers in its index, unless they are kept (A5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replacement {
    pub merged: RunCommit,
    /// Exactly the committed runs that `merged` covers, as the merger read them. A merged run is
    /// refused with [`RefusalReason::Changed`] unless all of its own are committed as they are here.
    pub replaced: Vec<RunDescription>,
}

/// A run that was not committed. All others of the commit were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunRefusal {
    pub partition: Partition,
    pub base: Offset,
    pub reason: RefusalReason,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalReason {
    /// The topic was deleted: the run will never be wanted.
    UnknownPartition,
    /// Another leader took over: this one must stop. Also if what is committed where the run starts is
    /// another epoch's.
    WrongEpoch,
    /// The run does not start at the committed end. After an unknown outcome it may be that the
    /// very same run is committed already, and runs of later epochs behind it.
    NotContiguous { committed_end: Offset },
    /// What a merged run was made of is not what is committed now: retention or another merger was
    /// faster. Nothing is lost; the merged bytes are garbage.
    Changed,
}

impl fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RefusalReason::UnknownPartition => f.write_str("the partition does not exist"),
            RefusalReason::WrongEpoch => f.write_str("the leader epoch is not the partition's"),
            RefusalReason::NotContiguous { committed_end } => {
                write!(f, "the committed end is {committed_end}")
            }
            RefusalReason::Changed => f.write_str("the runs it was merged from have changed"),
        }
    }
}

/// A segment without live runs. Its object may be deleted once the grace period is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GarbageSegment {
    pub segment: SegmentName,
    /// For how long it has been, by the metadata's own time. A clock that was stepped ahead makes it grow no more than
    /// twice as fast; only a controller that starts with one makes it older at once.
    pub age: Duration,
}

/// A variant exists only if some caller acts differently on it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunIndexError {
    /// No answer: a change may or may not have happened. Retry, and look before concluding (A9).
    #[error("the metadata did not answer: {reason}")]
    Unavailable { reason: String },
    /// This broker may not change metadata any more; retrying is of no use.
    #[error("this broker is fenced")]
    Fenced,
}

/// See the module for what an implementation promises.
#[async_trait]
pub trait RunIndex: Send + Sync + fmt::Debug {
    /// Commits a data segment's runs. Refused runs are listed; the others are committed atomically.
    async fn commit(&self, commit: RunCommit) -> Result<Vec<RunRefusal>, RunIndexError>;

    /// Commits the runs of a dead log's segments where they lie, all that are not refused in one
    /// step with the producers. Runs that end at or before the committed end are refused as not
    /// contiguous: an earlier try has them, or a flush had. So are the runs of a partition whose
    /// producers are not as of the end of the last of them: that would forget producers (A5).
    async fn adopt(&self, adoption: Adoption) -> Result<Vec<RunRefusal>, RunIndexError>;

    /// Exchanges runs for merged ones. Merged runs that are refused leave theirs as they are; one that
    /// is in its place already, after a lost answer, is not refused.
    async fn replace(&self, replacement: Replacement) -> Result<Vec<RunRefusal>, RunIndexError>;

    /// The producers kept for a partition, if they are as of its committed end. Of a deleted topic, none.
    async fn kept_producers(
        &self,
        partition: Partition,
    ) -> Result<Option<KeptProducers>, RunIndexError>;

    /// The run that contains `offset` (or the first one above it) and those that follow.
    async fn runs_from(
        &self,
        partition: Partition,
        offset: Offset,
        count_max: usize,
    ) -> Result<Vec<RunDescription>, RunIndexError>;

    /// Of a deleted topic, none, though some may still be on their way out.
    async fn last_run(&self, partition: Partition)
    -> Result<Option<RunDescription>, RunIndexError>;

    /// The log start as the metadata has it, which may have moved without an answer getting through.
    /// `None` for a partition that does not exist.
    async fn log_start(&self, partition: Partition) -> Result<Option<Offset>, RunIndexError>;

    /// Drops the runs wholly below `log_start`. Never moves it backwards. Keeps `producers` if no run
    /// is left and they are as of the committed end: the caller hands them over whenever that may be.
    /// If they are not, and none were kept before, the last run stays until somebody asks again.
    async fn advance_log_start(
        &self,
        partition: Partition,
        log_start: Offset,
        producers: Option<KeptProducers>,
    ) -> Result<(), RunIndexError>;

    /// Segments without live runs, the longest dead first.
    async fn garbage(&self, count_max: usize) -> Result<Vec<GarbageSegment>, RunIndexError>;

    /// After their objects are deleted.
    async fn forget(&self, segments: &[SegmentName]) -> Result<(), RunIndexError>;

    /// For each segment, whether the metadata knows it, as live or as garbage.
    async fn known(&self, segments: &[SegmentName]) -> Result<Vec<bool>, RunIndexError>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use environment::Environment;
    use vocabulary::TopicId;

    #[tokio::test(start_paused = true)]
    async fn the_memory_twin_conforms() {
        let clock = Environment::simulated(1).clock;
        let index = MemoryRunIndex::new(std::sync::Arc::clone(&clock));
        let partitions = [0, 1, 2].map(|index| Partition { topic: TopicId([1; 16]), index });
        for partition in partitions {
            index.create(partition);
            index.next_epoch(partition);
        }
        let leader_epoch = LeaderEpoch(1);
        let fresh = conformance::Fresh { partitions, leader_epoch, now: clock.wall() };
        conformance::conforms(&index, fresh).await;
    }
}
