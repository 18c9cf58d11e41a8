//! Reading back what this log wrote: in blocks, so that neighbours come with one GET.
//!
//! Owns: the cache of blocks, single flight. Does not own: which segments may be read (`bucket_wal`).
//!
//! A WAL segment holds a little of many partitions. Whoever lost its tail from memory, flush or slow
//! reader, asks for one partition's piece at a time; without this each piece would be a request.

use crate::segment::segment_key;
use bucket::{Bucket, BucketError, Purpose};
use bytes::{Bytes, BytesMut};
use quick_cache::sync::Cache;
use std::ops::Range;
use std::sync::Arc;
use vocabulary::SegmentName;

/// What is read and kept together. Larger: fewer GETs, more read in vain.
const BLOCK_BYTES: u64 = 1 << 20;

/// A range of more blocks than this is read by itself and not kept.
const BLOCKS_JOINED_MAX: u64 = 2;

#[derive(Clone)]
struct BlockWeight;

impl quick_cache::Weighter<(SegmentName, u64), Bytes> for BlockWeight {
    fn weight(&self, _: &(SegmentName, u64), bytes: &Bytes) -> u64 {
        bytes.len() as u64 + 128
    }
}

pub(super) struct Window {
    bucket: Arc<dyn Bucket>,
    blocks: Cache<(SegmentName, u64), Bytes, BlockWeight>,
}

impl Window {
    pub(super) fn new(bucket: Arc<dyn Bucket>, bytes_max: u64) -> Window {
        let blocks_max = usize::try_from(bytes_max / BLOCK_BYTES).unwrap_or(1).max(1);
        Window { bucket, blocks: Cache::with_weighter(blocks_max, bytes_max, BlockWeight) }
    }

    /// `range` of a segment of `length` bytes, which holds it.
    pub(super) async fn read(
        &self,
        name: SegmentName,
        range: Range<u64>,
        length: u64,
    ) -> Result<Bytes, BucketError> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let (first, last) = (range.start / BLOCK_BYTES, (range.end - 1) / BLOCK_BYTES);
        if BLOCKS_JOINED_MAX < last - first + 1 {
            return self.bucket.get(&segment_key(name), range, Purpose::ReadTail).await;
        }
        let mut joined = BytesMut::new();
        for number in first..=last {
            let block = self.block(name, number, length).await?;
            let start = number * BLOCK_BYTES;
            let from = (range.start.max(start) - start) as usize;
            let to = (range.end - start).min(block.len() as u64) as usize;
            if first == last {
                // A small slice would keep all of the block alive, whatever the cache lets go.
                let is_most = block.len() <= 2 * (to - from);
                let part = block.slice(from..to);
                return Ok(if is_most { part } else { Bytes::copy_from_slice(&part) });
            }
            joined.extend_from_slice(&block[from..to]);
        }
        Ok(joined.freeze())
    }

    async fn block(
        &self,
        name: SegmentName,
        number: u64,
        length: u64,
    ) -> Result<Bytes, BucketError> {
        let start = number * BLOCK_BYTES;
        let range = start..(start + BLOCK_BYTES).min(length);
        let key = segment_key(name);
        let load = self.bucket.get(&key, range, Purpose::ReadTail);
        self.blocks.get_or_insert_async(&(name, number), load).await
    }
}
