//! Tables for the rules.

mod acls;
mod model;

use bytes::Bytes;
use vocabulary::VolumeId;

use super::decide::{self, Advanced, Stored};
use super::*;

const TOPIC: TopicId = TopicId([7; 16]);
const EPOCH: BrokerEpoch = BrokerEpoch(1);

fn with_broker() -> State {
    let mut state = State::default();
    assert_eq!(registered(&mut state, &register(1, WalKind::Bucket, &[])), EPOCH);
    state
}

fn register(id: i32, wal: WalKind, takes_over: &[i32]) -> RegisterBroker {
    let takes_over = takes_over.iter().copied().map(BrokerId).collect();
    RegisterBroker {
        id: BrokerId(id),
        host: "h".into(),
        port: 9,
        rack: None,
        wal,
        volume: None,
        gives_up: None,
        takes_over,
    }
}

fn registered(state: &mut State, command: &RegisterBroker) -> BrokerEpoch {
    let (events, epoch) = decide::register_broker(state, command);
    apply_all(state, &events);
    epoch
}

fn with_topic(partitions: u32) -> State {
    let mut state = with_broker();
    let decided = decide::create_topic(&state, TOPIC, "t", partitions, &BTreeMap::new());
    apply_all(&mut state, &decided.unwrap().0);
    state
}

fn apply_all(state: &mut State, events: &[Event]) {
    for event in events {
        apply(state, event);
    }
    let once = state.clone();
    for event in events {
        apply(state, event);
    }
    assert_eq!(*state, once, "applying twice is harmless");
    state.check();
}

fn partition(index: i32) -> Partition {
    Partition { topic: TOPIC, index }
}

fn run(index: i32, base: i64, end: i64, segment: u128) -> Run {
    Run {
        partition: partition(index),
        leader_epoch: LeaderEpoch(0),
        base: Offset(base),
        end: Offset(end),
        max_timestamp: Timestamp(1),
        segment: SegmentName::data(segment),
        position: 0,
        length: 100,
        crc: 0,
    }
}

/// When runs are committed, by the metadata's time.
const NOW: Timestamp = Timestamp(5);

fn commit(segment: u128, runs: Vec<Run>) -> CommitRuns {
    CommitRuns {
        broker: BrokerId(1),
        broker_epoch: EPOCH,
        segment: SegmentName::data(segment),
        segment_bytes: 1000,
        created: Timestamp(5),
        runs,
    }
}

fn committed(state: &mut State, command: &CommitRuns) -> Vec<RunRefusal> {
    let (events, refused) = decide::commit_runs(state, command, NOW).unwrap();
    apply_all(state, &events);
    refused.into_iter().map(|it| it.refusal).collect()
}

fn kept(index: i32, as_of: i64) -> KeptProducers {
    let snapshot = Bytes::from(format!("{index} as of {as_of}"));
    KeptProducers { partition: partition(index), as_of: Offset(as_of), snapshot }
}

/// Advances to `to`, with producers as of `as_of`; `runs` are in the store. How many were dropped.
fn advanced(state: &mut State, index: i32, to: i64, as_of: Option<i64>, runs: &[Run]) -> usize {
    let producers = as_of.map(|it| kept(index, it));
    let replacements = state.progress_of(partition(index)).unwrap().replacements;
    let stored = Stored { runs: runs.to_vec(), replacements };
    let (to, kept) = (Offset(to), producers.as_ref());
    let decided =
        decide::advance_log_start(state, partition(index), to, kept, &stored, Timestamp(9));
    let (events, Advanced::Dropped(count)) = decided.unwrap() else {
        panic!("it was read in time")
    };
    apply_all(state, &events);
    count
}

fn by() -> Registration {
    Registration { broker: BrokerId(1), epoch: EPOCH }
}

fn of_segment(segment: SegmentName, runs: Vec<Run>) -> RunsOfSegment {
    RunsOfSegment { segment, segment_bytes: 1000, created: Timestamp(5), runs }
}

