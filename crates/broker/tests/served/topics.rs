//! Requests that name many topics, of which some do not exist, or the same one again and again.

use std::time::Duration;

use protocol::ErrorCode;
use protocol::messages::create_topics::{self, CreateTopics};
use protocol::messages::find_coordinator::{self, FindCoordinator};
use protocol::messages::metadata::{self, Metadata};
use vocabulary::TopicId;

use crate::client::{Client, Served, Storage};

/// Only bounds a failure.
const LIMIT: Duration = Duration::from_secs(20);

fn code(number: i16) -> ErrorCode {
    ErrorCode::from_code(number).expect("a code of Kafka")
}

fn creatable(name: &str) -> create_topics::request::CreatableTopic {
    create_topics::request::CreatableTopic {
        name: name.to_owned(),
        num_partitions: 3,
        replication_factor: 1,
        ..Default::default()
    }
}

async fn create(client: &mut Client, name: &str) -> TopicId {
    let topics = vec![creatable(name)];
    let request = create_topics::Request { topics, timeout_ms: 30_000, validate_only: false };
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
    let names: Vec<String> = (0..100).map(|number| format!("topic-{number}")).collect();
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
