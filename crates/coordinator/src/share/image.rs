//! What is durable of a share-partition, and the events that change it.

use vocabulary::{Offset, Partition, TopicId};

use super::ranges::Ranges;

/// Which share-partition.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShareKey {
    pub group: String,
    pub topic: TopicId,
    pub index: i32,
}

impl ShareKey {
    pub fn new(group: &str, partition: Partition) -> ShareKey {
        ShareKey { group: group.to_owned(), topic: partition.topic, index: partition.index }
    }

    pub fn partition(&self) -> Partition {
        Partition { topic: self.topic, index: self.index }
    }
}

/// How a record's delivery stands in the log, with Kafka's numbers. 1, "acquired", is never stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryState {
    Available = 0,
    Acknowledged = 2,
    Archived = 4,
}

impl DeliveryState {
    /// Nobody will get the record again.
    pub fn is_done(self) -> bool {
        self != DeliveryState::Available
    }

    pub(super) fn from_number(number: i8) -> Option<DeliveryState> {
        match number {
            0 => Some(DeliveryState::Available),
            2 => Some(DeliveryState::Acknowledged),
            4 => Some(DeliveryState::Archived),
            _ => None,
        }
    }
}

/// A state, and how often the records were delivered to get there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Delivery {
    pub(super) state: DeliveryState,
    pub(super) count: i16,
}

/// Offsets of one state, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateSpan {
    pub first: Offset,
    pub last: Offset,
    pub state: DeliveryState,
    pub delivery_count: i16,
}

/// Where a share-partition starts whose start is not decided, as Kafka stores it.
const UNDECIDED: Offset = Offset(-1);

/// All that is durable of a share-partition. Offsets from the start on of which nothing is said are available and
/// have not been delivered, as far as the log knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareImage {
    /// Grows with each snapshot; an update belongs to the snapshot before it.
    pub snapshot_epoch: i32,
    /// Grows whenever the start offset is set by hand.
    pub state_epoch: i32,
    pub leader_epoch: i32,
    /// Below zero while it is not decided: see [`ShareImage::is_begun`].
    pub start: Offset,
    /// Wall milliseconds.
    pub created_at: i64,
    pub(super) spans: Ranges<Delivery>,
}

impl ShareImage {
    pub(super) fn new(start: Offset, leader_epoch: i32, created_at: i64) -> ShareImage {
        let spans = Ranges::default();
        ShareImage { snapshot_epoch: 0, state_epoch: 0, leader_epoch, start, created_at, spans }
    }

    /// Of a partition that is there, and where the group starts is not decided before somebody looks.
    pub(super) fn undecided(leader_epoch: i32, created_at: i64) -> ShareImage {
        ShareImage::new(UNDECIDED, leader_epoch, created_at)
    }

    /// Whether it is decided where it starts.
    pub fn is_begun(&self) -> bool {
        Offset::ZERO <= self.start
    }

    pub fn spans(&self) -> impl Iterator<Item = StateSpan> {
        self.spans.iter().map(|(first, last, it)| StateSpan {
            first: Offset(first),
            last: Offset(last),
            state: it.state,
            delivery_count: it.count,
        })
    }

    /// Offsets from the start on that are done with (KIP-1226).
    pub fn complete_count(&self) -> i32 {
        let done = self.spans.iter().filter(|(_, _, it)| it.state.is_done());
        let count: i64 = done.map(|(first, last, _)| last - first + 1).sum();
        i32::try_from(count).unwrap_or(i32::MAX)
    }

    /// Later spans count; doing it again changes nothing.
    pub(super) fn overlay(&mut self, start: Option<Offset>, spans: &[StateSpan]) {
        for span in spans {
            let delivery = Delivery { state: span.state, count: span.delivery_count };
            if span.first <= span.last {
                self.spans.set(span.first.0, span.last.0, delivery);
            }
        }
        if let Some(start) = start {
            self.start = start;
        }
        if let Some(below) = self.start.0.checked_sub(1) {
            self.spans.clear(i64::MIN, below);
        }
    }
}

/// One fact. Applying the same fact twice is harmless.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShareEvent {
    /// All of it, whatever was known before; written at these wall milliseconds.
    Snapshot {
        key: ShareKey,
        image: Box<ShareImage>,
        written_at: i64,
    },
    /// What has changed since the snapshot of that epoch.
    Update {
        key: ShareKey,
        snapshot_epoch: i32,
        leader_epoch: i32,
        /// `None`: as before.
        start: Option<Offset>,
        /// Offsets from the new start on that are done with.
        complete_count: i32,
        spans: Vec<StateSpan>,
    },
    Forgotten {
        key: ShareKey,
    },
}

impl ShareEvent {
    pub fn key(&self) -> &ShareKey {
        match self {
            ShareEvent::Snapshot { key, .. }
            | ShareEvent::Update { key, .. }
            | ShareEvent::Forgotten { key } => key,
        }
    }
}
