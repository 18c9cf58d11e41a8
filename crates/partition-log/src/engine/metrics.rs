//! What the log counts. Names are relative to the registry's prefix.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

macro_rules! log_metrics {
    ($($kind:ident $field:ident $help:literal)*) => {
        /// Clones count together.
        #[derive(Debug, Clone, Default)]
        pub struct LogMetrics {
            $(#[doc = $help] pub $field: $kind,)*
        }

        impl LogMetrics {
            /// Adds them under `log_` and their field's name.
            pub fn register(&self, registry: &mut Registry) {
                $(registry.register(
                    concat!("log_", stringify!($field)),
                    $help,
                    self.$field.clone(),
                );)*
            }
        }
    };
}

log_metrics! {
    Gauge partitions "Partitions hosted"
    Counter appended_batches "Record batches that got offsets"
    Counter appended_bytes "Bytes of record batches that got offsets"
    Gauge unflushed_bytes "Durable in the WAL and in no data segment, entries included"
    Gauge tail_cache_bytes "Recent batches kept in memory, entries included"
    Counter segments_written "Data segments uploaded and committed"
    Counter flushed_bytes "Bytes of data segments uploaded and committed"
    Counter flush_failures "Uploads and commits that had to be tried again"
    Counter runs_refused "Runs that the metadata did not want"
    Counter tail_reads "Stretches of the tail served"
    Counter wal_read_bytes "Bytes of tail batches read back from the WAL"
    Counter span_hits "Spans of data segments found in memory"
    Counter span_misses "Spans of data segments read from the bucket"
    Counter read_failures "Reads that storage trouble kept from their bytes"
    Counter corrupt_reads "Reads that found other bytes than were written (A6)"
    Counter segments_collected "Objects deleted because no run refers to them"
    Counter orphans_swept "Objects deleted because the metadata does not know them (A7)"
    Counter runs_expired "Runs deleted by retention"
    Gauge damaged_partitions "Partitions refused because WAL and metadata disagree"
}

impl LogMetrics {
    pub(crate) fn appended(&self, bytes: u64) {
        self.appended_batches.inc();
        self.appended_bytes.inc_by(bytes);
    }
}
