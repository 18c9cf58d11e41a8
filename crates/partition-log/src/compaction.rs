//! Key compaction: of each key the newest record stays, on data segments in the bucket (KIP-58, KIP-354,
//! KIP-534).
//!
//! Owns: when partitions are looked at, which is cleaned first, how trouble is taken.
//! Does not own: what the configs mean (`plan`), the keys (`keys`, `mapping`), how transactions ended
//! (`fates`), what is left of a batch (`clean`), writing and committing (`rewrite`); the pace, which is that
//! of merging.
//!
//! # How
//!
//! A pass reads the dirty part of a partition and remembers for each key its last offset; then it goes over
//! the whole log, from the log start on, and rewrites runs without the records whose key comes again. When
//! memory is full of keys, the pass ends with what it knows, and another one follows from there on.
//! Offsets never change: a run covers the offsets it covered, its batches may leave gaps, and its last
//! batch stays, without records if need be, so that a reader always gets further than where it asked.
//!
//! What a pass has written is marked in its name (`merge::COMPACTED_LEVEL`). The clean part is what is
//! marked, from the log start on without a gap; the dirty part is the rest. So every broker knows where to
//! go on, after a crash too, and the metadata needs no checkpoint.
//!
//! # Invariants
//!
//! - C1 a record goes only for a later record of its key that is committed and below the last stable offset,
//!   as a tombstone whose horizon is over, or because its transaction was aborted;
//! - C2 in the clean part no key has two records. A pass goes upwards and stops at the first run that it
//!   cannot rewrite, so that what it did is a prefix: each of its runs is clean for all that lies below it;
//! - C3 a tombstone goes only when no older record of its key is left: by C2, and because its horizon was
//!   set by a pass that had removed them; and not before whoever has seen such a record, in a run that was
//!   read until the pass replaced it, had delete.retention.ms to come to the tombstone;
//! - C4 the producers as of the end of a partition's last run travel with it (A5). Idempotence needs no
//!   batch of theirs: five batches of each are in that snapshot, so none stays for their sake;
//! - C5 memory: the keys (log.cleaner.dedupe.buffer.size), what a run has left ([`MergeOptions::target_bytes`]
//!   at most), [`rewrite::READS_AT_ONCE`] reads of [`rewrite::READ_BYTES_MAX`], and one batch decompressed;
//! - C6 a marker goes only when no batch of its transaction is left and its horizon is over, which a pass
//!   has set that met none. So the indexes tell of every batch how it was decided (A8), before and after,
//!   also to whoever has read it from a run that was replaced meanwhile.
//!
//! # Safety
//!
//! As merging, compaction has no rights of its own: the metadata takes a run only in the place of exactly
//! those that were read. Whoever races with it (merging, retention, DeleteRecords, a deleted topic, a new
//! leader) wins; what was written is garbage or an orphan (A6, A7), and the pass goes on with what is there.
//!
//! [`MergeOptions::target_bytes`]: crate::MergeOptions

use crate::engine::Shared;
use crate::log::{LogOffsets, PartitionLog, Seal};
use crate::merge::{MergeError, is_paused};
use crate::run_index::{RunDescription, RunIndexError};
use plan::{Survey, Wishes};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use vocabulary::{ByteCount, Offset, Partition, Tick};

mod clean;
mod fates;
mod keys;
mod mapping;
mod plan;
mod rewrite;

/// Between looks at a partition of which nothing new was committed: its records have aged. What a pass could
/// not do for trouble or haste of others is tried again after this, too.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// What cannot be cleaned as it is, is tried again after this.
const UNCLEANABLE: Duration = Duration::from_secs(600);

/// Runs may change so often under the hands of a pass before it gives up for now.
const CHANGES_MAX: usize = 4;

/// Run descriptions asked for at once.
const PAGE_RUNS: usize = 256;

/// Runs of one partition that are looked at, 8 MiB of descriptions; those behind wait until the first
/// ones were joined.
const RUNS_MAX: usize = 65_536;

