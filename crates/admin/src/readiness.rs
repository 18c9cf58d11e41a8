//! How far the process is: starting, serving, stopping; and why it is not ready.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// Asked on every look at a serving process: why it cannot serve right now, if so.
pub type Probe = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// Where the process stands.
#[derive(Clone)]
pub enum Stage {
    /// Not serving yet; what it is doing.
    Starting(&'static str),
    /// Listeners are open. Ready unless the probe says otherwise.
    Serving(Probe),
    /// Not serving any more.
    Stopping,
}

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stage::Starting(step) => f.debug_tuple("Starting").field(step).finish(),
            Stage::Serving(_) => f.write_str("Serving"),
            Stage::Stopping => f.write_str("Stopping"),
        }
    }
}

/// Told by the binary, read by the pages. Clones share it.
#[derive(Debug, Clone)]
pub struct Readiness {
    /// A leaf lock, held to copy or replace the stage and never across an await.
    stage: Arc<Mutex<Stage>>,
}

impl Readiness {
    pub fn starting(step: &'static str) -> Readiness {
        Readiness { stage: Arc::new(Mutex::new(Stage::Starting(step))) }
    }

    pub fn enter(&self, stage: Stage) {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner) = stage;
    }

    /// Why the process is not ready; `None` when it is.
    pub fn problem(&self) -> Option<String> {
        // The probe is asked outside the lock: it is not ours.
        let stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match stage {
            Stage::Starting(step) => Some(format!("starting: {step}")),
            Stage::Serving(probe) => probe(),
            Stage::Stopping => Some("stopping".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_ready_while_it_serves_without_a_problem() {
        let readiness = Readiness::starting("reading the WAL");
        assert_eq!(readiness.problem().as_deref(), Some("starting: reading the WAL"));
        readiness.enter(Stage::Serving(Arc::new(|| None)));
        assert_eq!(readiness.problem(), None);
        readiness.enter(Stage::Serving(Arc::new(|| Some("disk full".to_owned()))));
        assert_eq!(readiness.problem().as_deref(), Some("disk full"));
        readiness.enter(Stage::Stopping);
        assert_eq!(readiness.problem().as_deref(), Some("stopping"));
    }
}
