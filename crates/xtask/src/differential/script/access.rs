//! ACLs, and what somebody meets who is denied something. On a broker with an authorizer, where what no ACL speaks of
//! is everybody's.

use anyhow::Result;
use protocol::ErrorCode;
use protocol::messages::add_offsets_to_txn::{self, AddOffsetsToTxn};
use protocol::messages::add_partitions_to_txn::{self, AddPartitionsToTxn};
use protocol::messages::alter_partition_reassignments::{self, AlterPartitionReassignments};
use protocol::messages::alter_replica_log_dirs::{self, AlterReplicaLogDirs};
use protocol::messages::consumer_group_describe::{self, ConsumerGroupDescribe};
use protocol::messages::consumer_group_heartbeat::{self, ConsumerGroupHeartbeat};
use protocol::messages::create_acls::{self, CreateAcls, request::AclCreation};
use protocol::messages::create_partitions::{self, CreatePartitions};
use protocol::messages::create_topics::CreateTopics;
use protocol::messages::delete_acls::{self, DeleteAcls, request::DeleteAclsFilter};
use protocol::messages::delete_groups::{self, DeleteGroups};
use protocol::messages::delete_records::{self, DeleteRecords};
use protocol::messages::delete_topics::{self, DeleteTopics};
use protocol::messages::describe_acls::{self, DescribeAcls};
use protocol::messages::describe_configs::{self, DescribeConfigs};
use protocol::messages::describe_groups::{self, DescribeGroups};
use protocol::messages::describe_log_dirs::{self, DescribeLogDirs};
use protocol::messages::describe_producers::{self, DescribeProducers};
use protocol::messages::describe_quorum::DescribeQuorum;
use protocol::messages::describe_topic_partitions::{self, DescribeTopicPartitions};
use protocol::messages::describe_transactions::{self, DescribeTransactions};
use protocol::messages::elect_leaders::{self, ElectLeaders};
use protocol::messages::end_txn::{self, EndTxn};
use protocol::messages::find_coordinator::{self, FindCoordinator};
use protocol::messages::heartbeat::{self, Heartbeat};
use protocol::messages::incremental_alter_configs::{self, IncrementalAlterConfigs};
use protocol::messages::init_producer_id::{self, InitProducerId};
use protocol::messages::join_group::{self, JoinGroup};
use protocol::messages::leave_group::{self, LeaveGroup};
use protocol::messages::list_config_resources::{self, ListConfigResources};
use protocol::messages::list_offsets::{self, ListOffsets};
use protocol::messages::list_partition_reassignments::{self, ListPartitionReassignments};
use protocol::messages::metadata::{self, Metadata};
use protocol::messages::offset_commit::{self, OffsetCommit};
use protocol::messages::offset_delete::{self, OffsetDelete};
use protocol::messages::offset_fetch::{self, OffsetFetch};
use protocol::messages::offset_for_leader_epoch::{self, OffsetForLeaderEpoch};
use protocol::messages::sync_group::{self, SyncGroup};
use protocol::messages::txn_offset_commit::{self, TxnOffsetCommit};
use vocabulary::TopicId;

use super::replicas::{describing, directory};
use super::{Asking, creating, topic};

/// Kafka's numbers.
const TOPIC: i8 = 2;
const GROUP: i8 = 3;
const CLUSTER: i8 = 4;
const TRANSACTIONAL_ID: i8 = 5;
const LITERAL: i8 = 3;
const PREFIXED: i8 = 4;
const ALL: i8 = 2;
const READ: i8 = 3;
const ALTER: i8 = 7;
const CLUSTER_ACTION: i8 = 9;
const DENY: i8 = 2;
const ALLOW: i8 = 3;

fn acl(kind: i8, name: &str, operation: i8, permission: i8) -> AclCreation {
    AclCreation {
        resource_type: kind,
        resource_name: name.to_owned(),
        resource_pattern_type: LITERAL,
        principal: "User:ANONYMOUS".to_owned(),
        host: "*".to_owned(),
        operation,
        permission_type: permission,
    }
}

