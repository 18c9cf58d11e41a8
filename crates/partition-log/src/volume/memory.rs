//! The simulated disk: a volume in memory that forgets what was not synced, and fails when told to.
//!
//! Owns: what a crash keeps, which faults come, all decided by the seed of its entropy.
//! Does not own: when to crash (the test), time (the environment's clock).
//!
//! It keeps the promises V1 to V4 and nothing beyond them: a crash keeps any subset of the unsynced
//! sectors and directory changes; a failed sync drops dirty bytes for good, yet leaves them readable
//! until the crash; preallocated room may hold the bytes of a deleted file.

use super::{Chunks, FileInfo, Volume, VolumeError, VolumeFile, WRITE_ALIGNMENT_BYTES};
use async_trait::async_trait;
use bytes::Bytes;
use environment::{Clock, Entropy, Environment};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What a crash keeps or loses as a unit.
const SECTOR_BYTES: usize = 512;

/// What goes wrong, and how often. The default: nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryFaults {
    /// Of a thousand creations, how many find no space.
    pub create_full_per_mille: u64,
    /// Of a thousand writes, how many fail after a part of their bytes.
    pub write_fails_per_mille: u64,
    /// Of a thousand syncs, how many fail and drop a part of the dirty bytes.
    pub sync_fails_per_mille: u64,
    /// Of a thousand deletions and directory syncs, how many fail.
    pub directory_fails_per_mille: u64,
    /// No file grows once all files together have this many bytes.
    pub capacity_bytes: u64,
    /// Each call waits up to this long before and after it takes effect.
    pub latency_max: Duration,
}

impl Default for MemoryFaults {
    fn default() -> MemoryFaults {
        MemoryFaults {
            create_full_per_mille: 0,
            write_fails_per_mille: 0,
            sync_fails_per_mille: 0,
            directory_fails_per_mille: 0,
            capacity_bytes: u64::MAX,
            latency_max: Duration::ZERO,
        }
    }
}

/// Clones are the same disk; a clone outlives the process that a test kills.
#[derive(Debug, Clone)]
pub struct MemoryVolume {
    /// Leaf lock: never held across an await.
    disk: Arc<Mutex<Disk>>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

#[derive(Debug, Default)]
struct Disk {
    /// Counts crashes: a handle of an earlier life is dead.
    life: u64,
    files: BTreeMap<u64, FileState>,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    next_file: u64,
    stale: Vec<u8>,
    faults: MemoryFaults,
}

#[derive(Debug, Default)]
struct FileState {
    visible: Vec<u8>,
    durable: Vec<u8>,
    dirty: Vec<(usize, Bytes)>,
    /// What was in the preallocated room before anything was written.
    fresh: Vec<u8>,
    /// Shared with the open handles: a deleted file lives until the last of them is gone.
    open: Arc<()>,
}

impl FileState {
    fn write(&mut self, position: usize, bytes: &Bytes) {
        put(&mut self.visible, position, bytes);
        self.dirty.push((position, bytes.clone()));
    }
}

fn put(target: &mut Vec<u8>, position: usize, bytes: &[u8]) {
    let end = position + bytes.len();
    if target.len() < end {
        target.resize(end, 0);
    }
    target[position..end].copy_from_slice(bytes);
}

impl MemoryVolume {
    pub fn new(environment: &Environment) -> MemoryVolume {
        MemoryVolume {
            disk: Arc::default(),
            clock: Arc::clone(&environment.clock),
            entropy: Arc::clone(&environment.entropy),
        }
    }

    /// The same disk in another process: with another clock and another chance.
    pub fn remount(&self, environment: &Environment) -> MemoryVolume {
        MemoryVolume {
            disk: Arc::clone(&self.disk),
            clock: Arc::clone(&environment.clock),
            entropy: Arc::clone(&environment.entropy),
        }
    }

    /// Replaces the faults from now on.
    pub fn set_faults(&self, faults: MemoryFaults) {
        self.disk().faults = faults;
    }

    /// The power fails and comes back: of what was not synced, the seed decides what is left. Handles
    /// from before fail from now on.
    pub fn crash(&self) {
        let mut disk = self.disk();
        let disk = &mut *disk;
        disk.life += 1;
        for (name, id) in &disk.names {
            if !disk.durable_names.contains_key(name) && self.one_in(2) {
                disk.durable_names.insert(name.clone(), *id);
            }
        }
        disk.durable_names.retain(|name, _| disk.names.contains_key(name) || self.one_in(2));
        disk.names = disk.durable_names.clone();
        let named: BTreeSet<u64> = disk.durable_names.values().copied().collect();
        disk.files.retain(|id, _| named.contains(id));
        for file in disk.files.values_mut() {
            self.tear(file);
        }
    }

    /// Changes one byte of a file, as a decaying disk does. For tests of detection.
    pub fn corrupt(&self, name: &str, position: u64) {
        let mut disk = self.disk();
        let id = *disk.names.get(name).expect("the test names a file that exists");
        let file = disk.files.get_mut(&id).expect("a name has a file");
        for bytes in [&mut file.visible, &mut file.durable] {
            if let Some(byte) = bytes.get_mut(position as usize) {
                *byte ^= 0x40;
            }
        }
    }

