//! How share events are stored: the records of `__share_group_state`, with the keys and values of Apache Kafka 4.3.
//!
//! ShareSnapshotKey 0 with all that is known of a share-partition, or without a value when it is forgotten;
//! ShareUpdateKey 1 with what has changed since. Values have version 0. Reading trusts nothing.

use bytes::{BufMut, Bytes, BytesMut};
use protocol::messages::{
    share_snapshot_value as snapshot_value, share_update_value as update_value,
};
use vocabulary::{Offset, TopicId};

use super::image::{DeliveryState, ShareEvent, ShareImage, ShareKey, StateSpan};
use crate::format::{FormatError, Record, Stored, put_text, read_value, written_value};

const SNAPSHOT: i16 = 0;
const UPDATE: i16 = 1;

/// A start offset that has not changed.
const UNCHANGED: i64 = -1;

/// Encodes a unit.
pub fn store(unit: &[ShareEvent]) -> Stored {
    Stored::Records(unit.iter().map(encode).collect())
}

fn encode(event: &ShareEvent) -> Record {
    match event {
        ShareEvent::Snapshot { key, image, written_at } => {
            let value = snapshot_value::ShareSnapshotValue {
                snapshot_epoch: image.snapshot_epoch,
                state_epoch: image.state_epoch,
                leader_epoch: image.leader_epoch,
                start_offset: image.start.0,
                delivery_complete_count: image.complete_count(),
                create_timestamp: image.created_at,
                write_timestamp: *written_at,
                state_batches: image.spans().map(snapshot_batch).collect(),
            };
            Record { key: share_key(SNAPSHOT, key), value: Some(written_value(&value)) }
        }
        ShareEvent::Update { key, snapshot_epoch, leader_epoch, start, complete_count, spans } => {
            let value = update_value::ShareUpdateValue {
                snapshot_epoch: *snapshot_epoch,
                leader_epoch: *leader_epoch,
                start_offset: start.map_or(UNCHANGED, |it| it.0),
                delivery_complete_count: *complete_count,
                state_batches: spans.iter().copied().map(update_batch).collect(),
            };
            Record { key: share_key(UPDATE, key), value: Some(written_value(&value)) }
        }
        ShareEvent::Forgotten { key } => Record { key: share_key(SNAPSHOT, key), value: None },
    }
}

fn share_key(kind: i16, key: &ShareKey) -> Bytes {
    let mut sink = BytesMut::with_capacity(24 + key.group.len());
    sink.put_i16(kind);
    put_text(&mut sink, &key.group);
    sink.put_slice(&key.topic.0);
    sink.put_i32(key.index);
    sink.freeze()
}

fn snapshot_batch(it: StateSpan) -> snapshot_value::StateBatch {
    snapshot_value::StateBatch {
        first_offset: it.first.0,
        last_offset: it.last.0,
        delivery_state: it.state as i8,
        delivery_count: it.delivery_count,
    }
}

fn update_batch(it: StateSpan) -> update_value::StateBatch {
    update_value::StateBatch {
        first_offset: it.first.0,
        last_offset: it.last.0,
        delivery_state: it.state as i8,
        delivery_count: it.delivery_count,
    }
}

