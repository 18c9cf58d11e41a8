//! Share groups (KIP-932), request by request.

use super::consumers::{id, joining, set};
use super::*;

fn sharing(member: &str, topics: &[&str]) -> ShareHeartbeat {
    ShareHeartbeat {
        group: "g".to_owned(),
        member: member.to_owned(),
        epoch: 0,
        rack: None,
        client_id: "c".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        topics: Some(topics.iter().map(|it| (*it).to_owned()).collect()),
    }
}

fn silent(member: &str, epoch: i32) -> ShareHeartbeat {
    ShareHeartbeat { epoch, topics: None, ..sharing(member, &[]) }
}

fn parts(topic: &str, them: &[i32]) -> Option<Partitions> {
    Some(Partitions::from([(id(topic), set(them))]))
}

impl Bench {
    fn share(&mut self, heartbeat: ShareHeartbeat) -> Result<ShareHeartbeatReply, ErrorCode> {
        match self.ask(Command::ShareHeartbeat(Box::new(heartbeat))) {
            Reply::ShareHeartbeat(reply) => reply.map_err(|it| it.code),
            other => panic!("{other:?}"),
        }
    }

    fn shared(&mut self, heartbeat: ShareHeartbeat) -> (i32, Option<Partitions>) {
        let reply = self.share(heartbeat).unwrap();
        (reply.epoch, reply.assignment)
    }

