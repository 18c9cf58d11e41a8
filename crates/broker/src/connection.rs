//! One client connection: frames in, answers out, in request order.
//!
//! Two tasks share it. The reader takes one frame at a time, runs its handler and puts the answer,
//! or the promise of one, into a bounded queue; the writer sends answers in that order. A Produce
//! occupies the reader only until its batches have their offsets, so many can await durability at
//! once; every other request runs to its end first, as in Kafka, so that effects keep their order.
//!
//! Bounds: [`REQUESTS_IN_FLIGHT_MAX`] answers a connection, `socket.request.max.bytes` a frame,
//! the broker's `request_bytes` over all connections; past them the socket is simply not read.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};
use environment::TaskKind;
use futures::future::BoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::access::Principal;
use crate::broker::Broker;
use crate::dispatch::{self, Client, Outcome};
use crate::gather::Gathered;
use crate::listener::BoundListener;
use crate::shares::sessions::ConnectionId;

/// Requests of one connection that may await their answer. Larger: more produce pipelining.
const REQUESTS_IN_FLIGHT_MAX: usize = 64;

/// What one read takes from the socket while frames are small.
const READ_BUFFER_BYTES: usize = 8 * 1024;

/// Frames of up to this many bytes cost nothing of `request_bytes`: heartbeats and commits go on while
/// large requests wait for memory. `max.connections` bounds them.
const FREE_BYTES_MAX: usize = 16 * 1024;

/// What is charged at a time while a larger frame arrives, in bytes.
const CHARGE_STEP_BYTES: usize = 256 * 1024;

/// A frame that has begun must end within this, or its memory is given to somebody else.
const FRAME_STALL_MAX: Duration = Duration::from_secs(60);

/// An answer in the queue.
enum Answer {
    Ready(Gathered),
    /// Resolves to `None` if the connection has to close instead.
    Pending(BoxFuture<'static, Option<Gathered>>),
}

/// Why a connection ended. The reader logs it, once.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("the client closed the connection")]
    ByClient,
    #[error("idle for longer than connections.max.idle.ms")]
    Idle,
    #[error("the broker is stopping")]
    Stopping,
    #[error("{0}")]
    Malformed(String),
    #[error("a frame stalled for {} s", FRAME_STALL_MAX.as_secs())]
    Stalled,
    #[error("the connection failed: {0}")]
    Failed(#[from] io::Error),
    #[error("an acks=0 request failed: closing is the only way to tell the producer")]
    UnacknowledgedFailure,
}

/// Serves until either side ends the connection.
pub(crate) async fn serve(
    broker: Arc<Broker>,
    stream: TcpStream,
    peer: SocketAddr,
    listener: Arc<BoundListener>,
) {
    let (read_half, write_half) = stream.into_split();
    let (answers, queue) = mpsc::channel(REQUESTS_IN_FLIGHT_MAX);
    let writing = write(Arc::clone(&broker), write_half, queue);
    broker.environment.tasks.spawn(TaskKind::Connection, "connection-writer", writing);
    let mut reader = Reader {
        broker: Arc::clone(&broker),
        id: broker.shares.connection_opened(),
        peer,
        listener,
        // Until a listener can authenticate.
        principal: Arc::new(Principal::anonymous()),
        half: read_half,
        buffer: BytesMut::new(),
        answers,
    };
    let ended = reader.run().await;
    broker.shares.connection_closed(&broker, reader.id);
    match &ended {
        Ended::Malformed(_) => {
            broker.metrics.requests_malformed.inc();
            tracing::warn!(%peer, reason = %ended, "connection closed");
        }
        Ended::Stalled | Ended::UnacknowledgedFailure => {
            tracing::warn!(%peer, reason = %ended, "connection closed");
        }
        Ended::ByClient | Ended::Idle | Ended::Stopping | Ended::Failed(_) => {
            tracing::debug!(%peer, reason = %ended, "connection closed");
        }
    }
}

struct Reader {
    broker: Arc<Broker>,
    id: ConnectionId,
    peer: SocketAddr,
    listener: Arc<BoundListener>,
    principal: Arc<Principal>,
    half: OwnedReadHalf,
    /// Bytes read but not yet taken as a frame.
    buffer: BytesMut,
    answers: mpsc::Sender<Answer>,
}

impl Reader {
    async fn run(&mut self) -> Ended {
        loop {
            if let Err(ended) = self.serve_one().await {
                return ended;
            }
        }
    }

