//! DeleteTopics (key 20): by name, or from version 6 also by id (KIP-516). One row a topic asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cluster::{AclOperation, Topic};
use protocol::ErrorCode;
use protocol::messages::delete_topics::request::DeleteTopicState;
use protocol::messages::delete_topics::response::DeletableTopicResult;
use protocol::messages::delete_topics::{Request, Response};
use vocabulary::{Tick, TopicId};

use crate::admin_rows::{self, CHANGES_AT_ONCE};
use crate::broker::Broker;
use crate::context::RequestContext;
use crate::refusal::{self, Refusal};
use crate::topic_admin;

/// The first version whose clients know TOPIC_DELETION_DISABLED.
const DISABLED_VERSION: i16 = 3;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: Request,
) -> Response {
    let named = request
        .topic_names
        .into_iter()
        .map(|name| DeleteTopicState { name: Some(name), ..Default::default() });
    let asked: Vec<DeleteTopicState> = request.topics.into_iter().chain(named).collect();
    let mut resolved =
        resolve(asked, |name| broker.view.topic(name), |id| broker.view.topic_by_id(id));
    if !context.sees_cluster(AclOperation::Delete) {
        resolved.iter_mut().for_each(|it| authorize(context, it));
    }
    let deadline = admin_rows::deadline(broker, request.timeout_ms);
    let deleted = admin_rows::run(resolved, CHANGES_AT_ONCE, |it| {
        Box::pin(async move {
            let Resolved { name, id, topic, .. } = it;
            let deleted = match topic {
                Ok(_) if !broker.config.delete_topics => Err(disabled(context.version)),
                Ok(topic) => delete(broker, &topic, deadline).await,
                Err(refusal) => Err(refusal),
            };
            row(name, id, deleted)
        })
    });
    Response { responses: deleted.await, ..Default::default() }
}

/// A topic asked for, with what is known of it.
#[derive(Debug)]
struct Resolved {
    name: Option<String>,
    id: TopicId,
    topic: Result<Arc<Topic>, Refusal>,
    /// Asked for by its id.
    by_id: bool,
}

/// Refuses who may not delete the topic, and tells who may not even know of it nothing about it.
fn authorize(context: &RequestContext, resolved: &mut Resolved) {
    let known = resolved.topic.as_ref().ok().map(|it| it.name.clone());
    let is_malformed =
        resolved.topic.as_ref().is_err_and(|it| it.code == ErrorCode::InvalidRequest);
    let Some(name) = known.or_else(|| resolved.name.clone()).filter(|_| !is_malformed) else {
        return;
    };
    let sees = context.allows_topic(AclOperation::Describe, &name);
    // Of a topic that is not there, who may see it is told that.
    if sees && (resolved.topic.is_err() || context.allows_topic(AclOperation::Delete, &name)) {
        return;
    }
    resolved.topic = Err(refusal::unauthorized(ErrorCode::TopicAuthorizationFailed));
    if !sees && resolved.by_id {
        resolved.name = None;
    }
    if !resolved.by_id {
        resolved.id = TopicId::ZERO;
    }
}

/// Finds the topics and refuses what is asked for twice, under one name, one id or both.
fn resolve(
    asked: Vec<DeleteTopicState>,
    by_name: impl Fn(&str) -> Option<Arc<Topic>>,
    by_id: impl Fn(TopicId) -> Option<Arc<Topic>>,
) -> Vec<Resolved> {
    let invalid = |message| Refusal::new(ErrorCode::InvalidRequest, message);
    let mut resolved: Vec<Resolved> = Vec::with_capacity(asked.len());
    for DeleteTopicState { name, topic_id, .. } in asked {
        let found = match (&name, topic_id) {
            (None, TopicId::ZERO) => Err(invalid("Neither topic name nor id were specified.")),
            (Some(name), TopicId::ZERO) => by_name(name).ok_or_else(|| {
                let words = "This server does not host this topic-partition.";
                Refusal::new(ErrorCode::UnknownTopicOrPartition, words)
            }),
            (None, id) => by_id(id).ok_or_else(|| {
                let words = "This server does not host this topic ID.";
                Refusal::new(ErrorCode::UnknownTopicId, words)
            }),
            (Some(_), _) => Err(invalid("You may not specify both topic name and topic id.")),
        };
        let known = found.as_ref().ok();
        resolved.push(Resolved {
            by_id: name.is_none(),
            // Whoever asked by id is told the name too.
            name: name.or_else(|| known.map(|it| it.name.clone())),
            id: known.map_or(topic_id, |it| it.id),
            topic: found,
        });
    }
    let mut counts: BTreeMap<TopicId, usize> = BTreeMap::new();
    for it in resolved.iter().filter(|it| it.topic.is_ok()) {
        *counts.entry(it.id).or_default() += 1;
    }
    let repeated: BTreeSet<TopicId> =
        counts.into_iter().filter(|(_, count)| 1 < *count).map(|(id, _)| id).collect();
    for it in resolved.iter_mut().filter(|it| repeated.contains(&it.id)) {
        it.topic = Err(invalid("Duplicate topic name or id."));
    }
    resolved
}

