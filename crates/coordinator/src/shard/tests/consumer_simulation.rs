//! Members of consumer groups as clients are, against the machine, with a seed: they join, change
//! their minds, fall silent, lose answers, leave and come back, topics grow, and the coordinator
//! restarts under them. Some speak the classic protocol, all of them for a while, so that groups
//! change their protocol on the way, both ways.
//!
//! Safety, after every step: no partition is in the hands of two clients that are in the group.
//! Liveness, once nothing happens any more: every client is stable, and every partition somebody
//! subscribes to is in somebody's hands.

use super::consumers::{joining, silent};
use super::*;
use crate::subscription::{ConsumerSubscription, decode_assignment, encode_assignment};

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        // xorshift64*, enough to choose by.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % bound
    }
}

#[derive(Default)]
struct Client {
    name: String,
    instance: Option<String>,
    lives: u64,
    topics: Vec<&'static str>,
    epoch: i32,
    /// What it consumes.
    owned: Partitions,
    is_up: bool,
    /// It has something to confirm, or does not know whether it was heard.
    tells_all: bool,
    heard_at: Tick,
    /// It speaks the classic protocol, eagerly: who joins owns nothing until it has synchronised.
    is_classic: bool,
    phase: Phase,
    /// What the coordinator has named it, and its generation.
    old_id: String,
    generation: i32,
}

#[derive(Default, Clone, Copy)]
enum Phase {
    #[default]
    Outside,
    Joining(Ticket),
    Syncing(Ticket),
    Working,
}

impl Client {
    fn id(&self) -> String {
        format!("{}-{}", self.name, self.lives)
    }

    fn join(&self, fresh: u64) -> JoinGroup {
        let subscription = crate::subscription::tests::subscription(&self.topics);
        JoinGroup {
            member: self.old_id.clone(),
            fresh_id: u128::from(fresh),
            protocols: vec![protocol("range", &subscription)],
            ..member(&self.name)
        }
    }

    fn heartbeat(&self) -> ConsumerHeartbeat {
        let heartbeat = if self.epoch == 0 {
            joining(&self.id(), &self.topics)
        } else if self.tells_all {
            let said = joining(&self.id(), &self.topics);
            ConsumerHeartbeat { epoch: self.epoch, owned: Some(self.owned.clone()), ..said }
        } else {
            silent(&self.id(), self.epoch)
        };
        ConsumerHeartbeat { instance: self.instance.clone(), ..heartbeat }
    }

    fn start_over(&mut self) {
        self.epoch = 0;
        self.owned.clear();
        self.old_id.clear();
        self.phase = Phase::Outside;
    }
}

const TOPICS: [&str; 3] = ["s", "t", "u"];

struct World {
    seed: u64,
    random: Random,
    bench: Bench,
    clients: Vec<Client>,
}

impl World {
    fn new(seed: u64) -> World {
        let mut random = Random(seed.wrapping_mul(2) | 1);
        let mut bench = Bench::new();
        for topic in TOPICS {
            bench.topic(topic, random.below(5) as i32);
        }
        let count = 1 + random.below(6);
        let client = |index: u64| Client {
            name: format!("c{index}"),
            instance: (random.below(3) == 0).then(|| format!("i{index}")),
            topics: TOPICS.into_iter().filter(|_| random.below(2) == 0).collect(),
            is_classic: random.below(4) == 0,
            is_up: true,
            ..Client::default()
        };
        let clients = (0..count).map(client).collect();
        World { seed, random, bench, clients }
    }

    fn act(&mut self, is_quiet: bool) {
        let at = self.random.below(self.clients.len() as u64) as usize;
        let lot = self.random.below(2);
        match if is_quiet { 99 } else { self.random.below(40) } {
            0 => self.restart(),
            1 => {
                let topic = TOPICS[self.random.below(3) as usize];
                let partitions = self.bench.catalogue.topic(topic).map_or(0, |it| it.partitions);
                self.bench.topic(topic, partitions + 1);
            }
            2 => self.clients[at].is_up = false,
            3 if !self.clients[at].is_up => {
                // Another process, with another id.
                let client = &mut self.clients[at];
                client.lives += 1;
                client.is_up = true;
                client.is_classic = client.instance.is_none() && lot == 0;
                client.start_over();
            }
            4 if self.clients[at].is_up && self.clients[at].is_classic => self.leave_classic(at),
            4 if self.clients[at].is_up && self.clients[at].epoch != 0 => {
                let epoch = if self.clients[at].instance.is_some() { -2 } else { -1 };
                let heartbeat = self.clients[at].heartbeat();
                let _ = self.bench.beat(ConsumerHeartbeat { epoch, ..heartbeat });
                self.clients[at].is_up = false;
                self.clients[at].owned.clear();
            }
            5 => {
                let topic = TOPICS[self.random.below(3) as usize];
                let client = &mut self.clients[at];
                client.tells_all = true;
                if client.is_classic {
                    client.owned.clear();
                    client.phase = Phase::Outside;
                }
                match client.topics.iter().position(|it| *it == topic) {
                    Some(index) => drop(client.topics.remove(index)),
                    None => client.topics.push(topic),
                }
            }
            6 if self.clients[at].is_up && !self.clients[at].is_classic => {
                // The answer is lost.
                let _ = self.bench.beat(self.clients[at].heartbeat());
                self.clients[at].tells_all = true;
            }
            _ => self.heartbeat(at),
        }
        self.check();
    }

