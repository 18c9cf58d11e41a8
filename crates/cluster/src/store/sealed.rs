//! The small files of the metadata database that carry no checksum, sealed on their way to the bucket.
//!
//! Owns: which files are sealed, the seal, an object store in front of another that seals what is written
//! and checks what is read. Does not own: files with checksums of their own (`files` reads them all), what
//! becomes of a broken seal (`classify`).
//!
//! SlateDB 0.18 checksums blocks, indexes and log entries, but neither its manifests, nor what its compactor
//! notes, nor the numbers up to which its collector has been. A flipped bit in one of those is a database of
//! another shape: fewer files, an older state, a log that starts elsewhere.
//!
//! # The seal, version 1
//!
//! | bytes | content |
//! | --- | --- |
//! | 8 | magic `AQSEAL01` |
//! | … | the file as SlateDB wrote it |
//! | 4 | CRC-32C of the file's name behind its last slash and of the file, little-endian |
//! | 8 | the magic again |
//!
//! A file with the magic at neither end is from before there were seals and passes as it is; at one end
//! only, it is damaged. So a flipped byte cannot turn a sealed file into an old one, and if both ends are
//! lost, SlateDB does not know the version that it finds in place of its own. The name is in the checksum
//! because a whole manifest in another one's place is as wrong as a damaged one.
//!
//! Sizes in listings are those of the sealed objects: nobody uses them.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions,
    Result,
};
use slatedb_common::retry::NonRetryable;

/// At both ends of a sealed file.
const MAGIC: [u8; 8] = *b"AQSEAL01";

const CHECKSUM_BYTES: usize = 4;

/// The endings of what SlateDB writes as a whole, without a checksum, and reads as a whole.
const SEALED_ENDINGS: [&str; 3] = [".manifest", ".compactions", ".boundary"];

/// What a store's error holds when a seal is broken: asking again is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{object} is damaged: {reason}")]
pub(super) struct BrokenSeal {
    /// Its key in the bucket.
    pub(super) object: String,
    pub(super) reason: &'static str,
}

impl BrokenSeal {
    /// The broken seal that an error comes from.
    pub(super) fn behind<'a>(
        error: &'a (dyn std::error::Error + 'static),
    ) -> Option<&'a BrokenSeal> {
        NonRetryable::find(error)?.0.downcast_ref()
    }
}

/// `store`, with seals on the files that need them.
pub(super) fn sealed(store: Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
    Arc::new(Sealed { store })
}

fn needs_seal(location: &Path) -> bool {
    SEALED_ENDINGS.iter().any(|it| location.as_ref().ends_with(it))
}

fn checksum<'a>(location: &Path, chunks: impl IntoIterator<Item = &'a Bytes>) -> [u8; 4] {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    digest.update(location.filename().unwrap_or_default().as_bytes());
    chunks.into_iter().for_each(|it| digest.update(it));
    (digest.finalize() as u32).to_le_bytes() // 32 bits, in a wider type.
}

fn seal(location: &Path, file: &PutPayload) -> PutPayload {
    let checksum = checksum(location, file);
    let end = [&checksum[..], &MAGIC].concat();
    let head = std::iter::once(Bytes::from_static(&MAGIC));
    head.chain(file.iter().cloned()).chain([Bytes::from(end)]).collect()
}

/// The file inside, or why its seal is broken.
fn unseal(location: &Path, bytes: Bytes) -> std::result::Result<Bytes, &'static str> {
    match (bytes.starts_with(&MAGIC), bytes.ends_with(&MAGIC)) {
        (false, false) => return Ok(bytes), // From before there were seals.
        (true, true) => (),
        _ => return Err("its seal is at one end only"),
    }
    let end = bytes.len().checked_sub(MAGIC.len() + CHECKSUM_BYTES);
    let Some(end) = end.filter(|end| MAGIC.len() <= *end) else {
        return Err("it is shorter than its seal");
    };
    let file = bytes.slice(MAGIC.len()..end);
    match checksum(location, [&file]) == bytes[end..end + CHECKSUM_BYTES] {
        true => Ok(file),
        false => Err("it has another checksum, or was written under another name"),
    }
}

#[derive(Debug)]
struct Sealed {
    store: Arc<dyn ObjectStore>,
}

impl fmt::Display for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with seals", self.store)
    }
}

impl Sealed {
    /// What a sealed file is asked for never leaves out a part: the checksum is of all of it.
    async fn unsealed(&self, location: &Path, mut options: GetOptions) -> Result<GetResult> {
        let range = options.range.take();
        let GetResult { payload, mut meta, attributes, extensions, .. } =
            self.store.get_opts(location, options).await?;
        let whole = 0..meta.size;
        let found = GetResult {
            payload,
            meta: meta.clone(),
            range: whole,
            attributes: attributes.clone(),
            extensions: extensions.clone(),
        };
        let file = unseal(location, found.bytes().await?).map_err(|reason| {
            let broken = BrokenSeal { object: location.to_string(), reason };
            generic(Box::new(NonRetryable(Box::new(broken))))
        })?;
        meta.size = file.len() as u64;
        let range = match range {
            Some(range) => range.as_range(meta.size).map_err(|it| generic(Box::new(it)))?,
            None => 0..meta.size,
        };
        let part = file.slice(range.start as usize..range.end as usize);
        let payload = GetResultPayload::Stream(futures::stream::iter([Ok(part)]).boxed());
        Ok(GetResult { payload, meta, range, attributes, extensions })
    }
}

