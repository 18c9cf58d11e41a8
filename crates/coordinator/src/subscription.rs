//! Reads and writes the consumer protocol's messages (`ConsumerProtocolSubscription` and
//! `…Assignment`), the one group protocol the coordinator looks into: offsets of a topic that a live
//! member subscribes to neither expire nor may be deleted, and consumers may move to a consumer group
//! and back (KIP-848).
//!
//! Trusts nothing: the bytes come from clients. Later versions only add fields at the end; where only
//! the topics matter, only the head is read.

use std::collections::BTreeSet;

use bytes::{BufMut, Bytes, BytesMut};
use protocol::messages::{consumer_protocol_assignment, consumer_protocol_subscription};
use protocol::{Decoder, Encoder, Message};
use vocabulary::TopicId;

use crate::catalogue::Catalogue;
use crate::event::Partitions;

/// The protocol type of consumers; every other type is opaque.
pub(crate) const CONSUMER: &str = "consumer";

/// The subscribed topics, or `None` when the bytes are not a subscription.
pub(crate) fn topics(subscription: &[u8]) -> Option<BTreeSet<String>> {
    let mut rest = subscription;
    let version = take_i16(&mut rest)?;
    let count = u32::from_be_bytes(take(&mut rest)?);
    // A topic takes two bytes at least: a count beyond the bytes present is not believed.
    if version < 0 || rest.len() / 2 < usize::try_from(count).ok()? {
        return None;
    }
    let mut topics = BTreeSet::new();
    for _ in 0..count {
        let length = usize::try_from(take_i16(&mut rest)?).ok()?;
        let (name, tail) = rest.split_at_checked(length)?;
        topics.insert(std::str::from_utf8(name).ok()?.to_owned());
        rest = tail;
    }
    Some(topics)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

fn take_i16(rest: &mut &[u8]) -> Option<i16> {
    Some(i16::from_be_bytes(take(rest)?))
}

/// The newest version of the consumer protocol's two messages.
const VERSION_MAX: i16 = 3;

/// Behind the version in two bytes; a version yet unknown is read as the newest known.
fn decode<M: Message>(bytes: &[u8]) -> Option<M> {
    let (version, rest) = bytes.split_first_chunk()?;
    let version = i16::from_be_bytes(*version);
    if version < 0 {
        return None;
    }
    M::decode(&mut Decoder::new(BytesMut::from(rest)), version.min(VERSION_MAX)).ok()
}

/// All that a consumer says of itself when it joins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConsumerSubscription {
    pub(crate) topics: BTreeSet<String>,
    /// What it goes on consuming while it rebalances, by the topic's name.
    owned: Vec<(String, Vec<i32>)>,
    pub(crate) rack: Option<String>,
}

impl ConsumerSubscription {
    pub(crate) fn decode(bytes: &[u8]) -> Option<ConsumerSubscription> {
        let said: consumer_protocol_subscription::ConsumerProtocolSubscription = decode(bytes)?;
        let owned = said.owned_partitions.into_iter().map(|it| (it.topic, it.partitions));
        Some(ConsumerSubscription {
            topics: said.topics.into_iter().collect(),
            owned: owned.collect(),
            rack: said.rack_id,
        })
    }

    /// Of topics that exist.
    pub(crate) fn owned(&self, catalogue: &dyn Catalogue) -> Partitions {
        by_id(catalogue, self.owned.iter().map(|(topic, them)| (topic, &them[..])))
    }
}

fn by_id<'a>(
    catalogue: &dyn Catalogue,
    rows: impl Iterator<Item = (&'a String, &'a [i32])>,
) -> Partitions {
    let mut partitions = Partitions::new();
    for (topic, them) in rows.filter(|(_, them)| !them.is_empty()) {
        if let Some(facts) = catalogue.topic(topic) {
            partitions.entry(facts.id).or_default().extend(them);
        }
    }
    partitions
}

/// An assignment as SyncGroup brings it, in the version of the subscription it answers.
pub(crate) fn encode_assignment(
    catalogue: &dyn Catalogue,
    partitions: &Partitions,
    subscription: &[u8],
) -> Bytes {
    let version = subscription.first_chunk().map_or(0, |it| i16::from_be_bytes(*it));
    let version = version.clamp(0, VERSION_MAX);
    let row = |(id, them): (&TopicId, &BTreeSet<i32>)| {
        let (topic, partitions) = (catalogue.name_of(*id)?, them.iter().copied().collect());
        Some(consumer_protocol_assignment::TopicPartition { topic, partitions })
    };
    let assigned_partitions = partitions.iter().filter_map(row).collect();
    let message = consumer_protocol_assignment::ConsumerProtocolAssignment {
        assigned_partitions,
        user_data: None,
    };
    let mut sink = Encoder::new();
    message.encode(&mut sink, version);
    let mut bytes = BytesMut::new();
    bytes.put_i16(version);
    sink.finish().chunks.iter().for_each(|it| bytes.put_slice(it));
    bytes.freeze()
}

/// The partitions of an assignment; of none, none. `None` if it cannot be read, or if an assignor of its
/// own kind has put something into it that only its members understand.
pub(crate) fn decode_assignment(catalogue: &dyn Catalogue, bytes: &[u8]) -> Option<Partitions> {
    if bytes.is_empty() {
        return Some(Partitions::new());
    }
    let said: consumer_protocol_assignment::ConsumerProtocolAssignment = decode(bytes)?;
    if said.user_data.is_some_and(|it| !it.is_empty()) {
        return None;
    }
    let rows = said.assigned_partitions.iter().map(|it| (&it.topic, &it.partitions[..]));
    Some(by_id(catalogue, rows))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A subscription as consumers of version 0 write it.
    pub(crate) fn subscription(topics: &[&str]) -> Vec<u8> {
        let mut bytes = vec![0, 0];
        bytes.extend((topics.len() as i32).to_be_bytes());
        for topic in topics {
            bytes.extend((topic.len() as i16).to_be_bytes());
            bytes.extend(topic.as_bytes());
        }
        bytes.extend((-1i32).to_be_bytes());
        bytes
    }

    #[test]
    fn topics_are_read_and_nonsense_is_not() {
        let expect = |names: &[&str]| Some(names.iter().map(|it| (*it).to_owned()).collect());
        assert_eq!(topics(&subscription(&[])), expect(&[]));
        assert_eq!(topics(&subscription(&["b", "a", "b"])), expect(&["a", "b"]));
        let mut newer = subscription(&["a"]);
        newer[1] = 9;
        newer.extend([1, 2, 3]);
        assert_eq!(topics(&newer), expect(&["a"]), "later versions only add fields");
        for bad in
            [&b""[..], b"\0", b"\0\0\0\0\0\x01", b"\0\0\xff\xff\xff\xff", b"\0\0\0\0\0\x01\0\x02a"]
        {
            assert_eq!(topics(bad), None, "{bad:?}");
        }
        assert_eq!(topics(b"\0\0\0\0\0\x01\0\x01\xff"), None, "not UTF-8");
        assert_eq!(topics(b"\xff\xff\0\0\0\0"), None, "negative version");
    }
}
