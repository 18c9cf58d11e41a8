//! CreateAcls (key 30): each by itself. They are in effect when they are answered.

use std::collections::VecDeque;
use std::sync::Arc;

use cluster::{Acl, AclError, AclOperation};
use protocol::ErrorCode;
use protocol::messages::create_acls::request::AclCreation;
use protocol::messages::create_acls::response::AclCreationResult;
use protocol::messages::create_acls::{Request, Response};

use super::describe_acls::refuse_unless;
use crate::access::bindings;
use crate::admin_rows;
use crate::broker::Broker;
use crate::context::RequestContext;
use crate::refusal::{self, Refusal};

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: Request,
) -> Response {
    let outcomes = create(broker, context, request.creations).await;
    let row = |outcome| match outcome {
        // With an empty text, as in Kafka.
        Ok(()) => AclCreationResult::default(),
        refused => {
            let (error_code, error_message) = refusal::told(refused);
            AclCreationResult { error_code, error_message }
        }
    };
    Response { results: outcomes.into_iter().map(row).collect(), ..Default::default() }
}

async fn create(
    broker: &Arc<Broker>,
    context: &RequestContext,
    creations: Vec<AclCreation>,
) -> Vec<Result<(), Refusal>> {
    if let Err(refusal) = refuse_unless(context, AclOperation::Alter) {
        return vec![Err(refusal); creations.len()];
    }
    let read: Vec<Result<Acl, Refusal>> = creations.into_iter().map(bindings::acl).collect();
    let acls: Vec<Acl> = read.iter().filter_map(|it| it.as_ref().ok().cloned()).collect();
    let created = match acls.is_empty() {
        true => Ok(Vec::new()),
        false => admin_rows::untimed(broker, broker.controller.create_acls(acls)).await,
    };
    broker.follow_acls();
    let (mut created, failed) = match created {
        Ok(created) => (VecDeque::from(created), None),
        Err(refusal) => (VecDeque::new(), Some(refusal)),
    };
    let outcome = |read: Result<Acl, Refusal>| {
        read?;
        match (&failed, created.pop_front()) {
            (Some(failed), _) => Err(failed.clone()),
            (None, Some(created)) => created.map_err(refused),
            // One outcome each.
            (None, None) => Err(Refusal::new(ErrorCode::UnknownServerError, "no outcome")),
        }
    };
    read.into_iter().map(outcome).collect()
}

fn refused(error: AclError) -> Refusal {
    let code = match error {
        AclError::TooMany { .. } => ErrorCode::PolicyViolation,
        AclError::TooLong { .. } => ErrorCode::InvalidRequest,
    };
    Refusal::new(code, error.to_string())
}
