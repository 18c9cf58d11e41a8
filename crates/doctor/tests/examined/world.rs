//! A cluster with a past: flushed data, a log that was taken over, an open log with a tail.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use broker::ClusterRunIndex;
use bucket::{Bucket, StoreBucket, StoreOptions};
use cluster::{Controller, MetadataFiles, MetadataInspection, RegisterBroker, StoreError, WalKind};
use doctor::{DoctorOptions, Place, Report};
use environment::{Environment, SimulatedClock};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use partition_log::wal::ledger::{WalId, WalLedger};
use partition_log::wal::{BucketWal, BucketWalOptions, adopt_logs};
use partition_log::{
    Cleanup, LogEngine, LogOptions, LogSettings, MarkerRule, PartitionLog, PartitionStart,
};
use protocol::records::{Batch, BatchBuilder, Compression, EndTxnMarker, TransactionResult};
use vocabulary::{BrokerEpoch, BrokerId, Partition, ProducerId, Timestamp};

pub(crate) const METADATA: &str = "meta";

/// Acknowledged one by one, so that each is a WAL segment: more than a writer has in flight.
pub(crate) const TAIL_BATCHES: i32 = 24;

/// What is in the bucket, and what it was built with.
pub(crate) struct World {
    store: InMemory,
    environment: Environment,
    pub(crate) first: WalId,
    pub(crate) second: WalId,
}

struct Life {
    controller: Controller,
    engine: Arc<LogEngine>,
    id: WalId,
}

impl World {
    /// Two lives of a broker: the first one ends without a goodbye.
    pub(crate) async fn build() -> World {
        World::build_with(&cluster::StoreOptions::default()).await
    }

    pub(crate) async fn build_with(metadata: &cluster::StoreOptions) -> World {
        let environment = Environment::simulated(1);
        let (store, bucket) = new_bucket(&environment).await;
        let first = Life::start(&bucket, &environment, metadata).await;
        let created = first.controller.create_topic("orders", 2, BTreeMap::new()).await;
        created.expect("decided").expect("a new name");
        for (index, log) in first.host().into_iter().enumerate() {
            for sequence in 0..6 {
                acked(&log, produced(index as i64, sequence)).await;
            }
        }
        first.engine.flush_all().await;
        for (index, log) in first.engine.partitions().into_iter().enumerate() {
            for sequence in 0..3 {
                acked(&log, produced(10 + index as i64, sequence)).await;
            }
        }
        let second = Life::start(&bucket, &environment, metadata).await;
        let logs = second.host();
        for sequence in 0..TAIL_BATCHES {
            acked(&logs[0], produced(20, sequence)).await;
        }
        let ids = (first.id, second.id);
        World { store: store.fork(), environment, first: ids.0, second: ids.1 }
    }

    /// A compacted topic: of its records, tombstones, aborted transactions and markers some are gone. The
    /// last run is not compacted, as a transaction that is open starts in it.
    pub(crate) async fn build_compacted() -> World {
        let environment = Environment::simulated(1);
        let (store, bucket) = new_bucket(&environment).await;
        let life = Life::start(&bucket, &environment, &cluster::StoreOptions::default()).await;
        let created = life.controller.create_topic("changelog", 1, BTreeMap::new()).await;
        created.expect("decided").expect("a new name");
        let settings = LogSettings {
            cleanup: Cleanup { delete: false, compact: true },
            segment_ms: 1,
            min_cleanable_dirty_ratio: 0.0,
            delete_retention_ms: 0,
            ..LogSettings::default()
        };
        let log = life.host_with(&settings).remove(0);
        let now = || environment.clock.wall();
        for round in 0..5 {
            for key in 0..4 {
                let sequence = round * 4 + key;
                acked(&log, keyed((30, sequence), key, key != round, now())).await;
            }
            for (producer, result) in
                [(31, TransactionResult::Abort), (32, TransactionResult::Commit)]
            {
                let within = keyed((producer, round), 5 + (producer as i32 & 1), true, now());
                acked(&log, within).await;
                end(&log, producer, result).await;
            }
            if round == 4 {
                acked(&log, keyed((33, 0), 9, true, now())).await;
            }
            life.engine.flush_all().await;
            environment.clock.sleep(Duration::from_secs(120)).await;
        }
        let metrics = life.engine.metrics();
        let dropped = [
            metrics.compaction_records_dropped.get(),
            metrics.compaction_aborted_dropped.get(),
            metrics.compaction_markers_dropped.get(),
        ];
        assert!(dropped.iter().all(|it| 0 < *it), "something of each kind is gone: {dropped:?}");
        World { store: store.fork(), environment, first: life.id, second: life.id }
    }

