//! All transactional ids of one `__transaction_state` partition.
//!
//! Owns: the ids, when open transactions are overdue, the search for ids nobody uses. Does not own: the log, the
//! clock, the writing of markers (the caller), producer ids (the caller has them from the controller).
//!
//! A step applies its events as it emits them, so a later request of the same turn sees them; what is told to
//! anybody waits for the log ([`After::Commit`](crate::After::Commit)), orders for markers included.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;
use std::time::Duration;

use protocol::ErrorCode;
use protocol::records::TransactionResult;
use vocabulary::{ProducerId, Tick};

use crate::command::{Answer, Ticket};
use crate::format::TEXT_BYTES_MAX;
use crate::shard::{After, Now, Outputs};
use crate::transactions::command::{
    AddPartitions, DescribedTransaction, ListedTransaction, TransactionCommand, TransactionFilter,
    TransactionPartitions, TransactionReply, VerifyPartitions,
};
use crate::transactions::format;
use crate::transactions::image::{
    CLIENT_EPOCH_MAX, TransactionEvent, TransactionImage, TransactionState, TransactionVersion,
};

/// Ids visited in one step of the search for unused ones, and transactions aborted in one step.
const VISITS_PER_STEP_MAX: usize = 256;

/// By their Kafka names, and our own bounds. The same for every shard of a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionOptions {
    /// `transaction.max.timeout.ms`. Larger: a dead producer may hold up readers longer.
    pub timeout_ms_max: i32,
    /// `transaction.abort.timed.out.transaction.cleanup.interval.ms`: how often overdue transactions are looked for.
    pub abort_interval_ms: i64,
    /// `transactional.id.expiration.ms`: how long an id is kept that nobody uses.
    pub expiration_ms: i64,
    /// `transaction.remove.expired.transaction.cleanup.interval.ms`: how often such ids are looked for.
    pub expiration_interval_ms: i64,
    /// Ids of one shard. Beyond it a new one is refused with COORDINATOR_NOT_AVAILABLE, which clients retry.
    pub ids_max: usize,
    /// The record of one id, in bytes. A transaction over more partitions is refused with UNKNOWN_SERVER_ERROR, as
    /// Kafka does when a record passes `max.message.bytes`.
    pub record_bytes_max: usize,
}

impl Default for TransactionOptions {
    fn default() -> TransactionOptions {
        TransactionOptions {
            timeout_ms_max: 900_000,
            abort_interval_ms: 10_000,
            expiration_ms: 7 * 24 * 60 * 60 * 1_000,
            expiration_interval_ms: 3_600_000,
            ids_max: 200_000,
            record_bytes_max: 1024 * 1024,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransactionInput {
    Request {
        ticket: Ticket,
        command: TransactionCommand,
    },
    /// Some deadline may have passed; see [`TransactionShard::wake_at`].
    TimePassed,
}

/// The end of a transaction, to be written to all of its partitions once the decision is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarkersOrder {
    pub id: String,
    pub producer: ProducerId,
    /// What the markers carry: greater than the records' when the end has bumped it.
    pub epoch: i16,
    pub result: TransactionResult,
    pub version: TransactionVersion,
    pub partitions: TransactionPartitions,
}

pub type TransactionOutputs =
    Outputs<TransactionEvent, TransactionReply, TransactionTally, MarkersOrder>;

/// What is there at a moment: ids by state, in the order of [`TransactionState::ALL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TransactionCensus {
    pub ids: [usize; TransactionState::ALL.len()],
}

/// What has happened, to be added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TransactionTally {
    pub begun: u64,
    pub committed: u64,
    /// Those below included.
    pub aborted: u64,
    /// Open for longer than their producer had asked for.
    pub timed_out: u64,
    /// Another producer has taken the id.
    pub fenced: u64,
    /// Ids forgotten because nobody used them.
    pub expired: u64,
}

/// One id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Transaction {
    pub(super) image: TransactionImage,
    /// The epoch before the newest, if the producer that had it is the one that has the newest: its repeated request
    /// is answered, not fenced. Soft, as in Kafka: after a restart such a repetition is fenced.
    pub(super) last_epoch: Option<i16>,
}

