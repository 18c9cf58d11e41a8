//! Changing the settings of a topic, of a group or of brokers: old settings and a request in, new settings out.
//!
//! Owns: which brokers are meant, the four operations of KIP-339, full replacement, Kafka's refusals and their codes.
//! Does not own: storing the result (`cluster`), reading requests (`handlers`).

use std::collections::BTreeSet;

use protocol::ErrorCode;
use vocabulary::BrokerId;

use super::catalogue;
use super::definition::{Definition, Effect, Kind, Update, Value};
use super::group_config::validate_group_configs;
use super::layers::{Layers, Properties};
use super::topic_config::validate_topic_configs;
use crate::refusal::Refusal;

/// The longest value that is stored, in bytes, as in Kafka: a longer one has no place in an answer.
const VALUE_BYTES_MAX: usize = 32_767;

/// Which brokers a resource of type broker speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BrokerScope {
    /// The name "": the default of all.
    Cluster,
    /// This broker, by its id.
    This,
}

impl BrokerScope {
    /// A broker answers for itself and for the defaults, never for another.
    pub(crate) fn of(name: &str, this: BrokerId) -> Result<BrokerScope, Refusal> {
        let refuse = |message| Err(Refusal::new(ErrorCode::InvalidRequest, message));
        match name.parse::<i32>() {
            _ if name.is_empty() => Ok(BrokerScope::Cluster),
            Ok(id) if id == this.0 => Ok(BrokerScope::This),
            Ok(id) => refuse(format!(
                "Unexpected broker id, expected {this} or empty string, but received {id}"
            )),
            Err(_) => refuse(format!("Broker id must be an integer, but it is: {name}")),
        }
    }
}

/// Kafka's `AlterConfigOp.OpType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Set,
    Delete,
    Append,
    Subtract,
}

impl Operation {
    pub(crate) fn from_wire(code: i8) -> Option<Operation> {
        match code {
            0 => Some(Operation::Set),
            1 => Some(Operation::Delete),
            2 => Some(Operation::Append),
            3 => Some(Operation::Subtract),
            _ => None,
        }
    }
}

/// One change of one config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Alteration {
    pub(crate) name: String,
    pub(crate) operation: Operation,
    /// `None` is the wire's null; only a deletion may have it.
    pub(crate) value: Option<String>,
}

/// A topic's settings after an IncrementalAlterConfigs.
pub(crate) fn alter_topic(
    current: &Properties,
    alterations: &[Alteration],
    layers: &Layers,
) -> Result<Properties, Refusal> {
    let find = |name: &str| catalogue::topic_config(name).map(|it| &it.definition);
    let altered = apply(current, alterations, find)?;
    check_topic(&altered, layers)?;
    Ok(altered)
}

/// A topic's settings after an AlterConfigs, which replaces all of them.
pub(crate) fn replace_topic(
    replacement: &[Alteration],
    layers: &Layers,
) -> Result<Properties, Refusal> {
    let altered = apply(&Properties::new(), replacement, |_| None)?;
    check_topic(&altered, layers)?;
    Ok(altered)
}

/// Settings for a topic about to be created.
pub(crate) fn check_topic(settings: &Properties, layers: &Layers) -> Result<(), Refusal> {
    validate_topic_configs(settings, layers)
        .map_err(|problem| Refusal::new(ErrorCode::InvalidConfig, problem.0))
}

/// A group's settings after an IncrementalAlterConfigs.
pub(crate) fn alter_group(
    current: &Properties,
    alterations: &[Alteration],
    layers: &Layers,
) -> Result<Properties, Refusal> {
    let find = |name: &str| catalogue::group_config(name).map(|it| &it.config.definition);
    let altered = apply(current, alterations, find)?;
    check_group(&altered, layers)?;
    Ok(altered)
}

/// A group's settings after an AlterConfigs, which replaces all of them.
pub(crate) fn replace_group(
    replacement: &[Alteration],
    layers: &Layers,
) -> Result<Properties, Refusal> {
    let altered = apply(&Properties::new(), replacement, |_| None)?;
    check_group(&altered, layers)?;
    Ok(altered)
}

