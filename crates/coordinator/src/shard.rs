//! All groups of one `__consumer_offsets` partition.
//!
//! Owns: which groups exist, their offsets, the deadlines, the search for expired offsets.
//! Does not own: the log and the clock (the caller), what happens inside a group (`group`).
//!
//! A step runs to its end before another begins; its events are applied when it ends. Invariants:
//! see the crate's documentation.

mod administration;
mod census;
mod consumers;
mod expiry;
mod membership;
mod migration;
mod shares;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::ErrorCode;
use protocol::records::TransactionResult;
use vocabulary::{Tick, Timestamp, TopicId};

use crate::catalogue::Catalogue;
use crate::classic::ClassicGroup;
use crate::command::{
    Answer, Command, CommitOffsets, CommitReply, FetchOffsets, FetchReply, OffsetToCommit, Reply,
    Ticket,
};
use crate::consumer::ConsumerGroup;
use crate::event::{
    CommittedOffset, ConsumerFact, Event, GroupImage, OffsetKey, ShareFact, TransactionEnd,
};
use crate::format;
use crate::group::Group;
use crate::offsets::OffsetTable;
use crate::options::GroupOptions;
use crate::pending::PendingOffsets;
pub use crate::shard::census::{Census, Tally};
use crate::shard::expiry::Sweep;
use crate::timers::{Alarm, Timers};

/// Both clocks at once, read by the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    pub tick: Tick,
    pub wall: Timestamp,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    Request {
        ticket: Ticket,
        command: Command,
    },
    /// Some deadline may have passed; see [`Shard::wake_at`].
    TimePassed,
    /// The topic was created, has grown, or is another one than before.
    TopicChanged {
        topic: String,
    },
    /// News of topics were missed: any may have changed.
    TopicsMissed,
    /// The topic is gone for good: its committed offsets are forgotten. Not those of another one that has its name.
    TopicDeleted {
        topic: String,
        id: TopicId,
    },
}

/// What an answer waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// Nothing: it tells of soft state, or refuses.
    Now,
    /// Every event emitted so far, this step's included, must be durable (A1).
    Commit,
}

/// What is to be done once it is durable that it was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupOrder {
    /// The member of a share group is gone: what it has locked is for others at once. Not done, the locks run out.
    GiveBack { group: Arc<str>, member: Arc<str> },
}

/// What a step brings forth. The caller drains it; a step only adds. Of groups unless told otherwise.
#[derive(Debug)]
pub struct Outputs<E = Event, R = Reply, T = Tally, O = GroupOrder> {
    /// In order. Each unit is stored as a whole or not at all; several units may share a batch.
    pub units: Vec<Vec<E>>,
    pub answers: Vec<Answer<R>>,
    /// To be carried out when every event emitted so far, this step's included, is durable.
    pub orders: Vec<O>,
    /// For those who count.
    pub tally: T,
}

impl<E, R, T: Default, O> Default for Outputs<E, R, T, O> {
    fn default() -> Outputs<E, R, T, O> {
        Outputs { units: Vec::new(), answers: Vec::new(), orders: Vec::new(), tally: T::default() }
    }
}

/// What every decision needs at hand.
pub(crate) struct Turn<'a> {
    pub(crate) now: Now,
    pub(crate) catalogue: &'a dyn Catalogue,
    pub(crate) options: &'a GroupOptions,
    pub(crate) timers: &'a mut Timers,
    outputs: &'a mut Outputs,
}

impl Turn<'_> {
    pub(crate) fn answer(&mut self, ticket: Ticket, reply: Reply) {
        self.outputs.answers.push(Answer { ticket, reply, after: After::Now });
    }

    pub(crate) fn answer_after_commit(&mut self, ticket: Ticket, reply: Reply) {
        self.outputs.answers.push(Answer { ticket, reply, after: After::Commit });
    }

    pub(crate) fn order(&mut self, order: GroupOrder) {
        self.outputs.orders.push(order);
    }

    pub(crate) fn count_rebalance(&mut self) {
        self.outputs.tally.rebalances += 1;
    }

    /// A fact that stands on its own.
    pub(crate) fn emit(&mut self, event: Event) {
        self.outputs.units.push(vec![event]);
    }

    /// Facts that are stored together or not at all.
    pub(crate) fn emit_unit(&mut self, unit: Vec<Event>) {
        if !unit.is_empty() {
            self.outputs.units.push(unit);
        }
    }
}

