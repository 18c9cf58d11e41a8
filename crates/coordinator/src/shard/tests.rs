//! A bench for the machine: a clock that is moved by hand, a log that is a list, and the answers.

mod administration;
mod consumer_simulation;
mod consumers;
mod migration;
mod offsets;
mod patterns;
mod pending;
mod properties;
mod rebalance;
mod shares;
mod simulation;
mod statics;

use std::collections::BTreeMap;
use std::sync::Mutex;

use bytes::Bytes;
use proptest::prelude::*;
use vocabulary::{Offset, TopicId};

use super::*;
use crate::catalogue::{ConsumerSettings, ShareSettings, TopicFacts};
use crate::command::*;
use crate::event::{
    ClassicFace, Current, GroupEpoch, MemberImage, MemberState, Partitions, ResolvedPattern,
    ShareCurrent, ShareMember, Subscription, TargetEpoch,
};

pub(crate) const SESSION_MS: i32 = 10_000;
pub(crate) const REBALANCE_MS: i32 = 60_000;
pub(crate) const DELAY_MS: u64 = 3_000;

/// Topics that a test creates, grows and deletes.
#[derive(Debug)]
pub(crate) struct TestCatalogue {
    pub(crate) topics: Mutex<BTreeMap<String, TopicFacts>>,
    pub(crate) settings: Mutex<ConsumerSettings>,
    pub(crate) share_settings: Mutex<ShareSettings>,
}

impl Default for TestCatalogue {
    fn default() -> TestCatalogue {
        let settings = ConsumerSettings {
            session_timeout_ms: 45_000,
            heartbeat_interval_ms: 5_000,
            assignment_interval_ms: 1_000,
        };
        let share_settings = ShareSettings {
            session_timeout_ms: 45_000,
            heartbeat_interval_ms: 5_000,
            assignment_interval_ms: 0,
        };
        TestCatalogue {
            topics: Mutex::default(),
            settings: Mutex::new(settings),
            share_settings: Mutex::new(share_settings),
        }
    }
}

impl Catalogue for TestCatalogue {
    fn topic(&self, name: &str) -> Option<TopicFacts> {
        self.topics.lock().unwrap().get(name).copied()
    }

    fn name_of(&self, id: TopicId) -> Option<String> {
        let topics = self.topics.lock().unwrap();
        topics.iter().find(|(_, it)| it.id == id).map(|(name, _)| name.clone())
    }

    fn names(&self) -> Vec<String> {
        self.topics.lock().unwrap().keys().cloned().collect()
    }

    fn settings(&self, _group: &str) -> ConsumerSettings {
        *self.settings.lock().unwrap()
    }

    fn share_settings(&self, _group: &str) -> ShareSettings {
        *self.share_settings.lock().unwrap()
    }
}

pub(crate) struct Bench {
    pub(crate) catalogue: Arc<TestCatalogue>,
    pub(crate) shard: Shard,
    pub(crate) now: Now,
    /// Encoded as the log would hold them.
    pub(crate) log: Vec<format::Stored>,
    pub(crate) answers: BTreeMap<Ticket, Reply>,
    pub(crate) sent: u64,
    pub(crate) orders: Vec<GroupOrder>,
    outputs: Outputs,
}

impl Bench {
    pub(crate) fn new() -> Bench {
        Bench::with(GroupOptions::default())
    }

    pub(crate) fn with(options: GroupOptions) -> Bench {
        let now = Now { tick: Tick(1_000_000), wall: Timestamp(1_700_000_000_000) };
        let catalogue = Arc::new(TestCatalogue::default());
        let shard = Shard::new(options, Arc::clone(&catalogue) as Arc<dyn Catalogue>);
        let mut bench = Bench {
            catalogue,
            shard,
            now,
            log: Vec::new(),
            answers: BTreeMap::new(),
            sent: 0,
            orders: Vec::new(),
            outputs: Outputs::default(),
        };
        bench.shard.start(now, &mut bench.outputs);
        bench
    }

