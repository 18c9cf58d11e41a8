//! What may be asked of the share-partitions of a group, and what is answered.

use vocabulary::{Offset, Partition, TopicId};

use protocol::ErrorCode;

/// Each that is asked for names one group, whose share-partitions are all in one shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShareCommand {
    /// From where would a member read next? A share-partition that is new begins.
    Look(Look),
    /// Lock what was read for a member.
    Acquire(Acquire),
    /// What has become of records that a member had.
    Acknowledge(Acknowledge),
    /// The member is gone: what it still has is available to others.
    Release {
        group: String,
        member: String,
    },
    Describe {
        group: String,
    },
    /// Begin these anew, each at an offset. Of topics that are new to the group, the other partitions are told, too.
    Alter {
        group: String,
        starts: Vec<StartAt>,
        siblings: Vec<LookAt>,
    },
    /// What was ordered has been done: nothing is to be decided.
    CarriedOut,
    /// Forget these topics of the group, or all of it.
    Delete {
        group: String,
        topics: Option<Vec<TopicId>>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    pub group: String,
    /// What the group may have; they count until the next look.
    pub limits: ShareLimits,
    pub partitions: Vec<LookAt>,
    /// The other partitions of topics that are new to the group: they begin with these. A partition that comes later is
    /// new to its topic, and is shared from its first record on (KAFKA-20742).
    pub siblings: Vec<LookAt>,
}

/// What bounds a share-partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShareLimits {
    /// `share.partition.max.record.locks`: offsets from the start to the last acquired one.
    pub locks_max: i64,
    /// `share.delivery.count.limit`: deliveries after which a record is archived instead of becoming available.
    pub delivery_count_limit: i16,
}

/// A partition as its log is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LookAt {
    pub partition: Partition,
    pub leader_epoch: i32,
    pub log_start: Offset,
    /// Where the share-partition begins if its topic is new (`share.auto.offset.reset`); `None`: to be asked for.
    pub begin: Option<Offset>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextFetch {
    /// From here on something has come back: no need to wait for the log to grow.
    Returned(Offset),
    /// Everything below was delivered already.
    Fresh(Offset),
    /// As many records are locked as may be.
    Full,
    /// Its topic is new, or it was left undecided, and where it begins was not told.
    Unbegun,
    Refused(ErrorCode),
}

/// What was read from the log, and who would have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acquire {
    pub group: String,
    pub member: String,
    pub partition: Partition,
    /// The offset that was read from.
    pub from: Offset,
    /// What was read, in order.
    pub batches: Vec<LogBatch>,
    /// As many are taken, and in one batch more unless it is `exact`.
    pub records_max: i64,
    pub is_exact: bool,
    /// Spans of new records end where a batch does, once they are as long as this.
    pub span_records: i64,
    pub lock_ms: u64,
}

/// A batch of the log, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogBatch {
    pub first: Offset,
    pub last: Offset,
    /// Nobody gets it: it holds a marker of a transaction, or records of one that was aborted.
    pub is_withheld: bool,
}

/// Offsets that a member has for a while, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AcquiredSpan {
    pub first: Offset,
    pub last: Offset,
    /// This delivery included.
    pub delivery_count: i16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledge {
    pub group: String,
    pub member: String,
    pub partitions: Vec<(Partition, Vec<AcknowledgementBatch>)>,
    /// For those that are renewed.
    pub lock_ms: u64,
}

/// Both ends included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcknowledgementBatch {
    pub first: Offset,
    pub last: Offset,
    /// One for all of them, or one for each.
    pub kinds: Vec<AcknowledgeKind>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcknowledgeKind {
    /// There is no record at that offset.
    Gap,
    /// Processed.
    Accept,
    /// To be delivered again.
    Release,
    /// Never to be delivered again.
    Reject,
    /// Still at work: the lock begins anew (KIP-1222).
    Renew,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartAt {
    pub partition: Partition,
    pub leader_epoch: i32,
    pub start: Offset,
}

impl StartAt {
    /// The look that begins there, whatever was known of the topic.
    pub(super) fn as_look(self) -> LookAt {
        let StartAt { partition, leader_epoch, start } = self;
        LookAt { partition, leader_epoch, log_start: start, begin: Some(start) }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShareReply {
    /// In the order of the request.
    Look(Vec<NextFetch>),
    Acquired(Vec<AcquiredSpan>),
    /// In the order of the request.
    Acknowledged(Vec<ErrorCode>),
    Released,
    CarriedOut,
    Described(Vec<DescribedShare>),
    /// In the order of the request.
    Altered(Vec<ErrorCode>),
    /// The topics of which something was known.
    Deleted(Vec<TopicId>),
}

/// In order of their partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DescribedShare {
    pub partition: Partition,
    /// -1 where that is not decided yet.
    pub start: Offset,
    pub leader_epoch: i32,
    /// Offsets from the start on that are done with.
    pub complete_count: i32,
}
