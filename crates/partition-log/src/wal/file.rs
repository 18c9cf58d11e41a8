//! A write-ahead log in files: one segment per group commit, one write and one sync each.
//!
//! Owns: files and their names, where each segment lies, retrying, trimming.
//! Does not own: grouping (`committer`), the disk (`volume`), what files mean after a crash (`chain`).
//!
//! A file is a row of segments, each starting at a multiple of [`FRAME_BYTES`]: a torn write never
//! shares a page with an acknowledged segment. A file is named after its first sequence and
//! preallocated. Files are only ever appended to, by the process that created them.
//!
//! After any failed write or sync nothing is believed about the bytes concerned: the file is left as
//! it is and the same segment goes to a new file, for as long as it takes (`volume`, V3).
//!
//! Invariants:
//! - F1 one write is in flight at a time, so a trace of a sequence proves all before it durable;
//! - F2 the segments located are consecutive, each in the newest file that holds it whole;
//! - F3 files go oldest first, each deletion durable before the next, so those left have no gap;
//! - F4 the file with the newest durable segment stays, so that sequences go on.

use super::chain::{self, FileName};
use super::recovery::{self, FileScan};
use super::{RecoveredSegment, WalBackend, WalError, WalHealth};
use crate::segment::EncodedSegment;
use crate::volume::{Chunks, Volume, VolumeError, VolumeFile, WRITE_ALIGNMENT_BYTES};
use async_trait::async_trait;
use bytes::Bytes;
use environment::{Clock, Environment, StopToken};
use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use vocabulary::{ByteCount, Tick};

/// Segments start at multiples of this: the page of the kernel and of most disks.
pub const FRAME_BYTES: u64 = WRITE_ALIGNMENT_BYTES;

/// How a log lies in files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileWalOptions {
    /// Room of one file; a larger segment gets a larger one. Larger: fewer creations, coarser trims.
    pub file_bytes: ByteCount,
    /// The first wait after a failed write; it doubles with each further failure.
    pub retry_min: Duration,
    pub retry_max: Duration,
}

impl Default for FileWalOptions {
    fn default() -> FileWalOptions {
        FileWalOptions {
            file_bytes: ByteCount::mib(64),
            retry_min: Duration::from_millis(50),
            retry_max: Duration::from_secs(5),
        }
    }
}

/// The `file:` backend over any volume.
#[derive(Debug)]
pub struct FileWal {
    volume: Arc<dyn Volume>,
    options: FileWalOptions,
    clock: Arc<dyn Clock>,
    stop: StopToken,
    /// Leaf lock: field updates only, never across an await.
    state: Mutex<State>,
    /// Held for a whole trim: deletions have an order (F3).
    trimming: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    /// Oldest first.
    files: Vec<LogFile>,
    /// Where sequence `first + i` lies.
    segments: VecDeque<Location>,
    first: u64,
    /// The file being filled; taken out during a write and put back when that succeeds.
    current: Option<Current>,
    /// The last name given out, whatever became of its file.
    last_name: Option<FileName>,
    /// Since when writes fail, and why; `None` while they work.
    failing: Option<(Tick, String)>,
}

#[derive(Debug)]
struct LogFile {
    name: FileName,
    file: Arc<dyn VolumeFile>,
    /// The last sequence located in it; `None` if there is none, and it can go at once.
    last: Option<u64>,
}

#[derive(Debug)]
struct Location {
    file: Arc<dyn VolumeFile>,
    position: u64,
    length: u64,
}

#[derive(Debug)]
struct Current {
    name: FileName,
    file: Arc<dyn VolumeFile>,
    position: u64,
    capacity: u64,
}

impl State {
    fn next(&self) -> u64 {
        self.first + self.segments.len() as u64
    }

    fn locate(&mut self, sequence: u64, current: &Current, length: u64) {
        if self.segments.is_empty() {
            self.first = sequence;
        }
        assert_eq!(sequence, self.next(), "F2");
        let file = Arc::clone(&current.file);
        self.segments.push_back(Location { file, position: current.position, length });
        match self.files.iter_mut().find(|it| it.name == current.name) {
            Some(file) => file.last = Some(sequence),
            None => {
                let file = Arc::clone(&current.file);
                self.files.push(LogFile { name: current.name, file, last: Some(sequence) });
            }
        }
    }
}

