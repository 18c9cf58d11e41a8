//! Counting for operators. Nothing here decides anything.

use crate::command::GroupState;
use crate::shard::Shard;

/// What is there at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Census {
    /// Groups by state; those that only ever committed offsets are empty.
    pub empty: usize,
    pub preparing_rebalance: usize,
    pub completing_rebalance: usize,
    pub stable: usize,
    /// Consumer groups without a target assignment of their epoch.
    pub assigning: usize,
    /// Consumer groups with members on their way to the target assignment.
    pub reconciling: usize,
    /// Members of all groups.
    pub members: usize,
}

/// What has happened, to be added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Generations begun.
    pub rebalances: u64,
    pub offsets_committed: u64,
    /// Forgotten because nobody needed them for the retention.
    pub offsets_expired: u64,
}

impl Shard {
    /// Visits every group: not for each step.
    pub fn census(&self) -> Census {
        let mut census = Census::default();
        for group in self.groups.values() {
            census.members += group.member_count();
            match group.state() {
                GroupState::Empty | GroupState::Dead => census.empty += 1,
                GroupState::PreparingRebalance => census.preparing_rebalance += 1,
                GroupState::CompletingRebalance => census.completing_rebalance += 1,
                GroupState::Stable => census.stable += 1,
                GroupState::Assigning => census.assigning += 1,
                GroupState::Reconciling => census.reconciling += 1,
            }
        }
        let simple = self.offsets.groups().filter(|it| !self.groups.contains_key(it.as_str()));
        census.empty += simple.count();
        census
    }
}
