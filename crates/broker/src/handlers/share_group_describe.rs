//! ShareGroupDescribe (key 77): the state of share groups and their members (KIP-932).

use std::collections::BTreeSet;
use std::sync::Arc;

use cluster::AclOperation;
use coordinator::{ConsumerPartitions, DescribedShareGroup, DescribedShareMember, Refused};
use futures::future::join_all;
use protocol::ErrorCode;
use protocol::messages::share_group_describe::response::{
    Assignment, DescribedGroup, Member, TopicPartitions,
};
use protocol::messages::share_group_describe::{Request, Response};

use super::consumer_group_describe::UNSEEN_TOPICS;
use crate::broker::Broker;
use crate::context::RequestContext;
use crate::operations;

/// The only assignor of share groups.
const ASSIGNOR: &str = "simple";

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: Request,
) -> Response {
    let with_operations = request.include_authorized_operations;
    let described = request.group_ids.into_iter().map(|group| async move {
        let refused = |error_code: i16, error_message| DescribedGroup {
            error_code,
            error_message,
            group_id: group.clone(),
            ..Default::default()
        };
        if !context.allows_group(AclOperation::Describe, &group) {
            return refused(ErrorCode::GroupAuthorizationFailed.code(), None);
        }
        match broker.groups.describe_shares(broker, &group).await {
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

/// Whether who asks may know of every topic that somebody is assigned. As in Kafka, topics that members only name are
/// shown.
fn sees_all(context: &RequestContext, found: &DescribedShareGroup) -> bool {
    let assigned = found.members.iter().flat_map(|it| &it.assigned);
    let topics: BTreeSet<&str> = assigned.map(|it| it.name.as_str()).collect();
    topics.into_iter().all(|it| context.allows_topic(AclOperation::Describe, it))
}

fn row(
    context: &RequestContext,
    found: DescribedShareGroup,
    with_operations: bool,
) -> DescribedGroup {
    let authorized_operations = operations::of_group(context, with_operations, &found.group);
    DescribedGroup {
        group_id: found.group,
        group_state: found.state.name().to_owned(),
        group_epoch: found.epoch,
        assignment_epoch: found.target_epoch,
        assignor_name: ASSIGNOR.to_owned(),
        members: found.members.into_iter().map(member).collect(),
        authorized_operations,
        ..Default::default()
    }
}

fn member(it: DescribedShareMember) -> Member {
    let row = |it: ConsumerPartitions| TopicPartitions {
        topic_id: it.id,
        topic_name: it.name,
        partitions: it.partitions,
    };
    Member {
        member_id: it.member,
        rack_id: it.rack,
        member_epoch: it.epoch,
        client_id: it.client_id,
        client_host: it.client_host,
        subscribed_topic_names: it.topics,
        assignment: Assignment { topic_partitions: it.assigned.into_iter().map(row).collect() },
    }
}
