//! The rules: which events a command leads to, or why it is refused. Changes nothing itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use vocabulary::{
    BrokerEpoch, BrokerId, LeaderEpoch, Offset, Partition, SegmentName, Timestamp, TopicId,
};

use super::apply::with_next_epochs;
use super::command::{
    CommitRefusal, CommitRuns, CreatePartitionsError, CreateTopicError, LogStartError,
    RegisterBroker, RunRefusal, UnknownTopic,
};
use super::event::Event;
use super::topic::{self, PartitionInfo};
use super::{Broker, Run, Segment, State, Topic, check_topic_name};

/// The most partitions one topic may have. A typing error must not create a million.
pub(crate) const TOPIC_PARTITIONS_MAX: u32 = 100_000;

type Decided<Reply, Refusal> = Result<(Vec<Event>, Reply), Refusal>;

/// A new epoch for the broker and for every partition it leads.
pub(crate) fn register_broker(
    state: &State,
    command: &RegisterBroker,
) -> (Vec<Event>, BrokerEpoch) {
    let epoch = state.broker_epoch_last.next();
    let mut events = vec![Event::BrokerRegistered(Broker {
        id: command.id,
        epoch,
        host: command.host.clone(),
        port: command.port,
        rack: command.rack.clone(),
    })];
    for topic in state.topics.values() {
        let leads = |it: &PartitionInfo| it.leader == command.id;
        if topic.partitions.iter().any(leads) {
            let partitions = with_next_epochs(topic, leads);
            events.push(Event::PartitionsChanged { topic: topic.id, partitions });
        }
    }
    (events, epoch)
}

pub(crate) fn create_topic(
    state: &State,
    id: TopicId,
    name: &str,
    partitions: u32,
    configs: &BTreeMap<String, String>,
) -> Decided<Arc<Topic>, CreateTopicError> {
    check_topic_name(name)?;
    if state.names.contains_key(name) {
        return Err(CreateTopicError::Exists);
    }
    if name.contains(['.', '_']) {
        let other = state.names.keys().find(|other| topic::collides(name, other));
        if let Some(other) = other {
            return Err(CreateTopicError::Collides { other: other.clone() });
        }
    }
    if !(1..=TOPIC_PARTITIONS_MAX).contains(&partitions) {
        let max = TOPIC_PARTITIONS_MAX;
        return Err(CreateTopicError::Partitions { asked: partitions, max });
    }
    let leaders = leaders(state, 0..partitions).ok_or(CreateTopicError::NoBroker)?;
    let topic = Arc::new(Topic {
        id,
        name: name.to_owned(),
        is_internal: topic::is_internal(name),
        partitions: leaders,
        configs: configs.clone(),
    });
    Ok((vec![Event::TopicCreated(Arc::clone(&topic))], topic))
}

/// New partitions go round robin over the brokers. `None` if there is none.
fn leaders(state: &State, indexes: std::ops::Range<u32>) -> Option<Vec<PartitionInfo>> {
    let brokers: Vec<BrokerId> = state.brokers.keys().copied().collect();
    let led_by = |index: u32| {
        let leader = *brokers.get(index as usize % brokers.len().max(1))?;
        Some(PartitionInfo { leader, leader_epoch: LeaderEpoch(0) })
    };
    indexes.map(led_by).collect()
}

pub(crate) fn delete_topic(state: &State, id: TopicId) -> Decided<(), UnknownTopic> {
    let topic = state.topics.get(&id).ok_or(UnknownTopic)?;
    let partitions = topic.partitions.len() as u32;
    Ok((vec![Event::TopicDeleted { id, name: topic.name.clone(), partitions }], ()))
}

pub(crate) fn create_partitions(
    state: &State,
    name: &str,
    count: u32,
) -> Decided<Arc<Topic>, CreatePartitionsError> {
    let topic = state.topic(name).ok_or(CreatePartitionsError::UnknownTopic)?;
    let has = topic.partitions.len() as u32;
    if count <= has {
        return Err(CreatePartitionsError::NotMore { has, asked: count });
    }
    if TOPIC_PARTITIONS_MAX < count {
        return Err(CreatePartitionsError::TooMany { asked: count, max: TOPIC_PARTITIONS_MAX });
    }
    let mut partitions = topic.partitions.clone();
    partitions.extend(leaders(state, has..count).ok_or(CreatePartitionsError::NoBroker)?);
    let mut grown = Topic::clone(topic);
    grown.partitions = partitions.clone();
    Ok((vec![Event::PartitionsChanged { topic: topic.id, partitions }], Arc::new(grown)))
}

