//! A look at the metadata that disturbs nobody: it fences no controller and writes nothing.
//!
//! Owns: opening the database read-only. Does not own: keys and values (`keys`, `format`).
//!
//! What it shows is what was durable when it looked, possibly some commits behind a running controller.
//! Files that the controller's database replaces meanwhile may be gone when they are needed; then a read
//! fails with [`StoreError::Gone`], and looking again helps.

use std::sync::Arc;

use environment::Environment;
use futures::StreamExt;
use object_store::ObjectStore;
use slatedb::config::DbReaderOptions;
use slatedb::{DbReader, DbReaderMode};

use super::sealed::sealed;
use super::{StoreError, classify_look, decoded, entries, format, keys};
use crate::state::{Broker, State};

/// Tries of one request to the object store before a look gives up.
const RETRIES_MAX: u32 = 3;

/// The registered brokers as of one look: nothing else of the metadata is read.
pub struct MetadataReader {
    brokers: Vec<Broker>,
}

impl MetadataReader {
    /// Looks at the database below `path`. `None` when there is none yet.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Gone`]: look again.
    /// [`StoreError::Corrupt`]: what is stored cannot be read.
    pub async fn open(
        object_store: Arc<dyn ObjectStore>,
        path: &str,
        environment: &Environment,
    ) -> Result<Option<MetadataReader>, StoreError> {
        let opened = open_database(sealed(object_store), path, environment).await?;
        let Some(reader) = opened else { return Ok(None) };
        let found = entries(&reader, keys::brokers()).await;
        // What was read stays read, whether the reader closes well or not.
        let _ = reader.close().await;
        let mut state = State::default();
        for entry in found.map_err(|error| classify_look(&error))? {
            decoded(&entry, format::load(&mut state, &entry.key, &entry.value))?;
        }
        Ok(Some(MetadataReader { brokers: state.brokers.into_values().collect() }))
    }

    /// Every registered broker.
    pub fn brokers(&self) -> Vec<Broker> {
        self.brokers.clone()
    }
}

/// The database below `path` of a store that takes seals off, open for reading. `None` when there is none yet.
pub(super) async fn open_database(
    object_store: Arc<dyn ObjectStore>,
    path: &str,
    environment: &Environment,
) -> Result<Option<DbReader>, StoreError> {
    // Any file at all: SlateDB tells a missing database from a damaged one by its message only.
    let mut files = object_store.list(Some(&object_store::path::Path::from(path)));
    match files.next().await {
        None => return Ok(None),
        Some(Ok(_)) => drop(files),
        Some(Err(error)) => return Err(StoreError::Unavailable(error.to_string())),
    }
    let options = DbReaderOptions {
        object_store_max_retries: Some(RETRIES_MAX),
        ..DbReaderOptions::default()
    };
    let opened = DbReader::builder(path, object_store)
        .with_reader_mode(DbReaderMode::FollowLatest)
        .with_options(options)
        .with_db_cache_disabled()
        .with_seed(environment.entropy.next_u64())
        .build()
        .await;
    opened.map(Some).map_err(|error| classify_look(&error))
}

impl std::fmt::Debug for MetadataReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MetadataReader")
            .field("brokers", &self.brokers.len())
            .finish_non_exhaustive()
    }
}
