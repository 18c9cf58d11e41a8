//! Which partitions are served here, and by which configs: follows the metadata and opens, changes and removes
//! logs.
//!
//! Both ways in are idempotent: [`host_now`] and [`follow_broker_configs`] on a request's way, and the feeds of changes
//! behind them. A change that is durable takes effect, also if whoever asked for it has stopped waiting.

use std::sync::Arc;

use cluster::{Topic, TopicChange};
use environment::TaskKind;
use partition_log::{PartitionLog, PartitionStart};
use protocol::ErrorCode;
use vocabulary::{Partition, TopicId};

use crate::broker::Broker;
use crate::configs::{compaction_options, log_settings};

/// Opens every partition led here, then follows the metadata until the broker stops.
pub(crate) fn start(broker: &Arc<Broker>) {
    let mut changes = broker.view.changes();
    let mut configs = broker.view.broker_config_changes();
    for topic in broker.view.topics() {
        host_topic(broker, &topic);
    }
    // Whatever the WAL still holds belongs to topics that were deleted.
    broker.engine.discard_unhosted();
    let this = Arc::clone(broker);
    broker.environment.tasks.spawn(TaskKind::Critical, "hosting", async move {
        loop {
            tokio::select! {
                () = this.stop.stopped() => return,
                change = changes.next() => match change {
                    Some(change) => follow(&this, change),
                    None => return,
                },
                changed = configs.next() => match changed {
                    Some(()) => follow_broker_configs(&this),
                    None => return,
                },
            }
        }
    });
}

/// The log of one partition, opened if the metadata says that this broker leads it.
pub(crate) fn host_now(
    broker: &Broker,
    partition: Partition,
) -> Result<Arc<PartitionLog>, ErrorCode> {
    let topic =
        broker.view.topic_by_id(partition.topic).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let info = topic.partition(partition.index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    if info.leader != broker.id {
        return Err(ErrorCode::NotLeaderOrFollower);
    }
    // Gone between two looks: deleted.
    let progress = broker.view.progress(partition).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let start = PartitionStart {
        partition,
        leader_epoch: info.leader_epoch,
        log_start: progress.log_start,
        committed_end: progress.committed_end,
        committed_bytes: progress.committed_bytes,
        epochs: progress.epochs,
    };
    let log = {
        let _in_order = broker.settings_order();
        broker.engine.host(start, Arc::new(log_settings(&topic.configs, &broker.config)))
    };
    // Deleted between the look and the opening: the change feed has passed, so nobody else would close it.
    if broker.view.topic_by_id(partition.topic).is_none() {
        broker.engine.remove(partition);
        return Err(ErrorCode::UnknownTopicOrPartition);
    }
    Ok(log)
}

fn follow(broker: &Broker, change: TopicChange) {
    match change {
        TopicChange::Changed(topic) => {
            host_topic(broker, &topic);
            apply_settings(broker, &topic);
        }
        TopicChange::Deleted { id, .. } => remove_topic(broker, id),
        TopicChange::Resync => {
            tracing::warn!("metadata changes were missed; looking at every topic anew");
            let topics = broker.view.topics();
            for log in broker.engine.partitions() {
                if broker.view.topic_by_id(log.partition().topic).is_none() {
                    broker.engine.remove(log.partition());
                }
            }
            for topic in topics {
                host_topic(broker, &topic);
                apply_settings(broker, &topic);
            }
        }
    }
}

/// Takes the dynamic broker configs from the metadata, and gives every open log its settings anew: most topics follow
/// the broker's defaults. All of it is in effect when it returns.
pub(crate) fn follow_broker_configs(broker: &Broker) {
    let _in_order = broker.settings_order();
    let cluster = broker.view.broker_configs(None);
    let own = broker.view.broker_configs(Some(broker.id));
    broker.config.set_dynamic(cluster, own);
    broker.engine.set_compaction(compaction_options(&broker.config));
    for topic in broker.view.topics() {
        give_settings(broker, &topic);
    }
}

/// Config changes reach open logs; nothing is reopened.
fn apply_settings(broker: &Broker, topic: &Topic) {
    let _in_order = broker.settings_order();
    give_settings(broker, topic);
}

fn give_settings(broker: &Broker, topic: &Topic) {
    let settings = Arc::new(log_settings(&topic.configs, &broker.config));
    for index in 0..topic.partitions.len() {
        let partition = Partition { topic: topic.id, index: index as i32 };
        if let Some(log) = broker.engine.partition(partition) {
            log.set_settings(Arc::clone(&settings));
        }
    }
}

fn remove_topic(broker: &Broker, id: TopicId) {
    for log in broker.engine.partitions() {
        if log.partition().topic == id {
            broker.engine.remove(log.partition());
        }
    }
}

fn host_topic(broker: &Broker, topic: &Topic) {
    for index in 0..topic.partitions.len() {
        let partition = Partition { topic: topic.id, index: index as i32 };
        match host_now(broker, partition) {
            Ok(_) | Err(ErrorCode::NotLeaderOrFollower) => (),
            Err(code) => tracing::warn!(%partition, ?code, "partition not opened"),
        }
    }
}
