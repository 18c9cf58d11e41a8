//! Offsets by time (KIP-79, KIP-734): steps narrow it down to a run, its index to a batch, and the
//! batch tells the record.
//!
//! Owns: which batch to open, over committed runs and the tail. Does not own: reading it (`read`), the
//! steps (`times`).
//!
//! Questions to the metadata: the first lookup of a partition reads its run descriptions once, page by
//! page; later ones read those of runs that came since, and one page around the run they look for.

use super::times::Times;
use super::{ReadError, TimestampedOffset};
use crate::log::{PartitionLog, ReadLimit};
use crate::run_index::RunDescription;
use crate::segment::{BatchEntry, RunEntry};
use bytes::Bytes;
use protocol::records::records;
use std::sync::Arc;
use vocabulary::{LeaderEpoch, Offset, Timestamp};

/// The bound of one batch once decompressed, as produce validation applies it.
const RECORDS_BYTES_MAX: usize = 1 << 30;

/// Run descriptions per question to the metadata, while looking for one run.
const PAGE_RUNS: usize = 64;

/// Run descriptions per question to the metadata, while reading all of them.
const SCAN_RUNS: usize = 1024;

/// A batch worth opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Candidate {
    base: Offset,
    end: Offset,
    max_timestamp: Timestamp,
}

enum TailFrom {
    /// The batches that the tail has from there on, and maybe some before.
    Here(Vec<Candidate>),
    /// The tail starts later: up to there are committed runs.
    Behind(Offset),
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
        self.make_known(limit).await?;
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

    /// The record with the greatest timestamp of all below the high watermark, the first of them if there are several;
    /// `None` when no record has one, and when that one is not below the limit: then, as in Kafka, no other is told in
    /// its place.
    pub async fn offset_of_max_timestamp(
        &self,
        limit: ReadLimit,
    ) -> Result<Option<TimestampedOffset>, ReadError> {
        let latest = self.latest_record().await?;
        self.make_known(limit).await?;
        let end = self.offsets().limit(limit);
        Ok(latest.filter(|it| it.offset < end))
    }

    async fn latest_record(&self) -> Result<Option<TimestampedOffset>, ReadError> {
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
        // Only what follows the run of the log start is in the steps: of that run, some may be gone.
        if let Some(run) = self.committed_run(from, limit).await? {
            if let Some(found) = self.late_batch(&run, from, limit, target).await? {
                return Ok(Some(found));
            }
            let times = self.times(run.end).await?;
            let found = times.bracket(target).map(|it| it.0);
            from = found.unwrap_or(times.end.max(run.end));
        }
        while from < limit {
            let tail_base = match self.tail_from(from, limit) {
                TailFrom::Here(candidates) => {
                    let late = |it: &Candidate| from < it.end && target <= it.max_timestamp;
                    return Ok(candidates.into_iter().find(late));
                }
                TailFrom::Behind(base) => base,
            };
            let runs = reader.runs_from(self.partition(), from, PAGE_RUNS).await?;
            let before = from;
            for run in runs.iter().take_while(|run| run.base < limit.min(tail_base)) {
                if let Some(found) = self.late_batch(run, from, limit, target).await? {
                    return Ok(Some(found));
                }
                from = run.end;
            }
            if from == before {
                return Ok(None); // Deleted meanwhile: there is nothing left to find.
            }
        }
        Ok(None)
    }

    /// The first batch of a run that reaches beyond `from`, starts below `limit` and has a record at
    /// `target` or later.
    async fn late_batch(
        &self,
        run: &RunDescription,
        from: Offset,
        limit: Offset,
        target: Timestamp,
    ) -> Result<Option<Candidate>, ReadError> {
        if run.max_timestamp < target {
            return Ok(None);
        }
        let entry = self.shared.reader.run_entry(run).await?;
        let late = |it: &&BatchEntry| {
            from < it.end_offset() && it.base_offset < limit && target <= it.max_timestamp
        };
        Ok(entry.batches.iter().find(late).map(Candidate::from))
    }

    /// The first batch with the greatest timestamp of those that reach beyond `start`.
    async fn latest_batch(
        &self,
        start: Offset,
        limit: Offset,
    ) -> Result<Option<Candidate>, ReadError> {
        let mut best: Option<Candidate> = None;
        let mut behind = start;
        if let Some(run) = self.committed_run(start, limit).await? {
            let entry = self.shared.reader.run_entry(&run).await?;
            consider_all(&mut best, start, with_records(&entry));
            let times = self.times(run.end).await?;
            behind = times.end.max(run.end);
            let step = times.latest();
            let later =
                |best: Candidate| step.is_some_and(|it| best.max_timestamp < it.max_timestamp);
            if let Some(step) = step.filter(|_| best.is_none_or(later))
                && let Some(run) = self.committed_run(step.base, limit).await?
            {
                let entry = self.shared.reader.run_entry(&run).await?;
                consider_all(&mut best, start, with_records(&entry));
            }
            if best.is_none_or(later) {
                // The record that made the step is compacted away: any run may have the latest now.
                best = self.latest_committed(best, (start, run.end), behind).await?;
            }
        }
        match self.tail_from(behind, limit) {
            TailFrom::Here(candidates) => consider_all(&mut best, start, candidates.into_iter()),
            TailFrom::Behind(_) => (),
        }
        Ok(best)
    }

