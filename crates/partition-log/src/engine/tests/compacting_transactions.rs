//! Key compaction of transactions: what was aborted goes, what was committed counts as any other record,
//! markers go last (A8, KIP-534).

use super::compacting::{Value, consume, keyed, settings, world};
use super::transactions::{ended, mark};
use super::world::{Life, World, acked, partition};
use crate::log::{LogSettings, MarkerRule, PartitionLog, ReadLimit};
use crate::read::{AbortedTransaction, ReadError};
use bytes::Bytes;
use protocol::records::{
    Batch, BatchBuilder, Compression, EndTxnMarker, TransactionResult, batches, records,
};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use vocabulary::{Offset, ProducerId, Timestamp};

use TransactionResult::{Abort, Commit};

/// Longer than the backoff of compaction.
const COMPACTED: Duration = Duration::from_secs(40);

pub(super) fn keyed_within(
    producer: i64,
    sequence: i32,
    now: Timestamp,
    pairs: &[(u8, Value)],
) -> Batch {
    let producer = Some((ProducerId(producer), 0, sequence));
    let mut builder = BatchBuilder::new(Compression::None, producer).transactional();
    for (key, value) in pairs {
        builder.push(now, Some(&[*key]), value.as_deref(), &[]);
    }
    builder.build()
}

/// Offset, key and value of each record that a reader of committed records keeps, from `from` to the last
/// stable offset.
pub(super) async fn committed(
    world: &World,
    log: &PartitionLog,
    from: Offset,
) -> Vec<(i64, Bytes, Value)> {
    log.load_producers().await.expect("they are readable");
    let end = log.offsets().last_stable;
    let (mut seen, mut next, mut failures) = (Vec::new(), from, 0);
    while next < end {
        let read = match log.read(next, 1500, true, ReadLimit::LastStable).await {
            Ok(fetched) => {
                let aborted = log.aborted_transactions(next, fetched.end).await;
                aborted.map(|it| (fetched.chunks, it))
            }
            Err(error) => Err(error),
        };
        let Ok((chunks, mut aborted)) = read else {
            failures += 1;
            assert!(failures < 1000, "reads never come back");
            world.sleep(Duration::from_millis(100)).await;
            continue;
        };
        aborted.sort_by_key(|it| it.first_offset);
        let mut aborted = aborted.into_iter().peekable();
        let mut ignored = HashSet::new();
        let before = next;
        for batch in chunks.into_iter().flat_map(batches) {
            let (header, bytes) = batch.expect("whole batches come back");
            next = header.end_offset();
            while let Some(it) = aborted.next_if(|it| it.first_offset <= header.last_offset()) {
                ignored.insert(it.producer.0);
            }
            if header.attributes.is_control() {
                let marker = EndTxnMarker::read(&bytes).expect("it is whole");
                if marker.is_some_and(|it| it.result == Abort) {
                    ignored.remove(&header.producer_id);
                }
                continue;
            }
            if header.attributes.is_transactional() && ignored.contains(&header.producer_id) {
                continue;
            }
            for record in records(&bytes, 1 << 20).expect("it opens") {
                let record = record.expect("it is intact");
                if from <= record.offset {
                    seen.push((record.offset.0, record.key.unwrap_or_default(), record.value));
                }
            }
        }
        assert!(before < next, "a reader gets further than {before}");
    }
    seen
}

/// The offsets of all markers.
async fn markers(log: &PartitionLog) -> Vec<i64> {
    let mut found = Vec::new();
    let mut next = log.offsets().log_start;
    while next < log.offsets().high_watermark {
        let read = log.read(next, 1 << 20, true, ReadLimit::HighWatermark).await.expect("readable");
        for batch in read.chunks.into_iter().flat_map(batches) {
            let (header, _) = batch.expect("whole batches come back");
            next = header.end_offset();
            found.extend(header.attributes.is_control().then_some(header.base_offset.0));
        }
    }
    found
}

fn value(label: u8) -> Value {
    Some(Bytes::from(vec![label; 20]))
}

struct Partition {
    world: World,
    life: Life,
    log: Arc<PartitionLog>,
}

impl Partition {
    async fn new(seed: u64, settings: LogSettings) -> Partition {
        let mut world = world(seed);
        world.settings = Arc::new(LogSettings { min_cleanable_dirty_ratio: 0.0, ..settings });
        let life = world.start().await;
        let log = world.host(&life, partition(0));
        Partition { world, life, log }
    }

