//! The search for offsets that nobody has needed for longer than the retention, and for groups
//! that are left with nothing.
//!
//! It visits a bounded number of groups a step, so that no request waits for all of them.

use std::time::Duration;

use vocabulary::Tick;

use crate::event::{CommittedOffset, Event};
use crate::group::{AgeBase, Group};
use crate::options::GroupOptions;
use crate::shard::{Now, Outputs, Shard};

/// Groups visited in one step.
const SWEEP_GROUPS_MAX: usize = 256;

/// Where the search stands.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    next_at: Option<Tick>,
    /// The last group of the round in progress that was visited.
    visited: Option<String>,
}

impl Sweep {
    pub(super) fn wake_at(&self) -> Option<Tick> {
        self.next_at
    }

    pub(super) fn schedule(&mut self, now: Now, options: &GroupOptions) {
        let wait_ms = u64::try_from(options.offsets_retention_check_interval_ms).unwrap_or(0);
        self.next_at = Some(now.tick.plus(Duration::from_millis(wait_ms.max(1))));
        self.visited = None;
    }
}

impl Shard {
    pub(super) fn sweep_expired(&mut self, now: Now, outputs: &mut Outputs) {
        if self.sweep.next_at.is_none_or(|at| now.tick < at) {
            return;
        }
        for _ in 0..SWEEP_GROUPS_MAX {
            let Some(id) = self.group_after(self.sweep.visited.as_deref()) else {
                return self.sweep.schedule(now, &self.options);
            };
            self.expire_group(now, &id, outputs);
            self.sweep.visited = Some(id);
        }
        self.sweep.next_at = Some(now.tick); // Again at once, after what else is waiting.
    }

    /// The first group after `after`, with or without members.
    fn group_after(&self, after: Option<&str>) -> Option<String> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        let joined = self.groups.range::<str, _>((from, Unbounded)).next().map(|(id, _)| &**id);
        let simple = self.offsets.group_after(after).map(String::as_str);
        joined.into_iter().chain(simple).min().map(str::to_owned)
    }

    fn expire_group(&self, now: Now, id: &str, outputs: &mut Outputs) {
        let group = self.groups.get(id);
        // A group nobody has joined is a simple one: its offsets age from their commit on.
        let base = group.map_or(Some(AgeBase::Commit), Group::offset_age_base);
        // One that waits for its transaction is in use, and so is the one that it is to replace.
        let mut all_expired = !self.pending.contains_group(id);
        for (key, value) in self.offsets.of_group(id) {
            let wanted = group.is_some_and(|it| it.is_subscribed(&key.topic));
            let expired = base.is_some_and(|base| self.is_expired(now, value, base));
            if expired && !wanted && !self.pending.contains(&key) {
                outputs.units.push(vec![Event::OffsetForgotten { key }]);
                outputs.tally.offsets_expired += 1;
            } else {
                all_expired = false;
            }
        }
        if all_expired && group.is_some_and(Group::goes_when_idle) {
            self.forget(id, outputs);
        }
    }

    fn is_expired(&self, now: Now, value: &CommittedOffset, base: AgeBase) -> bool {
        let since = match base {
            AgeBase::Commit => value.commit_timestamp,
            AgeBase::At(since) => since.0,
        };
        match value.expire_timestamp {
            Some(at) => at <= now.wall.0,
            None => self.options.offsets_retention_ms <= now.wall.0.saturating_sub(since),
        }
    }
}
