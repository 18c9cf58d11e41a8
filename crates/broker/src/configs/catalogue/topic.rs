//! The configs of a topic (Kafka 4.4), and the broker configs each falls back to.
//!
//! Owns: names, types, defaults, rules and our own words for them.
//! Does not own: what the log does with them (`partition-log`), layering (`layers`).

use super::super::definition::{Definition, Kind, Rule};
use super::Unit::{self, Hours, Milliseconds, Minutes, Same};

/// A topic config and its fallbacks, most precise first: `log.retention.ms` wins over
/// `log.retention.minutes`, which wins over `log.retention.hours`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct TopicDefinition {
    pub(crate) definition: Definition,
    pub(crate) fallbacks: &'static [(&'static str, Unit)],
}

const BUCKET_HOLDS: &str = "acknowledged data is durable in the WAL or the bucket, which no broker \
                            owns: there are no replicas to place, throttle or elect";
const NO_TIERS: &str = "the bucket is the only tier: all data is there already";
const SYNCS_EVERY_WRITE: &str = "every acknowledgement already waits for durable storage";
const NO_LOG_FILES: &str = "data segments hold many partitions and are immutable objects with their \
                            own index; there are no log files to roll, index or preallocate";

const fn topic(
    definition: Definition,
    fallbacks: &'static [(&'static str, Unit)],
) -> TopicDefinition {
    TopicDefinition { definition, fallbacks }
}

const fn config(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    doc: &'static str,
) -> Definition {
    Definition::new(name, kind, Some(default), doc)
}

pub(super) const COMPRESSION_TYPES: &[&str] =
    &["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"];
pub(super) const TIMESTAMP_TYPES: &[&str] = &["CreateTime", "LogAppendTime"];
pub(super) const CLEANUP_POLICIES: &[&str] = &["compact", "delete"];

