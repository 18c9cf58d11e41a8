//! Heartbeat (key 12): a member is alive, and learns whether it must join again.

use std::sync::Arc;

use cluster::AclOperation;
use coordinator::{Command, Heartbeat, Reply};
use protocol::ErrorCode;
use protocol::messages::heartbeat::{Request, Response};

use crate::broker::Broker;
use crate::context::RequestContext;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: Request,
) -> Response {
    let code = match context.allows_group(AclOperation::Read, &request.group_id) {
        true => heartbeat(broker, request).await,
        false => ErrorCode::GroupAuthorizationFailed,
    };
    Response { error_code: code.code(), ..Default::default() }
}

async fn heartbeat(broker: &Arc<Broker>, request: Request) -> ErrorCode {
    if request.group_id.is_empty() {
        return ErrorCode::InvalidGroupId;
    }
    let group = request.group_id.clone();
    let command = Command::Heartbeat(Heartbeat {
        group: request.group_id,
        generation: request.generation_id,
        member: request.member_id,
        instance: request.group_instance_id,
    });
    let pick = |reply| if let Reply::Heartbeat(code) = reply { Some(code) } else { None };
    match broker.groups.ask(broker, &group, command, pick).await {
        Ok(code) => code,
        // Sessions begin anew when loading ends: nothing is lost by saying that all is well.
        Err(ErrorCode::CoordinatorLoadInProgress) => ErrorCode::None,
        Err(code) => code,
    }
}
