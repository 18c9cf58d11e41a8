//! The group committer: one task between the partitions and a backend.
//!
//! Owns: the intake, reservations, building segments, calling listeners, draining.
//! Does not own: what goes into which group (`queue`), where segments go (the backend).
//!
//! The hot path of an append is one short lock and, when the task may be asleep and has something to
//! do, one wake-up; the bytes of large batches are not touched. A listener runs on the committer's task:
//! it must not block, and it must not call [`Wal::submit`].

use super::metrics::WalMetrics;
use super::queue::{CommitQueue, QueueLimits, Released, Written};
use super::{RecoveredSegment, WalBackend, WalError, WalHealth};
use crate::segment::{MarkerEntry, SegmentBuilder};
use bytes::Bytes;
use environment::{Clock, Environment, StopToken, TaskKind};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use prometheus_client::registry::Registry;
use protocol::records::BatchHeader;
use std::collections::VecDeque;
use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Poll;
use std::time::Duration;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use vocabulary::{
    BrokerEpoch, BrokerId, ByteCount, LeaderEpoch, Offset, Partition, SegmentName, Tick,
};

/// What an append costs beside its bytes: its entries in queue, index and tail.
const APPEND_OVERHEAD_BYTES: usize = 256;

/// Appends for which the intake keeps its memory between groups.
const ARRIVALS_KEPT: usize = 4096;

/// How one broker's log commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalOptions {
    /// Who writes. Recovery takes over what any broker wrote: whoever has the volume goes on.
    pub broker: BrokerId,
    /// The epoch this process registered with; recovery refuses a log that has a later one, whoever
    /// wrote it: epochs are issued once in a cluster.
    pub epoch: BrokerEpoch,
    /// A group holds at most this much payload, but always one batch. Larger: fewer syncs under
    /// load, longer ones.
    pub group_bytes_max: ByteCount,
    /// Admitted and not yet durable. Larger: longer bursts, more memory. At most 4 GiB.
    pub reserved_bytes_max: ByteCount,
    /// On stop, how long queued appends may take to become durable before they are given up.
    pub drain_max: Duration,
}

impl WalOptions {
    pub fn new(broker: BrokerId, epoch: BrokerEpoch) -> WalOptions {
        WalOptions {
            broker,
            epoch,
            group_bytes_max: ByteCount::mib(8),
            reserved_bytes_max: ByteCount::mib(64),
            drain_max: Duration::from_secs(10),
        }
    }
}

/// A batch inside of a WAL segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WalPlace {
    pub sequence: u64,
    /// Bytes from the start of the segment.
    pub position: u64,
    /// Bytes of the batch.
    pub length: u32,
}

/// Hears what becomes of appends, in the order in which they were submitted. Called on the
/// committer's task with no lock held; must not block.
pub trait CommitListener: Send + Sync {
    /// The batch that ends at `end_offset` (exclusive) is durable.
    fn durable(&self, end_offset: Offset, place: WalPlace);

    /// The batch at `base_offset` and everything behind it will never be acknowledged by this writer.
    /// A later recovery may still find it.
    fn lost(&self, base_offset: Offset);
}

/// One record batch on its way to durability.
pub struct Append {
    pub partition: Partition,
    pub leader_epoch: LeaderEpoch,
    /// Of `bytes`, with the offsets already stamped. Its checksum holds.
    pub header: BatchHeader,
    /// Set for a batch that ends a transaction.
    pub marker: Option<MarkerEntry>,
    pub bytes: Bytes,
    pub listener: Arc<dyn CommitListener>,
    /// Held until the listener was called.
    pub reservation: Reservation,
}

impl fmt::Debug for Append {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("Append");
        text.field("partition", &self.partition).field("base", &self.header.base_offset);
        text.field("bytes", &self.bytes.len()).finish_non_exhaustive()
    }
}

/// Room for an append, taken before its offsets are assigned. Dropping it gives the room back.
#[derive(Debug)]
pub struct Reservation {
    _permit: OwnedSemaphorePermit,
}

/// Handle to the committer; clones are the same log.
#[derive(Clone)]
pub struct Wal {
    shared: Arc<Shared>,
    backend: Arc<dyn WalBackend>,
}

struct Shared {
    /// Leaf lock: held for a push or a swap, never across an await or a listener.
    intake: Mutex<Intake>,
    arrived: Notify,
    room: Arc<Semaphore>,
    room_bytes: usize,
    next_sequence: AtomicU64,
    /// Why nothing more is accepted. Set once.
    closed: OnceLock<WalError>,
    /// Stopped once `closed` is set by a failed write.
    failed: StopToken,
    stop: StopToken,
    done: StopToken,
    metrics: WalMetrics,
}

