//! Another process has this broker's place: the broker stops for good, and says so.

use super::world::{World, acked, append, batch, partition};
use crate::LogEngine;
use crate::log::{Aftermath, AppendError};
use crate::run_index::{
    Adoption, GarbageSegment, KeptProducers, MemoryRunIndex, Replacement, RunCommit,
    RunDescription, RunIndex, RunIndexError, RunRefusal,
};
use crate::segment::segment_key;
use crate::volume::MemoryFaults;
use crate::wal::ledger::{MemoryWalLedger, WalId, WalKind};
use crate::wal::{BucketWal, BucketWalOptions};
use async_trait::async_trait;
use bucket::{Bucket, LyingBucket, Purpose};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use vocabulary::{BrokerEpoch, BrokerId, Offset, Partition, SegmentName};

/// The metadata of a broker that is fenced once told so. It is still read.
#[derive(Debug)]
struct Deposed {
    runs: Arc<MemoryRunIndex>,
    is_fenced: AtomicBool,
}

impl Deposed {
    fn changes(&self) -> Result<&MemoryRunIndex, RunIndexError> {
        match self.is_fenced.load(Ordering::Relaxed) {
            true => Err(RunIndexError::Fenced),
            false => Ok(&self.runs),
        }
    }
}

#[async_trait]
impl RunIndex for Deposed {
    async fn commit(&self, commit: RunCommit) -> Result<Vec<RunRefusal>, RunIndexError> {
        self.changes()?.commit(commit).await
    }

    async fn adopt(&self, adoption: Adoption) -> Result<Vec<RunRefusal>, RunIndexError> {
        self.changes()?.adopt(adoption).await
    }

    async fn replace(&self, replacement: Replacement) -> Result<Vec<RunRefusal>, RunIndexError> {
        self.changes()?.replace(replacement).await
    }

    async fn kept_producers(
        &self,
        partition: Partition,
    ) -> Result<Option<KeptProducers>, RunIndexError> {
        self.runs.kept_producers(partition).await
    }

    async fn runs_from(
        &self,
        partition: Partition,
        offset: Offset,
        count_max: usize,
    ) -> Result<Vec<RunDescription>, RunIndexError> {
        self.runs.runs_from(partition, offset, count_max).await
    }

    async fn last_run(
        &self,
        partition: Partition,
    ) -> Result<Option<RunDescription>, RunIndexError> {
        self.runs.last_run(partition).await
    }

    async fn log_start(&self, partition: Partition) -> Result<Option<Offset>, RunIndexError> {
        self.runs.log_start(partition).await
    }

    async fn advance_log_start(
        &self,
        partition: Partition,
        log_start: Offset,
        producers: Option<KeptProducers>,
    ) -> Result<(), RunIndexError> {
        self.changes()?.advance_log_start(partition, log_start, producers).await
    }

    async fn garbage(&self, count_max: usize) -> Result<Vec<GarbageSegment>, RunIndexError> {
        self.runs.garbage(count_max).await
    }

    async fn forget(&self, segments: &[SegmentName]) -> Result<(), RunIndexError> {
        self.changes()?.forget(segments).await
    }

    async fn known(&self, segments: &[SegmentName]) -> Result<Vec<bool>, RunIndexError> {
        self.runs.known(segments).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_fenced_broker_stops_and_says_so_instead_of_trying_for_ever() {
    let world = World::new(1);
    let runs = Arc::clone(&world.runs);
    let deposed = Arc::new(Deposed { runs, is_fenced: AtomicBool::new(false) });
    let life = world.start_with(Arc::<Deposed>::clone(&deposed)).await;
    let log = world.host(&life, partition(0));
    acked(&log, batch(1, 2, 100)).await;
    life.engine.flush_all().await;
    acked(&log, batch(2, 2, 100)).await;
    assert_eq!(life.engine.health().fenced, None);

    deposed.is_fenced.store(true, Ordering::Relaxed);
    life.engine.flush_all().await;
    life.engine.fenced().stopped().await;
    let health = life.engine.health();
    assert!(health.fenced.is_some());
    assert!(health.problem().is_some_and(|it| it.starts_with("fenced: ")), "{health:?}");
    assert_eq!(health.flush_failing, None, "it is not a failure that is tried again");
    let refused = log.append(batch(3, 1, 100), None).await;
    assert_eq!(refused.expect_err("A4").aftermath(), Aftermath::NotWritten);
    let late = world.host(&life, partition(1));
    assert!(late.append(batch(3, 1, 100), None).await.is_err(), "A4: hosted too late");
    // Nothing is tried any more; what was acknowledged is in the WAL.
    let failures = life.engine.metrics().flush_failures.get();
    world.sleep(Duration::from_secs(3600)).await;
    assert_eq!(life.engine.metrics().flush_failures.get(), failures);
    life.engine.shutdown().await;
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    assert_eq!(log.offsets().high_watermark, Offset(4), "A1");
    append(&log, batch(4, 1, 100)).await.durable.await.expect("the next life takes appends");
}

#[tokio::test(start_paused = true)]
async fn waiting_producers_are_told() {
    let world = World::new(2);
    let runs = Arc::clone(&world.runs);
    let deposed = Arc::new(Deposed { runs, is_fenced: AtomicBool::new(false) });
    let life = world.start_with(Arc::<Deposed>::clone(&deposed)).await;
    let log = world.host(&life, partition(0));
    acked(&log, batch(1, 1, 100)).await;
    deposed.is_fenced.store(true, Ordering::Relaxed);
    let never = MemoryFaults { sync_fails_per_mille: 1000, ..MemoryFaults::default() };
    world.volume.set_faults(never);
    let waiting = append(&log, batch(2, 1, 100)).await;
    life.engine.flush_all().await;
    assert_eq!(waiting.durable.await, Err(AppendError::Unknown));
}

#[tokio::test(start_paused = true)]
async fn a_log_that_was_ended_by_another_fences_the_broker() {
    let world = World::new(3);
    let environment = world.environment.child("life");
    let id = WalId { broker: BrokerId(1), epoch: BrokerEpoch(1) };
    let ledger = Arc::new(MemoryWalLedger::new());
    ledger.register(id, WalKind::Bucket, &[]);
    let bucket: Arc<dyn Bucket> = Arc::<LyingBucket>::clone(&world.bucket);
    let options = BucketWalOptions::default();
    let wal = BucketWal::new(id, options, Arc::clone(&bucket), ledger, &environment);
    let runs: Arc<dyn RunIndex> = Arc::<MemoryRunIndex>::clone(&world.runs);
    let (options, wal) = (world.options.clone(), Arc::new(wal));
    let engine = LogEngine::open(options, wal, Arc::clone(&bucket), runs, environment).await;
    let engine = engine.expect("it opens");
    assert_eq!(engine.health().fenced, None);
    // Whoever it is, it has the place of our first segment.
    let (broker, epoch) = (id.broker, id.epoch);
    let key = segment_key(SegmentName::Wal { broker, epoch, sequence: 0 });
    let put = bucket.put_new(&key, vec![Bytes::from_static(b"mine")], Purpose::Wal).await;
    put.expect("stored");
    let log = world.host_in(&engine, partition(0));
    let late = append(&log, batch(1, 1, 100)).await;
    late.durable.await.expect_err("A4");
    engine.fenced().stopped().await;
    assert!(engine.health().fenced.is_some());
}
