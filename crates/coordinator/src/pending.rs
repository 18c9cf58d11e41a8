//! Offsets of open transactions: stored, and without effect until their transaction is committed (KIP-98, KIP-447).
//!
//! Owns: which offsets wait for which producer. Does not own: committed offsets (`offsets`), who decides (a transaction
//! coordinator, which has a marker written).
//!
//! Of two offsets for one partition the later record wins, whichever transaction ends first: a pending one is dropped
//! as soon as a later record for its partition has taken effect.

use std::collections::{BTreeMap, BTreeSet};

use vocabulary::{Offset, ProducerId, TopicId};

use crate::command::FetchReply;
use crate::event::{CommittedOffset, OffsetKey};

/// The place of a record among all pending ones.
type Place = u64;

#[derive(Debug, Default)]
pub(crate) struct PendingOffsets {
    producers: BTreeMap<ProducerId, BTreeMap<OffsetKey, (Place, CommittedOffset)>>,
    /// The same by key.
    keys: BTreeMap<OffsetKey, BTreeSet<ProducerId>>,
    records: Place,
}

impl PendingOffsets {
    pub(crate) fn insert(&mut self, producer: ProducerId, key: OffsetKey, value: CommittedOffset) {
        self.records += 1;
        self.keys.entry(key.clone()).or_default().insert(producer);
        let pending = self.producers.entry(producer).or_default();
        pending.insert(key, (self.records, value));
    }

    /// The producer's transaction is over: what was pending in it.
    pub(crate) fn take(
        &mut self,
        producer: ProducerId,
    ) -> BTreeMap<OffsetKey, (Place, CommittedOffset)> {
        let taken = self.producers.remove(&producer).unwrap_or_default();
        taken.keys().for_each(|key| self.unlink(key, producer));
        taken
    }

    /// A record has taken effect: pending ones for its key that came before it never will. `None`: it is the newest.
    pub(crate) fn supersede(&mut self, key: &OffsetKey, by: Option<Place>) {
        let Some(producers) = self.keys.get(key) else { return };
        for producer in producers.clone() {
            let Some(pending) = self.producers.get_mut(&producer) else { continue };
            let is_older = pending.get(key).is_some_and(|(at, _)| by.is_none_or(|by| *at < by));
            if is_older {
                pending.remove(key);
                if pending.is_empty() {
                    self.producers.remove(&producer);
                }
                self.unlink(key, producer);
            }
        }
    }

    pub(crate) fn contains(&self, key: &OffsetKey) -> bool {
        self.keys.contains_key(key)
    }

    /// The keys of those of one topic, as of [`crate::offsets::OffsetTable::of_topic`].
    pub(crate) fn of_topic(&self, topic: &str, id: TopicId) -> impl Iterator<Item = OffsetKey> {
        let of_it = self.producers.values().flatten();
        let of_it = of_it.filter(move |(key, (_, it))| key.topic == topic && it.is_of(id));
        of_it.map(|(key, _)| key.clone())
    }

    /// All topics that some are of, some of them more than once.
    pub(crate) fn topics(&self) -> impl Iterator<Item = (&str, TopicId)> {
        let all = self.producers.values().flatten();
        all.map(|(key, (_, it))| (key.topic.as_str(), it.topic_id))
    }

    pub(crate) fn contains_group(&self, group: &str) -> bool {
        self.of_group(group).next().is_some()
    }

    /// The keys of one group, in order.
    pub(crate) fn of_group(&self, group: &str) -> impl Iterator<Item = &OffsetKey> {
        let first =
            OffsetKey { group: group.to_owned(), topic: String::new(), partition: i32::MIN };
        let keys = self.keys.range(first..).map(|(key, _)| key);
        let group = group.to_owned();
        keys.take_while(move |key| key.group == group)
    }

    /// Takes back what may change when a transaction ends: a consumer that asks for stable offsets waits for it.
    pub(crate) fn hide_unstable(&self, group: &str, reply: &mut FetchReply) {
        if !self.contains_group(group) {
            return;
        }
        for (topic, offsets) in &mut reply.topics {
            for it in offsets {
                let (group, topic, partition) = (group.to_owned(), topic.clone(), it.partition);
                if self.contains(&OffsetKey { group, topic, partition }) {
                    it.is_unstable = true;
                    (it.offset, it.leader_epoch) = (Offset(-1), -1);
                    it.metadata.clear();
                }
            }
        }
    }

    fn unlink(&mut self, key: &OffsetKey, producer: ProducerId) {
        if let Some(producers) = self.keys.get_mut(key) {
            producers.remove(&producer);
            if producers.is_empty() {
                self.keys.remove(key);
            }
        }
    }
}
