//! LeaveGroup and the end of sessions: members go.

use std::sync::Arc;

use protocol::ErrorCode;

use crate::classic::ClassicGroup;
use crate::command::{GroupState, LeavingMember};
use crate::shard::Turn;
use crate::timers::Alarm;

impl ClassicGroup {
    /// Removes the members one by one, each with its own code, then rebalances once.
    pub(crate) fn leave(
        &mut self,
        turn: &mut Turn<'_>,
        members: Vec<LeavingMember>,
    ) -> Vec<(LeavingMember, ErrorCode)> {
        let before = self.members.len();
        let mut codes = Vec::with_capacity(members.len());
        for leaving in members {
            let code = match self.leave_one(turn, &leaving) {
                Ok(()) => ErrorCode::None,
                Err(error) => error,
            };
            codes.push((leaving, code));
        }
        if self.members.len() < before {
            self.after_departure(turn);
        } else {
            self.complete_join_if_all_joined(turn); // A pending member may have been the last one missing.
        }
        codes
    }

    fn leave_one(&mut self, turn: &mut Turn<'_>, leaving: &LeavingMember) -> Result<(), ErrorCode> {
        let id: Arc<str> = match (&leaving.instance, leaving.member.as_str()) {
            // An administrator removes whoever holds the instance.
            (Some(instance), "") => {
                Arc::clone(self.statics.get(instance).ok_or(ErrorCode::UnknownMemberId)?)
            }
            (_, member) => member.into(),
        };
        if self.forget_pending(turn, &id) {
            return Ok(());
        }
        if !leaving.member.is_empty() {
            self.validate_member(&id, leaving.instance.as_deref())?;
        } else if leaving.instance.is_none() {
            return Err(ErrorCode::UnknownMemberId);
        }
        self.remove(turn, &id, ErrorCode::UnknownMemberId);
        Ok(())
    }

    /// Everybody goes at once, to a consumer group; whoever waits is to ask again.
    pub(crate) fn dissolve(&mut self, turn: &mut Turn<'_>) {
        let ids: Vec<Arc<str>> = self.members.keys().cloned().collect();
        for id in &ids {
            self.remove(turn, id, ErrorCode::RebalanceInProgress);
        }
        let pending: Vec<Arc<str>> = self.pending.keys().cloned().collect();
        for id in &pending {
            self.forget_pending(turn, id);
        }
        self.cancel_join_deadline(turn);
        self.cancel_sync_deadline(turn);
    }

    fn after_departure(&mut self, turn: &mut Turn<'_>) {
        match self.state {
            GroupState::Stable | GroupState::CompletingRebalance => self.prepare_rebalance(turn),
            GroupState::PreparingRebalance => self.complete_join_if_all_joined(turn),
            GroupState::Empty
            | GroupState::Dead
            | GroupState::Assigning
            | GroupState::Reconciling => (),
        }
    }

    /// Drops an id that was handed out and has not come back.
    pub(crate) fn forget_pending(&mut self, turn: &mut Turn<'_>, id: &str) -> bool {
        let Some((id, at)) = self.pending.remove_entry(id) else { return false };
        turn.timers.cancel(at, Alarm::Session(Arc::clone(&self.id), id));
        true
    }

    pub(crate) fn on_session_alarm(&mut self, turn: &mut Turn<'_>, id: &str) {
        if self.pending.remove(id).is_some() {
            return self.complete_join_if_all_joined(turn);
        }
        let Some(member) = self.members.get_mut(id) else { return };
        member.deadline = None;
        if member.is_excused() {
            return;
        }
        self.remove(turn, id, ErrorCode::UnknownMemberId);
        self.after_departure(turn);
    }
}