/// Sorted by name.
pub(crate) const TOPIC_CONFIGS: &[TopicDefinition] = &[
    topic(
        config(
            "cleanup.policy",
            Kind::List,
            "delete",
            "What happens to old records: `delete` drops them by age and size, `compact` keeps the \
             newest record of each key, both do both, and an empty list keeps everything for ever.",
        )
        .rule(Rule::ListOf(CLEANUP_POLICIES)),
        &[("log.cleanup.policy", Same)],
    ),
    topic(
        config(
            "compression.gzip.level",
            Kind::Int,
            "-1",
            "Level for gzip when the topic recompresses: 1 (fast) to 9 (small), -1 for the default.",
        )
        .rule(Rule::GzipLevel),
        &[("compression.gzip.level", Same)],
    ),
    topic(
        config(
            "compression.lz4.level",
            Kind::Int,
            "9",
            "Level for lz4 when the topic recompresses: 1 to 17. Levels above 1 compress as level 1 \
             does, at its speed.",
        )
        .rule(Rule::Between(1, 17)),
        &[("compression.lz4.level", Same)],
    ),
    topic(
        config(
            "compression.type",
            Kind::String,
            "producer",
            "How batches are stored: `producer` keeps what the producer sent, `uncompressed` unpacks, \
             any codec recompresses on arrival at the price of CPU.",
        )
        .rule(Rule::OneOf(COMPRESSION_TYPES)),
        &[("compression.type", Same)],
    ),
    topic(
        config(
            "compression.zstd.level",
            Kind::Int,
            "3",
            "Level for zstd when the topic recompresses: -131072 (fast) to 22 (small).",
        )
        .rule(Rule::Between(-131_072, 22)),
        &[("compression.zstd.level", Same)],
    ),
    topic(
        config(
            "delete.retention.ms",
            Kind::Long,
            "86400000",
            "How long a compacted topic keeps a tombstone (a key without value) so that readers see \
             the deletion, in milliseconds.",
        )
        .rule(Rule::AtLeast(0)),
        &[("log.cleaner.delete.retention.ms", Same)],
    ),
    topic(
        config(
            "errors.deadletterqueue.group.enable",
            Kind::Boolean,
            "false",
            "Whether share groups may use this topic as their dead letter queue (KIP-1191).",
        )
        .no_effect("records that share groups give up are in no dead letter queue yet"),
        &[],
    ),
    topic(
        config(
            "file.delete.delay.ms",
            Kind::Long,
            "60000",
            "Wait before a deleted log file leaves the disk, in milliseconds.",
        )
        .rule(Rule::AtLeast(0))
        .no_effect("objects are collected after a grace period of their own"),
        &[("log.segment.delete.delay.ms", Same)],
    ),
    topic(
        config(
            "flush.messages",
            Kind::Long,
            "9223372036854775807",
            "Records between forced syncs of the log.",
        )
        .rule(Rule::AtLeast(1))
        .no_effect(SYNCS_EVERY_WRITE),
        &[("log.flush.interval.messages", Same)],
    ),
    topic(
        config(
            "flush.ms",
            Kind::Long,
            "9223372036854775807",
            "Time between forced syncs of the log, in milliseconds.",
        )
        .rule(Rule::AtLeast(0))
        .no_effect(SYNCS_EVERY_WRITE),
        &[("log.flush.interval.ms", Same), ("log.flush.scheduler.interval.ms", Same)],
    ),
    topic(
        config(
            "follower.replication.throttled.replicas",
            Kind::List,
            "",
            "Replicas whose follower traffic a reassignment throttles.",
        )
        .rule(Rule::ThrottledReplicas)
        .no_effect(BUCKET_HOLDS),
        &[],
    ),
    topic(
        config(
            "index.interval.bytes",
            Kind::Int,
            "4096",
            "Bytes between two entries of a log file's offset index.",
        )
        .rule(Rule::AtLeast(0))
        .no_effect(NO_LOG_FILES),
        &[("log.index.interval.bytes", Same)],
    ),
    topic(
        config(
            "leader.replication.throttled.replicas",
            Kind::List,
            "",
            "Replicas whose leader traffic a reassignment throttles.",
        )
        .rule(Rule::ThrottledReplicas)
        .no_effect(BUCKET_HOLDS),
        &[],
    ),
    topic(
        config(
            "local.retention.bytes",
            Kind::Long,
            "-2",
            "With tiered storage, bytes of a partition kept on local disk; -2 follows retention.bytes.",
        )
        .rule(Rule::AtLeast(-2))
        .no_effect(NO_TIERS),
        &[("log.local.retention.bytes", Same)],
    ),
    topic(
        config(
            "local.retention.ms",
            Kind::Long,
            "-2",
            "With tiered storage, time a record stays on local disk, in milliseconds; -2 follows \
             retention.ms.",
        )
        .rule(Rule::AtLeast(-2))
        .no_effect(NO_TIERS),
        &[("log.local.retention.ms", Same)],
    ),
    topic(
        config(
            "max.compaction.lag.ms",
            Kind::Long,
            "9223372036854775807",
            "Longest time a record may stay uncompacted in a compacted topic, in milliseconds.",
        )
        .rule(Rule::AtLeast(1)),
        &[("log.cleaner.max.compaction.lag.ms", Same)],
    ),
    topic(
        config(
            "max.message.bytes",
            Kind::Int,
            "1048588",
            "Largest record batch accepted, in bytes as it arrives (compressed if the producer \
             compresses).",
        )
        .rule(Rule::AtLeast(0)),
        &[("message.max.bytes", Same)],
    ),
    topic(
        config(
            "message.timestamp.after.max.ms",
            Kind::Long,
            "3600000",
            "How far a record's timestamp may lie ahead of the broker's clock before it is refused, in \
             milliseconds. Applies to CreateTime.",
        )
        .rule(Rule::AtLeast(0)),
        &[("log.message.timestamp.after.max.ms", Same)],
    ),
    topic(
        config(
            "message.timestamp.before.max.ms",
            Kind::Long,
            "9223372036854775807",
            "How far a record's timestamp may lie behind the broker's clock before it is refused, in \
             milliseconds. Applies to CreateTime.",
        )
        .rule(Rule::AtLeast(0)),
        &[("log.message.timestamp.before.max.ms", Same)],
    ),
    topic(
        config(
            "message.timestamp.type",
            Kind::String,
            "CreateTime",
            "Whether records keep the producer's timestamp (`CreateTime`) or get the broker's \
             (`LogAppendTime`).",
        )
        .rule(Rule::OneOf(TIMESTAMP_TYPES)),
        &[("log.message.timestamp.type", Same)],
    ),
    topic(
        config(
            "min.cleanable.dirty.ratio",
            Kind::Double,
            "0.5",
            "Share of a compacted log that must be uncompacted before it is compacted again, 0 to 1.",
        )
        .rule(Rule::DecimalBetween(0.0, 1.0)),
        &[("log.cleaner.min.cleanable.ratio", Same)],
    ),
    topic(
        config(
            "min.compaction.lag.ms",
            Kind::Long,
            "0",
            "Shortest time a record stays uncompacted in a compacted topic, in milliseconds.",
        )
        .rule(Rule::AtLeast(0)),
        &[("log.cleaner.min.compaction.lag.ms", Same)],
    ),
    topic(
        config(
            "min.insync.replicas",
            Kind::Int,
            "1",
            "Replicas that must hold a write before acks=all is answered. With 2 or more, tools that compare it with \
             the one replica they are told of show every partition of the topic as under it (kafka-topics \
             --under-min-isr-partitions).",
        )
        .rule(Rule::AtLeast(1))
        .no_effect(BUCKET_HOLDS),
        &[("min.insync.replicas", Same)],
    ),
    topic(
        config(
            "preallocate",
            Kind::Boolean,
            "false",
            "Whether log files get their full size on disk at once.",
        )
        .no_effect(NO_LOG_FILES),
        &[("log.preallocate", Same)],
    ),
    topic(
        config(
            "remote.copy.lag.bytes",
            Kind::Long,
            "-1",
            "With tiered storage, bytes that may stay uncopied; -1 follows local retention.",
        )
        .rule(Rule::AtLeast(-1))
        .no_effect(NO_TIERS),
        &[],
    ),
    topic(
        config(
            "remote.copy.lag.ms",
            Kind::Long,
            "0",
            "With tiered storage, time a closed log file may stay uncopied, in milliseconds; -1 \
             follows local retention.",
        )
        .rule(Rule::AtLeast(-1))
        .no_effect(NO_TIERS),
        &[],
    ),
    topic(
        config(
            "remote.log.copy.disable",
            Kind::Boolean,
            "false",
            "With tiered storage, whether copying to the remote tier is paused.",
        )
        .no_effect(NO_TIERS),
        &[],
    ),
    topic(
        config(
            "remote.log.delete.on.disable",
            Kind::Boolean,
            "false",
            "With tiered storage, whether turning it off deletes the remote data.",
        )
        .no_effect(NO_TIERS),
        &[],
    ),
    topic(
        config(
            "remote.storage.enable",
            Kind::Boolean,
            "false",
            "Whether the topic uses tiered storage.",
        )
        .no_effect(NO_TIERS),
        &[],
    ),
    topic(
        config(
            "retention.bytes",
            Kind::Long,
            "-1",
            "Size a partition may reach before its oldest records are deleted, in bytes; -1 for no \
             limit. Applies to cleanup.policy=delete.",
        ),
        &[("log.retention.bytes", Same)],
    ),
    topic(
        config(
            "retention.ms",
            Kind::Long,
            "604800000",
            "Time records are kept, in milliseconds; -1 for ever. Applies to cleanup.policy=delete. Records without a \
             timestamp go with the next ones behind them that have one.",
        )
        .rule(Rule::AtLeast(-1)),
        &[
            ("log.retention.ms", Milliseconds),
            ("log.retention.minutes", Minutes),
            ("log.retention.hours", Hours),
        ],
    ),
    topic(
        config(
            "segment.bytes",
            Kind::Int,
            "1073741824",
            "Of a compacted topic, how much of the newest data stays uncompacted at most, in bytes, unless \
             it is older than segment.ms. There are no log files to roll.",
        )
        .rule(Rule::AtLeast(1024 * 1024)),
        &[("log.segment.bytes", Same)],
    ),
    topic(
        config(
            "segment.index.bytes",
            Kind::Int,
            "10485760",
            "Size of a log file's offset index, in bytes.",
        )
        .rule(Rule::AtLeast(4))
        .no_effect(NO_LOG_FILES),
        &[("log.index.size.max.bytes", Same)],
    ),
    topic(
        config(
            "segment.jitter.ms",
            Kind::Long,
            "0",
            "Random shortening of segment.ms, so that log files do not roll together, in milliseconds.",
        )
        .rule(Rule::AtLeast(0))
        .no_effect(NO_LOG_FILES),
        &[("log.roll.jitter.ms", Milliseconds), ("log.roll.jitter.hours", Hours)],
    ),
    topic(
        config(
            "segment.ms",
            Kind::Long,
            "604800000",
            "Of a compacted topic, how long data that segment.bytes hold stays uncompacted, in \
             milliseconds. There are no log files to roll.",
        )
        .rule(Rule::AtLeast(1)),
        &[("log.roll.ms", Milliseconds), ("log.roll.hours", Hours)],
    ),
    topic(
        config(
            "unclean.leader.election.enable",
            Kind::Boolean,
            "false",
            "Whether a replica that may miss acknowledged records can become leader.",
        )
        .no_effect(BUCKET_HOLDS),
        &[("unclean.leader.election.enable", Same)],
    ),
];

/// Configs Kafka 4.0 removed, refused by name so that nobody believes they still act.
pub(crate) const REMOVED_TOPIC_CONFIGS: &[&str] = &[
    "message.downconversion.enable",
    "message.format.version",
    "message.timestamp.difference.max.ms",
];
