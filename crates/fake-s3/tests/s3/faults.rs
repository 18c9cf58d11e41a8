//! Each fault as the client sees it, and what it left behind.

use std::time::Duration;

use environment::Environment;
use fake_s3::{Delay, Delays, FakeS3, Faults, Operation};
use futures::StreamExt;
use object_store::aws::AmazonS3;
use object_store::path::Path;
use object_store::{Error, ObjectStoreExt};
use tokio::time::timeout;

use crate::client::{
    always, bytes_of, client, create, get, put, retrying_client, start, start_with, text, update,
};

async fn exists(server: &FakeS3, store: &AmazonS3, key: &str) -> bool {
    server.set_faults(Faults::NONE);
    get(store, key).await.is_ok()
}

#[tokio::test(start_paused = true)]
async fn refusals_change_nothing() {
    let server = start().await;
    let store = client(&server);
    for (name, faults, word) in [
        ("503", always(Operation::Put, |it| it.slow_down = 1.0), "SlowDown"),
        ("500", always(Operation::Put, |it| it.internal_error = 1.0), "InternalError"),
        ("409", always(Operation::Put, |it| it.conflict = 1.0), "ConditionalRequestConflict"),
    ] {
        server.set_faults(faults);
        let error = create(&store, name, bytes_of(100)).await.expect_err("refused");
        assert!(text(&error).contains(name) && text(&error).contains(word), "{}", text(&error));
        assert!(!exists(&server, &store, name).await, "{name}");
    }
    let counts = server.counts().of(Operation::Put);
    assert_eq!((counts.slow_downs, counts.internal_errors, counts.conflicts), (1, 1, 1));
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn lost_answers_of_both_kinds() {
    let server = start().await;
    let store = client(&server);
    for (name, faults, applied) in [
        ("before", always(Operation::Put, |it| it.reset_before_body = 1.0), false),
        ("after", always(Operation::Put, |it| it.reset_after_body = 1.0), false),
        ("lost", always(Operation::Put, |it| it.lost_answer = 1.0), true),
        ("500", always(Operation::Put, |it| it.internal_error_applied = 1.0), true),
    ] {
        server.set_faults(faults);
        // More than the sockets buffer, so that a reset before the body is seen while sending it.
        let error = create(&store, name, bytes_of(8 << 20)).await.expect_err("no answer");
        assert!(matches!(error, Error::Generic { .. }), "{name}: {error}");
        assert_eq!(exists(&server, &store, name).await, applied, "{name}");
    }
    let counts = server.counts().of(Operation::Put);
    let resets = (counts.resets_before_body, counts.resets_after_body, counts.lost_answers);
    assert_eq!((resets, counts.internal_errors), ((1, 1, 1), 1));
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_reset_is_a_reset() {
    let server = start().await;
    let store = client(&server);
    server.set_faults(always(Operation::Put, |it| it.lost_answer = 1.0));
    let error = create(&store, "one", bytes_of(10)).await.expect_err("no answer");
    assert!(text(&error).contains("reset"), "{}", text(&error));
    server.stop().await;
}

/// What makes conditional writes hard: the client's own retry finds its own object.
#[tokio::test(start_paused = true)]
async fn a_retry_after_a_lost_answer_meets_itself() {
    let server = start().await;
    let store = retrying_client(&server);
    server.set_faults(always(Operation::Put, |it| it.internal_error_applied = 1.0));
    let creating = async {
        let error = create(&store, "mine", bytes_of(10)).await.expect_err("told that it exists");
        assert!(matches!(error, Error::AlreadyExists { .. }), "{error}");
    };
    // Not a moment passes meanwhile, so the retry is still to come when the faults end.
    let healing = async {
        while server.counts().of(Operation::Put).internal_errors == 0 {
            tokio::task::yield_now().await;
        }
        server.set_faults(Faults::NONE);
    };
    futures::join!(creating, healing);
    assert_eq!(server.counts().of(Operation::Put).requests, 2);
    assert_eq!(get(&store, "mine").await.expect("its own"), bytes_of(10));
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn half_an_answer_is_an_error_in_the_middle() {
    let server = start().await;
    let store = client(&server);
    let body = bytes_of(1 << 20);
    put(&store, "one", body.clone()).await;
    server.set_faults(always(Operation::Get, |it| it.half_answer = 1.0));
    let answer = store.get(&Path::from("one")).await.expect("the head arrives");
    assert_eq!(answer.meta.size, 1 << 20);
    let (mut received, mut error) = (Vec::new(), None);
    let mut stream = answer.into_stream();
    while let Some(piece) = stream.next().await {
        match piece {
            Ok(bytes) => received.extend_from_slice(&bytes),
            Err(other) => {
                error = Some(other);
                break;
            }
        }
    }
    assert!(error.is_some(), "the body ends early");
    assert!(!received.is_empty() && received.len() <= 1 << 19, "{} bytes", received.len());
    assert_eq!(received, body[..received.len()]);
    let counts = server.counts().of(Operation::Get);
    assert_eq!((counts.half_answers, counts.bytes_out), (1, 1 << 19));
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_delayed_writer_writes_after_its_client_gave_up() {
    let server = start().await;
    let store = client(&server);
    let tag = put(&store, "fence", bytes_of(1)).await.e_tag;
    let hours = Duration::from_secs(3 * 60 * 60);
    server.set_faults(always(Operation::Put, |it| (it.stall, it.stall_for) = (1.0, hours)));
    let patience = Duration::from_secs(30);
    let first = timeout(patience, create(&store, "late", bytes_of(10))).await;
    assert!(first.is_err(), "no answer in time");
    let second = timeout(patience, update(&store, "fence", bytes_of(2), tag)).await;
    assert!(second.is_err(), "no answer in time");
    server.set_faults(Faults::NONE);
    assert!(matches!(get(&store, "late").await, Err(Error::NotFound { .. })), "not yet");
    put(&store, "fence", bytes_of(3)).await;

    tokio::time::advance(hours).await;
    // Both writers need a turn: then one has written what nobody waits for, the other came too late, and
    // nothing is held but two objects with their keys.
    let entry = 256;
    while server.bytes_held() != 10 + 4 + entry + 3 + 5 + entry {
        tokio::task::yield_now().await;
    }
    assert_eq!(get(&store, "late").await.expect("written by now"), bytes_of(10));
    assert_eq!(get(&store, "fence").await.expect("readable"), bytes_of(3), "its condition failed");
    assert_eq!(server.counts().of(Operation::Put).stalls, 2);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_outage_cuts_everything_and_ends() {
    let server = start_with(|options| {
        let put = Delay::millis(60_000, 60_000);
        options.delays = Delays { put, ..Delays::NONE };
    })
    .await;
    let store = client(&server);
    let writing = async {
        create(&store, "cut", bytes_of(10)).await.expect_err("cut in the middle");
    };
    let cutting = async {
        while server.counts().of(Operation::Put).requests == 0 {
            tokio::task::yield_now().await;
        }
        server.outage(true);
    };
    futures::join!(writing, cutting);
    assert!(matches!(get(&store, "cut").await, Err(Error::Generic { .. })), "cut at once");
    server.outage(false);
    let absent = get(&store, "cut").await.expect_err("absent");
    assert!(matches!(absent, Error::NotFound { .. }), "it served again: {absent}");
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stopped_server_is_gone() {
    let server = start().await;
    let store = client(&server);
    put(&store, "one", bytes_of(10)).await;
    server.stop().await;
    assert!(matches!(get(&store, "one").await, Err(Error::Generic { .. })));
}

#[tokio::test(start_paused = true)]
async fn delays_are_taken() {
    let server = start().await;
    let store = client(&server);
    let put_time = Delay::millis(500, 500);
    server.set_delays(Delays {
        put: put_time,
        per_mib: Duration::from_millis(100),
        ..Delays::NONE
    });
    let clock = Environment::simulated(0).clock;
    let started = clock.now();
    put(&store, "one", bytes_of(2 << 20)).await;
    let took = clock.now().since(started);
    // In simulated time, so the machine adds nothing; timers have a grain of a millisecond.
    assert!((700..=702).contains(&took.as_millis()), "{took:?}");
    let started = clock.now();
    get(&store, "one").await.expect("readable");
    let took = clock.now().since(started);
    assert!((200..=202).contains(&took.as_millis()), "{took:?}");
    server.stop().await;
}

/// Request by request the same fates and the same times, for the same seed.
#[tokio::test(start_paused = true)]
async fn a_seed_reproduces_a_run() {
    let clock = Environment::simulated(0).clock;
    let run = async |seed| {
        let server = start_with(|options| {
            options.seed = seed;
            options.delays = Delays::s3();
            options.faults = Faults { stall: 0.0, ..Faults::bad_day() };
        })
        .await;
        let mut seen = Vec::new();
        for n in 0..120 {
            // A client each: a connection that was cut is otherwise noticed sooner or later.
            let store = client(&server);
            let started = clock.now();
            let outcome = create(&store, &format!("{}", n / 2), bytes_of(100)).await;
            let outcome = outcome.err().map(|it| text(&it).rsplit(": ").next().map(str::to_owned));
            seen.push((outcome, clock.now().since(started).as_millis()));
        }
        let counts = server.counts();
        server.stop().await;
        (seen, counts)
    };
    let first = run(11).await;
    assert_eq!(first, run(11).await);
    assert_ne!(first, run(12).await);
}
