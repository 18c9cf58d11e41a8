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
}

pub(super) fn bucket(text: Option<&str>, data_dir: &Path) -> Result<BucketLocation, String> {
    let Some(text) = text else {
        return Ok(BucketLocation::Directory(data_dir.join("bucket")));
    };
    // Not with the text: a part that is wrong may be a secret.
    BucketLocation::parse(text).map_err(|error| format!("aquifer.bucket: {error}"))
}

pub(super) fn wal(text: Option<&str>, data_dir: &Path) -> Result<WalLocation, String> {
    let Some(text) = text else {
        return Ok(WalLocation::Directory(data_dir.join("wal")));
    };
    match text.split_once(':') {
        Some(("file", path)) if !path.is_empty() => Ok(WalLocation::Directory(directory(path))),
        Some(("bucket", _)) => Err("aquifer.wal: a WAL on the bucket is not served yet; use \
                                    file:DIRECTORY"
            .to_owned()),
        _ => Err(format!("aquifer.wal: {text:?} is not file:DIRECTORY")),
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
        assert_eq!(wal(None, home), Ok(WalLocation::Directory(inside("wal"))));
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
        assert_eq!(wal(Some("file:w"), home), Ok(WalLocation::Directory(PathBuf::from("w"))));
        for bad in ["", "bucket:", "memory:", "file:"] {
            assert!(wal(Some(bad), home).is_err(), "{bad}");
        }
    }
}
