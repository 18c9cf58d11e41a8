//! One broker epoch: opens the rooms in order, each on top of the one before, and closes them in the
//! opposite order.
//!
//! Order of opening: bucket, probe beside a look at the cluster marker and at who is registered, nobody
//! else alive, metadata, the WAL's place, broker epoch, others' logs ended, our log, listeners, ready. What
//! fails leaves stored data as it was, and what was opened before is dropped: nothing here needs undoing.
//!
//! Order of closing, [`Assembled::close`]: not ready, listeners and requests and groups, log and WAL,
//! metadata, everything else.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use admin::{ProcessCollector, Stage};
use broker::{Broker, BrokerHandle, BrokerParts, ClusterRunIndex, Listener};
use bucket::{BucketLocation, ClusterMarker, MarkerError, StoreBucket, Variables};
use cluster::{Controller, OpenError, StoreError, WalKind};
use environment::{Environment, TaskKind};
use partition_log::LogEngine;
use partition_log::wal::ledger::WalId;
use prometheus_client::registry::Registry;

use crate::allocator::AllocatorCollector;
use crate::backoff::Tries;
use crate::banner::Banner;
use crate::failure::Failure;
use crate::node::Node;
use crate::steps::Steps;
use crate::{standby, write_ahead};

/// The metadata database below the bucket's root.
pub(crate) const METADATA_PATH: &str = "meta";

/// Uploads that a crash cut short are swept once they are this old: nobody writes to them any more.
const STAGED_AGE_MIN: Duration = Duration::from_secs(60 * 60);

/// Tries to open the metadata, whose own requests are tried again already, and the waits between them.
const METADATA_TRIES: Tries =
    Tries { count_max: 4, wait_min: Duration::from_millis(500), wait_max: Duration::from_secs(4) };

/// How long what is left may take at the end.
const REST_MAX: Duration = Duration::from_secs(2);

/// A running broker with everything below it.
#[derive(Debug)]
pub(crate) struct Assembled {
    pub(crate) banner: Banner,
    readiness: admin::Readiness,
    broker: BrokerHandle,
    engine: Arc<LogEngine>,
    log: OwnLog,
    controller: Controller,
    environment: Environment,
}

/// What the metadata knows this epoch's log by.
#[derive(Debug)]
struct OwnLog {
    id: WalId,
    kind: WalKind,
    runs: Arc<ClusterRunIndex>,
}

/// Opens everything. `environment` is this epoch's own.
pub(crate) async fn open(node: &Node, environment: &Environment) -> Result<Assembled, Failure> {
    let (config, readiness) = (&node.config, &node.readiness);
    let mut steps = Steps::begin(&environment.clock);
    readiness.enter(Stage::Starting("opening the bucket"));
    let location = node.bucket();
    let bucket = open_bucket(&location, environment)?;
    let (cluster_id, registered) = look_around(&bucket, &location, environment).await?;
    steps.done("bucket");

    standby::until_alone(node, &bucket, &cluster_id, registered, environment).await?;
    steps.done("standby");
    readiness.enter(Stage::Starting("opening the metadata"));
    let controller = open_metadata(&bucket, &cluster_id, environment).await?;
    steps.done("metadata");
    let place = write_ahead::Place::open(node, &*environment.entropy).await?;
    let epoch = write_ahead::register(node, &place, &controller).await?;
    steps.done("registration");
    let own = controller.view().broker_configs(Some(config.node_id));
    config.set_dynamic(controller.view().broker_configs(None), own);

    readiness.enter(Stage::Starting("recovering the write-ahead log"));
    let log = WalId { broker: config.node_id, epoch };
    let runs = Arc::new(ClusterRunIndex::new(controller.clone(), config.node_id, epoch));
    let wal_kind = place.kind();
    let opening = write_ahead::open_engine(node, place, log, &runs, &bucket, environment);
    let engine = opening.await?;
    steps.done("logs");

    readiness.enter(Stage::Starting("opening the listeners"));
    let mut registry = registry(&bucket, &engine);
    let parts = BrokerParts {
        id: config.node_id,
        config: Arc::clone(config),
        controller: controller.clone(),
        engine: Arc::clone(&engine),
        environment: environment.clone(),
    };
    let broker = Broker::start(parts, &mut registry)
        .await
        .map_err(|error| Failure::open(error.to_string()))?;
    node.pages.show_metrics(registry);
    let (appends, metadata) = (Arc::clone(&engine), controller.clone());
    let problem = move || appends.health().problem().or_else(|| metadata.health().problem());
    readiness.enter(Stage::Serving(Arc::new(problem)));
    steps.done("listeners");
    tracing::info!("started in {steps}");

    let wal = match node.wal_directory() {
        Some(directory) => directory.display().to_string(),
        None => format!("in the bucket, epoch {epoch}"),
    };
    let banner = Banner {
        kafka: config.listeners.iter().zip(broker.addresses()).map(advertised).collect(),
        admin: node.admin,
        bucket: bucket_place(&location),
        wal,
        cluster_id,
        broker_id: config.node_id.0,
    };
    let (readiness, environment) = (readiness.clone(), environment.clone());
    let own = OwnLog { id: log, kind: wal_kind, runs };
    Ok(Assembled { banner, readiness, broker, engine, log: own, controller, environment })
}

