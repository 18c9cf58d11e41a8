//! The group committer over a backend that the test controls.

use super::*;
use crate::segment::EncodedSegment;
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::ops::Range;
use tokio::sync::oneshot;

type Gate = oneshot::Sender<Result<(), WalError>>;

/// Each write waits until the test lets it through.
#[derive(Debug)]
struct Gated {
    in_flight_max: usize,
    gates: Mutex<BTreeMap<u64, (Gate, EncodedSegment)>>,
}

impl Gated {
    fn new(in_flight_max: usize) -> Arc<Gated> {
        Arc::new(Gated { in_flight_max, gates: Mutex::default() })
    }

    fn waiting(&self) -> Vec<u64> {
        self.gates.lock().expect("no panics").keys().copied().collect()
    }

    fn batches(&self, sequence: u64) -> usize {
        let gates = self.gates.lock().expect("no panics");
        gates[&sequence].1.index.runs.iter().map(|it| it.batches.len()).sum()
    }

    async fn finish(&self, sequence: u64, outcome: Result<(), WalError>) {
        let gate = self.gates.lock().expect("no panics").remove(&sequence).expect("is waiting");
        gate.0.send(outcome).expect("the committer waits");
        settle().await;
    }
}

#[async_trait]
impl WalBackend for Gated {
    async fn recover(&self) -> Result<Vec<RecoveredSegment>, WalError> {
        Ok(Vec::new())
    }

    async fn write(&self, sequence: u64, segment: EncodedSegment) -> Result<(), WalError> {
        let (gate, passed) = oneshot::channel();
        self.gates.lock().expect("no panics").insert(sequence, (gate, segment));
        passed.await.expect("the test answers")
    }

    async fn read(&self, sequence: u64, _: Range<u64>) -> Result<Bytes, WalError> {
        Err(WalError::NoSuchBytes { sequence })
    }

    async fn trim(&self, _: u64) -> Result<(), WalError> {
        Ok(())
    }

    fn in_flight_max(&self) -> usize {
        self.in_flight_max
    }

    fn health(&self) -> WalHealth {
        WalHealth::Healthy
    }
}

/// Lets every task run until it waits.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

async fn open(backend: &Arc<Gated>, options: WalOptions) -> (Wal, Environment) {
    let environment = Environment::simulated(1);
    let backend = Arc::clone(backend) as Arc<dyn WalBackend>;
    let (wal, recovered) = Wal::open(backend, options, &environment).await.expect("opens");
    assert_eq!(recovered, []);
    (wal, environment)
}

fn ends(ears: &Ears) -> Vec<i64> {
    let end = |it: &Heard| match it {
        Heard::Durable { end, .. } => end.0,
        Heard::Lost { base, .. } => -base.0,
    };
    hear(ears).iter().map(end).collect()
}

#[tokio::test(start_paused = true)]
async fn appends_gather_while_one_write_is_in_flight() {
    let (backend, ears) = (Gated::new(1), Ears::default());
    let (wal, _environment) = open(&backend, options()).await;
    let mut end = append(&wal, &ears, 0, Offset(0), 10).await;
    settle().await;
    assert_eq!((backend.waiting(), wal.next_sequence()), (vec![0], 1));
    for _ in 0..5 {
        end = append(&wal, &ears, 0, end, 10).await;
    }
    settle().await;
    assert_eq!((backend.waiting(), ends(&ears)), (vec![0], vec![]));
    backend.finish(0, Ok(())).await;
    assert_eq!((backend.waiting(), backend.batches(1), ends(&ears)), (vec![1], 5, vec![2]));
    backend.finish(1, Ok(())).await;
    assert_eq!(ends(&ears), [2, 4, 6, 8, 10, 12]);
    assert_eq!((wal.metrics().groups.get(), wal.metrics().batches.get()), (2, 6));
}

/// Ends of batches, and the sequences that were being written when they were heard of.
type Seen = Arc<Mutex<Vec<(i64, Vec<u64>)>>>;

struct Witness {
    backend: Arc<Gated>,
    seen: Seen,
}

impl CommitListener for Witness {
    fn durable(&self, end: Offset, _: WalPlace) {
        self.seen.lock().expect("no panics").push((end.0, self.backend.waiting()));
    }

    fn lost(&self, base: Offset) {
        self.seen.lock().expect("no panics").push((-base.0, self.backend.waiting()));
    }
}

