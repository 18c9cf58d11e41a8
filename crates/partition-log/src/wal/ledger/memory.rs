//! The memory twin of the ledger: for tests and simulations of this room and of those above it.
//!
//! Owns: the promises of the port, kept in a map. Does not own: durability; it survives what the
//! simulation lets it survive by being shared between lives.
//!
//! Outcomes can be made unknown, as with [`crate::run_index::MemoryRunIndex`].

use super::{WalId, WalKind, WalLedger, WalRecord};
use crate::run_index::RunIndexError;
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use vocabulary::BrokerId;

/// Every log, behind one lock, which no call holds across an await.
#[derive(Debug, Default)]
pub struct MemoryWalLedger {
    /// A leaf lock: every operation is a few map steps and calls nothing else.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    logs: BTreeMap<WalId, WalRecord>,
    answers_to_lose: usize,
    calls_to_refuse: usize,
}

impl MemoryWalLedger {
    pub fn new() -> MemoryWalLedger {
        MemoryWalLedger::default()
    }

    /// As when a broker registers: its new log is open. A log on a volume goes on under the new
    /// epoch, also that of a broker in `takes_over`; logs in the bucket stay until they are closed.
    pub fn register(&self, id: WalId, kind: WalKind, takes_over: &[BrokerId]) {
        let mut state = self.state();
        if kind == WalKind::File {
            let continues = |it: &WalId| it.broker == id.broker || takes_over.contains(&it.broker);
            state.logs.retain(|it, record| {
                record.kind != WalKind::File || record.fence.is_some() || !continues(it)
            });
        }
        state.logs.insert(id, WalRecord { id, kind, trimmed: 0, fence: None });
    }

    /// The next `count` changes happen, but their callers are told that nobody answered.
    pub fn lose_answers(&self, count: usize) {
        self.state().answers_to_lose = count;
    }

    /// The next `count` calls do nothing but fail.
    pub fn refuse_calls(&self, count: usize) {
        self.state().calls_to_refuse = count;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this leaf lock panics: map operations only")
    }

    /// The lock, unless the test wants this call to fail.
    fn call(&self) -> Result<MutexGuard<'_, State>, RunIndexError> {
        let mut state = self.state();
        if state.calls_to_refuse == 0 {
            return Ok(state);
        }
        state.calls_to_refuse -= 1;
        Err(RunIndexError::Unavailable { reason: "the test refuses this call".into() })
    }
}

impl State {
    fn answer(&mut self) -> Result<(), RunIndexError> {
        if self.answers_to_lose == 0 {
            return Ok(());
        }
        self.answers_to_lose -= 1;
        Err(RunIndexError::Unavailable { reason: "the test loses this answer".into() })
    }

    /// A log that is not known was taken over: whoever asks is fenced.
    fn log(&mut self, id: WalId) -> Result<&mut WalRecord, RunIndexError> {
        self.logs.get_mut(&id).ok_or(RunIndexError::Fenced)
    }
}

#[async_trait]
impl WalLedger for MemoryWalLedger {
    async fn logs(&self) -> Result<Vec<WalRecord>, RunIndexError> {
        Ok(self.call()?.logs.values().copied().collect())
    }

    async fn trimmed(&self, id: WalId, before: u64) -> Result<(), RunIndexError> {
        let mut state = self.call()?;
        let is_stale = state.logs.keys().any(|it| it.broker == id.broker && id.epoch < it.epoch);
        let log = state.log(id)?;
        if is_stale || log.fence.is_some() {
            return Err(RunIndexError::Fenced);
        }
        log.trimmed = log.trimmed.max(before);
        state.answer()
    }

    async fn closed(&self, id: WalId, fence: u64) -> Result<(), RunIndexError> {
        let mut state = self.call()?;
        let log = state.log(id)?;
        let ends = *log.fence.get_or_insert(fence);
        if ends != fence {
            let reason = format!("A4: the log ends at {ends} for ever, not at {fence}");
            return Err(RunIndexError::Unavailable { reason });
        }
        log.trimmed = log.trimmed.min(fence);
        state.answer()
    }
}
