//! All share-partitions of one `__share_group_state` partition.
//!
//! Owns: which there are, the deadlines of their locks, when a change is stored as a snapshot, from where on
//! the log is needed. Does not own: the log and the clock (the caller), what becomes of a record (`partition`).
//!
//! The log is not compacted: an update means nothing without those before it. It is cut instead, below the
//! oldest snapshot that still counts; a share-partition that nobody uses is stored anew now and then, so that
//! it does not hold the log.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use protocol::ErrorCode;
use vocabulary::{Offset, Partition, Tick, TopicId};

use super::command::{
    Acknowledge, Acquire, AcquiredSpan, DescribedShare, Look, LookAt, NextFetch, ShareCommand,
    ShareLimits, ShareReply, StartAt,
};
use super::image::{ShareEvent, ShareImage, ShareKey};
use super::partition::{Change, SharePartition};
use crate::command::{Answer, Ticket};
use crate::format::TEXT_BYTES_MAX;
use crate::shard::{After, Now, Outputs};

/// Share-partitions stored anew in one step, and share-partitions whose locks run out in one step.
const VISITS_PER_STEP_MAX: usize = 64;

/// Share-partitions that are stored as one, when a group begins with a topic.
const BEGUN_PER_UNIT_MAX: usize = 1_000;

/// Deleted topics that are remembered, the latest: who was reading one may still ask for it.
const DELETED_TOPICS_MAX: usize = 1_000;

/// By their Kafka names, and our own bounds. The same for every shard of a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareOptions {
    /// `group.share.partition.max.record.locks`, `group.share.delivery.count.limit`: of a group that was not looked at.
    pub limits: ShareLimits,
    /// `share.coordinator.snapshot.update.records.per.snapshot`: updates between two snapshots.
    pub updates_per_snapshot: u32,
    /// `share.coordinator.cold.partition.snapshot.interval.ms`: how often snapshots that hold the log are looked for.
    pub cold_interval_ms: u64,
    /// Offsets of the log that an old snapshot may hold, or twice as many as there are share-partitions if those are
    /// more: each has a snapshot. Larger: more to read at a start, fewer snapshots.
    pub log_held_max: i64,
    /// Offsets of the log that are cut off at once, at least.
    pub log_cut_min: i64,
    /// Share-partitions of one shard. Beyond it a new one is refused with KAFKA_STORAGE_ERROR, on which clients retry.
    pub partitions_max: usize,
}

impl Default for ShareOptions {
    fn default() -> ShareOptions {
        ShareOptions {
            limits: ShareLimits { locks_max: 2_000, delivery_count_limit: 5 },
            updates_per_snapshot: 500,
            cold_interval_ms: 300_000,
            log_held_max: 10_000,
            log_cut_min: 1_000,
            partitions_max: 100_000,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShareInput {
    Request {
        ticket: Ticket,
        command: ShareCommand,
    },
    /// Some deadline may have passed; see [`ShareShard::wake_at`].
    TimePassed,
    /// The topic is gone for good.
    TopicDeleted {
        topic: TopicId,
    },
}

/// What has happened, to be added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ShareTally {
    /// Records acquired.
    pub acquired: u64,
    /// Locks that ran out, in share-partitions.
    pub expired: u64,
}

/// What is to be done once everything decided before it is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShareOrder {
    /// Of this group something may be acquired that could not be before: whoever waits looks again.
    Wake { group: Arc<str> },
    /// The log of the shard this group belongs to is not needed below that offset.
    Cut { group: Arc<str>, below: Offset },
}

pub type ShareOutputs = Outputs<ShareEvent, ShareReply, ShareTally, ShareOrder>;

#[derive(Debug)]
pub struct ShareShard {
    options: ShareOptions,
    shares: BTreeMap<ShareKey, SharePartition>,
    /// When the first lock of a share-partition runs out.
    deadlines: BTreeSet<(Tick, ShareKey)>,
    /// Where the snapshots lie.
    floors: BTreeSet<(Offset, ShareKey)>,
    /// When snapshots that hold the log are looked for; `None` while nothing was stored since.
    tidy_at: Option<Tick>,
    /// The next record lies here in the log, or after it: each takes one offset.
    next: Offset,
    /// The log has been ordered to be cut here.
    cut: Offset,
    /// In the order in which they were deleted.
    deleted: VecDeque<TopicId>,
}

impl ShareShard {
    /// An empty shard, into which the log is to be replayed.
    pub fn new(options: ShareOptions) -> ShareShard {
        ShareShard {
            options,
            shares: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            floors: BTreeSet::new(),
            tidy_at: None,
            next: Offset::ZERO,
            cut: Offset::ZERO,
            deleted: VecDeque::new(),
        }
    }

