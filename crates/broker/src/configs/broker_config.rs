//! One broker's configuration, typed: raw properties in, everything resolved or every problem out.
//!
//! Owns: [`BrokerConfig`], the rules between configs, remarks about settings that change nothing.
//! Does not own: what a single value may be (`catalogue`), reading files (the binary).
//!
//! Static configs never change while the process runs. The dynamic layers do
//! ([`BrokerConfig::set_dynamic`]); only configs that are looked up through [`BrokerConfig::layers`]
//! follow them, and the catalogue calls exactly those dynamic.

mod authorizer;
mod share;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bucket::BucketLocation;
use coordinator::{Assignor, MigrationPolicy};
use partition_log::wal::WalOptions;
use partition_log::{LogOptions, MergeOptions};
use vocabulary::{BrokerEpoch, BrokerId, ByteCount, VolumeId};

use super::catalogue::{self, REMOVED_BROKER_CONFIGS};
use super::definition::{Definition, Effect, Value};
use super::group_config::problems_of_bounds;
use super::layers::{Layers, Properties};
use super::listeners::{self, Listener, ListenerSettings};
use super::locations::{self, WalLocation};
pub use authorizer::AuthorizerConfig;
use share::ShareConfig;

/// How long "for ever" is where a duration is needed: thirty years.
const NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// Everything a broker was told, resolved. One per process, behind an `Arc`.
#[derive(Debug)]
pub struct BrokerConfig {
    pub node_id: BrokerId,
    pub rack: Option<String>,
    pub listeners: Vec<Listener>,
    /// `host:port` of the HTTP endpoint; `None` when it is off.
    pub admin_listener: Option<String>,
    pub data_dir: PathBuf,
    pub bucket: BucketLocation,
    pub wal: WalLocation,
    /// A volume whose loss an operator accepts.
    pub lost_volume: Option<VolumeId>,

    /// `None`: there are no ACLs, and everybody may do everything.
    pub authorizer: Option<AuthorizerConfig>,

    pub auto_create_topics: bool,
    pub delete_topics: bool,
    pub num_partitions: u32,
    pub partitions_max: u32,

    pub connections_max: usize,
    /// From one address; 0 refuses all that have no override.
    pub connections_per_address_max: usize,
    /// Other limits, by host name or address.
    pub connections_per_address_overrides: Vec<(String, usize)>,
    pub socket_buffers: SocketBuffers,
    pub connections_idle_max: Duration,
    /// Largest request frame, in bytes.
    pub request_bytes_max: usize,
    /// Request frames in memory over all connections, in bytes; at least `request_bytes_max`.
    pub request_memory_bytes: usize,
    /// Largest fetch response, in bytes.
    pub fetch_bytes_max: usize,
    pub fetch_session_slots: usize,
    /// Partitions in one DescribeTopicPartitions answer.
    pub describe_partitions_max: i32,

    pub groups: GroupConfig,
    pub transactions: TransactionConfig,
    pub log: LogConfig,
    pub shutdown_timeout: Duration,

    /// What an operator should know about settings that were accepted and change nothing.
    pub remarks: Vec<String>,
    /// A leaf lock, held to copy or replace one `Arc` and never across an await.
    layers: Mutex<Arc<Layers>>,
    /// Held while configs are read, changed and written back, so that of two changes at once none is
    /// lost. Across an await, hence not a std mutex; config changes are rare and may queue.
    pub(crate) alteration: tokio::sync::Mutex<()>,
}

/// Sizes of each connection's buffers in bytes; `None` leaves them to the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketBuffers {
    pub send_bytes: Option<u32>,
    pub receive_bytes: Option<u32>,
}