    /// As after a crash: whoever waited never hears again, the log is read from its start.
    pub(crate) fn restart(&mut self) {
        self.shard = self.replayed();
        self.shard.start(self.now, &mut self.outputs);
        self.drain();
        self.shard.check();
    }

    /// A shard that has read the log, and does not run.
    pub(crate) fn replayed(&self) -> Shard {
        let catalogue = Arc::clone(&self.shard.catalogue);
        let mut shard = Shard::new(self.shard.options.clone(), catalogue);
        for event in self.log.iter().flat_map(events) {
            shard.apply(event);
        }
        shard
    }

    fn drain(&mut self) {
        for event in self.outputs.units.drain(..).flatten() {
            self.log.push(format::store(&[event]));
        }
        self.orders.append(&mut self.outputs.orders);
        for answer in self.outputs.answers.drain(..) {
            let before = self.answers.insert(answer.ticket, answer.reply);
            assert!(before.is_none(), "{:?} is answered once", answer.ticket);
        }
    }

    pub(crate) fn step(&mut self, input: Input) {
        self.shard.step(self.now, input, &mut self.outputs);
        self.drain();
    }

    pub(crate) fn send(&mut self, command: Command) -> Ticket {
        self.sent += 1;
        let ticket = Ticket(self.sent);
        self.step(Input::Request { ticket, command });
        ticket
    }

    /// Sends what is answered at once.
    pub(crate) fn ask(&mut self, command: Command) -> Reply {
        let ticket = self.send(command);
        self.answers.get(&ticket).expect("answered at once").clone()
    }

    /// Lets time pass, stopping wherever the shard wants to act.
    pub(crate) fn advance(&mut self, ms: u64) {
        let end = Tick(self.now.tick.0 + ms * 1000);
        loop {
            let next = self.shard.wake_at().filter(|it| *it <= end).unwrap_or(end);
            let next = next.max(self.now.tick);
            self.now.wall.0 += ((next.0 - self.now.tick.0) / 1000) as i64;
            self.now.tick = next;
            let due = self.shard.wake_at().is_some_and(|it| it <= next);
            if !due {
                return;
            }
            self.step(Input::TimePassed);
        }
    }

    pub(crate) fn join(&mut self, join: JoinGroup) -> Ticket {
        self.send(Command::Join(Box::new(join)))
    }

    pub(crate) fn joined(&self, ticket: Ticket) -> JoinReply {
        match self.answers.get(&ticket) {
            Some(Reply::Join(reply)) => reply.clone(),
            other => panic!("no join answer yet: {other:?}"),
        }
    }

    pub(crate) fn synced(&self, ticket: Ticket) -> SyncReply {
        match self.answers.get(&ticket) {
            Some(Reply::Sync(reply)) => reply.clone(),
            other => panic!("no sync answer yet: {other:?}"),
        }
    }

    pub(crate) fn waits(&self, ticket: Ticket) -> bool {
        !self.answers.contains_key(&ticket)
    }

