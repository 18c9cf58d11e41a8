//! Fetch (key 1): long polls over many partitions, with incremental sessions (KIP-227).
//!
//! Waits on the partitions' own notifications, never on a polling timer. Trouble with the storage
//! reads as "no records yet": clients do not expect storage errors from a fetch.

mod reads;

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cluster::AclOperation;
use futures::StreamExt;
use partition_log::{
    AbortedTransaction, FetchWaiter, LogOffsets, PartitionLog, ReadError, ReadLimit,
};
use protocol::ErrorCode;
use protocol::messages::RecordChunks;
use protocol::messages::fetch::response::{
    AbortedTransaction as AbortedRow, EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch,
    NodeEndpoint, PartitionData,
};
use protocol::messages::fetch::{Request, Response};
use vocabulary::{LeaderEpoch, Offset, Partition, Tick, TopicId};

use crate::broker::Broker;
use crate::context::RequestContext;
use crate::fetch_sessions::{
    FetchInterest, FetchKey, FetchPlan, SessionRefusal, SessionRequest, ToldFacts,
};
use reads::{Reads, STORAGE_WAIT_MAX, bytes_of};

/// The first version that names topics by id (KIP-516).
const TOPIC_ID_VERSION: i16 = 13;

/// The first version whose clients know KAFKA_STORAGE_ERROR (KIP-112).
const STORAGE_ERROR_VERSION: i16 = 6;

/// The first version that tells where a leader is reached (KIP-951).
const ENDPOINTS_VERSION: i16 = 16;

/// The longest a fetch waits, whatever it asks: a vanished client must not hold a task for days.
const WAIT_MAX: Duration = Duration::from_secs(300);

/// Partitions of one fetch whose producers are loaded at once, after a start.
const LOADS_AT_ONCE: usize = 16;

/// One partition of a fetch, resolved.
struct Target {
    key: FetchKey,
    interest: FetchInterest,
    state: Result<Arc<PartitionLog>, ErrorCode>,
}

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: Request,
) -> Response {
    let deadline = deadline(broker, request.max_wait_ms);
    let (bytes_min, bytes_max) = (request.min_bytes.max(0) as usize, bytes_max(broker, &request));
    let limit = match request.isolation_level {
        0 => ReadLimit::HighWatermark,
        _ => ReadLimit::LastStable,
    };
    let plan = match plan(broker, context, request) {
        Ok(plan) => plan,
        Err(code) => return Response { error_code: code.code(), ..Default::default() },
    };
    let FetchPlan { session, is_incremental, partitions } = plan;
    let targets: Vec<Target> = partitions
        .into_iter()
        .map(|(key, interest)| {
            let state = resolve(broker, context, &key, &interest);
            Target { key, interest, state }
        })
        .collect();
    load_producers(broker, &targets, limit, deadline.plus(STORAGE_WAIT_MAX)).await;
    wait_for_bytes(broker, &targets, bytes_min, limit, deadline).await;
    let deadline = deadline.plus(STORAGE_WAIT_MAX);
    let mut answers = read_all(broker, targets, bytes_max, limit, deadline).await;
    if is_incremental || session != 0 {
        let mut sessions = broker.fetch_sessions();
        answers.retain(|(key, data)| {
            let told = sessions.tell(session, key, told_facts(data), has_records(data));
            told || !is_incremental
        });
    }
    for (_, data) in &mut answers {
        data.error_code = code_for(context.version, data.error_code);
    }
    let leaders = answers.iter().map(|(_, data)| data.current_leader.leader_id);
    let node_endpoints = match ENDPOINTS_VERSION <= context.version {
        true => endpoints(broker, context, leaders.collect()),
        false => Vec::new(),
    };
    Response {
        session_id: session,
        responses: by_topic(answers),
        node_endpoints,
        ..Default::default()
    }
}

/// The code as clients of that version know it: to older ones a storage error means what makes them ask again.
fn code_for(version: i16, code: i16) -> i16 {
    let is_unknown = version < STORAGE_ERROR_VERSION && code == ErrorCode::KafkaStorageError.code();
    if is_unknown { ErrorCode::NotLeaderOrFollower.code() } else { code }
}

/// Where the leaders are reached that some partition's refusal names.
fn endpoints(
    broker: &Broker,
    context: &RequestContext,
    leaders: BTreeSet<i32>,
) -> Vec<NodeEndpoint> {
    let endpoint = |it: cluster::Broker| NodeEndpoint {
        node_id: it.id.0,
        host: it.host,
        port: i32::from(it.port),
        rack: it.rack,
    };
    broker.endpoints_of(&context.listener, &leaders).map(endpoint).collect()
}