fn wal(epoch: u64, sequence: u64) -> SegmentName {
    SegmentName::Wal { broker: BrokerId(1), epoch: BrokerEpoch(epoch), sequence }
}

fn adopted(state: &mut State, command: &AdoptRuns) -> Vec<RunRefusal> {
    let (events, refused) = decide::adopt_runs(state, command, NOW).unwrap();
    apply_all(state, &events);
    refused.into_iter().map(|it| it.refusal).collect()
}

fn replaced(state: &mut State, command: &ReplaceRuns, stored: &[Run]) -> Vec<RunRefusal> {
    let mut read: BTreeMap<Partition, Stored> = BTreeMap::new();
    for merged in &command.merged.runs {
        let partition = merged.partition;
        let replacements = state.progress_of(partition).map_or(0, |it| it.replacements);
        let runs = stored.iter().filter(|it| it.partition == partition).copied().collect();
        read.insert(partition, Stored { runs, replacements });
    }
    let decided = decide::replace_runs(state, command, &read, Timestamp(9));
    let (events, Some(refused)) = decided.unwrap() else { panic!("they were read in time") };
    apply_all(state, &events);
    refused.into_iter().map(|it| it.refusal).collect()
}

#[test]
fn names_are_unique_and_checked() {
    let mut state = with_topic(1);
    let create = |state: &State, name: &str, partitions| {
        decide::create_topic(state, TopicId([9; 16]), name, partitions, &BTreeMap::new())
            .map(|it| it.0)
    };
    assert_eq!(create(&state, "t", 1), Err(CreateTopicError::Exists));
    assert!(matches!(create(&state, "a b", 1), Err(CreateTopicError::Name(_))));
    assert!(matches!(create(&state, "u", 0), Err(CreateTopicError::Partitions { .. })));
    let events = create(&state, "x.y", 1).unwrap();
    apply_all(&mut state, &events);
    assert!(matches!(create(&state, "x_y", 1), Err(CreateTopicError::Collides { .. })));
    assert!(create(&State::default(), "u", 1).is_err(), "nobody to lead it");
}

#[test]
fn registering_again_raises_the_epochs_of_what_the_broker_leads() {
    let mut state = with_topic(2);
    let epoch = registered(&mut state, &register(1, WalKind::Bucket, &[]));
    assert_eq!(epoch, BrokerEpoch(2));
    assert!(state.topics[&TOPIC].partitions.iter().all(|it| it.leader_epoch == LeaderEpoch(1)));
    let stale = decide::commit_runs(&state, &commit(1, vec![run(0, 0, 5, 1)]), NOW);
    assert!(matches!(stale, Err(CommitRefusal::StaleBroker { .. })), "A4");
}

#[test]
fn runs_are_committed_only_where_the_last_one_ended() {
    let mut state = with_topic(2);
    assert_eq!(committed(&mut state, &commit(1, vec![run(0, 0, 5, 1), run(1, 0, 3, 1)])), []);
    let gap = RunRefusal::NotContiguous { committed_end: Offset(5) };
    assert_eq!(committed(&mut state, &commit(2, vec![run(0, 6, 9, 2), run(1, 3, 4, 2)])), [gap]);
    assert_eq!(state.progress_of(partition(0)).unwrap().committed_end, Offset(5));
    assert_eq!(state.progress_of(partition(1)).unwrap().committed_end, Offset(4));
    let unknown = RunRefusal::UnknownPartition;
    assert_eq!(committed(&mut state, &commit(3, vec![run(9, 0, 1, 3)])), [unknown]);
    assert!(state.segments[&SegmentName::data(3)].garbage_since.is_some(), "nothing of it is live");
}

#[test]
fn one_commit_may_carry_several_runs_of_a_partition() {
    let mut state = with_topic(1);
    assert_eq!(committed(&mut state, &commit(1, vec![run(0, 0, 5, 1), run(0, 5, 8, 1)])), []);
    let progress = state.progress_of(partition(0)).unwrap();
    assert_eq!((progress.committed_end, progress.committed_bytes), (Offset(8), 200));
}

