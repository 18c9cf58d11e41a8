//! Reading back: a record set into batches, a batch into records.
//!
//! Nothing is copied but what was compressed: keys, values and headers are slices.

use bytes::Bytes;
use vocabulary::{Offset, Timestamp};

use super::codec::decompress;
use super::header::{BATCH_HEADER_LEN, BatchError, BatchHeader, Compression, TimestampType};
use super::scan::{SliceSource, Source, skip_headers};
use super::varint::{read_varint, read_varlong};

/// Splits a record set. The first error ends the iteration; an incomplete last batch is one
/// ([`BatchError::Truncated`]). Checksums are not checked here: [`super::check_crc`].
pub fn batches(bytes: Bytes) -> BatchIter {
    BatchIter { rest: bytes }
}

/// The batches of a record set, see [`batches`].
#[derive(Debug)]
pub struct BatchIter {
    rest: Bytes,
}

impl Iterator for BatchIter {
    type Item = Result<(BatchHeader, Bytes), BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let parsed = BatchHeader::parse(&self.rest).and_then(|header| {
            let (needed, present) = (header.byte_length(), self.rest.len());
            if present < needed {
                return Err(BatchError::Truncated { needed, present });
            }
            Ok(header)
        });
        match parsed {
            Ok(header) => Some(Ok((header, self.rest.split_to(header.byte_length())))),
            Err(error) => {
                self.rest.clear();
                Some(Err(error))
            }
        }
    }
}

/// One record, as a consumer sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub offset: Offset,
    /// The append time of the batch if it has one, else the producer's.
    pub timestamp: Timestamp,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: RecordHeaders,
}

/// A record's headers, kept encoded: a hostile record may claim very many.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecordHeaders {
    count: i32,
    /// Walked over once, so it holds `count` headers.
    encoded: Bytes,
}

impl RecordHeaders {
    pub fn len(&self) -> usize {
        usize::try_from(self.count).unwrap_or(0)
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Key and value, in order. Keys are UTF-8 by Kafka's convention; nothing checks it.
    pub fn iter(&self) -> impl Iterator<Item = (Bytes, Option<Bytes>)> + use<> {
        let mut rest = self.encoded.clone();
        std::iter::from_fn(move || take_header(&mut rest))
    }

    /// `encoded` must hold exactly `count` headers.
    fn parse(count: i32, encoded: Bytes) -> Option<RecordHeaders> {
        let mut source = SliceSource::new(&encoded);
        skip_headers(&mut source, count).ok()?;
        source.at_end()?.then_some(())?;
        Some(RecordHeaders { count, encoded })
    }
}

fn take_header(rest: &mut Bytes) -> Option<(Bytes, Option<Bytes>)> {
    let key = take_nullable(rest)??;
    Some((key, take_nullable(rest)?))
}

/// Opens a batch (its header first, bytes after its length are ignored). Decompression makes at most
/// `records_bytes_max` bytes; more is [`BatchError::TooLarge`].
pub fn records(batch: &Bytes, records_bytes_max: usize) -> Result<RecordIter, BatchError> {
    let header = BatchHeader::parse(batch)?;
    if batch.len() < header.byte_length() {
        let (needed, present) = (header.byte_length(), batch.len());
        return Err(BatchError::Truncated { needed, present });
    }
    if header.record_count < 0 {
        return Err(BatchError::Malformed { what: "negative number of records" });
    }
    let payload = batch.slice(BATCH_HEADER_LEN..header.byte_length());
    let payload = match header.attributes.compression()? {
        Compression::None => payload,
        codec if header.record_count > 0 => {
            Bytes::from(decompress(codec, &payload, records_bytes_max)?)
        }
        _ => Bytes::new(), // Compaction leaves batches without records.
    };
    Ok(RecordIter { header, rest: payload, remaining: header.record_count })
}

/// The records of a batch, see [`records`]. The first error ends the iteration.
#[derive(Debug)]
pub struct RecordIter {
    header: BatchHeader,
    rest: Bytes,
    remaining: i32,
}

impl RecordIter {
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    fn record(&mut self) -> Option<Record> {
        let length = usize::try_from(take_varint(&mut self.rest)?).ok()?;
        let mut body = take(&mut self.rest, length)?;
        take(&mut body, 1)?; // The attributes: unused.
        let (timestamp_delta, taken) = read_varlong(&body)?;
        take(&mut body, taken)?;
        let offset_delta = take_varint(&mut body)?;
        let key = take_nullable(&mut body)?;
        let value = take_nullable(&mut body)?;
        let header_count = take_varint(&mut body)?;
        let headers = RecordHeaders::parse(header_count, body)?;
        let timestamp = match self.header.attributes.timestamp_type() {
            TimestampType::LogAppendTime => self.header.max_timestamp,
            TimestampType::CreateTime => {
                Timestamp(self.header.base_timestamp.0.wrapping_add(timestamp_delta))
            }
        };
        let offset = Offset(self.header.base_offset.0.wrapping_add(i64::from(offset_delta)));
        Some(Record { offset, timestamp, key, value, headers })
    }
}

impl Iterator for RecordIter {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.remaining == 0 {
            if self.rest.is_empty() {
                return None;
            }
            self.rest.clear();
            return Some(Err(BatchError::Malformed { what: "bytes remain after the last record" }));
        }
        self.remaining -= 1;
        let record = self.record();
        if record.is_none() {
            self.remaining = 0;
            self.rest.clear();
        }
        Some(record.ok_or(BatchError::Malformed { what: "record structure" }))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, usize::try_from(self.remaining).ok().and_then(|it| it.checked_add(1)))
    }
}

fn take(bytes: &mut Bytes, length: usize) -> Option<Bytes> {
    (length <= bytes.len()).then(|| bytes.split_to(length))
}

fn take_varint(bytes: &mut Bytes) -> Option<i32> {
    let (value, length) = read_varint(bytes)?;
    take(bytes, length)?;
    Some(value)
}

/// `None`: malformed; `Some(None)`: null, which any negative length means.
fn take_nullable(bytes: &mut Bytes) -> Option<Option<Bytes>> {
    match usize::try_from(take_varint(bytes)?) {
        Ok(length) => Some(Some(take(bytes, length)?)),
        Err(_) => Some(None),
    }
}