    /// A copy of the bucket, to be damaged.
    pub(crate) fn copy(&self) -> Damaged {
        Damaged { store: Arc::new(self.store.fork()), environment: self.environment.clone() }
    }
}

impl Life {
    async fn start(
        bucket: &Arc<StoreBucket>,
        environment: &Environment,
        options: &cluster::StoreOptions,
    ) -> Life {
        let environment = environment.child("life");
        let store = bucket.object_store();
        let controller =
            Controller::open(store, METADATA, "cluster".into(), options, &environment).await;
        let controller = controller.expect("opened");
        let broker = BrokerId(1);
        let command = RegisterBroker {
            id: broker,
            host: "h".into(),
            port: 9092,
            rack: None,
            wal: WalKind::Bucket,
            volume: None,
            gives_up: None,
            takes_over: Vec::new(),
        };
        let epoch: BrokerEpoch = controller.register_broker(command).await.expect("registered");
        let id = WalId { broker, epoch };
        let runs = Arc::new(ClusterRunIndex::new(controller.clone(), broker, epoch));
        let shared: Arc<dyn Bucket> = Arc::<StoreBucket>::clone(bucket);
        adopt_logs(&*shared, &*runs, &*runs, id, &environment).await.expect("adopted");
        let ledger: Arc<dyn WalLedger> = Arc::<ClusterRunIndex>::clone(&runs);
        let options = BucketWalOptions::default();
        let wal = BucketWal::new(id, options, Arc::clone(&shared), ledger, &environment);
        let options = LogOptions::new(broker, epoch);
        let engine = LogEngine::open(options, Arc::new(wal), shared, runs, environment).await;
        Life { controller, engine: engine.expect("opened"), id }
    }

    /// The logs of all partitions, by index.
    fn host(&self) -> Vec<Arc<PartitionLog>> {
        self.host_with(&LogSettings::default())
    }

    fn host_with(&self, settings: &LogSettings) -> Vec<Arc<PartitionLog>> {
        let view = self.controller.view();
        let mut logs = Vec::new();
        for topic in view.topics() {
            for (index, info) in (0..).zip(&topic.partitions) {
                let partition = Partition { topic: topic.id, index };
                let progress = view.progress(partition).expect("it exists");
                let start = PartitionStart {
                    partition,
                    leader_epoch: info.leader_epoch,
                    log_start: progress.log_start,
                    committed_end: progress.committed_end,
                    committed_bytes: progress.committed_bytes,
                    epochs: progress.epochs,
                };
                logs.push(self.engine.host(start, Arc::new(settings.clone())));
            }
        }
        logs
    }
}

async fn new_bucket(environment: &Environment) -> (Arc<InMemory>, Arc<StoreBucket>) {
    let store = Arc::new(InMemory::new());
    let shared: Arc<dyn ObjectStore> = Arc::<InMemory>::clone(&store);
    let bucket = Arc::new(StoreBucket::new(shared, StoreOptions::remote(), environment));
    bucket::claim(&*bucket, &*environment.entropy).await.expect("a marker");
    (store, bucket)
}

/// One record with a key, in a transaction unless it is producer 30's; a tombstone without a value.
fn keyed((producer, sequence): (i64, i32), key: i32, has_value: bool, now: Timestamp) -> Batch {
    let id = Some((ProducerId(producer), 0, sequence));
    let builder = BatchBuilder::new(Compression::None, id);
    let mut builder = if producer == 30 { builder } else { builder.transactional() };
    let value = [sequence as u8; 300];
    builder.push(now, Some(&key.to_be_bytes()), has_value.then_some(&value[..]), &[]);
    builder.build()
}

async fn end(log: &PartitionLog, producer: i64, result: TransactionResult) {
    let marker = EndTxnMarker { result, coordinator_epoch: 1 };
    let marked = log.append_marker(ProducerId(producer), 0, marker, MarkerRule::V1).await;
    marked.expect("it is current").durable.await.expect("durable");
}

fn produced(producer: i64, sequence: i32) -> Batch {
    let producer = Some((ProducerId(producer), 0, sequence));
    let mut builder = BatchBuilder::new(Compression::None, producer);
    let value = [sequence as u8; 300];
    builder.push(Timestamp(1_767_225_600_000), None, Some(&value), &[]);
    builder.build()
}

async fn acked(log: &PartitionLog, batch: Batch) {
    let appended = log.append(batch, None).await.expect("taken");
    appended.durable.await.expect("durable");
}