/// Decodes a record; `Ok(None)` for kinds of key that belong to somebody else.
///
/// # Errors
/// What cannot be read.
pub fn decode(key: Option<&[u8]>, value: Option<&[u8]>) -> Result<Option<ShareEvent>, FormatError> {
    let (kind, rest) = split_i16(key.ok_or(FormatError::NoKey)?)?;
    if !matches!(kind, SNAPSHOT | UPDATE) {
        return Ok(None);
    }
    let key = read_key(rest)?;
    if kind == SNAPSHOT {
        let value: Option<snapshot_value::ShareSnapshotValue> = read_value(kind, value)?;
        return Ok(Some(match value {
            Some(value) => {
                let written_at = value.write_timestamp;
                ShareEvent::Snapshot { key, image: Box::new(to_image(value)?), written_at }
            }
            None => ShareEvent::Forgotten { key },
        }));
    }
    let Some(value) = read_value::<update_value::ShareUpdateValue>(kind, value)? else {
        return Ok(None);
    };
    let span = |it: &update_value::StateBatch| {
        to_span(it.first_offset, it.last_offset, it.delivery_state, it.delivery_count)
    };
    let spans: Result<Vec<StateSpan>, FormatError> = value.state_batches.iter().map(span).collect();
    Ok(Some(ShareEvent::Update {
        key,
        snapshot_epoch: value.snapshot_epoch,
        leader_epoch: value.leader_epoch,
        start: Some(value.start_offset).filter(|it| *it != UNCHANGED).map(Offset),
        complete_count: value.delivery_complete_count,
        spans: spans?,
    }))
}

fn split_i16(bytes: &[u8]) -> Result<(i16, &[u8]), FormatError> {
    let (head, rest) = bytes.split_first_chunk().ok_or(FormatError::Truncated)?;
    Ok((i16::from_be_bytes(*head), rest))
}

fn read_key(bytes: &[u8]) -> Result<ShareKey, FormatError> {
    let (length, rest) = split_i16(bytes)?;
    let length = usize::try_from(length).map_err(|_| FormatError::Text)?;
    let (group, rest) = rest.split_at_checked(length).ok_or(FormatError::Truncated)?;
    let group = std::str::from_utf8(group).map_err(|_| FormatError::Text)?.to_owned();
    let (topic, rest) = rest.split_first_chunk().ok_or(FormatError::Truncated)?;
    let (index, _) = rest.split_first_chunk().ok_or(FormatError::Truncated)?;
    Ok(ShareKey { group, topic: TopicId(*topic), index: i32::from_be_bytes(*index) })
}

fn to_image(value: snapshot_value::ShareSnapshotValue) -> Result<ShareImage, FormatError> {
    let mut image = match value.start_offset {
        ..0 => ShareImage::undecided(value.leader_epoch, value.create_timestamp),
        start => ShareImage::new(Offset(start), value.leader_epoch, value.create_timestamp),
    };
    image.snapshot_epoch = value.snapshot_epoch;
    image.state_epoch = value.state_epoch;
    let span = |it: &snapshot_value::StateBatch| {
        to_span(it.first_offset, it.last_offset, it.delivery_state, it.delivery_count)
    };
    let spans: Result<Vec<StateSpan>, FormatError> = value.state_batches.iter().map(span).collect();
    image.overlay(None, &spans?);
    Ok(image)
}

