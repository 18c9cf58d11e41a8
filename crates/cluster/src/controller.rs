//! The controller: the one task that changes the metadata.
//!
//! Owns: the working state, the order of changes, their durability, dropping deleted topics' runs.
//! Does not own: the rules (`state`), the bytes in the bucket (`store`), what readers see (`view`),
//! what operators see of it (`health`).
//!
//! One turn: take what is queued, decide each on the working state, apply its events to it, write
//! all events as one atomic batch, wait until that is durable, show it to readers, reply. Nothing is
//! visible or answered before it is durable. A store that does not answer is tried again with the
//! same batch until it does or the process stops (A9); a store that belongs to another controller now
//! ends this one: every later command is answered [`SubmitError::Fenced`].
//!
//! A database that ends itself is opened anew by whoever notices first: the commit at hand, or, while
//! nothing changes, a task that waits for it. That task also notices a takeover of an idle controller,
//! after [`StoreOptions::manifest_poll_interval`] at most.

mod health;
mod runs;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use environment::{Environment, StopToken, TaskHandle, TaskKind};
use object_store::ObjectStore;
use tokio::sync::{Notify, mpsc, oneshot};
use vocabulary::{BrokerEpoch, BrokerId, Timestamp, TopicId};

pub use self::health::ControllerHealth;
use self::health::Vitals;
use crate::state::{
    Acl, AclError, AclFilter, CreatePartitionsError, CreateTopicError, Event, GroupConfigsError,
    RegisterBroker, Run, State, Topic, UnknownTopic, apply, decide,
};
use crate::store::{LogPosition, Store, StoreError, StoreOptions};
use crate::view::View;

/// Commands that wait. Beyond it, callers wait.
const QUEUE_COMMANDS_MAX: usize = 1024;

/// Commands of one atomic batch. Larger: fewer writes, later answers.
const BATCH_COMMANDS_MAX: usize = 256;

/// Runs dropped in one command: a topic of a million runs must not make one giant write.
const DROP_RUNS_MAX: usize = 1000;

/// Commits after which the store moves its log into a sorted file. Fewer: a faster restart, more
/// requests.
const LOG_COMMITS_MAX: u32 = 256;

const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// How long a stopping controller waits for the store to take the batch at hand.
const LAST_COMMIT_MAX: Duration = Duration::from_secs(3);
/// How long closing waits for the tasks, and then for the database.
const CLOSE_MAX: Duration = Duration::from_secs(5);
const _: () = assert!(LAST_COMMIT_MAX.as_millis() < CLOSE_MAX.as_millis());

/// What every command can run into, apart from its own refusals.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// Another controller has taken over. Not done, and never will be by this process.
    #[error("another process has become the controller of this bucket")]
    Fenced,
    /// The controller is stopping. Maybe done: the answer may have been lost.
    #[error("the controller is stopping")]
    Stopping,
    /// A read failed. Nothing was changed; ask again.
    #[error("the metadata store did not answer: {0}")]
    Unavailable(String),
}

/// Why the metadata could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The handle to the controller task. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Controller {
    queue: mpsc::Sender<Box<dyn Job>>,
    store: Arc<Store>,
    view: View,
    environment: Environment,
    dropping: Arc<Notify>,
    vitals: Arc<Vitals>,
}

/// A command on its way, whatever its reply type.
trait Job: Send {
    fn decide(&mut self, state: &State) -> Vec<Event>;
    fn finish(self: Box<Self>, outcome: Result<(), SubmitError>);
}

struct Asked<Rule, Reply> {
    rule: Option<Rule>,
    decided: Option<Reply>,
    reply: oneshot::Sender<Result<Reply, SubmitError>>,
}

impl<Rule, Reply> Job for Asked<Rule, Reply>
where
    Rule: FnOnce(&State) -> (Vec<Event>, Reply) + Send,
    Reply: Send,
{
    fn decide(&mut self, state: &State) -> Vec<Event> {
        let rule = self.rule.take().expect("a command is decided once");
        let (events, reply) = rule(state);
        self.decided = Some(reply);
        events
    }

    fn finish(self: Box<Self>, outcome: Result<(), SubmitError>) {
        let Asked { decided, reply, .. } = *self;
        let answer = outcome.map(|()| decided.expect("decided before it is finished"));
        // The asker may have gone; what was decided stays.
        let _ = reply.send(answer);
    }
}