/// How one broker compacts keys.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CompactionOptions {
    /// log.cleaner.enable
    pub is_enabled: bool,
    /// log.cleaner.dedupe.buffer.size: memory for keys. Larger: fewer passes over a large partition.
    pub dedupe_bytes: ByteCount,
    /// log.cleaner.io.buffer.load.factor: how full it gets, above 0 and at most 1. Larger: more keys a
    /// pass, slower lookups.
    pub load_factor: f64,
    /// log.cleaner.backoff.ms: between looks at what there is to clean.
    pub backoff: Duration,
}

impl CompactionOptions {
    pub(crate) fn problems(&self) -> Vec<&'static str> {
        let is_factor = 0.0 < self.load_factor && self.load_factor <= 1.0;
        match is_factor {
            true => Vec::new(),
            false => vec!["compaction: load_factor must be above 0 and at most 1"],
        }
    }
}

impl Default for CompactionOptions {
    fn default() -> CompactionOptions {
        CompactionOptions {
            is_enabled: true,
            dedupe_bytes: ByteCount::mib(128),
            load_factor: 0.9,
            backoff: Duration::from_secs(15),
        }
    }
}

/// What compaction remembers of one engine.
pub(crate) struct Compaction {
    /// A leaf lock around some numbers.
    options: Mutex<CompactionOptions>,
}

impl Compaction {
    pub(crate) fn new(options: CompactionOptions) -> Compaction {
        Compaction { options: Mutex::new(options) }
    }

    pub(crate) fn set_options(&self, options: CompactionOptions) {
        *self.locked() = options;
    }

    fn options(&self) -> CompactionOptions {
        *self.locked()
    }

    fn locked(&self) -> MutexGuard<'_, CompactionOptions> {
        self.options.lock().expect("no holder of this leaf lock panics: a copy")
    }
}

impl fmt::Debug for Compaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compaction").field("options", &self.options()).finish()
    }
}

/// Why a pass ended early. What it had committed stays; nothing else was changed.
#[derive(Debug, thiserror::Error)]
enum CompactionError {
    #[error(transparent)]
    Rewriting(#[from] MergeError),
    #[error("the batch at {at} has more keys than log.cleaner.dedupe.buffer.size has room for")]
    TooManyKeys { at: Offset },
    #[error("a transaction in the run from {from} on has no marker")]
    Undecided { from: Offset },
    #[error("the runs from {from} on keep being replaced by somebody else")]
    Overtaken { from: Offset },
    #[error("rewriting the runs from {from} on takes longer with each try")]
    TooSlow { from: Offset },
}

impl CompactionError {
    /// Nothing is wrong with the partition: it is tried again soon.
    fn is_passing(&self) -> bool {
        match self {
            CompactionError::Overtaken { .. } | CompactionError::TooSlow { .. } => true,
            CompactionError::TooManyKeys { .. } | CompactionError::Undecided { .. } => false,
            CompactionError::Rewriting(error) => match error {
                MergeError::Bucket(_) | MergeError::RunIndex(_) | MergeError::TooOld => true,
                // What is asked for again and gone again, that is not for haste of others.
                MergeError::Gone(_) | MergeError::Corrupt { .. } => false,
            },
        }
    }

    /// An object was replaced and deleted since its run was told.
    fn is_gone(&self) -> bool {
        matches!(self, CompactionError::Rewriting(MergeError::Gone(_)))
    }
}

impl From<RunIndexError> for CompactionError {
    fn from(error: RunIndexError) -> CompactionError {
        CompactionError::Rewriting(MergeError::RunIndex(error))
    }
}

/// The compaction loop, until it is dropped or the broker is fenced.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut watch = Watch::default();
    loop {
        let options = shared.compaction.options();
        shared.environment.clock.sleep(shared.jittered(options.backoff)).await;
        if !options.is_enabled || is_paused(&shared) {
            continue;
        }
        if let Err(RunIndexError::Fenced) = round(&shared, &mut watch).await {
            return shared.fence("the metadata takes nothing from this broker any more");
        }
    }
}

