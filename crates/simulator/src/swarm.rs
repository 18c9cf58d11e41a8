//! What a seed draws: each seed is another configuration, another mix of work and another sequence of
//! bad days.

use bucket::Faults;
use cluster::StoreOptions;
use environment::{Entropy, SeededEntropy};
use partition_log::volume::MemoryFaults;
use partition_log::wal::{BucketWalOptions, FileWalOptions};
use partition_log::{CompactionOptions, LogOptions, MergeOptions};
use std::time::Duration;
use vocabulary::{BrokerEpoch, BrokerId, ByteCount};

/// The one broker of the simulation.
pub(crate) const BROKER: BrokerId = BrokerId(1);

const KIB: u64 = 1024;

/// Fixed for all lives of a seed.
#[derive(Debug, Clone)]
pub(crate) struct Swarm {
    pub(crate) lives: u64,
    /// Topics that may exist at a time.
    pub(crate) slots: usize,
    pub(crate) partitions_max: u32,
    /// Of one partition.
    pub(crate) producers: usize,
    pub(crate) records_max: u64,
    pub(crate) value_bytes_max: u64,
    /// A producer's pause between batches.
    pub(crate) pause_max: Duration,
    /// Between two steps of a topic's administrator.
    pub(crate) admin_pause_max: Duration,
    /// Of a hundred administrators' steps, how many delete the topic.
    pub(crate) deletions_per_cent: u64,
    pub(crate) deletes_records: bool,
    /// Retention by time is short at times.
    pub(crate) expires_records: bool,
    pub(crate) delete_records_pause_max: Duration,
    /// There are clients with transactions and readers of committed records.
    pub(crate) transacts: bool,
    /// There is a compacted topic, with clients of its own.
    pub(crate) compacts: bool,
    pub(crate) log: LogOptions,
    /// The write-ahead log is in the bucket, not on the disk.
    pub(crate) wal_in_bucket: bool,
    pub(crate) wal: FileWalOptions,
    pub(crate) bucket_wal: BucketWalOptions,
    pub(crate) metadata: StoreOptions,
    /// Between two steps of the metadata's wall clock, if it is stepped at all.
    pub(crate) clock_pause_max: Option<Duration>,
}

/// How one life goes.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) metadata_faults: Faults,
    pub(crate) data_faults: Faults,
    pub(crate) disk_faults: MemoryFaults,
    pub(crate) latency_max: Duration,
    pub(crate) end: End,
    /// At times all clients rest and time goes by.
    pub(crate) rests: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Killed so long after the clients start.
    After(Duration),
    /// Killed at the bucket request of that number, which may be while starting.
    AtRequest(u64),
    /// Stopped in order, so long after the clients start.
    Stop(Duration),
    /// Nobody ends it from outside.
    Never,
}

fn ms(chance: &SeededEntropy, min: u64, max: u64) -> Duration {
    Duration::from_millis(min + chance.below(max - min + 1))
}

impl Swarm {
    pub(crate) fn draw(chance: &SeededEntropy) -> Swarm {
        let metadata = StoreOptions {
            memtable_bytes: [4 * KIB, 64 * KIB, 4096 * KIB][chance.below(3) as usize] as usize,
            manifest_poll_interval: ms(chance, 1000, 10_000),
        };
        let wal = FileWalOptions {
            file_bytes: ByteCount(4 * KIB + chance.below(124 * KIB)),
            ..FileWalOptions::default()
        };
        Swarm {
            lives: 3 + chance.below(4),
            slots: 1 + chance.below(3) as usize,
            partitions_max: 1 + chance.below(3) as u32,
            producers: 1 + chance.below(2) as usize,
            records_max: 1 + chance.below(4),
            value_bytes_max: [40, 400, 3000][chance.below(3) as usize],
            pause_max: ms(chance, 0, 60),
            admin_pause_max: ms(chance, 200, 3000),
            deletions_per_cent: [0, 5, 25][chance.below(3) as usize],
            deletes_records: chance.below(2) == 0,
            expires_records: chance.below(2) == 0,
            delete_records_pause_max: ms(chance, 100, 4000),
            transacts: chance.below(2) == 0,
            compacts: chance.below(2) == 0,
            log: log_options(chance),
            wal_in_bucket: chance.below(2) == 0,
            wal,
            bucket_wal: bucket_wal_options(chance),
            metadata,
            clock_pause_max: (chance.below(3) != 0).then(|| ms(chance, 10, 3000)),
        }
    }

