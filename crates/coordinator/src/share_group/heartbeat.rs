//! ShareGroupHeartbeat: a member joins, changes its subscription, learns what it is to share in, leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::ErrorCode;
use vocabulary::TopicId;

use crate::catalogue::TopicFacts;
use crate::command::{Refused, ShareHeartbeat, ShareHeartbeatReply};
use crate::consumer::{JOIN_EPOCH, LEAVE_EPOCH, topics_hash};
use crate::event::{Event, GroupEpoch, Partitions, ShareCurrent, ShareFact, ShareMember};
use crate::format::TEXT_BYTES_MAX;
use crate::options::GroupOptions;
use crate::shard::{GroupOrder, Turn};
use crate::share_group::{ShareGroup, assignment, tombstones_of};
use crate::targets;

/// What a heartbeat must say to be looked at, whatever group it names.
///
/// # Errors
/// INVALID_REQUEST.
pub(crate) fn validate(options: &GroupOptions, request: &ShareHeartbeat) -> Result<(), Refused> {
    let invalid = |message: &str| Err(Refused::new(ErrorCode::InvalidRequest, message));
    if request.group.is_empty() {
        return invalid("GroupId can't be empty.");
    }
    if request.member.is_empty() {
        return invalid("MemberId can't be empty.");
    }
    if request.rack.as_deref() == Some("") {
        return invalid("RackId can't be empty.");
    }
    if request.epoch < LEAVE_EPOCH {
        return invalid("MemberEpoch is invalid.");
    }
    if request.epoch == JOIN_EPOCH && request.topics.as_ref().is_none_or(|it| it.is_empty()) {
        return invalid("SubscribedTopicNames must be set in first request.");
    }
    let texts = [&request.group, &request.member, &request.client_id, &request.client_host];
    let texts = texts.into_iter().chain(&request.rack).chain(request.topics.iter().flatten());
    let (mut bytes, mut longest) = (0, 0);
    for text in texts {
        bytes += text.len() + size_of::<i32>();
        longest = longest.max(text.len());
    }
    if options.subscription_bytes_max < bytes || TEXT_BYTES_MAX < longest {
        return invalid("The subscription is too large.");
    }
    Ok(())
}

impl ShareGroup {
    /// The request has been validated, and the group has been created if the member joins.
    pub(crate) fn heartbeat(
        &mut self,
        turn: &mut Turn<'_>,
        request: &ShareHeartbeat,
    ) -> Result<ShareHeartbeatReply, Refused> {
        if request.epoch == LEAVE_EPOCH {
            return self.leave(turn, request);
        }
        let joins = request.epoch == JOIN_EPOCH;
        if joins {
            self.refuse_if_full(turn, &request.member)?;
        } else {
            self.validate_epoch(request)?;
        }
        let id: Arc<str> = match self.members.get_key_value(request.member.as_str()) {
            Some((id, _)) => Arc::clone(id),
            None => request.member.as_str().into(),
        };
        let said = self.said_after(&id, request);
        let before = self.members.get(&id).and_then(|it| it.said.as_deref());
        let is_resubscribed = before.map(|it| &it.topics) != Some(&said.topics);
        let mut unit = Vec::new();
        if before != Some(&said) {
            let (member, said) = (id.to_string(), Some(Box::new(said)));
            self.decide(&mut unit, ShareFact::Member { member, said });
        }
        self.advance_epoch(turn, &mut unit, is_resubscribed);
        turn.emit_unit(unit);
        self.retarget(turn);
        let has_moved = self.move_to_target(turn, &id);
        self.arm_session(turn, &id);

        let current = self.members.get(&id).map(|it| it.current.clone()).unwrap_or_default();
        let settings = turn.catalogue.share_settings(&self.id);
        let is_told = joins || request.topics.is_some() || has_moved;
        Ok(ShareHeartbeatReply {
            member: id.to_string(),
            epoch: current.epoch,
            heartbeat_interval_ms: settings.heartbeat_interval_ms,
            assignment: is_told.then_some(current.assigned),
        })
    }

    /// Stores that there is the group, which nobody is in.
    ///
    /// # Errors
    /// NON_EMPTY_GROUP.
    pub(crate) fn found(&mut self, turn: &mut Turn<'_>) -> Result<(), Refused> {
        if !self.is_empty() {
            let message = format!("Group {} is not empty.", self.id);
            return Err(Refused::new(ErrorCode::NonEmptyGroup, message));
        }
        if self.epoch.is_none() {
            let mut unit = Vec::new();
            let epoch = GroupEpoch { epoch: 0, metadata_hash: 0 };
            self.decide(&mut unit, ShareFact::Epoch(Some(epoch)));
            turn.emit_unit(unit);
        }
        Ok(())
    }

    fn refuse_if_full(&self, turn: &Turn<'_>, member: &str) -> Result<(), Refused> {
        let members_max = turn.options.share_group_members_max;
        if self.members.len() < members_max || self.members.contains_key(member) {
            return Ok(());
        }
        let message =
            format!("The share group has reached its maximum capacity of {members_max} members.");
        Err(Refused::new(ErrorCode::GroupMaxSizeReached, message))
    }

    fn unknown(&self, member: &str) -> Refused {
        let message = format!("Member {member} is not a member of group {}.", self.id);
        Refused::new(ErrorCode::UnknownMemberId, message)
    }