/// Which partitions need no look now: at most the hosted ones with compaction.
#[derive(Debug, Default)]
struct Watch {
    seen: HashMap<Partition, Seen>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    stable: Offset,
    committed_end: Offset,
    wishes: Wishes,
    dirty_bytes: u64,
    again_at: Tick,
    /// Until then, whatever is new.
    is_held: bool,
    is_uncleanable: bool,
}

/// A partition worth a pass.
struct Due {
    log: Arc<PartitionLog>,
    survey: Survey,
}

/// Looks at the compacted partitions and cleans those that are due, the dirtiest first.
async fn round(shared: &Arc<Shared>, watch: &mut Watch) -> Result<(), RunIndexError> {
    let compacted = |it: &Arc<PartitionLog>| it.settings().cleanup.compact;
    let logs: Vec<_> =
        shared.logs().into_iter().filter(|it| compacted(it) && it.seal() < Seal::Fenced).collect();
    let hosted: HashMap<Partition, ()> = logs.iter().map(|it| (it.partition(), ())).collect();
    watch.seen.retain(|it, _| hosted.contains_key(it));
    let mut due = Vec::new();
    for log in logs {
        match look(shared, watch, &log).await {
            Ok(survey) => due.extend(survey.map(|survey| Due { log, survey })),
            Err(RunIndexError::Fenced) => return Err(RunIndexError::Fenced),
            Err(error) => tracing::debug!(partition = %log.partition(), %error, "not looked at"),
        }
    }
    due.sort_by(|a, b| {
        let urgency = |it: &Due| (it.survey.is_overdue, it.survey.ratio());
        urgency(b).partial_cmp(&urgency(a)).unwrap_or(std::cmp::Ordering::Equal)
    });
    tell(shared, watch, &due);
    for Due { log, survey } in due {
        if is_paused(shared) || !shared.compaction.options().is_enabled {
            break;
        }
        let partition = log.partition();
        watch.seen.remove(&partition); // What is left is looked at in the next round.
        match compact(shared, &log, &survey).await {
            Ok(end) if end < survey.to => watch.hold(&log, &survey, LOOK_AGAIN, shared, false),
            Ok(_) => (),
            Err(CompactionError::Rewriting(MergeError::RunIndex(RunIndexError::Fenced))) => {
                return Err(RunIndexError::Fenced);
            }
            Err(error) => {
                shared.metrics.compaction_failures.inc();
                match error.is_passing() {
                    true => {
                        tracing::info!(%partition, %error, "keys not compacted, it is tried again");
                        watch.hold(&log, &survey, LOOK_AGAIN, shared, false);
                    }
                    false => {
                        tracing::warn!(%partition, %error, "keys not compacted, a later try may do");
                        watch.hold(&log, &survey, UNCLEANABLE, shared, true);
                    }
                }
            }
        }
    }
    tell(shared, watch, &[]);
    Ok(())
}

impl Watch {
    /// Leaves a partition alone for a while.
    fn hold(
        &mut self,
        log: &PartitionLog,
        survey: &Survey,
        pause: Duration,
        shared: &Shared,
        is_uncleanable: bool,
    ) {
        let again_at = shared.environment.clock.now().plus(pause);
        let seen = Seen::of(log, &log.offsets(), survey, again_at);
        self.seen.insert(log.partition(), Seen { is_uncleanable, is_held: true, ..seen });
    }
}

impl Seen {
    /// `offsets` are those that the survey went by: what is committed since calls for another look.
    fn of(log: &PartitionLog, offsets: &LogOffsets, survey: &Survey, again_at: Tick) -> Seen {
        Seen {
            stable: offsets.last_stable,
            committed_end: offsets.committed_end,
            wishes: Wishes::of(&log.settings()),
            dirty_bytes: survey.dirty_bytes,
            again_at,
            is_held: false,
            is_uncleanable: false,
        }
    }
}

