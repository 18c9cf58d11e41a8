//! Frames on an in-memory line, in simulated time.

use environment::Environment;
use tokio::io::{AsyncWriteExt, DuplexStream};

use super::*;

/// Longer than any frame here takes; only bounds a failure.
const LIMIT: Duration = Duration::from_secs(24 * 3600);

/// Of the lines in this file.
const IDLE_MAX: Duration = Duration::from_secs(600);

impl Incoming for DuplexStream {
    async fn gone(&mut self) {
        std::future::pending().await
    }
}

struct World {
    environment: Environment,
    memory: Arc<RequestMemory>,
}

impl World {
    fn with_memory(bytes: usize) -> World {
        let memory = Arc::new(RequestMemory::new(bytes));
        World { environment: Environment::simulated(1), memory }
    }

    /// A client's end, and the broker's.
    fn connect(&self) -> (DuplexStream, Frames<DuplexStream>) {
        let (client, half) = tokio::io::duplex(64 * 1024);
        let limits = FrameLimits { bytes_max: 1 << 20, idle_max: IDLE_MAX };
        let Environment { clock, tasks, .. } = &self.environment;
        (client, Frames::new(half, limits, &self.memory, clock, &tasks.token()))
    }
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, work).await.expect("it ends")
}

#[tokio::test(start_paused = true)]
async fn a_frame_takes_as_long_as_its_line_needs() {
    let world = World::with_memory(1 << 20);
    let (mut client, mut frames) = world.connect();
    let sending = async {
        client.write_i32(20).await.expect("it reads");
        for byte in 0..20 {
            world.environment.clock.sleep(FRAME_SILENCE_MAX / 2).await;
            client.write_u8(byte).await.expect("it reads");
        }
    };
    let ((), read) = within(async { tokio::join!(sending, frames.next()) }).await;
    assert_eq!(read.expect("a whole frame").0, (0..20).collect::<Vec<u8>>());
}

#[tokio::test(start_paused = true)]
async fn silence_amid_a_frame_ends_it() {
    let world = World::with_memory(1 << 20);
    let (mut client, mut frames) = world.connect();
    client.write_i32(20).await.expect("it takes them");
    client.write_u8(1).await.expect("it takes it");
    let begun = world.environment.clock.now();
    let read = within(frames.next()).await;
    assert!(matches!(read, Err(Ended::Stalled)), "{read:?}");
    assert_eq!(begun.plus(FRAME_SILENCE_MAX), world.environment.clock.now());
}

#[tokio::test(start_paused = true)]
async fn every_silence_is_measured_from_its_own_begin() {
    let world = World::with_memory(1 << 20);
    let (mut client, mut frames) = world.connect();
    let clock = &world.environment.clock;
    let sending = async {
        // Longer than either silence in all, and at last half of a frame.
        for byte in 0..20 {
            clock.sleep(IDLE_MAX - Duration::from_secs(1)).await;
            client.write_all(&[0, 0, 0, 2]).await.expect("it reads");
            clock.sleep(FRAME_SILENCE_MAX - Duration::from_secs(1)).await;
            client.write_all(&[byte, byte]).await.expect("it reads");
        }
        clock.sleep(Duration::from_secs(100)).await;
        client.write_all(&[0, 0, 0, 2, 7]).await.expect("it reads");
        clock.now()
    };
    let reading = async {
        for byte in 0..20 {
            assert_eq!(frames.next().await.expect("a whole frame").0, [byte, byte][..]);
        }
        (frames.next().await, clock.now())
    };
    let (begun, (read, ended)) = within(async { tokio::join!(sending, reading) }).await;
    assert!(matches!(read, Err(Ended::Stalled)), "{read:?}");
    assert_eq!(ended, begun.plus(FRAME_SILENCE_MAX));
}