fn to_span(
    first: i64,
    last: i64,
    state: i8,
    delivery_count: i16,
) -> Result<StateSpan, FormatError> {
    // Ends that nobody can count to are as good as no record at all.
    if first < 0 || last < first || last == i64::MAX {
        return Err(FormatError::Truncated);
    }
    let state = DeliveryState::from_number(state).ok_or(FormatError::Truncated)?;
    Ok(StateSpan { first: Offset(first), last: Offset(last), state, delivery_count })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|it| format!("{it:02x}")).collect()
    }

    fn key() -> ShareKey {
        ShareKey { group: "g".to_owned(), topic: TopicId([7; 16]), index: 3 }
    }

    fn span(first: i64, last: i64, state: DeliveryState, delivery_count: i16) -> StateSpan {
        StateSpan { first: Offset(first), last: Offset(last), state, delivery_count }
    }

    // Goal: the bytes are Kafka's. Method: written down field by field after its schemas; a change here is a
    // change of the stored format.
    #[test]
    fn records_have_kafkas_bytes() {
        let mut image = ShareImage::new(Offset(5), 2, 9);
        image.snapshot_epoch = 1;
        image.overlay(None, &[span(6, 7, DeliveryState::Acknowledged, 1)]);
        let record =
            encode(&ShareEvent::Snapshot { key: key(), image: Box::new(image), written_at: 10 });
        let topic = "07".repeat(16);
        assert_eq!(hex(&record.key), format!("0000000167{topic}00000003"));
        let batch = "0000000000000006000000000000000702000100";
        let fixed = "00000001000000000000000200000000000000050000000000000009000000000000000a";
        assert_eq!(hex(&record.value.unwrap()), format!("0000{fixed}02{batch}01000400000002"));
        let update = ShareEvent::Update {
            key: key(),
            snapshot_epoch: 1,
            leader_epoch: 2,
            start: None,
            complete_count: 2,
            spans: vec![span(6, 7, DeliveryState::Acknowledged, 1)],
        };
        let record = encode(&update);
        assert_eq!(hex(&record.key), format!("0001000167{topic}00000003"));
        let fixed = "0000000100000002ffffffffffffffff";
        assert_eq!(hex(&record.value.unwrap()), format!("0000{fixed}02{batch}01000400000002"));
        let forgotten = encode(&ShareEvent::Forgotten { key: key() });
        assert_eq!(
            (hex(&forgotten.key), forgotten.value),
            (format!("0000000167{topic}00000003"), None)
        );
    }

    fn any_spans() -> impl Strategy<Value = Vec<StateSpan>> {
        let state = prop_oneof![
            Just(DeliveryState::Available),
            Just(DeliveryState::Acknowledged),
            Just(DeliveryState::Archived)
        ];
        let one = (0i64..99, 0i64..9, state, 0i16..9)
            .prop_map(|(first, length, state, count)| span(first, first + length, state, count));
        proptest::collection::vec(one, 0..6)
    }

    fn any_event() -> impl Strategy<Value = ShareEvent> {
        let key = ("[a-zé]{0,9}", any::<[u8; 16]>(), any::<i32>())
            .prop_map(|(group, topic, index)| ShareKey { group, topic: TopicId(topic), index });
        let rest = (any::<i32>(), any::<i32>(), proptest::option::of(0i64..50), any_spans());
        (key, rest, 0..3).prop_map(|(key, (epoch, leader_epoch, start, spans), kind)| match kind {
            0 => {
                let mut image = ShareImage::new(Offset(start.unwrap_or(0)), leader_epoch, 4);
                (image.snapshot_epoch, image.state_epoch) = (epoch, 3);
                image.overlay(None, &spans);
                ShareEvent::Snapshot { key, image: Box::new(image), written_at: 77 }
            }
            1 => ShareEvent::Update {
                key,
                snapshot_epoch: epoch,
                leader_epoch,
                start: start.map(Offset),
                complete_count: 6,
                spans,
            },
            _ => ShareEvent::Forgotten { key },
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(event in any_event()) {
            let record = encode(&event);
            prop_assert_eq!(decode(Some(&record.key), record.value.as_deref()), Ok(Some(event)));
        }

        #[test]
        fn nonsense_never_panics(
            kind in -1i16..4, version in -1i16..2,
            key in proptest::collection::vec(any::<u8>(), 0..40),
            value in proptest::collection::vec(any::<u8>(), 0..120),
        ) {
            let key = [&kind.to_be_bytes()[..], &key].concat();
            let value = [&version.to_be_bytes()[..], &value].concat();
            let _ = decode(Some(&key), Some(&value));
            let good = [&kind.to_be_bytes()[..], b"\0\x01g", &[0; 20]].concat();
            let _ = decode(Some(&good), Some(&value));
        }
    }

    #[test]
    fn other_kinds_are_left_alone() {
        assert_eq!(decode(Some(b"\0\x09"), None), Ok(None));
        assert_eq!(decode(None, None), Err(FormatError::NoKey));
        assert_eq!(decode(Some(b"\0"), None), Err(FormatError::Truncated));
    }
}
