//! "Authorized operations" bit sets (KIP-430): what the one who asks may do with a resource. Without an authorizer that
//! is everything that can be done with it.

use cluster::{AclOperation, AclResource};

use crate::access::CLUSTER_NAME;
use crate::context::RequestContext;

/// What clients read as "not asked for".
const NOT_SHOWN: i32 = i32::MIN;

const READ: i32 = 1 << 3;
const WRITE: i32 = 1 << 4;
const CREATE: i32 = 1 << 5;
const DELETE: i32 = 1 << 6;
const ALTER: i32 = 1 << 7;
const DESCRIBE: i32 = 1 << 8;
const CLUSTER_ACTION: i32 = 1 << 9;
const DESCRIBE_CONFIGS: i32 = 1 << 10;
const ALTER_CONFIGS: i32 = 1 << 11;
const IDEMPOTENT_WRITE: i32 = 1 << 12;

const TOPIC: i32 =
    READ | WRITE | CREATE | DELETE | ALTER | DESCRIBE | DESCRIBE_CONFIGS | ALTER_CONFIGS;
const CLUSTER: i32 = CREATE
    | ALTER
    | DESCRIBE
    | CLUSTER_ACTION
    | DESCRIBE_CONFIGS
    | ALTER_CONFIGS
    | IDEMPOTENT_WRITE;
const GROUP: i32 = READ | DELETE | DESCRIBE | DESCRIBE_CONFIGS | ALTER_CONFIGS;

pub(crate) fn of_topic(context: &RequestContext, name: &str) -> i32 {
    context.operations(AclResource::Topic, name).within(TOPIC)
}

/// If the request asked to see them.
pub(crate) fn of_group(context: &RequestContext, asked: bool, name: &str) -> i32 {
    match asked {
        true => context.operations(AclResource::Group, name).within(GROUP),
        false => NOT_SHOWN,
    }
}

/// If the request asked to see them. None are shown to who may not describe the cluster.
pub(crate) fn of_cluster(context: &RequestContext, asked: bool) -> i32 {
    match asked {
        true if context.allows_cluster(AclOperation::Describe) => {
            context.operations(AclResource::Cluster, CLUSTER_NAME).within(CLUSTER)
        }
        true => 0,
        false => NOT_SHOWN,
    }
}

/// For what is shown only if it was asked for.
pub(crate) fn shown(asked: bool, operations: impl FnOnce() -> i32) -> i32 {
    if asked { operations() } else { NOT_SHOWN }
}
