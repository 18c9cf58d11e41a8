//! What may be asked of a shard, and what it answers. These are the coordinator's own types: the
//! wire's versions and their differences are settled by the caller, once, at the rim.

use std::sync::Arc;

use bytes::Bytes;
use protocol::ErrorCode;
use vocabulary::{Offset, ProducerId, TopicId};

use crate::event::Partitions;
use crate::sight::Sight;

/// Names one request until it is answered. The caller chooses it and never repeats one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    Join(Box<JoinGroup>),
    Sync(SyncGroup),
    Heartbeat(Heartbeat),
    ConsumerHeartbeat(Box<ConsumerHeartbeat>),
    ShareHeartbeat(Box<ShareHeartbeat>),
    Leave(LeaveGroup),
    Commit(CommitOffsets),
    Fetch(FetchOffsets),
    DeleteOffsets(DeleteOffsets),
    /// Describe these classic groups.
    Describe(Vec<String>),
    /// Describe these consumer groups.
    DescribeConsumers(Vec<String>),
    /// Describe these share groups.
    DescribeShares(Vec<String>),
    FoundShare(FoundShare),
    List(ListFilter),
    /// Delete these groups with all their offsets.
    DeleteGroups(Vec<String>),
    /// A transaction is over; the offsets in it take effect, or none of them does.
    EndTransaction(crate::TransactionEnd),
    /// What was ordered has been done: nothing is to be decided.
    CarriedOut,
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
    /// The generation, or the epoch of a member of a consumer group. Negative: not a member;
    /// allowed only while the group is empty.
    pub generation: i32,
    pub member: String,
    pub instance: Option<String>,
    /// OffsetCommit v2 to v4; `None` is the broker's own retention.
    pub retention_ms: Option<i64>,
    /// Whether the client knows GROUP_ID_NOT_FOUND here (OffsetCommit v9 and later).
    pub group_not_found_known: bool,
    /// Whether the client speaks of member epochs (OffsetCommit v9 and later).
    pub member_epochs_known: bool,
    /// The offsets count once the transaction of this producer and epoch is committed (TxnOffsetCommit).
    pub transaction: Option<(ProducerId, i16)>,
    pub offsets: Vec<OffsetToCommit>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetToCommit {
    pub topic: String,
    /// That has the name now.
    pub topic_id: TopicId,
    pub partition: i32,
    pub offset: Offset,
    pub leader_epoch: i32,
    pub metadata: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchOffsets {
    pub group: String,
    /// `None`: not a member, or one that does not say so.
    pub member: Option<String>,
    /// Negative when there is no member.
    pub member_epoch: i32,
    pub topics: FetchTopics,
    /// Offsets that an open transaction may change are not told (KIP-447).
    pub require_stable: bool,
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
    ConsumerHeartbeat(Result<ConsumerHeartbeatReply, Refused>),
    ShareHeartbeat(Result<ShareHeartbeatReply, Refused>),
    Leave(LeaveReply),
    Commit(CommitReply),
    Fetch(FetchReply),
    DeleteOffsets(DeleteOffsetsReply),
    Describe(Vec<DescribedGroup>),
    DescribeConsumers(Vec<Result<DescribedConsumerGroup, Refused>>),
    DescribeShares(Vec<Result<DescribedShareGroup, Refused>>),
    FoundShare(Result<(), Refused>),
    List(Vec<ListedGroup>),
    DeleteGroups(DeleteGroupsReply),
    EndTransaction,
    CarriedOut,
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
    /// Of the request as a whole: there are no topics then.
    pub error: ErrorCode,
    pub topics: Vec<(String, Vec<FetchedOffset>)>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct FetchedOffset {
    pub partition: i32,
    /// -1: nothing committed.
    pub offset: Offset,
    pub leader_epoch: i32,
    pub metadata: String,
    /// It was asked for stable offsets, and an open transaction may change this one.
    pub is_unstable: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub enum DeleteOffsetsReply {
    Refused(ErrorCode),
    /// In the order of the request.
    Each(Vec<(String, Vec<(i32, ErrorCode)>)>),
}

/// In the order of the request.
pub type DeleteGroupsReply = Vec<(String, ErrorCode)>;

/// The states of a group, with Kafka's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupState {
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
    /// Of a consumer group whose target assignment is not that of its epoch yet.
    Assigning,
    /// Of a consumer group whose members are on their way to the target assignment.
    Reconciling,
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
            GroupState::Assigning => "Assigning",
            GroupState::Reconciling => "Reconciling",
            GroupState::Dead => "Dead",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedGroup {
    pub group: String,
    /// `Dead`: there is no such group.
    pub state: GroupState,
    /// Why it is `Dead`, in Kafka's words: there is none of that name, or it is of another kind.
    pub missing: Option<String>,
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
    pub kind: GroupKind,
}

/// Which protocol a group's members speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupKind {
    Classic,
    /// KIP-848.
    Consumer,
    /// KIP-932.
    Share,
}

impl GroupKind {
    /// As ListGroups v5 names it.
    pub fn name(self) -> &'static str {
        match self {
            GroupKind::Classic => "classic",
            GroupKind::Consumer => "consumer",
            GroupKind::Share => "share",
        }
    }
}

/// A refusal that says why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub code: ErrorCode,
    pub message: String,
}

