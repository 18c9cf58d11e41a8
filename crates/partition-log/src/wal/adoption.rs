//! Dead logs in the bucket become committed runs where they lie.
//!
//! Owns: ending every open log, reading its indexes, the order of steps, what is logged about it.
//! Does not own: the fence (`fence`), what one step commits (`step`), the metadata (its ports).
//!
//! A log is ended, its indexes are read, its runs are committed in the order of the log, many at a
//! time, and then it is closed. No payload is read but for a run of which the front was committed
//! before: its rest needs a checksum of its own. So the time depends on the number of segments.
//!
//! Everything may be repeated: the fence stays where it is, runs below a committed end are skipped, a
//! closed log is left alone. A crash anywhere, an answer lost or another broker doing the same at the
//! same time therefore costs time and nothing else.
//!
//! What the writer of a dead log may still do, if it is not dead: nothing that counts. It cannot
//! acknowledge (the fence), and it cannot delete what is adopted: it deletes only what it had recorded
//! as trimmed before a write that succeeded afterwards, so before the fence; and what was recorded
//! before the fence is looked up behind it.

use super::fence::{EndError, end_log};
use super::ledger::{WalId, WalKind, WalLedger, WalRecord};
use super::patience::Patience;
use crate::run_index::{RunIndex, RunIndexError};
use crate::segment::segment_key;
use bucket::{Bucket, BucketError, Key};
use environment::Environment;
use futures::{StreamExt, TryStreamExt};
use index::{IndexError, read_index_of};
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::time::Duration;
use step::{Adopter, RUNS_MAX};
use vocabulary::{BrokerEpoch, Partition, SegmentName};

mod base;
mod index;
mod step;

/// Logs taken over at once. Each reads [`INDEXES_AT_ONCE`] objects at once.
const LOGS_AT_ONCE: usize = 4;

/// Larger: faster over a slow store, more memory (64 KiB and an index each). Twice what a store is asked for at
/// once: they are dealt with in order, and a slow one must not keep the others from being asked.
const INDEXES_AT_ONCE: usize = 128;

/// What a takeover found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Adopted {
    /// Logs that are closed now.
    pub logs: usize,
    /// Segments read.
    pub segments: u64,
    /// Runs committed where they lie, and their bytes.
    pub runs: u64,
    pub bytes: u64,
    /// Partitions of which a log holds what does not continue the committed runs, and why. Nothing of
    /// theirs is lost or deleted: the log stays open. Until an operator has looked they must not be
    /// hosted, because new records would take the offsets of those in the log.
    pub damaged: BTreeMap<Partition, String>,
}

/// Why a takeover stopped. What was adopted is adopted, and trying again goes on from there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdoptError {
    /// This broker may not change metadata any more.
    #[error("this broker is fenced")]
    Fenced,
    /// Likewise: it has registered again since, as another process.
    #[error("broker {} has registered again since epoch {}, with {found}", own.broker, own.epoch)]
    Superseded { own: WalId, found: BrokerEpoch },
    /// The store refuses, which waiting does not change: an operator is needed.
    #[error("a log in the bucket cannot be read: {0}")]
    Bucket(#[from] BucketError),
    /// The bytes are not what was acknowledged. An operator decides.
    #[error("A6: {key} is corrupt: {reason}")]
    Corrupt { key: Key, reason: String },
    /// Acknowledged data is gone. An operator decides.
    #[error("A6: {key} is missing although nobody had trimmed it")]
    Missing { key: Key },
}

impl From<EndError> for AdoptError {
    fn from(error: EndError) -> AdoptError {
        match error {
            EndError::Bucket(error) => AdoptError::Bucket(error),
            EndError::Corrupt { key, reason } => {
                AdoptError::Corrupt { key, reason: reason.to_owned() }
            }
        }
    }
}

/// Ends and adopts every open log in the bucket but `own`, those of living brokers too: the caller
/// has taken their epochs away, so that they may neither commit nor trim any more. To be called
/// before anything is hosted, and before the first write to `own`.
///
/// # Errors
///
/// See [`AdoptError`]. Trouble that passes is waited out.
pub async fn adopt_logs(
    bucket: &dyn Bucket,
    runs: &dyn RunIndex,
    ledger: &dyn WalLedger,
    own: WalId,
    environment: &Environment,
) -> Result<Adopted, AdoptError> {
    let ports = Ports { bucket, runs, ledger, own, environment };
    let mut open = ports.open_logs().await?;
    let mut adopted = Adopted::default();
    loop {
        let outcomes: Vec<(WalRecord, OneLog)> = futures::stream::iter(open)
            .map(|record| async move { Ok((record, Box::pin(ports.adopt(record)).await?)) })
            .buffer_unordered(LOGS_AT_ONCE)
            .try_collect::<Vec<_>>()
            .await
            .inspect_err(|error: &AdoptError| tracing::error!(%error, "a takeover failed"))?;
        adopted.damaged.clear();
        let mut moved = false;
        open = Vec::new();
        for (record, log) in outcomes {
            moved |= log.moved;
            adopted.segments += log.segments;
            adopted.runs += log.runs;
            adopted.bytes += log.bytes;
            match log.damaged.is_empty() {
                true => adopted.logs += 1,
                false => open.push(record),
            }
            adopted.damaged.extend(log.damaged);
        }
        // What one log lacks another may have brought: a partition that has moved between brokers.
        if open.is_empty() || !moved {
            break;
        }
    }
    for (partition, reason) in &adopted.damaged {
        tracing::error!(%partition, reason, "A3: a log in the bucket does not fit, it stays open");
    }
    Ok(adopted)
}

