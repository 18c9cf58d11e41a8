//! Tests of the segment format: round trips, golden files, and bytes that may be anything.

use super::*;
use bytes::Bytes;
use crc_fast::crc32_iscsi;
use environment::{Entropy, SeededEntropy};
use proptest::prelude::*;
use protocol::records::{
    Attributes, BATCH_HEADER_LEN, BatchHeader, EndTxnMarker, TransactionResult,
};
use vocabulary::{
    BrokerEpoch, BrokerId, LeaderEpoch, Offset, Partition, SegmentId, SegmentName, Timestamp,
    TopicId,
};

/// What a test says about a batch; the rest follows from the one before.
#[derive(Debug, Clone)]
struct Sample {
    topic: u8,
    index: i32,
    epoch: i32,
    records: i32,
    payload: usize,
    timestamps: (i64, i64),
    producer: (i64, i16, i32),
    attributes: i16,
}

fn header(sample: &Sample, base_offset: Offset) -> BatchHeader {
    BatchHeader {
        base_offset,
        length: (BATCH_HEADER_LEN - 12 + sample.payload) as i32,
        leader_epoch: sample.epoch,
        magic: 2,
        crc: 7,
        attributes: Attributes(sample.attributes),
        last_offset_delta: sample.records - 1,
        base_timestamp: Timestamp(sample.timestamps.0),
        max_timestamp: Timestamp(sample.timestamps.1),
        producer_id: sample.producer.0,
        producer_epoch: sample.producer.1,
        base_sequence: sample.producer.2,
        record_count: sample.records,
    }
}

/// Of control batches: every third is no marker, the others have a transaction or not.
fn marker(header: &BatchHeader) -> Option<MarkerEntry> {
    let (base, epoch) = (header.base_offset.0, header.producer_epoch);
    let result = if epoch == 1 { TransactionResult::Abort } else { TransactionResult::Commit };
    let marker = EndTxnMarker { result, coordinator_epoch: i32::from(epoch) };
    let first_offset = (base % 2 == 1).then_some(Offset(base / 3));
    let is_marker = header.attributes.is_control() && base % 3 != 0;
    is_marker.then_some(MarkerEntry { marker, first_offset })
}

fn batch(header: &BatchHeader) -> Bytes {
    let mut bytes = header.encode().to_vec();
    bytes.extend((BATCH_HEADER_LEN..header.byte_length()).map(|it| (it * 31) as u8));
    Bytes::from(bytes)
}

fn sample(topic: u8, index: i32, payload: usize) -> Sample {
    Sample {
        topic,
        index,
        epoch: 5,
        records: 3,
        payload,
        timestamps: (1_700_000_000_000, 1_700_000_000_250),
        producer: (-1, -1, -1),
        attributes: 0,
    }
}

fn partition(sample: &Sample) -> Partition {
    Partition { topic: TopicId([sample.topic; 16]), index: sample.index }
}

fn build(name: SegmentName, samples: &[Sample]) -> (EncodedSegment, Vec<(Slot, Bytes)>) {
    let mut builder = SegmentBuilder::new(name).stamped(0x5eed);
    let mut ends = std::collections::BTreeMap::new();
    let mut slots = Vec::new();
    for sample in samples {
        let key = (partition(sample), sample.epoch);
        let end = ends.entry(key).or_insert(Offset(1000));
        let header = header(sample, *end);
        let bytes = batch(&header);
        let marker = marker(&header);
        let (partition, epoch) = (key.0, LeaderEpoch(key.1));
        let slot = builder.push_marked(partition, epoch, &header, marker, bytes.clone());
        slots.push((slot, bytes));
        *end = header.end_offset();
    }
    (builder.finish(), slots)
}

fn wal_name() -> SegmentName {
    SegmentName::Wal { broker: BrokerId(3), epoch: BrokerEpoch(9), sequence: 42 }
}

