//! Loads of spans: each byte asked for once at a time, neighbours in one request, within budgets.
//!
//! Owns: the flights, permits and bytes in flight per class, second requests, the deadline of those who
//! wait.
//! Does not own: what goes into one request (`neighbours`), what stays in memory (`spans`) or on the cache
//! disk (`disk`), which spans a reader needs (`reader`), checks (`verify`).
//!
//! A flight loads neighbouring spans of one segment, in a task of its own: a fetch that gives up does not
//! throw away what a slow bucket was about to deliver, and whoever wants one of the spans meanwhile
//! waits for the same flight.
//!
//! Budgets are apart by class, so that a backfill never takes a permit from a tail reader. Lagging
//! readers are bounded by bytes, too: those are the memory that a backfill holds beyond the cache.
//! Reading ahead takes what is left, never the last of it, and never waits.

use super::disk::DiskCache;
use super::hedge::Hedge;
use super::neighbours::{Item, extent, pieces, together};
use super::place::Place;
use super::spans::{Class, SpanKey, Spans};
use super::verify;
use crate::engine::LogMetrics;
use crate::segment::{RunEntry, segment_key};
use bucket::{Bucket, BucketError, Key, Purpose};
use bytes::Bytes;
use environment::{Environment, TaskKind};
use std::collections::HashMap;
use std::future::Future;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Loads for tail readers at once, about 1 MiB each.
const TAIL_LOADS_MAX: usize = 48;

/// Loads for lagging readers at once; their bytes have a budget besides.
const LAGGING_LOADS_MAX: usize = 32;

/// Read-ahead leaves this many permits of its class to readers that wait.
const LOADS_RESERVED: usize = 8;

/// Read-ahead leaves this part of the bytes in flight to lagging readers that wait: one in 4.
const BYTES_RESERVED_PART: u64 = 4;

/// The grain of the bytes in flight.
const PERMIT_BYTES: u64 = 4096;

/// Why a load brought nothing. Each waiter of a flight gets its own.
#[derive(Debug, Clone)]
pub(super) enum LoadError {
    /// The object is not there.
    Gone,
    Unavailable(String),
    Corrupt {
        range: Range<u64>,
        reason: String,
    },
}

impl From<BucketError> for LoadError {
    fn from(error: BucketError) -> LoadError {
        match error {
            BucketError::NotFound { .. } => LoadError::Gone,
            BucketError::OutOfRange { length, end, .. } => {
                let reason = format!("the object ends at {length}");
                LoadError::Corrupt { range: length..end, reason }
            }
            error => LoadError::Unavailable(error.to_string()),
        }
    }
}

/// The spans of one flight, each intact or not.
type Landed = Arc<Vec<(SpanKey, Result<Bytes, LoadError>)>>;
type Landing = Result<Landed, LoadError>;
type Flight = watch::Receiver<Option<Landing>>;

/// What one load is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Errand {
    class: Class,
    /// Spans that somebody waits for; those behind them are read ahead.
    awaited: usize,
}

/// The loads of one broker.
pub(super) struct Loads {
    pub(super) spans: Spans,
    disk: Option<Arc<DiskCache>>,
    bucket: Arc<dyn Bucket>,
    environment: Environment,
    metrics: LogMetrics,
    timeout: Duration,
    tail: Arc<Semaphore>,
    lagging: Arc<Semaphore>,
    /// In units of [`PERMIT_BYTES`].
    lagging_bytes: Arc<Semaphore>,
    lagging_bytes_max: u64,
    /// Bytes on their way that nobody has asked for.
    ahead_bytes: AtomicU64,
    /// A leaf lock but for the shares of memory, which are looked at under it.
    flights: Mutex<HashMap<SpanKey, Flight>>,
    /// A leaf lock: arithmetic only.
    hedge: Mutex<Hedge>,
}

/// The permits of one flight.
struct Permits {
    _load: OwnedSemaphorePermit,
    _bytes: Option<OwnedSemaphorePermit>,
}

