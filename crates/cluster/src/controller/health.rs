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
    /// Since when the database is not open, and why it could not be opened anew. Not the commit's: that may still wait
    /// when the database is open again.
    closed: Option<(Tick, Option<String>)>,
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
        let lasts = |since: Tick| since.plus(COMMIT_MAX) <= now;
        match (&state.closed, state.committing) {
            (Some((since, Some(reason))), _) => {
                ControllerHealth::Failing { since: *since, reason: reason.clone() }
            }
            (_, Some(since)) if lasts(since) => ControllerHealth::Failing {
                since,
                reason: format!("the bucket has not answered a commit within {COMMIT_MAX:?}"),
            },
            (Some((since, None)), _) if lasts(*since) => ControllerHealth::Failing {
                since: *since,
                reason: format!("the bucket has not answered an opening within {COMMIT_MAX:?}"),
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

    /// The commit under way is durable.
    pub(super) fn is_well(&self) {
        let mut state = self.state();
        state.committing = None;
        state.failing = None;
    }

    /// The database has ended itself, and could not be opened anew for that reason if it was tried.
    pub(super) fn database_closed(&self, error: Option<&dyn fmt::Display>) {
        let now = self.clock.now();
        let mut state = self.state();
        let (since, before) = state.closed.take().unwrap_or((now, None));
        state.closed = Some((since, error.map(ToString::to_string).or(before)));
    }

    /// The database is open again. What waits for it may go on waiting for the bucket.
    pub(super) fn database_opened(&self) {
        self.state().closed = None;
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

#[cfg(test)]
mod tests {
    use super::*;
    use environment::Environment;

    fn since(vitals: &Vitals) -> Option<(u64, String)> {
        match vitals.health() {
            ControllerHealth::Healthy => None,
            ControllerHealth::Failing { since, reason } => {
                Some((since.since(Tick(0)).as_secs(), reason))
            }
            ControllerHealth::Fenced { since } => {
                Some((since.since(Tick(0)).as_secs(), "fenced".into()))
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_database_that_is_open_again_says_nothing_of_the_commit_that_waits() {
        let clock = Environment::simulated(1).clock;
        let vitals = Vitals::new(Arc::clone(&clock));
        let began = clock.now().since(Tick(0)).as_secs();
        vitals.commit_begins();
        vitals.database_closed(None);
        clock.sleep(Duration::from_secs(3)).await;
        assert_eq!(since(&vitals), None, "it may take a while");
        vitals.database_opened();
        clock.sleep(Duration::from_secs(7)).await;
        let told = since(&vitals).expect("the commit hangs");
        assert_eq!(told.0, began);
        assert!(told.1.contains("a commit"), "{told:?}");
        vitals.is_failing(&"no");
        vitals.database_opened();
        assert_eq!(since(&vitals), Some((began, "no".to_owned())));
        vitals.is_well();
        assert_eq!(since(&vitals), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_database_that_stays_closed_is_told_whatever_becomes_of_commits() {
        let clock = Environment::simulated(1).clock;
        let vitals = Vitals::new(Arc::clone(&clock));
        let began = clock.now().since(Tick(0)).as_secs();
        vitals.database_closed(None);
        vitals.is_well();
        clock.sleep(COMMIT_MAX).await;
        let told = since(&vitals).expect("the opening hangs");
        assert_eq!(told.0, began);
        assert!(told.1.contains("an opening"), "{told:?}");
        vitals.database_closed(Some(&"no"));
        vitals.database_closed(None);
        assert_eq!(since(&vitals), Some((began, "no".to_owned())));
        vitals.database_opened();
        assert_eq!(since(&vitals), None);
        vitals.database_closed(Some(&"not again"));
        assert_eq!(since(&vitals), Some((began + 10, "not again".to_owned())), "at once");
        vitals.is_fenced();
        assert_eq!(since(&vitals).expect("for ever").1, "fenced");
    }
}
