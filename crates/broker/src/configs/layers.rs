//! Where a config's value comes from: the layers Kafka looks through, and what each one says.
//!
//! Owns: precedence, sources and synonyms as DescribeConfigs shows them (KIP-226).
//! Does not own: whether a value is legal (`alter`, `broker_config`); a stored value that no longer
//! parses is passed over, so a stricter release does not make a topic unreadable.

use std::collections::BTreeMap;

use super::catalogue::{self, TopicDefinition, Unit};
use super::definition::{Definition, Value};

/// Names and values as they were given.
pub type Properties = BTreeMap<String, String>;

/// The layers of broker configs, the strongest first: `broker`, `cluster`, `fixed`, defaults.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Layers {
    /// From the properties file and the command line.
    pub(crate) fixed: Properties,
    /// Dynamic, for all brokers: the resource "" of type broker.
    pub(crate) cluster: Properties,
    /// Dynamic, for this broker.
    pub(crate) broker: Properties,
}

/// Kafka's `ConfigSource`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Topic,
    DynamicBroker,
    DynamicDefaultBroker,
    StaticBroker,
    Default,
    Group,
}

impl Source {
    /// The number DescribeConfigs v1 and later answers with.
    pub(crate) fn wire_code(self) -> i8 {
        match self {
            Source::Topic => 1,
            Source::DynamicBroker => 2,
            Source::DynamicDefaultBroker => 3,
            Source::StaticBroker => 4,
            Source::Default => 5,
            Source::Group => 8,
        }
    }
}

/// One of the places a value could come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Synonym {
    pub(crate) name: &'static str,
    pub(crate) value: String,
    pub(crate) source: Source,
}

/// A config's value now. `synonyms` has every place that says something, the strongest first.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Effective {
    pub(crate) value: Option<Value>,
    pub(crate) source: Source,
    pub(crate) synonyms: Vec<Synonym>,
}

/// Broker configs that say the same thing in other units or by an older name, strongest first.
const FAMILIES: &[&[(&str, Unit)]] = &[
    &[
        ("log.retention.ms", Unit::Milliseconds),
        ("log.retention.minutes", Unit::Minutes),
        ("log.retention.hours", Unit::Hours),
    ],
    &[("log.roll.ms", Unit::Milliseconds), ("log.roll.hours", Unit::Hours)],
    &[("log.roll.jitter.ms", Unit::Milliseconds), ("log.roll.jitter.hours", Unit::Hours)],
    &[("log.flush.interval.ms", Unit::Same), ("log.flush.scheduler.interval.ms", Unit::Same)],
];

impl Layers {
    /// One broker config by its own name.
    pub(crate) fn broker_config(&self, definition: &'static Definition) -> Effective {
        let own = [(definition.name, Unit::Same)];
        let family = FAMILIES.iter().find(|it| it.iter().any(|(name, _)| *name == definition.name));
        let found = self.places(family.copied().unwrap_or(&own));
        // Synonyms tell the whole family; the value is what this very name says.
        let value = found.iter().find(|it| it.definition.name == definition.name);
        Effective {
            value: value.map(|it| it.value.clone()),
            source: found.first().map_or(Source::Default, |it| it.source),
            synonyms: found.iter().map(Place::synonym).collect(),
        }
    }

    /// One config of a topic or group whose own settings are `overrides`.
    pub(crate) fn resource_config(
        &self,
        definition: &'static TopicDefinition,
        overrides: &Properties,
        own: Source,
    ) -> Effective {
        let mut found = Vec::new();
        if let Some(text) = overrides.get(definition.definition.name)
            && let Ok(value) = definition.definition.parse(text)
        {
            let definition = &definition.definition;
            found.push(Place { definition, value, source: own, unit: Unit::Same });
        }
        found.extend(self.places(definition.fallbacks));
        let synonyms = found.iter().map(Place::synonym).collect();
        let source = found.first().map_or(Source::Default, |it| it.source);
        let value = found.into_iter().next().map(Place::converted);
        Effective { value: value.or(definition.definition.default_value()), source, synonyms }
    }

