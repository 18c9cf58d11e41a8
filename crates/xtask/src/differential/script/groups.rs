//! Classic groups and their offsets at their edges.

use anyhow::Result;
use bytes::Bytes;
use protocol::messages::delete_groups::{self, DeleteGroups};
use protocol::messages::describe_groups::{self, DescribeGroups};
use protocol::messages::find_coordinator::{self, FindCoordinator};
use protocol::messages::heartbeat::{self, Heartbeat};
use protocol::messages::join_group::{self, JoinGroup};
use protocol::messages::leave_group::{self, LeaveGroup};
use protocol::messages::offset_commit::{self, OffsetCommit};
use protocol::messages::offset_delete::{self, OffsetDelete};
use protocol::messages::offset_fetch::{self, OffsetFetch};
use protocol::messages::sync_group::{self, SyncGroup};
use vocabulary::TopicId;

use super::Asking;

pub(super) fn joining_as(group: &str, member: &str) -> join_group::Request {
    join_group::Request {
        group_id: group.to_owned(),
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: 30_000,
        member_id: member.to_owned(),
        protocol_type: "consumer".to_owned(),
        protocols: vec![join_group::request::JoinGroupRequestProtocol {
            name: "range".to_owned(),
            metadata: Bytes::from_static(&[
                0, 0, 0, 0, 0, 1, 0, 4, b'r', b'e', b'a', b'd', 0, 0, 0, 0,
            ]),
        }],
        ..Default::default()
    }
}

pub(super) fn beating(group: &str, generation: i32, member: &str) -> heartbeat::Request {
    heartbeat::Request {
        group_id: group.to_owned(),
        generation_id: generation,
        member_id: member.to_owned(),
        group_instance_id: None,
    }
}

pub(super) fn joining(asking: &mut Asking<'_>) -> Result<()> {
    let looking = |kind: i8, key: &str| find_coordinator::Request {
        key_type: kind,
        coordinator_keys: vec![key.to_owned()],
        ..Default::default()
    };
    let found = |answer: &find_coordinator::Response| answer.coordinators[0].error_code == 0;
    asking.until::<FindCoordinator>(4, &looking(0, "group"), found)?;
    let ready = |answer: &heartbeat::Response| answer.error_code == 25;
    asking.until::<Heartbeat>(4, &beating("warm-up", 1, "nobody"), ready)?;
    asking.ask::<FindCoordinator>("a group", 4, &looking(0, "group"))?;
    asking.ask::<FindCoordinator>("no group", 4, &looking(0, ""))?;
    asking.ask::<FindCoordinator>("unknown kind", 4, &looking(9, "group"))?;

    let member = entering(asking)?;
    syncing_and_beating(asking, &member)?;
    as_a_member(asking, &member)
}

/// Becomes the only member of `group`; returns its id.
fn entering(asking: &mut Asking<'_>) -> Result<String> {
    let mut request = joining_as("", "");
    asking.ask::<JoinGroup>("no group", 9, &request)?;
    for timeout in [0, 10, 100_000_000] {
        request = joining_as("group", "");
        request.session_timeout_ms = timeout;
        asking.ask::<JoinGroup>(&format!("a session of {timeout} ms"), 9, &request)?;
    }
    asking.ask::<JoinGroup>("an unknown member", 9, &joining_as("group", "nobody"))?;
    request = joining_as("group", "");
    request.protocols.clear();
    asking.ask::<JoinGroup>("no protocols", 9, &request)?;
    request = joining_as("group", "");
    request.protocol_type.clear();
    asking.ask::<JoinGroup>("no protocol type", 9, &request)?;
    let member = asking.ask::<JoinGroup>("first", 9, &joining_as("group", ""))?.member_id;
    asking.ask::<JoinGroup>("with the id", 9, &joining_as("group", &member))?;
    request = joining_as("group", "");
    request.protocol_type = "connect".to_owned();
    asking.ask::<JoinGroup>("another protocol type", 3, &request)?;
    request = joining_as("group", "");
    request.protocols[0].name = "other".to_owned();
    asking.ask::<JoinGroup>("no common protocol", 3, &request)?;

    Ok(member)
}

