//! From a change of members or topics to the group's next epoch, and from there to the next target
//! assignment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use vocabulary::TopicId;

use crate::assignor::{self, Assignor, Subscriber};
use crate::catalogue::{Catalogue, TopicFacts};
use crate::consumer::{ConsumerGroup, Member};
use crate::event::{ConsumerFact, Event, GroupEpoch, Partitions, Subscription};
use crate::shard::Turn;
use crate::targets;

impl ConsumerGroup {
    /// Begins the next group epoch if `is_changed`, or if the topics are not what they were.
    pub(super) fn advance_epoch(
        &mut self,
        turn: &Turn<'_>,
        unit: &mut Vec<Event>,
        is_changed: bool,
    ) {
        if !is_changed && !self.is_stale {
            return;
        }
        let mut names = BTreeSet::new();
        for member in self.members.values() {
            names.extend(self.names_of(member.subscription.as_deref()));
        }
        let metadata_hash = topics_hash(turn.catalogue, &names);
        if is_changed || self.epoch.is_none_or(|it| it.metadata_hash != metadata_hash) {
            let epoch = self.epoch().saturating_add(1);
            self.decide(unit, ConsumerFact::Epoch(Some(GroupEpoch { epoch, metadata_hash })));
        }
        self.is_stale = false;
    }

    /// The names of all topics a member subscribes to.
    fn names_of<'a>(
        &'a self,
        subscription: Option<&'a Subscription>,
    ) -> impl Iterator<Item = &'a str> {
        let pattern = subscription.and_then(|it| self.patterns.get(it.pattern.as_ref()?));
        let named = subscription.into_iter().flat_map(|it| &it.topics);
        named.chain(pattern.into_iter().flat_map(|it| &it.topics)).map(String::as_str)
    }

    /// What the member is to own of the topics it subscribes to now.
    pub(super) fn target_of(&self, turn: &Turn<'_>, id: &str) -> Partitions {
        let Some(target) = self.targets.get(id) else { return Partitions::new() };
        let subscription = self.members.get(id).and_then(|it| it.subscription.as_deref());
        let names = self.names_of(subscription);
        let ids: BTreeSet<TopicId> =
            names.filter_map(|it| turn.catalogue.topic(it)).map(|it| it.id).collect();
        target.iter().filter(|(id, _)| ids.contains(id)).map(|(id, it)| (*id, it.clone())).collect()
    }

    /// Computes the target assignment of the group's epoch, unless the last one is too recent.
    pub(super) fn retarget(&mut self, turn: &mut Turn<'_>) {
        let interval_ms = turn.catalogue.settings(&self.id).assignment_interval_ms;
        if !targets::is_due(turn, self.target_epoch, self.epoch(), interval_ms) {
            return;
        }
        let (changed, next) = (self.changed_targets(turn), self.epoch());
        targets::store(turn, changed, next, |unit, fact| self.decide(unit, fact.into()));
    }

    fn changed_targets(&self, turn: &Turn<'_>) -> Vec<(Arc<str>, Partitions)> {
        let mut facts: BTreeMap<&str, Option<TopicFacts>> = BTreeMap::new();
        let mut topics: BTreeMap<TopicId, i32> = BTreeMap::new();
        let mut subscribers = Vec::with_capacity(self.members.len());
        for (id, member) in &self.members {
            let subscription = member.subscription.as_deref();
            let mut ids = BTreeSet::new();
            for name in self.names_of(subscription) {
                let found = *facts.entry(name).or_insert_with(|| turn.catalogue.topic(name));
                let Some(TopicFacts { id, partitions }) = found else { continue };
                topics.insert(id, partitions);
                ids.insert(id);
            }
            subscribers.push(Subscriber {
                id,
                instance: subscription.and_then(|it| it.instance.as_deref()),
                topics: ids,
                before: self.targets.get(id),
            });
        }
        let assigned = assignor::assign(self.assignor(turn), &topics, &subscribers);
        targets::changed(self.members.keys(), assigned, &self.targets)
    }

    /// The one most members ask for, the first of the server's list if none does.
    pub(super) fn assignor(&self, turn: &Turn<'_>) -> Assignor {
        let offered = &turn.options.consumer_assignors;
        let votes = |assignor: &Assignor| {
            let wants = |it: &&Member| {
                let wanted = it.subscription.as_ref().and_then(|it| it.assignor.as_deref());
                wanted == Some(assignor.name())
            };
            self.members.values().filter(wants).count()
        };
        // The last of the best in reverse order is the first in the server's.
        offered.iter().rev().copied().max_by_key(votes).unwrap_or(Assignor::Uniform)
    }
}

/// Stands for the names, ids and partition counts of topics: FNV-1a, 64 bits. Kafka hashes in its
/// own way; a group taken over from it begins one more epoch, and that is all.
pub(crate) fn topics_hash(catalogue: &dyn Catalogue, names: &BTreeSet<&str>) -> i64 {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    let mut hash = OFFSET_BASIS;
    let mut eat = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(PRIME);
        }
    };
    for name in names {
        if let Some(TopicFacts { id, partitions }) = catalogue.topic(name) {
            eat(name.as_bytes());
            eat(&[0]);
            eat(&id.0);
            eat(&partitions.to_be_bytes());
        }
    }
    hash as i64
}
