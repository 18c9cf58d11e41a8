//! AlterPartitionReassignments (key 45): a partition may be told to be where it is, which is done at once (KIP-455).

use std::collections::BTreeSet;
use std::sync::Arc;

use cluster::{AclOperation, Topic};
use protocol::ErrorCode;
use protocol::messages::alter_partition_reassignments::request::ReassignablePartition;
use protocol::messages::alter_partition_reassignments::response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use protocol::messages::alter_partition_reassignments::{Request, Response};
use vocabulary::BrokerId;

use crate::broker::Broker;
use crate::context::RequestContext;
use crate::refusal::{self, Refusal};
use crate::topic_admin;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: Request,
) -> Response {
    if !context.allows_cluster(AclOperation::Alter) {
        return denied(request);
    }
    let brokers: BTreeSet<BrokerId> = broker.view.brokers().iter().map(|it| it.id).collect();
    let responses = request.topics.into_iter().map(|asked| {
        let topic = broker.view.topic(&asked.name);
        let row = |partition: &ReassignablePartition| {
            let (error_code, error_message) =
                refusal::told(reassign(topic.as_deref(), partition, &brokers));
            ReassignablePartitionResponse {
                partition_index: partition.partition_index,
                error_code,
                error_message,
            }
        };
        let partitions = asked.partitions.iter().map(row).collect();
        ReassignableTopicResponse { name: asked.name, partitions }
    });
    Response {
        allow_replication_factor_change: request.allow_replication_factor_change,
        responses: responses.collect(),
        error_message: None,
        ..Default::default()
    }
}

/// The denial once for the request, and once for each partition.
fn denied(request: Request) -> Response {
    let (error_code, error_message) =
        refusal::told(Err(refusal::unauthorized(ErrorCode::ClusterAuthorizationFailed)));
    let row = |partition: &ReassignablePartition| ReassignablePartitionResponse {
        partition_index: partition.partition_index,
        error_code,
        error_message: error_message.clone(),
    };
    let responses = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(row).collect();
        ReassignableTopicResponse { name: topic.name, partitions }
    });
    let responses = responses.collect();
    Response { error_code, error_message: error_message.clone(), responses, ..Default::default() }
}

fn reassign(
    topic: Option<&Topic>,
    asked: &ReassignablePartition,
    brokers: &BTreeSet<BrokerId>,
) -> Result<(), Refusal> {
    let place = usize::try_from(asked.partition_index).ok();
    let info = topic.zip(place).and_then(|(topic, place)| topic.partitions.get(place));
    let Some(info) = info else {
        let words = "This server does not host this topic-partition.";
        return Err(Refusal::new(ErrorCode::UnknownTopicOrPartition, words));
    };
    let Some(replicas) = &asked.replicas else {
        let words = "No partition reassignment is in progress.";
        return Err(Refusal::new(ErrorCode::NoReassignmentInProgress, words));
    };
    topic_admin::check_replicas(replicas, brokers)?;
    match replicas[..] == [info.leader.0] {
        true => Ok(()),
        false => Err(Refusal::new(
            ErrorCode::InvalidReplicaAssignment,
            "A partition has one replica, its leader, and stays where it is.",
        )),
    }
}
