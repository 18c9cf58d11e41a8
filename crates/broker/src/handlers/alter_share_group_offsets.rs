//! AlterShareGroupOffsets (key 91): begins share-partitions of a group without members anew, elsewhere (KIP-932).

use std::sync::Arc;

use cluster::AclOperation;
use coordinator::share::{ShareCommand, ShareReply, StartAt};
use coordinator::{Command, FoundShare, GroupState, Reply};
use protocol::ErrorCode;
use protocol::messages::alter_share_group_offsets::request::AlterShareGroupOffsetsRequestTopic as AskedTopic;
use protocol::messages::alter_share_group_offsets::response::{
    AlterShareGroupOffsetsResponsePartition as PartitionRow,
    AlterShareGroupOffsetsResponseTopic as TopicRow,
};
use protocol::messages::alter_share_group_offsets::{Request, Response};
use vocabulary::{Offset, Partition};

use crate::broker::Broker;
use crate::context::RequestContext;
use crate::refusal::{self, Refusal, told};
use crate::shares::beginning;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: Request,
) -> Response {
    match alter(broker, context, &request.group_id, request.topics).await {
        Ok(responses) => Response { responses, ..Default::default() },
        Err(refusal) => {
            let (error_code, error_message) = told(Err(refusal));
            Response { error_code, error_message, ..Default::default() }
        }
    }
}

/// Refuses unless the group is a share group nobody is in.
pub(super) async fn refuse_unless_empty(broker: &Arc<Broker>, group: &str) -> Result<(), Refusal> {
    let found = broker.groups.describe_shares(broker, group).await;
    let found = found.map_err(|code| Refusal::new(code, code.name()))?;
    let found = found.map_err(|it| Refusal::new(it.code, it.message))?;
    match found.state {
        GroupState::Empty => Ok(()),
        _ => Err(Refusal::new(ErrorCode::NonEmptyGroup, format!("Group {group} is not empty."))),
    }
}

/// Makes sure of a share group that nobody is in. One that is not there begins with its offsets, if there are any.
async fn found(broker: &Arc<Broker>, group: &str, is_needed: bool) -> Result<(), Refusal> {
    let command = Command::FoundShare(FoundShare { group: group.to_owned(), is_needed });
    let pick = |reply| if let Reply::FoundShare(it) = reply { Some(it) } else { None };
    let found = broker.groups.ask(broker, group, command, pick).await;
    let found = found.map_err(|code| Refusal::new(code, code.name()))?;
    found.map_err(|it| Refusal::new(it.code, it.message))
}

async fn alter(
    broker: &Arc<Broker>,
    context: &RequestContext,
    group: &str,
    topics: Vec<AskedTopic>,
) -> Result<Vec<TopicRow>, Refusal> {
    if !context.allows_group(AclOperation::Read, group) {
        return Err(refusal::unauthorized(ErrorCode::GroupAuthorizationFailed));
    }
    let (mut starts, mut siblings) = (Vec::new(), Vec::new());
    let mut rows = Vec::with_capacity(topics.len());
    for AskedTopic { topic_name, partitions } in topics {
        let is_allowed = context.allows_topic(AclOperation::Read, &topic_name);
        let found = broker.view.topic(&topic_name).filter(|_| is_allowed);
        let mut codes = Vec::with_capacity(partitions.len());
        let others = starts.len();
        for asked in partitions {
            let index = usize::try_from(asked.partition_index).ok();
            let info = found.as_ref().and_then(|it| it.partitions.get(index?));
            let code = match (&found, info) {
                (Some(topic), Some(info)) if 0 <= asked.start_offset => {
                    starts.push(StartAt {
                        partition: Partition { topic: topic.id, index: asked.partition_index },
                        leader_epoch: info.leader_epoch.0,
                        start: Offset(asked.start_offset),
                    });
                    None
                }
                (Some(_), Some(_)) => Some(ErrorCode::InvalidRequest),
                _ if !is_allowed => Some(ErrorCode::TopicAuthorizationFailed),
                _ => Some(ErrorCode::UnknownTopicOrPartition),
            };
            codes.push((asked.partition_index, code));
        }
        if let Some(topic) = &found {
            let asked = starts[others..].iter().map(|it: &StartAt| it.partition).collect();
            siblings.append(&mut beginning::siblings(broker, topic, &asked, None));
        }
        rows.push((topic_name, found.map(|it| it.id).unwrap_or_default(), codes));
    }
    found(broker, group, !starts.is_empty()).await?;
    let altered = if starts.is_empty() {
        Vec::new()
    } else {
        let command = ShareCommand::Alter { group: group.to_owned(), starts, siblings };
        let pick = |reply| if let ShareReply::Altered(it) = reply { Some(it) } else { None };
        let altered = broker.shares.ask(broker, group, command, pick).await;
        altered.map_err(|code| Refusal::new(code, code.name()))?
    };
    let mut altered = altered.into_iter();
    let mut row = |(partition_index, code): (i32, Option<ErrorCode>)| {
        let code = code.or_else(|| altered.next()).unwrap_or(ErrorCode::UnknownServerError);
        let error_message = (code != ErrorCode::None).then(|| code.name().to_owned());
        PartitionRow { partition_index, error_code: code.code(), error_message }
    };
    let mut responses = Vec::with_capacity(rows.len());
    for (topic_name, topic_id, codes) in rows {
        let partitions = codes.into_iter().map(&mut row).collect();
        responses.push(TopicRow { topic_name, topic_id, partitions });
    }
    Ok(responses)
}
