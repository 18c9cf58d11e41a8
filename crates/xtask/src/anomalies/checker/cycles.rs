//! K9: transactions that each came before the other.
//!
//! An edge from A to B says that A was decided before B was: B read, as committed, what A wrote (wr), or A ended
//! before B began and A's value is in front of B's (ww). A cycle of ww alone is Adya's G0, one with wr G1c. Between
//! transactions that overlap there is no ww edge: Kafka interleaves their writes. Edges of reads that were overtaken
//! by a write (rw) would be drawn in a serializable system; Kafka never claimed to be one.

use std::collections::{BTreeMap, BTreeSet};

use super::{Check, Ledger, Report, reads_of};
use crate::anomalies::history::{Level, Partition};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Why {
    WriteWrite,
    WriteRead,
}

type Edges = BTreeMap<usize, BTreeMap<usize, Why>>;

pub(super) fn check(ledger: &Ledger<'_>, report: &mut Report) {
    let (sound, interleaved) = writes(ledger);
    report.entangled = on_cycles(&interleaved).len();
    let mut edges = sound;
    for (reader, transaction) in ledger.transactions.iter().enumerate() {
        let polls = transaction.polls.iter().filter(|it| it.level == Level::Committed);
        for (_, _, value) in polls.flat_map(reads_of) {
            let writer = ledger.sent.get(&value).and_then(|it| it.transaction);
            // One's own value is K8's.
            if let Some(writer) = writer.filter(|it| *it != reader) {
                edges.entry(writer).or_default().insert(reader, Why::WriteRead);
            }
        }
    }
    let mut rest = on_cycles(&edges);
    while let Some(cycle) = one_cycle(&edges, &rest) {
        let step = |nth: usize| {
            let (from, to) = (cycle[nth], cycle[(nth + 1) % cycle.len()]);
            (from, edges.get(&from).and_then(|it| it.get(&to)).copied())
        };
        let steps: Vec<_> = (0..cycle.len()).map(step).collect();
        let reads = steps.iter().any(|(_, why)| *why == Some(Why::WriteRead));
        report.add(Check::Cycle, || {
            let name = if reads { "G1c" } else { "G0" };
            let told: Vec<String> =
                steps.iter().map(|(nth, why)| one_step(ledger, *nth, *why)).collect();
            format!("{name}: {}", told.join(" -> "))
        });
        // The next one has none of its members; enough to be told of each knot once.
        rest.retain(|it| !cycle.contains(it));
    }
}

fn one_step(ledger: &Ledger<'_>, nth: usize, why: Option<Why>) -> String {
    let name = if why == Some(Why::WriteRead) { "wr" } else { "ww" };
    let transaction = ledger.transactions[nth];
    format!("group {} at {} us {name}", transaction.group, transaction.began)
}

/// Neighbours along each partition: those that do not overlap, and all.
fn writes(ledger: &Ledger<'_>) -> (Edges, Edges) {
    let (mut sound, mut interleaved) = (Edges::new(), Edges::new());
    let mut last: BTreeMap<Partition, usize> = BTreeMap::new();
    for ((partition, _), value) in &ledger.places {
        let Some(writer) = ledger.sent.get(value).and_then(|it| it.transaction) else { continue };
        let Some(before) = last.insert(*partition, writer).filter(|it| *it != writer) else {
            continue;
        };
        interleaved.entry(before).or_default().insert(writer, Why::WriteWrite);
        let (first, second) = (ledger.transactions[before], ledger.transactions[writer]);
        if first.ended < second.began || second.ended < first.began {
            sound.entry(before).or_default().insert(writer, Why::WriteWrite);
        }
    }
    (sound, interleaved)
}

/// The nodes that are on a cycle or on the way from one to another: nobody else is left when those that nothing
/// leads to, and those that lead nowhere, are taken away again and again.
fn on_cycles(edges: &Edges) -> BTreeSet<usize> {
    let mut backwards: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    let mut rest: BTreeSet<usize> = BTreeSet::new();
    for (from, targets) in edges {
        for to in targets.keys() {
            backwards.entry(*to).or_default().insert(*from);
            rest.extend([*from, *to]);
        }
    }
    let none = BTreeSet::new();
    let is_end = |rest: &BTreeSet<usize>, node: usize| {
        let leads_on = edges.get(&node).is_some_and(|it| it.keys().any(|to| rest.contains(to)));
        !leads_on || !backwards.get(&node).unwrap_or(&none).iter().any(|it| rest.contains(it))
    };
    let mut waiting: Vec<usize> = rest.iter().copied().collect();
    while let Some(node) = waiting.pop() {
        if !rest.contains(&node) || !is_end(&rest, node) {
            continue;
        }
        rest.remove(&node);
        let after = edges.get(&node).into_iter().flat_map(|it| it.keys());
        waiting.extend(after.chain(backwards.get(&node).unwrap_or(&none)).copied());
    }
    rest
}

/// A cycle among `nodes`, found by walking until a node comes again; `None`: no node leads to another of them for ever.
fn one_cycle(edges: &Edges, nodes: &BTreeSet<usize>) -> Option<Vec<usize>> {
    let mut finished = BTreeSet::new();
    for start in nodes {
        let mut path = vec![*start];
        while let Some(node) = path.last().copied() {
            let mut targets = edges.get(&node).into_iter().flat_map(|it| it.keys());
            let next = targets.find(|it| nodes.contains(*it) && !finished.contains(*it)).copied();
            let Some(next) = next else {
                finished.insert(node);
                path.pop();
                continue;
            };
            if let Some(at) = path.iter().position(|it| *it == next) {
                return Some(path.split_off(at));
            }
            path.push(next);
        }
    }
    None
}
