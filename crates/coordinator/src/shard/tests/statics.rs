//! Static members (KIP-345, KIP-814).

use super::*;

/// A stable group of the instances "i1" and "i2"; ids of both, the leader's instance.
fn two_statics(bench: &mut Bench) -> ([String; 2], i32, &'static str) {
    let tickets = [bench.join(static_member("i1", 1)), bench.join(static_member("i2", 2))];
    bench.settle(&tickets);
    let replies = tickets.map(|it| bench.joined(it));
    let leads = if replies[0].leader == replies[0].member { "i1" } else { "i2" };
    let generation = replies[0].generation;
    (replies.map(|it| it.member), generation, leads)
}

#[test]
fn a_static_member_gets_its_id_at_once_and_made_of_the_instance() {
    let mut bench = Bench::new();
    let ticket = bench.join(JoinGroup { known_member_required: false, ..static_member("i1", 1) });
    bench.advance(DELAY_MS);
    assert!(bench.joined(ticket).member.starts_with("i1-"));
}

#[test]
fn a_restarted_static_member_keeps_its_place_without_a_rebalance() {
    for skip in [false, true] {
        let mut bench = Bench::new();
        let (ids, generation, leads) = two_statics(&mut bench);
        let (leader, follower) = if leads == "i1" { (0, 1) } else { (1, 0) };
        let stored = bench.log.len();

        let instance = ["i1", "i2"][follower];
        let join = JoinGroup { skip_assignment_supported: skip, ..static_member(instance, 70) };
        let ticket = bench.join(join);
        let reply = bench.joined(ticket);
        assert_eq!((reply.error, reply.generation), (ErrorCode::None, generation));
        assert_ne!(reply.member, ids[follower]);
        assert_eq!(reply.leader, ids[leader]);
        assert!(!reply.skip_assignment && reply.members.is_empty());
        assert_eq!(bench.log.len(), stored + 1, "the new id is stored");
        let ticket = bench.sync(&reply.member, generation, &[]);
        assert_eq!(bench.synced(ticket).assignment, ids[follower].as_bytes(), "the old partitions");

        let instance = ["i1", "i2"][leader];
        let join = JoinGroup { skip_assignment_supported: skip, ..static_member(instance, 71) };
        let ticket = bench.join(join);
        let reply = bench.joined(ticket);
        assert_eq!(reply.skip_assignment, skip);
        if skip {
            assert_eq!((reply.leader.as_str(), reply.members.len()), (reply.member.as_str(), 2));
        } else {
            assert_eq!(reply.leader, ids[leader], "it must not take itself for the leader");
            assert!(reply.members.is_empty());
        }
        assert_eq!(bench.state(), GroupState::Stable);
        let before = bench.describe("g");
        bench.restart();
        assert_eq!(bench.describe("g"), before);
    }
}

// It would be due again at once, for ever, in one step.
#[test]
fn a_rebalance_timeout_of_zero_ends_nothing_but_its_member() {
    let mut bench = Bench::new();
    let hasty = JoinGroup { rebalance_timeout_ms: 0, ..static_member("i1", 1) };
    let tickets = [bench.join(hasty), bench.join(static_member("i2", 2))];
    bench.settle(&tickets);
    let ids = tickets.map(|it| bench.joined(it).member);
    bench.leave(&ids[1], Some("i2"));
    bench.advance(SESSION_MS as u64 + 1_000);
    assert_eq!(bench.state(), GroupState::Empty);
}

#[test]
fn the_old_process_of_an_instance_is_fenced() {
    let mut bench = Bench::new();
    let (ids, generation, _) = two_statics(&mut bench);
    bench.join(static_member("i1", 70));
    let instance = Some("i1".to_owned());
    let heartbeat = Heartbeat {
        group: "g".to_owned(),
        generation,
        member: ids[0].clone(),
        instance: instance.clone(),
    };
    assert_eq!(
        bench.ask(Command::Heartbeat(heartbeat)),
        Reply::Heartbeat(ErrorCode::FencedInstanceId)
    );
    assert_eq!(
        bench.heartbeat(&ids[0], generation),
        ErrorCode::UnknownMemberId,
        "without instance"
    );
    let ticket = bench.send(Command::Sync(SyncGroup {
        instance: instance.clone(),
        ..sync(&ids[0], generation, &[])
    }));
    assert_eq!(bench.synced(ticket).error, ErrorCode::FencedInstanceId);
    let ticket = bench.join(JoinGroup { instance: instance.clone(), ..rejoin(&ids[0]) });
    assert_eq!(bench.joined(ticket).error, ErrorCode::FencedInstanceId);
    assert_eq!(bench.leave(&ids[0], Some("i1"))[0].1, ErrorCode::FencedInstanceId);
    assert_eq!(bench.state(), GroupState::Stable);
}