/// What a partition has to clean, if it is worth it; `None` also if nothing can have changed.
async fn look(
    shared: &Shared,
    watch: &mut Watch,
    log: &PartitionLog,
) -> Result<Option<Survey>, RunIndexError> {
    // Until its producers are known, a partition that was recovered calls nothing stable.
    if let Err(error) = log.load_producers().await {
        return Err(RunIndexError::Unavailable { reason: error.to_string() });
    }
    let offsets = log.offsets();
    let wishes = Wishes::of(&log.settings());
    let now = shared.environment.clock.now();
    if let Some(seen) = watch.seen.get(&log.partition()) {
        let same =
            (seen.stable, seen.committed_end) == (offsets.last_stable, offsets.committed_end);
        let may_wait = seen.is_held || (same && seen.wishes == wishes);
        if may_wait && now < seen.again_at {
            return Ok(None);
        }
    }
    let runs = runs(shared, log).await?;
    let wall = shared.environment.clock.wall();
    // What the flush does not know to be committed yet, it must find as it wrote it.
    let stable = offsets.last_stable.min(offsets.committed_end);
    let survey = Survey::of(&runs, stable, &wishes, wall);
    let seen = Seen::of(log, &offsets, &survey, now.plus(LOOK_AGAIN));
    watch.seen.insert(log.partition(), seen);
    Ok(Some(survey).filter(|it| it.is_due(&wishes)))
}

/// The committed runs from the log start on.
async fn runs(shared: &Shared, log: &PartitionLog) -> Result<Vec<RunDescription>, RunIndexError> {
    let mut runs: Vec<RunDescription> = Vec::new();
    let mut next = log.offsets().log_start;
    while runs.len() < RUNS_MAX {
        let page = shared.runs.runs_from(log.partition(), next, PAGE_RUNS).await?;
        let is_last = page.len() < PAGE_RUNS;
        runs.extend(page);
        match runs.last() {
            Some(last) if !is_last => next = last.end,
            _ => break,
        }
    }
    Ok(runs)
}

fn tell(shared: &Shared, watch: &Watch, due: &[Due]) {
    let metrics = &shared.metrics;
    let dirty: u64 = watch.seen.values().map(|it| it.dirty_bytes).sum();
    metrics.compaction_dirty_bytes.set(dirty as i64);
    let dirtiest = due.iter().map(|it| it.survey.ratio()).fold(0.0, f64::max);
    metrics.compaction_dirty_percent_max.set((dirtiest * 100.0) as i64);
    let uncleanable = watch.seen.values().filter(|it| it.is_uncleanable).count();
    metrics.uncleanable_partitions.set(uncleanable as i64);
}

/// Pass after pass, until the cleanable part of the partition is clean, or as far as can be decided. Where
/// that is.
async fn compact(
    shared: &Arc<Shared>,
    log: &PartitionLog,
    survey: &Survey,
) -> Result<Offset, CompactionError> {
    let partition = log.partition();
    let before = shared.metrics.compaction_records_dropped.get();
    let mut from = survey.from;
    let mut passes = 0;
    let done = loop {
        if survey.to <= from || Seal::Fenced <= log.seal() {
            break Ok(from);
        }
        let pass: Result<Offset, CompactionError> = async {
            let mapped = mapping::map_keys(shared, log, from, survey.to).await?;
            if from < mapped.end {
                rewrite::rewrite(shared, log, &mapped).await?;
            }
            Ok(mapped.end)
        }
        .await;
        match pass {
            Ok(end) if end <= from => break Ok(from), // What follows is not decided yet.
            Ok(end) => from = end,
            Err(error) => break Err(error),
        }
        passes += 1;
        shared.metrics.compaction_passes.inc();
    };
    log.recount().await;
    let dropped = shared.metrics.compaction_records_dropped.get() - before;
    tracing::info!(%partition, to = %from, passes, dropped, "keys are compacted");
    done
}
