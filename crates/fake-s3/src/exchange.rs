//! One request from its head to its answer: what was decided about it is carried out here.
//!
//! Owns: receiving bodies, waiting, every fault's effect. Does not own: the decision (`faults`), what a
//! request does (`actions`).
//!
//! A request takes effect at one instant, somewhere inside its delay. A client that leaves earlier took
//! its request back, one that leaves later never learns of the effect. A stalled request is out of its
//! client's hands: it takes effect at its time, whoever still listens.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use environment::TaskKind;
use hyper::body::{Body, Bytes, Incoming};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode, header};

use crate::answer::{Answer, AnswerBody};
use crate::content::Received;
use crate::control;
use crate::counts::Event;
use crate::faults::{Fate, Plan, Subject};
use crate::operation::Operation;
use crate::quota::Charge;
use crate::refusal::Refusal;
use crate::request::{self, Asked};
use crate::server::Shared;
use crate::wire::Reset;

/// A body of more is refused; it is read all the same, so that the client hears why.
const BODY_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// A body up to this length is gathered into one piece of exactly its size.
const GATHERED_BYTES_MAX: u64 = 64 * 1024;
/// A shorter frame is copied: as a slice it would hold the connection's whole buffer.
const FRAME_KEPT_BYTES_MIN: usize = 16 * 1024;
/// Requests held at once; beyond it a stall is a 503.
const STALLED_REQUESTS_MAX: usize = 1024;

/// The connection ends without an answer.
#[derive(Debug)]
pub(crate) struct Cut;

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection ends without an answer")
    }
}

impl std::error::Error for Cut {}

