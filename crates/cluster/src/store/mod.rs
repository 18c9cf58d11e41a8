//! Where the metadata lives: SlateDB, an LSM database on the bucket itself.
//!
//! Owns: which keys an event writes, and loading the state from them.
//! Does not own: the rules (`state`), the order of changes (`controller`), the time SlateDB sees
//! (`clock`, `watermark`), the checksums of files that SlateDB writes without (`sealed`), how long files stay
//! that it has replaced (`garbage`).
//!
//! One commit is one atomic write and one flush. Writing the same events again writes the same keys
//! with the same values, so a commit of unknown outcome is simply repeated. Opening the database
//! fences whoever had it open: their next commit answers [`StoreError::Fenced`].
//!
//! SlateDB ends itself on errors it cannot undo. It also takes its own write for another's when a
//! store without object attributes, such as a local directory, has written it and lost the answer.
//! So the database is then opened anew, but only if nobody else has opened it in between: the writer
//! epoch decides, and only that is fencing. A refusal of the time is one of those errors; what is
//! opened anew gets a later time (`clock`).

mod clock;
mod files;
mod format;
mod garbage;
mod inspection;
mod keys;
mod reader;
mod sealed;
mod watermark;

use std::ops::Range;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use environment::Environment;
use object_store::ObjectStore;
use slatedb::config::{
    CompactorOptions, DurabilityLevel, FlushOptions, FlushType, GarbageCollectorOptions,
    ReadOptions, ScanOptions,
};
use slatedb::{
    CloseReason, Db, DbReadOps, ErrorKind, GarbageCollectorBuilder, IterationOrder, KeyValue,
    Settings, WriteBatch,
};
use slatedb_common::clock::SystemClock;
use vocabulary::{Offset, Partition, Timestamp, TopicId};

use self::clock::DatabaseClock;
pub use self::files::{DamagedFile, MetadataFiles};
pub use self::format::MetadataValue;
use self::garbage::Grace;
pub use self::inspection::{MetadataEntry, MetadataInspection, metadata_prefix};
pub use self::reader::MetadataReader;
use self::sealed::BrokenSeal;
use crate::state::{Event, KeptProducers, Run, State};

/// Bytes of one read while loading. Larger: fewer requests, more memory for a moment.
const LOAD_READ_BYTES: usize = 256 * 1024;

/// Sorted files that wait for compaction before the log grows instead.
const SORTED_FILES_MAX: usize = 16;

/// How often a start tries again after the time was refused. Four kinds of stamps are compared with
/// it (rows, sorted files, compactions, their output), and each refusal settles one.
const OPENS_MAX: u32 = 5;

/// How the metadata database uses memory and requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreOptions {
    /// Bytes of changes kept in memory before they become a sorted file. Larger: fewer files.
    pub memtable_bytes: usize,
    /// How often the database looks whether it has been fenced while idle. Shorter: more requests.
    pub manifest_poll_interval: Duration,
}

impl Default for StoreOptions {
    fn default() -> StoreOptions {
        StoreOptions {
            memtable_bytes: 4 * 1024 * 1024,
            manifest_poll_interval: Duration::from_secs(10),
        }
    }
}

/// A variant exists only if the controller acts differently on it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Somebody else has opened the database. Nothing was written, and nothing will be.
    #[error("the metadata belongs to another process now")]
    Fenced,
    /// Maybe written: repeat the same commit.
    #[error("the metadata store did not answer: {0}")]
    Unavailable(String),
    /// A file is gone of a database that another process may be writing: replaced since it was looked at, or lost. Look
    /// again; if that lasts, it is lost. Only who looks gets this answer.
    #[error("a file of the metadata is gone: {0}")]
    Gone(String),
    /// What is stored cannot be read; writing on would make it worse.
    #[error("metadata key {key} cannot be read: {reason}. Is this bucket from a newer Aquifer?")]
    Corrupt { key: String, reason: String },
}

/// How far the database's log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogPosition {
    /// Of the process that writes: it grows each time that somebody opens the database for writing.
    pub epoch: u64,
    /// Durable writes since the database was created, over all epochs.
    pub end: u64,
}

