//! One request of every API that somebody without any permission makes, and the codes that must be in its answer.
//!
//! The match has no arm for "others": a new API does not compile until it says what is expected of it.

use bytes::BytesMut;
use protocol::ErrorCode::{
    self, ClusterAuthorizationFailed as CLUSTER, GroupAuthorizationFailed as GROUP,
    TopicAuthorizationFailed as TOPIC, TransactionalIdAuthorizationFailed as TRANSACTION,
};
use protocol::messages::*;
use protocol::records::{BatchBuilder, Compression};
use vocabulary::{ProducerId, Timestamp, TopicId};

use crate::client::Client;

/// What was found and what is expected there.
type Codes = Vec<(i16, ErrorCode)>;

/// As many codes as there are must be that one, and there must be one at least.
fn each(codes: impl Iterator<Item = i16>, expected: ErrorCode) -> Codes {
    let codes: Vec<_> = codes.map(|it| (it, expected)).collect();
    assert!(!codes.is_empty(), "{expected:?} is told somewhere");
    codes
}

pub(super) fn produce(topic_id: TopicId, transactional_id: Option<&str>) -> produce::Request {
    let producer = transactional_id.map(|_| (ProducerId(1), 0, 0));
    let builder = BatchBuilder::new(Compression::None, producer);
    let mut builder = if transactional_id.is_some() { builder.transactional() } else { builder };
    builder.push(Timestamp(1), None, Some(b"value"), &[]);
    let (_, bytes) = builder.build().freeze();
    let data = produce::request::PartitionProduceData {
        index: 0,
        records: Some(BytesMut::from(&bytes[..])),
    };
    produce::Request {
        transactional_id: transactional_id.map(str::to_owned),
        acks: -1,
        timeout_ms: 9_000,
        topic_data: vec![produce::request::TopicProduceData {
            name: "t".to_owned(),
            topic_id,
            partition_data: vec![data],
        }],
    }
}

