//! What a coordinator has decided but what is not durable yet, and the answers that wait for it.
//!
//! Owns: the order. Units of events are counted from 1 as they are decided; they are appended in
//! that order, become durable in that order, and an answer goes out when the unit it waits for is
//! durable (A1). Does not own: the log, the clock, what an answer says.
//!
//! Invariants: `durable <= appended <= decided`; waiting answers are sorted by their unit.

use std::collections::VecDeque;

use coordinator::TransactionEnd;
use coordinator::format::{Record, Stored};
use protocol::records::{Batch, BatchBuilder, Compression};
use vocabulary::Timestamp;

/// A batch is closed at this size; one unit larger than that is a batch of its own.
const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// Decided records not yet handed to the log. Past it no request is taken and no timer is run until
/// the log has caught up.
const UNAPPENDED_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A control batch's size, rounded up.
const MARKER_BYTES: usize = 96;

/// What a coordinator writes in a transaction has no sequence: it repeats nothing.
const NO_SEQUENCE: i32 = -1;

/// What is to be appended next.
#[derive(Debug)]
pub(super) enum Write {
    Batch(Batch),
    Marker(TransactionEnd),
}

/// `A` is an answer, ready to be sent.
#[derive(Debug)]
pub(super) struct Backlog<A> {
    unappended: VecDeque<Stored>,
    unappended_bytes: usize,
    decided: u64,
    appended: u64,
    durable: u64,
    waiting: VecDeque<(u64, A)>,
}

impl<A> Backlog<A> {
    pub(super) fn new() -> Backlog<A> {
        Backlog {
            unappended: VecDeque::new(),
            unappended_bytes: 0,
            decided: 0,
            appended: 0,
            durable: 0,
            waiting: VecDeque::new(),
        }
    }

    pub(super) fn decide(&mut self, unit: Stored) {
        self.unappended_bytes += bytes(&unit);
        self.unappended.push_back(unit);
        self.decided += 1;
    }

    /// Keeps the answer until everything decided so far is durable; gives it back if it already is.
    pub(super) fn hold(&mut self, answer: A) -> Option<A> {
        if self.durable == self.decided {
            return Some(answer);
        }
        self.waiting.push_back((self.decided, answer));
        None
    }

    /// What to append next, with the number of the last unit in it. Units without a transaction share batches; every
    /// other is an append of its own.
    pub(super) fn next_write(&mut self, now: Timestamp) -> Option<(Write, u64)> {
        let mut builder = BatchBuilder::new(Compression::None, None);
        while let Some(Stored::Records(unit)) = self.unappended.front() {
            let unit_bytes: usize = unit.iter().map(record_bytes).sum();
            if !builder.is_empty() && BATCH_BYTES_MAX < builder.byte_length() + unit_bytes {
                break;
            }
            fill(&mut builder, unit, now);
            self.take();
        }
        if !builder.is_empty() {
            return Some((Write::Batch(builder.build()), self.appended));
        }
        let write = match self.take()? {
            Stored::InTransaction { producer, epoch, records } => {
                let producer = Some((producer, epoch, NO_SEQUENCE));
                let mut builder = BatchBuilder::new(Compression::None, producer).transactional();
                fill(&mut builder, &records, now);
                Write::Batch(builder.build())
            }
            Stored::End(end) => Write::Marker(end),
            Stored::Records(_) => unreachable!("they have been taken above"),
        };
        Some((write, self.appended))
    }

    fn take(&mut self) -> Option<Stored> {
        let unit = self.unappended.pop_front()?;
        self.unappended_bytes -= bytes(&unit);
        self.appended += 1;
        Some(unit)
    }

    /// Everything up to this unit is durable: the answers that may go out now, in order.
    pub(super) fn durable(&mut self, unit: u64) -> impl Iterator<Item = A> + '_ {
        assert!(self.durable <= unit && unit <= self.appended, "A1: durable in order");
        self.durable = unit;
        let ready = self.waiting.iter().take_while(|(until, _)| *until <= unit).count();
        self.waiting.drain(..ready).map(|(_, answer)| answer)
    }

    pub(super) fn is_full(&self) -> bool {
        UNAPPENDED_BYTES_MAX <= self.unappended_bytes
    }

    pub(super) fn is_durable(&self) -> bool {
        self.durable == self.decided
    }

    /// The answers that will never be backed by the log.
    pub(super) fn abandon(self) -> impl Iterator<Item = A> {
        self.waiting.into_iter().map(|(_, answer)| answer)
    }
}

/// A unit's size in the log, rounded up.
fn bytes(unit: &Stored) -> usize {
    match unit {
        Stored::Records(records) | Stored::InTransaction { records, .. } => {
            records.iter().map(record_bytes).sum()
        }
        Stored::End(_) => MARKER_BYTES,
    }
}

