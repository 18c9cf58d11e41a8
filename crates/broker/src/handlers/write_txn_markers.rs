//! WriteTxnMarkers (key 27): ends transactions in partitions led here. From an operator who aborts what hangs
//! (`kafka-transactions abort`), and from transaction coordinators on other brokers.

use std::sync::Arc;

use cluster::AclOperation;
use coordinator::TransactionEnd;
use coordinator::transactions::TransactionVersion;
use protocol::ErrorCode;
use protocol::messages::write_txn_markers::request::{WritableTxnMarker, WritableTxnMarkerTopic};
use protocol::messages::write_txn_markers::response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use protocol::messages::write_txn_markers::{Request, Response};
use protocol::records::{EndTxnMarker, TransactionResult};
use vocabulary::ProducerId;

use crate::broker::Broker;
use crate::context::RequestContext;
use crate::transactions::markers;

/// Kafka's number of the new rules (`transaction.version`).
const V2: i8 = 2;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: Request,
) -> Response {
    let is_allowed = context.sees_cluster(AclOperation::Alter)
        || context.allows_cluster(AclOperation::ClusterAction);
    let mut rows = Vec::with_capacity(request.markers.len());
    for marker in request.markers {
        if !is_allowed {
            let topics = marker.topics.into_iter().map(refused).collect();
            rows.push(WritableTxnMarkerResult { producer_id: marker.producer_id, topics });
            continue;
        }
        let end = end(&marker);
        let mut topics = Vec::with_capacity(marker.topics.len());
        for topic in marker.topics {
            topics.push(write(broker, topic, end).await);
        }
        rows.push(WritableTxnMarkerResult { producer_id: marker.producer_id, topics });
    }
    Response { markers: rows }
}

fn refused(asked: WritableTxnMarkerTopic) -> WritableTxnMarkerTopicResult {
    let error_code = ErrorCode::ClusterAuthorizationFailed.code();
    let row = |partition_index| WritableTxnMarkerPartitionResult { partition_index, error_code };
    let partitions = asked.partition_indexes.into_iter().map(row).collect();
    WritableTxnMarkerTopicResult { name: asked.name, partitions }
}

fn end(marker: &WritableTxnMarker) -> TransactionEnd {
    TransactionEnd {
        producer: ProducerId(marker.producer_id),
        epoch: marker.producer_epoch,
        marker: EndTxnMarker {
            result: match marker.transaction_result {
                true => TransactionResult::Commit,
                false => TransactionResult::Abort,
            },
            coordinator_epoch: marker.coordinator_epoch,
        },
        version: match V2 <= marker.transaction_version {
            true => TransactionVersion::V2,
            false => TransactionVersion::V1,
        },
    }
}

async fn write(
    broker: &Arc<Broker>,
    asked: WritableTxnMarkerTopic,
    end: TransactionEnd,
) -> WritableTxnMarkerTopicResult {
    let topic = broker.view.topic(&asked.name);
    let written = asked.partition_indexes.into_iter().map(|partition_index| {
        let topic = topic.clone();
        async move {
            let code = match topic {
                Some(topic) => markers::write(broker, &topic, partition_index, end).await,
                None => ErrorCode::UnknownTopicOrPartition,
            };
            WritableTxnMarkerPartitionResult { partition_index, error_code: code.code() }
        }
    });
    let partitions = futures::future::join_all(written).await;
    WritableTxnMarkerTopicResult { name: asked.name, partitions }
}
