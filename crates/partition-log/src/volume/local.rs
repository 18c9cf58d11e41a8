//! The real disk: plain files in one directory, positional vectored writes, `fdatasync`.
//!
//! Owns: system calls on the runtime's blocking threads, the directory lock, preallocation, spares.
//! Does not own: file names and what is in the files (`wal`), retries, writes past the page cache
//! (`bucket::direct`).
//!
//! The lock is an advisory `flock` on `.lock`, held as long as the volume lives; the kernel drops it
//! with the process, so a stale file never needs cleaning up. The process id inside is for people.
//!
//! A deleted file of some size becomes a spare, and a spare becomes the next file of its size: blocks
//! that were written before need no change of the file system's own records when they are written
//! again, which makes a sync two to three times as fast as one into freshly preallocated blocks. V4
//! allows it: what was never written to a file may read as anything. A spare that somebody still
//! reads waits, so that open handles keep seeing their own bytes.

use super::{Chunks, FileInfo, Volume, VolumeError, VolumeFile};
use async_trait::async_trait;
use bucket::direct::{DirectWrites, Durable};
use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::fs::{
    CWD, FallocateFlags, FlockOperation, RenameFlags, fallocate, fdatasync, flock, fsync,
};
use rustix::io::Errno;
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

const LOCK_NAME: &str = ".lock";
const SPARE_PREFIX: &str = ".spare-";
/// Deleted files kept for reuse. Larger: longer bursts without new blocks, more disk held while idle.
const SPARES_MAX: usize = 4;
/// Smaller files are not worth keeping, in bytes.
const SPARE_BYTES_MIN: u64 = 1024 * 1024;
/// Linux takes this many pieces in one vectored write.
const PIECES_PER_WRITE_MAX: usize = 1024;

/// A directory of the local file system, held exclusively.
#[derive(Debug)]
pub struct LocalVolume {
    directory: Arc<PathBuf>,
    /// Leaf lock: map operations only, never across an await or a system call.
    reuse: Arc<Mutex<Reuse>>,
    direct: Arc<DirectWrites>,
    /// Held for its lock.
    _lock: File,
}

/// What is needed to use a deleted file's blocks again.
#[derive(Debug, Default)]
struct Reuse {
    /// Handles by name. Dead ones go when their file does.
    open: HashMap<String, Vec<Weak<File>>>,
    spares: Vec<Spare>,
    /// Spares are named by it.
    count: u64,
}

#[derive(Debug)]
struct Spare {
    name: String,
    length: u64,
    /// Handles that were open when the file was deleted.
    readers: Vec<Weak<File>>,
}

impl Reuse {
    /// A spare nobody reads, large enough and not more than twice too large.
    fn take(&mut self, bytes: u64) -> Option<Spare> {
        let unread = |it: &Spare| it.readers.iter().all(|it| it.strong_count() == 0);
        let fits = |it: &Spare| bytes <= it.length && it.length <= 2 * bytes && unread(it);
        let index = self.spares.iter().position(fits)?;
        Some(self.spares.swap_remove(index))
    }

    /// Where a file of `length` bytes goes when it is deleted. `None`: really deleted.
    fn keep(&mut self, name: &str, length: u64) -> Option<Spare> {
        let mut readers = self.open.remove(name).unwrap_or_default();
        readers.retain(|it| it.strong_count() != 0);
        if length < SPARE_BYTES_MIN || SPARES_MAX <= self.spares.len() {
            return None;
        }
        self.count += 1;
        let name = format!("{SPARE_PREFIX}{}-{}", std::process::id(), self.count);
        Some(Spare { name, length, readers })
    }
}

