use proptest::prelude::*;

use super::*;

fn image(state: TransactionState) -> TransactionImage {
    let partitions = match state {
        TransactionState::Empty
        | TransactionState::CompleteCommit
        | TransactionState::CompleteAbort => BTreeMap::new(),
        _ => BTreeMap::from([("t".to_owned(), BTreeSet::from([0, 7]))]),
    };
    TransactionImage {
        producer: ProducerId(5),
        previous_producer: None,
        next_producer: None,
        epoch: 2,
        timeout_ms: 60_000,
        state,
        partitions,
        updated_at: 1_000,
        started_at: -1,
        version: TransactionVersion::V1,
    }
}

#[test]
fn records_are_kafkas_byte_for_byte() {
    let ending = TransactionImage {
        next_producer: Some(ProducerId(6)),
        started_at: 900,
        version: TransactionVersion::V2,
        ..image(TransactionState::PrepareCommit)
    };
    let record = encode(&TransactionEvent::Stored { id: "tx".to_owned(), image: ending });
    assert_eq!(&record.key[..], b"\0\0\0\x02tx");
    let value = b"\0\x01\0\0\0\0\0\0\0\x05\0\x02\0\0\xea\x60\x02\x02\x02t\x03\0\0\0\0\0\0\0\x07\0\
        \0\0\0\0\0\0\x03\xe8\0\0\0\0\0\0\x03\x84\x02\x01\x08\0\0\0\0\0\0\0\x06\x02\x02\0\x02";
    assert_eq!(record.value.as_deref(), Some(&value[..]));
    let empty = encode(&TransactionEvent::Stored {
        id: "tx".to_owned(),
        image: image(TransactionState::Empty),
    });
    let value = b"\0\x01\0\0\0\0\0\0\0\x05\0\x02\0\0\xea\x60\0\0\
        \0\0\0\0\0\0\x03\xe8\xff\xff\xff\xff\xff\xff\xff\xff\0";
    assert_eq!(empty.value.as_deref(), Some(&value[..]), "no partitions are null");
    let gone = encode(&TransactionEvent::Forgotten { id: "tx".to_owned() });
    assert_eq!((&gone.key[..], gone.value), (&b"\0\0\0\x02tx"[..], None));
}

#[test]
fn values_of_the_old_version_are_read() {
    let value = b"\0\0\0\0\0\0\0\0\0\x05\0\x02\0\0\xea\x60\x01\0\0\0\x01\0\x01t\0\0\0\x02\0\0\0\0\0\0\0\x07\
        \0\0\0\0\0\0\x03\xe8\xff\xff\xff\xff\xff\xff\xff\xff";
    let expected = image(TransactionState::Ongoing);
    assert_eq!(
        decode(Some(b"\0\0\0\x02tx"), Some(value)),
        Ok(Some(TransactionEvent::Stored { id: "tx".to_owned(), image: expected }))
    );
}

#[test]
fn what_is_not_ours_is_told_apart() {
    assert_eq!(decode(Some(b"\0\x01rest"), None), Ok(None));
    assert_eq!(decode(None, None), Err(TransactionFormatError::NoVersion));
    let key = Some(&b"\0\0\0\x02tx"[..]);
    assert_eq!(decode(key, Some(b"\0\x09")), Err(TransactionFormatError::Version { version: 9 }));
    let mut dead = encode(&TransactionEvent::Stored {
        id: "tx".to_owned(),
        image: image(TransactionState::Empty),
    });
    let mut value = dead.value.take().unwrap().to_vec();
    value[16] = 6; // Kafka's "Dead", which it never stores.
    assert_eq!(decode(key, Some(&value)), Err(TransactionFormatError::State { status: 6 }));
}

fn any_image() -> impl Strategy<Value = TransactionImage> {
    let id = || proptest::option::of(0i64..9);
    let partitions = proptest::collection::btree_map(
        "[a-z]{1,5}",
        proptest::collection::btree_set(0..9, 1..4),
        0..4,
    );
    let rest = (any::<i64>(), any::<i64>(), 0i16..=i16::MAX, any::<i32>(), any::<bool>());
    (0usize..6, id(), id(), partitions, rest).prop_map(
        |(state, previous, next, partitions, (updated_at, started_at, epoch, timeout_ms, v2))| {
            let state = TransactionState::ALL[state];
            let empty = state == TransactionState::Empty;
            TransactionImage {
                producer: ProducerId(7),
                previous_producer: previous.map(ProducerId),
                next_producer: next.map(ProducerId),
                epoch,
                timeout_ms,
                state,
                partitions: if empty { BTreeMap::new() } else { partitions },
                updated_at,
                started_at,
                version: if v2 { TransactionVersion::V2 } else { TransactionVersion::V1 },
            }
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_is_read(id in "[a-z]{1,40}", image in any_image()) {
        let event = TransactionEvent::Stored { id: id.clone(), image: image.clone() };
        let record = encode(&event);
        let bytes = record.key.len() + record.value.as_ref().map_or(0, Bytes::len);
        prop_assert!(bytes <= encoded_len(&id, &image));
        prop_assert_eq!(decode(Some(&record.key), record.value.as_deref()), Ok(Some(event)));
    }

    #[test]
    fn no_bytes_panic(key: Vec<u8>, value: Vec<u8>) {
        let _ = decode(Some(&key), Some(&value));
        let _ = decode(Some(b"\0\0\0\x01t"), Some(&[b"\0\x01", &value[..]].concat()));
    }
}