fn generic(source: Box<dyn std::error::Error + Send + Sync>) -> Error {
    Error::Generic { store: "sealed metadata", source }
}

fn not_supported(reason: &str) -> Error {
    Error::NotSupported { source: reason.into() }
}

#[async_trait]
impl ObjectStore for Sealed {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let payload = if needs_seal(location) { seal(location, &payload) } else { payload };
        self.store.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        if needs_seal(location) {
            return Err(not_supported("a sealed file is written as a whole"));
        }
        self.store.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        match needs_seal(location) && !options.head {
            true => self.unsealed(location, options).await,
            false => self.store.get_opts(location, options).await,
        }
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        if !needs_seal(location) {
            return self.store.get_ranges(location, ranges).await;
        }
        let file = self.unsealed(location, GetOptions::default()).await?.bytes().await?;
        let length = file.len() as u64;
        if ranges.iter().any(|it| it.end < it.start || length < it.end) {
            return Err(generic(format!("{location} ends at {length}").into()));
        }
        let part = |it: &Range<u64>| file.slice(it.start as usize..it.end as usize);
        Ok(ranges.iter().map(part).collect())
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.store.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.store.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.store.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        if needs_seal(from) || needs_seal(to) {
            return Err(not_supported("a sealed file is bound to its name"));
        }
        self.store.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        if needs_seal(from) || needs_seal(to) {
            return Err(not_supported("a sealed file is bound to its name"));
        }
        self.store.rename_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;
    use object_store::{GetRange, ObjectStoreExt};

    const FILE: &[u8] = b"\0\x02 what SlateDB writes into a manifest";

    fn manifest(number: u64) -> Path {
        Path::from(format!("somewhere/meta/manifest/{number:020}.manifest"))
    }

    async fn raw(store: &InMemory, location: &Path) -> Bytes {
        store.get(location).await.expect("it is there").bytes().await.expect("memory")
    }

    #[tokio::test]
    async fn what_is_sealed_comes_back_and_the_rest_is_left_alone() {
        let memory = Arc::new(InMemory::new());
        let store = sealed(Arc::<InMemory>::clone(&memory));
        for ending in ["manifest", "compactions", "boundary", "sst"] {
            let location = Path::from(format!("meta/x/0001.{ending}"));
            store.put(&location, PutPayload::from_static(FILE)).await.expect("it is put");
            let stored = raw(&memory, &location).await;
            assert_eq!(stored.starts_with(&MAGIC), ending != "sst", "{ending}");
            let found = store.get(&location).await.expect("it is there");
            assert_eq!(found.meta.size, FILE.len() as u64);
            assert_eq!(found.bytes().await.expect("it is read"), FILE);
            let part = store.get_range(&location, 2..6).await.expect("a part is read");
            assert_eq!(part, FILE[2..6]);
            let last = GetOptions { range: Some(GetRange::Suffix(3)), ..Default::default() };
            let last = store.get_opts(&location, last).await.expect("the end is read");
            assert_eq!(last.bytes().await.expect("it is read"), FILE[FILE.len() - 3..]);
            let parts = store.get_ranges(&location, &[0..1, 5..9]).await.expect("parts are read");
            assert_eq!(parts, [&FILE[0..1], &FILE[5..9]]);
            assert!(store.copy(&location, &manifest(9)).await.is_err(), "{ending}");
        }
        // From before there were seals, and empty.
        for old in [FILE, b""] {
            memory.put(&manifest(1), PutPayload::from_static(old)).await.expect("it is put");
            let found = store.get(&manifest(1)).await.expect("it is there");
            assert_eq!(found.bytes().await.expect("it is read"), old);
        }
    }

    /// Goal: one damaged byte anywhere, a lost end, or another file in its place is told, with the name.
    #[tokio::test]
    async fn a_broken_seal_names_its_file() {
        let memory = Arc::new(InMemory::new());
        let store = sealed(Arc::<InMemory>::clone(&memory));
        store.put(&manifest(7), PutPayload::from_static(FILE)).await.expect("it is put");
        let whole = raw(&memory, &manifest(7)).await;
        let flipped = (0..8 * whole.len()).map(|bit| {
            let mut bytes = whole.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            bytes
        });
        let cut = (1..whole.len()).map(|length| whole[..length].to_vec());
        for bytes in flipped.chain(cut.filter(|it| MAGIC.len() <= it.len())) {
            memory.put(&manifest(7), bytes.into()).await.expect("it is put");
            let error = store.get(&manifest(7)).await.expect_err("damaged");
            let broken = BrokenSeal::behind(&error).expect("it says so");
            assert_eq!(broken.object, manifest(7).to_string());
            assert!(!slatedb_common::retry::should_retry(&error), "asking again does not help");
        }
        memory.put(&manifest(8), whole.into()).await.expect("it is put");
        let error = store.get(&manifest(8)).await.expect_err("it is manifest 7");
        assert!(BrokenSeal::behind(&error).is_some());
    }
}
