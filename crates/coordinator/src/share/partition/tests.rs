use proptest::prelude::*;
use vocabulary::{Partition, TopicId};

use super::*;

const BOUNDS: ShareLimits = ShareLimits { locks_max: 12, delivery_count_limit: 3 };
const LOCK_MS: u64 = 10;
const MEMBERS: [&str; 3] = ["a", "b", "c"];
/// The log of every test: batches of a few offsets, holes, a marker.
const LOG: [LogBatch; 7] = [
    batch(0, 4, false),
    batch(5, 5, false),
    batch(8, 11, false),
    batch(12, 12, true),
    batch(13, 20, false),
    batch(21, 22, false),
    batch(26, 40, false),
];

const fn batch(first: i64, last: i64, is_withheld: bool) -> LogBatch {
    LogBatch { first: Offset(first), last: Offset(last), is_withheld }
}

fn share() -> SharePartition {
    SharePartition::new(ShareImage::new(Offset(0), 0, 0), BOUNDS, Offset(0))
}

/// Makes a decision and applies what it changes, twice: that is harmless.
fn settle(share: &mut SharePartition, change: &Change) {
    for _ in 0..2 {
        share.apply(change.start, &change.spans);
    }
    share.check();
}

fn acquire(member: &str, from: i64, records_max: i64, is_exact: bool) -> Acquire {
    Acquire {
        group: "g".to_owned(),
        member: member.to_owned(),
        partition: Partition { topic: TopicId([1; 16]), index: 0 },
        from: Offset(from),
        batches: LOG.iter().copied().filter(|it| from <= it.last.0).collect(),
        records_max,
        is_exact,
        span_records: 100,
        lock_ms: LOCK_MS,
    }
}

fn take(share: &mut SharePartition, now: u64, acquire: &Acquire) -> Vec<(i64, i64, i16)> {
    let (spans, change) = share.acquire(Tick(now * 1000), BOUNDS, acquire);
    settle(share, &change);
    spans.iter().map(|it| (it.first.0, it.last.0, it.delivery_count)).collect()
}

fn told(first: i64, last: i64, kinds: &[AcknowledgeKind]) -> AcknowledgementBatch {
    AcknowledgementBatch { first: Offset(first), last: Offset(last), kinds: kinds.to_vec() }
}

fn acknowledge(
    share: &mut SharePartition,
    now: u64,
    member: &str,
    batches: &[AcknowledgementBatch],
) -> Result<(), ErrorCode> {
    let lock = Duration::from_millis(LOCK_MS);
    let change = share.acknowledge(Tick(now * 1000), BOUNDS, member, batches, lock)?;
    settle(share, &change);
    Ok(())
}

fn expire(share: &mut SharePartition, now: u64) {
    let change = share.expire(Tick(now * 1000), BOUNDS);
    settle(share, &change);
}

#[test]
fn two_members_share_a_partition_and_the_start_follows_what_is_done() {
    let mut share = share();
    assert_eq!(share.next_fetch(BOUNDS), NextFetch::Fresh(Offset(0)));
    assert_eq!(take(&mut share, 0, &acquire("a", 0, 3, false)), [(0, 4, 1)], "whole batches");
    assert_eq!(take(&mut share, 0, &acquire("b", 0, 1, false)), [(5, 5, 1)]);
    acknowledge(&mut share, 1, "b", &[told(5, 5, &[AcknowledgeKind::Accept])]).unwrap();
    assert_eq!(share.image.start, Offset(0), "what is before it is not done with");
    acknowledge(&mut share, 1, "a", &[told(0, 4, &[AcknowledgeKind::Accept])]).unwrap();
    assert_eq!((share.image.start, share.image.spans().count()), (Offset(6), 0));
    // Nothing lies at 6 and 7; at 12 there is a marker.
    assert_eq!(take(&mut share, 1, &acquire("a", 6, 100, true)), [(8, 11, 1), (13, 19, 1)]);
    assert_eq!(share.image.start, Offset(8));
    assert_eq!(
        share.next_fetch(BOUNDS),
        NextFetch::Full,
        "counted from the first that has a record"
    );
}

