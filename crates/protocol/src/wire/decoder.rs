//! Reads Kafka's primitive types out of one frame that nobody vouches for.
//!
//! Owns: bounds (W1), the allocation budget (W2), slicing records off the frame (W3).
//!
//! Small values (strings, bytes) are copied, so that what a handler keeps never pins a whole frame.

use bytes::{Bytes, BytesMut};
use vocabulary::TopicId;

use super::encoder::STRING_BYTES_MAX;

/// How many bytes decoding may allocate for each byte of a frame. The leanest legal request, groups
/// with empty names in OffsetFetch 8, needs 27; the leanest response, ListGroups 3 alike, needs 32.
pub const BUDGET_PER_BYTE: usize = 32;

/// How many bytes decoding one frame may allocate whatever its length, records not counted. The
/// largest legal frame is 100 MiB (socket.request.max.bytes).
pub const BUDGET_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Why bytes are no message. To the sender it is all the same: the connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("{wanted} bytes wanted, {present} present")]
    Truncated { wanted: usize, present: usize },
    #[error("length {length} is negative")]
    NegativeLength { length: i32 },
    #[error("null where the version has none")]
    UnexpectedNull,
    #[error("a string is not UTF-8")]
    NotUtf8,
    #[error("a string of {length} bytes is longer than {STRING_BYTES_MAX}")]
    StringTooLong { length: usize },
    #[error("a variable-length integer does not fit")]
    VarintTooLong,
    #[error("a tagged field says {told} bytes and has {found}")]
    TagSize { told: usize, found: usize },
    #[error("decoding would allocate {wanted} bytes, {left} are left")]
    OverBudget { wanted: usize, left: usize },
    #[error("API key {key} is unknown")]
    UnknownApi { key: i16 },
}

/// One frame being read.
#[derive(Debug)]
pub struct Decoder {
    bytes: BytesMut,
    /// Next byte to read.
    position: usize,
    /// End of what may be read: the frame's, or the tagged field's.
    limit: usize,
    /// Bytes that may still be allocated.
    budget: usize,
}

impl Decoder {
    /// Reads `frame`, without the four bytes of its size.
    pub fn new(frame: BytesMut) -> Decoder {
        let budget = frame.len().saturating_mul(BUDGET_PER_BYTE).min(BUDGET_BYTES_MAX);
        Decoder { position: 0, limit: frame.len(), bytes: frame, budget }
    }

    /// How many bytes nobody has read yet. Not zero after a whole request: it is malformed, or of a
    /// version we do not know.
    pub fn remaining(&self) -> usize {
        self.limit - self.position
    }

    /// The next `N` bytes without reading them: a request's header is versioned by its own content.
    pub(crate) fn peek<const N: usize>(&self) -> Result<[u8; N], DecodeError> {
        let (wanted, present) = (N, self.remaining());
        self.bytes[self.position..self.limit]
            .first_chunk()
            .copied()
            .ok_or(DecodeError::Truncated { wanted, present })
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let bytes = self.peek()?;
        self.position += N;
        Ok(bytes)
    }

    pub(crate) fn int8(&mut self) -> Result<i8, DecodeError> {
        Ok(i8::from_be_bytes(self.fixed()?))
    }

    pub(crate) fn int16(&mut self) -> Result<i16, DecodeError> {
        Ok(i16::from_be_bytes(self.fixed()?))
    }

