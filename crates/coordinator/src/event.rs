//! Facts: what a record of `__consumer_offsets` says. Applying them in order is the whole durable
//! state of a shard.

use std::collections::BTreeMap;

use bytes::Bytes;
use vocabulary::Offset;

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

/// One fact. Applying the same fact twice is harmless.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    OffsetCommitted { key: OffsetKey, value: CommittedOffset },
    OffsetForgotten { key: OffsetKey },
    GroupStored { group: String, image: GroupImage },
    GroupForgotten { group: String },
}
