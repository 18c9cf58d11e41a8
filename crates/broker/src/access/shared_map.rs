//! A map whose copies share what they have in common: a copy costs one counter, and changing an entry of it copies the
//! way to that entry.
//!
//! A trie over the bits of a key's hash, with small leaves. Owns: where an entry lies. Does not own: what is in it.
//!
//! Invariants, checked by `check` in tests:
//! - M1 a key is there once, in the leaf that its hash leads to;
//! - M2 a leaf has an entry, and at most [`LEAF_ENTRIES_MAX`] of them, but where the hash is used up;
//! - M3 a branch without branches below it has more than [`JOINED_ENTRIES_MAX`] entries.

use std::borrow::Borrow;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// Bits of the hash that a level takes, and the children of a branch.
const LEVEL_BITS: u32 = 5;
const WAYS: usize = 1 << LEVEL_BITS;
const LEVELS: u32 = u64::BITS.div_ceil(LEVEL_BITS);

/// Entries that are looked through one after another. More: fewer nodes, slower look-ups, larger copies.
const LEAF_ENTRIES_MAX: usize = 8;

/// At that many, leaves become one again. Fewer than a leaf holds, or a key that comes and goes would split and join
/// it.
const JOINED_ENTRIES_MAX: usize = 4;
const _: () = assert!(JOINED_ENTRIES_MAX < LEAF_ENTRIES_MAX);

/// Whether an entry stays after it was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    Yes,
    No,
}

#[derive(Debug)]
pub(super) struct SharedMap<K, V> {
    root: Node<K, V>,
}

/// One pointer a level, so that a look-up waits for memory as seldom as can be.
#[derive(Debug)]
enum Node<K, V> {
    Empty,
    Leaf(Arc<Vec<(K, V)>>),
    Branch(Arc<[Node<K, V>; WAYS]>),
}

impl<K, V> Clone for Node<K, V> {
    fn clone(&self) -> Node<K, V> {
        match self {
            Node::Empty => Node::Empty,
            Node::Leaf(entries) => Node::Leaf(Arc::clone(entries)),
            Node::Branch(children) => Node::Branch(Arc::clone(children)),
        }
    }
}

impl<K, V> Clone for SharedMap<K, V> {
    fn clone(&self) -> SharedMap<K, V> {
        SharedMap { root: self.root.clone() }
    }
}

impl<K, V> Default for SharedMap<K, V> {
    fn default() -> SharedMap<K, V> {
        SharedMap { root: Node::Empty }
    }
}

impl<K, V> SharedMap<K, V> {
    pub(super) fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let (mut node, mut level, mut hash) = (&self.root, 0, None);
        loop {
            match node {
                Node::Empty => return None,
                Node::Leaf(entries) => {
                    let found = entries.iter().find(|(it, _)| it.borrow() == key);
                    return found.map(|(_, value)| value);
                }
                Node::Branch(children) => {
                    // Most maps are one leaf, which needs no hash.
                    let hash = *hash.get_or_insert_with(|| hash_of(key));
                    node = &children[way(hash, level)];
                    level += 1;
                }
            }
        }
    }

    /// In no order that means anything.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let mut waiting = vec![&self.root];
        let leaves = std::iter::from_fn(move || {
            loop {
                match waiting.pop()? {
                    Node::Empty => (),
                    Node::Leaf(entries) => return Some(entries.iter()),
                    Node::Branch(children) => waiting.extend(children.iter()),
                }
            }
        });
        leaves.flatten().map(|(key, value)| (key, value))
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self.root, Node::Empty)
    }
}

impl<K, V> SharedMap<K, V>
where
    K: Clone + Hash + Eq,
    V: Clone + Default,
{
    /// Changes the value of a key, beginning with the default if there is none; `own` makes the key of a new entry.
    pub(super) fn change<Q>(
        &mut self,
        key: &Q,
        own: impl FnOnce(&Q) -> K,
        change: impl FnOnce(&mut V) -> Kept,
    ) where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let hash = hash_of(key);
        self.root.change((hash, 0), key, own, change);
    }
}

impl<K, V> Node<K, V>
where
    K: Clone + Hash + Eq,
    V: Clone + Default,
{
    /// As [`SharedMap::change`], at a level. Says whether an entry went away.
    fn change<Q>(
        &mut self,
        (hash, level): (u64, u32),
        key: &Q,
        own: impl FnOnce(&Q) -> K,
        change: impl FnOnce(&mut V) -> Kept,
    ) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let entries = match self {
            Node::Empty => {
                let mut value = V::default();
                if change(&mut value) == Kept::Yes {
                    *self = Node::Leaf(Arc::new(vec![(own(key), value)]));
                }
                return false;
            }
            Node::Branch(children) => {
                let child = &mut Arc::make_mut(children)[way(hash, level)];
                let went = child.change((hash, level + 1), key, own, change);
                if went {
                    self.join();
                }
                return went;
            }
            Node::Leaf(entries) => Arc::make_mut(entries),
        };
        if let Some(place) = entries.iter().position(|(it, _)| it.borrow() == key) {
            let went = change(&mut entries[place].1) == Kept::No;
            if went {
                entries.swap_remove(place);
                if entries.is_empty() {
                    *self = Node::Empty;
                }
            }
            return went;
        }
        let mut value = V::default();
        if change(&mut value) == Kept::Yes {
            // Most leaves have one entry for ever: room for more would be most of the memory.
            entries.reserve_exact(1);
            entries.push((own(key), value));
            if LEAF_ENTRIES_MAX < entries.len() {
                *self = Node::of(std::mem::take(entries), level);
            }
        }
        false
    }

    /// A leaf if they fit into one, else as many levels as it takes.
    fn of(entries: Vec<(K, V)>, level: u32) -> Node<K, V> {
        if entries.is_empty() {
            return Node::Empty;
        }
        if entries.len() <= LEAF_ENTRIES_MAX || level == LEVELS {
            return Node::Leaf(Arc::new(entries));
        }
        let mut parts: [Vec<(K, V)>; WAYS] = Default::default();
        for entry in entries {
            parts[way(hash_of(&entry.0), level)].push(entry);
        }
        Node::Branch(Arc::new(parts.map(|part| Node::of(part, level + 1))))
    }

    /// Makes a leaf of a branch with few entries.
    fn join(&mut self) {
        let Node::Branch(children) = self else { return };
        let mut count = 0;
        for child in children.iter() {
            match child {
                Node::Empty => (),
                Node::Leaf(entries) => count += entries.len(),
                Node::Branch(_) => return,
            }
        }
        if JOINED_ENTRIES_MAX < count {
            return;
        }
        let mut joined = Vec::with_capacity(count);
        for child in children.iter() {
            if let Node::Leaf(entries) = child {
                joined.extend(entries.iter().cloned());
            }
        }
        *self = match joined.is_empty() {
            true => Node::Empty,
            false => Node::Leaf(Arc::new(joined)),
        };
    }
}

/// The same for equal keys in every map. Nobody gains by keys that lead the same way: a hash is used up after
/// [`LEVELS`] levels, and whole hashes that are equal are not found by trying.
fn hash_of(key: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

/// The child of a branch of that level.
fn way(hash: u64, level: u32) -> usize {
    (hash >> (level * LEVEL_BITS)) as usize % WAYS
}

#[cfg(test)]
mod tests;
