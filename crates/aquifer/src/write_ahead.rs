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
use cluster::{Controller, RegisterBroker, WalKind, WalLog};
use environment::{Entropy, Environment};
use partition_log::LogEngine;
use partition_log::volume::LocalVolume;
use partition_log::wal::ledger::{WalId, WalLedger};
use partition_log::wal::{
    BucketWal, BucketWalOptions, FileWal, FileWalOptions, WalBackend, adopt_logs,
};
use vocabulary::{BrokerEpoch, BrokerId, VolumeId};

use crate::failure::Failure;
use crate::node::Node;

/// Where this broker's log is, opened far enough to know whose it was.
pub(crate) enum Place {
    Volume { volume: Arc<LocalVolume>, id: VolumeId, owners: BTreeSet<BrokerId> },
    Bucket,
}

impl Place {
    pub(crate) async fn open(node: &Node, entropy: &dyn Entropy) -> Result<Place, Failure> {
        let Some(directory) = node.wal_directory() else { return Ok(Place::Bucket) };
        let failed = |error: &dyn std::fmt::Display| {
            Failure::open(format!("the WAL in {} cannot be opened: {error}", directory.display()))
        };
        let volume = LocalVolume::open(&directory).await.map_err(|error| failed(&error))?;
        let owners = FileWal::owners(&volume).await.map_err(|error| failed(&error))?;
        let fresh = VolumeId(entropy.next_u128());
        let id = volume.identity(fresh).await.map_err(|error| failed(&error))?;
        Ok(Place::Volume { volume: Arc::new(volume), id, owners })
    }

    fn volume(&self) -> Option<VolumeId> {
        match self {
            Place::Volume { id, .. } => Some(*id),
            Place::Bucket => None,
        }
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
    check_volumes(node, place, controller)?;
    let takes_over = others(node, place, controller);
    if !takes_over.is_empty() {
        tracing::warn!(?takes_over, "this broker takes over the partitions of others");
    }
    let command = RegisterBroker {
        id: config.node_id,
        host: told.advertised_host.clone(),
        port: told.advertised_port,
        rack: config.rack.clone(),
        wal: place.kind(),
        volume: place.volume(),
        gives_up: config.lost_volume,
        takes_over,
    };
    controller.register_broker(command).await.map_err(|error| {
        Failure::open(format!("the broker cannot be registered in the metadata: {error}"))
    })
}

/// The logs of a broker on volumes that are still needed, as far as the metadata knows.
fn on_volumes(id: BrokerId, controller: &Controller) -> Vec<WalLog> {
    let logs = controller.view().wal_logs().into_iter();
    logs.filter(|it| it.broker == id && it.kind == WalKind::File && it.fence.is_none()).collect()
}

/// A broker's log that lies elsewhere is not taken for an empty one: acknowledged records would be gone.
fn check_volumes(node: &Node, place: &Place, controller: &Controller) -> Result<(), Failure> {
    let (id, lost) = (node.config.node_id, node.config.lost_volume);
    let is_elsewhere = |it: &WalLog| match (place.volume(), it.volume) {
        (_, Some(volume)) if lost == Some(volume) => false,
        (Some(here), Some(volume)) => here != volume,
        (Some(_), None) => false, // Of before volumes had names.
        (None, _) => true,
    };
    let Some(missed) = on_volumes(id, controller).into_iter().find(is_elsewhere) else {
        return Ok(());
    };
    let which = missed.volume.map_or(String::new(), |it| format!(" {it}"));
    let here = match place {
        Place::Volume { volume, id, .. } => {
            format!("{} is another one, {id}", volume.directory().display())
        }
        Place::Bucket => "this start would not read it".to_owned(),
    };
    let unless = missed.volume.map_or(String::new(), |it| {
        format!(
            " If it is lost for good: with aquifer.wal.lost.volume={it} the broker starts without it, and \
             records that only it held are lost."
        )
    });
    Err(Failure::open(format!(
        "the last write-ahead log of broker {id} is on the volume{which}, and may hold acknowledged \
         records that are nowhere else; {here}"
    ))
    .advise(format!(
        "Start the broker with that volume (aquifer.wal=file:DIRECTORY): nothing is lost then, and after \
         a clean stop, with SIGTERM, it is not needed any more.{unless}"
    )))
}

/// The other brokers whose logs can be ended from here.
fn others(node: &Node, place: &Place, controller: &Controller) -> Vec<BrokerId> {
    let (own, lost) = (node.config.node_id, node.config.lost_volume);
    let view = controller.view();
    let is_ours = |it: &WalLog| match (place, it.volume) {
        (_, Some(volume)) if lost == Some(volume) => true,
        (Place::Volume { id, .. }, Some(volume)) => *id == volume,
        (Place::Volume { owners, .. }, None) => owners.contains(&it.broker),
        (Place::Bucket, _) => false,
    };
    let mut others = Vec::new();
    for id in view.brokers().into_iter().map(|it| it.id).filter(|it| *it != own) {
        if !on_volumes(id, controller).iter().all(is_ours) {
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
