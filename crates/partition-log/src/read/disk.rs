//! The optional second cache of spans, on a local disk (NVMe).
//!
//! Owns: one file, what of it is whose, what of it is still right, how much waits to be written.
//! Does not own: what is asked (`loads`), the memory caches (`spans`).
//!
//! The file is a ring: spans are written one behind the other, and the oldest make way. Where what
//! lies is known in memory only, with a CRC-32C of the bytes, so the cache starts empty with each
//! process and nothing on the disk is ever believed without its checksum. ADR 2026-11-21-block-cache-on-disk
//! says why it is this and not a library.
//!
//! Trouble never reaches a reader: a span that cannot be read back, or comes back with other bytes,
//! was not there. After [`FAILURES_MAX`] failures in a row the cache is off until the next start.
//! All file work runs on the runtime's blocking threads.
//!
//! Invariants: places in `order` do not overlap; a place is overwritten only after its key is gone
//! from `places`; no more than [`QUEUE_BYTES_MAX`] wait to be written.

use super::spans::SpanKey;
use crate::engine::LogMetrics;
use bytes::Bytes;
use environment::{TaskGroup, TaskKind};
use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock};
use std::collections::{HashMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

/// The cache's file in its directory.
const FILE_NAME: &str = "spans.cache";

/// Spans that wait to be written, in bytes; what comes beyond is not kept. Larger: longer bursts are
/// kept whole, more memory.
const QUEUE_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Failures in a row after which the cache is given up.
const FAILURES_MAX: u32 = 16;

/// Places start at a multiple of this, as disks like it.
const ALIGNMENT_BYTES: u64 = 4096;

/// Why there is no cache on the disk. Reads work without it.
#[derive(Debug, thiserror::Error)]
#[error("the block cache {} cannot be used: {source}; reads go to the bucket", path.display())]
pub(crate) struct OpenCacheError {
    path: PathBuf,
    source: io::Error,
}

pub(crate) struct DiskCache {
    file: Arc<File>,
    tasks: TaskGroup,
    metrics: LogMetrics,
    /// A leaf lock: map steps only, never across an await or a system call.
    ring: Mutex<Ring>,
}

struct Ring {
    bytes_max: u64,
    places: HashMap<SpanKey, Place>,
    /// From the oldest to the youngest, which ends at `head`.
    order: VecDeque<(SpanKey, Place)>,
    head: u64,
    /// Of the spans in `order`.
    bytes: u64,
    queue: VecDeque<(SpanKey, Bytes)>,
    queued_bytes: u64,
    is_writing: bool,
    failures: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    position: u64,
    length: u64,
    crc: u32,
}

impl DiskCache {
    /// An empty cache of up to `bytes_max` in `directory`, which is made if missing. What another
    /// process left there is overwritten. Blocks: called at the start, on a blocking thread.
    ///
    /// # Errors
    /// The directory cannot be written, another process uses it, or there is no room for the file.
    pub(crate) fn open(
        directory: &Path,
        bytes_max: u64,
        tasks: TaskGroup,
        metrics: LogMetrics,
    ) -> Result<Arc<DiskCache>, OpenCacheError> {
        let path = directory.join(FILE_NAME);
        let bytes_max = bytes_max / ALIGNMENT_BYTES * ALIGNMENT_BYTES;
        let file = prepare(directory, &path, bytes_max)
            .map_err(|source| OpenCacheError { path, source })?;
        let ring = Ring {
            bytes_max,
            places: HashMap::new(),
            order: VecDeque::new(),
            head: 0,
            bytes: 0,
            queue: VecDeque::new(),
            queued_bytes: 0,
            is_writing: false,
            failures: 0,
        };
        Ok(Arc::new(DiskCache { file: Arc::new(file), tasks, metrics, ring: Mutex::new(ring) }))
    }

    /// The span, if it is here and intact.
    pub(super) async fn get(self: &Arc<Self>, key: SpanKey) -> Option<Bytes> {
        let place = {
            let ring = self.ring();
            if let Some((_, bytes)) = ring.queue.iter().find(|it| it.0 == key) {
                self.metrics.disk_cache_hits.inc();
                return Some(bytes.clone());
            }
            ring.places.get(&key).copied()
        };
        let Some(place) = place else {
            self.metrics.disk_cache_misses.inc();
            return None;
        };
        let file = Arc::clone(&self.file);
        let read = move || {
            let mut bytes = vec![0; usize::try_from(place.length).unwrap_or(0)];
            file.read_exact_at(&mut bytes, place.position).map(|()| Bytes::from(bytes))
        };
        let read = self.tasks.spawn_blocking(TaskKind::Background, "cache read", read).await;
        let right = match read {
            Ok(Ok(bytes)) if crc_fast::crc32_iscsi(&bytes) == place.crc => Some(bytes),
            Ok(read) => {
                self.distrust(key, place, read.err());
                None
            }
            Err(_) => None, // The process stops.
        };
        let counter = match right {
            Some(_) => &self.metrics.disk_cache_hits,
            None => &self.metrics.disk_cache_misses,
        };
        counter.inc();
        right
    }

    /// Keeps the span, unless too much waits to be written already.
    pub(super) fn offer(self: &Arc<Self>, key: SpanKey, bytes: Bytes) {
        let length = bytes.len() as u64;
        {
            let mut ring = self.ring();
            let is_full = QUEUE_BYTES_MAX < ring.queued_bytes + length;
            let is_off = FAILURES_MAX <= ring.failures;
            if is_off || is_full || ring.bytes_max < aligned(length) {
                self.metrics.disk_cache_dropped.inc();
                return;
            }
            if ring.places.contains_key(&key) || ring.queue.iter().any(|it| it.0 == key) {
                return;
            }
            ring.queue.push_back((key, bytes));
            ring.queued_bytes += length;
            if std::mem::replace(&mut ring.is_writing, true) {
                return;
            }
        }
        let this = Arc::clone(self);
        // Detached: the queue's length says what it has left to do.
        drop(self.tasks.spawn(TaskKind::Background, "cache writes", async move {
            while this.write_one().await {}
        }));
    }

    /// False when there is nothing to write any more, or no cache.
    async fn write_one(&self) -> bool {
        let (key, bytes, position) = {
            let mut ring = self.ring();
            let is_off = FAILURES_MAX <= ring.failures;
            let Some((key, bytes)) = ring.queue.front().cloned().filter(|_| !is_off) else {
                ring.is_writing = false;
                ring.queue.clear();
                ring.queued_bytes = 0;
                return false;
            };
            let position = ring.make_way(aligned(bytes.len() as u64));
            (key, bytes, position)
        };
        let (file, written) = (Arc::clone(&self.file), bytes.clone());
        let write =
            move || file.write_all_at(&written, position).map(|()| crc_fast::crc32_iscsi(&written));
        let wrote = self.tasks.spawn_blocking(TaskKind::Background, "cache write", write).await;
        let mut ring = self.ring();
        ring.queue.pop_front();
        ring.queued_bytes -= bytes.len() as u64;
        match wrote {
            Ok(Ok(crc)) => {
                let place = Place { position, length: bytes.len() as u64, crc };
                ring.places.insert(key, place);
                ring.order.push_back((key, place));
                ring.bytes += place.length;
                ring.failures = 0;
                self.metrics.disk_cache_writes.inc();
                self.metrics.disk_cache_bytes.set(ring.bytes as i64);
            }
            Ok(Err(error)) => self.failed(&mut ring, &error),
            Err(_) => ring.failures = FAILURES_MAX, // The process stops.
        }
        true
    }

    /// What came back is not what was written, or nothing came back.
    fn distrust(&self, key: SpanKey, place: Place, error: Option<io::Error>) {
        let mut ring = self.ring();
        if ring.places.get(&key) != Some(&place) {
            return; // Overwritten while it was read, as is the ring's right.
        }
        ring.places.remove(&key);
        let other_bytes = || io::Error::new(io::ErrorKind::InvalidData, "other bytes than written");
        self.failed(&mut ring, &error.unwrap_or_else(other_bytes));
    }

    fn failed(&self, ring: &mut Ring, error: &io::Error) {
        self.metrics.disk_cache_failures.inc();
        ring.failures += 1;
        match ring.failures {
            1 => tracing::warn!(%error, "block cache on disk: treated as a miss"),
            FAILURES_MAX => {
                ring.places.clear();
                tracing::warn!(%error, "block cache on disk given up until the next start: check the disk");
            }
            _ => (),
        }
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().expect("no holder of this leaf lock panics: map steps only")
    }
}

impl Ring {
    /// A place of `length` aligned bytes: behind the youngest, or at the start of the file. What lies
    /// there is forgotten.
    fn make_way(&mut self, length: u64) -> u64 {
        let wraps = self.bytes_max < self.head + length;
        let start = if wraps { 0 } else { self.head };
        let end = start + length;
        let old_head = std::mem::replace(&mut self.head, end);
        while let Some((key, place)) = self.order.front().copied() {
            // What is left at the end of the file goes first, or it would look younger than it is.
            let is_skipped = wraps && old_head <= place.position;
            let overlaps = place.position < end && start < place.position + aligned(place.length);
            if !is_skipped && !overlaps {
                break;
            }
            self.order.pop_front();
            self.bytes -= place.length;
            if self.places.get(&key) == Some(&place) {
                self.places.remove(&key);
            }
        }
        start
    }
}

fn aligned(length: u64) -> u64 {
    length.div_ceil(ALIGNMENT_BYTES) * ALIGNMENT_BYTES
}

fn prepare(directory: &Path, path: &Path, bytes_max: u64) -> io::Result<File> {
    std::fs::create_dir_all(directory)?;
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).open(path)?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    file.set_len(0)?;
    // Room is promised now rather than missed later; a file system that cannot promise gets by.
    match fallocate(&file, FallocateFlags::empty(), 0, bytes_max) {
        Err(rustix::io::Errno::OPNOTSUPP) => file.set_len(bytes_max)?,
        allocated => allocated?,
    }
    Ok(file)
}

#[cfg(test)]
mod tests;