fn syncing_and_beating(asking: &mut Asking<'_>, member: &str) -> Result<()> {
    let syncing = |generation: i32, member: &str, kind: Option<&str>| sync_group::Request {
        group_id: "group".to_owned(),
        generation_id: generation,
        member_id: member.to_owned(),
        protocol_type: kind.map(str::to_owned),
        protocol_name: Some("range".to_owned()),
        assignments: vec![sync_group::request::SyncGroupRequestAssignment {
            member_id: member.to_owned(),
            assignment: Bytes::from_static(b"mine"),
        }],
        ..Default::default()
    };
    asking.ask::<SyncGroup>("another generation", 5, &syncing(9, member, Some("consumer")))?;
    asking.ask::<SyncGroup>("an unknown member", 5, &syncing(1, "nobody", Some("consumer")))?;
    asking.ask::<SyncGroup>("another protocol type", 5, &syncing(1, member, Some("x")))?;
    asking.ask::<SyncGroup>("no protocol type", 5, &syncing(1, member, None))?;
    asking.ask::<SyncGroup>("as it should be", 5, &syncing(1, member, Some("consumer")))?;
    asking.ask::<Heartbeat>("another generation", 4, &beating("group", 9, member))?;
    asking.ask::<Heartbeat>("an unknown member", 4, &beating("group", 1, "nobody"))?;
    asking.ask::<Heartbeat>("an unknown group", 4, &beating("nobody", 1, "nobody"))?;
    asking.ask::<Heartbeat>("no group", 4, &beating("", 1, member))?;
    asking.ask::<Heartbeat>("as it should be", 4, &beating("group", 1, member))?;
    Ok(())
}

fn as_a_member(asking: &mut Asking<'_>, member: &str) -> Result<()> {
    let describing = |name: &str| describe_groups::Request {
        groups: vec![name.to_owned()],
        include_authorized_operations: false,
    };
    for version in [5, 6] {
        asking.ask::<DescribeGroups>("a group", version, &describing("group"))?;
        asking.ask::<DescribeGroups>("an unknown group", version, &describing("nobody"))?;
        asking.ask::<DescribeGroups>("no group", version, &describing(""))?;
    }
    let committed = commit("group", 9, member, "read", 0, 3, None);
    asking.ask::<OffsetCommit>("another generation", 8, &committed)?;
    let committed = commit("group", 1, "nobody", "read", 0, 3, None);
    asking.ask::<OffsetCommit>("an unknown member", 8, &committed)?;
    let committed = commit("group", 1, member, "read", 0, 3, None);
    asking.ask::<OffsetCommit>("a member", 8, &committed)?;
    asking.ask::<OffsetCommit>("a stranger", 8, &commit("group", -1, "", "read", 0, 3, None))?;
    let deletion = delete_groups::Request { groups_names: vec!["group".to_owned()] };
    asking.ask::<DeleteGroups>("with members", 2, &deletion)?;
    asking.ask::<OffsetDelete>("of what is subscribed", 0, &forget("group", "read"))?;
    asking.ask::<OffsetDelete>("of what is not", 0, &forget("group", "log"))?;
    let leaving = |group: &str, member: &str| leave_group::Request {
        group_id: group.to_owned(),
        members: vec![leave_group::request::MemberIdentity {
            member_id: member.to_owned(),
            ..Default::default()
        }],
        ..Default::default()
    };
    asking.ask::<LeaveGroup>("an unknown member", 5, &leaving("group", "nobody"))?;
    asking.ask::<LeaveGroup>("an unknown group", 5, &leaving("nobody", "nobody"))?;
    asking.ask::<LeaveGroup>("no group", 5, &leaving("", member))?;
    asking.ask::<LeaveGroup>("as it should be", 5, &leaving("group", member))?;
    asking.ask::<Heartbeat>("after leaving", 4, &beating("group", 1, member))?;
    asking.ask::<DescribeGroups>("an empty group", 6, &describing("group"))?;
    Ok(())
}

