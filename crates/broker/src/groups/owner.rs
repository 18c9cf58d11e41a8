//! The task that owns one shard: it alone runs the shard's steps, appends what they decide and
//! hands out their answers.
//!
//! Owns: the shard, its tickets, the appends in flight, when it is counted. Does not own: the rules (`coordinator`).
//!
//! Many appends are in flight at once, and requests are served meanwhile: a step sees what earlier
//! steps decided, but its answer waits until that is durable (A1, see `backlog`). When an append
//! fails nothing decided since is to be trusted: everybody who waits is refused with a code that
//! clients retry on, and the shard is loaded again from the log.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use coordinator::{
    After, Answer, Catalogue, Command, GroupOptions, Input, Outputs, Reply, Shard, Ticket,
};
use futures::StreamExt;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::FuturesOrdered;
use partition_log::{AppendError, Appended, PartitionLog};
use protocol::ErrorCode;
use tokio::sync::{mpsc, oneshot};
use vocabulary::{LeaderEpoch, Partition, Tick};

use crate::broker::Broker;
use crate::groups::backlog::Backlog;
use crate::groups::loading::{self, Loaded};
use crate::groups::metrics::Counted;

/// Appends handed to the log and not durable. Larger: more overlap, more to redo after a failure.
const APPENDS_IN_FLIGHT_MAX: usize = 16;

/// Requests taken in one turn: what they decide shares batches.
const REQUESTS_PER_TURN_MAX: usize = 256;

/// After a step the groups are counted within this, however many steps there are: counting visits them all.
const CENSUS_PAUSE: Duration = Duration::from_secs(5);

/// How long stopping waits for what is decided to become durable.
const DRAIN_MAX: Duration = Duration::from_secs(2);

/// What an owner is told.
#[derive(Debug)]
pub(super) enum ToOwner {
    Ask {
        command: Command,
        reply: Asker,
    },
    TopicChanged {
        name: String,
    },
    TopicDeleted {
        name: String,
    },
    /// News were missed: look which topics are still there.
    CompareTopics,
}

type Asker = oneshot::Sender<Result<Reply, ErrorCode>>;

pub(super) struct Owner {
    broker: Arc<Broker>,
    partition: Partition,
    options: GroupOptions,
    catalogue: Arc<dyn Catalogue>,
    queue: mpsc::Receiver<ToOwner>,
}

/// Why a shard is not served any longer.
enum Ended {
    Stopped,
    /// Load it again, if this broker still leads the partition.
    Failed,
}

impl Owner {
    pub(super) fn new(
        broker: &Arc<Broker>,
        partition: Partition,
        options: GroupOptions,
        catalogue: Arc<dyn Catalogue>,
        queue: mpsc::Receiver<ToOwner>,
    ) -> Owner {
        Owner { broker: Arc::clone(broker), partition, options, catalogue, queue }
    }

    pub(super) async fn run(mut self) {
        loop {
            let Some((loaded, deleted)) = self.load().await else { return };
            let mut serving = Serving::new(&self.broker, loaded);
            serving.compare_topics();
            for topic in deleted {
                serving.step(Input::TopicDeleted { topic });
            }
            match serving.run(&mut self.queue).await {
                Ended::Stopped => return,
                Ended::Failed => (),
            }
        }
    }

    /// Loads the shard while whoever asks is told so; with the topics deleted meanwhile.
    async fn load(&mut self) -> Option<(Loaded, Vec<String>)> {
        let broker = Arc::clone(&self.broker);
        let clock = &broker.environment.clock;
        let started = clock.now();
        let (options, catalogue) = (self.options.clone(), Arc::clone(&self.catalogue));
        let empty = move || Shard::new(options.clone(), Arc::clone(&catalogue));
        let loading = loading::load(&broker, self.partition, &empty);
        tokio::pin!(loading);
        let mut deleted = Vec::new();
        loop {
            tokio::select! {
                biased;
                () = broker.stop.stopped() => return None,
                loaded = &mut loading => {
                    let loaded = loaded?;
                    broker.groups.metrics.loaded(clock.now().since(started));
                    return Some((loaded, deleted));
                }
                asked = self.queue.recv() => match asked? {
                    ToOwner::Ask { reply, .. } => {
                        // Whoever has gone needs no answer.
                        let _ = reply.send(Err(ErrorCode::CoordinatorLoadInProgress));
                    }
                    ToOwner::TopicDeleted { name } => deleted.push(name),
                    // Done after every load.
                    ToOwner::TopicChanged { .. } | ToOwner::CompareTopics => (),
                },
            }
        }
    }
}