    async fn serve_one(&mut self) -> Result<(), Ended> {
        // A slot first: a client that does not read its answers is not read either.
        let answers = self.answers.clone();
        let slot = answers.reserve().await.map_err(|_| Ended::ByClient)?;
        let (frame, permit) = self.next_frame().await?;
        self.broker.metrics.bytes_received.inc_by(frame.len() as u64);
        let client = Client {
            host: self.peer.ip(),
            connection: self.id,
            listener: &self.listener,
            principal: &self.principal,
        };
        let handling = dispatch::handle(&self.broker, client, frame);
        tokio::pin!(handling);
        let outcome = tokio::select! {
            biased;
            outcome = &mut handling => outcome,
            // A long poll of a vanished client ends with it.
            () = gone(&mut self.half) => return Err(Ended::ByClient),
        };
        match outcome {
            Outcome::Reply(frame) => slot.send(Answer::Ready(frame)),
            Outcome::Pending(finish) => slot.send(Answer::Pending(Box::pin(async move {
                let answer = finish.await;
                drop(permit);
                answer
            }))),
            Outcome::Silent => (),
            Outcome::Close(reason) => return Err(Ended::Malformed(reason)),
            Outcome::CloseUnacknowledged => return Err(Ended::UnacknowledgedFailure),
        }
        Ok(())
    }

    /// The next whole frame, without its length, and the memory it is charged to.
    async fn next_frame(&mut self) -> Result<(BytesMut, Option<OwnedSemaphorePermit>), Ended> {
        let idle_max = self.broker.config.connections_idle_max;
        while self.buffer.len() < 4 {
            let idle = self.broker.environment.clock.sleep(idle_max);
            self.buffer.reserve(READ_BUFFER_BYTES);
            tokio::select! {
                biased;
                read = self.half.read_buf(&mut self.buffer) => match read? {
                    0 => return Err(Ended::ByClient),
                    _ => continue,
                },
                () = self.broker.stop.stopped() => return Err(Ended::Stopping),
                () = idle => return Err(Ended::Idle),
            }
        }
        let length = self.buffer.get_i32();
        let limit = self.broker.config.request_bytes_max;
        let length = match usize::try_from(length) {
            Ok(length) if 0 < length && length <= limit => length,
            _ => {
                return Err(Ended::Malformed(format!(
                    "a frame of {length} bytes is outside 1..={limit} (socket.request.max.bytes); \
                     is this a Kafka client, and does it expect TLS?"
                )));
            }
        };
        let stall = self.broker.environment.clock.sleep(FRAME_STALL_MAX);
        let filling = self.fill_frame(length);
        tokio::select! {
            biased;
            frame = filling => frame,
            () = stall => Err(Ended::Stalled),
        }
    }

    /// Charged as its bytes arrive: a frame that is announced and never sent holds no memory.
    async fn fill_frame(
        &mut self,
        length: usize,
    ) -> Result<(BytesMut, Option<OwnedSemaphorePermit>), Ended> {
        // An allocation of its own: record slices cut from it must not pin other requests' bytes.
        // Pages of it that are never written to are never resident.
        let mut frame = BytesMut::with_capacity(length);
        let present = self.buffer.len().min(length);
        frame.extend_from_slice(&self.buffer[..present]);
        self.buffer.advance(present);
        let mut charged: Option<OwnedSemaphorePermit> = None;
        let mut free = FREE_BYTES_MAX.max(present);
        while frame.len() < length {
            if free <= frame.len() {
                let step = (length - frame.len()).min(CHARGE_STEP_BYTES);
                let memory = Arc::clone(&self.broker.request_bytes);
                let permit = memory.acquire_many_owned(step as u32).await;
                let permit = permit.map_err(|_| Ended::Stopping)?;
                match &mut charged {
                    Some(charged) => charged.merge(permit),
                    None => charged = Some(permit),
                }
                free += step;
            }
            let room = length.min(free) - frame.len();
            if self.half.read_buf(&mut (&mut frame).limit(room)).await? == 0 {
                return Err(Ended::ByClient);
            }
        }
        Ok((frame, charged))
    }
}

/// Returns when the client has closed its side; never, while it has more to say.
async fn gone(half: &mut OwnedReadHalf) {
    match half.peek(&mut [0]).await {
        Ok(0) | Err(_) => (),
        Ok(_) => std::future::pending().await,
    }
}

async fn write(broker: Arc<Broker>, mut half: OwnedWriteHalf, mut queue: mpsc::Receiver<Answer>) {
    while let Some(answer) = queue.recv().await {
        let mut gathered = match answer {
            Answer::Ready(gathered) => gathered,
            Answer::Pending(finish) => match finish.await {
                Some(gathered) => gathered,
                None => return,
            },
        };
        broker.metrics.bytes_sent.inc_by(gathered.remaining() as u64);
        let stalled = broker.environment.clock.sleep(broker.config.connections_idle_max);
        tokio::select! {
            biased;
            // A client that stopped reading fails here; the reader notices by itself.
            written = half.write_all_buf(&mut gathered) => if written.is_err() { return },
            () = stalled => return,
        }
    }
}
