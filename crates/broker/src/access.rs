//! Who may do what: Kafka's ACLs, as its StandardAuthorizer reads them (KIP-11, KIP-290, KIP-801).
//!
//! | module | in it |
//! | --- | --- |
//! | `principal` | who is on the other end of a connection |
//! | `rules` | ACLs made ready for questions; pure |
//! | `shared_map` | maps whose copies share what they have in common |
//! | `authorizer` | the rules in effect, counts and log lines of what was denied |
//! | `requirements` | which API asks for what: the one list, checked at every question in debug builds |
//! | `bindings` | ACLs and filters from the wire and back |
//!
//! Does not own: the ACLs themselves (`cluster`), what a denial looks like in an answer (the handlers).
//!
//! A handler asks through its `RequestContext`. Without an authorizer every question is answered with yes, at the cost
//! of one comparison.

mod authorizer;
pub(crate) mod bindings;
mod principal;
pub(crate) mod requirements;
mod rules;
mod shared_map;

pub(crate) use authorizer::{Access, Authorizer};
pub(crate) use principal::Principal;
pub(crate) use rules::Operations;

/// The only name of the resource that is the cluster.
pub(crate) const CLUSTER_NAME: &str = "kafka-cluster";
