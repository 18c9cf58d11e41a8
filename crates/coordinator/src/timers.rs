//! The deadlines of all groups of a shard, earliest first.
//!
//! Owns: the order. Does not own: what a deadline means, or whether it is still wanted: the group
//! keeps each deadline too and cancels it here when it changes (G6).

use std::collections::BTreeSet;
use std::sync::Arc;

use vocabulary::Tick;

/// What becomes due. The order among equal ticks is the order of this list, then of ids, so that a
/// run with the same inputs has the same outputs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Alarm {
    /// The join phase of the group ends.
    Join(Arc<str>),
    /// Members that have not asked for their assignment are removed.
    Sync(Arc<str>),
    /// The session of a member, or of a pending member, ends.
    Session(Arc<str>, Arc<str>),
    /// A member of a consumer group has not done in time what others wait for.
    Patience(Arc<str>, Arc<str>),
}

#[derive(Debug, Default)]
pub(crate) struct Timers {
    queue: BTreeSet<(Tick, Alarm)>,
}

impl Timers {
    pub(crate) fn set(&mut self, at: Tick, alarm: Alarm) {
        self.queue.insert((at, alarm));
    }

    pub(crate) fn cancel(&mut self, at: Tick, alarm: Alarm) {
        let was_set = self.queue.remove(&(at, alarm));
        debug_assert!(was_set, "G6: a cancelled alarm was set");
    }

    pub(crate) fn earliest(&self) -> Option<Tick> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// The next alarm that is due at `now`, removed from the queue.
    pub(crate) fn pop_due(&mut self, now: Tick) -> Option<Alarm> {
        if self.earliest()? <= now { self.queue.pop_first().map(|(_, alarm)| alarm) } else { None }
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn contains(&self, at: Tick, alarm: Alarm) -> bool {
        self.queue.contains(&(at, alarm))
    }
}
