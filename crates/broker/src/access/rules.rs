//! ACLs made ready for questions: one look-up by name, one for each length of prefix in use, none of them linear in the
//! number of ACLs.
//!
//! Rules that a few changes of ACLs make out of others share with them what did not change: a change costs what it
//! changes, and whoever goes on by the rules before is not disturbed.
//!
//! Owns: what a set of ACLs allows. Does not own: where they come from, what is asked for which request.
//!
//! The rules are those of Kafka's StandardAuthorizer:
//! - a super user may do everything;
//! - of the ACLs for a resource (by its name, by `*`, by a prefix) those count that name the principal or `User:*`, and
//!   the client's address or `*`;
//! - what one of them denies is denied, whatever others allow; DENY of All denies every operation;
//! - what one of them allows is allowed. READ, WRITE, DELETE and ALTER allow DESCRIBE, too, and ALTER_CONFIGS
//!   DESCRIBE_CONFIGS; denials imply nothing;
//! - a resource without any ACL is everybody's if `allow.everyone.if.no.acl.found` is true, else nobody's.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use cluster::{Acl, AclChange, AclOperation, AclPattern, AclPermission, AclResource};

use super::shared_map::{Kept, SharedMap, change_entry};

/// The principal of an ACL that is for everybody.
const EVERYBODY: &str = "User:*";

/// The name Kafka asks with when it asks for any resource of a kind. The same here, for the same answers.
const ANY_NAME: &str = "hardcode";

/// A set of operations: the bit of each is its number, as in Kafka's "authorized operations" (KIP-430).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Operations(u32);

impl Operations {
    pub(crate) const NONE: Operations = Operations(0);
    pub(crate) const EVERY: Operations = Operations(u32::MAX);

    fn only(operation: AclOperation) -> Operations {
        Operations(1 << operation.code())
    }

    pub(crate) fn contains(self, operation: AclOperation) -> bool {
        self.0 & Operations::only(operation).0 != 0
    }

    /// Those of them that `mask` has.
    pub(crate) fn within(self, mask: i32) -> i32 {
        (self.0 as i32) & mask
    }

    fn and(self, other: Operations) -> Operations {
        Operations(self.0 | other.0)
    }

    fn without(self, other: Operations) -> Operations {
        Operations(self.0 & !other.0)
    }

    fn allowed_by(operation: AclOperation) -> Operations {
        let only = Operations::only(operation);
        match operation {
            AclOperation::All => Operations::EVERY,
            AclOperation::Read
            | AclOperation::Write
            | AclOperation::Delete
            | AclOperation::Alter => only.and(Operations::only(AclOperation::Describe)),
            AclOperation::AlterConfigs => only.and(Operations::only(AclOperation::DescribeConfigs)),
            _ => only,
        }
    }

    fn denied_by(operation: AclOperation) -> Operations {
        match operation {
            AclOperation::All => Operations::EVERY,
            _ => Operations::only(operation),
        }
    }
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker<'a> {
    pub(crate) principal: &'a str,
    /// As it is written in an ACL: IPv4 also where the socket maps it into IPv6.
    pub(crate) host: IpAddr,
}

/// What ACLs say to somebody about one resource.
#[derive(Debug, Clone, Copy, Default)]
struct Verdict {
    allowed: Operations,
    denied: Operations,
    /// Whether the resource has any ACL, be it for others.
    has_acls: bool,
}

