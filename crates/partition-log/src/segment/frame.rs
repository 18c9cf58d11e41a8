//! Header and footer of a segment, and the checksums over its parts.
//!
//! Owns: fixed-width fields and what they must agree on. Does not own: the index between them.
//!
//! Both are checked whole before any field of them is believed, and a length is believed only after
//! it fits in what is there.

use super::{FORMAT_VERSION, FORMAT_VERSION_MIN, RunCrc, RunEntry};
use crc_fast::crc32_iscsi;
use std::fmt;
use vocabulary::{BrokerEpoch, BrokerId, SegmentId, SegmentName};

/// Bytes of a segment's header.
pub const HEADER_LEN: usize = 64;
/// Bytes of a segment's footer.
pub const FOOTER_LEN: usize = 40;
/// The least an index can take: version, name and "no runs".
pub(crate) const INDEX_LEN_MIN: usize = 25;
/// No segment is shorter than this.
pub const SEGMENT_LENGTH_MIN: u64 = (HEADER_LEN + INDEX_LEN_MIN + FOOTER_LEN) as u64;

/// Bytes of an encoded name: kind, zero, broker, epoch, sequence.
pub(crate) const NAME_LEN: usize = 22;

pub(crate) const HEADER_MAGIC: [u8; 8] = *b"AQUIFERS";
const FOOTER_MAGIC: [u8; 4] = *b"AQF1";
const KIND_WAL: u8 = 1;
const KIND_DATA: u8 = 2;

/// The parts of a segment that can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegmentPart {
    Header,
    Run,
    Index,
    Footer,
}

impl fmt::Display for SegmentPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SegmentPart::Header => "header",
            SegmentPart::Run => "run",
            SegmentPart::Index => "index",
            SegmentPart::Footer => "footer",
        })
    }
}

/// Why bytes are not the segment they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SegmentError {
    /// Cut off, or never a segment.
    #[error("a segment's {part} needs {needed} bytes, there are {present}")]
    TooShort { part: SegmentPart, needed: u64, present: u64 },
    /// Something else lies here: zeros, other data, the middle of a segment.
    #[error("no segment's {part} here")]
    NotASegment { part: SegmentPart },
    /// Damaged, torn, or another run's bytes.
    #[error("the {part}'s checksum is {found:08x}, its bytes have {expected:08x}")]
    Checksum { part: SegmentPart, expected: u32, found: u32 },
    /// Intact, but written by newer software.
    #[error("the {part} has format version {found}, this software reads up to {FORMAT_VERSION}")]
    Version { part: SegmentPart, found: u16 },
    /// The checksum is right and the content is not: a bug of the writer, or forged.
    #[error("malformed {part}: {reason}")]
    Malformed { part: SegmentPart, reason: &'static str },
}

pub(crate) fn malformed(part: SegmentPart, reason: &'static str) -> SegmentError {
    SegmentError::Malformed { part, reason }
}

/// The first bytes of a segment: enough to step over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    pub name: SegmentName,
    /// Bytes of the whole segment.
    pub length: u64,
    pub index_length: u64,
    /// Random, the same in all segments of one process; zero if it has none.
    pub stamp: u64,
}

impl SegmentHeader {
    /// Reads and checks the first [`HEADER_LEN`] bytes of `bytes`. The lengths in it agree with each
    /// other; whether that many bytes are there is the caller's to check.
    pub fn parse(bytes: &[u8]) -> Result<SegmentHeader, SegmentError> {
        const PART: SegmentPart = SegmentPart::Header;
        let fields: &[u8; HEADER_LEN] = bytes.first_chunk().ok_or(SegmentError::TooShort {
            part: PART,
            needed: HEADER_LEN as u64,
            present: bytes.len() as u64,
        })?;
        if fields[..8] != HEADER_MAGIC {
            return Err(SegmentError::NotASegment { part: PART });
        }
        check_crc(PART, &fields[..60], u32_at(fields, 60))?;
        check_version(PART, u16_at(fields, 8))?;
        if u32_at(fields, 56) != 0 {
            return Err(malformed(PART, "reserved bytes are not zero"));
        }
        let header = SegmentHeader {
            name: decode_name(PART, &fields[10..10 + NAME_LEN])?,
            length: u64_at(fields, 32),
            index_length: u64_at(fields, 40),
            stamp: u64_at(fields, 48),
        };
        check_lengths(PART, header.length, header.index_length)?;
        Ok(header)
    }

    pub(crate) fn encode(&self) -> [u8; HEADER_LEN] {
        let mut fields = [0; HEADER_LEN];
        fields[..8].copy_from_slice(&HEADER_MAGIC);
        fields[8..10].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        fields[10..10 + NAME_LEN].copy_from_slice(&encode_name(self.name));
        fields[32..40].copy_from_slice(&self.length.to_le_bytes());
        fields[40..48].copy_from_slice(&self.index_length.to_le_bytes());
        fields[48..56].copy_from_slice(&self.stamp.to_le_bytes());
        let crc = crc32_iscsi(&fields[..60]);
        fields[60..].copy_from_slice(&crc.to_le_bytes());
        fields
    }
}

/// The last bytes of a segment: where its index is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Footer {
    pub(crate) index_length: u64,
    pub(crate) length: u64,
    pub(crate) index_crc: u32,
}

