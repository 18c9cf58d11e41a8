//! Transactions: what is decided, what was aborted, across everything that moves a batch (A8).

use super::world::{World, acked, batch, batch_of, partition, produced};
use crate::log::{
    AppendError, AppendRules, Appended, MarkerRule, PartitionLog, ReadLimit, SequenceRule,
};
use crate::read::{AbortedTransaction, ReadError};
use protocol::records::{
    Batch, BatchBuilder, Compression, EndTxnMarker, TransactionResult, batches,
};
use std::time::Duration;
use vocabulary::{Offset, ProducerId, Timestamp};

use TransactionResult::{Abort, Commit};

/// `count` records of a transaction.
pub(super) fn within(producer: i64, epoch: i16, sequence: i32, count: usize) -> Batch {
    let producer = Some((ProducerId(producer), epoch, sequence));
    let mut builder = BatchBuilder::new(Compression::None, producer).transactional();
    for index in 0..count {
        let value = [sequence as u8, index as u8];
        builder.push(Timestamp(1_767_225_600_000), None, Some(&value), &[]);
    }
    builder.build()
}

pub(super) async fn mark(
    log: &PartitionLog,
    producer: i64,
    epoch: i16,
    result: TransactionResult,
    rule: MarkerRule,
) -> Result<Appended, AppendError> {
    let marker = EndTxnMarker { result, coordinator_epoch: 3 };
    log.append_marker(ProducerId(producer), epoch, marker, rule).await
}

pub(super) async fn ended(
    log: &PartitionLog,
    producer: i64,
    epoch: i16,
    result: TransactionResult,
) -> Offset {
    let marked = mark(log, producer, epoch, result, MarkerRule::V1).await.expect("it is current");
    marked.durable.await.expect("the WAL works");
    marked.base_offset
}

fn aborted(producer: i64, first: i64, last: i64) -> AbortedTransaction {
    let (first_offset, last_offset) = (Offset(first), Offset(last));
    AbortedTransaction { producer: ProducerId(producer), first_offset, last_offset }
}

#[tokio::test(start_paused = true)]
async fn lookups_by_time_end_at_the_last_stable_offset() {
    let world = World::new(50);
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    acked(&log, batch_of(None, 1, 2, 50, 1000)).await;
    // Later than all, undecided.
    acked(&log, within(7, 0, 0, 3)).await;
    acked(&log, batch_of(None, 2, 1, 50, 1001)).await;
    let latest = async |limit| {
        let found = log.offset_of_max_timestamp(limit).await.expect("it is there");
        found.map(|it| it.offset)
    };
    let at = async |time, limit| {
        let found = log.offset_for_timestamp(Timestamp(time), limit).await.expect("it is there");
        found.map(|it| it.offset)
    };
    for flushed in [false, true] {
        if flushed {
            life.engine.flush_all().await;
        }
        assert_eq!(latest(ReadLimit::HighWatermark).await, Some(Offset(2)));
        assert_eq!(latest(ReadLimit::LastStable).await, None, "no other in its place");
        assert_eq!(at(1001, ReadLimit::LastStable).await, Some(Offset(1)));
        assert_eq!(at(1002, ReadLimit::HighWatermark).await, Some(Offset(2)));
        assert_eq!(at(1002, ReadLimit::LastStable).await, None);
    }
    ended(&log, 7, 0, Commit).await;
    // The marker carries the time at which it was written.
    let ending = latest(ReadLimit::HighWatermark).await;
    assert_eq!(latest(ReadLimit::LastStable).await, ending);
    assert_eq!(at(1002, ReadLimit::LastStable).await, Some(Offset(2)));
}

#[tokio::test(start_paused = true)]
async fn the_last_stable_offset_waits_for_durable_markers() {
    let world = World::new(51);
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    assert_eq!(acked(&log, batch(1, 2, 50)).await, Offset(0));
    acked(&log, within(7, 0, 0, 3)).await;
    acked(&log, within(8, 0, 0, 1)).await;
    acked(&log, batch(2, 1, 50)).await;
    assert_eq!(log.offsets().last_stable, Offset(2));
    assert_eq!(log.bytes_available(Offset(2), ReadLimit::LastStable, 1), 0);
    let open = log.open_transaction(ProducerId(7)).await.unwrap().expect("it is open");
    assert_eq!((open.epoch, open.first_offset), (0, Offset(2)));
    let marked = mark(&log, 7, 0, Commit, MarkerRule::V1).await.unwrap();
    assert_eq!(log.offsets().last_stable, Offset(2), "the marker is not durable");
    assert_eq!(log.open_transaction(ProducerId(7)).await, Ok(None));
    marked.durable.await.unwrap();
    assert_eq!(log.offsets().last_stable, Offset(5), "the other one is open");
    assert_eq!(ended(&log, 8, 0, Abort).await, Offset(8));
    assert_eq!(log.offsets().last_stable, Offset(9));
    let all = log.aborted_transactions(Offset(0), Offset(9)).await;
    assert_eq!(all, Ok(vec![aborted(8, 5, 8)]));
    assert_eq!(log.aborted_transactions(Offset(0), Offset(5)).await, Ok(vec![]));
    let behind = log.aborted_transactions(Offset(0), Offset(6)).await;
    assert_eq!(behind, Ok(vec![aborted(8, 5, 8)]), "its marker is behind the range");
    assert_eq!(log.aborted_transactions(Offset(9), Offset(9)).await, Ok(vec![]));
}

