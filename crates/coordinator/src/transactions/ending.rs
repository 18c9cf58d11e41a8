//! The end of transactions: decided first, complete when the markers are written.

use protocol::ErrorCode;
use protocol::records::TransactionResult;
use vocabulary::ProducerId;

use crate::shard::Now;
use crate::transactions::command::{EndTransaction, TransactionReply};
use crate::transactions::image::{
    CLIENT_EPOCH_MAX, TransactionImage, TransactionState, TransactionVersion,
};
use crate::transactions::shard::{Transaction, TransactionOutputs, TransactionShard};

/// What a request to end means where the id stands.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Decide,
    /// It was decided and carried out before, and the answer lost.
    Again,
}

impl TransactionShard {
    pub(super) fn end(
        &mut self,
        now: Now,
        end: EndTransaction,
        outputs: &mut TransactionOutputs,
    ) -> TransactionReply {
        let Some(transaction) = self.transactions.get(end.id.as_str()) else {
            return TransactionReply::Producer(Err(ErrorCode::InvalidProducerIdMapping));
        };
        let step = match end.version {
            TransactionVersion::V1 => step_v1(transaction, &end),
            TransactionVersion::V2 => step_v2(transaction, &end),
        };
        let image = &transaction.image;
        match step {
            Err(code) => return TransactionReply::Producer(Err(code)),
            Ok(Step::Again) => {
                return TransactionReply::Producer(Ok((image.producer, image.epoch)));
            }
            Ok(Step::Decide) => (),
        }
        let mut next = TransactionImage { version: end.version, ..image.clone() };
        let mut last_epoch = transaction.last_epoch;
        if end.version == TransactionVersion::V2 {
            if image.is_exhausted() {
                let Some(fresh) = end.fresh else { return TransactionReply::NeedsProducerId };
                next.next_producer = Some(fresh);
            }
            next.epoch += 1;
            last_epoch = Some(image.epoch);
        }
        let granted = match next.next_producer {
            Some(producer) => (producer, 0),
            None => (next.producer, next.epoch),
        };
        self.decide(now, &end.id, next, end.result, outputs);
        self.remember(&end.id, last_epoch);
        TransactionReply::Producer(Ok(granted))
    }

    /// Aborts an open transaction so that its producer cannot go on with it: another one has come, or time is up.
    /// With the old rules that producer is locked out; with the new ones it may end what is over already, and learns
    /// its next epoch by that.
    pub(super) fn fence(&mut self, now: Now, id: &str, outputs: &mut TransactionOutputs) {
        let Some(transaction) = self.transactions.get(id) else { return };
        let image = &transaction.image;
        let next = TransactionImage { epoch: image.epoch.saturating_add(1), ..image.clone() };
        let is_known = image.version == TransactionVersion::V2 && next.epoch <= CLIENT_EPOCH_MAX;
        let last_epoch = is_known.then_some(image.epoch);
        self.decide(now, id, next, TransactionResult::Abort, outputs);
        self.remember(id, last_epoch);
    }

    fn decide(
        &mut self,
        now: Now,
        id: &str,
        mut next: TransactionImage,
        result: TransactionResult,
        outputs: &mut TransactionOutputs,
    ) {
        if next.started_at < 0 {
            next.started_at = now.wall.0; // An abort of nothing, which the new rules allow.
        }
        next.updated_at = now.wall.0;
        next.state = TransactionState::prepare(result);
        match result {
            TransactionResult::Commit => outputs.tally.committed += 1,
            TransactionResult::Abort => outputs.tally.aborted += 1,
        }
        if next.partitions.is_empty() {
            completed(&mut next, result, now); // There is nobody to tell.
            return self.store(id, next, outputs);
        }
        self.store(id, next, outputs);
        let stored = self.transactions.get(id).and_then(|it| it.order(id));
        outputs.orders.extend(stored);
    }

