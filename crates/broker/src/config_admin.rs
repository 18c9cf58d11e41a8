//! Changing the configs of a resource: finds it, checks the change, stores it.
//!
//! Owns: which resource a request speaks of, one request at a time. Does not own: what a change makes
//! of the settings (`configs::alter`), putting it into effect (`hosting`), the wire (`handlers`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cluster::{AclOperation, AclResource, GroupConfigsError};
use protocol::ErrorCode;

use crate::access::CLUSTER_NAME;
use crate::admin_rows::{self, CHANGES_AT_ONCE};
use crate::broker::Broker;
use crate::configs::{self, Alteration, BrokerScope, Properties};
use crate::context::RequestContext;
use crate::hosting;
use crate::refusal::{self, Refusal};

/// Kafka's `ConfigResource.Type`, by the wire's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ResourceKind {
    Topic,
    Broker,
    BrokerLogger,
    ClientMetrics,
    Group,
}

impl ResourceKind {
    pub(crate) const ALL: [ResourceKind; 5] = [
        ResourceKind::Topic,
        ResourceKind::Broker,
        ResourceKind::BrokerLogger,
        ResourceKind::ClientMetrics,
        ResourceKind::Group,
    ];

    pub(crate) fn wire_code(self) -> i8 {
        match self {
            ResourceKind::Topic => 2,
            ResourceKind::Broker => 4,
            ResourceKind::BrokerLogger => 8,
            ResourceKind::ClientMetrics => 16,
            ResourceKind::Group => 32,
        }
    }

    /// What ACLs for configs of that kind are about, by the name of the resource.
    fn of_acls(self, name: &str) -> (AclResource, &str) {
        match self {
            ResourceKind::Topic => (AclResource::Topic, name),
            ResourceKind::Group => (AclResource::Group, name),
            ResourceKind::Broker | ResourceKind::BrokerLogger | ResourceKind::ClientMetrics => {
                (AclResource::Cluster, CLUSTER_NAME)
            }
        }
    }

    pub(crate) fn from_wire(code: i8) -> Result<ResourceKind, Refusal> {
        match code {
            2 => Ok(ResourceKind::Topic),
            4 => Ok(ResourceKind::Broker),
            8 => Ok(ResourceKind::BrokerLogger),
            16 => Ok(ResourceKind::ClientMetrics),
            32 => Ok(ResourceKind::Group),
            other => Err(Refusal::new(
                ErrorCode::InvalidRequest,
                format!("Unsupported resource type: {other}"),
            )),
        }
    }
}

/// Refuses who may not do that with a resource's configs.
///
/// # Errors
/// The denial's code, by kind of resource; INVALID_REQUEST for an unknown kind.
pub(crate) fn authorize(
    context: &RequestContext,
    operation: AclOperation,
    resource_type: i8,
    name: &str,
) -> Result<(), Refusal> {
    let (resource, name) = ResourceKind::from_wire(resource_type)?.of_acls(name);
    if context.allows(operation, resource, name) {
        return Ok(());
    }
    Err(refusal::unauthorized(match resource {
        AclResource::Topic => ErrorCode::TopicAuthorizationFailed,
        AclResource::Group => ErrorCode::GroupAuthorizationFailed,
        _ => ErrorCode::ClusterAuthorizationFailed,
    }))
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// IncrementalAlterConfigs: each named config by itself (KIP-339).
    Incremental(Vec<Alteration>),
    /// AlterConfigs: these and no others.
    Replacement(Vec<Alteration>),
}

/// What a request asks of one resource, if that can be read.
#[derive(Debug)]
pub(crate) struct Asked {
    /// As it comes.
    pub(crate) resource_type: i8,
    pub(crate) name: String,
    pub(crate) change: Result<Change, Refusal>,
}

/// A resource by its number and name. A broker's name is a number, which has many spellings.
pub(crate) fn resource_key(resource_type: i8, name: &str) -> (i8, String) {
    match name.parse::<i32>() {
        Ok(id) if resource_type == ResourceKind::Broker.wire_code() => {
            (resource_type, id.to_string())
        }
        Ok(_) | Err(_) => (resource_type, name.to_owned()),
    }
}

/// Resources that one request names more than once: none of them is changed.
fn repeated_resources<'a>(
    resources: impl Iterator<Item = (i8, &'a str)>,
) -> BTreeSet<(i8, String)> {
    let mut seen = BTreeSet::new();
    let keys = resources.map(|(code, name)| resource_key(code, name));
    keys.filter(|it| !seen.insert(it.clone())).collect()
}

