//! A part of a run: some of its whole batches, described as a run of its own.
//!
//! Owns: cutting an entry so that S2 and S3 hold for the part. Does not own: who refers to parts: a
//! dead log's run of which the front was flushed before its writer died (`wal::adoption`).

use super::BLOCK_BYTES;
use super::entry::{BatchEntry, BlockEntry, RunEntry};
use vocabulary::{Offset, Timestamp};

impl RunEntry {
    /// The batches of `[base, end)` where they lie. `None` unless both are where a batch starts and
    /// ends and some batch lies between. The checksum is zero: it is not known without the bytes.
    pub fn part(&self, base: Offset, end: Offset) -> Option<RunEntry> {
        if base < self.base || self.end < end {
            return None;
        }
        let first = self.batches.partition_point(|it| it.base_offset < base);
        let after = self.batches.partition_point(|it| it.base_offset < end);
        let kept = self.batches.get(first..after).filter(|it| !it.is_empty())?;
        let before = first.checked_sub(1).map(|it| &self.batches[it]);
        let cuts = |batch: &BatchEntry, at: Offset| at < batch.end_offset();
        if before.is_some_and(|it| cuts(it, base)) || cuts(&kept[kept.len() - 1], end) {
            return None;
        }
        let start = kept[0].position;
        let moved = |it: &BatchEntry| BatchEntry { position: it.position - start, ..*it };
        let batches: Vec<_> = kept.iter().map(moved).collect();
        let greatest = batches.iter().map(|it| it.max_timestamp).max();
        Some(RunEntry {
            partition: self.partition,
            leader_epoch: self.leader_epoch,
            base,
            end,
            max_timestamp: greatest.unwrap_or(Timestamp::NONE).max(Timestamp::NONE),
            position: self.position + start,
            length: batches.iter().map(|it| u64::from(it.length)).sum(),
            crc: 0,
            blocks: blocks_of(&batches),
            batches,
            producers: self.producers.clone().filter(|_| end == self.end),
        })
    }
}

/// The block table of batches that tile a run.
pub(super) fn blocks_of(batches: &[BatchEntry]) -> Vec<BlockEntry> {
    let mut blocks: Vec<BlockEntry> = Vec::new();
    for batch in batches {
        match blocks.last_mut() {
            Some(block) if batch.position - block.position < BLOCK_BYTES => {
                block.max_timestamp = block.max_timestamp.max(batch.max_timestamp);
            }
            _ => blocks.push(BlockEntry {
                offset: batch.base_offset,
                max_timestamp: Timestamp::NONE.max(batch.max_timestamp),
                position: batch.position,
            }),
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::SegmentBuilder;
    use bytes::Bytes;
    use protocol::records::{Attributes, BATCH_HEADER_LEN, BatchHeader};
    use vocabulary::{LeaderEpoch, Partition, SegmentName, TopicId};

    /// Batches of two records and `payload` bytes each from offset 10 on.
    fn run(count: i64, payload: usize) -> RunEntry {
        let mut builder = SegmentBuilder::new(SegmentName::data(1));
        let partition = Partition { topic: TopicId([7; 16]), index: 0 };
        for index in 0..count {
            let header = BatchHeader {
                base_offset: Offset(10 + 2 * index),
                length: (BATCH_HEADER_LEN - 12 + payload) as i32,
                leader_epoch: 0,
                magic: 2,
                crc: 0,
                attributes: Attributes(0),
                last_offset_delta: 1,
                base_timestamp: Timestamp(1000),
                max_timestamp: Timestamp(1000 + index),
                producer_id: -1,
                producer_epoch: -1,
                base_sequence: -1,
                record_count: 2,
            };
            let mut bytes = header.encode().to_vec();
            bytes.resize(BATCH_HEADER_LEN + payload, index as u8);
            builder.push(partition, LeaderEpoch(3), &header, Bytes::from(bytes));
        }
        builder.attach_producers(partition, Bytes::from_static(b"snapshot"));
        builder.finish().index.runs.remove(0)
    }

    #[test]
    fn a_part_lies_where_its_batches_do() {
        let whole = run(5, 100);
        let length = (BATCH_HEADER_LEN + 100) as u64;
        let part = whole.part(Offset(14), Offset(18)).expect("two whole batches");
        assert_eq!((part.position, part.length), (whole.position + 2 * length, 2 * length));
        assert_eq!((part.base, part.end, part.batches.len()), (Offset(14), Offset(18), 2));
        assert_eq!((part.max_timestamp, part.leader_epoch), (Timestamp(1003), LeaderEpoch(3)));
        assert_eq!((part.batches[1].position, part.blocks.len()), (length, 1));
        assert_eq!(part.producers, None, "they are as of the end of the whole");
        let rest = whole.part(Offset(14), Offset(20)).expect("three whole batches");
        assert_eq!(rest.producers, whole.producers);
        assert_eq!(whole.part(Offset(10), Offset(20)), Some(RunEntry { crc: 0, ..whole }));
    }

    #[test]
    fn what_cuts_a_batch_or_leaves_the_run_is_no_part() {
        let whole = run(5, 100);
        for (base, end) in [(11, 20), (10, 19), (8, 20), (10, 22), (14, 14), (20, 20), (16, 12)] {
            assert_eq!(whole.part(Offset(base), Offset(end)), None, "{base} to {end}");
        }
    }

    #[test]
    fn a_part_has_the_blocks_that_a_run_of_its_batches_would_have() {
        let whole = run(9, 100_000);
        let (part, like) = (whole.part(Offset(12), Offset(28)).expect("eight"), run(8, 100_000));
        let positions = |it: &RunEntry| it.blocks.iter().map(|b| b.position).collect::<Vec<_>>();
        assert_eq!(positions(&part), positions(&like));
        assert_eq!(part.blocks[1].offset, Offset(18));
    }
}
