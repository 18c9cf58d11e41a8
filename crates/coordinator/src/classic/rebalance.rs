//! From one generation to the next: the join phase, the choice of protocol and leader, the wait for
//! the leader's assignment.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::ErrorCode;
use vocabulary::Tick;

use crate::classic::ClassicGroup;
use crate::classic::member::{Member, millis, refused_sync};
use crate::command::{GroupState, JoinMember, JoinReply, Reply};
use crate::event::Event;
use crate::shard::Turn;
use crate::timers::Alarm;

/// When the join phase ends at the latest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct JoinDeadline {
    pub(crate) at: Tick,
    /// The wait for further members of a new group, which their arrival extends.
    pub(crate) initial: Option<InitialDelay>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InitialDelay {
    /// How long this wait is.
    pub(crate) delay_ms: i32,
    /// How much longer waiting may go on after it.
    pub(crate) remaining_ms: i32,
}

impl ClassicGroup {
    /// Starts a rebalance, or lets the one in preparation end if nobody is missing any more.
    pub(crate) fn rebalance(&mut self, turn: &mut Turn<'_>) {
        match self.state {
            GroupState::PreparingRebalance => self.complete_join_if_all_joined(turn),
            _ => self.prepare_rebalance(turn),
        }
    }

    pub(crate) fn prepare_rebalance(&mut self, turn: &mut Turn<'_>) {
        self.prepare_rebalance_with(turn, ErrorCode::RebalanceInProgress);
    }

    /// Starts a rebalance; whoever waits for an assignment gets `error`.
    pub(crate) fn prepare_rebalance_with(&mut self, turn: &mut Turn<'_>, error: ErrorCode) {
        if self.state == GroupState::CompletingRebalance {
            self.refuse_waiting_syncs(turn, error);
        }
        self.cancel_sync_deadline(turn);
        self.pending_sync.clear();
        self.from_empty = self.state == GroupState::Empty;
        self.newcomer = false;
        self.transition(turn, GroupState::PreparingRebalance);
        if self.from_empty {
            // A new group waits a little, so that members starting together share a generation.
            let delay_ms = turn.options.initial_rebalance_delay_ms;
            let remaining_ms = (self.rebalance_timeout_ms() - delay_ms).max(0);
            self.set_initial_delay(turn, InitialDelay { delay_ms, remaining_ms });
        } else {
            self.set_join_deadline(turn, self.rebalance_timeout_ms());
            self.complete_join_if_all_joined(turn);
        }
    }

    pub(crate) fn complete_join_if_all_joined(&mut self, turn: &mut Turn<'_>) {
        let all_joined = self.joining == self.members.len() && self.pending.is_empty();
        if self.state == GroupState::PreparingRebalance && all_joined && !self.from_empty {
            self.complete_join(turn);
        }
    }

    pub(crate) fn on_join_alarm(&mut self, turn: &mut Turn<'_>) {
        let Some(deadline) = self.join_deadline.take() else { return };
        match deadline.initial {
            Some(InitialDelay { delay_ms, remaining_ms }) if self.newcomer && remaining_ms != 0 => {
                self.newcomer = false;
                let next = InitialDelay {
                    delay_ms: turn.options.initial_rebalance_delay_ms.min(remaining_ms),
                    remaining_ms: (remaining_ms - delay_ms).max(0),
                };
                self.set_initial_delay(turn, next);
            }
            _ => self.complete_join(turn),
        }
    }

    /// Ends the join phase: whoever has not joined is out, everybody else enters the next
    /// generation.
    fn complete_join(&mut self, turn: &mut Turn<'_>) {
        self.cancel_join_deadline(turn);
        let gone = |member: &&Member| member.join.is_none() && member.instance.is_none();
        let gone: Vec<Arc<str>> =
            self.members.values().filter(gone).map(|it| Arc::clone(&it.id)).collect();
        for member in gone {
            self.remove(turn, &member, ErrorCode::UnknownMemberId);
        }
        if !self.elect_joined_leader() && !self.members.is_empty() {
            // Only static members are left and none has come back. They keep their place until
            // their sessions end. A timeout of 0 must not be due again in this very step.
            return self.set_join_deadline(turn, self.rebalance_timeout_ms().max(1));
        }
        self.begin_generation(turn);
        if self.members.is_empty() {
            let group = self.id.to_string();
            return turn.emit(Event::GroupStored { group, image: self.to_image() });
        }
        let ids: Vec<Arc<str>> = self.members.keys().cloned().collect();
        for id in &ids {
            let reply = self.join_reply(id);
            let member = self.members.get_mut(id).expect("ids were taken from the members");
            member.is_new = false;
            if let Some(ticket) = member.join.take() {
                self.joining -= 1;
                turn.answer(ticket, reply);
            }
            self.arm_session(turn, id);
            self.pending_sync.insert(Arc::clone(id));
        }
        let at = turn.now.tick.plus(millis(self.rebalance_timeout_ms()));
        self.sync_deadline = Some(at);
        turn.timers.set(at, Alarm::Sync(Arc::clone(&self.id)));
    }