/// A record's size in a batch, rounded up.
fn record_bytes(record: &Record) -> usize {
    const AROUND: usize = 32;
    AROUND + record.key.len() + record.value.as_ref().map_or(0, |it| it.len())
}

fn fill(builder: &mut BatchBuilder, records: &[Record], now: Timestamp) {
    for Record { key, value } in records {
        builder.push(now, Some(key), value.as_deref(), &[]);
    }
}

#[cfg(test)]
mod tests {
    use coordinator::transactions::TransactionVersion;
    use coordinator::{CommittedOffset, Event, OffsetKey, format};
    use protocol::records::{EndTxnMarker, TransactionResult, records};
    use vocabulary::{Offset, ProducerId};

    use super::*;

    fn unit(metadata_bytes: usize) -> Stored {
        let key = OffsetKey { group: "g".to_owned(), topic: "t".to_owned(), partition: 0 };
        let value = CommittedOffset {
            offset: Offset(1),
            leader_epoch: -1,
            metadata: "x".repeat(metadata_bytes),
            commit_timestamp: 0,
            expire_timestamp: None,
            topic_id: vocabulary::TopicId::ZERO,
        };
        format::store(&[
            Event::OffsetCommitted { key: key.clone(), value },
            Event::OffsetForgotten { key },
        ])
    }

    #[test]
    fn answers_go_out_when_their_unit_is_durable_and_not_before() {
        let mut backlog = Backlog::new();
        assert_eq!(backlog.hold("free"), Some("free"), "nothing to wait for");
        backlog.decide(unit(1));
        assert_eq!(backlog.hold("first"), None);
        let (_, first) = backlog.next_write(Timestamp(0)).unwrap();
        backlog.decide(unit(1));
        backlog.decide(unit(1));
        assert_eq!(backlog.hold("second"), None);
        assert_eq!(backlog.hold("reads along"), None);
        let (_, second) = backlog.next_write(Timestamp(0)).unwrap();
        assert_eq!((first, second), (1, 3));
        assert!(backlog.next_write(Timestamp(0)).is_none());
        assert_eq!(backlog.durable(first).collect::<Vec<_>>(), ["first"]);
        assert!(!backlog.is_durable());
        assert_eq!(backlog.durable(second).collect::<Vec<_>>(), ["second", "reads along"]);
        assert!(backlog.is_durable());
        backlog.decide(unit(1));
        backlog.hold("lost");
        assert_eq!(backlog.abandon().collect::<Vec<_>>(), ["lost"]);
    }

    #[test]
    fn a_batch_holds_whole_units_up_to_its_size() {
        let mut backlog = Backlog::<()>::new();
        for _ in 0..900 {
            backlog.decide(unit(30_000));
        }
        assert!(backlog.is_full());
        let mut found = 0;
        while let Some((Write::Batch(batch), last)) = backlog.next_write(Timestamp(5)) {
            assert!(batch.bytes().len() <= BATCH_BYTES_MAX);
            let (header, bytes) = batch.freeze();
            let records: Vec<_> = records(&bytes, usize::MAX).unwrap().collect();
            assert_eq!(records.len() % 2, 0, "no unit is split");
            assert_eq!(header.max_timestamp, Timestamp(5));
            found += records.len() / 2;
            assert_eq!(found as u64, last);
        }
        assert_eq!(found, 900);
        assert!(!backlog.is_full());
    }

    #[test]
    fn what_belongs_to_a_transaction_is_appended_alone() {
        let mut backlog = Backlog::<()>::new();
        let (producer, epoch) = (ProducerId(7), 2);
        let Stored::Records(records) = unit(1) else { panic!("plain records") };
        let marker = EndTxnMarker { result: TransactionResult::Commit, coordinator_epoch: 1 };
        let end = TransactionEnd { producer, epoch, marker, version: TransactionVersion::V1 };
        backlog.decide(unit(1));
        backlog.decide(Stored::InTransaction { producer, epoch, records });
        backlog.decide(Stored::End(end));
        backlog.decide(unit(1));
        let mut written = Vec::new();
        while let Some((write, last)) = backlog.next_write(Timestamp(0)) {
            let producer = match write {
                Write::Batch(batch) => {
                    let header = batch.freeze().0;
                    let is_transactional = header.attributes.is_transactional();
                    (header.producer_id, is_transactional, header.base_sequence)
                }
                Write::Marker(written) => {
                    assert_eq!(written, end);
                    (written.producer.0, true, 0)
                }
            };
            written.push((last, producer));
        }
        let plain = (-1, false, -1);
        assert_eq!(written, [(1, plain), (2, (7, true, -1)), (3, (7, true, 0)), (4, plain)]);
        assert!(!backlog.is_full() && backlog.unappended_bytes == 0);
    }
}
