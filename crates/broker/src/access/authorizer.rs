//! The rules in effect, and what they refused.
//!
//! Owns: when ACLs become rules, the counters and log lines of denials. Does not own: the rules (`rules`), the ACLs.
//!
//! Rules follow the ACLs, by the request that changed them before it is answered, or else by the next one of anybody;
//! meanwhile others go on by those before. Nothing is locked while a request runs. What follows from a few changes is
//! made out of the rules before; after many at once they are made anew.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use cluster::{AclOperation, AclResource, AclsSince, View};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::principal::Principal;
use super::rules::{AclRules, Asker, Operations};
use crate::configs::AuthorizerConfig;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DeniedLabel {
    operation: String,
    resource: String,
}

/// One per broker that has an authorizer.
#[derive(Debug)]
pub(crate) struct Authorizer {
    super_users: Arc<BTreeSet<String>>,
    allow_everyone: bool,
    /// A leaf lock, held to copy or replace one `Arc` and never across an await.
    rules: RwLock<Arc<AclRules>>,
    /// Held while rules are made: once is enough. Never across an await.
    making: Mutex<()>,
    denied: Family<DeniedLabel, Counter>,
}

impl Authorizer {
    pub(crate) fn new(
        config: &AuthorizerConfig,
        view: &View,
        registry: &mut Registry,
    ) -> Authorizer {
        let denied = Family::default();
        let registry = registry.sub_registry_with_prefix("aquifer_broker");
        let words =
            "What clients asked for and no ACL allowed them, by operation and kind of resource";
        registry.register("denied", words, denied.clone());
        let super_users = Arc::new(config.super_users.clone());
        let allow_everyone = config.allow_everyone;
        let (generation, acls) = view.acls();
        let rules = AclRules::new(generation, &acls, Arc::clone(&super_users), allow_everyone);
        Authorizer {
            super_users,
            allow_everyone,
            rules: RwLock::new(Arc::new(rules)),
            making: Mutex::new(()),
            denied,
        }
    }

    /// What `principal` has to do with the ACLs as they are now.
    pub(crate) fn access(self: &Arc<Authorizer>, view: &View) -> Access {
        let mut rules = self.in_effect();
        if rules.generation() != view.acl_generation()
            && let Ok(_making) = self.making.try_lock()
        {
            rules = self.catch_up(view);
        }
        Access { authorizer: Arc::clone(self), rules }
    }

    /// Returns when the ACLs as they are now are in effect.
    pub(crate) fn follow(&self, view: &View) {
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        if self.in_effect().generation() != view.acl_generation() {
            self.catch_up(view);
        }
    }

    fn in_effect(&self) -> Arc<AclRules> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Only while `making` is held.
    fn catch_up(&self, view: &View) -> Arc<AclRules> {
        let before = self.in_effect();
        let made = match view.acls_since(before.generation()) {
            (generation, AclsSince::Changes(changes)) => before.changed(generation, &changes),
            (generation, AclsSince::All(acls)) => {
                let super_users = Arc::clone(&self.super_users);
                AclRules::new(generation, &acls, super_users, self.allow_everyone)
            }
        };
        let made = Arc::new(made);
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&made);
        made
    }

    fn note_denial(
        &self,
        who: Asker<'_>,
        operation: AclOperation,
        resource: AclResource,
        name: &str,
    ) {
        let label =
            DeniedLabel { operation: format!("{operation:?}"), resource: format!("{resource:?}") };
        self.denied.get_or_create(&label).inc();
        let Asker { principal, host } = who;
        tracing::debug!(principal, %host, ?operation, ?resource, name, "denied");
    }
}

/// The rules a request runs by, from its beginning to its end.
#[derive(Debug, Clone)]
pub(crate) struct Access {
    authorizer: Arc<Authorizer>,
    rules: Arc<AclRules>,
}

impl Access {
    /// All that may be done with a resource; what may not is no denial yet.
    pub(crate) fn operations(
        &self,
        (principal, host): (&Principal, IpAddr),
        resource: AclResource,
        name: &str,
    ) -> Operations {
        let asker = Asker { principal: principal.as_str(), host };
        self.rules.operations(asker, resource, name)
    }

    pub(crate) fn allows_any(
        &self,
        (principal, host): (&Principal, IpAddr),
        operation: AclOperation,
        resource: AclResource,
    ) -> bool {
        let asker = Asker { principal: principal.as_str(), host };
        self.rules.allows_any(asker, operation, resource)
    }

    /// Counts and logs, at debug: whoever is refused may ask a thousand times a second.
    pub(crate) fn note_denial(
        &self,
        (principal, host): (&Principal, IpAddr),
        operation: AclOperation,
        resource: AclResource,
        name: &str,
    ) {
        let asker = Asker { principal: principal.as_str(), host };
        self.authorizer.note_denial(asker, operation, resource, name);
    }
}
