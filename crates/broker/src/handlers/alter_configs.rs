//! AlterConfigs (key 33): replaces all settings of a resource by those given. Older clients use it.

use std::sync::Arc;

use protocol::messages::alter_configs::request::AlterConfigsResource;
use protocol::messages::alter_configs::response::AlterConfigsResourceResponse;
use protocol::messages::alter_configs::{Request, Response};

use crate::broker::Broker;
use crate::config_admin::{self, Asked, Change};
use crate::configs::{Alteration, Operation};
use crate::context::RequestContext;
use crate::refusal;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: Request,
) -> Response {
    let asked = request.resources.into_iter().map(|resource| {
        let AlterConfigsResource { resource_type, resource_name: name, configs, .. } = resource;
        let set = |name, value| Alteration { name, operation: Operation::Set, value };
        let settings = configs.into_iter().map(|it| set(it.name, it.value)).collect();
        Asked { resource_type, name, change: Ok(Change::Replacement(settings)) }
    });
    let asked = asked.collect();
    let altered = config_admin::alter_all(broker, context, asked, request.validate_only).await;
    let responses = altered.into_iter().map(|(resource_type, resource_name, altered)| {
        let (error_code, error_message) = refusal::told(altered);
        AlterConfigsResourceResponse { error_code, error_message, resource_type, resource_name }
    });
    Response { responses: responses.collect(), ..Default::default() }
}
