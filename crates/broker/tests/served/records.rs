//! Records in and out: what clients are promised whatever they ask, and what becomes of those who ask the wrong broker.

use std::time::Duration;

use bucket::Faults;
use bytes::BytesMut;
use partition_log::volume::MemoryFaults;
use protocol::ErrorCode;
use protocol::messages::create_topics::CreateTopics;
use protocol::messages::delete_records::DeleteRecords;
use protocol::messages::fetch::Fetch;
use protocol::messages::find_coordinator::FindCoordinator;
use protocol::messages::list_offsets::ListOffsets;
use protocol::messages::metadata::Metadata;
use protocol::messages::produce::Produce;
use protocol::messages::{
    create_topics, delete_records, fetch, find_coordinator, list_offsets, metadata, produce,
};
use protocol::records::{BatchBuilder, Compression};
use vocabulary::{ProducerId, Timestamp, TopicId};

use crate::client::{Client, Served, Storage};

/// Only bounds a failure.
const LIMIT: Duration = Duration::from_secs(20);
const ELSEWHERE: i32 = 6;

async fn create(
    client: &mut Client,
    name: &str,
    num_partitions: i32,
    configured: Option<(&str, &str)>,
) -> TopicId {
    let config = |(name, value): (&str, &str)| create_topics::request::CreatableTopicConfig {
        name: name.to_owned(),
        value: Some(value.to_owned()),
    };
    let topic = create_topics::request::CreatableTopic {
        name: name.to_owned(),
        num_partitions,
        replication_factor: 1,
        configs: configured.map(config).into_iter().collect(),
        ..Default::default()
    };
    let request =
        create_topics::Request { topics: vec![topic], timeout_ms: 30_000, ..Default::default() };
    let response = client.call::<CreateTopics>(7, request).await;
    assert_eq!(response.topics[0].error_code, ErrorCode::None.code(), "{response:?}");
    response.topics[0].topic_id
}

