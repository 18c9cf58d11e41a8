use super::*;
use protocol::records::Attributes;

fn state(committed_end: i64) -> LogState {
    LogState {
        leader_epoch: LeaderEpoch(3),
        log_start: Offset(0),
        committed_end: Offset(committed_end),
        high_watermark: Offset(committed_end),
        end: Offset(committed_end),
        tail: None,
        epochs: EpochHistory::default(),
        producers: None,
        base_producers: None,
        undecided: Undecided::default(),
        is_tail_produced: false,
        may_have_leftovers: false,
        start_in_doubt: None,
        timeless_end: Offset::ZERO,
        committed_bytes: 0,
        counts_due: 0,
        counts_done: 0,
        is_off_budget: false,
    }
}

/// A run of batches of one record each, in WAL segment `sequence` and its leader epoch.
fn run(sequence: u64, epoch: i32, offsets: std::ops::Range<i64>) -> RecoveredRun {
    let batch = |(index, offset)| BatchEntry {
        base_offset: Offset(offset),
        last_offset_delta: 0,
        position: index as u64 * 100,
        length: 100,
        base_timestamp: Timestamp(0),
        max_timestamp: Timestamp(0),
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        record_count: 1,
        attributes: Attributes(0),
        marker: None,
    };
    RecoveredRun {
        sequence,
        leader_epoch: LeaderEpoch(epoch),
        position: 64,
        batches: offsets.enumerate().map(batch).collect(),
    }
}

fn spliced(committed_end: i64, runs: &[RecoveredRun]) -> Result<LogState, String> {
    let mut state = state(committed_end);
    state.splice(runs.to_vec()).map(|()| state)
}

#[test]
fn what_lies_beyond_the_committed_end_becomes_the_tail() {
    let state = spliced(3, &[run(7, 1, 0..2), run(8, 1, 2..5), run(9, 2, 5..6)]).unwrap();
    assert_eq!((state.high_watermark, state.end), (Offset(6), Offset(6)));
    let tail = state.tail.unwrap();
    assert_eq!((tail.base(), tail.needed_sequence()), (Some(Offset(3)), Some(8)));
    let stretch = tail.stretch(Offset(3), Offset(6), 1000, false).unwrap();
    let place = |sequence, position, length| Piece::Wal(WalPlace { sequence, position, length });
    assert_eq!(stretch.pieces, [place(8, 164, 200), place(9, 64, 100)]);
    assert_eq!(state.epochs.at(Offset(4)), Some(LeaderEpoch(1)));
    assert_eq!(state.epochs.at(Offset(5)), Some(LeaderEpoch(2)));
}

#[test]
fn nothing_beyond_it_is_no_tail() {
    assert!(spliced(5, &[run(7, 1, 0..5)]).unwrap().tail.is_none());
    assert!(spliced(5, &[]).unwrap().tail.is_none());
}

#[test]
fn gaps_and_overlaps_are_contradictions() {
    assert!(spliced(3, &[run(7, 1, 4..6)]).is_err(), "A3: a gap to the committed runs");
    assert!(spliced(0, &[run(7, 1, 0..2), run(8, 1, 3..4)]).is_err(), "A3: a gap");
    assert!(spliced(0, &[run(7, 1, 0..3), run(8, 1, 2..4)]).is_err(), "A3: an overlap");
    assert!(spliced(0, &[run(7, 1, 0..3), run(8, 1, 0..3)]).is_err(), "A3: twice the same");
}
