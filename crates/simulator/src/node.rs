//! One life of one node: the shipped rooms, opened in the order of the binary's `assembly`.
//!
//! Owns: the wiring, and which partitions are hosted, as the broker's `hosting` does it.
//! Does not own: sockets and handlers, which are not simulated.

use crate::changelog;
use crate::history::Meters;
use crate::shelf::Door;
use crate::swarm::{BROKER, Plan};
use crate::time::SteppedClock;
use crate::world::World;
use broker::ClusterRunIndex;
use bucket::{Bucket, LyingBucket, LyingStore};
use cluster::{Controller, OpenError, RegisterBroker, StoreError, Topic, TopicChange, WalKind};
use environment::{Clock, Environment};
use object_store::ObjectStore;
use partition_log::wal::ledger::WalId;
use partition_log::wal::{Adopted, BucketWal, FileWal, WalBackend, WalError, adopt_logs};
use partition_log::{LogEngine, LogSettings, PartitionLog, PartitionStart};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use vocabulary::{BrokerEpoch, Partition};

/// The one topic config that the workload changes.
pub(crate) const RETENTION_MS: &str = "retention.ms";

/// How long the last tasks of a stopped process may take.
const REST_MAX: Duration = Duration::from_secs(2);

/// The first half of a start: the metadata is open, the log is not.
pub(crate) struct Opening {
    pub(crate) environment: Environment,
    pub(crate) controller: Controller,
    pub(crate) cluster_id: String,
    pub(crate) epoch: BrokerEpoch,
    data: Arc<LyingBucket>,
    metadata: Arc<LyingStore>,
}

pub(crate) struct Node {
    pub(crate) environment: Environment,
    pub(crate) controller: Controller,
    pub(crate) engine: Arc<LogEngine>,
    metadata: Arc<LyingStore>,
    data: Arc<LyingBucket>,
    adopted: Adopted,
}

/// The process gave up its start; an operator, or systemd, starts it again.
#[derive(Debug)]
pub(crate) struct NotStarted(pub(crate) String);

impl Opening {
    pub(crate) async fn start(
        world: &World,
        plan: &Plan,
        door: &Arc<Door>,
        environment: Environment,
        metadata_clock: &Arc<SteppedClock>,
    ) -> Result<Opening, NotStarted> {
        let below = || Arc::<Door>::clone(door) as Arc<dyn ObjectStore>;
        let seed = environment.entropy.next_u64();
        let data = LyingBucket::over(below(), seed, plan.data_faults.clone(), &environment);
        let marker = bucket::claim(&data, &*environment.entropy).await;
        let cluster_id = match marker {
            Ok(marker) => marker.cluster_id,
            Err(bucket::MarkerError::Bucket(error)) => return Err(NotStarted(error.to_string())),
            Err(error) => panic!("the cluster marker is spoilt: {error}"),
        };
        let seed = environment.entropy.next_u64();
        let faults = plan.metadata_faults.clone();
        let store = Arc::new(LyingStore::new(below(), seed, faults, &environment));
        let options = &world.swarm.metadata;
        let clock = Arc::<SteppedClock>::clone(metadata_clock) as Arc<dyn Clock>;
        let surroundings = Environment { clock, ..environment.clone() };
        let metadata = Arc::clone(&store);
        let opened =
            Controller::open(store, "meta", cluster_id.clone(), options, &surroundings).await;
        let controller = match opened {
            Ok(controller) => controller,
            Err(OpenError::Store(StoreError::Unavailable(why))) => return Err(NotStarted(why)),
            Err(error) => panic!("the metadata is spoilt: {error}"),
        };
        let command = RegisterBroker {
            id: BROKER,
            host: "node".into(),
            port: 9092,
            rack: None,
            wal: if world.swarm.wal_in_bucket { WalKind::Bucket } else { WalKind::File },
            volume: None,
            gives_up: None,
            takes_over: Vec::new(),
        };
        let epoch = controller.register_broker(command).await;
        let epoch = epoch.map_err(|error| NotStarted(error.to_string()))?;
        let data = Arc::new(data);
        Ok(Opening { environment, controller, cluster_id, epoch, data, metadata })
    }

