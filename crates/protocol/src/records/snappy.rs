//! Snappy as Kafka clients use it: the xerial framing of the Java client, or one raw block.
//!
//! Framing: an 8-byte magic, two big-endian version numbers, then blocks, each a big-endian length
//! and raw snappy. A framed stream may be followed by another one, magic included.

use bytes::{BufMut, BytesMut};

use super::codec::{CodecError, Window};

const MAGIC: [u8; 8] = *b"\x82SNAPPY\0";
const VERSIONS_LEN: usize = 8;
const HEADER_LEN: usize = MAGIC.len() + VERSIONS_LEN;
/// What the Java client writes for both versions.
const VERSION: u32 = 1;
/// The Java client's block size.
const BLOCK_BYTES: usize = 32 * 1024;
/// A three-byte copy makes at most 64 bytes.
const EXPANSION_MAX: usize = 22;

/// The blocks of a stream, one at a time.
pub(super) struct SnappyBlocks<'a> {
    rest: &'a [u8],
    framed: bool,
}

fn framed(bytes: &[u8]) -> bool {
    bytes.len() >= HEADER_LEN && bytes.starts_with(&MAGIC)
}

fn big_endian(bytes: &[u8]) -> u32 {
    bytes.iter().take(4).fold(0, |value, byte| value << 8 | u32::from(*byte))
}

impl<'a> SnappyBlocks<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Result<SnappyBlocks<'a>, String> {
        if bytes.is_empty() {
            return Err("empty".to_owned());
        }
        let mut blocks = SnappyBlocks { rest: bytes, framed: framed(bytes) };
        if blocks.framed {
            blocks.header()?;
        }
        Ok(blocks)
    }

    fn header(&mut self) -> Result<(), String> {
        let compatible = big_endian(&self.rest[MAGIC.len()..]);
        if compatible < VERSION {
            return Err(format!("unknown xerial version {compatible}"));
        }
        self.rest = &self.rest[HEADER_LEN..];
        Ok(())
    }

    /// Decompresses the next block into the window. `None` at the end, else the bytes it made.
    pub(super) fn fill(&mut self, window: &mut Window) -> Result<Option<usize>, CodecError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let block = if self.framed {
            while framed(self.rest) {
                self.header()?;
            }
            let Some((length, rest)) = self.rest.split_first_chunk::<4>() else {
                return if self.rest.is_empty() {
                    Ok(None)
                } else {
                    Err("block length is cut off".to_owned().into())
                };
            };
            let length = u32::from_be_bytes(*length) as usize;
            if rest.len() < length {
                return Err(format!("block of {length} bytes, {} are present", rest.len()).into());
            }
            let (block, rest) = rest.split_at(length);
            self.rest = rest;
            block
        } else {
            std::mem::take(&mut self.rest)
        };
        let length = snap::raw::decompress_len(block).map_err(|error| error.to_string())?;
        if length > block.len().saturating_mul(EXPANSION_MAX) {
            return Err(format!("{} bytes cannot make {length}", block.len()).into());
        }
        let room = window.bounded_room(length)?;
        let made =
            snap::raw::Decoder::new().decompress(block, room).map_err(|error| error.to_string())?;
        window.commit(made);
        Ok(Some(made))
    }
}

/// Appends `bytes`, framed and in blocks as the Java client does it.
pub(super) fn compress(bytes: &[u8], out: &mut BytesMut) {
    out.put_slice(&MAGIC);
    out.put_u32(VERSION);
    out.put_u32(VERSION);
    let mut encoder = snap::raw::Encoder::new();
    for block in bytes.chunks(BLOCK_BYTES) {
        let length_at = out.len();
        let block_at = length_at + 4;
        out.resize(block_at + snap::raw::max_compress_len(block.len()), 0);
        let made = encoder
            .compress(block, &mut out[block_at..])
            .expect("a block is small and its room is the codec's own bound");
        out.truncate(block_at + made);
        let length = u32::try_from(made).expect("a compressed 32 KiB block is far below 4 GiB");
        out[length_at..block_at].copy_from_slice(&length.to_be_bytes());
    }
}