#[derive(Debug)]
pub struct TransactionShard {
    pub(super) options: TransactionOptions,
    pub(super) transactions: BTreeMap<Arc<str>, Transaction>,
    /// Wall milliseconds from which an open transaction is overdue.
    deadlines: BTreeSet<(i64, Arc<str>)>,
    abort_at: Tick,
    expire_at: Tick,
    /// The last id that the search in progress has visited.
    visited: Option<Arc<str>>,
}

impl TransactionShard {
    /// An empty shard, into which the log is to be replayed before [`TransactionShard::start`].
    pub fn new(options: TransactionOptions) -> TransactionShard {
        TransactionShard {
            options,
            transactions: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            abort_at: Tick(0),
            expire_at: Tick(0),
            visited: None,
        }
    }

    /// The one way durable state changes, live and at replay.
    pub fn apply(&mut self, event: TransactionEvent) {
        let (id, image) = match event {
            TransactionEvent::Stored { id, image } => (id, Some(image)),
            TransactionEvent::Forgotten { id } => (id, None),
        };
        let known = self.transactions.get_key_value(id.as_str());
        let before = known.and_then(|(_, it)| it.image.deadline());
        let id: Arc<str> = known.map_or_else(|| id.as_str().into(), |(id, _)| Arc::clone(id));
        if let Some(at) = before {
            self.deadlines.remove(&(at, Arc::clone(&id)));
        }
        let Some(image) = image else {
            self.transactions.remove(&id);
            return;
        };
        if let Some(at) = image.deadline() {
            self.deadlines.insert((at, Arc::clone(&id)));
        }
        match self.transactions.get_mut(&id) {
            Some(transaction) => transaction.image = image,
            None => {
                self.transactions.insert(id, Transaction { image, last_epoch: None });
            }
        }
    }

    /// The log was replayed to its end: what was decided is carried out.
    pub fn start(&mut self, now: Now, outputs: &mut TransactionOutputs) {
        self.abort_at = after(now, self.options.abort_interval_ms);
        self.expire_at = after(now, self.options.expiration_interval_ms);
        let ending = self.transactions.iter().filter_map(|(id, it)| it.order(id));
        outputs.orders.extend(ending);
    }

    /// The only way in. Same inputs, same outputs.
    pub fn step(&mut self, now: Now, input: TransactionInput, outputs: &mut TransactionOutputs) {
        match input {
            TransactionInput::Request { ticket, command } => {
                let reply = self.request(now, command, outputs);
                outputs.answers.push(Answer { ticket, reply, after: After::Commit });
            }
            TransactionInput::TimePassed => {
                self.abort_overdue(now, outputs);
                self.forget_unused(now, outputs);
            }
        }
        if cfg!(debug_assertions) {
            self.check();
        }
    }

    /// When a step would act by itself.
    pub fn wake_at(&self) -> Option<Tick> {
        (!self.transactions.is_empty()).then(|| self.abort_at.min(self.expire_at))
    }

    /// Every id and what the log says of it, in order.
    pub fn images(&self) -> impl Iterator<Item = (&str, &TransactionImage)> {
        self.transactions.iter().map(|(id, it)| (&**id, &it.image))
    }

    /// Visits every id: not for each step.
    pub fn census(&self) -> TransactionCensus {
        let mut census = TransactionCensus::default();
        for transaction in self.transactions.values() {
            let state = transaction.image.state;
            let place = TransactionState::ALL.iter().position(|it| *it == state);
            census.ids[place.expect("all states are listed")] += 1;
        }
        census
    }

    /// Panics when an invariant of the module is broken.
    pub fn check(&self) {
        let open = self.transactions.iter();
        let open = open.filter_map(|(id, it)| Some((it.image.deadline()?, Arc::clone(id))));
        assert!(self.deadlines.iter().cloned().eq(open.collect::<BTreeSet<_>>()), "T1");
        for (id, Transaction { image, .. }) in &self.transactions {
            let ending = image.state.ending().is_some();
            let may_have = ending || image.state == TransactionState::Ongoing;
            assert!(may_have || image.partitions.is_empty(), "T2: {id}");
            assert!(ending || image.next_producer.is_none(), "T3: {id}");
            assert!(0 <= image.epoch, "T4: {id}");
        }
    }

