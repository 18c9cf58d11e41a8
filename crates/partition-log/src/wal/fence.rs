//! The end of another writer's log in the bucket: a fence in its first hole.
//!
//! Owns: the bytes of a fence object, the walk that puts one. Does not own: which logs are to be
//! ended, what becomes of their segments (`adoption`).
//!
//! A log's writer puts sequence after sequence with create-if-absent and acknowledges strictly in
//! order. Whoever ends the log tries to create a fence at the first sequence that is missing. If the
//! key exists after all, it is data and the walk goes on; if the fence wins, the writer's own PUT of
//! that sequence will find the key taken, today or in a week, so nothing from there on was or will
//! ever be acknowledged (A4). No clock and no lease is trusted. Fences are never deleted.
//!
//! Everything below the fence exists: each sequence from the trim point on was seen in a listing or
//! answered "exists", and a listing is believed in this direction only; that something is missing is
//! believed when a create-if-absent wins, and then it is the end. Segments behind a fence were under
//! way when it was put; they are garbage. There may be several fences: the first one is the end.
//!
//! # Format, version 1
//!
//! A fence is shorter than any segment, so a listing tells them apart. All integers are little-endian.
//!
//! | bytes | | content |
//! | --- | --- | --- |
//! | 0 | 8 | magic `AQUIFERF` |
//! | 8 | 2 | format version, 1 |
//! | 10 | 2 | zero |
//! | 12 | 4 | the ended log: broker id |
//! | 16 | 8 | … broker epoch |
//! | 24 | 8 | … the sequence that the fence takes |
//! | 32 | 4 | who ended it: broker id |
//! | 36 | 4 | zero |
//! | 40 | 8 | … broker epoch |
//! | 48 | 8 | when, in milliseconds since 1970 |
//! | 56 | 8 | a random number: no two walkers write the same bytes |
//! | 64 | 1 | length of the reason |
//! | 65 | 59 | the reason, UTF-8, then zeros |
//! | 124 | 4 | CRC-32C of bytes 0 to 123 |

use super::ledger::{WalId, WalRecord};
use super::patience::Patience;
use crate::segment::{SEGMENT_LENGTH_MIN, segment_key, segment_of, wal_prefix};
use bucket::{Bucket, BucketError, Key, Purpose, PutOutcome, Suffix};
use bytes::Bytes;
use crc_fast::crc32_iscsi;
use environment::Environment;
use std::fmt;
use vocabulary::{BrokerEpoch, BrokerId, SegmentName, Timestamp};

/// Bytes of a fence object.
pub const FENCE_LENGTH: usize = 128;
const _: () = assert!((FENCE_LENGTH as u64) < SEGMENT_LENGTH_MIN, "a length tells them apart");

const MAGIC: [u8; 8] = *b"AQUIFERF";
const VERSION: u16 = 1;
const REASON_AT: usize = 65;
const CRC_AT: usize = FENCE_LENGTH - 4;
const REASON_BYTES_MAX: usize = CRC_AT - REASON_AT;

/// Objects listed at once while looking for the end.
const LIST_PAGE: usize = 1000;

/// After so many holes that a living writer filled first, a barrier is put ahead of it.
const CHASES_MAX: u32 = 8;

/// How far ahead: more than a writer has in flight, so that it runs into the barrier.
const BARRIER_AHEAD: u64 = 64;

/// What a fence object says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    /// The log it ends, before this sequence.
    pub log: WalId,
    pub sequence: u64,
    pub by: WalId,
    pub at: Timestamp,
    stamp: u64,
    pub reason: String,
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fence { log, sequence, by: WalId { broker, epoch }, at, reason, .. } = self;
        write!(
            f,
            "broker {broker} in epoch {epoch} ended {log} before segment {sequence} at {at} ms "
        )?;
        write!(f, "({reason})")
    }
}

/// Why an object is no fence of this log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoFence {
    /// It is as long as a segment: data.
    Segment,
    Malformed(&'static str),
}

