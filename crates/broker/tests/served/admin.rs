//! Topics, configs and the cluster, through every version a client may speak.

use bytes::BytesMut;
use protocol::ErrorCode;
use protocol::messages::alter_configs::AlterConfigs;
use protocol::messages::create_partitions::CreatePartitions;
use protocol::messages::create_topics::CreateTopics;
use protocol::messages::delete_topics::DeleteTopics;
use protocol::messages::describe_cluster::DescribeCluster;
use protocol::messages::describe_configs::DescribeConfigs;
use protocol::messages::describe_log_dirs::DescribeLogDirs;
use protocol::messages::describe_topic_partitions::DescribeTopicPartitions;
use protocol::messages::incremental_alter_configs::IncrementalAlterConfigs;
use protocol::messages::produce::Produce;
use protocol::messages::{
    Api, alter_configs, create_partitions, create_topics, delete_topics, describe_cluster,
    describe_configs, describe_log_dirs, describe_topic_partitions, incremental_alter_configs,
    produce,
};
use protocol::records::{BatchBuilder, Compression};
use vocabulary::{Timestamp, TopicId};

use crate::client::{BROKER_ID, CLUSTER_ID, Client, Served};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

fn code(number: i16) -> ErrorCode {
    ErrorCode::from_code(number).expect("a code of Kafka")
}

/// Creates one topic and returns its row.
async fn create(
    client: &mut Client,
    version: i16,
    topic: create_topics::request::CreatableTopic,
    validate_only: bool,
) -> create_topics::response::CreatableTopicResult {
    let request = create_topics::Request { topics: vec![topic], timeout_ms: 30_000, validate_only };
    let mut response = client.call::<CreateTopics>(version, request).await;
    assert_eq!(response.topics.len(), 1);
    response.topics.remove(0)
}

fn topic(name: &str, partitions: i32, factor: i16) -> create_topics::request::CreatableTopic {
    create_topics::request::CreatableTopic {
        name: name.to_owned(),
        num_partitions: partitions,
        replication_factor: factor,
        ..Default::default()
    }
}

fn with_config(
    mut topic: create_topics::request::CreatableTopic,
    name: &str,
    value: &str,
) -> create_topics::request::CreatableTopic {
    topic.configs.push(create_topics::request::CreatableTopicConfig {
        name: name.to_owned(),
        value: Some(value.to_owned()),
    });
    topic
}

/// The value of one config, with its source.
async fn config_of(
    client: &mut Client,
    version: i16,
    (resource_type, name): (i8, &str),
    key: &str,
) -> (Option<String>, i8) {
    let resource = describe_configs::request::DescribeConfigsResource {
        resource_type,
        resource_name: name.to_owned(),
        configuration_keys: Some(vec![key.to_owned()]),
    };
    let request = describe_configs::Request {
        resources: vec![resource],
        include_synonyms: true,
        include_documentation: true,
    };
    let response = client.call::<DescribeConfigs>(version, request).await;
    let result = &response.results[0];
    assert_eq!(code(result.error_code), ErrorCode::None, "{:?}", result.error_message);
    assert_eq!(result.error_message, None);
    let config = result.configs.iter().find(|it| it.name == key).expect("the config is told");
    if version < 3 {
        assert_eq!(config.config_type, 0);
    } else {
        assert!(config.documentation.is_some() && config.config_type != 0);
    }
    (config.value.clone(), config.config_source)
}

/// Changes one config and returns what became of it.
async fn alter(
    client: &mut Client,
    version: i16,
    (resource_type, name): (i8, &str),
    (key, operation, value): (&str, i8, Option<&str>),
    validate_only: bool,
) -> (ErrorCode, Option<String>) {
    let config = incremental_alter_configs::request::AlterableConfig {
        name: key.to_owned(),
        config_operation: operation,
        value: value.map(str::to_owned),
    };
    let resource = incremental_alter_configs::request::AlterConfigsResource {
        resource_type,
        resource_name: name.to_owned(),
        configs: vec![config],
    };
    let request = incremental_alter_configs::Request { resources: vec![resource], validate_only };
    let mut response = client.call::<IncrementalAlterConfigs>(version, request).await;
    let row = response.responses.remove(0);
    assert_eq!((row.resource_type, row.resource_name.as_str()), (resource_type, name));
    (code(row.error_code), row.error_message)
}

