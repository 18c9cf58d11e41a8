//! Clients with transactions, and readers of committed records (A8).
//!
//! Owns: writing and ending transactions across lives, what read_committed must and must not show.
//! Does not own: what is known of single batches (`history`); a marker is one of them, of sequence -1.
//!
//! A transaction has an epoch of its own, and its marker has the next one (KIP-890): so a marker whose
//! outcome is unknown may be sent again and is there once, like any other batch.

use crate::changelog;
use crate::checker;
use crate::history::{PartitionStory, Sent};
use crate::workload::{Clients, IN_FLIGHT_MAX, Turn, WAIT};
use environment::{Entropy, SeededEntropy};
use partition_log::{
    AbortedTransaction, AppendError, Appended, MarkerRule, PartitionLog, ReadError, ReadLimit,
};
use protocol::records::{BatchHeader, EndTxnMarker, TransactionResult, batches};
use std::collections::HashSet;
use vocabulary::{Offset, Partition, ProducerId};

/// Fewer fresh batches than this in one turn: up to as many as may be in flight.
const FRESH_END: u64 = IN_FLIGHT_MAX as u64 + 1;

/// Producer id and epoch in one number.
pub(crate) fn writer(producer: i64, epoch: i16) -> i64 {
    producer << 16 | i64::from(epoch)
}

pub(crate) fn producer_of(writer: i64) -> (i64, i16) {
    (writer >> 16, (writer & 0xffff) as i16)
}

/// Where a client is with its transactions in a partition.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Transacting {
    writer: i64,
    sequence: i32,
    /// Once it was decided, it stays so.
    decided: Option<TransactionResult>,
}

impl Transacting {
    fn new(producer: i64) -> Transacting {
        Transacting { writer: writer(producer, 0), sequence: 0, decided: None }
    }
}

impl PartitionStory {
    /// A reader of committed records keeps this batch or leaves it out.
    pub(crate) fn shown(&self, header: &BatchHeader, is_kept: bool) {
        let writer = writer(header.producer_id, header.producer_epoch);
        let (at, fate) = (header.base_offset, self.fates.get(&writer));
        let is_committed = match fate {
            Some(TransactionResult::Commit) => true,
            Some(TransactionResult::Abort) => false,
            None => panic!("A8: a batch at {at} is served, and nobody has decided about it"),
        };
        assert_eq!(is_kept, is_committed, "A8: the batch at {at} is of {fate:?}");
    }
}

