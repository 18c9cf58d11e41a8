//! K10 and K11: transactions that are there in part, and groups whose transactions do not go on from each other.
//!
//! A group has one transactional id, and who takes it over fences who had it. So its committed transactions follow one
//! another, and each begins at the offset where the one before ended: exactly once. An offset that was lost, that came
//! from a transaction that did not commit, or that went back, breaks this chain. Whether a transaction whose commit was
//! never answered belongs to it is told by its values.

use std::collections::{BTreeMap, BTreeSet};

use super::{Check, Ledger, Report, reads_of};
use crate::anomalies::history::{Fate, Level, Operation, Outcome, Partition, Transaction};

pub(super) fn check(ledger: &Ledger<'_>, report: &mut Report) {
    let mut seen = BTreeSet::new();
    for whole in ledger.history.wholes().filter(|it| it.level == Level::Committed) {
        let read: BTreeSet<u64> = reads_of(whole).map(|(_, _, value)| value).collect();
        torn(ledger, &read, report);
        seen.extend(read);
    }
    chains(ledger, &seen, report);
}

/// What was acknowledged of it.
fn values(transaction: &Transaction) -> impl Iterator<Item = u64> {
    let there = transaction.sends.iter().filter(|it| matches!(it.fate, Fate::Acknowledged(_)));
    there.flat_map(|it| it.values().map(|(value, _)| value))
}

fn torn(ledger: &Ledger<'_>, read: &BTreeSet<u64>, report: &mut Report) {
    for transaction in &ledger.transactions {
        let (there, gone): (Vec<u64>, Vec<u64>) =
            values(transaction).partition(|value| read.contains(value));
        if let (Some(there), Some(gone)) = (there.first(), gone.first()) {
            report.add(Check::Torn, || {
                let Transaction { group, began, .. } = transaction;
                format!("group {group} at {began} us: {there} is there and {gone} is not")
            });
        }
    }
}

/// A transaction's part of a chain: to, from, when it began.
type Link = (i64, i64, u64);

fn chains(ledger: &Ledger<'_>, seen: &BTreeSet<u64>, report: &mut Report) {
    let mut chains: BTreeMap<(u32, Partition), Vec<Link>> = BTreeMap::new();
    for transaction in &ledger.transactions {
        let is_committed = match transaction.outcome {
            Outcome::Committed => true,
            Outcome::Aborted => false,
            Outcome::Unknown => values(transaction).any(|value| seen.contains(&value)),
        };
        for it in transaction.moves.iter().filter(|_| is_committed) {
            let chain = chains.entry((transaction.group, it.partition)).or_default();
            chain.push((it.to, it.from, transaction.began));
        }
    }
    let mut ends: BTreeMap<(u32, Partition), i64> = BTreeMap::new();
    for ((group, partition), mut chain) in chains {
        chain.sort_unstable();
        let mut at = 0;
        for (to, from, began) in chain {
            if from != at {
                let what = if from < at { "goes back" } else { "skips" };
                report.add(Check::Offsets, || {
                    format!(
                        "group {group} {what} in partition {partition}: at {began} us it went on from {from} to {to}, \
                         the one before had ended at {at}"
                    )
                });
            }
            at = to;
        }
        ends.insert((group, partition), at);
    }
    for operation in &ledger.history.operations {
        let Operation::Offset { group, partition, offset } = operation else { continue };
        let at = ends.get(&(*group, *partition)).copied().unwrap_or(0);
        if *offset != at {
            report.add(Check::Offsets, || {
                format!(
                    "group {group} is at {offset} in partition {partition}, and was committed to {at}"
                )
            });
        }
    }
}
