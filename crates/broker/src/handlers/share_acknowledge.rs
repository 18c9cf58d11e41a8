//! ShareAcknowledge (key 79): what became of records that a member of a share group had (KIP-932).
//!
//! What is acknowledged is durable before it is answered (A1).

use std::collections::HashMap;
use std::sync::Arc;

use cluster::AclOperation;
use protocol::ErrorCode;
use protocol::messages::share_acknowledge::response::{
    LeaderIdAndEpoch, NodeEndpoint, PartitionData, ShareAcknowledgeTopicResponse,
};
use protocol::messages::share_acknowledge::{Request, Response};
use vocabulary::{Partition, TopicId};

use crate::broker::Broker;
use crate::context::RequestContext;
use crate::shares::acknowledging::{Manner, Rows, acknowledge, is_moved};
use crate::shares::sessions::{SessionKey, SessionPlan};

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: Request,
) -> Response {
    let refused = |code: ErrorCode| Response { error_code: code.code(), ..Default::default() };
    let group = request.group_id.unwrap_or_default();
    let member = request.member_id.unwrap_or_default();
    let deliveries = broker.shares.deliveries(broker, &group);
    let acquisition_lock_timeout_ms = deliveries.lock_ms;
    let lock_ms = u64::try_from(acquisition_lock_timeout_ms).unwrap_or(0);
    if !context.allows_group(AclOperation::Read, &group) {
        return refused(ErrorCode::GroupAuthorizationFailed);
    }
    if group.is_empty() || member.is_empty() {
        return refused(ErrorCode::InvalidRequest);
    }
    let key = SessionKey { group, member };
    let now = broker.environment.clock.now();
    let epoch = request.share_session_epoch;
    let plan = broker.shares.sessions().acknowledge(now, context.connection, &key, epoch);
    let plan = match plan {
        Ok(plan) => plan,
        Err(code) => return refused(code),
    };
    let manner = Manner {
        version: context.version,
        renews: request.is_renew_ack,
        may_renew: deliveries.may_renew,
        lock_ms,
    };
    let mut told: Vec<(Partition, Rows)> = Vec::new();
    for topic in request.topics {
        for asked in topic.partitions {
            let partition = Partition { topic: topic.topic_id, index: asked.partition_index };
            let batches = asked.acknowledgement_batches.into_iter();
            let rows = batches.map(|it| (it.first_offset, it.last_offset, it.acknowledge_types));
            told.push((partition, rows.collect()));
        }
    }
    let acknowledged = acknowledge((broker, context), &key, manner, told).await;
    if plan == SessionPlan::Close {
        broker.shares.close(broker, &key).await;
    }
    let mut response = answer(broker, context, acknowledged);
    response.acquisition_lock_timeout_ms = acquisition_lock_timeout_ms;
    response
}

fn answer(
    broker: &Broker,
    context: &RequestContext,
    acknowledged: Vec<(Partition, ErrorCode)>,
) -> Response {
    let mut responses: Vec<ShareAcknowledgeTopicResponse> = Vec::new();
    let mut places: HashMap<TopicId, usize> = HashMap::new();
    let mut is_led_elsewhere = false;
    for (partition, code) in acknowledged {
        let mut data = PartitionData {
            partition_index: partition.index,
            error_code: code.code(),
            ..Default::default()
        };
        // Who leads it now, so that the client need not ask for it (KIP-951).
        if is_moved(code) {
            is_led_elsewhere = true;
            let (leader_id, leader_epoch) = broker.leader_of(partition);
            data.current_leader = LeaderIdAndEpoch { leader_id, leader_epoch };
        }
        let place = *places.entry(partition.topic).or_insert_with(|| {
            let topic_id = partition.topic;
            responses.push(ShareAcknowledgeTopicResponse { topic_id, partitions: Vec::new() });
            responses.len() - 1
        });
        responses[place].partitions.push(data);
    }
    let endpoint = |it: cluster::Broker| NodeEndpoint {
        node_id: it.id.0,
        host: it.host,
        port: i32::from(it.port),
        rack: None,
    };
    let endpoints = is_led_elsewhere.then(|| broker.endpoints(&context.listener));
    let node_endpoints = endpoints.into_iter().flatten().map(endpoint).collect();
    Response { responses, node_endpoints, ..Default::default() }
}
