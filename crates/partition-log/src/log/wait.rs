//! Who waits for a partition: producers for durability, fetches for news.
//!
//! Owns: the waits of one partition and how they are woken. Does not own: what is durable (`log`).
//!
//! Locking: [`Waits`] sits behind its own std mutex, a leaf below the partition's state lock, so that
//! a lost append can fail its waits from inside `Wal::submit`, which runs under the state lock. It is
//! held for a few queue steps, never across an await and never while a waiter runs.

use super::AppendError;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use tokio::sync::{Notify, oneshot};
use vocabulary::Offset;

use super::PartitionLog;

/// Resolves when an append is durable (A1), or when it is known that nobody will ever know.
/// Dropping it changes nothing about the append.
#[derive(Debug)]
pub struct DurableWait {
    state: WaitState,
}

#[derive(Debug)]
enum WaitState {
    Durable,
    Waiting(oneshot::Receiver<Result<(), AppendError>>),
}

impl DurableWait {
    pub(crate) fn durable() -> DurableWait {
        DurableWait { state: WaitState::Durable }
    }
}

impl Future for DurableWait {
    type Output = Result<(), AppendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.state {
            WaitState::Durable => Poll::Ready(Ok(())),
            // A dropped sender means that the partition is gone: never read as success.
            WaitState::Waiting(receiver) => Pin::new(receiver)
                .poll(context)
                .map(|answer| answer.unwrap_or(Err(AppendError::Unknown))),
        }
    }
}

/// A long poll over any number of partitions: one place that all of them wake.
#[derive(Debug, Default)]
pub struct FetchWaiter {
    notify: Notify,
}

impl FetchWaiter {
    pub fn new() -> FetchWaiter {
        FetchWaiter::default()
    }

    /// Resolves once something has happened since the last call; a wake-up in between is kept.
    pub async fn woken(&self) {
        self.notify.notified().await;
    }

    /// Wakes whoever waits, or the next to wait.
    pub fn wake(&self) {
        self.notify.notify_one();
    }
}

/// While it lives, its waiter is woken by its partition.
#[derive(Debug)]
#[must_use = "dropping it ends the watch"]
pub struct WatchGuard {
    pub(crate) log: Weak<PartitionLog>,
    pub(crate) waiter: Arc<FetchWaiter>,
}

impl Drop for WatchGuard {
    fn drop(&mut self) {
        if let Some(log) = self.log.upgrade() {
            log.waits().unwatch(&self.waiter);
        }
    }
}

/// The waits of one partition. Bounded by requests in flight, which the broker bounds.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    /// By end offset, ascending.
    durable: VecDeque<(Offset, oneshot::Sender<Result<(), AppendError>>)>,
    watchers: Vec<Arc<FetchWaiter>>,
}

impl Waits {
    /// A wait until everything below `end` is durable.
    pub(crate) fn until(&mut self, end: Offset) -> DurableWait {
        let (sender, receiver) = oneshot::channel();
        // Nearly always at the back; a duplicate of a batch in flight goes in between.
        let place = match self.durable.back() {
            Some((last, _)) if end < *last => self.durable.partition_point(|(it, _)| *it <= end),
            _ => self.durable.len(),
        };
        self.durable.insert(place, (end, sender));
        DurableWait { state: WaitState::Waiting(receiver) }
    }

    /// Everything below `high_watermark` is durable: answers its producers, wakes the fetches.
    pub(crate) fn advance(&mut self, high_watermark: Offset) {
        while self.durable.front().is_some_and(|(end, _)| *end <= high_watermark) {
            if let Some((_, sender)) = self.durable.pop_front() {
                let _ = sender.send(Ok(())); // The producer may have hung up; that is its right.
            }
        }
        if self.durable.is_empty() && self.durable.capacity() > IDLE_CAPACITY_MAX {
            self.durable = VecDeque::new();
        }
        self.wake();
    }

    /// Nothing that ends above `base` will become durable here (A4).
    pub(crate) fn fail_above(&mut self, base: Offset, error: &AppendError) {
        while self.durable.back().is_some_and(|(end, _)| base < *end) {
            if let Some((_, sender)) = self.durable.pop_back() {
                let _ = sender.send(Err(error.clone()));
            }
        }
        self.wake();
    }

    #[cfg(test)]
    pub(crate) fn heap_bytes(&self) -> usize {
        let durable = size_of::<(Offset, oneshot::Sender<Result<(), AppendError>>)>();
        self.durable.capacity() * durable + self.watchers.capacity() * size_of::<usize>()
    }

    pub(crate) fn wake(&self) {
        for waiter in &self.watchers {
            waiter.wake();
        }
    }

    pub(crate) fn watch(&mut self, waiter: Arc<FetchWaiter>) {
        self.watchers.push(waiter);
    }

    fn unwatch(&mut self, waiter: &Arc<FetchWaiter>) {
        if let Some(place) = self.watchers.iter().position(|it| Arc::ptr_eq(it, waiter)) {
            self.watchers.swap_remove(place);
        }
        if self.watchers.is_empty() {
            self.watchers = Vec::new(); // An idle partition holds no room for waiters.
        }
    }
}

/// Room for waits that a partition keeps while nobody waits.
const IDLE_CAPACITY_MAX: usize = 8;
