//! What a segment says about itself: its name, its runs, their batches.
//!
//! Owns: the decoded form of an index and the questions it answers without the payload.
//! Does not own: bytes (`index`, `frame`), nor what a producer snapshot means (the log).
//!
//! Invariants of every [`SegmentIndex`] that this room hands out, built or decoded:
//! - S1 the runs tile the payload: the first starts right behind the header, each next one where the
//!   one before ends, the last ends where the index starts;
//! - S2 the batches of a run tile the run, and their offsets grow and lie in `[base, end)`: key compaction leaves gaps
//!   between them, and batches with fewer records than offsets;
//! - S3 each block starts at a batch, the first one at the first batch.

use super::SegmentError;
use crate::run_index::RunDescription;
use bytes::Bytes;
use protocol::records::{Attributes, BatchHeader, EndTxnMarker, TransactionResult};
use vocabulary::{LeaderEpoch, Offset, Partition, SegmentName, Timestamp};

/// The header of one record batch, without the parts that only its reader needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchEntry {
    pub base_offset: Offset,
    pub last_offset_delta: i32,
    /// Bytes from the start of the run.
    pub position: u64,
    /// Bytes of the whole batch, its header included.
    pub length: u32,
    pub base_timestamp: Timestamp,
    pub max_timestamp: Timestamp,
    /// -1 without a producer id (KIP-98); likewise the two below.
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub record_count: i32,
    pub attributes: Attributes,
    /// Of a control batch that ends a transaction: recovery and readers of aborted transactions never
    /// open a payload (A8).
    pub marker: Option<MarkerEntry>,
}

/// How a transaction ended in a partition (KIP-98). Of an aborted one this is all that readers need:
/// the batch says whose it was and where it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MarkerEntry {
    pub marker: EndTxnMarker,
    /// Where the transaction started, below the marker; `None` if none was open here.
    pub first_offset: Option<Offset>,
}

impl MarkerEntry {
    /// Otherwise it commits.
    pub fn is_abort(&self) -> bool {
        self.marker.result == TransactionResult::Abort
    }
}

impl BatchEntry {
    pub fn last_offset(&self) -> Offset {
        self.base_offset.plus(i64::from(self.last_offset_delta))
    }

    /// Exclusive.
    pub fn end_offset(&self) -> Offset {
        self.last_offset().plus(1)
    }

    /// What the index keeps of `header`, for a batch at `position` of its run; `marker` if it is one.
    pub(crate) fn of(
        header: &BatchHeader,
        marker: Option<MarkerEntry>,
        position: u64,
        length: u32,
    ) -> BatchEntry {
        BatchEntry {
            base_offset: header.base_offset,
            last_offset_delta: header.last_offset_delta,
            position,
            length,
            base_timestamp: header.base_timestamp,
            max_timestamp: header.max_timestamp,
            producer_id: header.producer_id,
            producer_epoch: header.producer_epoch,
            base_sequence: header.base_sequence,
            record_count: header.record_count,
            attributes: header.attributes,
            marker,
        }
    }
}

/// A stretch of whole batches, about [`super::BLOCK_BYTES`] long: the grain of seeking and caching.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockEntry {
    /// Base offset of the block's first batch.
    pub offset: Offset,
    /// The greatest timestamp in this block, -1 if none of its records has one.
    pub max_timestamp: Timestamp,
    /// Bytes from the start of the run.
    pub position: u64,
}

/// A contiguous offset range of one partition, written in one leader epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunEntry {
    pub partition: Partition,
    pub leader_epoch: LeaderEpoch,
    pub base: Offset,
    /// Exclusive.
    pub end: Offset,
    pub max_timestamp: Timestamp,
    /// Bytes from the start of the segment.
    pub position: u64,
    /// Bytes of all batches.
    pub length: u64,
    /// CRC-32C of the run's bytes.
    pub crc: u32,
    pub blocks: Vec<BlockEntry>,
    pub batches: Vec<BatchEntry>,
    /// The partition's producer state as of `end`, opaque here. At most one run of a partition in a
    /// segment, its last, carries it.
    pub producers: Option<Bytes>,
}

impl RunEntry {
    /// The batch that holds `offset`, or the first one behind it; `None` past the last batch.
    pub fn batch_at(&self, offset: Offset) -> Option<&BatchEntry> {
        let index = self.batches.partition_point(|it| it.last_offset() < offset);
        self.batches.get(index)
    }

    /// The block that holds `offset`; the first block for an offset before it.
    pub fn block_at(&self, offset: Offset) -> Option<&BlockEntry> {
        let after = self.blocks.partition_point(|it| it.offset <= offset);
        self.blocks.get(after.saturating_sub(1))
    }

    /// The run as the metadata has it, in this segment.
    pub(crate) fn described(&self, segment: SegmentName) -> RunDescription {
        RunDescription {
            partition: self.partition,
            leader_epoch: self.leader_epoch,
            base: self.base,
            end: self.end,
            max_timestamp: self.max_timestamp,
            segment,
            position: self.position,
            length: self.length,
            crc: self.crc,
        }
    }

    /// Checks the run's bytes, given whole but in any number of pieces.
    pub fn check_payload<'a>(
        &self,
        chunks: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<(), SegmentError> {
        super::frame::check_run(self, chunks)
    }
}

/// Everything a segment says about itself; enough for recovery and for producer state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentIndex {
    pub name: SegmentName,
    /// Bytes of the whole segment, header and footer included.
    pub length: u64,
    /// In the order of their positions.
    pub runs: Vec<RunEntry>,
}
