//! The records of consumer groups (KIP-848): key kinds 3 and 5 to 8, and 16.
//!
//! Kind 4, which named the partitions of the subscribed topics, is neither written nor needed: the
//! group's epoch carries a hash of them (Kafka 4.1 and later).

use bytes::{BufMut, Bytes, BytesMut};
use protocol::messages::{
    consumer_group_current_member_assignment_value as current_value,
    consumer_group_member_metadata_value as member_value,
    consumer_group_metadata_value as epoch_value,
    consumer_group_regular_expression_value as pattern_value,
    consumer_group_target_assignment_member_value as target_value,
    consumer_group_target_assignment_metadata_value as target_epoch_value,
};
use protocol::{Decoder, Encoder, Message};
use vocabulary::TopicId;

use super::{FormatError, Record, Source, put_text};
use crate::event::{
    ClassicFace, ConsumerFact, Current, Event, GroupEpoch, MemberState, OwnedPartitions,
    Partitions, ResolvedPattern, Subscription, TargetEpoch,
};

const EPOCH: i16 = 3;
const MEMBER: i16 = 5;
const TARGET_EPOCH: i16 = 6;
const TARGET: i16 = 7;
const CURRENT: i16 = 8;
const PATTERN: i16 = 16;

/// The only version of all these values.
const VERSION: i16 = 0;

pub(super) fn encode(group: &str, fact: &ConsumerFact) -> Record {
    match fact {
        ConsumerFact::Epoch(epoch) => {
            record(EPOCH, group, None, epoch.as_ref().map(|it| value(&epoch_value(it))))
        }
        ConsumerFact::Member { member, subscription } => {
            let subscription = subscription.as_ref().map(|it| value(&member_value(it)));
            record(MEMBER, group, Some(member), subscription)
        }
        ConsumerFact::TargetEpoch(epoch) => record(
            TARGET_EPOCH,
            group,
            None,
            epoch.as_ref().map(|it| value(&target_epoch_value(it))),
        ),
        ConsumerFact::Target { member, partitions } => {
            let partitions = partitions.as_ref().map(|it| value(&target_value(it)));
            record(TARGET, group, Some(member), partitions)
        }
        ConsumerFact::Current { member, current } => {
            let current = current.as_ref().map(|it| value(&current_value(it)));
            record(CURRENT, group, Some(member), current)
        }
        ConsumerFact::Pattern { expression, resolved } => {
            let resolved = resolved.as_ref().map(|it| value(&pattern_value(it)));
            record(PATTERN, group, Some(expression), resolved)
        }
    }
}

pub(super) fn record(kind: i16, group: &str, name: Option<&str>, value: Option<Bytes>) -> Record {
    let mut key = BytesMut::with_capacity(6 + group.len() + name.map_or(0, str::len));
    key.put_i16(kind);
    put_text(&mut key, group);
    name.into_iter().for_each(|it| put_text(&mut key, it));
    Record { key: key.freeze(), value }
}

pub(crate) fn value(message: &impl Message) -> Bytes {
    let mut sink = Encoder::new();
    message.encode(&mut sink, VERSION);
    let mut value = BytesMut::new();
    value.put_i16(VERSION);
    for chunk in sink.finish().chunks {
        value.put_slice(&chunk);
    }
    value.freeze()
}

fn epoch_value(it: &GroupEpoch) -> epoch_value::ConsumerGroupMetadataValue {
    epoch_value::ConsumerGroupMetadataValue { epoch: it.epoch, metadata_hash: it.metadata_hash }
}

fn target_epoch_value(
    it: &TargetEpoch,
) -> target_epoch_value::ConsumerGroupTargetAssignmentMetadataValue {
    target_epoch_value::ConsumerGroupTargetAssignmentMetadataValue {
        assignment_epoch: it.epoch,
        assignment_timestamp: it.timestamp,
    }
}

fn member_value(it: &Subscription) -> member_value::ConsumerGroupMemberMetadataValue {
    let protocol = |(name, metadata): &(String, Bytes)| member_value::ClassicProtocol {
        name: name.clone(),
        metadata: metadata.clone(),
    };
    let classic = it.classic.as_ref().map(|it| member_value::ClassicMemberMetadata {
        session_timeout_ms: it.session_timeout_ms,
        supported_protocols: it.protocols.iter().map(protocol).collect(),
    });
    member_value::ConsumerGroupMemberMetadataValue {
        instance_id: it.instance.clone(),
        rack_id: it.rack.clone(),
        client_id: it.client_id.clone(),
        client_host: it.client_host.clone(),
        subscribed_topic_names: it.topics.iter().cloned().collect(),
        subscribed_topic_regex: it.pattern.clone(),
        rebalance_timeout_ms: it.rebalance_timeout_ms,
        server_assignor: it.assignor.clone(),
        classic_member_metadata: classic,
    }
}

fn target_value(it: &Partitions) -> target_value::ConsumerGroupTargetAssignmentMemberValue {
    let row = |(topic, them): (&TopicId, &std::collections::BTreeSet<i32>)| {
        target_value::TopicPartition {
            topic_id: *topic,
            partitions: them.iter().copied().collect(),
        }
    };
    let topic_partitions = it.iter().map(row).collect();
    target_value::ConsumerGroupTargetAssignmentMemberValue { topic_partitions }
}

