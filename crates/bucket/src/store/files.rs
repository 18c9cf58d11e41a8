//! Objects that are files of a local directory, as far as the client is not used for them.
//!
//! Owns: which requests go around the client, and what the disk's answers mean for the port.
//! Does not own: the system calls (`local`), tries and metering (`store`).

use super::disk;
use crate::local::Directories;
use crate::port::{BucketError, Key, PutOutcome};
use bytes::Bytes;
use object_store::PutPayload;

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

/// Neighbouring pieces of these lengths from `start` on, each in memory of its own.
pub(super) async fn get(
    key: &Key,
    start: u64,
    lengths: &[u64],
    directories: &Directories,
) -> Result<Vec<Bytes>, BucketError> {
    let end = start + lengths.iter().sum::<u64>();
    let read = directories.read(key.as_str(), start, lengths).await;
    let Some((pieces, length)) = read.map_err(|error| disk(key, &error))? else {
        return Err(BucketError::NotFound { key: key.clone() });
    };
    match pieces.iter().map(|it| it.len() as u64).eq(lengths.iter().copied()) {
        true => Ok(pieces),
        false => Err(BucketError::OutOfRange { key: key.clone(), length, end }),
    }
}