pub(super) fn all(asking: &mut Asking<'_>) -> Result<()> {
    let id = asking.topic("denied", 1, &[])?;
    asking.topic("open", 1, &[])?;
    administering(asking)?;
    let denials = [(TOPIC, "denied"), (GROUP, "denied"), (TRANSACTIONAL_ID, "denied")];
    let creations = denials.map(|(kind, name)| acl(kind, name, ALL, DENY)).to_vec();
    asking.ask::<CreateAcls>("denials", 3, &create_acls::Request { creations })?;
    // Kafka's brokers follow their controller a little later.
    let named = naming(&["denied"]);
    let denied = ErrorCode::TopicAuthorizationFailed.code();
    asking.until::<Metadata>(12, &named, |it| it.topics[0].error_code == denied)?;
    topics(asking, id)?;
    groups(asking)?;
    transactions(asking)?;
    cluster(asking)
}

fn naming(names: &[&str]) -> metadata::Request {
    let topic = |name: &&str| metadata::request::MetadataRequestTopic {
        name: Some((*name).to_owned()),
        ..Default::default()
    };
    metadata::Request {
        topics: Some(names.iter().map(topic).collect()),
        allow_auto_topic_creation: false,
        include_topic_authorized_operations: true,
        ..Default::default()
    }
}

fn administering(asking: &mut Asking<'_>) -> Result<()> {
    let good = || AclCreation { principal: "User:me".to_owned(), ..acl(TOPIC, "x", READ, ALLOW) };
    let prefix = AclCreation { resource_pattern_type: PREFIXED, ..acl(GROUP, "g", READ, DENY) };
    for (step, creation) in [
        ("a topic", good()),
        ("the same again", good()),
        ("a prefix", AclCreation { principal: "User:me".to_owned(), ..prefix }),
        ("no name", AclCreation { resource_name: String::new(), ..good() }),
        ("another cluster", acl(CLUSTER, "mine", READ, ALLOW)),
        ("no principal", AclCreation { principal: "me".to_owned(), ..good() }),
        ("any kind", AclCreation { resource_type: 1, ..good() }),
        ("a pattern that matches", AclCreation { resource_pattern_type: 2, ..good() }),
        ("any operation", AclCreation { operation: 1, ..good() }),
        ("any permission", AclCreation { permission_type: 1, ..good() }),
    ] {
        asking.ask::<CreateAcls>(step, 3, &create_acls::Request { creations: vec![creation] })?;
    }
    let filter = |kind: i8, name: Option<&str>, pattern: i8| describe_acls::Request {
        resource_type_filter: kind,
        resource_name_filter: name.map(str::to_owned),
        pattern_type_filter: pattern,
        principal_filter: None,
        host_filter: None,
        operation: 1,
        permission_type: 1,
    };
    let group = filter(GROUP, Some("g"), PREFIXED);
    asking.until::<DescribeAcls>(3, &group, |it| it.resources.len() == 1)?;
    for (step, request) in [
        ("topics", filter(TOPIC, None, 1)),
        ("one literal", filter(TOPIC, Some("x"), LITERAL)),
        ("one that matches", filter(GROUP, Some("group"), 2)),
        ("one by another name", filter(GROUP, Some("group"), 1)),
    ] {
        for version in 1..=3 {
            asking.ask::<DescribeAcls>(step, version, &request)?;
        }
    }
    let filter = |name: Option<&str>| DeleteAclsFilter {
        resource_type_filter: 1,
        resource_name_filter: name.map(str::to_owned),
        pattern_type_filter: 1,
        principal_filter: None,
        host_filter: None,
        operation: 1,
        permission_type: 1,
    };
    let filters = vec![filter(Some("x")), filter(Some("nothing")), filter(Some("g"))];
    asking.ask::<DeleteAcls>("three filters", 3, &delete_acls::Request { filters })?;
    Ok(())
}