#[tokio::test]
async fn topics_live_through_every_version() {
    let served = Served::start(&[("num.partitions", "4")]).await;
    let mut client = served.connect().await;
    for version in CreateTopics::KEY.valid_versions() {
        let name = format!("created-{version}");
        let trial = create(&mut client, version, topic(&name, 2, 1), true).await;
        assert_eq!(code(trial.error_code), ErrorCode::None);
        let created = create(&mut client, version, topic(&name, -1, -1), false).await;
        assert_eq!((code(created.error_code), &created.error_message), (ErrorCode::None, &None));
        if 5 <= version {
            assert_eq!((created.num_partitions, created.replication_factor), (4, 1));
            let configs = created.configs.as_ref().expect("configs are told");
            assert!(configs.iter().any(|it| it.name == "retention.ms"));
        }
        assert_eq!(created.topic_id != TopicId::ZERO, 7 <= version);
        let again = create(&mut client, version, topic(&name, 1, 1), false).await;
        assert_eq!(code(again.error_code), ErrorCode::TopicAlreadyExists);
        assert_eq!(again.error_message.unwrap(), format!("Topic '{name}' already exists."));
    }
    for version in CreatePartitions::KEY.valid_versions() {
        let name = format!("created-{}", 4 + version);
        for (count, validate_only, expected) in [
            (6, true, ErrorCode::None),
            (4, false, ErrorCode::InvalidPartitions),
            (6, false, ErrorCode::None),
            (6, false, ErrorCode::InvalidPartitions),
        ] {
            let growth = create_partitions::request::CreatePartitionsTopic {
                name: name.clone(),
                count,
                assignments: None,
            };
            let request = create_partitions::Request {
                topics: vec![growth],
                timeout_ms: 30_000,
                validate_only,
            };
            let response = client.call::<CreatePartitions>(version, request).await;
            assert_eq!(code(response.results[0].error_code), expected, "to {count}");
        }
    }
    for version in DeleteTopics::KEY.valid_versions() {
        let name = format!("created-{}", 1 + version);
        let mut request = delete_topics::Request { timeout_ms: 30_000, ..Default::default() };
        if version < 6 {
            request.topic_names = vec![name.clone(), "absent".to_owned()];
        } else {
            request.topics = ["created-7", "absent"]
                .map(|name| delete_topics::request::DeleteTopicState {
                    name: Some(name.to_owned()),
                    ..Default::default()
                })
                .to_vec();
        }
        let response = client.call::<DeleteTopics>(version, request).await;
        let codes: Vec<_> = response.responses.iter().map(|it| code(it.error_code)).collect();
        assert_eq!(codes, [ErrorCode::None, ErrorCode::UnknownTopicOrPartition], "{version}");
    }
    served.stop().await;
}

#[tokio::test]
async fn each_topic_of_a_request_has_its_own_answer() {
    let served = Served::start(&[("delete.topic.enable", "true")]).await;
    let mut client = served.connect().await;
    let topics = vec![
        topic("fine", 1, 3),
        topic("twice", 1, 1),
        topic("not a name", 1, 1),
        topic("none", 0, 1),
        topic("unreplicated", 1, 0),
        with_config(topic("misconfigured", 1, 1), "retention.ms", "-2"),
        topic("__consumer_offsets", 1, 1),
        topic("twice", 2, 1),
    ];
    let request = create_topics::Request { topics, timeout_ms: 30_000, validate_only: false };
    let response = client.call::<CreateTopics>(7, request).await;
    let codes: Vec<_> = response.topics.iter().map(|it| code(it.error_code)).collect();
    let internal = codes[6];
    assert!(matches!(internal, ErrorCode::InvalidRequest | ErrorCode::TopicAlreadyExists));
    assert_eq!(
        codes,
        [
            ErrorCode::None,
            ErrorCode::InvalidRequest,
            ErrorCode::InvalidTopicException,
            ErrorCode::InvalidPartitions,
            ErrorCode::InvalidReplicationFactor,
            ErrorCode::InvalidConfig,
            internal,
            ErrorCode::InvalidRequest,
        ]
    );

    let id = response.topics[0].topic_id;
    let by_id = delete_topics::request::DeleteTopicState { name: None, topic_id: id };
    let request = delete_topics::Request { topics: vec![by_id], ..Default::default() };
    let deleted = client.call::<DeleteTopics>(6, request.clone()).await;
    assert_eq!(code(deleted.responses[0].error_code), ErrorCode::None);
    assert_eq!(deleted.responses[0].name.as_deref(), Some("fine"));
    let again = client.call::<DeleteTopics>(6, request).await;
    assert_eq!(code(again.responses[0].error_code), ErrorCode::UnknownTopicId);
    served.stop().await;
}

