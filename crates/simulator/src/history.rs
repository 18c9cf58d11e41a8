//! What clients were told and have seen, over all lives, and what contradicts it.
//!
//! Owns: the memory of every promise. Does not own: how a node is asked (`workload`, `checker`).
//!
//! A batch is known at an offset once its producer was acknowledged or a reader was served it; from
//! then on it must stay there until the log start passes it.

use crate::changelog::{Changelog, Pair};
use crate::transactions::{Transacting, writer};
use bucket::LyingStore;
use bytes::Bytes;
use cluster::Topic;
use partition_log::LogMetrics;
use protocol::records::{BatchHeader, TransactionResult};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use vocabulary::{BrokerEpoch, LeaderEpoch, Offset, Partition, Timestamp, TopicId};

/// Base offset and leader epoch are the log's; everything behind them is the producer's.
const STAMPED_BYTES: usize = 16;

#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) cluster_id: Option<String>,
    pub(crate) broker_epoch: BrokerEpoch,
    pub(crate) producer_ids: Vec<Range<i64>>,
    pub(crate) topics: Vec<TopicStory>,
    pub(crate) partitions: BTreeMap<Partition, PartitionStory>,
    pub(crate) tally: Tally,
    /// Of the process that lives.
    pub(crate) meters: Option<Meters>,
}

/// How much happened: a simulation in which nothing does finds nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    pub lives: u64,
    pub stillborn: u64,
    pub acknowledged: u64,
    /// Acknowledged at least one life after it was first sent.
    pub retried_later: u64,
    pub batches_read: u64,
    pub topic_changes: u64,
    pub runs_checked: u64,
    pub log_starts_moved: u64,
    pub transactions_ended: u64,
    /// Batches of transactions that readers of committed records kept, and that they left out.
    pub committed_read: u64,
    pub aborted_left_out: u64,
    /// Readings of compacted partitions that were compared with what was told.
    pub changelogs_read: u64,
    /// Compacted partitions in which at the end nothing was left but what counts.
    pub changelogs_settled: u64,
    /// By key compaction: records in all, those of aborted transactions, and markers.
    pub records_compacted: u64,
    pub aborted_compacted: u64,
    pub markers_compacted: u64,
    /// Lives that ended in order; all others but the stillborn were killed.
    pub stopped: u64,
    /// Starts that found the log of an earlier life in the bucket and took it over.
    pub logs_taken_over: u64,
    pub runs_taken_over: u64,
    pub segments_flushed: u64,
    pub segments_merged: u64,
    pub segments_collected: u64,
    pub orphans_swept: u64,
    pub runs_expired: u64,
    /// Batches of the tail that were read back from the log, in bytes.
    pub wal_bytes_read: u64,
    /// Writes of dead processes that were taken, and that came too late.
    pub late_writes: u64,
    pub late_writes_refused: u64,
    /// Steps of the metadata's wall clock.
    pub clock_steps: u64,
    /// What the bucket lied.
    pub stored_not_told: u64,
    pub requests_failed: u64,
    pub requests_slow: u64,
    pub requests_throttled: u64,
}

/// What one process counts, to be read when it is gone.
#[derive(Debug)]
pub(crate) struct Meters {
    pub(crate) log: LogMetrics,
    pub(crate) stores: [Arc<LyingStore>; 2],
    pub(crate) logs_taken_over: u64,
    pub(crate) runs_taken_over: u64,
}

