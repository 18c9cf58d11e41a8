//! K6 and K12: readers that pass over something, step back, or are told of an end that lies behind them.

use std::collections::BTreeMap;

use super::{Check, Ledger, Report};
use crate::anomalies::history::{Fate, Level, Micros, Part, Partition, Poll};

pub(super) fn check(ledger: &Ledger<'_>, report: &mut Report) {
    let mut positions: BTreeMap<(u32, Partition), i64> = BTreeMap::new();
    for poll in ledger.history.polls() {
        for part in &poll.parts {
            let before = positions.insert((poll.session, part.partition), part.next);
            if let Some(before) = before {
                between(ledger, poll, part, before, report);
            }
            within(ledger, poll, part, report);
        }
    }
    stale(ledger, report);
}

/// From one poll of a session to the next.
fn between(ledger: &Ledger<'_>, poll: &Poll, part: &Part, before: i64, report: &mut Report) {
    let Poll { session, .. } = poll;
    let Part { partition, from, .. } = part;
    if *from < before {
        report.add(Check::Poll, || {
            format!(
                "between polls: session {session} went back from {before} to {partition}/{from}"
            )
        });
    }
    skipped(ledger, poll, *partition, (before, *from), "between polls", report);
}

fn within(ledger: &Ledger<'_>, poll: &Poll, part: &Part, report: &mut Report) {
    let mut next = part.from;
    for (offset, _) in &part.reads {
        if *offset < next {
            report.add(Check::Poll, || {
                let (session, partition) = (poll.session, part.partition);
                format!(
                    "within a poll: session {session} went back from {next} to {partition}/{offset}"
                )
            });
        }
        skipped(ledger, poll, part.partition, (next, *offset), "within a poll", report);
        next = offset + 1;
    }
    skipped(ledger, poll, part.partition, (next, part.next), "within a poll", report);
}

fn skipped(
    ledger: &Ledger<'_>,
    poll: &Poll,
    partition: Partition,
    (from, to): (i64, i64),
    place: &str,
    report: &mut Report,
) {
    if to <= from {
        return;
    }
    let there = match poll.level {
        Level::Uncommitted => &ledger.places,
        Level::Committed => &ledger.committed,
    };
    if let Some(((_, offset), value)) = there.range((partition, from)..(partition, to)).next() {
        report.add(Check::Poll, || {
            let session = poll.session;
            format!("{place}: session {session} skipped {value} at {partition}/{offset}")
        });
    }
}

/// Who was acknowledged lies below the high watermark of every later answer.
fn stale(ledger: &Ledger<'_>, report: &mut Report) {
    // By partition: when it was known, and the end that was known from then on.
    let mut known: BTreeMap<Partition, Vec<(Micros, i64)>> = BTreeMap::new();
    for (batch, _) in ledger.history.batches() {
        if let Fate::Acknowledged(base) = batch.fate {
            let end = base + i64::try_from(batch.count).unwrap_or(i64::MAX);
            known.entry(batch.partition).or_default().push((batch.answered, end));
        }
    }
    for ends in known.values_mut() {
        ends.sort_unstable();
        let mut highest = 0;
        for (_, end) in ends {
            highest = highest.max(*end);
            *end = highest;
        }
    }
    for poll in ledger.history.polls() {
        for Part { partition, end, .. } in &poll.parts {
            let Some(ends) = known.get(partition) else { continue };
            let before = ends.partition_point(|(answered, _)| *answered < poll.called);
            let Some((_, acknowledged)) = before.checked_sub(1).map(|it| ends[it]) else {
                continue;
            };
            if *end < acknowledged {
                report.add(Check::Stale, || {
                    let session = poll.session;
                    format!(
                        "session {session} was told of {partition}/{end} as the end, \
                         {acknowledged} was acknowledged before"
                    )
                });
            }
        }
    }
}