    /// Replays a record of the log.
    pub fn replay(&mut self, event: ShareEvent, at: Offset) {
        self.next = at.plus(1);
        self.apply(event, at);
    }

    /// The one way durable state changes, live and at replay. The event's record lies at `at` in the log, or after it.
    fn apply(&mut self, event: ShareEvent, at: Offset) {
        match event {
            ShareEvent::Snapshot { key, image, .. } => match self.shares.get_mut(&key) {
                Some(share) => {
                    self.floors.remove(&(share.floor, key.clone()));
                    share.replace(*image, at);
                    self.floors.insert((at, key));
                }
                None => {
                    let share = SharePartition::new(*image, self.options.limits, at);
                    self.shares.insert(key.clone(), share);
                    self.floors.insert((at, key));
                }
            },
            ShareEvent::Update { key, snapshot_epoch, leader_epoch, start, spans, .. } => {
                // Updates whose snapshot was cut off, or that came before a later one, say nothing.
                let found = self.shares.get_mut(&key);
                if let Some(share) = found.filter(|it| it.image.snapshot_epoch == snapshot_epoch) {
                    share.image.leader_epoch = leader_epoch;
                    share.apply(start, &spans);
                }
            }
            ShareEvent::Forgotten { key } => {
                if let Some(share) = self.shares.remove(&key) {
                    self.floors.remove(&(share.floor, key));
                }
            }
        }
    }

    /// The only way in. Same inputs, same outputs.
    pub fn step(&mut self, now: Now, input: ShareInput, outputs: &mut ShareOutputs) {
        let mut turn = Turn { now, outputs };
        match input {
            ShareInput::Request { ticket, command } => {
                let (reply, after) = self.request(&mut turn, command);
                turn.outputs.answers.push(Answer { ticket, reply, after });
            }
            ShareInput::TimePassed => {
                self.expire(&mut turn);
                self.tidy(&mut turn);
            }
            ShareInput::TopicDeleted { topic } => {
                if DELETED_TOPICS_MAX <= self.deleted.len() {
                    self.deleted.pop_front();
                }
                self.deleted.push_back(topic);
                let keys = self.shares.keys().filter(|it| it.topic == topic).cloned();
                for key in keys.collect::<Vec<_>>() {
                    self.forget(&mut turn, key);
                }
            }
        }
        self.cut_log(outputs);
        if cfg!(debug_assertions) {
            self.check();
        }
    }

    /// When a step would act by itself.
    pub fn wake_at(&self) -> Option<Tick> {
        let lock = self.deadlines.first().map(|(at, _)| *at);
        lock.into_iter().chain(self.tidy_at).min()
    }

    /// Orders the log to be cut where enough of it is not needed any more.
    fn cut_log(&mut self, outputs: &mut ShareOutputs) {
        let Some((at, key)) = self.floors.first() else { return };
        if self.options.log_cut_min <= at.since(self.cut) {
            let (group, below) = (key.group.as_str().into(), *at);
            outputs.orders.push(ShareOrder::Cut { group, below });
            self.cut = below;
        }
    }

