//! Tests of the decisions of group commit.

use super::*;
use proptest::prelude::*;

fn limits(group_bytes_max: u64, in_flight_max: usize, linger_ms: u64) -> QueueLimits {
    let (linger, full_bytes_min) = (Duration::from_millis(linger_ms), group_bytes_max);
    QueueLimits { group_bytes_max, in_flight_max, linger, starts_saved_max: 0, full_bytes_min }
}

const fn ms(count: u64) -> Tick {
    Tick(count * 1000)
}

fn finish(queue: &mut CommitQueue<u64>, sequence: u64, written: Written) -> Vec<Released> {
    let mut out = Vec::new();
    queue.finish(sequence, written, ms(0), &mut out);
    out
}

#[test]
fn arrivals_gather_while_a_write_is_in_flight() {
    let mut queue = CommitQueue::new(limits(100, 1, 0), 7);
    assert_eq!(queue.start(ms(0)), None);
    queue.push(1, 10, ms(0));
    assert_eq!(queue.start(ms(0)), Some((7, vec![1])), "nothing is in flight: at once");
    queue.push(2, 50, ms(0));
    queue.push(3, 50, ms(0));
    queue.push(4, 1, ms(0));
    assert_eq!((queue.start(ms(1)), queue.wake_at()), (None, None));
    assert_eq!(finish(&mut queue, 7, Written::Durable), [Released::Durable(7)]);
    assert_eq!(queue.start(ms(1)), Some((8, vec![2, 3])), "as much as fits");
    assert_eq!(queue.next_sequence(), 9);
}

#[test]
fn only_a_full_queue_without_a_linger_waits_for_writes_alone() {
    for (linger_ms, waits) in [(0, true), (20, false)] {
        let mut queue = CommitQueue::new(limits(1, 2, linger_ms), 0);
        for sequence in 0..2 {
            assert!(!queue.waits_for_write());
            queue.push(sequence, 1, ms(0));
            assert!(queue.start(ms(0)).is_some());
        }
        assert_eq!(queue.waits_for_write(), waits);
        queue.push(2, 1, ms(0));
        assert_eq!(finish(&mut queue, 1, Written::Durable), []);
        assert_eq!(queue.waits_for_write(), waits, "the first is still being written");
        finish(&mut queue, 0, Written::Durable);
        assert!(!queue.waits_for_write());
    }
}

#[test]
fn an_item_larger_than_a_group_goes_alone() {
    let mut queue = CommitQueue::new(limits(100, 4, 0), 0);
    for (item, bytes) in [(1, 500), (2, 60), (3, 500)] {
        queue.push(item, bytes, ms(0));
    }
    let groups: Vec<_> = std::iter::from_fn(|| queue.start(ms(0))).map(|it| it.1).collect();
    assert_eq!(groups, [vec![1], vec![2], vec![3]]);
}

#[test]
fn under_load_a_group_lingers_unless_it_is_full() {
    let mut queue = CommitQueue::new(limits(100, 3, 20), 0);
    queue.push(1, 10, ms(0));
    assert!(queue.start(ms(0)).is_some());
    queue.push(2, 10, ms(0));
    assert_eq!((queue.start(ms(19)), queue.wake_at()), (None, Some(ms(20))));
    assert_eq!(queue.start(ms(20)), Some((1, vec![2])));
    queue.push(3, 100, ms(0));
    assert_eq!(queue.start(ms(21)), Some((2, vec![3])), "full");
    queue.push(4, 100, ms(0));
    assert_eq!((queue.start(ms(99)), queue.wake_at()), (None, None), "no slot");
    finish(&mut queue, 0, Written::Durable);
    assert!(queue.start(ms(99)).is_some());
    queue.push(5, 1, ms(0));
    finish(&mut queue, 1, Written::Durable);
    queue.drain();
    assert!(queue.start(ms(99)).is_some(), "draining does not wait");
}

