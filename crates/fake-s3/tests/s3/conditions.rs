//! Conditional writes: exactly one racer wins, every loser is told the truth.

use environment::{Environment, TaskKind};
use fake_s3::{FakeS3, Operation, Options};
use futures::future::join_all;
use object_store::aws::S3CopyIfNotExists;
use object_store::path::Path;
use object_store::{CopyMode, CopyOptions, Error, GetOptions, ObjectStore, ObjectStoreExt};

use crate::client::{
    bytes_of, changed_client, client, create, get, path, put, start, text, update,
};

const RACERS: usize = 64;
const ROUNDS: usize = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_64_creators_one_wins_in_every_round() {
    // On threads and in real time: this race is about the server's lock.
    let server = FakeS3::start(Options::default()).await.expect("it listens");
    let tasks = Environment::system().tasks;
    let clients: Vec<_> = (0..RACERS).map(|_| client(&server)).collect();
    for round in 0..ROUNDS {
        let key = format!("race/{round}");
        let race = clients.iter().enumerate().map(|(racer, store)| {
            let (store, key) = (store.clone(), key.clone());
            tasks.spawn(TaskKind::Background, "racer", async move {
                create(&store, &key, bytes_of(racer + 1)).await
            })
        });
        let outcomes = join_all(race).await;
        let mut winners = Vec::new();
        for (racer, outcome) in outcomes.into_iter().enumerate() {
            match outcome.expect("no panic") {
                Ok(_) => winners.push(racer),
                Err(Error::AlreadyExists { .. }) => {}
                Err(other) => panic!("round {round}: {other}"),
            }
        }
        assert_eq!(winners.len(), 1, "round {round}");
        let stored = get(&clients[0], &key).await.expect("readable");
        assert_eq!(stored, bytes_of(winners[0] + 1), "the winner's bytes are there");
    }
    let counts = server.counts().of(Operation::Put);
    assert_eq!(counts.requests, (RACERS * ROUNDS) as u64);
    assert_eq!(counts.refused, ((RACERS - 1) * ROUNDS) as u64);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_64_updaters_one_wins_in_every_round() {
    let server = FakeS3::start(Options::default()).await.expect("it listens");
    let tasks = Environment::system().tasks;
    let clients: Vec<_> = (0..RACERS).map(|_| client(&server)).collect();
    let mut tag = put(&clients[0], "race", bytes_of(1000)).await.e_tag;
    for round in 0..ROUNDS {
        let race = clients.iter().enumerate().map(|(racer, store)| {
            let (store, tag) = (store.clone(), tag.clone());
            let body = bytes_of(round * RACERS + racer + 1);
            tasks.spawn(TaskKind::Background, "racer", async move {
                update(&store, "race", body, tag).await
            })
        });
        let outcomes = join_all(race).await;
        let mut winners = Vec::new();
        for (racer, outcome) in outcomes.into_iter().enumerate() {
            match outcome.expect("no panic") {
                Ok(result) => winners.push((racer, result.e_tag)),
                Err(Error::Precondition { .. }) => {}
                Err(other) => panic!("round {round}: {other}"),
            }
        }
        assert_eq!(winners.len(), 1, "round {round}");
        let stored = get(&clients[0], "race").await.expect("readable");
        assert_eq!(stored.len(), round * RACERS + winners[0].0 + 1, "the winner's bytes are there");
        tag = winners.remove(0).1;
    }
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn conditions_on_writes() {
    let server = start().await;
    let store = client(&server);
    let absent = update(&store, "one", bytes_of(1), Some("\"a\"".to_owned())).await;
    let absent = absent.expect_err("nothing to update");
    assert!(matches!(absent, Error::Precondition { .. }), "{absent}");
    assert!(text(&absent).contains("NoSuchKey"), "S3 answers 404 here: {}", text(&absent));

    let first = create(&store, "one", bytes_of(10)).await.expect("created");
    let again = create(&store, "one", bytes_of(10)).await.expect_err("it is there");
    assert!(matches!(again, Error::AlreadyExists { .. }), "{again}");
    assert!(text(&again).contains("PreconditionFailed"), "{}", text(&again));

    let second = update(&store, "one", bytes_of(11), first.e_tag.clone()).await.expect("updated");
    assert_ne!(first.e_tag, second.e_tag);
    let stale = update(&store, "one", bytes_of(12), first.e_tag.clone()).await;
    assert!(matches!(stale, Err(Error::Precondition { .. })), "{stale:?}");
    assert_eq!(get(&store, "one").await.expect("readable"), bytes_of(11));

    let back = put(&store, "one", bytes_of(10)).await;
    assert_eq!(back.e_tag, first.e_tag, "equal bytes, equal tag, as with S3's MD5");
    store.delete(&Path::from("one")).await.expect("deleted");
    create(&store, "one", bytes_of(3)).await.expect("free again");
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn conditions_on_reads() {
    let server = start().await;
    let store = client(&server);
    let tag = put(&store, "one", bytes_of(10)).await.e_tag;
    let read = async |if_match: Option<&str>, if_none_match: Option<&str>| {
        let options = GetOptions {
            if_match: if_match.map(str::to_owned),
            if_none_match: if_none_match.map(str::to_owned),
            ..GetOptions::default()
        };
        store.get_opts(&Path::from("one"), options).await.map(|it| it.meta.size)
    };
    assert_eq!(read(tag.as_deref(), None).await.expect("matches"), 10);
    assert_eq!(read(None, Some("\"other\"")).await.expect("differs"), 10);
    assert!(matches!(read(Some("\"other\""), None).await, Err(Error::Precondition { .. })));
    assert!(matches!(read(None, tag.as_deref()).await, Err(Error::NotModified { .. })));
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn copies_by_every_way_the_client_has() {
    let server = start().await;
    let store = client(&server);
    let (from, to) = (path("from/ü x"), Path::from("to"));
    put(&store, from.as_ref(), bytes_of(5000)).await;
    store.copy(&from, &to).await.expect("copied");
    assert_eq!(get(&store, "to").await.expect("readable"), bytes_of(5000));
    store.copy(&from, &to).await.expect("replaced");
    let missing = store.copy(&Path::from("absent"), &to).await;
    assert!(matches!(missing, Err(Error::NotFound { .. })), "{missing:?}");

    let header = S3CopyIfNotExists::Header("if-none-match".to_owned(), "*".to_owned());
    for mode in [header, S3CopyIfNotExists::Multipart] {
        let store = changed_client(&server, |it| it.with_copy_if_not_exists(mode.clone()));
        let create = || CopyOptions { mode: CopyMode::Create, ..CopyOptions::default() };
        let fresh = Path::from(format!("fresh/{mode}").replace([':', '*', ' '], "-"));
        store.copy_opts(&from, &fresh, create()).await.expect("copied");
        assert_eq!(get(&store, fresh.as_ref()).await.expect("readable"), bytes_of(5000));
        let taken = store.copy_opts(&from, &fresh, create()).await;
        assert!(matches!(taken, Err(Error::AlreadyExists { .. })), "{mode}: {taken:?}");
    }
    server.stop().await;
}
