//! One suite for every twin of the port: what passes here can stand in for a real store in a test,
//! and what fails here must not hold data.

use crate::port::{Bucket, BucketError, Key, Purpose, PutOutcome};
use bytes::Bytes;
use futures::StreamExt;

const PURPOSE: Purpose = Purpose::Cluster;

/// Runs the whole suite below keys that start with `conformance/`; the bucket holds none of them.
///
/// # Panics
///
/// When the bucket breaks a promise; the message says which.
pub async fn check(bucket: &dyn Bucket) {
    creates_once(bucket).await;
    reads_exactly(bucket).await;
    lists_in_order(bucket).await;
    deletes_for_good(bucket).await;
    lets_one_racer_win(bucket).await;
    creates_large_objects(bucket).await;
    takes_back_what_fails(bucket).await;
}

async fn put(bucket: &dyn Bucket, key: &Key, body: &[&'static [u8]]) -> PutOutcome {
    let body = body.iter().map(|part| Bytes::from_static(part)).collect();
    bucket.put_new(key, body, PURPOSE).await.expect("a put answers")
}

async fn creates_once(bucket: &dyn Bucket) {
    let key = Key::new("conformance/create/one");
    assert_eq!(put(bucket, &key, &[b"ab", b"", b"cd"]).await, PutOutcome::Created);
    assert_eq!(put(bucket, &key, &[b"other"]).await, PutOutcome::AlreadyExists);
    assert_eq!(put(bucket, &key, &[b"abcx"]).await, PutOutcome::AlreadyExists);
    assert_eq!(put(bucket, &key, &[b"abc"]).await, PutOutcome::AlreadyExists);
    let again = put(bucket, &key, &[b"a", b"bcd"]).await;
    assert_eq!(again, PutOutcome::Created, "the same bytes are already there: success");
    assert_eq!(bucket.get(&key, 0..4, PURPOSE).await, Ok(Bytes::from_static(b"abcd")));

    let empty = Key::new("conformance/create/empty");
    assert_eq!(put(bucket, &empty, &[]).await, PutOutcome::Created);
    assert_eq!(put(bucket, &empty, &[]).await, PutOutcome::Created);
    let suffix = bucket.get_suffix(&empty, 10, PURPOSE).await.expect("readable");
    assert_eq!((suffix.bytes.len(), suffix.object_length), (0, 0), "an empty object");
}

async fn reads_exactly(bucket: &dyn Bucket) {
    let key = Key::new("conformance/read/one");
    put(bucket, &key, &[b"0123", b"456789"]).await;
    assert_eq!(bucket.get(&key, 3..6, PURPOSE).await, Ok(Bytes::from_static(b"345")));
    assert_eq!(bucket.get(&key, 9..10, PURPOSE).await, Ok(Bytes::from_static(b"9")));
    assert_eq!(bucket.get(&key, 4..4, PURPOSE).await, Ok(Bytes::new()));
    for range in [8..11, 10..11, 20..30] {
        let error = bucket.get(&key, range.clone(), PURPOSE).await.expect_err("out of range");
        let expected = BucketError::OutOfRange { key: key.clone(), length: 10, end: range.end };
        assert_eq!(error, expected, "never fewer bytes than asked for");
    }
    let pieces = bucket.get_pieces(&key, 2, &[3, 0, 4], PURPOSE).await.expect("readable");
    assert_eq!(pieces, [&b"234"[..], b"", b"5678"], "neighbours, in order");
    assert_eq!(bucket.get_pieces(&key, 9, &[1], PURPOSE).await.expect("readable"), [&b"9"[..]]);
    let error = bucket.get_pieces(&key, 6, &[3, 2], PURPOSE).await.expect_err("out of range");
    assert_eq!(error, BucketError::OutOfRange { key: key.clone(), length: 10, end: 11 });
    for (length, bytes) in [(0, ""), (4, "6789"), (10, "0123456789"), (99, "0123456789")] {
        let suffix = bucket.get_suffix(&key, length, PURPOSE).await.expect("readable");
        assert_eq!((suffix.bytes.as_ref(), suffix.object_length), (bytes.as_bytes(), 10));
    }
    let absent = Key::new("conformance/read/absent");
    let not_found = BucketError::NotFound { key: absent.clone() };
    assert_eq!(bucket.get(&absent, 0..1, PURPOSE).await, Err(not_found.clone()));
    assert_eq!(bucket.get_suffix(&absent, 1, PURPOSE).await, Err(not_found.clone()));
    assert_eq!(bucket.get_suffix(&absent, 0, PURPOSE).await, Err(not_found));
}

async fn lists_in_order(bucket: &dyn Bucket) {
    let folder = Key::new("conformance/list");
    assert_eq!(bucket.list(&folder, None, 10).await, Ok(Vec::new()), "nothing there yet");
    // In byte order `a-b` comes before `a/b`, whatever a directory walk says.
    let names = ["10", "2", "a-b", "a/b", "a/c/d", "z"];
    for name in names.iter().rev() {
        put(bucket, &folder.join(name), &[name.as_bytes()]).await;
    }
    put(bucket, &Key::new("conformance/listing"), &[b"a neighbour with a longer name"]).await;
    let expected: Vec<Key> = names.iter().map(|name| folder.join(name)).collect();

    for page in 1..=names.len() + 1 {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let listed = bucket.list(&folder, after.as_ref(), page).await.expect("listed");
            assert!(listed.len() <= page);
            seen.extend(listed.iter().map(|it| it.key.clone()));
            if listed.len() < page {
                break;
            }
            after = seen.last().cloned();
        }
        assert_eq!(seen, expected, "pages of {page}");
    }
    let one = bucket.list(&folder.join("a"), None, 1).await.expect("listed");
    assert_eq!((&one[0].key, one[0].length), (&folder.join("a/b"), 3));
}

