//! The tasks that own the coordinators led here, one a partition of an internal topic.
//!
//! Owns: which partition has a task, the way of a request to it, the topic's creation on first need, the way of news of
//! topics to the tasks. Does not own: the rules (`coordinator`), the way into the log and back (`journal`).
//!
//! | module | in it |
//! | --- | --- |
//! | `machine` | what a coordinator must be able to do |
//! | `owner` | the task: requests, timers, answers, orders |
//!
//! A task is started when its partition is led here; an idle one costs a queue and a timer. One that ended, by a bug or
//! because the partition went, is replaced at the next request, from the log: a bug in one group's rules must not take
//! down every partition of the broker.

mod machine;
mod owner;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use cluster::{Topic, TopicChange};
use coordinator::shard_of;
use environment::TaskKind;
use protocol::ErrorCode;
use tokio::sync::{mpsc, oneshot};
use vocabulary::{Partition, TopicId};

use crate::broker::Broker;
#[cfg(test)]
pub(crate) use crate::owners::machine::Counted;
pub(crate) use crate::owners::machine::{Machine, Metrics};
use crate::owners::owner::Owner;
use crate::topic_creation::{Creations, NotCreated};

/// Requests waiting for one owner. Past it the connections that ask wait, and are not read.
const QUEUE_REQUESTS_MAX: usize = 1024;

/// Who waits for an answer.
pub(crate) type Asker<R> = oneshot::Sender<Result<R, ErrorCode>>;

/// What an owner is told.
#[derive(Debug)]
pub(crate) enum ToOwner<M: Machine> {
    Ask { command: M::Command, reply: Asker<M::Reply> },
    News(M::News),
}

/// The owners of the machines of one kind.
#[derive(Debug)]
pub(crate) struct Owners<M: Machine> {
    topic: &'static str,
    partitions: u32,
    configs: BTreeMap<String, String>,
    /// Of the topic; requests that need it meanwhile wait for the same one.
    creation: Creations,
    /// A leaf lock, held for map operations and never across an await.
    queues: Mutex<HashMap<Partition, mpsc::Sender<ToOwner<M>>>>,
}

impl<M: Machine> Owners<M> {
    pub(crate) fn new(topic: &'static str, partitions: i32, segment_bytes: String) -> Owners<M> {
        let configs = [
            ("cleanup.policy", "compact".to_owned()),
            ("compression.type", "producer".to_owned()),
            ("segment.bytes", segment_bytes),
        ];
        Owners {
            topic,
            partitions: u32::try_from(partitions).unwrap_or(1),
            creation: Creations::new(1),
            configs: configs.map(|(name, value)| (name.to_owned(), value)).into(),
            queues: Mutex::default(),
        }
    }

    /// With a topic that is neither compacted nor expires: its owners cut it.
    pub(crate) fn uncompacted(mut self) -> Owners<M> {
        let configs =
            [("cleanup.policy", "delete"), ("retention.ms", "-1"), ("retention.bytes", "-1")];
        self.configs.extend(configs.map(|(name, value)| (name.to_owned(), value.to_owned())));
        self
    }

    /// Takes over the partitions led here and follows the metadata until the broker stops. What is due in them is due
    /// whether anybody asks or not.
    pub(crate) fn start(&self, broker: &Arc<Broker>) {
        let mut changes = broker.view.changes();
        self.own_all(broker);
        let broker = Arc::clone(broker);
        let tasks = broker.environment.tasks.clone();
        tasks.spawn(TaskKind::Critical, format!("{}-topics", M::NAME), async move {
            loop {
                let change = tokio::select! {
                    () = broker.stop.stopped() => return,
                    change = changes.next() => change,
                };
                let Some(change) = change else { return };
                tokio::select! {
                    () = broker.stop.stopped() => return,
                    () = M::owners(&broker).follow(&broker, &change) => (),
                }
            }
        });
    }

    async fn follow(&self, broker: &Arc<Broker>, change: &TopicChange) {
        match change {
            TopicChange::Changed(topic) if topic.name == self.topic => self.own_all(broker),
            TopicChange::Deleted { id, name } if name == self.topic => return self.disown(*id),
            TopicChange::Changed(_) | TopicChange::Deleted { .. } => (),
            TopicChange::Resync => self.own_all(broker),
        }
        if let Some(news) = M::news_of(change) {
            self.tell(&news).await;
        }
    }

    /// The topic, if it was ever needed.
    pub(crate) fn topic(&self, broker: &Broker) -> Option<Arc<Topic>> {
        broker.view.topic(self.topic)
    }

