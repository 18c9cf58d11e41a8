//! Groups that change their protocol while members are in them (KIP-848, online migration).

use super::consumers::{id, joining, set, silent};
use super::*;
use crate::options::MigrationPolicy;

/// As a consumer of version 1 of the consumer protocol joins, with what it goes on consuming.
fn consumer(member: &str, topics: &[&str], owned: &[(&str, &[i32])]) -> JoinGroup {
    let mut bytes = vec![0, 1];
    let text = |bytes: &mut Vec<u8>, it: &str| {
        bytes.extend((it.len() as i16).to_be_bytes());
        bytes.extend(it.as_bytes());
    };
    bytes.extend((topics.len() as i32).to_be_bytes());
    topics.iter().for_each(|it| text(&mut bytes, it));
    bytes.extend((-1i32).to_be_bytes());
    bytes.extend((owned.len() as i32).to_be_bytes());
    for (topic, them) in owned {
        text(&mut bytes, topic);
        bytes.extend((them.len() as i32).to_be_bytes());
        them.iter().for_each(|it| bytes.extend(it.to_be_bytes()));
    }
    JoinGroup {
        member: member.to_owned(),
        protocols: vec![protocol("cooperative-sticky", &bytes)],
        ..super::member("classic")
    }
}

/// An assignment of topic "t" as a leader makes it.
fn assignment(them: &[i32]) -> Vec<u8> {
    let mut bytes = vec![0, 1, 0, 0, 0, 1, 0, 1, b't'];
    bytes.extend((them.len() as i32).to_be_bytes());
    them.iter().for_each(|it| bytes.extend(it.to_be_bytes()));
    bytes.extend((-1i32).to_be_bytes());
    bytes
}

const NOTHING: &[u8] = &[0, 1, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];

impl Bench {
    fn rejoin_classic(&mut self, join: JoinGroup) -> (ErrorCode, String, i32) {
        let ticket = self.join(join);
        let reply = self.joined(ticket);
        assert_eq!(reply.leader, "", "nobody leads");
        (reply.error, reply.member, reply.generation)
    }

    fn sync_classic(&mut self, member: &str, generation: i32) -> Result<Bytes, ErrorCode> {
        let ticket = self.sync(member, generation, &[]);
        let reply = self.synced(ticket);
        if reply.error == ErrorCode::None { Ok(reply.assignment) } else { Err(reply.error) }
    }

    fn kind(&mut self) -> GroupKind {
        match self.ask(Command::List(ListFilter::default())) {
            Reply::List(groups) => groups[0].kind,
            other => panic!("{other:?}"),
        }
    }

    /// A stable classic group with one member, which has both partitions of "t".
    fn classic_with_one(&mut self) -> (String, i32) {
        self.classic_with(&[0, 1], b"")
    }

    /// A stable classic group with one member, which has these of the two partitions of "t" and what its leader adds.
    fn classic_with(&mut self, them: &[i32], user_data: &[u8]) -> (String, i32) {
        self.topic("t", 2);
        let ticket = self.join(consumer("", &["t"], &[]));
        self.advance(DELAY_MS);
        let reply = self.joined(ticket);
        let (member, generation) = (reply.member, reply.generation);
        let mut bytes = assignment(them);
        if !user_data.is_empty() {
            bytes.truncate(bytes.len() - 4); // The length of no data.
            bytes.extend((user_data.len() as i32).to_be_bytes());
            bytes.extend(user_data);
        }
        let assignments = vec![(member.clone(), Bytes::from(bytes))];
        let ticket =
            self.send(Command::Sync(SyncGroup { assignments, ..sync(&member, generation, &[]) }));
        assert_eq!(self.synced(ticket).error, ErrorCode::None);
        (member, generation)
    }
}

