//! Listing and deleting many keys.

use fake_s3::Operation;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::aws::AmazonS3;
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path;
use object_store::{Error, ObjectStore};

use crate::client::{bytes_of, client, path, put, start};

async fn fill(store: &AmazonS3, keys: impl IntoIterator<Item = String>) {
    let puts = stream::iter(keys).map(async |key| put(store, &key, bytes_of(key.len())).await);
    puts.buffer_unordered(16).count().await;
}

async fn listed(store: &AmazonS3, prefix: &str, after: Option<&str>) -> Vec<String> {
    let prefix = Path::from(prefix);
    let found = match after {
        None => store.list(Some(&prefix)),
        Some(after) => store.list_with_offset(Some(&prefix), &Path::from(after)),
    };
    found.map_ok(|it| it.location.to_string()).try_collect().await.expect("listed")
}

#[tokio::test(start_paused = true)]
async fn pages_join_without_gap_or_overlap() {
    let server = start().await;
    let store = client(&server);
    let expected: Vec<String> = (0..2_345).map(|n| format!("many/{n:06}")).collect();
    fill(&store, expected.iter().rev().cloned().chain(["many-more".to_owned(), "n".to_owned()]))
        .await;
    assert_eq!(listed(&store, "many", None).await, expected);
    assert_eq!(server.counts().of(Operation::List).requests, 3, "1000, 1000, 345");
    assert_eq!(listed(&store, "many", Some("many/001999")).await, expected[2000..]);
    assert_eq!(listed(&store, "many", Some("a")).await, expected, "an offset before the prefix");
    assert!(listed(&store, "many", Some("z")).await.is_empty(), "and one behind it");
    let head = &store.list(Some(&Path::from("many"))).try_next().await.expect("listed");
    let head = head.as_ref().expect("not empty");
    assert_eq!((head.size, head.location.as_ref()), (11, "many/000000"));
    assert!(head.e_tag.as_ref().is_some_and(|it| it.starts_with('"')), "quoted");
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn keys_come_in_the_order_of_their_bytes() {
    let server = start().await;
    let store = client(&server);
    // U+10000 is behind U+FFFD in UTF-8, before it in UTF-16.
    let mut keys =
        ["a", "a-b", "a/b", "a/b/c", "aB", "ab", "é", "z", "\u{fffd}x", "\u{10000}", "&<>\"'"]
            .map(|key| format!("order/{key}"));
    fill(&store, keys.clone()).await;
    keys.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    assert_eq!(listed(&store, "order", None).await, keys);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_delimiter_gathers_what_lies_deeper() {
    let server = start().await;
    let store = client(&server);
    let folders = (0..5).flat_map(|folder| (0..7).map(move |n| format!("top/{folder}/{n}")));
    fill(&store, folders.chain(["top/a", "top/z", "other/1"].map(str::to_owned))).await;
    let found = store.list_with_delimiter(Some(&Path::from("top"))).await.expect("listed");
    let objects: Vec<&str> = found.objects.iter().map(|it| it.location.as_ref()).collect();
    let prefixes: Vec<&str> = found.common_prefixes.iter().map(Path::as_ref).collect();
    assert_eq!(objects, ["top/a", "top/z"]);
    assert_eq!(prefixes, ["top/0", "top/1", "top/2", "top/3", "top/4"]);

    // In pages of every size, prefixes and keys add up to the same.
    for max_keys in 1..=8 {
        let (mut keys, mut folders, mut page_token) = (Vec::new(), Vec::new(), None);
        loop {
            let options = PaginatedListOptions {
                delimiter: Some("/".into()),
                max_keys: Some(max_keys),
                page_token: page_token.take(),
                ..PaginatedListOptions::default()
            };
            let page = store.list_paginated(Some("top/"), options).await.expect("listed");
            assert!(page.result.objects.len() + page.result.common_prefixes.len() <= max_keys);
            keys.extend(page.result.objects.into_iter().map(|it| it.location.to_string()));
            folders.extend(page.result.common_prefixes.iter().map(Path::to_string));
            match page.page_token {
                None => break,
                token => page_token = token,
            }
        }
        assert_eq!(
            (keys.as_slice(), folders.as_slice()),
            (
                &objects.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>()[..],
                &prefixes.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>()[..],
            ),
            "pages of {max_keys}"
        );
    }
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn many_are_deleted_at_once() {
    let server = start().await;
    let store = client(&server);
    let keys: Vec<String> = (0..1_500).map(|n| format!("gone/{n:04}&<'\"> ü")).collect();
    fill(&store, keys.iter().cloned().chain(["kept".to_owned()])).await;
    let held = server.bytes_held();
    let absent = ["gone/never".to_owned()];
    let paths: Vec<Result<Path, Error>> =
        keys.iter().chain(&absent).map(|key| Ok(path(key))).collect();
    let deleted = store.delete_stream(stream::iter(paths).boxed());
    let deleted: Vec<Path> = deleted.try_collect().await.expect("deleted, or absent already");
    assert_eq!(deleted.len(), 1_501);
    assert_eq!(server.counts().of(Operation::DeleteMany).requests, 2, "1000 keys a request");
    assert_eq!(listed(&store, "", None).await, ["kept"]);
    assert!(server.bytes_held() < held / 100, "their memory is free again");
    server.stop().await;
}
