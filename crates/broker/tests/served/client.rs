//! A broker on a free port, and a client that speaks any version of any API.

use std::net::SocketAddr;
use std::sync::Arc;

use broker::{Broker, BrokerConfig, BrokerHandle, BrokerParts, ClusterRunIndex, Properties};
use bucket::{Faults, LyingBucket, LyingStore, StoreBucket};
use bytes::BytesMut;
use cluster::{Controller, RegisterBroker, WalKind};
use environment::Environment;
use partition_log::LogEngine;
use partition_log::volume::MemoryVolume;
use partition_log::wal::{FileWal, FileWalOptions};
use prometheus_client::registry::Registry;
use protocol::messages::Api;
use protocol::messages::header::{RequestHeader, ResponseHeader};
use protocol::{Decoder, Encoder, Message};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use vocabulary::BrokerId;

pub(crate) const BROKER_ID: i32 = 5;
pub(crate) const CLUSTER_ID: &str = "served";

/// What outlives a broker: a disk, and a bucket that lies to the records' log and to the metadata as it is told.
#[derive(Clone)]
pub(crate) struct Storage {
    environment: Environment,
    pub(crate) lying: Arc<LyingBucket>,
    /// The way of the metadata to the bucket.
    pub(crate) metadata: Arc<LyingStore>,
    pub(crate) volume: Arc<MemoryVolume>,
}

impl Storage {
    pub(crate) fn new() -> Storage {
        let environment = Environment::system();
        let bucket = StoreBucket::memory(&environment);
        let lying = LyingBucket::over(bucket.object_store(), 1, Faults::NONE, &environment);
        let metadata = LyingStore::new(bucket.object_store(), 2, Faults::NONE, &environment);
        let volume = Arc::new(MemoryVolume::new(&environment));
        Storage { environment, lying: Arc::new(lying), metadata: Arc::new(metadata), volume }
    }

    /// From now on no request of the metadata gets through, until it heals.
    pub(crate) fn cut_metadata_off(&self) {
        self.metadata.set_faults(Faults { failed_per_mille: 1000, ..Faults::NONE });
    }

    pub(crate) fn heal_metadata(&self) {
        self.metadata.set_faults(Faults::NONE);
    }
}

/// A running broker that forgets everything.
pub(crate) struct Served {
    handle: BrokerHandle,
    controller: Controller,
    address: SocketAddr,
}

impl Served {
    pub(crate) async fn start(settings: &[(&str, &str)]) -> Served {
        Served::start_on(&Storage::new(), settings).await
    }

    pub(crate) async fn start_on(storage: &Storage, settings: &[(&str, &str)]) -> Served {
        let Storage { environment, lying, metadata, volume } = storage.clone();
        let environment = environment.child("served");
        let id = BROKER_ID.to_string();
        let own = [("listeners", "PLAINTEXT://127.0.0.1:0"), ("node.id", id.as_str())];
        let pairs = own.iter().chain(settings);
        let properties: Properties =
            pairs.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let config = Arc::new(BrokerConfig::resolve(&properties, None).expect("it resolves"));
        let id = config.node_id;
        assert_eq!(id, BrokerId(BROKER_ID));

        let options = cluster::StoreOptions::default();
        let name = CLUSTER_ID.to_owned();
        let controller = Controller::open(metadata, "meta", name, &options, &environment).await;
        let controller = controller.expect("an empty bucket opens");
        let command = RegisterBroker {
            id,
            host: "127.0.0.1".to_owned(),
            port: 0,
            rack: config.rack.clone(),
            wal: WalKind::File,
            volume: None,
            gives_up: None,
            takes_over: Vec::new(),
        };
        let epoch = controller.register_broker(command).await.expect("it registers");

        let backend = FileWal::new(volume, FileWalOptions::default(), &environment);
        let runs = ClusterRunIndex::new(controller.clone(), id, epoch);
        let engine = LogEngine::open(
            config.log.options(id, epoch),
            Arc::new(backend),
            lying,
            Arc::new(runs),
            environment.clone(),
        );
        let engine = engine.await.expect("an empty disk opens");
        let parts = BrokerParts { id, config, controller: controller.clone(), engine, environment };
        let handle = Broker::start(parts, &mut Registry::default()).await.expect("it starts");
        let address = handle.addresses()[0];
        Served { handle, controller, address }
    }

