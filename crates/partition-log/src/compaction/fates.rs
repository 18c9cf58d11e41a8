//! How the transactions of a partition ended, batch by batch, from the log start on (KIP-98).
//!
//! Owns: which batches are of aborted transactions, which markers still decide about a batch.
//! Does not own: finding markers behind a run (`read::aborted`), what becomes of a batch (`clean`).
//!
//! Everything is told from the indexes: the entry of a marker says how it decided. A batch is decided by
//! the next marker of its producer. That one may lie far behind the run; it is looked up once, and then
//! carried along until its run comes.
//!
//! A marker is spent when none of its transaction's batches was met below it. As a pass starts at the log
//! start, there is none then.
//!
//! Memory: two entries at most for each producer with a transaction across the end of a run.

use super::CompactionError;
use crate::log::PartitionLog;
use crate::read::{Ending, ReadError};
use crate::run_index::RunIndexError;
use crate::segment::{BatchEntry, RunEntry};
use std::collections::{HashMap, HashSet};
use vocabulary::Offset;

/// What a batch is to compaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Its records count: they are of no transaction, or of a committed one.
    Counts,
    /// Its transaction was aborted: no reader of committed records may see them.
    Aborted,
    /// A marker of batches that are there, or a control batch that is not understood.
    Deciding,
    /// A marker of nothing that is left.
    Spent,
}

/// What is known behind the runs that were asked for. A clone goes back to where it was made.
#[derive(Debug, Clone, Default)]
pub(super) struct Fates {
    /// The next marker of producers whose transaction reaches beyond the last run.
    endings: HashMap<i64, Ending>,
    /// Who has batches that no marker followed yet.
    unfinished: HashSet<i64>,
}

impl Fates {
    /// One for each batch of `run`, which follows the one asked for before; those from `below` on, which
    /// is not above the last stable offset, do not matter. `None`: not all below is decided.
    pub(super) async fn of(
        &mut self,
        log: &PartitionLog,
        run: &RunEntry,
        below: Offset,
    ) -> Result<Option<Vec<Fate>>, CompactionError> {
        self.endings.retain(|_, it| run.end <= it.offset);
        let open = undecided(&run.batches, below);
        let unknown: HashSet<i64> =
            open.iter().copied().filter(|it| !self.endings.contains_key(it)).collect();
        if !unknown.is_empty() {
            let wanted = unknown.len();
            let found = log.endings(run.end, unknown).await.map_err(unavailable)?;
            if found.len() < wanted {
                return Ok(None);
            }
            self.endings.extend(found);
        }
        Ok(Some(self.tell(&run.batches)))
    }

    fn tell(&mut self, batches: &[BatchEntry]) -> Vec<Fate> {
        let mut next: HashMap<i64, bool> =
            self.endings.iter().map(|(id, it)| (*id, it.is_abort)).collect();
        let mut fates = vec![Fate::Counts; batches.len()];
        for (batch, fate) in batches.iter().zip(&mut fates).rev() {
            match batch.marker {
                Some(marker) => {
                    next.insert(batch.producer_id, marker.is_abort());
                }
                None if is_within(batch) && next.get(&batch.producer_id) == Some(&true) => {
                    *fate = Fate::Aborted;
                }
                None => (),
            }
        }
        for (batch, fate) in batches.iter().zip(&mut fates) {
            if is_within(batch) {
                self.unfinished.insert(batch.producer_id);
            } else if batch.attributes.is_control() {
                let is_deciding =
                    self.unfinished.remove(&batch.producer_id) || batch.marker.is_none();
                *fate = if is_deciding { Fate::Deciding } else { Fate::Spent };
            }
        }
        fates
    }
}

/// Records of a transaction.
fn is_within(batch: &BatchEntry) -> bool {
    batch.attributes.is_transactional() && !batch.attributes.is_control()
}

/// Who has batches below `below` that no marker among these decides.
fn undecided(batches: &[BatchEntry], below: Offset) -> HashSet<i64> {
    let (mut decided, mut undecided) = (HashSet::new(), HashSet::new());
    for batch in batches.iter().rev() {
        if batch.marker.is_some() {
            decided.insert(batch.producer_id);
        } else if is_within(batch)
            && batch.base_offset < below
            && !decided.contains(&batch.producer_id)
        {
            undecided.insert(batch.producer_id);
        }
    }
    undecided
}