    /// The topics something is known of: after a load the caller compares them with those that exist.
    pub fn topics(&self) -> BTreeSet<TopicId> {
        self.shares.keys().map(|it| it.topic).collect()
    }

    /// All that is durable, in order of the keys.
    pub fn images(&self) -> impl Iterator<Item = (&ShareKey, &ShareImage)> {
        self.shares.iter().map(|(key, share)| (key, &share.image))
    }

    /// Panics when an invariant of the module is broken.
    pub fn check(&self) {
        let mut deadlines = BTreeSet::new();
        for (key, share) in &self.shares {
            share.check();
            deadlines.extend(share.wake_at().map(|at| (at, key.clone())));
            assert!(self.floors.contains(&(share.floor, key.clone())), "H5");
        }
        assert_eq!(self.deadlines, deadlines, "H4");
        assert_eq!(self.floors.len(), self.shares.len(), "H5");
    }

    fn request(&mut self, turn: &mut Turn<'_>, command: ShareCommand) -> (ShareReply, After) {
        match command {
            ShareCommand::Look(look) => self.look(turn, &look),
            ShareCommand::Acquire(acquire) => {
                let (spans, after) = self.acquire(turn, &acquire);
                (ShareReply::Acquired(spans), after)
            }
            ShareCommand::Acknowledge(acknowledge) => {
                let codes = self.acknowledge(turn, &acknowledge);
                (ShareReply::Acknowledged(codes), After::Commit)
            }
            ShareCommand::Release { group, member } => {
                for key in self.keys_of(&group) {
                    self.change(turn, &key, |share| share.release(&member));
                }
                (ShareReply::Released, After::Commit)
            }
            ShareCommand::CarriedOut => (ShareReply::CarriedOut, After::Now),
            ShareCommand::Describe { group } => {
                let row = |key: ShareKey| {
                    let image = &self.shares.get(&key)?.image;
                    Some(DescribedShare {
                        partition: key.partition(),
                        start: image.start,
                        leader_epoch: image.leader_epoch,
                        complete_count: image.complete_count(),
                    })
                };
                let rows = self.keys_of(&group).into_iter().filter_map(row);
                (ShareReply::Described(rows.collect()), After::Commit)
            }
            ShareCommand::Alter { group, starts, siblings } => {
                let looks: Vec<LookAt> = starts.iter().map(|it| it.as_look()).collect();
                self.begin_topics(turn, &group, &looks, &siblings);
                let codes = starts.iter().map(|it| self.begin_at(turn, &group, *it)).collect();
                turn.wake(&group);
                (ShareReply::Altered(codes), After::Commit)
            }
            ShareCommand::Delete { group, topics } => {
                let mut gone = BTreeSet::new();
                for key in self.keys_of(&group) {
                    if topics.as_ref().is_none_or(|it| it.contains(&key.topic)) {
                        gone.insert(key.topic);
                        self.forget(turn, key);
                    }
                }
                (ShareReply::Deleted(gone.into_iter().collect()), After::Commit)
            }
        }
    }

    fn keys_of(&self, group: &str) -> Vec<ShareKey> {
        let first = ShareKey { group: group.to_owned(), topic: TopicId([0; 16]), index: i32::MIN };
        let rest = self.shares.range(first..).map(|(key, _)| key);
        rest.take_while(|it| it.group == group).cloned().collect()
    }