// Goal: a group goes from one protocol to the other and back while somebody consumes, and no partition
// has two owners on the way. Method: one classic member, one consumer member, step by step, with a
// restart of the coordinator before most of them.
#[test]
fn a_group_is_upgraded_by_who_joins_and_downgraded_by_who_leaves() {
    let mut bench = Bench::new();
    let (a, generation) = bench.classic_with_one();
    let reply = bench.beat(joining("b", &["t"])).unwrap();
    assert_eq!((reply.epoch, reply.assignment), (generation + 1, Some(Partitions::new())));
    assert_eq!(bench.kind(), GroupKind::Consumer);
    bench.restart();
    assert_eq!(bench.kind(), GroupKind::Consumer);

    // The classic member hears of it, says what it consumes, and is told to give up one.
    assert_eq!(bench.heartbeat(&a, generation), ErrorCode::RebalanceInProgress);
    assert_eq!(bench.sync_classic(&a, generation), Err(ErrorCode::RebalanceInProgress));
    let keeps_all = consumer(&a, &["t"], &[("t", &[0, 1])]);
    let joined = bench.rejoin_classic(keeps_all);
    assert_eq!(joined, (ErrorCode::None, a.clone(), generation), "it has to give up first");
    bench.restart();
    assert_eq!(bench.sync_classic(&a, generation).unwrap(), assignment(&[0]));
    let next = generation + 1;
    assert_eq!(bench.beat(silent("b", next)).unwrap().assignment, None);
    let joined = bench.rejoin_classic(consumer(&a, &["t"], &[("t", &[0])]));
    assert_eq!(joined, (ErrorCode::None, a.clone(), next));
    assert_eq!(bench.sync_classic(&a, next).unwrap(), assignment(&[0]));
    assert_eq!(bench.heartbeat(&a, next), ErrorCode::None);
    let told = bench.beat(silent("b", next)).unwrap().assignment;
    assert_eq!(told, Some(Partitions::from([(id("t"), set(&[1]))])));

    // The consumer member leaves: who is left goes on among themselves.
    bench.restart();
    assert_eq!(bench.beat(silent("b", -1)).unwrap().epoch, -1);
    assert_eq!(bench.kind(), GroupKind::Classic);
    assert_eq!(consumer_facts(&bench.replayed()), []);
    assert_eq!(bench.heartbeat(&a, next), ErrorCode::RebalanceInProgress);
    assert_eq!(bench.commits(&a, next, 0), ErrorCode::None, "what it has consumed so far");
    let ticket = bench.join(consumer(&a, &["t"], &[("t", &[0])]));
    let reply = bench.joined(ticket);
    assert_eq!((reply.error, &reply.leader, reply.generation), (ErrorCode::None, &a, next + 2));
    bench.synchronise(&[reply]);
    bench.restart();
    assert_eq!(bench.heartbeat(&a, next + 2), ErrorCode::None);
}

// Whatever a restart finds, nobody may take its old assignment for that of a generation it was told since.
#[test]
fn a_downgrade_that_a_crash_interrupts_begins_anew() {
    for rejoins_before in [false, true] {
        let mut bench = Bench::new();
        let (a, generation) = bench.classic_with_one();
        bench.beat(joining("b", &["t"])).unwrap();
        bench.beat(silent("b", -1)).unwrap();
        assert_eq!(bench.kind(), GroupKind::Classic);
        assert_eq!(bench.heartbeat(&a, generation), ErrorCode::RebalanceInProgress);
        let told = rejoins_before.then(|| {
            let ticket = bench.join(consumer(&a, &["t"], &[("t", &[0, 1])]));
            bench.joined(ticket).generation
        });
        bench.restart();
        for known in [Some(generation), told].into_iter().flatten() {
            assert_eq!(bench.heartbeat(&a, known), ErrorCode::IllegalGeneration);
            assert_eq!(bench.sync_classic(&a, known), Err(ErrorCode::IllegalGeneration));
        }
    }
}

#[test]
fn a_consumer_may_join_while_a_classic_member_is_on_its_way() {
    let mut bench = Bench::new();
    bench.topic("t", 2);
    let asks = JoinGroup { known_member_required: true, ..consumer("", &["t"], &[]) };
    let (error, a, _) = bench.rejoin_classic(asks);
    assert_eq!(error, ErrorCode::MemberIdRequired);
    assert_eq!(bench.beat(joining("b", &["t"])).unwrap().epoch, 1);
    assert_eq!(bench.kind(), GroupKind::Consumer);
    assert_eq!(bench.rejoin_classic(consumer(&a, &["t"], &[])).0, ErrorCode::None);
    assert_eq!(bench.shown().members.len(), 2);
}

