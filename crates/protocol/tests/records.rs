//! Record batches from outside: against another implementation, against chance, against malice.
//!
//! The oracle is the crate `kafka-protocol`, both ways and in every codec.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use bolero::check;
use bytes::{Bytes, BytesMut};
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records as oracle;
use proptest::prelude::*;
use protocol::records::{
    BATCH_HEADER_LEN, Batch, BatchBuilder, BatchError, BatchHeader, Compression, EndTxnMarker,
    ProduceRules, TargetCompression, TimestampType, batches, check_crc, records, validate_produced,
};
use vocabulary::{LeaderEpoch, Offset, ProducerId, Timestamp};

const NOW: i64 = 1_700_000_000_000;
const LIMIT: usize = 1 << 20;

/// Inputs of each fuzz target under `cargo test`, and what they are cut to.
const FUZZ_CASES: u32 = 3000;
const FUZZ_BYTES_MAX: usize = 2000;

const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

#[derive(Debug, Clone, PartialEq, Eq)]
struct Input {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

fn rules() -> ProduceRules {
    ProduceRules {
        produce_version: 12,
        batch_bytes_max: LIMIT,
        keys_required: false,
        timestamp_type: TimestampType::CreateTime,
        timestamp_before_max_ms: i64::MAX,
        timestamp_after_max_ms: i64::MAX,
        now: Timestamp(NOW),
        compression: TargetCompression::Producer,
        records_bytes_max: LIMIT,
    }
}

fn build(compression: Compression, producer: bool, inputs: &[Input]) -> Batch {
    let producer = producer.then_some((ProducerId(77), 3, 1000));
    let mut builder = BatchBuilder::new(compression, producer);
    for input in inputs {
        let headers: Vec<(&[u8], Option<&[u8]>)> =
            input.headers.iter().map(|(key, value)| (key.as_bytes(), value.as_deref())).collect();
        let timestamp = Timestamp(input.timestamp);
        builder.push(timestamp, input.key.as_deref(), input.value.as_deref(), &headers);
    }
    let expected = builder.byte_length();
    let batch = builder.build();
    if compression == Compression::None {
        assert_eq!(batch.bytes().len(), expected);
    }
    batch
}

fn read(batch: &Bytes) -> Vec<(i64, Input)> {
    let read = |record: protocol::records::Record| {
        let headers: Vec<_> = record
            .headers
            .iter()
            .map(|(key, value)| {
                (String::from_utf8(key.to_vec()).unwrap(), value.map(|it| it.to_vec()))
            })
            .collect();
        assert_eq!(headers.len(), record.headers.len());
        let input = Input {
            timestamp: record.timestamp.0,
            key: record.key.map(|it| it.to_vec()),
            value: record.value.map(|it| it.to_vec()),
            headers,
        };
        (record.offset.0, input)
    };
    records(batch, LIMIT).unwrap().map(|it| read(it.unwrap())).collect()
}

fn numbered(base: i64, inputs: &[Input]) -> Vec<(i64, Input)> {
    (base..).zip(inputs.iter().cloned()).collect()
}

fn bytes() -> impl Strategy<Value = Option<Vec<u8>>> {
    let sizes = prop_oneof![4 => 0usize..40, 1 => 0usize..3000];
    let some = (sizes, any::<u8>()).prop_map(|(size, seed)| {
        (0..size).map(|place| seed.wrapping_mul(place as u8).rotate_left(3)).collect()
    });
    prop::option::of(some)
}

fn input() -> impl Strategy<Value = Input> {
    let timestamp = prop_oneof![
        8 => (-10_000i64..10_000).prop_map(|it| NOW + it),
        1 => Just(-1i64),
        1 => 0i64..NOW * 2,
    ];
    let headers = prop::collection::vec(("[a-z\u{e9}]{0,5}", bytes()), 0..4);
    (timestamp, bytes(), bytes(), headers).prop_map(|(timestamp, key, value, headers)| {
        let mut headers: Vec<(String, Option<Vec<u8>>)> = headers;
        // The oracle keeps headers in a map.
        headers.sort();
        headers.dedup_by(|a, b| a.0 == b.0);
        Input { timestamp, key, value, headers }
    })
}

fn inputs() -> impl Strategy<Value = Vec<Input>> {
    prop::collection::vec(input(), 1..60)
}

fn codec() -> impl Strategy<Value = Compression> {
    prop::sample::select(&CODECS)
}

fn target() -> impl Strategy<Value = TargetCompression> {
    prop_oneof![
        Just(TargetCompression::Producer),
        Just(TargetCompression::Uncompressed),
        Just(TargetCompression::Snappy),
        (-1i32..12).prop_map(|level| TargetCompression::Gzip { level }),
        (1i32..18).prop_map(|level| TargetCompression::Lz4 { level }),
        (-5i32..10).prop_map(|level| TargetCompression::Zstd { level }),
    ]
}

fn oracle_codec(compression: Compression) -> oracle::Compression {
    match compression {
        Compression::None => oracle::Compression::None,
        Compression::Gzip => oracle::Compression::Gzip,
        Compression::Snappy => oracle::Compression::Snappy,
        Compression::Lz4 => oracle::Compression::Lz4,
        Compression::Zstd => oracle::Compression::Zstd,
    }
}

fn to_oracle(place: i64, producer: bool, input: &Input) -> oracle::Record {
    let headers: IndexMap<StrBytes, Option<Bytes>> = input
        .headers
        .iter()
        .map(|(key, value)| (StrBytes::from_string(key.clone()), value.clone().map(Bytes::from)))
        .collect();
    oracle::Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id: if producer { 77 } else { -1 },
        producer_epoch: if producer { 3 } else { -1 },
        timestamp_type: oracle::TimestampType::Creation,
        offset: place,
        sequence: if producer { 1000 + place as i32 } else { place as i32 - 1 },
        timestamp: input.timestamp,
        key: input.key.clone().map(Bytes::from),
        value: input.value.clone().map(Bytes::from),
        headers,
    }
}

