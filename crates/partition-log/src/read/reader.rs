//! Committed bytes: which run, which spans of it, and how they come here.
//!
//! Owns: segment indexes and their cache, turning an offset into spans, what is read ahead of whom.
//! Does not own: which offsets may be read (`read`), run descriptions (`windows`), loading and its
//! budgets (`loads`), the memory for spans (`spans`), the checks themselves (`verify`).
//!
//! The unit that is loaded and cached is a span: a few blocks of one run, about 1 MiB, whole batches.

use super::ReadError;
use super::disk::DiskCache;
use super::loads::{LoadError, Loads, LoadsParts, purpose};
use super::neighbours::{GET_BYTES_MAX, NEIGHBOURS_MAX, may_come_along};
use super::place::Place;
use super::spans::{Class, Spans};
use super::streams::{Plan, Served, Streams};
use super::times::TimesCache;
use super::windows::Windows;
use crate::engine::LogMetrics;
use crate::run_index::{RunDescription, RunIndex, RunIndexError};
use crate::segment::{BatchEntry, IndexRead, RunEntry, SegmentIndex, read_index, segment_key};
use bucket::Bucket;
use bytes::Bytes;
use environment::{Environment, TaskKind};
use quick_cache::sync::Cache;
use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::Semaphore;
use vocabulary::{Offset, Partition, SegmentName};

/// Indexes loaded at once, some 10 KiB each as a rule.
const INDEX_LOADS_MAX: usize = 32;

/// The first try at a segment's index: enough for a few hundred runs and batches.
const INDEX_SUFFIX_BYTES: u64 = 64 * 1024;

/// Suffix reads for one index; two suffice unless the object lies about its length.
const INDEX_TRIES_MAX: usize = 3;

/// About what a span has, in bytes: for counting how many fit into a window.
const SPAN_BYTES_USUAL: u64 = 1024 * 1024;

/// Runs that one plan of read-ahead goes through.
const PLAN_RUNS_MAX: usize = 64;

/// A reader within this many bytes of the committed end, as far as its run tells, is a tail reader.
/// Larger: more readers share the tail's permits and cache.
const TAIL_LAG_BYTES: u64 = 16 * 1024 * 1024;

/// How one engine's reads behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReaderOptions {
    pub(crate) block_cache_bytes: u64,
    pub(crate) index_cache_bytes: u64,
    pub(crate) read_timeout: Duration,
    pub(crate) read_ahead_bytes: u64,
    pub(crate) lagging_bytes_max: u64,
}

/// What a reader is made of.
pub(crate) struct ReaderParts {
    pub(crate) options: ReaderOptions,
    pub(crate) bucket: Arc<dyn Bucket>,
    pub(crate) runs: Arc<dyn RunIndex>,
    pub(crate) disk: Option<Arc<DiskCache>>,
    pub(crate) environment: Environment,
    pub(crate) metrics: LogMetrics,
}

pub(crate) struct Reader {
    bucket: Arc<dyn Bucket>,
    environment: Environment,
    metrics: LogMetrics,
    options: ReaderOptions,
    windows: Windows,
    pub(super) times: TimesCache,
    indexes: Cache<SegmentName, Arc<SegmentIndex>, IndexWeight>,
    index_loads: Semaphore,
    loads: Arc<Loads>,
    /// A leaf lock: map steps only.
    streams: Mutex<Streams>,
}

#[derive(Clone)]
struct IndexWeight;

impl quick_cache::Weighter<SegmentName, Arc<SegmentIndex>> for IndexWeight {
    fn weight(&self, _: &SegmentName, index: &Arc<SegmentIndex>) -> u64 {
        let of_run = |run: &RunEntry| {
            let snapshot = run.producers.as_ref().map_or(0, Bytes::len);
            size_of::<RunEntry>()
                + size_of_val(&*run.batches)
                + size_of_val(&*run.blocks)
                + snapshot
        };
        index.runs.iter().map(of_run).sum::<usize>() as u64 + 128
    }
}

/// One run of a cached index.
#[derive(Debug, Clone)]
pub(crate) struct RunHandle {
    index: Arc<SegmentIndex>,
    at: usize,
}

impl Deref for RunHandle {
    type Target = RunEntry;

    fn deref(&self) -> &RunEntry {
        &self.index.runs[self.at]
    }
}

