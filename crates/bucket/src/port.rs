//! The port: what an object store is to the rest of the product.
//!
//! Owns: the words of the conversation. Does not own: retries, connections, metering.
//!
//! Promises every implementation keeps, checked by `conformance` and, for a real store at start-up,
//! by `probe`:
//! - an object is created at most once and never changes;
//! - what was answered `Created` is durable and whole, at once visible to `get` and `list`;
//! - a listing is in the order of the keys' bytes.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use std::fmt;
use std::ops::Range;
use vocabulary::Timestamp;

/// A relative path below the cluster's root, such as `data/3f/…`: parts of letters, digits, `-`,
/// `_` and `.`, separated by `/`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

impl Key {
    /// # Panics
    ///
    /// When the path has other letters, empty or dotted parts: keys are made by code, not by users.
    pub fn new(path: impl Into<String>) -> Key {
        let path = path.into();
        assert!(is_key(&path), "not a key: {path:?}");
        Key(path)
    }

    /// A key read back from a store, which may hold files that are not ours.
    pub fn parse(path: &str) -> Option<Key> {
        is_key(path).then(|| Key(path.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key `part` levels below this one.
    pub fn join(&self, part: impl fmt::Display) -> Key {
        Key::new(format!("{}/{part}", self.0))
    }
}

fn is_key(path: &str) -> bool {
    let letter = |it: u8| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'_' | b'.');
    path.split('/')
        .all(|part| !part.is_empty() && part != "." && part != ".." && part.bytes().all(letter))
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a request is made: the label of its metrics and the class of its admission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// A write-ahead log's own segments.
    Wal,
    /// Data segments written from the tail.
    Flush,
    /// Rewriting data segments into larger ones.
    Merge,
    /// Reads near the end of a partition.
    ReadTail,
    /// Reads of lagging consumers.
    ReadCold,
    /// The metadata database.
    Metadata,
    /// Finding and deleting what nothing references.
    Collection,
    /// The cluster marker and the start-up probe.
    Cluster,
}

impl Purpose {
    pub const ALL: [Purpose; 8] = [
        Purpose::Wal,
        Purpose::Flush,
        Purpose::Merge,
        Purpose::ReadTail,
        Purpose::ReadCold,
        Purpose::Metadata,
        Purpose::Collection,
        Purpose::Cluster,
    ];

    /// The metric label.
    pub fn name(self) -> &'static str {
        match self {
            Purpose::Wal => "wal",
            Purpose::Flush => "flush",
            Purpose::Merge => "merge",
            Purpose::ReadTail => "read_tail",
            Purpose::ReadCold => "read_cold",
            Purpose::Metadata => "metadata",
            Purpose::Collection => "collection",
            Purpose::Cluster => "cluster",
        }
    }

    /// Whether nobody waits for it, so that it must never hold up what somebody waits for.
    pub fn is_background(self) -> bool {
        match self {
            Purpose::Merge | Purpose::ReadCold | Purpose::Collection => true,
            Purpose::Wal
            | Purpose::Flush
            | Purpose::ReadTail
            | Purpose::Metadata
            | Purpose::Cluster => false,
        }
    }
}

/// Who has the key now. Both are answers, neither is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutOutcome {
    /// The object is there with exactly these bytes. A writer that must know that it was itself, and
    /// not a twin with the same bytes, makes its bytes unique.
    Created,
    /// Another object has the key and keeps it.
    AlreadyExists,
}

/// The end of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suffix {
    /// The last bytes: as many as asked for, or the whole object when it is shorter.
    pub bytes: Bytes,
    pub object_length: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    pub key: Key,
    pub length: u64,
    /// By the store's clock.
    pub modified: Timestamp,
}

/// The object store of one cluster. See the module for the promises.
///
/// Dropping a future abandons the request; its effect may still come about.
#[async_trait]
pub trait Bucket: Send + Sync + fmt::Debug {
    /// Creates `key` with the concatenation of `body` unless it exists. Durable when it answers.
    async fn put_new(
        &self,
        key: &Key,
        body: Vec<Bytes>,
        purpose: Purpose,
    ) -> Result<PutOutcome, BucketError>;

    /// Exactly the bytes of `range`, or an error.
    async fn get(
        &self,
        key: &Key,
        range: Range<u64>,
        purpose: Purpose,
    ) -> Result<Bytes, BucketError>;

    /// Neighbouring pieces of these lengths from `start` on, in one request, each in memory of its
    /// own: a cache that lets one go gets its bytes back. Exactly those bytes, or an error.
    async fn get_pieces(
        &self,
        key: &Key,
        start: u64,
        lengths: &[u64],
        purpose: Purpose,
    ) -> Result<Vec<Bytes>, BucketError> {
        let end = start + lengths.iter().sum::<u64>();
        self.get(key, start..end, purpose).await.map(|it| cut(it, lengths))
    }

    /// The last `length` bytes, with the object's length, in one request.
    async fn get_suffix(
        &self,
        key: &Key,
        length: u64,
        purpose: Purpose,
    ) -> Result<Suffix, BucketError>;

