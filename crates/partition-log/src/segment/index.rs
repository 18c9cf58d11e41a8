//! The index of a segment: encoded from entries, decoded from bytes that may be anything.
//!
//! Owns: the field order of the index and the checks that make a decoded one satisfy S1 to S3.
//! Does not own: header and footer (`frame`), numbers (`cursor`).
//!
//! Memory: a decoded index takes a fixed multiple of its bytes, because every count is bounded by
//! the bytes that are left before anything is allocated for it.

use super::cursor::{Cursor, put_difference, put_varint, put_zigzag};
use super::entry::{BatchEntry, BlockEntry, MarkerEntry, RunEntry, SegmentIndex};
use super::frame::{
    FOOTER_LEN, Footer, HEADER_LEN, NAME_LEN, SEGMENT_LENGTH_MIN, check_crc, check_version,
    decode_name, encode_name, malformed, u16_at,
};
use super::{FORMAT_VERSION, SegmentError, SegmentPart};
use bytes::Bytes;
use protocol::records::{Attributes, EndTxnMarker, TransactionResult};
use vocabulary::{LeaderEpoch, Offset, Partition, SegmentName, Timestamp, TopicId};

const PART: SegmentPart = SegmentPart::Index;

/// The first version that says how transactions end.
const MARKERS_VERSION_MIN: u16 = 2;

/// The least that a run, a block and a batch take in the index.
const RUN_LEN_MIN: usize = 16 + 6 + 4 + 3;
const BLOCK_LEN_MIN: usize = 3;
const BATCH_LEN_MIN: usize = 10;

/// What the end of an object gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IndexRead {
    Index(SegmentIndex),
    /// Read the last `suffix` bytes of the object (all of them, not only those missing) and ask again.
    NeedSuffix {
        suffix: u64,
    },
}

/// Finds and decodes the index in the last bytes of a segment of `object_length` bytes.
pub fn read_index(suffix: &[u8], object_length: u64) -> Result<IndexRead, SegmentError> {
    let present = suffix.len() as u64;
    if object_length < SEGMENT_LENGTH_MIN {
        let part = SegmentPart::Footer;
        let (needed, present) = (SEGMENT_LENGTH_MIN, object_length);
        return Err(SegmentError::TooShort { part, needed, present });
    }
    if object_length < present {
        return Err(malformed(SegmentPart::Footer, "more bytes than the object has"));
    }
    if present < FOOTER_LEN as u64 {
        return Ok(IndexRead::NeedSuffix { suffix: SEGMENT_LENGTH_MIN });
    }
    let footer = Footer::parse(suffix, object_length)?;
    let needed = footer.index_length + FOOTER_LEN as u64;
    if present < needed {
        return Ok(IndexRead::NeedSuffix { suffix: needed });
    }
    let start = (present - needed) as usize; // Not above the length of a slice.
    let bytes = &suffix[start..suffix.len() - FOOTER_LEN];
    check_crc(PART, bytes, footer.index_crc)?;
    decode(bytes, object_length, footer.index_position()).map(IndexRead::Index)
}

/// Appends the index; returns its length.
pub(super) fn encode(sink: &mut Vec<u8>, name: SegmentName, runs: &[RunEntry]) -> u64 {
    let start = sink.len();
    sink.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    sink.extend_from_slice(&encode_name(name));
    put_varint(sink, runs.len() as u64);
    for run in runs {
        encode_run(sink, run);
    }
    (sink.len() - start) as u64
}

fn encode_run(sink: &mut Vec<u8>, run: &RunEntry) {
    sink.extend_from_slice(&run.partition.topic.0);
    put_varint(sink, u64::from(run.partition.index.cast_unsigned()));
    put_varint(sink, u64::from(run.leader_epoch.0.cast_unsigned()));
    put_varint(sink, run.base.0.cast_unsigned());
    put_varint(sink, (run.end.0 - run.base.0).cast_unsigned());
    put_zigzag(sink, run.max_timestamp.0);
    put_varint(sink, run.length);
    sink.extend_from_slice(&run.crc.to_le_bytes());
    encode_blocks(sink, run);
    encode_batches(sink, run);
    match &run.producers {
        None => put_varint(sink, 0),
        Some(snapshot) => {
            put_varint(sink, snapshot.len() as u64 + 1);
            sink.extend_from_slice(snapshot);
        }
    }
}

fn encode_blocks(sink: &mut Vec<u8>, run: &RunEntry) {
    put_varint(sink, run.blocks.len() as u64);
    let (mut offset, mut position) = (run.base.0, 0);
    for block in &run.blocks {
        put_varint(sink, (block.offset.0 - offset).cast_unsigned());
        put_varint(sink, block.position - position);
        put_difference(sink, block.max_timestamp.0, run.max_timestamp.0);
        (offset, position) = (block.offset.0, block.position);
    }
}

