//! Committed offsets: group to topic to partition.
//!
//! Owns: the table. Does not own: who may change it (`shard`), when an offset is too old (there,
//! too). Empty levels are removed, so the table holds exactly the groups that have offsets.

use std::collections::BTreeMap;

use protocol::ErrorCode;
use vocabulary::{Offset, TopicId};

use crate::command::{FetchReply, FetchTopics, FetchedOffset};
use crate::event::{CommittedOffset, OffsetKey};

type Partitions = BTreeMap<i32, CommittedOffset>;
type Topics = BTreeMap<String, Partitions>;

#[derive(Debug, Default)]
pub(crate) struct OffsetTable {
    groups: BTreeMap<String, Topics>,
}

impl OffsetTable {
    pub(crate) fn insert(&mut self, key: OffsetKey, value: CommittedOffset) {
        let topics = self.groups.entry(key.group).or_default();
        topics.entry(key.topic).or_default().insert(key.partition, value);
    }

    pub(crate) fn remove(&mut self, key: &OffsetKey) {
        let Some(topics) = self.groups.get_mut(&key.group) else { return };
        let Some(partitions) = topics.get_mut(&key.topic) else { return };
        partitions.remove(&key.partition);
        if partitions.is_empty() {
            topics.remove(&key.topic);
        }
        if topics.is_empty() {
            self.groups.remove(&key.group);
        }
    }

    pub(crate) fn contains_group(&self, group: &str) -> bool {
        self.groups.contains_key(group)
    }

    pub(crate) fn contains(&self, group: &str, topic: &str, partition: i32) -> bool {
        self.get(group, topic, partition).is_some()
    }

    pub(crate) fn group_count(&self) -> usize {
        self.groups.len()
    }

    pub(crate) fn groups(&self) -> impl Iterator<Item = &String> {
        self.groups.keys()
    }

    /// The first group after `after`, in order.
    pub(crate) fn group_after(&self, after: Option<&str>) -> Option<&String> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        self.groups.range::<str, _>((from, Unbounded)).next().map(|(group, _)| group)
    }

    /// Every offset, in order of its key.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (OffsetKey, &CommittedOffset)> {
        self.groups.keys().flat_map(|group| self.of_group(group))
    }

    /// The offsets of one group, in order of topic and partition.
    pub(crate) fn of_group(
        &self,
        group: &str,
    ) -> impl Iterator<Item = (OffsetKey, &CommittedOffset)> {
        let topics = self.groups.get_key_value(group);
        topics.into_iter().flat_map(|(group, topics)| {
            topics.iter().flat_map(move |(topic, partitions)| {
                partitions.iter().map(move |(partition, value)| {
                    (
                        OffsetKey {
                            group: group.clone(),
                            topic: topic.clone(),
                            partition: *partition,
                        },
                        value,
                    )
                })
            })
        })
    }

    /// The keys of all offsets of one topic, whatever the group; also of those that do not say which topic of that name
    /// they are of.
    pub(crate) fn of_topic(&self, topic: &str, id: TopicId) -> impl Iterator<Item = OffsetKey> {
        let with_topic = move |(group, topics): (&String, &Topics)| {
            let (name, partitions) = topics.get_key_value(topic)?;
            let of_it = partitions.iter().filter(|(_, it)| it.is_of(id));
            let key = |(partition, _): (&i32, &CommittedOffset)| OffsetKey {
                group: group.clone(),
                topic: name.clone(),
                partition: *partition,
            };
            Some(of_it.map(key).collect::<Vec<_>>())
        };
        self.groups.iter().filter_map(with_topic).flatten()
    }

    /// All topics that some group has offsets of, some of them more than once.
    pub(crate) fn topics(&self) -> impl Iterator<Item = (&str, TopicId)> {
        let topics = self.groups.values().flatten();
        topics.flat_map(|(topic, them)| them.values().map(|it| (topic.as_str(), it.topic_id)))
    }

    pub(crate) fn fetch(&self, group: &str, topics: &FetchTopics) -> FetchReply {
        let committed = self.groups.get(group);
        let topics = match topics {
            FetchTopics::All => committed
                .into_iter()
                .flatten()
                .map(|(topic, partitions)| {
                    let offsets = partitions.iter().map(|(index, it)| fetched(*index, Some(it)));
                    (topic.clone(), offsets.collect())
                })
                .collect(),
            FetchTopics::Some(topics) => topics
                .iter()
                .map(|(topic, indexes)| {
                    let offsets =
                        indexes.iter().map(|index| fetched(*index, self.get(group, topic, *index)));
                    (topic.clone(), offsets.collect())
                })
                .collect(),
        };
        FetchReply { error: ErrorCode::None, topics }
    }

    fn get(&self, group: &str, topic: &str, partition: i32) -> Option<&CommittedOffset> {
        self.groups.get(group)?.get(topic)?.get(&partition)
    }
}

fn fetched(partition: i32, committed: Option<&CommittedOffset>) -> FetchedOffset {
    match committed {
        Some(it) => FetchedOffset {
            partition,
            offset: it.offset,
            leader_epoch: it.leader_epoch,
            metadata: it.metadata.clone(),
            is_unstable: false,
        },
        None => FetchedOffset {
            partition,
            offset: Offset(-1),
            leader_epoch: -1,
            metadata: String::new(),
            is_unstable: false,
        },
    }
}
