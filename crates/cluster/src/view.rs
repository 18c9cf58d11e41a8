//! What everybody else reads of the metadata: the last durable state, and a feed of changes.
//!
//! The copy behind it is written by the controller task alone, after the store has made a change
//! durable; readers hold its lock for one look-up and never across an await. A lock, not snapshots:
//! a commit of runs must not copy ten thousand partitions. Who makes something of all ACLs may ask for the
//! latest changes of them alone (`acl_history`).

mod acl_history;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::{broadcast, watch};
use vocabulary::{BrokerId, Partition, SegmentName, TopicId};

use crate::state::{Acl, AclFilter, Broker, Event, Progress, Segment, State, Topic, WalLog, apply};

use self::acl_history::AclHistory;
pub use self::acl_history::{AclChange, AclsSince};

/// Changes a slow follower may lag behind before it has to look at everything anew.
const CHANGES_MAX: usize = 1024;

/// What happened to a topic.
#[derive(Debug, Clone, PartialEq)]
pub enum TopicChange {
    /// Created, grown, reconfigured or led anew.
    Changed(Arc<Topic>),
    Deleted {
        id: TopicId,
        name: String,
    },
    /// Changes were missed: look at every topic.
    Resync,
}

/// Read access to the metadata. Cheap to clone.
#[derive(Debug, Clone)]
pub struct View {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    cluster_id: String,
    readable: RwLock<Readable>,
    /// Grows with every change of ACLs, under the lock; read without it.
    acl_generation: AtomicU64,
    changes: broadcast::Sender<TopicChange>,
    /// Told when dynamic broker configs change. Nobody needs more than the latest.
    broker_configs: watch::Sender<()>,
}

/// What the lock is for.
#[derive(Debug)]
struct Readable {
    state: State,
    acl_history: AclHistory,
}

/// A follower's place in the feed of changes.
#[derive(Debug)]
pub struct Changes {
    receiver: broadcast::Receiver<TopicChange>,
}

