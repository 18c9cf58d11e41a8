//! One broker's surroundings, which outlive its process.

use super::mortal::MortalVolume;
use crate::log::{Appended, LogSettings, PartitionLog, PartitionStart, ReadLimit};
use crate::run_index::{MemoryRunIndex, RunIndex};
use crate::volume::MemoryVolume;
use crate::wal::{FileWal, FileWalOptions, WalError};
use crate::{LogEngine, LogOptions, OpenError};
use bucket::{Faults, LyingBucket};
use bytes::Bytes;
use environment::{Environment, SimulatedClock, StopToken, TaskGroup};
use protocol::records::{Batch, BatchBuilder, Compression, batches};
use std::sync::Arc;
use std::time::Duration;
use vocabulary::{
    BrokerEpoch, BrokerId, ByteCount, Offset, Partition, ProducerId, Timestamp, TopicId,
};

pub(super) fn partition(index: i32) -> Partition {
    Partition { topic: TopicId([7; 16]), index }
}

pub(super) struct World {
    pub(super) environment: Environment,
    pub(super) volume: MemoryVolume,
    pub(super) bucket: Arc<LyingBucket>,
    pub(super) runs: Arc<MemoryRunIndex>,
    pub(super) options: LogOptions,
    pub(super) settings: Arc<LogSettings>,
    pub(super) file_bytes: ByteCount,
}

/// One process: ends by [`World::crash`] or by its engine's shutdown.
pub(super) struct Life {
    pub(super) engine: Arc<LogEngine>,
    tasks: TaskGroup,
    death: StopToken,
}

impl World {
    pub(super) fn new(seed: u64) -> World {
        World::starting_at(seed, Timestamp(1_767_225_600_000))
    }

    pub(super) fn starting_at(seed: u64, wall: Timestamp) -> World {
        let environment = Environment::simulated(seed);
        let clock = Arc::new(SimulatedClock::starting_at(wall));
        let environment = Environment { clock, ..environment };
        let mut options = LogOptions::new(BrokerId(1), BrokerEpoch(1));
        // Small enough that a test of a few hundred batches meets every limit.
        options.flush_bytes = ByteCount::kib(64);
        options.segment_bytes_max = ByteCount::kib(32);
        options.own_segment_bytes_min = ByteCount::kib(8);
        options.tail_cache_bytes = ByteCount::kib(32);
        options.unflushed_bytes_max = ByteCount::mib(1);
        options.wal.drain_max = Duration::from_millis(100);
        World {
            volume: MemoryVolume::new(&environment),
            bucket: Arc::new(LyingBucket::new(seed, Faults::NONE, &environment)),
            runs: Arc::new(MemoryRunIndex::new(Arc::clone(&environment.clock))),
            options,
            settings: Arc::default(),
            file_bytes: ByteCount::kib(64),
            environment,
        }
    }

    pub(super) async fn start(&self) -> Life {
        let runs: Arc<dyn RunIndex> = Arc::<MemoryRunIndex>::clone(&self.runs);
        self.start_with(runs).await
    }

    /// As a supervisor does: tries again while the disk has trouble.
    pub(super) async fn start_with(&self, runs: Arc<dyn RunIndex>) -> Life {
        for _ in 0..100 {
            match self.try_start(Arc::clone(&runs)).await {
                Ok(life) => return life,
                Err(OpenError::Wal(WalError::Volume(_))) => (),
                Err(error) => panic!("the WAL is intact: {error}"),
            }
        }
        panic!("the disk never works");
    }

    async fn try_start(&self, runs: Arc<dyn RunIndex>) -> Result<Life, OpenError> {
        let tasks = TaskGroup::new("life");
        let environment = Environment { tasks: tasks.clone(), ..self.environment.clone() };
        let wal_options = FileWalOptions { file_bytes: self.file_bytes, ..Default::default() };
        let death = StopToken::new();
        let inner = Arc::new(self.volume.remount(&environment));
        let volume = Arc::new(MortalVolume { inner, death: death.clone() });
        let backend = Arc::new(FileWal::new(volume, wal_options, &environment));
        let bucket = Arc::<LyingBucket>::clone(&self.bucket);
        let options = self.options.clone();
        let engine = LogEngine::open(options, backend, bucket, runs, environment).await?;
        Ok(Life { engine, tasks, death })
    }

    /// Hosts a partition, which is created if need be, in a new leader epoch.
    pub(super) fn host(&self, life: &Life, partition: Partition) -> Arc<PartitionLog> {
        self.host_in(&life.engine, partition)
    }