impl Footer {
    /// Reads and checks the last [`FOOTER_LEN`] bytes of an object of `length` bytes.
    pub(crate) fn parse(suffix: &[u8], length: u64) -> Result<Footer, SegmentError> {
        const PART: SegmentPart = SegmentPart::Footer;
        let fields: &[u8; FOOTER_LEN] = suffix.last_chunk().ok_or(SegmentError::TooShort {
            part: PART,
            needed: FOOTER_LEN as u64,
            present: suffix.len() as u64,
        })?;
        if fields[36..] != FOOTER_MAGIC {
            return Err(SegmentError::NotASegment { part: PART });
        }
        check_crc(PART, &fields[..32], u32_at(fields, 32))?;
        check_version(PART, u16_at(fields, 28))?;
        if u16_at(fields, 30) != 0 {
            return Err(malformed(PART, "reserved bytes are not zero"));
        }
        let footer = Footer {
            index_length: u64_at(fields, 8),
            length: u64_at(fields, 16),
            index_crc: u32_at(fields, 24),
        };
        if footer.length != length {
            return Err(malformed(PART, "the length is not the object's"));
        }
        check_lengths(PART, footer.length, footer.index_length)?;
        if u64_at(fields, 0) != footer.index_position() {
            return Err(malformed(PART, "the index does not end at the footer"));
        }
        Ok(footer)
    }

    pub(crate) fn encode(&self) -> [u8; FOOTER_LEN] {
        let mut fields = [0; FOOTER_LEN];
        fields[..8].copy_from_slice(&self.index_position().to_le_bytes());
        fields[8..16].copy_from_slice(&self.index_length.to_le_bytes());
        fields[16..24].copy_from_slice(&self.length.to_le_bytes());
        fields[24..28].copy_from_slice(&self.index_crc.to_le_bytes());
        fields[28..30].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        let crc = crc32_iscsi(&fields[..32]);
        fields[32..36].copy_from_slice(&crc.to_le_bytes());
        fields[36..].copy_from_slice(&FOOTER_MAGIC);
        fields
    }

    /// Bytes before the index. The lengths were checked against each other.
    pub(crate) fn index_position(&self) -> u64 {
        self.length - self.index_length - FOOTER_LEN as u64
    }
}

pub(crate) fn encode_name(name: SegmentName) -> [u8; NAME_LEN] {
    let (kind, broker, high, low) = match name {
        SegmentName::Wal { broker, epoch, sequence } => (KIND_WAL, broker.0, epoch.0, sequence),
        SegmentName::Data(SegmentId(id)) => (KIND_DATA, 0, (id >> 64) as u64, id as u64),
    };
    let mut fields = [0; NAME_LEN];
    fields[0] = kind;
    fields[2..6].copy_from_slice(&broker.to_le_bytes());
    fields[6..14].copy_from_slice(&high.to_le_bytes());
    fields[14..].copy_from_slice(&low.to_le_bytes());
    fields
}

/// `fields` holds [`NAME_LEN`] bytes.
pub(crate) fn decode_name(part: SegmentPart, fields: &[u8]) -> Result<SegmentName, SegmentError> {
    let broker = u32_at(fields, 2).cast_signed();
    let (high, low) = (u64_at(fields, 6), u64_at(fields, 14));
    match (fields[0], fields[1]) {
        (KIND_WAL, 0) => Ok(SegmentName::Wal {
            broker: BrokerId(broker),
            epoch: BrokerEpoch(high),
            sequence: low,
        }),
        (KIND_DATA, 0) if broker == 0 => {
            Ok(SegmentName::Data(SegmentId(u128::from(high) << 64 | u128::from(low))))
        }
        _ => Err(malformed(part, "unknown kind of segment")),
    }
}

pub(crate) fn check_crc(part: SegmentPart, bytes: &[u8], found: u32) -> Result<(), SegmentError> {
    let expected = crc32_iscsi(bytes);
    if expected == found { Ok(()) } else { Err(SegmentError::Checksum { part, expected, found }) }
}

pub(crate) fn check_version(part: SegmentPart, found: u16) -> Result<(), SegmentError> {
    match (FORMAT_VERSION_MIN..=FORMAT_VERSION).contains(&found) {
        true => Ok(()),
        false => Err(SegmentError::Version { part, found }),
    }
}

fn check_lengths(part: SegmentPart, length: u64, index_length: u64) -> Result<(), SegmentError> {
    let frame = (HEADER_LEN + FOOTER_LEN) as u64;
    let fits = (INDEX_LEN_MIN as u64 <= index_length)
        && index_length.checked_add(frame).is_some_and(|least| least <= length);
    if fits { Ok(()) } else { Err(malformed(part, "the lengths contradict each other")) }
}

pub(crate) fn check_run<'a>(
    run: &RunEntry,
    chunks: impl IntoIterator<Item = &'a [u8]>,
) -> Result<(), SegmentError> {
    let (mut crc, mut length) = (RunCrc::new(), 0);
    for chunk in chunks {
        crc.update(chunk);
        length += chunk.len() as u64;
    }
    let part = SegmentPart::Run;
    if length != run.length {
        return Err(SegmentError::TooShort { part, needed: run.length, present: length });
    }
    let expected = crc.finish();
    if expected == run.crc {
        Ok(())
    } else {
        Err(SegmentError::Checksum { part, expected, found: run.crc })
    }
}

/// The callers hand over slices of fixed-width fields, so the range is always there.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut field = [0; 4];
    field.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(field)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut field = [0; 8];
    field.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(field)
}
