//! HTTP to a store: one connection pool per client, bounded in every direction.
//!
//! Owns: connections, TLS, the deadline of a request, which schemes may be spoken.
//! Does not own: signatures, retries and what an answer means (the client above).
//!
//! The client crate could bring its own HTTP library. This one is a fifth of its size, uses the one
//! cryptography the product has, and sees what no layer above sees: each try of a retrying client,
//! and the request that completes a multipart upload, which S3 can make conditional though the
//! client crate has no word for it.
//!
//! Proxies are not spoken to: a bucket is reached directly or through a private endpoint.

use crate::metering::BucketMetrics;
use async_trait::async_trait;
use bytes::Bytes;
use environment::Clock;
use futures::future::BoxFuture;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{HeaderValue, IF_NONE_MATCH, USER_AGENT};
use hyper::{Method, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use object_store::client::{
    ClientConfigKey, ClientOptions, HttpClient, HttpConnector as StoreConnector, HttpError,
    HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse, HttpResponseBody, HttpService,
};
use std::error::Error;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

/// How connections are made and kept. Tunable per node, by parameters of the bucket's URI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TransportOptions {
    /// From the name to a connection with TLS. Shorter: a dead address is left sooner.
    pub(crate) connect_timeout: Duration,
    /// From the request to the last byte of its answer. Longer: slow links finish large parts;
    /// shorter: a store that hangs is given up sooner.
    pub(crate) request_timeout: Duration,
    /// Connections kept open without a request. More: fewer handshakes after a lull, more sockets.
    pub(crate) idle_connections_max: usize,
    /// An idle connection is closed after this; stores close theirs after a few seconds to minutes.
    pub(crate) idle_timeout: Duration,
}

impl Default for TransportOptions {
    fn default() -> TransportOptions {
        TransportOptions {
            connect_timeout: Duration::from_secs(3),
            request_timeout: Duration::from_secs(30),
            idle_connections_max: 80,
            idle_timeout: Duration::from_secs(15),
        }
    }
}

/// As the client crate has it for metadata services.
const HURRIED: Duration = Duration::from_secs(1);

const AGENT: HeaderValue = HeaderValue::from_static(concat!("aquifer/", env!("CARGO_PKG_VERSION")));

/// What a client is for: the label of its metrics, and whether it may replace objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    /// Single requests, tried again above.
    Requests,
    /// Multipart uploads. Their completion must not replace an object.
    Uploads,
    /// The metadata database.
    Metadata,
}

impl Line {
    fn name(self) -> &'static str {
        match self {
            Line::Requests => "requests",
            Line::Uploads => "uploads",
            Line::Metadata => "metadata",
        }
    }
}

/// Makes clients.
#[derive(Clone)]
pub(crate) struct Connector {
    options: TransportOptions,
    tls: rustls::ClientConfig,
    clock: Arc<dyn Clock>,
    metrics: BucketMetrics,
    line: Line,
}

impl Connector {
    /// With the machine's certificates; `tls_needed` says that there must be some.
    ///
    /// # Errors
    ///
    /// In words for an operator: no trusted certificates.
    pub(crate) fn new(
        options: TransportOptions,
        tls_needed: bool,
        clock: Arc<dyn Clock>,
        metrics: BucketMetrics,
    ) -> Result<Connector, String> {
        let mut roots = rustls::RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        let (trusted, _) = roots.add_parsable_certificates(found.certs);
        if tls_needed && trusted == 0 {
            let reasons: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
            return Err(format!(
                "there are no trusted certificates for TLS {reasons:?}: install ca-certificates, or \
                 name a file of them in SSL_CERT_FILE"
            ));
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Connector { options, tls, clock, metrics, line: Line::Requests })
    }

    pub(crate) fn on(&self, line: Line) -> Connector {
        Connector { line, ..self.clone() }
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connector({:?}, {:?})", self.line, self.options)
    }
}

impl StoreConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let says = |key| options.get_config_value(&key);
        let http_allowed = says(ClientConfigKey::AllowHttp).is_some_and(|it| it == "true");
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        // Where a machine's identity is asked for, nobody answers on most machines: the client wants
        // to know soon.
        let hurried = says(ClientConfigKey::ConnectTimeout).is_some_and(|it| it == "1s");
        let connect_timeout = if hurried { HURRIED } else { self.options.connect_timeout };
        tcp.set_connect_timeout(Some(connect_timeout.min(self.options.connect_timeout)));
        let builder = HttpsConnectorBuilder::new().with_tls_config(self.tls.clone());
        let builder = if http_allowed { builder.https_or_http() } else { builder.https_only() };
        let connector = builder.enable_http1().wrap_connector(tcp);
        // Connections are driven by tasks of the pool, which end with it: none of them owns anything
        // that a shutdown would have to wait for.
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(self.options.idle_timeout)
            .pool_max_idle_per_host(self.options.idle_connections_max)
            .build(connector);
        Ok(HttpClient::new(Transport {
            client,
            timeout: self.options.request_timeout,
            clock: Arc::clone(&self.clock),
            metrics: self.metrics.clone(),
            line: self.line,
        }))
    }
}

