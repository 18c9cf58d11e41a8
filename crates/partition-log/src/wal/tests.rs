//! Tests of the write-ahead log as a whole: committer over files over a simulated disk.

mod adopting;
mod committing;
mod hosted;
mod moving;
mod objects;
mod process;
mod recovering;
mod simulation;
mod takeovers;

use super::*;
use crate::segment::RunEntry;
use crate::volume::MemoryVolume;
use bytes::Bytes;
use crc_fast::crc32_iscsi;
use environment::Environment;
use protocol::records::{Attributes, BATCH_HEADER_LEN, BatchHeader};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use vocabulary::{
    BrokerEpoch, BrokerId, ByteCount, LeaderEpoch, Offset, Partition, Timestamp, TopicId,
};

/// What the listeners heard, in the order in which they heard it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    Durable { partition: i32, end: Offset, place: WalPlace },
    Lost { partition: i32, base: Offset },
}

/// One seed after another on each core. The first that panics ends its thread, and the test once the
/// others are done.
fn on_every_core(seeds: std::ops::Range<u64>, simulate: impl Fn(u64) + Sync) {
    const CORES_MAX: usize = 16;
    let cores = std::thread::available_parallelism().map_or(1, usize::from).min(CORES_MAX);
    let seeds = Mutex::new(seeds);
    let next = || seeds.lock().expect("nobody panics with the seeds").next();
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while let Some(seed) = next() {
                    simulate(seed);
                }
            });
        }
    });
}

type Ears = Arc<Mutex<Vec<Heard>>>;

struct Listener {
    partition: i32,
    ears: Ears,
}

impl CommitListener for Listener {
    fn durable(&self, end: Offset, place: WalPlace) {
        hear(&self.ears).push(Heard::Durable { partition: self.partition, end, place });
    }

    fn lost(&self, base: Offset) {
        hear(&self.ears).push(Heard::Lost { partition: self.partition, base });
    }
}

fn hear(ears: &Ears) -> MutexGuard<'_, Vec<Heard>> {
    ears.lock().expect("no test panics with it")
}

fn partition(index: i32) -> Partition {
    Partition { topic: TopicId([7; 16]), index }
}

/// A batch of `records` records whose payload depends on `mark`.
fn batch(base: Offset, records: i32, payload: usize, mark: u64) -> (BatchHeader, Bytes) {
    let mut header = BatchHeader {
        base_offset: base,
        length: (BATCH_HEADER_LEN - 12 + payload) as i32,
        leader_epoch: 0,
        magic: 2,
        crc: 0,
        attributes: Attributes(0),
        last_offset_delta: records - 1,
        base_timestamp: Timestamp(1000),
        max_timestamp: Timestamp(1000 + i64::from(records)),
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        record_count: records,
    };
    let mut bytes = header.encode().to_vec();
    bytes.extend((mark | 1).to_le_bytes().repeat(payload / 8 + 1));
    bytes.truncate(BATCH_HEADER_LEN + payload);
    header.crc = crc32_iscsi(&bytes[BatchHeader::CHECKED_FROM..]);
    bytes[..BATCH_HEADER_LEN].copy_from_slice(&header.encode());
    (header, Bytes::from(bytes))
}

async fn append(wal: &Wal, ears: &Ears, index: i32, base: Offset, payload: usize) -> Offset {
    let (header, bytes) = batch(base, 2, payload, base.0.unsigned_abs());
    let reservation = wal.reserve(bytes.len()).await.expect("the log is open");
    submit(wal, ears, index, header, bytes, reservation);
    header.end_offset()
}

fn submit(
    wal: &Wal,
    ears: &Ears,
    index: i32,
    header: BatchHeader,
    bytes: Bytes,
    reservation: Reservation,
) {
    let listener = Arc::new(Listener { partition: index, ears: Arc::clone(ears) });
    let (partition, leader_epoch) = (partition(index), LeaderEpoch(0));
    wal.submit(Append {
        partition,
        leader_epoch,
        header,
        marker: None,
        bytes,
        listener,
        reservation,
    });
}

fn options() -> WalOptions {
    WalOptions::new(BrokerId(1), BrokerEpoch(1))
}

fn file_wal(volume: &MemoryVolume, environment: &Environment, file_bytes: u64) -> Arc<FileWal> {
    let options = FileWalOptions { file_bytes: ByteCount(file_bytes), ..FileWalOptions::default() };
    Arc::new(FileWal::new(Arc::new(volume.clone()), options, environment))
}

/// The batches of recovered segments with their places, in order.
fn batches_of(recovered: &[RecoveredSegment]) -> Vec<(i32, Offset, WalPlace)> {
    let mut batches = Vec::new();
    for segment in recovered {
        for run in &segment.index.runs {
            let RunEntry { partition, position, batches: entries, .. } = run;
            batches.extend(entries.iter().map(|it| {
                let (sequence, position) = (segment.sequence, position + it.position);
                let place = WalPlace { sequence, position, length: it.length };
                (partition.index, it.base_offset, place)
            }));
        }
    }
    batches
}
