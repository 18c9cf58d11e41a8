//! Opens the rooms in order, each on top of the one before, and closes them in the opposite order.
//!
//! Order of opening: lock, admin pages, bucket, probe, cluster marker, metadata, broker epoch, WAL
//! and log, listeners, ready. What fails leaves stored data as it was, and what was opened before is
//! dropped: nothing here needs undoing.
//!
//! Order of closing, [`Assembled::close`]: not ready, listeners and requests and groups, log and WAL,
//! metadata, everything else, lock.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use admin::{AdminPages, AdminServer, ProcessCollector, Readiness, Stage};
use broker::{
    Broker, BrokerConfig, BrokerHandle, BrokerParts, ClusterRunIndex, Listener, WalLocation,
};
use bucket::{BucketLocation, StoreBucket, Variables};
use cluster::{Controller, RegisterBroker};
use environment::{Environment, TaskKind};
use partition_log::LogEngine;
use partition_log::volume::LocalVolume;
use partition_log::wal::{FileWal, FileWalOptions};
use prometheus_client::registry::Registry;
use vocabulary::BrokerEpoch;

use crate::allocator::AllocatorCollector;
use crate::banner::Banner;
use crate::failure::Failure;
use crate::lock::DataDirectory;

/// The metadata database below the bucket's root.
const METADATA_PATH: &str = "meta";

/// Uploads that a crash cut short are swept once they are this old: nobody writes to them any more.
const STAGED_AGE_MIN: Duration = Duration::from_secs(60 * 60);

/// How long what is left may take at the end: the admin pages.
const REST_MAX: Duration = Duration::from_secs(2);

/// A running broker with everything below it.
#[derive(Debug)]
pub(crate) struct Assembled {
    pub(crate) banner: Banner,
    readiness: Readiness,
    broker: BrokerHandle,
    controller: Controller,
    environment: Environment,
    /// Dropped last: while it is held, nobody else opens what we have open.
    _data: DataDirectory,
}

/// Opens everything. `environment` is the process's own.
pub(crate) async fn open(
    config: BrokerConfig,
    environment: &Environment,
) -> Result<Assembled, Failure> {
    let data = DataDirectory::open(&config.data_dir)?;
    let config = Arc::new(config);
    let readiness = Readiness::starting("opening the bucket");
    let title = concat!("aquifer ", env!("CARGO_PKG_VERSION"));
    let pages = AdminPages::new(title, readiness.clone());
    let admin = start_admin(&config, &pages, environment).await?;

    let bucket = open_bucket(&config, &data, environment).await?;
    let cluster_id = identify(&bucket, environment).await?;

    readiness.enter(Stage::Starting("opening the metadata"));
    let controller = open_metadata(&bucket, &cluster_id, environment).await?;
    let epoch = register(&config, &controller).await?;
    let own = controller.view().broker_configs(Some(config.node_id));
    config.set_dynamic(controller.view().broker_configs(None), own);

    readiness.enter(Stage::Starting("recovering the write-ahead log"));
    let engine = open_log(&config, &data, epoch, &controller, &bucket, environment).await?;

    readiness.enter(Stage::Starting("opening the listeners"));
    let mut registry = registry(&bucket, &engine);
    let parts = BrokerParts {
        id: config.node_id,
        config: Arc::clone(&config),
        controller: controller.clone(),
        engine: Arc::clone(&engine),
        environment: environment.clone(),
    };
    let broker = Broker::start(parts, &mut registry)
        .await
        .map_err(|error| Failure::open(error.to_string()))?;
    pages.show_metrics(registry);
    let metadata = controller.clone();
    let problem = move || engine.health().problem().or_else(|| metadata.health().problem());
    readiness.enter(Stage::Serving(Arc::new(problem)));

    let banner = Banner {
        kafka: config.listeners.iter().zip(broker.addresses()).map(advertised).collect(),
        admin,
        bucket: bucket_place(&bucket_location(&config, &data)),
        wal: wal_directory(&config, &data).display().to_string(),
        cluster_id,
        broker_id: config.node_id.0,
    };
    let environment = environment.clone();
    Ok(Assembled { banner, readiness, broker, controller, environment, _data: data })
}

impl Assembled {
    /// Stops in the written order. Returns the tasks that did not end, by name.
    pub(crate) async fn close(self) -> Vec<String> {
        self.readiness.enter(Stage::Stopping);
        tracing::info!("stopping: no new connections; requests, groups and the log drain");
        self.broker.stop().await;
        tracing::info!("stopping: closing the metadata");
        self.controller.close().await;
        let late = self.environment.tasks.shutdown(REST_MAX).await;
        tracing::info!("stopped");
        late
    }
}

