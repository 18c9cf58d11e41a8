//! How events are stored: the records of `__consumer_offsets`, byte for byte as Apache Kafka 4.3
//! writes them, so that its tools read ours and a log written by Kafka can be taken over.
//!
//! Written: OffsetCommitKey 1 with value version 3, or 1 when the offset carries its own expiry;
//! GroupMetadataKey 2 with value version 3; the keys of consumer groups (`consumer`) and share groups (`share`).
//! Read: keys 0 to 2 with every value version, 0 to 4, and those of consumer and share groups. Later kinds of key
//! are told apart and left alone.
//!
//! Reading trusts nothing: a length is believed only if that many bytes are there.

mod consumer;
mod share;

pub(crate) use consumer::{read as read_value, value as written_value};

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use vocabulary::{Offset, ProducerId, TopicId};

use crate::event::{CommittedOffset, Event, GroupImage, MemberImage, OffsetKey, TransactionEnd};

const OFFSET_COMMIT_KEY_OLD: i16 = 0;
const OFFSET_COMMIT_KEY: i16 = 1;
const GROUP_METADATA_KEY: i16 = 2;
const VALUE_VERSION_EXPIRING: i16 = 1;
const VALUE_VERSION: i16 = 3;
const VALUE_VERSION_FLEXIBLE: i16 = 4;
/// Of the flexible value of an offset.
const TOPIC_ID_TAG: u8 = 0;

/// The longest text a record can hold, in bytes: its length is a positive 16-bit number.
pub const TEXT_BYTES_MAX: usize = i16::MAX as usize;

/// A record as it goes into a batch; without a value it is a tombstone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub key: Bytes,
    pub value: Option<Bytes>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    #[error("the record ends in the middle of a field")]
    Truncated,
    #[error("a text is not UTF-8, or null where it must not be")]
    Text,
    #[error("unknown version {version} of the value of key kind {kind}")]
    Version { kind: i16, version: i16 },
    #[error("the record has no key")]
    NoKey,
}

/// How a unit of events goes into the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// May share its batch with others.
    Records(Vec<Record>),
    /// In a transactional batch of the producer's, without sequence.
    InTransaction { producer: ProducerId, epoch: i16, records: Vec<Record> },
    /// As a control batch.
    End(TransactionEnd),
}

/// Encodes a unit: all of it belongs to one transaction, or none.
pub fn store(unit: &[Event]) -> Stored {
    let records = || unit.iter().map(encode).collect();
    match unit.first() {
        Some(Event::OffsetPending { producer, epoch, .. }) => {
            Stored::InTransaction { producer: *producer, epoch: *epoch, records: records() }
        }
        Some(Event::TransactionEnded(end)) => Stored::End(*end),
        Some(_) | None => Stored::Records(records()),
    }
}

/// Encodes one event, but for the end of a transaction, which is a control batch. Texts are at most
/// [`TEXT_BYTES_MAX`] long: the shard refuses longer ones.
pub(crate) fn encode(event: &Event) -> Record {
    match event {
        Event::OffsetCommitted { key, value } | Event::OffsetPending { key, value, .. } => {
            Record { key: offset_key(key), value: Some(offset_value(value)) }
        }
        Event::OffsetForgotten { key } => Record { key: offset_key(key), value: None },
        Event::GroupStored { group, image } => {
            Record { key: group_key(group), value: Some(group_value(image)) }
        }
        Event::GroupForgotten { group } => Record { key: group_key(group), value: None },
        Event::Consumer { group, fact } => consumer::encode(group, fact),
        Event::Share { group, fact } => share::encode(group, fact),
        Event::TransactionEnded(_) => unreachable!("the end of a transaction is a control batch"),
    }
}

