//! A long look at the metadata, for tools: what was loaded, and the runs behind it page by page.
//!
//! Owns: reading without writing or fencing, also where something cannot be decoded. Does not own: what
//! is right and wrong (the tools), keys and values (`keys`, `format`).
//!
//! What was loaded is as of the opening; what is asked for later may be newer. Whoever compares the two
//! asks for both ends of a comparison ([`MetadataInspection::progress_now`] before and after the runs), or
//! looks again ([`MetadataInspection::again`]).

use std::sync::Arc;

use environment::Environment;
use object_store::ObjectStore;
use slatedb::config::ScanOptions;
use slatedb::{DbReader, VersionedManifest};
use vocabulary::{Offset, Partition, SegmentName, TopicId};

use super::files::blamed;
use super::format::{self, MetadataValue};
use super::reader::open_database;
use super::sealed::sealed;
use super::{LOAD_READ_BYTES, LoadError, StoreError, classify_look, decoded, keys, load, readable};
use crate::state::{Broker, KeptProducers, Progress, Run, Segment, State, Topic, WalLog};

/// The metadata, open for reading.
pub struct MetadataInspection {
    object_store: Arc<dyn ObjectStore>,
    path: String,
    environment: Environment,
    reader: DbReader,
    state: State,
    unreadable: Option<StoreError>,
}

/// One stored entry.
#[derive(Debug, Clone)]
pub struct MetadataEntry {
    pub key: Vec<u8>,
    /// The key for people: its kind, a slash and the rest in hexadecimal digits.
    pub name: String,
    pub value_bytes: usize,
    /// Or why it cannot be read.
    pub value: Result<MetadataValue, String>,
}

