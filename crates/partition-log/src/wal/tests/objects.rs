//! The log in the bucket under a store that the test controls: retries, hedges, fences, trims.

use super::*;
use crate::run_index::{MemoryRunIndex, RunIndexError};
use crate::segment::segment_key;
use crate::wal::ledger::{MemoryWalLedger, WalId, WalKind, WalLedger, WalRecord};
use async_trait::async_trait;
use bucket::{
    Bucket, BucketError, Faults, Key, LyingBucket, ObjectInfo, Purpose, PutOutcome, Suffix,
};
use environment::TaskKind;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Semaphore;
use vocabulary::SegmentName;

const ID: WalId = WalId { broker: BrokerId(1), epoch: BrokerEpoch(1) };
const NEXT: WalId = WalId { broker: BrokerId(1), epoch: BrokerEpoch(2) };

/// Counts requests and holds some of them up.
#[derive(Debug)]
pub(super) struct Controlled {
    bucket: LyingBucket,
    puts: AtomicU64,
    gets: AtomicU64,
    /// PUTs by their number wait for a permit here before they start.
    held: Mutex<BTreeMap<u64, Arc<Semaphore>>>,
}

impl Controlled {
    pub(super) fn new(environment: &Environment) -> Arc<Controlled> {
        Arc::new(Controlled {
            bucket: LyingBucket::new(1, Faults::NONE, environment),
            puts: AtomicU64::new(0),
            gets: AtomicU64::new(0),
            held: Mutex::default(),
        })
    }

    /// The `nth` PUT from the start waits for what is returned.
    fn hold(&self, nth: u64) -> Arc<Semaphore> {
        let gate = Arc::new(Semaphore::new(0));
        self.held.lock().expect("no panics").insert(nth, Arc::clone(&gate));
        gate
    }

    fn puts(&self) -> u64 {
        self.puts.load(Ordering::SeqCst)
    }

    pub(super) fn gets(&self) -> u64 {
        self.gets.load(Ordering::SeqCst)
    }

    pub(super) async fn sequences(&self, id: WalId) -> Vec<String> {
        let prefix = crate::segment::wal_prefix(id.broker, id.epoch);
        let found = self.bucket.list(&prefix, None, 1000).await.expect("lists");
        let last = |it: ObjectInfo| it.key.as_str().rsplit('/').next().map(str::to_owned);
        let names = found.into_iter().filter_map(last);
        names.map(|it| it.trim_start_matches('0').to_owned()).collect()
    }
}

#[async_trait]
impl Bucket for Controlled {
    async fn put_new(
        &self,
        key: &Key,
        body: Vec<Bytes>,
        purpose: Purpose,
    ) -> Result<PutOutcome, BucketError> {
        let number = self.puts.fetch_add(1, Ordering::SeqCst);
        let gate = self.held.lock().expect("no panics").get(&number).cloned();
        if let Some(gate) = gate {
            gate.acquire().await.expect("never closed").forget();
        }
        self.bucket.put_new(key, body, purpose).await
    }

    async fn get(
        &self,
        key: &Key,
        range: Range<u64>,
        purpose: Purpose,
    ) -> Result<Bytes, BucketError> {
        self.gets.fetch_add(1, Ordering::SeqCst);
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
        self.bucket.delete(key, purpose).await
    }
}

struct Broker {
    environment: Environment,
    bucket: Arc<Controlled>,
    ledger: Arc<MemoryWalLedger>,
    backend: Arc<BucketWal>,
    wal: Wal,
    ears: Ears,
    end: Offset,
}

impl Broker {
    async fn start(options: BucketWalOptions) -> Broker {
        let ledger = Arc::new(MemoryWalLedger::new());
        Broker::start_with(options, Arc::<MemoryWalLedger>::clone(&ledger), ledger).await
    }

    /// The writer is told what `told` says; the others what `ledger` says.
    async fn start_with(
        options: BucketWalOptions,
        told: Arc<dyn WalLedger>,
        ledger: Arc<MemoryWalLedger>,
    ) -> Broker {
        let environment = Environment::simulated(1);
        let bucket = Controlled::new(&environment);
        ledger.register(ID, WalKind::Bucket, &[]);
        let backend =
            BucketWal::new(ID, options, Arc::<Controlled>::clone(&bucket), told, &environment);
        let backend = Arc::new(backend);
        let opened = Wal::open(Arc::<BucketWal>::clone(&backend), super::options(), &environment);
        let (wal, recovered) = opened.await.expect("opens");
        assert_eq!(recovered, [], "the log of a new epoch is new");
        let (ears, end) = (Ears::default(), Offset(0));
        Broker { environment, bucket, ledger, backend, wal, ears, end }
    }