impl Assembled {
    /// Waits until storage has taken this epoch's right to acknowledge, and says how.
    pub(crate) async fn fenced(&self) -> &'static str {
        let (metadata, log) = (self.controller.fenced(), self.engine.fenced());
        tokio::select! {
            () = metadata.stopped() => "another process has opened the metadata",
            () = log.stopped() => "another process has ended the write-ahead log",
        }
    }

    /// Stops in the written order. Returns the tasks that did not end, by name.
    pub(crate) async fn close(self) -> Vec<String> {
        self.readiness.enter(Stage::Stopping);
        tracing::info!("stopping: no new connections; requests, groups and the log drain");
        self.broker.stop().await;
        let OwnLog { id, kind, runs } = &self.log;
        write_ahead::release(&self.engine, runs, *id, *kind).await;
        tracing::info!("stopping: closing the metadata");
        self.controller.close().await;
        let late = self.environment.tasks.shutdown(REST_MAX).await;
        tracing::info!("stopped");
        late
    }
}

fn open_bucket(
    location: &BucketLocation,
    environment: &Environment,
) -> Result<Arc<StoreBucket>, Failure> {
    let bucket = StoreBucket::open(location, &Variables::of_process(), environment);
    let bucket = bucket.map_err(|error| {
        Failure::open(format!("the bucket cannot be opened: {error}")).advise(error.advice())
    })?;
    let bucket = Arc::new(bucket);
    let swept = Arc::clone(&bucket);
    environment.tasks.spawn(TaskKind::Background, "staged-uploads", async move {
        match swept.sweep_staged(STAGED_AGE_MIN).await {
            Ok(0) => (),
            Ok(count) => tracing::info!(count, "removed uploads that a crash cut short"),
            Err(error) => tracing::warn!(%error, "uploads cut short are left for the next start"),
        }
    });
    Ok(bucket)
}

/// Whose the bucket is, and which brokers are registered there, once it has kept its promises.
async fn look_around(
    bucket: &StoreBucket,
    location: &BucketLocation,
    environment: &Environment,
) -> Result<(String, Vec<cluster::Broker>), Failure> {
    // Reading what is there need not wait for the promises: whatever writes, does. If the probe fails, it
    // alone is told, and at once.
    let ((), found, registered) = tokio::try_join!(
        probe(bucket, location),
        async { Ok(read_marker(bucket).await) },
        async { Ok(standby::look(bucket, environment).await) }
    )?;
    // Who does not know who serves the cluster takes it from nobody.
    let registered = registered.map_err(|error| standby::unreadable(&error))?;
    let cluster_id = match found? {
        Some(marker) => marker.cluster_id,
        None => claim(bucket, environment).await?,
    };
    Ok((cluster_id, registered))
}

async fn probe(bucket: &StoreBucket, location: &BucketLocation) -> Result<(), Failure> {
    bucket.probe().await.map_err(|error| {
        Failure::open(format!("the bucket {location} does not work as one: {error}"))
            .advise(error.advice())
    })
}