/// The bytes an event takes in a batch, rounded up.
pub fn encoded_len(event: &Event) -> usize {
    const RECORD: usize = 24; // Lengths, deltas and attributes of the record around it.
    const FIXED: usize = 40; // The fields of fixed size of one value or one member.
    let key = |it: &OffsetKey| RECORD + 10 + it.group.len() + it.topic.len();
    match event {
        Event::OffsetCommitted { key: it, value } | Event::OffsetPending { key: it, value, .. } => {
            key(it) + FIXED + value.metadata.len()
        }
        Event::OffsetForgotten { key: it } => key(it),
        Event::GroupStored { group, image } => {
            let texts = image.protocol_type.len()
                + image.protocol.as_ref().map_or(0, String::len)
                + image.leader.as_ref().map_or(0, String::len);
            let member = |(id, it): (&String, &MemberImage)| {
                let instance = it.instance.as_ref().map_or(0, String::len);
                let texts = id.len() + instance + it.client_id.len() + it.client_host.len();
                FIXED + texts + it.subscription.len() + it.assignment.len()
            };
            let members: usize = image.members.iter().map(member).sum();
            RECORD + group.len() + FIXED + texts + members
        }
        Event::GroupForgotten { group } => RECORD + group.len(),
        Event::Consumer { group, fact } => {
            let Record { key, value } = consumer::encode(group, fact);
            RECORD + key.len() + value.map_or(0, |it| it.len())
        }
        Event::Share { group, fact } => {
            let Record { key, value } = share::encode(group, fact);
            RECORD + key.len() + value.map_or(0, |it| it.len())
        }
        Event::TransactionEnded(_) => RECORD + FIXED,
    }
}

fn offset_key(key: &OffsetKey) -> Bytes {
    let mut sink = BytesMut::with_capacity(10 + key.group.len() + key.topic.len());
    sink.put_i16(OFFSET_COMMIT_KEY);
    put_text(&mut sink, &key.group);
    put_text(&mut sink, &key.topic);
    sink.put_i32(key.partition);
    sink.freeze()
}

fn offset_value(value: &CommittedOffset) -> Bytes {
    let mut sink = BytesMut::with_capacity(32 + value.metadata.len());
    match value.expire_timestamp {
        Some(expire_timestamp) => {
            // Only version 1 has the expiry; it has no leader epoch.
            sink.put_i16(VALUE_VERSION_EXPIRING);
            sink.put_i64(value.offset.0);
            put_text(&mut sink, &value.metadata);
            sink.put_i64(value.commit_timestamp);
            sink.put_i64(expire_timestamp);
        }
        None if value.topic_id == TopicId::ZERO => {
            sink.put_i16(VALUE_VERSION);
            sink.put_i64(value.offset.0);
            sink.put_i32(value.leader_epoch);
            put_text(&mut sink, &value.metadata);
            sink.put_i64(value.commit_timestamp);
        }
        None => {
            sink.put_i16(VALUE_VERSION_FLEXIBLE);
            sink.put_i64(value.offset.0);
            sink.put_i32(value.leader_epoch);
            put_compact_text(&mut sink, &value.metadata);
            sink.put_i64(value.commit_timestamp);
            let tags = [1, TOPIC_ID_TAG, size_of::<TopicId>() as u8];
            sink.put_slice(&tags);
            sink.put_slice(&value.topic_id.0);
        }
    }
    sink.freeze()
}

fn group_key(group: &str) -> Bytes {
    let mut sink = BytesMut::with_capacity(4 + group.len());
    sink.put_i16(GROUP_METADATA_KEY);
    put_text(&mut sink, group);
    sink.freeze()
}

fn group_value(image: &GroupImage) -> Bytes {
    let mut sink = BytesMut::new();
    sink.put_i16(VALUE_VERSION);
    put_text(&mut sink, &image.protocol_type);
    sink.put_i32(image.generation);
    put_nullable_text(&mut sink, image.protocol.as_deref());
    put_nullable_text(&mut sink, image.leader.as_deref());
    sink.put_i64(image.state_timestamp);
    sink.put_i32(i32::try_from(image.members.len()).expect("a step is bounded in bytes"));
    for (id, member) in &image.members {
        put_text(&mut sink, id);
        put_nullable_text(&mut sink, member.instance.as_deref());
        put_text(&mut sink, &member.client_id);
        put_text(&mut sink, &member.client_host);
        sink.put_i32(member.rebalance_timeout_ms);
        sink.put_i32(member.session_timeout_ms);
        put_blob(&mut sink, &member.subscription);
        put_blob(&mut sink, &member.assignment);
    }
    sink.freeze()
}

pub(crate) fn put_text(sink: &mut BytesMut, text: &str) {
    sink.put_i16(i16::try_from(text.len()).expect("texts are bounded when they come in"));
    sink.put_slice(text.as_bytes());
}

