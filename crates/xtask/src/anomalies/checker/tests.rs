//! Histories made by hand: a sound one, and one change a time that makes each anomaly.

use super::{Report, check};
use crate::anomalies::history::{
    Batch, Fate, History, Level, Move, Operation, Outcome, Part, Poll, Transaction,
};

fn batch(partition: i32, value: u64, times: (u64, u64), fate: Fate) -> Batch {
    Batch { partition, first: value, count: 1, called: times.0, answered: times.1, fate }
}

fn send(partition: i32, value: u64, times: (u64, u64), fate: Fate) -> Operation {
    Operation::Send { process: 0, batch: batch(partition, value, times, fate) }
}

fn part(partition: i32, from: i64, next: i64, reads: &[(i64, u64)]) -> Part {
    Part { partition, from, next, end: 9, reads: reads.to_vec() }
}

fn poll(session: u32, level: Level, at: u64, parts: Vec<Part>) -> Poll {
    Poll { session, level, called: at, answered: at + 1, parts }
}

/// Group 0: reads nothing, writes 10 at 0/2 and 11 at 1/0, commits at 25; its markers are at 0/3 and 1/1.
fn first() -> Transaction {
    Transaction {
        process: 1,
        group: 0,
        began: 20,
        ended: 26,
        polls: vec![poll(10, Level::Committed, 21, vec![part(0, 0, 2, &[(0, 1), (1, 2)])])],
        sends: vec![
            batch(0, 10, (22, 23), Fate::Acknowledged(2)),
            batch(1, 11, (23, 24), Fate::Acknowledged(0)),
        ],
        moves: vec![Move { partition: 0, from: 0, to: 2 }],
        commit_called: Some(25),
        outcome: Outcome::Committed,
    }
}

/// The same group's next: goes on from 2, reads 10, writes 20 at 0/4 and 21 at 1/2; markers at 0/5 and 1/3.
fn second() -> Transaction {
    Transaction {
        process: 2,
        group: 0,
        began: 30,
        ended: 36,
        polls: vec![poll(11, Level::Committed, 31, vec![part(0, 2, 4, &[(2, 10)])])],
        sends: vec![
            batch(0, 20, (32, 33), Fate::Acknowledged(4)),
            batch(1, 21, (33, 34), Fate::Acknowledged(2)),
        ],
        moves: vec![Move { partition: 0, from: 2, to: 4 }],
        commit_called: Some(35),
        outcome: Outcome::Committed,
    }
}

/// Writes 30 at 0/6, and aborts; the marker is at 0/7.
fn aborted() -> Transaction {
    Transaction {
        process: 1,
        group: 1,
        began: 40,
        ended: 44,
        polls: Vec::new(),
        sends: vec![batch(0, 30, (41, 42), Fate::Acknowledged(6))],
        moves: vec![Move { partition: 0, from: 0, to: 4 }],
        commit_called: None,
        outcome: Outcome::Aborted,
    }
}

const ALL_COMMITTED: [(i64, u64); 5] = [(0, 1), (1, 2), (2, 10), (4, 20), (8, 3)];
const ALL: [(i64, u64); 6] = [(0, 1), (1, 2), (2, 10), (4, 20), (6, 30), (8, 3)];
const OTHER: [(i64, u64); 2] = [(0, 11), (2, 21)];

/// Plain sends 1, 2 (unknown, and there), 3 and 4 (refused); three transactions; a reader of each level, and at the
/// end everything of each level.
struct Made {
    sends: Vec<Operation>,
    transactions: Vec<Transaction>,
    /// Two polls of committed records.
    session: [Poll; 2],
    whole_committed: Poll,
    whole: Poll,
    offset: i64,
    more: Vec<Operation>,
}

