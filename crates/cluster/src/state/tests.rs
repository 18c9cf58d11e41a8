//! Tables for the rules, and random commands for the invariants.

use proptest::prelude::*;

use super::decide;
use super::*;

const TOPIC: TopicId = TopicId([7; 16]);
const EPOCH: BrokerEpoch = BrokerEpoch(1);

fn with_broker() -> State {
    let mut state = State::default();
    let command = RegisterBroker { id: BrokerId(1), host: "h".into(), port: 9, rack: None };
    let (events, epoch) = decide::register_broker(&state, &command);
    assert_eq!(epoch, EPOCH);
    apply_all(&mut state, &events);
    state
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
    let (events, refused) = decide::commit_runs(state, command).unwrap();
    apply_all(state, &events);
    refused.into_iter().map(|it| it.1).collect()
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
    let command = RegisterBroker { id: BrokerId(1), host: "h".into(), port: 9, rack: None };
    let (events, epoch) = decide::register_broker(&state, &command);
    apply_all(&mut state, &events);
    assert_eq!(epoch, BrokerEpoch(2));
    assert!(state.topics[&TOPIC].partitions.iter().all(|it| it.leader_epoch == LeaderEpoch(1)));
    let stale = decide::commit_runs(&state, &commit(1, vec![run(0, 0, 5, 1)]));
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
        let below = [run];
        let to = run.end;
        let decided =
            decide::advance_log_start(state, run.partition, to, &below, Timestamp(9)).unwrap();
        apply_all(state, &decided.0);
        let again =
            decide::advance_log_start(state, run.partition, to, &below, Timestamp(9)).unwrap();
        assert_eq!(again.0, [], "A6: the same run is not dropped twice");
    };
    advance(&mut state, runs[0]);
    assert_eq!(state.segments[&SegmentName::data(1)].live_runs, 1);
    assert_eq!(decide::forget_segments(&state, &[SegmentName::data(1)]), [], "A6");
    advance(&mut state, runs[1]);
    assert_eq!(state.segments[&SegmentName::data(1)].garbage_since, Some(Timestamp(9)));
    assert_eq!(decide::forget_segments(&state, &[SegmentName::data(1)]).len(), 1);
}

#[test]
fn a_run_that_the_log_start_has_passed_is_not_kept() {
    let mut state = with_topic(2);
    let advance = |state: &mut State, to| {
        let decided =
            decide::advance_log_start(state, partition(0), Offset(to), &[], Timestamp(1)).unwrap();
        apply_all(state, &decided.0);
    };
    advance(&mut state, 7);
    assert_eq!(committed(&mut state, &commit(1, vec![run(0, 0, 5, 1)])), []);
    let progress = state.progress_of(partition(0)).unwrap();
    assert_eq!((progress.runs_start, progress.committed_end), (Offset(5), Offset(5)));
    assert_eq!((progress.runs, progress.committed_bytes), (0, 0));
    assert!(
        state.segments[&SegmentName::data(1)].garbage_since.is_some(),
        "A7: nothing of it is live"
    );
    assert_eq!(committed(&mut state, &commit(2, vec![run(0, 5, 8, 2)])), []);
    assert_eq!(state.progress_of(partition(0)).unwrap().runs, 1, "8 lies above the log start");

    // Committed before the log start moved, not yet dropped: what follows it is kept, too.
    advance(&mut state, 20);
    assert_eq!(committed(&mut state, &commit(3, vec![run(0, 8, 9, 3)])), []);
    assert_eq!(state.progress_of(partition(0)).unwrap().runs, 2, "A3: no gap");
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
    assert_eq!(decide::commit_runs(&state, &other_bytes), reused);
    // Garbage may be on its way out already (A6).
    committed(&mut state, &commit(3, vec![run(1, 99, 100, 3)]));
    let revived = decide::commit_runs(&state, &commit(3, vec![run(1, 9, 12, 3)]));
    assert_eq!(revived, Err(CommitRefusal::SegmentReused(SegmentName::data(3))));
}

