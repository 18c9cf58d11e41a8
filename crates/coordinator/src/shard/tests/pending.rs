//! Offsets in transactions: pending until a marker decides.

use protocol::records::{EndTxnMarker, TransactionResult};
use vocabulary::ProducerId;

use super::consumers::{id, joining, set, silent};
use super::*;
use crate::TransactionEnd;
use crate::transactions::TransactionVersion;

const PRODUCER: ProducerId = ProducerId(7);
const OTHER: ProducerId = ProducerId(8);
/// `offsets.retention.minutes` as it comes.
const RETENTION_MS: u64 = 7 * 24 * 60 * 60 * 1000;

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
            topic_id: TopicId::ZERO,
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

fn places(them: &[i32]) -> Partitions {
    Partitions::from([(id("topic"), set(them))])
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

// Goal: an offset that was read by nobody else is committed once, also while the group rebalances. Method: two members
// of the consumer protocol; the first commits in a transaction before, while and after it gives a partition up.
#[test]
fn a_transaction_commits_what_its_member_has_while_the_group_rebalances() {
    let mut bench = Bench::new();
    bench.topic("topic", 2);
    bench.beat(joining("a", &["topic"])).unwrap();
    let of = |producer, member: &str, generation, partition, offset| CommitOffsets {
        generation,
        member: member.to_owned(),
        member_epochs_known: true,
        ..commit(Some(producer), partition, offset)
    };
    let refused = |bench: &mut Bench, commit| match bench.ask(Command::Commit(commit)) {
        Reply::Commit(CommitReply::Refused(code)) => code,
        other => panic!("{other:?}"),
    };
    committed(&mut bench, of(PRODUCER, "a", 1, 0, 10));
    committed(&mut bench, of(PRODUCER, "a", 1, 1, 20));
    end(&mut bench, PRODUCER, TransactionResult::Commit);

    // The second member makes the first give up partition 1; until it has said so it may commit there.
    bench.advance(1_000);
    bench.beat(joining("b", &["topic"])).unwrap();
    assert_eq!(bench.beat(silent("a", 1)).unwrap().assignment, Some(places(&[0])));
    committed(&mut bench, of(PRODUCER, "a", 1, 1, 21));
    assert_eq!(offset(&mut bench, 1), (20, false), "whoever gets the partition waits for the end");
    end(&mut bench, PRODUCER, TransactionResult::Commit);
    bench.restart();
    let obeys = ConsumerHeartbeat { owned: Some(places(&[0])), ..silent("a", 1) };
    assert_eq!(bench.beat(obeys).unwrap().epoch, 2);
    assert_eq!(bench.beat(silent("b", 2)).unwrap().assignment, Some(places(&[1])));

    // A producer that has not heard of its new epoch commits what it still has, and nothing else.
    let stale = ErrorCode::StaleMemberEpoch;
    assert_eq!(refused(&mut bench, of(PRODUCER, "a", 1, 1, 22)), stale, "it is the other's");
    assert_eq!(refused(&mut bench, of(PRODUCER, "a", 3, 0, 22)), stale, "no epoch it was told");
    assert_eq!(refused(&mut bench, of(PRODUCER, "c", 2, 0, 22)), ErrorCode::UnknownMemberId);
    committed(&mut bench, of(PRODUCER, "a", 1, 0, 11));
    committed(&mut bench, of(OTHER, "b", 2, 1, 22));
    end(&mut bench, PRODUCER, TransactionResult::Abort);
    end(&mut bench, OTHER, TransactionResult::Commit);
    assert_eq!((offset(&mut bench, 0), offset(&mut bench, 1)), ((10, true), (22, true)));
    committed(&mut bench, commit(Some(OTHER), 0, 12)); // Clients before KIP-447 do not say who they are.
    let plain = CommitOffsets { transaction: None, ..commit(None, 0, 12) };
    assert_eq!(refused(&mut bench, plain), ErrorCode::UnknownMemberId, "there are members");
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

#[test]
fn an_offset_that_a_transaction_is_to_replace_does_not_expire() {
    let mut bench = Bench::new();
    committed(&mut bench, commit(None, 0, 1));
    committed(&mut bench, commit(None, 1, 1));
    bench.advance(RETENTION_MS - 300_000);
    committed(&mut bench, commit(Some(PRODUCER), 0, 2));
    bench.advance(1_200_000);
    assert_eq!((offset(&mut bench, 0), offset(&mut bench, 1)), ((1, false), (-1, true)));
    end(&mut bench, PRODUCER, TransactionResult::Commit);
    assert_eq!(offset(&mut bench, 0), (2, true));
    bench.restart();
    assert_eq!(offset(&mut bench, 0), (2, true));
}

#[test]
fn a_deleted_topic_takes_its_pending_offsets_along() {
    let mut bench = Bench::new();
    committed(&mut bench, commit(Some(PRODUCER), 0, 2));
    assert_eq!(
        bench.shard.topics(),
        [("topic", TopicId::ZERO)].into(),
        "what a load compares with the topics"
    );
    bench.step(Input::TopicDeleted { topic: "topic".to_owned(), id: TopicId([1; 16]) });
    end(&mut bench, PRODUCER, TransactionResult::Commit);
    assert_eq!(offset(&mut bench, 0), (-1, true));
    bench.restart();
    assert_eq!(offset(&mut bench, 0), (-1, true));
}

#[test]
fn deleting_offsets_takes_pending_ones_along() {
    let mut bench = Bench::new();
    committed(&mut bench, commit(Some(PRODUCER), 0, 2));
    let delete =
        DeleteOffsets { group: "g".to_owned(), topics: vec![("topic".to_owned(), vec![0])] };
    let deleted = DeleteOffsetsReply::Each(vec![("topic".to_owned(), vec![(0, ErrorCode::None)])]);
    assert_eq!(bench.ask(Command::DeleteOffsets(delete)), Reply::DeleteOffsets(deleted));
    end(&mut bench, PRODUCER, TransactionResult::Commit);
    assert_eq!(offset(&mut bench, 0), (-1, true));
    committed(&mut bench, commit(Some(PRODUCER), 0, 3));
    let deleted = Reply::DeleteGroups(vec![("g".to_owned(), ErrorCode::None)]);
    assert_eq!(bench.ask(Command::DeleteGroups(vec!["g".to_owned()])), deleted);
    end(&mut bench, PRODUCER, TransactionResult::Commit);
    assert_eq!(offset(&mut bench, 0), (-1, true));
}
