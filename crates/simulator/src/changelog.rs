//! A compacted topic, and what its readers must find (KIP-58, KIP-534).
//!
//! Owns: keys and tombstones, reading a partition from some offset on with and without undecided records,
//! what such a reading must have, what has to be gone in the end.
//! Does not own: sending (`workload`, `transactions`): these batches are sent and retried as any others.
//!
//! A reading may take longer than tombstones are kept. Then it may have seen a record that a tombstone
//! deletes and not the tombstone, as with Kafka; so it is asked less of.

use crate::checker::{self, RETRY, TRIES_MAX};
use crate::history::{History, PartitionStory, Sent};
use crate::transactions::writer;
use crate::workload::{Clients, Turn, WAIT};
use bytes::Bytes;
use environment::{Entropy, Environment, SeededEntropy};
use partition_log::{AbortedTransaction, Fetched, LogSettings, PartitionLog, ReadError, ReadLimit};
use protocol::records::{Batch, BatchHeader, EndTxnMarker, TransactionResult, batches, records};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;
use vocabulary::{Offset, Partition};

pub(crate) const PARTITIONS_MAX: u32 = 2;

const CLEANUP_POLICY: &str = "cleanup.policy";
const DELETE_RETENTION_MS: &str = "delete.retention.ms";

/// Few, so that each comes again soon.
const KEYS: u64 = 12;

/// Fetches of one reading that brought something. What grows faster than it is read is not compared.
const FETCHES_MAX: usize = 3000;

/// A partition of which something superfluous is left after so long will never be clean: compaction leaves
/// none alone for more than ten minutes.
const SETTLED_MAX: Duration = Duration::from_secs(1800);

/// `None`: a tombstone.
pub(crate) type Pair = (u8, Option<Bytes>);

/// What a compacted topic asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Changelog {
    delete_retention_ms: i64,
}

impl Changelog {
    pub(crate) fn of(configs: &BTreeMap<String, String>) -> Option<Changelog> {
        configs.get(CLEANUP_POLICY).filter(|it| *it == "compact")?;
        let delete_retention_ms = configs[DELETE_RETENTION_MS].parse();
        Some(Changelog { delete_retention_ms: delete_retention_ms.expect("we write numbers") })
    }
}

pub(crate) fn configs(chance: &SeededEntropy) -> BTreeMap<String, String> {
    let delete_retention_ms = [0, 500, 5000][chance.below(3) as usize];
    BTreeMap::from([
        (CLEANUP_POLICY.to_owned(), "compact".to_owned()),
        (DELETE_RETENTION_MS.to_owned(), delete_retention_ms.to_string()),
    ])
}

/// What is flushed is not active any more a moment later, and anything new is reason enough.
pub(crate) fn configure(settings: &mut LogSettings, configs: &BTreeMap<String, String>) {
    let Some(changelog) = Changelog::of(configs) else { return };
    settings.cleanup.delete = false;
    settings.cleanup.compact = true;
    settings.segment_ms = 1;
    settings.min_cleanable_dirty_ratio = 0.0;
    settings.delete_retention_ms = changelog.delete_retention_ms;
}

/// A key for `value`, which a tombstone lets go.
pub(crate) fn pair(draw: &SeededEntropy, value: Vec<u8>) -> ([u8; 1], Option<Vec<u8>>) {
    let key = [draw.below(KEYS) as u8];
    (key, (draw.below(4) != 0).then_some(value))
}

pub(crate) fn pairs(batch: &Batch) -> Vec<Pair> {
    let bytes = Bytes::copy_from_slice(batch.bytes());
    let all = records(&bytes, usize::MAX).expect("we have written it");
    let whole = all.map(|it| it.expect("we have written it"));
    whole.map(|it| (it.key.expect("it has one")[0], it.value)).collect()
}

/// A record that a reader was served.
#[derive(Debug)]
struct Found {
    offset: i64,
    key: u8,
    is_tombstone: bool,
    writer: i64,
    is_transactional: bool,
}

/// One reader's way from an offset to the end.
#[derive(Debug)]
struct Reading {
    limit: ReadLimit,
    from: Offset,
    next: Offset,
    /// Where the readable part ended when it started.
    end_at_start: Offset,
    is_complete: bool,
    took: Duration,
    found: Vec<Found>,
    /// Offset and writer of each.
    markers: Vec<(i64, i64)>,
}