#[derive(Default)]
struct Intake {
    appends: Vec<Append>,
    /// Nothing of it can be started before a write ends, and the task looks in here then: it sleeps on.
    waits_for_write: bool,
    /// The task is gone: nobody will take anything from here.
    abandoned: bool,
}

impl Shared {
    fn intake(&self) -> MutexGuard<'_, Intake> {
        self.intake.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn closed(&self) -> Option<WalError> {
        let stopping = || self.stop.is_stopped().then_some(WalError::Stopping);
        self.closed.get().cloned().or_else(stopping)
    }
}

impl Wal {
    /// Recovers what is durable, then starts the committer in `environment.tasks`. It drains and ends
    /// when that group stops, or by [`Wal::shutdown`].
    pub async fn open(
        backend: Arc<dyn WalBackend>,
        options: WalOptions,
        environment: &Environment,
    ) -> Result<(Wal, Vec<RecoveredSegment>), WalError> {
        let recovered = backend.recover().await?;
        check_identity(&recovered, &options)?;
        let next_sequence = recovered.last().map_or(0, |it| it.sequence + 1);
        let room_bytes = options.reserved_bytes_max.0.clamp(1, u64::from(u32::MAX)) as usize;
        let shared = Arc::new(Shared {
            intake: Mutex::default(),
            arrived: Notify::new(),
            room: Arc::new(Semaphore::new(room_bytes)),
            room_bytes,
            next_sequence: AtomicU64::new(next_sequence),
            closed: OnceLock::new(),
            failed: StopToken::new(),
            stop: environment.tasks.token().child(),
            done: StopToken::new(),
            metrics: WalMetrics::new(),
        });
        let limits = QueueLimits {
            group_bytes_max: options.group_bytes_max.0,
            in_flight_max: backend.in_flight_max(),
            linger: backend.linger(),
            starts_saved_max: backend.starts_saved_max(),
            full_bytes_min: backend.full_bytes().unwrap_or(options.group_bytes_max).0,
        };
        let committer = Committer {
            end: EndOfTask(Arc::clone(&shared)),
            backend: Arc::clone(&backend),
            clock: Arc::clone(&environment.clock),
            stamp: environment.entropy.next_u64().max(1),
            options,
            queue: CommitQueue::new(limits, next_sequence),
            pending: VecDeque::new(),
            writes: FuturesUnordered::new(),
            arrivals: Vec::new(),
            released: Vec::new(),
        };
        // Dropping the handle detaches; `done` tells the end.
        drop(environment.tasks.spawn(TaskKind::Critical, "wal committer", committer.run()));
        Ok((Wal { shared, backend }, recovered))
    }

    /// Waits for room for a batch of `bytes`: this is the backpressure of the write path. A batch
    /// larger than all room waits for all of it. Errors: `Fenced`, `Stopping`.
    pub async fn reserve(&self, bytes: usize) -> Result<Reservation, WalError> {
        if let Some(closed) = self.shared.closed() {
            return Err(closed);
        }
        let bytes = bytes.saturating_add(APPEND_OVERHEAD_BYTES).min(self.shared.room_bytes) as u32;
        let room = Arc::clone(&self.shared.room);
        let permit = room.acquire_many_owned(bytes).await.map_err(|_| WalError::Stopping)?;
        match self.shared.closed() {
            None => Ok(Reservation { _permit: permit }),
            Some(closed) => Err(closed),
        }
    }

    /// Queues a batch; never waits. Called under the partition's lock, so that the order of a
    /// partition's submissions is the order of its offsets. The listener hears of it, unless the drain
    /// deadline of a stopping process has passed: then the append is dropped.
    pub fn submit(&self, append: Append) {
        let mut intake = self.shared.intake();
        if intake.abandoned {
            drop(intake);
            return;
        }
        let wake = intake.appends.is_empty() && !intake.waits_for_write;
        intake.appends.push(append);
        drop(intake);
        if wake {
            self.shared.arrived.notify_one();
        }
    }

    /// A batch that is durable and not yet trimmed.
    pub async fn read(&self, place: WalPlace) -> Result<Bytes, WalError> {
        let range = place.position..place.position.saturating_add(u64::from(place.length));
        self.backend.read(place.sequence, range).await
    }

    /// Lets the backend forget segments with a sequence below `before`. A failure is logged: the next
    /// trim covers it.
    pub async fn trim(&self, before: u64) {
        if let Err(error) = self.backend.trim(before).await {
            tracing::warn!(before, %error, "the write-ahead log could not be trimmed");
        }
    }

    /// The sequence of the next group: everything submitted from now on is in it or later.
    pub fn next_sequence(&self) -> u64 {
        self.shared.next_sequence.load(Ordering::Acquire)
    }

    pub fn health(&self) -> WalHealth {
        self.backend.health()
    }

