//! The aborted transactions of a range of offsets, which read_committed clients filter by (KIP-98).
//!
//! Owns: finding the markers that decide what lies in a range. Does not own: the markers themselves,
//! which the indexes of segments and the tail have with where their transactions started, wherever the
//! run lies: in a log, adopted, flushed or merged (A8).
//!
//! A transaction is known by its marker, which may be far behind its records. So the search goes on
//! behind the range until every producer that wrote transactional batches in it has its marker; up to
//! the last stable offset each of them has one. It reads the indexes of runs, never a payload.
//!
//! Key compaction asks the same of producers that it met: how the transaction ended that a run's end cuts.

use super::spans::Class;
use super::{Fetched, LOOKS_MAX, ReadError};
use crate::log::{LogOffsets, PartitionLog};
use crate::segment::BatchEntry;
use protocol::records::batches;
use std::collections::{HashMap, HashSet};
use vocabulary::{Offset, ProducerId};

/// A transaction that its producer aborted, in one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTransaction {
    pub producer: ProducerId,
    /// Of its first record.
    pub first_offset: Offset,
    /// Of its marker.
    pub last_offset: Offset,
}

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ending {
    /// Of its marker.
    pub(crate) offset: Offset,
    pub(crate) is_abort: bool,
}

/// What was seen of `[from, to)` and behind it so far.
#[derive(Debug)]
struct Search {
    to: Offset,
    /// Who wrote to the range and was not decided yet.
    undecided: HashSet<i64>,
    found: Vec<AbortedTransaction>,
    /// Where those wrote last of whom batches were read: the index may have lost them to compaction since.
    read: HashMap<i64, Offset>,
    /// How those were decided who had written.
    endings: HashMap<i64, Ending>,
    class: Class,
    /// The next offset to look at.
    next: Offset,
}

enum Next {
    Done,
    /// Records that were read may be gone, and how their transactions ended with them.
    Deleted,
    /// What follows lies in committed runs.
    Committed,
}

impl Search {
    fn new(from: Offset, to: Offset) -> Search {
        Search {
            to,
            undecided: HashSet::new(),
            found: Vec::new(),
            read: HashMap::new(),
            endings: HashMap::new(),
            class: Class::Tail,
            next: from,
        }
    }

    fn is_done(&self) -> bool {
        self.to <= self.next && self.undecided.is_empty()
    }

    /// Takes in batches in offset order until they end or nothing is left to find.
    fn see<'a>(&mut self, batches: impl IntoIterator<Item = &'a BatchEntry>) {
        for batch in batches {
            if self.is_done() {
                return;
            }
            if batch.end_offset() <= self.next {
                continue;
            }
            self.next = batch.end_offset();
            match batch.marker {
                Some(marker) => {
                    let last = self.read.get(&batch.producer_id);
                    let is_behind = last.is_none_or(|it| *it < batch.base_offset);
                    if is_behind && self.undecided.remove(&batch.producer_id) {
                        let (offset, is_abort) = (batch.base_offset, marker.is_abort());
                        self.endings.insert(batch.producer_id, Ending { offset, is_abort });
                    }
                    let first = marker.first_offset.filter(|it| *it < self.to);
                    if let (true, Some(first_offset)) = (marker.is_abort(), first) {
                        let producer = ProducerId(batch.producer_id);
                        let last_offset = batch.base_offset;
                        let found = AbortedTransaction { producer, first_offset, last_offset };
                        self.found.push(found);
                    }
                }
                None if batch.attributes.is_transactional() && batch.base_offset < self.to => {
                    self.undecided.insert(batch.producer_id);
                }
                None => (),
            }
        }
    }
}

