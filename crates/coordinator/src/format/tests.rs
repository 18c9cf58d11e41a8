use proptest::prelude::*;
use protocol::messages::{group_metadata_value, offset_commit_value};
use protocol::{Decoder, Encoder, Message};

use super::*;
use vocabulary::TopicId;

use crate::event::{
    ConsumerFact, Current, GroupEpoch, MemberState, OwnedPartitions, ResolvedPattern, Subscription,
    TargetEpoch,
};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|it| format!("{it:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |it: &[u8]| u8::from_str_radix(std::str::from_utf8(it).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn key() -> OffsetKey {
    OffsetKey { group: "g".to_owned(), topic: "tp".to_owned(), partition: 7 }
}

fn value() -> CommittedOffset {
    CommittedOffset {
        offset: Offset(42),
        leader_epoch: 5,
        metadata: "m".to_owned(),
        commit_timestamp: 1000,
        expire_timestamp: None,
        topic_id: TopicId::ZERO,
    }
}

fn of_a_topic() -> CommittedOffset {
    CommittedOffset { topic_id: TopicId(std::array::from_fn(|it| it as u8)), ..value() }
}

fn image() -> GroupImage {
    let member = MemberImage {
        instance: Some("i".to_owned()),
        client_id: "c".to_owned(),
        client_host: "/h".to_owned(),
        rebalance_timeout_ms: 300,
        session_timeout_ms: 10,
        subscription: Bytes::from_static(b"s"),
        assignment: Bytes::from_static(b"as"),
    };
    GroupImage {
        protocol_type: "consumer".to_owned(),
        generation: 3,
        protocol: Some("range".to_owned()),
        leader: Some("m1".to_owned()),
        state_timestamp: 9,
        members: BTreeMap::from([("m1".to_owned(), member)]),
    }
}

// Goal: the bytes are Kafka's. Method: written down field by field after Kafka's schemas
// (OffsetCommitKey/Value, GroupMetadataKey/Value); a change here is a change of the stored format.
#[test]
fn records_have_kafkas_bytes() {
    let offset = encode(&Event::OffsetCommitted { key: key(), value: value() });
    assert_eq!(hex(&offset.key), "0001 0001 67 0002 7470 00000007".replace(' ', ""));
    assert_eq!(
        hex(&offset.value.unwrap()),
        "0003 000000000000002a 00000005 0001 6d 00000000000003e8".replace(' ', "")
    );
    let offset = encode(&Event::OffsetCommitted { key: key(), value: of_a_topic() });
    assert_eq!(
        hex(&offset.value.unwrap()),
        "0004 000000000000002a 00000005 02 6d 00000000000003e8
         01 00 10 000102030405060708090a0b0c0d0e0f"
            .split_whitespace()
            .collect::<String>()
    );
    let expiring = CommittedOffset { expire_timestamp: Some(2000), ..value() };
    let expiring = encode(&Event::OffsetCommitted { key: key(), value: expiring });
    assert_eq!(
        hex(&expiring.value.unwrap()),
        "0001 000000000000002a 0001 6d 00000000000003e8 00000000000007d0".replace(' ', "")
    );
    let group = encode(&Event::GroupStored { group: "g".to_owned(), image: image() });
    assert_eq!(hex(&group.key), "0002 0001 67".replace(' ', ""));
    assert_eq!(
        hex(&group.value.unwrap()),
        "0003 0008 636f6e73756d6572 00000003 0005 72616e6765 0002 6d31 0000000000000009 00000001
         0002 6d31 0001 69 0001 63 0002 2f68 0000012c 0000000a 00000001 73 00000002 6173"
            .split_whitespace()
            .collect::<String>()
    );
    assert_eq!(encode(&Event::OffsetForgotten { key: key() }).value, None);
    assert_eq!(encode(&Event::GroupForgotten { group: "g".to_owned() }).value, None);
}