impl Tally {
    /// Takes over what a process has counted.
    pub(crate) fn count(&mut self, meters: &Meters) {
        let log = &meters.log;
        self.logs_taken_over += meters.logs_taken_over;
        self.runs_taken_over += meters.runs_taken_over;
        self.segments_flushed += log.segments_written.get();
        self.segments_merged += log.segments_merged.get();
        self.segments_collected += log.segments_collected.get();
        self.orphans_swept += log.orphans_swept.get();
        self.runs_expired += log.runs_expired.get();
        self.records_compacted += log.compaction_records_dropped.get();
        self.aborted_compacted += log.compaction_aborted_dropped.get();
        self.markers_compacted += log.compaction_markers_dropped.get();
        self.wal_bytes_read += log.wal_read_bytes.get();
        for lies in meters.stores.iter().map(|it| it.lies()) {
            self.stored_not_told += lies.stored_not_told;
            self.requests_failed += lies.failed;
            self.requests_slow += lies.slow;
            self.requests_throttled += lies.throttled;
        }
    }
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.lives += other.lives;
        self.stillborn += other.stillborn;
        self.acknowledged += other.acknowledged;
        self.retried_later += other.retried_later;
        self.batches_read += other.batches_read;
        self.topic_changes += other.topic_changes;
        self.runs_checked += other.runs_checked;
        self.log_starts_moved += other.log_starts_moved;
        self.transactions_ended += other.transactions_ended;
        self.committed_read += other.committed_read;
        self.aborted_left_out += other.aborted_left_out;
        self.changelogs_read += other.changelogs_read;
        self.changelogs_settled += other.changelogs_settled;
        self.records_compacted += other.records_compacted;
        self.aborted_compacted += other.aborted_compacted;
        self.markers_compacted += other.markers_compacted;
        self.stopped += other.stopped;
        self.logs_taken_over += other.logs_taken_over;
        self.runs_taken_over += other.runs_taken_over;
        self.segments_flushed += other.segments_flushed;
        self.segments_merged += other.segments_merged;
        self.segments_collected += other.segments_collected;
        self.orphans_swept += other.orphans_swept;
        self.runs_expired += other.runs_expired;
        self.wal_bytes_read += other.wal_bytes_read;
        self.late_writes += other.late_writes;
        self.late_writes_refused += other.late_writes_refused;
        self.clock_steps += other.clock_steps;
        self.stored_not_told += other.stored_not_told;
        self.requests_failed += other.requests_failed;
        self.requests_slow += other.requests_slow;
        self.requests_throttled += other.requests_throttled;
    }
}

/// A topic as clients know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopicFacts {
    /// Not known while its creation was not answered.
    pub(crate) id: Option<TopicId>,
    pub(crate) partitions: u32,
    pub(crate) configs: BTreeMap<String, String>,
}

/// The one topic of a name, and the change that was asked for and not answered.
#[derive(Debug, Clone, Default)]
pub(crate) struct TopicStory {
    pub(crate) now: Option<TopicFacts>,
    pub(crate) asked: Option<Option<TopicFacts>>,
}

#[derive(Debug, Default)]
pub(crate) struct PartitionStory {
    /// By producer of the workload: its writer and the sequence of its next batch.
    pub(crate) producers: BTreeMap<usize, (i64, i32)>,
    /// The one client with transactions.
    pub(crate) transacting: Option<Transacting>,
    /// What was decided about each transaction, by its writer.
    pub(crate) fates: BTreeMap<i64, TransactionResult>,
    /// Of a partition of a compacted topic.
    pub(crate) changelog: Option<Changelog>,
    /// By writer and first sequence: all that was ever sent.
    sent: BTreeMap<(i64, i32), Sent>,
    /// The key of the batch that is known to be at a base offset.
    places: BTreeMap<i64, (i64, i32)>,
    leader_epoch: Option<LeaderEpoch>,
    log_start: i64,
    high_watermark: i64,
    /// The largest offset that DeleteRecords was asked for.
    pub(crate) delete_asked: i64,
    /// The shortest retention that was ever asked for.
    pub(crate) retention_ms_min: Option<i64>,
}

#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) count: i32,
    pub(crate) timestamp: Timestamp,
    /// In which life it was first sent.
    pub(crate) life: u64,
    pub(crate) tries: u64,
    /// Part of a transaction.
    pub(crate) is_transactional: bool,
    /// Its records, if they have keys. A marker has none.
    pub(crate) pairs: Option<Vec<Pair>>,
    /// Behind the stamped fields; a marker has whatever time it is written at.
    bytes: Option<Bytes>,
    pub(crate) offset: Option<i64>,
    epoch: Option<i32>,
    is_acknowledged: bool,
}

fn facts(topic: &Topic) -> TopicFacts {
    let partitions = topic.partitions.len() as u32;
    TopicFacts { id: Some(topic.id), partitions, configs: topic.configs.clone() }
}

impl TopicFacts {
    fn describes(&self, found: &TopicFacts) -> bool {
        let is_same = self.id.is_none() || self.id == found.id;
        is_same && self.partitions == found.partitions && self.configs == found.configs
    }
}