/// Whatever it is, another look at the partition tells.
fn unavailable(error: ReadError) -> CompactionError {
    RunIndexError::Unavailable { reason: error.to_string() }.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::MarkerEntry;
    use proptest::prelude::*;
    use protocol::records::{BatchBuilder, Compression, EndTxnMarker, TransactionResult};
    use vocabulary::{ProducerId, Timestamp};

    /// What a batch is, of a producer.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Is {
        Within,
        Commit,
        Abort,
        Plain,
    }

    fn entry(at: usize, (producer, is): (i64, Is)) -> BatchEntry {
        let result = match is {
            Is::Abort => TransactionResult::Abort,
            _ => TransactionResult::Commit,
        };
        let marker = EndTxnMarker { result, coordinator_epoch: 0 };
        let data = |builder: BatchBuilder| {
            let mut builder = builder;
            builder.push(Timestamp(5), Some(b"k"), Some(b"v"), &[]);
            builder.build()
        };
        let plain = BatchBuilder::new(Compression::None, Some((ProducerId(producer), 0, 0)));
        let (batch, marker) = match is {
            Is::Within => (data(plain.transactional()), None),
            Is::Plain => (data(plain), None),
            Is::Commit | Is::Abort => {
                let entry = MarkerEntry { marker, first_offset: None };
                (marker.batch(ProducerId(producer), 0, Timestamp(5)), Some(entry))
            }
        };
        let mut batch = batch;
        batch.stamp(Offset(at as i64), vocabulary::LeaderEpoch(0));
        BatchEntry::of(&batch.header, marker, 0, 100)
    }

    fn entries(of: &[(i64, Is)]) -> Vec<BatchEntry> {
        of.iter().enumerate().map(|(at, it)| entry(at, *it)).collect()
    }

    /// By looking at everything for each batch.
    fn naive(of: &[(i64, Is)]) -> Vec<Fate> {
        let is_marker = |is| matches!(is, Is::Commit | Is::Abort);
        let fate = |(at, (producer, is)): (usize, &(i64, Is))| {
            let own = |it: &&(i64, Is)| it.0 == *producer && it.1 != Is::Plain;
            match is {
                Is::Plain => Fate::Counts,
                Is::Within => {
                    let next = of[at..].iter().find(|it| own(it) && is_marker(it.1));
                    match next.map(|it| it.1) {
                        Some(Is::Abort) => Fate::Aborted,
                        _ => Fate::Counts,
                    }
                }
                Is::Commit | Is::Abort => {
                    let before = of[..at].iter().rev().find(own);
                    match before.map(|it| it.1) {
                        Some(Is::Within) => Fate::Deciding,
                        _ => Fate::Spent,
                    }
                }
            }
        };
        of.iter().enumerate().map(fate).collect()
    }

    proptest! {
        #[test]
        fn runs_tell_what_the_whole_log_tells(
            of in prop::collection::vec((0i64..4, 0usize..4), 1..60),
            cuts in prop::collection::vec(0usize..60, 0..6),
        ) {
            let kinds = [Is::Within, Is::Commit, Is::Abort, Is::Plain];
            let of: Vec<(i64, Is)> = of.into_iter().map(|(id, is)| (id, kinds[is])).collect();
            let batches = entries(&of);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|it| it.min(of.len())).collect();
            cuts.extend([0, of.len()]);
            cuts.sort_unstable();
            let mut fates = Fates::default();
            let mut told = Vec::new();
            for pair in cuts.windows(2) {
                // As the log would tell the endings behind the run.
                let end = Offset(pair[1] as i64);
                fates.endings.retain(|_, it| end <= it.offset);
                for id in undecided(&batches[pair[0]..pair[1]], Offset(i64::MAX)) {
                    let is_it = |it: &&BatchEntry| it.producer_id == id && it.marker.is_some();
                    if let Some(found) = batches[pair[1]..].iter().find(is_it) {
                        let is_abort = found.marker.is_some_and(|it| it.is_abort());
                        let ending = Ending { offset: found.base_offset, is_abort };
                        let known = fates.endings.insert(id, ending);
                        prop_assert!(known.is_none_or(|it| it == ending), "what is carried along is right");
                    }
                }
                told.extend(fates.tell(&batches[pair[0]..pair[1]]));
            }
            prop_assert_eq!(told, naive(&of));
        }
    }

    #[test]
    fn who_has_no_marker_behind_is_undecided() {
        let of = entries(&[(1, Is::Within), (2, Is::Within), (1, Is::Commit), (3, Is::Within)]);
        assert_eq!(undecided(&of, Offset(9)), HashSet::from([2, 3]));
        assert_eq!(undecided(&of, Offset(3)), HashSet::from([2]));
    }
}