impl Changes {
    /// The next change. `None` once the controller is gone.
    pub async fn next(&mut self) -> Option<TopicChange> {
        match self.receiver.recv().await {
            Ok(change) => Some(change),
            Err(broadcast::error::RecvError::Lagged(_)) => Some(TopicChange::Resync),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

/// A follower of the dynamic broker configs.
#[derive(Debug)]
pub struct BrokerConfigChanges {
    receiver: watch::Receiver<()>,
}

impl BrokerConfigChanges {
    /// Returns when they have changed since it was asked last, however often. `None` once the controller is gone.
    pub async fn next(&mut self) -> Option<()> {
        self.receiver.changed().await.ok()
    }
}

impl View {
    pub(crate) fn new(cluster_id: String, state: State) -> View {
        let (changes, _) = broadcast::channel(CHANGES_MAX);
        let readable = RwLock::new(Readable { state, acl_history: AclHistory::default() });
        let acl_generation = AtomicU64::new(0);
        let (broker_configs, _) = watch::channel(());
        let shared = Shared { cluster_id, readable, acl_generation, changes, broker_configs };
        View { shared: Arc::new(shared) }
    }

    pub fn cluster_id(&self) -> &str {
        &self.shared.cluster_id
    }

    pub fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.read().state.topic(name).cloned()
    }

    pub fn topic_by_id(&self, id: TopicId) -> Option<Arc<Topic>> {
        self.read().state.topics.get(&id).cloned()
    }

    /// Every topic, by name.
    pub fn topics(&self) -> Vec<Arc<Topic>> {
        let state = &self.read().state;
        state.names.values().filter_map(|id| state.topics.get(id)).cloned().collect()
    }

    /// How far a partition's committed runs are. `None` if it does not exist.
    pub fn progress(&self, partition: Partition) -> Option<Progress> {
        self.read().state.progress_of(partition).cloned()
    }

    /// Every registered broker, by id.
    pub fn brokers(&self) -> Vec<Broker> {
        self.read().state.brokers.values().cloned().collect()
    }

    /// Dynamic configs of one broker, or the cluster-wide ones (`None`).
    pub fn broker_configs(&self, broker: Option<BrokerId>) -> BTreeMap<String, String> {
        self.read().state.broker_configs.get(&broker).cloned().unwrap_or_default()
    }

    /// What was set for a group, whether there is such a group or not.
    pub fn group_configs(&self, group: &str) -> BTreeMap<String, String> {
        self.read().state.group_configs.get(group).cloned().unwrap_or_default()
    }

    /// Every group that something was set for, by name.
    pub fn configured_groups(&self) -> Vec<String> {
        self.read().state.group_configs.keys().cloned().collect()
    }

    /// Which generation of ACLs readers see now: it grows when ACLs change. Takes no lock.
    pub fn acl_generation(&self) -> u64 {
        self.shared.acl_generation.load(Ordering::Acquire)
    }

    /// Every ACL, and their generation.
    pub fn acls(&self) -> (u64, Vec<Arc<Acl>>) {
        let state = &self.read().state;
        (self.acl_generation(), state.acls.iter().cloned().collect())
    }

    /// What became of the ACLs after a generation of them, and the generation that they have come to.
    pub fn acls_since(&self, generation: u64) -> (u64, AclsSince) {
        let readable = self.read();
        let since = match readable.acl_history.since(generation) {
            Some(changes) => AclsSince::Changes(changes),
            None => AclsSince::All(readable.state.acls.iter().cloned().collect()),
        };
        (self.acl_generation(), since)
    }

    /// The ACLs that a filter picks: those of one resource's pattern come one after another.
    pub fn acls_picked(&self, filter: &AclFilter) -> Vec<Arc<Acl>> {
        filter.picked_of(&self.read().state.acls).cloned().collect()
    }

    /// The data segment of that name, referenced or garbage. `None`: metadata knows no such segment.
    pub fn segment(&self, id: SegmentName) -> Option<Segment> {
        self.read().state.segments.get(&id).copied()
    }

    /// At most `count_max` segments without live runs, the longest dead first. Not those of open logs:
    /// whoever ends such a log may find that more of them has survived.
    pub fn garbage(&self, count_max: usize) -> Vec<(SegmentName, Segment)> {
        let state = &self.read().state;
        let dead = state.garbage.iter().filter(|(_, id)| state.may_go(*id)).take(count_max);
        dead.filter_map(|(_, id)| Some((*id, *state.segments.get(id)?))).collect()
    }

    /// Every write-ahead log, by broker and epoch.
    pub fn wal_logs(&self) -> Vec<WalLog> {
        self.read().state.logs.values().copied().collect()
    }

    /// Follows the changes from now on.
    pub fn changes(&self) -> Changes {
        Changes { receiver: self.shared.changes.subscribe() }
    }

    /// Follows the changes of dynamic broker configs from now on.
    pub fn broker_config_changes(&self) -> BrokerConfigChanges {
        BrokerConfigChanges { receiver: self.shared.broker_configs.subscribe() }
    }

    /// A deleted topic whose runs are not all dropped yet.
    pub(crate) fn dropping(&self) -> Option<TopicId> {
        self.read().state.dropping.first_key_value().map(|(id, _)| *id)
    }

    /// Makes durable events visible. The controller is the only caller.
    pub(crate) fn publish(&self, events: &[Event]) {
        let mut changes = Vec::new();
        {
            let Readable { state, acl_history } = &mut *self.write();
            let acl_generation = self.acl_generation() + 1;
            for event in events {
                if let Some(change) = acl_change(state, event) {
                    acl_history.note(acl_generation, change);
                }
                apply(state, event);
            }
            if events.iter().any(Event::is_of_acls) {
                self.shared.acl_generation.store(acl_generation, Ordering::Release);
            }
            for event in events {
                let Some(id) = event.topic_changed() else { continue };
                changes.push(match (event, state.topics.get(&id)) {
                    (Event::TopicDeleted { id, name, .. }, _) => {
                        TopicChange::Deleted { id: *id, name: name.clone() }
                    }
                    (_, Some(topic)) => TopicChange::Changed(Arc::clone(topic)),
                    (_, None) => continue, // Deleted by a later event of the same batch.
                });
            }
        }
        if events.iter().any(|it| matches!(it, Event::BrokerConfigsChanged { .. })) {
            self.shared.broker_configs.send_replace(());
        }
        for change in changes {
            // Nobody following is fine.
            let _ = self.shared.changes.send(change);
        }
    }

    /// One look at the whole state, for a dry run of a rule.
    pub(crate) fn with_state<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.read().state)
    }

    fn read(&self) -> RwLockReadGuard<'_, Readable> {
        self.shared.readable.read().expect("the writer panics only on A3, which stops the process")
    }

    fn write(&self) -> RwLockWriteGuard<'_, Readable> {
        self.shared.readable.write().expect("the writer panics only on A3, which stops the process")
    }
}

/// What an event changes of the ACLs; nothing if they are so already.
fn acl_change(state: &State, event: &Event) -> Option<AclChange> {
    match event {
        Event::AclCreated(acl) if !state.acls.contains(acl) => {
            Some(AclChange::Created(Arc::clone(acl)))
        }
        Event::AclDeleted(acl) if state.acls.contains(acl) => {
            Some(AclChange::Deleted(Arc::clone(acl)))
        }
        _ => None,
    }
}
