//! A write-ahead log in the bucket: one object per group commit, created if absent, never changed.
//!
//! Owns: keys, retrying, hedging, telling "already mine" from "fenced", trimming.
//! Does not own: grouping and order (`committer`), what ends a log (`fence`), who needs it
//! (`ledger`), comparing bytes when a key exists (the bucket: equal bytes are success, and the stamp
//! in a segment's header makes a process's bytes its own).
//!
//! Invariants:
//! - B1 a sequence is written with one key and one string of bytes, however often it is sent, so an
//!   unknown outcome is repeated and never guessed (A1);
//! - B2 whoever finds other bytes under its key has lost the log for ever: nothing at or above that
//!   sequence is acknowledged, whatever becomes of the object that was there (A4);
//! - B3 an object is deleted only once the ledger has recorded that it is not needed and a write that
//!   began after that, with all before it, has succeeded: so the record is older than any fence, and
//!   whoever ends the log, looking it up behind the fence, never refers to what is deleted (A6). The
//!   ledger's refusal of stale trims alone is enough for that: a trim it takes is older than the
//!   registration that lost the writer its epoch, and whoever ends the log registered before it looked
//!   the trim up. The proof needs no ledger: it is a second line, for the price of the last trimmed
//!   objects of an idle log;
//! - B4 trouble of the store is waited out: it makes writes late, never lost (A9).
//!
//! Waits. One request is abandoned after [`BucketWalOptions::attempt_max`], whatever the bucket's own
//! retries would still do; the next one follows after a jittered backoff. So a stuck connection costs
//! that long at most, and health says so from [`BucketWalOptions::slow_after`] on.

use super::fence::{self, FENCE_LENGTH};
use super::ledger::{WalId, WalLedger};
use super::{RecoveredSegment, WalBackend, WalError, WalHealth};
use crate::segment::{EncodedSegment, segment_key};
use async_trait::async_trait;
use bucket::{Bucket, BucketError, Key, Purpose, PutOutcome};
use bytes::Bytes;
use environment::{Clock, Entropy, Environment};
use futures::StreamExt;
use hedge::{HedgeLimits, Hedging};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use vocabulary::{ByteCount, SegmentName, Tick};
use window::Window;

mod hedge;
mod window;

/// Objects deleted by one trim. What is left is deleted by the next.
const TRIM_DELETES_MAX: usize = 1024;

/// Deletions at once.
const TRIM_DELETES_IN_FLIGHT: usize = 8;

/// Tries to read the fence that ended this log, for the error message.
const FENCE_READS_MAX: u32 = 3;

/// How a log lies in the bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketWalOptions {
    /// PUTs at once. Larger: hides a slow store at high rates, more memory.
    pub in_flight_max: usize,
    /// Under load, at most one PUT in this time unless a group is full. Larger: fewer PUTs, later
    /// acknowledgements. 100 ms is 10 PUT/s, 26 M a month, about $130 at $0.005 per thousand.
    pub linger: Duration,
    /// PUTs that need not linger: one is saved up in each linger without a PUT, up to so many. Larger:
    /// longer bursts of producers who write now and then are acknowledged after one PUT.
    pub starts_saved_max: u32,
    /// A group of this size does not linger, unless such groups are usual. Larger: fewer PUTs.
    pub full_bytes: ByteCount,
    /// The first wait after a failed PUT; it doubles with each further failure, half of it chance.
    pub retry_min: Duration,
    pub retry_max: Duration,
    /// One request is abandoned after this. Smaller: outlives a stuck connection sooner, but gives
    /// up on a store that is merely slow.
    pub attempt_max: Duration,
    /// A PUT without an answer after the usual time is sent again, after at least and at most this.
    pub hedge_delay_min: Duration,
    pub hedge_delay_max: Duration,
    /// At most so many second PUTs in a thousand. Larger: fewer late acknowledgements, more requests.
    pub hedges_per_mille: u64,
    /// A write that takes longer counts as failing.
    pub slow_after: Duration,
    /// How long reading back waits for the store.
    pub read_max: Duration,
    /// Blocks of this log kept in memory for readers of what left the tail cache.
    pub read_cache_bytes: ByteCount,
}

impl Default for BucketWalOptions {
    fn default() -> BucketWalOptions {
        BucketWalOptions {
            in_flight_max: 16,
            linger: Duration::from_millis(100),
            starts_saved_max: 8,
            full_bytes: ByteCount::mib(8),
            retry_min: Duration::from_millis(100),
            retry_max: Duration::from_secs(5),
            attempt_max: Duration::from_secs(20),
            hedge_delay_min: Duration::from_millis(50),
            hedge_delay_max: Duration::from_secs(2),
            hedges_per_mille: 100,
            slow_after: Duration::from_secs(5),
            read_max: Duration::from_secs(10),
            read_cache_bytes: ByteCount::mib(16),
        }
    }
}

