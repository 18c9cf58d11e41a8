//! Produce (key 0): validates each batch, gives it its offsets, answers when it is durable (A1).
//!
//! Two steps, so that one connection can have many requests in flight: [`start`] validates and
//! appends in request order; the future it returns waits for durability and builds the answer.
//! Throughput of one default producer must not be one batch per storage round trip.

mod transactional;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use cluster::AclOperation;
use futures::future::BoxFuture;
use partition_log::{AppendError, AppendRules, Appended, LogSettings, PartitionLog};
use protocol::ErrorCode;
use protocol::messages::produce::request::{PartitionProduceData, TopicProduceData};
use protocol::messages::produce::response::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse,
    TopicProduceResponse,
};
use protocol::messages::produce::{Request, Response};
use protocol::records::{Batch, ProduceRefusal, ProduceRules, validate_produced};
use vocabulary::{Partition, Tick, Timestamp, TopicId};

use crate::alarm::Alarm;
use crate::broker::Broker;
use crate::context::RequestContext;
use crate::handlers::produce::transactional::Prepared;

/// The bound of one batch once decompressed. Kafka has none; a bomb must not take the broker down.
const RECORDS_BYTES_MAX: usize = 1 << 30;

/// The first version that names topics by id (KIP-516).
const TOPIC_ID_VERSION: i16 = 13;

/// The first version that tells who leads a partition, and where (KIP-951).
const LEADERS_VERSION: i16 = 10;

/// The shortest wait for a batch to be durable, whatever the client allows. Kafka's leader alone makes nobody wait:
/// timeout.ms is for replicas that lag. Here it would refuse batches that become durable a moment later, and who is
/// not idempotent would send them twice. Clients give up a request after ten seconds and more beyond their timeout.
const WAIT_MIN: Duration = Duration::from_secs(5);

/// The answer once everything appended is durable. `None`: acks=0 has no answer. `Err`: acks=0
/// failed, and closing the connection is the only way to tell.
pub(crate) type Finish = BoxFuture<'static, Result<Option<Response>, ErrorCode>>;

/// One partition's answer, as far as it is known when its batch has been appended.
struct Started {
    index: i32,
    outcome: Result<Appended, Failure>,
    log: Option<Arc<PartitionLog>>,
}

/// Why a partition's batch was not appended.
#[derive(Debug)]
struct Failure {
    code: ErrorCode,
    message: Option<String>,
    record_errors: Vec<BatchIndexAndErrorMessage>,
}

impl From<ErrorCode> for Failure {
    fn from(code: ErrorCode) -> Failure {
        Failure { code, message: None, record_errors: Vec::new() }
    }
}

impl From<ProduceRefusal> for Failure {
    fn from(refusal: ProduceRefusal) -> Failure {
        let row = |error: protocol::records::RecordError| BatchIndexAndErrorMessage {
            batch_index: error.index,
            batch_index_error_message: Some(error.message),
        };
        Failure {
            code: refusal.code,
            message: Some(refusal.message),
            record_errors: refusal.record_errors.into_iter().map(row).collect(),
        }
    }
}