    /// The markers of an order are written. Answers whether that was the newest order of the id.
    pub(super) fn complete(
        &mut self,
        now: Now,
        id: &str,
        producer: ProducerId,
        epoch: i16,
        outputs: &mut TransactionOutputs,
    ) -> bool {
        let Some(Transaction { image, .. }) = self.transactions.get(id) else { return false };
        let Some(result) = image.state.ending() else { return false };
        if (image.producer, image.epoch) != (producer, epoch) {
            return false;
        }
        let mut next = image.clone();
        completed(&mut next, result, now);
        self.store(id, next, outputs);
        true
    }
}

fn completed(image: &mut TransactionImage, result: TransactionResult, now: Now) {
    image.state = TransactionState::complete(result);
    image.partitions.clear();
    image.updated_at = now.wall.0;
    if let Some(next) = image.next_producer.take() {
        image.previous_producer = Some(image.producer);
        (image.producer, image.epoch) = (next, 0);
    }
}

/// What has been decided, or carried out, and for which result.
fn decided(state: TransactionState) -> Option<(TransactionResult, bool)> {
    match state {
        TransactionState::Empty | TransactionState::Ongoing => None,
        TransactionState::PrepareCommit => Some((TransactionResult::Commit, false)),
        TransactionState::PrepareAbort => Some((TransactionResult::Abort, false)),
        TransactionState::CompleteCommit => Some((TransactionResult::Commit, true)),
        TransactionState::CompleteAbort => Some((TransactionResult::Abort, true)),
    }
}

/// Epochs stay, so the same request again looks like the first.
fn step_v1(transaction: &Transaction, end: &EndTransaction) -> Result<Step, ErrorCode> {
    let image = &transaction.image;
    if image.producer != end.producer {
        return Err(ErrorCode::InvalidProducerIdMapping);
    }
    if image.epoch != end.epoch || !transaction.is_given() {
        return Err(ErrorCode::ProducerFenced);
    }
    match decided(image.state) {
        None if image.state == TransactionState::Ongoing => Ok(Step::Decide),
        Some((result, true)) if result == end.result => Ok(Step::Again),
        Some((result, false)) if result == end.result => Err(ErrorCode::ConcurrentTransactions),
        None | Some(_) => Err(ErrorCode::InvalidTxnState),
    }
}

/// Every end bumps the epoch (KIP-890): the newest epoch asks for a new end, the one before repeats the last.
fn step_v2(transaction: &Transaction, end: &EndTransaction) -> Result<Step, ErrorCode> {
    let image = &transaction.image;
    let same_producer = image.producer == end.producer;
    let is_newest = same_producer && image.epoch == end.epoch && transaction.is_given();
    let after_bump =
        same_producer && end.epoch.checked_add(1) == Some(image.epoch) && transaction.is_given();
    let after_rotation = image.previous_producer == Some(end.producer)
        && end.epoch == CLIENT_EPOCH_MAX
        && image.epoch == 0;
    if !same_producer && !after_rotation {
        return Err(ErrorCode::InvalidProducerIdMapping);
    }
    match decided(image.state) {
        None if !is_newest => Err(ErrorCode::ProducerFenced),
        None if image.state == TransactionState::Ongoing => Ok(Step::Decide),
        None => begins_with(end),
        // Its producer id is the old one until it is complete.
        Some((_, false)) if !same_producer || end.epoch.checked_add(1) != Some(image.epoch) => {
            Err(ErrorCode::ProducerFenced)
        }
        Some((result, false)) if result == end.result => Err(ErrorCode::ConcurrentTransactions),
        Some((_, false)) => Err(ErrorCode::InvalidTxnState),
        Some(_) if is_newest => begins_with(end),
        Some(_) if !after_bump && !after_rotation => Err(ErrorCode::ProducerFenced),
        Some((result, true)) if result == end.result => Ok(Step::Again),
        Some((_, true)) => Err(ErrorCode::InvalidTxnState),
    }
}

/// Nothing is open: an abort is granted, because the client cannot know whether its partitions were added.
fn begins_with(end: &EndTransaction) -> Result<Step, ErrorCode> {
    match end.result {
        TransactionResult::Abort => Ok(Step::Decide),
        TransactionResult::Commit => Err(ErrorCode::InvalidTxnState),
    }
}