#[tokio::test(start_paused = true)]
async fn the_next_write_is_under_way_before_anybody_hears_of_the_last() {
    let backend = Gated::new(1);
    let (wal, _environment) = open(&backend, options()).await;
    let seen = Seen::default();
    for index in 0..5 {
        let (header, bytes) = batch(Offset(2 * index), 2, 10, 1);
        let reservation = wal.reserve(bytes.len()).await.expect("the log is open");
        wal.submit(Append {
            partition: partition(0),
            leader_epoch: LeaderEpoch(0),
            header,
            marker: None,
            bytes,
            listener: Arc::new(Witness { backend: Arc::clone(&backend), seen: Arc::clone(&seen) }),
            reservation,
        });
        settle().await; // The first is alone in its group.
    }
    let seen = || std::mem::take(&mut *seen.lock().expect("no panics"));
    backend.finish(0, Ok(())).await;
    assert_eq!((seen(), backend.batches(1)), (vec![(2, vec![1])], 4));
    backend.finish(1, Ok(())).await;
    assert_eq!(seen(), [4, 6, 8, 10].map(|end| (end, vec![])), "nothing more to write");
}

#[tokio::test(start_paused = true)]
async fn acknowledgements_keep_submission_order_whatever_finishes_first() {
    let (backend, ears) = (Gated::new(3), Ears::default());
    let (wal, _environment) = open(&backend, options()).await;
    let mut end = Offset(0);
    for _ in 0..4 {
        end = append(&wal, &ears, 0, end, 10).await;
        settle().await;
    }
    assert_eq!(backend.waiting(), [0, 1, 2]);
    backend.finish(2, Ok(())).await;
    backend.finish(1, Ok(())).await;
    assert_eq!(ends(&ears), Vec::<i64>::new());
    backend.finish(0, Ok(())).await;
    assert_eq!((ends(&ears), backend.waiting()), (vec![2, 4, 6], vec![3]));
}

#[tokio::test(start_paused = true)]
async fn a_fence_loses_everything_behind_it_and_refuses_the_rest() {
    let (backend, ears) = (Gated::new(2), Ears::default());
    let (wal, _environment) = open(&backend, options()).await;
    let reservation = wal.reserve(100).await.expect("open");
    let mut end = Offset(0);
    for _ in 0..4 {
        end = append(&wal, &ears, 0, end, 10).await;
        settle().await;
    }
    backend.finish(1, Err(WalError::Fenced { reason: "epoch 2".to_owned() })).await;
    assert_eq!(ends(&ears), Vec::<i64>::new());
    backend.finish(0, Ok(())).await;
    assert_eq!(ends(&ears), [2, -2, -4, -6]);
    let error = wal.reserve(1).await.expect_err("fenced");
    assert_eq!(error.to_string(), "fenced: epoch 2");
    // Who had reserved before still gets an answer.
    let (header, bytes) = batch(end, 2, 10, 1);
    submit(&wal, &ears, 0, header, bytes, reservation);
    settle().await;
    assert_eq!(ends(&ears), [2, -2, -4, -6, -8]);
}

#[tokio::test(start_paused = true)]
async fn groups_have_a_limit_but_always_one_batch() {
    let (backend, ears) = (Gated::new(1), Ears::default());
    let (wal, _environment) =
        open(&backend, WalOptions { group_bytes_max: ByteCount(200), ..options() }).await;
    let mut end = append(&wal, &ears, 0, Offset(0), 1000).await;
    settle().await;
    for _ in 0..3 {
        end = append(&wal, &ears, 0, end, 39).await; // 100 bytes each.
    }
    backend.finish(0, Ok(())).await;
    assert_eq!(backend.batches(1), 2);
}

#[tokio::test(start_paused = true)]
async fn reservations_are_backpressure() {
    let (backend, ears) = (Gated::new(1), Ears::default());
    let limits = WalOptions { reserved_bytes_max: ByteCount(1000), ..options() };
    let (wal, environment) = open(&backend, limits).await;
    append(&wal, &ears, 0, Offset(0), 600).await;
    settle().await;
    let waiting = {
        let wal = wal.clone();
        let reserve = async move { wal.reserve(5000).await.map(drop) }; // More than all room.
        environment.tasks.spawn(environment::TaskKind::Background, "reserve", reserve)
    };
    settle().await;
    assert!(!waiting.is_finished());
    backend.finish(0, Ok(())).await;
    waiting.await.expect("no panic").expect("all room is enough");
}