/// An answer and whom to give it to.
type Ready = (Asker, Reply);

/// What happened.
enum News {
    Stop,
    Durable(u64, Result<(), AppendError>),
    Appended(u64, Result<Appended, AppendError>),
    Told(Option<ToOwner>),
    Time,
}

/// An append on its way into the log, with the last unit in it.
type Appending = BoxFuture<'static, (u64, Result<Appended, AppendError>)>;
type Durability = BoxFuture<'static, (u64, Result<(), AppendError>)>;

struct Serving<'a> {
    broker: &'a Broker,
    log: Arc<PartitionLog>,
    leader_epoch: LeaderEpoch,
    shard: Shard,
    outputs: Outputs,
    counted: Counted,
    /// Something has happened since the groups were counted.
    census_at: Option<Tick>,
    asked: HashMap<Ticket, Asker>,
    tickets: u64,
    backlog: Backlog<Ready>,
    /// One at a time: the log gives offsets in the order of the calls.
    appending: Option<Appending>,
    in_flight: FuturesOrdered<Durability>,
}

impl<'a> Serving<'a> {
    fn new(broker: &'a Broker, loaded: Loaded) -> Serving<'a> {
        let Loaded { shard, log, leader_epoch, outputs } = loaded;
        let counted = Counted::new(broker.groups.metrics.clone(), shard.census());
        let mut serving = Serving {
            broker,
            counted,
            census_at: None,
            log,
            leader_epoch,
            shard,
            outputs,
            asked: HashMap::new(),
            tickets: 0,
            backlog: Backlog::new(),
            appending: None,
            in_flight: FuturesOrdered::new(),
        };
        serving.hand_out();
        serving
    }

    async fn run(mut self, queue: &mut mpsc::Receiver<ToOwner>) -> Ended {
        loop {
            self.begin_append();
            match self.next(queue).await {
                News::Stop | News::Told(None) => {
                    self.drain().await;
                    return Ended::Stopped;
                }
                News::Told(Some(first)) => {
                    self.told(first);
                    for _ in 1..REQUESTS_PER_TURN_MAX {
                        let Ok(next) = queue.try_recv() else { break };
                        self.told(next);
                    }
                    // Whoever proved to be alive has been heard; now those who did not.
                    self.time_passed();
                }
                News::Time => self.time_passed(),
                News::Appended(unit, Ok(appended)) => self.appended(unit, appended),
                News::Durable(unit, Ok(())) => self.durable(unit),
                News::Appended(_, Err(error)) | News::Durable(_, Err(error)) => {
                    self.fail(&error);
                    return Ended::Failed;
                }
            }
        }
    }

    /// Waits for the next thing to happen. Our order: what frees answers first, then requests, then
    /// time, so that a heartbeat in the queue is heard before its session is ended.
    async fn next(&mut self, queue: &mut mpsc::Receiver<ToOwner>) -> News {
        let has_room = !self.backlog.is_full();
        let wake_at = self.shard.wake_at().filter(|_| has_room);
        let wake_at = wake_at.into_iter().chain(self.census_at).min();
        let clock = &self.broker.environment.clock;
        let wake = async {
            match wake_at {
                Some(at) => clock.sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.broker.stop.stopped() => News::Stop,
            Some((unit, durable)) = self.in_flight.next(), if !self.in_flight.is_empty() => {
                News::Durable(unit, durable)
            }
            (unit, appended) = running(&mut self.appending) => News::Appended(unit, appended),
            told = queue.recv(), if has_room => News::Told(told),
            () = wake => News::Time,
        }
    }

    fn told(&mut self, told: ToOwner) {
        match told {
            ToOwner::Ask { command, reply } => {
                self.tickets += 1;
                let ticket = Ticket(self.tickets);
                self.asked.insert(ticket, reply);
                self.step(Input::Request { ticket, command });
            }
            ToOwner::TopicChanged { name } => self.step(Input::TopicChanged { topic: name }),
            ToOwner::TopicDeleted { name } => self.step(Input::TopicDeleted { topic: name }),
            ToOwner::CompareTopics => self.compare_topics(),
        }
    }

    fn time_passed(&mut self) {
        let now = self.broker.environment.clock.now();
        if self.shard.wake_at().is_some_and(|at: Tick| at <= now) {
            self.step(Input::TimePassed);
        }
        if self.census_at.is_some_and(|at| at <= now) {
            self.census_at = None;
            self.counted.set(self.shard.census());
        }
    }

    /// Forgets the offsets of topics that went while nobody looked.
    fn compare_topics(&mut self) {
        let view = &self.broker.view;
        let gone = self.shard.topics().filter(|it| view.topic(it).is_none());
        let gone: Vec<String> = gone.map(str::to_owned).collect();
        for topic in gone {
            self.step(Input::TopicDeleted { topic });
        }
        self.step(Input::TopicsMissed);
    }

    fn step(&mut self, input: Input) {
        let now = loading::now(self.broker);
        self.shard.step(now, input, &mut self.outputs);
        self.census_at.get_or_insert(now.tick.plus(CENSUS_PAUSE));
        self.hand_out();
    }

    fn hand_out(&mut self) {
        self.broker.groups.metrics.count(std::mem::take(&mut self.outputs.tally));
        for unit in self.outputs.units.drain(..) {
            self.backlog.decide(&unit);
        }
        for Answer { ticket, reply, after } in self.outputs.answers.drain(..) {
            let asker = self.asked.remove(&ticket).expect("a ticket is answered once");
            let ready = match after {
                After::Now => Some((asker, reply)),
                After::Commit => self.backlog.hold((asker, reply)),
            };
            ready.into_iter().for_each(send);
        }
    }

    fn begin_append(&mut self) {
        if self.appending.is_some() || APPENDS_IN_FLIGHT_MAX <= self.in_flight.len() {
            return;
        }
        let wall = self.broker.environment.clock.wall();
        let Some((batch, unit)) = self.backlog.next_batch(wall) else { return };
        let (log, epoch) = (Arc::clone(&self.log), self.leader_epoch);
        let append = async move { (unit, log.append(batch, Some(epoch)).await) };
        self.appending = Some(append.boxed());
    }

    fn appended(&mut self, unit: u64, appended: Appended) {
        self.appending = None;
        let durable = appended.durable;
        self.in_flight.push_back(async move { (unit, durable.await) }.boxed());
    }

    fn durable(&mut self, unit: u64) {
        self.backlog.durable(unit).for_each(send);
    }

    /// Requests in the queue are served, no new ones are taken; whoever waits for a rebalance finds
    /// out from the closed connection.
    async fn drain(&mut self) {
        let clock = Arc::clone(&self.broker.environment.clock);
        let give_up = clock.sleep(DRAIN_MAX);
        tokio::pin!(give_up);
        while !self.backlog.is_durable() {
            self.begin_append();
            let outcome = tokio::select! {
                biased;
                Some((unit, durable)) = self.in_flight.next(), if !self.in_flight.is_empty() => {
                    durable.map(|()| self.durable(unit))
                }
                (unit, appended) = running(&mut self.appending) => {
                    appended.map(|appended| self.appended(unit, appended))
                }
                () = &mut give_up => return,
            };
            if outcome.is_err() {
                return; // The log is stopping, too: a dropped answer reads as "not here any more".
            }
        }
    }

    fn fail(self, error: &AppendError) {
        let partition = self.log.partition();
        tracing::warn!(%partition, %error, "group state not stored, loading it again");
        let code = refusal(error);
        let askers = self.backlog.abandon().map(|(asker, _)| asker);
        for asker in askers.chain(self.asked.into_values()) {
            let _ = asker.send(Err(code)); // Whoever has gone needs no answer.
        }
    }
}

/// Whoever has gone needs no answer.
fn send((asker, reply): Ready) {
    let _ = asker.send(Ok(reply));
}

async fn running(appending: &mut Option<Appending>) -> (u64, Result<Appended, AppendError>) {
    match appending {
        Some(append) => append.await,
        None => std::future::pending().await,
    }
}

/// As Kafka maps errors of the log for group members.
fn refusal(error: &AppendError) -> ErrorCode {
    match error {
        AppendError::Removed | AppendError::Stopping | AppendError::WrongLeaderEpoch { .. } => {
            ErrorCode::NotCoordinator
        }
        AppendError::Unavailable
        | AppendError::Unknown
        | AppendError::OutOfOrderSequence { .. }
        | AppendError::StaleProducerEpoch { .. }
        | AppendError::InvalidTxnState { .. }
        | AppendError::StaleCoordinatorEpoch { .. } => ErrorCode::CoordinatorNotAvailable,
    }
}
