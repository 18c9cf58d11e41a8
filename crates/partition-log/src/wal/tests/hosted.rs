//! An engine over the log in the bucket: a life, a death, a takeover, the next life.

use super::objects::Controlled;
use super::*;
use crate::log::{LogSettings, PartitionLog, PartitionStart, ReadLimit};
use crate::run_index::{MemoryRunIndex, RunIndex};
use crate::wal::ledger::{MemoryWalLedger, WalId, WalKind};
use crate::{LogEngine, LogOptions};
use bucket::{Bucket, Faults, LyingBucket};
use environment::TaskGroup;
use protocol::records::{BatchBuilder, Compression, batches};
use vocabulary::{ProducerId, SegmentName};

struct World {
    environment: Environment,
    bucket: Arc<LyingBucket>,
    runs: Arc<MemoryRunIndex>,
    ledger: Arc<MemoryWalLedger>,
    tail_cache_bytes: ByteCount,
}

impl World {
    fn new(seed: u64) -> World {
        let environment = Environment::simulated(seed);
        World {
            bucket: Arc::new(LyingBucket::new(seed, Faults::NONE, &environment)),
            runs: Arc::new(MemoryRunIndex::new(Arc::clone(&environment.clock))),
            ledger: Arc::new(MemoryWalLedger::new()),
            tail_cache_bytes: ByteCount::mib(1),
            environment,
        }
    }

    /// Registers, takes over what was left, opens a log of its own.
    async fn start(&self, epoch: u64) -> (Arc<LogEngine>, Adopted) {
        let tasks = TaskGroup::new("life");
        let environment = Environment { tasks, ..self.environment.clone() };
        let id = WalId { broker: BrokerId(1), epoch: BrokerEpoch(epoch) };
        self.ledger.register(id, WalKind::Bucket, &[]);
        let bucket = Arc::<LyingBucket>::clone(&self.bucket) as Arc<dyn Bucket>;
        let runs = Arc::<MemoryRunIndex>::clone(&self.runs) as Arc<dyn RunIndex>;
        let adopted = adopt_logs(&*bucket, &*runs, &*self.ledger, id, &environment).await;
        let backend = BucketWal::new(
            id,
            BucketWalOptions::default(),
            Arc::clone(&bucket),
            Arc::<MemoryWalLedger>::clone(&self.ledger),
            &environment,
        );
        let mut options = LogOptions::new(id.broker, id.epoch).for_bucket_wal();
        options.tail_cache_bytes = self.tail_cache_bytes;
        let engine = LogEngine::open(options, Arc::new(backend), bucket, runs, environment).await;
        (engine.expect("opens"), adopted.expect("takes over"))
    }

    fn host(&self, engine: &LogEngine, index: i32) -> Arc<PartitionLog> {
        let partition = partition(index);
        self.runs.create(partition);
        let facts = self.runs.next_epoch(partition);
        let start = PartitionStart {
            partition,
            leader_epoch: facts.leader_epoch,
            log_start: facts.log_start,
            committed_end: facts.committed_end,
            committed_bytes: facts.committed_bytes,
            epochs: facts.epochs,
        };
        engine.host(start, Arc::<LogSettings>::default())
    }
}

async fn produce(log: &PartitionLog, sequence: i32) -> Offset {
    let mut builder = BatchBuilder::new(Compression::None, Some((ProducerId(5), 0, sequence)));
    for index in 0..3 {
        let value = [sequence.to_be_bytes().to_vec(), vec![index; 100]].concat();
        builder.push(Timestamp(1000), None, Some(&value), &[]);
    }
    let appended = log.append(builder.build(), None).await.expect("takes appends");
    appended.durable.await.expect("the log works");
    appended.base_offset
}

