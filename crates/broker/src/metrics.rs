//! What the broker counts about its requests and connections.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ApiLabel {
    api: &'static str,
}

#[derive(Debug, Default)]
pub(crate) struct BrokerMetrics {
    pub(crate) connections: Gauge,
    pub(crate) connections_refused: Counter,
    pub(crate) requests_malformed: Counter,
    pub(crate) bytes_received: Counter,
    pub(crate) bytes_sent: Counter,
    requests: Family<ApiLabel, Counter>,
}

impl BrokerMetrics {
    pub(crate) fn register(registry: &mut Registry) -> BrokerMetrics {
        let metrics = BrokerMetrics::default();
        let registry = registry.sub_registry_with_prefix("aquifer_broker");
        registry.register("connections", "Open client connections", metrics.connections.clone());
        registry.register(
            "connections_refused",
            "Connections closed at once because a limit was reached",
            metrics.connections_refused.clone(),
        );
        registry.register(
            "requests_malformed",
            "Connections closed because a frame could not be read as a Kafka request",
            metrics.requests_malformed.clone(),
        );
        registry.register(
            "received_bytes",
            "Bytes of request frames",
            metrics.bytes_received.clone(),
        );
        registry.register("sent_bytes", "Bytes of response frames", metrics.bytes_sent.clone());
        registry.register("requests", "Requests by API", metrics.requests.clone());
        metrics
    }

    pub(crate) fn count_request(&self, api: &'static str) {
        self.requests.get_or_create(&ApiLabel { api }).inc();
    }
}
