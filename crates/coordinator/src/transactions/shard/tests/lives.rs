//! Single ids through their states, one rule after the other.

use TransactionResult::{Abort, Commit};
use TransactionState::{CompleteAbort, CompleteCommit, Ongoing, PrepareAbort, PrepareCommit};
use TransactionVersion::{V1, V2};

use super::*;

#[test]
fn a_transaction_of_the_old_rules_keeps_its_epoch() {
    let mut bench = Bench::new();
    let who = bench.init(ID, None).unwrap();
    assert_eq!(who.1, 0);
    assert_eq!(bench.end(who, Commit, V1), Err(ErrorCode::InvalidTxnState), "nothing is open");
    assert_eq!(bench.add(who, V1), ErrorCode::None);
    let logged = bench.log.len();
    assert_eq!(bench.add(who, V1), ErrorCode::None);
    assert_eq!(bench.log.len(), logged, "nothing new is stored");
    assert_eq!(bench.end(who, Commit, V1), Ok(who));
    assert_eq!(bench.state(), PrepareCommit);
    assert_eq!(bench.end(who, Commit, V1), Err(ErrorCode::ConcurrentTransactions));
    assert_eq!(bench.end(who, Abort, V1), Err(ErrorCode::InvalidTxnState));
    assert_eq!(bench.add(who, V1), ErrorCode::ConcurrentTransactions);
    assert_eq!(bench.init(ID, None), Err(ErrorCode::ConcurrentTransactions));
    let order = bench.orders[0].clone();
    assert_eq!((order.producer, order.epoch, order.result), (who.0, who.1, Commit));
    assert_eq!(order.partitions, partitions(&[0, 1]));
    assert_eq!(bench.carry_out(), [true]);
    assert_eq!(bench.state(), CompleteCommit);
    assert_eq!(bench.end(who, Commit, V1), Ok(who), "a repeated request");
    assert_eq!(bench.end(who, Abort, V1), Err(ErrorCode::InvalidTxnState));
    assert_eq!(bench.add(who, V1), ErrorCode::None, "the next one begins");
    assert_eq!(bench.end((who.0, 7), Abort, V1), Err(ErrorCode::ProducerFenced));
    let stranger = (ProducerId(1), 0);
    assert_eq!(bench.end(stranger, Abort, V1), Err(ErrorCode::InvalidProducerIdMapping));
}

#[test]
fn every_end_of_the_new_rules_bumps_the_epoch() {
    let mut bench = Bench::new();
    let first @ (id, _) = bench.init(ID, None).unwrap();
    assert_eq!(bench.add(first, V2), ErrorCode::None);
    assert_eq!(bench.end(first, Commit, V2), Ok((id, 1)));
    assert_eq!(bench.orders[0].epoch, 1, "greater than that of the records");
    assert_eq!(bench.end(first, Commit, V2), Err(ErrorCode::ConcurrentTransactions));
    assert_eq!(bench.end((id, 1), Abort, V2), Err(ErrorCode::ProducerFenced), "not complete yet");
    bench.carry_out();
    assert_eq!(bench.end(first, Commit, V2), Ok((id, 1)), "a repeated request");
    assert_eq!(bench.end(first, Abort, V2), Err(ErrorCode::InvalidTxnState));
    assert_eq!(bench.add(first, V2), ErrorCode::ProducerFenced, "records of the past");
    assert_eq!(bench.add((id, 1), V2), ErrorCode::None);
    assert_eq!(bench.end(first, Commit, V2), Err(ErrorCode::ProducerFenced), "of the past");
    assert_eq!(bench.end((id, 1), Abort, V2), Ok((id, 2)));
    bench.carry_out();
    assert_eq!(bench.state(), CompleteAbort);
    assert_eq!(bench.end((id, 2), Commit, V2), Err(ErrorCode::InvalidTxnState), "nothing is open");
    assert_eq!(bench.end((id, 2), Abort, V2), Ok((id, 3)), "but an abort is granted");
    assert_eq!(bench.state(), CompleteAbort);
    assert!(bench.orders.is_empty(), "there is nobody to tell");
    assert_eq!(bench.end((id, 2), Abort, V2), Ok((id, 3)));
}

#[test]
fn a_producer_that_comes_back_gets_the_next_epoch_once() {
    let mut bench = Bench::new();
    let first @ (id, _) = bench.init(ID, None).unwrap();
    assert_eq!(bench.init(ID, Some(first)), Ok((id, 1)));
    assert_eq!(bench.init(ID, Some(first)), Ok((id, 1)), "a repeated request");
    assert_eq!(bench.init(ID, None), Ok((id, 2)), "somebody else takes over");
    for stale in [first, (id, 1), (ProducerId(1), 2)] {
        assert_eq!(bench.init(ID, Some(stale)), Err(ErrorCode::ProducerFenced));
    }
    assert_eq!(bench.add((id, 2), V1), ErrorCode::None);
    assert_eq!(bench.init(ID, Some((id, 1))), Err(ErrorCode::ProducerFenced));
    assert_eq!(bench.state(), Ongoing, "a stale producer aborts nothing");
}

