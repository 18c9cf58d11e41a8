//! The cluster's metadata as a pure state machine: `decide` turns a command into events and a reply,
//! `apply` changes the state. No clock, no chance, no IO; the same code runs in the simulator.
//!
//! Owns: topics, partitions' progress, brokers and their logs, configs, ACLs, segments' live runs,
//! producer-id blocks.
//! Does not own: the runs themselves, nor kept producers. There may be ten million of them; they stay
//! in the store, and a command that needs some carries them.
//!
//! Invariants, checked by [`State::check`]:
//! - A3 a partition's live runs cover `[runs start, committed end)`: the end only grows, by runs that
//!   start exactly there, the start only grows, by runs dropped from the front; runs between are
//!   replaced only by a run that covers the same offsets;
//! - A5 the last run of a partition goes only if the producers as of its end are kept;
//! - A6 a segment with live runs is never forgotten.

mod acl;
mod apply;
mod command;
pub(crate) mod decide;
mod event;
mod topic;
mod wal;

pub use acl::{
    Acl, AclFilter, AclOperation, AclPattern, AclPermission, AclResource, PatternFilter,
};
pub(crate) use apply::apply;
pub use command::{
    ADOPTED_PRODUCERS_BYTES_MAX, ADOPTED_RUNS_MAX, AclError, AdoptRuns, CommitRefusal, CommitRuns,
    CreatePartitionsError, CreateTopicError, GroupConfigsError, KeptProducers, LogStartError,
    RefusedRun, RegisterBroker, Registration, ReplaceRuns, RunRefusal, RunsOfSegment, UnknownTopic,
    WalError,
};
pub(crate) use event::Event;
pub use topic::{PartitionInfo, Progress, Topic, TopicNameError, check_topic_name};
pub use wal::{WalKind, WalLog};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use vocabulary::{
    BrokerEpoch, BrokerId, LeaderEpoch, Offset, Partition, SegmentName, Timestamp, TopicId,
};

/// A registered broker, as clients and other brokers reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    pub id: BrokerId,
    /// Grows with each registration; commits with an older one are refused (A4).
    pub epoch: BrokerEpoch,
    pub host: String,
    pub port: u16,
    pub rack: Option<String>,
}

/// A contiguous offset range of one partition inside one data segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    pub partition: Partition,
    pub leader_epoch: LeaderEpoch,
    pub base: Offset,
    /// Exclusive.
    pub end: Offset,
    pub max_timestamp: Timestamp,
    pub segment: SegmentName,
    /// Where the run starts in the segment, and how long it is, in bytes.
    pub position: u64,
    pub length: u64,
    /// CRC32C of the run's bytes.
    pub crc: u32,
}

/// A data segment: referenced while runs of it are live, garbage afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    pub bytes: u64,
    pub created: Timestamp,
    pub live_runs: u32,
    /// Since when no run of it is live. `None` while one is.
    pub garbage_since: Option<Timestamp>,
}

/// All metadata but the runs.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct State {
    pub(crate) brokers: BTreeMap<BrokerId, Broker>,
    pub(crate) topics: BTreeMap<TopicId, Arc<Topic>>,
    pub(crate) names: BTreeMap<String, TopicId>,
    /// One entry a partition, in the topic's order.
    pub(crate) progress: BTreeMap<TopicId, Vec<Progress>>,
    /// Deleted topics whose runs are still being dropped, and how many partitions they had.
    pub(crate) dropping: BTreeMap<TopicId, u32>,
    pub(crate) segments: BTreeMap<SegmentName, Segment>,
    pub(crate) logs: BTreeMap<(BrokerId, BrokerEpoch), WalLog>,
    /// The segments without live runs, the longest dead first. Follows from `segments`.
    pub(crate) garbage: BTreeSet<(Timestamp, SegmentName)>,
    /// Dynamic broker configs: of one broker, or of all (`None`).
    pub(crate) broker_configs: BTreeMap<Option<BrokerId>, BTreeMap<String, String>>,
    /// Dynamic configs of groups that have some, whether there is such a group or not.
    pub(crate) group_configs: BTreeMap<String, BTreeMap<String, String>>,
    pub(crate) acls: BTreeSet<Arc<Acl>>,
    pub(crate) producer_id_next: i64,
    pub(crate) broker_epoch_last: BrokerEpoch,
}

impl State {
    pub(crate) fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(self.names.get(name)?)
    }

    /// How far a partition is. `None` for an unknown topic or index.
    pub(crate) fn progress_of(&self, partition: Partition) -> Option<&Progress> {
        self.progress.get(&partition.topic)?.get(usize::try_from(partition.index).ok()?)
    }

    /// The only way a segment changes, so that the index of garbage is always right.
    pub(crate) fn set_segment(&mut self, id: SegmentName, segment: Option<Segment>) {
        let before = match segment {
            Some(segment) => self.segments.insert(id, segment),
            None => self.segments.remove(&id),
        };
        if let Some(since) = before.and_then(|it| it.garbage_since) {
            self.garbage.remove(&(since, id));
        }
        if let Some(since) = segment.and_then(|it| it.garbage_since) {
            self.garbage.insert((since, id));
        }
    }

    /// Whether a segment without live runs may go. While its log is open, more of it may be adopted.
    pub(crate) fn may_go(&self, id: SegmentName) -> bool {
        match id {
            SegmentName::Data(_) => true,
            SegmentName::Wal { broker, epoch, .. } => {
                self.logs.get(&(broker, epoch)).is_none_or(|it| it.fence.is_some())
            }
        }
    }

    pub(crate) fn progress_mut(&mut self, partition: Partition) -> Option<&mut Progress> {
        self.progress.get_mut(&partition.topic)?.get_mut(usize::try_from(partition.index).ok()?)
    }

    /// What must hold whatever happened. Costs a walk over everything: tests and tools call it.
    ///
    /// # Panics
    /// With the invariant's id, when it does not hold.
    #[cfg(test)]
    pub(crate) fn check(&self) {
        assert_eq!(self.names.len(), self.topics.len(), "every topic has one name");
        for (name, id) in &self.names {
            assert_eq!(&self.topics[id].name, name, "a name leads to its topic");
        }
        for (id, topic) in &self.topics {
            let progress = &self.progress[id];
            assert_eq!(progress.len(), topic.partitions.len(), "one progress a partition");
            for partition in progress {
                partition.check();
                let has_producers = partition.committed_end == Offset::ZERO || 0 < partition.runs;
                assert!(has_producers || partition.has_kept(), "A5: {partition:?}");
            }
        }
        for (id, segment) in &self.segments {
            let is_garbage = segment.garbage_since.is_some();
            assert_eq!(segment.live_runs == 0, is_garbage, "A6: {id} is live or garbage");
        }
        for ((broker, epoch), log) in &self.logs {
            assert_eq!((*broker, *epoch), (log.broker, log.epoch), "a log is found by its name");
            log.check();
        }
        let dead = |(id, it): (&SegmentName, &Segment)| it.garbage_since.map(|since| (since, *id));
        let garbage: BTreeSet<_> = self.segments.iter().filter_map(dead).collect();
        assert_eq!(self.garbage, garbage, "A7: garbage is found");
    }
}

#[cfg(test)]
mod tests;
