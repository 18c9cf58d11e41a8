//! Where bytes go, how many there may be, and what a stop leaves.

use fake_s3::{FakeS3, Options};
use object_store::ObjectStoreExt;
use object_store::path::Path;

use crate::client::{bytes_of, changed_client, client, get, put, start_with, text};

#[tokio::test(start_paused = true)]
async fn beyond_the_bound_writes_are_refused() {
    let server = start_with(|options| options.bytes_max = 10_000).await;
    let store = client(&server);
    put(&store, "one", bytes_of(6_000)).await;
    let refused = store.put(&Path::from("two"), bytes_of(6_000).into()).await.expect_err("full");
    let words = text(&refused);
    assert!(words.contains("507") && words.contains("InsufficientStorage"), "{words}");
    assert!(words.contains("of at most 10000 bytes"), "{words}");
    assert_eq!(
        get(&store, "one").await.expect("readable"),
        bytes_of(6_000),
        "the rest still works"
    );
    store.delete(&Path::from("one")).await.expect("deleted");
    put(&store, "two", bytes_of(6_000)).await;
    store.put(&Path::from("many"), bytes_of(3_000).into()).await.expect("room");
    let entries = server.bytes_held() - 9_000;
    assert!(0 < entries && entries < 1_000, "keys are charged too: {entries}");
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn files_follow_the_objects() {
    let folder = tempfile::tempdir().expect("a directory");
    let path = folder.path().join("blobs");
    let files = || std::fs::read_dir(&path).expect("a directory").count();
    let directory = Some(path.clone());
    let server = start_with(|options: &mut Options| options.directory = directory).await;
    let store = client(&server);
    put(&store, "one", bytes_of(6_000)).await;
    put(&store, "one", bytes_of(7_000)).await;
    put(&store, "two", bytes_of(0)).await;
    assert_eq!(files(), 2, "what was replaced is gone");
    store.copy(&Path::from("one"), &Path::from("three")).await.expect("copied");
    store.delete(&Path::from("one")).await.expect("deleted");
    assert_eq!(files(), 2, "the copy shares the file");
    assert_eq!(get(&store, "three").await.expect("readable"), bytes_of(7_000));
    store.delete(&Path::from("three")).await.expect("deleted");
    store.delete(&Path::from("two")).await.expect("deleted");
    assert_eq!((files(), server.bytes_held()), (0, 0));
    put(&store, "last", bytes_of(10)).await;
    server.stop().await;
    let options = Options { directory: Some(path.clone()), ..Options::default() };
    drop(store);
    assert_eq!(files(), 0, "a stopped server leaves its directory empty");
    FakeS3::start(options).await.expect("usable again").stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_used_is_refused_at_the_start() {
    let folder = tempfile::tempdir().expect("a directory");
    std::fs::write(folder.path().join("precious"), "x").expect("written");
    let directory = Some(folder.path().to_owned());
    let full = FakeS3::start(Options { directory, ..Options::default() }).await;
    let words = full.expect_err("not empty").to_string();
    assert!(words.contains("is not empty"), "{words}");
    assert!(folder.path().join("precious").exists());
    let listen = "0.0.0.0:0".parse().expect("an address");
    let open = FakeS3::start(Options { listen, ..Options::default() }).await;
    assert!(open.expect_err("not loopback").to_string().contains("loopback only"));
}

#[tokio::test(start_paused = true)]
async fn a_signature_can_be_asked_for() {
    let server = start_with(|options| options.require_signature = true).await;
    put(&client(&server), "one", bytes_of(1)).await;
    let anonymous = changed_client(&server, |it| it.with_skip_signature(true));
    let refused = get(&anonymous, "one").await.expect_err("no signature");
    assert!(text(&refused).contains("AccessDenied"), "{}", text(&refused));
    server.stop().await;
}
