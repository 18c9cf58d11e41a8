//! What tools ask of replicas, their directories and the quorum, and of ACLs where nobody keeps any.

use anyhow::Result;
use protocol::messages::alter_partition_reassignments::{self, AlterPartitionReassignments};
use protocol::messages::alter_replica_log_dirs::{self, AlterReplicaLogDirs};
use protocol::messages::create_acls::{self, CreateAcls};
use protocol::messages::delete_acls::{self, DeleteAcls};
use protocol::messages::describe_acls::{self, DescribeAcls};
use protocol::messages::describe_log_dirs::{self, DescribeLogDirs};
use protocol::messages::describe_quorum::{self, DescribeQuorum};
use protocol::messages::elect_leaders::{self, ElectLeaders};
use protocol::messages::list_partition_reassignments::{self, ListPartitionReassignments};

use super::Asking;

pub(super) fn all(asking: &mut Asking<'_>) -> Result<()> {
    elections(asking)?;
    moves(asking)?;
    directories(asking)?;
    quorum(asking)?;
    acls(asking)
}

fn elections(asking: &mut Asking<'_>) -> Result<()> {
    let electing = |election_type: i8, topic: &str, partition: i32| elect_leaders::Request {
        election_type,
        topic_partitions: Some(vec![elect_leaders::request::TopicPartitions {
            topic: topic.to_owned(),
            partitions: vec![partition],
        }]),
        timeout_ms: 20_000,
    };
    for (step, kind, topic, partition) in [
        ("preferred", 0, "read", 0),
        ("unclean", 1, "read", 0),
        ("unknown kind", 7, "read", 0),
        ("unknown topic", 0, "nobody", 0),
        ("unknown partition", 0, "read", 9),
    ] {
        asking.ask::<ElectLeaders>(step, 2, &electing(kind, topic, partition))?;
    }
    asking.ask::<ElectLeaders>("preferred", 0, &electing(0, "read", 0))?;
    Ok(())
}

fn moves(asking: &mut Asking<'_>) -> Result<()> {
    let moving = |topic: &str, partition: i32, replicas: Option<&[i32]>| {
        let one = alter_partition_reassignments::request::ReassignablePartition {
            partition_index: partition,
            replicas: replicas.map(<[i32]>::to_vec),
        };
        alter_partition_reassignments::Request {
            timeout_ms: 20_000,
            topics: vec![alter_partition_reassignments::request::ReassignableTopic {
                name: topic.to_owned(),
                partitions: vec![one],
            }],
            ..Default::default()
        }
    };
    for (step, topic, partition, replicas) in [
        ("to where it is", "read", 0, Some(&[1][..])),
        ("to nobody", "read", 0, Some(&[])),
        ("to a broker that is not", "read", 0, Some(&[99])),
        ("twice to one", "read", 0, Some(&[1, 1])),
        ("an end of no move", "read", 0, None),
        ("unknown topic", "nobody", 0, Some(&[1])),
        ("unknown partition", "read", 9, Some(&[1])),
    ] {
        let request = moving(topic, partition, replicas);
        asking.ask::<AlterPartitionReassignments>(step, 1, &request)?;
    }
    let listing = |topics: Option<&str>| list_partition_reassignments::Request {
        timeout_ms: 20_000,
        topics: topics.map(|name| {
            vec![list_partition_reassignments::request::ListPartitionReassignmentsTopics {
                name: name.to_owned(),
                partition_indexes: vec![0],
            }]
        }),
    };
    asking.ask::<ListPartitionReassignments>("all", 0, &listing(None))?;
    asking.ask::<ListPartitionReassignments>("one", 0, &listing(Some("read")))?;
    asking.ask::<ListPartitionReassignments>("unknown topic", 0, &listing(Some("nobody")))?;
    Ok(())
}

/// One directory, and what is wanted in it.
pub(super) fn directory(
    path: &str,
    topics: &[(&str, &[i32])],
) -> alter_replica_log_dirs::request::AlterReplicaLogDir {
    let topic = |(name, partitions): &(&str, &[i32])| {
        alter_replica_log_dirs::request::AlterReplicaLogDirTopic {
            name: (*name).to_owned(),
            partitions: partitions.to_vec(),
        }
    };
    alter_replica_log_dirs::request::AlterReplicaLogDir {
        path: path.to_owned(),
        topics: topics.iter().map(topic).collect(),
    }
}

