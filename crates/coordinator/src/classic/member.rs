//! Members of a group and the bookkeeping that every change of membership needs. All counters of
//! the group are kept here and nowhere else (G1, G2).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use protocol::ErrorCode;

use crate::classic::ClassicGroup;
use crate::command::{JoinGroup, JoinReply, Protocol, Reply, SyncReply, Ticket};
use crate::event::MemberImage;
use crate::shard::Turn;
use crate::timers::Alarm;
use vocabulary::Tick;

#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) id: Arc<str>,
    pub(crate) instance: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) rebalance_timeout_ms: i32,
    pub(crate) session_timeout_ms: i32,
    /// In the member's order of preference, no name twice.
    pub(crate) protocols: Vec<Protocol>,
    pub(crate) assignment: Bytes,
    /// Has not completed a join yet: it cannot heartbeat, so waiting does not keep it alive.
    pub(crate) is_new: bool,
    pub(crate) join: Option<Ticket>,
    pub(crate) sync: Option<Ticket>,
    /// When its session ends; `None` while it waits in a rebalance longer than its session.
    pub(crate) deadline: Option<Tick>,
}

impl Member {
    pub(crate) fn joining(id: &Arc<str>, join: &JoinGroup) -> Member {
        Member {
            id: Arc::clone(id),
            instance: join.instance.clone(),
            client_id: join.client_id.clone(),
            client_host: join.client_host.clone(),
            rebalance_timeout_ms: join.rebalance_timeout_ms,
            session_timeout_ms: join.session_timeout_ms,
            protocols: distinct(&join.protocols),
            assignment: Bytes::new(),
            is_new: true,
            join: None,
            sync: None,
            deadline: None,
        }
    }

    pub(crate) fn restored(id: &Arc<str>, protocol: &str, image: MemberImage) -> Member {
        Member {
            id: Arc::clone(id),
            instance: image.instance,
            client_id: image.client_id,
            client_host: image.client_host,
            rebalance_timeout_ms: image.rebalance_timeout_ms,
            session_timeout_ms: image.session_timeout_ms,
            protocols: vec![Protocol { name: protocol.to_owned(), metadata: image.subscription }],
            assignment: image.assignment,
            is_new: false,
            join: None,
            sync: None,
            deadline: None,
        }
    }

    pub(crate) fn to_image(&self, protocol: &str) -> MemberImage {
        MemberImage {
            instance: self.instance.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            session_timeout_ms: self.session_timeout_ms,
            subscription: self.metadata(protocol),
            assignment: self.assignment.clone(),
        }
    }

    /// The member's metadata for this protocol; empty when it does not support it.
    pub(crate) fn metadata(&self, protocol: &str) -> Bytes {
        let found = self.protocols.iter().find(|it| it.name == protocol);
        found.map(|it| it.metadata.clone()).unwrap_or_default()
    }

    pub(crate) fn metadata_bytes(&self) -> usize {
        metadata_bytes(&self.protocols)
    }

    /// Whether a join brings nothing new.
    pub(crate) fn matches(&self, protocols: &[Protocol]) -> bool {
        self.protocols == distinct(protocols)
    }

    /// Whether the end of its session is no sign of death: who waits in a rebalance cannot
    /// heartbeat. A new member is not trusted that far: its connection may be long gone.
    pub(crate) fn is_excused(&self) -> bool {
        !self.is_new && (self.join.is_some() || self.sync.is_some())
    }
}

/// The first of each name.
fn distinct(protocols: &[Protocol]) -> Vec<Protocol> {
    let mut kept = Vec::<Protocol>::with_capacity(protocols.len());
    for protocol in protocols {
        if kept.iter().all(|it| it.name != protocol.name) {
            kept.push(protocol.clone());
        }
    }
    kept
}

pub(crate) fn metadata_bytes(protocols: &[Protocol]) -> usize {
    protocols.iter().map(|it| it.name.len() + it.metadata.len()).sum()
}

impl ClassicGroup {
    pub(crate) fn insert(&mut self, member: Member) {
        assert!(member.join.is_none() && member.deadline.is_none(), "a member comes in bare");
        self.count_protocols(&member.protocols);
        if let Some(instance) = &member.instance {
            self.statics.insert(instance.clone(), Arc::clone(&member.id));
        }
        self.leader.get_or_insert_with(|| Arc::clone(&member.id));
        let before = self.members.insert(Arc::clone(&member.id), member);
        assert!(before.is_none(), "member ids are unique");
    }

    /// Takes the member out. Whatever it waited for is answered with `error`.
    pub(crate) fn remove(&mut self, turn: &mut Turn<'_>, id: &str, error: ErrorCode) {
        let Some(mut member) = self.members.remove(id) else { return };
        self.discount_protocols(&member.protocols);
        self.disarm_session(turn, &mut member);
        self.release(turn, &mut member, error);
        if let Some(instance) = &member.instance {
            self.statics.remove(instance);
        }
        self.pending_sync.remove(id);
        if self.leader.as_deref() == Some(id) {
            self.leader = self.members.keys().next().cloned();
        }
    }

