use super::*;

fn subject(operation: Operation, key: &str) -> Subject<'_> {
    Subject { operation, key, is_conditional_write: operation == Operation::Put }
}

fn fates(planner: &mut Planner, faults: &Faults, count: usize) -> Vec<Fate> {
    (0..count)
        .map(|_| planner.plan(faults, &Delays::NONE, subject(Operation::Put, "a")).fate)
        .collect()
}

#[test]
fn a_seed_and_a_sequence_fix_every_plan() {
    let run = |seed| {
        let mut planner = Planner::new(seed);
        (0..500)
            .map(|n| {
                let operation = Operation::ALL[n % Operation::ALL.len()];
                planner.plan(&Faults::bad_day(), &Delays::s3(), subject(operation, "a"))
            })
            .collect::<Vec<Plan>>()
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

#[test]
fn changing_the_faults_does_not_shift_what_follows() {
    let (mut calm, mut stormy) = (Planner::new(3), Planner::new(3));
    let delays = Delays::s3();
    for n in 0..200 {
        let faults = if n % 3 == 0 { Faults::bad_day() } else { Faults::NONE };
        let expected = calm.plan(&Faults::NONE, &delays, subject(Operation::Get, "a"));
        let plan = stormy.plan(&faults, &delays, subject(Operation::Get, "a"));
        assert_eq!((plan.delay, plan.effect_at), (expected.delay, expected.effect_at));
    }
}

#[test]
fn shares_are_kept() {
    let faults = Faults { lost_answer: 0.2, internal_error: 0.1, ..Faults::NONE };
    let fates = fates(&mut Planner::new(1), &faults, 20_000);
    let count = |fate| fates.iter().filter(|it| **it == fate).count();
    assert!((3_700..4_300).contains(&count(Fate::LostAnswer)), "{}", count(Fate::LostAnswer));
    assert!((1_800..2_200).contains(&count(Fate::InternalError)));
    assert_eq!(count(Fate::LostAnswer) + count(Fate::InternalError) + count(Fate::Served), 20_000);
}

#[test]
fn a_burst_has_its_length() {
    let faults = Faults { slow_down: 1.0, slow_down_requests: 4, ..Faults::NONE };
    let mut planner = Planner::new(1);
    assert_eq!(fates(&mut planner, &faults, 1), [Fate::SlowDown]);
    let ending = Faults { slow_down: 0.0, ..faults };
    let expected = [Fate::SlowDown, Fate::SlowDown, Fate::SlowDown, Fate::Served];
    assert_eq!(fates(&mut planner, &ending, 4), expected);
}

#[test]
fn faults_keep_to_their_operations_and_keys() {
    let lost = Faults { lost_answer: 1.0, key_part: "wal/".to_owned(), ..Faults::NONE };
    let lost = lost.only(&[Operation::Put]);
    let mut planner = Planner::new(1);
    let mut fate =
        |operation, key| planner.plan(&lost, &Delays::NONE, subject(operation, key)).fate;
    assert_eq!(fate(Operation::Put, "a/wal/1"), Fate::LostAnswer);
    assert_eq!(fate(Operation::Put, "a/data/1"), Fate::Served);
    assert_eq!(fate(Operation::Get, "a/wal/1"), Fate::Served);
    let only_gets = Faults { half_answer: 1.0, ..Faults::NONE };
    let mut planner = Planner::new(1);
    let mut fate =
        |operation| planner.plan(&only_gets, &Delays::NONE, subject(operation, "a")).fate;
    assert_eq!((fate(Operation::Get), fate(Operation::Put)), (Fate::HalfAnswer, Fate::Served));
    let conflicts = Faults { conflict: 1.0, ..Faults::NONE };
    let mut planner = Planner::new(1);
    let mut fate =
        |operation| planner.plan(&conflicts, &Delays::NONE, subject(operation, "a")).fate;
    assert_eq!((fate(Operation::Put), fate(Operation::Delete)), (Fate::Conflict, Fate::Served));
}

#[test]
fn delays_follow_their_quantiles() {
    let mut planner = Planner::new(5);
    let mut drawn: Vec<Duration> = (0..20_000)
        .map(|_| planner.plan(&Faults::NONE, &Delays::s3(), subject(Operation::Put, "a")).delay)
        .collect();
    drawn.sort();
    let millis = |at: usize| drawn[at].as_millis();
    assert!((57..=63).contains(&millis(10_000)), "{}", millis(10_000));
    assert!((270..=330).contains(&millis(19_800)), "{}", millis(19_800));
}

#[test]
fn faults_are_written_as_text() {
    let expected = Faults {
        slow_down: 0.5,
        slow_down_requests: 3,
        stall: 0.25,
        stall_for: Duration::from_millis(1500),
        key_part: "wal/".to_owned(),
        ..Faults::NONE
    };
    let text = "slow-down=0.5,slow-down-requests=3,stall=0.25,stall-for-ms=1500,key-part=wal/,\
        operations=put+copy";
    let expected = expected.only(&[Operation::Put, Operation::Copy]);
    assert_eq!(text.parse(), Ok(expected));
    assert_eq!("none".parse(), Ok(Faults::NONE));
    assert_eq!("".parse(), Ok(Faults::NONE));
    assert_eq!("bad-day,stall=0".parse(), Ok(Faults { stall: 0.0, ..Faults::bad_day() }));
    for wrong in ["slow", "slow-down=2", "slow-down=-1", "operations=frob", "x=1", "stall=NaN"] {
        assert!(wrong.parse::<Faults>().is_err(), "{wrong}");
    }
}