/// What the log in the bucket counts. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct BucketWalMetrics {
    /// PUTs that failed and were repeated.
    pub retries: Counter,
    /// Slow PUTs that were sent a second time.
    pub hedges: Counter,
    /// Bytes of these: sent twice, kept once.
    pub hedge_bytes: Counter,
    /// Second PUTs that were answered first.
    pub hedges_won: Counter,
    /// Objects deleted because nobody needed them any more.
    pub trimmed: Counter,
}

/// The `bucket:` backend: the log of one broker epoch.
pub struct BucketWal {
    id: WalId,
    options: BucketWalOptions,
    bucket: Arc<dyn Bucket>,
    ledger: Arc<dyn WalLedger>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    window: Window,
    metrics: BucketWalMetrics,
    /// Leaf lock: field updates only, never across an await.
    state: Mutex<State>,
    /// Held for a whole trim: what is recorded comes before what is deleted (B3).
    trimming: tokio::sync::Mutex<Trimmed>,
}

#[derive(Debug)]
struct State {
    hedging: Hedging,
    /// By sequence, when its write began.
    writing: BTreeMap<u64, Tick>,
    /// The writes whose last request failed, and why the latest did.
    failing: BTreeMap<u64, Tick>,
    reason: String,
    /// Of what is written and not yet deleted, by sequence: how many bytes it has.
    lengths: BTreeMap<u64, u64>,
    /// Every sequence below is durable.
    durable: u64,
    /// What is durable behind a write that is still under way.
    durable_early: BTreeSet<u64>,
    /// No write from this sequence on has begun.
    begun: u64,
    /// From this sequence on the log is not ours, and why.
    fenced: Option<(u64, WalError)>,
}

#[derive(Debug, Default)]
struct Trimmed {
    /// The ledger knows that nothing below is needed.
    recorded: u64,
    /// What may be deleted once it is proven, and the sequence whose durability proves it (B3).
    to_prove: Option<(u64, u64)>,
    /// Everything below may be deleted.
    spent: u64,
    /// Nothing below is left.
    deleted: u64,
}

impl State {
    fn begin(&mut self, sequence: u64, length: u64, now: Tick) {
        self.writing.insert(sequence, now);
        self.lengths.insert(sequence, length);
        self.begun = self.begun.max(sequence + 1);
    }

    fn succeed(&mut self, sequence: u64) {
        self.durable_early.insert(sequence);
        while self.durable_early.remove(&self.durable) {
            self.durable += 1;
        }
    }
}

impl BucketWal {
    /// The log of a broker epoch that was just registered: no such log was ever written to, and the
    /// ledger knows it. Touches nothing yet.
    pub fn new(
        id: WalId,
        options: BucketWalOptions,
        bucket: Arc<dyn Bucket>,
        ledger: Arc<dyn WalLedger>,
        environment: &Environment,
    ) -> BucketWal {
        let limits = HedgeLimits {
            delay_min: options.hedge_delay_min,
            delay_max: options.hedge_delay_max,
            share_per_mille: options.hedges_per_mille,
        };
        let state = State {
            hedging: Hedging::new(limits),
            writing: BTreeMap::new(),
            failing: BTreeMap::new(),
            reason: String::new(),
            lengths: BTreeMap::new(),
            durable: 0,
            durable_early: BTreeSet::new(),
            begun: 0,
            fenced: None,
        };
        BucketWal {
            id,
            window: Window::new(Arc::clone(&bucket), options.read_cache_bytes.0),
            options,
            bucket,
            ledger,
            clock: Arc::clone(&environment.clock),
            entropy: Arc::clone(&environment.entropy),
            metrics: BucketWalMetrics::default(),
            state: Mutex::new(state),
            trimming: tokio::sync::Mutex::default(),
        }
    }

