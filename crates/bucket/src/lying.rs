//! The twin that lies: it stores and reports a failure, reports a failure and stores nothing,
//! dawdles, and refuses in bursts, as real stores do on a bad day. Never does it report a success
//! that is none: against that no software helps.
//!
//! Two layers share the faults: [`LyingStore`] below the client's interface, for whoever brings its
//! own client (the metadata database), and [`LyingBucket`] at the port.

use crate::hooked::{Hook, Hooked, StoreRequest};
use crate::port::{Bucket, BucketError, Key, ObjectInfo, Purpose, PutOutcome, Suffix};
use crate::store::{StoreBucket, StoreOptions};
use async_trait::async_trait;
use bytes::Bytes;
use environment::{Clock, Entropy, Environment, SeededEntropy};
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use object_store::path::Path;
use object_store::{
    MultipartUpload, ObjectMeta, ObjectStore, PutPayload, PutResult, Result, UploadPart,
};
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

/// How often something went wrong, in requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lies {
    pub stored_not_told: u64,
    pub failed: u64,
    pub slow: u64,
    pub throttled: u64,
}

/// What happens to one request.
enum Fate {
    Done,
    DoneNotTold,
    Failed,
    Throttled,
}

/// Chooses the lies, by seed.
#[derive(Debug)]
pub struct Liar {
    clock: Arc<dyn Clock>,
    entropy: SeededEntropy,
    /// Leaf lock, never across an await.
    mood: Mutex<Mood>,
}

/// An `object_store` in front of another that tells lies by seed.
pub type LyingStore = Hooked<Arc<Liar>>;

#[derive(Debug)]
struct Mood {
    faults: Faults,
    burst_left: u64,
    lies: Lies,
}

/// Tries of a part, or of the end of an upload, as the clients of real stores make them below this
/// interface: what is lied about here is what is left after them.
const UPLOAD_TRIES: usize = 8;

impl Liar {
    fn new(seed: u64, faults: Faults, environment: &Environment) -> Arc<Liar> {
        Arc::new(Liar {
            clock: Arc::clone(&environment.clock),
            entropy: SeededEntropy::new(seed),
            mood: Mutex::new(Mood { faults, burst_left: 0, lies: Lies::default() }),
        })
    }

    fn set_faults(&self, faults: Faults) {
        let mut mood = self.mood.lock().unwrap_or_else(PoisonError::into_inner);
        *mood = Mood { faults, burst_left: 0, lies: mood.lies };
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
        let lies = &mut mood.lies;
        lies.slow += u64::from(0 < slow);
        match fate {
            Fate::Done => (),
            Fate::DoneNotTold => lies.stored_not_told += 1,
            Fate::Failed => lies.failed += 1,
            Fate::Throttled => lies.throttled += 1,
        }
        (fate, Duration::from_micros(slow))
    }

    async fn chosen(&self) -> Fate {
        let (fate, slow) = self.choose();
        if !slow.is_zero() {
            self.clock.sleep(slow).await;
        }
        fate
    }

    /// As [`Liar::chosen`], after the tries of a client that retries what did not happen.
    async fn chosen_of_upload(&self) -> Fate {
        for _ in 1..UPLOAD_TRIES {
            match self.chosen().await {
                Fate::Failed | Fate::Throttled => (),
                fate => return fate,
            }
        }
        self.chosen().await
    }

    async fn lie<T>(&self, fate: Fate, request: impl Future<Output = Result<T>>) -> Result<T> {
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

impl LyingStore {
    pub fn new(
        store: Arc<dyn ObjectStore>,
        seed: u64,
        faults: Faults,
        environment: &Environment,
    ) -> LyingStore {
        Hooked::behind(Liar::new(seed, faults, environment), store)
    }

    /// From now on; [`Faults::NONE`] heals.
    pub fn set_faults(&self, faults: Faults) {
        self.hook.set_faults(faults);
    }

    /// Since it was made.
    pub fn lies(&self) -> Lies {
        self.hook.mood.lock().unwrap_or_else(PoisonError::into_inner).lies
    }
}

impl Hook for Arc<Liar> {
    async fn around<T: Send>(
        &self,
        _request: StoreRequest<'_>,
        run: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let fate = self.chosen().await;
        self.lie(fate, run).await
    }

    fn upload(&self, upload: Box<dyn MultipartUpload>) -> Box<dyn MultipartUpload> {
        Box::new(LyingUpload { upload, liar: Arc::clone(self) })
    }

    /// A listing that breaks off after a few entries, or does not.
    fn listing(
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

    fn deletion(
        &self,
        store: &dyn ObjectStore,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        match self.choose().0 {
            Fate::Done => store.delete_stream(locations),
            Fate::DoneNotTold => {
                let told = || Err(broken("connection reset by peer (injected, after the fact)"));
                store.delete_stream(locations).map(move |_| told()).boxed()
            }
            Fate::Failed | Fate::Throttled => {
                locations.map(|_| Err(broken("503 SlowDown (injected)"))).boxed()
            }
        }
    }
}

/// Its parts and its end fail as a client's do that retries them.
#[derive(Debug)]
struct LyingUpload {
    upload: Box<dyn MultipartUpload>,
    liar: Arc<Liar>,
}

#[async_trait]
impl MultipartUpload for LyingUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (part, liar) = (self.upload.put_part(data), Arc::clone(&self.liar));
        async move {
            // A part whose answer is lost is sent again, to the same place.
            let fate = match liar.chosen_of_upload().await {
                Fate::DoneNotTold => Fate::Done,
                fate => fate,
            };
            liar.lie(fate, part).await
        }
        .boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let fate = self.liar.chosen_of_upload().await;
        self.liar.lie(fate, self.upload.complete()).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.upload.abort().await
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

    /// What it asks.
    pub fn store(&self) -> &Arc<LyingStore> {
        &self.store
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

    async fn put_new_large(
        &self,
        key: &Key,
        body: BoxStream<'_, Result<Bytes, BucketError>>,
        length: u64,
        purpose: Purpose,
    ) -> Result<PutOutcome, BucketError> {
        self.bucket.put_new_large(key, body, length, purpose).await
    }
}