pub(super) struct LoadsParts {
    pub(super) spans: Spans,
    pub(super) disk: Option<Arc<DiskCache>>,
    pub(super) bucket: Arc<dyn Bucket>,
    pub(super) environment: Environment,
    pub(super) metrics: LogMetrics,
    pub(super) timeout: Duration,
    pub(super) lagging_bytes_max: u64,
}

impl Loads {
    pub(super) fn new(parts: LoadsParts) -> Loads {
        let lagging_bytes_max = parts.lagging_bytes_max.max(PERMIT_BYTES);
        Loads {
            spans: parts.spans,
            disk: parts.disk,
            bucket: parts.bucket,
            environment: parts.environment,
            metrics: parts.metrics,
            timeout: parts.timeout,
            tail: Arc::new(Semaphore::new(TAIL_LOADS_MAX)),
            lagging: Arc::new(Semaphore::new(LAGGING_LOADS_MAX)),
            lagging_bytes: Arc::new(Semaphore::new(permits_of(lagging_bytes_max) as usize)),
            lagging_bytes_max,
            ahead_bytes: AtomicU64::new(0),
            flights: Mutex::default(),
            hedge: Mutex::new(Hedge::new()),
        }
    }

    /// Spans from `first` on, at least one: those up to `needed` that are in memory, or else those
    /// that one request brings. `ahead` more may come with it, if it goes to the bucket, and the runs that
    /// `behind` tells then.
    pub(super) async fn spans(
        self: &Arc<Self>,
        place: &Place,
        (first, needed, ahead): (u32, u32, u32),
        behind: impl FnOnce() -> Vec<Place>,
        class: Class,
    ) -> Result<Vec<Bytes>, LoadError> {
        let found: Vec<Bytes> =
            (first..needed).map_while(|number| self.spans.get(&place.key(number), class)).collect();
        self.note_fates();
        if !found.is_empty() {
            self.counters(class).0.inc_by(found.len() as u64);
            return Ok(found);
        }
        self.counters(class).1.inc();
        let (flight, load) = self.join(place, (first, needed, ahead), &behind(), class);
        if let Some(load) = load {
            if self.environment.tasks.token().is_stopped() {
                load.await; // A stopping process: no task starts any more.
            } else {
                // Detached: who waits has the flight.
                drop(self.environment.tasks.spawn(TaskKind::Background, "bucket read", load));
            }
        }
        let landed = self.landing(flight).await?;
        let key = place.key(first);
        let at = landed.iter().position(|it| it.0 == key);
        let rest = &landed[at.unwrap_or(landed.len())..];
        let count = (needed - first) as usize;
        let mut loaded = Vec::new();
        for (key, span) in rest.iter().take(count) {
            let Ok(span) = span else { break };
            self.spans.get(key, class); // If it was read ahead, it is wanted now.
            loaded.push(span.clone());
        }
        match (loaded.is_empty(), rest.first()) {
            (false, _) => Ok(loaded),
            (true, Some((_, Err(error)))) => Err(error.clone()),
            (true, _) => Err(LoadError::Unavailable("the load brought other spans".to_owned())),
        }
    }

    /// Loads what is missing of `numbers`, without anybody waiting for it, and brings along what there is
    /// room for of the runs `behind`. False if there is no permit or no room for it.
    pub(super) fn load_ahead(
        self: &Arc<Self>,
        place: &Place,
        numbers: Range<u32>,
        behind: &[Place],
        class: Class,
    ) -> bool {
        let Range { start: mut next, end: after } = numbers;
        while next < after {
            let items = self.missing(&self.flights(), place, next..after, behind);
            if items.is_empty() {
                next += 1;
                continue;
            }
            let bytes = bytes_of(&items);
            if self.ahead_room() < bytes {
                return false;
            }
            let Some(permits) = self.spare_permits(bytes, class) else { return false };
            next = after.min(next + items.len() as u32); // Those of other runs come behind the last.
            let Some((_, takeoff)) = self.take_off(&items) else { continue };
            let this = Arc::clone(self);
            let errand = Errand { class, awaited: 0 };
            drop(self.environment.tasks.spawn(TaskKind::Background, "read-ahead", async move {
                this.fly(items, errand, takeoff, Some(permits)).await;
            }));
        }
        true
    }

