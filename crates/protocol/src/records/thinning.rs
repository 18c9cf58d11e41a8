//! Batches without some of their records, as key compaction leaves them (KIP-534 for the horizon).
//!
//! Owns: looking at keys without making records, the bytes of what is left. Does not own: which records
//! go (the log's compaction).
//!
//! What never changes: base offset and last offset, hence the offsets of all records, and as long as one
//! stays whose they are. Records that stay are copied as they are encoded; only a new base timestamp, which
//! a horizon is, rewrites their timestamp deltas. The codec stays the batch's own.

use bytes::{Bytes, BytesMut};
use vocabulary::{Offset, Timestamp};

use super::codec::{TargetCompression, decompress};
use super::header::{
    ATTRIBUTES_AT, Attributes, BATCH_HEADER_LEN, BatchError, BatchHeader, CRC_AT, Compression,
    LENGTH_OVERHEAD, TimestampType, crc32c,
};
use super::varint::{read_varint, read_varlong, varlong_len, write_varint, write_varlong};

/// A batch whose records can be looked at and let go.
#[derive(Debug)]
pub struct OpenedBatch {
    header: BatchHeader,
    /// Not compressed.
    payload: Bytes,
}

/// One record where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordView<'a> {
    pub offset: Offset,
    pub timestamp: Timestamp,
    pub key: Option<&'a [u8]>,
    /// Without a value, a record says that its key is gone (a tombstone).
    pub has_value: bool,
    timestamp_delta: i64,
    /// All of it, its length included.
    encoded: &'a [u8],
    attributes: u8,
    /// From the offset delta on.
    rest: &'a [u8],
}

impl OpenedBatch {
    /// `batch` is one whole batch. Decompression makes at most `records_bytes_max` bytes.
    pub fn open(batch: &Bytes, records_bytes_max: usize) -> Result<OpenedBatch, BatchError> {
        let header = BatchHeader::parse(batch)?;
        let (needed, present) = (header.byte_length(), batch.len());
        if present < needed {
            return Err(BatchError::Truncated { needed, present });
        }
        let payload = batch.slice(BATCH_HEADER_LEN..needed);
        let payload = match header.attributes.compression()? {
            _ if header.record_count <= 0 => Bytes::new(),
            Compression::None => payload,
            codec => Bytes::from(decompress(codec, &payload, records_bytes_max)?),
        };
        Ok(OpenedBatch { header, payload })
    }

    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// In order. The first error ends the iteration.
    pub fn records(&self) -> impl Iterator<Item = Result<RecordView<'_>, BatchError>> {
        let mut rest = &self.payload[..];
        let mut remaining = self.header.record_count.max(0);
        std::iter::from_fn(move || {
            if remaining == 0 {
                let is_bare = std::mem::take(&mut rest).is_empty();
                let what = "bytes remain after the last record";
                return (!is_bare).then_some(Err(BatchError::Malformed { what }));
            }
            remaining -= 1;
            let record = self.record(&mut rest);
            if record.is_none() {
                (remaining, rest) = (0, &[]);
            }
            Some(record.ok_or(BatchError::Malformed { what: "record structure" }))
        })
    }

    fn record<'a>(&self, bytes: &mut &'a [u8]) -> Option<RecordView<'a>> {
        let (length, taken) = read_varint(bytes)?;
        let end = taken.checked_add(usize::try_from(length).ok()?)?;
        let (encoded, behind) = bytes.split_at_checked(end)?;
        *bytes = behind;
        let (attributes, body) = encoded[taken..].split_first()?;
        let (timestamp_delta, taken) = read_varlong(body)?;
        let rest = &body[taken..];
        let (offset_delta, taken) = read_varint(rest)?;
        let (key, body) = nullable(&rest[taken..])?;
        let (value, _) = nullable(body)?;
        let timestamp = match self.header.attributes.timestamp_type() {
            TimestampType::LogAppendTime => self.header.max_timestamp,
            TimestampType::CreateTime => {
                Timestamp(self.header.base_timestamp.0.wrapping_add(timestamp_delta))
            }
        };
        Some(RecordView {
            offset: Offset(self.header.base_offset.0.wrapping_add(i64::from(offset_delta))),
            timestamp,
            key,
            has_value: value.is_some(),
            timestamp_delta,
            encoded,
            attributes: *attributes,
            rest,
        })
    }

    /// The batch with those records of which `kept` says so, one for each. `horizon`, if the batch has
    /// none, is when tombstones and markers in it may go.
    ///
    /// # Panics
    ///
    /// If `kept` is not as long as the batch has records.
    pub fn thinned(
        &self,
        kept: &[bool],
        horizon: Option<Timestamp>,
        levels: TargetCompression,
    ) -> Result<(BatchHeader, Bytes), BatchError> {
        assert_eq!(kept.len() as i64, i64::from(self.header.record_count), "one for each record");
        let horizon = horizon.filter(|_| !self.header.attributes.has_delete_horizon());
        let base = horizon.unwrap_or(self.header.base_timestamp);
        let moved = self.header.base_timestamp.0.wrapping_sub(base.0);
        let mut encoded = Vec::with_capacity(self.payload.len());
        let (mut count, mut latest) = (0, Timestamp::NONE);
        for (record, kept) in self.records().zip(kept) {
            let record = record?;
            if !kept {
                continue;
            }
            count += 1;
            latest = latest.max(record.timestamp);
            match moved {
                0 => encoded.extend_from_slice(record.encoded),
                _ => record.write_moved(moved, &mut encoded),
            }
        }
        if count == 0 {
            return Ok(emptied(&self.header));
        }
        let mut header = BatchHeader { base_timestamp: base, record_count: count, ..self.header };
        if horizon.is_some() {
            header.attributes.0 |= Attributes::DELETE_HORIZON;
        }
        if header.attributes.timestamp_type() == TimestampType::CreateTime {
            header.max_timestamp = latest;
        }
        let codec = header.attributes.compression()?;
        let level = levels.level().filter(|_| levels.codec(codec) == codec);
        let bytes = super::batch::compress_behind_header(codec, level, &encoded);
        Ok(sealed(header, bytes))
    }
}

