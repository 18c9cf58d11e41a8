//! Topics, partitions, configs and metadata, above all what is refused.

use anyhow::Result;
use protocol::messages::create_partitions::{self, CreatePartitions};
use protocol::messages::create_topics::{self, CreateTopics};
use protocol::messages::delete_topics::{self, DeleteTopics};
use protocol::messages::describe_configs::{self, DescribeConfigs};
use protocol::messages::incremental_alter_configs::{self, IncrementalAlterConfigs};
use protocol::messages::metadata::{self, Metadata};
use vocabulary::TopicId;

use super::{Asking, config, creating, topic};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

pub(super) fn topics(asking: &mut Asking<'_>) -> Result<()> {
    let long = "l".repeat(249);
    let too_long = "l".repeat(250);
    let names = ["", ".", "..", "a/b", "a b", "ä", "a.b", "a_b", "__mine", &long, &too_long];
    for (index, name) in names.iter().enumerate() {
        asking.ask::<CreateTopics>(&format!("name {index}"), 7, &creating(vec![topic(name, 1)]))?;
    }
    asking.ask::<CreateTopics>("once more", 7, &creating(vec![topic("a.b", 1)]))?;
    asking.ask::<CreateTopics>(
        "twice in a request, and one that is fine",
        7,
        &creating(vec![topic("twice", 1), topic("twice", 1), topic("fine", 2)]),
    )?;
    for partitions in [0, -1, -2, 3] {
        let name = format!("partitions{partitions}");
        let request = creating(vec![topic(&name, partitions)]);
        asking.ask::<CreateTopics>(&format!("{partitions} partitions"), 7, &request)?;
    }
    for factor in [0, -1, -2, 2] {
        let mut wanted = topic(&format!("factor{factor}"), 1);
        wanted.replication_factor = factor;
        asking.ask::<CreateTopics>(&format!("{factor} replicas"), 7, &creating(vec![wanted]))?;
    }
    assignments(asking)?;
    created_configs(asking)
}

fn assignments(asking: &mut Asking<'_>) -> Result<()> {
    let assigned = |partitions: i32, factor: i16, assigned: &[(i32, Vec<i32>)]| {
        let mut wanted = topic(&format!("assigned{}", assigned.len()), partitions);
        wanted.replication_factor = factor;
        for (partition_index, broker_ids) in assigned {
            wanted.assignments.push(create_topics::request::CreatableReplicaAssignment {
                partition_index: *partition_index,
                broker_ids: broker_ids.clone(),
            });
        }
        creating(vec![wanted])
    };
    asking.ask::<CreateTopics>("counts and an assignment", 7, &assigned(1, 1, &[(0, vec![1])]))?;
    asking.ask::<CreateTopics>(
        "an assignment with a gap",
        7,
        &assigned(-1, -1, &[(1, vec![1])]),
    )?;
    asking.ask::<CreateTopics>(
        "an assignment",
        7,
        &assigned(-1, -1, &[(0, vec![1]), (1, vec![1])]),
    )?;
    Ok(())
}

fn created_configs(asking: &mut Asking<'_>) -> Result<()> {
    let configs = [
        ("unknown.config", Some("1")),
        ("retention.ms", None),
        ("retention.ms", Some("-2")),
        ("retention.ms", Some("soon")),
        ("segment.bytes", Some("1000")),
        ("cleanup.policy", Some("shred")),
        ("cleanup.policy", Some("compact,delete")),
        ("compression.type", Some("rar")),
        ("compression.type", Some("zstd")),
        ("max.message.bytes", Some("-1")),
        ("message.timestamp.type", Some("Whenever")),
        ("min.insync.replicas", Some("0")),
        ("min.cleanable.dirty.ratio", Some("1.5")),
        ("preallocate", Some("maybe")),
        ("unclean.leader.election.enable", Some("true")),
        ("cleanup.policy", Some("")),
        ("cleanup.policy", Some("compact")),
        ("cleanup.policy", Some("Compact")),
        ("cleanup.policy", Some("compact,compact")),
        ("min.cleanable.dirty.ratio", Some("0")),
        ("min.cleanable.dirty.ratio", Some("-0.1")),
        ("min.cleanable.dirty.ratio", Some("half")),
        ("delete.retention.ms", Some("-1")),
        ("delete.retention.ms", Some("0")),
        ("min.compaction.lag.ms", Some("-1")),
        ("max.compaction.lag.ms", Some("0")),
        ("max.compaction.lag.ms", Some("1")),
        ("segment.ms", Some("0")),
        ("segment.bytes", Some("1048576")),
        ("segment.index.bytes", Some("1")),
        ("file.delete.delay.ms", Some("-1")),
    ];
    for (index, (name, value)) in configs.into_iter().enumerate() {
        let mut wanted = topic(&format!("configured{index}"), 1);
        wanted.configs.push(config(name, value));
        let mut request = creating(vec![wanted]);
        request.validate_only = true;
        asking.ask::<CreateTopics>(&format!("{name}={value:?}"), 7, &request)?;
    }
    configs_together(asking)
}

