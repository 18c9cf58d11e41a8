//! Clients as they are, against the machine, with a seed: they join, work, crash, come back, and
//! the coordinator restarts under them.
//!
//! Safety, at every assignment: all members of a generation are told by one leader, and every
//! partition has one owner. No two living members share an instance id.
//! Liveness, once nobody crashes any more: the group is stable with everybody in it.

use super::*;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // xorshift64*, enough to choose by.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Phase {
    Down,
    Outside,
    Joining(Ticket),
    Syncing(Ticket),
    Working,
}

struct Client {
    name: String,
    instance: Option<String>,
    known_member_required: bool,
    skip_assignment_supported: bool,
    id: String,
    generation: i32,
    phase: Phase,
    heartbeat_at: Tick,
}

impl Client {
    fn join(&self, fresh_id: u128) -> JoinGroup {
        JoinGroup {
            member: self.id.clone(),
            instance: self.instance.clone(),
            fresh_id,
            known_member_required: self.known_member_required && self.instance.is_none(),
            skip_assignment_supported: self.skip_assignment_supported,
            protocols: vec![protocol("range", b"\0\0\0\0\0\0")],
            ..member(&self.name)
        }
    }
}

struct World {
    seed: u64,
    random: Random,
    bench: Bench,
    clients: Vec<Client>,
    /// What each generation's leader has decided: member id to its share.
    decided: BTreeMap<i32, BTreeMap<String, Vec<u8>>>,
}

const PARTITIONS: u8 = 12;

impl World {
    fn new(seed: u64) -> World {
        let mut random = Random(seed.wrapping_mul(2) | 1);
        let count = 1 + random.below(6);
        let statics = random.below(3); // None, some or all: each seed is another fleet.
        let client = |index: u64, random: &mut Random| Client {
            name: format!("c{index}"),
            instance: (statics == 2 || (statics == 1 && random.below(2) == 0))
                .then(|| format!("i{index}")),
            known_member_required: random.below(2) == 0,
            skip_assignment_supported: random.below(2) == 0,
            id: String::new(),
            generation: -1,
            phase: Phase::Outside,
            heartbeat_at: Tick(0),
        };
        let clients = (0..count).map(|index| client(index, &mut random)).collect();
        World { seed, random, bench: Bench::new(), clients, decided: BTreeMap::new() }
    }

    fn act(&mut self, index: usize) {
        let now = self.bench.now.tick;
        match self.clients[index].phase.clone() {
            Phase::Down => (),
            Phase::Outside => {
                let fresh = u128::from(self.random.next()) << 64 | u128::from(self.random.next());
                let join = self.clients[index].join(fresh);
                let ticket = self.bench.join(join);
                self.clients[index].phase = Phase::Joining(ticket);
            }
            Phase::Joining(ticket) => {
                if let Some(Reply::Join(reply)) = self.bench.answers.get(&ticket).cloned() {
                    self.on_joined(index, reply);
                }
            }
            Phase::Syncing(ticket) => {
                if let Some(Reply::Sync(reply)) = self.bench.answers.get(&ticket).cloned() {
                    self.on_synced(index, reply);
                }
            }
            Phase::Working if self.clients[index].heartbeat_at <= now => {
                let client = &self.clients[index];
                let heartbeat = Heartbeat {
                    group: "g".to_owned(),
                    generation: client.generation,
                    member: client.id.clone(),
                    instance: client.instance.clone(),
                };
                let Reply::Heartbeat(code) = self.bench.ask(Command::Heartbeat(heartbeat)) else {
                    panic!("a heartbeat is answered")
                };
                self.clients[index].heartbeat_at = Tick(now.0 + 3_000_000);
                if code != ErrorCode::None {
                    self.start_over(index, code);
                }
            }
            Phase::Working => (),
        }
    }

    /// As clients do: a lost identity is dropped, a rebalance is joined.
    fn start_over(&mut self, index: usize, code: ErrorCode) {
        let client = &mut self.clients[index];
        client.phase = Phase::Outside;
        match code {
            ErrorCode::RebalanceInProgress | ErrorCode::MemberIdRequired => (),
            ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration => client.id.clear(),
            // Its own former life was fenced, or the answer crossed a restart of the client.
            ErrorCode::FencedInstanceId => client.id.clear(),
            other => panic!("seed {}: {other:?}", self.seed),
        }
    }

