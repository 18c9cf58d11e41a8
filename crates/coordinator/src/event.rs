//! Facts: what a record of `__consumer_offsets` says. Applying them in order is the whole durable
//! state of a shard.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use protocol::records::EndTxnMarker;
use vocabulary::{Offset, ProducerId, TopicId};

use crate::transactions::TransactionVersion;

/// Which committed offset: compaction keeps the newest per key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OffsetKey {
    pub group: String,
    pub topic: String,
    pub partition: i32,
}

/// A committed offset as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    pub offset: Offset,
    /// The leader epoch of the last consumed record; -1 when the client did not say (KIP-320).
    pub leader_epoch: i32,
    pub metadata: String,
    /// Wall milliseconds of the commit.
    pub commit_timestamp: i64,
    /// Wall milliseconds from which the offset is expired, when the client asked for a retention
    /// of its own (OffsetCommit v2 to v4).
    pub expire_timestamp: Option<i64>,
    /// The topic that had the name at the commit; zero where that is not known: an old record, or one with a
    /// retention of its own (KAFKA-19141).
    pub topic_id: TopicId,
}

impl CommittedOffset {
    /// Whether it may be of this topic.
    pub(crate) fn is_of(&self, topic: TopicId) -> bool {
        self.topic_id == topic || self.topic_id == TopicId::ZERO
    }
}

/// A member as its group's record stores it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberImage {
    pub instance: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    /// The member's metadata for the group's protocol.
    pub subscription: Bytes,
    pub assignment: Bytes,
}

/// A group as its record stores it: the last generation that was completed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupImage {
    /// Empty when the group never had one.
    pub protocol_type: String,
    pub generation: i32,
    pub protocol: Option<String>,
    pub leader: Option<String>,
    /// Wall milliseconds of the last change of state; -1 in old records.
    pub state_timestamp: i64,
    pub members: BTreeMap<String, MemberImage>,
}

/// The end of a producer's transaction, as far as its offsets are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransactionEnd {
    pub producer: ProducerId,
    pub epoch: i16,
    pub marker: EndTxnMarker,
    pub version: TransactionVersion,
}

/// One fact. Applying the same fact twice is harmless.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    OffsetCommitted {
        key: OffsetKey,
        value: CommittedOffset,
    },
    OffsetForgotten {
        key: OffsetKey,
    },
    /// Counts once the transaction of its producer is committed. The record of a committed offset, in a transactional
    /// batch of the producer.
    OffsetPending {
        producer: ProducerId,
        epoch: i16,
        key: OffsetKey,
        value: CommittedOffset,
    },
    /// A control batch, and no record of its own.
    TransactionEnded(TransactionEnd),
    GroupStored {
        group: String,
        image: GroupImage,
    },
    GroupForgotten {
        group: String,
    },
    /// Of a consumer group.
    Consumer {
        group: String,
        fact: ConsumerFact,
    },
    /// Of a share group.
    Share {
        group: String,
        fact: ShareFact,
    },
}

/// Partitions by topic. No empty sets.
pub type Partitions = BTreeMap<TopicId, BTreeSet<i32>>;

/// Partitions by topic, each with the member epoch at which it was assigned. No empty maps.
pub type OwnedPartitions = BTreeMap<TopicId, BTreeMap<i32, i32>>;

/// One fact about a consumer group (KIP-848). `None` is a tombstone: it no longer holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConsumerFact {
    /// The group; without it there is none.
    Epoch(Option<GroupEpoch>),
    /// What a member has said of itself; without it there is no member.
    Member { member: String, subscription: Option<Box<Subscription>> },
    /// Which group epoch the target assignment is for.
    TargetEpoch(Option<TargetEpoch>),
    /// What a member is to own.
    Target { member: String, partitions: Option<Partitions> },
    /// What a member owns.
    Current { member: String, current: Option<Current> },
    /// Which topics an expression stands for.
    Pattern { expression: String, resolved: Option<ResolvedPattern> },
}

impl ConsumerFact {
    pub(crate) fn is_tombstone(&self) -> bool {
        match self {
            ConsumerFact::Epoch(it) => it.is_none(),
            ConsumerFact::Member { subscription, .. } => subscription.is_none(),
            ConsumerFact::TargetEpoch(it) => it.is_none(),
            ConsumerFact::Target { partitions, .. } => partitions.is_none(),
            ConsumerFact::Current { current, .. } => current.is_none(),
            ConsumerFact::Pattern { resolved, .. } => resolved.is_none(),
        }
    }
}

/// One fact about a share group (KIP-932). `None` is a tombstone: it no longer holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShareFact {
    /// The group; without it there is none.
    Epoch(Option<GroupEpoch>),
    /// What a member has said of itself; without it there is no member.
    Member { member: String, said: Option<Box<ShareMember>> },
    /// Which group epoch the target assignment is for.
    TargetEpoch(Option<TargetEpoch>),
    /// What a member is to share in.
    Target { member: String, partitions: Option<Partitions> },
    /// What a member has been told to share in.
    Current { member: String, current: Option<ShareCurrent> },
}

impl ShareFact {
    pub(crate) fn is_tombstone(&self) -> bool {
        match self {
            ShareFact::Epoch(it) => it.is_none(),
            ShareFact::Member { said, .. } => said.is_none(),
            ShareFact::TargetEpoch(it) => it.is_none(),
            ShareFact::Target { partitions, .. } => partitions.is_none(),
            ShareFact::Current { current, .. } => current.is_none(),
        }
    }
}

/// What a member of a share group says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ShareMember {
    pub rack: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub topics: BTreeSet<String>,
}

/// What a member of a share group shares in, and as of when. Others may share in the same.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ShareCurrent {
    pub epoch: i32,
    pub previous_epoch: i32,
    pub assigned: Partitions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupEpoch {
    /// Grows whenever members or their topics change.
    pub epoch: i32,
    /// Stands for the topics subscribed to: their names, ids and partition counts.
    pub metadata_hash: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TargetEpoch {
    pub epoch: i32,
    /// Wall milliseconds; 0 when not known.
    pub timestamp: i64,
}

/// What a member of a consumer group says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Subscription {
    pub instance: Option<String>,
    pub rack: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub topics: BTreeSet<String>,
    /// Empty stands for none.
    pub pattern: Option<String>,
    pub rebalance_timeout_ms: i32,
    pub assignor: Option<String>,
    /// Of members that speak the classic protocol.
    pub classic: Option<ClassicFace>,
}

/// What only members of the classic protocol have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassicFace {
    pub session_timeout_ms: i32,
    /// Name and metadata, in the member's order of preference; never empty.
    pub protocols: Vec<(String, Bytes)>,
}

/// How far a member is on its way to its target, with Kafka's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MemberState {
    /// It has what its epoch says, and so has everybody else.
    #[default]
    Stable = 0,
    /// It has been told to give up partitions and has not confirmed it.
    UnrevokedPartitions = 1,
    /// Partitions of its target still belong to others.
    UnreleasedPartitions = 2,
}

/// What a member owns, and as of when.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Current {
    pub epoch: i32,
    pub previous_epoch: i32,
    pub state: MemberState,
    pub assigned: OwnedPartitions,
    /// To be given up; nobody else gets them before it says that it has.
    pub revoking: OwnedPartitions,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedPattern {
    pub topics: BTreeSet<String>,
    /// Kafka's metadata version; 0 here.
    pub version: i64,
    /// Wall milliseconds.
    pub timestamp: i64,
}
