//! The requests of share groups (KIP-932), each to the group it names.

use std::sync::Arc;

use protocol::ErrorCode;

use crate::command::{
    Answer, DescribedShareGroup, FoundShare, Refused, Reply, ShareHeartbeat, ShareHeartbeatReply,
    Ticket,
};
use crate::consumer::JOIN_EPOCH;
use crate::event::ShareFact;
use crate::format::TEXT_BYTES_MAX;
use crate::group::Group;
use crate::shard::{After, Now, Outputs, Shard, Turn};
use crate::share_group::{ShareGroup, validate};

impl Shard {
    /// Runs `act` on a share group that exists.
    fn with_share<T>(
        &mut self,
        now: Now,
        id: &str,
        outputs: &mut Outputs,
        act: impl FnOnce(&mut ShareGroup, &mut Turn<'_>) -> T,
    ) -> Option<T> {
        self.with_group(now, id, outputs, |group, turn| {
            group.as_share_mut().map(|group| act(group, turn))
        })?
    }

    pub(super) fn share_heartbeat(
        &mut self,
        now: Now,
        ticket: Ticket,
        request: &ShareHeartbeat,
        outputs: &mut Outputs,
    ) -> Option<Arc<str>> {
        let reply = Reply::ShareHeartbeat(self.share_heartbeat_reply(now, request, outputs));
        outputs.answers.push(Answer { ticket, reply, after: After::Commit });
        Some(request.group.as_str().into())
    }

    fn share_heartbeat_reply(
        &mut self,
        now: Now,
        request: &ShareHeartbeat,
        outputs: &mut Outputs,
    ) -> Result<ShareHeartbeatReply, Refused> {
        validate(&self.options, request)?;
        self.find_or_found_share(&request.group, request.epoch == JOIN_EPOCH)?;
        let beat = |group: &mut ShareGroup, turn: &mut Turn<'_>| group.heartbeat(turn, request);
        let reply = self.with_share(now, &request.group, outputs, beat);
        reply.unwrap_or_else(|| Err(not_a_share_group(&request.group)))
    }

    /// Makes sure that there is a share group; one that is not there is only made if it `may_begin`. A group of another
    /// kind, or one that has committed offsets, makes no room for it.
    fn find_or_found_share(&mut self, id: &str, may_begin: bool) -> Result<(), Refused> {
        match self.groups.get(id) {
            Some(Group::Share(_)) => return Ok(()),
            Some(Group::Classic(_) | Group::Consumer(_)) => return Err(not_a_share_group(id)),
            None if self.exists(id) => return Err(not_a_share_group(id)),
            None if !may_begin => {
                let message = format!("Group {id} not found.");
                return Err(Refused::new(ErrorCode::GroupIdNotFound, message));
            }
            None if self.options.groups_max <= self.groups.len() => {
                let message = "The coordinator has as many groups as it may have.";
                return Err(Refused::new(ErrorCode::CoordinatorNotAvailable, message));
            }
            None => (),
        }
        let id: Arc<str> = id.into();
        self.groups.insert(Arc::clone(&id), Group::Share(ShareGroup::new(id)));
        Ok(())
    }

    pub(super) fn found_share(
        &mut self,
        now: Now,
        asked: &FoundShare,
        outputs: &mut Outputs,
    ) -> Result<(), Refused> {
        let id = asked.group.as_str();
        if id.is_empty() || TEXT_BYTES_MAX < id.len() {
            return Err(Refused::new(ErrorCode::InvalidGroupId, "The group id is invalid."));
        }
        if !asked.is_needed && !self.exists(id) {
            return Ok(());
        }
        self.find_or_found_share(id, true)?;
        let found = self.with_share(now, id, outputs, |group, turn| group.found(turn));
        found.unwrap_or_else(|| Err(not_a_share_group(id)))
    }

    pub(super) fn describe_shares(
        &mut self,
        now: Now,
        groups: Vec<String>,
        outputs: &mut Outputs,
    ) -> Vec<Result<DescribedShareGroup, Refused>> {
        let mut described = Vec::with_capacity(groups.len());
        for id in groups {
            let found = self.with_share(now, &id, outputs, |group, turn| group.describe(turn));
            described.push(found.ok_or_else(|| match self.exists(&id) {
                true => not_a_share_group(&id),
                false => Refused::new(ErrorCode::GroupIdNotFound, format!("Group {id} not found.")),
            }));
        }
        described
    }

    /// A fact makes its group a share group, whatever it was; what is taken back of one that is not
    /// there, or that has become another kind since, is of no interest.
    pub(super) fn apply_to_share(&mut self, id: &str, fact: ShareFact) {
        let is_share = matches!(self.groups.get(id), Some(Group::Share(_)));
        if is_share && fact == ShareFact::Epoch(None) {
            return self.forget_group(id);
        }
        if !is_share && fact.is_tombstone() {
            return;
        }
        if !is_share {
            self.forget_group(id);
            let id: Arc<str> = id.into();
            self.groups.insert(Arc::clone(&id), Group::Share(ShareGroup::new(id)));
        }
        if let Some(group) = self.groups.get_mut(id).and_then(Group::as_share_mut) {
            group.apply(fact);
        }
    }
}

fn not_a_share_group(id: &str) -> Refused {
    Refused::new(ErrorCode::GroupIdNotFound, format!("Group {id} is not a share group."))
}
