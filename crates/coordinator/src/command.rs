//! What may be asked of a shard, and what it answers. These are the coordinator's own types: the
//! wire's versions and their differences are settled by the caller, once, at the rim.

use std::sync::Arc;

use bytes::Bytes;
use protocol::ErrorCode;
use vocabulary::Offset;

/// Names one request until it is answered. The caller chooses it and never repeats one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    Join(Box<JoinGroup>),
    Sync(SyncGroup),
    Heartbeat(Heartbeat),
    Leave(LeaveGroup),
    Commit(CommitOffsets),
    Fetch(FetchOffsets),
    DeleteOffsets(DeleteOffsets),
    /// Describe these groups.
    Describe(Vec<String>),
    List(ListFilter),
    /// Delete these groups with all their offsets.
    DeleteGroups(Vec<String>),
}

/// One candidate protocol of a member; the metadata is opaque (Connect, Schema Registry, …).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protocol {
    pub name: String,
    pub metadata: Bytes,
}

#[derive(Debug, Clone, PartialEq)]
pub struct JoinGroup {
    pub group: String,
    /// Empty: the member has no id yet.
    pub member: String,
    pub instance: Option<String>,
    /// 128 random bits for the id this join may need.
    pub fresh_id: u128,
    pub client_id: String,
    pub client_host: String,
    pub session_timeout_ms: i32,
    pub rebalance_timeout_ms: i32,
    pub protocol_type: String,
    pub protocols: Vec<Protocol>,
    /// The client must come back with the id it is given (JoinGroup v4 and later, KIP-394).
    pub known_member_required: bool,
    /// The client understands "the assignment stays" (JoinGroup v9, KIP-814).
    pub skip_assignment_supported: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncGroup {
    pub group: String,
    pub generation: i32,
    pub member: String,
    pub instance: Option<String>,
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    /// Filled by the leader: member id and its assignment.
    pub assignments: Vec<(String, Bytes)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    pub group: String,
    pub generation: i32,
    pub member: String,
    pub instance: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaveGroup {
    pub group: String,
    pub members: Vec<LeavingMember>,
}

/// An empty member id with an instance id removes whoever holds the instance (KIP-345).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeavingMember {
    pub member: String,
    pub instance: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitOffsets {
    pub group: String,
    /// Negative: not a member; allowed only while the group is empty.
    pub generation: i32,
    pub member: String,
    pub instance: Option<String>,
    /// OffsetCommit v2 to v4; `None` is the broker's own retention.
    pub retention_ms: Option<i64>,
    /// Whether the client knows GROUP_ID_NOT_FOUND here (OffsetCommit v9 and later).
    pub group_not_found_known: bool,
    pub offsets: Vec<OffsetToCommit>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetToCommit {
    pub topic: String,
    pub partition: i32,
    pub offset: Offset,
    pub leader_epoch: i32,
    pub metadata: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchOffsets {
    pub group: String,
    pub topics: FetchTopics,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FetchTopics {
    /// Whatever the group has committed.
    All,
    Some(Vec<(String, Vec<i32>)>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteOffsets {
    pub group: String,
    pub topics: Vec<(String, Vec<i32>)>,
}

/// Empty lists let everything pass; names are compared without regard to case (KIP-518, KIP-848).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListFilter {
    pub states: Vec<String>,
    pub types: Vec<String>,
}

/// An answer and what it waits for.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer<R = Reply> {
    pub ticket: Ticket,
    pub reply: R,
    pub after: crate::After,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    Join(JoinReply),
    Sync(SyncReply),
    Heartbeat(ErrorCode),
    Leave(LeaveReply),
    Commit(CommitReply),
    Fetch(FetchReply),
    DeleteOffsets(DeleteOffsetsReply),
    Describe(Vec<DescribedGroup>),
    List(Vec<ListedGroup>),
    DeleteGroups(DeleteGroupsReply),
}

#[derive(Debug, Clone, PartialEq)]
pub struct JoinReply {
    pub error: ErrorCode,
    pub generation: i32,
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    pub leader: String,
    pub skip_assignment: bool,
    pub member: String,
    /// For the leader only.
    pub members: Vec<JoinMember>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinMember {
    pub member: Arc<str>,
    pub instance: Option<String>,
    pub metadata: Bytes,
}

#[derive(Debug, Clone, PartialEq)]
pub struct SyncReply {
    pub error: ErrorCode,
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    pub assignment: Bytes,
}

/// In the order of the request. Whoever leaves a group that is not there is unknown to it.
pub type LeaveReply = Vec<(LeavingMember, ErrorCode)>;

#[derive(Debug, Clone, PartialEq)]
pub enum CommitReply {
    /// Refused as a whole.
    Refused(ErrorCode),
    /// One code per offset, in the order of the request.
    Each(Vec<ErrorCode>),
}

#[derive(Debug, Clone, PartialEq)]
pub struct FetchReply {
    pub topics: Vec<(String, Vec<FetchedOffset>)>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct FetchedOffset {
    pub partition: i32,
    /// -1: nothing committed.
    pub offset: Offset,
    pub leader_epoch: i32,
    pub metadata: String,
}

#[derive(Debug, Clone, PartialEq)]
pub enum DeleteOffsetsReply {
    Refused(ErrorCode),
    /// In the order of the request.
    Each(Vec<(String, Vec<(i32, ErrorCode)>)>),
}

/// In the order of the request.
pub type DeleteGroupsReply = Vec<(String, ErrorCode)>;

/// The states of a classic group, with Kafka's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupState {
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
    /// Of groups that do not exist.
    Dead,
}

impl GroupState {
    pub fn name(self) -> &'static str {
        match self {
            GroupState::Empty => "Empty",
            GroupState::PreparingRebalance => "PreparingRebalance",
            GroupState::CompletingRebalance => "CompletingRebalance",
            GroupState::Stable => "Stable",
            GroupState::Dead => "Dead",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedGroup {
    pub group: String,
    /// `Dead`: there is no such group.
    pub state: GroupState,
    pub protocol_type: String,
    /// The chosen protocol; empty unless the group is stable.
    pub protocol: String,
    pub members: Vec<DescribedMember>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedMember {
    pub member: Arc<str>,
    pub instance: Option<String>,
    pub client_id: String,
    pub client_host: String,
    /// Empty unless the group is stable.
    pub metadata: Bytes,
    /// Empty unless the group is stable.
    pub assignment: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedGroup {
    pub group: String,
    pub protocol_type: String,
    pub state: GroupState,
}
