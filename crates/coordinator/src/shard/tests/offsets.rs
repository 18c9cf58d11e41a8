//! Committing, fetching, deleting and expiring offsets.

use super::*;

/// The topic that had a name first, and the one that has it next.
const FIRST: TopicId = TopicId([1; 16]);
const NEXT: TopicId = TopicId([2; 16]);
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

fn offset(topic: &str, partition: i32, offset: i64) -> OffsetToCommit {
    OffsetToCommit {
        topic: topic.to_owned(),
        topic_id: FIRST,
        partition,
        offset: Offset(offset),
        leader_epoch: 4,
        metadata: Some(format!("meta {offset}")),
    }
}

fn commit(offsets: Vec<OffsetToCommit>) -> CommitOffsets {
    CommitOffsets {
        group: "g".to_owned(),
        generation: -1,
        member: String::new(),
        instance: None,
        retention_ms: None,
        group_not_found_known: true,
        member_epochs_known: true,
        transaction: None,
        offsets,
    }
}

fn committed(bench: &mut Bench, commit: CommitOffsets) -> CommitReply {
    match bench.ask(Command::Commit(commit)) {
        Reply::Commit(reply) => reply,
        other => panic!("{other:?}"),
    }
}

fn ok(count: usize) -> CommitReply {
    CommitReply::Each(vec![ErrorCode::None; count])
}

fn fetch(bench: &mut Bench, topics: FetchTopics) -> Vec<(String, i32, i64)> {
    let fetch = FetchOffsets {
        group: "g".to_owned(),
        member: None,
        member_epoch: -1,
        topics,
        require_stable: false,
    };
    let Reply::Fetch(reply) = bench.ask(Command::Fetch(fetch)) else { panic!("a fetch reply") };
    let flat = |(topic, offsets): (String, Vec<FetchedOffset>)| {
        offsets.into_iter().map(move |it| (topic.clone(), it.partition, it.offset.0))
    };
    reply.topics.into_iter().flat_map(flat).collect()
}

