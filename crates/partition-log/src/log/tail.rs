//! The batches of a partition between its committed end and its end, and what memory still holds of
//! those before.
//!
//! Owns: the queue of batches, which of them are durable, committed, in memory. Pure.
//! Does not own: offsets beyond those of its batches (`log`), budgets (`engine`), reading the WAL.
//!
//! Invariants:
//! - T1 each batch starts where the one before ends;
//! - T2 committed batches come before durable ones, and those before the rest;
//! - T3 what is not durable is in memory, what is durable has a place in the WAL, and of what is
//!   committed only what memory holds is kept. Memory lets go of the oldest first, so what it does
//!   not hold is at the front.

use crate::segment::BatchEntry;
use crate::wal::WalPlace;
use bytes::Bytes;
use std::collections::VecDeque;
use vocabulary::{LeaderEpoch, Offset};

/// What a batch costs the budgets besides its own bytes: its entry here and in queues.
pub(crate) const ENTRY_BYTES: u64 = 192;

pub(crate) fn cost(length: u32) -> u64 {
    u64::from(length) + ENTRY_BYTES
}

#[derive(Debug, Clone)]
pub(crate) struct TailEntry {
    /// Its `position` has no meaning here.
    pub(crate) batch: BatchEntry,
    pub(crate) leader_epoch: LeaderEpoch,
    /// Set once durable.
    place: Option<WalPlace>,
    /// Of all batches of the tail up to and including this one, counted from its creation.
    cumulative: u64,
    bytes: Option<Bytes>,
}

/// Where a stretch of whole batches can be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    Memory(Bytes),
    /// Neighbours in one WAL segment are one piece.
    Wal(WalPlace),
}

/// Whole batches of `[base, end)`, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) pieces: Vec<Piece>,
    pub(crate) bytes: usize,
    pub(crate) base: Offset,
    pub(crate) end: Offset,
    pub(crate) is_transactional: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Tail {
    entries: VecDeque<TailEntry>,
    /// So many at the front are committed, and only cached here.
    committed: usize,
    /// So many at the front are durable, the committed ones among them.
    durable: usize,
    /// So many at the front are not in memory.
    absent: usize,
    cumulative: u64,
}