impl Made {
    fn new() -> Made {
        let sends = vec![
            send(0, 1, (1, 2), Fate::Acknowledged(0)),
            send(0, 2, (3, 4), Fate::Unknown),
            send(0, 4, (5, 6), Fate::Refused),
            send(0, 3, (50, 51), Fate::Acknowledged(8)),
        ];
        let session = [
            poll(1, Level::Committed, 27, vec![part(0, 0, 4, &ALL_COMMITTED[..3])]),
            poll(1, Level::Committed, 60, vec![part(0, 4, 9, &ALL_COMMITTED[3..])]),
        ];
        let committed = vec![part(0, 0, 9, &ALL_COMMITTED), part(1, 0, 4, &OTHER)];
        let all = vec![part(0, 0, 9, &ALL), part(1, 0, 4, &OTHER)];
        Made {
            sends,
            transactions: vec![first(), second(), aborted()],
            session,
            whole_committed: poll(2, Level::Committed, 70, committed),
            whole: poll(3, Level::Uncommitted, 70, all),
            offset: 4,
            more: Vec::new(),
        }
    }

    fn check(self) -> Report {
        let Made { sends, transactions, session, whole_committed, whole, offset, more } = self;
        let mut operations = sends;
        operations.extend(transactions.into_iter().map(Operation::Transaction));
        operations.extend(session.map(Operation::Poll));
        operations.extend([Operation::Whole(whole_committed), Operation::Whole(whole)]);
        operations.push(Operation::Offset { group: 0, partition: 0, offset });
        operations.push(Operation::Offset { group: 1, partition: 0, offset: 0 });
        operations.extend(more);
        check(&History { operations })
    }
}

/// The ids of what is found after one change to a sound history.
fn after(change: impl FnOnce(&mut Made)) -> Vec<String> {
    let mut made = Made::new();
    change(&mut made);
    made.check().found.keys().map(ToString::to_string).collect()
}

fn reads(poll: &mut Poll) -> &mut Vec<(i64, u64)> {
    &mut poll.parts[0].reads
}

const NOTHING: [&str; 0] = [];

#[test]
fn a_sound_history_has_no_anomaly() {
    assert_eq!(after(|_| {}), NOTHING);
    // A commit that was not answered may have happened, as its values say, or not.
    assert_eq!(after(|it| it.transactions[1].outcome = Outcome::Unknown), NOTHING);
    // What is unknown need not be there, and a session may begin anywhere.
    let without_unknown = |it: &mut Made| {
        it.sends.remove(1);
        it.transactions[0].polls[0].parts[0].reads.pop();
        for poll in [&mut it.session[0], &mut it.whole_committed, &mut it.whole] {
            reads(poll).remove(1);
        }
    };
    assert_eq!(after(without_unknown), NOTHING);
}

#[test]
fn k1_values_that_may_not_be_read() {
    // Refused, made up, of a transaction that did not commit, of one whose commit was refused.
    let more = |value| {
        Operation::Poll(poll(9, Level::Uncommitted, 70, vec![part(2, 0, 1, &[(0, value)])]))
    };
    assert!(after(|it| it.more.push(more(4))).contains(&"K1".to_owned()));
    assert!(after(|it| it.more.push(more(99))).contains(&"K1".to_owned()));
    assert_eq!(after(|it| reads(&mut it.session[1]).insert(1, (6, 30))), ["K1", "K6"]);
    let refused = |it: &mut Made| {
        it.transactions[2].commit_called = Some(43);
        reads(&mut it.whole_committed).insert(4, (6, 30));
    };
    assert!(after(refused).contains(&"K1".to_owned()));
}

#[test]
fn k2_two_values_at_one_offset_and_bytes_without_sense() {
    assert!(after(|it| reads(&mut it.session[1])[1] = (8, 2)).contains(&"K2".to_owned()));
    let broken = Operation::Broken { what: "a checksum".to_owned() };
    assert_eq!(after(|it| it.more.push(broken)), ["K2"]);
}

#[test]
fn k3_one_value_at_two_offsets() {
    let twice = |it: &mut Made| {
        for poll in [&mut it.whole, &mut it.whole_committed] {
            reads(poll).push((9, 1));
            poll.parts[0].next = 10;
        }
    };
    assert_eq!(after(twice), ["K3"]);
}