    /// Sectors survive all, none, one by one, or from the front; as disks and kernels do.
    fn tear(&self, file: &mut FileState) {
        let mode = self.entropy.below(4);
        'writes: for (position, bytes) in std::mem::take(&mut file.dirty) {
            for (index, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
                let keep = match mode {
                    0 => true,
                    1 => false,
                    2 => self.one_in(2),
                    _ if self.one_in(8) => break 'writes,
                    _ => true,
                };
                if keep {
                    put(&mut file.durable, position + index * SECTOR_BYTES, sector);
                }
            }
        }
        file.visible = file.durable.clone();
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn one_in(&self, n: u64) -> bool {
        self.entropy.below(n) == 0
    }

    fn per_mille(&self, chance: u64) -> bool {
        self.entropy.below(1000) < chance
    }

    async fn wait(&self) {
        let latency_max = self.disk().faults.latency_max;
        if latency_max != Duration::ZERO {
            let micros = u64::try_from(latency_max.as_micros()).unwrap_or(u64::MAX);
            self.clock.sleep(Duration::from_micros(self.entropy.below(micros + 1))).await;
        }
    }

    /// One operation: a wait, the effect at one instant, a wait.
    async fn step<T>(
        &self,
        effect: impl FnOnce(&MemoryVolume, &mut Disk) -> Result<T, VolumeError>,
    ) -> Result<T, VolumeError> {
        self.wait().await;
        let outcome = effect(self, &mut self.disk());
        self.wait().await;
        outcome
    }

    fn file(&self, name: &str, handle: Handle) -> Arc<dyn VolumeFile> {
        Arc::new(MemoryFile { volume: self.clone(), name: name.to_owned(), handle })
    }
}

impl Disk {
    /// Bytes by which files may still grow.
    fn free(&self) -> u64 {
        match self.faults.capacity_bytes {
            u64::MAX => u64::MAX, // The common case, without counting.
            limit => {
                let used = self.files.values().map(|it| it.visible.len() as u64).sum();
                limit.saturating_sub(used)
            }
        }
    }

    fn handle(&self, id: u64) -> Handle {
        let open = self.files.get(&id).map(|it| Arc::clone(&it.open)).unwrap_or_default();
        Handle { id, life: self.life, _open: open }
    }

    /// Drops files that neither a name nor a crash nor a handle can bring back.
    fn prune(&mut self) {
        let named: BTreeSet<u64> =
            self.names.values().chain(self.durable_names.values()).copied().collect();
        self.files.retain(|id, file| named.contains(id) || 1 < Arc::strong_count(&file.open));
    }
}

#[derive(Debug)]
struct Handle {
    id: u64,
    life: u64,
    _open: Arc<()>,
}

fn failed(operation: &'static str, name: &str, reason: &'static str) -> VolumeError {
    let source = Arc::new(io::Error::other(reason));
    VolumeError::Failed { operation, name: name.to_owned(), source }
}

#[async_trait]
impl Volume for MemoryVolume {
    async fn list(&self) -> Result<Vec<FileInfo>, VolumeError> {
        self.step(|_, disk| {
            let info = |(name, id): (&String, &u64)| {
                let length = disk.files.get(id).map_or(0, |it| it.visible.len() as u64);
                FileInfo { name: name.clone(), length }
            };
            Ok(disk.names.iter().map(info).collect())
        })
        .await
    }

    async fn create(
        &self,
        name: &str,
        preallocate_bytes: u64,
    ) -> Result<Arc<dyn VolumeFile>, VolumeError> {
        let create = |volume: &MemoryVolume, disk: &mut Disk| {
            if disk.names.contains_key(name) {
                return Err(VolumeError::AlreadyExists { name: name.to_owned() });
            }
            disk.prune();
            let full = disk.free() < preallocate_bytes;
            if full || volume.per_mille(disk.faults.create_full_per_mille) {
                return Err(VolumeError::Full { operation: "create", name: name.to_owned() });
            }
            let id = disk.next_file;
            disk.next_file += 1;
            let mut fresh = if volume.one_in(2) { disk.stale.clone() } else { Vec::new() };
            fresh.resize(preallocate_bytes as usize, 0);
            let durable = if volume.one_in(2) { fresh.clone() } else { Vec::new() };
            let visible = fresh.clone();
            let state = FileState { visible, durable, fresh, ..FileState::default() };
            disk.files.insert(id, state);
            disk.names.insert(name.to_owned(), id);
            Ok(disk.handle(id))
        };
        Ok(self.file(name, self.step(create).await?))
    }

    async fn open(&self, name: &str) -> Result<Arc<dyn VolumeFile>, VolumeError> {
        let open = |_: &MemoryVolume, disk: &mut Disk| match disk.names.get(name) {
            Some(id) => Ok(disk.handle(*id)),
            None => Err(VolumeError::NotFound { name: name.to_owned() }),
        };
        Ok(self.file(name, self.step(open).await?))
    }

