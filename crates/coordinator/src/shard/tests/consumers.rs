//! Consumer groups (KIP-848), request by request.

use super::*;
use crate::sight::Sight;

pub(super) fn id(name: &str) -> TopicId {
    let mut bytes = [0; 16];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    TopicId(bytes)
}

pub(super) fn set(them: &[i32]) -> BTreeSet<i32> {
    them.iter().copied().collect()
}

pub(super) fn owns(topic: &str, them: &[i32]) -> Option<Partitions> {
    Some(Partitions::from([(id(topic), set(them))]))
}

/// As a member of version 1 joins.
pub(super) fn joining(member: &str, topics: &[&str]) -> ConsumerHeartbeat {
    ConsumerHeartbeat {
        group: "g".to_owned(),
        member: member.to_owned(),
        epoch: 0,
        instance: None,
        rack: None,
        client_id: "c".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        rebalance_timeout_ms: Some(30_000),
        topics: Some(topics.iter().map(|it| (*it).to_owned()).collect()),
        pattern: None,
        assignor: None,
        owned: Some(Partitions::new()),
        makes_own_id: true,
        sight: Sight::default(),
    }
}

/// As a member with nothing to say heartbeats.
pub(super) fn silent(member: &str, epoch: i32) -> ConsumerHeartbeat {
    let said = joining(member, &[]);
    ConsumerHeartbeat { epoch, rebalance_timeout_ms: None, topics: None, owned: None, ..said }
}

impl Bench {
    pub(super) fn topic(&mut self, name: &str, partitions: i32) {
        let facts = TopicFacts { id: id(name), partitions };
        self.catalogue.topics.lock().unwrap().insert(name.to_owned(), facts);
        self.step(Input::TopicChanged { topic: name.to_owned() });
    }

    pub(super) fn beat(
        &mut self,
        heartbeat: ConsumerHeartbeat,
    ) -> Result<ConsumerHeartbeatReply, ErrorCode> {
        match self.ask(Command::ConsumerHeartbeat(Box::new(heartbeat))) {
            Reply::ConsumerHeartbeat(reply) => reply.map_err(|it| it.code),
            other => panic!("{other:?}"),
        }
    }

    /// The epoch and the assignment it is told.
    pub(super) fn told(&mut self, heartbeat: ConsumerHeartbeat) -> (i32, Option<Partitions>) {
        let reply = self.beat(heartbeat).unwrap();
        (reply.epoch, reply.assignment)
    }