fn topics(asking: &mut Asking<'_>, id: TopicId) -> Result<()> {
    asking.ask::<Metadata>("denied and open", 12, &naming(&["denied", "absent"]))?;
    let by_id = metadata::request::MetadataRequestTopic { topic_id: id, name: None };
    let request = metadata::Request { topics: Some(vec![by_id]), ..Default::default() };
    asking.ask::<Metadata>("denied, by id", 12, &request)?;
    let request = list_offsets::Request {
        topics: vec![list_offsets::request::ListOffsetsTopic {
            name: "denied".to_owned(),
            partitions: vec![Default::default()],
        }],
        ..Default::default()
    };
    asking.ask::<ListOffsets>("denied", 9, &request)?;
    let request = offset_for_leader_epoch::Request {
        replica_id: -1,
        topics: vec![offset_for_leader_epoch::request::OffsetForLeaderTopic {
            topic: "denied".to_owned(),
            partitions: vec![Default::default()],
        }],
    };
    asking.ask::<OffsetForLeaderEpoch>("denied", 4, &request)?;
    let request = describe_topic_partitions::Request {
        topics: vec![describe_topic_partitions::request::TopicRequest {
            name: "denied".to_owned(),
        }],
        ..Default::default()
    };
    asking.ask::<DescribeTopicPartitions>("denied", 0, &request)?;
    let request = describe_producers::Request {
        topics: vec![describe_producers::request::TopicRequest {
            name: "denied".to_owned(),
            partition_indexes: vec![0],
        }],
    };
    asking.ask::<DescribeProducers>("denied", 0, &request)?;
    asking.ask::<CreateTopics>("denied", 7, &creating(vec![topic("denied", 1)]))?;
    let request = create_partitions::Request {
        topics: vec![create_partitions::request::CreatePartitionsTopic {
            name: "denied".to_owned(),
            count: 3,
            assignments: None,
        }],
        timeout_ms: 9_000,
        validate_only: false,
    };
    asking.ask::<CreatePartitions>("denied", 3, &request)?;
    let request = delete_records::Request {
        topics: vec![delete_records::request::DeleteRecordsTopic {
            name: "denied".to_owned(),
            partitions: vec![Default::default()],
        }],
        timeout_ms: 9_000,
    };
    asking.ask::<DeleteRecords>("denied", 2, &request)?;
    let state = |name: Option<&str>, topic_id| delete_topics::request::DeleteTopicState {
        name: name.map(str::to_owned),
        topic_id,
    };
    for (step, topic) in
        [("denied", state(Some("denied"), TopicId::ZERO)), ("denied, by id", state(None, id))]
    {
        let request =
            delete_topics::Request { topics: vec![topic], timeout_ms: 9_000, ..Default::default() };
        asking.ask::<DeleteTopics>(step, 6, &request)?;
    }
    configs(asking)
}

fn configs(asking: &mut Asking<'_>) -> Result<()> {
    for (kind, name) in [(2, "denied"), (32, "denied")] {
        let resource = describe_configs::request::DescribeConfigsResource {
            resource_type: kind,
            resource_name: name.to_owned(),
            configuration_keys: None,
        };
        let request = describe_configs::Request { resources: vec![resource], ..Default::default() };
        asking.ask::<DescribeConfigs>(&format!("denied, kind {kind}"), 4, &request)?;
        let resource = incremental_alter_configs::request::AlterConfigsResource {
            resource_type: kind,
            resource_name: name.to_owned(),
            configs: Vec::new(),
        };
        let request =
            incremental_alter_configs::Request { resources: vec![resource], validate_only: false };
        asking.ask::<IncrementalAlterConfigs>(&format!("denied, kind {kind}"), 1, &request)?;
    }
    Ok(())
}

fn groups(asking: &mut Asking<'_>) -> Result<()> {
    let group = || "denied".to_owned();
    let request = find_coordinator::Request {
        key_type: 0,
        coordinator_keys: vec![group()],
        ..Default::default()
    };
    asking.ask::<FindCoordinator>("denied", 4, &request)?;
    let request = join_group::Request {
        group_id: group(),
        session_timeout_ms: 9_000,
        protocol_type: "consumer".to_owned(),
        ..Default::default()
    };
    asking.ask::<JoinGroup>("denied", 9, &request)?;
    let request = sync_group::Request {
        group_id: group(),
        protocol_type: Some("consumer".to_owned()),
        protocol_name: Some("range".to_owned()),
        ..Default::default()
    };
    asking.ask::<SyncGroup>("denied", 5, &request)?;
    let request = heartbeat::Request { group_id: group(), ..Default::default() };
    asking.ask::<Heartbeat>("denied", 4, &request)?;
    let request = leave_group::Request { group_id: group(), ..Default::default() };
    asking.ask::<LeaveGroup>("denied", 5, &request)?;
    let request =
        describe_groups::Request { groups: vec![group()], include_authorized_operations: true };
    asking.ask::<DescribeGroups>("denied", 6, &request)?;
    asking.ask::<DeleteGroups>(
        "denied",
        2,
        &delete_groups::Request { groups_names: vec![group()] },
    )?;
    let request = consumer_group_heartbeat::Request {
        group_id: group(),
        member_id: "m".to_owned(),
        rebalance_timeout_ms: 9_000,
        subscribed_topic_names: Some(vec!["open".to_owned()]),
        topic_partitions: Some(Vec::new()),
        ..Default::default()
    };
    asking.ask::<ConsumerGroupHeartbeat>("denied", 1, &request)?;
    let request = consumer_group_heartbeat::Request {
        group_id: "free".to_owned(),
        subscribed_topic_names: Some(vec!["open".to_owned(), "denied".to_owned()]),
        ..request
    };
    asking.ask::<ConsumerGroupHeartbeat>("denied, of a topic", 1, &request)?;
    let request =
        consumer_group_describe::Request { group_ids: vec![group()], ..Default::default() };
    asking.ask::<ConsumerGroupDescribe>("denied", 1, &request)?;
    offsets(asking)
}

