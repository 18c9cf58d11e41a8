//! Whatever the sequence of requests, passing time and restarts.

use super::*;

#[derive(Debug, Clone)]
enum Op {
    Join { who: usize, instance: bool, known: bool, metadata: u8 },
    Sync { who: usize },
    Heartbeat { who: usize },
    Leave { who: usize },
    Commit { who: usize, partition: i32 },
    SimpleCommit { group: u8, partition: i32 },
    DeleteOffsets,
    DeleteGroup { group: u8 },
    DeleteTopic,
    Wait { ms: u64 },
    Restart,
}

fn op() -> impl Strategy<Value = Op> {
    let who = 0usize..4;
    prop_oneof![
        6 => (who.clone(), any::<bool>(), any::<bool>(), 0u8..2)
            .prop_map(|(who, instance, known, metadata)| Op::Join { who, instance, known, metadata }),
        6 => who.clone().prop_map(|who| Op::Sync { who }),
        3 => who.clone().prop_map(|who| Op::Heartbeat { who }),
        1 => who.clone().prop_map(|who| Op::Leave { who }),
        2 => (who, 0i32..3).prop_map(|(who, partition)| Op::Commit { who, partition }),
        1 => (0u8..3, 0i32..3).prop_map(|(group, partition)| Op::SimpleCommit { group, partition }),
        1 => Just(Op::DeleteOffsets),
        1 => (0u8..3).prop_map(|group| Op::DeleteGroup { group }),
        1 => Just(Op::DeleteTopic),
        6 => prop_oneof![1u64..4_000, 4_000u64..70_000].prop_map(|ms| Op::Wait { ms }),
        1 => Just(Op::Restart),
    ]
}

/// What four clients know of themselves, and what the answers have told so far.
#[derive(Default)]
struct Clients {
    ids: [(String, Option<String>, i32); 4],
    joins: BTreeMap<Ticket, usize>,
    unanswered: Vec<Ticket>,
    newest_generation: i32,
    fresh: u128,
}

impl Clients {
    fn learn(&mut self, bench: &Bench) {
        for (ticket, who) in std::mem::take(&mut self.joins) {
            match bench.answers.get(&ticket) {
                Some(Reply::Join(reply)) => {
                    let (id, _, generation) = &mut self.ids[who];
                    match reply.error {
                        ErrorCode::None => {
                            (*id, *generation) = (reply.member.clone(), reply.generation);
                        }
                        ErrorCode::MemberIdRequired => *id = reply.member.clone(),
                        ErrorCode::RebalanceInProgress => (),
                        _ => id.clear(),
                    }
                }
                Some(other) => panic!("{other:?}"),
                None => {
                    self.joins.insert(ticket, who);
                }
            }
        }
    }

