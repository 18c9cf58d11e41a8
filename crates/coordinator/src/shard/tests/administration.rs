//! Describing, listing and deleting.

use super::*;

fn commit(bench: &mut Bench, group: &str, topic: &str, member: &str, generation: i32) {
    let offset = OffsetToCommit {
        topic: topic.to_owned(),
        topic_id: TopicId::ZERO,
        partition: 0,
        offset: Offset(1),
        leader_epoch: -1,
        metadata: None,
    };
    let reply = bench.ask(Command::Commit(CommitOffsets {
        group: group.to_owned(),
        generation,
        member: member.to_owned(),
        instance: None,
        retention_ms: None,
        group_not_found_known: true,
        member_epochs_known: true,
        transaction: None,
        offsets: vec![offset],
    }));
    assert_eq!(reply, Reply::Commit(CommitReply::Each(vec![ErrorCode::None])));
}

fn delete_offsets(bench: &mut Bench, topics: &[&str]) -> DeleteOffsetsReply {
    let topics = topics.iter().map(|it| ((*it).to_owned(), vec![0, 9])).collect();
    let delete = DeleteOffsets { group: "g".to_owned(), topics };
    match bench.ask(Command::DeleteOffsets(delete)) {
        Reply::DeleteOffsets(reply) => reply,
        other => panic!("{other:?}"),
    }
}

fn delete_groups(bench: &mut Bench, groups: &[&str]) -> Vec<ErrorCode> {
    let groups = groups.iter().map(|it| (*it).to_owned()).collect();
    match bench.ask(Command::DeleteGroups(groups)) {
        Reply::DeleteGroups(reply) => reply.into_iter().map(|(_, code)| code).collect(),
        other => panic!("{other:?}"),
    }
}

