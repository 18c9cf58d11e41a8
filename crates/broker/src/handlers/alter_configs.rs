//! AlterConfigs (key 33): replaces all settings of a resource by those given. Older clients use it.

use std::sync::Arc;

use protocol::messages::alter_configs::request::AlterConfigsResource;
use protocol::messages::alter_configs::response::AlterConfigsResourceResponse;
use protocol::messages::alter_configs::{Request, Response};

use crate::broker::Broker;
use crate::config_admin::{self, Change};
use crate::configs::{Alteration, Operation};
use crate::context::RequestContext;
use crate::refusal;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: Request,
) -> Response {
    let named = request.resources.iter().map(|it| (it.resource_type, it.resource_name.as_str()));
    let repeated = config_admin::repeated_resources(named);
    let mut responses = Vec::with_capacity(request.resources.len());
    for resource in request.resources {
        let AlterConfigsResource { resource_type, resource_name, configs, .. } = resource;
        let key = (resource_type, resource_name);
        let altered = if repeated.contains(&key) {
            Err(config_admin::repeated_refusal())
        } else {
            let set = |name, value| Alteration { name, operation: Operation::Set, value };
            let settings = configs.into_iter().map(|it| set(it.name, it.value)).collect();
            let change = Change::Replacement(settings);
            config_admin::alter((broker, context), key.0, &key.1, change, request.validate_only)
                .await
        };
        let (error_code, error_message) = refusal::told(altered);
        let (resource_type, resource_name) = key;
        responses.push(AlterConfigsResourceResponse {
            error_code,
            error_message,
            resource_type,
            resource_name,
        });
    }
    Response { responses, ..Default::default() }
}
