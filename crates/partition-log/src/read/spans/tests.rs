use super::*;

const SPAN: usize = 1000;

fn key(number: u64) -> SpanKey {
    SpanKey { segment: SegmentName::data(1), position: number * SPAN as u64, length: SPAN as u64 }
}

fn bytes(number: u64) -> Bytes {
    Bytes::from(vec![number as u8; SPAN])
}

/// Room for so many spans in each of the two shares.
fn spans(each: u64) -> Spans {
    Spans::new(2 * each * (SPAN as u64 + ENTRY_BYTES) + 200)
}

#[test]
fn a_scan_of_lagging_readers_evicts_nothing_of_the_tail() {
    let spans = spans(20);
    for number in 0..10 {
        spans.insert(key(number), bytes(number), Class::Tail);
    }
    for number in 100..1000 {
        spans.insert(key(number), bytes(number), Class::Lagging);
        spans.insert_ahead(key(number + 1000), bytes(number));
    }
    for number in 0..10 {
        assert_eq!(spans.get(&key(number), Class::Tail), Some(bytes(number)), "{number}");
    }
}

#[test]
fn what_was_read_ahead_outlives_what_was_read() {
    let spans = spans(10);
    for number in 0..6 {
        spans.insert_ahead(key(100 + number), bytes(number));
    }
    for number in 0..50 {
        spans.insert(key(number), bytes(number), Class::Lagging);
    }
    for number in 0..6 {
        let found = spans.get(&key(100 + number), Class::Lagging);
        assert_eq!(found, Some(bytes(number)), "{number}");
    }
    assert_eq!(spans.take_fates(), AheadFates { useful: 6, wasted: 0 });
    assert_eq!(spans.ahead_bytes(), 0, "what was asked for is not ahead any more");
}

#[test]
fn what_is_read_ahead_in_vain_is_bounded_and_counted() {
    let spans = spans(10);
    for number in 0..50 {
        spans.insert_ahead(key(number), bytes(number));
        assert!(spans.ahead_bytes() <= spans.ahead_bytes_max());
    }
    let kept = (0..50).filter(|it| spans.contains(&key(*it))).count() as u64;
    assert_eq!(spans.take_fates(), AheadFates { useful: 0, wasted: 50 - kept });
    assert_eq!(kept, spans.ahead_bytes_max() / (SPAN as u64 + ENTRY_BYTES));
}

#[test]
fn the_longest_unread_goes_first_and_the_share_keeps_its_bound() {
    let spans = spans(4);
    for number in 0..4 {
        spans.insert(key(number), bytes(number), Class::Lagging);
    }
    assert!(spans.get(&key(0), Class::Lagging).is_some());
    spans.insert(key(4), bytes(4), Class::Lagging);
    let kept: Vec<u64> = (0..5).filter(|it| spans.contains(&key(*it))).collect();
    assert_eq!(kept, [0, 2, 3, 4]);
    assert!(spans.bytes() <= 4 * (SPAN as u64 + ENTRY_BYTES));
}

#[test]
fn a_tail_reader_takes_over_what_others_had_loaded() {
    let spans = spans(4);
    spans.insert_ahead(key(1), bytes(1));
    assert_eq!(spans.get(&key(1), Class::Tail), Some(bytes(1)));
    for number in 10..30 {
        spans.insert(key(number), bytes(number), Class::Lagging);
    }
    assert_eq!(spans.get(&key(1), Class::Lagging), Some(bytes(1)), "both may use it");
}

#[test]
fn a_share_smaller_than_a_span_keeps_nothing() {
    let spans = Spans::new(100);
    spans.insert(key(1), bytes(1), Class::Lagging);
    spans.insert_ahead(key(2), bytes(2));
    assert_eq!(spans.get(&key(1), Class::Lagging), None);
    assert_eq!(spans.bytes(), 0);
}