/// Configs of compaction that are fine by themselves.
fn configs_together(asking: &mut Asking<'_>) -> Result<()> {
    let pairs = [
        (
            "a lag that is longer than the longest",
            "min.compaction.lag.ms",
            "10",
            "max.compaction.lag.ms",
            "5",
        ),
        ("lags as long", "min.compaction.lag.ms", "5", "max.compaction.lag.ms", "5"),
        ("compact, kept by time", "cleanup.policy", "compact", "retention.ms", "1000"),
        ("compact in a remote tier", "cleanup.policy", "compact", "remote.storage.enable", "true"),
    ];
    for (step, one, value, other, its_value) in pairs {
        let mut wanted = topic(&format!("together {step}").replace([' ', ','], "-"), 1);
        wanted.configs = vec![config(one, Some(value)), config(other, Some(its_value))];
        let mut request = creating(vec![wanted]);
        request.validate_only = true;
        asking.ask::<CreateTopics>(step, 7, &request)?;
    }
    Ok(())
}

pub(super) fn partitions(asking: &mut Asking<'_>) -> Result<()> {
    asking.topic("grows", 2, &[])?;
    let grow = |name: &str, count: i32, assigned: Option<Vec<Vec<i32>>>| {
        let assignments = assigned.map(|all| {
            let one =
                |broker_ids| create_partitions::request::CreatePartitionsAssignment { broker_ids };
            all.into_iter().map(one).collect()
        });
        create_partitions::request::CreatePartitionsTopic {
            name: name.to_owned(),
            count,
            assignments,
        }
    };
    let request = |topics, validate_only| create_partitions::Request {
        topics,
        timeout_ms: 20_000,
        validate_only,
    };
    let steps = [
        ("unknown", grow("nobody", 3, None)),
        ("bad name", grow("a/b", 3, None)),
        ("fewer", grow("grows", 1, None)),
        ("as many", grow("grows", 2, None)),
        ("none", grow("grows", 0, None)),
        ("too few assigned", grow("grows", 4, Some(vec![vec![1]]))),
        ("nowhere", grow("grows", 3, Some(vec![vec![]]))),
        ("twice on one broker", grow("grows", 3, Some(vec![vec![1, 1]]))),
        ("on a broker that is not", grow("grows", 3, Some(vec![vec![99]]))),
        ("more", grow("grows", 3, None)),
        ("more, assigned", grow("grows", 4, Some(vec![vec![1]]))),
    ];
    for (step, wanted) in steps {
        asking.ask::<CreatePartitions>(step, 3, &request(vec![wanted], false))?;
    }
    let check = request(vec![grow("grows", 9, None)], true);
    asking.ask::<CreatePartitions>("only checked", 3, &check)?;
    let twice = request(vec![grow("grows", 5, None), grow("grows", 6, None)], false);
    asking.ask::<CreatePartitions>("twice in a request", 3, &twice)?;
    Ok(())
}

fn describing(kind: i8, name: &str, keys: Option<&[&str]>) -> describe_configs::Request {
    describe_configs::Request {
        resources: vec![describe_configs::request::DescribeConfigsResource {
            resource_type: kind,
            resource_name: name.to_owned(),
            configuration_keys: keys.map(|keys| keys.iter().map(|it| (*it).to_owned()).collect()),
        }],
        include_synonyms: true,
        include_documentation: false,
    }
}

