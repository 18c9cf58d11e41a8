//! Keys of the metadata database. Numbers are big-endian, so that keys sort as numbers do.
//!
//! | key | value |
//! | --- | --- |
//! | `a` resource, pattern, operation, permission u8, name, principal, host | an ACL; the value is empty |
//! | `b` broker i32 | a broker |
//! | `c` 0 | cluster-wide dynamic configs |
//! | `c` 1 broker i32 | one broker's dynamic configs |
//! | `d` topic 16 B | a deleted topic whose runs are being dropped: its number of partitions |
//! | `g` group UTF-8 | a group's dynamic configs; absent where none is set |
//! | `k` topic 16 B, index u32 | a partition's kept producers; read when they are needed |
//! | `l` broker i32, epoch u64 | a write-ahead log |
//! | `n` | the next producer id |
//! | `p` topic 16 B, index u32 | a partition's progress; absent while nothing is committed |
//! | `s` segment u128 | a data segment |
//! | `t` topic 16 B | a topic: name, partitions' leaders, configs |
//! | `w` broker i32, epoch u64, sequence u64 | a WAL segment that committed runs lie in |
//! | `r` topic 16 B, index u32, end u64 | a run; the end is exclusive |
//!
//! Runs come last: there may be millions, and loading leaves them out, and kept producers.

use std::ops::Range;

use vocabulary::{BrokerEpoch, BrokerId, Offset, Partition, SegmentName, TopicId};

use crate::state::Acl;

pub(super) const ACL: u8 = b'a';
pub(super) const BROKER: u8 = b'b';
pub(super) const CONFIGS: u8 = b'c';
pub(super) const DROPPING: u8 = b'd';
pub(super) const GROUP_CONFIGS: u8 = b'g';
pub(super) const KEPT: u8 = b'k';
pub(super) const LOG: u8 = b'l';
pub(super) const PRODUCER_ID: u8 = b'n';
pub(super) const PROGRESS: u8 = b'p';
pub(super) const RUN: u8 = b'r';
pub(super) const SEGMENT: u8 = b's';
pub(super) const TOPIC: u8 = b't';
pub(super) const WAL_SEGMENT: u8 = b'w';

/// Each text with its length before it, as u32.
pub(super) fn acl(acl: &Acl) -> Vec<u8> {
    let codes =
        [acl.resource.code(), acl.pattern.code(), acl.operation.code(), acl.permission.code()];
    let mut key = joined(ACL, &[&codes]);
    for text in [&acl.name, &acl.principal, &acl.host] {
        key.extend_from_slice(&(text.len() as u32).to_be_bytes());
        key.extend_from_slice(text.as_bytes());
    }
    key
}

pub(super) fn broker(id: BrokerId) -> Vec<u8> {
    joined(BROKER, &[&id.0.to_be_bytes()])
}

pub(super) fn configs(broker: Option<BrokerId>) -> Vec<u8> {
    match broker {
        None => vec![CONFIGS, 0],
        Some(id) => joined(CONFIGS, &[&[1], &id.0.to_be_bytes()]),
    }
}

pub(super) fn dropping(id: TopicId) -> Vec<u8> {
    joined(DROPPING, &[&id.0])
}

pub(super) fn group_configs(group: &str) -> Vec<u8> {
    joined(GROUP_CONFIGS, &[group.as_bytes()])
}

pub(super) fn kept(partition: Partition) -> Vec<u8> {
    joined(KEPT, &[&partition.topic.0, &partition.index.to_be_bytes()])
}

pub(super) fn log(broker: BrokerId, epoch: BrokerEpoch) -> Vec<u8> {
    joined(LOG, &[&broker.0.to_be_bytes(), &epoch.0.to_be_bytes()])
}

pub(super) fn producer_id() -> Vec<u8> {
    vec![PRODUCER_ID]
}

pub(super) fn progress(partition: Partition) -> Vec<u8> {
    joined(PROGRESS, &[&partition.topic.0, &partition.index.to_be_bytes()])
}

pub(super) fn segment(name: SegmentName) -> Vec<u8> {
    match name {
        SegmentName::Data(id) => joined(SEGMENT, &[&id.0.to_be_bytes()]),
        SegmentName::Wal { broker, epoch, sequence } => {
            let (broker, epoch) = (broker.0.to_be_bytes(), epoch.0.to_be_bytes());
            joined(WAL_SEGMENT, &[&broker, &epoch, &sequence.to_be_bytes()])
        }
    }
}

pub(super) fn topic(id: TopicId) -> Vec<u8> {
    joined(TOPIC, &[&id.0])
}

pub(super) fn run(partition: Partition, end: Offset) -> Vec<u8> {
    let (topic, index) = (partition.topic.0, partition.index.to_be_bytes());
    joined(RUN, &[&topic, &index, &end.0.to_be_bytes()])
}

/// Above every run of the partition.
pub(super) fn runs_end(partition: Partition) -> Vec<u8> {
    joined(RUN, &[&partition.topic.0, &partition.index.to_be_bytes(), &[0xff]])
}

/// Every run of every partition of a topic.
pub(super) fn runs_of_topic(id: TopicId) -> Range<Vec<u8>> {
    joined(RUN, &[&id.0])..joined(RUN, &[&id.0, &[0xff]])
}

/// What is loaded, in this order: topics before what refers to them.
pub(super) const LOADED: [u8; 11] = [
    TOPIC,
    PROGRESS,
    BROKER,
    CONFIGS,
    GROUP_CONFIGS,
    ACL,
    DROPPING,
    LOG,
    PRODUCER_ID,
    SEGMENT,
    WAL_SEGMENT,
];

/// The ranges that hold everything but runs and kept producers. Few: each asks every sorted file.
pub(super) fn all_but_runs() -> [Range<Vec<u8>>; 3] {
    [of(ACL, GROUP_CONFIGS), of(LOG, PROGRESS), of(SEGMENT, WAL_SEGMENT)]
}

/// Every registered broker.
pub(super) fn brokers() -> Range<Vec<u8>> {
    of(BROKER, BROKER)
}

/// All keys of the kinds from `first` to `last`.
fn of(first: u8, last: u8) -> Range<Vec<u8>> {
    vec![first]..vec![last + 1]
}

/// For errors: the kind as a letter, the rest in hex.
pub(super) fn printable(key: &[u8]) -> String {
    let Some((kind, rest)) = key.split_first() else { return "(empty)".into() };
    let hex: String = rest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}/{hex}", char::from(*kind))
}

fn joined(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut key = vec![kind];
    for part in parts {
        key.extend_from_slice(part);
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ranges_hold_what_is_loaded_and_nothing_else_of_ours() {
        let held = |kind: u8| all_but_runs().iter().any(|it| it.contains(&vec![kind, 7]));
        assert!(LOADED.into_iter().all(held));
        assert!(!held(RUN) && !held(KEPT));
        assert!(brokers().contains(&broker(BrokerId(i32::MAX))));
    }

    #[test]
    fn runs_sort_by_partition_and_end() {
        let at = |index, end| run(Partition { topic: TopicId([1; 16]), index }, Offset(end));
        let mut keys = vec![at(1, 5), at(0, 300), at(0, 5), at(1, 1 << 40), at(0, i64::MAX)];
        keys.sort();
        let expected = [at(0, 5), at(0, 300), at(0, i64::MAX), at(1, 5), at(1, 1 << 40)];
        assert_eq!(keys, expected);
        let partition = Partition { topic: TopicId([1; 16]), index: 0 };
        assert!(at(0, i64::MAX) < runs_end(partition) && runs_end(partition) < at(1, 0));
    }
}
