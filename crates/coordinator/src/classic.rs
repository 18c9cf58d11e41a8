//! One classic group: who is in it, which generation runs, who waits for what.
//!
//! Owns: members, pending members, instance ids, the generation and the rebalance in progress, the
//! deadlines of all of them.
//! Does not own: committed offsets (`offsets`), the order of deadlines (`timers`), the log (the
//! caller of the shard).
//!
//! The stored image is what the log says; everything else is soft and lost with the process, as in
//! Kafka. The rules follow Kafka 4.x; where they are subtle the reason stands beside them.

mod join;
mod leave;
mod member;
mod rebalance;
mod sync;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::ErrorCode;
use vocabulary::{Tick, Timestamp};

pub(crate) use crate::classic::join::fresh_member_id;
pub(crate) use crate::classic::member::{
    Member, metadata_bytes, millis, refused_join, refused_sync,
};
use crate::classic::rebalance::JoinDeadline;
use crate::command::{
    CommitOffsets, DescribedGroup, DescribedMember, GroupKind, GroupState, ListedGroup,
};
use crate::event::{GroupImage, MemberImage};
use crate::group::AgeBase;
use crate::shard::Turn;
use crate::subscription::{self, CONSUMER};
use crate::timers::{Alarm, Timers};

#[derive(Debug)]
pub(crate) struct ClassicGroup {
    id: Arc<str>,
    /// What the log says once the appends in flight are durable. Only [`ClassicGroup::store`] changes it.
    image: Option<GroupImage>,
    state: GroupState,
    /// Wall time of the last change of state.
    state_since: Timestamp,
    generation: i32,
    protocol_type: Option<String>,
    /// Chosen for the generation; kept in mid-rebalance until the next one is.
    protocol: Option<String>,
    leader: Option<Arc<str>>,
    members: BTreeMap<Arc<str>, Member>,
    /// Instance id to member id (KIP-345).
    statics: BTreeMap<String, Arc<str>>,
    /// Ids given out that have not come back yet (KIP-394), until when.
    pending: BTreeMap<Arc<str>, Tick>,
    /// Members of this generation that have not asked for their assignment yet.
    pending_sync: BTreeSet<Arc<str>>,
    /// How many members support each protocol.
    support: BTreeMap<String, usize>,
    /// How many members wait in a join.
    joining: usize,
    /// Protocol metadata of all members, in bytes.
    metadata_bytes: usize,
    join_deadline: Option<JoinDeadline>,
    sync_deadline: Option<Tick>,
    /// The rebalance in preparation is the first of a group that was empty.
    from_empty: bool,
    /// Somebody joined since the initial delay was last extended.
    newcomer: bool,
    /// Topics the members of this generation subscribe to; `None` when that cannot be known.
    subscribed: Option<BTreeSet<String>>,
}

impl ClassicGroup {
    pub(crate) fn new(id: Arc<str>, now: Timestamp) -> ClassicGroup {
        ClassicGroup {
            id,
            image: None,
            state: GroupState::Empty,
            state_since: now,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            statics: BTreeMap::new(),
            pending: BTreeMap::new(),
            pending_sync: BTreeSet::new(),
            support: BTreeMap::new(),
            joining: 0,
            metadata_bytes: 0,
            join_deadline: None,
            sync_deadline: None,
            from_empty: false,
            newcomer: false,
            subscribed: None,
        }
    }

    /// Remembers what the log says. The only writer of the image, live and at replay.
    pub(crate) fn store(&mut self, image: GroupImage) {
        self.image = Some(image);
    }

    /// Builds the running group from its image, once, after the log was replayed. Every member gets
    /// a whole session from here on: the coordinator's absence is not the member's fault.
    pub(crate) fn restore(&mut self, turn: &mut Turn<'_>) {
        let Some(image) = self.image.clone() else { return };
        self.generation = image.generation;
        self.state_since = Timestamp(image.state_timestamp);
        self.protocol_type = Some(image.protocol_type).filter(|it| !it.is_empty());
        self.protocol = image.protocol;
        self.state = if image.members.is_empty() { GroupState::Empty } else { GroupState::Stable };
        let protocol = self.protocol.clone().unwrap_or_default();
        for (id, member) in image.members {
            let id: Arc<str> = id.into();
            self.insert(Member::restored(&id, &protocol, member));
            self.arm_session(turn, &id);
        }
        // Inserting made the first member leader; the log knows better.
        if let Some(leader) = image.leader
            && let Some((id, _)) = self.members.get_key_value(leader.as_str())
        {
            self.leader = Some(Arc::clone(id));
        }
        self.subscribed = self.subscribed_topics();
        if turn.options.group_members_max < self.members.len() {
            self.prepare_rebalance(turn); // The limit was lowered: the surplus is not let in again.
        }
    }

