//! A response frame as a list of slices, written with vectored I/O and never joined.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// What is still to be written of one frame.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    chunks: VecDeque<Bytes>,
    remaining: usize,
}

impl Gathered {
    /// A frame: its length in four bytes, then `chunks`.
    pub(crate) fn frame(chunks: Vec<Bytes>) -> Gathered {
        let length: usize = chunks.iter().map(Bytes::len).sum();
        let prefix =
            u32::try_from(length).expect("answers are bounded by fetch.max.bytes, far below 4 GiB");
        let mut all = VecDeque::with_capacity(chunks.len() + 1);
        all.push_back(Bytes::copy_from_slice(&prefix.to_be_bytes()));
        all.extend(chunks.into_iter().filter(|chunk| !chunk.is_empty()));
        Gathered { chunks: all, remaining: length + 4 }
    }
}

impl Buf for Gathered {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        self.chunks.front().map_or(&[], |chunk| chunk)
    }

    fn chunks_vectored<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        for (slot, chunk) in into.iter_mut().zip(&self.chunks) {
            *slot = IoSlice::new(chunk);
            filled += 1;
        }
        filled
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.remaining, "advanced past the end of a frame");
        self.remaining -= count;
        while 0 < count {
            let front = self.chunks.front_mut().expect("remaining counts the chunks");
            let step = count.min(front.len());
            front.advance(step);
            count -= step;
            if front.is_empty() {
                self.chunks.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_reads_back_whole_whatever_the_steps() {
        let chunks = || vec![Bytes::from_static(b"abc"), Bytes::new(), Bytes::from_static(b"defg")];
        for step in 1..=11 {
            let mut frame = Gathered::frame(chunks());
            let mut seen = Vec::new();
            while frame.has_remaining() {
                let take = step.min(frame.remaining());
                let mut part = vec![0; take];
                frame.copy_to_slice(&mut part);
                seen.extend(part);
            }
            assert_eq!(seen, b"\0\0\0\x07abcdefg", "step {step}");
        }
    }

    #[test]
    fn vectored_slices_cover_the_frame() {
        let frame = Gathered::frame(vec![Bytes::from_static(b"ab"), Bytes::from_static(b"c")]);
        let mut slices = [IoSlice::new(&[]); 8];
        let filled = frame.chunks_vectored(&mut slices);
        let total: usize = slices[..filled].iter().map(|slice| slice.len()).sum();
        assert_eq!((filled, total), (3, frame.remaining()));
    }
}