async fn deletes_for_good(bucket: &dyn Bucket) {
    let key = Key::new("conformance/delete/one");
    assert_eq!(bucket.delete(&key, PURPOSE).await, Ok(()), "absent is fine");
    put(bucket, &key, &[b"one"]).await;
    assert_eq!(bucket.delete(&key, PURPOSE).await, Ok(()));
    assert!(matches!(bucket.get(&key, 0..1, PURPOSE).await, Err(BucketError::NotFound { .. })));
    assert_eq!(bucket.list(&Key::new("conformance/delete"), None, 1).await, Ok(Vec::new()));
    assert_eq!(put(bucket, &key, &[b"two"]).await, PutOutcome::Created);
}

async fn lets_one_racer_win(bucket: &dyn Bucket) {
    for round in 0..8 {
        let key = Key::new(format!("conformance/race/{round}"));
        let race = (0..8u8).map(|racer| {
            let (key, body) = (key.clone(), vec![Bytes::from(vec![racer; 64])]);
            async move { bucket.put_new(&key, body, PURPOSE).await.expect("a put answers") }
        });
        let outcomes = futures::future::join_all(race).await;
        let winners: Vec<u8> = (0..8u8)
            .zip(outcomes)
            .filter_map(|(racer, outcome)| (outcome == PutOutcome::Created).then_some(racer))
            .collect();
        assert_eq!(winners.len(), 1, "one racer creates the object");
        let stored = bucket.get(&key, 0..64, PURPOSE).await.expect("readable");
        assert_eq!(stored, vec![winners[0]; 64], "and it is the one that was told so");
    }
}

/// Three parts as they are cut today, the last one short.
const LARGE_BYTES: u64 = 2 * 16 * 1024 * 1024 + 123;

/// Of a body's pieces: no divisor of anything.
const PIECE_BYTES: u64 = 1_000_003;