    /// Up to `count_max` objects below the directory `prefix`, after `after`, in the order of keys.
    /// Fewer than `count_max` means that there are no more. Files that are not ours are left out.
    async fn list(
        &self,
        prefix: &Key,
        after: Option<&Key>,
        count_max: usize,
    ) -> Result<Vec<ObjectInfo>, BucketError>;

    /// Absent afterwards; it need not have been there before.
    async fn delete(&self, key: &Key, purpose: Purpose) -> Result<(), BucketError>;

    /// Creates `key` with the `length` bytes of `body`, which is read piece by piece: it never lies
    /// in memory as a whole. Durable when it answers; until then nothing is to be seen, and after a
    /// failure, or when the future is dropped, what was sent is taken back.
    ///
    /// An existing object is kept and answered with [`PutOutcome::AlreadyExists`], even if its bytes
    /// are the same. Two writers of one key at the same moment are told apart where the store can
    /// (S3, a directory); elsewhere the later may replace the earlier. Therefore the key must be one
    /// that nobody else writes: it holds chance, and after an error the caller takes a new one.
    ///
    /// An error of `body` is given back as it is; a body of another length than `length` is refused.
    async fn put_new_large(
        &self,
        key: &Key,
        body: BoxStream<'_, Result<Bytes, BucketError>>,
        length: u64,
        purpose: Purpose,
    ) -> Result<PutOutcome, BucketError>;
}

/// `whole` in pieces of these lengths, which make it up, each in memory of its own.
pub(crate) fn cut(whole: Bytes, lengths: &[u64]) -> Vec<Bytes> {
    if lengths.len() == 1 {
        return vec![whole];
    }
    let mut rest = &whole[..];
    let piece = |length: &u64| {
        let (piece, behind) = rest.split_at(*length as usize);
        rest = behind;
        Bytes::copy_from_slice(piece)
    };
    lengths.iter().map(piece).collect()
}

/// A variant exists only if some caller acts differently on it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BucketError {
    /// The reader looks elsewhere, or reports that metadata references nothing (A6).
    #[error("{key} does not exist")]
    NotFound { key: Key },
    /// The reader reports a damaged reference (A6): trying again gives the same.
    #[error("{key} has {length} bytes, {end} were asked for")]
    OutOfRange { key: Key, length: u64, end: u64 },
    /// The caller slows down, then tries again.
    #[error("the store asks to slow down at {key}: {reason}")]
    Throttled { key: Key, reason: String },
    /// The caller tries again; nothing came back in time.
    #[error("no answer for {key} within {waited_ms} ms")]
    Timeout { key: Key, waited_ms: u64 },
    /// The caller tries again, later: network, store or disk trouble.
    #[error("the store failed at {key}: {reason}")]
    Unavailable { key: Key, reason: String },
    /// An operator is needed: credentials, permissions, an operation the store does not have.
    #[error("the store refused {key}: {reason}")]
    Refused { key: Key, reason: String },
}

/// The state of the world after a failed write: the one thing a caller must never guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aftermath {
    NotWritten,
    MaybeWritten,
}

impl BucketError {
    pub fn aftermath(&self) -> Aftermath {
        match self {
            BucketError::NotFound { .. }
            | BucketError::OutOfRange { .. }
            | BucketError::Refused { .. } => Aftermath::NotWritten,
            // Throttled, too: clients retry on their own, and an earlier try may have landed.
            BucketError::Throttled { .. }
            | BucketError::Timeout { .. }
            | BucketError::Unavailable { .. } => Aftermath::MaybeWritten,
        }
    }

    /// Whether the same request may succeed later without anybody's help.
    pub fn is_transient(&self) -> bool {
        match self {
            BucketError::NotFound { .. }
            | BucketError::OutOfRange { .. }
            | BucketError::Refused { .. } => false,
            BucketError::Throttled { .. }
            | BucketError::Timeout { .. }
            | BucketError::Unavailable { .. } => true,
        }
    }

    /// The metric label.
    pub fn kind(&self) -> &'static str {
        match self {
            BucketError::NotFound { .. } => "not_found",
            BucketError::OutOfRange { .. } => "out_of_range",
            BucketError::Throttled { .. } => "throttled",
            BucketError::Timeout { .. } => "timeout",
            BucketError::Unavailable { .. } => "unavailable",
            BucketError::Refused { .. } => "refused",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_plain_relative_paths() {
        for good in ["cluster", "data/3f/0a", "wal/1/2/3.seg", "a-b_c/.x"] {
            assert_eq!(Key::parse(good).map(|it| it.to_string()), Some(good.to_owned()));
        }
        for bad in ["", "/a", "a/", "a//b", "a/../b", ".", "a b", "a#1", "é"] {
            assert_eq!(Key::parse(bad), None, "{bad}");
        }
        assert_eq!(Key::new("data").join(7), Key::new("data/7"));
    }
}
