//! ShareGroupHeartbeat (key 76): all that a member of a share group says and learns (KIP-932).

use std::sync::Arc;

use coordinator::{Command, Refused, Reply, ShareHeartbeat, ShareHeartbeatReply};
use protocol::messages::share_group_heartbeat::{Request, Response, response};

use super::consumer_group_heartbeat::authorize;
use crate::broker::Broker;
use crate::context::RequestContext;

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
    let command = Command::ShareHeartbeat(Box::new(ShareHeartbeat {
        group: request.group_id,
        member: request.member_id,
        epoch: request.member_epoch,
        rack: request.rack_id,
        client_id: context.client_id.clone().unwrap_or_default(),
        client_host: context.host_for_display(),
        topics: request.subscribed_topic_names,
    }));
    let pick = |reply| if let Reply::ShareHeartbeat(it) = reply { Some(it) } else { None };
    match broker.groups.ask(broker, &group, command, pick).await {
        Ok(Ok(reply)) => answer(reply),
        Ok(Err(Refused { code, message })) => {
            Response { error_code: code.code(), error_message: Some(message), ..Default::default() }
        }
        Err(code) => Response { error_code: code.code(), ..Default::default() },
    }
}

fn answer(reply: ShareHeartbeatReply) -> Response {
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
