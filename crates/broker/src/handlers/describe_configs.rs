//! DescribeConfigs (key 32): every config of a resource, with where its value comes from (KIP-226).
//!
//! A resource has one row, however often it is named: its configs are a thousand times as large as its name. Kafka has
//! a row for each time; clients do not name one twice.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cluster::AclOperation;
use protocol::ErrorCode;
use protocol::messages::describe_configs::request::DescribeConfigsResource;
use protocol::messages::describe_configs::response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use protocol::messages::describe_configs::{Request, Response};

use crate::broker::Broker;
use crate::config_admin::{self, ResourceKind};
use crate::configs::{self, BrokerScope, DescribedConfig};
use crate::context::RequestContext;
use crate::refusal::Refusal;

/// Groups that one request may ask for: every name is one, of groups that do not exist, too. Their configs with
/// documentation are some 10 KiB each.
const GROUPS_MAX: usize = 10_000;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: Request,
) -> Response {
    let shown =
        Shown { synonyms: request.include_synonyms, documentation: request.include_documentation };
    let mut groups = 0;
    let results = once(request.resources).into_iter().map(|resource| {
        let (kind, name) = (resource.resource_type, &resource.resource_name);
        groups += usize::from(kind == ResourceKind::Group.wire_code());
        let allowed = config_admin::authorize(context, AclOperation::DescribeConfigs, kind, name);
        let described = allowed.and_then(|()| match groups {
            ..=GROUPS_MAX => describe(broker, kind, name),
            _ if kind == ResourceKind::Group.wire_code() => Err(too_many_groups()),
            _ => describe(broker, kind, name),
        });
        result(resource, described, shown)
    });
    Response { results: results.collect(), ..Default::default() }
}

/// Each resource once, in the order of their first naming, with the configs that are asked for anywhere.
fn once(resources: Vec<DescribeConfigsResource>) -> Vec<DescribeConfigsResource> {
    let mut places = BTreeMap::new();
    let mut named: Vec<DescribeConfigsResource> = Vec::with_capacity(resources.len());
    for resource in resources {
        let key = config_admin::resource_key(resource.resource_type, &resource.resource_name);
        match places.entry(key) {
            Entry::Vacant(place) => {
                place.insert(named.len());
                named.push(resource);
            }
            Entry::Occupied(place) => {
                let first = &mut named[*place.get()].configuration_keys;
                // No list and an empty list both ask for everything.
                let keys = resource.configuration_keys.filter(|it| !it.is_empty());
                *first =
                    first.take().filter(|it| !it.is_empty()).zip(keys).map(|(mut all, more)| {
                        all.extend(more);
                        all
                    });
            }
        }
    }
    named
}

fn too_many_groups() -> Refusal {
    let message = format!("The configs of {GROUPS_MAX} groups at most are described at once.");
    Refusal::new(ErrorCode::PolicyViolation, message)
}

/// What the request wants beside values.
#[derive(Debug, Clone, Copy)]
struct Shown {
    synonyms: bool,
    documentation: bool,
}

fn describe(
    broker: &Broker,
    resource_type: i8,
    name: &str,
) -> Result<Vec<DescribedConfig>, Refusal> {
    let layers = broker.config.layers();
    let invalid = |message: &str| Err(Refusal::new(ErrorCode::InvalidRequest, message));
    match ResourceKind::from_wire(resource_type)? {
        ResourceKind::Topic => {
            let topic = broker.view.topic(name).ok_or_else(|| unknown_topic(name))?;
            Ok(configs::describe_topic(&topic.configs, &layers))
        }
        ResourceKind::Broker => Ok(match BrokerScope::of(name, broker.id)? {
            BrokerScope::Cluster => configs::describe_cluster_defaults(&layers),
            BrokerScope::This => configs::describe_broker(&layers),
        }),
        ResourceKind::BrokerLogger => {
            invalid("Log levels are set at the start of the broker, with --log or RUST_LOG.")
        }
        ResourceKind::ClientMetrics if name.is_empty() => {
            invalid("Client metrics subscription name must not be empty")
        }
        // No subscription exists, and none can be made.
        ResourceKind::ClientMetrics => Ok(Vec::new()),
        ResourceKind::Group if name.is_empty() => invalid("Group name must not be empty"),
        ResourceKind::Group => {
            Ok(configs::describe_group(&broker.view.group_configs(name), &layers))
        }
    }
}

fn unknown_topic(name: &str) -> Refusal {
    match cluster::check_topic_name(name) {
        Ok(()) => {
            let words = "This server does not host this topic-partition.";
            Refusal::new(ErrorCode::UnknownTopicOrPartition, words)
        }
        Err(error) => Refusal::new(ErrorCode::InvalidTopicException, error.to_string()),
    }
}