/// A rule that can refuse, as one that answers either way.
fn either<Reply, Refusal>(
    decided: Result<(Vec<Event>, Reply), Refusal>,
) -> (Vec<Event>, Result<Reply, Refusal>) {
    match decided {
        Ok((events, reply)) => (events, Ok(reply)),
        Err(refusal) => (Vec::new(), Err(refusal)),
    }
}

impl Controller {
    /// Opens the metadata under `path` and becomes its only writer: the former one is fenced.
    pub async fn open(
        object_store: Arc<dyn ObjectStore>,
        path: &str,
        cluster_id: String,
        options: &StoreOptions,
        environment: &Environment,
    ) -> Result<Controller, OpenError> {
        let environment = environment.child("controller");
        let (store, state) = Store::open(object_store, path, options, &environment).await?;
        let store = Arc::new(store);
        let view = View::new(cluster_id, state.clone());
        let (queue, jobs) = mpsc::channel(QUEUE_COMMANDS_MAX);
        let vitals = Arc::new(Vitals::new(Arc::clone(&environment.clock)));
        let dropping = Arc::new(Notify::new());
        let worker = Worker {
            working: state,
            store: Arc::clone(&store),
            view: view.clone(),
            environment: environment.clone(),
            dropping: Arc::clone(&dropping),
            vitals: Arc::clone(&vitals),
            log_commits: 0,
            shortening: None,
        };
        let stop = environment.tasks.token();
        environment.tasks.spawn(TaskKind::Critical, "controller", worker.run(jobs, stop.clone()));
        let controller = Controller { queue, store, view, environment, dropping, vitals };
        let dropper = controller.clone();
        controller.environment.tasks.spawn(
            TaskKind::Background,
            "topic-dropper",
            dropper.drop_deleted_topics(stop.clone()),
        );
        let guard = controller.clone().keep_open(stop);
        controller.environment.tasks.spawn(TaskKind::Background, "metadata-guard", guard);
        controller.dropping.notify_one(); // What a former controller left unfinished.
        Ok(controller)
    }

    pub fn view(&self) -> View {
        self.view.clone()
    }

    /// The time that garbage is stamped with, and by which it grows old. It never goes back, whatever
    /// the machine's clock does, and follows a step of it only slowly.
    pub fn time(&self) -> Timestamp {
        self.store.time()
    }

    /// Whether changes get through now, and since when not.
    pub fn health(&self) -> ControllerHealth {
        self.vitals.health()
    }

    /// How far the log of the metadata is. `None` once another process writes it: what is known here is old then.
    pub fn log_position(&self) -> Option<LogPosition> {
        match self.health() {
            ControllerHealth::Fenced { .. } => None,
            ControllerHealth::Healthy | ControllerHealth::Failing { .. } => {
                Some(self.store.log_position())
            }
        }
    }

    /// Stops when another process has opened the metadata: from then on this controller changes
    /// nothing and answers [`SubmitError::Fenced`]. While nothing changes, it is noticed within
    /// [`StoreOptions::manifest_poll_interval`].
    pub fn fenced(&self) -> StopToken {
        self.vitals.fenced_token()
    }

    /// A new epoch for this broker and the partitions it leads.
    pub async fn register_broker(
        &self,
        command: RegisterBroker,
    ) -> Result<BrokerEpoch, SubmitError> {
        self.submit(move |state| decide::register_broker(state, &command)).await
    }

    /// # Errors
    /// The outer result: not decided. The inner one: refused, nothing changed.
    pub async fn create_topic(
        &self,
        name: &str,
        partitions: u32,
        configs: BTreeMap<String, String>,
    ) -> Result<Result<Arc<Topic>, CreateTopicError>, SubmitError> {
        let (id, name) = (self.new_topic_id(), name.to_owned());
        self.submit(move |state| {
            either(decide::create_topic(state, id, &name, partitions, &configs))
        })
        .await
    }