/// Answers one request, or cuts the connection that it came on.
pub(crate) async fn exchange(
    shared: Arc<Shared>,
    reset: Reset,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, Cut> {
    let (head, body) = request.into_parts();
    if control::is_control(&head) {
        return Ok(control::answer(&shared, &head));
    }
    let asked = request::parse(&head);
    let (operation, plan) = decide(&shared, &asked);
    let count = |event| shared.counters.count(operation, event);
    count(Event::Request);
    if plan.fate == Fate::ResetBeforeBody {
        count(Event::ResetBeforeBody);
        return Err(reset.cut());
    }
    let received = receive(&shared, operation, &head, body).await?;
    let refusal = match plan.fate {
        Fate::ResetAfterBody => {
            count(Event::ResetAfterBody);
            return Err(reset.cut());
        }
        Fate::SlowDown => Some((Event::SlowDown, Refusal::slow_down())),
        Fate::InternalError => Some((Event::InternalError, Refusal::internal_error())),
        Fate::Conflict => Some((Event::Conflict, Refusal::conflict())),
        _ => None,
    };
    if let Some((event, refusal)) = refusal {
        count(event);
        return Ok(respond(&shared, &head, Answer::refused(&refusal, head.uri.path()), None));
    }
    let ready = shared.check_signature(&head).and(asked).and_then(|asked| Ok((asked, received?)));
    let outcome = match ready {
        Ok((asked, received)) => Box::pin(carry_out(&shared, plan, asked, received)).await?,
        Err(refusal) => Err(refusal),
    };
    let answer = outcome.unwrap_or_else(|refusal| {
        if refusal.status != StatusCode::NOT_MODIFIED {
            count(Event::Refused);
        }
        Answer::refused(&refusal, head.uri.path())
    });
    match plan.fate {
        Fate::LostAnswer => {
            count(Event::LostAnswer);
            Err(reset.cut())
        }
        Fate::InternalErrorApplied => {
            count(Event::InternalError);
            let refusal = Refusal::internal_error();
            Ok(respond(&shared, &head, Answer::refused(&refusal, head.uri.path()), None))
        }
        Fate::HalfAnswer if answer.status.is_success() => {
            count(Event::HalfAnswer);
            let half = answer.object_bytes(&head.method) / 2;
            shared.counters.sent(operation, half);
            Ok(respond(&shared, &head, answer, Some(half)))
        }
        _ => {
            shared.counters.sent(operation, answer.object_bytes(&head.method));
            Ok(respond(&shared, &head, answer, None))
        }
    }
}

fn decide(shared: &Shared, asked: &Result<Asked, Refusal>) -> (Operation, Plan) {
    let subject = match asked {
        Ok(asked) => Subject {
            operation: asked.operation(),
            key: &asked.place.key,
            is_conditional_write: asked.is_conditional_write(),
        },
        Err(_) => Subject { operation: Operation::Unknown, key: "", is_conditional_write: false },
    };
    (subject.operation, shared.plan(subject))
}

fn respond(
    shared: &Shared,
    head: &Parts,
    answer: Answer,
    cut_after: Option<u64>,
) -> Response<AnswerBody> {
    answer.into_response(&head.method, &shared.actions.environment.tasks, cut_after)
}

/// Waits as long as was decided and takes effect in the middle of it.
async fn carry_out(
    shared: &Arc<Shared>,
    plan: Plan,
    asked: Asked,
    received: Received,
) -> Result<Result<Answer, Refusal>, Cut> {
    let clock = &shared.actions.environment.clock;
    let delays = shared.delays();
    let delay = plan.delay + delays.transfer(received.length);
    let (started, reads) = (clock.now(), asked.operation() == Operation::Get);
    if !delay.is_zero() {
        clock.sleep_until(started.plus(delay.mul_f64(plan.effect_at))).await;
    }
    let outcome = match plan.fate {
        Fate::Stalled(held) => stall(shared, held, asked, received).await?,
        _ => shared.actions.perform(&asked, received).await,
    };
    let sent = match &outcome {
        Ok(answer) if reads => delays.transfer(answer.object_bytes(&Method::GET)),
        _ => std::time::Duration::ZERO,
    };
    let delay = delay + sent;
    if !delay.is_zero() {
        clock.sleep_until(started.plus(delay)).await;
    }
    Ok(outcome)
}

/// Does it later, in a task of its own, so that it is done even if nobody waits any more.
async fn stall(
    shared: &Arc<Shared>,
    held: std::time::Duration,
    asked: Asked,
    received: Received,
) -> Result<Result<Answer, Refusal>, Cut> {
    let Some(slot) = StallSlot::take(shared) else {
        shared.counters.count(asked.operation(), Event::SlowDown);
        return Ok(Err(Refusal::slow_down()));
    };
    shared.counters.count(asked.operation(), Event::Stall);
    let environment = &shared.actions.environment;
    let (later, stop) = (environment.clock.sleep(held), environment.tasks.token());
    let task = environment.tasks.spawn(TaskKind::Background, "stalled", async move {
        tokio::select! {
            () = stop.stopped_owned() => None,
            () = later => Some(slot.shared.actions.perform(&asked, received).await),
        }
    });
    task.await.ok().flatten().ok_or(Cut)
}

/// One of the few places of held requests.
struct StallSlot {
    shared: Arc<Shared>,
}

impl StallSlot {
    fn take(shared: &Arc<Shared>) -> Option<StallSlot> {
        let slot = StallSlot { shared: Arc::clone(shared) };
        let taken = shared.stalled.fetch_add(1, Ordering::Relaxed);
        (taken < STALLED_REQUESTS_MAX).then_some(slot)
    }
}

impl Drop for StallSlot {
    fn drop(&mut self) {
        self.shared.stalled.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many requests are held.
pub(crate) type Stalled = AtomicUsize;

/// Reads the whole body. A client that leaves before its end is a cut, not a refusal.
async fn receive(
    shared: &Shared,
    operation: Operation,
    head: &Parts,
    mut body: Incoming,
) -> Result<Result<Received, Refusal>, Cut> {
    let announced = body.size_hint().exact();
    let mut gathering = Gathering {
        frames: Vec::new(),
        small: announced
            .filter(|it| *it <= GATHERED_BYTES_MAX)
            .map(|it| Vec::with_capacity(it as usize)),
        length: 0,
        digest: crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme),
        charge: shared.quota.take(0).map_err(|_| Cut)?,
    };
    let mut refused = None;
    if head.headers.contains_key(header::CONTENT_RANGE) {
        refused = Some(Refusal::not_implemented("Content-Range on a write"));
    }
    while let Some(frame) =
        std::future::poll_fn(|it| std::pin::Pin::new(&mut body).poll_frame(it)).await
    {
        // Trailers, which carry checksums, are not looked at.
        let Ok(bytes) = frame.map_err(|_| Cut)?.into_data() else { continue };
        shared.counters.received(operation, bytes.len() as u64);
        if refused.is_none() {
            refused = gathering.add(bytes).err();
        }
    }
    Ok(match refused {
        None => Ok(gathering.finish()),
        Some(refusal) => Err(refusal),
    })
}

struct Gathering {
    frames: Vec<Bytes>,
    /// Set while everything goes into one piece.
    small: Option<Vec<u8>>,
    length: u64,
    digest: crc_fast::Digest,
    charge: Charge,
}

impl Gathering {
    fn add(&mut self, bytes: Bytes) -> Result<(), Refusal> {
        self.length += bytes.len() as u64;
        if BODY_BYTES_MAX < self.length {
            return Err(Refusal::entity_too_large(BODY_BYTES_MAX));
        }
        self.charge.grow(bytes.len() as u64)?;
        self.digest.update(&bytes);
        match &mut self.small {
            Some(piece) => piece.extend_from_slice(&bytes),
            None if bytes.len() < FRAME_KEPT_BYTES_MIN => {
                self.frames.push(Bytes::copy_from_slice(&bytes));
            }
            None => self.frames.push(bytes),
        }
        Ok(())
    }

    fn finish(mut self) -> Received {
        self.frames.extend(self.small.map(Bytes::from));
        let (length, checksum) = (self.length, self.digest.finalize());
        Received { frames: self.frames, length, checksum, charge: self.charge }
    }
}
