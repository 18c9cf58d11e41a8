//! Where the metadata lives: SlateDB, an LSM database on the bucket itself.
//!
//! Owns: which keys an event writes, and loading the state from them.
//! Does not own: the rules (`state`), the order of changes (`controller`).
//!
//! One commit is one atomic write and one flush. Writing the same events again writes the same keys
//! with the same values, so a commit of unknown outcome is simply repeated. Opening the database
//! fences whoever had it open: their next commit answers [`StoreError::Fenced`].

mod format;
mod keys;

use std::sync::{Arc, RwLock};
use std::time::Duration;

use object_store::ObjectStore;
use slatedb::config::{CompactorOptions, ScanOptions};
use slatedb::{CloseReason, Db, ErrorKind, IterationOrder, KeyValue, Settings, WriteBatch};
use vocabulary::{Offset, Partition};

use crate::state::{Event, Run, State};

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
    /// What is stored cannot be read; writing on would make it worse.
    #[error("metadata key {key} cannot be read: {reason}. Is this bucket from a newer Aquifer?")]
    Corrupt { key: String, reason: String },
}

/// The open database.
pub(crate) struct Store {
    object_store: Arc<dyn ObjectStore>,
    path: String,
    options: StoreOptions,
    /// Replaced when SlateDB has given up after an error. A leaf lock, held to clone the handle.
    db: RwLock<Db>,
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
    ) -> Result<(Store, State), StoreError> {
        let db = open_db(&object_store, path, options).await?;
        let state = load(&db).await?;
        let store = Store {
            object_store,
            path: path.to_owned(),
            options: options.clone(),
            db: RwLock::new(db),
        };
        Ok((store, state))
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
        let db = self.db();
        let written = match db.write(batch).await {
            Ok(_) => db.flush().await,
            Err(error) => Err(error),
        };
        match written.map_err(classify) {
            Ok(()) => Ok(()),
            Err((StoreError::Unavailable(reason), true)) => {
                self.reopen().await?;
                Err(StoreError::Unavailable(reason))
            }
            Err((error, _)) => Err(error),
        }
    }

    /// The run that contains `offset`, or the first above it, and those that follow.
    pub(crate) async fn runs_from(
        &self,
        partition: Partition,
        offset: Offset,
        count_max: usize,
    ) -> Result<Vec<Run>, StoreError> {
        // Keys carry the exclusive end: the first end above `offset` is the run that holds it.
        let range = keys::run(partition, offset.plus(1))..keys::runs_end(partition);
        self.runs(partition, range, count_max, IterationOrder::Ascending).await
    }

    pub(crate) async fn last_run(&self, partition: Partition) -> Result<Option<Run>, StoreError> {
        let range = keys::run(partition, Offset::ZERO)..keys::runs_end(partition);
        let last = self.runs(partition, range, 1, IterationOrder::Descending).await?;
        Ok(last.into_iter().next())
    }

    /// Runs that end at or before `end`, first ones first.
    pub(crate) async fn runs_ending_by(
        &self,
        partition: Partition,
        end: Offset,
        count_max: usize,
    ) -> Result<Vec<Run>, StoreError> {
        let after = Offset(end.0.saturating_add(1));
        let range = keys::run(partition, Offset::ZERO)..keys::run(partition, after);
        self.runs(partition, range, count_max, IterationOrder::Ascending).await
    }

    pub(crate) async fn close(&self) -> Result<(), StoreError> {
        self.db().close().await.map_err(|error| classify(error).0)
    }

    async fn runs(
        &self,
        partition: Partition,
        range: std::ops::Range<Vec<u8>>,
        count_max: usize,
        order: IterationOrder,
    ) -> Result<Vec<Run>, StoreError> {
        let options = ScanOptions::default().with_order(order);
        let db = self.db();
        let found = db.scan_with_options(range, &options).await;
        let mut found = found.map_err(|error| classify(error).0)?;
        let mut runs = Vec::new();
        while runs.len() < count_max {
            match found.next().await.map_err(|error| classify(error).0)? {
                Some(entry) => {
                    runs.push(decoded(&entry, format::run(partition, &entry.key, &entry.value))?)
                }
                None => break,
            }
        }
        Ok(runs)
    }

    fn db(&self) -> Db {
        self.db.read().expect("no holder of this leaf lock panics: it only clones").clone()
    }

    /// SlateDB ends itself on errors it cannot undo; what it had made durable is there again.
    async fn reopen(&self) -> Result<(), StoreError> {
        let db = open_db(&self.object_store, &self.path, &self.options).await?;
        *self.db.write().expect("no holder of this leaf lock panics: it only clones") = db;
        Ok(())
    }
}

async fn open_db(
    object_store: &Arc<dyn ObjectStore>,
    path: &str,
    options: &StoreOptions,
) -> Result<Db, StoreError> {
    let settings = Settings {
        // Every commit flushes by itself: a timer would only wake an idle broker.
        flush_interval: None,
        manifest_poll_interval: options.manifest_poll_interval,
        l0_sst_size_bytes: options.memtable_bytes,
        max_unflushed_bytes: 4 * options.memtable_bytes,
        compactor_options: Some(CompactorOptions {
            poll_interval: options.manifest_poll_interval,
            max_concurrent_compactions: 1,
            ..CompactorOptions::default()
        }),
        ..Settings::default()
    };
    let builder = Db::builder(path, Arc::clone(object_store)).with_settings(settings);
    builder.with_db_cache_disabled().build().await.map_err(|error| classify(error).0)
}

/// What an error means here, and whether the handle is of no more use.
fn classify(error: slatedb::Error) -> (StoreError, bool) {
    match error.kind() {
        ErrorKind::Closed(CloseReason::Fenced) => (StoreError::Fenced, true),
        ErrorKind::Closed(_) => (StoreError::Unavailable(error.to_string()), true),
        ErrorKind::Data => {
            let reason = error.to_string();
            (StoreError::Corrupt { key: "(database)".into(), reason }, false)
        }
        _ => (StoreError::Unavailable(error.to_string()), false),
    }
}

async fn load(db: &Db) -> Result<State, StoreError> {
    let mut state = State::default();
    for range in keys::all_but_runs() {
        let found = db.scan(range).await;
        let mut found = found.map_err(|error| classify(error).0)?;
        while let Some(entry) = found.next().await.map_err(|error| classify(error).0)? {
            decoded(&entry, format::load(&mut state, &entry.key, &entry.value))?;
        }
    }
    format::complete(&mut state);
    Ok(state)
}

fn decoded<T>(entry: &KeyValue, value: Result<T, format::FormatError>) -> Result<T, StoreError> {
    value.map_err(|error| StoreError::Corrupt {
        key: keys::printable(&entry.key),
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests;
