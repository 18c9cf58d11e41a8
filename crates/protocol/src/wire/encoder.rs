//! Writes Kafka's primitive types into a gather list.
//!
//! Owns: one growing buffer for everything small, and the places where record chunks go between
//! its parts (W3).
//!
//! Writing cannot fail. What has no place on the wire is made to fit: a string beyond 32767 bytes is
//! cut at a character; a frame of 2 GiB is a broken promise of the caller's
//! and panics.

use bytes::{BufMut, Bytes, BytesMut};
use vocabulary::TopicId;

/// Record bytes of one partition in an answer: slices of whatever they lie in, in order.
#[derive(Debug, Clone, Default)]
pub struct RecordChunks(pub Vec<Bytes>);

impl RecordChunks {
    pub fn byte_length(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }
}

impl From<BytesMut> for RecordChunks {
    fn from(bytes: BytesMut) -> RecordChunks {
        RecordChunks(vec![bytes.freeze()])
    }
}

/// Equal bytes are equal, however they are cut.
impl PartialEq for RecordChunks {
    fn eq(&self, other: &RecordChunks) -> bool {
        self.byte_length() == other.byte_length()
            && self.0.iter().flatten().eq(other.0.iter().flatten())
    }
}

impl Eq for RecordChunks {}

/// What goes out in one vectored write.
#[derive(Debug, Clone, Default)]
pub struct Frame {
    /// None of them empty.
    pub chunks: Vec<Bytes>,
    /// The sum of their lengths, in bytes.
    pub length: usize,
}

impl Frame {
    /// All of it in one piece: for tests and tools, it copies.
    pub fn to_bytes(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(self.length);
        self.chunks.iter().for_each(|chunk| bytes.extend_from_slice(chunk));
        bytes.freeze()
    }
}

const SCALARS_BYTES_START: usize = 256;
const SIZE_BYTES: usize = 4;
pub(super) const STRING_BYTES_MAX: usize = i16::MAX as usize;

/// One frame being written.
#[derive(Debug, Default)]
pub struct Encoder {
    scalars: BytesMut,
    /// Chunks, and the length of `scalars` in front of each.
    chunks: Vec<(usize, Bytes)>,
    chunks_length: usize,
    sized: bool,
}

impl Encoder {
    /// Writes no size in front: for records, and to measure.
    pub fn new() -> Encoder {
        Encoder { scalars: BytesMut::with_capacity(SCALARS_BYTES_START), ..Encoder::default() }
    }

    /// Writes a frame for a socket: its size in four bytes, then what is encoded.
    pub fn sized() -> Encoder {
        let mut encoder = Encoder { sized: true, ..Encoder::new() };
        encoder.scalars.put_bytes(0, SIZE_BYTES);
        encoder
    }

    pub fn finish(mut self) -> Frame {
        let length = self.scalars.len() + self.chunks_length;
        if self.sized {
            let size = int32_of(length - SIZE_BYTES);
            self.scalars[..SIZE_BYTES].copy_from_slice(&size.to_be_bytes());
        }
        let scalars = self.scalars.freeze();
        let mut chunks = Vec::with_capacity(2 * self.chunks.len() + 1);
        let mut start = 0;
        for (end, chunk) in self.chunks {
            if start < end {
                chunks.push(scalars.slice(start..end));
            }
            chunks.push(chunk);
            start = end;
        }
        if start < scalars.len() {
            chunks.push(scalars.slice(start..));
        }
        Frame { chunks, length }
    }

    pub(crate) fn int8(&mut self, value: i8) {
        self.scalars.put_i8(value);
    }

    pub(crate) fn int16(&mut self, value: i16) {
        self.scalars.put_i16(value);
    }

    pub(crate) fn uint16(&mut self, value: u16) {
        self.scalars.put_u16(value);
    }

    pub(crate) fn int32(&mut self, value: i32) {
        self.scalars.put_i32(value);
    }

    pub(crate) fn int64(&mut self, value: i64) {
        self.scalars.put_i64(value);
    }

    pub(crate) fn bool(&mut self, value: bool) {
        self.scalars.put_u8(u8::from(value));
    }

    pub(crate) fn uuid(&mut self, value: TopicId) {
        self.scalars.put_slice(&value.0);
    }

    pub(crate) fn uvarint(&mut self, mut value: u32) {
        while 0x80 <= value {
            self.scalars.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.scalars.put_u8(value as u8);
    }

    pub(crate) fn string(&mut self, flexible: bool, value: &str) {
        let value = &value[..value.floor_char_boundary(STRING_BYTES_MAX)];
        if flexible {
            self.compact_length(value.len());
        } else {
            self.int16(value.len() as i16);
        }
        self.scalars.put_slice(value.as_bytes());
    }

    pub(crate) fn nullable_string(&mut self, flexible: bool, nullable: bool, value: Option<&str>) {
        match value {
            None if nullable && flexible => self.uvarint(0),
            None if nullable => self.int16(-1),
            value => self.string(flexible, value.unwrap_or_default()),
        }
    }

    pub(crate) fn bytes(&mut self, flexible: bool, value: &[u8]) {
        self.long_length(flexible, value.len());
        self.scalars.put_slice(value);
    }

    pub(crate) fn nullable_bytes(&mut self, flexible: bool, nullable: bool, value: Option<&[u8]>) {
        match value {
            None if nullable => self.null(flexible),
            value => self.bytes(flexible, value.unwrap_or_default()),
        }
    }

    /// By reference, whatever its size.
    pub(crate) fn record_chunks(&mut self, flexible: bool, value: Option<&RecordChunks>) {
        let Some(records) = value else { return self.null(flexible) };
        self.long_length(flexible, records.byte_length());
        for chunk in records.0.iter().filter(|it| !it.is_empty()) {
            self.chunks.push((self.scalars.len(), chunk.clone()));
            self.chunks_length += chunk.len();
        }
    }

    pub(crate) fn array<T>(
        &mut self,
        flexible: bool,
        elements: &[T],
        mut element: impl FnMut(&mut Encoder, &T),
    ) {
        self.long_length(flexible, elements.len());
        elements.iter().for_each(|it| element(self, it));
    }

    pub(crate) fn nullable_array<T>(
        &mut self,
        flexible: bool,
        nullable: bool,
        elements: Option<&[T]>,
        element: impl FnMut(&mut Encoder, &T),
    ) {
        match elements {
            None if nullable => self.null(flexible),
            elements => self.array(flexible, elements.unwrap_or_default(), element),
        }
    }

    /// One tagged field: its number, its size, what `value` writes. The size is known last and is
    /// rotated into its place; tagged fields are small and hold no records (S3 of `schema`).
    pub(crate) fn tag(&mut self, number: u32, value: impl FnOnce(&mut Encoder)) {
        self.uvarint(number);
        let start = self.scalars.len();
        value(self);
        let end = self.scalars.len();
        self.uvarint((end - start) as u32);
        let size_length = self.scalars.len() - end;
        self.scalars[start..].rotate_right(size_length);
    }

    fn null(&mut self, flexible: bool) {
        if flexible { self.uvarint(0) } else { self.int32(-1) }
    }

    fn long_length(&mut self, flexible: bool, length: usize) {
        if flexible { self.compact_length(length) } else { self.int32(int32_of(length)) }
    }

    fn compact_length(&mut self, length: usize) {
        self.uvarint(int32_of(length) as u32 + 1);
    }
}

fn int32_of(length: usize) -> i32 {
    i32::try_from(length).expect("the broker bounds its answers far below 2 GiB")
}