/// The open database.
pub(crate) struct Store {
    object_store: Arc<dyn ObjectStore>,
    path: String,
    options: StoreOptions,
    environment: Environment,
    clock: Arc<DatabaseClock>,
    /// Replaced when SlateDB has given up after an error. A leaf lock, held to clone the handle.
    db: RwLock<Opened>,
    /// Held while the database is opened anew: two at once would fence each other.
    reviving: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
struct Opened {
    db: Db,
    /// Whoever opens the database next gets a higher one.
    writer_epoch: u64,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens and loads everything but the runs.
    pub(crate) async fn open(
        object_store: Arc<dyn ObjectStore>,
        path: &str,
        options: &StoreOptions,
        environment: &Environment,
    ) -> Result<(Store, State), StoreError> {
        let clock = Arc::new(DatabaseClock::new(Arc::clone(&environment.clock)));
        let object_store = sealed::sealed(object_store);
        let mut attempt = 1;
        let (db, state) = loop {
            let refusals = clock.refusals();
            let opening = Opening { object_store: &object_store, path, options, environment };
            match opening.open_and_load(&clock).await {
                Ok(opened) => break opened,
                Err(error) if attempt == OPENS_MAX || clock.refusals() == refusals => {
                    return Err(error);
                }
                Err(_) => attempt += 1, // The clock has told why.
            }
        };
        let store = Store {
            object_store,
            path: path.to_owned(),
            options: options.clone(),
            environment: environment.clone(),
            clock,
            db: RwLock::new(db),
            reviving: tokio::sync::Mutex::new(()),
        };
        Ok((store, state))
    }

    /// The metadata's own time, which never goes back (ADR metadata-time).
    pub(crate) fn time(&self) -> Timestamp {
        self.clock.time()
    }

    /// Writes what `events` changed, as one durable step; `after` is the state after all of them.
    pub(crate) async fn commit(&self, after: &State, events: &[Event]) -> Result<(), StoreError> {
        let mut batch = WriteBatch::new();
        for event in events {
            for (key, value) in format::writes(after, event) {
                match value {
                    Some(value) => batch.put(key, value),
                    None => batch.delete(key),
                }
            }
        }
        let opened = self.opened();
        let written = match opened.db.write(batch).await {
            Ok(_) => opened.db.flush().await,
            Err(error) => Err(error),
        };
        let Err(cause) = written else { return Ok(()) };
        self.clock.heed(&cause);
        if opened.has_ended() {
            self.revive().await?;
            return Err(StoreError::Unavailable(cause.to_string()));
        }
        Err(unread(&cause))
    }

    /// Returns when the database has ended itself, after an error or because it is fenced.
    pub(crate) async fn ended(&self) {
        let mut status = self.opened().db.subscribe();
        // An error means that the database is gone altogether.
        let _ = status.wait_for(|it| it.close_reason.is_some()).await;
    }

    /// Opens the database anew if it has ended itself. What had become durable is there again;
    /// [`StoreError::Fenced`] if another process has opened it since.
    pub(crate) async fn revive(&self) -> Result<(), StoreError> {
        let _one_at_a_time = self.reviving.lock().await;
        let opened = self.opened();
        if !opened.has_ended() {
            return Ok(()); // Somebody else was faster.
        }
        // The error it ended with is still told, and may be about the time.
        if let Err(cause) = opened.db.flush().await {
            self.clock.heed(&cause);
            tracing::warn!(%cause, "the metadata database has ended itself; opening it anew");
        }
        let Store { object_store, path, options, environment, .. } = self;
        let opening = Opening { object_store, path, options, environment };
        let db = opening.open(&self.clock, Some(opened.writer_epoch)).await?;
        *self.db.write().expect("no holder of this leaf lock panics: it only clones") = db;
        Ok(())
    }

    /// Moves what the write-ahead log holds into a sorted file: a restart reads each commit that is
    /// still in the log as an object of its own. Waits while compaction is behind.
    pub(crate) async fn shorten_log(&self) -> Result<(), StoreError> {
        let options = FlushOptions { flush_type: FlushType::MemTable };
        let flushed = self.opened().db.flush_with_options(options).await;
        flushed.map_err(|error| unread(&error))
    }

    /// The run that contains `offset`, or the first above it, and those that follow.
    pub(crate) async fn runs_from(
        &self,
        partition: Partition,
        offset: Offset,
        count_max: usize,
    ) -> Result<Vec<Run>, StoreError> {
        // Keys carry the exclusive end: the first end above `offset` is the run that holds it.
        let end_min = Offset(offset.0.saturating_add(1));
        let range = keys::run(partition, end_min)..keys::runs_end(partition);
        self.runs(range, count_max, IterationOrder::Ascending).await
    }

    pub(crate) async fn last_run(&self, partition: Partition) -> Result<Option<Run>, StoreError> {
        let range = keys::run(partition, Offset::ZERO)..keys::runs_end(partition);
        let last = self.runs(range, 1, IterationOrder::Descending).await?;
        Ok(last.into_iter().next())
    }

    /// Runs that end above `after` and at or before `end`, first ones first.
    pub(crate) async fn runs_between(
        &self,
        partition: Partition,
        after: Offset,
        end: Offset,
        count_max: usize,
    ) -> Result<Vec<Run>, StoreError> {
        if end <= after {
            return Ok(Vec::new());
        }
        let above = |offset: Offset| keys::run(partition, Offset(offset.0.saturating_add(1)));
        self.runs(above(after)..above(end), count_max, IterationOrder::Ascending).await
    }

