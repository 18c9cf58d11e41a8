//! What is read is what was written: whole, in ranges, from the end; heads and attributes.

use fake_s3::{Operation, Options};
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, Error, GetRange, ObjectStore, ObjectStoreExt, PutOptions, PutPayload,
};

use crate::client::{bytes_of, client, get, get_range, put, start, start_with, text};

const MIB: usize = 1024 * 1024;

#[tokio::test(start_paused = true)]
async fn bodies_of_every_size_come_back() {
    for in_files in [false, true] {
        let folder = tempfile::tempdir().expect("a directory");
        let directory = in_files.then(|| folder.path().join("blobs"));
        let server = start_with(|options: &mut Options| options.directory = directory).await;
        let store = client(&server);
        for length in [0, 1, 1000, 64 * 1024, 64 * 1024 + 1, MIB, 5 * MIB + 13] {
            let body = bytes_of(length);
            // In pieces, as the client hands over what others gathered.
            let (front, back) = (body.slice(..length / 3), body.slice(length / 3..));
            put(&store, "one", PutPayload::from_iter([front, back])).await;
            assert_eq!(get(&store, "one").await.expect("readable"), body, "{length} bytes");
            let head = store.head(&Path::from("one")).await.expect("there");
            assert_eq!(head.size, length as u64);
        }
        let counts = server.counts();
        let total: usize = [0, 1, 1000, 64 * 1024, 64 * 1024 + 1, MIB, 5 * MIB + 13].iter().sum();
        assert_eq!(counts.of(Operation::Put).bytes_in, total as u64);
        assert_eq!(counts.of(Operation::Get).bytes_out, total as u64);
        assert_eq!(counts.of(Operation::Head).bytes_out, 0);
        server.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn ranges_and_suffixes() {
    let server = start().await;
    let store = client(&server);
    let length = 300 * 1024;
    let body = bytes_of(length);
    put(&store, "one", body.clone()).await;
    for (range, expected) in [
        (GetRange::Bounded(0..1), 0..1),
        (GetRange::Bounded(70_000..200_001), 70_000..200_001),
        (GetRange::Bounded(length as u64 - 1..length as u64 + 50), length - 1..length),
        (GetRange::Offset(length as u64 - 5), length - 5..length),
        (GetRange::Suffix(7), length - 7..length),
        (GetRange::Suffix(10 * length as u64), 0..length),
    ] {
        let (bytes, range, size) = get_range(&store, "one", range).await.expect("in range");
        assert_eq!((bytes, size), (body.slice(expected.clone()), length as u64));
        assert_eq!((range.start, range.end), (expected.start as u64, expected.end as u64));
    }
    for range in [GetRange::Bounded(length as u64..length as u64 + 1), GetRange::Offset(1 << 40)] {
        let error = get_range(&store, "one", range).await.expect_err("out of range");
        assert!(text(&error).contains("InvalidRange"), "{}", text(&error));
    }
    put(&store, "empty", bytes_of(0)).await;
    let error = get_range(&store, "empty", GetRange::Suffix(1)).await.expect_err("nothing there");
    assert!(text(&error).contains("416"), "as S3: {}", text(&error));
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn absent_objects_say_so() {
    let server = start().await;
    let store = client(&server);
    let error = get(&store, "nowhere").await.expect_err("absent");
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    assert!(text(&error).contains("NoSuchKey"), "{}", text(&error));
    let error = store.head(&Path::from("nowhere")).await.expect_err("absent");
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    store.delete(&Path::from("nowhere")).await.expect("deleting what is absent is fine");
    assert_eq!(server.counts().of(Operation::Get).refused, 1);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn attributes_and_times_are_kept() {
    let server = start().await;
    let store = client(&server);
    let attributes = Attributes::from_iter([
        (Attribute::ContentType, "text/plain"),
        (Attribute::CacheControl, "no-store"),
        (Attribute::Metadata("well".into()), "deep"),
    ]);
    let options = PutOptions { attributes: attributes.clone(), ..PutOptions::default() };
    let path = Path::from("one");
    let stored = store.put_opts(&path, "abc".into(), options).await.expect("stored");
    let answer = store.get(&path).await.expect("there");
    assert_eq!((&answer.attributes, &answer.meta.e_tag), (&attributes, &stored.e_tag));
    // Simulated processes start with the year 2026.
    let now = answer.meta.last_modified.to_rfc3339();
    assert!(now.starts_with("2026-01-01T00:00:0"), "{now}");
    server.stop().await;
}
