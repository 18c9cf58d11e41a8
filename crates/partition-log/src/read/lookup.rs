//! Offsets by time (KIP-79, KIP-734): indexes narrow it down to a batch, the batch tells the record.
//!
//! Owns: which batch to open, over committed runs and the tail. Does not own: reading it (`read`).

use super::{ReadError, TimestampedOffset};
use crate::log::{PartitionLog, ReadLimit};
use crate::segment::BatchEntry;
use bytes::Bytes;
use protocol::records::records;
use vocabulary::{LeaderEpoch, Offset, Timestamp};

/// The bound of one batch once decompressed, as produce validation applies it.
const RECORDS_BYTES_MAX: usize = 1 << 30;

/// Run descriptions looked at per question to the metadata.
const PAGE_RUNS: usize = 256;

/// A batch worth opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Candidate {
    base: Offset,
    end: Offset,
    max_timestamp: Timestamp,
}

/// What a lookup keeps of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    offset: Offset,
    timestamp: Timestamp,
}

impl From<&BatchEntry> for Candidate {
    fn from(batch: &BatchEntry) -> Candidate {
        let max_timestamp = batch.max_timestamp;
        Candidate { base: batch.base_offset, end: batch.end_offset(), max_timestamp }
    }
}

impl PartitionLog {
    /// The first record at or after the log start and below the limit whose timestamp is `target` or
    /// later.
    pub async fn offset_for_timestamp(
        &self,
        target: Timestamp,
        limit: ReadLimit,
    ) -> Result<Option<TimestampedOffset>, ReadError> {
        let offsets = self.offsets();
        let (start, limit_offset) = (offsets.log_start, offsets.limit(limit));
        let mut from = start;
        while let Some(batch) = self.first_batch_at(from, limit_offset, target).await? {
            let wanted = |record: &Stamp| start <= record.offset && target <= record.timestamp;
            let Some((epoch, records)) = self.open_batch(batch.base, limit).await? else { break };
            if let Some(record) = records.iter().find(|it| wanted(it)) {
                return Ok(Some(found(record, epoch)));
            }
            from = batch.end; // Only records below the log start were late enough.
        }
        Ok(None)
    }

    /// The record with the greatest timestamp, the first of them if there are several; `None` when
    /// no record has one.
    pub async fn offset_of_max_timestamp(&self) -> Result<Option<TimestampedOffset>, ReadError> {
        let offsets = self.offsets();
        let (start, limit) = (offsets.log_start, offsets.high_watermark);
        let Some(batch) = self.latest_batch(start, limit).await? else { return Ok(None) };
        let opened = self.open_batch(batch.base, ReadLimit::HighWatermark).await?;
        let Some((epoch, records)) = opened else { return Ok(None) };
        let mut latest: Option<&Stamp> = None;
        for record in records.iter().filter(|it| start <= it.offset) {
            if latest.is_none_or(|it| it.timestamp < record.timestamp) {
                latest = Some(record);
            }
        }
        Ok(latest.map(|record| found(record, epoch)))
    }

    /// The first batch that reaches beyond `from`, starts below `limit` and has a record at `target`
    /// or later.
    async fn first_batch_at(
        &self,
        from: Offset,
        limit: Offset,
        target: Timestamp,
    ) -> Result<Option<Candidate>, ReadError> {
        let reader = &self.shared.reader;
        let mut from = from;
        while from < limit {
            let tail_base = {
                let state = self.state();
                let tail_base = state.tail.as_ref().and_then(|it| it.base());
                if let (Some(base), Some(tail)) = (tail_base, &state.tail)
                    && base <= from
                {
                    let late = |it: &&Candidate| from < it.end && target <= it.max_timestamp;
                    let candidates = tail.batches(limit).map(|it| Candidate::from(&it.batch));
                    return Ok(candidates.into_iter().find(|it| late(&it)));
                }
                tail_base.unwrap_or(state.committed_end)
            };
            let runs = reader.runs_from(self.partition(), from, PAGE_RUNS).await?;
            let committed = runs.iter().take_while(|run| run.base < limit.min(tail_base));
            let before = from;
            for run in committed {
                if target <= run.max_timestamp {
                    let entry = reader.run_entry(run).await?;
                    let late = |it: &&BatchEntry| {
                        from < it.end_offset()
                            && it.base_offset < limit
                            && target <= it.max_timestamp
                    };
                    if let Some(batch) = entry.batches.iter().find(late) {
                        return Ok(Some(Candidate::from(batch)));
                    }
                }
                from = run.end;
            }
            if from == before {
                return Ok(None); // Deleted meanwhile: there is nothing left to find.
            }
        }
        Ok(None)
    }

