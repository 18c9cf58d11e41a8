use super::format::SnapshotError;
use super::*;
use bytes::Bytes;
use proptest::prelude::*;
use protocol::records::{EndTxnMarker, TransactionResult};

/// A marker of coordinator epoch 5.
fn ending(producer: i64, epoch: i16, base: i64, result: TransactionResult) -> ProducedBatch {
    let marker = EndTxnMarker { result, coordinator_epoch: 5 };
    let marker = Some(MarkerEntry { marker, first_offset: None });
    let batch = batch(producer, epoch, -1, 1, base);
    ProducedBatch { is_control: true, is_transactional: true, marker, ..batch }
}

fn transactional(batch: ProducedBatch) -> ProducedBatch {
    ProducedBatch { is_transactional: true, ..batch }
}

const NOW: Timestamp = Timestamp(1_000);

fn batch(producer: i64, epoch: i16, base_sequence: i32, count: i32, base: i64) -> ProducedBatch {
    ProducedBatch {
        producer: ProducerId(producer),
        epoch,
        base_sequence,
        base_offset: Offset(base),
        last_offset_delta: count - 1,
        timestamp: Timestamp(base * 10),
        is_transactional: false,
        is_control: false,
        marker: None,
    }
}

fn judge(table: &ProducerTable, batch: &ProducedBatch) -> Verdict {
    table.judge(batch, SequenceRule::Any, None)
}

fn table(batches: &[ProducedBatch]) -> ProducerTable {
    let mut table = ProducerTable::default();
    for batch in batches {
        assert_eq!(judge(&table, batch), Verdict::Append, "{batch:?}");
        table.replay(batch, NOW);
    }
    table
}

#[test]
fn without_state_any_sequence_is_taken() {
    assert_eq!(judge(&ProducerTable::default(), &batch(7, 3, 4711, 1, 0)), Verdict::Append);
}

#[test]
fn the_last_five_batches_are_recognised_and_older_ones_are_gaps() {
    let batches: Vec<_> = (0..6).map(|n| batch(7, 0, n * 2, 2, i64::from(n) * 2)).collect();
    let table = table(&batches);
    for old in &batches[1..] {
        let Verdict::Duplicate(seen) = judge(&table, old) else { panic!("{old:?}") };
        assert_eq!((seen.base_offset, seen.timestamp), (old.base_offset, old.timestamp));
        assert_eq!(seen.end_offset(), old.base_offset.plus(2));
    }
    assert_eq!(judge(&table, &batches[0]), Verdict::OutOfOrder { expected: 12 });
    assert_eq!(judge(&table, &batch(7, 0, 13, 1, 0)), Verdict::OutOfOrder { expected: 12 });
    // The same start with another length is not the same batch.
    assert_eq!(judge(&table, &batch(7, 0, 10, 1, 0)), Verdict::OutOfOrder { expected: 12 });
}

#[test]
fn sequences_wrap_to_zero() {
    let table = table(&[batch(7, 0, i32::MAX - 1, 2, 0)]);
    assert_eq!(judge(&table, &batch(7, 0, 0, 1, 0)), Verdict::Append);
    assert_eq!(judge(&table, &batch(7, 0, 1, 1, 0)), Verdict::OutOfOrder { expected: 0 });
    let across = self::table(&[batch(8, 0, i32::MAX, 3, 0)]);
    assert_eq!(judge(&across, &batch(8, 0, 2, 1, 0)), Verdict::Append);
}

#[test]
fn a_new_epoch_starts_at_zero_and_ends_the_old_one() {
    let mut table = table(&[batch(7, 1, 5, 1, 0)]);
    assert_eq!(judge(&table, &batch(7, 2, 6, 1, 0)), Verdict::OutOfOrder { expected: 0 });
    let first = batch(7, 2, 0, 1, 1);
    assert_eq!(judge(&table, &first), Verdict::Append);
    table.replay(&first, NOW);
    assert_eq!(judge(&table, &batch(7, 1, 6, 1, 0)), Verdict::StaleEpoch { current: 2 });
    assert_eq!(judge(&table, &batch(7, 1, 5, 1, 0)), Verdict::StaleEpoch { current: 2 });
    assert_eq!(judge(&table, &batch(7, 2, 1, 1, 0)), Verdict::Append);
}

#[test]
fn idle_producers_are_forgotten_not_missed() {
    let mut table = table(&[batch(7, 0, 0, 1, 0)]);
    table.expire(Timestamp(NOW.0 + 99), 100);
    assert_eq!(judge(&table, &batch(7, 0, 9, 1, 0)), Verdict::OutOfOrder { expected: 1 });
    table.expire(Timestamp(NOW.0 + 100), 100);
    assert_eq!(judge(&table, &batch(7, 0, 9, 1, 0)), Verdict::Append);
}

