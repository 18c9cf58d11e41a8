//! CreatePartitions (key 37): makes topics larger. One row a topic.

use std::collections::BTreeSet;
use std::sync::Arc;

use cluster::AclOperation;
use protocol::ErrorCode;
use protocol::messages::create_partitions::request::CreatePartitionsTopic;
use protocol::messages::create_partitions::response::CreatePartitionsTopicResult;
use protocol::messages::create_partitions::{Request, Response};
use vocabulary::{BrokerId, Tick};

use crate::admin_rows::{self, CHANGES_AT_ONCE};
use crate::broker::Broker;
use crate::context::RequestContext;
use crate::refusal::{self, Refusal};
use crate::topic_admin;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: Request,
) -> Response {
    let repeated = topic_admin::repeated(request.topics.iter().map(|it| it.name.as_str()));
    let asked = request.topics.into_iter().map(|topic| {
        let refused = if repeated.contains(&topic.name) {
            Some(Refusal::new(ErrorCode::InvalidRequest, "Duplicate topic name."))
        } else if !context.allows_topic(AclOperation::Alter, &topic.name) {
            Some(refusal::unauthorized(ErrorCode::TopicAuthorizationFailed))
        } else {
            None
        };
        (topic, refused)
    });
    let asked: Vec<(CreatePartitionsTopic, Option<Refusal>)> = asked.collect();
    let fits = check_size(broker, &asked);
    let deadline = admin_rows::deadline(broker, request.timeout_ms);
    let grown = admin_rows::run(asked, CHANGES_AT_ONCE, |(topic, refused)| {
        let fits = &fits;
        Box::pin(async move {
            let grown = match (refused, fits) {
                (Some(refusal), _) => Err(refusal),
                (None, Err(too_many)) => Err(too_many.clone()),
                (None, Ok(())) => grow(broker, &topic, request.validate_only, deadline).await,
            };
            row(topic.name, grown)
        })
    });
    Response { results: grown.await, ..Default::default() }
}

/// Of the request as a whole. Topics that are not there, or would not grow, are refused each by itself.
fn check_size(
    broker: &Broker,
    asked: &[(CreatePartitionsTopic, Option<Refusal>)],
) -> Result<(), Refusal> {
    let allowed = asked.iter().filter(|(_, refused)| refused.is_none());
    let partitions = allowed.filter_map(|(topic, _)| {
        let current = broker.view.topic(&topic.name)?.partitions.len() as u64;
        Some(u64::try_from(topic.count).unwrap_or(0).saturating_sub(current))
    });
    let words = "Unable to perform excessively large batch operation.";
    topic_admin::check_new_partitions(partitions, words)
}

async fn grow(
    broker: &Arc<Broker>,
    topic: &CreatePartitionsTopic,
    validate_only: bool,
    deadline: Tick,
) -> Result<(), Refusal> {
    let current = broker.view.topic(&topic.name).ok_or_else(|| {
        let words = "This server does not host this topic-partition.";
        Refusal::new(ErrorCode::UnknownTopicOrPartition, words)
    })?;
    topic_admin::refuse_internal(&topic.name, "Growth")?;
    let brokers: BTreeSet<BrokerId> = broker.view.brokers().iter().map(|it| it.id).collect();
    let count = check(topic, current.partitions.len(), broker.config.partitions_max, &brokers)?;
    if validate_only {
        broker.controller.check_create_partitions(&topic.name, count)?;
        return Ok(());
    }
    let growth = broker.controller.create_partitions(&topic.name, count);
    topic_admin::within(broker, deadline, growth).await.map(drop)
}

/// The number of partitions the topic is to have, if it may.
fn check(
    topic: &CreatePartitionsTopic,
    current: usize,
    max: u32,
    brokers: &BTreeSet<BrokerId>,
) -> Result<u32, Refusal> {
    let invalid = |message| Err(Refusal::new(ErrorCode::InvalidPartitions, message));
    let asked = usize::try_from(topic.count).unwrap_or(0);
    if asked == current {
        return invalid(format!("Topic already has {current} partition(s)."));
    }
    if asked < current {
        return invalid(format!(
            "The topic {} currently has {current} partition(s); {} would not be an increase.",
            topic.name, topic.count
        ));
    }
    let count = u32::try_from(asked).unwrap_or(u32::MAX);
    if max < count {
        return invalid(format!(
            "A topic may have at most {max} partitions (aquifer.topic.partitions.max)."
        ));
    }
    if let Some(assignments) = &topic.assignments {
        let additional = asked - current;
        if assignments.len() != additional {
            return Err(Refusal::new(
                ErrorCode::InvalidReplicaAssignment,
                format!(
                    "Attempted to add {additional} additional partition(s), but only {} \
                     assignment(s) were specified.",
                    assignments.len()
                ),
            ));
        }
        for assignment in assignments {
            topic_admin::check_replicas(&assignment.broker_ids, brokers)?;
        }
    }
    Ok(count)
}

fn row(name: String, grown: Result<(), Refusal>) -> CreatePartitionsTopicResult {
    let (code, error_message) = match grown {
        Ok(()) => (ErrorCode::None, None),
        Err(Refusal { code, message }) => (code, Some(message)),
    };
    CreatePartitionsTopicResult { name, error_code: code.code(), error_message }
}

#[cfg(test)]
mod tests {
    use protocol::messages::create_partitions::request::CreatePartitionsAssignment;

    use super::*;

    #[track_caller]
    fn run(count: i32, assignments: Option<&[&[i32]]>, expected: Result<u32, ErrorCode>) {
        let assignment =
            |brokers: &&[i32]| CreatePartitionsAssignment { broker_ids: brokers.to_vec() };
        let topic = CreatePartitionsTopic {
            name: "t".to_owned(),
            count,
            assignments: assignments.map(|it| it.iter().map(assignment).collect()),
        };
        let found = check(&topic, 3, 10, &[BrokerId(0)].into_iter().collect());
        assert_eq!(found.map_err(|it| it.code), expected);
    }

    #[test]
    fn a_topic_only_grows_within_its_limit() {
        run(4, None, Ok(4));
        run(10, None, Ok(10));
        for bad in [3, 2, 0, -1, 11] {
            run(bad, None, Err(ErrorCode::InvalidPartitions));
        }
    }

    #[test]
    fn assignments_name_each_new_partition() {
        run(5, Some(&[&[0], &[0]]), Ok(5));
        run(5, Some(&[&[0]]), Err(ErrorCode::InvalidReplicaAssignment));
        run(5, Some(&[]), Err(ErrorCode::InvalidReplicaAssignment));
        run(4, Some(&[&[9]]), Err(ErrorCode::InvalidReplicaAssignment));
    }
}
