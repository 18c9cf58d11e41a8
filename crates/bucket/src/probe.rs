//! Start-up checks that a store keeps the promises the design rests on.
//!
//! Some S3-compatible servers ignore `If-None-Match`, some lose it under concurrency, some list
//! stale. A broker that starts on such a store loses data later, so it does not start, and says which
//! promise is broken and who is known to break it.
//!
//! Two parts: [`probe`] asks at the port; `store::updates` asks below it, where the metadata database
//! asks for conditional updates, which the port has not.
//!
//! A start waits for all of this, so what does not depend on one another is asked side by side.

use crate::port::{Bucket, BucketError, Key, Purpose, PutOutcome};
use bytes::Bytes;
use environment::Entropy;
use futures::future::join_all;
use std::fmt;

/// What a store must do. The order is that of the checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Property {
    CreateIfAbsent,
    CreateRace,
    ExactRanges,
    SuffixRanges,
    Listing,
    Deletion,
    ConditionalUpdate,
}

impl Property {
    fn name(self) -> &'static str {
        match self {
            Property::CreateIfAbsent => "create-if-absent (If-None-Match: *)",
            Property::CreateRace => "create-if-absent among concurrent writers",
            Property::ExactRanges => "exact ranges",
            Property::SuffixRanges => "suffix ranges",
            Property::Listing => "consistent listings in key order",
            Property::Deletion => "consistent deletion",
            Property::ConditionalUpdate => "conditional updates (If-Match)",
        }
    }

    /// Who is known for it, so that an operator need not suspect everything at once.
    fn known_for(self) -> &'static str {
        match self {
            Property::CreateIfAbsent => {
                " Known for it: Garage, Google Cloud Storage through its S3 interface (use gs://), S3 \
                 gateways from before conditional writes (2024)."
            }
            Property::CreateRace => {
                " Known for it: s3s-fs, and gateways that look and then write without a lock."
            }
            Property::ConditionalUpdate => {
                " Known for it: Garage, s3s-fs, Ceph RGW 16 and older, which refuses quoted ETags."
            }
            Property::Listing => " Known for it: caches and replicated gateways before a store.",
            Property::ExactRanges | Property::SuffixRanges | Property::Deletion => "",
        }
    }
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which promise is broken, or why it cannot be told; in words for an operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    #[error("the store lacks {property}: {seen}.{}", property.known_for())]
    Broken { property: Property, seen: &'static str },
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// Retries may go on for longer than anybody watches a start.
    #[error("the store gave no usable answer within {waited_ms} ms; {last}")]
    Silent {
        waited_ms: u64,
        /// The last error that was tried again after, in words.
        last: String,
    },
}

impl ProbeError {
    /// What to do about it.
    pub fn advice(&self) -> &'static str {
        match self {
            ProbeError::Broken { .. } => {
                "Data would be lost on this store. Use another store, or another version of it."
            }
            ProbeError::Silent { .. } => {
                "Is the endpoint right, and may this machine reach it? Without keys in the \
                 environment or a profile, the credentials of the machine are asked for, which takes \
                 its time where there are none."
            }
            ProbeError::Bucket(error) => advice_for(error),
        }
    }
}

/// The words stores and clients use for the usual mistakes, and what to do about each.
fn advice_for(error: &BucketError) -> &'static str {
    const MISSING_BUCKET: &str =
        "Create the bucket first, or correct its name: Aquifer does not create buckets.";
    const CREDENTIALS: &str = "Are these the right credentials? The README says where they are read: \
                               variables, a profile, the machine's own identity.";
    const ADVICE: &[(&str, &str)] = &[
        ("NoSuchBucket", MISSING_BUCKET),
        ("ContainerNotFound", MISSING_BUCKET),
        ("bucket does not exist", MISSING_BUCKET),
        ("the bucket, or the way to it", MISSING_BUCKET),
        ("incorrectly configured region", "Name the bucket's region: ?region=…"),
        ("301 Moved Permanently", "Name the bucket's region: ?region=…"),
        ("AuthorizationHeaderMalformed", "Name the bucket's region: ?region=…"),
        ("TimeTooSkewed", "Set this machine's clock."),
        ("InvalidAccessKeyId", CREDENTIALS),
        ("SignatureDoesNotMatch", CREDENTIALS),
        ("Token", CREDENTIALS),
        ("169.254.", CREDENTIALS),
        ("metadata", CREDENTIALS),
        ("redential", CREDENTIALS),
        (
            "ertificate",
            "Is the store's certificate signed by somebody this machine trusts? \
                        SSL_CERT_FILE names a file of certificates to trust.",
        ),
        ("onnection refused", "Nothing listens there: is the endpoint right, and the store up?"),
        ("dns error", "The name has no address: is the endpoint right?"),
    ];
    let text = error.to_string();
    let known = ADVICE.iter().find(|(words, _)| text.contains(words));
    match (known, error) {
        (Some((_, advice)), _) => advice,
        (None, BucketError::Refused { .. }) => {
            "May these credentials read, write, list and delete below the bucket's prefix?"
        }
        (None, _) => "Is there room, and may this user write there? Is the endpoint right and up?",
    }
}

/// Racers on one key in one probe: enough to catch a store that looks and then writes.
const RACERS: u8 = 16;

pub(crate) fn broken(property: Property, seen: &'static str) -> ProbeError {
    ProbeError::Broken { property, seen }
}