#[test]
fn every_older_and_newer_value_version_is_read() {
    let unknown_epoch = CommittedOffset { leader_epoch: -1, ..value() };
    let cases = [
        ("0000 000000000000002a 0001 6d 00000000000003e8", unknown_epoch.clone()),
        (
            "0001 000000000000002a 0001 6d 00000000000003e8 00000000000007d0",
            CommittedOffset { expire_timestamp: Some(2000), ..unknown_epoch.clone() },
        ),
        ("0001 000000000000002a 0001 6d 00000000000003e8 ffffffffffffffff", unknown_epoch.clone()),
        ("0002 000000000000002a 0001 6d 00000000000003e8", unknown_epoch),
        ("0003 000000000000002a 00000005 0001 6d 00000000000003e8", value()),
        ("0004 000000000000002a 00000005 02 6d 00000000000003e8 00", value()),
        // With the topic id that version 4 may carry as a tagged field.
        (
            "0004 000000000000002a 00000005 02 6d 00000000000003e8
             01 00 10 000102030405060708090a0b0c0d0e0f",
            of_a_topic(),
        ),
    ];
    let offset_key = encode(&Event::OffsetForgotten { key: key() }).key;
    for (bytes, expected) in cases {
        let event = decode(Some(&offset_key), Some(&unhex(bytes)));
        let expected = Event::OffsetCommitted { key: key(), value: expected };
        assert_eq!(event, Ok(Some(expected)), "{bytes}");
    }
    let group_key = encode(&Event::GroupForgotten { group: "g".to_owned() }).key;
    let mut old = image();
    let member = old.members.get_mut("m1").unwrap();
    (member.instance, old.state_timestamp) = (None, -1);
    let mut oldest = old.clone();
    oldest.members.get_mut("m1").unwrap().rebalance_timeout_ms = 10; // The session timeout.
    let mut second = old.clone();
    second.state_timestamp = 9;
    let head = "0008 636f6e73756d6572 00000003 0005 72616e6765 0002 6d31";
    let blobs = "00000001 73 00000002 6173";
    let cases = [
        (format!("0000 {head} 00000001 0002 6d31 0001 63 0002 2f68 0000000a {blobs}"), oldest),
        (
            format!("0001 {head} 00000001 0002 6d31 0001 63 0002 2f68 0000012c 0000000a {blobs}"),
            old,
        ),
        (
            format!(
                "0002 {head} 0000000000000009 00000001 0002 6d31 0001 63 0002 2f68 0000012c
                 0000000a {blobs}"
            ),
            second,
        ),
        (
            "0004 09 636f6e73756d6572 00000003 06 72616e6765 03 6d31 0000000000000009 02
             03 6d31 02 69 02 63 03 2f68 0000012c 0000000a 02 73 03 6173 00 00"
                .to_owned(),
            image(),
        ),
    ];
    for (bytes, expected) in cases {
        let event = decode(Some(&group_key), Some(&unhex(&bytes)));
        let group = "g".to_owned();
        assert_eq!(event, Ok(Some(Event::GroupStored { group, image: expected })), "{bytes}");
    }
}

// As above, for the records of consumer groups (ConsumerGroup…Key and …Value, version 0).
#[test]
fn records_of_consumer_groups_have_kafkas_bytes() {
    let topic = TopicId([7; 16]);
    let id = "07".repeat(16);
    let member = || "m".to_owned();
    let subscription = Subscription {
        instance: Some("i".to_owned()),
        client_id: "c".to_owned(),
        client_host: "/h".to_owned(),
        topics: ["t".to_owned()].into(),
        rebalance_timeout_ms: 300,
        ..Subscription::default()
    };
    let current = Current {
        epoch: 3,
        previous_epoch: 2,
        state: MemberState::UnreleasedPartitions,
        assigned: [(topic, [(5, 3)].into())].into(),
        revoking: OwnedPartitions::new(),
    };
    let resolved = ResolvedPattern { topics: ["t".to_owned()].into(), version: 0, timestamp: 9 };
    for (fact, key, value) in [
        (
            ConsumerFact::Epoch(Some(GroupEpoch { epoch: 3, metadata_hash: 5 })),
            "0003 0001 67",
            "0000 00000003 01 00 08 0000000000000005".to_owned(),
        ),
        (
            ConsumerFact::Member { member: member(), subscription: Some(Box::new(subscription)) },
            "0005 0001 67 0001 6d",
            "0000 02 69 00 02 63 03 2f68 02 02 74 00 0000012c 00 01 00 01 ff".to_owned(),
        ),
        (
            ConsumerFact::TargetEpoch(Some(TargetEpoch { epoch: 3, timestamp: 9 })),
            "0006 0001 67",
            "0000 00000003 01 00 08 0000000000000009".to_owned(),
        ),
        (
            ConsumerFact::Target {
                member: member(),
                partitions: Some([(topic, [5].into())].into()),
            },
            "0007 0001 67 0001 6d",
            format!("0000 02 {id} 02 00000005 00 00"),
        ),
        (
            ConsumerFact::Current { member: member(), current: Some(current) },
            "0008 0001 67 0001 6d",
            format!("0000 00000003 00000002 02 02 {id} 02 00000005 01 00 05 02 00000003 01 00"),
        ),
        (
            ConsumerFact::Pattern { expression: "t.*".to_owned(), resolved: Some(resolved) },
            "0010 0001 67 0003 742e2a",
            "0000 02 02 74 0000000000000000 0000000000000009 00".to_owned(),
        ),
    ] {
        let record = encode(&Event::Consumer { group: "g".to_owned(), fact: fact.clone() });
        assert_eq!(record.key, unhex(key), "{fact:?}");
        assert_eq!(hex(&record.value.unwrap()), hex(&unhex(&value)), "{fact:?}");
    }
}

