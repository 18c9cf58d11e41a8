//! What operators see of the groups hosted here: how many there are and what happens to them. No label names a
//! group, so the number of series does not grow with the groups.
//!
//! Owns: the series. Does not own: the counting (`coordinator::Census`, `coordinator::Tally`), when (`owners`).

use std::time::Duration;

use coordinator::{Census, GroupState, Tally};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::owners::Metrics;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

/// Cheap to clone: every clone counts into the same series.
#[derive(Debug, Clone)]
pub(crate) struct GroupMetrics {
    groups: Family<StateLabel, Gauge>,
    members: Gauge,
    rebalances: Counter,
    offsets_committed: Counter,
    offsets_expired: Counter,
    load_seconds: Histogram,
}

impl GroupMetrics {
    pub(crate) fn register(registry: &mut Registry) -> GroupMetrics {
        let metrics = GroupMetrics {
            groups: Family::default(),
            members: Gauge::default(),
            rebalances: Counter::default(),
            offsets_committed: Counter::default(),
            offsets_expired: Counter::default(),
            // 1 ms to 65 s.
            load_seconds: Histogram::new(exponential_buckets(0.001, 4.0, 9)),
        };
        let registry = registry.sub_registry_with_prefix("aquifer_group");
        registry.register("groups", "Groups coordinated here, by state", metrics.groups.clone());
        registry.register("members", "Members of these groups", metrics.members.clone());
        registry.register("rebalances", "Generations begun", metrics.rebalances.clone());
        registry.register(
            "offsets_committed",
            "Offsets that members and tools committed",
            metrics.offsets_committed.clone(),
        );
        registry.register(
            "offsets_expired",
            "Committed offsets forgotten because nobody needed them (offsets.retention.minutes)",
            metrics.offsets_expired.clone(),
        );
        registry.register(
            "load_seconds",
            "Time to load one partition of __consumer_offsets",
            metrics.load_seconds.clone(),
        );
        metrics
    }
}

impl Metrics for GroupMetrics {
    type Census = Census;
    type Tally = Tally;

    fn count(&self, tally: Tally) {
        self.rebalances.inc_by(tally.rebalances);
        self.offsets_committed.inc_by(tally.offsets_committed);
        self.offsets_expired.inc_by(tally.offsets_expired);
    }

    fn loaded(&self, took: Duration) {
        self.load_seconds.observe(took.as_secs_f64());
    }

    fn move_gauges(&self, from: &Census, to: &Census) {
        for (state, before, after) in [
            (GroupState::Empty, from.empty, to.empty),
            (GroupState::PreparingRebalance, from.preparing_rebalance, to.preparing_rebalance),
            (GroupState::CompletingRebalance, from.completing_rebalance, to.completing_rebalance),
            (GroupState::Stable, from.stable, to.stable),
            (GroupState::Assigning, from.assigning, to.assigning),
            (GroupState::Reconciling, from.reconciling, to.reconciling),
        ] {
            let gauge = self.groups.get_or_create(&StateLabel { state: state.name() });
            gauge.inc_by(difference(before, after));
        }
        self.members.inc_by(difference(from.members, to.members));
    }
}

fn difference(from: usize, to: usize) -> i64 {
    to as i64 - from as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::owners::Counted;

    #[test]
    fn shards_add_up_and_leave_nothing_behind() {
        let mut registry = Registry::default();
        let metrics = GroupMetrics::register(&mut registry);
        let stable = || metrics.groups.get_or_create(&StateLabel { state: "Stable" }).get();
        let census = |stable, members| Census { stable, members, ..Census::default() };
        let mut first = Counted::new(metrics.clone(), census(2, 5));
        let second = Counted::new(metrics.clone(), census(1, 1));
        assert_eq!((stable(), metrics.members.get()), (3, 6));
        first.set(census(1, 2));
        assert_eq!((stable(), metrics.members.get()), (2, 3));
        drop(first);
        assert_eq!((stable(), metrics.members.get()), (1, 1));
        drop(second);
        assert_eq!((stable(), metrics.members.get()), (0, 0));
    }
}
