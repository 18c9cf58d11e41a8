//! ListOffsets (key 2): offsets by time and by the special timestamps.
//!
//! Without tiering, "earliest local" is the earliest offset (KIP-405), and "latest tiered"
//! (KIP-1005) and "earliest pending upload" answer "none".

use std::collections::BTreeSet;
use std::sync::Arc;

use cluster::AclOperation;
use partition_log::{PartitionLog, ReadError, ReadLimit, TimestampedOffset};
use protocol::ErrorCode;
use protocol::messages::list_offsets::request::{ListOffsetsPartition, ListOffsetsTopic};
use protocol::messages::list_offsets::response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use protocol::messages::list_offsets::{Request, Response};
use vocabulary::{Partition, Timestamp};

use crate::broker::Broker;
use crate::context::RequestContext;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

/// An answer without an offset: nothing has that timestamp.
const NONE: (i64, i64, i32) = (-1, -1, -1);

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: Request,
) -> Response {
    let limit = match request.isolation_level {
        0 => ReadLimit::HighWatermark,
        _ => ReadLimit::LastStable,
    };
    let repeated = repeated(&request.topics);
    let mut told = BTreeSet::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let found = match context.allows_topic(AclOperation::Describe, &topic.name) {
            false => Err(ErrorCode::TopicAuthorizationFailed),
            true => broker.view.topic(&topic.name).ok_or(ErrorCode::UnknownTopicOrPartition),
        };
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in topic.partitions {
            let key = (topic.name.clone(), asked.partition_index);
            if repeated.contains(&key) {
                if told.insert(key) {
                    partitions.push(row(&asked, Err(ErrorCode::InvalidRequest)));
                }
                continue;
            }
            let log = match &found {
                Ok(found) => {
                    broker.led_log(Partition { topic: found.id, index: asked.partition_index })
                }
                Err(code) => Err(*code),
            };
            partitions.push(answer(broker, context, log, &asked, limit).await);
        }
        topics.push(ListOffsetsTopicResponse { name: topic.name, partitions });
    }
    Response { topics, ..Default::default() }
}

async fn answer(
    broker: &Broker,
    context: &RequestContext,
    log: Result<Arc<PartitionLog>, ErrorCode>,
    asked: &ListOffsetsPartition,
    limit: ReadLimit,
) -> ListOffsetsPartitionResponse {
    let found = match log {
        Ok(log) => match broker.check_leader_epoch(&log, asked.current_leader_epoch) {
            Ok(()) => find(&log, asked.timestamp, context.version, limit).await,
            Err(code) => Err(code),
        },
        Err(code) => Err(code),
    };
    row(asked, found)
}

/// Partitions that a request names more than once; each is refused, in one row.
fn repeated(topics: &[ListOffsetsTopic]) -> BTreeSet<(String, i32)> {
    let mut seen = BTreeSet::new();
    let named = topics
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|it| (&topic.name, it.partition_index)));
    let again = named.filter(|it| !seen.insert(*it));
    again.map(|(name, index)| (name.clone(), index)).collect()
}

fn row(
    asked: &ListOffsetsPartition,
    found: Result<(i64, i64, i32), ErrorCode>,
) -> ListOffsetsPartitionResponse {
    let (code, (offset, timestamp, leader_epoch)) = match found {
        Ok(place) => (ErrorCode::None, place),
        Err(code) => (code, NONE),
    };
    ListOffsetsPartitionResponse {
        partition_index: asked.partition_index,
        error_code: code.code(),
        timestamp,
        offset,
        leader_epoch,
    }
}

/// Offset, timestamp and leader epoch for one target.
async fn find(
    log: &PartitionLog,
    target: i64,
    version: i16,
    limit: ReadLimit,
) -> Result<(i64, i64, i32), ErrorCode> {
    let offsets = log.offsets();
    let first_version = match target {
        MAX_TIMESTAMP => 7,
        EARLIEST_LOCAL => 8,
        LATEST_TIERED => 9,
        EARLIEST_PENDING_UPLOAD => 11,
        _ => 1,
    };
    if version < first_version || target < EARLIEST_PENDING_UPLOAD {
        return Err(ErrorCode::UnsupportedVersion);
    }
    match target {
        LATEST => {
            let end = match limit {
                ReadLimit::HighWatermark => offsets.high_watermark,
                ReadLimit::LastStable => {
                    let known = log.load_producers().await;
                    known.map_err(|_| ErrorCode::LeaderNotAvailable)?;
                    log.offsets().last_stable
                }
            };
            Ok((end.0, -1, log.epoch_at(end).0))
        }
        EARLIEST | EARLIEST_LOCAL => {
            Ok((offsets.log_start.0, -1, log.epoch_at(offsets.log_start).0))
        }
        MAX_TIMESTAMP => place(log.offset_of_max_timestamp(limit).await),
        LATEST_TIERED | EARLIEST_PENDING_UPLOAD => Ok(NONE),
        _ => place(log.offset_for_timestamp(Timestamp(target), limit).await),
    }
}

fn place(
    found: Result<Option<TimestampedOffset>, ReadError>,
) -> Result<(i64, i64, i32), ErrorCode> {
    match found {
        Ok(Some(it)) => Ok((it.offset.0, it.timestamp.0, it.leader_epoch.0)),
        Ok(None) => Ok(NONE),
        // LEADER_NOT_AVAILABLE makes every client ask again; storage errors they do not expect here.
        Err(ReadError::Unavailable | ReadError::OffsetOutOfRange { .. }) => {
            Err(ErrorCode::LeaderNotAvailable)
        }
        Err(error @ ReadError::Corrupt { .. }) => {
            tracing::error!(%error, "offset lookup refused");
            Err(ErrorCode::KafkaStorageError)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_that_come_twice_are_found_across_topics() {
        let topic = |name: &str, indexes: &[i32]| ListOffsetsTopic {
            name: name.to_owned(),
            partitions: indexes
                .iter()
                .map(|index| ListOffsetsPartition { partition_index: *index, ..Default::default() })
                .collect(),
        };
        let found = repeated(&[topic("a", &[0, 1, 0]), topic("b", &[1]), topic("a", &[1, 2])]);
        let expected = [("a".to_owned(), 0), ("a".to_owned(), 1)];
        assert_eq!(found.into_iter().collect::<Vec<_>>(), expected);
    }
}