impl TopicStory {
    /// Compares with the metadata, and learns from it what became of an unanswered change.
    pub(crate) fn settle(&mut self, found: Option<&Topic>) {
        let found = found.map(facts);
        let fits = |expected: &Option<TopicFacts>| match (expected, &found) {
            (None, None) => true,
            (Some(expected), Some(found)) => expected.describes(found),
            _ => false,
        };
        let is_explained = fits(&self.now) || self.asked.as_ref().is_some_and(fits);
        assert!(is_explained, "the metadata has {found:?}, told was {self:?}");
        (self.now, self.asked) = (found, None);
    }
}

impl History {
    pub(crate) fn partition(&mut self, partition: Partition) -> Option<&mut PartitionStory> {
        self.partitions.get_mut(&partition)
    }

    /// Stories of partitions that exist, and of no others.
    pub(crate) fn follow_topics(&mut self) {
        let mut existing: BTreeMap<TopicId, (u32, Option<Changelog>)> = BTreeMap::new();
        for topic in self.topics.iter().filter_map(|it| it.now.as_ref()) {
            let changelog = Changelog::of(&topic.configs);
            existing.extend(topic.id.map(|id| (id, (topic.partitions, changelog))));
        }
        self.partitions.retain(|it, _| existing.contains_key(&it.topic));
        for (topic, (count, changelog)) in existing {
            // A new partition has the configs of its topic.
            let stories = self.partitions.iter().filter(|(it, _)| it.topic == topic);
            let retention_ms_min = stories.filter_map(|(_, it)| it.retention_ms_min).min();
            for index in 0..count as i32 {
                let story = self.partitions.entry(Partition { topic, index }).or_default();
                story.retention_ms_min = retention_ms_min;
                story.changelog = changelog;
            }
        }
    }

    /// Ids that were handed out, which nobody may get again.
    pub(crate) fn producer_ids_given(&mut self, ids: &Range<i64>) {
        let is_new = self.producer_ids.iter().all(|it| it.end <= ids.start || ids.end <= it.start);
        assert!(is_new, "A5: producer ids {ids:?} were given before");
        self.producer_ids.push(ids.clone());
    }
}

impl PartitionStory {
    pub(crate) fn sending(&mut self, key: (i64, i32), sent: impl FnOnce() -> Sent) -> &mut Sent {
        self.sent.entry(key).or_insert_with(sent)
    }

    pub(crate) fn sent(&mut self, key: (i64, i32)) -> Option<&mut Sent> {
        self.sent.get_mut(&key)
    }

    /// A writer's batches without an acknowledgement, in order.
    pub(crate) fn in_flight(&self, writer: i64) -> Vec<(i64, i32)> {
        let own = self.sent.range((writer, 0)..=(writer, i32::MAX));
        own.filter(|(_, sent)| !sent.is_acknowledged).map(|(key, _)| *key).collect()
    }

    /// Everything that was ever sent is acknowledged: so many records were taken.
    pub(crate) fn is_all_in(&self, end: Offset) {
        let sent: i64 = self.sent.values().map(|it| i64::from(it.count)).sum();
        let count = self.sent.len();
        let is_answered = self.sent.values().all(|it| it.is_acknowledged);
        assert!(is_answered, "A9: healed, yet not answered");
        assert!(sent <= end.0, "A1: {count} batches hold {sent} records, the log ends at {end}");
        assert!(end.0 <= sent, "A5: {count} batches hold {sent} records, the log ends at {end}");
    }

    /// True if this is news.
    pub(crate) fn acknowledged(&mut self, key: (i64, i32), offset: Offset) -> bool {
        self.place(key, offset);
        let sent = self.sent.get_mut(&key).expect("it has a place");
        let end = offset.0 + i64::from(sent.count);
        self.high_watermark = self.high_watermark.max(end);
        !std::mem::replace(&mut sent.is_acknowledged, true)
    }

    /// A reader was served this batch.
    pub(crate) fn saw(&mut self, header: &BatchHeader, bytes: &Bytes) {
        let key = (writer(header.producer_id, header.producer_epoch), header.base_sequence);
        let Some(sent) = self.sent.get_mut(&key) else {
            panic!("A1: a batch nobody sent, {key:?}, is at {}", header.base_offset);
        };
        let is_same = sent.bytes.as_ref().is_none_or(|it| bytes.slice(STAMPED_BYTES..) == it);
        assert!(is_same, "A1: batch {key:?} at {} has other bytes", header.base_offset);
        self.saw_part(key, header);
    }

