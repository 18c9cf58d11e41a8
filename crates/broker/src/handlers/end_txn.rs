//! EndTxn (key 26): commits or aborts. Answered when the decision is durable; the markers follow (KIP-98). From
//! version 5 on it gives the epoch to go on with (KIP-890).

use std::sync::Arc;

use cluster::AclOperation;
use coordinator::transactions::{EndTransaction, TransactionCommand, TransactionVersion};
use protocol::ErrorCode;
use protocol::messages::end_txn::{Request, Response};
use protocol::records::TransactionResult;
use vocabulary::ProducerId;

use crate::broker::Broker;
use crate::context::RequestContext;

/// The first version of the new rules.
const V2_VERSION: i16 = 5;

/// The first version whose clients know PRODUCER_FENCED.
const FENCED_VERSION: i16 = 2;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: Request,
) -> Response {
    let id = request.transactional_id;
    if !context.allows_transactional_id(AclOperation::Write, &id) {
        return refused(ErrorCode::TransactionalIdAuthorizationFailed);
    }
    if id.is_empty() {
        return refused(ErrorCode::InvalidRequest);
    }
    let command = |fresh| {
        TransactionCommand::End(EndTransaction {
            id: id.clone(),
            producer: ProducerId(request.producer_id),
            epoch: request.producer_epoch,
            result: match request.committed {
                true => TransactionResult::Commit,
                false => TransactionResult::Abort,
            },
            version: match V2_VERSION <= context.version {
                true => TransactionVersion::V2,
                false => TransactionVersion::V1,
            },
            fresh,
        })
    };
    match broker.transactions.ask_for_producer(broker, &id, command).await {
        Ok((producer, epoch)) => {
            Response { producer_id: producer.0, producer_epoch: epoch, ..Default::default() }
        }
        Err(ErrorCode::ProducerFenced) if context.version < FENCED_VERSION => {
            refused(ErrorCode::InvalidProducerEpoch)
        }
        Err(code) => refused(code),
    }
}

fn refused(code: ErrorCode) -> Response {
    Response { error_code: code.code(), producer_id: -1, producer_epoch: -1, ..Default::default() }
}