    /// Another broker that the metadata know, and nobody runs.
    pub(crate) async fn register(&self, id: i32, host: &str, port: u16) {
        let command = RegisterBroker {
            id: BrokerId(id),
            host: host.to_owned(),
            port,
            rack: None,
            wal: WalKind::File,
            volume: None,
            gives_up: None,
            takes_over: Vec::new(),
        };
        self.controller.register_broker(command).await.expect("it registers");
    }

    pub(crate) async fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.address).await.expect("it listens");
        Client { stream, correlation_id: 0 }
    }

    /// Durable writes of the metadata.
    pub(crate) fn metadata_writes(&self) -> u64 {
        self.controller.log_position().expect("it is not fenced").end
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn port(&self) -> i32 {
        i32::from(self.address.port())
    }

    pub(crate) async fn stop(self) {
        self.handle.stop().await;
        self.controller.close().await;
    }
}

/// One connection.
pub(crate) struct Client {
    stream: TcpStream,
    correlation_id: i32,
}

impl Client {
    /// A request with its length in front.
    fn frame<A: Api>(&mut self, version: i16, request: &A::Request) -> Vec<u8> {
        self.correlation_id += 1;
        let header = RequestHeader {
            request_api_key: A::KEY as i16,
            request_api_version: version,
            correlation_id: self.correlation_id,
            client_id: Some("served".to_owned()),
        };
        let mut sink = Encoder::new();
        header.encode(&mut sink, A::KEY.request_header_version(version));
        request.encode(&mut sink, version);
        let body = sink.finish().to_bytes();
        let length = i32::try_from(body.len()).expect("a small request");
        [&length.to_be_bytes(), &body[..]].concat()
    }

    /// Sends requests that have no answers in one write, and closes.
    pub(crate) async fn send_and_close<A: Api>(mut self, version: i16, requests: Vec<A::Request>) {
        let mut frames = Vec::new();
        for request in &requests {
            frames.extend(self.frame::<A>(version, request));
        }
        self.stream.write_all(&frames).await.expect("it reads");
        self.stream.shutdown().await.expect("it is open");
    }

    /// Sends requests in one write and takes their answers, in that order.
    pub(crate) async fn call_all<A: Api>(
        &mut self,
        version: i16,
        requests: &[A::Request],
    ) -> Vec<A::Response> {
        let first = self.correlation_id + 1;
        let mut frames = Vec::new();
        for request in requests {
            frames.extend(self.frame::<A>(version, request));
        }
        self.stream.write_all(&frames).await.expect("it reads");
        let mut responses = Vec::new();
        for correlation_id in first..=self.correlation_id {
            responses.push(self.answer::<A>(version, correlation_id).await);
        }
        responses
    }

    pub(crate) async fn call<A: Api>(&mut self, version: i16, request: A::Request) -> A::Response {
        let frame = self.frame::<A>(version, &request);
        self.stream.write_all(&frame).await.expect("it reads");
        self.answer::<A>(version, self.correlation_id).await
    }

    async fn answer<A: Api>(&mut self, version: i16, correlation_id: i32) -> A::Response {
        let length = self.stream.read_i32().await.expect("it answers");
        let mut answer = BytesMut::zeroed(usize::try_from(length).expect("a length"));
        self.stream.read_exact(&mut answer).await.expect("the whole answer comes");
        let mut source = Decoder::new(answer);
        let header = A::KEY.response_header_version(version);
        let header = ResponseHeader::decode(&mut source, header).expect("a header");
        assert_eq!(header.correlation_id, correlation_id);
        let response = A::Response::decode(&mut source, version).expect("a body of that version");
        assert_eq!(source.remaining(), 0, "nothing is left of the frame");
        response
    }
}
