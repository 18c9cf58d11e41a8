//! The one way state changes: live, at load and in the readers' copy.

use std::sync::Arc;

use vocabulary::{BrokerId, LeaderEpoch, Offset};

use super::event::Event;
use super::topic::{PartitionInfo, Progress};
use super::{Run, State, Topic};

/// Applies one fact. Events of things that are gone are without effect.
pub(crate) fn apply(state: &mut State, event: &Event) {
    match event {
        Event::BrokerRegistered(broker) => {
            state.broker_epoch_last = state.broker_epoch_last.max(broker.epoch);
            state.brokers.insert(broker.id, broker.clone());
        }
        Event::BrokerRemoved { id } => {
            state.brokers.remove(id);
        }
        Event::WalChanged(log) => {
            log.check();
            state.logs.insert((log.broker, log.epoch), *log);
        }
        Event::WalContinued { broker, epoch } => {
            state.logs.remove(&(*broker, *epoch));
        }
        Event::TopicCreated(topic) => {
            state.names.insert(topic.name.clone(), topic.id);
            let progress = vec![Progress::default(); topic.partitions.len()];
            state.progress.entry(topic.id).or_insert(progress);
            state.topics.insert(topic.id, Arc::clone(topic));
        }
        Event::TopicDeleted { id, name, partitions, .. } => {
            if state.topics.remove(id).is_some() {
                state.names.remove(name);
            }
            state.progress.remove(id);
            state.dropping.insert(*id, *partitions);
        }
        Event::PartitionsChanged { topic, partitions } => {
            if let Some(progress) = state.progress.get_mut(topic) {
                progress.resize(partitions.len(), Progress::default());
            }
            change_topic(state, *topic, |it| it.partitions = partitions.clone());
        }
        Event::TopicConfigsChanged { topic, configs } => {
            change_topic(state, *topic, |it| it.configs = configs.clone());
        }
        Event::BrokerConfigsChanged { broker, configs } => {
            state.broker_configs.insert(*broker, configs.clone());
        }
        Event::GroupConfigsChanged { group, configs } if configs.is_empty() => {
            state.group_configs.remove(group);
        }
        Event::GroupConfigsChanged { group, configs } => {
            state.group_configs.insert(group.clone(), configs.clone());
        }
        Event::AclCreated(acl) => {
            state.acls.insert(Arc::clone(acl));
        }
        Event::AclDeleted(acl) => {
            state.acls.remove(acl);
        }
        Event::RunCommitted { .. }
        | Event::RunsReplaced { .. }
        | Event::ProducersKept(_)
        | Event::ProducersForgotten { .. }
        | Event::LogStartAdvanced { .. }
        | Event::RunDropped { .. } => apply_to_partition(state, event),
        Event::SegmentChanged { id, segment } => state.set_segment(*id, Some(*segment)),
        Event::SegmentForgotten { id } => state.set_segment(*id, None),
        Event::TopicDropped { id } => {
            state.dropping.remove(id);
        }
        Event::ProducerIdsAllocated { next } => {
            state.producer_id_next = state.producer_id_next.max(*next);
        }
    }
}

/// How far a partition is. Events of other things are without effect.
fn apply_to_partition(state: &mut State, event: &Event) {
    match event {
        Event::RunCommitted { run, committed_bytes, runs } => {
            if let Some(progress) = end_moved(state, run) {
                progress.committed_bytes = *committed_bytes;
                progress.runs = *runs;
                progress.check();
            }
        }
        Event::RunsReplaced { merged, committed_bytes, runs, replacements, .. } => {
            let progress = state.progress_mut(merged.partition);
            // Of an older replacement: applied before.
            if let Some(progress) = progress.filter(|it| it.replacements < *replacements) {
                progress.committed_bytes = *committed_bytes;
                progress.runs = *runs;
                progress.replacements = *replacements;
                progress.check();
            }
        }
        Event::ProducersKept(kept) => {
            // Of an older end: applied before.
            let is_current = |it: &&mut Progress| it.committed_end == kept.as_of;
            if let Some(progress) = state.progress_mut(kept.partition).filter(is_current) {
                progress.kept_as_of = Some(kept.as_of);
            }
        }
        Event::ProducersForgotten { .. } => (), // The newer run has moved the end past them.
        Event::LogStartAdvanced { partition, log_start } => {
            if let Some(progress) = state.progress_mut(*partition) {
                progress.log_start = progress.log_start.max(*log_start);
                progress.trim_epochs();
            }
        }
        Event::RunDropped { run, committed_bytes, runs } => {
            if let Some(progress) = start_moved(state, run) {
                progress.committed_bytes = *committed_bytes;
                progress.runs = *runs;
                progress.check();
            }
        }
        _ => (),
    }
}

fn change_topic(state: &mut State, id: vocabulary::TopicId, change: impl FnOnce(&mut Topic)) {
    if let Some(topic) = state.topics.get_mut(&id) {
        change(Arc::make_mut(topic));
    }
}

/// Moves the start of the live runs over `run`. `None` when it was there already, or the partition is
/// gone.
fn start_moved<'a>(state: &'a mut State, run: &Run) -> Option<&'a mut Progress> {
    let progress = state.progress_mut(run.partition)?;
    if run.end <= progress.runs_start {
        return None; // Applied before.
    }
    assert!(
        run.base == progress.runs_start,
        "A3: run of {} starts at {}, the live runs start at {}",
        run.partition,
        run.base,
        progress.runs_start
    );
    progress.runs_start = run.end;
    Some(progress)
}

/// Moves the committed end over `run`. `None` when it was there already, or the partition is gone.
fn end_moved<'a>(state: &'a mut State, run: &Run) -> Option<&'a mut Progress> {
    let progress = state.progress_mut(run.partition)?;
    if run.end <= progress.committed_end {
        return None; // Applied before.
    }
    assert!(
        run.base == progress.committed_end,
        "A3: run of {} starts at {}, the committed end is {}",
        run.partition,
        run.base,
        progress.committed_end
    );
    note_epoch(progress, run.leader_epoch, run.base);
    progress.committed_end = run.end;
    progress.kept_as_of = None; // They were as of the end before.
    Some(progress)
}

fn note_epoch(progress: &mut Progress, epoch: LeaderEpoch, start: Offset) {
    match progress.epochs.last() {
        Some((last, _)) if epoch <= *last => (),
        _ => progress.epochs.push((epoch, start)),
    }
}

/// The partitions of `topic`, those that `picks` picks led by `leader` in a new leader epoch.
pub(crate) fn led_anew(
    topic: &Topic,
    leader: BrokerId,
    picks: impl Fn(&PartitionInfo) -> bool,
) -> Vec<PartitionInfo> {
    let anew = |it: &PartitionInfo| PartitionInfo { leader, leader_epoch: it.leader_epoch.next() };
    topic.partitions.iter().map(|it| if picks(it) { anew(it) } else { *it }).collect()
}
