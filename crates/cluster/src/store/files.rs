//! Every byte of the metadata's live files, checked against what checksums them.
//!
//! Owns: which files are live, reading all of each. Does not own: SlateDB's format, which its own readers
//! decode; what the entries mean (`inspection`).
//!
//! Looking at the metadata reads the blocks that hold entries and little else: a damaged filter or a
//! damaged footer is met by chance, by whoever asks for the wrong key. Here everything is read:
//!
//! - of a sorted file its footer, its index, its statistics, its filter and all of its blocks, each of
//!   which carries a checksum, and its footer has to agree with what the manifest says of the file;
//! - of the log each file that a start would replay.
//!
//! - of manifests, of what the compactor notes and of how far the collector is, the seal (`sealed`): they
//!   carry no checksum of SlateDB's. Only the latest manifest and the latest note count.
//!
//! A manifest from before there were seals has none. What of it says where something lies is compared with
//! the files; a damaged number beside that can only be seen where it contradicts something.

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, checksum};
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use slatedb::manifest::SsTableHandle;
use slatedb::{ErrorKind, SstReader, VersionedManifest, WalFile, WalReader};
use std::collections::BTreeSet;
use std::sync::Arc;

use super::inspection::MetadataInspection;
use super::sealed::BrokenSeal;
use super::{StoreError, classify_look};

/// What was read, and what of it is damaged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MetadataFiles {
    /// Keys in the bucket.
    pub files: Vec<String>,
    pub bytes: u64,
    pub damaged: Vec<DamagedFile>,
}

/// One file that is not what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedFile {
    /// Its key in the bucket.
    pub object: String,
    pub reason: String,
}

/// What SlateDB 0.18 writes as the last two bytes of a sorted file and of a file of its log.
const FORMAT_VERSION: u16 = 2;

/// The end of such a file: where its description starts, and the format's version.
const FOOTER_BYTES: usize = 8 + 2;

/// Bytes of a checksum behind what it is of.
const CHECKSUM_BYTES: usize = 4;

impl MetadataInspection {
    /// Reads every live file in full. A file that is gone may have been replaced by a running broker:
    /// look again before concluding.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: the store does not answer.
    pub async fn check_files(&self) -> Result<MetadataFiles, StoreError> {
        let manifest = self.manifest();
        let mut seen = MetadataFiles::default();
        let name = format!("{}/manifest/{:020}.manifest", self.path(), manifest.id());
        seen.files.push(name.clone());
        match self.read(&name).await? {
            Ok(bytes) => seen.bytes += bytes.len() as u64,
            Err(reason) => seen.damaged.push(DamagedFile { object: name, reason }),
        }
        self.check_notes(&mut seen).await?;
        self.check_sorted_files(&manifest, &mut seen).await?;
        self.check_log_files(&manifest, &mut seen).await?;
        Ok(seen)
    }

    /// The compactor's latest note, and the collector's numbers.
    async fn check_notes(&self, seen: &mut MetadataFiles) -> Result<(), StoreError> {
        let latest = self.listed("compactions").await?.into_iter().max();
        for object in latest.into_iter().chain(self.listed("gc").await?) {
            match self.read(&object).await? {
                Ok(bytes) => seen.bytes += bytes.len() as u64,
                Err(reason) => {
                    seen.damaged.push(DamagedFile { object: object.clone(), reason });
                }
            }
            seen.files.push(object);
        }
        Ok(())
    }

    /// Every key below a folder of the database.
    async fn listed(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        let prefix = Path::from(format!("{}/{folder}", self.path()));
        let listed = self.object_store().list(Some(&prefix));
        let listed: Vec<_> = listed
            .map_ok(|it| it.location.to_string())
            .try_collect()
            .await
            .map_err(|it: object_store::Error| StoreError::Unavailable(it.to_string()))?;
        Ok(listed)
    }

    async fn check_sorted_files(
        &self,
        manifest: &VersionedManifest,
        seen: &mut MetadataFiles,
    ) -> Result<(), StoreError> {
        let store = Arc::clone(self.object_store());
        let reader = SstReader::new(self.path(), store, None, None);
        let mut known = BTreeSet::new();
        for view in manifest.all_sst_views().filter(|it| known.insert(it.sst.id)) {
            let object = format!("{}/compacted/{}.sst", self.path(), view.sst.id.value());
            seen.files.push(object.clone());
            let bytes = match self.read(&object).await? {
                Ok(bytes) => bytes,
                Err(reason) => {
                    seen.damaged.push(DamagedFile { object, reason });
                    continue;
                }
            };
            seen.bytes += bytes.len() as u64;
            let whole = match footer_is_sound(&bytes) {
                Err(reason) => Err(reason),
                Ok(()) => match sorted_file_is_whole(&reader, &view.sst).await {
                    Ok(()) => filter_is_whole(&view.sst, &bytes),
                    Err(error) => Err(damage(&error)?),
                },
            };
            if let Err(reason) = whole {
                seen.damaged.push(DamagedFile { object, reason });
            }
        }
        Ok(())
    }