#[test]
fn a_new_producer_aborts_what_the_old_one_left_open() {
    for version in [V1, V2] {
        let mut bench = Bench::new();
        let old @ (id, _) = bench.init(ID, None).unwrap();
        bench.add(old, version);
        assert_eq!(bench.init(ID, None), Err(ErrorCode::ConcurrentTransactions));
        assert_eq!((bench.state(), bench.orders[0].epoch), (PrepareAbort, 1));
        assert_eq!(bench.init(ID, None), Err(ErrorCode::ConcurrentTransactions));
        bench.carry_out();
        assert_eq!(bench.init(ID, None), Ok((id, 2)));
        assert_eq!(bench.end(old, Commit, version), Err(ErrorCode::ProducerFenced));
        assert_eq!(bench.add(old, version), ErrorCode::ProducerFenced);
    }
}

#[test]
fn a_new_producer_id_follows_the_last_epoch() {
    let last = CLIENT_EPOCH_MAX;
    // By InitProducerId.
    let mut bench = Bench::new();
    let (id, _) = bench.init(ID, None).unwrap();
    bench.set_epoch(last);
    let (next, epoch) = bench.init(ID, Some((id, last))).unwrap();
    assert_eq!((id < next, epoch), (true, 0));
    assert_eq!(bench.init(ID, Some((id, last))), Ok((next, 0)), "a repeated request");
    assert_eq!(bench.init(ID, Some((id, 3))), Err(ErrorCode::ProducerFenced));
    // The same request, late: what was decided meanwhile is not forgotten.
    bench.add((next, 0), V1);
    bench.end((next, 0), Commit, V1).unwrap();
    assert_eq!(bench.init(ID, Some((id, last))), Err(ErrorCode::ConcurrentTransactions));
    assert_eq!(bench.state(), PrepareCommit);
    bench.carry_out();
    assert_eq!(bench.init(ID, Some((id, last))), Ok((next, 0)));
    // By the end of a transaction.
    let mut bench = Bench::new();
    let (id, _) = bench.init(ID, None).unwrap();
    bench.set_epoch(last);
    bench.add((id, last), V2);
    let (next, epoch) = bench.end((id, last), Commit, V2).unwrap();
    assert_eq!((id < next, epoch), (true, 0));
    assert_eq!((bench.orders[0].producer, bench.orders[0].epoch), (id, i16::MAX));
    assert_eq!(bench.end((id, last), Commit, V2), Err(ErrorCode::ConcurrentTransactions));
    bench.restart();
    bench.carry_out();
    assert_eq!(bench.end((id, last), Commit, V2), Ok((next, 0)), "a repeated request");
    assert_eq!(bench.init(ID, None).unwrap(), (next, 1));
    // By a time-out, whose epoch no client is given.
    let mut bench = Bench::new();
    let (id, _) = bench.init(ID, None).unwrap();
    bench.set_epoch(last);
    bench.add((id, last), V2);
    bench.wait(80_000);
    bench.carry_out();
    assert_eq!(bench.image().epoch, i16::MAX);
    assert_eq!(bench.end((id, last), Abort, V2), Err(ErrorCode::ProducerFenced));
    assert_eq!(bench.add((id, i16::MAX), V2), ErrorCode::ProducerFenced);
    assert_eq!(bench.init(ID, None).unwrap().1, 0);
}

#[test]
fn an_overdue_transaction_is_aborted() {
    let mut bench = Bench::new();
    let who @ (id, _) = bench.init(ID, None).unwrap();
    bench.add(who, V2);
    bench.wait(60_000);
    assert_eq!(bench.state(), Ongoing, "its time is not up");
    bench.wait(10_001);
    assert_eq!((bench.state(), bench.tally.timed_out), (PrepareAbort, 1));
    assert_eq!(bench.end(who, Commit, V2), Err(ErrorCode::InvalidTxnState));
    bench.carry_out();
    assert_eq!(bench.end(who, Commit, V2), Err(ErrorCode::InvalidTxnState));
    assert_eq!(bench.end(who, Abort, V2), Ok((id, 1)), "it was aborted; the producer goes on");
    assert_eq!(bench.add((id, 1), V1), ErrorCode::None);
    bench.wait(80_000);
    bench.carry_out();
    assert_eq!(bench.end((id, 1), Abort, V1), Err(ErrorCode::ProducerFenced), "the old rules");
    assert_eq!(bench.init(ID, Some((id, 1))), Err(ErrorCode::ProducerFenced));
}

#[test]
fn what_was_decided_is_ordered_again_after_a_restart() {
    let mut bench = Bench::new();
    let who = bench.init(ID, None).unwrap();
    bench.add(who, V1);
    bench.end(who, Commit, V1).unwrap();
    let order = bench.orders.clone();
    bench.restart();
    assert_eq!(bench.orders, order);
    bench.orders.extend(order);
    assert_eq!(bench.carry_out(), [true, false], "the second time it is complete");
    bench.restart();
    assert!(bench.orders.is_empty());
    assert_eq!(bench.state(), CompleteCommit);
    assert_eq!(bench.end(who, Commit, V1), Ok(who));
}

