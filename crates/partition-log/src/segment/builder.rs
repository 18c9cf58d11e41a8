//! Builds a segment around payload that is never copied.
//!
//! Owns: grouping batches into runs, positions, checksums, the gather list.
//! Does not own: which batches belong together, and where the segment goes.
//!
//! Invariants: a run's batches are contiguous in offsets, or building panics (the caller orders
//! appends under the partition's lock; anything else would break A3). Runs keep the order in which
//! their first batches came.

use super::entry::{BatchEntry, BlockEntry, MarkerEntry, RunEntry, SegmentIndex};
use super::frame::{FOOTER_LEN, Footer, HEADER_LEN, SegmentHeader};
use super::{BLOCK_BYTES, RunCrc, index};
use bytes::Bytes;
use crc_fast::crc32_iscsi;
use protocol::records::BatchHeader;
use std::collections::HashMap;
use vocabulary::{LeaderEpoch, Offset, Partition, SegmentName, Timestamp};

/// A segment ready to be written: the chunks, one behind the other, are its bytes.
#[derive(Debug, Clone)]
pub struct EncodedSegment {
    /// Header, payload as it was pushed, then index and footer.
    pub chunks: Vec<Bytes>,
    pub length: u64,
    pub index: SegmentIndex,
}

impl EncodedSegment {
    /// Bytes from the start of the segment at which a pushed batch starts, and how many there are.
    pub fn place(&self, slot: Slot) -> (u64, u32) {
        let run = &self.index.runs[slot.run as usize];
        let batch = &run.batches[slot.batch as usize];
        (run.position + batch.position, batch.length)
    }
}

/// Where a batch was put; [`EncodedSegment::place`] tells its bytes once everything is pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    run: u32,
    batch: u32,
}

/// Collects batches of any partitions in any order, as long as each partition's are in order.
#[derive(Debug)]
pub struct SegmentBuilder {
    name: SegmentName,
    stamp: u64,
    runs: Vec<OpenRun>,
    by_partition: HashMap<(Partition, LeaderEpoch), u32>,
    payload_bytes: u64,
    chunk_count: usize,
}

#[derive(Debug)]
struct OpenRun {
    entry: RunEntry,
    chunks: Vec<Bytes>,
    crc: RunCrc,
}

impl SegmentBuilder {
    pub fn new(name: SegmentName) -> SegmentBuilder {
        SegmentBuilder {
            name,
            stamp: 0,
            runs: Vec::new(),
            by_partition: HashMap::new(),
            payload_bytes: 0,
            chunk_count: 0,
        }
    }

    /// Marks the segment as written by this process; see the format.
    pub fn stamped(self, stamp: u64) -> SegmentBuilder {
        SegmentBuilder { stamp, ..self }
    }

    /// Bytes of batches pushed so far.
    pub fn payload_bytes(&self) -> u64 {
        self.payload_bytes
    }

    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Adds one whole batch, `header` being the decoded form of its first bytes.
    ///
    /// # Panics
    ///
    /// If the batch does not start where its partition's run ends, or is not `header`'s batch.
    pub fn push(
        &mut self,
        partition: Partition,
        leader_epoch: LeaderEpoch,
        header: &BatchHeader,
        bytes: Bytes,
    ) -> Slot {
        self.push_marked(partition, leader_epoch, header, None, bytes)
    }

    /// As [`SegmentBuilder::push`], of a batch that may be a marker (A8).
    pub fn push_marked(
        &mut self,
        partition: Partition,
        leader_epoch: LeaderEpoch,
        header: &BatchHeader,
        marker: Option<MarkerEntry>,
        bytes: Bytes,
    ) -> Slot {
        let run = (partition, leader_epoch);
        self.put(run, header, marker, bytes, |crc, bytes| crc.update(bytes))
    }

    /// As [`SegmentBuilder::push_marked`], of a batch whose checksum is known to hold: a large one's bytes are
    /// not looked at again.
    pub(crate) fn push_checked(
        &mut self,
        partition: Partition,
        leader_epoch: LeaderEpoch,
        header: &BatchHeader,
        marker: Option<MarkerEntry>,
        bytes: Bytes,
    ) -> Slot {
        let run = (partition, leader_epoch);
        self.put(run, header, marker, bytes, |crc, bytes| crc.update_checked(header, bytes))
    }

