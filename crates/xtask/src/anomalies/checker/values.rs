//! K1 to K5: what was read and may not be, and what was not read and had to be. K13: what the clients say themselves.

use std::collections::{BTreeMap, BTreeSet};

use super::{Check, Ledger, Report, Sent, reads_of};
use crate::anomalies::history::{History, Level, Operation, Outcome, Partition, Poll};

/// Which value is where (K2, K3).
pub(super) fn places(
    history: &History,
    sent: &BTreeMap<u64, Sent>,
    report: &mut Report,
) -> BTreeMap<(Partition, i64), u64> {
    let (mut homes, mut places) = (BTreeMap::new(), BTreeMap::new());
    let told = sent.iter().filter_map(|(value, it)| Some((it.partition, it.offset?, *value)));
    let read = history.polls().flat_map(reads_of);
    let mut claims = BTreeSet::new();
    for (partition, offset, value) in told.chain(read) {
        let other = *places.entry((partition, offset)).or_insert(value);
        let home = *homes.entry(value).or_insert((partition, offset));
        let agrees = other == value && home == (partition, offset);
        // The same contradiction is told once, however often it is read.
        if agrees || !claims.insert((partition, offset, value)) {
            continue;
        }
        if other != value {
            report.add(Check::InconsistentOffset, || {
                format!("{other} and {value} at {partition}/{offset}")
            });
        }
        if home != (partition, offset) {
            report.add(Check::Duplicate, || {
                format!("{value} at {}/{} and {partition}/{offset}", home.0, home.1)
            });
        }
    }
    places
}

pub(super) fn check(ledger: &Ledger<'_>, report: &mut Report) {
    for operation in &ledger.history.operations {
        match operation {
            Operation::Broken { what } => report.add(Check::InconsistentOffset, || what.clone()),
            Operation::Stuck { what } => report.add(Check::Stuck, || what.clone()),
            _ => {}
        }
    }
    aborted(ledger, report);
    for whole in ledger.history.wholes() {
        missing(ledger, whole, report);
    }
}

fn aborted(ledger: &Ledger<'_>, report: &mut Report) {
    let mut told = BTreeSet::new();
    for (level, poll) in ledger.history.polls().map(|it| (it.level, it)) {
        for (partition, offset, value) in reads_of(poll) {
            let why = match ledger.sent.get(&value) {
                None => "nobody sent it",
                Some(sent) if sent.is_refused => "it was refused",
                Some(sent) if sent.partition != partition => "it was sent to another partition",
                Some(_) => match (level, ledger.transaction_of(value)) {
                    (Level::Committed, Some(it)) if it.outcome == Outcome::Aborted => {
                        "its transaction did not commit"
                    }
                    _ => continue,
                },
            };
            if told.insert(value) {
                report.add(Check::AbortedRead, || {
                    format!("{value} was read at {partition}/{offset}, but {why}")
                });
            }
        }
    }
}

fn missing(ledger: &Ledger<'_>, whole: &Poll, report: &mut Report) {
    let read: BTreeSet<u64> = reads_of(whole).map(|(_, _, value)| value).collect();
    let mut furthest: BTreeMap<Partition, i64> = BTreeMap::new();
    for (partition, offset, _) in ledger.history.polls().flat_map(reads_of) {
        let to = furthest.entry(partition).or_insert(-1);
        *to = offset.max(*to);
    }
    for (value, sent) in &ledger.sent {
        let Some(offset) = sent.offset else { continue };
        let is_due = match (whole.level, ledger.transaction_of(*value)) {
            (Level::Uncommitted, _) | (Level::Committed, None) => true,
            (Level::Committed, Some(it)) => it.outcome == Outcome::Committed,
        };
        if !is_due || read.contains(value) {
            continue;
        }
        let to = furthest.get(&sent.partition).copied().unwrap_or(-1);
        let check = if offset <= to { Check::Lost } else { Check::Unseen };
        report.add(check, || {
            let (partition, level) = (sent.partition, whole.level);
            format!("{value}, acknowledged at {partition}/{offset}, is not there ({level:?})")
        });
    }
}