    /// Waits until a write has failed for good, and says why.
    pub async fn closed(&self) -> WalError {
        self.shared.failed.stopped().await;
        self.shared.closed.get().cloned().unwrap_or(WalError::Stopping)
    }

    pub fn metrics(&self) -> &WalMetrics {
        &self.shared.metrics
    }

    /// Adds its own and the backend's, relative to the registry's prefix.
    pub fn register_metrics(&self, registry: &mut Registry) {
        self.shared.metrics.register(registry);
        self.backend.register_metrics(registry);
    }

    /// Refuses new reservations, waits until everything reserved is durable or given back, but no
    /// longer than `drain_max`; then the committer ends. What is left is lost.
    pub async fn shutdown(&self) {
        self.shared.stop.stop();
        self.shared.done.stopped().await;
    }
}

impl fmt::Debug for Wal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("Wal");
        text.field("backend", &self.backend).field("next_sequence", &self.next_sequence());
        text.finish_non_exhaustive()
    }
}

/// A4: what a later registration wrote is not ours to go on with. Another broker's log is: its volume
/// was moved here.
fn check_identity(recovered: &[RecoveredSegment], options: &WalOptions) -> Result<(), WalError> {
    for segment in recovered {
        let SegmentName::Wal { epoch, .. } = segment.index.name else {
            continue; // The backend found a data segment: it has no owner to compare.
        };
        if options.epoch < epoch {
            return Err(WalError::NewerEpoch { expected: options.epoch, found: epoch });
        }
    }
    Ok(())
}

/// What is left of an append once its bytes are in a segment.
struct Pending {
    listener: Arc<dyn CommitListener>,
    base_offset: Offset,
    end_offset: Offset,
    place: WalPlace,
    _reservation: Reservation,
}

struct PendingGroup {
    sequence: u64,
    started: Tick,
    length: u64,
    appends: Vec<Pending>,
}

type Write = BoxFuture<'static, (u64, Result<(), WalError>)>;

struct Committer {
    end: EndOfTask,
    backend: Arc<dyn WalBackend>,
    clock: Arc<dyn Clock>,
    stamp: u64,
    options: WalOptions,
    queue: CommitQueue<Append>,
    /// The groups in flight, in sequence.
    pending: VecDeque<PendingGroup>,
    writes: FuturesUnordered<Write>,
    arrivals: Vec<Append>,
    /// Whose listeners are still to be called: until the next write is started at most.
    released: Vec<Released>,
}

/// Tells the handles that the task is over, however it ended.
struct EndOfTask(Arc<Shared>);

impl Drop for EndOfTask {
    fn drop(&mut self) {
        // Taken out first: what an append drops must not run under the lock.
        let orphans = {
            let mut intake = self.0.intake();
            intake.abandoned = true;
            std::mem::take(&mut intake.appends)
        };
        drop(orphans);
        self.0.stop.stop();
        self.0.done.stop();
    }
}

impl Committer {
    async fn run(mut self) {
        let shared = Arc::clone(&self.end.0);
        let room_bytes = shared.room_bytes as u32; // It was clamped.
        let mut give_up_at: Option<Tick> = None;
        let mut drained = None;
        // Entered once: its locks are those of everything that stops with this process.
        let mut stopped = pin!(shared.stop.stopped());
        loop {
            self.take_arrivals();
            self.start_writes();
            let waits_for_write = self.queue.waits_for_write();
            if waits_for_write {
                // What came since they were taken waits, too, and has left a wake-up that does no harm.
                shared.intake().waits_for_write = true;
            }
            if !self.released.is_empty() {
                // Polled first, so that the disk is at work while they are told.
                let ended = futures::poll!(self.writes.next());
                self.tell_released();
                if let Poll::Ready(Some((sequence, outcome))) = ended {
                    self.on_written(sequence, outcome);
                    tokio::task::yield_now().await; // Such a backend would never let go of the thread.
                    continue;
                }
            }
            let wake_at = self.queue.wake_at().into_iter().chain(give_up_at).min();
            tokio::select! {
                biased; // Completions first: they release room and acknowledgements.
                Some((sequence, outcome)) = self.writes.next() => {
                    self.on_written(sequence, outcome);
                }
                () = &mut stopped, if give_up_at.is_none() => {
                    give_up_at = Some(self.clock.now().plus(self.options.drain_max));
                    self.queue.drain();
                    // Queued behind those who wait for room, each of whom is refused when it gets some.
                    let room = Arc::clone(&shared.room);
                    drained = Some(Box::pin(room.acquire_many_owned(room_bytes)));
                }
                () = shared.arrived.notified(), if !waits_for_write => (),
                () = async { if let Some(room) = drained.as_mut() { let _ = room.await; } },
                    if drained.is_some() => break, // All room is back: nobody waits for anything.
                () = sleep_until(&*self.clock, wake_at), if wake_at.is_some() => (),
            }
            if give_up_at.is_some_and(|at| at <= self.clock.now()) {
                self.give_up();
                break;
            }
        }
    }

