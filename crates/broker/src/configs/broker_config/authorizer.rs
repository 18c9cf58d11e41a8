//! What a broker was told about authorisation (KIP-801).

use std::collections::BTreeSet;

use super::Resolver;

/// The class that stands for the authorizer of this broker: Kafka's own for clusters with KRaft.
const STANDARD: &str = "org.apache.kafka.metadata.authorizer.StandardAuthorizer";

/// How ACLs are read. A broker without this lets everybody do everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuthorizerConfig {
    /// Principals, as `User:name`, that no ACL holds back.
    pub super_users: BTreeSet<String>,
    /// Whether what no ACL speaks of is everybody's.
    pub allow_everyone: bool,
}

impl Resolver {
    pub(super) fn authorizer(&mut self) -> Option<AuthorizerConfig> {
        let class = self.text("authorizer.class.name");
        let super_users = self.super_users();
        match class.as_deref() {
            Some(STANDARD) => {
                let allow_everyone = self.boolean("allow.everyone.if.no.acl.found");
                Some(AuthorizerConfig { super_users, allow_everyone })
            }
            Some(other) => {
                self.problems.push(format!(
                    "authorizer.class.name: {other:?} cannot be loaded, as Java classes cannot; \
                     {STANDARD} stands for the one that is built in, and nothing for none"
                ));
                None
            }
            None => {
                for name in ["super.users", "allow.everyone.if.no.acl.found"] {
                    if self.fixed.contains_key(name) {
                        let words = "there is no authorizer (authorizer.class.name)";
                        self.remarks.push(format!("{name} changes nothing: {words}"));
                    }
                }
                None
            }
        }
    }

    /// Separated by semicolons: names of TLS certificates have commas.
    fn super_users(&mut self) -> BTreeSet<String> {
        let text = self.text("super.users").unwrap_or_default();
        let mut users = BTreeSet::new();
        for user in text.split(';').map(str::trim).filter(|it| !it.is_empty()) {
            match user.split_once(':') {
                Some((kind, name)) if !kind.is_empty() && !name.is_empty() => {
                    users.insert(user.to_owned());
                }
                _ => self.problems.push(format!(
                    "super.users: {user:?} is no principal, which is Type:name, as User:alice"
                )),
            }
        }
        users
    }
}
