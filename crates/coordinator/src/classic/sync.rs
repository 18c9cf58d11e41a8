//! SyncGroup and Heartbeat: the assignment reaches the members, and they prove to be alive.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use protocol::ErrorCode;

use crate::classic::ClassicGroup;
use crate::classic::member::refused_sync;
use crate::command::{GroupState, Heartbeat, Reply, SyncGroup, SyncReply, Ticket};
use crate::event::Event;
use crate::format;
use crate::shard::Turn;

impl ClassicGroup {
    pub(crate) fn sync(&mut self, turn: &mut Turn<'_>, ticket: Ticket, sync: SyncGroup) {
        if let Err(error) = self.validate_sync(&sync) {
            return turn.answer(ticket, refused_sync(error));
        }
        let (id, _) =
            self.members.get_key_value(sync.member.as_str()).expect("the member was validated");
        let id = Arc::clone(id);
        self.pending_sync.remove(&id);
        if self.pending_sync.is_empty() {
            self.cancel_sync_deadline(turn);
        }
        if self.state == GroupState::Stable {
            let reply = self.sync_reply(&id);
            turn.answer_after_commit(ticket, reply);
            return self.arm_session(turn, &id);
        }
        self.await_sync(turn, &id, ticket);
        if self.leader.as_ref() == Some(&id) {
            self.assign(turn, sync.assignments);
        }
    }

    fn validate_sync(&self, sync: &SyncGroup) -> Result<(), ErrorCode> {
        self.validate_member(&sync.member, sync.instance.as_deref())?;
        let differs = |theirs: &Option<String>, ours: &Option<String>| {
            theirs.is_some() && theirs != ours // Clients before v5 do not say (KIP-559).
        };
        if sync.generation != self.generation {
            Err(ErrorCode::IllegalGeneration)
        } else if differs(&sync.protocol_type, &self.protocol_type)
            || differs(&sync.protocol, &self.protocol)
        {
            Err(ErrorCode::InconsistentGroupProtocol)
        } else if self.state == GroupState::PreparingRebalance {
            Err(ErrorCode::RebalanceInProgress)
        } else {
            Ok(())
        }
    }

    /// The leader has decided: the generation is stored, and everybody who waits learns his part.
    /// Members the leader forgot get nothing; members it invented are not there.
    fn assign(&mut self, turn: &mut Turn<'_>, assignments: Vec<(String, Bytes)>) {
        let mut assignments: BTreeMap<String, Bytes> = assignments.into_iter().collect();
        for member in self.members.values_mut() {
            member.assignment = assignments.remove(&*member.id).unwrap_or_default();
        }
        let state_before = self.state_since;
        self.transition(turn, GroupState::Stable);
        let stored = Event::GroupStored { group: self.id.to_string(), image: self.to_image() };
        if turn.options.step_bytes_max < format::encoded_len(&stored) {
            self.state = GroupState::CompletingRebalance;
            self.state_since = state_before;
            return self.prepare_rebalance_with(turn, ErrorCode::UnknownServerError);
        }
        turn.emit(stored);
        let ids: Vec<Arc<str>> = self.members.keys().cloned().collect();
        for id in &ids {
            let reply = self.sync_reply(id);
            let member = self.members.get_mut(id).expect("ids were taken from the members");
            if let Some(ticket) = member.sync.take() {
                turn.answer_after_commit(ticket, reply);
                self.arm_session(turn, id);
            }
        }
    }

    fn sync_reply(&self, id: &str) -> Reply {
        let assignment = self.members.get(id).map(|it| it.assignment.clone()).unwrap_or_default();
        Reply::Sync(SyncReply {
            error: ErrorCode::None,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment,
        })
    }

    pub(crate) fn heartbeat(&mut self, turn: &mut Turn<'_>, heartbeat: &Heartbeat) -> ErrorCode {
        let validated = self.validate_member(&heartbeat.member, heartbeat.instance.as_deref());
        if let Err(error) = validated {
            return error;
        }
        if heartbeat.generation != self.generation {
            return ErrorCode::IllegalGeneration;
        }
        let (id, _) = self
            .members
            .get_key_value(heartbeat.member.as_str())
            .expect("the member was validated");
        let id = Arc::clone(id);
        self.arm_session(turn, &id);
        match self.state {
            GroupState::PreparingRebalance => ErrorCode::RebalanceInProgress,
            // A consumer heartbeats from its join answer on, so also before the assignment.
            GroupState::CompletingRebalance | GroupState::Stable => ErrorCode::None,
            GroupState::Empty
            | GroupState::Dead
            | GroupState::Assigning
            | GroupState::Reconciling => ErrorCode::UnknownMemberId,
        }
    }
}
