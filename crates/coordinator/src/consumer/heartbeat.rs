//! ConsumerGroupHeartbeat: a member joins, changes its subscription, confirms what it owns, learns
//! what it is to own.

use std::sync::Arc;

use protocol::ErrorCode;

use crate::command::{ConsumerHeartbeat, ConsumerHeartbeatReply, Refused};
use crate::consumer::patterns::Brought;
use crate::consumer::reconcile::Reconciliation;
use crate::consumer::{ConsumerGroup, JOIN_EPOCH, LEAVE_FOR_NOW_EPOCH, is_leaving};
use crate::event::{
    ConsumerFact, Current, Event, MemberState, OwnedPartitions, Partitions, Subscription,
};
use crate::pattern::Pattern;
use crate::shard::Turn;

/// Who sends a request, and what that makes of it.
pub(super) struct Sender<'a> {
    pub(super) member: &'a str,
    pub(super) instance: Option<&'a str>,
    pub(super) joins: bool,
    pub(super) is_classic: bool,
}

/// What a request has changed of the topics that are subscribed to.
pub(super) struct Change {
    /// By its member.
    pub(super) is_resubscribed: bool,
    /// By expressions.
    pub(super) is_refreshed: bool,
}

/// `None`: there is no expression.
///
/// # Errors
/// INVALID_REGULAR_EXPRESSION.
pub(crate) fn compiled(expression: Option<&str>) -> Result<Brought<'_>, Refused> {
    let Some(expression) = expression.filter(|it| !it.is_empty()) else { return Ok(None) };
    let pattern = Pattern::new(expression).map_err(|error| {
        let message = format!(
            "SubscribedTopicRegex `{expression}` is not a valid regular expression: {error}."
        );
        Refused::new(ErrorCode::InvalidRegularExpression, message)
    })?;
    Ok(Some((expression, pattern)))
}

impl ConsumerGroup {
    /// The request has been validated, and the group has been created if the member joins.
    pub(crate) fn heartbeat(
        &mut self,
        turn: &mut Turn<'_>,
        request: &ConsumerHeartbeat,
    ) -> Result<ConsumerHeartbeatReply, Refused> {
        if is_leaving(request) {
            return self.leave(turn, request);
        }
        self.refuse_if_full(turn, &request.member)?;
        let pattern = self.new_pattern(request.pattern.as_deref())?;
        let sender = Sender {
            member: &request.member,
            instance: request.instance.as_deref(),
            joins: request.epoch == JOIN_EPOCH,
            is_classic: false,
        };
        self.identify(&sender)?;
        if !sender.joins {
            self.validate_epoch(request)?;
        }
        let mut unit = Vec::new();
        let id = self.admit(turn, &mut unit, &sender);
        let before = self.members.get(&id).map(|it| it.current.clone()).unwrap_or_default();
        let subscription = self.subscription_after(&id, request);
        let is_resubscribed = self.subscribe(&mut unit, &id, subscription);
        let is_refreshed = self.refresh_patterns(turn, &mut unit, &request.sight, pattern);
        let change = Change { is_resubscribed, is_refreshed };
        self.advance(turn, unit, &id, change, request.owned.as_ref());
        self.arm_session(turn, &id);

        let settings = turn.catalogue.settings(&self.id);
        let current = self.members.get(&id).map(|it| &it.current).cloned().unwrap_or_default();
        let tells_all = request.rebalance_timeout_ms.is_some()
            && (request.topics.is_some() || request.pattern.is_some())
            && request.owned.is_some();
        let is_told = sender.joins || tells_all || !same_places(&before, &current);
        Ok(ConsumerHeartbeatReply {
            member: id.to_string(),
            epoch: current.epoch,
            heartbeat_interval_ms: settings.heartbeat_interval_ms,
            assignment: is_told.then(|| places(&current.assigned)),
        })
    }