#[test]
fn k4_and_k5_what_was_acknowledged_and_is_not_there() {
    let lost = send(0, 5, (52, 53), Fate::Acknowledged(7));
    assert!(after(|it| it.more.push(lost)).contains(&"K4".to_owned()));
    let unseen = send(0, 5, (52, 53), Fate::Acknowledged(9));
    assert_eq!(after(|it| it.more.push(unseen)), ["K5", "K12"]);
    // Aborted values are there for whoever reads uncommitted records.
    assert!(
        after(|it| {
            reads(&mut it.whole).remove(4);
        })
        .contains(&"K4".to_owned())
    );
    // A whole transaction is gone, although it was committed.
    let gone = |it: &mut Made| {
        reads(&mut it.whole_committed).remove(3);
        it.whole_committed.parts[1].reads.pop();
    };
    assert!(after(gone).contains(&"K4".to_owned()));
}

#[test]
fn k6_polls_that_skip_or_step_back() {
    // Within an answer, at its end, in the wrong order; between two.
    assert_eq!(
        after(|it| {
            reads(&mut it.session[0]).remove(1);
        }),
        ["K6"]
    );
    assert_eq!(
        after(|it| {
            reads(&mut it.session[0]).pop();
        }),
        ["K6"]
    );
    assert_eq!(after(|it| reads(&mut it.session[0]).swap(1, 2)), ["K6"]);
    assert_eq!(after(|it| it.session[0].parts[0].next = 5), ["K6"]);
    let jump = |it: &mut Made| {
        it.session[1].parts[0].from = 5;
        reads(&mut it.session[1]).remove(0);
    };
    assert_eq!(after(jump), ["K6"]);
    // An aborted value is skipped by who reads committed records, and only by them.
    assert_eq!(after(|it| it.session[1].level = Level::Uncommitted), ["K6"]);
}

#[test]
fn k7_sends_against_time() {
    // 1 is in front of 3, so it cannot have been sent after 3 was acknowledged.
    assert_eq!(after(|it| it.sends[0] = send(0, 1, (52, 53), Fate::Acknowledged(0))), ["K7"]);
    // Without an answer it may have been appended late, but 2 lies in front of what was acknowledged before.
    assert_eq!(after(|it| it.sends[1] = send(0, 2, (52, 53), Fate::Unknown)), ["K7"]);
    // Overlapping sends may come in any order.
    assert_eq!(after(|it| it.sends[0] = send(0, 1, (3, 53), Fate::Acknowledged(0))), NOTHING);
    // Within a transaction.
    let inside = |it: &mut Made| {
        it.transactions[0].sends.push(batch(1, 12, (21, 22), Fate::Acknowledged(1)));
        for poll in [&mut it.whole, &mut it.whole_committed] {
            poll.parts[1].reads.insert(1, (1, 12));
        }
    };
    assert_eq!(after(inside), ["K7"]);
}

#[test]
fn k8_reads_before_the_commit() {
    // Of another transaction's value.
    assert_eq!(after(|it| it.transactions[0].commit_called = Some(29)), ["K8"]);
    // Of one's own, within the transaction.
    let own = |it: &mut Made| {
        let own = poll(12, Level::Committed, 23, vec![part(1, 0, 1, &[(0, 11)])]);
        it.transactions[0].polls.push(own);
    };
    assert_eq!(after(own), ["K8"]);
    // read_uncommitted may.
    let uncommitted = |it: &mut Made| {
        let own = poll(12, Level::Uncommitted, 24, vec![part(1, 0, 1, &[(0, 11)])]);
        it.transactions[0].polls.push(own);
    };
    assert_eq!(after(uncommitted), NOTHING);
}