/// What became of one log.
#[derive(Debug, Default)]
struct OneLog {
    segments: u64,
    runs: u64,
    bytes: u64,
    /// A committed end was moved, by this or by somebody else meanwhile.
    moved: bool,
    damaged: BTreeMap<Partition, String>,
}

#[derive(Clone, Copy)]
struct Ports<'a> {
    bucket: &'a dyn Bucket,
    runs: &'a dyn RunIndex,
    ledger: &'a dyn WalLedger,
    own: WalId,
    environment: &'a Environment,
}

impl<'a> Ports<'a> {
    /// Asks the metadata until it answers (A9).
    async fn ask<T, F: Future<Output = Result<T, RunIndexError>>>(
        &self,
        doing: &'static str,
        mut question: impl FnMut() -> F,
    ) -> Result<T, AdoptError> {
        let mut patience = Patience::new(self.environment);
        loop {
            match question().await {
                Ok(answer) => return Ok(answer),
                Err(RunIndexError::Fenced) => return Err(AdoptError::Fenced),
                Err(error @ RunIndexError::Unavailable { .. }) => {
                    patience.wait(doing, &error).await;
                }
            }
        }
    }

    async fn open_logs(&self) -> Result<Vec<WalRecord>, AdoptError> {
        let own = self.own;
        let logs = self.ask("listing logs", || self.ledger.logs()).await?;
        let later = logs.iter().find(|it| it.id.broker == own.broker && own.epoch < it.id.epoch);
        if let Some(later) = later {
            return Err(AdoptError::Superseded { own, found: later.id.epoch });
        }
        let is_open =
            |it: &WalRecord| it.kind == WalKind::Bucket && it.fence.is_none() && it.id != own;
        Ok(logs.into_iter().filter(is_open).collect())
    }

    /// The log as the ledger has it now; `None` once it is closed.
    async fn still_open(&self, id: WalId) -> Result<Option<WalRecord>, AdoptError> {
        let logs = self.ask("looking up a log", || self.ledger.logs()).await?;
        Ok(logs.into_iter().find(|it| it.id == id && it.fence.is_none()))
    }

    async fn adopt(self, record: WalRecord) -> Result<OneLog, AdoptError> {
        let (id, clock) = (record.id, &self.environment.clock);
        let started = clock.now();
        let reason = "takeover at the start of a broker";
        let ended = end_log(self.bucket, &record, self.own, reason, self.environment).await?;
        let walk = clock.now().since(started);
        // Read behind the fence: what was trimmed later is still there.
        let Some(record) = self.still_open(id).await? else { return Ok(OneLog::default()) };
        let first = record.trimmed.clamp(ended.first, ended.fence);
        let mut adopter = Adopter::new(self);
        let mut segments = 0;
        let read = |sequence| async move { (sequence, self.index_of(id, sequence).await) };
        let mut indexes = std::pin::pin!(
            futures::stream::iter(first..ended.fence).map(read).buffered(INDEXES_AT_ONCE)
        );
        while let Some((sequence, index)) = indexes.next().await {
            match index {
                Ok(index) => {
                    segments += 1;
                    adopter.push(index);
                }
                Err(IndexError::Gone) => match self.still_open(id).await? {
                    None => return Ok(OneLog::default()), // Another took it over and swept it.
                    Some(now) if sequence < now.trimmed => continue,
                    Some(_) => return Err(AdoptError::Missing { key: key_of(id, sequence) }),
                },
                Err(IndexError::Failed(error)) => return Err(error),
            }
            while RUNS_MAX <= adopter.waiting() {
                Box::pin(adopter.step()).await?;
            }
        }
        while 0 < adopter.waiting() {
            Box::pin(adopter.step()).await?;
        }
        let log = adopter.finish(segments);
        if log.damaged.is_empty() {
            self.close(id, ended.fence).await?;
        }
        let counts = Counts { id, log: &log, walk, all: clock.now().since(started) };
        tracing::info!("{counts}");
        Ok(log)
    }

    async fn index_of(
        &self,
        id: WalId,
        sequence: u64,
    ) -> Result<crate::segment::SegmentIndex, IndexError> {
        let WalId { broker, epoch } = id;
        let name = SegmentName::Wal { broker, epoch, sequence };
        read_index_of(self.bucket, name, self.environment).await
    }

    /// Records the end. Another walker may have: there is one first hole, so it says the same.
    async fn close(&self, id: WalId, fence: u64) -> Result<(), AdoptError> {
        let mut patience = Patience::new(self.environment);
        loop {
            match self.ledger.closed(id, fence).await {
                Ok(()) => return Ok(()),
                Err(RunIndexError::Fenced) => return Err(AdoptError::Fenced),
                Err(error @ RunIndexError::Unavailable { .. }) => {
                    patience.wait("closing a log", &error).await;
                }
            }
            if self.still_open(id).await?.is_none() {
                return Ok(());
            }
        }
    }
}

fn key_of(id: WalId, sequence: u64) -> Key {
    segment_key(SegmentName::Wal { broker: id.broker, epoch: id.epoch, sequence })
}

/// The line that is logged for a log.
struct Counts<'a> {
    id: WalId,
    log: &'a OneLog,
    walk: Duration,
    all: Duration,
}

impl fmt::Display for Counts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { id, log, walk, all } = self;
        let OneLog { segments, runs, bytes, damaged, .. } = log;
        let (walk, all) = (walk.as_millis(), all.as_millis());
        write!(
            f,
            "{id} is taken over: {segments} segments read, {runs} runs of {bytes} bytes adopted, \
             {} partitions damaged, {walk} ms to end it, {all} ms in all",
            damaged.len()
        )
    }
}
