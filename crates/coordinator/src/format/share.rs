//! The records of share groups (KIP-932): key kinds 10 to 14.
//!
//! Kind 15, which names the share-partitions that have state, is neither written nor needed: the state of all
//! share-partitions of a group is in one place (`share`).

use protocol::messages::{
    share_group_current_member_assignment_value as current_value,
    share_group_member_metadata_value as member_value, share_group_metadata_value as epoch_value,
    share_group_target_assignment_member_value as target_value,
    share_group_target_assignment_metadata_value as target_epoch_value,
};

use super::consumer::{read, record, value};
use super::{FormatError, Record, Source};
use crate::event::{
    Event, GroupEpoch, Partitions, ShareCurrent, ShareFact, ShareMember, TargetEpoch,
};

const MEMBER: i16 = 10;
const EPOCH: i16 = 11;
const TARGET_EPOCH: i16 = 12;
const TARGET: i16 = 13;
const CURRENT: i16 = 14;

/// Kafka's number of the only state a member is in.
const STABLE: i8 = 0;

pub(super) fn encode(group: &str, fact: &ShareFact) -> Record {
    match fact {
        ShareFact::Epoch(epoch) => {
            record(EPOCH, group, None, epoch.as_ref().map(|it| value(&epoch_value(it))))
        }
        ShareFact::Member { member, said } => {
            record(MEMBER, group, Some(member), said.as_ref().map(|it| value(&member_value(it))))
        }
        ShareFact::TargetEpoch(epoch) => {
            let epoch = epoch.as_ref().map(|it| value(&target_epoch_value(it)));
            record(TARGET_EPOCH, group, None, epoch)
        }
        ShareFact::Target { member, partitions } => {
            let partitions = partitions.as_ref().map(|it| value(&target_value(it)));
            record(TARGET, group, Some(member), partitions)
        }
        ShareFact::Current { member, current } => {
            let current = current.as_ref().map(|it| value(&current_value(it)));
            record(CURRENT, group, Some(member), current)
        }
    }
}

fn epoch_value(it: &GroupEpoch) -> epoch_value::ShareGroupMetadataValue {
    epoch_value::ShareGroupMetadataValue { epoch: it.epoch, metadata_hash: it.metadata_hash }
}

fn target_epoch_value(
    it: &TargetEpoch,
) -> target_epoch_value::ShareGroupTargetAssignmentMetadataValue {
    target_epoch_value::ShareGroupTargetAssignmentMetadataValue {
        assignment_epoch: it.epoch,
        assignment_timestamp: it.timestamp,
    }
}

fn member_value(it: &ShareMember) -> member_value::ShareGroupMemberMetadataValue {
    member_value::ShareGroupMemberMetadataValue {
        rack_id: it.rack.clone(),
        client_id: it.client_id.clone(),
        client_host: it.client_host.clone(),
        subscribed_topic_names: it.topics.iter().cloned().collect(),
    }
}

fn target_value(it: &Partitions) -> target_value::ShareGroupTargetAssignmentMemberValue {
    let row = |(topic, them): (_, &std::collections::BTreeSet<i32>)| target_value::TopicPartition {
        topic_id: topic,
        partitions: them.iter().copied().collect(),
    };
    let topic_partitions = it.iter().map(|(topic, them)| row((*topic, them))).collect();
    target_value::ShareGroupTargetAssignmentMemberValue { topic_partitions }
}

fn current_value(it: &ShareCurrent) -> current_value::ShareGroupCurrentMemberAssignmentValue {
    let row =
        |(topic, them): (_, &std::collections::BTreeSet<i32>)| current_value::TopicPartitions {
            topic_id: topic,
            partitions: them.iter().copied().collect(),
        };
    current_value::ShareGroupCurrentMemberAssignmentValue {
        member_epoch: it.epoch,
        previous_member_epoch: it.previous_epoch,
        state: STABLE,
        assigned_partitions: it.assigned.iter().map(|(topic, them)| row((*topic, them))).collect(),
    }
}

/// `Ok(None)` for kinds of key that are not of share groups.
pub(super) fn decode(
    kind: i16,
    key: &mut Source<'_>,
    value: Option<&[u8]>,
) -> Result<Option<Event>, FormatError> {
    if !matches!(kind, MEMBER | EPOCH | TARGET_EPOCH | TARGET | CURRENT) {
        return Ok(None);
    }
    let group = key.text()?;
    let fact = match kind {
        EPOCH => ShareFact::Epoch(read(kind, value)?.map(to_epoch)),
        TARGET_EPOCH => ShareFact::TargetEpoch(read(kind, value)?.map(to_target_epoch)),
        MEMBER => {
            let said = read(kind, value)?.map(to_member).map(Box::new);
            ShareFact::Member { member: key.text()?, said }
        }
        TARGET => {
            let partitions = read(kind, value)?.map(to_target);
            ShareFact::Target { member: key.text()?, partitions }
        }
        _ => {
            let current = read(kind, value)?.map(to_current);
            ShareFact::Current { member: key.text()?, current }
        }
    };
    Ok(Some(Event::Share { group, fact }))
}

fn to_epoch(it: epoch_value::ShareGroupMetadataValue) -> GroupEpoch {
    GroupEpoch { epoch: it.epoch, metadata_hash: it.metadata_hash }
}

fn to_target_epoch(it: target_epoch_value::ShareGroupTargetAssignmentMetadataValue) -> TargetEpoch {
    TargetEpoch { epoch: it.assignment_epoch, timestamp: it.assignment_timestamp }
}

fn to_member(it: member_value::ShareGroupMemberMetadataValue) -> ShareMember {
    ShareMember {
        rack: it.rack_id,
        client_id: it.client_id,
        client_host: it.client_host,
        topics: it.subscribed_topic_names.into_iter().collect(),
    }
}

fn to_target(it: target_value::ShareGroupTargetAssignmentMemberValue) -> Partitions {
    let rows = it.topic_partitions.into_iter().filter(|it| !it.partitions.is_empty());
    rows.map(|it| (it.topic_id, it.partitions.into_iter().collect())).collect()
}

fn to_current(it: current_value::ShareGroupCurrentMemberAssignmentValue) -> ShareCurrent {
    let rows = it.assigned_partitions.into_iter().filter(|it| !it.partitions.is_empty());
    ShareCurrent {
        epoch: it.member_epoch,
        previous_epoch: it.previous_member_epoch,
        assigned: rows.map(|it| (it.topic_id, it.partitions.into_iter().collect())).collect(),
    }
}
