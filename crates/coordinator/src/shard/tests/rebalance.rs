//! Joining, synchronising, heartbeats, leaving: dynamic members.

use super::*;

#[test]
fn a_first_join_waits_for_the_initial_delay_and_is_extended_by_newcomers() {
    let mut bench = Bench::new();
    let first = bench.join(member("a"));
    bench.advance(2_999);
    let second = bench.join(member("b"));
    bench.advance(1);
    assert!(bench.waits(first), "a newcomer extends the delay");
    bench.advance(2_999);
    assert!(bench.waits(first));
    bench.advance(1);
    let (first, second) = (bench.joined(first), bench.joined(second));
    assert_eq!((first.generation, second.generation), (1, 1));
    assert_eq!(first.leader, second.leader);
    assert_eq!(first.protocol.as_deref(), Some("range"));
    assert_eq!(first.protocol_type.as_deref(), Some("consumer"));
    let (leader, follower) =
        if first.member == first.leader { (first, second) } else { (second, first) };
    assert_eq!(leader.members.len(), 2);
    assert!(follower.members.is_empty(), "only the leader learns the members");
    assert_eq!(bench.state(), GroupState::CompletingRebalance);
}

#[test]
fn the_initial_delay_ends_with_the_rebalance_timeout() {
    let mut bench = Bench::new();
    let first = bench.join(JoinGroup { rebalance_timeout_ms: 7_000, ..member("a") });
    for newcomer in 0..20 {
        bench.join(JoinGroup { rebalance_timeout_ms: 7_000, ..member(&format!("n{newcomer}")) });
        bench.advance(500);
    }
    assert_eq!(bench.joined(first).generation, 1);
}

#[test]
fn a_new_member_must_come_back_with_its_id() {
    let mut bench = Bench::new();
    let required = JoinGroup { known_member_required: true, ..member("a") };
    let ticket = bench.join(required.clone());
    let reply = bench.joined(ticket);
    assert_eq!(reply.error, ErrorCode::MemberIdRequired);
    assert!(reply.member.starts_with("a-"), "{}", reply.member);
    assert_eq!(bench.state(), GroupState::Empty);
    let ticket = bench.join(JoinGroup { member: reply.member.clone(), ..required.clone() });
    bench.advance(DELAY_MS);
    let joined = bench.joined(ticket);
    assert_eq!((joined.error, joined.member), (ErrorCode::None, reply.member));
    // A handed-out id is a dynamic member's: it cannot turn into an instance.
    let ticket = bench.join(JoinGroup { fresh_id: 2, ..required.clone() });
    let id = bench.joined(ticket).member;
    let ticket = bench.join(JoinGroup { instance: Some("i".to_owned()), ..rejoin(&id) });
    assert_eq!(bench.joined(ticket).error, ErrorCode::UnknownMemberId);
    // An id that was not handed out here is not accepted, in no version.
    for id in ["a-made-up", "x"] {
        let ticket = bench.join(rejoin(id));
        assert_eq!(bench.joined(ticket).error, ErrorCode::UnknownMemberId);
    }
}

#[test]
fn a_pending_member_holds_the_rebalance_up_until_its_session_ends() {
    let mut bench = Bench::new();
    let (ids, _) = bench.stable(1);
    let required = JoinGroup { known_member_required: true, ..member("slow") };
    bench.join(required);
    let ticket = bench.join(rejoin(&ids[0])); // The leader rejoins: a rebalance.
    assert!(bench.waits(ticket));
    bench.advance(SESSION_MS as u64 - 1);
    assert!(bench.waits(ticket));
    bench.advance(1);
    assert_eq!(bench.joined(ticket).generation, 2);
}

#[test]
fn a_vanished_pending_member_leaves_nothing_behind() {
    let mut bench = Bench::new();
    bench.join(JoinGroup { known_member_required: true, ..member("a") });
    assert_eq!(bench.describe("g").state, GroupState::Empty);
    bench.advance(SESSION_MS as u64);
    assert_eq!(bench.describe("g").state, GroupState::Dead);
    assert!(bench.log.is_empty());
}