#[derive(Debug)]
pub struct Shard {
    options: GroupOptions,
    catalogue: Arc<dyn Catalogue>,
    groups: BTreeMap<Arc<str>, Group>,
    offsets: OffsetTable,
    pending: PendingOffsets,
    timers: Timers,
    sweep: Sweep,
}

impl Shard {
    /// An empty shard, into which the log is to be replayed before [`Shard::start`].
    pub fn new(options: GroupOptions, catalogue: Arc<dyn Catalogue>) -> Shard {
        Shard {
            options,
            catalogue,
            groups: BTreeMap::new(),
            offsets: OffsetTable::default(),
            pending: PendingOffsets::default(),
            timers: Timers::default(),
            sweep: Sweep::default(),
        }
    }

    /// The one way durable state changes, live and at replay.
    pub fn apply(&mut self, event: Event) {
        match event {
            Event::OffsetCommitted { key, value } => {
                self.pending.supersede(&key, None);
                self.offsets.insert(key, value);
            }
            Event::OffsetForgotten { key } => {
                self.pending.supersede(&key, None);
                self.offsets.remove(&key);
            }
            Event::OffsetPending { producer, key, value, .. } => {
                self.pending.insert(producer, key, value);
            }
            Event::TransactionEnded(end) => self.settle(end),
            Event::GroupStored { group, image } => {
                let since = Timestamp(image.state_timestamp);
                self.classic_or_new(&group, since).store(image);
            }
            Event::GroupForgotten { group } => {
                if self.groups.get(group.as_str()).is_some_and(|it| it.as_classic().is_some()) {
                    self.forget_group(&group);
                }
            }
            Event::Consumer { group, fact } => self.apply_to_consumer(&group, fact),
            Event::Share { group, fact } => self.apply_to_share(&group, fact),
        }
    }

    /// The log was replayed to its end: sessions begin. May emit events, as any step.
    pub fn start(&mut self, now: Now, outputs: &mut Outputs) {
        let first = outputs.units.len();
        let Shard { options, catalogue, groups, timers, .. } = self;
        let catalogue = &**catalogue;
        let mut turn = Turn { now, catalogue, options, timers, outputs };
        for group in groups.values_mut() {
            group.restore(&mut turn);
        }
        self.sweep.schedule(now, &self.options);
        self.finish(outputs, first);
    }

    /// The only way in. Same inputs, same outputs.
    pub fn step(&mut self, now: Now, input: Input, outputs: &mut Outputs) {
        let first = outputs.units.len();
        let touched = match input {
            Input::Request { ticket, command } => {
                self.request(now, ticket, command, outputs).into_iter().collect()
            }
            Input::TimePassed => self.time_passed(now, outputs),
            Input::TopicChanged { topic } => {
                self.topic_changed(&topic);
                Vec::new()
            }
            Input::TopicsMissed => {
                self.groups.values_mut().for_each(Group::topics_missed);
                Vec::new()
            }
            Input::TopicDeleted { topic, id } => {
                self.topic_changed(&topic);
                let pending = self.pending.of_topic(&topic, id);
                let keys: BTreeSet<_> = self.offsets.of_topic(&topic, id).chain(pending).collect();
                for key in keys {
                    outputs.units.push(vec![Event::OffsetForgotten { key }]);
                }
                Vec::new()
            }
        };
        self.finish(outputs, first);
        for group in touched {
            self.drop_if_vacant(&group);
        }
        if cfg!(debug_assertions) {
            self.check();
        }
    }

    /// The groups it matters to look at their topics in the next heartbeat.
    fn topic_changed(&mut self, topic: &str) {
        self.groups.values_mut().for_each(|it| it.topic_changed(topic));
    }

