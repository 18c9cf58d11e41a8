//! Hosts the group coordinators of the `__consumer_offsets` partitions this broker leads.
//!
//! Owns: the shards' options. Does not own: the rules (`coordinator`), the tasks and the way of requests and news to
//! them (`owners`), the wire (the handlers).
//!
//! | module | in it |
//! | --- | --- |
//! | `catalogue` | what the rules ask of metadata and configuration |
//! | `machine` | a shard, as its owner drives it |
//! | `metrics` | what operators see of the groups |

mod catalogue;
mod machine;
mod metrics;

use std::sync::Arc;
use std::time::Duration;

use cluster::Topic;
use coordinator::{
    Command, DescribedShareGroup, GroupOptions, Refused, Reply, Shard, TransactionEnd,
};
use prometheus_client::registry::Registry;
use protocol::ErrorCode;
use vocabulary::Partition;

use crate::broker::Broker;
use crate::configs::BrokerConfig;
use crate::groups::metrics::GroupMetrics;
use crate::owners::Owners;

/// Kafka's name; clients and tools know it.
pub(crate) const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// `offsets.topic.segment.bytes` where it is not set.
const SEGMENT_BYTES: &str = "104857600";

/// The coordinators hosted here, behind the broker's handle.
#[derive(Debug)]
pub(crate) struct GroupHost {
    options: GroupOptions,
    metrics: GroupMetrics,
    owners: Owners<Shard>,
}

impl GroupHost {
    pub(crate) fn new(config: &BrokerConfig, registry: &mut Registry) -> GroupHost {
        let segment_bytes = config.layers().fixed.get("offsets.topic.segment.bytes").cloned();
        let segment_bytes = segment_bytes.unwrap_or_else(|| SEGMENT_BYTES.to_owned());
        let partitions = config.groups.offsets_topic_partitions;
        GroupHost {
            options: options(config),
            metrics: GroupMetrics::register(registry),
            owners: Owners::new(OFFSETS_TOPIC, partitions, segment_bytes),
        }
    }

    /// Takes over the shards led here and follows the metadata until the broker stops. Groups with
    /// members need their timers from the start, not from the first request on.
    pub(crate) fn start(&self, broker: &Arc<Broker>) {
        self.owners.start(broker);
    }

    /// Where the group lives, whoever leads it. Creates the topic on first need.
    ///
    /// # Errors
    /// As of [`Owners::home`].
    pub(crate) async fn home(
        &self,
        broker: &Broker,
        group: &str,
    ) -> Result<(Arc<Topic>, Partition), ErrorCode> {
        self.owners.home(broker, group).await
    }

    /// Asks the group's coordinator; `pick` takes the kind of reply that answers the command.
    ///
    /// # Errors
    /// As of [`Owners::ask`].
    pub(crate) async fn ask<T>(
        &self,
        broker: &Arc<Broker>,
        group: &str,
        command: Command,
        pick: impl FnOnce(Reply) -> Option<T>,
    ) -> Result<T, ErrorCode> {
        self.owners.ask(broker, group, command, pick).await
    }

    /// A share group as its coordinator knows it, or why it is none.
    ///
    /// # Errors
    /// As of [`Owners::ask`].
    pub(crate) async fn describe_shares(
        &self,
        broker: &Arc<Broker>,
        group: &str,
    ) -> Result<Result<DescribedShareGroup, Refused>, ErrorCode> {
        let command = Command::DescribeShares(vec![group.to_owned()]);
        let pick = |reply| if let Reply::DescribeShares(mut it) = reply { it.pop() } else { None };
        self.ask(broker, group, command, pick).await
    }

    /// Writes the end of a transaction to one partition of the offsets' topic, which this broker leads.
    ///
    /// # Errors
    /// As of [`Owners::ask`].
    pub(crate) async fn end_transaction(
        &self,
        broker: &Arc<Broker>,
        topic: &Topic,
        partition: Partition,
        end: TransactionEnd,
    ) -> Result<(), ErrorCode> {
        let command = Command::EndTransaction(end);
        self.owners.ask_partition(broker, topic, partition, command).await.map(|_| ())
    }

    /// Asks every coordinator hosted here the same, in no order.
    ///
    /// # Errors
    /// As of [`Owners::ask_all`].
    pub(crate) async fn ask_all(
        &self,
        broker: &Arc<Broker>,
        command: &Command,
    ) -> Result<Vec<Reply>, ErrorCode> {
        self.owners.ask_all(broker, command).await
    }
}

fn options(config: &BrokerConfig) -> GroupOptions {
    let groups = &config.groups;
    let int = |it: Duration| i32::try_from(it.as_millis()).unwrap_or(i32::MAX);
    let long = |it: Duration| i64::try_from(it.as_millis()).unwrap_or(i64::MAX);
    GroupOptions {
        session_timeout_ms_min: int(groups.session_timeout_min),
        session_timeout_ms_max: int(groups.session_timeout_max),
        initial_rebalance_delay_ms: int(groups.initial_rebalance_delay),
        group_members_max: groups.members_max,
        offset_metadata_max: groups.offset_metadata_bytes_max,
        offsets_retention_ms: long(groups.offsets_retention),
        offsets_retention_check_interval_ms: long(groups.offsets_retention_check_interval),
        regex_refresh_interval_ms: long(groups.consumer_regex_refresh_interval),
        consumer_group_members_max: groups.consumer_members_max,
        share_group_members_max: groups.share.members_max,
        consumer_assignors: groups.consumer_assignors.clone(),
        migration_policy: groups.consumer_migration_policy,
        ..GroupOptions::default()
    }
}

#[cfg(test)]
mod tests;
