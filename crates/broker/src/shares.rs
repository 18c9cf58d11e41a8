//! Hosts the share-partitions of the groups whose `__share_group_state` partitions this broker leads (KIP-932).
//!
//! Owns: who waits for records to come back, the share sessions. Does not own: the rules (`coordinator::share`), the
//! members of share groups (`groups`), the tasks and the news they get (`owners`), the wire (the handlers).
//!
//! | module | in it |
//! | --- | --- |
//! | `aborted` | which batches nobody gets, for their transaction was aborted |
//! | `acknowledging` | from the wire's acknowledgements to the coordinator's and back |
//! | `beginning` | where a group goes on, and where it begins with what is new to it |
//! | `fetching` | reading, acquiring; waiting for something to acquire |
//! | `machine` | a shard, as its owner drives it |
//! | `metrics` | what operators see of share groups |
//! | `sessions` | share sessions, pure |
//!
//! All share-partitions of a group are in the shard of the group's id, and that broker's word counts whoever leads the
//! partition itself: there is no second coordinator to ask (ADR 2026-11-28-share-groups).

mod aborted;
pub(crate) mod acknowledging;
pub(crate) mod beginning;
pub(crate) mod fetching;
mod machine;
mod metrics;
pub(crate) mod sessions;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use coordinator::share::{ShareCommand, ShareLimits, ShareOptions, ShareReply, ShareShard};
use environment::TaskKind;
use prometheus_client::registry::Registry;
use protocol::ErrorCode;
use tokio::sync::Notify;

use crate::broker::Broker;
use crate::configs::{self, BrokerConfig, ShareDeliveries};
use crate::owners::Owners;
use crate::shares::metrics::ShareMetrics;
use crate::shares::sessions::{ConnectionId, SessionKey, ShareSessions};

/// Kafka's name; clients and tools know it.
pub(crate) const SHARE_STATE_TOPIC: &str = "__share_group_state";

/// Groups share them; more are for fewer wake-ups that were for others.
const BELLS: usize = 64;

/// The coordinators hosted here, behind the broker's handle.
#[derive(Debug)]
pub(crate) struct ShareHost {
    options: ShareOptions,
    metrics: ShareMetrics,
    owners: Owners<ShareShard>,
    /// By group: see [`ShareHost::bell`].
    bells: [Notify; BELLS],
    connections: AtomicU64,
    /// A leaf lock, held for map operations only and never across an await.
    sessions: Mutex<ShareSessions>,
}

impl ShareHost {
    pub(crate) fn new(config: &BrokerConfig, registry: &mut Registry) -> ShareHost {
        let shares = &config.groups.share;
        let segment_bytes = shares.state_topic_segment_bytes.to_string();
        let owners = Owners::new(SHARE_STATE_TOPIC, shares.state_topic_partitions, segment_bytes);
        ShareHost {
            options: options(config),
            metrics: ShareMetrics::register(registry),
            // An update means nothing without those before it: the log is cut, not compacted.
            owners: owners.uncompacted(),
            bells: std::array::from_fn(|_| Notify::new()),
            connections: AtomicU64::new(0),
            sessions: Mutex::new(ShareSessions::new(shares.sessions_max)),
        }
    }

    /// Takes over the shards led here and follows the metadata until the broker stops: what is known of deleted topics
    /// is to go.
    pub(crate) fn start(&self, broker: &Arc<Broker>) {
        self.owners.start(broker);
    }

    /// Asks the shard of a group; `pick` takes the kind of reply that answers the command. Creates the topic on first
    /// need.
    ///
    /// # Errors
    /// `NotCoordinator`, `CoordinatorNotAvailable` and `CoordinatorLoadInProgress`. Nothing is known of what became of
    /// the request then.
    pub(crate) async fn ask<T>(
        &self,
        broker: &Arc<Broker>,
        group: &str,
        command: ShareCommand,
        pick: impl FnOnce(ShareReply) -> Option<T>,
    ) -> Result<T, ErrorCode> {
        self.owners.ask(broker, group, command, pick).await
    }

    /// How the group is given records.
    pub(crate) fn deliveries(&self, broker: &Broker, group: &str) -> ShareDeliveries {
        configs::share_deliveries(&broker.view.group_configs(group), &broker.config)
    }

    /// Rings when something of the group has come back. It may ring for others as well.
    pub(crate) fn bell(&self, group: &str) -> &Notify {
        // FNV-1a: the bells only have to be spread.
        let hash = group.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        &self.bells[(hash % BELLS as u64) as usize]
    }

    /// Whether anything was ever shared here.
    pub(crate) fn is_in_use(&self, broker: &Broker) -> bool {
        self.owners.topic(broker).is_some()
    }

    pub(crate) fn sessions(&self) -> MutexGuard<'_, ShareSessions> {
        self.sessions.lock().expect("no holder of this leaf lock panics: map operations only")
    }

    pub(crate) fn connection_opened(&self) -> ConnectionId {
        ConnectionId(self.connections.fetch_add(1, Ordering::Relaxed))
    }

    /// The sessions of a connection end with it: what their members have is available to others.
    pub(crate) fn connection_closed(&self, broker: &Arc<Broker>, connection: ConnectionId) {
        let ended = self.sessions().connection_closed(connection);
        if ended.is_empty() || broker.stop.is_stopped() {
            return;
        }
        let this = Arc::clone(broker);
        broker.environment.tasks.spawn(TaskKind::Background, "share-release", async move {
            for SessionKey { group, member } in ended {
                // Where that fails the locks run out.
                let _ = this.shares.release(&this, &group, member).await;
            }
        });
    }

    /// Gives back what the member of a session has that is to close, and ends it.
    pub(crate) async fn close(&self, broker: &Arc<Broker>, key: &SessionKey) {
        // Where that fails the locks run out.
        let _ = self.release(broker, &key.group, key.member.clone()).await;
        self.sessions().closed(key);
    }

    /// Gives back what a member has.
    ///
    /// # Errors
    /// As of [`ShareHost::ask`].
    pub(crate) async fn release(
        &self,
        broker: &Arc<Broker>,
        group: &str,
        member: String,
    ) -> Result<(), ErrorCode> {
        let command = ShareCommand::Release { group: group.to_owned(), member };
        let pick = |reply| if let ShareReply::Released = reply { Some(()) } else { None };
        self.ask(broker, group, command, pick).await
    }
}

fn options(config: &BrokerConfig) -> ShareOptions {
    let shares = &config.groups.share;
    ShareOptions {
        limits: ShareLimits {
            locks_max: i64::from(shares.partition_locks_max),
            delivery_count_limit: i16::try_from(shares.delivery_count_limit).unwrap_or(i16::MAX),
        },
        updates_per_snapshot: u32::try_from(shares.updates_per_snapshot).unwrap_or(u32::MAX),
        ..ShareOptions::default()
    }
}
