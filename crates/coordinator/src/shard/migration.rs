//! A group that changes its protocol while members are in it (`group.consumer.migration.policy`).

use std::sync::Arc;

use crate::command::{ConsumerHeartbeat, Refused};
use crate::consumer::{ConsumerGroup, JOIN_EPOCH, upgraded};
use crate::event::Event;
use crate::group::Group;
use crate::shard::consumers::not_a_consumer_group;
use crate::shard::{Now, Outputs, Shard, Turn};

impl Shard {
    /// A member of the consumer protocol joins a classic group that has members: those become members
    /// of a consumer group, and learn with their next request that it rebalances.
    pub(super) fn upgrade(
        &mut self,
        now: Now,
        request: &ConsumerHeartbeat,
        outputs: &mut Outputs,
    ) -> Result<(), Refused> {
        let refuse = || not_a_consumer_group(&request.group);
        let joins = request.epoch == JOIN_EPOCH;
        let Shard { options, catalogue, groups, timers, .. } = self;
        let found = groups.get_mut(request.group.as_str());
        let group = found.and_then(Group::as_classic_mut).ok_or_else(refuse)?;
        let has_room = group.member_count() < options.consumer_group_members_max;
        if !joins || !has_room || !options.migration_policy.upgrades() {
            return Err(refuse());
        }
        let facts = upgraded(&**catalogue, group).ok_or_else(refuse)?;
        let mut turn = Turn { now, catalogue: &**catalogue, options, timers, outputs };
        group.dissolve(&mut turn);
        let id: Arc<str> = request.group.as_str().into();
        let mut unit = Vec::with_capacity(facts.len() + 1);
        unit.push(Event::GroupForgotten { group: request.group.clone() });
        let mut group = ConsumerGroup::new(Arc::clone(&id));
        for fact in facts {
            group.decide(&mut unit, fact);
        }
        turn.emit_unit(unit);
        group.restore(&mut turn);
        groups.insert(id, Group::Consumer(group));
        Ok(())
    }

    /// The last member of the consumer protocol has gone: the others go on among themselves.
    pub(super) fn downgrade_if_classic(&mut self, now: Now, id: &str, outputs: &mut Outputs) {
        let Shard { options, catalogue, groups, timers, .. } = self;
        let Some(Group::Consumer(group)) = groups.get_mut(id) else { return };
        let fits = group.member_count() <= options.group_members_max;
        if !group.is_all_classic() || !fits || !options.migration_policy.downgrades() {
            return;
        }
        let mut unit = group.tombstones();
        group.disarm(timers);
        let mut classic = group.downgraded(&**catalogue, now.wall);
        let known = group.known_generation();
        let image = classic.to_image();
        classic.store(image.clone());
        unit.push(Event::GroupStored { group: id.to_owned(), image });
        let mut turn = Turn { now, catalogue: &**catalogue, options, timers, outputs };
        turn.emit_unit(unit);
        // What is stored is a generation that nobody knows: after a crash everybody joins again.
        classic.rebalance_reborn(&mut turn, known);
        groups.insert(id.into(), Group::Classic(Box::new(classic)));
    }
}