/// A bucket of its own.
pub(crate) struct Damaged {
    store: Arc<InMemory>,
    environment: Environment,
}

impl Damaged {
    /// The keys below a prefix, in order.
    pub(crate) async fn keys(&self, prefix: &str) -> Vec<String> {
        let listed = self.store.list_with_delimiter(Some(&Path::from(prefix))).await;
        let listed = listed.expect("memory answers");
        let mut keys: Vec<String> =
            listed.objects.iter().map(|it| it.location.to_string()).collect();
        for below in listed.common_prefixes {
            keys.extend(Box::pin(self.keys(below.as_ref())).await);
        }
        keys.sort();
        keys
    }

    pub(crate) async fn bytes(&self, key: &str) -> Vec<u8> {
        let found = self.store.get(&Path::from(key)).await.expect("it exists");
        found.bytes().await.expect("memory answers").to_vec()
    }

    pub(crate) async fn write(&self, key: &str, bytes: Vec<u8>) {
        self.store.put(&Path::from(key), bytes.into()).await.expect("memory takes all");
    }

    pub(crate) async fn delete(&self, key: &str) {
        self.store.delete(&Path::from(key)).await.expect("it exists");
    }

    /// Flips a bit: `at` from the start, or from the end if negative.
    pub(crate) async fn flip(&self, key: &str, at: i64) {
        let mut bytes = self.bytes(key).await;
        let at = if at < 0 { bytes.len() as i64 + at } else { at };
        bytes[at as usize] ^= 1;
        self.write(key, bytes).await;
    }

    pub(crate) async fn examine(&self, options: &DoctorOptions) -> Report {
        self.examine_in(&self.environment, options).await
    }

    /// Long after everything was written: by the clock of the doctor, all objects are old.
    pub(crate) async fn examine_late(&self) -> Report {
        let clock = Arc::new(SimulatedClock::starting_at(Timestamp(9_000_000_000_000)));
        let environment = Environment { clock, ..self.environment.clone() };
        self.examine_in(&environment, &DoctorOptions::default()).await
    }

    pub(crate) async fn examine_in(
        &self,
        environment: &Environment,
        options: &DoctorOptions,
    ) -> Report {
        let (bucket, metadata) = self.open(environment).await;
        let place =
            Place { bucket: &bucket, metadata: &metadata, wal_directory: None, environment };
        let report = doctor::examine(&place, options).await.expect("everything answers");
        metadata.close().await;
        report
    }

    pub(crate) async fn inspect(&self, subject: &doctor::Subject) -> (bool, Vec<doctor::Row>) {
        let (bucket, metadata) = self.open(&self.environment).await;
        let environment = &self.environment;
        let place =
            Place { bucket: &bucket, metadata: &metadata, wal_directory: None, environment };
        let mut rows = Vec::new();
        let inspected = doctor::inspect(&place, subject, &mut rows).await.expect("it answers");
        metadata.close().await;
        (inspected.is_broken, rows)
    }

    /// What the metadata consists of, by itself.
    pub(crate) async fn metadata_files(&self) -> MetadataFiles {
        let (_, metadata) = self.open(&self.environment).await;
        let files = metadata.check_files().await.expect("memory answers");
        metadata.close().await;
        files
    }

    /// As the doctor's command does it, which may not get as far as a report.
    pub(crate) async fn try_examine(&self) -> Result<Report, String> {
        let environment = &self.environment;
        let (bucket, opened) = self.try_open(environment).await;
        let metadata = opened.map_err(|error| error.to_string())?;
        let place =
            Place { bucket: &bucket, metadata: &metadata, wal_directory: None, environment };
        let report = doctor::examine(&place, &DoctorOptions::default()).await;
        metadata.close().await;
        report.map_err(|error| error.to_string())
    }

    async fn open(&self, environment: &Environment) -> (StoreBucket, MetadataInspection) {
        let (bucket, metadata) = self.try_open(environment).await;
        (bucket, metadata.expect("it can be read"))
    }

    async fn try_open(
        &self,
        environment: &Environment,
    ) -> (StoreBucket, Result<MetadataInspection, StoreError>) {
        let store: Arc<dyn ObjectStore> = Arc::<InMemory>::clone(&self.store);
        let bucket = StoreBucket::new(store, StoreOptions::remote(), environment);
        let opened = MetadataInspection::open(bucket.object_store(), METADATA, environment).await;
        (bucket, opened.map(|it| it.expect("it is there")))
    }
}
