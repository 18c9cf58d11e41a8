//! DeleteGroups (key 42): removes groups without members, and all their offsets (KIP-229).

use std::sync::Arc;

use cluster::AclOperation;
use coordinator::{Command, GroupState, Reply};
use protocol::ErrorCode;
use protocol::messages::delete_groups::response::DeletableGroupResult;
use protocol::messages::delete_groups::{Request, Response};

use super::delete_share_group_offsets::forget;
use crate::broker::Broker;
use crate::context::RequestContext;
use crate::refusal::{self, Refusal, told};

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: Request,
) -> Response {
    let mut results = Vec::with_capacity(request.groups_names.len());
    // One after the other: the second mention of a group must find it gone.
    for group in request.groups_names {
        let outcome = match context.allows_group(AclOperation::Delete, &group) {
            true => forget_share(broker, &group).await,
            false => Err(refusal::unauthorized(ErrorCode::GroupAuthorizationFailed)),
        };
        if let Err(refusal) = outcome {
            let (error_code, error_message) = told(Err(refusal));
            results.push(DeletableGroupResult { group_id: group, error_code, error_message });
            continue;
        }
        let command = Command::DeleteGroups(vec![group.clone()]);
        let pick = |reply| {
            if let Reply::DeleteGroups(mut it) = reply { it.pop() } else { None }
        };
        let code = match broker.groups.ask(broker, &group, command, pick).await {
            Ok((_, code)) => code,
            Err(code) => code,
        };
        results.push(DeletableGroupResult {
            error_code: code.code(),
            error_message: words(code, &group),
            group_id: group,
        });
    }
    Response { results, ..Default::default() }
}

/// What a share group knows of its topics goes before the group itself does, so that a crash in between leaves a group
/// that can be deleted again. Of other groups there is nothing to forget.
async fn forget_share(broker: &Arc<Broker>, group: &str) -> Result<(), Refusal> {
    match broker.groups.describe_shares(broker, group).await {
        Ok(Ok(found)) if found.state == GroupState::Empty => {
            forget(broker, group, None).await.map(|_| ())
        }
        // Of another kind, not empty, or not known: the group's coordinator says so.
        Ok(_) | Err(_) => Ok(()),
    }
}

fn words(code: ErrorCode, group: &str) -> Option<String> {
    match code {
        ErrorCode::None => None,
        ErrorCode::GroupIdNotFound => Some(format!("Group {group} not found.")),
        ErrorCode::NonEmptyGroup => Some(format!("Group {group} still has members.")),
        code => Some(code.name().to_owned()),
    }
}
