//! The requests of consumer groups (KIP-848), each to the group it names.

use std::sync::Arc;

use protocol::ErrorCode;

use crate::command::{
    Answer, ConsumerHeartbeat, ConsumerHeartbeatReply, DescribedConsumerGroup, Refused, Reply,
    Ticket,
};
use crate::consumer::{ConsumerGroup, JOIN_EPOCH, compiled, validate};
use crate::event::Event;
use crate::group::Group;
use crate::shard::{After, Now, Outputs, Shard, Turn};

impl Shard {
    /// Runs `act` on a consumer group that exists.
    pub(super) fn with_consumer<T>(
        &mut self,
        now: Now,
        id: &str,
        outputs: &mut Outputs,
        act: impl FnOnce(&mut ConsumerGroup, &mut Turn<'_>) -> T,
    ) -> Option<T> {
        self.with_group(now, id, outputs, |group, turn| {
            group.as_consumer_mut().map(|group| act(group, turn))
        })?
    }

    pub(super) fn consumer_heartbeat(
        &mut self,
        now: Now,
        ticket: Ticket,
        request: &ConsumerHeartbeat,
        outputs: &mut Outputs,
    ) -> Option<Arc<str>> {
        let reply = self.consumer_heartbeat_reply(now, request, outputs);
        self.downgrade_if_classic(now, &request.group, outputs);
        let reply = Reply::ConsumerHeartbeat(reply);
        outputs.answers.push(Answer { ticket, reply, after: After::Commit });
        Some(request.group.as_str().into())
    }

    fn consumer_heartbeat_reply(
        &mut self,
        now: Now,
        request: &ConsumerHeartbeat,
        outputs: &mut Outputs,
    ) -> Result<ConsumerHeartbeatReply, Refused> {
        validate(&self.options, request)?;
        if request.epoch == JOIN_EPOCH {
            // Before a group makes room for a member that is refused then.
            compiled(request.pattern.as_deref())?;
        }
        self.find_or_found(now, request, outputs)?;
        let beat = |group: &mut ConsumerGroup, turn: &mut Turn<'_>| group.heartbeat(turn, request);
        let reply = self.with_consumer(now, &request.group, outputs, beat);
        reply.unwrap_or_else(|| Err(not_a_consumer_group(&request.group)))
    }

    /// Makes sure that there is a consumer group: one that joins may be the first of it.
    fn find_or_found(
        &mut self,
        now: Now,
        request: &ConsumerHeartbeat,
        outputs: &mut Outputs,
    ) -> Result<(), Refused> {
        let id = request.group.as_str();
        match self.groups.get(id) {
            Some(Group::Consumer(_)) => return Ok(()),
            // Nobody is in it: it makes room. Its committed offsets stay.
            // Whoever is on the way into it comes back as a classic member of the new one.
            Some(Group::Classic(group)) if request.epoch == JOIN_EPOCH && group.is_empty() => {
                let stored = group.image().map(|_| Event::GroupForgotten { group: id.to_owned() });
                outputs.units.extend(stored.map(|it| vec![it]));
            }
            Some(Group::Classic(_)) => return self.upgrade(now, request, outputs),
            Some(Group::Share(_)) => return Err(not_a_consumer_group(id)),
            None if request.epoch != JOIN_EPOCH => {
                let message = format!("Group {id} not found.");
                return Err(Refused::new(ErrorCode::GroupIdNotFound, message));
            }
            None if self.options.groups_max <= self.groups.len() => {
                let message = "The coordinator has as many groups as it may have.";
                return Err(Refused::new(ErrorCode::CoordinatorNotAvailable, message.to_owned()));
            }
            None => (),
        }
        if let Some(before) = self.groups.get_mut(id) {
            before.disarm(&mut self.timers);
        }
        let id: Arc<str> = id.into();
        self.groups.insert(Arc::clone(&id), Group::Consumer(ConsumerGroup::new(id)));
        Ok(())
    }

    pub(super) fn describe_consumers(
        &mut self,
        now: Now,
        groups: Vec<String>,
        outputs: &mut Outputs,
    ) -> Vec<Result<DescribedConsumerGroup, Refused>> {
        let mut described = Vec::with_capacity(groups.len());
        for id in groups {
            let found = self.with_consumer(now, &id, outputs, |group, turn| group.describe(turn));
            described.push(found.ok_or_else(|| match self.exists(&id) {
                true => not_a_consumer_group(&id),
                false => Refused::new(ErrorCode::GroupIdNotFound, format!("Group {id} not found.")),
            }));
        }
        described
    }
}

pub(super) fn not_a_consumer_group(id: &str) -> Refused {
    Refused::new(ErrorCode::GroupIdNotFound, format!("Group {id} is not a consumer group."))
}