    /// The first batch with the greatest timestamp of those that reach beyond `start`.
    async fn latest_batch(
        &self,
        start: Offset,
        limit: Offset,
    ) -> Result<Option<Candidate>, ReadError> {
        let reader = &self.shared.reader;
        let mut best: Option<Candidate> = None;
        let mut from = start;
        let consider = |best: &mut Option<Candidate>, it: Candidate| {
            let is_later = best.is_none_or(|best| best.max_timestamp < it.max_timestamp);
            if start < it.end && it.max_timestamp != Timestamp::NONE && is_later {
                *best = Some(it);
            }
        };
        while from < limit {
            let tail_base = {
                let state = self.state();
                let tail_base = state.tail.as_ref().and_then(|it| it.base());
                if let (Some(base), Some(tail)) = (tail_base, &state.tail)
                    && base <= from
                {
                    for entry in tail.batches(limit) {
                        consider(&mut best, Candidate::from(&entry.batch));
                    }
                    return Ok(best);
                }
                tail_base.unwrap_or(state.committed_end)
            };
            let runs = reader.runs_from(self.partition(), from, PAGE_RUNS).await?;
            let before = from;
            for run in runs.iter().take_while(|run| run.base < tail_base) {
                if best.is_none_or(|best| best.max_timestamp < run.max_timestamp) {
                    let entry = reader.run_entry(run).await?;
                    for batch in &entry.batches {
                        consider(&mut best, Candidate::from(batch));
                    }
                }
                from = run.end;
            }
            if from == before {
                return Ok(best);
            }
        }
        Ok(best)
    }

    /// The records of the batch at `base`; `None` when it was deleted meanwhile.
    async fn open_batch(
        &self,
        base: Offset,
        limit: ReadLimit,
    ) -> Result<Option<(LeaderEpoch, Vec<Stamp>)>, ReadError> {
        // The log start may lie inside of the batch: from there on, it is the same batch.
        let from = base.max(self.offsets().log_start);
        let fetched = match self.read(from, 1, true, limit).await {
            Ok(fetched) => fetched,
            Err(ReadError::OffsetOutOfRange { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(bytes) = fetched.chunks.first() else { return Ok(None) };
        let malformed = |reason: String| ReadError::Corrupt {
            object: format!("the batch at offset {base}"),
            range: 0..bytes.len() as u64,
            reason,
        };
        let opened = open(bytes).map_err(|error| malformed(error.to_string()))?;
        Ok(Some(opened))
    }
}

fn open(bytes: &Bytes) -> Result<(LeaderEpoch, Vec<Stamp>), protocol::records::BatchError> {
    let opened = records(bytes, RECORDS_BYTES_MAX)?;
    let epoch = LeaderEpoch(opened.header().leader_epoch);
    let stamps = opened.map(|it| it.map(|it| Stamp { offset: it.offset, timestamp: it.timestamp }));
    Ok((epoch, stamps.collect::<Result<_, _>>()?))
}

fn found(record: &Stamp, leader_epoch: LeaderEpoch) -> TimestampedOffset {
    TimestampedOffset { offset: record.offset, timestamp: record.timestamp, leader_epoch }
}
