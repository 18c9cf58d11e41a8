//! The clients of one life. They are dropped with it, wherever they are; what they were told stays in
//! the history.

use crate::changelog;
use crate::checker::{self, topic_name};
use crate::history::{History, Sent, TopicFacts};
use crate::node::{Node, RETENTION_MS};
use crate::swarm::Swarm;
use crate::transactions::{producer_of, writer};
use cluster::{SubmitError, Topic};
use environment::{Entropy, SeededEntropy};
use futures::future::{BoxFuture, FutureExt, LocalBoxFuture, join_all};
use partition_log::{AppendError, Appended, DeleteRecordsError, PartitionLog, ReadError};
use protocol::records::{Batch, BatchBuilder, Compression};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use vocabulary::{Offset, Partition, ProducerId, Timestamp};

/// max.in.flight.requests.per.connection of an idempotent producer.
pub(crate) const IN_FLIGHT_MAX: usize = 5;

/// How long clients wait for something that is not there yet.
pub(crate) const WAIT: Duration = Duration::from_millis(50);

/// A client that gets this many refusals in a healed world will never get through.
const REFUSALS_MAX: u32 = 10_000;

/// What the clients of one life share.
pub(crate) struct Clients<'a> {
    pub(crate) node: &'a Node,
    pub(crate) swarm: &'a Swarm,
    pub(crate) history: &'a RefCell<History>,
    /// The number of this life.
    pub(crate) life: u64,
    resting: Cell<bool>,
}

/// How a client's turn on a partition ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    Done,
    /// Something was refused or its outcome is unknown: begin anew with what is in flight.
    Again,
}

