//! Reads the topics out of the consumer protocol's subscription (`ConsumerProtocolSubscription`),
//! the one group protocol the coordinator looks into: offsets of a topic that a live member
//! subscribes to neither expire nor may be deleted.
//!
//! Trusts nothing: the bytes come from clients. Later versions only add fields at the end, so only
//! the head is read.

use std::collections::BTreeSet;

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
