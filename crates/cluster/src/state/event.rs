//! What happened. Applying an event twice leaves the same state as applying it once.

use std::collections::BTreeMap;
use std::sync::Arc;

use vocabulary::{BrokerEpoch, BrokerId, Offset, Partition, SegmentName, Timestamp, TopicId};

use super::command::KeptProducers;
use super::topic::PartitionInfo;
use super::wal::WalLog;
use super::{Acl, Broker, Run, Segment, Topic};

/// Facts, in absolute terms: each carries the values after it, not differences.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event {
    BrokerRegistered(Broker),
    /// Another broker has taken over what it led.
    BrokerRemoved {
        id: BrokerId,
    },
    /// A log's record as it is now.
    WalChanged(WalLog),
    /// A log goes on under another epoch's record.
    WalContinued {
        broker: BrokerId,
        epoch: BrokerEpoch,
    },
    TopicCreated(Arc<Topic>),
    /// The topic is gone for clients; its runs are dropped step by step.
    TopicDeleted {
        id: TopicId,
        name: String,
        partitions: u32,
        /// The partitions whose producers were kept.
        kept: Vec<i32>,
    },
    /// Leaders or number of partitions changed: the whole list as it is now.
    PartitionsChanged {
        topic: TopicId,
        partitions: Vec<PartitionInfo>,
    },
    TopicConfigsChanged {
        topic: TopicId,
        configs: BTreeMap<String, String>,
    },
    BrokerConfigsChanged {
        broker: Option<BrokerId>,
        configs: BTreeMap<String, String>,
    },
    /// No configs: the group has none any more.
    GroupConfigsChanged {
        group: String,
        configs: BTreeMap<String, String>,
    },
    AclCreated(Arc<Acl>),
    AclDeleted(Arc<Acl>),
    /// The partition's committed runs now end with `run`.
    RunCommitted {
        run: Run,
        committed_bytes: u64,
        runs: u64,
    },
    /// `merged` covers what `parts` covered, which are not referenced any more.
    RunsReplaced {
        merged: Run,
        parts: Vec<Run>,
        committed_bytes: u64,
        runs: u64,
        replacements: u64,
    },
    /// As of the partition's committed end.
    ProducersKept(KeptProducers),
    /// A newer run has newer ones.
    ProducersForgotten {
        partition: Partition,
    },
    LogStartAdvanced {
        partition: Partition,
        log_start: Offset,
    },
    /// A run is not referenced any more. The counts are the partition's after it.
    RunDropped {
        run: Run,
        committed_bytes: u64,
        runs: u64,
    },
    SegmentChanged {
        id: SegmentName,
        segment: Segment,
    },
    /// The object is deleted; nothing is left of the segment.
    SegmentForgotten {
        id: SegmentName,
    },
    /// Every run of a deleted topic is dropped.
    TopicDropped {
        id: TopicId,
    },
    ProducerIdsAllocated {
        next: i64,
    },
}

impl Event {
    /// Whether readers of topics have to look again, and which topic.
    pub(crate) fn topic_changed(&self) -> Option<TopicId> {
        match self {
            Event::TopicCreated(topic) => Some(topic.id),
            Event::TopicDeleted { id, .. } => Some(*id),
            Event::PartitionsChanged { topic, .. } | Event::TopicConfigsChanged { topic, .. } => {
                Some(*topic)
            }
            Event::BrokerRegistered(_)
            | Event::BrokerRemoved { .. }
            | Event::WalChanged(_)
            | Event::WalContinued { .. }
            | Event::BrokerConfigsChanged { .. }
            | Event::GroupConfigsChanged { .. }
            | Event::AclCreated(_)
            | Event::AclDeleted(_)
            | Event::RunCommitted { .. }
            | Event::RunsReplaced { .. }
            | Event::ProducersKept(_)
            | Event::ProducersForgotten { .. }
            | Event::LogStartAdvanced { .. }
            | Event::RunDropped { .. }
            | Event::SegmentChanged { .. }
            | Event::SegmentForgotten { .. }
            | Event::TopicDropped { .. }
            | Event::ProducerIdsAllocated { .. } => None,
        }
    }

    pub(crate) fn is_of_acls(&self) -> bool {
        matches!(self, Event::AclCreated(_) | Event::AclDeleted(_))
    }

    pub(crate) fn garbage_since(now: Timestamp, live_runs: u32) -> Option<Timestamp> {
        (live_runs == 0).then_some(now)
    }
}