impl Tail {
    /// The first offset that is here; `None` when nothing is.
    pub(crate) fn base(&self) -> Option<Offset> {
        self.entries.front().map(|it| it.batch.base_offset)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether anything here still has to be flushed, now or once it is durable.
    pub(crate) fn is_flushed(&self) -> bool {
        self.committed == self.entries.len()
    }

    /// A new batch, in memory and not durable.
    pub(crate) fn push(&mut self, batch: BatchEntry, leader_epoch: LeaderEpoch, bytes: Bytes) {
        self.push_entry(batch, leader_epoch, None, Some(bytes));
    }

    /// A batch that recovery found in the WAL.
    pub(crate) fn push_recovered(
        &mut self,
        batch: BatchEntry,
        leader_epoch: LeaderEpoch,
        place: WalPlace,
    ) {
        assert_eq!(self.durable, self.entries.len(), "T2: recovery comes before appends");
        self.push_entry(batch, leader_epoch, Some(place), None);
        self.durable += 1;
        self.absent += 1;
    }

    fn push_entry(
        &mut self,
        batch: BatchEntry,
        leader_epoch: LeaderEpoch,
        place: Option<WalPlace>,
        bytes: Option<Bytes>,
    ) {
        if let Some(last) = self.entries.back() {
            assert_eq!(batch.base_offset, last.batch.end_offset(), "T1: the tail has no gaps");
        }
        self.cumulative += u64::from(batch.length);
        let cumulative = self.cumulative;
        self.entries.push_back(TailEntry { batch, leader_epoch, place, cumulative, bytes });
    }

    /// The first batch that was not durable is, at `place`. Returns it.
    pub(crate) fn mark_durable(&mut self, end: Offset, place: WalPlace) -> &TailEntry {
        let entry = self.entries.get_mut(self.durable);
        let entry = entry.expect("A2: only what was appended becomes durable");
        assert_eq!(entry.batch.end_offset(), end, "A2: batches become durable in offset order");
        assert_eq!(entry.batch.length, place.length, "A2: the WAL holds the batch that was given");
        entry.place = Some(place);
        self.durable += 1;
        entry
    }

    /// Everything below `end` is in committed runs. Keeps what memory holds of it.
    pub(crate) fn commit(&mut self, end: Offset) {
        let committed = self.entries.partition_point(|it| it.batch.end_offset() <= end);
        assert!(self.committed <= committed, "A3: the committed end moves forward");
        assert!(committed <= self.durable, "A2: only durable batches are flushed");
        self.committed = committed;
        self.drop_front(self.absent.min(committed));
    }

    /// Lets go of the bytes of the durable batch at `base`, the oldest that memory holds. False if it
    /// holds no such batch any more.
    pub(crate) fn demote(&mut self, base: Offset) -> bool {
        let oldest = self.entries.get_mut(self.absent);
        let Some(entry) = oldest.filter(|it| it.batch.base_offset == base) else { return false };
        assert!(self.absent < self.durable, "T3: what is not durable is in memory");
        entry.bytes = None;
        self.absent += 1;
        self.drop_front(self.absent.min(self.committed));
        true
    }

    /// Keeps nothing of what is committed below `end`: readers are to have it from the runs.
    pub(crate) fn let_go_below(&mut self, end: Offset) {
        let below = self.entries.partition_point(|it| it.batch.end_offset() <= end);
        let count = below.min(self.committed);
        self.absent = self.absent.max(count);
        self.drop_front(count);
    }

    fn drop_front(&mut self, count: usize) {
        if count == 0 {
            return;
        }
        self.entries.drain(..count);
        self.committed -= count;
        self.durable -= count;
        self.absent -= count;
        if self.entries.is_empty() {
            self.entries = VecDeque::new(); // An idle partition holds no room for batches.
        }
    }

    /// Costs of what is durable and not yet in committed runs.
    pub(crate) fn costs(&self) -> TailCosts {
        let unflushed = self.entries.range(self.committed..self.durable);
        TailCosts {
            unflushed: unflushed.map(|it| cost(it.batch.length)).sum(),
            unflushed_batches: (self.durable - self.committed) as u64,
        }
    }

    /// Bytes of whole batches from the one containing `from` up to `limit`.
    pub(crate) fn bytes_between(&self, from: Offset, limit: Offset) -> u64 {
        let first = self.entries.partition_point(|it| it.batch.end_offset() <= from);
        let after = self.entries.partition_point(|it| it.batch.end_offset() <= limit);
        if after <= first {
            return 0;
        }
        let (first, last) = (&self.entries[first], &self.entries[after - 1]);
        last.cumulative - first.cumulative + u64::from(first.batch.length)
    }

    /// Whole batches from the one containing `from` up to `limit`, at most `bytes_max` of them or
    /// the first one whatever its size (KIP-74) if `at_least_one`.
    pub(crate) fn stretch(
        &self,
        from: Offset,
        limit: Offset,
        bytes_max: usize,
        at_least_one: bool,
    ) -> Option<Stretch> {
        let first = self.entries.partition_point(|it| it.batch.end_offset() <= from);
        let mut stretch: Option<Stretch> = None;
        for entry in self.entries.range(first..) {
            let length = entry.batch.length as usize;
            let so_far = stretch.as_ref().map_or(0, |it| it.bytes);
            let fits = so_far + length <= bytes_max || (so_far == 0 && at_least_one);
            if limit < entry.batch.end_offset() || !fits {
                break;
            }
            let stretch = stretch.get_or_insert_with(|| Stretch {
                pieces: Vec::new(),
                bytes: 0,
                base: entry.batch.base_offset,
                end: entry.batch.base_offset,
                is_transactional: false,
            });
            add_piece(&mut stretch.pieces, entry);
            stretch.bytes += length;
            stretch.end = entry.batch.end_offset();
            stretch.is_transactional |= entry.batch.attributes.is_transactional();
        }
        stretch
    }

    /// The durable batches that no committed run covers, up to `bytes_max` and `batches_max` of them,
    /// but at least one.
    pub(crate) fn unflushed(&self, bytes_max: u64, batches_max: usize) -> Vec<TailEntry> {
        let mut bytes = 0;
        let mut entries = Vec::new();
        for entry in self.entries.range(self.committed..self.durable) {
            bytes += u64::from(entry.batch.length);
            if !entries.is_empty() && (bytes_max < bytes || batches_max <= entries.len()) {
                break;
            }
            entries.push(entry.clone());
        }
        entries
    }

    /// The WAL segment of the first batch that is durable but in no committed run.
    pub(crate) fn needed_sequence(&self) -> Option<u64> {
        let first = self.entries.range(self.committed..self.durable).next();
        first.and_then(|it| it.place).map(|it| it.sequence)
    }

    /// Batches below `limit`, in offset order.
    pub(crate) fn batches(&self, limit: Offset) -> impl Iterator<Item = &TailEntry> {
        self.entries.iter().take_while(move |it| it.batch.end_offset() <= limit)
    }

    /// Batches from the one that holds `from` on, below `limit`, in offset order.
    pub(crate) fn batches_between(
        &self,
        from: Offset,
        limit: Offset,
    ) -> impl Iterator<Item = &TailEntry> {
        let first = self.entries.partition_point(|it| it.batch.end_offset() <= from);
        self.entries.range(first..).take_while(move |it| it.batch.end_offset() <= limit)
    }

    /// Everything that no committed run covers, durable or not, in offset order.
    pub(crate) fn uncommitted(&self) -> impl Iterator<Item = &TailEntry> {
        self.entries.range(self.committed..)
    }
}

#[cfg(test)]
impl Tail {
    pub(crate) fn heap_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<TailEntry>()
    }
}

/// What a tail weighs in the budgets of its engine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TailCosts {
    pub(crate) unflushed: u64,
    pub(crate) unflushed_batches: u64,
}

impl TailEntry {
    pub(crate) fn piece(&self) -> Piece {
        match (&self.bytes, self.place) {
            (Some(bytes), _) => Piece::Memory(bytes.clone()),
            (None, Some(place)) => Piece::Wal(place),
            (None, None) => unreachable!("T3: what is not durable is in memory"),
        }
    }
}

fn add_piece(pieces: &mut Vec<Piece>, entry: &TailEntry) {
    let piece = entry.piece();
    if let (Some(Piece::Wal(last)), Piece::Wal(next)) = (pieces.last_mut(), &piece) {
        let follows = last.sequence == next.sequence
            && last.position + u64::from(last.length) == next.position;
        if let (true, Some(length)) = (follows, last.length.checked_add(next.length)) {
            last.length = length;
            return;
        }
    }
    pieces.push(piece);
}

#[cfg(test)]
mod tests;