#[test]
fn a_repeated_commit_changes_nothing() {
    let mut state = with_topic(1);
    let command = commit(1, vec![run(0, 0, 5, 1)]);
    committed(&mut state, &command);
    let before = state.clone();
    let gap = RunRefusal::NotContiguous { committed_end: Offset(5) };
    assert_eq!(committed(&mut state, &command), [gap]);
    assert_eq!(state, before);
}

#[test]
fn a_segment_is_garbage_when_its_last_run_goes() {
    let mut state = with_topic(2);
    let runs = vec![run(0, 0, 5, 1), run(1, 0, 5, 1)];
    committed(&mut state, &commit(1, runs.clone()));
    let advance = |state: &mut State, run: Run| {
        advanced(state, run.partition.index, run.end.0, Some(run.end.0), &[run]);
        let before = state.clone();
        advanced(state, run.partition.index, run.end.0, Some(run.end.0), &[run]);
        assert_eq!(*state, before, "A6: the same run is not dropped twice");
    };
    advance(&mut state, runs[0]);
    assert_eq!(state.segments[&SegmentName::data(1)].live_runs, 1);
    assert_eq!(decide::forget_segments(&state, &[SegmentName::data(1)]), [], "A6");
    advance(&mut state, runs[1]);
    assert_eq!(state.segments[&SegmentName::data(1)].garbage_since, Some(Timestamp(9)));
    assert_eq!(decide::forget_segments(&state, &[SegmentName::data(1)]).len(), 1);
}

#[test]
fn the_last_run_goes_only_when_its_producers_are_kept() {
    let mut state = with_topic(1);
    assert_eq!(advanced(&mut state, 0, 7, Some(0), &[]), 0, "nothing is committed yet");
    let runs = [run(0, 0, 5, 1), run(0, 5, 8, 2), run(0, 8, 9, 3)];
    assert_eq!(committed(&mut state, &commit(1, vec![runs[0]])), []);
    let progress = |state: &State| state.progress_of(partition(0)).unwrap().clone();
    assert_eq!(progress(&state).runs, 1, "A5: below the log start, but it has the producers");
    assert_eq!(committed(&mut state, &commit(2, vec![runs[1]])), []);
    assert_eq!(advanced(&mut state, 0, 7, None, &runs[..1]), 1, "A7");
    assert_eq!(committed(&mut state, &commit(3, vec![runs[2]])), []);

    for producers in [None, Some(8)] {
        assert_eq!(advanced(&mut state, 0, 20, producers, &runs), producers.map_or(1, |_| 0));
        assert_eq!((progress(&state).runs, progress(&state).kept_as_of), (1, None), "A5");
    }
    assert_eq!(advanced(&mut state, 0, 20, Some(9), &runs), 1);
    assert_eq!((progress(&state).runs, progress(&state).kept_as_of), (0, Some(Offset(9))));
    assert!(state.segments[&SegmentName::data(3)].garbage_since.is_some(), "A7");

    let newer = commit(4, vec![run(0, 9, 12, 4)]);
    let (events, _) = decide::commit_runs(&state, &newer, NOW).unwrap();
    let forgotten = Event::ProducersForgotten { partition: partition(0) };
    assert!(events.contains(&forgotten), "in the same step as the newer run");
    apply_all(&mut state, &events);
    assert_eq!(progress(&state).kept_as_of, None);
    let (events, _) =
        decide::commit_runs(&state, &commit(5, vec![run(0, 12, 13, 5)]), NOW).unwrap();
    assert!(!events.contains(&forgotten), "once");
}

