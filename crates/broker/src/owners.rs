//! The tasks that own the coordinators led here, one a partition of an internal topic.
//!
//! Owns: which partition has a task, and the topic's creation on first need. Does not own: what the tasks do.
//!
//! A task is started when its partition is led here. One that ended, by a bug or because the partition went, is
//! replaced at the next request.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use cluster::{CreateTopicError, Topic};
use coordinator::shard_of;
use protocol::ErrorCode;
use tokio::sync::mpsc;
use vocabulary::{Partition, TopicId};

use crate::broker::Broker;

/// Requests waiting for one owner. Past it the connections that ask wait, and are not read.
const QUEUE_REQUESTS_MAX: usize = 1024;

/// `M` is what an owner is told.
#[derive(Debug)]
pub(crate) struct Owners<M> {
    topic: &'static str,
    partitions: u32,
    configs: BTreeMap<String, String>,
    /// A leaf lock, held for map operations and never across an await.
    queues: Mutex<HashMap<Partition, mpsc::Sender<M>>>,
}

impl<M: Send + 'static> Owners<M> {
    pub(crate) fn new(topic: &'static str, partitions: i32, segment_bytes: String) -> Owners<M> {
        let configs = [
            ("cleanup.policy", "compact".to_owned()),
            ("compression.type", "producer".to_owned()),
            ("segment.bytes", segment_bytes),
        ];
        Owners {
            topic,
            partitions: u32::try_from(partitions).unwrap_or(1),
            configs: configs.map(|(name, value)| (name.to_owned(), value)).into(),
            queues: Mutex::default(),
        }
    }

    /// The topic, if it was ever needed.
    pub(crate) fn topic(&self, broker: &Broker) -> Option<Arc<Topic>> {
        broker.view.topic(self.topic)
    }

    /// Where the coordinator of `key` lives, whoever leads it. Creates the topic on first need.
    ///
    /// # Errors
    /// `CoordinatorNotAvailable` while the topic cannot be created.
    pub(crate) async fn home(
        &self,
        broker: &Broker,
        key: &str,
    ) -> Result<(Arc<Topic>, Partition), ErrorCode> {
        let topic = match self.topic(broker) {
            Some(topic) => topic,
            None => self.create_topic(broker).await?,
        };
        let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
        if count == 0 {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        let partition = Partition { topic: topic.id, index: shard_of(key, count) };
        Ok((topic, partition))
    }

    async fn create_topic(&self, broker: &Broker) -> Result<Arc<Topic>, ErrorCode> {
        let (topic, count, configs) = (self.topic, self.partitions, self.configs.clone());
        match broker.controller.create_topic(topic, count, configs).await {
            Ok(Ok(topic)) => Ok(topic),
            Ok(Err(CreateTopicError::Exists)) => {
                self.topic(broker).ok_or(ErrorCode::CoordinatorNotAvailable)
            }
            Ok(Err(refusal)) => {
                tracing::error!(topic, %refusal, "internal topic not created");
                Err(ErrorCode::CoordinatorNotAvailable)
            }
            Err(error) => {
                tracing::warn!(topic, %error, "internal topic not created");
                Err(ErrorCode::CoordinatorNotAvailable)
            }
        }
    }

    /// The queue of the task that owns the partition; `start` begins one if there is none.
    ///
    /// # Errors
    /// `NotCoordinator` where another broker leads the partition, and while stopping.
    pub(crate) fn owner(
        &self,
        broker: &Broker,
        topic: &Topic,
        partition: Partition,
        start: impl FnOnce(mpsc::Receiver<M>),
    ) -> Result<mpsc::Sender<M>, ErrorCode> {
        let index = usize::try_from(partition.index).ok();
        let info = index.and_then(|it| topic.partitions.get(it));
        if info.is_none_or(|it| it.leader != broker.id) || broker.stop.is_stopped() {
            return Err(ErrorCode::NotCoordinator);
        }
        let mut queues = self.queues();
        if let Some(queue) = queues.get(&partition).filter(|it| !it.is_closed()) {
            return Ok(queue.clone());
        }
        let (sender, queue) = mpsc::channel(QUEUE_REQUESTS_MAX);
        queues.insert(partition, sender.clone());
        start(queue);
        Ok(sender)
    }

    /// Every partition of the topic that is led here.
    pub(crate) fn led(broker: &Broker, topic: &Topic) -> Vec<Partition> {
        let led = topic.partitions.iter().zip(0..).filter(|(info, _)| info.leader == broker.id);
        led.map(|(_, index)| Partition { topic: topic.id, index }).collect()
    }

    /// The owners end when their queues do.
    pub(crate) fn disown(&self, topic: TopicId) {
        self.queues().retain(|partition, _| partition.topic != topic);
    }

    pub(crate) fn living(&self) -> Vec<mpsc::Sender<M>> {
        self.queues().values().filter(|it| !it.is_closed()).cloned().collect()
    }

    fn queues(&self) -> MutexGuard<'_, HashMap<Partition, mpsc::Sender<M>>> {
        self.queues.lock().expect("no holder of this leaf lock panics: map operations only")
    }
}
