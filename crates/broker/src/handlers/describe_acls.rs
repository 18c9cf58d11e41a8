//! DescribeAcls (key 29): there is no authorizer, and the answer is that of a Kafka without one.

use std::sync::Arc;

use protocol::ErrorCode;
use protocol::messages::describe_acls::{Request, Response};

use crate::broker::Broker;
use crate::context::RequestContext;

/// What Kafka says of ACLs where nobody keeps any. Tools tell it from an empty list.
pub(crate) const NO_AUTHORIZER: &str = "No Authorizer is configured on the broker";

pub(crate) async fn handle(
    _broker: &Arc<Broker>,
    _context: &RequestContext,
    _request: Request,
) -> Response {
    Response {
        error_code: ErrorCode::SecurityDisabled.code(),
        error_message: Some(NO_AUTHORIZER.to_owned()),
        ..Default::default()
    }
}