fn end_of(log: &PartitionLog, limit: ReadLimit) -> Offset {
    match limit {
        ReadLimit::HighWatermark => log.offsets().high_watermark,
        ReadLimit::LastStable => log.offsets().last_stable,
    }
}

async fn read(
    environment: &Environment,
    log: &PartitionLog,
    from: Offset,
    limit: ReadLimit,
    history: &RefCell<History>,
) -> Result<Reading, ReadError> {
    log.load_producers().await?;
    let started = environment.clock.now();
    let mut reading = Reading {
        limit,
        from,
        next: from,
        end_at_start: end_of(log, limit),
        is_complete: false,
        took: Duration::ZERO,
        found: Vec::new(),
        markers: Vec::new(),
    };
    let (mut fetches, mut failures) = (0, 0);
    while fetches < FETCHES_MAX {
        if end_of(log, limit) <= reading.next {
            reading.is_complete = true;
            break;
        }
        let (at, bytes_max) = (reading.next, 1 + environment.entropy.below(16 * 1024) as usize);
        let read = async {
            let fetched = log.read(at, bytes_max, true, limit).await?;
            let aborted = match limit {
                ReadLimit::HighWatermark => Vec::new(),
                ReadLimit::LastStable => log.aborted_among(at, &fetched).await?,
            };
            Ok((fetched, aborted))
        };
        let (fetched, aborted) = match read.await {
            Ok(read) => read,
            Err(ReadError::Unavailable) if failures < TRIES_MAX => {
                failures += 1;
                environment.clock.sleep(RETRY).await;
                continue;
            }
            Err(error) => return Err(error),
        };
        (fetches, failures) = (fetches + 1, 0);
        let end = end_of(log, limit);
        assert!(fetched.end <= end, "A2, A8: served to {}, readable is {end}", fetched.end);
        let mut history = history.borrow_mut();
        checker::look(environment, log, &mut history);
        let Some(story) = history.partition(log.partition()) else { break };
        reading.see(fetched, aborted, story);
    }
    reading.took = environment.clock.now().since(started);
    Ok(reading)
}

impl Reading {
    /// One fetch, filtered as clients do.
    fn see(
        &mut self,
        fetched: Fetched,
        mut aborted: Vec<AbortedTransaction>,
        story: &mut PartitionStory,
    ) {
        aborted.sort_by_key(|it| it.first_offset);
        let mut aborted = aborted.into_iter().peekable();
        let mut ignored = HashSet::new();
        let mut at = self.next;
        for batch in fetched.chunks.into_iter().flat_map(batches) {
            let (header, bytes) = batch.unwrap_or_else(|error| panic!("A6: {error}"));
            let is_onward = at <= header.base_offset || at == self.next;
            assert!(is_onward && at < header.end_offset(), "A2: {} after {at}", header.base_offset);
            at = header.end_offset();
            while let Some(it) = aborted.next_if(|it| it.first_offset <= header.last_offset()) {
                ignored.insert(it.producer.0);
            }
            if header.producer_id < 0 {
                assert_eq!(header.record_count, 0, "A1: nobody has sent {}", header.base_offset);
                continue;
            }
            let id = writer(header.producer_id, header.producer_epoch);
            let key = (id, header.base_sequence);
            assert!(story.sent(key).is_some(), "A1: nobody has sent {key:?}");
            story.saw_part(key, &header);
            if header.attributes.is_control() {
                let marker = EndTxnMarker::read(&bytes);
                let marker = marker.unwrap_or_else(|error| panic!("A6: {error}"));
                if marker.is_some_and(|it| it.result == TransactionResult::Abort) {
                    ignored.remove(&header.producer_id);
                }
                self.markers.push((header.base_offset.0, id));
                continue;
            }
            let is_transactional = header.attributes.is_transactional();
            let is_kept = !is_transactional || !ignored.contains(&header.producer_id);
            if is_transactional && self.limit == ReadLimit::LastStable {
                story.shown(&header, is_kept);
            }
            if is_kept {
                self.keep(key, &header, &bytes, story);
            }
        }
        assert!(self.next < fetched.end && at <= fetched.end, "A2: nothing is served at {at}");
        self.next = fetched.end;
    }

