//! What a process takes from its surroundings: time, chance and tasks, as values that are passed in.
//!
//! Every other room gets an [`Environment`] as an argument, so that what ships is what is simulated:
//! only the argument differs. This room is the one place that may read the machine's clocks, ask the
//! system for randomness or put a future on the runtime; the workspace lints forbid it elsewhere.
//!
//! Deliberately absent: any word of the domain. Nothing here knows what a broker or a bucket is.
//!
//! # Map
//!
//! - `clock`: monotonic ticks, wall time and waiting; the system's and a simulated one.
//! - `entropy`: random bytes; the system's and a seeded one.
//! - `tasks`: groups of named tasks with a policy for panics and a staged shutdown.

mod clock;
mod entropy;
mod tasks;

pub use clock::{Clock, SimulatedClock, SystemClock};
pub use entropy::{Entropy, SeededEntropy, SystemEntropy};
pub use tasks::{GateGuard, StopToken, TaskEnd, TaskFailure, TaskGroup, TaskHandle, TaskKind};

use std::sync::Arc;
use vocabulary::Timestamp;

/// Time, chance and tasks of one process, or of one simulated process. Clones share all three.
#[derive(Debug, Clone)]
pub struct Environment {
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    pub tasks: TaskGroup,
}

/// The wall time at which simulated processes start: 2026-01-01T00:00:00Z.
const SIMULATED_START: Timestamp = Timestamp(1_767_225_600_000);

impl Environment {
    /// The real machine's. Ticks count from this call, so a process makes one and shares it.
    pub fn system() -> Environment {
        Environment {
            clock: Arc::new(SystemClock::new()),
            entropy: Arc::new(SystemEntropy),
            tasks: TaskGroup::new("aquifer"),
        }
    }

    /// Same seed, same run, given a single-threaded runtime whose time is paused. Call it inside
    /// that runtime: ticks count from this call.
    pub fn simulated(seed: u64) -> Environment {
        Environment {
            clock: Arc::new(SimulatedClock::starting_at(SIMULATED_START)),
            entropy: Arc::new(SeededEntropy::new(seed)),
            tasks: TaskGroup::new("simulated"),
        }
    }

    /// The same clock and chance with a task group of its own below this one.
    pub fn child(&self, name: &'static str) -> Environment {
        Environment { tasks: self.tasks.child(name), ..self.clone() }
    }
}