    /// What [`Controller::create_topic`] would answer now, without creating anything.
    pub fn check_create_topic(
        &self,
        name: &str,
        partitions: u32,
    ) -> Result<Arc<Topic>, CreateTopicError> {
        let id = TopicId::ZERO;
        let decided = self.view.with_state(|state| {
            decide::create_topic(state, id, name, partitions, &BTreeMap::new())
        });
        decided.map(|(_, topic)| topic)
    }

    /// Gone for clients when it returns; its runs and objects go in the background.
    pub async fn delete_topic(&self, id: TopicId) -> Result<Result<(), UnknownTopic>, SubmitError> {
        self.submit(move |state| either(decide::delete_topic(state, id))).await
    }

    pub async fn create_partitions(
        &self,
        name: &str,
        count: u32,
    ) -> Result<Result<Arc<Topic>, CreatePartitionsError>, SubmitError> {
        let name = name.to_owned();
        self.submit(move |state| either(decide::create_partitions(state, &name, count))).await
    }

    /// What [`Controller::create_partitions`] would answer now, without changing anything.
    pub fn check_create_partitions(
        &self,
        name: &str,
        count: u32,
    ) -> Result<Arc<Topic>, CreatePartitionsError> {
        let decided = self.view.with_state(|state| decide::create_partitions(state, name, count));
        decided.map(|(_, topic)| topic)
    }

    /// Sets, or with `None` removes, configs of a topic.
    pub async fn alter_topic_configs(
        &self,
        name: &str,
        changes: BTreeMap<String, Option<String>>,
    ) -> Result<Result<(), UnknownTopic>, SubmitError> {
        let name = name.to_owned();
        self.submit(move |state| either(decide::alter_topic_configs(state, &name, &changes))).await
    }

    /// Sets, or with `None` removes, dynamic configs of one broker or, with `None`, of all.
    pub async fn alter_broker_configs(
        &self,
        broker: Option<BrokerId>,
        changes: BTreeMap<String, Option<String>>,
    ) -> Result<(), SubmitError> {
        self.submit(move |state| (decide::alter_broker_configs(state, broker, &changes), ())).await
    }

    /// Sets, or with `None` removes, configs of a group.
    pub async fn alter_group_configs(
        &self,
        group: &str,
        changes: BTreeMap<String, Option<String>>,
    ) -> Result<Result<(), GroupConfigsError>, SubmitError> {
        let group = group.to_owned();
        self.submit(move |state| either(decide::alter_group_configs(state, &group, &changes))).await
    }

    /// Creates ACLs, each by itself. One that is there already is created, too. They are in effect for
    /// readers of the view when it returns.
    pub async fn create_acls(
        &self,
        acls: Vec<Acl>,
    ) -> Result<Vec<Result<(), AclError>>, SubmitError> {
        self.submit(move |state| decide::create_acls(state, acls)).await
    }

    /// Deletes what the filters pick, and tells for each which those were.
    pub async fn delete_acls(
        &self,
        filters: Vec<AclFilter>,
    ) -> Result<Vec<Vec<Arc<Acl>>>, SubmitError> {
        self.submit(move |state| decide::delete_acls(state, &filters)).await
    }

    /// A block of producer ids that nobody else gets.
    pub async fn allocate_producer_ids(&self, count: u32) -> Result<Range<i64>, SubmitError> {
        self.submit(move |state| decide::allocate_producer_ids(state, count)).await
    }

    /// Stops the task and closes the store. What was answered is durable either way.
    pub async fn close(&self) {
        let unfinished = self.environment.tasks.shutdown(CLOSE_MAX).await;
        if !unfinished.is_empty() {
            tracing::warn!(?unfinished, "controller tasks still running at the deadline");
        }
        let closed = tokio::select! {
            biased;
            closed = self.store.close() => closed,
            () = self.environment.clock.sleep(CLOSE_MAX) => {
                Err(StoreError::Unavailable("no answer while closing".into()))
            }
        };
        if let Err(error) = closed {
            tracing::warn!(%error, "metadata store not closed cleanly; nothing durable is lost");
        }
    }