    /// When a step would act by itself.
    pub fn wake_at(&self) -> Option<Tick> {
        self.timers.earliest().into_iter().chain(self.sweep.wake_at()).min()
    }

    /// The topics some group has offsets of, pending ones included: after a load the caller compares them with
    /// those that exist. The id is zero where it was not stored.
    pub fn topics(&self) -> BTreeSet<(&str, TopicId)> {
        self.offsets.topics().chain(self.pending.topics()).collect()
    }

    /// The stored groups, in order of their ids.
    pub fn stored_groups(&self) -> impl Iterator<Item = (&str, &GroupImage)> {
        self.groups.iter().filter_map(|(id, group)| Some((&**id, group.as_classic()?.image()?)))
    }

    /// The committed offsets, in order of their keys.
    pub fn committed_offsets(&self) -> impl Iterator<Item = (OffsetKey, &CommittedOffset)> {
        self.offsets.iter()
    }

    /// Panics when an invariant of the crate is broken.
    pub fn check(&self) {
        let alarms: usize = self.groups.values().map(|it| it.check(&self.timers)).sum();
        assert_eq!(alarms, self.timers.len(), "G6");
    }

    fn settle(&mut self, end: TransactionEnd) {
        let pending = self.pending.take(end.producer);
        if end.marker.result == TransactionResult::Commit {
            for (key, (place, value)) in pending {
                self.pending.supersede(&key, Some(place));
                self.offsets.insert(key, value);
            }
        }
    }

    fn finish(&mut self, outputs: &mut Outputs, first: usize) {
        for unit in &outputs.units[first..] {
            for event in unit {
                // What such a group decides it has applied at once; its end is left to the shard.
                let is_applied = match event {
                    Event::Consumer { fact, .. } => *fact != ConsumerFact::Epoch(None),
                    Event::Share { fact, .. } => *fact != ShareFact::Epoch(None),
                    _ => false,
                };
                if !is_applied {
                    self.apply(event.clone());
                }
            }
        }
    }

    fn forget_group(&mut self, id: &str) {
        if let Some(mut group) = self.groups.remove(id) {
            group.disarm(&mut self.timers);
        }
    }

    /// A fact makes its group a consumer group, whatever it was; what is taken back of one that is
    /// not there, or that has become a classic one since, is of no interest.
    fn apply_to_consumer(&mut self, id: &str, fact: ConsumerFact) {
        let is_consumer = matches!(self.groups.get(id), Some(Group::Consumer(_)));
        if is_consumer && fact == ConsumerFact::Epoch(None) {
            return self.forget_group(id);
        }
        if !is_consumer && fact.is_tombstone() {
            return;
        }
        if !is_consumer {
            self.forget_group(id);
            let id: Arc<str> = id.into();
            self.groups.insert(Arc::clone(&id), Group::Consumer(ConsumerGroup::new(id)));
        }
        if let Some(group) = self.groups.get_mut(id).and_then(Group::as_consumer_mut) {
            group.apply(fact);
        }
    }

    fn classic_or_new(&mut self, id: &str, now: Timestamp) -> &mut ClassicGroup {
        if self.groups.get(id).is_none_or(|it| it.as_classic().is_none()) {
            self.forget_group(id); // A consumer group whose end a thinned log does not tell.
            let id: Arc<str> = id.into();
            let group = Group::Classic(Box::new(ClassicGroup::new(Arc::clone(&id), now)));
            self.groups.insert(id, group);
        }
        let group = self.groups.get_mut(id).expect("it was there or has been inserted");
        group.as_classic_mut().expect("it was classic or has been replaced")
    }

    fn drop_if_vacant(&mut self, id: &str) {
        if self.groups.get(id).is_some_and(Group::is_vacant) {
            self.groups.remove(id);
        }
    }