    async fn check_log_files(
        &self,
        manifest: &VersionedManifest,
        seen: &mut MetadataFiles,
    ) -> Result<(), StoreError> {
        let reader = WalReader::new(self.path(), Arc::clone(self.object_store()));
        let live = manifest.replay_after_wal_id().saturating_add(1)..;
        for file in reader.list(live).await.map_err(|error| classify_look(&error))? {
            let object = format!("{}/wal/{:020}.sst", self.path(), file.id);
            seen.files.push(object.clone());
            let bytes = match self.read(&object).await? {
                Ok(bytes) => bytes,
                Err(reason) => {
                    seen.damaged.push(DamagedFile { object, reason });
                    continue;
                }
            };
            seen.bytes += bytes.len() as u64;
            if let Err(reason) = log_file_is_whole(&file, &bytes).await? {
                seen.damaged.push(DamagedFile { object, reason });
            }
        }
        Ok(())
    }

    async fn read(&self, key: &str) -> Result<Result<Bytes, String>, StoreError> {
        read(&**self.object_store(), key).await
    }
}

/// A whole object; the inner error says that there is none, or that its seal is broken.
async fn read(store: &dyn ObjectStore, key: &str) -> Result<Result<Bytes, String>, StoreError> {
    let unavailable = |it: object_store::Error| StoreError::Unavailable(it.to_string());
    match store.get(&Path::from(key)).await {
        Ok(found) => Ok(Ok(found.bytes().await.map_err(unavailable)?)),
        Err(object_store::Error::NotFound { .. }) => Ok(Err("it does not exist".to_owned())),
        Err(error) => match BrokenSeal::behind(&error) {
            Some(broken) => Ok(Err(broken.reason.to_owned())),
            None => Err(unavailable(error)),
        },
    }
}

/// The error of a database that cannot be opened, with the first file of its log that is damaged: SlateDB
/// does not always say which one it was reading.
pub(super) async fn blamed(
    error: StoreError,
    store: &Arc<dyn ObjectStore>,
    path: &str,
) -> StoreError {
    let reader = WalReader::new(path, Arc::clone(store));
    // If these cannot be read either, the first error is the one to tell.
    for file in reader.list(..).await.unwrap_or_default() {
        let key = format!("{path}/wal/{:020}.sst", file.id);
        let Ok(Ok(bytes)) = read(&**store, &key).await else { continue };
        if let Ok(Err(reason)) = log_file_is_whole(&file, &bytes).await {
            return StoreError::Corrupt { key, reason };
        }
    }
    error
}

async fn log_file_is_whole(file: &WalFile, bytes: &[u8]) -> Result<Result<(), String>, StoreError> {
    if let Err(reason) = footer_is_sound(bytes) {
        return Ok(Err(reason));
    }
    let whole = async {
        let mut entries = file.iterator().await?;
        while entries.next().await?.is_some() {}
        Ok(())
    };
    match whole.await {
        Ok(()) => Ok(Ok(())),
        Err(error) => damage(&error).map(Err),
    }
}

/// SlateDB trusts a file's last bytes, and panics where they lead outside of it. An empty file is a fence.
fn footer_is_sound(bytes: &[u8]) -> Result<(), String> {
    if bytes.is_empty() {
        return Ok(());
    }
    let Some((rest, footer)) = bytes.split_last_chunk::<FOOTER_BYTES>() else {
        return Err("it is cut off".to_owned());
    };
    let (start, version) = footer.split_at(8);
    let start = start.iter().fold(0, |number: u64, byte| number << 8 | u64::from(*byte));
    let version = u16::from_be_bytes([version[0], version[1]]);
    let room = rest.len().saturating_sub(CHECKSUM_BYTES) as u64;
    if version != FORMAT_VERSION || room < start {
        return Err(format!("its footer leads to byte {start}, in version {version}"));
    }
    Ok(())
}

async fn sorted_file_is_whole(
    reader: &SstReader,
    told: &SsTableHandle,
) -> Result<(), slatedb::Error> {
    let file = reader.open(told.id.value()).await?;
    if *file.info() != told.info {
        let reason = "its footer and the manifest tell of different contents";
        return Err(slatedb::Error::data(reason.to_owned()));
    }
    file.stats().await?;
    for block in 0..file.index().await?.len() {
        file.read_block(block).await?;
    }
    Ok(())
}

/// Nobody offers to read a filter by itself.
fn filter_is_whole(told: &SsTableHandle, bytes: &[u8]) -> Result<(), String> {
    let (start, length) = (told.info.filter_offset, told.info.filter_len);
    if length == 0 {
        return Ok(());
    }
    let range = start as usize..start.saturating_add(length) as usize;
    let filter = bytes.get(range).and_then(<[u8]>::split_last_chunk::<CHECKSUM_BYTES>);
    let Some((filter, stored)) = filter else { return Err("its filter is cut off".to_owned()) };
    let stored = u64::from(u32::from_be_bytes(*stored));
    let is_whole = checksum(CrcAlgorithm::Crc32IsoHdlc, filter) == stored;
    is_whole.then_some(()).ok_or_else(|| "its filter has another checksum".to_owned())
}

/// What is wrong with a file.
///
/// # Errors
/// It is not the file: the store does not answer.
fn damage(error: &slatedb::Error) -> Result<String, StoreError> {
    match error.kind() {
        ErrorKind::Unavailable => Err(StoreError::Unavailable(error.to_string())),
        _ => Ok(error.to_string()),
    }
}
