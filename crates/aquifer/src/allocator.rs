//! The allocator: jemalloc, because a broker's memory is many short-lived buffers of all sizes.
//!
//! Its settings are compiled in by `JEMALLOC_SYS_WITH_MALLOC_CONF` in `.cargo/config.toml`: pages that
//! fall free go back to the system within seconds, by a background thread, so that the resident size
//! follows what is used.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use tikv_jemalloc_ctl::{epoch, stats};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What jemalloc holds, read at each scrape.
#[derive(Debug)]
pub(crate) struct AllocatorCollector;

impl Collector for AllocatorCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        // The counters are a snapshot; advancing the epoch takes a new one.
        if epoch::advance().is_err() {
            return Ok(());
        }
        let gauges = [
            (
                "allocated",
                "Bytes the program asked for and has not freed",
                stats::allocated::read(),
            ),
            ("active", "Bytes in pages that hold some of them", stats::active::read()),
            ("resident", "Bytes in RAM, the allocator's own included", stats::resident::read()),
            ("retained", "Bytes of address space kept for later", stats::retained::read()),
        ];
        for (name, help, value) in gauges {
            let Ok(value) = value else { continue };
            let name = format!("aquifer_allocator_{name}_bytes");
            let metric = encoder.encode_descriptor(&name, help, None, MetricType::Gauge)?;
            ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(metric)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn the_allocator_tells_what_it_holds() {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(AllocatorCollector));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("it is written");
        assert!(text.contains("aquifer_allocator_allocated_bytes "), "{text}");
        assert!(text.contains("aquifer_allocator_resident_bytes "), "{text}");
    }
}
