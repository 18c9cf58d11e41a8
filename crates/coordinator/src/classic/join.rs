//! JoinGroup: who may come in, and what that does to the group.

use std::sync::Arc;

use protocol::ErrorCode;

use crate::classic::ClassicGroup;
use crate::classic::member::{Member, metadata_bytes, millis, refused_join};
use crate::command::{GroupState, JoinGroup, JoinReply, Protocol, Reply, Ticket};
use crate::event::Event;
use crate::format;
use crate::shard::Turn;
use crate::timers::Alarm;

impl ClassicGroup {
    /// The caller has created the group if the member has no id yet, and has refused members with
    /// an id that name a group which does not exist.
    pub(crate) fn join(&mut self, turn: &mut Turn<'_>, ticket: Ticket, join: &JoinGroup) {
        let refuse = |error| refused_join(error, &join.member);
        if self.would_overflow(turn, join) {
            turn.answer(ticket, refuse(ErrorCode::GroupMaxSizeReached));
        } else if !self.accepts(turn, join) {
            if !self.forget_pending(turn, &join.member) {
                self.remove(turn, &join.member, ErrorCode::GroupMaxSizeReached);
            }
            turn.answer(ticket, refused_join(ErrorCode::GroupMaxSizeReached, ""));
            self.complete_join_if_all_joined(turn);
        } else if !self.supports(join) {
            turn.answer(ticket, refuse(ErrorCode::InconsistentGroupProtocol));
        } else if join.member.is_empty() {
            self.join_new(turn, ticket, join);
        } else if join.instance.is_none()
            && let Some((id, at)) = self.pending.remove_entry(join.member.as_str())
        {
            turn.timers.cancel(at, Alarm::Session(Arc::clone(&self.id), Arc::clone(&id)));
            self.add(turn, ticket, join, &id);
        } else {
            match self.validate_member(&join.member, join.instance.as_deref()) {
                Ok(()) => self.rejoin(turn, ticket, join),
                Err(error) => turn.answer(ticket, refuse(error)),
            }
        }
    }

    /// All members' metadata travels in one answer to the leader: it is bounded.
    fn would_overflow(&self, turn: &Turn<'_>, join: &JoinGroup) -> bool {
        let before = self.members.get(join.member.as_str()).map_or(0, Member::metadata_bytes);
        let bytes = self.metadata_bytes - before + metadata_bytes(&join.protocols);
        turn.options.group_metadata_bytes_max < bytes
    }

    /// In the join phase those who wait are counted, not the members: so a group that is above a
    /// lowered limit sheds its last rejoining members.
    fn accepts(&self, turn: &Turn<'_>, join: &JoinGroup) -> bool {
        let known = self.members.get(join.member.as_str());
        let members_max = turn.options.group_members_max;
        match self.state {
            GroupState::Empty
            | GroupState::Dead
            | GroupState::Assigning
            | GroupState::Reconciling => true,
            GroupState::PreparingRebalance => {
                known.is_some_and(|it| it.join.is_some()) || self.joining < members_max
            }
            GroupState::CompletingRebalance | GroupState::Stable => {
                known.is_some() || self.members.len() < members_max
            }
        }
    }

    /// Whether the member speaks the group's protocol type and one protocol that all speak.
    fn supports(&self, join: &JoinGroup) -> bool {
        if self.is_empty() {
            return !join.protocol_type.is_empty() && !join.protocols.is_empty();
        }
        let by_all =
            |it: &Protocol| self.support.get(&it.name).is_some_and(|n| *n == self.members.len());
        let same_type = self.protocol_type.as_deref() == Some(join.protocol_type.as_str());
        // Between the departure of the last member and the end of the join phase nobody is left
        // to agree with.
        same_type
            && (self.members.is_empty() || join.protocols.iter().any(by_all))
            && !join.protocols.is_empty()
    }

    fn join_new(&mut self, turn: &mut Turn<'_>, ticket: Ticket, join: &JoinGroup) {
        let id: Arc<str> = fresh_member_id(join).into();
        let holder = join.instance.as_ref().and_then(|it| self.statics.get(it)).cloned();
        match (holder, join.instance.is_some()) {
            (Some(holder), _) => self.rejoin_static(turn, ticket, join, &holder, &id),
            (None, false) if join.known_member_required => self.hand_out(turn, ticket, join, id),
            (None, _) => self.add(turn, ticket, join, &id),
        }
    }

    /// Gives the member an id to come back with, so that a client that never does leaves nothing
    /// behind but this id, for one session (KIP-394).
    fn hand_out(&mut self, turn: &mut Turn<'_>, ticket: Ticket, join: &JoinGroup, id: Arc<str>) {
        if turn.options.pending_members_max <= self.pending.len() {
            return turn.answer(ticket, refused_join(ErrorCode::GroupMaxSizeReached, ""));
        }
        turn.answer(ticket, refused_join(ErrorCode::MemberIdRequired, &id));
        let at = turn.now.tick.plus(millis(join.session_timeout_ms));
        turn.timers.set(at, Alarm::Session(Arc::clone(&self.id), Arc::clone(&id)));
        self.pending.insert(id, at);
    }