    fn keep(
        &mut self,
        key: (i64, i32),
        header: &BatchHeader,
        bytes: &Bytes,
        story: &mut PartitionStory,
    ) {
        let pairs = story.sent(key).and_then(|it| it.pairs.clone()).unwrap_or_default();
        let all = records(bytes, usize::MAX).unwrap_or_else(|error| panic!("A6: {error}"));
        for record in all {
            let record = record.unwrap_or_else(|error| panic!("A6: {error}"));
            let index = record.offset.since(header.base_offset) as usize;
            let sent = pairs.get(index);
            let is_it = sent.is_some_and(|it| Some(&[it.0][..]) == record.key.as_deref());
            assert!(is_it, "A1: {key:?} has another key at {}", record.offset);
            let (key, value) = &pairs[index];
            assert_eq!(*value, record.value, "A1: the value at {}", record.offset);
            if self.from <= record.offset {
                self.found.push(Found {
                    offset: record.offset.0,
                    key: *key,
                    is_tombstone: value.is_none(),
                    writer: writer(header.producer_id, header.producer_epoch),
                    is_transactional: header.attributes.is_transactional(),
                });
            }
        }
    }

    /// Whether what was found is enough.
    fn judge(&self, story: &PartitionStory) {
        let range = self.from.0..self.end_at_start.0;
        let mut newest: BTreeMap<u8, (i64, bool)> = BTreeMap::new();
        for (sent, base) in placed(story) {
            let fate = fate(story, sent.0, sent.1);
            for (offset, (key, value)) in (base..).zip(sent.1.pairs.iter().flatten()) {
                if !range.contains(&offset) {
                    continue;
                }
                match fate {
                    Some(TransactionResult::Commit) => {
                        let known = newest.entry(*key).or_insert((offset, value.is_none()));
                        if known.0 <= offset {
                            *known = (offset, value.is_none());
                        }
                    }
                    Some(TransactionResult::Abort) => (),
                    None => {
                        let is_there = self.found.iter().any(|it| it.offset == offset);
                        let is_shown = is_there || self.limit == ReadLimit::LastStable;
                        assert!(is_shown, "A8: {offset} is gone, and nobody has decided about it");
                    }
                }
            }
        }
        for (key, (offset, is_tombstone)) in newest {
            self.judge_key(story, key, (offset, is_tombstone));
        }
    }

    fn judge_key(&self, story: &PartitionStory, key: u8, (newest, is_tombstone): (i64, bool)) {
        let counts = |it: &&Found| {
            let fate = story.fates.get(&it.writer);
            it.key == key && (!it.is_transactional || fate == Some(&TransactionResult::Commit))
        };
        let last = self.found.iter().filter(counts).map(|it| it.offset).max();
        if Some(newest) <= last {
            return;
        }
        // One that is not known to be in the log may be there, and what it has deleted is gone.
        let may_delete = |(id, sent): (&(i64, i32), &Sent)| {
            let is_later = sent.offset.is_none_or(|it| newest < it + i64::from(sent.count));
            let deletes = sent.pairs.iter().flatten().any(|it| it.0 == key && it.1.is_none());
            is_later && deletes && fate(story, id, sent) != Some(TransactionResult::Abort)
        };
        let is_deleted = is_tombstone || story.all_sent().any(may_delete);
        assert!(is_deleted, "key {key} was last written at {newest}, last seen is {last:?}");
        let kept_ms = story.changelog.map_or(0, |it| it.delete_retention_ms);
        let is_quick = (self.took.as_millis() as i64) < kept_ms;
        assert!(
            !is_quick || last.is_none(),
            "key {key} is seen at {last:?}, and that it was deleted is not"
        );
    }

    /// What compaction should not have left below `end`.
    fn superfluous(&self, story: &PartitionStory, end: Offset) -> Option<String> {
        let mut keys = BTreeSet::new();
        let mut writers = BTreeSet::new();
        for it in self.found.iter().filter(|it| it.offset < end.0) {
            writers.insert(it.writer);
            let fate = story.fates.get(&it.writer);
            if it.is_transactional && fate == Some(&TransactionResult::Abort) {
                return Some(format!("what was aborted at {}", it.offset));
            }
            if it.is_tombstone {
                return Some(format!("the tombstone at {}", it.offset));
            }
            if !keys.insert(it.key) {
                return Some(format!("an older record of the key at {}", it.offset));
            }
        }
        // A marker's writer is the one behind that of its transaction.
        let spent = |it: &&(i64, i64)| it.0 < end.0 && !writers.contains(&(it.1 - 1));
        self.markers.iter().find(spent).map(|it| format!("a marker of nothing at {}", it.0))
    }
}

/// Batches that are known to be somewhere, and where.
fn placed(story: &PartitionStory) -> impl Iterator<Item = ((&(i64, i32), &Sent), i64)> {
    story.all_sent().filter_map(|it| it.1.offset.map(|offset| (it, offset)))
}

