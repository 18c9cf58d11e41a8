//! Tests of the fence's bytes and of the walk.

use super::*;
use crate::wal::ledger::WalKind;
use bucket::{Faults, LyingBucket};

const LOG: WalId = WalId { broker: BrokerId(7), epoch: BrokerEpoch(3) };
const OWN: WalId = WalId { broker: BrokerId(2), epoch: BrokerEpoch(9) };

fn fence() -> Fence {
    Fence {
        log: LOG,
        sequence: 42,
        by: OWN,
        at: Timestamp(1_767_225_600_000),
        stamp: 0x0102_0304_0506_0708,
        reason: "takeover".to_owned(),
    }
}

fn suffix(bytes: Bytes) -> Suffix {
    Suffix { object_length: bytes.len() as u64, bytes }
}

#[test]
fn the_bytes_of_a_fence_are_pinned() {
    let mut expected = b"AQUIFERF\x01\x00\x00\x00".to_vec();
    expected.extend([7, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 42, 0, 0, 0, 0, 0, 0, 0]);
    expected.extend([2, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
    expected.extend(1_767_225_600_000i64.to_le_bytes());
    expected.extend([8, 7, 6, 5, 4, 3, 2, 1, 8]);
    expected.extend(b"takeover");
    expected.resize(CRC_AT, 0);
    expected.extend(crc32_iscsi(&expected).to_le_bytes());
    assert_eq!(fence().encode(), expected);
    assert_eq!(parse(&suffix(Bytes::from(expected)), LOG, 42), Ok(fence()));
    let text = "broker 2 in epoch 9 ended the log of broker 7 in epoch 3 before segment 42 at \
                1767225600000 ms (takeover)";
    assert_eq!(fence().to_string(), text);
}

#[test]
fn a_long_reason_is_cut_between_letters() {
    let fence = Fence { reason: "é".repeat(40), ..fence() };
    let found = parse(&suffix(fence.encode()), LOG, 42).expect("a fence");
    assert_eq!(found.reason, "é".repeat(REASON_BYTES_MAX / 2));
}

#[test]
fn no_damaged_fence_is_believed() {
    let good = fence().encode();
    for at in 0..FENCE_LENGTH {
        let mut bytes = good.to_vec();
        bytes[at] ^= 0x20;
        let found = parse(&suffix(Bytes::from(bytes)), LOG, 42);
        assert!(matches!(found, Err(NoFence::Malformed(_))), "byte {at}: {found:?}");
    }
    let short = parse(&suffix(good.slice(..100)), LOG, 42);
    assert!(matches!(short, Err(NoFence::Malformed(_))));
    assert!(matches!(parse(&suffix(good.clone()), LOG, 41), Err(NoFence::Malformed(_))));
    assert!(matches!(parse(&suffix(good.clone()), OWN, 42), Err(NoFence::Malformed(_))));
    let long = Suffix { object_length: SEGMENT_LENGTH_MIN, bytes: good };
    assert_eq!(parse(&long, LOG, 42), Err(NoFence::Segment));
}

fn key(sequence: u64) -> Key {
    let WalId { broker, epoch } = LOG;
    segment_key(SegmentName::Wal { broker, epoch, sequence })
}

fn record(trimmed: u64) -> WalRecord {
    WalRecord { id: LOG, kind: WalKind::Bucket, trimmed, fence: None }
}

async fn put_segments(bucket: &LyingBucket, sequences: impl IntoIterator<Item = u64>) {
    for sequence in sequences {
        let body = vec![Bytes::from(vec![sequence as u8; SEGMENT_LENGTH_MIN as usize])];
        let put = bucket.put_new(&key(sequence), body, Purpose::Wal).await;
        assert_eq!(put, Ok(PutOutcome::Created));
    }
}

async fn end(bucket: &LyingBucket, trimmed: u64, environment: &Environment) -> (u64, u64, bool) {
    let ended = end_log(bucket, &record(trimmed), OWN, "a test", environment).await;
    let ended = ended.expect("the store answers in the end");
    assert_eq!(ended.id, LOG);
    (ended.first, ended.fence, ended.was_ended)
}

#[tokio::test(start_paused = true)]
async fn the_fence_takes_the_first_hole_at_or_above_the_trim_point() {
    for (segments, trimmed, expected) in [
        (vec![], 0, 0),
        (vec![], 5, 5),
        ((0..7).collect(), 0, 7),
        ((3..7).collect(), 3, 7),
        (vec![0, 1, 2, 5, 6], 0, 3), // 5 and 6 were under way, and never acknowledged.
        (vec![0, 1, 4, 5, 6], 4, 7), // 0 and 1 were trimmed, and came back.
        ((0..2100).collect(), 7, 2100), // More than two pages.
    ] {
        let environment = Environment::simulated(1);
        let bucket = LyingBucket::new(1, Faults::NONE, &environment);
        put_segments(&bucket, segments.iter().copied()).await;
        assert_eq!(end(&bucket, trimmed, &environment).await, (trimmed, expected, false));
        // Again, by whomever: the fence stays where it is.
        assert_eq!(end(&bucket, trimmed, &environment).await, (trimmed, expected, true));
        let late = vec![Bytes::from(vec![1; 200])];
        let late = bucket.put_new(&key(expected), late, Purpose::Wal).await;
        assert_eq!(late, Ok(PutOutcome::AlreadyExists), "the writer wakes up too late");
    }
}

#[tokio::test(start_paused = true)]
async fn lost_answers_and_racing_walkers_agree_on_one_end() {
    for seed in 0..50 {
        let environment = Environment::simulated(seed);
        let bucket = LyingBucket::new(seed, Faults::NONE, &environment);
        let count = seed % 9;
        put_segments(&bucket, 0..count).await;
        bucket.set_faults(Faults::bad_day());
        let (one, other) =
            tokio::join!(end(&bucket, 0, &environment), end(&bucket, 0, &environment));
        assert_eq!((one.1, other.1), (count, count), "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_is_always_faster_runs_into_a_barrier() {
    let environment = Environment::simulated(1);
    let bucket = LyingBucket::new(1, Faults::NONE, &environment);
    // Listings show nothing of it, so each try of a fence finds another segment.
    let blind = Blind(bucket);
    put_segments(&blind.0, 0..40).await;
    let ended = end_log(&blind, &record(0), OWN, "a test", &environment).await.expect("ends");
    assert_eq!((ended.fence, ended.was_ended), (40, false));
    let barrier = u64::from(CHASES_MAX) + BARRIER_AHEAD;
    let late = vec![Bytes::from(vec![1; 200])];
    let late = blind.0.put_new(&key(barrier), late, Purpose::Wal).await;
    assert_eq!(late, Ok(PutOutcome::AlreadyExists));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_ours_is_left_to_an_operator() {
    let environment = Environment::simulated(1);
    let bucket = LyingBucket::new(1, Faults::NONE, &environment);
    put_segments(&bucket, 0..2).await;
    bucket.put_new(&key(2), vec![Bytes::from_static(b"mine!")], Purpose::Wal).await.expect("put");
    let error = end_log(&bucket, &record(0), OWN, "a test", &environment).await;
    let reason = "neither a segment's nor a fence's length";
    assert_eq!(error, Err(EndError::Corrupt { key: key(2), reason }));
}

/// Lists nothing.
#[derive(Debug)]
struct Blind(LyingBucket);

#[async_trait::async_trait]
impl Bucket for Blind {
    async fn put_new(
        &self,
        key: &Key,
        body: Vec<Bytes>,
        purpose: Purpose,
    ) -> Result<PutOutcome, BucketError> {
        self.0.put_new(key, body, purpose).await
    }

    async fn get(
        &self,
        key: &Key,
        range: std::ops::Range<u64>,
        purpose: Purpose,
    ) -> Result<Bytes, BucketError> {
        self.0.get(key, range, purpose).await
    }

    async fn get_suffix(
        &self,
        key: &Key,
        length: u64,
        purpose: Purpose,
    ) -> Result<Suffix, BucketError> {
        self.0.get_suffix(key, length, purpose).await
    }

    async fn list(
        &self,
        _: &Key,
        _: Option<&Key>,
        _: usize,
    ) -> Result<Vec<bucket::ObjectInfo>, BucketError> {
        Ok(Vec::new())
    }

    async fn put_new_large(
        &self,
        key: &Key,
        body: futures::stream::BoxStream<'_, Result<Bytes, BucketError>>,
        length: u64,
        purpose: Purpose,
    ) -> Result<PutOutcome, BucketError> {
        self.0.put_new_large(key, body, length, purpose).await
    }

    async fn delete(&self, key: &Key, purpose: Purpose) -> Result<(), BucketError> {
        self.0.delete(key, purpose).await
    }
}
