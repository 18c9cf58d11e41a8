//! What the broker counts about its requests and connections.

use std::sync::OnceLock;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use protocol::messages::ApiKey;

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
    requests: Requests,
}

/// Requests by API. Only what was asked for is shown.
#[derive(Debug)]
struct Requests {
    shown: Family<ApiLabel, Counter>,
    /// The same counters by API key: a look into the family takes its lock and hashes, for every request.
    by_key: Box<[OnceLock<Counter>]>,
}

impl Default for Requests {
    fn default() -> Requests {
        let keys = ApiKey::ALL.iter().map(|it| *it as usize + 1).max().unwrap_or_default();
        Requests { shown: Family::default(), by_key: (0..keys).map(|_| OnceLock::new()).collect() }
    }
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
        registry.register("requests", "Requests by API", metrics.requests.shown.clone());
        metrics
    }

    pub(crate) fn count_request(&self, api: ApiKey) {
        let Requests { shown, by_key } = &self.requests;
        let counter = || shown.get_or_create_owned(&ApiLabel { api: api.name() });
        by_key[api as usize].get_or_init(counter).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_api_is_counted_under_its_name_once_it_was_asked_for() {
        let mut registry = Registry::default();
        let metrics = BrokerMetrics::register(&mut registry);
        let counted = || {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &registry).expect("it encodes");
            let lines = text.lines().filter(|it| it.contains("requests_total{"));
            let mut lines: Vec<_> = lines.map(str::to_owned).collect();
            lines.sort();
            lines
        };
        assert_eq!(counted(), [""; 0]);
        let mut expected = Vec::new();
        for (count, api) in ApiKey::ALL.iter().enumerate().map(|(at, api)| (at + 1, *api)) {
            (0..count).for_each(|_| metrics.count_request(api));
            let name = api.name();
            expected.push(format!("aquifer_broker_requests_total{{api=\"{name}\"}} {count}"));
        }
        expected.sort();
        assert_eq!(counted(), expected);
    }
}
