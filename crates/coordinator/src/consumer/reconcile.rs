//! One member's next step from what it owns to what it is to own (KIP-848, "Member Assignment
//! Reconciliation"). A pure function.
//!
//! The order is what makes it safe: a member first gives up what is not its any more, and only once
//! it has said so does its epoch move; a partition is given to it only when nobody else has it.

use std::collections::BTreeMap;

use vocabulary::TopicId;

use crate::event::{Current, MemberState, OwnedPartitions, Partitions};

/// What a step depends on.
pub(crate) struct Reconciliation<'a> {
    pub(crate) target_epoch: i32,
    pub(crate) target: &'a Partitions,
    /// The member's subscription has just changed: its target may have shrunk within an epoch.
    pub(crate) is_resubscribed: bool,
    /// What the member says it owns; `None` when it does not say.
    pub(crate) owned: Option<&'a Partitions>,
}

impl Reconciliation<'_> {
    /// `is_free` tells of a partition that no member owns, this one included.
    pub(crate) fn next(
        &self,
        current: &Current,
        is_free: impl Fn(TopicId, i32) -> bool,
    ) -> Current {
        match current.state {
            MemberState::Stable if current.epoch == self.target_epoch && !self.is_resubscribed => {
                current.clone()
            }
            MemberState::Stable | MemberState::UnreleasedPartitions => {
                self.towards_target(current, current.epoch, is_free)
            }
            MemberState::UnrevokedPartitions if self.still_owns(&current.revoking) => {
                current.clone()
            }
            // It has given up what it had to: the next epoch, which is no further than the target's.
            MemberState::UnrevokedPartitions => {
                let epoch = (current.epoch + 1).min(self.target_epoch);
                self.towards_target(current, epoch, is_free)
            }
        }
    }

    fn towards_target(
        &self,
        current: &Current,
        epoch: i32,
        is_free: impl Fn(TopicId, i32) -> bool,
    ) -> Current {
        let wanted = |topic: &TopicId, index: i32| {
            self.target.get(topic).is_some_and(|them| them.contains(&index))
        };
        let (mut assigned, revoking) = split(&current.assigned, wanted);
        if !revoking.is_empty() && self.still_owns(&revoking) {
            let state = MemberState::UnrevokedPartitions;
            return moved(current, epoch, state, assigned, revoking);
        }
        let mut waits = false;
        for (topic, partitions) in self.target {
            for index in partitions {
                let has = assigned.get(topic).is_some_and(|it| it.contains_key(index));
                // What the member has just given up counts as free only from its next step on.
                if !has && is_free(*topic, *index) {
                    assigned.entry(*topic).or_default().insert(*index, self.target_epoch);
                } else if !has {
                    waits = true;
                }
            }
        }
        let state = if waits { MemberState::UnreleasedPartitions } else { MemberState::Stable };
        moved(current, self.target_epoch, state, assigned, OwnedPartitions::new())
    }

    /// A member that does not say is taken to own them still.
    fn still_owns(&self, partitions: &OwnedPartitions) -> bool {
        let Some(owned) = self.owned else { return true };
        partitions.iter().any(|(topic, them)| {
            owned.get(topic).is_some_and(|it| them.keys().any(|index| it.contains(index)))
        })
    }
}

fn moved(
    before: &Current,
    epoch: i32,
    state: MemberState,
    assigned: OwnedPartitions,
    revoking: OwnedPartitions,
) -> Current {
    let is_same = epoch == before.epoch;
    let previous_epoch = if is_same { before.previous_epoch } else { before.epoch };
    Current { epoch, previous_epoch, state, assigned, revoking }
}

/// What passes and what does not.
fn split(
    partitions: &OwnedPartitions,
    passes: impl Fn(&TopicId, i32) -> bool,
) -> (OwnedPartitions, OwnedPartitions) {
    let (mut kept, mut others) = (OwnedPartitions::new(), OwnedPartitions::new());
    for (topic, them) in partitions {
        let (passing, rest): (BTreeMap<i32, i32>, BTreeMap<i32, i32>) =
            them.iter().partition(|(index, _)| passes(topic, **index));
        for (part, into) in [(passing, &mut kept), (rest, &mut others)] {
            if !part.is_empty() {
                into.insert(*topic, part);
            }
        }
    }
    (kept, others)
}
