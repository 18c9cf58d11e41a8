//! Accepts Kafka connections, within limits.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use environment::TaskKind;
use tokio::net::{TcpListener, TcpStream, lookup_host};

use crate::broker::Broker;
use crate::configs::{BrokerConfig, SocketBuffers};
use crate::connection;
use crate::connection_limits::Limits;

/// Pause after a failed accept: running out of file descriptors must not become a busy loop.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// Connections the kernel holds before they are accepted.
const BACKLOG: u32 = 1024;

/// A listener in use, and how clients are told to reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BoundListener {
    /// Upper case, as Kafka shows it.
    pub(crate) name: String,
    pub(crate) advertised_host: String,
    pub(crate) advertised_port: u16,
}

/// Why a listener did not open.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("cannot resolve the listener address {address}: {source}")]
    Resolve { address: String, source: std::io::Error },
    #[error(
        "cannot listen on {address}: {source}. Is another broker running there? \
         Choose another port with --set listeners=PLAINTEXT://HOST:PORT"
    )]
    Bind { address: String, source: std::io::Error },
    #[error("max.connections.per.ip.overrides: cannot resolve {host}: {source}")]
    Override { host: String, source: std::io::Error },
}

/// The limits of a configuration, its names resolved.
pub(crate) async fn limits(config: &BrokerConfig) -> Result<Limits, ListenError> {
    let mut overrides = HashMap::new();
    for (host, limit) in &config.connections_per_address_overrides {
        let resolved = lookup_host((host.as_str(), 0)).await;
        let resolved =
            resolved.map_err(|source| ListenError::Override { host: host.clone(), source })?;
        overrides.extend(resolved.map(|it| (it.ip().to_canonical(), *limit)));
    }
    let per_address = config.connections_per_address_max;
    Ok(Limits { all: config.connections_max, per_address, overrides })
}

/// Opens every listener of the configuration; connections are served from the moment it returns.
pub(crate) async fn start(broker: &Arc<Broker>) -> Result<Vec<SocketAddr>, ListenError> {
    let mut listeners = Vec::new();
    let mut addresses = Vec::new();
    for endpoint in &broker.config.listeners {
        let address = format!("{}:{}", endpoint.host, endpoint.port);
        let listener = bind(&address, &broker.config.socket_buffers).await?;
        let local = listener.local_addr();
        let local = local.map_err(|source| ListenError::Bind { address, source })?;
        let bound = BoundListener {
            name: endpoint.name.clone(),
            advertised_host: endpoint.advertised_host.clone(),
            // 0 stands for the port the system chose.
            advertised_port: match endpoint.advertised_port {
                0 => local.port(),
                port => port,
            },
        };
        addresses.push(local);
        listeners.push((listener, Arc::new(bound)));
    }
    for (listener, bound) in listeners {
        let accepting = accept(Arc::clone(broker), listener, bound);
        broker.environment.tasks.spawn(TaskKind::Critical, "listener", accepting);
    }
    Ok(addresses)
}

async fn bind(address: &str, buffers: &SocketBuffers) -> Result<TcpListener, ListenError> {
    let resolve = |source| ListenError::Resolve { address: address.to_owned(), source };
    let bind = |source| ListenError::Bind { address: address.to_owned(), source };
    // An empty host means every interface, as in Kafka.
    let to_resolve = match address.strip_prefix(':') {
        Some(port) => format!("0.0.0.0:{port}"),
        None => address.to_owned(),
    };
    let mut resolved = lookup_host(to_resolve).await.map_err(resolve)?;
    let resolved = resolved.next().ok_or_else(|| resolve(std::io::ErrorKind::NotFound.into()))?;
    let socket = match resolved {
        SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4(),
        SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6(),
    };
    let socket = socket.map_err(bind)?;
    // A restart must not wait for the old connections' TIME_WAIT.
    socket.set_reuseaddr(true).map_err(bind)?;
    // Before it listens: connections inherit them, and the receive window is agreed on from the first packet.
    if let Some(bytes) = buffers.receive_bytes {
        socket.set_recv_buffer_size(bytes).map_err(bind)?;
    }
    if let Some(bytes) = buffers.send_bytes {
        socket.set_send_buffer_size(bytes).map_err(bind)?;
    }
    socket.bind(resolved).map_err(bind)?;
    socket.listen(BACKLOG).map_err(bind)
}

async fn accept(broker: Arc<Broker>, listener: TcpListener, bound: Arc<BoundListener>) {
    loop {
        let accepted = tokio::select! {
            () = broker.stop.stopped() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => admit(&broker, stream, peer, &bound),
            Err(error) => {
                tracing::warn!(%error, "accepting a connection failed; trying again");
                broker.environment.clock.sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}

fn admit(broker: &Arc<Broker>, stream: TcpStream, peer: SocketAddr, bound: &Arc<BoundListener>) {
    let admission = match broker.connections.admit(peer.ip()) {
        Ok(admission) => admission,
        Err(refused) => {
            broker.metrics.connections_refused.inc();
            tracing::warn!(%peer, reason = %refused, "connection refused");
            return;
        }
    };
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "connection lost before its first request");
        return;
    }
    let serving = connection::serve(Arc::clone(broker), stream, peer, Arc::clone(bound));
    let serving = async move {
        serving.await;
        drop(admission);
    };
    broker.environment.tasks.spawn(TaskKind::Connection, "connection", serving);
}

#[cfg(test)]
mod tests {
    use rustix::net::sockopt::{socket_recv_buffer_size, socket_send_buffer_size};

    use super::*;

    // Linux tells twice what was asked for, for its own bookkeeping.
    #[tokio::test]
    async fn connections_have_the_buffers_that_were_asked_for() {
        let buffers = SocketBuffers { send_bytes: Some(50_000), receive_bytes: Some(60_000) };
        let listener = bind("127.0.0.1:0", &buffers).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (_client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (stream, _) = accepted.expect("a connection");
        let (send, receive) = (socket_send_buffer_size(&stream), socket_recv_buffer_size(&stream));
        assert!(matches!(send, Ok(50_000..=100_000)), "{send:?}");
        assert!(matches!(receive, Ok(60_000..=120_000)), "{receive:?}");
    }
}
