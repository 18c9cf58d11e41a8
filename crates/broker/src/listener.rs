//! Accepts Kafka connections, within a limit.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use environment::TaskKind;
use tokio::net::{TcpListener, TcpStream, lookup_host};

use crate::broker::Broker;
use crate::connection;

/// Pause after a failed accept: running out of file descriptors must not become a busy loop.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// Connections the kernel holds before they are accepted.
const BACKLOG: u32 = 1024;

/// A listener in use, and how clients are told to reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BoundListener {
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
}

/// Opens every listener of the configuration; connections are served from the moment it returns.
pub(crate) async fn start(broker: &Arc<Broker>) -> Result<Vec<SocketAddr>, ListenError> {
    let mut listeners = Vec::new();
    let mut addresses = Vec::new();
    for endpoint in &broker.config.listeners {
        let address = format!("{}:{}", endpoint.host, endpoint.port);
        let listener = bind(&address).await?;
        let local = listener.local_addr();
        let local = local.map_err(|source| ListenError::Bind { address, source })?;
        let bound = BoundListener {
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

async fn bind(address: &str) -> Result<TcpListener, ListenError> {
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
    if broker.config.connections_max <= broker.metrics.connections.get().max(0) as usize {
        broker.metrics.connections_refused.inc();
        tracing::warn!(%peer, limit = broker.config.connections_max, "connection refused: max.connections reached");
        return;
    }
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "connection lost before its first request");
        return;
    }
    broker.metrics.connections.inc();
    let serving = connection::serve(Arc::clone(broker), stream, peer, Arc::clone(bound));
    broker.environment.tasks.spawn(TaskKind::Connection, "connection", serving);
}