fn current_value(it: &Current) -> current_value::ConsumerGroupCurrentMemberAssignmentValue {
    let rows = |owned: &OwnedPartitions| {
        let row = |(topic, them): (&TopicId, &std::collections::BTreeMap<i32, i32>)| {
            current_value::TopicPartitions {
                topic_id: *topic,
                partitions: them.keys().copied().collect(),
                assignment_epochs: Some(them.values().copied().collect()),
            }
        };
        owned.iter().map(row).collect()
    };
    current_value::ConsumerGroupCurrentMemberAssignmentValue {
        member_epoch: it.epoch,
        previous_member_epoch: it.previous_epoch,
        state: it.state as i8,
        assigned_partitions: rows(&it.assigned),
        partitions_pending_revocation: rows(&it.revoking),
    }
}

fn pattern_value(it: &ResolvedPattern) -> pattern_value::ConsumerGroupRegularExpressionValue {
    pattern_value::ConsumerGroupRegularExpressionValue {
        topics: it.topics.iter().cloned().collect(),
        version: it.version,
        timestamp: it.timestamp,
    }
}

/// `Ok(None)` for kinds of key that are not of consumer groups.
pub(super) fn decode(
    kind: i16,
    key: &mut Source<'_>,
    value: Option<&[u8]>,
) -> Result<Option<Event>, FormatError> {
    if !matches!(kind, EPOCH | MEMBER | TARGET_EPOCH | TARGET | CURRENT | PATTERN) {
        return Ok(None);
    }
    let group = key.text()?;
    let fact = match kind {
        EPOCH => ConsumerFact::Epoch(read(kind, value)?.map(to_epoch)),
        TARGET_EPOCH => ConsumerFact::TargetEpoch(read(kind, value)?.map(to_target_epoch)),
        MEMBER => {
            let subscription = read(kind, value)?.map(to_subscription).map(Box::new);
            ConsumerFact::Member { member: key.text()?, subscription }
        }
        TARGET => ConsumerFact::Target {
            member: key.text()?,
            partitions: read(kind, value)?.map(to_target),
        },
        CURRENT => ConsumerFact::Current {
            member: key.text()?,
            current: read(kind, value)?.map(to_current),
        },
        _ => {
            let resolved = read(kind, value)?.map(to_pattern);
            ConsumerFact::Pattern { expression: key.text()?, resolved }
        }
    };
    Ok(Some(Event::Consumer { group, fact }))
}

pub(crate) fn read<M: Message>(kind: i16, value: Option<&[u8]>) -> Result<Option<M>, FormatError> {
    let Some(value) = value else { return Ok(None) };
    let (version, rest) = value.split_first_chunk().ok_or(FormatError::Truncated)?;
    let version = i16::from_be_bytes(*version);
    if version != VERSION {
        return Err(FormatError::Version { kind, version });
    }
    let mut source = Decoder::new(BytesMut::from(rest));
    M::decode(&mut source, version).map(Some).map_err(|_| FormatError::Truncated)
}

fn to_epoch(it: epoch_value::ConsumerGroupMetadataValue) -> GroupEpoch {
    GroupEpoch { epoch: it.epoch, metadata_hash: it.metadata_hash }
}

fn to_target_epoch(
    it: target_epoch_value::ConsumerGroupTargetAssignmentMetadataValue,
) -> TargetEpoch {
    TargetEpoch { epoch: it.assignment_epoch, timestamp: it.assignment_timestamp }
}

fn to_subscription(it: member_value::ConsumerGroupMemberMetadataValue) -> Subscription {
    let protocols = |it: Vec<member_value::ClassicProtocol>| {
        // Copied, so that a small state never keeps a large batch in memory.
        let copy =
            |it: member_value::ClassicProtocol| (it.name, Bytes::copy_from_slice(&it.metadata));
        it.into_iter().map(copy).collect()
    };
    Subscription {
        instance: it.instance_id,
        rack: it.rack_id,
        client_id: it.client_id,
        client_host: it.client_host,
        topics: it.subscribed_topic_names.into_iter().collect(),
        pattern: it.subscribed_topic_regex.filter(|it| !it.is_empty()),
        rebalance_timeout_ms: it.rebalance_timeout_ms,
        assignor: it.server_assignor,
        classic: it.classic_member_metadata.map(|it| ClassicFace {
            session_timeout_ms: it.session_timeout_ms,
            protocols: protocols(it.supported_protocols),
        }),
    }
}

fn to_target(it: target_value::ConsumerGroupTargetAssignmentMemberValue) -> Partitions {
    let rows = it.topic_partitions.into_iter().filter(|it| !it.partitions.is_empty());
    rows.map(|it| (it.topic_id, it.partitions.into_iter().collect())).collect()
}

fn to_current(it: current_value::ConsumerGroupCurrentMemberAssignmentValue) -> Current {
    let owned = |rows: Vec<current_value::TopicPartitions>| {
        let rows = rows.into_iter().filter(|it| !it.partitions.is_empty());
        let row = |row: current_value::TopicPartitions| {
            // Kafka before 4.3 does not say since when: since this epoch at the latest.
            let epochs = row.assignment_epochs.unwrap_or_default().into_iter();
            let epochs = epochs.chain(std::iter::repeat(it.member_epoch));
            (row.topic_id, row.partitions.into_iter().zip(epochs).collect())
        };
        rows.map(row).collect::<OwnedPartitions>()
    };
    let state = match it.state {
        1 => MemberState::UnrevokedPartitions,
        2 => MemberState::UnreleasedPartitions,
        _ => MemberState::Stable,
    };
    let assigned = owned(it.assigned_partitions);
    let revoking = owned(it.partitions_pending_revocation);
    Current {
        epoch: it.member_epoch,
        previous_epoch: it.previous_member_epoch,
        state,
        assigned,
        revoking,
    }
}

fn to_pattern(it: pattern_value::ConsumerGroupRegularExpressionValue) -> ResolvedPattern {
    let topics = it.topics.into_iter().collect();
    ResolvedPattern { topics, version: it.version, timestamp: it.timestamp }
}
