//! ListPartitionReassignments (key 46): no partition is ever on its way, as none has bytes to move (KIP-455).

use std::sync::Arc;

use cluster::AclOperation;
use protocol::ErrorCode;
use protocol::messages::list_partition_reassignments::{Request, Response};

use crate::broker::Broker;
use crate::context::RequestContext;
use crate::refusal;

pub(crate) async fn handle(
    _broker: &Arc<Broker>,
    context: &RequestContext,
    _request: Request,
) -> Response {
    if !context.allows_cluster(AclOperation::Describe) {
        let denied = Err(refusal::unauthorized(ErrorCode::ClusterAuthorizationFailed));
        let (error_code, error_message) = refusal::told(denied);
        return Response { error_code, error_message, ..Default::default() };
    }
    Response { error_message: None, ..Default::default() }
}