fn bytes_of(segment: &EncodedSegment) -> Vec<u8> {
    segment.chunks.concat()
}

fn decode(bytes: &[u8]) -> Result<SegmentIndex, SegmentError> {
    match read_index(bytes, bytes.len() as u64)? {
        IndexRead::Index(index) => Ok(index),
        IndexRead::NeedSuffix { suffix } => panic!("asked for {suffix} of all {}", bytes.len()),
    }
}

fn check_runs(index: &SegmentIndex, bytes: &[u8]) -> Result<(), SegmentError> {
    index.runs.iter().try_for_each(|run| {
        let payload = &bytes[run.position as usize..(run.position + run.length) as usize];
        run.check_payload(payload.chunks(100))
    })
}

fn samples() -> impl Strategy<Value = Vec<Sample>> {
    let producer = prop_oneof![Just((-1, -1, -1)), (0..9i64, 0..3i16, 0..i32::MAX)];
    let one = (0..2u8, 0..3i32, 0..2i32, 1..50i32, 0..5000usize, any::<(i64, i64)>(), producer);
    let one = (one, 0..0x80i16).prop_map(|(it, attributes)| Sample {
        topic: it.0,
        index: it.1,
        epoch: it.2,
        records: it.3,
        payload: it.4,
        timestamps: it.5,
        producer: it.6,
        attributes,
    });
    prop::collection::vec(one, 0..40)
}

proptest! {
    // Goal: what is built reads back equal, and each batch is where its slot says.
    #[test]
    fn every_segment_reads_back(samples in samples(), id in any::<u128>()) {
        let (segment, slots) = build(SegmentName::Data(SegmentId(id)), &samples);
        let bytes = bytes_of(&segment);
        prop_assert_eq!(bytes.len() as u64, segment.length);
        let index = decode(&bytes).expect("a built segment is good");
        prop_assert_eq!(&index, &segment.index);
        prop_assert!(check_runs(&index, &bytes).is_ok());
        for (slot, batch) in slots {
            let (position, length) = segment.place(slot);
            let (from, to) = (position as usize, position as usize + length as usize);
            prop_assert_eq!(&bytes[from..to], &batch[..]);
        }
        let header = SegmentHeader::parse(&bytes).expect("a built header is good");
        let expected = (segment.index.name, segment.length, 0x5eed);
        prop_assert_eq!((header.name, header.length, header.stamp), expected);
    }

    // Goal: a reader that guesses the suffix too short is told the right length, once.
    #[test]
    fn a_short_suffix_is_enough_the_second_time(samples in samples(), guess in 0..4000usize) {
        let bytes = bytes_of(&build(wal_name(), &samples).0);
        let mut guess = guess.min(bytes.len());
        for _ in 0..3 {
            match read_index(&bytes[bytes.len() - guess..], bytes.len() as u64) {
                Ok(IndexRead::NeedSuffix { suffix }) => {
                    prop_assert!(guess < suffix as usize && suffix as usize <= bytes.len());
                    guess = suffix as usize;
                }
                Ok(IndexRead::Index(index)) => {
                    prop_assert_eq!(index, decode(&bytes).expect("a built segment is good"));
                    return Ok(());
                }
                Err(error) => return Err(TestCaseError::fail(error.to_string())),
            }
        }
        prop_assert!(false, "asked too often");
    }

    // Goal: no index, however odd, breaks the decoder; what it accepts encodes to the same bytes.
    #[test]
    fn any_index_bytes_are_refused_or_canonical(index in prop::collection::vec(any::<u8>(), 0..200)) {
        check_forged(&index);
    }
}

/// A segment around a forged index, with checksums that hold: the decoder is all that protects.
fn forge(payload: &[u8], index: &[u8]) -> Vec<u8> {
    let length = (HEADER_LEN + payload.len() + index.len() + FOOTER_LEN) as u64;
    let index_length = index.len() as u64;
    let header = SegmentHeader { name: wal_name(), length, index_length, stamp: 0 };
    let footer = frame::Footer { index_length, length, index_crc: crc32_iscsi(index) };
    [&header.encode()[..], payload, index, &footer.encode()[..]].concat()
}

