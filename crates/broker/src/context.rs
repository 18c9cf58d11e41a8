//! What a handler knows about the request beyond its body.

use std::net::IpAddr;
use std::sync::Arc;

use cluster::{AclOperation, AclResource};
use protocol::messages::ApiKey;

use crate::access::{Access, CLUSTER_NAME, Operations, Principal, requirements};
use crate::listener::BoundListener;
use crate::shares::sessions::ConnectionId;

/// One request's circumstances.
#[derive(Debug, Clone)]
pub(crate) struct RequestContext {
    pub(crate) key: ApiKey,
    /// The API version the body is in; the answer uses the same.
    pub(crate) version: i16,
    pub(crate) client_id: Option<String>,
    pub(crate) client_host: IpAddr,
    /// What is told here ends with it (share sessions).
    pub(crate) connection: ConnectionId,
    /// Where the client connected: what it is told about brokers depends on it.
    pub(crate) listener: Arc<BoundListener>,
    /// Whose connection it is.
    pub(crate) principal: Arc<Principal>,
    /// `None`: there is no authorizer, and everything is allowed.
    pub(crate) access: Option<Access>,
}

impl RequestContext {
    /// The host as Kafka shows it in group descriptions: with a leading slash.
    pub(crate) fn host_for_display(&self) -> String {
        format!("/{}", self.client_host)
    }

    /// Whether the principal may do that. A denial is counted and logged.
    pub(crate) fn allows(
        &self,
        operation: AclOperation,
        resource: AclResource,
        name: &str,
    ) -> bool {
        let allowed = self.sees(operation, resource, name);
        if !allowed && let Some(access) = &self.access {
            access.note_denial(self.who(), operation, resource, name);
        }
        allowed
    }

    /// As [`RequestContext::allows`], of what is left out of an answer or may be allowed otherwise: nobody is denied
    /// anything by it.
    pub(crate) fn sees(&self, operation: AclOperation, resource: AclResource, name: &str) -> bool {
        let Some(access) = &self.access else { return true };
        debug_assert!(
            requirements::asked(self.key).contains(&(operation, resource)),
            "{:?} asks for {operation:?} of {resource:?}, which is not in the list of requirements",
            self.key
        );
        access.operations(self.who(), resource, name).contains(operation)
    }

    pub(crate) fn allows_topic(&self, operation: AclOperation, name: &str) -> bool {
        self.allows(operation, AclResource::Topic, name)
    }

    pub(crate) fn sees_topic(&self, operation: AclOperation, name: &str) -> bool {
        self.sees(operation, AclResource::Topic, name)
    }

    pub(crate) fn allows_group(&self, operation: AclOperation, name: &str) -> bool {
        self.allows(operation, AclResource::Group, name)
    }

    pub(crate) fn allows_transactional_id(&self, operation: AclOperation, id: &str) -> bool {
        self.allows(operation, AclResource::TransactionalId, id)
    }

    pub(crate) fn allows_cluster(&self, operation: AclOperation) -> bool {
        self.allows(operation, AclResource::Cluster, CLUSTER_NAME)
    }

    pub(crate) fn sees_cluster(&self, operation: AclOperation) -> bool {
        self.sees(operation, AclResource::Cluster, CLUSTER_NAME)
    }

    /// Whether the principal may do that with at least one resource of the kind (KIP-679).
    pub(crate) fn allows_any(&self, operation: AclOperation, resource: AclResource) -> bool {
        let Some(access) = &self.access else { return true };
        access.allows_any(self.who(), operation, resource)
    }

    /// All that the principal may do with a resource (KIP-430).
    pub(crate) fn operations(&self, resource: AclResource, name: &str) -> Operations {
        match &self.access {
            None => Operations::EVERY,
            Some(access) => access.operations(self.who(), resource, name),
        }
    }

    fn who(&self) -> (&Principal, IpAddr) {
        (&self.principal, self.client_host.to_canonical())
    }
}
