//! What a local directory needs beyond the client.
//!
//! The client (object_store 0.14, `LocalFileSystem::with_fsync(true)`, read line by line) stages a
//! put in `<name>#<n>`, syncs it, links it to its name, which fails if that exists, and syncs the
//! directory. Three things remain, and are closed here:
//! - two puts into a new directory: the second finds it made and does not sync *its* parent, so its
//!   answer could precede the directory's own durability. [`Directories`] makes directories first,
//!   one caller at a time, and remembers them;
//! - a put that linked the name and failed to sync the directory: the retry finds the name taken by
//!   its own bytes and may call that success only after syncing the directory itself;
//! - a crash leaves staged files behind for ever. [`sweep_staged`] removes old ones.
//!
//! And one is done instead of the client, whose multipart upload replaces what has the name, and whose
//! writes go through the page cache: [`Staged`], a large file, whole or in pieces.

use crate::direct::{ALIGNMENT_BYTES, DirectWrites, Durable};
use bytes::Bytes;
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::Mutex;

#[derive(Debug)]
pub(crate) struct Directories {
    root: PathBuf,
    /// Held while a directory is made and synced, so that a second caller waits for durability.
    /// One entry per directory: bounded by the layout (a few hundred spreads), not by objects.
    durable: Mutex<HashSet<PathBuf>>,
    direct: Arc<DirectWrites>,
}

impl Directories {
    /// Makes `root` durably if it is missing.
    pub(crate) fn below(root: &Path) -> io::Result<Directories> {
        make_durably(root)?;
        let root = root.canonicalize()?;
        Ok(Directories { root, durable: Mutex::default(), direct: Arc::default() })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The directory that holds `key` exists and will after a power failure.
    pub(crate) async fn ensure(&self, key: &str) -> io::Result<()> {
        let directory = self.directory_of(key);
        let mut durable = self.durable.lock().await;
        if durable.contains(&directory) {
            return Ok(());
        }
        let made = directory.clone();
        blocking(move || make_durably(&made)).await?;
        durable.insert(directory);
        Ok(())
    }

    /// The name of `key`, seen by this process, is seen after a power failure, too.
    pub(crate) async fn sync(&self, key: &str) -> io::Result<()> {
        let directory = self.directory_of(key);
        blocking(move || sync_directory(&directory)).await
    }

    /// Neighbouring pieces of these lengths from `start` on, fewer bytes where the file ends before, and
    /// the file's length. `None` if there is no such file.
    /// The client zeroes its buffer before it reads into it; here it is only reserved.
    pub(crate) async fn read(
        &self,
        key: &str,
        start: u64,
        lengths: &[u64],
    ) -> io::Result<Option<(Vec<Bytes>, u64)>> {
        let (path, lengths) = (self.root.join(key), lengths.to_vec());
        let read = move || {
            let mut file = match File::open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                opened => opened?,
            };
            file.seek(SeekFrom::Start(start))?;
            // Memory is bounded by what the file has, whatever was asked for.
            let file_length = file.metadata()?.len();
            let mut present = file_length.saturating_sub(start);
            let mut pieces = Vec::with_capacity(lengths.len());
            for wanted in lengths {
                let mut bytes = Vec::with_capacity(wanted.min(present) as usize);
                (&file).take(wanted).read_to_end(&mut bytes)?;
                present = present.saturating_sub(wanted);
                pieces.push(Bytes::from(bytes));
            }
            Ok(Some((pieces, file_length)))
        };
        blocking(read).await
    }

    /// A file for what shall be called `key`, staged as `<name>#<nonce>` as the client stages its own.
    pub(crate) async fn stage(&self, key: &str, nonce: u64) -> io::Result<Staged> {
        self.ensure(key).await?;
        let (target, staged) = (self.root.join(key), self.root.join(format!("{key}#{nonce}")));
        let (path, writes) = (staged.clone(), Arc::clone(&self.direct));
        let create = move || {
            let file = File::options().write(true).create_new(true).open(&path)?;
            let direct = writes.open(&path, Durable::OnceSynced);
            Ok(Growing { file, direct, writes, written: 0, rest: Bytes::new() })
        };
        // Named before it is made, so that whatever becomes of this call, the file is removed.
        let mut staged = Staged { growing: None, staged, target };
        staged.growing = Some(blocking(create).await?);
        Ok(staged)
    }

