//! Fetches and lookups of many partitions: while storage is in trouble, and beside topics that are not there.

use std::time::Duration;

use bucket::Faults;
use bytes::BytesMut;
use protocol::ErrorCode;
use protocol::messages::create_topics::CreateTopics;
use protocol::messages::fetch::Fetch;
use protocol::messages::list_offsets::{self, ListOffsets};
use protocol::messages::produce::Produce;
use protocol::messages::{create_topics, fetch, produce};
use protocol::records::{BatchBuilder, Compression};
use vocabulary::Timestamp;

use crate::client::{Client, Served, Storage};

const PARTITIONS: i32 = 24;
/// What Java's clients and others wait for an answer; read in turn, the partitions took minutes.
const CLIENT_PATIENCE: Duration = Duration::from_secs(30);
/// Longer than any test waits, so that every answer comes too late.
const STUCK: Duration = Duration::from_secs(1 << 32);

async fn create(client: &mut Client, name: &str, num_partitions: i32) {
    let topic = create_topics::request::CreatableTopic {
        name: name.to_owned(),
        num_partitions,
        replication_factor: 1,
        ..Default::default()
    };
    let request =
        create_topics::Request { topics: vec![topic], timeout_ms: 30_000, ..Default::default() };
    let response = client.call::<CreateTopics>(7, request).await;
    assert_eq!(response.topics[0].error_code, ErrorCode::None.code());
}