#[test]
fn who_may_commit() {
    type Case = (&'static str, i32, &'static str, Option<&'static str>, bool, CommitReply);
    let refused = CommitReply::Refused;
    // On a group with one stable dynamic member "*" in generation 1.
    let stable: [Case; 8] = [
        ("the member", 1, "*", None, true, ok(1)),
        ("old generation", 0, "*", None, true, refused(ErrorCode::IllegalGeneration)),
        ("no generation", -1, "*", None, true, refused(ErrorCode::IllegalGeneration)),
        ("a stranger", 1, "m", None, true, refused(ErrorCode::UnknownMemberId)),
        ("an outsider", -1, "", None, true, refused(ErrorCode::UnknownMemberId)),
        ("unknown instance", 1, "*", Some("i"), true, refused(ErrorCode::UnknownMemberId)),
        ("generation without member", 1, "", None, true, refused(ErrorCode::UnknownMemberId)),
        ("instance only", -1, "", Some("i"), true, refused(ErrorCode::UnknownMemberId)),
    ];
    // On a group nobody has heard of.
    let absent: [Case; 4] = [
        ("simple", -1, "", None, true, ok(1)),
        ("simple with a name", -1, "m", None, true, ok(1)),
        ("member, new client", 0, "m", None, true, refused(ErrorCode::GroupIdNotFound)),
        ("member, old client", 0, "m", None, false, refused(ErrorCode::IllegalGeneration)),
    ];
    for (exists, cases) in [(true, &stable[..]), (false, &absent[..])] {
        for (name, generation, member, instance, group_not_found_known, expected) in cases {
            let mut bench = Bench::new();
            let id = if exists { bench.stable(1).0.remove(0) } else { String::new() };
            let request = CommitOffsets {
                generation: *generation,
                member: member.replace('*', &id),
                instance: instance.map(str::to_owned),
                group_not_found_known: *group_not_found_known,
                member_epochs_known: *group_not_found_known,
                ..commit(vec![offset("t", 0, 5)])
            };
            assert_eq!(committed(&mut bench, request), *expected, "{name}");
        }
    }
}

#[test]
fn commits_in_a_rebalance() {
    let mut bench = Bench::new();
    let (ids, generation) = bench.stable(1);
    let of_member = |generation, offset_| CommitOffsets {
        generation,
        member: ids[0].clone(),
        ..commit(vec![offset("t", 0, offset_)])
    };
    bench.join(JoinGroup { known_member_required: true, ..member("b") });
    let ticket = bench.join(rejoin(&ids[0]));
    assert!(bench.waits(ticket));
    let before = committed(&mut bench, of_member(generation, 1));
    assert_eq!(before, ok(1), "while members rejoin the old generation may still commit");
    bench.advance(SESSION_MS as u64);
    assert_eq!(bench.state(), GroupState::CompletingRebalance);
    let refused = CommitReply::Refused;
    assert_eq!(
        committed(&mut bench, of_member(generation + 1, 2)),
        refused(ErrorCode::RebalanceInProgress)
    );
    assert_eq!(
        committed(&mut bench, of_member(generation, 2)),
        refused(ErrorCode::IllegalGeneration)
    );
}

#[test]
fn a_commit_keeps_a_session_alive() {
    let mut bench = Bench::new();
    let (ids, generation) = bench.stable(1);
    for round in 0..5 {
        bench.advance(SESSION_MS as u64 - 1);
        let member = ids[0].clone();
        let request = CommitOffsets { generation, member, ..commit(vec![offset("t", 0, round)]) };
        assert_eq!(committed(&mut bench, request), ok(1));
    }
    assert_eq!(bench.state(), GroupState::Stable);
}

#[test]
fn what_is_committed_is_fetched_with_epoch_and_metadata_also_after_a_restart() {
    let mut bench = Bench::new();
    let offsets = vec![offset("t", 0, 5), offset("t", 1, 6), offset("u", 0, 7)];
    assert_eq!(committed(&mut bench, commit(offsets)), ok(3));
    committed(&mut bench, commit(vec![OffsetToCommit { metadata: None, ..offset("t", 1, 8) }]));
    bench.restart();
    let topics = vec![("t".to_owned(), vec![1, 0, 9]), ("none".to_owned(), vec![0])];
    let fetch_some = FetchOffsets {
        group: "g".to_owned(),
        member: None,
        member_epoch: -1,
        topics: FetchTopics::Some(topics),
        require_stable: false,
    };
    let Reply::Fetch(reply) = bench.ask(Command::Fetch(fetch_some)) else { panic!() };
    let found = |partition, offset, leader_epoch, metadata: &str| FetchedOffset {
        partition,
        offset: Offset(offset),
        leader_epoch,
        metadata: metadata.to_owned(),
        is_unstable: false,
    };
    let expected = vec![
        ("t".to_owned(), vec![found(1, 8, 4, ""), found(0, 5, 4, "meta 5"), found(9, -1, -1, "")]),
        ("none".to_owned(), vec![found(0, -1, -1, "")]),
    ];
    assert_eq!(reply.topics, expected);
    let all = fetch(&mut bench, FetchTopics::All);
    let all: Vec<(&str, i32, i64)> = all.iter().map(|(it, p, o)| (it.as_str(), *p, *o)).collect();
    assert_eq!(all, [("t", 0, 5), ("t", 1, 8), ("u", 0, 7)]);
    let (state, type_) = (bench.state(), bench.describe("g").protocol_type);
    assert_eq!((state, type_.as_str()), (GroupState::Empty, ""), "a simple group");
}

#[test]
fn metadata_is_bounded_per_offset_as_kafka_counts() {
    let mut bench = Bench::new();
    let with = |text: String| OffsetToCommit { metadata: Some(text), ..offset("t", 0, 1) };
    let offsets = vec![
        with("x".repeat(4_096)),
        with("x".repeat(4_097)),
        with("é".repeat(4_096)),
        with("\u{1d11e}".repeat(2_049)),
    ];
    let (fits, large) = (ErrorCode::None, ErrorCode::OffsetMetadataTooLarge);
    assert_eq!(
        committed(&mut bench, commit(offsets)),
        CommitReply::Each(vec![fits, large, fits, large])
    );
}

#[test]
fn a_commit_is_stored_as_a_whole_or_not_at_all() {
    let mut bench = Bench::with(GroupOptions { step_bytes_max: 300, ..GroupOptions::default() });
    let offsets: Vec<OffsetToCommit> = (0..9).map(|it| offset("t", it, 1)).collect();
    assert_eq!(
        committed(&mut bench, commit(offsets)),
        CommitReply::Each(vec![ErrorCode::InvalidCommitOffsetSize; 9])
    );
    assert!(bench.log.is_empty());
}

#[test]
fn simple_groups_are_bounded() {
    let mut bench = Bench::with(GroupOptions { groups_max: 1, ..GroupOptions::default() });
    assert_eq!(committed(&mut bench, commit(vec![offset("t", 0, 1)])), ok(1));
    assert_eq!(committed(&mut bench, commit(vec![offset("t", 1, 1)])), ok(1));
    let other = CommitOffsets { group: "h".to_owned(), ..commit(vec![offset("t", 0, 1)]) };
    assert_eq!(
        committed(&mut bench, other),
        CommitReply::Refused(ErrorCode::CoordinatorNotAvailable)
    );
}

#[test]
fn simple_offsets_expire_after_their_commit() {
    let mut bench = Bench::new();
    committed(&mut bench, commit(vec![offset("t", 0, 1)]));
    bench.advance(6 * DAY_MS);
    committed(&mut bench, commit(vec![offset("t", 1, 1)]));
    bench.advance(DAY_MS + 600_000);
    assert_eq!(fetch(&mut bench, FetchTopics::All), [("t".to_owned(), 1, 1)]);
    bench.advance(6 * DAY_MS);
    assert_eq!(fetch(&mut bench, FetchTopics::All), []);
    assert_eq!(bench.state(), GroupState::Dead, "a group without anything is gone");
    bench.restart();
    assert_eq!(bench.state(), GroupState::Dead);
}

#[test]
fn offsets_of_a_group_outlive_its_last_member_by_the_retention() {
    let mut bench = Bench::new();
    let (ids, generation) = bench.stable(1);
    let member = ids[0].clone();
    let request = CommitOffsets { generation, member, ..commit(vec![offset("topic", 0, 1)]) };
    committed(&mut bench, request);
    for _ in 0..10 * DAY_MS / 9_000 {
        bench.advance(9_000);
        bench.heartbeat(&ids[0], generation);
    }
    assert_eq!(fetch(&mut bench, FetchTopics::All).len(), 1, "the member subscribes to it");
    bench.leave(&ids[0], None);
    bench.advance(7 * DAY_MS - 1_000);
    assert_eq!(fetch(&mut bench, FetchTopics::All).len(), 1);
    bench.restart();
    bench.advance(601_000);
    assert_eq!(fetch(&mut bench, FetchTopics::All), []);
    assert_eq!(bench.state(), GroupState::Dead);
}

#[test]
fn a_live_group_loses_only_offsets_of_topics_it_left() {
    let mut bench = Bench::new();
    let (ids, generation) = bench.stable(1);
    let request = CommitOffsets {
        generation,
        member: ids[0].clone(),
        ..commit(vec![offset("topic", 0, 1), offset("former", 0, 2)])
    };
    committed(&mut bench, request);
    for _ in 0..8 * DAY_MS / 9_000 {
        bench.advance(9_000);
        bench.heartbeat(&ids[0], generation);
    }
    assert_eq!(fetch(&mut bench, FetchTopics::All), [("topic".to_owned(), 0, 1)]);

    // A group whose protocol cannot be read keeps everything.
    let mut bench = Bench::new();
    let opaque = JoinGroup { protocol_type: "connect".to_owned(), ..member("w") };
    let ticket = bench.join(opaque);
    let (ids, generation) = bench.settle(&[ticket]);
    let member = ids[0].clone();
    let request = CommitOffsets { generation, member, ..commit(vec![offset("former", 0, 2)]) };
    committed(&mut bench, request);
    for _ in 0..8 * DAY_MS / 9_000 {
        bench.advance(9_000);
        bench.heartbeat(&ids[0], generation);
    }
    assert_eq!(fetch(&mut bench, FetchTopics::All).len(), 1);
}

#[test]
fn an_old_clients_own_retention_is_honoured() {
    let mut bench = Bench::new();
    let request = CommitOffsets { retention_ms: Some(1_000), ..commit(vec![offset("t", 0, 1)]) };
    committed(&mut bench, request);
    let long = Some(30 * DAY_MS as i64);
    committed(&mut bench, CommitOffsets { retention_ms: long, ..commit(vec![offset("t", 1, 1)]) });
    bench.restart();
    bench.advance(600_000);
    assert_eq!(fetch(&mut bench, FetchTopics::All), [("t".to_owned(), 1, 1)]);
    bench.advance(29 * DAY_MS);
    assert_eq!(fetch(&mut bench, FetchTopics::All).len(), 1);
    bench.advance(DAY_MS);
    assert_eq!(fetch(&mut bench, FetchTopics::All), []);
}

#[test]
fn a_deleted_topic_takes_its_offsets_along() {
    let mut bench = Bench::new();
    committed(&mut bench, commit(vec![offset("t", 0, 1), offset("t", 1, 1), offset("u", 0, 1)]));
    let other = CommitOffsets { group: "h".to_owned(), ..commit(vec![offset("t", 0, 1)]) };
    committed(&mut bench, other);
    assert_eq!(bench.shard.topics(), [("t", FIRST), ("u", FIRST)].into());
    bench.step(Input::TopicDeleted { topic: "t".to_owned(), id: FIRST });
    assert_eq!(fetch(&mut bench, FetchTopics::All), [("u".to_owned(), 0, 1)]);
    assert_eq!(bench.describe("h").state, GroupState::Dead);
    bench.restart();
    assert_eq!(fetch(&mut bench, FetchTopics::All), [("u".to_owned(), 0, 1)]);
}

// News of a deletion may come when another topic has the name, and somebody has consumed it.
#[test]
fn the_next_topic_of_a_name_keeps_its_offsets() {
    let mut bench = Bench::new();
    let next = |partition| OffsetToCommit { topic_id: NEXT, ..offset("t", partition, 7) };
    committed(&mut bench, commit(vec![offset("t", 0, 1), offset("t", 1, 1)]));
    let old = OffsetToCommit { topic_id: TopicId::ZERO, ..offset("t", 2, 1) };
    committed(&mut bench, commit(vec![old, next(1)]));
    bench.restart();
    let topics = [("t", TopicId::ZERO), ("t", FIRST), ("t", NEXT)];
    assert_eq!(bench.shard.topics(), topics.into(), "what a load compares with what is there");
    bench.step(Input::TopicDeleted { topic: "t".to_owned(), id: FIRST });
    assert_eq!(fetch(&mut bench, FetchTopics::All), [("t".to_owned(), 1, 7)]);
    bench.restart();
    assert_eq!(fetch(&mut bench, FetchTopics::All), [("t".to_owned(), 1, 7)]);
}

#[test]
fn many_groups_are_swept_in_small_steps() {
    let mut bench = Bench::new();
    for group in 0..1_000 {
        let group = format!("g{group}");
        committed(&mut bench, CommitOffsets { group, ..commit(vec![offset("t", 0, 1)]) });
    }
    bench.advance(7 * DAY_MS + 600_000);
    assert_eq!(bench.shard.topics().len(), 0);
}

#[test]
fn operators_are_told_what_is_there_and_what_has_happened() {
    let mut bench = Bench::new();
    committed(&mut bench, commit(vec![offset("t", 0, 1), offset("t", 1, 1)]));
    let simple = Census { empty: 1, ..Census::default() };
    assert_eq!(bench.shard.census(), simple, "a group that nobody has joined");
    bench.restart();
    assert_eq!(bench.shard.census(), simple);
    bench.advance(8 * DAY_MS);
    assert_eq!(bench.shard.census(), Census::default());
    let tally = bench.outputs.tally;
    assert_eq!(tally, Tally { rebalances: 0, offsets_committed: 2, offsets_expired: 2 });
    let (ids, _) = bench.stable(2);
    let census = bench.shard.census();
    assert_eq!(census, Census { stable: 1, members: 2, ..Census::default() });
    let before = bench.outputs.tally.rebalances;
    assert!(0 < before);
    bench.leave(&ids[0], None);
    let census = bench.shard.census();
    assert_eq!(census, Census { preparing_rebalance: 1, members: 1, ..Census::default() });
    bench.advance(u64::from(REBALANCE_MS.unsigned_abs()));
    assert_eq!(bench.outputs.tally.rebalances, before + 1);
}
