//! The checksum of a run, from its bytes or from the checksums of its batches.
//!
//! Owns: CRC-32C over pieces, and joining the checksums of neighbours. Does not own: whose checksum may be believed.
//!
//! A batch has a checksum of almost all of its bytes, which was checked when they came. Joined to the run's, it spares
//! a look at each of them in the WAL and another in the flush, when they are long out of the processor's caches. It is
//! also the stronger check: bytes that change in memory on the way to a segment do not fit its checksum (A6).
//!
//! The arithmetic is that of zlib's `crc32_combine`. A checksum is a polynomial over GF(2) modulo that of CRC-32C, with
//! the coefficient of x^0 in the highest bit. Bytes that follow multiply it by x^8 each, and add their own checksum.

use crc_fast::{CrcAlgorithm, Digest, crc32_iscsi};
use protocol::records::BatchHeader;

/// From this many bytes on a batch's checksum is joined to its run's. Below, reading the bytes takes no longer.
const JOINED_BYTES_MIN: usize = 4096;

/// Castagnoli's polynomial without x^32.
const POLYNOMIAL: u32 = 0x82f6_3b78;
/// x^0 and x^8.
const ONE: u32 = 1 << 31;
const BYTE: u32 = 1 << 23;

/// x^(8 * digit * 256^place), by place and digit: what a number of bytes multiplies by, a digit at a time.
static BYTES: [[u32; 256]; 4] = bytes();

/// CRC-32C over pieces, without bringing them together.
#[derive(Debug)]
pub(crate) struct RunCrc(Digest);

impl RunCrc {
    pub(crate) fn new() -> RunCrc {
        RunCrc(Digest::new(CrcAlgorithm::Crc32Iscsi))
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// `batch` is one whole batch, with `header` in front. Its checksum is believed.
    pub(super) fn update_checked(&mut self, header: &BatchHeader, batch: &[u8]) {
        let (front, checked) = batch.split_at(BatchHeader::CHECKED_FROM);
        if checked.len() < JOINED_BYTES_MIN {
            return self.update(batch);
        }
        debug_assert_eq!(header.crc, crc32_iscsi(checked), "A6: a batch's checksum is its own");
        self.update(front);
        self.join(header.crc, u32::try_from(checked.len()).expect("a batch's length has 31 bits"));
    }

    /// As [`RunCrc::update`] with `length` bytes whose checksum is `crc`.
    fn join(&mut self, crc: u32, length: u32) {
        let joined = followed_by(self.finish(), length) ^ crc;
        // Finishing inverts the digest's state.
        self.0 = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, u64::from(!joined));
    }

    pub(crate) fn finish(&self) -> u32 {
        self.0.finalize() as u32 // A 32-bit CRC in the low half of a wider register.
    }
}

/// What `crc` adds to the checksum of its bytes and `length` others behind them.
fn followed_by(crc: u32, length: u32) -> u32 {
    let digits = BYTES.iter().zip(length.to_le_bytes());
    let powers = digits.filter(|(_, digit)| *digit != 0);
    powers.fold(crc, |crc, (powers, digit)| times(powers[usize::from(digit)], crc))
}

/// The product of two polynomials.
const fn times(left: u32, mut right: u32) -> u32 {
    let mut product = 0;
    let mut bit = u32::BITS;
    while 0 < bit {
        bit -= 1;
        // Masks and not branches: the bits are as good as random.
        product ^= right & 0u32.wrapping_sub((left >> bit) & 1);
        right = (right >> 1) ^ (POLYNOMIAL & 0u32.wrapping_sub(right & 1));
    }
    product
}

