//! What the server did, per operation: enough to write the bill, and to know what clients suffered.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::operation::Operation;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    Request,
    Refused,
    SlowDown,
    InternalError,
    Conflict,
    ResetBeforeBody,
    ResetAfterBody,
    LostAnswer,
    HalfAnswer,
    Stall,
}

const EVENTS: usize = 10;

/// The counts of one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OperationCounts {
    /// Requests whose head was read, whatever became of them.
    pub requests: u64,
    /// Bytes of bodies received, refused ones too.
    pub bytes_in: u64,
    /// Bytes of object data sent or about to be sent; lists and errors are not counted.
    pub bytes_out: u64,
    /// Answered 4xx by S3's own rules: absent keys, preconditions, wrong ranges; and 507 when full.
    pub refused: u64,
    /// Answered 503 SlowDown.
    pub slow_downs: u64,
    /// Answered 500, done or not.
    pub internal_errors: u64,
    /// Answered 409 ConditionalRequestConflict.
    pub conflicts: u64,
    /// Reset before the body was read. Not done.
    pub resets_before_body: u64,
    /// Reset once the body was read: the answer is lost and nothing was done.
    pub resets_after_body: u64,
    /// Reset once the request was done: the answer is lost.
    pub lost_answers: u64,
    /// Cut in the middle of the answer's body.
    pub half_answers: u64,
    /// Held and done later.
    pub stalls: u64,
}

impl OperationCounts {
    fn add(&mut self, other: &OperationCounts) {
        self.requests += other.requests;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.refused += other.refused;
        self.slow_downs += other.slow_downs;
        self.internal_errors += other.internal_errors;
        self.conflicts += other.conflicts;
        self.resets_before_body += other.resets_before_body;
        self.resets_after_body += other.resets_after_body;
        self.lost_answers += other.lost_answers;
        self.half_answers += other.half_answers;
        self.stalls += other.stalls;
    }
}

/// The counts of every operation at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counts {
    by_operation: BTreeMap<Operation, OperationCounts>,
}

impl Counts {
    pub fn of(&self, operation: Operation) -> OperationCounts {
        self.by_operation.get(&operation).copied().unwrap_or_default()
    }

    pub fn total(&self) -> OperationCounts {
        let mut total = OperationCounts::default();
        self.by_operation.values().for_each(|it| total.add(it));
        total
    }
}

/// One line per operation that was asked for: its name and `name=value` pairs.
impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.total();
        let lines = self.by_operation.iter().map(|(operation, it)| (operation.name(), it));
        for (name, it) in lines.chain([("total", &total)]).filter(|(_, it)| 0 < it.requests) {
            write!(f, "{name} requests={} bytes_in={}", it.requests, it.bytes_in)?;
            write!(f, " bytes_out={} refused={}", it.bytes_out, it.refused)?;
            write!(f, " slow_downs={} internal_errors={}", it.slow_downs, it.internal_errors)?;
            write!(f, " conflicts={}", it.conflicts)?;
            write!(f, " resets_before_body={}", it.resets_before_body)?;
            write!(f, " resets_after_body={}", it.resets_after_body)?;
            write!(f, " lost_answers={} half_answers={}", it.lost_answers, it.half_answers)?;
            writeln!(f, " stalls={}", it.stalls)?;
        }
        Ok(())
    }
}

/// The running counters.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    operations: [Cell; Operation::ALL.len()],
}

#[derive(Debug, Default)]
struct Cell {
    events: [AtomicU64; EVENTS],
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

impl Counters {
    pub(crate) fn count(&self, operation: Operation, event: Event) {
        self.operations[operation as usize].events[event as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn received(&self, operation: Operation, bytes: u64) {
        self.operations[operation as usize].bytes_in.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn sent(&self, operation: Operation, bytes: u64) {
        self.operations[operation as usize].bytes_out.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn snapshot(&self) -> Counts {
        let by_operation = Operation::ALL.into_iter().map(|operation| {
            let cell = &self.operations[operation as usize];
            let event = |event: Event| cell.events[event as usize].load(Ordering::Relaxed);
            let counts = OperationCounts {
                requests: event(Event::Request),
                bytes_in: cell.bytes_in.load(Ordering::Relaxed),
                bytes_out: cell.bytes_out.load(Ordering::Relaxed),
                refused: event(Event::Refused),
                slow_downs: event(Event::SlowDown),
                internal_errors: event(Event::InternalError),
                conflicts: event(Event::Conflict),
                resets_before_body: event(Event::ResetBeforeBody),
                resets_after_body: event(Event::ResetAfterBody),
                lost_answers: event(Event::LostAnswer),
                half_answers: event(Event::HalfAnswer),
                stalls: event(Event::Stall),
            };
            (operation, counts)
        });
        Counts { by_operation: by_operation.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_has_its_field() {
        let counters = Counters::default();
        counters.count(Operation::Put, Event::Request);
        counters.count(Operation::Put, Event::Stall);
        counters.count(Operation::Unknown, Event::Request);
        counters.received(Operation::Put, 10);
        counters.sent(Operation::Get, 7);
        let counts = counters.snapshot();
        let expected =
            OperationCounts { requests: 1, bytes_in: 10, stalls: 1, ..OperationCounts::default() };
        assert_eq!(counts.of(Operation::Put), expected);
        assert_eq!((counts.total().requests, counts.total().bytes_out), (2, 7));
        let text = counts.to_string();
        assert!(text.starts_with("put requests=1 bytes_in=10 "), "{text}");
        assert_eq!(text.lines().count(), 3, "two operations and the total: {text}");
    }
}