fn offsets(asking: &mut Asking<'_>) -> Result<()> {
    for (step, group, topic) in
        [("denied", "denied", "open"), ("denied, of a topic", "free", "denied")]
    {
        let request = offset_commit::Request {
            group_id: group.to_owned(),
            generation_id_or_member_epoch: -1,
            topics: vec![offset_commit::request::OffsetCommitRequestTopic {
                name: topic.to_owned(),
                partitions: vec![Default::default()],
                ..Default::default()
            }],
            ..Default::default()
        };
        asking.ask::<OffsetCommit>(step, 9, &request)?;
        let request = offset_delete::Request {
            group_id: group.to_owned(),
            topics: vec![offset_delete::request::OffsetDeleteRequestTopic {
                name: topic.to_owned(),
                partitions: vec![Default::default()],
            }],
        };
        if group == "denied" {
            asking.ask::<OffsetDelete>(step, 0, &request)?;
        }
    }
    for (step, topics) in [
        ("denied", None),
        (
            "denied, one",
            Some(vec![offset_fetch::request::OffsetFetchRequestTopics {
                name: "open".to_owned(),
                partition_indexes: vec![0],
                ..Default::default()
            }]),
        ),
    ] {
        let request = offset_fetch::Request {
            groups: vec![offset_fetch::request::OffsetFetchRequestGroup {
                group_id: "denied".to_owned(),
                member_epoch: -1,
                topics,
                ..Default::default()
            }],
            ..Default::default()
        };
        asking.ask::<OffsetFetch>(step, 9, &request)?;
    }
    Ok(())
}

fn transactions(asking: &mut Asking<'_>) -> Result<()> {
    let id = || "denied".to_owned();
    let request = init_producer_id::Request {
        transactional_id: Some(id()),
        transaction_timeout_ms: 60_000,
        producer_id: -1,
        producer_epoch: -1,
        ..Default::default()
    };
    asking.ask::<InitProducerId>("denied", 4, &request)?;
    let request = add_partitions_to_txn::Request {
        v3_and_below_transactional_id: id(),
        v3_and_below_topics: vec![add_partitions_to_txn::request::AddPartitionsToTxnTopic {
            name: "open".to_owned(),
            partitions: vec![0],
        }],
        ..Default::default()
    };
    asking.ask::<AddPartitionsToTxn>("denied", 3, &request)?;
    let topics =
        ["open", "denied"].map(|name| add_partitions_to_txn::request::AddPartitionsToTxnTopic {
            name: name.to_owned(),
            partitions: vec![0],
        });
    let request = add_partitions_to_txn::Request {
        v3_and_below_transactional_id: "free".to_owned(),
        v3_and_below_topics: topics.to_vec(),
        ..Default::default()
    };
    asking.ask::<AddPartitionsToTxn>("denied, of a topic", 3, &request)?;
    for (step, id, group) in
        [("denied", "denied", "free"), ("denied, of a group", "free", "denied")]
    {
        let request = add_offsets_to_txn::Request {
            transactional_id: id.to_owned(),
            group_id: group.to_owned(),
            ..Default::default()
        };
        asking.ask::<AddOffsetsToTxn>(step, 3, &request)?;
        let request = txn_offset_commit::Request {
            transactional_id: id.to_owned(),
            group_id: group.to_owned(),
            topics: vec![txn_offset_commit::request::TxnOffsetCommitRequestTopic {
                name: "open".to_owned(),
                partitions: vec![Default::default()],
                ..Default::default()
            }],
            ..Default::default()
        };
        asking.ask::<TxnOffsetCommit>(step, 4, &request)?;
    }
    let request = end_txn::Request { transactional_id: id(), ..Default::default() };
    asking.ask::<EndTxn>("denied", 4, &request)?;
    let request = describe_transactions::Request { transactional_ids: vec![id()] };
    asking.ask::<DescribeTransactions>("denied", 0, &request)?;
    let request = find_coordinator::Request {
        key_type: 1,
        coordinator_keys: vec![id()],
        ..Default::default()
    };
    asking.ask::<FindCoordinator>("denied id", 4, &request)?;
    Ok(())
}