/// Validates and appends, in order. Awaits backpressure, the lazy load of producer state, and, at the first batch of a
/// transaction in a partition, its coordinator.
pub(crate) async fn start(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: Request,
) -> Finish {
    let acks = request.acks;
    let wait = Duration::from_millis(request.timeout_ms.max(0) as u64).max(WAIT_MIN);
    let refusal = refusal_of_request(&request).or_else(|| transactional::denial(context, &request));
    let mut topics = Vec::with_capacity(request.topic_data.len());
    for mut topic in request.topic_data {
        let prepared = prepare_topic(broker, context, &mut topic, refusal);
        topics.push((topic.name, topic.topic_id, prepared));
    }
    let mut prepared: Vec<&mut Prepared> = topics.iter_mut().flat_map(|(.., it)| it).collect();
    let id = request.transactional_id.as_deref();
    transactional::admit(broker, context.version, id, &mut prepared).await;
    let mut started = Vec::with_capacity(topics.len());
    for (name, id, prepared) in topics {
        let mut partitions = Vec::with_capacity(prepared.len());
        for prepared in prepared {
            partitions.push(append(prepared).await);
        }
        started.push((name, id, partitions));
    }
    let topics = started;
    let broker = Arc::clone(broker);
    let (version, listener) = (context.version, Arc::clone(&context.listener));
    Box::pin(async move {
        let deadline = broker.environment.clock.now().plus(wait);
        let mut alarm = Alarm::new(&broker.environment.clock); // One for all partitions.
        let mut responses = Vec::with_capacity(topics.len());
        let mut first_error = None;
        let mut leaders = BTreeSet::new();
        for (name, topic_id, partitions) in topics {
            let mut rows = Vec::with_capacity(partitions.len());
            for started in partitions {
                let mut row = match acks {
                    0 => finish_unacknowledged(started),
                    _ => finish(started, &mut alarm, deadline).await,
                };
                if LEADERS_VERSION <= version && is_moved(row.error_code) {
                    let id = match TOPIC_ID_VERSION <= version {
                        true => topic_id,
                        false => broker.view.topic(&name).map_or(TopicId::ZERO, |it| it.id),
                    };
                    tell_leader(&broker, id, &mut row);
                    leaders.insert(row.current_leader.leader_id);
                }
                let code = ErrorCode::from_code(row.error_code);
                first_error = first_error.or(code.filter(|code| *code != ErrorCode::None));
                rows.push(row);
            }
            responses.push(TopicProduceResponse { name, topic_id, partition_responses: rows });
        }
        match (acks, first_error) {
            (0, None) => Ok(None),
            (0, Some(code)) => Err(code),
            _ => {
                let endpoints = broker.endpoints_of(&listener, &leaders);
                let node_endpoints = endpoints.map(endpoint).collect();
                Ok(Some(Response { responses, node_endpoints, ..Default::default() }))
            }
        }
    })
}

/// What is wrong with the request as a whole, before any partition is looked at.
fn refusal_of_request(request: &Request) -> Option<ErrorCode> {
    if !(-1..=1).contains(&request.acks) {
        return Some(ErrorCode::InvalidRequiredAcks);
    }
    None
}

/// Takes the topic's batches out of it.
fn prepare_topic(
    broker: &Arc<Broker>,
    context: &RequestContext,
    topic: &mut TopicProduceData,
    refusal: Option<ErrorCode>,
) -> Vec<Prepared> {
    let found = if TOPIC_ID_VERSION <= context.version {
        broker.view.topic_by_id(topic.topic_id)
    } else {
        broker.view.topic(&topic.name)
    };
    let unknown = if TOPIC_ID_VERSION <= context.version {
        ErrorCode::UnknownTopicId
    } else {
        ErrorCode::UnknownTopicOrPartition
    };
    let name = found.as_ref().map_or(topic.name.as_str(), |it| &it.name);
    // By an id that nobody has, no topic is named.
    let is_named = !name.is_empty() || context.version < TOPIC_ID_VERSION;
    let denied = refusal.is_none() && is_named && !context.allows_topic(AclOperation::Write, name);
    let refusal = refusal.or(denied.then_some(ErrorCode::TopicAuthorizationFailed));
    let mut partitions = Vec::with_capacity(topic.partition_data.len());
    for data in std::mem::take(&mut topic.partition_data) {
        let index = data.index;
        let log = match (&refusal, &found) {
            (Some(code), _) => Err(*code),
            (None, None) => Err(unknown),
            // Coordinators write them, and believe what they read there.
            (None, Some(topic)) if topic.is_internal => Err(ErrorCode::InvalidTopicException),
            (None, Some(topic)) => broker.led_log(Partition { topic: topic.id, index }),
        };
        let batch = match &log {
            Ok(log) => validate(broker, context, log, data),
            Err(code) => Err(Failure::from(*code)),
        };
        let (topic, rules) = (found.clone(), AppendRules::default());
        partitions.push(Prepared { index, topic, log: log.ok(), batch, rules });
    }
    partitions
}

fn validate(
    broker: &Broker,
    context: &RequestContext,
    log: &PartitionLog,
    data: PartitionProduceData,
) -> Result<Batch, Failure> {
    let Some(records) = data.records else {
        return Err(Failure {
            code: ErrorCode::InvalidRecord,
            message: Some("a produce request carries exactly one record batch a partition".into()),
            record_errors: Vec::new(),
        });
    };
    let rules = rules(broker, context, &log.settings());
    Ok(validate_produced(records, &rules)?)
}

