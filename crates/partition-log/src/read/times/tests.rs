use super::*;
use proptest::prelude::*;
use vocabulary::{LeaderEpoch, SegmentName, TopicId};

fn run(base: i64, end: i64, max_timestamp: i64) -> RunDescription {
    RunDescription {
        partition: Partition { topic: TopicId([1; 16]), index: 0 },
        leader_epoch: LeaderEpoch(1),
        base: Offset(base),
        end: Offset(end),
        max_timestamp: Timestamp(max_timestamp),
        segment: SegmentName::data(1),
        position: 0,
        length: 1,
        crc: 0,
    }
}

/// Runs of 10 offsets each.
fn runs(stamps: &[i64]) -> Vec<RunDescription> {
    let run = |(at, stamp): (usize, &i64)| run(at as i64 * 10, at as i64 * 10 + 10, *stamp);
    stamps.iter().enumerate().map(run).collect()
}

/// What a lookup does with a bracket: the first run in it at `target` or later.
fn find(times: &Times, runs: &[RunDescription], target: i64) -> Option<Offset> {
    let (from, last) = times.bracket(Timestamp(target))?;
    let within = runs.iter().filter(|it| from < it.end && it.base <= last);
    let found = within.clone().find(|it| target <= it.max_timestamp.0);
    Some(found.expect("a bracket holds what it promises").base)
}

fn brute(runs: &[RunDescription], start: Offset, target: i64) -> Option<Offset> {
    let late = |it: &&RunDescription| start <= it.base && target <= it.max_timestamp.0;
    runs.iter().find(late).map(|it| it.base)
}

// Goal: whatever the timestamps, however few steps are kept, wherever the log starts now, a lookup
// finds the run that a scan of all of them finds.
proptest! {
    #[test]
    fn lookups_are_scans(
        stamps in prop::collection::vec(-1i64..40, 1..60),
        steps_max in 2usize..70,
        cut in 0usize..60,
        known in 0usize..60,
    ) {
        let all = runs(&stamps);
        let mut times = Times::with_steps_max(Offset(0), steps_max);
        all[..known.min(all.len())].iter().for_each(|run| times.add(run));
        // The log start moves, then more runs come.
        let cut = Offset(cut.min(all.len()) as i64 * 10);
        if Offset(0) < cut {
            let (mut fresh, rest) = times.restarted(cut);
            if let Some(rest) = rest {
                let gap = all.iter().filter(|it| cut <= it.base && it.base < rest.start);
                gap.for_each(|run| fresh.add(run));
                fresh.append(rest);
            }
            times = fresh;
        }
        let end = times.end;
        all.iter().filter(|it| end <= it.base && cut <= it.base).for_each(|run| times.add(run));
        prop_assert!(times.steps.is_sorted_by(|a, b| a.base < b.base && a.max_timestamp < b.max_timestamp));
        prop_assert!(times.steps.len() <= steps_max + 1);
        for target in 0..42 {
            prop_assert_eq!(find(&times, &all, target), brute(&all, cut, target), "{}", target);
        }
        let latest = all.iter().filter(|it| cut <= it.base).map(|it| it.max_timestamp).max();
        let latest = latest.filter(|it| *it != Timestamp::NONE);
        prop_assert_eq!(times.latest().map(|it| it.max_timestamp), latest);
        if let Some(step) = times.latest() {
            prop_assert_eq!(Some(step.base), brute(&all, cut, step.max_timestamp.0));
        }
    }
}

#[test]
fn merged_runs_change_nothing_about_what_is_known() {
    let mut times = Times::starting_at(Offset(0));
    runs(&[5, 9, 7]).iter().for_each(|run| times.add(run));
    // The first five runs are one now, two of them new.
    times.add(&run(0, 50, 11));
    assert_eq!(times.end, Offset(50));
    assert_eq!(
        times.bracket(Timestamp(9)),
        Some((Offset(10), Offset(10))),
        "within the merged run"
    );
    assert_eq!(times.bracket(Timestamp(10)), Some((Offset(30), Offset(30))));
    times.add(&run(20, 40, 8));
    assert_eq!(times.end, Offset(50));
}

#[test]
fn a_thinned_index_leaves_few_runs_to_look_at() {
    let mut times = Times::starting_at(Offset(0));
    let all: Vec<i64> = (0..50_000).collect();
    let all = runs(&all);
    all.iter().for_each(|run| times.add(run));
    assert!(times.steps.len() <= STEPS_MAX);
    let widest = (0..50_000).step_by(97).map(|target| {
        let (from, last) = times.bracket(Timestamp(target)).expect("there is one");
        (last.0 - from.0) / 10
    });
    let widest = widest.max().expect("some were looked at");
    assert!(widest <= 64, "one question to the metadata: {widest} runs");
}
