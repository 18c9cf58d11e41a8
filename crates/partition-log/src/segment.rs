//! The segment format: how runs of many partitions lie in one immutable object or WAL file.
//!
//! Owns: the bytes of a segment, building them without copying payload, reading them without
//! trusting them. Does not own: where segments are kept, what is committed, record bytes.
//!
//! # Format, version 2
//!
//! All fixed-width integers are little-endian. `varint` is an unsigned LEB128 of up to 64 bits in
//! its shortest form, `zigzag` the same over a zigzag-coded signed number. Every CRC is CRC-32C.
//!
//! ```text
//! segment = header (64) | runs | index | footer (40)
//! ```
//!
//! | header | bytes | content |
//! | --- | --- | --- |
//! | 0 | 8 | magic `AQUIFERS` |
//! | 8 | 2 | format version, 2 |
//! | 10 | 1 | kind: 1 WAL segment, 2 data segment |
//! | 11 | 1 | zero |
//! | 12 | 4 | WAL: broker id; data: zero |
//! | 16 | 8 | WAL: broker epoch; data: high half of the segment id |
//! | 24 | 8 | WAL: sequence; data: low half of the segment id |
//! | 32 | 8 | length of the whole segment |
//! | 40 | 8 | length of the index |
//! | 48 | 8 | stamp: a random number of the writing process, zero if it has none |
//! | 56 | 4 | zero |
//! | 60 | 4 | CRC of bytes 0 to 59 |
//!
//! The header carries both lengths, so a file of concatenated segments can be walked forwards; name
//! and stamp tell a segment of this log from old bytes and from payload that looks like one.
//!
//! Runs follow each other without gaps. A run is record batches exactly as producers sent them, but
//! for base offset and partition leader epoch, which lie outside of a batch's own CRC.
//!
//! | index | bytes | content |
//! | --- | --- | --- |
//! | 0 | 2 | format version, 2 |
//! | 2 | 22 | kind, zero, broker, epoch, sequence: as bytes 10 to 31 of the header |
//! | 24 | varint | number of runs |
//! | | | per run: |
//! | | 16 | topic id |
//! | | varint | partition index |
//! | | varint | leader epoch |
//! | | varint | base offset |
//! | | varint | end offset (exclusive) less base offset |
//! | | zigzag | greatest timestamp |
//! | | varint | length; the position is the sum of the lengths before, plus the header |
//! | | 4 | CRC of the run's bytes |
//! | | varint | number of blocks; per block: |
//! | | varint | … offset less the offset of the block before (of the run's base) |
//! | | varint | … position less the position of the block before (of the run's start) |
//! | | zigzag | … greatest timestamp less the run's |
//! | | varint | number of batches; per batch: |
//! | | varint | … base offset less the end of the batch before (of the run's base) |
//! | | varint | … last offset delta |
//! | | varint | … length; the position is the sum of the lengths before |
//! | | zigzag | … base timestamp less that of the batch before (0) |
//! | | zigzag | … greatest timestamp less base timestamp |
//! | | zigzag | … producer id less that of the batch before (-1) |
//! | | zigzag | … producer epoch |
//! | | zigzag | … base sequence |
//! | | zigzag | … record count less (last offset delta + 1) |
//! | | varint | … attributes, as an unsigned 16-bit number |
//! | | varint | … of a control batch: 0 no marker, 1 abort, 2 commit; of a marker then: |
//! | | zigzag | … … epoch of the coordinator that decided |
//! | | varint | … … base offset less that of the transaction's first batch; 0: none was open |
//! | | varint | 0: no producer snapshot; else its length plus 1 |
//! | | | … the snapshot's bytes |
//!
//! | footer | bytes | content |
//! | --- | --- | --- |
//! | 0 | 8 | position of the index |
//! | 8 | 8 | length of the index |
//! | 16 | 8 | length of the whole segment |
//! | 24 | 4 | CRC of the index |
//! | 28 | 2 | format version, 2 |
//! | 30 | 2 | zero |
//! | 32 | 4 | CRC of bytes 0 to 31 |
//! | 36 | 4 | magic `AQF1` |
//!
//! Version 1 had no markers: nothing could end a transaction. It is still read.
//!
//! A reader that has only the end of an object finds the index through the footer ([`read_index`]).
//! Differences wrap at 64 bits, so every value of every field can be written. The golden files under
//! `tests/golden` pin all of this.

mod assembly;
mod builder;
mod checksum;
mod cursor;
mod entry;
mod frame;
mod index;
mod keys;
mod part;

pub(crate) use assembly::Assembly;
pub use builder::{EncodedSegment, SegmentBuilder, Slot};
pub(crate) use checksum::RunCrc;
pub use entry::{BatchEntry, BlockEntry, MarkerEntry, RunEntry, SegmentIndex};
pub use frame::{
    FOOTER_LEN, HEADER_LEN, SEGMENT_LENGTH_MIN, SegmentError, SegmentHeader, SegmentPart,
};
pub use index::{IndexRead, read_index};
pub use keys::{DATA_PREFIX, WAL_PREFIX, segment_key, segment_of, wal_prefix};

/// A block of the block table is closed by the first batch that reaches this many bytes.
pub const BLOCK_BYTES: u64 = 256 * 1024;

/// The version that is written.
pub const FORMAT_VERSION: u16 = 2;

/// The oldest version that is read.
pub const FORMAT_VERSION_MIN: u16 = 1;

#[cfg(test)]
mod tests;