    /// Likewise, of a batch that may have fewer records than were sent.
    pub(crate) fn saw_part(&mut self, key: (i64, i32), header: &BatchHeader) {
        self.place(key, header.base_offset);
        let sent = self.sent.get_mut(&key).expect("it has a place");
        let epoch = *sent.epoch.get_or_insert(header.leader_epoch);
        assert_eq!(epoch, header.leader_epoch, "A2: the epoch of batch {key:?} has changed");
        self.high_watermark = self.high_watermark.max(header.end_offset().0);
    }

    /// By its key, each batch with the offset that it is known to have.
    pub(crate) fn all_sent(&self) -> impl Iterator<Item = (&(i64, i32), &Sent)> {
        self.sent.iter()
    }

    fn place(&mut self, key: (i64, i32), offset: Offset) {
        let sent = self.sent.get_mut(&key).expect("only what was sent has a place");
        let known = *sent.offset.get_or_insert(offset.0);
        assert_eq!(known, offset.0, "A5: batch {key:?} is at {known} and at {offset}");
        let other = *self.places.entry(offset.0).or_insert(key);
        assert_eq!(other, key, "A2: two batches are at offset {offset}");
    }

    /// A node's offsets, as clients could have asked for them. True if the log start has moved.
    pub(crate) fn offsets(
        &mut self,
        log_start: Offset,
        high_watermark: Offset,
        now: Timestamp,
    ) -> bool {
        let (before, end) = (self.log_start, self.high_watermark);
        assert!(before <= log_start.0, "the log start went back from {before} to {log_start}");
        assert!(end <= high_watermark.0, "A2: up to {end} was durable, now up to {high_watermark}");
        let old = self.retention_ms_min.map(|it| now.0 - it);
        for (base, key) in self.places.range(..log_start.0) {
            let sent = &self.sent[key];
            let end = base + i64::from(sent.count);
            let is_asked = end.min(log_start.0) <= self.delete_asked;
            let is_old = old.is_some_and(|old| sent.timestamp.0 < old);
            let is_passed_before = end <= before;
            assert!(
                is_passed_before || is_asked || is_old,
                "A1: nobody deleted {key:?} at {base}, yet the log starts at {log_start}"
            );
        }
        (self.log_start, self.high_watermark) = (log_start.0, high_watermark.0);
        before < log_start.0
    }

    /// Everything that is known was found, except what lies below `log_start`.
    pub(crate) fn found(&self, found: &[i64], log_start: Offset) {
        for (base, key) in &self.places {
            let end = base + i64::from(self.sent[key].count);
            let is_there = end <= log_start.0 || found.binary_search(base).is_ok();
            assert!(is_there, "A1: batch {key:?} at {base} is gone; the log starts at {log_start}");
        }
    }

    /// Leader epochs only grow.
    pub(crate) fn led_in(&mut self, epoch: LeaderEpoch) {
        let before = self.leader_epoch.replace(epoch);
        assert!(before < Some(epoch), "A4: leader epoch {epoch:?} after {before:?}");
    }
}

impl Sent {
    pub(crate) fn new(count: i32, timestamp: Timestamp, life: u64, batch: &[u8]) -> Sent {
        let bytes = Some(Bytes::copy_from_slice(&batch[STAMPED_BYTES..]));
        Sent {
            count,
            timestamp,
            life,
            tries: 0,
            is_transactional: false,
            pairs: None,
            bytes,
            offset: None,
            epoch: None,
            is_acknowledged: false,
        }
    }

    /// A batch of one record that ends a transaction.
    pub(crate) fn marker(timestamp: Timestamp, life: u64) -> Sent {
        let sent = Sent::new(1, timestamp, life, &[0; STAMPED_BYTES]);
        Sent { bytes: None, ..sent }.within_transaction()
    }

    pub(crate) fn keyed(self, pairs: Option<Vec<Pair>>) -> Sent {
        Sent { pairs, ..self }
    }

    pub(crate) fn within_transaction(self) -> Sent {
        Sent { is_transactional: true, ..self }
    }
}
