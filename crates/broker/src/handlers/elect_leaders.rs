//! ElectLeaders (key 43): a partition has one replica, its leader, so no election is ever needed (KIP-460).

use std::sync::Arc;

use cluster::{AclOperation, Topic};
use protocol::ErrorCode;
use protocol::messages::elect_leaders::request::TopicPartitions;
use protocol::messages::elect_leaders::response::{PartitionResult, ReplicaElectionResult};
use protocol::messages::elect_leaders::{Request, Response};

use crate::broker::Broker;
use crate::context::RequestContext;

/// Kafka's `ElectionType`: preferred and unclean.
const ELECTION_TYPES: [i8; 2] = [0, 1];

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: Request,
) -> Response {
    let refused = if !context.allows_cluster(AclOperation::Alter) {
        Some((ErrorCode::ClusterAuthorizationFailed, "Cluster authorization failed."))
    } else if !ELECTION_TYPES.contains(&request.election_type) {
        Some((ErrorCode::InvalidRequest, "Unknown election type."))
    } else {
        None
    };
    if let Some(told) = refused {
        let topics = request.topic_partitions.iter().flatten();
        let replica_election_results = topics.map(|asked| rows(asked, |_| told)).collect();
        return Response {
            error_code: told.0.code(),
            replica_election_results,
            ..Default::default()
        };
    }
    let results = match request.topic_partitions {
        // Asked for all, Kafka names every topic, and of its partitions those with something to tell.
        None => broker.view.topics().iter().map(|topic| all_well(&topic.name)).collect(),
        Some(topics) => {
            let result = |asked: TopicPartitions| {
                let topic = broker.view.topic(&asked.topic);
                outcome(&asked, topic.as_deref())
            };
            topics.into_iter().map(result).collect()
        }
    };
    Response { replica_election_results: results, ..Default::default() }
}

fn all_well(topic: &str) -> ReplicaElectionResult {
    ReplicaElectionResult { topic: topic.to_owned(), partition_result: Vec::new() }
}

fn outcome(asked: &TopicPartitions, topic: Option<&Topic>) -> ReplicaElectionResult {
    let partitions = topic.map_or(0, |it| it.partitions.len());
    rows(asked, |index| match usize::try_from(index) {
        Ok(place) if place < partitions => {
            (ErrorCode::ElectionNotNeeded, "Leader election not needed for topic partition.")
        }
        _ => {
            let words = "This server does not host this topic-partition.";
            (ErrorCode::UnknownTopicOrPartition, words)
        }
    })
}

/// One row a partition, with what `told` says of it.
fn rows(
    asked: &TopicPartitions,
    told: impl Fn(i32) -> (ErrorCode, &'static str),
) -> ReplicaElectionResult {
    let row = |index: &i32| {
        let (code, message) = told(*index);
        PartitionResult {
            partition_id: *index,
            error_code: code.code(),
            error_message: Some(message.to_owned()),
        }
    };
    ReplicaElectionResult {
        topic: asked.topic.clone(),
        partition_result: asked.partitions.iter().map(row).collect(),
    }
}