#[test]
fn releases_keep_their_order() {
    let mut queue = CommitQueue::new(limits(1, 3, 0), 0);
    (0..3).for_each(|item| queue.push(item, 1, ms(0)));
    while queue.start(ms(0)).is_some() {}
    assert_eq!(finish(&mut queue, 2, Written::Durable), []);
    assert_eq!(finish(&mut queue, 0, Written::Durable), [Released::Durable(0)]);
    let expected = [Released::Durable(1), Released::Durable(2)];
    assert_eq!(finish(&mut queue, 1, Written::Durable), expected);
}

#[test]
fn behind_a_failure_everything_is_lost() {
    let mut queue = CommitQueue::new(limits(1, 3, 0), 0);
    (0..5).for_each(|item| queue.push(item, 1, ms(0)));
    while queue.start(ms(0)).is_some() {}
    assert_eq!(finish(&mut queue, 1, Written::Failed), []);
    assert_eq!(finish(&mut queue, 2, Written::Durable), [], "too late: 1 can never be released");
    assert_eq!(queue.take_lost().count(), 0, "0 may still be durable");
    let expected = [Released::Durable(0), Released::Lost(1), Released::Lost(2)];
    assert_eq!(finish(&mut queue, 0, Written::Durable), expected);
    assert_eq!(queue.take_lost().collect::<Vec<_>>(), [3, 4]);
    queue.push(5, 1, ms(0));
    assert_eq!(queue.start(ms(9)), None);
    assert_eq!(queue.take_lost().collect::<Vec<_>>(), [5]);
}

#[test]
fn giving_up_releases_what_was_durable_and_loses_the_rest() {
    let mut queue = CommitQueue::new(limits(1, 3, 0), 0);
    (0..4).for_each(|item| queue.push(item, 1, ms(0)));
    while queue.start(ms(0)).is_some() {}
    finish(&mut queue, 1, Written::Durable);
    let mut out = Vec::new();
    queue.give_up(&mut out);
    assert_eq!(out, [Released::Lost(0), Released::Lost(1), Released::Lost(2)]);
    assert_eq!(queue.take_lost().collect::<Vec<_>>(), [3]);
}

#[derive(Debug, Clone, Copy)]
enum Op {
    Push { bytes: u64 },
    Wait { ms: u64 },
    Finish { nth: usize, fails: bool },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (1..60u64).prop_map(|bytes| Op::Push { bytes }),
        1 => (0..30u64).prop_map(|ms| Op::Wait { ms }),
        3 => (0..4usize, 0..40u32).prop_map(|(nth, fails)| Op::Finish { nth, fails: fails == 0 }),
    ]
}