    pub(crate) fn uint16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_be_bytes(self.fixed()?))
    }

    pub(crate) fn int32(&mut self) -> Result<i32, DecodeError> {
        Ok(i32::from_be_bytes(self.fixed()?))
    }

    pub(crate) fn int64(&mut self) -> Result<i64, DecodeError> {
        Ok(i64::from_be_bytes(self.fixed()?))
    }

    /// Any byte but zero is true, as in Kafka.
    pub(crate) fn bool(&mut self) -> Result<bool, DecodeError> {
        Ok(self.int8()? != 0)
    }

    pub(crate) fn uuid(&mut self) -> Result<TopicId, DecodeError> {
        Ok(TopicId(self.fixed()?))
    }

    /// Seven bits a byte, least significant first, at most five bytes and 32 bits.
    pub(crate) fn uvarint(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.fixed()?;
            let bits = u32::from(byte & 0x7f);
            if shift == 28 && 15 < byte {
                return Err(DecodeError::VarintTooLong);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        Ok(value)
    }

    pub(crate) fn string(&mut self, flexible: bool) -> Result<String, DecodeError> {
        let length = self.short_length(flexible)?.ok_or(DecodeError::UnexpectedNull)?;
        self.utf8(length)
    }

    pub(crate) fn nullable_string(
        &mut self,
        flexible: bool,
        nullable: bool,
    ) -> Result<Option<String>, DecodeError> {
        let length = self.short_length(flexible)?;
        checked(length, nullable)?.map(|length| self.utf8(length)).transpose()
    }

    pub(crate) fn bytes(&mut self, flexible: bool) -> Result<Bytes, DecodeError> {
        let length = self.long_length(flexible)?.ok_or(DecodeError::UnexpectedNull)?;
        self.copied(length)
    }

    pub(crate) fn nullable_bytes(
        &mut self,
        flexible: bool,
        nullable: bool,
    ) -> Result<Option<Bytes>, DecodeError> {
        let length = self.long_length(flexible)?;
        checked(length, nullable)?.map(|length| self.copied(length)).transpose()
    }

    /// A record set, sliced off the frame. What was read before it is let go.
    pub(crate) fn records(&mut self, flexible: bool) -> Result<Option<BytesMut>, DecodeError> {
        let Some(length) = self.long_length(flexible)? else { return Ok(None) };
        let end = self.position + length;
        let mut records = self.bytes.split_to(end);
        let records = records.split_off(self.position);
        self.limit -= end;
        self.position = 0;
        Ok(Some(records))
    }

    pub(crate) fn array<T>(
        &mut self,
        flexible: bool,
        element: impl FnMut(&mut Decoder) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let count = self.long_length(flexible)?.ok_or(DecodeError::UnexpectedNull)?;
        self.elements(count, element)
    }

    pub(crate) fn nullable_array<T>(
        &mut self,
        flexible: bool,
        nullable: bool,
        element: impl FnMut(&mut Decoder) -> Result<T, DecodeError>,
    ) -> Result<Option<Vec<T>>, DecodeError> {
        let count = self.long_length(flexible)?;
        checked(count, nullable)?.map(|count| self.elements(count, element)).transpose()
    }

    /// The byte before a nullable struct: negative is null.
    pub(crate) fn present(&mut self) -> Result<bool, DecodeError> {
        Ok(0 <= self.int8()?)
    }

    /// Starts the tagged fields that end a struct in flexible versions.
    pub(crate) fn tags(&mut self) -> Result<TagCursor, DecodeError> {
        let left = self.uvarint()?;
        Ok(TagCursor { left, open: None, outer: self.limit })
    }

    /// The next tagged field's number; until the next call, nothing beyond the field can be read.
    pub(crate) fn next_tag(&mut self, tags: &mut TagCursor) -> Result<Option<u32>, DecodeError> {
        if let Some(told) = tags.open.take() {
            let unread = self.remaining();
            if unread != 0 {
                return Err(DecodeError::TagSize { told, found: told - unread });
            }
            self.limit = tags.outer;
        }
        if tags.left == 0 {
            return Ok(None);
        }
        tags.left -= 1;
        let number = self.uvarint()?;
        let size = self.uvarint()? as usize;
        let present = self.remaining();
        if present < size {
            return Err(DecodeError::Truncated { wanted: size, present });
        }
        self.limit = self.position + size;
        tags.open = Some(size);
        Ok(Some(number))
    }

    /// Passes over an unknown tagged field.
    pub(crate) fn skip_tag(&mut self) {
        self.position = self.limit;
    }

    /// Passes over all tagged fields of a struct that has none of its own.
    pub(crate) fn skip_tags(&mut self) -> Result<(), DecodeError> {
        let mut tags = self.tags()?;
        while self.next_tag(&mut tags)?.is_some() {
            self.skip_tag();
        }
        Ok(())
    }

    /// A length or count in four bytes, or compact.
    fn long_length(&mut self, flexible: bool) -> Result<Option<usize>, DecodeError> {
        if flexible { self.compact_length() } else { self.int32().and_then(|it| self.bounded(it)) }
    }

    /// A string's length in two bytes, or compact, which could tell of more than Kafka takes.
    fn short_length(&mut self, flexible: bool) -> Result<Option<usize>, DecodeError> {
        if !flexible {
            return self.int16().and_then(|it| self.bounded(i32::from(it)));
        }
        match self.compact_length()? {
            Some(length) if STRING_BYTES_MAX < length => Err(DecodeError::StringTooLong { length }),
            length => Ok(length),
        }
    }

    /// One more than the length; zero is null.
    fn compact_length(&mut self) -> Result<Option<usize>, DecodeError> {
        match self.uvarint()?.checked_sub(1) {
            None => Ok(None),
            Some(length) => self.within(length as usize).map(Some),
        }
    }

    fn bounded(&self, length: i32) -> Result<Option<usize>, DecodeError> {
        match length {
            -1 => Ok(None),
            _ => {
                let negative = DecodeError::NegativeLength { length };
                self.within(usize::try_from(length).map_err(|_| negative)?).map(Some)
            }
        }
    }

    /// W1: true for counts as well, since an element takes at least a byte (S4 of `schema`).
    fn within(&self, length: usize) -> Result<usize, DecodeError> {
        let present = self.remaining();
        if length <= present {
            Ok(length)
        } else {
            Err(DecodeError::Truncated { wanted: length, present })
        }
    }

    fn charge(&mut self, wanted: usize) -> Result<(), DecodeError> {
        let left = self.budget;
        self.budget = left.checked_sub(wanted).ok_or(DecodeError::OverBudget { wanted, left })?;
        Ok(())
    }

    /// The next `length` bytes, which are present.
    fn slice(&mut self, length: usize) -> Result<&[u8], DecodeError> {
        self.charge(length)?;
        let start = self.position;
        self.position += length;
        Ok(&self.bytes[start..self.position])
    }

    fn utf8(&mut self, length: usize) -> Result<String, DecodeError> {
        let text = std::str::from_utf8(self.slice(length)?).map_err(|_| DecodeError::NotUtf8)?;
        Ok(text.to_owned())
    }

    fn copied(&mut self, length: usize) -> Result<Bytes, DecodeError> {
        Ok(Bytes::copy_from_slice(self.slice(length)?))
    }

    fn elements<T>(
        &mut self,
        count: usize,
        mut element: impl FnMut(&mut Decoder) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        self.charge(count.saturating_mul(size_of::<T>()))?;
        let mut elements = Vec::with_capacity(count);
        for _ in 0..count {
            elements.push(element(self)?);
        }
        Ok(elements)
    }
}

/// The tagged fields of one struct being read.
#[derive(Debug)]
pub(crate) struct TagCursor {
    left: u32,
    /// Size of the field being read.
    open: Option<usize>,
    /// The limit outside of the field being read.
    outer: usize,
}

fn checked<T>(value: Option<T>, nullable: bool) -> Result<Option<T>, DecodeError> {
    if value.is_none() && !nullable { Err(DecodeError::UnexpectedNull) } else { Ok(value) }
}
