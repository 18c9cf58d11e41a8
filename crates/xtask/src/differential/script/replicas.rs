//! What tools ask of replicas, and of ACLs where nobody keeps any.

use anyhow::Result;
use protocol::messages::alter_partition_reassignments::{self, AlterPartitionReassignments};
use protocol::messages::create_acls::{self, CreateAcls};
use protocol::messages::delete_acls::{self, DeleteAcls};
use protocol::messages::describe_acls::{self, DescribeAcls};
use protocol::messages::elect_leaders::{self, ElectLeaders};
use protocol::messages::list_partition_reassignments::{self, ListPartitionReassignments};

use super::Asking;

pub(super) fn all(asking: &mut Asking<'_>) -> Result<()> {
    elections(asking)?;
    moves(asking)?;
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
