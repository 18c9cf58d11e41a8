//! Metadata (key 3): brokers, topics, leaders. Creates topics on demand where both sides allow it.

use std::sync::Arc;

use cluster::Topic;
use protocol::ErrorCode;
use protocol::messages::metadata::request::MetadataRequestTopic;
use protocol::messages::metadata::response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use protocol::messages::metadata::{Request, Response};
use vocabulary::TopicId;

use crate::auto_create::{self, AutoCreateRefusal};
use crate::broker::Broker;
use crate::context::RequestContext;
use crate::operations;

/// The first version with authorized operations (KIP-430).
const OPERATIONS_VERSION: i16 = 8;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: Request,
) -> Response {
    let with_operations = request.include_topic_authorized_operations;
    let topics = match request.topics {
        None => all(broker, with_operations),
        // Version 0 cannot say "null": there, an empty list asks for every topic.
        Some(topics) if topics.is_empty() && context.version == 0 => all(broker, with_operations),
        Some(topics) => {
            let may_create = request.allow_auto_topic_creation || context.version < 4;
            let mut rows = Vec::with_capacity(topics.len());
            for topic in topics {
                rows.push(one(broker, topic, may_create, with_operations).await);
            }
            rows
        }
    };
    let cluster_operations = request.include_cluster_authorized_operations
        && (OPERATIONS_VERSION..=10).contains(&context.version);
    Response {
        brokers: brokers(broker, context),
        cluster_id: Some(broker.view.cluster_id().to_owned()),
        controller_id: broker.id.0,
        topics,
        cluster_authorized_operations: operations::shown(cluster_operations, operations::CLUSTER),
        ..Default::default()
    }
}

/// Every broker, with an address of its own: clients tell nodes apart by host and port.
fn brokers(broker: &Broker, context: &RequestContext) -> Vec<MetadataResponseBroker> {
    let rows = broker.endpoints(&context.listener).into_iter().map(|it| MetadataResponseBroker {
        node_id: it.id.0,
        host: it.host.clone(),
        port: i32::from(it.port),
        rack: it.rack.clone(),
    });
    rows.collect()
}

fn all(broker: &Broker, with_operations: bool) -> Vec<MetadataResponseTopic> {
    broker.view.topics().iter().map(|topic| row(topic, with_operations)).collect()
}

async fn one(
    broker: &Arc<Broker>,
    asked: MetadataRequestTopic,
    may_create: bool,
    with_operations: bool,
) -> MetadataResponseTopic {
    let Some(name) = asked.name.filter(|_| asked.topic_id == TopicId::ZERO) else {
        return match broker.view.topic_by_id(asked.topic_id) {
            Some(topic) => row(&topic, with_operations),
            None => unknown(None, asked.topic_id, ErrorCode::UnknownTopicId),
        };
    };
    if let Some(topic) = broker.view.topic(&name) {
        return row(&topic, with_operations);
    }
    let code = match auto_create::create(broker, &name, may_create).await {
        Ok(topic) => return row(&topic, with_operations),
        Err(AutoCreateRefusal::NotAllowed) => ErrorCode::UnknownTopicOrPartition,
        Err(AutoCreateRefusal::InvalidName) => ErrorCode::InvalidTopicException,
        Err(AutoCreateRefusal::Unavailable) => ErrorCode::LeaderNotAvailable,
    };
    unknown(Some(name), TopicId::ZERO, code)
}

fn row(topic: &Topic, with_operations: bool) -> MetadataResponseTopic {
    let partitions = topic.partitions.iter().enumerate().map(|(index, info)| {
        MetadataResponsePartition {
            partition_index: index as i32,
            leader_id: info.leader.0,
            leader_epoch: info.leader_epoch.0,
            // The bucket is the durability: the leader is the whole replica set that clients see.
            replica_nodes: vec![info.leader.0],
            isr_nodes: vec![info.leader.0],
            ..Default::default()
        }
    });
    MetadataResponseTopic {
        name: Some(topic.name.clone()),
        topic_id: topic.id,
        is_internal: topic.is_internal,
        partitions: partitions.collect(),
        topic_authorized_operations: operations::shown(with_operations, operations::TOPIC),
        ..Default::default()
    }
}

fn unknown(name: Option<String>, topic_id: TopicId, code: ErrorCode) -> MetadataResponseTopic {
    MetadataResponseTopic { error_code: code.code(), name, topic_id, ..Default::default() }
}
