//! The broker: the handles every handler works with, and the order they start and stop in.
//!
//! Owns: which partitions are served here (`hosting`), fetch sessions, producer-id blocks, the
//! listeners. Does not own: the metadata (`cluster`), the records (`partition_log`), the groups'
//! rules (`coordinator`), options and signals (the binary).

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cluster::{Controller, View};
use environment::{Environment, StopToken};
use partition_log::{LogEngine, PartitionLog};
use prometheus_client::registry::Registry;
use protocol::ErrorCode;
use vocabulary::{BrokerId, LeaderEpoch, Partition};

use crate::access::{Access, Authorizer};
use crate::auto_create::CREATIONS_AT_ONCE;
use crate::configs::BrokerConfig;
use crate::connection::RequestMemory;
use crate::connection_limits::ConnectionLimits;
use crate::fetch_sessions::FetchSessions;
use crate::groups::GroupHost;
use crate::hosting;
use crate::listener::{self, BoundListener, ListenError};
use crate::metrics::BrokerMetrics;
use crate::producer_ids::ProducerIds;
use crate::shares::ShareHost;
use crate::topic_creation::Creations;
use crate::transactions::TransactionHost;

/// How long stopping waits for requests in flight.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// Everything a broker needs to start, opened by the binary in the written order.
#[derive(Debug)]
pub struct BrokerParts {
    pub id: BrokerId,
    pub config: Arc<BrokerConfig>,
    pub controller: Controller,
    pub engine: Arc<LogEngine>,
    pub environment: Environment,
}

/// The broker's shared state: one per process, behind an `Arc` in every connection.
#[derive(Debug)]
pub struct Broker {
    pub(crate) id: BrokerId,
    pub(crate) config: Arc<BrokerConfig>,
    pub(crate) controller: Controller,
    pub(crate) view: View,
    pub(crate) engine: Arc<LogEngine>,
    pub(crate) groups: GroupHost,
    pub(crate) transactions: TransactionHost,
    pub(crate) shares: ShareHost,
    pub(crate) environment: Environment,
    pub(crate) producer_ids: ProducerIds,
    /// Of topics that clients need (auto.create.topics.enable).
    pub(crate) creations: Creations,
    pub(crate) metrics: BrokerMetrics,
    /// `None`: everybody may do everything (authorizer.class.name).
    authorizer: Option<Arc<Authorizer>>,
    pub(crate) connections: Arc<ConnectionLimits>,
    pub(crate) stop: StopToken,
    /// Request frames over all connections (queued.max.request.bytes).
    pub(crate) request_memory: Arc<RequestMemory>,
    /// Held while settings are read and given to logs, so that no log gets older ones after newer ones; never across an
    /// await. Below it are only the locks of configs, of the metadata's readers and of logs, which lead nowhere.
    settings_order: Mutex<()>,
    /// A leaf lock, held for map operations only and never across an await: sessions are touched
    /// twice in a fetch, and an owner task would cost a hand-over each time.
    fetch_sessions: Mutex<FetchSessions>,
}

/// A running broker, as the binary sees it.
#[derive(Debug)]
pub struct BrokerHandle {
    pub(crate) broker: Arc<Broker>,
    addresses: Vec<SocketAddr>,
}

/// Why a broker did not start. Nothing was left behind: partitions are only opened, never changed.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Listen(#[from] ListenError),
}

impl Broker {
    /// Serves every partition the metadata gives to this broker, then opens the listeners.
    pub async fn start(
        parts: BrokerParts,
        registry: &mut Registry,
    ) -> Result<BrokerHandle, StartError> {
        let BrokerParts { id, config, controller, engine, environment } = parts;
        let environment = environment.child("broker");
        engine.set_compaction(crate::configs::compaction_options(&config));
        let view = controller.view();
        let groups = GroupHost::new(&config, registry);
        let transactions = TransactionHost::new(&config, registry);
        let shares = ShareHost::new(&config, registry);
        let metrics = BrokerMetrics::register(registry);
        let authorizer = config.authorizer.as_ref();
        let authorizer = authorizer.map(|it| Arc::new(Authorizer::new(it, &view, registry)));
        let limits = listener::limits(&config).await?;
        let broker = Arc::new(Broker {
            id,
            view,
            controller,
            engine,
            groups,
            transactions,
            shares,
            producer_ids: ProducerIds::default(),
            creations: Creations::new(CREATIONS_AT_ONCE),
            authorizer,
            connections: ConnectionLimits::new(limits, metrics.connections.clone()),
            metrics,
            stop: environment.tasks.token(),
            request_memory: Arc::new(RequestMemory::new(
                config.request_memory_bytes.max(config.request_bytes_max),
            )),
            settings_order: Mutex::default(),
            fetch_sessions: Mutex::new(FetchSessions::new(config.fetch_session_slots)),
            environment,
            config,
        });
        hosting::start(&broker);
        broker.groups.start(&broker);
        broker.transactions.start(&broker);
        broker.shares.start(&broker);
        let addresses = listener::start(&broker).await?;
        Ok(BrokerHandle { broker, addresses })
    }