impl Refused {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Refused {
        Refused { code, message: message.into() }
    }
}

/// What a member of a consumer group says; `None` stands for "as before".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerHeartbeat {
    pub group: String,
    /// Empty only in the first join of a member that does not make its own id.
    pub member: String,
    /// 0 joins, -1 leaves, -2 leaves and means to come back.
    pub epoch: i32,
    pub instance: Option<String>,
    pub rack: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub rebalance_timeout_ms: Option<i32>,
    pub topics: Option<Vec<String>>,
    pub pattern: Option<String>,
    pub assignor: Option<String>,
    pub owned: Option<Partitions>,
    /// The member makes its id itself (ConsumerGroupHeartbeat v1, KIP-1082).
    pub makes_own_id: bool,
    /// Which topics the group's expressions may stand for if they are resolved now.
    pub sight: Sight,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerHeartbeatReply {
    pub member: String,
    pub epoch: i32,
    pub heartbeat_interval_ms: i32,
    /// `None`: as before.
    pub assignment: Option<Partitions>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedConsumerGroup {
    pub group: String,
    pub state: GroupState,
    pub epoch: i32,
    pub target_epoch: i32,
    pub assignor: String,
    pub members: Vec<DescribedConsumerMember>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedConsumerMember {
    pub member: String,
    pub instance: Option<String>,
    pub rack: Option<String>,
    pub epoch: i32,
    pub client_id: String,
    pub client_host: String,
    pub topics: Vec<String>,
    pub pattern: Option<String>,
    pub assigned: Vec<ConsumerPartitions>,
    pub target: Vec<ConsumerPartitions>,
    /// It speaks the classic protocol.
    pub is_classic: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerPartitions {
    pub id: TopicId,
    pub name: String,
    pub partitions: Vec<i32>,
}

/// What a member of a share group says; `None` stands for "as before".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareHeartbeat {
    pub group: String,
    /// Made by the member.
    pub member: String,
    /// 0 joins, -1 leaves.
    pub epoch: i32,
    pub rack: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub topics: Option<Vec<String>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareHeartbeatReply {
    pub member: String,
    pub epoch: i32,
    pub heartbeat_interval_ms: i32,
    /// `None`: as before.
    pub assignment: Option<Partitions>,
}

/// Its offsets are to be set: a share group that nobody is in, whether there is one already or not (KIP-932).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundShare {
    pub group: String,
    /// Whether it is founded if there is none; otherwise it only is refused where it could not be.
    pub is_needed: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedShareGroup {
    pub group: String,
    pub state: GroupState,
    pub epoch: i32,
    pub target_epoch: i32,
    pub members: Vec<DescribedShareMember>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedShareMember {
    pub member: String,
    pub rack: Option<String>,
    pub epoch: i32,
    pub client_id: String,
    pub client_host: String,
    pub topics: Vec<String>,
    pub assigned: Vec<ConsumerPartitions>,
}
