//! Broker configs about topics and logs: creation, retention, flushing, compaction, tiering.
//!
//! Owns: names, types, defaults, rules and our own words for them.
//! Does not own: the topic configs they are the defaults of (`topic`).

use super::super::definition::{Definition, Kind, Rule};
use super::topic::{CLEANUP_POLICIES, COMPRESSION_TYPES, TIMESTAMP_TYPES};
use super::{boolean, double, int, list, long, text, unset};

const NO_LOG_FILES: &str = "there are no log files: see the topic config of the same meaning";
const SYNCS_EVERY_WRITE: &str = "every acknowledgement already waits for durable storage";
const NO_REPLICAS: &str = "durability comes from the WAL and the bucket, not from replicas";
const NO_TIERS: &str = "the bucket is the only tier: all data is there already";
const ONE_BUCKET: &str = "records live in the bucket and the WAL: see aquifer.bucket, aquifer.wal and \
                          aquifer.data.dir";
const NO_PLUGINS: &str = "Java plugins cannot be loaded";

/// Unsorted; the catalogue sorts.
pub(super) const CONFIGS: &[Definition] = &[
    boolean(
        "auto.create.topics.enable",
        "true",
        "Whether asking for the metadata of an absent topic creates it, when the client allows that.",
    ),
    boolean("delete.topic.enable", "true", "Whether topics can be deleted."),
    int("num.partitions", "1", "Partitions of a topic created without a count.")
        .rule(Rule::AtLeast(1)),
    int(
        "default.replication.factor",
        "1",
        "Replication factor of a topic created without one.",
    )
    .rule(Rule::Between(1, 32_767))
    .no_effect("one replica, the leader, is reported whatever is asked for"),
    list(
        "log.cleanup.policy",
        "delete",
        "Default of the topic config cleanup.policy: delete, compact, both or empty.",
    )
    .rule(Rule::ListOf(CLEANUP_POLICIES))
    .dynamic(),
    unset(
        "log.retention.ms",
        Kind::Long,
        "Time records are kept, in milliseconds; -1 for ever. Wins over minutes and hours.",
    )
    .rule(Rule::AtLeast(-1))
    .dynamic(),
    unset(
        "log.retention.minutes",
        Kind::Int,
        "Time records are kept, in minutes; -1 for ever. Wins over hours.",
    )
    .rule(Rule::AtLeast(-1)),
    int("log.retention.hours", "168", "Time records are kept, in hours; -1 for ever.")
        .rule(Rule::AtLeast(-1)),
    long(
        "log.retention.bytes",
        "-1",
        "Size of a partition before its oldest records are deleted, in bytes; -1 for no limit.",
    )
    .dynamic(),
    long(
        "log.retention.check.interval.ms",
        "300000",
        "Time between two looks for records past retention, in milliseconds.",
    )
    .rule(Rule::AtLeast(1)),
    int(
        "log.segment.bytes",
        "1073741824",
        "Default of the topic config segment.bytes, in bytes.",
    )
    .rule(Rule::AtLeast(1024 * 1024))
    .dynamic(),
    unset("log.roll.ms", Kind::Long, "Default of segment.ms, in milliseconds. Wins over hours.")
        .rule(Rule::AtLeast(1))
        .dynamic(),
    int("log.roll.hours", "168", "Default of segment.ms, in hours.").rule(Rule::AtLeast(1)),
    unset("log.roll.jitter.ms", Kind::Long, "Default of segment.jitter.ms, in milliseconds.")
        .rule(Rule::AtLeast(0))
        .dynamic()
        .no_effect(NO_LOG_FILES),
    int("log.roll.jitter.hours", "0", "Default of segment.jitter.ms, in hours.")
        .rule(Rule::AtLeast(0))
        .no_effect(NO_LOG_FILES),
    int("log.index.size.max.bytes", "10485760", "Default of segment.index.bytes.")
        .rule(Rule::AtLeast(4))
        .dynamic()
        .no_effect(NO_LOG_FILES),
    int("log.index.interval.bytes", "4096", "Default of index.interval.bytes.")
        .rule(Rule::AtLeast(0))
        .dynamic()
        .no_effect(NO_LOG_FILES),
    boolean("log.preallocate", "false", "Default of preallocate.")
        .dynamic()
        .no_effect(NO_LOG_FILES),
    long("log.segment.delete.delay.ms", "60000", "Default of file.delete.delay.ms.")
        .rule(Rule::AtLeast(0))
        .dynamic()
        .no_effect(NO_LOG_FILES),
    long("log.flush.interval.messages", "9223372036854775807", "Default of flush.messages.")
        .rule(Rule::AtLeast(1))
        .dynamic()
        .no_effect(SYNCS_EVERY_WRITE),
    unset("log.flush.interval.ms", Kind::Long, "Default of flush.ms, in milliseconds.")
        .rule(Rule::AtLeast(0))
        .dynamic()
        .no_effect(SYNCS_EVERY_WRITE),
    long(
        "log.flush.scheduler.interval.ms",
        "9223372036854775807",
        "Time between two looks for logs to sync, in milliseconds.",
    )
    .no_effect(SYNCS_EVERY_WRITE),
    int(
        "log.flush.offset.checkpoint.interval.ms",
        "60000",
        "Time between two recovery point checkpoints, in milliseconds.",
    )
    .rule(Rule::AtLeast(0))
    .no_effect(SYNCS_EVERY_WRITE),
    int(
        "log.flush.start.offset.checkpoint.interval.ms",
        "60000",
        "Time between two log start offset checkpoints, in milliseconds.",
    )
    .rule(Rule::AtLeast(0))
    .no_effect(SYNCS_EVERY_WRITE),
    int(
        "message.max.bytes",
        "1048588",
        "Default of the topic config max.message.bytes: the largest record batch, in bytes.",
    )
    .rule(Rule::AtLeast(0))
    .dynamic(),
    text("compression.type", "producer", "Default of the topic config compression.type.")
        .rule(Rule::OneOf(COMPRESSION_TYPES))
        .dynamic(),
    int("compression.gzip.level", "-1", "Default of the topic config compression.gzip.level.")
        .rule(Rule::GzipLevel)
        .dynamic(),
    int("compression.lz4.level", "9", "Default of the topic config compression.lz4.level.")
        .rule(Rule::Between(1, 17))
        .dynamic(),
    int("compression.zstd.level", "3", "Default of the topic config compression.zstd.level.")
        .rule(Rule::Between(-131_072, 22))
        .dynamic(),
    text("log.message.timestamp.type", "CreateTime", "Default of message.timestamp.type.")
        .rule(Rule::OneOf(TIMESTAMP_TYPES))
        .dynamic(),
    long(
        "log.message.timestamp.before.max.ms",
        "9223372036854775807",
        "Default of message.timestamp.before.max.ms, in milliseconds.",
    )
    .rule(Rule::AtLeast(0))
    .dynamic(),
    long(
        "log.message.timestamp.after.max.ms",
        "3600000",
        "Default of message.timestamp.after.max.ms, in milliseconds.",
    )
    .rule(Rule::AtLeast(0))
    .dynamic(),
    int(
        "min.insync.replicas",
        "1",
        "Default of the topic config min.insync.replicas. With 2 or more, tools show every partition as under it \
         (kafka-topics --under-min-isr-partitions).",
    )
        .rule(Rule::AtLeast(1))
        .dynamic()
        .no_effect(NO_REPLICAS),
    boolean(
        "unclean.leader.election.enable",
        "false",
        "Default of the topic config unclean.leader.election.enable.",
    )
    .dynamic()
    .no_effect(NO_REPLICAS),
    int(
        "producer.id.expiration.ms",
        "86400000",
        "Time after a producer's last write when its sequence numbers are forgotten, in milliseconds.",
    )
    .rule(Rule::AtLeast(1)),
    int(
        "producer.id.expiration.check.interval.ms",
        "600000",
        "Time between two looks for producers to forget, in milliseconds.",
    )
    .rule(Rule::AtLeast(1))
    .no_effect("expired producers are dropped when their partition is looked at"),
    // Compaction.
    boolean("log.cleaner.enable", "true", "Whether compaction runs."),
    int("log.cleaner.threads", "1", "Threads for compaction.")
        .rule(Rule::AtLeast(0))
        .dynamic()
        .no_effect("one partition at a time is compacted"),
    double("log.cleaner.io.max.bytes.per.second", "1.7976931348623157E308", "Compaction IO limit.")
        .dynamic()
        .no_effect("compaction keeps the pace of merging: aquifer.merge.bytes.per.second.max"),
    long("log.cleaner.dedupe.buffer.size", "134217728", "Memory to tell keys apart, in bytes.")
        .rule(Rule::AtLeast(1))
        .dynamic(),
    int("log.cleaner.io.buffer.size", "524288", "Memory for compaction IO, in bytes.")
        .rule(Rule::AtLeast(0))
        .dynamic()
        .no_effect("what is read at once has a fixed size: two times 4 MiB"),
    double("log.cleaner.io.buffer.load.factor", "0.9", "How full the key buffer may get.")
        .dynamic(),
    long("log.cleaner.backoff.ms", "15000", "Rest when nothing needs compaction, in milliseconds.")
        .rule(Rule::AtLeast(0))
        .dynamic(),
    double("log.cleaner.min.cleanable.ratio", "0.5", "Default of min.cleanable.dirty.ratio.")
        .rule(Rule::DecimalBetween(0.0, 1.0))
        .dynamic(),
    long("log.cleaner.delete.retention.ms", "86400000", "Default of delete.retention.ms.")
        .rule(Rule::AtLeast(0))
        .dynamic(),
    long("log.cleaner.min.compaction.lag.ms", "0", "Default of min.compaction.lag.ms.")
        .rule(Rule::AtLeast(0))
        .dynamic(),
    long(
        "log.cleaner.max.compaction.lag.ms",
        "9223372036854775807",
        "Default of max.compaction.lag.ms.",
    )
    .rule(Rule::AtLeast(1))
    .dynamic(),
    // Where Kafka would keep logs.
    list("log.dir", "/tmp/kafka-logs", "Kafka's log directory.").no_effect(ONE_BUCKET),
    unset("log.dirs", Kind::List, "Kafka's log directories.").no_effect(ONE_BUCKET),
    unset("metadata.log.dir", Kind::String, "Kafka's metadata log directory.")
        .no_effect(ONE_BUCKET),
    long("log.dir.failure.timeout.ms", "30000", "Time to report a failed log directory.")
        .rule(Rule::AtLeast(1))
        .no_effect(ONE_BUCKET),
    int("num.recovery.threads.per.data.dir", "2", "Threads to recover logs at start.")
        .rule(Rule::AtLeast(1))
        .dynamic()
        .no_effect("recovery reads only the indexes of the WAL"),
    unset("create.topic.policy.class.name", Kind::Class, "Java class that vets topic creation.")
        .refused(NO_PLUGINS),
    unset("alter.config.policy.class.name", Kind::Class, "Java class that vets config changes.")
        .refused(NO_PLUGINS),
    // Tiered storage.
    boolean("remote.log.storage.system.enable", "false", "Whether tiered storage is on.")
        .no_effect(NO_TIERS),
    unset("remote.log.storage.manager.class.name", Kind::String, "Java class of the remote tier.")
        .no_effect(NO_TIERS),
    unset("remote.log.storage.manager.class.path", Kind::String, "Class path of that class.")
        .no_effect(NO_TIERS),
    text(
        "remote.log.metadata.manager.class.name",
        "org.apache.kafka.server.log.remote.metadata.storage.TopicBasedRemoteLogMetadataManager",
        "Java class of the remote tier's metadata.",
    )
    .no_effect(NO_TIERS),
    unset("remote.log.metadata.manager.class.path", Kind::String, "Class path of that class.")
        .no_effect(NO_TIERS),
    unset("remote.log.metadata.manager.listener.name", Kind::String, "Listener it uses.")
        .no_effect(NO_TIERS),
    long("remote.log.index.file.cache.total.size.bytes", "1073741824", "Remote index cache.")
        .no_effect(NO_TIERS),
    long("remote.log.manager.copy.max.bytes.per.second", "9223372036854775807", "Copy limit.")
        .no_effect(NO_TIERS),
    long("remote.log.manager.fetch.max.bytes.per.second", "9223372036854775807", "Fetch limit.")
        .no_effect(NO_TIERS),
    int("remote.fetch.max.wait.ms", "500", "Longest wait for the remote tier.")
        .no_effect(NO_TIERS),
    int("remote.log.reader.threads", "10", "Threads that read the remote tier.")
        .no_effect(NO_TIERS),
    int("remote.log.reader.max.pending.tasks", "100", "Reads queued for the remote tier.")
        .no_effect(NO_TIERS),
    long("remote.log.manager.task.interval.ms", "30000", "Time between remote tier tasks.")
        .no_effect(NO_TIERS),
    int("remote.log.manager.thread.pool.size", "2", "Threads of remote tier tasks.")
        .no_effect(NO_TIERS),
    int("remote.log.manager.copier.thread.pool.size", "10", "Threads that copy to it.")
        .dynamic()
        .no_effect(NO_TIERS),
    int("remote.log.manager.expiration.thread.pool.size", "10", "Threads that delete from it.")
        .dynamic()
        .no_effect(NO_TIERS),
    int("remote.log.manager.follower.thread.pool.size", "2", "Threads of followers for it.")
        .dynamic()
        .no_effect(NO_TIERS),
    int("remote.log.manager.copy.quota.window.num", "11", "Windows the copy limit looks at.")
        .no_effect(NO_TIERS),
    int("remote.log.manager.copy.quota.window.size.seconds", "1", "Length of such a window.")
        .no_effect(NO_TIERS),
    int("remote.log.manager.fetch.quota.window.num", "11", "Windows the fetch limit looks at.")
        .no_effect(NO_TIERS),
    int("remote.log.manager.fetch.quota.window.size.seconds", "1", "Length of such a window.")
        .no_effect(NO_TIERS),
    long("remote.list.offsets.request.timeout.ms", "30000", "Wait for a lookup in it.")
        .dynamic()
        .no_effect(NO_TIERS),
    int("remote.log.metadata.custom.metadata.max.bytes", "128", "Largest note of a plugin.")
        .no_effect(NO_TIERS),
    text("remote.log.storage.manager.impl.prefix", "rsm.config.", "Prefix of a plugin's configs.")
        .no_effect(NO_TIERS),
    text("remote.log.metadata.manager.impl.prefix", "rlmm.config.", "Likewise, of its metadata's.")
        .no_effect(NO_TIERS),
    list("cordoned.log.dirs", "", "Log directories that get no new partitions.")
        .of_each_broker()
        .no_effect(ONE_BUCKET),
    long("log.local.retention.ms", "-2", "Default of local.retention.ms.")
        .rule(Rule::AtLeast(-2))
        .dynamic()
        .no_effect(NO_TIERS),
    long("log.local.retention.bytes", "-2", "Default of local.retention.bytes.")
        .rule(Rule::AtLeast(-2))
        .dynamic()
        .no_effect(NO_TIERS),
];