    /// Recovers the log and hosts every partition.
    pub(crate) async fn finish(self, world: &World) -> Result<Node, NotStarted> {
        let Opening { environment, controller, epoch, data: lying, metadata, .. } = self;
        let mut options = world.swarm.log.clone();
        options.wal.epoch = epoch;
        let runs = Arc::new(ClusterRunIndex::new(controller.clone(), BROKER, epoch));
        let own = WalId { broker: BROKER, epoch };
        let data: Arc<dyn Bucket> = Arc::<LyingBucket>::clone(&lying);
        let adopted = adopt_logs(&*data, &*runs, &*runs, own, &environment).await;
        let adopted = adopted.unwrap_or_else(|error| panic!("A6: the dead log is spoilt: {error}"));
        assert!(adopted.damaged.is_empty(), "A3: {:?}", adopted.damaged);
        let backend: Arc<dyn WalBackend> = if world.swarm.wal_in_bucket {
            let (data, ledger) = (Arc::clone(&data), Arc::clone(&runs) as _);
            let options = world.swarm.bucket_wal.clone();
            Arc::new(BucketWal::new(own, options, data, ledger, &environment))
        } else {
            let disk = Arc::new(world.disk.remount(&environment));
            Arc::new(FileWal::new(disk, world.swarm.wal.clone(), &environment))
        };
        let ledger = Arc::clone(&runs);
        let opened = LogEngine::open(options, backend, data, runs, environment.clone());
        let engine = match opened.await {
            Ok(engine) => engine,
            Err(partition_log::OpenError::Wal(WalError::Volume(error))) => {
                return Err(NotStarted(error.to_string()));
            }
            Err(error) => panic!("A1: the WAL is spoilt: {error}"),
        };
        engine.sweep_logs(ledger);
        let node = Node { environment, controller, engine, metadata, data: lying, adopted };
        for topic in node.controller.view().topics() {
            node.host_topic(&topic);
        }
        node.engine.discard_unhosted();
        Ok(node)
    }
}

impl Node {
    pub(crate) fn meters(&self) -> Meters {
        Meters {
            log: self.engine.metrics().clone(),
            stores: [Arc::clone(&self.metadata), Arc::clone(self.data.store())],
            logs_taken_over: self.adopted.logs as u64,
            runs_taken_over: self.adopted.runs,
        }
    }

    /// The log of a partition that exists.
    pub(crate) fn host(&self, partition: Partition) -> Option<Arc<PartitionLog>> {
        let view = self.controller.view();
        let topic = view.topic_by_id(partition.topic)?;
        let info = topic.partitions.get(usize::try_from(partition.index).ok()?)?;
        let progress = view.progress(partition)?;
        let start = PartitionStart {
            partition,
            leader_epoch: info.leader_epoch,
            log_start: progress.log_start,
            committed_end: progress.committed_end,
            committed_bytes: progress.committed_bytes,
            epochs: progress.epochs,
        };
        Some(self.engine.host(start, Arc::new(settings(&topic.configs))))
    }

    fn host_topic(&self, topic: &Topic) {
        for index in 0..topic.partitions.len() as i32 {
            self.host(Partition { topic: topic.id, index });
        }
    }

    /// Follows the metadata for as long as the process lives.
    pub(crate) async fn follow(&self) {
        let mut changes = self.controller.view().changes();
        while let Some(change) = changes.next().await {
            match change {
                TopicChange::Changed(topic) => self.host_topic(&topic),
                TopicChange::Deleted { id, .. } => {
                    for log in self.engine.partitions() {
                        if log.partition().topic == id {
                            self.engine.remove(log.partition());
                        }
                    }
                }
                TopicChange::Resync => panic!("the feed is read as it grows"),
            }
        }
    }

    /// Stops in the binary's order.
    pub(crate) async fn stop(&self) {
        self.engine.shutdown().await;
        self.controller.close().await;
        let late = self.environment.tasks.shutdown(REST_MAX).await;
        assert!(late.is_empty(), "A9: tasks hold up a stop: {late:?}");
    }
}

fn settings(configs: &BTreeMap<String, String>) -> LogSettings {
    let mut settings = LogSettings::default();
    changelog::configure(&mut settings, configs);
    if let Some(value) = configs.get(RETENTION_MS) {
        let value: i64 = value.parse().expect("the workload writes numbers");
        settings.retention_ms = (0 <= value).then_some(value);
    }
    settings
}