/// A batch of one record for each partition.
fn producing(name: &str, partitions: i32) -> produce::Request {
    let mut builder = BatchBuilder::new(Compression::None, None);
    builder.push(Timestamp(1), None, Some(&[7; 300]), &[]);
    let (_, bytes) = builder.build().freeze();
    let partition = |index| produce::request::PartitionProduceData {
        index,
        records: Some(BytesMut::from(&bytes[..])),
    };
    produce::Request {
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![produce::request::TopicProduceData {
            name: name.to_owned(),
            partition_data: (0..partitions).map(partition).collect(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

pub(crate) async fn produce_to_each(client: &mut Client, name: &str, partitions: i32) {
    let response = client.call::<Produce>(9, producing(name, partitions)).await;
    let rows = &response.responses[0].partition_responses;
    assert!(rows.iter().all(|row| row.error_code == ErrorCode::None.code()), "{rows:?}");
}

/// Of each partition of the topics, in order: whether there were records. No error is expected.
async fn fetch_from_start(client: &mut Client, topics: &[(&str, i32)]) -> Vec<bool> {
    let partition = |partition| fetch::request::FetchPartition {
        partition,
        partition_max_bytes: 1 << 20,
        current_leader_epoch: -1,
        last_fetched_epoch: -1,
        ..Default::default()
    };
    let topic = |&(name, partitions): &(&str, i32)| fetch::request::FetchTopic {
        topic: name.to_owned(),
        partitions: (0..partitions).map(partition).collect(),
        ..Default::default()
    };
    let request = fetch::Request {
        max_wait_ms: 100,
        min_bytes: 1,
        max_bytes: 50 << 20,
        session_epoch: -1,
        topics: topics.iter().map(topic).collect(),
        ..Default::default()
    };
    let response = client.call::<Fetch>(12, request).await;
    let rows = response.responses.iter().flat_map(|topic| &topic.partitions);
    rows.map(|row| {
        assert_eq!(row.error_code, ErrorCode::None.code(), "no storage error is told");
        assert_eq!(row.high_watermark, 1);
        row.records.as_ref().is_some_and(|records| 0 < records.byte_length())
    })
    .collect()
}

#[tokio::test]
async fn a_stuck_bucket_holds_up_only_what_lies_in_it() {
    let storage = Storage::new();
    let served = Served::start_on(&storage, &[]).await;
    let mut client = served.connect().await;
    create(&mut client, "cold", PARTITIONS).await;
    create(&mut client, "hot", 1).await;
    produce_to_each(&mut client, "cold", PARTITIONS).await;
    served.stop().await; // Flushed: from here on, its records are in the bucket only.

    let served = Served::start_on(&storage, &[]).await;
    let mut client = served.connect().await;
    produce_to_each(&mut client, "hot", 1).await;
    let slow = Faults { slow_per_mille: 1000, slow_max: STUCK, ..Faults::NONE };
    storage.lying.set_faults(slow);
    let topics = [("cold", PARTITIONS), ("hot", 1)];
    let fetched = tokio::time::timeout(CLIENT_PATIENCE, fetch_from_start(&mut client, &topics));
    let got = fetched.await.expect("an answer before clients give up");
    assert_eq!(got.iter().filter(|it| **it).count(), 1);
    assert_eq!(got.last(), Some(&true), "the last partition, behind {PARTITIONS} that wait");
    storage.lying.set_faults(Faults::NONE);
    served.stop().await;
}

/// The topics' first partitions, from the start; waits for a byte.
fn polling(topics: &[&str]) -> fetch::Request {
    let partition = fetch::request::FetchPartition {
        partition_max_bytes: 1 << 20,
        current_leader_epoch: -1,
        last_fetched_epoch: -1,
        ..Default::default()
    };
    let topic = |name: &&str| fetch::request::FetchTopic {
        topic: (*name).to_owned(),
        partitions: vec![partition.clone()],
        ..Default::default()
    };
    fetch::Request {
        max_wait_ms: i32::try_from(CLIENT_PATIENCE.as_millis()).expect("a number"),
        min_bytes: 1,
        max_bytes: 1 << 20,
        session_epoch: -1,
        topics: topics.iter().map(topic).collect(),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_topic_that_is_not_there_ends_no_wait_for_others() {
    let served = Served::start(&[]).await;
    let mut client = served.connect().await;
    create(&mut client, "idle", 1).await;
    let mut producer = served.connect().await;
    create(&mut producer, "other", 1).await;
    let mut polled = Box::pin(client.call::<Fetch>(12, polling(&["absent", "idle"])));
    for _ in 0..10 {
        assert!(futures::poll!(polled.as_mut()).is_pending(), "it waits for records");
        produce_to_each(&mut producer, "other", 1).await; // Time enough to be answered.
    }
    produce_to_each(&mut producer, "idle", 1).await;
    let polled = polled.await;
    let rows: Vec<_> = polled.responses.iter().flat_map(|it| &it.partitions).collect();
    let bytes = |row: &fetch::response::PartitionData| {
        row.records.as_ref().map_or(0, |records| records.byte_length())
    };
    assert_eq!(rows[0].error_code, ErrorCode::UnknownTopicOrPartition.code());
    assert_eq!(rows[1].error_code, ErrorCode::None.code());
    assert!(0 < bytes(rows[1]), "it waited for records");

    // Where nothing else is left, there is nothing to wait for.
    let polled = client.call::<Fetch>(12, polling(&["absent"]));
    let polled = tokio::time::timeout(CLIENT_PATIENCE / 2, polled).await.expect("at once");
    let row = &polled.responses[0].partitions[0];
    assert_eq!(row.error_code, ErrorCode::UnknownTopicOrPartition.code());
    served.stop().await;
}

/// The lookup of the first record from a time on, for each partition.
fn listing(topics: &[(&str, i32, i64)], timeout_ms: i32) -> list_offsets::Request {
    let topic = |&(name, partitions, timestamp): &(&str, i32, i64)| {
        let partition = |partition_index| list_offsets::request::ListOffsetsPartition {
            partition_index,
            current_leader_epoch: -1,
            timestamp,
        };
        list_offsets::request::ListOffsetsTopic {
            name: name.to_owned(),
            partitions: (0..partitions).map(partition).collect(),
        }
    };
    list_offsets::Request {
        replica_id: -1,
        topics: topics.iter().map(topic).collect(),
        timeout_ms,
        ..Default::default()
    }
}

#[tokio::test]
async fn a_stuck_bucket_holds_up_only_lookups_in_it_and_not_for_long() {
    /// So many that they would take longer than clients wait, sixteen at once.
    const LOOKED_UP: i32 = 128;
    let storage = Storage::new();
    let served = Served::start_on(&storage, &[]).await;
    let mut client = served.connect().await;
    create(&mut client, "cold", LOOKED_UP).await;
    create(&mut client, "hot", 1).await;
    produce_to_each(&mut client, "cold", LOOKED_UP).await;
    produce_to_each(&mut client, "hot", 1).await;
    let near = client.call::<ListOffsets>(10, listing(&[("cold", LOOKED_UP, 1)], 0)).await;
    let near = near.topics[0].partitions.iter().map(|it| (it.partition_index, it.offset));
    assert!(near.eq((0..LOOKED_UP).map(|index| (index, 0))));
    served.stop().await; // Flushed: from here on, its records are in the bucket only.

    let served = Served::start_on(&storage, &[]).await;
    let mut client = served.connect().await;
    let slow = Faults { slow_per_mille: 1000, slow_max: STUCK, ..Faults::NONE };
    storage.lying.set_faults(slow);
    let latest = -1;
    let request = listing(&[("cold", LOOKED_UP, 1), ("hot", 1, latest), ("absent", 1, 1)], 500);
    let listed = client.call::<ListOffsets>(10, request.clone());
    let told = tokio::time::timeout(CLIENT_PATIENCE, listed).await.expect("before clients give up");
    let rows = |topic: usize| {
        let rows = told.topics[topic].partitions.iter();
        rows.map(|it| (it.partition_index, it.error_code, it.offset)).collect::<Vec<_>>()
    };
    let late = ErrorCode::LeaderNotAvailable.code();
    assert_eq!(rows(0), (0..LOOKED_UP).map(|index| (index, late, -1)).collect::<Vec<_>>());
    assert_eq!(rows(1), [(0, ErrorCode::None.code(), 1)], "it needs nothing of the bucket");
    assert_eq!(rows(2), [(0, ErrorCode::UnknownTopicOrPartition.code(), -1)]);

    storage.lying.set_faults(Faults::NONE);
    served.stop().await;
}

#[tokio::test]
async fn a_stop_answers_who_waits_for_more_records() {
    let served = Served::start(&[]).await;
    let mut client = served.connect().await;
    create(&mut client, "slow", 1).await;
    let mut producer = served.connect().await;
    let request = fetch::Request { min_bytes: 1 << 20, ..polling(&["slow"]) };
    let mut polled = Box::pin(client.call::<Fetch>(12, request));
    for _ in 0..3 {
        assert!(futures::poll!(polled.as_mut()).is_pending());
        produce_to_each(&mut producer, "slow", 1).await; // It looks again, and waits on.
    }
    let ended = async { tokio::join!(polled, served.stop()) };
    let ended = tokio::time::timeout(CLIENT_PATIENCE / 2, ended).await;
    let (polled, ()) = ended.expect("nobody waits for records any more");
    let row = &polled.responses[0].partitions[0];
    assert_eq!((row.error_code, row.high_watermark), (ErrorCode::None.code(), 3));
}

#[tokio::test]
async fn requests_sent_at_once_are_answered_in_their_order() {
    const REQUESTS: usize = 300; // More than may await their answers.
    const IN_ORDER: i32 = 3;
    let served = Served::start(&[]).await;
    let mut client = served.connect().await;
    create(&mut client, "piped", IN_ORDER).await;
    // A partition that is not there is refused at once, and nevertheless in its turn.
    let request = |at: usize| producing("piped", IN_ORDER + i32::from(at.is_multiple_of(3)));
    let requests: Vec<_> = (0..REQUESTS).map(request).collect();
    let responses = client.call_all::<Produce>(9, &requests).await;
    for (at, response) in responses.iter().enumerate() {
        let rows = &response.responses[0].partition_responses;
        let offsets: Vec<_> = rows.iter().map(|row| row.base_offset).collect();
        let mut expected = vec![at as i64; IN_ORDER as usize];
        expected.extend((at.is_multiple_of(3)).then_some(-1));
        assert_eq!(offsets, expected, "answer {at}");
    }
    served.stop().await;
}
