//! One broker's log: the WAL, the hosted partitions, and the loops that move bytes to the bucket and
//! out of it.
//!
//! Owns: opening and stopping in order, hosting, what recovery found and nobody has claimed yet.
//! Does not own: what a partition does (`log`), what the loops do (`flush`, `retention`,
//! `collection`), budgets (`shared`).

use crate::collection;
use crate::compaction::{self, CompactionOptions};
use crate::flush;
use crate::log::{LogSettings, PartitionLog, PartitionStart, RecoveredRun, Seal};
use crate::merge;
use crate::read::{DiskCache, Reader, ReaderOptions, ReaderParts};
use crate::retention;
use crate::run_index::RunIndex;
use crate::wal::ledger::WalLedger;
use crate::wal::{RecoveredSegment, Wal, WalBackend, WalError, WalHealth};
use bucket::Bucket;
use environment::{Environment, StopToken, TaskKind};
use prometheus_client::registry::Registry;
use shared::Parts;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use vocabulary::{ByteCount, Offset, Partition, Tick};

mod metrics;
mod options;
mod shared;

pub use metrics::LogMetrics;
pub use options::LogOptions;
pub(crate) use shared::{Shared, Uploading};

/// How long a stop waits for the loops to notice.
const LOOPS_STOP_MAX: Duration = Duration::from_secs(5);

/// Why a log did not open. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("log options: {}", problems.join("; "))]
    Options { problems: Vec<&'static str> },
    #[error("the write-ahead log cannot be opened: {0}")]
    Wal(#[from] WalError),
}

/// Whether appends and flushes get through, for readiness checks and operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineHealth {
    pub wal: WalHealth,
    /// Since when and why data segments cannot be written or committed. Appends go on meanwhile,
    /// until there is no room for more unflushed data.
    pub flush_failing: Option<(Tick, String)>,
    /// Why another process has this broker's place: nothing is appended here any more (A4).
    pub fenced: Option<String>,
    pub unflushed: ByteCount,
    /// Appends wait for a flush.
    pub is_full: bool,
    /// Partitions that refuse everything because WAL and metadata contradict each other.
    pub damaged: Vec<Partition>,
}

/// WAL data of partitions that nobody hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnhostedRun {
    pub partition: Partition,
    pub base: Offset,
    /// Exclusive.
    pub end: Offset,
    /// The first WAL segment that holds some of it.
    pub sequence: u64,
}

/// One broker's log. Handed around as an `Arc`.
pub struct LogEngine {
    shared: Arc<Shared>,
    /// What recovery found and no partition has claimed. A leaf lock around a map.
    unhosted: Arc<Mutex<Unhosted>>,
    /// Partitions that must not be served until an operator has looked. A leaf lock around a set.
    quarantined: Mutex<HashSet<Partition>>,
}

pub(crate) type Unhosted = HashMap<Partition, Vec<RecoveredRun>>;

impl LogEngine {
    /// Recovers the WAL and starts the loops. What the WAL holds beyond the committed ends waits for
    /// [`LogEngine::host`], and is not trimmed before [`LogEngine::discard_unhosted`].
    pub async fn open(
        options: LogOptions,
        backend: Arc<dyn WalBackend>,
        bucket: Arc<dyn Bucket>,
        runs: Arc<dyn RunIndex>,
        environment: Environment,
    ) -> Result<Arc<LogEngine>, OpenError> {
        let problems = options.problems();
        if !problems.is_empty() {
            return Err(OpenError::Options { problems });
        }
        let environment = environment.child("log");
        let (wal, recovered) = Wal::open(backend, options.wal.clone(), &environment).await?;
        let durable_sequence = recovered.last().map_or(0, |it| it.sequence);
        let metrics = LogMetrics::default();
        let reader = Reader::new(ReaderParts {
            options: ReaderOptions {
                block_cache_bytes: options.block_cache_bytes.0,
                index_cache_bytes: options.index_cache_bytes.0,
                read_timeout: options.read_timeout,
                read_ahead_bytes: options.read_ahead_bytes.0,
                lagging_bytes_max: options.lagging_bytes_max.0,
            },
            bucket: Arc::clone(&bucket),
            runs: Arc::clone(&runs),
            disk: open_cache(&options, &environment, &metrics).await,
            environment: environment.clone(),
            metrics: metrics.clone(),
        });
        let shared = Arc::new(Shared::new(Parts {
            options,
            wal,
            bucket,
            runs,
            environment,
            metrics,
            reader,
            durable_sequence,
        }));
        let unhosted = Arc::new(Mutex::new(by_partition(recovered)));
        let engine = LogEngine { shared, unhosted, quarantined: Mutex::default() };
        engine.start_loops();
        Ok(Arc::new(engine))
    }

    fn start_loops(&self) {
        let (shared, unhosted) = (&self.shared, &self.unhosted);
        self.start("flush", TaskKind::Critical, flush::run(shared.clone(), unhosted.clone()));
        self.start("fence watch", TaskKind::Critical, watch_wal(shared.clone()));
        self.start("merge", TaskKind::Background, merge::run(shared.clone()));
        self.start("compaction", TaskKind::Background, compaction::run(shared.clone()));
        self.start("retention", TaskKind::Background, retention::run(shared.clone()));
        self.start("collection", TaskKind::Background, collection::collect(shared.clone()));
        self.start("orphan sweep", TaskKind::Background, collection::sweep(shared.clone()));
    }

