//! What a broker demands of the batch a client produces.
//!
//! Owns: the checks of Kafka's log validation for magic 2, and the rewriting that goes with it: max
//! timestamp, append time, the topic's codec, offset deltas.
//! Does not own: sequences across batches, epochs and transactions (the log's producer state), the
//! limit of a log segment.
//!
//! The bytes are touched as little as possible: one checksum, one walk over the records, and for
//! most batches no write at all. Uncompressed records are walked where they lie; compressed ones go
//! through a window of one codec piece.
//!
//! Where this differs from Kafka:
//! - wrong offset deltas are rewritten in uncompressed batches as well, where Kafka keeps them and
//!   hands consumers offsets that lie;
//! - a record's length must agree with its content also in compressed batches;
//! - bytes a codec refuses are INVALID_RECORD and unknown codecs UNSUPPORTED_COMPRESSION_TYPE,
//!   where Kafka answers UNKNOWN_SERVER_ERROR;
//! - record timestamps are judged as readers will see them, even if the client set the append-time
//!   bit, which Kafka lets stand for all of them;
//! - at most [`RECORD_ERRORS_MAX`] record errors are listed;
//! - records beyond `records_bytes_max` are MESSAGE_TOO_LARGE, upon which producers split the
//!   batch; Kafka has no such limit.

use bytes::BytesMut;
use vocabulary::{Offset, Timestamp};

use super::batch::{Batch, compress_behind_header};
use super::codec::{Decompressor, TargetCompression, decompress};
use super::header::{
    Attributes, BATCH_HEADER_LEN, BatchError, BatchHeader, Compression, LENGTH_AT, LENGTH_OVERHEAD,
    MAGIC, MAGIC_AT, TimestampType, check_crc,
};
use super::scan::{Head, SliceSource, StreamSource, scan};
use super::varint::{
    read_varint, read_varlong, varint_len, varlong_len, write_varint, write_varlong,
};
use crate::ErrorCode;

/// Errors listed for one batch; beyond it the batch is refused all the same.
const RECORD_ERRORS_MAX: usize = 4096;

/// The first Produce version that may carry zstd (KIP-110).
const ZSTD_PRODUCE_VERSION_MIN: i16 = 7;
/// The smallest length field of any magic; below it Kafka calls the record set corrupt.
const LENGTH_ANY_MAGIC_MIN: i32 = 14;
/// Bytes up to and including the magic.
const MAGIC_END: usize = MAGIC_AT + 1;

/// What the topic, the request and the clock say about a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProduceRules {
    pub produce_version: i16,
    /// `max.message.bytes`: of the batch as it came, and again as it is stored.
    pub batch_bytes_max: usize,
    /// The topic is compacted: a record without key cannot be.
    pub keys_required: bool,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`; `i64::MAX` is no limit.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`; `i64::MAX` is no limit.
    pub timestamp_after_max_ms: i64,
    pub now: Timestamp,
    /// `compression.type`.
    pub compression: TargetCompression,
    /// Bound of one batch's records when decompressed.
    pub records_bytes_max: usize,
}

/// A record that made its batch fail (KIP-467). All others of the batch fail with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordError {
    /// Place in the batch, from 0.
    pub index: i32,
    pub message: String,
}

/// Why the batch is not appended; nothing of it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ProduceRefusal {
    pub code: ErrorCode,
    pub message: String,
    pub record_errors: Vec<RecordError>,
}

impl ProduceRefusal {
    fn new(code: ErrorCode, message: impl Into<String>) -> ProduceRefusal {
        ProduceRefusal { code, message: message.into(), record_errors: Vec::new() }
    }

    fn invalid(message: impl Into<String>) -> ProduceRefusal {
        ProduceRefusal::new(ErrorCode::InvalidRecord, message)
    }
}

