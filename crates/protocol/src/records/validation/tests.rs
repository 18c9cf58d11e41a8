//! Tables of what is refused, with which code, and of what is rewritten.

use bytes::{Bytes, BytesMut};
use vocabulary::{LeaderEpoch, Offset, ProducerId};

use super::super::batch::BatchBuilder;
use super::super::header::{ATTRIBUTES_AT, CRC_AT, crc32c};
use super::super::iteration::{Record, records};
use super::*;

const NOW: i64 = 1_700_000_000_000;
const HOUR: i64 = 3_600_000;
const LIMIT: usize = 1 << 20;
const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

fn rules() -> ProduceRules {
    ProduceRules {
        produce_version: 9,
        batch_bytes_max: LIMIT,
        keys_required: false,
        timestamp_type: TimestampType::CreateTime,
        timestamp_before_max_ms: i64::MAX,
        timestamp_after_max_ms: HOUR,
        now: Timestamp(NOW),
        compression: TargetCompression::Producer,
        records_bytes_max: LIMIT,
    }
}

/// Three records; the second has the latest time and a header.
fn three(compression: Compression) -> BytesMut {
    let mut builder = BatchBuilder::new(compression, Some((ProducerId(9), 1, 50))).transactional();
    builder.push(Timestamp(NOW - 5), Some(b"a"), Some(b"first"), &[]);
    builder.push(Timestamp(NOW + 7), Some(b"b"), None, &[(b"h", Some(b"v")), (b"", None)]);
    builder.push(Timestamp(NOW - 9), Some(b""), Some(&[7; 300]), &[]);
    BytesMut::from(builder.build().bytes())
}

