//! Looking at groups and deleting what nobody uses.

use std::collections::BTreeSet;

use protocol::ErrorCode;

use crate::command::{
    DeleteGroupsReply, DeleteOffsets, DeleteOffsetsReply, DescribedGroup, GroupKind, GroupState,
    ListFilter, ListedGroup,
};
use crate::event::{Event, OffsetKey};
use crate::group::Group;
use crate::shard::{Outputs, Shard};

impl Shard {
    pub(super) fn exists(&self, group: &str) -> bool {
        self.groups.contains_key(group)
            || self.offsets.contains_group(group)
            || self.pending.contains_group(group)
    }

    pub(super) fn describe(&self, groups: Vec<String>) -> Vec<DescribedGroup> {
        let describe = |group: String| {
            let missing = match self.groups.get(group.as_str()) {
                Some(Group::Classic(found)) => return found.describe(),
                // ConsumerGroupDescribe and ShareGroupDescribe show them.
                Some(Group::Consumer(_) | Group::Share(_)) => {
                    Some(format!("Group {group} is not a classic group."))
                }
                None if self.exists(&group) => None,
                None => Some(format!("Group {group} not found.")),
            };
            DescribedGroup {
                state: if missing.is_some() { GroupState::Dead } else { GroupState::Empty },
                missing,
                group,
                protocol_type: String::new(),
                protocol: String::new(),
                members: Vec::new(),
            }
        };
        groups.into_iter().map(describe).collect()
    }

    pub(super) fn list(&self, filter: &ListFilter) -> Vec<ListedGroup> {
        let passes = |wanted: &[String], name: &str| {
            wanted.is_empty() || wanted.iter().any(|it| it.eq_ignore_ascii_case(name))
        };
        let joined = self.groups.values().map(|it| it.list());
        let simple = self.offsets.groups().filter(|it| !self.groups.contains_key(it.as_str()));
        let simple = simple.map(|group| ListedGroup {
            group: group.clone(),
            protocol_type: String::new(),
            state: GroupState::Empty,
            kind: GroupKind::Classic,
        });
        let all = joined.chain(simple).filter(|it| passes(&filter.types, it.kind.name()));
        all.filter(|it| passes(&filter.states, it.state.name())).collect()
    }

    pub(super) fn delete_offsets(
        &self,
        delete: DeleteOffsets,
        outputs: &mut Outputs,
    ) -> DeleteOffsetsReply {
        let group = self.groups.get(delete.group.as_str());
        if !self.exists(&delete.group) {
            return DeleteOffsetsReply::Refused(ErrorCode::GroupIdNotFound);
        }
        if let Some(Err(error)) = group.map(|it| it.validate_offset_delete()) {
            return DeleteOffsetsReply::Refused(error);
        }
        let mut replies = Vec::with_capacity(delete.topics.len());
        let mut forgotten = BTreeSet::new();
        for (topic, partitions) in delete.topics {
            let subscribed = group.is_some_and(|it| it.is_subscribed(&topic));
            let code = if subscribed { ErrorCode::GroupSubscribedToTopic } else { ErrorCode::None };
            for partition in partitions.iter().copied().filter(|_| !subscribed) {
                let (group, topic) = (delete.group.clone(), topic.clone());
                let key = OffsetKey { group, topic, partition };
                let is_committed = self.offsets.contains(&key.group, &key.topic, partition);
                // One that waits for its transaction would come back with its commit.
                if is_committed || self.pending.contains(&key) {
                    forgotten.insert(key);
                }
            }
            let codes = partitions.into_iter().map(|partition| (partition, code)).collect();
            replies.push((topic, codes));
        }
        let events = forgotten.into_iter().map(|key| vec![Event::OffsetForgotten { key }]);
        outputs.units.extend(events);
        DeleteOffsetsReply::Each(replies)
    }

    pub(super) fn delete_groups(
        &self,
        groups: Vec<String>,
        outputs: &mut Outputs,
    ) -> DeleteGroupsReply {
        let mut deleted = BTreeSet::new();
        let mut delete = |group: &String| {
            if !self.exists(group) || deleted.contains(group) {
                return ErrorCode::GroupIdNotFound;
            }
            if self.groups.get(group.as_str()).is_some_and(|it| !it.is_empty()) {
                return ErrorCode::NonEmptyGroup;
            }
            deleted.insert(group.clone());
            self.forget(group, outputs);
            ErrorCode::None
        };
        groups
            .into_iter()
            .map(|group| (delete(&group), group))
            .map(|(code, it)| (it, code))
            .collect()
    }

    /// Everything about a group that has no members. Its own record goes last, so that a crash
    /// between two batches leaves a group that can be deleted again.
    pub(super) fn forget(&self, group: &str, outputs: &mut Outputs) {
        let committed = self.offsets.of_group(group).map(|(key, _)| key);
        let pending = self.pending.of_group(group).cloned();
        for key in committed.chain(pending).collect::<BTreeSet<_>>() {
            outputs.units.push(vec![Event::OffsetForgotten { key }]);
        }
        match self.groups.get(group) {
            Some(Group::Classic(_)) => {
                outputs.units.push(vec![Event::GroupForgotten { group: group.to_owned() }]);
            }
            Some(Group::Consumer(found)) => outputs.units.push(found.tombstones()),
            Some(Group::Share(found)) => outputs.units.push(found.tombstones()),
            None => (),
        }
    }
}
