//! Values of the metadata database, field by field. Every value starts with its version.
//!
//! Numbers are big-endian; a string is its length as u32 and its UTF-8; an option is a byte 0 or 1
//! and the value. Golden bytes in the tests hold every version ever written.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use vocabulary::{
    BrokerEpoch, BrokerId, LeaderEpoch, Offset, Partition, SegmentName, Timestamp, TopicId,
    VolumeId,
};

mod entry;

pub use self::entry::MetadataValue;
pub(super) use self::entry::{decode, progress, segment};
use super::keys;
use crate::state::{
    Acl, AclOperation, AclPattern, AclPermission, AclResource, Broker, Event, KeptProducers,
    PartitionInfo, Progress, Run, Segment, State, Topic, WalKind, WalLog,
};

/// The version of every kind of value written today, but for those below.
const VERSION: u8 = 1;

/// A run that lies in a WAL segment: a broker, its epoch and a sequence instead of a segment's id.
const VERSION_RUN_IN_WAL: u8 = 2;

/// Progress of a partition with kept producers or replaced runs: both follow what version 1 has.
const VERSION_PROGRESS_KEPT: u8 = 2;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum FormatError {
    #[error("the value ends too early")]
    Short,
    #[error("the value has {0} bytes too many")]
    Long(usize),
    #[error("unknown value version {0}")]
    Version(u8),
    #[error("a name is not UTF-8")]
    Text,
    #[error("unknown kind of write-ahead log {0}")]
    WalKind(u8),
    #[error("an ACL speaks of something unknown")]
    Acl,
    #[error("the key is malformed")]
    Key,
}

/// The keys an event writes (or, with `None`, deletes), given the state after its commit.
pub(super) fn writes(after: &State, event: &Event) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    match event {
        Event::BrokerRegistered(broker) => {
            vec![(keys::broker(broker.id), Some(encode_broker(broker)))]
        }
        Event::BrokerRemoved { id } => vec![(keys::broker(*id), None)],
        Event::WalChanged(log) => {
            vec![(keys::log(log.broker, log.epoch), Some(encode_log(log)))]
        }
        Event::WalContinued { broker, epoch } => vec![(keys::log(*broker, *epoch), None)],
        Event::TopicCreated(topic) => topic_write(after, topic.id),
        Event::PartitionsChanged { topic, .. } | Event::TopicConfigsChanged { topic, .. } => {
            topic_write(after, *topic)
        }
        Event::TopicDeleted { id, partitions, kept, .. } => {
            let progress = (0..*partitions as i32)
                .map(|index| (keys::progress(Partition { topic: *id, index }), None));
            let mut writes = vec![
                (keys::topic(*id), None),
                (keys::dropping(*id), Some(Writer::new().u32(*partitions).finish())),
            ];
            writes.extend(progress);
            let kept = kept.iter().map(|index| Partition { topic: *id, index: *index });
            writes.extend(kept.map(|partition| (keys::kept(partition), None)));
            writes
        }
        Event::TopicDropped { id } => vec![(keys::dropping(*id), None)],
        Event::BrokerConfigsChanged { broker, configs } => {
            vec![(keys::configs(*broker), Some(Writer::new().map(configs).finish()))]
        }
        Event::GroupConfigsChanged { group, configs } => {
            let value = (!configs.is_empty()).then(|| Writer::new().map(configs).finish());
            vec![(keys::group_configs(group), value)]
        }
        Event::AclCreated(acl) => vec![(keys::acl(acl), Some(Writer::new().finish()))],
        Event::AclDeleted(acl) => vec![(keys::acl(acl), None)],
        Event::RunCommitted { run, .. } => {
            let mut writes = progress_write(after, run.partition);
            writes.push((keys::run(run.partition, run.end), Some(encode_run(run))));
            writes
        }
        Event::RunDropped { run, .. } => {
            let mut writes = progress_write(after, run.partition);
            writes.push((keys::run(run.partition, run.end), None));
            writes
        }
        Event::RunsReplaced { merged, parts, .. } => {
            let mut writes = progress_write(after, merged.partition);
            writes.extend(parts.iter().map(|it| (keys::run(it.partition, it.end), None)));
            // The last part ends where it ends: this takes its place.
            writes.push((keys::run(merged.partition, merged.end), Some(encode_run(merged))));
            writes
        }
        Event::ProducersKept(kept) => {
            let mut writes = progress_write(after, kept.partition);
            writes.push((keys::kept(kept.partition), Some(encode_kept(kept))));
            writes
        }
        Event::ProducersForgotten { partition } => vec![(keys::kept(*partition), None)],
        Event::LogStartAdvanced { partition, .. } => progress_write(after, *partition),
        Event::SegmentChanged { id, .. } => match after.segments.get(id) {
            Some(segment) => vec![(keys::segment(*id), Some(encode_segment(segment)))],
            None => Vec::new(), // Forgotten by a later event of the same commit.
        },
        Event::SegmentForgotten { id } => vec![(keys::segment(*id), None)],
        Event::ProducerIdsAllocated { .. } => {
            vec![(keys::producer_id(), Some(Writer::new().i64(after.producer_id_next).finish()))]
        }
    }
}

