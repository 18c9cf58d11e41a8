//! Compares a node and its bucket with what clients were told.

use crate::changelog;
use crate::history::History;
use crate::node::{Node, Opening};
use crate::shelf::Shelf;
use cluster::{Controller, Run};
use environment::{Clock, Environment};
use partition_log::{PartitionLog, ReadError, ReadLimit, segment_key};
use protocol::records::batches;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;
use vocabulary::{Offset, Partition, SegmentName, Timestamp};

/// Between two tries of what storage trouble has refused.
pub(crate) const RETRY: Duration = Duration::from_millis(100);

/// Tries after which trouble is no excuse any more.
pub(crate) const TRIES_MAX: u32 = 2000;

/// Between two looks at what nobody needs.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

const RUNS_MAX: usize = 1_000_000;

/// The metadata right after it was opened, before anything else works on it.
pub(crate) async fn metadata(opening: &Opening, history: &RefCell<History>, shelf: &Shelf) {
    let view = opening.controller.view();
    {
        let mut history = history.borrow_mut();
        let known = history.cluster_id.get_or_insert_with(|| opening.cluster_id.clone());
        assert_eq!(*known, opening.cluster_id, "the bucket is another cluster's now");
        assert!(history.broker_epoch < opening.epoch, "A4: broker epochs only grow");
        history.broker_epoch = opening.epoch;
        for (slot, story) in history.topics.iter_mut().enumerate() {
            story.settle(view.topic(&topic_name(slot)).as_deref());
        }
        history.follow_topics();
    }
    let mut live_runs: BTreeMap<SegmentName, u32> = BTreeMap::new();
    for topic in view.topics() {
        for (index, info) in topic.partitions.iter().enumerate() {
            let partition = Partition { topic: topic.id, index: index as i32 };
            let runs = runs(&opening.controller, &*opening.environment.clock, partition).await;
            check_runs(&opening.controller, partition, &runs, shelf);
            runs.iter().for_each(|run| *live_runs.entry(run.segment).or_default() += 1);
            let mut history = history.borrow_mut();
            history.tally.runs_checked += runs.len() as u64;
            let story = history.partition(partition).expect("it exists");
            story.led_in(info.leader_epoch);
        }
    }
    for (segment, count) in live_runs {
        let known = view.segment(segment).map(|it| it.live_runs);
        assert!(known >= Some(count), "A6: {segment} has {count} runs, metadata counts {known:?}");
    }
}

pub(crate) fn topic_name(slot: usize) -> String {
    format!("topic-{slot}")
}

async fn runs(controller: &Controller, clock: &dyn Clock, partition: Partition) -> Vec<Run> {
    for _ in 0..TRIES_MAX {
        match controller.runs_from(partition, Offset::ZERO, RUNS_MAX).await {
            Ok(runs) => return runs,
            Err(_) => clock.sleep(RETRY).await,
        }
    }
    panic!("A9: the runs of {partition} are never told");
}

/// A3 and A6 of one partition.
fn check_runs(controller: &Controller, partition: Partition, runs: &[Run], shelf: &Shelf) {
    let progress = controller.view().progress(partition).expect("it exists");
    let mut at = progress.runs_start;
    for run in runs {
        assert_eq!(run.base, at, "A3: runs of {partition} have a gap or overlap");
        at = run.end;
        let key = segment_key(run.segment);
        let bytes = shelf.bytes(key.as_str(), run.position..run.position + run.length);
        let Some(bytes) = bytes else { panic!("A6: {run:?} has no object {key}") };
        assert_eq!(crc_fast::crc32_iscsi(&bytes), run.crc, "A6: {run:?} has other bytes");
    }
    assert_eq!(at, progress.committed_end, "A3: runs of {partition} end early");
    assert_eq!(runs.len() as u64, progress.runs, "A3: counted runs of {partition}");
}

/// Every partition's log, from its start to its high watermark.
pub(crate) async fn logs(node: &Node, history: &RefCell<History>) {
    let partitions: Vec<_> = history.borrow().partitions.keys().copied().collect();
    assert_eq!(node.engine.health().damaged, [], "A3: WAL and metadata contradict each other");
    for partition in partitions {
        let log = node.engine.partition(partition).expect("every partition is hosted");
        if history.borrow_mut().partition(partition).is_some_and(|it| it.changelog.is_some()) {
            changelog::is_whole(&node.environment, &log, history).await;
            continue;
        }
        log_is_whole(&node.environment, &log, history).await;
    }
}

/// Takes note of the offsets that a client could ask for now.
pub(crate) fn look(environment: &Environment, log: &PartitionLog, history: &mut History) {
    let offsets = log.offsets();
    let now = environment.clock.wall();
    let Some(story) = history.partition(log.partition()) else { return };
    let has_moved = story.offsets(offsets.log_start, offsets.high_watermark, now);
    history.tally.log_starts_moved += u64::from(has_moved);
}

