//! Metadata (key 3): brokers, topics, leaders. Creates topics on demand where both sides allow it.

use std::sync::Arc;

use cluster::{AclOperation, Topic};
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
    let rows =
        Rows { broker, context, with_operations: request.include_topic_authorized_operations };
    let topics = match request.topics {
        None => rows.all(),
        // Version 0 cannot say "null": there, an empty list asks for every topic.
        Some(topics) if topics.is_empty() && context.version == 0 => rows.all(),
        Some(topics) => {
            let may_create = request.allow_auto_topic_creation || context.version < 4;
            let mut answers = Vec::with_capacity(topics.len());
            for topic in topics {
                answers.push(rows.one(topic, may_create).await);
            }
            answers
        }
    };
    let cluster_operations = request.include_cluster_authorized_operations
        && (OPERATIONS_VERSION..=10).contains(&context.version);
    Response {
        brokers: brokers(broker, context),
        cluster_id: Some(broker.view.cluster_id().to_owned()),
        controller_id: broker.id.0,
        topics,
        cluster_authorized_operations: operations::of_cluster(context, cluster_operations),
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

/// What one request is told about topics.
struct Rows<'a> {
    broker: &'a Arc<Broker>,
    context: &'a RequestContext,
    with_operations: bool,
}

impl Rows<'_> {
    /// Those that the client may know of.
    fn all(&self) -> Vec<MetadataResponseTopic> {
        let topics = self.broker.view.topics();
        let seen =
            topics.iter().filter(|it| self.context.sees_topic(AclOperation::Describe, &it.name));
        seen.map(|topic| self.row(topic)).collect()
    }

    async fn one(&self, asked: MetadataRequestTopic, may_create: bool) -> MetadataResponseTopic {
        let Some(name) = asked.name.filter(|_| asked.topic_id == TopicId::ZERO) else {
            return self.by_id(asked.topic_id);
        };
        // Whether there is such a topic is not said.
        if !self.context.allows_topic(AclOperation::Describe, &name) {
            return unknown(Some(name), TopicId::ZERO, ErrorCode::TopicAuthorizationFailed);
        }
        if let Some(topic) = self.broker.view.topic(&name) {
            return self.row(&topic);
        }
        let creates = may_create && self.broker.config.auto_create_topics;
        if creates && !self.may_create(&name) {
            return unknown(Some(name), TopicId::ZERO, ErrorCode::TopicAuthorizationFailed);
        }
        let code = match auto_create::create(self.broker, &name, may_create).await {
            Ok(topic) => return self.row(&topic),
            Err(AutoCreateRefusal::NotAllowed) => ErrorCode::UnknownTopicOrPartition,
            Err(AutoCreateRefusal::InvalidName) => ErrorCode::InvalidTopicException,
            Err(AutoCreateRefusal::Unavailable) => ErrorCode::LeaderNotAvailable,
        };
        let operations = || operations::of_topic(self.context, &name);
        // What may be done with a topic is told also where there is none yet.
        let topic_authorized_operations = operations::shown(self.with_operations, operations);
        let row = unknown(Some(name), TopicId::ZERO, code);
        MetadataResponseTopic { topic_authorized_operations, ..row }
    }

    /// An id is no secret: who has it is told that there is such a topic, not its name.
    fn by_id(&self, id: TopicId) -> MetadataResponseTopic {
        match self.broker.view.topic_by_id(id) {
            None => unknown(None, id, ErrorCode::UnknownTopicId),
            Some(it) if !self.context.allows_topic(AclOperation::Describe, &it.name) => {
                unknown(None, id, ErrorCode::TopicAuthorizationFailed)
            }
            Some(topic) => self.row(&topic),
        }
    }

    fn may_create(&self, name: &str) -> bool {
        self.context.sees_cluster(AclOperation::Create)
            || self.context.allows_topic(AclOperation::Create, name)
    }

    fn row(&self, topic: &Topic) -> MetadataResponseTopic {
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
        let operations = || operations::of_topic(self.context, &topic.name);
        MetadataResponseTopic {
            name: Some(topic.name.clone()),
            topic_id: topic.id,
            is_internal: topic.is_internal,
            partitions: partitions.collect(),
            topic_authorized_operations: operations::shown(self.with_operations, operations),
            ..Default::default()
        }
    }
}

fn unknown(name: Option<String>, topic_id: TopicId, code: ErrorCode) -> MetadataResponseTopic {
    MetadataResponseTopic { error_code: code.code(), name, topic_id, ..Default::default() }
}