    /// Bytes that may be read ahead now, over all readers.
    pub(super) fn ahead_room(&self) -> u64 {
        let taken = self.spans.ahead_bytes() + self.ahead_bytes.load(Ordering::Relaxed);
        self.spans.ahead_bytes_max().saturating_sub(taken)
    }

    /// The flight that brings the span, and what has to be done for it if it is a new one.
    fn join(
        self: &Arc<Self>,
        place: &Place,
        (first, needed, ahead): (u32, u32, u32),
        behind: &[Place],
        class: Class,
    ) -> (Flight, Option<impl Future<Output = ()> + Send + 'static + use<>>) {
        let mut flights = self.flights();
        if let Some(flight) = flights.get(&place.key(first)) {
            return (flight.clone(), None);
        }
        let after = needed.saturating_add(ahead).min(place.spans());
        let mut items = self.missing(&flights, place, first..after, behind);
        if items.is_empty() {
            // It landed this moment; asked for again, it is there.
            items = together(place, first..first + 1, &[], |_| true);
        }
        let awaited = items.len().min((needed - first) as usize);
        let (flight, takeoff) = self.take_off_locked(&mut flights, &items, awaited);
        drop(flights);
        let this = Arc::clone(self);
        let errand = Errand { class, awaited };
        let load = async move { this.fly(items, errand, takeoff, None).await };
        (flight, Some(load))
    }

    /// What goes together of what is neither here nor on the way.
    fn missing(
        &self,
        flights: &HashMap<SpanKey, Flight>,
        place: &Place,
        numbers: Range<u32>,
        behind: &[Place],
    ) -> Vec<Item> {
        let is_missing = |it: &SpanKey| !flights.contains_key(it) && !self.spans.contains(it);
        together(place, numbers, behind, is_missing)
    }

    fn take_off(self: &Arc<Self>, items: &[Item]) -> Option<(Flight, TakeOff)> {
        let mut flights = self.flights();
        if items.iter().any(|it| flights.contains_key(&it.key)) {
            return None;
        }
        Some(self.take_off_locked(&mut flights, items, 0))
    }

    fn take_off_locked(
        self: &Arc<Self>,
        flights: &mut HashMap<SpanKey, Flight>,
        items: &[Item],
        awaited: usize,
    ) -> (Flight, TakeOff) {
        let (sender, flight) = watch::channel(None);
        flights.extend(items.iter().map(|it| (it.key, flight.clone())));
        let ahead_bytes = bytes_of(&items[awaited..]);
        self.ahead_bytes.fetch_add(ahead_bytes, Ordering::Relaxed);
        let keys = items.iter().map(|it| it.key).collect();
        (flight, TakeOff { loads: Arc::clone(self), keys, ahead_bytes, sender })
    }

    async fn landing(&self, mut flight: Flight) -> Landing {
        tokio::select! {
            biased;
            landing = flight.wait_for(Option::is_some) => match landing.as_deref() {
                Ok(Some(landing)) => landing.clone(),
                _ => Err(LoadError::Unavailable("the load was stopped".to_owned())),
            },
            () = self.environment.clock.sleep(self.timeout) => {
                Err(LoadError::Unavailable("the bucket is slow".to_owned()))
            }
        }
    }

    async fn fly(
        self: Arc<Self>,
        items: Vec<Item>,
        errand: Errand,
        takeoff: TakeOff,
        permits: Option<Permits>,
    ) {
        let permits = match permits {
            Some(permits) => permits,
            None => self.permits(bytes_of(&items), errand.class).await,
        };
        let landing = self.fetch(&items, errand).await;
        for (at, (key, span)) in landing.iter().flat_map(|it| it.iter()).enumerate() {
            match span {
                Ok(bytes) if at < errand.awaited => {
                    self.spans.insert(*key, bytes.clone(), errand.class);
                }
                Ok(bytes) => self.spans.insert_ahead(*key, bytes.clone()),
                Err(_) => (), // Asked for again, it is read again.
            }
        }
        self.note_fates();
        takeoff.sender.send_replace(Some(landing));
        drop((takeoff, permits));
    }

