//! Every config this broker knows: Kafka's names, and ours under `aquifer.`.
//!
//! Owns: the lists, lookup by name, names Kafka 4.0 removed, suggestions for unknown names.
//! Does not own: values (`layers`), typed results (`broker_config`, `topic_config`).
//!
//! Invariants, checked by tests: names are unique, every default parses and obeys its own rule,
//! every fallback of a topic or group config is a broker config whose default gives the same value,
//! every entry has words for people.

mod aquifer;
mod broker_groups;
mod broker_log;
mod broker_network;
mod broker_replication;
mod broker_security;
mod group;
mod topic;

use super::definition::{Definition, Kind};

pub(crate) use group::{GROUP_CONFIGS, GROUP_CONFIGS_IN_ORDER, GroupDefinition};
pub(crate) use topic::{REMOVED_TOPIC_CONFIGS, TOPIC_CONFIGS, TopicDefinition};

/// How a broker config's number becomes the topic config's milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Same,
    Milliseconds,
    Minutes,
    Hours,
}

impl Unit {
    /// The topic config's value. -1 means "no limit" in every unit.
    pub(super) fn convert(self, number: i64) -> i64 {
        let factor = match self {
            Unit::Same | Unit::Milliseconds => 1,
            Unit::Minutes => 60 * 1000,
            Unit::Hours => 60 * 60 * 1000,
        };
        if number < 0 { number } else { number.saturating_mul(factor) }
    }
}

/// Broker configs that Kafka 4.0 removed, with what to do instead.
pub(super) const REMOVED_BROKER_CONFIGS: &[(&str, &str)] = &[
    ("zookeeper.connect", "there is no ZooKeeper: remove it"),
    ("zookeeper.connection.timeout.ms", "there is no ZooKeeper: remove it"),
    ("zookeeper.session.timeout.ms", "there is no ZooKeeper: remove it"),
    ("zookeeper.set.acl", "there is no ZooKeeper: remove it"),
    ("zookeeper.max.in.flight.requests", "there is no ZooKeeper: remove it"),
    ("zookeeper.metadata.migration.enable", "there is no ZooKeeper: remove it"),
    ("broker.id.generation.enable", "set node.id"),
    ("reserved.broker.max.id", "set node.id"),
    ("control.plane.listener.name", "remove it"),
    ("inter.broker.protocol.version", "remove it: the protocol is negotiated"),
    ("log.message.format.version", "remove it: there is one message format"),
    ("log.message.downconversion.enable", "remove it: nothing is converted down"),
    (
        "log.message.timestamp.difference.max.ms",
        "use log.message.timestamp.before.max.ms and log.message.timestamp.after.max.ms",
    ),
    ("offsets.commit.required.acks", "remove it: every commit is durable when acknowledged"),
    ("quota.producer.default", "remove it"),
    ("quota.consumer.default", "remove it"),
    ("host.name", "use listeners"),
    ("port", "use listeners"),
    ("advertised.host.name", "use advertised.listeners"),
    ("advertised.port", "use advertised.listeners"),
    ("group.coordinator.new.enable", "remove it"),
    ("delegation.token.master.key", "use delegation.token.secret.key"),
];

/// All broker configs, in no order.
pub(crate) fn broker_configs() -> impl Iterator<Item = &'static Definition> {
    [
        aquifer::CONFIGS,
        broker_groups::CONFIGS,
        broker_log::CONFIGS,
        broker_network::CONFIGS,
        broker_replication::CONFIGS,
        broker_security::CONFIGS,
    ]
    .into_iter()
    .flatten()
}

pub(crate) fn broker_config(name: &str) -> Option<&'static Definition> {
    broker_configs().find(|it| it.name == name)
}

pub(crate) fn topic_config(name: &str) -> Option<&'static TopicDefinition> {
    TOPIC_CONFIGS.iter().find(|it| it.definition.name == name)
}

pub(crate) fn group_config(name: &str) -> Option<&'static GroupDefinition> {
    GROUP_CONFIGS.iter().find(|it| it.config.definition.name == name)
}

/// The known name an unknown one was probably meant to be.
pub(super) fn suggestion<'a>(
    unknown: &str,
    known: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    const LIKENESS_MIN: f64 = 0.8;
    let score = |name: &'a str| (strsim::normalized_damerau_levenshtein(unknown, name), name);
    known
        .map(score)
        .filter(|(likeness, _)| LIKENESS_MIN <= *likeness)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