fn deadline(broker: &Broker, wait_ms: i32) -> Tick {
    let wait = Duration::from_millis(wait_ms.max(0) as u64).min(WAIT_MAX);
    broker.environment.clock.now().plus(wait)
}

fn bytes_max(broker: &Broker, request: &Request) -> usize {
    (request.max_bytes.max(0) as usize).min(broker.config.fetch_bytes_max)
}

/// The session's view of the request: what to read, in which order.
fn plan(
    broker: &Broker,
    context: &RequestContext,
    request: Request,
) -> Result<FetchPlan, ErrorCode> {
    let mut interests = Vec::new();
    for topic in request.topics {
        for partition in topic.partitions {
            let key = FetchKey {
                name: topic.topic.clone(),
                id: topic.topic_id,
                index: partition.partition,
            };
            let interest = FetchInterest {
                from: partition.fetch_offset,
                bytes_max: partition.partition_max_bytes,
                // Only here does Kafka take every negative epoch for none.
                current_leader_epoch: partition.current_leader_epoch.max(-1),
                last_fetched_epoch: partition.last_fetched_epoch,
                log_start: partition.log_start_offset,
            };
            interests.push((key, interest));
        }
    }
    let forgotten = request.forgotten_topics_data.into_iter().flat_map(|topic| {
        let (name, id) = (topic.topic, topic.topic_id);
        topic.partitions.into_iter().map(move |index| FetchKey { name: name.clone(), id, index })
    });
    let asked = SessionRequest {
        id: request.session_id,
        epoch: request.session_epoch,
        with_topic_ids: TOPIC_ID_VERSION <= context.version,
        interests,
        forgotten: forgotten.collect(),
    };
    let chance = broker.environment.entropy.next_u64();
    let now = broker.environment.clock.now();
    broker.fetch_sessions().plan(now, chance, asked).map_err(|refusal| match refusal {
        SessionRefusal::NotFound => ErrorCode::FetchSessionIdNotFound,
        SessionRefusal::WrongEpoch => ErrorCode::InvalidFetchSessionEpoch,
        SessionRefusal::TopicIdsChanged => ErrorCode::FetchSessionTopicIdError,
    })
}

/// The partition's log, if this broker serves it to a client with that leader epoch (KIP-320).
fn resolve(
    broker: &Broker,
    context: &RequestContext,
    key: &FetchKey,
    interest: &FetchInterest,
) -> Result<Arc<PartitionLog>, ErrorCode> {
    let topic = if TOPIC_ID_VERSION <= context.version {
        let topic = broker.view.topic_by_id(key.id).ok_or(ErrorCode::UnknownTopicId)?;
        authorize(context, &topic.name)?;
        topic
    } else {
        authorize(context, &key.name)?;
        broker.view.topic(&key.name).ok_or(ErrorCode::UnknownTopicOrPartition)?
    };
    let log = broker.led_log(Partition { topic: topic.id, index: key.index })?;
    broker.check_leader_epoch(&log, interest.current_leader_epoch)?;
    Ok(log)
}

fn authorize(context: &RequestContext, topic: &str) -> Result<(), ErrorCode> {
    match context.allows_topic(AclOperation::Read, topic) {
        true => Ok(()),
        false => Err(ErrorCode::TopicAuthorizationFailed),
    }
}

/// Makes the last stable offsets known. A partition where that fails reads as empty (A9).
async fn load_producers(broker: &Broker, targets: &[Target], limit: ReadLimit, deadline: Tick) {
    if limit == ReadLimit::LastStable {
        let logs = targets.iter().filter_map(|target| target.state.as_ref().ok().cloned());
        let logs: Vec<Arc<PartitionLog>> = logs.collect();
        let load = |log: Arc<PartitionLog>| async move { drop(log.load_producers().await) };
        let loads = futures::stream::iter(logs).map(load);
        tokio::select! {
            () = loads.buffer_unordered(LOADS_AT_ONCE).collect() => (),
            () = broker.environment.clock.sleep_until(deadline) => (),
        }
    }
}