/// Byte `n` of a large body.
fn byte(n: u64) -> u8 {
    (n % 251) as u8
}

fn bytes(range: std::ops::Range<u64>) -> Vec<u8> {
    range.map(byte).collect()
}

/// Sends `sent` bytes as a body that is announced with `announced`, and then `end`, if any.
async fn put_large(
    bucket: &dyn Bucket,
    key: &Key,
    (sent, announced): (u64, u64),
    end: Option<BucketError>,
) -> Result<PutOutcome, BucketError> {
    // One pattern for all pieces: the period of the bytes divides what they are cut from.
    let pattern = Bytes::from(bytes(0..PIECE_BYTES + 251));
    let pieces = (0..sent).step_by(PIECE_BYTES as usize).map(move |start| {
        let (from, length) = ((start % 251) as usize, PIECE_BYTES.min(sent - start) as usize);
        Ok(pattern.slice(from..from + length))
    });
    let body = futures::stream::iter(pieces).chain(futures::stream::iter(end.map(Err))).boxed();
    bucket.put_new_large(key, body, announced, PURPOSE).await
}

async fn creates_large_objects(bucket: &dyn Bucket) {
    for (name, length) in [("empty", 0), ("small", 10), ("large", LARGE_BYTES)] {
        let key = Key::new(format!("conformance/parts/{name}"));
        let put = put_large(bucket, &key, (length, length), None).await;
        assert_eq!(put, Ok(PutOutcome::Created), "{name}");
        let suffix = bucket.get_suffix(&key, 7, PURPOSE).await.expect("readable");
        assert_eq!(suffix.object_length, length, "{name}");
        assert_eq!(suffix.bytes, bytes(length.saturating_sub(7)..length), "{name}");
    }
    let key = Key::new("conformance/parts/large");
    for border in [PIECE_BYTES, 16 * 1024 * 1024, 2 * 16 * 1024 * 1024] {
        let around = border - 3..border + 3;
        let read = bucket.get(&key, around.clone(), PURPOSE).await.expect("readable");
        assert_eq!(read, bytes(around), "parts lie one after another");
    }
    let again = put_large(bucket, &key, (LARGE_BYTES + 1, LARGE_BYTES + 1), None).await;
    assert_eq!(again, Ok(PutOutcome::AlreadyExists));
    let suffix = bucket.get_suffix(&key, 0, PURPOSE).await.expect("readable");
    assert_eq!(suffix.object_length, LARGE_BYTES, "the first object stays");

    let plain = Key::new("conformance/parts/plain");
    put(bucket, &plain, &[b"plain"]).await;
    for length in [10, LARGE_BYTES] {
        let put = put_large(bucket, &plain, (length, length), None).await;
        assert_eq!(put, Ok(PutOutcome::AlreadyExists));
    }
    assert_eq!(bucket.get(&plain, 0..5, PURPOSE).await, Ok(Bytes::from_static(b"plain")));
}

async fn takes_back_what_fails(bucket: &dyn Bucket) {
    let key = Key::new("conformance/parts/failed");
    for length in [10, LARGE_BYTES] {
        for (sent, end) in [
            (length - 1, None),
            (length + 1, None),
            (length / 2, Some(BucketError::NotFound { key: Key::new("elsewhere") })),
        ] {
            let put = put_large(bucket, &key, (sent, length), end.clone()).await;
            let error = put.expect_err("a body that is not what it said");
            match end {
                Some(end) => assert_eq!(error, end, "the body's own error"),
                None => assert_eq!(error.kind(), "refused", "{error}"),
            }
            let read = bucket.get_suffix(&key, 1, PURPOSE).await;
            assert!(matches!(read, Err(BucketError::NotFound { .. })), "{read:?}");
        }
    }
    let listed = bucket.list(&Key::new("conformance/parts"), None, 10).await.expect("listed");
    assert_eq!(listed.len(), 4, "empty, large, plain and small: {listed:?}");
}
