//! Transactional batches of a Produce request: they are appended if their partitions belong to the open transaction
//! (KIP-98, KIP-890). One question to the coordinator serves the whole request, and a transaction that is open in a
//! partition needs none.

use std::collections::BTreeMap;
use std::sync::Arc;

use cluster::{AclOperation, Topic};
use coordinator::transactions::{TransactionPartitions, TransactionVersion};
use partition_log::{AppendRules, PartitionLog, SequenceRule};
use protocol::ErrorCode;
use protocol::messages::produce::Request;
use protocol::messages::produce::request::PartitionProduceData;
use protocol::records::{Batch, BatchHeader};
use vocabulary::ProducerId;

use super::Failure;
use crate::broker::Broker;
use crate::context::RequestContext;
use crate::transactions::admission::{self, Manners, Writer};

/// The first version of the new rules: producing adds the partition.
const V2_VERSION: i16 = 12;

/// The first version whose clients know TRANSACTION_ABORTABLE.
const ABORTABLE_VERSION: i16 = 11;

/// A partition's batch that was validated, and what the log is to be told about it.
pub(super) struct Prepared {
    pub(super) index: i32,
    /// `None` if nobody has it.
    pub(super) topic: Option<Arc<Topic>>,
    pub(super) log: Option<Arc<PartitionLog>>,
    pub(super) batch: Result<Batch, Failure>,
    pub(super) rules: AppendRules,
}

/// Whose batches, and the places of those the coordinator is to be asked about.
type Questions = BTreeMap<(ProducerId, i16), Vec<usize>>;

/// Why all of a request is refused: it has batches of a transaction that its sender may not write in.
pub(super) fn denial(context: &RequestContext, request: &Request) -> Option<ErrorCode> {
    context.access.as_ref()?;
    let is_transactional = |it: &PartitionProduceData| {
        let header = it.records.as_ref().and_then(|it| BatchHeader::parse(it).ok());
        header.is_some_and(|it| it.attributes.is_transactional())
    };
    let batches = request.topic_data.iter().flat_map(|it| &it.partition_data);
    let allowed = |id: &str| context.allows_transactional_id(AclOperation::Write, id);
    let is_denied = batches.into_iter().any(is_transactional)
        && !request.transactional_id.as_deref().is_some_and(allowed);
    is_denied.then_some(ErrorCode::TransactionalIdAuthorizationFailed)
}

/// Refuses what does not belong to an open transaction. Waits for the coordinator, if it has to be asked.
pub(super) async fn admit(
    broker: &Arc<Broker>,
    version: i16,
    id: Option<&str>,
    prepared: &mut [&mut Prepared],
) {
    let manners = Manners {
        version: match V2_VERSION <= version {
            true => TransactionVersion::V2,
            false => TransactionVersion::V1,
        },
        abortable_known: ABORTABLE_VERSION <= version,
    };
    let mut questions = Questions::new();
    for (place, prepared) in prepared.iter_mut().enumerate() {
        match look(prepared, id, manners).await {
            Ok(Some(producer)) => questions.entry(producer).or_default().push(place),
            Ok(None) => (),
            Err(code) => prepared.batch = Err(Failure::from(code)),
        }
    }
    for ((producer, epoch), places) in questions {
        let Some(id) = id else { continue };
        let mut partitions = TransactionPartitions::new();
        for place in &places {
            let Prepared { topic: Some(topic), index, .. } = &*prepared[*place] else { continue };
            partitions.entry(topic.name.clone()).or_default().insert(*index);
        }
        let writer = Writer { id, producer, epoch };
        let admitted = admission::admit(broker, writer, manners, partitions).await;
        for place in places {
            let it = &mut *prepared[place];
            let is_among = |rest: &TransactionPartitions| {
                let rest = it.topic.as_ref().and_then(|topic| rest.get(&topic.name));
                rest.is_some_and(|rest| rest.contains(&it.index))
            };
            let code = match &admitted {
                Ok(rest) if is_among(rest) => admission::outside(manners),
                Ok(_) => continue,
                Err(code) => admission::code_of_refusal(*code, manners),
            };
            it.batch = Err(Failure::from(code));
        }
    }
}

/// Whose transaction the coordinator is to be asked about; `None`: the batch has none, or it is open here.
async fn look(
    prepared: &mut Prepared,
    id: Option<&str>,
    manners: Manners,
) -> Result<Option<(ProducerId, i16)>, ErrorCode> {
    let (Ok(batch), Some(log)) = (&prepared.batch, &prepared.log) else { return Ok(None) };
    if !batch.header.attributes.is_transactional() {
        return Ok(None);
    }
    if id.is_none_or(str::is_empty) {
        return Err(ErrorCode::TransactionalIdAuthorizationFailed);
    }
    let producer = batch.header.producer().ok_or(ErrorCode::InvalidRecord)?;
    let epoch = batch.header.producer_epoch;
    if manners.version == TransactionVersion::V2 {
        prepared.rules.sequence = SequenceRule::Zero;
    }
    let unreadable = |_| ErrorCode::KafkaStorageError;
    // Before the look: what is open now may have ended when the batch gets its place, after other partitions'
    // questions and whatever holds appends back. Such a batch would begin a transaction that nobody knows of.
    prepared.rules.verification = Some(log.verification().await.map_err(unreadable)?);
    let open = log.open_transaction(producer).await.map_err(unreadable)?;
    Ok(open.is_none_or(|it| it.epoch != epoch).then_some((producer, epoch)))
}