fn topic_write(after: &State, id: TopicId) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    // Absent when a later event of the same commit has deleted it.
    let topic = after.topics.get(&id);
    topic.map(|topic| (keys::topic(id), Some(encode_topic(topic)))).into_iter().collect()
}

fn progress_write(after: &State, partition: Partition) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    let progress = after.progress_of(partition);
    let encoded = progress.map(|it| (keys::progress(partition), Some(encode_progress(it))));
    encoded.into_iter().collect()
}

/// Puts one stored entry into the state.
pub(super) fn load(state: &mut State, key: &[u8], value: &[u8]) -> Result<(), FormatError> {
    let mut key = Reader::of(key);
    let kind = key.u8()?;
    let mut value = if kind == keys::PROGRESS { Reader::of(value) } else { Reader::value(value)? };
    match kind {
        keys::TOPIC => {
            let topic = decode_topic(TopicId(key.array()?), &mut value)?;
            state.names.insert(topic.name.clone(), topic.id);
            state.progress.insert(topic.id, vec![Progress::default(); topic.partitions.len()]);
            state.topics.insert(topic.id, Arc::new(topic));
        }
        keys::PROGRESS => {
            let partition = Partition { topic: TopicId(key.array()?), index: key.i32()? };
            let progress = decode_progress(&mut value)?;
            *state.progress_mut(partition).ok_or(FormatError::Key)? = progress;
        }
        keys::BROKER => {
            let broker = decode_broker(BrokerId(key.i32()?), &mut value)?;
            state.brokers.insert(broker.id, broker);
        }
        keys::CONFIGS => {
            let broker = if key.u8()? == 0 { None } else { Some(BrokerId(key.i32()?)) };
            state.broker_configs.insert(broker, value.map()?);
        }
        keys::GROUP_CONFIGS => {
            state.group_configs.insert(key.all_text()?, value.map()?);
        }
        keys::ACL => {
            state.acls.insert(Arc::new(decode_acl(&mut key)?));
        }
        keys::DROPPING => {
            state.dropping.insert(TopicId(key.array()?), value.u32()?);
        }
        keys::LOG => {
            let (broker, epoch) = (BrokerId(key.i32()?), BrokerEpoch(key.u64()?));
            let log = decode_log(broker, epoch, &mut value)?;
            state.logs.insert((broker, epoch), log);
        }
        keys::PRODUCER_ID => state.producer_id_next = value.i64()?,
        keys::SEGMENT => {
            let id = SegmentName::data(u128::from_be_bytes(key.array()?));
            state.set_segment(id, Some(decode_segment(&mut value)?));
        }
        keys::WAL_SEGMENT => {
            state.set_segment(decode_place(&mut key)?, Some(decode_segment(&mut value)?));
        }
        _ => return Err(FormatError::Key),
    }
    value.end()
}