/// Makes the changes of one request, each resource by itself, and tells how that went, in their order. Other requests
/// wait meanwhile: what a change becomes depends on what was there.
pub(crate) async fn alter_all(
    broker: &Arc<Broker>,
    context: &RequestContext,
    asked: Vec<Asked>,
    validate_only: bool,
) -> Vec<(i8, String, Result<(), Refusal>)> {
    let repeated = repeated_resources(asked.iter().map(|it| (it.resource_type, it.name.as_str())));
    let deadline = admin_rows::untimed_deadline(broker);
    let one_request_at_a_time = broker.config.alteration.lock();
    let turn = admin_rows::until(broker, deadline, one_request_at_a_time).await;
    let altered = admin_rows::run(asked, CHANGES_AT_ONCE, |it| {
        let (repeated, has_turn) = (&repeated, turn.is_some());
        Box::pin(async move {
            let Asked { resource_type, name, change } = it;
            let altered = match change {
                _ if repeated.contains(&resource_key(resource_type, &name)) => {
                    let words = "Each resource must appear at most once.";
                    Err(Refusal::new(ErrorCode::InvalidRequest, words))
                }
                Err(refusal) => Err(refusal),
                Ok(_) if !has_turn => Err(admin_rows::late()),
                Ok(change) => {
                    let altering =
                        alter((broker, context), resource_type, &name, change, validate_only);
                    admin_rows::until(broker, deadline, altering)
                        .await
                        .unwrap_or_else(|| Err(admin_rows::late()))
                }
            };
            (resource_type, name, altered)
        })
    });
    altered.await
}

/// Checks a change and, unless it is a trial, makes it durable and puts it into effect.
async fn alter(
    (broker, context): (&Arc<Broker>, &RequestContext),
    resource_type: i8,
    name: &str,
    change: Change,
    validate_only: bool,
) -> Result<(), Refusal> {
    authorize(context, AclOperation::AlterConfigs, resource_type, name)?;
    let invalid = |message: &str| Err(Refusal::new(ErrorCode::InvalidRequest, message));
    match ResourceKind::from_wire(resource_type)? {
        ResourceKind::Topic => alter_topic(broker, name, &change, validate_only).await,
        ResourceKind::Broker => alter_brokers(broker, name, &change, validate_only).await,
        ResourceKind::BrokerLogger => {
            invalid("Log levels are set at the start of the broker, with --log or RUST_LOG.")
        }
        ResourceKind::ClientMetrics => invalid("Client metrics subscriptions are not served."),
        ResourceKind::Group => alter_group(broker, name, &change, validate_only).await,
    }
}

async fn alter_topic(
    broker: &Arc<Broker>,
    name: &str,
    change: &Change,
    validate_only: bool,
) -> Result<(), Refusal> {
    let topic = broker.view.topic(name).ok_or_else(|| no_such_topic(name))?;
    let layers = broker.config.layers();
    let altered = match change {
        Change::Incremental(changes) => configs::alter_topic(&topic.configs, changes, &layers)?,
        Change::Replacement(settings) => configs::replace_topic(settings, &layers)?,
    };
    let differences = differences(&topic.configs, altered);
    if !validate_only && !differences.is_empty() {
        broker.controller.alter_topic_configs(name, differences).await??;
    }
    Ok(())
}

async fn alter_group(
    broker: &Arc<Broker>,
    name: &str,
    change: &Change,
    validate_only: bool,
) -> Result<(), Refusal> {
    if name.is_empty() {
        let words = "Default group resources are not allowed.";
        return Err(Refusal::new(ErrorCode::InvalidRequest, words));
    }
    let current = broker.view.group_configs(name);
    let layers = broker.config.layers();
    let altered = match change {
        Change::Incremental(changes) => configs::alter_group(&current, changes, &layers)?,
        Change::Replacement(settings) => configs::replace_group(settings, &layers)?,
    };
    let differences = differences(&current, altered);
    if !validate_only && !differences.is_empty() {
        // Its coordinator asks for them at its next decision.
        let altered = broker.controller.alter_group_configs(name, differences).await?;
        altered.map_err(|error| {
            let code = match error {
                GroupConfigsError::TooMany { .. } => ErrorCode::PolicyViolation,
                GroupConfigsError::TooLong { .. } => ErrorCode::InvalidRequest,
            };
            Refusal::new(code, error.to_string())
        })?;
    }
    Ok(())
}