#[test]
fn producers_are_bounded_and_the_longest_idle_go_first() {
    let mut table = ProducerTable::default();
    for producer in 0..=PRODUCERS_MAX as i64 {
        table.replay(&batch(producer, 0, 0, 1, producer), Timestamp(producer));
    }
    assert!(table.states().len() <= PRODUCERS_MAX);
    let last = batch(PRODUCERS_MAX as i64, 0, 5, 1, 0);
    assert_eq!(judge(&table, &last), Verdict::OutOfOrder { expected: 1 });
    assert_eq!(judge(&table, &batch(0, 0, 5, 1, 0)), Verdict::Append);
}

#[test]
fn a_marker_raises_the_epoch_and_takes_no_sequence() {
    let mut table = table(&[batch(7, 1, 0, 3, 0)]);
    table.replay(&ending(7, 2, 3, TransactionResult::Abort), NOW);
    assert_eq!(judge(&table, &batch(7, 1, 3, 1, 0)), Verdict::StaleEpoch { current: 2 });
    assert_eq!(judge(&table, &batch(7, 2, 0, 1, 0)), Verdict::Append);
}

#[test]
fn a_coordinator_writes_in_a_transaction_without_sequences() {
    let offsets = |epoch, base| transactional(batch(7, epoch, -1, 1, base));
    let table = table(&[offsets(0, 0), offsets(0, 1), ending(7, 1, 2, TransactionResult::Commit)]);
    assert_eq!(judge(&table, &offsets(0, 3)), Verdict::StaleEpoch { current: 1 });
    assert_eq!(judge(&table, &offsets(1, 3)), Verdict::Append);
    assert_eq!(table.states()[0].last_sequence, -1);
}

#[test]
fn the_snapshot_format_is_pinned() {
    let golden = "02 03000000 \
         0700000000000000 0100 e803000000000000 01 \
         05000000 01000000 2a00000000000000 a401000000000000 00 \
         0800000000000000 0200 e803000000000000 01 \
         00000000 00000000 2c00000000000000 b801000000000000 \
         01 ffffffff b801000000000000 ffffffffffffffff 2c00000000000000 b801000000000000 \
         0900000000000000 0000 e803000000000000 00 \
         01 05000000 c201000000000000 2d00000000000000 ffffffffffffffff ffffffffffffffff";
    let bytes = hex(golden);
    let mut table = table(&[batch(7, 1, 5, 2, 42), transactional(batch(8, 2, 0, 1, 44))]);
    table.replay(&ending(9, 0, 45, TransactionResult::Commit), NOW);
    assert_eq!(table.encode(), Bytes::from(bytes.clone()));
    assert_eq!(ProducerTable::decode(&bytes), Ok(table));
    assert_eq!(ProducerTable::decode(&[3]), Err(SnapshotError::UnknownVersion { version: 3 }));
    assert_eq!(ProducerTable::decode(&[]), Ok(ProducerTable::default()));
    for end in 1..bytes.len() {
        assert!(ProducerTable::decode(&bytes[..end]).is_err(), "cut at {end}");
    }
}

#[test]
fn snapshots_of_version_1_are_read() {
    let old = "01 02000000 \
         0700000000000000 0100 e803000000000000 01 \
         05000000 01000000 2a00000000000000 a401000000000000 \
         0900000000000000 0000 e803000000000000 00";
    let states = ProducerTable::decode(&hex(old)).unwrap().states();
    assert_eq!(states.iter().map(|it| it.last_sequence).collect::<Vec<_>>(), [6, -1]);
    assert!(states.iter().all(|it| it.transaction_start.is_none()));
}

fn hex(text: &str) -> Vec<u8> {
    text.split_whitespace()
        .flat_map(|word| (0..word.len()).step_by(2).map(|at| &word[at..at + 2]))
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect()
}

#[test]
fn an_open_transaction_keeps_its_producer() {
    let mut table = ProducerTable::default();
    table.replay(&transactional(batch(-7, 0, 0, 1, 0)), Timestamp(0));
    for producer in 0..=PRODUCERS_MAX as i64 {
        table.replay(&batch(producer, 0, 0, 1, producer + 1), Timestamp(producer + 1));
    }
    table.expire(Timestamp(i64::MAX), 1);
    let left = table.states();
    assert_eq!(left.iter().map(|it| it.producer.0).collect::<Vec<_>>(), [-7], "P4");
    assert_eq!(table.first_open(), Some(Offset(0)));
}

#[test]
fn as_many_transactions_are_open_as_are_remembered() {
    let mut table = ProducerTable::default();
    for producer in 0..PRODUCERS_MAX as i64 {
        table.replay(&transactional(batch(producer, 0, 0, 1, producer)), NOW);
    }
    let next = transactional(batch(PRODUCERS_MAX as i64, 0, 0, 1, 0));
    assert_eq!(judge(&table, &next), Verdict::TooManyOpen);
    assert_eq!(judge(&table, &transactional(batch(3, 0, 1, 1, 0))), Verdict::Append);
    table.replay(&ending(3, 0, 99_999, TransactionResult::Commit), NOW);
    assert_eq!(judge(&table, &next), Verdict::Append);
}

