//! A group of any protocol: what a shard needs of it whichever that is.
//!
//! Owns: the choice. Does not own: the rules of each (`classic`, `consumer`, `share_group`).

use protocol::ErrorCode;
use vocabulary::Timestamp;

use crate::catalogue::Catalogue;
use crate::classic::ClassicGroup;
use crate::command::{CommitOffsets, FetchOffsets, GroupState, ListedGroup};
use crate::consumer::ConsumerGroup;
use crate::shard::Turn;
use crate::share_group::ShareGroup;
use crate::timers::Timers;

#[derive(Debug)]
pub(crate) enum Group {
    /// Members agree among themselves, by JoinGroup and SyncGroup.
    Classic(Box<ClassicGroup>),
    /// The coordinator assigns, by ConsumerGroupHeartbeat (KIP-848).
    Consumer(ConsumerGroup),
    /// Members share partitions, by ShareGroupHeartbeat (KIP-932).
    Share(ShareGroup),
}

impl Group {
    pub(crate) fn as_classic(&self) -> Option<&ClassicGroup> {
        match self {
            Group::Classic(group) => Some(group.as_ref()),
            Group::Consumer(_) | Group::Share(_) => None,
        }
    }

    pub(crate) fn as_classic_mut(&mut self) -> Option<&mut ClassicGroup> {
        match self {
            Group::Classic(group) => Some(group.as_mut()),
            Group::Consumer(_) | Group::Share(_) => None,
        }
    }

    pub(crate) fn as_consumer_mut(&mut self) -> Option<&mut ConsumerGroup> {
        match self {
            Group::Classic(_) | Group::Share(_) => None,
            Group::Consumer(group) => Some(group),
        }
    }

    pub(crate) fn as_share_mut(&mut self) -> Option<&mut ShareGroup> {
        match self {
            Group::Classic(_) | Group::Consumer(_) => None,
            Group::Share(group) => Some(group),
        }
    }

    /// The log was replayed to its end: sessions begin.
    pub(crate) fn restore(&mut self, turn: &mut Turn<'_>) {
        match self {
            Group::Classic(group) => group.restore(turn),
            Group::Consumer(group) => group.restore(turn),
            Group::Share(group) => group.restore(turn),
        }
    }

    /// Cancels every deadline: the group is going away. Only empty groups go.
    pub(crate) fn disarm(&mut self, timers: &mut Timers) {
        match self {
            Group::Classic(group) => group.disarm(timers),
            Group::Consumer(group) => group.disarm(timers),
            Group::Share(group) => group.disarm(timers),
        }
    }

    /// Topics were created, grown or deleted: those it matters to look at them in the next heartbeat.
    pub(crate) fn topic_changed(&mut self, topic: &str) {
        match self {
            Group::Classic(_) => (),
            Group::Consumer(group) => group.topic_changed(topic),
            Group::Share(group) => group.topic_changed(topic),
        }
    }

    /// News of topics were missed: any may have changed.
    pub(crate) fn topics_missed(&mut self) {
        match self {
            Group::Classic(_) => (),
            Group::Consumer(group) => group.topics_missed(),
            Group::Share(group) => group.topics_missed(),
        }
    }

    /// Nothing is left that anybody could ask for.
    pub(crate) fn is_vacant(&self) -> bool {
        match self {
            Group::Classic(group) => group.is_vacant(),
            Group::Consumer(group) => group.is_vacant(),
            Group::Share(group) => group.is_vacant(),
        }
    }

    /// Nobody is in the group or on the way into it.
    pub(crate) fn is_idle(&self) -> bool {
        match self {
            Group::Classic(group) => group.is_idle(),
            Group::Consumer(group) => group.is_empty(),
            Group::Share(group) => group.is_empty(),
        }
    }

    /// Nobody is in it, and it goes by itself once it has no offsets. What a share group has consumed is kept with its
    /// share-partitions: it goes when it is deleted, and they with it (KIP-932).
    pub(crate) fn goes_when_idle(&self) -> bool {
        match self {
            Group::Classic(_) | Group::Consumer(_) => self.is_idle(),
            Group::Share(_) => false,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Group::Classic(group) => group.is_empty(),
            Group::Consumer(group) => group.is_empty(),
            Group::Share(group) => group.is_empty(),
        }
    }

    pub(crate) fn state(&self) -> GroupState {
        match self {
            Group::Classic(group) => group.state(),
            Group::Consumer(group) => group.state(),
            Group::Share(group) => group.state(),
        }
    }

    pub(crate) fn member_count(&self) -> usize {
        match self {
            Group::Classic(group) => group.member_count(),
            Group::Consumer(group) => group.member_count(),
            Group::Share(group) => group.member_count(),
        }
    }

    /// Whether these offsets may be committed.
    pub(crate) fn validate_commit(
        &self,
        catalogue: &dyn Catalogue,
        commit: &CommitOffsets,
    ) -> Result<(), ErrorCode> {
        match self {
            Group::Classic(group) => group.validate_commit(commit),
            Group::Consumer(group) => group.validate_commit(catalogue, commit),
            // It has share-partitions, and no offsets.
            Group::Share(_) => Err(ErrorCode::GroupIdNotFound),
        }
    }

    /// Whether this member, if it is one, may read the committed offsets.
    pub(crate) fn validate_fetch(&self, fetch: &FetchOffsets) -> Result<(), ErrorCode> {
        match self {
            Group::Classic(_) => Ok(()),
            Group::Consumer(group) => {
                group.validate_fetch(fetch.member.as_deref(), fetch.member_epoch)
            }
            Group::Share(_) => Err(ErrorCode::GroupIdNotFound),
        }
    }

    /// A commit is a sign of life.
    pub(crate) fn committed(&mut self, turn: &mut Turn<'_>, member: &str) {
        match self {
            Group::Classic(group) => group.committed(turn, member),
            // Only heartbeats are (KIP-848).
            Group::Consumer(_) | Group::Share(_) => (),
        }
    }

    /// NON_EMPTY_GROUP when offsets may not be deleted at all.
    pub(crate) fn validate_offset_delete(&self) -> Result<(), ErrorCode> {
        match self {
            Group::Classic(group) => group.validate_offset_delete(),
            Group::Consumer(_) => Ok(()),
            Group::Share(_) => Err(ErrorCode::GroupIdNotFound),
        }
    }

    /// Whether a live member may want the offsets of this topic.
    pub(crate) fn is_subscribed(&self, topic: &str) -> bool {
        match self {
            Group::Classic(group) => group.is_subscribed(topic),
            Group::Consumer(group) => group.is_subscribed(topic),
            Group::Share(group) => group.is_subscribed(topic),
        }
    }

    /// From when on offsets age; `None` means they do not.
    pub(crate) fn offset_age_base(&self) -> Option<AgeBase> {
        match self {
            Group::Classic(group) => group.offset_age_base(),
            Group::Consumer(_) | Group::Share(_) => Some(AgeBase::Commit),
        }
    }

    pub(crate) fn list(&self) -> ListedGroup {
        match self {
            Group::Classic(group) => group.list(),
            Group::Consumer(group) => group.list(),
            Group::Share(group) => group.list(),
        }
    }

    /// Panics when an invariant of the group is broken; returns how many alarms it has set (G6).
    pub(crate) fn check(&self, timers: &Timers) -> usize {
        match self {
            Group::Classic(group) => group.check(timers),
            Group::Consumer(group) => group.check(timers),
            Group::Share(group) => group.check(timers),
        }
    }
}

/// What the retention of a group's offsets counts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AgeBase {
    /// The offset's own commit.
    Commit,
    /// The moment the group became empty.
    At(Timestamp),
}
