//! The crate kafka-protocol as a witness: it was generated from Kafka's schemas by other people.

use kafka_protocol::messages as other;
use kafka_protocol::protocol::{Decodable, Encodable, Message, VersionRange};

use super::*;

type Result<T> = std::result::Result<T, String>;

/// A message of the other library behind functions.
struct Witness {
    name: &'static str,
    versions: VersionRange,
    recode: fn(&[u8], i16) -> Result<BytesMut>,
    default: fn(i16) -> Result<BytesMut>,
}

fn recode<M: Decodable + Encodable>(mut bytes: &[u8], version: i16) -> Result<BytesMut> {
    let message = M::decode(&mut bytes, version).map_err(|error| error.to_string())?;
    if !bytes.is_empty() {
        return Err(format!("{} bytes are left", bytes.len()));
    }
    let mut out = BytesMut::new();
    message.encode(&mut out, version).map_err(|error| error.to_string())?;
    Ok(out)
}

fn default<M: Default + Encodable>(version: i16) -> Result<BytesMut> {
    let mut out = BytesMut::new();
    M::default().encode(&mut out, version).map_err(|error| error.to_string())?;
    Ok(out)
}

macro_rules! witnesses {
    ($($name:ident)*) => {
        &[$(Witness {
            name: stringify!($name),
            versions: other::$name::VERSIONS,
            recode: recode::<other::$name>,
            default: default::<other::$name>,
        }),*]
    };
}

const WITNESSES: &[Witness] = witnesses! {
    RequestHeader ResponseHeader
    ConsumerProtocolSubscription ConsumerProtocolAssignment
    ProduceRequest ProduceResponse FetchRequest FetchResponse
    ListOffsetsRequest ListOffsetsResponse MetadataRequest MetadataResponse
    CreateTopicsRequest CreateTopicsResponse DeleteTopicsRequest DeleteTopicsResponse
    CreatePartitionsRequest CreatePartitionsResponse DeleteRecordsRequest DeleteRecordsResponse
    DescribeConfigsRequest DescribeConfigsResponse AlterConfigsRequest AlterConfigsResponse
    IncrementalAlterConfigsRequest IncrementalAlterConfigsResponse
    DescribeClusterRequest DescribeClusterResponse
    DescribeTopicPartitionsRequest DescribeTopicPartitionsResponse
    DescribeLogDirsRequest DescribeLogDirsResponse InitProducerIdRequest InitProducerIdResponse
    OffsetForLeaderEpochRequest OffsetForLeaderEpochResponse
    FindCoordinatorRequest FindCoordinatorResponse JoinGroupRequest JoinGroupResponse
    SyncGroupRequest SyncGroupResponse HeartbeatRequest HeartbeatResponse
    LeaveGroupRequest LeaveGroupResponse OffsetCommitRequest OffsetCommitResponse
    OffsetFetchRequest OffsetFetchResponse OffsetDeleteRequest OffsetDeleteResponse
    DescribeGroupsRequest DescribeGroupsResponse ListGroupsRequest ListGroupsResponse
    DeleteGroupsRequest DeleteGroupsResponse ApiVersionsRequest ApiVersionsResponse
    AddPartitionsToTxnRequest AddPartitionsToTxnResponse AddOffsetsToTxnRequest AddOffsetsToTxnResponse
    EndTxnRequest EndTxnResponse WriteTxnMarkersRequest WriteTxnMarkersResponse
    TxnOffsetCommitRequest TxnOffsetCommitResponse DescribeProducersRequest DescribeProducersResponse
    DescribeTransactionsRequest DescribeTransactionsResponse
    ListTransactionsRequest ListTransactionsResponse
    ConsumerGroupHeartbeatRequest ConsumerGroupHeartbeatResponse
    ConsumerGroupDescribeRequest ConsumerGroupDescribeResponse
    ListConfigResourcesRequest ListConfigResourcesResponse
    DescribeAclsRequest DescribeAclsResponse CreateAclsRequest CreateAclsResponse
    DeleteAclsRequest DeleteAclsResponse ElectLeadersRequest ElectLeadersResponse
    AlterPartitionReassignmentsRequest AlterPartitionReassignmentsResponse
    ListPartitionReassignmentsRequest ListPartitionReassignmentsResponse
    AlterReplicaLogDirsRequest AlterReplicaLogDirsResponse
    DescribeQuorumRequest DescribeQuorumResponse
    ShareGroupHeartbeatRequest ShareGroupHeartbeatResponse
    ShareGroupDescribeRequest ShareGroupDescribeResponse
    ShareFetchRequest ShareFetchResponse ShareAcknowledgeRequest ShareAcknowledgeResponse
    DescribeShareGroupOffsetsRequest DescribeShareGroupOffsetsResponse
    AlterShareGroupOffsetsRequest AlterShareGroupOffsetsResponse
    DeleteShareGroupOffsetsRequest DeleteShareGroupOffsetsResponse
};

/// Calls `check` for each version that both know; says how many there were.
fn each_witnessed(mut check: impl FnMut(&schema::Message, &Probe, &Witness, i16)) -> usize {
    let mut count = 0;
    each(|message, probe, version| {
        let witness = WITNESSES.iter().find(|it| it.name == message.name);
        let known = |it: &&Witness| (it.versions.min..=it.versions.max).contains(&version);
        if let Some(witness) = witness.filter(known) {
            check(message, probe, witness, version);
            count += 1;
        }
    });
    count
}

// Goal: another library reads what we write and we read what it writes.
// Method: ours -> theirs -> the same bytes -> ours -> the same bytes, for random values.
#[test]
fn both_libraries_mean_the_same_bytes() {
    let count = each_witnessed(|message, probe, witness, version| {
        for seed in 100..100 + SEEDS {
            let sample = Sampler::new(message, version, seed, Shape::random(seed)).canonical();
            let at = format!("{} {version} {seed}", message.name);
            let ours = (probe.recode)(&sample, version).expect("our own sample").bytes;
            let theirs = (witness.recode)(&ours, version)
                .unwrap_or_else(|error| panic!("{at}: they cannot read ours: {error}"));
            assert_eq!(theirs, ours, "{at}");
            let back = (probe.recode)(&theirs, version).expect("their bytes decode");
            assert_eq!((back.remaining, back.bytes), (0, ours), "{at}");
        }
    });
    assert!(300 <= count, "{count} versions compared");
}

#[test]
fn both_libraries_have_the_same_defaults() {
    let mut compared = 0;
    each_witnessed(|message, probe, witness, version| {
        // It refuses a default null where the version has none; we write such a value as empty.
        if let Ok(theirs) = (witness.default)(version) {
            assert_eq!((probe.default)(version), theirs, "{} {version}", message.name);
            compared += 1;
        }
    });
    assert!(250 <= compared, "{compared} versions compared");
}

#[test]
fn every_api_has_a_witness() {
    for key in ApiKey::ALL {
        for role in ["Request", "Response"] {
            let name = format!("{}{role}", key.name());
            assert!(WITNESSES.iter().any(|it| it.name == name), "{name}");
        }
    }
}