    pub fn metrics(&self) -> &BucketWalMetrics {
        &self.metrics
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn name(&self, sequence: u64) -> SegmentName {
        SegmentName::Wal { broker: self.id.broker, epoch: self.id.epoch, sequence }
    }

    /// One request, and a second one to the same key with the same bytes if the first is slow.
    async fn put_hedged(&self, key: &Key, chunks: &[Bytes]) -> Result<PutOutcome, BucketError> {
        let started = self.clock.now();
        let slow_after = self.state().hedging.begin();
        let mut first = std::pin::pin!(self.put(key, chunks));
        let early = tokio::select! {
            biased;
            answer = &mut first => Some(answer),
            () = self.clock.sleep(slow_after) => None,
        };
        let answer = match early {
            Some(answer) => answer,
            None if self.state().hedging.take() => {
                self.metrics.hedges.inc();
                self.metrics.hedge_bytes.inc_by(chunks.iter().map(|it| it.len() as u64).sum());
                let mut second = std::pin::pin!(self.put(key, chunks));
                tokio::select! {
                    biased;
                    answer = &mut first => match answer {
                        Ok(outcome) => Ok(outcome),
                        Err(_) => second.await, // Its own failure is what is reported.
                    },
                    answer = &mut second => match answer {
                        Ok(outcome) => {
                            self.metrics.hedges_won.inc();
                            Ok(outcome)
                        }
                        Err(_) => first.await,
                    },
                }
            }
            None => first.await,
        };
        if answer.is_ok() {
            let latency = self.clock.now().since(started);
            self.state().hedging.observe(latency);
        }
        answer
    }

    async fn put(&self, key: &Key, chunks: &[Bytes]) -> Result<PutOutcome, BucketError> {
        let put = self.bucket.put_new(key, chunks.to_vec(), Purpose::Wal);
        self.within(key, self.options.attempt_max, put).await
    }

    /// Dropping the request abandons it; what it may still do is what its repetition does, too (B1).
    async fn within<T>(
        &self,
        key: &Key,
        most: Duration,
        request: impl Future<Output = Result<T, BucketError>>,
    ) -> Result<T, BucketError> {
        tokio::select! {
            biased;
            answer = request => answer,
            () = self.clock.sleep(most) => {
                let waited_ms = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
                Err(BucketError::Timeout { key: key.clone(), waited_ms })
            }
        }
    }

    fn failed(&self, sequence: u64, error: &BucketError) {
        self.metrics.retries.inc();
        let now = self.clock.now();
        let mut state = self.state();
        if state.failing.is_empty() {
            tracing::error!(sequence, %error, "the bucket does not take WAL segments; retrying");
        }
        state.failing.entry(sequence).or_insert(now);
        state.reason = error.to_string();
    }

    /// A write is over, or given up by whoever waited for it.
    fn over(&self, sequence: u64) {
        let mut state = self.state();
        state.writing.remove(&sequence);
        if let Some(since) = state.failing.remove(&sequence)
            && state.failing.is_empty()
        {
            let outage = self.clock.now().since(since);
            tracing::info!(?outage, "no WAL write is failing any more");
        }
    }

    /// Who took the log, said once; B2 whatever can be read.
    async fn lost(&self, sequence: u64, key: &Key) -> WalError {
        let mut found = None;
        for _ in 0..FENCE_READS_MAX {
            let read = self.bucket.get_suffix(key, FENCE_LENGTH as u64, Purpose::Wal);
            match self.within(key, self.options.read_max, read).await {
                Ok(suffix) => {
                    found = fence::parse(&suffix, self.id, sequence).ok();
                    break;
                }
                Err(error) if error.is_transient() => {
                    self.clock.sleep(self.options.retry_min).await
                }
                Err(_) => break,
            }
        }
        let who = match found {
            Some(fence) => fence.to_string(),
            None => format!("another writer has {key}"),
        };
        let reason = format!(
            "{who}; what was acknowledged is safe and is served by whoever took over; restart this \
             broker, which registers it anew, to let it take part again"
        );
        let error = WalError::Fenced { reason };
        let mut state = self.state();
        if state.fenced.as_ref().is_none_or(|it| sequence < it.0) {
            state.fenced = Some((sequence, error.clone()));
        }
        error
    }

    fn fenced_below(&self, sequence: u64) -> Option<WalError> {
        let state = self.state();
        state.fenced.as_ref().filter(|it| it.0 <= sequence).map(|it| it.1.clone())
    }

    /// Half fixed, half chance.
    fn jittered(&self, wait: Duration) -> Duration {
        let micros = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(micros / 2 + self.entropy.below(micros / 2 + 1))
    }

    /// B3: what was recorded before the sequence to prove it began may go once that is durable.
    fn prove(&self, trimmed: &mut Trimmed) {
        let state = self.state();
        if let Some((before, proof)) = trimmed.to_prove
            && state.fenced.is_none()
            && proof < state.durable
        {
            trimmed.spent = before;
            trimmed.to_prove =
                (before < trimmed.recorded).then_some((trimmed.recorded, state.begun));
        }
    }

    /// Deletes in order what is spent; stops at the first that does not go.
    async fn delete_spent(&self, trimmed: &mut Trimmed) -> Result<(), WalError> {
        let spent = (trimmed.deleted..trimmed.spent).take(TRIM_DELETES_MAX);
        let delete = |sequence| async move {
            let key = segment_key(self.name(sequence));
            (sequence, self.bucket.delete(&key, Purpose::Wal).await)
        };
        let mut deletions = std::pin::pin!(
            futures::stream::iter(spent).map(delete).buffered(TRIM_DELETES_IN_FLIGHT)
        );
        while let Some((sequence, deleted)) = deletions.next().await {
            deleted?;
            trimmed.deleted = sequence + 1;
            self.state().lengths.remove(&sequence);
            self.metrics.trimmed.inc();
        }
        Ok(())
    }
}

/// Takes a write off the books however it ends, dropped by the committer, too.
struct Writing<'a> {
    wal: &'a BucketWal,
    sequence: u64,
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.wal.over(self.sequence);
    }
}

