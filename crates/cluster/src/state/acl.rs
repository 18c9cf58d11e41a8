//! Access control lists: who may do what with which resources, from where (KIP-11, KIP-290).
//!
//! Owns: what an ACL says and which of them a filter picks. Does not own: what follows from them for a
//! request, and which of them make sense (the broker).
//!
//! The whole of an ACL is its identity: the same one twice is one.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

/// What an ACL is about. The numbers are Kafka's (`ResourceType`), here and in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum AclResource {
    Topic = 2,
    Group = 3,
    Cluster = 4,
    TransactionalId = 5,
    DelegationToken = 6,
    User = 7,
}

impl AclResource {
    pub const ALL: [AclResource; 6] = [
        AclResource::Topic,
        AclResource::Group,
        AclResource::Cluster,
        AclResource::TransactionalId,
        AclResource::DelegationToken,
        AclResource::User,
    ];

    pub fn code(self) -> u8 {
        self as u8
    }

    pub fn from_code(code: u8) -> Option<AclResource> {
        AclResource::ALL.into_iter().find(|it| it.code() == code)
    }
}

/// How an ACL's name is meant (KIP-290). The numbers are Kafka's (`PatternType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum AclPattern {
    /// The resource of that name; [`AclPattern::WILDCARD`] stands for every one.
    Literal = 3,
    /// Every resource whose name begins so.
    Prefixed = 4,
}

impl AclPattern {
    /// The literal name of every resource, and the host of every client.
    pub const WILDCARD: &'static str = "*";

    pub fn code(self) -> u8 {
        self as u8
    }

    pub fn from_code(code: u8) -> Option<AclPattern> {
        [AclPattern::Literal, AclPattern::Prefixed].into_iter().find(|it| it.code() == code)
    }
}

/// What is done. The numbers are Kafka's (`AclOperation`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum AclOperation {
    /// Every operation.
    All = 2,
    Read = 3,
    Write = 4,
    Create = 5,
    Delete = 6,
    Alter = 7,
    Describe = 8,
    ClusterAction = 9,
    DescribeConfigs = 10,
    AlterConfigs = 11,
    IdempotentWrite = 12,
    CreateTokens = 13,
    DescribeTokens = 14,
    TwoPhaseCommit = 15,
}

impl AclOperation {
    pub const ALL: [AclOperation; 14] = [
        AclOperation::All,
        AclOperation::Read,
        AclOperation::Write,
        AclOperation::Create,
        AclOperation::Delete,
        AclOperation::Alter,
        AclOperation::Describe,
        AclOperation::ClusterAction,
        AclOperation::DescribeConfigs,
        AclOperation::AlterConfigs,
        AclOperation::IdempotentWrite,
        AclOperation::CreateTokens,
        AclOperation::DescribeTokens,
        AclOperation::TwoPhaseCommit,
    ];

    pub fn code(self) -> u8 {
        self as u8
    }

    pub fn from_code(code: u8) -> Option<AclOperation> {
        AclOperation::ALL.into_iter().find(|it| it.code() == code)
    }
}

/// The numbers are Kafka's (`AclPermissionType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum AclPermission {
    Deny = 2,
    Allow = 3,
}

impl AclPermission {
    pub fn code(self) -> u8 {
        self as u8
    }

    pub fn from_code(code: u8) -> Option<AclPermission> {
        [AclPermission::Deny, AclPermission::Allow].into_iter().find(|it| it.code() == code)
    }
}

/// One access control list entry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Acl {
    pub resource: AclResource,
    pub pattern: AclPattern,
    /// A resource's name, the beginning of one, or `*`.
    pub name: String,
    /// Kind and name, as `User:alice`.
    pub principal: String,
    /// An address, or `*`.
    pub host: String,
    pub operation: AclOperation,
    pub permission: AclPermission,
}

impl Acl {
    /// Bytes of its three texts.
    pub(crate) fn text_bytes(&self) -> usize {
        self.name.len() + self.principal.len() + self.host.len()
    }
}

/// Which kinds of pattern a filter picks (`PatternType` of filters).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatternFilter {
    /// Either kind, by the name it is written with.
    Any,
    /// Every pattern that would cover a resource of the filter's name.
    Match,
    Only(AclPattern),
}

/// Picks ACLs. `None` picks whatever is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AclFilter {
    pub resource: Option<AclResource>,
    pub pattern: PatternFilter,
    pub name: Option<String>,
    pub principal: Option<String>,
    pub host: Option<String>,
    pub operation: Option<AclOperation>,
    pub permission: Option<AclPermission>,
}

impl AclFilter {
    pub const ALL: AclFilter = AclFilter {
        resource: None,
        pattern: PatternFilter::Any,
        name: None,
        principal: None,
        host: None,
        operation: None,
        permission: None,
    };

    /// The ACLs it picks, in their order. If it says all of what kind, which pattern and which name, only those are
    /// looked at, as they come one after another; else all are.
    pub(crate) fn picked_of<'a>(
        &'a self,
        acls: &'a BTreeSet<Arc<Acl>>,
    ) -> impl Iterator<Item = &'a Arc<Acl>> {
        let first = self.first();
        let begin = first.as_ref().map_or(Bound::Unbounded, Bound::Included);
        let is_narrow = first.is_some();
        let from = acls.range::<Acl, _>((begin, Bound::Unbounded));
        let among = from.take_while(move |it| !is_narrow || self.is_of_its_name(it));
        among.filter(|it| self.picks(it))
    }

    /// The least ACL of the one name that it speaks of, if it does.
    fn first(&self) -> Option<Acl> {
        let PatternFilter::Only(pattern) = self.pattern else { return None };
        Some(Acl {
            resource: self.resource?,
            pattern,
            name: self.name.clone()?,
            principal: String::new(),
            host: String::new(),
            operation: AclOperation::ALL[0],
            permission: AclPermission::Deny,
        })
    }

    fn is_of_its_name(&self, acl: &Acl) -> bool {
        self.resource == Some(acl.resource)
            && self.pattern == PatternFilter::Only(acl.pattern)
            && self.name.as_ref() == Some(&acl.name)
    }

    pub fn picks(&self, acl: &Acl) -> bool {
        self.resource.is_none_or(|it| it == acl.resource)
            && self.picks_name(acl)
            && self.principal.as_ref().is_none_or(|it| *it == acl.principal)
            && self.host.as_ref().is_none_or(|it| *it == acl.host)
            && self.operation.is_none_or(|it| it == acl.operation)
            && self.permission.is_none_or(|it| it == acl.permission)
    }

    fn picks_name(&self, acl: &Acl) -> bool {
        let is_written_so = |name: &String| *name == acl.name;
        match (self.pattern, &self.name) {
            (PatternFilter::Only(pattern), name) => {
                pattern == acl.pattern && name.as_ref().is_none_or(is_written_so)
            }
            (_, None) => true,
            (PatternFilter::Any, Some(name)) => is_written_so(name),
            (PatternFilter::Match, Some(name)) => match acl.pattern {
                AclPattern::Literal => is_written_so(name) || acl.name == AclPattern::WILDCARD,
                AclPattern::Prefixed => name.starts_with(&acl.name),
            },
        }
    }
}
