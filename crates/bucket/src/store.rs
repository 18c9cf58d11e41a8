//! The one implementation of the port, over `object_store`.
//!
//! Owns: retries and their limits, admission, classification, metering, telling "already mine" from
//! "already another's". Does not own: connections and request signing (the client), what is stored.
//!
//! Retries. Reads, listings and deletions are idempotent and simply tried again with jittered
//! backoff. A conditional put is tried again with the same key and the same bytes; whenever the
//! store then says that the key exists, the object is read and compared, because the writer of those
//! bytes may have been an earlier try whose answer was lost. That is the only reading of "exists"
//! that is right under every fault: equal bytes are success, other bytes are a lost race.

use crate::classify::{chain, classify};
use crate::creates::BelievedCreates;
use crate::hooked::Hooked;
use crate::local::Directories;
use crate::location::BucketLocation;
use crate::metered::Meter;
use crate::metering::{BucketMetrics, LIST_PAGE_KEYS, Operation};
use crate::port::{Bucket, BucketError, Key, ObjectInfo, Purpose, PutOutcome, Suffix, cut};
use crate::probe::{ProbeError, probe};
use crate::remote::{self, variables::Variables};
use async_trait::async_trait;
use bytes::Bytes;
use environment::{Clock, Entropy, Environment, TaskGroup};
use futures::{StreamExt, stream::BoxStream};
use object_store::path::Path as StorePath;
use object_store::{GetOptions, ObjectStore, PutMode, PutOptions, PutPayload};
use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use vocabulary::Timestamp;

mod files;
mod large;
mod reading;
mod updates;

/// How hard to try. Tunable per node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreOptions {
    /// Tries of one request, the first included. More: fewer errors seen above, later.
    pub attempts_max: u32,
    /// The first pause between tries; it doubles, and half of it is chance.
    pub backoff_initial: Duration,
    pub backoff_max: Duration,
    /// One try is given up after this. `None` for a local disk, whose requests cannot be abandoned.
    pub attempt_timeout: Option<Duration>,
    /// Requests at once that somebody waits for.
    pub foreground_requests_max: usize,
    /// Requests at once that nobody waits for.
    pub background_requests_max: usize,
    /// Whether listings come in key order; if not, they are sorted here, at the price of reading
    /// the whole listing for each page.
    pub listing_sorted: bool,
}

impl StoreOptions {
    /// For a store behind a network.
    pub fn remote() -> StoreOptions {
        StoreOptions {
            attempts_max: 6,
            backoff_initial: Duration::from_millis(50),
            backoff_max: Duration::from_secs(2),
            attempt_timeout: Some(Duration::from_secs(30)),
            foreground_requests_max: 64,
            background_requests_max: 16,
            listing_sorted: true,
        }
    }

    /// For a local directory: each request takes one of the runtime's blocking threads.
    pub fn local() -> StoreOptions {
        StoreOptions {
            attempts_max: 3,
            attempt_timeout: None,
            foreground_requests_max: 16,
            background_requests_max: 4,
            listing_sorted: false,
            ..StoreOptions::remote()
        }
    }
}

/// Of the checks at start-up: an operator looks on.
const PROBE_TIME_MAX: Duration = Duration::from_secs(12);

/// How often what the port promises is asked for, with new keys each time, where an error that passes has
/// outlasted the tries of one request.
const PROBES_MAX: u32 = 3;

/// Of one request at start-up, all of which are small: so that a start outlives one that hangs.
const PROBE_ATTEMPT_MAX: Duration = Duration::from_secs(4);

/// Why a bucket cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenBucketError {
    #[error("cannot use directory {path}: {reason}")]
    Directory { path: String, reason: String },
    /// Nothing was asked of the store yet: credentials or settings are missing or wrong.
    #[error("cannot use {location}: {reason}")]
    Remote { location: String, reason: String, advice: &'static str },
}

impl OpenBucketError {
    /// What to do about it.
    pub fn advice(&self) -> &'static str {
        match self {
            OpenBucketError::Directory { .. } => "Is there room, and may this user write there?",
            OpenBucketError::Remote { advice, .. } => advice,
        }
    }
}

