//! The task that owns one shard of transactional ids: it alone runs the shard's steps, has what they decide appended,
//! hands out their answers and carries out their orders.
//!
//! Owns: the shard, its tickets, the orders under way, when it is counted. Does not own: the rules (`coordinator`),
//! what is on its way into the log (`journal`), how markers are written (`markers`).
//!
//! When an append fails nothing decided since is to be trusted: everybody who waits is refused with a code that
//! clients retry on, and the shard is loaded again from the log. Orders under way are dropped then, and given again by
//! the shard that was loaded.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use coordinator::transactions::format::{self, TransactionFormatError};
use coordinator::transactions::{
    MarkersOrder, TransactionCommand, TransactionInput, TransactionOptions, TransactionOutputs,
    TransactionReply, TransactionShard,
};
use coordinator::{After, Answer, Ticket};
use futures::StreamExt;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::FuturesUnordered;
use partition_log::AppendError;
use protocol::ErrorCode;
use tokio::sync::{mpsc, oneshot};
use vocabulary::{LeaderEpoch, Partition, Tick};

use crate::broker::Broker;
use crate::journal::{self, Entry, Journal, Loaded};
use crate::transactions::markers;
use crate::transactions::metrics::Counted;

/// Requests taken in one turn: what they decide shares batches.
const REQUESTS_PER_TURN_MAX: usize = 256;

/// Transactions whose markers are being written at once. Larger: more overlap after a start.
const ORDERS_UNDER_WAY_MAX: usize = 256;

/// After a step the ids are counted within this, however many steps there are: counting visits them all.
const CENSUS_PAUSE: Duration = Duration::from_secs(5);

/// What an owner is asked.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) command: TransactionCommand,
    pub(super) reply: Asker,
}

type Asker = oneshot::Sender<Result<TransactionReply, ErrorCode>>;

pub(super) struct Owner {
    broker: Arc<Broker>,
    partition: Partition,
    options: TransactionOptions,
    queue: mpsc::Receiver<Asked>,
}

impl Owner {
    pub(super) fn new(
        broker: &Arc<Broker>,
        partition: Partition,
        options: TransactionOptions,
        queue: mpsc::Receiver<Asked>,
    ) -> Owner {
        Owner { broker: Arc::clone(broker), partition, options, queue }
    }

    pub(super) async fn run(mut self) {
        while let Some(loaded) = self.load().await {
            match Serving::new(&self.broker, loaded).run(&mut self.queue).await {
                Ended::Stopped => return,
                Ended::Failed => (),
            }
        }
    }

    /// Loads the shard while whoever asks is told so.
    async fn load(&mut self) -> Option<Loaded<TransactionShard>> {
        let broker = Arc::clone(&self.broker);
        let clock = &broker.environment.clock;
        let started = clock.now();
        let options = self.options.clone();
        let empty = move || TransactionShard::new(options.clone());
        let loading = journal::load(&broker, self.partition, &empty, apply);
        tokio::pin!(loading);
        loop {
            tokio::select! {
                biased;
                () = broker.stop.stopped() => return None,
                loaded = &mut loading => {
                    broker.transactions.metrics.loaded(clock.now().since(started));
                    return loaded;
                }
                asked = self.queue.recv() => {
                    // Whoever has gone needs no answer.
                    let _ = asked?.reply.send(Err(ErrorCode::CoordinatorLoadInProgress));
                }
            }
        }
    }
}

fn apply(shard: &mut TransactionShard, entry: Entry) -> Result<(), TransactionFormatError> {
    if let Entry::Record(_, record) = entry
        && let Some(event) = format::decode(record.key.as_deref(), record.value.as_deref())?
    {
        shard.apply(event);
    }
    Ok(())
}

/// Why a shard is not served any longer.
enum Ended {
    Stopped,
    /// Load it again, if this broker still leads the partition.
    Failed,
}

/// What waits until everything before it is durable.
enum Waiting {
    Answer(Asker, TransactionReply),
    Order(MarkersOrder),
}

/// What happened.
enum News {
    Stop,
    Progress(Result<Vec<Waiting>, AppendError>),
    CarriedOut(MarkersOrder),
    Asked(Option<Asked>),
    Time,
}

struct Serving<'a> {
    broker: &'a Arc<Broker>,
    leader_epoch: LeaderEpoch,
    shard: TransactionShard,
    outputs: TransactionOutputs,
    counted: Counted,
    /// Something has happened since the ids were counted.
    census_at: Option<Tick>,
    asked: HashMap<Ticket, Asker>,
    tickets: u64,
    journal: Journal<Waiting>,
    orders: VecDeque<MarkersOrder>,
    under_way: FuturesUnordered<BoxFuture<'static, MarkersOrder>>,
}

