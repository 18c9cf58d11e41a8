//! The real client over real HTTP against a server that keeps S3's conditions, on good days and bad.
//!
//! Goal: what the twins promise in memory holds with sockets, signatures and multipart uploads in
//! between, and a day of resets, lost answers and 503 bursts changes only how long it takes.

use bucket::{
    Bucket, BucketError, BucketLocation, Key, Operation, ProbeError, Property, Purpose, PutOutcome,
    StoreBucket, Variables, conformance,
};
use bytes::Bytes;
use environment::Environment;
use fake_s3::{FakeS3, Faults, Options};
use futures::StreamExt;
use object_store::path::Path;
use object_store::{Error, ObjectStore, PutMode, PutOptions, PutPayload};
use std::time::Duration;

fn keys() -> Variables {
    Variables::from([("AWS_ACCESS_KEY_ID", "AKIATEST"), ("AWS_SECRET_ACCESS_KEY", "s3cr3t")])
}

async fn server(seed: u64) -> FakeS3 {
    let options = Options { seed, require_signature: true, ..Options::default() };
    FakeS3::start(options).await.expect("a loopback socket")
}

fn open(endpoint: &str, more: &str) -> StoreBucket {
    let text = format!("s3://wells/one/two?endpoint={endpoint}{more}");
    let location = BucketLocation::parse(&text).expect("a location");
    StoreBucket::open(&location, &keys(), &Environment::system()).expect("clients")
}

#[tokio::test]
async fn s3_conforms_and_passes_the_probe() {
    let server = server(1).await;
    let bucket = open(&server.endpoint(), "");
    bucket.probe().await.expect("the promises are kept");
    conformance::check(&bucket).await;
    assert_eq!(bucket.list(&Key::new("probe"), None, 1).await, Ok(Vec::new()), "no trace");
    let written = bucket
        .metrics()
        .snapshot()
        .into_iter()
        .find(|usage| (usage.purpose, usage.operation) == (Purpose::Cluster, Operation::Put));
    let written = written.expect("the suite writes");
    assert!(2 * 16 * 1024 * 1024 < written.written_bytes && 30 < written.requests, "{written:?}");
    assert_eq!(written.throttled, 0);
    let mut lengths = 0;
    for object in bucket.list(&Key::new("conformance"), None, 100).await.expect("listed") {
        lengths += object.length;
    }
    // The server also counts what its entries take; a part would be sixteen times as much.
    let beside = server.bytes_held() - lengths;
    assert!(beside < 1024 * 1024, "{beside} bytes of failed uploads are left behind");
    server.stop().await;
}

#[tokio::test]
async fn retries_hide_a_bad_day_from_the_suite() {
    for seed in 0..3 {
        let server = server(seed).await;
        // Stalls take the real clock here; the simulated ones are tested with the twins.
        server.set_faults(Faults { stall: 0.0, ..Faults::bad_day() });
        conformance::check(&open(&server.endpoint(), "")).await;
        server.stop().await;
    }
}

#[tokio::test]
async fn a_lost_answer_to_a_put_is_found_out() {
    let server = server(7).await;
    let bucket = open(&server.endpoint(), "");
    let lost = Faults { lost_answer: 0.3, ..Faults::NONE }.only(&[fake_s3::Operation::Put]);
    server.set_faults(lost);
    for n in 0..16 {
        let (key, body) = (Key::new(format!("data/{n}")), vec![Bytes::from(vec![n; 99])]);
        let put = bucket.put_new(&key, body, Purpose::Flush).await;
        assert_eq!(put, Ok(PutOutcome::Created), "the key is nobody else's");
    }
    server.set_faults(Faults::NONE);
    let other = bucket.put_new(&Key::new("data/0"), vec![Bytes::new()], Purpose::Flush).await;
    assert_eq!(other, Ok(PutOutcome::AlreadyExists));
    server.stop().await;
}

#[tokio::test]
async fn the_end_of_an_upload_may_be_lost_but_never_replaces_a_rival() {
    let server = server(3).await;
    let bucket = open(&server.endpoint(), "");
    const LENGTH: u64 = 17 * 1024 * 1024;
    let put = async |fill: u8, name: &str| {
        let piece = Bytes::from(vec![fill; 1024 * 1024]);
        let body = futures::stream::iter(std::iter::repeat_n(Ok(piece), 17)).boxed();
        bucket.put_new_large(&Key::new(name), body, LENGTH, Purpose::Merge).await
    };
    let lost = Faults { lost_answer: 0.9, ..Faults::NONE };
    server.set_faults(lost.only(&[fake_s3::Operation::CompleteUpload]));
    assert_eq!(put(1, "data/lost").await, Ok(PutOutcome::Created));
    server.set_faults(Faults::NONE);

    let (one, two) = tokio::join!(put(1, "data/raced"), put(2, "data/raced"));
    let outcomes = [one.expect("an answer"), two.expect("an answer")];
    let winner = match outcomes {
        [PutOutcome::Created, PutOutcome::AlreadyExists] => 1,
        [PutOutcome::AlreadyExists, PutOutcome::Created] => 2,
        both => panic!("exactly one wins: {both:?}"),
    };
    let stored = bucket.get(&Key::new("data/raced"), 0..LENGTH, Purpose::ReadCold).await;
    assert!(stored.expect("readable").iter().all(|byte| *byte == winner));
    server.stop().await;
}