fn check_group(settings: &Properties, layers: &Layers) -> Result<(), Refusal> {
    validate_group_configs(settings, layers)
        .map_err(|problem| Refusal::new(ErrorCode::InvalidConfig, problem.0))
}

/// The dynamic settings of brokers after an IncrementalAlterConfigs.
pub(crate) fn alter_broker(
    current: &Properties,
    alterations: &[Alteration],
    scope: BrokerScope,
) -> Result<Properties, Refusal> {
    let altered = apply(current, alterations, catalogue::broker_config)?;
    check_broker(&altered, scope)?;
    Ok(altered)
}

/// The dynamic settings of brokers after an AlterConfigs, which replaces all of them.
pub(crate) fn replace_broker(
    replacement: &[Alteration],
    scope: BrokerScope,
) -> Result<Properties, Refusal> {
    let altered = apply(&Properties::new(), replacement, |_| None)?;
    check_broker(&altered, scope)?;
    Ok(altered)
}

/// Kafka refuses these with INVALID_REQUEST, where topics get INVALID_CONFIG.
fn check_broker(settings: &Properties, scope: BrokerScope) -> Result<(), Refusal> {
    let refuse = |message: String| Err(Refusal::new(ErrorCode::InvalidRequest, message));
    let names_of = |update: Update| {
        // Of a name that is not known nothing may be changed.
        let of = |name: &&String| {
            catalogue::broker_config(name).map_or(Update::ReadOnly, |it| it.update) == update
        };
        settings.keys().filter(of).map(String::as_str).collect::<Vec<_>>().join(", ")
    };
    let fixed = names_of(Update::ReadOnly);
    if !fixed.is_empty() {
        return refuse(format!("Cannot update these configs dynamically: Set({fixed})"));
    }
    let own = names_of(Update::PerBroker);
    if !own.is_empty() && scope == BrokerScope::Cluster {
        return refuse(format!(
            "Cannot update these configs at default cluster level, broker id must be specified: \
             [{own}]"
        ));
    }
    for (name, text) in settings {
        let Some(definition) = catalogue::broker_config(name) else { continue };
        let value = match definition.parse(text) {
            Ok(value) => value,
            Err(problem) => return refuse(problem.0),
        };
        if let Effect::Refused(reason) = definition.effect {
            return refuse(format!("{name}: {reason}"));
        }
        if name == "log.retention.ms" && value == Value::Integer(0) {
            return refuse(
                "log.retention.ms must be unlimited (-1) or, equal or greater than 1".to_owned(),
            );
        }
    }
    Ok(())
}

fn apply<'a>(
    current: &Properties,
    alterations: &[Alteration],
    find: impl Fn(&str) -> Option<&'a Definition>,
) -> Result<Properties, Refusal> {
    let refuse = |message: String| Refusal::new(ErrorCode::InvalidRequest, message);
    let mut seen = BTreeSet::new();
    if !alterations.iter().all(|it| seen.insert(it.name.as_str())) {
        return Err(refuse("Error due to duplicate config keys".to_owned()));
    }
    let mut altered = current.clone();
    for alteration in alterations {
        let Alteration { name, operation, value } = alteration;
        if *operation == Operation::Delete {
            altered.remove(name);
            continue;
        }
        let value = value
            .as_deref()
            .ok_or_else(|| refuse(format!("Null value not supported for : {name}")))?;
        let new = match operation {
            Operation::Set | Operation::Delete => value.to_owned(),
            Operation::Append | Operation::Subtract => {
                let definition = find(name).filter(|it| it.kind == Kind::List);
                let definition = definition.ok_or_else(|| not_a_list(name, *operation))?;
                let members = altered.get(name).map(String::as_str).or(definition.default);
                change_list(members.unwrap_or(""), value, *operation)
            }
        };
        if VALUE_BYTES_MAX < new.len() {
            let words = "The configuration value cannot be added because it exceeds the maximum value size of";
            let message = format!("{words} {VALUE_BYTES_MAX} bytes.");
            return Err(Refusal::new(ErrorCode::InvalidConfig, message));
        }
        altered.insert(name.clone(), new);
    }
    Ok(altered)
}

