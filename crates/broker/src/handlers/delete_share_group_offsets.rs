//! DeleteShareGroupOffsets (key 92): forgets whole topics of a share group without members (KIP-932).

use std::sync::Arc;

use cluster::AclOperation;
use coordinator::share::{ShareCommand, ShareReply};
use protocol::ErrorCode;
use protocol::messages::delete_share_group_offsets::response::DeleteShareGroupOffsetsResponseTopic as TopicRow;
use protocol::messages::delete_share_group_offsets::{Request, Response};
use vocabulary::TopicId;

use super::alter_share_group_offsets::refuse_unless_empty;
use crate::broker::Broker;
use crate::context::RequestContext;
use crate::refusal::{self, Refusal, told};

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: Request,
) -> Response {
    let names = request.topics.into_iter().map(|it| it.topic_name).collect();
    match delete(broker, context, &request.group_id, names).await {
        Ok(responses) => Response { responses, ..Default::default() },
        Err(refusal) => {
            let (error_code, error_message) = told(Err(refusal));
            Response { error_code, error_message, ..Default::default() }
        }
    }
}

async fn delete(
    broker: &Arc<Broker>,
    context: &RequestContext,
    group: &str,
    names: Vec<String>,
) -> Result<Vec<TopicRow>, Refusal> {
    if !context.allows_group(AclOperation::Delete, group) {
        return Err(refusal::unauthorized(ErrorCode::GroupAuthorizationFailed));
    }
    refuse_unless_empty(broker, group).await?;
    let (names, denied): (Vec<String>, Vec<String>) =
        names.into_iter().partition(|it| context.allows_topic(AclOperation::Read, it));
    let found: Vec<(String, Option<TopicId>)> = names
        .into_iter()
        .map(|name| (broker.view.topic(&name).map(|it| it.id), name))
        .map(|(id, name)| (name, id))
        .collect();
    let topics: Vec<TopicId> = found.iter().filter_map(|(_, id)| *id).collect();
    let forgotten = forget(broker, group, Some(topics)).await?;
    let row = |(topic_name, id): (String, Option<TopicId>)| {
        let is_forgotten = id.is_some_and(|it| forgotten.contains(&it));
        let outcome = match (id, is_forgotten) {
            (_, true) => Ok(()),
            (Some(_), false) => Err(Refusal::new(
                ErrorCode::UnknownTopicOrPartition,
                "There is no offset information to delete.",
            )),
            (None, false) => Err(Refusal::new(
                ErrorCode::UnknownTopicOrPartition,
                "This server does not host this topic-partition.",
            )),
        };
        let (error_code, error_message) = told(outcome);
        TopicRow { topic_name, topic_id: id.unwrap_or_default(), error_code, error_message }
    };
    let denied = denied.into_iter().map(|topic_name| {
        let refusal = refusal::unauthorized(ErrorCode::TopicAuthorizationFailed);
        let (error_code, error_message) = told(Err(refusal));
        TopicRow { topic_name, topic_id: TopicId::ZERO, error_code, error_message }
    });
    Ok(found.into_iter().map(row).chain(denied).collect())
}

/// Forgets these topics of a group, or all that is known of it; the topics of which something was known.
///
/// # Errors
/// That of the coordinator.
pub(super) async fn forget(
    broker: &Arc<Broker>,
    group: &str,
    topics: Option<Vec<TopicId>>,
) -> Result<Vec<TopicId>, Refusal> {
    if !broker.shares.is_in_use(broker) {
        return Ok(Vec::new());
    }
    let command = ShareCommand::Delete { group: group.to_owned(), topics };
    let pick = |reply| if let ShareReply::Deleted(it) = reply { Some(it) } else { None };
    let forgotten = broker.shares.ask(broker, group, command, pick).await;
    forgotten.map_err(|code| Refusal::new(code, code.name()))
}
