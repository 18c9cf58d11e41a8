//! What a fact changes, live and at replay. Nothing else changes what is durable.

use std::sync::Arc;

use crate::event::{Event, ShareCurrent, ShareFact, TargetEpoch};
use crate::share_group::{Member, ShareGroup};

impl ShareGroup {
    /// Applies a fact and takes it down for the log.
    pub(super) fn decide(&mut self, unit: &mut Vec<Event>, fact: ShareFact) {
        self.apply(fact.clone());
        unit.push(Event::Share { group: self.id.to_string(), fact });
    }

    /// Applying a fact again, or in a log that compaction has thinned, is harmless: the last fact of
    /// each key counts.
    pub(crate) fn apply(&mut self, fact: ShareFact) {
        match fact {
            ShareFact::Epoch(epoch) => self.epoch = epoch,
            ShareFact::TargetEpoch(epoch) => {
                self.target_epoch = epoch.unwrap_or(TargetEpoch { epoch: 0, timestamp: 0 });
            }
            ShareFact::Member { member, said: Some(said) } => {
                self.enter(&member).said = Some(said);
            }
            ShareFact::Member { member, said: None } => {
                self.members.remove(member.as_str());
            }
            ShareFact::Current { member, current: Some(current) } => {
                self.enter(&member).current = current;
            }
            ShareFact::Current { member, current: None } => {
                if let Some(member) = self.members.get_mut(member.as_str()) {
                    member.current = ShareCurrent::default();
                }
            }
            ShareFact::Target { member, partitions: Some(partitions) } => {
                self.targets.insert(member.into(), partitions);
            }
            ShareFact::Target { member, partitions: None } => {
                self.targets.remove(member.as_str());
            }
        }
    }

    fn enter(&mut self, member: &str) -> &mut Member {
        let id: Arc<str> = match self.members.get_key_value(member) {
            Some((id, _)) => Arc::clone(id),
            None => member.into(),
        };
        self.members.entry(id).or_default()
    }
}

#[cfg(test)]
impl ShareGroup {
    /// All that is durable, to compare one history with another.
    pub(crate) fn facts(&self) -> Vec<ShareFact> {
        let mut facts = vec![ShareFact::Epoch(self.epoch)];
        facts.push(ShareFact::TargetEpoch(Some(self.target_epoch)));
        for (id, member) in &self.members {
            let said = member.said.clone();
            facts.push(ShareFact::Member { member: id.to_string(), said });
            let current = Some(member.current.clone());
            facts.push(ShareFact::Current { member: id.to_string(), current });
        }
        for (id, partitions) in &self.targets {
            let (member, partitions) = (id.to_string(), Some(partitions.clone()));
            facts.push(ShareFact::Target { member, partitions });
        }
        facts
    }
}
