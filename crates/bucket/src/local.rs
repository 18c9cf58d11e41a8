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
//! And one is done instead of the client, whose multipart upload replaces what has the name:
//! [`Staged`], a large file that comes in pieces.

use bytes::Bytes;
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use tokio::sync::Mutex;

#[derive(Debug)]
pub(crate) struct Directories {
    root: PathBuf,
    /// Held while a directory is made and synced, so that a second caller waits for durability.
    /// One entry per directory: bounded by the layout (a few hundred spreads), not by objects.
    durable: Mutex<HashSet<PathBuf>>,
}

impl Directories {
    /// Makes `root` durably if it is missing.
    pub(crate) fn below(root: &Path) -> io::Result<Directories> {
        make_durably(root)?;
        let root = root.canonicalize()?;
        Ok(Directories { root, durable: Mutex::default() })
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

    /// A file for what shall be called `key`, staged as `<name>#<nonce>` as the client stages its own.
    pub(crate) async fn stage(&self, key: &str, nonce: u64) -> io::Result<Staged> {
        self.ensure(key).await?;
        let (target, staged) = (self.root.join(key), self.root.join(format!("{key}#{nonce}")));
        let path = staged.clone();
        let create = move || File::options().write(true).create_new(true).open(path);
        let file = blocking(create).await?;
        Ok(Staged { file: Some(file), staged, target })
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
    file: Option<File>,
    staged: PathBuf,
    target: PathBuf,
}

impl Staged {
    pub(crate) async fn write(&mut self, pieces: Vec<Bytes>) -> io::Result<()> {
        let mut file = self.file.take().ok_or_else(|| io::Error::other("a write failed before"))?;
        let write = move || pieces.iter().try_for_each(|it| file.write_all(it)).map(|()| file);
        self.file = Some(blocking(write).await?);
        Ok(())
    }

    /// Gives the file its name, durably. `false` when something else has it.
    pub(crate) async fn publish(mut self) -> io::Result<bool> {
        let file = self.file.take().ok_or_else(|| io::Error::other("a write failed before"))?;
        let (staged, target) = (self.staged.clone(), self.target.clone());
        let publish = move || {
            file.sync_all()?;
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
