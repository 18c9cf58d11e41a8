//! From a frame to a handler and back: headers, version checks, decoding, encoding.
//!
//! The table [`routes`] is the one list of what is built; what is not in it is not advertised.

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;

use bytes::BytesMut;
use futures::future::BoxFuture;
use protocol::messages::header::{RequestHeader, ResponseHeader};
use protocol::messages::{self, ApiKey};
use protocol::{Decoder, Encoder, Message};

use crate::access::Principal;
use crate::broker::Broker;
use crate::context::RequestContext;
use crate::gather::Gathered;
use crate::handlers;
use crate::listener::BoundListener;
use crate::shares::sessions::ConnectionId;

/// What becomes of a frame.
pub(crate) enum Outcome {
    Reply(Gathered),
    /// Answered later; the next request of the connection may start meanwhile.
    Pending(BoxFuture<'static, Option<Gathered>>),
    /// acks=0: no answer.
    Silent,
    /// Its client has gone before it was done.
    Abandoned,
    /// Not a request we can answer: close, with the reason for the log.
    Close(String),
    /// acks=0 that failed.
    CloseUnacknowledged,
}

/// Who sends a frame.
#[derive(Clone, Copy)]
pub(crate) struct Client<'a> {
    pub(crate) host: IpAddr,
    pub(crate) connection: ConnectionId,
    pub(crate) listener: &'a Arc<BoundListener>,
    pub(crate) principal: &'a Arc<Principal>,
}

/// One request, decoded as far as its header.
struct Arrived {
    key: ApiKey,
    correlation_id: i32,
    context: RequestContext,
    body: Decoder,
}

/// Runs one request. Awaits as long as its handler does; a Produce only until it has its offsets.
///
/// `gone` returns when the client has closed its side. A long poll ends with it, and whatever else waits: nobody reads
/// the answer, and clients that give up and come again must not leave more and more behind. Not so a Produce with
/// acks=0, whose client may close as soon as it has sent.
pub(crate) async fn handle(
    broker: &Arc<Broker>,
    client: Client<'_>,
    frame: BytesMut,
    gone: impl Future<Output = ()> + Send,
) -> Outcome {
    let arrived = match arrive(broker, client, frame) {
        Ok(arrived) => arrived,
        Err(outcome) => return outcome,
    };
    broker.metrics.count_request(arrived.key);
    // Boxed: the futures of the handlers differ widely in size, and connections are many.
    match arrived.key {
        ApiKey::Produce => Box::pin(produce(broker, arrived, gone)).await,
        _ => until(gone, Box::pin(routed(broker, arrived))).await,
    }
}

/// What becomes of a request that ends with its client.
async fn until(
    gone: impl Future<Output = ()>,
    handling: impl Future<Output = Outcome> + Unpin,
) -> Outcome {
    tokio::select! {
        biased;
        outcome = handling => outcome,
        () = gone => Outcome::Abandoned,
    }
}

/// Reads the header and refuses what cannot be decoded.
fn arrive(broker: &Broker, client: Client<'_>, frame: BytesMut) -> Result<Arrived, Outcome> {
    let close = |reason: String| Outcome::Close(reason);
    let Some(&[key_high, key_low, version_high, version_low]) = frame.first_chunk::<4>() else {
        return Err(close("a frame shorter than a request header".into()));
    };
    let key = i16::from_be_bytes([key_high, key_low]);
    let version = i16::from_be_bytes([version_high, version_low]);
    let Some(key) = ApiKey::from_i16(key).filter(|key| BUILT.contains(key)) else {
        return Err(close(format!("API key {key} is not served")));
    };
    let served = key.valid_versions().contains(&version);
    if !served && key != ApiKey::ApiVersions {
        return Err(close(format!("{} version {version} is not served", key.name())));
    }
    if !served {
        return Err(unsupported_api_versions(&frame));
    }
    let mut body = Decoder::new(frame);
    let header = RequestHeader::decode(&mut body, key.request_header_version(version))
        .map_err(|error| close(format!("request header of {}: {error}", key.name())))?;
    let client_id = header.client_id;
    let Client { host: client_host, connection, listener, principal } = client;
    let context = RequestContext {
        key,
        version,
        client_id,
        client_host,
        connection,
        listener: Arc::clone(listener),
        principal: Arc::clone(principal),
        access: broker.access(),
    };
    Ok(Arrived { key, correlation_id: header.correlation_id, context, body })
}

/// KIP-511: answered without reading more than the correlation id.
fn unsupported_api_versions(frame: &[u8]) -> Outcome {
    let Some(correlation_id) = frame.get(4..8).and_then(|it| it.try_into().ok()) else {
        return Outcome::Close("a frame shorter than a request header".into());
    };
    let mut sink = Encoder::sized();
    let header = ResponseHeader { correlation_id: i32::from_be_bytes(correlation_id) };
    header.encode(&mut sink, 0);
    handlers::api_versions::unsupported_version().encode(&mut sink, 0);
    Outcome::Reply(Gathered::from(sink.finish()))
}

