//! Who may use a transactional id: InitProducerId and its fencing (KIP-98, KIP-360).

use protocol::ErrorCode;
use vocabulary::ProducerId;

use crate::shard::Now;
use crate::transactions::command::{InitProducer, TransactionReply};
use crate::transactions::image::{
    CLIENT_EPOCH_MAX, TransactionImage, TransactionState, TransactionVersion,
};
use crate::transactions::shard::{Transaction, TransactionOutputs, TransactionShard};

/// What becomes of an id that a producer asks for.
enum Grant {
    /// The next epoch; `last_epoch` is the asker's own, if it had it.
    NextEpoch { last_epoch: Option<i16> },
    /// A new producer id: epochs have run out.
    NextProducer { last_epoch: Option<i16> },
    /// The request was answered before, and the answer lost.
    Again,
}

impl TransactionShard {
    pub(super) fn init(
        &mut self,
        now: Now,
        init: InitProducer,
        outputs: &mut TransactionOutputs,
    ) -> TransactionReply {
        let refuse = |code| TransactionReply::Producer(Err(code));
        if let Some(code) = self.is_refused(&init.id) {
            return refuse(code);
        }
        if !(1..=self.options.timeout_ms_max).contains(&init.timeout_ms) {
            return refuse(ErrorCode::InvalidTransactionTimeout);
        }
        let Some(transaction) = self.transactions.get(init.id.as_str()) else {
            return self.begin_id(now, init, outputs);
        };
        let image = &transaction.image;
        if image.state == TransactionState::Ongoing {
            // A producer that comes back names what it has been given; a new one names nothing and takes the id over.
            if init.claimed.is_some_and(|it| it != (image.producer, image.epoch)) {
                return refuse(ErrorCode::ProducerFenced);
            }
            outputs.tally.fenced += 1;
            self.fence(now, &init.id, outputs);
            return refuse(ErrorCode::ConcurrentTransactions); // The client asks again.
        }
        let grant = match grant(transaction, init.claimed) {
            Ok(grant) => grant,
            Err(code) => return refuse(code),
        };
        let mut next = TransactionImage {
            timeout_ms: init.timeout_ms,
            state: TransactionState::Empty,
            started_at: -1,
            updated_at: now.wall.0,
            ..image.clone()
        };
        let last_epoch = match grant {
            Grant::NextEpoch { last_epoch } => {
                next.epoch += 1;
                last_epoch
            }
            Grant::NextProducer { last_epoch } => {
                let Some(fresh) = init.fresh else { return TransactionReply::NeedsProducerId };
                next.previous_producer = Some(next.producer);
                (next.producer, next.epoch) = (fresh, 0);
                last_epoch
            }
            Grant::Again => transaction.last_epoch,
        };
        self.grant(&init.id, next, last_epoch, outputs)
    }

    fn begin_id(
        &mut self,
        now: Now,
        init: InitProducer,
        outputs: &mut TransactionOutputs,
    ) -> TransactionReply {
        let Some(producer) = init.fresh else { return TransactionReply::NeedsProducerId };
        let image = TransactionImage {
            producer,
            previous_producer: None,
            next_producer: None,
            epoch: 0,
            timeout_ms: init.timeout_ms,
            state: TransactionState::Empty,
            partitions: Default::default(),
            updated_at: now.wall.0,
            started_at: -1,
            version: TransactionVersion::V1,
        };
        self.grant(&init.id, image, None, outputs)
    }

    fn grant(
        &mut self,
        id: &str,
        image: TransactionImage,
        last_epoch: Option<i16>,
        outputs: &mut TransactionOutputs,
    ) -> TransactionReply {
        let granted = (image.producer, image.epoch);
        self.store(id, image, outputs);
        self.remember(id, last_epoch);
        TransactionReply::Producer(Ok(granted))
    }

    pub(super) fn remember(&mut self, id: &str, last_epoch: Option<i16>) {
        self.transactions.get_mut(id).expect("it has been stored").last_epoch = last_epoch;
    }
}

fn grant(
    transaction: &Transaction,
    claimed: Option<(ProducerId, i16)>,
) -> Result<Grant, ErrorCode> {
    let image = &transaction.image;
    if let Some((producer, epoch)) = claimed
        && producer != image.producer
    {
        let was_rotated = image.previous_producer == Some(producer)
            && CLIENT_EPOCH_MAX <= epoch
            && image.epoch == 0;
        return match (was_rotated, image.state.ending()) {
            (false, _) => Err(ErrorCode::ProducerFenced),
            // What was decided is still to be carried out, and would be forgotten.
            (true, Some(_)) => Err(ErrorCode::ConcurrentTransactions),
            (true, None) => Ok(Grant::Again),
        };
    }
    if image.state.ending().is_some() {
        return Err(ErrorCode::ConcurrentTransactions);
    }
    let last_epoch = claimed.map(|(_, epoch)| epoch);
    let is_newest = last_epoch.is_none_or(|it| it == image.epoch);
    if is_newest && image.is_exhausted() {
        return Ok(Grant::NextProducer { last_epoch });
    }
    if is_newest {
        return Ok(Grant::NextEpoch { last_epoch });
    }
    let is_repeated = transaction.is_given() && last_epoch == transaction.last_epoch;
    if is_repeated { Ok(Grant::Again) } else { Err(ErrorCode::ProducerFenced) }
}
