//! OffsetCommit (key 8): how far a group has come. By topic name, from version 10 by id.

use std::collections::VecDeque;
use std::sync::Arc;

use cluster::Topic;
use coordinator::{Command, CommitOffsets, CommitReply, OffsetToCommit, Reply};
use protocol::ErrorCode;
use protocol::messages::offset_commit::request::OffsetCommitRequestTopic;
use protocol::messages::offset_commit::response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use protocol::messages::offset_commit::{Request, Response};
use vocabulary::{Offset, TopicId};

use crate::broker::Broker;
use crate::context::RequestContext;

/// The first version that names topics by id (KIP-848).
const TOPIC_ID_VERSION: i16 = 10;

/// The first version whose clients know GROUP_ID_NOT_FOUND here, and speak of member epochs (KIP-848).
const MEMBER_EPOCH_VERSION: i16 = 9;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: Request,
) -> Response {
    let by_id = TOPIC_ID_VERSION <= context.version;
    let known = request.topics.iter().map(|it| find(broker, (&it.name, it.topic_id), by_id));
    let known: Vec<Result<Arc<Topic>, ErrorCode>> = known.collect();
    let offsets = offsets(&request.topics, &known);
    let outcome = if offsets.is_empty() {
        Ok(CommitReply::Each(Vec::new()))
    } else {
        let command = Command::Commit(CommitOffsets {
            group: request.group_id.clone(),
            generation: request.generation_id_or_member_epoch,
            member: request.member_id,
            instance: request.group_instance_id,
            retention_ms: Some(request.retention_time_ms).filter(|it| 0 <= *it),
            group_not_found_known: MEMBER_EPOCH_VERSION <= context.version,
            member_epochs_known: MEMBER_EPOCH_VERSION <= context.version,
            transaction: None,
            offsets,
        });
        let pick = |reply| if let Reply::Commit(it) = reply { Some(it) } else { None };
        broker.groups.ask(broker, &request.group_id, command, pick).await
    };
    let topics = answer(request.topics, &known, outcome);
    Response { topics, ..Default::default() }
}

/// The topic of a commit, which later versions name by its id.
pub(super) fn find(
    broker: &Broker,
    (name, id): (&str, TopicId),
    by_id: bool,
) -> Result<Arc<Topic>, ErrorCode> {
    if by_id {
        broker.view.topic_by_id(id).ok_or(ErrorCode::UnknownTopicId)
    } else {
        broker.view.topic(name).ok_or(ErrorCode::UnknownTopicOrPartition)
    }
}

pub(super) fn has_partition(topic: &Topic, index: i32) -> bool {
    usize::try_from(index).is_ok_and(|it| it < topic.partitions.len())
}

/// The offsets of partitions that exist, in the order of the request.
fn offsets(
    topics: &[OffsetCommitRequestTopic],
    known: &[Result<Arc<Topic>, ErrorCode>],
) -> Vec<OffsetToCommit> {
    let mut offsets = Vec::new();
    for (asked, known) in topics.iter().zip(known) {
        let Ok(topic) = known else { continue };
        for partition in &asked.partitions {
            if has_partition(topic, partition.partition_index) {
                offsets.push(OffsetToCommit {
                    topic: topic.name.clone(),
                    partition: partition.partition_index,
                    offset: Offset(partition.committed_offset),
                    leader_epoch: partition.committed_leader_epoch,
                    metadata: partition.committed_metadata.clone(),
                });
            }
        }
    }
    offsets
}

/// One row for every partition asked for; the coordinator has answered for those that exist.
fn answer(
    topics: Vec<OffsetCommitRequestTopic>,
    known: &[Result<Arc<Topic>, ErrorCode>],
    outcome: Result<CommitReply, ErrorCode>,
) -> Vec<OffsetCommitResponseTopic> {
    let (mut each, for_all) = match outcome {
        Ok(CommitReply::Each(codes)) => (VecDeque::from(codes), ErrorCode::UnknownServerError),
        Ok(CommitReply::Refused(code)) | Err(code) => (VecDeque::new(), code),
    };
    let mut rows = Vec::with_capacity(topics.len());
    for (asked, known) in topics.into_iter().zip(known) {
        let partitions = asked.partitions.iter().map(|partition| {
            let code = match known {
                Err(code) => *code,
                Ok(topic) if !has_partition(topic, partition.partition_index) => {
                    ErrorCode::UnknownTopicOrPartition
                }
                Ok(_) => each.pop_front().unwrap_or(for_all),
            };
            OffsetCommitResponsePartition {
                partition_index: partition.partition_index,
                error_code: code.code(),
            }
        });
        let partitions = partitions.collect();
        rows.push(OffsetCommitResponseTopic {
            name: asked.name,
            topic_id: asked.topic_id,
            partitions,
        });
    }
    rows
}
