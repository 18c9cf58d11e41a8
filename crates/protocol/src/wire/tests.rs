//! What the messages' own tests cannot see: copies, the gather list, the primitive encodings' edges.

use bytes::{Bytes, BytesMut};

use super::*;

fn decoder(bytes: &[u8]) -> Decoder {
    Decoder::new(BytesMut::from(bytes))
}

#[test]
fn records_are_sliced_and_not_copied() {
    let frame = BytesMut::from(&b"\0\0\0\x03abc\0\0\0\x02de\0\x07"[..]);
    let start = frame.as_ptr();
    let mut source = Decoder::new(frame);
    let first = source.records(false).unwrap().unwrap();
    let mut second = source.records(false).unwrap().unwrap();
    assert_eq!((&first[..], &second[..]), (&b"abc"[..], &b"de"[..]));
    assert_eq!(first.as_ptr(), start.wrapping_add(4));
    assert_eq!(second.as_ptr(), start.wrapping_add(11));
    assert_eq!(source.int16(), Ok(7));
    assert_eq!(source.remaining(), 0);
    second[0] = b'D'; // Each slice is its owner's to change.
    assert_eq!((&first[..], &second[..]), (&b"abc"[..], &b"De"[..]));
}

#[test]
fn chunks_are_gathered_and_not_copied() {
    let (long, short) = (Bytes::from(vec![7; 1000]), Bytes::from(vec![8; 3]));
    let mut sink = Encoder::sized();
    sink.int32(5);
    let chunks = RecordChunks(vec![long.clone(), Bytes::new(), short.clone()]);
    sink.record_chunks(true, Some(&chunks));
    sink.record_chunks(true, Some(&RecordChunks::default()));
    sink.record_chunks(false, None);
    sink.bool(true);
    let frame = sink.finish();
    let lengths: Vec<usize> = frame.chunks.iter().map(Bytes::len).collect();
    assert_eq!(lengths, [4 + 4 + 2, 1000, 3, 1 + 4 + 1]);
    assert_eq!(frame.length, 1019);
    assert_eq!(frame.chunks[1].as_ptr(), long.as_ptr());
    assert_eq!(frame.chunks[2].as_ptr(), short.as_ptr());
    assert_eq!(&frame.to_bytes()[..10], b"\0\0\x03\xf7\0\0\0\x05\xec\x07");
    assert_eq!(&frame.to_bytes()[1013..], b"\x01\xff\xff\xff\xff\x01");
}

#[test]
fn equal_records_may_be_cut_differently() {
    let cut = |parts: &[&'static str]| {
        RecordChunks(parts.iter().map(|part| Bytes::from_static(part.as_bytes())).collect())
    };
    assert_eq!(cut(&["ab", "c"]), cut(&["a", "", "bc"]));
    assert_ne!(cut(&["ab"]), cut(&["a"]));
    assert_ne!(cut(&["ab"]), cut(&["ac"]));
}

#[test]
fn varints_are_bounded() {
    let max = u32::MAX;
    for (bytes, expected) in [
        (&b"\x00"[..], Ok(0)),
        (b"\x7f", Ok(127)),
        (b"\x80\x01", Ok(128)),
        (b"\xff\xff\xff\xff\x0f", Ok(max)),
        (b"\x80\x80\x80\x80\x00", Ok(0)), // Padded, which Kafka takes as well.
        (b"\xff\xff\xff\xff\x1f", Err(DecodeError::VarintTooLong)),
        (b"\x80\x80\x80\x80\x80\x00", Err(DecodeError::VarintTooLong)),
        (b"\xff\xff", Err(DecodeError::Truncated { wanted: 1, present: 0 })),
    ] {
        assert_eq!(decoder(bytes).uvarint(), expected, "{bytes:x?}");
    }
    for value in [0, 1, 127, 128, 16_383, 16_384, 1 << 21, 1 << 28, max] {
        let mut sink = Encoder::new();
        sink.uvarint(value);
        assert_eq!(decoder(&sink.finish().to_bytes()).uvarint(), Ok(value));
    }
}

#[test]
fn lengths_and_nulls_have_their_limits() {
    let truncated = |wanted, present| Err(DecodeError::Truncated { wanted, present });
    let null = DecodeError::UnexpectedNull;
    assert_eq!(decoder(b"\xff\xff").string(false), Err(null));
    assert_eq!(decoder(b"\0").string(true), Err(null));
    assert_eq!(decoder(b"\xff\xff").nullable_string(false, false), Err(null));
    assert_eq!(decoder(b"\xff\xff").nullable_string(false, true), Ok(None));
    assert_eq!(decoder(b"\0").nullable_bytes(true, false), Err(null));
    assert_eq!(decoder(b"\xff\xff\xff\xff").nullable_bytes(false, true), Ok(None));
    let negative = DecodeError::NegativeLength { length: -2 };
    assert_eq!(decoder(b"\xff\xfe").string(false), Err(negative));
    assert_eq!(decoder(b"\xff\xff\xff\xfe").bytes(false), Err(negative));
    assert_eq!(decoder(b"\xff\xff\xff\xfe").records(false), Err(negative));
    assert_eq!(decoder(b"\0\x03ab").string(false), truncated(3, 2));
    assert_eq!(decoder(b"\x04ab").string(true), truncated(3, 2));
    assert_eq!(
        decoder(b"\x7f\xff\xff\xffab").bytes(false),
        Err(DecodeError::Truncated { wanted: 0x7fff_ffff, present: 2 })
    );
    assert_eq!(
        decoder(b"\xff\xff\xff\xff\x0fab").records(true),
        Err(DecodeError::Truncated { wanted: 0xffff_fffe, present: 2 })
    );
    assert_eq!(decoder(b"\0\x02\xc3\x28").string(false), Err(DecodeError::NotUtf8));
}

