//! Coordinators as pure machines: requests, time and random ids come in; records to append and
//! answers come out. No task, no clock, no socket, no log.
//!
//! # Map
//!
//! - [`Shard`]: all groups of one `__consumer_offsets` partition; the only way in is [`Shard::step`].
//! - `group`: a group of any protocol; `classic`: members, generations, rebalances, timers;
//!   `consumer`: members, epochs, assignments (KIP-848), and its `assignor`s; `share_group`: members
//!   that share partitions (KIP-932).
//! - `targets`: how the targets of those whose coordinator assigns are stored.
//! - [`Catalogue`]: the port through which it knows topics and settings; [`Sight`]: the one of a request, through which
//!   it knows what its sender may know of.
//! - `offsets`: committed offsets of the groups; `pending`: those of open transactions.
//! - [`share`]: which records of a partition are delivered to whom in a share group, and how it ended.
//! - [`transactions`]: all transactional ids of one `__transaction_state` partition, in the same manner.
//! - [`Event`]: what a record of the log says; [`format`](mod@format) is its encoding, Kafka's own.
//! - [`shard_of`]: which partition a group belongs to.
//!
//! # One path
//!
//! A step decides and emits [`Event`]s; applying them is what changes durable state, live and at
//! replay. Rebalances in progress are soft state: as in Kafka they are not in the log, and a member
//! whose coordinator restarted in mid-rebalance joins again.
//!
//! An [`Answer`] says what it must wait for ([`After`]). The caller appends the events of a step
//! before it hands out answers that wait; when an append fails it drops the whole shard and loads
//! it again from the log, so no answer ever rests on something that was not stored (A1).
//!
//! # Invariants
//!
//! Of groups, checked by [`Shard::check`] after every step in debug builds:
//!
//! - **G1** a group's counters equal what its members say;
//! - **G2** every instance id names exactly one member, and that member carries it;
//! - **G3** an `Empty` group has no members; any other with members has a leader among them;
//! - **G4** a join request waits only in `PreparingRebalance`, a sync request only in
//!   `CompletingRebalance`: nobody waits for an answer that nothing will bring;
//! - **G5** a `Stable` or `Empty` group that has ever been stored equals its stored image;
//! - **G7** a partition has at most one owner among the members of a consumer group;
//! - **G6** the timer queue holds exactly the deadlines the groups know of.

mod assignor;
mod catalogue;
mod classic;
mod command;
mod consumer;
mod event;
pub mod format;
mod group;
mod offsets;
mod options;
mod partitioning;
mod pattern;
mod pending;
mod shard;
pub mod share;
mod share_group;
mod sight;
mod subscription;
mod targets;
mod timers;
pub mod transactions;

pub use assignor::Assignor;
pub use catalogue::{Catalogue, ConsumerSettings, ShareSettings, TopicFacts};
pub use command::{
    Answer, Command, CommitOffsets, CommitReply, ConsumerHeartbeat, ConsumerHeartbeatReply,
    ConsumerPartitions, DeleteGroupsReply, DeleteOffsets, DeleteOffsetsReply,
    DescribedConsumerGroup, DescribedConsumerMember, DescribedGroup, DescribedMember,
    DescribedShareGroup, DescribedShareMember, FetchOffsets, FetchReply, FetchTopics,
    FetchedOffset, FoundShare, GroupKind, GroupState, Heartbeat, JoinGroup, JoinMember, JoinReply,
    LeaveGroup, LeaveReply, LeavingMember, ListFilter, ListedGroup, OffsetToCommit, Protocol,
    Refused, Reply, ShareHeartbeat, ShareHeartbeatReply, SyncGroup, SyncReply, Ticket,
};
pub use event::{
    ClassicFace, CommittedOffset, ConsumerFact, Current, Event, GroupEpoch, GroupImage,
    MemberImage, MemberState, OffsetKey, OwnedPartitions, Partitions, ResolvedPattern,
    ShareCurrent, ShareFact, ShareMember, Subscription, TargetEpoch, TransactionEnd,
};
pub use options::{GroupOptions, MigrationPolicy};
pub use partitioning::shard_of;
pub use pattern::Pattern;
pub use shard::{After, Census, GroupOrder, Input, Now, Outputs, Shard, Tally};
pub use sight::{Describable, Sight};
