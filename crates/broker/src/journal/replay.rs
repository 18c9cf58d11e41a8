//! A coordinator from its log.
//!
//! Reads from the log start to where the log ends when loading begins. Appends of a former life of the coordinator may
//! still be in flight then; loading waits for them, so that nothing it has not seen can become durable later.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use partition_log::{PartitionLog, ReadError, ReadLimit};
use protocol::records::{BatchError, BatchHeader, EndTxnMarker, Record, batches, records};
use vocabulary::{LeaderEpoch, Offset, Partition, ProducerId};

use crate::broker::Broker;

/// Taken from the log at once.
const READ_BYTES: usize = 1024 * 1024;

/// The bound of one batch once decompressed: ours are not compressed, Kafka's may be.
const RECORDS_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Between two looks at appends in flight.
const IN_FLIGHT_PAUSE: Duration = Duration::from_millis(20);

/// Between two attempts at a log that cannot be read.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// A coordinator's state, and the log it was read from.
pub(crate) struct Loaded<S> {
    pub(crate) state: S,
    pub(crate) log: Arc<PartitionLog>,
    pub(crate) leader_epoch: LeaderEpoch,
}

/// What the log holds, in order.
pub(crate) enum Entry {
    /// With the producer and epoch of the transaction it was written in.
    Record(Option<(ProducerId, i16)>, Record),
    /// The end of a transaction.
    Marker(ProducerId, i16, EndTxnMarker),
}

#[derive(Debug, thiserror::Error)]
enum LoadError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("a batch cannot be opened: {0}")]
    Batch(#[from] BatchError),
}

/// Retries for as long as this broker leads the partition; `None` when it does not. `apply` may refuse an entry, which
/// is logged and passed over: one stray record must not make the coordinators of a whole partition unavailable.
pub(crate) async fn load<S, E: std::fmt::Display>(
    broker: &Broker,
    partition: Partition,
    empty: &(impl Fn() -> S + Sync),
    apply: fn(&mut S, Entry) -> Result<(), E>,
) -> Option<Loaded<S>> {
    let mut pause = RETRY_FIRST;
    loop {
        let log = match broker.led_log(partition) {
            Ok(log) => log,
            Err(code) => {
                tracing::info!(%partition, ?code, "coordinator not hosted here");
                return None;
            }
        };
        let leader_epoch = log.leader_epoch();
        match replay(broker, &log, empty(), apply).await {
            Ok(state) => return Some(Loaded { state, log, leader_epoch }),
            Err(error) => {
                tracing::warn!(%partition, %error, "coordinator not loaded, trying again");
                broker.environment.clock.sleep(pause).await;
                pause = (2 * pause).min(RETRY_MAX);
            }
        }
    }
}

async fn replay<S, E: std::fmt::Display>(
    broker: &Broker,
    log: &PartitionLog,
    mut state: S,
    apply: fn(&mut S, Entry) -> Result<(), E>,
) -> Result<S, LoadError> {
    let offsets = log.offsets();
    let mut next = offsets.log_start;
    while next < offsets.end {
        let fetched = log.read(next, READ_BYTES, true, ReadLimit::HighWatermark).await?;
        if fetched.chunks.is_empty() {
            broker.environment.clock.sleep(IN_FLIGHT_PAUSE).await;
            continue;
        }
        let from = next;
        for batch in batches(joined(fetched.chunks)) {
            let (header, bytes) = batch?;
            next = next.max(header.end_offset());
            for entry in entries(&header, &bytes, from)? {
                let Err(error) = apply(&mut state, entry) else { continue };
                // Not ours: somebody has produced to the topic.
                let (partition, offset) = (log.partition(), header.base_offset);
                tracing::error!(%partition, %offset, %error, "record of a coordinator not understood");
            }
        }
    }
    Ok(state)
}

fn joined(mut chunks: Vec<Bytes>) -> Bytes {
    if chunks.len() == 1 {
        return chunks.swap_remove(0);
    }
    let mut whole = BytesMut::with_capacity(chunks.iter().map(Bytes::len).sum());
    chunks.iter().for_each(|it| whole.extend_from_slice(it));
    whole.freeze()
}

/// What is in one batch at or above `from`: it may reach over the log start.
fn entries(header: &BatchHeader, bytes: &Bytes, from: Offset) -> Result<Vec<Entry>, BatchError> {
    let producer = (ProducerId(header.producer_id), header.producer_epoch);
    if header.attributes.is_control() {
        let marker = EndTxnMarker::read(bytes)?;
        return Ok(marker
            .map(|it| Entry::Marker(producer.0, producer.1, it))
            .into_iter()
            .collect());
    }
    let producer = header.attributes.is_transactional().then_some(producer);
    let mut entries = Vec::new();
    for record in records(bytes, RECORDS_BYTES_MAX)? {
        let record = record?;
        if from <= record.offset {
            entries.push(Entry::Record(producer, record));
        }
    }
    Ok(entries)
}
