//! Which bytes of which segments are read together. Pure.
//!
//! Owns: cutting parts into pieces, joining pieces to reads, cutting reads into pieces again.
//! Does not own: reading.
//!
//! Flushes and merges lay partitions out in one order, so what a job needs of a segment is one range
//! as a rule, and a read costs no more than its bytes. In WAL segments it is scattered: gaps are read,
//! too, where a request of its own would cost more, and then let go.

use crate::segment::RunEntry;
use bytes::Bytes;
use std::ops::Range;
use vocabulary::SegmentName;

/// A gap up to this is read: on stores that bill requests and not bytes, it is cheaper.
const GAP_BYTES_MAX: u64 = 512 * 1024;

/// A part of a run, or some of it; numbered in the order of the merged segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    segment: SegmentName,
    range: Range<u64>,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Read {
    pub(super) segment: SegmentName,
    pub(super) range: Range<u64>,
    /// Numbers of pieces that lie in it.
    pieces: Vec<usize>,
}

/// The parts, none of which exceeds `bytes_max` any more.
pub(super) fn pieces<'a>(
    parts: impl Iterator<Item = (SegmentName, &'a RunEntry)>,
    bytes_max: u64,
) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for (segment, part) in parts {
        let (mut start, end) = (part.position, part.position + part.length);
        while start < end {
            let range = start..end.min(start + bytes_max);
            start = range.end;
            pieces.push(Piece { segment, range });
        }
    }
    pieces
}

/// The requests for all pieces.
pub(super) fn reads(pieces: &[Piece], bytes_max: u64) -> Vec<Read> {
    let mut order: Vec<usize> = (0..pieces.len()).collect();
    order.sort_by_key(|it| (pieces[*it].segment, pieces[*it].range.start));
    let mut reads: Vec<Read> = Vec::new();
    for number in order {
        let Piece { segment, range } = &pieces[number];
        if let Some(last) = reads.last_mut()
            && last.segment == *segment
            && range.start <= last.range.end + GAP_BYTES_MAX
            && range.end - last.range.start <= bytes_max
        {
            last.range.end = last.range.end.max(range.end);
            last.pieces.push(number);
            continue;
        }
        let (segment, range) = (*segment, range.clone());
        reads.push(Read { segment, range, pieces: vec![number] });
    }
    reads
}

impl Read {
    /// A request for one piece.
    pub(super) fn of(piece: &Piece) -> Read {
        Read { segment: piece.segment, range: piece.range.clone(), pieces: Vec::new() }
    }

    /// The pieces of what was read, by number. They keep the whole of it in memory only if most of it
    /// is theirs.
    pub(super) fn cut<'a>(
        &'a self,
        pieces: &'a [Piece],
        bytes: &'a Bytes,
    ) -> impl Iterator<Item = (usize, Bytes)> + 'a {
        let wanted: u64 = self.pieces.iter().map(|it| length(&pieces[*it].range)).sum();
        let is_mostly_wanted = length(&self.range) / 8 * 7 <= wanted;
        self.pieces.iter().map(move |number| {
            let range = &pieces[*number].range;
            let start = (range.start - self.range.start) as usize; // Within a read in memory.
            let piece = bytes.slice(start..start + length(range) as usize);
            match is_mostly_wanted {
                true => (*number, piece),
                false => (*number, Bytes::copy_from_slice(&piece)),
            }
        })
    }
}

fn length(range: &Range<u64>) -> u64 {
    range.end - range.start
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn piece(segment: u128, start: u64, end: u64) -> Piece {
        Piece { segment: SegmentName::data(segment), range: start..end }
    }

    #[test]
    fn neighbours_are_read_together_and_what_is_far_apart_is_not() {
        let pieces = [
            piece(2, 64, 100),
            piece(1, 64, 100),
            piece(1, 1_000_000, 1_000_100),
            piece(2, 100, 300),
            piece(1, 150, 200),
        ];
        let reads = reads(&pieces, 4 << 20);
        let shown: Vec<_> = reads.iter().map(|it| (it.range.clone(), it.pieces.clone())).collect();
        let expected =
            [(64..200, vec![1, 4]), (1_000_000..1_000_100, vec![2]), (64..300, vec![0, 3])];
        assert_eq!(shown, expected);
    }

    proptest! {
        #[test]
        fn every_piece_is_read_once_within_the_limit(
            spans in prop::collection::vec((0u128..3, 0u64..4_000_000, 1u64..1_000), 1..60),
        ) {
            let pieces: Vec<Piece> =
                spans.iter().map(|(id, start, length)| piece(*id, *start, start + length)).collect();
            let mut seen = vec![0; pieces.len()];
            for read in reads(&pieces, 1 << 20) {
                prop_assert!(length(&read.range) <= 1 << 20);
                let bytes = Bytes::from_iter(read.range.clone().map(|at| at as u8));
                for (number, bytes) in read.cut(&pieces, &bytes) {
                    seen[number] += 1;
                    let expected = pieces[number].range.clone().map(|at| at as u8);
                    prop_assert_eq!(pieces[number].segment, read.segment);
                    prop_assert!(expected.eq(bytes));
                }
            }
            prop_assert!(seen.into_iter().all(|it| it == 1));
        }
    }
}
