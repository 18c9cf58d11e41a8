//! Ranges and suffixes of objects, one try each.
//!
//! Owns: what the stores' answers to them mean. Does not own: further tries and metering (`store`),
//! objects of a local directory (`files`).

use super::{StoreBucket, files, path};
use crate::classify::classify;
use crate::metering::Operation;
use crate::port::{BucketError, Key, Purpose, Suffix};
use bytes::Bytes;
use object_store::{GetOptions, GetRange, ObjectStore};
use std::ops::Range;

impl StoreBucket {
    pub(super) async fn try_get(
        &self,
        key: &Key,
        range: Range<u64>,
        purpose: Purpose,
    ) -> Result<Bytes, BucketError> {
        if let Some(directories) = &self.directories {
            let wanted = [range.end - range.start];
            let mut pieces = files::get(key, range.start, &wanted, directories).await?;
            return Ok(pieces.pop().unwrap_or_default());
        }
        let location = path(key);
        let wanted = range.end - range.start;
        let reason = match self.store.get_ranges(&location, std::slice::from_ref(&range)).await {
            Ok(mut parts) if parts.len() == 1 && parts[0].len() as u64 == wanted => {
                return Ok(parts.swap_remove(0));
            }
            Ok(parts) => format!("answered {} parts for one range", parts.len()),
            Err(error) => match classify(key, error) {
                BucketError::Unavailable { reason, .. } => reason,
                error => return Err(error),
            },
        };
        // Stores say "range" in too many ways, so the object's length decides.
        self.metrics.counted(purpose, Operation::Get);
        let head = GetOptions { head: true, ..GetOptions::default() };
        match self.store.get_opts(&location, head).await {
            Ok(found) if found.meta.size < range.end => Err(BucketError::OutOfRange {
                key: key.clone(),
                length: found.meta.size,
                end: range.end,
            }),
            Ok(_) => Err(BucketError::Unavailable { key: key.clone(), reason }),
            Err(error) => Err(classify(key, error)),
        }
    }

    pub(super) async fn try_get_suffix(
        &self,
        key: &Key,
        length: u64,
        purpose: Purpose,
    ) -> Result<Suffix, BucketError> {
        let range = (0 < length).then_some(GetRange::Suffix(length));
        let options = GetOptions { head: range.is_none(), range, ..GetOptions::default() };
        let answer = self.store.get_opts(&path(key), options).await;
        let found = match answer.map_err(|error| classify(key, error)) {
            // An empty object has no suffix.
            Err(BucketError::Unavailable { reason, .. }) if says_empty(&reason) => {
                self.metrics.counted(purpose, Operation::Get);
                let head = GetOptions { head: true, ..GetOptions::default() };
                let found = self.store.get_opts(&path(key), head).await;
                return match found.map_err(|error| classify(key, error))?.meta.size {
                    0 => Ok(Suffix { bytes: Bytes::new(), object_length: 0 }),
                    _ => Err(BucketError::Unavailable { key: key.clone(), reason }),
                };
            }
            found => found?,
        };
        let object_length = found.meta.size;
        if length == 0 {
            return Ok(Suffix { bytes: Bytes::new(), object_length });
        }
        let bytes = found.bytes().await.map_err(|error| classify(key, error))?;
        if bytes.len() as u64 == length.min(object_length) {
            return Ok(Suffix { bytes, object_length });
        }
        let reason = format!("answered {} bytes of a suffix of {length}", bytes.len());
        Err(BucketError::Unavailable { key: key.clone(), reason })
    }
}

/// Whether a failed suffix read may mean that the object is empty: S3 answers 416, MinIO a range that
/// does not parse, versitygw the whole of nothing.
fn says_empty(reason: &str) -> bool {
    ["416 ", "CONTENT_RANGE", "non-partial response"].iter().any(|it| reason.contains(it))
}