    /// The group as it is to be stored.
    pub(crate) fn to_image(&self) -> GroupImage {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        GroupImage {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.as_deref().map(str::to_owned),
            state_timestamp: self.state_since.0,
            members: self
                .members
                .values()
                .map(|member| (member.id.to_string(), member.to_image(protocol)))
                .collect::<BTreeMap<String, MemberImage>>(),
        }
    }

    pub(crate) fn image(&self) -> Option<&GroupImage> {
        self.image.as_ref()
    }

    /// A stable group of members that were in a consumer group. Their sessions begin with
    /// [`ClassicGroup::rebalance_reborn`].
    pub(crate) fn of_members(
        id: Arc<str>,
        now: Timestamp,
        generation: i32,
        members: Vec<Member>,
    ) -> ClassicGroup {
        let mut group = ClassicGroup::new(id, now);
        group.state = GroupState::Stable;
        group.generation = generation;
        group.protocol_type = Some(CONSUMER.to_owned());
        members.into_iter().for_each(|it| group.insert(it));
        group.protocol = group.select_protocol();
        group.subscribed = group.subscribed_topics();
        group
    }

    /// The members of a group that was a consumer group agree anew, among themselves.
    /// Until they have, their generation is the `known` one.
    pub(crate) fn rebalance_reborn(&mut self, turn: &mut Turn<'_>, known: i32) {
        self.generation = known;
        let ids: Vec<Arc<str>> = self.members.keys().cloned().collect();
        ids.iter().for_each(|id| self.arm_session(turn, id));
        self.prepare_rebalance(turn);
    }

    pub(crate) fn generation(&self) -> i32 {
        self.generation
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// Nothing is left that anybody could ask for.
    pub(crate) fn is_vacant(&self) -> bool {
        self.image.is_none() && self.is_idle()
    }

    /// Nobody is in the group or on the way into it.
    pub(crate) fn is_idle(&self) -> bool {
        self.is_empty() && self.pending.is_empty()
    }

    pub(crate) fn state(&self) -> GroupState {
        self.state
    }

    pub(crate) fn member_count(&self) -> usize {
        self.members.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.state == GroupState::Empty
    }

    fn transition(&mut self, turn: &Turn<'_>, state: GroupState) {
        self.state = state;
        self.state_since = turn.now.wall;
    }

    /// Cancels every deadline: the group is going away. Only empty groups go.
    pub(crate) fn disarm(&mut self, timers: &mut Timers) {
        assert!(self.is_empty(), "only an empty group is deleted");
        for (member, at) in std::mem::take(&mut self.pending) {
            timers.cancel(at, Alarm::Session(Arc::clone(&self.id), member));
        }
    }

    /// UNKNOWN_MEMBER_ID or FENCED_INSTANCE_ID unless `member` is who it says it is.
    fn validate_member(&self, member: &str, instance: Option<&str>) -> Result<(), ErrorCode> {
        if let Some(instance) = instance {
            match self.statics.get(instance) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(holder) if **holder != *member => return Err(ErrorCode::FencedInstanceId),
                Some(_) => (),
            }
        }
        if self.members.contains_key(member) { Ok(()) } else { Err(ErrorCode::UnknownMemberId) }
    }

    /// Whether these offsets may be committed.
    pub(crate) fn validate_commit(&self, commit: &CommitOffsets) -> Result<(), ErrorCode> {
        if commit.generation < 0 && self.is_empty() {
            return Ok(()); // An admin client, or a consumer that assigns its partitions itself.
        }
        let is_anonymous =
            commit.generation < 0 && commit.member.is_empty() && commit.instance.is_none();
        if is_anonymous && commit.transaction.is_some() {
            return Ok(()); // TxnOffsetCommit before version 3 does not say who commits (KIP-447).
        }
        if is_anonymous {
            return Err(ErrorCode::UnknownMemberId); // Not a member, and there are members.
        }
        self.validate_member(&commit.member, commit.instance.as_deref())?;
        if commit.generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        if self.state == GroupState::CompletingRebalance && commit.transaction.is_none() {
            // The member knows the newest generation but has no assignment yet: it tries again
            // after it has synchronised.
            return Err(ErrorCode::RebalanceInProgress);
        }
        Ok(())
    }

    /// A commit is a sign of life.
    pub(crate) fn committed(&mut self, turn: &mut Turn<'_>, member: &str) {
        if matches!(self.state, GroupState::Stable | GroupState::PreparingRebalance)
            && let Some((id, _)) = self.members.get_key_value(member)
        {
            let id = Arc::clone(id);
            self.arm_session(turn, &id);
        }
    }

    /// NON_EMPTY_GROUP when offsets may not be deleted at all.
    pub(crate) fn validate_offset_delete(&self) -> Result<(), ErrorCode> {
        if self.is_empty() || self.is_consumer() { Ok(()) } else { Err(ErrorCode::NonEmptyGroup) }
    }