    async fn submit<Reply, Rule>(&self, rule: Rule) -> Result<Reply, SubmitError>
    where
        Rule: FnOnce(&State) -> (Vec<Event>, Reply) + Send + 'static,
        Reply: Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job = Box::new(Asked { rule: Some(rule), decided: None, reply });
        self.queue.send(job).await.map_err(|_| SubmitError::Stopping)?;
        answer.await.unwrap_or(Err(SubmitError::Stopping))
    }

    /// What a failed read means. Who has been fenced is so for good; the store itself cannot know (ADR
    /// metadata-on-slatedb).
    fn unread(&self, error: &StoreError) -> SubmitError {
        match self.vitals.health() {
            ControllerHealth::Fenced { .. } => SubmitError::Fenced,
            ControllerHealth::Healthy | ControllerHealth::Failing { .. } => {
                SubmitError::Unavailable(error.to_string())
            }
        }
    }

    fn new_topic_id(&self) -> TopicId {
        loop {
            let mut id = [0; 16];
            self.environment.entropy.fill(&mut id);
            // Kafka reserves ids that print with a leading dash, and the first hundred numbers.
            let printed = TopicId(id).to_string();
            if !printed.starts_with('-') && u128::from_be_bytes(id) > 100 {
                return TopicId(id);
            }
        }
    }

    /// Opens the database anew when it has ended itself while nobody changes anything: readers need
    /// it too.
    async fn keep_open(self, stop: StopToken) {
        let mut wait = RETRY_FIRST;
        loop {
            let since = self.environment.clock.now();
            tokio::select! {
                biased;
                () = stop.stopped() => return,
                () = self.store.ended() => (),
            }
            if since.plus(RETRY_MAX) < self.environment.clock.now() {
                wait = RETRY_FIRST; // It had been open for a while.
            }
            self.vitals.database_closed(None);
            match self.store.revive().await {
                Ok(()) => self.vitals.database_opened(),
                Err(StoreError::Fenced) => {
                    tracing::error!(
                        "another process, or an unfinished opening of our own, has opened the metadata: \
                         this one is fenced"
                    );
                    return self.vitals.is_fenced();
                }
                Err(error) => {
                    tracing::warn!(%error, "the metadata cannot be opened anew yet; trying again");
                    self.vitals.database_closed(Some(&error));
                }
            }
            tokio::select! {
                biased;
                () = stop.stopped() => return,
                () = self.environment.clock.sleep(wait) => wait = (2 * wait).min(RETRY_MAX),
            }
        }
    }

    /// Drops the runs of deleted topics, a bounded number at a time, between other commands.
    async fn drop_deleted_topics(self, stop: StopToken) {
        let mut wait = RETRY_FIRST;
        loop {
            let Some(topic) = self.view.dropping() else {
                tokio::select! {
                    () = self.dropping.notified() => continue,
                    () = stop.stopped() => return,
                }
            };
            match self.drop_topic(topic).await {
                Ok(()) => wait = RETRY_FIRST,
                Err(SubmitError::Fenced | SubmitError::Stopping) => return,
                Err(error @ SubmitError::Unavailable(_)) => {
                    tracing::warn!(%topic, %error, "dropping a deleted topic is delayed");
                    tokio::select! {
                        () = self.environment.clock.sleep(wait) => (),
                        () = stop.stopped() => return,
                    }
                    wait = (2 * wait).min(RETRY_MAX);
                }
            }
        }
    }

    async fn drop_topic(&self, topic: TopicId) -> Result<(), SubmitError> {
        loop {
            let runs = self.store.runs_of_topic(topic, DROP_RUNS_MAX).await;
            let runs = runs.map_err(|error| self.unread(&error))?;
            let is_last = runs.len() < DROP_RUNS_MAX;
            self.submit_drop(topic, runs, is_last).await?;
            if is_last {
                return Ok(());
            }
        }
    }

    async fn submit_drop(
        &self,
        topic: TopicId,
        runs: Vec<Run>,
        is_last: bool,
    ) -> Result<(), SubmitError> {
        let now = self.time();
        self.submit(move |state| (decide::drop_runs(topic, state, &runs, is_last, now), ())).await
    }
}