impl From<BatchError> for ProduceRefusal {
    fn from(error: BatchError) -> ProduceRefusal {
        let code = match error {
            BatchError::Checksum { .. } => ErrorCode::CorruptMessage,
            BatchError::UnknownCompression { .. } => ErrorCode::UnsupportedCompressionType,
            BatchError::TooLarge { .. } => ErrorCode::MessageTooLarge,
            BatchError::Truncated { .. }
            | BatchError::Magic { .. }
            | BatchError::Malformed { .. }
            | BatchError::Decompression { .. } => ErrorCode::InvalidRecord,
        };
        ProduceRefusal::new(code, error.to_string())
    }
}

/// Checks the records of one partition of a Produce request and makes them fit to append.
///
/// The result has base offset 0 and waits to be stamped. An error refuses the whole batch.
pub fn validate_produced(
    mut bytes: BytesMut,
    rules: &ProduceRules,
) -> Result<Batch, ProduceRefusal> {
    let length = only_batch(&bytes)?;
    bytes.truncate(length);
    let header = check_envelope(&bytes, rules)?;
    let source = header.attributes.compression()?;
    let target = rules.compression.codec(source);
    let mut inspector = Inspector::new(&header, rules);
    let rebuilt = {
        let payload = &bytes[BATCH_HEADER_LEN..];
        let decompressed;
        let (records, in_memory) = match source {
            Compression::None => (payload, true),
            // They are needed whole to be compressed anew.
            codec if codec != target => {
                decompressed = decompress(codec, payload, rules.records_bytes_max)?;
                (&decompressed[..], true)
            }
            _ => (payload, false),
        };
        let count = header.record_count;
        if in_memory {
            scan(&mut SliceSource::new(records), count, |index, head| {
                inspector.see(index, head);
            })?;
        } else {
            let decompressor = Decompressor::new(source, payload, rules.records_bytes_max)?;
            scan(&mut StreamSource::new(decompressor), count, |index, head| {
                inspector.see(index, head);
            })?;
        }
        inspector.verdict()?;
        match (inspector.offsets_right, source == target) {
            (true, true) => None,
            (true, false) => Some(recompress(&header, records, target, rules)?),
            (false, _) if in_memory => {
                Some(recompress(&header, &renumber(records, count)?, target, rules)?)
            }
            (false, _) => {
                let records = decompress(source, payload, rules.records_bytes_max)?;
                Some(recompress(&header, &renumber(&records, count)?, target, rules)?)
            }
        }
    };
    let mut batch = match rebuilt {
        Some(batch) => batch,
        None => Batch::new(header, bytes),
    };
    batch.set_timestamps(rules.timestamp_type, inspector.max_timestamp());
    Ok(batch)
}

/// The length of the one batch in a partition's records. An incomplete batch behind it is cut off
/// in silence, as Kafka does; a complete one is an error.
fn only_batch(bytes: &[u8]) -> Result<usize, ProduceRefusal> {
    let Some((length, magic)) = next_batch(bytes)? else {
        return Err(ProduceRefusal::invalid("produce request without a complete record batch"));
    };
    if magic != MAGIC {
        let message = format!("record batch with magic {magic}, only {MAGIC} is accepted");
        return Err(ProduceRefusal::invalid(message));
    }
    if next_batch(&bytes[length..])?.is_some() {
        let message = "produce request with more than one record batch for a partition";
        return Err(ProduceRefusal::invalid(message));
    }
    Ok(length)
}

/// Length and magic of the batch at the front, if it is complete.
fn next_batch(bytes: &[u8]) -> Result<Option<(usize, i8)>, ProduceRefusal> {
    let corrupt = |message: String| Err(ProduceRefusal::new(ErrorCode::CorruptMessage, message));
    let Some(length) = bytes.get(LENGTH_AT..).and_then(|it| it.first_chunk::<4>()) else {
        return Ok(None);
    };
    let length = i32::from_be_bytes(*length);
    if length < LENGTH_ANY_MAGIC_MIN {
        return corrupt(format!("record batch with length {length}"));
    }
    if bytes.len() < MAGIC_END {
        return Ok(None);
    }
    let magic = i8::from_be_bytes([bytes[MAGIC_AT]]);
    if !(0..=MAGIC).contains(&magic) {
        return corrupt(format!("record batch with magic {magic}"));
    }
    let length = LENGTH_OVERHEAD + usize::try_from(length).unwrap_or(0);
    Ok((length <= bytes.len()).then_some((length, magic)))
}

