//! Objects that are files of a local directory, as far as the client is not used for them.
//!
//! Owns: which requests go around the client, and what the disk's answers mean for the port.
//! Does not own: the system calls (`local`), tries and metering (`store`).

use super::disk;
use crate::local::Directories;
use crate::port::{BucketError, Key, PutOutcome};
use bytes::Bytes;
use object_store::PutPayload;
use std::ops::Range;

/// Objects of this many bytes and more are written past the page cache.
pub(super) const DIRECT_BYTES_MIN: usize = 256 * 1024;

pub(super) async fn put(
    key: &Key,
    body: &PutPayload,
    directories: &Directories,
    nonce: u64,
) -> Result<PutOutcome, BucketError> {
    let failed = |error: std::io::Error| disk(key, &error);
    let mut staged = directories.stage(key.as_str(), nonce).await.map_err(failed)?;
    staged.write(body.iter().cloned().collect()).await.map_err(failed)?;
    match staged.publish().await.map_err(failed)? {
        true => Ok(PutOutcome::Created),
        false => Ok(PutOutcome::AlreadyExists),
    }
}

pub(super) async fn get(
    key: &Key,
    range: Range<u64>,
    directories: &Directories,
) -> Result<Bytes, BucketError> {
    let (wanted, end) = (range.end - range.start, range.end);
    let read = directories.read(key.as_str(), range).await;
    match read.map_err(|error| disk(key, &error))? {
        Some((bytes, _)) if bytes.len() as u64 == wanted => Ok(bytes),
        Some((_, length)) => Err(BucketError::OutOfRange { key: key.clone(), length, end }),
        None => Err(BucketError::NotFound { key: key.clone() }),
    }
}
