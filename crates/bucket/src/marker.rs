//! The object `cluster`: which cluster lives in this bucket, and in which format.
//!
//! Owns: its name and its text. It is created once, create-if-absent, by the first broker that ever
//! starts on the bucket, and only read afterwards. A format this build does not know stops the start
//! before anything else of the bucket is touched.
//!
//! The text is for people, too:
//!
//! ```text
//! aquifer-format: 1
//! cluster-id: mCkfGc0aQ3uGvyzDWkcMMg
//! ```

use crate::port::{Bucket, BucketError, Key, Purpose, PutOutcome};
use bytes::Bytes;
use environment::Entropy;
use std::str::FromStr;
use vocabulary::TopicId;

/// The bucket layout this build reads and writes.
pub const MARKER_FORMAT: u32 = 1;

const MARKER: &str = "cluster";
const MARKER_BYTES_MAX: u64 = 4096;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterMarker {
    pub format: u32,
    /// 22 characters, as Kafka's `kafka-storage random-uuid` prints them.
    pub cluster_id: String,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MarkerError {
    /// The operator starts a newer build.
    #[error(
        "the bucket has format {found}, this build knows format {MARKER_FORMAT}: start a build that \
         knows {found}"
    )]
    UnknownFormat { found: u32 },
    /// The operator looks at what else lives in this bucket.
    #[error("the object `{MARKER}` is not a marker of ours: {reason}")]
    Damaged { reason: String },
    #[error(transparent)]
    Bucket(#[from] BucketError),
}

/// Reads the bucket's marker, after creating it if the bucket has none. Of several brokers that
/// start at once on an empty bucket, one names the cluster and all get that name.
pub async fn claim(
    bucket: &dyn Bucket,
    entropy: &dyn Entropy,
) -> Result<ClusterMarker, MarkerError> {
    if let Some(marker) = read(bucket).await? {
        return Ok(marker);
    }
    let marker = ClusterMarker { format: MARKER_FORMAT, cluster_id: new_cluster_id(entropy) };
    let body = vec![Bytes::from(marker.to_text())];
    match bucket.put_new(&Key::new(MARKER), body, Purpose::Cluster).await? {
        PutOutcome::Created => Ok(marker),
        PutOutcome::AlreadyExists => read(bucket).await?.ok_or_else(|| MarkerError::Damaged {
            reason: "it existed, then it did not: something else deletes objects here".to_owned(),
        }),
    }
}

/// Reads the bucket's marker. `None` where no broker has ever started.
///
/// # Errors
///
/// See [`MarkerError`].
pub async fn read(bucket: &dyn Bucket) -> Result<Option<ClusterMarker>, MarkerError> {
    let key = Key::new(MARKER);
    match bucket.get_suffix(&key, MARKER_BYTES_MAX, Purpose::Cluster).await {
        Ok(suffix) if MARKER_BYTES_MAX < suffix.object_length => Err(MarkerError::Damaged {
            reason: format!("{} bytes is too long", suffix.object_length),
        }),
        Ok(suffix) => ClusterMarker::from_text(&suffix.bytes).map(Some),
        Err(BucketError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// As Kafka's `Uuid.randomUuid`: never zero, never starting with a dash, which options would eat.
fn new_cluster_id(entropy: &dyn Entropy) -> String {
    loop {
        let id = TopicId(entropy.next_u128().to_be_bytes());
        let text = id.to_string();
        if id != TopicId::ZERO && !text.starts_with('-') {
            return text;
        }
    }
}

impl ClusterMarker {
    fn to_text(&self) -> String {
        format!("aquifer-format: {}\ncluster-id: {}\n", self.format, self.cluster_id)
    }

    fn from_text(bytes: &[u8]) -> Result<ClusterMarker, MarkerError> {
        let damaged = |reason: &str| MarkerError::Damaged { reason: reason.to_owned() };
        let text = std::str::from_utf8(bytes).map_err(|_| damaged("it is not text"))?;
        let field = |name: &str| {
            let mut fields = text.lines().filter_map(|line| line.split_once(": "));
            fields.find(|(it, _)| *it == name).map(|(_, value)| value)
        };
        // The format first: a later one may change everything else.
        let format = field("aquifer-format").ok_or_else(|| damaged("it names no format"))?;
        let format = u32::from_str(format).map_err(|_| damaged("its format is not a number"))?;
        if format != MARKER_FORMAT {
            return Err(MarkerError::UnknownFormat { found: format });
        }
        let id = field("cluster-id").ok_or_else(|| damaged("it names no cluster"))?;
        TopicId::from_str(id).map_err(|_| damaged("its cluster id is not 22 characters"))?;
        Ok(ClusterMarker { format, cluster_id: id.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StoreBucket;
    use environment::{Environment, SeededEntropy};

    #[tokio::test(start_paused = true)]
    async fn the_first_start_names_the_cluster() {
        let bucket = StoreBucket::memory(&Environment::simulated(1));
        let first = claim(&bucket, &SeededEntropy::new(1)).await.expect("claimed");
        assert_eq!((first.format, first.cluster_id.len()), (1, 22));
        assert_eq!(claim(&bucket, &SeededEntropy::new(2)).await, Ok(first));
    }

    #[tokio::test(start_paused = true)]
    async fn two_first_starts_agree() {
        let bucket = StoreBucket::memory(&Environment::simulated(1));
        let (one, two) = (SeededEntropy::new(1), SeededEntropy::new(2));
        let (one, two) = futures::join!(claim(&bucket, &one), claim(&bucket, &two));
        assert_eq!(one.expect("claimed"), two.expect("claimed"));
    }

    #[test]
    fn the_text_is_a_golden_format() {
        let text = "aquifer-format: 1\ncluster-id: mCkfGc0aQ3uGvyzDWkcMMg\n";
        let marker = ClusterMarker::from_text(text.as_bytes()).expect("known");
        assert_eq!(marker.to_text(), text);
        for (text, complaint) in [
            ("aquifer-format: 2\nwhatever", "the bucket has format 2, this build knows format 1"),
            ("hello", "names no format"),
            ("aquifer-format: x", "not a number"),
            ("aquifer-format: 1\n", "names no cluster"),
            ("aquifer-format: 1\ncluster-id: short\n", "not 22 characters"),
        ] {
            let error = ClusterMarker::from_text(text.as_bytes()).expect_err(text).to_string();
            assert!(error.contains(complaint), "{error}");
        }
    }
}
