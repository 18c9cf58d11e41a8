//! Which API asks for what: the operations and kinds of resource of Kafka's own table ("Operations and Resources on
//! Protocols"), as its brokers of 4.3 ask.
//!
//! Every key of the protocol has its line here, or this does not compile. A question that is not in the line of its API
//! is a mistake, which debug builds stop at (`RequestContext`); an API that does not ask what is here is found by the
//! test that walks over all of them with everything denied (`tests/served/access.rs`).

use cluster::AclOperation::{
    Alter, AlterConfigs, ClusterAction, Create, Delete, Describe, DescribeConfigs, IdempotentWrite,
    Read, Write,
};
use cluster::AclResource::{Cluster, Group, Topic, TransactionalId};
use cluster::{AclOperation, AclResource};
use protocol::messages::ApiKey;

/// One thing that an API may ask.
pub(crate) type Requirement = (AclOperation, AclResource);

/// All that requests of an API may be asked for, which of it depending on the request. Questions of which operations an
/// answer shows as authorized (KIP-430) are not among them.
pub(crate) const fn asked(key: ApiKey) -> &'static [Requirement] {
    match key {
        // Anybody may learn what the broker speaks and where it is.
        ApiKey::ApiVersions => &[],
        // Only for the operations it shows.
        ApiKey::DescribeCluster => &[(Describe, Cluster)],
        ApiKey::Produce => &[(Write, Topic), (Write, TransactionalId)],
        ApiKey::Fetch | ApiKey::DescribeProducers => &[(Read, Topic)],
        ApiKey::ListOffsets => &[(Describe, Topic)],
        ApiKey::Metadata => {
            &[(Describe, Topic), (Create, Topic), (Create, Cluster), (Describe, Cluster)]
        }
        ApiKey::OffsetCommit => &[(Read, Group), (Read, Topic)],
        ApiKey::OffsetFetch => &[(Describe, Group), (Describe, Topic)],
        ApiKey::FindCoordinator => {
            &[(Describe, Group), (Describe, TransactionalId), (ClusterAction, Cluster)]
        }
        ApiKey::JoinGroup | ApiKey::Heartbeat | ApiKey::LeaveGroup | ApiKey::SyncGroup => {
            &[(Read, Group)]
        }
        ApiKey::DescribeGroups => &[(Describe, Group)],
        ApiKey::ListGroups => &[(Describe, Cluster), (Describe, Group)],
        ApiKey::CreateTopics => &[(Create, Cluster), (Create, Topic), (DescribeConfigs, Topic)],
        ApiKey::DeleteTopics => &[(Delete, Cluster), (Describe, Topic), (Delete, Topic)],
        ApiKey::DeleteRecords => &[(Delete, Topic)],
        ApiKey::InitProducerId => {
            &[(Write, TransactionalId), (IdempotentWrite, Cluster), (Write, Topic)]
        }
        ApiKey::OffsetForLeaderEpoch => &[(ClusterAction, Cluster), (Describe, Topic)],
        ApiKey::AddPartitionsToTxn => {
            &[(Write, TransactionalId), (Write, Topic), (ClusterAction, Cluster)]
        }
        ApiKey::AddOffsetsToTxn => &[(Write, TransactionalId), (Read, Group)],
        ApiKey::EndTxn => &[(Write, TransactionalId)],
        ApiKey::WriteTxnMarkers => &[(Alter, Cluster), (ClusterAction, Cluster)],
        ApiKey::TxnOffsetCommit => &[(Write, TransactionalId), (Read, Group), (Read, Topic)],
        ApiKey::DescribeAcls
        | ApiKey::DescribeLogDirs
        | ApiKey::DescribeQuorum
        | ApiKey::ListPartitionReassignments => &[(Describe, Cluster)],
        ApiKey::CreateAcls
        | ApiKey::DeleteAcls
        | ApiKey::AlterReplicaLogDirs
        | ApiKey::ElectLeaders
        | ApiKey::AlterPartitionReassignments => &[(Alter, Cluster)],
        ApiKey::DescribeConfigs => {
            &[(DescribeConfigs, Topic), (DescribeConfigs, Cluster), (DescribeConfigs, Group)]
        }
        ApiKey::AlterConfigs | ApiKey::IncrementalAlterConfigs => {
            &[(AlterConfigs, Topic), (AlterConfigs, Cluster), (AlterConfigs, Group)]
        }
        ApiKey::CreatePartitions => &[(Alter, Topic)],
        ApiKey::DeleteGroups => &[(Delete, Group)],
        ApiKey::OffsetDelete => &[(Delete, Group), (Read, Topic)],
        ApiKey::ConsumerGroupHeartbeat | ApiKey::ShareGroupHeartbeat => {
            &[(Read, Group), (Describe, Topic)]
        }
        ApiKey::ConsumerGroupDescribe
        | ApiKey::ShareGroupDescribe
        | ApiKey::DescribeShareGroupOffsets => &[(Describe, Group), (Describe, Topic)],
        ApiKey::ListConfigResources => &[(DescribeConfigs, Cluster)],
        ApiKey::DescribeTopicPartitions => &[(Describe, Topic)],
        ApiKey::DescribeTransactions => &[(Describe, TransactionalId), (Describe, Topic)],
        ApiKey::ListTransactions => &[(Describe, TransactionalId)],
        ApiKey::ShareFetch | ApiKey::ShareAcknowledge | ApiKey::AlterShareGroupOffsets => {
            &[(Read, Group), (Read, Topic)]
        }
        ApiKey::DeleteShareGroupOffsets => &[(Delete, Group), (Read, Topic)],
    }
}