    fn heartbeat(&mut self, at: usize) {
        if !self.clients[at].is_up {
            return;
        }
        if self.clients[at].is_classic {
            return self.step_classic(at);
        }
        let reply = self.bench.beat(self.clients[at].heartbeat());
        let now = self.bench.now.tick;
        let client = &mut self.clients[at];
        match reply {
            Ok(reply) => {
                client.heard_at = now;
                client.epoch = reply.epoch;
                client.tells_all = false;
                if let Some(assignment) = reply.assignment
                    && assignment != client.owned
                {
                    client.owned = assignment;
                    client.tells_all = true;
                }
            }
            Err(ErrorCode::UnreleasedInstanceId) => (), // It tries again.
            Err(
                ErrorCode::UnknownMemberId
                | ErrorCode::FencedMemberEpoch
                | ErrorCode::FencedInstanceId
                | ErrorCode::GroupIdNotFound,
            ) => client.start_over(),
            Err(code) => panic!("seed {}: {code:?}", self.seed),
        }
    }

    /// Whoever waited never hears again.
    fn restart(&mut self) {
        self.bench.restart();
        for client in self.clients.iter_mut().filter(|it| it.is_classic) {
            if matches!(client.phase, Phase::Joining(_) | Phase::Syncing(_)) {
                client.phase = Phase::Outside;
            }
        }
    }

    fn leave_classic(&mut self, at: usize) {
        let client = &mut self.clients[at];
        client.is_up = false;
        client.owned.clear();
        let member = client.old_id.clone();
        self.bench.leave(&member, None);
    }

    fn step_classic(&mut self, at: usize) {
        let now = self.bench.now.tick;
        match self.clients[at].phase {
            Phase::Outside => {
                self.clients[at].owned.clear();
                let fresh = self.random.below(u64::MAX);
                let ticket = self.bench.join(self.clients[at].join(fresh));
                self.clients[at].phase = Phase::Joining(ticket);
            }
            Phase::Joining(ticket) => {
                if let Some(Reply::Join(reply)) = self.bench.answers.get(&ticket).cloned() {
                    self.on_joined(at, reply);
                }
            }
            Phase::Syncing(ticket) => {
                if let Some(Reply::Sync(reply)) = self.bench.answers.get(&ticket).cloned() {
                    let client = &mut self.clients[at];
                    if reply.error == ErrorCode::None {
                        let owned = decode_assignment(&*self.bench.catalogue, &reply.assignment);
                        client.owned = owned.expect("an assignment is one");
                        client.phase = Phase::Working;
                    } else {
                        self.refused_classic(at, reply.error);
                    }
                }
            }
            Phase::Working => {
                let (member, generation) =
                    (self.clients[at].old_id.clone(), self.clients[at].generation);
                match self.bench.heartbeat(&member, generation) {
                    ErrorCode::None => self.clients[at].heard_at = now,
                    error => self.refused_classic(at, error),
                }
            }
        }
    }

    fn on_joined(&mut self, at: usize, reply: JoinReply) {
        if reply.error != ErrorCode::None {
            if reply.error == ErrorCode::RebalanceInProgress {
                self.clients[at].old_id = reply.member;
            }
            return self.refused_classic(at, reply.error);
        }
        let assignments =
            if reply.leader == reply.member { self.assign(&reply.members) } else { Vec::new() };
        let client = &mut self.clients[at];
        (client.old_id, client.generation) = (reply.member, reply.generation);
        let (member, generation) = (client.old_id.clone(), client.generation);
        let ticket = self
            .bench
            .send(Command::Sync(SyncGroup { assignments, ..sync(&member, generation, &[]) }));
        // Its session began no later than this, however late it finds the answer.
        self.clients[at].heard_at = self.bench.now.tick;
        self.clients[at].phase = Phase::Syncing(ticket);
    }