pub(super) fn configs(asking: &mut Asking<'_>) -> Result<()> {
    asking.topic("configs", 1, &[("retention.ms", "5000"), ("cleanup.policy", "delete")])?;
    // By name, so that an order of rows or a config more or less does not shift all others.
    for (kind, name, what) in [(TOPIC, "configs", "a topic"), (BROKER, "1", "a broker")] {
        let answer = asking.prepare::<DescribeConfigs>(4, &describing(kind, name, None))?;
        for config in &answer.results[0].configs {
            // What a broker may be told is not all the same; what its clients look at is.
            if kind == TOPIC || LOOKED_AT.contains(&config.name.as_str()) {
                asking.answers.all(&format!("config {} of {what}", config.name), config);
            }
        }
    }
    let some = ["retention.ms", "nothing.such"];
    asking.ask::<DescribeConfigs>("two keys", 4, &describing(TOPIC, "configs", Some(&some)))?;
    asking.ask::<DescribeConfigs>("no keys", 4, &describing(TOPIC, "configs", Some(&[])))?;
    for (step, kind, name) in [
        ("unknown topic", TOPIC, "nobody"),
        ("bad topic", TOPIC, "a/b"),
        ("no topic", TOPIC, ""),
        ("another broker", BROKER, "99"),
        ("no broker", BROKER, "one"),
        ("unknown kind", 99, "x"),
    ] {
        asking.ask::<DescribeConfigs>(step, 4, &describing(kind, name, Some(&["retention.ms"])))?;
    }
    Ok(())
}

/// Configs of a broker that clients, tools and user interfaces read.
const LOOKED_AT: [&str; 20] = [
    "auto.create.topics.enable",
    "default.replication.factor",
    "delete.topic.enable",
    "compression.type",
    "group.initial.rebalance.delay.ms",
    "group.max.session.timeout.ms",
    "group.min.session.timeout.ms",
    "log.cleanup.policy",
    "log.message.timestamp.type",
    "log.retention.bytes",
    "log.retention.ms",
    "log.segment.bytes",
    "max.connections",
    "message.max.bytes",
    "min.insync.replicas",
    "node.id",
    "num.partitions",
    "offset.metadata.max.bytes",
    "offsets.retention.minutes",
    "socket.request.max.bytes",
];

fn change(
    kind: i8,
    name: &str,
    changes: &[(&str, i8, Option<&str>)],
) -> incremental_alter_configs::request::AlterConfigsResource {
    let one = |(name, operation, value): &(&str, i8, Option<&str>)| {
        incremental_alter_configs::request::AlterableConfig {
            name: (*name).to_owned(),
            config_operation: *operation,
            value: value.map(str::to_owned),
        }
    };
    incremental_alter_configs::request::AlterConfigsResource {
        resource_type: kind,
        resource_name: name.to_owned(),
        configs: changes.iter().map(one).collect(),
    }
}

pub(super) fn altering(asking: &mut Asking<'_>) -> Result<()> {
    asking.topic("altered", 1, &[])?;
    let steps = [
        ("set", change(TOPIC, "altered", &[("retention.ms", SET, Some("7000"))])),
        ("set nothing", change(TOPIC, "altered", &[("retention.ms", SET, None)])),
        ("append", change(TOPIC, "altered", &[("cleanup.policy", APPEND, Some("compact"))])),
        ("append again", change(TOPIC, "altered", &[("cleanup.policy", APPEND, Some("compact"))])),
        ("subtract", change(TOPIC, "altered", &[("cleanup.policy", SUBTRACT, Some("delete"))])),
        ("subtract absent", change(TOPIC, "altered", &[("cleanup.policy", SUBTRACT, Some("x"))])),
        ("append nonsense", change(TOPIC, "altered", &[("cleanup.policy", APPEND, Some("x"))])),
        ("append to a number", change(TOPIC, "altered", &[("retention.ms", APPEND, Some("1"))])),
        ("bad value", change(TOPIC, "altered", &[("retention.ms", SET, Some("soon"))])),
        ("unknown config", change(TOPIC, "altered", &[("nothing.such", SET, Some("1"))])),
        ("delete unknown", change(TOPIC, "altered", &[("nothing.such", DELETE, None)])),
        ("unknown operation", change(TOPIC, "altered", &[("retention.ms", 9, Some("1"))])),
        (
            "one key twice",
            change(
                TOPIC,
                "altered",
                &[("retention.ms", SET, Some("1")), ("retention.ms", DELETE, None)],
            ),
        ),
        (
            "one good, one bad",
            change(
                TOPIC,
                "altered",
                &[("segment.ms", SET, Some("99")), ("retention.ms", SET, Some("x"))],
            ),
        ),
        ("delete", change(TOPIC, "altered", &[("retention.ms", DELETE, None)])),
        ("nothing", change(TOPIC, "altered", &[])),
        ("unknown topic", change(TOPIC, "nobody", &[("retention.ms", SET, Some("1"))])),
        ("bad topic", change(TOPIC, "a/b", &[("retention.ms", SET, Some("1"))])),
        ("no topic", change(TOPIC, "", &[("retention.ms", SET, Some("1"))])),
        ("unknown kind", change(99, "x", &[("retention.ms", SET, Some("1"))])),
    ];
    for (step, wanted) in steps {
        let request =
            incremental_alter_configs::Request { resources: vec![wanted], validate_only: false };
        asking.ask::<IncrementalAlterConfigs>(step, 1, &request)?;
    }
    altered_twice(asking)
}