// Goal: each item is released once, in the order of its arrival, and none is durable behind a lost
// one; groups keep to their limits. Q1 to Q4 fire by themselves.
// Method: random operations; what was started waits in `flying` until the operations finish it.
proptest! {
    #[test]
    fn every_item_is_released_once_and_in_order(
        ops in prop::collection::vec(op(), 0..200),
        in_flight_max in 1..5usize,
        linger_ms in prop_oneof![Just(0), 0..40u64],
    ) {
        let mut queue = CommitQueue::new(limits(100, in_flight_max, linger_ms), 3);
        let (mut now, mut pushed, mut sequence) = (ms(0), 0u64, 3);
        let (mut flying, mut groups) = (Vec::new(), std::collections::BTreeMap::new());
        let (mut released, mut lost_from) = (Vec::new(), None);
        let finish_all = [Op::Wait { ms: 50 }, Op::Finish { nth: 0, fails: false }].repeat(300);
        for op in ops.into_iter().chain(finish_all) {
            let mut out = Vec::new();
            match op {
                Op::Push { bytes } => {
                    queue.push((pushed, bytes), bytes, now);
                    pushed += 1;
                }
                Op::Wait { ms } => now = now.plus(Duration::from_millis(ms)),
                Op::Finish { nth, fails } if nth < flying.len() => {
                    let written = if fails { Written::Failed } else { Written::Durable };
                    queue.finish(flying.remove(nth), written, now, &mut out);
                }
                Op::Finish { .. } => (),
            }
            for it in out {
                let (number, durable) = match it {
                    Released::Durable(number) => (number, true),
                    Released::Lost(number) => (number, false),
                };
                let group: Vec<(u64, u64)> = groups.remove(&number).expect("was started");
                released.extend(group.iter().map(|it| it.0));
                prop_assert!(!durable || lost_from.is_none());
                if !durable {
                    lost_from.get_or_insert(number);
                }
            }
            let lost: Vec<_> = queue.take_lost().map(|it| it.0).collect();
            prop_assert!(lost.is_empty() || lost_from.is_some());
            released.extend(lost);
            while let Some((started, group)) = queue.start(now) {
                prop_assert_eq!(started, sequence);
                sequence += 1;
                let bytes: u64 = group.iter().map(|it| it.1).sum();
                prop_assert!(bytes <= 100 || group.len() == 1);
                flying.push(started);
                groups.insert(started, group);
                prop_assert!(flying.len() <= in_flight_max);
            }
        }
        prop_assert_eq!(released, (0..pushed).collect::<Vec<_>>());
    }
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Starts that are saved up over a bucket.
const SAVED: u32 = 8;

/// As over a bucket: 16 writes in flight, 100 ms, full from 8 MiB on, at most 16 MiB.
fn bucket_limits() -> QueueLimits {
    let limits = limits(16 * MIB, 16, 100);
    QueueLimits { full_bytes_min: 8 * MIB, starts_saved_max: SAVED, ..limits }
}

/// What a stretch of load did.
#[derive(Debug, Default)]
struct Load {
    groups: Vec<u64>,
    /// From the arrival of an item to the start of its group, while a write could start.
    waits_us: Vec<u64>,
}

/// One item of `bytes` every `every_us`, for `seconds`; each write takes `write_us`.
fn load(bytes: u64, every_us: u64, seconds: u64, write_us: u64) -> Load {
    let mut queue = CommitQueue::new(bucket_limits(), 0);
    let (mut load, mut flying, mut out) = (Load::default(), VecDeque::new(), Vec::new());
    let (mut next, end) = (0, seconds * 1_000_000);
    let mut now = 0;
    while now < end {
        while flying.front().is_some_and(|(_, done)| *done <= now) {
            let (sequence, _) = flying.pop_front().expect("just seen");
            queue.finish(sequence, Written::Durable, Tick(now), &mut out);
        }
        while next <= now {
            queue.push((next, bytes), bytes, Tick(now));
            next += every_us;
        }
        while let Some((sequence, group)) = queue.start(Tick(now)) {
            flying.push_back((sequence, now + write_us));
            load.groups.push(group.iter().map(|it: &(u64, u64)| it.1).sum());
            load.waits_us.extend(group.iter().map(|it| now - it.0));
        }
        let wakes = queue.wake_at().into_iter().map(|it| it.0);
        let done = flying.front().map(|it| it.1);
        now = wakes.chain(done).chain([next]).min().expect("the next arrival").max(now + 1);
    }
    load
}

#[test]
fn a_quiet_log_writes_at_once_and_an_idle_one_nothing() {
    let quiet = load(KIB, 200_000, 10, 30_000);
    assert_eq!((quiet.groups.len(), quiet.waits_us.iter().max()), (50, Some(&0)));
    let mut idle: CommitQueue<u64> = CommitQueue::new(bucket_limits(), 0);
    assert_eq!((idle.start(ms(0)), idle.wake_at()), (None, None));
    assert_eq!((idle.start(ms(100_000)), idle.wake_at()), (None, None));
}

#[test]
fn larger_rates_make_larger_groups_not_more() {
    // Bytes a second, and the most PUTs for a GiB of them.
    for (mib, puts_per_gib_max) in
        [(1, 10_240), (10, 1024), (50, 145), (100, 70), (160, 66), (400, 66), (1000, 66)]
    {
        let item = 256 * KIB;
        let all = load(item, item * 1_000_000 / (mib * MIB), 60, 80_000);
        let bytes: u64 = all.groups.iter().sum();
        let per_gib = all.groups.len() as f64 * 1024.0 * MIB as f64 / bytes as f64;
        assert!(per_gib <= puts_per_gib_max as f64 * 1.1, "{mib} MiB/s: {per_gib} PUTs per GiB");
        // A linger, and up to two where groups fill.
        let wait_max = if mib < 10 { 113_000 } else { 200_000 };
        assert!(all.waits_us.iter().all(|it| *it <= wait_max), "{mib} MiB/s waits too long");
    }
}

#[test]
fn a_burst_does_not_linger_once_it_fills_a_group() {
    let mut queue = CommitQueue::new(QueueLimits { starts_saved_max: 0, ..bucket_limits() }, 0);
    queue.push(0, KIB, ms(0));
    assert!(queue.start(ms(0)).is_some());
    queue.push(1, 8 * MIB - 1, ms(1));
    assert_eq!((queue.start(ms(1)), queue.wake_at()), (None, Some(ms(100))));
    queue.push(2, 1, ms(1));
    assert_eq!(queue.start(ms(1)), Some((1, vec![1, 2])));
}

#[test]
fn who_produces_now_and_then_never_lingers() {
    let mut queue = CommitQueue::new(bucket_limits(), 0);
    let mut out = Vec::new();
    for second in 0..20 {
        // Four producers within a write of 60 ms, and then nobody for a while.
        let at = |after: u64| ms(second * 1000 + after);
        for after in [0, 10, 20, 30] {
            queue.push(after, KIB, at(after));
            assert!(queue.start(at(after)).is_some(), "{after} ms into second {second}");
        }
        for sequence in second * 4..second * 4 + 4 {
            queue.finish(sequence, Written::Durable, at(90), &mut out);
        }
    }
}

#[test]
fn saved_starts_are_spent_once() {
    let mut queue = CommitQueue::new(bucket_limits(), 0);
    let mut starts = Vec::new();
    for at in (0..1000).step_by(10) {
        queue.push(at, KIB, ms(at));
        starts.extend(queue.start(ms(at)).map(|_| at));
    }
    let at_once = u64::from(SAVED) + 1;
    assert_eq!(starts[..at_once as usize], Vec::from_iter((0..at_once).map(|it| it * 10)));
    let pauses = starts[at_once as usize..].windows(2).map(|it| it[1] - it[0]);
    assert!(pauses.clone().all(|it| (100..=110).contains(&it)), "{pauses:?}");
}

/// Clients that wait for their answers: each of `clients` has `window` requests of `bytes` under way
/// to a store whose writes take `write_us`, and sends the next one a millisecond after an answer, a
/// tenth of a millisecond behind the one before.
fn closed_loop(clients: u64, window: u64, bytes: u64, seconds: u64, write_us: u64) -> Load {
    let mut queue = CommitQueue::new(bucket_limits(), 0);
    let (mut load, mut flying, mut out) = (Load::default(), VecDeque::new(), Vec::new());
    let mut sent: VecDeque<u64> = (0..clients * window).map(|it| it * 100).collect();
    let mut items = VecDeque::new();
    let mut now = 0;
    while now < seconds * 1_000_000 {
        while flying.front().is_some_and(|(_, done)| *done <= now) {
            let (sequence, _) = flying.pop_front().expect("just seen");
            queue.finish(sequence, Written::Durable, Tick(now), &mut out);
            let answered: u64 = items.pop_front().expect("one for each flight");
            sent.extend((0..answered).map(|it| now + 1000 + it * 100));
        }
        while let Some(at) = sent.pop_front_if(|at| *at <= now) {
            queue.push((at, bytes), bytes, Tick(now));
        }
        while let Some((sequence, group)) = queue.start(Tick(now)) {
            flying.push_back((sequence, now + write_us));
            items.push_back(group.len() as u64);
            load.groups.push(group.iter().map(|it: &(u64, u64)| it.1).sum());
            load.waits_us.extend(group.iter().map(|it| now - it.0));
        }
        let wakes = queue.wake_at().into_iter().map(|it| it.0);
        let events = wakes.chain(flying.front().map(|it| it.1)).chain(sent.front().copied());
        now = events.min().expect("somebody always waits").max(now + 1);
    }
    load
}

#[test]
fn who_waits_for_answers_meets_one_write_and_little_else() {
    // A client that sends one by one, a default Java producer, one with larger batches, sixteen at once.
    for (clients, window, bytes) in
        [(1, 1, KIB), (1, 5, 16 * KIB), (1, 5, 256 * KIB), (16, 5, 16 * KIB)]
    {
        let all = closed_loop(clients, window, bytes, 20, 75_000);
        let round_trips = all.waits_us.len() as u64 / (clients * window);
        // A write, a millisecond for the client and as long as its last request takes to come.
        let most = 20_000_000 / (76_000 + 100 * clients * window);
        assert!(most * 97 / 100 <= round_trips, "{clients} clients: {round_trips} of {most}");
        assert!(all.groups.len() as u64 <= round_trips + 10, "a write for a round trip of all");
    }
}

#[test]
fn an_echo_waits_for_those_who_waited_together_and_for_nobody_else() {
    let mut queue = CommitQueue::new(bucket_limits(), 0);
    let mut out = Vec::new();
    (1..=3).for_each(|item| queue.push(item, KIB, ms(0)));
    assert_eq!(queue.start(ms(0)), Some((0, vec![1, 2, 3])));
    queue.finish(0, Written::Durable, ms(60), &mut out);
    queue.push(4, KIB, ms(61));
    assert_eq!((queue.start(ms(61)), queue.wake_at()), (None, Some(ms(67))));
    queue.push(5, KIB, ms(62));
    assert_eq!((queue.start(ms(62)), queue.wake_at()), (None, Some(ms(68))));
    queue.push(6, KIB, ms(63));
    assert_eq!(queue.start(ms(63)), Some((1, vec![4, 5, 6])), "all three are back");
    queue.finish(1, Written::Durable, ms(120), &mut out);
    queue.push(7, KIB, ms(121));
    assert_eq!(queue.start(ms(127)), Some((2, vec![7])), "the others have nothing more to say");
    queue.finish(2, Written::Durable, ms(200), &mut out);
    queue.push(8, KIB, ms(211));
    assert_eq!(queue.start(ms(211)), Some((3, vec![8])), "no echo: it did not wait for anything");
}

#[test]
fn once_everybody_is_back_a_start_is_owed_to_the_budget_but_not_on_a_fast_store() {
    let mut queue = CommitQueue::new(QueueLimits { starts_saved_max: 0, ..bucket_limits() }, 0);
    let mut out = Vec::new();
    queue.push(1, KIB, ms(0));
    assert_eq!(queue.start(ms(0)), Some((0, vec![1])));
    queue.push(2, KIB, ms(5));
    queue.finish(0, Written::Durable, ms(20), &mut out);
    assert_eq!(queue.wake_at(), Some(ms(100)), "somebody was answered and may be back");
    queue.push(1, KIB, ms(21));
    assert_eq!((queue.start(ms(74)), queue.wake_at()), (None, Some(ms(75))));
    assert_eq!(queue.start(ms(75)), Some((1, vec![2, 1])));
    queue.push(3, KIB, ms(80));
    assert_eq!(queue.wake_at(), Some(ms(175)), "and not at 200: what is owed has a bound, too");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    // Goal: at any rate, of any size and over any store, PUTs are bounded by lingers and bytes, and
    // nothing waits longer than two lingers while a write could start.
    // Method: steady arrivals for ten seconds.
    #[test]
    fn puts_are_bounded_by_lingers_and_bytes(
        bytes in 100..200_000u64,
        every_us in 1_000..60_000u64,
        write_us in 1_000..300_000u64,
    ) {
        let all = load(bytes, every_us, 10, write_us);
        let sum: u64 = all.groups.iter().sum();
        // What comes while nothing is in flight starts at once, so a store faster than the arrivals
        // sees one PUT for each of them; from the second on in one flight, lingers count.
        let lingers = 10_000 / 100 + 2;
        let alone = if write_us <= every_us { 10_000_000 / every_us + 2 } else { 0 };
        let full = sum / (8 * MIB);
        let most = if write_us <= every_us { alone } else { 2 * lingers + full };
        prop_assert!(all.groups.len() as u64 <= most, "{} groups, {most} allowed", all.groups.len());
        // Little's law: what is in flight leaves room for more.
        let could_start = bytes * write_us / every_us < 64 * MIB && write_us < 1_000_000;
        prop_assert!(!could_start || all.waits_us.iter().all(|it| *it <= 200_000));
    }
}
