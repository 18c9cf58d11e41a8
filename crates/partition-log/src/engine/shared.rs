//! What the partitions of one engine have in common: ports, budgets, who has something to flush.
//!
//! Owns: the tail cache's budget, the amount of unflushed data, the dirty set.
//! Does not own: the partitions' states, the loops that act on all this (`flush` and others).
//!
//! Locking: each lock here is a leaf, below any partition's state, held for a few steps. The dirty set
//! is entered under a partition's state lock, so nobody may lock a partition while holding it.

use super::{LogMetrics, LogOptions};
use crate::compaction::Compaction;
use crate::log::{PartitionLog, Seal, TailCosts};
use crate::merge::Merging;
use crate::read::Reader;
use crate::run_index::RunIndex;
use crate::wal::Wal;
use crate::wal::ledger::WalLedger;
use bucket::Bucket;
use environment::{Environment, StopToken};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, Weak};
use std::time::Duration;
use tokio::sync::Notify;
use vocabulary::{Offset, Partition, SegmentName, Tick};

pub(crate) struct Shared {
    pub(crate) options: LogOptions,
    pub(crate) wal: Wal,
    pub(crate) bucket: Arc<dyn Bucket>,
    pub(crate) runs: Arc<dyn RunIndex>,
    pub(crate) environment: Environment,
    pub(crate) metrics: LogMetrics,
    pub(crate) reader: Arc<Reader>,
    pub(crate) merging: Merging,
    pub(crate) compaction: Compaction,
    pub(crate) partitions: RwLock<HashMap<Partition, Arc<PartitionLog>>>,
    /// One flush at a time; awaited, hence tokio's.
    pub(crate) flush_turn: tokio::sync::Mutex<()>,
    pub(crate) flush_wanted: Notify,
    cached: Mutex<VecDeque<CachedBatch>>,
    cached_bytes: AtomicU64,
    dirty: Mutex<BTreeMap<Partition, Dirty>>,
    unflushed_bytes: AtomicU64,
    unflushed_batches: AtomicU64,
    room: Notify,
    /// The greatest sequence whose listeners were called: what is not durable yet lies there or later.
    durable_sequence: AtomicU64,
    /// Nothing from here on is trimmed, whatever the tails need.
    held_sequence: AtomicU64,
    uploads: Mutex<HashSet<SegmentName>>,
    failing: Mutex<Option<(Tick, String)>>,
    /// Set once, if there are logs in the bucket.
    ledger: OnceLock<Arc<dyn WalLedger>>,
    fenced: StopToken,
    fenced_by: OnceLock<String>,
}

/// While it lives, its segment is known to be under way.
pub(crate) struct Uploading<'a> {
    shared: &'a Shared,
    id: SegmentName,
}

impl Drop for Uploading<'_> {
    fn drop(&mut self) {
        self.shared.uploads().remove(&self.id);
    }
}

/// A durable batch that memory holds, in the order in which memory lets go.
struct CachedBatch {
    log: Weak<PartitionLog>,
    base: Offset,
    cost: u64,
}

#[derive(Debug)]
struct Dirty {
    log: Weak<PartitionLog>,
    since: Tick,
}

/// What [`Shared`] is made of.
pub(crate) struct Parts {
    pub(crate) options: LogOptions,
    pub(crate) wal: Wal,
    pub(crate) bucket: Arc<dyn Bucket>,
    pub(crate) runs: Arc<dyn RunIndex>,
    pub(crate) environment: Environment,
    pub(crate) metrics: LogMetrics,
    pub(crate) reader: Arc<Reader>,
    /// The last sequence that recovery found.
    pub(crate) durable_sequence: u64,
}

impl Shared {
    pub(crate) fn new(parts: Parts) -> Shared {
        let merging = Merging::new(&parts.options.merge, parts.options.segment_bytes_max);
        let compaction = Compaction::new(parts.options.compaction);
        Shared {
            merging,
            compaction,
            options: parts.options,
            wal: parts.wal,
            bucket: parts.bucket,
            runs: parts.runs,
            environment: parts.environment,
            metrics: parts.metrics,
            reader: parts.reader,
            partitions: RwLock::default(),
            flush_turn: tokio::sync::Mutex::default(),
            flush_wanted: Notify::new(),
            cached: Mutex::default(),
            cached_bytes: AtomicU64::new(0),
            dirty: Mutex::default(),
            unflushed_bytes: AtomicU64::new(0),
            unflushed_batches: AtomicU64::new(0),
            room: Notify::new(),
            durable_sequence: AtomicU64::new(parts.durable_sequence),
            held_sequence: AtomicU64::new(u64::MAX),
            uploads: Mutex::default(),
            failing: Mutex::default(),
            ledger: OnceLock::new(),
            fenced: StopToken::new(),
            fenced_by: OnceLock::new(),
        }
    }

    /// The hosted partitions, sorted.
    pub(crate) fn logs(&self) -> Vec<Arc<PartitionLog>> {
        let partitions = self.partitions.read().expect("no holder of this leaf lock panics");
        let mut logs: Vec<_> = partitions.values().cloned().collect();
        drop(partitions);
        logs.sort_unstable_by_key(|log| log.partition());
        logs
    }