impl Fence {
    /// Reads what lies at `sequence` of a log, given at least the last [`FENCE_LENGTH`] bytes of it.
    /// `None`: it is as long as a segment.
    ///
    /// # Errors
    ///
    /// Why it is neither.
    pub fn read(suffix: &Suffix, log: WalId, sequence: u64) -> Result<Option<Fence>, &'static str> {
        match parse(suffix, log, sequence) {
            Ok(fence) => Ok(Some(fence)),
            Err(NoFence::Segment) => Ok(None),
            Err(NoFence::Malformed(reason)) => Err(reason),
        }
    }

    fn encode(&self) -> Bytes {
        let mut bytes = [0; FENCE_LENGTH];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.log.broker.0.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.log.epoch.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.by.broker.0.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.by.epoch.0.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.at.0.to_le_bytes());
        bytes[56..64].copy_from_slice(&self.stamp.to_le_bytes());
        let reason = &self.reason[..self.reason.floor_char_boundary(REASON_BYTES_MAX)];
        bytes[64] = reason.len() as u8; // At most 59.
        bytes[REASON_AT..REASON_AT + reason.len()].copy_from_slice(reason.as_bytes());
        let crc = crc32_iscsi(&bytes[..CRC_AT]);
        bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        Bytes::copy_from_slice(&bytes)
    }
}

/// What lies at `sequence` of a log, given the last [`FENCE_LENGTH`] bytes of it.
pub(super) fn parse(suffix: &Suffix, log: WalId, sequence: u64) -> Result<Fence, NoFence> {
    if SEGMENT_LENGTH_MIN <= suffix.object_length {
        return Err(NoFence::Segment);
    }
    let malformed = NoFence::Malformed;
    let bytes: &[u8; FENCE_LENGTH] = suffix.bytes[..]
        .try_into()
        .map_err(|_| malformed("neither a segment's nor a fence's length"))?;
    let long = |at: usize| {
        let mut field = [0; 8];
        field.copy_from_slice(&bytes[at..at + 8]);
        u64::from_le_bytes(field)
    };
    let short = |at: usize| {
        let mut field = [0; 4];
        field.copy_from_slice(&bytes[at..at + 4]);
        u32::from_le_bytes(field)
    };
    let id = |at: usize, epoch: usize| WalId {
        broker: BrokerId(short(at).cast_signed()),
        epoch: BrokerEpoch(long(epoch)),
    };
    if bytes[..8] != MAGIC {
        return Err(malformed("no magic"));
    }
    if short(CRC_AT) != crc32_iscsi(&bytes[..CRC_AT]) {
        return Err(malformed("the checksum is wrong"));
    }
    if bytes[8..10] != VERSION.to_le_bytes() {
        return Err(malformed("written by newer software"));
    }
    let length = usize::from(bytes[64]);
    let text = bytes.get(REASON_AT..REASON_AT + length).filter(|_| length <= REASON_BYTES_MAX);
    let text = text.and_then(|it| std::str::from_utf8(it).ok());
    let fence = Fence {
        log: id(12, 16),
        sequence: long(24),
        by: id(32, 40),
        at: Timestamp(long(48).cast_signed()),
        stamp: long(56),
        reason: text.ok_or(malformed("the reason is no text"))?.to_owned(),
    };
    match (fence.log, fence.sequence) == (log, sequence) {
        true => Ok(fence),
        false => Err(malformed("it ends another log")),
    }
}

/// A log that nobody can append to any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    pub id: WalId,
    /// Its segments are those from here on …
    pub first: u64,
    /// … to the one before the fence. All of them exist.
    pub fence: u64,
    /// The fence was there before.
    pub was_ended: bool,
}

impl Ended {
    pub fn segments(&self) -> u64 {
        self.fence - self.first
    }
}

/// Why a log could not be ended. It may have a fence all the same; trying again is harmless.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndError {
    /// The store refuses, which waiting does not change: an operator is needed.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// Something lies in the log that nobody of ours wrote. An operator decides.
    #[error("A6: {key} is neither a segment nor a fence: {reason}")]
    Corrupt { key: Key, reason: &'static str },
}

