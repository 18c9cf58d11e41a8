//! How transactional ids are stored: the records of `__transaction_state`, as Apache Kafka writes them with
//! `transaction.version` 1 and later (value version 1). Version 0 is read, too.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{BufMut, Bytes, BytesMut};
use protocol::messages::transaction_log_key::TransactionLogKey;
use protocol::messages::transaction_log_value::{PartitionsSchema, TransactionLogValue};
use protocol::{DecodeError, Decoder, Encoder, Message};
use vocabulary::ProducerId;

use crate::format::{Record, Stored};
use crate::transactions::image::{
    TransactionEvent, TransactionImage, TransactionState, TransactionVersion,
};

/// The only kind of key, and its version.
const KEY: i16 = 0;
const VALUE_VERSION: i16 = 1;
const NONE: i64 = -1;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransactionFormatError {
    #[error("the record has no key, or ends in the middle of its version")]
    NoVersion,
    #[error("unknown version {version} of the value")]
    Version { version: i16 },
    #[error("unknown state {status}")]
    State { status: i8 },
    #[error(transparent)]
    Message(#[from] DecodeError),
}

/// How a unit of events goes into the log.
pub fn store(unit: &[TransactionEvent]) -> Stored {
    Stored::Records(unit.iter().map(encode).collect())
}

pub(crate) fn encode(event: &TransactionEvent) -> Record {
    match event {
        TransactionEvent::Stored { id, image } => {
            Record { key: key(id), value: Some(versioned(VALUE_VERSION, &value(image))) }
        }
        TransactionEvent::Forgotten { id } => Record { key: key(id), value: None },
    }
}

/// The bytes of an id with these partitions in a batch, rounded up.
pub(crate) fn encoded_len(id: &str, image: &TransactionImage) -> usize {
    const FIXED: usize = 128; // The record around it, and fields of fixed size.
    const TOPIC: usize = 12;
    let topic = |(name, indexes): (&String, &BTreeSet<i32>)| TOPIC + name.len() + 4 * indexes.len();
    FIXED + id.len() + image.partitions.iter().map(topic).sum::<usize>()
}

fn key(id: &str) -> Bytes {
    versioned(KEY, &TransactionLogKey { transactional_id: id.to_owned() })
}

fn versioned(version: i16, message: &impl Message) -> Bytes {
    let mut sink = Encoder::new();
    message.encode(&mut sink, version);
    let body = sink.finish();
    let mut bytes = BytesMut::with_capacity(2 + body.length);
    bytes.put_i16(version);
    body.chunks.iter().for_each(|it| bytes.extend_from_slice(it));
    bytes.freeze()
}

fn value(image: &TransactionImage) -> TransactionLogValue {
    let partitions = image.partitions.iter().map(|(topic, indexes)| PartitionsSchema {
        topic: topic.clone(),
        partition_ids: indexes.iter().copied().collect(),
    });
    let raw = |it: Option<ProducerId>| it.map_or(NONE, |it| it.0);
    TransactionLogValue {
        producer_id: image.producer.0,
        previous_producer_id: raw(image.previous_producer),
        next_producer_id: raw(image.next_producer),
        producer_epoch: image.epoch,
        next_producer_epoch: NONE as i16,
        transaction_timeout_ms: image.timeout_ms,
        transaction_status: status(image.state),
        // Null while empty, as Kafka has it.
        transaction_partitions: (image.state != TransactionState::Empty)
            .then(|| partitions.collect()),
        transaction_last_update_timestamp_ms: image.updated_at,
        transaction_start_timestamp_ms: image.started_at,
        client_transaction_version: match image.version {
            TransactionVersion::V1 => 0,
            TransactionVersion::V2 => 2,
        },
    }
}

fn status(state: TransactionState) -> i8 {
    match state {
        TransactionState::Empty => 0,
        TransactionState::Ongoing => 1,
        TransactionState::PrepareCommit => 2,
        TransactionState::PrepareAbort => 3,
        TransactionState::CompleteCommit => 4,
        TransactionState::CompleteAbort => 5,
    }
}

/// Decodes a record; `Ok(None)` for kinds of key that belong to somebody else.
pub fn decode(
    key: Option<&[u8]>,
    value: Option<&[u8]>,
) -> Result<Option<TransactionEvent>, TransactionFormatError> {
    let (kind, body) = split(key.unwrap_or_default())?;
    if kind != KEY {
        return Ok(None);
    }
    let id = TransactionLogKey::decode(&mut Decoder::new(body), KEY)?.transactional_id;
    let Some(value) = value else { return Ok(Some(TransactionEvent::Forgotten { id })) };
    let (version, body) = split(value)?;
    if !(0..=VALUE_VERSION).contains(&version) {
        return Err(TransactionFormatError::Version { version });
    }
    let value = TransactionLogValue::decode(&mut Decoder::new(body), version)?;
    Ok(Some(TransactionEvent::Stored { id, image: image(value)? }))
}

fn split(bytes: &[u8]) -> Result<(i16, BytesMut), TransactionFormatError> {
    let (version, body) = bytes.split_first_chunk().ok_or(TransactionFormatError::NoVersion)?;
    Ok((i16::from_be_bytes(*version), BytesMut::from(body)))
}

fn image(value: TransactionLogValue) -> Result<TransactionImage, TransactionFormatError> {
    let stored = value.transaction_status;
    let state = TransactionState::ALL.into_iter().find(|it| status(*it) == stored);
    let some = |it: i64| Some(ProducerId(it)).filter(|_| it != NONE);
    let mut partitions = BTreeMap::<String, BTreeSet<i32>>::new();
    for PartitionsSchema { topic, partition_ids } in
        value.transaction_partitions.unwrap_or_default()
    {
        partitions.entry(topic).or_default().extend(partition_ids);
    }
    Ok(TransactionImage {
        producer: ProducerId(value.producer_id),
        previous_producer: some(value.previous_producer_id),
        next_producer: some(value.next_producer_id),
        epoch: value.producer_epoch,
        timeout_ms: value.transaction_timeout_ms,
        state: state.ok_or(TransactionFormatError::State { status: stored })?,
        partitions,
        updated_at: value.transaction_last_update_timestamp_ms,
        started_at: value.transaction_start_timestamp_ms,
        version: match value.client_transaction_version {
            ..=1 => TransactionVersion::V1,
            2.. => TransactionVersion::V2,
        },
    })
}

#[cfg(test)]
mod tests;