    async fn put(&self, key: u8, label: u8) -> Offset {
        let now = self.world.environment.clock.wall();
        acked(&self.log, keyed(Compression::None, None, now, &[(key, value(label))])).await
    }

    async fn put_within(&self, producer: i64, sequence: i32, key: u8, label: u8) -> Offset {
        let now = self.world.environment.clock.wall();
        acked(&self.log, keyed_within(producer, sequence, now, &[(key, value(label))])).await
    }

    async fn flush(&self) {
        self.life.engine.flush_all().await;
        self.world.sleep(Duration::from_millis(10)).await;
    }

    /// Something new, so that there is something to compact, and a pass over all.
    async fn pass(&self) {
        self.put(200, 0).await;
        self.flush().await;
        self.world.sleep(COMPACTED).await;
    }

    async fn offsets(&self) -> Vec<i64> {
        consume(&self.world, &self.log, Offset(0)).await.into_keys().collect()
    }
}

fn aborted(producer: i64, first: i64, last: i64) -> AbortedTransaction {
    let (first_offset, last_offset) = (Offset(first), Offset(last));
    AbortedTransaction { producer: ProducerId(producer), first_offset, last_offset }
}

#[tokio::test(start_paused = true)]
async fn what_was_aborted_goes_and_its_marker_long_after_it() {
    let settings = LogSettings { delete_retention_ms: 300_000, ..settings() };
    let it = Partition::new(1, settings).await;
    it.put(1, 1).await;
    it.put_within(7, 0, 1, 2).await;
    ended(&it.log, 7, 0, Abort).await;
    it.put_within(8, 0, 2, 3).await;
    ended(&it.log, 8, 0, Commit).await;
    it.put(2, 4).await;
    it.put_within(9, 0, 3, 5).await;
    ended(&it.log, 9, 0, Commit).await;
    it.flush().await;
    it.world.sleep(COMPACTED).await;
    assert_eq!(it.offsets().await, [0, 5, 6]);
    assert_eq!(markers(&it.log).await, [2, 4, 7]);
    let told = it.log.aborted_transactions(Offset(0), Offset(8)).await;
    assert_eq!(told, Ok(vec![aborted(7, 1, 2)]), "by its marker, as before");
    let seen = committed(&it.world, &it.log, Offset(0)).await;
    assert_eq!(seen.iter().map(|it| it.0).collect::<Vec<_>>(), [0, 5, 6]);
    let metrics = it.life.engine.metrics();
    assert_eq!(
        (metrics.compaction_aborted_dropped.get(), metrics.compaction_records_dropped.get()),
        (1, 2)
    );

    it.pass().await; // Sets the horizon of the spent markers.
    it.pass().await;
    assert_eq!(markers(&it.log).await, [2, 4, 7], "the horizon is not over");
    it.world.sleep(Duration::from_secs(300)).await;
    it.pass().await;
    assert_eq!(markers(&it.log).await, [7], "its record is there");
    assert_eq!(metrics.compaction_markers_dropped.get(), 2);
    assert_eq!(it.log.aborted_transactions(Offset(0), Offset(8)).await, Ok(vec![]));
    // The record of the committed one is superseded, and then its marker goes, too.
    it.put(3, 6).await;
    for _ in 0..2 {
        it.pass().await;
        it.world.sleep(Duration::from_secs(300)).await;
    }
    it.pass().await;
    assert_eq!(markers(&it.log).await, [] as [i64; 0]);
    it.world.check(&[partition(0)]).await;
}

/// Goal: what was read before compaction took it is still told as aborted (A8), whichever side of the
/// served range its marker lies on.
#[tokio::test(start_paused = true)]
async fn what_was_read_of_the_aborted_is_told_although_it_is_gone_since() {
    let it = Partition::new(3, settings()).await;
    it.put(1, 1).await;
    it.put_within(7, 0, 1, 2).await;
    it.put_within(8, 0, 2, 3).await;
    it.flush().await;
    ended(&it.log, 7, 0, Abort).await;
    ended(&it.log, 8, 0, Commit).await;
    it.flush().await;
    let all = it.log.read(Offset(0), 1 << 20, true, ReadLimit::LastStable).await.expect("readable");
    assert_eq!(all.end, Offset(5));
    let two = all.chunks.iter().map(Bytes::len).sum::<usize>() / 2;
    let some = it.log.read(Offset(0), two, true, ReadLimit::LastStable).await.expect("readable");
    assert!((Offset(2)..=Offset(3)).contains(&some.end), "without the markers: {}", some.end);
    it.world.sleep(COMPACTED).await;
    assert_eq!(it.offsets().await, [0, 2], "the aborted one is gone");
    let told = it.log.aborted_transactions(Offset(0), some.end).await;
    assert_eq!(told, Ok(vec![]), "the index knows nothing of it any more");
    for served in [&some, &all] {
        let told = it.log.aborted_among(Offset(0), served).await;
        assert_eq!(told, Ok(vec![aborted(7, 1, 3)]), "served up to {}", served.end);
    }
}