/// Ends a log for ever: walks it from what `record` says was trimmed, puts a fence into its first hole.
/// Waits out trouble of the store. The writer must not be able to record trims any more, which its
/// loss of the broker epoch sees to, and `record` must be read after that.
///
/// # Errors
///
/// The store refuses, or the log holds what is not ours.
pub async fn end_log(
    bucket: &dyn Bucket,
    record: &WalRecord,
    by: WalId,
    reason: &str,
    environment: &Environment,
) -> Result<Ended, EndError> {
    let walk = Walk { bucket, log: record.id, by, reason, environment };
    let mut next = record.trimmed;
    let mut chases = 0;
    loop {
        next = walk.first_hole(next).await?;
        let was_ended = match walk.fence(next).await? {
            Put::Won => false,
            Put::Fence => true,
            Put::Segment => {
                next += 1;
                chases += 1;
                if chases == CHASES_MAX {
                    // Whatever lies there already, the writer cannot pass it.
                    walk.fence(next + BARRIER_AHEAD).await?;
                }
                continue;
            }
        };
        return Ok(Ended { id: record.id, first: record.trimmed, fence: next, was_ended });
    }
}

struct Walk<'a> {
    bucket: &'a dyn Bucket,
    log: WalId,
    by: WalId,
    reason: &'a str,
    environment: &'a Environment,
}

/// What became of the try to put a fence.
enum Put {
    Won,
    /// There is one.
    Fence,
    /// The writer was faster: this is data.
    Segment,
}

impl Walk<'_> {
    fn key(&self, sequence: u64) -> Key {
        let WalId { broker, epoch } = self.log;
        segment_key(SegmentName::Wal { broker, epoch, sequence })
    }

    /// The first sequence from `next` on that the listing does not show as a segment.
    async fn first_hole(&self, mut next: u64) -> Result<u64, EndError> {
        let prefix = wal_prefix(self.log.broker, self.log.epoch);
        loop {
            let after = next.checked_sub(1).map(|before| self.key(before));
            let mut patience = Patience::new(self.environment);
            let page = loop {
                match self.bucket.list(&prefix, after.as_ref(), LIST_PAGE).await {
                    Ok(page) => break page,
                    Err(error) if error.is_transient() => patience.wait("listing", &error).await,
                    Err(error) => return Err(error.into()),
                }
            };
            let is_last = page.len() < LIST_PAGE;
            for object in page {
                let Some(SegmentName::Wal { sequence, .. }) = segment_of(&object.key) else {
                    continue; // Not a name of ours: the sweep says so.
                };
                if sequence != next || object.length < SEGMENT_LENGTH_MIN {
                    return Ok(next);
                }
                next += 1;
            }
            if is_last {
                return Ok(next);
            }
        }
    }

    /// Tries to put a fence at `sequence`.
    async fn fence(&self, sequence: u64) -> Result<Put, EndError> {
        let key = self.key(sequence);
        let fence = Fence {
            log: self.log,
            sequence,
            by: self.by,
            at: self.environment.clock.wall(),
            stamp: self.environment.entropy.next_u64(),
            reason: self.reason.to_owned(),
        };
        let body = fence.encode();
        let mut patience = Patience::new(self.environment);
        loop {
            // The same bytes each time: a lost answer is found out by repeating.
            match self.bucket.put_new(&key, vec![body.clone()], Purpose::Wal).await {
                Ok(PutOutcome::Created) => return Ok(Put::Won),
                Ok(PutOutcome::AlreadyExists) => break,
                Err(error) if error.is_transient() => patience.wait("fencing", &error).await,
                Err(error) => return Err(error.into()),
            }
        }
        loop {
            match self.bucket.get_suffix(&key, FENCE_LENGTH as u64, Purpose::Wal).await {
                Ok(found) => match parse(&found, self.log, sequence) {
                    Ok(_) => return Ok(Put::Fence),
                    Err(NoFence::Segment) => return Ok(Put::Segment),
                    Err(NoFence::Malformed(reason)) => {
                        return Err(EndError::Corrupt { key, reason });
                    }
                },
                Err(error) if error.is_transient() => patience.wait("fencing", &error).await,
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests;
