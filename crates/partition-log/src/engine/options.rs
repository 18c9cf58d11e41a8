//! How one broker's log behaves.

use crate::compaction::CompactionOptions;
use crate::merge::MergeOptions;
use crate::wal::WalOptions;
use std::path::PathBuf;
use std::time::Duration;
use vocabulary::{BrokerEpoch, BrokerId, ByteCount};

/// Tunable per broker; brokers of one cluster may differ.
#[derive(Debug, Clone, PartialEq)]
pub struct LogOptions {
    pub wal: WalOptions,
    /// Flush once the tails hold this much. Larger: fewer and larger objects, longer runs, more WAL
    /// and memory.
    pub flush_bytes: ByteCount,
    /// Flush once the oldest batch of a tail waited this long. Larger: fewer and larger objects,
    /// more WAL kept, later retention.
    pub flush_age: Duration,
    /// A data segment's payload, and what one upload holds in memory. Larger: fewer objects.
    pub segment_bytes_max: ByteCount,
    /// A data segment's batches: its index takes about 30 bytes of object and 72 of cache for each.
    pub segment_batches_max: usize,
    /// A partition with this much to flush gets a segment of its own.
    pub own_segment_bytes_min: ByteCount,
    /// Data segments uploaded at once. Larger: hides bucket latency, more memory.
    pub uploads_in_flight_max: usize,
    /// Appends wait beyond this much unflushed data: the WAL's disk is what it costs.
    pub unflushed_bytes_max: ByteCount,
    /// Appends wait beyond this many unflushed batches: about 200 bytes of memory each.
    pub unflushed_batches_max: u64,
    /// Batches kept in memory for readers near the end, over all partitions. What is beyond is read
    /// from the WAL or the bucket.
    pub tail_cache_bytes: ByteCount,
    /// Spans of segments kept in memory for readers of committed data: one half for readers near the
    /// end, one for lagging ones. Larger: fewer requests when several groups read the same.
    pub block_cache_bytes: ByteCount,
    /// The most that is read ahead of one reader. Larger: fewer and larger requests, more speed from a
    /// store far away, more of `block_cache_bytes` for each lagging reader.
    pub read_ahead_bytes: ByteCount,
    /// What lagging readers may have under way at once. Larger: a faster backfill, more memory and
    /// network taken from everybody else.
    pub lagging_bytes_max: ByteCount,
    /// Where spans are kept on a local disk besides; `None` for nowhere.
    pub disk_cache_dir: Option<PathBuf>,
    /// How much of that disk.
    pub disk_cache_bytes: ByteCount,
    /// Indexes of data segments kept in memory.
    pub index_cache_bytes: ByteCount,
    /// How long a read waits for the bucket before it answers "unavailable".
    pub read_timeout: Duration,
    /// producer.id.expiration.ms
    pub producer_expiration_ms: i64,
    pub merge: MergeOptions,
    /// As of the start; see [`crate::LogEngine::set_compaction`].
    pub compaction: CompactionOptions,
    /// log.retention.check.interval.ms
    pub retention_check_interval: Duration,
    /// How often garbage segments are looked for.
    pub collection_interval: Duration,
    /// How long a segment without live runs stays, for readers under way (file.delete.delay.ms); half as long while the
    /// metadata's time catches up with a clock. Shorter: readers look again more often, nothing else.
    pub collection_grace: Duration,
    /// How often the bucket is compared with the metadata.
    pub orphan_interval: Duration,
    /// Objects younger than this are never swept. Half of it is the longest a flush insists on
    /// committing an object that it has written, so it must stay far above a metadata outage.
    pub orphan_grace: Duration,
    /// How long a clean stop tries to flush the tails, so that the next start finds an empty WAL.
    pub shutdown_flush_max: Duration,
}