/// What a fetch still wants of a partition's committed runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) next: Offset,
    /// Exclusive.
    pub(crate) limit: Offset,
    /// Bytes.
    pub(crate) left: usize,
    /// The first batch, whatever its size.
    pub(crate) must: bool,
}

/// Whole batches of one run.
#[derive(Debug)]
pub(crate) struct RunCut {
    pub(crate) chunks: Vec<Bytes>,
    /// Behind them; the wanted offset itself if nothing fits.
    pub(crate) end: Offset,
    /// As of [`super::Fetched`].
    pub(crate) is_transactional: bool,
}

impl RunCut {
    fn empty(end: Offset) -> RunCut {
        RunCut { chunks: Vec::new(), end, is_transactional: false }
    }
}

impl Reader {
    pub(crate) fn new(parts: ReaderParts) -> Arc<Reader> {
        let ReaderParts { options, bucket, runs, disk, environment, metrics } = parts;
        let indexes = options.index_cache_bytes;
        let items = usize::try_from(indexes >> 19).unwrap_or(64).max(64);
        let loads = Loads::new(LoadsParts {
            spans: Spans::new(options.block_cache_bytes),
            disk,
            bucket: Arc::clone(&bucket),
            environment: environment.clone(),
            metrics: metrics.clone(),
            timeout: options.read_timeout,
            lagging_bytes_max: options.lagging_bytes_max,
        });
        Arc::new(Reader {
            bucket,
            environment,
            metrics,
            options,
            windows: Windows::new(runs),
            times: TimesCache::new(),
            indexes: Cache::with_weighter(items, indexes, IndexWeight),
            index_loads: Semaphore::new(INDEX_LOADS_MAX),
            loads: Arc::new(loads),
            streams: Mutex::default(),
        })
    }

    /// The committed run that holds `offset`. `None` when the metadata has none: it was deleted, or
    /// A3 is broken; the caller looks at the log start again.
    pub(crate) async fn run_at(
        &self,
        partition: Partition,
        offset: Offset,
    ) -> Result<Option<RunDescription>, ReadError> {
        let found = self.windows.run_at(partition, offset).await;
        found.map_err(|error| self.unanswered(partition, &error))
    }

    /// Uncached run descriptions, for scans.
    pub(crate) async fn runs_from(
        &self,
        partition: Partition,
        offset: Offset,
        count_max: usize,
    ) -> Result<Vec<RunDescription>, ReadError> {
        let found = self.windows.runs_from(partition, offset, count_max).await;
        found.map_err(|error| self.unanswered(partition, &error))
    }

    fn unanswered(&self, partition: Partition, error: &RunIndexError) -> ReadError {
        self.metrics.read_failures.inc();
        tracing::debug!(%partition, %error, "run index did not answer a read");
        ReadError::Unavailable
    }

    /// Whom a reader at `next` in `run` counts with: how many bytes follow up to the committed end is
    /// told from how dense the run is.
    pub(crate) fn class(run: &RunDescription, next: Offset, committed_end: Offset) -> Class {
        let span = u128::from((run.end.0 - run.base.0).max(1).unsigned_abs());
        let ahead = u128::from((committed_end.0 - next.0).max(0).unsigned_abs());
        match ahead * u128::from(run.length) / span <= u128::from(TAIL_LAG_BYTES) {
            true => Class::Tail,
            false => Class::Lagging,
        }
    }

    /// The index's account of a committed run.
    pub(crate) async fn run_entry(
        self: &Arc<Self>,
        run: &RunDescription,
    ) -> Result<RunHandle, ReadError> {
        self.open_run(run, Class::Tail).await?.ok_or(ReadError::Unavailable)
    }