pub(crate) fn alter_topic_configs(
    state: &State,
    name: &str,
    changes: &BTreeMap<String, Option<String>>,
) -> Decided<(), UnknownTopic> {
    let topic = state.topic(name).ok_or(UnknownTopic)?;
    let configs = altered(&topic.configs, changes);
    if configs == topic.configs {
        return Ok((Vec::new(), ()));
    }
    Ok((vec![Event::TopicConfigsChanged { topic: topic.id, configs }], ()))
}

pub(crate) fn alter_broker_configs(
    state: &State,
    broker: Option<BrokerId>,
    changes: &BTreeMap<String, Option<String>>,
) -> Vec<Event> {
    let before = state.broker_configs.get(&broker).cloned().unwrap_or_default();
    let configs = altered(&before, changes);
    if configs == before {
        return Vec::new();
    }
    vec![Event::BrokerConfigsChanged { broker, configs }]
}

fn altered(
    before: &BTreeMap<String, String>,
    changes: &BTreeMap<String, Option<String>>,
) -> BTreeMap<String, String> {
    let mut after = before.clone();
    for (name, value) in changes {
        match value {
            Some(value) => after.insert(name.clone(), value.clone()),
            None => after.remove(name),
        };
    }
    after
}

/// The runs that were refused, each with its reason; the others are committed.
pub(crate) fn commit_runs(
    state: &State,
    command: &CommitRuns,
) -> Decided<Vec<(Partition, RunRefusal)>, CommitRefusal> {
    let current = state.brokers.get(&command.broker).map(|it| it.epoch);
    if current != Some(command.broker_epoch) {
        return Err(CommitRefusal::StaleBroker {
            broker: command.broker,
            stale: command.broker_epoch,
            current,
        });
    }
    let known = state.segments.get(&command.segment);
    let mut events = Vec::with_capacity(command.runs.len() + 1);
    let mut refused = Vec::new();
    let mut moved = BTreeMap::new();
    let mut live_runs = 0;
    for run in &command.runs {
        match commit_run(state, command.broker, run, &mut moved) {
            Ok(event) => {
                live_runs += u32::from(matches!(event, Event::RunCommitted { .. }));
                events.push(event);
            }
            Err(refusal) => refused.push((run.partition, refusal)),
        }
    }
    match known {
        // The answer to the first commit was lost: everything in it is there already.
        Some(known) if events.is_empty() && known.bytes == command.segment_bytes => {
            return Ok((Vec::new(), refused));
        }
        // What was refused at first may fit now, as long as nobody is deleting the object (A6).
        Some(known) if known.bytes == command.segment_bytes && known.garbage_since.is_none() => {
            live_runs += known.live_runs;
        }
        Some(_) => return Err(CommitRefusal::SegmentReused(command.segment)),
        None => (),
    }
    let segment = Segment {
        bytes: command.segment_bytes,
        created: known.map_or(command.created, |it| it.created),
        live_runs,
        garbage_since: Event::garbage_since(command.created, live_runs),
    };
    events.push(Event::SegmentChanged { id: command.segment, segment });
    Ok((events, refused))
}

/// Where the committed runs of a partition are after earlier runs of the same commit.
#[derive(Debug, Clone, Copy)]
struct Moved {
    epoch: LeaderEpoch,
    end: Offset,
    bytes: u64,
    runs: u64,
}