#[tokio::test(start_paused = true)]
async fn silence_between_frames_ends_a_connection_later_than_amid_one() {
    let world = World::with_memory(1 << 20);
    let (mut client, mut frames) = world.connect();
    let clock = &world.environment.clock;
    let sending = async {
        client.write_all(&[0, 0, 0, 2, 7]).await.expect("it reads");
        clock.sleep(FRAME_SILENCE_MAX / 2).await;
        client.write_all(&[7, 0, 0]).await.expect("it reads");
        clock.now()
    };
    let reading = async {
        frames.next().await.expect("a whole frame");
        (frames.next().await, clock.now())
    };
    let (begun, (read, ended)) = within(async { tokio::join!(sending, reading) }).await;
    assert!(matches!(read, Err(Ended::Idle)), "{read:?}");
    assert_eq!(ended, begun.plus(IDLE_MAX));
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_the_wait_for_a_frame_and_for_memory() {
    let world = World::with_memory(1 << 20);
    let _all = Arc::clone(&world.memory.bytes).acquire_many_owned(1 << 20).await;
    let (mut between, mut frames_between) = world.connect();
    let (mut amid, mut frames_amid) = world.connect();
    between.write_all(&[0, 0, 0, 1, 7]).await.expect("it takes them");
    assert_eq!(frames_between.next().await.expect("a whole frame").0, [7][..]);
    amid.write_i32(1 << 19).await.expect("it takes them");
    amid.write_all(&[7; FREE_BYTES_MAX]).await.expect("it takes them");
    let (mut next, mut filled) = (Box::pin(frames_between.next()), Box::pin(frames_amid.next()));
    assert!(futures::poll!(next.as_mut()).is_pending());
    assert!(futures::poll!(filled.as_mut()).is_pending());
    world.environment.tasks.token().stop();
    let (next, filled) = within(async { tokio::join!(next, filled) }).await;
    assert!(matches!(next, Err(Ended::Stopping)), "{next:?}");
    assert!(matches!(filled, Err(Ended::Stopping)), "{filled:?}");
    // What has been received is given out before.
    between.write_all(&[0, 0, 0, 1, 8]).await.expect("it takes them");
    assert_eq!(frames_between.next().await.expect("a whole frame").0, [8][..]);
    assert!(matches!(frames_between.next().await, Err(Ended::Stopping)));
}

#[tokio::test(start_paused = true)]
async fn the_wait_for_memory_is_not_silence() {
    let world = World::with_memory(1 << 20);
    let all = Arc::clone(&world.memory.bytes).acquire_many_owned(1 << 20).await;
    let (mut client, mut frames) = world.connect();
    let sent = vec![7; 1 << 19];
    let sending = async {
        client.write_i32(1 << 19).await.expect("it reads");
        client.write_all(&sent).await.expect("it reads");
    };
    let freeing = async {
        world.environment.clock.sleep(FRAME_SILENCE_MAX * 30).await;
        drop(all);
    };
    let ((), (), read) = within(async { tokio::join!(sending, freeing, frames.next()) }).await;
    assert!(read.expect("a whole frame").0 == sent);
}

#[tokio::test(start_paused = true)]
async fn a_small_frame_waits_for_no_memory() {
    let world = World::with_memory(1 << 20);
    let _all = Arc::clone(&world.memory.bytes).acquire_many_owned(1 << 20).await;
    let (mut client, mut frames) = world.connect();
    client.write_i32(FREE_BYTES_MAX as i32).await.expect("it takes them");
    client.write_all(&vec![7; FREE_BYTES_MAX]).await.expect("it takes them");
    assert!(within(frames.next()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn frames_that_hold_each_others_memory_end_one_after_another() {
    const FRAME_BYTES: usize = 1 << 20;
    const FRAMES: usize = 5;
    let world = World::with_memory(FRAME_BYTES);
    let mut clients = Vec::new();
    let mut reading = Vec::new();
    for _ in 0..FRAMES {
        let (mut client, mut frames) = world.connect();
        let mut next = Box::pin(async move { frames.next().await.map(|(frame, _)| frame.len()) });
        client.write_i32(FRAME_BYTES as i32).await.expect("it takes them");
        // The first step is charged, and no other.
        let begin = vec![7; FREE_BYTES_MAX + 1];
        let writing = client.write_all(&begin);
        assert!(futures::poll!(next.as_mut()).is_pending());
        writing.await.expect("it takes them");
        assert!(futures::poll!(next.as_mut()).is_pending());
        assert!(futures::poll!(next.as_mut()).is_pending());
        clients.push((client, FRAME_BYTES - begin.len()));
        reading.push(next);
    }
    assert_eq!(world.memory.bytes.available_permits(), 0, "all of it is in unfinished frames");
    let sending = clients.into_iter().map(|(mut client, rest)| async move {
        client.write_all(&vec![7; rest]).await.expect("it reads");
    });
    let sending = futures::future::join_all(sending);
    let reading = futures::future::join_all(reading);
    let (_, read) = within(async { tokio::join!(sending, reading) }).await;
    for read in read {
        assert_eq!(read.expect("a whole frame"), FRAME_BYTES);
    }
    assert_eq!(world.memory.bytes.available_permits(), FRAME_BYTES, "all is given back");
}

#[tokio::test(start_paused = true)]
async fn who_goes_beyond_the_memory_of_all_does_not_do_so_for_ever() {
    const FRAME_BYTES: usize = 1 << 20;
    let world = World::with_memory(FRAME_BYTES);
    let others = FRAME_BYTES - CHARGE_STEP_BYTES;
    let _others = Arc::clone(&world.memory.bytes).acquire_many_owned(others as u32).await;
    let (mut client, mut frames) = world.connect();
    client.write_i32(FRAME_BYTES as i32).await.expect("it takes them");
    let sending = async {
        let begin = vec![7; FREE_BYTES_MAX + CHARGE_STEP_BYTES];
        client.write_all(&begin).await.expect("it reads");
        while client.write_u8(7).await.is_ok() {
            world.environment.clock.sleep(FRAME_SILENCE_MAX / 2).await;
        }
    };
    let reading = async move { frames.next().await.map(|(frame, _)| frame.len()) };
    let ((), read) = within(async { tokio::join!(sending, reading) }).await;
    assert!(matches!(read, Err(Ended::Stalled)), "{read:?}");
    assert_eq!(world.memory.beyond.available_permits(), 1);
}