impl RecordView<'_> {
    /// The record with its timestamp delta moved by so much.
    fn write_moved(&self, moved: i64, out: &mut Vec<u8>) {
        let delta = self.timestamp_delta.wrapping_add(moved);
        let length = 1 + varlong_len(delta) + self.rest.len();
        write_varint(i32::try_from(length).expect("a record stays below 2 GiB"), out);
        out.push(self.attributes);
        write_varlong(delta, out);
        out.extend_from_slice(self.rest);
    }
}

/// `header` without any record: it still says where the offsets of the batch end, and no more. It is of
/// nobody's transaction, so that no marker has to stay for its sake.
pub fn emptied(header: &BatchHeader) -> (BatchHeader, Bytes) {
    let emptied = BatchHeader {
        attributes: Attributes(header.attributes.0 & Attributes::LOG_APPEND_TIME),
        base_timestamp: header.max_timestamp,
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        record_count: 0,
        ..*header
    };
    sealed(emptied, BytesMut::zeroed(BATCH_HEADER_LEN))
}

fn sealed(mut header: BatchHeader, mut bytes: BytesMut) -> (BatchHeader, Bytes) {
    let length = bytes.len() - LENGTH_OVERHEAD;
    header.length = i32::try_from(length).expect("the records came out of a batch below 2 GiB");
    bytes[..BATCH_HEADER_LEN].copy_from_slice(&header.encode());
    header.crc = crc32c(&bytes[ATTRIBUTES_AT..]);
    bytes[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&header.crc.to_be_bytes());
    (header, bytes.freeze())
}