struct Transport {
    client: Client<HttpsConnector<HttpConnector>, HttpRequestBody>,
    timeout: Duration,
    clock: Arc<dyn Clock>,
    metrics: BucketMetrics,
    line: Line,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Transport({:?})", self.line)
    }
}

#[async_trait]
impl HttpService for Transport {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        request.headers_mut().insert(USER_AGENT, AGENT);
        if self.line == Line::Uploads && completes_upload(request.method(), request.uri()) {
            request.headers_mut().insert(IF_NONE_MATCH, HeaderValue::from_static("*"));
        }
        let mut deadline = self.clock.sleep(self.timeout);
        let answer = tokio::select! {
            biased;
            answer = self.client.request(request) => answer.map_err(from_client),
            () = &mut deadline => Err(timed_out()),
        };
        let status = answer.as_ref().map_or(0, |it| it.status().as_u16());
        self.metrics.responded(self.line.name(), status);
        let (parts, body) = answer?.into_parts();
        let body = TimedBody { body, deadline: Mutex::new(deadline) };
        Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(body)))
    }
}

/// S3's CompleteMultipartUpload: `POST /key?uploadId=…`; its beginning is `POST /key?uploads`.
fn completes_upload(method: &Method, uri: &Uri) -> bool {
    let query = uri.query().unwrap_or("");
    method == Method::POST && query.split('&').any(|it| it.starts_with("uploadId="))
}

fn timed_out() -> HttpError {
    let late = io::Error::new(io::ErrorKind::TimedOut, "the request timed out");
    HttpError::new(HttpErrorKind::Timeout, late)
}

/// The kinds decide what a retrying client tries again; zero-retry clients do not care.
fn from_client(error: ClientError) -> HttpError {
    let kind = if error.is_connect() { HttpErrorKind::Connect } else { kind_of(&error) };
    HttpError::new(kind, error)
}

fn kind_of(error: &(dyn Error + 'static)) -> HttpErrorKind {
    let mut cause = Some(error);
    while let Some(inner) = cause {
        if let Some(http) = inner.downcast_ref::<hyper::Error>() {
            if http.is_timeout() {
                return HttpErrorKind::Timeout;
            }
            // Cut off in the middle: it may have happened, so only what is idempotent goes again.
            if http.is_closed() || http.is_incomplete_message() || http.is_body_write_aborted() {
                return HttpErrorKind::Interrupted;
            }
        }
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            return match io.kind() {
                io::ErrorKind::TimedOut => HttpErrorKind::Timeout,
                _ => HttpErrorKind::Interrupted,
            };
        }
        cause = inner.source();
    }
    HttpErrorKind::Unknown
}

/// An answer that must end before the request's deadline.
struct TimedBody {
    body: Incoming,
    /// The lock only makes it shareable in the eyes of the compiler: it is never contended.
    deadline: Mutex<BoxFuture<'static, ()>>,
}

impl Body for TimedBody {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            let failed = |error: hyper::Error| HttpError::new(kind_of(&error), error);
            return Poll::Ready(frame.map(|it| it.map_err(failed)));
        }
        let deadline = self.deadline.get_mut().unwrap_or_else(PoisonError::into_inner);
        deadline.as_mut().poll(cx).map(|()| Some(Err(timed_out())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_completion_of_an_upload_is_made_conditional() {
        for (method, uri, completes) in [
            (Method::POST, "http://h/b/k?uploadId=1", true),
            (Method::POST, "http://h/b/k?x=1&uploadId=1", true),
            (Method::POST, "http://h/b/k?uploads", false),
            (Method::POST, "http://h/b?delete", false),
            (Method::PUT, "http://h/b/k?partNumber=1&uploadId=1", false),
            (Method::DELETE, "http://h/b/k?uploadId=1", false),
        ] {
            assert_eq!(completes_upload(&method, &Uri::from_static(uri)), completes, "{uri}");
        }
    }
}
