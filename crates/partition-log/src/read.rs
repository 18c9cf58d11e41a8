//! Reading a partition: from the tail, the WAL, the caches or the bucket, wherever the bytes lie.
//!
//! Owns: which piece comes from where, the limits of a fetch, what is out of range.
//! Does not own: loading and caching (`reader` and what is below it), checks of bytes (`verify`),
//! lookups by time (`lookup`), the tail itself (`log`).
//!
//! Below `reader`: `windows` and `times` (where runs are), `loads` (requests and their budgets, with
//! `hedge` and `neighbours`), `spans` and `disk` (what is kept), `streams` (who reads in order).
//!
//! A read never passes the high watermark (A2), returns whole batches from the one that contains the
//! asked offset on, and never says "nothing here" for a storage problem: that is
//! [`ReadError::Unavailable`] or [`ReadError::Corrupt`].

use crate::log::{PartitionLog, Piece, ReadLimit, Seal, Stretch};
use crate::wal::WalError;
use bytes::Bytes;
use futures::StreamExt;
use std::ops::Range;
use vocabulary::{LeaderEpoch, Offset, Timestamp};

mod aborted;
mod disk;
mod hedge;
mod loads;
mod lookup;
mod neighbours;
mod place;
mod reader;
mod spans;
mod streams;
mod times;
mod verify;
mod windows;

pub use aborted::AbortedTransaction;
pub(crate) use aborted::Ending;

use reader::RunCut;
use streams::Served;

pub(crate) use disk::DiskCache;
pub(crate) use reader::{Reader, ReaderOptions, ReaderParts, Wanted};
#[cfg(test)]
pub(crate) use spans::Class;

/// Whole batches, in offset order, as slices of whatever holds them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fetched {
    pub chunks: Vec<Bytes>,
    /// Of all chunks.
    pub bytes: usize,
    /// Behind the last batch; where the read started if there is none.
    pub end: Offset,
    /// Some of it was written within a transaction, or ends one: without, a reader of committed records has nothing to
    /// ask [`PartitionLog::aborted_among`] for, and that answers without a look.
    pub is_transactional: bool,
}

/// A record found by its timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimestampedOffset {
    pub offset: Offset,
    pub timestamp: Timestamp,
    pub leader_epoch: LeaderEpoch,
}

/// A variant exists only if some caller acts differently on it. Nothing is changed by a read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The consumer resets or follows its policy.
    #[error("offset {asked} is outside of {log_start} to {end}")]
    OffsetOutOfRange { asked: Offset, log_start: Offset, end: Offset },
    /// Storage is slow or failing, or the partition is leaving: ask again.
    #[error("the partition's storage is unavailable")]
    Unavailable,
    /// What storage holds is not what was written (A6). Other offsets may be readable.
    #[error("{object} is corrupt in bytes {} to {}: {reason}", range.start, range.end)]
    Corrupt { object: String, range: Range<u64>, reason: String },
}

/// How often a read looks again where the bytes are, when they moved from the WAL to the bucket or
/// between segments under its hands.
const LOOKS_MAX: usize = 4;

/// Pieces of one stretch read from the WAL at once: over a bucket each may be a request.
const WAL_READS_AT_ONCE: usize = 8;

/// Where the next bytes of a read are.
enum Place {
    Done,
    OutOfRange(ReadError),
    Tail(Stretch),
    /// In committed runs, up to this offset.
    Committed(Offset),
}

impl PartitionLog {
    /// Whole batches from the one that contains `from`, up to `bytes_max`; if `at_least_one`, the
    /// first batch whatever its size (KIP-74). Empty at the limit. What was read before trouble
    /// started is returned, and the trouble at the next call.
    pub async fn read(
        &self,
        from: Offset,
        bytes_max: usize,
        at_least_one: bool,
        limit: ReadLimit,
    ) -> Result<Fetched, ReadError> {
        self.make_known(limit).await?;
        let mut fetched = Fetched { end: from, ..Fetched::default() };
        let mut next = from;
        let mut looks = 0;
        loop {
            let left = bytes_max.saturating_sub(fetched.bytes);
            let must = at_least_one && fetched.bytes == 0;
            if left == 0 && !must {
                return Ok(fetched);
            }
            let step = match self.locate(next, left, must, limit) {
                Place::Done => return Ok(fetched),
                Place::OutOfRange(error) => Err(error),
                Place::Tail(stretch) => self.read_tail(stretch).await,
                Place::Committed(end) => self.read_committed(next, end, left, must).await,
            };
            match step {
                Ok(Step { chunks, end: Some(end), is_transactional }) => {
                    fetched.is_transactional |= is_transactional;
                    let bytes: usize = chunks.iter().map(Bytes::len).sum();
                    fetched.bytes += bytes;
                    fetched.chunks.extend(chunks);
                    if bytes == 0 && end <= next {
                        return Ok(fetched); // The next batch does not fit.
                    }
                    next = end;
                    fetched.end = end;
                }
                Ok(Step { end: None, .. }) => {
                    looks += 1;
                    if looks == LOOKS_MAX {
                        self.shared.metrics.read_failures.inc();
                        return self.settle(fetched, ReadError::Unavailable);
                    }
                }
                Err(error) => return self.settle(fetched, error),
            }
        }
    }

    fn settle(&self, fetched: Fetched, error: ReadError) -> Result<Fetched, ReadError> {
        match fetched.bytes {
            0 => Err(error),
            _ => Ok(fetched),
        }
    }

