//! ListPartitionReassignments (key 46): no partition is ever on its way, as none has bytes to move (KIP-455).

use std::sync::Arc;

use protocol::messages::list_partition_reassignments::{Request, Response};

use crate::broker::Broker;
use crate::context::RequestContext;

pub(crate) async fn handle(
    _broker: &Arc<Broker>,
    _context: &RequestContext,
    _request: Request,
) -> Response {
    Response { error_message: None, ..Default::default() }
}