async fn start_admin(
    config: &BrokerConfig,
    pages: &AdminPages,
    environment: &Environment,
) -> Result<Option<SocketAddr>, Failure> {
    let Some(address) = &config.admin_listener else { return Ok(None) };
    let server = AdminServer::start(address, pages.clone(), environment).await.map_err(|error| {
        Failure::open(error.to_string()).advise(
            "Choose another address with --set aquifer.admin.listener=HOST:PORT, or none with --set \
             aquifer.admin.listener=",
        )
    })?;
    Ok(Some(server.address()))
}

async fn open_bucket(
    config: &BrokerConfig,
    data: &DataDirectory,
    environment: &Environment,
) -> Result<Arc<StoreBucket>, Failure> {
    let location = bucket_location(config, data);
    let bucket = StoreBucket::open(&location, &Variables::of_process(), environment);
    let bucket = bucket.map_err(|error| {
        Failure::open(format!("the bucket cannot be opened: {error}")).advise(error.advice())
    })?;
    bucket.probe().await.map_err(|error| {
        Failure::open(format!("the bucket {location} does not work as one: {error}"))
            .advise(error.advice())
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

async fn identify(bucket: &StoreBucket, environment: &Environment) -> Result<String, Failure> {
    let marker = bucket::claim(bucket, &*environment.entropy).await.map_err(|error| {
        Failure::open(format!("the bucket's cluster marker cannot be used: {error}"))
    })?;
    Ok(marker.cluster_id)
}

async fn open_metadata(
    bucket: &StoreBucket,
    cluster_id: &str,
    environment: &Environment,
) -> Result<Controller, Failure> {
    let options = cluster::StoreOptions::default();
    let store = bucket.object_store();
    Controller::open(store, METADATA_PATH, cluster_id.to_owned(), &options, environment)
        .await
        .map_err(|error| Failure::open(format!("the metadata cannot be opened: {error}")))
}

async fn register(config: &BrokerConfig, controller: &Controller) -> Result<BrokerEpoch, Failure> {
    let told = config.listeners.first().ok_or_else(|| Failure::open("there is no listener"))?;
    let command = RegisterBroker {
        id: config.node_id,
        host: told.advertised_host.clone(),
        port: told.advertised_port,
        rack: config.rack.clone(),
    };
    controller.register_broker(command).await.map_err(|error| {
        Failure::open(format!("the broker cannot be registered in the metadata: {error}"))
    })
}

async fn open_log(
    config: &BrokerConfig,
    data: &DataDirectory,
    epoch: BrokerEpoch,
    controller: &Controller,
    bucket: &Arc<StoreBucket>,
    environment: &Environment,
) -> Result<Arc<LogEngine>, Failure> {
    let directory = wal_directory(config, data);
    let failed = |error: &dyn std::fmt::Display| {
        Failure::open(format!("the WAL in {} cannot be opened: {error}", directory.display()))
    };
    let volume = LocalVolume::open(&directory).await.map_err(|error| failed(&error))?;
    let backend = FileWal::new(Arc::new(volume), FileWalOptions::default(), environment);
    let options = config.log.options(config.node_id, epoch);
    let runs = ClusterRunIndex::new(controller.clone(), config.node_id, epoch);
    let bucket: Arc<dyn bucket::Bucket> = Arc::clone(bucket) as Arc<dyn bucket::Bucket>;
    LogEngine::open(options, Arc::new(backend), bucket, Arc::new(runs), environment.clone())
        .await
        .map_err(|error| failed(&error))
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

/// Where the bucket really is; it shows no secret.
fn bucket_location(config: &BrokerConfig, data: &DataDirectory) -> BucketLocation {
    match &config.bucket {
        BucketLocation::Directory(path) => BucketLocation::Directory(inside(config, data, path)),
        elsewhere => elsewhere.clone(),
    }
}

fn bucket_place(location: &BucketLocation) -> String {
    match location {
        BucketLocation::Memory => "memory (forgotten at the end)".to_owned(),
        elsewhere => elsewhere.to_string(),
    }
}

fn wal_directory(config: &BrokerConfig, data: &DataDirectory) -> PathBuf {
    match &config.wal {
        WalLocation::Directory(path) => inside(config, data, path),
    }
}

/// What lies in the data directory, by its real path.
fn inside(config: &BrokerConfig, data: &DataDirectory, path: &Path) -> PathBuf {
    match path.strip_prefix(&config.data_dir) {
        Ok(rest) => data.path().join(rest),
        Err(_) => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