impl Clients<'_> {
    pub(crate) async fn transact(&self, slot: usize, index: i32, chance: SeededEntropy) {
        loop {
            self.pause(&chance, 4 * WAIT).await;
            if let Some(partition) = self.partition(slot, index) {
                let fresh = chance.below(FRESH_END);
                self.transaction(partition, fresh, &chance).await;
            }
        }
    }

    /// What is in flight first, then `fresh` batches, unless it is decided already, and the end.
    async fn transaction(&self, partition: Partition, fresh: u64, chance: &SeededEntropy) -> Turn {
        let Some(log) = self.node.host(partition) else { return Turn::Again };
        let Some(now) = self.transacting(partition).await else { return Turn::Again };
        let retries = self.with(partition, |it| it.in_flight(now.writer)).unwrap_or_default();
        // A log knows a producer's last five batches: of more in flight it could not tell which repeat.
        let room = IN_FLIGHT_MAX - retries.len();
        let mut waiting: Vec<((i64, i32), Appended)> = Vec::new();
        for key in retries {
            let Some(appended) = self.append(&log, key).await else { return Turn::Again };
            waiting.push((key, appended));
        }
        for _ in 0..if now.decided.is_some() { 0 } else { fresh.min(room as u64) } {
            self.pause(chance, self.swarm.pause_max).await;
            let Some(key) = self.new_within(partition, chance) else { return Turn::Again };
            let Some(appended) = self.append(&log, key).await else { return Turn::Again };
            waiting.push((key, appended));
        }
        for (key, appended) in waiting {
            let offset = appended.base_offset;
            if appended.durable.await.is_err() {
                return Turn::Again;
            }
            self.acknowledged(&log, key, offset);
        }
        let result = match chance.below(2) {
            0 => TransactionResult::Abort,
            _ => TransactionResult::Commit,
        };
        self.end(&log, result).await
    }

    async fn transacting(&self, partition: Partition) -> Option<Transacting> {
        if let Some(known) = self.with(partition, |it| it.transacting)? {
            return Some(known);
        }
        let ids = self.node.controller.allocate_producer_ids(1).await;
        let ids = self.answered(ids)?;
        let mut history = self.history.borrow_mut();
        history.producer_ids_given(&ids);
        Some(*history.partition(partition)?.transacting.insert(Transacting::new(ids.start)))
    }

    /// The key of a batch of the current transaction that was never sent before.
    fn new_within(&self, partition: Partition, chance: &SeededEntropy) -> Option<(i64, i32)> {
        let count = 1 + chance.below(self.swarm.records_max) as i32;
        let timestamp = self.node.environment.clock.wall();
        self.with(partition, |story| {
            let now = story.transacting.as_mut()?;
            let key = (now.writer, now.sequence);
            now.sequence += count;
            let is_keyed = story.changelog.is_some();
            story.sending(key, || {
                let batch = self.batch(key, count, timestamp, (true, is_keyed));
                let pairs = is_keyed.then(|| changelog::pairs(&batch));
                let sent = Sent::new(count, timestamp, self.life, batch.bytes());
                sent.keyed(pairs).within_transaction()
            });
            Some(key)
        })?
    }

    async fn end(&self, log: &PartitionLog, result: TransactionResult) -> Turn {
        let timestamp = self.node.environment.clock.wall();
        let decided = self.with(log.partition(), |story| {
            let now = story.transacting.as_mut()?;
            let result = *now.decided.get_or_insert(result);
            let key = (now.writer + 1, -1);
            story.fates.insert(key.0 - 1, result);
            story.sending(key, || Sent::marker(timestamp, self.life));
            Some((key, result))
        });
        let Some((key, result)) = decided.flatten() else { return Turn::Again };
        let (id, epoch) = producer_of(key.0);
        let marker = EndTxnMarker { result, coordinator_epoch: 0 };
        let appended = log.append_marker(ProducerId(id), epoch, marker, MarkerRule::V2).await;
        let appended = match appended {
            Ok(appended) => appended,
            Err(AppendError::Unavailable) => {
                self.sleep(WAIT).await;
                return Turn::Again;
            }
            Err(AppendError::Stopping | AppendError::Removed | AppendError::Unknown) => {
                return Turn::Again;
            }
            Err(error) => panic!("A8: marker {key:?} of {}: {error}", log.partition()),
        };
        let offset = appended.base_offset;
        if appended.durable.await.is_err() {
            return Turn::Again;
        }
        self.acknowledged(log, key, offset);
        self.with(log.partition(), |story| {
            story.transacting = Some(Transacting { writer: key.0, sequence: 0, decided: None });
        });
        self.history.borrow_mut().tally.transactions_ended += 1;
        Turn::Done
    }

    /// The transaction that is open, of whichever life, is ended when it returns.
    pub(crate) async fn settle_transactions(&self, partition: Partition) {
        let chance = SeededEntropy::new(3);
        while self.transaction(partition, 1, &chance).await == Turn::Again {
            self.sleep(WAIT).await;
        }
    }

    pub(crate) async fn read_committed(&self, slot: usize, index: i32, chance: SeededEntropy) {
        loop {
            self.pause(&chance, 4 * WAIT).await;
            let Some(partition) = self.partition(slot, index) else { continue };
            let Some(log) = self.node.host(partition) else { continue };
            let offsets = log.offsets();
            let span = offsets.high_watermark.since(offsets.log_start);
            let mut next = offsets.log_start.plus(chance.below(span as u64 + 1) as i64);
            for _ in 0..1 + chance.below(5) {
                let bytes_max = 1 + chance.below(8 * 1024) as usize;
                match self.committed(&log, next, bytes_max).await {
                    Ok(end) => next = end,
                    Err(ReadError::Unavailable) => self.sleep(WAIT).await,
                    Err(ReadError::OffsetOutOfRange { log_start, .. }) if next < log_start => break,
                    Err(error) => panic!("A6: {error}"),
                }
            }
            checker::look(&self.node.environment, &log, &mut self.history.borrow_mut());
        }
    }

    /// One fetch of committed records, filtered as clients filter it. Where it ended.
    async fn committed(
        &self,
        log: &PartitionLog,
        from: Offset,
        bytes_max: usize,
    ) -> Result<Offset, ReadError> {
        let fetched = log.read(from, bytes_max, true, ReadLimit::LastStable).await?;
        let (end, stable) = (fetched.end, log.offsets().last_stable);
        // A partition whose topic was deleted during the read has forgotten who its producers are.
        let is_hosted = self.node.engine.partition(log.partition()).is_some();
        assert!(!is_hosted || end <= stable.max(from), "A8: served to {end}, stable is {stable}");
        let mut aborted = log.aborted_among(from, &fetched).await?;
        aborted.sort_by_key(|it: &AbortedTransaction| it.first_offset);
        let mut aborted = aborted.into_iter().peekable();
        let mut ignored = HashSet::new();
        let mut history = self.history.borrow_mut();
        for batch in fetched.chunks.into_iter().flat_map(batches) {
            let (header, bytes) = batch.unwrap_or_else(|error| panic!("A6: {error}"));
            while let Some(it) = aborted.next_if(|it| it.first_offset <= header.last_offset()) {
                ignored.insert(it.producer.0);
            }
            let marker = EndTxnMarker::read(&bytes).unwrap_or_else(|error| panic!("A6: {error}"));
            if let Some(marker) = marker {
                if marker.result == TransactionResult::Abort {
                    ignored.remove(&header.producer_id);
                }
            } else if header.attributes.is_transactional() {
                let is_kept = !ignored.contains(&header.producer_id);
                history.tally.committed_read += u64::from(is_kept);
                history.tally.aborted_left_out += u64::from(!is_kept);
                if let Some(story) = history.partition(log.partition()) {
                    story.shown(&header, is_kept);
                }
            }
        }
        Ok(end)
    }
}
