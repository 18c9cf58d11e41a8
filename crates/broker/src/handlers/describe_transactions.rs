//! DescribeTransactions (key 65): the state of transactional ids (KIP-664).

use std::sync::Arc;

use cluster::AclOperation;
use coordinator::transactions::{DescribedTransaction, TransactionCommand, TransactionReply};
use protocol::ErrorCode;
use protocol::messages::describe_transactions::response::{TopicData, TransactionState};
use protocol::messages::describe_transactions::{Request, Response};

use crate::broker::Broker;
use crate::context::RequestContext;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: Request,
) -> Response {
    let mut transaction_states = Vec::with_capacity(request.transactional_ids.len());
    for id in request.transactional_ids {
        let described = match context.allows_transactional_id(AclOperation::Describe, &id) {
            true => describe(broker, &id).await,
            false => Err(ErrorCode::TransactionalIdAuthorizationFailed),
        };
        let described = match described {
            Ok(described) => row(context, id, described),
            Err(code) => TransactionState {
                error_code: code.code(),
                transactional_id: id,
                ..Default::default()
            },
        };
        transaction_states.push(described);
    }
    Response { transaction_states, ..Default::default() }
}

async fn describe(broker: &Arc<Broker>, id: &str) -> Result<DescribedTransaction, ErrorCode> {
    if id.is_empty() {
        return Err(ErrorCode::InvalidRequest);
    }
    let command = TransactionCommand::Describe(id.to_owned());
    let pick = |reply| match reply {
        TransactionReply::Described(found) => Some(found),
        _ => None,
    };
    let found = broker.transactions.ask(broker, id, command, pick).await?;
    found.ok_or(ErrorCode::TransactionalIdNotFound)
}

fn row(context: &RequestContext, id: String, described: DescribedTransaction) -> TransactionState {
    let topics = described
        .partitions
        .into_iter()
        .filter(|(topic, _)| context.sees_topic(AclOperation::Describe, topic))
        .map(|(topic, indexes)| TopicData { topic, partitions: indexes.into_iter().collect() });
    TransactionState {
        error_code: ErrorCode::None.code(),
        transactional_id: id,
        transaction_state: described.state.name().to_owned(),
        transaction_timeout_ms: described.timeout_ms,
        transaction_start_time_ms: described.started_at,
        producer_id: described.producer.0,
        producer_epoch: described.epoch,
        topics: topics.collect(),
    }
}
