//! Codecs of record batches (KIP-110 for zstd): bounded decompression, compression for the broker.
//!
//! Owns: which codec reads and writes how, the limit on what comes out.
//! Does not own: records; a codec sees bytes.
//!
//! Decompression goes piece by piece into a [`Window`]. The caller empties it as it goes, to keep
//! one piece in memory, or lets it grow, to have everything; the limit holds either way.

use std::io::{Read, Write};

use bytes::{BufMut, BytesMut};
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;

use super::header::{BatchError, Compression};
use super::lz4::{self, Lz4Blocks};
use super::snappy::{self, SnappyBlocks};
use super::zstandard::ZstdFrames;

/// What a topic wants its batches compressed with: Kafka's `compression.type`, with the levels of
/// `compression.gzip.level` (1-9, -1 = default), `compression.zstd.level` (negative to 22) and
/// `compression.lz4.level` (KIP-390). Levels beyond a codec's range are brought into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TargetCompression {
    /// Keep what the producer chose.
    #[default]
    Producer,
    Uncompressed,
    Gzip {
        level: i32,
    },
    Snappy,
    /// The level is kept for the record; the codec knows one speed.
    Lz4 {
        level: i32,
    },
    Zstd {
        level: i32,
    },
}

const ZSTD_LEVEL_DEFAULT: i32 = 3;
/// Any level outside 1-9: the codec's own default.
const GZIP_LEVEL_DEFAULT: i32 = -1;

impl TargetCompression {
    /// The codec to store with, for a batch that came in `source`.
    pub(super) fn codec(self, source: Compression) -> Compression {
        match self {
            TargetCompression::Producer => source,
            TargetCompression::Uncompressed => Compression::None,
            TargetCompression::Gzip { .. } => Compression::Gzip,
            TargetCompression::Snappy => Compression::Snappy,
            TargetCompression::Lz4 { .. } => Compression::Lz4,
            TargetCompression::Zstd { .. } => Compression::Zstd,
        }
    }

    pub(super) fn level(self) -> Option<i32> {
        match self {
            TargetCompression::Gzip { level }
            | TargetCompression::Lz4 { level }
            | TargetCompression::Zstd { level } => Some(level),
            TargetCompression::Producer
            | TargetCompression::Uncompressed
            | TargetCompression::Snappy => None,
        }
    }
}

/// Decompressed bytes that wait to be used: filled at the back, consumed at the front.
#[derive(Debug, Default)]
pub(super) struct Window {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// Room a block may ask for; what is beyond it exceeds the caller's limit.
    allowance: usize,
}

/// Why a codec stopped.
pub(super) enum CodecError {
    /// More would come out than the caller allows.
    Limit,
    Refused(String),
}

impl From<String> for CodecError {
    fn from(reason: String) -> CodecError {
        CodecError::Refused(reason)
    }
}

impl Window {
    #[inline]
    pub(super) fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    #[inline]
    pub(super) fn consume(&mut self, length: usize) {
        debug_assert!(length <= self.end - self.start);
        self.start += length;
    }

    /// Room for a block that says its size, if the limit allows that size.
    pub(super) fn bounded_room(&mut self, length: usize) -> Result<&mut [u8], CodecError> {
        if self.allowance < length {
            return Err(CodecError::Limit);
        }
        Ok(self.room(length))
    }

    /// Exactly `length` writable bytes behind the unread ones. Their content is arbitrary.
    pub(super) fn room(&mut self, length: usize) -> &mut [u8] {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let needed = self.end + length;
        if self.bytes.len() < needed {
            self.bytes.resize(needed, 0);
        }
        &mut self.bytes[self.end..needed]
    }

    /// What [`Window::room`] gave last, and perhaps more.
    pub(super) fn free(&self) -> &[u8] {
        &self.bytes[self.end..]
    }

    /// The first `length` bytes of the room are now data.
    pub(super) fn commit(&mut self, length: usize) {
        self.end += length;
        debug_assert!(self.end <= self.bytes.len());
    }

    fn into_bytes(mut self) -> Vec<u8> {
        debug_assert!(self.start == 0, "nothing was consumed");
        self.bytes.truncate(self.end);
        self.bytes
    }
}

/// Bytes asked of a stream codec at once.
pub(super) const PIECE_BYTES: usize = 32 * 1024;

