//! Clients of remote stores, from a location and the environment.
//!
//! Owns: which variables and parameters become which setting of a client, which client retries what.
//! Does not own: the shape of parameters (`location`), HTTP (`transport`), the AWS files (`profile`).
//!
//! Three clients talk to one store, with one set of credentials:
//! - requests: no retries at all. The layer above retries, because only it can tell "exists" from
//!   "exists, and it was me" after an answer was lost; a client that retries a conditional put by
//!   itself turns the second into the first;
//! - uploads: the parts of multipart uploads and their completion, which are idempotent, with bounded
//!   retries, because their state is in the client;
//! - metadata: for the metadata database, which recognises its own conditional puts by a mark in the
//!   object and retries on top of the client's bounded retries.
//!
//! Precedence, strongest first: parameters of the URI, variables, the AWS profile, defaults. Plain
//! HTTP is spoken if and only if the endpoint says `http:`.

use crate::location::parameters::Parameter;
use crate::location::{RemoteKind, RemoteLocation};
use crate::metering::BucketMetrics;
use crate::store::StoreOptions;
use environment::{Clock, Environment};
use object_store::client::ClientOptions;
use object_store::limit::LimitStore;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ObjectStore, RetryConfig};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use transport::{Connector, Line, TransportOptions};
use variables::Variables;

mod aws;
mod azure;
mod gcs;
pub(crate) mod profile;
pub(crate) mod transport;
pub(crate) mod variables;

/// The clients of one store; its root is the cluster's root.
#[derive(Debug)]
pub(crate) struct Clients {
    pub(crate) requests: Arc<dyn ObjectStore>,
    pub(crate) uploads: Arc<dyn ObjectStore>,
    pub(crate) metadata: Arc<dyn ObjectStore>,
}

/// Requests of the metadata database at once. It has no limit of its own; its compactor could
/// otherwise take every connection.
const METADATA_REQUESTS_MAX: usize = 64;

/// Retries inside the clients that retry. After them the layer above decides: the database goes on,
/// an upload is aborted.
const RETRIES_MAX: usize = 6;
const RETRY_TIME_MAX: Duration = Duration::from_secs(60);
const BACKOFF_INITIAL: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Why no client can be made, and what to do: both in words for an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unusable {
    pub(crate) reason: String,
    pub(crate) advice: &'static str,
}

impl Unusable {
    fn new(reason: impl Into<String>, advice: &'static str) -> Unusable {
        Unusable { reason: reason.into(), advice }
    }

    fn from_client(error: &object_store::Error) -> Unusable {
        Unusable::new(
            crate::classify::chain(error),
            "Look at the bucket's parameters and variables.",
        )
    }
}

/// Makes the clients. Nothing is asked of the store yet.
pub(crate) fn open(
    location: &RemoteLocation,
    variables: &Variables,
    metrics: &BucketMetrics,
    environment: &Environment,
) -> Result<Clients, Unusable> {
    let clock = Arc::clone(&environment.clock);
    let tie = Tie { location, variables, metrics, clock };
    let [requests, uploads, metadata] = match location.kind {
        RemoteKind::S3 => aws::open(&tie)?,
        RemoteKind::Gcs => gcs::open(&tie)?,
        RemoteKind::Azure => azure::open(&tie)?,
    };
    let rooted = |store: Arc<dyn ObjectStore>| match &location.prefix {
        Some(prefix) => Arc::new(PrefixStore::new(store, prefix.as_str())) as Arc<dyn ObjectStore>,
        None => store,
    };
    let metadata = Arc::new(LimitStore::new(metadata, METADATA_REQUESTS_MAX));
    Ok(Clients { requests: rooted(requests), uploads: rooted(uploads), metadata: rooted(metadata) })
}

/// How hard to try, from the defaults of the kind and the parameters.
pub(crate) fn store_options(location: &RemoteLocation) -> StoreOptions {
    let count = |parameter, default: usize| {
        let given = location.parameter(parameter).and_then(|it| usize::from_str(it).ok());
        given.unwrap_or(default)
    };
    let defaults = StoreOptions::remote();
    StoreOptions {
        attempt_timeout: Some(transport_options(location).request_timeout),
        foreground_requests_max: count(
            Parameter::ForegroundRequestsMax,
            defaults.foreground_requests_max,
        ),
        background_requests_max: count(
            Parameter::BackgroundRequestsMax,
            defaults.background_requests_max,
        ),
        // Directory buckets of S3 Express list in no order; every other store lists by name.
        listing_sorted: !aws::is_express(location),
        ..defaults
    }
}

fn transport_options(location: &RemoteLocation) -> TransportOptions {
    let count = |parameter| location.parameter(parameter).and_then(|it| u32::from_str(it).ok());
    let milliseconds = |parameter| count(parameter).map(|it| Duration::from_millis(it.into()));
    let mut options = TransportOptions::default();
    options.connect_timeout =
        milliseconds(Parameter::ConnectTimeoutMs).unwrap_or(options.connect_timeout);
    options.request_timeout =
        milliseconds(Parameter::RequestTimeoutMs).unwrap_or(options.request_timeout);
    options.idle_connections_max =
        count(Parameter::IdleConnectionsMax).map_or(options.idle_connections_max, |it| it as usize);
    options
}

/// What every client is made from.
struct Tie<'a> {
    location: &'a RemoteLocation,
    variables: &'a Variables,
    metrics: &'a BucketMetrics,
    clock: Arc<dyn Clock>,
}

impl Tie<'_> {
    fn connector(&self, is_http: bool) -> Result<Connector, Unusable> {
        let options = transport_options(self.location);
        Connector::new(options, !is_http, Arc::clone(&self.clock), self.metrics.clone())
            .map_err(|reason| Unusable::new(reason, "No TLS connection could be trusted without."))
    }
}

/// The one option the transport takes from the clients; the rest are its own.
fn client_options(is_http: bool) -> ClientOptions {
    ClientOptions::new().with_allow_http(is_http)
}

fn is_http(endpoint: Option<&str>) -> bool {
    endpoint.is_some_and(|it| it.starts_with("http://"))
}

fn retries(line: Line) -> RetryConfig {
    let backoff =
        BackoffConfig { init_backoff: BACKOFF_INITIAL, max_backoff: BACKOFF_MAX, base: 2.0 };
    let max_retries = match line {
        Line::Requests => 0,
        Line::Uploads | Line::Metadata => RETRIES_MAX,
    };
    RetryConfig { backoff, max_retries, retry_timeout: RETRY_TIME_MAX }
}

/// One client per line. The first one's credentials serve all: fetched once, renewed once.
fn lines<Client: ObjectStore, Credentials>(
    build: impl Fn(Line, Option<Credentials>) -> object_store::Result<Client>,
    credentials: impl Fn(&Client) -> Credentials,
) -> Result<[Arc<dyn ObjectStore>; 3], Unusable> {
    let unusable = |error| Unusable::from_client(&error);
    let requests = build(Line::Requests, None).map_err(unusable)?;
    let uploads = build(Line::Uploads, Some(credentials(&requests))).map_err(unusable)?;
    let metadata = build(Line::Metadata, Some(credentials(&requests))).map_err(unusable)?;
    Ok([Arc::new(requests), Arc::new(uploads), Arc::new(metadata)])
}

#[cfg(test)]
mod tests;