/// All that can be said without looking at the records. `bytes` is one whole batch.
fn check_envelope(bytes: &[u8], rules: &ProduceRules) -> Result<BatchHeader, ProduceRefusal> {
    let corrupt =
        |error: BatchError| ProduceRefusal::new(ErrorCode::CorruptMessage, error.to_string());
    let header = BatchHeader::parse(bytes).map_err(corrupt)?;
    let zstd = header.attributes.compression() == Ok(Compression::Zstd);
    if zstd && rules.produce_version < ZSTD_PRODUCE_VERSION_MIN {
        let message = format!("zstd needs produce version {ZSTD_PRODUCE_VERSION_MIN} or later");
        return Err(ProduceRefusal::new(ErrorCode::UnsupportedCompressionType, message));
    }
    if header.base_offset != Offset(0) {
        let message = format!("produced batch has base offset {}, not 0", header.base_offset);
        return Err(ProduceRefusal::invalid(message));
    }
    check_size(bytes.len(), rules)?;
    check_crc(bytes)?;
    if header.record_count <= 0 {
        let message = format!("record batch of {} records", header.record_count);
        return Err(ProduceRefusal::invalid(message));
    }
    if i64::from(header.last_offset_delta) + 1 != i64::from(header.record_count) {
        let message = format!(
            "last offset delta {} does not fit {} records",
            header.last_offset_delta, header.record_count
        );
        return Err(ProduceRefusal::invalid(message));
    }
    if header.attributes.is_control() {
        return Err(ProduceRefusal::invalid("clients may not write control batches"));
    }
    if header.producer_id >= 0 && header.base_sequence < 0 {
        let message =
            format!("producer {} with base sequence {}", header.producer_id, header.base_sequence);
        return Err(ProduceRefusal::invalid(message));
    }
    Ok(header)
}

fn check_size(length: usize, rules: &ProduceRules) -> Result<(), ProduceRefusal> {
    // The second limit is the length field's own.
    if length <= rules.batch_bytes_max && i32::try_from(length).is_ok() {
        return Ok(());
    }
    let message =
        format!("record batch of {length} bytes, the topic takes {}", rules.batch_bytes_max);
    Err(ProduceRefusal::new(ErrorCode::MessageTooLarge, message))
}

/// Judges records one by one as the walk meets them.
struct Inspector<'a> {
    rules: &'a ProduceRules,
    base_timestamp: i64,
    /// The client claims append time, which is the broker's to give.
    claims_append_time: bool,
    offsets_right: bool,
    max_timestamp: i64,
    errors: Vec<RecordError>,
    error_count: usize,
    timestamps_wrong: bool,
}