// A hole of compaction, or aborted records, may be longer than may be locked. While nothing is on its way they cost
// nothing: what lies behind them is acquired at once.
#[test]
fn a_hole_longer_than_may_be_locked_is_passed_at_once() {
    let beyond =
        |batches: &[LogBatch]| Acquire { batches: batches.to_vec(), ..acquire("a", 0, 5, true) };
    let mut share = share();
    let hole = [batch(1_000_000, 1_000_009, false)];
    assert_eq!(take(&mut share, 0, &beyond(&hole)), [(1_000_000, 1_000_004, 1)]);
    assert_eq!((share.image.start, share.image.spans().count()), (Offset(1_000_000), 0));

    let mut share = self::share();
    let withheld =
        [batch(0, 50, true), batch(60, 99, true), batch(150, 150, false), batch(155, 170, false)];
    assert_eq!(take(&mut share, 0, &beyond(&withheld)), [(150, 150, 1), (155, 158, 1)]);
    assert_eq!(share.image.start, Offset(150));

    // Nothing but what nobody gets: that is done with all the same.
    let mut share = self::share();
    assert_eq!(take(&mut share, 0, &beyond(&withheld[..2])), []);
    assert_eq!(
        (share.image.start, share.next_fetch(BOUNDS)),
        (Offset(100), NextFetch::Fresh(Offset(100)))
    );

    // What is on its way keeps what follows near, and lets it go when it is done with.
    let mut share = self::share();
    let log = [batch(0, 0, false), batch(100, 110, false)];
    assert_eq!(take(&mut share, 0, &beyond(&log)), [(0, 0, 1)]);
    assert_eq!(share.next_fetch(BOUNDS), NextFetch::Full);
    acknowledge(&mut share, 0, "a", &[told(0, 0, &[AcknowledgeKind::Accept])]).unwrap();
    assert_eq!(share.next_fetch(BOUNDS), NextFetch::Fresh(Offset(12)));
    let rest = Acquire { from: Offset(12), ..beyond(&log[1..]) };
    assert_eq!(take(&mut share, 0, &rest), [(100, 104, 1)]);
}

// Who looked before the start went back does not take the start along with it.
#[test]
fn only_what_was_read_from_the_start_on_is_passed() {
    let mut share = share();
    let late = Acquire { batches: vec![batch(30, 31, false)], ..acquire("a", 4, 5, true) };
    assert_eq!(take(&mut share, 0, &late), []);
    assert_eq!(
        (share.image.start, share.next_fetch(BOUNDS)),
        (Offset(0), NextFetch::Returned(Offset(0)))
    );
}

#[test]
fn released_records_come_back_and_rejected_ones_do_not() {
    let mut share = share();
    take(&mut share, 0, &acquire("a", 0, 5, false));
    use AcknowledgeKind::{Accept, Gap, Reject, Release};
    acknowledge(&mut share, 0, "a", &[told(0, 4, &[Release, Reject, Release, Gap, Accept])])
        .unwrap();
    assert_eq!(share.next_fetch(BOUNDS), NextFetch::Returned(Offset(0)));
    assert_eq!(take(&mut share, 0, &acquire("b", 0, 2, true)), [(0, 0, 2), (2, 2, 2)]);
    acknowledge(&mut share, 0, "b", &[told(0, 0, &[Release]), told(2, 2, &[Accept])]).unwrap();
    assert_eq!(take(&mut share, 0, &acquire("a", 0, 1, true)), [(0, 0, 3)]);
    acknowledge(&mut share, 0, "a", &[told(0, 0, &[Release])]).unwrap();
    assert_eq!(share.image.start, Offset(5), "delivered as often as may be");
}