fn encode_batches(sink: &mut Vec<u8>, run: &RunEntry) {
    put_varint(sink, run.batches.len() as u64);
    let (mut end, mut timestamp, mut producer) = (run.base.0, 0, -1);
    for batch in &run.batches {
        put_varint(sink, (batch.base_offset.0 - end).cast_unsigned());
        put_varint(sink, u64::from(batch.last_offset_delta.cast_unsigned()));
        put_varint(sink, u64::from(batch.length));
        put_difference(sink, batch.base_timestamp.0, timestamp);
        put_difference(sink, batch.max_timestamp.0, batch.base_timestamp.0);
        put_difference(sink, batch.producer_id, producer);
        put_zigzag(sink, i64::from(batch.producer_epoch));
        put_zigzag(sink, i64::from(batch.base_sequence));
        let count = i64::from(batch.record_count);
        put_difference(sink, count, i64::from(batch.last_offset_delta) + 1);
        put_varint(sink, u64::from(batch.attributes.0.cast_unsigned()));
        if batch.attributes.is_control() {
            encode_marker(sink, batch);
        }
        end = batch.end_offset().0;
        (timestamp, producer) = (batch.base_timestamp.0, batch.producer_id);
    }
}

fn encode_marker(sink: &mut Vec<u8>, batch: &BatchEntry) {
    let Some(MarkerEntry { marker, first_offset }) = batch.marker else {
        return put_varint(sink, 0);
    };
    put_varint(
        sink,
        match marker.result {
            TransactionResult::Abort => 1,
            TransactionResult::Commit => 2,
        },
    );
    put_zigzag(sink, i64::from(marker.coordinator_epoch));
    put_varint(sink, first_offset.map_or(0, |it| (batch.base_offset.0 - it.0).cast_unsigned()));
}

fn decode(bytes: &[u8], length: u64, index_position: u64) -> Result<SegmentIndex, SegmentError> {
    let mut cursor = Cursor::new(bytes);
    let version = u16_at(&cursor.array::<2>()?, 0);
    check_version(PART, version)?;
    let name = decode_name(PART, cursor.take(NAME_LEN)?)?;
    let count = cursor.count(RUN_LEN_MIN)?;
    let mut runs = Vec::with_capacity(count);
    let mut position = HEADER_LEN as u64;
    for _ in 0..count {
        let run = decode_run(&mut cursor, version, position, index_position)?;
        position += run.length;
        runs.push(run);
    }
    if cursor.remaining() != 0 {
        return Err(malformed(PART, "bytes behind the last run"));
    }
    if position != index_position {
        return Err(malformed(PART, "the runs do not end where the index starts"));
    }
    Ok(SegmentIndex { name, length, runs })
}

fn decode_run(
    cursor: &mut Cursor<'_>,
    version: u16,
    position: u64,
    index_position: u64,
) -> Result<RunEntry, SegmentError> {
    let topic = TopicId(cursor.array()?);
    let index = cursor.number("a partition index is negative")?;
    let leader_epoch = LeaderEpoch(cursor.number("a leader epoch is negative")?);
    let base: i64 = cursor.number("a base offset is negative")?;
    let count: i64 = cursor.number("a run ends before it starts")?;
    let end = base.checked_add(count).ok_or_else(|| malformed(PART, "a run ends beyond 2^63"))?;
    let max_timestamp = Timestamp(cursor.zigzag()?);
    let length = cursor.varint()?;
    if index_position - position < length {
        return Err(malformed(PART, "a run ends behind the start of the index"));
    }
    let mut run = RunEntry {
        partition: Partition { topic, index },
        leader_epoch,
        base: Offset(base),
        end: Offset(end),
        max_timestamp,
        position,
        length,
        crc: u32::from_le_bytes(cursor.array()?),
        blocks: Vec::new(),
        batches: Vec::new(),
        producers: None,
    };
    run.blocks = decode_blocks(cursor, &run)?;
    run.batches = decode_batches(cursor, version, &run)?;
    check_blocks(&run)?;
    if let Some(length) = cursor.varint()?.checked_sub(1) {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        // Copied, so that a kept index never pins the buffer it was read from.
        run.producers = Some(Bytes::copy_from_slice(cursor.take(length)?));
    }
    Ok(run)
}

