//! Requests that name many topics, of which some do not exist, or the same one again and again.

use std::time::Duration;

use protocol::ErrorCode;
use protocol::messages::create_partitions::{self, CreatePartitions};
use protocol::messages::create_topics::{self, CreateTopics};
use protocol::messages::delete_records::{self, DeleteRecords};
use protocol::messages::delete_topics::{self, DeleteTopics};
use protocol::messages::describe_configs::{self, DescribeConfigs};
use protocol::messages::find_coordinator::{self, FindCoordinator};
use protocol::messages::incremental_alter_configs::{self, IncrementalAlterConfigs};
use protocol::messages::metadata::{self, Metadata};
use vocabulary::TopicId;

use crate::client::{Client, Served, Storage};
use crate::fetching::produce_to_each;

/// Only bounds a failure.
const LIMIT: Duration = Duration::from_secs(20);

fn code(number: i16) -> ErrorCode {
    ErrorCode::from_code(number).expect("a code of Kafka")
}

fn creatable(name: &str, num_partitions: i32) -> create_topics::request::CreatableTopic {
    create_topics::request::CreatableTopic {
        name: name.to_owned(),
        num_partitions,
        replication_factor: 1,
        ..Default::default()
    }
}

fn creating(
    topics: impl Iterator<Item = create_topics::request::CreatableTopic>,
    timeout_ms: i32,
) -> create_topics::Request {
    create_topics::Request { topics: topics.collect(), timeout_ms, validate_only: false }
}

fn growing<'a>(topics: impl Iterator<Item = (&'a str, i32)>) -> create_partitions::Request {
    let topics = topics.map(|(name, count)| create_partitions::request::CreatePartitionsTopic {
        name: name.to_owned(),
        count,
        assignments: None,
    });
    create_partitions::Request {
        topics: topics.collect(),
        timeout_ms: 30_000,
        validate_only: false,
    }
}

fn setting_retention(topics: &[String]) -> incremental_alter_configs::Request {
    let resources = topics.iter().map(|name| {
        let config = incremental_alter_configs::request::AlterableConfig {
            name: "retention.ms".to_owned(),
            config_operation: 0,
            value: Some("77".to_owned()),
        };
        incremental_alter_configs::request::AlterConfigsResource {
            resource_type: 2,
            resource_name: name.clone(),
            configs: vec![config],
        }
    });
    incremental_alter_configs::Request { resources: resources.collect(), validate_only: false }
}

/// `count` names of topics.
fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("topic-{number}")).collect()
}

async fn create(client: &mut Client, name: &str) -> TopicId {
    let request = creating([creatable(name, 3)].into_iter(), 30_000);
    let mut told = client.call::<CreateTopics>(7, request).await;
    let row = told.topics.remove(0);
    assert_eq!(code(row.error_code), ErrorCode::None, "{row:?}");
    row.topic_id
}

fn named(name: &str) -> metadata::request::MetadataRequestTopic {
    metadata::request::MetadataRequestTopic { name: Some(name.to_owned()), topic_id: TopicId::ZERO }
}

/// The codes of the topics, as a client that would have them created is told.
async fn codes(client: &mut Client, names: &[&str]) -> Vec<ErrorCode> {
    let request = metadata::Request {
        topics: Some(names.iter().map(|it| named(it)).collect()),
        allow_auto_topic_creation: true,
        ..Default::default()
    };
    let told = client.call::<Metadata>(12, request).await;
    let rows = told.topics.iter().zip(names).map(|(row, name)| {
        assert_eq!(row.name.as_deref(), Some(*name));
        code(row.error_code)
    });
    rows.collect()
}

#[tokio::test]
async fn a_topic_has_one_row_however_often_it_is_named() {
    let served = Served::start(&[("auto.create.topics.enable", "false")]).await;
    let mut client = served.connect().await;
    let id = create(&mut client, "t").await;
    let by_id = metadata::request::MetadataRequestTopic { name: None, topic_id: id };
    let unknown =
        metadata::request::MetadataRequestTopic { name: None, topic_id: TopicId([7; 16]) };
    let kinds = [named("t"), named("absent"), by_id, unknown];
    let request = metadata::Request {
        topics: Some((0..4000).map(|number| kinds[number % kinds.len()].clone()).collect()),
        ..Default::default()
    };
    let told = client.call::<Metadata>(12, request).await;
    let rows = told.topics.iter().map(|it| (code(it.error_code), it.partitions.len()));
    let expected = [
        (ErrorCode::None, 3),
        (ErrorCode::UnknownTopicOrPartition, 0),
        (ErrorCode::None, 3),
        (ErrorCode::UnknownTopicId, 0),
    ];
    assert_eq!(rows.collect::<Vec<_>>(), expected);
    served.stop().await;
}