/// Fills in what follows from the rest.
pub(super) fn complete(state: &mut State) {
    let brokers = state.brokers.values().map(|broker| broker.epoch);
    let logs = state.logs.values().map(|log| log.epoch);
    state.broker_epoch_last = brokers.chain(logs).max().unwrap_or_default();
}

/// The run of one entry.
pub(super) fn run(key: &[u8], value: &[u8]) -> Result<Run, FormatError> {
    let mut key = Reader::of(key);
    let kind = key.u8()?;
    let partition = Partition { topic: TopicId(key.array()?), index: key.i32()? };
    let end = Offset(key.i64()?);
    if kind != keys::RUN || key.end().is_err() {
        return Err(FormatError::Key);
    }
    let mut value = Reader::of(value);
    let version = value.u8()?;
    let run = Run {
        partition,
        leader_epoch: LeaderEpoch(value.i32()?),
        base: Offset(value.i64()?),
        end,
        max_timestamp: Timestamp(value.i64()?),
        segment: match version {
            VERSION => SegmentName::data(u128::from_be_bytes(value.array()?)),
            VERSION_RUN_IN_WAL => decode_place(&mut value)?,
            version => return Err(FormatError::Version(version)),
        },
        position: value.u64()?,
        length: value.u64()?,
        crc: value.u32()?,
    };
    value.end()?;
    Ok(run)
}

/// The kept producers of one entry.
pub(super) fn kept(partition: Partition, value: &[u8]) -> Result<KeptProducers, FormatError> {
    let mut value = Reader::value(value)?;
    let as_of = Offset(value.i64()?);
    let snapshot = Bytes::copy_from_slice(value.rest);
    Ok(KeptProducers { partition, as_of, snapshot })
}

fn encode_kept(kept: &KeptProducers) -> Vec<u8> {
    Writer::new().i64(kept.as_of.0).bytes(&kept.snapshot).finish()
}

fn encode_log(log: &WalLog) -> Vec<u8> {
    let kind = match (log.kind, log.volume) {
        (WalKind::File, None) => 0,
        (WalKind::Bucket, _) => 1,
        (WalKind::File, Some(_)) => 2,
    };
    let writer = Writer::new().u8(kind).u64(log.trimmed);
    let writer = match log.fence {
        None => writer.u8(0),
        Some(fence) => writer.u8(1).u64(fence),
    };
    match log.volume.filter(|_| log.kind == WalKind::File) {
        None => writer.finish(),
        Some(volume) => writer.bytes(&volume.0.to_be_bytes()).finish(),
    }
}

fn decode_log(
    broker: BrokerId,
    epoch: BrokerEpoch,
    value: &mut Reader<'_>,
) -> Result<WalLog, FormatError> {
    let (kind, has_volume) = match value.u8()? {
        0 => (WalKind::File, false),
        1 => (WalKind::Bucket, false),
        2 => (WalKind::File, true),
        unknown => return Err(FormatError::WalKind(unknown)),
    };
    let trimmed = value.u64()?;
    let fence = if value.u8()? == 0 { None } else { Some(value.u64()?) };
    let volume =
        if has_volume { Some(VolumeId(u128::from_be_bytes(value.array()?))) } else { None };
    Ok(WalLog { broker, epoch, kind, volume, trimmed, fence })
}

/// Where a WAL segment lies.
fn decode_place(fields: &mut Reader<'_>) -> Result<SegmentName, FormatError> {
    Ok(SegmentName::Wal {
        broker: BrokerId(fields.i32()?),
        epoch: BrokerEpoch(fields.u64()?),
        sequence: fields.u64()?,
    })
}

fn encode_run(run: &Run) -> Vec<u8> {
    let version = match run.segment {
        SegmentName::Data(_) => VERSION,
        SegmentName::Wal { .. } => VERSION_RUN_IN_WAL,
    };
    let writer =
        Writer::of(version).i32(run.leader_epoch.0).i64(run.base.0).i64(run.max_timestamp.0);
    let writer = match run.segment {
        SegmentName::Data(id) => writer.bytes(&id.0.to_be_bytes()),
        SegmentName::Wal { broker, epoch, sequence } => {
            writer.i32(broker.0).u64(epoch.0).u64(sequence)
        }
    };
    writer.u64(run.position).u64(run.length).u32(run.crc).finish()
}

