//! A batch that may be appended, and the way to make one.
//!
//! Owns: sealing (length, checksum), stamping, building.
//! Does not own: judging a client's batch (`validation`).

use bytes::{Bytes, BytesMut};
use vocabulary::{LeaderEpoch, Offset, ProducerId, Timestamp};

use super::codec::compress;
use super::header::{
    ATTRIBUTES_AT, Attributes, BASE_OFFSET_AT, BATCH_HEADER_LEN, BatchHeader, CRC_AT, Compression,
    LEADER_EPOCH_AT, LENGTH_OVERHEAD, MAGIC, MAX_TIMESTAMP_AT, TimestampType, crc32c,
};
use super::varint::{varint_len, varlong_len, write_varint, write_varlong};

/// A validated batch, the only owner of its bytes. `header` says what the bytes say.
#[derive(Debug)]
pub struct Batch {
    pub header: BatchHeader,
    bytes: BytesMut,
}

impl Batch {
    /// `bytes` is the whole batch, and `header` its header.
    pub(super) fn new(header: BatchHeader, bytes: BytesMut) -> Batch {
        assert_eq!(header.byte_length(), bytes.len(), "a batch ends where its length says");
        Batch { header, bytes }
    }

    /// Puts length, checksum and header before the records behind the header's place.
    pub(super) fn seal(mut header: BatchHeader, mut bytes: BytesMut) -> Batch {
        header.length = i32::try_from(bytes.len() - LENGTH_OVERHEAD)
            .expect("the caller bounds batches far below 2 GiB");
        bytes[..BATCH_HEADER_LEN].copy_from_slice(&header.encode());
        let mut batch = Batch::new(header, bytes);
        batch.sign();
        batch
    }

    fn sign(&mut self) {
        self.header.crc = crc32c(&self.bytes[ATTRIBUTES_AT..]);
        self.bytes[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&self.header.crc.to_be_bytes());
    }

    /// Sets timestamp type and max timestamp; makes the checksum anew only if one of them changes.
    pub(super) fn set_timestamps(&mut self, timestamp_type: TimestampType, max: Timestamp) {
        let current = self.header.attributes.timestamp_type();
        if current == timestamp_type && self.header.max_timestamp == max {
            return;
        }
        self.header.attributes = self.header.attributes.with_timestamp_type(timestamp_type);
        self.header.max_timestamp = max;
        self.bytes[ATTRIBUTES_AT..ATTRIBUTES_AT + 2]
            .copy_from_slice(&self.header.attributes.0.to_be_bytes());
        self.bytes[MAX_TIMESTAMP_AT..MAX_TIMESTAMP_AT + 8].copy_from_slice(&max.0.to_be_bytes());
        self.sign();
    }

    /// Gives the batch its place in the log. Both fields lie outside the checksum.
    pub fn stamp(&mut self, base_offset: Offset, leader_epoch: LeaderEpoch) {
        self.header.base_offset = base_offset;
        self.header.leader_epoch = leader_epoch.0;
        self.bytes[BASE_OFFSET_AT..BASE_OFFSET_AT + 8]
            .copy_from_slice(&base_offset.0.to_be_bytes());
        self.bytes[LEADER_EPOCH_AT..LEADER_EPOCH_AT + 4]
            .copy_from_slice(&leader_epoch.0.to_be_bytes());
    }

    /// The whole batch, header included.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Ends the sole ownership; nothing is copied.
    pub fn freeze(self) -> (BatchHeader, Bytes) {
        (self.header, self.bytes.freeze())
    }
}

/// The header's place, then `records`, compressed.
pub(super) fn compress_behind_header(
    codec: Compression,
    level: Option<i32>,
    records: &[u8],
) -> BytesMut {
    let mut bytes = BytesMut::with_capacity(match codec {
        Compression::None => BATCH_HEADER_LEN + records.len(),
        _ => BATCH_HEADER_LEN + records.len() / 2,
    });
    bytes.resize(BATCH_HEADER_LEN, 0);
    compress(codec, level, records, &mut bytes);
    bytes
}

/// A header as a record carries it: key and, perhaps, value.
pub(super) type BorrowedHeader<'a> = (&'a [u8], Option<&'a [u8]>);