    /// The best of all that reaches beyond `start`, of the runs from `next` to `end` and what is known
    /// already. Only indexes of runs that may have a later one are read.
    async fn latest_committed(
        &self,
        mut best: Option<Candidate>,
        (start, mut next): (Offset, Offset),
        end: Offset,
    ) -> Result<Option<Candidate>, ReadError> {
        let reader = &self.shared.reader;
        while next < end {
            let runs = reader.runs_from(self.partition(), next, SCAN_RUNS).await?;
            for run in runs.iter().take_while(|it| it.base < end) {
                if best.is_none_or(|it| it.max_timestamp < run.max_timestamp) {
                    let entry = reader.run_entry(run).await?;
                    consider_all(&mut best, start, with_records(&entry));
                }
            }
            match runs.last() {
                Some(last) if next < last.end => next = last.end,
                Some(_) | None => break, // Deleted meanwhile.
            }
        }
        Ok(best)
    }

    /// The committed run that holds `offset`; `None` if the tail does, or nothing.
    async fn committed_run(
        &self,
        offset: Offset,
        limit: Offset,
    ) -> Result<Option<RunDescription>, ReadError> {
        if limit <= offset || self.state().committed_end <= offset {
            return Ok(None);
        }
        self.shared.reader.run_at(self.partition(), offset).await
    }

    /// What follows `from` in the tail, if the tail has it.
    fn tail_from(&self, from: Offset, limit: Offset) -> TailFrom {
        let state = self.state();
        let tail_base = state.tail.as_ref().and_then(|it| it.base());
        match (tail_base, &state.tail) {
            (Some(base), Some(tail)) if base <= from => {
                let batches = tail.batches(limit);
                TailFrom::Here(batches.map(|it| Candidate::from(&it.batch)).collect())
            }
            _ => TailFrom::Behind(tail_base.unwrap_or(state.committed_end)),
        }
    }

    /// Where the greatest timestamp grows, from `start` to the committed end. Whoever asks at the same
    /// time finds out the same.
    async fn times(&self, start: Offset) -> Result<Arc<Times>, ReadError> {
        let reader = &self.shared.reader;
        let committed_end = self.state().committed_end;
        let known = reader.times.get(self.partition());
        let (mut times, rest) = match known {
            Some(known) if known.start == start && committed_end <= known.end => return Ok(known),
            Some(known) if known.start == start => ((*known).clone(), None),
            Some(known) if known.start < start => known.restarted(start),
            _ => (Times::starting_at(start), None),
        };
        if let Some(rest) = rest {
            self.add_runs(&mut times, rest.start).await?;
            times.append(rest);
        }
        self.add_runs(&mut times, committed_end).await?;
        let times = Arc::new(times);
        reader.times.insert(self.partition(), Arc::clone(&times));
        Ok(times)
    }

    async fn add_runs(&self, times: &mut Times, end: Offset) -> Result<(), ReadError> {
        let reader = &self.shared.reader;
        while times.end < end {
            let before = times.end;
            let runs = reader.runs_from(self.partition(), before, SCAN_RUNS).await?;
            runs.iter().take_while(|it| it.base < end).for_each(|run| times.add(run));
            if times.end == before {
                break; // Deleted meanwhile.
            }
        }
        Ok(())
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

/// Compaction leaves batches without any: they tell offsets and have nothing to be found.
fn with_records(entry: &RunEntry) -> impl Iterator<Item = Candidate> {
    entry.batches.iter().filter(|it| 0 < it.record_count).map(Candidate::from)
}

fn open(bytes: &Bytes) -> Result<(LeaderEpoch, Vec<Stamp>), protocol::records::BatchError> {
    let opened = records(bytes, RECORDS_BYTES_MAX)?;
    let epoch = LeaderEpoch(opened.header().leader_epoch);
    let stamps = opened.map(|it| it.map(|it| Stamp { offset: it.offset, timestamp: it.timestamp }));
    Ok((epoch, stamps.collect::<Result<_, _>>()?))
}

/// Keeps the latest of all that reach beyond `start`, the first of them if there are several.
fn consider_all(
    best: &mut Option<Candidate>,
    start: Offset,
    candidates: impl Iterator<Item = Candidate>,
) {
    for it in candidates {
        let is_later = best.is_none_or(|best| best.max_timestamp < it.max_timestamp);
        if start < it.end && it.max_timestamp != Timestamp::NONE && is_later {
            *best = Some(it);
        }
    }
}

fn found(record: &Stamp, leader_epoch: LeaderEpoch) -> TimestampedOffset {
    TimestampedOffset { offset: record.offset, timestamp: record.timestamp, leader_epoch }
}