/// All of an ACL is in its key. One that says what is not known here is an error, never left out: leaving
/// out a denial would allow.
fn decode_acl(key: &mut Reader<'_>) -> Result<Acl, FormatError> {
    Ok(Acl {
        resource: AclResource::from_code(key.u8()?).ok_or(FormatError::Acl)?,
        pattern: AclPattern::from_code(key.u8()?).ok_or(FormatError::Acl)?,
        operation: AclOperation::from_code(key.u8()?).ok_or(FormatError::Acl)?,
        permission: AclPermission::from_code(key.u8()?).ok_or(FormatError::Acl)?,
        name: key.text()?,
        principal: key.text()?,
        host: key.text()?,
    })
}

fn encode_broker(broker: &Broker) -> Vec<u8> {
    let writer = Writer::new().u64(broker.epoch.0).text(&broker.host).u32(u32::from(broker.port));
    match &broker.rack {
        None => writer.u8(0).finish(),
        Some(rack) => writer.u8(1).text(rack).finish(),
    }
}

fn decode_broker(id: BrokerId, value: &mut Reader<'_>) -> Result<Broker, FormatError> {
    Ok(Broker {
        id,
        epoch: BrokerEpoch(value.u64()?),
        host: value.text()?,
        port: u16::try_from(value.u32()?).map_err(|_| FormatError::Short)?,
        rack: if value.u8()? == 0 { None } else { Some(value.text()?) },
    })
}

fn encode_topic(topic: &Topic) -> Vec<u8> {
    let mut writer = Writer::new().text(&topic.name).u8(u8::from(topic.is_internal));
    writer = writer.map(&topic.configs).u32(topic.partitions.len() as u32);
    for partition in &topic.partitions {
        writer = writer.i32(partition.leader.0).i32(partition.leader_epoch.0);
    }
    writer.finish()
}

fn decode_topic(id: TopicId, value: &mut Reader<'_>) -> Result<Topic, FormatError> {
    let name = value.text()?;
    let is_internal = value.u8()? != 0;
    let configs = value.map()?;
    let count = value.u32()? as usize;
    // A partition takes eight bytes: a count beyond the bytes present is not believed.
    if value.rest.len() / 8 < count {
        return Err(FormatError::Short);
    }
    let mut partitions = Vec::with_capacity(count);
    for _ in 0..count {
        let (leader, leader_epoch) = (BrokerId(value.i32()?), LeaderEpoch(value.i32()?));
        partitions.push(PartitionInfo { leader, leader_epoch });
    }
    Ok(Topic { id, name, is_internal, partitions, configs })
}

fn encode_progress(progress: &Progress) -> Vec<u8> {
    let is_plain = progress.kept_as_of.is_none() && progress.replacements == 0;
    let version = if is_plain { VERSION } else { VERSION_PROGRESS_KEPT };
    let mut writer = Writer::of(version)
        .i64(progress.log_start.0)
        .i64(progress.runs_start.0)
        .i64(progress.committed_end.0)
        .u64(progress.committed_bytes)
        .u64(progress.runs)
        .u32(progress.epochs.len() as u32);
    for (epoch, start) in &progress.epochs {
        writer = writer.i32(epoch.0).i64(start.0);
    }
    if is_plain {
        return writer.finish();
    }
    writer = writer.u64(progress.replacements);
    match progress.kept_as_of {
        None => writer.u8(0).finish(),
        Some(as_of) => writer.u8(1).i64(as_of.0).finish(),
    }
}