impl Verdict {
    fn add(&mut self, grants: Option<&Grants>, asker: Asker<'_>) {
        let Some(grants) = grants else { return };
        self.has_acls = true;
        for principal in [asker.principal, EVERYBODY] {
            let Some(by_host) = grants.by_principal.get(principal) else { continue };
            for host in [Some(asker.host), None] {
                if let Some(Said { grant, .. }) = by_host.get(&host) {
                    self.allowed = self.allowed.and(grant.allowed);
                    self.denied = self.denied.and(grant.denied);
                }
            }
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Grant {
    allowed: Operations,
    denied: Operations,
}

impl Grant {
    fn add(&mut self, operation: AclOperation, permission: AclPermission) {
        match permission {
            AclPermission::Allow => {
                self.allowed = self.allowed.and(Operations::allowed_by(operation));
            }
            AclPermission::Deny => {
                self.denied = self.denied.and(Operations::denied_by(operation));
            }
        }
    }
}

/// What ACLs of one pattern say of one principal and host, and what that comes to.
#[derive(Debug, Clone, Default)]
struct Said {
    /// One for each ACL. The same twice, if the host is spelt in two ways.
    acls: Vec<(AclOperation, AclPermission)>,
    grant: Grant,
}

impl Said {
    fn change(&mut self, change: &AclChange) -> Kept {
        match change {
            AclChange::Created(acl) => {
                self.acls.reserve_exact(1); // Few have more than one.
                self.acls.push((acl.operation, acl.permission));
                self.grant.add(acl.operation, acl.permission);
            }
            AclChange::Deleted(acl) => {
                let gone = (acl.operation, acl.permission);
                let place = self.acls.iter().position(|it| *it == gone);
                self.acls.swap_remove(place.expect("an ACL is deleted after it was created"));
                self.grant = Grant::default();
                for (operation, permission) in &self.acls {
                    self.grant.add(*operation, *permission);
                }
            }
        }
        if self.acls.is_empty() { Kept::No } else { Kept::Yes }
    }
}

/// By host; `None`: any.
type ByHost = SharedMap<Option<IpAddr>, Said>;

/// The ACLs of one pattern, by principal, then by host.
#[derive(Debug, Clone, Default)]
struct Grants {
    /// How many there are, those included that are nobody's.
    acls: usize,
    by_principal: SharedMap<Arc<str>, ByHost>,
}

impl Grants {
    fn change(&mut self, change: &AclChange) -> Kept {
        let acl = change.acl();
        match change {
            AclChange::Created(_) => self.acls += 1,
            AclChange::Deleted(_) => self.acls -= 1,
        }
        // What is no address is nobody's, as in Kafka: it compares with addresses alone.
        if let Some(host) = host(acl) {
            let of_host = |by_host: &mut ByHost| {
                change_entry(by_host, &host, |it| *it, |said| said.change(change));
                if by_host.is_empty() { Kept::No } else { Kept::Yes }
            };
            let principal = acl.principal.as_str();
            change_entry(&mut self.by_principal, principal, |it| it.into(), of_host);
        }
        if self.acls == 0 { Kept::No } else { Kept::Yes }
    }

    fn verdict(&self, asker: Asker<'_>) -> Verdict {
        let mut verdict = Verdict::default();
        verdict.add(Some(self), asker);
        verdict
    }
}

/// The host of an ACL, or any (`Some(None)`); `None` if it is no address.
fn host(acl: &Acl) -> Option<Option<IpAddr>> {
    match acl.host.as_str() {
        AclPattern::WILDCARD => Some(None),
        text => text.parse::<IpAddr>().ok().map(|it| Some(it.to_canonical())),
    }
}

/// The ACLs of one kind of resource.
#[derive(Debug, Clone, Default)]
struct KindRules {
    literal: SharedMap<Arc<str>, Grants>,
    prefixed: SharedMap<Arc<str>, Grants>,
    /// The lengths of the prefixes, in bytes, the shortest first, and how many prefixes are that long.
    prefix_lengths: Arc<Vec<(usize, usize)>>,
}

impl KindRules {
    fn change(&mut self, change: &AclChange) {
        let acl = change.acl();
        let name = acl.name.as_str();
        match acl.pattern {
            AclPattern::Literal => {
                change_entry(&mut self.literal, name, |it| it.into(), |it| it.change(change));
            }
            AclPattern::Prefixed => {
                let was_there = self.prefixed.get(name).is_some();
                change_entry(&mut self.prefixed, name, |it| it.into(), |it| it.change(change));
                let is_there = self.prefixed.get(name).is_some();
                if was_there != is_there {
                    self.count_prefix(name.len(), is_there);
                }
            }
        }
    }

    fn count_prefix(&mut self, length: usize, is_there: bool) {
        let lengths = Arc::make_mut(&mut self.prefix_lengths);
        match lengths.binary_search_by_key(&length, |(it, _)| *it) {
            Ok(place) if is_there => lengths[place].1 += 1,
            Ok(place) if lengths[place].1 == 1 => drop(lengths.remove(place)),
            Ok(place) => lengths[place].1 -= 1,
            Err(place) => {
                assert!(is_there, "a prefix that goes was counted when it came");
                lengths.insert(place, (length, 1));
            }
        }
    }

    fn verdict(&self, asker: Asker<'_>, name: &str) -> Verdict {
        let mut verdict = Verdict::default();
        verdict.add(self.literal.get(name), asker);
        if name != AclPattern::WILDCARD {
            verdict.add(self.literal.get(AclPattern::WILDCARD), asker);
        }
        for prefix in self.prefixes(name) {
            verdict.add(self.prefixed.get(prefix), asker);
        }
        verdict
    }

    /// The beginnings of a name that a prefix in use may equal, the whole name being one.
    fn prefixes<'a>(&self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.prefix_lengths
            .iter()
            .map_while(|(it, _)| name.as_bytes().get(..*it).map(|_| *it))
            .filter_map(
                // Within a character no prefix ends.
                move |it| name.get(..it),
            )
    }

    fn denies_prefix(&self, asker: Asker<'_>, operation: AclOperation, name: &str) -> bool {
        let grants = self.prefixes(name).filter_map(|prefix| self.prefixed.get(prefix));
        grants.into_iter().any(|it| it.verdict(asker).denied.contains(operation))
    }
}

/// What a set of ACLs allows.
#[derive(Debug, Clone)]
pub(crate) struct AclRules {
    generation: u64,
    super_users: Arc<BTreeSet<String>>,
    allow_everyone: bool,
    /// In the order of [`AclResource::ALL`].
    kinds: [KindRules; AclResource::ALL.len()],
}

impl AclRules {
    pub(crate) fn new(
        generation: u64,
        acls: &[Arc<Acl>],
        super_users: Arc<BTreeSet<String>>,
        allow_everyone: bool,
    ) -> AclRules {
        let kinds = Default::default();
        let mut rules = AclRules { generation, super_users, allow_everyone, kinds };
        acls.iter().for_each(|it| rules.change(&AclChange::Created(Arc::clone(it))));
        rules
    }

    /// The rules after changes: each of an ACL that was not there, or that was.
    pub(crate) fn changed(&self, generation: u64, changes: &[AclChange]) -> AclRules {
        let mut rules = AclRules { generation, ..self.clone() };
        changes.iter().for_each(|it| rules.change(it));
        rules
    }

    fn change(&mut self, change: &AclChange) {
        self.kinds[place(change.acl().resource)].change(change);
    }

    /// Of the ACLs it was made from.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// All that somebody may do with a resource.
    pub(crate) fn operations(
        &self,
        asker: Asker<'_>,
        resource: AclResource,
        name: &str,
    ) -> Operations {
        if self.super_users.contains(asker.principal) {
            return Operations::EVERY;
        }
        let verdict = self.kinds[place(resource)].verdict(asker, name);
        match verdict.has_acls {
            true => verdict.allowed.without(verdict.denied),
            false if self.allow_everyone => Operations::EVERY,
            false => Operations::NONE,
        }
    }

    /// Whether somebody may do something with at least one resource of a kind, existing or not (KIP-679). Meant for
    /// operations that no other implies. It walks over the kind's patterns: not for every request.
    pub(crate) fn allows_any(
        &self,
        asker: Asker<'_>,
        operation: AclOperation,
        resource: AclResource,
    ) -> bool {
        if self.operations(asker, resource, ANY_NAME).contains(operation) {
            return true;
        }
        let kind = &self.kinds[place(resource)];
        let everything = kind.literal.get(AclPattern::WILDCARD).map(|it| it.verdict(asker));
        let everything = everything.unwrap_or_default();
        if everything.denied.contains(operation) {
            return false;
        }
        if everything.allowed.contains(operation) {
            return true;
        }
        let literal = kind.literal.iter().any(|(name, grants)| {
            let verdict = grants.verdict(asker);
            verdict.allowed.contains(operation)
                && !verdict.denied.contains(operation)
                && !kind.denies_prefix(asker, operation, name)
        });
        literal
            || kind.prefixed.iter().any(|(prefix, grants)| {
                grants.verdict(asker).allowed.contains(operation)
                    && !kind.denies_prefix(asker, operation, prefix)
            })
    }
}

fn place(resource: AclResource) -> usize {
    usize::from(resource.code() - AclResource::ALL[0].code())
}

#[cfg(test)]
mod tests;
