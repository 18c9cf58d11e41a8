//! What a broker was told about share groups (KIP-932).

use std::time::Duration;

use super::Resolver;

/// Share groups: members, locks, and where their state is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareConfig {
    pub members_max: usize,
    pub session_timeout: Duration,
    pub heartbeat_interval: Duration,
    pub sessions_max: usize,
    pub delivery_count_limit: i32,
    /// Records of one share-partition that are locked at once.
    pub partition_locks_max: i32,
    pub record_lock: Duration,
    pub state_topic_partitions: i32,
    pub state_topic_segment_bytes: u64,
    pub updates_per_snapshot: i32,
}

impl Resolver {
    pub(super) fn share(&mut self) -> ShareConfig {
        for name in self.list("group.share.assignors") {
            if name != "simple" {
                self.problems
                    .push(format!("group.share.assignors: {name:?} is not served, simple is"));
            }
        }
        ShareConfig {
            members_max: self.size("group.share.max.size"),
            session_timeout: self.milliseconds("group.share.session.timeout.ms"),
            heartbeat_interval: self.milliseconds("group.share.heartbeat.interval.ms"),
            sessions_max: self.size("group.share.max.share.sessions"),
            delivery_count_limit: self.int("group.share.delivery.count.limit"),
            partition_locks_max: self.int("group.share.partition.max.record.locks"),
            record_lock: self.milliseconds("group.share.record.lock.duration.ms"),
            state_topic_partitions: self.int("share.coordinator.state.topic.num.partitions"),
            state_topic_segment_bytes: self.bytes("share.coordinator.state.topic.segment.bytes"),
            updates_per_snapshot: self
                .int("share.coordinator.snapshot.update.records.per.snapshot"),
        }
    }
}
