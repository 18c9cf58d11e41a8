//! One suite for everything that claims to be a [`WalLedger`].
//!
//! Whoever implements the port registers a broker with a log in the bucket and then another time, so that
//! two open logs are known, and runs [`conforms`] on them as the later registration. It panics at the first
//! promise that is not kept.

use super::{WalId, WalKind, WalLedger, WalRecord};
use crate::run_index::RunIndexError;
use vocabulary::BrokerEpoch;

/// # Panics
///
/// With the promise that is broken.
pub async fn conforms(ledger: &dyn WalLedger, open: [WalId; 2]) {
    assert!(open[0] < open[1], "the caller names them in order");
    a_log_is_open_from_its_registration_on(ledger, open).await;
    trimming_never_moves_back(ledger, open).await;
    a_log_ends_once(ledger, open).await;
    an_unknown_log_is_fenced(ledger, open).await;
}

async fn records(ledger: &dyn WalLedger, of: [WalId; 2]) -> Vec<WalRecord> {
    let mut logs = ledger.logs().await.expect("the ledger answers");
    assert!(logs.is_sorted_by_key(|it| it.id), "by broker and epoch");
    logs.retain(|it| of.contains(&it.id));
    logs
}

async fn a_log_is_open_from_its_registration_on(ledger: &dyn WalLedger, open: [WalId; 2]) {
    let fresh = |id| WalRecord { id, kind: WalKind::Bucket, trimmed: 0, fence: None };
    assert_eq!(records(ledger, open).await, open.map(fresh));
}

async fn trimming_never_moves_back(ledger: &dyn WalLedger, open: [WalId; 2]) {
    for (before, trimmed) in [(7, 7), (7, 7), (3, 7), (9, 9)] {
        assert_eq!(ledger.trimmed(open[1], before).await, Ok(()));
        let found: Vec<u64> = records(ledger, open).await.iter().map(|it| it.trimmed).collect();
        assert_eq!(found, [0, trimmed], "of one log, after {before}");
    }
    let stale = ledger.trimmed(open[0], 7).await;
    assert_eq!(stale, Err(RunIndexError::Fenced), "A4: its broker has registered again");
}

async fn a_log_ends_once(ledger: &dyn WalLedger, open: [WalId; 2]) {
    assert_eq!(ledger.closed(open[0], 12).await, Ok(()));
    assert_eq!(ledger.closed(open[0], 12).await, Ok(()), "again, after a lost answer");
    let elsewhere = ledger.closed(open[0], 13).await;
    assert!(elsewhere.is_err(), "A4: a log ends at one place");
    for before in [5, 99] {
        assert_eq!(ledger.trimmed(open[0], before).await, Err(RunIndexError::Fenced), "it is over");
    }
    let own = (ledger.closed(open[1], 20).await, ledger.trimmed(open[1], 15).await);
    assert_eq!(own, (Ok(()), Err(RunIndexError::Fenced)), "also of the one that asks");
    let found: Vec<_> =
        records(ledger, open).await.iter().map(|it| (it.trimmed, it.fence)).collect();
    assert_eq!(found, [(0, Some(12)), (9, Some(20))], "the records stay");
}

async fn an_unknown_log_is_fenced(ledger: &dyn WalLedger, open: [WalId; 2]) {
    let nobody = WalId { epoch: BrokerEpoch(open[0].epoch.0 + 1_000_000), ..open[0] };
    assert_eq!(ledger.trimmed(nobody, 1).await, Err(RunIndexError::Fenced));
    assert_eq!(ledger.closed(nobody, 1).await, Err(RunIndexError::Fenced));
    assert_eq!(ledger.logs().await.map(|it| it.iter().any(|it| it.id == nobody)), Ok(false));
}
