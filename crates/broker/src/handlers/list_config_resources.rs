//! ListConfigResources (key 74): the names of resources that have configs (KIP-1142). Version 0 speaks of client
//! metrics alone, of which there are none. Loggers of brokers have no configs here.

use std::sync::Arc;

use cluster::AclOperation;
use protocol::ErrorCode;
use protocol::messages::list_config_resources::response::ConfigResource;
use protocol::messages::list_config_resources::{Request, Response};

use crate::broker::Broker;
use crate::config_admin::ResourceKind;
use crate::context::RequestContext;

/// The first version that names types.
const TYPES_VERSION: i16 = 1;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: Request,
) -> Response {
    if !context.allows_cluster(AclOperation::DescribeConfigs) {
        let error_code = ErrorCode::ClusterAuthorizationFailed.code();
        return Response { error_code, ..Default::default() };
    }
    let Some(kinds) = kinds(context.version, &request.resource_types) else {
        let error_code = ErrorCode::UnsupportedVersion.code();
        return Response { error_code, ..Default::default() };
    };
    let resources = kinds.into_iter().flat_map(|kind| {
        let resource_type = kind.wire_code();
        let resource = move |resource_name| ConfigResource { resource_name, resource_type };
        names(broker, kind).into_iter().map(resource)
    });
    Response { config_resources: resources.collect(), ..Default::default() }
}

/// What is asked for; `None` where a type is unknown.
fn kinds(version: i16, types: &[i8]) -> Option<Vec<ResourceKind>> {
    if version < TYPES_VERSION {
        return Some(vec![ResourceKind::ClientMetrics]);
    }
    if types.is_empty() {
        return Some(ResourceKind::ALL.to_vec());
    }
    types.iter().map(|it| ResourceKind::from_wire(*it).ok()).collect()
}

fn names(broker: &Broker, kind: ResourceKind) -> Vec<String> {
    match kind {
        ResourceKind::Topic => broker.view.topics().into_iter().map(|it| it.name.clone()).collect(),
        ResourceKind::Broker => {
            broker.view.brokers().into_iter().map(|it| it.id.to_string()).collect()
        }
        ResourceKind::BrokerLogger | ResourceKind::ClientMetrics => Vec::new(),
        ResourceKind::Group => broker.view.configured_groups(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_choose_what_is_listed() {
        assert_eq!(kinds(0, &[]), Some(vec![ResourceKind::ClientMetrics]));
        assert_eq!(kinds(1, &[]), Some(ResourceKind::ALL.to_vec()));
        assert_eq!(kinds(1, &[32, 2]), Some(vec![ResourceKind::Group, ResourceKind::Topic]));
        assert_eq!(kinds(1, &[32, 3]), None);
    }
}