fn altered_twice(asking: &mut Asking<'_>) -> Result<()> {
    let resources = vec![
        change(TOPIC, "altered", &[("segment.ms", SET, Some("5"))]),
        change(TOPIC, "altered", &[("segment.ms", SET, Some("6"))]),
    ];
    let twice = incremental_alter_configs::Request { resources, validate_only: false };
    asking.ask::<IncrementalAlterConfigs>("one topic twice", 1, &twice)?;
    let keys = ["cleanup.policy", "retention.ms", "segment.ms"];
    asking.ask::<DescribeConfigs>(
        "what became of it",
        4,
        &describing(TOPIC, "altered", Some(&keys)),
    )?;
    Ok(())
}

pub(super) fn metadata(asking: &mut Asking<'_>) -> Result<()> {
    let named = |name: &str, create: bool| metadata::Request {
        topics: Some(vec![metadata::request::MetadataRequestTopic {
            topic_id: TopicId::default(),
            name: Some(name.to_owned()),
        }]),
        allow_auto_topic_creation: create,
        ..Default::default()
    };
    for version in [8, 12] {
        asking.ask::<Metadata>("unknown", version, &named("nobody", false))?;
        asking.ask::<Metadata>("grown", version, &named("grows", false))?;
        asking.ask::<Metadata>("bad name", version, &named("a/b", true))?;
        asking.ask::<Metadata>("no name", version, &named("", true))?;
    }
    let none = metadata::Request { topics: Some(Vec::new()), ..Default::default() };
    asking.ask::<Metadata>("no topics", 12, &none)?;
    let mut request = named("", false);
    request.topics = Some(vec![metadata::request::MetadataRequestTopic {
        topic_id: TopicId([7; 16]),
        name: None,
    }]);
    asking.ask::<Metadata>("unknown id", 12, &request)?;
    asking.ask::<Metadata>("unknown id", 13, &request)?;
    Ok(())
}

pub(super) fn deleting(asking: &mut Asking<'_>) -> Result<()> {
    let by = |topics: Vec<(Option<&str>, TopicId)>| {
        let one = |(name, topic_id): (Option<&str>, TopicId)| {
            delete_topics::request::DeleteTopicState { name: name.map(str::to_owned), topic_id }
        };
        delete_topics::Request {
            topics: topics.into_iter().map(one).collect(),
            topic_names: Vec::new(),
            timeout_ms: 20_000,
        }
    };
    let none = TopicId::default();
    let id = asking.topic("short-lived", 1, &[])?;
    asking.ask::<DeleteTopics>("unknown name", 6, &by(vec![(Some("nobody"), none)]))?;
    asking.ask::<DeleteTopics>("bad name", 6, &by(vec![(Some("a/b"), none)]))?;
    asking.ask::<DeleteTopics>("unknown id", 6, &by(vec![(None, TopicId([7; 16]))]))?;
    asking.ask::<DeleteTopics>("name and id", 6, &by(vec![(Some("short-lived"), id)]))?;
    asking.ask::<DeleteTopics>("neither", 6, &by(vec![(None, none)]))?;
    asking.ask::<DeleteTopics>("by id", 6, &by(vec![(None, id)]))?;
    asking.ask::<DeleteTopics>("by name", 6, &by(vec![(Some("fine"), none)]))?;
    let names = delete_topics::Request {
        topic_names: vec!["altered".to_owned(), "altered".to_owned(), "configs".to_owned()],
        timeout_ms: 20_000,
        ..Default::default()
    };
    asking.ask::<DeleteTopics>("one twice", 5, &names)?;
    Ok(())
}
