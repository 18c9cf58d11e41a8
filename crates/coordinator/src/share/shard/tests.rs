use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use vocabulary::Timestamp;

use super::*;
use crate::format::{Record, Stored};
use crate::share::command::{AcknowledgeKind, AcknowledgementBatch, LogBatch, ShareLimits};
use crate::share::format;

const LIMITS: ShareLimits = ShareLimits { locks_max: 20, delivery_count_limit: 5 };
const PARTITION: Partition = Partition { topic: TopicId([1; 16]), index: 0 };

/// The log is a list of which a part is durable; answers that wait are handed out when theirs is.
struct Bench {
    options: ShareOptions,
    shard: ShareShard,
    /// As looks say.
    limits: ShareLimits,
    now: Now,
    log: Vec<(Bytes, Option<Bytes>)>,
    /// Cut off in front.
    cut: usize,
    waiting: Vec<(usize, Ticket, ShareReply)>,
    answers: BTreeMap<Ticket, ShareReply>,
    sent: u64,
    woken: Vec<ShareOrder>,
    /// Where the log may be cut.
    below: usize,
    /// How many records were stored as one, each time.
    units: Vec<usize>,
}

fn options() -> ShareOptions {
    ShareOptions {
        limits: LIMITS,
        updates_per_snapshot: 7,
        cold_interval_ms: 1_000,
        log_held_max: 15,
        log_cut_min: 5,
        partitions_max: 3,
    }
}

impl Bench {
    fn new() -> Bench {
        Bench::with(options())
    }

    fn with(options: ShareOptions) -> Bench {
        Bench {
            shard: ShareShard::new(options.clone()),
            options,
            limits: LIMITS,
            now: Now { tick: Tick(0), wall: Timestamp(5) },
            log: Vec::new(),
            cut: 0,
            waiting: Vec::new(),
            answers: BTreeMap::new(),
            sent: 0,
            woken: Vec::new(),
            below: 0,
            units: Vec::new(),
        }
    }

    fn step(&mut self, input: ShareInput) {
        let mut outputs = ShareOutputs::default();
        self.shard.step(self.now, input, &mut outputs);
        for unit in &outputs.units {
            self.units.push(unit.len());
            let Stored::Records(records) = format::store(unit) else { panic!("plain records") };
            self.log.extend(records.into_iter().map(|Record { key, value }| (key, value)));
        }
        for Answer { ticket, reply, after } in outputs.answers {
            match after {
                After::Now => drop(self.answers.insert(ticket, reply)),
                After::Commit => self.waiting.push((self.log.len(), ticket, reply)),
            }
        }
        for order in outputs.orders {
            match order {
                ShareOrder::Wake { .. } => self.woken.push(order),
                ShareOrder::Cut { below, .. } => self.below = below.0 as usize,
            }
        }
    }

    fn send(&mut self, command: ShareCommand) -> Ticket {
        self.sent += 1;
        let ticket = Ticket(self.sent);
        self.step(ShareInput::Request { ticket, command });
        ticket
    }

    /// Everything up to there is durable.
    fn durable(&mut self, length: usize) {
        for (until, ticket, reply) in std::mem::take(&mut self.waiting) {
            match until <= length {
                true => drop(self.answers.insert(ticket, reply)),
                false => self.waiting.push((until, ticket, reply)),
            }
        }
    }

    fn ask(&mut self, command: ShareCommand) -> ShareReply {
        let ticket = self.send(command);
        self.durable(self.log.len());
        self.answers[&ticket].clone()
    }

    fn replayed(&self) -> ShareShard {
        let mut shard = ShareShard::new(self.options.clone());
        for (at, (key, value)) in self.log.iter().enumerate().skip(self.cut) {
            let event = format::decode(Some(key), value.as_deref()).unwrap().unwrap();
            shard.replay(event, Offset(at as i64));
        }
        shard.check();
        shard
    }

    /// Only this much of the log was durable.
    fn crash(&mut self, length: usize) {
        self.log.truncate(length);
        self.waiting.clear();
        self.below = self.cut;
        self.shard = self.replayed();
    }

    fn look(&mut self) -> NextFetch {
        self.look_at(PARTITION)
    }

    fn look_at(&mut self, partition: Partition) -> NextFetch {
        let (log_start, begin) = (Offset(0), Some(Offset(0)));
        let at = LookAt { partition, leader_epoch: 1, log_start, begin };
        self.look_beside(at, &[])
    }

