//! What a topic's configs mean to its partitions. The broker resolves Kafka's names into this.

use protocol::records::{TargetCompression, TimestampType};

/// `cleanup.policy`. Neither: records are kept for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cleanup {
    pub delete: bool,
    pub compact: bool,
}

/// Settings of one topic, shared by its partitions. `Default` is Kafka's.
#[derive(Debug, Clone, PartialEq)]
pub struct LogSettings {
    pub cleanup: Cleanup,
    /// `retention.ms`; `None` keeps by time for ever.
    pub retention_ms: Option<i64>,
    /// `retention.bytes` of one partition; `None` keeps any size.
    pub retention_bytes: Option<u64>,
    /// `segment.bytes`: of what key compaction leaves alone as active, at most.
    pub segment_bytes: u64,
    /// `segment.ms`: for so long, at most, key compaction leaves a record alone as active.
    pub segment_ms: i64,
    /// `max.message.bytes`: of one batch as sent.
    pub message_bytes_max: usize,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`.
    pub timestamp_after_max_ms: i64,
    /// `compression.type` with its level.
    pub compression: TargetCompression,
    /// `delete.retention.ms`: of tombstones.
    pub delete_retention_ms: i64,
    /// `min.compaction.lag.ms`.
    pub min_compaction_lag_ms: i64,
    /// `max.compaction.lag.ms`.
    pub max_compaction_lag_ms: i64,
    /// `min.cleanable.dirty.ratio`, 0 to 1.
    pub min_cleanable_dirty_ratio: f64,
}

impl Default for LogSettings {
    fn default() -> LogSettings {
        LogSettings {
            cleanup: Cleanup { delete: true, compact: false },
            retention_ms: Some(604_800_000),
            retention_bytes: None,
            segment_bytes: 1 << 30,
            segment_ms: 604_800_000,
            message_bytes_max: 1_048_588,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 3_600_000,
            compression: TargetCompression::Producer,
            delete_retention_ms: 86_400_000,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: i64::MAX,
            min_cleanable_dirty_ratio: 0.5,
        }
    }
}
