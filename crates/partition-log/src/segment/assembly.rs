//! A segment made of runs that exist already: what surrounds their bytes, without the bytes.
//!
//! Owns: joining runs to one, the positions of runs in a segment, its header, index and footer.
//! Does not own: the payload, which streams by and is checksummed by whoever moves it.
//!
//! The header comes first and says how long the index is. The index holds checksums that are known
//! only after the payload; they take the same room whatever they are, so the length is known before.

use super::entry::{BatchEntry, RunEntry, SegmentIndex};
use super::frame::{FOOTER_LEN, Footer, HEADER_LEN, SegmentHeader};
use super::index;
use super::part::blocks_of;
use bytes::Bytes;
use crc_fast::crc32_iscsi;
use vocabulary::{LeaderEpoch, Offset, Partition, SegmentName, Timestamp};

/// A segment whose payload is still to come.
#[derive(Debug)]
pub(crate) struct Assembly {
    name: SegmentName,
    /// With their positions; checksums of zero until they are known.
    runs: Vec<RunEntry>,
    index_length: u64,
}

impl Assembly {
    /// `runs` in the order of their bytes.
    pub(crate) fn new(name: SegmentName, mut runs: Vec<RunEntry>) -> Assembly {
        let mut position = HEADER_LEN as u64;
        for run in &mut runs {
            run.position = position;
            run.crc = 0;
            position += run.length;
        }
        let index_length = index::encode(&mut Vec::new(), name, &runs);
        Assembly { name, runs, index_length }
    }

    /// The same runs under another name.
    pub(crate) fn renamed(self, name: SegmentName) -> Assembly {
        Assembly::new(name, self.runs)
    }

    pub(crate) fn name(&self) -> SegmentName {
        self.name
    }

    pub(crate) fn payload_bytes(&self) -> u64 {
        self.runs.iter().map(|it| it.length).sum()
    }

    /// Of the whole segment, in bytes.
    pub(crate) fn length(&self) -> u64 {
        HEADER_LEN as u64 + self.payload_bytes() + self.index_length + FOOTER_LEN as u64
    }

    /// What comes before the payload.
    pub(crate) fn header(&self) -> Bytes {
        let (name, length, index_length) = (self.name, self.length(), self.index_length);
        let header = SegmentHeader { name, length, index_length, stamp: 0 };
        Bytes::copy_from_slice(&header.encode())
    }

    /// What comes behind the payload, given the checksum of each run's bytes.
    pub(crate) fn end(&self, crcs: &[u32]) -> (Bytes, SegmentIndex) {
        assert_eq!(crcs.len(), self.runs.len(), "a checksum for each run");
        let length = self.length();
        let mut runs = self.runs.clone();
        for (run, crc) in runs.iter_mut().zip(crcs) {
            run.crc = *crc;
        }
        let mut end = Vec::new();
        let index_length = index::encode(&mut end, self.name, &runs);
        assert_eq!(index_length, self.index_length, "a checksum has a fixed width");
        let footer = Footer { index_length, length, index_crc: crc32_iscsi(&end) };
        end.extend_from_slice(&footer.encode());
        (Bytes::from(end), SegmentIndex { name: self.name, length, runs })
    }
}

impl RunEntry {
    /// One run of several that follow each other, with their bytes one behind the other. Its position
    /// and checksum are zero: they are not known yet. Producers are the caller's to add.
    ///
    /// # Panics
    ///
    /// If there are none, or they are not neighbours of one partition and leader epoch (A3).
    pub(crate) fn joined(parts: &[RunEntry]) -> RunEntry {
        let (first, last) = (&parts[0], &parts[parts.len() - 1]);
        let mut batches = Vec::with_capacity(parts.iter().map(|it| it.batches.len()).sum());
        let (mut length, mut end) = (0, first.base);
        for part in parts {
            let is_next = part.base == end
                && (part.partition, part.leader_epoch) == (first.partition, first.leader_epoch);
            assert!(is_next, "A3: {} does not go on at {end}", part.partition);
            batches.extend(
                part.batches.iter().map(|it| BatchEntry { position: length + it.position, ..*it }),
            );
            length += part.length;
            end = part.end;
        }
        let greatest = parts.iter().map(|it| it.max_timestamp).max();
        RunEntry {
            partition: first.partition,
            leader_epoch: first.leader_epoch,
            base: first.base,
            end: last.end,
            max_timestamp: greatest.unwrap_or(Timestamp::NONE),
            position: 0,
            length,
            crc: 0,
            blocks: blocks_of(&batches),
            batches,
            producers: None,
        }
    }