#[async_trait]
impl WalBackend for BucketWal {
    /// Nothing: a broker epoch's log is new. What earlier ones left is adopted (`adoption`).
    async fn recover(&self) -> Result<Vec<RecoveredSegment>, WalError> {
        Ok(Vec::new())
    }

    async fn write(&self, sequence: u64, segment: EncodedSegment) -> Result<(), WalError> {
        let EncodedSegment { chunks, length, .. } = segment;
        let key = segment_key(self.name(sequence));
        self.state().begin(sequence, length, self.clock.now());
        let _writing = Writing { wal: self, sequence };
        let mut wait = self.options.retry_min;
        loop {
            if let Some(fenced) = self.fenced_below(sequence) {
                return Err(fenced);
            }
            match self.put_hedged(&key, &chunks).await {
                Ok(PutOutcome::Created) => {
                    self.state().succeed(sequence);
                    return Ok(());
                }
                Ok(PutOutcome::AlreadyExists) => return Err(self.lost(sequence, &key).await),
                Err(error) => self.failed(sequence, &error),
            }
            // A stop does not end this: the committer gives up what outlasts its drain.
            self.clock.sleep(self.jittered(wait)).await;
            wait = (wait * 2).min(self.options.retry_max);
        }
    }

    async fn read(&self, sequence: u64, range: Range<u64>) -> Result<Bytes, WalError> {
        let missing = WalError::NoSuchBytes { sequence };
        let length = self.state().lengths.get(&sequence).copied().ok_or(missing.clone())?;
        if range.end < range.start || length < range.end {
            return Err(missing);
        }
        let name = self.name(sequence);
        let read = self.window.read(name, range, length);
        match self.within(&segment_key(name), self.options.read_max, read).await {
            Ok(bytes) => Ok(bytes),
            Err(BucketError::NotFound { .. } | BucketError::OutOfRange { .. }) => Err(missing),
            Err(error) => Err(error.into()),
        }
    }

    async fn trim(&self, before: u64) -> Result<(), WalError> {
        let mut trimmed = self.trimming.lock().await;
        self.prove(&mut trimmed);
        if trimmed.recorded < before {
            self.ledger.trimmed(self.id, before).await?;
            trimmed.recorded = before;
            if trimmed.to_prove.is_none() {
                trimmed.to_prove = Some((before, self.state().begun));
            }
        }
        self.delete_spent(&mut trimmed).await
    }

    fn in_flight_max(&self) -> usize {
        self.options.in_flight_max
    }

    fn linger(&self) -> Duration {
        self.options.linger
    }

    fn starts_saved_max(&self) -> u32 {
        self.options.starts_saved_max
    }

    fn full_bytes(&self) -> Option<ByteCount> {
        Some(self.options.full_bytes)
    }

    fn health(&self) -> WalHealth {
        let state = self.state();
        if let Some(since) = state.failing.values().min() {
            return WalHealth::Failing { since: *since, reason: state.reason.clone() };
        }
        let now = self.clock.now();
        match state.writing.values().min() {
            Some(since) if self.options.slow_after <= now.since(*since) => {
                let waited = now.since(*since);
                let reason = format!("the bucket has not answered a WAL write for {waited:?}");
                WalHealth::Failing { since: *since, reason }
            }
            _ => WalHealth::Healthy,
        }
    }

    fn register_metrics(&self, registry: &mut Registry) {
        let metrics = self.metrics.clone();
        let BucketWalMetrics { retries, hedges, hedge_bytes, hedges_won, trimmed } = metrics;
        registry.register("wal_put_retries", "WAL PUTs that failed and were repeated", retries);
        registry.register("wal_put_hedges", "Slow WAL PUTs sent a second time", hedges);
        let help = "Bytes of WAL PUTs sent a second time";
        registry.register("wal_put_hedge_bytes", help, hedge_bytes);
        let (name, help) = ("wal_put_hedges_won", "Second WAL PUTs that were answered first");
        registry.register(name, help, hedges_won);
        registry.register("wal_objects_trimmed", "WAL objects deleted by trims", trimmed);
    }
}

impl fmt::Debug for BucketWal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BucketWal").field("id", &self.id).finish_non_exhaustive()
    }
}