    /// Layer by layer, every name in order; defaults last, the first name that has one.
    fn places(&self, names: &[(&'static str, Unit)]) -> Vec<Place> {
        let mut found = Vec::new();
        let layers = [
            (&self.broker, Source::DynamicBroker),
            (&self.cluster, Source::DynamicDefaultBroker),
            (&self.fixed, Source::StaticBroker),
        ];
        let known = |name| catalogue::broker_config(name);
        for (layer, source) in layers {
            for (name, unit) in names {
                let Some((text, definition)) = layer.get(*name).zip(known(name)) else { continue };
                if let Ok(value) = definition.parse(text) {
                    found.push(Place { definition, value, source, unit: *unit });
                }
            }
        }
        let default = names.iter().find_map(|(name, unit)| {
            let definition = known(name)?;
            let value = definition.default_value()?;
            Some(Place { definition, value, source: Source::Default, unit: *unit })
        });
        found.extend(default);
        found
    }
}

struct Place {
    definition: &'static Definition,
    value: Value,
    source: Source,
    unit: Unit,
}

impl Place {
    fn synonym(&self) -> Synonym {
        Synonym { name: self.definition.name, value: self.value.to_string(), source: self.source }
    }

    fn converted(self) -> Value {
        match self.value {
            Value::Integer(number) => Value::Integer(self.unit.convert(number)),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configs::catalogue::topic_config;

    fn properties(pairs: &[(&str, &str)]) -> Properties {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[track_caller]
    fn check_retention(layers: &Layers, topic: &[(&str, &str)], value: i64, source: Source) {
        let definition = topic_config("retention.ms").expect("it exists");
        let found = layers.resource_config(definition, &properties(topic), Source::Topic);
        assert_eq!(found.value, Some(Value::Integer(value)));
        assert_eq!(found.source, source);
        assert_eq!(found.synonyms[0].source, source);
    }

    #[test]
    fn retention_comes_from_the_strongest_layer_and_the_most_precise_name() {
        let mut layers = Layers::default();
        check_retention(&layers, &[], 604_800_000, Source::Default);
        layers.fixed = properties(&[("log.retention.hours", "2")]);
        check_retention(&layers, &[], 7_200_000, Source::StaticBroker);
        layers.fixed.insert("log.retention.minutes".to_owned(), "3".to_owned());
        check_retention(&layers, &[], 180_000, Source::StaticBroker);
        layers.fixed.insert("log.retention.ms".to_owned(), "-1".to_owned());
        check_retention(&layers, &[], -1, Source::StaticBroker);
        layers.cluster = properties(&[("log.retention.ms", "5")]);
        check_retention(&layers, &[], 5, Source::DynamicDefaultBroker);
        layers.broker = properties(&[("log.retention.ms", "6")]);
        check_retention(&layers, &[], 6, Source::DynamicBroker);
        check_retention(&layers, &[("retention.ms", "7")], 7, Source::Topic);
        check_retention(&layers, &[("retention.ms", "garbage")], 6, Source::DynamicBroker);
    }

    #[test]
    fn synonyms_list_every_place_in_order() {
        let layers = Layers {
            fixed: properties(&[("log.retention.hours", "2")]),
            cluster: properties(&[("log.retention.ms", "5")]),
            broker: Properties::new(),
        };
        let definition = topic_config("retention.ms").expect("it exists");
        let found = layers.resource_config(
            definition,
            &properties(&[("retention.ms", "7")]),
            Source::Topic,
        );
        let places: Vec<_> =
            found.synonyms.iter().map(|it| (it.name, it.value.as_str(), it.source)).collect();
        assert_eq!(
            places,
            [
                ("retention.ms", "7", Source::Topic),
                ("log.retention.ms", "5", Source::DynamicDefaultBroker),
                ("log.retention.hours", "2", Source::StaticBroker),
                ("log.retention.hours", "168", Source::Default),
            ]
        );
    }

    #[test]
    fn a_broker_config_that_is_not_set_is_null_beside_its_family() {
        let definition = catalogue::broker_config("log.retention.ms").expect("it exists");
        let found = Layers::default().broker_config(definition);
        assert_eq!(found.value, None);
        assert_eq!(found.source, Source::Default);
        assert_eq!(found.synonyms[0].name, "log.retention.hours");
    }

    #[test]
    fn a_config_without_a_broker_side_still_has_its_default() {
        let definition = topic_config("remote.copy.lag.bytes").expect("it exists");
        let found =
            Layers::default().resource_config(definition, &Properties::new(), Source::Topic);
        assert_eq!(found.value, Some(Value::Integer(-1)));
        assert_eq!(found.synonyms, []);
    }
}
