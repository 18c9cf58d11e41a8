//! Names of things: brokers, topics, partitions, producers, segments.

use std::fmt;
use std::str::FromStr;

use crate::BrokerEpoch;

/// Kafka's `node.id`: which broker, across its restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BrokerId(pub i32);

/// A topic's UUID (KIP-516). A re-created topic of the same name has another one. Prints as Kafka
/// prints it: unpadded URL-safe base64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TopicId(pub [u8; 16]);

/// One partition of one topic, by id: a name can be reused, an id cannot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Partition {
    pub topic: TopicId,
    pub index: i32,
}

/// A producer's id (KIP-98). -1 on the wire means "none"; there it is an `Option`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ProducerId(pub i64);

/// A data segment's name: 128 random bits, so that keys spread over the bucket's partitions and no
/// two writers ever choose the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SegmentId(pub u128);

/// A volume that write-ahead logs lie on: a name that its directory was given once, at random, to tell it
/// from any other. Prints as 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VolumeId(pub u128);

/// Which segment this is. Never reused: a broker epoch is issued once, ids are random.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SegmentName {
    /// One durable write of a broker's write-ahead log.
    Wal { broker: BrokerId, epoch: BrokerEpoch, sequence: u64 },
    /// An object that holds flushed or merged runs.
    Data(SegmentId),
}

impl SegmentName {
    /// The data segment with this id.
    pub const fn data(id: u128) -> SegmentName {
        SegmentName::Data(SegmentId(id))
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SegmentName::Wal { broker, epoch, sequence } => {
                write!(f, "WAL segment {sequence} of broker {broker} in epoch {epoch}")
            }
            SegmentName::Data(id) => write!(f, "data segment {id}"),
        }
    }
}

impl TopicId {
    /// All zero: Kafka's way to say "no topic id".
    pub const ZERO: TopicId = TopicId([0; 16]);
}

const BASE64_URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.chunks(3) {
            let word = chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte))
                << (8 * (3 - chunk.len()));
            for place in 0..=chunk.len() {
                let sextet = (word >> (18 - 6 * place)) & 63;
                write!(f, "{}", char::from(BASE64_URL[sextet as usize]))?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseTopicIdError;

impl fmt::Display for ParseTopicIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a topic id is 22 characters of URL-safe base64")
    }
}

impl std::error::Error for ParseTopicIdError {}

impl FromStr for TopicId {
    type Err = ParseTopicIdError;

    fn from_str(text: &str) -> Result<TopicId, ParseTopicIdError> {
        if text.len() != 22 {
            return Err(ParseTopicIdError);
        }
        let mut value: u128 = 0;
        for (place, letter) in text.bytes().enumerate() {
            let sextet = BASE64_URL.iter().position(|it| *it == letter).ok_or(ParseTopicIdError)?;
            let sextet = sextet as u128;
            if place < 21 {
                value = value << 6 | sextet;
            } else if sextet & 15 == 0 {
                value = value << 2 | sextet >> 4; // 128 bits are 21 letters and two bits of the last.
            } else {
                return Err(ParseTopicIdError);
            }
        }
        Ok(TopicId(value.to_be_bytes()))
    }
}

impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Not 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParseVolumeIdError;

impl std::error::Error for ParseVolumeIdError {}

impl fmt::Display for ParseVolumeIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a volume is named by 32 hexadecimal digits")
    }
}

impl FromStr for VolumeId {
    type Err = ParseVolumeIdError;

    fn from_str(text: &str) -> Result<VolumeId, ParseVolumeIdError> {
        let is_hex = text.len() == 32 && text.bytes().all(|it| it.is_ascii_hexdigit());
        let number = u128::from_str_radix(text, 16).map_err(|_| ParseVolumeIdError)?;
        if is_hex { Ok(VolumeId(number)) } else { Err(ParseVolumeIdError) }
    }
}

impl fmt::Display for BrokerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.index)
    }
}

impl fmt::Display for ProducerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_ids_print_and_parse_as_kafka_does() {
        let id = TopicId([0xff; 16]);
        assert_eq!(id.to_string(), "_____________________w");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(TopicId::ZERO.to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!("_____________________x".parse::<TopicId>(), Err(ParseTopicIdError));
        assert_eq!("short".parse::<TopicId>(), Err(ParseTopicIdError));
    }
}