/// The base offsets of everything readable.
async fn bases(log: &PartitionLog) -> Vec<i64> {
    let (mut found, mut next) = (Vec::new(), Offset(0));
    loop {
        let fetched = log.read(next, 1 << 20, true, ReadLimit::HighWatermark).await.expect("reads");
        if fetched.bytes == 0 {
            return found;
        }
        for read in fetched.chunks.into_iter().flat_map(batches) {
            let (header, _) = read.expect("whole batches");
            assert_eq!(header.base_offset, next);
            next = header.end_offset();
            found.push(header.base_offset.0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_engines_log_is_read_where_it_lies_and_goes_on() {
    let world = World::new(1);
    let (engine, adopted) = world.start(1).await;
    assert_eq!(adopted, Adopted::default());
    let logs = [world.host(&engine, 0), world.host(&engine, 1)];
    for sequence in 0..10 {
        for log in &logs {
            assert_eq!(produce(log, 3 * sequence).await, Offset(3 * i64::from(sequence)));
        }
    }
    let all: Vec<i64> = (0..10).map(|it| 3 * it).collect();
    assert_eq!(bases(&logs[0]).await, all);

    // It dies, or so it seems. Nothing was flushed.
    let (heir, adopted) = world.start(2).await;
    assert_eq!((adopted.logs, adopted.segments, adopted.runs), (1, 20, 20));
    let log = world.host(&heir, 0);
    assert_eq!((bases(&log).await, log.offsets().committed_end), (all.clone(), Offset(30)));
    assert_eq!(produce(&log, 27).await, Offset(27), "A5: a retry gets its first offset");
    assert_eq!(produce(&log, 30).await, Offset(30));
    let segments = world.runs.runs(partition(0)).into_iter().map(|it| it.segment);
    assert!(segments.into_iter().all(|it| matches!(it, SegmentName::Wal { .. })));
    // The old one wakes and cannot acknowledge anything.
    let mut builder = BatchBuilder::new(Compression::None, None);
    builder.push(Timestamp(1), None, Some(b"late"), &[]);
    let late = logs[0].append(builder.build(), None).await.expect("it does not know yet");
    late.durable.await.expect_err("A4");

    // A flush, a clean stop, and there is nothing left to adopt.
    heir.flush_all().await;
    heir.shutdown().await;
    let (last, adopted) = world.start(3).await;
    assert_eq!((adopted.logs, adopted.runs, adopted.damaged.len()), (1, 0, 0));
    let log = world.host(&last, 0);
    assert_eq!(bases(&log).await, (0..11).map(|it| 3 * it).collect::<Vec<_>>());
    assert_eq!(produce(&log, 30).await, Offset(30), "A5 across a flush, too");
}

#[tokio::test(start_paused = true)]
async fn a_run_of_which_the_front_was_flushed_is_adopted_in_part() {
    let world = World::new(2);
    let (engine, _) = world.start(1).await;
    let log = world.host(&engine, 0);
    let first = log.clone();
    // Many batches in one segment: they come while the first write is under way.
    world.bucket.set_faults(Faults {
        slow_per_mille: 1000,
        slow_max: Duration::from_millis(50),
        ..Faults::NONE
    });
    let mut waits = Vec::new();
    for sequence in 0..20 {
        let mut builder = BatchBuilder::new(Compression::None, Some((ProducerId(5), 0, sequence)));
        builder.push(Timestamp(1000), None, Some(&[7; 100]), &[]);
        waits.push(first.append(builder.build(), None).await.expect("takes appends").durable);
    }
    for wait in waits {
        wait.await.expect("durable");
    }
    world.bucket.set_faults(Faults::NONE);
    let recorded = log.offsets();
    assert_eq!(recorded.high_watermark, Offset(20));
    // What a flush of the first seven would have committed.
    let fetched =
        log.read(Offset(0), 1 << 20, true, ReadLimit::HighWatermark).await.expect("reads");
    let mut table = crate::log::ProducerTable::default();
    let name = SegmentName::data(7);
    let mut builder = crate::segment::SegmentBuilder::new(name);
    for read in fetched.chunks.into_iter().flat_map(batches).take(7) {
        let (header, bytes) = read.expect("whole batches");
        table.replay(&crate::log::ProducedBatch::from(&header), Timestamp(0));
        builder.push(partition(0), log.leader_epoch(), &header, bytes);
    }
    builder.attach_producers(partition(0), table.encode());
    let segment = builder.finish();
    let (key, body) = (crate::segment_key(name), segment.chunks.clone());
    let put = world.bucket.put_new(&key, body, bucket::Purpose::Flush).await;
    put.expect("stored");
    let run = &segment.index.runs[0];
    let commit = crate::run_index::RunCommit {
        segment: name,
        segment_bytes: segment.length,
        created: Timestamp(0),
        runs: vec![crate::run_index::RunDescription {
            partition: run.partition,
            leader_epoch: run.leader_epoch,
            base: run.base,
            end: run.end,
            max_timestamp: run.max_timestamp,
            segment: name,
            position: run.position,
            length: run.length,
            crc: run.crc,
        }],
    };
    assert_eq!(world.runs.commit(commit).await, Ok(vec![]));

    let (heir, adopted) = world.start(2).await;
    assert_eq!(adopted.damaged.len(), 0);
    let runs = world.runs.runs(partition(0));
    assert_eq!((runs[1].base, runs.last().map(|it| it.end)), (Offset(7), Some(Offset(20))));
    let log = world.host(&heir, 0);
    assert_eq!(bases(&log).await, (0..20).collect::<Vec<_>>());
    let mut again = BatchBuilder::new(Compression::None, Some((ProducerId(5), 0, 19)));
    again.push(Timestamp(1000), None, Some(&[7; 100]), &[]);
    let again = log.append(again.build(), None).await.expect("takes appends");
    assert_eq!(again.base_offset, Offset(19), "A5");
}

#[tokio::test(start_paused = true)]
async fn a_tail_that_left_memory_is_read_back_and_flushed() {
    let world = World { tail_cache_bytes: ByteCount(2000), ..World::new(3) };
    let (engine, _) = world.start(1).await;
    let log = world.host(&engine, 0);
    for sequence in 0..40 {
        produce(&log, 3 * sequence).await;
    }
    let all: Vec<i64> = (0..40).map(|it| 3 * it).collect();
    assert_eq!(bases(&log).await, all);
    engine.flush_all().await;
    assert_eq!((log.offsets().committed_end, bases(&log).await), (Offset(120), all));
}

/// Goal: a flush asks once for each segment of the log that it needs, however many partitions have
/// something in it, and keeps nothing but what it asked for.
#[tokio::test(start_paused = true)]
async fn a_flush_reads_each_segment_of_the_log_once() {
    const PARTITIONS: i32 = 6;
    let world = World { tail_cache_bytes: ByteCount(0), ..World::new(4) };
    let bucket = Controlled::new(&world.environment);
    let id = WalId { broker: BrokerId(1), epoch: BrokerEpoch(1) };
    world.ledger.register(id, WalKind::Bucket, &[]);
    // Nothing that one partition brings stays for the next.
    let options = BucketWalOptions { read_cache_bytes: ByteCount(0), ..Default::default() };
    let backend = BucketWal::new(
        id,
        options,
        Arc::<Controlled>::clone(&bucket),
        Arc::<MemoryWalLedger>::clone(&world.ledger),
        &world.environment,
    );
    let mut options = LogOptions::new(id.broker, id.epoch).for_bucket_wal();
    options.tail_cache_bytes = world.tail_cache_bytes;
    let runs = Arc::<MemoryRunIndex>::clone(&world.runs) as Arc<dyn RunIndex>;
    let (shared, environment) = (Arc::<Controlled>::clone(&bucket), world.environment.clone());
    let engine = LogEngine::open(options, Arc::new(backend), shared, runs, environment).await;
    let engine = engine.expect("opens");
    let logs: Vec<_> = (0..PARTITIONS).map(|index| world.host(&engine, index)).collect();
    for sequence in 0..20 {
        let together = logs.iter().map(|log| produce(log, 3 * sequence));
        futures::future::join_all(together).await;
    }
    let (segments, before) = (bucket.sequences(id).await.len() as u64, bucket.gets());
    assert!(2 * segments < 20 * PARTITIONS as u64, "partitions share segments: {segments}");
    engine.flush_all().await;
    assert_eq!(bucket.gets() - before, segments, "one GET a segment of the log");
    let all: Vec<i64> = (0..20).map(|it| 3 * it).collect();
    for log in &logs {
        assert_eq!((log.offsets().committed_end, bases(log).await), (Offset(60), all.clone()));
    }
}