#[test]
fn runs_are_adopted_with_the_producers_or_not_at_all() {
    let mut state = with_topic(3);
    let in_wal = |index, base, end, sequence| {
        let segment = wal(1, sequence);
        Run { segment, ..run(index, base, end, 0) }
    };
    let command = AdoptRuns {
        by: by(),
        segments: vec![
            of_segment(wal(1, 7), vec![in_wal(0, 0, 5, 7), in_wal(1, 0, 4, 7)]),
            of_segment(wal(1, 8), vec![in_wal(0, 5, 9, 8), in_wal(2, 0, 3, 8)]),
        ],
        producers: vec![kept(0, 9), kept(1, 3)],
    };
    let none = RunRefusal::NotContiguous { committed_end: Offset(0) };
    assert_eq!(adopted(&mut state, &command), [none, none], "of another time, or none");
    let progress = |state: &State, index| state.progress_of(partition(index)).unwrap().clone();
    assert_eq!(progress(&state, 0).committed_end, Offset(9));
    assert_eq!(progress(&state, 0).kept_as_of, Some(Offset(9)));
    assert_eq!(progress(&state, 1), Progress::default());
    assert_eq!(state.segments[&wal(1, 7)].live_runs, 1, "A6");

    // Its last run goes while the log is being adopted: the object stays until that is over.
    let runs = [in_wal(0, 0, 5, 7), in_wal(0, 5, 9, 8)];
    assert_eq!(advanced(&mut state, 0, 9, None, &runs), 2, "the producers are kept already");
    assert!(state.segments[&wal(1, 7)].garbage_since.is_some());
    assert_eq!(decide::forget_segments(&state, &[wal(1, 7)]), [], "A6: the log is open");
    let again = AdoptRuns { producers: vec![kept(0, 9), kept(1, 4), kept(2, 3)], ..command };
    let done = RunRefusal::NotContiguous { committed_end: Offset(9) };
    assert_eq!(adopted(&mut state, &again), [done, done], "the rest of it");
    assert_eq!(progress(&state, 0).kept_as_of, Some(Offset(9)), "A5: nothing is taken away");
    assert_eq!(state.segments[&wal(1, 7)].live_runs, 1);
    assert_eq!(state.segments[&wal(1, 7)].garbage_since, None);
    let before = state.clone();
    assert_eq!(adopted(&mut state, &again).len(), 4);
    assert_eq!(state, before, "again, after a lost answer");

    assert_eq!(advanced(&mut state, 1, 4, None, &[in_wal(1, 0, 4, 7)]), 1);
    let log = Registration { broker: BrokerId(1), epoch: BrokerEpoch(1) };
    let (events, ()) = decide::close_log(&state, by(), log, 9).unwrap();
    apply_all(&mut state, &events);
    assert_eq!(decide::forget_segments(&state, &[wal(1, 7)]).len(), 1, "A7: it is over");

    let stale = Registration { epoch: BrokerEpoch(9), ..by() };
    let refused = decide::adopt_runs(&state, &AdoptRuns { by: stale, ..again.clone() }, NOW);
    assert!(matches!(refused, Err(CommitRefusal::StaleBroker { .. })), "A4");
    let many = of_segment(wal(1, 9), vec![in_wal(0, 9, 10, 9); ADOPTED_RUNS_MAX + 1]);
    let refused =
        decide::adopt_runs(&state, &AdoptRuns { segments: vec![many], ..again.clone() }, NOW);
    assert!(matches!(refused, Err(CommitRefusal::TooLarge { .. })));
    let snapshot = Bytes::from(vec![0; ADOPTED_PRODUCERS_BYTES_MAX + 1]);
    let producers = vec![KeptProducers { snapshot, ..kept(0, 9) }];
    let refused = decide::adopt_runs(&state, &AdoptRuns { producers, ..again }, NOW);
    assert!(matches!(refused, Err(CommitRefusal::TooLarge { .. })));
}

