//! Creating and deleting ACLs.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::state::acl::{Acl, AclFilter};
use crate::state::command::AclError;
use crate::state::{Event, State};

/// ACLs of a cluster: all of them are in memory, twice, and looked up for every request.
pub(crate) const ACLS_MAX: usize = 100_000;

/// Bytes of an ACL's name, principal and host together: they are a key in the store.
pub(crate) const ACL_TEXT_BYTES_MAX: usize = 16 * 1024;

/// Each by itself; one that is there already is created without an event.
pub(crate) fn create_acls(
    state: &State,
    acls: Vec<Acl>,
) -> (Vec<Event>, Vec<Result<(), AclError>>) {
    let mut fresh: BTreeSet<Arc<Acl>> = BTreeSet::new();
    let mut outcomes = Vec::with_capacity(acls.len());
    for acl in acls {
        let acl = Arc::new(acl);
        let is_there = state.acls.contains(&acl) || fresh.contains(&acl);
        outcomes.push(if is_there {
            Ok(())
        } else if ACL_TEXT_BYTES_MAX < acl.text_bytes() {
            Err(AclError::TooLong { max: ACL_TEXT_BYTES_MAX })
        } else if ACLS_MAX <= state.acls.len() + fresh.len() {
            Err(AclError::TooMany { max: ACLS_MAX })
        } else {
            fresh.insert(acl);
            Ok(())
        });
    }
    (fresh.into_iter().map(Event::AclCreated).collect(), outcomes)
}

/// For each filter what it picks; an ACL that two filters pick is told twice and deleted once.
pub(crate) fn delete_acls(
    state: &State,
    filters: &[AclFilter],
) -> (Vec<Event>, Vec<Vec<Arc<Acl>>>) {
    let picked =
        |filter: &AclFilter| -> Vec<Arc<Acl>> { filter.picked_of(&state.acls).cloned().collect() };
    let picked: Vec<Vec<Arc<Acl>>> = filters.iter().map(picked).collect();
    let gone: BTreeSet<Arc<Acl>> = picked.iter().flatten().cloned().collect();
    (gone.into_iter().map(Event::AclDeleted).collect(), picked)
}
