//! InitProducerId (key 22): an id for an idempotent producer (KIP-98, KIP-360).
//!
//! Transactional ids are refused at once and for good: transactions are not built yet, and a
//! retriable code would leave `initTransactions` hanging until its timeout.

use std::sync::Arc;

use protocol::ErrorCode;
use protocol::messages::init_producer_id::{Request, Response};

use crate::broker::Broker;
use crate::context::RequestContext;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    _context: &RequestContext,
    request: Request,
) -> Response {
    match request.transactional_id.as_deref() {
        Some("") => refused(ErrorCode::InvalidRequest),
        Some(_) => refused(ErrorCode::TransactionalIdAuthorizationFailed),
        // Kafka also gives a fresh id, at epoch 0, to an idempotent producer that names its old one.
        None => match broker.producer_ids.next(&broker.controller).await {
            Ok(id) => Response { producer_id: id.0, producer_epoch: 0, ..Default::default() },
            Err(error) => {
                tracing::warn!(%error, "no producer id to give; the client asks again");
                refused(ErrorCode::CoordinatorLoadInProgress)
            }
        },
    }
}

fn refused(code: ErrorCode) -> Response {
    Response { error_code: code.code(), producer_id: -1, producer_epoch: -1, ..Default::default() }
}
