//! DescribeGroups (key 15): the state of classic groups and their members.

use std::sync::Arc;

use cluster::AclOperation;
use coordinator::{Command, DescribedGroup, DescribedMember, GroupState, Reply};
use futures::future::join_all;
use protocol::ErrorCode;
use protocol::messages::describe_groups::response;
use protocol::messages::describe_groups::{Request, Response};

use crate::broker::Broker;
use crate::context::RequestContext;
use crate::operations;

/// The first version that says that there is no such group (KIP-1043); before it is `Dead`.
const NOT_FOUND_VERSION: i16 = 6;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: Request,
) -> Response {
    let with_operations = request.include_authorized_operations;
    let described = request.groups.into_iter().map(|group| async move {
        if !context.allows_group(AclOperation::Describe, &group) {
            return response::DescribedGroup {
                error_code: ErrorCode::GroupAuthorizationFailed.code(),
                group_id: group,
                ..Default::default()
            };
        }
        let command = Command::Describe(vec![group.clone()]);
        let pick = |reply| if let Reply::Describe(mut it) = reply { it.pop() } else { None };
        match broker.groups.ask(broker, &group, command, pick).await {
            Ok(found) => row(context, found, with_operations),
            Err(code) => response::DescribedGroup {
                error_code: code.code(),
                group_id: group,
                ..Default::default()
            },
        }
    });
    Response { groups: join_all(described).await, ..Default::default() }
}

fn row(
    context: &RequestContext,
    found: DescribedGroup,
    with_operations: bool,
) -> response::DescribedGroup {
    let is_missing = found.state == GroupState::Dead && NOT_FOUND_VERSION <= context.version;
    let with_operations = with_operations && !is_missing;
    let authorized_operations = operations::of_group(context, with_operations, &found.group);
    let code = if is_missing { ErrorCode::GroupIdNotFound } else { ErrorCode::None };
    response::DescribedGroup {
        error_code: code.code(),
        error_message: found.missing.filter(|_| is_missing),
        group_id: found.group,
        group_state: found.state.name().to_owned(),
        protocol_type: found.protocol_type,
        protocol_data: found.protocol,
        members: found.members.into_iter().map(member).collect(),
        authorized_operations,
    }
}

fn member(it: DescribedMember) -> response::DescribedGroupMember {
    response::DescribedGroupMember {
        member_id: it.member.to_string(),
        group_instance_id: it.instance,
        client_id: it.client_id,
        client_host: it.client_host,
        member_metadata: it.metadata,
        member_assignment: it.assignment,
    }
}