    fn directory_of(&self, key: &str) -> PathBuf {
        let path = self.root.join(key);
        path.parent().map_or_else(|| self.root.clone(), Path::to_path_buf)
    }

    /// Deletes staged files not touched for `age_ms_min`. Returns how many.
    pub(crate) async fn sweep_staged(&self, now_ms: i64, age_ms_min: i64) -> io::Result<u64> {
        let root = self.root.clone();
        blocking(move || sweep_staged(&root, now_ms, age_ms_min)).await
    }
}

/// A file under way to its name. Dropped, it is removed.
#[derive(Debug)]
pub(crate) struct Staged {
    /// Away while it is written; gone after a failure.
    growing: Option<Growing>,
    staged: PathBuf,
    target: PathBuf,
}

impl Staged {
    pub(crate) async fn write(&mut self, pieces: Vec<Bytes>) -> io::Result<()> {
        let mut growing = self.take()?;
        self.growing = Some(blocking(move || growing.write(pieces).map(|()| growing)).await?);
        Ok(())
    }

    /// Gives the file its name, durably. `false` when something else has it.
    pub(crate) async fn publish(mut self) -> io::Result<bool> {
        let growing = self.take()?;
        let (staged, target) = (self.staged.clone(), self.target.clone());
        let publish = move || {
            growing.sync()?;
            match std::fs::hard_link(&staged, &target) {
                Ok(()) => (),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
                Err(error) => return Err(error),
            }
            sync_directory(target.parent().unwrap_or(Path::new(".")))?;
            Ok(true)
        };
        blocking(publish).await
    }

    fn take(&mut self) -> io::Result<Growing> {
        self.growing.take().ok_or_else(|| io::Error::other("a write failed before"))
    }
}

/// The open end of a staged file.
#[derive(Debug)]
struct Growing {
    file: File,
    /// The same file for writes past the page cache, where the file system has them.
    direct: Option<File>,
    writes: Arc<DirectWrites>,
    /// In the file. While there is `direct`, a multiple of its alignment.
    written: u64,
    /// What does not fill an aligned block yet.
    rest: Bytes,
}

impl Growing {
    fn write(&mut self, pieces: Vec<Bytes>) -> io::Result<()> {
        let Some(direct) = &self.direct else {
            return pieces.iter().try_for_each(|it| self.file.write_all(it));
        };
        let mut chunks = vec![std::mem::take(&mut self.rest)];
        chunks.extend(pieces);
        let length: u64 = chunks.iter().map(|it| it.len() as u64).sum();
        let rest = split_end(&mut chunks, length % ALIGNMENT_BYTES);
        if self.writes.write(direct, self.written, &chunks)? {
            self.written += length - rest.len() as u64;
            self.rest = rest;
            return Ok(());
        }
        self.direct = None;
        self.file.seek(SeekFrom::Start(self.written))?;
        chunks.push(rest);
        chunks.iter().try_for_each(|it| self.file.write_all(it))
    }

    fn sync(mut self) -> io::Result<()> {
        if let Some(direct) = &self.direct
            && !self.rest.is_empty()
        {
            let rest = std::mem::take(&mut self.rest);
            let length = self.written + rest.len() as u64;
            if self.writes.write(direct, self.written, std::slice::from_ref(&rest))? {
                self.file.set_len(length)?; // Without the padding.
            } else {
                self.file.seek(SeekFrom::Start(self.written))?;
                self.file.write_all(&rest)?;
            }
        }
        self.file.sync_all()
    }
}

/// Takes the last `length` bytes off `chunks`: less than an aligned block, so they are copied.
fn split_end(chunks: &mut Vec<Bytes>, length: u64) -> Bytes {
    let mut left = usize::try_from(length).expect("shorter than an aligned block");
    let mut end = Vec::new();
    while 0 < left {
        let last = chunks.last_mut().expect("no more is asked for than there is");
        let piece = last.split_off(last.len().saturating_sub(left));
        left -= piece.len();
        end.push(piece);
        if last.is_empty() {
            chunks.pop();
        }
    }
    end.reverse();
    Bytes::from(end.concat())
}