fn resign(bytes: &mut BytesMut) {
    let crc = crc32c(&bytes[ATTRIBUTES_AT..]);
    bytes[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
}

/// With other header fields and a checksum that holds.
fn with_header(bytes: &BytesMut, change: impl FnOnce(&mut BatchHeader)) -> BytesMut {
    let mut bytes = bytes.clone();
    let mut header = BatchHeader::parse(&bytes).unwrap();
    change(&mut header);
    bytes[..BATCH_HEADER_LEN].copy_from_slice(&header.encode());
    resign(&mut bytes);
    bytes
}

/// A batch around hand-made records.
fn around(compression: Compression, count: i32, records: &[u8]) -> BytesMut {
    let template = three(Compression::None);
    let header = BatchHeader {
        attributes: Attributes(compression.id()),
        record_count: count,
        last_offset_delta: count - 1,
        base_timestamp: Timestamp(NOW),
        ..BatchHeader::parse(&template).unwrap()
    };
    let bytes = compress_behind_header(compression, None, records);
    BytesMut::from(Batch::seal(header, bytes).bytes())
}

/// One hand-made record: length, attributes, timestamp and offset delta, then `tail`.
fn raw_record(attributes: u8, timestamp_delta: i64, offset_delta: i32, tail: &[u8]) -> Vec<u8> {
    let mut body = vec![attributes];
    write_varlong(timestamp_delta, &mut body);
    write_varint(offset_delta, &mut body);
    body.extend_from_slice(tail);
    let mut record = Vec::new();
    write_varint(i32::try_from(body.len()).unwrap(), &mut record);
    record.extend_from_slice(&body);
    record
}

/// Key and value null, no headers.
const EMPTY_TAIL: [u8; 3] = [1, 1, 0];

fn code(bytes: &BytesMut, rules: &ProduceRules) -> ErrorCode {
    validate_produced(bytes.clone(), rules).expect_err("the batch is refused").code
}

fn accepted(bytes: &BytesMut, rules: &ProduceRules) -> (BatchHeader, Bytes) {
    let batch = validate_produced(bytes.clone(), rules).expect("the batch is accepted");
    assert_eq!(BatchHeader::parse(batch.bytes()), Ok(batch.header), "header and bytes agree");
    assert_eq!(check_crc(batch.bytes()), Ok(()));
    batch.freeze()
}

fn read(batch: &Bytes) -> Vec<Record> {
    records(batch, LIMIT).unwrap().map(Result::unwrap).collect()
}

#[test]
fn a_good_batch_is_not_touched() {
    for compression in CODECS {
        let bytes = three(compression);
        let (header, out) = accepted(&bytes, &rules());
        assert_eq!(out, bytes, "{compression}");
        assert_eq!(header.max_timestamp, Timestamp(NOW + 7));
        assert_eq!(header.last_sequence(), 52);
        let read = read(&out);
        assert_eq!(read.len(), 3);
        assert_eq!(read[1].headers.len(), 2);
    }
}

#[test]
fn nothing_is_copied_unless_rewritten() {
    let bytes = three(Compression::None);
    let place = bytes.as_ptr();
    let (_, out) = validate_produced(bytes, &rules()).unwrap().freeze();
    assert_eq!(out.as_ptr(), place);
}

#[test]
fn envelopes() {
    let good = three(Compression::None);
    let refused = |what: &str, expected: ErrorCode, change: fn(&mut BatchHeader)| {
        assert_eq!(code(&with_header(&good, change), &rules()), expected, "{what}");
    };
    refused("base offset", ErrorCode::InvalidRecord, |it| it.base_offset = Offset(1));
    refused("no records", ErrorCode::InvalidRecord, |it| {
        (it.record_count, it.last_offset_delta) = (0, -1);
    });
    refused("negative count", ErrorCode::InvalidRecord, |it| it.record_count = -1);
    refused("delta and count", ErrorCode::InvalidRecord, |it| it.last_offset_delta = 3);
    refused("huge delta", ErrorCode::InvalidRecord, |it| {
        (it.record_count, it.last_offset_delta) = (i32::MIN, i32::MAX);
    });
    refused("fewer records than said", ErrorCode::InvalidRecord, |it| {
        (it.record_count, it.last_offset_delta) = (4, 3);
    });
    refused("more records than said", ErrorCode::InvalidRecord, |it| {
        (it.record_count, it.last_offset_delta) = (2, 1);
    });
    refused("very many records", ErrorCode::InvalidRecord, |it| {
        (it.record_count, it.last_offset_delta) = (i32::MAX, i32::MAX - 1);
    });
    refused("control", ErrorCode::InvalidRecord, |it| it.attributes.0 |= Attributes::CONTROL);
    refused("no sequence", ErrorCode::InvalidRecord, |it| it.base_sequence = -1);
    refused("codec 5", ErrorCode::UnsupportedCompressionType, |it| it.attributes.0 |= 5);
    refused("magic 1", ErrorCode::InvalidRecord, |it| it.magic = 1);
    refused("magic 3", ErrorCode::CorruptMessage, |it| it.magic = 3);
    refused("length 13", ErrorCode::CorruptMessage, |it| it.length = 13);
    refused("length 14", ErrorCode::CorruptMessage, |it| it.length = 14);
    refused("negative length", ErrorCode::CorruptMessage, |it| it.length = -5);
    refused("too long", ErrorCode::InvalidRecord, |it| it.length += 1);
    refused("huge length", ErrorCode::InvalidRecord, |it| it.length = i32::MAX);

    let plain = with_header(&good, |it| (it.producer_id, it.base_sequence) = (-1, -1));
    accepted(&plain, &rules());
    let unused_bits = with_header(&good, |it| it.attributes.0 |= 0x4000);
    accepted(&unused_bits, &rules());
}

#[test]
fn checksums_and_order_of_checks() {
    let mut bytes = three(Compression::Lz4);
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    assert_eq!(code(&bytes, &rules()), ErrorCode::CorruptMessage);
    // The size is checked before the checksum, on the batch as it came.
    let small = ProduceRules { batch_bytes_max: bytes.len() - 1, ..rules() };
    assert_eq!(code(&bytes, &small), ErrorCode::MessageTooLarge);
    let good = three(Compression::Lz4);
    let exact = ProduceRules { batch_bytes_max: good.len(), ..rules() };
    accepted(&good, &exact);
}

#[test]
fn exactly_one_batch() {
    let one = three(Compression::None);
    let followed = |rest: &[u8]| {
        let mut bytes = one.clone();
        bytes.extend_from_slice(rest);
        bytes
    };
    assert_eq!(code(&BytesMut::new(), &rules()), ErrorCode::InvalidRecord);
    assert_eq!(code(&followed(&one), &rules()), ErrorCode::InvalidRecord);
    for cut in 0..one.len() {
        let part = BytesMut::from(&one[..cut]);
        assert_eq!(code(&part, &rules()), ErrorCode::InvalidRecord, "first {cut} bytes");
        // An incomplete second batch is dropped, as Kafka does.
        assert_eq!(accepted(&followed(&part), &rules()).1, one, "{cut} bytes more");
    }
    assert_eq!(code(&followed(&[0; 12]), &rules()), ErrorCode::CorruptMessage);
}

#[test]
fn zstd_needs_produce_7() {
    let bytes = three(Compression::Zstd);
    let old = ProduceRules { produce_version: 6, ..rules() };
    assert_eq!(code(&bytes, &old), ErrorCode::UnsupportedCompressionType);
    accepted(&bytes, &ProduceRules { produce_version: 7, ..rules() });
    accepted(&three(Compression::Lz4), &old);
}

#[test]
fn keys_of_compacted_topics() {
    for compression in CODECS {
        let mut builder = BatchBuilder::new(compression, None);
        for key in [Some(&b"k"[..]), None, Some(b""), None] {
            builder.push(Timestamp(NOW), key, Some(b"v"), &[]);
        }
        let bytes = BytesMut::from(builder.build().bytes());
        accepted(&bytes, &rules());
        let compacted = ProduceRules { keys_required: true, ..rules() };
        let refusal = validate_produced(bytes, &compacted).expect_err("keys are missing");
        assert_eq!(refusal.code, ErrorCode::InvalidRecord);
        let indexes: Vec<i32> = refusal.record_errors.iter().map(|it| it.index).collect();
        assert_eq!(indexes, [1, 3]);
    }
}

#[test]
fn timestamp_windows() {
    let at = |timestamps: &[i64]| {
        let mut builder = BatchBuilder::new(Compression::None, None);
        for timestamp in timestamps {
            builder.push(Timestamp(*timestamp), None, Some(b"v"), &[]);
        }
        BytesMut::from(builder.build().bytes())
    };
    let rules = ProduceRules { timestamp_before_max_ms: 1000, ..rules() };
    accepted(&at(&[NOW - 1000, NOW, NOW + HOUR, -1]), &rules);
    let refusal = validate_produced(at(&[NOW, NOW - 1001, NOW + HOUR + 1]), &rules).unwrap_err();
    assert_eq!(refusal.code, ErrorCode::InvalidTimestamp);
    assert_eq!(refusal.record_errors.len(), 2);
    assert_eq!(refusal.record_errors[1].index, 2);
    assert!(refusal.record_errors[1].message.contains(&(NOW + HOUR + 1).to_string()));

    // A missing key and a wrong time in one batch: the time decides.
    let both = ProduceRules { keys_required: true, ..rules.clone() };
    let mut builder = BatchBuilder::new(Compression::None, None);
    builder.push(Timestamp(NOW), None, None, &[]);
    builder.push(Timestamp(0), Some(b"k"), None, &[]);
    let bytes = BytesMut::from(builder.build().bytes());
    assert_eq!(code(&bytes, &both), ErrorCode::InvalidTimestamp);

    // Without limits any time will do, and append time ignores the producer's.
    let open = ProduceRules { timestamp_before_max_ms: i64::MAX, ..rules.clone() };
    accepted(&at(&[0, 1, -2, NOW - 400 * 24 * HOUR]), &open);
    let append = ProduceRules { timestamp_type: TimestampType::LogAppendTime, ..rules };
    accepted(&at(&[0, NOW + 100 * HOUR]), &append);
}

#[test]
fn append_time_is_the_brokers() {
    for compression in CODECS {
        let bytes = three(compression);
        let append = ProduceRules { timestamp_type: TimestampType::LogAppendTime, ..rules() };
        let (header, out) = accepted(&bytes, &append);
        assert_eq!(header.attributes.timestamp_type(), TimestampType::LogAppendTime);
        assert_eq!(header.max_timestamp, Timestamp(NOW));
        assert_eq!(header.base_timestamp, Timestamp(NOW - 5), "kept as the producer sent it");
        assert!(header.attributes.is_transactional());
        assert!(read(&out).iter().all(|it| it.timestamp == Timestamp(NOW)));

        // A producer may not claim it where it is in force; elsewhere the claim is taken away.
        let claims = with_header(&bytes, |it| it.attributes.0 |= Attributes::LOG_APPEND_TIME);
        let refusal = validate_produced(claims.clone(), &append).unwrap_err();
        assert_eq!(refusal.code, ErrorCode::InvalidTimestamp);
        assert_eq!(refusal.record_errors.len(), 3);
        let (header, out) = accepted(&claims, &rules());
        assert_eq!(header.attributes.timestamp_type(), TimestampType::CreateTime);
        assert_eq!(out, bytes);
    }
}

#[test]
fn max_timestamp_is_computed() {
    for compression in CODECS {
        let bytes = three(compression);
        for wrong in [-1, 0, NOW, i64::MAX] {
            let lies = with_header(&bytes, |it| it.max_timestamp = Timestamp(wrong));
            assert_eq!(accepted(&lies, &rules()).1, bytes, "{compression}, {wrong}");
        }
    }
}

#[test]
fn wrong_offset_deltas_are_rewritten() {
    for compression in CODECS {
        // As some old clients: all zero, or counted from one, or backwards.
        for deltas in [[0, 0, 0], [1, 2, 3], [2, 1, 0], [-7, i32::MAX, i32::MIN]] {
            let mut payload = Vec::new();
            for (place, delta) in deltas.iter().enumerate() {
                let tail = [2, b'k', 4, b'v', b'0' + place as u8, 0];
                payload.extend(raw_record(3, place as i64, *delta, &tail));
            }
            let (header, out) = accepted(&around(compression, 3, &payload), &rules());
            assert_eq!(header.attributes.compression(), Ok(compression));
            assert_eq!(header.base_sequence, 50);
            let read = read(&out);
            for (place, record) in (0..).zip(&read) {
                assert_eq!(record.offset, Offset(place));
                assert_eq!(record.timestamp, Timestamp(NOW + place));
                assert_eq!(record.value.as_deref(), Some(&[b'v', b'0' + place as u8][..]));
            }
            assert_eq!(read.len(), 3);
        }
    }
}

#[test]
fn topics_choose_their_codec() {
    let targets = [
        (TargetCompression::Uncompressed, Compression::None),
        (TargetCompression::Gzip { level: -1 }, Compression::Gzip),
        (TargetCompression::Gzip { level: 9 }, Compression::Gzip),
        (TargetCompression::Snappy, Compression::Snappy),
        (TargetCompression::Lz4 { level: 9 }, Compression::Lz4),
        (TargetCompression::Zstd { level: 3 }, Compression::Zstd),
        (TargetCompression::Zstd { level: -131_072 }, Compression::Zstd),
    ];
    for source in CODECS {
        let bytes = three(source);
        let before = BatchHeader::parse(&bytes).unwrap();
        for (target, expected) in targets {
            let rules = ProduceRules { compression: target, ..rules() };
            let (header, out) = accepted(&bytes, &rules);
            assert_eq!(header.attributes.compression(), Ok(expected));
            if source == expected {
                assert_eq!(out, bytes, "the same codec is left alone, whatever the level");
            }
            let kept = |it: &BatchHeader| {
                (it.producer_id, it.producer_epoch, it.base_sequence, it.record_count)
            };
            assert_eq!(kept(&header), kept(&before));
            assert_eq!(header.max_timestamp, before.max_timestamp);
            assert!(header.attributes.is_transactional());
            assert_eq!(read(&out), read(&bytes.clone().freeze()));
        }
    }
    // The topic's limit holds for what is stored, too.
    let mut builder = BatchBuilder::new(Compression::Zstd, None);
    builder.push(Timestamp(NOW), None, Some(&[0; 10_000]), &[]);
    let bytes = BytesMut::from(builder.build().bytes());
    let plain = ProduceRules {
        compression: TargetCompression::Uncompressed,
        batch_bytes_max: 9_000,
        ..rules()
    };
    assert_eq!(code(&bytes, &plain), ErrorCode::MessageTooLarge);
}

#[test]
fn record_structure() {
    let good = raw_record(0, 0, 0, &EMPTY_TAIL);
    let broken: [(&str, Vec<u8>); 11] = [
        ("key beyond the batch", raw_record(0, 0, 0, &[100, 1, 0])),
        ("value beyond the batch", raw_record(0, 0, 0, &[1, 100, 0])),
        ("negative header count", raw_record(0, 0, 0, &[1, 1, 1])),
        ("headers missing", raw_record(0, 0, 0, &[1, 1, 2])),
        ("header without key", raw_record(0, 0, 0, &[1, 1, 2, 1, 1])),
        ("very many headers", raw_record(0, 0, 0, &[1, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f])),
        ("bytes after the headers", raw_record(0, 0, 0, &[1, 1, 0, 0])),
        ("length too small", {
            let mut record = good.clone();
            record[0] -= 2;
            record
        }),
        ("negative length", [&[1], &good[1..]].concat()),
        ("endless number", vec![0xff; 20]),
        ("nothing", Vec::new()),
    ];
    for compression in CODECS {
        accepted(&around(compression, 1, &good), &rules());
        // Null is any negative length, and unused attribute bits are no matter.
        accepted(&around(compression, 1, &raw_record(0x87, 0, 0, &[3, 5, 0])), &rules());
        for (what, payload) in &broken {
            let bytes = around(compression, 1, payload);
            assert_eq!(code(&bytes, &rules()), ErrorCode::InvalidRecord, "{what}, {compression}");
        }
    }
}

// Goal: no number is misread where a piece of a codec ends. Method: snappy in blocks of a few bytes.
#[test]
fn pieces_may_end_anywhere() {
    let mut payload = Vec::new();
    for place in 0..200 {
        let value = vec![b'v'; place as usize];
        let mut tail = vec![2, b'k'];
        write_varint(place, &mut tail);
        tail.extend_from_slice(&value);
        tail.extend_from_slice(&[2, 2, b'h', 1]);
        payload.extend(raw_record(0, 1 << (place % 40), place, &tail));
    }
    let plain = around(Compression::None, 200, &payload);
    let (expected, records) = accepted(&plain, &rules_without_window());
    for piece in 1..40 {
        let mut framed = BytesMut::from(&b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01"[..]);
        for block in payload.chunks(piece) {
            let block = snap::raw::Encoder::new().compress_vec(block).unwrap();
            framed.extend_from_slice(&(block.len() as u32).to_be_bytes());
            framed.extend_from_slice(&block);
        }
        let mut bytes = BytesMut::from(&records[..BATCH_HEADER_LEN]);
        bytes.extend_from_slice(&framed);
        let bytes = with_header(&bytes, |it| {
            it.attributes = Attributes(Compression::Snappy.id());
            it.length = i32::try_from(BATCH_HEADER_LEN - LENGTH_OVERHEAD + framed.len()).unwrap();
        });
        let (header, out) = accepted(&bytes, &rules_without_window());
        assert!(out == bytes, "nothing to rewrite, pieces of {piece}");
        assert_eq!(header.max_timestamp, expected.max_timestamp);
        assert_eq!(read(&out), read(&records));
    }
}

fn rules_without_window() -> ProduceRules {
    ProduceRules { timestamp_after_max_ms: i64::MAX, ..rules() }
}

#[test]
fn bytes_the_codec_refuses() {
    for compression in &CODECS[1..] {
        let garbage = around(Compression::None, 1, &[0x55; 40]);
        let bytes = with_header(&garbage, |it| it.attributes = Attributes(compression.id()));
        assert_eq!(code(&bytes, &rules()), ErrorCode::InvalidRecord, "{compression}");
    }
}

#[test]
fn record_errors_are_bounded() {
    let payload: Vec<u8> =
        (0..10_000).flat_map(|index| raw_record(0, 0, index, &EMPTY_TAIL)).collect();
    let compacted = ProduceRules { keys_required: true, ..rules() };
    let refusal =
        validate_produced(around(Compression::Zstd, 10_000, &payload), &compacted).unwrap_err();
    assert_eq!(refusal.record_errors.len(), RECORD_ERRORS_MAX);
    assert!(refusal.message.contains("10000"));
}

#[test]
fn records_may_not_outgrow_the_limit() {
    for compression in &CODECS[1..] {
        let mut builder = BatchBuilder::new(*compression, None);
        builder.push(Timestamp(NOW), None, Some(&[0; 100_000]), &[]);
        let bytes = BytesMut::from(builder.build().bytes());
        let tight = |records_bytes_max| ProduceRules { records_bytes_max, ..rules() };
        accepted(&bytes, &tight(100_012));
        for limit in [0, 1, 50_000, 99_999] {
            assert_eq!(code(&bytes, &tight(limit)), ErrorCode::MessageTooLarge, "{compression}");
        }
    }
}

#[test]
fn a_stamped_batch_keeps_its_checksum() {
    let mut batch = validate_produced(three(Compression::Snappy), &rules()).unwrap();
    let crc = batch.header.crc;
    batch.stamp(Offset(1 << 40), LeaderEpoch(12));
    let (header, bytes) = batch.freeze();
    assert_eq!((header.base_offset, header.leader_epoch), (Offset(1 << 40), 12));
    assert_eq!(header.crc, crc);
    assert_eq!(BatchHeader::parse(&bytes), Ok(header));
    assert_eq!(check_crc(&bytes), Ok(()));
    assert_eq!(read(&bytes)[2].offset, Offset((1 << 40) + 2));
}