async fn log_is_whole(environment: &Environment, log: &PartitionLog, history: &RefCell<History>) {
    look(environment, log, &mut history.borrow_mut());
    let end = log.offsets().high_watermark;
    let mut next = log.offsets().log_start;
    let mut found = Vec::new();
    let mut tries = 0;
    while next < end {
        let bytes_max = 1 + environment.entropy.below(16 * 1024) as usize;
        match read(environment, log, next, bytes_max, history).await {
            Ok(read) => {
                assert!(next < read.end, "A2: nothing is served at {next}, durable is {end}");
                next = read.end;
                found.extend(read.bases);
            }
            Err(ReadError::Unavailable) => {
                tries += 1;
                assert!(tries < TRIES_MAX, "A9: reads of {log:?} never come back");
                environment.clock.sleep(RETRY).await;
            }
            Err(ReadError::OffsetOutOfRange { log_start, .. }) if next < log_start => {
                next = log_start; // Retention is faster.
            }
            Err(error) => panic!("A6: {error}"),
        }
    }
    let mut history = history.borrow_mut();
    look(environment, log, &mut history);
    if let Some(story) = history.partition(log.partition()) {
        story.found(&found, log.offsets().log_start);
    }
}

pub(crate) struct Read {
    pub(crate) bases: Vec<i64>,
    pub(crate) end: Offset,
}

/// One fetch. What it serves goes into the history.
pub(crate) async fn read(
    environment: &Environment,
    log: &PartitionLog,
    from: Offset,
    bytes_max: usize,
    history: &RefCell<History>,
) -> Result<Read, ReadError> {
    let fetched = log.read(from, bytes_max, true, ReadLimit::HighWatermark).await?;
    let mut history = history.borrow_mut();
    look(environment, log, &mut history);
    let mut read = Read { bases: Vec::new(), end: from };
    let high_watermark = log.offsets().high_watermark;
    for chunk in fetched.chunks {
        for batch in batches(chunk) {
            let (header, bytes) = batch.unwrap_or_else(|error| panic!("A6: {error}"));
            let is_first = read.end == from && header.base_offset <= from;
            let is_next = header.base_offset == read.end;
            assert!(is_first || is_next, "A2: {} follows {}", header.base_offset, read.end);
            read.end = header.end_offset();
            assert!(from < read.end && read.end <= high_watermark, "A2: served what was not asked");
            read.bases.push(header.base_offset.0);
            if log.offsets().log_start <= header.base_offset {
                let epoch = log.epoch_at(header.base_offset).0;
                assert_eq!(epoch, header.leader_epoch, "the epoch at {}", header.base_offset);
            }
            history.tally.batches_read += 1;
            if let Some(story) = history.partition(log.partition()) {
                story.saw(&header, &bytes);
            }
        }
    }
    Ok(read)
}

/// A7: what the metadata does not need is not there any more, unless that is as new as `grace`. What is found may be
/// on its way to being needed, or have been refused that a moment ago: for `patience` it is looked at again.
pub(crate) async fn no_leftovers(node: &Node, shelf: &Shelf, grace: Duration, patience: Duration) {
    let clock = &node.environment.clock;
    let until = clock.now().plus(patience);
    let mut found = leftovers(node, shelf, grace);
    while !found.is_empty() && clock.now() < until {
        clock.sleep(LOOK_AGAIN).await;
        let still = leftovers(node, shelf, grace);
        found.retain(|it, _| still.contains_key(it));
    }
    assert!(found.is_empty(), "A7: {found:?}");
}

/// By object, why it is not needed.
fn leftovers(node: &Node, shelf: &Shelf, grace: Duration) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let view = node.controller.view();
    let now = node.controller.time();
    let is_new = |since: Timestamp| now.0 - since.0 <= grace.as_millis() as i64;
    for (id, segment) in view.garbage(usize::MAX) {
        let since = segment.garbage_since.expect("garbage has no live runs");
        if !is_new(since) {
            let why = format!("garbage is not collected: {segment:?}");
            found.insert(segment_key(id).to_string(), why);
        }
    }
    for path in shelf.objects("data") {
        let name = path.rsplit('/').next().expect("a path has parts");
        let id = u128::from_str_radix(name, 16).expect("a data object is named by its segment");
        let known = view.segment(SegmentName::data(id));
        if !known.is_some_and(|it| it.garbage_since.is_none_or(is_new)) {
            found.entry(path).or_insert_with(|| "nothing refers to it".to_owned());
        }
    }
    found
}
