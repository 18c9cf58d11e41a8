//! A shard of groups as its owner drives it.

use std::sync::Arc;

use cluster::TopicChange;
use coordinator::format::{self, FormatError, Stored};
use coordinator::transactions::TransactionVersion;
use coordinator::{
    Census, Command, Event, GroupOrder, Input, Now, Outputs, Reply, Shard, Ticket, TransactionEnd,
};
use futures::future::{BoxFuture, FutureExt};
use vocabulary::{LeaderEpoch, Tick, TopicId};

use crate::broker::Broker;
use crate::groups::catalogue::ViewCatalogue;
use crate::groups::metrics::GroupMetrics;
use crate::journal::Entry;
use crate::owners::{Machine, Owners};

/// What happened to topics.
#[derive(Debug, Clone)]
pub(crate) enum TopicNews {
    Changed {
        name: String,
    },
    Deleted {
        name: String,
        id: TopicId,
    },
    /// News were missed: look which topics are still there.
    Missed,
}

impl Machine for Shard {
    const NAME: &'static str = "group";

    type Command = Command;
    type Reply = Reply;
    type Input = Input;
    type Event = Event;
    type Order = GroupOrder;
    type News = TopicNews;
    type Metrics = GroupMetrics;
    type ReplayError = FormatError;

    fn empty(broker: &Broker) -> Shard {
        let (view, config) = (broker.view.clone(), Arc::clone(&broker.config));
        let catalogue = ViewCatalogue { view, config };
        Shard::new(broker.groups.options.clone(), Arc::new(catalogue))
    }

    fn metrics(broker: &Broker) -> &GroupMetrics {
        &broker.groups.metrics
    }

    fn owners(broker: &Broker) -> &Owners<Shard> {
        &broker.groups.owners
    }

    fn apply(&mut self, entry: Entry) -> Result<(), FormatError> {
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
        event.into_iter().for_each(|it| Shard::apply(self, it));
        Ok(())
    }

    fn start(&mut self, now: Now, outputs: &mut Outputs) {
        Shard::start(self, now, outputs);
    }

    fn step(&mut self, now: Now, input: Input, outputs: &mut Outputs) {
        Shard::step(self, now, input, outputs);
    }

    fn wake_at(&self) -> Option<Tick> {
        Shard::wake_at(self)
    }

    fn census(&self) -> Census {
        Shard::census(self)
    }

    fn request(ticket: Ticket, command: Command) -> Input {
        Input::Request { ticket, command }
    }

    fn time_passed() -> Input {
        Input::TimePassed
    }

    fn news_of(change: &TopicChange) -> Option<TopicNews> {
        Some(match change {
            TopicChange::Changed(topic) => TopicNews::Changed { name: topic.name.clone() },
            TopicChange::Deleted { name, id } => TopicNews::Deleted { name: name.clone(), id: *id },
            TopicChange::Resync => TopicNews::Missed,
        })
    }

    fn heard(&self, broker: &Broker, news: TopicNews) -> Vec<Input> {
        match news {
            TopicNews::Changed { name } => vec![Input::TopicChanged { topic: name }],
            TopicNews::Deleted { name, id } => vec![Input::TopicDeleted { topic: name, id }],
            // Forgets the offsets of topics that went while nobody looked.
            TopicNews::Missed => {
                let is_there = |(name, id): &(&str, TopicId)| {
                    let found = broker.view.topic(name);
                    found.is_some_and(|it| *id == TopicId::ZERO || *id == it.id)
                };
                let gone = self.topics().into_iter().filter(|it| !is_there(it));
                let gone =
                    gone.map(|(name, id)| Input::TopicDeleted { topic: name.to_owned(), id });
                gone.chain([Input::TopicsMissed]).collect()
            }
        }
    }

    fn news_missed() -> Option<TopicNews> {
        Some(TopicNews::Missed)
    }

    fn outlives_load(news: &TopicNews) -> bool {
        // Another topic of that name may be there by then.
        matches!(news, TopicNews::Deleted { .. })
    }

    fn store(unit: &[Event]) -> Stored {
        format::store(unit)
    }

    fn carry_out(
        broker: Arc<Broker>,
        order: GroupOrder,
        _: LeaderEpoch,
    ) -> BoxFuture<'static, Command> {
        let carried_out = async move {
            match order {
                // Where that fails the locks run out.
                GroupOrder::GiveBack { group, member } if broker.shares.is_in_use(&broker) => {
                    let _ = broker.shares.release(&broker, &group, member.to_string()).await;
                }
                GroupOrder::GiveBack { .. } => (),
            }
            Command::CarriedOut
        };
        carried_out.boxed()
    }
}
