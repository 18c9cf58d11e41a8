//! ConsumerGroupHeartbeat (key 68): all that a member of a consumer group says and learns (KIP-848).

use std::sync::Arc;

use cluster::AclOperation;
use coordinator::{
    Command, ConsumerHeartbeat, ConsumerHeartbeatReply, Describable, Partitions, Refused, Reply,
    Sight,
};
use protocol::ErrorCode;
use protocol::messages::consumer_group_heartbeat::{Request, Response, request, response};

use crate::broker::Broker;
use crate::context::RequestContext;

/// The first version whose members make their own id (KIP-1082).
const OWN_ID_VERSION: i16 = 1;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: Request,
) -> Response {
    let topics = request.subscribed_topic_names.as_deref().unwrap_or_default();
    if let Err(code) = authorize(context, &request.group_id, topics) {
        return Response { error_code: code.code(), ..Default::default() };
    }
    let group = request.group_id.clone();
    let heartbeat = heartbeat(broker, context, request);
    let command = Command::ConsumerHeartbeat(Box::new(heartbeat));
    let pick = |reply| if let Reply::ConsumerHeartbeat(it) = reply { Some(it) } else { None };
    match broker.groups.ask(broker, &group, command, pick).await {
        Ok(Ok(reply)) => answer(reply),
        Ok(Err(Refused { code, message })) => {
            Response { error_code: code.code(), error_message: Some(message), ..Default::default() }
        }
        Err(code) => Response { error_code: code.code(), ..Default::default() },
    }
}

/// Whether a member may be in the group and knows of the topics it names.
pub(super) fn authorize(
    context: &RequestContext,
    group: &str,
    topics: &[String],
) -> Result<(), ErrorCode> {
    if !context.allows_group(AclOperation::Read, group) {
        return Err(ErrorCode::GroupAuthorizationFailed);
    }
    match topics.iter().all(|it| context.allows_topic(AclOperation::Describe, it)) {
        true => Ok(()),
        false => Err(ErrorCode::TopicAuthorizationFailed),
    }
}

fn heartbeat(broker: &Broker, context: &RequestContext, request: Request) -> ConsumerHeartbeat {
    let makes_own_id = OWN_ID_VERSION <= context.version;
    let needs_id = !makes_own_id && request.member_id.is_empty() && request.member_epoch == 0;
    ConsumerHeartbeat {
        group: request.group_id,
        member: match needs_id {
            true => format!("{:032x}", broker.environment.entropy.next_u128()),
            false => request.member_id,
        },
        epoch: request.member_epoch,
        instance: request.instance_id,
        rack: request.rack_id,
        client_id: context.client_id.clone().unwrap_or_default(),
        client_host: context.host_for_display(),
        rebalance_timeout_ms: Some(request.rebalance_timeout_ms).filter(|it| *it != -1),
        topics: request.subscribed_topic_names,
        pattern: request.subscribed_topic_regex,
        assignor: request.server_assignor,
        owned: request.topic_partitions.map(owned),
        makes_own_id,
        sight: sight(context),
    }
}

/// What who asks may know of. That an expression finds less by it is no denial.
fn sight(context: &RequestContext) -> Sight {
    match context.access {
        Some(_) => Sight::of(Arc::new(Asking(context.clone()))),
        None => Sight::default(),
    }
}

#[derive(Debug)]
struct Asking(RequestContext);

impl Describable for Asking {
    fn shows(&self, topic: &str) -> bool {
        self.0.sees_topic(AclOperation::Describe, topic)
    }
}

fn owned(topics: Vec<request::TopicPartitions>) -> Partitions {
    let mut owned = Partitions::new();
    for topic in topics.into_iter().filter(|it| !it.partitions.is_empty()) {
        owned.entry(topic.topic_id).or_default().extend(topic.partitions);
    }
    owned
}

fn answer(reply: ConsumerHeartbeatReply) -> Response {
    let row = |(topic_id, partitions): (_, std::collections::BTreeSet<i32>)| {
        let partitions = partitions.into_iter().collect();
        response::TopicPartitions { topic_id, partitions }
    };
    let assignment = reply
        .assignment
        .map(|it| response::Assignment { topic_partitions: it.into_iter().map(row).collect() });
    Response {
        member_id: Some(reply.member),
        member_epoch: reply.epoch,
        heartbeat_interval_ms: reply.heartbeat_interval_ms,
        assignment,
        ..Default::default()
    }
}