#[tokio::test]
async fn topics_that_are_missing_are_created_together_and_are_in_the_first_answer() {
    let served = Served::start(&[]).await;
    let mut client = served.connect().await;
    let names = names(100);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let before = served.metadata_writes();
    assert_eq!(codes(&mut client, &names).await, [ErrorCode::None; 100]);
    let writes = served.metadata_writes() - before;
    assert!((1..50).contains(&writes), "{writes} writes for 100 topics");
    served.stop().await;
}

#[tokio::test]
async fn what_is_there_is_told_while_nothing_can_be_created() {
    let storage = Storage::new();
    let served = Served::start_on(&storage, &[]).await;
    let mut client = served.connect().await;
    create(&mut client, "there").await;
    storage.cut_metadata_off();

    let names = ["absent", "there", "__consumer_offsets", "a/b", "missing"];
    let expected = [
        ErrorCode::LeaderNotAvailable,
        ErrorCode::None,
        ErrorCode::LeaderNotAvailable,
        ErrorCode::InvalidTopicException,
        ErrorCode::LeaderNotAvailable,
    ];
    for _ in 0..2 {
        let told = tokio::time::timeout(LIMIT, codes(&mut client, &names)).await;
        assert_eq!(told.expect("an answer"), expected);
    }
    let keys = ["g", "h"].map(str::to_owned).to_vec();
    let request = find_coordinator::Request { coordinator_keys: keys, ..Default::default() };
    let asked = client.call::<FindCoordinator>(4, request);
    let told = tokio::time::timeout(LIMIT, asked).await.expect("an answer");
    let found: Vec<_> = told.coordinators.iter().map(|it| code(it.error_code)).collect();
    assert_eq!(found, [ErrorCode::CoordinatorNotAvailable; 2]);

    storage.heal_metadata();
    let healed = async {
        let done = [ErrorCode::None; 4];
        while codes(&mut client, &["absent", "there", "__consumer_offsets", "missing"]).await
            != done
        {}
    };
    tokio::time::timeout(LIMIT, healed).await.expect("what was asked for is created");
    served.stop().await;
}

#[tokio::test]
async fn the_rows_of_a_request_share_commits_and_keep_their_order() {
    let served = Served::start(&[]).await;
    let mut client = served.connect().await;
    let names = names(100);
    let writes_since = |before| served.metadata_writes() - before;

    let before = served.metadata_writes();
    let request = creating(names.iter().map(|name| creatable(name, 1)), 30_000);
    let created = client.call::<CreateTopics>(7, request).await;
    assert!((1..50).contains(&writes_since(before)), "{} writes", writes_since(before));
    let told = created.topics.iter().map(|it| (it.name.as_str(), code(it.error_code)));
    assert!(told.eq(names.iter().map(|name| (name.as_str(), ErrorCode::None))), "{created:?}");

    let before = served.metadata_writes();
    let request = growing(names.iter().map(|name| (name.as_str(), 2)));
    let grown = client.call::<CreatePartitions>(3, request).await;
    assert!((1..50).contains(&writes_since(before)), "{} writes", writes_since(before));
    let told = grown.results.iter().map(|it| (it.name.as_str(), code(it.error_code)));
    assert!(told.eq(names.iter().map(|name| (name.as_str(), ErrorCode::None))), "{grown:?}");

    produce_to_each(&mut client, "topic-0", 2).await;
    let partition = |partition_index| delete_records::request::DeleteRecordsPartition {
        partition_index,
        offset: -1,
    };
    let topic = |name: &str| delete_records::request::DeleteRecordsTopic {
        name: name.to_owned(),
        partitions: vec![partition(1), partition(7), partition(0)],
    };
    let topics = ["topic-1", "absent", "topic-0"].map(topic).to_vec();
    let request = delete_records::Request { topics, timeout_ms: 30_000 };
    let moved = client.call::<DeleteRecords>(2, request).await;
    let told = moved.topics.iter().flat_map(|topic| {
        let row = |it: &delete_records::response::DeleteRecordsPartitionResult| {
            (it.partition_index, it.low_watermark, code(it.error_code))
        };
        topic.partitions.iter().map(row).collect::<Vec<_>>()
    });
    let unknown = ErrorCode::UnknownTopicOrPartition;
    let rows =
        |first, last| [(1, first, ErrorCode::None), (7, -1, unknown), (0, last, ErrorCode::None)];
    let absent = [(1, -1, unknown), (7, -1, unknown), (0, -1, unknown)];
    assert!(told.eq([rows(0, 0), absent, rows(1, 1)].concat()), "{moved:?}");

    let before = served.metadata_writes();
    let told = client.call::<IncrementalAlterConfigs>(1, setting_retention(&names)).await;
    assert!((1..50).contains(&writes_since(before)), "{} writes", writes_since(before));
    let told = told.responses.iter().map(|it| (it.resource_name.as_str(), code(it.error_code)));
    assert!(told.eq(names.iter().map(|name| (name.as_str(), ErrorCode::None))));

    let before = served.metadata_writes();
    let topic_names = names.clone();
    let request = delete_topics::Request { topic_names, timeout_ms: 30_000, ..Default::default() };
    let deleted = client.call::<DeleteTopics>(5, request).await;
    assert!((1..50).contains(&writes_since(before)), "{} writes", writes_since(before));
    let told = deleted.responses.iter().map(|it| (it.name.as_deref(), code(it.error_code)));
    assert!(told.eq(names.iter().map(|name| (Some(name.as_str()), ErrorCode::None))));
    served.stop().await;
}

