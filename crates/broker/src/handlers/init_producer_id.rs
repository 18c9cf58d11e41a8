//! InitProducerId (key 22): an id for an idempotent or a transactional producer (KIP-98, KIP-360).

use std::sync::Arc;

use cluster::{AclOperation, AclResource};
use coordinator::transactions::{InitProducer, TransactionCommand};
use protocol::ErrorCode;
use protocol::messages::init_producer_id::{Request, Response};
use vocabulary::ProducerId;

use crate::broker::Broker;
use crate::context::RequestContext;

/// The first version whose clients know PRODUCER_FENCED.
const FENCED_VERSION: i16 = 4;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: Request,
) -> Response {
    if let Err(code) = authorize(context, request.transactional_id.as_deref()) {
        return refused(code);
    }
    // Also an idempotent producer names both of what it has, or nothing.
    let claimed = match (request.producer_id, request.producer_epoch) {
        (-1, -1) => None,
        (0.., 0..) => Some((ProducerId(request.producer_id), request.producer_epoch)),
        _ => return refused(ErrorCode::InvalidRequest),
    };
    let Some(id) = request.transactional_id.as_deref() else {
        return idempotent(broker).await;
    };
    if id.is_empty() {
        return refused(ErrorCode::InvalidRequest);
    }
    let command = |fresh| {
        let (id, timeout_ms) = (id.to_owned(), request.transaction_timeout_ms);
        TransactionCommand::Init(InitProducer { id, timeout_ms, claimed, fresh })
    };
    match broker.transactions.ask_for_producer(broker, id, command).await {
        Ok((producer, epoch)) => {
            Response { producer_id: producer.0, producer_epoch: epoch, ..Default::default() }
        }
        Err(ErrorCode::ProducerFenced) if context.version < FENCED_VERSION => {
            refused(ErrorCode::InvalidProducerEpoch)
        }
        Err(code) => refused(code),
    }
}

/// Who may write somewhere may do so idempotently (KIP-679).
fn authorize(context: &RequestContext, id: Option<&str>) -> Result<(), ErrorCode> {
    match id {
        Some(id) if context.allows_transactional_id(AclOperation::Write, id) => Ok(()),
        Some(_) => Err(ErrorCode::TransactionalIdAuthorizationFailed),
        None if context.sees_cluster(AclOperation::IdempotentWrite)
            || context.allows_any(AclOperation::Write, AclResource::Topic)
            || context.allows_cluster(AclOperation::IdempotentWrite) =>
        {
            Ok(())
        }
        None => Err(ErrorCode::ClusterAuthorizationFailed),
    }
}

/// Kafka also gives a fresh id, at epoch 0, to an idempotent producer that names its old one.
async fn idempotent(broker: &Arc<Broker>) -> Response {
    match broker.producer_ids.next(broker).await {
        Ok(id) => Response { producer_id: id.0, producer_epoch: 0, ..Default::default() },
        Err(error) => {
            tracing::warn!(%error, "no producer id to give; the client asks again");
            refused(ErrorCode::CoordinatorLoadInProgress)
        }
    }
}

fn refused(code: ErrorCode) -> Response {
    Response { error_code: code.code(), producer_id: -1, producer_epoch: -1, ..Default::default() }
}