impl Drop for Staged {
    fn drop(&mut self) {
        // A name only; what cannot be removed is swept once it is old.
        let _ = std::fs::remove_file(&self.staged);
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// Creates what is missing of `directory` and syncs each directory whose entries changed.
fn make_durably(directory: &Path) -> io::Result<()> {
    let missing: Vec<&Path> =
        directory.ancestors().take_while(|it| !it.as_os_str().is_empty() && !it.exists()).collect();
    std::fs::create_dir_all(directory)?;
    for made in missing {
        let parent = made.parent().filter(|it| !it.as_os_str().is_empty());
        sync_directory(parent.unwrap_or(Path::new(".")))?;
    }
    Ok(())
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

fn sweep_staged(directory: &Path, now_ms: i64, age_ms_min: i64) -> io::Result<u64> {
    let mut swept = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            swept += sweep_staged(&entry.path(), now_ms, age_ms_min)?;
        } else if kind.is_file() && is_staged(&entry.file_name().to_string_lossy()) {
            let modified = entry.metadata()?.modified()?;
            let modified = modified.duration_since(std::time::SystemTime::UNIX_EPOCH);
            let modified_ms = modified.map_or(0, |it| i64::try_from(it.as_millis()).unwrap_or(0));
            if age_ms_min <= now_ms.saturating_sub(modified_ms) {
                match std::fs::remove_file(entry.path()) {
                    Ok(()) => swept += 1,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => (),
                    Err(error) => return Err(error),
                }
            }
        }
    }
    Ok(swept)
}

fn is_staged(name: &str) -> bool {
    let suffix = name.rsplit_once('#').map_or("", |(_, suffix)| suffix);
    !suffix.is_empty() && suffix.bytes().all(|it| it.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lengths around the alignment, in pieces of all kinds: the file is their concatenation.
    #[tokio::test]
    async fn a_staged_file_is_what_was_written() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let directories = Directories::below(scratch.path()).expect("made");
        let lengths: [&[usize]; 7] =
            [&[], &[0], &[1], &[4096], &[4095, 1, 1], &[3, 5000, 0, 9000], &[1 << 20, 1 << 20, 7]];
        for (nonce, lengths) in (0..).zip(lengths) {
            let key = format!("data/3f/{nonce}");
            let mut staged = directories.stage(&key, nonce).await.expect("staged");
            let mut expected = Vec::new();
            for (fill, length) in (1u8..).zip(lengths) {
                let piece = Bytes::from(vec![fill; *length]);
                expected.extend_from_slice(&piece);
                let (head, tail) = (piece.slice(..length / 3), piece.slice(length / 3..));
                staged.write(vec![head, tail]).await.expect("written");
            }
            assert!(staged.publish().await.expect("published"));
            let found = std::fs::read(directories.root().join(&key)).expect("there");
            assert!(found == expected, "{lengths:?}: {} bytes", found.len());
            let (start, middle) = (expected.len() / 2, expected.len() * 3 / 4);
            let wanted = [middle - start, expected.len() - middle + 9].map(|it| it as u64);
            let read = directories.read(&key, start as u64, &wanted).await.expect("read");
            let (pieces, length) = read.expect("there");
            assert_eq!(length, expected.len() as u64);
            assert!(pieces == [&expected[start..middle], &expected[middle..]], "as far as it goes");
        }
        assert_eq!(directories.read("data/3f/none", 0, &[1]).await.expect("answered"), None);
        let rival = directories.stage("data/3f/0", 99).await.expect("staged");
        assert!(!rival.publish().await.expect("answered"), "the name is taken");
        assert!(!directories.root().join("data/3f/0#99").exists(), "what lost is removed");
    }

    #[tokio::test]
    async fn staged_files_are_swept_when_old_and_nothing_else_is() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let directories = Directories::below(&scratch.path().join("a/b")).expect("made");
        directories.ensure("data/3f/one").await.expect("made");
        for name in ["one", "one#1", "two#x", "three#"] {
            std::fs::write(directories.root().join("data/3f").join(name), b"x").expect("written");
        }
        assert_eq!(directories.sweep_staged(0, 1000).await.expect("swept"), 0);
        assert_eq!(directories.sweep_staged(i64::MAX, 1000).await.expect("swept"), 1);
        assert!(!directories.root().join("data/3f/one#1").exists());
        assert!(directories.root().join("data/3f/one").exists());
    }
}
