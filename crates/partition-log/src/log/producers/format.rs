//! The bytes of a producer snapshot. They travel in the index of a data segment, whose footer
//! checksums them; a reader still believes no count before it is bounded by the bytes present.
//!
//! Version 2, little endian:
//!
//! ```text
//! u8 version | u32 producers | per producer, ids ascending:
//!     i64 id | i16 epoch | i64 last active, ms | u8 batches | per batch, oldest first:
//!         i32 base sequence | i32 last offset delta | i64 base offset | i64 max timestamp, ms
//!     u8 1 if it had a transaction, else 0 | of those that had:
//!         i32 coordinator epoch or -1 | i64 timestamp of its last batch or marker, ms
//!         i64 offset of its last marker or -1
//!         i64 first offset of its open transaction or -1 | i64 timestamp of that batch or -1
//! ```
//!
//! Version 1 had nothing behind the batches. It is still read.
//!
//! An empty table is no bytes at all.

use super::{BATCHES_MAX, Open, Producer, ProducerState, ProducerTable, SeenBatch, Transactional};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::collections::{HashMap, VecDeque};
use vocabulary::{Offset, ProducerId, Timestamp};

const VERSION: u8 = 2;
const VERSION_MIN: u8 = 1;
const HEADER_BYTES: usize = 5;
const PRODUCER_BYTES: usize = 19;
const BATCH_BYTES: usize = 24;
const TRANSACTIONAL_BYTES: usize = 36;

/// The snapshot is not one, or one of a newer version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SnapshotError {
    #[error("producer snapshot has version {version}, this broker reads up to {VERSION}")]
    UnknownVersion { version: u8 },
    #[error("producer snapshot is malformed: {reason}")]
    Malformed { reason: &'static str },
}

impl ProducerTable {
    pub(crate) fn encode(&self) -> Bytes {
        if self.producers.is_empty() {
            return Bytes::new();
        }
        let batches: usize = self.producers.values().map(|it| it.batches.len()).sum();
        let transactional = self.producers.values().filter(|it| it.transactional.is_some());
        let length = HEADER_BYTES
            + (PRODUCER_BYTES + 1) * self.producers.len()
            + TRANSACTIONAL_BYTES * transactional.count()
            + BATCH_BYTES * batches;
        let mut sink = BytesMut::with_capacity(length);
        sink.put_u8(VERSION);
        sink.put_u32_le(self.producers.len() as u32);
        let mut sorted: Vec<_> = self.producers.iter().collect();
        sorted.sort_unstable_by_key(|(id, _)| **id);
        for (id, producer) in sorted {
            sink.put_i64_le(id.0);
            sink.put_i16_le(producer.epoch);
            sink.put_i64_le(producer.last_active.0);
            sink.put_u8(producer.batches.len() as u8);
            for batch in &producer.batches {
                sink.put_i32_le(batch.base_sequence);
                sink.put_i32_le(batch.last_offset_delta);
                sink.put_i64_le(batch.base_offset.0);
                sink.put_i64_le(batch.timestamp.0);
            }
            encode_transactional(&mut sink, producer.transactional.as_deref());
        }
        assert_eq!(sink.len(), length, "the snapshot's length was computed beforehand");
        sink.freeze()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<ProducerTable, SnapshotError> {
        let malformed = |reason| SnapshotError::Malformed { reason };
        let mut source = bytes;
        if source.is_empty() {
            return Ok(ProducerTable::default());
        }
        let version = source.get_u8();
        if !(VERSION_MIN..=VERSION).contains(&version) {
            return Err(SnapshotError::UnknownVersion { version });
        }
        let count = source.try_get_u32_le().map_err(|_| malformed("no count"))? as usize;
        if source.len() < count.saturating_mul(PRODUCER_BYTES) {
            return Err(malformed("more producers than bytes"));
        }
        let mut producers = HashMap::with_capacity(count);
        for _ in 0..count {
            let (id, producer) = decode_producer(&mut source, version)?;
            if producers.insert(id, producer).is_some() {
                return Err(malformed("a producer twice"));
            }
        }
        match source.is_empty() {
            true => Ok(ProducerTable::new(producers)),
            false => Err(malformed("bytes behind the last producer")),
        }
    }
}

/// What a stored snapshot of a partition's producers says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerSnapshot {
    pub producers: Vec<ProducerState>,
    /// Behind the last batch that any of them is known by: never above what the snapshot is as of.
    pub end: Offset,
}