impl LocalVolume {
    /// Creates the directory if it is absent and takes its lock.
    /// Errors: `Locked` when another process, or another volume of this one, has it.
    pub async fn open(directory: impl Into<PathBuf>) -> Result<LocalVolume, VolumeError> {
        let directory = Arc::new(directory.into());
        let path = Arc::clone(&directory);
        let (lock, spares) = blocking("lock", path.display().to_string(), move || {
            create_directory(&path).map_err(|error| failed("create", &path, error))?;
            let lock = take_lock(&path)?;
            Ok((lock, find_spares(&path).map_err(|error| failed("list", &path, error))?))
        })
        .await?;
        let reuse = Arc::new(Mutex::new(Reuse { spares, ..Reuse::default() }));
        Ok(LocalVolume { directory, reuse, direct: Arc::default(), _lock: lock })
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    async fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        name: &str,
        work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, VolumeError> {
        debug_assert!(!name.contains('/') && !name.starts_with('.'), "names are plain: {name}");
        let path =
            if name.is_empty() { (*self.directory).clone() } else { self.directory.join(name) };
        let name = name.to_owned();
        blocking(operation, name.clone(), move || {
            work(&path).map_err(|error| classify(operation, name, error))
        })
        .await
    }

    fn file(&self, name: &str, opened: Handles) -> Arc<dyn VolumeFile> {
        let file = Arc::new(opened.file);
        lock(&self.reuse).open.entry(name.to_owned()).or_default().push(Arc::downgrade(&file));
        let direct = opened.direct.map(|file| Direct { file, writes: Arc::clone(&self.direct) });
        Arc::new(LocalFile { name: Arc::from(name), file, direct: direct.map(Arc::new) })
    }
}

fn lock(reuse: &Mutex<Reuse>) -> MutexGuard<'_, Reuse> {
    reuse.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Volume for LocalVolume {
    async fn list(&self) -> Result<Vec<FileInfo>, VolumeError> {
        self.run("list", "", |directory| {
            let mut files = Vec::new();
            for entry in fs::read_dir(directory)? {
                let entry = entry?;
                let metadata = entry.metadata()?;
                let name = entry.file_name().into_string();
                if let Ok(name) = name
                    && metadata.is_file()
                    && !name.starts_with('.')
                {
                    files.push(FileInfo { name, length: metadata.len() });
                }
            }
            files.sort_by(|left, right| left.name.cmp(&right.name));
            Ok(files)
        })
        .await
    }

    async fn create(
        &self,
        name: &str,
        preallocate_bytes: u64,
    ) -> Result<Arc<dyn VolumeFile>, VolumeError> {
        let spare = lock(&self.reuse).take(preallocate_bytes);
        let directory = Arc::clone(&self.directory);
        let writes = Arc::clone(&self.direct);
        let create = move |path: &Path| {
            if let Some(spare) = spare {
                match reuse_spare(&directory.join(&spare.name), path) {
                    Ok(file) => {
                        return Ok(Handles { file, direct: writes.open(path, Durable::EachWrite) });
                    }
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                        return Err(error);
                    }
                    // Taken away by somebody, or a file system without such renames.
                    Err(_) => (),
                }
            }
            let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
            match preallocate(&file, preallocate_bytes) {
                // Without room there is nothing that a direct write may fill.
                Ok(()) if preallocate_bytes == 0 => Ok(Handles { file, direct: None }),
                Ok(()) => Ok(Handles { file, direct: writes.open(path, Durable::EachWrite) }),
                Err(error) => {
                    // The cause is what the caller needs; an empty file left behind is harmless.
                    let _ = fs::remove_file(path);
                    Err(error)
                }
            }
        };
        Ok(self.file(name, self.run("create", name, create).await?))
    }

    async fn open(&self, name: &str) -> Result<Arc<dyn VolumeFile>, VolumeError> {
        let open = |path: &Path| {
            let file = OpenOptions::new().read(true).write(true).open(path)?;
            Ok(Handles { file, direct: None }) // Opened to be read.
        };
        Ok(self.file(name, self.run("open", name, open).await?))
    }

    async fn delete(&self, name: &str) -> Result<(), VolumeError> {
        let (reuse, directory) = (Arc::clone(&self.reuse), Arc::clone(&self.directory));
        let plain = name.to_owned();
        self.run("delete", name, move |path| {
            let length = match fs::metadata(path) {
                Ok(metadata) => metadata.len(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(error),
            };
            let spare = lock(&reuse).keep(&plain, length);
            match spare {
                Some(spare) => {
                    fs::rename(path, directory.join(&spare.name))?;
                    lock(&reuse).spares.push(spare);
                    Ok(())
                }
                None => fs::remove_file(path),
            }
        })
        .await
    }

    async fn sync_directory(&self) -> Result<(), VolumeError> {
        self.run("sync", "", |directory| Ok(fsync(File::open(directory)?)?)).await
    }
}

/// What a file is opened as.
struct Handles {
    file: File,
    /// For writes past the page cache, where they are to be had.
    direct: Option<File>,
}

#[derive(Debug)]
struct Direct {
    file: File,
    writes: Arc<DirectWrites>,
}

#[derive(Debug)]
struct LocalFile {
    name: Arc<str>,
    file: Arc<File>,
    direct: Option<Arc<Direct>>,
}

impl LocalFile {
    async fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&File) -> io::Result<T> + Send + 'static,
    ) -> Result<T, VolumeError> {
        let (name, file) = (Arc::clone(&self.name), Arc::clone(&self.file));
        blocking(operation, self.name.to_string(), move || {
            work(&file).map_err(|error| classify(operation, name.to_string(), error))
        })
        .await
    }
}

#[async_trait]
impl VolumeFile for LocalFile {
    async fn write_at(&self, position: u64, chunks: Chunks) -> Result<(), VolumeError> {
        self.run("write", move |file| write_all(file, position, &chunks)).await
    }

    async fn sync(&self) -> Result<(), VolumeError> {
        self.run("sync", |file| Ok(fdatasync(file)?)).await
    }

    async fn write_synced(&self, position: u64, chunks: Chunks) -> Result<(), VolumeError> {
        let direct = self.direct.clone();
        self.run("write", move |file| {
            if let Some(direct) = direct {
                let length = chunks.iter().map(|it| it.len() as u64).sum();
                if DirectWrites::takes(position, length, file.metadata()?.len())
                    && direct.writes.write(&direct.file, position, &chunks)?
                {
                    return Ok(());
                }
            }
            write_all(file, position, &chunks)?;
            Ok(fdatasync(file)?)
        })
        .await
    }

