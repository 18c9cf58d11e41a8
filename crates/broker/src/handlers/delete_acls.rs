//! DeleteAcls (key 31): what filters pick, and which those were. They are without effect when it is answered.

use std::collections::VecDeque;
use std::sync::Arc;

use cluster::{Acl, AclFilter, AclOperation};
use protocol::ErrorCode;
use protocol::messages::delete_acls::request::DeleteAclsFilter;
use protocol::messages::delete_acls::response::{DeleteAclsFilterResult, DeleteAclsMatchingAcl};
use protocol::messages::delete_acls::{Request, Response};

use super::describe_acls::refuse_unless;
use crate::access::bindings::{self, AskedFilter, wire};
use crate::admin_rows;
use crate::broker::Broker;
use crate::context::RequestContext;
use crate::refusal::Refusal;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: Request,
) -> Response {
    let outcomes = delete(broker, context, request.filters).await;
    Response { filter_results: outcomes.into_iter().map(row).collect(), ..Default::default() }
}

async fn delete(
    broker: &Arc<Broker>,
    context: &RequestContext,
    asked: Vec<DeleteAclsFilter>,
) -> Vec<Result<Vec<Arc<Acl>>, Refusal>> {
    if let Err(refusal) = refuse_unless(context, AclOperation::Alter) {
        return vec![Err(refusal); asked.len()];
    }
    let read: Vec<Result<AclFilter, Refusal>> = asked.into_iter().map(filter).collect();
    let filters: Vec<AclFilter> = read.iter().filter_map(|it| it.as_ref().ok().cloned()).collect();
    let deleted = match filters.is_empty() {
        true => Ok(Vec::new()),
        false => admin_rows::untimed(broker, broker.controller.delete_acls(filters)).await,
    };
    broker.follow_acls();
    let (mut deleted, failed) = match deleted {
        Ok(deleted) => (VecDeque::from(deleted), None),
        Err(refusal) => (VecDeque::new(), Some(refusal)),
    };
    let outcome = |read: Result<AclFilter, Refusal>| {
        read?;
        match &failed {
            Some(failed) => Err(failed.clone()),
            None => Ok(deleted.pop_front().unwrap_or_default()),
        }
    };
    read.into_iter().map(outcome).collect()
}

fn filter(asked: DeleteAclsFilter) -> Result<AclFilter, Refusal> {
    bindings::filter(AskedFilter {
        resource_type: asked.resource_type_filter,
        name: asked.resource_name_filter,
        pattern_type: asked.pattern_type_filter,
        principal: asked.principal_filter,
        host: asked.host_filter,
        operation: asked.operation,
        permission_type: asked.permission_type,
    })
}

fn row(outcome: Result<Vec<Arc<Acl>>, Refusal>) -> DeleteAclsFilterResult {
    let deleted = |acl: Arc<Acl>| DeleteAclsMatchingAcl {
        error_code: ErrorCode::None.code(),
        error_message: None,
        resource_type: wire(acl.resource.code()),
        resource_name: acl.name.clone(),
        pattern_type: wire(acl.pattern.code()),
        principal: acl.principal.clone(),
        host: acl.host.clone(),
        operation: wire(acl.operation.code()),
        permission_type: wire(acl.permission.code()),
    };
    match outcome {
        Ok(acls) => DeleteAclsFilterResult {
            error_message: None,
            matching_acls: acls.into_iter().map(deleted).collect(),
            ..Default::default()
        },
        Err(Refusal { code, message }) => DeleteAclsFilterResult {
            error_code: code.code(),
            error_message: Some(message),
            ..Default::default()
        },
    }
}
