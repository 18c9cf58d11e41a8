//! What a heartbeat of a consumer group must say to be looked at, whatever group it names.

use protocol::ErrorCode;

use crate::assignor::Assignor;
use crate::command::{ConsumerHeartbeat, Refused};
use crate::consumer::{JOIN_EPOCH, LEAVE_EPOCH, LEAVE_FOR_NOW_EPOCH};
use crate::format::TEXT_BYTES_MAX;
use crate::options::GroupOptions;

/// # Errors
/// INVALID_REQUEST, UNSUPPORTED_ASSIGNOR, INVALID_GROUP_ID for a name no record can hold.
pub(crate) fn validate(options: &GroupOptions, request: &ConsumerHeartbeat) -> Result<(), Refused> {
    let invalid = |message: &str| Err(Refused::new(ErrorCode::InvalidRequest, message));
    let is_empty = |text: &Option<String>| text.as_deref() == Some("");
    let names_member = request.makes_own_id || request.epoch != JOIN_EPOCH;
    if request.group.is_empty() {
        return invalid("GroupId can't be empty.");
    }
    if request.member.is_empty() && names_member {
        return invalid("MemberId can't be empty.");
    }
    if is_empty(&request.instance) {
        return invalid("InstanceId can't be empty.");
    }
    if is_empty(&request.rack) {
        return invalid("RackId can't be empty.");
    }
    if request.epoch == JOIN_EPOCH {
        validate_join(request)?;
    } else if request.epoch == LEAVE_FOR_NOW_EPOCH && request.instance.is_none() {
        return invalid("InstanceId can't be null.");
    } else if request.epoch < LEAVE_FOR_NOW_EPOCH {
        return invalid("MemberEpoch is invalid.");
    }
    if let Some(wanted) = &request.assignor {
        let offered = &options.consumer_assignors;
        let is_offered = Assignor::from_name(wanted).is_some_and(|it| offered.contains(&it));
        if !is_offered {
            let names: Vec<&str> = offered.iter().map(|it| it.name()).collect();
            let message = format!(
                "ServerAssignor {wanted} is not supported. Supported assignors: {}.",
                names.join(", ")
            );
            return Err(Refused::new(ErrorCode::UnsupportedAssignor, message));
        }
    }
    if options.subscription_bytes_max < bytes(request) || TEXT_BYTES_MAX < longest(request) {
        return invalid("The subscription is too large.");
    }
    Ok(())
}

fn validate_join(request: &ConsumerHeartbeat) -> Result<(), Refused> {
    let invalid = |message: &str| Err(Refused::new(ErrorCode::InvalidRequest, message));
    if request.rebalance_timeout_ms.is_none() {
        return invalid("RebalanceTimeoutMs must be provided in first request.");
    }
    if request.owned.as_ref().is_none_or(|it| !it.is_empty()) {
        return invalid("TopicPartitions must be empty when (re-)joining.");
    }
    // An empty list is a member that subscribes to nothing yet.
    match (&request.topics, request.makes_own_id) {
        (None, true) if request.pattern.is_none() => invalid(
            "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when \
             (re-)joining.",
        ),
        (None, false) => invalid("SubscribedTopicNames must be set in first request."),
        _ => Ok(()),
    }
}

fn texts(request: &ConsumerHeartbeat) -> impl Iterator<Item = &String> {
    let optional = [&request.instance, &request.rack, &request.pattern];
    let named = [&request.group, &request.member, &request.client_id, &request.client_host];
    named.into_iter().chain(optional.into_iter().flatten()).chain(request.topics.iter().flatten())
}

fn bytes(request: &ConsumerHeartbeat) -> usize {
    texts(request).map(|it| it.len() + size_of::<i32>()).sum()
}

fn longest(request: &ConsumerHeartbeat) -> usize {
    texts(request).map(String::len).max().unwrap_or(0)
}

/// Whether the member is about to go.
pub(crate) fn is_leaving(request: &ConsumerHeartbeat) -> bool {
    matches!(request.epoch, LEAVE_EPOCH | LEAVE_FOR_NOW_EPOCH)
}
