//! What operators see of share groups. No label names a group, so the number of series does not grow with them.

use std::time::Duration;

use coordinator::share::ShareTally;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::owners::Metrics;

/// Cheap to clone: every clone counts into the same series.
#[derive(Debug, Clone)]
pub(crate) struct ShareMetrics {
    partitions: Gauge,
    acquired: Counter,
    expired: Counter,
    load_seconds: Histogram,
}

impl ShareMetrics {
    pub(crate) fn register(registry: &mut Registry) -> ShareMetrics {
        let metrics = ShareMetrics {
            partitions: Gauge::default(),
            acquired: Counter::default(),
            expired: Counter::default(),
            // 1 ms to 65 s.
            load_seconds: Histogram::new(exponential_buckets(0.001, 4.0, 9)),
        };
        let registry = registry.sub_registry_with_prefix("aquifer_share");
        registry.register(
            "partitions",
            "Share-partitions whose state is kept here",
            metrics.partitions.clone(),
        );
        registry.register(
            "records_acquired",
            "Records delivered to members of share groups, each delivery counted",
            metrics.acquired.clone(),
        );
        registry.register(
            "locks_expired",
            "Times that locks of a share-partition ran out before they were acknowledged",
            metrics.expired.clone(),
        );
        registry.register(
            "load_seconds",
            "Time to load one partition of __share_group_state",
            metrics.load_seconds.clone(),
        );
        metrics
    }
}

impl Metrics for ShareMetrics {
    /// Share-partitions.
    type Census = usize;
    type Tally = ShareTally;

    fn count(&self, tally: ShareTally) {
        let ShareTally { acquired, expired } = tally;
        self.acquired.inc_by(acquired);
        self.expired.inc_by(expired);
    }

    fn loaded(&self, took: Duration) {
        self.load_seconds.observe(took.as_secs_f64());
    }

    fn move_gauges(&self, from: &usize, to: &usize) {
        self.partitions.inc_by(*to as i64 - *from as i64);
    }
}
