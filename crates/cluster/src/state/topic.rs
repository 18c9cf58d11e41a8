//! A topic, its partitions' leaders, and how far each partition is.

use std::collections::BTreeMap;

use vocabulary::{BrokerId, LeaderEpoch, Offset, TopicId};

/// The longest topic name Kafka accepts, in characters.
const NAME_CHARS_MAX: usize = 249;

/// Topics that the brokers write themselves.
const INTERNAL_TOPICS: [&str; 3] =
    ["__consumer_offsets", "__share_group_state", "__transaction_state"];

/// What changes rarely and everybody reads: shared, replaced as a whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Topic {
    pub id: TopicId,
    pub name: String,
    /// Written by the brokers themselves; clients only read it.
    pub is_internal: bool,
    pub partitions: Vec<PartitionInfo>,
    /// Only what was set on the topic; defaults come from elsewhere.
    pub configs: BTreeMap<String, String>,
}

impl Topic {
    /// The partition of an index as clients name it. `None`: there is none.
    pub fn partition(&self, index: i32) -> Option<&PartitionInfo> {
        self.partitions.get(usize::try_from(index).ok()?)
    }
}

/// Who leads a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionInfo {
    pub leader: BrokerId,
    pub leader_epoch: LeaderEpoch,
}

/// How far a partition is: what its committed runs cover.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Progress {
    /// The first offset clients may read. May lie above `committed_end`, inside the tail.
    pub log_start: Offset,
    /// Where live runs start: the end of the last one that was dropped (A3).
    pub runs_start: Offset,
    /// Where committed runs end, exclusive; the next run starts exactly here (A3).
    pub committed_end: Offset,
    /// The first offset of each leader epoch that has committed records, oldest first.
    pub epochs: Vec<(LeaderEpoch, Offset)>,
    /// Bytes of the live runs.
    pub committed_bytes: u64,
    /// Live runs.
    pub runs: u64,
    /// The producers as of this offset, the committed end, are kept in the store (A5).
    pub kept_as_of: Option<Offset>,
    /// How often live runs were replaced by merged ones. Whoever has read runs before the last time
    /// has to read them again.
    pub replacements: u64,
}

impl Progress {
    pub(crate) fn check(&self) {
        let ascending = self.epochs.windows(2).all(|it| it[0].0 < it[1].0 && it[0].1 < it[1].1);
        assert!(ascending, "A3: epochs {:?} ascend", self.epochs);
        assert_eq!(self.runs == 0, self.committed_bytes == 0, "A3: bytes belong to runs");
        assert_eq!(self.runs == 0, self.runs_start == self.committed_end, "A3: runs cover the log");
        let is_kept = |as_of: Offset| as_of == self.committed_end;
        assert!(self.kept_as_of.is_none_or(is_kept), "A5: kept producers are as of the end");
    }

    /// Whether the producers as of the committed end are kept.
    pub(crate) fn has_kept(&self) -> bool {
        self.kept_as_of.is_some()
    }

    /// The leader epoch that wrote `offset`, which lies below the committed end. `None` below the first
    /// epoch that is still known.
    pub(crate) fn epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        self.epochs.iter().rfind(|it| it.1 <= offset).map(|it| it.0)
    }

    /// Forgets the epochs that ended at or before the log start, but the one that holds it.
    pub(crate) fn trim_epochs(&mut self) {
        let covers = |start: &(LeaderEpoch, Offset)| start.1 <= self.log_start;
        let first = self.epochs.iter().rposition(covers).unwrap_or(0);
        self.epochs.drain(..first);
    }
}

/// Why a name is not a topic name. Kafka's rules.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicNameError {
    #[error("the empty string is not a topic name")]
    Empty,
    #[error("'.' and '..' are not topic names")]
    Dots,
    #[error("a topic name has at most {NAME_CHARS_MAX} characters, this one has {0}")]
    TooLong(usize),
    #[error("topic name {0:?} has characters other than ASCII letters, digits, '.', '_' and '-'")]
    Characters(String),
}

/// Whether `name` may name a topic.
pub fn check_topic_name(name: &str) -> Result<(), TopicNameError> {
    let legal = |it: char| it.is_ascii_alphanumeric() || matches!(it, '.' | '_' | '-');
    match name {
        "" => Err(TopicNameError::Empty),
        "." | ".." => Err(TopicNameError::Dots),
        _ if NAME_CHARS_MAX < name.len() => Err(TopicNameError::TooLong(name.len())),
        _ if !name.chars().all(legal) => Err(TopicNameError::Characters(name.to_owned())),
        _ => Ok(()),
    }
}

/// Two names that differ only in '.' against '_' would be one name in metrics: Kafka refuses the
/// second.
pub(crate) fn collides(one: &str, other: &str) -> bool {
    let is_dot = |it: u8| matches!(it, b'.' | b'_');
    let same = |(one, other): (u8, u8)| one == other || (is_dot(one) && is_dot(other));
    one != other && one.len() == other.len() && one.bytes().zip(other.bytes()).all(same)
}

pub(crate) fn is_internal(name: &str) -> bool {
    INTERNAL_TOPICS.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_kafkas_rules() {
        for good in ["a", "orders.v1", "__consumer_offsets", "A-b_c.9", &"x".repeat(249)] {
            assert_eq!(check_topic_name(good), Ok(()), "{good}");
        }
        for bad in ["", ".", "..", "a b", "ä", "a/b", "a:b", &"x".repeat(250)] {
            assert!(check_topic_name(bad).is_err(), "{bad}");
        }
        assert!(collides("a.b", "a_b") && !collides("a.b", "a.b") && !collides("a", "b"));
    }

    #[test]
    fn trimming_keeps_the_epoch_that_holds_the_log_start() {
        let epochs = [(0, 0), (2, 10), (5, 20)].map(|(e, o)| (LeaderEpoch(e), Offset(o)));
        let trimmed = |log_start| {
            let mut it = Progress { log_start: Offset(log_start), ..Default::default() };
            it.epochs = epochs.to_vec();
            it.trim_epochs();
            it.epochs.first().map(|it| it.0.0)
        };
        assert_eq!(trimmed(0), Some(0));
        assert_eq!(trimmed(9), Some(0));
        assert_eq!(trimmed(10), Some(2));
        assert_eq!(trimmed(99), Some(5));
    }
}
