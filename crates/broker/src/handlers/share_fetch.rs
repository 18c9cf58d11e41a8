//! ShareFetch (key 78): records for a member of a share group, each locked for it, and what became of those it had
//! (KIP-932).
//!
//! What is acknowledged is durable before it is answered (A1). A session that closes gives back what its member has.

use std::collections::HashMap;
use std::sync::Arc;

use cluster::AclOperation;
use partition_log::ReadLimit;
use protocol::ErrorCode;
use protocol::messages::RecordChunks;
use protocol::messages::share_fetch::request::FetchTopic;
use protocol::messages::share_fetch::response::{
    AcquiredRecords, LeaderIdAndEpoch, NodeEndpoint, PartitionData, ShareFetchableTopicResponse,
};
use protocol::messages::share_fetch::{Request, Response};
use vocabulary::Partition;

use crate::broker::Broker;
use crate::configs::ShareDeliveries;
use crate::context::RequestContext;
use crate::shares::acknowledging::{Manner, Rows, acknowledge, is_moved};
use crate::shares::fetching::{Brought, Limits, fetch, idle};
use crate::shares::sessions::{SessionFetch, SessionKey, SessionPlan};

/// `share_acquire_mode`: no more records than asked for (KIP-1206).
const RECORD_LIMIT: i8 = 1;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    mut request: Request,
) -> Response {
    let group = request.group_id.take().unwrap_or_default();
    let member = request.member_id.take().unwrap_or_default();
    let deliveries = broker.shares.deliveries(broker, &group);
    let lock_ms = u64::try_from(deliveries.lock_ms).unwrap_or(0);
    let refused = |code: ErrorCode| Response {
        error_code: code.code(),
        acquisition_lock_timeout_ms: deliveries.lock_ms,
        ..Default::default()
    };
    if !context.allows_group(AclOperation::Read, &group) {
        return refused(ErrorCode::GroupAuthorizationFailed);
    }
    if group.is_empty() || member.is_empty() {
        return refused(ErrorCode::InvalidRequest);
    }
    let limits = limits(broker, &request, &deliveries);
    let manner = Manner {
        version: context.version,
        renews: request.is_renew_ack,
        may_renew: deliveries.may_renew,
        lock_ms,
    };
    let (added, told) = asked_of(request.topics);
    let forgotten = request.forgotten_topics_data.into_iter().flat_map(|topic| {
        let id = topic.topic_id;
        topic.partitions.into_iter().map(move |index| Partition { topic: id, index })
    });
    let asked = SessionFetch {
        epoch: request.share_session_epoch,
        added,
        forgotten: forgotten.collect(),
        acknowledges: !told.is_empty(),
    };
    let key = SessionKey { group, member };
    let now = broker.environment.clock.now();
    let plan = broker.shares.sessions().fetch(now, context.connection, key.clone(), asked);
    let plan = match plan {
        Ok(plan) => plan,
        Err(code) => {
            if code == ErrorCode::ShareSessionLimitReached {
                // Clients ask again at once (KAFKA-19231).
                idle(broker, request.max_wait_ms).await;
            }
            return refused(code);
        }
    };
    let acknowledged = acknowledge((broker, context), &key, manner, told).await;
    let brought = match plan {
        SessionPlan::Close => {
            broker.shares.close(broker, &key).await;
            Vec::new()
        }
        // Renewals are not to wait for records.
        SessionPlan::Fetch(_) if manner.renews => Vec::new(),
        SessionPlan::Fetch(partitions) => {
            // Somebody waits for what became of its records: there is no time for more to come.
            let wait_ms = if acknowledged.is_empty() { limits.wait_ms } else { 0 };
            fetch((broker, context), &key, partitions, Limits { wait_ms, ..limits }).await
        }
    };
    let mut response = answer(broker, context, acknowledged, brought);
    response.acquisition_lock_timeout_ms = deliveries.lock_ms;
    response
}

