//! The bucket's objects, which outlive every process, and one process's door to them.
//!
//! Owns: simulated ages of objects, latency, the count of requests that a kill waits for, writes that
//! were under way at a kill and land later, or never.
//! Does not own: lies (`bucket::LyingStore`, in front of a door).
//!
//! Ages: every object carries the simulation's right wall time, whatever the machine's clock says.

use async_trait::async_trait;
use bytes::Bytes;
use environment::{Clock, Entropy, SeededEntropy, StopToken};
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use vocabulary::Timestamp;

/// A late write lands within this much of the next life.
const LATE_MAX: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
pub(crate) struct Shelf {
    memory: InMemory,
    /// When each object was written. Leaf lock around a map.
    stamps: Mutex<BTreeMap<Path, Timestamp>>,
    /// Of processes that are dead. Leaf lock around a list.
    late: Mutex<Vec<Write>>,
    /// Late writes that were taken, and that came too late.
    landed: Mutex<(u64, u64)>,
}

/// A write on its way.
#[derive(Debug, Clone)]
struct Write {
    path: Path,
    payload: PutPayload,
    options: PutOptions,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shelf {
    /// The whole truth, without latency: every object below `prefix`, by path.
    pub(crate) fn objects(&self, prefix: &str) -> Vec<String> {
        let listed = self.memory.list(Some(&Path::from(prefix)));
        let listed: Vec<_> = listed.collect().now_or_never().expect("memory answers at once");
        let path = |it: Result<ObjectMeta>| it.expect("memory does not fail").location.to_string();
        listed.into_iter().map(path).collect()
    }

    /// Bytes of an object, if it is there and long enough.
    pub(crate) fn bytes(&self, path: &str, range: Range<u64>) -> Option<Bytes> {
        let path = Path::from(path);
        let read = self.memory.get_range(&path, range.clone()).now_or_never();
        let bytes = read.expect("memory answers at once").ok()?;
        (bytes.len() as u64 == range.end - range.start).then_some(bytes)
    }

    /// Of dead processes, in later lives: taken, and refused.
    pub(crate) fn late_writes(&self) -> (u64, u64) {
        *lock(&self.landed)
    }

    async fn apply(&self, write: Write, clock: &dyn Clock) -> Result<PutResult> {
        let Write { path, payload, options } = write;
        let put = self.memory.put_opts(&path, payload, options).await?;
        lock(&self.stamps).insert(path, clock.wall());
        Ok(put)
    }

    fn stamped(&self, mut meta: ObjectMeta) -> ObjectMeta {
        if let Some(at) = lock(&self.stamps).get(&meta.location) {
            let later = at.0 - meta.last_modified.timestamp_millis();
            let distance = Duration::from_millis(later.unsigned_abs());
            match later < 0 {
                true => meta.last_modified -= distance,
                false => meta.last_modified += distance,
            }
        }
        meta
    }

    /// What processes before this one had sent and the store had not taken yet: it takes it now.
    pub(crate) async fn land_late_writes(&self, clock: &dyn Clock, chance: &SeededEntropy) {
        let mut late: Vec<_> = lock(&self.late)
            .drain(..)
            .map(|write| (chance.below(LATE_MAX.as_micros() as u64), write))
            .collect();
        late.sort_by_key(|(at, _)| *at);
        let start = clock.now();
        for (at, write) in late {
            clock.sleep_until(start.plus(Duration::from_micros(at))).await;
            tracing::debug!(path = %write.path, "a dead process's write lands");
            // Refused or taken: nobody hears of it.
            let is_taken = self.apply(write, clock).await.is_ok();
            let mut landed = lock(&self.landed);
            landed.0 += u64::from(is_taken);
            landed.1 += u64::from(!is_taken);
        }
    }
}

/// How one life reaches the objects. When it has made so many requests, it is killed.
#[derive(Debug)]
pub(crate) struct Door {
    shelf: Arc<Shelf>,
    clock: Arc<dyn Clock>,
    chance: SeededEntropy,
    latency_max: Duration,
    killed: StopToken,
    /// Leaf lock around counts and a map.
    traffic: Mutex<Traffic>,
}

#[derive(Debug, Default)]
struct Traffic {
    requests_left: u64,
    next_write: u64,
    /// Sent and not answered, given-up ones too.
    writes: BTreeMap<u64, Write>,
}

impl Door {
    pub(crate) fn new(
        shelf: &Arc<Shelf>,
        clock: &Arc<dyn Clock>,
        seed: u64,
        latency_max: Duration,
        requests_max: u64,
    ) -> Door {
        Door {
            shelf: Arc::clone(shelf),
            clock: Arc::clone(clock),
            chance: SeededEntropy::new(seed),
            latency_max,
            killed: StopToken::new(),
            traffic: Mutex::new(Traffic { requests_left: requests_max, ..Traffic::default() }),
        }
    }

    /// Resolves when the requests are used up: the process is to be killed.
    pub(crate) async fn killed(&self) {
        self.killed.stopped().await;
    }

    /// The process is dead. What it had sent is lost, or taken, or lands in the next life.
    pub(crate) fn slam(&self) {
        for write in std::mem::take(&mut lock(&self.traffic).writes).into_values() {
            match self.chance.below(4) {
                0 => (),
                1 => {
                    let applied = self.apply(write).now_or_never();
                    drop(applied.expect("memory answers at once"));
                }
                _ => lock(&self.shelf.late).push(write),
            }
        }
    }

    async fn apply(&self, write: Write) -> Result<PutResult> {
        self.shelf.apply(write, &*self.clock).await
    }

    async fn wait(&self) {
        let micros = self.latency_max.as_micros() as u64;
        if 0 < micros {
            self.clock.sleep(Duration::from_micros(self.chance.below(micros))).await;
        }
    }

    /// Every request passes here once before it takes effect.
    async fn pass(&self) {
        self.wait().await;
        let is_last = {
            let mut traffic = lock(&self.traffic);
            traffic.requests_left = traffic.requests_left.saturating_sub(1);
            traffic.requests_left == 0
        };
        if is_last {
            self.killed.stop();
            std::future::pending::<()>().await;
        }
    }
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Door")
    }
}

#[async_trait]
impl ObjectStore for Door {
    async fn put_opts(
        &self,
        path: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let write = Write { path: path.clone(), payload, options };
        let id = {
            let mut traffic = lock(&self.traffic);
            traffic.next_write += 1;
            let id = traffic.next_write;
            traffic.writes.insert(id, write.clone());
            id
        };
        self.pass().await;
        // Taken already, so it cannot land once more.
        lock(&self.traffic).writes.remove(&id);
        let put = self.apply(write).await;
        self.wait().await;
        put
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.pass().await;
        self.shelf.memory.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.pass().await;
        let got = self.shelf.memory.get_opts(path, options).await;
        self.wait().await;
        got.map(|it| GetResult { meta: self.shelf.stamped(it.meta), ..it })
    }

    async fn get_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.pass().await;
        self.shelf.memory.get_ranges(path, ranges).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.shelf.memory.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let shelf = Arc::clone(&self.shelf);
        self.shelf.memory.list(prefix).map(move |it| it.map(|meta| shelf.stamped(meta))).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.pass().await;
        let mut listed = self.shelf.memory.list_with_delimiter(prefix).await?;
        listed.objects = listed.objects.into_iter().map(|it| self.shelf.stamped(it)).collect();
        Ok(listed)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.pass().await;
        self.shelf.memory.copy_opts(from, to, options).await
    }
}