/// A nullable byte string at the front, and what is behind it. Any negative length means null.
fn nullable(bytes: &[u8]) -> Option<(Option<&[u8]>, &[u8])> {
    let (length, taken) = read_varint(bytes)?;
    let bytes = &bytes[taken..];
    match usize::try_from(length) {
        Ok(length) => bytes.split_at_checked(length).map(|(value, rest)| (Some(value), rest)),
        Err(_) => Some((None, bytes)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vocabulary::{LeaderEpoch, ProducerId};

    use super::super::{BatchBuilder, EndTxnMarker, TransactionResult, check_crc, records};
    use super::*;

    const CODECS: [Compression; 5] = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];

    /// Records with the keys 0, 1, 2 …, every third a tombstone.
    fn batch(codec: Compression, count: usize) -> Bytes {
        let mut builder = BatchBuilder::new(codec, Some((ProducerId(7), 2, 40)));
        for index in 0..count {
            let key = (index as u32).to_be_bytes();
            let value = [index as u8; 300];
            let value = (index % 3 != 2).then_some(&value[..]);
            builder.push(Timestamp(1000 + index as i64), Some(&key), value, &[(b"h", None)]);
        }
        let mut batch = builder.build();
        batch.stamp(Offset(500), LeaderEpoch(3));
        batch.freeze().1
    }

    proptest! {
        #[test]
        fn what_stays_reads_back_as_it_was(
            kept in prop::collection::vec(any::<bool>(), 1..40),
            codec in 0usize..5,
            horizon in prop::option::of(0i64..1_000_000),
        ) {
            let before = batch(CODECS[codec], kept.len());
            let opened = OpenedBatch::open(&before, 1 << 20).expect("it opens");
            let horizon = horizon.map(Timestamp);
            let thinned = opened.thinned(&kept, horizon, TargetCompression::Producer);
            let (header, after) = thinned.expect("it can be thinned");
            prop_assert_eq!(check_crc(&after), Ok(()));
            prop_assert_eq!(BatchHeader::parse(&after), Ok(header));
            let was = opened.header();
            prop_assert_eq!(header.base_offset, was.base_offset);
            prop_assert_eq!(header.end_offset(), was.end_offset());
            let all: Vec<_> = records(&before, 1 << 20).expect("it opens").map(|it| it.expect("intact")).collect();
            let wanted: Vec<_> = all.into_iter().zip(&kept).filter(|it| *it.1).map(|it| it.0).collect();
            let found: Vec<_> = records(&after, 1 << 20).expect("it opens").map(|it| it.expect("intact")).collect();
            let whose = (header.producer_id, header.producer_epoch, header.base_sequence);
            prop_assert_eq!(whose, if wanted.is_empty() { (-1, -1, -1) } else { (7, 2, 40) });
            prop_assert_eq!(header.attributes.has_delete_horizon(), horizon.is_some() && !wanted.is_empty());
            if let Some(latest) = wanted.iter().map(|it| it.timestamp).max() {
                prop_assert_eq!(header.max_timestamp, latest);
                prop_assert_eq!(header.attributes.compression(), Ok(CODECS[codec]));
            }
            prop_assert_eq!(found, wanted);
        }
    }

    #[test]
    fn a_horizon_is_set_once() {
        let opened = OpenedBatch::open(&batch(Compression::None, 3), 1 << 20).expect("it opens");
        let keep = TargetCompression::Producer;
        let first = opened.thinned(&[true; 3], Some(Timestamp(77_000)), keep).expect("it can");
        assert_eq!(first.0.base_timestamp, Timestamp(77_000));
        let opened = OpenedBatch::open(&first.1, 1 << 20).expect("it opens");
        let second = opened.thinned(&[true; 3], Some(Timestamp(99_000)), keep).expect("it can");
        assert_eq!(second, first);
    }

    #[test]
    fn a_marker_with_a_horizon_is_still_one_and_without_its_record_none() {
        let marker = EndTxnMarker { result: TransactionResult::Abort, coordinator_epoch: 3 };
        let mut batch = marker.batch(ProducerId(7), 2, Timestamp(1000));
        batch.stamp(Offset(500), LeaderEpoch(3));
        let opened = OpenedBatch::open(&batch.freeze().1, 1 << 20).expect("it opens");
        let keep = TargetCompression::Producer;
        let (header, bytes) = opened.thinned(&[true], Some(Timestamp(77)), keep).expect("it can");
        assert_eq!((header.base_timestamp, header.max_timestamp), (Timestamp(77), Timestamp(1000)));
        assert!(header.attributes.has_delete_horizon());
        assert_eq!(EndTxnMarker::read(&bytes), Ok(Some(marker)));
        let (header, bytes) = emptied(&header);
        assert_eq!(header.attributes, Attributes(0));
        assert_eq!((header.base_offset, header.producer_id), (Offset(500), -1));
        assert_eq!(EndTxnMarker::read(&bytes), Ok(None));
    }

    #[test]
    fn views_tell_tombstones_and_damage() {
        let bytes = batch(Compression::None, 3);
        let opened = OpenedBatch::open(&bytes, 1 << 20).expect("it opens");
        let seen: Vec<_> = opened.records().map(|it| it.expect("intact")).collect();
        let shown: Vec<_> =
            seen.iter().map(|it| (it.offset.0, it.timestamp.0, it.has_value)).collect();
        assert_eq!(shown, [(500, 1000, true), (501, 1001, true), (502, 1002, false)]);
        assert_eq!(seen[1].key, Some(&1u32.to_be_bytes()[..]));
        let header = BatchHeader { record_count: 4, ..*opened.header() };
        let more = OpenedBatch { header, payload: opened.payload.clone() };
        assert!(more.records().last().is_some_and(|it| it.is_err()));
        let header = BatchHeader { record_count: 2, ..*opened.header() };
        let fewer = OpenedBatch { header, payload: opened.payload };
        assert!(fewer.records().last().is_some_and(|it| it.is_err()));
    }
}