#[test]
fn a_lock_runs_out_unless_it_is_renewed() {
    let mut share = share();
    take(&mut share, 0, &acquire("a", 0, 5, false));
    acknowledge(&mut share, 5, "a", &[told(3, 4, &[AcknowledgeKind::Renew])]).unwrap();
    assert_eq!(share.wake_at(), Some(Tick(10_000)));
    expire(&mut share, 10);
    assert_eq!(share.wake_at(), Some(Tick(15_000)));
    assert_eq!(take(&mut share, 11, &acquire("b", 0, 3, false)), [(0, 2, 2)]);
    let late = acknowledge(&mut share, 12, "a", &[told(2, 3, &[AcknowledgeKind::Accept])]);
    assert_eq!(late, Err(ErrorCode::InvalidRecordState));
    acknowledge(&mut share, 12, "a", &[told(3, 4, &[AcknowledgeKind::Accept])]).unwrap();
}

#[test]
fn who_goes_gives_back_what_it_has_as_if_it_had_not_been_delivered() {
    let mut share = share();
    take(&mut share, 0, &acquire("a", 0, 5, false));
    take(&mut share, 0, &acquire("b", 0, 1, false));
    let change = share.release("a");
    assert!(change.frees());
    settle(&mut share, &change);
    assert_eq!(take(&mut share, 0, &acquire("c", 0, 100, false))[0], (0, 4, 1));
}

#[test]
fn batches_that_make_no_sense_are_refused_as_a_whole() {
    let mut share = share();
    take(&mut share, 0, &acquire("a", 0, 5, false));
    use AcknowledgeKind::Accept;
    let before = share.image.clone();
    for (batches, code) in [
        (vec![told(3, 2, &[Accept])], ErrorCode::InvalidRequest),
        (vec![told(-1, 2, &[Accept])], ErrorCode::InvalidRequest),
        (vec![told(0, 2, &[Accept, Accept])], ErrorCode::InvalidRequest),
        (vec![told(0, 2, &[])], ErrorCode::InvalidRequest),
        (vec![told(2, 3, &[Accept]), told(0, 1, &[Accept])], ErrorCode::InvalidRequest),
        (vec![told(0, 5, &[Accept])], ErrorCode::InvalidRequest),
        (vec![told(0, i64::MAX, &[Accept])], ErrorCode::InvalidRequest),
        (vec![told(i64::MAX, i64::MAX, &[])], ErrorCode::InvalidRequest),
    ] {
        assert_eq!(acknowledge(&mut share, 0, "a", &batches), Err(code), "{batches:?}");
    }
    let foreign = acknowledge(&mut share, 0, "b", &[told(0, 0, &[Accept])]);
    assert_eq!(foreign, Err(ErrorCode::InvalidRecordState));
    assert_eq!(share.image, before);
    acknowledge(&mut share, 0, "a", &[told(0, 4, &[Accept])]).unwrap();
    let again = acknowledge(&mut share, 0, "a", &[told(0, 4, &[Accept])]);
    assert_eq!(again, Err(ErrorCode::InvalidRecordState), "nobody has it any more");
}

// As in Kafka: what is told of records below the start does not make what is told of others void.
#[test]
fn what_lies_below_the_start_is_passed_over_unless_nothing_else_is_told() {
    let mut share = share();
    take(&mut share, 0, &acquire("a", 0, 6, false));
    let change = share.follow_log_start(Offset(5));
    settle(&mut share, &change);
    use AcknowledgeKind::Accept;
    let below = Err(ErrorCode::InvalidRecordState);
    assert_eq!(
        acknowledge(&mut share, 0, "a", &[told(0, 1, &[Accept]), told(2, 4, &[Accept])]),
        below
    );
    acknowledge(&mut share, 0, "a", &[told(0, 4, &[Accept]), told(5, 5, &[Accept])]).unwrap();
    assert_eq!(share.image.start, Offset(6));
}