#[tokio::test(start_paused = true)]
async fn shutdown_drains_what_was_reserved() {
    let (backend, ears) = (Gated::new(1), Ears::default());
    let (wal, environment) = open(&backend, options()).await;
    let end = append(&wal, &ears, 0, Offset(0), 10).await;
    let late = wal.reserve(71).await.expect("open");
    settle().await;
    let shutdown = {
        let wal = wal.clone();
        let stop = async move { wal.shutdown().await };
        environment.tasks.spawn(environment::TaskKind::Background, "shutdown", stop)
    };
    settle().await;
    assert!(matches!(wal.reserve(1).await, Err(WalError::Stopping)));
    let (header, bytes) = batch(end, 2, 10, 1);
    submit(&wal, &ears, 0, header, bytes, late);
    backend.finish(0, Ok(())).await;
    assert!(!shutdown.is_finished());
    backend.finish(1, Ok(())).await;
    shutdown.await.expect("no panic");
    assert_eq!(ends(&ears), [2, 4]);
    assert_eq!(environment.tasks.shutdown(Duration::from_secs(1)).await, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_drain_has_a_deadline_and_what_is_left_is_lost() {
    let (backend, ears) = (Gated::new(1), Ears::default());
    let (wal, environment) = open(&backend, options()).await;
    let end = append(&wal, &ears, 0, Offset(0), 10).await;
    settle().await;
    append(&wal, &ears, 0, end, 10).await;
    let before = environment.clock.now();
    // The backend never answers; the group's stop is enough to start the drain.
    assert_eq!(environment.tasks.shutdown(Duration::from_secs(60)).await, Vec::<String>::new());
    assert_eq!(environment.clock.now().since(before), options().drain_max);
    assert_eq!(ends(&ears), [0, -2]);
    wal.shutdown().await; // Again, and after the end: at once.
    assert!(matches!(wal.reserve(1).await, Err(WalError::Stopping)));
}

#[tokio::test(start_paused = true)]
async fn a_log_opened_in_a_closed_group_is_stopped() {
    let environment = Environment::simulated(1);
    environment.tasks.shutdown(Duration::ZERO).await;
    let backend = Gated::new(1);
    let (wal, _) = Wal::open(backend, options(), &environment).await.expect("nothing to recover");
    wal.shutdown().await;
    assert!(matches!(wal.reserve(1).await, Err(WalError::Stopping)));
}

/// Tells its append's producer.
#[derive(Default)]
struct Told(tokio::sync::Notify);

impl CommitListener for Told {
    fn durable(&self, _: Offset, _: WalPlace) {
        self.0.notify_one();
    }

    fn lost(&self, base: Offset) {
        panic!("lost from {base} on");
    }
}

/// Every write takes a few turns of the other tasks.
#[derive(Debug)]
struct Prompt {
    in_flight_max: usize,
}

#[async_trait]
impl WalBackend for Prompt {
    async fn recover(&self) -> Result<Vec<RecoveredSegment>, WalError> {
        Ok(Vec::new())
    }

    async fn write(&self, sequence: u64, _: EncodedSegment) -> Result<(), WalError> {
        for _ in 0..sequence % 4 {
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    async fn read(&self, sequence: u64, _: Range<u64>) -> Result<Bytes, WalError> {
        Err(WalError::NoSuchBytes { sequence })
    }

    async fn trim(&self, _: u64) -> Result<(), WalError> {
        Ok(())
    }

    fn in_flight_max(&self) -> usize {
        self.in_flight_max
    }

    fn health(&self) -> WalHealth {
        WalHealth::Healthy
    }
}

/// Appends come at every moment of a commit, on other threads. One that nobody takes waits for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn no_append_is_left_behind_whenever_it_comes() {
    const PRODUCERS: i32 = 4;
    const APPENDS: i64 = 1500;
    for in_flight_max in [1, 2] {
        let environment = Environment::system();
        let backend = Arc::new(Prompt { in_flight_max });
        let (wal, _) = Wal::open(backend, options(), &environment).await.expect("opens");
        let produce = |index: i32| {
            let wal = wal.clone();
            async move {
                let told = Arc::new(Told::default());
                for base in 0..APPENDS {
                    let (header, bytes) = batch(Offset(base), 1, 10, 1);
                    let reservation = wal.reserve(bytes.len()).await.expect("the log is open");
                    wal.submit(Append {
                        partition: partition(index),
                        leader_epoch: LeaderEpoch(0),
                        header,
                        marker: None,
                        bytes,
                        listener: Arc::clone(&told) as _,
                        reservation,
                    });
                    told.0.notified().await;
                }
            }
        };
        let kind = environment::TaskKind::Background;
        let spawn = |index| environment.tasks.spawn(kind, "producer", produce(index));
        let producers = futures::future::join_all((0..PRODUCERS).map(spawn));
        const LIMIT: Duration = Duration::from_secs(120); // Only bounds a failure.
        let ended = tokio::time::timeout(LIMIT, producers).await.expect("no append waits for ever");
        assert!(ended.iter().all(Result::is_ok));
        assert_eq!(wal.metrics().batches.get(), PRODUCERS as u64 * APPENDS as u64);
        wal.shutdown().await;
    }
}
