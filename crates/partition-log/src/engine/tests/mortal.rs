//! A disk as one process sees it: when the process is dead, its calls reach nothing any more.

use crate::volume::{Chunks, FileInfo, Volume, VolumeError, VolumeFile};
use async_trait::async_trait;
use bytes::Bytes;
use environment::StopToken;
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct MortalVolume {
    pub(super) inner: Arc<dyn Volume>,
    pub(super) death: StopToken,
}

#[derive(Debug)]
struct MortalFile {
    inner: Arc<dyn VolumeFile>,
    death: StopToken,
}

/// A dead process waits for ever, also for what it had begun.
async fn while_alive<T>(death: &StopToken, call: impl Future<Output = T>) -> T {
    tokio::select! {
        biased;
        () = death.stopped() => std::future::pending().await,
        done = call => done,
    }
}

impl MortalVolume {
    fn file(&self, inner: Arc<dyn VolumeFile>) -> Arc<dyn VolumeFile> {
        Arc::new(MortalFile { inner, death: self.death.clone() })
    }
}

#[async_trait]
impl Volume for MortalVolume {
    async fn list(&self) -> Result<Vec<FileInfo>, VolumeError> {
        while_alive(&self.death, self.inner.list()).await
    }

    async fn create(
        &self,
        name: &str,
        preallocate_bytes: u64,
    ) -> Result<Arc<dyn VolumeFile>, VolumeError> {
        Ok(self.file(while_alive(&self.death, self.inner.create(name, preallocate_bytes)).await?))
    }

    async fn open(&self, name: &str) -> Result<Arc<dyn VolumeFile>, VolumeError> {
        Ok(self.file(while_alive(&self.death, self.inner.open(name)).await?))
    }

    async fn delete(&self, name: &str) -> Result<(), VolumeError> {
        while_alive(&self.death, self.inner.delete(name)).await
    }

    async fn sync_directory(&self) -> Result<(), VolumeError> {
        while_alive(&self.death, self.inner.sync_directory()).await
    }
}

#[async_trait]
impl VolumeFile for MortalFile {
    async fn write_at(&self, position: u64, chunks: Chunks) -> Result<(), VolumeError> {
        while_alive(&self.death, self.inner.write_at(position, chunks)).await
    }

    async fn sync(&self) -> Result<(), VolumeError> {
        while_alive(&self.death, self.inner.sync()).await
    }

    async fn write_synced(&self, position: u64, chunks: Chunks) -> Result<(), VolumeError> {
        while_alive(&self.death, self.inner.write_synced(position, chunks)).await
    }

    async fn read_at(&self, position: u64, length: usize) -> Result<Bytes, VolumeError> {
        while_alive(&self.death, self.inner.read_at(position, length)).await
    }

    async fn length(&self) -> Result<u64, VolumeError> {
        while_alive(&self.death, self.inner.length()).await
    }
}
