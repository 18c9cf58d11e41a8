//! Variable-length numbers: written to a growing buffer, read from bytes that may be anything.
//!
//! Owns: LEB128 and zigzag, and the bounds of what is read. Does not own: what the numbers mean.
//!
//! A number has one encoding, the shortest; a longer one is refused. So equal indexes have equal
//! bytes, and the other way round.

use super::frame::malformed;
use super::{SegmentError, SegmentPart};

const PART: SegmentPart = SegmentPart::Index;

pub(super) fn put_varint(sink: &mut Vec<u8>, mut value: u64) {
    while 0x80 <= value {
        sink.push(value as u8 | 0x80);
        value >>= 7;
    }
    sink.push(value as u8);
}

pub(super) fn put_zigzag(sink: &mut Vec<u8>, value: i64) {
    put_varint(sink, (value << 1 ^ value >> 63).cast_unsigned());
}

/// A difference as it is stored: it wraps, so that any two values have one.
pub(super) fn put_difference(sink: &mut Vec<u8>, value: i64, base: i64) {
    put_zigzag(sink, value.wrapping_sub(base));
}

/// What is left of an index.
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { rest: bytes }
    }

    pub(super) fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], SegmentError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(SegmentError::TooShort {
            part: PART,
            needed: count as u64,
            present: self.rest.len() as u64,
        })?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], SegmentError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(super) fn varint(&mut self) -> Result<u64, SegmentError> {
        let mut value = 0u64;
        for (place, byte) in self.rest.iter().enumerate().take(10) {
            let bits = u64::from(byte & 0x7f);
            if place == 9 && 1 < bits {
                return Err(malformed(PART, "a number exceeds 64 bits"));
            }
            value |= bits << (7 * place);
            if byte & 0x80 == 0 {
                if place != 0 && *byte == 0 {
                    return Err(malformed(PART, "a number is longer than it must be"));
                }
                self.rest = &self.rest[place + 1..];
                return Ok(value);
            }
        }
        if self.rest.len() < 10 {
            let present = self.rest.len() as u64;
            return Err(SegmentError::TooShort { part: PART, needed: present + 1, present });
        }
        Err(malformed(PART, "a number exceeds 64 bits"))
    }

    pub(super) fn zigzag(&mut self) -> Result<i64, SegmentError> {
        let value = self.varint()?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    pub(super) fn difference(&mut self, base: i64) -> Result<i64, SegmentError> {
        Ok(base.wrapping_add(self.zigzag()?))
    }

    /// A varint that must fit a smaller type.
    pub(super) fn number<T: TryFrom<u64>>(
        &mut self,
        reason: &'static str,
    ) -> Result<T, SegmentError> {
        T::try_from(self.varint()?).map_err(|_| malformed(PART, reason))
    }

    pub(super) fn signed<T: TryFrom<i64>>(
        &mut self,
        reason: &'static str,
    ) -> Result<T, SegmentError> {
        T::try_from(self.zigzag()?).map_err(|_| malformed(PART, reason))
    }

    /// A number of entries of at least `entry_len` bytes each: never more than could be there, so
    /// that it may be allocated for.
    pub(super) fn count(&mut self, entry_len: usize) -> Result<usize, SegmentError> {
        let count = self.varint()?;
        let possible = (self.rest.len() / entry_len) as u64;
        if possible < count {
            return Err(malformed(PART, "more entries than bytes for them"));
        }
        Ok(count as usize) // Below the length of a slice.
    }
}
