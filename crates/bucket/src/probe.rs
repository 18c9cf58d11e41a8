//! Start-up checks that a store keeps the promises the design rests on.
//!
//! Some S3-compatible servers ignore `If-None-Match`, some lose it under concurrency, some list
//! stale. A broker that starts on such a store loses data later, so it does not start.

use crate::port::{Bucket, BucketError, Key, Purpose, PutOutcome};
use bytes::Bytes;
use environment::Entropy;

/// Which promise is broken, in words for an operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    #[error("the store does not honour create-if-absent: {0}")]
    ConditionalCreate(&'static str),
    #[error("the store does not answer exact ranges: {0}")]
    Ranges(&'static str),
    #[error("the store does not list what was just written")]
    Listing,
    #[error(transparent)]
    Bucket(#[from] BucketError),
}

/// Racers on one key in one probe: enough to catch a store that checks and then writes.
const RACERS: u8 = 4;

/// Writes, races, reads, lists and deletes objects below `probe/`. About ten requests.
pub async fn probe(bucket: &dyn Bucket, entropy: &dyn Entropy) -> Result<(), ProbeError> {
    let folder = Key::new(format!("probe/{:032x}", entropy.next_u128()));
    let key = folder.join("object");
    let result = check(bucket, &folder, &key).await;
    let deleted = bucket.delete(&key, Purpose::Cluster).await;
    result?;
    Ok(deleted?)
}

async fn check(bucket: &dyn Bucket, folder: &Key, key: &Key) -> Result<(), ProbeError> {
    let body = |racer: u8| vec![Bytes::from(vec![racer; 100]), Bytes::from_static(b"aquifer")];
    let race = (0..RACERS).map(|racer| bucket.put_new(key, body(racer), Purpose::Cluster));
    let outcomes = futures::future::join_all(race).await;
    let mut winner = None;
    for (racer, outcome) in (0..RACERS).zip(outcomes) {
        if outcome? == PutOutcome::Created && winner.replace(racer).is_some() {
            return Err(ProbeError::ConditionalCreate("two writers created the same object"));
        }
    }
    let winner = winner.ok_or(ProbeError::ConditionalCreate("no writer created the object"))?;
    if bucket.put_new(key, body(RACERS), Purpose::Cluster).await? == PutOutcome::Created {
        return Err(ProbeError::ConditionalCreate("an existing object was replaced"));
    }

    if bucket.get(key, 98..103, Purpose::Cluster).await? != [&[winner; 2][..], b"aqu"].concat() {
        return Err(ProbeError::Ranges("a range in the middle has other bytes"));
    }
    let suffix = bucket.get_suffix(key, 7, Purpose::Cluster).await?;
    if (suffix.bytes.as_ref(), suffix.object_length) != (b"aquifer", 107) {
        return Err(ProbeError::Ranges("the suffix has other bytes"));
    }
    let listed = bucket.list(folder, None, 2).await?;
    if listed.len() != 1 || listed[0].key != *key || listed[0].length != 107 {
        return Err(ProbeError::Listing);
    }
    Ok(())
}
