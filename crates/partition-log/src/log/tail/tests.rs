use super::*;
use proptest::prelude::*;
use protocol::records::Attributes;
use vocabulary::Timestamp;

const EPOCH: LeaderEpoch = LeaderEpoch(1);

fn entry(base: i64, count: i32, length: u32) -> BatchEntry {
    BatchEntry {
        base_offset: Offset(base),
        last_offset_delta: count - 1,
        position: 0,
        length,
        base_timestamp: Timestamp(0),
        max_timestamp: Timestamp(0),
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        record_count: count,
        attributes: Attributes(0),
        marker: None,
    }
}

fn bytes_of(base: i64, length: u32) -> Bytes {
    Bytes::from(vec![base as u8; length as usize])
}

fn place(sequence: u64, position: u64, length: u32) -> WalPlace {
    WalPlace { sequence, position, length }
}

/// Three batches of two records and 10 bytes: 0, 2 and 4, all durable in WAL segment 9.
fn three() -> Tail {
    let mut tail = Tail::default();
    for base in [0, 2, 4] {
        tail.push(entry(base, 2, 10), EPOCH, bytes_of(base, 10));
    }
    for base in [0, 2, 4] {
        tail.mark_durable(Offset(base + 2), place(9, 100 + base as u64 * 5, 10));
    }
    tail
}

#[test]
fn a_read_starts_with_the_batch_that_contains_the_offset() {
    let tail = three();
    let stretch = tail.stretch(Offset(3), Offset(6), 1000, false).unwrap();
    assert_eq!((stretch.base, stretch.end, stretch.bytes), (Offset(2), Offset(6), 20));
    let stretch = tail.stretch(Offset(0), Offset(6), 15, false).unwrap();
    assert_eq!((stretch.end, stretch.bytes), (Offset(2), 10));
    assert_eq!(tail.stretch(Offset(0), Offset(6), 5, false), None);
    assert_eq!(tail.stretch(Offset(0), Offset(6), 5, true).unwrap().end, Offset(2));
    assert_eq!(tail.stretch(Offset(4), Offset(5), 1000, true), None, "the limit cuts no batch");
}

#[test]
fn neighbours_in_the_wal_are_read_as_one() {
    let mut tail = three();
    assert!(tail.demote(Offset(0)));
    assert!(tail.demote(Offset(2)));
    assert!(!tail.demote(Offset(2)), "memory had let go of it before");
    let stretch = tail.stretch(Offset(0), Offset(6), 1000, false).unwrap();
    let expected = [Piece::Wal(place(9, 100, 20)), Piece::Memory(bytes_of(4, 10))];
    assert_eq!(stretch.pieces, expected);
}

#[test]
fn what_is_committed_stays_only_while_memory_holds_it() {
    let mut tail = three();
    tail.demote(Offset(0));
    tail.commit(Offset(4));
    assert_eq!(tail.base(), Some(Offset(2)));
    assert_eq!(tail.needed_sequence(), Some(9));
    assert!(!tail.is_flushed());
    tail.commit(Offset(6));
    assert!(tail.is_flushed() && !tail.is_empty());
    assert_eq!(tail.needed_sequence(), None);
    assert!(tail.demote(Offset(2)) && tail.demote(Offset(4)));
    assert!(tail.is_empty());
}

#[test]
#[should_panic(expected = "A2")]
fn durability_out_of_order_is_a_broken_invariant() {
    let mut tail = Tail::default();
    tail.push(entry(0, 1, 10), EPOCH, bytes_of(0, 10));
    tail.push(entry(1, 1, 10), EPOCH, bytes_of(1, 10));
    tail.mark_durable(Offset(2), place(1, 64, 10));
}

#[test]
#[should_panic(expected = "A2")]
fn what_is_not_durable_is_not_committed() {
    let mut tail = Tail::default();
    tail.push(entry(0, 1, 10), EPOCH, bytes_of(0, 10));
    tail.commit(Offset(1));
}