    /// Any runs of a topic, whatever their partition.
    pub(crate) async fn runs_of_topic(
        &self,
        topic: TopicId,
        count_max: usize,
    ) -> Result<Vec<Run>, StoreError> {
        self.runs(keys::runs_of_topic(topic), count_max, IterationOrder::Ascending).await
    }

    /// The producers kept for a partition, as of its durable committed end.
    pub(crate) async fn kept_producers(
        &self,
        partition: Partition,
    ) -> Result<Option<KeptProducers>, StoreError> {
        let key = keys::kept(partition);
        let options = ReadOptions::default().with_durability_filter(DurabilityLevel::Remote);
        let found = self.opened().db.get_with_options(&key, &options).await;
        let Some(value) = found.map_err(|error| unread(&error))? else { return Ok(None) };
        readable(&key, format::kept(partition, &value)).map(Some)
    }

    pub(crate) fn log_position(&self) -> LogPosition {
        let opened = self.opened();
        // The first write is number 1, so that the last one's number is their count.
        LogPosition { epoch: opened.writer_epoch, end: opened.db.status().durable_seq }
    }

    pub(crate) async fn close(&self) -> Result<(), StoreError> {
        self.opened().db.close().await.map_err(|error| classify(&error))
    }

    async fn runs(
        &self,
        range: Range<Vec<u8>>,
        count_max: usize,
        order: IterationOrder,
    ) -> Result<Vec<Run>, StoreError> {
        // What is written but not yet durable is not shown.
        let options = ScanOptions::default()
            .with_order(order)
            .with_durability_filter(DurabilityLevel::Remote);
        let db = self.opened().db;
        let found = db.scan_with_options(range, &options).await;
        let mut found = found.map_err(|error| unread(&error))?;
        let mut runs = Vec::new();
        while runs.len() < count_max {
            match found.next().await.map_err(|error| unread(&error))? {
                Some(entry) => runs.push(decoded(&entry, format::run(&entry.key, &entry.value))?),
                None => break,
            }
        }
        Ok(runs)
    }

    fn opened(&self) -> Opened {
        self.db.read().expect("no holder of this leaf lock panics: it only clones").clone()
    }
}

impl Opened {
    /// After an error that it cannot undo. It answers every request with that error from then on.
    fn has_ended(&self) -> bool {
        self.db.status().close_reason.is_some()
    }
}

/// What it takes to open the database.
struct Opening<'a> {
    object_store: &'a Arc<dyn ObjectStore>,
    path: &'a str,
    options: &'a StoreOptions,
    environment: &'a Environment,
}

impl Opening<'_> {
    async fn open_and_load(
        &self,
        clock: &Arc<DatabaseClock>,
    ) -> Result<(Opened, State), StoreError> {
        let opened = self.open(clock, None).await?;
        let loaded = load(&opened.db).await;
        let (state, written) = loaded.map_err(|error| match error {
            LoadError::Database(error) => {
                clock.heed(&error);
                classify(&error)
            }
            LoadError::Corrupt(error) => error,
        })?;
        clock.raise(written);
        Ok((opened, state))
    }

    async fn open(
        &self,
        clock: &Arc<DatabaseClock>,
        expected_epoch: Option<u64>,
    ) -> Result<Opened, StoreError> {
        let entropy = &self.environment.entropy;
        let time = || Arc::<DatabaseClock>::clone(clock) as Arc<dyn SystemClock>;
        let stored =
            watermark::stored(self.object_store, self.path, time(), entropy.next_u64()).await;
        // Before the database is open, because it compacts at once.
        clock.raise(stored.map_err(|error| classify(&error))?);
        let mut builder = Db::builder(self.path, Arc::clone(self.object_store))
            .with_settings(self.settings())
            .with_db_cache_disabled()
            .with_gc_builder(
                self.collector().with_system_clock(time()).with_seed(entropy.next_u64()),
            )
            .with_system_clock(time())
            .with_seed(entropy.next_u64());
        if let Some(epoch) = expected_epoch {
            builder = builder.with_expected_epoch(epoch);
        }
        let db = builder.build().await.map_err(|error| {
            clock.heed(&error);
            classify(&error)
        })?;
        clock.raise(watermark::of_manifest(&db.manifest()));
        let writer_epoch = db.manifest().writer_epoch();
        Ok(Opened { db, writer_epoch })
    }

    fn settings(&self) -> Settings {
        let options = self.options;
        Settings {
            // Every commit flushes by itself: a timer would only wake an idle broker.
            flush_interval: None,
            manifest_poll_interval: options.manifest_poll_interval,
            l0_sst_size_bytes: options.memtable_bytes,
            max_unflushed_bytes: 4 * options.memtable_bytes,
            // A burst of commits makes small files faster than the compactor looks at them.
            l0_max_ssts: SORTED_FILES_MAX,
            l0_max_ssts_per_key: SORTED_FILES_MAX,
            compactor_options: Some(CompactorOptions {
                poll_interval: options.manifest_poll_interval,
                max_concurrent_compactions: 1,
                ..CompactorOptions::default()
            }),
            ..Settings::default()
        }
    }

    fn collector(&self) -> GarbageCollectorBuilder<&str> {
        // Fences of the log stay for ever, whatever the default becomes: a writer that is stalled for
        // longer than files of the log are kept must still run into its successor's.
        let options = GarbageCollectorOptions {
            wal_fence_options: None,
            ..GarbageCollectorOptions::default()
        };
        let grace = Grace::new(Arc::clone(&self.environment.clock));
        GarbageCollectorBuilder::new(self.path, Arc::clone(self.object_store))
            .with_options(options)
            .with_gc_filter(Arc::new(grace))
    }
}

