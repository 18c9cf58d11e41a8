//! Hosts the group coordinators of the `__consumer_offsets` partitions this broker leads.
//!
//! Owns: which shard has an owner task, the way of a request to it, the topic's creation on first
//! need, the news of deleted topics. Does not own: the rules (`coordinator`), the way into the log
//! and back (`journal`), the wire (the handlers).
//!
//! | module | in it |
//! | --- | --- |
//! | `catalogue` | what the rules ask of metadata and configuration |
//! | `owner` | the task that owns one shard: requests, timers, answers |
//! | `metrics` | what operators see of the groups |
//!
//! One task a shard, started when the partition is led here; an idle one costs a queue and a timer.
//! A task that panicked is replaced at the next request, from the log: a bug in one group's rules
//! must not take down every partition of the broker.

mod catalogue;
mod metrics;
mod owner;

use std::sync::Arc;
use std::time::Duration;

use cluster::{Topic, TopicChange};
use coordinator::{Command, ConsumerSettings, GroupOptions, Reply, TransactionEnd};
use environment::TaskKind;
use prometheus_client::registry::Registry;
use protocol::ErrorCode;
use tokio::sync::{mpsc, oneshot};
use vocabulary::Partition;

use crate::broker::Broker;
use crate::configs::BrokerConfig;
use crate::groups::catalogue::ViewCatalogue;
use crate::groups::metrics::GroupMetrics;
use crate::groups::owner::{Owner, ToOwner};
use crate::owners::Owners;

/// Kafka's name; clients and tools know it.
pub(crate) const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// `offsets.topic.segment.bytes` where it is not set.
const SEGMENT_BYTES: &str = "104857600";

/// The coordinators hosted here, behind the broker's handle.
#[derive(Debug)]
pub(crate) struct GroupHost {
    options: GroupOptions,
    settings: ConsumerSettings,
    metrics: GroupMetrics,
    owners: Owners<ToOwner>,
}

impl GroupHost {
    pub(crate) fn new(config: &BrokerConfig, registry: &mut Registry) -> GroupHost {
        let segment_bytes = config.layers().fixed.get("offsets.topic.segment.bytes").cloned();
        let segment_bytes = segment_bytes.unwrap_or_else(|| SEGMENT_BYTES.to_owned());
        let partitions = config.groups.offsets_topic_partitions;
        GroupHost {
            options: options(config),
            settings: settings(config),
            metrics: GroupMetrics::register(registry),
            owners: Owners::new(OFFSETS_TOPIC, partitions, segment_bytes),
        }
    }

    /// Takes over the shards led here and follows the metadata until the broker stops. Groups with
    /// members need their timers from the start, not from the first request on.
    pub(crate) fn start(&self, broker: &Arc<Broker>) {
        let mut changes = broker.view.changes();
        if let Some(topic) = broker.view.topic(OFFSETS_TOPIC) {
            self.own_all(broker, &topic);
        }
        let broker = Arc::clone(broker);
        let tasks = broker.environment.tasks.clone();
        tasks.spawn(TaskKind::Critical, "group-topics", async move {
            loop {
                let change = tokio::select! {
                    () = broker.stop.stopped() => return,
                    change = changes.next() => change,
                };
                let Some(change) = change else { return };
                tokio::select! {
                    () = broker.stop.stopped() => return,
                    () = broker.groups.follow(&broker, change) => (),
                }
            }
        });
    }

