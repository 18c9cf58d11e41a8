//! Run descriptions: what the metadata says lies where, a window of neighbours at a time.
//!
//! Owns: which windows are kept, how large the next question is.
//! Does not own: what the descriptions mean (`reader`), the metadata (`run_index`).
//!
//! A description stays right for as long as its segment exists, merged or not, so windows are kept
//! until the segment of a run turns out to be gone. A reader that walks off the end of a window gets
//! a large one next; a reader that comes from nowhere a small one.
//!
//! What is asked for while something is forgotten may be of before, so it is answered and not kept.

use crate::run_index::{RunDescription, RunIndex, RunIndexError};
use quick_cache::sync::Cache;
use std::sync::{Arc, Mutex, MutexGuard};
use vocabulary::{Offset, Partition};

/// Run descriptions asked for by a reader that comes from nowhere.
const RUNS_FIRST: usize = 16;

/// Run descriptions asked for by a reader that walks on.
const RUNS_SEQUENTIAL: usize = 256;

/// Windows of one partition: readers in so many places share its descriptions.
const WINDOWS_PER_PARTITION_MAX: usize = 4;

/// Run descriptions kept, over all partitions, in bytes.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;

/// What a partition costs besides its descriptions.
const ENTRY_BYTES: u64 = 256;

type Window = Arc<[RunDescription]>;

#[derive(Clone)]
struct WindowsWeight;

impl quick_cache::Weighter<Partition, Arc<[Window]>> for WindowsWeight {
    fn weight(&self, _: &Partition, windows: &Arc<[Window]>) -> u64 {
        let runs: usize = windows.iter().map(|it| size_of_val(&**it)).sum();
        runs as u64 + ENTRY_BYTES
    }
}

pub(super) struct Windows {
    runs: Arc<dyn RunIndex>,
    /// Of each partition, the youngest window first.
    kept: Cache<Partition, Arc<[Window]>, WindowsWeight>,
    /// How often something was forgotten; one count for all partitions, as that is rare and costs one question more.
    /// A leaf lock, held for map steps where windows are added or removed.
    forgotten: Mutex<u64>,
}

impl Windows {
    pub(super) fn new(runs: Arc<dyn RunIndex>) -> Windows {
        let items = 4096;
        let kept = Cache::with_weighter(items, CACHE_BYTES, WindowsWeight);
        Windows { runs, kept, forgotten: Mutex::new(0) }
    }

    /// The committed run that holds `offset`; `None` when the metadata has none.
    pub(super) async fn run_at(
        &self,
        partition: Partition,
        offset: Offset,
    ) -> Result<Option<RunDescription>, RunIndexError> {
        let (count, forgotten) = {
            let kept = self.kept.get(&partition);
            let windows = kept.as_deref().unwrap_or_default();
            if let Some(run) = windows.iter().find_map(|it| find(it, offset)) {
                return Ok(Some(run));
            }
            let ends_here = |it: &Window| it.last().is_some_and(|run| run.end == offset);
            let count = if windows.iter().any(ends_here) { RUNS_SEQUENTIAL } else { RUNS_FIRST };
            (count, *self.forgotten())
        };
        let window: Window = self.runs.runs_from(partition, offset, count).await?.into();
        let found = find(&window, offset);
        if found.is_some() {
            self.keep(partition, offset, window, forgotten);
        }
        Ok(found)
    }

    /// Unless something was forgotten since it was asked for, or somebody else has asked, too.
    fn keep(&self, partition: Partition, asked: Offset, window: Window, forgotten_before: u64) {
        let forgotten = self.forgotten();
        let kept = self.kept.get(&partition);
        let windows = kept.as_deref().unwrap_or_default();
        let is_known = windows.iter().any(|it| find(it, asked).is_some());
        if *forgotten == forgotten_before && !is_known {
            let older = windows.iter().take(WINDOWS_PER_PARTITION_MAX - 1).cloned();
            self.kept.insert(partition, std::iter::once(window).chain(older).collect());
        }
    }

    /// As the metadata has them now, for scans.
    pub(super) async fn runs_from(
        &self,
        partition: Partition,
        offset: Offset,
        count_max: usize,
    ) -> Result<Vec<RunDescription>, RunIndexError> {
        self.runs.runs_from(partition, offset, count_max).await
    }

    /// What the windows say is not what is to be read from now on.
    pub(super) fn forget(&self, partition: Partition) {
        let mut forgotten = self.forgotten();
        *forgotten += 1;
        self.kept.remove(&partition);
    }

    fn forgotten(&self) -> MutexGuard<'_, u64> {
        self.forgotten.lock().expect("no holder of this leaf lock panics: map steps only")
    }
}

fn find(window: &Window, offset: Offset) -> Option<RunDescription> {
    let at = window.partition_point(|run| run.end <= offset);
    window.get(at).filter(|run| run.base <= offset).copied()
}