impl ProducerSnapshot {
    /// Reads a snapshot's bytes, as a segment's index or the metadata keeps them.
    ///
    /// # Errors
    ///
    /// Why they are none.
    pub fn read(bytes: &[u8]) -> Result<ProducerSnapshot, String> {
        let table = ProducerTable::decode(bytes).map_err(|error| error.to_string())?;
        let batches = table.producers.values().flat_map(|it| &it.batches);
        let end = batches.map(SeenBatch::end_offset).max().unwrap_or(Offset::ZERO);
        Ok(ProducerSnapshot { producers: table.states(), end })
    }
}

fn encode_transactional(sink: &mut BytesMut, transactional: Option<&Transactional>) {
    sink.put_u8(u8::from(transactional.is_some()));
    if let Some(it) = transactional {
        sink.put_i32_le(it.coordinator_epoch);
        sink.put_i64_le(it.last_timestamp.0);
        sink.put_i64_le(it.last_marker.map_or(-1, |it| it.0));
        sink.put_i64_le(it.open.map_or(-1, |it| it.first.0));
        sink.put_i64_le(it.open.map_or(-1, |it| it.since.0));
    }
}

fn decode_producer(
    source: &mut &[u8],
    version: u8,
) -> Result<(ProducerId, Producer), SnapshotError> {
    let malformed = |reason| SnapshotError::Malformed { reason };
    if source.len() < PRODUCER_BYTES {
        return Err(malformed("a producer is cut off"));
    }
    let id = ProducerId(source.get_i64_le());
    let epoch = source.get_i16_le();
    let last_active = Timestamp(source.get_i64_le());
    let count = usize::from(source.get_u8());
    if BATCHES_MAX < count || source.len() < count * BATCH_BYTES {
        return Err(malformed("more batches than bytes or allowed"));
    }
    let mut batches = VecDeque::with_capacity(count);
    for _ in 0..count {
        let base_sequence = source.get_i32_le();
        let last_offset_delta = source.get_i32_le();
        let base_offset = Offset(source.get_i64_le());
        let timestamp = Timestamp(source.get_i64_le());
        if base_sequence < 0 || last_offset_delta < 0 {
            return Err(malformed("a negative sequence"));
        }
        batches.push_back(SeenBatch { base_sequence, last_offset_delta, base_offset, timestamp });
    }
    let transactional = if version < 2 { None } else { decode_transactional(source)? };
    Ok((id, Producer { epoch, last_active, batches, transactional }))
}

fn decode_transactional(source: &mut &[u8]) -> Result<Option<Box<Transactional>>, SnapshotError> {
    let malformed = |reason| SnapshotError::Malformed { reason };
    match source.try_get_u8() {
        Ok(0) => return Ok(None),
        Ok(1) if TRANSACTIONAL_BYTES <= source.len() => (),
        _ => return Err(malformed("a producer's transaction is cut off")),
    }
    let offset = |it| (it != -1).then_some(Offset(it));
    let coordinator_epoch = source.get_i32_le();
    let last_timestamp = Timestamp(source.get_i64_le());
    let last_marker = offset(source.get_i64_le());
    let (first, since) = (offset(source.get_i64_le()), Timestamp(source.get_i64_le()));
    let open = first.map(|first| Open { first, since });
    if [last_marker, first].into_iter().flatten().any(|it| it < Offset::ZERO) {
        return Err(malformed("a negative offset"));
    }
    Ok(Some(Box::new(Transactional { coordinator_epoch, last_timestamp, last_marker, open })))
}
