//! The log of a coordinator: what was decided goes in, in order, and what waits for it comes out when it is durable.
//!
//! Owns: what is decided and not durable (`backlog`), the appends in flight. Does not own: the rules (`coordinator`),
//! what an answer is, what becomes of a coordinator whose log refuses (the owner).
//!
//! Many appends are in flight at once, and requests are served meanwhile: a step sees what earlier steps decided, but
//! its answer waits until that is durable (A1). When an append fails nothing decided since is to be trusted.

mod backlog;
mod replay;

use std::sync::Arc;
use std::time::Duration;

use coordinator::Now;
use coordinator::transactions::TransactionVersion;
use environment::Clock;
use futures::StreamExt;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::FuturesOrdered;
use partition_log::{AppendError, Appended, MarkerRule, PartitionLog};
use protocol::ErrorCode;
use vocabulary::{LeaderEpoch, Timestamp};

use crate::broker::Broker;
use crate::journal::backlog::{Backlog, Write};
pub(crate) use crate::journal::replay::{Entry, Loaded, load};

/// Appends handed to the log and not durable. Larger: more overlap, more to redo after a failure.
const APPENDS_IN_FLIGHT_MAX: usize = 16;

/// How long stopping waits for what is decided to become durable.
const DRAIN_MAX: Duration = Duration::from_secs(2);

/// An append on its way into the log, with the last unit in it.
type Appending = BoxFuture<'static, (u64, Result<Appended, AppendError>)>;
type Durability = BoxFuture<'static, (u64, Result<(), AppendError>)>;

/// `A` waits for durability: an answer, ready to be sent, or something to be done.
pub(crate) struct Journal<A> {
    log: Arc<PartitionLog>,
    leader_epoch: LeaderEpoch,
    backlog: Backlog<A>,
    /// One at a time: the log gives offsets in the order of the calls.
    appending: Option<Appending>,
    in_flight: FuturesOrdered<Durability>,
}

impl<A> Journal<A> {
    pub(crate) fn new(log: Arc<PartitionLog>, leader_epoch: LeaderEpoch) -> Journal<A> {
        Journal {
            log,
            leader_epoch,
            backlog: Backlog::new(),
            appending: None,
            in_flight: FuturesOrdered::new(),
        }
    }

    pub(crate) fn log(&self) -> &PartitionLog {
        &self.log
    }

    pub(crate) fn decide(&mut self, unit: coordinator::format::Stored) {
        self.backlog.decide(unit);
    }

    /// Keeps it until everything decided so far is durable; gives it back if it already is.
    pub(crate) fn hold(&mut self, waiting: A) -> Option<A> {
        self.backlog.hold(waiting)
    }

    /// Whether to take no further request and run no timer until the log has caught up.
    pub(crate) fn is_full(&self) -> bool {
        self.backlog.is_full()
    }

    pub(crate) fn begin_append(&mut self, wall: Timestamp) {
        if self.appending.is_some() || APPENDS_IN_FLIGHT_MAX <= self.in_flight.len() {
            return;
        }
        let Some((write, unit)) = self.backlog.next_write(wall) else { return };
        let (log, epoch) = (Arc::clone(&self.log), self.leader_epoch);
        let append = async move { (unit, append(&log, epoch, write).await) };
        self.appending = Some(append.boxed());
    }

    /// Waits until something moves, for ever if nothing is under way; gives what may go out now, in order. May be
    /// dropped and called again.
    ///
    /// # Errors
    /// The log has refused: what is decided and not durable is lost.
    pub(crate) async fn progress(&mut self) -> Result<Vec<A>, AppendError> {
        tokio::select! {
            biased;
            Some((unit, durable)) = self.in_flight.next(), if !self.in_flight.is_empty() => {
                durable?;
                Ok(self.backlog.durable(unit).collect())
            }
            (unit, appended) = running(&mut self.appending) => {
                self.appending = None;
                let durable = appended?.durable;
                self.in_flight.push_back(async move { (unit, durable.await) }.boxed());
                Ok(Vec::new())
            }
        }
    }

    /// Waits a while until everything decided is durable.
    pub(crate) async fn drain(&mut self, clock: &dyn Clock, mut send: impl FnMut(A)) {
        let give_up = clock.sleep(DRAIN_MAX);
        tokio::pin!(give_up);
        while !self.backlog.is_durable() {
            self.begin_append(clock.wall());
            tokio::select! {
                biased;
                moved = self.progress() => match moved {
                    Ok(ready) => ready.into_iter().for_each(&mut send),
                    // The log is stopping, too: a dropped answer reads as "not here any more".
                    Err(_) => return,
                },
                () = &mut give_up => return,
            }
        }
    }

    /// What will never be backed by the log.
    pub(crate) fn abandon(self) -> impl Iterator<Item = A> {
        self.backlog.abandon()
    }
}

async fn append(
    log: &PartitionLog,
    epoch: LeaderEpoch,
    write: Write,
) -> Result<Appended, AppendError> {
    match write {
        Write::Batch(batch) => log.append(batch, Some(epoch)).await,
        Write::Marker(end) => {
            let rule = marker_rule(end.version);
            log.append_marker(end.producer, end.epoch, end.marker, rule).await
        }
    }
}

pub(crate) fn marker_rule(version: TransactionVersion) -> MarkerRule {
    match version {
        TransactionVersion::V1 => MarkerRule::V1,
        TransactionVersion::V2 => MarkerRule::V2,
    }
}

async fn running(appending: &mut Option<Appending>) -> (u64, Result<Appended, AppendError>) {
    match appending {
        Some(append) => append.await,
        None => std::future::pending().await,
    }
}

pub(crate) fn now(broker: &Broker) -> Now {
    let clock = &broker.environment.clock;
    Now { tick: clock.now(), wall: clock.wall() }
}

/// As Kafka maps errors of the log for those who ask a coordinator.
pub(crate) fn refusal(error: &AppendError) -> ErrorCode {
    match error {
        AppendError::Removed | AppendError::Stopping | AppendError::WrongLeaderEpoch { .. } => {
            ErrorCode::NotCoordinator
        }
        AppendError::Unavailable
        | AppendError::Unknown
        | AppendError::OutOfOrderSequence { .. }
        | AppendError::StaleProducerEpoch { .. }
        | AppendError::InvalidTxnState { .. }
        | AppendError::StaleCoordinatorEpoch { .. } => ErrorCode::CoordinatorNotAvailable,
    }
}
