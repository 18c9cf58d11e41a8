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
    Counter segments_merged "Merged segments uploaded and offered to the metadata"
    Counter merged_bytes "Bytes of merged segments uploaded"
    Counter runs_merged "Runs that merged ones were made of"
    Counter merges_refused "Merged runs that came too late: theirs had changed"
    Counter merge_failures "Merges that trouble has put off"
    Counter compaction_passes "Passes of key compaction, each with the keys that memory holds"
    Counter compaction_read_bytes "Bytes of batches that key compaction has looked at, for keys or to clean"
    Counter compaction_written_bytes "Bytes of compacted segments uploaded"
    Counter compaction_records_kept "Records that key compaction has kept, each time it saw them"
    Counter compaction_records_dropped "Records that key compaction has dropped"
    Counter compaction_aborted_dropped "Of those, records of aborted transactions"
    Counter compaction_markers_dropped "Of those, markers of transactions without records"
    Counter compaction_failures "Partitions that could not be compacted, each time it was tried"
    Gauge compaction_dirty_bytes "Bytes of compacted topics that are not compacted yet, active ones included"
    Gauge compaction_dirty_percent_max "Of the partition with most to clean, the share of it in percent"
    Gauge uncleanable_partitions "Partitions that could not be compacted lately"
    Counter runs_refused "Runs that the metadata did not want"
    Counter tail_reads "Stretches of the tail served"
    Counter wal_read_bytes "Bytes of tail batches read back from the WAL"
    Gauge span_cache_bytes "Spans of segments kept in memory, of both shares"
    Counter tail_span_hits "Spans that readers near the end found in memory"
    Counter tail_span_misses "Times that readers near the end waited for spans"
    Counter tail_loads "Requests for spans that readers near the end waited for"
    Counter tail_load_bytes "Bytes that came with them"
    Counter hedged_reads "Of these, requests made twice because the first answer was late"
    Counter lagging_span_hits "Spans that lagging readers found in memory"
    Counter lagging_span_misses "Times that lagging readers waited for spans"
    Counter lagging_loads "Requests for spans for lagging readers"
    Counter lagging_load_bytes "Bytes that came with them"
    Counter read_ahead_useful "Spans read ahead that a reader asked for"
    Counter read_ahead_wasted "Spans read ahead that made room before a reader asked for them"
    Counter disk_cache_hits "Spans found in the block cache on disk"
    Counter disk_cache_misses "Spans not found there, damaged ones included"
    Counter disk_cache_writes "Spans written to the block cache on disk"
    Counter disk_cache_dropped "Spans not written there because too many waited for it"
    Counter disk_cache_failures "Reads and writes of the block cache on disk that failed"
    Gauge disk_cache_bytes "Spans kept in the block cache on disk"
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