    /// Gives the instance to a new member id. The old id is fenced at once: a second process with
    /// the same instance id learns that it is a duplicate (KIP-345).
    pub(crate) fn replace_static(&mut self, turn: &mut Turn<'_>, old: &str, new: &Arc<str>) {
        let mut member = self.members.remove(old).expect("the instance names a member (G2)");
        self.disarm_session(turn, &mut member);
        self.release(turn, &mut member, ErrorCode::FencedInstanceId);
        if let Some(instance) = &member.instance {
            self.statics.insert(instance.clone(), Arc::clone(new));
        }
        if self.pending_sync.remove(old) {
            self.pending_sync.insert(Arc::clone(new));
        }
        if self.leader.as_deref() == Some(old) {
            self.leader = Some(Arc::clone(new));
        }
        member.id = Arc::clone(new);
        member.is_new = false; // Its place is older than this join.
        self.members.insert(Arc::clone(new), member);
    }

    /// Takes over what a join says about the member.
    pub(crate) fn update(&mut self, id: &str, join: &JoinGroup) {
        let protocols = distinct(&join.protocols);
        self.count_protocols(&protocols);
        let member = self.members.get_mut(id).expect("callers found the member");
        member.rebalance_timeout_ms = join.rebalance_timeout_ms;
        member.session_timeout_ms = join.session_timeout_ms;
        let before = std::mem::replace(&mut member.protocols, protocols);
        self.discount_protocols(&before);
    }

    /// Lets the member wait for the end of the join phase. A request it already had waiting is
    /// superseded: its sender has gone, or repeats itself.
    pub(crate) fn await_join(&mut self, turn: &mut Turn<'_>, id: &str, ticket: Ticket) {
        let member = self.members.get_mut(id).expect("callers found the member");
        match member.join.replace(ticket) {
            None => self.joining += 1,
            Some(superseded) => {
                turn.answer(superseded, refused_join(ErrorCode::RebalanceInProgress, id));
            }
        }
    }

    /// As [`ClassicGroup::await_join`], for the assignment.
    pub(crate) fn await_sync(&mut self, turn: &mut Turn<'_>, id: &str, ticket: Ticket) {
        let member = self.members.get_mut(id).expect("callers found the member");
        if let Some(superseded) = member.sync.replace(ticket) {
            turn.answer(superseded, refused_sync(ErrorCode::RebalanceInProgress));
        }
    }

    fn release(&mut self, turn: &mut Turn<'_>, member: &mut Member, error: ErrorCode) {
        if let Some(ticket) = member.join.take() {
            self.joining -= 1;
            let known = if error == ErrorCode::UnknownMemberId { "" } else { &*member.id };
            turn.answer(ticket, refused_join(error, known));
        }
        if let Some(ticket) = member.sync.take() {
            turn.answer(ticket, refused_sync(error));
        }
    }

    /// Starts the member's session anew.
    pub(crate) fn arm_session(&mut self, turn: &mut Turn<'_>, id: &Arc<str>) {
        let Some(member) = self.members.get(id) else { return };
        let session_timeout_ms = member.session_timeout_ms;
        self.arm_session_for(turn, id, session_timeout_ms);
    }

    pub(crate) fn arm_session_for(&mut self, turn: &mut Turn<'_>, id: &Arc<str>, wait_ms: i32) {
        let Some(member) = self.members.get_mut(id) else { return };
        let alarm = || Alarm::Session(Arc::clone(&self.id), Arc::clone(id));
        if let Some(at) = member.deadline.take() {
            turn.timers.cancel(at, alarm());
        }
        let at = turn.now.tick.plus(millis(wait_ms));
        member.deadline = Some(at);
        turn.timers.set(at, alarm());
    }

    fn disarm_session(&self, turn: &mut Turn<'_>, member: &mut Member) {
        if let Some(at) = member.deadline.take() {
            let alarm = Alarm::Session(Arc::clone(&self.id), Arc::clone(&member.id));
            turn.timers.cancel(at, alarm);
        }
    }

    fn count_protocols(&mut self, protocols: &[Protocol]) {
        self.metadata_bytes += metadata_bytes(protocols);
        for protocol in protocols {
            *self.support.entry(protocol.name.clone()).or_default() += 1;
        }
    }

    fn discount_protocols(&mut self, protocols: &[Protocol]) {
        self.metadata_bytes -= metadata_bytes(protocols);
        for protocol in protocols {
            let count = self.support.get_mut(&protocol.name).expect("G1: it was counted");
            *count -= 1;
            if *count == 0 {
                self.support.remove(&protocol.name);
            }
        }
    }
}

/// A timeout of the wire: negative counts as zero.
pub(crate) fn millis(timeout_ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0))
}

pub(crate) fn refused_join(error: ErrorCode, member: &str) -> Reply {
    Reply::Join(JoinReply {
        error,
        generation: -1,
        protocol_type: None,
        protocol: None,
        leader: String::new(),
        skip_assignment: false,
        member: member.to_owned(),
        members: Vec::new(),
    })
}

pub(crate) fn refused_sync(error: ErrorCode) -> Reply {
    Reply::Sync(SyncReply { error, protocol_type: None, protocol: None, assignment: Bytes::new() })
}