#[test]
fn runs_are_replaced_only_by_what_covers_them() {
    let mut state = with_topic(2);
    let parts = [run(0, 0, 5, 1), run(0, 5, 8, 2), run(0, 8, 9, 3), run(1, 0, 4, 1)];
    assert_eq!(committed(&mut state, &commit(1, vec![parts[0], parts[3]])), []);
    assert_eq!(committed(&mut state, &commit(2, vec![parts[1]])), []);
    assert_eq!(committed(&mut state, &commit(3, vec![parts[2]])), []);
    let command = |segment, runs: Vec<Run>, replaced: &[Run]| ReplaceRuns {
        by: by(),
        merged: of_segment(SegmentName::data(segment), runs),
        replaced: replaced.to_vec(),
    };
    let changed = RunRefusal::Changed;
    let wrong = [
        (run(0, 0, 8, 10), &parts[..1]),
        (run(0, 0, 9, 10), &parts[..2]),
        (run(0, 1, 8, 10), &parts[..2]),
        (run(0, 0, 8, 10), &[]),
        (Run { leader_epoch: LeaderEpoch(1), ..run(0, 0, 8, 10) }, &parts[..2]),
        (run(0, 0, 8, 2), &parts[..2]),
    ];
    for (merged, named) in wrong {
        let SegmentName::Data(id) = merged.segment else { panic!("a data segment") };
        let mut tried = state.clone();
        let refused = replaced(&mut tried, &command(id.0, vec![merged], named), &parts);
        assert_eq!(refused, [changed], "{merged:?} for {named:?}");
        assert_eq!(tried.progress, state.progress);
    }
    let moved = Run { position: 7, ..parts[1] };
    let named = command(11, vec![run(0, 0, 8, 11)], &[parts[0], moved]);
    assert_eq!(replaced(&mut state, &named, &parts), [changed], "not as they are");
    assert!(state.segments[&SegmentName::data(11)].garbage_since.is_some(), "A7");
    let twice = command(12, vec![run(0, 0, 8, 12), run(0, 5, 9, 12)], &parts);
    assert_eq!(replaced(&mut state.clone(), &twice, &parts), [changed], "A3: no overlap");

    let merged = Run { length: 150, ..run(0, 0, 8, 13) };
    let both = command(13, vec![merged, run(1, 0, 4, 13)], &parts);
    // Read before another replacement was decided.
    let early = BTreeMap::from([(partition(0), Stored { runs: parts.to_vec(), replacements: 0 })]);
    assert_eq!(replaced(&mut state, &both, &parts), []);
    let progress = state.progress_of(partition(0)).unwrap();
    assert_eq!((progress.runs, progress.committed_bytes, progress.replacements), (2, 250, 1));
    for (segment, live_runs) in [(1, 0), (2, 0), (3, 1), (13, 2)] {
        assert_eq!(state.segments[&SegmentName::data(segment)].live_runs, live_runs, "A6, A7");
    }
    let before = state.clone();
    assert_eq!(replaced(&mut state, &both, &[merged, run(1, 0, 4, 13)]), []);
    assert_eq!(state, before, "again, after a lost answer");

    let late = command(14, vec![run(0, 0, 9, 14)], &parts[..3]);
    let decided = decide::replace_runs(&state, &late, &early, Timestamp(1));
    assert_eq!(decided, Ok((Vec::new(), None)), "A3: read again");
    let (at, stored) = (Offset(8), &early[&partition(0)]);
    let decided = decide::advance_log_start(&state, partition(0), at, None, stored, Timestamp(1));
    assert_eq!(decided, Ok((Vec::new(), Advanced::ReadAgain)), "A6: they are gone already");
    assert_eq!(advanced(&mut state, 0, 8, None, &[merged]), 1);
    let gone = command(15, vec![run(0, 0, 9, 15)], &[merged, parts[2]]);
    assert_eq!(replaced(&mut state, &gone, &[merged, parts[2]]), [changed], "retention was faster");
}