// As in Kafka: a request is invalid only where something is known to have gone out, and not that far.
#[test]
fn locks_that_a_load_or_a_new_start_took_are_no_invalid_request() {
    let mut share = share();
    take(&mut share, 0, &acquire("a", 0, 6, false));
    use AcknowledgeKind::{Accept, Release};
    acknowledge(&mut share, 0, "a", &[told(0, 1, &[Release])]).unwrap();
    // What a load leaves: the deliveries of two records.
    let mut loaded = SharePartition::new(share.image.clone(), BOUNDS, Offset(0));
    let late = |share: &mut SharePartition| acknowledge(share, 0, "a", &[told(2, 4, &[Accept])]);
    assert_eq!(late(&mut loaded), Err(ErrorCode::InvalidRequest));
    let mut moved = SharePartition::new(ShareImage::new(Offset(1), 0, 0), BOUNDS, Offset(0));
    assert_eq!(late(&mut moved), Err(ErrorCode::InvalidRecordState));
    // Something has gone out, but behind it.
    let behind = Acquire { batches: vec![batch(5, 5, false)], ..acquire("b", 5, 1, true) };
    take(&mut moved, 0, &behind);
    assert_eq!(
        acknowledge(&mut moved, 0, "a", &[told(2, 6, &[Accept])]),
        Err(ErrorCode::InvalidRecordState)
    );
}

#[test]
fn the_start_is_never_below_the_logs() {
    let mut share = share();
    take(&mut share, 0, &acquire("a", 0, 6, false));
    let change = share.follow_log_start(Offset(3));
    settle(&mut share, &change);
    assert_eq!(share.image.start, Offset(3));
    acknowledge(&mut share, 0, "a", &[told(0, 4, &[AcknowledgeKind::Accept])]).unwrap();
    assert_eq!(share.image.start, Offset(5));
    assert!(share.follow_log_start(Offset(4)).is_empty());
}

#[test]
fn spans_of_new_records_end_with_a_batch() {
    let mut share = share();
    let asked = Acquire { span_records: 2, ..acquire("a", 0, 9, false) };
    assert_eq!(take(&mut share, 0, &asked), [(0, 4, 1), (5, 5, 1), (8, 11, 1)]);
}

// Goal: one record that nobody can process is archived, and no other (KAFKA-17541). Method: whoever gets it with others
// loses all of them, by time or by giving them back.
#[test]
fn a_bad_record_does_not_take_its_neighbours_along() {
    for delivery_count_limit in 3..=10 {
        for bad in 0..=9 {
            let bounds = ShareLimits { locks_max: 100, delivery_count_limit };
            let mut share =
                SharePartition::new(ShareImage::new(Offset(0), 0, 0), bounds, Offset(0));
            let mut lost = Vec::new();
            let (mut now, mut accepted) = (0, 0);
            while share.image.start.0 < 10 {
                let (NextFetch::Returned(from) | NextFetch::Fresh(from)) = share.next_fetch(bounds)
                else {
                    panic!("there is something left");
                };
                let batches = vec![batch(0, 9, false)];
                let asked = Acquire { batches, ..acquire("a", from.0, 100, false) };
                let (spans, change) = share.acquire(Tick(now), bounds, &asked);
                settle(&mut share, &change);
                for it in &spans {
                    let (first, last) = (it.first.0, it.last.0);
                    let is_good = !(first..=last).contains(&bad);
                    let kind =
                        if is_good { AcknowledgeKind::Accept } else { AcknowledgeKind::Release };
                    let told = [told(first, last, &[kind])];
                    let lock = Duration::from_millis(LOCK_MS);
                    let change = share.acknowledge(Tick(now), bounds, "a", &told, lock).unwrap();
                    settle(&mut share, &change);
                    accepted += if is_good { last - first + 1 } else { 0 };
                    if !is_good && it.delivery_count == delivery_count_limit {
                        lost.push((first, last));
                    }
                }
                now += 1;
                assert!(now < 100, "it ends");
            }
            assert_eq!((lost, accepted), (vec![(bad, bad)], 9), "{bad} of {delivery_count_limit}");
        }
    }
}

/// One offset of the model.
#[derive(Debug, Clone, PartialEq)]
enum One {
    Available(i16),
    Locked(usize, u64, i16),
    Done,
}

#[derive(Debug, Clone)]
enum Step {
    Acquire { member: usize, records_max: i64, is_exact: bool },
    Acknowledge { member: usize, first: i64, kinds: Vec<AcknowledgeKind> },
    Release { member: usize },
    Wait(u64),
    LogStart(i64),
    Restart,
}