    fn locate(&self, next: Offset, left: usize, must: bool, limit: ReadLimit) -> Place {
        if Seal::Damaged <= self.seal() {
            return Place::OutOfRange(ReadError::Unavailable);
        }
        let state = self.state();
        let offsets = state.offsets();
        let limit = offsets.limit(limit);
        if next < offsets.log_start || offsets.end < next {
            let (log_start, end) = (offsets.log_start, offsets.end);
            return Place::OutOfRange(ReadError::OffsetOutOfRange { asked: next, log_start, end });
        }
        if limit <= next {
            return Place::Done;
        }
        let tail_base = state.tail.as_ref().and_then(|it| it.base()).unwrap_or(offsets.end);
        match &state.tail {
            Some(tail) if tail_base <= next => match tail.stretch(next, limit, left, must) {
                Some(stretch) => {
                    assert!(stretch.end <= offsets.high_watermark, "A2: only durable is served");
                    Place::Tail(stretch)
                }
                None => Place::Done,
            },
            _ => Place::Committed(limit.min(tail_base)),
        }
    }

    async fn read_tail(&self, stretch: Stretch) -> Result<Step, ReadError> {
        let (end, is_transactional) = (Some(stretch.end), stretch.is_transactional);
        // Nearly always: who follows the end of a log needs no future for each batch.
        let chunks = match in_memory(stretch.pieces) {
            Ok(chunks) => chunks,
            Err(pieces) => match self.read_pieces(pieces).await? {
                Some(chunks) => chunks,
                None => return Ok(Step::look_again()),
            },
        };
        self.shared.metrics.tail_reads.inc();
        Ok(Step { chunks, end, is_transactional })
    }

    /// `None` if the WAL has something of it no more.
    async fn read_pieces(&self, pieces: Vec<Piece>) -> Result<Option<Vec<Bytes>>, ReadError> {
        let mut chunks = Vec::with_capacity(pieces.len());
        let pieces = futures::stream::iter(pieces).map(|piece| self.read_piece(piece));
        let mut pieces = std::pin::pin!(pieces.buffered(WAL_READS_AT_ONCE));
        while let Some(read) = pieces.next().await {
            match read? {
                Some(bytes) => chunks.push(bytes),
                // Flushed and trimmed since we looked: it is in a committed run now.
                None => return Ok(None),
            }
        }
        Ok(Some(chunks))
    }

    /// `None` if the WAL has it no more.
    async fn read_piece(&self, piece: Piece) -> Result<Option<Bytes>, ReadError> {
        let place = match piece {
            Piece::Memory(bytes) => return Ok(Some(bytes)),
            Piece::Wal(place) => place,
        };
        match self.shared.wal.read(place).await {
            Ok(bytes) => {
                let checked = verify::batches(&bytes);
                checked.map_err(|reason| self.corrupt_wal(place, reason))?;
                self.shared.metrics.wal_read_bytes.inc_by(bytes.len() as u64);
                Ok(Some(bytes))
            }
            Err(WalError::NoSuchBytes { .. }) => Ok(None),
            Err(error) => {
                self.shared.metrics.read_failures.inc();
                tracing::warn!(partition = %self.partition(), %error, "WAL not readable");
                Err(ReadError::Unavailable)
            }
        }
    }

    fn corrupt_wal(&self, place: crate::wal::WalPlace, reason: String) -> ReadError {
        self.shared.metrics.corrupt_reads.inc();
        let range = place.position..place.position + u64::from(place.length);
        ReadError::Corrupt { object: format!("WAL segment {}", place.sequence), range, reason }
    }

    /// Batches of one committed run, as far as they are here or come with one request.
    async fn read_committed(
        &self,
        next: Offset,
        limit: Offset,
        left: usize,
        must: bool,
    ) -> Result<Step, ReadError> {
        let (reader, partition) = (&self.shared.reader, self.partition());
        let Some(run) = reader.run_at(partition, next).await? else {
            // The log start moved; maybe nobody got to know.
            self.learn_log_start().await?;
            return Ok(Step::look_again());
        };
        let committed_end = self.state().committed_end;
        let class = Reader::class(&run, next, committed_end);
        let wanted = Wanted { next, limit, left, must };
        let Some(cut) = reader.read_run(&run, wanted, class).await? else {
            return Ok(Step::look_again());
        };
        let RunCut { chunks, end, is_transactional } = cut;
        let bytes = chunks.iter().map(|it| it.len() as u64).sum();
        if 0 < bytes {
            let served = Served { partition, from: next, to: end, bytes };
            reader.served(served, committed_end, class);
        }
        Ok(Step { chunks, end: Some(end), is_transactional })
    }
}

/// The bytes of pieces all of which are in memory; of others, the pieces.
fn in_memory(pieces: Vec<Piece>) -> Result<Vec<Bytes>, Vec<Piece>> {
    if pieces.iter().any(|it| matches!(it, Piece::Wal(_))) {
        return Err(pieces);
    }
    let bytes = |piece| match piece {
        Piece::Memory(bytes) => Some(bytes),
        Piece::Wal(_) => None,
    };
    Ok(pieces.into_iter().filter_map(bytes).collect())
}

/// What one step of a read got; without an end, the bytes have moved.
struct Step {
    chunks: Vec<Bytes>,
    end: Option<Offset>,
    is_transactional: bool,
}

impl Step {
    fn look_again() -> Step {
        Step { chunks: Vec::new(), end: None, is_transactional: false }
    }
}
