//! Record batches, magic 2 (KIP-98): the bytes a producer sends and a log keeps.
//!
//! Owns: the 61-byte batch header, the record encoding, the codecs, what a broker demands of a
//! produced batch, control batches.
//! Does not own: offsets and leader epochs (the log stamps them), sequences across batches (the
//! log's producer state), topics' settings (they come in as [`ProduceRules`]).
//!
//! Map: `header` (fixed part, checksum) · `varint` · `scan` (one pass over records, from a slice or
//! from a codec) · `codec` with `snappy`, `lz4`, `zstandard`, `xxhash` · `validation` (what Kafka
//! calls log validation) · `batch` (a validated batch and its builder) · `iteration` (reading back)
//! · `thinning` (what compaction leaves of a batch) · `control` (transaction markers).
//!
//! Invariants:
//! - R1 no length, count or size is believed before it is bounded by the bytes that are present,
//!   and nothing decompresses beyond the limit the caller names;
//! - R2 a [`Batch`] has `record_count >= 1`, `last_offset_delta + 1 == record_count`, offset deltas
//!   0, 1, 2 … and a checksum that holds (control batches included);
//! - R3 base offset and leader epoch lie outside the checksum: stamping changes nothing else.

mod batch;
mod codec;
mod control;
mod header;
mod iteration;
mod lz4;
mod scan;
mod snappy;
mod thinning;
mod validation;
mod varint;
mod xxhash;
mod zstandard;

pub use batch::{Batch, BatchBuilder};
pub use codec::TargetCompression;
pub use control::{EndTxnMarker, TransactionResult};
pub use header::{
    Attributes, BATCH_HEADER_LEN, BatchError, BatchHeader, Compression, TimestampType, check_crc,
    sequence_after,
};
pub use iteration::{BatchIter, Record, RecordHeaders, RecordIter, batches, records};
pub use thinning::{OpenedBatch, RecordView, emptied};
pub use validation::{ProduceRefusal, ProduceRules, RecordError, validate_produced};
