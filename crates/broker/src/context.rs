//! What a handler knows about the request beyond its body.

use std::net::IpAddr;
use std::sync::Arc;

use crate::listener::BoundListener;
use crate::shares::sessions::ConnectionId;

/// One request's circumstances.
#[derive(Debug, Clone)]
pub(crate) struct RequestContext {
    /// The API version the body is in; the answer uses the same.
    pub(crate) version: i16,
    pub(crate) client_id: Option<String>,
    pub(crate) client_host: IpAddr,
    /// What is told here ends with it (share sessions).
    pub(crate) connection: ConnectionId,
    /// Where the client connected: what it is told about brokers depends on it.
    pub(crate) listener: Arc<BoundListener>,
}

impl RequestContext {
    /// The host as Kafka shows it in group descriptions: with a leading slash.
    pub(crate) fn host_for_display(&self) -> String {
        format!("/{}", self.client_host)
    }
}
