//! The task that owns one coordinator: it alone runs its steps, has what they decide appended, hands out its answers
//! and carries out its orders.
//!
//! Owns: the machine, its tickets, the orders under way, when it is counted. Does not own: the rules (`coordinator`),
//! what is on its way into the log (`journal`), how an order is carried out ([`Machine::carry_out`]).
//!
//! When an append fails nothing decided since is to be trusted: everybody who waits is refused with a code that
//! clients retry on, and the machine is loaded again from the log. Orders under way are dropped then, and given again
//! by the machine that was loaded.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use coordinator::{After, Answer, Ticket};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use partition_log::AppendError;
use protocol::ErrorCode;
use tokio::sync::mpsc;
use vocabulary::{LeaderEpoch, Partition, Tick};

use crate::broker::Broker;
use crate::journal::{self, Journal, Loaded};
use crate::owners::machine::{Counted, Machine, Metrics, OutputsOf};
use crate::owners::{Asker, ToOwner};

/// Requests taken in one turn: what they decide shares batches.
const REQUESTS_PER_TURN_MAX: usize = 256;

/// Orders being carried out at once. Larger: more overlap after a start.
const ORDERS_UNDER_WAY_MAX: usize = 256;

/// After a step the machine is counted within this, however many steps there are: counting visits all of it.
const CENSUS_PAUSE: Duration = Duration::from_secs(5);

/// On requests of the owner's own: nobody waits for the answer.
const NOBODY: Ticket = Ticket(0);

pub(super) struct Owner<M: Machine> {
    broker: Arc<Broker>,
    partition: Partition,
    queue: mpsc::Receiver<ToOwner<M>>,
}

/// Why a machine is not served any longer.
enum Ended {
    Stopped,
    /// Load it again, if this broker still leads the partition.
    Failed,
}

impl<M: Machine> Owner<M> {
    pub(super) fn new(
        broker: &Arc<Broker>,
        partition: Partition,
        queue: mpsc::Receiver<ToOwner<M>>,
    ) -> Owner<M> {
        Owner { broker: Arc::clone(broker), partition, queue }
    }

    pub(super) async fn run(mut self) {
        while let Some((loaded, news)) = self.load().await {
            let mut serving = Serving::new(&self.broker, loaded);
            M::news_missed().into_iter().chain(news).for_each(|it| serving.hear(it));
            match serving.run(&mut self.queue).await {
                Ended::Stopped => return,
                Ended::Failed => (),
            }
        }
    }

    /// Loads the machine while whoever asks is told so; with the news that are still to be told then.
    async fn load(&mut self) -> Option<(Loaded<M>, Vec<M::News>)> {
        let broker = Arc::clone(&self.broker);
        let clock = &broker.environment.clock;
        let started = clock.now();
        let empty = || M::empty(&broker);
        let loading = journal::load(&broker, self.partition, &empty, M::apply);
        tokio::pin!(loading);
        let mut news = Vec::new();
        loop {
            tokio::select! {
                biased;
                () = broker.stop.stopped() => return None,
                loaded = &mut loading => {
                    let loaded = loaded?;
                    M::metrics(&broker).loaded(clock.now().since(started));
                    return Some((loaded, news));
                }
                told = self.queue.recv() => match told? {
                    ToOwner::Ask { reply, .. } => {
                        // Whoever has gone needs no answer.
                        let _ = reply.send(Err(ErrorCode::CoordinatorLoadInProgress));
                    }
                    ToOwner::News(it) if M::outlives_load(&it) => news.push(it),
                    ToOwner::News(_) => (),
                },
            }
        }
    }
}

/// What waits until everything before it is durable.
enum Waiting<M: Machine> {
    Answer(Asker<M::Reply>, M::Reply),
    Order(M::Order),
}

/// What happened.
enum Happened<M: Machine> {
    Stop,
    Progress(Result<Vec<Waiting<M>>, AppendError>),
    CarriedOut(M::Command),
    Told(Option<ToOwner<M>>),
    Time,
}

struct Serving<'a, M: Machine> {
    broker: &'a Arc<Broker>,
    leader_epoch: LeaderEpoch,
    machine: M,
    outputs: OutputsOf<M>,
    counted: Counted<M::Metrics>,
    /// Something has happened since the machine was counted.
    census_at: Option<Tick>,
    asked: HashMap<Ticket, Asker<M::Reply>>,
    tickets: u64,
    journal: Journal<Waiting<M>>,
    orders: VecDeque<M::Order>,
    under_way: FuturesUnordered<BoxFuture<'static, M::Command>>,
}