async fn produce(
    broker: &Arc<Broker>,
    arrived: Arrived,
    gone: impl Future<Output = ()>,
) -> Outcome {
    let Arrived { key, correlation_id, context, mut body } = arrived;
    let request = match messages::produce::Request::decode(&mut body, context.version) {
        Ok(request) => request,
        Err(error) => return malformed(key, &context, &error.to_string()),
    };
    let acknowledges = request.acks != 0;
    let version = context.version;
    // In one place for both ways out: it is large, and would be moved.
    let mut starting = pin!(handlers::produce::start(broker, &context, request));
    if !acknowledges {
        // Refusals are known by then: without acknowledgement nothing is waited for.
        return match starting.await.await {
            Ok(_) => Outcome::Silent,
            Err(_) => Outcome::CloseUnacknowledged,
        };
    }
    let finish = tokio::select! {
        biased;
        finish = &mut starting => finish,
        () = gone => return Outcome::Abandoned,
    };
    Outcome::Pending(Box::pin(async move {
        let response = finish.await.ok().flatten()?;
        Some(encode(key, version, correlation_id, &response))
    }))
}

fn malformed(key: ApiKey, context: &RequestContext, error: &str) -> Outcome {
    let client = context.client_id.as_deref().unwrap_or("without client id");
    Outcome::Close(format!("{} version {} from {client}: {error}", key.name(), context.version))
}

/// The answer's frame: header, then body.
fn encode(key: ApiKey, version: i16, correlation_id: i32, response: &impl Message) -> Gathered {
    let mut sink = Encoder::sized();
    let header = ResponseHeader { correlation_id };
    header.encode(&mut sink, key.response_header_version(version));
    response.encode(&mut sink, version);
    Gathered::from(sink.finish())
}

/// Every API but Produce: decode, handle, encode, one line each.
macro_rules! routes {
    ($($key:ident => $module:ident,)*) => {
        /// What this broker serves, and therefore what it advertises.
        pub(crate) const BUILT: &[ApiKey] = &[ApiKey::Produce, $(ApiKey::$key,)*];

        async fn routed(broker: &Arc<Broker>, arrived: Arrived) -> Outcome {
            let Arrived { key, correlation_id, context, mut body } = arrived;
            let version = context.version;
            match key {
                $(ApiKey::$key => {
                    match messages::$module::Request::decode(&mut body, version) {
                        Ok(request) => {
                            let response = handlers::$module::handle(broker, &context, request).await;
                            Outcome::Reply(encode(key, version, correlation_id, &response))
                        }
                        Err(error) => malformed(key, &context, &error.to_string()),
                    }
                })*
                other => Outcome::Close(format!("API {} is not served", other.name())),
            }
        }
    };
}

routes! {
    Fetch => fetch,
    ListOffsets => list_offsets,
    Metadata => metadata,
    OffsetCommit => offset_commit,
    OffsetFetch => offset_fetch,
    FindCoordinator => find_coordinator,
    JoinGroup => join_group,
    Heartbeat => heartbeat,
    LeaveGroup => leave_group,
    SyncGroup => sync_group,
    DescribeGroups => describe_groups,
    ListGroups => list_groups,
    ApiVersions => api_versions,
    CreateTopics => create_topics,
    DeleteTopics => delete_topics,
    DeleteRecords => delete_records,
    InitProducerId => init_producer_id,
    OffsetForLeaderEpoch => offset_for_leader_epoch,
    DescribeAcls => describe_acls,
    CreateAcls => create_acls,
    DeleteAcls => delete_acls,
    DescribeConfigs => describe_configs,
    AlterConfigs => alter_configs,
    AlterReplicaLogDirs => alter_replica_log_dirs,
    DescribeLogDirs => describe_log_dirs,
    CreatePartitions => create_partitions,
    DeleteGroups => delete_groups,
    ElectLeaders => elect_leaders,
    IncrementalAlterConfigs => incremental_alter_configs,
    AlterPartitionReassignments => alter_partition_reassignments,
    ListPartitionReassignments => list_partition_reassignments,
    OffsetDelete => offset_delete,
    DescribeQuorum => describe_quorum,
    DescribeCluster => describe_cluster,
    ConsumerGroupHeartbeat => consumer_group_heartbeat,
    ConsumerGroupDescribe => consumer_group_describe,
    ListConfigResources => list_config_resources,
    DescribeTopicPartitions => describe_topic_partitions,
    AddPartitionsToTxn => add_partitions_to_txn,
    AddOffsetsToTxn => add_offsets_to_txn,
    EndTxn => end_txn,
    WriteTxnMarkers => write_txn_markers,
    TxnOffsetCommit => txn_offset_commit,
    DescribeProducers => describe_producers,
    DescribeTransactions => describe_transactions,
    ListTransactions => list_transactions,
    ShareGroupHeartbeat => share_group_heartbeat,
    ShareGroupDescribe => share_group_describe,
    ShareFetch => share_fetch,
    ShareAcknowledge => share_acknowledge,
    DescribeShareGroupOffsets => describe_share_group_offsets,
    AlterShareGroupOffsets => alter_share_group_offsets,
    DeleteShareGroupOffsets => delete_share_group_offsets,
}
