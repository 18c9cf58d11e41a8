//! Offsets in transactions: pending until a marker decides.

use protocol::records::{EndTxnMarker, TransactionResult};
use vocabulary::ProducerId;

use super::*;
use crate::TransactionEnd;
use crate::transactions::TransactionVersion;

const PRODUCER: ProducerId = ProducerId(7);
const OTHER: ProducerId = ProducerId(8);

fn commit(producer: Option<ProducerId>, partition: i32, offset: i64) -> CommitOffsets {
    CommitOffsets {
        group: "g".to_owned(),
        generation: -1,
        member: String::new(),
        instance: None,
        retention_ms: None,
        group_not_found_known: true,
        member_epochs_known: false,
        transaction: producer.map(|it| (it, 0)),
        offsets: vec![OffsetToCommit {
            topic: "topic".to_owned(),
            partition,
            offset: Offset(offset),
            leader_epoch: -1,
            metadata: None,
        }],
    }
}

fn committed(bench: &mut Bench, commit: CommitOffsets) {
    let reply = bench.ask(Command::Commit(commit));
    assert_eq!(reply, Reply::Commit(CommitReply::Each(vec![ErrorCode::None])));
}

fn end(bench: &mut Bench, producer: ProducerId, result: TransactionResult) {
    let marker = EndTxnMarker { result, coordinator_epoch: 0 };
    let end = TransactionEnd { producer, epoch: 0, marker, version: TransactionVersion::V1 };
    assert_eq!(bench.ask(Command::EndTransaction(end)), Reply::EndTransaction);
}

/// The offset of one partition, and whether it is told to whoever wants it stable.
fn offset(bench: &mut Bench, partition: i32) -> (i64, bool) {
    let mut ask = |require_stable| {
        let topics = FetchTopics::Some(vec![("topic".to_owned(), vec![partition])]);
        let fetch = FetchOffsets {
            group: "g".to_owned(),
            member: None,
            member_epoch: -1,
            topics,
            require_stable,
        };
        match bench.ask(Command::Fetch(fetch)) {
            Reply::Fetch(mut reply) => reply.topics.remove(0).1.remove(0),
            other => panic!("{other:?}"),
        }
    };
    let (plain, stable) = (ask(false), ask(true));
    assert!(!plain.is_unstable);
    assert!(if stable.is_unstable { stable.offset == Offset(-1) } else { stable == plain });
    (plain.offset.0, !stable.is_unstable)
}

#[test]
fn an_offset_counts_when_its_transaction_is_committed() {
    let mut bench = Bench::new();
    committed(&mut bench, commit(None, 0, 1));
    committed(&mut bench, commit(Some(PRODUCER), 0, 5));
    committed(&mut bench, commit(Some(PRODUCER), 1, 6));
    bench.restart();
    assert_eq!((offset(&mut bench, 0), offset(&mut bench, 1)), ((1, false), (-1, false)));
    assert_eq!(offset(&mut bench, 2), (-1, true), "no transaction has to do with it");
    end(&mut bench, PRODUCER, TransactionResult::Commit);
    assert_eq!((offset(&mut bench, 0), offset(&mut bench, 1)), ((5, true), (6, true)));
    committed(&mut bench, commit(Some(PRODUCER), 0, 9));
    end(&mut bench, PRODUCER, TransactionResult::Abort);
    end(&mut bench, PRODUCER, TransactionResult::Commit);
    bench.restart();
    assert_eq!(offset(&mut bench, 0), (5, true), "aborted is aborted");
}

#[test]
fn the_later_record_wins_whichever_transaction_ends_first() {
    let mut bench = Bench::new();
    committed(&mut bench, commit(Some(PRODUCER), 0, 1));
    committed(&mut bench, commit(Some(OTHER), 0, 2));
    end(&mut bench, OTHER, TransactionResult::Commit);
    assert_eq!(offset(&mut bench, 0), (2, true), "what is left cannot change it");
    end(&mut bench, PRODUCER, TransactionResult::Commit);
    assert_eq!(offset(&mut bench, 0), (2, true));
    committed(&mut bench, commit(Some(PRODUCER), 0, 3));
    committed(&mut bench, commit(Some(OTHER), 0, 4));
    end(&mut bench, PRODUCER, TransactionResult::Commit);
    assert_eq!(offset(&mut bench, 0), (3, false));
    committed(&mut bench, commit(None, 0, 5));
    end(&mut bench, OTHER, TransactionResult::Commit);
    assert_eq!(offset(&mut bench, 0), (5, true));
    bench.restart();
    assert_eq!(offset(&mut bench, 0), (5, true));
}

#[test]
fn a_transaction_may_commit_for_the_current_generation_only() {
    let mut bench = Bench::new();
    let (ids, generation) = bench.stable(1);
    let of = |generation, member: &str| CommitOffsets {
        generation,
        member: member.to_owned(),
        ..commit(Some(PRODUCER), 0, 1)
    };
    committed(&mut bench, of(generation, &ids[0]));
    committed(&mut bench, of(-1, "")); // Clients before KIP-447 do not say who they are.
    for (commit, code) in [
        (of(generation - 1, &ids[0]), ErrorCode::IllegalGeneration),
        (of(generation, "stranger"), ErrorCode::UnknownMemberId),
    ] {
        let reply = bench.ask(Command::Commit(commit));
        assert_eq!(reply, Reply::Commit(CommitReply::Refused(code)));
    }
}

#[test]
fn deleting_a_group_takes_its_pending_offsets_along() {
    let mut bench = Bench::new();
    committed(&mut bench, commit(None, 0, 1));
    committed(&mut bench, commit(Some(PRODUCER), 0, 2));
    bench.ask(Command::DeleteGroups(vec!["g".to_owned()]));
    end(&mut bench, PRODUCER, TransactionResult::Commit);
    bench.restart();
    assert_eq!(offset(&mut bench, 0), (-1, true));
}
