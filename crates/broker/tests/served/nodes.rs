//! What operators' tools ask of the nodes: who holds the metadata, and in which directories partitions lie.

use protocol::ErrorCode;
use protocol::messages::Api;
use protocol::messages::alter_replica_log_dirs::{self, AlterReplicaLogDirs};
use protocol::messages::create_topics::{self, CreateTopics};
use protocol::messages::describe_log_dirs::{self, DescribeLogDirs};
use protocol::messages::describe_quorum::{self, DescribeQuorum, response::PartitionData};
use vocabulary::TopicId;

use crate::client::{BROKER_ID, Client, Served, Storage};

pub(crate) fn describing(topic: &str, partition: i32) -> describe_quorum::Request {
    let partition = describe_quorum::request::PartitionData { partition_index: partition };
    let topic_name = topic.to_owned();
    let topic = describe_quorum::request::TopicData { topic_name, partitions: vec![partition] };
    describe_quorum::Request { topics: vec![topic] }
}

async fn create(client: &mut Client, name: &str) {
    let topic = create_topics::request::CreatableTopic {
        name: name.to_owned(),
        num_partitions: 2,
        replication_factor: 1,
        ..Default::default()
    };
    let request =
        create_topics::Request { topics: vec![topic], timeout_ms: 30_000, validate_only: false };
    assert_eq!(client.call::<CreateTopics>(7, request).await.topics[0].error_code, 0);
}

/// The row of the metadata.
async fn quorum(client: &mut Client, version: i16) -> PartitionData {
    let request = describing("__cluster_metadata", 0);
    let mut told = client.call::<DescribeQuorum>(version, request).await;
    assert_eq!((told.error_code, told.topics.len()), (0, 1));
    assert_eq!(told.topics[0].topic_name, "__cluster_metadata");
    assert_eq!(told.topics[0].partitions.len(), 1);
    told.topics[0].partitions.remove(0)
}

#[tokio::test]
async fn the_broker_is_a_quorum_of_one_whose_log_grows_and_whose_epochs_too() {
    let storage = Storage::new();
    let served = Served::start_on(&storage, &[]).await;
    let mut client = served.connect().await;
    for version in DescribeQuorum::KEY.valid_versions() {
        let told = quorum(&mut client, version).await;
        assert_eq!((told.partition_index, told.error_code), (0, 0));
        assert_eq!(told.leader_id, BROKER_ID);
        assert!(0 <= told.leader_epoch && 0 < told.high_watermark, "{told:?}");
        assert_eq!(told.observers, []);
        let [voter] = &told.current_voters[..] else { panic!("one voter: {told:?}") };
        assert_eq!((voter.replica_id, voter.log_end_offset), (BROKER_ID, told.high_watermark));
        assert_eq!(voter.replica_directory_id, TopicId::ZERO);
        // Times came with version 1.
        let timed = |it: i64| if version == 0 { it == -1 } else { 0 < it };
        assert!(timed(voter.last_fetch_timestamp) && timed(voter.last_caught_up_timestamp));
    }
    let nodes = client.call::<DescribeQuorum>(2, describing("__cluster_metadata", 0)).await.nodes;
    assert_eq!((nodes.len(), nodes[0].node_id), (1, BROKER_ID));
    let [listener] = &nodes[0].listeners[..] else { panic!("one listener: {nodes:?}") };
    assert_eq!((listener.name.as_str(), listener.host.as_str()), ("PLAINTEXT", "127.0.0.1"));
    assert_eq!(i32::from(listener.port), served.port());

    let before = quorum(&mut client, 2).await;
    create(&mut client, "t").await;
    let after = quorum(&mut client, 2).await;
    assert_eq!(after.leader_epoch, before.leader_epoch);
    assert!(before.high_watermark < after.high_watermark, "a topic is a change of the metadata");
    served.stop().await;

    let served = Served::start_on(&storage, &[]).await;
    let again = quorum(&mut served.connect().await, 2).await;
    assert!(after.leader_epoch < again.leader_epoch, "each opening is an epoch");
    assert!(after.high_watermark <= again.high_watermark);
    served.stop().await;
}