#[test]
fn unused_ids_are_forgotten_and_open_ones_are_not() {
    let mut bench = Bench::new();
    let who = bench.init(ID, None).unwrap();
    bench.init("other", None).unwrap();
    bench.add(who, V1);
    bench.end(who, Abort, V1).unwrap();
    let week = bench.options.expiration_ms as u64;
    bench.wait(week + 3_600_000);
    let ids: Vec<_> = bench.shard.images().map(|(id, _)| id).collect();
    assert_eq!((ids, bench.tally.expired), (vec![ID], 1), "its markers are not written yet");
    bench.carry_out();
    bench.wait(week - 1);
    assert_eq!(bench.shard.images().count(), 1);
    bench.wait(3_600_001);
    assert_eq!(bench.shard.images().count(), 0);
    assert_eq!(bench.end(who, Abort, V1), Err(ErrorCode::InvalidProducerIdMapping));
    bench.restart();
}

#[test]
fn limits_are_kept() {
    let mut bench = Bench::new();
    let init = |id: &str, timeout_ms| {
        let (id, fresh) = (id.to_owned(), Some(ProducerId(1)));
        TransactionCommand::Init(InitProducer { id, timeout_ms, claimed: None, fresh })
    };
    let refused = |code| TransactionReply::Producer(Err(code));
    for timeout_ms in [0, -1, 900_001] {
        let reply = bench.ask(init(ID, timeout_ms));
        assert_eq!(reply, refused(ErrorCode::InvalidTransactionTimeout));
    }
    for id in ["".to_owned(), "x".repeat(TEXT_BYTES_MAX + 1)] {
        assert_eq!(bench.ask(init(&id, 1)), refused(ErrorCode::InvalidRequest));
    }
    for id in ["a", "b", "c", ID] {
        assert!(bench.init(id, None).is_ok());
    }
    assert_eq!(bench.ask(init("e", 1)), refused(ErrorCode::CoordinatorNotAvailable));
    let who @ (producer, epoch) = bench.init(ID, None).unwrap();
    assert_eq!(bench.add(who, V1), ErrorCode::None);
    let partitions = partitions(&(0..100).collect::<Vec<_>>());
    let add = AddPartitions { id: ID.to_owned(), producer, epoch, partitions, version: V1 };
    let reply = bench.ask(TransactionCommand::Add(add));
    assert_eq!(reply, TransactionReply::Added(ErrorCode::UnknownServerError));
}

#[test]
fn operators_see_what_is_there() {
    let mut bench = Bench::new();
    let who @ (producer, epoch) = bench.init(ID, None).unwrap();
    bench.init("idle", None).unwrap();
    bench.add(who, V1);
    bench.wait(5_000);
    let described = bench.ask(TransactionCommand::Describe(ID.to_owned()));
    let TransactionReply::Described(Some(described)) = described else { panic!("{described:?}") };
    assert_eq!((described.state, described.producer, described.epoch), (Ongoing, producer, epoch));
    assert_eq!((described.started_at, described.timeout_ms), (1_000_000, 60_000));
    assert_eq!(described.partitions, partitions(&[0, 1]));
    let absent = bench.ask(TransactionCommand::Describe("absent".to_owned()));
    assert_eq!(absent, TransactionReply::Described(None));

    let mut list = |filter| match bench.ask(TransactionCommand::List(filter)) {
        TransactionReply::Listed(rows) => rows.into_iter().map(|it| it.id).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    let all = TransactionFilter { longer_than_ms: -1, ..Default::default() };
    assert_eq!(list(all.clone()), ["idle", ID]);
    assert_eq!(list(TransactionFilter { states: vec![Ongoing], ..all.clone() }), [ID]);
    assert_eq!(list(TransactionFilter { producers: vec![producer], ..all.clone() }), [ID]);
    assert!(list(TransactionFilter { only_unknown_states: true, ..all.clone() }).is_empty());
    assert_eq!(list(TransactionFilter { longer_than_ms: 4_999, ..all.clone() }), ["idle", ID]);
    assert_eq!(list(TransactionFilter { longer_than_ms: 5_000, ..all }), ["idle"]);
    assert_eq!(bench.shard.census().ids, [1, 1, 0, 0, 0, 0]);
}

#[test]
fn partitions_ask_before_they_take_records() {
    let mut bench = Bench::new();
    let who @ (producer, epoch) = bench.init(ID, None).unwrap();
    bench.add(who, V1);
    let mut verify = |indexes: &[i32], epoch| {
        let (id, partitions) = (ID.to_owned(), partitions(indexes));
        let verify = VerifyPartitions { id, producer, epoch, partitions };
        match bench.ask(TransactionCommand::Verify(verify)) {
            TransactionReply::Verified(result) => result,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(verify(&[0, 1], epoch), Ok(BTreeMap::new()));
    assert_eq!(verify(&[1, 2], epoch), Ok(partitions(&[2])));
    assert_eq!(verify(&[1], epoch + 1), Err(ErrorCode::ProducerFenced));
}
