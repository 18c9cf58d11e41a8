//! TxnOffsetCommit (key 28): offsets that count once their transaction is committed (KIP-98, KIP-447). By topic name,
//! from version 6 by id. From version 5 on the group becomes part of the transaction by it (KIP-890).

use std::collections::VecDeque;
use std::sync::Arc;

use cluster::Topic;
use coordinator::transactions::TransactionVersion;
use coordinator::{Command, CommitOffsets, CommitReply, OffsetToCommit, Reply};
use protocol::ErrorCode;
use protocol::messages::txn_offset_commit::request::TxnOffsetCommitRequestTopic;
use protocol::messages::txn_offset_commit::response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use protocol::messages::txn_offset_commit::{Request, Response};
use vocabulary::{Offset, ProducerId};

use crate::broker::Broker;
use crate::context::RequestContext;
use crate::handlers::offset_commit::{find, has_partition};
use crate::transactions::admission::{self, Manners, Writer};
use crate::transactions::partition_of_group;

/// The first version that names topics by id (KIP-848).
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
    let topics = std::mem::take(&mut request.topics);
    let known: Vec<Result<Arc<Topic>, ErrorCode>> =
        topics.iter().map(|it| find(broker, (&it.name, it.topic_id), by_id)).collect();
    let offsets = offsets(&topics, &known);
    let outcome = match offsets.is_empty() {
        true => Ok(CommitReply::Each(Vec::new())),
        false => commit(broker, context.version, request, offsets).await,
    };
    Response { topics: answer(topics, &known, outcome), ..Default::default() }
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
        group_not_found_known: false,
        member_epochs_known: true,
        transaction: Some((producer, epoch)),
        offsets,
    });
    let pick = |reply| if let Reply::Commit(it) = reply { Some(it) } else { None };
    match broker.groups.ask(broker, &group, command, pick).await? {
        // Of a consumer group; producers know generations only (KIP-848).
        CommitReply::Refused(ErrorCode::StaleMemberEpoch) => Err(ErrorCode::IllegalGeneration),
        reply => Ok(reply),
    }
}

/// The offsets of partitions that exist, in the order of the request.
fn offsets(
    topics: &[TxnOffsetCommitRequestTopic],
    known: &[Result<Arc<Topic>, ErrorCode>],
) -> Vec<OffsetToCommit> {
    let found =
        topics.iter().zip(known).filter_map(|(asked, known)| Some((asked, known.as_ref().ok()?)));
    let offsets = found.flat_map(|(asked, topic)| {
        let there = asked.partitions.iter().filter(|it| has_partition(topic, it.partition_index));
        there.map(|partition| OffsetToCommit {
            topic: topic.name.clone(),
            partition: partition.partition_index,
            offset: Offset(partition.committed_offset),
            leader_epoch: partition.committed_leader_epoch,
            metadata: partition.committed_metadata.clone(),
        })
    });
    offsets.collect()
}

fn answer(
    topics: Vec<TxnOffsetCommitRequestTopic>,
    known: &[Result<Arc<Topic>, ErrorCode>],
    outcome: Result<CommitReply, ErrorCode>,
) -> Vec<TxnOffsetCommitResponseTopic> {
    let (mut each, for_all) = match outcome {
        Ok(CommitReply::Each(codes)) => (VecDeque::from(codes), ErrorCode::UnknownServerError),
        Ok(CommitReply::Refused(code)) | Err(code) => (VecDeque::new(), code),
    };
    let mut rows = Vec::with_capacity(topics.len());
    for (asked, known) in topics.into_iter().zip(known) {
        let mut code = |index| match known {
            Err(code) => *code,
            Ok(topic) if !has_partition(topic, index) => ErrorCode::UnknownTopicOrPartition,
            Ok(_) => each.pop_front().unwrap_or(for_all),
        };
        let partitions = asked.partitions.iter().map(|it| TxnOffsetCommitResponsePartition {
            partition_index: it.partition_index,
            error_code: code(it.partition_index).code(),
        });
        let partitions = partitions.collect();
        rows.push(TxnOffsetCommitResponseTopic {
            name: asked.name,
            topic_id: asked.topic_id,
            partitions,
        });
    }
    rows
}
