//! One segment's object: its index from its end, and where in it something is wrong.
//!
//! Owns: turning a [`SegmentError`] into a byte range of the object. Does not own: what the index should
//! say (`segments`, `logs`).

use std::ops::Range;

use bucket::{Bucket, BucketError, Key, Purpose};
use bytes::Bytes;
use partition_log::segment::{
    FOOTER_LEN, HEADER_LEN, IndexRead, SEGMENT_LENGTH_MIN, SegmentError, SegmentIndex, SegmentPart,
    read_index,
};

/// The first read: enough for the index of a few hundred runs.
const SUFFIX_BYTES: u64 = 64 * 1024;

/// Reads of one index; two suffice unless the object lies about its length.
const READS_MAX: usize = 3;

/// What lies under a key.
#[derive(Debug)]
pub(crate) enum Seen {
    Gone,
    /// Too short for a segment: the whole object.
    Short {
        bytes: Bytes,
        length: u64,
    },
    Index(SegmentIndex),
    Broken(Breakage),
}

/// Where an object cannot be read, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Breakage {
    pub(crate) range: Range<u64>,
    pub(crate) reason: String,
}

/// Reads an object's index.
///
/// # Errors
/// The store did not answer; an object that is absent or damaged is an answer.
pub(crate) async fn look_at(bucket: &dyn Bucket, key: &Key) -> Result<Seen, BucketError> {
    let mut asked = SUFFIX_BYTES;
    let mut length = 0;
    for _ in 0..READS_MAX {
        let suffix = match bucket.get_suffix(key, asked, Purpose::ReadCold).await {
            Ok(suffix) => suffix,
            Err(BucketError::NotFound { .. }) => return Ok(Seen::Gone),
            Err(error) => return Err(error),
        };
        length = suffix.object_length;
        if length < SEGMENT_LENGTH_MIN {
            return Ok(Seen::Short { bytes: suffix.bytes, length });
        }
        match read_index(&suffix.bytes, length) {
            Ok(IndexRead::NeedSuffix { suffix }) => asked = suffix,
            Ok(IndexRead::Index(index)) => return Ok(Seen::Index(index)),
            Err(error) => {
                let range = range_of(&error, &suffix.bytes, length);
                return Ok(Seen::Broken(Breakage { range, reason: error.to_string() }));
            }
        }
    }
    let reason = "its index asks for more without end".to_owned();
    Ok(Seen::Broken(Breakage { range: 0..length, reason }))
}

/// The bytes that an error is about, given an object's last ones.
pub(crate) fn range_of(error: &SegmentError, suffix: &[u8], length: u64) -> Range<u64> {
    let part = match error {
        SegmentError::TooShort { part, .. }
        | SegmentError::NotASegment { part }
        | SegmentError::Checksum { part, .. }
        | SegmentError::Version { part, .. }
        | SegmentError::Malformed { part, .. } => *part,
    };
    let footer = length.saturating_sub(FOOTER_LEN as u64);
    match part {
        SegmentPart::Header => 0..length.min(HEADER_LEN as u64),
        SegmentPart::Run => 0..footer,
        // The footer was right: its first field says where the index starts.
        SegmentPart::Index => index_position(suffix).unwrap_or(0).min(footer)..footer,
        SegmentPart::Footer => footer..length,
    }
}

fn index_position(suffix: &[u8]) -> Option<u64> {
    let at = suffix.len().checked_sub(FOOTER_LEN)?;
    suffix.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes)
}