/// What the request asks for, within what the group may have.
fn limits(broker: &Broker, request: &Request, deliveries: &ShareDeliveries) -> Limits {
    let bytes_max = i32::try_from(broker.config.fetch_bytes_max).unwrap_or(i32::MAX);
    Limits {
        wait_ms: request.max_wait_ms,
        bytes_min: request.min_bytes,
        bytes_max: request.max_bytes.min(bytes_max),
        records_max: request.max_records,
        batch_records: request.batch_size,
        is_exact: request.share_acquire_mode == RECORD_LIMIT,
        lock_ms: u64::try_from(deliveries.lock_ms).unwrap_or(0),
        reset: deliveries.reset,
        of_group: deliveries.limits,
        until: match deliveries.is_committed_only {
            true => ReadLimit::LastStable,
            false => ReadLimit::HighWatermark,
        },
    }
}

/// The partitions that are named, and what is said of records of them.
fn asked_of(topics: Vec<FetchTopic>) -> (Vec<Partition>, Vec<(Partition, Rows)>) {
    let (mut added, mut told): (Vec<Partition>, Vec<(Partition, Rows)>) = (Vec::new(), Vec::new());
    for topic in topics {
        for asked in topic.partitions {
            let partition = Partition { topic: topic.topic_id, index: asked.partition_index };
            added.push(partition);
            let batches = asked.acknowledgement_batches.into_iter();
            let rows: Rows =
                batches.map(|it| (it.first_offset, it.last_offset, it.acknowledge_types)).collect();
            if !rows.is_empty() {
                told.push((partition, rows));
            }
        }
    }
    (added, told)
}

fn answer(
    broker: &Broker,
    context: &RequestContext,
    acknowledged: Vec<(Partition, ErrorCode)>,
    brought: Vec<Brought>,
) -> Response {
    let mut rows: Vec<(Partition, PartitionData)> = Vec::new();
    let mut is_led_elsewhere = false;
    for brought in brought {
        let span = |it: coordinator::share::AcquiredSpan| AcquiredRecords {
            first_offset: it.first.0,
            last_offset: it.last.0,
            delivery_count: it.delivery_count,
        };
        let mut data = row(brought.partition);
        data.error_code = brought.code.code();
        data.records = Some(RecordChunks(brought.records));
        data.acquired_records = brought.acquired.into_iter().map(span).collect();
        rows.push((brought.partition, data));
    }
    let mut places: HashMap<Partition, usize> =
        rows.iter().enumerate().map(|(place, (partition, _))| (*partition, place)).collect();
    for (partition, code) in acknowledged {
        let place = *places.entry(partition).or_insert_with(|| {
            rows.push((partition, row(partition)));
            rows.len() - 1
        });
        rows[place].1.acknowledge_error_code = code.code();
    }
    // Who leads it now, so that the client need not ask for it (KIP-951).
    for (partition, data) in &mut rows {
        let codes = [data.error_code, data.acknowledge_error_code];
        if codes.into_iter().filter_map(ErrorCode::from_code).any(is_moved) {
            is_led_elsewhere = true;
            let (leader_id, leader_epoch) = broker.leader_of(*partition);
            data.current_leader = LeaderIdAndEpoch { leader_id, leader_epoch };
        }
    }
    let endpoint = |it: cluster::Broker| NodeEndpoint {
        node_id: it.id.0,
        host: it.host,
        port: i32::from(it.port),
        rack: None,
    };
    let endpoints = is_led_elsewhere.then(|| broker.endpoints(&context.listener));
    Response {
        responses: by_topic(rows),
        node_endpoints: endpoints.into_iter().flatten().map(endpoint).collect(),
        ..Default::default()
    }
}

fn row(partition: Partition) -> PartitionData {
    // Never null: these versions have no null records.
    let records = Some(RecordChunks(Vec::new()));
    PartitionData { partition_index: partition.index, records, ..Default::default() }
}

fn by_topic(mut rows: Vec<(Partition, PartitionData)>) -> Vec<ShareFetchableTopicResponse> {
    rows.sort_by_key(|(partition, _)| *partition);
    let mut topics: Vec<ShareFetchableTopicResponse> = Vec::new();
    for (partition, data) in rows {
        match topics.last_mut() {
            Some(last) if last.topic_id == partition.topic => last.partitions.push(data),
            _ => topics.push(ShareFetchableTopicResponse {
                topic_id: partition.topic,
                partitions: vec![data],
            }),
        }
    }
    topics
}