impl MetadataInspection {
    /// Opens the database below `path`. `None` when there is none yet. What cannot be decoded is left
    /// out: see [`MetadataInspection::unreadable`].
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Gone`]: look again.
    /// [`StoreError::Corrupt`]: it is no database of ours.
    pub async fn open(
        object_store: Arc<dyn ObjectStore>,
        path: &str,
        environment: &Environment,
    ) -> Result<Option<MetadataInspection>, StoreError> {
        MetadataInspection::open_sealed(sealed(object_store), path, environment).await
    }

    async fn open_sealed(
        object_store: Arc<dyn ObjectStore>,
        path: &str,
        environment: &Environment,
    ) -> Result<Option<MetadataInspection>, StoreError> {
        let opened = open_database(Arc::clone(&object_store), path, environment).await;
        let reader = match opened {
            Ok(Some(reader)) => reader,
            Ok(None) => return Ok(None),
            Err(error) => return Err(blamed(error, &object_store, path).await),
        };
        let (state, unreadable) = match load(&reader).await {
            Ok((state, _)) => (state, None),
            Err(LoadError::Corrupt(error)) => (State::default(), Some(error)),
            Err(LoadError::Database(error)) => {
                let _ = reader.close().await; // The first error is the one to tell.
                return Err(blamed(classify_look(&error), &object_store, path).await);
            }
        };
        let (path, environment) = (path.to_owned(), environment.clone());
        Ok(Some(MetadataInspection { object_store, path, environment, reader, state, unreadable }))
    }

    /// A new look at the same database, as it is now.
    ///
    /// # Errors
    /// As [`MetadataInspection::open`].
    pub async fn again(&self) -> Result<MetadataInspection, StoreError> {
        let (store, environment) = (Arc::clone(&self.object_store), &self.environment);
        let opened = MetadataInspection::open_sealed(store, &self.path, environment).await?;
        opened.ok_or_else(|| StoreError::Unavailable("the metadata is gone".to_owned()))
    }

    /// The first entry that could not be decoded. Nothing is loaded then; entries can still be read.
    pub fn unreadable(&self) -> Option<&StoreError> {
        self.unreadable.as_ref()
    }

    pub(super) fn object_store(&self) -> &Arc<dyn ObjectStore> {
        &self.object_store
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    pub(super) fn manifest(&self) -> VersionedManifest {
        self.reader.manifest()
    }

    /// Every registered broker.
    pub fn brokers(&self) -> Vec<Broker> {
        self.state.brokers.values().cloned().collect()
    }

    /// Every topic, by name.
    pub fn topics(&self) -> Vec<Arc<Topic>> {
        let ids = self.state.names.values();
        ids.filter_map(|id| self.state.topics.get(id)).cloned().collect()
    }

    pub fn topic(&self, id: TopicId) -> Option<&Topic> {
        self.state.topics.get(&id).map(|it| &**it)
    }

    pub fn topic_named(&self, name: &str) -> Option<&Topic> {
        self.state.topic(name).map(|it| &**it)
    }

    /// How far a partition was. `None` if it did not exist.
    pub fn progress(&self, partition: Partition) -> Option<&Progress> {
        self.state.progress_of(partition)
    }

    /// Every segment that was known, as live or as garbage, by name.
    pub fn segments(&self) -> impl Iterator<Item = (SegmentName, Segment)> {
        self.state.segments.iter().map(|(name, segment)| (*name, *segment))
    }

    pub fn segment(&self, name: SegmentName) -> Option<Segment> {
        self.state.segments.get(&name).copied()
    }

    /// Every write-ahead log, by broker and epoch.
    pub fn wal_logs(&self) -> Vec<WalLog> {
        self.state.logs.values().copied().collect()
    }

    /// Deleted topics whose runs are being dropped, with their number of partitions.
    pub fn dropping(&self) -> Vec<(TopicId, u32)> {
        self.state.dropping.iter().map(|(id, partitions)| (*id, *partitions)).collect()
    }

    /// How far a partition is by now. `None` while nothing was ever committed, or it is gone.
    ///
    /// # Errors
    /// As [`MetadataInspection::open`].
    pub async fn progress_now(&self, partition: Partition) -> Result<Option<Progress>, StoreError> {
        let key = keys::progress(partition);
        let Some(value) = self.get(&key).await? else { return Ok(None) };
        readable(&key, format::progress(&value)).map(Some)
    }

    /// What is known of a segment by now.
    ///
    /// # Errors
    /// As [`MetadataInspection::open`].
    pub async fn segment_now(&self, name: SegmentName) -> Result<Option<Segment>, StoreError> {
        let key = keys::segment(name);
        let Some(value) = self.get(&key).await? else { return Ok(None) };
        readable(&key, format::segment(&value)).map(Some)
    }

    /// The producers kept for a partition.
    ///
    /// # Errors
    /// As [`MetadataInspection::open`].
    pub async fn kept_producers(
        &self,
        partition: Partition,
    ) -> Result<Option<KeptProducers>, StoreError> {
        let key = keys::kept(partition);
        let Some(value) = self.get(&key).await? else { return Ok(None) };
        readable(&key, format::kept(partition, &value)).map(Some)
    }

    /// Up to `count_max` runs that end above `after`, in the order of their ends.
    ///
    /// # Errors
    /// As [`MetadataInspection::open`].
    pub async fn runs_after(
        &self,
        partition: Partition,
        after: Offset,
        count_max: usize,
    ) -> Result<Vec<Run>, StoreError> {
        let end_min = Offset(after.0.saturating_add(1));
        let range = keys::run(partition, end_min)..keys::runs_end(partition);
        let found = self.reader.scan_with_options(range, &scanning()).await;
        let mut found = found.map_err(|error| classify_look(&error))?;
        let mut runs = Vec::new();
        while runs.len() < count_max {
            match found.next().await.map_err(|error| classify_look(&error))? {
                Some(entry) => runs.push(decoded(&entry, format::run(&entry.key, &entry.value))?),
                None => break,
            }
        }
        Ok(runs)
    }

    /// Up to `count_max` entries whose keys start with `prefix` and lie behind `after`, in key order.
    ///
    /// # Errors
    /// As [`MetadataInspection::open`]; what cannot be decoded is in the entries themselves.
    pub async fn entries(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        count_max: usize,
    ) -> Result<Vec<MetadataEntry>, StoreError> {
        let start = match after {
            Some(after) => [after, &[0]].concat(),
            None => prefix.to_vec(),
        };
        let found = self.reader.scan_with_options(start.., &scanning()).await;
        let mut found = found.map_err(|error| classify_look(&error))?;
        let mut entries = Vec::new();
        while entries.len() < count_max {
            let Some(entry) = found.next().await.map_err(|error| classify_look(&error))? else {
                break;
            };
            if !entry.key.starts_with(prefix) {
                break;
            }
            entries.push(MetadataEntry {
                name: keys::printable(&entry.key),
                value_bytes: entry.value.len(),
                value: format::decode(&entry.key, &entry.value).map_err(|it| it.to_string()),
                key: entry.key.to_vec(),
            });
        }
        Ok(entries)
    }

    /// Ends the look.
    pub async fn close(self) {
        // What was read stays read, whether the reader closes well or not.
        let _ = self.reader.close().await;
    }

    async fn get(&self, key: &[u8]) -> Result<Option<bytes::Bytes>, StoreError> {
        self.reader.get(key).await.map_err(|error| classify_look(&error))
    }
}

/// The beginning of keys as [`MetadataEntry::name`] shows them: a kind's letter, or a letter, a slash and
/// an even number of hexadecimal digits. `None` for anything else.
pub fn metadata_prefix(text: &str) -> Option<Vec<u8>> {
    let (kind, digits) = text.split_once('/').unwrap_or((text, ""));
    let [kind] = *kind.as_bytes() else { return None };
    let is_hex = digits.bytes().all(|it| it.is_ascii_hexdigit());
    if !kind.is_ascii_alphabetic() || !is_hex || digits.len() % 2 != 0 {
        return None;
    }
    let bytes = (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16));
    let mut prefix = vec![kind];
    for byte in bytes {
        prefix.push(byte.ok()?);
    }
    Some(prefix)
}

fn scanning() -> ScanOptions {
    ScanOptions { read_ahead_bytes: LOAD_READ_BYTES, ..ScanOptions::default() }
}

impl std::fmt::Debug for MetadataInspection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MetadataInspection")
            .field("path", &self.path)
            .field("unreadable", &self.unreadable)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_written_as_keys_are_shown() {
        assert_eq!(metadata_prefix("r"), Some(b"r".to_vec()));
        assert_eq!(metadata_prefix("r/0aFF"), Some(vec![b'r', 0x0a, 0xff]));
        assert_eq!(metadata_prefix("b/"), Some(b"b".to_vec()));
        for bad in ["", "rr", "r/0", "r/xy", "/00", "é/00"] {
            assert_eq!(metadata_prefix(bad), None, "{bad}");
        }
    }
}
