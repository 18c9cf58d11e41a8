//! TxnOffsetCommit (key 28): offsets that count once their transaction is committed (KIP-98, KIP-447). By topic name,
//! from version 6 by id. From version 5 on the group becomes part of the transaction by it (KIP-890).

use std::sync::Arc;

use cluster::AclOperation;
use coordinator::transactions::TransactionVersion;
use coordinator::{Command, CommitOffsets, CommitReply, OffsetToCommit, Reply};
use protocol::ErrorCode;
use protocol::messages::txn_offset_commit::response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use protocol::messages::txn_offset_commit::{Request, Response};
use vocabulary::ProducerId;

use crate::broker::Broker;
use crate::commit_rows::{AnsweredTopic, AskedOffset, CommitRows};
use crate::context::RequestContext;
use crate::transactions::admission::{self, Manners, Writer};
use crate::transactions::partition_of_group;

/// The first version that names topics by id, and whose clients know GROUP_ID_NOT_FOUND and STALE_MEMBER_EPOCH here
/// (KIP-1319).
const TOPIC_ID_VERSION: i16 = 6;

/// The first version of the new rules.
const V2_VERSION: i16 = 5;

/// The first version whose clients know TRANSACTION_ABORTABLE.
const ABORTABLE_VERSION: i16 = 4;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    mut request: Request,
) -> Response {
    let by_id = TOPIC_ID_VERSION <= context.version;
    let mut rows = CommitRows::default();
    for topic in std::mem::take(&mut request.topics) {
        let asked = topic.partitions.into_iter().map(|it| AskedOffset {
            partition: it.partition_index,
            offset: it.committed_offset,
            leader_epoch: it.committed_leader_epoch,
            metadata: it.committed_metadata,
        });
        rows.add((broker, context), (topic.name, topic.topic_id), by_id, asked);
    }
    if let Err(code) = authorize(context, &request) {
        let topics = rows.refused(code).into_iter().map(row).collect();
        return Response { topics, ..Default::default() };
    }
    let offsets = rows.take_offsets();
    let outcome = match offsets.is_empty() {
        true => Ok(CommitReply::Each(Vec::new())),
        false if request.group_id.is_empty() => Err(ErrorCode::InvalidGroupId),
        false => commit(broker, context.version, request, offsets).await,
    };
    let topics = rows.answered(outcome).into_iter().map(row).collect();
    Response { topics, ..Default::default() }
}

fn authorize(context: &RequestContext, request: &Request) -> Result<(), ErrorCode> {
    if !context.allows_transactional_id(AclOperation::Write, &request.transactional_id) {
        return Err(ErrorCode::TransactionalIdAuthorizationFailed);
    }
    match context.allows_group(AclOperation::Read, &request.group_id) {
        true => Ok(()),
        false => Err(ErrorCode::GroupAuthorizationFailed),
    }
}

fn row(topic: AnsweredTopic) -> TxnOffsetCommitResponseTopic {
    let AnsweredTopic { name, id, codes } = topic;
    let partitions = codes.into_iter().map(|(partition_index, code)| {
        TxnOffsetCommitResponsePartition { partition_index, error_code: code.code() }
    });
    TxnOffsetCommitResponseTopic { name, topic_id: id, partitions: partitions.collect() }
}

async fn commit(
    broker: &Arc<Broker>,
    version: i16,
    request: Request,
    offsets: Vec<OffsetToCommit>,
) -> Result<CommitReply, ErrorCode> {
    let manners = Manners {
        version: match V2_VERSION <= version {
            true => TransactionVersion::V2,
            false => TransactionVersion::V1,
        },
        abortable_known: ABORTABLE_VERSION <= version,
    };
    let (producer, epoch) = (ProducerId(request.producer_id), request.producer_epoch);
    let group = request.group_id;
    if group.is_empty() {
        return Err(ErrorCode::InvalidGroupId);
    }
    // A transaction that ends between the question and the write must not be joined by it.
    let _held = broker.transactions.hold(producer).await;
    let writer = Writer { id: &request.transactional_id, producer, epoch };
    let partitions = partition_of_group(broker, &group).await?;
    match admission::admit(broker, writer, manners, partitions).await {
        Ok(outside) if outside.is_empty() => (),
        Ok(_) => return Err(admission::outside(manners)),
        Err(ErrorCode::ProducerFenced) => return Err(ErrorCode::InvalidProducerEpoch),
        Err(code) => return Err(code),
    }
    let command = Command::Commit(CommitOffsets {
        group: group.clone(),
        generation: request.generation_id_or_member_epoch,
        member: request.member_id,
        instance: request.group_instance_id,
        retention_ms: None,
        group_not_found_known: TOPIC_ID_VERSION <= version,
        member_epochs_known: true,
        transaction: Some((producer, epoch)),
        offsets,
    });
    let pick = |reply| if let Reply::Commit(it) = reply { Some(it) } else { None };
    match broker.groups.ask(broker, &group, command, pick).await? {
        // Of a consumer group; older producers know generations only.
        CommitReply::Refused(ErrorCode::StaleMemberEpoch) if version < TOPIC_ID_VERSION => {
            Err(ErrorCode::IllegalGeneration)
        }
        reply => Ok(reply),
    }
}
