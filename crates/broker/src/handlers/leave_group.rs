//! LeaveGroup (key 13): a member goes, or an administrator removes some (version 3 and later).

use std::sync::Arc;

use cluster::AclOperation;
use coordinator::{Command, LeaveGroup, LeavingMember, Reply};
use protocol::ErrorCode;
use protocol::messages::leave_group::response::MemberResponse;
use protocol::messages::leave_group::{Request, Response};

use crate::broker::Broker;
use crate::context::RequestContext;

/// The first version with many members, each with a code of its own (KIP-345).
const BATCH_VERSION: i16 = 3;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: Request,
) -> Response {
    let is_batch = BATCH_VERSION <= context.version;
    let Request { group_id: group, member_id, members, .. } = request;
    if !context.allows_group(AclOperation::Read, &group) {
        return refused(ErrorCode::GroupAuthorizationFailed);
    }
    if group.is_empty() {
        return refused(ErrorCode::InvalidGroupId);
    }
    let members = match is_batch {
        true => {
            let leaving = members.into_iter().map(|it| {
                if let Some(reason) = &it.reason {
                    tracing::debug!(group, member = it.member_id, reason, "member leaves");
                }
                LeavingMember { member: it.member_id, instance: it.group_instance_id }
            });
            leaving.collect()
        }
        false => vec![LeavingMember { member: member_id, instance: None }],
    };
    let command = Command::Leave(LeaveGroup { group: group.clone(), members });
    let pick = |reply| if let Reply::Leave(it) = reply { Some(it) } else { None };
    let left = match broker.groups.ask(broker, &group, command, pick).await {
        Ok(left) => left,
        Err(code) => return refused(code),
    };
    if !is_batch {
        return refused(left.first().map_or(ErrorCode::None, |(_, code)| *code));
    }
    let row = |(member, code): (LeavingMember, ErrorCode)| MemberResponse {
        member_id: member.member,
        group_instance_id: member.instance,
        error_code: code.code(),
    };
    Response { members: left.into_iter().map(row).collect(), ..Default::default() }
}

/// With one code for the whole request, which may be that of success.
fn refused(code: ErrorCode) -> Response {
    Response { error_code: code.code(), ..Default::default() }
}
