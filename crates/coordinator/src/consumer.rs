//! One consumer group (KIP-848): the coordinator decides who owns what, and every member gets there
//! at its own pace.
//!
//! Owns: members and what they own, the target assignment, the epochs, the deadlines of the members.
//! Does not own: how an assignment is computed (`assignor`), committed offsets (`offsets`), the
//! order of deadlines (`timers`), which topics there are (`catalogue`).
//!
//! All of it but the deadlines is durable: a decision is a row of facts, which are applied as they
//! are made and are what the log says. The facts of a request are stored in this order, and a crash
//! between any two of them is harmless: a member and the group's new epoch together; the target
//! assignment of that epoch, its epoch last, so that an unfinished one is computed again; what the
//! member owns.
//!
//! | module | in it |
//! | --- | --- |
//! | `facts` | what a fact changes; who owns a partition (G7) |
//! | `heartbeat` | a member of the consumer protocol says what it has to say |
//! | `patterns` | which topics regular expressions stand for, and when that is looked for |
//! | `target` | from a change to the next target assignment |
//! | `reconcile` | one member's next step towards its target |
//! | `departure` | leaving, and members that are taken for gone |
//! | `request` | what a heartbeat must say |
//! | `classic_member` | members that still speak the classic protocol |
//! | `conversion` | from a classic group and back |
//! | `show` | describing |

mod classic_member;
mod conversion;
mod departure;
mod facts;
mod heartbeat;
mod patterns;
mod reconcile;
mod request;
mod show;
mod target;

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::ErrorCode;
use vocabulary::{Tick, TopicId};

pub(crate) use self::conversion::upgraded;
pub(crate) use self::heartbeat::compiled;
use self::request::is_leaving;
pub(crate) use self::request::validate;
pub(crate) use self::show::named;
pub(crate) use self::target::topics_hash;
use crate::catalogue::Catalogue;
use crate::classic::millis;
use crate::command::{CommitOffsets, GroupState, Refused};
use crate::event::{
    ConsumerFact, Current, Event, GroupEpoch, MemberState, OwnedPartitions, Partitions,
    ResolvedPattern, Subscription, TargetEpoch,
};
use crate::shard::Turn;
use crate::timers::{Alarm, Timers};

/// The epoch a member joins with.
pub(crate) const JOIN_EPOCH: i32 = 0;
/// The epoch a member leaves with.
pub(crate) const LEAVE_EPOCH: i32 = -1;
/// The epoch a static member leaves with when it means to come back; it keeps its partitions.
pub(crate) const LEAVE_FOR_NOW_EPOCH: i32 = -2;

#[derive(Debug)]
pub(crate) struct ConsumerGroup {
    id: Arc<str>,
    /// `None`: never stored.
    epoch: Option<GroupEpoch>,
    target_epoch: TargetEpoch,
    targets: BTreeMap<Arc<str>, Partitions>,
    members: BTreeMap<Arc<str>, Member>,
    /// Instance id to member id (KIP-345).
    statics: BTreeMap<String, Arc<str>>,
    /// Who has each partition, also if it is to give it up. Follows from the members (G7).
    owners: BTreeMap<(TopicId, i32), Arc<str>>,
    patterns: BTreeMap<String, ResolvedPattern>,
    /// Members that speak the consumer protocol. Follows from the members (G1).
    modern: usize,
    /// Topics may have changed since the epoch was decided: the next heartbeat looks.
    is_stale: bool,
    /// There may be topics that an expression stands for since all were resolved.
    may_have_new_topics: bool,
}

#[derive(Debug, Default)]
struct Member {
    /// `None` while the log is replayed, as long as it has not been told.
    subscription: Option<Box<Subscription>>,
    current: Current,
    /// When its session ends.
    session: Option<Tick>,
    /// When it must have given up partitions, or joined or synchronised (classic protocol).
    patience: Option<Tick>,
}

impl Member {
    fn is_classic(&self) -> bool {
        self.subscription.as_ref().is_some_and(|it| it.classic.is_some())
    }
}

impl ConsumerGroup {
    pub(crate) fn new(id: Arc<str>) -> ConsumerGroup {
        ConsumerGroup {
            id,
            epoch: None,
            target_epoch: TargetEpoch { epoch: 0, timestamp: 0 },
            targets: BTreeMap::new(),
            members: BTreeMap::new(),
            statics: BTreeMap::new(),
            owners: BTreeMap::new(),
            patterns: BTreeMap::new(),
            modern: 0,
            is_stale: true,
            may_have_new_topics: true,
        }
    }

    /// The log was replayed: every member gets a whole session from here on.
    pub(crate) fn restore(&mut self, turn: &mut Turn<'_>) {
        // What the log tells of members it does not introduce is left over from their departure.
        let strangers: Vec<Arc<str>> = self
            .members
            .iter()
            .filter(|(_, member)| member.subscription.is_none())
            .map(|(id, _)| Arc::clone(id))
            .collect();
        for id in strangers {
            self.apply(ConsumerFact::Member { member: id.to_string(), subscription: None });
        }
        let ids: Vec<Arc<str>> = self.members.keys().cloned().collect();
        for id in ids {
            self.arm_session(turn, &id);
            let member = self.members.get(&id);
            if member.is_some_and(|it| it.current.state == MemberState::UnrevokedPartitions) {
                self.arm_patience(turn, &id);
            }
        }
    }

