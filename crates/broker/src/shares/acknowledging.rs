//! From the wire's acknowledgements to the coordinator's, and what became of them back.

use std::sync::Arc;

use cluster::AclOperation;
use coordinator::share::{
    Acknowledge, AcknowledgeKind, AcknowledgementBatch, ShareCommand, ShareReply,
};
use protocol::ErrorCode;
use vocabulary::{Offset, Partition};

use crate::broker::Broker;
use crate::context::RequestContext;
use crate::shares::sessions::SessionKey;

/// The first version with renewals (KIP-1222).
const RENEW_VERSION: i16 = 2;

/// What a request says of one partition: first and last offset, and the wire's numbers of what became of them.
pub(crate) type Rows = Vec<(i64, i64, Vec<i8>)>;

/// How a request came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner {
    pub(crate) version: i16,
    /// It says that there are renewals in it.
    pub(crate) renews: bool,
    /// The group allows them (`share.renew.acknowledge.enable`).
    pub(crate) may_renew: bool,
    /// How long a renewed lock holds.
    pub(crate) lock_ms: u64,
}

/// Has the coordinator acknowledge; a code for each partition, in the order of the request. What it has acknowledged
/// is durable.
pub(crate) async fn acknowledge(
    (broker, context): (&Arc<Broker>, &RequestContext),
    key: &SessionKey,
    manner: Manner,
    asked: Vec<(Partition, Rows)>,
) -> Vec<(Partition, ErrorCode)> {
    let mut results = Vec::with_capacity(asked.len());
    let mut partitions = Vec::with_capacity(asked.len());
    for (partition, rows) in asked {
        let read = match broker.led_log(partition) {
            _ if is_denied(broker, context, partition) => Err(ErrorCode::TopicAuthorizationFailed),
            Ok(_) => read(manner, rows),
            Err(ErrorCode::UnknownTopicOrPartition)
                if broker.view.topic_by_id(partition.topic).is_none() =>
            {
                Err(ErrorCode::UnknownTopicId)
            }
            Err(code) => Err(code),
        };
        match read {
            Ok(batches) => {
                results.push((partition, None));
                partitions.push((partition, batches));
            }
            Err(code) => results.push((partition, Some(code))),
        }
    }
    let codes = match partitions.is_empty() {
        true => Ok(Vec::new()),
        false => {
            let acknowledge = Acknowledge {
                group: key.group.clone(),
                member: key.member.clone(),
                partitions,
                lock_ms: manner.lock_ms,
            };
            let command = ShareCommand::Acknowledge(acknowledge);
            let pick =
                |reply| if let ShareReply::Acknowledged(it) = reply { Some(it) } else { None };
            broker.shares.ask(broker, &key.group, command, pick).await
        }
    };
    let mut codes = codes.map(Vec::into_iter).map_err(of_coordinator);
    let mut next = || match &mut codes {
        Ok(codes) => codes.next().unwrap_or(ErrorCode::UnknownServerError),
        Err(code) => *code,
    };
    results
        .into_iter()
        .map(|(partition, code)| (partition, code.unwrap_or_else(&mut next)))
        .collect()
}

/// Whether the client may not read the topic. Of an id that nobody has there is nothing to deny.
pub(crate) fn is_denied(broker: &Broker, context: &RequestContext, partition: Partition) -> bool {
    context.access.is_some()
        && broker
            .view
            .topic_by_id(partition.topic)
            .is_some_and(|it| !context.allows_topic(AclOperation::Read, &it.name))
}

/// Whether a client that is told so has to go to another leader.
pub(crate) fn is_moved(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch)
}

/// Clients of a partition know nothing of a coordinator: it is another broker's, or not there yet.
pub(crate) fn of_coordinator(code: ErrorCode) -> ErrorCode {
    match code {
        ErrorCode::NotCoordinator
        | ErrorCode::CoordinatorNotAvailable
        | ErrorCode::CoordinatorLoadInProgress => ErrorCode::NotLeaderOrFollower,
        other => other,
    }
}

fn read(manner: Manner, rows: Rows) -> Result<Vec<AcknowledgementBatch>, ErrorCode> {
    let mut batches = Vec::with_capacity(rows.len());
    for (first, last, kinds) in rows {
        let kinds: Option<Vec<AcknowledgeKind>> =
            kinds.into_iter().map(|it| kind(manner, it)).collect();
        let kinds = kinds.ok_or(ErrorCode::InvalidRequest)?;
        if !manner.may_renew && kinds.contains(&AcknowledgeKind::Renew) {
            return Err(ErrorCode::InvalidRecordState);
        }
        batches.push(AcknowledgementBatch { first: Offset(first), last: Offset(last), kinds });
    }
    Ok(batches)
}

fn kind(manner: Manner, number: i8) -> Option<AcknowledgeKind> {
    match number {
        0 => Some(AcknowledgeKind::Gap),
        1 => Some(AcknowledgeKind::Accept),
        2 => Some(AcknowledgeKind::Release),
        3 => Some(AcknowledgeKind::Reject),
        4 if RENEW_VERSION <= manner.version && manner.renews => Some(AcknowledgeKind::Renew),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_look_for_another_leader_where_kafkas_do() {
        let moved = [ErrorCode::NotLeaderOrFollower, ErrorCode::FencedLeaderEpoch];
        let others =
            [ErrorCode::None, ErrorCode::UnknownTopicId, ErrorCode::TopicAuthorizationFailed];
        assert!(moved.into_iter().all(is_moved) && !others.into_iter().any(is_moved));
    }

    #[test]
    fn a_renewal_is_announced() {
        let rows = || vec![(3, 3, vec![4])];
        let plain = Manner { version: 2, renews: false, may_renew: true, lock_ms: 9 };
        assert_eq!(read(plain, rows()), Err(ErrorCode::InvalidRequest));
        assert_eq!(
            read(Manner { version: 1, renews: true, ..plain }, rows()),
            Err(ErrorCode::InvalidRequest)
        );
        let renewing = Manner { renews: true, ..plain };
        let batches = read(renewing, rows()).unwrap();
        assert_eq!(batches[0].kinds, [AcknowledgeKind::Renew]);
        let forbidden = read(Manner { may_renew: false, ..renewing }, rows());
        assert_eq!(forbidden, Err(ErrorCode::InvalidRecordState), "as Kafka says it");
        assert_eq!(read(plain, vec![(0, 0, vec![5])]), Err(ErrorCode::InvalidRequest));
        assert_eq!(read(plain, vec![(0, 0, vec![-1])]), Err(ErrorCode::InvalidRequest));
    }
}
