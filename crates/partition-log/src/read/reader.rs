//! Committed bytes: run descriptions, segment indexes and spans of blocks, cached and loaded once.
//!
//! Owns: the three caches, single flight, read-ahead, the deadline of a load.
//! Does not own: which offsets may be read (`read`), the checks themselves (`verify`).
//!
//! The unit that is loaded and cached is a span: [`SPAN_BLOCKS`] blocks of one run, about 1 MiB, whole
//! batches. Loads run in tasks of their own, so that a fetch which gives up does not throw away what a
//! slow bucket was about to deliver.

use super::{ReadError, verify};
use crate::engine::LogMetrics;
use crate::run_index::{RunDescription, RunIndex};
use crate::segment::{IndexRead, RunEntry, SegmentIndex, read_index, segment_key};
use bucket::{Bucket, BucketError, Purpose};
use bytes::Bytes;
use environment::{Environment, TaskKind};
use quick_cache::sync::Cache;
use std::fmt;
use std::future::Future;
use std::ops::{Deref, Range};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use vocabulary::{Offset, Partition, SegmentName};

/// Blocks of a span: 4 of about 256 KiB. Larger: fewer requests, more read in vain by point reads.
const SPAN_BLOCKS: usize = 4;

/// Spans read ahead of a sequential reader.
const READ_AHEAD_SPANS: usize = 2;

/// Bucket reads at once. Larger: faster catch-up, more memory in flight (about 1 MiB each).
const LOADS_IN_FLIGHT_MAX: usize = 64;

/// Read-ahead leaves this many of those to readers that wait.
const LOADS_RESERVED: usize = 32;

/// The first try at a segment's index: enough for a few hundred runs and batches.
const INDEX_SUFFIX_BYTES: u64 = 64 * 1024;

/// Suffix reads for one index; two suffice unless the object lies about its length.
const INDEX_TRIES_MAX: usize = 3;

/// Run descriptions fetched and cached together.
const WINDOW_RUNS: usize = 16;

/// Partitions whose run descriptions are cached; about 1.3 KiB each.
const WINDOWS_MAX: usize = 4096;

/// How one engine's reads behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReaderOptions {
    pub(crate) block_cache_bytes: u64,
    pub(crate) index_cache_bytes: u64,
    pub(crate) read_timeout: Duration,
}

type Window = Arc<[RunDescription]>;

pub(crate) struct Reader {
    bucket: Arc<dyn Bucket>,
    runs: Arc<dyn RunIndex>,
    environment: Environment,
    metrics: LogMetrics,
    read_timeout: Duration,
    windows: Cache<Partition, Window>,
    indexes: Cache<SegmentName, Arc<SegmentIndex>, IndexWeight>,
    spans: Cache<SpanKey, Bytes, SpanWeight>,
    loads: Semaphore,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct SpanKey {
    segment: SegmentName,
    /// Of the run in the segment.
    run: u64,
    number: u32,
}

#[derive(Clone)]
struct SpanWeight;

impl quick_cache::Weighter<SpanKey, Bytes> for SpanWeight {
    fn weight(&self, _: &SpanKey, bytes: &Bytes) -> u64 {
        bytes.len() as u64 + 128
    }
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

/// Why a load brought nothing. Cheap to make; waiters of one flight each get their own.
enum LoadError {
    /// The object is not there.
    Gone,
    Unavailable(String),
    Corrupt {
        range: Range<u64>,
        reason: String,
    },
}

impl From<BucketError> for LoadError {
    fn from(error: BucketError) -> LoadError {
        match error {
            BucketError::NotFound { .. } => LoadError::Gone,
            BucketError::OutOfRange { length, end, .. } => {
                let reason = format!("the object ends at {length}");
                LoadError::Corrupt { range: 0..end, reason }
            }
            error => LoadError::Unavailable(error.to_string()),
        }
    }
}

impl Reader {
    pub(crate) fn new(
        options: ReaderOptions,
        bucket: Arc<dyn Bucket>,
        runs: Arc<dyn RunIndex>,
        environment: Environment,
        metrics: LogMetrics,
    ) -> Arc<Reader> {
        let items = |bytes: u64, each: u64| usize::try_from(bytes / each).unwrap_or(64).max(64);
        let (spans, indexes) = (options.block_cache_bytes, options.index_cache_bytes);
        Arc::new(Reader {
            bucket,
            runs,
            environment,
            metrics,
            read_timeout: options.read_timeout,
            windows: Cache::new(WINDOWS_MAX),
            indexes: Cache::with_weighter(items(indexes, 512 << 10), indexes, IndexWeight),
            spans: Cache::with_weighter(items(spans, 1 << 20), spans, SpanWeight),
            loads: Semaphore::new(LOADS_IN_FLIGHT_MAX),
        })
    }

