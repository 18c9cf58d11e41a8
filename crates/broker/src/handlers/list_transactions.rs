//! ListTransactions (key 66): the transactional ids coordinated here (KIP-664, KIP-994, KIP-1152).

use std::sync::Arc;

use cluster::{AclOperation, AclResource};
use coordinator::Pattern;
use coordinator::transactions::{
    TransactionCommand, TransactionFilter, TransactionReply, TransactionState,
};
use protocol::ErrorCode;
use protocol::messages::list_transactions::response::TransactionState as Row;
use protocol::messages::list_transactions::{Request, Response};
use vocabulary::ProducerId;

use crate::broker::Broker;
use crate::context::RequestContext;

/// Kafka's states that are never stored: known, and nothing is in them.
const NEVER_STORED: [&str; 2] = ["Dead", "PrepareEpochFence"];

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: Request,
) -> Response {
    let asked = request.transactional_id_pattern.filter(|it| !it.is_empty());
    let pattern = match asked.map(|it| Pattern::new(&it)).transpose() {
        Ok(pattern) => pattern,
        Err(_) => return refused(ErrorCode::InvalidRegularExpression),
    };
    let named = |name: &String| TransactionState::ALL.into_iter().find(|it| it.name() == name);
    let states: Vec<TransactionState> = request.state_filters.iter().filter_map(named).collect();
    let unknown = request.state_filters.iter();
    let unknown = unknown.filter(|it| named(it).is_none() && !NEVER_STORED.contains(&it.as_str()));
    let unknown_state_filters: Vec<String> = unknown.cloned().collect();
    let command = TransactionCommand::List(TransactionFilter {
        only_unknown_states: states.is_empty() && !request.state_filters.is_empty(),
        states,
        producers: request.producer_id_filters.into_iter().map(ProducerId).collect(),
        longer_than_ms: request.duration_filter,
    });
    let replies = match broker.transactions.ask_all(broker, &command).await {
        Ok(replies) => replies,
        Err(code) => return refused(code),
    };
    let found = replies.into_iter().flat_map(|reply| match reply {
        TransactionReply::Listed(rows) => rows,
        _ => Vec::new(),
    });
    let found = found.filter(|it| pattern.as_ref().is_none_or(|pattern| pattern.matches(&it.id)));
    let found = found
        .filter(|it| context.sees(AclOperation::Describe, AclResource::TransactionalId, &it.id));
    let rows = found.map(|it| Row {
        transactional_id: it.id,
        producer_id: it.producer.0,
        transaction_state: it.state.name().to_owned(),
    });
    Response { unknown_state_filters, transaction_states: rows.collect(), ..Default::default() }
}

fn refused(code: ErrorCode) -> Response {
    Response { error_code: code.code(), ..Default::default() }
}