#[test]
fn only_the_leader_commits_and_epochs_never_go_back() {
    let mut state = with_topic(1);
    let at = |epoch, base, end| Run { leader_epoch: LeaderEpoch(epoch), ..run(0, base, end, 1) };
    let wrong = RunRefusal::WrongLeaderEpoch;
    assert_eq!(committed(&mut state, &commit(1, vec![at(1, 0, 5)])), [wrong], "not yet led");
    let other = RegisterBroker { id: BrokerId(2), host: "h".into(), port: 9, rack: None };
    let (events, broker_epoch) = decide::register_broker(&state, &other);
    apply_all(&mut state, &events);
    let of_other = CommitRuns { broker: BrokerId(2), broker_epoch, ..commit(1, vec![at(0, 0, 5)]) };
    assert_eq!(committed(&mut state, &of_other), [wrong], "A4: led by broker 1");

    let again = RegisterBroker { id: BrokerId(1), ..other };
    let (events, broker_epoch) = decide::register_broker(&state, &again);
    apply_all(&mut state, &events);
    let recovered =
        CommitRuns { broker_epoch, ..commit(2, vec![at(0, 0, 5), at(1, 5, 6), at(0, 6, 7)]) };
    assert_eq!(committed(&mut state, &recovered), [wrong], "the tail of epoch 0 first, then 1");
    let epochs = &state.progress_of(partition(0)).unwrap().epochs;
    assert_eq!(*epochs, [(LeaderEpoch(0), Offset(0)), (LeaderEpoch(1), Offset(5))]);
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
}

#[test]
fn producer_ids_are_never_given_twice() {
    let mut state = State::default();
    let (events, first) = decide::allocate_producer_ids(&state, 1000);
    apply_all(&mut state, &events);
    let (_, second) = decide::allocate_producer_ids(&state, 1000);
    assert_eq!((first, second), (0..1000, 1000..2000));
}

#[derive(Debug, Clone)]
enum Op {
    Commit { index: i32, base_shift: i64, count: i64 },
    Advance { index: i32, to: i64 },
    Register,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..3, -1i64..2, 1i64..5).prop_map(|(index, base_shift, count)| Op::Commit {
            index,
            base_shift: if base_shift == -1 { -1 } else { 0 },
            count
        }),
        2 => (0..3, 0i64..60).prop_map(|(index, to)| Op::Advance { index, to }),
        1 => Just(Op::Register),
    ]
}

proptest! {
    // Goal: A3 and A6 hold whatever is asked. Method: random commands against a model of the runs.
    #[test]
    fn runs_cover_the_log_whatever_happens(ops in prop::collection::vec(op(), 0..120)) {
        let mut state = with_topic(3);
        let (mut live, mut ever): (Vec<Run>, Vec<Run>) = Default::default();
        for (number, op) in ops.into_iter().enumerate() {
            match op {
                Op::Commit { index, base_shift, count } => {
                    let end = state.progress_of(partition(index)).unwrap().committed_end;
                    let base = end.0 + base_shift;
                    let epoch = state.topics[&TOPIC].partitions[index as usize].leader_epoch;
                    let segment = number as u128;
                    let run = Run { leader_epoch: epoch, ..run(index, base, base + count, segment) };
                    let broker_epoch = state.broker_epoch_last;
                    let command = CommitRuns { broker_epoch, ..commit(segment, vec![run]) };
                    let refused = committed(&mut state, &command);
                    prop_assert_eq!(refused.is_empty(), base_shift == 0);
                    let before = state.progress_of(partition(index)).unwrap();
                    let is_kept = before.log_start < run.end
                        || live.iter().any(|it| it.partition == run.partition);
                    if refused.is_empty() && is_kept {
                        live.push(run);
                        ever.push(run);
                    }
                }
                Op::Advance { index, to } => {
                    let progress = state.progress_of(partition(index)).unwrap();
                    let to = Offset(to).max(progress.log_start);
                    let is_below = |it: &Run| it.partition == partition(index) && it.end <= to;
                    // As read from a store that lags behind: with runs that are dropped already.
                    let below: Vec<Run> = ever.iter().copied().filter(is_below).collect();
                    let decided = decide::advance_log_start(
                        &state, partition(index), to, &below, Timestamp(1),
                    );
                    apply_all(&mut state, &decided.unwrap().0);
                    live.retain(|it| !is_below(it));
                }
                Op::Register => {
                    let command =
                        RegisterBroker { id: BrokerId(1), host: "h".into(), port: 9, rack: None };
                    let (events, _) = decide::register_broker(&state, &command);
                    apply_all(&mut state, &events);
                }
            }
            state.check();
            for index in 0..3 {
                let progress = state.progress_of(partition(index)).unwrap();
                let runs: Vec<&Run> =
                    live.iter().filter(|it| it.partition == partition(index)).collect();
                prop_assert!(runs.windows(2).all(|it| it[0].end == it[1].base), "A3");
                if let Some(last) = runs.last() {
                    prop_assert_eq!(last.end, progress.committed_end);
                }
                prop_assert_eq!(runs.len() as u64, progress.runs);
            }
            let live_of = |id: &SegmentName| live.iter().filter(|it| it.segment == *id).count();
            for (id, segment) in &state.segments {
                prop_assert_eq!(segment.live_runs as usize, live_of(id), "A6");
            }
        }
    }
}
