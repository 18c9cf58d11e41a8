//! A shard from its log.
//!
//! Reads from the log start to where the log ends when loading begins. Appends of a former life of
//! the shard may still be in flight then; loading waits for them, so that nothing it has not seen
//! can become durable later.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use coordinator::{Now, Outputs, Shard, format};
use partition_log::{PartitionLog, ReadError, ReadLimit};
use protocol::records::{BatchError, batches, records};
use vocabulary::{LeaderEpoch, Offset, Partition};

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

/// A shard that is ready to serve.
pub(super) struct Loaded {
    pub(super) shard: Shard,
    pub(super) log: Arc<PartitionLog>,
    pub(super) leader_epoch: LeaderEpoch,
    /// What starting it has brought forth.
    pub(super) outputs: Outputs,
}

#[derive(Debug, thiserror::Error)]
enum LoadError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("a batch cannot be opened: {0}")]
    Batch(#[from] BatchError),
}

/// Retries for as long as this broker leads the partition; `None` when it does not.
pub(super) async fn load(
    broker: &Broker,
    partition: Partition,
    empty: &(impl Fn() -> Shard + Sync),
) -> Option<Loaded> {
    let mut pause = RETRY_FIRST;
    loop {
        let log = match broker.led_log(partition) {
            Ok(log) => log,
            Err(code) => {
                tracing::info!(%partition, ?code, "group coordinator not hosted here");
                return None;
            }
        };
        let leader_epoch = log.leader_epoch();
        match replay(broker, &log, empty).await {
            Ok(mut shard) => {
                let mut outputs = Outputs::default();
                shard.start(now(broker), &mut outputs);
                return Some(Loaded { shard, log, leader_epoch, outputs });
            }
            Err(error) => {
                tracing::warn!(%partition, %error, "group coordinator not loaded, trying again");
                broker.environment.clock.sleep(pause).await;
                pause = (2 * pause).min(RETRY_MAX);
            }
        }
    }
}

pub(super) fn now(broker: &Broker) -> Now {
    let clock = &broker.environment.clock;
    Now { tick: clock.now(), wall: clock.wall() }
}

async fn replay(
    broker: &Broker,
    log: &PartitionLog,
    empty: &(impl Fn() -> Shard + Sync),
) -> Result<Shard, LoadError> {
    let mut shard = empty();
    let offsets = log.offsets();
    let mut next = offsets.log_start;
    while next < offsets.end {
        let fetched = log.read(next, READ_BYTES, true, ReadLimit::HighWatermark).await?;
        if fetched.chunks.is_empty() {
            broker.environment.clock.sleep(IN_FLIGHT_PAUSE).await;
            continue;
        }
        next = apply_batches(&mut shard, log.partition(), joined(fetched.chunks), next)?;
    }
    Ok(shard)
}

fn joined(mut chunks: Vec<Bytes>) -> Bytes {
    if chunks.len() == 1 {
        return chunks.swap_remove(0);
    }
    let mut whole = BytesMut::with_capacity(chunks.iter().map(Bytes::len).sum());
    chunks.iter().for_each(|it| whole.extend_from_slice(it));
    whole.freeze()
}

/// Returns where to read on.
fn apply_batches(
    shard: &mut Shard,
    partition: Partition,
    bytes: Bytes,
    from: Offset,
) -> Result<Offset, BatchError> {
    let mut next = from;
    for batch in batches(bytes) {
        let (header, bytes) = batch?;
        next = next.max(header.end_offset());
        if header.attributes.is_control() {
            continue;
        }
        for record in records(&bytes, RECORDS_BYTES_MAX)? {
            let record = record?;
            if record.offset < from {
                continue; // Below the log start, in a batch that reaches over it.
            }
            match format::decode(record.key.as_deref(), record.value.as_deref()) {
                Ok(Some(event)) => shard.apply(event),
                Ok(None) => (), // Of a kind of group that is not served here.
                // Not ours: somebody has produced to the topic. One stray record must not make
                // the groups of a whole partition unavailable.
                Err(error) => {
                    let offset = record.offset;
                    tracing::error!(%partition, %offset, %error, "record of groups not understood");
                }
            }
        }
    }
    Ok(next)
}