    /// A member that names the epoch before its own has not heard the last answer.
    fn validate_epoch(&self, request: &ShareHeartbeat) -> Result<(), Refused> {
        let member = self.members.get(request.member.as_str());
        let current = &member.ok_or_else(|| self.unknown(&request.member))?.current;
        if request.epoch == current.epoch || request.epoch == current.previous_epoch {
            return Ok(());
        }
        let how = if current.epoch < request.epoch { "greater" } else { "smaller" };
        let message = format!(
            "The share group member has a {how} member epoch ({}) than the one known by the group \
             coordinator ({}). The member must abandon all its partitions and rejoin.",
            request.epoch, current.epoch
        );
        Err(Refused::new(ErrorCode::FencedMemberEpoch, message))
    }

    /// What was said before, with what is said now.
    fn said_after(&self, id: &str, request: &ShareHeartbeat) -> ShareMember {
        let before = self.members.get(id).and_then(|it| it.said.as_deref());
        let mut after = before.cloned().unwrap_or_default();
        after.client_id.clone_from(&request.client_id);
        after.client_host.clone_from(&request.client_host);
        if request.rack.is_some() {
            after.rack.clone_from(&request.rack);
        }
        if let Some(topics) = &request.topics {
            after.topics = topics.iter().cloned().collect();
        }
        after
    }

    /// Begins the next group epoch if `is_changed`, or if the topics are not what they were.
    fn advance_epoch(&mut self, turn: &Turn<'_>, unit: &mut Vec<Event>, is_changed: bool) {
        if !is_changed && !self.is_stale {
            return;
        }
        let names: BTreeSet<&str> = self.members.values().flat_map(|it| it.topics()).collect();
        let metadata_hash = topics_hash(turn.catalogue, &names);
        if is_changed || self.epoch.is_none_or(|it| it.metadata_hash != metadata_hash) {
            let epoch = self.epoch().saturating_add(1);
            self.decide(unit, ShareFact::Epoch(Some(GroupEpoch { epoch, metadata_hash })));
        }
        self.is_stale = false;
    }

    /// Computes the target assignment of the group's epoch, unless it is there, or the last one is too recent.
    fn retarget(&mut self, turn: &mut Turn<'_>) {
        let interval_ms = turn.catalogue.share_settings(&self.id).assignment_interval_ms;
        if !targets::is_due(turn, self.target_epoch, self.epoch(), interval_ms) {
            return;
        }
        let (changed, next) = (self.changed_targets(turn), self.epoch());
        targets::store(turn, changed, next, |unit, fact| self.decide(unit, fact.into()));
    }

    fn changed_targets(&self, turn: &Turn<'_>) -> Vec<(Arc<str>, Partitions)> {
        let mut facts: BTreeMap<&str, Option<TopicFacts>> = BTreeMap::new();
        let mut topics: BTreeMap<TopicId, i32> = BTreeMap::new();
        let mut subscribers = Vec::with_capacity(self.members.len());
        for member in self.members.values() {
            let mut wanted = Vec::new();
            for name in member.topics() {
                let found = *facts.entry(name).or_insert_with(|| turn.catalogue.topic(name));
                let Some(TopicFacts { id, partitions }) = found else { continue };
                topics.insert(id, partitions);
                wanted.push(id);
            }
            subscribers.push(wanted);
        }
        let assigned = assignment::assign(&topics, &subscribers);
        targets::changed(self.members.keys(), assigned, &self.targets)
    }

    /// Tells the member its target; whether that changed what it shares in.
    fn move_to_target(&mut self, turn: &mut Turn<'_>, id: &Arc<str>) -> bool {
        let Some(member) = self.members.get(id) else { return false };
        let epoch = self.target_epoch.epoch;
        let assigned = self.targets.get(id).cloned().unwrap_or_default();
        let before = &member.current;
        let has_moved = before.assigned != assigned;
        if before.epoch == epoch && !has_moved {
            return false;
        }
        let previous_epoch =
            if before.epoch == epoch { before.previous_epoch } else { before.epoch };
        let current = Some(ShareCurrent { epoch, previous_epoch, assigned });
        let mut unit = Vec::new();
        self.decide(&mut unit, ShareFact::Current { member: id.to_string(), current });
        turn.emit_unit(unit);
        has_moved
    }

    fn leave(
        &mut self,
        turn: &mut Turn<'_>,
        request: &ShareHeartbeat,
    ) -> Result<ShareHeartbeatReply, Refused> {
        let found = self.members.get_key_value(request.member.as_str());
        let (id, _) = found.ok_or_else(|| self.unknown(&request.member))?;
        let id = Arc::clone(id);
        self.dismiss(turn, &id);
        Ok(ShareHeartbeatReply {
            member: request.member.clone(),
            epoch: LEAVE_EPOCH,
            heartbeat_interval_ms: 0,
            assignment: None,
        })
    }

    /// Takes the member out; what it shared in goes to the others in the next epoch.
    pub(super) fn dismiss(&mut self, turn: &mut Turn<'_>, id: &Arc<str>) {
        self.disarm_member(turn.timers, id);
        let mut unit = Vec::new();
        for fact in tombstones_of(id) {
            self.decide(&mut unit, fact);
        }
        self.advance_epoch(turn, &mut unit, true);
        turn.emit_unit(unit);
        turn.order(GroupOrder::GiveBack { group: Arc::clone(&self.id), member: Arc::clone(id) });
    }
}
