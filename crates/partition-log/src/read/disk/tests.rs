use super::*;
use environment::Environment;
use std::time::Duration;
use vocabulary::SegmentName;

fn key(number: u64, length: usize) -> SpanKey {
    SpanKey { segment: SegmentName::data(7), position: number << 30, length: length as u64 }
}

fn bytes(number: u64, length: usize) -> Bytes {
    Bytes::from((0..length).map(|at| (at as u64 * 31 + number * 7) as u8).collect::<Vec<u8>>())
}

struct World {
    directory: tempfile::TempDir,
    environment: Environment,
    metrics: LogMetrics,
    cache: Arc<DiskCache>,
}

fn world(bytes_max: u64) -> World {
    let directory = tempfile::tempdir().unwrap();
    let environment = Environment::simulated(1);
    let metrics = LogMetrics::default();
    let tasks = environment.tasks.clone();
    let cache = DiskCache::open(directory.path(), bytes_max, tasks, metrics.clone()).unwrap();
    World { directory, environment, metrics, cache }
}

impl World {
    async fn written(&self) {
        while self.cache.ring().is_writing {
            self.environment.clock.sleep(Duration::from_millis(1)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_offered_comes_back_and_the_oldest_makes_way() {
    let world = world(100 * 4096);
    for number in 0..1000u64 {
        let length = 1 + (number as usize * 977) % 20_000;
        world.cache.offer(key(number, length), bytes(number, length));
        if number % 3 == 0 {
            world.written().await;
        }
        let found = world.cache.get(key(number, length)).await;
        assert_eq!(found, Some(bytes(number, length)), "the youngest is always there");
    }
    world.written().await;
    let mut kept = Vec::new();
    for number in 0..1000u64 {
        let length = 1 + (number as usize * 977) % 20_000;
        if let Some(found) = world.cache.get(key(number, length)).await {
            assert_eq!(found, bytes(number, length));
            kept.push(number);
        }
    }
    assert_eq!(kept.last(), Some(&999));
    assert!(kept.is_sorted_by(|a, b| a + 1 == *b), "only the oldest are gone: {kept:?}");
    assert!(20 < kept.len(), "most of the file is in use: {}", kept.len());
    assert_eq!(world.metrics.disk_cache_failures.get(), 0);
    let length = world.directory.path().join(FILE_NAME).metadata().unwrap().len();
    assert_eq!(length, 100 * 4096, "the file never grows");
}

#[tokio::test(start_paused = true)]
async fn other_bytes_than_written_are_a_miss_and_counted() {
    let world = world(64 * 4096);
    for number in 0..4 {
        world.cache.offer(key(number, 5000), bytes(number, 5000));
    }
    world.written().await;
    let place = world.cache.ring().places[&key(2, 5000)];
    let path = world.directory.path().join(FILE_NAME);
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(b"X", place.position + 4999).unwrap();
    assert_eq!(world.cache.get(key(2, 5000)).await, None);
    assert_eq!(world.metrics.disk_cache_failures.get(), 1);
    assert_eq!(world.cache.get(key(1, 5000)).await, Some(bytes(1, 5000)));
    assert_eq!(world.cache.get(key(2, 5000)).await, None, "it is not looked at again");
    assert_eq!(world.metrics.disk_cache_failures.get(), 1);
    world.cache.offer(key(2, 5000), bytes(2, 5000));
    world.written().await;
    assert_eq!(world.cache.get(key(2, 5000)).await, Some(bytes(2, 5000)));
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_lost_the_file_is_given_up_and_nothing_fails() {
    let world = world(64 * 4096);
    for number in 0..40 {
        world.cache.offer(key(number, 5000), bytes(number, 5000));
    }
    world.written().await;
    world.cache.file.set_len(0).unwrap();
    let mut misses = 0;
    for number in 0..40 {
        misses += u64::from(world.cache.get(key(number, 5000)).await.is_none());
    }
    assert_eq!(misses, 40);
    assert_eq!(world.metrics.disk_cache_failures.get(), u64::from(FAILURES_MAX));
    world.cache.offer(key(99, 5000), bytes(99, 5000));
    assert_eq!(world.metrics.disk_cache_dropped.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_burst_is_kept_up_to_the_queue_and_the_rest_is_counted() {
    let world = world(256 << 20);
    let mib = 1 << 20;
    let one = bytes(1, mib);
    for number in 0..100 {
        world.cache.offer(key(number, mib), one.clone());
    }
    world.written().await;
    let kept = QUEUE_BYTES_MAX / mib as u64;
    assert_eq!(world.metrics.disk_cache_writes.get(), kept);
    assert_eq!(world.metrics.disk_cache_dropped.get(), 100 - kept);
    // At the pace of the disk, everything is kept.
    for number in 100..200 {
        world.cache.offer(key(number, mib), one.clone());
        world.written().await;
    }
    assert_eq!(world.metrics.disk_cache_writes.get(), kept + 100);
}

#[tokio::test(start_paused = true)]
async fn the_directory_belongs_to_one_process_and_its_past_is_not_believed() {
    let world = world(64 * 4096);
    world.cache.offer(key(1, 5000), bytes(1, 5000));
    world.written().await;
    let path = world.directory.path().to_owned();
    let tasks = world.environment.tasks.clone();
    let second = DiskCache::open(&path, 4096, tasks.clone(), world.metrics.clone());
    assert!(second.is_err_and(|it| it.to_string().contains("spans.cache")));
    let World { directory, cache, metrics, .. } = world;
    drop(cache);
    let again = DiskCache::open(directory.path(), 64 * 4096, tasks, metrics).unwrap();
    assert_eq!(again.get(key(1, 5000)).await, None);
}