#[test]
fn joins_are_refused_with_kafkas_codes() {
    let stable = |bench: &mut Bench| bench.stable(1).0.remove(0);
    type Case = (&'static str, bool, fn(&str) -> JoinGroup, ErrorCode);
    let cases: [Case; 9] = [
        (
            "session too short",
            false,
            |_| JoinGroup { session_timeout_ms: 5_999, ..member("x") },
            ErrorCode::InvalidSessionTimeout,
        ),
        (
            "session too long",
            false,
            |_| JoinGroup { session_timeout_ms: 1_800_001, ..member("x") },
            ErrorCode::InvalidSessionTimeout,
        ),
        ("id in a group that is not there", false, |_| rejoin("m"), ErrorCode::UnknownMemberId),
        (
            "no protocol type",
            false,
            |_| JoinGroup { protocol_type: String::new(), ..member("x") },
            ErrorCode::InconsistentGroupProtocol,
        ),
        (
            "no protocols",
            false,
            |_| JoinGroup { protocols: vec![], ..member("x") },
            ErrorCode::InconsistentGroupProtocol,
        ),
        (
            "other type",
            true,
            |_| JoinGroup { protocol_type: "connect".to_owned(), ..member("x") },
            ErrorCode::InconsistentGroupProtocol,
        ),
        (
            "no common protocol",
            true,
            |_| JoinGroup { protocols: vec![protocol("sticky", b"")], ..member("x") },
            ErrorCode::InconsistentGroupProtocol,
        ),
        (
            "unknown instance",
            true,
            |id| JoinGroup { instance: Some("i".to_owned()), ..rejoin(id) },
            ErrorCode::UnknownMemberId,
        ),
        ("unknown id", true, |_| rejoin("m"), ErrorCode::UnknownMemberId),
    ];
    for (name, exists, join, expected) in cases {
        let mut bench = Bench::new();
        let id = if exists { stable(&mut bench) } else { String::new() };
        let before = bench.log.len();
        let ticket = bench.join(join(&id));
        let reply = bench.joined(ticket);
        assert_eq!(reply.error, expected, "{name}");
        assert_eq!(reply.member, join(&id).member, "{name}: the id is given back");
        assert_eq!(reply.generation, -1, "{name}");
        assert_eq!(bench.log.len(), before, "{name}");
        let state = if exists { GroupState::Stable } else { GroupState::Dead };
        assert_eq!(bench.state(), state, "{name}: nothing is left behind");
    }
}

#[test]
fn endless_texts_are_refused_before_they_reach_a_record() {
    let endless = "x".repeat(format::TEXT_BYTES_MAX);
    let joins = [
        JoinGroup { client_id: endless.clone(), ..member("x") },
        JoinGroup { instance: Some(endless.clone()), ..member("x") },
        JoinGroup { protocols: vec![protocol(&endless, b"")], ..member("x") },
    ];
    for join in joins {
        let mut bench = Bench::new();
        let ticket = bench.join(join);
        assert_eq!(bench.joined(ticket).error, ErrorCode::InvalidRequest);
    }
}

#[test]
fn a_full_group_lets_nobody_in_and_sheds_what_is_above_a_lowered_limit() {
    let mut bench = Bench::with(GroupOptions { group_members_max: 2, ..GroupOptions::default() });
    let (ids, _) = bench.stable(2);
    let ticket = bench.join(member("third"));
    assert_eq!(bench.joined(ticket).error, ErrorCode::GroupMaxSizeReached);
    assert_eq!(bench.joined(ticket).member, "");
    assert_eq!(bench.state(), GroupState::Stable);

    bench.shard.options.group_members_max = 1;
    bench.restart();
    assert_eq!(bench.state(), GroupState::PreparingRebalance, "the surplus has to rejoin");
    let first = bench.join(rejoin(&ids[0]));
    let second = bench.join(rejoin(&ids[1]));
    assert_eq!(bench.joined(second).error, ErrorCode::GroupMaxSizeReached);
    assert_eq!(bench.joined(first).generation, 2);
}

#[test]
fn the_sizes_of_a_group_are_bounded() {
    let options = GroupOptions {
        pending_members_max: 1,
        groups_max: 2,
        group_metadata_bytes_max: 100,
        ..GroupOptions::default()
    };
    let mut bench = Bench::with(options);
    let required = JoinGroup { known_member_required: true, ..member("a") };
    for expected in [ErrorCode::MemberIdRequired, ErrorCode::GroupMaxSizeReached] {
        let ticket = bench.join(required.clone());
        assert_eq!(bench.joined(ticket).error, expected);
    }
    let big = JoinGroup { protocols: vec![protocol("range", &[0; 101])], ..member("b") };
    let ticket = bench.join(big);
    assert_eq!(bench.joined(ticket).error, ErrorCode::GroupMaxSizeReached);
    for (group, expected) in
        [("h", ErrorCode::MemberIdRequired), ("i", ErrorCode::CoordinatorNotAvailable)]
    {
        let ticket = bench.join(JoinGroup { group: group.to_owned(), ..required.clone() });
        assert_eq!(bench.joined(ticket).error, expected);
    }
}

#[test]
fn the_most_votes_choose_the_protocol_among_those_all_support() {
    let cases: [(&[&[&str]], &str); 4] = [
        (&[&["a", "b"], &["b", "a"], &["b", "a"]], "b"),
        (&[&["a", "b"], &["b", "a"]], "a"),
        (&[&["only-one", "b"], &["b"]], "b"),
        (&[&["b", "a", "b"], &["a", "c", "b"], &["c", "b"]], "b"),
    ];
    for (members, expected) in cases {
        let mut bench = Bench::new();
        let mut tickets = Vec::new();
        for (index, names) in members.iter().enumerate() {
            let protocols = names.iter().map(|it| protocol(it, b"")).collect();
            tickets.push(bench.join(JoinGroup { protocols, ..member(&format!("m{index}")) }));
        }
        bench.advance(DELAY_MS * 4);
        for ticket in tickets {
            assert_eq!(bench.joined(ticket).protocol.as_deref(), Some(expected), "{members:?}");
        }
    }
}

#[test]
fn who_rejoins_a_stable_group() {
    let mut bench = Bench::new();
    let (ids, generation) = bench.stable(2);
    let same = bench.join(rejoin(&ids[1]));
    let reply = bench.joined(same);
    assert_eq!((reply.error, reply.generation), (ErrorCode::None, generation));
    assert_eq!((reply.leader.as_str(), reply.members.len()), (ids[0].as_str(), 0));
    assert_eq!(bench.state(), GroupState::Stable, "a follower with nothing new changes nothing");

    let changed = JoinGroup { protocols: vec![protocol("range", b"new")], ..rejoin(&ids[1]) };
    let changed = bench.join(changed);
    assert!(bench.waits(changed));
    assert_eq!(bench.state(), GroupState::PreparingRebalance);
    assert_eq!(bench.heartbeat(&ids[0], generation), ErrorCode::RebalanceInProgress);
    let leader = bench.join(rejoin(&ids[0]));
    assert_eq!(bench.joined(changed).generation, generation + 1);
    assert_eq!(bench.joined(leader).members.len(), 2);

    let replies = [bench.joined(leader), bench.joined(changed)];
    let (ids, generation) = bench.synchronise(&replies);
    let again = bench.join(rejoin(&ids[0]));
    assert!(bench.waits(again), "a leader that rejoins wants a rebalance");
    assert_eq!(bench.heartbeat(&ids[1], generation), ErrorCode::RebalanceInProgress);
}

#[test]
fn a_repeated_join_before_the_assignment_gets_the_same_answer() {
    let mut bench = Bench::new();
    let tickets = [bench.join(member("a")), bench.join(member("b"))];
    bench.advance(DELAY_MS * 2);
    for ticket in tickets {
        let first = bench.joined(ticket);
        let ticket = bench.join(rejoin(&first.member));
        assert_eq!(bench.joined(ticket), first);
    }
    let id = bench.joined(tickets[0]).member;
    let changed = JoinGroup { protocols: vec![protocol("range", b"new")], ..rejoin(&id) };
    let ticket = bench.join(changed);
    assert!(bench.waits(ticket), "other metadata needs another generation");
}

#[test]
fn a_superseded_join_is_answered_too() {
    let mut bench = Bench::new();
    let (ids, _) = bench.stable(2);
    let first = bench.join(rejoin(&ids[0]));
    let second = bench.join(rejoin(&ids[0]));
    assert_eq!(bench.joined(first).error, ErrorCode::RebalanceInProgress);
    assert!(bench.waits(second));
}

#[test]
fn who_does_not_rejoin_in_time_is_out() {
    let mut bench = Bench::new();
    let (ids, generation) = bench.stable(2);
    let leader = bench.join(rejoin(&ids[0]));
    for _ in 0..11 {
        bench.advance(REBALANCE_MS as u64 / 12);
        // It heartbeats, so its session lives; but it does not rejoin.
        assert_eq!(bench.heartbeat(&ids[1], generation), ErrorCode::RebalanceInProgress);
    }
    assert!(bench.waits(leader));
    bench.advance(REBALANCE_MS as u64 / 12);
    let reply = bench.joined(leader);
    assert_eq!((reply.generation, reply.members.len()), (generation + 1, 1));
    assert_eq!(bench.heartbeat(&ids[1], generation), ErrorCode::UnknownMemberId);
}

#[test]
fn a_dead_member_is_noticed_and_a_waiting_one_is_spared() {
    let mut bench = Bench::new();
    let (ids, generation) = bench.stable(2);
    bench.advance(SESSION_MS as u64 - 1);
    assert_eq!(bench.heartbeat(&ids[0], generation), ErrorCode::None);
    bench.advance(1);
    assert_eq!(bench.state(), GroupState::PreparingRebalance);
    assert_eq!(bench.describe("g").members.len(), 1);
    let ticket = bench.join(rejoin(&ids[0]));
    assert_eq!(bench.joined(ticket).generation, generation + 1);

    let (ids, _) = bench.synchronise(&[bench.joined(ticket)]);
    let newcomer = bench.join(member("new"));
    bench.advance(3 * SESSION_MS as u64);
    let joined = bench.joined(newcomer);
    assert_eq!(joined.members.len(), 1, "the silent one is gone, the waiting one is not");
    assert_eq!(bench.heartbeat(&ids[0], 2), ErrorCode::UnknownMemberId);
}

#[test]
fn a_member_that_joined_and_vanished_does_not_wait_for_ever() {
    let mut bench = Bench::new();
    let old = bench.join(JoinGroup { rebalance_timeout_ms: 900_000, ..member("a") });
    let (ids, generation) = bench.settle(&[old]);
    let newcomer = bench.join(member("new"));
    for _ in 0..60 {
        bench.advance(5_000);
        bench.heartbeat(&ids[0], generation);
    }
    assert_eq!(bench.joined(newcomer).error, ErrorCode::UnknownMemberId, "after five minutes");
}

#[test]
fn syncs_are_refused_with_kafkas_codes() {
    let mut bench = Bench::new();
    let unknown = bench.sync("m", 0, &[]);
    assert_eq!(bench.synced(unknown).error, ErrorCode::UnknownMemberId, "no group");
    let (ids, generation) = bench.stable(1);
    let of = |type_: &str, name: &str| SyncGroup {
        protocol_type: Some(type_.to_owned()),
        protocol: Some(name.to_owned()),
        ..sync(&ids[0], generation, &[])
    };
    let cases = [
        (sync("m", generation, &[]), ErrorCode::UnknownMemberId),
        (sync(&ids[0], generation + 1, &[]), ErrorCode::IllegalGeneration),
        (sync(&ids[0], generation - 1, &[]), ErrorCode::IllegalGeneration),
        (of("connect", "range"), ErrorCode::InconsistentGroupProtocol),
        (of("consumer", "sticky"), ErrorCode::InconsistentGroupProtocol),
        (of("consumer", "range"), ErrorCode::None),
        (sync(&ids[0], generation, &[]), ErrorCode::None),
        (
            SyncGroup { instance: Some("i".to_owned()), ..sync(&ids[0], generation, &[]) },
            ErrorCode::UnknownMemberId,
        ),
    ];
    for (request, expected) in cases {
        let ticket = bench.send(Command::Sync(request.clone()));
        assert_eq!(bench.synced(ticket).error, expected, "{request:?}");
    }
    let newcomer = bench.join(member("new"));
    let ticket = bench.sync(&ids[0], generation, &[]);
    assert_eq!(bench.synced(ticket).error, ErrorCode::RebalanceInProgress);
    assert!(bench.waits(newcomer));
}

#[test]
fn followers_wait_for_the_leader_and_the_forgotten_get_nothing() {
    let mut bench = Bench::new();
    let tickets = [bench.join(member("a")), bench.join(member("b"))];
    bench.advance(DELAY_MS * 2);
    let replies = tickets.map(|it| bench.joined(it));
    let leader = replies[0].leader.clone();
    let follower = replies.iter().find(|it| it.member != leader).unwrap().member.clone();
    let early = bench.sync(&follower, 1, &[]);
    assert!(bench.waits(early));
    assert!(bench.log.is_empty(), "nothing is stored before the leader has decided");
    let leads = bench.sync(&leader, 1, &[&leader, "somebody-else"]);
    assert_eq!(bench.synced(leads).assignment, leader.as_bytes());
    let reply = bench.synced(early);
    assert_eq!((reply.error, reply.assignment.len()), (ErrorCode::None, 0));
    assert_eq!(bench.log.len(), 1);
    assert_eq!(bench.state(), GroupState::Stable);
}

#[test]
fn members_that_never_synchronise_are_removed() {
    let mut bench = Bench::new();
    let tickets = [bench.join(member("a")), bench.join(member("b"))];
    bench.advance(DELAY_MS * 2);
    let replies = tickets.map(|it| bench.joined(it));
    let leader = replies[0].leader.clone();
    let lazy = replies.iter().find(|it| it.member != leader).unwrap().member.clone();
    let ticket = bench.sync(&leader, 1, &[&leader, &lazy]);
    assert_eq!(bench.synced(ticket).error, ErrorCode::None);
    for _ in 0..12 {
        bench.heartbeat(&leader, 1);
        bench.heartbeat(&lazy, 1);
        bench.advance(REBALANCE_MS as u64 / 12);
    }
    assert_eq!(bench.state(), GroupState::PreparingRebalance);
    assert_eq!(bench.heartbeat(&lazy, 1), ErrorCode::UnknownMemberId);
    assert_eq!(bench.heartbeat(&leader, 1), ErrorCode::RebalanceInProgress);
}

#[test]
fn an_assignment_too_large_to_store_fails_its_leader() {
    let mut bench = Bench::with(GroupOptions { step_bytes_max: 400, ..GroupOptions::default() });
    let ticket = bench.join(member("a"));
    bench.advance(DELAY_MS);
    let id = bench.joined(ticket).member;
    let assignments = vec![(id.clone(), Bytes::from(vec![0; 400]))];
    let ticket = bench.send(Command::Sync(SyncGroup { assignments, ..sync(&id, 1, &[]) }));
    assert_eq!(bench.synced(ticket).error, ErrorCode::UnknownServerError);
    assert_eq!(bench.state(), GroupState::PreparingRebalance);
    assert!(bench.log.is_empty());
}

#[test]
fn heartbeats_are_answered_with_kafkas_codes() {
    let mut bench = Bench::new();
    assert_eq!(bench.heartbeat("m", 0), ErrorCode::UnknownMemberId, "no group");
    let ticket = bench.join(member("a"));
    bench.advance(DELAY_MS);
    let id = bench.joined(ticket).member;
    assert_eq!(bench.heartbeat(&id, 1), ErrorCode::None, "before the assignment");
    assert_eq!(bench.heartbeat(&id, 0), ErrorCode::IllegalGeneration);
    assert_eq!(bench.heartbeat("m", 1), ErrorCode::UnknownMemberId);
}

#[test]
fn leaving_rebalances_and_the_last_one_empties_the_group() {
    let mut bench = Bench::new();
    let code = |reply: LeaveReply| reply[0].1;
    assert_eq!(code(bench.leave("m", None)), ErrorCode::UnknownMemberId, "no group");
    let (ids, generation) = bench.stable(2);
    assert_eq!(code(bench.leave("m", None)), ErrorCode::UnknownMemberId);
    assert_eq!(code(bench.leave("", None)), ErrorCode::UnknownMemberId);
    assert_eq!(code(bench.leave("", Some("i"))), ErrorCode::UnknownMemberId);
    assert_eq!(bench.state(), GroupState::Stable);
    assert_eq!(code(bench.leave(&ids[0], None)), ErrorCode::None);
    assert_eq!(bench.heartbeat(&ids[1], generation), ErrorCode::RebalanceInProgress);
    assert_eq!(code(bench.leave(&ids[1], None)), ErrorCode::None);
    assert_eq!(bench.state(), GroupState::Empty);
    assert_eq!(bench.describe("g").protocol_type, "consumer", "an empty group keeps its type");
    bench.restart();
    assert_eq!(bench.state(), GroupState::Empty);
    assert_eq!(bench.describe("g").protocol_type, "consumer");
}

#[test]
fn a_pending_member_may_leave() {
    let mut bench = Bench::new();
    let (ids, generation) = bench.stable(1);
    let ticket = bench.join(JoinGroup { known_member_required: true, ..member("b") });
    let pending = bench.joined(ticket).member;
    assert_eq!(bench.leave(&pending, None)[0].1, ErrorCode::None);
    assert_eq!(bench.heartbeat(&ids[0], generation), ErrorCode::None, "nobody was disturbed");
    let ticket = bench.join(rejoin(&pending));
    assert_eq!(bench.joined(ticket).error, ErrorCode::UnknownMemberId);
}

#[test]
fn opaque_protocols_are_carried_untouched() {
    let mut bench = Bench::new();
    let metadata = [0u8, 255, 1, 2, 3];
    let join = JoinGroup {
        protocol_type: "connect".to_owned(),
        protocols: vec![protocol("sessioned", &metadata)],
        ..member("w")
    };
    let ticket = bench.join(join);
    bench.settle(&[ticket]);
    let group = bench.describe("g");
    assert_eq!((group.protocol_type.as_str(), group.protocol.as_str()), ("connect", "sessioned"));
    assert_eq!(group.members[0].metadata[..], metadata);
    assert_eq!(group.members[0].client_host, "/127.0.0.1");
}

#[test]
fn a_restarted_coordinator_knows_its_stable_groups() {
    let mut bench = Bench::new();
    let (ids, generation) = bench.stable(3);
    let before = bench.describe("g");
    bench.restart();
    assert_eq!(bench.describe("g"), before);
    for id in &ids {
        assert_eq!(bench.heartbeat(id, generation), ErrorCode::None);
    }
    bench.advance(SESSION_MS as u64 - 1);
    assert_eq!(bench.state(), GroupState::Stable, "sessions start anew at the restart");
    bench.advance(1);
    assert_eq!(bench.describe("g").members.len(), 0);
}
