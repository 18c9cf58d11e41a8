//! Multipart uploads.

use fake_s3::Operation;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{Error, MultipartUpload, ObjectStore, ObjectStoreExt};

use crate::client::{bytes_of, client, get, put, start, start_with, text};

const MIB: usize = 1024 * 1024;

#[tokio::test(start_paused = true)]
async fn parts_in_any_order_become_one_object() {
    let server = start().await;
    let (store, path) = (client(&server), Path::from("big"));
    let body = bytes_of(12 * MIB);
    let mut upload = store.put_multipart(&path).await.expect("created");
    let parts: Vec<_> = [0..5 * MIB, 5 * MIB..11 * MIB, 11 * MIB..12 * MIB]
        .into_iter()
        .map(|range| upload.put_part(body.slice(range).into()))
        .collect();
    for part in parts.into_iter().rev() {
        part.await.expect("stored");
    }
    assert!(matches!(get(&store, "big").await, Err(Error::NotFound { .. })), "not before its end");
    let done = upload.complete().await.expect("completed");
    assert_eq!(get(&store, "big").await.expect("readable"), body);
    let tag = done.e_tag.expect("a tag");
    assert!(tag.ends_with("-3\""), "{tag}");
    assert_eq!(server.counts().of(Operation::UploadPart).requests, 3);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn aborting_leaves_nothing() {
    let server = start().await;
    let (store, path) = (client(&server), Path::from("big"));
    let mut upload = store.put_multipart(&path).await.expect("created");
    upload.put_part(bytes_of(5 * MIB).into()).await.expect("stored");
    assert!(5 * MIB as u64 <= server.bytes_held());
    upload.abort().await.expect("aborted");
    assert_eq!(server.bytes_held(), 0);
    assert!(matches!(get(&store, "big").await, Err(Error::NotFound { .. })));
    let late = upload.complete().await.expect_err("it is gone");
    assert!(text(&late).contains("NoSuchUpload"), "{}", text(&late));
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn wrong_parts_are_refused() {
    let server = start_with(|options| options.part_bytes_min = 1000).await;
    let (store, path) = (client(&server), Path::from("big"));
    let id = store.create_multipart(&path).await.expect("created");
    let small = store.put_part(&path, &id, 0, bytes_of(999).into()).await.expect("stored");
    let last = store.put_part(&path, &id, 1, bytes_of(1).into()).await.expect("stored");
    let parts = vec![small, last.clone()];
    let refused = store.complete_multipart(&path, &id, parts).await.expect_err("a small part");
    assert!(text(&refused).contains("EntityTooSmall"), "{}", text(&refused));

    let large = store.put_part(&path, &id, 0, bytes_of(1000).into()).await.expect("replaced");
    let swapped = vec![last.clone(), large.clone()];
    let refused = store.complete_multipart(&path, &id, swapped).await.expect_err("wrong tags");
    assert!(text(&refused).contains("InvalidPart"), "{}", text(&refused));
    store.complete_multipart(&path, &id, vec![large, last]).await.expect("now they fit");
    assert_eq!(get(&store, "big").await.expect("readable").len(), 1001);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_condition_refused_keeps_object_and_upload() {
    let server = start().await;
    let (store, path) = (client(&server), Path::from("taken"));
    put(&store, "taken", bytes_of(10)).await;
    put(&store, "from", bytes_of(20)).await;
    let multipart = object_store::aws::S3CopyIfNotExists::Multipart;
    let creating =
        crate::client::changed_client(&server, |it| it.with_copy_if_not_exists(multipart));
    let options =
        object_store::CopyOptions { mode: object_store::CopyMode::Create, ..Default::default() };
    let refused = creating.copy_opts(&Path::from("from"), &path, options).await;
    assert!(matches!(refused, Err(Error::AlreadyExists { .. })), "{refused:?}");
    assert_eq!(get(&store, "taken").await.expect("readable"), bytes_of(10));
    let counts = server.counts();
    assert_eq!(counts.of(Operation::CompleteUpload).refused, 1);
    assert_eq!(counts.of(Operation::AbortUpload).refused, 0, "the upload was still there");
    server.stop().await;
}