    fn on_joined(&mut self, index: usize, reply: JoinReply) {
        if reply.error != ErrorCode::None {
            if reply.error == ErrorCode::MemberIdRequired {
                self.clients[index].id.clone_from(&reply.member);
            }
            return self.start_over(index, reply.error);
        }
        let client = &mut self.clients[index];
        (client.id, client.generation) = (reply.member.clone(), reply.generation);
        let mut assignments = Vec::new();
        if reply.leader == reply.member && !reply.skip_assignment {
            let instances: Vec<&String> =
                reply.members.iter().filter_map(|it| it.instance.as_ref()).collect();
            let distinct: BTreeSet<_> = instances.iter().collect();
            assert_eq!(
                instances.len(),
                distinct.len(),
                "seed {}: one member per instance",
                self.seed
            );
            for (place, member) in reply.members.iter().enumerate() {
                let mine = (0..PARTITIONS).filter(|it| *it as usize % reply.members.len() == place);
                assignments
                    .push((member.member.to_string(), Bytes::from(mine.collect::<Vec<u8>>())));
            }
        }
        let ticket = self.bench.send(Command::Sync(SyncGroup {
            group: "g".to_owned(),
            generation: reply.generation,
            member: reply.member,
            instance: client.instance.clone(),
            protocol_type: Some("consumer".to_owned()),
            protocol: reply.protocol,
            assignments: assignments.clone(),
        }));
        if let Some(Reply::Sync(synced)) = self.bench.answers.get(&ticket)
            && synced.error == ErrorCode::None
            && !assignments.is_empty()
        {
            let decision =
                assignments.into_iter().map(|(id, share)| (id, share.to_vec())).collect();
            let before = self.decided.insert(reply.generation, decision);
            assert!(before.is_none(), "seed {}: one decision a generation", self.seed);
        }
        self.clients[index].phase = Phase::Syncing(ticket);
    }

    fn on_synced(&mut self, index: usize, reply: SyncReply) {
        if reply.error != ErrorCode::None {
            return self.start_over(index, reply.error);
        }
        let client = &mut self.clients[index];
        client.phase = Phase::Working;
        client.heartbeat_at = Tick(self.bench.now.tick.0 + 3_000_000);
        let decided = self.decided.get(&client.generation);
        let decided = decided.unwrap_or_else(|| panic!("seed {}: nobody decided", self.seed));
        let share = match decided.get(&client.id) {
            Some(share) => share.clone(),
            // A static member that came back under a new id has its former id's share: nobody
            // else has it (checked when the world is at rest).
            None if client.instance.is_some() => return,
            None => panic!("seed {}: {} got a share the leader did not give", self.seed, client.id),
        };
        assert_eq!(reply.assignment[..], share, "seed {}", self.seed);
    }

    fn trouble(&mut self) {
        let index = self.random.below(self.clients.len() as u64) as usize;
        match self.random.below(6) {
            0 => self.clients[index].phase = Phase::Down,
            1 | 2 => {
                // A new process: dynamic members forget their id, and so do static ones.
                self.clients[index].phase = Phase::Outside;
                self.clients[index].id.clear();
            }
            3 => {
                let client = &mut self.clients[index];
                let (id, instance) = (std::mem::take(&mut client.id), client.instance.clone());
                client.phase = Phase::Down;
                self.bench.leave(&id, instance.as_deref());
            }
            4 => {
                // The coordinator restarts: connections break, requests in flight are lost.
                self.bench.restart();
                self.forget_undecided();
                for client in &mut self.clients {
                    if matches!(client.phase, Phase::Joining(_) | Phase::Syncing(_)) {
                        client.phase = Phase::Outside;
                    }
                }
            }
            _ => {
                let client = &mut self.clients[index];
                if matches!(client.phase, Phase::Joining(_) | Phase::Syncing(_)) {
                    client.phase = Phase::Outside; // Its request times out; it tries again.
                }
            }
        }
    }

    /// Generations above the stored one were never decided: their numbers come again.
    fn forget_undecided(&mut self) {
        let stored = self.bench.shard.stored_groups().next().map_or(0, |(_, it)| it.generation);
        self.decided.retain(|generation, _| *generation <= stored);
    }

    fn run(&mut self, rounds: u64, troubled: bool) {
        for _ in 0..rounds {
            let ms = 1 + self.random.below(if troubled { 4_000 } else { 500 });
            self.bench.advance(ms);
            if troubled && self.random.below(4) == 0 {
                self.trouble();
            }
            for _ in 0..self.clients.len() {
                let index = self.random.below(self.clients.len() as u64) as usize;
                self.act(index);
            }
            if self.bench.describe("g").state == GroupState::Dead {
                self.decided.clear();
            }
        }
    }
}

fn simulate(seed: u64) {
    let mut world = World::new(seed);
    world.run(200, true);
    for client in &mut world.clients {
        if client.phase == Phase::Down {
            client.phase = Phase::Outside;
        }
    }
    // Longer than every session, join and assignment that is still to run out.
    world.run(2_000, false);
    let group = world.bench.describe("g");
    assert_eq!(group.state, GroupState::Stable, "seed {seed}");
    assert_eq!(group.members.len(), world.clients.len(), "seed {seed}: {group:?}");
    assert!(world.clients.iter().all(|it| it.phase == Phase::Working), "seed {seed}");
    let mut owned: Vec<u8> = group.members.iter().flat_map(|it| it.assignment.to_vec()).collect();
    owned.sort_unstable();
    assert_eq!(owned, (0..PARTITIONS).collect::<Vec<u8>>(), "seed {seed}: one owner each");
}

#[test]
fn groups_settle_whatever_their_members_do() {
    match std::env::var("SIM_SEED") {
        Ok(seed) => simulate(seed.parse().expect("SIM_SEED is a u64")),
        Err(_) => (0..120).for_each(simulate),
    }
}