impl<'a, M: Machine> Serving<'a, M> {
    fn new(broker: &'a Arc<Broker>, loaded: Loaded<M>) -> Serving<'a, M> {
        let Loaded { state: mut machine, log, leader_epoch } = loaded;
        let mut outputs = OutputsOf::<M>::default();
        machine.start(journal::now(broker), &mut outputs);
        let counted = Counted::new(M::metrics(broker).clone(), machine.census());
        let mut serving = Serving {
            broker,
            leader_epoch,
            machine,
            outputs,
            counted,
            census_at: None,
            asked: HashMap::new(),
            tickets: NOBODY.0,
            journal: Journal::new(log, leader_epoch),
            orders: VecDeque::new(),
            under_way: FuturesUnordered::new(),
        };
        serving.hand_out();
        serving
    }

    async fn run(mut self, queue: &mut mpsc::Receiver<ToOwner<M>>) -> Ended {
        loop {
            self.journal.begin_append(self.broker.environment.clock.wall());
            self.begin_orders();
            match self.next(queue).await {
                Happened::Stop | Happened::Told(None) => {
                    // What is decided becomes durable, no new request is taken; whoever waits for more finds out from
                    // the closed connection. Orders are given again at the next start.
                    self.journal.drain(&*self.broker.environment.clock, answer).await;
                    return Ended::Stopped;
                }
                Happened::Told(Some(first)) => {
                    self.told(first);
                    for _ in 1..REQUESTS_PER_TURN_MAX {
                        let Ok(next) = queue.try_recv() else { break };
                        self.told(next);
                    }
                    // Whoever proved to be alive has been heard; now those who did not.
                    self.time_passed();
                }
                Happened::Time => self.time_passed(),
                Happened::CarriedOut(report) => self.step(M::request(NOBODY, report)),
                Happened::Progress(Ok(ready)) => ready.into_iter().for_each(|it| self.go(it)),
                Happened::Progress(Err(error)) => {
                    self.fail(&error);
                    return Ended::Failed;
                }
            }
        }
    }

    /// Waits for the next thing to happen. Our order: what frees answers first, then what was carried out, then
    /// requests, then time, so that a heartbeat in the queue is heard before its session is ended.
    async fn next(&mut self, queue: &mut mpsc::Receiver<ToOwner<M>>) -> Happened<M> {
        let has_room = !self.journal.is_full();
        let wake_at = self.machine.wake_at().filter(|_| has_room);
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
            () = self.broker.stop.stopped() => Happened::Stop,
            moved = self.journal.progress() => Happened::Progress(moved),
            Some(report) = self.under_way.next(), if has_room && !self.under_way.is_empty() => {
                Happened::CarriedOut(report)
            }
            told = queue.recv(), if has_room => Happened::Told(told),
            () = wake => Happened::Time,
        }
    }

    fn told(&mut self, told: ToOwner<M>) {
        match told {
            ToOwner::Ask { command, reply } => {
                self.tickets += 1;
                let ticket = Ticket(self.tickets);
                self.asked.insert(ticket, reply);
                self.step(M::request(ticket, command));
            }
            ToOwner::News(news) => self.hear(news),
        }
    }

    fn hear(&mut self, news: M::News) {
        for input in self.machine.heard(self.broker, news) {
            self.step(input);
        }
    }

    fn time_passed(&mut self) {
        let now = self.broker.environment.clock.now();
        if self.machine.wake_at().is_some_and(|at| at <= now) {
            self.step(M::time_passed());
        }
        if self.census_at.is_some_and(|at| at <= now) {
            self.census_at = None;
            self.counted.set(self.machine.census());
        }
    }

    fn step(&mut self, input: M::Input) {
        let now = journal::now(self.broker);
        self.machine.step(now, input, &mut self.outputs);
        self.census_at.get_or_insert(now.tick.plus(CENSUS_PAUSE));
        self.hand_out();
    }

    fn hand_out(&mut self) {
        M::metrics(self.broker).count(std::mem::take(&mut self.outputs.tally));
        for unit in self.outputs.units.drain(..) {
            self.journal.decide(M::store(&unit));
        }
        let orders = self.outputs.orders.drain(..).map(Waiting::Order);
        let mut ready: Vec<Waiting<M>> = orders.filter_map(|it| self.journal.hold(it)).collect();
        for Answer { ticket, reply, after } in self.outputs.answers.drain(..) {
            if ticket == NOBODY {
                continue;
            }
            let asker = self.asked.remove(&ticket).expect("a ticket is answered once");
            let answer = Waiting::Answer(asker, reply);
            ready.extend(match after {
                After::Now => Some(answer),
                After::Commit => self.journal.hold(answer),
            });
        }
        ready.into_iter().for_each(|it| self.go(it));
    }

    fn go(&mut self, waiting: Waiting<M>) {
        match waiting {
            Waiting::Answer(..) => answer(waiting),
            Waiting::Order(order) => self.orders.push_back(order),
        }
    }

    fn begin_orders(&mut self) {
        while self.under_way.len() < ORDERS_UNDER_WAY_MAX {
            let Some(order) = self.orders.pop_front() else { return };
            self.under_way.push(M::carry_out(Arc::clone(self.broker), order, self.leader_epoch));
        }
    }

    fn fail(self, error: &AppendError) {
        let partition = self.journal.log().partition();
        tracing::warn!(%partition, %error, "{} state not stored, loading it again", M::NAME);
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
fn answer<M: Machine>(waiting: Waiting<M>) {
    if let Waiting::Answer(asker, reply) = waiting {
        let _ = asker.send(Ok(reply));
    }
}