    fn add(&mut self, turn: &mut Turn<'_>, ticket: Ticket, join: &JoinGroup, id: &Arc<str>) {
        if self.state == GroupState::PreparingRebalance && self.from_empty {
            self.newcomer = true;
        }
        if self.members.is_empty() {
            self.protocol_type = Some(join.protocol_type.clone());
        }
        self.insert(Member::joining(id, join));
        self.arm_session_for(turn, id, turn.options.new_member_wait_ms);
        self.join_phase(turn, ticket, id);
    }

    fn rejoin(&mut self, turn: &mut Turn<'_>, ticket: Ticket, join: &JoinGroup) {
        let (id, member) =
            self.members.get_key_value(join.member.as_str()).expect("the member was validated");
        let id = Arc::clone(id);
        let is_leader = self.leader.as_ref() == Some(&id);
        let unchanged = member.matches(&join.protocols);
        let repeats = match self.state {
            // The answer to its first join was lost.
            GroupState::CompletingRebalance => unchanged,
            // A leader that joins again wants a rebalance, for reasons only it can see.
            GroupState::Stable => unchanged && !is_leader,
            GroupState::PreparingRebalance
            | GroupState::Empty
            | GroupState::Dead
            | GroupState::Assigning
            | GroupState::Reconciling => false,
        };
        if repeats {
            let reply = self.join_reply(&id);
            return turn.answer_after_commit(ticket, reply);
        }
        self.update(&id, join);
        self.join_phase(turn, ticket, &id);
    }

    /// Lets the request wait in the join phase, which it starts if none runs; a group whose only
    /// member this is completes at once.
    fn join_phase(&mut self, turn: &mut Turn<'_>, ticket: Ticket, id: &Arc<str>) {
        self.await_join(turn, id, ticket);
        self.rebalance(turn);
    }

    /// The process behind an instance id came back without its member id: it gets a new one and
    /// keeps the old place, partitions included (KIP-345).
    fn rejoin_static(
        &mut self,
        turn: &mut Turn<'_>,
        ticket: Ticket,
        join: &JoinGroup,
        old: &Arc<str>,
        new: &Arc<str>,
    ) {
        let leader_before = self.leader.clone();
        self.replace_static(turn, old, new);
        self.update(new, join);
        self.arm_session(turn, new);
        match self.state {
            GroupState::Stable if self.select_protocol() == self.protocol => {
                // Nothing that the assignment rests on has changed: no rebalance.
                let (group, image) = (self.id.to_string(), self.to_image());
                let stored = Event::GroupStored { group, image };
                if turn.options.step_bytes_max < format::encoded_len(&stored) {
                    return self.join_phase(turn, ticket, new);
                }
                turn.emit(stored);
                let reply = self.static_reply(join, new, leader_before.as_deref());
                turn.answer_after_commit(ticket, reply);
            }
            // In CompletingRebalance the leader may already compute with the old id, so that the
            // new one would get no assignment: it takes another round.
            _ => self.join_phase(turn, ticket, new),
        }
    }

    fn static_reply(&self, join: &JoinGroup, id: &str, leader_before: Option<&str>) -> Reply {
        let is_leader = self.leader.as_deref() == Some(id);
        // A client that does not know "skip the assignment" is told the old leader's id, lest it
        // takes itself for the leader and computes an assignment nobody wants (KIP-814).
        let (leader, skip, members) = if join.skip_assignment_supported {
            let members = if is_leader { self.join_members() } else { Vec::new() };
            (self.leader.as_deref(), is_leader, members)
        } else {
            (leader_before, false, Vec::new())
        };
        Reply::Join(JoinReply {
            error: ErrorCode::None,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: leader.unwrap_or_default().to_owned(),
            skip_assignment: skip,
            member: id.to_owned(),
            members,
        })
    }
}

/// The id of a member that has none yet.
pub(crate) fn fresh_member_id(join: &JoinGroup) -> String {
    let prefix = join.instance.as_deref().unwrap_or(&join.client_id);
    format!("{prefix}-{}", uuid(join.fresh_id))
}

/// 128 random bits in the form of a random UUID (RFC 9562, version 4).
fn uuid(random: u128) -> String {
    let bits = (random & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::uuid;

    #[test]
    fn member_ids_look_like_random_uuids() {
        assert_eq!(uuid(0), "00000000-0000-4000-8000-000000000000");
        assert_eq!(uuid(u128::MAX), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }
}
