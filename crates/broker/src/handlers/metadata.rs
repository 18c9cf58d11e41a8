//! Metadata (key 3): brokers, topics, leaders. Creates topics on demand where both sides allow it.
//!
//! A topic has one row, however often it is named: the rows of its partitions are many times as large as its name.

use std::collections::BTreeSet;
use std::sync::Arc;

use cluster::{AclOperation, Topic};
use futures::StreamExt;
use protocol::ErrorCode;
use protocol::messages::metadata::request::MetadataRequestTopic;
use protocol::messages::metadata::response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use protocol::messages::metadata::{Request, Response};
use vocabulary::TopicId;

use crate::auto_create::{self, AutoCreateRefusal, CREATIONS_AT_ONCE};
use crate::broker::Broker;
use crate::context::RequestContext;
use crate::operations;
use crate::topic_creation::CREATION_WAIT_MAX;

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
            rows.named(topics, may_create).await
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

    /// Those asked for, in order, each once. What is not there and may be created is waited for together, and not for
    /// longer than [`CREATION_WAIT_MAX`].
    async fn named(
        &self,
        asked: Vec<MetadataRequestTopic>,
        may_create: bool,
    ) -> Vec<MetadataResponseTopic> {
        let (mut names, mut ids) = (BTreeSet::new(), BTreeSet::new());
        let mut rows = Vec::new();
        let mut absent = Vec::new();
        for MetadataRequestTopic { topic_id, name } in asked {
            let Some(name) = name.filter(|_| topic_id == TopicId::ZERO) else {
                if ids.insert(topic_id) {
                    rows.push(self.by_id(topic_id));
                }
                continue;
            };
            if !names.insert(name.clone()) {
                continue;
            }
            let known = self.by_name(&name, may_create);
            if known.is_none() {
                absent.push((rows.len(), name.clone()));
            }
            // What is still absent when time is up is on its way.
            let on_its_way = || self.absent(name, ErrorCode::LeaderNotAvailable);
            rows.push(known.unwrap_or_else(on_its_way));
        }
        let creations = absent
            .into_iter()
            .map(|(place, name)| async move { (place, self.created(name, may_create).await) });
        let mut creations = futures::stream::iter(creations).buffer_unordered(CREATIONS_AT_ONCE);
        let timeout = self.broker.environment.clock.sleep(CREATION_WAIT_MAX);
        tokio::pin!(timeout);
        loop {
            tokio::select! {
                biased;
                created = creations.next() => match created {
                    Some((place, row)) => rows[place] = row,
                    None => break,
                },
                () = &mut timeout => break,
            }
        }
        drop(creations);
        rows
    }

    /// `None`: there is no such topic now, and nothing against creating it.
    fn by_name(&self, name: &str, may_create: bool) -> Option<MetadataResponseTopic> {
        let denied =
            || unknown(Some(name.to_owned()), TopicId::ZERO, ErrorCode::TopicAuthorizationFailed);
        // Whether there is such a topic is not said.
        if !self.context.allows_topic(AclOperation::Describe, name) {
            return Some(denied());
        }
        if let Some(topic) = self.broker.view.topic(name) {
            return Some(self.row(&topic));
        }
        let creates = may_create && self.broker.config.auto_create_topics;
        (creates && !self.may_create(name)).then(denied)
    }

    async fn created(&self, name: String, may_create: bool) -> MetadataResponseTopic {
        let code = match auto_create::create(self.broker, &name, may_create).await {
            Ok(topic) => return self.row(&topic),
            Err(AutoCreateRefusal::NotAllowed) => ErrorCode::UnknownTopicOrPartition,
            Err(AutoCreateRefusal::InvalidName) => ErrorCode::InvalidTopicException,
            Err(AutoCreateRefusal::Unavailable) => ErrorCode::LeaderNotAvailable,
        };
        self.absent(name, code)
    }

    /// What may be done with a topic is told also where there is none yet.
    fn absent(&self, name: String, code: ErrorCode) -> MetadataResponseTopic {
        let operations = || operations::of_topic(self.context, &name);
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