    fn take_arrivals(&mut self) {
        {
            let mut intake = self.end.0.intake();
            std::mem::swap(&mut intake.appends, &mut self.arrivals);
            intake.waits_for_write = false;
        }
        let now = self.clock.now();
        for append in self.arrivals.drain(..) {
            let bytes = append.bytes.len() as u64;
            self.queue.push(append, bytes, now);
        }
        self.arrivals.shrink_to(ARRIVALS_KEPT); // A burst's memory is not kept for ever.
        self.tell_lost();
    }

    fn start_writes(&mut self) {
        let now = self.clock.now();
        while let Some((sequence, appends)) = self.queue.start(now) {
            self.end.0.next_sequence.store(self.queue.next_sequence(), Ordering::Release);
            let (broker, epoch) = (self.options.broker, self.options.epoch);
            let name = SegmentName::Wal { broker, epoch, sequence };
            let mut builder = SegmentBuilder::new(name).stamped(self.stamp);
            let mut slots = Vec::with_capacity(appends.len());
            let mut pending = Vec::with_capacity(appends.len());
            for append in appends {
                let Append { partition, leader_epoch, header, marker, .. } = append;
                let Append { bytes, listener, reservation, .. } = append;
                slots.push(builder.push_checked(partition, leader_epoch, &header, marker, bytes));
                pending.push(Pending {
                    listener,
                    base_offset: header.base_offset,
                    end_offset: header.end_offset(),
                    place: WalPlace { sequence, position: 0, length: 0 },
                    _reservation: reservation,
                });
            }
            let segment = builder.finish();
            for (pending, slot) in pending.iter_mut().zip(slots) {
                (pending.place.position, pending.place.length) = segment.place(slot);
            }
            let length = segment.length;
            self.end.0.metrics.in_flight_bytes.inc_by(length.cast_signed());
            self.pending.push_back(PendingGroup {
                sequence,
                started: now,
                length,
                appends: pending,
            });
            let backend = Arc::clone(&self.backend);
            let write = async move { (sequence, backend.write(sequence, segment).await) };
            self.writes.push(Box::pin(write));
        }
    }

    fn on_written(&mut self, sequence: u64, outcome: Result<(), WalError>) {
        let written = match outcome {
            Ok(()) => Written::Durable,
            Err(error) => {
                if self.end.0.closed.set(error.clone()).is_ok() {
                    self.end.0.failed.stop();
                    tracing::error!(sequence, %error, "the write-ahead log accepts nothing more");
                }
                Written::Failed
            }
        };
        let waited = self.queue.waits_for_write();
        self.queue.finish(sequence, written, self.clock.now(), &mut self.released);
        // What waited for this write alone is started first: the disk need not wait for listeners.
        let is_durable = |it: &Released| matches!(it, Released::Durable(_));
        if !waited || !self.released.iter().all(is_durable) {
            self.tell_released();
        }
    }

    fn give_up(&mut self) {
        self.writes.clear();
        let _ = self.end.0.closed.set(WalError::Stopping); // Or what closed it before.
        self.queue.give_up(&mut self.released);
        let groups = self.released.len();
        self.tell_released();
        self.take_arrivals();
        tracing::error!(groups, "the drain deadline passed before everything was durable");
    }

    fn tell_released(&mut self) {
        let now = self.clock.now();
        for released in self.released.drain(..) {
            let group = self.pending.pop_front().expect("a released group was in flight");
            let metrics = &self.end.0.metrics;
            metrics.in_flight_bytes.dec_by(group.length.cast_signed());
            match released {
                Released::Durable(sequence) => {
                    assert_eq!(sequence, group.sequence, "W2");
                    metrics.groups.inc();
                    metrics.batches.inc_by(group.appends.len() as u64);
                    metrics.bytes.inc_by(group.length);
                    metrics.write_seconds.observe(now.since(group.started).as_secs_f64());
                    for append in group.appends {
                        append.listener.durable(append.end_offset, append.place);
                    }
                }
                Released::Lost(sequence) => {
                    assert_eq!(sequence, group.sequence, "W3");
                    for append in group.appends {
                        append.listener.lost(append.base_offset);
                    }
                }
            }
        }
        self.tell_lost();
    }

    fn tell_lost(&mut self) {
        for append in self.queue.take_lost() {
            append.listener.lost(append.header.base_offset);
        }
    }
}

async fn sleep_until(clock: &dyn Clock, at: Option<Tick>) {
    match at {
        Some(at) => clock.sleep_until(at).await,
        None => std::future::pending().await,
    }
}
