//! The port to the metadata: which write-ahead logs there are, and how far each is needed.
//!
//! Owns: the trait and its types. Does not own: how a cluster stores them; the broker implements the
//! port over the controller, [`MemoryWalLedger`] is its memory twin.
//!
//! A log is known from the registration of its broker epoch on, before its first write. It is open
//! until somebody has ended it: walked it, put a fence behind its last segment and registered what
//! survived. A closed log is never opened again; its record stays, because its fence has to.
//!
//! A log on a volume is one directory, whatever the epoch: a registration with [`WalKind::File`]
//! takes the place of the open ones of the same broker, and of those whose volume it says it has. So
//! an open record of that kind that is not one's own names a volume that is missing.

use crate::run_index::RunIndexError;
use async_trait::async_trait;
use std::fmt;
use vocabulary::{BrokerEpoch, BrokerId};

pub mod conformance;
mod memory;
pub use memory::MemoryWalLedger;

/// One broker epoch's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WalId {
    pub broker: BrokerId,
    pub epoch: BrokerEpoch,
}

impl fmt::Display for WalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the log of broker {} in epoch {}", self.broker, self.epoch)
    }
}

/// Where a log's segments are kept, which decides how it is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WalKind {
    /// On a volume: whoever has the volume recovers it.
    File,
    /// In the bucket: whoever may change metadata ends it with a fence.
    Bucket,
}

/// What the metadata knows of one log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalRecord {
    pub id: WalId,
    pub kind: WalKind,
    /// Segments below this sequence are not needed; some may be deleted already.
    pub trimmed: u64,
    /// The sequence of the fence: what is written there or above never counts. `None` while open.
    pub fence: Option<u64>,
}

/// See the module. Every method may be repeated after an unknown outcome. A change to a log that is not
/// known is answered [`RunIndexError::Fenced`]: another registration has taken its place.
#[async_trait]
pub trait WalLedger: Send + Sync + fmt::Debug {
    /// Every log the metadata knows, by broker and epoch.
    async fn logs(&self) -> Result<Vec<WalRecord>, RunIndexError>;

    /// Segments below `before` are not needed from now on: durable before the first of them is
    /// deleted, so that a walk never starts in a hole. Never moves back. Only the log's own writer may
    /// say so, and only while its broker has not registered again and the log has not ended: else it is
    /// [`RunIndexError::Fenced`], whatever was said before stays.
    async fn trimmed(&self, id: WalId, before: u64) -> Result<(), RunIndexError>;

    /// The log ends before `fence` for ever, and every run that survived is committed. It ends once:
    /// another `fence` later is an error and changes nothing.
    async fn closed(&self, id: WalId, fence: u64) -> Result<(), RunIndexError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: WalId = WalId { broker: BrokerId(1), epoch: BrokerEpoch(4) };
    const LATER: WalId = WalId { broker: BrokerId(1), epoch: BrokerEpoch(5) };

    #[tokio::test(start_paused = true)]
    async fn the_memory_twin_conforms() {
        let ledger = MemoryWalLedger::new();
        ledger.register(ID, WalKind::Bucket, &[]);
        ledger.register(LATER, WalKind::Bucket, &[]);
        conformance::conforms(&ledger, [ID, LATER]).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_log_on_a_volume_goes_on_under_the_epoch_of_whoever_has_it() {
        let ledger = MemoryWalLedger::new();
        ledger.register(ID, WalKind::File, &[]);
        ledger.register(LATER, WalKind::File, &[]);
        let known = async || {
            let logs = ledger.logs().await.expect("the ledger answers");
            logs.iter().map(|it| it.id).collect::<Vec<_>>()
        };
        assert_eq!(known().await, [LATER]);
        let other = WalId { broker: BrokerId(2), epoch: BrokerEpoch(6) };
        ledger.register(other, WalKind::Bucket, &[BrokerId(1)]);
        assert_eq!(known().await, [LATER, other], "its volume is needed");
        let moved = WalId { broker: BrokerId(2), epoch: BrokerEpoch(7) };
        ledger.register(moved, WalKind::File, &[BrokerId(1)]);
        assert_eq!(known().await, [other, moved]);
    }

    #[tokio::test(start_paused = true)]
    async fn answers_get_lost_and_calls_fail_as_told() {
        let ledger = MemoryWalLedger::new();
        ledger.register(ID, WalKind::Bucket, &[]);
        ledger.lose_answers(1);
        assert!(ledger.trimmed(ID, 5).await.is_err(), "done, but nobody said so");
        ledger.refuse_calls(2);
        assert!(ledger.closed(ID, 9).await.is_err());
        assert!(ledger.logs().await.is_err());
        let done = WalRecord { id: ID, kind: WalKind::Bucket, trimmed: 5, fence: None };
        assert_eq!(ledger.logs().await, Ok(vec![done]));
    }
}
