//! The rules: which events a command leads to, or why it is refused. Changes nothing itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use vocabulary::{BrokerEpoch, BrokerId, LeaderEpoch, TopicId};

use super::apply::led_anew;
use super::command::{
    CreatePartitionsError, CreateTopicError, GroupConfigsError, RegisterBroker, Registration,
    UnknownTopic, WalError,
};
use super::event::Event;
use super::topic::{self, PartitionInfo};
use super::wal::{WalKind, WalLog};
use super::{Broker, State, Topic, check_topic_name};

mod acls;
mod runs;
#[cfg(test)]
pub(crate) use acls::{ACL_TEXT_BYTES_MAX, ACLS_MAX};
pub(crate) use acls::{create_acls, delete_acls};
pub(crate) use runs::{
    Advanced, Stored, adopt_runs, advance_log_start, commit_runs, drop_runs, forget_segments,
    replace_runs,
};

/// The most partitions one topic may have. A typing error must not create a million.
pub(crate) const TOPIC_PARTITIONS_MAX: u32 = 100_000;

/// Groups that may have configs of their own: all of them are in memory.
pub(crate) const CONFIGURED_GROUPS_MAX: usize = 100_000;

/// Bytes of a group's name that configs are set for: it is a key in the store.
pub(crate) const GROUP_NAME_BYTES_MAX: usize = 16 * 1024;

type Decided<Reply, Refusal> = Result<(Vec<Event>, Reply), Refusal>;

/// A new epoch for the broker, its log, and every partition it leads from now on.
pub(crate) fn register_broker(
    state: &State,
    command: &RegisterBroker,
) -> (Vec<Event>, BrokerEpoch) {
    let (id, epoch) = (command.id, state.broker_epoch_last.next());
    let gone = |broker: BrokerId| broker != id && command.takes_over.contains(&broker);
    let removed = state.brokers.keys().filter(|it| gone(**it));
    let mut events: Vec<Event> = removed.map(|it| Event::BrokerRemoved { id: *it }).collect();
    events.push(Event::BrokerRegistered(Broker {
        id,
        epoch,
        host: command.host.clone(),
        port: command.port,
        rack: command.rack.clone(),
    }));
    // A log on another volume stays, to be found: only its own has what it holds.
    let continues = |it: &&WalLog| {
        let is_ours = it.broker == id || gone(it.broker);
        let is_here = it.volume.is_none() || it.volume == command.volume;
        let goes_on = is_ours && is_here && [command.wal, it.kind] == [WalKind::File; 2];
        let is_lost = it.volume.is_some() && it.volume == command.gives_up;
        it.fence.is_none() && (goes_on || is_lost)
    };
    let continued = |it: &WalLog| Event::WalContinued { broker: it.broker, epoch: it.epoch };
    events.extend(state.logs.values().filter(continues).map(continued));
    let (kind, volume) = (command.wal, command.volume);
    let log = WalLog { broker: id, epoch, kind, volume, trimmed: 0, fence: None };
    events.push(Event::WalChanged(log));
    for topic in state.topics.values() {
        let leads = |it: &PartitionInfo| it.leader == id || gone(it.leader);
        if topic.partitions.iter().any(leads) {
            let partitions = led_anew(topic, id, leads);
            events.push(Event::PartitionsChanged { topic: topic.id, partitions });
        }
    }
    (events, epoch)
}

/// The epoch that is registered now, if it is not the one of `by`.
fn stale(state: &State, by: Registration) -> Option<Option<BrokerEpoch>> {
    let current = state.brokers.get(&by.broker).map(|it| it.epoch);
    (current != Some(by.epoch)).then_some(current)
}

/// A log of which `change` makes the record that counts from now on.
fn change_log(
    state: &State,
    by: Registration,
    log: Registration,
    change: impl FnOnce(&WalLog) -> Result<WalLog, WalError>,
) -> Decided<(), WalError> {
    if let Some(current) = stale(state, by) {
        return Err(WalError::StaleBroker { broker: by.broker, stale: by.epoch, current });
    }
    let before = state.logs.get(&(log.broker, log.epoch)).ok_or(WalError::UnknownLog)?;
    let after = change(before)?;
    let events = if after == *before { Vec::new() } else { vec![Event::WalChanged(after)] };
    Ok((events, ()))
}

/// Segments below `before` are not needed any more, says the log's own writer. One that has ended is
/// nobody's to trim: what was needed of it has been decided with its end.
pub(crate) fn trim_log(
    state: &State,
    by: Registration,
    log: Registration,
    before: u64,
) -> Decided<(), WalError> {
    change_log(state, by, log, |it| match it.fence {
        Some(fence) => Err(WalError::EndsElsewhere { fence }),
        None if by != log => Err(WalError::UnknownLog),
        None => Ok(WalLog { trimmed: it.trimmed.max(before), ..*it }),
    })
}

/// The log ends before `fence`, and all of it that survived is committed.
pub(crate) fn close_log(
    state: &State,
    by: Registration,
    log: Registration,
    fence: u64,
) -> Decided<(), WalError> {
    change_log(state, by, log, |it| match it.fence {
        Some(ends) if ends != fence => Err(WalError::EndsElsewhere { fence: ends }),
        Some(_) | None => Ok(WalLog { fence: Some(fence), trimmed: it.trimmed.min(fence), ..*it }),
    })
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
    let progress = (0..).zip(state.progress.get(&id).into_iter().flatten());
    let kept = progress.filter(|(_, it)| it.has_kept()).map(|(index, _)| index).collect();
    Ok((vec![Event::TopicDeleted { id, name: topic.name.clone(), partitions, kept }], ()))
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

/// Whether there is such a group is not asked: configs may be set before it begins.
pub(crate) fn alter_group_configs(
    state: &State,
    group: &str,
    changes: &BTreeMap<String, Option<String>>,
) -> Decided<(), GroupConfigsError> {
    let before = state.group_configs.get(group);
    let configs = altered(before.unwrap_or(&BTreeMap::new()), changes);
    if before.is_none() && GROUP_NAME_BYTES_MAX < group.len() {
        return Err(GroupConfigsError::TooLong { max: GROUP_NAME_BYTES_MAX });
    }
    if before.is_none() && !configs.is_empty() && CONFIGURED_GROUPS_MAX <= state.group_configs.len()
    {
        return Err(GroupConfigsError::TooMany { max: CONFIGURED_GROUPS_MAX });
    }
    if before.unwrap_or(&BTreeMap::new()) == &configs {
        return Ok((Vec::new(), ()));
    }
    Ok((vec![Event::GroupConfigsChanged { group: group.to_owned(), configs }], ()))
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

pub(crate) fn allocate_producer_ids(
    state: &State,
    count: u32,
) -> (Vec<Event>, std::ops::Range<i64>) {
    let first = state.producer_id_next;
    let next = first + i64::from(count);
    (vec![Event::ProducerIdsAllocated { next }], first..next)
}