    /// As [`Reader::run_entry`]; `None` if the segment is gone, which the caller may look into.
    pub(super) async fn open_run(
        self: &Arc<Self>,
        run: &RunDescription,
        class: Class,
    ) -> Result<Option<RunHandle>, ReadError> {
        let id = run.segment;
        let index = match self.indexes.get(&id) {
            Some(index) => Ok(index),
            None => {
                let this = Arc::clone(self);
                self.in_task(async move { this.load_index(id, class).await }).await
            }
        };
        let index = match self.told(id, index)? {
            Some(index) => index,
            None => return Ok(self.forget_window(run)),
        };
        let holds = |it: &RunEntry| {
            it.partition == run.partition && it.base <= run.base && run.end <= it.end
        };
        let at = index.runs.iter().position(holds);
        let whole = at.filter(|at| agrees(run, &index.runs[*at]));
        let part = at.filter(|_| whole.is_none()).and_then(|at| part_of(run, &index.runs[at]));
        match (whole, part) {
            (Some(at), _) => Ok(Some(RunHandle { index, at })),
            (None, Some(part)) => {
                let (name, length, runs) = (index.name, index.length, vec![part]);
                let index = Arc::new(SegmentIndex { name, length, runs });
                Ok(Some(RunHandle { index, at: 0 }))
            }
            (None, None) => {
                let reason = "A6: the index does not have the run that metadata refers to";
                let range = run.position..run.position + run.length;
                self.metrics.corrupt_reads.inc();
                let object = segment_key(id).to_string();
                Err(ReadError::Corrupt { object, range, reason: reason.into() })
            }
        }
    }

    /// Makes the index of a segment that was just written known without reading it back.
    pub(crate) fn learn(&self, id: SegmentName, index: SegmentIndex) {
        self.indexes.insert(id, Arc::new(index));
    }

    /// Makes a compacted run be read from now on, where readers would go on with what it was made of.
    pub(crate) fn learn_compacted(&self, partition: Partition, index: SegmentIndex) {
        self.learn(index.name, index);
        self.forget(partition);
    }

    /// Asks the metadata anew where the runs of a partition lie.
    pub(super) fn forget(&self, partition: Partition) {
        self.windows.forget(partition);
    }

    /// Whole batches of `run` from the one that holds the wanted offset, from the spans that are here
    /// or come with one request. `None` if the segment is gone.
    pub(crate) async fn read_run(
        self: &Arc<Self>,
        run: &RunDescription,
        wanted: Wanted,
        class: Class,
    ) -> Result<Option<RunCut>, ReadError> {
        let Some(entry) = self.open_run(run, class).await? else { return Ok(None) };
        let first = entry.batches.partition_point(|it| it.last_offset() < wanted.next);
        let after = first + fitting(&entry.batches[first..], wanted);
        if first == entry.batches.len() {
            return Ok(Some(RunCut::empty(entry.end))); // Compaction may leave the end bare.
        }
        if after == first && wanted.limit <= entry.batches[first].base_offset {
            return Ok(Some(RunCut::empty(wanted.limit))); // So it may leave a gap that ends beyond it.
        }
        if after == first {
            return Ok(Some(RunCut::empty(wanted.next)));
        }
        let place = Place { segment: run.segment, run: entry.clone() };
        let span = place.span_at(entry.batches[first].position);
        let needed = place.span_at(entry.batches[after - 1].position) + 1;
        let ahead = self.ahead_of(run.partition, wanted.next, class);
        let behind = || self.behind(&place);
        let loaded = self.loads.spans(&place, (span, needed, ahead), behind, class).await;
        let Some(loaded) = self.told(run.segment, loaded)? else {
            return Ok(self.forget_window(run));
        };
        let mut chunks = Vec::with_capacity(loaded.len());
        let mut at = first;
        for (number, bytes) in (span..).zip(loaded) {
            let bounds = place.span_bytes(number);
            let start = (entry.batches[at].position - bounds.start) as usize;
            let in_span = |it: &BatchEntry| it.position < bounds.end;
            let stop = at + entry.batches[at..after].partition_point(in_span);
            let length: usize = entry.batches[at..stop].iter().map(|it| it.length as usize).sum();
            chunks.push(bytes.slice(start..start + length));
            at = stop;
        }
        let is_last_of_run = at == entry.batches.len();
        let end = if is_last_of_run { entry.end } else { entry.batches[at - 1].end_offset() };
        let mut served = entry.batches[first..at].iter();
        let is_transactional = served.any(|it| it.attributes.is_transactional());
        Ok(Some(RunCut { chunks, end, is_transactional }))
    }

    /// Spans that a request of a reader in order may bring besides those it needs.
    fn ahead_of(&self, partition: Partition, next: Offset, class: Class) -> u32 {
        let room = self.loads.ahead_room();
        let window = self.streams().window(partition, next);
        let spans = window.min(room).min(GET_BYTES_MAX) / SPAN_BYTES_USUAL;
        match class {
            Class::Tail => 0, // Somebody waits: what follows comes by itself, in time.
            Class::Lagging => spans as u32,
        }
    }