    /// What nobody has been told to be durable is told only when it is: a share-partition that has just begun, of
    /// which a restart would otherwise know nothing.
    fn look(&mut self, turn: &mut Turn<'_>, look: &Look) -> (ShareReply, After) {
        let mut after = After::Now;
        let mut rows = Vec::with_capacity(look.partitions.len());
        self.begin_topics(turn, &look.group, &look.partitions, &look.siblings);
        for at in &look.partitions {
            let key = ShareKey::new(&look.group, at.partition);
            rows.push(match self.begin(turn, &key, at) {
                Ok(false) => NextFetch::Unbegun,
                Ok(true) => {
                    self.change(turn, &key, |share| {
                        share.limits = look.limits;
                        share.follow_log_start(at.log_start)
                    });
                    let found = self.shares.get(&key);
                    if found.is_some_and(|it| it.updates == 0) {
                        after = After::Commit;
                    }
                    found.map_or(NextFetch::Full, |it| it.next_fetch(it.limits))
                }
                Err(code) => NextFetch::Refused(code),
            });
        }
        (ShareReply::Look(rows), after)
    }

    /// Whether the group has something of the topic.
    fn knows(&self, group: &str, topic: TopicId) -> bool {
        let first = ShareKey { group: group.to_owned(), topic, index: i32::MIN };
        let next = self.shares.range(first..).next();
        next.is_some_and(|(it, _)| it.group == group && it.topic == topic)
    }

    /// Begins with topics that are new to the group, all partitions of one at once: which ones were there when the
    /// group came is known from then on. Where that cannot be, [`ShareShard::begin`] says why.
    fn begin_topics(
        &mut self,
        turn: &mut Turn<'_>,
        group: &str,
        partitions: &[LookAt],
        siblings: &[LookAt],
    ) {
        let begun = partitions.iter().filter(|it| it.begin.is_some()).map(|it| it.partition.topic);
        let mut topics: BTreeSet<TopicId> = begun.collect();
        topics.retain(|it| !self.knows(group, *it) && !self.deleted.contains(it));
        let of_new = partitions.iter().chain(siblings);
        let of_new = of_new.filter(|it| topics.contains(&it.partition.topic));
        let mut images: BTreeMap<ShareKey, ShareImage> = BTreeMap::new();
        for at in of_new {
            let image = match at.begin {
                Some(begin) => begun_at(turn, begin.max(at.log_start), at.leader_epoch),
                None => ShareImage::undecided(at.leader_epoch, turn.now.wall.0),
            };
            images.entry(ShareKey::new(group, at.partition)).or_insert(image);
        }
        let has_room = self.shares.len() + images.len() <= self.options.partitions_max;
        if !has_room || TEXT_BYTES_MAX < group.len() {
            return;
        }
        let written_at = turn.now.wall.0;
        let event = |(key, image)| ShareEvent::Snapshot { key, image: Box::new(image), written_at };
        let events: Vec<ShareEvent> = images.into_iter().map(event).collect();
        for unit in events.chunks(BEGUN_PER_UNIT_MAX) {
            self.store_unit(turn, unit.to_vec());
        }
    }

    /// Whether it has begun.
    fn begin(
        &mut self,
        turn: &mut Turn<'_>,
        key: &ShareKey,
        at: &LookAt,
    ) -> Result<bool, ErrorCode> {
        if let Some(share) = self.shares.get(key) {
            if share.image.is_begun() {
                return Ok(true);
            }
            let Some(begin) = at.begin else { return Ok(false) };
            let mut image = begun_at(turn, begin.max(at.log_start), at.leader_epoch);
            image.snapshot_epoch = share.image.snapshot_epoch.wrapping_add(1);
            self.store_image(turn, key.clone(), image);
            return Ok(true);
        }
        if TEXT_BYTES_MAX < key.group.len() {
            return Err(ErrorCode::InvalidRequest);
        }
        if self.deleted.contains(&key.topic) {
            return Err(ErrorCode::UnknownTopicId);
        }
        let is_new = !self.knows(&key.group, key.topic);
        if is_new && at.begin.is_none() {
            return Ok(false);
        }
        if is_new || self.options.partitions_max <= self.shares.len() {
            return Err(ErrorCode::KafkaStorageError);
        }
        // The topic has grown since the group came to it: nothing of what it grew by is skipped.
        let image = begun_at(turn, at.log_start, at.leader_epoch);
        self.store_image(turn, key.clone(), image);
        Ok(true)
    }

