//! What a decision about a consumer group rests on that is not the group's own: which topics there
//! are, and what an operator has set for the group.

use std::fmt;

use vocabulary::TopicId;

/// A topic as an assignment sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicFacts {
    pub id: TopicId,
    /// How many partitions it has, numbered from 0.
    pub partitions: i32,
}

/// What may be set for one group (resource type 32), or for all of a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsumerSettings {
    /// `consumer.session.timeout.ms`: silence after which a member is removed.
    pub session_timeout_ms: i32,
    /// `consumer.heartbeat.interval.ms`: how often members are told to heartbeat.
    pub heartbeat_interval_ms: i32,
    /// `consumer.assignment.interval.ms`: the least time between two target assignments.
    pub assignment_interval_ms: i32,
}

/// What may be set for one share group (resource type 32), or for all of a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShareSettings {
    /// `share.session.timeout.ms`: silence after which a member is removed.
    pub session_timeout_ms: i32,
    /// `share.heartbeat.interval.ms`: how often members are told to heartbeat.
    pub heartbeat_interval_ms: i32,
    /// `share.assignment.interval.ms`: the least time between two target assignments.
    pub assignment_interval_ms: i32,
}

/// A port: the caller answers from the cluster's metadata as they are. Whatever it answers, no
/// partition has two owners; a stale answer only makes an assignment that is replaced later.
pub trait Catalogue: fmt::Debug + Send + Sync {
    fn topic(&self, name: &str) -> Option<TopicFacts>;

    fn name_of(&self, id: TopicId) -> Option<String>;

    /// Every topic's name, for regular expressions.
    fn names(&self) -> Vec<String>;

    fn settings(&self, group: &str) -> ConsumerSettings;

    fn share_settings(&self, group: &str) -> ShareSettings;
}
