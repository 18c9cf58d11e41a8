//! DescribeProducers (key 61): who has written to partitions, and whose transactions are open there (KIP-664).

use std::sync::Arc;

use cluster::{AclOperation, Topic};
use partition_log::ProducerState as Known;
use protocol::ErrorCode;
use protocol::messages::describe_producers::response::{
    PartitionResponse, ProducerState, TopicResponse,
};
use protocol::messages::describe_producers::{Request, Response};
use vocabulary::Partition;

use crate::broker::Broker;
use crate::context::RequestContext;
use crate::refusal;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: Request,
) -> Response {
    let mut topics = Vec::with_capacity(request.topics.len());
    for asked in request.topics {
        let topic = match context.allows_topic(AclOperation::Read, &asked.name) {
            true => broker.view.topic(&asked.name).ok_or(ErrorCode::UnknownTopicOrPartition),
            false => Err(ErrorCode::TopicAuthorizationFailed),
        };
        let mut partitions = Vec::with_capacity(asked.partition_indexes.len());
        for partition_index in asked.partition_indexes {
            let (code, active_producers) = match find(broker, &topic, partition_index).await {
                Ok(producers) => (ErrorCode::None, producers.iter().map(row).collect()),
                Err(code) => (code, Vec::new()),
            };
            partitions.push(PartitionResponse {
                partition_index,
                error_code: code.code(),
                error_message: (code == ErrorCode::TopicAuthorizationFailed)
                    .then(|| refusal::unauthorized(code).message),
                active_producers,
            });
        }
        topics.push(TopicResponse { name: asked.name, partitions });
    }
    Response { topics, ..Default::default() }
}

async fn find(
    broker: &Broker,
    topic: &Result<Arc<Topic>, ErrorCode>,
    index: i32,
) -> Result<Vec<Known>, ErrorCode> {
    let topic = topic.as_ref().map_err(|code| *code)?;
    let log = broker.led_log(Partition { topic: topic.id, index })?;
    // A code that clients wait out: the storage may answer later.
    log.producer_states().await.map_err(|_| ErrorCode::NotLeaderOrFollower)
}

fn row(known: &Known) -> ProducerState {
    ProducerState {
        producer_id: known.producer.0,
        producer_epoch: i32::from(known.epoch),
        last_sequence: known.last_sequence,
        last_timestamp: known.last_timestamp.0,
        coordinator_epoch: known.coordinator_epoch,
        current_txn_start_offset: known.transaction_start.map_or(-1, |it| it.0),
    }
}
