//! From a classic group to a consumer group while members are in it, and back
//! (`group.consumer.migration.policy`).

use std::collections::BTreeSet;
use std::sync::Arc;

use vocabulary::{Timestamp, TopicId};

use crate::catalogue::Catalogue;
use crate::classic::{ClassicGroup, Member as ClassicMember};
use crate::command::Protocol;
use crate::consumer::heartbeat::places;
use crate::consumer::{ConsumerGroup, Member};
use crate::event::{
    ClassicFace, ConsumerFact, Current, GroupEpoch, MemberState, OwnedPartitions, Partitions,
    Subscription, TargetEpoch,
};
use crate::subscription::{ConsumerSubscription, decode_assignment, encode_assignment};

/// All facts of the consumer group that a classic one becomes. `None` if it cannot: its members are no
/// consumers, or their assignor says more than which partition is whose.
pub(crate) fn upgraded(
    catalogue: &dyn Catalogue,
    group: &ClassicGroup,
) -> Option<Vec<ConsumerFact>> {
    if !group.is_consumer() {
        return None;
    }
    // A group that has not finished its first rebalance has no generation yet.
    let epoch = group.generation().max(1);
    let mut facts = vec![ConsumerFact::Epoch(Some(GroupEpoch { epoch, metadata_hash: 0 }))];
    let mut seen = BTreeSet::new();
    for member in group.members() {
        let said = ConsumerSubscription::decode(&member.protocols.first()?.metadata)?;
        let partitions = decode_assignment(catalogue, &member.assignment)?;
        let mut places =
            partitions.iter().flat_map(|(topic, it)| it.iter().map(move |it| (*topic, *it)));
        if !places.all(|place: (TopicId, i32)| seen.insert(place)) {
            return None; // An assignor of its own kind: two own one partition.
        }
        facts.extend(facts_of(epoch, member, said, partitions));
    }
    facts.push(ConsumerFact::TargetEpoch(Some(TargetEpoch { epoch, timestamp: 0 })));
    Some(facts)
}

fn facts_of(
    epoch: i32,
    member: &ClassicMember,
    said: ConsumerSubscription,
    partitions: Partitions,
) -> [ConsumerFact; 3] {
    let protocols = member.protocols.iter().map(|it| (it.name.clone(), it.metadata.clone()));
    let subscription = Subscription {
        instance: member.instance.clone(),
        rack: said.rack,
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        topics: said.topics,
        pattern: None,
        rebalance_timeout_ms: member.rebalance_timeout_ms,
        assignor: None,
        classic: Some(ClassicFace {
            session_timeout_ms: member.session_timeout_ms,
            protocols: protocols.collect(),
        }),
    };
    let since = |them: &BTreeSet<i32>| them.iter().map(|it| (*it, epoch)).collect();
    let current = Current {
        epoch,
        previous_epoch: epoch,
        state: MemberState::Stable,
        assigned: partitions.iter().map(|(topic, them)| (*topic, since(them))).collect(),
        revoking: OwnedPartitions::new(),
    };
    let member = member.id.to_string();
    [
        ConsumerFact::Member { member: member.clone(), subscription: Some(Box::new(subscription)) },
        ConsumerFact::Target { member: member.clone(), partitions: Some(partitions) },
        ConsumerFact::Current { member, current: Some(current) },
    ]
}

impl ConsumerGroup {
    /// The classic group that this one becomes, now that all its members speak that protocol.
    pub(crate) fn downgraded(&self, catalogue: &dyn Catalogue, now: Timestamp) -> ClassicGroup {
        let classic = |(id, member): (&Arc<str>, &Member)| {
            let subscription = member.subscription.as_deref()?;
            let face = subscription.classic.as_ref()?;
            let protocol = |(name, metadata): &(String, bytes::Bytes)| Protocol {
                name: name.clone(),
                metadata: metadata.clone(),
            };
            let metadata = face.protocols.first().map(|(_, it)| &it[..]).unwrap_or_default();
            Some(ClassicMember {
                id: Arc::clone(id),
                instance: subscription.instance.clone(),
                client_id: subscription.client_id.clone(),
                client_host: subscription.client_host.clone(),
                rebalance_timeout_ms: subscription.rebalance_timeout_ms,
                session_timeout_ms: face.session_timeout_ms,
                protocols: face.protocols.iter().map(protocol).collect(),
                assignment: encode_assignment(
                    catalogue,
                    &places(&member.current.assigned),
                    metadata,
                ),
                is_new: false,
                join: None,
                sync: None,
                deadline: None,
            })
        };
        let members = self.members.iter().filter_map(classic).collect();
        ClassicGroup::of_members(Arc::clone(&self.id), now, self.epoch(), members)
    }

    /// The newest generation that a member of the classic protocol knows, until they begin the next one. Whoever left
    /// last has begun an epoch that nobody was told of: in it nobody could commit what it has consumed.
    pub(crate) fn known_generation(&self) -> i32 {
        self.members.values().map(|it| it.current.epoch).max().unwrap_or_else(|| self.epoch())
    }
}
