//! DeleteGroups (key 42): removes groups without members, and all their offsets (KIP-229).

use std::sync::Arc;

use coordinator::{Command, Reply};
use protocol::ErrorCode;
use protocol::messages::delete_groups::response::DeletableGroupResult;
use protocol::messages::delete_groups::{Request, Response};

use crate::broker::Broker;
use crate::context::RequestContext;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    _context: &RequestContext,
    request: Request,
) -> Response {
    let mut results = Vec::with_capacity(request.groups_names.len());
    // One after the other: the second mention of a group must find it gone.
    for group in request.groups_names {
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

fn words(code: ErrorCode, group: &str) -> Option<String> {
    match code {
        ErrorCode::None => None,
        ErrorCode::GroupIdNotFound => Some(format!("Group {group} not found.")),
        ErrorCode::NonEmptyGroup => Some(format!("Group {group} still has members.")),
        code => Some(code.name().to_owned()),
    }
}