#[test]
fn a_duplicate_in_mid_rebalance_fences_the_one_that_waits() {
    let mut bench = Bench::new();
    let first = bench.join(static_member("i1", 1));
    let second = bench.join(static_member("i1", 2));
    let fenced = bench.joined(first);
    assert_eq!(fenced.error, ErrorCode::FencedInstanceId);
    bench.advance(DELAY_MS);
    let reply = bench.joined(second);
    assert_eq!((reply.error, reply.members.len()), (ErrorCode::None, 1));

    // Between join and assignment: the leader may already count on the old id.
    let third = bench.join(static_member("i1", 3));
    let again = bench.joined(third);
    assert_eq!((again.error, again.generation), (ErrorCode::None, reply.generation + 1));
}

#[test]
fn another_protocol_of_a_static_member_needs_a_rebalance() {
    let mut bench = Bench::new();
    let both = |instance, fresh, names: [&str; 2]| JoinGroup {
        protocols: names.map(|it| protocol(it, b"")).to_vec(),
        ..static_member(instance, fresh)
    };
    let ticket = bench.join(both("i1", 1, ["a", "b"]));
    bench.settle(&[ticket]);
    let ticket = bench.join(both("i1", 2, ["b", "a"]));
    assert_eq!(bench.joined(ticket).protocol.as_deref(), Some("b"));
    assert_eq!(bench.joined(ticket).generation, 2);
}

#[test]
fn static_members_may_be_away_for_a_session() {
    let mut bench = Bench::new();
    let (ids, generation, leads) = two_statics(&mut bench);
    let follower = if leads == "i1" { 1 } else { 0 };
    let other = 1 - follower;
    // The follower is silent; the other one wants a rebalance and waits for it.
    let instance = Some(["i1", "i2"][other].to_owned());
    bench.advance(9_000);
    let ticket = bench.join(JoinGroup { instance, ..rejoin(&ids[other]) });
    assert!(bench.waits(ticket));
    bench.advance(1_000);
    let reply = bench.joined(ticket);
    assert_eq!((reply.generation, reply.members.len()), (generation + 1, 1));
}

#[test]
fn a_static_member_that_misses_the_rebalance_keeps_its_place_until_its_session_ends() {
    let mut bench = Bench::new();
    let long = |instance, fresh| JoinGroup {
        session_timeout_ms: 300_000,
        rebalance_timeout_ms: 20_000,
        ..static_member(instance, fresh)
    };
    let tickets = [bench.join(long("i1", 1)), bench.join(long("i2", 2))];
    bench.settle(&tickets);
    let newcomer = bench.join(JoinGroup { rebalance_timeout_ms: 20_000, ..member("new") });
    bench.advance(20_000);
    let reply = bench.joined(newcomer);
    assert_eq!(reply.members.len(), 3, "both are still counted");
    assert_eq!(reply.leader, reply.member, "but somebody who is there leads");
}

#[test]
fn a_group_of_absent_static_members_waits_for_their_sessions() {
    let mut bench = Bench::new();
    let options = |instance, fresh| JoinGroup {
        session_timeout_ms: 60_000,
        rebalance_timeout_ms: 10_000,
        ..static_member(instance, fresh)
    };
    let tickets = [bench.join(options("i1", 1)), bench.join(options("i2", 2))];
    let (_, generation) = bench.settle(&tickets);
    assert_eq!(bench.leave("", Some("i2"))[0].1, ErrorCode::None);
    bench.advance(30_000);
    assert_eq!(bench.state(), GroupState::PreparingRebalance);
    assert_eq!(bench.describe("g").members.len(), 1);
    let ticket = bench.join(options("i1", 3));
    assert_eq!(bench.joined(ticket).generation, generation + 1);
}

#[test]
fn administrators_remove_static_members_by_instance_in_batches() {
    let mut bench = Bench::new();
    let (ids, _, _) = two_statics(&mut bench);
    let leaving = |member: &str, instance: &str| LeavingMember {
        member: member.to_owned(),
        instance: Some(instance.to_owned()),
    };
    let members = vec![leaving("", "i1"), leaving("", "nobody"), leaving(&ids[1], "i2")];
    let reply = bench.ask(Command::Leave(LeaveGroup { group: "g".to_owned(), members }));
    let Reply::Leave(reply) = reply else { panic!("{reply:?}") };
    let codes: Vec<ErrorCode> = reply.iter().map(|(_, code)| *code).collect();
    assert_eq!(codes, [ErrorCode::None, ErrorCode::UnknownMemberId, ErrorCode::None]);
    assert_eq!(bench.state(), GroupState::Empty);
}
