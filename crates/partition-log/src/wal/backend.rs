//! The port to where WAL segments are kept: files now, a bucket or a quorum later.
//!
//! Owns: the words that the group committer and its backends share.
//! Does not own: grouping and order (`committer`), files (`file`).

use crate::run_index::RunIndexError;
use crate::segment::{EncodedSegment, SegmentError, SegmentIndex};
use crate::volume::VolumeError;
use async_trait::async_trait;
use bucket::BucketError;
use bytes::Bytes;
use prometheus_client::registry::Registry;
use std::fmt;
use std::ops::Range;
use std::time::Duration;
use vocabulary::{BrokerEpoch, ByteCount, Tick};

/// A segment that survived, as [`WalBackend::recover`] found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveredSegment {
    pub sequence: u64,
    pub index: SegmentIndex,
}

/// Keeps the segments of one broker's write-ahead log.
#[async_trait]
pub trait WalBackend: Send + Sync + fmt::Debug {
    /// The surviving segments, in order of their sequences, without a gap. Once, before the first
    /// write. Reads indexes only, and as much payload as it takes to tell whether the end is torn.
    async fn recover(&self) -> Result<Vec<RecoveredSegment>, WalError>;

    /// Durable when `Ok`. Sequences come without gaps, and at most [`WalBackend::in_flight_max`] at
    /// once. Failures are retried inside, with the same bytes, for as long as it takes; the errors
    /// left are [`WalError::Fenced`] and [`WalError::Stopping`], after which nothing more is written.
    async fn write(&self, sequence: u64, segment: EncodedSegment) -> Result<(), WalError>;

    /// Bytes of a segment that is durable and not yet trimmed; `range` counts from its start.
    async fn read(&self, sequence: u64, range: Range<u64>) -> Result<Bytes, WalError>;

    /// Segments with a sequence below `before` are no longer needed. May keep some of them.
    async fn trim(&self, before: u64) -> Result<(), WalError>;

    /// How many [`WalBackend::write`] calls may overlap; at least 1.
    fn in_flight_max(&self) -> usize;

    /// What comes while a write is in flight waits so long for more, counted from the last write.
    fn linger(&self) -> Duration {
        Duration::ZERO
    }

    /// Writes that need not linger: one is saved up in each linger without a write, up to so many.
    fn starts_saved_max(&self) -> u32 {
        0
    }

    /// A group of this size no longer lingers. Under a load that would fill it before, it grows up to
    /// the committer's limit, which alone counts when there is none here.
    fn full_bytes(&self) -> Option<ByteCount> {
        None
    }

    fn health(&self) -> WalHealth;

    /// Adds what the backend counts beside the committer's own, relative to the registry's prefix.
    fn register_metrics(&self, _registry: &mut Registry) {}
}

/// Whether writes get through, for readiness checks and operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WalHealth {
    Healthy,
    /// Writes are being retried and nothing is acknowledged meanwhile.
    Failing {
        since: Tick,
        reason: String,
    },
}

/// Why the log did not do what it was asked to.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WalError {
    /// Another writer owns this log now. Nothing of ours becomes durable any more.
    #[error("fenced: {reason}")]
    Fenced { reason: String },
    /// The process is stopping; what was not acknowledged is lost or found by the next recovery.
    #[error("the write-ahead log is stopping")]
    Stopping,
    /// The log holds something else than what was once acknowledged. An operator decides.
    #[error("{file} is corrupt at byte {position}: {reason}")]
    Corrupt { file: String, position: u64, reason: String },
    /// The bytes are intact but written by software newer than this.
    #[error("{file} at byte {position}: {source}")]
    Unsupported { file: String, position: u64, source: SegmentError },
    /// A broker that registered later than this one has written here.
    #[error("the log has segments of epoch {found}, this is epoch {expected}")]
    NewerEpoch { expected: BrokerEpoch, found: BrokerEpoch },
    /// Trimmed, or never written.
    #[error("no such bytes in WAL segment {sequence}")]
    NoSuchBytes { sequence: u64 },
    /// Reading, listing or trimming failed. Writing retries instead.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// Likewise.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// Trimming needs the metadata's word first; the next trim asks again.
    #[error("how far the log is needed could not be recorded: {0}")]
    Ledger(#[from] RunIndexError),
}
