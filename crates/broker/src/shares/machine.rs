//! A shard of share-partitions as its owner drives it.

use std::sync::Arc;

use cluster::TopicChange;
use coordinator::format::{FormatError, Stored};
use coordinator::share::{
    ShareCommand, ShareEvent, ShareInput, ShareOrder, ShareOutputs, ShareReply, ShareShard, format,
};
use coordinator::{Now, Ticket};
use futures::future::{BoxFuture, FutureExt};
use vocabulary::{LeaderEpoch, Offset, Tick, TopicId};

use crate::broker::Broker;
use crate::journal::Entry;
use crate::owners::{Machine, Owners};
use crate::shares::metrics::ShareMetrics;

/// What happened to topics.
#[derive(Debug, Clone)]
pub(crate) enum ShareNews {
    Deleted {
        topic: TopicId,
    },
    /// News were missed: look which topics are still there.
    Missed,
}

impl Machine for ShareShard {
    const NAME: &'static str = "share";

    type Command = ShareCommand;
    type Reply = ShareReply;
    type Input = ShareInput;
    type Event = ShareEvent;
    type Order = ShareOrder;
    type News = ShareNews;
    type Metrics = ShareMetrics;
    type ReplayError = FormatError;

    fn empty(broker: &Broker) -> ShareShard {
        ShareShard::new(broker.shares.options.clone())
    }

    fn metrics(broker: &Broker) -> &ShareMetrics {
        &broker.shares.metrics
    }

    fn owners(broker: &Broker) -> &Owners<ShareShard> {
        &broker.shares.owners
    }

    fn apply(&mut self, entry: Entry) -> Result<(), FormatError> {
        if let Entry::Record(_, record) = entry
            && let Some(event) = format::decode(record.key.as_deref(), record.value.as_deref())?
        {
            self.replay(event, record.offset);
        }
        Ok(())
    }

    fn start(&mut self, _: Now, _: &mut ShareOutputs) {}

    fn step(&mut self, now: Now, input: ShareInput, outputs: &mut ShareOutputs) {
        ShareShard::step(self, now, input, outputs);
    }

    fn wake_at(&self) -> Option<Tick> {
        ShareShard::wake_at(self)
    }

    fn census(&self) -> usize {
        self.images().count()
    }

    fn request(ticket: Ticket, command: ShareCommand) -> ShareInput {
        ShareInput::Request { ticket, command }
    }

    fn time_passed() -> ShareInput {
        ShareInput::TimePassed
    }

    fn news_of(change: &TopicChange) -> Option<ShareNews> {
        match change {
            TopicChange::Changed(_) => None,
            TopicChange::Deleted { id, .. } => Some(ShareNews::Deleted { topic: *id }),
            TopicChange::Resync => Some(ShareNews::Missed),
        }
    }

    fn heard(&self, broker: &Broker, news: ShareNews) -> Vec<ShareInput> {
        match news {
            ShareNews::Deleted { topic } => vec![ShareInput::TopicDeleted { topic }],
            ShareNews::Missed => {
                let topics = self.topics().into_iter();
                let gone = topics.filter(|it| broker.view.topic_by_id(*it).is_none());
                gone.map(|topic| ShareInput::TopicDeleted { topic }).collect()
            }
        }
    }

    fn news_missed() -> Option<ShareNews> {
        Some(ShareNews::Missed)
    }

    fn outlives_load(_: &ShareNews) -> bool {
        false // An id is never used again: what is gone is found to be gone after the load.
    }

    fn store(unit: &[ShareEvent]) -> Stored {
        format::store(unit)
    }

    fn carry_out(
        broker: Arc<Broker>,
        order: ShareOrder,
        _: LeaderEpoch,
    ) -> BoxFuture<'static, ShareCommand> {
        let carried_out = async move {
            match order {
                ShareOrder::Wake { group } => broker.shares.bell(&group).notify_waiters(),
                ShareOrder::Cut { group, below } => cut(&broker, &group, below).await,
            }
            ShareCommand::CarriedOut
        };
        carried_out.boxed()
    }
}

/// Where that fails, the next order cuts more.
async fn cut(broker: &Broker, group: &str, below: Offset) {
    let Ok((_, partition)) = broker.shares.owners.home(broker, group).await else { return };
    let Ok(log) = broker.led_log(partition) else { return };
    if let Err(error) = log.delete_before(below).await {
        tracing::warn!(%partition, %below, %error, "the log of share groups was not cut");
    }
}
