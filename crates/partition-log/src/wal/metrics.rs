//! What the group committer counts.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Clones count together.
#[derive(Debug, Clone)]
pub struct WalMetrics {
    pub groups: Counter,
    pub batches: Counter,
    /// Of segments, index and framing included.
    pub bytes: Counter,
    /// Of segments being written.
    pub in_flight_bytes: Gauge,
    /// From the start of a group's write to its acknowledgement, retries included.
    pub write_seconds: Histogram,
}

impl WalMetrics {
    pub(super) fn new() -> WalMetrics {
        WalMetrics {
            groups: Counter::default(),
            batches: Counter::default(),
            bytes: Counter::default(),
            in_flight_bytes: Gauge::default(),
            // 50 us to 26 s: from a fast local disk to a bucket in trouble.
            write_seconds: Histogram::new(exponential_buckets(0.000_05, 2.0, 20)),
        }
    }

    /// Adds them under their names, relative to the registry's prefix.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("wal_groups", "Group commits that became durable", self.groups.clone());
        registry.register("wal_batches", "Record batches made durable", self.batches.clone());
        registry.register("wal_bytes", "Bytes of durable WAL segments", self.bytes.clone());
        let (name, help) = ("wal_in_flight_bytes", "Bytes of WAL segments being written");
        registry.register(name, help, self.in_flight_bytes.clone());
        let (name, help) =
            ("wal_write_seconds", "Time from the start of a WAL write to its acknowledgement");
        registry.register(name, help, self.write_seconds.clone());
    }
}