    /// Where the coordinator of `key` lives, whoever leads it. Creates the topic on first need.
    ///
    /// # Errors
    /// `CoordinatorNotAvailable` while the topic cannot be created, or not in
    /// [`CREATION_WAIT_MAX`](crate::topic_creation::CREATION_WAIT_MAX).
    pub(crate) async fn home(
        &self,
        broker: &Broker,
        key: &str,
    ) -> Result<(Arc<Topic>, Partition), ErrorCode> {
        let topic = self.ensure_topic(broker).await?;
        let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
        if count == 0 {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        let partition = Partition { topic: topic.id, index: shard_of(key, count) };
        Ok((topic, partition))
    }

    /// The topic, created if it was never needed.
    ///
    /// # Errors
    /// As of [`Owners::home`].
    pub(crate) async fn ensure_topic(&self, broker: &Broker) -> Result<Arc<Topic>, ErrorCode> {
        match self.topic(broker) {
            Some(topic) => Ok(topic),
            None => self.create_topic(broker).await,
        }
    }

    async fn create_topic(&self, broker: &Broker) -> Result<Arc<Topic>, ErrorCode> {
        let (topic, count, configs) = (self.topic, self.partitions, self.configs.clone());
        let created = self.creation.create(broker, topic, count, configs).await;
        created.map_err(|reason| {
            match reason {
                NotCreated::Refused(_) => {
                    tracing::error!(topic, %reason, "internal topic not created");
                }
                NotCreated::Failed(_) => {
                    tracing::warn!(topic, %reason, "internal topic not created");
                }
                NotCreated::NotYet => tracing::debug!(topic, %reason, "internal topic not there"),
            }
            ErrorCode::CoordinatorNotAvailable
        })
    }

    /// Asks the coordinator of `key`; `pick` takes the kind of reply that answers the command.
    ///
    /// # Errors
    /// `NotCoordinator`, `CoordinatorNotAvailable` and `CoordinatorLoadInProgress`, on which clients look again or
    /// wait. Nothing is known of what became of the request then.
    pub(crate) async fn ask<T>(
        &self,
        broker: &Arc<Broker>,
        key: &str,
        command: M::Command,
        pick: impl FnOnce(M::Reply) -> Option<T>,
    ) -> Result<T, ErrorCode> {
        let (topic, partition) = self.home(broker, key).await?;
        let reply = self.ask_partition(broker, &topic, partition, command).await?;
        pick(reply).ok_or(ErrorCode::UnknownServerError)
    }

    /// Asks the coordinator of one partition of the topic.
    ///
    /// # Errors
    /// As of [`Owners::ask`].
    pub(crate) async fn ask_partition(
        &self,
        broker: &Arc<Broker>,
        topic: &Topic,
        partition: Partition,
        command: M::Command,
    ) -> Result<M::Reply, ErrorCode> {
        ask(self.owner(broker, topic, partition)?, command).await
    }

    /// Asks every coordinator hosted here the same, in no order.
    ///
    /// # Errors
    /// `CoordinatorLoadInProgress` if one is still loading; one that moved away meanwhile has nothing to say.
    pub(crate) async fn ask_all(
        &self,
        broker: &Arc<Broker>,
        command: &M::Command,
    ) -> Result<Vec<M::Reply>, ErrorCode>
    where
        M::Command: Clone,
    {
        self.own_all(broker);
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

    /// Tells every owner. One that ended meanwhile is told that it has missed news when it loads again.
    async fn tell(&self, news: &M::News) {
        for owner in self.living() {
            let _ = owner.send(ToOwner::News(news.clone())).await;
        }
    }

    /// Every partition of the topic that is led here gets its owner.
    fn own_all(&self, broker: &Arc<Broker>) {
        let Some(topic) = self.topic(broker) else { return };
        let led = topic.partitions.iter().zip(0..).filter(|(info, _)| info.leader == broker.id);
        for (_, index) in led {
            // Refused only while stopping.
            let _ = self.owner(broker, &topic, Partition { topic: topic.id, index });
        }
    }

    /// The owners end when their queues do.
    fn disown(&self, topic: TopicId) {
        self.queues().retain(|partition, _| partition.topic != topic);
    }

    /// The queue of the task that owns the partition, started if there is none.
    fn owner(
        &self,
        broker: &Arc<Broker>,
        topic: &Topic,
        partition: Partition,
    ) -> Result<mpsc::Sender<ToOwner<M>>, ErrorCode> {
        let info = topic.partition(partition.index);
        if info.is_none_or(|it| it.leader != broker.id) || broker.stop.is_stopped() {
            return Err(ErrorCode::NotCoordinator);
        }
        let mut queues = self.queues();
        if let Some(queue) = queues.get(&partition).filter(|it| !it.is_closed()) {
            return Ok(queue.clone());
        }
        let (sender, queue) = mpsc::channel(QUEUE_REQUESTS_MAX);
        queues.insert(partition, sender.clone());
        let owner = Owner::<M>::new(broker, partition, queue);
        let name = format!("{}-shard-{}", M::NAME, partition.index);
        broker.environment.tasks.spawn(TaskKind::Background, name, owner.run());
        Ok(sender)
    }

    fn living(&self) -> Vec<mpsc::Sender<ToOwner<M>>> {
        self.queues().values().filter(|it| !it.is_closed()).cloned().collect()
    }

    fn queues(&self) -> MutexGuard<'_, HashMap<Partition, mpsc::Sender<ToOwner<M>>>> {
        self.queues.lock().expect("no holder of this leaf lock panics: map operations only")
    }
}

/// A queue that closes, or an answer that is dropped, means that the machine is not here any more.
async fn ask<M: Machine>(
    owner: mpsc::Sender<ToOwner<M>>,
    command: M::Command,
) -> Result<M::Reply, ErrorCode> {
    let (reply, answer) = oneshot::channel();
    let asked = owner.send(ToOwner::Ask { command, reply }).await;
    asked.map_err(|_| ErrorCode::NotCoordinator)?;
    // Whoever waits must not be what keeps the queue open.
    drop(owner);
    answer.await.unwrap_or(Err(ErrorCode::NotCoordinator))
}