/// A [`Bucket`] over any `object_store`. Clones are not needed: share it in an `Arc`.
#[derive(Debug)]
pub struct StoreBucket {
    store: Arc<dyn ObjectStore>,
    /// The same store by the client for multipart uploads.
    uploads: Arc<dyn ObjectStore>,
    /// The same store by the client that retries on its own.
    metadata: Arc<dyn ObjectStore>,
    directories: Option<Directories>,
    options: StoreOptions,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    foreground: Semaphore,
    background: Semaphore,
    metrics: BucketMetrics,
    /// What was last tried again after, for the message of a start that gives up. Leaf lock.
    last_error: Mutex<Option<BucketError>>,
    /// Takes back uploads whose callers have left.
    tasks: TaskGroup,
}

impl StoreBucket {
    /// Wherever it is. A remote store is not asked anything yet; the probe does.
    ///
    /// # Errors
    ///
    /// The directory cannot be used; credentials or settings are missing or wrong.
    pub fn open(
        location: &BucketLocation,
        variables: &Variables,
        environment: &Environment,
    ) -> Result<StoreBucket, OpenBucketError> {
        match location {
            BucketLocation::Memory => Ok(StoreBucket::memory(environment)),
            BucketLocation::Directory(path) => StoreBucket::local(path, environment),
            BucketLocation::Remote(remote) => {
                let metrics = BucketMetrics::new();
                let clients = remote::open(remote, variables, &metrics, environment);
                let clients = clients.map_err(|unusable| OpenBucketError::Remote {
                    location: remote.to_string(),
                    reason: unusable.reason,
                    advice: unusable.advice,
                })?;
                let options = remote::store_options(remote);
                let bucket = StoreBucket::new(clients.requests, options, environment);
                let (uploads, metadata) = (clients.uploads, clients.metadata);
                Ok(StoreBucket { uploads, metadata, metrics, ..bucket })
            }
        }
    }

    /// Over a store whose root is the cluster's root.
    pub fn new(
        store: Arc<dyn ObjectStore>,
        options: StoreOptions,
        environment: &Environment,
    ) -> StoreBucket {
        StoreBucket {
            uploads: Arc::clone(&store),
            metadata: Arc::clone(&store),
            store,
            directories: None,
            clock: Arc::clone(&environment.clock),
            entropy: Arc::clone(&environment.entropy),
            foreground: Semaphore::new(options.foreground_requests_max),
            background: Semaphore::new(options.background_requests_max),
            metrics: BucketMetrics::new(),
            last_error: Mutex::default(),
            tasks: environment.tasks.clone(),
            options,
        }
    }

    /// A directory, made if missing. What is answered is on the disk, names included.
    ///
    /// # Errors
    ///
    /// The directory cannot be made, read or synced.
    pub fn local(path: &Path, environment: &Environment) -> Result<StoreBucket, OpenBucketError> {
        let refused =
            |reason| OpenBucketError::Directory { path: path.display().to_string(), reason };
        let directories = Directories::below(path).map_err(|error| refused(error.to_string()))?;
        let store = object_store::local::LocalFileSystem::new_with_prefix(directories.root())
            .map_err(|error| refused(chain(&error)))?
            .with_fsync(true);
        let bucket = StoreBucket::new(Arc::new(store), StoreOptions::local(), environment);
        Ok(StoreBucket { directories: Some(directories), ..bucket })
    }

    /// In memory, for tests and simulation: durable as long as the store is shared.
    pub fn memory(environment: &Environment) -> StoreBucket {
        let store = Arc::new(object_store::memory::InMemory::new());
        StoreBucket::new(store, StoreOptions::remote(), environment)
    }

    /// The store itself, for the metadata database below `meta`, which does its own retries and
    /// conditional writes. Its requests are metered as [`Purpose::Metadata`], and what it creates "exists" only
    /// when it can be read.
    pub fn object_store(&self) -> Arc<dyn ObjectStore> {
        let meter = Meter { metrics: self.metrics.clone(), clock: Arc::clone(&self.clock) };
        let metered: Arc<dyn ObjectStore> =
            Arc::new(Hooked::behind(meter, Arc::clone(&self.metadata)));
        let creates = BelievedCreates { store: Arc::clone(&metered) };
        Arc::new(Hooked::behind(creates, metered))
    }