impl<'a> Serving<'a> {
    fn new(broker: &'a Arc<Broker>, loaded: Loaded<TransactionShard>) -> Serving<'a> {
        let Loaded { state: mut shard, log, leader_epoch } = loaded;
        let mut outputs = TransactionOutputs::default();
        shard.start(journal::now(broker), &mut outputs);
        let counted = Counted::new(broker.transactions.metrics.clone(), shard.census());
        let mut serving = Serving {
            broker,
            leader_epoch,
            shard,
            outputs,
            counted,
            census_at: None,
            asked: HashMap::new(),
            tickets: 0,
            journal: Journal::new(log, leader_epoch),
            orders: VecDeque::new(),
            under_way: FuturesUnordered::new(),
        };
        serving.hand_out();
        serving
    }

    async fn run(mut self, queue: &mut mpsc::Receiver<Asked>) -> Ended {
        loop {
            self.journal.begin_append(self.broker.environment.clock.wall());
            self.begin_orders();
            match self.next(queue).await {
                News::Stop | News::Asked(None) => {
                    // Orders are given again at the next start.
                    self.journal.drain(&*self.broker.environment.clock, answer).await;
                    return Ended::Stopped;
                }
                News::Asked(Some(first)) => {
                    self.ask(first);
                    for _ in 1..REQUESTS_PER_TURN_MAX {
                        let Ok(next) = queue.try_recv() else { break };
                        self.ask(next);
                    }
                    self.time_passed();
                }
                News::Time => self.time_passed(),
                News::CarriedOut(MarkersOrder { id, producer, epoch, .. }) => {
                    let command = TransactionCommand::MarkersWritten { id, producer, epoch };
                    self.request(command);
                }
                News::Progress(Ok(ready)) => ready.into_iter().for_each(|it| self.go(it)),
                News::Progress(Err(error)) => {
                    self.fail(&error);
                    return Ended::Failed;
                }
            }
        }
    }

    /// Waits for the next thing to happen: what frees answers first, then ends, requests and time.
    async fn next(&mut self, queue: &mut mpsc::Receiver<Asked>) -> News {
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
            Some(order) = self.under_way.next(), if has_room && !self.under_way.is_empty() => {
                News::CarriedOut(order)
            }
            asked = queue.recv(), if has_room => News::Asked(asked),
            () = wake => News::Time,
        }
    }

    fn ask(&mut self, Asked { command, reply }: Asked) {
        let ticket = self.request_ticket();
        self.asked.insert(ticket, reply);
        self.step(TransactionInput::Request { ticket, command });
    }

    /// A request of our own: nobody waits for the answer.
    fn request(&mut self, command: TransactionCommand) {
        let ticket = self.request_ticket();
        self.step(TransactionInput::Request { ticket, command });
    }

    fn request_ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    fn time_passed(&mut self) {
        let now = self.broker.environment.clock.now();
        if self.shard.wake_at().is_some_and(|at| at <= now) {
            self.step(TransactionInput::TimePassed);
        }
        if self.census_at.is_some_and(|at| at <= now) {
            self.census_at = None;
            self.counted.set(self.shard.census());
        }
    }

    fn step(&mut self, input: TransactionInput) {
        let now = journal::now(self.broker);
        self.shard.step(now, input, &mut self.outputs);
        self.census_at.get_or_insert(now.tick.plus(CENSUS_PAUSE));
        self.hand_out();
    }

    fn hand_out(&mut self) {
        self.broker.transactions.metrics.count(std::mem::take(&mut self.outputs.tally));
        for unit in std::mem::take(&mut self.outputs.units) {
            self.journal.decide(format::store(&unit));
        }
        let orders = std::mem::take(&mut self.outputs.orders).into_iter().map(Waiting::Order);
        let mut ready: Vec<Waiting> = orders.filter_map(|it| self.journal.hold(it)).collect();
        for Answer { ticket, reply, after } in std::mem::take(&mut self.outputs.answers) {
            let Some(asker) = self.asked.remove(&ticket) else { continue };
            let answer = Waiting::Answer(asker, reply);
            ready.extend(match after {
                After::Now => Some(answer),
                After::Commit => self.journal.hold(answer),
            });
        }
        ready.into_iter().for_each(|it| self.go(it));
    }

    fn go(&mut self, waiting: Waiting) {
        match waiting {
            Waiting::Answer(..) => answer(waiting),
            Waiting::Order(order) => self.orders.push_back(order),
        }
    }

    fn begin_orders(&mut self) {
        while self.under_way.len() < ORDERS_UNDER_WAY_MAX {
            let Some(order) = self.orders.pop_front() else { return };
            let broker = Arc::clone(self.broker);
            let epoch = self.leader_epoch;
            let carried_out = async move {
                markers::carry_out(&broker, &order, epoch).await;
                order
            };
            self.under_way.push(carried_out.boxed());
        }
    }

    fn fail(self, error: &AppendError) {
        let partition = self.journal.log().partition();
        tracing::warn!(%partition, %error, "transaction state not stored, loading it again");
        let code = journal::refusal(error);
        let waiting = self.journal.abandon().filter_map(|it| match it {
            Waiting::Answer(asker, _) => Some(asker),
            Waiting::Order(_) => None,
        });
        for asker in waiting.chain(self.asked.into_values()) {
            let _ = asker.send(Err(code)); // Whoever has gone needs no answer.
        }
    }
}

/// Whoever has gone needs no answer.
fn answer(waiting: Waiting) {
    if let Waiting::Answer(asker, reply) = waiting {
        let _ = asker.send(Ok(reply));
    }
}