#[test]
fn a_registration_takes_over_partitions_and_logs_on_volumes() {
    let logs = |state: &State| state.logs.keys().map(|it| (it.0.0, it.1.0)).collect::<Vec<_>>();
    let mut state = with_topic(2); // Epoch 1, a log in the bucket.
    registered(&mut state, &register(2, WalKind::File, &[]));
    registered(&mut state, &register(2, WalKind::File, &[]));
    assert_eq!(logs(&state), [(1, 1), (2, 3)], "a log on a volume goes on");
    let led =
        |state: &State| state.topics[&TOPIC].partitions.iter().map(|it| it.leader.0).sum::<i32>();
    assert_eq!(led(&state), 2);

    let epoch = registered(&mut state, &register(3, WalKind::Bucket, &[1, 2, 9]));
    assert_eq!(epoch, BrokerEpoch(4));
    assert_eq!(led(&state), 6);
    assert!(state.topics[&TOPIC].partitions.iter().all(|it| it.leader_epoch == LeaderEpoch(1)));
    assert_eq!(state.brokers.keys().collect::<Vec<_>>(), [&BrokerId(3)], "nobody else may lead");
    assert_eq!(logs(&state), [(1, 1), (2, 3), (3, 4)], "to be ended, and a volume to be found");
    let stale = decide::commit_runs(&state, &commit(1, vec![run(0, 0, 5, 1)]), NOW);
    assert!(matches!(stale, Err(CommitRefusal::StaleBroker { current: None, .. })), "A4");

    registered(&mut state, &register(4, WalKind::File, &[2, 3]));
    assert_eq!(logs(&state), [(1, 1), (3, 4), (4, 5)], "the volume is here");
    assert_eq!(led(&state), 8);
}

#[test]
fn a_log_on_a_volume_goes_on_only_there_or_is_given_up() {
    let on = |volume, gives_up: Option<u128>| RegisterBroker {
        volume: Some(VolumeId(volume)),
        gives_up: gives_up.map(VolumeId),
        ..register(1, WalKind::File, &[])
    };
    let volumes = |state: &State| -> Vec<u128> {
        state.logs.values().filter_map(|it| Some(it.volume?.0)).collect()
    };
    let mut state = State::default();
    registered(&mut state, &on(7, None));
    registered(&mut state, &on(7, None));
    assert_eq!(volumes(&state), [7], "it is here, and goes on");
    registered(&mut state, &on(8, None));
    assert_eq!(volumes(&state), [7, 8], "what the other one holds is not forgotten");
    registered(&mut state, &on(8, Some(9)));
    assert_eq!(volumes(&state), [7, 8]);
    registered(&mut state, &on(8, Some(7)));
    assert_eq!(volumes(&state), [8], "an operator knows that it is lost");
    let in_bucket = RegisterBroker {
        volume: None,
        gives_up: Some(VolumeId(8)),
        ..register(1, WalKind::Bucket, &[])
    };
    registered(&mut state, &in_bucket);
    assert_eq!(volumes(&state), [0; 0]);
}

#[test]
fn a_log_is_trimmed_and_ends_once() {
    let mut state = with_broker();
    let log = Registration { broker: BrokerId(1), epoch: EPOCH };
    let trim = |state: &mut State, before| {
        let (events, ()) = decide::trim_log(state, by(), log, before).unwrap();
        apply_all(state, &events);
        state.logs[&(log.broker, log.epoch)].trimmed
    };
    assert_eq!([trim(&mut state, 5), trim(&mut state, 3), trim(&mut state, 6)], [5, 5, 6]);
    let (events, ()) = decide::close_log(&state, by(), log, 8).unwrap();
    apply_all(&mut state, &events);
    assert_eq!(decide::close_log(&state, by(), log, 8), Ok((Vec::new(), ())), "again");
    let elsewhere = decide::close_log(&state, by(), log, 9);
    assert_eq!(elsewhere, Err(WalError::EndsElsewhere { fence: 8 }), "A4");
    let late = decide::trim_log(&state, by(), log, 7);
    assert_eq!(late, Err(WalError::EndsElsewhere { fence: 8 }), "it has ended");
    let other = WalLog {
        broker: BrokerId(2),
        epoch: BrokerEpoch(6),
        ..state.logs[&(log.broker, log.epoch)]
    };
    let other = WalLog { fence: None, ..other };
    apply_all(&mut state, &[Event::WalChanged(other)]);
    let foreign = Registration { broker: other.broker, epoch: other.epoch };
    assert_eq!(
        decide::trim_log(&state, by(), foreign, 7),
        Err(WalError::UnknownLog),
        "not its own"
    );
    let unknown = Registration { epoch: BrokerEpoch(7), ..log };
    assert_eq!(decide::trim_log(&state, by(), unknown, 1), Err(WalError::UnknownLog));
    let stale = decide::trim_log(&state, unknown, log, 1);
    assert!(matches!(stale, Err(WalError::StaleBroker { .. })), "A4");
}

