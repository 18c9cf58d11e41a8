//! OffsetFetch (key 9): how far groups have come. One group, from version 8 many; topics by name,
//! from version 10 by id.
//!
//! Who requires stable offsets is told, partition by partition, what an open transaction may still
//! change (KIP-447).

use std::sync::Arc;

use cluster::AclOperation;
use coordinator::{Command, FetchOffsets, FetchTopics, FetchedOffset, Reply};
use protocol::ErrorCode;
use protocol::messages::offset_fetch::request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use protocol::messages::offset_fetch::response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use protocol::messages::offset_fetch::{Request, Response};
use vocabulary::{Offset, TopicId};

use crate::broker::Broker;
use crate::context::RequestContext;

/// The first version with a code for the whole answer.
const GROUP_CODE_VERSION: i16 = 2;

/// The first version that asks for many groups (KIP-709).
const BATCH_VERSION: i16 = 8;

/// The first version that names topics by id (KIP-848).
const TOPIC_ID_VERSION: i16 = 10;

/// Who asks, from version 9 on by its epoch in a consumer group (KIP-848).
struct Reader<'a> {
    group: &'a str,
    member: Option<String>,
    member_epoch: i32,
}

/// What was found for one topic.
struct Row {
    name: String,
    id: TopicId,
    partitions: Vec<(FetchedOffset, ErrorCode)>,
}

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: Request,
) -> Response {
    if context.version < BATCH_VERSION {
        return one_group(broker, context, request).await;
    }
    let by_id = TOPIC_ID_VERSION <= context.version;
    let stable = request.require_stable;
    let mut groups = Vec::with_capacity(request.groups.len());
    for OffsetFetchRequestGroup { group_id, member_id, member_epoch, topics } in request.groups {
        let reader = Reader { group: &group_id, member: member_id, member_epoch };
        let (rows, code) = match fetch(broker, context, reader, topics, by_id, stable).await {
            Ok(rows) => (rows, ErrorCode::None),
            Err(code) => (Vec::new(), code),
        };
        groups.push(OffsetFetchResponseGroup {
            group_id,
            topics: rows.into_iter().map(topic_of_group).collect(),
            error_code: code.code(),
        });
    }
    Response { groups, ..Default::default() }
}

async fn one_group(broker: &Arc<Broker>, context: &RequestContext, request: Request) -> Response {
    let by_name = |it: OffsetFetchRequestTopic| OffsetFetchRequestTopics {
        name: it.name,
        partition_indexes: it.partition_indexes,
        ..Default::default()
    };
    let asked: Option<Vec<OffsetFetchRequestTopics>> =
        request.topics.map(|topics| topics.into_iter().map(by_name).collect());
    let reader = Reader { group: &request.group_id, member: None, member_epoch: -1 };
    let fetched =
        fetch(broker, context, reader, asked.clone(), false, request.require_stable).await;
    let (rows, code) = match fetched {
        Ok(rows) => (rows, ErrorCode::None),
        // Version 1 can tell only partition by partition.
        Err(code) if context.version < GROUP_CODE_VERSION => {
            let rows = asked.unwrap_or_default().into_iter().map(|it| refused(it, code));
            (rows.collect(), code)
        }
        Err(code) => (Vec::new(), code),
    };
    Response {
        topics: rows.into_iter().map(topic_of_one).collect(),
        error_code: code.code(),
        ..Default::default()
    }
}

/// What may be told of what the coordinator knows.
async fn fetch(
    broker: &Arc<Broker>,
    context: &RequestContext,
    reader: Reader<'_>,
    asked: Option<Vec<OffsetFetchRequestTopics>>,
    by_id: bool,
    require_stable: bool,
) -> Result<Vec<Row>, ErrorCode> {
    if !context.allows_group(AclOperation::Describe, reader.group) {
        return Err(ErrorCode::GroupAuthorizationFailed);
    }
    let Some(asked) = asked else {
        let mut rows = fetch_known(broker, reader, None, by_id, require_stable).await?;
        rows.retain(|it| context.sees_topic(AclOperation::Describe, &it.name));
        return Ok(rows);
    };
    let is_denied = |it: &OffsetFetchRequestTopics| {
        let name = name_of(broker, it, by_id);
        name.is_some_and(|it| !context.allows_topic(AclOperation::Describe, &it))
    };
    let (denied, allowed): (Vec<_>, Vec<_>) = asked.into_iter().partition(is_denied);
    let mut rows = fetch_known(broker, reader, Some(allowed), by_id, require_stable).await?;
    let code = ErrorCode::TopicAuthorizationFailed;
    rows.extend(denied.into_iter().map(|it| refused(it, code)));
    Ok(rows)
}

