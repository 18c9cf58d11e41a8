//! ListOffsets (key 2): offsets by time and by the special timestamps.
//!
//! A lookup that storage has to be asked for waits for no other one, and all together not for long.
//!
//! Without tiering, "earliest local" is the earliest offset (KIP-405), and "latest tiered"
//! (KIP-1005) and "earliest pending upload" answer "none".

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use cluster::AclOperation;
use futures::future::BoxFuture;
use partition_log::{PartitionLog, ReadError, ReadLimit, TimestampedOffset};
use protocol::ErrorCode;
use protocol::messages::list_offsets::request::{ListOffsetsPartition, ListOffsetsTopic};
use protocol::messages::list_offsets::response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use protocol::messages::list_offsets::{Request, Response};
use vocabulary::{Partition, Timestamp};

use crate::admin_rows;
use crate::broker::Broker;
use crate::context::RequestContext;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

/// Partitions of one request that are looked up at once, as many as a fetch reads.
const LOOKUPS_AT_ONCE: usize = 16;

/// How long the lookups of a request are waited for, if it allows as much. Clients give up a request after 30 seconds;
/// those that are told of some partitions ask again for the others.
const LOOKUPS_WAIT_MAX: Duration = Duration::from_secs(10);

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
    let deadline = broker.environment.clock.now().plus(wait(request.timeout_ms));
    let asked = resolve(broker, context, request.topics);
    let counts: Vec<usize> = asked.iter().map(|(_, rows)| rows.len()).collect();
    let (names, rows): (Vec<_>, Vec<_>) = asked.into_iter().unzip();
    let answer = |(asked, log): Resolved| -> BoxFuture<'_, ListOffsetsPartitionResponse> {
        Box::pin(async move {
            let found = match log {
                Ok(log) => tokio::select! {
                    biased;
                    found = look_up(broker, context, &log, &asked, limit) => found,
                    // Whoever is told so asks again, for these partitions only.
                    () = broker.environment.clock.sleep_until(deadline) => Err(ErrorCode::LeaderNotAvailable),
                },
                Err(code) => Err(code),
            };
            row(&asked, found)
        })
    };
    let answers =
        admin_rows::run(rows.into_iter().flatten().collect(), LOOKUPS_AT_ONCE, answer).await;
    let mut answers = answers.into_iter();
    let topics = names.into_iter().zip(counts).map(|(name, count)| ListOffsetsTopicResponse {
        name,
        partitions: answers.by_ref().take(count).collect(),
    });
    Response { topics: topics.collect(), ..Default::default() }
}

/// Requests before version 10, and those that do not care, have no time-out.
fn wait(timeout_ms: i32) -> Duration {
    match u64::try_from(timeout_ms) {
        Ok(asked @ 1..) => Duration::from_millis(asked).min(LOOKUPS_WAIT_MAX),
        Ok(0) | Err(_) => LOOKUPS_WAIT_MAX,
    }
}

/// A partition as it is asked for, with its log if it is here.
type Resolved = (ListOffsetsPartition, Result<Arc<PartitionLog>, ErrorCode>);

/// What is to be looked up, by topic. Of a partition that comes more than once there is one row.
fn resolve(
    broker: &Broker,
    context: &RequestContext,
    topics: Vec<ListOffsetsTopic>,
) -> Vec<(String, Vec<Resolved>)> {
    let repeated = repeated(&topics);
    let mut told = BTreeSet::new();
    let mut resolved = Vec::with_capacity(topics.len());
    for topic in topics {
        let found = match context.allows_topic(AclOperation::Describe, &topic.name) {
            false => Err(ErrorCode::TopicAuthorizationFailed),
            true => broker.view.topic(&topic.name).ok_or(ErrorCode::UnknownTopicOrPartition),
        };
        let mut rows = Vec::with_capacity(topic.partitions.len());
        for asked in topic.partitions {
            let index = asked.partition_index;
            let key = (topic.name.clone(), index);
            if repeated.contains(&key) {
                if told.insert(key) {
                    rows.push((asked, Err(ErrorCode::InvalidRequest)));
                }
                continue;
            }
            let log = match &found {
                Ok(found) => broker.led_log(Partition { topic: found.id, index }),
                Err(code) => Err(*code),
            };
            rows.push((asked, log));
        }
        resolved.push((topic.name, rows));
    }
    resolved
}

async fn look_up(
    broker: &Broker,
    context: &RequestContext,
    log: &PartitionLog,
    asked: &ListOffsetsPartition,
    limit: ReadLimit,
) -> Result<(i64, i64, i32), ErrorCode> {
    broker.check_leader_epoch(log, asked.current_leader_epoch)?;
    find(log, asked.timestamp, context.version, limit).await
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
    fn lookups_are_waited_for_as_long_as_asked_within_a_limit() {
        assert_eq!(wait(500), Duration::from_millis(500));
        for asked in [0, -1, 10_000, 10_001, i32::MAX] {
            assert_eq!(wait(asked), LOOKUPS_WAIT_MAX, "{asked}");
        }
    }

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