/// As flexible versions have it: the length is an unsigned varint, one more than it is.
fn put_compact_text(sink: &mut BytesMut, text: &str) {
    let mut length = text.len() + 1;
    while 0x80 <= length {
        sink.put_u8((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    sink.put_u8(length as u8);
    sink.put_slice(text.as_bytes());
}

fn put_nullable_text(sink: &mut BytesMut, text: Option<&str>) {
    match text {
        Some(text) => put_text(sink, text),
        None => sink.put_i16(-1),
    }
}

fn put_blob(sink: &mut BytesMut, blob: &[u8]) {
    sink.put_i32(i32::try_from(blob.len()).expect("a step is bounded in bytes"));
    sink.put_slice(blob);
}

/// Decodes a record; `Ok(None)` for kinds of key that belong to somebody else.
pub fn decode(key: Option<&[u8]>, value: Option<&[u8]>) -> Result<Option<Event>, FormatError> {
    let mut source = Source { rest: key.ok_or(FormatError::NoKey)?, flexible: false };
    let kind = source.i16()?;
    match kind {
        OFFSET_COMMIT_KEY_OLD | OFFSET_COMMIT_KEY => {
            let (group, topic) = (source.text()?, source.text()?);
            let key = OffsetKey { group, topic, partition: source.i32()? };
            Ok(Some(match value {
                Some(value) => Event::OffsetCommitted { key, value: read_offset(kind, value)? },
                None => Event::OffsetForgotten { key },
            }))
        }
        GROUP_METADATA_KEY => {
            let group = source.text()?;
            Ok(Some(match value {
                Some(value) => Event::GroupStored { group, image: read_group(value)? },
                None => Event::GroupForgotten { group },
            }))
        }
        _ => match consumer::decode(kind, &mut source, value)? {
            None => share::decode(kind, &mut source, value),
            found => Ok(found),
        },
    }
}

/// Decodes a record of a transactional batch: only offsets are stored so.
pub fn decode_in_transaction(
    (producer, epoch): (ProducerId, i16),
    key: Option<&[u8]>,
    value: Option<&[u8]>,
) -> Result<Option<Event>, FormatError> {
    Ok(match decode(key, value)? {
        Some(Event::OffsetCommitted { key, value }) => {
            Some(Event::OffsetPending { producer, epoch, key, value })
        }
        Some(_) | None => None,
    })
}

fn read_offset(kind: i16, value: &[u8]) -> Result<CommittedOffset, FormatError> {
    let (mut source, version) = Source::of_value(kind, value)?;
    let offset = Offset(source.i64()?);
    let leader_epoch = if 3 <= version { source.i32()? } else { -1 };
    let metadata = source.text()?;
    let commit_timestamp = source.i64()?;
    let expire_timestamp = if version == 1 { Some(source.i64()?) } else { None };
    let topic_id = source.tagged(TOPIC_ID_TAG)?.and_then(|it| it.try_into().ok()).map(TopicId);
    Ok(CommittedOffset {
        topic_id: topic_id.unwrap_or(TopicId::ZERO),
        offset,
        leader_epoch,
        metadata,
        commit_timestamp,
        expire_timestamp: expire_timestamp.filter(|it| *it != -1),
    })
}

fn read_group(value: &[u8]) -> Result<GroupImage, FormatError> {
    let (mut source, version) = Source::of_value(GROUP_METADATA_KEY, value)?;
    let protocol_type = source.text()?;
    let generation = source.i32()?;
    let protocol = source.nullable_text()?;
    let leader = source.nullable_text()?;
    let state_timestamp = if 2 <= version { source.i64()? } else { -1 };
    let count = source.count()?;
    let mut members = BTreeMap::new();
    for _ in 0..count {
        let (id, member) = read_member(&mut source, version)?;
        members.insert(id, member);
    }
    source.tags()?;
    // Old records name a protocol or a leader that is not there; the group would not run so.
    let leader = leader.filter(|it| members.contains_key(it));
    let leader = leader.or_else(|| members.keys().next().cloned());
    let protocol = protocol.filter(|_| !members.is_empty());
    Ok(GroupImage { protocol_type, generation, protocol, leader, state_timestamp, members })
}

fn read_member(
    source: &mut Source<'_>,
    version: i16,
) -> Result<(String, MemberImage), FormatError> {
    let id = source.text()?;
    let instance = if 3 <= version { source.nullable_text()? } else { None };
    let client_id = source.text()?;
    let client_host = source.text()?;
    let rebalance_timeout_ms = if 1 <= version { source.i32()? } else { -1 };
    let session_timeout_ms = source.i32()?;
    let subscription = source.blob()?;
    let assignment = source.blob()?;
    source.tags()?;
    let member = MemberImage {
        instance,
        client_id,
        client_host,
        // Members of old know no rebalance timeout: their session counts for both.
        rebalance_timeout_ms: match rebalance_timeout_ms {
            -1 => session_timeout_ms,
            known => known,
        },
        session_timeout_ms,
        subscription,
        assignment,
    };
    Ok((id, member))
}

/// A cursor over a key or a value.
struct Source<'a> {
    rest: &'a [u8],
    /// Lengths are unsigned varints, one more than the length, and structures end in tags.
    flexible: bool,
}

impl<'a> Source<'a> {
    fn of_value(kind: i16, value: &'a [u8]) -> Result<(Source<'a>, i16), FormatError> {
        let mut source = Source { rest: value, flexible: false };
        let version = source.i16()?;
        if !(0..=VALUE_VERSION_FLEXIBLE).contains(&version) {
            return Err(FormatError::Version { kind, version });
        }
        source.flexible = VALUE_VERSION_FLEXIBLE <= version;
        Ok((source, version))
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(FormatError::Truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    fn slice(&mut self, length: usize) -> Result<&'a [u8], FormatError> {
        let (head, rest) = self.rest.split_at_checked(length).ok_or(FormatError::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    fn i16(&mut self) -> Result<i16, FormatError> {
        self.take().map(i16::from_be_bytes)
    }

    fn i32(&mut self) -> Result<i32, FormatError> {
        self.take().map(i32::from_be_bytes)
    }

    fn i64(&mut self) -> Result<i64, FormatError> {
        self.take().map(i64::from_be_bytes)
    }

    fn varint(&mut self) -> Result<u32, FormatError> {
        let mut value = 0u64;
        for place in 0..5 {
            let [byte] = self.take()?;
            value |= u64::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| FormatError::Truncated);
            }
        }
        Err(FormatError::Truncated)
    }

    /// The length of what follows; `None` is null.
    fn length(&mut self, short: bool) -> Result<Option<usize>, FormatError> {
        let length = match (self.flexible, short) {
            (true, _) => i64::from(self.varint()?) - 1,
            (false, true) => i64::from(self.i16()?),
            (false, false) => i64::from(self.i32()?),
        };
        Ok(usize::try_from(length).ok())
    }

    fn nullable_text(&mut self) -> Result<Option<String>, FormatError> {
        let Some(length) = self.length(true)? else { return Ok(None) };
        let text = std::str::from_utf8(self.slice(length)?).map_err(|_| FormatError::Text)?;
        Ok(Some(text.to_owned()))
    }

    fn text(&mut self) -> Result<String, FormatError> {
        self.nullable_text()?.ok_or(FormatError::Text)
    }

    /// Copied, so that a small state never keeps a large batch in memory.
    fn blob(&mut self) -> Result<Bytes, FormatError> {
        let length = self.length(false)?.unwrap_or(0);
        self.slice(length).map(Bytes::copy_from_slice)
    }

    /// The length of an array whose elements take a byte at least.
    fn count(&mut self) -> Result<usize, FormatError> {
        let count = self.length(false)?.unwrap_or(0);
        if self.rest.len() < count { Err(FormatError::Truncated) } else { Ok(count) }
    }

    /// Skips the tagged fields that end a structure of a flexible version.
    fn tags(&mut self) -> Result<(), FormatError> {
        self.tagged(u8::MAX).map(|_| ())
    }

    /// One of them, and skips the others.
    fn tagged(&mut self, wanted: u8) -> Result<Option<&[u8]>, FormatError> {
        if !self.flexible {
            return Ok(None);
        }
        let mut found = None;
        for _ in 0..self.varint()? {
            let tag = self.varint()?;
            let length = self.varint()?;
            let field = self.slice(length as usize)?;
            found = found.or_else(|| (tag == u32::from(wanted)).then_some(field));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests;
