//! The requests of members of classic groups, each to the group it names.

use std::sync::Arc;

use protocol::ErrorCode;

use crate::classic::{ClassicGroup, refused_join, refused_sync};
use crate::command::{Answer, Heartbeat, JoinGroup, LeaveGroup, Reply, SyncGroup, Ticket};
use crate::consumer::ConsumerGroup;
use crate::format;
use crate::group::Group;
use crate::shard::{After, Now, Outputs, Shard, Turn};

impl Shard {
    /// Runs `act` on a classic group that exists.
    pub(super) fn with_classic<T>(
        &mut self,
        now: Now,
        id: &str,
        outputs: &mut Outputs,
        act: impl FnOnce(&mut ClassicGroup, &mut Turn<'_>) -> T,
    ) -> Option<T> {
        self.with_group(now, id, outputs, |group, turn| {
            group.as_classic_mut().map(|group| act(group, turn))
        })?
    }

    pub(super) fn join(
        &mut self,
        now: Now,
        ticket: Ticket,
        join: JoinGroup,
        outputs: &mut Outputs,
    ) -> Option<Arc<str>> {
        let refuse =
            |error| Answer { ticket, reply: refused_join(error, &join.member), after: After::Now };
        let session = self.options.session_timeout_ms_min..=self.options.session_timeout_ms_max;
        if !session.contains(&join.session_timeout_ms) {
            outputs.answers.push(refuse(ErrorCode::InvalidSessionTimeout));
            return None;
        }
        if has_endless_text(&join) {
            outputs.answers.push(refuse(ErrorCode::InvalidRequest));
            return None;
        }
        match self.groups.get(join.group.as_str()) {
            Some(Group::Consumer(group)) if group.is_empty() => {
                // Nobody is in it: it makes room. Its committed offsets stay.
                outputs.units.push(group.tombstones());
                self.groups.remove(join.group.as_str());
            }
            Some(Group::Consumer(_)) => {
                self.with_consumer(now, &join.group, outputs, |group, turn| {
                    group.classic_join(turn, ticket, &join);
                });
                self.downgrade_if_classic(now, &join.group, outputs);
                return None;
            }
            Some(Group::Share(_)) => {
                outputs.answers.push(refuse(ErrorCode::InconsistentGroupProtocol));
                return None;
            }
            Some(Group::Classic(_)) | None => (),
        }
        if !self.groups.contains_key(join.group.as_str()) {
            if !join.member.is_empty() {
                outputs.answers.push(refuse(ErrorCode::UnknownMemberId));
                return None;
            }
            if self.options.groups_max <= self.groups.len() {
                outputs.answers.push(refuse(ErrorCode::CoordinatorNotAvailable));
                return None;
            }
            self.classic_or_new(&join.group, now.wall);
        }
        self.with_classic(now, &join.group, outputs, |group, turn| group.join(turn, ticket, &join));
        Some(join.group.into())
    }

    pub(super) fn leave(
        &mut self,
        now: Now,
        ticket: Ticket,
        leave: LeaveGroup,
        outputs: &mut Outputs,
    ) -> Option<Arc<str>> {
        let LeaveGroup { group, members } = leave;
        let (reply, after) = match self.groups.get(group.as_str()) {
            Some(Group::Classic(_)) => {
                let left =
                    self.with_classic(now, &group, outputs, |it, turn| it.leave(turn, members));
                (left.unwrap_or_default(), After::Now)
            }
            Some(Group::Consumer(_)) => {
                let leave =
                    |it: &mut ConsumerGroup, turn: &mut Turn<'_>| it.leave_many(turn, members);
                let left = self.with_consumer(now, &group, outputs, leave);
                (left.unwrap_or_default(), After::Commit)
            }
            Some(Group::Share(_)) | None => {
                let unknown = members.into_iter().map(|it| (it, ErrorCode::UnknownMemberId));
                (unknown.collect(), After::Now)
            }
        };
        outputs.answers.push(Answer { ticket, reply: Reply::Leave(reply), after });
        self.downgrade_if_classic(now, &group, outputs);
        Some(group.into())
    }

    pub(super) fn sync(
        &mut self,
        now: Now,
        ticket: Ticket,
        sync: SyncGroup,
        outputs: &mut Outputs,
    ) -> Option<Arc<str>> {
        let id = sync.group.clone();
        let found = self.with_group(now, &id, outputs, |group, turn| match group {
            Group::Classic(group) => group.sync(turn, ticket, sync),
            Group::Consumer(group) => group.classic_sync(turn, ticket, &sync),
            Group::Share(_) => {
                turn.answer(ticket, refused_sync(ErrorCode::UnknownMemberId));
            }
        });
        if found.is_none() {
            let reply = refused_sync(ErrorCode::UnknownMemberId);
            outputs.answers.push(Answer { ticket, reply, after: After::Now });
        }
        None
    }

    pub(super) fn heartbeat(
        &mut self,
        now: Now,
        heartbeat: &Heartbeat,
        outputs: &mut Outputs,
    ) -> (ErrorCode, After) {
        let answer = self.with_group(now, &heartbeat.group, outputs, |group, turn| match group {
            Group::Classic(group) => (group.heartbeat(turn, heartbeat), After::Now),
            Group::Consumer(group) => (group.classic_heartbeat(turn, heartbeat), After::Commit),
            Group::Share(_) => (ErrorCode::UnknownMemberId, After::Now),
        });
        answer.unwrap_or((ErrorCode::UnknownMemberId, After::Now))
    }
}

/// Whether a text of the join would not fit into a record, a member id made of it included.
fn has_endless_text(join: &JoinGroup) -> bool {
    const UUID: usize = 1 + 36;
    let named =
        [&join.group, &join.member, &join.client_id, &join.client_host, &join.protocol_type];
    let texts = named.into_iter().chain(&join.instance);
    let mut texts = texts.chain(join.protocols.iter().map(|it| &it.name));
    texts.any(|it| format::TEXT_BYTES_MAX - UUID < it.len())
}