fn directories(asking: &mut Asking<'_>) -> Result<()> {
    let told =
        asking.prepare::<DescribeLogDirs>(4, &describe_log_dirs::Request { topics: None })?;
    let here = told.results[0].log_dir.as_str();
    let within = format!("{here}/within");
    let long = "l".repeat(249);
    for (step, dirs) in [
        ("to where it is", vec![directory(here, &[("read", &[0])])]),
        ("nowhere", vec![directory("/no/such/directory", &[("read", &[0])])]),
        ("within", vec![directory(&within, &[("read", &[0])])]),
        ("relative", vec![directory("directory", &[("read", &[0])])]),
        ("without a path", vec![directory("", &[("read", &[0])])]),
        ("unknown topic", vec![directory(here, &[("nobody", &[0])])]),
        ("unknown partition", vec![directory(here, &[("read", &[0, 9])])]),
        ("partition -1", vec![directory(here, &[("read", &[-1])])]),
        ("bad topic", vec![directory(here, &[("a/b", &[0])])]),
        ("a long topic", vec![directory(here, &[(&long, &[0])])]),
        ("nobody nowhere", vec![directory("/no/such/directory", &[("nobody", &[0])])]),
        ("a partition again", vec![directory(here, &[("read", &[0, 0])])]),
        (
            "here and nowhere",
            vec![directory(here, &[("read", &[0])]), directory("/no", &[("read", &[0])])],
        ),
        (
            "nowhere and here",
            vec![directory("/no", &[("read", &[0])]), directory(here, &[("read", &[0])])],
        ),
        ("no partitions", vec![directory(here, &[("read", &[])])]),
        ("no directories", Vec::new()),
    ] {
        let request = alter_replica_log_dirs::Request { dirs };
        asking.ask::<AlterReplicaLogDirs>(step, 2, &request)?;
    }
    let request =
        alter_replica_log_dirs::Request { dirs: vec![directory(here, &[("read", &[0])])] };
    asking.ask::<AlterReplicaLogDirs>("to where it is", 1, &request)?;
    Ok(())
}

/// Partitions of topics, of which the answer should tell the quorum.
pub(super) fn describing(topics: &[(&str, &[i32])]) -> describe_quorum::Request {
    let topic = |(name, indexes): &(&str, &[i32])| {
        let partition =
            |index: &i32| describe_quorum::request::PartitionData { partition_index: *index };
        describe_quorum::request::TopicData {
            topic_name: (*name).to_owned(),
            partitions: indexes.iter().map(partition).collect(),
        }
    };
    describe_quorum::Request { topics: topics.iter().map(topic).collect() }
}

fn quorum(asking: &mut Asking<'_>) -> Result<()> {
    const METADATA: &str = "__cluster_metadata";
    for version in 0..=2 {
        let request = describing(&[(METADATA, &[0])]);
        let mut answer = asking.prepare::<DescribeQuorum>(version, &request)?;
        // Epochs, offsets and times are each broker's own; that there are some is compared.
        let some = |number: i64| number.clamp(-1, 1);
        for partition in answer.topics.iter_mut().flat_map(|it| &mut it.partitions) {
            partition.leader_epoch = partition.leader_epoch.clamp(-1, 1);
            partition.high_watermark = some(partition.high_watermark);
            for replica in partition.current_voters.iter_mut().chain(&mut partition.observers) {
                replica.log_end_offset = some(replica.log_end_offset);
                replica.last_fetch_timestamp = some(replica.last_fetch_timestamp);
                replica.last_caught_up_timestamp = some(replica.last_caught_up_timestamp);
            }
        }
        asking.answers.all(&format!("DescribeQuorum v{version}, the metadata"), &answer);
        let request = describing(&[("read", &[0])]);
        asking.ask::<DescribeQuorum>("of a topic", version, &request)?;
    }
    for (step, request) in [
        ("another partition", describing(&[(METADATA, &[1])])),
        ("partition -1", describing(&[(METADATA, &[-1])])),
        ("two partitions", describing(&[(METADATA, &[0, 1])])),
        ("a partition again", describing(&[(METADATA, &[0, 0])])),
        ("the metadata and a topic", describing(&[(METADATA, &[0]), ("read", &[0])])),
        ("unknown topic", describing(&[("nobody", &[0])])),
        ("no name", describing(&[("", &[0])])),
        ("no partitions", describing(&[(METADATA, &[])])),
        ("no topics", describing(&[])),
    ] {
        asking.ask::<DescribeQuorum>(step, 2, &request)?;
    }
    Ok(())
}

fn acls(asking: &mut Asking<'_>) -> Result<()> {
    // Kafka's numbers: any resource, any pattern, any operation, any permission.
    let any = describe_acls::Request {
        resource_type_filter: 1,
        pattern_type_filter: 1,
        operation: 1,
        permission_type: 1,
        ..Default::default()
    };
    asking.ask::<DescribeAcls>("any", 3, &any)?;
    let creation = create_acls::request::AclCreation {
        resource_type: 2,
        resource_name: "read".to_owned(),
        resource_pattern_type: 3,
        principal: "User:me".to_owned(),
        host: "*".to_owned(),
        operation: 3,
        permission_type: 3,
    };
    let request = create_acls::Request { creations: vec![creation] };
    asking.ask::<CreateAcls>("one", 3, &request)?;
    let filter = delete_acls::request::DeleteAclsFilter {
        resource_type_filter: 1,
        pattern_type_filter: 1,
        operation: 1,
        permission_type: 1,
        ..Default::default()
    };
    asking.ask::<DeleteAcls>("any", 3, &delete_acls::Request { filters: vec![filter] })?;
    Ok(())
}
