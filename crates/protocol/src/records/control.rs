//! Control batches: the markers that end transactions (KIP-98).
//!
//! A marker is a batch of one record. Key: version and type, both int16. Value: version int16, then
//! the epoch of the coordinator that decided, int32. Later versions only add behind that.

use bytes::Bytes;
use vocabulary::{ProducerId, Timestamp};

use super::batch::{Batch, BatchBuilder};
use super::header::{BatchError, BatchHeader, Compression};
use super::iteration::records;

const KEY_VERSION: i16 = 0;
const VALUE_VERSION: i16 = 0;
const TYPE_ABORT: i16 = 0;
const TYPE_COMMIT: i16 = 1;
/// A marker is tens of bytes; what is larger is none.
const MARKER_BYTES_MAX: usize = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransactionResult {
    Abort,
    Commit,
}

/// The end of a producer's transaction in one partition. Takes one offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EndTxnMarker {
    pub result: TransactionResult,
    /// Of the transaction coordinator; an older one's marker is refused by the log.
    pub coordinator_epoch: i32,
}

impl EndTxnMarker {
    /// The control batch: transactional, without sequence.
    pub fn batch(&self, producer: ProducerId, epoch: i16, timestamp: Timestamp) -> Batch {
        let kind = match self.result {
            TransactionResult::Abort => TYPE_ABORT,
            TransactionResult::Commit => TYPE_COMMIT,
        };
        let key = [KEY_VERSION.to_be_bytes(), kind.to_be_bytes()].concat();
        let mut value = VALUE_VERSION.to_be_bytes().to_vec();
        value.extend_from_slice(&self.coordinator_epoch.to_be_bytes());
        let mut builder = BatchBuilder::new(Compression::None, Some((producer, epoch, -1)))
            .transactional()
            .control();
        builder.push(timestamp, Some(&key), Some(&value), &[]);
        builder.build()
    }

    /// The marker in `batch`. `None`: it is no control batch, or one of another type.
    pub fn read(batch: &Bytes) -> Result<Option<EndTxnMarker>, BatchError> {
        let malformed = BatchError::Malformed { what: "control record" };
        if !BatchHeader::parse(batch)?.attributes.is_control() {
            return Ok(None);
        }
        let record = match records(batch, MARKER_BYTES_MAX)?.next() {
            Some(record) => record?,
            None => return Ok(None), // Compaction may have emptied it.
        };
        let key = record.key.ok_or_else(|| malformed.clone())?;
        let [_, _, kind @ ..] = key.first_chunk::<4>().ok_or_else(|| malformed.clone())?;
        let result = match i16::from_be_bytes(*kind) {
            TYPE_ABORT => TransactionResult::Abort,
            TYPE_COMMIT => TransactionResult::Commit,
            _ => return Ok(None),
        };
        let value = record.value.ok_or_else(|| malformed.clone())?;
        let [_, _, epoch @ ..] = value.first_chunk::<6>().ok_or(malformed)?;
        let coordinator_epoch = i32::from_be_bytes(*epoch);
        Ok(Some(EndTxnMarker { result, coordinator_epoch }))
    }
}

#[cfg(test)]
mod tests {
    use vocabulary::{LeaderEpoch, Offset};

    use super::*;

    #[test]
    fn markers_read_back() {
        for result in [TransactionResult::Abort, TransactionResult::Commit] {
            let marker = EndTxnMarker { result, coordinator_epoch: 7 };
            let mut batch = marker.batch(ProducerId(5), 2, Timestamp(1000));
            batch.stamp(Offset(42), LeaderEpoch(3));
            let (header, bytes) = batch.freeze();
            assert!(header.attributes.is_control() && header.attributes.is_transactional());
            assert_eq!((header.base_sequence, header.last_sequence()), (-1, -1));
            assert_eq!((header.end_offset(), header.leader_epoch), (Offset(43), 3));
            assert_eq!(super::super::check_crc(&bytes), Ok(()));
            assert_eq!(EndTxnMarker::read(&bytes), Ok(Some(marker)));
        }
    }

    #[test]
    fn other_batches_are_no_markers() {
        let batch = |control: bool, key: &[u8], value: Option<&[u8]>| {
            let mut builder = BatchBuilder::new(Compression::None, None);
            if control {
                builder = builder.control();
            }
            builder.push(Timestamp(0), Some(key), value, &[]);
            builder.build().freeze().1
        };
        let value: Option<&[u8]> = Some(&[0, 0, 0, 0, 0, 1]);
        assert_eq!(EndTxnMarker::read(&batch(false, &[0, 0, 0, 1], value)), Ok(None));
        assert_eq!(EndTxnMarker::read(&batch(true, &[0, 0, 0, 2], value)), Ok(None));
        assert!(EndTxnMarker::read(&batch(true, &[0, 0, 0], value)).is_err());
        assert!(EndTxnMarker::read(&batch(true, &[0, 0, 0, 1], None)).is_err());
        // A later version of the value adds behind what is known.
        let value: Option<&[u8]> = Some(&[0, 1, 0, 0, 0, 9, 0]);
        let marker = EndTxnMarker { result: TransactionResult::Commit, coordinator_epoch: 9 };
        assert_eq!(EndTxnMarker::read(&batch(true, &[0, 0, 0, 1], value)), Ok(Some(marker)));
    }
}