pub(super) fn fetch(topic_id: TopicId) -> fetch::Request {
    fetch::Request {
        max_bytes: 1 << 20,
        session_epoch: -1,
        topics: vec![fetch::request::FetchTopic {
            topic: "t".to_owned(),
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

pub(super) fn offset_commit(group: &str, topic_id: TopicId) -> offset_commit::Request {
    offset_commit::Request {
        group_id: group.to_owned(),
        generation_id_or_member_epoch: -1,
        topics: vec![offset_commit::request::OffsetCommitRequestTopic {
            name: "t".to_owned(),
            topic_id,
            partitions: vec![Default::default()],
        }],
        ..Default::default()
    }
}

pub(super) async fn denied(
    client: &mut Client,
    key: ApiKey,
    version: i16,
    topic_id: TopicId,
) -> Codes {
    let name = || "t".to_owned();
    let group = || "g".to_owned();
    let id = || "x".to_owned();
    match key {
        // Anybody may ask.
        ApiKey::ApiVersions => {
            let request = api_versions::Request {
                client_software_name: "served".to_owned(),
                client_software_version: "1".to_owned(),
                ..Default::default()
            };
            let answer = client.call::<api_versions::ApiVersions>(version, request).await;
            vec![(answer.error_code, ErrorCode::None)]
        }
        ApiKey::DescribeCluster => {
            let request = describe_cluster::Request {
                include_cluster_authorized_operations: true,
                endpoint_type: 1,
                ..Default::default()
            };
            let answer = client.call::<describe_cluster::DescribeCluster>(version, request).await;
            assert_eq!(answer.cluster_authorized_operations, 0);
            vec![(answer.error_code, ErrorCode::None)]
        }
        ApiKey::Produce => {
            let answer = client.call::<produce::Produce>(version, produce(topic_id, None)).await;
            let mut codes = each(
                answer
                    .responses
                    .iter()
                    .flat_map(|it| &it.partition_responses)
                    .map(|it| it.error_code),
                TOPIC,
            );
            let request = produce(topic_id, Some("x"));
            let answer = client.call::<produce::Produce>(version, request).await;
            // A batch that is refused for its topic is not looked into.
            codes.extend(each(
                answer
                    .responses
                    .iter()
                    .flat_map(|it| &it.partition_responses)
                    .map(|it| it.error_code),
                TRANSACTION,
            ));
            codes
        }
        ApiKey::Fetch => {
            let answer = client.call::<fetch::Fetch>(version, fetch(topic_id)).await;
            each(
                answer.responses.iter().flat_map(|it| &it.partitions).map(|it| it.error_code),
                TOPIC,
            )
        }
        ApiKey::ListOffsets => {
            let request = list_offsets::Request {
                topics: vec![list_offsets::request::ListOffsetsTopic {
                    name: name(),
                    partitions: vec![Default::default()],
                }],
                ..Default::default()
            };
            let answer = client.call::<list_offsets::ListOffsets>(version, request).await;
            each(answer.topics.iter().flat_map(|it| &it.partitions).map(|it| it.error_code), TOPIC)
        }
        ApiKey::Metadata => {
            let all = metadata::Request {
                topics: (version != 0).then_some(()).map_or(Some(Vec::new()), |()| None),
                ..Default::default()
            };
            assert_eq!(client.call::<metadata::Metadata>(version, all).await.topics, []);
            let mut asked = vec![
                metadata::request::MetadataRequestTopic {
                    name: Some(name()),
                    ..Default::default()
                },
                metadata::request::MetadataRequestTopic {
                    name: Some("absent".to_owned()),
                    ..Default::default()
                },
            ];
            if 12 <= version {
                asked.push(metadata::request::MetadataRequestTopic { name: None, topic_id });
            }
            let request = metadata::Request {
                topics: Some(asked),
                allow_auto_topic_creation: true,
                ..Default::default()
            };
            let answer = client.call::<metadata::Metadata>(version, request).await;
            if 12 <= version {
                assert_eq!(answer.topics[2].name, None);
            }
            assert!(answer.topics.iter().all(|it| it.partitions.is_empty()));
            each(answer.topics.iter().map(|it| it.error_code), TOPIC)
        }
        ApiKey::OffsetCommit => {
            let request = offset_commit("g", topic_id);
            let answer = client.call::<offset_commit::OffsetCommit>(version, request).await;
            each(answer.topics.iter().flat_map(|it| &it.partitions).map(|it| it.error_code), GROUP)
        }
        ApiKey::OffsetFetch => {
            let request = offset_fetch::Request {
                group_id: group(),
                topics: Some(vec![offset_fetch::request::OffsetFetchRequestTopic {
                    name: name(),
                    partition_indexes: vec![0],
                }]),
                groups: vec![offset_fetch::request::OffsetFetchRequestGroup {
                    group_id: group(),
                    member_epoch: -1,
                    topics: None,
                    ..Default::default()
                }],
                ..Default::default()
            };
            let answer = client.call::<offset_fetch::OffsetFetch>(version, request).await;
            match version {
                ..2 => each(
                    answer.topics.iter().flat_map(|it| &it.partitions).map(|it| it.error_code),
                    GROUP,
                ),
                2..8 => vec![(answer.error_code, GROUP)],
                _ => each(answer.groups.iter().map(|it| it.error_code), GROUP),
            }
        }
        ApiKey::FindCoordinator => {
            let mut codes = Vec::new();
            let kinds = [(0, GROUP), (1, TRANSACTION), (2, CLUSTER)];
            let kinds = kinds.into_iter().filter(|(kind, _)| *kind == 0 || 1 <= version);
            for (kind, expected) in kinds {
                let request = find_coordinator::Request {
                    key: id(),
                    key_type: kind,
                    coordinator_keys: vec![id()],
                };
                let answer =
                    client.call::<find_coordinator::FindCoordinator>(version, request).await;
                codes.extend(match version {
                    ..4 => vec![(answer.error_code, expected)],
                    _ => each(answer.coordinators.iter().map(|it| it.error_code), expected),
                });
            }
            codes
        }
        ApiKey::JoinGroup => {
            let request = join_group::Request {
                group_id: group(),
                session_timeout_ms: 9_000,
                protocol_type: "consumer".to_owned(),
                ..Default::default()
            };
            let answer = client.call::<join_group::JoinGroup>(version, request).await;
            vec![(answer.error_code, GROUP)]
        }
        ApiKey::Heartbeat => {
            let request = heartbeat::Request { group_id: group(), ..Default::default() };
            let answer = client.call::<heartbeat::Heartbeat>(version, request).await;
            vec![(answer.error_code, GROUP)]
        }
        ApiKey::LeaveGroup => {
            let request = leave_group::Request { group_id: group(), ..Default::default() };
            let answer = client.call::<leave_group::LeaveGroup>(version, request).await;
            vec![(answer.error_code, GROUP)]
        }
        ApiKey::SyncGroup => {
            let request = sync_group::Request { group_id: group(), ..Default::default() };
            let answer = client.call::<sync_group::SyncGroup>(version, request).await;
            vec![(answer.error_code, GROUP)]
        }
        ApiKey::DescribeGroups => {
            let request = describe_groups::Request { groups: vec![group()], ..Default::default() };
            let answer = client.call::<describe_groups::DescribeGroups>(version, request).await;
            each(answer.groups.iter().map(|it| it.error_code), GROUP)
        }
        ApiKey::ListGroups => {
            let request = list_groups::Request::default();
            let answer = client.call::<list_groups::ListGroups>(version, request).await;
            assert_eq!(answer.groups, []);
            vec![(answer.error_code, ErrorCode::None)]
        }
        ApiKey::CreateTopics => {
            let topic = |name: &str| create_topics::request::CreatableTopic {
                name: name.to_owned(),
                num_partitions: 1,
                replication_factor: 1,
                ..Default::default()
            };
            let request = create_topics::Request {
                topics: vec![topic("t"), topic("new")],
                timeout_ms: 9_000,
                validate_only: false,
            };
            let answer = client.call::<create_topics::CreateTopics>(version, request).await;
            each(answer.topics.iter().map(|it| it.error_code), TOPIC)
        }
        ApiKey::DeleteTopics => {
            let state =
                |name, topic_id| delete_topics::request::DeleteTopicState { name, topic_id };
            let request = delete_topics::Request {
                topics: match version {
                    6.. => {
                        vec![state(Some("absent".to_owned()), TopicId::ZERO), state(None, topic_id)]
                    }
                    _ => Vec::new(),
                },
                topic_names: match version {
                    6.. => Vec::new(),
                    _ => vec![name(), "absent".to_owned()],
                },
                timeout_ms: 9_000,
            };
            let answer = client.call::<delete_topics::DeleteTopics>(version, request).await;
            if 6 <= version {
                let by_id = &answer.responses[1];
                assert_eq!((&by_id.name, by_id.topic_id), (&None, topic_id), "no name is told");
            }
            each(answer.responses.iter().map(|it| it.error_code), TOPIC)
        }
        ApiKey::DeleteRecords => {
            let request = delete_records::Request {
                topics: vec![delete_records::request::DeleteRecordsTopic {
                    name: name(),
                    partitions: vec![Default::default()],
                }],
                timeout_ms: 9_000,
            };
            let answer = client.call::<delete_records::DeleteRecords>(version, request).await;
            each(answer.topics.iter().flat_map(|it| &it.partitions).map(|it| it.error_code), TOPIC)
        }
        ApiKey::InitProducerId => {
            let mut codes = Vec::new();
            for (transactional_id, expected) in [(None, CLUSTER), (Some(id()), TRANSACTION)] {
                let request = init_producer_id::Request {
                    transactional_id,
                    transaction_timeout_ms: 60_000,
                    producer_id: -1,
                    producer_epoch: -1,
                    ..Default::default()
                };
                let answer =
                    client.call::<init_producer_id::InitProducerId>(version, request).await;
                codes.push((answer.error_code, expected));
            }
            codes
        }
        ApiKey::OffsetForLeaderEpoch => {
            let request = offset_for_leader_epoch::Request {
                replica_id: -1,
                topics: vec![offset_for_leader_epoch::request::OffsetForLeaderTopic {
                    topic: name(),
                    partitions: vec![Default::default()],
                }],
            };
            let answer = client
                .call::<offset_for_leader_epoch::OffsetForLeaderEpoch>(version, request)
                .await;
            each(answer.topics.iter().flat_map(|it| &it.partitions).map(|it| it.error_code), TOPIC)
        }
        ApiKey::AddPartitionsToTxn => {
            let topic = add_partitions_to_txn::request::AddPartitionsToTxnTopic {
                name: name(),
                partitions: vec![0],
            };
            let request = add_partitions_to_txn::Request {
                transactions: vec![add_partitions_to_txn::request::AddPartitionsToTxnTransaction {
                    transactional_id: id(),
                    topics: vec![topic.clone()],
                    ..Default::default()
                }],
                v3_and_below_transactional_id: id(),
                v3_and_below_topics: vec![topic],
                ..Default::default()
            };
            let answer =
                client.call::<add_partitions_to_txn::AddPartitionsToTxn>(version, request).await;
            match version {
                4.. => vec![(answer.error_code, CLUSTER)],
                _ => each(
                    answer
                        .results_by_topic_v3_and_below
                        .iter()
                        .flat_map(|it| &it.results_by_partition)
                        .map(|it| it.partition_error_code),
                    TRANSACTION,
                ),
            }
        }
        ApiKey::AddOffsetsToTxn => {
            let request = add_offsets_to_txn::Request {
                transactional_id: id(),
                group_id: group(),
                ..Default::default()
            };
            let answer = client.call::<add_offsets_to_txn::AddOffsetsToTxn>(version, request).await;
            vec![(answer.error_code, TRANSACTION)]
        }
        ApiKey::EndTxn => {
            let request = end_txn::Request { transactional_id: id(), ..Default::default() };
            let answer = client.call::<end_txn::EndTxn>(version, request).await;
            vec![(answer.error_code, TRANSACTION)]
        }
        ApiKey::WriteTxnMarkers => {
            let request = write_txn_markers::Request {
                markers: vec![write_txn_markers::request::WritableTxnMarker {
                    topics: vec![write_txn_markers::request::WritableTxnMarkerTopic {
                        name: name(),
                        partition_indexes: vec![0],
                    }],
                    ..Default::default()
                }],
            };
            let answer = client.call::<write_txn_markers::WriteTxnMarkers>(version, request).await;
            let topics = answer.markers.iter().flat_map(|it| &it.topics);
            each(topics.flat_map(|it| &it.partitions).map(|it| it.error_code), CLUSTER)
        }
        ApiKey::TxnOffsetCommit => {
            let request = txn_offset_commit::Request {
                transactional_id: id(),
                group_id: group(),
                topics: vec![txn_offset_commit::request::TxnOffsetCommitRequestTopic {
                    name: name(),
                    topic_id,
                    partitions: vec![Default::default()],
                }],
                ..Default::default()
            };
            let answer = client.call::<txn_offset_commit::TxnOffsetCommit>(version, request).await;
            let rows = answer.topics.iter().flat_map(|it| &it.partitions);
            each(rows.map(|it| it.error_code), TRANSACTION)
        }
        ApiKey::DescribeAcls => {
            let request = describe_acls::Request {
                resource_type_filter: 1,
                pattern_type_filter: 1,
                operation: 1,
                permission_type: 1,
                ..Default::default()
            };
            let answer = client.call::<describe_acls::DescribeAcls>(version, request).await;
            vec![(answer.error_code, CLUSTER)]
        }
        ApiKey::CreateAcls => {
            let creations = vec![super::acl((2, "t"), 3, 2, 3)];
            let request = create_acls::Request { creations };
            let answer = client.call::<create_acls::CreateAcls>(version, request).await;
            each(answer.results.iter().map(|it| it.error_code), CLUSTER)
        }
        ApiKey::DeleteAcls => {
            let request = delete_acls::Request { filters: vec![super::everything()] };
            let answer = client.call::<delete_acls::DeleteAcls>(version, request).await;
            each(answer.filter_results.iter().map(|it| it.error_code), CLUSTER)
        }
        ApiKey::DescribeLogDirs => {
            let request = describe_log_dirs::Request { topics: None };
            let answer = client.call::<describe_log_dirs::DescribeLogDirs>(version, request).await;
            assert_eq!(answer.results, []);
            let expected = if 3 <= version { CLUSTER } else { ErrorCode::None };
            vec![(answer.error_code, expected)]
        }
        ApiKey::DescribeConfigs => {
            let resource =
                |resource_type, name: &str| describe_configs::request::DescribeConfigsResource {
                    resource_type,
                    resource_name: name.to_owned(),
                    configuration_keys: None,
                };
            let kinds = [
                (2, "t", TOPIC),
                (4, "", CLUSTER),
                (8, "5", CLUSTER),
                (16, "m", CLUSTER),
                (32, "g", GROUP),
            ];
            let request = describe_configs::Request {
                resources: kinds.iter().map(|(kind, name, _)| resource(*kind, name)).collect(),
                ..Default::default()
            };
            let answer = client.call::<describe_configs::DescribeConfigs>(version, request).await;
            assert!(answer.results.iter().all(|it| it.configs.is_empty()));
            let expected = kinds.iter().map(|(.., code)| *code);
            answer.results.iter().map(|it| it.error_code).zip(expected).collect()
        }
        ApiKey::AlterConfigs => {
            let kinds = [(2, "t", TOPIC), (4, "", CLUSTER), (32, "g", GROUP)];
            let resource =
                |resource_type, name: &str| alter_configs::request::AlterConfigsResource {
                    resource_type,
                    resource_name: name.to_owned(),
                    configs: Vec::new(),
                };
            let request = alter_configs::Request {
                resources: kinds.iter().map(|(kind, name, _)| resource(*kind, name)).collect(),
                validate_only: false,
            };
            let answer = client.call::<alter_configs::AlterConfigs>(version, request).await;
            let expected = kinds.iter().map(|(.., code)| *code);
            answer.responses.iter().map(|it| it.error_code).zip(expected).collect()
        }
        ApiKey::IncrementalAlterConfigs => {
            let kinds = [(2, "t", TOPIC), (4, "", CLUSTER), (32, "g", GROUP)];
            let resource = |resource_type, name: &str| {
                incremental_alter_configs::request::AlterConfigsResource {
                    resource_type,
                    resource_name: name.to_owned(),
                    configs: Vec::new(),
                }
            };
            let request = incremental_alter_configs::Request {
                resources: kinds.iter().map(|(kind, name, _)| resource(*kind, name)).collect(),
                validate_only: false,
            };
            let answer = client
                .call::<incremental_alter_configs::IncrementalAlterConfigs>(version, request)
                .await;
            let expected = kinds.iter().map(|(.., code)| *code);
            answer.responses.iter().map(|it| it.error_code).zip(expected).collect()
        }
        ApiKey::CreatePartitions => {
            let request = create_partitions::Request {
                topics: vec![create_partitions::request::CreatePartitionsTopic {
                    name: name(),
                    count: 9,
                    assignments: None,
                }],
                timeout_ms: 9_000,
                validate_only: false,
            };
            let answer = client.call::<create_partitions::CreatePartitions>(version, request).await;
            each(answer.results.iter().map(|it| it.error_code), TOPIC)
        }
        ApiKey::DeleteGroups => {
            let request = delete_groups::Request { groups_names: vec![group()] };
            let answer = client.call::<delete_groups::DeleteGroups>(version, request).await;
            each(answer.results.iter().map(|it| it.error_code), GROUP)
        }
        ApiKey::ElectLeaders => {
            let request = elect_leaders::Request {
                topic_partitions: Some(vec![elect_leaders::request::TopicPartitions {
                    topic: name(),
                    partitions: vec![0],
                }]),
                ..Default::default()
            };
            let answer = client.call::<elect_leaders::ElectLeaders>(version, request).await;
            let rows = answer.replica_election_results.iter().flat_map(|it| &it.partition_result);
            let mut codes = each(rows.map(|it| it.error_code), CLUSTER);
            if 1 <= version {
                codes.push((answer.error_code, CLUSTER));
            }
            codes
        }
        ApiKey::AlterPartitionReassignments => {
            let request = alter_partition_reassignments::Request::default();
            let answer = client
                .call::<alter_partition_reassignments::AlterPartitionReassignments>(
                    version, request,
                )
                .await;
            vec![(answer.error_code, CLUSTER)]
        }
        ApiKey::AlterReplicaLogDirs => {
            let topic = alter_replica_log_dirs::request::AlterReplicaLogDirTopic {
                name: name(),
                partitions: vec![0],
            };
            let request = alter_replica_log_dirs::Request {
                dirs: vec![alter_replica_log_dirs::request::AlterReplicaLogDir {
                    path: "/".to_owned(),
                    topics: vec![topic],
                }],
            };
            let answer =
                client.call::<alter_replica_log_dirs::AlterReplicaLogDirs>(version, request).await;
            let rows = answer.results.iter().flat_map(|it| &it.partitions);
            each(rows.map(|it| it.error_code), CLUSTER)
        }
        ApiKey::DescribeQuorum => {
            let request = crate::nodes::describing("__cluster_metadata", 0);
            let answer = client.call::<describe_quorum::DescribeQuorum>(version, request).await;
            assert_eq!((&answer.topics[..], &answer.nodes[..]), (&[][..], &[][..]));
            vec![(answer.error_code, CLUSTER)]
        }
        ApiKey::ListPartitionReassignments => {
            let request = list_partition_reassignments::Request::default();
            let answer = client
                .call::<list_partition_reassignments::ListPartitionReassignments>(version, request)
                .await;
            vec![(answer.error_code, CLUSTER)]
        }
        ApiKey::OffsetDelete => {
            let request = offset_delete::Request {
                group_id: group(),
                topics: vec![offset_delete::request::OffsetDeleteRequestTopic {
                    name: name(),
                    partitions: vec![Default::default()],
                }],
            };
            let answer = client.call::<offset_delete::OffsetDelete>(version, request).await;
            vec![(answer.error_code, GROUP)]
        }
        ApiKey::ConsumerGroupHeartbeat => {
            let request = consumer_group_heartbeat::Request {
                group_id: group(),
                member_id: "m".to_owned(),
                rebalance_timeout_ms: 9_000,
                subscribed_topic_names: Some(vec![name()]),
                topic_partitions: Some(Vec::new()),
                ..Default::default()
            };
            let answer = client
                .call::<consumer_group_heartbeat::ConsumerGroupHeartbeat>(version, request)
                .await;
            vec![(answer.error_code, GROUP)]
        }
        ApiKey::ConsumerGroupDescribe => {
            let request =
                consumer_group_describe::Request { group_ids: vec![group()], ..Default::default() };
            let answer = client
                .call::<consumer_group_describe::ConsumerGroupDescribe>(version, request)
                .await;
            each(answer.groups.iter().map(|it| it.error_code), GROUP)
        }
        ApiKey::ListConfigResources => {
            let request = list_config_resources::Request::default();
            let answer =
                client.call::<list_config_resources::ListConfigResources>(version, request).await;
            assert_eq!(answer.config_resources, []);
            vec![(answer.error_code, CLUSTER)]
        }
        ApiKey::DescribeTopicPartitions => {
            let all = describe_topic_partitions::Request::default();
            let answer = client
                .call::<describe_topic_partitions::DescribeTopicPartitions>(version, all)
                .await;
            assert_eq!(answer.topics, []);
            let topic = |name: &str| describe_topic_partitions::request::TopicRequest {
                name: name.to_owned(),
            };
            let request = describe_topic_partitions::Request {
                topics: vec![topic("t"), topic("absent")],
                ..Default::default()
            };
            let answer = client
                .call::<describe_topic_partitions::DescribeTopicPartitions>(version, request)
                .await;
            each(answer.topics.iter().map(|it| it.error_code), TOPIC)
        }
        ApiKey::DescribeProducers => {
            let request = describe_producers::Request {
                topics: vec![describe_producers::request::TopicRequest {
                    name: name(),
                    partition_indexes: vec![0],
                }],
            };
            let answer =
                client.call::<describe_producers::DescribeProducers>(version, request).await;
            each(answer.topics.iter().flat_map(|it| &it.partitions).map(|it| it.error_code), TOPIC)
        }
        ApiKey::DescribeTransactions => {
            let request = describe_transactions::Request { transactional_ids: vec![id()] };
            let answer =
                client.call::<describe_transactions::DescribeTransactions>(version, request).await;
            each(answer.transaction_states.iter().map(|it| it.error_code), TRANSACTION)
        }
        ApiKey::ListTransactions => {
            let request = list_transactions::Request { duration_filter: -1, ..Default::default() };
            let answer = client.call::<list_transactions::ListTransactions>(version, request).await;
            assert_eq!(answer.transaction_states, []);
            vec![(answer.error_code, ErrorCode::None)]
        }
        ApiKey::ShareGroupHeartbeat => {
            let request = share_group_heartbeat::Request {
                group_id: group(),
                member_id: "m".to_owned(),
                subscribed_topic_names: Some(vec![name()]),
                ..Default::default()
            };
            let answer =
                client.call::<share_group_heartbeat::ShareGroupHeartbeat>(version, request).await;
            vec![(answer.error_code, GROUP)]
        }
        ApiKey::ShareGroupDescribe => {
            let request =
                share_group_describe::Request { group_ids: vec![group()], ..Default::default() };
            let answer =
                client.call::<share_group_describe::ShareGroupDescribe>(version, request).await;
            each(answer.groups.iter().map(|it| it.error_code), GROUP)
        }
        ApiKey::ShareFetch => {
            let request = share_fetch::Request {
                group_id: Some(group()),
                member_id: Some("m".to_owned()),
                topics: vec![share_fetch::request::FetchTopic {
                    topic_id,
                    partitions: vec![Default::default()],
                }],
                ..Default::default()
            };
            let answer = client.call::<share_fetch::ShareFetch>(version, request).await;
            vec![(answer.error_code, GROUP)]
        }
        ApiKey::ShareAcknowledge => {
            let request = share_acknowledge::Request {
                group_id: Some(group()),
                member_id: Some("m".to_owned()),
                share_session_epoch: 1,
                ..Default::default()
            };
            let answer = client.call::<share_acknowledge::ShareAcknowledge>(version, request).await;
            vec![(answer.error_code, GROUP)]
        }
        ApiKey::DescribeShareGroupOffsets => {
            let request = describe_share_group_offsets::Request {
                groups: vec![
                    describe_share_group_offsets::request::DescribeShareGroupOffsetsRequestGroup {
                        group_id: group(),
                        topics: None,
                    },
                ],
            };
            let answer = client
                .call::<describe_share_group_offsets::DescribeShareGroupOffsets>(version, request)
                .await;
            each(answer.groups.iter().map(|it| it.error_code), GROUP)
        }
        ApiKey::AlterShareGroupOffsets => {
            let request =
                alter_share_group_offsets::Request { group_id: group(), ..Default::default() };
            let answer = client
                .call::<alter_share_group_offsets::AlterShareGroupOffsets>(version, request)
                .await;
            vec![(answer.error_code, GROUP)]
        }
        ApiKey::DeleteShareGroupOffsets => {
            let request =
                delete_share_group_offsets::Request { group_id: group(), ..Default::default() };
            let answer = client
                .call::<delete_share_group_offsets::DeleteShareGroupOffsets>(version, request)
                .await;
            vec![(answer.error_code, GROUP)]
        }
    }
}