/// One step of an adversarial client population: sometimes in order, sometimes not.
fn step() -> impl Strategy<Value = (i64, i16, i32, i32)> {
    (0i64..4, 0i16..3, -2i32..4, 1i32..4)
}

/// A log made of whatever a table accepts, in order.
fn accepted(steps: &[(i64, i16, i32, i32)]) -> Vec<ProducedBatch> {
    let mut table = ProducerTable::default();
    let (mut log, mut end): (Vec<ProducedBatch>, i64) = (Vec::new(), 0);
    for (producer, epoch, skew, count) in steps {
        let last = table.states().into_iter().find(|it| it.producer.0 == *producer);
        let next = match last {
            Some(state) if state.epoch == *epoch => state.last_sequence + 1,
            _ => 0,
        };
        let produced = batch(*producer, *epoch, (next + skew.min(&0)).max(0), *count, end);
        match judge(&table, &produced) {
            Verdict::Append => {
                table.replay(&produced, NOW);
                log.push(produced);
                end += i64::from(*count);
            }
            Verdict::Duplicate(seen) => {
                let original = log.iter().rev().find(|it| {
                    it.producer == produced.producer
                        && it.epoch == produced.epoch
                        && it.base_sequence == produced.base_sequence
                });
                let original = original.expect("a duplicate has an original");
                assert_eq!(seen.base_offset, original.base_offset, "P1");
            }
            Verdict::StaleEpoch { .. } | Verdict::OutOfOrder { .. } => (),
            Verdict::WrongTransaction { .. } | Verdict::TooManyOpen => unreachable!(),
        }
    }
    log
}

proptest! {
    /// P2: a snapshot anywhere plus the batches behind it is the table at the end.
    #[test]
    fn a_snapshot_and_what_follows_it_is_the_whole(
        steps in prop::collection::vec(step(), 0..120),
        cut in 0usize..120,
    ) {
        let log = accepted(&steps);
        let cut = cut.min(log.len());
        let mut whole = ProducerTable::default();
        log.iter().for_each(|it| whole.replay(it, NOW));
        let mut part = ProducerTable::default();
        log[..cut].iter().for_each(|it| part.replay(it, NOW));
        let mut resumed = ProducerTable::decode(&part.encode()).unwrap();
        prop_assert_eq!(&resumed, &part);
        log[cut..].iter().for_each(|it| resumed.replay(it, NOW));
        prop_assert_eq!(&resumed, &whole);
    }

    /// P2 and P4 with transactions: wherever the snapshot is taken, the same ones are open behind it.
    #[test]
    fn transactions_survive_a_snapshot_anywhere(
        steps in prop::collection::vec((0i64..4, 0u8..4), 0..80),
        cut in 0usize..80,
    ) {
        let mut sequences = [0; 4];
        let log: Vec<_> = (0i64..).zip(&steps).map(|(offset, (producer, kind))| match kind {
            0 => ending(*producer, 0, offset, TransactionResult::Commit),
            _ => {
                let sequence = &mut sequences[*producer as usize];
                *sequence += 1;
                transactional(batch(*producer, 0, *sequence - 1, 1, offset))
            }
        }).collect();
        let mut whole = ProducerTable::default();
        let mut open = BTreeMap::new();
        for it in &log {
            match it.is_control {
                true => drop(open.remove(&it.producer)),
                false => drop(open.entry(it.producer).or_insert(it.base_offset)),
            }
            whole.replay(it, NOW);
            prop_assert_eq!(whole.first_open(), open.values().min().copied());
        }
        let (before, behind) = log.split_at(cut.min(log.len()));
        let mut part = ProducerTable::default();
        before.iter().for_each(|it| part.replay(it, NOW));
        let mut resumed = ProducerTable::decode(&part.encode()).unwrap();
        behind.iter().for_each(|it| resumed.replay(it, NOW));
        prop_assert_eq!(&resumed, &whole);
    }

    /// P1: each of a producer's last five is a duplicate with its own offset.
    #[test]
    fn the_last_five_are_always_duplicates(steps in prop::collection::vec(step(), 0..120)) {
        let log = accepted(&steps);
        let mut table = ProducerTable::default();
        log.iter().for_each(|it| table.replay(it, NOW));
        for state in table.states() {
            let mine = log.iter().rev().filter(|it| it.producer == state.producer);
            let current: Vec<_> = mine.take_while(|it| it.epoch == state.epoch).collect();
            for seen in current.into_iter().take(BATCHES_MAX) {
                let Verdict::Duplicate(found) = judge(&table, seen) else {
                    return Err(TestCaseError::fail(format!("{seen:?} is not recognised")));
                };
                prop_assert_eq!(found.base_offset, seen.base_offset);
            }
        }
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = ProducerTable::decode(&bytes);
        for version in [1, 2] {
            let mut versioned = vec![version, 1, 0, 0, 0];
            versioned.extend(&bytes);
            let _ = ProducerTable::decode(&versioned);
        }
    }
}
