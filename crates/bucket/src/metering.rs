//! Requests, bytes, errors and latency per purpose: what a bill and a dashboard are made of.
//!
//! A request is one that a store bills: each try, each part of an upload, each page of a listing.
//! Tries inside a client that retries by itself (uploads, the metadata database) are seen only as
//! HTTP answers, which are counted per client.

use crate::port::Purpose;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::time::Duration;

/// What kind of request, as bills tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// Also the parts, the beginning and the end of a multipart upload, and copies.
    Put,
    /// Also requests for an object's head.
    Get,
    List,
    Delete,
}

impl Operation {
    pub const ALL: [Operation; 4] =
        [Operation::Put, Operation::Get, Operation::List, Operation::Delete];

    /// The metric label.
    pub fn name(self) -> &'static str {
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

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResponseLabels {
    client: &'static str,
    status: &'static str,
}

/// Keys in one page of a listing, as S3 and Google Cloud Storage have it.
pub(crate) const LIST_PAGE_KEYS: u64 = 1000;

/// The label of errors that ask to slow down.
const THROTTLED: &str = "throttled";

/// The labels of errors, as [`crate::BucketError::kind`] gives them.
const KINDS: [&str; 6] =
    ["not_found", "out_of_range", THROTTLED, "timeout", "unavailable", "refused"];

/// What one purpose cost so far, by operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    pub purpose: Purpose,
    pub operation: Operation,
    pub requests: u64,
    /// Bytes of bodies that came; only of `Get`.
    pub read_bytes: u64,
    /// Bytes of bodies that were sent and taken; only of `Put`.
    pub written_bytes: u64,
    /// Failed requests of every kind, throttled ones too.
    pub errors: u64,
    pub throttled: u64,
}

/// Each try counts as a request, as it does on the store's bill.
#[derive(Debug, Clone)]
pub struct BucketMetrics {
    requests: Family<RequestLabels, Counter>,
    errors: Family<ErrorLabels, Counter>,
    read_bytes: Family<PurposeLabels, Counter>,
    written_bytes: Family<PurposeLabels, Counter>,
    latency: Family<RequestLabels, Histogram>,
    responses: Family<ResponseLabels, Counter>,
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
            responses: Family::default(),
        }
    }

    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("bucket");
        registry.register("requests", "Requests to the object store", self.requests.clone());
        registry.register("errors", "Failed requests by kind", self.errors.clone());
        registry.register("read_bytes", "Bytes read from the store", self.read_bytes.clone());
        registry.register("written_bytes", "Bytes sent to the store", self.written_bytes.clone());
        registry.register("request_seconds", "Time to the answer", self.latency.clone());
        let responses = "HTTP answers by client; those of a client that retries include its tries";
        registry.register("http_responses", responses, self.responses.clone());
    }

    pub fn requests(&self, purpose: Purpose) -> u64 {
        Operation::ALL
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

    /// Everything that was used, in the order of purposes and operations; what never was is left out.
    pub fn snapshot(&self) -> Vec<Usage> {
        let all = Purpose::ALL.into_iter().flat_map(|purpose| {
            Operation::ALL.into_iter().map(move |operation| (purpose, operation))
        });
        let usage = all.map(|(purpose, operation)| self.usage(purpose, operation));
        usage.filter(|it| 0 < it.requests).collect()
    }

    fn usage(&self, purpose: Purpose, operation: Operation) -> Usage {
        let requests = self.requests.get(&request(purpose, operation)).map_or(0, |it| it.get());
        let errors = |kind| {
            let (purpose, operation) = (purpose.name(), operation.name());
            let labels = ErrorLabels { purpose, operation, kind };
            self.errors.get(&labels).map_or(0, |it| it.get())
        };
        Usage {
            purpose,
            operation,
            requests,
            read_bytes: if operation == Operation::Get { self.read_bytes(purpose) } else { 0 },
            written_bytes: if operation == Operation::Put {
                self.written_bytes(purpose)
            } else {
                0
            },
            errors: KINDS.map(errors).iter().sum(),
            throttled: errors(THROTTLED),
        }
    }

    /// An HTTP answer, 0 for none.
    pub(crate) fn responded(&self, client: &'static str, status: u16) {
        let status = match status {
            0 => "none",
            429 | 503 => "slow_down",
            200..300 => "2xx",
            300..400 => "3xx",
            400..500 => "4xx",
            _ => "5xx",
        };
        self.responses.get_or_create(&ResponseLabels { client, status }).inc();
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