    /// The committed run that holds `offset`. `None` when the metadata has none: it was deleted, or
    /// A3 is broken; the caller looks at the log start again.
    pub(crate) async fn run_at(
        &self,
        partition: Partition,
        offset: Offset,
    ) -> Result<Option<RunDescription>, ReadError> {
        let holds = |run: &&RunDescription| run.base <= offset && offset < run.end;
        if let Some(window) = self.windows.get(&partition)
            && let Some(run) = window.iter().find(holds)
        {
            return Ok(Some(*run));
        }
        let runs = self.runs_from(partition, offset, WINDOW_RUNS).await?;
        let found = runs.iter().find(holds).copied();
        self.windows.insert(partition, runs.into());
        Ok(found)
    }

    /// Uncached run descriptions, for scans.
    pub(crate) async fn runs_from(
        &self,
        partition: Partition,
        offset: Offset,
        count_max: usize,
    ) -> Result<Vec<RunDescription>, ReadError> {
        self.runs.runs_from(partition, offset, count_max).await.map_err(|error| {
            self.metrics.read_failures.inc();
            tracing::debug!(%partition, %error, "run index did not answer a read");
            ReadError::Unavailable
        })
    }

    /// The index's account of a committed run.
    pub(crate) async fn run_entry(
        self: &Arc<Self>,
        run: &RunDescription,
    ) -> Result<RunHandle, ReadError> {
        self.open_run(run).await?.ok_or(ReadError::Unavailable)
    }

    /// As [`Reader::run_entry`]; `None` if the segment is gone, which the caller may look into.
    async fn open_run(
        self: &Arc<Self>,
        run: &RunDescription,
    ) -> Result<Option<RunHandle>, ReadError> {
        let id = run.segment;
        let index = match self.indexes.get(&id) {
            Some(index) => Ok(index),
            None => {
                let this = Arc::clone(self);
                self.in_task(async move { this.load_index(id).await }).await
            }
        };
        let index = match self.told(id, index)? {
            Some(index) => index,
            None => return Ok(self.forget_window(run)),
        };
        let is_run = |it: &RunEntry| it.partition == run.partition && it.base == run.base;
        match index.runs.iter().position(is_run) {
            Some(at) if agrees(run, &index.runs[at]) => Ok(Some(RunHandle { index, at })),
            _ => {
                let reason = "A6: the index does not have the run that metadata refers to";
                let range = run.position..run.position + run.length;
                self.metrics.corrupt_reads.inc();
                Err(ReadError::Corrupt { object: id.to_string(), range, reason: reason.into() })
            }
        }
    }

    /// Makes the index of a segment that was just written known without reading it back.
    pub(crate) fn learn(&self, id: SegmentName, index: SegmentIndex) {
        self.indexes.insert(id, Arc::new(index));
    }

    /// Whole batches of `run` from the one that holds `next`, within one span, below `limit` and
    /// within `left` bytes, the first one whatever its size if it `must` be; and the offset behind
    /// them, `next` itself if nothing fits. `None` if the segment is gone.
    pub(crate) async fn read_run(
        self: &Arc<Self>,
        run: &RunDescription,
        next: Offset,
        limit: Offset,
        left: usize,
        must: bool,
        purpose: Purpose,
    ) -> Result<Option<(Vec<Bytes>, Offset)>, ReadError> {
        let Some(entry) = self.open_run(run).await? else { return Ok(None) };
        let first = entry.batches.partition_point(|it| it.last_offset() < next);
        let Some(first_batch) = entry.batches.get(first) else {
            return Ok(Some((Vec::new(), entry.end))); // Compaction may leave the end bare.
        };
        let number = span_at(&entry, first_batch.position);
        let span = span_bytes(&entry, number);
        let mut bytes = 0;
        let mut after = first;
        for batch in &entry.batches[first..] {
            let length = batch.length as usize;
            let fits = bytes + length <= left || (bytes == 0 && must);
            if span.end <= batch.position || limit < batch.end_offset() || !fits {
                break;
            }
            bytes += length;
            after += 1;
        }
        if after == first {
            return Ok(Some((Vec::new(), next)));
        }
        let Some(loaded) = self.span(run.segment, &entry, number, purpose).await? else {
            return Ok(self.forget_window(run));
        };
        self.read_ahead(run.segment, &entry, number);
        let start = (first_batch.position - span.start) as usize;
        let is_last_of_run = after == entry.batches.len();
        let end = if is_last_of_run { entry.end } else { entry.batches[after - 1].end_offset() };
        Ok(Some((vec![loaded.slice(start..start + bytes)], end)))
    }

