//! DescribeQuorum (key 55): the metadata as a quorum of one, the broker that writes it (KIP-595, KIP-836, KIP-853;
//! ADR metadata-as-a-quorum).

use std::sync::Arc;

use cluster::{AclOperation, LogPosition};
use protocol::ErrorCode;
use protocol::messages::describe_quorum::response::{
    Listener, Node, PartitionData, ReplicaState, TopicData,
};
use protocol::messages::describe_quorum::{Request, Response};
use vocabulary::{BrokerId, Timestamp};

use crate::broker::Broker;
use crate::context::RequestContext;
use crate::listener::BoundListener;
use crate::refusal::{self, Refusal};

/// How Kafka calls the log of the metadata. There is no such topic here, and clients cannot read it in Kafka either.
const METADATA_TOPIC: &str = "__cluster_metadata";
const METADATA_PARTITION: i32 = 0;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: Request,
) -> Response {
    if !context.allows_cluster(AclOperation::Describe) {
        let denial = refusal::unauthorized(ErrorCode::ClusterAuthorizationFailed);
        let (error_code, error_message) = refusal::told(Err(denial));
        return Response { error_code, error_message, ..Default::default() };
    }
    if !asks_for_metadata(&request) {
        let words = "This server does not host this topic-partition.";
        return refused(request, &Refusal::new(ErrorCode::UnknownTopicOrPartition, words));
    }
    let Some(position) = broker.controller.log_position() else {
        let words = "Another process writes the metadata now.";
        return refused(request, &Refusal::new(ErrorCode::NotLeaderOrFollower, words));
    };
    let row = quorum_of_one(broker.id, position, broker.environment.clock.wall());
    Response {
        topics: vec![TopicData { topic_name: METADATA_TOPIC.to_owned(), partitions: vec![row] }],
        nodes: vec![node(broker.id, &context.listener)],
        ..Default::default()
    }
}

/// As Kafka: that partition, once, and nothing else beside it.
fn asks_for_metadata(request: &Request) -> bool {
    let [topic] = &request.topics[..] else { return false };
    let [partition] = &topic.partitions[..] else { return false };
    topic.topic_name == METADATA_TOPIC && partition.partition_index == METADATA_PARTITION
}

/// What is durable is what the one voter has; nobody lags behind it.
fn quorum_of_one(id: BrokerId, position: LogPosition, now: Timestamp) -> PartitionData {
    let end = i64::try_from(position.end).unwrap_or(i64::MAX);
    let voter = ReplicaState {
        replica_id: id.0,
        log_end_offset: end,
        last_fetch_timestamp: now.0,
        last_caught_up_timestamp: now.0,
        ..Default::default()
    };
    PartitionData {
        partition_index: METADATA_PARTITION,
        leader_id: id.0,
        leader_epoch: i32::try_from(position.epoch).unwrap_or(i32::MAX),
        high_watermark: end,
        current_voters: vec![voter],
        ..Default::default()
    }
}

/// Controllers have no listener of their own: the client is told the one that it came by.
fn node(id: BrokerId, listener: &BoundListener) -> Node {
    let listener = Listener {
        name: listener.name.clone(),
        host: listener.advertised_host.clone(),
        port: listener.advertised_port,
    };
    Node { node_id: id.0, listeners: vec![listener] }
}

/// The refusal in the row of each partition that was asked for.
fn refused(request: Request, refusal: &Refusal) -> Response {
    let topics = request.topics.into_iter().map(|topic| {
        let row = |partition_index| PartitionData {
            partition_index,
            error_code: refusal.code.code(),
            error_message: Some(refusal.message.clone()),
            ..Default::default()
        };
        let partitions = topic.partitions.iter().map(|it| row(it.partition_index)).collect();
        TopicData { topic_name: topic.topic_name, partitions }
    });
    Response { topics: topics.collect(), ..Default::default() }
}

#[cfg(test)]
mod tests {
    use protocol::messages::describe_quorum::request;

    use super::*;

    fn asking(topics: &[(&str, &[i32])]) -> Request {
        let topic = |(name, indexes): &(&str, &[i32])| {
            let partition = |partition_index: &i32| request::PartitionData {
                partition_index: *partition_index,
            };
            request::TopicData {
                topic_name: (*name).to_owned(),
                partitions: indexes.iter().map(partition).collect(),
            }
        };
        Request { topics: topics.iter().map(topic).collect() }
    }

    #[test]
    fn only_the_one_partition_is_answered() {
        assert!(asks_for_metadata(&asking(&[("__cluster_metadata", &[0])])));
        for other in [
            asking(&[]),
            asking(&[("__cluster_metadata", &[])]),
            asking(&[("__cluster_metadata", &[1])]),
            asking(&[("__cluster_metadata", &[0, 0])]),
            asking(&[("__cluster_metadata", &[0]), ("t", &[0])]),
            asking(&[("t", &[0])]),
        ] {
            assert!(!asks_for_metadata(&other), "{other:?}");
        }
    }

    #[test]
    fn numbers_that_do_not_fit_stay_at_the_largest() {
        let position = LogPosition { epoch: u64::MAX, end: u64::MAX };
        let row = quorum_of_one(BrokerId(3), position, Timestamp(7));
        assert_eq!((row.leader_epoch, row.high_watermark), (i32::MAX, i64::MAX));
        assert_eq!((row.leader_id, row.current_voters[0].replica_id), (3, 3));
    }
}
