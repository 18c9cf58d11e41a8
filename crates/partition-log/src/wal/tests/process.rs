//! A broker's process in a simulation: what it can reach, and what it cannot while it is frozen.
//!
//! A stalled process sees no answers and no timers; its requests that are under way go on. A dead one
//! never sees anything again. Either may have requests land long after it was given up.

use crate::run_index::{
    Adoption, GarbageSegment, KeptProducers, MemoryRunIndex, Replacement, RunCommit,
    RunDescription, RunIndex, RunIndexError, RunRefusal,
};
use crate::wal::ledger::{MemoryWalLedger, WalId, WalLedger, WalRecord};
use async_trait::async_trait;
use bucket::{Bucket, BucketError, Key, LyingBucket, ObjectInfo, Purpose, PutOutcome, Suffix};
use bytes::Bytes;
use environment::{Clock, Entropy, Environment, SeededEntropy, TaskGroup};
use futures::future::BoxFuture;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::watch;
use vocabulary::{BrokerEpoch, BrokerId, Offset, Partition, SegmentName, Tick, Timestamp};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pulse {
    Running,
    Stalled,
    Dead,
}

/// Who may change metadata: the broker that registered last, if the metadata is strict.
#[derive(Debug, Default)]
pub(super) struct Authority {
    latest: AtomicU64,
    is_strict: AtomicBool,
}

impl Authority {
    pub(super) fn register(&self, life: u64) {
        self.latest.fetch_max(life, Ordering::SeqCst);
    }

    pub(super) fn set_strict(&self, is_strict: bool) {
        self.is_strict.store(is_strict, Ordering::SeqCst);
    }

    pub(super) fn is_latest(&self, life: u64) -> bool {
        self.latest.load(Ordering::SeqCst) == life
    }

    fn admit(&self, life: u64) -> Result<(), RunIndexError> {
        match self.is_latest(life) || !self.is_strict.load(Ordering::SeqCst) {
            true => Ok(()),
            false => Err(RunIndexError::Fenced),
        }
    }
}

/// WAL objects that were deleted, by key.
pub(super) type Ghosts = Arc<GhostStore>;

#[derive(Debug, Default)]
pub(super) struct GhostStore {
    put: Mutex<BTreeMap<Key, Vec<Bytes>>>,
    deleted: Mutex<BTreeMap<Key, Vec<Bytes>>>,
}

impl GhostStore {
    /// A late duplicate of a PUT arrives, of each deleted object by a chance of a half.
    pub(super) async fn raise(&self, bucket: &dyn Bucket, entropy: &dyn Entropy) {
        let deleted = self.deleted.lock().expect("no panic while it is held").clone();
        for (key, body) in deleted {
            if entropy.below(2) == 0 {
                let _ = bucket.put_new(&key, body, Purpose::Wal).await; // Whatever becomes of it.
            }
        }
    }
}

/// Clones are the same process.
#[derive(Clone)]
pub(super) struct Process {
    life: u64,
    pulse: Arc<watch::Sender<Pulse>>,
    environment: Environment,
    bucket: Arc<dyn Bucket>,
    runs: Arc<dyn RunIndex>,
    ledger: Arc<dyn WalLedger>,
}

impl Process {
    pub(super) fn start(
        life: u64,
        environment: &Environment,
        bucket: Arc<LyingBucket>,
        runs: Arc<MemoryRunIndex>,
        ledger: Arc<MemoryWalLedger>,
        authority: Arc<Authority>,
        ghosts: Ghosts,
    ) -> Process {
        let pulse = Arc::new(watch::Sender::new(Pulse::Running));
        let gate = Gate(Arc::clone(&pulse));
        let clock = FrozenClock { clock: Arc::clone(&environment.clock), gate: gate.clone() };
        let seed = environment.entropy.next_u64();
        Process {
            life,
            pulse,
            environment: Environment {
                clock: Arc::new(clock),
                entropy: Arc::new(SeededEntropy::new(seed)),
                tasks: TaskGroup::new("process"),
            },
            bucket: Arc::new(FrozenBucket { bucket, gate: gate.clone(), ghosts }),
            runs: Arc::new(Metadata {
                life,
                gate: gate.clone(),
                runs: Arc::clone(&runs),
                ledger: Arc::clone(&ledger),
                authority: Arc::clone(&authority),
            }),
            ledger: Arc::new(Metadata { life, gate, runs, ledger, authority }),
        }
    }

