//! What a partition knows of its producers: their batches and their transactions (KIP-98, KIP-360,
//! KIP-890).
//!
//! Owns: the last batches of each producer, telling duplicates from gaps, which transactions are open
//! and where they started, expiry.
//! Does not own: when it is loaded and saved (`log`, `flush`), the snapshot's bytes (`format`), what
//! may be appended (`judging`), which of it is durable (`stable`).
//! Pure: no clock, no IO; `now` is an argument.
//!
//! Invariants:
//! - P1 a batch among a producer's last [`BATCHES_MAX`] is recognised, however it is repeated (A5);
//! - P2 replaying the batches of a log in order gives the table that appending them gave, so a
//!   snapshot as of an offset plus the batches behind it is the table as of the end;
//! - P3 forgetting a producer early reads as "no state", never as a gap;
//! - P4 a producer with an open transaction is never forgotten, so that the transactions of the table
//!   are those that no marker has ended (A8). There are at most [`PRODUCERS_MAX`].

use crate::segment::{BatchEntry, MarkerEntry};
use protocol::records::{BatchHeader, sequence_after};
use std::collections::{BTreeMap, HashMap, VecDeque};
use vocabulary::{Offset, ProducerId, Timestamp};

mod format;
mod judging;

pub use format::ProducerSnapshot;
pub use judging::{MarkerRule, SequenceRule};
pub(crate) use judging::{MarkerVerdict, Verdict};

/// Kafka's number, on which clients with five requests in flight rely.
pub(crate) const BATCHES_MAX: usize = 5;

/// Producers one partition remembers; about 5 MiB of memory and 2 MiB of snapshot. Beyond it the
/// longest idle are forgotten, a sixteenth at a time so that the search is amortised.
pub(crate) const PRODUCERS_MAX: usize = 16_384;

/// Whatever the table needs of a batch's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProducedBatch {
    pub(crate) producer: ProducerId,
    pub(crate) epoch: i16,
    pub(crate) base_sequence: i32,
    pub(crate) base_offset: Offset,
    pub(crate) last_offset_delta: i32,
    pub(crate) timestamp: Timestamp,
    pub(crate) is_transactional: bool,
    pub(crate) is_control: bool,
    pub(crate) marker: Option<MarkerEntry>,
}

/// One batch as it was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SeenBatch {
    pub(crate) base_sequence: i32,
    pub(crate) last_offset_delta: i32,
    pub(crate) base_offset: Offset,
    /// Its max timestamp.
    pub(crate) timestamp: Timestamp,
}

/// One producer, for DescribeProducers and for tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerState {
    pub producer: ProducerId,
    pub epoch: i16,
    /// -1 if it has no batch.
    pub last_sequence: i32,
    /// Wall time of its last append.
    pub last_active: Timestamp,
    /// Of its last batch or marker; [`Timestamp::NONE`] if it has none.
    pub last_timestamp: Timestamp,
    /// Of the coordinator that ended its last transaction here; -1 if none did.
    pub coordinator_epoch: i32,
    /// Of the transaction that is open here.
    pub transaction_start: Option<Offset>,
}