    async fn read_at(&self, position: u64, length: usize) -> Result<Bytes, VolumeError> {
        self.run("read", move |file| read(file, position, length)).await
    }

    async fn length(&self) -> Result<u64, VolumeError> {
        self.run("measure", |file| Ok(file.metadata()?.len())).await
    }
}

/// Runs `work` where it may block. Panics in it go on in the caller.
pub(super) async fn blocking<T: Send + 'static>(
    operation: &'static str,
    name: String,
    work: impl FnOnce() -> Result<T, VolumeError> + Send + 'static,
) -> Result<T, VolumeError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => {
                let source = Arc::new(io::Error::other("the runtime is shutting down"));
                Err(VolumeError::Failed { operation, name, source })
            }
        },
    }
}

fn classify(operation: &'static str, name: String, error: io::Error) -> VolumeError {
    match error.kind() {
        io::ErrorKind::NotFound => VolumeError::NotFound { name },
        io::ErrorKind::AlreadyExists => VolumeError::AlreadyExists { name },
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            VolumeError::Full { operation, name }
        }
        _ => VolumeError::Failed { operation, name, source: Arc::new(error) },
    }
}

pub(super) fn failed(operation: &'static str, path: &Path, error: io::Error) -> VolumeError {
    let name = path.display().to_string();
    VolumeError::Failed { operation, name, source: Arc::new(error) }
}

/// A directory that survives a crash: its own name is synced, too.
fn create_directory(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path)?;
    match path.canonicalize()?.parent() {
        Some(parent) => Ok(fsync(File::open(parent)?)?),
        None => Ok(()), // The root directory.
    }
}

fn take_lock(directory: &Path) -> Result<File, VolumeError> {
    let path = directory.join(LOCK_NAME);
    let mut options = OpenOptions::new();
    let lock = options.read(true).write(true).create(true).truncate(false).open(&path);
    let mut lock = lock.map_err(|error| failed("open", &path, error))?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => (),
        Err(Errno::WOULDBLOCK) => {
            let pid = fs::read_to_string(&path).ok().and_then(|it| it.trim().parse().ok());
            return Err(VolumeError::Locked { directory: directory.to_owned(), pid });
        }
        Err(error) => return Err(failed("lock", &path, error.into())),
    }
    let written = lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id()));
    written.map_err(|error| failed("write", &path, error))?;
    Ok(lock)
}

/// What an earlier process kept. Nobody reads it any more.
fn find_spares(directory: &Path) -> io::Result<Vec<Spare>> {
    let mut spares = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if !name.starts_with(SPARE_PREFIX) {
            continue;
        }
        if SPARES_MAX <= spares.len() {
            fs::remove_file(entry.path())?;
            continue;
        }
        spares.push(Spare { name, length: entry.metadata()?.len(), readers: Vec::new() });
    }
    Ok(spares)
}

/// Gives a spare its new name, unless that is taken.
fn reuse_spare(spare: &Path, path: &Path) -> io::Result<File> {
    // One atomic step, and never over a live file: at no moment do two names lead to one file.
    rustix::fs::renameat_with(CWD, spare, CWD, path, RenameFlags::NOREPLACE)?;
    OpenOptions::new().read(true).write(true).open(path)
}

/// A file system that cannot promise room gives none; the file then grows as it is written.
fn preallocate(file: &File, bytes: u64) -> io::Result<()> {
    if bytes == 0 {
        return Ok(());
    }
    match fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn write_all(file: &File, mut position: u64, chunks: &[Bytes]) -> io::Result<()> {
    let mut pieces = Vec::with_capacity(chunks.len().min(PIECES_PER_WRITE_MAX));
    for group in chunks.chunks(PIECES_PER_WRITE_MAX) {
        pieces.clear();
        pieces.extend(group.iter().filter(|it| !it.is_empty()).map(|it| IoSlice::new(it)));
        let mut rest = pieces.as_mut_slice();
        while !rest.is_empty() {
            let written = match rustix::io::pwritev(file, rest, position) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => written,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            position += written as u64;
            IoSlice::advance_slices(&mut rest, written);
        }
    }
    Ok(())
}

fn read(file: &File, position: u64, length: usize) -> io::Result<Bytes> {
    // Memory is bounded by what the file has, whatever was asked for.
    let present = file.metadata()?.len().saturating_sub(position);
    let length = usize::try_from(present).unwrap_or(usize::MAX).min(length);
    // Reserved and not zeroed: all of it is written over.
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        let at = position + bytes.len() as u64;
        match rustix::io::pread(file, spare_capacity(&mut bytes), at) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => (),
            Err(error) => return Err(error.into()),
        }
    }
    bytes.truncate(length); // More may have been reserved than was asked for.
    Ok(Bytes::from(bytes))
}