    /// Lets go of every partition. Whoever still has one of them holds all of this.
    pub(crate) fn forget_all(&self) {
        // A1: a loop that is still at work would find that nobody needs the WAL any more.
        self.held_sequence.store(0, Ordering::Release);
        // Dropped outside the lock.
        let forgotten =
            std::mem::take(&mut *self.partitions.write().unwrap_or_else(PoisonError::into_inner));
        drop(forgotten);
        // What is nobody's any more is not due either.
        self.dirty().clear();
    }

    pub(crate) fn partition(&self, partition: Partition) -> Option<Arc<PartitionLog>> {
        let partitions = self.partitions.read().expect("no holder of this leaf lock panics");
        partitions.get(&partition).cloned()
    }

    /// Ends a partition here: waiters fail, the tail goes, its WAL is not needed any more.
    pub(crate) fn remove(&self, partition: Partition) {
        let removed = {
            let mut all = self.partitions.write().expect("no holder of this leaf lock panics");
            self.metrics.partitions.set(all.len() as i64 - i64::from(all.contains_key(&partition)));
            all.remove(&partition)
        };
        if let Some(log) = removed {
            let costs = log.retire();
            self.dirty().remove(&partition);
            self.flushed(costs.unflushed, costs.unflushed_batches);
        }
    }

    /// A partition was opened with what recovery found of it.
    pub(crate) fn opened(&self, log: &Arc<PartitionLog>) {
        let TailCosts { unflushed, unflushed_batches, .. } = log.costs();
        if 0 < unflushed_batches {
            self.mark_dirty(log);
            self.add_unflushed(unflushed, unflushed_batches);
        }
    }

    /// Waits until there is room for more unflushed data (A9: it slows, it does not fail).
    pub(crate) async fn wait_for_room(&self) {
        while self.is_full() {
            let mut freed = std::pin::pin!(self.room.notified());
            freed.as_mut().enable();
            if !self.is_full() {
                return;
            }
            freed.await;
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.options.unflushed_bytes_max.0 <= self.unflushed_bytes.load(Ordering::Relaxed)
            || self.options.unflushed_batches_max <= self.unflushed_batches.load(Ordering::Relaxed)
    }

    /// The partition has something to flush, now or once it is durable. Called under its state lock.
    pub(crate) fn mark_dirty(&self, log: &Arc<PartitionLog>) {
        let since = self.environment.clock.now();
        let entry = || Dirty { log: Arc::downgrade(log), since };
        self.dirty().entry(log.partition()).or_insert_with(entry);
    }

    /// The partition has nothing to flush any more. Called under its state lock.
    pub(crate) fn mark_clean(&self, partition: Partition) {
        self.dirty().remove(&partition);
    }

    /// What is left of the partition came in after `since`.
    pub(crate) fn mark_younger(&self, partition: Partition, since: Tick) {
        if let Some(dirty) = self.dirty().get_mut(&partition) {
            dirty.since = dirty.since.max(since);
        }
    }

    /// Partitions with something to flush, sorted.
    pub(crate) fn dirty_logs(&self) -> Vec<Arc<PartitionLog>> {
        self.dirty().values().filter_map(|it| it.log.upgrade()).collect()
    }

    /// When the oldest unflushed batch is due.
    pub(crate) fn flush_due_at(&self) -> Option<Tick> {
        let oldest = self.dirty().values().map(|it| it.since).min();
        oldest.map(|since| since.plus(self.options.flush_age))
    }

    pub(crate) fn is_flush_due(&self) -> bool {
        let now = self.environment.clock.now();
        self.options.flush_bytes.0 <= self.unflushed_bytes.load(Ordering::Relaxed)
            || self.options.unflushed_batches_max / 2
                <= self.unflushed_batches.load(Ordering::Relaxed)
            || self.flush_due_at().is_some_and(|at| at <= now)
    }

    pub(crate) fn unflushed_bytes(&self) -> u64 {
        self.unflushed_bytes.load(Ordering::Relaxed)
    }

    /// A batch is durable and in memory. Called under its partition's state lock, so that whoever
    /// takes it off the budgets again finds it on them.
    pub(crate) fn count_durable(&self, cost: u64, sequence: u64) {
        self.durable_sequence.fetch_max(sequence, Ordering::AcqRel);
        self.cached_bytes.fetch_add(cost, Ordering::Relaxed);
        self.add_unflushed(cost, 1);
    }

    /// The batch takes its place in the cache. Called with no lock held: older ones may have to go.
    pub(crate) fn keep_cached(&self, log: Weak<PartitionLog>, base: Offset, cost: u64) {
        self.cached().push_back(CachedBatch { log, base, cost });
        self.shrink_cache();
    }

    fn shrink_cache(&self) {
        let cached_bytes_max = self.options.tail_cache_bytes.0;
        while cached_bytes_max < self.cached_bytes.load(Ordering::Relaxed) {
            let Some(oldest) = self.cached().pop_front() else { return };
            // Whether it was still there or not: what a removed partition held is let go here, too.
            self.cached_bytes.fetch_sub(oldest.cost, Ordering::Relaxed);
            if let Some(log) = oldest.log.upgrade() {
                log.demote(oldest.base);
            }
        }
        self.metrics.tail_cache_bytes.set(self.cached_bytes.load(Ordering::Relaxed) as i64);
    }

    fn add_unflushed(&self, cost: u64, batches: u64) {
        let before = self.unflushed_bytes.fetch_add(cost, Ordering::Relaxed);
        let batches_before = self.unflushed_batches.fetch_add(batches, Ordering::Relaxed);
        let half = self.options.unflushed_batches_max / 2;
        if self.options.flush_bytes.0 <= before + cost || half <= batches_before + batches {
            self.flush_wanted.notify_one();
        }
        self.metrics.unflushed_bytes.set((before + cost) as i64);
    }

    /// So much is in data segments now, or not wanted any more.
    pub(crate) fn flushed(&self, cost: u64, batches: u64) {
        let before = self.unflushed_bytes.fetch_sub(cost, Ordering::Relaxed);
        self.unflushed_batches.fetch_sub(batches, Ordering::Relaxed);
        self.metrics.unflushed_bytes.set(before.saturating_sub(cost) as i64);
        self.room.notify_waiters();
    }

    /// The lowest WAL sequence that the hosted partitions still need.
    pub(crate) fn needed_sequence(&self) -> u64 {
        // Read first: what becomes durable while we look lies there or later.
        let durable = self.durable_sequence.load(Ordering::Acquire);
        let needed = self.dirty_logs().into_iter().filter_map(|log| log.needed_sequence());
        needed.fold(durable, u64::min).min(self.held_sequence.load(Ordering::Acquire))
    }

    /// Keeps the WAL from `sequence` on: a partition that was refused may need it yet.
    pub(crate) fn hold_wal(&self, sequence: Option<u64>) {
        self.metrics.damaged_partitions.inc();
        self.held_sequence.fetch_min(sequence.unwrap_or(u64::MAX), Ordering::AcqRel);
    }

    /// An object that is being uploaded and committed: the sweep must not take it for an orphan.
    pub(crate) fn uploading(&self, id: SegmentName) -> Uploading<'_> {
        self.uploads().insert(id);
        Uploading { shared: self, id }
    }