/// A transaction that no marker has ended yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenTransaction {
    /// The producer's current one.
    pub epoch: i16,
    /// Of the transaction's first record in this partition.
    pub first_offset: Offset,
    /// The greatest timestamp of the transaction's first batch.
    pub since: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Producer {
    epoch: i16,
    last_active: Timestamp,
    /// Oldest first, at most [`BATCHES_MAX`], all of `epoch`.
    batches: VecDeque<SeenBatch>,
    /// Absent until its first transaction, so that producers without any cost little.
    transactional: Option<Box<Transactional>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Transactional {
    /// -1 before the first marker.
    coordinator_epoch: i32,
    last_timestamp: Timestamp,
    last_marker: Option<Offset>,
    open: Option<Open>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Open {
    first: Offset,
    since: Timestamp,
}

/// The producers of one partition as of one offset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ProducerTable {
    producers: HashMap<ProducerId, Producer>,
    /// Whose transactions are open, by their first offsets.
    open: BTreeMap<Offset, ProducerId>,
}

impl ProducedBatch {
    /// Group coordinators write the offsets of a transaction in its producer's name, and without sequences: nothing
    /// of theirs is repeated.
    fn is_sequenced(&self) -> bool {
        0 <= self.base_sequence
    }

    /// `None` for a batch without a producer id.
    pub(crate) fn of(entry: &BatchEntry) -> Option<ProducedBatch> {
        (0 <= entry.producer_id).then_some(ProducedBatch {
            producer: ProducerId(entry.producer_id),
            epoch: entry.producer_epoch,
            base_sequence: entry.base_sequence,
            base_offset: entry.base_offset,
            last_offset_delta: entry.last_offset_delta,
            timestamp: entry.max_timestamp,
            is_transactional: entry.attributes.is_transactional(),
            is_control: entry.attributes.is_control(),
            marker: entry.marker,
        })
    }
}

impl From<&BatchHeader> for ProducedBatch {
    /// Of a batch with a producer id that is no marker.
    fn from(header: &BatchHeader) -> ProducedBatch {
        ProducedBatch {
            producer: ProducerId(header.producer_id),
            epoch: header.producer_epoch,
            base_sequence: header.base_sequence,
            base_offset: header.base_offset,
            last_offset_delta: header.last_offset_delta,
            timestamp: header.max_timestamp,
            is_transactional: header.attributes.is_transactional(),
            is_control: header.attributes.is_control(),
            marker: None,
        }
    }
}

impl SeenBatch {
    fn last_sequence(&self) -> i32 {
        sequence_after(self.base_sequence, self.last_offset_delta)
    }

    /// Exclusive.
    pub(crate) fn end_offset(&self) -> Offset {
        self.base_offset.plus(i64::from(self.last_offset_delta) + 1)
    }
}

impl Producer {
    fn open(&self) -> Option<Open> {
        self.transactional.as_ref().and_then(|it| it.open)
    }

    fn transactional(&mut self) -> &mut Transactional {
        self.transactional.get_or_insert_with(|| {
            Box::new(Transactional {
                coordinator_epoch: -1,
                last_timestamp: Timestamp::NONE,
                last_marker: None,
                open: None,
            })
        })
    }

    fn last_timestamp(&self) -> Timestamp {
        let last = self.batches.back().map_or(Timestamp::NONE, |it| it.timestamp);
        self.transactional.as_ref().map_or(last, |it| it.last_timestamp)
    }
}

impl ProducerTable {
    fn new(producers: HashMap<ProducerId, Producer>) -> ProducerTable {
        let first = |(id, it): (&ProducerId, &Producer)| it.open().map(|open| (open.first, *id));
        let open = producers.iter().filter_map(first).collect();
        ProducerTable { producers, open }
    }

    /// Takes in a batch of the log, judged before or read back from it.
    pub(crate) fn replay(&mut self, batch: &ProducedBatch, now: Timestamp) {
        if !self.producers.contains_key(&batch.producer) {
            self.make_room();
        }
        let known = self.producers.entry(batch.producer).or_insert_with(|| Producer {
            epoch: batch.epoch,
            last_active: now,
            batches: VecDeque::with_capacity(1),
            transactional: None,
        });
        if known.epoch != batch.epoch {
            known.epoch = batch.epoch;
            known.batches.clear();
        }
        known.last_active = now;
        if let Some(MarkerEntry { marker, .. }) = batch.marker {
            let transactional = known.transactional();
            transactional.coordinator_epoch = marker.coordinator_epoch;
            transactional.last_timestamp = batch.timestamp;
            transactional.last_marker = Some(batch.base_offset);
            if let Some(open) = transactional.open.take() {
                self.open.remove(&open.first);
            }
        }
        if batch.is_control {
            return;
        }
        if batch.is_transactional {
            let transactional = known.transactional();
            if transactional.open.is_none() {
                let open = Open { first: batch.base_offset, since: batch.timestamp };
                transactional.open = Some(open);
                self.open.insert(open.first, batch.producer);
            }
        }
        if let Some(transactional) = &mut known.transactional {
            transactional.last_timestamp = batch.timestamp;
        }
        if !batch.is_sequenced() {
            return;
        }
        if known.batches.len() == BATCHES_MAX {
            known.batches.pop_front();
        }
        known.batches.push_back(SeenBatch {
            base_sequence: batch.base_sequence,
            last_offset_delta: batch.last_offset_delta,
            base_offset: batch.base_offset,
            timestamp: batch.timestamp,
        });
    }

    /// Where the earliest open transaction starts.
    pub(crate) fn first_open(&self) -> Option<Offset> {
        self.open.first_key_value().map(|(first, _)| *first)
    }

    /// The open transaction of one producer.
    pub(crate) fn open_of(&self, producer: ProducerId) -> Option<OpenTransaction> {
        let known = self.producers.get(&producer)?;
        let Open { first, since } = known.open()?;
        Some(OpenTransaction { epoch: known.epoch, first_offset: first, since })
    }

    /// Forgets producers that were last active `expiration_ms` or more ago
    /// (producer.id.expiration.ms), but none with an open transaction (P4).
    pub(crate) fn expire(&mut self, now: Timestamp, expiration_ms: i64) {
        let is_idle = |it: &Producer| expiration_ms <= now.0.saturating_sub(it.last_active.0);
        self.producers.retain(|_, it| it.open().is_some() || !is_idle(it));
        self.producers.shrink_to(self.producers.len() * 2);
    }

    /// In order of their ids.
    pub(crate) fn states(&self) -> Vec<ProducerState> {
        let state = |(producer, it): (&ProducerId, &Producer)| ProducerState {
            producer: *producer,
            epoch: it.epoch,
            last_sequence: it.batches.back().map_or(-1, SeenBatch::last_sequence),
            last_active: it.last_active,
            last_timestamp: it.last_timestamp(),
            coordinator_epoch: it.transactional.as_ref().map_or(-1, |it| it.coordinator_epoch),
            transaction_start: it.open().map(|it| it.first),
        };
        let mut states: Vec<_> = self.producers.iter().map(state).collect();
        states.sort_by_key(|it| it.producer);
        states
    }

    /// Forgets some of those without an open transaction (P4).
    fn make_room(&mut self) {
        if self.producers.len() < PRODUCERS_MAX {
            return;
        }
        let idle = self.producers.iter().filter(|(_, it)| it.open().is_none());
        let mut by_age: Vec<_> = idle.map(|(id, it)| (it.last_active, *id)).collect();
        by_age.sort_unstable();
        for (_, id) in by_age.into_iter().take(PRODUCERS_MAX / 16) {
            self.producers.remove(&id);
        }
    }
}

#[cfg(test)]
impl ProducerTable {
    pub(crate) fn heap_bytes(&self) -> usize {
        let batches: usize = self.producers.values().map(|it| it.batches.capacity()).sum();
        let transactional = self.producers.values().filter(|it| it.transactional.is_some()).count();
        let entries = self.producers.capacity() * 8 / 7 * (1 + size_of::<(ProducerId, Producer)>());
        let open = self.open.len() * 2 * size_of::<(Offset, ProducerId)>();
        batches * size_of::<SeenBatch>()
            + transactional * size_of::<Transactional>()
            + entries
            + open
    }
}

#[cfg(test)]
mod tests;
