//! ListGroups (key 16): every group coordinated here, filtered by state (KIP-518) and type (KIP-848).

use std::sync::Arc;

use cluster::{AclOperation, AclResource};
use coordinator::{Command, ListFilter, ListedGroup, Reply};
use protocol::messages::list_groups::response;
use protocol::messages::list_groups::{Request, Response};

use crate::broker::Broker;
use crate::context::RequestContext;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: Request,
) -> Response {
    let filter = ListFilter { states: request.states_filter, types: request.types_filter };
    let replies = match broker.groups.ask_all(broker, &Command::List(filter)).await {
        Ok(replies) => replies,
        Err(code) => return Response { error_code: code.code(), ..Default::default() },
    };
    let groups = replies.into_iter().flat_map(|reply| match reply {
        Reply::List(groups) => groups,
        _ => Vec::new(), // A list is answered with a list.
    });
    // Who may describe the cluster sees all of them.
    let sees_all = context.sees_cluster(AclOperation::Describe);
    let groups = groups.filter(|it| {
        sees_all || context.sees(AclOperation::Describe, AclResource::Group, &it.group)
    });
    let mut groups: Vec<response::ListedGroup> = groups.map(row).collect();
    groups.sort_by(|a, b| a.group_id.cmp(&b.group_id));
    Response { groups, ..Default::default() }
}

fn row(it: ListedGroup) -> response::ListedGroup {
    response::ListedGroup {
        group_id: it.group,
        protocol_type: it.protocol_type,
        group_state: it.state.name().to_owned(),
        group_type: it.kind.name().to_owned(),
    }
}