    fn begin_at(&mut self, turn: &mut Turn<'_>, group: &str, at: StartAt) -> ErrorCode {
        let key = ShareKey::new(group, at.partition);
        if let Err(code) = self.begin(turn, &key, &at.as_look()) {
            return code;
        }
        let Some(share) = self.shares.get(&key) else { return ErrorCode::UnknownServerError };
        let mut image = ShareImage::new(at.start, at.leader_epoch, share.image.created_at);
        image.snapshot_epoch = share.image.snapshot_epoch.wrapping_add(1);
        image.state_epoch = share.image.state_epoch.wrapping_add(1);
        self.disarm(&key);
        self.store_image(turn, key.clone(), image);
        self.arm(&key);
        ErrorCode::None
    }

    fn acquire(&mut self, turn: &mut Turn<'_>, acquire: &Acquire) -> (Vec<AcquiredSpan>, After) {
        let key = ShareKey::new(&acquire.group, acquire.partition);
        let now = turn.now.tick;
        let mut spans = Vec::new();
        self.change(turn, &key, |share| {
            if !share.image.is_begun() {
                return Change::default(); // It was forgotten since the look, and is not begun again.
            }
            let (acquired, change) = share.acquire(now, share.limits, acquire);
            spans = acquired;
            change
        });
        let records =
            spans.iter().map(|it: &AcquiredSpan| it.last.since(it.first) + 1).sum::<i64>();
        turn.outputs.tally.acquired += u64::try_from(records).unwrap_or(0);
        let is_new = self.shares.get(&key).is_some_and(|it| it.updates == 0);
        (spans, if is_new { After::Commit } else { After::Now })
    }

    fn acknowledge(&mut self, turn: &mut Turn<'_>, acknowledge: &Acknowledge) -> Vec<ErrorCode> {
        let Acknowledge { group, member, partitions, lock_ms } = acknowledge;
        let lock = Duration::from_millis(*lock_ms);
        let now = turn.now.tick;
        let mut one = |(partition, batches): &(Partition, Vec<_>)| {
            let key = ShareKey::new(group, *partition);
            // Nothing is known of it: the member's locks are gone with it.
            let mut code = ErrorCode::InvalidRecordState;
            self.change(turn, &key, |share| {
                match share.acknowledge(now, share.limits, member, batches, lock) {
                    Ok(change) => {
                        code = ErrorCode::None;
                        change
                    }
                    Err(refused) => {
                        code = refused;
                        Change::default()
                    }
                }
            });
            code
        };
        partitions.iter().map(&mut one).collect()
    }

    fn expire(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now.tick;
        for _ in 0..VISITS_PER_STEP_MAX {
            let due = self.deadlines.first().filter(|(at, _)| *at <= now);
            let Some(key) = due.map(|(_, key)| key.clone()) else { return };
            turn.outputs.tally.expired += 1;
            self.change(turn, &key, |share| share.expire(now, share.limits));
        }
    }

    /// Stores share-partitions anew whose snapshots lie far back.
    fn tidy(&mut self, turn: &mut Turn<'_>) {
        if self.tidy_at.is_none_or(|at| turn.now.tick < at) {
            return;
        }
        self.tidy_at = None;
        // All snapshots, written one after the other, must fit in, or the oldest would always be too old.
        let snapshots = i64::try_from(self.shares.len()).unwrap_or(i64::MAX / 2);
        let held_max = self.options.log_held_max.max(2 * snapshots);
        for _ in 0..VISITS_PER_STEP_MAX {
            let oldest = self.floors.first();
            let held = oldest.filter(|(at, _)| held_max < self.next.since(*at));
            let Some(key) = held.map(|(_, key)| key.clone()) else { return };
            self.snapshot(turn, &key);
        }
        self.tidy_at = Some(turn.now.tick); // Again at once, after what else is waiting.
    }

