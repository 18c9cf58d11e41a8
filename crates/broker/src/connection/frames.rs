//! Whole request frames out of a connection's bytes.
//!
//! Owns: how long a connection may be silent, and what memory an unfinished frame is charged to.
//! Does not own: what becomes of a frame, and answers.
//!
//! Invariants:
//! - F1 only silence ends a frame: one that keeps moving takes as long as its line needs, and the wait for memory is
//!   not silence. Kafka has no more than connections.max.idle.ms; [`FRAME_SILENCE_MAX`] is shorter, as an unfinished
//!   frame holds memory that others wait for;
//! - F2 frames that wait for each other's memory do not wait for ever: one at a time goes on beyond the limit, for no
//!   longer than [`BEYOND_MAX`]. So frames take at most `queued.max.request.bytes` and one largest frame;
//! - F3 a frame that is announced and never sent holds no memory.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};
use environment::{Clock, StopToken};
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use vocabulary::Tick;

use super::Ended;
use crate::alarm::Alarm;

/// What one read takes from the socket while frames are small.
const READ_BUFFER_BYTES: usize = 8 * 1024;

/// Frames of up to this many bytes cost nothing of `request_bytes`: heartbeats and commits go on while
/// large requests wait for memory. `max.connections` bounds them.
const FREE_BYTES_MAX: usize = 16 * 1024;

/// What is charged at a time while a larger frame arrives, in bytes.
const CHARGE_STEP_BYTES: usize = 256 * 1024;

/// The longest silence amid a frame, before its memory is given to somebody else. A lower connections.max.idle.ms
/// holds here, too.
pub(super) const FRAME_SILENCE_MAX: Duration = Duration::from_secs(60);

/// The longest a frame may take once it goes beyond the memory of all: others wait for their turn.
const BEYOND_MAX: Duration = Duration::from_secs(60);

/// Where a connection's bytes come from.
pub(super) trait Incoming: AsyncRead + Unpin + Send {
    /// Returns when the client has closed its side; never, while it has more to say. Safe to drop and call again.
    fn gone(&mut self) -> impl Future<Output = ()> + Send;
}

impl Incoming for OwnedReadHalf {
    async fn gone(&mut self) {
        match self.peek(&mut [0]).await {
            Ok(0) | Err(_) => (),
            Ok(_) => std::future::pending().await,
        }
    }
}

/// The memory of request frames, over all connections.
#[derive(Debug)]
pub(crate) struct RequestMemory {
    bytes: Arc<Semaphore>,
    /// One permit: whoever has it needs no more bytes (F2).
    beyond: Arc<Semaphore>,
}

impl RequestMemory {
    /// `bytes` hold at least one largest frame, or that one would wait for ever.
    pub(crate) fn new(bytes: usize) -> RequestMemory {
        RequestMemory {
            bytes: Arc::new(Semaphore::new(bytes)),
            beyond: Arc::new(Semaphore::new(1)),
        }
    }
}

/// What a frame holds of the memory of all; given back when dropped.
#[derive(Debug, Default)]
pub(super) struct Charge {
    bytes: Option<OwnedSemaphorePermit>,
    /// Until when the frame has to be whole, once it has gone beyond.
    beyond: Option<(OwnedSemaphorePermit, Tick)>,
}

/// What bounds one connection's frames.
#[derive(Debug, Clone, Copy)]
pub(super) struct FrameLimits {
    /// socket.request.max.bytes.
    pub(super) bytes_max: usize,
    /// connections.max.idle.ms.
    pub(super) idle_max: Duration,
}

/// The reading half of a connection.
pub(super) struct Frames<R> {
    pub(super) half: R,
    /// Bytes read but not yet taken as a frame.
    buffer: BytesMut,
    limits: FrameLimits,
    memory: Arc<RequestMemory>,
    clock: Arc<dyn Clock>,
    /// Of every silence: between frames and amid one.
    alarm: Alarm,
    /// When the broker stops. A token of its own, waited for once: the broker's is one for all connections, and so are
    /// its locks.
    stopped: BoxFuture<'static, ()>,
}

