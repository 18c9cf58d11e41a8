//! A Kafka client in its smallest form: one connection, one request at a time, any version of any API.
//!
//! Owns: framing, headers, time-outs of one connection. Does not own: what is asked and what answers mean.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::BytesMut;
use protocol::messages::Api;
use protocol::messages::header::{RequestHeader, ResponseHeader};
use protocol::{Decoder, Encoder, Message};

const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// Kafka refuses larger requests; an answer larger than this is a broken one.
const ANSWER_BYTES_MAX: usize = 100 * 1024 * 1024;

#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
    correlation_id: i32,
}

impl Client {
    /// `answer_limit` is how long an answer may take.
    pub(crate) fn connect(address: SocketAddr, answer_limit: Duration) -> Result<Client> {
        let stream = TcpStream::connect_timeout(&address, CONNECT_LIMIT)?;
        stream.set_read_timeout(Some(answer_limit))?;
        stream.set_write_timeout(Some(answer_limit))?;
        stream.set_nodelay(true)?;
        Ok(Client { stream, correlation_id: 0 })
    }

    /// An error leaves the connection useless, and the outcome of a change unknown.
    pub(crate) fn call<A: Api>(
        &mut self,
        version: i16,
        request: &A::Request,
    ) -> Result<A::Response> {
        self.correlation_id += 1;
        let header = RequestHeader {
            request_api_key: A::KEY as i16,
            request_api_version: version,
            correlation_id: self.correlation_id,
            client_id: Some("xtask".to_owned()),
        };
        let mut sink = Encoder::new();
        header.encode(&mut sink, A::KEY.request_header_version(version));
        request.encode(&mut sink, version);
        let frame = sink.finish().to_bytes();
        self.stream.write_all(&i32::try_from(frame.len())?.to_be_bytes())?;
        self.stream.write_all(&frame)?;

        let mut length = [0; 4];
        self.stream.read_exact(&mut length).context("no answer")?;
        let length = usize::try_from(i32::from_be_bytes(length))?;
        ensure!(length <= ANSWER_BYTES_MAX, "an answer of {length} bytes");
        let mut answer = BytesMut::zeroed(length);
        self.stream.read_exact(&mut answer).context("half an answer")?;
        let mut source = Decoder::new(answer);
        let header = ResponseHeader::decode(&mut source, A::KEY.response_header_version(version))?;
        ensure!(header.correlation_id == self.correlation_id, "the answer to another request");
        let response = A::Response::decode(&mut source, version)?;
        ensure!(source.remaining() == 0, "{} bytes behind the answer", source.remaining());
        Ok(response)
    }
}
