//! Compares the catalogue with what Apache Kafka 4.3.1 lists.

use std::collections::BTreeMap;

use super::{GROUP_CONFIGS, TOPIC_CONFIGS, broker_configs};
use crate::configs::definition::{Definition, Update};

const KAFKA: &str = include_str!("../../../tests/configs/kafka-4.3.1.txt");

/// What is told otherwise than by Kafka: the name, and why.
const OTHERWISE: &[(&str, &str)] = &[
    ("broker.id", "the older name of node.id, with its default"),
    ("listeners", "unless it is told otherwise only this machine can connect"),
    ("node.id", "a broker starts without being told anything"),
    ("socket.receive.buffer.bytes", "the system sizes buffers better than a number does"),
    ("socket.send.buffer.bytes", "the system sizes buffers better than a number does"),
];

struct Theirs<'a> {
    kind: &'a str,
    mode: &'a str,
    default: Option<&'a str>,
}

fn theirs(wanted: &str) -> BTreeMap<&'static str, Theirs<'static>> {
    let line = |line: &'static str| {
        let (facts, default) = match line.split_once('=') {
            Some((facts, default)) => (facts, Some(default)),
            None => (line, None),
        };
        let mut facts = facts.split(' ');
        let mut next = || facts.next().expect("four facts in a line");
        let (scope, name, kind, mode) = (next(), next(), next(), next());
        (scope == wanted).then_some((name, Theirs { kind, mode, default }))
    };
    let lines = KAFKA.lines().filter(|it| !it.starts_with('#'));
    lines.filter_map(line).collect()
}

fn ours(scope: &str) -> Vec<&'static Definition> {
    match scope {
        "broker" => broker_configs().collect(),
        "topic" => TOPIC_CONFIGS.iter().map(|it| &it.definition).collect(),
        _ => GROUP_CONFIGS.iter().map(|it| &it.config.definition).collect(),
    }
}

fn difference(ours: &Definition, theirs: &Theirs<'_>) -> Option<String> {
    let kind = ours.kind.to_string().to_uppercase();
    if kind != theirs.kind {
        return Some(format!("type {kind}, theirs {}", theirs.kind));
    }
    let theirs_default = theirs.default.map(|it| ours.parse(it).map(|it| it.to_string()));
    let our_default = ours.default_value().map(|it| Ok(it.to_string()));
    if our_default != theirs_default {
        return Some(format!("default {our_default:?}, theirs {theirs_default:?}"));
    }
    let mode = match ours.update {
        Update::ReadOnly => "read-only",
        Update::ClusterWide => "cluster-wide",
        Update::PerBroker => "per-broker",
    };
    // What may be changed while a broker runs, and what that changes, is ours to say; not that it may where it may not.
    let is_promised = mode != "read-only" && theirs.mode != "-";
    (is_promised && mode != theirs.mode).then(|| format!("{mode}, theirs {}", theirs.mode))
}

#[test]
fn every_config_that_kafka_lists_is_known_with_its_type_and_default() {
    let mut differences = Vec::new();
    for scope in ["broker", "topic", "group"] {
        let ours: BTreeMap<&str, &Definition> =
            ours(scope).into_iter().map(|it| (it.name, it)).collect();
        for (name, theirs) in theirs(scope) {
            let is_listed = OTHERWISE.iter().any(|(it, _)| *it == name);
            let found = match ours.get(name) {
                Some(definition) => difference(definition, &theirs),
                None => Some("not there".to_owned()),
            };
            match found {
                Some(how) if !is_listed => differences.push(format!("{scope} {name}: {how}")),
                None if is_listed => differences.push(format!("{scope} {name}: as theirs")),
                _ => (),
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