const fn given(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    doc: &'static str,
) -> Definition {
    Definition::new(name, kind, Some(default), doc)
}

const fn boolean(name: &'static str, default: &'static str, doc: &'static str) -> Definition {
    given(name, Kind::Boolean, default, doc)
}

const fn int(name: &'static str, default: &'static str, doc: &'static str) -> Definition {
    given(name, Kind::Int, default, doc)
}

const fn short(name: &'static str, default: &'static str, doc: &'static str) -> Definition {
    given(name, Kind::Short, default, doc)
}

const fn long(name: &'static str, default: &'static str, doc: &'static str) -> Definition {
    given(name, Kind::Long, default, doc)
}

const fn double(name: &'static str, default: &'static str, doc: &'static str) -> Definition {
    given(name, Kind::Double, default, doc)
}

const fn text(name: &'static str, default: &'static str, doc: &'static str) -> Definition {
    given(name, Kind::String, default, doc)
}

const fn list(name: &'static str, default: &'static str, doc: &'static str) -> Definition {
    given(name, Kind::List, default, doc)
}

const fn unset(name: &'static str, kind: Kind, doc: &'static str) -> Definition {
    Definition::new(name, kind, None, doc)
}

const fn password(name: &'static str, doc: &'static str) -> Definition {
    Definition::new(name, Kind::Password, None, doc)
}

#[cfg(test)]
mod against_kafka;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::configs::definition::{Effect, Value};

    fn resource_configs() -> impl Iterator<Item = &'static TopicDefinition> {
        TOPIC_CONFIGS.iter().chain(GROUP_CONFIGS.iter().map(|it| &it.config))
    }

    #[test]
    fn every_default_obeys_its_own_rule_and_every_entry_has_words() {
        let resources = resource_configs().map(|it| &it.definition);
        for definition in broker_configs().chain(resources) {
            if let Some(default) = definition.default {
                let parsed = definition.parse(default);
                assert!(parsed.is_ok(), "{}: {parsed:?}", definition.name);
            }
            assert!(5 < definition.doc.len(), "{} has no words", definition.name);
            if let Effect::Ignored(reason) | Effect::Refused(reason) = definition.effect {
                assert!(5 < reason.len(), "{} has no reason", definition.name);
            }
        }
    }

    #[test]
    fn names_are_unique_and_lists_for_clients_are_sorted() {
        let names: Vec<&str> = broker_configs().map(|it| it.name).collect();
        let unique: BTreeSet<&str> = names.iter().copied().collect();
        assert_eq!(names.len(), unique.len());
        let names = |it: &TopicDefinition| it.definition.name;
        assert!(TOPIC_CONFIGS.is_sorted_by(|a, b| names(a) < names(b)));
        assert!(GROUP_CONFIGS.is_sorted_by(|a, b| names(&a.config) < names(&b.config)));
        for (removed, _) in REMOVED_BROKER_CONFIGS {
            assert!(!unique.contains(removed), "{removed} is both known and removed");
        }
    }

    #[test]
    fn fallbacks_are_broker_configs_with_the_same_default_and_kind() {
        for topic in resource_configs() {
            let mut defaults = Vec::new();
            for (name, unit) in topic.fallbacks {
                let broker = broker_config(name).unwrap_or_else(|| panic!("{name} is unknown"));
                if let Some(value) = broker.default_value() {
                    defaults.push(match value {
                        Value::Integer(number) => Value::Integer(unit.convert(number)),
                        other => other,
                    });
                }
            }
            let expected = topic.definition.default_value();
            assert!(
                defaults.iter().all(|it| Some(it) == expected.as_ref()),
                "{}: {defaults:?} is not {expected:?}",
                topic.definition.name
            );
        }
    }

    #[test]
    fn an_unknown_name_gets_a_suggestion_only_when_one_is_close() {
        let names = || broker_configs().map(|it| it.name);
        assert_eq!(suggestion("num.partition", names()), Some("num.partitions"));
        assert_eq!(suggestion("log.retention.hour", names()), Some("log.retention.hours"));
        assert_eq!(suggestion("colour.of.the.sky", names()), None);
    }
}
