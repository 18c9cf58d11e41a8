//! The port to a local or attached disk, so that a write-ahead log can be simulated.
//!
//! Owns: files in one flat directory, what durable means, who may use the directory.
//! Does not own: what the bytes mean (`wal`), retries, backoff.
//!
//! The contract that every twin keeps, and that the conformance suite checks:
//! - V1 bytes are durable once a [`VolumeFile::sync`] or [`VolumeFile::write_synced`] that started
//!   after their write has returned `Ok`; before, a crash may keep any part of them;
//! - V2 a created or deleted name is durable once [`Volume::sync_directory`] has returned `Ok`;
//!   before, a crash may undo it;
//! - V3 after an `Err` from a write or a sync the bytes concerned may be there, or not, or in part,
//!   and a later successful sync says nothing about them (a kernel drops the dirty pages it failed
//!   to write): only writing them again elsewhere makes them durable;
//! - V4 bytes never written, preallocated or in a hole, read as anything; below the length they are
//!   readable, beyond it a read is short.

mod identity;
mod local;
mod memory;

pub use local::LocalVolume;
pub use memory::{MemoryFaults, MemoryVolume};

use async_trait::async_trait;
use bytes::Bytes;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Bytes to write, gathered: the pieces are never copied together. Shared, so that a retry costs
/// nothing.
pub type Chunks = Arc<Vec<Bytes>>;

/// A synced write that starts at a multiple of this may put zeros behind its bytes, up to the next
/// multiple, where the file is that long.
pub const WRITE_ALIGNMENT_BYTES: u64 = bucket::direct::ALIGNMENT_BYTES;

/// One file of a [`Volume::list`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileInfo {
    pub name: String,
    /// Bytes, preallocated ones included.
    pub length: u64,
}

/// A flat directory of files, used by one process at a time. Names are plain: no separators, no
/// leading dot.
#[async_trait]
pub trait Volume: Send + Sync + fmt::Debug {
    /// All files, sorted by name.
    async fn list(&self) -> Result<Vec<FileInfo>, VolumeError>;

    /// A new empty file with room for `preallocate_bytes`, where the file system can promise that.
    /// Errors: `AlreadyExists`, `Full`. A failed create leaves no file, as far as it could tell.
    async fn create(
        &self,
        name: &str,
        preallocate_bytes: u64,
    ) -> Result<Arc<dyn VolumeFile>, VolumeError>;

    /// Errors: `NotFound`.
    async fn open(&self, name: &str) -> Result<Arc<dyn VolumeFile>, VolumeError>;

    /// A file that is absent is fine. Open handles keep working until they are dropped.
    async fn delete(&self, name: &str) -> Result<(), VolumeError>;

    /// Makes creations and deletions durable.
    async fn sync_directory(&self) -> Result<(), VolumeError>;
}

/// One open file. Calls may overlap; overlapping writes to the same bytes may not.
#[async_trait]
pub trait VolumeFile: Send + Sync + fmt::Debug {
    /// Writes all chunks, one behind the other, from `position` on. Not durable yet.
    async fn write_at(&self, position: u64, chunks: Chunks) -> Result<(), VolumeError>;

    /// Makes the bytes written before durable, with the length needed to read them.
    async fn sync(&self) -> Result<(), VolumeError>;

    /// As [`VolumeFile::write_at`] and then [`VolumeFile::sync`], for the price of one call. May put
    /// zeros behind the bytes, see [`WRITE_ALIGNMENT_BYTES`].
    async fn write_synced(&self, position: u64, chunks: Chunks) -> Result<(), VolumeError> {
        self.write_at(position, chunks).await?;
        self.sync().await
    }

    /// Up to `length` bytes from `position`; fewer only at the end of the file.
    async fn read_at(&self, position: u64, length: usize) -> Result<Bytes, VolumeError>;

    /// Bytes, preallocated ones included.
    async fn length(&self) -> Result<u64, VolumeError>;
}

/// Why a volume did not do what it was asked to.
#[derive(Debug, Clone, thiserror::Error)]
pub enum VolumeError {
    #[error("file {name} does not exist")]
    NotFound { name: String },
    #[error("file {name} exists already")]
    AlreadyExists { name: String },
    /// Space may come back by trimming or by an operator.
    #[error("no space left to {operation} {name}")]
    Full { operation: &'static str, name: String },
    /// Another process has the directory; two writers would destroy each other's log.
    #[error("directory {} is in use by {}", directory.display(), owner(*pid))]
    Locked { directory: PathBuf, pid: Option<u32> },
    /// Anything else, as the system says it.
    #[error("cannot {operation} {name}: {source}")]
    Failed { operation: &'static str, name: String, source: Arc<io::Error> },
}

fn owner(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

#[cfg(test)]
mod tests;
