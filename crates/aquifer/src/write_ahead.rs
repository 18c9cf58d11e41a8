//! The write-ahead log of one broker epoch: what is taken over before it, and the log itself.
//!
//! Owns: whose partitions a registration takes over, the order of ending logs and opening ours.
//! Does not own: how a log is ended or recovered (`partition_log::wal`).
//!
//! One broker serves a cluster at a time, so whoever starts takes over from everybody else whose log it
//! can end: those in the bucket by a fence, that of a volume by having the volume. A broker whose volume
//! is elsewhere keeps its partitions: their last records are on that volume, and nowhere else.

use std::collections::BTreeSet;
use std::sync::Arc;

use broker::ClusterRunIndex;
use bucket::StoreBucket;
use cluster::{Controller, RegisterBroker, WalKind};
use environment::Environment;
use partition_log::LogEngine;
use partition_log::volume::LocalVolume;
use partition_log::wal::ledger::{WalId, WalLedger};
use partition_log::wal::{
    BucketWal, BucketWalOptions, FileWal, FileWalOptions, WalBackend, adopt_logs,
};
use vocabulary::{BrokerEpoch, BrokerId};

use crate::failure::Failure;
use crate::node::Node;

/// Where this broker's log is, opened far enough to know whose it was.
pub(crate) enum Place {
    Volume { volume: Arc<LocalVolume>, owners: BTreeSet<BrokerId> },
    Bucket,
}

impl Place {
    pub(crate) async fn open(node: &Node) -> Result<Place, Failure> {
        let Some(directory) = node.wal_directory() else { return Ok(Place::Bucket) };
        let failed = |error: &dyn std::fmt::Display| {
            Failure::open(format!("the WAL in {} cannot be opened: {error}", directory.display()))
        };
        let volume = LocalVolume::open(&directory).await.map_err(|error| failed(&error))?;
        let owners = FileWal::owners(&volume).await.map_err(|error| failed(&error))?;
        Ok(Place::Volume { volume: Arc::new(volume), owners })
    }

    pub(crate) fn kind(&self) -> WalKind {
        match self {
            Place::Volume { .. } => WalKind::File,
            Place::Bucket => WalKind::Bucket,
        }
    }
}

/// Tells the metadata that nobody needs the volume any more, if so: then the next epoch may have its log
/// elsewhere. A log in the bucket is ended by whoever comes next, at the price of one object.
pub(crate) async fn release(engine: &LogEngine, runs: &ClusterRunIndex, own: WalId, kind: WalKind) {
    if kind != WalKind::File {
        return;
    }
    let Some(end) = engine.drained() else {
        return tracing::info!("the volume holds records that are not in the bucket yet");
    };
    if let Err(error) = runs.closed(own, end).await {
        tracing::info!(%error, "the metadata was not told that the volume is not needed");
    }
}

/// Registers the broker: a new epoch, and the partitions of everybody it takes over from.
pub(crate) async fn register(
    node: &Node,
    place: &Place,
    controller: &Controller,
) -> Result<BrokerEpoch, Failure> {
    let config = &node.config;
    let told = config.listeners.first().ok_or_else(|| Failure::open("there is no listener"))?;
    if place.kind() == WalKind::Bucket && has_volume(config.node_id, controller) {
        return Err(Failure::open(format!(
            "the last write-ahead log of broker {} is on a volume, and may hold acknowledged records \
             that are nowhere else; this start would not read it",
            config.node_id
        ))
        .advise(
            "Start the broker once more with that volume (aquifer.wal=file:DIRECTORY) and stop it \
             cleanly, with SIGTERM: then everything is in the bucket, and aquifer.wal=bucket: starts.",
        ));
    }
    let takes_over = others(config.node_id, place, controller);
    if !takes_over.is_empty() {
        tracing::warn!(?takes_over, "this broker takes over the partitions of others");
    }
    let command = RegisterBroker {
        id: config.node_id,
        host: told.advertised_host.clone(),
        port: told.advertised_port,
        rack: config.rack.clone(),
        wal: place.kind(),
        takes_over,
    };
    controller.register_broker(command).await.map_err(|error| {
        Failure::open(format!("the broker cannot be registered in the metadata: {error}"))
    })
}

/// Whether a log of this broker on a volume is still needed, as far as the metadata knows.
fn has_volume(id: BrokerId, controller: &Controller) -> bool {
    let logs = controller.view().wal_logs();
    logs.iter().any(|it| it.broker == id && it.kind == WalKind::File && it.fence.is_none())
}

/// The other brokers whose logs can be ended from here.
fn others(own: BrokerId, place: &Place, controller: &Controller) -> Vec<BrokerId> {
    let view = controller.view();
    let on_our_volume = |id: BrokerId| match place {
        Place::Volume { owners, .. } => owners.contains(&id),
        Place::Bucket => false,
    };
    let mut others = Vec::new();
    for id in view.brokers().into_iter().map(|it| it.id).filter(|it| *it != own) {
        if has_volume(id, controller) && !on_our_volume(id) {
            tracing::warn!(
                broker = id.0,
                "the log of this broker is on a volume that is not here: its partitions stay \
                 unavailable, with everything acknowledged, until a broker is started with it \
                 (aquifer.wal=file:DIRECTORY)"
            );
        } else {
            others.push(id);
        }
    }
    others
}

/// Ends the logs of others, then opens the engine on our own.
pub(crate) async fn open_engine(
    node: &Node,
    place: Place,
    own: WalId,
    runs: &Arc<ClusterRunIndex>,
    bucket: &Arc<StoreBucket>,
    environment: &Environment,
) -> Result<Arc<LogEngine>, Failure> {
    let config = &node.config;
    let shared: Arc<dyn bucket::Bucket> = Arc::clone(bucket) as Arc<dyn bucket::Bucket>;
    let adopted =
        adopt_logs(&*shared, &**runs, &**runs, own, environment).await.map_err(|error| {
            Failure::open(format!("a write-ahead log in the bucket cannot be taken over: {error}"))
                .advise("What it holds is untouched; `aquifer doctor` shows what is there.")
        })?;
    let failed = |error: &dyn std::fmt::Display| {
        Failure::open(format!("the write-ahead log cannot be opened: {error}"))
    };
    let backend: Arc<dyn WalBackend> = match place {
        Place::Volume { volume, .. } => {
            Arc::new(FileWal::new(volume, FileWalOptions::default(), environment))
        }
        Place::Bucket => {
            let (bucket, ledger) = (Arc::clone(&shared), Arc::<ClusterRunIndex>::clone(runs) as _);
            let options = BucketWalOptions::default();
            Arc::new(BucketWal::new(own, options, bucket, ledger, environment))
        }
    };
    let options = config.log.options(own.broker, own.epoch);
    let index = Arc::<ClusterRunIndex>::clone(runs);
    let engine = LogEngine::open(options, backend, shared, index, environment.clone())
        .await
        .map_err(|error| failed(&error))?;
    engine.sweep_logs(Arc::<ClusterRunIndex>::clone(runs));
    for (partition, reason) in adopted.damaged {
        engine.quarantine(partition, &reason);
    }
    Ok(engine)
}