    /// The log of a partition this broker leads, opened on first use.
    ///
    /// # Errors
    /// `UnknownTopicOrPartition`, or `NotLeaderOrFollower` where another broker leads it.
    pub(crate) fn led_log(&self, partition: Partition) -> Result<Arc<PartitionLog>, ErrorCode> {
        match self.engine.partition(partition) {
            Some(log) => Ok(log),
            // Between the metadata commit and the change feed: host it now.
            None => hosting::host_now(self, partition),
        }
    }

    /// What a request may do, by the ACLs as they are now; `None` where nothing is forbidden.
    pub(crate) fn access(&self) -> Option<Access> {
        self.authorizer.as_ref().map(|it| it.access(&self.view))
    }

    /// Returns when changed ACLs are in effect.
    pub(crate) fn follow_acls(&self) {
        if let Some(authorizer) = &self.authorizer {
            authorizer.follow(&self.view);
        }
    }

    /// Every broker as a client of `listener` reaches it.
    pub(crate) fn endpoints(&self, listener: &BoundListener) -> Vec<cluster::Broker> {
        let mut brokers = self.view.brokers();
        for broker in brokers.iter_mut().filter(|it| it.id == self.id) {
            broker.host.clone_from(&listener.advertised_host);
            broker.port = listener.advertised_port;
        }
        brokers
    }

    /// Those of `ids` as a client of `listener` reaches them.
    pub(crate) fn endpoints_of(
        &self,
        listener: &BoundListener,
        ids: &BTreeSet<i32>,
    ) -> impl Iterator<Item = cluster::Broker> {
        // Most answers name none: then nobody is asked for.
        let is_asked = ids.iter().any(|id| 0 <= *id);
        let brokers = if is_asked { self.endpoints(listener) } else { Vec::new() };
        brokers.into_iter().filter(|it| ids.contains(&it.id.0))
    }

    /// Who leads the partition as far as the metadata know, and since which leader epoch; -1 and -1 if there is none.
    pub(crate) fn leader_of(&self, partition: Partition) -> (i32, i32) {
        let topic = self.view.topic_by_id(partition.topic);
        let info = topic.as_ref().and_then(|it| it.partition(partition.index));
        info.map_or((-1, -1), |it| (it.leader.0, it.leader_epoch.0))
    }

    /// KIP-320: a client that knows another leader epoch than ours must look again. -1: it knows none.
    pub(crate) fn check_leader_epoch(
        &self,
        log: &PartitionLog,
        client_knows: i32,
    ) -> Result<(), ErrorCode> {
        if client_knows == -1 {
            return Ok(());
        }
        let here = log.leader_epoch();
        match LeaderEpoch(client_knows).cmp(&here) {
            std::cmp::Ordering::Less => Err(ErrorCode::FencedLeaderEpoch),
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Greater => Err(ErrorCode::UnknownLeaderEpoch),
        }
    }

    pub(crate) fn settings_order(&self) -> MutexGuard<'_, ()> {
        // It guards an order, not a value that could be left half-way.
        self.settings_order.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn fetch_sessions(&self) -> MutexGuard<'_, FetchSessions> {
        self.fetch_sessions.lock().expect("no holder of this leaf lock panics: map operations only")
    }
}

impl BrokerHandle {
    /// Where Kafka clients connect, with the real ports where port 0 was asked for.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Whether produce and fetch can be served now; else why not, for an operator.
    pub fn problem(&self) -> Option<String> {
        self.broker.engine.health().problem()
    }

    /// Stops in the written order: listeners and connections drain, groups stop, the log flushes.
    /// Every acknowledged record is durable before and after, whatever is cut short.
    pub async fn stop(self) {
        let unfinished = self.broker.environment.tasks.shutdown(DRAIN_MAX).await;
        if !unfinished.is_empty() {
            tracing::warn!(?unfinished, "tasks still running at the drain deadline");
        }
        self.broker.engine.shutdown().await;
    }
}
