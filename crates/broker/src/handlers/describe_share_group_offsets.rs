//! DescribeShareGroupOffsets (key 90): where the share-partitions of share groups start (KIP-932), and how much is left
//! of them (KIP-1226).

use std::collections::BTreeMap;
use std::sync::Arc;

use cluster::{AclOperation, Topic};
use coordinator::Refused;
use coordinator::share::{DescribedShare, ShareCommand, ShareReply};
use protocol::ErrorCode;
use protocol::messages::describe_share_group_offsets::request::{
    DescribeShareGroupOffsetsRequestGroup as AskedGroup,
    DescribeShareGroupOffsetsRequestTopic as AskedTopic,
};
use protocol::messages::describe_share_group_offsets::response::{
    DescribeShareGroupOffsetsResponseGroup as GroupRow,
    DescribeShareGroupOffsetsResponsePartition as PartitionRow,
    DescribeShareGroupOffsetsResponseTopic as TopicRow,
};
use protocol::messages::describe_share_group_offsets::{Request, Response};
use vocabulary::{Offset, Partition};

use crate::broker::Broker;
use crate::context::RequestContext;
use crate::refusal::{self, Refusal};

/// Nothing is known of the share-partition, or not where it starts.
const NONE: i64 = -1;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: Request,
) -> Response {
    let mut groups = Vec::with_capacity(request.groups.len());
    for asked in request.groups {
        let group_id = asked.group_id.clone();
        groups.push(match group(broker, context, asked).await {
            Ok(topics) => GroupRow { group_id, topics, ..Default::default() },
            Err(Refused { code, message }) => GroupRow {
                group_id,
                error_code: code.code(),
                error_message: Some(message),
                ..Default::default()
            },
        });
    }
    Response { groups, ..Default::default() }
}

async fn group(
    broker: &Arc<Broker>,
    context: &RequestContext,
    asked: AskedGroup,
) -> Result<Vec<TopicRow>, Refused> {
    let refuse = |code: ErrorCode| Refused { code, message: code.name().to_owned() };
    if !context.allows_group(AclOperation::Describe, &asked.group_id) {
        return Err(refuse(ErrorCode::GroupAuthorizationFailed));
    }
    broker.groups.describe_shares(broker, &asked.group_id).await.map_err(refuse)??;
    let shares = if broker.shares.is_in_use(broker) {
        let command = ShareCommand::Describe { group: asked.group_id.clone() };
        let pick = |reply| if let ShareReply::Described(it) = reply { Some(it) } else { None };
        broker.shares.ask(broker, &asked.group_id, command, pick).await.map_err(refuse)?
    } else {
        Vec::new()
    };
    let shares: BTreeMap<Partition, DescribedShare> =
        shares.into_iter().map(|it| (it.partition, it)).collect();
    let Some(asked) = asked.topics else {
        let mut known = all(broker, &shares);
        known.retain(|it| context.sees_topic(AclOperation::Describe, &it.topic_name));
        return Ok(known.into_iter().map(|it| topic(broker, it, &shares)).collect());
    };
    let row = |it: AskedTopic| match context.allows_topic(AclOperation::Describe, &it.topic_name) {
        true => topic(broker, it, &shares),
        false => denied(it),
    };
    Ok(asked.into_iter().map(row).collect())
}

/// All that something is known of.
fn all(broker: &Broker, shares: &BTreeMap<Partition, DescribedShare>) -> Vec<AskedTopic> {
    let mut topics: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    for partition in shares.keys() {
        // A topic that has gone has no name.
        if let Some(topic) = broker.view.topic_by_id(partition.topic) {
            topics.entry(topic.name.clone()).or_default().push(partition.index);
        }
    }
    let row = |(topic_name, partitions)| AskedTopic { topic_name, partitions };
    topics.into_iter().map(row).collect()
}

fn topic(
    broker: &Broker,
    asked: AskedTopic,
    shares: &BTreeMap<Partition, DescribedShare>,
) -> TopicRow {
    let found = broker.view.topic(&asked.topic_name);
    let partitions = asked.partitions.into_iter().map(|index| match &found {
        Some(topic) => partition(broker, topic, index, shares),
        None => refused(index),
    });
    TopicRow {
        partitions: partitions.collect(),
        topic_name: asked.topic_name,
        topic_id: found.map(|it| it.id).unwrap_or_default(),
    }
}

fn denied(asked: AskedTopic) -> TopicRow {
    let Refusal { code, message } = refusal::unauthorized(ErrorCode::TopicAuthorizationFailed);
    let row = |partition_index| PartitionRow {
        partition_index,
        start_offset: NONE,
        error_code: code.code(),
        error_message: Some(message.clone()),
        ..Default::default()
    };
    TopicRow {
        partitions: asked.partitions.into_iter().map(row).collect(),
        topic_name: asked.topic_name,
        ..Default::default()
    }
}

fn refused(partition_index: i32) -> PartitionRow {
    let code = ErrorCode::UnknownTopicOrPartition;
    PartitionRow {
        partition_index,
        start_offset: NONE,
        error_code: code.code(),
        error_message: Some("This server does not host this topic-partition.".to_owned()),
        ..Default::default()
    }
}

fn partition(
    broker: &Broker,
    topic: &Topic,
    index: i32,
    shares: &BTreeMap<Partition, DescribedShare>,
) -> PartitionRow {
    let partition = Partition { topic: topic.id, index };
    if topic.partition(index).is_none() {
        return refused(index);
    }
    let Some(share) = shares.get(&partition).filter(|it| Offset::ZERO <= it.start) else {
        return PartitionRow { partition_index: index, start_offset: NONE, ..Default::default() };
    };
    // Another broker's log is not known here.
    let end = broker.led_log(partition).ok().map(|it| it.offsets().high_watermark);
    let left = end.map(|it| it.since(share.start) - i64::from(share.complete_count));
    PartitionRow {
        partition_index: index,
        start_offset: share.start.0,
        leader_epoch: share.leader_epoch,
        lag: left.map_or(NONE, |it| it.max(0)),
        ..Default::default()
    }
}