async fn fetch_known(
    broker: &Arc<Broker>,
    reader: Reader<'_>,
    asked: Option<Vec<OffsetFetchRequestTopics>>,
    by_id: bool,
    require_stable: bool,
) -> Result<Vec<Row>, ErrorCode> {
    let wanted = match &asked {
        None => FetchTopics::All,
        Some(topics) => {
            let known = topics
                .iter()
                .filter_map(|it| Some((name_of(broker, it, by_id)?, it.partition_indexes.clone())));
            FetchTopics::Some(known.collect())
        }
    };
    let Reader { group, member, member_epoch } = reader;
    let group_id = group.to_owned();
    let command = Command::Fetch(FetchOffsets {
        group: group_id,
        member,
        member_epoch,
        topics: wanted,
        require_stable,
    });
    let pick = |reply| if let Reply::Fetch(it) = reply { Some(it) } else { None };
    let reply = broker.groups.ask(broker, group, command, pick).await?;
    if reply.error != ErrorCode::None {
        return Err(reply.error);
    }
    let found = |(name, offsets): (String, Vec<FetchedOffset>), id| Row {
        name,
        id,
        partitions: offsets
            .into_iter()
            .map(|it| (code_of(&it), it))
            .map(|(code, it)| (it, code))
            .collect(),
    };
    let mut replies = reply.topics.into_iter();
    let Some(topics) = asked else {
        // By id, a topic that has gone cannot be named; its offsets go with it.
        let rows = replies.filter_map(|row| match broker.view.topic(&row.0) {
            Some(topic) => Some(found(row, topic.id)),
            None if by_id => None,
            None => Some(found(row, TopicId::ZERO)),
        });
        return Ok(rows.collect());
    };
    let rows = topics.into_iter().map(|asked| match name_of(broker, &asked, by_id) {
        Some(name) => {
            let row = replies.next().filter(|(answered, _)| *answered == name);
            match row {
                Some(row) => found(row, asked.topic_id),
                // Deleted, or created, while the coordinator was asked.
                None => refused(asked, ErrorCode::UnknownTopicOrPartition),
            }
        }
        None => refused(asked, ErrorCode::UnknownTopicId),
    });
    Ok(rows.collect())
}

/// Only ids need to be looked up: of a topic that does not exist nothing is committed.
fn name_of(broker: &Broker, asked: &OffsetFetchRequestTopics, by_id: bool) -> Option<String> {
    if by_id {
        broker.view.topic_by_id(asked.topic_id).map(|it| it.name.clone())
    } else {
        Some(asked.name.clone())
    }
}

fn refused(asked: OffsetFetchRequestTopics, code: ErrorCode) -> Row {
    let partition = |partition| {
        let (offset, metadata) = (Offset(-1), String::new());
        let is_unstable = false;
        (FetchedOffset { partition, offset, leader_epoch: -1, metadata, is_unstable }, code)
    };
    let partitions = asked.partition_indexes.into_iter().map(partition).collect();
    Row { name: asked.name, id: asked.topic_id, partitions }
}

fn code_of(offset: &FetchedOffset) -> ErrorCode {
    if offset.is_unstable { ErrorCode::UnstableOffsetCommit } else { ErrorCode::None }
}

fn topic_of_group(row: Row) -> OffsetFetchResponseTopics {
    let partitions = row.partitions.into_iter().map(|(it, code)| OffsetFetchResponsePartitions {
        partition_index: it.partition,
        committed_offset: it.offset.0,
        committed_leader_epoch: it.leader_epoch,
        metadata: Some(it.metadata),
        error_code: code.code(),
    });
    let partitions = partitions.collect();
    OffsetFetchResponseTopics { name: row.name, topic_id: row.id, partitions }
}

fn topic_of_one(row: Row) -> OffsetFetchResponseTopic {
    let partitions = row.partitions.into_iter().map(|(it, code)| OffsetFetchResponsePartition {
        partition_index: it.partition,
        committed_offset: it.offset.0,
        committed_leader_epoch: it.leader_epoch,
        metadata: Some(it.metadata),
        error_code: code.code(),
    });
    let partitions = partitions.collect();
    OffsetFetchResponseTopic { name: row.name, partitions }
}
