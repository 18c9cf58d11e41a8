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

use crate::admin_rows;
use crate::broker::Broker;
use crate::context::RequestContext;

/// A request's offset for "everything up to the high watermark".
const HIGH_WATERMARK: i64 = -1;

/// Partitions of one request whose log starts move at once. Each reads and writes the metadata.
const MOVES_AT_ONCE: usize = 64;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: Request,
) -> Response {
    let deadline = admin_rows::deadline(broker, request.timeout_ms);
    let asked = request.topics.iter().flat_map(|topic| {
        let is_allowed = context.allows_topic(AclOperation::Delete, &topic.name);
        topic.partitions.iter().map(move |it| (topic.name.as_str(), is_allowed, it))
    });
    let moved = admin_rows::run(asked.collect(), MOVES_AT_ONCE, |(name, is_allowed, asked)| {
        Box::pin(async move {
            let index = asked.partition_index;
            let moving = move_log_start(broker, name, index, asked.offset);
            let moved = match is_allowed {
                // The log start may still move: clients know that of this code.
                true => admin_rows::until(broker, deadline, moving)
                    .await
                    .unwrap_or(Err(ErrorCode::RequestTimedOut)),
                false => Err(ErrorCode::TopicAuthorizationFailed),
            };
            row(index, moved)
        })
    });
    let mut moved = moved.await.into_iter();
    let topics = request.topics.into_iter().map(|topic| DeleteRecordsTopicResult {
        partitions: moved.by_ref().take(topic.partitions.len()).collect(),
        name: topic.name,
    });
    Response { topics: topics.collect(), ..Default::default() }
}

fn row(index: i32, moved: Result<Offset, ErrorCode>) -> DeleteRecordsPartitionResult {
    let (code, low_watermark) = match moved {
        Ok(log_start) => (ErrorCode::None, log_start.0),
        Err(code) => (code, -1),
    };
    DeleteRecordsPartitionResult { partition_index: index, low_watermark, error_code: code.code() }
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