    /// The runs behind this one in its segment that could come with a request for it, and whose readers
    /// are about to want them.
    fn behind(&self, place: &Place) -> Vec<Place> {
        let RunHandle { index, at } = &place.run;
        let runs = index.runs.iter().enumerate().skip(at + 1).take(NEIGHBOURS_MAX);
        let mut asked = place.run.position..place.run.position + place.run.length;
        let mut room = self.loads.ahead_room();
        let now = self.environment.clock.now();
        let streams = self.streams();
        let mut behind = Vec::new();
        for (at, run) in runs {
            let bytes = run.position..run.position + run.length;
            // What one request has no room for together with all of this run, a later one has.
            if !may_come_along(&asked, &bytes) {
                break;
            }
            if streams.comes_to(run.partition, run.base..run.end, run.length, now) {
                let Some(left) = room.checked_sub(bytes.end - asked.end) else { break };
                (room, asked.end) = (left, bytes.end);
                behind.push(Place {
                    segment: place.segment,
                    run: RunHandle { index: Arc::clone(index), at },
                });
            }
        }
        behind
    }

    /// Tells the streams what a reader got, and reads ahead if that is worth it.
    pub(super) fn served(self: &Arc<Self>, served: Served, committed_end: Offset, class: Class) {
        let now = self.environment.clock.now();
        let (window_max, bytes_max) =
            (self.options.read_ahead_bytes, self.loads.spans.ahead_bytes_max());
        let plan = self.streams().served(served, now, window_max, bytes_max);
        let Some(plan) = plan else { return };
        let (this, partition) = (Arc::clone(self), served.partition);
        // Detached: it only starts loads, and whoever needs one of them joins it.
        drop(self.environment.tasks.spawn(TaskKind::Background, "read-ahead plan", async move {
            let (reached, bytes) = this.plan(partition, plan, committed_end, class).await;
            this.streams().planned(partition, plan, reached, bytes);
        }));
    }

    /// Starts loads along a plan, over the ends of runs and segments. How far it came.
    async fn plan(
        self: &Arc<Self>,
        partition: Partition,
        plan: Plan,
        committed_end: Offset,
        class: Class,
    ) -> (Offset, u64) {
        let (mut reached, mut bytes) = (plan.from, 0);
        for _ in 0..PLAN_RUNS_MAX {
            if plan.bytes <= bytes || committed_end <= reached {
                break;
            }
            // Trouble is told to the reader that comes here.
            let Ok(Some(run)) = self.run_at(partition, reached).await else { break };
            let Ok(Some(entry)) = self.open_run(&run, class).await else { break };
            let Some(batch) = entry.batch_at(reached) else {
                reached = entry.end;
                continue;
            };
            let place = Place { segment: run.segment, run: entry.clone() };
            let first = place.span_at(batch.position);
            let mut after = first;
            let mut planned = 0;
            while after < place.spans() && bytes + planned < plan.bytes {
                let span = place.span_bytes(after);
                planned += span.end - span.start;
                after += 1;
            }
            let behind = if after == place.spans() { self.behind(&place) } else { Vec::new() };
            if !self.loads.load_ahead(&place, first..after, &behind, class) {
                break; // No permit or no room: the reader will come and wait.
            }
            // Of the first span, a part lies behind the reader.
            bytes += planned - (batch.position - place.span_bytes(first).start);
            let behind = place.span_bytes(after - 1).end;
            let next = entry.batches.partition_point(|it| it.position < behind);
            reached = entry.batches.get(next).map_or(entry.end, |it| it.base_offset);
        }
        (reached, bytes)
    }