/// Returns when `bytes_min` can be answered, something needs saying, or time is up.
async fn wait_for_bytes(
    broker: &Broker,
    targets: &[Target],
    bytes_min: usize,
    limit: ReadLimit,
    deadline: Tick,
) {
    if is_enough(targets, bytes_min, limit) {
        return;
    }
    let waiter = Arc::new(FetchWaiter::new());
    let logs = targets.iter().filter_map(|target| target.state.as_ref().ok());
    let _watching: Vec<_> = logs.map(|log| log.watch(&waiter)).collect();
    let mut timeout = broker.environment.clock.sleep_until(deadline);
    // Entered once: it is the broker's, and so are its locks.
    let mut stopped = pin!(broker.stop.stopped());
    // Checked after watching began, so that no advance falls between the check and the wait.
    while !is_enough(targets, bytes_min, limit) {
        tokio::select! {
            () = waiter.woken() => (),
            () = &mut timeout => return,
            () = &mut stopped => return,
        }
    }
}

/// Refused as a whole, before anything of the log is looked at. Kafka sets these aside: they end no wait of others.
fn is_set_aside(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::UnknownTopicId
            | ErrorCode::UnknownTopicOrPartition
            | ErrorCode::TopicAuthorizationFailed
    )
}

fn is_enough(targets: &[Target], bytes_min: usize, limit: ReadLimit) -> bool {
    let (mut bytes, mut waits_for_nothing) = (0, true);
    for target in targets {
        let log = match &target.state {
            Ok(log) => log,
            Err(code) if is_set_aside(*code) => continue,
            Err(_) => return true,
        };
        waits_for_nothing = false;
        let offsets = log.offsets();
        let from = Offset(target.interest.from);
        if from < offsets.log_start || offsets.end < from {
            return true; // Out of range is told at once.
        }
        bytes += log.bytes_available(from, limit, bytes_min - bytes);
        if bytes_min <= bytes {
            return true;
        }
    }
    bytes_min == 0 || waits_for_nothing
}

async fn read_all(
    broker: &Arc<Broker>,
    targets: Vec<Target>,
    bytes_max: usize,
    limit: ReadLimit,
    deadline: Tick,
) -> Vec<(FetchKey, PartitionData)> {
    let share = |target: &Target| target.interest.bytes_max.max(0) as usize;
    let shares: Vec<usize> = targets.iter().map(share).collect();
    let answers = {
        let targets = targets.as_slice();
        let read = |number: usize, bytes, may_exceed| async move {
            let Target { key, interest, state } = &targets[number];
            match state {
                Ok(log) => read_one(log, key.index, interest, bytes, may_exceed, limit).await,
                Err(code) => refused(broker, key, *code),
            }
        };
        let clock = &*broker.environment.clock;
        Reads { clock, deadline, bytes_max, shares: &shares, read }.run().await
    };
    let whole = targets.into_iter().zip(answers).map(|(Target { key, state, .. }, data)| {
        let data = data.unwrap_or_else(|| match state {
            // Storage was too slow for this fetch: "no records yet".
            Ok(log) => facts(log.offsets(), key.index, ErrorCode::None, Vec::new()),
            Err(code) => refused(broker, &key, code),
        });
        (key, data)
    });
    whole.collect()
}

async fn read_one(
    log: &PartitionLog,
    index: i32,
    interest: &FetchInterest,
    bytes_max: usize,
    at_least_one: bool,
    limit: ReadLimit,
) -> PartitionData {
    let from = Offset(interest.from);
    if let Some(diverging) = diverging(log, interest) {
        let mut data = facts(log.offsets(), index, ErrorCode::None, Vec::new());
        data.diverging_epoch = diverging;
        return data;
    }
    let read = match bytes_max == 0 && !at_least_one {
        true => Ok((Vec::new(), Vec::new())),
        false => read(log, from, bytes_max, at_least_one, limit).await,
    };
    // Taken after the read, so that the watermark told is never below the records sent.
    let offsets = log.offsets();
    match read {
        Ok((chunks, aborted)) => {
            let mut data = facts(offsets, index, ErrorCode::None, chunks);
            let row = |it: AbortedTransaction| AbortedRow {
                producer_id: it.producer.0,
                first_offset: it.first_offset.0,
            };
            // Null says that the reader asked for everything.
            data.aborted_transactions =
                (limit == ReadLimit::LastStable).then(|| aborted.into_iter().map(row).collect());
            data
        }
        Err(ReadError::OffsetOutOfRange { .. }) => {
            facts(offsets, index, ErrorCode::OffsetOutOfRange, Vec::new())
        }
        Err(ReadError::Unavailable) => facts(offsets, index, ErrorCode::None, Vec::new()),
        Err(error @ ReadError::Corrupt { .. }) => {
            tracing::error!(partition = %log.partition(), %error, "fetch refused; other offsets stay readable");
            facts(offsets, index, ErrorCode::KafkaStorageError, Vec::new())
        }
    }
}