async fn delete(broker: &Arc<Broker>, topic: &Topic, deadline: Tick) -> Result<(), Refusal> {
    topic_admin::refuse_internal(&topic.name, "Deletion")?;
    topic_admin::within(broker, deadline, broker.controller.delete_topic(topic.id)).await
}

fn disabled(version: i16) -> Refusal {
    let code = if version < DISABLED_VERSION {
        ErrorCode::InvalidRequest
    } else {
        ErrorCode::TopicDeletionDisabled
    };
    Refusal::new(code, "Topic deletion is disabled (delete.topic.enable).")
}

fn row(
    name: Option<String>,
    topic_id: TopicId,
    deleted: Result<(), Refusal>,
) -> DeletableTopicResult {
    let (code, error_message) = match deleted {
        Ok(()) => (ErrorCode::None, None),
        Err(Refusal { code, message }) => (code, Some(message)),
    };
    DeletableTopicResult { name, topic_id, error_code: code.code(), error_message }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: TopicId = TopicId([7; 16]);

    fn topic() -> Arc<Topic> {
        Arc::new(Topic {
            id: ID,
            name: "t".to_owned(),
            is_internal: false,
            partitions: Vec::new(),
            configs: BTreeMap::new(),
        })
    }

    #[track_caller]
    fn check(asked: &[(Option<&str>, TopicId)], expected: &[Result<TopicId, ErrorCode>]) {
        let asked = asked.iter().map(|(name, topic_id)| DeleteTopicState {
            name: name.map(str::to_owned),
            topic_id: *topic_id,
        });
        let resolved =
            resolve(asked.collect(), |name| (name == "t").then(topic), |id| (id == ID).then(topic));
        let found: Vec<_> = resolved
            .into_iter()
            .map(|it| it.topic.map(|topic| topic.id).map_err(|refusal| refusal.code))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn topics_are_found_by_name_or_id() {
        check(&[(Some("t"), TopicId::ZERO)], &[Ok(ID)]);
        check(&[(None, ID)], &[Ok(ID)]);
        check(&[(Some("x"), TopicId::ZERO)], &[Err(ErrorCode::UnknownTopicOrPartition)]);
        check(&[(None, TopicId([1; 16]))], &[Err(ErrorCode::UnknownTopicId)]);
        check(&[(None, TopicId::ZERO)], &[Err(ErrorCode::InvalidRequest)]);
        check(&[(Some("t"), ID)], &[Err(ErrorCode::InvalidRequest)]);
    }

    #[test]
    fn a_topic_asked_for_twice_stays() {
        let refused = Err(ErrorCode::InvalidRequest);
        check(&[(Some("t"), TopicId::ZERO), (None, ID)], &[refused, refused]);
        check(
            &[(Some("t"), TopicId::ZERO), (Some("x"), TopicId::ZERO), (Some("t"), TopicId::ZERO)],
            &[refused, Err(ErrorCode::UnknownTopicOrPartition), refused],
        );
    }

    #[test]
    fn whoever_asks_by_id_is_told_the_name() {
        let asked = vec![DeleteTopicState { topic_id: ID, ..Default::default() }];
        let resolved = resolve(asked, |_| None, |_| Some(topic()));
        assert_eq!(resolved[0].name.as_deref(), Some("t"));
    }

    #[test]
    fn old_clients_get_a_code_they_know() {
        assert_eq!(disabled(2).code, ErrorCode::InvalidRequest);
        assert_eq!(disabled(3).code, ErrorCode::TopicDeletionDisabled);
    }
}