fn commit_run(
    state: &State,
    broker: BrokerId,
    run: &Run,
    moved: &mut BTreeMap<Partition, Moved>,
) -> Result<Event, RunRefusal> {
    let progress = state.progress_of(run.partition).ok_or(RunRefusal::UnknownPartition)?;
    let topic = state.topics.get(&run.partition.topic).ok_or(RunRefusal::UnknownPartition)?;
    let info = topic.partitions[run.partition.index as usize];
    let before = moved.get(&run.partition).copied().unwrap_or(Moved {
        epoch: progress.epochs.last().map_or(LeaderEpoch(0), |it| it.0),
        end: progress.committed_end,
        bytes: progress.committed_bytes,
        runs: progress.runs,
    });
    let may_lead = info.leader == broker && run.leader_epoch <= info.leader_epoch;
    if !may_lead || run.leader_epoch < before.epoch {
        return Err(RunRefusal::WrongLeaderEpoch);
    }
    if run.base != before.end || run.end <= run.base {
        return Err(RunRefusal::NotContiguous { committed_end: before.end });
    }
    let mut after = Moved { epoch: run.leader_epoch, end: run.end, ..before };
    // Live runs below it, if any, go first: what is live has no gap (A3).
    let is_passed = run.end <= progress.log_start && before.runs == 0;
    let event = if is_passed {
        Event::RunPassed { run: *run }
    } else {
        after.bytes += run.length;
        after.runs += 1;
        Event::RunCommitted { run: *run, committed_bytes: after.bytes, runs: after.runs }
    };
    moved.insert(run.partition, after);
    Ok(event)
}

/// `below` are stored runs that end at or before `log_start`, the first ones first. They may have
/// been read before other commands were decided: what was dropped since is left out.
pub(crate) fn advance_log_start(
    state: &State,
    partition: Partition,
    log_start: Offset,
    below: &[Run],
    now: Timestamp,
) -> Decided<(), LogStartError> {
    let progress = state.progress_of(partition).ok_or(LogStartError::UnknownPartition)?;
    let log_start = log_start.max(progress.log_start);
    let mut events = Vec::with_capacity(2 * below.len() + 1);
    if progress.log_start < log_start {
        events.push(Event::LogStartAdvanced { partition, log_start });
    }
    let mut bytes = progress.committed_bytes;
    let mut runs = progress.runs;
    let mut start = progress.runs_start;
    let mut dropped = Vec::with_capacity(below.len());
    for run in below.iter().filter(|it| progress.runs_start <= it.base) {
        assert!(run.end <= log_start, "A3: only runs wholly below the log start are dropped");
        assert!(run.base == start, "A3: runs are dropped from the front, without a gap");
        start = run.end;
        bytes = bytes.saturating_sub(run.length);
        runs = runs.saturating_sub(1);
        events.push(Event::RunDropped { run: *run, committed_bytes: bytes, runs });
        dropped.push(*run);
    }
    events.extend(released(state, &dropped, now));
    Ok((events, ()))
}

pub(crate) fn drop_runs(
    topic: TopicId,
    state: &State,
    dropped: &[Run],
    is_last: bool,
    now: Timestamp,
) -> Vec<Event> {
    let gone = |run: &Run| Event::RunDropped { run: *run, committed_bytes: 0, runs: 0 };
    let mut events: Vec<Event> = dropped.iter().map(gone).collect();
    events.extend(released(state, dropped, now));
    if is_last {
        events.push(Event::TopicDropped { id: topic });
    }
    events
}

/// The segments of `dropped`, each with its lower count of live runs.
fn released(state: &State, dropped: &[Run], now: Timestamp) -> Vec<Event> {
    let mut counts: BTreeMap<SegmentName, u32> = BTreeMap::new();
    for run in dropped {
        *counts.entry(run.segment).or_default() += 1;
    }
    let change = |(id, count): (SegmentName, u32)| {
        let segment = *state.segments.get(&id)?;
        let live_runs = segment.live_runs.saturating_sub(count);
        let garbage_since = Event::garbage_since(now, live_runs);
        let segment = Segment { live_runs, garbage_since, ..segment };
        Some(Event::SegmentChanged { id, segment })
    };
    counts.into_iter().filter_map(change).collect()
}

/// Only garbage is forgotten: what is referenced keeps its place in the index (A6).
pub(crate) fn forget_segments(state: &State, segments: &[SegmentName]) -> Vec<Event> {
    let is_garbage =
        |id: &&SegmentName| state.segments.get(*id).is_some_and(|it| it.garbage_since.is_some());
    segments.iter().filter(is_garbage).map(|id| Event::SegmentForgotten { id: *id }).collect()
}

pub(crate) fn allocate_producer_ids(
    state: &State,
    count: u32,
) -> (Vec<Event>, std::ops::Range<i64>) {
    let first = state.producer_id_next;
    let next = first + i64::from(count);
    (vec![Event::ProducerIdsAllocated { next }], first..next)
}