fn any_step() -> impl Strategy<Value = Step> {
    use AcknowledgeKind::{Accept, Gap, Reject, Release, Renew};
    let kind = prop_oneof![4 => Just(Accept), 2 => Just(Release), 1 => Just(Reject), 1 => Just(Gap), 1 => Just(Renew)];
    let kinds = proptest::collection::vec(kind, 1..6);
    let member = 0..MEMBERS.len();
    prop_oneof![
        4 => (member.clone(), 1i64..9, any::<bool>()).prop_map(|(member, records_max, is_exact)| {
            Step::Acquire { member, records_max, is_exact }
        }),
        6 => (member.clone(), 0i64..30, kinds)
            .prop_map(|(member, first, kinds)| Step::Acknowledge { member, first, kinds }),
        1 => member.prop_map(|member| Step::Release { member }),
        2 => (1u64..7).prop_map(Step::Wait),
        1 => (0i64..12).prop_map(Step::LogStart),
        1 => Just(Step::Restart),
    ]
}

/// Offset by offset, without ranges.
struct Model {
    start: usize,
    ones: Vec<One>,
    /// Beyond it nothing was ever acquired.
    end: usize,
}

impl Model {
    fn advance(&mut self) {
        while self.ones[self.start] == One::Done {
            self.start += 1;
        }
        self.end = self.end.max(self.start);
    }

    fn give_back(count: i16) -> One {
        if BOUNDS.delivery_count_limit <= count { One::Done } else { One::Available(count) }
    }

    fn expire(&mut self, now: u64) {
        for one in &mut self.ones {
            if let One::Locked(_, until, count) = *one
                && until <= now
            {
                *one = Model::give_back(count);
            }
        }
        self.advance();
    }
}