fn oracle_encodes(compression: Compression, producer: bool, inputs: &[Input]) -> BytesMut {
    let records: Vec<_> =
        (0..).zip(inputs).map(|(place, input)| to_oracle(place, producer, input)).collect();
    let mut out = BytesMut::new();
    let options =
        oracle::RecordEncodeOptions { version: 2, compression: oracle_codec(compression) };
    oracle::RecordBatchEncoder::encode(&mut out, records.iter(), &options).unwrap();
    out
}

fn oracle_decodes(mut batch: Bytes) -> oracle::RecordSet {
    oracle::RecordBatchDecoder::decode(&mut batch).unwrap()
}

proptest! {
    #[test]
    fn what_is_built_is_accepted_and_read_back(
        compression in codec(),
        producer: bool,
        inputs in inputs(),
        base in 0i64..1 << 50,
    ) {
        let built = build(compression, producer, &inputs);
        let mut batch = validate_produced(BytesMut::from(built.bytes()), &rules()).unwrap();
        prop_assert_eq!(batch.header, built.header);
        prop_assert_eq!(batch.bytes(), built.bytes());
        batch.stamp(Offset(base), LeaderEpoch(5));
        let (header, bytes) = batch.freeze();
        prop_assert_eq!(check_crc(&bytes), Ok(()));
        prop_assert_eq!(header.last_offset(), Offset(base + inputs.len() as i64 - 1));
        let latest = inputs.iter().map(|it| it.timestamp).max().unwrap();
        prop_assert_eq!(header.max_timestamp, Timestamp(latest));
        prop_assert_eq!(read(&bytes), numbered(base, &inputs));
    }

    #[test]
    fn recompression_keeps_the_records(
        compression in codec(),
        target in target(),
        inputs in inputs(),
    ) {
        let built = build(compression, true, &inputs);
        let rules = ProduceRules { compression: target, batch_bytes_max: 2 * LIMIT, ..rules() };
        let batch = validate_produced(BytesMut::from(built.bytes()), &rules).unwrap();
        let (header, bytes) = batch.freeze();
        prop_assert_eq!(check_crc(&bytes), Ok(()));
        prop_assert_eq!(header.producer(), Some(ProducerId(77)));
        prop_assert_eq!(header.base_sequence, 1000);
        prop_assert_eq!(read(&bytes), numbered(0, &inputs));
    }

    #[test]
    fn the_oracle_reads_what_we_build(
        compression in codec(),
        producer: bool,
        inputs in inputs(),
    ) {
        let (_, batch) = build(compression, producer, &inputs).freeze();
        let set = oracle_decodes(batch);
        prop_assert_eq!(set.compression, oracle_codec(compression));
        prop_assert_eq!(set.records.len(), inputs.len());
        for (place, (record, input)) in (0i64..).zip(set.records.iter().zip(&inputs)) {
            let mut expected = to_oracle(place, producer, input);
            if !producer {
                expected.sequence = record.sequence; // -1 plus the place, without meaning.
            }
            prop_assert_eq!(record, &expected);
        }
    }

    #[test]
    fn we_read_what_the_oracle_builds(
        compression in codec(),
        producer: bool,
        target in target(),
        inputs in inputs(),
    ) {
        let bytes = oracle_encodes(compression, producer, &inputs);
        let kept = validate_produced(bytes.clone(), &rules()).unwrap();
        prop_assert_eq!(kept.bytes(), &bytes[..]);
        prop_assert_eq!(read(&kept.freeze().1), numbered(0, &inputs));
        // And the oracle reads what we make of its own batch.
        let rules = ProduceRules { compression: target, batch_bytes_max: 2 * LIMIT, ..rules() };
        let stored = validate_produced(bytes, &rules).unwrap();
        let set = oracle_decodes(stored.freeze().1);
        let values: Vec<_> = set.records.iter().map(|it| it.value.as_deref()).collect();
        let expected: Vec<_> = inputs.iter().map(|it| it.value.as_deref()).collect();
        prop_assert_eq!(values, expected);
    }

    #[test]
    fn record_sets_split_into_their_batches(
        sets in prop::collection::vec((codec(), inputs()), 0..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut all = BytesMut::new();
        let mut expected = Vec::new();
        for (compression, inputs) in sets {
            let (header, bytes) = build(compression, false, &inputs).freeze();
            all.extend_from_slice(&bytes);
            expected.push(Ok((header, bytes)));
        }
        let all = all.freeze();
        prop_assert_eq!(&batches(all.clone()).collect::<Vec<_>>(), &expected);
        if !all.is_empty() {
            let mut part: Vec<_> = batches(all.slice(..cut.index(all.len()))).collect();
            if let Some(Err(error)) = part.last() {
                prop_assert!(matches!(error, BatchError::Truncated { .. }), "{:?}", error);
                part.pop();
            }
            prop_assert_eq!(&part[..], &expected[..part.len()]);
        }
    }
}

fn sample() -> Vec<Input> {
    (0..12)
        .map(|place| Input {
            timestamp: NOW + place,
            key: (place % 3 != 0).then(|| vec![b'k'; place as usize]),
            value: (place % 5 != 0).then(|| vec![b'v'; 3 * place as usize]),
            headers: (0..place % 3).map(|it| (format!("h{it}"), Some(vec![1, 2]))).collect(),
        })
        .collect()
}

/// With length and checksum made to fit, so that what is behind the header is looked at.
fn signed(mut bytes: BytesMut) -> BytesMut {
    if let Some(length) = bytes.len().checked_sub(12)
        && bytes.len() >= BATCH_HEADER_LEN
    {
        bytes[8..12].copy_from_slice(&(length as u32).to_be_bytes());
        let crc = crc_fast::crc32_iscsi(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    }
    bytes
}

/// All entries, on any bytes. Nothing may panic; what is accepted must hold what R2 promises.
fn endure(bytes: &[u8]) {
    const SMALL: usize = 1 << 16;
    let held = Bytes::copy_from_slice(bytes);
    let _ = check_crc(bytes);
    let _ = EndTxnMarker::read(&held);
    for batch in batches(held.clone()) {
        let Ok((header, batch)) = batch else { continue };
        let _ = (header.last_offset(), header.end_offset(), header.last_sequence());
        if let Ok(records) = records(&batch, SMALL) {
            let most = records.size_hint().1.unwrap();
            let mut count = 0;
            for record in records {
                count += 1;
                if let Ok(record) = record {
                    assert_eq!(record.headers.iter().count(), record.headers.len());
                }
            }
            assert!(count <= most);
        }
    }
    let strict = ProduceRules {
        keys_required: true,
        timestamp_before_max_ms: 1000,
        timestamp_after_max_ms: 1000,
        ..rules()
    };
    let append = ProduceRules {
        timestamp_type: TimestampType::LogAppendTime,
        compression: TargetCompression::Lz4 { level: 9 },
        ..rules()
    };
    let plain = ProduceRules { compression: TargetCompression::Uncompressed, ..rules() };
    for rules in [rules(), strict, append, plain] {
        let rules = ProduceRules { records_bytes_max: SMALL, ..rules };
        let Ok(batch) = validate_produced(BytesMut::from(bytes), &rules) else { continue };
        assert_eq!(BatchHeader::parse(batch.bytes()), Ok(batch.header));
        assert_eq!(check_crc(batch.bytes()), Ok(()));
        assert_eq!(batch.header.record_count, batch.header.last_offset_delta + 1);
        let (header, bytes) = batch.freeze();
        // The records of an uncompressed batch may be as large as the batch.
        let read: Vec<_> = records(&bytes, LIMIT).unwrap().map(Result::unwrap).collect();
        assert_eq!(read.len() as i64, i64::from(header.record_count));
        for (place, record) in (0..).zip(&read) {
            assert_eq!(record.offset, Offset(place));
        }
        let latest = read.iter().map(|it| it.timestamp).max().unwrap();
        assert_eq!(header.max_timestamp, latest.max(Timestamp(-1)));
    }
}

#[test]
fn every_truncation_is_endured() {
    for compression in CODECS {
        let whole = build(compression, true, &sample());
        for cut in 0..=whole.bytes().len() {
            let part = BytesMut::from(&whole.bytes()[..cut]);
            endure(&part);
            endure(&signed(part));
        }
    }
}

#[test]
fn every_byte_may_be_wrong() {
    for compression in CODECS {
        let whole = build(compression, true, &sample());
        for at in 0..whole.bytes().len() {
            for change in [0x01, 0x80, 0xff] {
                let mut bytes = BytesMut::from(whole.bytes());
                bytes[at] ^= change;
                let damaged = validate_produced(bytes.clone(), &rules());
                // The leader epoch is the log's to set and outside the checksum.
                assert!(damaged.is_err() || (12..16).contains(&at), "byte {at}");
                endure(&bytes);
                endure(&signed(bytes));
            }
        }
    }
}

#[test]
fn bombs_are_refused() {
    for compression in &CODECS[1..] {
        let mut builder = BatchBuilder::new(*compression, None);
        builder.push(Timestamp(NOW), Some(b"k"), Some(&vec![0; 64 << 20]), &[]);
        let (_, bomb) = builder.build().freeze();
        let error = records(&bomb, LIMIT).err();
        assert_eq!(error, Some(BatchError::TooLarge { limit: LIMIT }), "{compression}");
        let rules = ProduceRules { batch_bytes_max: bomb.len(), ..rules() };
        for compression in [TargetCompression::Producer, TargetCompression::Uncompressed] {
            let rules = ProduceRules { compression, ..rules.clone() };
            let refusal = validate_produced(BytesMut::from(&bomb[..]), &rules).unwrap_err();
            assert_eq!(refusal.code, protocol::ErrorCode::MessageTooLarge);
        }
    }
}

proptest! {
    #[test]
    fn mutations_are_endured(
        compression in codec(),
        inputs in prop::collection::vec(input(), 1..8),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let batch = build(compression, true, &inputs);
        let mut bytes = BytesMut::from(batch.bytes());
        for (at, with) in changes {
            let at = at.index(bytes.len());
            bytes[at] = with;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        endure(&bytes);
        endure(&signed(bytes));
    }
}

/// The input as a batch, and as the end of a batch whose start holds.
fn endure_anything(input: &[u8]) {
    endure(input);
    let [attributes, count, rest @ ..] = input else { return };
    let batch = build(Compression::None, true, &sample()[..1]);
    let mut bytes = BytesMut::from(&batch.bytes()[..BATCH_HEADER_LEN]);
    bytes[22] = *attributes;
    bytes[26] = count.wrapping_sub(1);
    bytes[60] = *count;
    bytes.extend_from_slice(rest);
    endure(&signed(bytes));
}

/// Records that are well compressed but arbitrary inside; then the input in the place of the records.
fn iterate_anything(input: &[u8]) {
    let [id, rest @ ..] = input else { return };
    let compression = CODECS[usize::from(*id) % CODECS.len()];
    let mut builder = BatchBuilder::new(compression, None);
    let (key, value) = rest.split_at(rest.len() / 2);
    builder.push(Timestamp(NOW), Some(key), Some(value), &[(key, Some(value))]);
    let (header, batch) = builder.build().freeze();
    let mut iter = records(&batch, LIMIT).unwrap();
    assert_eq!(iter.header(), &header);
    let record = iter.next().unwrap().unwrap();
    assert_eq!((record.key.as_deref(), record.value.as_deref()), (Some(key), Some(value)));
    assert!(iter.next().is_none());
    let mut bytes = BytesMut::from(&batch[..BATCH_HEADER_LEN]);
    bytes.extend_from_slice(rest);
    endure(&signed(bytes));
}

/// Fuzz targets: the same inputs in every run of `cargo test` (`docs/testing.md` says how to have others).
/// PROPTEST_CASES may ask for more of them.
fn fuzz_config() -> ProptestConfig {
    let asked = ProptestConfig::default();
    ProptestConfig { cases: asked.cases.max(FUZZ_CASES), ..asked }
}

#[test]
fn fuzz_batch_validation() {
    if cfg!(fuzzing) {
        return check!().with_max_len(FUZZ_BYTES_MAX).for_each(endure_anything);
    }
    let bytes = prop::collection::vec(any::<u8>(), 0..FUZZ_BYTES_MAX);
    proptest!(fuzz_config(), |(input in bytes)| endure_anything(&input));
}

#[test]
fn fuzz_record_iteration() {
    if cfg!(fuzzing) {
        return check!().with_max_len(FUZZ_BYTES_MAX).for_each(iterate_anything);
    }
    let bytes = prop::collection::vec(any::<u8>(), 0..FUZZ_BYTES_MAX);
    proptest!(fuzz_config(), |(input in bytes)| iterate_anything(&input));
}