/// Why a topic has no configs: Kafka tells names that no topic can have from those that none has.
fn no_such_topic(name: &str) -> Refusal {
    match cluster::check_topic_name(name) {
        _ if name.is_empty() => {
            Refusal::new(ErrorCode::InvalidRequest, "Default topic resources are not allowed.")
        }
        Err(error) => Refusal::new(ErrorCode::InvalidTopicException, error.to_string()),
        Ok(()) => {
            let message = format!("The topic '{name}' does not exist.");
            Refusal::new(ErrorCode::UnknownTopicOrPartition, message)
        }
    }
}

async fn alter_brokers(
    broker: &Arc<Broker>,
    name: &str,
    change: &Change,
    validate_only: bool,
) -> Result<(), Refusal> {
    let whose = BrokerScope::of(name, broker.id)?;
    let scope = match whose {
        BrokerScope::Cluster => None,
        BrokerScope::This => Some(broker.id),
    };
    let current = broker.view.broker_configs(scope);
    let altered = match change {
        Change::Incremental(changes) => configs::alter_broker(&current, changes, whose)?,
        Change::Replacement(settings) => configs::replace_broker(settings, whose)?,
    };
    let differences = differences(&current, altered);
    if !validate_only && !differences.is_empty() {
        broker.controller.alter_broker_configs(scope, differences).await?;
    }
    if !validate_only {
        // Whoever follows the metadata does so too, but not before this is answered.
        hosting::follow_broker_configs(broker);
    }
    Ok(())
}

/// What to set and, as `None`, what to remove to get from one to the other.
fn differences(before: &Properties, after: Properties) -> BTreeMap<String, Option<String>> {
    let removed = before.keys().filter(|name| !after.contains_key(*name));
    let mut differences: BTreeMap<String, Option<String>> =
        removed.map(|name| (name.clone(), None)).collect();
    let set = after.into_iter().filter(|(name, value)| before.get(name) != Some(value));
    differences.extend(set.map(|(name, value)| (name, Some(value))));
    differences
}

#[cfg(test)]
mod tests {
    use vocabulary::BrokerId;

    use super::*;

    #[test]
    fn a_broker_answers_for_itself_and_the_defaults() {
        let scope = |name| BrokerScope::of(name, BrokerId(3)).map_err(|it| it.message);
        assert_eq!(scope(""), Ok(BrokerScope::Cluster));
        assert_eq!(scope("3"), Ok(BrokerScope::This));
        let other = "Unexpected broker id, expected 3 or empty string, but received 4";
        assert_eq!(scope("4"), Err(other.to_owned()));
        let word = "Broker id must be an integer, but it is: x";
        assert_eq!(scope("x"), Err(word.to_owned()));
    }

    #[test]
    fn only_what_changes_is_stored() {
        let properties = |pairs: &[(&str, &str)]| -> Properties {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let before = properties(&[("a", "1"), ("b", "2"), ("c", "3")]);
        let after = properties(&[("a", "1"), ("b", "9"), ("d", "4")]);
        let found: Vec<_> = differences(&before, after).into_iter().collect();
        assert_eq!(
            found,
            [
                ("b".to_owned(), Some("9".to_owned())),
                ("c".to_owned(), None),
                ("d".to_owned(), Some("4".to_owned())),
            ]
        );
    }

    #[test]
    fn names_that_no_topic_can_have_are_told_from_those_that_none_has() {
        assert_eq!(no_such_topic("").code, ErrorCode::InvalidRequest);
        assert_eq!(no_such_topic("a/b").code, ErrorCode::InvalidTopicException);
        assert_eq!(no_such_topic("a").code, ErrorCode::UnknownTopicOrPartition);
    }

    #[test]
    fn repeated_resources_are_found() {
        let named =
            [(2, "a"), (4, "a"), (2, "a"), (2, "b"), (4, "5"), (2, "5"), (2, "05"), (4, "05")];
        let found = repeated_resources(named.into_iter());
        let expected = [(2, "a".to_owned()), (4, "5".to_owned())];
        assert_eq!(found.into_iter().collect::<Vec<_>>(), expected);
    }
}
