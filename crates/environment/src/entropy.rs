//! Chance as an argument.
//!
//! Owns: where random bytes come from. Does not own: what they are used for.
//!
//! The system's bytes are good enough for names that must never collide and for secrets. The seeded
//! generator is neither: it exists so that a simulated run is a function of its seed.

use std::fmt;
use std::sync::{Mutex, PoisonError};

/// Where a room gets its random bytes.
pub trait Entropy: Send + Sync + fmt::Debug {
    fn fill(&self, bytes: &mut [u8]);

    fn next_u64(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn next_u128(&self) -> u128 {
        let mut bytes = [0; 16];
        self.fill(&mut bytes);
        u128::from_le_bytes(bytes)
    }

    /// An even choice among `0..n`; zero when `n` is zero. The bias is below `n / 2^64`.
    fn below(&self, n: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(n)) >> 64) as u64
    }
}

/// The operating system's generator.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the kernel's generator answers once it is seeded at boot");
    }
}

/// xoshiro256** seeded through splitmix64: same seed, same bytes in the same order of calls.
#[derive(Debug)]
pub struct SeededEntropy {
    /// A leaf lock: held for a few arithmetic steps, never across an await or a callback.
    state: Mutex<[u64; 4]>,
}

impl SeededEntropy {
    pub fn new(seed: u64) -> SeededEntropy {
        let mut splitmix = seed;
        SeededEntropy { state: Mutex::new([0; 4].map(|_: u64| splitmix64(&mut splitmix))) }
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&xoshiro256(&mut state).to_le_bytes()[..chunk.len()]);
        }
    }
}

fn splitmix64(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn xoshiro256(state: &mut [u64; 4]) -> u64 {
    let result = state[1].wrapping_mul(5).rotate_left(7).wrapping_mul(9);
    let shifted = state[1] << 17;
    state[2] ^= state[0];
    state[3] ^= state[1];
    state[1] ^= state[2];
    state[0] ^= state[3];
    state[2] ^= shifted;
    state[3] = state[3].rotate_left(45);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_every_byte() {
        let draw = |seed| {
            let entropy = SeededEntropy::new(seed);
            let mut bytes = [0; 21];
            entropy.fill(&mut bytes);
            (bytes, entropy.next_u128())
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn splitmix64_gives_the_published_sequence() {
        let mut state = 1_234_567;
        assert_eq!(splitmix64(&mut state), 6_457_827_717_110_365_317);
        assert_eq!(splitmix64(&mut state), 3_203_168_211_198_807_973);
    }

    #[test]
    fn below_stays_below_and_reaches_everything() {
        let entropy = SeededEntropy::new(1);
        let mut seen = [0u32; 7];
        (0..7000).for_each(|_| seen[entropy.below(7) as usize] += 1);
        assert!(seen.iter().all(|count| (700..1300).contains(count)), "{seen:?}");
        assert_eq!(entropy.below(0), 0);
    }

    #[test]
    fn the_system_does_not_repeat_itself() {
        assert_ne!(SystemEntropy.next_u128(), SystemEntropy.next_u128());
    }
}
