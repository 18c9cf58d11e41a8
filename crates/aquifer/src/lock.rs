//! One process per data directory.
//!
//! An advisory lock on the file `lock` in it, held as long as [`DataDirectory`] lives. The kernel
//! drops it with the process, however that ends, so a stale file never needs cleaning up. The
//! process id inside is for people.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use crate::failure::Failure;

const LOCK: &str = "lock";

/// A directory that this process alone uses.
#[derive(Debug)]
pub(crate) struct DataDirectory {
    path: PathBuf,
    /// Held for its lock.
    _lock: File,
}

impl DataDirectory {
    /// Makes the directory if it is missing, and locks it.
    pub(crate) fn open(path: &Path) -> Result<DataDirectory, Failure> {
        let unusable = |what: &str, error: std::io::Error| {
            Failure::start(format!("cannot {what} the data directory {}: {error}", path.display()))
                .advise("Choose another with --set aquifer.data.dir=DIRECTORY.")
        };
        std::fs::create_dir_all(path).map_err(|error| unusable("make", error))?;
        let path = path.canonicalize().map_err(|error| unusable("find", error))?;
        let file = path.join(LOCK);
        let open =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(file);
        let mut lock = open.map_err(|error| unusable("write to", error))?;
        match lock.try_lock() {
            Ok(()) => (),
            Err(TryLockError::WouldBlock) => return Err(taken(&path, &mut lock)),
            Err(TryLockError::Error(error)) => return Err(unusable("lock", error)),
        }
        sign(&mut lock).map_err(|error| unusable("write to", error))?;
        Ok(DataDirectory { path, _lock: lock })
    }

    /// Absolute, without links.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

fn sign(lock: &mut File) -> std::io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    writeln!(lock, "{}", std::process::id())
}

fn taken(path: &Path, lock: &mut File) -> Failure {
    let mut holder = String::new();
    // The id is a courtesy; without it the message is still true.
    let _ = lock.read_to_string(&mut holder);
    let process = match holder.trim() {
        "" => "another process".to_owned(),
        id => format!("another process (id {id})"),
    };
    Failure::start(format!("{process} is using the data directory {}", path.display())).advise(
        "Two brokers in one directory would overwrite each other. Stop the other one, or start this \
         one elsewhere with --set aquifer.data.dir=DIRECTORY.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_process_is_refused_until_the_first_is_gone() {
        let home = tempfile::tempdir().expect("a directory");
        let place = home.path().join("a/b");
        let first = DataDirectory::open(&place).expect("it is free");
        assert!(first.path().is_absolute());
        // A lock belongs to an open file, so a second one in this process is refused as well.
        let words = DataDirectory::open(&place).expect_err("it is taken").to_string();
        let id = std::process::id().to_string();
        assert!(words.contains(&id) && words.contains("Nothing was changed."), "{words}");
        drop(first);
        DataDirectory::open(&place).expect("it is free again");
    }

    #[test]
    fn a_place_that_is_no_directory_is_told() {
        let home = tempfile::tempdir().expect("a directory");
        let file = home.path().join("file");
        std::fs::write(&file, "").expect("it is written");
        let words = DataDirectory::open(&file).expect_err("it is a file").to_string();
        assert!(words.contains("cannot make the data directory"), "{words}");
    }
}
