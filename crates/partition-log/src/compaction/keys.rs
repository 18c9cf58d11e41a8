//! Where each key was last seen, in memory that does not grow. Pure.
//!
//! Owns: hashing keys, the table. Does not own: which records are put in (`survey`).
//!
//! A key is known by 128 bits: two SipHash-1-3 values over it, each behind its own random prefix of 64
//! bits that is drawn for every pass. Among n keys of one pass two have the same 128 bits with a
//! probability of about n²/2^129: 1.5e-25 for ten million keys, and nobody who chooses keys can raise
//! it without knowing the prefixes. If it happened, the older one of two different keys would be lost.
//!
//! Memory: [`SLOT_BYTES`] for each slot, allocated once, never above the limit.
//!
//! Invariants: K1 never more keys than the load factor allows, so a probe ends; K2 what is remembered of
//! a key is the greatest offset it was put in with.

use std::hash::{DefaultHasher, Hasher};
use vocabulary::Offset;

/// 16 bytes of hash and 8 of offset.
pub(super) const SLOT_BYTES: u64 = 24;

/// An offset that no record has.
const FREE: i64 = -1;

#[derive(Debug, Clone, Copy)]
struct Slot {
    hash: [u64; 2],
    offset: i64,
}

const _: () = assert!(size_of::<Slot>() as u64 == SLOT_BYTES);

#[derive(Debug)]
pub(super) struct KeyMap {
    slots: Vec<Slot>,
    count: usize,
    count_max: usize,
    prefixes: [u64; 2],
}

/// There was no room for another key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

impl KeyMap {
    /// For at most `keys` keys, in at most `bytes_max` of memory, of which `load_factor` (above 0, at
    /// most 1) is used. There is room for one key at least.
    pub(super) fn new(keys: u64, bytes_max: u64, load_factor: f64, prefixes: [u64; 2]) -> KeyMap {
        let slots_max = (bytes_max / SLOT_BYTES).max(2);
        let wanted = (keys as f64 / load_factor).ceil() as u64;
        let slots = wanted.saturating_add(1).clamp(2, slots_max) as usize;
        // One slot stays free, or looking for an unknown key would not end (K1).
        let count_max = ((slots as f64 * load_factor) as usize).clamp(1, slots - 1);
        let free = Slot { hash: [0; 2], offset: FREE };
        KeyMap { slots: vec![free; slots], count: 0, count_max, prefixes }
    }

    /// Remembers `offset` for `key`, unless a greater one is known.
    pub(super) fn put(&mut self, key: &[u8], offset: Offset) -> Result<(), Full> {
        let hash = self.hash(key);
        let at = self.find(hash);
        let is_full = self.count_max <= self.count;
        let slot = &mut self.slots[at];
        if slot.offset == FREE {
            if is_full {
                return Err(Full);
            }
            self.count += 1;
        }
        *slot = Slot { hash, offset: slot.offset.max(offset.0) };
        Ok(())
    }

    /// The greatest offset that was put in for `key`.
    pub(super) fn latest(&self, key: &[u8]) -> Option<Offset> {
        let slot = self.slots[self.find(self.hash(key))];
        (slot.offset != FREE).then_some(Offset(slot.offset))
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.count
    }

    fn hash(&self, key: &[u8]) -> [u64; 2] {
        self.prefixes.map(|prefix| {
            let mut hasher = DefaultHasher::new();
            hasher.write_u64(prefix);
            hasher.write(key);
            hasher.finish()
        })
    }

    /// The slot of `hash`, or the free one where it would be.
    fn find(&self, hash: [u64; 2]) -> usize {
        let slots = self.slots.len();
        let mut at = ((u128::from(hash[0]) * slots as u128) >> 64) as usize;
        loop {
            let slot = &self.slots[at];
            if slot.offset == FREE || slot.hash == hash {
                return at;
            }
            at = if at + 1 == slots { 0 } else { at + 1 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn it_knows_the_last_offset_of_every_key(
            puts in prop::collection::vec((0u16..300, 0i64..10_000), 0..600),
            room in 1u64..200,
        ) {
            let mut map = KeyMap::new(400, room * SLOT_BYTES, 0.9, [1, 2]);
            let mut model: BTreeMap<u16, i64> = BTreeMap::new();
            for (key, offset) in puts {
                match map.put(&key.to_be_bytes(), Offset(offset)) {
                    Ok(()) => {
                        let known = model.entry(key).or_insert(offset);
                        *known = offset.max(*known);
                    }
                    Err(Full) => {
                        prop_assert!(!model.contains_key(&key), "K1: only a new key needs room");
                        prop_assert!(room as usize * 8 / 10 <= model.len() + 2);
                    }
                }
            }
            prop_assert_eq!(map.len(), model.len());
            for key in 0u16..300 {
                let known = model.get(&key).map(|it| Offset(*it));
                prop_assert_eq!(map.latest(&key.to_be_bytes()), known, "K2");
            }
        }
    }

    #[test]
    fn memory_is_what_the_keys_need_and_never_above_the_limit() {
        let slots = |keys, bytes_max| KeyMap::new(keys, bytes_max, 0.9, [1, 2]).slots.len() as u64;
        assert_eq!(slots(9, u64::MAX), 11);
        assert_eq!(slots(u64::MAX, 240), 10);
        assert_eq!(slots(0, 0), 2);
    }
}
