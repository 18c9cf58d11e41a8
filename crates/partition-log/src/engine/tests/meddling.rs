//! Metadata that answers a test's questions when and how the test wants it.

use crate::run_index::{
    Adoption, GarbageSegment, KeptProducers, MemoryRunIndex, RefusalReason, Replacement, RunCommit,
    RunDescription, RunIndex, RunIndexError, RunRefusal,
};
use async_trait::async_trait;
use environment::{Environment, TaskKind};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use vocabulary::{Offset, Partition, SegmentName};

/// How a question about runs is answered.
#[derive(Debug)]
pub(super) enum Told {
    AsItIs,
    /// As it was once.
    Old(Vec<RunDescription>),
    /// As it is when it is asked, after a while.
    Late(Duration),
}

/// Everything as of `inner`, but for what a test has asked for.
#[derive(Debug)]
pub(super) struct Meddling {
    inner: Arc<MemoryRunIndex>,
    environment: Environment,
    /// The next answers to questions about whole pages of runs, which scans ask;
    pages: Mutex<VecDeque<Told>>,
    /// and about a few, which readers ask that come from nowhere.
    few: Mutex<VecDeque<Told>>,
    pages_asked: AtomicU64,
    /// So many replacements come too late.
    overtaken: AtomicU64,
    /// What moves a log start takes so long to begin, whether somebody waits for it or not.
    advances_after: Mutex<Duration>,
}

/// Runs of a page, and of a first question.
const PAGE: usize = 256;
const FEW: usize = 16;

impl Meddling {
    pub(super) fn new(inner: &Arc<MemoryRunIndex>, environment: &Environment) -> Arc<Meddling> {
        Arc::new(Meddling {
            inner: Arc::clone(inner),
            environment: environment.clone(),
            pages: Mutex::default(),
            few: Mutex::default(),
            pages_asked: AtomicU64::new(0),
            overtaken: AtomicU64::new(0),
            advances_after: Mutex::default(),
        })
    }

    pub(super) fn tell_pages(&self, told: impl IntoIterator<Item = Told>) {
        self.pages.lock().unwrap().extend(told);
    }

    pub(super) fn tell_few(&self, told: impl IntoIterator<Item = Told>) {
        self.few.lock().unwrap().extend(told);
    }

    /// How many of the answers are still to be given.
    pub(super) fn untold(&self) -> usize {
        self.pages.lock().unwrap().len() + self.few.lock().unwrap().len()
    }

    pub(super) fn pages_asked(&self) -> u64 {
        self.pages_asked.load(Ordering::Relaxed)
    }

    pub(super) fn overtake(&self, count: u64) {
        self.overtaken.store(count, Ordering::Relaxed);
    }

    pub(super) fn advance_after(&self, wait: Duration) {
        *self.advances_after.lock().unwrap() = wait;
    }
}

#[async_trait]
impl RunIndex for Meddling {
    async fn commit(&self, commit: RunCommit) -> Result<Vec<RunRefusal>, RunIndexError> {
        self.inner.commit(commit).await
    }

    async fn adopt(&self, adoption: Adoption) -> Result<Vec<RunRefusal>, RunIndexError> {
        self.inner.adopt(adoption).await
    }

    async fn replace(&self, replacement: Replacement) -> Result<Vec<RunRefusal>, RunIndexError> {
        let left = self.overtaken.load(Ordering::Relaxed);
        if 0 < left {
            self.overtaken.store(left - 1, Ordering::Relaxed);
            let refused = |it: &RunDescription| {
                let (partition, base, reason) = (it.partition, it.base, RefusalReason::Changed);
                RunRefusal { partition, base, reason }
            };
            return Ok(replacement.merged.runs.iter().map(refused).collect());
        }
        self.inner.replace(replacement).await
    }

    async fn kept_producers(
        &self,
        partition: Partition,
    ) -> Result<Option<KeptProducers>, RunIndexError> {
        self.inner.kept_producers(partition).await
    }

    async fn runs_from(
        &self,
        partition: Partition,
        offset: Offset,
        count_max: usize,
    ) -> Result<Vec<RunDescription>, RunIndexError> {
        let told = match count_max {
            PAGE => {
                self.pages_asked.fetch_add(1, Ordering::Relaxed);
                self.pages.lock().unwrap().pop_front()
            }
            FEW => self.few.lock().unwrap().pop_front(),
            _ => None,
        };
        let answer = self.inner.runs_from(partition, offset, count_max).await;
        match told {
            None | Some(Told::AsItIs) => (),
            Some(Told::Old(runs)) => {
                return Ok(runs.into_iter().filter(|it| offset < it.end).collect());
            }
            Some(Told::Late(wait)) => self.environment.clock.sleep(wait).await,
        }
        answer
    }

    async fn last_run(
        &self,
        partition: Partition,
    ) -> Result<Option<RunDescription>, RunIndexError> {
        self.inner.last_run(partition).await
    }

    async fn log_start(&self, partition: Partition) -> Result<Option<Offset>, RunIndexError> {
        self.inner.log_start(partition).await
    }

    async fn advance_log_start(
        &self,
        partition: Partition,
        log_start: Offset,
        producers: Option<KeptProducers>,
    ) -> Result<(), RunIndexError> {
        let wait = *self.advances_after.lock().unwrap();
        if wait == Duration::ZERO {
            return self.inner.advance_log_start(partition, log_start, producers).await;
        }
        let (inner, clock) = (Arc::clone(&self.inner), Arc::clone(&self.environment.clock));
        let task = self.environment.tasks.spawn(TaskKind::Background, "advance", async move {
            clock.sleep(wait).await;
            inner.advance_log_start(partition, log_start, producers).await
        });
        task.await.expect("it is not stopped")
    }

    async fn garbage(&self, count_max: usize) -> Result<Vec<GarbageSegment>, RunIndexError> {
        self.inner.garbage(count_max).await
    }

    async fn forget(&self, segments: &[SegmentName]) -> Result<(), RunIndexError> {
        self.inner.forget(segments).await
    }

    async fn known(&self, segments: &[SegmentName]) -> Result<Vec<bool>, RunIndexError> {
        self.inner.known(segments).await
    }
}
