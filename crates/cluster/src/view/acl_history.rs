//! The latest changes of ACLs, so that who follows them need not look at all of them again.
//!
//! Owns: the changes, as many as are kept. Does not own: the ACLs (`state`), when there is a new generation.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::state::Acl;

/// Changes that are kept. Beyond it, followers look at all ACLs. More: more memory, at most [`ACL_TEXT_BYTES_MAX`]
/// bytes of texts a change.
///
/// [`ACL_TEXT_BYTES_MAX`]: crate::state::decide::ACL_TEXT_BYTES_MAX
const ACL_CHANGES_MAX: usize = 1024;

/// What happened to an ACL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AclChange {
    /// It had not been there.
    Created(Arc<Acl>),
    /// It had been there.
    Deleted(Arc<Acl>),
}

impl AclChange {
    pub fn acl(&self) -> &Acl {
        match self {
            AclChange::Created(acl) | AclChange::Deleted(acl) => acl,
        }
    }
}

/// What became of the ACLs after a generation of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AclsSince {
    /// In the order they happened.
    Changes(Vec<AclChange>),
    /// Too much has happened: the ACLs as they are now.
    All(Vec<Arc<Acl>>),
}

#[derive(Debug, Default)]
pub(super) struct AclHistory {
    /// Each with the generation it led to, oldest first.
    changes: VecDeque<(u64, AclChange)>,
    /// The newest generation of which a change is not kept any more.
    forgotten: u64,
}

impl AclHistory {
    pub(super) fn note(&mut self, generation: u64, change: AclChange) {
        if self.changes.len() == ACL_CHANGES_MAX
            && let Some((forgotten, _)) = self.changes.pop_front()
        {
            self.forgotten = forgotten;
        }
        self.changes.push_back((generation, change));
    }

    /// The changes that led to later generations; `None` if one of them is not kept any more.
    pub(super) fn since(&self, generation: u64) -> Option<Vec<AclChange>> {
        if generation < self.forgotten {
            return None;
        }
        let later = self.changes.iter().filter(|(it, _)| generation < *it);
        Some(later.map(|(_, change)| change.clone()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{AclOperation, AclPattern, AclPermission, AclResource};

    fn change(number: u64) -> AclChange {
        AclChange::Created(Arc::new(Acl {
            resource: AclResource::Topic,
            pattern: AclPattern::Literal,
            name: number.to_string(),
            principal: "User:a".to_owned(),
            host: "*".to_owned(),
            operation: AclOperation::Read,
            permission: AclPermission::Allow,
        }))
    }

    #[test]
    fn what_is_kept_is_told_and_what_is_not_is_admitted() {
        let mut history = AclHistory::default();
        assert_eq!(history.since(0), Some(Vec::new()));
        let kept = ACL_CHANGES_MAX as u64;
        // Two changes lead to generation 1.
        history.note(1, change(0));
        (1..kept).for_each(|it| history.note(it, change(it)));
        assert_eq!(history.since(0).map(|it| it.len()), Some(ACL_CHANGES_MAX));
        assert_eq!(history.since(kept - 2), Some(vec![change(kept - 1)]));
        assert_eq!(history.since(kept - 1), Some(Vec::new()));
        history.note(kept, change(kept));
        assert_eq!(history.since(0), None, "one of the two is forgotten");
        assert_eq!(history.since(1).map(|it| it.len()), Some(ACL_CHANGES_MAX - 1));
    }
}