const fn bytes() -> [[u32; 256]; 4] {
    let mut all = [[ONE; 256]; 4];
    let (mut place, mut unit) = (0, BYTE);
    while place < all.len() {
        let mut digit = 1;
        while digit < all[place].len() {
            all[place][digit] = times(unit, all[place][digit - 1]);
            digit += 1;
        }
        unit = times(unit, all[place][digit - 1]);
        place += 1;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use protocol::records::BATCH_HEADER_LEN;

    /// A whole batch of so many bytes behind its header, with its own checksum. What is in it does not matter.
    fn batch(payload: usize, seed: u8) -> (BatchHeader, Vec<u8>) {
        let length = (BATCH_HEADER_LEN - 12 + payload) as i32;
        let mut bytes: Vec<u8> =
            (0..BATCH_HEADER_LEN + payload).map(|it| (it * 31) as u8 ^ seed).collect();
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        bytes[16] = 2;
        let crc = crc32_iscsi(&bytes[BatchHeader::CHECKED_FROM..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        (BatchHeader::parse(&bytes).expect("a header"), bytes)
    }

    fn assert_is_of_the_bytes(batches: &[(BatchHeader, Vec<u8>)]) {
        let mut crc = RunCrc::new();
        let mut all = Vec::new();
        for (header, bytes) in batches {
            crc.update_checked(header, bytes);
            all.extend_from_slice(bytes);
            assert_eq!(crc.finish(), crc32_iscsi(&all), "after {} bytes", all.len());
        }
    }

    #[test]
    fn batches_around_the_limit_give_the_checksum_of_their_bytes() {
        let limit = JOINED_BYTES_MIN - (BATCH_HEADER_LEN - BatchHeader::CHECKED_FROM);
        let around: Vec<_> =
            (limit - 3..limit + 4).map(|payload| batch(payload, payload as u8)).collect();
        assert_is_of_the_bytes(&around);
        around.iter().for_each(|it| assert_is_of_the_bytes(std::slice::from_ref(it)));
    }

    #[test]
    fn large_batches_give_the_checksum_of_their_bytes() {
        let lengths = [0, 65_535, 65_536, 1 << 20, (1 << 24) + 1, 4096];
        let batches: Vec<_> = lengths.iter().map(|it| batch(*it, 5)).collect();
        assert_is_of_the_bytes(&batches);
    }

    #[test]
    fn a_byte_that_changed_after_its_check_does_not_fit() {
        let (header, mut bytes) = batch(JOINED_BYTES_MIN, 1);
        let length = bytes.len() - BatchHeader::CHECKED_FROM;
        *bytes.last_mut().expect("not empty") ^= 1;
        let mut crc = RunCrc::new();
        crc.update(&bytes[..BatchHeader::CHECKED_FROM]);
        crc.join(header.crc, length as u32);
        assert_ne!(crc.finish(), crc32_iscsi(&bytes));
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "A6")]
    fn who_passes_on_a_wrong_checksum_is_told_while_it_is_developed() {
        let (header, mut bytes) = batch(JOINED_BYTES_MIN, 1);
        *bytes.last_mut().expect("not empty") ^= 1;
        RunCrc::new().update_checked(&header, &bytes);
    }

    proptest! {
        #[test]
        fn pieces_may_be_joined_wherever_they_meet(
            bytes in proptest::collection::vec(any::<u8>(), 0..6000),
            cuts in proptest::collection::vec((0..6000usize, any::<bool>()), 0..6),
        ) {
            let mut cuts: Vec<_> =
                cuts.into_iter().map(|(at, joins)| (at.min(bytes.len()), joins)).collect();
            cuts.sort_unstable();
            cuts.push((bytes.len(), true));
            let (mut crc, mut from) = (RunCrc::new(), 0);
            for (to, joins) in cuts {
                let piece = &bytes[from..to];
                match joins {
                    true => crc.join(crc32_iscsi(piece), piece.len() as u32),
                    false => crc.update(piece),
                }
                from = to;
            }
            prop_assert_eq!(crc.finish(), crc32_iscsi(&bytes));
        }

        #[test]
        fn any_batches_give_the_checksum_of_their_bytes(
            payloads in proptest::collection::vec((0..20_000usize, any::<u8>()), 1..8),
        ) {
            let batches: Vec<_> =
                payloads.into_iter().map(|(payload, seed)| batch(payload, seed)).collect();
            assert_is_of_the_bytes(&batches);
        }

        /// Lengths that no test can afford to have in memory: one behind the other is their sum.
        #[test]
        fn lengths_add_up(crc: u32, first in 0..1u32 << 30, second in 0..1u32 << 30) {
            let one_by_one = followed_by(followed_by(crc, first), second);
            prop_assert_eq!(one_by_one, followed_by(crc, first + second));
            prop_assert_eq!(one_by_one, followed_by(followed_by(crc, second), first));
        }
    }
}