/// Groups and committed offsets. Times are milliseconds where a name says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupConfig {
    pub session_timeout_min: Duration,
    pub session_timeout_max: Duration,
    pub initial_rebalance_delay: Duration,
    pub members_max: usize,
    pub offset_metadata_bytes_max: usize,
    pub offsets_retention: Duration,
    pub offsets_retention_check_interval: Duration,
    pub offsets_topic_partitions: i32,
    pub consumer_members_max: usize,
    /// The default first.
    pub consumer_assignors: Vec<Assignor>,
    pub consumer_migration_policy: MigrationPolicy,
    pub consumer_session_timeout: Duration,
    pub consumer_heartbeat_interval: Duration,
    pub consumer_assignment_interval: Duration,
    pub consumer_regex_refresh_interval: Duration,
    pub share: ShareConfig,
}

/// Transactions and transactional ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionConfig {
    pub timeout_max: Duration,
    pub abort_interval: Duration,
    pub id_expiration: Duration,
    pub id_expiration_interval: Duration,
    pub topic_partitions: i32,
    pub topic_segment_bytes: u64,
}

/// Memory and pace of the log engine and the WAL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// What was not given is larger then: requests cost more than memory there.
    pub wal_in_bucket: bool,
    pub flush_bytes: u64,
    pub flush_age: Duration,
    pub tail_cache_bytes: u64,
    pub block_cache_bytes: u64,
    pub read_ahead_bytes: u64,
    pub lagging_reads_bytes: u64,
    /// Of a disk cache, and how much of it; unless both are given, there is none.
    pub cache_dir: Option<PathBuf>,
    pub cache_bytes: u64,
    pub index_cache_bytes: u64,
    pub unflushed_bytes: u64,
    pub wal_queue_bytes: u64,
    pub wal_group_bytes: u64,
    pub retention_check_interval: Duration,
    pub producer_expiration: Duration,
    pub orphan_grace: Duration,
    pub merge_enabled: bool,
    pub merge_target_bytes: u64,
    pub merge_bytes_per_second: u64,
}

/// All problems of a configuration at once, so that an operator edits the file once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ConfigProblems(pub Vec<String>);

impl BrokerConfig {
    /// Resolves what was given; what was not has its default. `hostname` is told to clients where a
    /// listener binds all interfaces and nothing is advertised.
    ///
    /// # Errors
    /// Every unknown name, bad value and contradiction, in words.
    pub fn resolve(
        given: &Properties,
        hostname: Option<&str>,
    ) -> Result<BrokerConfig, ConfigProblems> {
        let mut resolver = Resolver::new(given);
        resolver.check_names_and_values();
        resolver.check_node_id();
        resolver.check_retention();
        let config = resolver.assemble(hostname);
        match config {
            Some(config) if resolver.problems.is_empty() => Ok(config),
            _ => Err(ConfigProblems(resolver.problems)),
        }
    }

