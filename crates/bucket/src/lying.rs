//! The twin that lies: it stores and reports a failure, reports a failure and stores nothing,
//! dawdles, and refuses in bursts, as real stores do on a bad day. Never does it report a success
//! that is none: against that no software helps.
//!
//! Two layers share the faults: [`LyingStore`] below the client's interface, for whoever brings its
//! own client (the metadata database), and [`LyingBucket`] at the port.

use crate::port::{Bucket, BucketError, Key, ObjectInfo, Purpose, PutOutcome, Suffix};
use crate::store::{StoreBucket, StoreOptions};
use async_trait::async_trait;
use bytes::Bytes;
use environment::{Clock, Entropy, Environment, SeededEntropy};
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often which lie is told, in thousandths of all requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    /// The write happens, the answer is lost.
    pub stored_not_told_per_mille: u64,
    /// The request fails before anything happens.
    pub failed_per_mille: u64,
    /// The answer takes up to `slow_max`.
    pub slow_per_mille: u64,
    pub slow_max: Duration,
    /// A burst starts, of up to `burst_requests_max` requests that are told to slow down.
    pub burst_per_mille: u64,
    pub burst_requests_max: u64,
}

impl Faults {
    pub const NONE: Faults = Faults {
        stored_not_told_per_mille: 0,
        failed_per_mille: 0,
        slow_per_mille: 0,
        slow_max: Duration::ZERO,
        burst_per_mille: 0,
        burst_requests_max: 0,
    };

    /// A bad day: about one request in five goes wrong in some way.
    pub fn bad_day() -> Faults {
        Faults {
            stored_not_told_per_mille: 60,
            failed_per_mille: 60,
            slow_per_mille: 60,
            slow_max: Duration::from_secs(3),
            burst_per_mille: 10,
            burst_requests_max: 4,
        }
    }
}

/// What happens to one request.
enum Fate {
    Done,
    DoneNotTold,
    Failed,
    Throttled,
}

/// An `object_store` in front of another that tells lies by seed.
#[derive(Debug)]
pub struct LyingStore {
    store: Arc<dyn ObjectStore>,
    clock: Arc<dyn Clock>,
    entropy: SeededEntropy,
    /// Leaf lock, never across an await.
    mood: Mutex<Mood>,
}

#[derive(Debug)]
struct Mood {
    faults: Faults,
    burst_left: u64,
}

impl LyingStore {
    pub fn new(
        store: Arc<dyn ObjectStore>,
        seed: u64,
        faults: Faults,
        environment: &Environment,
    ) -> LyingStore {
        LyingStore {
            store,
            clock: Arc::clone(&environment.clock),
            entropy: SeededEntropy::new(seed),
            mood: Mutex::new(Mood { faults, burst_left: 0 }),
        }
    }

    /// From now on; [`Faults::NONE`] heals.
    pub fn set_faults(&self, faults: Faults) {
        *self.mood.lock().unwrap_or_else(PoisonError::into_inner) = Mood { faults, burst_left: 0 };
    }

    fn choose(&self) -> (Fate, Duration) {
        let mut mood = self.mood.lock().unwrap_or_else(PoisonError::into_inner);
        let happens = |per_mille: u64| 0 < per_mille && self.entropy.below(1000) < per_mille;
        let faults = mood.faults.clone();
        let slow_max = u64::try_from(faults.slow_max.as_micros()).unwrap_or(u64::MAX);
        let slow = if happens(faults.slow_per_mille) { self.entropy.below(slow_max) } else { 0 };
        if happens(faults.burst_per_mille) {
            mood.burst_left = 1 + self.entropy.below(faults.burst_requests_max);
        }
        let fate = if 0 < mood.burst_left {
            mood.burst_left -= 1;
            Fate::Throttled
        } else if happens(faults.stored_not_told_per_mille) {
            Fate::DoneNotTold
        } else if happens(faults.failed_per_mille) {
            Fate::Failed
        } else {
            Fate::Done
        };
        (fate, Duration::from_micros(slow))
    }

