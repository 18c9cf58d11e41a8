//! The fixed part of a batch: 61 bytes, all numbers big-endian.
//!
//! Owns: field places, attribute bits, the checksum (CRC-32C over everything after the checksum
//! field), sequence arithmetic.
//! Does not own: the records behind the header.
//!
//! ```text
//!  0 base offset      8 length (of all that follows it)   12 leader epoch    16 magic   17 crc
//! 21 attributes      23 last offset delta                27 base timestamp  35 max timestamp
//! 43 producer id     51 producer epoch                   53 base sequence   57 record count
//! ```

use vocabulary::{Offset, ProducerId, Timestamp};

/// Bytes before the first record.
pub const BATCH_HEADER_LEN: usize = 61;

/// Bytes before what the length field counts: the base offset and the length field itself.
pub(super) const LENGTH_OVERHEAD: usize = 12;
pub(super) const BASE_OFFSET_AT: usize = 0;
pub(super) const LENGTH_AT: usize = 8;
pub(super) const LEADER_EPOCH_AT: usize = 12;
pub(super) const MAGIC_AT: usize = 16;
pub(super) const CRC_AT: usize = 17;
/// The checksum covers everything from here to the end.
pub(super) const ATTRIBUTES_AT: usize = 21;
const LAST_OFFSET_DELTA_AT: usize = 23;
const BASE_TIMESTAMP_AT: usize = 27;
pub(super) const MAX_TIMESTAMP_AT: usize = 35;
const PRODUCER_ID_AT: usize = 43;
const PRODUCER_EPOCH_AT: usize = 51;
const BASE_SEQUENCE_AT: usize = 53;
const RECORD_COUNT_AT: usize = 57;

/// The one record format since Kafka 4.0.
pub(super) const MAGIC: i8 = 2;
/// The smallest value of the length field: a header without records.
const LENGTH_MIN: i32 = (BATCH_HEADER_LEN - LENGTH_OVERHEAD) as i32;

/// Why bytes are not a batch, or a batch's records cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// More bytes are needed: an incomplete transfer, or a length field that lies.
    #[error("batch needs {needed} bytes, {present} are present")]
    Truncated { needed: usize, present: usize },
    #[error("batch has magic {magic}, only {MAGIC} is supported")]
    Magic { magic: i8 },
    /// The bytes changed since they were written.
    #[error("batch checksum is {stored:08x}, its bytes give {computed:08x}")]
    Checksum { stored: u32, computed: u32 },
    #[error("unknown compression type {id}")]
    UnknownCompression { id: i16 },
    /// The records are larger than the caller accepts, whatever their compressed size.
    #[error("records exceed {limit} bytes when decompressed")]
    TooLarge { limit: usize },
    /// The structure contradicts itself; says where.
    #[error("malformed batch: {what}")]
    Malformed { what: &'static str },
    /// The codec refused the bytes.
    #[error("cannot decompress {codec} records: {reason}")]
    Decompression { codec: Compression, reason: String },
}

/// Codec ids as in the batch attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Compression {
    /// The id in the low three attribute bits.
    pub fn id(self) -> i16 {
        match self {
            Compression::None => 0,
            Compression::Gzip => 1,
            Compression::Snappy => 2,
            Compression::Lz4 => 3,
            Compression::Zstd => 4,
        }
    }

    fn from_id(id: i16) -> Option<Compression> {
        match id {
            0 => Some(Compression::None),
            1 => Some(Compression::Gzip),
            2 => Some(Compression::Snappy),
            3 => Some(Compression::Lz4),
            4 => Some(Compression::Zstd),
            _ => None,
        }
    }
}

impl std::fmt::Display for Compression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Compression::None => "uncompressed",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        })
    }
}

/// Kafka's `message.timestamp.type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TimestampType {
    /// The producer's time, record by record.
    #[default]
    CreateTime,
    /// The broker's time of append, one for the batch: its max timestamp.
    LogAppendTime,
}

/// The attribute bits of a batch: 0-2 compression, 3 timestamp type, 4 transactional, 5 control,
/// 6 the base timestamp is a delete horizon (KIP-534). The others are unused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attributes(pub i16);

impl Attributes {
    pub(super) const COMPRESSION: i16 = 0x07;
    pub(super) const LOG_APPEND_TIME: i16 = 0x08;
    pub(super) const TRANSACTIONAL: i16 = 0x10;
    pub(super) const CONTROL: i16 = 0x20;
    pub(super) const DELETE_HORIZON: i16 = 0x40;
    const KNOWN: i16 = 0x7f;

    /// The codec, or [`BatchError::UnknownCompression`] for the ids 5 to 7.
    pub fn compression(self) -> Result<Compression, BatchError> {
        let id = self.0 & Attributes::COMPRESSION;
        Compression::from_id(id).ok_or(BatchError::UnknownCompression { id })
    }

    pub fn timestamp_type(self) -> TimestampType {
        match self.0 & Attributes::LOG_APPEND_TIME {
            0 => TimestampType::CreateTime,
            _ => TimestampType::LogAppendTime,
        }
    }