    fn request(
        &mut self,
        now: Now,
        command: TransactionCommand,
        outputs: &mut TransactionOutputs,
    ) -> TransactionReply {
        match command {
            TransactionCommand::Init(init) => self.init(now, init, outputs),
            TransactionCommand::Add(add) => {
                TransactionReply::Added(self.add(now, add, outputs).err().unwrap_or_default())
            }
            TransactionCommand::Verify(verify) => TransactionReply::Verified(self.verify(verify)),
            TransactionCommand::End(end) => self.end(now, end, outputs),
            TransactionCommand::MarkersWritten { id, producer, epoch } => {
                TransactionReply::Completed(self.complete(now, &id, producer, epoch, outputs))
            }
            TransactionCommand::Describe(id) => {
                let found = self.transactions.get(id.as_str());
                TransactionReply::Described(found.map(|it| DescribedTransaction::from(&it.image)))
            }
            TransactionCommand::List(filter) => TransactionReply::Listed(self.list(now, &filter)),
        }
    }

    /// The id's state, if this producer may go on with it. PRODUCER_FENCED is the code of clients that know it.
    fn held(
        &self,
        id: &str,
        producer: ProducerId,
        epoch: i16,
    ) -> Result<&TransactionImage, ErrorCode> {
        let found = self.transactions.get(id).map(|it| &it.image);
        let image = found.filter(|it| it.producer == producer);
        let image = image.ok_or(ErrorCode::InvalidProducerIdMapping)?;
        if image.epoch != epoch || CLIENT_EPOCH_MAX < epoch {
            return Err(ErrorCode::ProducerFenced);
        }
        if image.state.ending().is_some() {
            return Err(ErrorCode::ConcurrentTransactions);
        }
        Ok(image)
    }

    fn add(
        &mut self,
        now: Now,
        add: AddPartitions,
        outputs: &mut TransactionOutputs,
    ) -> Result<(), ErrorCode> {
        let image = self.held(&add.id, add.producer, add.epoch)?;
        let is_open = image.state == TransactionState::Ongoing;
        if is_open && missing(&add.partitions, &image.partitions).is_empty() {
            return Ok(());
        }
        let mut image = TransactionImage {
            state: TransactionState::Ongoing,
            started_at: if is_open { image.started_at } else { now.wall.0 },
            updated_at: now.wall.0,
            version: add.version,
            ..image.clone()
        };
        for (topic, indexes) in add.partitions {
            image.partitions.entry(topic).or_default().extend(indexes);
        }
        if self.options.record_bytes_max < format::encoded_len(&add.id, &image) {
            return Err(ErrorCode::UnknownServerError);
        }
        outputs.tally.begun += u64::from(!is_open);
        self.store(&add.id, image, outputs);
        Ok(())
    }

    fn verify(&self, verify: VerifyPartitions) -> Result<TransactionPartitions, ErrorCode> {
        let image = self.held(&verify.id, verify.producer, verify.epoch)?;
        // Partitions are only there while the transaction is open (T2).
        Ok(missing(&verify.partitions, &image.partitions))
    }

    fn list(&self, now: Now, filter: &TransactionFilter) -> Vec<ListedTransaction> {
        let passes = |image: &TransactionImage| {
            let runs_ms = now.wall.0.saturating_sub(image.started_at);
            !filter.only_unknown_states
                && (filter.states.is_empty() || filter.states.contains(&image.state))
                && (filter.producers.is_empty() || filter.producers.contains(&image.producer))
                && (filter.longer_than_ms < 0 || filter.longer_than_ms < runs_ms)
        };
        let found = self.images().filter(|(_, image)| passes(image));
        let row = |(id, image): (&str, &TransactionImage)| ListedTransaction {
            id: id.to_owned(),
            producer: image.producer,
            state: image.state,
        };
        found.map(row).collect()
    }