/// Writes, races, reads, lists and deletes objects below `probe/`. About forty requests, of which eight
/// wait for one another.
///
/// # Errors
///
/// The first promise that is broken; otherwise what keeps from asking.
pub async fn probe(bucket: &dyn Bucket, entropy: &dyn Entropy) -> Result<(), ProbeError> {
    let folder = Key::new(format!("probe/{:032x}", entropy.next_u128()));
    let (listed, raced) = (folder.join("keys"), folder.join("race"));
    // In byte order, which is not that of a directory walk.
    let keys = ["a-b", "a/b"].map(|name| listed.join(name));
    // All of it ends before anything is deleted, whatever fails: nothing is written behind that.
    let (objects, race) = futures::join!(objects(bucket, &listed, &keys), races(bucket, &raced));
    let keys = keys.iter().chain([&raced]);
    let deleted = join_all(keys.map(|key| bucket.delete(key, Purpose::Cluster))).await;
    objects.and(race)?;
    deleted.into_iter().collect::<Result<(), BucketError>>()?;
    match bucket.list(&folder, None, 1).await?.is_empty() {
        true => Ok(()),
        false => Err(broken(Property::Deletion, "what was deleted is still listed")),
    }
}

async fn objects(bucket: &dyn Bucket, folder: &Key, keys: &[Key; 2]) -> Result<(), ProbeError> {
    let [first, second] = keys;
    let (one, other) = futures::join!(
        bucket.put_new(first, body(0), Purpose::Cluster),
        bucket.put_new(second, body(2), Purpose::Cluster),
    );
    if [one?, other?].contains(&PutOutcome::AlreadyExists) {
        let seen = "a key made of chance exists already";
        return Err(broken(Property::CreateIfAbsent, seen));
    }
    let (kept, ranges, listing) =
        futures::join!(keeps(bucket, first), reads(bucket, first), lists(bucket, folder, keys));
    kept.and(ranges).and(listing)?;
    bucket.delete(second, Purpose::Cluster).await?;
    match bucket.get(second, 0..1, Purpose::Cluster).await {
        Err(BucketError::NotFound { .. }) => Ok(()),
        Err(error) => Err(error.into()),
        Ok(_) => Err(broken(Property::Deletion, "what was deleted is still read")),
    }
}

const BODY_BYTES: u64 = 107;

fn body(writer: u8) -> Vec<Bytes> {
    vec![Bytes::from(vec![writer; 100]), Bytes::from_static(b"aquifer")]
}

/// An object that exists outlives a second writer.
async fn keeps(bucket: &dyn Bucket, key: &Key) -> Result<(), ProbeError> {
    let property = Property::CreateIfAbsent;
    if bucket.put_new(key, body(1), Purpose::Cluster).await? == PutOutcome::Created {
        return Err(broken(property, "an existing object was replaced"));
    }
    match bucket.get(key, 0..BODY_BYTES, Purpose::Cluster).await? == body(0).concat() {
        true => Ok(()),
        false => Err(broken(property, "a refused write changed the object")),
    }
}

async fn reads(bucket: &dyn Bucket, key: &Key) -> Result<(), ProbeError> {
    let (middle, beyond, short, long) = futures::join!(
        bucket.get(key, 98..103, Purpose::Cluster),
        bucket.get(key, 100..BODY_BYTES + 1, Purpose::Cluster),
        bucket.get_suffix(key, 7, Purpose::Cluster),
        bucket.get_suffix(key, 4 * BODY_BYTES, Purpose::Cluster),
    );
    if middle? != b"\0\0aqu"[..] {
        return Err(broken(Property::ExactRanges, "a range in the middle has other bytes"));
    }
    match beyond {
        Err(BucketError::OutOfRange { .. }) => (),
        Err(error) => return Err(error.into()),
        Ok(_) => return Err(broken(Property::ExactRanges, "a range beyond the end has bytes")),
    }
    for (suffix, expected) in [(short?, 7), (long?, BODY_BYTES)] {
        let whole = body(0).concat();
        let expected = &whole[whole.len() - expected as usize..];
        if suffix.bytes != expected || suffix.object_length != BODY_BYTES {
            return Err(broken(Property::SuffixRanges, "a suffix has other bytes"));
        }
    }
    Ok(())
}

async fn lists(bucket: &dyn Bucket, folder: &Key, keys: &[Key; 2]) -> Result<(), ProbeError> {
    let (listed, later) =
        futures::join!(bucket.list(folder, None, 3), bucket.list(folder, Some(&keys[0]), 3));
    let (listed, later) = (listed?, later?);
    if listed.len() < keys.len() || listed.iter().any(|it| it.length != BODY_BYTES) {
        return Err(broken(Property::Listing, "what was just written is not listed"));
    }
    if !listed.iter().map(|it| &it.key).eq(keys) {
        return Err(broken(Property::Listing, "the listing is not in key order"));
    }
    match later.len() == 1 && later[0].key == keys[1] {
        true => Ok(()),
        false => {
            Err(broken(Property::Listing, "a listing does not start after the key it is told"))
        }
    }
}

async fn races(bucket: &dyn Bucket, key: &Key) -> Result<(), ProbeError> {
    let race = (0..RACERS).map(|racer| bucket.put_new(key, body(racer), Purpose::Cluster));
    let outcomes = join_all(race).await;
    let mut winner = None;
    for (racer, outcome) in (0..RACERS).zip(outcomes) {
        if outcome? == PutOutcome::Created && winner.replace(racer).is_some() {
            return Err(broken(Property::CreateRace, "two writers created the same object"));
        }
    }
    let winner = winner.ok_or(broken(Property::CreateRace, "no writer created the object"))?;
    match bucket.get(key, 0..BODY_BYTES, Purpose::Cluster).await? == body(winner).concat() {
        true => Ok(()),
        false => Err(broken(Property::CreateRace, "the object is not that of the one who won")),
    }
}
