//! Response frames as a list of slices, written with vectored I/O and never joined.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};
use protocol::Frame;

/// What is still to be written of one frame, or of several that follow each other.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    chunks: VecDeque<Bytes>,
    remaining: usize,
}

impl From<Frame> for Gathered {
    fn from(frame: Frame) -> Gathered {
        Gathered { chunks: frame.chunks.into(), remaining: frame.length }
    }
}

impl Gathered {
    /// `next` follows.
    pub(crate) fn append(&mut self, mut next: Gathered) {
        self.remaining += next.remaining;
        self.chunks.append(&mut next.chunks);
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

    fn gathered(chunks: &[&'static str]) -> Gathered {
        let chunks: Vec<_> = chunks.iter().map(|it| Bytes::from_static(it.as_bytes())).collect();
        let length = chunks.iter().map(Bytes::len).sum();
        Gathered::from(Frame { chunks, length })
    }

    #[test]
    fn a_frame_reads_back_whole_whatever_the_steps() {
        for step in 1..=8 {
            let mut frame = gathered(&["abc"]);
            frame.append(gathered(&[]));
            frame.append(gathered(&["d", "efg"]));
            let mut seen = Vec::new();
            while frame.has_remaining() {
                let take = step.min(frame.remaining());
                let mut part = vec![0; take];
                frame.copy_to_slice(&mut part);
                seen.extend(part);
            }
            assert_eq!(seen, b"abcdefg", "step {step}");
        }
    }

    #[test]
    fn vectored_slices_cover_the_frame() {
        let frame = gathered(&["ab", "c"]);
        let mut slices = [IoSlice::new(&[]); 8];
        let filled = frame.chunks_vectored(&mut slices);
        let total: usize = slices[..filled].iter().map(|slice| slice.len()).sum();
        assert_eq!((filled, total), (2, frame.remaining()));
    }
}
