use super::*;
use vocabulary::TopicId;

const MIB: u64 = 1024 * 1024;
const WINDOW_MAX: u64 = 8 * MIB;

fn served(from: i64, to: i64, bytes: u64) -> Served {
    let partition = Partition { topic: TopicId([1; 16]), index: 0 };
    Served { partition, from: Offset(from), to: Offset(to), bytes }
}

fn at(seconds: u64) -> Tick {
    Tick::default().plus(Duration::from_secs(seconds))
}

fn step(streams: &mut Streams, from: i64, to: i64, bytes: u64) -> Option<Plan> {
    streams.served(served(from, to, bytes), at(0), WINDOW_MAX, u64::MAX)
}

#[test]
fn a_point_read_plans_nothing_and_a_scan_up_to_its_window() {
    let mut streams = Streams::default();
    let mut planned = 0;
    assert_eq!(step(&mut streams, 0, 1, MIB), None, "a point read");
    assert_eq!(step(&mut streams, 500, 501, MIB), None, "another one");
    for mib in 1..100 {
        let Some(plan) = step(&mut streams, mib, mib + 1, MIB) else { continue };
        assert!(plan.bytes <= WINDOW_MAX && mib < plan.from.0, "{plan:?}");
        let reached = plan.from.0 + (plan.bytes / MIB) as i64;
        assert!(reached - (mib + 1) <= 8, "never more than the window ahead");
        streams.planned(served(0, 0, 0).partition, plan, Offset(reached), plan.bytes);
        planned += 1;
    }
    // 1, 2, 4 and then half a window of 8 MiB each.
    assert!((25..=30).contains(&planned), "{planned}");
}

#[test]
fn readers_in_lockstep_are_one_stream_and_staggered_ones_are_two() {
    let mut streams = Streams::default();
    let mut plans = 0;
    for mib in 0..20 {
        for _ in 0..8 {
            if let Some(plan) = step(&mut streams, mib, mib + 1, MIB) {
                let reached = plan.from.plus((plan.bytes / MIB) as i64);
                streams.planned(served(0, 0, 0).partition, plan, reached, plan.bytes);
                plans += 1;
            }
        }
    }
    assert!(plans <= 9, "one stream plans: {plans}");
    assert_eq!(streams.active, 1);
    for mib in 0..5 {
        step(&mut streams, mib, mib + 1, MIB);
    }
    assert_eq!(streams.active, 2);
}

#[test]
fn a_plan_under_way_is_not_made_twice() {
    let mut streams = Streams::default();
    step(&mut streams, 0, 1, MIB);
    let plan = step(&mut streams, 1, 2, MIB).expect("in order now");
    assert_eq!(step(&mut streams, 2, 3, MIB), None);
    // Nothing came of it: the next read in order plans again.
    streams.planned(served(0, 0, 0).partition, plan, plan.from, 0);
    assert!(step(&mut streams, 3, 4, MIB).is_some());
}

#[test]
fn all_streams_share_what_may_be_read_ahead_and_idle_ones_are_forgotten() {
    let mut streams = Streams::default();
    for index in 0..4i64 {
        for mib in 0..20 {
            let mut it = served(mib, mib + 1, MIB);
            it.partition.index = index as i32;
            if let Some(plan) = streams.served(it, at(0), WINDOW_MAX, 12 * MIB) {
                let active = u64::try_from(index + 1).unwrap_or(1);
                assert!(plan.bytes <= (12 * MIB / active.saturating_sub(1).max(1)));
                let reached = plan.from.plus((plan.bytes / MIB) as i64);
                streams.planned(it.partition, plan, reached, plan.bytes);
            }
        }
    }
    assert_eq!(streams.active, 4);
    assert_eq!(streams.window(served(0, 0, 0).partition, Offset(20)), 8 * MIB, "was alone then");
    let mut last = served(20, 21, MIB);
    last.partition.index = 3;
    streams.served(last, at(0), WINDOW_MAX, 12 * MIB);
    assert_eq!(streams.window(last.partition, Offset(21)), 3 * MIB, "a quarter");
    streams.served(served(900, 901, 1), at(60), WINDOW_MAX, 12 * MIB);
    assert_eq!(streams.active, 0);
    assert_eq!(streams.partitions.len(), 1);
}

#[test]
fn no_room_means_no_plan() {
    let mut streams = Streams::default();
    for mib in 0..10 {
        assert_eq!(streams.served(served(mib, mib + 1, MIB), at(0), WINDOW_MAX, 0), None);
    }
}

#[test]
fn many_point_reads_are_bounded() {
    let mut streams = Streams::default();
    for offset in 0..100 {
        step(&mut streams, offset * 1000, offset * 1000 + 1, 10);
    }
    let kept: usize = streams.partitions.values().map(Vec::len).sum();
    assert!(kept <= STREAMS_PER_PARTITION_MAX);
    for index in 0..2 * PARTITIONS_MAX {
        let mut it = served(0, 1, 10);
        it.partition.index = index as i32;
        streams.served(it, at(0), WINDOW_MAX, u64::MAX);
    }
    assert!(streams.partitions.len() <= PARTITIONS_MAX);
}

#[test]
fn a_stream_comes_to_what_lies_a_window_ahead_and_is_not_planned() {
    let mut streams = Streams::default();
    let comes = |streams: &Streams, from: i64, to: i64, bytes: u64, seconds: u64| {
        let offsets = Offset(from)..Offset(to);
        streams.comes_to(served(0, 0, 0).partition, offsets, bytes, at(seconds))
    };
    assert!(!comes(&streams, 10, 20, 1000, 0), "nobody reads");
    step(&mut streams, 0, 10, 1000);
    assert!(comes(&streams, 10, 20, 1000, 0), "next");
    assert!(comes(&streams, 5, 20, 1000, 0), "in the middle of it");
    assert!(!comes(&streams, 0, 10, 1000, 0), "behind the reader");
    let window = (WINDOW_BYTES_FIRST / 100) as i64;
    assert!(comes(&streams, 10 + window, 20 + window, 1000, 0), "100 bytes a record, a window");
    assert!(!comes(&streams, 11 + window, 21 + window, 1000, 0), "more than a window");
    assert!(!comes(&streams, 10, 20, 1000, 40), "idle by now");
    let plan = step(&mut streams, 10, 20, 1000).expect("a second read in order");
    streams.planned(served(0, 0, 0).partition, plan, Offset(50), 3000);
    assert!(!comes(&streams, 20, 50, 3000, 0), "on its way");
    assert!(comes(&streams, 50, 60, 1000, 0));
}
