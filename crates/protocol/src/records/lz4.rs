//! The LZ4 frame format, as far as Kafka's own clients read it.
//!
//! Owns: frames. Blocks are `lz4_flex`'s.
//! Does not own: dictionaries and linked blocks: the Java client cannot read them, so a broker that
//! took them would hand its consumers bytes they choke on.
//!
//! Frames are read here and not by the codec's frame reader because that one takes a frame without
//! end mark for complete and sets aside up to 4 MiB for a frame of a few bytes.

use std::io::Write;

use bytes::{BufMut, BytesMut};
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};

use super::codec::{CodecError, Window};
use super::xxhash::{XxHash32, xxhash32};

const MAGIC: [u8; 4] = 0x184d_2204_u32.to_le_bytes();
const VERSION_MASK: u8 = 0xc0;
const VERSION: u8 = 0x40;
const BLOCKS_INDEPENDENT: u8 = 0x20;
const BLOCK_CHECKSUMS: u8 = 0x10;
const CONTENT_SIZE: u8 = 0x08;
const CONTENT_CHECKSUM: u8 = 0x04;
const RESERVED: u8 = 0x02;
const DICTIONARY: u8 = 0x01;
/// Set in a block's length: the block is stored.
const STORED: u32 = 0x8000_0000;
/// A byte of a block makes at most 255 bytes, plus what the last token may add.
const EXPANSION_MAX: usize = 255;
const EXPANSION_SLACK: usize = 64;

/// The blocks of one frame, one at a time.
pub(super) struct Lz4Blocks<'a> {
    rest: &'a [u8],
    block_bytes_max: usize,
    block_checksums: bool,
    content_checksum: Option<XxHash32>,
    content_size: Option<u64>,
    made: u64,
    ended: bool,
}

/// Takes `length` bytes off the front.
fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], String> {
    if rest.len() < length {
        return Err(format!("frame needs {length} bytes more, {} are present", rest.len()));
    }
    let (taken, left) = rest.split_at(length);
    *rest = left;
    Ok(taken)
}

fn take_u32(rest: &mut &[u8]) -> Result<u32, String> {
    let bytes = take(rest, 4)?;
    Ok(bytes.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte)))
}

impl<'a> Lz4Blocks<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Result<Lz4Blocks<'a>, String> {
        let mut rest = bytes;
        if take(&mut rest, MAGIC.len())? != MAGIC {
            return Err("not a frame".to_owned());
        }
        let descriptor = rest;
        let flags = take(&mut rest, 1)?[0];
        let block_descriptor = take(&mut rest, 1)?[0];
        if flags & VERSION_MASK != VERSION || flags & RESERVED != 0 {
            return Err(format!("unsupported frame flags {flags:#04x}"));
        }
        if flags & DICTIONARY != 0 {
            return Err("frame needs a dictionary".to_owned());
        }
        if flags & BLOCKS_INDEPENDENT == 0 {
            return Err("blocks depend on each other".to_owned());
        }
        let block_bytes_max = match block_descriptor {
            0x40 => 64 * 1024,
            0x50 => 256 * 1024,
            0x60 => 1024 * 1024,
            0x70 => 4 * 1024 * 1024,
            other => return Err(format!("unsupported block descriptor {other:#04x}")),
        };
        let content_size = if flags & CONTENT_SIZE != 0 {
            let bytes = take(&mut rest, 8)?;
            Some(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
        } else {
            None
        };
        let hash = xxhash32(&descriptor[..descriptor.len() - rest.len()]);
        if take(&mut rest, 1)?[0] != (hash >> 8) as u8 {
            return Err("frame header checksum differs".to_owned());
        }
        Ok(Lz4Blocks {
            rest,
            block_bytes_max,
            block_checksums: flags & BLOCK_CHECKSUMS != 0,
            content_checksum: (flags & CONTENT_CHECKSUM != 0).then(XxHash32::new),
            content_size,
            made: 0,
            ended: false,
        })
    }

    /// Decompresses the next block into the window. `None` at the end, else the bytes it made.
    pub(super) fn fill(&mut self, window: &mut Window) -> Result<Option<usize>, CodecError> {
        if self.ended {
            return Ok(None);
        }
        let size = take_u32(&mut self.rest)?;
        if size == 0 {
            self.end()?;
            return Ok(None);
        }
        let length = (size & !STORED) as usize;
        if self.block_bytes_max < length {
            return Err(format!("block of {length} bytes, at most {}", self.block_bytes_max).into());
        }
        let block = take(&mut self.rest, length)?;
        if self.block_checksums && take_u32(&mut self.rest)? != xxhash32(block) {
            return Err("block checksum differs".to_owned().into());
        }
        let made = if size & STORED != 0 {
            window.bounded_room(length)?.copy_from_slice(block);
            length
        } else {
            let bound = (length * EXPANSION_MAX + EXPANSION_SLACK).min(self.block_bytes_max);
            // The room is a bound, not the size: the caller's limit is checked on what was made.
            lz4_flex::block::decompress_into(block, window.room(bound))
                .map_err(|error| error.to_string())?
        };
        if let Some(hash) = &mut self.content_checksum {
            hash.update(&window.free()[..made]);
        }
        window.commit(made);
        self.made += made as u64;
        Ok(Some(made))
    }

    fn end(&mut self) -> Result<(), String> {
        self.ended = true;
        if self.content_size.is_some_and(|size| size != self.made) {
            return Err("content size differs".to_owned());
        }
        if let Some(hash) = &self.content_checksum
            && take_u32(&mut self.rest)? != hash.finish()
        {
            return Err("content checksum differs".to_owned());
        }
        if !self.rest.is_empty() {
            return Err("bytes after the frame".to_owned());
        }
        Ok(())
    }
}

/// Appends one frame: independent blocks of 64 KiB without checksums, as the Java client does it.
pub(super) fn compress(bytes: &[u8], out: &mut BytesMut) {
    let info = FrameInfo::new().block_size(BlockSize::Max64KB).block_mode(BlockMode::Independent);
    let mut encoder = FrameEncoder::with_frame_info(info, out.writer());
    encoder.write_all(bytes).expect("writing to memory does not fail");
    encoder.finish().expect("writing to memory does not fail");
}
