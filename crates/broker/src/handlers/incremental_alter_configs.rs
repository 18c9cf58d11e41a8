//! IncrementalAlterConfigs (key 44): SET, DELETE, APPEND and SUBTRACT (KIP-339). A resource is
//! changed as a whole or not at all.

use std::sync::Arc;

use protocol::ErrorCode;
use protocol::messages::incremental_alter_configs::request::AlterConfigsResource;
use protocol::messages::incremental_alter_configs::response::AlterConfigsResourceResponse;
use protocol::messages::incremental_alter_configs::{Request, Response};

use crate::broker::Broker;
use crate::config_admin::{self, Asked, Change};
use crate::configs::{Alteration, Operation};
use crate::context::RequestContext;
use crate::refusal::{self, Refusal};

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: Request,
) -> Response {
    let asked = request.resources.into_iter().map(|resource| Asked {
        change: alterations(&resource).map(Change::Incremental),
        resource_type: resource.resource_type,
        name: resource.resource_name,
    });
    let asked = asked.collect();
    let altered = config_admin::alter_all(broker, context, asked, request.validate_only).await;
    let responses = altered.into_iter().map(|(resource_type, resource_name, altered)| {
        let (error_code, error_message) = refusal::told(altered);
        AlterConfigsResourceResponse { error_code, error_message, resource_type, resource_name }
    });
    Response { responses: responses.collect(), ..Default::default() }
}

fn alterations(resource: &AlterConfigsResource) -> Result<Vec<Alteration>, Refusal> {
    let alteration = |code: i8, name: &str, value: Option<&String>| {
        let operation = Operation::from_wire(code).ok_or_else(|| {
            let message = format!("Unknown operation type {code} for config {name}");
            Refusal::new(ErrorCode::InvalidRequest, message)
        })?;
        Ok(Alteration { name: name.to_owned(), operation, value: value.cloned() })
    };
    let configs = resource.configs.iter();
    configs.map(|it| alteration(it.config_operation, &it.name, it.value.as_ref())).collect()
}

#[cfg(test)]
mod tests {
    use protocol::messages::incremental_alter_configs::request::AlterableConfig;

    use super::*;

    #[test]
    fn operations_are_read_from_the_wire() {
        let resource = |code| AlterConfigsResource {
            configs: vec![AlterableConfig {
                name: "cleanup.policy".to_owned(),
                config_operation: code,
                value: Some("compact".to_owned()),
            }],
            ..Default::default()
        };
        let operation = |code| alterations(&resource(code)).map(|it| it[0].operation);
        assert_eq!(operation(0), Ok(Operation::Set));
        assert_eq!(operation(1), Ok(Operation::Delete));
        assert_eq!(operation(2), Ok(Operation::Append));
        assert_eq!(operation(3), Ok(Operation::Subtract));
        assert_eq!(operation(4).map_err(|it| it.code), Err(ErrorCode::InvalidRequest));
    }
}
