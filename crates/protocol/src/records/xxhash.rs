//! xxHash32 with seed 0, which the LZ4 frame format uses for its checksums.

const PRIMES: [u32; 5] = [0x9e37_79b1, 0x85eb_ca77, 0xc2b2_ae3d, 0x27d4_eb2f, 0x1656_67b1];
const STRIPE: usize = 16;

/// Hashes bytes given in pieces.
pub(super) struct XxHash32 {
    lanes: [u32; 4],
    pending: [u8; STRIPE],
    pending_len: usize,
    total: u64,
}

impl XxHash32 {
    pub(super) fn new() -> XxHash32 {
        let lanes = [PRIMES[0].wrapping_add(PRIMES[1]), PRIMES[1], 0, 0u32.wrapping_sub(PRIMES[0])];
        XxHash32 { lanes, pending: [0; STRIPE], pending_len: 0, total: 0 }
    }

    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        self.total += bytes.len() as u64;
        if self.pending_len > 0 {
            let taken = bytes.len().min(STRIPE - self.pending_len);
            self.pending[self.pending_len..self.pending_len + taken]
                .copy_from_slice(&bytes[..taken]);
            self.pending_len += taken;
            bytes = &bytes[taken..];
            if self.pending_len < STRIPE {
                return;
            }
            let stripe = self.pending;
            self.mix(&stripe);
            self.pending_len = 0;
        }
        let mut stripes = bytes.chunks_exact(STRIPE);
        for stripe in &mut stripes {
            self.mix(stripe);
        }
        let rest = stripes.remainder();
        self.pending[..rest.len()].copy_from_slice(rest);
        self.pending_len = rest.len();
    }

    fn mix(&mut self, stripe: &[u8]) {
        for (lane, word) in self.lanes.iter_mut().zip(stripe.chunks_exact(4)) {
            *lane = lane
                .wrapping_add(little_endian(word).wrapping_mul(PRIMES[1]))
                .rotate_left(13)
                .wrapping_mul(PRIMES[0]);
        }
    }

    pub(super) fn finish(&self) -> u32 {
        let mut hash = if self.total < STRIPE as u64 {
            PRIMES[4]
        } else {
            let [a, b, c, d] = self.lanes;
            let high = a.rotate_left(1).wrapping_add(b.rotate_left(7));
            high.wrapping_add(c.rotate_left(12)).wrapping_add(d.rotate_left(18))
        };
        hash = hash.wrapping_add(self.total as u32); // The format takes the length modulo 2^32.
        let mut words = self.pending[..self.pending_len].chunks_exact(4);
        for word in &mut words {
            let mixed = hash.wrapping_add(little_endian(word).wrapping_mul(PRIMES[2]));
            hash = mixed.rotate_left(17).wrapping_mul(PRIMES[3]);
        }
        for byte in words.remainder() {
            let mixed = hash.wrapping_add(u32::from(*byte).wrapping_mul(PRIMES[4]));
            hash = mixed.rotate_left(11).wrapping_mul(PRIMES[0]);
        }
        hash = (hash ^ hash >> 15).wrapping_mul(PRIMES[1]);
        hash = (hash ^ hash >> 13).wrapping_mul(PRIMES[2]);
        hash ^ hash >> 16
    }
}

/// The hash of one piece.
pub(super) fn xxhash32(bytes: &[u8]) -> u32 {
    let mut hash = XxHash32::new();
    hash.update(bytes);
    hash.finish()
}

fn little_endian(word: &[u8]) -> u32 {
    word.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_hashes() {
        assert_eq!(xxhash32(b""), 0x02cc_5d05);
        assert_eq!(xxhash32(b"a"), 0x550d_7456);
        assert_eq!(xxhash32(b"abc"), 0x32d1_53ff);
        assert_eq!(xxhash32(b"Nobody inspects the spammish repetition"), 0xe229_3b2f);
    }

    #[test]
    fn pieces_do_not_matter() {
        let bytes: Vec<u8> = (0..200u8).collect();
        for piece in 1..40 {
            let mut hash = XxHash32::new();
            bytes.chunks(piece).for_each(|it| hash.update(it));
            assert_eq!(hash.finish(), xxhash32(&bytes), "pieces of {piece}");
        }
    }
}
