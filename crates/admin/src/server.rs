//! The HTTP listener and its pages. Text for people and probes, OpenMetrics for scrapers.
//!
//! Owns: the socket and the routes. Does not own: what is measured (the registry comes in), what
//! ready means (`readiness`).

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use environment::{Environment, TaskKind};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

use crate::readiness::Readiness;

const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Why there are no pages. The broker itself is not touched.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    #[error("cannot listen on {address} for the admin HTTP endpoint: {source}")]
    Listen { address: String, source: std::io::Error },
}

/// What the pages show. Clones share it.
#[derive(Debug, Clone)]
pub struct AdminPages {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Name and version, for the index.
    title: String,
    readiness: Readiness,
    /// Set once everything has registered what it measures.
    metrics: OnceLock<Registry>,
}

/// A running listener. It ends with the task group it was started in.
#[derive(Debug)]
pub struct AdminServer {
    address: SocketAddr,
}

impl AdminPages {
    pub fn new(title: impl Into<String>, readiness: Readiness) -> AdminPages {
        let shared = Shared { title: title.into(), readiness, metrics: OnceLock::new() };
        AdminPages { shared: Arc::new(shared) }
    }

    /// Shows these metrics from now on. Only the first registry counts.
    pub fn show_metrics(&self, registry: Registry) {
        if self.shared.metrics.set(registry).is_err() {
            tracing::warn!("metrics were shown already; the second registry is ignored");
        }
    }
}

impl AdminServer {
    /// Listens on `address` (`host:port`) and serves until the environment's tasks are stopped.
    pub async fn start(
        address: &str,
        pages: AdminPages,
        environment: &Environment,
    ) -> Result<AdminServer, AdminError> {
        let failed = |source| AdminError::Listen { address: address.to_owned(), source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        let stop = environment.tasks.token();
        environment.tasks.spawn(TaskKind::Background, "admin-http", async move {
            let stopped = stop.stopped_owned();
            let serving = axum::serve(listener, routes(pages)).with_graceful_shutdown(stopped);
            if let Err(error) = serving.await {
                tracing::error!(%error, "the admin HTTP endpoint ended");
            }
        });
        Ok(AdminServer { address: bound })
    }

    /// Where it listens, with the real port where port 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

fn routes(pages: AdminPages) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .fallback(absent)
        .with_state(pages)
}

async fn index(State(pages): State<AdminPages>) -> String {
    let state = pages.shared.readiness.problem().unwrap_or_else(|| "ready".to_owned());
    format!(
        "{}\n{state}\n\n\
         /healthz  200 while the process runs\n\
         /readyz   200 while produce and fetch are served, else 503 with the reason\n\
         /metrics  OpenMetrics text for Prometheus\n",
        pages.shared.title
    )
}

/// The process answers: it lives. A broker that waits for its disk must not be restarted for it.
async fn healthz() -> &'static str {
    "ok\n"
}

async fn readyz(State(pages): State<AdminPages>) -> (StatusCode, String) {
    match pages.shared.readiness.problem() {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(problem) => (StatusCode::SERVICE_UNAVAILABLE, format!("{problem}\n")),
    }
}

async fn metrics(State(pages): State<AdminPages>) -> Response {
    let Some(registry) = pages.shared.metrics.get() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "starting\n").into_response();
    };
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, registry) {
        Ok(()) => ([(header::CONTENT_TYPE, METRICS_TYPE)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics could not be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn absent() -> (StatusCode, &'static str) {
    (StatusCode::NOT_FOUND, "no such page; / lists them\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prometheus_client::metrics::counter::Counter;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::process::ProcessCollector;
    use crate::readiness::Stage;

    async fn ask(server: &AdminServer, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(server.address()).await.expect("it listens");
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("it answers");
        let status = answer.split(' ').nth(1).and_then(|it| it.parse().ok()).expect("a status");
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned();
        (status, body)
    }

    #[tokio::test]
    async fn pages_follow_the_stages_of_the_process() {
        let environment = Environment::system();
        let readiness = Readiness::starting("opening");
        let pages = AdminPages::new("aquifer test", readiness.clone());
        let server = AdminServer::start("127.0.0.1:0", pages.clone(), &environment).await;
        let server = server.expect("a free port");

        assert_eq!(ask(&server, "/healthz").await, (200, "ok\n".to_owned()));
        assert_eq!(ask(&server, "/readyz").await, (503, "starting: opening\n".to_owned()));
        assert_eq!(ask(&server, "/metrics").await.0, 503);
        assert_eq!(ask(&server, "/nowhere").await.0, 404);
        assert!(ask(&server, "/").await.1.starts_with("aquifer test\nstarting: opening\n"));

        let mut registry = Registry::default();
        let counter: Counter = Counter::default();
        registry.register("wells", "Wells", counter.clone());
        registry.register_collector(Box::new(ProcessCollector::new()));
        counter.inc();
        pages.show_metrics(registry);
        readiness.enter(Stage::Serving(Arc::new(|| None)));
        assert_eq!(ask(&server, "/readyz").await, (200, "ready\n".to_owned()));
        let (status, text) = ask(&server, "/metrics").await;
        assert_eq!(status, 200);
        assert!(text.contains("wells_total 1"), "{text}");
        assert!(text.contains("process_resident_memory_bytes"), "{text}");
        assert!(text.contains("process_cpu_seconds_total"), "{text}");

        let late = environment.tasks.shutdown(Duration::from_secs(10)).await;
        assert_eq!(late, Vec::<String>::new());
    }

    #[tokio::test]
    async fn a_taken_port_is_told() {
        let environment = Environment::system();
        let pages = AdminPages::new("aquifer test", Readiness::starting("opening"));
        let first = AdminServer::start("127.0.0.1:0", pages.clone(), &environment).await;
        let address = first.expect("a free port").address().to_string();
        let second = AdminServer::start(&address, pages, &environment).await;
        let words = second.expect_err("the port is taken").to_string();
        assert!(words.contains(&address), "{words}");
    }
}
