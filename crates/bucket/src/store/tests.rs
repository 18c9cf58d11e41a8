//! Goal: every twin keeps the port's promises, and under any seed of lies a put that was answered
//! is true, one that failed says so, and a reader never sees other bytes than were written.

use super::*;
use crate::{Faults, LyingBucket, LyingStore, conformance, probe};
use environment::SeededEntropy;
use object_store::memory::InMemory;

#[tokio::test(start_paused = true)]
async fn memory_conforms() {
    let bucket = StoreBucket::memory(&Environment::simulated(1));
    conformance::check(&bucket).await;
    assert_eq!(probe(&bucket, &SeededEntropy::new(1)).await, Ok(()));
}

#[tokio::test]
async fn a_local_directory_conforms_and_a_second_opening_finds_it() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let root = scratch.path().join("made/below");
    let environment = Environment::system();
    let bucket = StoreBucket::local(&root, &environment).expect("opened");
    conformance::check(&bucket).await;
    assert_eq!(probe(&bucket, &SeededEntropy::new(1)).await, Ok(()));
    let again = StoreBucket::local(&root, &environment).expect("opened");
    let key = Key::new("conformance/create/one");
    assert_eq!(again.get(&key, 0..4, Purpose::Flush).await, Ok(Bytes::from_static(b"abcd")));
}

#[tokio::test]
async fn a_file_in_the_way_is_a_clear_refusal() {
    let scratch = tempfile::NamedTempFile::new().expect("a scratch file");
    let error = StoreBucket::local(scratch.path(), &Environment::system()).expect_err("a file");
    assert!(error.to_string().contains("cannot use directory"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn the_liar_without_faults_conforms() {
    let environment = Environment::simulated(1);
    conformance::check(&LyingBucket::new(1, Faults::NONE, &environment)).await;
}

#[tokio::test(start_paused = true)]
async fn retries_hide_a_bad_day_from_the_suite() {
    for seed in 0..20 {
        let environment = Environment::simulated(seed);
        let memory = Arc::new(InMemory::new());
        let store = LyingStore::new(memory, seed, Faults::bad_day(), &environment);
        let options = StoreOptions { attempts_max: 20, ..StoreOptions::remote() };
        conformance::check(&StoreBucket::new(Arc::new(store), options, &environment)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn answers_of_the_liar_are_true() {
    for seed in 0..200 {
        let environment = Environment::simulated(seed);
        let bucket = LyingBucket::new(seed, Faults::bad_day(), &environment);
        let key = Key::new("data/one");
        let mut created = None;
        let mut unknown = Vec::new();
        for writer in 0..4u8 {
            match bucket.put_new(&key, vec![Bytes::from(vec![writer; 9])], Purpose::Flush).await {
                Ok(PutOutcome::Created) => assert_eq!(created.replace(writer), None, "{seed}"),
                Ok(PutOutcome::AlreadyExists) => (),
                Err(_) => unknown.push(writer),
            }
        }
        bucket.set_faults(Faults::NONE);
        let stored = bucket.get(&key, 0..9, Purpose::ReadTail).await;
        match (created, stored) {
            (Some(writer), stored) => assert_eq!(stored, Ok(Bytes::from(vec![writer; 9]))),
            (None, Ok(stored)) => assert!(unknown.contains(&stored[0]), "seed {seed}"),
            (None, Err(error)) => assert_eq!(error.kind(), "not_found", "seed {seed}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn requests_are_metered_by_purpose() {
    let bucket = StoreBucket::memory(&Environment::simulated(1));
    let key = Key::new("data/one");
    bucket.put_new(&key, vec![Bytes::from_static(b"0123456789")], Purpose::Flush).await.unwrap();
    bucket.get(&key, 2..5, Purpose::ReadTail).await.unwrap();
    bucket.get(&Key::new("data/two"), 2..5, Purpose::ReadCold).await.unwrap_err();
    let metrics = bucket.metrics();
    assert_eq!((metrics.requests(Purpose::Flush), metrics.written_bytes(Purpose::Flush)), (1, 10));
    let tail = Purpose::ReadTail;
    assert_eq!((metrics.requests(tail), metrics.read_bytes(tail)), (1, 3));

    let raw = bucket.object_store();
    raw.put_opts(&StorePath::from("meta/1"), "12345".into(), PutOptions::default()).await.unwrap();
    raw.get_opts(&StorePath::from("meta/2"), GetOptions::default()).await.unwrap_err();
    let metadata = Purpose::Metadata;
    assert_eq!((metrics.requests(metadata), metrics.written_bytes(metadata)), (2, 5));

    let mut registry = prometheus_client::registry::Registry::default();
    metrics.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let line = r#"bucket_errors_total{purpose="read_cold",operation="get",kind="not_found"} 1"#;
    assert!(text.contains(line), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_never_answers_is_given_up() {
    let environment = Environment::simulated(1);
    let faults =
        Faults { slow_per_mille: 1000, slow_max: Duration::from_secs(1 << 30), ..Faults::NONE };
    let store = LyingStore::new(Arc::new(InMemory::new()), 1, faults, &environment);
    let options = StoreOptions { attempts_max: 2, ..StoreOptions::remote() };
    let bucket = StoreBucket::new(Arc::new(store), options, &environment);
    let error = bucket.get(&Key::new("a"), 0..1, Purpose::ReadTail).await.unwrap_err();
    assert_eq!(error, BucketError::Timeout { key: Key::new("a"), waited_ms: 30_000 });
}

/// A store that ignores the condition, as some S3-compatible servers do.
#[tokio::test(start_paused = true)]
async fn the_probe_refuses_a_store_that_overwrites() {
    let environment = Environment::simulated(1);
    let bucket = Overwriting(StoreBucket::memory(&environment));
    let error = probe(&bucket, &SeededEntropy::new(1)).await.unwrap_err();
    assert!(error.to_string().contains("create-if-absent"), "{error}");
}

#[derive(Debug)]
struct Overwriting(StoreBucket);

#[async_trait]
impl Bucket for Overwriting {
    async fn put_new(
        &self,
        key: &Key,
        body: Vec<Bytes>,
        purpose: Purpose,
    ) -> Result<PutOutcome, BucketError> {
        self.0.delete(key, purpose).await?;
        self.0.put_new(key, body, purpose).await
    }

    async fn get(
        &self,
        key: &Key,
        range: Range<u64>,
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
        prefix: &Key,
        after: Option<&Key>,
        count_max: usize,
    ) -> Result<Vec<ObjectInfo>, BucketError> {
        self.0.list(prefix, after, count_max).await
    }

    async fn delete(&self, key: &Key, purpose: Purpose) -> Result<(), BucketError> {
        self.0.delete(key, purpose).await
    }

    async fn put_new_large(
        &self,
        key: &Key,
        body: BoxStream<'_, Result<Bytes, BucketError>>,
        length: u64,
        purpose: Purpose,
    ) -> Result<PutOutcome, BucketError> {
        self.0.put_new_large(key, body, length, purpose).await
    }
}
