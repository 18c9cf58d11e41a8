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
//! What was read may be older than the indexes: key compaction can have taken the records of an aborted
//! transaction since, and at last its marker. A marker says where its transaction started, so it is not
//! taken for that of an earlier one; if the right one is gone, nothing of the read may be served. The next
//! read sees what is there now.
//!
//! Key compaction asks the same of producers that it met: how the transaction ended that a run's end cuts.

use super::spans::Class;
use super::{Fetched, LOOKS_MAX, ReadError};
use crate::log::{LogOffsets, PartitionLog};
use crate::segment::{BatchEntry, MarkerEntry};
use protocol::records::{BatchHeader, batches};
use std::collections::{HashMap, HashSet, VecDeque};
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
    /// By producer, the transactions that batches were read of and that no marker has decided yet: the index
    /// may have lost the batches to compaction since. No more than batches that were read.
    read: HashMap<i64, VecDeque<ReadOf>>,
    /// The index may have lost the marker, too.
    is_gone: bool,
    /// How those were decided who had written.
    endings: HashMap<i64, Ending>,
    class: Class,
    /// The next offset to look at.
    next: Offset,
}

/// What was read of a transaction.
#[derive(Debug, Clone, Copy)]
struct ReadOf {
    /// Where its first batch starts
    first: Offset,
    /// and its last one.
    last: Offset,
    /// Its marker was read as well.
    is_ended: bool,
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
            is_gone: false,
            endings: HashMap::new(),
            class: Class::Tail,
            next: from,
        }
    }

    fn is_done(&self) -> bool {
        self.is_gone || self.to <= self.next && self.undecided.is_empty()
    }

    /// Takes note of a batch that was read, in offset order.
    fn was_read(&mut self, header: &BatchHeader) {
        // Nobody decides about what has no producer; the last stable offset does not wait for it.
        if !header.attributes.is_transactional() || header.producer_id < 0 {
            return;
        }
        if header.attributes.is_control() {
            let open = self.read.get_mut(&header.producer_id).and_then(|it| it.back_mut());
            return open.into_iter().for_each(|it| it.is_ended = true);
        }
        self.undecided.insert(header.producer_id);
        let (first, last) = (header.base_offset, header.base_offset);
        let transactions = self.read.entry(header.producer_id).or_default();
        match transactions.back_mut().filter(|it| !it.is_ended) {
            Some(open) => open.last = last,
            None => transactions.push_back(ReadOf { first, last, is_ended: false }),
        }
    }

    /// Takes in the marker at `at` for what was read of its producer. Whether nothing of that is left behind it.
    fn decide(&mut self, producer: i64, at: Offset, marker: MarkerEntry) -> bool {
        let Some(transactions) = self.read.get_mut(&producer) else { return true };
        while let Some(it) = transactions.pop_front_if(|it| it.last < at) {
            self.is_gone |= marker.first_offset.is_none_or(|first| it.first < first);
        }
        transactions.is_empty()
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
                    let is_last = self.decide(batch.producer_id, batch.base_offset, marker);
                    if is_last && self.undecided.remove(&batch.producer_id) {
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
                None if is_decidable(batch) && batch.base_offset < self.to => {
                    self.undecided.insert(batch.producer_id);
                }
                None => (),
            }
        }
    }
}

/// Whether a marker decides about the records of this batch.
fn is_decidable(batch: &BatchEntry) -> bool {
    batch.attributes.is_transactional() && 0 <= batch.producer_id
}

impl PartitionLog {
    /// The aborted transactions of what was read from `from` on, by their markers, which are durable.
    /// Complete if that was read up to the last stable offset at most, also of batches that compaction has
    /// taken out of the index since.
    ///
    /// # Errors
    ///
    /// [`ReadError::OffsetOutOfRange`] if records were deleted meanwhile: how their transactions ended
    /// cannot be told, so nothing that was read of them may be served. [`ReadError::Unavailable`] if
    /// compaction has taken a marker that decides about what was read: read again. Otherwise as of a read.
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
            search.was_read(&header);
        }
        if from < fetched.end {
            self.search(&mut search).await?;
        }
        // Of what was read, everything below the last stable offset was decided.
        if search.is_gone || search.read.values().any(|it| !it.is_empty()) {
            let partition = self.partition();
            tracing::debug!(%partition, %from, "read from runs of before two compactions");
            self.shared.reader.forget(partition);
            self.shared.metrics.read_failures.inc();
            return Err(ReadError::Unavailable);
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