fn producing(topic: &str, acks: i16, timeout_ms: i32, sequence: i32) -> produce::Request {
    let mut builder = BatchBuilder::new(Compression::None, Some((ProducerId(7), 0, sequence)));
    builder.push(Timestamp(1), None, Some(&[7; 300]), &[]);
    let (_, bytes) = builder.build().freeze();
    produce::Request {
        acks,
        timeout_ms,
        topic_data: vec![produce::request::TopicProduceData {
            name: topic.to_owned(),
            partition_data: vec![produce::request::PartitionProduceData {
                index: 0,
                records: Some(BytesMut::from(&bytes[..])),
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

async fn produced(client: &mut Client, request: produce::Request) {
    let response = client.call::<Produce>(9, request).await;
    let row = &response.responses[0].partition_responses[0];
    assert_eq!(row.error_code, ErrorCode::None.code(), "{row:?}");
}

fn fetching(topic: &str, topic_id: TopicId) -> fetch::Request {
    fetch::Request {
        min_bytes: 1,
        max_bytes: 1 << 20,
        session_epoch: -1,
        topics: vec![fetch::request::FetchTopic {
            topic: topic.to_owned(),
            topic_id,
            partitions: vec![fetch::request::FetchPartition {
                partition_max_bytes: 1 << 20,
                current_leader_epoch: -1,
                last_fetched_epoch: -1,
                ..Default::default()
            }],
        }],
        ..Default::default()
    }
}

async fn end_offset(client: &mut Client, topic: &str) -> i64 {
    let request = list_offsets::Request {
        replica_id: -1,
        topics: vec![list_offsets::request::ListOffsetsTopic {
            name: topic.to_owned(),
            partitions: vec![list_offsets::request::ListOffsetsPartition {
                current_leader_epoch: -1,
                timestamp: -1,
                ..Default::default()
            }],
        }],
        ..Default::default()
    };
    client.call::<ListOffsets>(7, request).await.topics[0].partitions[0].offset
}

/// Goal: who sends without acknowledgement and closes has no promise but that what arrived is taken.
#[tokio::test]
async fn what_was_sent_without_acknowledgement_is_taken_after_its_client_has_gone() {
    let storage = Storage::new();
    let served = Served::start_on(&storage, &[]).await;
    let mut client = served.connect().await;
    create(&mut client, "sent", 1, None).await;
    produced(&mut client, producing("sent", -1, 30_000, 0)).await;
    served.stop().await;

    // The producers are in the bucket only: the first batch waits for them.
    let served = Served::start_on(&storage, &[]).await;
    let slow = Duration::from_millis(500);
    storage.lying.set_faults(Faults { slow_per_mille: 1000, slow_max: slow, ..Faults::NONE });
    let client = served.connect().await;
    let requests = (1..4).map(|sequence| producing("sent", 0, 30_000, sequence)).collect();
    client.send_and_close::<Produce>(9, requests).await;
    let mut other = served.connect().await;
    let arriving = async { while end_offset(&mut other, "sent").await != 4 {} };
    tokio::time::timeout(LIMIT, arriving).await.expect("all are taken");
    storage.lying.set_faults(Faults::NONE);
    served.stop().await;
}

/// Goal: no batch is refused that is durable a moment later.
#[tokio::test]
async fn a_timeout_of_nothing_refuses_no_batch() {
    let storage = Storage::new();
    let served = Served::start_on(&storage, &[]).await;
    let mut client = served.connect().await;
    create(&mut client, "hasty", 1, None).await;
    let latency_max = Duration::from_millis(50);
    storage.volume.set_faults(MemoryFaults { latency_max, ..Default::default() });
    for sequence in 0..5 {
        produced(&mut client, producing("hasty", -1, sequence % 2, sequence)).await;
    }
    served.stop().await;
}

/// Goal: the codec is the client's business, as with Kafka 4.3.1, which refuses no version that it serves.
#[tokio::test]
async fn zstd_topics_are_for_every_version() {
    let served = Served::start(&[]).await;
    let mut client = served.connect().await;
    create(&mut client, "small", 1, Some(("compression.type", "zstd"))).await;
    produced(&mut client, producing("small", -1, 30_000, 0)).await;
    for version in [4, 9, 10] {
        let response = client.call::<Fetch>(version, fetching("small", TopicId::ZERO)).await;
        let row = &response.responses[0].partitions[0];
        assert_eq!(row.error_code, ErrorCode::None.code(), "version {version}");
        assert!(row.records.as_ref().is_some_and(|records| 0 < records.byte_length()));
    }
    served.stop().await;
}

#[tokio::test]
async fn no_records_of_internal_topics_are_deleted() {
    let served = Served::start(&[("offsets.topic.num.partitions", "2")]).await;
    let mut client = served.connect().await;
    let request = find_coordinator::Request {
        coordinator_keys: vec!["group".to_owned()],
        ..Default::default()
    };
    client.call::<FindCoordinator>(4, request).await;
    let deleting = |partition_index| delete_records::Request {
        topics: vec![delete_records::request::DeleteRecordsTopic {
            name: "__consumer_offsets".to_owned(),
            partitions: vec![delete_records::request::DeleteRecordsPartition {
                partition_index,
                offset: 0,
            }],
        }],
        timeout_ms: 30_000,
    };
    for (partition, code) in [
        (0, ErrorCode::InvalidTopicException),
        (2, ErrorCode::UnknownTopicOrPartition),
        (-1, ErrorCode::UnknownTopicOrPartition),
    ] {
        let response = client.call::<DeleteRecords>(2, deleting(partition)).await;
        let row = &response.topics[0].partitions[0];
        assert_eq!((row.error_code, row.low_watermark), (code.code(), -1), "{partition}");
    }
    served.stop().await;
}

/// The first partition of a topic that another broker leads.
async fn led_elsewhere(client: &mut Client, name: &str) -> i32 {
    let topic = metadata::request::MetadataRequestTopic {
        name: Some(name.to_owned()),
        ..Default::default()
    };
    let request = metadata::Request { topics: Some(vec![topic]), ..Default::default() };
    let response = client.call::<Metadata>(12, request).await;
    let mut partitions = response.topics[0].partitions.iter();
    let found = partitions.find(|it| it.leader_id == ELSEWHERE);
    found.expect("partitions are spread over the brokers").partition_index
}

/// Goal: who asks the wrong broker learns from the refusal who leads, and where (KIP-951).
#[tokio::test]
async fn refusals_tell_where_the_leader_is() {
    let served = Served::start(&[]).await;
    served.register(ELSEWHERE, "elsewhere.example", 1234).await;
    let mut client = served.connect().await;
    let id = create(&mut client, "spread", 4, None).await;
    let index = led_elsewhere(&mut client, "spread").await;
    let moved = ErrorCode::NotLeaderOrFollower.code();
    let there = (ELSEWHERE, "elsewhere.example".to_owned(), 1234);

    for version in [9, 10, 13] {
        let mut request = producing("spread", -1, 30_000, 0);
        request.topic_data[0].topic_id = id;
        request.topic_data[0].partition_data[0].index = index;
        let response = client.call::<Produce>(version, request).await;
        let row = &response.responses[0].partition_responses[0];
        let is_told = 10 <= version;
        let expected = if is_told { ELSEWHERE } else { -1 };
        assert_eq!((row.error_code, row.current_leader.leader_id), (moved, expected));
        assert_eq!(0 <= row.current_leader.leader_epoch, is_told);
        let nodes = response.node_endpoints.into_iter().map(|it| (it.node_id, it.host, it.port));
        let expected = is_told.then(|| there.clone());
        assert_eq!(nodes.collect::<Vec<_>>(), Vec::from_iter(expected), "version {version}");
    }

    for version in [15, 16] {
        let mut request = fetching("", id);
        request.topics[0].partitions[0].partition = index;
        let response = client.call::<Fetch>(version, request).await;
        let row = &response.responses[0].partitions[0];
        assert_eq!((row.error_code, row.current_leader.leader_id), (moved, ELSEWHERE));
        let nodes = response.node_endpoints.into_iter().map(|it| (it.node_id, it.host, it.port));
        let expected = (16 <= version).then(|| there.clone());
        assert_eq!(nodes.collect::<Vec<_>>(), Vec::from_iter(expected), "version {version}");
    }
    served.stop().await;
}
