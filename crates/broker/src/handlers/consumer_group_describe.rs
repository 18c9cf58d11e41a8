//! ConsumerGroupDescribe (key 69): the state of consumer groups and their members (KIP-848).

use std::collections::BTreeSet;
use std::sync::Arc;

use cluster::AclOperation;
use coordinator::{
    Command, ConsumerPartitions, DescribedConsumerGroup, DescribedConsumerMember, Refused, Reply,
};
use futures::future::join_all;
use protocol::ErrorCode;
use protocol::messages::consumer_group_describe::response::{
    Assignment, DescribedGroup, Member, TopicPartitions,
};
use protocol::messages::consumer_group_describe::{Request, Response};

use crate::broker::Broker;
use crate::context::RequestContext;
use crate::operations;

/// The wire's numbers of what a member speaks.
const CLASSIC_MEMBER: i8 = 0;
const CONSUMER_MEMBER: i8 = 1;

/// Told instead of a description that names topics which the client may not know of.
pub(super) const UNSEEN_TOPICS: &str =
    "The group has described topic(s) that the client is not authorized to describe.";

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: Request,
) -> Response {
    let with_operations = request.include_authorized_operations;
    let described = request.group_ids.into_iter().map(|group| async move {
        let command = Command::DescribeConsumers(vec![group.clone()]);
        let pick =
            |reply| if let Reply::DescribeConsumers(mut it) = reply { it.pop() } else { None };
        let refused = |error_code: i16, error_message| DescribedGroup {
            error_code,
            error_message,
            group_id: group.clone(),
            ..Default::default()
        };
        if !context.allows_group(AclOperation::Describe, &group) {
            return refused(ErrorCode::GroupAuthorizationFailed.code(), None);
        }
        if group.is_empty() {
            return refused(ErrorCode::InvalidGroupId.code(), None);
        }
        match broker.groups.ask(broker, &group, command, pick).await {
            Ok(Ok(found)) if !sees_all(context, &found) => {
                let code = ErrorCode::TopicAuthorizationFailed.code();
                refused(code, Some(UNSEEN_TOPICS.to_owned()))
            }
            Ok(Ok(found)) => row(context, found, with_operations),
            Ok(Err(Refused { code, message })) => refused(code.code(), Some(message)),
            Err(code) => refused(code.code(), None),
        }
    });
    Response { groups: join_all(described).await, ..Default::default() }
}

/// Whether who asks may know of every topic that somebody is assigned, or is to be. As in Kafka, topics that members
/// only name are shown.
fn sees_all(context: &RequestContext, found: &DescribedConsumerGroup) -> bool {
    let assigned = found.members.iter().flat_map(|it| it.assigned.iter().chain(&it.target));
    let topics: BTreeSet<&str> = assigned.map(|it| it.name.as_str()).collect();
    topics.into_iter().all(|it| context.allows_topic(AclOperation::Describe, it))
}

fn row(
    context: &RequestContext,
    found: DescribedConsumerGroup,
    with_operations: bool,
) -> DescribedGroup {
    let authorized_operations = operations::of_group(context, with_operations, &found.group);
    DescribedGroup {
        group_id: found.group,
        group_state: found.state.name().to_owned(),
        group_epoch: found.epoch,
        assignment_epoch: found.target_epoch,
        assignor_name: found.assignor,
        members: found.members.into_iter().map(member).collect(),
        authorized_operations,
        ..Default::default()
    }
}

fn member(it: DescribedConsumerMember) -> Member {
    Member {
        member_id: it.member,
        instance_id: it.instance,
        rack_id: it.rack,
        member_epoch: it.epoch,
        client_id: it.client_id,
        client_host: it.client_host,
        subscribed_topic_names: it.topics,
        // Kafka tells no pattern as an empty one.
        subscribed_topic_regex: Some(it.pattern.unwrap_or_default()),
        assignment: assignment(it.assigned),
        target_assignment: assignment(it.target),
        member_type: if it.is_classic { CLASSIC_MEMBER } else { CONSUMER_MEMBER },
    }
}

fn assignment(rows: Vec<ConsumerPartitions>) -> Assignment {
    let row = |it: ConsumerPartitions| TopicPartitions {
        topic_id: it.id,
        topic_name: it.name,
        partitions: it.partitions,
    };
    Assignment { topic_partitions: rows.into_iter().map(row).collect() }
}