impl<'a> Inspector<'a> {
    fn new(header: &BatchHeader, rules: &'a ProduceRules) -> Inspector<'a> {
        Inspector {
            rules,
            base_timestamp: header.base_timestamp.0,
            claims_append_time: header.attributes.timestamp_type() == TimestampType::LogAppendTime,
            offsets_right: true,
            max_timestamp: Timestamp::NONE.0,
            errors: Vec::new(),
            error_count: 0,
            timestamps_wrong: false,
        }
    }

    #[inline]
    fn see(&mut self, index: i32, head: Head) {
        let timestamp = self.base_timestamp.wrapping_add(head.timestamp_delta);
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.offsets_right &= head.offset_delta == index;
        if self.rules.keys_required && !head.has_key {
            self.refuse(index, || "a compacted topic takes no record without key".to_owned());
            return;
        }
        let judged = self.rules.timestamp_type == TimestampType::CreateTime
            && timestamp != Timestamp::NONE.0;
        if judged {
            // Wraps as in Kafka, so that "no limit" stays no limit for times before 1970.
            let age = self.rules.now.0.wrapping_sub(timestamp);
            let too_old = age > self.rules.timestamp_before_max_ms;
            if too_old || age.wrapping_neg() > self.rules.timestamp_after_max_ms {
                self.refuse_timestamp(index, timestamp);
            }
        } else if self.claims_append_time {
            self.timestamps_wrong = true;
            self.refuse(index, || "producers may not claim LogAppendTime".to_owned());
        }
    }

    #[cold]
    fn refuse_timestamp(&mut self, index: i32, timestamp: i64) {
        let earliest = self.rules.now.0.saturating_sub(self.rules.timestamp_before_max_ms);
        let latest = self.rules.now.0.saturating_add(self.rules.timestamp_after_max_ms);
        self.timestamps_wrong = true;
        self.refuse(index, || format!("timestamp {timestamp} is outside [{earliest}, {latest}]"));
    }

    #[cold]
    fn refuse(&mut self, index: i32, message: impl FnOnce() -> String) {
        self.error_count += 1;
        if self.errors.len() < RECORD_ERRORS_MAX {
            self.errors.push(RecordError { index, message: message() });
        }
    }

    fn verdict(&mut self) -> Result<(), ProduceRefusal> {
        if self.error_count == 0 {
            return Ok(());
        }
        // One wrong timestamp decides the code, whatever else is wrong.
        let (code, what) = if self.timestamps_wrong {
            (ErrorCode::InvalidTimestamp, "an invalid timestamp")
        } else {
            (ErrorCode::InvalidRecord, "an error")
        };
        let message = format!("{} records of the batch have {what}", self.error_count);
        Err(ProduceRefusal { code, message, record_errors: std::mem::take(&mut self.errors) })
    }

    fn max_timestamp(&self) -> Timestamp {
        match self.rules.timestamp_type {
            TimestampType::CreateTime => Timestamp(self.max_timestamp),
            TimestampType::LogAppendTime => self.rules.now,
        }
    }
}

/// The same batch in another codec; the producer's fields stay. Its size is checked again.
fn recompress(
    header: &BatchHeader,
    records: &[u8],
    codec: Compression,
    rules: &ProduceRules,
) -> Result<Batch, ProduceRefusal> {
    let bytes = compress_behind_header(codec, rules.compression.level(), records);
    check_size(bytes.len(), rules)?;
    let kept = header.attributes.0 & (Attributes::TRANSACTIONAL | Attributes::LOG_APPEND_TIME);
    let attributes = Attributes(kept | codec.id());
    Ok(Batch::seal(BatchHeader { attributes, ..*header }, bytes))
}

/// The records with offset deltas 0, 1, 2 …, everything else as it was. Old clients number the
/// records of a compressed batch in their own ways. `records` has been walked over before.
fn renumber(records: &[u8], count: i32) -> Result<Vec<u8>, BatchError> {
    let mut out = Vec::with_capacity(records.len() + records.len() / 64);
    let mut rest = records;
    for index in 0..count {
        rest = renumber_one(rest, index, &mut out)
            .ok_or(BatchError::Malformed { what: "record structure" })?;
    }
    Ok(out)
}

/// Appends the record at the front with the offset delta `index`; returns what is behind it.
fn renumber_one<'a>(records: &'a [u8], index: i32, out: &mut Vec<u8>) -> Option<&'a [u8]> {
    let (length, taken) = read_varint(records)?;
    let (body, rest) = records.get(taken..)?.split_at_checked(usize::try_from(length).ok()?)?;
    let mut at = 1; // The attributes, which are unused and become 0.
    let (timestamp_delta, taken) = read_varlong(body.get(at..)?)?;
    at += taken;
    let (_, taken) = read_varint(body.get(at..)?)?;
    let tail = body.get(at + taken..)?;
    let length = 1 + varlong_len(timestamp_delta) + varint_len(index) + tail.len();
    write_varint(i32::try_from(length).ok()?, out);
    out.push(0);
    write_varlong(timestamp_delta, out);
    write_varint(index, out);
    out.extend_from_slice(tail);
    Some(rest)
}

#[cfg(test)]
mod tests;