/// Of records outside of transactions it is decided, too.
fn fate(story: &PartitionStory, key: &(i64, i32), sent: &Sent) -> Option<TransactionResult> {
    match sent.is_transactional {
        false => Some(TransactionResult::Commit),
        true => story.fates.get(&key.0).copied(),
    }
}

/// A partition from its start to its end, by both kinds of readers.
pub(crate) async fn is_whole(
    environment: &Environment,
    log: &PartitionLog,
    history: &RefCell<History>,
) {
    for limit in [ReadLimit::HighWatermark, ReadLimit::LastStable] {
        let reading = read_patiently(environment, log, limit, history).await;
        let mut history = history.borrow_mut();
        let Some(story) = history.partition(log.partition()) else { continue };
        assert!(reading.is_complete, "A9: nobody writes, and the end is never reached");
        reading.judge(story);
        history.tally.changelogs_read += 1;
    }
}

async fn read_patiently(
    environment: &Environment,
    log: &PartitionLog,
    limit: ReadLimit,
    history: &RefCell<History>,
) -> Reading {
    for _ in 0..TRIES_MAX {
        let log_start = log.offsets().log_start;
        match read(environment, log, log_start, limit, history).await {
            Ok(reading) => return reading,
            Err(ReadError::Unavailable) => environment.clock.sleep(RETRY).await,
            Err(error) => panic!("A6: {error}"),
        }
    }
    panic!("A9: reads of {log:?} never come back");
}

impl Clients<'_> {
    pub(crate) async fn read_changelog(&self, slot: usize, index: i32, chance: SeededEntropy) {
        loop {
            self.pause(&chance, 4 * WAIT).await;
            let Some(partition) = self.partition(slot, index) else { continue };
            let Some(log) = self.node.host(partition) else { continue };
            let offsets = log.offsets();
            let span = offsets.high_watermark.since(offsets.log_start) as u64;
            let from = match chance.below(3) {
                0 => offsets.log_start.plus(chance.below(span + 1) as i64),
                _ => offsets.log_start,
            };
            let limit = match chance.below(2) {
                0 => ReadLimit::HighWatermark,
                _ => ReadLimit::LastStable,
            };
            match read(&self.node.environment, &log, from, limit, self.history).await {
                Ok(reading) if reading.is_complete => {
                    let mut history = self.history.borrow_mut();
                    let Some(story) = history.partition(partition) else { continue };
                    reading.judge(story);
                    history.tally.changelogs_read += 1;
                }
                Ok(_) | Err(ReadError::Unavailable) => (),
                Err(error) => panic!("A6: {error}"),
            }
        }
    }

    /// Nothing is left in compacted partitions but what counts, when it returns.
    pub(crate) async fn settle_changelogs(&self) {
        let changelogs: Vec<Partition> = {
            let history = self.history.borrow();
            let all = history.partitions.iter().filter(|(_, it)| it.changelog.is_some());
            all.map(|(partition, _)| *partition).collect()
        };
        for partition in changelogs {
            self.settle_changelog(partition).await;
            self.history.borrow_mut().tally.changelogs_settled += 1;
        }
    }

    /// Each round something new is written, without which nothing is compacted, and time goes by.
    async fn settle_changelog(&self, partition: Partition) {
        let chance = SeededEntropy::new(4);
        let log = self.node.engine.partition(partition).expect("every partition is hosted");
        let end = log.offsets().end;
        let options = &self.swarm.log;
        let kept_ms = self.with(partition, |it| it.changelog.map(|it| it.delete_retention_ms));
        let kept = Duration::from_millis(kept_ms.flatten().unwrap_or_default() as u64);
        let round = kept.max(options.collection_grace) + 4 * options.compaction.backoff;
        let mut left = None;
        let until = self.node.environment.clock.now().plus(SETTLED_MAX);
        while self.node.environment.clock.now() < until {
            while self.send(partition, 0, 1, &chance).await == Turn::Again {
                self.sleep(WAIT).await;
            }
            self.node.engine.flush_all().await;
            self.sleep(round).await;
            let (environment, limit) = (&self.node.environment, ReadLimit::HighWatermark);
            let reading = read_patiently(environment, &log, limit, self.history).await;
            left = self.with(partition, |story| {
                reading.judge(story);
                reading.superfluous(story, end)
            });
            if left == Some(None) {
                return;
            }
        }
        panic!("A9: compaction leaves {left:?} of {partition}, below {end}");
    }
}
