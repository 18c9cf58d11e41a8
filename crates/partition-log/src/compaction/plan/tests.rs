use super::*;
use crate::merge::{COMPACTED_LEVEL, fresh_name};
use environment::SeededEntropy;
use vocabulary::{LeaderEpoch, Partition};

/// Runs of ten offsets: level, bytes and the newest timestamp of each.
fn runs(of: &[(u8, u64, i64)]) -> Vec<RunDescription> {
    let entropy = SeededEntropy::new(1);
    let run = |(at, (level, length, newest)): (usize, &(u8, u64, i64))| RunDescription {
        partition: Partition::default(),
        leader_epoch: LeaderEpoch(0),
        base: Offset(10 * at as i64),
        end: Offset(10 * at as i64 + 10),
        max_timestamp: Timestamp(*newest),
        segment: fresh_name(&entropy, *level),
        position: 0,
        length: *length,
        crc: 0,
    };
    of.iter().enumerate().map(run).collect()
}

const C: u8 = COMPACTED_LEVEL;
const NOW: Timestamp = Timestamp(1000);
const WISHES: Wishes = Wishes {
    dirty_ratio_min: 0.5,
    lag_ms_min: 0,
    lag_ms_max: i64::MAX,
    segment_bytes: 100,
    segment_ms: 600,
};

#[track_caller]
fn check(of: &[(u8, u64, i64)], wishes: Wishes, cleanable: (i64, i64), is_due: bool) {
    let survey = Survey::of(&runs(of), Offset(1000), &wishes, NOW);
    assert_eq!((survey.from.0, survey.to.0), cleanable, "{survey:?}");
    assert_eq!(survey.is_due(&wishes), is_due, "{survey:?}");
}

#[test]
fn the_active_part_is_what_kafka_would_not_have_rolled() {
    check(&[], WISHES, (0, 0), false);
    check(&[(0, 50, 900)], WISHES, (0, 0), false);
    check(&[(0, 50, 400)], WISHES, (0, 10), true);
    check(&[(0, 50, 900), (1, 50, 950)], WISHES, (0, 20), true);
    check(&[(0, 50, 900), (1, 50, 950), (0, 99, 960)], WISHES, (0, 20), true);
    check(&[(0, 500, 900), (0, 10, 950)], WISHES, (0, 10), true);
    // Old records behind young ones that are not rolled wait with them.
    check(&[(0, 50, 900), (0, 10, 100)], WISHES, (0, 0), false);
    check(&[(0, 50, 100), (0, 10, 900)], WISHES, (0, 10), true);
}

#[test]
fn the_ratio_decides_unless_the_lag_does() {
    check(&[(C, 100, 10), (0, 100, 20)], WISHES, (10, 20), false);
    check(&[(C, 100, 10), (0, 101, 20)], WISHES, (10, 20), true);
    check(&[(C, 900, 10), (C, 900, 10), (0, 101, 20)], WISHES, (20, 30), false);
    let lag = Wishes { lag_ms_max: 300, ..WISHES };
    check(&[(C, 900, 600), (0, 101, 650)], lag, (10, 20), true);
    check(&[(C, 900, 800), (0, 101, 850)], lag, (10, 20), false);
    let never = Wishes { dirty_ratio_min: 1.0, ..WISHES };
    check(&[(0, 101, 20)], never, (0, 10), false);
    let always = Wishes { dirty_ratio_min: 0.0, ..WISHES };
    check(&[(C, 900, 10), (0, 101, 20)], always, (10, 20), true);
    check(&[(C, 900, 10)], always, (0, 0), false);
}

#[test]
fn young_and_unstable_records_wait() {
    let patient = Wishes { lag_ms_min: 200, ..WISHES };
    check(&[(0, 100, 700), (0, 100, 801)], patient, (0, 10), true);
    let unstable = Survey::of(&runs(&[(0, 100, 1), (0, 100, 1)]), Offset(19), &WISHES, NOW);
    assert_eq!((unstable.from, unstable.to), (Offset(0), Offset(10)));
    assert_eq!((unstable.dirty_bytes, unstable.cleanable_bytes), (200, 100));
}

#[test]
fn only_what_is_clean_from_the_start_on_counts_as_clean() {
    check(&[(0, 100, 1), (C, 900, 1)], WISHES, (0, 20), true);
}