    /// Whether the store keeps its promises. A remote one is given twelve seconds to answer. Each request
    /// that fails in a way that passes is tried again, a broken promise is not.
    ///
    /// # Errors
    ///
    /// A broken promise by its name, or why it could not be asked for.
    pub async fn probe(&self) -> Result<(), ProbeError> {
        let is_remote = self.options.attempt_timeout.is_some();
        let asked = async {
            let mut port = std::pin::pin!(self.probe_port());
            let mut updates = std::pin::pin!(self.probe_updates(!is_remote));
            tokio::select! {
                biased;
                port = &mut port => match port {
                    // Nothing can be asked: the other half would only wait for the same.
                    Err(ProbeError::Bucket(error)) => Err(error.into()),
                    // It deletes what it wrote, whatever this half has found.
                    port => port.and(updates.await),
                },
                updates = &mut updates => port.await.and(updates),
            }
        };
        if !is_remote {
            return asked.await;
        }
        let waited_ms = u64::try_from(PROBE_TIME_MAX.as_millis()).unwrap_or(u64::MAX);
        tokio::select! {
            biased;
            answer = asked => answer,
            () = self.clock.sleep(PROBE_TIME_MAX) => {
                let last = self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let last = last.map_or("nothing came back at all".to_owned(), |it| it.to_string());
                Err(ProbeError::Silent { waited_ms, last })
            }
        }
    }

    async fn probe_port(&self) -> Result<(), ProbeError> {
        let mut attempt = 1;
        loop {
            match probe(self, &*self.entropy).await {
                Err(ProbeError::Bucket(error)) if error.is_transient() && attempt < PROBES_MAX => {
                    self.note(attempt, &error);
                    self.pause(attempt).await;
                    attempt += 1;
                }
                answer => return answer,
            }
        }
    }

    pub fn metrics(&self) -> &BucketMetrics {
        &self.metrics
    }

    /// Removes what interrupted uploads left behind, if it is older than `age_min`. Returns how many.
    /// A local directory only; remote stores expire incomplete uploads by a lifecycle rule.
    pub async fn sweep_staged(&self, age_min: Duration) -> Result<u64, OpenBucketError> {
        let Some(directories) = &self.directories else { return Ok(0) };
        let age_ms_min = i64::try_from(age_min.as_millis()).unwrap_or(i64::MAX);
        let swept = directories.sweep_staged(self.clock.wall().0, age_ms_min).await;
        swept.map_err(|error| OpenBucketError::Directory {
            path: directories.root().display().to_string(),
            reason: error.to_string(),
        })
    }