/// Records, and for a reader of committed ones the transactions it is to leave out (A8).
async fn read(
    log: &PartitionLog,
    from: Offset,
    bytes_max: usize,
    at_least_one: bool,
    limit: ReadLimit,
) -> Result<(Vec<Bytes>, Vec<AbortedTransaction>), ReadError> {
    let fetched = log.read(from, bytes_max, at_least_one, limit).await?;
    let aborted = match limit {
        ReadLimit::HighWatermark => Vec::new(),
        ReadLimit::LastStable => log.aborted_among(from, &fetched).await?,
    };
    Ok((fetched.chunks, aborted))
}

/// A reader whose last epoch ended before its position learns where the logs part (KIP-595).
fn diverging(log: &PartitionLog, interest: &FetchInterest) -> Option<EpochEndOffset> {
    if interest.last_fetched_epoch < 0 {
        return None;
    }
    let asked = LeaderEpoch(interest.last_fetched_epoch);
    let (epoch, end) = log.end_of_epoch(asked)?;
    if epoch == asked && interest.from <= end.0 {
        return None;
    }
    Some(EpochEndOffset { epoch: epoch.0, end_offset: end.0 })
}

fn facts(
    offsets: LogOffsets,
    partition_index: i32,
    code: ErrorCode,
    chunks: Vec<Bytes>,
) -> PartitionData {
    PartitionData {
        partition_index,
        error_code: code.code(),
        high_watermark: offsets.high_watermark.0,
        last_stable_offset: offsets.last_stable.0,
        log_start_offset: offsets.log_start.0,
        aborted_transactions: None,
        preferred_read_replica: -1,
        // Never null: clients treat a null record set as malformed.
        records: Some(RecordChunks(chunks)),
        ..Default::default()
    }
}

fn refused(broker: &Broker, key: &FetchKey, code: ErrorCode) -> PartitionData {
    let mut data = PartitionData {
        partition_index: key.index,
        error_code: code.code(),
        high_watermark: -1,
        last_stable_offset: -1,
        log_start_offset: -1,
        preferred_read_replica: -1,
        records: Some(RecordChunks(Vec::new())),
        ..Default::default()
    };
    let stale = matches!(code, ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch);
    let topic = if key.id == TopicId::ZERO {
        broker.view.topic(&key.name)
    } else {
        broker.view.topic_by_id(key.id)
    };
    let info = topic.as_ref().and_then(|it| it.partitions.get(usize::try_from(key.index).ok()?));
    if let (true, Some(info)) = (stale, info) {
        data.current_leader =
            LeaderIdAndEpoch { leader_id: info.leader.0, leader_epoch: info.leader_epoch.0 };
    }
    data
}

fn told_facts(data: &PartitionData) -> ToldFacts {
    ToldFacts {
        high_watermark: data.high_watermark,
        last_stable: data.last_stable_offset,
        log_start: data.log_start_offset,
        is_error: data.error_code != 0,
    }
}

fn has_records(data: &PartitionData) -> bool {
    bytes_of(data) != 0
}

/// Groups neighbours of one topic; the order of partitions is the order they were read in.
fn by_topic(answers: Vec<(FetchKey, PartitionData)>) -> Vec<FetchableTopicResponse> {
    let mut topics: Vec<FetchableTopicResponse> = Vec::new();
    for (key, data) in answers {
        match topics.last_mut() {
            Some(last) if last.topic == key.name && last.topic_id == key.id => {
                last.partitions.push(data);
            }
            _ => topics.push(FetchableTopicResponse {
                topic: key.name,
                topic_id: key.id,
                partitions: vec![data],
            }),
        }
    }
    topics
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storage_error_is_told_to_those_who_know_it() {
        let storage = ErrorCode::KafkaStorageError.code();
        assert_eq!(code_for(5, storage), ErrorCode::NotLeaderOrFollower.code());
        assert_eq!(code_for(6, storage), storage);
        let other = ErrorCode::OffsetOutOfRange.code();
        assert_eq!((code_for(5, other), code_for(5, 0)), (other, 0));
    }
}