    async fn sleep(&self, ms: u64) {
        self.environment.clock.sleep(Duration::from_millis(ms)).await;
    }

    async fn append(&mut self, payload: usize) {
        self.end = append(&self.wal, &self.ears, 0, self.end, payload).await;
    }

    /// One batch, alone in its segment, acknowledged.
    async fn append_alone(&mut self, payload: usize) -> WalPlace {
        let heard = hear(&self.ears).len();
        self.append(payload).await;
        self.sleep(1).await;
        match hear(&self.ears)[heard] {
            Heard::Durable { place, .. } => place,
            Heard::Lost { base, .. } => panic!("{base} was lost"),
        }
    }

    fn heard(&self) -> usize {
        hear(&self.ears).len()
    }

    /// As whoever takes over does.
    async fn ended(&self) -> Adopted {
        let runs = MemoryRunIndex::new(Arc::clone(&self.environment.clock));
        for index in 0..2 {
            runs.create(partition(index));
        }
        self.ledger.register(NEXT, WalKind::Bucket, &[]);
        let (bucket, ledger) = (&*self.bucket, &*self.ledger);
        let adopted = adopt_logs(bucket, &runs, ledger, NEXT, &self.environment).await;
        adopted.expect("takes over")
    }
}

#[tokio::test(start_paused = true)]
async fn a_quiet_append_is_one_put_and_an_idle_log_none() {
    let mut broker = Broker::start(BucketWalOptions::default()).await;
    broker.sleep(3_600_000).await;
    assert_eq!(broker.bucket.puts(), 0);
    for count in 1..5 {
        broker.append_alone(100).await;
        assert_eq!(broker.bucket.puts(), count);
        broker.sleep(500).await;
    }
    assert_eq!(broker.wal.health(), WalHealth::Healthy);
    assert_eq!(broker.bucket.sequences(ID).await, ["", "1", "2", "3"]);
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_waited_out_and_health_says_so() {
    let mut broker = Broker::start(BucketWalOptions::default()).await;
    broker.append_alone(100).await;
    broker.bucket.bucket.set_faults(Faults { failed_per_mille: 1000, ..Faults::NONE });
    let since = broker.environment.clock.now();
    for _ in 0..10 {
        broker.append(100).await;
        broker.sleep(6_000).await;
    }
    let WalHealth::Failing { since: told, reason } = broker.wal.health() else {
        panic!("nothing works for a minute")
    };
    assert!(told.since(since) < Duration::from_secs(1), "since {told:?}");
    assert!(reason.contains("injected"), "{reason}");
    assert_eq!(broker.heard(), 1, "nothing is acknowledged meanwhile");
    broker.bucket.bucket.set_faults(Faults::NONE);
    broker.sleep(6_000).await;
    assert_eq!((broker.heard(), broker.wal.health()), (11, WalHealth::Healthy));
    assert!(0 < broker.backend.metrics().retries.get());
}

#[tokio::test(start_paused = true)]
async fn a_put_without_an_answer_is_repeated_with_the_same_bytes() {
    let mut broker = Broker::start(BucketWalOptions::default()).await;
    broker.bucket.bucket.set_faults(Faults { stored_not_told_per_mille: 500, ..Faults::NONE });
    for _ in 0..50 {
        broker.append(100).await;
        broker.sleep(50).await;
    }
    broker.bucket.bucket.set_faults(Faults::NONE);
    broker.sleep(20_000).await;
    let heard = hear(&broker.ears).clone();
    assert_eq!(heard.len(), 50);
    assert!(heard.iter().all(|it| matches!(it, Heard::Durable { .. })), "our own bytes are ours");
}

#[tokio::test(start_paused = true)]
async fn a_slow_put_is_sent_again_and_the_first_answer_counts() {
    let mut broker = Broker::start(BucketWalOptions::default()).await;
    for _ in 0..20 {
        broker.append_alone(100).await; // Answered at once, so 50 ms are slow.
        broker.sleep(200).await;
    }
    let gate = broker.bucket.hold(20);
    broker.append(100).await;
    broker.sleep(49).await;
    assert_eq!((broker.heard(), broker.bucket.puts()), (20, 21));
    broker.sleep(5).await;
    assert_eq!((broker.heard(), broker.bucket.puts()), (21, 22));
    let metrics = broker.backend.metrics();
    assert_eq!((metrics.hedges.get(), metrics.hedges_won.get(), metrics.retries.get()), (1, 1, 0));
    assert!((100..1000).contains(&metrics.hedge_bytes.get()), "the segment once more");
    let mut registry = prometheus_client::registry::Registry::default();
    broker.backend.register_metrics(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).expect("text");
    assert!(text.contains("wal_put_hedges_total 1\n"), "{text}");
    gate.add_permits(1);
    // With its share used up, a slow PUT is waited for.
    let second = broker.bucket.hold(22);
    let third = broker.bucket.hold(23);
    broker.append(100).await;
    broker.sleep(1_000).await;
    assert_eq!((broker.heard(), broker.bucket.puts()), (21, 24), "the second hedge hangs, too");
    third.add_permits(1);
    broker.sleep(5).await;
    assert_eq!(broker.heard(), 22);
    second.add_permits(1);
    let _fourth = broker.bucket.hold(24);
    broker.append(100).await;
    broker.sleep(1_000).await;
    assert_eq!((broker.heard(), broker.bucket.puts()), (22, 25), "one in ten, and no more");
    broker.sleep(5_000).await;
    let health = broker.wal.health();
    assert!(matches!(health, WalHealth::Failing { .. }), "{health:?}");
    // The request is abandoned in the end, whatever the store makes of it, and sent again.
    broker.sleep(20_000).await;
    assert_eq!((broker.heard(), broker.wal.health()), (23, WalHealth::Healthy));
}

#[tokio::test(start_paused = true)]
async fn a_fenced_writer_learns_who_ended_its_log_and_what_to_do() {
    let mut broker = Broker::start(BucketWalOptions::default()).await;
    broker.append_alone(100).await;
    let adopted = broker.ended().await;
    assert_eq!((adopted.logs, adopted.segments, adopted.runs), (1, 1, 1));
    broker.append(100).await;
    broker.sleep(1).await;
    assert_eq!(hear(&broker.ears)[1..], [Heard::Lost { partition: 0, base: Offset(2) }]);
    let error = broker.wal.reserve(1).await.expect_err("fenced");
    let text = error.to_string();
    let who = "broker 1 in epoch 2 ended the log of broker 1 in epoch 1 before segment 1 at";
    assert!(text.contains(who) && text.contains("restart this broker"), "{text}");
    // What it acknowledged is still there for its readers, and for those who took over.
    let place = WalPlace { sequence: 0, position: 64, length: 10 };
    assert_eq!(broker.wal.read(place).await.expect("reads").len(), 10);
}

#[tokio::test(start_paused = true)]
async fn reads_of_neighbours_are_one_get() {
    let mut broker = Broker::start(BucketWalOptions::default()).await;
    let gate = broker.bucket.hold(0);
    for _ in 0..100 {
        broker.append(1000).await;
    }
    broker.sleep(1).await;
    gate.add_permits(1);
    broker.sleep(1000).await;
    let heard = hear(&broker.ears).clone();
    let places = heard.iter().map(|it| match it {
        Heard::Durable { place, .. } => *place,
        Heard::Lost { base, .. } => panic!("{base} was lost"),
    });
    let places: Vec<_> = places.collect();
    assert_eq!(broker.bucket.puts(), 1);
    for (index, place) in places.iter().enumerate() {
        let base = Offset(2 * index as i64);
        let expected = batch(base, 2, 1000, base.0.unsigned_abs()).1;
        assert_eq!(broker.wal.read(*place).await.expect("reads"), expected);
    }
    assert_eq!(broker.bucket.gets(), 1);
    let beyond = WalPlace { position: places[99].position + 1_000_000, ..places[99] };
    let error = broker.wal.read(beyond).await.expect_err("beyond the end");
    assert!(matches!(error, WalError::NoSuchBytes { sequence: 0 }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn ranges_over_blocks_come_back_whole() {
    let mut broker = Broker::start(BucketWalOptions::default()).await;
    let place = broker.append_alone(3_500_000).await;
    let name = SegmentName::Wal { broker: ID.broker, epoch: ID.epoch, sequence: 0 };
    let all = broker.bucket.get_suffix(&segment_key(name), 10 << 20, Purpose::Wal).await;
    let all = all.expect("reads").bytes;
    for (from, length) in [(0, 10), (1_048_570, 20), (900_000, 1_048_576), (10, 3_300_000)] {
        let part = WalPlace { position: from, length, ..place };
        let expected = all.slice(from as usize..from as usize + length as usize);
        assert_eq!(broker.wal.read(part).await.expect("reads"), expected, "{from} {length}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_trim_is_recorded_first_and_deletes_after_the_next_write() {
    let mut broker = Broker::start(BucketWalOptions::default()).await;
    for _ in 0..5 {
        broker.append_alone(100).await;
    }
    broker.wal.trim(3).await;
    let record = broker.ledger.logs().await.expect("answers")[0];
    assert_eq!((record.trimmed, record.fence), (3, None));
    broker.wal.trim(3).await;
    assert_eq!(broker.bucket.sequences(ID).await.len(), 5, "nothing proves that no fence is there");
    broker.append_alone(100).await;
    broker.wal.trim(3).await;
    assert_eq!(broker.bucket.sequences(ID).await, ["3", "4", "5"]);
    assert_eq!(broker.backend.metrics().trimmed.get(), 3);
    let gone = WalPlace { sequence: 2, position: 64, length: 1 };
    assert!(matches!(broker.wal.read(gone).await, Err(WalError::NoSuchBytes { sequence: 2 })));
    // Neither a metadata service nor a store in trouble makes it forget.
    broker.ledger.refuse_calls(1);
    let error = broker.backend.trim(5).await.expect_err("refused");
    assert!(matches!(error, WalError::Ledger(RunIndexError::Unavailable { .. })), "{error}");
    broker.wal.trim(5).await;
    broker.append_alone(100).await;
    broker.bucket.bucket.set_faults(Faults { failed_per_mille: 1000, ..Faults::NONE });
    broker.backend.trim(5).await.expect_err("the store fails");
    broker.bucket.bucket.set_faults(Faults::NONE);
    broker.wal.trim(5).await;
    assert_eq!(broker.bucket.sequences(ID).await, ["5", "6"]);
}

#[tokio::test(start_paused = true)]
async fn a_fenced_log_deletes_nothing_whatever_the_ledger_says() {
    let mut broker = Broker::start(BucketWalOptions::default()).await;
    for _ in 0..5 {
        broker.append_alone(100).await;
    }
    broker.wal.trim(2).await;
    assert_eq!(broker.ended().await.segments, 3, "what was trimmed before is not looked for");
    broker.wal.trim(5).await;
    broker.append(100).await;
    broker.sleep(1000).await;
    for _ in 0..3 {
        broker.wal.trim(5).await;
    }
    let left = broker.bucket.sequences(ID).await;
    assert_eq!(left, ["", "1", "2", "3", "4", "5"], "five segments and the fence");
}

/// A ledger that lets everybody record everything, which no ledger of ours does.
#[derive(Debug)]
struct Credulous;

#[async_trait]
impl WalLedger for Credulous {
    async fn logs(&self) -> Result<Vec<WalRecord>, RunIndexError> {
        Ok(Vec::new())
    }

    async fn trimmed(&self, _: WalId, _: u64) -> Result<(), RunIndexError> {
        Ok(())
    }

    async fn closed(&self, _: WalId, _: u64) -> Result<(), RunIndexError> {
        Ok(())
    }
}

/// Goal: the proof by a later write stands on its own. Somebody has ended the log and refers to all of
/// it; its writer, which does not know, takes its data for flushed, and no ledger stops it (A6).
#[tokio::test(start_paused = true)]
async fn a_trim_that_nobody_refuses_deletes_nothing_of_an_ended_log() {
    let ledger = Arc::new(MemoryWalLedger::new());
    let options = BucketWalOptions::default();
    let mut broker = Broker::start_with(options, Arc::new(Credulous), ledger).await;
    for _ in 0..5 {
        broker.append_alone(100).await;
    }
    assert_eq!(broker.ended().await.segments, 5);
    for _ in 0..3 {
        broker.backend.trim(5).await.expect("nobody refuses");
    }
    broker.append(100).await;
    broker.sleep(1000).await;
    broker.backend.trim(5).await.expect("nobody refuses");
    let left = broker.bucket.sequences(ID).await;
    assert_eq!(left, ["", "1", "2", "3", "4", "5"], "five segments and the fence");
    assert_eq!(broker.backend.metrics().trimmed.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_the_store_as_long_as_a_drain_may_take() {
    let mut broker = Broker::start(BucketWalOptions::default()).await;
    broker.bucket.bucket.set_faults(Faults { failed_per_mille: 1000, ..Faults::NONE });
    broker.append(100).await;
    broker.sleep(100).await;
    let (wal, tasks) = (broker.wal.clone(), &broker.environment.tasks);
    let stopping = tasks.spawn(TaskKind::Background, "stop", async move { wal.shutdown().await });
    broker.sleep(1_000).await;
    broker.bucket.bucket.set_faults(Faults::NONE);
    stopping.await.expect("no panic");
    assert!(matches!(hear(&broker.ears)[..], [Heard::Durable { .. }]));
}
