//! The cluster's metadata: topics, partitions' progress, runs, segments, brokers, configs, ACLs.
//!
//! | module | in it |
//! | --- | --- |
//! | `state` | pure: what there is, the rules of change, the events |
//! | `store` | SlateDB on the bucket: events become key writes, one atomic batch at a time |
//! | `controller` | the one task that decides and commits; the typed commands |
//! | `view` | what everybody reads: the last durable state and a feed of changes |
//!
//! Invariants kept here: A3 (runs are committed only where the last one ended), A4 (a commit carries
//! the broker epoch and leader epoch it was made in), A5 (the producers as of the committed end are in
//! the last run or kept), A6 and A7 (a segment is referenced, garbage or
//! forgotten), A9 (a store that does not answer delays changes, nothing else).
//!
//! Deliberately absent: record bytes, groups, the Kafka wire, defaults of configs.

mod controller;
mod state;
mod store;
mod view;

pub use controller::{Controller, ControllerHealth, OpenError, SubmitError};
pub use state::{
    ADOPTED_PRODUCERS_BYTES_MAX, ADOPTED_RUNS_MAX, Acl, AclError, AclFilter, AclOperation,
    AclPattern, AclPermission, AclResource, AdoptRuns, Broker, CommitRefusal, CommitRuns,
    CreatePartitionsError, CreateTopicError, GroupConfigsError, KeptProducers, LogStartError,
    PartitionInfo, PatternFilter, Progress, RefusedRun, RegisterBroker, Registration, ReplaceRuns,
    Run, RunRefusal, RunsOfSegment, Segment, Topic, TopicNameError, UnknownTopic, WalError,
    WalKind, WalLog, check_topic_name,
};
pub use store::{
    DamagedFile, LogPosition, MetadataEntry, MetadataFiles, MetadataInspection, MetadataReader,
    MetadataValue, StoreError, StoreOptions, metadata_prefix,
};
pub use view::{AclChange, AclsSince, BrokerConfigChanges, Changes, TopicChange, View};
