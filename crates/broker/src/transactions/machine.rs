//! A shard of transactional ids as its owner drives it.

use std::convert::Infallible;
use std::sync::Arc;

use cluster::TopicChange;
use coordinator::format::Stored;
use coordinator::transactions::format::{self, TransactionFormatError};
use coordinator::transactions::{
    MarkersOrder, TransactionCensus, TransactionCommand, TransactionEvent, TransactionInput,
    TransactionOutputs, TransactionReply, TransactionShard,
};
use coordinator::{Now, Ticket};
use futures::future::{BoxFuture, FutureExt};
use vocabulary::{LeaderEpoch, Tick};

use crate::broker::Broker;
use crate::journal::Entry;
use crate::owners::{Machine, Owners};
use crate::transactions::markers;
use crate::transactions::metrics::TransactionMetrics;

impl Machine for TransactionShard {
    const NAME: &'static str = "transaction";

    type Command = TransactionCommand;
    type Reply = TransactionReply;
    type Input = TransactionInput;
    type Event = TransactionEvent;
    type Order = MarkersOrder;
    type News = Infallible;
    type Metrics = TransactionMetrics;
    type ReplayError = TransactionFormatError;

    fn empty(broker: &Broker) -> TransactionShard {
        TransactionShard::new(broker.transactions.options.clone())
    }

    fn metrics(broker: &Broker) -> &TransactionMetrics {
        &broker.transactions.metrics
    }

    fn owners(broker: &Broker) -> &Owners<TransactionShard> {
        &broker.transactions.owners
    }

    fn apply(&mut self, entry: Entry) -> Result<(), TransactionFormatError> {
        if let Entry::Record(_, record) = entry
            && let Some(event) = format::decode(record.key.as_deref(), record.value.as_deref())?
        {
            TransactionShard::apply(self, event);
        }
        Ok(())
    }

    fn start(&mut self, now: Now, outputs: &mut TransactionOutputs) {
        TransactionShard::start(self, now, outputs);
    }

    fn step(&mut self, now: Now, input: TransactionInput, outputs: &mut TransactionOutputs) {
        TransactionShard::step(self, now, input, outputs);
    }

    fn wake_at(&self) -> Option<Tick> {
        TransactionShard::wake_at(self)
    }

    fn census(&self) -> TransactionCensus {
        TransactionShard::census(self)
    }

    fn request(ticket: Ticket, command: TransactionCommand) -> TransactionInput {
        TransactionInput::Request { ticket, command }
    }

    fn time_passed() -> TransactionInput {
        TransactionInput::TimePassed
    }

    fn news_of(_: &TopicChange) -> Option<Infallible> {
        None
    }

    fn heard(&self, _: &Broker, news: Infallible) -> Vec<TransactionInput> {
        match news {}
    }

    fn news_missed() -> Option<Infallible> {
        None
    }

    fn outlives_load(news: &Infallible) -> bool {
        match *news {}
    }

    fn store(unit: &[TransactionEvent]) -> Stored {
        format::store(unit)
    }

    fn carry_out(
        broker: Arc<Broker>,
        order: MarkersOrder,
        epoch: LeaderEpoch,
    ) -> BoxFuture<'static, TransactionCommand> {
        let carried_out = async move {
            markers::carry_out(&broker, &order, epoch).await;
            let MarkersOrder { id, producer, epoch, .. } = order;
            TransactionCommand::MarkersWritten { id, producer, epoch }
        };
        carried_out.boxed()
    }
}
