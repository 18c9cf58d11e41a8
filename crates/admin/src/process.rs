//! What Linux says of this process, read when somebody scrapes: memory, CPU time, file descriptors.
//!
//! Names are those of Prometheus' own client libraries, so that existing dashboards work. Elsewhere
//! than on Linux nothing is reported.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Linux counts CPU time for user space in hundredths of a second on every architecture we build for.
const TICKS_PER_SECOND: f64 = 100.0;

/// Registers as a collector; reads `/proc/self` at each scrape.
#[derive(Debug, Default)]
pub struct ProcessCollector {
    _private: (),
}

impl ProcessCollector {
    pub fn new() -> ProcessCollector {
        ProcessCollector::default()
    }
}

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        if let Some(seconds) = cpu_seconds(&stat) {
            let counter = ConstCounter::new(seconds);
            let help = "User and system CPU time spent, in seconds";
            let kind = prometheus_client::metrics::MetricType::Counter;
            let metric = encoder.encode_descriptor("process_cpu_seconds", help, None, kind)?;
            counter.encode(metric)?;
        }
        let open_files = fs::read_dir("/proc/self/fd").ok().map(|it| it.count() as i64);
        let kib = |name| status_number(&status, name).map(|it| it.saturating_mul(1024));
        let gauges = [
            ("process_resident_memory_bytes", "Memory in RAM, in bytes", kib("VmRSS")),
            (
                "process_resident_memory_max_bytes",
                "Most memory in RAM so far, in bytes",
                kib("VmHWM"),
            ),
            ("process_virtual_memory_bytes", "Address space, in bytes", kib("VmSize")),
            ("process_threads", "Threads", status_number(&status, "Threads")),
            ("process_open_fds", "Open file descriptors", open_files),
        ];
        for (name, help, value) in gauges {
            let Some(value) = value else { continue };
            let kind = prometheus_client::metrics::MetricType::Gauge;
            let metric = encoder.encode_descriptor(name, help, None, kind)?;
            ConstGauge::new(value).encode(metric)?;
        }
        Ok(())
    }
}

/// The number after `name:` in `/proc/self/status`.
fn status_number(status: &str, name: &str) -> Option<i64> {
    let line = status.lines().find_map(|it| it.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Fields 14 and 15 of `/proc/self/stat`, counted after the command, which may hold spaces.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_read_by_name_and_place() {
        let status = "Name:\taquifer\nVmHWM:\t  2048 kB\nVmRSS:\t  1024 kB\nThreads:\t7\n";
        assert_eq!(status_number(status, "VmRSS"), Some(1024));
        assert_eq!(status_number(status, "Threads"), Some(7));
        assert_eq!(status_number(status, "VmSwap"), None);
        let stat = "1 (a (strange) name) S 0 1 1 0 -1 4194560 9 0 0 0 150 50 0 0 20 0 1 0 100";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(cpu_seconds(""), None);
    }
}