    fn put(
        &mut self,
        (partition, leader_epoch): (Partition, LeaderEpoch),
        header: &BatchHeader,
        marker: Option<MarkerEntry>,
        bytes: Bytes,
        add_to: impl FnOnce(&mut RunCrc, &[u8]),
    ) -> Slot {
        assert_eq!(header.byte_length(), bytes.len(), "{partition}: header and batch differ");
        assert!(0 <= header.base_offset.0 && 0 <= header.last_offset_delta, "{partition}: offsets");
        let length = u32::try_from(bytes.len()).expect("a batch's length is a 31-bit field");
        let index = self.run_of(partition, leader_epoch, header.base_offset);
        let run = &mut self.runs[index as usize];
        let batch = BatchEntry::of(header, marker, run.entry.length, length);
        assert_eq!(run.entry.end, batch.base_offset, "{partition}: a run is contiguous (A3)");
        let slot = Slot { run: index, batch: run.entry.batches.len() as u32 };
        add_to(&mut run.crc, &bytes);
        run.add(batch, bytes);
        self.payload_bytes += u64::from(length);
        self.chunk_count += 1;
        slot
    }

    /// Adds the producer state as of the end of what is pushed of `partition`, to its last run.
    ///
    /// # Panics
    ///
    /// If nothing of the partition was pushed.
    pub fn attach_producers(&mut self, partition: Partition, snapshot: Bytes) {
        let run = self.runs.iter_mut().rev().find(|it| it.entry.partition == partition);
        let run = run.unwrap_or_else(|| panic!("{partition}: producers without a run"));
        run.entry.producers = Some(snapshot);
    }

    pub fn finish(self) -> EncodedSegment {
        let mut chunks = Vec::with_capacity(self.chunk_count + 2);
        chunks.push(Bytes::new()); // The header, known last.
        let mut runs = Vec::with_capacity(self.runs.len());
        let mut position = HEADER_LEN as u64;
        for mut run in self.runs {
            run.entry.position = position;
            run.entry.crc = run.crc.finish();
            position += run.entry.length;
            chunks.append(&mut run.chunks);
            runs.push(run.entry);
        }
        let mut end = Vec::new();
        let index_length = index::encode(&mut end, self.name, &runs);
        let length = position + index_length + FOOTER_LEN as u64;
        let footer = Footer { index_length, length, index_crc: crc32_iscsi(&end) };
        end.extend_from_slice(&footer.encode());
        let header = SegmentHeader { name: self.name, length, index_length, stamp: self.stamp };
        chunks[0] = Bytes::copy_from_slice(&header.encode());
        chunks.push(Bytes::from(end));
        EncodedSegment { chunks, length, index: SegmentIndex { name: self.name, length, runs } }
    }

    fn run_of(&mut self, partition: Partition, leader_epoch: LeaderEpoch, base: Offset) -> u32 {
        if let Some(last) = self.runs.last()
            && (last.entry.partition, last.entry.leader_epoch) == (partition, leader_epoch)
        {
            return self.runs.len() as u32 - 1; // Flushes push partition by partition.
        }
        let runs = &mut self.runs;
        *self.by_partition.entry((partition, leader_epoch)).or_insert_with(|| {
            runs.push(OpenRun::new(partition, leader_epoch, base));
            runs.len() as u32 - 1
        })
    }
}

impl OpenRun {
    fn new(partition: Partition, leader_epoch: LeaderEpoch, base: Offset) -> OpenRun {
        let entry = RunEntry {
            partition,
            leader_epoch,
            base,
            end: base,
            max_timestamp: Timestamp::NONE,
            position: 0,
            length: 0,
            crc: 0,
            blocks: Vec::new(),
            batches: Vec::new(),
            producers: None,
        };
        OpenRun { entry, chunks: Vec::new(), crc: RunCrc::new() }
    }

    fn add(&mut self, batch: BatchEntry, bytes: Bytes) {
        self.chunks.push(bytes);
        let run = &mut self.entry;
        run.end = batch.end_offset();
        run.max_timestamp = run.max_timestamp.max(batch.max_timestamp);
        match run.blocks.last_mut() {
            Some(block) if run.length - block.position < BLOCK_BYTES => {
                block.max_timestamp = block.max_timestamp.max(batch.max_timestamp);
            }
            _ => run.blocks.push(BlockEntry {
                offset: batch.base_offset,
                max_timestamp: Timestamp::NONE.max(batch.max_timestamp),
                position: run.length,
            }),
        }
        run.length += u64::from(batch.length);
        run.batches.push(batch);
    }
}
