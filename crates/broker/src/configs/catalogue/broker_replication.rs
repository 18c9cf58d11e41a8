//! Broker configs about replicas, controllers and the KRaft quorum: accepted, because every
//! `server.properties` has some, and without effect, because none of these things exist here.
//!
//! Owns: names, types, defaults and our own words for them.

use super::super::definition::{Definition, Kind, Rule};
use super::{boolean, int, list, long, unset};

const NO_REPLICAS: &str = "durability comes from the WAL and the bucket, not from replicas";
const NO_QUORUM: &str = "there is no KRaft quorum: metadata lives in the bucket";
const NO_PURGATORY: &str = "waiting requests are woken by their partitions, not searched";

/// What a reassignment is slowed down to while it runs (`kafka-reassign-partitions --throttle`).
const fn throttle(name: &'static str, doc: &'static str) -> Definition {
    long(name, "9223372036854775807", doc).rule(Rule::AtLeast(0)).dynamic().no_effect(NO_REPLICAS)
}

/// Unsorted; the catalogue sorts.
pub(super) const CONFIGS: &[Definition] = &[
    // Replicas.
    long("replica.lag.time.max.ms", "30000", "Time after which a lagging replica leaves the ISR.")
        .no_effect(NO_REPLICAS),
    int("replica.socket.timeout.ms", "30000", "Wait of a follower for its leader.")
        .no_effect(NO_REPLICAS),
    int("replica.socket.receive.buffer.bytes", "65536", "Receive buffer of a follower.")
        .no_effect(NO_REPLICAS),
    int("replica.fetch.max.bytes", "1048576", "Bytes a follower asks for, per partition.")
        .rule(Rule::AtLeast(0))
        .no_effect(NO_REPLICAS),
    int("replica.fetch.wait.max.ms", "500", "Longest wait of a follower's fetch.")
        .no_effect(NO_REPLICAS),
    int("replica.fetch.backoff.ms", "1000", "Rest of a follower after an error.")
        .rule(Rule::AtLeast(0))
        .no_effect(NO_REPLICAS),
    int("replica.fetch.min.bytes", "1", "Least bytes of a follower's fetch.")
        .no_effect(NO_REPLICAS),
    int("replica.fetch.response.max.bytes", "10485760", "Most bytes of a follower's fetch.")
        .rule(Rule::AtLeast(0))
        .no_effect(NO_REPLICAS),
    long("replica.high.watermark.checkpoint.interval.ms", "5000", "Time between checkpoints.")
        .no_effect(NO_REPLICAS),
    unset("replica.selector.class", Kind::String, "Java class that picks a replica to read from.")
        .no_effect("any broker of the reader's zone is as good as another"),
    boolean("follower.fetch.last.tiered.offset.enable", "false", "Where an empty follower starts.")
        .no_effect(NO_REPLICAS),
    int("num.replica.fetchers", "1", "Threads that fetch from each leader.")
        .rule(Rule::AtLeast(0))
        .dynamic()
        .no_effect(NO_REPLICAS),
    boolean(
        "auto.leader.rebalance.enable",
        "true",
        "Whether leadership returns to first replicas.",
    )
    .no_effect(NO_REPLICAS),
    int("leader.imbalance.per.broker.percentage", "10", "Imbalance that starts it, in percent.")
        .no_effect(NO_REPLICAS),
    long("leader.imbalance.check.interval.seconds", "300", "Time between such looks.")
        .rule(Rule::AtLeast(1))
        .no_effect(NO_REPLICAS),
    long("unclean.leader.election.interval.ms", "300000", "Time between unclean elections.")
        .rule(Rule::AtLeast(1))
        .no_effect(NO_REPLICAS),
    throttle(
        "leader.replication.throttled.rate",
        "Bytes a second that leaders of throttled replicas send.",
    ),
    throttle(
        "follower.replication.throttled.rate",
        "Bytes a second that throttled followers fetch.",
    ),
    throttle(
        "replica.alter.log.dirs.io.max.bytes.per.second",
        "Bytes a second that move between log directories.",
    ),
    int("replication.quota.window.num", "11", "Windows of a replication quota.")
        .no_effect(NO_REPLICAS),
    int("replication.quota.window.size.seconds", "1", "Length of such a window.")
        .no_effect(NO_REPLICAS),
    int("alter.log.dirs.replication.quota.window.num", "11", "Windows of a log move quota.")
        .no_effect(NO_REPLICAS),
    int("alter.log.dirs.replication.quota.window.size.seconds", "1", "Length of such a window.")
        .no_effect(NO_REPLICAS),
    // Waiting requests.
    int("fetch.purgatory.purge.interval.requests", "1000", "Purge interval of waiting fetches.")
        .no_effect(NO_PURGATORY),
    int(
        "producer.purgatory.purge.interval.requests",
        "1000",
        "Purge interval of waiting produces.",
    )
    .no_effect(NO_PURGATORY),
    int("delete.records.purgatory.purge.interval.requests", "1", "Purge interval of deletions.")
        .no_effect(NO_PURGATORY),
    // Controllers and the quorum.
    list("controller.quorum.voters", "", "Voters of the metadata quorum.").no_effect(NO_QUORUM),
    list("controller.quorum.bootstrap.servers", "", "Where to find the metadata quorum.")
        .no_effect(NO_QUORUM),
    boolean(
        "controller.quorum.auto.join.enable",
        "false",
        "Whether controllers join by themselves.",
    )
    .no_effect(NO_QUORUM),
    int("controller.quorum.election.timeout.ms", "1000", "Election timeout.").no_effect(NO_QUORUM),
    int("controller.quorum.election.backoff.max.ms", "1000", "Election back-off.")
        .no_effect(NO_QUORUM),
    int("controller.quorum.fetch.timeout.ms", "2000", "Fetch timeout.").no_effect(NO_QUORUM),
    int("controller.quorum.fetch.max.bytes", "1048576", "Fetch size.").no_effect(NO_QUORUM),
    int("controller.quorum.fetch.snapshot.max.bytes", "1048576", "Size of a piece of a snapshot.")
        .no_effect(NO_QUORUM),
    int("controller.quorum.append.linger.ms", "25", "Wait to gather writes.").no_effect(NO_QUORUM),
    int("controller.quorum.request.timeout.ms", "2000", "Request timeout.").no_effect(NO_QUORUM),
    int("controller.quorum.retry.backoff.ms", "20", "Rest before a retry.").no_effect(NO_QUORUM),
    int("controller.socket.timeout.ms", "30000", "Wait for the controller.").no_effect(NO_QUORUM),
    int("controller.performance.sample.period.ms", "60000", "Controller metrics period.")
        .no_effect(NO_QUORUM),
    long("controller.performance.always.log.threshold.ms", "2000", "Slow event threshold.")
        .no_effect(NO_QUORUM),
    int("broker.heartbeat.interval.ms", "2000", "Time between heartbeats to the controller.")
        .no_effect(NO_QUORUM),
    int("broker.session.timeout.ms", "9000", "Silence after which a broker is fenced.")
        .no_effect(NO_QUORUM),
    int("initial.broker.registration.timeout.ms", "60000", "Wait to register at the controller.")
        .no_effect(NO_QUORUM),
    long("server.max.startup.time.ms", "9223372036854775807", "Longest start.")
        .no_effect("a start is as long as recovery needs"),
    boolean("controlled.shutdown.enable", "true", "Whether leadership is handed over at a stop.")
        .no_effect(NO_QUORUM),
    int("controlled.shutdown.max.retries", "3", "Attempts at it.").no_effect(NO_QUORUM),
    long("controlled.shutdown.retry.backoff.ms", "5000", "Rest between them.").no_effect(NO_QUORUM),
    int("metadata.log.segment.bytes", "1073741824", "Size of a metadata log file.")
        .no_effect(NO_QUORUM),
    long("metadata.log.segment.ms", "604800000", "Age of a metadata log file.")
        .no_effect(NO_QUORUM),
    long("metadata.log.max.record.bytes.between.snapshots", "20971520", "Bytes per snapshot.")
        .no_effect(NO_QUORUM),
    long("metadata.log.max.snapshot.interval.ms", "3600000", "Time per snapshot.")
        .no_effect(NO_QUORUM),
    long("metadata.max.retention.bytes", "104857600", "Size of the metadata log.")
        .no_effect(NO_QUORUM),
    long("metadata.max.retention.ms", "604800000", "Age of the metadata log.").no_effect(NO_QUORUM),
    int("metadata.max.idle.interval.ms", "500", "Time between no-op metadata records.")
        .no_effect(NO_QUORUM),
    // Asked for by tools, or set by habit.
    list("config.providers", "", "Java classes that look up values.")
        .refused("values are taken literally: ${...} is not looked up"),
    unset("security.providers", Kind::String, "Java security providers.")
        .no_effect("there is no Java here"),
    int("kafka.metrics.polling.interval.secs", "10", "Interval of Java metric reporters.")
        .no_effect("metrics are served at /metrics: see aquifer.admin.listener"),
    list("kafka.metrics.reporters", "", "Java metric reporters.")
        .no_effect("metrics are served at /metrics: see aquifer.admin.listener"),
];