#[test]
fn a_refused_pattern_leaves_an_empty_classic_group_as_it_is() {
    let mut bench = Bench::new();
    let (a, _) = bench.classic_with_one();
    bench.leave(&a, None);
    let before = bench.replayed().stored_groups().count();
    let bad = ConsumerHeartbeat { pattern: Some("(".to_owned()), ..joining("b", &["t"]) };
    assert_eq!(bench.beat(bad), Err(ErrorCode::InvalidRegularExpression));
    assert_eq!((bench.kind(), before), (GroupKind::Classic, 1));
    assert_eq!(bench.replayed().stored_groups().count(), before);
}

#[test]
fn what_classic_members_of_a_consumer_group_say_is_bounded() {
    let options = GroupOptions { group_metadata_bytes_max: 200, ..GroupOptions::default() };
    let mut bench = Bench::with(options);
    bench.topic("t", 2);
    bench.beat(joining("b", &["t"])).unwrap();
    let mut large = consumer("", &["t"], &[]);
    large.protocols.push(Protocol { name: "more".to_owned(), metadata: vec![0; 200].into() });
    assert_eq!(bench.rejoin_classic(large).0, ErrorCode::GroupMaxSizeReached);
    assert_eq!(bench.shown().members.len(), 1);
    let (error, a, _) = bench.rejoin_classic(consumer("", &["t"], &[]));
    assert_eq!(error, ErrorCode::None);
    assert_eq!(bench.rejoin_classic(consumer(&a, &["t"], &[])).0, ErrorCode::None, "not twice");
}

#[test]
fn a_classic_member_joins_a_consumer_group() {
    let mut bench = Bench::new();
    bench.topic("t", 2);
    bench.beat(joining("b", &["t"])).unwrap();
    bench.advance(1_000);
    let asks = JoinGroup { known_member_required: true, ..consumer("", &["t"], &[]) };
    let (error, a, _) = bench.rejoin_classic(asks);
    assert_eq!(error, ErrorCode::MemberIdRequired);
    let (error, _, generation) = bench.rejoin_classic(consumer(&a, &["t"], &[]));
    assert_eq!((error, generation), (ErrorCode::None, 2));
    assert_eq!(bench.sync_classic(&a, 2).unwrap(), NOTHING, "they are not released yet");
    assert_eq!(bench.heartbeat(&a, 2), ErrorCode::None, "nothing to come for");
    bench.beat(silent("b", 1)).unwrap();
    let obeys = ConsumerHeartbeat {
        owned: Some(Partitions::from([(id("t"), set(&[0]))])),
        ..silent("b", 1)
    };
    assert_eq!(bench.beat(obeys).unwrap().epoch, 2);
    assert_eq!(bench.heartbeat(&a, 2), ErrorCode::RebalanceInProgress, "one is free");
    assert_eq!(bench.rejoin_classic(consumer(&a, &["t"], &[])), (ErrorCode::None, a.clone(), 2));
    assert_eq!(bench.sync_classic(&a, 2).unwrap(), assignment(&[1]));
    assert_eq!(bench.heartbeat(&a, 2), ErrorCode::None);
    assert_eq!(bench.heartbeat(&a, 1), ErrorCode::IllegalGeneration);
    assert_eq!(bench.commits(&a, 2, 1), ErrorCode::None);
    assert_eq!(bench.commits(&a, 2, 0), ErrorCode::None, "in its generation anything, as ever");
    assert_eq!(bench.commits(&a, 1, 1), ErrorCode::IllegalGeneration, "it did not have it then");
    assert_eq!(bench.commits(&a, 3, 1), ErrorCode::IllegalGeneration);
    assert_eq!(bench.heartbeat("b", 2), ErrorCode::UnknownMemberId, "it speaks the other protocol");
    let opaque = JoinGroup { protocol_type: "connect".to_owned(), ..consumer("", &["t"], &[]) };
    assert_eq!(bench.rejoin_classic(opaque).0, ErrorCode::InconsistentGroupProtocol);
    // Silent for its own session it is out, and its partition goes to the other.
    bench.beat(silent("b", 2)).unwrap();
    bench.advance(SESSION_MS as u64);
    assert_eq!(bench.heartbeat(&a, 2), ErrorCode::UnknownMemberId);
    let both = Partitions::from([(id("t"), set(&[0, 1]))]);
    assert_eq!(bench.beat(silent("b", 2)).unwrap().assignment, Some(both));
}

