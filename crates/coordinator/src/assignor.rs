//! Which member of a consumer group is to own which partition (KIP-848).
//!
//! Owns: the two assignors Kafka's broker has, by their names. Does not own: when an assignment is
//! computed, or how a group gets from one to the next. Both are unaware of racks.
//!
//! Whatever goes in, no partition comes out twice, none goes to a member that does not subscribe to
//! its topic, and every partition somebody subscribes to has an owner.

mod range;
mod uniform;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use vocabulary::TopicId;

use crate::event::Partitions;

/// `group.consumer.assignors`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Assignor {
    /// Balanced over all topics; members keep what they had as far as that allows.
    Uniform,
    /// Each topic cut into ranges, one a member: partitions of the same number meet.
    Range,
}

impl Assignor {
    pub fn name(self) -> &'static str {
        match self {
            Assignor::Uniform => "uniform",
            Assignor::Range => "range",
        }
    }

    pub fn from_name(name: &str) -> Option<Assignor> {
        [Assignor::Uniform, Assignor::Range].into_iter().find(|it| it.name() == name)
    }
}

/// A member as an assignor sees it.
#[derive(Debug, Clone)]
pub(crate) struct Subscriber<'a> {
    pub(crate) id: &'a Arc<str>,
    pub(crate) instance: Option<&'a str>,
    /// Topics that exist.
    pub(crate) topics: BTreeSet<TopicId>,
    /// What it was to own before.
    pub(crate) before: Option<&'a Partitions>,
}

/// What each member is to own, in the order of the members. `topics` has the number of partitions of
/// every topic that somebody subscribes to.
pub(crate) fn assign(
    assignor: Assignor,
    topics: &BTreeMap<TopicId, i32>,
    members: &[Subscriber<'_>],
) -> Vec<Partitions> {
    match assignor {
        Assignor::Uniform => uniform::assign(topics, members),
        Assignor::Range => range::assign(topics, members),
    }
}

#[cfg(test)]
mod tests;