    /// As a leader does: each topic's partitions in turns.
    fn assign(&self, members: &[JoinMember]) -> Vec<(String, Bytes)> {
        let catalogue = &*self.bench.catalogue;
        let mut shares = vec![Partitions::new(); members.len()];
        for topic in TOPICS {
            let wants = |it: &JoinMember| {
                ConsumerSubscription::decode(&it.metadata).unwrap().topics.contains(topic)
            };
            let them: Vec<usize> = (0..members.len()).filter(|it| wants(&members[*it])).collect();
            let facts = catalogue.topic(topic).unwrap();
            for (index, at) in (0..facts.partitions).zip(them.iter().cycle()) {
                shares[*at].entry(facts.id).or_default().insert(index);
            }
        }
        let bytes = |(member, share): (&JoinMember, Partitions)| {
            (member.member.to_string(), encode_assignment(catalogue, &share, &member.metadata))
        };
        members.iter().zip(shares).map(bytes).collect()
    }

    fn refused_classic(&mut self, at: usize, error: ErrorCode) {
        let client = &mut self.clients[at];
        client.owned.clear();
        client.phase = Phase::Outside;
        match error {
            ErrorCode::RebalanceInProgress
            | ErrorCode::IllegalGeneration
            | ErrorCode::InconsistentGroupProtocol => (),
            ErrorCode::UnknownMemberId => client.old_id.clear(),
            code => panic!("seed {}: {code:?}", self.seed),
        }
    }

    fn check(&self) {
        // A client that is not heard for its rebalance timeout, or its session, may be out, and
        // cannot know.
        let is_in = |it: &&Client| {
            let silent_us = self.bench.now.tick.0.saturating_sub(it.heard_at.0);
            let limit_us = if it.is_classic { 10_000_000 } else { 30_000_000 };
            it.is_up && (it.epoch != 0 || it.is_classic) && silent_us < limit_us
        };
        let mut owners = BTreeMap::new();
        for client in self.clients.iter().filter(is_in) {
            for (topic, them) in &client.owned {
                for index in them {
                    let before = owners.insert((*topic, *index), client.id());
                    assert_eq!(before, None, "seed {}: {} too", self.seed, client.id());
                }
            }
        }
    }

    fn run(mut self) {
        for _ in 0..300 {
            self.act(false);
            let wait_ms = self.random.below(1_500);
            self.bench.advance(wait_ms);
        }
        for client in &mut self.clients {
            client.is_up = true;
            client.tells_all = true;
            client.is_classic &= !self.seed.is_multiple_of(3); // Some end in one protocol, some in both.
        }
        for _ in 0..40 {
            for at in 0..self.clients.len() {
                for _ in 0..3 {
                    self.heartbeat(at);
                    self.check();
                }
            }
            self.bench.advance(5_000);
        }
        self.settled();
        let (live, replayed) = (&self.bench.shard, &self.bench.replayed());
        let seed = self.seed;
        assert_eq!(consumer_facts(live), consumer_facts(replayed), "seed {seed}: replay");
    }

    fn settled(&mut self) {
        let seed = self.seed;
        let (state, members) = if self.clients.iter().all(|it| it.is_classic) {
            let shown = self.bench.describe("g");
            (shown.state, shown.members.len())
        } else {
            match self.bench.ask(Command::DescribeConsumers(vec!["g".to_owned()])) {
                Reply::DescribeConsumers(mut groups) => {
                    let shown = groups.remove(0).unwrap();
                    (shown.state, shown.members.len())
                }
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(state, GroupState::Stable, "seed {seed}");
        assert_eq!(members, self.clients.len(), "seed {seed}");
        for topic in TOPICS {
            let facts = self.bench.catalogue.topic(topic).unwrap();
            let owned = self.clients.iter().filter_map(|it| it.owned.get(&facts.id));
            let owned: usize = owned.map(BTreeSet::len).sum();
            let is_wanted = self.clients.iter().any(|it| it.topics.contains(&topic));
            let expected = if is_wanted { facts.partitions as usize } else { 0 };
            assert_eq!(owned, expected, "seed {seed}: {topic}");
        }
    }
}

#[test]
fn partitions_have_one_owner_and_groups_come_to_rest() {
    match std::env::var("SIM_SEED") {
        Ok(seed) => World::new(seed.parse().expect("SIM_SEED is a u64")).run(),
        Err(_) => (0..200).for_each(|seed| World::new(seed).run()),
    }
}
