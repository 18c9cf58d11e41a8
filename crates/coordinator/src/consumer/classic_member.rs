//! Members of a consumer group that still speak the classic protocol (KIP-848, online migration).
//!
//! To them the group looks like one that rebalances: their generation is their member epoch, nobody of
//! them leads, and the assignment of SyncGroup is what the coordinator has decided. A request is
//! answered at once; a member that is to rejoin learns it with its next heartbeat and has its rebalance
//! timeout for it.

use std::sync::Arc;

use protocol::ErrorCode;

use crate::classic::{fresh_member_id, metadata_bytes, refused_join, refused_sync};
use crate::command::{Heartbeat, JoinGroup, JoinReply, Reply, SyncGroup, SyncReply, Ticket};
use crate::consumer::heartbeat::{Change, Sender, places};
use crate::consumer::{ConsumerGroup, Member};
use crate::event::{ClassicFace, MemberState, Subscription};
use crate::options::MigrationPolicy;
use crate::shard::Turn;
use crate::subscription::{CONSUMER, ConsumerSubscription, encode_assignment};

impl ConsumerGroup {
    pub(crate) fn classic_join(&mut self, turn: &mut Turn<'_>, ticket: Ticket, join: &JoinGroup) {
        let refuse = |error| refused_join(error, &join.member);
        if turn.options.migration_policy == MigrationPolicy::Disabled {
            return turn.answer(ticket, refuse(ErrorCode::InconsistentGroupProtocol));
        }
        if let Err(refused) = self.refuse_if_full(turn, &join.member) {
            return turn.answer(ticket, refuse(refused.code));
        }
        let Some(said) = self.classic_subscription(join) else {
            return turn.answer(ticket, refuse(ErrorCode::InconsistentGroupProtocol));
        };
        let is_new = join.member.is_empty();
        let member = if is_new { fresh_member_id(join) } else { join.member.clone() };
        if is_new && join.instance.is_none() && join.known_member_required {
            // It comes back with the id; nothing is kept until then.
            return turn.answer(ticket, refused_join(ErrorCode::MemberIdRequired, &member));
        }
        if self.would_overflow(turn, join) {
            return turn.answer(ticket, refuse(ErrorCode::GroupMaxSizeReached));
        }
        let instance = join.instance.as_deref();
        let joins = is_new || instance.is_none();
        let sender = Sender { member: &member, instance, joins, is_classic: true };
        if let Err(refused) = self.identify(&sender) {
            return turn.answer(ticket, refuse(refused.code));
        }
        let mut unit = Vec::new();
        let id = self.admit(turn, &mut unit, &sender);
        let owned = said.owned(turn.catalogue);
        let is_resubscribed = self.subscribe(&mut unit, &id, subscription(join, said));
        // What expressions stand for is left to those who subscribe by them.
        let change = Change { is_resubscribed, is_refreshed: false };
        self.advance(turn, unit, &id, change, Some(&owned));
        self.arm_session(turn, &id);
        self.arm_patience(turn, &id); // It is to synchronise.
        let reply = JoinReply {
            error: ErrorCode::None,
            generation: self.members.get(&id).map_or(-1, |it| it.current.epoch),
            protocol_type: Some(CONSUMER.to_owned()),
            protocol: join.protocols.first().map(|it| it.name.clone()),
            leader: String::new(),
            skip_assignment: false,
            member,
            members: Vec::new(),
        };
        turn.answer_after_commit(ticket, Reply::Join(reply));
    }

    /// As of a classic group, which this one may become: what classic members say is bounded together.
    fn would_overflow(&self, turn: &Turn<'_>, join: &JoinGroup) -> bool {
        let others = self.members.iter().filter(|(id, _)| ***id != *join.member);
        let faces = others.filter_map(|(_, it)| it.subscription.as_ref()?.classic.as_ref());
        let said = faces.flat_map(|it| &it.protocols).map(|(name, it)| name.len() + it.len());
        turn.options.group_metadata_bytes_max
            < said.sum::<usize>() + metadata_bytes(&join.protocols)
    }

    /// What the member subscribes to, if it is a consumer and speaks a protocol that all classic
    /// members speak, so that the group can go back.
    fn classic_subscription(&self, join: &JoinGroup) -> Option<ConsumerSubscription> {
        let speaks = |member: &Member, name: &str| {
            let classic = member.subscription.as_ref().and_then(|it| it.classic.as_ref());
            classic.is_none_or(|it| it.protocols.iter().any(|(theirs, _)| theirs == name))
        };
        let others = || self.members.iter().filter(|(id, _)| ***id != *join.member);
        let is_common = |name: &str| others().all(|(_, it)| speaks(it, name));
        let is_consumer = join.protocol_type == CONSUMER;
        if !is_consumer || !join.protocols.iter().any(|it| is_common(&it.name)) {
            return None;
        }
        ConsumerSubscription::decode(&join.protocols.first()?.metadata)
    }