/// As Kafka's generated readers: also where the encoding could tell of more.
#[test]
fn a_string_has_at_most_32767_bytes() {
    for (length, expected) in
        [(32_767, None), (32_768, Some(DecodeError::StringTooLong { length: 32_768 }))]
    {
        let text = vec![b'a'; length];
        let mut sink = Encoder::new();
        sink.bytes(true, &text);
        let bytes = sink.finish().to_bytes();
        assert_eq!(decoder(&bytes).string(true).err(), expected);
        assert_eq!(decoder(&bytes).nullable_string(true, true).err(), expected);
        assert_eq!(decoder(&bytes).bytes(true).map(|it| it.len()), Ok(length));
    }
}

// Goal: what has no place on the wire never breaks the frame.
#[test]
fn what_does_not_fit_is_made_to_fit() {
    let text = "é".repeat(20_000);
    let mut sink = Encoder::new();
    sink.string(false, &text);
    sink.string(true, &text);
    sink.nullable_string(false, false, None);
    sink.nullable_array(true, false, None, |_: &mut Encoder, _: &i32| ());
    let bytes = sink.finish().to_bytes();
    let mut source = decoder(&bytes);
    assert_eq!(source.string(false).unwrap(), text[..32_766]);
    assert_eq!(source.string(true).unwrap(), text[..32_766]);
    assert_eq!(source.string(false).unwrap(), "");
    assert_eq!(source.array(true, Decoder::int32).unwrap(), [0; 0]);
    assert_eq!(source.remaining(), 0);
}

#[test]
fn a_tagged_field_is_as_long_as_it_says() {
    // One field, tag 5, two bytes; behind it one more byte.
    let bytes = b"\x01\x05\x02\x01\x02\x09";
    let mut source = decoder(bytes);
    let mut tags = source.tags().unwrap();
    assert_eq!(source.next_tag(&mut tags), Ok(Some(5)));
    assert_eq!(source.int32(), Err(DecodeError::Truncated { wanted: 4, present: 2 }));
    assert_eq!(source.int8(), Ok(1));
    assert_eq!(source.next_tag(&mut tags), Err(DecodeError::TagSize { told: 2, found: 1 }));

    let mut source = decoder(bytes);
    let mut tags = source.tags().unwrap();
    assert_eq!(source.next_tag(&mut tags), Ok(Some(5)));
    assert_eq!(source.int16(), Ok(0x0102));
    assert_eq!(source.next_tag(&mut tags), Ok(None));
    assert_eq!(source.int8(), Ok(9));

    assert!(decoder(b"\x01\x05\x03\x01\x02").skip_tags().is_err());
    assert!(decoder(b"\xff\xff\xff\xff\x0f").skip_tags().is_err());
}

#[test]
fn the_size_of_a_tagged_field_finds_its_place() {
    for length in [0, 1, 127, 128, 20_000] {
        let mut sink = Encoder::new();
        sink.int8(1);
        sink.tag(300, |sink| sink.bytes(true, &vec![6; length]));
        sink.int8(2);
        let mut source = decoder(&sink.finish().to_bytes());
        assert_eq!((source.int8(), source.uvarint()), (Ok(1), Ok(300)));
        let size = source.uvarint().unwrap() as usize;
        let before = source.remaining();
        assert_eq!(source.bytes(true).unwrap(), vec![6; length]);
        assert_eq!(before - source.remaining(), size);
        assert_eq!(source.int8(), Ok(2));
    }
}

// Goal: W2. Method: the exact boundary, since a vector is allocated at its exact size.
#[test]
fn the_budget_is_charged_before_memory_is_taken() {
    let frame = |count: u8| [&[0, 0, 0, count][..], &[0; 16]].concat();
    let large = |_: &mut Decoder| Ok([0u64; 40]); // 320 bytes, for 20 * 32 of budget.
    assert_eq!(decoder(&frame(2)).array(false, large).map(|it| it.capacity()), Ok(2));
    let error = decoder(&frame(3)).array(false, large).unwrap_err();
    assert_eq!(error, DecodeError::OverBudget { wanted: 960, left: 640 });
}