fn check_forged(index: &[u8]) {
    if index.len() < frame::INDEX_LEN_MIN {
        return;
    }
    let bytes = forge(&[0; 500], index);
    if let Ok(decoded) = decode(&bytes) {
        let mut again = Vec::new();
        index::encode(&mut again, decoded.name, &decoded.runs);
        assert_eq!(again, index);
        let _ = check_runs(&decoded, &bytes);
    }
}

/// The input as an index, and behind a good start, so that the fuzzer need not find version and name.
fn decode_anything(input: &[u8]) {
    check_forged(input);
    let mut index = 1u16.to_le_bytes().to_vec();
    index.extend(frame::encode_name(wal_name()));
    index.extend_from_slice(input);
    check_forged(&index);
    let _ = SegmentHeader::parse(input);
    let _ = read_index(input, input.len() as u64);
    let _ = read_index(input, u64::MAX);
}

// A fuzz target: the same inputs in every run of `cargo test` (`docs/testing.md` says how to have others).
#[test]
fn fuzz_index() {
    const CASES: u32 = 20_000;
    const BYTES_MAX: usize = 600;
    if cfg!(fuzzing) {
        return bolero::check!().with_max_len(BYTES_MAX).for_each(decode_anything);
    }
    let asked = ProptestConfig::default(); // PROPTEST_CASES may ask for more.
    let config = ProptestConfig { cases: asked.cases.max(CASES), ..asked };
    let bytes = proptest::collection::vec(any::<u8>(), 0..BYTES_MAX);
    proptest!(config, |(input in bytes)| decode_anything(&input));
}

// Goal: no single changed byte goes unnoticed, no cut is taken for a segment.
#[test]
fn damage_anywhere_is_noticed() {
    let samples = [sample(1, 0, 30), sample(1, 1, 10), sample(1, 0, 0), sample(2, 0, 300)];
    let good = bytes_of(&build(wal_name(), &samples).0);
    let verdict = |bytes: &[u8]| {
        SegmentHeader::parse(bytes)?;
        check_runs(&decode(bytes)?, bytes)
    };
    assert_eq!(verdict(&good), Ok(()));
    for position in 0..good.len() {
        for bit in 0..8 {
            let mut bytes = good.clone();
            bytes[position] ^= 1 << bit;
            assert!(verdict(&bytes).is_err(), "byte {position} bit {bit}");
        }
        let cut = &good[..position];
        assert!(read_index(cut, cut.len() as u64).is_err(), "cut at {position}");
        assert!(read_index(&good[position..], good.len() as u64).is_ok(), "from {position}");
    }
}

// Goal: mutations that keep checksums right meet every check of the decoder, and none panics.
#[test]
fn mutated_indexes_never_panic() {
    let samples = [sample(1, 0, 30), sample(1, 1, 10), sample(1, 0, 0), sample(2, 0, 300)];
    let segment = build(wal_name(), &samples).0;
    let payload: Vec<u8> = segment.chunks[1..segment.chunks.len() - 1].concat();
    let tail = segment.chunks.last().expect("index and footer");
    let good = &tail[..tail.len() - FOOTER_LEN];
    assert!(decode(&forge(&payload, good)).is_ok());
    let entropy = SeededEntropy::new(1);
    let mut refused = 0;
    for _ in 0..20_000 {
        let mut index = good.to_vec();
        for _ in 0..=entropy.below(3) {
            let at = entropy.below(index.len() as u64) as usize;
            match entropy.below(4) {
                0 => index[at] = entropy.next_u64() as u8,
                1 => index[at] = 0xff,
                2 => drop(index.remove(at)),
                _ => index.insert(at, entropy.next_u64() as u8),
            }
        }
        refused += u32::from(decode(&forge(&payload, &index)).is_err());
    }
    assert!(10_000 < refused, "{refused} of 20000 refused");
}

