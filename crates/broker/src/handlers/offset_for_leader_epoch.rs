//! OffsetForLeaderEpoch (key 23): where an epoch ended, so that a reader can tell whether what it
//! read still exists (KIP-101, KIP-320).

use std::sync::Arc;

use cluster::AclOperation;
use protocol::ErrorCode;
use protocol::messages::offset_for_leader_epoch::request::OffsetForLeaderPartition;
use protocol::messages::offset_for_leader_epoch::response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use protocol::messages::offset_for_leader_epoch::{Request, Response};
use vocabulary::{LeaderEpoch, Partition};

use crate::broker::Broker;
use crate::context::RequestContext;

/// The answer when no epoch at or below the asked one has data.
const UNDEFINED: (i32, i64) = (-1, -1);

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: Request,
) -> Response {
    // Brokers may ask for every topic, clients for those that they may describe (KIP-320).
    let is_broker = context.sees_cluster(AclOperation::ClusterAction);
    let topics = request.topics.into_iter().map(|topic| {
        let id = match is_broker || context.allows_topic(AclOperation::Describe, &topic.topic) {
            false => Err(ErrorCode::TopicAuthorizationFailed),
            true => {
                let found = broker.view.topic(&topic.topic);
                found.map(|it| it.id).ok_or(ErrorCode::UnknownTopicOrPartition)
            }
        };
        let partitions = topic.partitions.iter().map(|asked| {
            let found = match id {
                Ok(topic) => find(broker, Partition { topic, index: asked.partition }, asked),
                Err(code) => Err(code),
            };
            row(asked.partition, found)
        });
        let partitions = partitions.collect();
        OffsetForLeaderTopicResult { topic: topic.topic, partitions }
    });
    Response { topics: topics.collect(), ..Default::default() }
}

fn find(
    broker: &Broker,
    partition: Partition,
    asked: &OffsetForLeaderPartition,
) -> Result<(i32, i64), ErrorCode> {
    let log = broker.led_log(partition)?;
    broker.check_leader_epoch(&log, asked.current_leader_epoch)?;
    if asked.leader_epoch < 0 {
        return Ok(UNDEFINED);
    }
    let end = log.end_of_epoch(LeaderEpoch(asked.leader_epoch));
    Ok(end.map_or(UNDEFINED, |(epoch, end)| (epoch.0, end.0)))
}

fn row(partition: i32, found: Result<(i32, i64), ErrorCode>) -> EpochEndOffset {
    let (code, (leader_epoch, end_offset)) = match found {
        Ok(end) => (ErrorCode::None, end),
        Err(code) => (code, UNDEFINED),
    };
    EpochEndOffset { error_code: code.code(), partition, leader_epoch, end_offset }
}
