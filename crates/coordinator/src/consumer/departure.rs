//! Members go: by their own word, by an administrator's, or because nothing was heard of them.

use std::sync::Arc;

use protocol::ErrorCode;

use crate::command::{ConsumerHeartbeat, ConsumerHeartbeatReply, LeavingMember, Refused};
use crate::consumer::heartbeat::Sender;
use crate::consumer::{ConsumerGroup, LEAVE_FOR_NOW_EPOCH};
use crate::event::{ConsumerFact, Current, Event, MemberState, OwnedPartitions};
use crate::shard::Turn;

impl ConsumerGroup {
    pub(super) fn leave(
        &mut self,
        turn: &mut Turn<'_>,
        request: &ConsumerHeartbeat,
    ) -> Result<ConsumerHeartbeatReply, Refused> {
        self.identify(&Sender {
            member: &request.member,
            instance: request.instance.as_deref(),
            joins: false,
            is_classic: false,
        })?;
        let found = self.members.get_key_value(request.member.as_str());
        let (id, member) = found.ok_or_else(|| self.unknown(&request.member))?;
        let id = Arc::clone(id);
        if request.epoch == LEAVE_FOR_NOW_EPOCH {
            // It keeps its partitions until its session ends, but has given up what it had to.
            let current = Current {
                epoch: LEAVE_FOR_NOW_EPOCH,
                previous_epoch: member.current.epoch,
                state: MemberState::Stable,
                assigned: member.current.assigned.clone(),
                revoking: OwnedPartitions::new(),
            };
            let mut unit = Vec::new();
            let (member, current) = (id.to_string(), Some(current));
            self.decide(&mut unit, ConsumerFact::Current { member, current });
            turn.emit_unit(unit);
            self.disarm_patience(turn, &id);
        } else {
            self.dismiss(turn, &id);
        }
        Ok(ConsumerHeartbeatReply {
            member: request.member.clone(),
            epoch: request.epoch,
            heartbeat_interval_ms: 0,
            assignment: None,
        })
    }

    /// LeaveGroup, which members of the classic protocol and administrators send.
    pub(crate) fn leave_many(
        &mut self,
        turn: &mut Turn<'_>,
        members: Vec<LeavingMember>,
    ) -> Vec<(LeavingMember, ErrorCode)> {
        let mut codes = Vec::with_capacity(members.len());
        for leaving in members {
            let code = match self.leaving(&leaving) {
                Ok(id) => {
                    self.dismiss(turn, &id);
                    ErrorCode::None
                }
                Err(code) => code,
            };
            codes.push((leaving, code));
        }
        codes
    }

    fn leaving(&self, leaving: &LeavingMember) -> Result<Arc<str>, ErrorCode> {
        let unknown = ErrorCode::UnknownMemberId;
        let holder = match &leaving.instance {
            Some(instance) => Some(self.statics.get(instance).ok_or(unknown)?),
            None => None,
        };
        match holder {
            // An administrator removes whoever holds the instance.
            Some(holder) if leaving.member.is_empty() => Ok(Arc::clone(holder)),
            Some(holder) if **holder != *leaving.member => Err(ErrorCode::FencedInstanceId),
            _ => {
                let found = self.members.get_key_value(leaving.member.as_str());
                found.map(|(id, _)| Arc::clone(id)).ok_or(unknown)
            }
        }
    }

    /// Nothing was heard of the member for a whole session.
    pub(crate) fn on_session_alarm(&mut self, turn: &mut Turn<'_>, id: &str) {
        if let Some((id, _)) = self.members.get_key_value(id) {
            let id = Arc::clone(id);
            if let Some(member) = self.members.get_mut(&id) {
                member.session = None;
            }
            self.dismiss(turn, &id);
        }
    }

    /// The member has not done in time what others wait for.
    pub(crate) fn on_patience_alarm(&mut self, turn: &mut Turn<'_>, id: &str) {
        if let Some((id, _)) = self.members.get_key_value(id) {
            let id = Arc::clone(id);
            if let Some(member) = self.members.get_mut(&id) {
                member.patience = None;
            }
            self.dismiss(turn, &id);
        }
    }

    /// Takes the member out; its partitions are shared out anew, in the next epoch.
    fn dismiss(&mut self, turn: &mut Turn<'_>, id: &Arc<str>) {
        let subscription = self.members.get(id).and_then(|it| it.subscription.clone());
        let mut unit = Vec::new();
        self.remove(turn, &mut unit, id);
        self.forget_pattern(&mut unit, subscription.and_then(|it| it.pattern).as_ref());
        self.advance_epoch(turn, &mut unit, true);
        turn.emit_unit(unit);
    }

    pub(super) fn remove(&mut self, turn: &mut Turn<'_>, unit: &mut Vec<Event>, id: &Arc<str>) {
        self.disarm_member(turn.timers, id);
        for fact in tombstones_of(id) {
            self.decide(unit, fact);
        }
    }
}

/// All the log says of a member, taken back.
pub(super) fn tombstones_of(id: &str) -> [ConsumerFact; 3] {
    [
        ConsumerFact::Current { member: id.to_owned(), current: None },
        ConsumerFact::Target { member: id.to_owned(), partitions: None },
        ConsumerFact::Member { member: id.to_owned(), subscription: None },
    ]
}