    pub(crate) fn is_consumer(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER)
    }

    /// Whether a live member may want the offsets of this topic. A consumer group whose
    /// subscriptions cannot be read may want all of them.
    pub(crate) fn is_subscribed(&self, topic: &str) -> bool {
        match &self.subscribed {
            Some(topics) => topics.contains(topic),
            None => self.is_consumer(),
        }
    }

    /// From when on offsets age: `None` means they do not; otherwise by the offset's own commit
    /// time, or by the moment the group became empty.
    pub(crate) fn offset_age_base(&self) -> Option<AgeBase> {
        match (&self.protocol_type, self.state) {
            (None, _) => Some(AgeBase::Commit),
            (Some(_), GroupState::Empty) if self.state_since.0 < 0 => Some(AgeBase::Commit),
            (Some(_), GroupState::Empty) => Some(AgeBase::At(self.state_since)),
            (Some(_), GroupState::Stable) if self.is_consumer() && self.subscribed.is_some() => {
                Some(AgeBase::Commit)
            }
            (Some(_), _) => None,
        }
    }

    fn subscribed_topics(&self) -> Option<BTreeSet<String>> {
        if !self.is_consumer() {
            return None;
        }
        if self.members.is_empty() {
            return Some(BTreeSet::new());
        }
        let protocol = self.protocol.as_deref()?;
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            topics.append(&mut subscription::topics(&member.metadata(protocol))?);
        }
        Some(topics)
    }

    pub(crate) fn describe(&self) -> DescribedGroup {
        let stable = self.state == GroupState::Stable;
        let protocol = self.protocol.clone().filter(|_| stable).unwrap_or_default();
        let members = self.members.values().map(|member| DescribedMember {
            member: Arc::clone(&member.id),
            instance: member.instance.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: if stable { member.metadata(&protocol) } else { Default::default() },
            assignment: if stable { member.assignment.clone() } else { Default::default() },
        });
        DescribedGroup {
            group: self.id.to_string(),
            state: self.state,
            missing: None,
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            members: members.collect(),
            protocol,
        }
    }

    pub(crate) fn list(&self) -> ListedGroup {
        ListedGroup {
            group: self.id.to_string(),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            state: self.state,
            kind: GroupKind::Classic,
        }
    }

    /// G1 to G5, and its part of G6: how many alarms it has set.
    pub(crate) fn check(&self, timers: &Timers) -> usize {
        let mut support = BTreeMap::<&str, usize>::new();
        for protocol in self.members.values().flat_map(|it| &it.protocols) {
            *support.entry(&protocol.name).or_default() += 1;
        }
        let counted = self.support.iter().map(|(name, count)| (name.as_str(), *count));
        assert!(counted.eq(support), "G1 support of protocols");
        let joining = self.members.values().filter(|it| it.join.is_some()).count();
        assert_eq!(self.joining, joining, "G1 joining members");
        let bytes: usize = self.members.values().map(Member::metadata_bytes).sum();
        assert_eq!(self.metadata_bytes, bytes, "G1 metadata bytes");

        let instances =
            self.members.values().filter_map(|it| Some((it.instance.as_ref()?, &it.id)));
        assert_eq!(self.statics.len(), instances.clone().count(), "G2");
        assert!(instances.into_iter().all(|(it, id)| self.statics.get(it) == Some(id)), "G2");

        match self.state {
            GroupState::Empty => assert!(self.members.is_empty(), "G3"),
            GroupState::PreparingRebalance => (),
            _ => assert!(!self.members.is_empty(), "G3"),
        }
        assert_eq!(self.leader.is_some(), !self.members.is_empty(), "G3 leader");
        assert!(self.leader.iter().all(|it| self.members.contains_key(it)), "G3 leader");

        let syncing = self.members.values().filter(|it| it.sync.is_some()).count();
        assert!(self.joining == 0 || self.state == GroupState::PreparingRebalance, "G4 join");
        assert!(syncing == 0 || self.state == GroupState::CompletingRebalance, "G4 sync");
        if self.state == GroupState::PreparingRebalance {
            assert!(self.join_deadline.is_some(), "G4: a rebalance ends by itself");
        }
        if let Some(image) = &self.image
            && matches!(self.state, GroupState::Stable | GroupState::Empty)
        {
            assert_eq!(*image, self.to_image(), "G5");
        }
        self.check_deadlines(timers)
    }

    fn check_deadlines(&self, timers: &Timers) -> usize {
        let id = || Arc::clone(&self.id);
        let mut deadlines = Vec::new();
        deadlines.extend(self.join_deadline.map(|it| (it.at, Alarm::Join(id()))));
        deadlines.extend(self.sync_deadline.map(|at| (at, Alarm::Sync(id()))));
        for (member, at) in &self.pending {
            deadlines.push((*at, Alarm::Session(id(), Arc::clone(member))));
        }
        for member in self.members.values() {
            let session = || Alarm::Session(id(), Arc::clone(&member.id));
            deadlines.extend(member.deadline.map(|at| (at, session())));
        }
        let count = deadlines.len();
        assert!(deadlines.into_iter().all(|(at, alarm)| timers.contains(at, alarm)), "G6");
        count
    }
}
