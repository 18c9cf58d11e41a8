//! What an operator may set, and the limits nobody passes.

use crate::assignor::Assignor;

/// Options of both group protocols and of committed offsets, by their Kafka names, and our
/// own bounds. The same for every shard of a broker; brokers of one cluster may differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupOptions {
    /// `group.min.session.timeout.ms`. Larger: fewer heartbeats, slower detection of dead members.
    pub session_timeout_ms_min: i32,
    /// `group.max.session.timeout.ms`. Larger: a dead member may keep its partitions longer.
    pub session_timeout_ms_max: i32,
    /// `group.initial.rebalance.delay.ms`: how long a new group waits for further members before
    /// its first generation. Larger: fewer rebalances at start-up, a later first record.
    pub initial_rebalance_delay_ms: i32,
    /// `group.max.size`: members of one group.
    pub group_members_max: usize,
    /// `offset.metadata.max.bytes`: metadata of one committed offset, in UTF-16 units as Kafka
    /// counts it.
    pub offset_metadata_max: usize,
    /// `offsets.retention.minutes`, in milliseconds: how long offsets outlive their group.
    pub offsets_retention_ms: i64,
    /// `offsets.retention.check.interval.ms`: how often expired offsets are looked for.
    pub offsets_retention_check_interval_ms: i64,
    /// How long a member that joined for the first time may wait in a rebalance before it is
    /// taken for gone: it cannot heartbeat yet, and its connection is not watched.
    pub new_member_wait_ms: i32,
    /// Members with an id but without a completed join, per group. Each lives for one session
    /// timeout; beyond this many, a join is refused as if the group were full.
    pub pending_members_max: usize,
    /// Groups of one shard that have members or a stored generation. Beyond it a new group is
    /// refused with COORDINATOR_NOT_AVAILABLE, which clients retry.
    pub groups_max: usize,
    /// Protocol metadata of all members of one group, in bytes: it all travels in one answer to
    /// the leader. Beyond it a join is refused with GROUP_MAX_SIZE_REACHED.
    pub group_metadata_bytes_max: usize,
    /// `group.consumer.regex.refresh.interval.ms`: how old what expressions stand for may get. Larger: a change of
    /// ACLs takes effect later.
    pub regex_refresh_interval_ms: i64,
    /// `group.consumer.max.size`: members of one consumer group.
    pub consumer_group_members_max: usize,
    /// `group.consumer.assignors`, the default first. Never empty.
    pub consumer_assignors: Vec<Assignor>,
    /// `group.share.max.size`: members of one share group.
    pub share_group_members_max: usize,
    /// `group.consumer.migration.policy`.
    pub migration_policy: MigrationPolicy,
    /// The texts of one member of a consumer group, in bytes: its id and the topics it names.
    pub subscription_bytes_max: usize,
    /// Encoded records of one atomic step, in bytes. A larger offset commit is refused with
    /// INVALID_COMMIT_OFFSET_SIZE, a larger assignment with UNKNOWN_SERVER_ERROR, as Kafka does
    /// when a record passes the topic's `max.message.bytes`.
    pub step_bytes_max: usize,
}

/// How a group may change its protocol while members are in it (KIP-848).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MigrationPolicy {
    Bidirectional,
    /// From the classic to the consumer protocol.
    Upgrade,
    /// From the consumer to the classic protocol.
    Downgrade,
    Disabled,
}

impl MigrationPolicy {
    pub fn from_name(name: &str) -> Option<MigrationPolicy> {
        match name {
            "bidirectional" => Some(MigrationPolicy::Bidirectional),
            "upgrade" => Some(MigrationPolicy::Upgrade),
            "downgrade" => Some(MigrationPolicy::Downgrade),
            "disabled" => Some(MigrationPolicy::Disabled),
            _ => None,
        }
    }

    pub(crate) fn upgrades(self) -> bool {
        matches!(self, MigrationPolicy::Bidirectional | MigrationPolicy::Upgrade)
    }

    pub(crate) fn downgrades(self) -> bool {
        matches!(self, MigrationPolicy::Bidirectional | MigrationPolicy::Downgrade)
    }
}

const MIB: usize = 1024 * 1024;

impl Default for GroupOptions {
    fn default() -> GroupOptions {
        GroupOptions {
            session_timeout_ms_min: 6_000,
            session_timeout_ms_max: 1_800_000,
            initial_rebalance_delay_ms: 3_000,
            group_members_max: i32::MAX as usize,
            offset_metadata_max: 4_096,
            offsets_retention_ms: 7 * 24 * 60 * 60 * 1_000,
            offsets_retention_check_interval_ms: 600_000,
            new_member_wait_ms: 300_000,
            pending_members_max: 10_000,
            groups_max: 200_000,
            group_metadata_bytes_max: 32 * MIB,
            regex_refresh_interval_ms: 600_000,
            consumer_group_members_max: i32::MAX as usize,
            consumer_assignors: vec![Assignor::Uniform, Assignor::Range],
            share_group_members_max: 200,
            migration_policy: MigrationPolicy::Bidirectional,
            subscription_bytes_max: MIB,
            step_bytes_max: 8 * MIB,
        }
    }
}