    fn streams(&self) -> MutexGuard<'_, Streams> {
        self.streams.lock().expect("no holder of this leaf lock panics: map steps only")
    }

    async fn load_index(
        &self,
        id: SegmentName,
        class: Class,
    ) -> Result<Arc<SegmentIndex>, LoadError> {
        let load = async {
            let _permit = self.index_loads.acquire().await;
            let object = segment_key(id);
            let mut length = INDEX_SUFFIX_BYTES;
            for _ in 0..INDEX_TRIES_MAX {
                let suffix = self.bucket.get_suffix(&object, length, purpose(class)).await?;
                let object_length = suffix.object_length;
                let corrupt = |reason: String| {
                    let range = object_length.saturating_sub(length)..object_length;
                    LoadError::Corrupt { range, reason }
                };
                match read_index(&suffix.bytes, object_length) {
                    Ok(IndexRead::NeedSuffix { suffix }) => length = suffix,
                    Ok(IndexRead::Index(index)) if index.name == id => {
                        return Ok(Arc::new(index));
                    }
                    Ok(IndexRead::Index(index)) => {
                        return Err(corrupt(format!("it says that it is {}", index.name)));
                    }
                    Err(error) => return Err(corrupt(error.to_string())),
                }
            }
            Err(LoadError::Unavailable("the index asks for more without end".to_owned()))
        };
        self.indexes.get_or_insert_async(&id, load).await
    }

    /// Runs a load to its end in a task, but waits only up to the deadline.
    async fn in_task<T: Send + 'static>(
        &self,
        load: impl Future<Output = Result<T, LoadError>> + Send + 'static,
    ) -> Result<T, LoadError> {
        let tasks = &self.environment.tasks;
        let load = async {
            if tasks.token().is_stopped() {
                return load.await; // The last flush of a stopping process: nothing starts any more.
            }
            let task = tasks.spawn(TaskKind::Background, "bucket read", load);
            task.await.unwrap_or_else(|end| Err(LoadError::Unavailable(end.to_string())))
        };
        tokio::select! {
            biased;
            loaded = load => loaded,
            () = self.environment.clock.sleep(self.options.read_timeout) => {
                Err(LoadError::Unavailable("the bucket is slow".to_owned()))
            }
        }
    }

    /// Counts and translates what a load said; `None` if the object is gone.
    fn told<T>(
        &self,
        id: SegmentName,
        loaded: Result<T, LoadError>,
    ) -> Result<Option<T>, ReadError> {
        match loaded {
            Ok(value) => Ok(Some(value)),
            Err(LoadError::Gone) => Ok(None),
            Err(LoadError::Unavailable(reason)) => {
                self.metrics.read_failures.inc();
                tracing::debug!(segment = %id, reason, "committed bytes not read");
                Err(ReadError::Unavailable)
            }
            Err(LoadError::Corrupt { range, reason }) => {
                self.metrics.corrupt_reads.inc();
                Err(ReadError::Corrupt { object: segment_key(id).to_string(), range, reason })
            }
        }
    }

    /// A segment the window refers to is gone: it was merged or deleted, so ask the metadata again.
    fn forget_window<T>(&self, run: &RunDescription) -> Option<T> {
        let (partition, segment) = (run.partition, run.segment);
        tracing::warn!(%partition, %segment, "a segment to read is gone, asking the metadata again");
        self.windows.forget(partition);
        None
    }
}

/// Whether index and metadata tell the same story of a run (A6).
fn agrees(run: &RunDescription, entry: &RunEntry) -> bool {
    let offsets = (run.base, run.end) == (entry.base, entry.end);
    let bytes = (run.position, run.length, run.crc) == (entry.position, entry.length, entry.crc);
    offsets && bytes && run.leader_epoch == entry.leader_epoch
}

/// The batches of an entry that a description covers, if it is a part of the entry: of a dead log's
/// run, only what was not committed before is adopted. The checksum is the part's own.
fn part_of(run: &RunDescription, entry: &RunEntry) -> Option<RunEntry> {
    let part = entry.part(run.base, run.end)?;
    let part = RunEntry { crc: run.crc, ..part };
    agrees(run, &part).then_some(part)
}

/// How many of the batches fit: below the limit and within the bytes, but the first one if it must.
fn fitting(batches: &[BatchEntry], wanted: Wanted) -> usize {
    let mut bytes = 0;
    let fits = |batch: &&BatchEntry| {
        let is_must = wanted.must && bytes == 0;
        bytes += batch.length as usize;
        batch.end_offset() <= wanted.limit && (bytes <= wanted.left || is_must)
    };
    batches.iter().take_while(fits).count()
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("cached_bytes", &self.loads.spans.bytes())
            .finish_non_exhaustive()
    }
}