    /// What the cache disk has comes from there; one request spans the rest.
    async fn fetch(self: &Arc<Self>, items: &[Item], errand: Errand) -> Landing {
        let mut found: Vec<Option<Bytes>> = vec![None; items.len()];
        if let Some(disk) = &self.disk {
            found = futures::future::join_all(items.iter().map(|it| disk.get(it.key))).await;
        }
        let is_missing = |it: &Option<Bytes>| it.is_none();
        let first = found.iter().position(is_missing);
        let last = found.iter().rposition(is_missing);
        let mut fetched = vec![Bytes::new(); items.len()];
        if let (Some(first), Some(last)) = (first, last) {
            let object = segment_key(items[first].key.segment);
            let pieces = self.get(&object, &items[first..=last], errand.class).await?;
            fetched.splice(first..=last, pieces);
        }
        let mut landed = Vec::with_capacity(items.len());
        for ((Item { place, number, key }, found), fetched) in items.iter().zip(found).zip(fetched)
        {
            let span = match found {
                Some(bytes) => Ok(bytes),
                None => self.checked(place, *number, *key, fetched),
            };
            landed.push((*key, span));
        }
        Ok(Arc::new(landed))
    }

    /// Checks a span that came from the bucket; the cache disk gets it only if it is intact.
    fn checked(
        &self,
        place: &Place,
        number: u32,
        key: SpanKey,
        bytes: Bytes,
    ) -> Result<Bytes, LoadError> {
        let span = place.span_bytes(number);
        let run: &RunEntry = &place.run;
        let first = run.batches.partition_point(|it| it.position < span.start);
        let after = run.batches.partition_point(|it| it.position < span.end);
        match verify::span(run, &run.batches[first..after], &bytes) {
            Ok(()) => {
                if let Some(disk) = &self.disk {
                    disk.offer(key, bytes.clone());
                }
                Ok(bytes)
            }
            Err(reason) => {
                let range = key.position..key.position + key.length;
                Err(LoadError::Corrupt { range, reason })
            }
        }
    }

    /// Neighbours in an object; for tail readers, asked for twice if the first answer is late.
    async fn get(
        &self,
        object: &Key,
        items: &[Item],
        class: Class,
    ) -> Result<Vec<Bytes>, BucketError> {
        let purpose = purpose(class);
        let start = extent(items).start;
        let (lengths, is_wanted): (Vec<u64>, Vec<bool>) = pieces(items).into_iter().unzip();
        let clock = &self.environment.clock;
        let started = clock.now();
        let first = self.bucket.get_pieces(object, start, &lengths, purpose);
        let got = match class {
            Class::Lagging => first.await,
            Class::Tail => {
                let delay = self.hedge().started();
                tokio::pin!(first);
                tokio::select! {
                    biased;
                    got = &mut first => got,
                    () = clock.sleep(delay) => {
                        if self.hedge().may_hedge() {
                            self.metrics.hedged_reads.inc();
                            let second = self.bucket.get_pieces(object, start, &lengths, purpose);
                            either(first, second).await
                        } else {
                            first.await
                        }
                    }
                }
            }
        };
        if let (Class::Tail, Ok(_)) = (class, &got) {
            self.hedge().answered(clock.now().since(started));
        }
        let (loads, bytes) = match class {
            Class::Tail => (&self.metrics.tail_loads, &self.metrics.tail_load_bytes),
            Class::Lagging => (&self.metrics.lagging_loads, &self.metrics.lagging_load_bytes),
        };
        loads.inc();
        bytes.inc_by(if got.is_ok() { lengths.iter().sum() } else { 0 });
        let wanted = |got: Vec<Bytes>| got.into_iter().zip(is_wanted).filter(|it| it.1);
        got.map(|it| wanted(it).map(|it| it.0).collect())
    }

