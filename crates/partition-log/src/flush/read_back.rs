//! What memory let go of, read back from the WAL for the segment that is to have it.
//!
//! Owns: which pieces come with one read, in what order, how much of it is in memory, checking that they
//! are what was acknowledged. Does not own: what the segment holds (`flush`), the backends' reading.
//!
//! A WAL segment holds a little of many partitions, a data segment much of some. Asked for partition by
//! partition, each WAL segment would be read once for each of them: over a bucket, a request each. So the
//! pieces of all partitions of one data segment are put in the order in which the WAL has them, neighbours
//! are read together, over small gaps too, and several at once.
//!
//! Memory: besides the pieces themselves, [`READS_AT_ONCE`] times [`READ_BYTES_MAX`]. A read that brought
//! much that nobody wants is not kept alive by the pieces in it: they are copied out.

use super::upload::FlushError;
use crate::engine::Shared;
use crate::log::{FlushPart, Piece, TailEntry};
use crate::wal::{WalError, WalPlace};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use protocol::records::{BatchHeader, check_crc};
use vocabulary::LeaderEpoch;

/// One read of several pieces stops before it exceeds this, in bytes; a single batch may be longer.
/// Larger: fewer requests, more memory.
const READ_BYTES_MAX: u64 = 4 << 20;

/// Between two pieces of one read lies at most this, in bytes, which is read in vain. Larger: fewer
/// requests, more read in vain.
const GAP_BYTES_MAX: u64 = 64 << 10;

/// Reads under way for one data segment.
const READS_AT_ONCE: usize = 4;

/// A disk may misread once; twice, and the bytes are taken for lost.
const TRIES_MAX: usize = 2;

/// As they were acknowledged, in offset order.
pub(super) type Batches = Vec<(LeaderEpoch, BatchHeader, Bytes)>;

/// A batch that is not in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wanted {
    place: WalPlace,
    /// Its part, and where in it.
    part: usize,
    at: usize,
}

/// Pieces that come together, in the order of the WAL.
#[derive(Debug, PartialEq, Eq)]
struct Read {
    place: WalPlace,
    pieces: Vec<Wanted>,
}

type Checked = Option<(BatchHeader, Bytes)>;

/// The batches of each part. `None` for a part of which the WAL has something else in its place (A6).
pub(super) async fn batches_of(
    shared: &Shared,
    parts: &[FlushPart],
) -> Result<Vec<Option<Batches>>, FlushError> {
    let mut found: Vec<Vec<Checked>> =
        parts.iter().map(|part| vec![None; part.entries.len()]).collect();
    let mut wanted = Vec::new();
    for (part, entries) in parts.iter().map(|it| &it.entries).enumerate() {
        for (at, entry) in entries.iter().enumerate() {
            match entry.piece() {
                Piece::Memory(bytes) => {
                    let header =
                        BatchHeader::parse(&bytes).expect("what was appended has a header");
                    assert_eq!(header.base_offset, entry.batch.base_offset, "A2: as stamped");
                    found[part][at] = Some((header, bytes));
                }
                Piece::Wal(place) => wanted.push(Wanted { place, part, at }),
            }
        }
    }
    let reads = futures::stream::iter(together(wanted))
        .map(|read| pieces_of(shared, parts, read))
        .buffer_unordered(READS_AT_ONCE);
    let mut reads = std::pin::pin!(reads);
    while let Some(pieces) = reads.try_next().await? {
        for (it, piece) in pieces {
            found[it.part][it.at] = piece;
        }
    }
    let whole = |(part, found): (&FlushPart, Vec<Checked>)| -> Option<Batches> {
        let epochs = part.entries.iter().map(|it| it.leader_epoch);
        let batches = epochs.zip(found);
        batches.map(|(epoch, it)| it.map(|(header, bytes)| (epoch, header, bytes))).collect()
    };
    Ok(parts.iter().zip(found).map(whole).collect())
}

/// The reads that bring all of it.
fn together(mut wanted: Vec<Wanted>) -> Vec<Read> {
    wanted.sort_unstable_by_key(|it| (it.place.sequence, it.place.position));
    let mut reads: Vec<Read> = Vec::new();
    for it in wanted {
        let end = it.place.position + u64::from(it.place.length);
        if let Some(read) = reads.last_mut() {
            let read_end = read.place.position + u64::from(read.place.length);
            let gap = it.place.position.checked_sub(read_end);
            let is_near = gap.is_some_and(|it| it <= GAP_BYTES_MAX);
            let length = end.saturating_sub(read.place.position);
            if read.place.sequence == it.place.sequence && is_near && length <= READ_BYTES_MAX {
                read.place.length = length as u32; // At most 4 MiB.
                read.pieces.push(it);
                continue;
            }
        }
        reads.push(Read { place: it.place, pieces: vec![it] });
    }
    reads
}

