//! What a shard has decided but what is not durable yet, and the answers that wait for it.
//!
//! Owns: the order. Units of events are counted from 1 as they are decided; they are appended in
//! that order, become durable in that order, and an answer goes out when the unit it waits for is
//! durable (A1). Does not own: the log, the clock, what an answer says.
//!
//! Invariants: `durable <= appended <= decided`; waiting answers are sorted by their unit.

use std::collections::VecDeque;

use coordinator::Event;
use coordinator::format::{self, Record};
use protocol::records::{Batch, BatchBuilder, Compression};
use vocabulary::Timestamp;

/// A batch is closed at this size; one unit larger than that is a batch of its own.
const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// Decided records not yet handed to the log. Past it no request is taken and no timer is run until
/// the log has caught up.
const UNAPPENDED_BYTES_MAX: usize = 8 * 1024 * 1024;

/// `A` is an answer, ready to be sent.
#[derive(Debug)]
pub(super) struct Backlog<A> {
    unappended: VecDeque<Vec<Record>>,
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

    pub(super) fn decide(&mut self, unit: &[Event]) {
        let records: Vec<Record> = unit.iter().map(format::encode).collect();
        self.unappended_bytes += bytes(&records);
        self.unappended.push_back(records);
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

    /// The next batch to append, with the number of the last unit in it.
    pub(super) fn next_batch(&mut self, now: Timestamp) -> Option<(Batch, u64)> {
        let mut builder = BatchBuilder::new(Compression::None, None);
        while let Some(unit) = self.unappended.front() {
            let unit_bytes = bytes(unit);
            if !builder.is_empty() && BATCH_BYTES_MAX < builder.byte_length() + unit_bytes {
                break;
            }
            for Record { key, value } in unit {
                builder.push(now, Some(key), value.as_deref(), &[]);
            }
            self.unappended.pop_front();
            self.unappended_bytes -= unit_bytes;
            self.appended += 1;
        }
        if builder.is_empty() { None } else { Some((builder.build(), self.appended)) }
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

/// A record's size in a batch, rounded up.
fn bytes(unit: &[Record]) -> usize {
    const AROUND: usize = 32;
    let record = |it: &Record| AROUND + it.key.len() + it.value.as_ref().map_or(0, |it| it.len());
    unit.iter().map(record).sum()
}

#[cfg(test)]
mod tests {
    use coordinator::{CommittedOffset, OffsetKey};
    use protocol::records::records;
    use vocabulary::Offset;

    use super::*;

    fn unit(metadata_bytes: usize) -> Vec<Event> {
        let key = OffsetKey { group: "g".to_owned(), topic: "t".to_owned(), partition: 0 };
        let value = CommittedOffset {
            offset: Offset(1),
            leader_epoch: -1,
            metadata: "x".repeat(metadata_bytes),
            commit_timestamp: 0,
            expire_timestamp: None,
        };
        vec![Event::OffsetCommitted { key: key.clone(), value }, Event::OffsetForgotten { key }]
    }

    #[test]
    fn answers_go_out_when_their_unit_is_durable_and_not_before() {
        let mut backlog = Backlog::new();
        assert_eq!(backlog.hold("free"), Some("free"), "nothing to wait for");
        backlog.decide(&unit(1));
        assert_eq!(backlog.hold("first"), None);
        let (_, first) = backlog.next_batch(Timestamp(0)).unwrap();
        backlog.decide(&unit(1));
        backlog.decide(&unit(1));
        assert_eq!(backlog.hold("second"), None);
        assert_eq!(backlog.hold("reads along"), None);
        let (_, second) = backlog.next_batch(Timestamp(0)).unwrap();
        assert_eq!((first, second), (1, 3));
        assert!(backlog.next_batch(Timestamp(0)).is_none());
        assert_eq!(backlog.durable(first).collect::<Vec<_>>(), ["first"]);
        assert!(!backlog.is_durable());
        assert_eq!(backlog.durable(second).collect::<Vec<_>>(), ["second", "reads along"]);
        assert!(backlog.is_durable());
        backlog.decide(&unit(1));
        backlog.hold("lost");
        assert_eq!(backlog.abandon().collect::<Vec<_>>(), ["lost"]);
    }

    #[test]
    fn a_batch_holds_whole_units_up_to_its_size() {
        let mut backlog = Backlog::<()>::new();
        for _ in 0..900 {
            backlog.decide(&unit(30_000));
        }
        assert!(backlog.is_full());
        let mut found = 0;
        while let Some((batch, last)) = backlog.next_batch(Timestamp(5)) {
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
}