impl PartitionLog {
    /// The aborted transactions of what was read from `from` on, by their markers, which are durable.
    /// Complete if that was read up to the last stable offset at most, also of batches that compaction has
    /// taken out of the index since.
    ///
    /// # Errors
    ///
    /// [`ReadError::OffsetOutOfRange`] if records were deleted meanwhile: how their transactions ended
    /// cannot be told, so nothing that was read of them may be served. Otherwise as of a read.
    pub async fn aborted_among(
        &self,
        from: Offset,
        fetched: &Fetched,
    ) -> Result<Vec<AbortedTransaction>, ReadError> {
        // A read has the indexes at hand and says at no cost whether there is anything to ask: a partition without
        // transactions is spared a look at the header of every batch.
        if !fetched.is_transactional {
            return Ok(Vec::new());
        }
        let mut search = Search::new(from, fetched.end);
        for (header, _) in fetched.chunks.iter().cloned().flat_map(batches).flatten() {
            if header.attributes.is_transactional() && !header.attributes.is_control() {
                search.read.insert(header.producer_id, header.base_offset);
            }
        }
        search.undecided.extend(search.read.keys());
        if from < fetched.end {
            self.search(&mut search).await?;
        }
        Ok(search.found)
    }

    /// Likewise, of all that the index has in `[from, to)`.
    #[cfg(test)]
    pub(crate) async fn aborted_transactions(
        &self,
        from: Offset,
        to: Offset,
    ) -> Result<Vec<AbortedTransaction>, ReadError> {
        let mut search = Search::new(from, to);
        if from < to {
            self.search(&mut search).await?;
        }
        Ok(search.found)
    }

    /// The first marker of each of these producers from `from` on, if it is durable; without those that
    /// have none. Who has written below `from` has one if `from` is not above the last stable offset.
    ///
    /// # Errors
    ///
    /// As of [`PartitionLog::aborted_among`].
    pub(crate) async fn endings(
        &self,
        from: Offset,
        producers: HashSet<i64>,
    ) -> Result<HashMap<i64, Ending>, ReadError> {
        let search = Search::new(from, from);
        let mut search = Search { undecided: producers, class: Class::Lagging, ..search };
        self.search(&mut search).await?;
        Ok(search.endings)
    }

    async fn search(&self, search: &mut Search) -> Result<(), ReadError> {
        let from = search.next;
        let mut looks = 0;
        while !search.is_done() {
            match self.see_tail(search) {
                Next::Done => break,
                Next::Deleted => return Err(self.deleted(from)),
                Next::Committed => (),
            }
            if !self.see_run(search).await? {
                looks += 1;
                if looks == LOOKS_MAX {
                    self.shared.metrics.read_failures.inc();
                    return Err(ReadError::Unavailable);
                }
            }
        }
        Ok(())
    }

    fn deleted(&self, asked: Offset) -> ReadError {
        let LogOffsets { log_start, end, .. } = self.offsets();
        ReadError::OffsetOutOfRange { asked, log_start, end }
    }

    fn see_tail(&self, search: &mut Search) -> Next {
        let state = self.state();
        if search.next < state.log_start {
            return Next::Deleted;
        }
        if state.high_watermark <= search.next {
            return Next::Done;
        }
        match &state.tail {
            Some(tail) if tail.base().is_some_and(|base| base <= search.next) => {
                let durable = tail.batches_between(search.next, state.high_watermark);
                search.see(durable.map(|it| &it.batch));
                Next::Done
            }
            _ => Next::Committed,
        }
    }

    /// False if the run has moved.
    async fn see_run(&self, search: &mut Search) -> Result<bool, ReadError> {
        let (reader, partition) = (&self.shared.reader, self.partition());
        let Some(run) = reader.run_at(partition, search.next).await? else {
            self.learn_log_start().await?;
            return Ok(false);
        };
        let Some(entry) = reader.open_run(&run, search.class).await? else { return Ok(false) };
        let first = entry.batches.partition_point(|it| it.end_offset() <= search.next);
        search.see(&entry.batches[first..]);
        if !search.is_done() {
            search.next = search.next.max(run.end);
        }
        Ok(true)
    }
}