#[test]
fn a_deleted_topic_drops_its_kept_producers() {
    let mut state = with_topic(3);
    committed(&mut state, &commit(1, vec![run(1, 0, 5, 1)]));
    assert_eq!(advanced(&mut state, 1, 5, Some(5), &[run(1, 0, 5, 1)]), 1);
    let (events, ()) = decide::delete_topic(&state, TOPIC).unwrap();
    let Event::TopicDeleted { kept, .. } = &events[0] else { panic!("{events:?}") };
    assert_eq!(*kept, [1]);
}

#[test]
fn runs_refused_at_first_may_follow_while_the_segment_lives() {
    let mut state = with_topic(2);
    let both = commit(1, vec![run(0, 0, 5, 1), run(1, 4, 9, 1)]);
    let gap = RunRefusal::NotContiguous { committed_end: Offset(0) };
    assert_eq!(committed(&mut state, &both), [gap]);
    assert_eq!(committed(&mut state, &commit(2, vec![run(1, 0, 4, 2)])), []);
    let known = RunRefusal::NotContiguous { committed_end: Offset(5) };
    assert_eq!(committed(&mut state, &both), [known]);
    assert_eq!(state.segments[&SegmentName::data(1)].live_runs, 2);

    let other_bytes = CommitRuns { segment_bytes: 7, ..both };
    let reused = Err(CommitRefusal::SegmentReused(SegmentName::data(1)));
    assert_eq!(decide::commit_runs(&state, &other_bytes, NOW), reused);
    // Garbage may be on its way out already (A6).
    committed(&mut state, &commit(3, vec![run(1, 99, 100, 3)]));
    let revived = decide::commit_runs(&state, &commit(3, vec![run(1, 9, 12, 3)]), NOW);
    assert_eq!(revived, Err(CommitRefusal::SegmentReused(SegmentName::data(3))));
}

#[test]
fn only_the_leader_commits_and_epochs_never_go_back() {
    let mut state = with_topic(1);
    let at = |epoch, base, end| Run { leader_epoch: LeaderEpoch(epoch), ..run(0, base, end, 1) };
    let wrong = RunRefusal::WrongLeaderEpoch;
    assert_eq!(committed(&mut state, &commit(1, vec![at(1, 0, 5)])), [wrong], "not yet led");
    let broker_epoch = registered(&mut state, &register(2, WalKind::Bucket, &[]));
    let of_other = CommitRuns { broker: BrokerId(2), broker_epoch, ..commit(1, vec![at(0, 0, 5)]) };
    assert_eq!(committed(&mut state, &of_other), [wrong], "A4: led by broker 1");

    let broker_epoch = registered(&mut state, &register(1, WalKind::Bucket, &[]));
    let recovered =
        CommitRuns { broker_epoch, ..commit(2, vec![at(0, 0, 5), at(1, 5, 6), at(0, 6, 7)]) };
    assert_eq!(committed(&mut state, &recovered), [wrong], "the tail of epoch 0 first, then 1");
    let epochs = &state.progress_of(partition(0)).unwrap().epochs;
    assert_eq!(*epochs, [(LeaderEpoch(0), Offset(0)), (LeaderEpoch(1), Offset(5))]);

    // The answer was lost: asked again, the runs of both epochs are told as committed, not as another's.
    let known = RunRefusal::NotContiguous { committed_end: Offset(6) };
    let again = CommitRuns { broker_epoch, ..commit(2, vec![at(0, 0, 5), at(1, 5, 6)]) };
    assert_eq!(committed(&mut state, &again), [known, known]);
    let stale = CommitRuns { broker_epoch, ..commit(3, vec![at(0, 5, 6), at(1, 0, 5)]) };
    assert_eq!(committed(&mut state, &stale), [wrong, wrong], "A4: another epoch wrote that");
}