#[test]
fn counts_beyond_the_bytes_are_refused_before_memory_is_taken() {
    let mut index = 1u16.to_le_bytes().to_vec();
    index.extend(frame::encode_name(wal_name()));
    cursor::put_varint(&mut index, u64::MAX);
    let error = decode(&forge(&[], &index)).expect_err("no room for so many runs");
    let reason = "more entries than bytes for them";
    assert_eq!(error, SegmentError::Malformed { part: SegmentPart::Index, reason });
}

#[test]
fn a_newer_version_is_told_from_damage() {
    let mut bytes = bytes_of(&build(wal_name(), &[sample(1, 0, 30)]).0);
    bytes[8] = 3;
    let crc = crc32_iscsi(&bytes[..60]).to_le_bytes();
    bytes[60..64].copy_from_slice(&crc);
    let expected = SegmentError::Version { part: SegmentPart::Header, found: 3 };
    assert_eq!(SegmentHeader::parse(&bytes), Err(expected));
}

#[test]
fn numbers_have_one_encoding() {
    for value in [0, 1, 127, 128, 300, u64::MAX - 1, u64::MAX] {
        let mut bytes = Vec::new();
        cursor::put_varint(&mut bytes, value);
        assert_eq!(cursor::Cursor::new(&bytes).varint(), Ok(value));
    }
    for value in [0, -1, 1, i64::MIN, i64::MAX] {
        let mut bytes = Vec::new();
        cursor::put_zigzag(&mut bytes, value);
        assert_eq!(cursor::Cursor::new(&bytes).zigzag(), Ok(value));
    }
    for bytes in [&[0x80, 0x00][..], &[0xff; 10], &[0xff; 11], &[0x80], &[]] {
        assert!(cursor::Cursor::new(bytes).varint().is_err(), "{bytes:?}");
    }
}

#[test]
fn payload_is_never_copied() {
    let header = header(&sample(1, 0, 500), Offset(0));
    let bytes = batch(&header);
    let mut builder = SegmentBuilder::new(wal_name());
    builder.push(Partition::default(), LeaderEpoch(0), &header, bytes.clone());
    assert_eq!(builder.payload_bytes(), bytes.len() as u64);
    assert_eq!(builder.finish().chunks[1].as_ptr(), bytes.as_ptr());
}

/// The batch with a checksum that holds.
fn signed(mut header: BatchHeader) -> (BatchHeader, Bytes) {
    header.crc = crc32_iscsi(&batch(&header)[BatchHeader::CHECKED_FROM..]);
    (header, batch(&header))
}

proptest! {
    #[test]
    fn checksums_that_hold_make_the_same_segment(samples in samples()) {
        let mut builders = [SegmentBuilder::new(wal_name()), SegmentBuilder::new(wal_name())];
        let mut ends = std::collections::BTreeMap::new();
        for sample in &samples {
            let run = (partition(sample), LeaderEpoch(sample.epoch));
            let end = ends.entry(run).or_insert(Offset(1000));
            let (header, bytes) = signed(header(sample, *end));
            let marker = marker(&header);
            let [plain, checked] = &mut builders;
            let slot = plain.push_marked(run.0, run.1, &header, marker, bytes.clone());
            prop_assert_eq!(checked.push_checked(run.0, run.1, &header, marker, bytes), slot);
            *end = header.end_offset();
        }
        let [plain, checked] = builders.map(SegmentBuilder::finish);
        prop_assert_eq!(&checked.chunks, &plain.chunks);
        prop_assert_eq!(checked.index, plain.index);
    }
}

#[test]
#[should_panic(expected = "contiguous")]
fn a_gap_in_a_run_is_a_bug_of_the_caller() {
    let mut builder = SegmentBuilder::new(wal_name());
    for base in [0, 4] {
        let header = header(&sample(1, 0, 10), Offset(base));
        builder.push(Partition::default(), LeaderEpoch(0), &header, batch(&header));
    }
}