    async fn permits(&self, bytes: u64, class: Class) -> Permits {
        let loads = match class {
            Class::Tail => &self.tail,
            Class::Lagging => &self.lagging,
        };
        let never_closed = "the semaphores are never closed";
        let _load = Arc::clone(loads).acquire_owned().await.expect(never_closed);
        let _bytes = match class {
            Class::Tail => None,
            Class::Lagging => {
                let wanted = permits_of(bytes.min(self.lagging_bytes_max));
                let bytes = Arc::clone(&self.lagging_bytes).acquire_many_owned(wanted);
                Some(bytes.await.expect(never_closed))
            }
        };
        Permits { _load, _bytes }
    }

    /// Permits that nobody who waits would miss.
    fn spare_permits(&self, bytes: u64, class: Class) -> Option<Permits> {
        let loads = match class {
            Class::Tail => &self.tail,
            Class::Lagging => &self.lagging,
        };
        if loads.available_permits() <= LOADS_RESERVED {
            return None;
        }
        let _load = Arc::clone(loads).try_acquire_owned().ok()?;
        let wanted = permits_of(bytes);
        let left = self.lagging_bytes.available_permits() as u64;
        let reserved = u64::from(permits_of(self.lagging_bytes_max)) / BYTES_RESERVED_PART;
        let _bytes = match class {
            Class::Tail => None,
            Class::Lagging if left < u64::from(wanted) + reserved => return None,
            Class::Lagging => {
                Some(Arc::clone(&self.lagging_bytes).try_acquire_many_owned(wanted).ok()?)
            }
        };
        Some(Permits { _load, _bytes })
    }

    /// Hits and misses of a class.
    fn counters(
        &self,
        class: Class,
    ) -> (
        &prometheus_client::metrics::counter::Counter,
        &prometheus_client::metrics::counter::Counter,
    ) {
        let metrics = &self.metrics;
        match class {
            Class::Tail => (&metrics.tail_span_hits, &metrics.tail_span_misses),
            Class::Lagging => (&metrics.lagging_span_hits, &metrics.lagging_span_misses),
        }
    }

    fn note_fates(&self) {
        let fates = self.spans.take_fates();
        self.metrics.read_ahead_useful.inc_by(fates.useful);
        self.metrics.read_ahead_wasted.inc_by(fates.wasted);
        self.metrics.span_cache_bytes.set(self.spans.bytes() as i64);
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<SpanKey, Flight>> {
        self.flights.lock().expect("no holder of this lock panics: map steps only")
    }

    fn hedge(&self) -> MutexGuard<'_, Hedge> {
        self.hedge.lock().expect("no holder of this leaf lock panics: arithmetic only")
    }
}

/// Takes the flight off the table however it ends.
struct TakeOff {
    loads: Arc<Loads>,
    keys: Vec<SpanKey>,
    /// Of those nobody waits for.
    ahead_bytes: u64,
    sender: watch::Sender<Option<Landing>>,
}

impl Drop for TakeOff {
    fn drop(&mut self) {
        let mut flights = self.loads.flights();
        for key in &self.keys {
            flights.remove(key);
        }
        self.loads.ahead_bytes.fetch_sub(self.ahead_bytes, Ordering::Relaxed);
    }
}

/// What a request for all of them asks for.
fn bytes_of(items: &[Item]) -> u64 {
    let extent = extent(items);
    extent.end - extent.start
}

/// The first success, or the last failure.
async fn either<T, E>(
    first: impl Future<Output = Result<T, E>>,
    second: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    tokio::pin!(first, second);
    tokio::select! {
        biased;
        got = &mut first => match got {
            Ok(got) => Ok(got),
            Err(_) => second.await,
        },
        got = &mut second => match got {
            Ok(got) => Ok(got),
            Err(_) => first.await,
        },
    }
}

/// The label and the admission class of a request.
pub(super) fn purpose(class: Class) -> Purpose {
    match class {
        Class::Tail => Purpose::ReadTail,
        Class::Lagging => Purpose::ReadCold,
    }
}

fn permits_of(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(PERMIT_BYTES)).unwrap_or(u32::MAX)
}