fn decode_progress(value: &mut Reader<'_>) -> Result<Progress, FormatError> {
    let version = value.u8()?;
    if !(VERSION..=VERSION_PROGRESS_KEPT).contains(&version) {
        return Err(FormatError::Version(version));
    }
    let mut progress = Progress {
        log_start: Offset(value.i64()?),
        runs_start: Offset(value.i64()?),
        committed_end: Offset(value.i64()?),
        committed_bytes: value.u64()?,
        runs: value.u64()?,
        epochs: Vec::new(),
        kept_as_of: None,
        replacements: 0,
    };
    for _ in 0..value.u32()? {
        progress.epochs.push((LeaderEpoch(value.i32()?), Offset(value.i64()?)));
    }
    if version == VERSION_PROGRESS_KEPT {
        progress.replacements = value.u64()?;
        progress.kept_as_of = if value.u8()? == 0 { None } else { Some(Offset(value.i64()?)) };
    }
    Ok(progress)
}

fn encode_segment(segment: &Segment) -> Vec<u8> {
    let writer = Writer::new().u64(segment.bytes).i64(segment.created.0).u32(segment.live_runs);
    match segment.garbage_since {
        None => writer.u8(0).finish(),
        Some(since) => writer.u8(1).i64(since.0).finish(),
    }
}

fn decode_segment(value: &mut Reader<'_>) -> Result<Segment, FormatError> {
    Ok(Segment {
        bytes: value.u64()?,
        created: Timestamp(value.i64()?),
        live_runs: value.u32()?,
        garbage_since: if value.u8()? == 0 { None } else { Some(Timestamp(value.i64()?)) },
    })
}

struct Writer(Vec<u8>);

impl Writer {
    fn new() -> Writer {
        Writer::of(VERSION)
    }

    fn of(version: u8) -> Writer {
        Writer(vec![version])
    }

    fn bytes(mut self, bytes: &[u8]) -> Writer {
        self.0.extend_from_slice(bytes);
        self
    }

    fn u8(self, value: u8) -> Writer {
        self.bytes(&[value])
    }

    fn u32(self, value: u32) -> Writer {
        self.bytes(&value.to_be_bytes())
    }

    fn i32(self, value: i32) -> Writer {
        self.bytes(&value.to_be_bytes())
    }

    fn u64(self, value: u64) -> Writer {
        self.bytes(&value.to_be_bytes())
    }

    fn i64(self, value: i64) -> Writer {
        self.bytes(&value.to_be_bytes())
    }

    fn text(self, text: &str) -> Writer {
        self.u32(text.len() as u32).bytes(text.as_bytes())
    }

    fn map(mut self, map: &BTreeMap<String, String>) -> Writer {
        self = self.u32(map.len() as u32);
        for (name, value) in map {
            self = self.text(name).text(value);
        }
        self
    }

    fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Takes fields off the front; never reads past the end, never allocates more than is there.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn of(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    /// A value: its version comes first.
    fn value(bytes: &'a [u8]) -> Result<Reader<'a>, FormatError> {
        let mut reader = Reader::of(bytes);
        match reader.u8()? {
            VERSION => Ok(reader),
            version => Err(FormatError::Version(version)),
        }
    }

    fn end(&self) -> Result<(), FormatError> {
        if self.rest.is_empty() { Ok(()) } else { Err(FormatError::Long(self.rest.len())) }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], FormatError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(FormatError::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        self.take(N)?.try_into().map_err(|_| FormatError::Short)
    }

    fn u8(&mut self) -> Result<u8, FormatError> {
        Ok(self.array::<1>()?[0])
    }

    fn u32(&mut self) -> Result<u32, FormatError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn i32(&mut self) -> Result<i32, FormatError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, FormatError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    fn i64(&mut self) -> Result<i64, FormatError> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    fn text(&mut self) -> Result<String, FormatError> {
        let length = self.u32()? as usize;
        let bytes = self.take(length)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| FormatError::Text)
    }

    /// What is left, as text.
    fn all_text(&mut self) -> Result<String, FormatError> {
        let bytes = self.take(self.rest.len())?;
        String::from_utf8(bytes.to_vec()).map_err(|_| FormatError::Text)
    }

    fn map(&mut self) -> Result<BTreeMap<String, String>, FormatError> {
        let mut map = BTreeMap::new();
        for _ in 0..self.u32()? {
            let name = self.text()?;
            map.insert(name, self.text()?);
        }
        Ok(map)
    }
}

#[cfg(test)]
mod tests;
