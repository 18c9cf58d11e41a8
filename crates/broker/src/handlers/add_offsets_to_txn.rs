//! AddOffsetsToTxn (key 25): makes the offsets of a group part of a transaction (KIP-98), which is their partition of
//! `__consumer_offsets`.

use std::sync::Arc;

use cluster::AclOperation;
use coordinator::transactions::{
    AddPartitions, TransactionCommand, TransactionReply, TransactionVersion,
};
use protocol::ErrorCode;
use protocol::messages::add_offsets_to_txn::{Request, Response};
use vocabulary::ProducerId;

use crate::broker::Broker;
use crate::context::RequestContext;
use crate::transactions::partition_of_group;

/// The first version whose clients know PRODUCER_FENCED.
const FENCED_VERSION: i16 = 2;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: Request,
) -> Response {
    let code = match add(broker, context, request).await {
        ErrorCode::ProducerFenced if context.version < FENCED_VERSION => {
            ErrorCode::InvalidProducerEpoch
        }
        other => other,
    };
    Response { error_code: code.code(), ..Default::default() }
}

async fn add(broker: &Arc<Broker>, context: &RequestContext, request: Request) -> ErrorCode {
    let id = request.transactional_id;
    if !context.allows_transactional_id(AclOperation::Write, &id) {
        return ErrorCode::TransactionalIdAuthorizationFailed;
    }
    if !context.allows_group(AclOperation::Read, &request.group_id) {
        return ErrorCode::GroupAuthorizationFailed;
    }
    if id.is_empty() {
        return ErrorCode::InvalidRequest;
    }
    let partitions = match partition_of_group(broker, &request.group_id).await {
        Ok(partitions) => partitions,
        Err(code) => return code,
    };
    let command = TransactionCommand::Add(AddPartitions {
        id: id.clone(),
        producer: ProducerId(request.producer_id),
        epoch: request.producer_epoch,
        partitions,
        version: TransactionVersion::V1,
    });
    let pick = |reply| match reply {
        TransactionReply::Added(code) => Some(code),
        _ => None,
    };
    broker.transactions.ask(broker, &id, command, pick).await.unwrap_or_else(|code| code)
}