    fn start(
        &self,
        name: &'static str,
        kind: TaskKind,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        let stop = self.shared.environment.tasks.token();
        // Detached: the task group knows it, and waits for it on a stop.
        drop(self.shared.environment.tasks.spawn(kind, name, async move {
            tokio::select! {
                biased;
                () = stop.stopped() => (),
                () = work => (),
            }
        }));
    }

    /// Starts to lead a partition, with what the WAL holds of it beyond the committed end. A partition
    /// that is hosted already gets the settings, and the leader epoch if that is newer.
    pub fn host(&self, start: PartitionStart, settings: Arc<LogSettings>) -> Arc<PartitionLog> {
        let partition = start.partition;
        let mut partitions =
            self.shared.partitions.write().expect("no holder of this leaf lock panics");
        let vacant = match partitions.entry(partition) {
            Entry::Occupied(hosted) => {
                hosted.get().begin_epoch(start.leader_epoch);
                hosted.get().set_settings(settings);
                return Arc::clone(hosted.get());
            }
            Entry::Vacant(vacant) => vacant,
        };
        // Held until the partition is in the dirty set: a trim in between, which looks at both under
        // this lock, would forget what neither of them claims.
        let mut unhosted = self.unhosted();
        let recovered = unhosted.remove(&partition).unwrap_or_default();
        let first_sequence = recovered.first().map(|it| it.sequence);
        let log = PartitionLog::open(start, recovered, settings, Arc::clone(&self.shared));
        if self.quarantined().contains(&partition) {
            log.set_seal(Seal::Damaged);
        }
        match log.seal() {
            _ if self.shared.is_fenced() => log.set_seal(Seal::Fenced),
            Seal::Damaged => self.shared.hold_wal(first_sequence),
            _ => self.shared.opened(&log),
        }
        drop(unhosted);
        vacant.insert(Arc::clone(&log));
        self.shared.metrics.partitions.set(partitions.len() as i64);
        log
    }

    /// Refuses to serve a partition from now on: some log holds records of it that do not continue
    /// what is committed, and new ones must not take their offsets (A3). To be called before it is
    /// hosted; health names it.
    pub fn quarantine(&self, partition: Partition, reason: &str) {
        tracing::error!(%partition, reason, "A3: the partition is not served until this is resolved");
        self.quarantined().insert(partition);
    }

    pub fn partition(&self, partition: Partition) -> Option<Arc<PartitionLog>> {
        self.shared.partition(partition)
    }

    /// Every hosted partition, in no particular order.
    pub fn partitions(&self) -> Vec<Arc<PartitionLog>> {
        self.shared.logs()
    }

    /// Stops serving a partition whose topic was deleted: waiters fail, its tail is dropped.
    pub fn remove(&self, partition: Partition) {
        self.unhosted().remove(&partition);
        self.shared.remove(partition);
    }

    /// WAL data whose partition is not hosted. It is kept until it is hosted or discarded.
    pub fn recovered_unhosted(&self) -> Vec<UnhostedRun> {
        let unhosted = self.unhosted();
        let run = |(partition, runs): (&Partition, &Vec<RecoveredRun>)| {
            let (first, last) = (runs.first()?, runs.last()?);
            Some(UnhostedRun {
                partition: *partition,
                base: first.batches.first()?.base_offset,
                end: last.batches.last()?.end_offset(),
                sequence: first.sequence,
            })
        };
        let mut found: Vec<_> = unhosted.iter().filter_map(run).collect();
        found.sort_by_key(|it| it.partition);
        found
    }

    /// Lets the WAL forget what nobody hosts. Call it once every partition that the metadata gives to
    /// this broker is hosted: what is left then belongs to deleted topics.
    pub fn discard_unhosted(&self) {
        let discarded = std::mem::take(&mut *self.unhosted());
        for (partition, runs) in discarded {
            let batches: usize = runs.iter().map(|it| it.batches.len()).sum();
            tracing::info!(%partition, batches, "WAL data of a deleted partition is discarded");
        }
    }

    /// Flushes everything that is durable now; retries until it succeeds.
    pub async fn flush_all(&self) {
        flush::until_done(&self.shared, &self.unhosted).await;
    }

    /// Stops in order: no new appends, the WAL drains, the tails are flushed if that is quick, the
    /// loops end. Whatever is cut short, every acknowledged batch is in the WAL or in the bucket.
    pub async fn shutdown(&self) {
        let shared = &self.shared;
        for log in shared.logs() {
            log.set_seal(Seal::Stopping);
        }
        shared.wal.shutdown().await;
        let deadline = shared.environment.clock.sleep(shared.options.shutdown_flush_max);
        tokio::select! {
            biased;
            () = self.flush_all() => (),
            () = deadline => tracing::info!("tails not flushed at the stop: the WAL keeps them"),
        }
        let late = shared.environment.tasks.shutdown(LOOPS_STOP_MAX).await;
        if !late.is_empty() {
            tracing::warn!(?late, "log tasks still running after the stop");
        }
    }