#[tokio::test]
async fn a_request_of_many_rows_has_one_deadline() {
    let storage = Storage::new();
    let served = Served::start_on(&storage, &[]).await;
    let mut client = served.connect().await;
    create(&mut client, "t").await;
    produce_to_each(&mut client, "t", 3).await;
    storage.cut_metadata_off();

    // Many more than are under way at once.
    let names = names(10_000);
    let request = creating(names.iter().map(|name| creatable(name, 1)), 0);
    let asked = client.call::<CreateTopics>(7, request);
    let told = tokio::time::timeout(LIMIT, asked).await.expect("an answer");
    let late = ErrorCode::RequestTimedOut;
    assert!(told.topics.iter().all(|it| code(it.error_code) == late), "{told:?}");

    let partitions = (0..3).map(|partition_index| {
        delete_records::request::DeleteRecordsPartition { partition_index, offset: -1 }
    });
    let topic = delete_records::request::DeleteRecordsTopic {
        name: "t".to_owned(),
        partitions: partitions.collect(),
    };
    let request = delete_records::Request { topics: vec![topic], timeout_ms: 0 };
    let asked = client.call::<DeleteRecords>(2, request);
    let told = tokio::time::timeout(LIMIT, asked).await.expect("an answer");
    let codes = told.topics[0].partitions.iter().map(|it| code(it.error_code));
    assert_eq!(codes.collect::<Vec<_>>(), [late; 3]);
    storage.heal_metadata();
    served.stop().await;
}

#[tokio::test]
async fn a_request_that_would_create_too_many_partitions_is_refused_as_a_whole() {
    let served = Served::start(&[("num.partitions", "2")]).await;
    let mut client = served.connect().await;
    create(&mut client, "a").await;
    create(&mut client, "b").await;
    let before = served.metadata_writes();
    let too_large = [creatable("c", 5000), creatable("d", 4999), creatable("e", -1)];
    let told = client.call::<CreateTopics>(7, creating(too_large.into_iter(), 30_000)).await;
    let codes: Vec<_> = told.topics.iter().map(|it| code(it.error_code)).collect();
    assert_eq!(codes, [ErrorCode::PolicyViolation; 3]);

    let too_large = growing([("a", 5003), ("absent", 9000), ("b", 5004)].into_iter());
    let told = client.call::<CreatePartitions>(3, too_large).await;
    let codes: Vec<_> = told.results.iter().map(|it| code(it.error_code)).collect();
    assert_eq!(codes, [ErrorCode::PolicyViolation; 3]);
    assert_eq!(served.metadata_writes(), before, "nothing was changed");

    let large = growing([("a", 4), ("absent", 9000), ("b", 5)].into_iter());
    let told = client.call::<CreatePartitions>(3, large).await;
    let codes: Vec<_> = told.results.iter().map(|it| code(it.error_code)).collect();
    assert_eq!(codes, [ErrorCode::None, ErrorCode::UnknownTopicOrPartition, ErrorCode::None]);
    served.stop().await;
}

#[tokio::test]
async fn a_resource_is_described_once_and_groups_up_to_a_limit() {
    let served = Served::start(&[]).await;
    let mut client = served.connect().await;
    create(&mut client, "t").await;
    let (topic, group) = (2, 32);
    let resource = |resource_type, name: String, key: &str| {
        describe_configs::request::DescribeConfigsResource {
            resource_type,
            resource_name: name,
            configuration_keys: Some(vec![key.to_owned()]),
        }
    };
    let again = (0..1000).map(|_| resource(topic, "t".to_owned(), "retention.ms"));
    let groups = names(10_001).into_iter().map(|it| resource(group, it, "share.isolation.level"));
    let last = resource(topic, "t".to_owned(), "cleanup.policy");
    let request = describe_configs::Request {
        resources: again.chain(groups).chain([last]).collect(),
        ..Default::default()
    };
    let told = client.call::<DescribeConfigs>(4, request).await;
    let rows = told.results.iter().map(|it| (it.resource_type, code(it.error_code)));
    let mut expected = vec![(topic, ErrorCode::None)];
    expected.extend([(group, ErrorCode::None); 10_000]);
    expected.push((group, ErrorCode::PolicyViolation));
    assert!(rows.eq(expected), "{} rows", told.results.len());
    let configs: Vec<_> = told.results[0].configs.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(configs, ["cleanup.policy", "retention.ms"]);
    served.stop().await;
}