    /// Emits what the id is from now on.
    pub(super) fn store(
        &mut self,
        id: &str,
        image: TransactionImage,
        outputs: &mut TransactionOutputs,
    ) {
        if let Some(before) = self.transactions.get(id).map(|it| &it.image) {
            assert!(
                before.producer != image.producer || before.epoch <= image.epoch,
                "T4: the epoch of {id} goes down"
            );
        }
        let event = TransactionEvent::Stored { id: id.to_owned(), image };
        self.apply(event.clone());
        outputs.units.push(vec![event]);
    }

    pub(super) fn is_refused(&self, id: &str) -> Option<ErrorCode> {
        if id.is_empty() || TEXT_BYTES_MAX < id.len() {
            return Some(ErrorCode::InvalidRequest);
        }
        let is_new = !self.transactions.contains_key(id);
        let full = self.options.ids_max <= self.transactions.len();
        (is_new && full).then_some(ErrorCode::CoordinatorNotAvailable)
    }

    fn abort_overdue(&mut self, now: Now, outputs: &mut TransactionOutputs) {
        if now.tick < self.abort_at {
            return;
        }
        for _ in 0..VISITS_PER_STEP_MAX {
            let overdue = self.deadlines.first().filter(|(at, _)| *at < now.wall.0);
            let Some(id) = overdue.map(|(_, id)| Arc::clone(id)) else {
                self.abort_at = after(now, self.options.abort_interval_ms);
                return;
            };
            outputs.tally.timed_out += 1;
            self.fence(now, &id, outputs);
        }
        self.abort_at = now.tick; // Again at once, after what else is waiting.
    }

    fn forget_unused(&mut self, now: Now, outputs: &mut TransactionOutputs) {
        if now.tick < self.expire_at {
            return;
        }
        for _ in 0..VISITS_PER_STEP_MAX {
            let from = self.visited.as_deref().map_or(Unbounded, Excluded);
            let next = self.transactions.range::<str, _>((from, Unbounded)).next();
            let Some((id, Transaction { image, .. })) = next else {
                self.visited = None;
                self.expire_at = after(now, self.options.expiration_interval_ms);
                return;
            };
            let id = Arc::clone(id);
            let is_idle = image.deadline().is_none() && image.state.ending().is_none();
            let unused_ms = now.wall.0.saturating_sub(image.updated_at);
            if is_idle && self.options.expiration_ms <= unused_ms {
                let event = TransactionEvent::Forgotten { id: id.to_string() };
                self.apply(event.clone());
                outputs.units.push(vec![event]);
                outputs.tally.expired += 1;
            }
            self.visited = Some(id);
        }
        self.expire_at = now.tick;
    }
}

impl Transaction {
    /// What is to be written, if the end is decided and not complete.
    pub(super) fn order(&self, id: &str) -> Option<MarkersOrder> {
        let TransactionImage { producer, epoch, version, ref partitions, state, .. } = self.image;
        let result = state.ending()?;
        let (id, partitions) = (id.to_owned(), partitions.clone());
        Some(MarkersOrder { id, producer, epoch, result, version, partitions })
    }

    /// Whether a client may have been given the newest epoch.
    pub(super) fn is_given(&self) -> bool {
        self.image.epoch <= CLIENT_EPOCH_MAX
    }
}

fn after(now: Now, wait_ms: i64) -> Tick {
    now.tick.plus(Duration::from_millis(u64::try_from(wait_ms).unwrap_or(0).max(1)))
}

/// What of `wanted` is not in `there`.
fn missing(wanted: &TransactionPartitions, there: &TransactionPartitions) -> TransactionPartitions {
    let rest = wanted.iter().filter_map(|(topic, indexes)| {
        let found = there.get(topic);
        let rest =
            indexes.iter().copied().filter(|it| !found.is_some_and(|there| there.contains(it)));
        let rest: BTreeSet<i32> = rest.collect();
        (!rest.is_empty()).then(|| (topic.clone(), rest))
    });
    rest.collect()
}

#[cfg(test)]
mod tests;