fn result(
    resource: DescribeConfigsResource,
    described: Result<Vec<DescribedConfig>, Refusal>,
    shown: Shown,
) -> DescribeConfigsResult {
    let (code, error_message, described) = match described {
        Ok(described) => (ErrorCode::None, None, described),
        Err(Refusal { code, message }) => (code, Some(message), Vec::new()),
    };
    // No list and an empty list both ask for everything.
    let keys = resource.configuration_keys.filter(|it| !it.is_empty());
    let keys = keys.map(|it| it.into_iter().collect::<BTreeSet<String>>());
    let wanted = |it: &DescribedConfig| keys.as_ref().is_none_or(|keys| keys.contains(it.name));
    DescribeConfigsResult {
        error_code: code.code(),
        error_message,
        resource_type: resource.resource_type,
        resource_name: resource.resource_name,
        configs: described.into_iter().filter(wanted).map(|it| row(it, shown)).collect(),
    }
}

fn row(config: DescribedConfig, shown: Shown) -> DescribeConfigsResourceResult {
    let sensitive = config.sensitive;
    let synonym = |it: configs::Synonym| DescribeConfigsSynonym {
        name: it.name.to_owned(),
        value: Some(it.value).filter(|_| !sensitive),
        source: it.source.wire_code(),
    };
    let synonyms = if shown.synonyms { config.synonyms } else { Vec::new() };
    DescribeConfigsResourceResult {
        name: config.name.to_owned(),
        value: config.value,
        read_only: config.read_only,
        config_source: config.source.wire_code(),
        is_sensitive: sensitive,
        synonyms: synonyms.into_iter().map(synonym).collect(),
        config_type: config.kind.wire_code(),
        documentation: Some(config.documentation).filter(|_| shown.documentation),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configs::BrokerConfig;

    fn rows(keys: Option<&[&str]>, shown: Shown) -> Vec<DescribeConfigsResourceResult> {
        let given = [("ssl.key.password".to_owned(), String::new())].into_iter().collect();
        let config = BrokerConfig::resolve(&given, None).expect("it resolves");
        let resource = DescribeConfigsResource {
            resource_type: 4,
            configuration_keys: keys.map(|it| it.iter().map(|key| (*key).to_owned()).collect()),
            ..Default::default()
        };
        result(resource, Ok(configs::describe_broker(&config.layers())), shown).configs
    }

    const ALL: Shown = Shown { synonyms: true, documentation: true };
    const VALUES: Shown = Shown { synonyms: false, documentation: false };

    #[test]
    fn a_resource_is_described_once_with_all_that_is_asked_of_it() {
        let resource = |resource_type, name: &str, keys: Option<&[&str]>| DescribeConfigsResource {
            resource_type,
            resource_name: name.to_owned(),
            configuration_keys: keys.map(|it| it.iter().map(|key| (*key).to_owned()).collect()),
        };
        let (topic, broker) = (2, 4);
        let asked = [
            resource(topic, "5", Some(&["a"])),
            resource(broker, "5", Some(&["a"])),
            resource(topic, "05", None),
            resource(broker, "05", None),
            resource(topic, "5", Some(&["b", "a"])),
            resource(broker, "", Some(&["c"])),
            resource(broker, "+5", Some(&["b"])),
            resource(broker, "", Some(&[])),
        ];
        let expected = [
            resource(topic, "5", Some(&["a", "b", "a"])),
            resource(broker, "5", None),
            resource(topic, "05", None),
            resource(broker, "", None),
        ];
        assert_eq!(once(asked.to_vec()), expected);
    }

    #[test]
    fn keys_choose_what_is_answered() {
        let everything = rows(None, VALUES).len();
        assert!(200 < everything);
        assert_eq!(rows(Some(&[]), VALUES).len(), everything);
        let chosen = rows(Some(&["num.partitions", "no.such"]), VALUES);
        assert_eq!(chosen.len(), 1);
        assert_eq!(chosen[0].value.as_deref(), Some("1"));
        assert_eq!((chosen[0].config_source, chosen[0].config_type), (5, 3));
    }

    #[test]
    fn synonyms_and_words_come_when_asked_for() {
        let keys = Some(&["num.partitions"][..]);
        let short = &rows(keys, VALUES)[0];
        assert_eq!((short.synonyms.len(), &short.documentation), (0, &None));
        let long = &rows(keys, ALL)[0];
        assert_eq!(long.synonyms[0].name, "num.partitions");
        assert!(long.documentation.is_some());
    }

    #[test]
    fn secrets_stay_secret_in_synonyms_too() {
        let row = &rows(Some(&["ssl.key.password"]), ALL)[0];
        assert!(row.is_sensitive && row.value.is_none());
        assert!(row.synonyms.iter().all(|it| it.value.is_none()));
    }

    #[test]
    fn a_refused_resource_keeps_its_place() {
        let resource = DescribeConfigsResource {
            resource_type: 2,
            resource_name: "t".to_owned(),
            ..Default::default()
        };
        let refused = result(resource, Err(unknown_topic("t")), ALL);
        assert_eq!(refused.error_code, ErrorCode::UnknownTopicOrPartition.code());
        assert_eq!((refused.resource_type, refused.resource_name.as_str()), (2, "t"));
        assert_eq!(unknown_topic("not a name").code, ErrorCode::InvalidTopicException);
    }
}