    pub(super) fn shown(&mut self) -> DescribedConsumerGroup {
        match self.ask(Command::DescribeConsumers(vec!["g".to_owned()])) {
            Reply::DescribeConsumers(mut groups) => groups.remove(0).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn commits(&mut self, member: &str, epoch: i32, partition: i32) -> ErrorCode {
        let commit = CommitOffsets {
            group: "g".to_owned(),
            generation: epoch,
            member: member.to_owned(),
            instance: None,
            retention_ms: None,
            group_not_found_known: true,
            member_epochs_known: true,
            transaction: None,
            offsets: vec![OffsetToCommit {
                topic: "t".to_owned(),
                topic_id: TopicId::ZERO,
                partition,
                offset: Offset(1),
                leader_epoch: -1,
                metadata: None,
            }],
        };
        match self.ask(Command::Commit(commit)) {
            Reply::Commit(CommitReply::Refused(code)) => code,
            Reply::Commit(CommitReply::Each(codes)) => codes[0],
            other => panic!("{other:?}"),
        }
    }
}

// Goal: a partition changes hands only by way of its owner's word. Method: the rebalance of KIP-848's
// own example, step by step, with a restart of the coordinator before every one.
#[test]
fn a_second_member_gets_what_the_first_has_given_up() {
    let mut bench = Bench::new();
    bench.topic("t", 4);
    assert_eq!(bench.told(joining("a", &["t"])), (1, owns("t", &[0, 1, 2, 3])));
    assert_eq!(bench.shown().state.name(), "Stable");
    bench.restart();
    assert_eq!(bench.told(silent("a", 1)), (1, None), "nothing new");
    bench.advance(1_000);

    assert_eq!(bench.told(joining("b", &["t"])), (2, Some(Partitions::new())));
    assert_eq!(bench.shown().state.name(), "Reconciling");
    bench.restart();
    assert_eq!(bench.told(silent("b", 2)), (2, None), "they are not released yet");

    // The first is told what it may keep, in its old epoch, until it says that it has obeyed.
    assert_eq!(bench.told(silent("a", 1)), (1, owns("t", &[0, 1])));
    bench.restart();
    assert_eq!(bench.told(silent("a", 1)), (1, None));
    assert_eq!(bench.told(silent("b", 2)), (2, None));
    let keeps_too_much = ConsumerHeartbeat { owned: owns("t", &[0, 1, 2]), ..silent("a", 1) };
    assert_eq!(bench.told(keeps_too_much), (1, None));
    let obeys = ConsumerHeartbeat { owned: owns("t", &[0, 1]), ..silent("a", 1) };
    assert_eq!(bench.told(obeys.clone()), (2, None));
    bench.restart();
    assert_eq!(bench.told(obeys), (2, None), "the answer was lost: it repeats itself");
    assert_eq!(bench.told(silent("b", 2)), (2, owns("t", &[2, 3])));
    let shown = bench.shown();
    assert_eq!((shown.state.name(), shown.epoch, shown.target_epoch), ("Stable", 2, 2));
    assert_eq!(shown.assignor, "uniform");
}

#[test]
fn epochs_fence_and_ids_are_known() {
    let mut bench = Bench::new();
    bench.topic("t", 1);
    assert_eq!(bench.beat(silent("a", 1)), Err(ErrorCode::GroupIdNotFound));
    bench.told(joining("a", &["t"]));
    assert_eq!(bench.beat(silent("b", 1)), Err(ErrorCode::UnknownMemberId));
    assert_eq!(bench.beat(silent("a", 2)), Err(ErrorCode::FencedMemberEpoch));
    // Epoch 0 was its epoch before, but it owns what nobody gave it then.
    assert_eq!(bench.told(joining("a", &["t"])), (1, owns("t", &[0])), "it may start over");
    assert_eq!(bench.commits("a", 1, 0), ErrorCode::None);
    assert_eq!(bench.commits("a", 2, 0), ErrorCode::StaleMemberEpoch);
    assert_eq!(bench.commits("b", 1, 0), ErrorCode::UnknownMemberId);
    assert_eq!(bench.commits("", -1, 0), ErrorCode::UnknownMemberId, "there are members");
    let reads = |member: Option<&str>, member_epoch| FetchOffsets {
        group: "g".to_owned(),
        member: member.map(str::to_owned),
        member_epoch,
        topics: FetchTopics::All,
        require_stable: false,
    };
    for (member, epoch, expected) in [
        (None, -1, ErrorCode::None),
        (Some("a"), 1, ErrorCode::None),
        (Some("a"), 0, ErrorCode::StaleMemberEpoch),
        (Some("b"), 1, ErrorCode::UnknownMemberId),
    ] {
        let Reply::Fetch(reply) = bench.ask(Command::Fetch(reads(member, epoch))) else {
            panic!("a fetch is answered")
        };
        assert_eq!(reply.error, expected, "{member:?} {epoch}");
    }
    // What it has had since epoch 1 it may commit in epoch 1, whatever came after (KIP-1251).
    bench.topic("u", 1);
    let wants_more = ["t", "u"].map(str::to_owned).to_vec();
    bench.advance(1_000);
    let more = ConsumerHeartbeat { topics: Some(wants_more), ..silent("a", 1) };
    assert_eq!(bench.beat(more).map(|it| it.epoch), Ok(2));
    assert_eq!(bench.commits("a", 1, 0), ErrorCode::None);
    assert_eq!(bench.commits("a", 0, 0), ErrorCode::StaleMemberEpoch);
}

#[test]
fn settings_of_the_group_count_from_the_next_heartbeat_on() {
    let mut bench = Bench::new();
    bench.topic("t", 1);
    let beats = |bench: &mut Bench| bench.beat(silent("a", 1)).map(|it| it.heartbeat_interval_ms);
    bench.beat(joining("a", &["t"])).unwrap();
    assert_eq!(beats(&mut bench), Ok(5_000));
    bench.catalogue.settings.lock().unwrap().heartbeat_interval_ms = 700;
    bench.catalogue.settings.lock().unwrap().session_timeout_ms = 2_000;
    bench.advance(44_000);
    assert_eq!(beats(&mut bench), Ok(700), "the session it was in was as long as it was");
    bench.advance(2_000);
    assert_eq!(beats(&mut bench), Err(ErrorCode::UnknownMemberId));
}

#[test]
fn requests_that_make_no_sense_are_refused_with_kafkas_codes() {
    let mut bench = Bench::new();
    let join = joining("a", &["t"]);
    let named = |pattern: &str| Some(pattern.to_owned());
    let some = |it: &str| Some(it.to_owned());
    for (heartbeat, code) in [
        (ConsumerHeartbeat { group: String::new(), ..join.clone() }, ErrorCode::InvalidRequest),
        (ConsumerHeartbeat { member: String::new(), ..join.clone() }, ErrorCode::InvalidRequest),
        (ConsumerHeartbeat { instance: some(""), ..join.clone() }, ErrorCode::InvalidRequest),
        (ConsumerHeartbeat { rack: some(""), ..join.clone() }, ErrorCode::InvalidRequest),
        (
            ConsumerHeartbeat { rebalance_timeout_ms: None, ..join.clone() },
            ErrorCode::InvalidRequest,
        ),
        (ConsumerHeartbeat { owned: owns("t", &[0]), ..join.clone() }, ErrorCode::InvalidRequest),
        (ConsumerHeartbeat { topics: None, ..join.clone() }, ErrorCode::InvalidRequest),
        (silent("a", -2), ErrorCode::InvalidRequest),
        (silent("a", -3), ErrorCode::InvalidRequest),
        (
            ConsumerHeartbeat { assignor: some("own"), ..join.clone() },
            ErrorCode::UnsupportedAssignor,
        ),
        (
            ConsumerHeartbeat { pattern: named("(a"), ..join.clone() },
            ErrorCode::InvalidRegularExpression,
        ),
        (silent("a", -1), ErrorCode::GroupIdNotFound),
    ] {
        assert_eq!(bench.beat(heartbeat.clone()), Err(code), "{heartbeat:?}");
    }
    assert!(bench.log.is_empty(), "nothing came of it");
    let mut bench = Bench::with(GroupOptions { consumer_group_members_max: 1, ..options() });
    bench.told(joining("a", &["t"]));
    assert_eq!(bench.beat(joining("b", &["t"])), Err(ErrorCode::GroupMaxSizeReached));
    assert!(bench.beat(joining("a", &["t"])).is_ok());
}

fn options() -> GroupOptions {
    GroupOptions::default()
}

#[test]
fn silence_and_disobedience_cost_the_partitions() {
    let mut bench = Bench::new();
    bench.topic("t", 2);
    bench.told(joining("a", &["t"]));
    bench.advance(1_000);
    bench.told(joining("b", &["t"]));
    bench.told(silent("a", 1));
    // It heartbeats but does not give up its partition: its rebalance timeout ends it.
    for _ in 0..5 {
        bench.advance(5_000);
        assert_eq!(bench.told(silent("b", 2)), (2, None));
        assert_eq!(bench.told(silent("a", 1)), (1, None));
    }
    bench.advance(5_000);
    assert_eq!(bench.beat(silent("a", 1)), Err(ErrorCode::UnknownMemberId));
    assert_eq!(bench.told(silent("b", 2)), (3, owns("t", &[0, 1])));
    bench.restart();
    bench.advance(44_999);
    assert_eq!(bench.shown().members.len(), 1, "a whole session from the restart on");
    bench.advance(1);
    assert_eq!(bench.shown().members.len(), 0);
    assert_eq!(bench.shown().state.name(), "Empty");
    assert_eq!(bench.ask(Command::DeleteGroups(vec!["g".to_owned()])), deleted());
    bench.restart();
    assert_eq!(bench.beat(silent("b", 3)), Err(ErrorCode::GroupIdNotFound));
    assert_eq!(consumer_facts(&bench.replayed()), []);
}

fn deleted() -> Reply {
    Reply::DeleteGroups(vec![("g".to_owned(), ErrorCode::None)])
}

#[test]
fn a_static_member_comes_back_to_its_partitions() {
    let mut bench = Bench::new();
    bench.topic("t", 2);
    let known = |it: ConsumerHeartbeat| ConsumerHeartbeat { instance: Some("i".to_owned()), ..it };
    assert_eq!(bench.told(known(joining("a", &["t"]))), (1, owns("t", &[0, 1])));
    assert_eq!(bench.beat(known(joining("b", &["t"]))), Err(ErrorCode::UnreleasedInstanceId));
    assert_eq!(bench.told(known(silent("a", -2))).0, -2);
    bench.restart();
    assert_eq!(bench.told(known(joining("b", &["t"]))), (1, owns("t", &[0, 1])), "no new epoch");
    assert_eq!(bench.beat(known(silent("a", 1))), Err(ErrorCode::FencedInstanceId));
    assert_eq!(bench.told(known(silent("b", 1))), (1, None));
    bench.restart();
    // Gone for longer than its session, it is gone for good.
    bench.told(known(silent("b", -2)));
    bench.advance(45_000);
    assert_eq!(bench.shown().state.name(), "Empty");
    // And -1 is for good at once.
    bench.told(known(joining("c", &["t"])));
    assert_eq!(bench.told(known(silent("c", -1))).0, -1);
    assert_eq!(bench.shown().members.len(), 0);
}

#[test]
fn topics_that_come_grow_and_go_move_the_epoch() {
    let mut bench = Bench::new();
    bench.topic("t-1", 1);
    let by_pattern =
        ConsumerHeartbeat { topics: None, pattern: Some("t-.*".to_owned()), ..joining("a", &[]) };
    assert_eq!(bench.told(by_pattern), (1, owns("t-1", &[0])));
    bench.topic("other", 1);
    bench.advance(1_000);
    assert_eq!(bench.told(silent("a", 1)), (1, None), "not its business");
    bench.restart();
    bench.topic("t-2", 1);
    bench.topic("t-1", 2);
    bench.advance(10_000);
    let both = Partitions::from([(id("t-1"), set(&[0, 1])), (id("t-2"), set(&[0]))]);
    assert_eq!(bench.told(silent("a", 1)), (2, Some(both)));
    bench.catalogue.topics.lock().unwrap().remove("t-1");
    bench.step(Input::TopicDeleted { topic: "t-1".to_owned(), id: id("t-1") });
    bench.advance(1_000);
    assert_eq!(bench.told(silent("a", 2)), (2, owns("t-2", &[0])));
    let obeys = ConsumerHeartbeat { owned: owns("t-2", &[0]), ..silent("a", 2) };
    assert_eq!(bench.told(obeys), (3, None));
    let by_name = ConsumerHeartbeat {
        pattern: Some(String::new()),
        topics: Some(vec!["other".to_owned()]),
        ..silent("a", 3)
    };
    bench.advance(1_000);
    assert_eq!(bench.told(by_name), (3, Some(Partitions::new())));
    let gave_up = ConsumerHeartbeat { owned: Some(Partitions::new()), ..silent("a", 3) };
    assert_eq!(bench.told(gave_up), (4, owns("other", &[0])));
    assert_eq!(bench.shown().members[0].pattern, None);
}

#[test]
fn an_empty_group_makes_room_for_the_other_kind() {
    let mut bench = Bench::new();
    bench.topic("topic", 1);
    let (ids, _) = bench.stable(1);
    assert_eq!(bench.beat(joining("a", &["topic"])), Err(ErrorCode::GroupIdNotFound));
    bench.leave(&ids[0], None);
    assert_eq!(bench.told(joining("a", &["topic"])), (1, owns("topic", &[0])));
    bench.restart();
    assert_eq!(bench.describe("g").state, GroupState::Dead, "it is no classic group");
    let opaque = JoinGroup { protocol_type: "connect".to_owned(), ..member("c") };
    let ticket = bench.join(opaque);
    assert_eq!(bench.joined(ticket).error, ErrorCode::InconsistentGroupProtocol);
    bench.told(silent("a", -1));
    let (ids, generation) = bench.stable(1);
    bench.restart();
    assert_eq!(bench.heartbeat(&ids[0], generation), ErrorCode::None);
}