    fn run(&mut self, bench: &mut Bench, op: Op) {
        let commit = |group: String, generation, member, instance, partition| {
            Command::Commit(CommitOffsets {
                group,
                generation,
                member,
                instance,
                retention_ms: (partition == 2).then_some(1_000),
                group_not_found_known: true,
                member_epochs_known: true,
                transaction: None,
                offsets: vec![OffsetToCommit {
                    topic: "topic".to_owned(),
                    topic_id: TopicId::ZERO,
                    partition,
                    offset: Offset(1),
                    // The record of a commit with its own retention has no room for an epoch.
                    leader_epoch: if partition == 2 { -1 } else { 3 },
                    metadata: None,
                }],
            })
        };
        match op {
            Op::Join { who, instance, known, metadata } => {
                self.fresh += 1;
                let instance = instance.then(|| format!("i{}", who / 2));
                self.ids[who].1.clone_from(&instance);
                let ticket = bench.join(JoinGroup {
                    member: self.ids[who].0.clone(),
                    known_member_required: known && instance.is_none(),
                    instance,
                    fresh_id: self.fresh,
                    protocols: vec![protocol("range", &[metadata]), protocol("other", b"")],
                    ..member(&format!("c{who}"))
                });
                self.joins.insert(ticket, who);
                self.unanswered.push(ticket);
            }
            Op::Sync { who } => {
                let (id, instance, generation) = self.ids[who].clone();
                let all: Vec<String> = self.ids.iter().map(|it| it.0.clone()).collect();
                let all: Vec<&str> = all.iter().map(String::as_str).collect();
                let request = SyncGroup { instance, ..sync(&id, generation, &all) };
                self.unanswered.push(bench.send(Command::Sync(request)));
            }
            Op::Heartbeat { who } => {
                let (id, _, generation) = self.ids[who].clone();
                bench.heartbeat(&id, generation);
            }
            Op::Leave { who } => {
                let (id, instance, _) = self.ids[who].clone();
                bench.leave(&id, instance.as_deref());
            }
            Op::Commit { who, partition } => {
                let (id, instance, generation) = self.ids[who].clone();
                bench.ask(commit("g".to_owned(), generation, id, instance, partition));
            }
            Op::SimpleCommit { group, partition } => {
                bench.ask(commit(name(group), -1, String::new(), None, partition));
            }
            Op::DeleteOffsets => {
                let topics = vec![("topic".to_owned(), vec![0, 1])];
                let group = "g".to_owned();
                bench.ask(Command::DeleteOffsets(DeleteOffsets { group, topics }));
            }
            Op::DeleteGroup { group } => {
                let before = bench.describe("g").state;
                bench.ask(Command::DeleteGroups(vec![name(group)]));
                if before != bench.describe("g").state {
                    self.newest_generation = 0; // The same name, another group.
                }
            }
            Op::DeleteTopic => {
                bench.step(Input::TopicDeleted { topic: "topic".to_owned(), id: TopicId::ZERO })
            }
            Op::Wait { ms } => bench.advance(ms),
            Op::Restart => {
                bench.restart();
                self.unanswered.clear();
                self.joins.clear();
                self.newest_generation = 0;
            }
        }
    }
}

fn name(group: u8) -> String {
    ["g", "h", "i"][usize::from(group)].to_owned()
}

/// The log says the same as the living shard.
fn assert_replay_equals_live(bench: &Bench) {
    let catalogue = Arc::clone(&bench.shard.catalogue);
    let mut replayed = Shard::new(bench.shard.options.clone(), catalogue);
    for event in bench.log.iter().flat_map(events) {
        // Applying twice is harmless.
        replayed.apply(event.clone());
        replayed.apply(event);
    }
    assert!(replayed.stored_groups().eq(bench.shard.stored_groups()));
    assert!(replayed.committed_offsets().eq(bench.shard.committed_offsets()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    // Goal: no answer is lost or given twice, generations never fall, and the log alone rebuilds
    // the state. Method: random requests of four clients with two instance ids between them, on
    // the real machine; G1 to G6 and "answered once" fire by themselves.
    #[test]
    fn the_log_is_the_state_and_every_request_is_answered(
        ops in prop::collection::vec(op(), 0..120)
    ) {
        let mut bench = Bench::new();
        let mut clients = Clients::default();
        let mut compared = 0;
        for op in ops {
            clients.run(&mut bench, op);
            clients.learn(&bench);
            let forgotten = bench.describe("g").state == GroupState::Dead;
            if forgotten {
                clients.newest_generation = 0;
            }
            if let Some((_, image)) = bench.shard.stored_groups().find(|(id, _)| *id == "g") {
                prop_assert!(clients.newest_generation <= image.generation);
                clients.newest_generation = image.generation;
            }
            if bench.log.len() != compared {
                compared = bench.log.len();
                assert_replay_equals_live(&bench);
            }
        }
        // Everybody falls silent: sessions and rebalances run out, all waiting ends.
        for _ in 0..40 {
            bench.advance(60_000);
        }
        for ticket in clients.unanswered {
            prop_assert!(!bench.waits(ticket), "{ticket:?} was never answered");
        }
        prop_assert!(matches!(bench.state(), GroupState::Empty | GroupState::Dead));
        assert_replay_equals_live(&bench);
    }
}