#[tokio::test]
async fn configs_are_changed_and_described_in_every_version() {
    let served = Served::start(&[("log.retention.hours", "1")]).await;
    let mut client = served.connect().await;
    create(&mut client, 7, topic("t", 1, 1), false).await;
    let (set, delete, append, subtract) = (0, 1, 2, 3);
    let t = (TOPIC, "t");
    for version in DescribeConfigs::KEY.valid_versions() {
        let told = config_of(&mut client, version, t, "retention.ms").await;
        assert_eq!(told, (Some("3600000".to_owned()), 4), "static, as the broker was told");
    }
    for version in IncrementalAlterConfigs::KEY.valid_versions() {
        let refused = alter(&mut client, version, t, ("retention.ms", set, Some("x")), false).await;
        assert_eq!(refused.0, ErrorCode::InvalidConfig);
        let trial = alter(&mut client, version, t, ("retention.ms", set, Some("9")), true).await;
        assert_eq!(trial, (ErrorCode::None, None));
        let told = config_of(&mut client, 4, t, "retention.ms").await;
        assert_eq!(told.1, 4, "a trial changes nothing");
        alter(&mut client, version, t, ("retention.ms", set, Some("9")), false).await;
        let told = config_of(&mut client, 4, t, "retention.ms").await;
        assert_eq!(told, (Some("9".to_owned()), 1));
        alter(&mut client, version, t, ("cleanup.policy", append, Some("compact")), false).await;
        alter(&mut client, version, t, ("cleanup.policy", subtract, Some("delete")), false).await;
        let told = config_of(&mut client, 4, t, "cleanup.policy").await;
        assert_eq!(told.0.as_deref(), Some("compact"));
        alter(&mut client, version, t, ("cleanup.policy", delete, None), false).await;
        alter(&mut client, version, t, ("retention.ms", delete, None), false).await;
        assert_eq!(config_of(&mut client, 4, t, "retention.ms").await.1, 4);
    }
    for version in AlterConfigs::KEY.valid_versions() {
        alter(&mut client, 1, t, ("flush.ms", set, Some("7")), false).await;
        let resource = alter_configs::request::AlterConfigsResource {
            resource_type: TOPIC,
            resource_name: "t".to_owned(),
            configs: vec![alter_configs::request::AlterableConfig {
                name: "retention.bytes".to_owned(),
                value: Some("5".to_owned()),
            }],
        };
        let request = alter_configs::Request { resources: vec![resource], validate_only: false };
        let response = client.call::<AlterConfigs>(version, request).await;
        assert_eq!(code(response.responses[0].error_code), ErrorCode::None);
        assert_eq!(config_of(&mut client, 4, t, "retention.bytes").await.1, 1);
        let replaced = config_of(&mut client, 4, t, "flush.ms").await;
        assert_eq!(replaced.1, 5, "what is not named is forgotten");
    }
    let unknown = alter(&mut client, 1, (TOPIC, "u"), ("flush.ms", set, Some("7")), false).await;
    assert_eq!(unknown.0, ErrorCode::UnknownTopicOrPartition);
    served.stop().await;
}

/// The code a batch with a value of 3,000 bytes is answered with.
async fn produce_large(client: &mut Client) -> ErrorCode {
    let mut builder = BatchBuilder::new(Compression::None, None);
    builder.push(Timestamp(1), None, Some(&[7; 3000]), &[]);
    let (_, bytes) = builder.build().freeze();
    let partition = produce::request::PartitionProduceData {
        index: 0,
        records: Some(BytesMut::from(&bytes[..])),
    };
    let request = produce::Request {
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![produce::request::TopicProduceData {
            name: "t".to_owned(),
            partition_data: vec![partition],
            ..Default::default()
        }],
        ..Default::default()
    };
    let response = client.call::<Produce>(9, request).await;
    code(response.responses[0].partition_responses[0].error_code)
}