    pub(crate) fn classic_sync(&mut self, turn: &mut Turn<'_>, ticket: Ticket, sync: &SyncGroup) {
        match self.synchronise(turn, sync) {
            Ok(reply) => turn.answer_after_commit(ticket, Reply::Sync(reply)),
            Err(error) => turn.answer(ticket, refused_sync(error)),
        }
    }

    fn synchronise(
        &mut self,
        turn: &mut Turn<'_>,
        sync: &SyncGroup,
    ) -> Result<SyncReply, ErrorCode> {
        let id = self.classic_id(&sync.member, sync.instance.as_deref(), sync.generation)?;
        let protocol = self.members.get(&id).and_then(first_protocol);
        let differs = |theirs: &Option<String>, ours: Option<&str>| {
            theirs.is_some() && theirs.as_deref() != ours
        };
        let protocol_name = protocol.as_ref().map(|(name, _)| name.as_str());
        if differs(&sync.protocol_type, Some(CONSUMER)) || differs(&sync.protocol, protocol_name) {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        self.keep_up(turn);
        let current = self.members.get(&id).map(|it| it.current.clone()).unwrap_or_default();
        let is_behind = current.epoch < self.target_epoch.epoch;
        if is_behind && current.state != MemberState::UnrevokedPartitions {
            self.arm_patience(turn, &id); // It is to join again.
            return Err(ErrorCode::RebalanceInProgress);
        }
        self.disarm_patience(turn, &id);
        self.arm_session(turn, &id);
        let metadata = protocol.as_ref().map(|(_, it)| &it[..]).unwrap_or_default();
        Ok(SyncReply {
            error: ErrorCode::None,
            protocol_type: Some(CONSUMER.to_owned()),
            protocol: protocol_name.map(str::to_owned),
            assignment: encode_assignment(turn.catalogue, &places(&current.assigned), metadata),
        })
    }

    pub(crate) fn classic_heartbeat(
        &mut self,
        turn: &mut Turn<'_>,
        heartbeat: &Heartbeat,
    ) -> ErrorCode {
        let instance = heartbeat.instance.as_deref();
        let id = match self.classic_id(&heartbeat.member, instance, heartbeat.generation) {
            Ok(id) => id,
            Err(error) => return error,
        };
        self.keep_up(turn);
        self.arm_session(turn, &id);
        if !self.is_to_rejoin(turn, &id) {
            return ErrorCode::None;
        }
        if self.members.get(&id).is_some_and(|it| it.patience.is_none()) {
            self.arm_patience(turn, &id);
        }
        ErrorCode::RebalanceInProgress
    }

    /// Topics may have changed, or a target assignment may have become due.
    fn keep_up(&mut self, turn: &mut Turn<'_>) {
        let mut unit = Vec::new();
        self.advance_epoch(turn, &mut unit, false);
        turn.emit_unit(unit);
        self.retarget(turn);
    }

    /// There is a newer assignment, or something to give up, or what it waits for is free.
    fn is_to_rejoin(&self, turn: &Turn<'_>, id: &str) -> bool {
        let Some(member) = self.members.get(id) else { return false };
        let current = &member.current;
        match current.state {
            _ if current.epoch < self.target_epoch.epoch => true,
            MemberState::Stable => false,
            MemberState::UnrevokedPartitions => true,
            MemberState::UnreleasedPartitions => {
                let is_taken = |topic, index| {
                    self.owners.get(&(topic, index)).is_some_and(|owner| **owner != *id)
                };
                let target = self.target_of(turn, id);
                !target.iter().any(|(topic, them)| them.iter().any(|it| is_taken(*topic, *it)))
            }
        }
    }

    /// The member, if it is who it says it is, speaks the classic protocol and is in its epoch.
    fn classic_id(
        &self,
        member: &str,
        instance: Option<&str>,
        generation: i32,
    ) -> Result<Arc<str>, ErrorCode> {
        let sender = Sender { member, instance, joins: false, is_classic: true };
        self.identify(&sender).map_err(|it| it.code)?;
        let found = self.members.get_key_value(member);
        let (id, member) = found.ok_or(ErrorCode::UnknownMemberId)?;
        if !member.is_classic() {
            return Err(ErrorCode::UnknownMemberId);
        }
        if member.current.epoch != generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        Ok(Arc::clone(id))
    }
}

fn first_protocol(member: &Member) -> Option<(String, bytes::Bytes)> {
    member.subscription.as_ref()?.classic.as_ref()?.protocols.first().cloned()
}

fn subscription(join: &JoinGroup, said: ConsumerSubscription) -> Subscription {
    let protocols = join.protocols.iter().map(|it| (it.name.clone(), it.metadata.clone()));
    Subscription {
        instance: join.instance.clone(),
        rack: said.rack,
        client_id: join.client_id.clone(),
        client_host: join.client_host.clone(),
        topics: said.topics,
        pattern: None,
        rebalance_timeout_ms: join.rebalance_timeout_ms,
        assignor: None,
        classic: Some(ClassicFace {
            session_timeout_ms: join.session_timeout_ms,
            protocols: protocols.collect(),
        }),
    }
}