fn decode_blocks(cursor: &mut Cursor<'_>, run: &RunEntry) -> Result<Vec<BlockEntry>, SegmentError> {
    let count = cursor.count(BLOCK_LEN_MIN)?;
    let mut blocks = Vec::with_capacity(count);
    let (mut offset, mut position) = (run.base.0, 0u64);
    for _ in 0..count {
        let step: i64 = cursor.number("a block's offset decreases")?;
        let advanced = offset.checked_add(step).filter(|it| *it < run.end.0);
        offset = advanced.ok_or_else(|| malformed(PART, "a block starts behind its run"))?;
        let advanced = position.checked_add(cursor.varint()?).filter(|it| *it < run.length);
        position = advanced.ok_or_else(|| malformed(PART, "a block starts behind its run"))?;
        let max_timestamp = Timestamp(cursor.difference(run.max_timestamp.0)?);
        blocks.push(BlockEntry { offset: Offset(offset), max_timestamp, position });
    }
    Ok(blocks)
}

fn decode_batches(
    cursor: &mut Cursor<'_>,
    version: u16,
    run: &RunEntry,
) -> Result<Vec<BatchEntry>, SegmentError> {
    let count = cursor.count(BATCH_LEN_MIN)?;
    let mut batches: Vec<BatchEntry> = Vec::with_capacity(count);
    let (mut end, mut timestamp, mut producer) = (run.base.0, 0, -1);
    let mut position = 0u64;
    for _ in 0..count {
        let step: i64 = cursor.number("a batch's offset decreases")?;
        let last_offset_delta: i32 = cursor.number("a last offset delta is negative")?;
        let length: u32 = cursor.number("a batch is longer than 4 GiB")?;
        let base = end.checked_add(step);
        let last = base.and_then(|it| it.checked_add(i64::from(last_offset_delta)));
        let Some((base, last)) = base.zip(last).filter(|(_, last)| *last < run.end.0) else {
            return Err(malformed(PART, "a batch ends behind its run"));
        };
        let base_timestamp = cursor.difference(timestamp)?;
        let max_timestamp = cursor.difference(base_timestamp)?;
        let producer_id = cursor.difference(producer)?;
        let producer_epoch = cursor.signed("a producer epoch exceeds 16 bits")?;
        let base_sequence = cursor.signed("a base sequence exceeds 32 bits")?;
        let record_count = i32::try_from(cursor.difference(i64::from(last_offset_delta) + 1)?)
            .map_err(|_| malformed(PART, "a record count exceeds 32 bits"))?;
        let attributes: u16 = cursor.number("attributes exceed 16 bits")?;
        let attributes = Attributes(attributes.cast_signed());
        let marker = match MARKERS_VERSION_MIN <= version && attributes.is_control() {
            true => decode_marker(cursor, base)?,
            false => None,
        };
        if length == 0 || run.length - position < u64::from(length) {
            return Err(malformed(PART, "a batch is empty or ends behind its run"));
        }
        batches.push(BatchEntry {
            base_offset: Offset(base),
            last_offset_delta,
            position,
            length,
            base_timestamp: Timestamp(base_timestamp),
            max_timestamp: Timestamp(max_timestamp),
            producer_id,
            producer_epoch,
            base_sequence,
            record_count,
            attributes,
            marker,
        });
        end = last + 1; // Not above the run's end.
        position += u64::from(length);
        (timestamp, producer) = (base_timestamp, producer_id);
    }
    if position != run.length {
        return Err(malformed(PART, "the batches do not fill their run"));
    }
    Ok(batches)
}

fn decode_marker(
    cursor: &mut Cursor<'_>,
    base_offset: i64,
) -> Result<Option<MarkerEntry>, SegmentError> {
    let result = match cursor.varint()? {
        0 => return Ok(None),
        1 => TransactionResult::Abort,
        2 => TransactionResult::Commit,
        _ => return Err(malformed(PART, "a marker neither commits nor aborts")),
    };
    let coordinator_epoch = cursor.signed("a coordinator epoch exceeds 32 bits")?;
    let distance: i64 = cursor.number("a transaction starts before offset 0")?;
    if base_offset < distance {
        return Err(malformed(PART, "a transaction starts before offset 0"));
    }
    let first_offset = (distance != 0).then(|| Offset(base_offset - distance));
    Ok(Some(MarkerEntry { marker: EndTxnMarker { result, coordinator_epoch }, first_offset }))
}

/// S3. Both lists grow, so one pass over the batches meets every block.
fn check_blocks(run: &RunEntry) -> Result<(), SegmentError> {
    let mut batches = run.batches.iter();
    for block in &run.blocks {
        if !batches.any(|it| (it.base_offset, it.position) == (block.offset, block.position)) {
            return Err(malformed(PART, "a block does not start at a batch"));
        }
    }
    let first = run.blocks.first().is_some_and(|it| it.position == 0);
    if first || run.batches.is_empty() {
        Ok(())
    } else {
        Err(malformed(PART, "the first block is not the first batch"))
    }
}