fn classify(error: &slatedb::Error) -> StoreError {
    if let Some(BrokenSeal { object, reason }) = BrokenSeal::behind(error) {
        return StoreError::Corrupt { key: object.clone(), reason: (*reason).to_owned() };
    }
    match error.kind() {
        ErrorKind::Closed(CloseReason::Fenced) => StoreError::Fenced,
        ErrorKind::Data => {
            StoreError::Corrupt { key: "(database)".into(), reason: error.to_string() }
        }
        _ => StoreError::Unavailable(error.to_string()),
    }
}

/// As [`classify`], of a database that is open. That it says it is fenced proves nothing (see above): whoever opens it
/// anew finds out.
fn unread(error: &slatedb::Error) -> StoreError {
    match classify(error) {
        StoreError::Fenced => StoreError::Unavailable(error.to_string()),
        other => other,
    }
}

/// As [`classify`], for who looks at a database that another process may be writing: it replaces files meanwhile.
fn classify_look(error: &slatedb::Error) -> StoreError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(at) = cause {
        let stored = at.downcast_ref::<Arc<object_store::Error>>().map(|it| &**it);
        let stored = stored.or_else(|| at.downcast_ref::<object_store::Error>());
        if let Some(object_store::Error::NotFound { path, .. }) = stored {
            return StoreError::Gone(path.clone());
        }
        cause = at.source();
    }
    classify(error)
}

enum LoadError {
    Database(slatedb::Error),
    Corrupt(StoreError),
}

/// The state, and when the latest of what is in it was written.
///
/// Its ranges are read side by side, because a store may take its time with each block. So what was read
/// is in memory twice for a moment.
async fn load(db: &impl DbReadOps) -> Result<(State, Timestamp), LoadError> {
    let scans = keys::all_but_runs().map(|range| entries(db, range));
    let entries = futures::future::try_join_all(scans).await.map_err(LoadError::Database)?;
    let place = |entry: &KeyValue| {
        let kind = entry.key.first();
        keys::LOADED.iter().position(|it| Some(it) == kind)
    };
    let mut entries: Vec<_> = entries.into_iter().flatten().map(|it| (place(&it), it)).collect();
    entries.sort_by_key(|(place, _)| *place);
    let (mut state, mut written) = (State::default(), Timestamp(0));
    // Between the kinds that are loaded lie those of later versions, if any.
    for (_, entry) in entries.into_iter().filter(|(place, _)| place.is_some()) {
        written = written.max(Timestamp(entry.create_ts));
        decoded(&entry, format::load(&mut state, &entry.key, &entry.value))
            .map_err(LoadError::Corrupt)?;
    }
    format::complete(&mut state);
    Ok((state, written))
}

/// All of a range.
async fn entries(
    db: &impl DbReadOps,
    range: Range<Vec<u8>>,
) -> Result<Vec<KeyValue>, slatedb::Error> {
    let options = ScanOptions { read_ahead_bytes: LOAD_READ_BYTES, ..ScanOptions::default() };
    let mut found = db.scan_with_options(range, &options).await?;
    let mut entries = Vec::new();
    while let Some(entry) = found.next().await? {
        entries.push(entry);
    }
    Ok(entries)
}

fn decoded<T>(entry: &KeyValue, value: Result<T, format::FormatError>) -> Result<T, StoreError> {
    readable(&entry.key, value)
}

fn readable<T>(key: &[u8], value: Result<T, format::FormatError>) -> Result<T, StoreError> {
    value.map_err(|error| StoreError::Corrupt {
        key: keys::printable(key),
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests;
