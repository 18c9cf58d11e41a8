//! Whether changes of the metadata get through, for readiness checks and operators.
//!
//! Owns: since when they do not, and why; the signal that another process has taken over.
//! Does not own: retries (`controller`), opening the database anew (`store`).

use environment::{Clock, StopToken};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use vocabulary::Tick;

/// A commit that takes longer is told: the bucket client goes on trying by itself and says nothing.
const COMMIT_MAX: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ControllerHealth {
    Healthy,
    /// Changes are tried again and again, and are not answered meanwhile.
    Failing {
        since: Tick,
        reason: String,
    },
    /// Another process has opened the metadata; this one never changes it again.
    Fenced {
        since: Tick,
    },
}

impl ControllerHealth {
    /// Why the metadata cannot be changed now, for an operator; `None` while it can.
    pub fn problem(&self) -> Option<String> {
        match self {
            ControllerHealth::Healthy => None,
            ControllerHealth::Failing { reason, .. } => Some(format!(
                "the metadata cannot be changed: {reason}. Produce and fetch go on with what is \
                 known, changes wait and nothing is lost. Can this machine reach the bucket and \
                 write below its meta/?"
            )),
            ControllerHealth::Fenced { .. } => Some(
                "fenced: another process has opened the metadata. What was acknowledged is safe. \
                 Is a second broker running on this bucket? Stop one of them, then restart the other"
                    .to_owned(),
            ),
        }
    }
}

/// What the tasks report to. Shared by all handles of one controller.
pub(super) struct Vitals {
    clock: Arc<dyn Clock>,
    fenced: StopToken,
    /// Leaf lock around a few fields.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When the commit under way was begun.
    committing: Option<Tick>,
    failing: Option<(Tick, String)>,
    fenced: Option<Tick>,
}

impl Vitals {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Vitals {
        Vitals { clock, fenced: StopToken::new(), state: Mutex::default() }
    }

    pub(super) fn health(&self) -> ControllerHealth {
        let now = self.clock.now();
        let state = self.state();
        if let Some(since) = state.fenced {
            return ControllerHealth::Fenced { since };
        }
        if let Some((since, reason)) = &state.failing {
            return ControllerHealth::Failing { since: *since, reason: reason.clone() };
        }
        match state.committing {
            Some(since) if since.plus(COMMIT_MAX) <= now => ControllerHealth::Failing {
                since,
                reason: format!("the bucket has not answered a commit within {COMMIT_MAX:?}"),
            },
            _ => ControllerHealth::Healthy,
        }
    }

    /// Stops when another process has taken over.
    pub(super) fn fenced_token(&self) -> StopToken {
        self.fenced.child()
    }

    pub(super) fn commit_begins(&self) {
        self.state().committing = Some(self.clock.now());
    }

    /// The store has answered as it should.
    pub(super) fn is_well(&self) {
        let mut state = self.state();
        state.committing = None;
        state.failing = None;
    }

    pub(super) fn is_failing(&self, error: &dyn fmt::Display) {
        let now = self.clock.now();
        let mut state = self.state();
        let since = state.failing.as_ref().map(|it| it.0).or(state.committing).unwrap_or(now);
        state.failing = Some((since, error.to_string()));
    }

    pub(super) fn is_fenced(&self) {
        let now = self.clock.now();
        self.state().fenced.get_or_insert(now);
        self.fenced.stop();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this leaf lock panics: it only assigns")
    }
}

impl fmt::Debug for Vitals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vitals").field("state", &self.state).finish_non_exhaustive()
    }
}
