use proptest::prelude::*;

use super::*;

fn topic(number: u8) -> TopicId {
    TopicId([number; 16])
}

/// Topics with their partitions, and for each member whether it subscribes to each topic.
fn group() -> impl Strategy<Value = (BTreeMap<TopicId, i32>, Vec<Vec<bool>>)> {
    let topics = prop::collection::vec(0i32..9, 1..5);
    (topics, prop::collection::vec(prop::collection::vec(any::<bool>(), 5), 1..8)).prop_map(
        |(counts, wanted)| {
            let topics = (0..).zip(counts).map(|(number, count)| (topic(number), count)).collect();
            (topics, wanted)
        },
    )
}

fn assigned(
    assignor: Assignor,
    topics: &BTreeMap<TopicId, i32>,
    wanted: &[Vec<bool>],
    before: &[Partitions],
) -> Vec<Partitions> {
    let ids: Vec<Arc<str>> = (0..wanted.len()).map(|it| format!("m{it}").into()).collect();
    let members: Vec<Subscriber<'_>> = ids
        .iter()
        .zip(wanted)
        .enumerate()
        .map(|(at, (id, wanted))| Subscriber {
            id,
            instance: None,
            topics: topics.keys().zip(wanted).filter(|(_, it)| **it).map(|(id, _)| *id).collect(),
            before: before.get(at),
        })
        .collect();
    let result = assign(assignor, topics, &members);
    check(topics, &members, &result);
    result
}

/// One owner each, a subscriber, for every partition somebody subscribes to.
fn check(topics: &BTreeMap<TopicId, i32>, members: &[Subscriber<'_>], result: &[Partitions]) {
    assert_eq!(members.len(), result.len());
    for (topic, count) in topics {
        let mut seen = Vec::new();
        for (member, owned) in members.iter().zip(result) {
            let Some(partitions) = owned.get(topic) else { continue };
            assert!(member.topics.contains(topic), "only subscribers own");
            assert!(!partitions.is_empty(), "no empty sets");
            seen.extend(partitions.iter().copied());
        }
        seen.sort_unstable();
        let is_wanted = members.iter().any(|it| it.topics.contains(topic));
        let all: Vec<i32> = if is_wanted { (0..*count).collect() } else { Vec::new() };
        assert_eq!(seen, all, "each partition once");
    }
}

fn load(owned: &Partitions) -> usize {
    owned.values().map(BTreeSet::len).sum()
}

fn moved(before: &[Partitions], after: &[Partitions]) -> usize {
    let kept = |(before, after): (&Partitions, &Partitions)| -> usize {
        let common = |(topic, them): (&TopicId, &BTreeSet<i32>)| {
            after.get(topic).map_or(0, |it| it.intersection(them).count())
        };
        before.iter().map(common).sum()
    };
    let total: usize = after.iter().map(load).sum();
    total - before.iter().zip(after).map(kept).sum::<usize>()
}

proptest! {
    #[test]
    fn whoever_subscribes_to_what_every_partition_has_one_owner((topics, wanted) in group()) {
        assigned(Assignor::Range, &topics, &wanted, &[]);
        let first = assigned(Assignor::Uniform, &topics, &wanted, &[]);
        // With nothing changed nothing moves.
        prop_assert_eq!(&assigned(Assignor::Uniform, &topics, &wanted, &first), &first);
        // No move of one partition makes two members more even.
        for (at, mine) in first.iter().enumerate() {
            for topic in mine.keys() {
                for (other, theirs) in first.iter().enumerate() {
                    let number = topics.keys().position(|it| it == topic).unwrap();
                    if at != other && wanted[other][number] {
                        prop_assert!(load(mine) <= load(theirs) + 1, "{first:?}");
                    }
                }
            }
        }
    }

    // Goal: members alike end within one partition of each other, and no more moves than must.
    // Method: some members go, some come; what must move is what the gone had and what is above
    // the new share.
    #[test]
    fn members_alike_are_even_and_keep_what_they_can(
        counts in prop::collection::vec(0i32..20, 1..4),
        staying in 1usize..6, leaving in 0usize..4, joining in 0usize..4,
    ) {
        let topics: BTreeMap<TopicId, i32> =
            (0..).zip(counts).map(|(number, count)| (topic(number), count)).collect();
        let alike = |count: usize| vec![vec![true; 5]; count];
        let first = assigned(Assignor::Uniform, &topics, &alike(staying + leaving), &[]);
        let before: Vec<Partitions> = first[..staying].to_vec();
        let after = assigned(Assignor::Uniform, &topics, &alike(staying + joining), &before);
        let loads: Vec<usize> = after.iter().map(load).collect();
        let (least, most) = (loads.iter().min().unwrap(), loads.iter().max().unwrap());
        prop_assert!(most - least <= 1, "{loads:?}");

        let total: usize = loads.iter().sum();
        let (share, extra) = (total / loads.len(), total % loads.len());
        let mut kept: Vec<usize> = before.iter().map(load).collect();
        kept.sort_unstable_by(|a, b| b.cmp(a));
        let quota = |at: usize| share + usize::from(at < extra);
        let keepable: usize = kept.iter().enumerate().map(|(at, it)| (*it).min(quota(at))).sum();
        prop_assert_eq!(moved(&before, &after), total - keepable);
    }
}

#[test]
fn ranges_meet_across_topics_and_favour_the_first() {
    let topics = BTreeMap::from([(topic(1), 3), (topic(2), 3), (topic(3), 1)]);
    let result = assigned(Assignor::Range, &topics, &[vec![true; 5], vec![true; 5]], &[]);
    let set = |them: &[i32]| them.iter().copied().collect::<BTreeSet<i32>>();
    let first = [(topic(1), set(&[0, 1])), (topic(2), set(&[0, 1])), (topic(3), set(&[0]))];
    assert_eq!(result[0], first.into_iter().collect());
    assert_eq!(result[1], [(topic(1), set(&[2])), (topic(2), set(&[2]))].into_iter().collect());
}

#[test]
fn names_are_kafkas() {
    assert_eq!(Assignor::from_name("uniform"), Some(Assignor::Uniform));
    assert_eq!(Assignor::from_name("range"), Some(Assignor::Range));
    assert_eq!(Assignor::from_name("sticky"), None);
}