#[tokio::test]
async fn an_upload_whose_caller_leaves_is_taken_back() {
    let server = server(4).await;
    let location = format!("s3://wells?endpoint={}", server.endpoint());
    let location = BucketLocation::parse(&location).expect("a location");
    let environment = Environment::system();
    let bucket = StoreBucket::open(&location, &keys(), &environment).expect("clients");
    let (left, leaves) = tokio::sync::oneshot::channel();
    let pieces = std::iter::repeat_n(Ok(Bytes::from(vec![1; 1024 * 1024])), 20);
    // After the first part the body takes for ever.
    let stuck = futures::stream::once(async move {
        left.send(()).expect("somebody waits");
        std::future::pending().await
    });
    let body = futures::stream::iter(pieces).chain(stuck).boxed();
    let key = Key::new("data/abandoned");
    tokio::select! {
        biased;
        _ = bucket.put_new_large(&key, body, 1 << 30, Purpose::Merge) => panic!("it cannot end"),
        _ = leaves => (),
    }
    assert_eq!(environment.tasks.shutdown(Duration::from_secs(60)).await, Vec::<String>::new());
    assert_eq!(server.counts().of(fake_s3::Operation::AbortUpload).requests, 1);
    server.stop().await;
}

#[tokio::test]
async fn the_probe_outlives_a_bad_day() {
    // Twice as bad as one: one request in six goes wrong.
    let faults = Faults {
        slow_down: 0.02,
        slow_down_requests: 2,
        internal_error: 0.015,
        internal_error_applied: 0.015,
        reset_before_body: 0.015,
        reset_after_body: 0.015,
        lost_answer: 0.03,
        half_answer: 0.015,
        conflict: 0.02,
        ..Faults::NONE
    };
    let mut resets = 0;
    for seed in 0..8 {
        let server = server(seed).await;
        server.set_faults(faults.clone());
        let bucket = open(&server.endpoint(), "");
        bucket.probe().await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let counts = server.counts().of(fake_s3::Operation::Put);
        resets += counts.resets_before_body + counts.resets_after_body + counts.lost_answers;
        server.set_faults(Faults::NONE);
        let left = bucket.list(&Key::new("probe"), None, 9).await;
        assert_eq!(left, Ok(Vec::new()), "seed {seed}: no trace");
        server.stop().await;
    }
    assert!(8 < resets, "the faults were met");
}

/// The metadata database takes "exists" for another writer, and leaves that name of its log out.
#[tokio::test]
async fn a_conflict_is_not_taken_for_an_object_by_the_metadata_either() {
    let server = server(1).await;
    let bucket = open(&server.endpoint(), "");
    let store = bucket.object_store();
    let create = async |name: u32| {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        store.put_opts(&Path::from(format!("log/{name}")), PutPayload::new(), options).await
    };
    server.set_faults(Faults { conflict: 0.5, ..Faults::NONE });
    let (mut conflicts, mut created) = (0, 0);
    for name in 0..60 {
        match create(name).await {
            Ok(_) => created += 1,
            Err(Error::AlreadyExists { .. }) => panic!("{name} is nobody's"),
            Err(_) => conflicts += 1,
        }
    }
    assert!(10 < conflicts && 10 < created, "{conflicts} and {created}");
    server.set_faults(Faults::NONE);
    let mut known = 0;
    for name in 0..60 {
        known += u32::from(matches!(create(name).await, Err(Error::AlreadyExists { .. })));
    }
    assert_eq!(known, created, "what is there is told");
    server.stop().await;
}

#[tokio::test]
async fn a_dead_store_is_refused_with_the_last_reason() {
    let server = server(1).await;
    server.set_faults(Faults { slow_down: 1.0, ..Faults::NONE });
    let error = open(&server.endpoint(), "").probe().await.expect_err("it refuses everything");
    assert!(!matches!(error, ProbeError::Broken { .. }), "{error}");
    assert!(error.to_string().contains("SlowDown"), "{error}");
    // The first request of each kind is done, and then every answer is lost.
    server.set_faults(Faults { lost_answer: 1.0, ..Faults::NONE });
    let error = open(&server.endpoint(), "").probe().await.expect_err("no answer comes");
    assert!(matches!(error, ProbeError::Bucket(_) | ProbeError::Silent { .. }), "{error}");
    server.stop().await;
}

#[tokio::test]
async fn what_an_operator_got_wrong_is_told_by_name() {
    let refused = |bucket: StoreBucket| async move { bucket.probe().await.expect_err("refused") };
    // Bound and dropped: nobody listens there for a moment.
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = socket.local_addr().expect("bound");
    drop(socket);
    let error = refused(open(&format!("http://{address}"), "")).await;
    assert!(error.to_string().contains("onnection refused"), "{error}");
    assert!(error.advice().contains("Nothing listens there"), "{}", error.advice());

    let server = server(1).await;
    let text = format!("s3://wells?endpoint={}&anonymous=true", server.endpoint());
    let location = BucketLocation::parse(&text).expect("a location");
    let anonymous = StoreBucket::open(&location, &Variables::default(), &Environment::system());
    let error = refused(anonymous.expect("clients")).await;
    assert!(matches!(error, ProbeError::Bucket(BucketError::Refused { .. })), "{error:?}");
    assert!(error.advice().contains("credentials"), "{}", error.advice());
    assert!(!matches!(error, ProbeError::Broken { property: Property::CreateIfAbsent, .. }));
    server.stop().await;
}