#[test]
fn a_deleted_topic_leaves_its_runs_to_be_dropped() {
    let mut state = with_topic(1);
    committed(&mut state, &commit(1, vec![run(0, 0, 5, 1)]));
    let (events, ()) = decide::delete_topic(&state, TOPIC).unwrap();
    apply_all(&mut state, &events);
    assert!(state.topic("t").is_none());
    assert_eq!(state.dropping.get(&TOPIC), Some(&1));
    let events = decide::drop_runs(TOPIC, &state, &[run(0, 0, 5, 1)], true, Timestamp(3));
    apply_all(&mut state, &events);
    assert!(state.dropping.is_empty());
    assert_eq!(state.segments[&SegmentName::data(1)].live_runs, 0);
    assert!(decide::delete_topic(&state, TOPIC).is_err());
}

#[test]
fn partitions_only_grow_and_keep_their_progress() {
    let mut state = with_topic(1);
    committed(&mut state, &commit(1, vec![run(0, 0, 5, 1)]));
    let (events, topic) = decide::create_partitions(&state, "t", 3).unwrap();
    apply_all(&mut state, &events);
    assert_eq!(topic.partitions.len(), 3);
    assert_eq!(state.progress_of(partition(0)).unwrap().committed_end, Offset(5));
    let refused = decide::create_partitions(&state, "t", 3).map(|it| it.0);
    assert_eq!(refused, Err(CreatePartitionsError::NotMore { has: 3, asked: 3 }));
}

#[test]
fn configs_are_set_removed_and_left_alone() {
    let mut state = with_topic(1);
    let change = |name: &str, value: Option<&str>| {
        BTreeMap::from([(name.to_owned(), value.map(str::to_owned))])
    };
    let (events, ()) = decide::alter_topic_configs(&state, "t", &change("a", Some("1"))).unwrap();
    apply_all(&mut state, &events);
    assert_eq!(state.topics[&TOPIC].configs["a"], "1");
    let same = decide::alter_topic_configs(&state, "t", &change("a", Some("1"))).unwrap();
    assert_eq!(same.0, [], "no change, no commit");
    let events = decide::alter_broker_configs(&state, None, &change("b", Some("2")));
    apply_all(&mut state, &events);
    let events = decide::alter_broker_configs(&state, None, &change("b", None));
    apply_all(&mut state, &events);
    assert!(state.broker_configs[&None].is_empty());

    let alter = |state: &State, value| decide::alter_group_configs(state, "g", &change("c", value));
    let (events, ()) = alter(&state, Some("3")).unwrap();
    apply_all(&mut state, &events);
    assert_eq!(state.group_configs["g"]["c"], "3");
    assert_eq!(alter(&state, Some("3")).unwrap().0, [], "no change, no commit");
    let (events, ()) = alter(&state, None).unwrap();
    apply_all(&mut state, &events);
    assert!(state.group_configs.is_empty(), "nothing is kept of a group without configs");
    assert_eq!(alter(&state, None).unwrap().0, []);
    for (bytes, is_refused) in
        [(decide::GROUP_NAME_BYTES_MAX, false), (decide::GROUP_NAME_BYTES_MAX + 1, true)]
    {
        let name = "g".repeat(bytes);
        let told = decide::alter_group_configs(&state, &name, &change("c", Some("3")));
        assert_eq!(told.is_err(), is_refused, "{bytes} bytes");
    }
    let full = (0..decide::CONFIGURED_GROUPS_MAX).map(|it| (it.to_string(), BTreeMap::new()));
    state.group_configs = full.collect();
    let refused = Err(GroupConfigsError::TooMany { max: decide::CONFIGURED_GROUPS_MAX });
    assert_eq!(alter(&state, Some("3")), refused);
    assert_eq!(alter(&state, None).unwrap().0, []);
}

#[test]
fn producer_ids_are_never_given_twice() {
    let mut state = State::default();
    let (events, first) = decide::allocate_producer_ids(&state, 1000);
    apply_all(&mut state, &events);
    let (_, second) = decide::allocate_producer_ids(&state, 1000);
    assert_eq!((first, second), (0..1000, 1000..2000));
}