/// The task's own half.
struct Worker {
    working: State,
    store: Arc<Store>,
    view: View,
    environment: Environment,
    /// Told of deleted topics here, and not by who asked for it: they may have stopped waiting (A7).
    dropping: Arc<Notify>,
    vitals: Arc<Vitals>,
    /// Commits since the log was shortened last.
    log_commits: u32,
    shortening: Option<TaskHandle<()>>,
}

impl Worker {
    async fn run(mut self, mut jobs: mpsc::Receiver<Box<dyn Job>>, stop: StopToken) {
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                biased;
                // What is queued is still done; nothing new is let in.
                () = stop.stopped(), if !jobs.is_closed() => jobs.close(),
                count = jobs.recv_many(&mut batch, BATCH_COMMANDS_MAX) => {
                    if count == 0 {
                        return;
                    }
                }
            }
            let outcome = self.turn(&mut batch, &stop).await;
            for job in batch.drain(..) {
                job.finish(outcome.clone());
            }
            if let Err(error) = outcome {
                tracing::error!(%error, "the controller ends: produce and fetch go on, metadata stays");
                return refuse_the_rest(jobs, error, &stop).await;
            }
        }
    }

    async fn turn(
        &mut self,
        batch: &mut [Box<dyn Job>],
        stop: &StopToken,
    ) -> Result<(), SubmitError> {
        let mut events = Vec::new();
        for job in batch {
            let decided = job.decide(&self.working);
            for event in &decided {
                apply(&mut self.working, event);
            }
            events.extend(decided);
        }
        if events.is_empty() {
            return Ok(());
        }
        let given_up = async {
            stop.stopped().await;
            self.environment.clock.sleep(LAST_COMMIT_MAX).await;
        };
        tokio::select! {
            biased;
            committed = self.commit(&events) => committed?,
            () = given_up => return Err(SubmitError::Stopping),
        }
        self.view.publish(&events);
        if events.iter().any(|it| matches!(it, Event::TopicDeleted { .. })) {
            self.dropping.notify_one();
        }
        self.shorten_log();
        Ok(())
    }

    /// Beside the commits, which do not wait for it; one at a time.
    fn shorten_log(&mut self) {
        self.log_commits += 1;
        let is_busy = self.shortening.as_ref().is_some_and(|it| !it.is_finished());
        if self.log_commits < LOG_COMMITS_MAX || is_busy {
            return;
        }
        self.log_commits = 0;
        let store = Arc::clone(&self.store);
        let shortened = async move {
            if let Err(error) = store.shorten_log().await {
                tracing::debug!(%error, "the metadata log stays long; restarts take longer");
            }
        };
        let tasks = &self.environment.tasks;
        self.shortening = Some(tasks.spawn(TaskKind::Background, "metadata-log", shortened));
    }

    /// Returns when the events are durable, or can never be.
    async fn commit(&self, events: &[Event]) -> Result<(), SubmitError> {
        let mut wait = RETRY_FIRST;
        self.vitals.commit_begins();
        loop {
            match self.store.commit(&self.working, events).await {
                Ok(()) => {
                    self.vitals.is_well();
                    return Ok(());
                }
                Err(StoreError::Fenced) => {
                    self.vitals.is_fenced();
                    return Err(SubmitError::Fenced);
                }
                Err(error) => {
                    tracing::warn!(%error, "metadata commit failed; trying again with the same batch");
                    self.vitals.is_failing(&error);
                }
            }
            self.environment.clock.sleep(wait).await;
            wait = (2 * wait).min(RETRY_MAX);
        }
    }
}

/// Everything that is asked from now on gets the same answer.
async fn refuse_the_rest(
    mut jobs: mpsc::Receiver<Box<dyn Job>>,
    error: SubmitError,
    stop: &StopToken,
) {
    loop {
        tokio::select! {
            biased;
            () = stop.stopped(), if !jobs.is_closed() => jobs.close(),
            job = jobs.recv() => match job {
                Some(job) => job.finish(Err(error.clone())),
                None => return,
            }
        }
    }
}