    async fn admit(&self, purpose: Purpose) -> SemaphorePermit<'_> {
        let requests = if purpose.is_background() { &self.background } else { &self.foreground };
        requests.acquire().await.expect("the semaphores are never closed")
    }

    /// One try: timed, metered, given up after the timeout.
    async fn attempt<T>(
        &self,
        key: &Key,
        purpose: Purpose,
        operation: Operation,
        request: impl Future<Output = Result<T, BucketError>>,
    ) -> Result<T, BucketError> {
        let started = self.clock.now();
        let answer = self.in_time(key, purpose, request).await;
        self.metrics.answered(purpose, operation, self.clock.now().since(started));
        if let Err(error) = &answer {
            self.metrics.failed(purpose, operation, error.kind());
        }
        answer
    }

    /// Gives a request up after the timeout.
    async fn in_time<T>(
        &self,
        key: &Key,
        purpose: Purpose,
        request: impl Future<Output = Result<T, BucketError>>,
    ) -> Result<T, BucketError> {
        let Some(mut timeout) = self.options.attempt_timeout else { return request.await };
        if purpose == Purpose::Cluster {
            timeout = timeout.min(PROBE_ATTEMPT_MAX);
        }
        let waited_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        tokio::select! {
            biased;
            answer = request => answer,
            () = self.clock.sleep(timeout) => {
                Err(BucketError::Timeout { key: key.clone(), waited_ms })
            }
        }
    }

    /// Tries one request until it works, the error is final or the tries are used up.
    async fn retried<T, F: Future<Output = Result<T, BucketError>>>(
        &self,
        key: &Key,
        purpose: Purpose,
        operation: Operation,
        mut request: impl FnMut() -> F,
    ) -> Result<T, BucketError> {
        self.again(purpose, || self.attempt(key, purpose, operation, request())).await
    }

    /// As `retried`, for what makes its own attempts.
    async fn again<T, F: Future<Output = Result<T, BucketError>>>(
        &self,
        purpose: Purpose,
        mut request: impl FnMut() -> F,
    ) -> Result<T, BucketError> {
        let _permit = self.admit(purpose).await;
        let mut attempt = 1;
        loop {
            match request().await {
                Err(error) if error.is_transient() && attempt < self.options.attempts_max => {
                    self.note(attempt, &error);
                    self.pause(attempt).await;
                    attempt += 1;
                }
                answer => return answer,
            }
        }
    }

    /// Before something is tried again.
    fn note(&self, attempt: u32, error: &BucketError) {
        tracing::debug!(attempt, %error, "trying again");
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.clone());
    }

    /// Half fixed, half chance, so that many callers that failed together do not return together.
    async fn pause(&self, attempt: u32) {
        let doubled = self.options.backoff_initial.saturating_mul(1 << (attempt - 1).min(16));
        let most = doubled.min(self.options.backoff_max);
        let micros = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
        let wait = micros / 2 + self.entropy.below(micros / 2 + 1);
        self.clock.sleep(Duration::from_micros(wait)).await;
    }

    async fn try_put(&self, key: &Key, body: &PutPayload) -> Result<PutOutcome, BucketError> {
        if let Some(directories) = &self.directories {
            if files::DIRECT_BYTES_MIN <= body.content_length() {
                return files::put(key, body, directories, self.entropy.next_u64()).await;
            }
            directories.ensure(key.as_str()).await.map_err(|error| disk(key, &error))?;
        }
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.store.put_opts(&path(key), body.clone(), options).await {
            Ok(_) => Ok(PutOutcome::Created),
            Err(
                object_store::Error::AlreadyExists { .. }
                | object_store::Error::Precondition { .. },
            ) => Ok(PutOutcome::AlreadyExists),
            Err(error) => Err(match classify(key, error) {
                // A key that does not exist cannot be missing for its own creation.
                BucketError::NotFound { key } => {
                    let reason = "the bucket, or the way to it, does not exist".to_owned();
                    BucketError::Refused { key, reason }
                }
                error => error,
            }),
        }
    }

    /// Creates the object, or finds out whose it is.
    ///
    /// "Exists" is believed only when there is something to read: S3 answers 409 while others write
    /// or delete the same key, and whoever took that for a lost race would give a key up that nobody
    /// has.
    async fn try_put_mine(
        &self,
        key: &Key,
        body: &PutPayload,
        purpose: Purpose,
    ) -> Result<PutOutcome, BucketError> {
        let put = self.attempt(key, purpose, Operation::Put, self.try_put(key, body)).await?;
        self.metrics.wrote(purpose, body.content_length() as u64);
        if put == PutOutcome::Created {
            return Ok(PutOutcome::Created);
        }
        let mine = self.attempt(key, purpose, Operation::Get, self.is_mine(key, body)).await;
        match mine {
            Ok(true) => Ok(PutOutcome::Created),
            Ok(false) => Ok(PutOutcome::AlreadyExists),
            Err(BucketError::NotFound { key }) => {
                let reason = "it exists for a write and not for a read".to_owned();
                Err(BucketError::Unavailable { key, reason })
            }
            Err(error) => Err(error),
        }
    }

    /// Whether the object at `key` is `body`, byte for byte.
    async fn is_mine(&self, key: &Key, body: &PutPayload) -> Result<bool, BucketError> {
        let answer = self.store.get_opts(&path(key), GetOptions::default()).await;
        let found = answer.map_err(|error| classify(key, error))?;
        if found.meta.size != body.content_length() as u64 {
            return Ok(false);
        }
        let (mut stored, mut ours) = (found.into_stream(), body.iter().cloned());
        let (mut left, mut right) = (Bytes::new(), Bytes::new());
        loop {
            if left.is_empty() {
                match stored.next().await {
                    Some(chunk) => left = chunk.map_err(|error| classify(key, error))?,
                    None => break,
                }
            }
            while right.is_empty() {
                match ours.next() {
                    Some(chunk) => right = chunk,
                    None => return Ok(left.is_empty()),
                }
            }
            let common = left.len().min(right.len());
            if left.split_to(common) != right.split_to(common) {
                return Ok(false);
            }
        }
        if let Some(directories) = &self.directories {
            directories.sync(key.as_str()).await.map_err(|error| disk(key, &error))?;
        }
        Ok(right.is_empty() && ours.all(|chunk| chunk.is_empty()))
    }

    async fn try_list(
        &self,
        prefix: &Key,
        after: Option<&Key>,
        count_max: usize,
    ) -> Result<Vec<ObjectInfo>, BucketError> {
        let below = path(prefix);
        let mut listing = match after {
            Some(after) => self.store.list_with_offset(Some(&below), &path(after)),
            None => self.store.list(Some(&below)),
        };
        let (mut found, mut seen) = (BTreeMap::new(), 0);
        while let Some(entry) = listing.next().await {
            seen += 1;
            if seen % LIST_PAGE_KEYS == 0 {
                self.metrics.counted(Purpose::Collection, Operation::List);
            }
            if self.options.listing_sorted && count_max <= found.len() {
                break;
            }
            let meta = entry.map_err(|error| classify(prefix, error))?;
            let Some(key) = Key::parse(meta.location.as_ref()) else { continue };
            let modified = Timestamp(meta.last_modified.timestamp_millis());
            found.insert(key.clone(), ObjectInfo { key, length: meta.size, modified });
            if count_max < found.len() {
                found.pop_last();
            }
        }
        Ok(found.into_values().collect())
    }
}