#[tokio::test(start_paused = true)]
async fn epochs_come_before_transactions_and_those_before_sequences() {
    let world = World::new(52);
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    acked(&log, within(7, 1, 0, 2)).await;
    let refused = log.append(produced(7, 0, 0, 1), None).await.unwrap_err();
    assert_eq!(refused, AppendError::StaleProducerEpoch { epoch: 0, current: 1 }, "a zombie");
    let refused = log.append(produced(7, 1, 2, 1), None).await.unwrap_err();
    assert!(matches!(refused, AppendError::InvalidTxnState { .. }), "outside of it: {refused}");
    let again = log.append(within(7, 1, 0, 2), None).await.unwrap();
    assert!(again.duplicate && again.base_offset == Offset(0), "A5");
    let zero = AppendRules { sequence: SequenceRule::Zero, ..AppendRules::default() };
    let refused = log.append_with(within(9, 0, 4, 1), None, zero).await.unwrap_err();
    assert_eq!(refused, AppendError::OutOfOrderSequence { expected: 0, sequence: 4 }, "KIP-890");
    // Asked, then aborted by somebody else, then written: it would hang for ever.
    ended(&log, 7, 1, Commit).await;
    let verification = Some(log.verification().await.unwrap());
    let rules = AppendRules { verification, ..AppendRules::default() };
    ended(&log, 7, 1, Abort).await;
    let refused = log.append_with(within(7, 1, 2, 1), None, rules).await.unwrap_err();
    assert!(matches!(refused, AppendError::InvalidTxnState { .. }), "{refused}");
    let verification = Some(log.verification().await.unwrap());
    let rules = AppendRules { verification, ..AppendRules::default() };
    log.append_with(within(7, 1, 2, 1), None, rules).await.expect("asked behind the marker");
    // It was open here when its batch was looked at, and nobody was asked.
    let verification = Some(log.verification().await.unwrap());
    let rules = AppendRules { verification, ..AppendRules::default() };
    log.append_with(within(7, 1, 3, 1), None, rules).await.expect("it is open");
    ended(&log, 7, 1, Abort).await;
    let refused = log.append_with(within(7, 1, 4, 1), None, rules).await.unwrap_err();
    assert!(matches!(refused, AppendError::InvalidTxnState { .. }), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn markers_are_judged_by_their_version() {
    let world = World::new(53);
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    acked(&log, within(7, 1, 0, 2)).await;
    let stale = |epoch| AppendError::StaleProducerEpoch { epoch, current: 1 };
    assert_eq!(mark(&log, 7, 0, Commit, MarkerRule::V1).await.unwrap_err(), stale(0));
    assert_eq!(mark(&log, 7, 1, Commit, MarkerRule::V2).await.unwrap_err(), stale(1));
    let first = mark(&log, 7, 2, Commit, MarkerRule::V2).await.unwrap();
    let again = mark(&log, 7, 2, Commit, MarkerRule::V2).await.unwrap();
    assert_eq!((again.duplicate, again.base_offset), (true, first.base_offset));
    assert_eq!(log.offsets().high_watermark, Offset(2), "neither is durable yet");
    again.durable.await.expect("the first one is on its way");
    assert_eq!(log.offsets().high_watermark, Offset(3));
    assert_eq!(log.offsets().end, Offset(3), "nothing was written twice");
    let late = EndTxnMarker { result: Abort, coordinator_epoch: 2 };
    let refused = log.append_marker(ProducerId(7), 3, late, MarkerRule::V2).await.unwrap_err();
    assert_eq!(refused, AppendError::StaleCoordinatorEpoch { epoch: 2, current: 3 });
    assert_eq!(log.append(within(7, 2, 0, 1), None).await.unwrap().base_offset, Offset(3));
}

#[tokio::test(start_paused = true)]
async fn a_restart_knows_what_is_open_before_it_serves_committed_records() {
    let mut world = World::new(54);
    world.options.producer_expiration_ms = 1000;
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    acked(&log, within(7, 0, 0, 3)).await;
    acked(&log, batch(1, 4, 50)).await;
    life.engine.flush_all().await;
    world.sleep(Duration::from_secs(60)).await;
    log.expire_producers(world.environment.clock.wall());
    acked(&log, batch(2, 1, 50)).await;
    assert_eq!(log.offsets().last_stable, Offset(0), "an open transaction never expires");
    world.crash(life).await;
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    let committed = log.read(Offset(0), 10_000, true, ReadLimit::LastStable).await.unwrap();
    assert_eq!((committed.bytes, committed.end), (0, Offset(0)), "A8");
    let states = log.producer_states().await.unwrap();
    assert_eq!(states[0].transaction_start, Some(Offset(0)));
    assert_eq!(ended(&log, 7, 0, Abort).await, Offset(8));
    assert_eq!(log.offsets().last_stable, Offset(9));
    life.engine.flush_all().await;
    world.crash(life).await;
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    let found = log.aborted_transactions(Offset(1), Offset(2)).await;
    assert_eq!(found, Ok(vec![aborted(7, 0, 8)]));
    log.load_producers().await.unwrap();
    assert_eq!(log.offsets().last_stable, Offset(9));
}

#[tokio::test(start_paused = true)]
async fn deleted_records_take_their_open_transaction_along() {
    let world = World::new(55);
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    acked(&log, within(7, 0, 0, 3)).await;
    life.engine.flush_all().await;
    acked(&log, batch(1, 4, 50)).await;
    log.delete_before(Offset(5)).await.unwrap();
    assert_eq!(log.offsets().last_stable, Offset(5), "L4");
    assert_eq!(ended(&log, 7, 0, Abort).await, Offset(7));
    assert_eq!(log.offsets().last_stable, Offset(8));
    let found = log.aborted_transactions(Offset(5), Offset(8)).await;
    assert_eq!(found, Ok(vec![aborted(7, 0, 7)]), "it overlaps what is left");
    let found = log.aborted_transactions(Offset(0), Offset(3)).await;
    assert!(matches!(found, Err(ReadError::OffsetOutOfRange { .. })), "{found:?}");
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_commit_forgets_no_last_stable_offset() {
    let world = World::new(56);
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    acked(&log, batch(1, 4, 50)).await;
    world.runs.lose_answers(1);
    life.engine.flush_all().await;
    let offsets = log.offsets();
    assert_eq!((offsets.committed_end, offsets.last_stable), (Offset(4), Offset(4)));
    acked(&log, within(7, 0, 0, 3)).await;
    world.runs.lose_answers(1);
    life.engine.flush_all().await;
    world.crash(life).await;
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    log.load_producers().await.unwrap();
    assert_eq!(log.offsets().last_stable, Offset(4), "the transaction is open");
}

/// Goal: a reader of committed records asks for aborted transactions exactly where there may be some, and is never
/// told less than a search of all indexes finds (A8), wherever the batches lie.
/// Method: plain, committed and aborted batches, cut at every offset and size, in the tail, in runs, after a restart
/// and merged; what was read is compared with the headers of its bytes.
#[tokio::test(start_paused = true)]
async fn no_read_that_has_aborted_records_in_it_is_spared_the_question() {
    let world = World::new(57);
    let mut life = world.start().await;
    let mut log = world.host(&life, partition(0));
    for label in 0..3 {
        acked(&log, batch(label, 2, 50)).await;
    }
    acked(&log, within(7, 0, 0, 2)).await;
    acked(&log, batch(3, 1, 50)).await;
    acked(&log, within(8, 0, 0, 1)).await;
    acked(&log, batch(4, 3, 50)).await;
    ended(&log, 8, 0, Commit).await;
    life.engine.flush_all().await;
    acked(&log, batch(5, 2, 50)).await;
    ended(&log, 7, 0, Abort).await;
    acked(&log, batch(6, 2, 50)).await;
    for place in ["run and tail", "runs", "runs after a restart"] {
        let (mut spared, mut told) = (0, 0);
        for from in 0..log.offsets().high_watermark.0 {
            for bytes_max in [1, 150, 300, 600, 1 << 20] {
                let from = Offset(from);
                let read = log.read(from, bytes_max, true, ReadLimit::LastStable).await;
                let read = read.expect("it is readable");
                let headers = read.chunks.iter().cloned().flat_map(batches);
                let mut headers = headers.map(|it| it.expect("whole batches").0);
                let has_some = headers.any(|it| it.attributes.is_transactional());
                assert_eq!(read.is_transactional, has_some, "{place}: {from}, {bytes_max}");
                let answer = log.aborted_among(from, &read).await.expect("it is known");
                let all = log.aborted_transactions(from, read.end).await.expect("it is known");
                if has_some {
                    assert_eq!(answer, all, "{place}: {from}, {bytes_max}");
                    told += answer.len();
                } else {
                    assert_eq!(answer, [], "{place}: {from}, {bytes_max}");
                    spared += 1;
                }
            }
        }
        assert!(10 < spared && 10 < told, "{place}: {spared} spared, {told} told");
        life.engine.flush_all().await;
        if place == "runs" {
            world.crash(life).await;
            life = world.start().await;
            log = world.host(&life, partition(0));
            log.load_producers().await.expect("they are readable");
        }
    }
}