#[test]
fn k9_cycles() {
    // G1c: the second has read the first, and the first reads the second. They overlap, so no time contradicts.
    let circle = |it: &mut Made| {
        for transaction in &mut it.transactions[..2] {
            (transaction.began, transaction.ended) = (20, 90);
            transaction.commit_called = Some(22);
        }
        let late = poll(12, Level::Committed, 80, vec![part(1, 2, 3, &[(2, 21)])]);
        it.transactions[0].polls.push(late);
    };
    assert_eq!(after(circle), ["K9"]);
    // G0: in one partition the first is in front, in the other the second, and they do not overlap. Who was answered
    // is also against time (K7); an unknown send is not, so that only the cycle tells.
    let writes = |overlap: bool, known: bool| {
        move |it: &mut Made| {
            it.transactions[0].polls.clear();
            it.transactions[1].polls.clear();
            it.transactions[0].ended = if overlap { 31 } else { 26 };
            let other = [(0, 21), (2, 11)];
            it.whole.parts[1].reads = other.to_vec();
            it.whole_committed.parts[1].reads = other.to_vec();
            for (nth, offset) in [(0, 2), (1, 0)] {
                let fate = if known { Fate::Acknowledged(offset) } else { Fate::Unknown };
                it.transactions[nth].sends[1].fate = fate;
            }
        }
    };
    assert_eq!(after(writes(false, false)), ["K9"]);
    assert_eq!(after(writes(false, true)), ["K7", "K9"]);
    // Kafka interleaves the writes of open transactions: counted, and no anomaly.
    assert_eq!(after(writes(true, false)), NOTHING);
    let mut made = Made::new();
    writes(true, false)(&mut made);
    assert_eq!(made.check().entangled, 2);
    assert_eq!(Made::new().check().entangled, 0);
}

#[test]
fn k10_transactions_in_part() {
    // Its commit was not answered, so that nothing else tells.
    let torn = |it: &mut Made| {
        it.transactions[1].outcome = Outcome::Unknown;
        it.whole_committed.parts[1].reads.pop();
    };
    assert_eq!(after(torn), ["K10"]);
    // All of it is missing: it did not commit, and neither did its offsets.
    let whole = |it: &mut Made| {
        it.transactions[1].outcome = Outcome::Unknown;
        it.whole_committed.parts[1].reads.pop();
        reads(&mut it.whole_committed).remove(3);
        reads(&mut it.session[1]).remove(0);
        it.offset = 2;
    };
    assert_eq!(after(whole), NOTHING);
    // Its offsets were committed, and its values were not.
    let apart = |it: &mut Made| {
        whole(it);
        it.offset = 4;
    };
    assert_eq!(after(apart), ["K11"]);
}

#[test]
fn k11_offsets_that_go_back_skip_or_are_lost() {
    // The first one's offset was lost: the second begins where the first did.
    assert_eq!(after(|it| it.transactions[1].moves[0].from = 0), ["K11"]);
    // It begins at an offset that nobody committed.
    assert_eq!(after(|it| it.transactions[1].moves[0].from = 3), ["K11"]);
    // At the end it is somewhere else: a zero for what was committed, or an aborted transaction's.
    assert_eq!(after(|it| it.offset = 0), ["K11"]);
    let aborted = Operation::Offset { group: 1, partition: 0, offset: 4 };
    assert_eq!(after(|it| it.more.push(aborted)), ["K11"]);
}

#[test]
fn k12_an_end_behind_what_was_acknowledged() {
    assert_eq!(after(|it| it.session[1].parts[0].end = 8), ["K12"]);
    // The poll was called before the acknowledgement.
    assert_eq!(after(|it| it.session[0].parts[0].end = 4), NOTHING);
}

#[test]
fn k13_clients_that_are_stuck() {
    let stuck = Operation::Stuck { what: "group 1 commits nothing".to_owned() };
    assert_eq!(after(|it| it.more.push(stuck)), ["K13"]);
}

#[test]
fn many_of_a_kind_are_counted_and_not_all_told() {
    let mut made = Made::new();
    for nth in 0..30 {
        made.more.push(send(0, 100 + nth, (90, 91), Fate::Acknowledged(100 + nth as i64)));
    }
    let lines = made.check().lines();
    assert_eq!(lines.first().map(String::as_str), Some("K5: 60"));
    assert_eq!(lines.len(), 1 + super::TOLD_PER_CHECK_MAX);
}