    pub fn is_transactional(self) -> bool {
        self.0 & Attributes::TRANSACTIONAL != 0
    }

    pub fn is_control(self) -> bool {
        self.0 & Attributes::CONTROL != 0
    }

    pub fn has_delete_horizon(self) -> bool {
        self.0 & Attributes::DELETE_HORIZON != 0
    }

    /// The same with another timestamp type; unused bits are cleared, as by Kafka.
    pub(super) fn with_timestamp_type(self, timestamp_type: TimestampType) -> Attributes {
        let rest = self.0 & Attributes::KNOWN & !Attributes::LOG_APPEND_TIME;
        match timestamp_type {
            TimestampType::CreateTime => Attributes(rest),
            TimestampType::LogAppendTime => Attributes(rest | Attributes::LOG_APPEND_TIME),
        }
    }
}

/// The header of a batch, as stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    pub base_offset: Offset,
    /// Bytes after the length field; the whole batch is 12 more.
    pub length: i32,
    /// -1 until the log stamps it.
    pub leader_epoch: i32,
    pub magic: i8,
    pub crc: u32,
    pub attributes: Attributes,
    pub last_offset_delta: i32,
    /// What the records' timestamp deltas add to.
    pub base_timestamp: Timestamp,
    pub max_timestamp: Timestamp,
    /// -1 without an idempotent producer.
    pub producer_id: i64,
    pub producer_epoch: i16,
    /// -1 without an idempotent producer, and in control batches.
    pub base_sequence: i32,
    pub record_count: i32,
}

fn field<const N: usize>(bytes: &[u8; BATCH_HEADER_LEN], at: usize) -> [u8; N] {
    let mut value = [0; N];
    value.copy_from_slice(&bytes[at..at + N]);
    value
}

impl BatchHeader {
    /// Reads the first 61 bytes; those after need not be present. Checks magic and that the length
    /// can hold a header, nothing else: counts and deltas are the bytes' claim.
    pub fn parse(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
        let Some(bytes) = bytes.first_chunk::<BATCH_HEADER_LEN>() else {
            return Err(BatchError::Truncated { needed: BATCH_HEADER_LEN, present: bytes.len() });
        };
        let magic = i8::from_be_bytes(field(bytes, MAGIC_AT));
        if magic != MAGIC {
            return Err(BatchError::Magic { magic });
        }
        let length = i32::from_be_bytes(field(bytes, LENGTH_AT));
        if length < LENGTH_MIN {
            return Err(BatchError::Malformed { what: "length is less than a header" });
        }
        Ok(BatchHeader {
            base_offset: Offset(i64::from_be_bytes(field(bytes, BASE_OFFSET_AT))),
            length,
            leader_epoch: i32::from_be_bytes(field(bytes, LEADER_EPOCH_AT)),
            magic,
            crc: u32::from_be_bytes(field(bytes, CRC_AT)),
            attributes: Attributes(i16::from_be_bytes(field(bytes, ATTRIBUTES_AT))),
            last_offset_delta: i32::from_be_bytes(field(bytes, LAST_OFFSET_DELTA_AT)),
            base_timestamp: Timestamp(i64::from_be_bytes(field(bytes, BASE_TIMESTAMP_AT))),
            max_timestamp: Timestamp(i64::from_be_bytes(field(bytes, MAX_TIMESTAMP_AT))),
            producer_id: i64::from_be_bytes(field(bytes, PRODUCER_ID_AT)),
            producer_epoch: i16::from_be_bytes(field(bytes, PRODUCER_EPOCH_AT)),
            base_sequence: i32::from_be_bytes(field(bytes, BASE_SEQUENCE_AT)),
            record_count: i32::from_be_bytes(field(bytes, RECORD_COUNT_AT)),
        })
    }

    /// The 61 bytes, with the checksum as it stands in `crc`.
    pub fn encode(&self) -> [u8; BATCH_HEADER_LEN] {
        let mut bytes = [0; BATCH_HEADER_LEN];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(BASE_OFFSET_AT, &self.base_offset.0.to_be_bytes());
        put(LENGTH_AT, &self.length.to_be_bytes());
        put(LEADER_EPOCH_AT, &self.leader_epoch.to_be_bytes());
        put(MAGIC_AT, &self.magic.to_be_bytes());
        put(CRC_AT, &self.crc.to_be_bytes());
        put(ATTRIBUTES_AT, &self.attributes.0.to_be_bytes());
        put(LAST_OFFSET_DELTA_AT, &self.last_offset_delta.to_be_bytes());
        put(BASE_TIMESTAMP_AT, &self.base_timestamp.0.to_be_bytes());
        put(MAX_TIMESTAMP_AT, &self.max_timestamp.0.to_be_bytes());
        put(PRODUCER_ID_AT, &self.producer_id.to_be_bytes());
        put(PRODUCER_EPOCH_AT, &self.producer_epoch.to_be_bytes());
        put(BASE_SEQUENCE_AT, &self.base_sequence.to_be_bytes());
        put(RECORD_COUNT_AT, &self.record_count.to_be_bytes());
        bytes
    }

