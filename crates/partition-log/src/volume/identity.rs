//! Which volume a directory is.
//!
//! Owns: the file that says so, written once, whole or not at all. Does not own: who remembers which volume
//! a log is on (the cluster's metadata).
//!
//! A directory that was lost and made again, or another one that was mounted in its place, has another
//! identity: an empty log is then told from a lost one.

use super::local::{blocking, failed};
use super::{LocalVolume, VolumeError};
use rustix::fs::fsync;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use vocabulary::VolumeId;

const IDENTITY_NAME: &str = ".volume";
/// What is being written; of no meaning after a crash.
const STAGED_NAME: &str = ".volume-staged";

impl LocalVolume {
    /// The directory's identity, which is `fresh` from now on if it had none. Durable when it returns.
    ///
    /// # Errors
    ///
    /// `Failed`, also when the file that holds it is none of ours.
    pub async fn identity(&self, fresh: VolumeId) -> Result<VolumeId, VolumeError> {
        let path = self.directory().to_owned();
        let identify = move || identity(&path, fresh).map_err(|it| failed("identify", &path, it));
        blocking("identify", self.directory().display().to_string(), identify).await
    }
}

fn identity(directory: &Path, fresh: VolumeId) -> io::Result<VolumeId> {
    match fs::read_to_string(directory.join(IDENTITY_NAME)) {
        Ok(text) => text.trim_end().parse().map_err(|error| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{IDENTITY_NAME}: {error}"))
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let staged = directory.join(STAGED_NAME);
            let mut file = File::create(&staged)?;
            writeln!(file, "{fresh}")?;
            file.sync_all()?;
            fs::rename(&staged, directory.join(IDENTITY_NAME))?;
            fsync(File::open(directory)?)?;
            Ok(fresh)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_directory_keeps_its_identity_and_a_new_one_gets_another() {
        let place = tempfile::tempdir().expect("a directory");
        let open = || LocalVolume::open(place.path().join("wal"));
        let first = open().await.expect("opened");
        assert_eq!(first.identity(VolumeId(7)).await.expect("written"), VolumeId(7));
        drop(first);
        let again = open().await.expect("opened");
        assert_eq!(again.identity(VolumeId(8)).await.expect("read"), VolumeId(7));
        drop(again);
        fs::remove_dir_all(place.path().join("wal")).expect("lost");
        let other = open().await.expect("opened");
        assert_eq!(other.identity(VolumeId(9)).await.expect("written"), VolumeId(9));
        fs::write(place.path().join("wal").join(IDENTITY_NAME), "7").expect("spoilt");
        assert!(other.identity(VolumeId(10)).await.is_err(), "it says nothing, which is not new");
    }
}
