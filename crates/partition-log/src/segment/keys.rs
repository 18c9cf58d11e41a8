//! Where a segment lies in the bucket.
//!
//! Owns: the keys of segments, both ways. Does not own: what else is in the bucket.

use bucket::Key;
use vocabulary::{BrokerEpoch, BrokerId, SegmentId, SegmentName};

/// Below this, the data segments of all brokers.
pub const DATA_PREFIX: &str = "data";

/// Below this, the write-ahead logs: one directory a broker, in it one an epoch.
pub const WAL_PREFIX: &str = "wal";

/// Digits of a sequence in a key, so that keys sort as sequences do.
const SEQUENCE_DIGITS: usize = 20;

/// `data/<first two digits>/<id in 32 hexadecimal digits>`: the ids are random, so keys spread evenly
/// over what the store partitions by. `wal/<broker>/<epoch>/<sequence>`: one writer, in order.
pub fn segment_key(name: SegmentName) -> Key {
    match name {
        SegmentName::Data(id) => {
            let name = id.to_string();
            Key::new(format!("{DATA_PREFIX}/{}/{name}", &name[..2]))
        }
        SegmentName::Wal { broker, epoch, sequence } => {
            wal_prefix(broker, epoch).join(format_args!("{sequence:0SEQUENCE_DIGITS$}"))
        }
    }
}

/// Below this, every segment of one broker epoch's write-ahead log, and its fence.
pub fn wal_prefix(broker: BrokerId, epoch: BrokerEpoch) -> Key {
    Key::new(format!("{WAL_PREFIX}/{broker}/{epoch}"))
}

/// The segment whose key this is; `None` for what is no segment of ours.
pub fn segment_of(key: &Key) -> Option<SegmentName> {
    let parts: Vec<&str> = key.as_str().split('/').collect();
    let name = match *parts.as_slice() {
        [DATA_PREFIX, _, id] => SegmentName::Data(SegmentId(u128::from_str_radix(id, 16).ok()?)),
        [WAL_PREFIX, broker, epoch, sequence] => SegmentName::Wal {
            broker: BrokerId(broker.parse().ok()?),
            epoch: BrokerEpoch(epoch.parse().ok()?),
            sequence: sequence.parse().ok()?,
        },
        _ => return None,
    };
    (segment_key(name) == *key).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_data_spread_by_the_first_digits_and_read_back() {
        let id = SegmentName::data(0xab00_0000_0000_0000_0000_0000_0000_0007);
        let key = segment_key(id);
        assert_eq!(key.as_str(), "data/ab/ab000000000000000000000000000007");
        assert_eq!(segment_of(&key), Some(id));
        for other in ["data/ab/7", "data/ac/ab000000000000000000000000000007", "data/ab/xyz"] {
            assert_eq!(segment_of(&Key::new(other)), None, "{other}");
        }
    }

    #[test]
    fn keys_of_a_log_sort_by_sequence_and_read_back() {
        let at = |sequence| {
            let (broker, epoch) = (BrokerId(3), BrokerEpoch(12));
            SegmentName::Wal { broker, epoch, sequence }
        };
        assert_eq!(segment_key(at(7)).as_str(), "wal/3/12/00000000000000000007");
        assert!(segment_key(at(9)) < segment_key(at(10)));
        for sequence in [0, 7, u64::MAX] {
            assert_eq!(segment_of(&segment_key(at(sequence))), Some(at(sequence)));
        }
        for other in ["wal/3/12/7", "wal/3/12", "wal/x/12/00000000000000000007", "wal/3/12/fence"] {
            assert_eq!(segment_of(&Key::new(other)), None, "{other}");
        }
    }
}