    async fn delete(&self, name: &str) -> Result<(), VolumeError> {
        self.step(|volume, disk| {
            if volume.per_mille(disk.faults.directory_fails_per_mille) {
                return Err(failed("delete", name, "planted"));
            }
            if let Some(id) = disk.names.remove(name)
                && let Some(file) = disk.files.get(&id)
            {
                disk.stale = file.visible.clone(); // The file itself stays for a crash that undoes this.
            }
            disk.prune();
            Ok(())
        })
        .await
    }

    async fn sync_directory(&self) -> Result<(), VolumeError> {
        self.step(|volume, disk| {
            if volume.per_mille(disk.faults.directory_fails_per_mille) {
                return Err(failed("sync", "the directory", "planted"));
            }
            disk.durable_names = disk.names.clone();
            disk.prune();
            Ok(())
        })
        .await
    }
}

#[derive(Debug)]
struct MemoryFile {
    volume: MemoryVolume,
    name: String,
    handle: Handle,
}

impl MemoryFile {
    async fn step<T>(
        &self,
        operation: &'static str,
        effect: impl FnOnce(&MemoryVolume, &mut FileState, &Room) -> Result<T, VolumeError>,
    ) -> Result<T, VolumeError> {
        let run = |volume: &MemoryVolume, disk: &mut Disk| {
            if disk.life != self.handle.life {
                return Err(failed(operation, &self.name, "the machine crashed"));
            }
            let room = Room { free: disk.free(), faults: disk.faults.clone() };
            match disk.files.get_mut(&self.handle.id) {
                Some(file) => effect(volume, file, &room),
                None => Err(failed(operation, &self.name, "the file was deleted")),
            }
        };
        self.volume.step(run).await
    }

    fn write(
        &self,
        volume: &MemoryVolume,
        file: &mut FileState,
        room: &Room,
        position: u64,
        chunks: &[Bytes],
    ) -> Result<(), VolumeError> {
        let length: usize = chunks.iter().map(Bytes::len).sum();
        let mut at = position as usize;
        let growth = (at + length).saturating_sub(file.visible.len()) as u64;
        if room.free < growth {
            return Err(VolumeError::Full { operation: "write", name: self.name.clone() });
        }
        let fails = volume.per_mille(room.faults.write_fails_per_mille);
        let mut left =
            if fails { volume.entropy.below(length as u64 + 1) as usize } else { length };
        for chunk in chunks {
            let taken = chunk.slice(..chunk.len().min(left));
            if !taken.is_empty() {
                file.write(at, &taken);
            }
            at += taken.len();
            left -= taken.len();
        }
        if fails { Err(failed("write", &self.name, "planted")) } else { Ok(()) }
    }

    fn sync(
        &self,
        volume: &MemoryVolume,
        file: &mut FileState,
        room: &Room,
    ) -> Result<(), VolumeError> {
        let fails = volume.per_mille(room.faults.sync_fails_per_mille);
        for (position, bytes) in std::mem::take(&mut file.dirty) {
            if !fails || volume.one_in(2) {
                put(&mut file.durable, position, &bytes);
            }
        }
        if fails {
            return Err(failed("sync", &self.name, "planted"));
        }
        let preallocated = file.fresh.get(file.durable.len()..).unwrap_or_default();
        file.durable.extend_from_slice(preallocated);
        Ok(())
    }
}

/// What an operation on one file may know of the whole disk.
struct Room {
    free: u64,
    faults: MemoryFaults,
}

#[async_trait]
impl VolumeFile for MemoryFile {
    async fn write_at(&self, position: u64, chunks: Chunks) -> Result<(), VolumeError> {
        self.step("write", |volume, file, room| self.write(volume, file, room, position, &chunks))
            .await
    }

    async fn sync(&self) -> Result<(), VolumeError> {
        self.step("sync", |volume, file, room| self.sync(volume, file, room)).await
    }

    async fn write_synced(&self, position: u64, chunks: Chunks) -> Result<(), VolumeError> {
        let length = chunks.iter().map(|it| it.len() as u64).sum::<u64>();
        let padded = length.next_multiple_of(WRITE_ALIGNMENT_BYTES);
        let fits = position.saturating_add(padded) <= VolumeFile::length(self).await?;
        let mut chunks = chunks;
        if fits && position.is_multiple_of(WRITE_ALIGNMENT_BYTES) {
            // As a disk that takes whole blocks only; whoever relies on what was there must notice.
            let padding = usize::try_from(padded - length).unwrap_or_default();
            Arc::make_mut(&mut chunks).push(Bytes::from(vec![0; padding]));
        }
        VolumeFile::write_at(self, position, chunks).await?;
        VolumeFile::sync(self).await
    }

    async fn read_at(&self, position: u64, length: usize) -> Result<Bytes, VolumeError> {
        self.step("read", |_, file, _| {
            let start = usize::try_from(position).unwrap_or(usize::MAX).min(file.visible.len());
            let end = start.saturating_add(length).min(file.visible.len());
            Ok(Bytes::copy_from_slice(&file.visible[start..end]))
        })
        .await
    }

    async fn length(&self) -> Result<u64, VolumeError> {
        self.step("measure", |_, file, _| Ok(file.visible.len() as u64)).await
    }
}