    /// `crc` is that of a batch's bytes from here on. Those before change when it gets its place in a log.
    pub const CHECKED_FROM: usize = ATTRIBUTES_AT;

    /// Bytes of the whole batch, header included.
    pub fn byte_length(&self) -> usize {
        LENGTH_OVERHEAD + usize::try_from(self.length).unwrap_or(0)
    }

    pub fn last_offset(&self) -> Offset {
        Offset(self.base_offset.0.wrapping_add(i64::from(self.last_offset_delta)))
    }

    /// The offset after the last record's.
    pub fn end_offset(&self) -> Offset {
        Offset(self.last_offset().0.wrapping_add(1))
    }

    /// The last record's sequence, or -1 if the batch has none.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return self.base_sequence;
        }
        sequence_after(self.base_sequence, self.last_offset_delta)
    }

    /// The idempotent producer, if there is one.
    pub fn producer(&self) -> Option<ProducerId> {
        (self.producer_id >= 0).then_some(ProducerId(self.producer_id))
    }
}

/// The sequence `count` records after `sequence`; after 2^31-1 comes 0. A negative count goes back.
pub fn sequence_after(sequence: i32, count: i32) -> i32 {
    const SEQUENCES: i64 = 1 << 31;
    let sum = (i64::from(sequence) + i64::from(count)).rem_euclid(SEQUENCES);
    i32::try_from(sum).expect("a remainder of 2^31 fits 31 bits")
}

/// CRC-32C (Castagnoli).
pub(super) fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// Does the checksum hold? `batch` is one whole batch; bytes after its length are an error of the
/// caller and count as damage.
pub fn check_crc(batch: &[u8]) -> Result<(), BatchError> {
    let header = BatchHeader::parse(batch)?;
    if header.byte_length() != batch.len() {
        return Err(BatchError::Truncated { needed: header.byte_length(), present: batch.len() });
    }
    let computed = crc32c(&batch[ATTRIBUTES_AT..]);
    if computed != header.crc {
        return Err(BatchError::Checksum { stored: header.crc, computed });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> BatchHeader {
        BatchHeader {
            base_offset: Offset(0x0102_0304_0506_0708),
            length: 0x090a,
            leader_epoch: 0x0b0c,
            magic: MAGIC,
            crc: 0xdead_beef,
            attributes: Attributes(0x1c),
            last_offset_delta: 9,
            base_timestamp: Timestamp(1_700_000_000_000),
            max_timestamp: Timestamp(1_700_000_000_009),
            producer_id: 77,
            producer_epoch: 3,
            base_sequence: i32::MAX - 2,
            record_count: 10,
        }
    }

    #[test]
    fn a_header_reads_back() {
        let header = sample();
        assert_eq!(BatchHeader::parse(&header.encode()), Ok(header));
        assert_eq!(header.byte_length(), 0x090a + 12);
        assert_eq!(header.last_offset(), Offset(0x0102_0304_0506_0708 + 9));
        assert_eq!(header.end_offset(), Offset(0x0102_0304_0506_0708 + 10));
        assert_eq!(header.producer(), Some(ProducerId(77)));
        assert_eq!(header.attributes.compression(), Ok(Compression::Zstd));
        assert_eq!(header.attributes.timestamp_type(), TimestampType::LogAppendTime);
        assert!(header.attributes.is_transactional() && !header.attributes.is_control());
    }

    #[test]
    fn what_cannot_be_a_header_is_refused() {
        let bytes = sample().encode();
        for length in 0..BATCH_HEADER_LEN {
            let error = BatchError::Truncated { needed: BATCH_HEADER_LEN, present: length };
            assert_eq!(BatchHeader::parse(&bytes[..length]), Err(error));
        }
        for magic in [-1, 0, 1, 3] {
            let header = BatchHeader { magic, ..sample() };
            assert_eq!(BatchHeader::parse(&header.encode()), Err(BatchError::Magic { magic }));
        }
        for length in [i32::MIN, -1, 0, LENGTH_MIN - 1] {
            let header = BatchHeader { length, ..sample() };
            assert!(matches!(
                BatchHeader::parse(&header.encode()),
                Err(BatchError::Malformed { .. })
            ));
        }
        for id in 5..8 {
            assert_eq!(Attributes(id).compression(), Err(BatchError::UnknownCompression { id }));
        }
    }

    #[test]
    fn sequences_wrap_to_zero() {
        assert_eq!(sequence_after(0, 0), 0);
        assert_eq!(sequence_after(5, 7), 12);
        assert_eq!(sequence_after(i32::MAX, 0), i32::MAX);
        assert_eq!(sequence_after(i32::MAX, 1), 0);
        assert_eq!(sequence_after(i32::MAX - 2, 9), 6);
        assert_eq!(sequence_after(i32::MAX, i32::MAX), i32::MAX - 1);
        assert_eq!(sequence_after(0, -1), i32::MAX);
        assert_eq!(sample().last_sequence(), 6);
        assert_eq!(BatchHeader { base_sequence: -1, ..sample() }.last_sequence(), -1);
    }

    #[test]
    fn the_checksum_is_castagnoli() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }
}
