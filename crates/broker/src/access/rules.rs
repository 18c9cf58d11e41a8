//! ACLs made ready for questions: one look-up by name, one for each length of prefix in use, none of them linear in the
//! number of ACLs.
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

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use cluster::{Acl, AclOperation, AclPattern, AclPermission, AclResource};

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
            for (host, grant) in grants.by_principal.get(principal).into_iter().flatten() {
                if host.is_none_or(|it| it == asker.host) {
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

/// The ACLs of one pattern, by principal, then by host (`None`: any).
#[derive(Debug, Default)]
struct Grants {
    by_principal: HashMap<String, Vec<(Option<IpAddr>, Grant)>>,
}

impl Grants {
    fn add(&mut self, acl: &Acl) {
        let host = match acl.host.as_str() {
            AclPattern::WILDCARD => None,
            // What is no address is nobody's, as in Kafka: it compares with addresses alone.
            text => match text.parse::<IpAddr>() {
                Ok(host) => Some(host.to_canonical()),
                Err(_) => return,
            },
        };
        let grants = self.by_principal.entry(acl.principal.clone()).or_default();
        let place = grants.iter().position(|(it, _)| *it == host).unwrap_or_else(|| {
            grants.push((host, Grant::default()));
            grants.len() - 1
        });
        let grant = &mut grants[place].1;
        match acl.permission {
            AclPermission::Allow => {
                grant.allowed = grant.allowed.and(Operations::allowed_by(acl.operation));
            }
            AclPermission::Deny => {
                grant.denied = grant.denied.and(Operations::denied_by(acl.operation));
            }
        }
    }

    fn verdict(&self, asker: Asker<'_>) -> Verdict {
        let mut verdict = Verdict::default();
        verdict.add(Some(self), asker);
        verdict
    }
}

/// The ACLs of one kind of resource.
#[derive(Debug, Default)]
struct KindRules {
    literal: HashMap<String, Grants>,
    prefixed: HashMap<String, Grants>,
    /// The lengths of the prefixes, in bytes, each once, the shortest first.
    prefix_lengths: Vec<usize>,
}

impl KindRules {
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
            .map_while(|it| name.as_bytes().get(..*it).map(|_| *it))
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
#[derive(Debug)]
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
        let mut kinds: [KindRules; AclResource::ALL.len()] = Default::default();
        for acl in acls {
            let kind = &mut kinds[place(acl.resource)];
            let named = match acl.pattern {
                AclPattern::Literal => &mut kind.literal,
                AclPattern::Prefixed => &mut kind.prefixed,
            };
            match named.get_mut(&acl.name) {
                Some(grants) => grants.add(acl),
                None => named.entry(acl.name.clone()).or_default().add(acl),
            }
        }
        for kind in &mut kinds {
            let lengths: BTreeSet<usize> = kind.prefixed.keys().map(String::len).collect();
            kind.prefix_lengths = lengths.into_iter().collect();
        }
        AclRules { generation, super_users, allow_everyone, kinds }
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
