//! What an owner needs of the pure machine it drives, and of what counts it.

use std::fmt::{Debug, Display};
use std::sync::Arc;
use std::time::Duration;

use cluster::TopicChange;
use coordinator::format::Stored;
use coordinator::{Now, Outputs, Ticket};
use futures::future::BoxFuture;
use vocabulary::{LeaderEpoch, Tick};

use crate::broker::Broker;
use crate::journal::Entry;
use crate::owners::Owners;

/// What a step of the machine brings forth.
pub(crate) type OutputsOf<M> =
    Outputs<<M as Machine>::Event, <M as Machine>::Reply, TallyOf<M>, <M as Machine>::Order>;

pub(crate) type TallyOf<M> = <<M as Machine>::Metrics as Metrics>::Tally;
pub(crate) type CensusOf<M> = <<M as Machine>::Metrics as Metrics>::Census;

/// A coordinator of one partition of an internal topic: the same calls, whatever it coordinates.
pub(crate) trait Machine: Sized + Send + 'static {
    /// The owners' tasks are called by it, for operators.
    const NAME: &'static str;

    type Command: Debug + Send + 'static;
    type Reply: Debug + Send + 'static;
    type Input: Send;
    type Event: Send;
    /// What is to be done once it is durable that it was decided.
    type Order: Send + 'static;
    /// What it is told beside requests.
    type News: Debug + Clone + Send + Sync + 'static;
    type Metrics: Metrics;
    type ReplayError: Display;

    /// As it is before its log is replayed into it.
    fn empty(broker: &Broker) -> Self;
    fn metrics(broker: &Broker) -> &Self::Metrics;
    /// Of its kind.
    fn owners(broker: &Broker) -> &Owners<Self>;

    /// Replays what the log holds.
    fn apply(&mut self, entry: Entry) -> Result<(), Self::ReplayError>;
    /// The log was replayed to its end.
    fn start(&mut self, now: Now, outputs: &mut OutputsOf<Self>);
    fn step(&mut self, now: Now, input: Self::Input, outputs: &mut OutputsOf<Self>);
    /// When a step would act by itself.
    fn wake_at(&self) -> Option<Tick>;
    fn census(&self) -> CensusOf<Self>;

    fn request(ticket: Ticket, command: Self::Command) -> Self::Input;
    fn time_passed() -> Self::Input;
    /// What a change of the metadata is to its kind; `None`: nothing.
    fn news_of(change: &TopicChange) -> Option<Self::News>;
    /// What the news are to it.
    fn heard(&self, broker: &Broker, news: Self::News) -> Vec<Self::Input>;
    /// Told after every load, in place of news that came while nobody listened.
    fn news_missed() -> Option<Self::News>;
    /// Whether news that come while it loads must be told one by one all the same.
    fn outlives_load(news: &Self::News) -> bool;

    /// How events that belong together are stored.
    fn store(unit: &[Self::Event]) -> Stored;
    /// Carries an order out, however long it takes; gives the command that reports it.
    fn carry_out(
        broker: Arc<Broker>,
        order: Self::Order,
        epoch: LeaderEpoch,
    ) -> BoxFuture<'static, Self::Command>;
}

/// What operators see of the machines of one kind. Every clone counts into the same series.
pub(crate) trait Metrics: Clone + Send + 'static {
    /// How much there is of what.
    type Census: Default + Send;
    /// What happened in a step.
    type Tally: Default + Send;

    fn count(&self, tally: Self::Tally);
    fn loaded(&self, took: Duration);
    fn move_gauges(&self, from: &Self::Census, to: &Self::Census);
}

/// One machine's part of the gauges, taken back when it is not served any longer.
#[derive(Debug)]
pub(crate) struct Counted<M: Metrics> {
    metrics: M,
    census: M::Census,
}

impl<M: Metrics> Counted<M> {
    pub(crate) fn new(metrics: M, census: M::Census) -> Counted<M> {
        metrics.move_gauges(&M::Census::default(), &census);
        Counted { metrics, census }
    }

    pub(crate) fn set(&mut self, census: M::Census) {
        self.metrics.move_gauges(&self.census, &census);
        self.census = census;
    }
}

impl<M: Metrics> Drop for Counted<M> {
    fn drop(&mut self) {
        self.set(M::Census::default());
    }
}