    async fn lie<T>(&self, request: impl Future<Output = Result<T>>) -> Result<T> {
        let (fate, slow) = self.choose();
        if !slow.is_zero() {
            self.clock.sleep(slow).await;
        }
        match fate {
            Fate::Done => request.await,
            Fate::DoneNotTold => {
                let _ = request.await; // The lie: whatever came of it, nobody hears.
                Err(broken("connection reset by peer (injected, after the fact)"))
            }
            Fate::Failed => Err(broken("connection refused (injected)")),
            Fate::Throttled => Err(broken("503 Service Unavailable: SlowDown (injected)")),
        }
    }
}

fn broken(reason: &'static str) -> object_store::Error {
    object_store::Error::Generic { store: "lying", source: reason.into() }
}

impl fmt::Display for LyingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LyingStore({})", self.store)
    }
}

#[async_trait]
impl ObjectStore for LyingStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        self.lie(self.store.put_opts(location, payload, options)).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.lie(self.store.put_multipart_opts(location, options)).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.lie(self.store.get_opts(location, options)).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.lie(self.store.get_ranges(location, ranges)).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        match self.choose().0 {
            Fate::Done => self.store.delete_stream(locations),
            Fate::DoneNotTold => {
                let told = || Err(broken("connection reset by peer (injected, after the fact)"));
                self.store.delete_stream(locations).map(move |_| told()).boxed()
            }
            Fate::Failed | Fate::Throttled => {
                locations.map(|_| Err(broken("503 SlowDown (injected)"))).boxed()
            }
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.cut(self.store.list(prefix))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.cut(self.store.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.lie(self.store.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.lie(self.store.copy_opts(from, to, options)).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.lie(self.store.rename_opts(from, to, options)).await
    }
}

impl LyingStore {
    /// A listing that breaks off after a few entries, or does not.
    fn cut(
        &self,
        listing: BoxStream<'static, Result<ObjectMeta>>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.choose().0 {
            Fate::Done => listing,
            Fate::DoneNotTold | Fate::Failed | Fate::Throttled => {
                let whole = usize::try_from(self.entropy.below(3)).unwrap_or(0);
                let end = futures::stream::iter([Err(broken("listing broke off (injected)"))]);
                listing.take(whole).chain(end).boxed()
            }
        }
    }
}

/// A bucket in memory that tells lies by seed, without retries of its own: callers see every lie.
#[derive(Debug)]
pub struct LyingBucket {
    bucket: StoreBucket,
    store: Arc<LyingStore>,
}

impl LyingBucket {
    pub fn new(seed: u64, faults: Faults, environment: &Environment) -> LyingBucket {
        let memory = Arc::new(object_store::memory::InMemory::new());
        LyingBucket::over(memory, seed, faults, environment)
    }

    /// Over a store that outlives this process of a simulation.
    pub fn over(
        store: Arc<dyn ObjectStore>,
        seed: u64,
        faults: Faults,
        environment: &Environment,
    ) -> LyingBucket {
        let store = Arc::new(LyingStore::new(store, seed, faults, environment));
        let options = StoreOptions { attempts_max: 1, ..StoreOptions::remote() };
        let below: Arc<dyn ObjectStore> = Arc::<LyingStore>::clone(&store);
        LyingBucket { bucket: StoreBucket::new(below, options, environment), store }
    }

    /// From now on; [`Faults::NONE`] heals.
    pub fn set_faults(&self, faults: Faults) {
        self.store.set_faults(faults);
    }
}

#[async_trait]
impl Bucket for LyingBucket {
    async fn put_new(
        &self,
        key: &Key,
        body: Vec<Bytes>,
        purpose: Purpose,
    ) -> Result<PutOutcome, BucketError> {
        self.bucket.put_new(key, body, purpose).await
    }

    async fn get(
        &self,
        key: &Key,
        range: Range<u64>,
        purpose: Purpose,
    ) -> Result<Bytes, BucketError> {
        self.bucket.get(key, range, purpose).await
    }

    async fn get_suffix(
        &self,
        key: &Key,
        length: u64,
        purpose: Purpose,
    ) -> Result<Suffix, BucketError> {
        self.bucket.get_suffix(key, length, purpose).await
    }

    async fn list(
        &self,
        prefix: &Key,
        after: Option<&Key>,
        count_max: usize,
    ) -> Result<Vec<ObjectInfo>, BucketError> {
        self.bucket.list(prefix, after, count_max).await
    }

    async fn delete(&self, key: &Key, purpose: Purpose) -> Result<(), BucketError> {
        self.bucket.delete(key, purpose).await
    }
}