#[async_trait]
impl Bucket for StoreBucket {
    async fn put_new(
        &self,
        key: &Key,
        body: Vec<Bytes>,
        purpose: Purpose,
    ) -> Result<PutOutcome, BucketError> {
        let body = PutPayload::from_iter(body);
        self.again(purpose, || self.try_put_mine(key, &body, purpose)).await
    }

    async fn get(
        &self,
        key: &Key,
        range: Range<u64>,
        purpose: Purpose,
    ) -> Result<Bytes, BucketError> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        self.retried(key, purpose, Operation::Get, || self.try_get(key, range.clone(), purpose))
            .await
            .inspect(|bytes| self.metrics.read(purpose, bytes.len() as u64))
    }

    async fn get_pieces(
        &self,
        key: &Key,
        start: u64,
        lengths: &[u64],
        purpose: Purpose,
    ) -> Result<Vec<Bytes>, BucketError> {
        let Some(directories) = &self.directories else {
            let end = start + lengths.iter().sum::<u64>();
            return self.get(key, start..end, purpose).await.map(|it| cut(it, lengths));
        };
        let read = || files::get(key, start, lengths, directories);
        let pieces = self.retried(key, purpose, Operation::Get, read).await?;
        self.metrics.read(purpose, lengths.iter().sum());
        Ok(pieces)
    }

    async fn get_suffix(
        &self,
        key: &Key,
        length: u64,
        purpose: Purpose,
    ) -> Result<Suffix, BucketError> {
        self.retried(key, purpose, Operation::Get, || self.try_get_suffix(key, length, purpose))
            .await
            .inspect(|suffix| self.metrics.read(purpose, suffix.bytes.len() as u64))
    }

    async fn list(
        &self,
        prefix: &Key,
        after: Option<&Key>,
        count_max: usize,
    ) -> Result<Vec<ObjectInfo>, BucketError> {
        self.retried(prefix, Purpose::Collection, Operation::List, || {
            self.try_list(prefix, after, count_max)
        })
        .await
    }

    async fn delete(&self, key: &Key, purpose: Purpose) -> Result<(), BucketError> {
        let deleted = self
            .retried(key, purpose, Operation::Delete, || async {
                let gone = futures::stream::iter([Ok(path(key))]).boxed();
                match self.store.delete_stream(gone).next().await {
                    None | Some(Ok(_)) => Ok(()),
                    Some(Err(error)) => Err(classify(key, error)),
                }
            })
            .await;
        match deleted {
            Err(BucketError::NotFound { .. }) => Ok(()),
            answer => answer,
        }
    }

    async fn put_new_large(
        &self,
        key: &Key,
        body: BoxStream<'_, Result<Bytes, BucketError>>,
        length: u64,
        purpose: Purpose,
    ) -> Result<PutOutcome, BucketError> {
        self.put_in_parts(key, body, length, purpose).await
    }
}

fn path(key: &Key) -> StorePath {
    StorePath::from(key.as_str())
}

fn disk(key: &Key, error: &std::io::Error) -> BucketError {
    BucketError::Unavailable { key: key.clone(), reason: error.to_string() }
}

#[cfg(test)]
mod tests;
