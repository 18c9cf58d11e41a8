//! The task that owns one shard: it alone runs the shard's steps, appends what they decide and
//! hands out their answers.
//!
//! Owns: the shard, its tickets, when it is counted. Does not own: the rules (`coordinator`), what is on its way into
//! the log (`journal`).
//!
//! When an append fails nothing decided since is to be trusted: everybody who waits is refused with a code that
//! clients retry on, and the shard is loaded again from the log.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use coordinator::format::{self, FormatError};
use coordinator::transactions::TransactionVersion;
use coordinator::{
    After, Answer, Catalogue, Command, Event, GroupOptions, Input, Outputs, Reply, Shard, Ticket,
    TransactionEnd,
};
use partition_log::AppendError;
use protocol::ErrorCode;
use tokio::sync::{mpsc, oneshot};
use vocabulary::{Partition, Tick};

use crate::broker::Broker;
use crate::groups::metrics::Counted;
use crate::journal::{self, Entry, Journal, Loaded};

/// Requests taken in one turn: what they decide shares batches.
const REQUESTS_PER_TURN_MAX: usize = 256;

/// After a step the groups are counted within this, however many steps there are: counting visits them all.
const CENSUS_PAUSE: Duration = Duration::from_secs(5);

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
    async fn load(&mut self) -> Option<(Loaded<Shard>, Vec<String>)> {
        let broker = Arc::clone(&self.broker);
        let clock = &broker.environment.clock;
        let started = clock.now();
        let (options, catalogue) = (self.options.clone(), Arc::clone(&self.catalogue));
        let empty = move || Shard::new(options.clone(), Arc::clone(&catalogue));
        let loading = journal::load(&broker, self.partition, &empty, apply);
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
    Progress(Result<Vec<Ready>, AppendError>),
    Told(Option<ToOwner>),
    Time,
}

struct Serving<'a> {
    broker: &'a Broker,
    shard: Shard,
    outputs: Outputs,
    counted: Counted,
    /// Something has happened since the groups were counted.
    census_at: Option<Tick>,
    asked: HashMap<Ticket, Asker>,
    tickets: u64,
    journal: Journal<Ready>,
}

impl<'a> Serving<'a> {
    fn new(broker: &'a Broker, loaded: Loaded<Shard>) -> Serving<'a> {
        let Loaded { state: mut shard, log, leader_epoch } = loaded;
        let mut outputs = Outputs::default();
        shard.start(journal::now(broker), &mut outputs);
        let counted = Counted::new(broker.groups.metrics.clone(), shard.census());
        let mut serving = Serving {
            broker,
            counted,
            census_at: None,
            shard,
            outputs,
            asked: HashMap::new(),
            tickets: 0,
            journal: Journal::new(log, leader_epoch),
        };
        serving.hand_out();
        serving
    }

    async fn run(mut self, queue: &mut mpsc::Receiver<ToOwner>) -> Ended {
        loop {
            self.journal.begin_append(self.broker.environment.clock.wall());
            match self.next(queue).await {
                News::Stop | News::Told(None) => {
                    // Requests in the queue are served, no new ones are taken; whoever waits for a
                    // rebalance finds out from the closed connection.
                    self.journal.drain(&*self.broker.environment.clock, send).await;
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
                News::Progress(Ok(ready)) => ready.into_iter().for_each(send),
                News::Progress(Err(error)) => {
                    self.fail(&error);
                    return Ended::Failed;
                }
            }
        }
    }

    /// Waits for the next thing to happen. Our order: what frees answers first, then requests, then
    /// time, so that a heartbeat in the queue is heard before its session is ended.
    async fn next(&mut self, queue: &mut mpsc::Receiver<ToOwner>) -> News {
        let has_room = !self.journal.is_full();
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
            moved = self.journal.progress() => News::Progress(moved),
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
        let now = journal::now(self.broker);
        self.shard.step(now, input, &mut self.outputs);
        self.census_at.get_or_insert(now.tick.plus(CENSUS_PAUSE));
        self.hand_out();
    }

    fn hand_out(&mut self) {
        self.broker.groups.metrics.count(std::mem::take(&mut self.outputs.tally));
        for unit in self.outputs.units.drain(..) {
            self.journal.decide(format::store(&unit));
        }
        for Answer { ticket, reply, after } in self.outputs.answers.drain(..) {
            let asker = self.asked.remove(&ticket).expect("a ticket is answered once");
            let ready = match after {
                After::Now => Some((asker, reply)),
                After::Commit => self.journal.hold((asker, reply)),
            };
            ready.into_iter().for_each(send);
        }
    }

    fn fail(self, error: &AppendError) {
        let partition = self.journal.log().partition();
        tracing::warn!(%partition, %error, "group state not stored, loading it again");
        let code = journal::refusal(error);
        let askers = self.journal.abandon().map(|(asker, _)| asker);
        for asker in askers.chain(self.asked.into_values()) {
            let _ = asker.send(Err(code)); // Whoever has gone needs no answer.
        }
    }
}

/// Whoever has gone needs no answer.
fn send((asker, reply): Ready) {
    let _ = asker.send(Ok(reply));
}

fn apply(shard: &mut Shard, entry: Entry) -> Result<(), FormatError> {
    let event = match entry {
        Entry::Record(None, it) => format::decode(it.key.as_deref(), it.value.as_deref())?,
        Entry::Record(Some(producer), it) => {
            format::decode_in_transaction(producer, it.key.as_deref(), it.value.as_deref())?
        }
        Entry::Marker(producer, epoch, marker) => {
            // How the end came about is of no interest any more.
            let version = TransactionVersion::V1;
            Some(Event::TransactionEnded(TransactionEnd { producer, epoch, marker, version }))
        }
    };
    // `None` is of a kind of group that is not served here.
    event.into_iter().for_each(|it| shard.apply(it));
    Ok(())
}