    /// Runs `act` on a group that exists.
    fn with_group<T>(
        &mut self,
        now: Now,
        id: &str,
        outputs: &mut Outputs,
        act: impl FnOnce(&mut Group, &mut Turn<'_>) -> T,
    ) -> Option<T> {
        let Shard { options, catalogue, groups, timers, .. } = self;
        let catalogue = &**catalogue;
        let group = groups.get_mut(id)?;
        Some(act(group, &mut Turn { now, catalogue, options, timers, outputs }))
    }

    /// Returns the group that may be vacant when the step has ended.
    fn request(
        &mut self,
        now: Now,
        ticket: Ticket,
        command: Command,
        outputs: &mut Outputs,
    ) -> Option<Arc<str>> {
        let (reply, after) = match command {
            Command::Join(join) => return self.join(now, ticket, *join, outputs),
            Command::Sync(sync) => return self.sync(now, ticket, sync, outputs),
            Command::Heartbeat(heartbeat) => {
                let (code, after) = self.heartbeat(now, &heartbeat, outputs);
                (Reply::Heartbeat(code), after)
            }
            Command::ConsumerHeartbeat(request) => {
                return self.consumer_heartbeat(now, ticket, &request, outputs);
            }
            Command::ShareHeartbeat(request) => {
                return self.share_heartbeat(now, ticket, &request, outputs);
            }
            Command::Leave(leave) => return self.leave(now, ticket, leave, outputs),
            Command::Commit(commit) => {
                (Reply::Commit(self.commit(now, commit, outputs)), After::Commit)
            }
            Command::Fetch(fetch) => (Reply::Fetch(self.fetch(&fetch)), After::Commit),
            Command::DeleteOffsets(delete) => {
                (Reply::DeleteOffsets(self.delete_offsets(delete, outputs)), After::Commit)
            }
            Command::Describe(groups) => (Reply::Describe(self.describe(groups)), After::Commit),
            Command::DescribeConsumers(groups) => {
                let described = self.describe_consumers(now, groups, outputs);
                (Reply::DescribeConsumers(described), After::Commit)
            }
            Command::DescribeShares(groups) => {
                let described = self.describe_shares(now, groups, outputs);
                (Reply::DescribeShares(described), After::Commit)
            }
            Command::FoundShare(found) => {
                (Reply::FoundShare(self.found_share(now, &found, outputs)), After::Commit)
            }
            Command::List(filter) => (Reply::List(self.list(&filter)), After::Commit),
            Command::DeleteGroups(groups) => {
                (Reply::DeleteGroups(self.delete_groups(groups, outputs)), After::Commit)
            }
            Command::EndTransaction(end) => {
                outputs.units.push(vec![Event::TransactionEnded(end)]);
                (Reply::EndTransaction, After::Commit)
            }
            Command::CarriedOut => (Reply::CarriedOut, After::Now),
        };
        outputs.answers.push(Answer { ticket, reply, after });
        None
    }

    fn fetch(&self, fetch: &FetchOffsets) -> FetchReply {
        let validated = self.groups.get(fetch.group.as_str()).map(|it| it.validate_fetch(fetch));
        match validated {
            Some(Err(error)) => FetchReply { error, topics: Vec::new() },
            Some(Ok(())) | None => {
                let mut reply = self.offsets.fetch(&fetch.group, &fetch.topics);
                if fetch.require_stable {
                    self.pending.hide_unstable(&fetch.group, &mut reply);
                }
                reply
            }
        }
    }

    fn commit(&mut self, now: Now, commit: CommitOffsets, outputs: &mut Outputs) -> CommitReply {
        if format::TEXT_BYTES_MAX < commit.group.len() {
            return CommitReply::Refused(ErrorCode::InvalidGroupId);
        }
        if let Err(error) = self.validate_commit(&commit) {
            return CommitReply::Refused(error);
        }
        self.with_group(now, &commit.group, outputs, |group, turn| {
            group.committed(turn, &commit.member);
        });
        let expire_timestamp = commit.retention_ms.map(|it| now.wall.0.saturating_add(it));
        let mut codes = Vec::with_capacity(commit.offsets.len());
        let mut events = Vec::with_capacity(commit.offsets.len());
        for it in commit.offsets {
            let OffsetToCommit { topic, topic_id, partition, offset, leader_epoch, metadata } = it;
            let metadata = metadata.unwrap_or_default();
            let limit = self.options.offset_metadata_max;
            if is_longer(&metadata, limit) || format::TEXT_BYTES_MAX < metadata.len() {
                codes.push(ErrorCode::OffsetMetadataTooLarge);
                continue;
            }
            codes.push(ErrorCode::None);
            let key = OffsetKey { group: commit.group.clone(), topic, partition };
            let value = CommittedOffset {
                offset,
                leader_epoch,
                metadata,
                commit_timestamp: now.wall.0,
                expire_timestamp,
                // The format that has an expiry has no place for it.
                topic_id: if expire_timestamp.is_none() { topic_id } else { TopicId::ZERO },
            };
            events.push(match commit.transaction {
                Some((producer, epoch)) => Event::OffsetPending { producer, epoch, key, value },
                None => Event::OffsetCommitted { key, value },
            });
        }
        let bytes: usize = events.iter().map(format::encoded_len).sum();
        if self.options.step_bytes_max < bytes {
            codes.fill(ErrorCode::InvalidCommitOffsetSize);
            return CommitReply::Each(codes);
        }
        if !events.is_empty() {
            outputs.tally.offsets_committed += events.len() as u64;
            outputs.units.push(events);
        }
        CommitReply::Each(codes)
    }

    fn validate_commit(&self, commit: &CommitOffsets) -> Result<(), ErrorCode> {
        match self.groups.get(commit.group.as_str()) {
            Some(group) => group.validate_commit(&*self.catalogue, commit),
            // A group nobody has joined. Without a generation it is a simple group: it exists by
            // having offsets.
            None if commit.generation < 0 => {
                let is_new = !self.offsets.contains_group(&commit.group);
                if is_new && self.options.groups_max <= self.offsets.group_count() {
                    return Err(ErrorCode::CoordinatorNotAvailable);
                }
                Ok(())
            }
            // A simple group that exists has no members; Kafka names the unknown member first.
            None if self.offsets.contains_group(&commit.group) => Err(ErrorCode::UnknownMemberId),
            None if commit.group_not_found_known => Err(ErrorCode::GroupIdNotFound),
            None => Err(ErrorCode::IllegalGeneration),
        }
    }

    fn time_passed(&mut self, now: Now, outputs: &mut Outputs) -> Vec<Arc<str>> {
        let mut touched = Vec::new();
        while let Some(alarm) = self.timers.pop_due(now.tick) {
            let id = match &alarm {
                Alarm::Join(group)
                | Alarm::Sync(group)
                | Alarm::Session(group, _)
                | Alarm::Patience(group, _) => Arc::clone(group),
            };
            self.with_group(now, &id, outputs, |group, turn| match (group, &alarm) {
                (Group::Classic(group), Alarm::Join(_)) => group.on_join_alarm(turn),
                (Group::Classic(group), Alarm::Sync(_)) => group.on_sync_alarm(turn),
                (Group::Classic(group), Alarm::Session(_, it)) => group.on_session_alarm(turn, it),
                (Group::Consumer(group), Alarm::Session(_, it)) => {
                    group.on_session_alarm(turn, it);
                }
                (Group::Consumer(group), Alarm::Patience(_, it)) => {
                    group.on_patience_alarm(turn, it);
                }
                (Group::Share(group), Alarm::Session(_, it)) => group.on_session_alarm(turn, it),
                (Group::Classic(_), Alarm::Patience(..))
                | (Group::Consumer(_), Alarm::Join(_) | Alarm::Sync(_))
                | (Group::Share(_), Alarm::Join(_) | Alarm::Sync(_) | Alarm::Patience(..)) => (),
            });
            self.downgrade_if_classic(now, &id, outputs);
            touched.push(id);
        }
        self.sweep_expired(now, outputs);
        touched
    }
}

/// Whether the text has more than `limit` UTF-16 units, which is how Kafka counts.
fn is_longer(text: &str, limit: usize) -> bool {
    limit < text.len() && limit < text.encode_utf16().count()
}

#[cfg(test)]
pub(crate) mod tests;
