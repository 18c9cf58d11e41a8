//! Hosts the group coordinators of the `__consumer_offsets` partitions this broker leads.
//!
//! Owns: which shard has an owner task, the way of a request to it, the topic's creation on first
//! need, the news of deleted topics. Does not own: the rules (`coordinator`), the log
//! (`partition_log`), the wire (the handlers).
//!
//! | module | in it |
//! | --- | --- |
//! | `owner` | the task that owns one shard: requests, timers, appends, answers |
//! | `backlog` | what was decided but is not durable, and the answers that wait for it (A1) |
//! | `catalogue` | what the rules ask of metadata and configuration |
//! | `loading` | a shard from its log |
//! | `metrics` | what operators see of the groups |
//!
//! One task a shard, started when the partition is led here; an idle one costs a queue and a timer.
//! A task that panicked is replaced at the next request, from the log: a bug in one group's rules
//! must not take down every partition of the broker.

mod backlog;
mod catalogue;
mod loading;
mod metrics;
mod owner;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use cluster::{CreateTopicError, Topic, TopicChange};
use coordinator::{Command, ConsumerSettings, GroupOptions, Reply, shard_of};
use environment::TaskKind;
use prometheus_client::registry::Registry;
use protocol::ErrorCode;
use tokio::sync::{mpsc, oneshot};
use vocabulary::{Partition, TopicId};

use crate::broker::Broker;
use crate::configs::BrokerConfig;
use crate::groups::catalogue::ViewCatalogue;
use crate::groups::metrics::GroupMetrics;
use crate::groups::owner::{Owner, ToOwner};

/// Kafka's name; clients and tools know it.
pub(crate) const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// Requests waiting for one shard. Past it the connections that ask wait, and are not read.
const QUEUE_REQUESTS_MAX: usize = 1024;

/// `offsets.topic.segment.bytes` where it is not set.
const SEGMENT_BYTES: &str = "104857600";

/// The coordinators hosted here, behind the broker's handle.
#[derive(Debug)]
pub(crate) struct GroupHost {
    options: GroupOptions,
    settings: ConsumerSettings,
    topic_partitions: u32,
    topic_configs: BTreeMap<String, String>,
    metrics: GroupMetrics,
    /// A leaf lock, held for map operations and never across an await.
    owners: Mutex<HashMap<Partition, mpsc::Sender<ToOwner>>>,
}

impl GroupHost {
    pub(crate) fn new(config: &BrokerConfig, registry: &mut Registry) -> GroupHost {
        let segment_bytes = config.layers().fixed.get("offsets.topic.segment.bytes").cloned();
        let topic_configs = BTreeMap::from([
            ("cleanup.policy".to_owned(), "compact".to_owned()),
            ("compression.type".to_owned(), "producer".to_owned()),
            ("segment.bytes".to_owned(), segment_bytes.unwrap_or_else(|| SEGMENT_BYTES.to_owned())),
        ]);
        GroupHost {
            options: options(config),
            settings: settings(config),
            topic_partitions: u32::try_from(config.groups.offsets_topic_partitions).unwrap_or(1),
            topic_configs,
            metrics: GroupMetrics::register(registry),
            owners: Mutex::default(),
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
                for owner in self.living() {
                    // An owner that ended meanwhile looks at all topics when it loads again.
                    let _ = owner.send(ToOwner::TopicChanged { name: topic.name.clone() }).await;
                }
            }
            TopicChange::Deleted { id, name } if name == OFFSETS_TOPIC => self.disown(id),
            TopicChange::Deleted { name, .. } => {
                for owner in self.living() {
                    // An owner that ended meanwhile compares the topics when it loads again.
                    let _ = owner.send(ToOwner::TopicDeleted { name: name.clone() }).await;
                }
            }
            TopicChange::Resync => {
                if let Some(topic) = broker.view.topic(OFFSETS_TOPIC) {
                    self.own_all(broker, &topic);
                }
                for owner in self.living() {
                    let _ = owner.send(ToOwner::CompareTopics).await;
                }
            }
        }
    }

    /// Where the group lives, whoever leads it. Creates the topic on first need.
    ///
    /// # Errors
    /// `CoordinatorNotAvailable` while the topic cannot be created.
    pub(crate) async fn home(
        &self,
        broker: &Arc<Broker>,
        group: &str,
    ) -> Result<(Arc<Topic>, Partition), ErrorCode> {
        let topic = match broker.view.topic(OFFSETS_TOPIC) {
            Some(topic) => topic,
            None => self.create_topic(broker).await?,
        };
        let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
        if count == 0 {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        let partition = Partition { topic: topic.id, index: shard_of(group, count) };
        Ok((topic, partition))
    }

    async fn create_topic(&self, broker: &Arc<Broker>) -> Result<Arc<Topic>, ErrorCode> {
        let (count, configs) = (self.topic_partitions, self.topic_configs.clone());
        match broker.controller.create_topic(OFFSETS_TOPIC, count, configs).await {
            Ok(Ok(topic)) => Ok(topic),
            Ok(Err(CreateTopicError::Exists)) => {
                broker.view.topic(OFFSETS_TOPIC).ok_or(ErrorCode::CoordinatorNotAvailable)
            }
            Ok(Err(refusal)) => {
                tracing::error!(topic = OFFSETS_TOPIC, %refusal, "internal topic not created");
                Err(ErrorCode::CoordinatorNotAvailable)
            }
            Err(error) => {
                tracing::warn!(topic = OFFSETS_TOPIC, %error, "internal topic not created");
                Err(ErrorCode::CoordinatorNotAvailable)
            }
        }
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
        let asked = self.living().into_iter().map(|owner| ask(owner, command.clone()));
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
        for (index, info) in topic.partitions.iter().enumerate() {
            if info.leader == broker.id {
                let partition = Partition { topic: topic.id, index: index as i32 };
                // Refused only while stopping.
                let _ = self.owner(broker, topic, partition);
            }
        }
    }

    /// The task that owns the shard, started if there is none.
    fn owner(
        &self,
        broker: &Arc<Broker>,
        topic: &Topic,
        partition: Partition,
    ) -> Result<mpsc::Sender<ToOwner>, ErrorCode> {
        let index = usize::try_from(partition.index).ok();
        let info = index.and_then(|it| topic.partitions.get(it));
        if info.is_none_or(|it| it.leader != broker.id) || broker.stop.is_stopped() {
            return Err(ErrorCode::NotCoordinator);
        }
        let mut owners = self.owners();
        if let Some(owner) = owners.get(&partition).filter(|it| !it.is_closed()) {
            return Ok(owner.clone());
        }
        let (sender, queue) = mpsc::channel(QUEUE_REQUESTS_MAX);
        owners.insert(partition, sender.clone());
        let catalogue = ViewCatalogue { view: broker.view.clone(), settings: self.settings };
        let owner = Owner::new(broker, partition, self.options.clone(), Arc::new(catalogue), queue);
        let name = format!("group-shard-{}", partition.index);
        broker.environment.tasks.spawn(TaskKind::Background, name, owner.run());
        Ok(sender)
    }

    /// The owners end when their queues do.
    fn disown(&self, topic: TopicId) {
        self.owners().retain(|partition, _| partition.topic != topic);
    }

    fn living(&self) -> Vec<mpsc::Sender<ToOwner>> {
        self.owners().values().filter(|it| !it.is_closed()).cloned().collect()
    }

    fn owners(&self) -> MutexGuard<'_, HashMap<Partition, mpsc::Sender<ToOwner>>> {
        self.owners.lock().expect("no holder of this leaf lock panics: map operations only")
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
