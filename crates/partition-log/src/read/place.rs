//! A run cut into spans: the unit that is loaded, checked and cached. Pure.
//!
//! Owns: which blocks are a span. Does not own: loading them (`loads`).
//!
//! The cut depends on the run's index only, so everybody who reads the run cuts it alike.

use super::reader::RunHandle;
use super::spans::SpanKey;
use crate::segment::BLOCK_BYTES;
use std::ops::Range;
use vocabulary::SegmentName;

/// About what a span has: some blocks of about 256 KiB, fewer where batches make them longer. Larger:
/// fewer requests, more read in vain by point reads.
const SPAN_BYTES: u64 = 1024 * 1024;

/// One run and where it lies: what spans are counted in.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) segment: SegmentName,
    pub(super) run: RunHandle,
}

impl Place {
    pub(super) fn spans(&self) -> u32 {
        self.run.blocks.len().div_ceil(self.span_blocks()) as u32
    }

    fn span_blocks(&self) -> usize {
        let blocks = self.run.blocks.len() as u64;
        // A long block at the end does not make all the others a span each.
        let usual = (self.run.length / blocks.max(1)).max(BLOCK_BYTES);
        ((SPAN_BYTES + usual / 2) / usual).max(1) as usize
    }

    /// The number of the span that holds the byte at `position` of the run.
    pub(super) fn span_at(&self, position: u64) -> u32 {
        let after = self.run.blocks.partition_point(|it| it.position <= position);
        (after.saturating_sub(1) / self.span_blocks()) as u32
    }

    /// The bytes of a span, counted from the start of the run.
    pub(super) fn span_bytes(&self, number: u32) -> Range<u64> {
        let first = number as usize * self.span_blocks();
        let start = self.run.blocks.get(first).map_or(0, |it| it.position);
        let next = self.run.blocks.get(first + self.span_blocks());
        start..next.map_or(self.run.length, |it| it.position)
    }

    pub(super) fn key(&self, number: u32) -> SpanKey {
        let span = self.span_bytes(number);
        let position = self.run.position + span.start;
        SpanKey { segment: self.segment, position, length: span.end - span.start }
    }
}
