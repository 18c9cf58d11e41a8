//! OffsetDelete (key 47): forgets committed offsets that no member of the group needs (KIP-496).

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use cluster::AclOperation;
use coordinator::{Command, DeleteOffsets, DeleteOffsetsReply, Reply};
use protocol::ErrorCode;
use protocol::messages::offset_delete::request::OffsetDeleteRequestTopic;
use protocol::messages::offset_delete::response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use protocol::messages::offset_delete::{Request, Response};

use crate::broker::Broker;
use crate::context::RequestContext;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: Request,
) -> Response {
    let Request { group_id: group, topics, .. } = request;
    if !context.allows_group(AclOperation::Delete, &group) {
        return refused(ErrorCode::GroupAuthorizationFailed);
    }
    if group.is_empty() {
        return refused(ErrorCode::InvalidGroupId);
    }
    let denied: BTreeSet<String> = topics
        .iter()
        .filter(|it| !context.allows_topic(AclOperation::Read, &it.name))
        .map(|it| it.name.clone())
        .collect();
    let known = |topic: &OffsetDeleteRequestTopic| {
        let is_allowed = !denied.contains(&topic.name);
        let exists = topic.partitions.iter().map(|it| it.partition_index);
        let exists = exists.filter(|index| is_allowed && exists_here(broker, &topic.name, *index));
        (topic.name.clone(), exists.collect())
    };
    let wanted: Vec<(String, Vec<i32>)> = topics.iter().map(known).collect();
    let command =
        Command::DeleteOffsets(DeleteOffsets { group: group.clone(), topics: wanted.clone() });
    let pick = |reply| if let Reply::DeleteOffsets(it) = reply { Some(it) } else { None };
    let codes = match broker.groups.ask(broker, &group, command, pick).await {
        Ok(DeleteOffsetsReply::Each(codes)) => codes,
        Ok(DeleteOffsetsReply::Refused(code)) | Err(code) => return refused(code),
    };
    let rows =
        topics.into_iter().zip(wanted).zip(codes).map(|((topic, (_, known)), (_, codes))| {
            let mut answered: VecDeque<(i32, ErrorCode)> = codes.into();
            let partitions = topic.partitions.iter().map(|it| it.partition_index).map(|index| {
                let answer = answered.front().filter(|(answered, _)| *answered == index).copied();
                let code = match answer {
                    Some((_, code)) if known.contains(&index) => {
                        answered.pop_front();
                        code
                    }
                    _ if denied.contains(&topic.name) => ErrorCode::TopicAuthorizationFailed,
                    _ => ErrorCode::UnknownTopicOrPartition,
                };
                OffsetDeleteResponsePartition { partition_index: index, error_code: code.code() }
            });
            let partitions = partitions.collect();
            OffsetDeleteResponseTopic { name: topic.name, partitions }
        });
    Response { topics: rows.collect(), ..Default::default() }
}

fn exists_here(broker: &Broker, topic: &str, index: i32) -> bool {
    broker.view.topic(topic).is_some_and(|it| it.partition(index).is_some())
}

fn refused(code: ErrorCode) -> Response {
    Response { error_code: code.code(), ..Default::default() }
}
