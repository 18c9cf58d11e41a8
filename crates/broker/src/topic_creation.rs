//! Topics that are created because somebody needs them, not because somebody asks for their creation.
//!
//! Owns: how many such creations are under way at once, how long they are waited for. Does not own: which topics, and
//! what with (`auto_create`, `owners`), the rule (`cluster`).
//!
//! While the bucket is out of reach a creation takes as long as that. Whoever needs the topic is told that it is not
//! there yet, as by Kafka, which does not wait at all; the creation goes on, and clients ask again. What they ask
//! meanwhile adds no more creations than may be under way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cluster::{CreateTopicError, SubmitError, Topic};
use environment::TaskKind;
use tokio::sync::Semaphore;

use crate::admin_rows;
use crate::broker::Broker;

/// How long a request waits for topics that it needs, from its start on. Several commits of a healthy store; clients
/// that are told that a topic is not there yet ask again within a second.
pub(crate) const CREATION_WAIT_MAX: Duration = Duration::from_secs(2);

/// Creations under way, up to a number of them.
#[derive(Debug)]
pub(crate) struct Creations {
    permits: Arc<Semaphore>,
}

/// Why there is no topic now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotCreated {
    #[error(transparent)]
    Refused(#[from] CreateTopicError),
    #[error(transparent)]
    Failed(#[from] SubmitError),
    /// It may still be created.
    #[error("its creation takes longer than {} s", CREATION_WAIT_MAX.as_secs())]
    NotYet,
}

impl Creations {
    pub(crate) fn new(at_once: usize) -> Creations {
        Creations { permits: Arc::new(Semaphore::new(at_once)) }
    }

    /// The topic of that name, created unless it is there.
    ///
    /// # Errors
    /// [`NotCreated::NotYet`] after [`CREATION_WAIT_MAX`]; the creation goes on if it was begun.
    pub(crate) async fn create(
        &self,
        broker: &Broker,
        name: &str,
        partitions: u32,
        configs: BTreeMap<String, String>,
    ) -> Result<Arc<Topic>, NotCreated> {
        let deadline = broker.environment.clock.now().plus(CREATION_WAIT_MAX);
        let created = self.created(broker, name, partitions, configs);
        admin_rows::until(broker, deadline, created).await.unwrap_or(Err(NotCreated::NotYet))
    }

    async fn created(
        &self,
        broker: &Broker,
        name: &str,
        partitions: u32,
        configs: BTreeMap<String, String>,
    ) -> Result<Arc<Topic>, NotCreated> {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit.map_err(|_| NotCreated::NotYet)?;
        // Somebody else's, while this one waited.
        if let Some(topic) = broker.view.topic(name) {
            return Ok(topic);
        }
        // A task, so that the permit is held for as long as the creation takes, whoever still waits for it.
        let creation = {
            let (controller, stop) = (broker.controller.clone(), broker.stop.clone());
            let name = name.to_owned();
            async move {
                let _under_way = permit;
                tokio::select! {
                    biased;
                    created = controller.create_topic(&name, partitions, configs) => created,
                    () = stop.stopped() => Err(SubmitError::Stopping),
                }
            }
        };
        let tasks = &broker.environment.tasks;
        let created = tasks.spawn(TaskKind::Background, "topic-creation", creation).await;
        match created.map_err(|_| NotCreated::Failed(SubmitError::Stopping))?? {
            Ok(topic) => Ok(topic),
            // A topic made by somebody else at the same moment is as good as ours.
            Err(CreateTopicError::Exists) => broker.view.topic(name).ok_or(NotCreated::NotYet),
            Err(refusal) => Err(NotCreated::Refused(refusal)),
        }
    }
}