    /// Topics were created, grown or deleted.
    pub(crate) fn topic_changed(&mut self, topic: &str) {
        self.is_stale |= self.is_subscribed(topic);
        self.may_have_new_topics |= self.patterns.values().any(|it| !it.topics.contains(topic));
    }

    /// News of topics were missed.
    pub(crate) fn topics_missed(&mut self) {
        self.is_stale = true;
        self.may_have_new_topics = true;
    }

    pub(crate) fn is_vacant(&self) -> bool {
        self.epoch.is_none() && self.members.is_empty()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(crate) fn member_count(&self) -> usize {
        self.members.len()
    }

    /// Whether only members of the classic protocol are left.
    pub(crate) fn is_all_classic(&self) -> bool {
        self.modern == 0 && !self.members.is_empty()
    }

    pub(crate) fn state(&self) -> GroupState {
        let target = self.target_epoch.epoch;
        let arrived = |member: &Member| {
            member.current.state == MemberState::Stable && member.current.epoch == target
        };
        if self.members.is_empty() {
            GroupState::Empty
        } else if target < self.epoch() {
            GroupState::Assigning
        } else if self.members.values().all(arrived) {
            GroupState::Stable
        } else {
            GroupState::Reconciling
        }
    }

    fn epoch(&self) -> i32 {
        self.epoch.map_or(0, |it| it.epoch)
    }

    pub(crate) fn is_subscribed(&self, topic: &str) -> bool {
        let subscribes = |it: &Subscription| {
            let pattern = it.pattern.as_ref().and_then(|it| self.patterns.get(it));
            it.topics.contains(topic) || pattern.is_some_and(|it| it.topics.contains(topic))
        };
        let mut subscriptions = self.members.values().filter_map(|it| it.subscription.as_deref());
        subscriptions.any(subscribes)
    }

    /// Whether these offsets may be committed.
    pub(crate) fn validate_commit(
        &self,
        catalogue: &dyn Catalogue,
        commit: &CommitOffsets,
    ) -> Result<(), ErrorCode> {
        if commit.generation < 0 && self.members.is_empty() {
            return Ok(()); // An admin client, or a consumer that assigns its partitions itself.
        }
        let is_anonymous =
            commit.generation == -1 && commit.member.is_empty() && commit.instance.is_none();
        if is_anonymous && commit.transaction.is_some() {
            return Ok(()); // TxnOffsetCommit before version 3 does not say who commits (KIP-447).
        }
        let member = self.members.get(commit.member.as_str()).ok_or(ErrorCode::UnknownMemberId)?;
        if !member.is_classic() && !commit.member_epochs_known {
            return Err(ErrorCode::UnsupportedVersion);
        }
        let epoch = member.current.epoch;
        // A member may not know its newest epoch yet: what it has had since the one it names is
        // its own all the same, until it has given it up (KIP-1251).
        let has_long = |topic: &str, partition: &i32| {
            let id = catalogue.topic(topic).map(|it| it.id);
            let since = |them: &OwnedPartitions| them.get(&id?)?.get(partition).copied();
            let Current { assigned, revoking, .. } = &member.current;
            let since = since(assigned).or_else(|| since(revoking));
            since.is_some_and(|since| since <= commit.generation)
        };
        let is_own = || commit.offsets.iter().all(|it| has_long(&it.topic, &it.partition));
        if commit.generation == epoch || (commit.generation < epoch && is_own()) {
            Ok(())
        } else if member.is_classic() {
            Err(ErrorCode::IllegalGeneration)
        } else {
            Err(ErrorCode::StaleMemberEpoch)
        }
    }

    /// Whether a member may read the group's offsets; who names none may.
    pub(crate) fn validate_fetch(&self, member: Option<&str>, epoch: i32) -> Result<(), ErrorCode> {
        if member.is_none() && epoch < 0 {
            return Ok(());
        }
        let member = self.members.get(member.unwrap_or_default());
        let member = member.ok_or(ErrorCode::UnknownMemberId)?;
        match member.current.epoch == epoch {
            true => Ok(()),
            false if member.is_classic() => Err(ErrorCode::IllegalGeneration),
            false => Err(ErrorCode::StaleMemberEpoch),
        }
    }

    fn refuse_if_full(&self, turn: &Turn<'_>, member: &str) -> Result<(), Refused> {
        let members_max = turn.options.consumer_group_members_max;
        if self.members.len() < members_max || self.members.contains_key(member) {
            return Ok(());
        }
        let message = format!(
            "The consumer group has reached its maximum capacity of {members_max} members."
        );
        Err(Refused::new(ErrorCode::GroupMaxSizeReached, message))
    }

    /// Starts the member's session anew.
    fn arm_session(&mut self, turn: &mut Turn<'_>, id: &Arc<str>) {
        let Some(member) = self.members.get_mut(id) else { return };
        let alarm = || Alarm::Session(Arc::clone(&self.id), Arc::clone(id));
        if let Some(at) = member.session.take() {
            turn.timers.cancel(at, alarm());
        }
        let classic = member.subscription.as_ref().and_then(|it| it.classic.as_ref());
        let session_timeout_ms = match classic {
            Some(classic) => classic.session_timeout_ms,
            None => turn.catalogue.settings(&self.id).session_timeout_ms,
        };
        let at = turn.now.tick.plus(millis(session_timeout_ms));
        member.session = Some(at);
        turn.timers.set(at, alarm());
    }

    /// Gives the member its rebalance timeout, from now on, for what it has to do.
    fn arm_patience(&mut self, turn: &mut Turn<'_>, id: &Arc<str>) {
        self.disarm_patience(turn, id);
        let Some(member) = self.members.get_mut(id) else { return };
        let timeout_ms = member.subscription.as_ref().map_or(0, |it| it.rebalance_timeout_ms);
        let at = turn.now.tick.plus(millis(timeout_ms));
        member.patience = Some(at);
        turn.timers.set(at, Alarm::Patience(Arc::clone(&self.id), Arc::clone(id)));
    }

    fn disarm_patience(&mut self, turn: &mut Turn<'_>, id: &Arc<str>) {
        if let Some(at) = self.members.get_mut(id).and_then(|it| it.patience.take()) {
            turn.timers.cancel(at, Alarm::Patience(Arc::clone(&self.id), Arc::clone(id)));
        }
    }

    /// Cancels every deadline of the member: it is going away.
    fn disarm_member(&mut self, timers: &mut Timers, id: &Arc<str>) {
        let Some(member) = self.members.get_mut(id) else { return };
        if let Some(at) = member.session.take() {
            timers.cancel(at, Alarm::Session(Arc::clone(&self.id), Arc::clone(id)));
        }
        if let Some(at) = member.patience.take() {
            timers.cancel(at, Alarm::Patience(Arc::clone(&self.id), Arc::clone(id)));
        }
    }

    /// Cancels every deadline: the group is going away.
    pub(crate) fn disarm(&mut self, timers: &mut Timers) {
        let ids: Vec<Arc<str>> = self.members.keys().cloned().collect();
        ids.iter().for_each(|id| self.disarm_member(timers, id));
    }

    /// All the log says of the group, taken back: its own fact last, so that a crash in between
    /// leaves a group that can be deleted again.
    pub(crate) fn tombstones(&self) -> Vec<Event> {
        let mut facts = Vec::new();
        for id in self.members.keys() {
            facts.extend(departure::tombstones_of(id));
        }
        for expression in self.patterns.keys() {
            let expression = expression.clone();
            facts.push(ConsumerFact::Pattern { expression, resolved: None });
        }
        facts.push(ConsumerFact::TargetEpoch(None));
        facts.push(ConsumerFact::Epoch(None));
        let event = |fact| Event::Consumer { group: self.id.to_string(), fact };
        facts.into_iter().map(event).collect()
    }

    /// G1, G2, G5, G7, and its part of G6: how many alarms it has set.
    pub(crate) fn check(&self, timers: &Timers) -> usize {
        let modern = self.members.values().filter(|it| !it.is_classic()).count();
        assert_eq!(self.modern, modern, "G1 members of the consumer protocol");
        let subscription = |member: &Member| member.subscription.clone().expect("G1: told");
        let statics =
            self.members.iter().filter_map(|(id, it)| Some((subscription(it).instance?, id)));
        assert_eq!(self.statics.len(), statics.clone().count(), "G2");
        assert!(statics.into_iter().all(|(it, id)| self.statics.get(&it) == Some(id)), "G2");
        let mut owned = 0;
        for (id, member) in &self.members {
            let parts = [&member.current.assigned, &member.current.revoking];
            for (topic, them) in parts.into_iter().flatten() {
                owned += them.len();
                let is_owner = |index: &i32| self.owners.get(&(*topic, *index)) == Some(id);
                assert!(them.keys().all(is_owner), "G7: {id} owns what it has");
            }
        }
        assert_eq!(owned, self.owners.len(), "G7: a partition has one owner");
        let mut count = 0;
        for (id, member) in &self.members {
            let pair = || (Arc::clone(&self.id), Arc::clone(id));
            let session = member.session.map(|at| (at, Alarm::Session(pair().0, pair().1)));
            let patience = member.patience.map(|at| (at, Alarm::Patience(pair().0, pair().1)));
            assert!(session.is_some(), "G6: a member that falls silent is found out");
            for (at, alarm) in session.into_iter().chain(patience) {
                assert!(timers.contains(at, alarm), "G6");
                count += 1;
            }
        }
        count
    }
}
