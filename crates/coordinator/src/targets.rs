//! Target assignments on their way into the log: alike for all groups whose coordinator assigns.
//!
//! Owns: when there is a new target, what of it is new, in which units it is stored. Does not own: who is assigned
//! what, and what becomes of it.
//!
//! A target that is large is stored in several units, the epoch with the last of them: an unfinished target has the
//! epoch before, and is computed again.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::event::{ConsumerFact, Event, Partitions, ShareFact, TargetEpoch};
use crate::format;
use crate::shard::Turn;

/// A fact that consumer and share groups have in common.
pub(crate) enum TargetFact {
    Target { member: String, partitions: Partitions },
    Epoch(TargetEpoch),
}

impl From<TargetFact> for ConsumerFact {
    fn from(fact: TargetFact) -> ConsumerFact {
        match fact {
            TargetFact::Target { member, partitions } => {
                ConsumerFact::Target { member, partitions: Some(partitions) }
            }
            TargetFact::Epoch(epoch) => ConsumerFact::TargetEpoch(Some(epoch)),
        }
    }
}

impl From<TargetFact> for ShareFact {
    fn from(fact: TargetFact) -> ShareFact {
        match fact {
            TargetFact::Target { member, partitions } => {
                ShareFact::Target { member, partitions: Some(partitions) }
            }
            TargetFact::Epoch(epoch) => ShareFact::TargetEpoch(Some(epoch)),
        }
    }
}

/// Whether there is to be a new target: the epoch is newer than that of the last one, which is not too recent.
pub(crate) fn is_due(turn: &Turn<'_>, last: TargetEpoch, epoch: i32, interval_ms: i32) -> bool {
    let age_ms = turn.now.wall.0.saturating_sub(last.timestamp);
    last.epoch < epoch && !(0..i64::from(interval_ms)).contains(&age_ms)
}

/// What of the assignment, given in the order of the members, is not the target already.
pub(crate) fn changed<'a>(
    members: impl Iterator<Item = &'a Arc<str>>,
    assigned: Vec<Partitions>,
    targets: &BTreeMap<Arc<str>, Partitions>,
) -> Vec<(Arc<str>, Partitions)> {
    let is_changed =
        |(id, partitions): &(Arc<str>, Partitions)| targets.get(id) != Some(partitions);
    members.cloned().zip(assigned).filter(is_changed).collect()
}

/// Has the group decide on its targets as of `epoch`, in units of about half a step at most.
pub(crate) fn store(
    turn: &mut Turn<'_>,
    changed: Vec<(Arc<str>, Partitions)>,
    epoch: i32,
    mut decide: impl FnMut(&mut Vec<Event>, TargetFact),
) {
    let mut unit = Vec::new();
    let mut unit_bytes = 0;
    for (member, partitions) in changed {
        decide(&mut unit, TargetFact::Target { member: member.to_string(), partitions });
        unit_bytes += unit.last().map_or(0, format::encoded_len);
        if turn.options.step_bytes_max / 2 < unit_bytes {
            turn.emit_unit(std::mem::take(&mut unit));
            unit_bytes = 0;
        }
    }
    let timestamp = turn.now.wall.0;
    decide(&mut unit, TargetFact::Epoch(TargetEpoch { epoch, timestamp }));
    turn.emit_unit(unit);
    turn.count_rebalance();
}