    /// A span from the cache or the bucket; `None` if the segment is gone.
    async fn span(
        self: &Arc<Self>,
        segment: SegmentName,
        entry: &RunHandle,
        number: u32,
        purpose: Purpose,
    ) -> Result<Option<Bytes>, ReadError> {
        let key = SpanKey { segment, run: entry.position, number };
        if let Some(bytes) = self.spans.get(&key) {
            self.metrics.span_hits.inc();
            return Ok(Some(bytes));
        }
        self.metrics.span_misses.inc();
        let (this, entry) = (Arc::clone(self), entry.clone());
        let loaded = self.in_task(async move { this.load_span(key, &entry, purpose).await }).await;
        self.told(segment, loaded)
    }

    fn read_ahead(self: &Arc<Self>, segment: SegmentName, entry: &RunHandle, number: u32) {
        let spans = entry.blocks.len().div_ceil(SPAN_BLOCKS);
        for ahead in 1..=READ_AHEAD_SPANS {
            let number = number + ahead as u32;
            let key = SpanKey { segment, run: entry.position, number };
            let is_wanted = (number as usize) < spans && !self.spans.contains_key(&key);
            if !is_wanted || self.loads.available_permits() <= LOADS_RESERVED {
                return;
            }
            let (this, entry) = (Arc::clone(self), entry.clone());
            // Detached: whoever needs the span joins the flight, or finds it in the cache.
            drop(self.environment.tasks.spawn(TaskKind::Background, "read-ahead", async move {
                let _ = this.load_span(key, &entry, Purpose::ReadCold).await; // A reader that comes here is told.
            }));
        }
    }

    async fn load_span(
        &self,
        key: SpanKey,
        entry: &RunHandle,
        purpose: Purpose,
    ) -> Result<Bytes, LoadError> {
        let load = async {
            let _permit = self.loads.acquire().await;
            let span = span_bytes(entry, key.number);
            let range = entry.position + span.start..entry.position + span.end;
            let object = segment_key(key.segment);
            let bytes = self.bucket.get(&object, range.clone(), purpose).await?;
            let first = entry.batches.partition_point(|it| it.position < span.start);
            let after = entry.batches.partition_point(|it| it.position < span.end);
            match verify::span(entry, &entry.batches[first..after], &bytes) {
                Ok(()) => Ok(bytes),
                Err(reason) => Err(LoadError::Corrupt { range, reason }),
            }
        };
        self.spans.get_or_insert_async(&key, load).await
    }

    async fn load_index(&self, id: SegmentName) -> Result<Arc<SegmentIndex>, LoadError> {
        let load = async {
            let _permit = self.loads.acquire().await;
            let object = segment_key(id);
            let mut length = INDEX_SUFFIX_BYTES;
            for _ in 0..INDEX_TRIES_MAX {
                let suffix = self.bucket.get_suffix(&object, length, Purpose::ReadTail).await?;
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
            () = self.environment.clock.sleep(self.read_timeout) => {
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
        self.windows.remove(&partition);
        None
    }
}

/// Whether index and metadata tell the same story of a run (A6).
fn agrees(run: &RunDescription, entry: &RunEntry) -> bool {
    let told = (run.end, run.position, run.length, run.crc, run.leader_epoch);
    told == (entry.end, entry.position, entry.length, entry.crc, entry.leader_epoch)
}

/// The number of the span that holds the byte at `position` of the run.
fn span_at(entry: &RunEntry, position: u64) -> u32 {
    let after = entry.blocks.partition_point(|it| it.position <= position);
    (after.saturating_sub(1) / SPAN_BLOCKS) as u32
}

/// The bytes of a span, counted from the start of the run.
fn span_bytes(entry: &RunEntry, number: u32) -> Range<u64> {
    let first = number as usize * SPAN_BLOCKS;
    let start = entry.blocks.get(first).map_or(0, |it| it.position);
    let end = entry.blocks.get(first + SPAN_BLOCKS).map_or(entry.length, |it| it.position);
    start..end
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("cached_bytes", &self.spans.weight()).finish_non_exhaustive()
    }
}
