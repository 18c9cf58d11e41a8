//! What a fact changes, live and at replay. Nothing else changes what is durable.

use std::sync::Arc;

use crate::consumer::{ConsumerGroup, Member};
use crate::event::{ConsumerFact, Current, Event, TargetEpoch};

impl ConsumerGroup {
    /// Applies a fact and takes it down for the log.
    pub(crate) fn decide(&mut self, unit: &mut Vec<Event>, fact: ConsumerFact) {
        self.apply(fact.clone());
        unit.push(Event::Consumer { group: self.id.to_string(), fact });
    }

    /// Applying a fact again, or in a log that compaction has thinned, is harmless: the last fact of
    /// each key counts.
    pub(crate) fn apply(&mut self, fact: ConsumerFact) {
        match fact {
            ConsumerFact::Epoch(epoch) => self.epoch = epoch,
            ConsumerFact::TargetEpoch(epoch) => {
                self.target_epoch = epoch.unwrap_or(TargetEpoch { epoch: 0, timestamp: 0 });
            }
            ConsumerFact::Member { member, subscription: Some(subscription) } => {
                let id = self.enter(&member);
                self.withdraw(&id);
                self.modern += usize::from(subscription.classic.is_none());
                if let Some(instance) = &subscription.instance {
                    self.statics.insert(instance.clone(), Arc::clone(&id));
                }
                if let Some(member) = self.members.get_mut(&id) {
                    member.subscription = Some(subscription);
                }
            }
            ConsumerFact::Member { member, subscription: None } => {
                if let Some((id, _)) = self.members.get_key_value(member.as_str()) {
                    let id = Arc::clone(id);
                    self.withdraw(&id);
                    self.own(&id, Current::default());
                    self.members.remove(&id);
                }
            }
            ConsumerFact::Current { member, current: Some(current) } => {
                let id = self.enter(&member);
                self.own(&id, current);
            }
            ConsumerFact::Current { member, current: None } => {
                if let Some((id, _)) = self.members.get_key_value(member.as_str()) {
                    let id = Arc::clone(id);
                    self.own(&id, Current::default());
                }
            }
            ConsumerFact::Target { member, partitions: Some(partitions) } => {
                self.targets.insert(member.into(), partitions);
            }
            ConsumerFact::Target { member, partitions: None } => {
                self.targets.remove(member.as_str());
            }
            ConsumerFact::Pattern { expression, resolved: Some(resolved) } => {
                self.patterns.insert(expression, resolved);
            }
            ConsumerFact::Pattern { expression, resolved: None } => {
                self.patterns.remove(&expression);
            }
        }
    }

    fn enter(&mut self, member: &str) -> Arc<str> {
        if let Some((id, _)) = self.members.get_key_value(member) {
            return Arc::clone(id);
        }
        let id: Arc<str> = member.into();
        self.members.insert(Arc::clone(&id), Member::default());
        id
    }

    /// Takes back what the member's subscription has counted for.
    fn withdraw(&mut self, id: &Arc<str>) {
        let Some(before) = self.members.get_mut(id).and_then(|it| it.subscription.take()) else {
            return;
        };
        self.modern -= usize::from(before.classic.is_none());
        if let Some(instance) = &before.instance
            && self.statics.get(instance) == Some(id)
        {
            self.statics.remove(instance);
        }
    }

    /// Replaces what the member owns (G7).
    fn own(&mut self, id: &Arc<str>, current: Current) {
        let Some(member) = self.members.get_mut(id) else { return };
        let before = std::mem::replace(&mut member.current, current);
        for (topic, them) in before.assigned.iter().chain(&before.revoking) {
            for index in them.keys() {
                if self.owners.get(&(*topic, *index)) == Some(id) {
                    self.owners.remove(&(*topic, *index));
                }
            }
        }
        for (topic, them) in member.current.assigned.iter().chain(&member.current.revoking) {
            for index in them.keys() {
                self.owners.insert((*topic, *index), Arc::clone(id));
            }
        }
    }
}

#[cfg(test)]
impl ConsumerGroup {
    /// All that is durable, to compare one history with another.
    pub(crate) fn facts(&self) -> Vec<ConsumerFact> {
        let mut facts = vec![ConsumerFact::Epoch(self.epoch)];
        facts.push(ConsumerFact::TargetEpoch(Some(self.target_epoch)));
        for (id, member) in &self.members {
            let (member, subscription) = (id.to_string(), member.subscription.clone());
            facts.push(ConsumerFact::Member { member, subscription });
        }
        for (id, member) in &self.members {
            let (member, current) = (id.to_string(), Some(member.current.clone()));
            facts.push(ConsumerFact::Current { member, current });
        }
        for (id, partitions) in &self.targets {
            let (member, partitions) = (id.to_string(), Some(partitions.clone()));
            facts.push(ConsumerFact::Target { member, partitions });
        }
        for (expression, resolved) in &self.patterns {
            let (expression, resolved) = (expression.clone(), Some(resolved.clone()));
            facts.push(ConsumerFact::Pattern { expression, resolved });
        }
        facts
    }
}
