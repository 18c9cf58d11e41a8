//! Whether transactional batches may be appended: their transaction must be open, and their partition in it.
//!
//! A producer of the new rules adds its partitions by writing to them; of one of the old rules the coordinator is
//! asked whether it has added them (KIP-890). The log is told where it ended when the coordinator was asked: a
//! transaction that ends in between takes no more records, so none is left hanging.

use std::sync::Arc;
use std::time::Duration;

use coordinator::transactions::{
    AddPartitions, TransactionCommand, TransactionPartitions, TransactionReply, TransactionVersion,
    VerifyPartitions,
};
use protocol::ErrorCode;
use vocabulary::ProducerId;

use crate::broker::Broker;

/// How often a coordinator that is still ending the transaction before is asked again, and after how long: 1, 2, 4 ms
/// and so on. Ends take a millisecond or two on a local disk and some hundred in a bucket; a client that is refused
/// waits longer than that (KIP-890).
const ADD_ATTEMPTS_MAX: u32 = 10;
const ADD_PAUSE_FIRST: Duration = Duration::from_millis(1);
const ADD_PAUSE_MAX: Duration = Duration::from_millis(20);

/// What the client understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Manners {
    pub(crate) version: TransactionVersion,
    /// TRANSACTION_ABORTABLE is known.
    pub(crate) abortable_known: bool,
}

/// Whose batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Writer<'a> {
    pub(crate) id: &'a str,
    pub(crate) producer: ProducerId,
    pub(crate) epoch: i16,
}

/// Which of `partitions` do not belong to the writer's open transaction, with their code; `Err`: none does.
pub(crate) async fn admit(
    broker: &Arc<Broker>,
    writer: Writer<'_>,
    manners: Manners,
    partitions: TransactionPartitions,
) -> Result<TransactionPartitions, ErrorCode> {
    match manners.version {
        TransactionVersion::V2 => {
            add(broker, writer, partitions).await?;
            Ok(TransactionPartitions::new())
        }
        TransactionVersion::V1 => verify(broker, writer, partitions).await,
    }
}

/// The code of a partition that is not in the transaction.
pub(crate) fn outside(manners: Manners) -> ErrorCode {
    if manners.abortable_known {
        ErrorCode::TransactionAbortable
    } else {
        ErrorCode::InvalidTxnState
    }
}

/// As producers of that age take it: an older one gives up on some codes that a newer one waits out.
pub(crate) fn code_of_refusal(code: ErrorCode, manners: Manners) -> ErrorCode {
    match code {
        ErrorCode::ProducerFenced => ErrorCode::InvalidProducerEpoch,
        ErrorCode::ConcurrentTransactions if manners.version == TransactionVersion::V2 => code,
        ErrorCode::ConcurrentTransactions
        | ErrorCode::CoordinatorLoadInProgress
        | ErrorCode::CoordinatorNotAvailable
        | ErrorCode::NotCoordinator => ErrorCode::NotEnoughReplicas,
        other => other,
    }
}

async fn add(
    broker: &Arc<Broker>,
    writer: Writer<'_>,
    partitions: TransactionPartitions,
) -> Result<(), ErrorCode> {
    let Writer { id, producer, epoch } = writer;
    let (name, version) = (id.to_owned(), TransactionVersion::V2);
    let add = AddPartitions { id: name, producer, epoch, partitions, version };
    let mut pause = ADD_PAUSE_FIRST;
    for attempt in 1.. {
        let pick = |reply| match reply {
            TransactionReply::Added(code) => Some(code),
            _ => None,
        };
        let command = TransactionCommand::Add(add.clone());
        match broker.transactions.ask(broker, id, command, pick).await? {
            ErrorCode::None => return Ok(()),
            ErrorCode::ConcurrentTransactions if attempt < ADD_ATTEMPTS_MAX => {
                broker.environment.clock.sleep(pause).await;
                pause = (2 * pause).min(ADD_PAUSE_MAX);
            }
            code => return Err(code),
        }
    }
    Err(ErrorCode::ConcurrentTransactions)
}

async fn verify(
    broker: &Arc<Broker>,
    writer: Writer<'_>,
    partitions: TransactionPartitions,
) -> Result<TransactionPartitions, ErrorCode> {
    let Writer { id, producer, epoch } = writer;
    let verify = VerifyPartitions { id: id.to_owned(), producer, epoch, partitions };
    let pick = |reply| match reply {
        TransactionReply::Verified(result) => Some(result),
        _ => None,
    };
    broker.transactions.ask(broker, id, TransactionCommand::Verify(verify), pick).await?
}