#[test]
fn blocks_and_batches_are_found_by_offset() {
    let samples = vec![sample(1, 0, 100_000); 8]; // Three batches a block, offsets 1000 to 1023.
    let (segment, _) = build(wal_name(), &samples);
    let run = &segment.index.runs[0];
    let offsets: Vec<_> = run.blocks.iter().map(|it| it.offset.0).collect();
    assert_eq!(offsets, [1000, 1009, 1018]);
    assert_eq!(run.blocks[1].position, 3 * 100_061);
    let block = |offset| run.block_at(Offset(offset)).map(|it| it.offset.0);
    assert_eq!((block(0), block(1008), block(1009)), (Some(1000), Some(1000), Some(1009)));
    let batch = |offset| run.batch_at(Offset(offset)).map(|it| it.base_offset.0);
    assert_eq!((batch(1002), batch(1003), batch(1023)), (Some(1000), Some(1003), Some(1021)));
    assert_eq!((batch(0), batch(1024)), (Some(1000), None));
}

/// The segments of the golden files. Whoever changes the format keeps reading these bytes.
fn golden() -> [(&'static str, EncodedSegment); 2] {
    let plain = sample(1, 0, 20);
    let idempotent = Sample { producer: (4000, 1, 2_147_483_600), ..plain.clone() };
    let transactional = Sample { attributes: 0x14, ..idempotent.clone() };
    let control = Sample { attributes: 0x30, records: 1, payload: 16, ..idempotent.clone() };
    let untimed = Sample { timestamps: (-1, -1), epoch: 6, ..sample(1, 7, 5) };
    let large = vec![sample(2, 0, 90_000); 4];
    let wal = [plain, idempotent, untimed, transactional, control];
    let wal = build(wal_name(), &wal).0;
    let id = SegmentId(0x0123_4567_89ab_cdef_0011_2233_4455_6677);
    let mut builder = SegmentBuilder::new(SegmentName::Data(id));
    let mut end = Offset(0);
    for it in &large {
        let header = header(it, end);
        builder.push(partition(it), LeaderEpoch(0), &header, batch(&header));
        end = header.end_offset();
    }
    builder.attach_producers(partition(&large[0]), Bytes::from_static(b"opaque producer state"));
    [("segment-v2-wal.bin", wal), ("segment-v2-data.bin", builder.finish())]
}

fn golden_path(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

// To write files for a new version, run with GOLDEN=write; never for a version that was released.
#[test]
fn golden_files_encode_and_decode_equal() {
    for (name, segment) in golden() {
        let bytes = bytes_of(&segment);
        if std::env::var_os("GOLDEN").is_some() {
            std::fs::write(golden_path(name), &bytes).expect("the directory is there");
        }
        let golden = std::fs::read(golden_path(name)).expect("golden files are committed");
        assert!(golden == bytes, "{name}: the format changed");
        assert_eq!(decode(&golden).as_ref(), Ok(&segment.index), "{name}");
        assert_eq!(check_runs(&segment.index, &golden), Ok(()), "{name}");
    }
}

/// Version 1 knew no markers, and was the same in all else.
#[test]
fn segments_of_version_1_are_read() {
    for ((_, segment), name) in
        golden().into_iter().zip(["segment-v1-wal.bin", "segment-v1-data.bin"])
    {
        let old = std::fs::read(golden_path(name)).expect("golden files are committed");
        let index = decode(&old).expect("old versions still decode");
        let mut expected = segment.index;
        expected.length = old.len() as u64;
        let batches = expected.runs.iter_mut().flat_map(|it| &mut it.batches);
        batches.for_each(|it| it.marker = None);
        assert_eq!(index, expected, "{name}");
        assert_eq!(check_runs(&index, &old), Ok(()), "{name}");
    }
}