fn list(bench: &mut Bench, states: &[&str], types: &[&str]) -> Vec<(String, &'static str)> {
    let owned = |names: &[&str]| names.iter().map(|it| (*it).to_owned()).collect();
    let filter = ListFilter { states: owned(states), types: owned(types) };
    match bench.ask(Command::List(filter)) {
        Reply::List(groups) => groups.into_iter().map(|it| (it.group, it.state.name())).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_group_is_described_only_when_stable_in_full() {
    let mut bench = Bench::new();
    let ticket = bench.join(member("a"));
    let waiting = bench.describe("g");
    assert_eq!((waiting.state.name(), waiting.protocol.as_str()), ("PreparingRebalance", ""));
    assert_eq!(waiting.members.len(), 1);
    assert!(waiting.members[0].metadata.is_empty() && waiting.members[0].assignment.is_empty());
    let (ids, _) = bench.settle(&[ticket]);
    let stable = bench.describe("g");
    assert_eq!((stable.state.name(), stable.protocol.as_str()), ("Stable", "range"));
    assert_eq!(stable.members[0].client_id, "a");
    assert_eq!(stable.members[0].assignment, ids[0].as_bytes());
    let missing = |bench: &mut Bench, group: &str| {
        let it = bench.describe(group);
        (it.state.name(), it.missing.unwrap_or_default())
    };
    let nobody = ("Dead", "Group nobody not found.".to_owned());
    assert_eq!(missing(&mut bench, "nobody"), nobody);
    commit(&mut bench, "simple", "t", "", -1);
    assert_eq!(missing(&mut bench, "simple"), ("Empty", String::new()));
    bench.topic("t", 1);
    let joining = consumers::joining("x", &["t"]);
    bench.beat(ConsumerHeartbeat { group: "modern".to_owned(), ..joining }).unwrap();
    let modern = ("Dead", "Group modern is not a classic group.".to_owned());
    assert_eq!(missing(&mut bench, "modern"), modern, "another API shows it");
}

#[test]
fn groups_are_listed_by_state_and_type_without_regard_to_case() {
    let mut bench = Bench::new();
    bench.stable(1);
    commit(&mut bench, "simple", "t", "", -1);
    let (g, simple) = (("g".to_owned(), "Stable"), ("simple".to_owned(), "Empty"));
    assert_eq!(list(&mut bench, &[], &[]), [g.clone(), simple.clone()]);
    assert_eq!(list(&mut bench, &["sTaBlE"], &[]), std::slice::from_ref(&g));
    assert_eq!(list(&mut bench, &["Empty", "Dead"], &["Classic"]), [simple]);
    assert_eq!(list(&mut bench, &["NoSuchState"], &[]), []);
    assert_eq!(list(&mut bench, &[], &["consumer"]), []);
    assert_eq!(list(&mut bench, &["stable"], &["consumer", "CLASSIC"]), [g]);
}

#[test]
fn offsets_are_deleted_unless_somebody_may_need_them() {
    let mut bench = Bench::new();
    assert_eq!(
        delete_offsets(&mut bench, &["t"]),
        DeleteOffsetsReply::Refused(ErrorCode::GroupIdNotFound)
    );
    let (ids, generation) = bench.stable(1);
    commit(&mut bench, "g", "topic", &ids[0], generation);
    commit(&mut bench, "g", "former", &ids[0], generation);
    let each = |code| vec![(0, code), (9, code)];
    assert_eq!(
        delete_offsets(&mut bench, &["topic", "former", "never"]),
        DeleteOffsetsReply::Each(vec![
            ("topic".to_owned(), each(ErrorCode::GroupSubscribedToTopic)),
            ("former".to_owned(), each(ErrorCode::None)),
            ("never".to_owned(), each(ErrorCode::None)),
        ])
    );
    assert_eq!(bench.shard.topics(), [("topic", TopicId::ZERO)].into());
    bench.leave(&ids[0], None);
    delete_offsets(&mut bench, &["topic", "topic"]);
    assert_eq!(bench.shard.topics().len(), 0, "an empty group needs nothing");
    bench.restart();
    assert_eq!(bench.shard.topics().len(), 0);
}

#[test]
fn offsets_of_a_live_group_that_cannot_be_read_stay() {
    let mut bench = Bench::new();
    let ticket = bench.join(JoinGroup { protocol_type: "connect".to_owned(), ..member("w") });
    bench.settle(&[ticket]);
    assert_eq!(
        delete_offsets(&mut bench, &["t"]),
        DeleteOffsetsReply::Refused(ErrorCode::NonEmptyGroup)
    );
    // A consumer group whose subscription is nonsense counts as subscribed to everything.
    let mut bench = Bench::new();
    let nonsense = vec![protocol("range", b"\xff")];
    let ticket = bench.join(JoinGroup { protocols: nonsense, ..member("w") });
    bench.settle(&[ticket]);
    let DeleteOffsetsReply::Each(codes) = delete_offsets(&mut bench, &["t"]) else { panic!() };
    assert_eq!(codes[0].1[0].1, ErrorCode::GroupSubscribedToTopic);
}

#[test]
fn groups_are_deleted_for_good() {
    let mut bench = Bench::new();
    let (ids, generation) = bench.stable(1);
    commit(&mut bench, "g", "t", &ids[0], generation);
    commit(&mut bench, "simple", "t", "", -1);
    assert_eq!(
        delete_groups(&mut bench, &["g", "simple", "simple", "nobody"]),
        [
            ErrorCode::NonEmptyGroup,
            ErrorCode::None,
            ErrorCode::GroupIdNotFound,
            ErrorCode::GroupIdNotFound
        ]
    );
    bench.leave(&ids[0], None);
    assert_eq!(delete_groups(&mut bench, &["g"]), [ErrorCode::None]);
    for _ in 0..2 {
        assert_eq!(list(&mut bench, &[], &[]), []);
        assert_eq!(bench.shard.topics().len(), 0);
        bench.restart();
    }
    let ticket = bench.join(member("a"));
    bench.advance(DELAY_MS);
    assert_eq!(bench.joined(ticket).generation, 1, "the same name starts afresh");
}

#[test]
fn a_deleted_group_forgets_who_was_on_the_way_into_it() {
    let mut bench = Bench::new();
    commit(&mut bench, "g", "t", "", -1);
    let ticket = bench.join(JoinGroup { known_member_required: true, ..member("a") });
    let id = bench.joined(ticket).member;
    assert_eq!(delete_groups(&mut bench, &["g"]), [ErrorCode::None]);
    let ticket = bench.join(rejoin(&id));
    assert_eq!(bench.joined(ticket).error, ErrorCode::UnknownMemberId);
}
