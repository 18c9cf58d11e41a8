//! Requests, bytes, errors and latency per purpose: what a bill and a dashboard are made of.

use crate::port::Purpose;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Operation {
    Put,
    Get,
    List,
    Delete,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Operation::Put => "put",
            Operation::Get => "get",
            Operation::List => "list",
            Operation::Delete => "delete",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    purpose: &'static str,
    operation: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ErrorLabels {
    purpose: &'static str,
    operation: &'static str,
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PurposeLabels {
    purpose: &'static str,
}

/// Each try counts as a request, as it does on the store's bill.
#[derive(Debug, Clone)]
pub struct BucketMetrics {
    requests: Family<RequestLabels, Counter>,
    errors: Family<ErrorLabels, Counter>,
    read_bytes: Family<PurposeLabels, Counter>,
    written_bytes: Family<PurposeLabels, Counter>,
    latency: Family<RequestLabels, Histogram>,
}

/// 0.5 ms to 16 s: from a local sync to a store in trouble.
fn latency_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.0005, 2.0, 16))
}

impl BucketMetrics {
    pub(crate) fn new() -> BucketMetrics {
        BucketMetrics {
            requests: Family::default(),
            errors: Family::default(),
            read_bytes: Family::default(),
            written_bytes: Family::default(),
            latency: Family::new_with_constructor(latency_histogram),
        }
    }

    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("bucket");
        registry.register("requests", "Requests to the object store", self.requests.clone());
        registry.register("errors", "Failed requests by kind", self.errors.clone());
        registry.register("read_bytes", "Bytes read from the store", self.read_bytes.clone());
        registry.register("written_bytes", "Bytes sent to the store", self.written_bytes.clone());
        registry.register("request_seconds", "Time to the answer", self.latency.clone());
    }

    pub fn requests(&self, purpose: Purpose) -> u64 {
        [Operation::Put, Operation::Get, Operation::List, Operation::Delete]
            .map(|it| self.requests.get(&request(purpose, it)).map_or(0, |it| it.get()))
            .iter()
            .sum()
    }

    pub fn written_bytes(&self, purpose: Purpose) -> u64 {
        let labels = PurposeLabels { purpose: purpose.name() };
        self.written_bytes.get(&labels).map_or(0, |it| it.get())
    }

    pub fn read_bytes(&self, purpose: Purpose) -> u64 {
        let labels = PurposeLabels { purpose: purpose.name() };
        self.read_bytes.get(&labels).map_or(0, |it| it.get())
    }

    pub(crate) fn answered(&self, purpose: Purpose, operation: Operation, took: Duration) {
        let labels = request(purpose, operation);
        self.requests.get_or_create(&labels).inc();
        self.latency.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// A request whose answer comes bit by bit, so that it has no latency of its own.
    pub(crate) fn counted(&self, purpose: Purpose, operation: Operation) {
        self.requests.get_or_create(&request(purpose, operation)).inc();
    }

    pub(crate) fn failed(&self, purpose: Purpose, operation: Operation, kind: &'static str) {
        let (purpose, operation) = (purpose.name(), operation.name());
        self.errors.get_or_create(&ErrorLabels { purpose, operation, kind }).inc();
    }

    pub(crate) fn read(&self, purpose: Purpose, bytes: u64) {
        let labels = PurposeLabels { purpose: purpose.name() };
        self.read_bytes.get_or_create(&labels).inc_by(bytes);
    }

    pub(crate) fn wrote(&self, purpose: Purpose, bytes: u64) {
        let labels = PurposeLabels { purpose: purpose.name() };
        self.written_bytes.get_or_create(&labels).inc_by(bytes);
    }
}

fn request(purpose: Purpose, operation: Operation) -> RequestLabels {
    RequestLabels { purpose: purpose.name(), operation: operation.name() }
}