pub(super) fn commit(
    group: &str,
    generation: i32,
    member: &str,
    topic: &str,
    partition: i32,
    offset: i64,
    metadata: Option<String>,
) -> offset_commit::Request {
    offset_commit::Request {
        group_id: group.to_owned(),
        generation_id_or_member_epoch: generation,
        member_id: member.to_owned(),
        topics: vec![offset_commit::request::OffsetCommitRequestTopic {
            name: topic.to_owned(),
            topic_id: TopicId::default(),
            partitions: vec![offset_commit::request::OffsetCommitRequestPartition {
                partition_index: partition,
                committed_offset: offset,
                committed_metadata: metadata,
                ..Default::default()
            }],
        }],
        ..Default::default()
    }
}

fn forget(group: &str, topic: &str) -> offset_delete::Request {
    offset_delete::Request {
        group_id: group.to_owned(),
        topics: vec![offset_delete::request::OffsetDeleteRequestTopic {
            name: topic.to_owned(),
            partitions: vec![offset_delete::request::OffsetDeleteRequestPartition {
                partition_index: 0,
            }],
        }],
    }
}

pub(super) fn committing(asking: &mut Asking<'_>) -> Result<()> {
    let long = Some("m".repeat(5000));
    let text = Some("note".to_owned());
    let simple = |topic: &str, partition, offset, metadata| {
        commit("simple", -1, "", topic, partition, offset, metadata)
    };
    asking.ask::<OffsetCommit>("simple", 8, &simple("read", 0, 5, text.clone()))?;
    asking.ask::<OffsetCommit>("beyond the end", 8, &simple("log", 0, 5_000_000, None))?;
    asking.ask::<OffsetCommit>("negative", 8, &simple("log", 1, -5, None))?;
    asking.ask::<OffsetCommit>("long metadata", 8, &simple("read", 0, 6, long))?;
    asking.ask::<OffsetCommit>("unknown topic", 8, &simple("nobody", 0, 6, None))?;
    asking.ask::<OffsetCommit>("unknown partition", 8, &simple("read", 9, 6, None))?;
    asking.ask::<OffsetCommit>("no group", 8, &commit("", -1, "", "read", 0, 1, None))?;
    asking.ask::<OffsetCommit>(
        "a generation of nothing",
        8,
        &commit("new", 3, "", "read", 0, 1, None),
    )?;
    asking.ask::<OffsetCommit>(
        "a member of nothing",
        8,
        &commit("new", -1, "me", "read", 0, 1, None),
    )?;
    let wanted = |group: &str, topic: Option<(&str, i32)>| offset_fetch::Request {
        groups: vec![offset_fetch::request::OffsetFetchRequestGroup {
            group_id: group.to_owned(),
            member_id: None,
            member_epoch: -1,
            topics: topic.map(|(name, partition)| {
                vec![offset_fetch::request::OffsetFetchRequestTopics {
                    name: name.to_owned(),
                    topic_id: TopicId::default(),
                    partition_indexes: vec![partition],
                }]
            }),
        }],
        ..Default::default()
    };
    for (step, group, topic) in [
        ("one", "simple", Some(("read", 0))),
        ("another", "simple", Some(("log", 1))),
        ("unknown topic", "simple", Some(("nobody", 0))),
        ("unknown partition", "simple", Some(("read", 9))),
        ("of an unknown group", "nobody", Some(("read", 0))),
        ("all of an unknown group", "nobody", None),
        ("no group", "", Some(("read", 0))),
        ("of a group", "group", Some(("read", 0))),
    ] {
        asking.ask::<OffsetFetch>(step, 8, &wanted(group, topic))?;
    }
    Ok(())
}

pub(super) fn administering(asking: &mut Asking<'_>) -> Result<()> {
    asking.ask::<OffsetDelete>("of an unknown group", 0, &forget("nobody", "read"))?;
    asking.ask::<OffsetDelete>("of an unknown topic", 0, &forget("simple", "nobody"))?;
    asking.ask::<OffsetDelete>("of a simple group", 0, &forget("simple", "read"))?;
    for (step, name) in
        [("unknown", "nobody"), ("none", ""), ("empty", "group"), ("simple", "simple")]
    {
        let request = delete_groups::Request { groups_names: vec![name.to_owned()] };
        asking.ask::<DeleteGroups>(step, 2, &request)?;
    }
    Ok(())
}