    pub(crate) fn is_uploading(&self, id: SegmentName) -> bool {
        self.uploads().contains(&id)
    }

    fn uploads(&self) -> MutexGuard<'_, HashSet<SegmentName>> {
        self.uploads.lock().expect("no holder of this leaf lock panics: set steps only")
    }

    pub(crate) fn set_failing(&self, reason: String) {
        let now = self.environment.clock.now();
        let mut failing = self.failing.lock().expect("no holder of this leaf lock panics");
        let since = failing.as_ref().map_or(now, |(since, _)| *since);
        *failing = Some((since, reason));
        self.metrics.flush_failures.inc();
    }

    pub(crate) fn set_working(&self) {
        *self.failing.lock().expect("no holder of this leaf lock panics") = None;
    }

    pub(crate) fn failing(&self) -> Option<(Tick, String)> {
        self.failing.lock().expect("no holder of this leaf lock panics").clone()
    }

    pub(crate) fn set_ledger(&self, ledger: Arc<dyn WalLedger>) {
        // The first one stays: there is one ledger in a cluster.
        drop(self.ledger.set(ledger));
    }

    pub(crate) fn ledger(&self) -> Option<&Arc<dyn WalLedger>> {
        self.ledger.get()
    }

    /// Another process has this broker's place (A4): every partition refuses appends and tells who
    /// waits, and nothing is retried any more. Once; what is acknowledged is durable and stays so.
    pub(crate) fn fence(&self, reason: &str) {
        if self.fenced_by.set(reason.to_owned()).is_err() {
            return;
        }
        tracing::error!(reason, "A4: this broker is fenced, it takes no appends any more");
        self.fenced.stop();
        for log in self.logs() {
            log.seal_and_fail(Seal::Fenced);
        }
    }

    /// Resolves, for whoever waits for it, when the broker is fenced.
    pub(crate) fn fenced(&self) -> &StopToken {
        &self.fenced
    }

    pub(crate) fn is_fenced(&self) -> bool {
        self.fenced.is_stopped()
    }

    pub(crate) fn fenced_by(&self) -> Option<String> {
        self.fenced_by.get().cloned()
    }

    /// `wait`, give or take a tenth, so that brokers and loops do not march in step.
    pub(crate) fn jittered(&self, wait: Duration) -> Duration {
        let permille = 900 + self.environment.entropy.below(200) as u32;
        wait / 1000 * permille
    }

    fn cached(&self) -> MutexGuard<'_, VecDeque<CachedBatch>> {
        self.cached.lock().expect("no holder of this leaf lock panics: queue steps only")
    }

    fn dirty(&self) -> MutexGuard<'_, BTreeMap<Partition, Dirty>> {
        self.dirty.lock().expect("no holder of this leaf lock panics: map steps only")
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Shared");
        shown.field("wal", &self.wal).field("unflushed_bytes", &self.unflushed_bytes());
        shown.finish_non_exhaustive()
    }
}