impl<'a> Clients<'a> {
    pub(crate) fn new(
        node: &'a Node,
        swarm: &'a Swarm,
        history: &'a RefCell<History>,
        life: u64,
    ) -> Clients<'a> {
        Clients { node, swarm, history, life, resting: Cell::new(false) }
    }

    /// All clients, for ever.
    pub(crate) async fn work(&self, seed: u64, rests: bool) {
        let mut seeds = (0..).map(|number| SeededEntropy::new(seed.wrapping_add(number * 7919)));
        let mut chance = move || seeds.next().expect("there is always a next number");
        let mut all: Vec<LocalBoxFuture<'_, ()>> = vec![self.flush(chance()).boxed_local()];
        if rests {
            all.push(self.rest(chance()).boxed_local());
        }
        for slot in 0..self.swarm.slots {
            all.push(self.administer(slot, chance()).boxed_local());
            for index in 0..self.swarm.partitions_max as i32 {
                all.push(self.read(slot, index, chance()).boxed_local());
                if self.swarm.transacts {
                    all.push(self.transact(slot, index, chance()).boxed_local());
                    all.push(self.read_committed(slot, index, chance()).boxed_local());
                }
                if self.swarm.deletes_records {
                    all.push(self.delete_records(slot, index, chance()).boxed_local());
                }
                for producer in 0..self.swarm.producers {
                    all.push(self.produce(slot, index, producer, chance()).boxed_local());
                }
            }
        }
        if self.swarm.compacts {
            all.extend(self.keep_changelog(&mut chance));
        }
        join_all(all).await;
    }

    /// The clients of the compacted topic, which has the last slot.
    fn keep_changelog(
        &self,
        mut chance: impl FnMut() -> SeededEntropy,
    ) -> Vec<LocalBoxFuture<'_, ()>> {
        let slot = self.swarm.slots;
        let mut all: Vec<LocalBoxFuture<'_, ()>> =
            vec![self.administer(slot, chance()).boxed_local()];
        for index in 0..changelog::PARTITIONS_MAX as i32 {
            all.push(self.read_changelog(slot, index, chance()).boxed_local());
            if self.swarm.transacts {
                all.push(self.transact(slot, index, chance()).boxed_local());
            }
            for producer in 0..self.swarm.producers {
                all.push(self.produce(slot, index, producer, chance()).boxed_local());
            }
        }
        all
    }

    pub(crate) fn sleep(&self, wait: Duration) -> BoxFuture<'static, ()> {
        self.node.environment.clock.sleep(wait)
    }

    pub(crate) async fn pause(&self, chance: &SeededEntropy, max: Duration) {
        self.sleep(Duration::from_micros(chance.below(max.as_micros() as u64 + 1))).await;
        while self.resting.get() {
            self.sleep(Duration::from_secs(1)).await;
        }
    }

    /// A partition of the slot's topic, if it has one of that index.
    pub(crate) fn partition(&self, slot: usize, index: i32) -> Option<Partition> {
        let history = self.history.borrow();
        let topic = history.topics[slot].now.as_ref()?;
        let partition = Partition { topic: topic.id?, index };
        history.partitions.contains_key(&partition).then_some(partition)
    }

    // Producers.

    async fn produce(&self, slot: usize, index: i32, producer: usize, chance: SeededEntropy) {
        loop {
            self.pause(&chance, WAIT).await;
            if let Some(partition) = self.partition(slot, index) {
                let batches = 1 + chance.below(200);
                self.send(partition, producer, batches, &chance).await;
            }
        }
    }

    /// First what is in flight from before, then `fresh` new batches.
    pub(crate) async fn send(
        &self,
        partition: Partition,
        producer: usize,
        fresh: u64,
        chance: &SeededEntropy,
    ) -> Turn {
        let Some(log) = self.node.host(partition) else { return Turn::Again };
        let Some(id) = self.producer_id(partition, producer).await else { return Turn::Again };
        let retries = self.with(partition, |it| it.in_flight(id)).unwrap_or_default();
        let mut retries = VecDeque::from(retries);
        let mut waiting: VecDeque<((i64, i32), Appended)> = VecDeque::new();
        let mut fresh = fresh;
        loop {
            while waiting.len() < IN_FLIGHT_MAX {
                let key = match retries.pop_front() {
                    Some(key) => key,
                    None if fresh == 0 || self.resting.get() => break,
                    None => {
                        fresh -= 1;
                        self.pause(chance, self.swarm.pause_max).await;
                        match self.new_batch(partition, producer, chance) {
                            Some(key) => key,
                            None => return Turn::Again,
                        }
                    }
                };
                match self.append(&log, key).await {
                    Some(appended) => waiting.push_back((key, appended)),
                    None => return Turn::Again,
                }
            }
            let Some((key, appended)) = waiting.pop_front() else { return Turn::Done };
            let offset = appended.base_offset;
            match appended.durable.await {
                Ok(()) => self.acknowledged(&log, key, offset),
                Err(error) => {
                    tracing::debug!(%partition, ?key, %error, "not acknowledged");
                    return Turn::Again;
                }
            }
        }
    }

    pub(crate) fn with<T>(
        &self,
        partition: Partition,
        look: impl FnOnce(&mut crate::history::PartitionStory) -> T,
    ) -> Option<T> {
        self.history.borrow_mut().partition(partition).map(look)
    }

    async fn producer_id(&self, partition: Partition, producer: usize) -> Option<i64> {
        let known = self.with(partition, |it| it.producers.get(&producer).copied())?;
        if let Some((id, _)) = known {
            return Some(id);
        }
        let ids = self.node.controller.allocate_producer_ids(3).await;
        let ids = self.answered(ids)?;
        let id = ids.start + 1;
        let mut history = self.history.borrow_mut();
        history.producer_ids_given(&ids);
        let id = writer(id, 0);
        history.partition(partition)?.producers.insert(producer, (id, 0));
        Some(id)
    }

    /// The key of a batch that was never sent before.
    fn new_batch(
        &self,
        partition: Partition,
        producer: usize,
        chance: &SeededEntropy,
    ) -> Option<(i64, i32)> {
        let count = 1 + chance.below(self.swarm.records_max) as i32;
        let timestamp = self.node.environment.clock.wall();
        self.with(partition, |story| {
            let (id, sequence) = story.producers.get_mut(&producer)?;
            let key = (*id, *sequence);
            *sequence += count;
            let is_keyed = story.changelog.is_some();
            story.sending(key, || {
                let batch = self.batch(key, count, timestamp, (false, is_keyed));
                let pairs = is_keyed.then(|| changelog::pairs(&batch));
                Sent::new(count, timestamp, self.life, batch.bytes()).keyed(pairs)
            });
            Some(key)
        })?
    }

    /// A function of its arguments, so that a retry sends the same bytes.
    pub(crate) fn batch(
        &self,
        (writer, sequence): (i64, i32),
        count: i32,
        timestamp: Timestamp,
        (is_transactional, is_keyed): (bool, bool),
    ) -> Batch {
        let seed = (writer as u64) << 32 | u64::from(sequence as u32);
        let draw = SeededEntropy::new(seed);
        let (producer, epoch) = producer_of(writer);
        let producer = Some((ProducerId(producer), epoch, sequence));
        let mut builder = BatchBuilder::new(Compression::None, producer);
        if is_transactional {
            builder = builder.transactional();
        }
        for _ in 0..count {
            let mut value = vec![0; 9 + draw.below(self.swarm.value_bytes_max) as usize];
            draw.fill(&mut value);
            match is_keyed {
                false => builder.push(timestamp, None, Some(&value), &[]),
                true => {
                    let (key, value) = changelog::pair(&draw, value);
                    builder.push(timestamp, Some(&key), value.as_deref(), &[]);
                }
            }
        }
        builder.build()
    }

    /// `None` when it was refused for good in this life, or by this log.
    pub(crate) async fn append(&self, log: &PartitionLog, key: (i64, i32)) -> Option<Appended> {
        let mut refusals = 0;
        loop {
            let sent = self.with(log.partition(), |it| {
                let sent = it.sent(key).expect("it was drawn before it is sent");
                sent.tries += 1;
                sent.clone()
            })?;
            let is_keyed = sent.pairs.is_some();
            let kind = (sent.is_transactional, is_keyed);
            let batch = self.batch(key, sent.count, sent.timestamp, kind);
            match log.append(batch, None).await {
                Ok(appended) => {
                    assert!(!appended.duplicate || 1 < sent.tries, "A5: {key:?} is new");
                    return Some(appended);
                }
                Err(AppendError::Unavailable) => {
                    refusals += 1;
                    assert!(refusals < REFUSALS_MAX, "A9: {log:?} never takes appends");
                    self.sleep(WAIT).await;
                }
                Err(AppendError::Stopping | AppendError::Removed | AppendError::Unknown) => {
                    return None;
                }
                Err(error) => {
                    checker::look(&self.node.environment, log, &mut self.history.borrow_mut());
                    panic!("A5: batch {key:?} of {}: {error}", log.partition());
                }
            }
        }
    }

    pub(crate) fn acknowledged(&self, log: &PartitionLog, key: (i64, i32), offset: Offset) {
        let mut history = self.history.borrow_mut();
        checker::look(&self.node.environment, log, &mut history);
        let Some(story) = history.partition(log.partition()) else { return };
        let is_later = story.sent(key).is_some_and(|it| it.life < self.life);
        if story.acknowledged(key, offset) {
            history.tally.acknowledged += 1;
            history.tally.retried_later += u64::from(is_later);
        }
    }

    /// Everything in flight, of whichever life, is acknowledged when it returns.
    pub(crate) async fn settle(&self) {
        let chance = SeededEntropy::new(1);
        let partitions: Vec<_> = self.history.borrow().partitions.keys().copied().collect();
        for partition in partitions {
            for producer in 0..self.swarm.producers {
                while self.send(partition, producer, 1, &chance).await == Turn::Again {
                    self.sleep(WAIT).await;
                }
            }
            if self.swarm.transacts {
                self.settle_transactions(partition).await;
            }
        }
    }

    // Readers.

    async fn read(&self, slot: usize, index: i32, chance: SeededEntropy) {
        loop {
            self.pause(&chance, 4 * WAIT).await;
            let Some(partition) = self.partition(slot, index) else { continue };
            let Some(log) = self.node.host(partition) else { continue };
            checker::look(&self.node.environment, &log, &mut self.history.borrow_mut());
            let offsets = log.offsets();
            let span = offsets.high_watermark.since(offsets.log_start);
            let mut next = match chance.below(3) {
                0 => offsets.log_start,
                _ => offsets.log_start.plus(chance.below(span as u64 + 1) as i64),
            };
            for _ in 0..1 + chance.below(5) {
                let bytes_max = 1 + chance.below(8 * 1024) as usize;
                match checker::read(&self.node.environment, &log, next, bytes_max, self.history)
                    .await
                {
                    Ok(read) => next = read.end,
                    Err(ReadError::Unavailable) => self.sleep(WAIT).await,
                    Err(ReadError::OffsetOutOfRange { log_start, .. }) if next < log_start => break,
                    Err(error) => panic!("A6: {error}"),
                }
            }
        }
    }

    async fn delete_records(&self, slot: usize, index: i32, chance: SeededEntropy) {
        loop {
            self.pause(&chance, self.swarm.delete_records_pause_max).await;
            let Some(partition) = self.partition(slot, index) else { continue };
            let Some(log) = self.node.host(partition) else { continue };
            let offsets = log.offsets();
            let span = offsets.high_watermark.since(offsets.log_start) as u64;
            let all = chance.below(8) == 0;
            let target = if all { span } else { chance.below(span / 2 + 1) };
            let target = offsets.log_start.plus(target as i64);
            self.with(partition, |it| it.delete_asked = it.delete_asked.max(target.0));
            match log.delete_before(target).await {
                Ok(log_start) => {
                    assert!(target <= log_start, "{target} was asked for, {log_start} is told");
                    checker::look(&self.node.environment, &log, &mut self.history.borrow_mut());
                }
                Err(DeleteRecordsError::Removed | DeleteRecordsError::Unavailable) => (),
                Err(error) => panic!("{error}"),
            }
        }
    }

    // The rest.

    async fn flush(&self, chance: SeededEntropy) {
        loop {
            self.pause(&chance, Duration::from_secs(3)).await;
            self.node.engine.flush_all().await;
        }
    }

    async fn rest(&self, chance: SeededEntropy) {
        loop {
            self.sleep(Duration::from_millis(200 + chance.below(2000))).await;
            self.resting.set(true);
            self.sleep(Duration::from_secs(1 + chance.below(240))).await;
            self.resting.set(false);
        }
    }

    /// `None` when the process stops; never because another one took over.
    pub(crate) fn answered<T>(&self, answer: Result<T, SubmitError>) -> Option<T> {
        match answer {
            Ok(value) => Some(value),
            Err(SubmitError::Fenced) => panic!("A4: nobody else has taken over"),
            Err(SubmitError::Stopping | SubmitError::Unavailable(_)) => None,
        }
    }

    async fn administer(&self, slot: usize, chance: SeededEntropy) {
        loop {
            if self.history.borrow().topics[slot].asked.is_some() {
                return; // An answer is outstanding: only the next life can tell.
            }
            self.change(slot, &chance).await;
            self.pause(&chance, self.swarm.admin_pause_max).await;
        }
    }

    /// One change of the slot's topic, and what clients know after its answer.
    pub(crate) async fn change(&self, slot: usize, chance: &SeededEntropy) {
        let now = self.history.borrow().topics[slot].now.clone();
        let is_changelog = slot == self.swarm.slots;
        let answer = match now {
            None => self.create(slot, chance).await,
            Some(_) if is_changelog => return, // It stays as it is.
            Some(facts) if chance.below(100) < self.swarm.deletions_per_cent => {
                self.delete(slot, &facts).await
            }
            Some(facts) if facts.partitions < self.swarm.partitions_max && chance.below(3) == 0 => {
                self.grow(slot, facts).await
            }
            Some(facts) => self.configure(slot, facts, chance).await,
        };
        let Some(id) = answer else { return };
        let found = self.node.controller.view().topic(&topic_name(slot));
        let mut history = self.history.borrow_mut();
        let story = &mut history.topics[slot];
        let mut asked = story.asked.take().expect("a change was asked for");
        if let Some(asked) = &mut asked {
            asked.id = asked.id.or(id);
        }
        story.now = asked;
        story.settle(found.as_deref());
        history.tally.topic_changes += 1;
        history.follow_topics();
    }

    fn ask(&self, slot: usize, facts: Option<TopicFacts>) {
        self.history.borrow_mut().topics[slot].asked = Some(facts);
    }

    async fn create(
        &self,
        slot: usize,
        chance: &SeededEntropy,
    ) -> Option<Option<vocabulary::TopicId>> {
        let is_changelog = slot == self.swarm.slots;
        let (partitions_max, configs) = match is_changelog {
            true => (changelog::PARTITIONS_MAX, changelog::configs(chance)),
            false => (self.swarm.partitions_max, BTreeMap::new()),
        };
        let partitions = 1 + chance.below(u64::from(partitions_max)) as u32;
        self.ask(slot, Some(TopicFacts { id: None, partitions, configs: configs.clone() }));
        let name = topic_name(slot);
        let created = self.node.controller.create_topic(&name, partitions, configs).await;
        let topic: Arc<Topic> = self.answered(created)?.expect("there is no such topic");
        Some(Some(topic.id))
    }

    async fn delete(&self, slot: usize, facts: &TopicFacts) -> Option<Option<vocabulary::TopicId>> {
        self.ask(slot, None);
        let id = facts.id.expect("it was created");
        let deleted = self.node.controller.delete_topic(id).await;
        self.answered(deleted)?.expect("there is such a topic");
        Some(None)
    }

    async fn grow(&self, slot: usize, facts: TopicFacts) -> Option<Option<vocabulary::TopicId>> {
        let partitions = facts.partitions + 1;
        self.ask(slot, Some(TopicFacts { partitions, ..facts }));
        let grown = self.node.controller.create_partitions(&topic_name(slot), partitions).await;
        self.answered(grown)?.expect("one partition more can be had");
        Some(None)
    }

    async fn configure(
        &self,
        slot: usize,
        mut facts: TopicFacts,
        chance: &SeededEntropy,
    ) -> Option<Option<vocabulary::TopicId>> {
        let choices: &[i64] = match self.swarm.expires_records {
            true => &[-1, 2000, 20_000, 120_000],
            false => &[-1, 604_800_000],
        };
        let retention_ms = choices[chance.below(choices.len() as u64) as usize];
        let value = (chance.below(5) != 0).then(|| retention_ms.to_string());
        match &value {
            Some(value) => drop(facts.configs.insert(RETENTION_MS.into(), value.clone())),
            None => drop(facts.configs.remove(RETENTION_MS)),
        }
        if value.is_some() && 0 <= retention_ms {
            self.retention_asked(&facts, retention_ms);
        }
        self.ask(slot, Some(facts));
        let changes = BTreeMap::from([(RETENTION_MS.to_owned(), value)]);
        let name = topic_name(slot);
        let altered = self.node.controller.alter_topic_configs(&name, changes).await;
        self.answered(altered)?.expect("there is such a topic");
        Some(None)
    }

    fn retention_asked(&self, facts: &TopicFacts, retention_ms: i64) {
        let mut history = self.history.borrow_mut();
        for (partition, story) in &mut history.partitions {
            if Some(partition.topic) == facts.id {
                let before = story.retention_ms_min.unwrap_or(i64::MAX);
                story.retention_ms_min = Some(before.min(retention_ms));
            }
        }
    }
}
