//! DeleteAcls (key 31): refused, as by a Kafka without an authorizer.

use std::sync::Arc;

use protocol::ErrorCode;
use protocol::messages::delete_acls::response::DeleteAclsFilterResult;
use protocol::messages::delete_acls::{Request, Response};

use super::describe_acls::NO_AUTHORIZER;
use crate::broker::Broker;
use crate::context::RequestContext;

pub(crate) async fn handle(
    _broker: &Arc<Broker>,
    _context: &RequestContext,
    request: Request,
) -> Response {
    let refused = |_| DeleteAclsFilterResult {
        error_code: ErrorCode::SecurityDisabled.code(),
        error_message: Some(NO_AUTHORIZER.to_owned()),
        ..Default::default()
    };
    Response { filter_results: request.filters.iter().map(refused).collect(), ..Default::default() }
}