    /// After [`LogEngine::shutdown`]: the sequence behind everything that was written to the WAL, if the
    /// bucket has all of it, so that nobody needs the WAL any more.
    pub fn drained(&self) -> Option<u64> {
        let shared = &self.shared;
        let is_held = !self.unhosted().is_empty() || !self.health().damaged.is_empty();
        let is_drained = shared.unflushed_bytes() == 0 && !is_held && !shared.is_fenced();
        is_drained.then(|| shared.wal.next_sequence())
    }

    pub fn health(&self) -> EngineHealth {
        let damaged = self.shared.logs().into_iter().filter(|it| it.seal() == Seal::Damaged);
        EngineHealth {
            wal: self.shared.wal.health(),
            flush_failing: self.shared.failing(),
            fenced: self.shared.fenced_by(),
            unflushed: ByteCount(self.shared.unflushed_bytes()),
            is_full: self.shared.is_full(),
            damaged: damaged.map(|it| it.partition()).collect(),
        }
    }

    /// Lets the collection look after logs in the bucket, of this broker and of dead ones. Without it
    /// their objects stay.
    pub fn sweep_logs(&self, ledger: Arc<dyn WalLedger>) {
        self.shared.set_ledger(ledger);
    }

    /// Changes how keys are compacted, from the next round on.
    pub fn set_compaction(&self, options: CompactionOptions) {
        self.shared.compaction.set_options(options);
    }

    /// Stops when the metadata or the WAL has fenced this broker: another process has its place, and
    /// only a new registration helps. Reads go on until then.
    pub fn fenced(&self) -> StopToken {
        self.shared.fenced().clone()
    }

    pub fn metrics(&self) -> &LogMetrics {
        &self.shared.metrics
    }

    /// Adds the log's and the WAL's metrics, relative to the registry's prefix.
    pub fn register_metrics(&self, registry: &mut Registry) {
        self.shared.metrics.register(registry);
        self.shared.wal.register_metrics(registry);
    }

    fn quarantined(&self) -> MutexGuard<'_, HashSet<Partition>> {
        self.quarantined.lock().expect("no holder of this leaf lock panics: set steps only")
    }

    fn unhosted(&self) -> MutexGuard<'_, Unhosted> {
        self.unhosted.lock().expect("no holder of this leaf lock panics: map steps only")
    }
}

impl EngineHealth {
    /// Why produce cannot be served now, for an operator; `None` while it can.
    pub fn problem(&self) -> Option<String> {
        if let Some(reason) = &self.fenced {
            return Some(format!(
                "fenced: {reason}; what was acknowledged is safe, restart the broker to go on"
            ));
        }
        if let WalHealth::Failing { reason, .. } = &self.wal {
            return Some(format!("the write-ahead log is failing: {reason}"));
        }
        if self.is_full {
            let why = self.flush_failing.as_ref().map_or("flushes are slow", |(_, why)| why);
            return Some(format!("{} wait to be flushed: {why}", self.unflushed));
        }
        match self.damaged.len() {
            0 => None,
            count => Some(format!("{count} partitions refused: WAL and metadata disagree")),
        }
    }
}

/// The cache on a disk, if one is wanted and can be had. Reads work without it.
async fn open_cache(
    options: &LogOptions,
    environment: &Environment,
    metrics: &LogMetrics,
) -> Option<Arc<DiskCache>> {
    let directory = options.disk_cache_dir.clone()?;
    let bytes_max = options.disk_cache_bytes.0;
    let (tasks, metrics) = (environment.tasks.clone(), metrics.clone());
    let open = move || DiskCache::open(&directory, bytes_max, tasks, metrics);
    let opened = environment.tasks.spawn_blocking(TaskKind::Background, "cache open", open).await;
    let opened = opened.ok()?.inspect_err(|error| tracing::warn!(%error, "no block cache on disk"));
    opened.ok()
}

/// The WAL may learn first that another process has this broker's place.
async fn watch_wal(shared: Arc<Shared>) {
    if let WalError::Fenced { reason } = shared.wal.closed().await {
        shared.fence(&format!("the write-ahead log: {reason}"));
    }
}

/// What recovery found, by partition, in the order of the WAL.
fn by_partition(recovered: Vec<RecoveredSegment>) -> Unhosted {
    let mut unhosted = Unhosted::new();
    for RecoveredSegment { sequence, index } in recovered {
        for run in index.runs {
            unhosted.entry(run.partition).or_default().push(RecoveredRun {
                sequence,
                leader_epoch: run.leader_epoch,
                position: run.position,
                batches: run.batches,
            });
        }
    }
    unhosted
}

/// Partitions and what they share hold each other: without this the WAL would keep its volume, and a
/// broker that was fenced could not open it again.
impl Drop for LogEngine {
    fn drop(&mut self) {
        self.shared.forget_all();
    }
}

impl fmt::Debug for LogEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogEngine").field("shared", &self.shared).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
