//! JoinGroup (key 11): a member enters its group's next generation.

use std::sync::Arc;

use cluster::AclOperation;
use coordinator::{Command, JoinGroup, JoinMember, JoinReply, Protocol, Reply};
use protocol::ErrorCode;
use protocol::messages::join_group::response::JoinGroupResponseMember;
use protocol::messages::join_group::{Request, Response};

use crate::broker::Broker;
use crate::context::RequestContext;

/// The first version whose clients come back with the id they are given (KIP-394).
const KNOWN_MEMBER_VERSION: i16 = 4;

/// The first version that may answer without a protocol.
const NULLABLE_PROTOCOL_VERSION: i16 = 7;

/// The first version whose clients can be told to keep the assignment (KIP-814).
const SKIP_ASSIGNMENT_VERSION: i16 = 9;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: Request,
) -> Response {
    let version = context.version;
    let member_id = request.member_id.clone();
    if !context.allows_group(AclOperation::Read, &request.group_id) {
        return refused(version, ErrorCode::GroupAuthorizationFailed, member_id);
    }
    if request.group_id.is_empty() {
        return refused(version, ErrorCode::InvalidGroupId, member_id);
    }
    if let Some(reason) = &request.reason {
        tracing::debug!(group = request.group_id, member = member_id, reason, "member joins");
    }
    let join = command(broker, context, request);
    let group = join.group.clone();
    let command = Command::Join(Box::new(join));
    let pick = |reply| if let Reply::Join(it) = reply { Some(it) } else { None };
    match broker.groups.ask(broker, &group, command, pick).await {
        Ok(reply) => answer(version, reply),
        Err(code) => refused(version, code, member_id),
    }
}

fn command(broker: &Broker, context: &RequestContext, request: Request) -> JoinGroup {
    let rebalance_timeout_ms = rebalance_timeout_ms(&request);
    let protocols = request.protocols.into_iter();
    JoinGroup {
        known_member_required: KNOWN_MEMBER_VERSION <= context.version
            && request.group_instance_id.is_none(),
        group: request.group_id,
        member: request.member_id,
        instance: request.group_instance_id,
        fresh_id: broker.environment.entropy.next_u128(),
        client_id: context.client_id.clone().unwrap_or_default(),
        client_host: context.host_for_display(),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms,
        protocol_type: request.protocol_type,
        protocols: protocols.map(|it| Protocol { name: it.name, metadata: it.metadata }).collect(),
        skip_assignment_supported: SKIP_ASSIGNMENT_VERSION <= context.version,
    }
}

/// Version 0 has one time-out for session and rebalance.
fn rebalance_timeout_ms(request: &Request) -> i32 {
    match request.rebalance_timeout_ms {
        timeout if timeout < 0 => request.session_timeout_ms,
        timeout => timeout,
    }
}

fn refused(version: i16, code: ErrorCode, member_id: String) -> Response {
    answer(
        version,
        JoinReply {
            error: code,
            generation: -1,
            protocol_type: None,
            protocol: None,
            leader: String::new(),
            skip_assignment: false,
            member: member_id,
            members: Vec::new(),
        },
    )
}

fn answer(version: i16, reply: JoinReply) -> Response {
    let member = |it: JoinMember| JoinGroupResponseMember {
        member_id: it.member.to_string(),
        group_instance_id: it.instance,
        metadata: it.metadata,
    };
    Response {
        error_code: reply.error.code(),
        generation_id: reply.generation,
        protocol_type: reply.protocol_type,
        protocol_name: match reply.protocol {
            None if version < NULLABLE_PROTOCOL_VERSION => Some(String::new()),
            protocol => protocol,
        },
        leader: reply.leader,
        skip_assignment: reply.skip_assignment,
        member_id: reply.member,
        members: reply.members.into_iter().map(member).collect(),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use protocol::{Decoder, Encoder, Message};

    use super::*;

    #[test]
    fn version_0_has_one_timeout_for_both() {
        let asked = Request {
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 60_000,
            ..Default::default()
        };
        // As it comes in: in version 0 the field is not there.
        let timeout_of = |version| {
            let mut sink = Encoder::new();
            asked.encode(&mut sink, version);
            let mut source = Decoder::new(BytesMut::from(&sink.finish().to_bytes()[..]));
            let read = Request::decode(&mut source, version).expect("it is well-formed");
            rebalance_timeout_ms(&read)
        };
        assert_eq!([0, 1, 9].map(timeout_of), [10_000, 60_000, 60_000]);
    }
}