    /// A run of `[base, end)` with these batches, in order and one behind the other, which need not
    /// fill it. Position and checksum are zero: they are not known yet.
    pub(crate) fn of_batches(
        (partition, leader_epoch): (Partition, LeaderEpoch),
        (base, end): (Offset, Offset),
        batches: Vec<BatchEntry>,
    ) -> RunEntry {
        // A batch without records keeps its time only where nothing else has one: for retention.
        let with_records = batches.iter().filter(|it| 0 < it.record_count);
        let greatest = with_records.map(|it| it.max_timestamp).max();
        let greatest = greatest.or(batches.iter().map(|it| it.max_timestamp).max());
        RunEntry {
            partition,
            leader_epoch,
            base,
            end,
            max_timestamp: greatest.unwrap_or(Timestamp::NONE),
            position: 0,
            length: batches.iter().map(|it| u64::from(it.length)).sum(),
            crc: 0,
            blocks: blocks_of(&batches),
            batches,
            producers: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::{EncodedSegment, IndexRead, SegmentBuilder, read_index};
    use protocol::records::{Attributes, BATCH_HEADER_LEN, BatchHeader};
    use vocabulary::TopicId;

    fn partition(index: i32) -> Partition {
        Partition { topic: TopicId([7; 16]), index }
    }

    fn push(builder: &mut SegmentBuilder, index: i32, base: i64, payload: usize) {
        let header = BatchHeader {
            base_offset: Offset(base),
            length: (BATCH_HEADER_LEN - 12 + payload) as i32,
            leader_epoch: 3,
            magic: 2,
            crc: 0,
            attributes: Attributes(0),
            last_offset_delta: 1,
            base_timestamp: Timestamp(1000),
            max_timestamp: Timestamp(1000 + base),
            producer_id: 4,
            producer_epoch: 0,
            base_sequence: base as i32,
            record_count: 2,
        };
        let mut bytes = header.encode().to_vec();
        bytes.resize(BATCH_HEADER_LEN + payload, base as u8);
        builder.push(partition(index), LeaderEpoch(3), &header, Bytes::from(bytes));
    }

    /// Of `(partition, base)`, each a batch of two records and `payload` bytes.
    fn segment(id: u128, batches: &[(i32, i64)], payload: usize) -> EncodedSegment {
        let mut builder = SegmentBuilder::new(SegmentName::data(id));
        for (index, base) in batches {
            push(&mut builder, *index, *base, payload);
        }
        builder.finish()
    }

    fn payload(segment: &EncodedSegment) -> &[Bytes] {
        &segment.chunks[1..segment.chunks.len() - 1]
    }

    #[test]
    fn assembled_and_built_segments_are_the_same() {
        let first = segment(1, &[(0, 0), (0, 2), (1, 0)], 90_000);
        let second = segment(2, &[(0, 4), (0, 6), (0, 8), (1, 2)], 90_000);
        let together = [(0, 0), (0, 2), (0, 4), (0, 6), (0, 8), (1, 0), (1, 2)];
        let built = segment(3, &together, 90_000);
        let runs = [0, 1].map(|at| {
            RunEntry::joined(&[first.index.runs[at].clone(), second.index.runs[at].clone()])
        });
        let assembly = Assembly::new(SegmentName::data(9), runs.to_vec());
        let assembly = assembly.renamed(SegmentName::data(3));
        let crcs: Vec<u32> = built.index.runs.iter().map(|it| it.crc).collect();
        let (end, index) = assembly.end(&crcs);
        assert_eq!(index, built.index);
        assert_eq!(assembly.length(), built.length);
        assert_eq!(assembly.header(), built.chunks[0]);
        assert_eq!(Some(&end), built.chunks.last());
        let read = read_index(&end, built.length);
        assert_eq!(read, Ok(IndexRead::Index(built.index.clone())));
        let moved: u64 = payload(&built).iter().map(|it| it.len() as u64).sum();
        assert_eq!(assembly.payload_bytes(), moved);
    }

    #[test]
    #[should_panic(expected = "A3")]
    fn a_gap_is_never_joined() {
        let runs = segment(1, &[(0, 0)], 10).index.runs;
        let later = segment(2, &[(0, 4)], 10).index.runs;
        RunEntry::joined(&[runs[0].clone(), later[0].clone()]);
    }
}