/// Goal: what was read of an aborted transaction is refused once its marker is gone, too (A8), whether its producer
/// has another marker behind it or none, and the next read is served.
#[tokio::test(start_paused = true)]
async fn what_was_read_of_the_aborted_is_refused_once_its_marker_is_gone() {
    let settings = LogSettings { delete_retention_ms: 0, ..settings() };
    for has_another in [true, false] {
        let it = Partition::new(7, settings.clone()).await;
        it.put_within(7, 0, 1, 1).await;
        ended(&it.log, 7, 0, Abort).await;
        if has_another {
            it.put_within(7, 1, 2, 2).await;
            ended(&it.log, 7, 0, Commit).await;
        }
        it.flush().await;
        let read = async |bytes_max| {
            let read = it.log.read(Offset(0), bytes_max, true, ReadLimit::LastStable).await;
            read.expect("it is readable")
        };
        let (first, all) = (read(1).await, read(1 << 20).await);
        assert_eq!((first.end, all.end), (Offset(1), it.log.offsets().end));
        for _ in 0..3 {
            it.pass().await;
            it.world.sleep(Duration::from_secs(60)).await;
        }
        let left = if has_another { vec![3] } else { vec![] };
        assert_eq!(markers(&it.log).await, left);
        for served in [&first, &all] {
            let told = it.log.aborted_among(Offset(0), served).await;
            assert_eq!(told, Err(ReadError::Unavailable), "served up to {}", served.end);
        }
        let now = read(1 << 20).await;
        assert_eq!(it.log.aborted_among(Offset(0), &now).await, Ok(vec![]));
        let seen = committed(&it.world, &it.log, Offset(0)).await;
        assert!(seen.iter().all(|it| it.0 != 0), "it was aborted: {seen:?}");
    }
}

/// Goal: of two transactions of one producer that were read, the one whose marker is gone is missed although the
/// other one's is there, and each is taken for what it was while both are.
#[tokio::test(start_paused = true)]
async fn every_transaction_that_was_read_has_its_own_marker() {
    let settings = LogSettings { delete_retention_ms: 0, ..settings() };
    let it = Partition::new(8, settings).await;
    it.put_within(7, 0, 1, 1).await;
    ended(&it.log, 7, 0, Abort).await;
    it.put_within(7, 1, 2, 2).await;
    it.put_within(7, 2, 3, 3).await;
    ended(&it.log, 7, 0, Abort).await;
    it.put_within(7, 3, 4, 4).await;
    ended(&it.log, 7, 0, Commit).await;
    it.flush().await;
    let read = it.log.read(Offset(0), 1 << 20, true, ReadLimit::LastStable).await;
    let read = read.expect("it is readable");
    let both = Ok(vec![aborted(7, 0, 1), aborted(7, 2, 4)]);
    assert_eq!(it.log.aborted_among(Offset(0), &read).await, both);
    it.pass().await;
    assert_eq!(it.log.aborted_among(Offset(0), &read).await, both, "the markers are there");
    it.world.sleep(Duration::from_secs(120)).await;
    it.pass().await;
    it.world.sleep(Duration::from_secs(120)).await;
    it.pass().await;
    assert_eq!(markers(&it.log).await, [6], "its record is there");
    let told = it.log.aborted_among(Offset(0), &read).await;
    assert_eq!(told, Err(ReadError::Unavailable));
}