    /// Compiles an expression that the group does not know yet.
    fn new_pattern<'a>(&self, expression: Option<&'a str>) -> Result<Brought<'a>, Refused> {
        match expression {
            Some(expression) if self.patterns.contains_key(expression) => Ok(None),
            expression => compiled(expression),
        }
    }

    /// Whether the member may speak as who it says it is.
    pub(super) fn identify(&self, sender: &Sender<'_>) -> Result<(), Refused> {
        let Some(instance) = sender.instance else {
            let is_known = self.members.contains_key(sender.member);
            return if sender.joins || is_known {
                Ok(())
            } else {
                Err(self.unknown(sender.member))
            };
        };
        match self.statics.get(instance) {
            None if sender.joins => Ok(()),
            None => Err(Refused::new(
                ErrorCode::UnknownMemberId,
                format!("Instance id {instance} is unknown."),
            )),
            Some(holder) if **holder == *sender.member => Ok(()),
            Some(holder) if sender.joins => self.may_replace(sender, holder, instance),
            Some(_) => Err(Refused::new(
                ErrorCode::FencedInstanceId,
                format!("Static member {} was fenced by another of {instance}.", sender.member),
            )),
        }
    }

    /// A process may take the place of another with its instance id once that one has left; in the
    /// classic protocol it takes it at once, and fences the other (KIP-345).
    fn may_replace(
        &self,
        sender: &Sender<'_>,
        holder: &Arc<str>,
        instance: &str,
    ) -> Result<(), Refused> {
        let held = self.members.get(holder);
        let has_left = held.is_none_or(|it| it.current.epoch == LEAVE_FOR_NOW_EPOCH);
        if has_left || sender.is_classic || held.is_some_and(|it| it.is_classic()) {
            return Ok(());
        }
        let message = format!(
            "Static member {} with instance id {instance} cannot join the group because the \
             instance id is owned by {holder} member.",
            sender.member
        );
        Err(Refused::new(ErrorCode::UnreleasedInstanceId, message))
    }

    pub(super) fn unknown(&self, member: &str) -> Refused {
        let message = format!("Member {member} is not a member of group {}.", self.id);
        Refused::new(ErrorCode::UnknownMemberId, message)
    }

    /// The member's place in the group: its own, a new one, or that of its instance id.
    pub(super) fn admit(
        &mut self,
        turn: &mut Turn<'_>,
        unit: &mut Vec<Event>,
        sender: &Sender<'_>,
    ) -> Arc<str> {
        let holder = sender.instance.and_then(|it| self.statics.get(it)).cloned();
        let id: Arc<str> = match self.members.get_key_value(sender.member) {
            Some((id, _)) => Arc::clone(id),
            None => sender.member.into(),
        };
        match holder.filter(|holder| *holder != id) {
            None => id,
            Some(holder) => {
                self.replace(turn, unit, &holder, &id);
                id
            }
        }
    }

    /// Gives what the old member had to the new one, which starts at no epoch.
    fn replace(
        &mut self,
        turn: &mut Turn<'_>,
        unit: &mut Vec<Event>,
        old: &Arc<str>,
        new: &Arc<str>,
    ) {
        let member = self.members.get(old);
        let subscription = member.and_then(|it| it.subscription.clone()).unwrap_or_default();
        let assigned = member.map(|it| it.current.assigned.clone()).unwrap_or_default();
        let target = self.targets.get(old).cloned();
        self.remove(turn, unit, old);
        let member = new.to_string();
        let subscription = Some(subscription);
        self.decide(unit, ConsumerFact::Member { member: member.clone(), subscription });
        if target.is_some() {
            let member = member.clone();
            self.decide(unit, ConsumerFact::Target { member, partitions: target });
        }
        let current = Some(Current { assigned, ..Current::default() });
        self.decide(unit, ConsumerFact::Current { member, current });
    }

    /// A member that names the epoch before its own has not heard the last answer; as long as it
    /// owns nothing but what it was assigned, that is no harm.
    fn validate_epoch(&self, request: &ConsumerHeartbeat) -> Result<(), Refused> {
        let member = self.members.get(request.member.as_str());
        let current = &member.ok_or_else(|| self.unknown(&request.member))?.current;
        let is_within = || {
            let mut owned = request.owned.iter().flatten();
            request.owned.is_some()
                && owned.all(|(topic, them)| {
                    let assigned = current.assigned.get(topic);
                    them.iter().all(|it| assigned.is_some_and(|a| a.contains_key(it)))
                })
        };
        let fenced = |how: &str| {
            let message = format!(
                "The consumer group member has a {how} member epoch ({}) than the one known by \
                 the group coordinator ({}). The member must abandon all its partitions and rejoin.",
                request.epoch, current.epoch
            );
            Err(Refused::new(ErrorCode::FencedMemberEpoch, message))
        };
        match request.epoch.cmp(&current.epoch) {
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Greater => fenced("greater"),
            std::cmp::Ordering::Less if request.epoch == current.previous_epoch && is_within() => {
                Ok(())
            }
            std::cmp::Ordering::Less => fenced("smaller"),
        }
    }

    /// What was said before, with what is said now.
    fn subscription_after(&self, id: &str, request: &ConsumerHeartbeat) -> Subscription {
        let before = self.members.get(id).and_then(|it| it.subscription.as_deref());
        let mut after = before.cloned().unwrap_or_default();
        after.client_id.clone_from(&request.client_id);
        after.client_host.clone_from(&request.client_host);
        after.classic = None;
        let replace = |field: &mut Option<String>, said: &Option<String>| {
            if said.is_some() {
                field.clone_from(said);
            }
        };
        replace(&mut after.instance, &request.instance);
        replace(&mut after.rack, &request.rack);
        replace(&mut after.assignor, &request.assignor);
        replace(&mut after.pattern, &request.pattern);
        after.pattern = after.pattern.filter(|it| !it.is_empty());
        if let Some(topics) = &request.topics {
            after.topics = topics.iter().cloned().collect();
        }
        if let Some(timeout_ms) = request.rebalance_timeout_ms {
            after.rebalance_timeout_ms = timeout_ms;
        }
        after
    }

    /// Takes down what a member has said. Tells whether it subscribes to other topics than before.
    pub(super) fn subscribe(
        &mut self,
        unit: &mut Vec<Event>,
        id: &Arc<str>,
        subscription: Subscription,
    ) -> bool {
        let before = self.members.get(id).and_then(|it| it.subscription.clone());
        let topics = |it: &Subscription| (it.topics.clone(), it.pattern.clone());
        let is_resubscribed =
            before.as_deref().map(topics).unwrap_or_default() != topics(&subscription);
        if before.as_deref() != Some(&subscription) {
            let (member, subscription) = (id.to_string(), Some(Box::new(subscription)));
            self.decide(unit, ConsumerFact::Member { member, subscription });
        }
        if is_resubscribed {
            self.forget_pattern(unit, before.and_then(|it| it.pattern).as_ref());
        }
        is_resubscribed
    }

    /// From what a member has said to what that changes beside its record: the group's epoch, the target assignment,
    /// what the member owns.
    pub(super) fn advance(
        &mut self,
        turn: &mut Turn<'_>,
        mut unit: Vec<Event>,
        id: &Arc<str>,
        change: Change,
        owned: Option<&Partitions>,
    ) {
        let Change { is_resubscribed, is_refreshed } = change;
        let is_changed = is_resubscribed || is_refreshed || self.epoch.is_none();
        self.advance_epoch(turn, &mut unit, is_changed);
        turn.emit_unit(unit);
        self.retarget(turn);
        self.reconcile(turn, id, is_resubscribed, owned);
    }

    fn reconcile(
        &mut self,
        turn: &mut Turn<'_>,
        id: &Arc<str>,
        is_resubscribed: bool,
        owned: Option<&Partitions>,
    ) {
        let Some(member) = self.members.get(id) else { return };
        let (before, is_classic) = (&member.current, member.is_classic());
        let target_epoch = self.target_epoch.epoch;
        let is_there = before.state == MemberState::Stable && before.epoch == target_epoch;
        if is_there && !is_resubscribed {
            return;
        }
        let target = self.target_of(turn, id);
        let step = Reconciliation { target_epoch, target: &target, is_resubscribed, owned };
        let is_free = |topic, index| !self.owners.contains_key(&(topic, index));
        let after = step.next(before, is_free);
        if after == *before {
            return;
        }
        let must_revoke = after.state == MemberState::UnrevokedPartitions;
        let mut unit = Vec::new();
        let (member, current) = (id.to_string(), Some(after));
        self.decide(&mut unit, ConsumerFact::Current { member, current });
        turn.emit_unit(unit);
        // Members of the classic protocol have deadlines of their own: to join and to synchronise.
        if !is_classic && must_revoke {
            self.arm_patience(turn, id);
        } else if !is_classic {
            self.disarm_patience(turn, id);
        }
    }
}

/// Without the epochs.
pub(super) fn places(owned: &OwnedPartitions) -> Partitions {
    owned.iter().map(|(topic, them)| (*topic, them.keys().copied().collect())).collect()
}

fn same_places(before: &Current, after: &Current) -> bool {
    places(&before.assigned) == places(&after.assigned)
}