    /// Of topics, with that of the changelog.
    pub(crate) fn slots_in_all(&self) -> usize {
        self.slots + usize::from(self.compacts)
    }
}

/// Small enough that a few hundred batches meet every limit.
fn log_options(chance: &SeededEntropy) -> LogOptions {
    let mut log = LogOptions::new(BROKER, BrokerEpoch(0));
    log.flush_bytes = ByteCount(2 * KIB + chance.below(64 * KIB));
    log.flush_age = ms(chance, 50, 3000);
    log.segment_bytes_max = ByteCount(2 * KIB + chance.below(64 * KIB));
    log.segment_batches_max = 1 + chance.below(100) as usize;
    log.own_segment_bytes_min = ByteCount(KIB + chance.below(16 * KIB));
    log.uploads_in_flight_max = 1 + chance.below(3) as usize;
    log.unflushed_bytes_max = ByteCount(128 * KIB + chance.below(1024 * KIB));
    log.tail_cache_bytes = ByteCount(chance.below(64 * KIB));
    log.block_cache_bytes = ByteCount(chance.below(256 * KIB));
    log.index_cache_bytes = ByteCount(chance.below(256 * KIB));
    log.read_timeout = ms(chance, 500, 5000);
    log.retention_check_interval = ms(chance, 500, 5000);
    log.collection_interval = ms(chance, 500, 3000);
    log.collection_grace = ms(chance, 500, 20_000);
    log.orphan_interval = ms(chance, 5000, 60_000);
    log.orphan_grace = Duration::from_secs(60 + chance.below(60));
    log.wal.drain_max = Duration::from_millis(500);
    log.wal.group_bytes_max = ByteCount(KIB + chance.below(64 * KIB));
    log.compaction = CompactionOptions {
        dedupe_bytes: ByteCount(24 * [8, 16, 1024][chance.below(3) as usize]),
        backoff: ms(chance, 20, 1000),
        ..CompactionOptions::default()
    };
    log.merge = MergeOptions {
        is_enabled: chance.below(8) != 0,
        target_bytes: ByteCount(KIB + chance.below(128 * KIB)),
        fan_in: 2 + chance.below(6) as u32,
        age_max: ms(chance, 100, 5000),
        interval: ms(chance, 20, 1000),
        ..MergeOptions::default()
    };
    log
}

/// Impatient enough that every limit is met within a life.
fn bucket_wal_options(chance: &SeededEntropy) -> BucketWalOptions {
    BucketWalOptions {
        in_flight_max: 1 + chance.below(16) as usize,
        linger: ms(chance, 0, 100),
        full_bytes: ByteCount(KIB + chance.below(16 * KIB)),
        attempt_max: ms(chance, 200, 5000),
        hedge_delay_min: ms(chance, 1, 50),
        hedge_delay_max: ms(chance, 50, 2000),
        hedges_per_mille: chance.below(1000),
        read_cache_bytes: ByteCount(chance.below(64 * KIB)),
        ..BucketWalOptions::default()
    }
}

impl Plan {
    /// Any life but the last ones.
    pub(crate) fn draw(chance: &SeededEntropy) -> Plan {
        let day = || match chance.below(2) {
            0 => Faults::NONE,
            _ => Faults { slow_max: ms(chance, 10, 3000), ..Faults::bad_day() },
        };
        let disk_faults = MemoryFaults {
            sync_fails_per_mille: chance.below(30) * chance.below(2),
            write_fails_per_mille: chance.below(30) * chance.below(2),
            latency_max: Duration::from_micros(1 + chance.below(5000)),
            ..MemoryFaults::default()
        };
        let end = match chance.below(8) {
            0 => End::Stop(ms(chance, 1, 2000)),
            1..4 => End::AtRequest(1 + chance.below(400)),
            _ => End::After(Duration::from_micros(1 + chance.below(3_000_000))),
        };
        Plan {
            metadata_faults: day(),
            data_faults: day(),
            disk_faults,
            latency_max: Duration::from_micros(chance.below(30_000)),
            end,
            rests: chance.below(3) == 0,
        }
    }

    pub(crate) fn healed() -> Plan {
        Plan {
            metadata_faults: Faults::NONE,
            data_faults: Faults::NONE,
            disk_faults: MemoryFaults::default(),
            latency_max: Duration::from_millis(5),
            end: End::Never,
            rests: false,
        }
    }
}
