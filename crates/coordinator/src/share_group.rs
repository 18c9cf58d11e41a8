//! One share group (KIP-932): its members share partitions, several of them in the same one if need be.
//!
//! Owns: the members and what each is to share in, the epochs, the deadlines of the members.
//! Does not own: which records were delivered to whom (`share`), the order of deadlines (`timers`),
//! which topics there are (`catalogue`).
//!
//! Nothing has to be given up before somebody else may have it, so a member is told its target as it is.
//! All of it but the deadlines is durable, as with consumer groups: facts are applied as they are decided,
//! and are what the log says. The target's epoch is stored last, so that an unfinished target is computed again.
//!
//! | module | in it |
//! | --- | --- |
//! | `assignment` | who shares in what |
//! | `facts` | what a fact changes |
//! | `heartbeat` | a member says what it has to say, and learns what it is to share in |

mod assignment;
mod facts;
mod heartbeat;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use vocabulary::Tick;

pub(crate) use self::heartbeat::validate;
use crate::command::{
    DescribedShareGroup, DescribedShareMember, GroupKind, GroupState, ListedGroup,
};
use crate::consumer::named;
use crate::event::{
    Event, GroupEpoch, Partitions, ShareCurrent, ShareFact, ShareMember, TargetEpoch,
};
use crate::shard::Turn;
use crate::timers::{Alarm, Timers};

/// The protocol type of share groups, as ListGroups shows it.
const SHARE: &str = "share";

#[derive(Debug)]
pub(crate) struct ShareGroup {
    id: Arc<str>,
    /// `None`: never stored.
    epoch: Option<GroupEpoch>,
    target_epoch: TargetEpoch,
    targets: BTreeMap<Arc<str>, Partitions>,
    members: BTreeMap<Arc<str>, Member>,
    /// Topics may have changed since the epoch was decided: the next heartbeat looks.
    is_stale: bool,
}

#[derive(Debug, Default)]
struct Member {
    /// `None` while the log is replayed, as long as it has not been told.
    said: Option<Box<ShareMember>>,
    current: ShareCurrent,
    /// When its session ends.
    session: Option<Tick>,
}

impl ShareGroup {
    pub(crate) fn new(id: Arc<str>) -> ShareGroup {
        ShareGroup {
            id,
            epoch: None,
            target_epoch: TargetEpoch { epoch: 0, timestamp: 0 },
            targets: BTreeMap::new(),
            members: BTreeMap::new(),
            is_stale: true,
        }
    }

    /// The log was replayed: every member gets a whole session from here on.
    pub(crate) fn restore(&mut self, turn: &mut Turn<'_>) {
        // What the log tells of members it does not introduce is left over from their departure.
        self.members.retain(|_, member| member.said.is_some());
        let ids: Vec<Arc<str>> = self.members.keys().cloned().collect();
        for id in ids {
            self.arm_session(turn, &id);
        }
    }

    /// Topics were created, grown or deleted.
    pub(crate) fn topic_changed(&mut self, topic: &str) {
        self.is_stale |= self.is_subscribed(topic);
    }

    /// News of topics were missed.
    pub(crate) fn topics_missed(&mut self) {
        self.is_stale = true;
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

    pub(crate) fn state(&self) -> GroupState {
        if self.members.is_empty() { GroupState::Empty } else { GroupState::Stable }
    }

    pub(crate) fn is_subscribed(&self, topic: &str) -> bool {
        self.members.values().any(|it| it.topics().any(|it| it == topic))
    }

    fn epoch(&self) -> i32 {
        self.epoch.map_or(0, |it| it.epoch)
    }

    /// Starts the member's session anew.
    fn arm_session(&mut self, turn: &mut Turn<'_>, id: &Arc<str>) {
        let Some(member) = self.members.get_mut(id) else { return };
        let alarm = || Alarm::Session(Arc::clone(&self.id), Arc::clone(id));
        if let Some(at) = member.session.take() {
            turn.timers.cancel(at, alarm());
        }
        let timeout_ms = turn.catalogue.share_settings(&self.id).session_timeout_ms;
        let timeout = Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0));
        let at = turn.now.tick.plus(timeout);
        member.session = Some(at);
        turn.timers.set(at, alarm());
    }

    fn disarm_member(&mut self, timers: &mut Timers, id: &Arc<str>) {
        let Some(member) = self.members.get_mut(id) else { return };
        if let Some(at) = member.session.take() {
            timers.cancel(at, Alarm::Session(Arc::clone(&self.id), Arc::clone(id)));
        }
    }

    /// Cancels every deadline: the group is going away.
    pub(crate) fn disarm(&mut self, timers: &mut Timers) {
        let ids: Vec<Arc<str>> = self.members.keys().cloned().collect();
        ids.iter().for_each(|id| self.disarm_member(timers, id));
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

    /// All the log says of the group, taken back: its own fact last, so that a crash in between
    /// leaves a group that can be deleted again.
    pub(crate) fn tombstones(&self) -> Vec<Event> {
        let mut facts: Vec<ShareFact> =
            self.members.keys().flat_map(|it| tombstones_of(it)).collect();
        facts.push(ShareFact::TargetEpoch(None));
        facts.push(ShareFact::Epoch(None));
        let event = |fact| Event::Share { group: self.id.to_string(), fact };
        facts.into_iter().map(event).collect()
    }

    pub(crate) fn describe(&self, turn: &Turn<'_>) -> DescribedShareGroup {
        let described = |(id, member): (&Arc<str>, &Member)| {
            let said = member.said.as_deref().cloned().unwrap_or_default();
            DescribedShareMember {
                member: id.to_string(),
                rack: said.rack,
                epoch: member.current.epoch,
                client_id: said.client_id,
                client_host: said.client_host,
                topics: said.topics.into_iter().collect(),
                assigned: named(turn, member.current.assigned.clone()),
            }
        };
        DescribedShareGroup {
            group: self.id.to_string(),
            state: self.state(),
            epoch: self.epoch(),
            target_epoch: self.target_epoch.epoch,
            members: self.members.iter().map(described).collect(),
        }
    }

    pub(crate) fn list(&self) -> ListedGroup {
        ListedGroup {
            group: self.id.to_string(),
            protocol_type: SHARE.to_owned(),
            state: self.state(),
            kind: GroupKind::Share,
        }
    }

    /// Its part of G6, and that all members were introduced: how many alarms it has set.
    pub(crate) fn check(&self, timers: &Timers) -> usize {
        for (id, member) in &self.members {
            assert!(member.said.is_some(), "G1: {id} has been told of");
            let at = member.session.expect("G6: a member that falls silent is found out");
            let alarm = Alarm::Session(Arc::clone(&self.id), Arc::clone(id));
            assert!(timers.contains(at, alarm), "G6");
        }
        self.members.len()
    }
}

impl Member {
    fn topics(&self) -> impl Iterator<Item = &str> {
        self.said.iter().flat_map(|it| &it.topics).map(String::as_str)
    }
}

/// All the log says of a member, taken back.
fn tombstones_of(id: &str) -> [ShareFact; 3] {
    [
        ShareFact::Current { member: id.to_owned(), current: None },
        ShareFact::Target { member: id.to_owned(), partitions: None },
        ShareFact::Member { member: id.to_owned(), said: None },
    ]
}