    /// The layers as they are now.
    pub(crate) fn layers(&self) -> Arc<Layers> {
        Arc::clone(&self.layers.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the dynamic layers: all brokers' and this broker's (KIP-226).
    pub fn set_dynamic(&self, cluster: Properties, broker: Properties) {
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        *layers = Arc::new(Layers { fixed: layers.fixed.clone(), cluster, broker });
    }
}

impl LogConfig {
    /// The log engine's options for this broker, in the epoch it registered with.
    pub fn options(&self, broker: BrokerId, epoch: BrokerEpoch) -> LogOptions {
        let defaults = LogOptions::new(broker, epoch);
        let defaults = match self.wal_in_bucket {
            true => defaults.for_bucket_wal(),
            false => defaults,
        };
        LogOptions {
            wal: WalOptions {
                group_bytes_max: ByteCount(self.wal_group_bytes),
                reserved_bytes_max: ByteCount(self.wal_queue_bytes),
                ..defaults.wal
            },
            flush_bytes: ByteCount(self.flush_bytes),
            flush_age: self.flush_age,
            unflushed_bytes_max: ByteCount(self.unflushed_bytes),
            tail_cache_bytes: ByteCount(self.tail_cache_bytes),
            block_cache_bytes: ByteCount(self.block_cache_bytes),
            read_ahead_bytes: ByteCount(self.read_ahead_bytes),
            lagging_bytes_max: ByteCount(self.lagging_reads_bytes),
            disk_cache_dir: self.cache_dir.clone().filter(|_| 0 < self.cache_bytes),
            disk_cache_bytes: ByteCount(self.cache_bytes),
            index_cache_bytes: ByteCount(self.index_cache_bytes),
            producer_expiration_ms: i64::try_from(self.producer_expiration.as_millis())
                .unwrap_or(i64::MAX),
            retention_check_interval: self.retention_check_interval,
            orphan_grace: self.orphan_grace,
            merge: MergeOptions {
                is_enabled: self.merge_enabled,
                target_bytes: ByteCount(self.merge_target_bytes),
                bytes_per_second_max: ByteCount(self.merge_bytes_per_second),
                ..defaults.merge
            },
            ..defaults
        }
    }
}

struct Resolver {
    fixed: Properties,
    problems: Vec<String>,
    remarks: Vec<String>,
}

impl Resolver {
    fn new(given: &Properties) -> Resolver {
        let mut fixed = given.clone();
        // node.id and broker.id are one config by two names, as in Kafka.
        for (name, other) in [("node.id", "broker.id"), ("broker.id", "node.id")] {
            if let Some(value) = given.get(name)
                && !given.contains_key(other)
            {
                fixed.insert(other.to_owned(), value.clone());
            }
        }
        Resolver { fixed, problems: Vec::new(), remarks: Vec::new() }
    }

    fn check_names_and_values(&mut self) {
        for (name, text) in &self.fixed {
            let Some(definition) = catalogue::broker_config(name) else {
                self.problems.push(unknown(name));
                continue;
            };
            match (definition.parse(text), definition.effect) {
                (Err(problem), _) => self.problems.push(problem.0),
                (Ok(value), Effect::Refused(reason)) if !is_default(definition, &value) => {
                    self.problems.push(format!("{name}: {reason}"));
                }
                (Ok(value), Effect::Ignored(reason)) if !is_default(definition, &value) => {
                    self.remarks.push(format!("{name} changes nothing: {reason}"));
                }
                (Ok(_), _) => (),
            }
        }
    }

    fn check_node_id(&mut self) {
        let (node, broker) = (self.fixed.get("node.id"), self.fixed.get("broker.id"));
        if node != broker {
            self.problems.push("node.id and broker.id are one config and must agree".to_owned());
        }
    }

    fn check_retention(&mut self) {
        for name in ["log.retention.ms", "log.retention.minutes", "log.retention.hours"] {
            if self.value(name) == Some(Value::Integer(0)) {
                self.problems.push(format!("{name}: must be unlimited (-1) or at least 1"));
            }
        }
    }

    /// The value given, else the default; `None` when null or not legal (reported already).
    fn value(&self, name: &str) -> Option<Value> {
        let definition = catalogue::broker_config(name)?;
        match self.fixed.get(name) {
            Some(text) => definition.parse(text).ok(),
            None => definition.default_value(),
        }
    }

    fn integer(&self, name: &str) -> i64 {
        match self.value(name) {
            Some(Value::Integer(number)) => number,
            // Not legal: reported already, so the result is not used.
            _ => 1,
        }
    }

    fn int(&self, name: &str) -> i32 {
        i32::try_from(self.integer(name)).unwrap_or(i32::MAX)
    }

    fn count(&self, name: &str) -> u32 {
        u32::try_from(self.integer(name)).unwrap_or(1)
    }

    fn size(&self, name: &str) -> usize {
        usize::try_from(self.integer(name)).unwrap_or(0)
    }

    fn bytes(&self, name: &str) -> u64 {
        u64::try_from(self.integer(name)).unwrap_or(0)
    }

    fn milliseconds(&self, name: &str) -> Duration {
        u64::try_from(self.integer(name)).map_or(NEVER, Duration::from_millis).min(NEVER)
    }

    fn boolean(&self, name: &str) -> bool {
        self.value(name) == Some(Value::Boolean(true))
    }

    fn text(&self, name: &str) -> Option<String> {
        match self.value(name) {
            Some(Value::Text(text)) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    fn lost_volume(&mut self) -> Option<VolumeId> {
        const NAME: &str = "aquifer.wal.lost.volume";
        let volume = self.text(NAME)?.parse().map_err(|error| format!("{NAME}: {error}"));
        self.keep(volume)
    }

    fn list(&self, name: &str) -> Vec<String> {
        match self.value(name) {
            Some(Value::List(members)) => members,
            _ => Vec::new(),
        }
    }

    fn assemble(&mut self, hostname: Option<&str>) -> Option<BrokerConfig> {
        let listeners = self.listeners(hostname);
        let data_dir = PathBuf::from(self.text("aquifer.data.dir").unwrap_or_default());
        let bucket = locations::bucket(self.text("aquifer.bucket").as_deref(), &data_dir);
        let bucket = self.keep(bucket);
        let wal = locations::wal(self.text("aquifer.wal").as_deref(), &data_dir, bucket.as_ref());
        let wal = self.keep(wal);
        let lost_volume = self.lost_volume();
        let request_bytes_max = self.size("socket.request.max.bytes");
        let request_memory_bytes = self.size("aquifer.request.memory.bytes");
        if request_memory_bytes < request_bytes_max {
            self.problems.push(format!(
                "aquifer.request.memory.bytes ({}) must hold one request of \
                 socket.request.max.bytes ({})",
                ByteCount(request_memory_bytes as u64),
                ByteCount(request_bytes_max as u64),
            ));
        }
        let connections_per_address_overrides = self.connection_overrides();
        let authorizer = self.authorizer();
        let groups = self.groups();
        let transactions = self.transactions();
        let log = self.log(wal == Some(WalLocation::Bucket));
        Some(BrokerConfig {
            node_id: BrokerId(self.int("node.id")),
            rack: self.text("broker.rack"),
            listeners: listeners?,
            admin_listener: self.admin_listener(),
            data_dir,
            bucket: bucket?,
            wal: wal?,
            lost_volume,
            authorizer,
            auto_create_topics: self.boolean("auto.create.topics.enable"),
            delete_topics: self.boolean("delete.topic.enable"),
            num_partitions: self.count("num.partitions"),
            partitions_max: self.count("aquifer.topic.partitions.max"),
            connections_max: self.size("max.connections"),
            connections_per_address_max: self.size("max.connections.per.ip"),
            connections_per_address_overrides,
            socket_buffers: SocketBuffers {
                send_bytes: u32::try_from(self.integer("socket.send.buffer.bytes")).ok(),
                receive_bytes: u32::try_from(self.integer("socket.receive.buffer.bytes")).ok(),
            },
            connections_idle_max: self.milliseconds("connections.max.idle.ms"),
            request_bytes_max,
            request_memory_bytes,
            fetch_bytes_max: self.size("fetch.max.bytes"),
            fetch_session_slots: self.size("max.incremental.fetch.session.cache.slots"),
            describe_partitions_max: self.int("max.request.partition.size.limit"),
            groups,
            transactions,
            log,
            shutdown_timeout: self.milliseconds("aquifer.shutdown.timeout.ms"),
            remarks: std::mem::take(&mut self.remarks),
            layers: Mutex::new(Arc::new(Layers { fixed: self.fixed.clone(), ..Layers::default() })),
            alteration: tokio::sync::Mutex::new(()),
        })
    }

    fn listeners(&mut self, hostname: Option<&str>) -> Option<Vec<Listener>> {
        let advertised = self.list("advertised.listeners");
        let settings = ListenerSettings {
            listeners: &self.list("listeners"),
            advertised: (!advertised.is_empty()).then_some(&advertised[..]),
            protocols: &self.text("listener.security.protocol.map").unwrap_or_default(),
            controllers: &self.list("controller.listener.names"),
            hostname,
        };
        match listeners::resolve(settings) {
            Ok(listeners) => Some(listeners),
            Err(problems) => {
                self.problems.extend(problems);
                None
            }
        }
    }

    /// `host:count` pairs; an IPv6 address has colons of its own, so the last one separates.
    fn connection_overrides(&mut self) -> Vec<(String, usize)> {
        const NAME: &str = "max.connections.per.ip.overrides";
        let text = self.text(NAME).unwrap_or_default();
        let mut overrides = Vec::new();
        for pair in text.split(',').map(str::trim).filter(|it| !it.is_empty()) {
            let parsed = pair.rsplit_once(':').and_then(|(host, count)| {
                let host = host.trim().trim_matches(['[', ']']);
                Some((host, count.trim().parse().ok()?)).filter(|_| !host.is_empty())
            });
            match parsed {
                Some((host, count)) => overrides.push((host.to_owned(), count)),
                None => self.problems.push(format!("{NAME}: {pair:?} is not host:count")),
            }
        }
        overrides
    }

    fn admin_listener(&mut self) -> Option<String> {
        let text = self.text("aquifer.admin.listener")?;
        let port = text.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
        if !matches!(port, Some(Ok(_))) {
            self.problems.push(format!("aquifer.admin.listener: {text:?} is not host:port"));
        }
        Some(text)
    }

    fn consumer_assignors(&mut self) -> Vec<Assignor> {
        let mut assignors = Vec::new();
        for name in self.list("group.consumer.assignors") {
            match Assignor::from_name(&name) {
                Some(assignor) if !assignors.contains(&assignor) => assignors.push(assignor),
                Some(_) => (),
                None => self.problems.push(format!(
                    "group.consumer.assignors: {name:?} is not served, uniform and range are"
                )),
            }
        }
        if assignors.is_empty() {
            self.problems.push("group.consumer.assignors must name one at least".to_owned());
        }
        assignors
    }

    fn groups(&mut self) -> GroupConfig {
        let shortest = self.milliseconds("group.min.session.timeout.ms");
        let longest = self.milliseconds("group.max.session.timeout.ms");
        if longest < shortest {
            self.problems.push(
                "group.max.session.timeout.ms must be at least group.min.session.timeout.ms"
                    .to_owned(),
            );
        }
        let layers = Layers { fixed: self.fixed.clone(), ..Layers::default() };
        self.problems.extend(problems_of_bounds(&layers));
        let retention_minutes = self.bytes("offsets.retention.minutes");
        GroupConfig {
            session_timeout_min: shortest,
            session_timeout_max: longest,
            initial_rebalance_delay: self.milliseconds("group.initial.rebalance.delay.ms"),
            members_max: self.size("group.max.size"),
            offset_metadata_bytes_max: self.size("offset.metadata.max.bytes"),
            offsets_retention: Duration::from_secs(60 * retention_minutes),
            offsets_retention_check_interval: self
                .milliseconds("offsets.retention.check.interval.ms"),
            offsets_topic_partitions: self.int("offsets.topic.num.partitions"),
            consumer_members_max: self.size("group.consumer.max.size"),
            consumer_assignors: self.consumer_assignors(),
            consumer_migration_policy: self
                .text("group.consumer.migration.policy")
                .and_then(|it| MigrationPolicy::from_name(&it))
                .unwrap_or(MigrationPolicy::Bidirectional),
            consumer_session_timeout: self.milliseconds("group.consumer.session.timeout.ms"),
            consumer_heartbeat_interval: self.milliseconds("group.consumer.heartbeat.interval.ms"),
            consumer_assignment_interval: self
                .milliseconds("group.consumer.assignment.interval.ms"),
            consumer_regex_refresh_interval: self
                .milliseconds("group.consumer.regex.refresh.interval.ms"),
            share: self.share(),
        }
    }

    fn transactions(&mut self) -> TransactionConfig {
        TransactionConfig {
            timeout_max: self.milliseconds("transaction.max.timeout.ms"),
            abort_interval: self
                .milliseconds("transaction.abort.timed.out.transaction.cleanup.interval.ms"),
            id_expiration: self.milliseconds("transactional.id.expiration.ms"),
            id_expiration_interval: self
                .milliseconds("transaction.remove.expired.transaction.cleanup.interval.ms"),
            topic_partitions: self.int("transaction.state.log.num.partitions"),
            topic_segment_bytes: self.bytes("transaction.state.log.segment.bytes"),
        }
    }

    fn log(&mut self, wal_in_bucket: bool) -> LogConfig {
        let unset = LogOptions::new(BrokerId::default(), BrokerEpoch::default()).for_bucket_wal();
        let sized = |name: &str, in_bucket: ByteCount| match self.fixed.contains_key(name) {
            false if wal_in_bucket => in_bucket.0,
            _ => self.bytes(name),
        };
        let flush_bytes = sized("aquifer.flush.bytes", unset.flush_bytes);
        let tail_cache_bytes = sized("aquifer.tail.cache.bytes", unset.tail_cache_bytes);
        let wal_queue_bytes = sized("aquifer.wal.queue.bytes", unset.wal.reserved_bytes_max);
        let wal_group_bytes = sized("aquifer.wal.group.bytes", unset.wal.group_bytes_max);
        if self.bytes("aquifer.unflushed.bytes") < flush_bytes {
            self.problems
                .push("aquifer.unflushed.bytes must be at least aquifer.flush.bytes".to_owned());
        }
        LogConfig {
            wal_in_bucket,
            flush_bytes,
            flush_age: self.milliseconds("aquifer.flush.age.ms"),
            tail_cache_bytes,
            block_cache_bytes: self.bytes("aquifer.block.cache.bytes"),
            read_ahead_bytes: self.bytes("aquifer.read.ahead.bytes"),
            lagging_reads_bytes: self.bytes("aquifer.lagging.reads.bytes"),
            cache_dir: self.text("aquifer.cache.dir").map(PathBuf::from),
            cache_bytes: self.bytes("aquifer.cache.bytes"),
            index_cache_bytes: self.bytes("aquifer.index.cache.bytes"),
            unflushed_bytes: self.bytes("aquifer.unflushed.bytes"),
            wal_queue_bytes,
            wal_group_bytes,
            retention_check_interval: self.milliseconds("log.retention.check.interval.ms"),
            producer_expiration: self.milliseconds("producer.id.expiration.ms"),
            orphan_grace: self.milliseconds("aquifer.orphan.grace.ms"),
            merge_enabled: self.boolean("aquifer.merge.enabled"),
            merge_target_bytes: self.bytes("aquifer.merge.target.bytes"),
            merge_bytes_per_second: self.bytes("aquifer.merge.bytes.per.second.max"),
        }
    }

    fn keep<T>(&mut self, result: Result<T, String>) -> Option<T> {
        result.map_err(|problem| self.problems.push(problem)).ok()
    }
}

fn is_default(definition: &Definition, value: &Value) -> bool {
    definition.default_value().as_ref() == Some(value)
        || matches!(value, Value::Text(text) if text.is_empty())
}

/// What to say about a name that is not in the catalogue.
fn unknown(name: &str) -> String {
    if let Some((_, advice)) = REMOVED_BROKER_CONFIGS.iter().find(|(removed, _)| *removed == name) {
        return format!("{name} was removed from Kafka in 4.0 or before: {advice}");
    }
    if name.starts_with("listener.name.") {
        return format!("{name}: settings by listener are not served yet, only PLAINTEXT is");
    }
    if catalogue::topic_config(name).is_some_and(|it| !it.fallbacks.is_empty()) {
        let broker_name = catalogue::topic_config(name).map_or("", |it| it.fallbacks[0].0);
        return format!("{name} is a topic config; for the broker's default set {broker_name}");
    }
    match catalogue::suggestion(name, catalogue::broker_configs().map(|it| it.name)) {
        Some(near) => format!("{name} is not a known config; did you mean {near}?"),
        None => format!("{name} is not a known config; `aquifer configs` lists all of them"),
    }
}

#[cfg(test)]
mod tests;
