//! OffsetCommit (key 8): how far a group has come. By topic name, from version 10 by id.

use std::sync::Arc;

use cluster::AclOperation;
use coordinator::{Command, CommitOffsets, CommitReply, Reply};
use protocol::ErrorCode;
use protocol::messages::offset_commit::response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use protocol::messages::offset_commit::{Request, Response};

use crate::broker::Broker;
use crate::commit_rows::{AnsweredTopic, AskedOffset, CommitRows};
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
    let mut rows = CommitRows::default();
    let may_commit = context.allows_group(AclOperation::Read, &request.group_id);
    for topic in request.topics {
        let asked = topic.partitions.into_iter().map(|it| AskedOffset {
            partition: it.partition_index,
            offset: it.committed_offset,
            leader_epoch: it.committed_leader_epoch,
            metadata: it.committed_metadata,
        });
        rows.add((broker, context), (topic.name, topic.topic_id), by_id, asked);
    }
    let offsets = rows.take_offsets();
    let outcome = if offsets.is_empty() || !may_commit {
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
    let answered = match may_commit {
        true => rows.answered(outcome),
        false => rows.refused(ErrorCode::GroupAuthorizationFailed),
    };
    let topics = answered.into_iter().map(row).collect();
    Response { topics, ..Default::default() }
}

fn row(topic: AnsweredTopic) -> OffsetCommitResponseTopic {
    let AnsweredTopic { name, id, codes } = topic;
    let partitions = codes.into_iter().map(|(partition_index, code)| {
        OffsetCommitResponsePartition { partition_index, error_code: code.code() }
    });
    OffsetCommitResponseTopic { name, topic_id: id, partitions: partitions.collect() }
}