async fn read_marker(bucket: &StoreBucket) -> Result<Option<ClusterMarker>, Failure> {
    bucket::read_marker(bucket).await.map_err(|error| unusable_marker(&error))
}

async fn claim(bucket: &StoreBucket, environment: &Environment) -> Result<String, Failure> {
    let claimed = bucket::claim(bucket, &*environment.entropy).await;
    claimed.map(|marker| marker.cluster_id).map_err(|error| unusable_marker(&error))
}

fn unusable_marker(error: &MarkerError) -> Failure {
    Failure::open(format!("the bucket's cluster marker cannot be used: {error}"))
}

async fn open_metadata(
    bucket: &StoreBucket,
    cluster_id: &str,
    environment: &Environment,
) -> Result<Controller, Failure> {
    let options = cluster::StoreOptions::default();
    let passes = |error: &OpenError| matches!(error, OpenError::Store(StoreError::Unavailable(_)));
    let open = || {
        let (store, id) = (bucket.object_store(), cluster_id.to_owned());
        Controller::open(store, METADATA_PATH, id, &options, environment)
    };
    let opened = METADATA_TRIES.run(environment, passes, open).await;
    opened.map_err(|error| Failure::open(format!("the metadata cannot be opened: {error}")))
}

fn registry(bucket: &StoreBucket, engine: &LogEngine) -> Registry {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(ProcessCollector::new()));
    registry.register_collector(Box::new(AllocatorCollector));
    bucket.metrics().register(registry.sub_registry_with_prefix("aquifer"));
    engine.register_metrics(registry.sub_registry_with_prefix("aquifer"));
    registry
}

/// What clients are told, with the port that was bound where none was given.
fn advertised((listener, bound): (&Listener, &SocketAddr)) -> String {
    let host = &listener.advertised_host;
    let port = match listener.advertised_port {
        0 => bound.port(),
        port => port,
    };
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn bucket_place(location: &BucketLocation) -> String {
    match location {
        BucketLocation::Memory => "memory (forgotten at the end)".to_owned(),
        elsewhere => elsewhere.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn config(home: &std::path::Path) -> broker::BrokerConfig {
        let told = [
            ("aquifer.data.dir", home.display().to_string()),
            ("listeners", "PLAINTEXT://127.0.0.1:0".to_owned()),
            ("aquifer.admin.listener", String::new()),
        ];
        let told = told.map(|(name, value)| (name.to_owned(), value)).into();
        broker::BrokerConfig::resolve(&told, None).expect("these are good")
    }

    #[tokio::test]
    async fn a_closed_epoch_gives_the_volume_back() {
        let home = tempfile::tempdir().expect("a directory");
        let environment = Environment::system();
        let node = Node::open(config(home.path()), &environment).await.expect("opened");
        let directory = node.wal_directory().expect("the log is on a volume");
        for round in 0..2 {
            let opened = open(&node, &environment.child("broker")).await.expect("opened");
            let topic = format!("topic-{round}");
            let created = opened.controller.create_topic(&topic, 2, BTreeMap::new()).await;
            created.expect("decided").expect("a new name");
            while opened.engine.partitions().len() < 2 * (round + 1) {
                tokio::task::yield_now().await;
            }
            assert_eq!(opened.close().await, Vec::<String>::new());
            let volume = partition_log::volume::LocalVolume::open(&directory).await;
            drop(volume.expect("nothing of the closed epoch holds it"));
        }
    }

    #[test]
    fn clients_are_told_the_port_that_was_bound_unless_another_was_given() {
        let told = |host: &str, advertised_port| {
            let listener = Listener {
                name: "PLAINTEXT".to_owned(),
                host: String::new(),
                port: 0,
                advertised_host: host.to_owned(),
                advertised_port,
            };
            advertised((&listener, &SocketAddr::from(([0, 0, 0, 0], 4711))))
        };
        assert_eq!(told("well", 0), "well:4711");
        assert_eq!(told("well", 9092), "well:9092");
        assert_eq!(told("::1", 9092), "[::1]:9092");
    }
}