proptest! {
    // Goal: each offset goes the way the model says. Method: the model has a state an offset, and no ranges.
    #[test]
    fn a_share_partition_is_what_its_offsets_are(
        steps in proptest::collection::vec(any_step(), 1..60),
    ) {
        let mut share = share();
        let mut now = 0;
        let mut model = Model { start: 0, ones: vec![One::Available(0); 80], end: 0 };
        for step in steps {
            match step {
                Step::Acquire { member, records_max, is_exact } => {
                    let next = share.next_fetch(BOUNDS);
                    let in_flight = (model.end - model.start) as i64;
                    let returned = (model.start..model.end)
                        .find(|it| matches!(model.ones[*it], One::Available(_)));
                    let expected = match returned {
                        Some(it) => NextFetch::Returned(Offset(it as i64)),
                        None if BOUNDS.locks_max <= in_flight => NextFetch::Full,
                        None => NextFetch::Fresh(Offset(model.end as i64)),
                    };
                    prop_assert_eq!(next, expected);
                    let (NextFetch::Returned(from) | NextFetch::Fresh(from)) = next else { continue };
                    let asked = acquire(MEMBERS[member], from.0, records_max, is_exact);
                    let spans = take(&mut share, now, &asked);
                    let is_data = |it: i64| LOG.iter().any(|b| !b.is_withheld && b.first.0 <= it && it <= b.last.0);
                    // With nothing on its way, what has no record is passed before anything is counted.
                    while model.end == model.start && model.start < 40 && !is_data(model.start as i64) {
                        model.ones[model.start] = One::Done;
                        model.advance();
                    }
                    // What has no record is done with as soon as it is passed, others are locked as told.
                    let limit = (model.start as i64 + BOUNDS.locks_max - 1).max(model.end as i64 - 1);
                    let mut got = 0;
                    for (first, last, count) in &spans {
                        for offset in *first..=*last {
                            let one = model.ones[offset as usize].clone();
                            prop_assert_eq!(one, One::Available(count - 1), "{}", offset);
                            prop_assert!(offset <= limit);
                            let until = now + LOCK_MS;
                            model.ones[offset as usize] = One::Locked(member, until, *count);
                            got += 1;
                        }
                    }
                    prop_assert!(!is_exact || got <= records_max);
                    let last_attempt = |it: &(i64, i64, i16)| it.2 == BOUNDS.delivery_count_limit;
                    prop_assert!(got <= 1 || !spans.iter().any(last_attempt), "it goes alone");
                    for (first, last, it) in share.image.spans.iter() {
                        for offset in first..=last {
                            if it.state.is_done() && !is_data(offset) {
                                model.ones[offset as usize] = One::Done;
                                model.end = model.end.max(offset as usize + 1);
                            }
                        }
                    }
                    // Those at the start are not remembered any more.
                    for offset in model.start..share.image.start.0 as usize {
                        prop_assert!(model.ones[offset] == One::Done || !is_data(offset as i64));
                        model.ones[offset] = One::Done;
                    }
                    if let Some((_, last, _)) = spans.last() {
                        model.end = model.end.max(*last as usize + 1);
                    }
                    model.advance();
                    let has_data = (from.0..=limit).any(|it| is_data(it) && it <= 40);
                    prop_assert!(!spans.is_empty() || !has_data, "there was something to give");
                }
                Step::Acknowledge { member, first, kinds } => {
                    let last = first + kinds.len() as i64 - 1;
                    let result = acknowledge(&mut share, now, MEMBERS[member], &[told(first, last, &kinds)]);
                    let offsets = (first..=last).map(|it| it as usize).filter(|it| model.start <= *it);
                    let offsets: Vec<usize> = offsets.collect();
                    let holds = |it: &usize| matches!(model.ones[*it], One::Locked(who, _, _) if who == member);
                    if model.end as i64 <= last && model.start as i64 <= last {
                        let is_known = (model.start..=model.start.max(first as usize)).any(|it| {
                            model.ones[it] != One::Available(0) || share.image.spans.at(it as i64).is_some()
                        });
                        let code = if is_known { ErrorCode::InvalidRequest } else { ErrorCode::InvalidRecordState };
                        prop_assert_eq!(result, Err(code));
                    } else if !offsets.is_empty() && offsets.iter().all(holds) {
                        prop_assert_eq!(result, Ok(()));
                        for offset in offsets {
                            let One::Locked(who, _, count) = model.ones[offset] else { unreachable!() };
                            model.ones[offset] = match kinds[(offset as i64 - first) as usize] {
                                AcknowledgeKind::Release => Model::give_back(count),
                                AcknowledgeKind::Renew => One::Locked(who, now + LOCK_MS, count),
                                _ => One::Done,
                            };
                        }
                        model.advance();
                    } else {
                        prop_assert_eq!(result, Err(ErrorCode::InvalidRecordState));
                    }
                }
                Step::Release { member } => {
                    let change = share.release(MEMBERS[member]);
                    settle(&mut share, &change);
                    for one in &mut model.ones {
                        if let One::Locked(who, _, count) = *one && who == member {
                            *one = One::Available(count - 1);
                        }
                    }
                }
                Step::Wait(ms) => {
                    now += ms;
                    expire(&mut share, now);
                    model.expire(now);
                }
                Step::LogStart(offset) => {
                    let change = share.follow_log_start(Offset(offset));
                    settle(&mut share, &change);
                    if model.start < offset as usize {
                        model.start = offset as usize;
                        model.advance();
                    }
                }
                Step::Restart => {
                    // Locks are forgotten, and with them the deliveries that nothing became of.
                    let image = share.image.clone();
                    share = SharePartition::new(image, BOUNDS, Offset(0));
                    for offset in model.start..model.ones.len() {
                        if matches!(model.ones[offset], One::Locked(..)) {
                            let known = share.image.spans.at(offset as i64).map_or(0, |(_, it)| it.count);
                            model.ones[offset] = One::Available(known);
                        }
                    }
                    model.end = share.image.spans.end().map_or(model.start, |it| it as usize + 1);
                    model.end = model.end.max(model.start);
                    prop_assert!(share.wake_at().is_none());
                }
            }
            prop_assert_eq!(share.image.start.0, model.start as i64);
            for (offset, one) in model.ones.iter().enumerate().skip(model.start) {
                let standing = share.standings(offset as i64, offset as i64)[0].2;
                let expected = match one {
                    One::Available(count) => Standing::Available(*count),
                    One::Locked(..) => Standing::Locked,
                    One::Done => Standing::Done,
                };
                prop_assert_eq!(standing, expected, "{}", offset);
            }
        }
    }
}
