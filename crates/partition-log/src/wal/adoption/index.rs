//! The index of one object, read from its end.

use super::AdoptError;
use crate::segment::{IndexRead, SegmentIndex, read_index, segment_key};
use crate::wal::patience::Patience;
use bucket::{Bucket, BucketError, Purpose};
use environment::Environment;
use vocabulary::SegmentName;

/// The first try: enough for a few hundred runs and two thousand batches.
const SUFFIX_BYTES: u64 = 64 * 1024;

/// Suffix reads for one index; two suffice unless the object lies about its length.
const READS_MAX: usize = 3;

pub(super) enum IndexError {
    /// The object is not there.
    Gone,
    Failed(AdoptError),
}

/// Waits out trouble of the store.
pub(super) async fn read_index_of(
    bucket: &dyn Bucket,
    name: SegmentName,
    environment: &Environment,
) -> Result<SegmentIndex, IndexError> {
    let key = segment_key(name);
    let corrupt =
        |reason: String| IndexError::Failed(AdoptError::Corrupt { key: key.clone(), reason });
    let mut length = SUFFIX_BYTES;
    let mut patience = Patience::new(environment);
    for _ in 0..READS_MAX {
        let suffix = loop {
            match bucket.get_suffix(&key, length, Purpose::Wal).await {
                Ok(suffix) => break suffix,
                Err(BucketError::NotFound { .. }) => return Err(IndexError::Gone),
                Err(error) if error.is_transient() => {
                    patience.wait("reading an index", &error).await
                }
                Err(error) => return Err(IndexError::Failed(error.into())),
            }
        };
        match read_index(&suffix.bytes, suffix.object_length) {
            Ok(IndexRead::NeedSuffix { suffix }) => length = suffix,
            Ok(IndexRead::Index(index)) if index.name == name => return Ok(index),
            Ok(IndexRead::Index(index)) => {
                return Err(corrupt(format!("it says that it is {}", index.name)));
            }
            Err(error) => return Err(corrupt(error.to_string())),
        }
    }
    Err(corrupt("its index asks for more without end".to_owned()))
}