impl<R: Incoming> Frames<R> {
    pub(super) fn new(
        half: R,
        limits: FrameLimits,
        memory: &Arc<RequestMemory>,
        clock: &Arc<dyn Clock>,
        stop: &StopToken,
    ) -> Frames<R> {
        Frames {
            half,
            buffer: BytesMut::new(),
            limits,
            memory: Arc::clone(memory),
            clock: Arc::clone(clock),
            alarm: Alarm::new(clock),
            stopped: Box::pin(stop.child().stopped_owned()),
        }
    }

    /// The next whole frame, without its length, and the memory it is charged to. What has been received is given out
    /// before the end of the connection is noticed.
    pub(super) async fn next(&mut self) -> Result<(BytesMut, Charge), Ended> {
        while self.buffer.len() < 4 {
            self.buffer.reserve(READ_BUFFER_BYTES);
            tokio::select! {
                biased;
                read = self.half.read_buf(&mut self.buffer) => match read? {
                    0 => return Err(Ended::ByClient),
                    _ => continue,
                },
                () = &mut self.stopped => return Err(Ended::Stopping),
                () = self.alarm.after(self.limits.idle_max) => return Err(Ended::Idle),
            }
        }
        let length = self.buffer.get_i32();
        let limit = self.limits.bytes_max;
        match usize::try_from(length) {
            Ok(length) if 0 < length && length <= limit => self.fill(length).await,
            _ => Err(Ended::Malformed(format!(
                "a frame of {length} bytes is outside 1..={limit} (socket.request.max.bytes); \
                 is this a Kafka client, and does it expect TLS?"
            ))),
        }
    }

    /// Charged as its bytes arrive (F3).
    async fn fill(&mut self, length: usize) -> Result<(BytesMut, Charge), Ended> {
        // An allocation of its own: record slices cut from it must not pin other requests' bytes.
        // Pages of it that are never written to are never resident.
        let mut frame = BytesMut::with_capacity(length);
        let present = self.buffer.len().min(length);
        frame.extend_from_slice(&self.buffer[..present]);
        self.buffer.advance(present);
        let mut charge = Charge::default();
        let mut free = FREE_BYTES_MAX.max(present);
        while frame.len() < length {
            if free <= frame.len() {
                let step = (length - frame.len()).min(CHARGE_STEP_BYTES);
                self.charge(&mut charge, step).await?;
                free += step;
            }
            let (clock, alarm) = (&self.clock, &mut self.alarm);
            let silence_max = FRAME_SILENCE_MAX.min(self.limits.idle_max);
            let whole_by = charge.beyond.as_ref().map(|(_, it)| *it);
            // Begun when a read has nothing to give: most have.
            let stalled = async {
                let until = clock.now().plus(silence_max);
                alarm.at(whole_by.map_or(until, |it| it.min(until))).await;
            };
            let room = length.min(free) - frame.len();
            let mut room = (&mut frame).limit(room);
            tokio::select! {
                biased;
                read = self.half.read_buf(&mut room) => {
                    if read? == 0 {
                        return Err(Ended::ByClient);
                    }
                }
                () = stalled => return Err(Ended::Stalled),
            }
        }
        Ok((frame, charge))
    }

    /// Waits for as long as it takes: an outage of the storage makes producers wait, and does not drop them.
    async fn charge(&mut self, charge: &mut Charge, bytes: usize) -> Result<(), Ended> {
        if charge.beyond.is_some() {
            return Ok(());
        }
        let more = Arc::clone(&self.memory.bytes).acquire_many_owned(bytes as u32);
        let beyond = Arc::clone(&self.memory.beyond).acquire_owned();
        tokio::select! {
            biased;
            more = more => {
                let more = more.map_err(|_| Ended::Stopping)?;
                match &mut charge.bytes {
                    Some(charged) => charged.merge(more),
                    None => charge.bytes = Some(more),
                }
            }
            // Only who holds some: it may be this one that the others wait for (F2).
            beyond = beyond, if charge.bytes.is_some() => {
                let beyond = beyond.map_err(|_| Ended::Stopping)?;
                charge.beyond = Some((beyond, self.clock.now().plus(BEYOND_MAX)));
            }
            () = self.half.gone() => return Err(Ended::ByClient),
            () = &mut self.stopped => return Err(Ended::Stopping),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