    pub(super) fn host_in(&self, engine: &LogEngine, partition: Partition) -> Arc<PartitionLog> {
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
        engine.host(start, Arc::clone(&self.settings))
    }

    /// The process and what the disk had not synced are gone.
    pub(super) async fn crash(&self, life: Life) {
        life.death.stop();
        self.volume.crash();
        life.tasks.shutdown(Duration::ZERO).await;
    }

    pub(super) async fn sleep(&self, wait: Duration) {
        self.environment.clock.sleep(wait).await;
    }

    /// A3 on the metadata, and A6: each run's object is there with the bytes it says.
    pub(super) async fn check(&self, partitions: &[Partition]) {
        for partition in partitions {
            let Some(facts) = self.runs.facts(*partition) else { continue };
            let runs = self.runs.runs(*partition);
            for pair in runs.windows(2) {
                assert_eq!(pair[0].end, pair[1].base, "A3");
            }
            if let Some(last) = runs.last() {
                assert_eq!(last.end, facts.committed_end, "A3");
            }
            for run in runs {
                let key = crate::segment_key(run.segment);
                let range = run.position..run.position + run.length;
                let bytes = self.get(&key, range).await;
                assert_eq!(crc_fast::crc32_iscsi(&bytes), run.crc, "A6");
            }
        }
    }

    async fn get(&self, key: &bucket::Key, range: std::ops::Range<u64>) -> Bytes {
        use bucket::{Bucket, Purpose};
        for _ in 0..100 {
            match self.bucket.get(key, range.clone(), Purpose::ReadCold).await {
                Ok(bytes) => return bytes,
                Err(error) => assert!(error.is_transient(), "A6: {error}"),
            }
        }
        panic!("the bucket never answers");
    }
}

/// `count` records with values of `length` bytes that tell them apart.
pub(super) fn batch(label: u64, count: usize, length: usize) -> Batch {
    batch_of(None, label, count, length, 1_767_225_600_000)
}

pub(super) fn produced(producer: i64, epoch: i16, sequence: i32, count: usize) -> Batch {
    let label = producer as u64 * 1_000_000 + sequence as u64;
    batch_of(Some((producer, epoch, sequence)), label, count, 40, 1_767_225_600_000)
}

pub(super) fn batch_of(
    producer: Option<(i64, i16, i32)>,
    label: u64,
    count: usize,
    length: usize,
    timestamp: i64,
) -> Batch {
    let producer = producer.map(|(id, epoch, sequence)| (ProducerId(id), epoch, sequence));
    let mut builder = BatchBuilder::new(Compression::None, producer);
    for index in 0..count {
        let mut value = label.to_be_bytes().to_vec();
        value.push(index as u8);
        value.resize(length.max(9), index as u8);
        builder.push(Timestamp(timestamp + index as i64), None, Some(&value), &[]);
    }
    builder.build()
}

pub(super) async fn append(log: &PartitionLog, batch: Batch) -> Appended {
    log.append(batch, None).await.expect("the partition takes appends")
}

/// Appends and waits until it is acknowledged; the offset it got.
pub(super) async fn acked(log: &PartitionLog, batch: Batch) -> Offset {
    let appended = append(log, batch).await;
    appended.durable.await.expect("the WAL works");
    appended.base_offset
}

/// Everything from `from` to the high watermark, batch by batch: base offset and bytes behind the
/// stamped fields. Storage trouble is waited out.
pub(super) async fn read_all(world: &World, log: &PartitionLog, from: Offset) -> Vec<(i64, Bytes)> {
    let mut found = Vec::new();
    let mut next = from;
    let mut failures = 0;
    loop {
        match log.read(next, 4096, true, ReadLimit::HighWatermark).await {
            Ok(fetched) if fetched.bytes == 0 => return found,
            Ok(fetched) => {
                let sum: usize = fetched.chunks.iter().map(Bytes::len).sum();
                assert_eq!(sum, fetched.bytes);
                for chunk in fetched.chunks {
                    for read in batches(chunk) {
                        let (header, bytes) = read.expect("whole batches come back");
                        let is_first = next == from && header.base_offset <= from;
                        assert!(header.base_offset == next || is_first, "dense offsets");
                        next = header.end_offset();
                        found.push((header.base_offset.0, bytes.slice(16..)));
                    }
                }
            }
            Err(crate::ReadError::Unavailable) => {
                failures += 1;
                assert!(failures < 1000, "reads never come back");
                world.sleep(Duration::from_millis(100)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// What [`read_all`] gives for an appended batch.
pub(super) fn expected(batch: &Batch) -> Bytes {
    Bytes::copy_from_slice(&batch.bytes()[16..])
}