    pub(super) fn set(&self, pulse: Pulse) {
        self.pulse.send_replace(pulse);
    }

    pub(super) fn life(&self) -> u64 {
        self.life
    }

    /// Two brokers take turns.
    pub(super) fn id(&self) -> WalId {
        WalId { broker: BrokerId(1 + (self.life % 2) as i32), epoch: BrokerEpoch(self.life) }
    }

    pub(super) fn environment(&self) -> Environment {
        self.environment.clone()
    }

    pub(super) fn bucket(&self) -> Arc<dyn Bucket> {
        Arc::clone(&self.bucket)
    }

    pub(super) fn runs(&self) -> Arc<dyn RunIndex> {
        Arc::clone(&self.runs)
    }

    pub(super) fn ledger(&self) -> Arc<dyn WalLedger> {
        Arc::clone(&self.ledger)
    }
}

#[derive(Debug, Clone)]
struct Gate(Arc<watch::Sender<Pulse>>);

impl Gate {
    async fn pass(&self) {
        let mut pulse = self.0.subscribe();
        if pulse.wait_for(|it| *it == Pulse::Running).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[derive(Debug)]
struct FrozenClock {
    clock: Arc<dyn Clock>,
    gate: Gate,
}

impl Clock for FrozenClock {
    fn now(&self) -> Tick {
        self.clock.now()
    }

    fn wall(&self) -> Timestamp {
        self.clock.wall()
    }

    fn sleep_until(&self, at: Tick) -> BoxFuture<'static, ()> {
        let (sleep, gate) = (self.clock.sleep_until(at), self.gate.clone());
        Box::pin(async move {
            sleep.await;
            gate.pass().await;
        })
    }
}

#[derive(Debug)]
struct FrozenBucket {
    bucket: Arc<LyingBucket>,
    gate: Gate,
    ghosts: Ghosts,
}

#[async_trait]
impl Bucket for FrozenBucket {
    async fn put_new(
        &self,
        key: &Key,
        body: Vec<Bytes>,
        purpose: Purpose,
    ) -> Result<PutOutcome, BucketError> {
        self.gate.pass().await;
        if purpose == Purpose::Wal {
            let mut put = self.ghosts.put.lock().expect("no panic while it is held");
            put.entry(key.clone()).or_insert_with(|| body.clone());
        }
        let answer = self.bucket.put_new(key, body, purpose).await;
        self.gate.pass().await;
        answer
    }

    async fn get(
        &self,
        key: &Key,
        range: Range<u64>,
        purpose: Purpose,
    ) -> Result<Bytes, BucketError> {
        self.gate.pass().await;
        let answer = self.bucket.get(key, range, purpose).await;
        self.gate.pass().await;
        answer
    }

    async fn get_suffix(
        &self,
        key: &Key,
        length: u64,
        purpose: Purpose,
    ) -> Result<Suffix, BucketError> {
        self.gate.pass().await;
        let answer = self.bucket.get_suffix(key, length, purpose).await;
        self.gate.pass().await;
        answer
    }

    async fn list(
        &self,
        prefix: &Key,
        after: Option<&Key>,
        count_max: usize,
    ) -> Result<Vec<ObjectInfo>, BucketError> {
        self.gate.pass().await;
        let answer = self.bucket.list(prefix, after, count_max).await;
        self.gate.pass().await;
        answer
    }

