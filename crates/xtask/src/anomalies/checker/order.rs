//! K7 and K8: what happened before what, by the clients' own clock.

use std::collections::BTreeMap;

use super::{Check, Ledger, Report, reads_of};
use crate::anomalies::history::{Level, Micros, Partition};

pub(super) fn check(ledger: &Ledger<'_>, report: &mut Report) {
    sends(ledger, report);
    precommitted(ledger, report);
}

/// A send that was answered before another one was called has the lower offset, whoever sent them.
fn sends(ledger: &Ledger<'_>, report: &mut Report) {
    // Along the offsets of a partition: the latest call so far, and whose it was.
    let mut latest: BTreeMap<Partition, (Micros, u64)> = BTreeMap::new();
    for ((partition, offset), value) in &ledger.places {
        let Some(sent) = ledger.sent.get(value) else { continue };
        let (called, before) = *latest.get(partition).unwrap_or(&(0, 0));
        // Of a value that is at two places only the one that was told is judged.
        let told = sent.answered.filter(|_| sent.offset == Some(*offset));
        if told.is_some_and(|answered| answered < called) {
            report.add(Check::Order, || {
                format!(
                    "{value} at {partition}/{offset} was acknowledged before {before}, which is in front of it, \
                     was sent"
                )
            });
        }
        if called <= sent.called {
            latest.insert(*partition, (sent.called, *value));
        }
    }
}

/// Nobody may read as committed what nobody has asked to commit yet, least of all within the transaction itself.
fn precommitted(ledger: &Ledger<'_>, report: &mut Report) {
    for poll in ledger.history.polls().filter(|it| it.level == Level::Committed) {
        for (partition, offset, value) in reads_of(poll) {
            let commit = ledger.transaction_of(value).and_then(|it| it.commit_called);
            if commit.is_some_and(|commit| poll.answered < commit) {
                report.add(Check::PrecommittedRead, || {
                    format!("{value} at {partition}/{offset} was read before its commit")
                });
            }
        }
    }
}
