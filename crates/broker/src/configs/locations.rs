//! Where the bucket and the WAL are: `aquifer.bucket` and `aquifer.wal`.
//!
//! Does not own: what a bucket's URI may say, which is the bucket's own knowledge.

use std::path::{Path, PathBuf};

use bucket::BucketLocation;

/// A broker's write-ahead log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WalLocation {
    /// `file:DIRECTORY`, made if it is absent.
    Directory(PathBuf),
    /// `bucket:`, in the bucket itself: no disk is needed.
    Bucket,
}

pub(super) fn bucket(text: Option<&str>, data_dir: &Path) -> Result<BucketLocation, String> {
    let Some(text) = text else {
        return Ok(BucketLocation::Directory(data_dir.join("bucket")));
    };
    // Not with the text: a part that is wrong may be a secret.
    BucketLocation::parse(text).map_err(|error| format!("aquifer.bucket: {error}"))
}

/// Unset: beside a bucket that is a directory, a directory; else in the bucket, so that a broker on
/// shared storage needs no disk.
pub(super) fn wal(
    text: Option<&str>,
    data_dir: &Path,
    bucket: Option<&BucketLocation>,
) -> Result<WalLocation, String> {
    let Some(text) = text else {
        return Ok(match bucket {
            Some(BucketLocation::Remote(_)) => WalLocation::Bucket,
            _ => WalLocation::Directory(data_dir.join("wal")),
        });
    };
    match text.split_once(':') {
        Some(("file", path)) if !path.is_empty() => Ok(WalLocation::Directory(directory(path))),
        Some(("bucket", "")) => Ok(WalLocation::Bucket),
        _ => Err(format!("aquifer.wal: {text:?} is neither file:DIRECTORY nor bucket:")),
    }
}

/// `file:relative`, `file:/absolute` and `file:///absolute` all name a directory.
fn directory(path: &str) -> PathBuf {
    PathBuf::from(path.strip_prefix("//").unwrap_or(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_directories_below_the_data_directory_by_default() {
        let home = Path::new("home");
        let inside = |name: &str| home.join(name);
        assert_eq!(bucket(None, home), Ok(BucketLocation::Directory(inside("bucket"))));
        assert_eq!(wal(None, home, None), Ok(WalLocation::Directory(inside("wal"))));
        let remote = BucketLocation::parse("s3://b/p").expect("a location");
        assert_eq!(wal(None, home, Some(&remote)), Ok(WalLocation::Bucket));
        let local = BucketLocation::Directory(inside("bucket"));
        assert_eq!(wal(None, home, Some(&local)), Ok(WalLocation::Directory(inside("wal"))));
    }

    #[test]
    fn locations_are_given_as_uris() {
        let home = Path::new("home");
        let at = |path: &str| Ok(BucketLocation::Directory(PathBuf::from(path)));
        assert_eq!(bucket(Some("file:/a/b"), home), at("/a/b"));
        assert_eq!(bucket(Some("file:///a/b"), home), at("/a/b"));
        assert_eq!(bucket(Some("file:a"), home), at("a"));
        assert_eq!(bucket(Some("memory:"), home), Ok(BucketLocation::Memory));
        assert_eq!(bucket(Some("/a/b"), home), at("/a/b"));
        let remote = bucket(Some("s3://b/p?region=eu"), home).expect("a location");
        assert_eq!(remote.to_string(), "s3://b/p?region=eu");
        for bad in ["", "file:", "memory:x", "s3:bucket", "ftp://x"] {
            let error = bucket(Some(bad), home).expect_err(bad);
            assert!(error.starts_with("aquifer.bucket: "), "{error}");
        }
        let secret = bucket(Some("s3://b?secret_access_key=hunter2"), home).expect_err("a secret");
        assert!(!secret.contains("hunter2"), "{secret}");
        let file = Ok(WalLocation::Directory(PathBuf::from("w")));
        assert_eq!(wal(Some("file:w"), home, None), file);
        assert_eq!(wal(Some("bucket:"), home, None), Ok(WalLocation::Bucket));
        for bad in ["", "bucket:x", "memory:", "file:"] {
            assert!(wal(Some(bad), home, None).is_err(), "{bad}");
        }
    }
}