    /// Members that never asked for their assignment are taken for gone.
    pub(crate) fn on_sync_alarm(&mut self, turn: &mut Turn<'_>) {
        self.sync_deadline = None;
        if self.pending_sync.is_empty() {
            return;
        }
        for member in std::mem::take(&mut self.pending_sync) {
            self.remove(turn, &member, ErrorCode::UnknownMemberId);
        }
        self.prepare_rebalance(turn);
    }

    /// A leader that has joined, if any member has: the leader of the last generation if possible.
    fn elect_joined_leader(&mut self) -> bool {
        let has_joined = |member: &Member| member.join.is_some();
        if self.leader.as_ref().and_then(|it| self.members.get(it)).is_some_and(has_joined) {
            return true;
        }
        match self.members.values().find(|it| has_joined(it)) {
            Some(member) => {
                self.leader = Some(Arc::clone(&member.id));
                true
            }
            None => false,
        }
    }

    fn begin_generation(&mut self, turn: &mut Turn<'_>) {
        turn.count_rebalance();
        // A group that was a consumer group has stored a generation that is above the one its members know.
        let stored = self.image().map_or(-1, |it| it.generation);
        self.generation = self.generation.max(stored).checked_add(1).unwrap_or(0);
        self.pending_sync.clear();
        self.from_empty = false;
        if self.members.is_empty() {
            self.protocol = None;
            self.transition(turn, GroupState::Empty);
        } else {
            self.protocol = self.select_protocol();
            self.transition(turn, GroupState::CompletingRebalance);
        }
        self.subscribed = self.subscribed_topics();
    }

    /// Each member votes for its most preferred protocol among those that all support; the most
    /// votes win, the first name among equals.
    pub(crate) fn select_protocol(&self) -> Option<String> {
        let is_candidate = |name: &str| self.support.get(name) == Some(&self.members.len());
        let mut votes = BTreeMap::<&str, usize>::new();
        for member in self.members.values() {
            if let Some(choice) = member.protocols.iter().find(|it| is_candidate(&it.name)) {
                *votes.entry(&choice.name).or_default() += 1;
            }
        }
        let winner = votes.iter().max_by(|a, b| a.1.cmp(b.1).then(b.0.cmp(a.0)));
        winner.map(|(name, _)| (*name).to_owned())
    }

    /// How long the slowest member may take to rejoin.
    pub(crate) fn rebalance_timeout_ms(&self) -> i32 {
        self.members.values().map(|it| it.rebalance_timeout_ms).max().unwrap_or(0)
    }

    /// The current generation as a join answer tells it; only the leader learns the members.
    pub(crate) fn join_reply(&self, id: &str) -> Reply {
        let is_leader = self.leader.as_deref() == Some(id);
        Reply::Join(JoinReply {
            error: ErrorCode::None,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.as_deref().unwrap_or_default().to_owned(),
            skip_assignment: false,
            member: id.to_owned(),
            members: if is_leader { self.join_members() } else { Vec::new() },
        })
    }

    pub(crate) fn join_members(&self) -> Vec<JoinMember> {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let member = |member: &Member| JoinMember {
            member: Arc::clone(&member.id),
            instance: member.instance.clone(),
            metadata: member.metadata(protocol),
        };
        self.members.values().map(member).collect()
    }

    fn refuse_waiting_syncs(&mut self, turn: &mut Turn<'_>, error: ErrorCode) {
        let ids: Vec<Arc<str>> = self.members.keys().cloned().collect();
        for id in &ids {
            let member = self.members.get_mut(id).expect("ids were taken from the members");
            member.assignment.clear();
            if let Some(ticket) = member.sync.take() {
                turn.answer(ticket, refused_sync(error));
                self.arm_session(turn, id);
            }
        }
    }

    fn set_initial_delay(&mut self, turn: &mut Turn<'_>, delay: InitialDelay) {
        self.set_join_deadline(turn, delay.delay_ms);
        if let Some(deadline) = &mut self.join_deadline {
            deadline.initial = Some(delay);
        }
    }

    fn set_join_deadline(&mut self, turn: &mut Turn<'_>, wait_ms: i32) {
        self.cancel_join_deadline(turn);
        let at = turn.now.tick.plus(millis(wait_ms));
        self.join_deadline = Some(JoinDeadline { at, initial: None });
        turn.timers.set(at, Alarm::Join(Arc::clone(&self.id)));
    }

    pub(crate) fn cancel_join_deadline(&mut self, turn: &mut Turn<'_>) {
        if let Some(deadline) = self.join_deadline.take() {
            turn.timers.cancel(deadline.at, Alarm::Join(Arc::clone(&self.id)));
        }
    }

    pub(crate) fn cancel_sync_deadline(&mut self, turn: &mut Turn<'_>) {
        if let Some(at) = self.sync_deadline.take() {
            turn.timers.cancel(at, Alarm::Sync(Arc::clone(&self.id)));
        }
    }
}
