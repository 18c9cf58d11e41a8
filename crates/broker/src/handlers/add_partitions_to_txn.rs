//! AddPartitionsToTxn (key 24): makes partitions part of a transaction, or asks whether they are (KIP-98, KIP-890).
//! One transaction, from version 4 on many.

use std::collections::BTreeMap;
use std::sync::Arc;

use cluster::AclOperation;
use coordinator::transactions::{
    AddPartitions, TransactionCommand, TransactionPartitions, TransactionReply, TransactionVersion,
    VerifyPartitions,
};
use protocol::ErrorCode;
use protocol::messages::add_partitions_to_txn::request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use protocol::messages::add_partitions_to_txn::response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
};
use protocol::messages::add_partitions_to_txn::{Request, Response};
use vocabulary::ProducerId;

use crate::broker::Broker;
use crate::context::RequestContext;

/// The first version that carries many transactions.
const BATCH_VERSION: i16 = 4;

/// The first version whose clients know PRODUCER_FENCED.
const FENCED_VERSION: i16 = 2;

/// The first version whose askers know TRANSACTION_ABORTABLE.
const ABORTABLE_VERSION: i16 = 5;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: Request,
) -> Response {
    if BATCH_VERSION <= context.version {
        // Only brokers speak these versions.
        if !context.allows_cluster(AclOperation::ClusterAction) {
            let error_code = ErrorCode::ClusterAuthorizationFailed.code();
            return Response { error_code, ..Default::default() };
        }
        let mut results_by_transaction = Vec::with_capacity(request.transactions.len());
        for transaction in request.transactions {
            let transactional_id = transaction.transactional_id.clone();
            let topic_results = one(broker, context, transaction).await;
            let result = AddPartitionsToTxnResult { transactional_id, topic_results };
            results_by_transaction.push(result);
        }
        return Response { results_by_transaction, ..Default::default() };
    }
    let transaction = AddPartitionsToTxnTransaction {
        transactional_id: request.v3_and_below_transactional_id,
        producer_id: request.v3_and_below_producer_id,
        producer_epoch: request.v3_and_below_producer_epoch,
        verify_only: false,
        topics: request.v3_and_below_topics,
    };
    let id = &transaction.transactional_id;
    let results_by_topic_v3_and_below =
        match context.allows_transactional_id(AclOperation::Write, id) {
            true => one(broker, context, transaction).await,
            false => {
                let code = ErrorCode::TransactionalIdAuthorizationFailed;
                answer(&transaction.topics, &BTreeMap::new(), code)
            }
        };
    Response { results_by_topic_v3_and_below, ..Default::default() }
}

async fn one(
    broker: &Arc<Broker>,
    context: &RequestContext,
    transaction: AddPartitionsToTxnTransaction,
) -> Vec<AddPartitionsToTxnTopicResult> {
    let version = context.version;
    let AddPartitionsToTxnTransaction { transactional_id: id, verify_only, topics, .. } =
        &transaction;
    let mut codes = BTreeMap::new();
    let absent = topics.iter().flat_map(|it| it.partitions.iter().map(|index| (&it.name, *index)));
    let absent = absent.filter(|(topic, index)| !exists(broker, topic, *index));
    for (topic, index) in absent {
        codes.insert((topic.clone(), index), ErrorCode::UnknownTopicOrPartition);
    }
    // Brokers ask for what their clients were allowed.
    if version < BATCH_VERSION {
        // Nobody may write internal topics, whatever ACLs say.
        let allows = |name: &str| {
            !is_internal(broker, name) && context.allows_topic(AclOperation::Write, name)
        };
        for topic in topics.iter().filter(|it| !allows(&it.name)) {
            let denied = ErrorCode::TopicAuthorizationFailed;
            codes.extend(topic.partitions.iter().map(|it| ((topic.name.clone(), *it), denied)));
        }
    }
    // With one partition that is not there or not allowed, none is added.
    let rest = if !codes.is_empty() {
        ErrorCode::OperationNotAttempted
    } else if id.is_empty() {
        ErrorCode::InvalidRequest
    } else if *verify_only {
        match verify(broker, &transaction).await {
            Ok(outside) => {
                let code = match ABORTABLE_VERSION <= version {
                    true => ErrorCode::TransactionAbortable,
                    false => ErrorCode::InvalidTxnState,
                };
                for (topic, indexes) in outside {
                    codes.extend(indexes.into_iter().map(|index| ((topic.clone(), index), code)));
                }
                ErrorCode::None
            }
            Err(code) => code,
        }
    } else {
        add(broker, &transaction).await
    };
    let known = match rest {
        ErrorCode::ProducerFenced if version < FENCED_VERSION => ErrorCode::InvalidProducerEpoch,
        other => other,
    };
    answer(topics, &codes, known)
}

fn exists(broker: &Broker, topic: &str, index: i32) -> bool {
    broker.view.topic(topic).is_some_and(|it| it.partition(index).is_some())
}

fn is_internal(broker: &Broker, topic: &str) -> bool {
    broker.view.topic(topic).is_some_and(|it| it.is_internal)
}

fn partitions(topics: &[AddPartitionsToTxnTopic]) -> TransactionPartitions {
    let mut partitions = TransactionPartitions::new();
    for topic in topics.iter().filter(|it| !it.partitions.is_empty()) {
        partitions.entry(topic.name.clone()).or_default().extend(&topic.partitions);
    }
    partitions
}

async fn add(broker: &Arc<Broker>, transaction: &AddPartitionsToTxnTransaction) -> ErrorCode {
    let partitions = partitions(&transaction.topics);
    if partitions.is_empty() {
        return ErrorCode::None;
    }
    let command = TransactionCommand::Add(AddPartitions {
        id: transaction.transactional_id.clone(),
        producer: ProducerId(transaction.producer_id),
        epoch: transaction.producer_epoch,
        partitions,
        version: TransactionVersion::V1,
    });
    let pick = |reply| match reply {
        TransactionReply::Added(code) => Some(code),
        _ => None,
    };
    let id = &transaction.transactional_id;
    broker.transactions.ask(broker, id, command, pick).await.unwrap_or_else(|code| code)
}

async fn verify(
    broker: &Arc<Broker>,
    transaction: &AddPartitionsToTxnTransaction,
) -> Result<TransactionPartitions, ErrorCode> {
    let command = TransactionCommand::Verify(VerifyPartitions {
        id: transaction.transactional_id.clone(),
        producer: ProducerId(transaction.producer_id),
        epoch: transaction.producer_epoch,
        partitions: partitions(&transaction.topics),
    });
    let pick = |reply| match reply {
        TransactionReply::Verified(result) => Some(result),
        _ => None,
    };
    broker.transactions.ask(broker, &transaction.transactional_id, command, pick).await?
}

fn answer(
    topics: &[AddPartitionsToTxnTopic],
    codes: &BTreeMap<(String, i32), ErrorCode>,
    rest: ErrorCode,
) -> Vec<AddPartitionsToTxnTopicResult> {
    let row = |topic: &AddPartitionsToTxnTopic, index: i32| {
        let code = codes.get(&(topic.name.clone(), index)).copied().unwrap_or(rest);
        AddPartitionsToTxnPartitionResult {
            partition_index: index,
            partition_error_code: code.code(),
        }
    };
    let topics = topics.iter().map(|topic| AddPartitionsToTxnTopicResult {
        name: topic.name.clone(),
        results_by_partition: topic.partitions.iter().map(|it| row(topic, *it)).collect(),
    });
    topics.collect()
}
