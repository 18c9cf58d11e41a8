//! Maps whose copies share what they have in common: a copy costs one counter, and changing an entry copies the way to
//! it.
//!
//! Owns: what becomes of an entry that is changed. Does not own: the trie (the crate `rpds`).

use std::borrow::Borrow;
use std::hash::{BuildHasherDefault, DefaultHasher, Hash};

use rpds::HashTrieMapSync;

/// Without keys of its own for the hash, which would be most of a small map. Whoever may create ACLs gains nothing by
/// names whose hashes are equal.
pub(super) type SharedMap<K, V> = HashTrieMapSync<K, V, BuildHasherDefault<DefaultHasher>>;

/// Whether an entry stays after it was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    Yes,
    No,
}

/// Changes the value of a key, beginning with the default if there is none; `own` makes the key of a new entry.
pub(super) fn change_entry<K, V, Q>(
    map: &mut SharedMap<K, V>,
    key: &Q,
    own: impl FnOnce(&Q) -> K,
    change: impl FnOnce(&mut V) -> Kept,
) where
    K: Borrow<Q> + Clone + Hash + Eq,
    V: Clone + Default,
    Q: Hash + Eq + ?Sized,
{
    if let Some(value) = map.get_mut(key) {
        if change(value) == Kept::No {
            map.remove_mut(key);
        }
        return;
    }
    let mut value = V::default();
    if change(&mut value) == Kept::Yes {
        map.insert_mut(own(key), value);
    }
}