    fn look_beside(&mut self, at: LookAt, siblings: &[LookAt]) -> NextFetch {
        let look = Look {
            group: "g".to_owned(),
            limits: self.limits,
            partitions: vec![at],
            siblings: siblings.to_vec(),
        };
        match self.ask(ShareCommand::Look(look)) {
            ShareReply::Look(rows) => rows[0],
            other => panic!("{other:?}"),
        }
    }

    fn described(&mut self) -> Vec<(i32, i64)> {
        match self.ask(ShareCommand::Describe { group: "g".to_owned() }) {
            ShareReply::Described(rows) => {
                rows.into_iter().map(|it| (it.partition.index, it.start.0)).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    fn take(&mut self, member: &str, from: Offset, records_max: i64) -> Ticket {
        self.send(ShareCommand::Acquire(Acquire {
            group: "g".to_owned(),
            member: member.to_owned(),
            partition: PARTITION,
            from,
            batches: vec![LogBatch { first: from, last: Offset(999), is_withheld: false }],
            records_max,
            is_exact: true,
            span_records: 100,
            lock_ms: 10,
        }))
    }

    fn taken(&self, ticket: Ticket) -> Vec<AcquiredSpan> {
        match self.answers.get(&ticket) {
            Some(ShareReply::Acquired(spans)) => spans.clone(),
            None => Vec::new(),
            other => panic!("{other:?}"),
        }
    }

    fn tell(&mut self, member: &str, first: Offset, last: Offset, kind: AcknowledgeKind) -> Ticket {
        let batch = AcknowledgementBatch { first, last, kinds: vec![kind] };
        self.send(ShareCommand::Acknowledge(Acknowledge {
            group: "g".to_owned(),
            member: member.to_owned(),
            partitions: vec![(PARTITION, vec![batch])],
            lock_ms: 10,
        }))
    }

    fn wait(&mut self, ms: u64) {
        self.now.tick = self.now.tick.plus(Duration::from_millis(ms));
        if self.shard.wake_at().is_some_and(|it| it <= self.now.tick) {
            self.step(ShareInput::TimePassed);
        }
    }
}

#[test]
fn a_new_share_partition_is_shown_only_when_it_is_durable() {
    let mut bench = Bench::new();
    let at = LookAt {
        partition: PARTITION,
        leader_epoch: 1,
        log_start: Offset(0),
        begin: Some(Offset(4)),
    };
    let look =
        Look { group: "g".to_owned(), limits: LIMITS, partitions: vec![at], siblings: Vec::new() };
    // Who does not say where it begins is told that it has to, and nothing begins.
    let unsaid = Look { partitions: vec![LookAt { begin: None, ..at }], ..look.clone() };
    let ticket = bench.send(ShareCommand::Look(unsaid.clone()));
    assert_eq!(bench.answers.remove(&ticket), Some(ShareReply::Look(vec![NextFetch::Unbegun])));
    assert!(bench.log.is_empty());
    let first = bench.send(ShareCommand::Look(look.clone()));
    let second = bench.send(ShareCommand::Look(look.clone()));
    assert!(bench.answers.is_empty(), "{:?}", bench.answers);
    bench.durable(1);
    for ticket in [first, second] {
        assert_eq!(bench.answers[&ticket], ShareReply::Look(vec![NextFetch::Fresh(Offset(4))]));
    }
    bench.crash(1);
    assert_eq!(
        bench.ask(ShareCommand::Look(unsaid)),
        ShareReply::Look(vec![NextFetch::Fresh(Offset(4))])
    );
    let again = LookAt { begin: Some(Offset(9)), ..at };
    let ticket = bench.send(ShareCommand::Look(Look { partitions: vec![again], ..look }));
    bench.durable(1);
    assert_eq!(bench.answers[&ticket], ShareReply::Look(vec![NextFetch::Fresh(Offset(4))]));
}

#[test]
fn who_waits_is_woken_by_what_comes_back_and_by_room() {
    let mut bench = Bench::new();
    bench.look();
    let all = bench.take("a", Offset(0), 50);
    bench.durable(9);
    assert_eq!(bench.taken(all)[0].last, Offset(19), "as many as may be locked");
    assert_eq!(bench.look(), NextFetch::Full);
    assert!(bench.woken.is_empty());
    bench.tell("a", Offset(1), Offset(1), AcknowledgeKind::Accept);
    assert!(bench.woken.is_empty(), "the start has not moved");
    bench.tell("a", Offset(0), Offset(0), AcknowledgeKind::Accept);
    assert_eq!(std::mem::take(&mut bench.woken).len(), 1);
    bench.wait(10);
    assert_eq!(std::mem::take(&mut bench.woken).len(), 1);
    assert_eq!(bench.look(), NextFetch::Returned(Offset(2)));
}

#[test]
fn a_groups_own_limits_count_from_its_next_look_on() {
    let mut bench = Bench::new();
    bench.limits = ShareLimits { locks_max: 3, delivery_count_limit: 2 };
    bench.look();
    let first = bench.take("a", Offset(0), 50);
    bench.durable(9);
    assert_eq!(bench.taken(first)[0].last, Offset(2));
    assert_eq!(bench.look(), NextFetch::Full);
    // More of them: those that are on their way stay, others join them.
    bench.limits = ShareLimits { locks_max: 5, delivery_count_limit: 2 };
    assert_eq!(bench.look(), NextFetch::Fresh(Offset(3)));
    // Fewer than are on their way: nothing new, until enough is done with.
    bench.limits = ShareLimits { locks_max: 1, delivery_count_limit: 2 };
    assert_eq!(bench.look(), NextFetch::Full);
    bench.tell("a", Offset(1), Offset(2), AcknowledgeKind::Accept);
    // The second delivery is the last one.
    bench.tell("a", Offset(0), Offset(0), AcknowledgeKind::Release);
    assert_eq!(bench.look(), NextFetch::Returned(Offset(0)));
    let again = bench.take("b", Offset(0), 1);
    assert_eq!(bench.taken(again)[0].delivery_count, 2);
    bench.wait(10);
    assert_eq!(bench.look(), NextFetch::Fresh(Offset(3)), "given up");
}

#[test]
fn offsets_are_described_altered_and_deleted() {
    let mut bench = Bench::new();
    bench.look();
    bench.take("a", Offset(0), 5);
    bench.tell("a", Offset(2), Offset(3), AcknowledgeKind::Accept);
    let described =
        |bench: &mut Bench| match bench.ask(ShareCommand::Describe { group: "g".to_owned() }) {
            ShareReply::Described(rows) => rows,
            other => panic!("{other:?}"),
        };
    let row = DescribedShare {
        partition: PARTITION,
        start: Offset(0),
        leader_epoch: 1,
        complete_count: 2,
    };
    assert_eq!(described(&mut bench), [row]);
    let start = StartAt { partition: PARTITION, leader_epoch: 1, start: Offset(7) };
    let starts = vec![start];
    let alter = ShareCommand::Alter { group: "g".to_owned(), starts, siblings: Vec::new() };
    assert_eq!(bench.ask(alter), ShareReply::Altered(vec![ErrorCode::None]));
    assert_eq!(bench.look(), NextFetch::Fresh(Offset(7)));
    let late = bench.tell("a", Offset(8), Offset(8), AcknowledgeKind::Accept);
    bench.durable(usize::MAX);
    assert_eq!(bench.answers[&late], ShareReply::Acknowledged(vec![ErrorCode::InvalidRecordState]));
    let length = bench.log.len();
    bench.crash(length);
    assert_eq!(described(&mut bench)[0].start, Offset(7));
    let delete = |topics| ShareCommand::Delete { group: "g".to_owned(), topics };
    assert_eq!(bench.ask(delete(Some(vec![TopicId([9; 16])]))), ShareReply::Deleted(vec![]));
    assert_eq!(bench.ask(delete(None)), ShareReply::Deleted(vec![PARTITION.topic]));
    assert!(described(&mut bench).is_empty());
    assert!(bench.replayed().images().next().is_none());
}

#[test]
fn there_are_only_so_many_and_those_of_deleted_topics_go() {
    let mut bench = Bench::new();
    for index in 0..3 {
        assert_eq!(bench.look_at(Partition { index, ..PARTITION }), NextFetch::Fresh(Offset(0)));
    }
    let refused = bench.look_at(Partition { index: 3, ..PARTITION });
    assert_eq!(refused, NextFetch::Refused(ErrorCode::KafkaStorageError));
    bench.step(ShareInput::TopicDeleted { topic: PARTITION.topic });
    assert!(bench.replayed().images().next().is_none());
}

fn look_at(index: i32, log_start: i64, begin: Option<i64>) -> LookAt {
    LookAt {
        partition: Partition { index, ..PARTITION },
        leader_epoch: 1,
        log_start: Offset(log_start),
        begin: begin.map(Offset),
    }
}

// KAFKA-20742: a group that starts at the end must not skip what is written to a partition before it first reads it,
// only because the partition is younger than the group. Those that were there when the group came begin with it.
#[test]
fn a_group_begins_with_all_partitions_of_a_topic_and_takes_later_ones_from_their_first_record() {
    let mut bench = Bench::with(ShareOptions { partitions_max: 4, ..options() });
    let siblings = [look_at(1, 0, Some(7)), look_at(2, 0, None), look_at(0, 0, Some(6))];
    assert_eq!(bench.look_beside(look_at(0, 0, None), &siblings), NextFetch::Unbegun);
    assert!(bench.log.is_empty(), "nobody has said where it begins");
    let first = bench.look_beside(look_at(0, 0, Some(5)), &siblings);
    assert_eq!(
        (first, &bench.units[..]),
        (NextFetch::Fresh(Offset(5)), &[3][..]),
        "all or nothing"
    );
    assert_eq!(bench.described(), [(0, 5), (1, 7), (2, -1)]);
    bench.crash(bench.log.len());
    assert_eq!(bench.look_beside(look_at(1, 0, None), &[]), NextFetch::Fresh(Offset(7)));
    // It was there, but where it begins could not be told.
    assert_eq!(bench.look_beside(look_at(2, 0, None), &[]), NextFetch::Unbegun);
    let acquire = Acquire {
        group: "g".to_owned(),
        member: "a".to_owned(),
        partition: Partition { index: 2, ..PARTITION },
        from: Offset(0),
        batches: vec![LogBatch { first: Offset(0), last: Offset(9), is_withheld: false }],
        records_max: 5,
        is_exact: true,
        span_records: 100,
        lock_ms: 10,
    };
    assert_eq!(bench.ask(ShareCommand::Acquire(acquire)), ShareReply::Acquired(Vec::new()));
    assert_eq!(bench.look_beside(look_at(2, 0, Some(9)), &siblings), NextFetch::Fresh(Offset(9)));
    // The topic has grown.
    assert_eq!(bench.look_beside(look_at(3, 2, None), &[]), NextFetch::Fresh(Offset(2)));
    let full = NextFetch::Refused(ErrorCode::KafkaStorageError);
    assert_eq!(bench.look_beside(look_at(4, 0, None), &[]), full);
    bench.crash(bench.log.len());
    assert_eq!(bench.described(), [(0, 5), (1, 7), (2, 9), (3, 2)]);
    // A topic that has no room as a whole does not begin in part.
    bench.step(ShareInput::TopicDeleted { topic: PARTITION.topic });
    let other = |it: LookAt| LookAt {
        partition: Partition { topic: TopicId([2; 16]), ..it.partition },
        ..it
    };
    let siblings: Vec<LookAt> = (1..5).map(|it| other(look_at(it, 0, Some(0)))).collect();
    assert_eq!(bench.look_beside(other(look_at(0, 0, Some(0))), &siblings), full);
    assert_eq!(bench.described(), []);
}

#[test]
fn an_offset_that_is_set_leaves_the_topics_other_partitions_undecided() {
    let mut bench = Bench::new();
    let start = StartAt { partition: PARTITION, leader_epoch: 1, start: Offset(7) };
    let siblings = vec![look_at(0, 0, None), look_at(1, 0, None)];
    let alter = ShareCommand::Alter { group: "g".to_owned(), starts: vec![start], siblings };
    assert_eq!(bench.ask(alter), ShareReply::Altered(vec![ErrorCode::None]));
    assert_eq!(bench.described(), [(0, 7), (1, -1)]);
    assert_eq!(bench.look_beside(look_at(1, 0, Some(4)), &[]), NextFetch::Fresh(Offset(4)));
    assert_eq!(bench.look(), NextFetch::Fresh(Offset(7)));
}

#[test]
fn a_deleted_topic_does_not_come_back_with_who_still_waits_for_it() {
    let mut bench = Bench::new();
    bench.look();
    bench.step(ShareInput::TopicDeleted { topic: PARTITION.topic });
    let length = bench.log.len();
    assert_eq!(bench.look(), NextFetch::Refused(ErrorCode::UnknownTopicId));
    let start = StartAt { partition: PARTITION, leader_epoch: 1, start: Offset(7) };
    let alter =
        ShareCommand::Alter { group: "g".to_owned(), starts: vec![start], siblings: Vec::new() };
    assert_eq!(bench.ask(alter), ShareReply::Altered(vec![ErrorCode::UnknownTopicId]));
    assert_eq!(bench.log.len(), length);
}

// As many snapshots as there are share-partitions lie behind one another: they are not too old for that.
#[test]
fn many_share_partitions_are_not_stored_anew_for_ever() {
    let partitions = 3 * VISITS_PER_STEP_MAX;
    let mut bench = Bench::with(ShareOptions { partitions_max: partitions, ..options() });
    let siblings: Vec<LookAt> = (1..partitions as i32).map(|it| look_at(it, 0, Some(0))).collect();
    bench.look_beside(look_at(0, 0, Some(0)), &siblings);
    // Until the snapshots of those that nobody uses are old.
    for offset in 0..2 * partitions as i64 {
        bench.take("a", Offset(offset), 1);
        bench.tell("a", Offset(offset), Offset(offset), AcknowledgeKind::Accept);
    }
    let mut steps = 0;
    bench.now.tick = bench.now.tick.plus(Duration::from_secs(2));
    while bench.shard.wake_at().is_some_and(|it| it <= bench.now.tick) {
        bench.step(ShareInput::TimePassed);
        steps += 1;
        assert!(steps < 10, "it ends");
    }
    assert!((2..5).contains(&steps), "{steps}");
}

#[test]
fn a_share_partition_that_nobody_uses_does_not_hold_the_log() {
    let mut bench = Bench::new();
    bench.look_at(Partition { index: 1, ..PARTITION });
    bench.look();
    for offset in 0..40 {
        bench.take("a", Offset(offset), 1);
        bench.tell("a", Offset(offset), Offset(offset), AcknowledgeKind::Accept);
    }
    assert_eq!(bench.below, 0);
    bench.wait(2_000);
    let (needed, length) = (bench.below, bench.log.len());
    assert!(
        length as i64 - needed as i64 <= options().log_held_max + options().log_cut_min,
        "{needed}"
    );
    let whole: Vec<_> = bench.replayed().images().map(|(_, it)| it.clone()).collect();
    bench.cut = needed;
    let cut: Vec<_> = bench.replayed().images().map(|(_, it)| it.clone()).collect();
    assert_eq!((whole.len(), whole), (2, cut));
}

#[derive(Debug, Clone)]
enum Step {
    Take { member: usize, records_max: i64 },
    Tell { member: usize, kind: AcknowledgeKind },
    Release { member: usize },
    Wait(u64),
    Durable,
    Crash(usize),
    Cut,
}

fn any_step() -> impl Strategy<Value = Step> {
    use AcknowledgeKind::{Accept, Reject, Release};
    let kind = prop_oneof![5 => Just(Accept), 2 => Just(Release), 1 => Just(Reject)];
    prop_oneof![
        4 => (0..3usize, 1i64..5).prop_map(|(member, records_max)| Step::Take { member, records_max }),
        6 => (0..3usize, kind).prop_map(|(member, kind)| Step::Tell { member, kind }),
        1 => (0..3usize).prop_map(|member| Step::Release { member }),
        2 => (1u64..8).prop_map(Step::Wait),
        3 => Just(Step::Durable),
        1 => (0..9usize).prop_map(Step::Crash),
        1 => Just(Step::Cut),
    ]
}

const MEMBERS: [&str; 3] = ["a", "b", "c"];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    // Goal: what was told to be acknowledged is never delivered again, and what was not done with always is, whatever
    // part of the log a crash leaves beyond what answers rested on.
    #[test]
    fn nothing_acknowledged_comes_back_and_nothing_is_lost(
        steps in proptest::collection::vec(any_step(), 1..80),
    ) {
        let mut bench = Bench::new();
        bench.look();
        let mut durable = bench.log.len();
        // What each member has, and what is on its way: the ticket, the offsets, and whether they are done with.
        let mut held: [Vec<(Offset, Offset)>; 3] = Default::default();
        let mut told: Vec<(Ticket, Offset, Offset, bool)> = Vec::new();
        let mut done: Vec<i64> = Vec::new();
        let mut may_be_done: Vec<i64> = Vec::new();
        for step in steps {
            match step {
                Step::Take { member, records_max } => {
                    // Looks and waits are the caller's: what is durable is durable.
                    let next = bench.look();
                    durable = bench.log.len();
                    let (NextFetch::Returned(from) | NextFetch::Fresh(from)) = next else { continue };
                    let ticket = bench.take(MEMBERS[member], from, records_max);
                    bench.durable(durable);
                    for span in bench.taken(ticket) {
                        for offset in span.first.0..=span.last.0 {
                            prop_assert!(!done.contains(&offset), "{} is delivered again", offset);
                        }
                        held[member].push((span.first, span.last));
                    }
                }
                Step::Tell { member, kind } => {
                    let Some((first, last)) = held[member].pop() else { continue };
                    let ticket = bench.tell(MEMBERS[member], first, last, kind);
                    if kind != AcknowledgeKind::Release {
                        may_be_done.extend(first.0..=last.0);
                    }
                    told.push((ticket, first, last, kind != AcknowledgeKind::Release));
                }
                Step::Release { member } => {
                    held[member].clear();
                    let member = MEMBERS[member].to_owned();
                    bench.send(ShareCommand::Release { group: "g".to_owned(), member });
                }
                Step::Wait(ms) => bench.wait(ms),
                Step::Durable => {
                    durable = bench.log.len();
                    bench.durable(durable);
                }
                Step::Crash(more) => {
                    let length = (durable + more).min(bench.log.len());
                    bench.crash(length);
                    durable = length;
                    held = Default::default();
                }
                Step::Cut => {
                    // Below what is needed once everything is durable.
                    durable = bench.log.len();
                    bench.durable(durable);
                    bench.cut = bench.below;
                }
            }
            for (ticket, first, last, is_done) in &told {
                if let Some(ShareReply::Acknowledged(codes)) = bench.answers.get(ticket)
                    && codes[0] == ErrorCode::None
                    && *is_done
                {
                    done.extend(first.0..=last.0);
                }
            }
            told.retain(|(ticket, ..)| !bench.answers.contains_key(ticket));
            let live: Vec<_> = bench.shard.images().collect();
            let replayed = bench.replayed();
            prop_assert_eq!(live, replayed.images().collect::<Vec<_>>());
        }
        // Everybody goes; then one member gets all that is left, and that is all that nobody may have been done with.
        for member in MEMBERS {
            bench.send(ShareCommand::Release { group: "g".to_owned(), member: member.to_owned() });
        }
        bench.wait(100);
        let mut got = Vec::new();
        while let NextFetch::Returned(from) | NextFetch::Fresh(from) = bench.look() {
            if 40 < from.0 {
                break;
            }
            let ticket = bench.take("z", from, 5);
            bench.durable(usize::MAX);
            for span in bench.taken(ticket) {
                got.extend(span.first.0..=span.last.0);
                bench.tell("z", span.first, span.last, AcknowledgeKind::Accept);
            }
        }
        for offset in 0..=40 {
            if done.contains(&offset) {
                prop_assert!(!got.contains(&offset), "{} is delivered again", offset);
            } else if !may_be_done.contains(&offset) && !is_worn_out(&bench, offset) {
                prop_assert!(got.contains(&offset), "{} is lost", offset);
            }
        }
    }
}

/// Delivered so often that it is given up: the count of deliveries bounds how often a record comes back.
fn is_worn_out(bench: &Bench, offset: i64) -> bool {
    bench.log.iter().any(|(key, value)| {
        let event = format::decode(Some(key), value.as_deref()).unwrap().unwrap();
        let spans = match event {
            ShareEvent::Update { spans, .. } => spans,
            ShareEvent::Snapshot { image, .. } => image.spans().collect(),
            ShareEvent::Forgotten { .. } => Vec::new(),
        };
        spans.iter().any(|it| {
            it.first.0 <= offset
                && offset <= it.last.0
                && LIMITS.delivery_count_limit <= it.delivery_count
        })
    })
}