/// From now on nobody may do with the cluster what is asked of it.
fn cluster(asking: &mut Asking<'_>) -> Result<()> {
    let denials = [8, 5, 10, 11].map(|it| acl(CLUSTER, "kafka-cluster", it, DENY));
    // Kafka's broker asks its controller, as the same principal, with CLUSTER_ACTION.
    let grants = [ALTER, CLUSTER_ACTION].map(|it| acl(CLUSTER, "kafka-cluster", it, ALLOW));
    let creations = grants.into_iter().chain(denials).collect();
    asking.ask::<CreateAcls>("of the cluster", 3, &create_acls::Request { creations })?;
    let denied = ErrorCode::ClusterAuthorizationFailed.code();
    let all = describe_log_dirs::Request { topics: None };
    asking.until::<DescribeLogDirs>(4, &all, |it| it.error_code == denied)?;
    asking.ask::<DescribeLogDirs>("denied", 4, &all)?;
    asking.ask::<DescribeLogDirs>("denied", 2, &all)?;
    let request = describe_acls::Request {
        resource_type_filter: 1,
        resource_name_filter: None,
        pattern_type_filter: 1,
        principal_filter: None,
        host_filter: None,
        operation: 1,
        permission_type: 1,
    };
    asking.ask::<DescribeAcls>("denied", 3, &request)?;
    let request = list_partition_reassignments::Request::default();
    asking.ask::<ListPartitionReassignments>("denied", 0, &request)?;
    for version in 0..=2 {
        let request = describing(&[("__cluster_metadata", &[0])]);
        asking.ask::<DescribeQuorum>("denied", version, &request)?;
    }
    let request = list_config_resources::Request::default();
    asking.ask::<ListConfigResources>("denied", 1, &request)?;
    let resource = describe_configs::request::DescribeConfigsResource {
        resource_type: 4,
        resource_name: "1".to_owned(),
        configuration_keys: None,
    };
    let request = describe_configs::Request { resources: vec![resource], ..Default::default() };
    asking.ask::<DescribeConfigs>("denied, kind 4", 4, &request)?;
    // The cluster may not create, but topics without ACLs are everybody's.
    asking.ask::<CreateTopics>("of nobody", 7, &creating(vec![topic("denied", 1)]))?;
    changing(asking)
}

/// Nobody may alter the cluster any more.
fn changing(asking: &mut Asking<'_>) -> Result<()> {
    let denied = ErrorCode::ClusterAuthorizationFailed.code();
    let creations = vec![acl(CLUSTER, "kafka-cluster", ALTER, DENY)];
    asking.ask::<CreateAcls>("the last", 3, &create_acls::Request { creations })?;
    let electing = elect_leaders::Request {
        topic_partitions: Some(vec![elect_leaders::request::TopicPartitions {
            topic: "open".to_owned(),
            partitions: vec![0],
        }]),
        timeout_ms: 9_000,
        ..Default::default()
    };
    asking.until::<ElectLeaders>(2, &electing, |it| it.error_code == denied)?;
    asking.ask::<ElectLeaders>("denied", 2, &electing)?;
    let moving = alter_partition_reassignments::Request {
        topics: vec![alter_partition_reassignments::request::ReassignableTopic {
            name: "open".to_owned(),
            partitions: vec![Default::default()],
        }],
        ..Default::default()
    };
    asking.ask::<AlterPartitionReassignments>("denied", 0, &moving)?;
    let dirs = vec![
        directory("/no/such/directory", &[("open", &[0, 0]), ("nobody", &[7])]),
        directory("/another", &[("open", &[0])]),
    ];
    let request = alter_replica_log_dirs::Request { dirs };
    asking.ask::<AlterReplicaLogDirs>("denied", 2, &request)?;
    let creations = vec![acl(TOPIC, "x", READ, ALLOW)];
    asking.ask::<CreateAcls>("denied", 3, &create_acls::Request { creations })?;
    let filters = vec![DeleteAclsFilter {
        resource_type_filter: 1,
        resource_name_filter: None,
        pattern_type_filter: 1,
        principal_filter: None,
        host_filter: None,
        operation: 1,
        permission_type: 1,
    }];
    asking.ask::<DeleteAcls>("denied", 3, &delete_acls::Request { filters })?;
    Ok(())
}