async fn append(prepared: Prepared) -> Started {
    let Prepared { index, log, batch, rules, .. } = prepared;
    let outcome = match (batch, &log) {
        (Ok(batch), Some(log)) => {
            let appended = log.append_with(batch, None, rules).await;
            appended.map_err(|error| Failure::from(append_error_code(&error)))
        }
        (Ok(_), None) => Err(Failure::from(ErrorCode::UnknownTopicOrPartition)),
        (Err(failure), _) => Err(failure),
    };
    Started { index, outcome, log }
}

fn rules(broker: &Broker, context: &RequestContext, settings: &LogSettings) -> ProduceRules {
    ProduceRules {
        produce_version: context.version,
        batch_bytes_max: settings.message_bytes_max,
        keys_required: settings.cleanup.compact,
        timestamp_type: settings.timestamp_type,
        timestamp_before_max_ms: settings.timestamp_before_max_ms,
        timestamp_after_max_ms: settings.timestamp_after_max_ms,
        now: broker.environment.clock.wall(),
        compression: settings.compression,
        records_bytes_max: RECORDS_BYTES_MAX,
    }
}

/// acks=0: nobody waits. Durability goes on without us; only a refused append is told.
fn finish_unacknowledged(started: Started) -> PartitionProduceResponse {
    match started.outcome {
        Ok(_) => PartitionProduceResponse { index: started.index, ..Default::default() },
        Err(failure) => failed(started.index, failure),
    }
}

async fn finish(started: Started, alarm: &mut Alarm, deadline: Tick) -> PartitionProduceResponse {
    let index = started.index;
    let appended = match started.outcome {
        Ok(appended) => appended,
        Err(failure) => return failed(index, failure),
    };
    let Appended { base_offset, log_append_time, durable, .. } = appended;
    let durable = tokio::select! {
        biased;
        durable = durable => durable.map_err(|error| append_error_code(&error)),
        () = alarm.at(deadline) => Err(ErrorCode::RequestTimedOut),
    };
    match durable {
        Ok(()) => PartitionProduceResponse {
            index,
            base_offset: base_offset.0,
            log_append_time_ms: log_append_time.0,
            log_start_offset: started.log.map_or(-1, |log| log.offsets().log_start.0),
            ..Default::default()
        },
        Err(code) => failed(index, Failure::from(code)),
    }
}

fn failed(index: i32, failure: Failure) -> PartitionProduceResponse {
    PartitionProduceResponse {
        index,
        error_code: failure.code.code(),
        base_offset: -1,
        log_append_time_ms: Timestamp::NONE.0,
        log_start_offset: -1,
        record_errors: failure.record_errors,
        error_message: failure.message,
        ..Default::default()
    }
}

/// KIP-951: a client with a stale leader learns the current one from the refusal itself.
fn tell_leader(broker: &Broker, topic: TopicId, row: &mut PartitionProduceResponse) {
    let (leader_id, leader_epoch) = broker.leader_of(Partition { topic, index: row.index });
    row.current_leader = LeaderIdAndEpoch { leader_id, leader_epoch };
}

fn is_moved(code: i16) -> bool {
    let stale = [ErrorCode::NotLeaderOrFollower, ErrorCode::FencedLeaderEpoch];
    stale.map(ErrorCode::code).contains(&code)
}

fn endpoint(broker: cluster::Broker) -> NodeEndpoint {
    NodeEndpoint {
        node_id: broker.id.0,
        host: broker.host,
        port: i32::from(broker.port),
        rack: broker.rack,
    }
}

/// The code Kafka's clients expect for each way an append can fail.
fn append_error_code(error: &AppendError) -> ErrorCode {
    match error {
        AppendError::OutOfOrderSequence { .. } => ErrorCode::OutOfOrderSequenceNumber,
        AppendError::StaleProducerEpoch { .. } => ErrorCode::InvalidProducerEpoch,
        AppendError::InvalidTxnState { .. } => ErrorCode::InvalidTxnState,
        AppendError::StaleCoordinatorEpoch { .. } => ErrorCode::TransactionCoordinatorFenced,
        AppendError::WrongLeaderEpoch { .. } => ErrorCode::NotLeaderOrFollower,
        AppendError::Removed => ErrorCode::UnknownTopicOrPartition,
        AppendError::Stopping => ErrorCode::NotLeaderOrFollower,
        AppendError::Unavailable => ErrorCode::KafkaStorageError,
        // Maybe written: the client retries, and its sequence numbers make that safe (A5).
        AppendError::Unknown => ErrorCode::RequestTimedOut,
    }
}