#[tokio::test(start_paused = true)]
async fn a_marker_may_lie_far_behind_the_records_it_decides() {
    for result in [Abort, Commit] {
        let it = Partition::new(2, settings()).await;
        it.put(1, 1).await;
        it.put_within(7, 0, 1, 2).await;
        it.flush().await;
        for label in 3..6 {
            it.put_within(8, i32::from(label) - 3, label, label).await;
            it.flush().await;
        }
        ended(&it.log, 8, 0, Commit).await;
        it.flush().await;
        // The decision lies in the tail, behind it an open transaction.
        ended(&it.log, 7, 0, result).await;
        it.put_within(9, 0, 1, 7).await;
        let stable = it.log.offsets().last_stable;
        it.world.sleep(COMPACTED).await;
        let first = if result == Abort { 0 } else { 1 };
        assert_eq!(it.offsets().await, [first, 2, 3, 4, 7], "{result:?}");
        let seen = committed(&it.world, &it.log, Offset(0)).await;
        assert_eq!(seen.iter().map(|it| it.0).collect::<Vec<_>>(), [first, 2, 3, 4]);
        assert_eq!((stable, it.log.offsets().last_stable), (Offset(7), Offset(7)));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_undecided_stops_compaction_and_no_more_than_that() {
    let it = Partition::new(3, settings()).await;
    it.put(1, 1).await;
    it.put(1, 2).await;
    it.flush().await;
    it.put_within(7, 0, 1, 3).await;
    it.put(1, 4).await;
    it.flush().await;
    it.world.sleep(COMPACTED).await;
    assert_eq!(it.offsets().await, [1, 2, 3], "below the last stable offset only");
    ended(&it.log, 7, 0, Commit).await;
    it.world.sleep(COMPACTED).await;
    assert_eq!(it.offsets().await, [3]);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_is_under_way_still_learns_what_was_aborted() {
    let settings = LogSettings { delete_retention_ms: 0, ..settings() };
    let it = Partition::new(4, settings).await;
    it.put_within(7, 0, 1, 1).await;
    ended(&it.log, 7, 0, Abort).await;
    it.flush().await;
    let read = it.log.read(Offset(0), 1000, true, ReadLimit::LastStable).await.expect("readable");
    assert_eq!(read.end, Offset(2));
    for pass in 0..3 {
        it.put(2, pass).await;
        it.flush().await;
        it.world.sleep(Duration::from_secs(25)).await;
    }
    assert!(3 <= it.life.engine.metrics().compaction_passes.get());
    let told = it.log.aborted_transactions(Offset(0), read.end).await;
    assert_eq!(told, Ok(vec![aborted(7, 0, 1)]), "A8: what was read was aborted");
    it.world.sleep(Duration::from_secs(60)).await;
    it.pass().await;
    assert_eq!(markers(&it.log).await, [] as [i64; 0]);
}

#[tokio::test(start_paused = true)]
async fn producers_and_their_transactions_outlive_their_records() {
    let settings = LogSettings { delete_retention_ms: 0, ..settings() };
    let it = Partition::new(5, settings).await;
    for sequence in 0..3 {
        it.put_within(7, sequence, 1, 1).await;
    }
    ended(&it.log, 7, 0, Abort).await;
    it.put_within(8, 0, 1, 2).await;
    ended(&it.log, 8, 0, Commit).await;
    for _ in 0..3 {
        it.pass().await;
        it.world.sleep(Duration::from_secs(60)).await;
    }
    it.put(1, 3).await;
    it.pass().await;
    it.pass().await;
    it.world.sleep(Duration::from_secs(60)).await;
    it.pass().await;
    assert_eq!(markers(&it.log).await, [] as [i64; 0], "nothing of theirs is left");
    let Partition { world, life, .. } = it;
    world.crash(life).await;
    let life = world.start().await;
    let log = world.host(&life, partition(0));
    let now = world.environment.clock.wall();
    let again = keyed_within(7, 2, now, &[(1, value(1))]);
    let retried = log.append(again, None).await.expect("it is known");
    assert_eq!((retried.base_offset, retried.duplicate), (Offset(2), true), "A5");
    let next = keyed_within(7, 3, now, &[(1, value(4))]);
    assert!(!log.append(next, None).await.expect("it follows").duplicate, "A5");
    let repeated = mark(&log, 8, 0, Commit, MarkerRule::V1).await.expect("it is current");
    repeated.durable.await.expect("the WAL works");
    let states = log.producer_states().await.expect("they are readable");
    let told: Vec<_> = states.iter().map(|it| (it.producer.0, it.transaction_start)).collect();
    assert_eq!(told, [(7, Some(next_start(&log))), (8, None)]);
}

/// Where the one open transaction starts.
fn next_start(log: &PartitionLog) -> Offset {
    log.offsets().last_stable
}
