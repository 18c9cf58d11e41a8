//! Hosts the transaction coordinators of the `__transaction_state` partitions this broker leads (KIP-98, KIP-890).
//!
//! Owns: the shards' options, fresh producer ids for them, the gates. Does not own: the rules (`coordinator`), the
//! tasks and the way of a request to them (`owners`), the wire (the handlers).
//!
//! | module | in it |
//! | --- | --- |
//! | `admission` | whether a transactional batch may be appended: asks the coordinator |
//! | `machine` | a shard, as its owner drives it |
//! | `markers` | the end of a transaction, on its way to every partition of it |
//! | `metrics` | what operators see of transactions |

pub(crate) mod admission;
mod machine;
pub(crate) mod markers;
mod metrics;

use std::sync::Arc;
use std::time::Duration;

use cluster::Topic;
use coordinator::transactions::{
    TransactionCommand, TransactionOptions, TransactionPartitions, TransactionReply,
    TransactionShard,
};
use prometheus_client::registry::Registry;
use protocol::ErrorCode;
use vocabulary::{Partition, ProducerId};

use crate::broker::Broker;
use crate::configs::BrokerConfig;
use crate::owners::Owners;
use crate::transactions::metrics::TransactionMetrics;

/// Kafka's name; clients and tools know it.
pub(crate) const TRANSACTIONS_TOPIC: &str = "__transaction_state";

/// Producers share them; more are for less waiting.
const GATES: usize = 64;

/// The coordinators hosted here, behind the broker's handle.
#[derive(Debug)]
pub(crate) struct TransactionHost {
    options: TransactionOptions,
    metrics: TransactionMetrics,
    owners: Owners<TransactionShard>,
    /// By producer id: see [`TransactionHost::hold`].
    gates: [tokio::sync::Mutex<()>; GATES],
}

impl TransactionHost {
    pub(crate) fn new(config: &BrokerConfig, registry: &mut Registry) -> TransactionHost {
        let partitions = config.transactions.topic_partitions;
        let segment_bytes = config.transactions.topic_segment_bytes.to_string();
        TransactionHost {
            options: options(config),
            metrics: TransactionMetrics::register(registry),
            owners: Owners::new(TRANSACTIONS_TOPIC, partitions, segment_bytes),
            gates: std::array::from_fn(|_| tokio::sync::Mutex::default()),
        }
    }

    /// Takes over the shards led here and follows the metadata until the broker stops: what was decided is to be
    /// carried out, and what is overdue to be aborted, whether anybody asks or not.
    pub(crate) fn start(&self, broker: &Arc<Broker>) {
        self.owners.start(broker);
    }

    /// Where the transactional id lives, whoever leads it. Creates the topic on first need.
    ///
    /// # Errors
    /// As of [`Owners::home`].
    pub(crate) async fn home(
        &self,
        broker: &Broker,
        id: &str,
    ) -> Result<(Arc<Topic>, Partition), ErrorCode> {
        self.owners.home(broker, id).await
    }

    /// Holds back the markers of a producer for `__consumer_offsets` while offsets of its transaction are on their way
    /// there: between the question whether the transaction is open and the decision of the group no end may slip.
    /// Other partitions have [`partition_log::Verification`] for that. An async mutex, held across both.
    pub(crate) async fn hold(&self, producer: ProducerId) -> tokio::sync::MutexGuard<'_, ()> {
        self.gates[producer.0.rem_euclid(GATES as i64) as usize].lock().await
    }

    /// Asks the coordinator of a transactional id; `pick` takes the kind of reply that answers the command.
    ///
    /// # Errors
    /// As of [`Owners::ask`].
    pub(crate) async fn ask<T>(
        &self,
        broker: &Arc<Broker>,
        id: &str,
        command: TransactionCommand,
        pick: impl FnOnce(TransactionReply) -> Option<T>,
    ) -> Result<T, ErrorCode> {
        self.owners.ask(broker, id, command, pick).await
    }

    /// Asks for a producer id and epoch; `command` makes the request, without or with a fresh producer id, which costs
    /// one only when it is needed.
    ///
    /// # Errors
    /// Those of the coordinator, and as of [`TransactionHost::ask`].
    pub(crate) async fn ask_for_producer(
        &self,
        broker: &Arc<Broker>,
        id: &str,
        command: impl Fn(Option<ProducerId>) -> TransactionCommand,
    ) -> Result<(ProducerId, i16), ErrorCode> {
        let pick = |reply| match reply {
            TransactionReply::Producer(result) => Some(result.map(Some)),
            TransactionReply::NeedsProducerId => Some(Ok(None)),
            _ => None,
        };
        if let Some(producer) = self.ask(broker, id, command(None), pick).await?? {
            return Ok(producer);
        }
        let fresh = broker.producer_ids.next(broker).await.map_err(|error| {
            tracing::warn!(%error, "no producer id to give; the client asks again");
            ErrorCode::CoordinatorNotAvailable
        })?;
        let granted = self.ask(broker, id, command(Some(fresh)), pick).await??;
        granted.ok_or(ErrorCode::UnknownServerError)
    }

    /// Asks every coordinator hosted here the same, in no order.
    ///
    /// # Errors
    /// As of [`Owners::ask_all`].
    pub(crate) async fn ask_all(
        &self,
        broker: &Arc<Broker>,
        command: &TransactionCommand,
    ) -> Result<Vec<TransactionReply>, ErrorCode> {
        self.owners.ask_all(broker, command).await
    }
}

/// The partition of the offsets' topic that a group's offsets are written to, as a transaction names it.
///
/// # Errors
/// As of [`Owners::home`].
pub(crate) async fn partition_of_group(
    broker: &Broker,
    group: &str,
) -> Result<TransactionPartitions, ErrorCode> {
    let (topic, partition) = broker.groups.home(broker, group).await?;
    Ok([(topic.name.clone(), [partition.index].into())].into())
}

fn options(config: &BrokerConfig) -> TransactionOptions {
    let transactions = &config.transactions;
    let long = |it: Duration| i64::try_from(it.as_millis()).unwrap_or(i64::MAX);
    TransactionOptions {
        timeout_ms_max: i32::try_from(transactions.timeout_max.as_millis()).unwrap_or(i32::MAX),
        abort_interval_ms: long(transactions.abort_interval),
        expiration_ms: long(transactions.id_expiration),
        expiration_interval_ms: long(transactions.id_expiration_interval),
        ..TransactionOptions::default()
    }
}