/// Makes a batch record by record, as a producer does: for internal topics, control batches, tools
/// and tests. Offset deltas are 0, 1, 2 …; base offset 0 and no leader epoch until stamped.
#[derive(Debug)]
pub struct BatchBuilder {
    compression: Compression,
    producer: Option<(ProducerId, i16, i32)>,
    flags: i16,
    records: Vec<u8>,
    record_count: i32,
    base_timestamp: Timestamp,
    max_timestamp: Timestamp,
}

impl BatchBuilder {
    /// `producer`: id, epoch and the first record's sequence (-1 in control batches).
    pub fn new(compression: Compression, producer: Option<(ProducerId, i16, i32)>) -> BatchBuilder {
        BatchBuilder {
            compression,
            producer,
            flags: 0,
            records: Vec::new(),
            record_count: 0,
            base_timestamp: Timestamp(-1),
            max_timestamp: Timestamp(-1),
        }
    }

    /// The records belong to a transaction of the producer.
    pub fn transactional(mut self) -> BatchBuilder {
        self.flags |= Attributes::TRANSACTIONAL;
        self
    }

    /// The records are for the log and its readers, not for applications.
    pub fn control(mut self) -> BatchBuilder {
        self.flags |= Attributes::CONTROL;
        self
    }

    /// Appends a record. Keys, values and headers together stay below 2 GiB in a batch.
    pub fn push(
        &mut self,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&[u8], Option<&[u8]>)],
    ) {
        if self.record_count == 0 {
            self.base_timestamp = timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        let timestamp_delta = timestamp.0.wrapping_sub(self.base_timestamp.0);
        let body = 1
            + varlong_len(timestamp_delta)
            + varint_len(self.record_count)
            + nullable_len(key)
            + nullable_len(value)
            + headers_len(headers);
        self.records.reserve(body + 5);
        let out = &mut self.records;
        write_varint(length(body), out);
        out.push(0);
        write_varlong(timestamp_delta, out);
        write_varint(self.record_count, out);
        write_nullable(key, out);
        write_nullable(value, out);
        write_varint(length(headers.len()), out);
        for (key, value) in headers {
            write_nullable(Some(key), out);
            write_nullable(*value, out);
        }
        self.record_count += 1;
    }

    pub fn is_empty(&self) -> bool {
        self.record_count == 0
    }

    /// The batch's size if it were built now without compression.
    pub fn byte_length(&self) -> usize {
        BATCH_HEADER_LEN + self.records.len()
    }

    /// The batch. Panics if no record was pushed: a batch has at least one.
    pub fn build(self) -> Batch {
        assert!(self.record_count > 0, "a batch has records");
        let (producer_id, producer_epoch, base_sequence) = match self.producer {
            Some((id, epoch, sequence)) => (id.0, epoch, sequence),
            None => (-1, -1, -1),
        };
        let header = BatchHeader {
            base_offset: Offset(0),
            length: 0, // Sealing sets it, and the checksum.
            leader_epoch: -1,
            magic: MAGIC,
            crc: 0,
            attributes: Attributes(self.flags | self.compression.id()),
            last_offset_delta: self.record_count - 1,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id,
            producer_epoch,
            base_sequence,
            record_count: self.record_count,
        };
        Batch::seal(header, compress_behind_header(self.compression, None, &self.records))
    }
}

fn length(length: usize) -> i32 {
    i32::try_from(length).expect("a record stays below 2 GiB")
}

fn nullable_len(value: Option<&[u8]>) -> usize {
    match value {
        Some(value) => varint_len(length(value.len())) + value.len(),
        None => varint_len(-1),
    }
}

fn headers_len(headers: &[BorrowedHeader<'_>]) -> usize {
    let each = headers.iter().map(|(key, value)| nullable_len(Some(key)) + nullable_len(*value));
    varint_len(length(headers.len())) + each.sum::<usize>()
}

fn write_nullable(value: Option<&[u8]>, out: &mut Vec<u8>) {
    match value {
        Some(value) => {
            write_varint(length(value.len()), out);
            out.extend_from_slice(value);
        }
        None => write_varint(-1, out),
    }
}
