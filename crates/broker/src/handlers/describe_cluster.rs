//! DescribeCluster (key 60): the brokers, the controller and the cluster's id (KIP-700).

use std::sync::Arc;

use protocol::ErrorCode;
use protocol::messages::describe_cluster::response::DescribeClusterBroker;
use protocol::messages::describe_cluster::{Request, Response};

use crate::broker::Broker;
use crate::context::RequestContext;
use crate::operations;
use crate::refusal::Refusal;

/// The request's endpoint types (KIP-919).
const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: Request,
) -> Response {
    if let Err(Refusal { code, message }) = check_endpoint_type(request.endpoint_type) {
        return Response {
            error_code: code.code(),
            error_message: Some(message),
            endpoint_type: request.endpoint_type,
            ..Default::default()
        };
    }
    let brokers = broker.endpoints(&context.listener).into_iter().map(|it| DescribeClusterBroker {
        broker_id: it.id.0,
        host: it.host,
        port: i32::from(it.port),
        rack: it.rack,
        ..Default::default()
    });
    Response {
        endpoint_type: request.endpoint_type,
        cluster_id: broker.view.cluster_id().to_owned(),
        controller_id: broker.id.0,
        brokers: brokers.collect(),
        cluster_authorized_operations: operations::of_cluster(
            context,
            request.include_cluster_authorized_operations,
        ),
        ..Default::default()
    }
}

/// Controllers have no listener of their own; a broker answers for brokers only.
fn check_endpoint_type(endpoint_type: i8) -> Result<(), Refusal> {
    match endpoint_type {
        BROKERS => Ok(()),
        CONTROLLERS => Err(Refusal::new(
            ErrorCode::MismatchedEndpointType,
            "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type \
             CONTROLLER",
        )),
        other => Err(Refusal::new(
            ErrorCode::UnsupportedEndpointType,
            format!("Unsupported endpoint type {other}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_brokers_can_be_asked_for() {
        let code = |kind| check_endpoint_type(kind).map_err(|it| it.code);
        assert_eq!(code(1), Ok(()));
        assert_eq!(code(2), Err(ErrorCode::MismatchedEndpointType));
        assert_eq!(code(3), Err(ErrorCode::UnsupportedEndpointType));
    }
}
