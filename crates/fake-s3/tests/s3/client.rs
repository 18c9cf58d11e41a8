//! The real client on a plain HTTP/1.1 transport, without retries unless a test asks for them.

use std::error::Error as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use environment::Environment;
use fake_s3::{FakeS3, Faults, Operation, Options};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector as TcpConnector;
use hyper_util::rt::TokioExecutor;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::client::{
    ClientOptions, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest,
    HttpRequestBody, HttpResponse, HttpResponseBody, HttpService,
};
use object_store::path::Path;
use object_store::{
    BackoffConfig, Error, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutOptions,
    PutPayload, PutResult, RetryConfig, UpdateVersion,
};

pub(crate) const SEED: u64 = 7;

/// A server in simulated time.
pub(crate) async fn start() -> FakeS3 {
    start_with(|_| {}).await
}

pub(crate) async fn start_with(change: impl FnOnce(&mut Options)) -> FakeS3 {
    let environment = Environment::simulated(SEED);
    let mut options = Options { seed: SEED, environment, ..Options::default() };
    change(&mut options);
    FakeS3::start(options).await.expect("it listens")
}

fn builder(server: &FakeS3, retries: usize) -> AmazonS3Builder {
    let backoff = BackoffConfig {
        init_backoff: Duration::from_millis(10),
        max_backoff: Duration::from_millis(100),
        base: 2.0,
    };
    let retry_timeout = Duration::from_secs(60);
    AmazonS3Builder::new()
        .with_endpoint(server.endpoint())
        .with_allow_http(true)
        .with_bucket_name("wells")
        .with_region("us-east-1")
        .with_access_key_id("anyone")
        .with_secret_access_key("anything")
        .with_http_connector(Plain)
        .with_retry(RetryConfig { backoff, max_retries: retries, retry_timeout })
}

/// A client of the bucket `wells` that tries once.
pub(crate) fn client(server: &FakeS3) -> AmazonS3 {
    builder(server, 0).build().expect("a client")
}

pub(crate) fn retrying_client(server: &FakeS3) -> AmazonS3 {
    builder(server, 8).build().expect("a client")
}

pub(crate) fn changed_client(
    server: &FakeS3,
    change: impl FnOnce(AmazonS3Builder) -> AmazonS3Builder,
) -> AmazonS3 {
    change(builder(server, 0)).build().expect("a client")
}

/// The key as it is: `Path::from` would encode it.
pub(crate) fn path(key: &str) -> Path {
    Path::parse(key).expect("a key")
}

pub(crate) fn bytes_of(length: usize) -> Bytes {
    (0..length).map(|at| (at * 7 + at / 251) as u8).collect::<Vec<u8>>().into()
}

pub(crate) async fn create(store: &AmazonS3, key: &str, body: Bytes) -> Result<PutResult, Error> {
    store.put_opts(&path(key), body.into(), PutMode::Create.into()).await
}

pub(crate) async fn update(
    store: &AmazonS3,
    key: &str,
    body: Bytes,
    e_tag: Option<String>,
) -> Result<PutResult, Error> {
    let mode = PutMode::Update(UpdateVersion { e_tag, version: None });
    store.put_opts(&path(key), body.into(), PutOptions::from(mode)).await
}

pub(crate) async fn put(store: &AmazonS3, key: &str, body: impl Into<PutPayload>) -> PutResult {
    store.put(&path(key), body.into()).await.expect("stored")
}

pub(crate) async fn get(store: &AmazonS3, key: &str) -> Result<Bytes, Error> {
    store.get(&path(key)).await?.bytes().await
}

pub(crate) async fn get_range(
    store: &AmazonS3,
    key: &str,
    range: GetRange,
) -> Result<(Bytes, std::ops::Range<u64>, u64), Error> {
    let options = GetOptions { range: Some(range), ..GetOptions::default() };
    let answer = store.get_opts(&path(key), options).await?;
    let (range, length) = (answer.range.clone(), answer.meta.size);
    Ok((answer.bytes().await?, range, length))
}

/// A client's error with all its causes.
pub(crate) fn text(error: &Error) -> String {
    let (mut text, mut source) = (error.to_string(), error.source());
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// Faults of one kind on every request of one operation.
pub(crate) fn always(operation: Operation, change: impl FnOnce(&mut Faults)) -> Faults {
    let mut faults = Faults::NONE.only(&[operation]);
    change(&mut faults);
    faults
}

/// TCP, nothing else: no TLS, no proxies.
#[derive(Debug, Clone, Copy)]
struct Plain;

#[derive(Debug)]
struct PlainService {
    client: Client<TcpConnector, HttpRequestBody>,
}

impl HttpConnector for Plain {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        let mut connector = TcpConnector::new();
        connector.set_nodelay(true);
        let client =
            Client::builder(TokioExecutor::new()).retry_canceled_requests(false).build(connector);
        Ok(HttpClient::new(PlainService { client }))
    }
}

#[async_trait]
impl HttpService for PlainService {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let answer = self.client.request(request).await;
        let answer = answer.map_err(|error| HttpError::new(HttpErrorKind::Interrupted, error))?;
        let (head, body) = answer.into_parts();
        Ok(HttpResponse::from_parts(head, HttpResponseBody::new(Answer { body })))
    }
}

struct Answer {
    body: Incoming,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        let wrapped = |error| HttpError::new(HttpErrorKind::Interrupted, error);
        frame.map(|it| it.map(|it| it.map_err(wrapped)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
