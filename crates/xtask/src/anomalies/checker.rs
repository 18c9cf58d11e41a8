//! What of a history may not be; after the public Kafka workload of Jepsen, and what its reports found elsewhere.
//!
//! Owns: the checks, their ids, the order they run in. Does not own: how a history comes to be (`workload`).
//!
//! | id | what may not be | where |
//! | --- | --- | --- |
//! | K1 | aborted read: a value that was refused, that nobody sent, or whose transaction did not commit | `values` |
//! | K2 | inconsistent offsets: two values at one offset, or bytes no reader can go on with | `values` |
//! | K3 | duplicate: one value at two offsets | `values` |
//! | K4 | lost: acknowledged, not read, and something behind it was | `values` |
//! | K5 | unseen: acknowledged, and not read when at the end everything was | `values` |
//! | K6 | polls that skip or step back, within one answer or between two of a session | `polls` |
//! | K7 | sends out of order: answered before another was called, and yet behind it | `order` |
//! | K8 | precommitted read: a value was read as committed before its commit was asked for | `order` |
//! | K9 | cycles: transactions that each came before the other (G0, G1c) | `cycles` |
//! | K10 | torn: of a transaction's values some are there and some are not | `transactions` |
//! | K11 | offsets: groups whose transactions do not go on from each other | `transactions` |
//! | K12 | stale: a high watermark below what was acknowledged before it was asked for | `polls` |
//! | K13 | stuck: a client that comes to no end although nothing disturbs it | `values` |
//!
//! Every check is sound: what it finds no sequence of events of a correct broker explains, given that each operation
//! took effect between its call and its answer, or, without an answer, at any time after its call or never.
//! Transactions are not isolated from each other as they write: Kafka lets the writes of open ones interleave, so
//! that write cycles of transactions that overlap are counted ([`Report::entangled`]) and are no anomaly.

mod cycles;
mod order;
mod polls;
mod transactions;
mod values;

use std::collections::BTreeMap;

use crate::anomalies::history::{
    Fate, History, Level, Micros, Outcome, Partition, Poll, Transaction,
};

/// Of one check so many are told in full; beyond it they are only counted.
const TOLD_PER_CHECK_MAX: usize = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Check {
    AbortedRead = 1,
    InconsistentOffset,
    Duplicate,
    Lost,
    Unseen,
    Poll,
    Order,
    PrecommittedRead,
    Cycle,
    Torn,
    Offsets,
    Stale,
    Stuck,
}

impl std::fmt::Display for Check {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "K{}", *self as u8)
    }
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Report {
    found: BTreeMap<Check, (usize, Vec<String>)>,
    /// Transactions in write cycles that Kafka allows.
    pub(crate) entangled: usize,
}

impl Report {
    fn add(&mut self, check: Check, what: impl FnOnce() -> String) {
        let (count, told) = self.found.entry(check).or_default();
        *count += 1;
        if told.len() < TOLD_PER_CHECK_MAX {
            told.push(what());
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    pub(crate) fn counts(&self) -> impl Iterator<Item = (Check, usize)> {
        self.found.iter().map(|(check, (count, _))| (*check, *count))
    }

    /// One line a check with its count, then what is told of it.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (check, (count, told)) in &self.found {
            lines.push(format!("{check}: {count}"));
            lines.extend(told.iter().map(|it| format!("  {check} {it}")));
        }
        lines
    }
}

/// What is known of one value.
#[derive(Debug, Clone, Copy)]
struct Sent {
    partition: Partition,
    /// The batch's.
    called: Micros,
    /// Of the batch, if it was acknowledged.
    answered: Option<Micros>,
    offset: Option<i64>,
    is_refused: bool,
    transaction: Option<usize>,
}

/// The history by value and by offset.
struct Ledger<'a> {
    history: &'a History,
    transactions: Vec<&'a Transaction>,
    sent: BTreeMap<u64, Sent>,
    /// What is where, as acknowledgements and reads say; of two claims the first.
    places: BTreeMap<(Partition, i64), u64>,
    /// Those of `places` that a reader of committed records must not pass over.
    committed: BTreeMap<(Partition, i64), u64>,
}

/// Looks for everything.
pub(crate) fn check(history: &History) -> Report {
    let mut report = Report::default();
    let ledger = Ledger::new(history, &mut report);
    values::check(&ledger, &mut report);
    polls::check(&ledger, &mut report);
    order::check(&ledger, &mut report);
    cycles::check(&ledger, &mut report);
    transactions::check(&ledger, &mut report);
    report
}

impl<'a> Ledger<'a> {
    fn new(history: &'a History, report: &mut Report) -> Ledger<'a> {
        let mut sent = BTreeMap::new();
        for (batch, transaction) in history.batches() {
            for (value, offset) in batch.values() {
                let one = Sent {
                    partition: batch.partition,
                    called: batch.called,
                    answered: offset.map(|_| batch.answered),
                    offset,
                    is_refused: batch.fate == Fate::Refused,
                    transaction,
                };
                sent.insert(value, one);
            }
        }
        let places = values::places(history, &sent, report);
        let transactions = history.transactions().collect();
        let mut ledger = Ledger { history, transactions, sent, places, committed: BTreeMap::new() };
        ledger.committed = ledger.committed_places();
        ledger
    }

    fn committed_places(&self) -> BTreeMap<(Partition, i64), u64> {
        let is_decided = |value: &u64| match self.transaction_of(*value) {
            None => self.sent.contains_key(value),
            Some(transaction) => transaction.outcome == Outcome::Committed,
        };
        let decided = self.places.iter().filter(|(_, value)| is_decided(value));
        let mut committed: BTreeMap<_, _> =
            decided.map(|(place, value)| (*place, *value)).collect();
        // Whose commit nobody knows of has committed if it was read as such.
        for (partition, offset, value) in self.reads(Level::Committed) {
            committed.entry((partition, offset)).or_insert(value);
        }
        committed
    }

    fn transaction_of(&self, value: u64) -> Option<&'a Transaction> {
        let nth = self.sent.get(&value)?.transaction?;
        self.transactions.get(nth).copied()
    }

    fn reads(&self, level: Level) -> impl Iterator<Item = (Partition, i64, u64)> {
        let polls = self.history.polls().filter(move |it| it.level == level);
        polls.flat_map(reads_of)
    }
}

fn reads_of(poll: &Poll) -> impl Iterator<Item = (Partition, i64, u64)> {
    poll.parts
        .iter()
        .flat_map(|part| part.reads.iter().map(|(offset, value)| (part.partition, *offset, *value)))
}

#[cfg(test)]
mod tests;