    /// Runs a decision on a share-partition, if there is one, stores what it changes, and follows its locks.
    fn change(
        &mut self,
        turn: &mut Turn<'_>,
        key: &ShareKey,
        decide: impl FnOnce(&mut SharePartition) -> Change,
    ) {
        self.disarm(key);
        let Some(share) = self.shares.get_mut(key) else { return };
        let was_full = share.is_full(share.limits);
        let change = decide(share);
        if !change.is_empty() {
            if change.frees() || (was_full && change.start.is_some()) {
                turn.wake(&key.group);
            }
            self.store_change(turn, key, change);
        }
        self.arm(key);
    }

    fn store_change(&mut self, turn: &mut Turn<'_>, key: &ShareKey, change: Change) {
        let Some(share) = self.shares.get(key) else { return };
        let mut image = share.image.clone();
        image.overlay(change.start, &change.spans);
        if self.options.updates_per_snapshot <= share.updates {
            image.snapshot_epoch = image.snapshot_epoch.wrapping_add(1);
            return self.store_image(turn, key.clone(), image);
        }
        let event = ShareEvent::Update {
            key: key.clone(),
            snapshot_epoch: image.snapshot_epoch,
            leader_epoch: image.leader_epoch,
            start: change.start,
            complete_count: image.complete_count(),
            spans: change.spans,
        };
        self.store(turn, event);
    }

    fn snapshot(&mut self, turn: &mut Turn<'_>, key: &ShareKey) {
        let Some(share) = self.shares.get(key) else { return };
        let mut image = share.image.clone();
        image.snapshot_epoch = image.snapshot_epoch.wrapping_add(1);
        self.store_image(turn, key.clone(), image);
    }

    fn store_image(&mut self, turn: &mut Turn<'_>, key: ShareKey, image: ShareImage) {
        let (image, written_at) = (Box::new(image), turn.now.wall.0);
        self.store(turn, ShareEvent::Snapshot { key, image, written_at });
    }

    fn forget(&mut self, turn: &mut Turn<'_>, key: ShareKey) {
        self.disarm(&key);
        self.store(turn, ShareEvent::Forgotten { key });
    }

    fn store(&mut self, turn: &mut Turn<'_>, event: ShareEvent) {
        self.store_unit(turn, vec![event]);
    }

    fn store_unit(&mut self, turn: &mut Turn<'_>, unit: Vec<ShareEvent>) {
        for event in &unit {
            self.apply(event.clone(), self.next);
            self.next = self.next.plus(1);
        }
        turn.outputs.units.push(unit);
        let interval = Duration::from_millis(self.options.cold_interval_ms.max(1));
        self.tidy_at.get_or_insert(turn.now.tick.plus(interval));
    }

    fn disarm(&mut self, key: &ShareKey) {
        if let Some(at) = self.shares.get(key).and_then(SharePartition::wake_at) {
            self.deadlines.remove(&(at, key.clone()));
        }
    }

    fn arm(&mut self, key: &ShareKey) {
        if let Some(at) = self.shares.get(key).and_then(SharePartition::wake_at) {
            self.deadlines.insert((at, key.clone()));
        }
    }
}

fn begun_at(turn: &Turn<'_>, start: Offset, leader_epoch: i32) -> ShareImage {
    ShareImage::new(start, leader_epoch, turn.now.wall.0)
}

/// What every decision needs at hand.
struct Turn<'a> {
    now: Now,
    outputs: &'a mut ShareOutputs,
}

impl Turn<'_> {
    fn wake(&mut self, group: &str) {
        let is_woken =
            |it: &ShareOrder| matches!(it, ShareOrder::Wake { group: it } if **it == *group);
        if !self.outputs.orders.last().is_some_and(is_woken) {
            self.outputs.orders.push(ShareOrder::Wake { group: group.into() });
        }
    }
}

#[cfg(test)]
mod tests;
