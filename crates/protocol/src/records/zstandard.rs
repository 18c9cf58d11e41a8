//! Zstandard frames, one or several after each other.
//!
//! Setting up a decoder costs more than reading a small batch (15 us against 2), so each thread
//! keeps one. It is memory and nothing else: every stream starts from a reset, and a decoder that a
//! frame made large is given back.

use std::cell::RefCell;

use zstd::zstd_safe::{DCtx, InBuffer, OutBuffer, ResetDirective, get_error_name};

use super::codec::{CodecError, PIECE_BYTES, Window};

/// A kept decoder is at most this large: a window of 2 MiB, as the default level has, and the rest.
const IDLE_BYTES_MAX: usize = 4 * 1024 * 1024;

thread_local! {
    static IDLE: RefCell<Option<DCtx<'static>>> = const { RefCell::new(None) };
}

/// The content of a stream, piece by piece.
pub(super) struct ZstdFrames<'a> {
    /// Absent only while dropping.
    decoder: Option<DCtx<'static>>,
    input: InBuffer<'a>,
    between_frames: bool,
}

impl<'a> ZstdFrames<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Result<ZstdFrames<'a>, String> {
        let kept = IDLE.with_borrow_mut(Option::take);
        let mut decoder =
            kept.or_else(DCtx::try_create).ok_or_else(|| "no memory for a decoder".to_owned())?;
        decoder
            .reset(ResetDirective::SessionOnly)
            .map_err(|code| get_error_name(code).to_owned())?;
        let input = InBuffer::around(bytes);
        Ok(ZstdFrames { decoder: Some(decoder), input, between_frames: true })
    }

    /// Decompresses a piece into the window. `None` at the end, else the bytes it made.
    pub(super) fn fill(&mut self, window: &mut Window) -> Result<Option<usize>, CodecError> {
        let decoder = self.decoder.as_mut().expect("the decoder is there until the drop");
        loop {
            let exhausted = self.input.pos == self.input.src.len();
            if exhausted && self.between_frames {
                return Ok(None);
            }
            let mut out = OutBuffer::around(window.room(PIECE_BYTES));
            let hint = decoder
                .decompress_stream(&mut out, &mut self.input)
                .map_err(|code| get_error_name(code).to_owned())?;
            let made = out.pos();
            self.between_frames = hint == 0;
            if made > 0 {
                window.commit(made);
                return Ok(Some(made));
            }
            if exhausted {
                return Err("frame is cut off".to_owned().into());
            }
        }
    }
}

impl Drop for ZstdFrames<'_> {
    fn drop(&mut self) {
        if let Some(decoder) = self.decoder.take()
            && decoder.sizeof() <= IDLE_BYTES_MAX
        {
            IDLE.with_borrow_mut(|idle| *idle = Some(decoder));
        }
    }
}
