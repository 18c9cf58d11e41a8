//! What outlives processes: the disk, the bucket, time.

use crate::shelf::Shelf;
use crate::swarm::Swarm;
use crate::time::SteppedClock;
use environment::{Clock, Entropy, Environment, SeededEntropy, SimulatedClock, TaskGroup};
use partition_log::volume::MemoryVolume;
use std::sync::Arc;
use std::time::Duration;
use vocabulary::Timestamp;

/// 2026-01-01T00:00:00Z.
const START: Timestamp = Timestamp(1_767_225_600_000);

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) chance: SeededEntropy,
    pub(crate) swarm: Swarm,
    pub(crate) disk: MemoryVolume,
    pub(crate) shelf: Arc<Shelf>,
    /// When the next life starts.
    pub(crate) wall: Timestamp,
    /// How far the metadata's clock is ahead then.
    pub(crate) ahead_ms: i64,
}

impl World {
    pub(crate) fn new(seed: u64) -> World {
        let chance = SeededEntropy::new(seed);
        let swarm = Swarm::draw(&chance);
        let disk = MemoryVolume::new(&Environment::simulated(chance.next_u64()));
        World { seed, chance, swarm, disk, shelf: Arc::default(), wall: START, ahead_ms: 0 }
    }

    /// A new process's surroundings. Call it inside the process's runtime.
    pub(crate) fn environment(&self) -> Environment {
        Environment {
            clock: Arc::new(SimulatedClock::starting_at(self.wall)),
            entropy: Arc::new(SeededEntropy::new(self.chance.next_u64())),
            tasks: TaskGroup::new("life"),
        }
    }

    /// The clock that the metadata goes by, in a process with these surroundings.
    pub(crate) fn metadata_clock(&self, environment: &Environment) -> Arc<SteppedClock> {
        Arc::new(SteppedClock::new(Arc::<dyn Clock>::clone(&environment.clock), self.ahead_ms))
    }

    /// Between two lives.
    pub(crate) fn pass_time(&mut self, ended: Timestamp) {
        let down = match self.chance.below(4) {
            0 => Duration::from_millis(self.chance.below(300_000)),
            _ => Duration::from_millis(self.chance.below(5000)),
        };
        self.wall = Timestamp(ended.0 + down.as_millis() as i64);
    }
}
