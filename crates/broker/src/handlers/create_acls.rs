//! CreateAcls (key 30): refused, as by a Kafka without an authorizer. Nobody shall believe in an ACL that is not kept.

use std::sync::Arc;

use protocol::ErrorCode;
use protocol::messages::create_acls::response::AclCreationResult;
use protocol::messages::create_acls::{Request, Response};

use super::describe_acls::NO_AUTHORIZER;
use crate::broker::Broker;
use crate::context::RequestContext;

pub(crate) async fn handle(
    _broker: &Arc<Broker>,
    _context: &RequestContext,
    request: Request,
) -> Response {
    let refused = |_| AclCreationResult {
        error_code: ErrorCode::SecurityDisabled.code(),
        error_message: Some(NO_AUTHORIZER.to_owned()),
    };
    Response { results: request.creations.iter().map(refused).collect(), ..Default::default() }
}
