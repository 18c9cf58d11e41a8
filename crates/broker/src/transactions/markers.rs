//! The end of a transaction, on its way to every partition of it.
//!
//! Owns: which partitions have their marker already, trying again. Does not own: whether a transaction ends
//! (`coordinator`), whether a marker fits (`partition_log`).
//!
//! Only partitions led here can be told so far: one led elsewhere, or by nobody, is looked at again until it is led
//! here or gone. With several brokers their leaders will be asked by WriteTxnMarkers.

use std::sync::Arc;
use std::time::Duration;

use cluster::Topic;
use coordinator::TransactionEnd;
use coordinator::transactions::MarkersOrder;
use futures::StreamExt;
use partition_log::{AppendError, PartitionLog};
use protocol::ErrorCode;
use protocol::records::EndTxnMarker;
use vocabulary::{LeaderEpoch, Partition};

use crate::broker::Broker;
use crate::groups::OFFSETS_TOPIC;
use crate::journal::marker_rule;

/// Markers of one transaction that are being written at once.
const MARKERS_IN_FLIGHT_MAX: usize = 256;

/// Between two attempts at partitions that did not take their marker.
const RETRY_FIRST: Duration = Duration::from_millis(20);
const RETRY_MAX: Duration = Duration::from_secs(2);

/// Returns when every partition of the transaction has its marker, or is gone.
pub(super) async fn carry_out(broker: &Arc<Broker>, order: &MarkersOrder, epoch: LeaderEpoch) {
    let marker = EndTxnMarker { result: order.result, coordinator_epoch: epoch.0 };
    let MarkersOrder { producer, epoch, version, .. } = *order;
    let end = TransactionEnd { producer, epoch, marker, version };
    let indexes = order.partitions.iter();
    let mut left: Vec<(String, i32)> = indexes
        .flat_map(|(topic, indexes)| indexes.iter().map(|index| (topic.clone(), *index)))
        .collect();
    let mut pause = RETRY_FIRST;
    loop {
        let tried = futures::stream::iter(left)
            .map(|(topic, index)| async move {
                let code = match write_by_name(broker, &topic, index, end).await {
                    code if is_refusal(code) => {
                        refused(broker, &order.id, (&topic, index), end, code).await
                    }
                    code => code,
                };
                (topic, index, code)
            })
            .buffer_unordered(MARKERS_IN_FLIGHT_MAX);
        let tried: Vec<(String, i32, ErrorCode)> = tried.collect().await;
        left = tried.into_iter().filter_map(|it| still_to_do(&order.id, it)).collect();
        if left.is_empty() {
            return;
        }
        broker.environment.clock.sleep(pause).await;
        pause = (2 * pause).min(RETRY_MAX);
    }
}

/// A partition that is to be tried again.
fn still_to_do(id: &str, (topic, index, code): (String, i32, ErrorCode)) -> Option<(String, i32)> {
    match code {
        ErrorCode::None => None,
        // The topic was deleted, and the records with it.
        ErrorCode::UnknownTopicOrPartition => None,
        _ => {
            tracing::debug!(id, topic, index, ?code, "marker not written, trying again");
            Some((topic, index))
        }
    }
}

/// The log will not take it, however often it is asked.
fn is_refusal(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::InvalidProducerEpoch | ErrorCode::TransactionCoordinatorFenced)
}

/// Whoever wrote the later epoch there has mostly ended the transaction, too: then nothing is left to do. As long as it
/// is open, it must not count as ended.
async fn refused(
    broker: &Arc<Broker>,
    id: &str,
    (topic, index): (&str, i32),
    end: TransactionEnd,
    code: ErrorCode,
) -> ErrorCode {
    let Some(found) = broker.view.topic(topic) else { return ErrorCode::UnknownTopicOrPartition };
    let log = match broker.led_log(Partition { topic: found.id, index }) {
        Ok(log) => log,
        Err(code) => return code,
    };
    match log.open_transaction(end.producer).await {
        Ok(Some(open)) if open.epoch <= end.epoch => {
            let advice = "kafka-transactions abort ends it by hand";
            tracing::error!(
                id,
                topic,
                index,
                ?code,
                open_from = open.first_offset.0,
                advice,
                "a later epoch stands there and the transaction is open all the same"
            );
            code
        }
        Ok(_) => {
            tracing::warn!(id, topic, index, ?code, "a later epoch has ended the transaction");
            ErrorCode::None
        }
        Err(_) => code,
    }
}

async fn write_by_name(
    broker: &Arc<Broker>,
    topic: &str,
    index: i32,
    end: TransactionEnd,
) -> ErrorCode {
    match broker.view.topic(topic) {
        Some(topic) => write(broker, &topic, index, end).await,
        None => ErrorCode::UnknownTopicOrPartition,
    }
}

/// Writes one marker to a partition led here and waits until it is durable. Offsets of groups take effect by it.
pub(crate) async fn write(
    broker: &Arc<Broker>,
    topic: &Topic,
    index: i32,
    end: TransactionEnd,
) -> ErrorCode {
    let partition = Partition { topic: topic.id, index };
    let log = match broker.led_log(partition) {
        Ok(log) => log,
        Err(code) => return code,
    };
    let written = if topic.name == OFFSETS_TOPIC {
        let _held = broker.transactions.hold(end.producer).await;
        // The groups' coordinator believes what it is told, and would begin anew if its log refused.
        let rule = marker_rule(end.version);
        match log.check_marker(end.producer, end.epoch, end.marker, rule).await {
            Ok(()) => broker.groups.end_transaction(broker, topic, partition, end).await,
            Err(error) => Err(refusal(&error)),
        }
    } else {
        append(&log, end).await.map_err(|error| refusal(&error))
    };
    written.err().unwrap_or(ErrorCode::None)
}

async fn append(log: &PartitionLog, end: TransactionEnd) -> Result<(), AppendError> {
    let rule = marker_rule(end.version);
    log.append_marker(end.producer, end.epoch, end.marker, rule).await?.durable.await
}

/// As WriteTxnMarkers tells it.
fn refusal(error: &AppendError) -> ErrorCode {
    match error {
        AppendError::StaleProducerEpoch { .. } => ErrorCode::InvalidProducerEpoch,
        AppendError::StaleCoordinatorEpoch { .. } => ErrorCode::TransactionCoordinatorFenced,
        AppendError::InvalidTxnState { .. } => ErrorCode::InvalidTxnState,
        AppendError::Removed => ErrorCode::UnknownTopicOrPartition,
        AppendError::WrongLeaderEpoch { .. } | AppendError::Stopping => {
            ErrorCode::NotLeaderOrFollower
        }
        AppendError::OutOfOrderSequence { .. }
        | AppendError::Unavailable
        | AppendError::Unknown => ErrorCode::KafkaStorageError,
    }
}