    pub(crate) fn heartbeat(&mut self, member: &str, generation: i32) -> ErrorCode {
        let (group, member, instance) = ("g".to_owned(), member.to_owned(), None);
        match self.ask(Command::Heartbeat(Heartbeat { group, generation, member, instance })) {
            Reply::Heartbeat(code) => code,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn sync(&mut self, member: &str, generation: i32, assigned: &[&str]) -> Ticket {
        self.send(Command::Sync(sync(member, generation, assigned)))
    }

    pub(crate) fn leave(&mut self, member: &str, instance: Option<&str>) -> LeaveReply {
        let leaving =
            LeavingMember { member: member.to_owned(), instance: instance.map(str::to_owned) };
        match self.ask(Command::Leave(LeaveGroup { group: "g".to_owned(), members: vec![leaving] }))
        {
            Reply::Leave(reply) => reply,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn state(&mut self) -> GroupState {
        self.describe("g").state
    }

    pub(crate) fn describe(&mut self, group: &str) -> DescribedGroup {
        match self.ask(Command::Describe(vec![group.to_owned()])) {
            Reply::Describe(mut groups) => groups.remove(0),
            other => panic!("{other:?}"),
        }
    }

    /// A stable group "g" of that many dynamic members; the leader's id comes first.
    pub(crate) fn stable(&mut self, count: usize) -> (Vec<String>, i32) {
        let tickets: Vec<Ticket> =
            (0..count).map(|it| self.join(member(&format!("c{it}")))).collect();
        self.settle(&tickets)
    }

    /// Lets the initial delay pass and has everybody synchronise.
    pub(crate) fn settle(&mut self, tickets: &[Ticket]) -> (Vec<String>, i32) {
        self.advance(DELAY_MS * tickets.len().min(2) as u64);
        let replies: Vec<JoinReply> = tickets.iter().map(|it| self.joined(*it)).collect();
        self.synchronise(&replies)
    }

    pub(crate) fn synchronise(&mut self, replies: &[JoinReply]) -> (Vec<String>, i32) {
        let generation = replies[0].generation;
        assert!(replies.iter().all(|it| it.error == ErrorCode::None), "{replies:?}");
        let mut ids: Vec<String> = replies.iter().map(|it| it.member.clone()).collect();
        ids.sort_by_key(|it| *it != replies[0].leader);
        let all: Vec<&str> = ids.iter().map(String::as_str).collect();
        let mut tickets = Vec::new();
        for id in &ids {
            tickets.push(self.sync(id, generation, &all));
        }
        for (id, ticket) in ids.iter().zip(tickets) {
            let reply = self.synced(ticket);
            assert_eq!((reply.error, &reply.assignment[..]), (ErrorCode::None, id.as_bytes()));
        }
        (ids, generation)
    }
}

/// What a reader of the log makes of an entry.
pub(crate) fn events(stored: &format::Stored) -> Vec<Event> {
    use format::Stored;
    let (producer, records) = match stored {
        Stored::Records(records) => (None, records),
        Stored::InTransaction { producer, epoch, records } => (Some((*producer, *epoch)), records),
        Stored::End(end) => return vec![Event::TransactionEnded(*end)],
    };
    let decode = |format::Record { key, value }: &format::Record| match producer {
        None => format::decode(Some(key), value.as_deref()),
        Some(it) => format::decode_in_transaction(it, Some(key), value.as_deref()),
    };
    records.iter().map(|it| decode(it).unwrap().unwrap()).collect()
}

pub(crate) fn protocol(name: &str, metadata: &[u8]) -> Protocol {
    Protocol { name: name.to_owned(), metadata: Bytes::copy_from_slice(metadata) }
}

/// A first join of a dynamic member of "g", as JoinGroup v1 sends it: no id is required.
pub(crate) fn member(client: &str) -> JoinGroup {
    let subscription = crate::subscription::tests::subscription(&["topic"]);
    let fresh = client.bytes().fold(7u128, |sum, byte| sum.wrapping_mul(257) + u128::from(byte));
    JoinGroup {
        group: "g".to_owned(),
        member: String::new(),
        instance: None,
        fresh_id: fresh.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835),
        client_id: client.to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        session_timeout_ms: SESSION_MS,
        rebalance_timeout_ms: REBALANCE_MS,
        protocol_type: "consumer".to_owned(),
        protocols: vec![protocol("range", &subscription)],
        known_member_required: false,
        skip_assignment_supported: false,
    }
}

pub(crate) fn rejoin(id: &str) -> JoinGroup {
    JoinGroup { member: id.to_owned(), ..member("again") }
}

pub(crate) fn static_member(instance: &str, fresh: u128) -> JoinGroup {
    let instance = Some(instance.to_owned());
    JoinGroup { instance, fresh_id: fresh, known_member_required: false, ..member("static") }
}

/// Each of `assigned` gets its own id as assignment.
pub(crate) fn sync(member: &str, generation: i32, assigned: &[&str]) -> SyncGroup {
    let assignment = |id: &&str| ((*id).to_owned(), Bytes::copy_from_slice(id.as_bytes()));
    SyncGroup {
        group: "g".to_owned(),
        generation,
        member: member.to_owned(),
        instance: None,
        protocol_type: None,
        protocol: None,
        assignments: assigned.iter().map(assignment).collect(),
    }
}

/// Any event that the shard could emit.
pub(crate) fn any_event() -> impl Strategy<Value = Event> {
    let text = "[a-zé]{0,9}";
    let blob = || prop::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from);
    let key = (text, text, any::<i32>()).prop_map(|(group, topic, partition)| OffsetKey {
        group,
        topic,
        partition,
    });
    let since = (any::<i64>(), prop::option::of(0i64..99), 0u8..3);
    let value = (any::<i64>(), -1i32..9, text, since).prop_map(
        |(offset, epoch, metadata, (commit_timestamp, expire_timestamp, id))| CommittedOffset {
            offset: Offset(offset),
            // The format that has an expiry has no epoch and no topic.
            leader_epoch: if expire_timestamp.is_some() { -1 } else { epoch },
            metadata,
            commit_timestamp,
            expire_timestamp,
            topic_id: TopicId([if expire_timestamp.is_some() { 0 } else { id }; 16]),
        },
    );
    let member = (prop::option::of(text), text, text, 0i32..99, 0i32..99, blob(), blob()).prop_map(
        |(instance, client_id, client_host, rebalance, session, subscription, assignment)| {
            MemberImage {
                instance,
                client_id,
                client_host,
                rebalance_timeout_ms: rebalance,
                session_timeout_ms: session,
                subscription,
                assignment,
            }
        },
    );
    let members = prop::collection::btree_map(text, member, 0..4);
    let image = (text, any::<i32>(), prop::option::of(text), any::<i64>(), members).prop_map(
        |(protocol_type, generation, protocol, state_timestamp, members)| GroupImage {
            protocol_type,
            generation,
            protocol: protocol.filter(|_| !members.is_empty()),
            leader: members.keys().next().cloned(),
            state_timestamp,
            members,
        },
    );
    prop_oneof![
        (key.clone(), value).prop_map(|(key, value)| Event::OffsetCommitted { key, value }),
        key.prop_map(|key| Event::OffsetForgotten { key }),
        (text, image).prop_map(|(group, image)| Event::GroupStored { group, image }),
        text.prop_map(|group| Event::GroupForgotten { group }),
        (text, any_fact()).prop_map(|(group, fact)| Event::Consumer { group, fact }),
        (text, any_share_fact()).prop_map(|(group, fact)| Event::Share { group, fact }),
    ]
}

fn any_share_fact() -> impl Strategy<Value = ShareFact> {
    use prop::collection::{btree_map, btree_set};
    use prop::option::of;
    let text = "[a-zé]{0,9}";
    let epoch = (any::<i32>(), any::<i64>())
        .prop_map(|(epoch, metadata_hash)| GroupEpoch { epoch, metadata_hash });
    let target_epoch = (any::<i32>(), any::<i64>())
        .prop_map(|(epoch, timestamp)| TargetEpoch { epoch, timestamp });
    let id = || any::<[u8; 16]>().prop_map(TopicId);
    let partitions = || btree_map(id(), btree_set(0i32..99, 1..4), 0..3);
    let current =
        (-2i32..99, -2i32..99, partitions()).prop_map(|(epoch, previous_epoch, assigned)| {
            ShareCurrent { epoch, previous_epoch, assigned }
        });
    let said = (of(text), text, text, btree_set(text, 0..4)).prop_map(
        |(rack, client_id, client_host, topics)| {
            Box::new(ShareMember { rack, client_id, client_host, topics })
        },
    );
    prop_oneof![
        of(epoch).prop_map(ShareFact::Epoch),
        of(target_epoch).prop_map(ShareFact::TargetEpoch),
        (text, of(said)).prop_map(|(member, said)| ShareFact::Member { member, said }),
        (text, of(partitions()))
            .prop_map(|(member, partitions)| ShareFact::Target { member, partitions }),
        (text, of(current)).prop_map(|(member, current)| ShareFact::Current { member, current }),
    ]
}

fn any_fact() -> impl Strategy<Value = ConsumerFact> {
    use prop::collection::{btree_map, btree_set};
    use prop::option::of;
    let text = "[a-zé]{0,9}";
    let epoch = (any::<i32>(), any::<i64>())
        .prop_map(|(epoch, metadata_hash)| GroupEpoch { epoch, metadata_hash });
    let target_epoch = (any::<i32>(), any::<i64>())
        .prop_map(|(epoch, timestamp)| TargetEpoch { epoch, timestamp });
    let id = || any::<[u8; 16]>().prop_map(TopicId);
    let partitions = btree_map(id(), btree_set(0i32..99, 1..4), 0..3);
    let owned = || btree_map(id(), btree_map(0i32..99, 0i32..9, 1..4), 0..3);
    let state = prop_oneof![
        Just(MemberState::Stable),
        Just(MemberState::UnrevokedPartitions),
        Just(MemberState::UnreleasedPartitions),
    ];
    let current = (-2i32..99, -2i32..99, state, owned(), owned()).prop_map(
        |(epoch, previous_epoch, state, assigned, revoking)| Current {
            epoch,
            previous_epoch,
            state,
            assigned,
            revoking,
        },
    );
    let blob = prop::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from);
    let classic = (0i32..99, prop::collection::vec((text, blob), 0..3))
        .prop_map(|(session_timeout_ms, protocols)| ClassicFace { session_timeout_ms, protocols });
    let names = (of(text), of(text), text, text, of(text));
    let subscription = (names, btree_set(text, 0..4), of("[a-z]{1,9}"), 0i32..99, of(classic));
    let subscription = subscription.prop_map(
        |(
            (instance, rack, client_id, client_host, assignor),
            topics,
            pattern,
            timeout,
            classic,
        )| {
            Box::new(Subscription {
                instance,
                rack,
                client_id,
                client_host,
                topics,
                pattern,
                rebalance_timeout_ms: timeout,
                assignor,
                classic,
            })
        },
    );
    let resolved = (btree_set(text, 0..4), any::<i64>(), any::<i64>())
        .prop_map(|(topics, version, timestamp)| ResolvedPattern { topics, version, timestamp });
    prop_oneof![
        of(epoch).prop_map(ConsumerFact::Epoch),
        of(target_epoch).prop_map(ConsumerFact::TargetEpoch),
        (text, of(subscription))
            .prop_map(|(member, subscription)| ConsumerFact::Member { member, subscription }),
        (text, of(partitions))
            .prop_map(|(member, partitions)| ConsumerFact::Target { member, partitions }),
        (text, of(current)).prop_map(|(member, current)| ConsumerFact::Current { member, current }),
        (text, of(resolved))
            .prop_map(|(expression, resolved)| ConsumerFact::Pattern { expression, resolved }),
    ]
}

/// What is durable of the consumer groups.
pub(crate) fn consumer_facts(shard: &Shard) -> Vec<(Arc<str>, Vec<ConsumerFact>)> {
    let consumer = |(id, group): (&Arc<str>, &Group)| match group {
        Group::Consumer(group) => Some((Arc::clone(id), group.facts())),
        Group::Classic(_) | Group::Share(_) => None,
    };
    shard.groups.iter().filter_map(consumer).collect()
}

/// What is durable of the share groups.
pub(crate) fn share_facts(shard: &Shard) -> Vec<(Arc<str>, Vec<ShareFact>)> {
    let share = |(id, group): (&Arc<str>, &Group)| match group {
        Group::Share(group) => Some((Arc::clone(id), group.facts())),
        Group::Classic(_) | Group::Consumer(_) => None,
    };
    shard.groups.iter().filter_map(share).collect()
}
