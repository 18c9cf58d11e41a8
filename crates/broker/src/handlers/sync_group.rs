//! SyncGroup (key 14): a member asks for its assignment; the leader brings everybody's.

use std::sync::Arc;

use cluster::AclOperation;
use coordinator::{Command, Reply, SyncGroup};
use protocol::ErrorCode;
use protocol::messages::sync_group::{Request, Response};

use crate::broker::Broker;
use crate::context::RequestContext;

/// The first version that must name the group's protocol and its type (KIP-559).
const PROTOCOL_VERSION: i16 = 5;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: Request,
) -> Response {
    if !context.allows_group(AclOperation::Read, &request.group_id) {
        return refused(ErrorCode::GroupAuthorizationFailed);
    }
    let named = request.protocol_type.is_some() && request.protocol_name.is_some();
    if PROTOCOL_VERSION <= context.version && !named {
        return refused(ErrorCode::InconsistentGroupProtocol);
    }
    if request.group_id.is_empty() {
        return refused(ErrorCode::InvalidGroupId);
    }
    let group = request.group_id.clone();
    let assignments = request.assignments.into_iter();
    let command = Command::Sync(SyncGroup {
        group: request.group_id,
        generation: request.generation_id,
        member: request.member_id,
        instance: request.group_instance_id,
        protocol_type: request.protocol_type,
        protocol: request.protocol_name,
        assignments: assignments.map(|it| (it.member_id, it.assignment)).collect(),
    });
    let pick = |reply| if let Reply::Sync(it) = reply { Some(it) } else { None };
    match broker.groups.ask(broker, &group, command, pick).await {
        Ok(reply) => Response {
            error_code: reply.error.code(),
            protocol_type: reply.protocol_type,
            protocol_name: reply.protocol,
            assignment: reply.assignment,
            ..Default::default()
        },
        // A rebalance in progress is lost with its coordinator, and members know no "loading" here:
        // they join again.
        Err(ErrorCode::CoordinatorLoadInProgress) => refused(ErrorCode::RebalanceInProgress),
        Err(code) => refused(code),
    }
}

fn refused(code: ErrorCode) -> Response {
    Response { error_code: code.code(), ..Default::default() }
}