fn not_a_list(name: &str, operation: Operation) -> Refusal {
    let verb = if operation == Operation::Append { "APPEND" } else { "SUBTRACT" };
    Refusal::new(
        ErrorCode::InvalidConfig,
        format!("Can't {verb} to key {name} because its type is not LIST."),
    )
}

/// A list with members added, unless they are there, or taken out, if they are.
fn change_list(members: &str, change: &str, operation: Operation) -> String {
    let split = |text: &str| -> Vec<String> {
        text.split(',').map(|it| it.trim().to_owned()).filter(|it| !it.is_empty()).collect()
    };
    let mut members = split(members);
    for member in split(change) {
        let place = members.iter().position(|it| *it == member);
        match (operation, place) {
            (Operation::Append, None) => members.push(member),
            (Operation::Subtract, Some(place)) => {
                members.remove(place);
            }
            _ => (),
        }
    }
    members.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties(pairs: &[(&str, &str)]) -> Properties {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn change(name: &str, operation: Operation, value: Option<&str>) -> Alteration {
        Alteration { name: name.to_owned(), operation, value: value.map(str::to_owned) }
    }

    #[track_caller]
    fn topic(
        current: &[(&str, &str)],
        changes: &[(&str, Operation, Option<&str>)],
        expected: Result<&[(&str, &str)], ErrorCode>,
    ) {
        let changes: Vec<_> = changes.iter().map(|it| change(it.0, it.1, it.2)).collect();
        let result = alter_topic(&properties(current), &changes, &Layers::default());
        assert_eq!(result.map_err(|it| it.code), expected.map(properties));
    }

    use Operation::{Append, Delete, Set, Subtract};

    /// A list grows by appending, beyond what one request can bring.
    #[test]
    fn a_value_has_at_most_32767_bytes() {
        let name = "leader.replication.throttled.replicas";
        let list = |partition: u32, brokers: std::ops::Range<u32>| {
            let members: Vec<_> = brokers.map(|broker| format!("{partition}:{broker}")).collect();
            members.join(",")
        };
        let current = properties(&[(name, &list(1, 10_000..14_000))]);
        for (added, expected) in [(10, None), (100, Some(ErrorCode::InvalidConfig))] {
            let added = list(2, 10_000..10_000 + added);
            let changes = [change(name, Append, Some(&added))];
            let altered = alter_topic(&current, &changes, &Layers::default());
            assert_eq!(altered.err().map(|it| it.code), expected);
        }
    }

    /// What `kafka-reassign-partitions --throttle` and Cruise Control set and delete.
    #[test]
    fn throttles_of_reassignments_are_taken() {
        for name in [
            "leader.replication.throttled.rate",
            "follower.replication.throttled.rate",
            "replica.alter.log.dirs.io.max.bytes.per.second",
        ] {
            let altered = |value| {
                let change = [change(name, Set, Some(value))];
                alter_broker(&Properties::new(), &change, BrokerScope::This).map_err(|it| it.code)
            };
            assert_eq!(altered("1000000"), Ok(properties(&[(name, "1000000")])));
            assert_eq!(altered("-1"), Err(ErrorCode::InvalidRequest));
        }
    }

    #[test]
    fn each_operation_does_its_part() {
        topic(
            &[("retention.ms", "1"), ("flush.ms", "2")],
            &[("retention.ms", Set, Some("3")), ("flush.ms", Delete, None)],
            Ok(&[("retention.ms", "3")]),
        );
        let policy = |value: &'static str| [("cleanup.policy", value)];
        topic(&[], &[("cleanup.policy", Append, Some("compact"))], Ok(&policy("delete,compact")));
        topic(
            &policy("compact"),
            &[("cleanup.policy", Append, Some("compact, delete"))],
            Ok(&policy("compact,delete")),
        );
        topic(
            &policy("compact,delete"),
            &[("cleanup.policy", Subtract, Some("delete"))],
            Ok(&policy("compact")),
        );
        topic(&[], &[("cleanup.policy", Subtract, Some("delete"))], Ok(&policy("")));
        topic(&[], &[("retention.ms", Delete, Some("ignored"))], Ok(&[]));
    }

    #[test]
    fn what_cannot_be_changed_changes_nothing() {
        topic(&[], &[("retention.ms", Append, Some("1"))], Err(ErrorCode::InvalidConfig));
        topic(&[], &[("nonsense", Append, Some("1"))], Err(ErrorCode::InvalidConfig));
        topic(&[], &[("nonsense", Set, Some("1"))], Err(ErrorCode::InvalidConfig));
        topic(&[], &[("retention.ms", Set, Some("-2"))], Err(ErrorCode::InvalidConfig));
        topic(&[], &[("retention.ms", Set, None)], Err(ErrorCode::InvalidRequest));
        topic(&[], &[("cleanup.policy", Append, Some("shred"))], Err(ErrorCode::InvalidConfig));
        topic(
            &[],
            &[("retention.ms", Set, Some("1")), ("retention.ms", Delete, None)],
            Err(ErrorCode::InvalidRequest),
        );
        // Deleting the unknown is how a setting that a newer release no longer knows goes away.
        topic(&[("nonsense", "1")], &[("nonsense", Delete, None)], Ok(&[]));
    }

    #[test]
    fn replacement_forgets_what_it_does_not_name() {
        let replaced = replace_topic(&[change("flush.ms", Set, Some("5"))], &Layers::default());
        assert_eq!(replaced, Ok(properties(&[("flush.ms", "5")])));
        let refused = replace_topic(&[change("flush.ms", Set, None)], &Layers::default());
        assert_eq!(refused.map_err(|it| it.code), Err(ErrorCode::InvalidRequest));
    }

    #[test]
    fn groups_are_changed_as_topics_are() {
        let layers = Layers::default();
        let name = "consumer.session.timeout.ms";
        let current = properties(&[(name, "50000")]);
        let alter = |it: Alteration| alter_group(&current, &[it], &layers).map_err(|it| it.code);
        assert_eq!(alter(change(name, Set, Some("46000"))), Ok(properties(&[(name, "46000")])));
        assert_eq!(alter(change(name, Delete, None)), Ok(properties(&[])));
        assert_eq!(alter(change(name, Set, Some("1"))), Err(ErrorCode::InvalidConfig));
        assert_eq!(alter(change(name, Append, Some("1"))), Err(ErrorCode::InvalidConfig));
        let replaced =
            replace_group(&[change("consumer.heartbeat.interval.ms", Set, Some("6000"))], &layers);
        assert_eq!(replaced, Ok(properties(&[("consumer.heartbeat.interval.ms", "6000")])));
    }

    #[track_caller]
    fn broker(changes: &[Alteration], expected: Result<&[(&str, &str)], &str>) {
        let result = alter_broker(&Properties::new(), changes, BrokerScope::Cluster);
        assert_eq!(
            result.map_err(|it| (it.code, it.message)),
            expected
                .map(properties)
                .map_err(|message| (ErrorCode::InvalidRequest, message.to_owned()))
        );
    }

    #[test]
    fn brokers_change_only_what_is_dynamic() {
        broker(&[change("log.retention.ms", Set, Some("9"))], Ok(&[("log.retention.ms", "9")]));
        broker(
            &[change("node.id", Set, Some("9"))],
            Err("Cannot update these configs dynamically: Set(node.id)"),
        );
        let own = change("sasl.kerberos.min.time.before.relogin", Set, Some("58000"));
        broker(
            std::slice::from_ref(&own),
            Err("Cannot update these configs at default cluster level, broker id must be \
                 specified: [sasl.kerberos.min.time.before.relogin]"),
        );
        let of_one = alter_broker(&Properties::new(), &[own], BrokerScope::This);
        assert_eq!(of_one, Ok(properties(&[("sasl.kerberos.min.time.before.relogin", "58000")])));
        broker(
            &[change("no.such.config", Set, Some("9"))],
            Err("Cannot update these configs dynamically: Set(no.such.config)"),
        );
        broker(
            &[change("log.retention.ms", Set, Some("x"))],
            Err("Invalid value x for configuration log.retention.ms: Not a number of type LONG"),
        );
        broker(
            &[change("log.retention.ms", Set, Some("0"))],
            Err("log.retention.ms must be unlimited (-1) or, equal or greater than 1"),
        );
        broker(
            &[change("log.cleanup.policy", Append, Some("compact"))],
            Ok(&[("log.cleanup.policy", "delete,compact")]),
        );
    }
}
