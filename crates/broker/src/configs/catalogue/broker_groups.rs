//! Broker configs about groups, committed offsets, transactions and share groups.
//!
//! Owns: names, types, defaults, rules and our own words for them.
//! Does not own: the group configs that override some of them (`group`).

use super::super::definition::{Definition, Kind, Rule};
use super::{boolean, int, list, long, short, text, unset};

const OWN_THREADS: &str = "the coordinator runs on the broker's runtime";
const BUCKET_HOLDS: &str = "the internal topic is as durable as any other: no replicas to place";
const NO_STREAMS: &str = "streams groups are not served yet";
const ALWAYS_VERIFIED: &str = "writes always check their transaction";
const NO_TWO_PHASES: &str = "two-phase commit is not served yet";
const LOADS_ALL: &str = "the coordinator reads its partition in pieces sized by the read path";

/// Unsorted; the catalogue sorts.
pub(super) const CONFIGS: &[Definition] = &[
    // Classic groups.
    int(
        "group.min.session.timeout.ms",
        "6000",
        "Shortest session timeout a classic member may ask for, in milliseconds.",
    )
    .rule(Rule::AtLeast(0)),
    int(
        "group.max.session.timeout.ms",
        "1800000",
        "Longest session timeout a classic member may ask for, in milliseconds.",
    )
    .rule(Rule::AtLeast(0)),
    int(
        "group.initial.rebalance.delay.ms",
        "3000",
        "How long a new classic group waits for more members before its first rebalance, in \
         milliseconds.",
    )
    .rule(Rule::AtLeast(0)),
    int("group.max.size", "2147483647", "Members a classic group may have.").rule(Rule::AtLeast(1)),
    list(
        "group.coordinator.rebalance.protocols",
        "classic,consumer,streams",
        "Group protocols served.",
    )
    .no_effect("classic, consumer and share groups are served, whatever is listed"),
    int("group.coordinator.threads", "4", "Threads of the group coordinator.")
        .rule(Rule::AtLeast(1))
        .no_effect(OWN_THREADS),
    int("group.coordinator.background.threads", "2", "Threads of its work in the background.")
        .rule(Rule::AtLeast(1))
        .no_effect(OWN_THREADS),
    int("group.coordinator.append.linger.ms", "-1", "Wait to gather coordinator writes.")
        .rule(Rule::AtLeast(-1))
        .no_effect("writes are gathered by the WAL's group commit"),
    int(
        "group.coordinator.cached.buffer.max.bytes",
        "1048588",
        "Write buffer kept between writes.",
    )
    .rule(Rule::AtLeast(512 * 1024))
    .dynamic()
    .no_effect(OWN_THREADS),
    // Committed offsets.
    int(
        "offsets.retention.minutes",
        "10080",
        "How long an empty group's committed offsets are kept, in minutes.",
    )
    .rule(Rule::AtLeast(1)),
    long(
        "offsets.retention.check.interval.ms",
        "600000",
        "Time between two looks for expired offsets, in milliseconds.",
    )
    .rule(Rule::AtLeast(1)),
    int("offset.metadata.max.bytes", "4096", "Longest metadata of a committed offset, in bytes.")
        .rule(Rule::AtLeast(0)),
    int(
        "offsets.topic.num.partitions",
        "50",
        "Partitions of __consumer_offsets. Not to be changed once the topic exists.",
    )
    .rule(Rule::AtLeast(1)),
    short("offsets.topic.replication.factor", "3", "Replication factor of __consumer_offsets.")
        .rule(Rule::AtLeast(1))
        .no_effect(BUCKET_HOLDS),
    int("offsets.topic.segment.bytes", "104857600", "segment.bytes of __consumer_offsets.")
        .rule(Rule::AtLeast(1))
        .no_effect("runs end when the tail is flushed: see aquifer.flush.bytes"),
    int("offsets.topic.compression.codec", "0", "Codec of its batches, by number; 0 is none.")
        .no_effect("its batches are small and stored as they are"),
    int("offsets.load.buffer.size", "5242880", "Read size when a coordinator loads, in bytes.")
        .rule(Rule::AtLeast(1))
        .no_effect(LOADS_ALL),
    int(
        "offsets.commit.timeout.ms",
        "5000",
        "Longest wait for a commit to be durable, in milliseconds.",
    )
    .rule(Rule::AtLeast(1))
    .no_effect("a commit is answered when it is durable"),
    // Consumer groups (KIP-848).
    int("group.consumer.session.timeout.ms", "45000", "Default of consumer.session.timeout.ms.")
        .rule(Rule::AtLeast(1)),
    int("group.consumer.min.session.timeout.ms", "45000", "Least consumer.session.timeout.ms.")
        .rule(Rule::AtLeast(1)),
    int("group.consumer.max.session.timeout.ms", "60000", "Most consumer.session.timeout.ms.")
        .rule(Rule::AtLeast(1)),
    int(
        "group.consumer.heartbeat.interval.ms",
        "5000",
        "Default of consumer.heartbeat.interval.ms.",
    )
    .rule(Rule::AtLeast(1)),
    int(
        "group.consumer.min.heartbeat.interval.ms",
        "5000",
        "Least consumer.heartbeat.interval.ms.",
    )
    .rule(Rule::AtLeast(1)),
    int(
        "group.consumer.max.heartbeat.interval.ms",
        "15000",
        "Most consumer.heartbeat.interval.ms.",
    )
    .rule(Rule::AtLeast(1)),
    int("group.consumer.max.size", "2147483647", "Members a consumer group may have.")
        .rule(Rule::AtLeast(1)),
    list("group.consumer.assignors", "uniform,range", "Assignors the server offers."),
    text(
        "group.consumer.migration.policy",
        "bidirectional",
        "Which group kinds may turn into another.",
    )
    .rule(Rule::OneOf(&["bidirectional", "downgrade", "upgrade", "disabled"])),
    int(
        "group.consumer.regex.refresh.interval.ms",
        "600000",
        "Longest time between two looks for what expressions stand for, in milliseconds.",
    )
    .rule(Rule::AtLeast(10_000)),
    int(
        "group.consumer.assignment.interval.ms",
        "1000",
        "Default of consumer.assignment.interval.ms.",
    )
    .rule(Rule::AtLeast(0))
    .dynamic(),
    int("group.consumer.min.assignment.interval.ms", "0", "Least consumer.assignment.interval.ms.")
        .rule(Rule::AtLeast(0)),
    int(
        "group.consumer.max.assignment.interval.ms",
        "15000",
        "Most consumer.assignment.interval.ms.",
    )
    .rule(Rule::AtLeast(0)),
    // Share groups (KIP-932).
    int("group.share.session.timeout.ms", "45000", "Default of share.session.timeout.ms.")
        .rule(Rule::AtLeast(1)),
    int("group.share.min.session.timeout.ms", "45000", "Least share.session.timeout.ms.")
        .rule(Rule::AtLeast(1)),
    int("group.share.max.session.timeout.ms", "60000", "Most share.session.timeout.ms.")
        .rule(Rule::AtLeast(1)),
    int("group.share.heartbeat.interval.ms", "5000", "Default of share.heartbeat.interval.ms.")
        .rule(Rule::AtLeast(1)),
    int("group.share.min.heartbeat.interval.ms", "5000", "Least share.heartbeat.interval.ms.")
        .rule(Rule::AtLeast(1)),
    int("group.share.max.heartbeat.interval.ms", "15000", "Most share.heartbeat.interval.ms.")
        .rule(Rule::AtLeast(1)),
    int("group.share.assignment.interval.ms", "1000", "Default of share.assignment.interval.ms.")
        .rule(Rule::AtLeast(0))
        .dynamic(),
    int("group.share.min.assignment.interval.ms", "0", "Least share.assignment.interval.ms.")
        .rule(Rule::AtLeast(0)),
    int("group.share.max.assignment.interval.ms", "15000", "Most share.assignment.interval.ms.")
        .rule(Rule::AtLeast(0)),
    int("group.share.max.size", "200", "Members a share group may have.")
        .rule(Rule::Between(1, 1000)),
    int("group.share.max.share.sessions", "2000", "Share sessions at once.").rule(Rule::AtLeast(1)),
    list("group.share.assignors", "simple", "Assignors for share groups."),
    int(
        "group.share.delivery.count.limit",
        "5",
        "Times a record is delivered before it is given up.",
    )
    .rule(Rule::Between(2, 10)),
    int("group.share.min.delivery.count.limit", "2", "Least share.delivery.count.limit.")
        .rule(Rule::Between(2, 5)),
    int("group.share.max.delivery.count.limit", "10", "Most share.delivery.count.limit.")
        .rule(Rule::Between(5, 25)),
    int(
        "group.share.min.partition.max.record.locks",
        "100",
        "Least share.partition.max.record.locks.",
    )
    .rule(Rule::Between(100, 2_000)),
    int(
        "group.share.max.partition.max.record.locks",
        "4000",
        "Most share.partition.max.record.locks.",
    )
    .rule(Rule::Between(2_000, 10_000)),
    int(
        "group.share.partition.max.record.locks",
        "2000",
        "Records of one share-partition that may be locked at once.",
    )
    .rule(Rule::Between(100, 10_000)),
    int(
        "group.share.record.lock.duration.ms",
        "30000",
        "Time a delivered record stays locked, in milliseconds.",
    )
    .rule(Rule::Between(1_000, 3_600_000)),
    int("group.share.min.record.lock.duration.ms", "15000", "Least lock time.")
        .rule(Rule::AtLeast(1_000)),
    int("group.share.max.record.lock.duration.ms", "60000", "Most lock time.")
        .rule(Rule::AtLeast(1_000)),
    unset("group.share.persister.class.name", Kind::Class, "Java class that stores share state.")
        .no_effect("share state is kept by the broker itself"),
    int("share.coordinator.state.topic.num.partitions", "50", "Partitions of __share_group_state.")
        .rule(Rule::AtLeast(1)),
    short("share.coordinator.state.topic.replication.factor", "3", "Its replication factor.")
        .no_effect(BUCKET_HOLDS),
    short("share.coordinator.state.topic.min.isr", "2", "Its min.insync.replicas.")
        .no_effect(BUCKET_HOLDS),
    int("share.coordinator.state.topic.segment.bytes", "104857600", "Its segment.bytes.")
        .rule(Rule::AtLeast(1)),
    int(
        "share.coordinator.snapshot.update.records.per.snapshot",
        "500",
        "Updates of a share-partition between two snapshots.",
    )
    .rule(Rule::Between(0, 500)),
    int("share.coordinator.threads", "1", "Threads of the share coordinator.")
        .no_effect(OWN_THREADS),
    int("share.coordinator.load.buffer.size", "5242880", "Read size when it loads.")
        .no_effect(LOADS_ALL),
    int("share.coordinator.write.timeout.ms", "5000", "Longest wait for its writes.")
        .no_effect("an acknowledgement is answered when it is durable"),
    int("share.coordinator.cached.buffer.max.bytes", "1048588", "Write buffer kept.")
        .rule(Rule::AtLeast(512 * 1024))
        .dynamic()
        .no_effect(OWN_THREADS),
    int("share.coordinator.state.topic.compression.codec", "0", "Codec of its batches, by number.")
        .no_effect("its batches are small and stored as they are"),
    int("share.coordinator.append.linger.ms", "-1", "Wait to gather its writes.")
        .no_effect("writes are gathered by the WAL's group commit"),
    int("share.fetch.purgatory.purge.interval.requests", "1000", "Purge interval.")
        .no_effect("a fetch that waits is not kept in a list"),
    // Streams groups (KIP-1071).
    int("group.streams.session.timeout.ms", "45000", "Default of streams.session.timeout.ms.")
        .no_effect(NO_STREAMS),
    int("group.streams.min.session.timeout.ms", "45000", "Least streams.session.timeout.ms.")
        .no_effect(NO_STREAMS),
    int("group.streams.max.session.timeout.ms", "60000", "Most streams.session.timeout.ms.")
        .no_effect(NO_STREAMS),
    int("group.streams.heartbeat.interval.ms", "5000", "Default of streams.heartbeat.interval.ms.")
        .no_effect(NO_STREAMS),
    int("group.streams.min.heartbeat.interval.ms", "5000", "Least streams.heartbeat.interval.ms.")
        .no_effect(NO_STREAMS),
    int("group.streams.max.heartbeat.interval.ms", "15000", "Most streams.heartbeat.interval.ms.")
        .no_effect(NO_STREAMS),
    int(
        "group.streams.assignment.interval.ms",
        "1000",
        "Default of streams.assignment.interval.ms.",
    )
    .rule(Rule::AtLeast(0))
    .dynamic()
    .no_effect(NO_STREAMS),
    int("group.streams.min.assignment.interval.ms", "0", "Least streams.assignment.interval.ms.")
        .rule(Rule::AtLeast(0))
        .no_effect(NO_STREAMS),
    int(
        "group.streams.max.assignment.interval.ms",
        "15000",
        "Most streams.assignment.interval.ms.",
    )
    .rule(Rule::AtLeast(0))
    .no_effect(NO_STREAMS),
    int("group.streams.max.size", "2147483647", "Members a streams group may have.")
        .no_effect(NO_STREAMS),
    int("group.streams.num.standby.replicas", "0", "Default of streams.num.standby.replicas.")
        .no_effect(NO_STREAMS),
    int("group.streams.max.standby.replicas", "2", "Most streams.num.standby.replicas.")
        .no_effect(NO_STREAMS),
    int("group.streams.initial.rebalance.delay.ms", "3000", "Wait before the first assignment.")
        .no_effect(NO_STREAMS),
    // Transactions.
    int("add.partitions.to.txn.retry.backoff.ms", "20", "First rest of a partition's question.")
        .no_effect("a partition asks the coordinator in this process"),
    int("add.partitions.to.txn.retry.backoff.max.ms", "100", "Longest such rest.")
        .no_effect("a partition asks the coordinator in this process"),
    int(
        "transaction.max.timeout.ms",
        "900000",
        "Longest transaction timeout a producer may ask for, in milliseconds.",
    )
    .rule(Rule::AtLeast(1)),
    int("transactional.id.expiration.ms", "604800000", "Time an idle transactional id is kept.")
        .rule(Rule::AtLeast(1)),
    int("transaction.state.log.num.partitions", "50", "Partitions of __transaction_state.")
        .rule(Rule::AtLeast(1)),
    short("transaction.state.log.replication.factor", "3", "Its replication factor.")
        .rule(Rule::AtLeast(1))
        .no_effect(BUCKET_HOLDS),
    int("transaction.state.log.min.isr", "2", "Its min.insync.replicas.")
        .rule(Rule::AtLeast(1))
        .no_effect(BUCKET_HOLDS),
    int("transaction.state.log.segment.bytes", "104857600", "Its segment.bytes.")
        .rule(Rule::AtLeast(1)),
    int("transaction.state.log.load.buffer.size", "5242880", "Read size when it loads, in bytes.")
        .rule(Rule::AtLeast(1))
        .no_effect(LOADS_ALL),
    int(
        "transaction.abort.timed.out.transaction.cleanup.interval.ms",
        "10000",
        "Time between two looks for transactions past their timeout, in milliseconds.",
    )
    .rule(Rule::AtLeast(1)),
    int(
        "transaction.remove.expired.transaction.cleanup.interval.ms",
        "3600000",
        "Time between two looks for expired transactional ids, in milliseconds.",
    )
    .rule(Rule::AtLeast(1)),
    boolean(
        "transaction.partition.verification.enable",
        "true",
        "Whether writes check their transaction.",
    )
    .dynamic()
    .no_effect(ALWAYS_VERIFIED),
    boolean("transaction.two.phase.commit.enable", "false", "Whether two-phase commit is allowed.")
        .no_effect(NO_TWO_PHASES),
];
