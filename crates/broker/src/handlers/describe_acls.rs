//! DescribeAcls (key 29): the ACLs that a filter picks, by pattern. Without an authorizer nobody keeps any, and the
//! answer is that of a Kafka without one.

use std::sync::Arc;

use cluster::{Acl, AclOperation};
use protocol::ErrorCode;
use protocol::messages::describe_acls::response::{AclDescription, DescribeAclsResource};
use protocol::messages::describe_acls::{Request, Response};

use crate::access::bindings::{self, AskedFilter, wire};
use crate::broker::Broker;
use crate::context::RequestContext;
use crate::refusal::{self, Refusal};

/// Refuses who may not do that with the cluster's ACLs, and everybody where nobody keeps any: tools tell that from an
/// empty list.
pub(super) fn refuse_unless(
    context: &RequestContext,
    operation: AclOperation,
) -> Result<(), Refusal> {
    if context.access.is_none() {
        let words = "No Authorizer is configured on the broker";
        return Err(Refusal::new(ErrorCode::SecurityDisabled, words));
    }
    match context.allows_cluster(operation) {
        true => Ok(()),
        false => Err(refusal::unauthorized(ErrorCode::ClusterAuthorizationFailed)),
    }
}

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: Request,
) -> Response {
    let asked = AskedFilter {
        resource_type: request.resource_type_filter,
        name: request.resource_name_filter,
        pattern_type: request.pattern_type_filter,
        principal: request.principal_filter,
        host: request.host_filter,
        operation: request.operation,
        permission_type: request.permission_type,
    };
    let allowed = refuse_unless(context, AclOperation::Describe);
    match allowed.and_then(|()| bindings::filter(asked)) {
        Ok(filter) => Response {
            resources: by_pattern(&broker.view.acls_picked(&filter)),
            ..Default::default()
        },
        Err(Refusal { code, message }) => {
            Response { error_code: code.code(), error_message: Some(message), ..Default::default() }
        }
    }
}

/// Neighbours of one pattern together: they come in that order.
fn by_pattern(acls: &[Arc<Acl>]) -> Vec<DescribeAclsResource> {
    let mut resources: Vec<DescribeAclsResource> = Vec::new();
    for acl in acls {
        let row = AclDescription {
            principal: acl.principal.clone(),
            host: acl.host.clone(),
            operation: wire(acl.operation.code()),
            permission_type: wire(acl.permission.code()),
        };
        let (resource, pattern) = (wire(acl.resource.code()), wire(acl.pattern.code()));
        match resources.last_mut() {
            Some(last)
                if (last.resource_type, last.pattern_type) == (resource, pattern)
                    && last.resource_name == acl.name =>
            {
                last.acls.push(row);
            }
            _ => resources.push(DescribeAclsResource {
                resource_type: resource,
                resource_name: acl.name.clone(),
                pattern_type: pattern,
                acls: vec![row],
            }),
        }
    }
    resources
}