#[tokio::test]
async fn no_other_partition_has_a_quorum() {
    let served = Served::start(&[]).await;
    let mut client = served.connect().await;
    create(&mut client, "t").await;
    for version in DescribeQuorum::KEY.valid_versions() {
        for (topic, partition) in [("t", 0), ("__cluster_metadata", 1), ("", 0)] {
            let told = client.call::<DescribeQuorum>(version, describing(topic, partition)).await;
            assert_eq!((told.error_code, &told.nodes[..]), (0, &[][..]));
            let row = &told.topics[0].partitions[0];
            assert_eq!(told.topics[0].topic_name, topic);
            assert_eq!(row.partition_index, partition);
            assert_eq!(row.error_code, ErrorCode::UnknownTopicOrPartition.code());
            assert_eq!(row.current_voters, []);
        }
    }
    served.stop().await;
}

/// A fenced broker does not say that it leads.
#[tokio::test]
async fn who_lost_the_metadata_says_so() {
    let storage = Storage::new();
    let first = Served::start_on(&storage, &[]).await;
    let mut client = first.connect().await;
    let second = Served::start_on(&storage, &[]).await;
    let topic = create_topics::request::CreatableTopic {
        name: "t".to_owned(),
        num_partitions: 1,
        replication_factor: 1,
        ..Default::default()
    };
    let request =
        create_topics::Request { topics: vec![topic], timeout_ms: 30_000, validate_only: false };
    assert_ne!(client.call::<CreateTopics>(7, request).await.topics[0].error_code, 0);
    let told = quorum(&mut client, 2).await;
    assert_eq!(told.error_code, ErrorCode::NotLeaderOrFollower.code());
    assert_eq!(quorum(&mut second.connect().await, 2).await.error_code, 0);
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn a_partition_may_be_moved_to_where_it_is() {
    let served = Served::start(&[]).await;
    let mut client = served.connect().await;
    create(&mut client, "t").await;
    let all = describe_log_dirs::Request { topics: None };
    let here = client.call::<DescribeLogDirs>(4, all).await.results.remove(0).log_dir;
    assert!(here.starts_with('/'), "{here} is absolute");
    for version in AlterReplicaLogDirs::KEY.valid_versions() {
        let dir = |path: &str, partitions: &[i32], topic: &str| {
            alter_replica_log_dirs::request::AlterReplicaLogDir {
                path: path.to_owned(),
                topics: vec![alter_replica_log_dirs::request::AlterReplicaLogDirTopic {
                    name: topic.to_owned(),
                    partitions: partitions.to_vec(),
                }],
            }
        };
        let dirs = vec![
            dir(&here, &[0, 9], "t"),
            dir("/elsewhere", &[1], "t"),
            dir(&here, &[0], "absent"),
        ];
        let request = alter_replica_log_dirs::Request { dirs };
        let told = client.call::<AlterReplicaLogDirs>(version, request).await;
        let rows = told.results.iter().flat_map(|topic| {
            let row = |it: &alter_replica_log_dirs::response::AlterReplicaLogDirPartitionResult| {
                let code = ErrorCode::from_code(it.error_code).expect("a code of Kafka");
                (topic.topic_name.clone(), it.partition_index, code)
            };
            topic.partitions.iter().map(row).collect::<Vec<_>>()
        });
        let expected = [
            ("absent", 0, ErrorCode::UnknownTopicOrPartition),
            ("t", 0, ErrorCode::None),
            ("t", 1, ErrorCode::LogDirNotFound),
            ("t", 9, ErrorCode::UnknownTopicOrPartition),
        ];
        let expected = expected.map(|(name, index, code)| (name.to_owned(), index, code));
        assert_eq!(rows.collect::<Vec<_>>(), expected);
    }
    served.stop().await;
}
