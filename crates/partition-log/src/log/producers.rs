//! What a partition knows of its idempotent producers (KIP-98, KIP-360).
//!
//! Owns: the last batches of each producer, telling duplicates from gaps, expiry.
//! Does not own: when it is loaded and saved (`log`, `flush`), the snapshot's bytes (`format`).
//! Pure: no clock, no IO; `now` is an argument.
//!
//! Invariants:
//! - P1 a batch among a producer's last [`BATCHES_MAX`] is recognised, however it is repeated (A5);
//! - P2 replaying the batches of a log in order gives the table that appending them gave, so a
//!   snapshot as of an offset plus the batches behind it is the table as of the end;
//! - P3 forgetting a producer early reads as "no state", never as a gap.

use crate::segment::BatchEntry;
use protocol::records::{BatchHeader, sequence_after};
use std::collections::HashMap;
use std::collections::VecDeque;
use vocabulary::{Offset, ProducerId, Timestamp};

mod format;

pub use format::ProducerSnapshot;

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
    pub(crate) is_control: bool,
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

/// What to do with a produced batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Append,
    Duplicate(SeenBatch),
    /// INVALID_PRODUCER_EPOCH: a newer incarnation of the producer has written.
    StaleEpoch {
        current: i16,
    },
    /// OUT_OF_ORDER_SEQUENCE_NUMBER.
    OutOfOrder {
        expected: i32,
    },
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
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Producer {
    epoch: i16,
    last_active: Timestamp,
    /// Oldest first, at most [`BATCHES_MAX`], all of `epoch`.
    batches: VecDeque<SeenBatch>,
}

/// The producers of one partition as of one offset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ProducerTable {
    producers: HashMap<ProducerId, Producer>,
}

impl ProducedBatch {
    /// `None` for a batch without a producer id.
    pub(crate) fn of(entry: &BatchEntry) -> Option<ProducedBatch> {
        (0 <= entry.producer_id).then_some(ProducedBatch {
            producer: ProducerId(entry.producer_id),
            epoch: entry.producer_epoch,
            base_sequence: entry.base_sequence,
            base_offset: entry.base_offset,
            last_offset_delta: entry.last_offset_delta,
            timestamp: entry.max_timestamp,
            is_control: entry.attributes.is_control(),
        })
    }
}

impl From<&BatchHeader> for ProducedBatch {
    /// Of a batch with a producer id.
    fn from(header: &BatchHeader) -> ProducedBatch {
        ProducedBatch {
            producer: ProducerId(header.producer_id),
            epoch: header.producer_epoch,
            base_sequence: header.base_sequence,
            base_offset: header.base_offset,
            last_offset_delta: header.last_offset_delta,
            timestamp: header.max_timestamp,
            is_control: header.attributes.is_control(),
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

impl ProducerTable {
    /// Judges a batch that is not yet in the log; its base offset is ignored.
    pub(crate) fn judge(&self, batch: &ProducedBatch) -> Verdict {
        let Some(known) = self.producers.get(&batch.producer) else { return Verdict::Append };
        if batch.epoch < known.epoch {
            return Verdict::StaleEpoch { current: known.epoch };
        }
        if batch.is_control {
            return Verdict::Append; // Markers carry no sequence.
        }
        if known.epoch < batch.epoch {
            return match batch.base_sequence {
                0 => Verdict::Append,
                _ => Verdict::OutOfOrder { expected: 0 },
            };
        }
        let repeats = |seen: &&SeenBatch| {
            seen.base_sequence == batch.base_sequence
                && seen.last_offset_delta == batch.last_offset_delta
        };
        if let Some(seen) = known.batches.iter().find(repeats) {
            return Verdict::Duplicate(*seen);
        }
        let expected = match known.batches.back() {
            Some(last) => sequence_after(last.last_sequence(), 1),
            None => 0,
        };
        match batch.base_sequence == expected {
            true => Verdict::Append,
            false => Verdict::OutOfOrder { expected },
        }
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
        });
        if known.epoch != batch.epoch {
            known.epoch = batch.epoch;
            known.batches.clear();
        }
        known.last_active = now;
        if batch.is_control {
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

    /// Forgets producers that were last active `expiration_ms` or more ago
    /// (producer.id.expiration.ms).
    pub(crate) fn expire(&mut self, now: Timestamp, expiration_ms: i64) {
        self.producers.retain(|_, it| now.0.saturating_sub(it.last_active.0) < expiration_ms);
        self.producers.shrink_to(self.producers.len() * 2);
    }

    /// In order of their ids.
    pub(crate) fn states(&self) -> Vec<ProducerState> {
        let state = |(producer, it): (&ProducerId, &Producer)| ProducerState {
            producer: *producer,
            epoch: it.epoch,
            last_sequence: it.batches.back().map_or(-1, SeenBatch::last_sequence),
            last_active: it.last_active,
        };
        let mut states: Vec<_> = self.producers.iter().map(state).collect();
        states.sort_by_key(|it| it.producer);
        states
    }

    fn make_room(&mut self) {
        if self.producers.len() < PRODUCERS_MAX {
            return;
        }
        let mut by_age: Vec<_> =
            self.producers.iter().map(|(id, it)| (it.last_active, *id)).collect();
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
        let entries = self.producers.capacity() * 8 / 7 * (1 + size_of::<(ProducerId, Producer)>());
        batches * size_of::<SeenBatch>() + entries
    }
}

#[cfg(test)]
mod tests;
