//! One client connection: frames in, answers out, in request order.
//!
//! Two tasks share it. The reader takes one frame at a time, runs its handler and puts the answer,
//! or the promise of one, into a bounded queue; the writer sends answers in that order, those that are
//! ready together in one write. A Produce occupies the reader only until its batches have their
//! offsets, so many can await durability at once; every other request runs to its end first, as in
//! Kafka, so that effects keep their order.
//!
//! Bounds: [`REQUESTS_IN_FLIGHT_MAX`] answers a connection and what one write takes of them,
//! `socket.request.max.bytes` a frame, the broker's `request_memory` over all connections; past them the
//! socket is simply not read.
//!
//! What has been received is run, as in Kafka, also when its client has closed meanwhile: who sends with acks=0 and
//! closes has no other promise. What only answers a vanished client ends with it.

mod answers;
mod frames;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Buf;
use environment::TaskKind;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

use crate::access::Principal;
use crate::broker::Broker;
use crate::connection::answers::{Answer, Answers};
use crate::connection::frames::{FRAME_SILENCE_MAX, FrameLimits, Frames, Incoming};
use crate::dispatch::{self, Client, Outcome};
use crate::listener::BoundListener;
use crate::shares::sessions::ConnectionId;

pub(crate) use crate::connection::frames::RequestMemory;

/// Requests of one connection that may await their answer. Larger: more produce pipelining.
const REQUESTS_IN_FLIGHT_MAX: usize = 64;

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
    #[error("silence amid a frame, for {} s at most", FRAME_SILENCE_MAX.as_secs())]
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
        frames: Frames::new(
            read_half,
            FrameLimits {
                bytes_max: broker.config.request_bytes_max,
                idle_max: broker.config.connections_idle_max,
            },
            &broker.request_memory,
            &broker.environment.clock,
            &broker.stop,
        ),
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
    frames: Frames<OwnedReadHalf>,
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
        let (frame, charge) = self.frames.next().await?;
        self.broker.metrics.bytes_received.inc_by(frame.len() as u64);
        let client = Client {
            host: self.peer.ip(),
            connection: self.id,
            listener: &self.listener,
            principal: &self.principal,
        };
        let gone = self.frames.half.gone();
        match dispatch::handle(&self.broker, client, frame, gone).await {
            Outcome::Reply(frame) => slot.send(Answer::Ready(frame)),
            Outcome::Pending(finish) => slot.send(Answer::Pending(Box::pin(async move {
                let answer = finish.await;
                drop(charge);
                answer
            }))),
            // The next frame may have been received whole; the end of the connection comes after the last of them.
            Outcome::Silent | Outcome::Abandoned => (),
            Outcome::Close(reason) => return Err(Ended::Malformed(reason)),
            Outcome::CloseUnacknowledged => return Err(Ended::UnacknowledgedFailure),
        }
        Ok(())
    }
}

async fn write(broker: Arc<Broker>, mut half: OwnedWriteHalf, queue: mpsc::Receiver<Answer>) {
    let mut answers = Answers::new(queue);
    while let Some(mut gathered) = answers.next().await {
        broker.metrics.bytes_sent.inc_by(gathered.remaining() as u64);
        // Begun when the line takes nothing more: most answers it takes at once.
        let stalled = async {
            broker.environment.clock.sleep(broker.config.connections_idle_max).await;
        };
        tokio::select! {
            biased;
            // A client that stopped reading fails here; the reader notices by itself.
            written = half.write_all_buf(&mut gathered) => if written.is_err() { return },
            () = stalled => return,
        }
    }
}