    async fn put_new_large(
        &self,
        key: &Key,
        body: futures::stream::BoxStream<'_, Result<Bytes, BucketError>>,
        length: u64,
        purpose: Purpose,
    ) -> Result<PutOutcome, BucketError> {
        self.bucket.put_new_large(key, body, length, purpose).await
    }

    async fn delete(&self, key: &Key, purpose: Purpose) -> Result<(), BucketError> {
        self.gate.pass().await;
        let answer = self.bucket.delete(key, purpose).await;
        let body = self.ghosts.put.lock().expect("no panic while it is held").get(key).cloned();
        if let Some(body) = body {
            let mut deleted = self.ghosts.deleted.lock().expect("no panic while it is held");
            deleted.insert(key.clone(), body);
        }
        self.gate.pass().await;
        answer
    }
}

/// The metadata as one broker reaches it.
#[derive(Debug)]
struct Metadata {
    life: u64,
    gate: Gate,
    runs: Arc<MemoryRunIndex>,
    ledger: Arc<MemoryWalLedger>,
    authority: Arc<Authority>,
}

impl Metadata {
    async fn admitted(&self) -> Result<(), RunIndexError> {
        self.gate.pass().await;
        self.authority.admit(self.life)
    }
}

#[async_trait]
impl RunIndex for Metadata {
    async fn commit(&self, commit: RunCommit) -> Result<Vec<RunRefusal>, RunIndexError> {
        self.admitted().await?;
        self.runs.commit(commit).await
    }

    async fn adopt(&self, adoption: Adoption) -> Result<Vec<RunRefusal>, RunIndexError> {
        self.admitted().await?;
        self.runs.adopt(adoption).await
    }

    async fn replace(&self, replacement: Replacement) -> Result<Vec<RunRefusal>, RunIndexError> {
        self.admitted().await?;
        self.runs.replace(replacement).await
    }

    async fn kept_producers(
        &self,
        partition: Partition,
    ) -> Result<Option<KeptProducers>, RunIndexError> {
        self.gate.pass().await;
        self.runs.kept_producers(partition).await
    }

    async fn runs_from(
        &self,
        partition: Partition,
        offset: Offset,
        count_max: usize,
    ) -> Result<Vec<RunDescription>, RunIndexError> {
        self.gate.pass().await;
        self.runs.runs_from(partition, offset, count_max).await
    }

    async fn last_run(
        &self,
        partition: Partition,
    ) -> Result<Option<RunDescription>, RunIndexError> {
        self.gate.pass().await;
        self.runs.last_run(partition).await
    }

    async fn log_start(&self, partition: Partition) -> Result<Option<Offset>, RunIndexError> {
        self.gate.pass().await;
        self.runs.log_start(partition).await
    }

    async fn advance_log_start(
        &self,
        partition: Partition,
        log_start: Offset,
        producers: Option<KeptProducers>,
    ) -> Result<(), RunIndexError> {
        self.admitted().await?;
        self.runs.advance_log_start(partition, log_start, producers).await
    }

    async fn garbage(&self, count_max: usize) -> Result<Vec<GarbageSegment>, RunIndexError> {
        self.runs.garbage(count_max).await
    }

    async fn forget(&self, segments: &[SegmentName]) -> Result<(), RunIndexError> {
        self.admitted().await?;
        self.runs.forget(segments).await
    }

    async fn known(&self, segments: &[SegmentName]) -> Result<Vec<bool>, RunIndexError> {
        self.runs.known(segments).await
    }
}

#[async_trait]
impl WalLedger for Metadata {
    async fn logs(&self) -> Result<Vec<WalRecord>, RunIndexError> {
        self.gate.pass().await;
        self.ledger.logs().await
    }

    async fn trimmed(&self, id: WalId, before: u64) -> Result<(), RunIndexError> {
        self.admitted().await?;
        self.ledger.trimmed(id, before).await
    }

    async fn closed(&self, id: WalId, fence: u64) -> Result<(), RunIndexError> {
        self.admitted().await?;
        self.ledger.closed(id, fence).await
    }
}
