//! DeleteRecords (key 21): moves a partition's log start (KIP-107).

use std::sync::Arc;

use cluster::AclOperation;
use partition_log::DeleteRecordsError;
use protocol::ErrorCode;
use protocol::messages::delete_records::response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use protocol::messages::delete_records::{Request, Response};
use vocabulary::{Offset, Partition};

use crate::broker::Broker;
use crate::context::RequestContext;

/// A request's offset for "everything up to the high watermark".
const HIGH_WATERMARK: i64 = -1;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: Request,
) -> Response {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let is_allowed = context.allows_topic(AclOperation::Delete, &topic.name);
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in topic.partitions {
            let index = asked.partition_index;
            let moved = match is_allowed {
                true => move_log_start(broker, &topic.name, index, asked.offset).await,
                false => Err(ErrorCode::TopicAuthorizationFailed),
            };
            let (code, low_watermark) = match moved {
                Ok(log_start) => (ErrorCode::None, log_start.0),
                Err(code) => (code, -1),
            };
            partitions.push(DeleteRecordsPartitionResult {
                partition_index: index,
                low_watermark,
                error_code: code.code(),
            });
        }
        topics.push(DeleteRecordsTopicResult { name: topic.name, partitions });
    }
    Response { topics, ..Default::default() }
}

async fn move_log_start(
    broker: &Arc<Broker>,
    name: &str,
    index: i32,
    offset: i64,
) -> Result<Offset, ErrorCode> {
    let topic = broker.view.topic(name).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    if topic.partition(index).is_none() {
        return Err(ErrorCode::UnknownTopicOrPartition);
    }
    // Before anybody asks who leads it, as in Kafka.
    if topic.is_internal {
        return Err(ErrorCode::InvalidTopicException);
    }
    let log = broker.led_log(Partition { topic: topic.id, index })?;
    if !log.settings().cleanup.delete && log.settings().cleanup.compact {
        return Err(ErrorCode::PolicyViolation);
    }
    let offset = match offset {
        HIGH_WATERMARK => log.offsets().high_watermark,
        offset if offset < 0 => return Err(ErrorCode::OffsetOutOfRange),
        offset => Offset(offset),
    };
    log.delete_before(offset).await.map_err(|error| match error {
        DeleteRecordsError::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        DeleteRecordsError::Removed => ErrorCode::UnknownTopicOrPartition,
        DeleteRecordsError::Unavailable => ErrorCode::KafkaStorageError,
    })
}