impl FileWal {
    /// Touches nothing yet; retries end when `environment.tasks` stops.
    pub fn new(
        volume: Arc<dyn Volume>,
        options: FileWalOptions,
        environment: &Environment,
    ) -> FileWal {
        FileWal {
            volume,
            options,
            clock: Arc::clone(&environment.clock),
            stop: environment.tasks.token(),
            state: Mutex::new(State::default()),
            trimming: tokio::sync::Mutex::new(()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One try, in the current file if there is room, else in a new one. On failure the file is left
    /// behind.
    async fn attempt(
        &self,
        sequence: u64,
        chunks: &Chunks,
        length: u64,
    ) -> Result<(), VolumeError> {
        let frame = length.next_multiple_of(FRAME_BYTES);
        let current = self.state().current.take();
        let mut current = match current {
            Some(current) if frame <= current.capacity - current.position => current,
            _ => self.create(sequence, self.options.file_bytes.0.max(frame)).await?,
        };
        let written = current.file.write_synced(current.position, Arc::clone(chunks)).await;
        if let Err(error) = written {
            self.abandon(current).await;
            return Err(error);
        }
        let mut state = self.state();
        state.locate(sequence, &current, length);
        current.position += frame;
        state.current = Some(current);
        Ok(())
    }

    /// A new file, durable by name.
    async fn create(&self, first: u64, capacity: u64) -> Result<Current, VolumeError> {
        let name = {
            let mut state = self.state();
            let taken = state.files.iter().map(|it| it.name).chain(state.last_name);
            let name = FileName::next(first, taken);
            state.last_name = Some(name);
            name
        };
        let file = self.volume.create(&name.to_string(), capacity).await?;
        let current = Current { name, file, position: 0, capacity };
        if let Err(error) = self.volume.sync_directory().await {
            self.abandon(current).await;
            return Err(error);
        }
        Ok(current)
    }

    /// Leaves a file behind after a failure. One without a durable segment goes at once, or the
    /// retries of a long outage would fill the disk.
    async fn abandon(&self, current: Current) {
        if current.position != 0 {
            return;
        }
        if let Err(error) = self.volume.delete(&current.name.to_string()).await {
            tracing::debug!(file = %current.name, %error, "left for the next trim");
            self.state().files.push(LogFile { name: current.name, file: current.file, last: None });
        }
    }

    fn failing(&self, sequence: u64, error: &VolumeError) {
        let mut state = self.state();
        if state.failing.is_none() {
            tracing::error!(sequence, %error, "the log's volume fails; retrying");
        }
        let since = state.failing.as_ref().map_or_else(|| self.clock.now(), |it| it.0);
        state.failing = Some((since, error.to_string()));
    }

    fn working(&self) {
        if let Some((since, _)) = self.state().failing.take() {
            let outage = self.clock.now().since(since);
            tracing::info!(?outage, "the log's volume works again");
        }
    }

    async fn scan_files(&self) -> Result<Vec<FileScan>, WalError> {
        let mut names = Vec::new();
        for file in self.volume.list().await? {
            match file.name.parse::<FileName>() {
                Ok(name) => names.push(name),
                Err(()) => tracing::warn!(file = file.name, "not a file of the log; left alone"),
            }
        }
        names.sort();
        let mut scans: Vec<FileScan> = Vec::with_capacity(names.len());
        for name in names {
            let file = self.volume.open(&name.to_string()).await?;
            scans.push(recovery::scan(name, file).await?);
        }
        for index in 0..scans.len() {
            let next = scans[index].next();
            // A good segment behind it proves that a write was finished; anything less is checked.
            let proven = scans
                .get(index + 1)
                .is_some_and(|it| it.name.first == next && !it.found.is_empty());
            if !proven {
                scans[index].check_end().await?;
            }
        }
        Ok(scans)
    }

    /// Writes the last segment again, to a file of its own: only a successor proves that a segment
    /// was synced, and what a failed sync left in the page cache reads well until it is gone.
    async fn secure_last(&self, sequence: u64) -> Result<(), VolumeError> {
        let (file, position, length) = {
            let mut state = self.state();
            let Some(last) = state.segments.pop_back() else { return Ok(()) };
            (last.file, last.position, last.length)
        };
        let bytes = file.read_at(position, usize::try_from(length).unwrap_or(usize::MAX)).await?;
        if bytes.len() as u64 != length {
            let source = Arc::new(io::Error::from(io::ErrorKind::UnexpectedEof));
            let name = format!("segment {sequence}");
            return Err(VolumeError::Failed { operation: "copy", name, source });
        }
        let frame = length.next_multiple_of(FRAME_BYTES);
        let current = self.create(sequence, frame).await?;
        current.file.write_synced(0, Arc::new(vec![bytes])).await?;
        let mut state = self.state();
        for file in &mut state.files {
            let last = file.last.filter(|it| *it == sequence);
            if last.is_some() {
                // What is before it in the same file, if anything.
                file.last = sequence.checked_sub(1).filter(|it| file.name.first <= *it);
            }
        }
        state.locate(sequence, &current, length);
        Ok(())
    }

    /// Deletes files without any segment that counts: torn at their start, or copied since. What does
    /// not go now goes when its turn comes in a trim.
    async fn delete_spent(&self) {
        let spent = |it: &LogFile| it.last.is_none();
        let names: Vec<_> =
            self.state().files.iter().filter(|it| spent(it)).map(|it| it.name).collect();
        for name in names {
            match self.volume.delete(&name.to_string()).await {
                Ok(()) => self.state().files.retain(|it| it.name != name),
                Err(error) => tracing::debug!(file = %name, %error, "left for the next trim"),
            }
        }
    }

    /// Deletes, oldest first, files that `is_done` with; stops at the first that is not.
    async fn delete_files(&self, is_done: impl Fn(&LogFile) -> bool) -> Result<(), VolumeError> {
        loop {
            let oldest = {
                let state = self.state();
                let oldest = state.files.first().filter(|it| is_done(it));
                let current = state.current.as_ref().map(|it| it.name);
                oldest.map(|it| it.name).filter(|it| Some(*it) != current)
            };
            let Some(name) = oldest else { return Ok(()) };
            self.volume.delete(&name.to_string()).await?;
            self.volume.sync_directory().await?; // F3
            let mut state = self.state();
            let state = &mut *state;
            let gone = state.files.remove(0);
            assert_eq!(gone.name, name, "files are only added at the end");
            while state.segments.front().is_some_and(|it| Arc::ptr_eq(&it.file, &gone.file)) {
                state.segments.pop_front();
                state.first += 1;
            }
        }
    }
}

#[async_trait]
impl WalBackend for FileWal {
    async fn recover(&self) -> Result<Vec<RecoveredSegment>, WalError> {
        let scans = self.scan_files().await?;
        let summaries: Vec<_> = scans.iter().map(FileScan::summary).collect();
        let links = chain::link(&summaries).map_err(|gap| WalError::Corrupt {
            file: gap.file.to_string(),
            position: gap.position,
            reason: gap.reason,
        })?;
        let mut recovered = Vec::new();
        {
            let mut state = self.state();
            *state = State::default();
            state.first = links.first().map_or(0, |it| it.first);
            for (index, scan) in scans.into_iter().enumerate() {
                let link = links.iter().find(|it| it.file == index);
                let count = link.map_or(0, |it| it.count as usize); // No more than were found.
                let name = scan.name;
                for (sequence, found) in (name.first..).zip(scan.found.into_iter().take(count)) {
                    let (position, length) = (found.position, found.index.length);
                    let file = Arc::clone(&scan.file);
                    state.segments.push_back(Location { file, position, length });
                    recovered.push(RecoveredSegment { sequence, index: found.index });
                }
                let last = (count != 0).then(|| name.first + count as u64 - 1);
                state.files.push(LogFile { name, file: scan.file, last });
            }
        }
        if let Some(last) = recovered.last() {
            self.secure_last(last.sequence).await?;
        }
        self.delete_spent().await;
        Ok(recovered)
    }

    async fn write(&self, sequence: u64, segment: EncodedSegment) -> Result<(), WalError> {
        let EncodedSegment { chunks, length, .. } = segment;
        let chunks: Chunks = Arc::new(chunks);
        let mut wait = self.options.retry_min;
        loop {
            match self.attempt(sequence, &chunks, length).await {
                Ok(()) => {
                    self.working();
                    return Ok(());
                }
                Err(error) => self.failing(sequence, &error),
            }
            tokio::select! {
                biased;
                () = self.stop.stopped() => return Err(WalError::Stopping),
                () = self.clock.sleep(wait) => (),
            }
            wait = (wait * 2).min(self.options.retry_max);
        }
    }

    async fn read(&self, sequence: u64, range: Range<u64>) -> Result<Bytes, WalError> {
        let missing = WalError::NoSuchBytes { sequence };
        let (file, position) = {
            let state = self.state();
            let index = sequence.checked_sub(state.first).and_then(|it| usize::try_from(it).ok());
            let location = index.and_then(|it| state.segments.get(it)).ok_or(missing.clone())?;
            if range.end < range.start || location.length < range.end {
                return Err(missing);
            }
            (Arc::clone(&location.file), location.position + range.start)
        };
        let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let bytes = file.read_at(position, length).await?;
        if bytes.len() == length { Ok(bytes) } else { Err(missing) }
    }

    async fn trim(&self, before: u64) -> Result<(), WalError> {
        let _order = self.trimming.lock().await;
        // F4: the last sequence is never below this.
        let before = before.min(self.state().next().saturating_sub(1));
        self.delete_files(|it| it.last.is_none_or(|last| last < before)).await?;
        Ok(())
    }

    fn in_flight_max(&self) -> usize {
        1 // F1
    }

    fn health(&self) -> WalHealth {
        match &self.state().failing {
            None => WalHealth::Healthy,
            Some((since, reason)) => WalHealth::Failing { since: *since, reason: reason.clone() },
        }
    }
}
