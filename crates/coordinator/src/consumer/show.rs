//! The group as administrators see it.

use crate::command::{
    ConsumerPartitions, DescribedConsumerGroup, DescribedConsumerMember, GroupKind, ListedGroup,
};
use crate::consumer::heartbeat::places;
use crate::consumer::{ConsumerGroup, Member};
use crate::event::Partitions;
use crate::shard::Turn;
use crate::subscription::CONSUMER;

impl ConsumerGroup {
    pub(crate) fn describe(&self, turn: &Turn<'_>) -> DescribedConsumerGroup {
        let described = |(id, member): (&std::sync::Arc<str>, &Member)| {
            let subscription = member.subscription.as_deref().cloned().unwrap_or_default();
            let target = self.targets.get(id).cloned().unwrap_or_default();
            DescribedConsumerMember {
                member: id.to_string(),
                instance: subscription.instance,
                rack: subscription.rack,
                epoch: member.current.epoch,
                client_id: subscription.client_id,
                client_host: subscription.client_host,
                topics: subscription.topics.into_iter().collect(),
                pattern: subscription.pattern,
                assigned: named(turn, places(&member.current.assigned)),
                target: named(turn, target),
                is_classic: subscription.classic.is_some(),
            }
        };
        DescribedConsumerGroup {
            group: self.id.to_string(),
            state: self.state(),
            epoch: self.epoch(),
            target_epoch: self.target_epoch.epoch,
            assignor: self.assignor(turn).name().to_owned(),
            members: self.members.iter().map(described).collect(),
        }
    }

    pub(crate) fn list(&self) -> ListedGroup {
        ListedGroup {
            group: self.id.to_string(),
            protocol_type: CONSUMER.to_owned(),
            state: self.state(),
            kind: GroupKind::Consumer,
        }
    }
}

/// Topics that have gone have no name, and nobody consumes them any more.
pub(crate) fn named(turn: &Turn<'_>, partitions: Partitions) -> Vec<ConsumerPartitions> {
    let row = |(id, them): (_, std::collections::BTreeSet<i32>)| {
        let name = turn.catalogue.name_of(id)?;
        Some(ConsumerPartitions { id, name, partitions: them.into_iter().collect() })
    };
    partitions.into_iter().filter_map(row).collect()
}
