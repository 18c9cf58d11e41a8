//! FindCoordinator (key 10): which broker coordinates a group or a transactional id. One key, or many
//! from version 4.
//!
//! Only brokers ask for share coordinators (KIP-932): they and unknown kinds of key are an invalid request.

use std::sync::Arc;

use cluster::{AclOperation, Topic};
use futures::future::join_all;
use protocol::ErrorCode;
use protocol::messages::find_coordinator::response::Coordinator;
use protocol::messages::find_coordinator::{Request, Response};
use vocabulary::Partition;

use crate::broker::Broker;
use crate::context::RequestContext;
use crate::refusal::{self, Refusal};

/// The first version that asks for many keys (KIP-699).
const BATCH_VERSION: i16 = 4;

/// The kinds of key.
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const SHARE: i8 = 2;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: Request,
) -> Response {
    let kind = request.key_type;
    if context.version < BATCH_VERSION {
        let row = find(broker, context, kind, request.key).await;
        return Response {
            error_code: row.error_code,
            error_message: row.error_message.filter(|it| !it.is_empty()),
            node_id: row.node_id,
            host: row.host,
            port: row.port,
            ..Default::default()
        };
    }
    // Together: each may wait for the coordinators' topic.
    let found = request.coordinator_keys.into_iter().map(|key| find(broker, context, kind, key));
    Response { coordinators: join_all(found).await, ..Default::default() }
}

async fn find(
    broker: &Arc<Broker>,
    context: &RequestContext,
    kind: i8,
    key: String,
) -> Coordinator {
    let found = match kind {
        _ if let Err(code) = authorize(context, kind, &key) => Err(refusal::unauthorized(code)),
        GROUP => leader(broker, context, broker.groups.home(broker, &key).await),
        TRANSACTION if key.is_empty() => {
            Err(Refusal::new(ErrorCode::InvalidRequest, "A transactional id is not empty."))
        }
        TRANSACTION => leader(broker, context, broker.transactions.home(broker, &key).await),
        _ => {
            Err(Refusal::new(ErrorCode::InvalidRequest, format!("No coordinators of kind {kind}.")))
        }
    };
    match found {
        Ok(node) => Coordinator {
            key,
            node_id: node.id.0,
            host: node.host,
            port: i32::from(node.port),
            error_message: Some(String::new()),
            ..Default::default()
        },
        Err(refusal) => Coordinator {
            key,
            node_id: -1,
            port: -1,
            error_code: refusal.code.code(),
            error_message: Some(refusal.message),
            ..Default::default()
        },
    }
}

fn authorize(context: &RequestContext, kind: i8, key: &str) -> Result<(), ErrorCode> {
    let (allowed, code) = match kind {
        GROUP => {
            (context.allows_group(AclOperation::Describe, key), ErrorCode::GroupAuthorizationFailed)
        }
        TRANSACTION => (
            context.allows_transactional_id(AclOperation::Describe, key),
            ErrorCode::TransactionalIdAuthorizationFailed,
        ),
        SHARE => (
            context.allows_cluster(AclOperation::ClusterAction),
            ErrorCode::ClusterAuthorizationFailed,
        ),
        _ => return Ok(()), // Refused by its kind.
    };
    if allowed { Ok(()) } else { Err(code) }
}

/// The broker that leads the coordinator's partition.
fn leader(
    broker: &Broker,
    context: &RequestContext,
    home: Result<(Arc<Topic>, Partition), ErrorCode>,
) -> Result<cluster::Broker, Refusal> {
    let unavailable =
        || Refusal::new(ErrorCode::CoordinatorNotAvailable, "The coordinator is not available.");
    let (topic, partition) = home.map_err(|_| unavailable())?;
    let leader = topic.partition(partition.index).map(|it| it.leader);
    let mut nodes = broker.endpoints(&context.listener).into_iter();
    nodes.find(|it| Some(it.id) == leader).ok_or_else(unavailable)
}
