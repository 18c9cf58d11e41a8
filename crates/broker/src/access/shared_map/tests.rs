//! The map beside a plain one, for keys whose hashes are many, few, or all the same.

use std::collections::BTreeMap;
use std::fmt::Debug;

use proptest::prelude::*;

use super::*;

/// A number whose hash tells it from few others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Number {
    number: u16,
    hashes: u16,
}

impl Hash for Number {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.number % self.hashes).hash(state);
    }
}

/// Adds to a key's value; 0 is none.
fn add(map: &mut SharedMap<Number, i32>, key: Number, addend: i32) {
    let changed = |value: &mut i32| {
        *value += addend;
        if *value == 0 { Kept::No } else { Kept::Yes }
    };
    map.change(&key, |key| *key, changed);
}

fn check<K: Hash + Eq + Debug, V>(node: &Node<K, V>, level: u32, trail: u64) {
    match node {
        Node::Empty => (),
        Node::Leaf(entries) => {
            assert!(entries.len() <= LEAF_ENTRIES_MAX || level == LEVELS, "M2");
            assert!(!entries.is_empty(), "M2");
            let below = 1u64.checked_shl(level * LEVEL_BITS).map_or(u64::MAX, |it| it - 1);
            for (place, (key, _)) in entries.iter().enumerate() {
                assert_eq!(hash_of(key) & below, trail, "M1: {key:?} is where its hash leads");
                assert!(entries[..place].iter().all(|(it, _)| it != key), "M1: {key:?} is once");
            }
        }
        Node::Branch(children) => {
            let mut count = Some(0);
            for (index, child) in children.iter().enumerate() {
                check(child, level + 1, trail | (index as u64) << (level * LEVEL_BITS));
                count = match child {
                    Node::Empty => count,
                    Node::Leaf(entries) => count.map(|it| it + entries.len()),
                    Node::Branch(_) => None,
                };
            }
            assert!(count.is_none_or(|it| JOINED_ENTRIES_MAX < it), "M3: {count:?}");
        }
    }
}

fn contents(map: &SharedMap<Number, i32>) -> BTreeMap<Number, i32> {
    map.iter().map(|(key, value)| (*key, *value)).collect()
}

proptest! {
    #[test]
    fn it_is_a_map_and_its_copies_stay_as_they_were(
        hashes in prop_oneof![Just(1), Just(3), Just(40), Just(u16::MAX)],
        changes in prop::collection::vec((0..60u16, -1..=1i32), 0..300),
    ) {
        let (mut map, mut plain) = (SharedMap::default(), BTreeMap::new());
        let mut copies = Vec::new();
        for (number, addend) in changes {
            let key = Number { number, hashes };
            if number % 7 == 0 {
                copies.push((map.clone(), plain.clone()));
            }
            add(&mut map, key, addend);
            let value = plain.entry(key).or_insert(0);
            *value += addend;
            if *value == 0 {
                plain.remove(&key);
            }
            prop_assert_eq!(map.get(&key), plain.get(&key));
        }
        copies.push((map, plain));
        for (map, plain) in copies {
            check(&map.root, 0, 0);
            prop_assert_eq!(map.is_empty(), plain.is_empty());
            for number in 0..60 {
                let key = Number { number, hashes };
                prop_assert_eq!(map.get(&key), plain.get(&key));
            }
            prop_assert_eq!(contents(&map), plain);
        }
    }
}

/// Where each node is.
fn nodes<K, V>(node: &Node<K, V>, found: &mut Vec<*const ()>) {
    match node {
        Node::Empty => (),
        Node::Leaf(entries) => found.push(Arc::as_ptr(entries).cast()),
        Node::Branch(children) => {
            found.push(Arc::as_ptr(children).cast());
            children.iter().for_each(|it| nodes(it, found));
        }
    }
}

#[test]
fn a_change_copies_one_way_from_the_root() {
    let mut map = SharedMap::default();
    let key = |number| Number { number, hashes: u16::MAX };
    (0..10_000).for_each(|number| add(&mut map, key(number), 1));
    let before = map.clone();
    add(&mut map, key(20_000), 1);
    let (mut old, mut new) = (Vec::new(), Vec::new());
    nodes(&before.root, &mut old);
    nodes(&map.root, &mut new);
    let fresh = new.iter().filter(|it| !old.contains(it)).count();
    // A way, and a leaf that is split at the end of it.
    assert!(1_000 < old.len() && fresh <= LEVELS as usize + WAYS, "{fresh} of {}", old.len());
    assert_eq!((before.get(&key(20_000)), map.get(&key(20_000))), (None, Some(&1)));
}
