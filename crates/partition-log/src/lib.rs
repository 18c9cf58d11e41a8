//! Partitions on shared storage: appended through a write-ahead log, kept in data segments of a
//! bucket, read from wherever the bytes lie.
//!
//! Deliberately absent: sockets, requests, groups, and cluster metadata other than the port
//! [`run_index::RunIndex`]. Nothing here may assume that a run's payload was written by its
//! partition's leader.
//!
//! # Map
//!
//! - `engine`: [`LogEngine`], one per broker: opens the WAL, hosts partitions, runs the loops.
//! - `log`: [`PartitionLog`], one per hosted partition: offsets, producers, epochs, the tail.
//! - `read`: where a fetched byte comes from: tail, WAL, caches, bucket; lookups by timestamp.
//! - `flush`: tails become data segments, their runs are committed, the WAL is trimmed.
//! - `merge`: small runs become large ones; `compaction`: of each key the newest record stays.
//! - `retention`, `collection`: which committed runs end, and what becomes of their objects.
//! - [`run_index`]: the port to the metadata that names the committed runs, with a memory twin.
//! - [`segment`], [`volume`], [`wal`]: the format, the disk and the write-ahead log below all that.
//!
//! # Invariants
//!
//! - **A1** `Appended::durable` resolves with success only after the WAL segment is durable;
//! - **A2** the high watermark is the durable end, advances without gaps, and bounds every read;
//! - **A3** runs are committed in offset order, each starting at the committed end;
//! - **A4** a writer told that an append is lost never acknowledges anything after it;
//! - **A5** the last five batches of a producer are known across flush and restart;
//! - **A6** an object is deleted only when no run refers to it and its grace period is over;
//! - **A7** objects no metadata refers to are swept;
//! - **A8** no open transaction starts below the last stable offset, and the aborted ones are told from
//!   the indexes alone;
//! - **A9** trouble of bucket, metadata or volume slows or refuses, and is retried.

pub mod run_index;
pub mod segment;
pub mod volume;
pub mod wal;

mod collection;
mod compaction;
mod engine;
mod flush;
mod log;
mod merge;
mod read;
mod retention;

pub use compaction::CompactionOptions;
pub use engine::{EngineHealth, LogEngine, LogMetrics, LogOptions, OpenError, UnhostedRun};
pub use log::{
    Aftermath, AppendError, AppendRules, Appended, Cleanup, DeleteRecordsError, DurableWait,
    FetchWaiter, LogOffsets, LogSettings, MarkerRule, OpenTransaction, PartitionLog,
    PartitionStart, ProducerSnapshot, ProducerState, ReadLimit, SequenceRule, Verification,
    WatchGuard,
};
pub use merge::MergeOptions;
pub use read::{AbortedTransaction, Fetched, ReadError, TimestampedOffset};
pub use segment::segment_key;
