//! The rows of a DescribeConfigs answer, before they are put on the wire.
//!
//! Owns: which configs a resource shows and what each row says. Does not own: the wire's fields
//! (`handlers::describe_configs`).

use super::catalogue::{self, GROUP_CONFIGS, TOPIC_CONFIGS, TopicDefinition};
use super::definition::{Definition, Effect, Kind, Update};
use super::layers::{Effective, Layers, Properties, Source, Synonym};

/// One config of one resource.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DescribedConfig {
    pub(crate) name: &'static str,
    /// `None`: not set, or not to be shown.
    pub(crate) value: Option<String>,
    pub(crate) read_only: bool,
    pub(crate) sensitive: bool,
    pub(crate) source: Source,
    pub(crate) synonyms: Vec<Synonym>,
    pub(crate) kind: Kind,
    /// Ends with why it has no effect here, where it has none.
    pub(crate) documentation: String,
}

/// Every config of a topic with these settings of its own, by name.
pub(crate) fn describe_topic(overrides: &Properties, layers: &Layers) -> Vec<DescribedConfig> {
    resource_rows(TOPIC_CONFIGS.iter(), overrides, layers, Source::Topic)
}

/// Every config of a group with these settings of its own, by name.
pub(crate) fn describe_group(overrides: &Properties, layers: &Layers) -> Vec<DescribedConfig> {
    resource_rows(GROUP_CONFIGS.iter().map(|it| &it.config), overrides, layers, Source::Group)
}

/// Every config of this broker, by name.
pub(crate) fn describe_broker(layers: &Layers) -> Vec<DescribedConfig> {
    let mut rows: Vec<_> = catalogue::broker_configs()
        .map(|it| row(it, layers.broker_config(it), it.update == Update::ReadOnly))
        .collect();
    rows.sort_unstable_by_key(|it| it.name);
    rows
}

/// What was set for all brokers, by name: Kafka shows nothing else for the resource "".
pub(crate) fn describe_cluster_defaults(layers: &Layers) -> Vec<DescribedConfig> {
    let only = Layers { cluster: layers.cluster.clone(), ..Layers::default() };
    let set = only.cluster.keys().filter_map(|name| catalogue::broker_config(name));
    set.map(|it| row(it, only.broker_config(it), it.update == Update::ReadOnly)).collect()
}

fn resource_rows(
    definitions: impl Iterator<Item = &'static TopicDefinition>,
    overrides: &Properties,
    layers: &Layers,
    own: Source,
) -> Vec<DescribedConfig> {
    definitions
        .map(|it| row(&it.definition, layers.resource_config(it, overrides, own), false))
        .collect()
}

fn row(definition: &Definition, effective: Effective, read_only: bool) -> DescribedConfig {
    let documentation = match definition.effect {
        Effect::Applied => definition.doc.to_owned(),
        Effect::Ignored(reason) => format!("{} Without effect: {reason}.", definition.doc),
        Effect::Refused(reason) => format!("{} Cannot be set: {reason}.", definition.doc),
    };
    DescribedConfig {
        name: definition.name,
        value: effective.value.map(|it| it.to_string()).filter(|_| !definition.sensitive),
        read_only,
        sensitive: definition.sensitive,
        source: effective.source,
        synonyms: effective.synonyms,
        kind: definition.kind,
        documentation,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties(pairs: &[(&str, &str)]) -> Properties {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn find<'a>(rows: &'a [DescribedConfig], name: &str) -> &'a DescribedConfig {
        rows.iter().find(|it| it.name == name).unwrap_or_else(|| panic!("{name} is missing"))
    }

    #[test]
    fn a_topic_shows_every_config_with_value_and_source() {
        let layers =
            Layers { fixed: properties(&[("log.retention.hours", "1")]), ..Layers::default() };
        let rows = describe_topic(&properties(&[("cleanup.policy", "compact , delete")]), &layers);
        assert_eq!(rows.len(), TOPIC_CONFIGS.len());
        assert!(rows.iter().all(|it| it.value.is_some() && !it.read_only));
        let policy = find(&rows, "cleanup.policy");
        assert_eq!(policy.value.as_deref(), Some("compact,delete"));
        assert_eq!((policy.source, policy.kind), (Source::Topic, Kind::List));
        let retention = find(&rows, "retention.ms");
        assert_eq!(retention.value.as_deref(), Some("3600000"));
        assert_eq!(retention.source, Source::StaticBroker);
        assert_eq!(find(&rows, "min.cleanable.dirty.ratio").value.as_deref(), Some("0.5"));
    }

    #[test]
    fn a_broker_shows_what_clients_probe_and_hides_secrets() {
        let layers = Layers {
            fixed: properties(&[("num.partitions", "4"), ("ssl.key.password", "hunter2")]),
            ..Layers::default()
        };
        let rows = describe_broker(&layers);
        assert!(rows.is_sorted_by_key(|it| it.name));
        let partitions = find(&rows, "num.partitions");
        assert_eq!(partitions.value.as_deref(), Some("4"));
        assert!(partitions.read_only);
        assert!(!find(&rows, "log.retention.ms").read_only);
        let secret = find(&rows, "ssl.key.password");
        assert_eq!((secret.value.as_deref(), secret.sensitive), (None, true));
        for probed in [
            "auto.create.topics.enable",
            "authorizer.class.name",
            "broker.rack",
            "compression.type",
            "default.replication.factor",
            "delete.topic.enable",
            "listeners",
            "log.cleanup.policy",
            "message.max.bytes",
            "min.insync.replicas",
            "offsets.retention.minutes",
            "super.users",
            "transaction.max.timeout.ms",
            "unclean.leader.election.enable",
        ] {
            find(&rows, probed);
        }
    }

    #[test]
    fn the_cluster_shows_only_what_was_set_for_all_brokers() {
        let layers = Layers {
            fixed: properties(&[("num.partitions", "4")]),
            cluster: properties(&[("log.retention.ms", "9")]),
            ..Layers::default()
        };
        let rows = describe_cluster_defaults(&layers);
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].value.as_deref(), Some("9"));
        assert_eq!(rows[0].source, Source::DynamicDefaultBroker);
    }

    #[test]
    fn a_group_shows_where_each_value_comes_from() {
        let layers = Layers {
            fixed: properties(&[("group.consumer.heartbeat.interval.ms", "6000")]),
            ..Layers::default()
        };
        let rows =
            describe_group(&properties(&[("consumer.session.timeout.ms", "50000")]), &layers);
        let session = find(&rows, "consumer.session.timeout.ms");
        assert_eq!((session.value.as_deref(), session.source), (Some("50000"), Source::Group));
        let places: Vec<_> = session.synonyms.iter().map(|it| (it.name, it.source)).collect();
        let default = ("group.consumer.session.timeout.ms", Source::Default);
        assert_eq!(places, [("consumer.session.timeout.ms", Source::Group), default]);
        let beats = find(&rows, "consumer.heartbeat.interval.ms");
        assert_eq!((beats.value.as_deref(), beats.source), (Some("6000"), Source::StaticBroker));
    }

    #[test]
    fn a_setting_without_effect_says_so() {
        let rows = describe_topic(&Properties::new(), &Layers::default());
        let words = &find(&rows, "min.insync.replicas").documentation;
        assert!(words.contains("Without effect: "), "{words}");
    }
}
