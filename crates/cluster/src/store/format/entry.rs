//! One stored entry by itself, whatever is stored around it.
//!
//! Owns: telling an entry's kind from its key, with its key's own fields. Does not own: what entries mean
//! together (`load`), the keys' order.

use std::collections::BTreeMap;

use vocabulary::{BrokerEpoch, BrokerId, Partition, SegmentName, TopicId};

use super::{
    FormatError, Reader, decode_acl, decode_broker, decode_log, decode_place, decode_progress,
    decode_segment, decode_topic, kept, keys, run,
};
use crate::state::{Acl, Broker, KeptProducers, Progress, Run, Segment, Topic, WalLog};

/// What one entry of the metadata database says.
#[derive(Debug, Clone, PartialEq)]
pub enum MetadataValue {
    Topic(Topic),
    Progress(Partition, Progress),
    Broker(Broker),
    /// Dynamic configs of one broker, or the cluster-wide ones.
    Configs(Option<BrokerId>, BTreeMap<String, String>),
    /// Dynamic configs of a group.
    GroupConfigs(String, BTreeMap<String, String>),
    Acl(Acl),
    /// A deleted topic whose runs are being dropped, and how many partitions it had.
    Dropping(TopicId, u32),
    Log(WalLog),
    ProducerIdNext(i64),
    Segment(SegmentName, Segment),
    Kept(KeptProducers),
    Run(Run),
}

/// Decodes one entry.
pub(in crate::store) fn decode(key: &[u8], value: &[u8]) -> Result<MetadataValue, FormatError> {
    let whole = (key, value);
    let mut key = Reader::of(key);
    let kind = key.u8()?;
    // These read their values themselves.
    if kind == keys::RUN {
        return run(whole.0, whole.1).map(MetadataValue::Run);
    }
    if kind == keys::KEPT {
        let partition = partition(&mut key)?;
        key.end().map_err(|_| FormatError::Key)?;
        return kept(partition, value).map(MetadataValue::Kept);
    }
    let mut value = if kind == keys::PROGRESS { Reader::of(value) } else { Reader::value(value)? };
    let decoded = match kind {
        keys::TOPIC => MetadataValue::Topic(decode_topic(TopicId(key.array()?), &mut value)?),
        keys::PROGRESS => {
            MetadataValue::Progress(partition(&mut key)?, decode_progress(&mut value)?)
        }
        keys::BROKER => MetadataValue::Broker(decode_broker(BrokerId(key.i32()?), &mut value)?),
        keys::CONFIGS => {
            let broker = if key.u8()? == 0 { None } else { Some(BrokerId(key.i32()?)) };
            MetadataValue::Configs(broker, value.map()?)
        }
        keys::GROUP_CONFIGS => MetadataValue::GroupConfigs(key.all_text()?, value.map()?),
        keys::ACL => MetadataValue::Acl(decode_acl(&mut key)?),
        keys::DROPPING => MetadataValue::Dropping(TopicId(key.array()?), value.u32()?),
        keys::LOG => {
            let (broker, epoch) = (BrokerId(key.i32()?), BrokerEpoch(key.u64()?));
            MetadataValue::Log(decode_log(broker, epoch, &mut value)?)
        }
        keys::PRODUCER_ID => MetadataValue::ProducerIdNext(value.i64()?),
        keys::SEGMENT => {
            let name = SegmentName::data(u128::from_be_bytes(key.array()?));
            MetadataValue::Segment(name, decode_segment(&mut value)?)
        }
        keys::WAL_SEGMENT => {
            MetadataValue::Segment(decode_place(&mut key)?, decode_segment(&mut value)?)
        }
        _ => return Err(FormatError::Key),
    };
    key.end().map_err(|_| FormatError::Key)?;
    value.end()?;
    Ok(decoded)
}

/// The progress of one partition.
pub(in crate::store) fn progress(value: &[u8]) -> Result<Progress, FormatError> {
    let mut value = Reader::of(value);
    let progress = decode_progress(&mut value)?;
    value.end()?;
    Ok(progress)
}

/// The record of one segment.
pub(in crate::store) fn segment(value: &[u8]) -> Result<Segment, FormatError> {
    let mut value = Reader::value(value)?;
    let segment = decode_segment(&mut value)?;
    value.end()?;
    Ok(segment)
}

fn partition(key: &mut Reader<'_>) -> Result<Partition, FormatError> {
    Ok(Partition { topic: TopicId(key.array()?), index: key.i32()? })
}