    async fn follow(&self, broker: &Arc<Broker>, change: TopicChange) {
        match change {
            TopicChange::Changed(topic) => {
                if topic.name == OFFSETS_TOPIC {
                    self.own_all(broker, &topic);
                }
                for owner in self.owners.living() {
                    // An owner that ended meanwhile looks at all topics when it loads again.
                    let _ = owner.send(ToOwner::TopicChanged { name: topic.name.clone() }).await;
                }
            }
            TopicChange::Deleted { id, name } if name == OFFSETS_TOPIC => self.owners.disown(id),
            TopicChange::Deleted { name, .. } => {
                for owner in self.owners.living() {
                    // An owner that ended meanwhile compares the topics when it loads again.
                    let _ = owner.send(ToOwner::TopicDeleted { name: name.clone() }).await;
                }
            }
            TopicChange::Resync => {
                if let Some(topic) = broker.view.topic(OFFSETS_TOPIC) {
                    self.own_all(broker, &topic);
                }
                for owner in self.owners.living() {
                    let _ = owner.send(ToOwner::CompareTopics).await;
                }
            }
        }
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
    /// `NotCoordinator`, `CoordinatorNotAvailable` and `CoordinatorLoadInProgress`, on which
    /// clients look again or wait. Nothing is known of what became of the request then.
    pub(crate) async fn ask<T>(
        &self,
        broker: &Arc<Broker>,
        group: &str,
        command: Command,
        pick: impl FnOnce(Reply) -> Option<T>,
    ) -> Result<T, ErrorCode> {
        let (topic, partition) = self.home(broker, group).await?;
        let owner = self.owner(broker, &topic, partition)?;
        let reply = ask(owner, command).await?;
        pick(reply).ok_or(ErrorCode::UnknownServerError)
    }

    /// Writes the end of a transaction to one partition of the offsets' topic, which this broker leads.
    ///
    /// # Errors
    /// As of [`GroupHost::ask`].
    pub(crate) async fn end_transaction(
        &self,
        broker: &Arc<Broker>,
        topic: &Topic,
        partition: Partition,
        end: TransactionEnd,
    ) -> Result<(), ErrorCode> {
        let owner = self.owner(broker, topic, partition)?;
        ask(owner, Command::EndTransaction(end)).await.map(|_| ())
    }

    /// Asks every coordinator hosted here the same, in no order.
    ///
    /// # Errors
    /// `CoordinatorLoadInProgress` if one is still loading; one that moved away meanwhile has
    /// nothing to say.
    pub(crate) async fn ask_all(
        &self,
        broker: &Arc<Broker>,
        command: &Command,
    ) -> Result<Vec<Reply>, ErrorCode> {
        if let Some(topic) = broker.view.topic(OFFSETS_TOPIC) {
            self.own_all(broker, &topic);
        }
        let asked = self.owners.living().into_iter().map(|owner| ask(owner, command.clone()));
        let mut replies = Vec::new();
        for reply in futures::future::join_all(asked).await {
            match reply {
                Ok(reply) => replies.push(reply),
                Err(ErrorCode::NotCoordinator) => (),
                Err(code) => return Err(code),
            }
        }
        Ok(replies)
    }

    fn own_all(&self, broker: &Arc<Broker>, topic: &Topic) {
        for partition in Owners::<ToOwner>::led(broker, topic) {
            // Refused only while stopping.
            let _ = self.owner(broker, topic, partition);
        }
    }

    /// The task that owns the shard, started if there is none.
    fn owner(
        &self,
        broker: &Arc<Broker>,
        topic: &Topic,
        partition: Partition,
    ) -> Result<mpsc::Sender<ToOwner>, ErrorCode> {
        self.owners.owner(broker, topic, partition, |queue| {
            let catalogue = ViewCatalogue { view: broker.view.clone(), settings: self.settings };
            let catalogue = Arc::new(catalogue);
            let owner = Owner::new(broker, partition, self.options.clone(), catalogue, queue);
            let name = format!("group-shard-{}", partition.index);
            broker.environment.tasks.spawn(TaskKind::Background, name, owner.run());
        })
    }
}

/// A queue that closes, or an answer that is dropped, means that the shard is not here any more.
async fn ask(owner: mpsc::Sender<ToOwner>, command: Command) -> Result<Reply, ErrorCode> {
    let (reply, answer) = oneshot::channel();
    let asked = owner.send(ToOwner::Ask { command, reply }).await;
    asked.map_err(|_| ErrorCode::NotCoordinator)?;
    // Whoever waits must not be what keeps the queue open.
    drop(owner);
    answer.await.unwrap_or(Err(ErrorCode::NotCoordinator))
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
        consumer_group_members_max: groups.consumer_members_max,
        consumer_assignors: groups.consumer_assignors.clone(),
        migration_policy: groups.consumer_migration_policy,
        ..GroupOptions::default()
    }
}

fn settings(config: &BrokerConfig) -> ConsumerSettings {
    let int = |it: Duration| i32::try_from(it.as_millis()).unwrap_or(i32::MAX);
    ConsumerSettings {
        session_timeout_ms: int(config.groups.consumer_session_timeout),
        heartbeat_interval_ms: int(config.groups.consumer_heartbeat_interval),
        assignment_interval_ms: int(config.groups.consumer_assignment_interval),
    }
}

#[cfg(test)]
mod tests;