    fn shown_share(&mut self) -> DescribedShareGroup {
        match self.ask(Command::DescribeShares(vec!["g".to_owned()])) {
            Reply::DescribeShares(mut groups) => groups.remove(0).unwrap(),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn members_share_what_they_subscribe_to() {
    let mut bench = Bench::new();
    bench.topic("t", 2);
    assert_eq!(bench.shared(sharing("a", &["t"])), (1, parts("t", &[0, 1])));
    assert_eq!(bench.shared(silent("a", 1)), (1, None), "nothing has changed");
    let (epoch, b) = bench.shared(sharing("b", &["t"]));
    assert_eq!((epoch, b.unwrap()[&id("t")].len()), (2, 1));
    let (epoch, a) = bench.shared(silent("a", 1));
    assert_eq!((epoch, a.unwrap()[&id("t")].len()), (2, 1));
    // A third shares a partition with one of them.
    let (epoch, c) = bench.shared(sharing("c", &["t"]));
    assert_eq!((epoch, c.unwrap()[&id("t")].len()), (3, 1));
    let shown = bench.shown_share();
    assert_eq!((shown.state, shown.epoch, shown.target_epoch), (GroupState::Stable, 3, 3));
    assert_eq!(shown.members.len(), 3);
    bench.topic("t", 3);
    assert_eq!(bench.shared(silent("a", 2)).0, 4, "the topic has grown");
}

#[test]
fn two_targets_are_not_too_close_together() {
    let mut bench = Bench::new();
    bench.catalogue.share_settings.lock().unwrap().assignment_interval_ms = 1_000;
    bench.topic("t", 2);
    assert_eq!(bench.shared(sharing("a", &["t"])), (1, parts("t", &[0, 1])));
    assert_eq!(bench.shared(sharing("b", &["t"])), (1, Some(Partitions::new())), "not yet");
    bench.advance(999);
    assert_eq!(bench.shared(silent("b", 1)), (1, None));
    bench.advance(1);
    let (epoch, b) = bench.shared(silent("b", 1));
    assert_eq!((epoch, b.unwrap()[&id("t")].len()), (2, 1));
}

#[test]
fn epochs_fence_and_members_leave() {
    let mut bench = Bench::new();
    bench.topic("t", 1);
    assert_eq!(bench.share(silent("a", 1)), Err(ErrorCode::GroupIdNotFound));
    assert_eq!(bench.share(sharing("a", &[])), Err(ErrorCode::InvalidRequest));
    assert_eq!(bench.share(sharing("", &["t"])), Err(ErrorCode::InvalidRequest));
    bench.shared(sharing("a", &["t"]));
    bench.shared(sharing("b", &["t"]));
    bench.shared(silent("a", 1));
    assert_eq!(bench.share(silent("a", 1)).map(|it| it.epoch), Ok(2), "the answer was lost");
    assert_eq!(bench.share(silent("a", 3)), Err(ErrorCode::FencedMemberEpoch));
    assert_eq!(bench.share(silent("x", 1)), Err(ErrorCode::UnknownMemberId));
    assert_eq!(bench.shared(silent("a", -1)), (-1, None));
    let give_back =
        |member: &str| GroupOrder::GiveBack { group: "g".into(), member: member.into() };
    assert_eq!(bench.orders, [give_back("a")]);
    assert_eq!(bench.share(silent("a", 2)), Err(ErrorCode::UnknownMemberId));
    assert_eq!(bench.shown_share().members.len(), 1);
    bench.advance(45_000);
    assert_eq!(bench.orders, [give_back("a"), give_back("b")], "its locks do not run out first");
    assert_eq!(bench.shown_share().state, GroupState::Empty, "nothing was heard of the other");
}

// Its share-partitions are stored elsewhere, and would stay with nobody to delete them.
#[test]
fn an_empty_group_stays_until_it_is_deleted() {
    let mut bench = Bench::new();
    bench.topic("t", 1);
    bench.share(sharing("a", &["t"])).unwrap();
    bench.share(silent("a", -1)).unwrap();
    bench.advance(30 * 24 * 60 * 60 * 1000);
    assert_eq!(bench.shown_share().state, GroupState::Empty);
    bench.restart();
    assert_eq!(bench.shown_share().state, GroupState::Empty);
}

// KIP-932: offsets may be set of a share group that nobody was ever in, as kafka-share-groups --reset-offsets does.
#[test]
fn a_group_is_founded_where_its_offsets_are_set() {
    let mut bench = Bench::new();
    bench.topic("t", 1);
    let found = |bench: &mut Bench, group: &str, is_needed| {
        let asked = FoundShare { group: group.to_owned(), is_needed };
        match bench.ask(Command::FoundShare(asked)) {
            Reply::FoundShare(reply) => reply.map_err(|it| it.code),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(found(&mut bench, "g", false), Ok(()));
    assert!(bench.replayed().groups.is_empty());
    for _ in 0..2 {
        assert_eq!(found(&mut bench, "g", true), Ok(()));
        bench.restart();
        let shown = bench.shown_share();
        assert_eq!((shown.state, shown.epoch), (GroupState::Empty, 0));
    }
    assert_eq!(bench.shared(sharing("a", &["t"])), (1, parts("t", &[0])));
    for is_needed in [false, true] {
        assert_eq!(found(&mut bench, "g", is_needed), Err(ErrorCode::NonEmptyGroup));
        assert_eq!(found(&mut bench, "", is_needed), Err(ErrorCode::InvalidGroupId));
    }
    bench.shared(silent("a", -1));
    bench.ask(Command::DeleteGroups(vec!["g".to_owned()]));
    bench.beat(joining("x", &["t"])).unwrap();
    for is_needed in [false, true] {
        assert_eq!(found(&mut bench, "g", is_needed), Err(ErrorCode::GroupIdNotFound));
    }
}

#[test]
fn a_group_is_of_one_kind() {
    let mut bench = Bench::new();
    bench.topic("t", 1);
    bench.shared(sharing("a", &["t"]));
    assert_eq!(bench.beat(joining("x", &["t"])), Err(ErrorCode::GroupIdNotFound));
    let ticket = bench.join(member("x"));
    assert_eq!(bench.joined(ticket).error, ErrorCode::InconsistentGroupProtocol);
    let listed = |bench: &mut Bench, types: &[&str]| {
        let types = types.iter().map(|it| (*it).to_owned()).collect();
        match bench.ask(Command::List(ListFilter { states: Vec::new(), types })) {
            Reply::List(groups) => groups,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(listed(&mut bench, &["Share"])[0].kind, GroupKind::Share);
    assert!(listed(&mut bench, &["consumer"]).is_empty());
    let delete = |bench: &mut Bench| match bench.ask(Command::DeleteGroups(vec!["g".to_owned()])) {
        Reply::DeleteGroups(codes) => codes[0].1,
        other => panic!("{other:?}"),
    };
    assert_eq!(delete(&mut bench), ErrorCode::NonEmptyGroup);
    bench.shared(silent("a", -1));
    assert_eq!(delete(&mut bench), ErrorCode::None);
    assert!(bench.replayed().groups.is_empty());
    // The name is free.
    bench.beat(joining("x", &["t"])).unwrap();
    assert_eq!(bench.share(sharing("a", &["t"])), Err(ErrorCode::GroupIdNotFound));
}

#[test]
fn a_group_is_full_at_its_size() {
    let mut bench =
        Bench::with(GroupOptions { share_group_members_max: 2, ..GroupOptions::default() });
    bench.topic("t", 1);
    bench.shared(sharing("a", &["t"]));
    bench.shared(sharing("b", &["t"]));
    assert_eq!(bench.share(sharing("c", &["t"])), Err(ErrorCode::GroupMaxSizeReached));
    assert_eq!(bench.shared(sharing("b", &["t"])).0, 2, "who is in it may join again");
}

#[derive(Debug, Clone)]
enum Step {
    Join(usize, Vec<usize>),
    Beat(usize),
    Leave(usize),
    Grow(usize),
    Wait(u64),
    Restart,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..4usize, prop::collection::vec(0..3usize, 1..3)).prop_map(|(it, of)| Step::Join(it, of)),
        6 => (0..4usize).prop_map(Step::Beat),
        1 => (0..4usize).prop_map(Step::Leave),
        1 => (0..3usize).prop_map(Step::Grow),
        2 => (1u64..20_000).prop_map(Step::Wait),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    // Goal: whatever happens, what the log says is what is, and members that heartbeat share every partition.
    #[test]
    fn every_partition_has_somebody_in_the_end(steps in prop::collection::vec(any_step(), 1..60)) {
        const TOPICS: [&str; 3] = ["t", "u", "v"];
        let members = ["a", "b", "c", "d"];
        let mut bench = Bench::new();
        let mut sizes = [1, 2, 3];
        for (name, size) in TOPICS.iter().zip(sizes) {
            bench.topic(name, size);
        }
        let mut epochs: BTreeMap<usize, i32> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Join(it, of) => {
                    let topics: Vec<&str> = of.iter().map(|it| TOPICS[*it]).collect();
                    epochs.insert(it, bench.shared(sharing(members[it], &topics)).0);
                }
                Step::Beat(it) => {
                    let Some(epoch) = epochs.get(&it).copied() else { continue };
                    match bench.share(silent(members[it], epoch)) {
                        Ok(reply) => drop(epochs.insert(it, reply.epoch)),
                        Err(_) => drop(epochs.remove(&it)), // Its session had ended.
                    }
                }
                Step::Leave(it) => {
                    if epochs.remove(&it).is_some() {
                        let _ = bench.share(silent(members[it], -1));
                    }
                }
                Step::Grow(it) => {
                    sizes[it] += 1;
                    bench.topic(TOPICS[it], sizes[it]);
                }
                Step::Wait(ms) => bench.advance(ms),
                Step::Restart => bench.restart(),
            }
            let replayed = bench.replayed();
            prop_assert_eq!(share_facts(&bench.shard), share_facts(&replayed));
        }
        for _ in 0..2 {
            for (it, epoch) in epochs.clone() {
                match bench.share(silent(members[it], epoch)) {
                    Ok(reply) => drop(epochs.insert(it, reply.epoch)),
                    Err(_) => drop(epochs.remove(&it)),
                }
            }
        }
        if bench.shard.groups.is_empty() {
            return Ok(());
        }
        let shown = bench.shown_share();
        for (name, size) in TOPICS.iter().zip(sizes) {
            let wanted = shown.members.iter().any(|it| it.topics.iter().any(|it| it == name));
            for index in 0..size {
                let is_row = |row: &ConsumerPartitions| row.name == *name && row.partitions.contains(&index);
                let has = |it: &DescribedShareMember| it.assigned.iter().any(is_row);
                let quiet = shown.members.len() == epochs.len();
                prop_assert!(!wanted || !quiet || shown.members.iter().any(has), "{} {}", name, index);
            }
        }
    }
}
