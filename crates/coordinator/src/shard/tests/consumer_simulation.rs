//! Members of consumer groups as clients are, against the machine, with a seed: they join, change
//! their minds, fall silent, lose answers, leave and come back, topics grow, and the coordinator
//! restarts under them.
//!
//! Safety, after every step: no partition is in the hands of two clients that are in the group.
//! Liveness, once nothing happens any more: every client is stable, and every partition somebody
//! subscribes to is in somebody's hands.

use super::consumers::{joining, silent};
use super::*;

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
}

impl Client {
    fn id(&self) -> String {
        format!("{}-{}", self.name, self.lives)
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
            is_up: true,
            ..Client::default()
        };
        let clients = (0..count).map(client).collect();
        World { seed, random, bench, clients }
    }

    fn act(&mut self, is_quiet: bool) {
        let at = self.random.below(self.clients.len() as u64) as usize;
        match if is_quiet { 99 } else { self.random.below(40) } {
            0 => self.bench.restart(),
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
                client.start_over();
            }
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
                match client.topics.iter().position(|it| *it == topic) {
                    Some(index) => drop(client.topics.remove(index)),
                    None => client.topics.push(topic),
                }
            }
            6 if self.clients[at].is_up => {
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

    fn check(&self) {
        // A client that is not heard for its rebalance timeout may be out, and cannot know.
        let is_in = |it: &&Client| {
            let silent_us = self.bench.now.tick.0.saturating_sub(it.heard_at.0);
            it.is_up && it.epoch != 0 && silent_us < 30_000_000
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
        }
        for _ in 0..40 {
            for at in 0..self.clients.len() {
                self.heartbeat(at);
                self.check();
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
        let shown = match self.bench.ask(Command::DescribeConsumers(vec!["g".to_owned()])) {
            Reply::DescribeConsumers(mut groups) => groups.remove(0).unwrap(),
            other => panic!("{other:?}"),
        };
        assert_eq!(shown.state, GroupState::Stable, "seed {seed}: {shown:#?}");
        assert_eq!(shown.members.len(), self.clients.len(), "seed {seed}");
        for topic in TOPICS {
            let facts = self.bench.catalogue.topic(topic).unwrap();
            let owned = self.clients.iter().filter_map(|it| it.owned.get(&facts.id));
            let owned: usize = owned.map(std::collections::BTreeSet::len).sum();
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
