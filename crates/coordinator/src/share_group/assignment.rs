//! Who shares in what: Kafka's `simple` assignor in purpose, not in letter (KIP-932). A pure function.
//!
//! Promises: every partition of a topic is shared in by one of the topic's subscribers at least; every
//! subscriber shares in one of the topic's partitions at least; no partition has two subscribers more than
//! another of its topic. The same input gives the same assignment.

use std::collections::BTreeMap;

use vocabulary::TopicId;

use crate::event::Partitions;

/// `topics` gives the partition count of each; `subscribers` the topics of each member, in the order of the answer.
pub(super) fn assign(
    topics: &BTreeMap<TopicId, i32>,
    subscribers: &[Vec<TopicId>],
) -> Vec<Partitions> {
    let mut assigned = vec![Partitions::new(); subscribers.len()];
    let mut takers: BTreeMap<TopicId, Vec<usize>> = BTreeMap::new();
    for (number, wanted) in subscribers.iter().enumerate() {
        for topic in wanted {
            takers.entry(*topic).or_default().push(number);
        }
    }
    // Where the last topic's partitions ended: topics of one partition do not all go to the same member.
    let mut turn = 0;
    for (topic, takers) in takers {
        let count = usize::try_from(topics.get(&topic).copied().unwrap_or(0)).unwrap_or(0);
        if count == 0 {
            continue;
        }
        for place in 0..count.max(takers.len()) {
            let taker = takers[(turn + place) % takers.len()];
            let index = i32::try_from(place % count).unwrap_or(0);
            assigned[taker].entry(topic).or_default().insert(index);
        }
        turn += count;
    }
    assigned
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(number: u8) -> TopicId {
        TopicId([number; 16])
    }

    fn sharers(assigned: &[Partitions], topic: TopicId, index: i32) -> usize {
        assigned.iter().filter(|it| it.get(&topic).is_some_and(|it| it.contains(&index))).count()
    }

    proptest! {
        #[test]
        fn everything_is_shared_and_evenly(
            counts in proptest::collection::vec(0..7i32, 1..5),
            wants in proptest::collection::vec(proptest::collection::btree_set(0..4u8, 0..4), 0..9),
        ) {
            let topics: BTreeMap<TopicId, i32> = (0..).map(id).zip(counts).collect();
            let subscribers: Vec<Vec<TopicId>> =
                wants.iter().map(|it| it.iter().copied().map(id).collect()).collect();
            let assigned = assign(&topics, &subscribers);
            prop_assert_eq!(assigned.len(), subscribers.len());
            for (topic, count) in &topics {
                let takers = subscribers.iter().filter(|it| it.contains(topic)).count();
                let each: Vec<usize> = (0..*count).map(|it| sharers(&assigned, *topic, it)).collect();
                let (least, most) = (each.iter().min(), each.iter().max());
                if let (Some(least), Some(most), true) = (least, most, 0 < takers) {
                    prop_assert!(1 <= *least && most - least <= 1, "{each:?} of {takers}");
                }
            }
            for (wanted, given) in subscribers.iter().zip(&assigned) {
                let there = wanted.iter().filter(|it| topics.get(*it).is_some_and(|it| 0 < *it));
                prop_assert!(there.into_iter().all(|it| given.contains_key(it)));
                prop_assert!(given.keys().all(|it| wanted.contains(it)));
            }
        }
    }

    #[test]
    fn topics_of_one_partition_are_spread() {
        let topics: BTreeMap<TopicId, i32> = (0..4).map(|it| (id(it), 1)).collect();
        let all: Vec<TopicId> = topics.keys().copied().collect();
        let assigned = assign(&topics, std::slice::from_ref(&all));
        assert_eq!(assigned[0].len(), 4);
        let two = assign(&topics, &[vec![id(0), id(1)], vec![id(2), id(3)]]);
        assert_eq!((two[0].len(), two[1].len()), (2, 2));
    }
}