#[tokio::test]
async fn a_change_of_the_brokers_defaults_acts_on_open_logs_at_once() {
    let served = Served::start(&[]).await;
    let mut client = served.connect().await;
    create(&mut client, 7, topic("t", 1, 1), false).await;
    assert_eq!(produce_large(&mut client).await, ErrorCode::None);

    let this = BROKER_ID.to_string();
    let (all, this, other) = ((BROKER, ""), (BROKER, this.as_str()), (BROKER, "999"));
    let (set, delete) = (0, 1);
    let smaller = ("message.max.bytes", set, Some("1000"));
    assert_eq!(alter(&mut client, 1, all, smaller, false).await, (ErrorCode::None, None));
    assert_eq!(produce_large(&mut client).await, ErrorCode::MessageTooLarge);
    let told = config_of(&mut client, 4, (TOPIC, "t"), "max.message.bytes").await;
    assert_eq!(told, (Some("1000".to_owned()), 3), "dynamic, for all brokers");

    let larger = ("message.max.bytes", set, Some("9000"));
    assert_eq!(alter(&mut client, 1, this, larger, false).await, (ErrorCode::None, None));
    assert_eq!(produce_large(&mut client).await, ErrorCode::None, "its own is stronger");
    let told = config_of(&mut client, 4, this, "message.max.bytes").await;
    assert_eq!(told, (Some("9000".to_owned()), 2));
    for resource in [all, this] {
        alter(&mut client, 1, resource, ("message.max.bytes", delete, None), false).await;
    }
    let told = config_of(&mut client, 4, this, "message.max.bytes").await;
    assert_eq!(told, (Some("1048588".to_owned()), 5));

    let fixed = alter(&mut client, 1, this, ("node.id", set, Some("1")), false).await;
    assert_eq!(fixed.0, ErrorCode::InvalidRequest);
    assert_eq!(alter(&mut client, 1, other, larger, false).await.0, ErrorCode::InvalidRequest);
    served.stop().await;
}

#[tokio::test]
async fn the_cluster_and_its_partitions_are_described_in_every_version() {
    let served = Served::start(&[("broker.rack", "zone-a")]).await;
    let mut client = served.connect().await;
    for name in ["a", "b"] {
        create(&mut client, 7, topic(name, 3, 1), false).await;
    }
    for version in DescribeCluster::KEY.valid_versions() {
        let told = client.call::<DescribeCluster>(version, Default::default()).await;
        assert_eq!((told.cluster_id.as_str(), told.controller_id), (CLUSTER_ID, BROKER_ID));
        let broker = &told.brokers[0];
        assert_eq!((broker.host.as_str(), broker.port), ("127.0.0.1", served.port()));
        assert_eq!(broker.rack.as_deref(), Some("zone-a"));
    }
    let controllers = describe_cluster::Request { endpoint_type: 2, ..Default::default() };
    let refused = client.call::<DescribeCluster>(1, controllers).await;
    assert_eq!(code(refused.error_code), ErrorCode::MismatchedEndpointType);

    for version in DescribeLogDirs::KEY.valid_versions() {
        let everything = describe_log_dirs::Request { topics: None };
        let told = client.call::<DescribeLogDirs>(version, everything).await;
        assert_eq!(told.results.len(), 1);
        let topics: Vec<_> = told.results[0]
            .topics
            .iter()
            .map(|it| (it.name.as_str(), it.partitions.len()))
            .collect();
        assert_eq!(topics, [("a", 3), ("b", 3)]);
    }

    let mut request = describe_topic_partitions::Request {
        response_partition_limit: 2,
        cursor: None,
        topics: Vec::new(),
    };
    let mut seen = Vec::new();
    loop {
        let told = client.call::<DescribeTopicPartitions>(0, request.clone()).await;
        for topic in told.topics {
            assert_eq!(code(topic.error_code), ErrorCode::None);
            let name = topic.name.expect("a name");
            seen.extend(topic.partitions.iter().map(|it| (name.clone(), it.partition_index)));
        }
        let Some(next) = told.next_cursor else { break };
        request.cursor = Some(describe_topic_partitions::request::Cursor {
            topic_name: next.topic_name,
            partition_index: next.partition_index,
        });
    }
    let all = ["a", "b"].into_iter().flat_map(|it| (0..3).map(move |index| (it.to_owned(), index)));
    assert_eq!(seen, all.collect::<Vec<_>>());
    served.stop().await;
}