#[test]
fn foreign_records_are_told_apart_from_broken_ones() {
    // A consumer group's partitions, which Kafka wrote until 4.0, and a streams group's epoch.
    assert_eq!(decode(Some(&unhex("0004 0001 67")), Some(b"anything")), Ok(None));
    assert_eq!(decode(Some(&unhex("0011 0001 67")), Some(b"anything")), Ok(None));
    assert_eq!(
        decode(Some(&unhex("0003 0001 67")), Some(&unhex("0001"))),
        Err(FormatError::Version { kind: 3, version: 1 })
    );
    let truncated = decode(Some(&unhex("0003 0001 67")), Some(&unhex("0000 0000")));
    assert_eq!(truncated, Err(FormatError::Truncated));
    assert_eq!(decode(None, Some(b"x")), Err(FormatError::NoKey));
    assert_eq!(decode(Some(b""), None), Err(FormatError::Truncated));
    let key = encode(&Event::GroupForgotten { group: "g".to_owned() }).key;
    assert_eq!(
        decode(Some(&key), Some(&unhex("0005"))),
        Err(FormatError::Version { kind: 2, version: 5 })
    );
    // An empty group that claims two billion members.
    let value = unhex("0000 0000 00000001 ffff ffff 7fffffff");
    assert_eq!(decode(Some(&key), Some(&value)), Err(FormatError::Truncated));
}

/// Through the definitions the protocol room checks against Kafka's own: same bytes again.
fn recoded<M: Message>(value: &Bytes) -> Vec<u8> {
    let version = i16::from_be_bytes([value[0], value[1]]);
    let message = M::decode(&mut Decoder::new(BytesMut::from(&value[2..])), version).unwrap();
    let mut sink = Encoder::new();
    message.encode(&mut sink, version);
    [&value[..2], &sink.finish().chunks.concat()].concat()
}

proptest! {
    #[test]
    fn values_agree_with_the_protocols_definitions(event in crate::shard::tests::any_event()) {
        let Some(value) = encode(&event).value else { return Ok(()) };
        let again = match event {
            Event::OffsetCommitted { .. } | Event::OffsetPending { .. } => {
                recoded::<offset_commit_value::OffsetCommitValue>(&value)
            }
            Event::GroupStored { .. } | Event::GroupForgotten { .. } => {
                recoded::<group_metadata_value::GroupMetadataValue>(&value)
            }
            // Made from these definitions; what they hold is checked byte by byte above.
            Event::OffsetForgotten { .. }
            | Event::Consumer { .. }
            | Event::Share { .. }
            | Event::TransactionEnded(_) => return Ok(()),
        };
        prop_assert_eq!(&value[..], again);
    }

    #[test]
    fn what_is_written_is_read(event in crate::shard::tests::any_event()) {
        let record = encode(&event);
        let bytes = record.key.len() + record.value.as_ref().map_or(0, |it| it.len());
        prop_assert!(bytes <= encoded_len(&event));
        prop_assert_eq!(decode(Some(&record.key), record.value.as_deref()), Ok(Some(event)));
    }

    #[test]
    fn nonsense_never_panics(
        kind in 0i16..18, version in -1i16..6,
        key in prop::collection::vec(any::<u8>(), 0..40),
        value in prop::collection::vec(any::<u8>(), 0..120),
    ) {
        let key = [&kind.to_be_bytes()[..], &key].concat();
        let value = [&version.to_be_bytes()[..], &value].concat();
        let _ = decode(Some(&key), Some(&value));
        let _ = decode(Some(b"\0\x02\0\x01g"), Some(&value));
        let _ = decode(Some(b"\0\x01\0\x01g\0\x01t\0\0\0\0"), Some(&value));
    }
}