impl LogOptions {
    /// Defaults for a `file:` WAL, where memory matters more than requests.
    pub fn new(broker: BrokerId, epoch: BrokerEpoch) -> LogOptions {
        LogOptions {
            wal: WalOptions::new(broker, epoch),
            flush_bytes: ByteCount::mib(64),
            flush_age: Duration::from_secs(60),
            segment_bytes_max: ByteCount::mib(32),
            segment_batches_max: 128 * 1024,
            own_segment_bytes_min: ByteCount::mib(8),
            uploads_in_flight_max: 2,
            unflushed_bytes_max: ByteCount::mib(8 * 1024),
            unflushed_batches_max: 2_000_000,
            tail_cache_bytes: ByteCount::mib(64),
            block_cache_bytes: ByteCount::mib(32),
            read_ahead_bytes: ByteCount::mib(12),
            lagging_bytes_max: ByteCount::mib(32),
            disk_cache_dir: None,
            disk_cache_bytes: ByteCount(0),
            index_cache_bytes: ByteCount::mib(32),
            read_timeout: Duration::from_secs(10),
            producer_expiration_ms: 86_400_000,
            merge: MergeOptions::default(),
            compaction: CompactionOptions::default(),
            retention_check_interval: Duration::from_secs(300),
            collection_interval: Duration::from_secs(30),
            collection_grace: Duration::from_secs(60),
            orphan_interval: Duration::from_secs(3600),
            orphan_grace: Duration::from_secs(3600),
            shutdown_flush_max: Duration::from_secs(10),
        }
    }

    /// What a WAL in the bucket wants instead: there requests cost more than memory. Flushes come from
    /// memory, a segment is as large as one PUT may be, and a partition gets one of its own only when it
    /// fills half of it: otherwise flushing 31 partitions alone could cost 124 PUTs per GiB.
    pub fn for_bucket_wal(self) -> LogOptions {
        LogOptions {
            flush_bytes: ByteCount::mib(256),
            segment_bytes_max: ByteCount::mib(64),
            own_segment_bytes_min: ByteCount::mib(32),
            // What is flushed and what arrives meanwhile: nothing is read back from the bucket.
            tail_cache_bytes: ByteCount::mib(320),
            wal: WalOptions {
                // What a group may grow to at high rates, and eight of those under way.
                group_bytes_max: ByteCount::mib(16),
                reserved_bytes_max: ByteCount::mib(128),
                drain_max: Duration::from_secs(30),
                ..self.wal
            },
            ..self
        }
    }

    /// All problems at once, so that an operator edits the file once.
    pub fn problems(&self) -> Vec<&'static str> {
        let mut problems = Vec::new();
        let mut check = |holds: bool, problem| {
            if !holds {
                problems.push(problem);
            }
        };
        check(self.flush_bytes.0 > 0, "flush_bytes must be positive");
        check(self.segment_bytes_max.0 > 0, "segment_bytes_max must be positive");
        check(self.segment_batches_max > 0, "segment_batches_max must be positive");
        check(self.uploads_in_flight_max > 0, "uploads_in_flight_max must be positive");
        check(self.unflushed_batches_max > 0, "unflushed_batches_max must be positive");
        check(
            self.flush_bytes <= self.unflushed_bytes_max,
            "unflushed_bytes_max must be at least flush_bytes, or appends wait for ever",
        );
        check(0 < self.lagging_bytes_max.0, "lagging_bytes_max must be positive");
        check(
            self.disk_cache_dir.is_none() || 0 < self.disk_cache_bytes.0,
            "disk_cache_bytes must be positive where disk_cache_dir is set",
        );
        check(!self.flush_age.is_zero(), "flush_age must be positive");
        check(!self.retention_check_interval.is_zero(), "the retention check needs an interval");
        check(!self.collection_interval.is_zero(), "the collection needs an interval");
        check(!self.orphan_interval.is_zero(), "the orphan sweep needs an interval");
        check(
            Duration::from_secs(60) <= self.orphan_grace,
            "orphan_grace below a minute would sweep segments that are being committed",
        );
        problems.extend(self.merge.problems());
        problems.extend(self.compaction.problems());
        problems
    }
}