enum Stream<'a> {
    Gzip(Box<MultiGzDecoder<&'a [u8]>>),
    Snappy(SnappyBlocks<'a>),
    Lz4(Box<Lz4Blocks<'a>>),
    Zstd(ZstdFrames<'a>),
}

/// Decompresses piece by piece and stops at a limit.
pub(super) struct Decompressor<'a> {
    codec: Compression,
    stream: Stream<'a>,
    limit: usize,
    made: usize,
}

impl<'a> Decompressor<'a> {
    /// For `codec` other than none, which needs no decompressor.
    pub(super) fn new(
        codec: Compression,
        bytes: &'a [u8],
        limit: usize,
    ) -> Result<Decompressor<'a>, BatchError> {
        let refuse = |reason: String| BatchError::Decompression { codec, reason };
        let stream = match codec {
            Compression::None => return Err(refuse("it is not compressed".to_owned())),
            Compression::Gzip => Stream::Gzip(Box::new(MultiGzDecoder::new(bytes))),
            Compression::Snappy => Stream::Snappy(SnappyBlocks::new(bytes).map_err(refuse)?),
            Compression::Lz4 => Stream::Lz4(Box::new(Lz4Blocks::new(bytes).map_err(refuse)?)),
            Compression::Zstd => Stream::Zstd(ZstdFrames::new(bytes).map_err(refuse)?),
        };
        Ok(Decompressor { codec, stream, limit, made: 0 })
    }

    /// Adds the next piece to the window, at least one byte; `false` at the end of the stream,
    /// whose own checksum has then been checked.
    pub(super) fn fill(&mut self, window: &mut Window) -> Result<bool, BatchError> {
        window.allowance = self.limit - self.made;
        loop {
            let filled = match &mut self.stream {
                Stream::Gzip(decoder) => read_piece(decoder, window),
                Stream::Zstd(frames) => frames.fill(window),
                Stream::Snappy(blocks) => blocks.fill(window),
                Stream::Lz4(blocks) => blocks.fill(window),
            };
            match filled {
                Ok(None) => return Ok(false),
                Ok(Some(0)) => (), // An empty block; each takes input, so this ends.
                Ok(Some(made)) if made <= window.allowance => {
                    self.made += made;
                    return Ok(true);
                }
                Ok(Some(_)) | Err(CodecError::Limit) => {
                    return Err(BatchError::TooLarge { limit: self.limit });
                }
                Err(CodecError::Refused(reason)) => {
                    return Err(BatchError::Decompression { codec: self.codec, reason });
                }
            }
        }
    }
}

fn read_piece(decoder: &mut impl Read, window: &mut Window) -> Result<Option<usize>, CodecError> {
    let room = window.room(PIECE_BYTES);
    let made = decoder.read(room).map_err(|error| error.to_string())?;
    window.commit(made);
    Ok((made > 0).then_some(made))
}

/// Everything at once: at most `limit` bytes, and never more memory than a small multiple of what
/// really comes out.
pub(super) fn decompress(
    codec: Compression,
    bytes: &[u8],
    limit: usize,
) -> Result<Vec<u8>, BatchError> {
    let mut decompressor = Decompressor::new(codec, bytes, limit)?;
    let mut window = Window::default();
    while decompressor.fill(&mut window)? {}
    Ok(window.into_bytes())
}

/// Why compression cannot fail.
const IN_MEMORY: &str = "compressing from memory to memory fails only for want of memory";

/// Appends `bytes` to `out`, compressed. Without a level, the codec's default as in Kafka.
pub(super) fn compress(codec: Compression, level: Option<i32>, bytes: &[u8], out: &mut BytesMut) {
    match codec {
        Compression::None => out.put_slice(bytes),
        Compression::Snappy => snappy::compress(bytes, out),
        Compression::Lz4 => lz4::compress(bytes, out),
        Compression::Gzip => {
            let level = match u32::try_from(level.unwrap_or(GZIP_LEVEL_DEFAULT)) {
                Ok(level @ 1..=9) => flate2::Compression::new(level),
                Ok(10..) => flate2::Compression::best(),
                Ok(0) | Err(_) => flate2::Compression::default(),
            };
            let mut encoder = GzEncoder::new(out.writer(), level);
            encoder.write_all(bytes).expect(IN_MEMORY);
            encoder.finish().expect(IN_MEMORY);
        }
        Compression::Zstd => {
            // In one call, so that the frame carries its size and readers need no large window.
            let compressed = zstd::bulk::compress(bytes, level.unwrap_or(ZSTD_LEVEL_DEFAULT));
            out.put_slice(&compressed.expect(IN_MEMORY));
        }
    }
}

#[cfg(test)]
mod tests;