#[test]
fn a_member_that_is_to_rejoin_has_its_rebalance_timeout_for_it() {
    let mut bench = Bench::new();
    let (a, generation) = bench.classic_with_one();
    bench.beat(joining("b", &["t"])).unwrap();
    let steps = REBALANCE_MS as u64 / 5_000;
    for _ in 0..steps {
        assert_eq!(bench.heartbeat(&a, generation), ErrorCode::RebalanceInProgress);
        bench.beat(silent("b", generation + 1)).unwrap();
        bench.advance(5_000);
    }
    assert_eq!(bench.heartbeat(&a, generation), ErrorCode::UnknownMemberId);
    let told = bench.beat(silent("b", generation + 1)).unwrap().assignment;
    assert_eq!(told, Some(Partitions::from([(id("t"), set(&[0, 1]))])));
}

#[test]
fn the_policy_and_what_members_say_decide_whether_a_group_may_change() {
    let disabled =
        GroupOptions { migration_policy: MigrationPolicy::Disabled, ..GroupOptions::default() };
    let mut bench = Bench::with(disabled);
    let (a, generation) = bench.classic_with_one();
    assert_eq!(bench.beat(joining("b", &["t"])), Err(ErrorCode::GroupIdNotFound));
    assert_eq!(bench.heartbeat(&a, generation), ErrorCode::None, "nothing has happened to it");
    let modern = ConsumerHeartbeat { group: "modern".to_owned(), ..joining("b", &["t"]) };
    bench.beat(modern).unwrap();
    let other = JoinGroup { group: "modern".to_owned(), ..consumer("", &["t"], &[]) };
    assert_eq!(bench.rejoin_classic(other).0, ErrorCode::InconsistentGroupProtocol);

    // An assignment that only its assignor understands cannot be taken over.
    let mut bench = Bench::new();
    bench.topic("topic", 2);
    bench.stable(1);
    assert_eq!(bench.beat(joining("b", &["t"])), Err(ErrorCode::GroupIdNotFound));

    // librdkafka's leader copies what sticky members say of their last assignment into the next one; to Kafka that is
    // data of a custom assignor, which the upgrade would lose.
    let mut bench = Bench::new();
    let (a, generation) = bench.classic_with(&[0, 1], b"previous assignment");
    assert_eq!(bench.beat(joining("b", &["t"])), Err(ErrorCode::GroupIdNotFound));
    assert_eq!(bench.heartbeat(&a, generation), ErrorCode::None, "nothing has happened to it");

    // A pattern that is no pattern does not touch the group.
    let mut bench = Bench::new();
    let (a, generation) = bench.classic_with_one();
    let broken = ConsumerHeartbeat { pattern: Some("(".to_owned()), ..joining("b", &["t"]) };
    assert_eq!(bench.beat(broken), Err(ErrorCode::InvalidRegularExpression));
    assert_eq!(bench.heartbeat(&a, generation), ErrorCode::None);

    // Members that wait in a classic rebalance are sent to ask again.
    let mut bench = Bench::new();
    bench.topic("t", 2);
    let ticket = bench.join(consumer("", &["t"], &[]));
    bench.beat(joining("b", &["t"])).unwrap();
    let reply = bench.joined(ticket);
    assert_eq!(reply.error, ErrorCode::RebalanceInProgress);
    let (error, _, _) = bench.rejoin_classic(consumer(&reply.member, &["t"], &[]));
    assert_eq!(error, ErrorCode::None);
}