#[derive(Debug, Clone)]
enum Op {
    Push { count: i32, length: u32 },
    Durable,
    Commit { batches: usize },
    DemoteOldest,
    Read { from: i64, bytes_max: usize, at_least_one: bool },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (1i32..4, 1u32..30).prop_map(|(count, length)| Op::Push { count, length }),
        3 => Just(Op::Durable),
        1 => (0usize..4).prop_map(|batches| Op::Commit { batches }),
        2 => Just(Op::DemoteOldest),
        3 => (0i64..60, 0usize..80, any::<bool>()).prop_map(|(from, bytes_max, at_least_one)| {
            Op::Read { from, bytes_max, at_least_one }
        }),
    ]
}

/// The whole history, never forgotten: (base, end, length).
#[derive(Debug, Default)]
struct Model {
    batches: Vec<(i64, i64, u32)>,
    durable: usize,
    committed: usize,
    in_memory: VecDeque<i64>,
}

proptest! {
    /// Against a model that forgets nothing: reads give the same batches, budgets the same sums.
    #[test]
    fn a_tail_equals_its_history(ops in prop::collection::vec(op(), 0..150)) {
        let (mut tail, mut model) = (Tail::default(), Model::default());
        for op in ops {
            let end = model.batches.last().map_or(0, |it| it.1);
            match op {
                Op::Push { count, length } => {
                    tail.push(entry(end, count, length), EPOCH, bytes_of(end, length));
                    model.batches.push((end, end + i64::from(count), length));
                }
                Op::Durable if model.durable < model.batches.len() => {
                    let (base, end, length) = model.batches[model.durable];
                    tail.mark_durable(Offset(end), place(model.durable as u64, 64, length));
                    model.durable += 1;
                    model.in_memory.push_back(base);
                }
                Op::Commit { batches } => {
                    let committed = (model.committed + batches).min(model.durable);
                    if model.committed < committed {
                        model.committed = committed;
                        tail.commit(Offset(model.batches[committed - 1].1));
                    }
                }
                Op::DemoteOldest => {
                    if let Some(base) = model.in_memory.pop_front() {
                        prop_assert!(tail.demote(Offset(base)));
                    }
                }
                Op::Durable => (),
                Op::Read { from, bytes_max, at_least_one } => {
                    check_read(&tail, &model, from, bytes_max, at_least_one)?;
                }
            }
            let unflushed = &model.batches[model.committed..model.durable];
            let costs = tail.costs();
            let sum: u64 = unflushed.iter().map(|it| cost(it.2)).sum();
            prop_assert_eq!(costs.unflushed, sum);
            prop_assert_eq!(costs.unflushed_batches, unflushed.len() as u64);
            let uncommitted = &model.batches[model.committed..];
            prop_assert_eq!(tail.is_flushed(), uncommitted.is_empty());
        }
    }
}

fn check_read(
    tail: &Tail,
    model: &Model,
    from: i64,
    bytes_max: usize,
    at_least_one: bool,
) -> Result<(), TestCaseError> {
    let Some(base) = tail.base().filter(|base| base.0 <= from) else { return Ok(()) };
    prop_assert!(model.batches.iter().any(|it| it.0 == base.0));
    let limit = model.batches[..model.durable].last().map_or(0, |it| it.1);
    let mut expected = Vec::new();
    let mut bytes = 0;
    for (base, end, length) in model.batches[..model.durable].iter().filter(|it| from < it.1) {
        let fits = bytes + *length as usize <= bytes_max || (expected.is_empty() && at_least_one);
        if !fits {
            break;
        }
        bytes += *length as usize;
        expected.push((*base, *end));
    }
    let available = tail.bytes_between(Offset(from), Offset(limit));
    let all: u64 = model.batches[..model.durable]
        .iter()
        .filter(|it| from < it.1)
        .map(|it| u64::from(it.2))
        .sum();
    prop_assert_eq!(available, all);
    match tail.stretch(Offset(from), Offset(limit), bytes_max, at_least_one) {
        None => prop_assert!(expected.is_empty()),
        Some(stretch) => {
            prop_assert_eq!(stretch.bytes, bytes);
            prop_assert_eq!(stretch.base.0, expected[0].0);
            prop_assert_eq!(Some(stretch.end.0), expected.last().map(|it| it.1));
            let in_pieces: usize = stretch
                .pieces
                .iter()
                .map(|piece| match piece {
                    Piece::Memory(bytes) => bytes.len(),
                    Piece::Wal(place) => place.length as usize,
                })
                .sum();
            prop_assert_eq!(in_pieces, bytes);
        }
    }
    Ok(())
}