/// The pieces of one read; without bytes those that are not what was written, however often it is read.
async fn pieces_of(
    shared: &Shared,
    parts: &[FlushPart],
    read: Read,
) -> Result<Vec<(Wanted, Checked)>, WalError> {
    let mut pieces = Vec::new();
    for _ in 0..TRIES_MAX {
        let bytes = shared.wal.read(read.place).await?;
        let useful: u64 = read.pieces.iter().map(|it| u64::from(it.place.length)).sum();
        let is_mostly_useful = bytes.len() as u64 <= 2 * useful;
        let piece = |it: &Wanted| {
            let start = usize::try_from(it.place.position - read.place.position).ok()?;
            let end = start.checked_add(it.place.length as usize)?;
            let part = bytes.get(start..end)?;
            let header = checked(part, &parts[it.part].entries[it.at])?;
            let kept =
                if is_mostly_useful { bytes.slice(start..end) } else { part.to_vec().into() };
            Some((header, kept))
        };
        pieces = read.pieces.iter().map(|it| (*it, piece(it))).collect();
        if pieces.iter().all(|(_, it)| it.is_some()) {
            break;
        }
        shared.metrics.corrupt_reads.inc();
    }
    Ok(pieces)
}

/// The header of the batch, if it is the one that was acknowledged.
fn checked(bytes: &[u8], entry: &TailEntry) -> Option<BatchHeader> {
    check_crc(bytes).ok()?;
    let header = BatchHeader::parse(bytes).ok()?;
    (header.base_offset == entry.batch.base_offset).then_some(header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wanted_at(sequence: u64, position: u64, length: u32) -> Wanted {
        Wanted { place: WalPlace { sequence, position, length }, part: 0, at: 0 }
    }

    fn shown(pieces: &[(u64, u64, u32)]) -> Vec<(u64, u64, u32, usize)> {
        let wanted = pieces
            .iter()
            .map(|(sequence, position, length)| wanted_at(*sequence, *position, *length));
        let shown = |it: Read| {
            let WalPlace { sequence, position, length } = it.place;
            (sequence, position, length, it.pieces.len())
        };
        together(wanted.collect()).into_iter().map(shown).collect()
    }

    #[test]
    fn neighbours_come_together_whoever_they_belong_to() {
        assert_eq!(
            shown(&[(1, 200, 50), (2, 64, 10), (1, 100, 100)]),
            [(1, 100, 150, 2), (2, 64, 10, 1)]
        );
        let near = 300 + GAP_BYTES_MAX;
        assert_eq!(shown(&[(1, 100, 200), (1, near, 5)]), [(1, 100, 205 + near as u32 - 300, 2)]);
        assert_eq!(shown(&[(1, 100, 200), (1, near + 1, 5)]).len(), 2, "too much between them");
        let half = READ_BYTES_MAX as u32 / 2;
        let halves = [(1, 0, half), (1, u64::from(half), half), (1, READ_BYTES_MAX, 1)];
        assert_eq!(shown(&halves), [(1, 0, 2 * half, 2), (1, READ_BYTES_MAX, 1, 1)]);
        assert_eq!(
            shown(&[(1, 0, 3 * half)]),
            [(1, 0, 3 * half, 1)],
            "one batch, whatever its size"
        );
    }

    proptest! {
        #[test]
        fn every_piece_is_in_one_read_within_the_limits(
            pieces in prop::collection::vec((0u64..3, 0u64..200, 1u32..40), 0..60),
        ) {
            // Of one WAL segment, pieces do not overlap: each slot of 40 KiB has one.
            let all: std::collections::BTreeSet<_> = pieces.iter().map(|it| (it.0, it.1)).collect();
            let wanted: Vec<Wanted> = all
                .iter()
                .zip(&pieces)
                .map(|((sequence, slot), it)| wanted_at(*sequence, slot * 40 * 1024, it.2 * 1024))
                .collect();
            let reads = together(wanted.clone());
            let mut seen: Vec<Wanted> = reads.iter().flat_map(|it| it.pieces.clone()).collect();
            seen.sort_unstable_by_key(|it| (it.place.sequence, it.place.position));
            prop_assert_eq!(seen, wanted);
            for read in reads {
                prop_assert!(u64::from(read.place.length) <= READ_BYTES_MAX);
                let end = read.place.position + u64::from(read.place.length);
                for it in &read.pieces {
                    prop_assert_eq!(it.place.sequence, read.place.sequence);
                    prop_assert!(read.place.position <= it.place.position);
                    prop_assert!(it.place.position + u64::from(it.place.length) <= end);
                }
            }
        }
    }
}
