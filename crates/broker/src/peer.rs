//! Asks another broker who it is: a hint whether it lives, never a proof that it does not.
//!
//! Owns: one question over Kafka's own protocol. Does not own: what follows from the answer; data is
//! protected by fences, whatever a broker that is asked says or fails to say.

use std::time::Duration;

use bytes::BytesMut;
use environment::Clock;
use protocol::messages::describe_cluster::{DescribeCluster, Request, Response};
use protocol::messages::header::{RequestHeader, ResponseHeader};
use protocol::messages::{Api, ApiKey};
use protocol::{Decoder, Encoder, Message};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use vocabulary::BrokerId;

/// How long a broker may take to answer before it counts as silent.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// A longer answer is not one to this question, in bytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// The first version: whoever serves the API serves it.
const VERSION: i16 = 0;

/// Any number: there is one request on the connection.
const CORRELATION_ID: i32 = 1;

/// What a broker says of itself (DescribeCluster, KIP-700).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub cluster_id: String,
    /// The one that answered, as far as it says so.
    pub broker: BrokerId,
}

/// Who answers at `host`:`port`. `None` when nobody does in time, or not as a broker does.
pub async fn ask_peer(host: &str, port: u16, clock: &dyn Clock) -> Option<Peer> {
    tokio::select! {
        biased;
        answer = ask(host, port) => answer,
        () = clock.sleep(ANSWER_MAX) => None,
    }
}

async fn ask(host: &str, port: u16) -> Option<Peer> {
    let mut stream = TcpStream::connect((host, port)).await.ok()?;
    stream.write_all(&question()).await.ok()?;
    let length = usize::try_from(stream.read_i32().await.ok()?).ok()?;
    if ANSWER_BYTES_MAX < length {
        return None;
    }
    let mut answer = BytesMut::zeroed(length);
    stream.read_exact(&mut answer).await.ok()?;
    read(answer)
}

/// The whole frame, its length included.
fn question() -> Vec<u8> {
    let header = RequestHeader {
        request_api_key: DescribeCluster::KEY as i16,
        request_api_version: VERSION,
        correlation_id: CORRELATION_ID,
        client_id: Some("aquifer".to_owned()),
    };
    let mut sink = Encoder::new();
    header.encode(&mut sink, ApiKey::DescribeCluster.request_header_version(VERSION));
    Request::default().encode(&mut sink, VERSION);
    let body = sink.finish().to_bytes();
    let length = i32::try_from(body.len()).unwrap_or(i32::MAX).to_be_bytes();
    [&length[..], &body[..]].concat()
}

fn read(answer: BytesMut) -> Option<Peer> {
    let mut source = Decoder::new(answer);
    let version = ApiKey::DescribeCluster.response_header_version(VERSION);
    let header = ResponseHeader::decode(&mut source, version).ok()?;
    let response = Response::decode(&mut source, VERSION).ok()?;
    let is_answer = header.correlation_id == CORRELATION_ID && response.error_code == 0;
    let broker = BrokerId(response.controller_id);
    is_answer.then_some(Peer { cluster_id: response.cluster_id, broker })
}

#[cfg(test)]
mod tests {
    use super::*;
    use environment::Environment;
    use tokio::net::TcpListener;

    async fn answered_with(bytes: Vec<u8>) -> Option<Peer> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let answer = async {
            let (mut stream, _) = listener.accept().await.expect("asked");
            let mut asked = vec![0; question().len()];
            stream.read_exact(&mut asked).await.expect("the whole question");
            stream.write_all(&bytes).await.expect("answered");
        };
        let environment = Environment::system();
        tokio::join!(ask_peer("127.0.0.1", port, &*environment.clock), answer).0
    }

    fn answer(correlation_id: i32, response: &Response) -> Vec<u8> {
        let mut sink = Encoder::new();
        let version = ApiKey::DescribeCluster.response_header_version(VERSION);
        ResponseHeader { correlation_id }.encode(&mut sink, version);
        response.encode(&mut sink, VERSION);
        let body = sink.finish().to_bytes();
        [&(body.len() as i32).to_be_bytes()[..], &body[..]].concat()
    }

    #[tokio::test]
    async fn a_broker_says_who_it_is() {
        let response =
            Response { cluster_id: "well".to_owned(), controller_id: 7, ..Default::default() };
        let peer = Peer { cluster_id: "well".to_owned(), broker: BrokerId(7) };
        assert_eq!(answered_with(answer(CORRELATION_ID, &response)).await, Some(peer));
        assert_eq!(answered_with(answer(CORRELATION_ID + 1, &response)).await, None);
        let refusal = Response { error_code: 35, ..response };
        assert_eq!(answered_with(answer(CORRELATION_ID, &refusal)).await, None);
    }

    #[tokio::test]
    async fn whatever_else_answers_is_nobody() {
        assert_eq!(answered_with(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()).await, None);
        assert_eq!(answered_with(vec![0x7f; 4]).await, None);
        assert_eq!(answered_with(Vec::new()).await, None);
    }

    #[tokio::test]
    async fn a_closed_port_is_nobody() {
        let free = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = free.local_addr().expect("bound").port();
        drop(free);
        let environment = Environment::system();
        assert_eq!(ask_peer("127.0.0.1", port, &*environment.clock).await, None);
    }
}
