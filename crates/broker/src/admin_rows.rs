//! The rows of an administrative request: begun together, answered in their order, under one deadline.
//!
//! One after another, each would be a commit of its own: a round trip to the bucket for each row, where the controller
//! takes hundreds of commands in one. Rows begin in the order of the request, so that of two that exclude each other
//! the first one wins.
//!
//! Owns: how many rows are under way, until when they are waited for. Does not own: what a row is (`handlers`).

use std::time::Duration;

use cluster::SubmitError;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use protocol::ErrorCode;
use vocabulary::Tick;

use crate::broker::Broker;
use crate::refusal::Refusal;

/// Rows of one request under way at once that change the metadata: what the controller takes in one turn.
pub(crate) const CHANGES_AT_ONCE: usize = 256;

/// The shortest wait for the metadata, whatever the client allows: some ask for 0 and mean "do not
/// wait for every broker to know", which is no wait here.
const WAIT_MIN: Duration = Duration::from_secs(1);

/// How long a request's changes are waited for that has no time-out of its own; clients give up after 30 seconds.
const UNTIMED_WAIT_MAX: Duration = Duration::from_secs(20);

/// Until when a request is waited for as a whole that names no time-out.
pub(crate) fn untimed_deadline(broker: &Broker) -> Tick {
    broker.environment.clock.now().plus(UNTIMED_WAIT_MAX)
}

/// Until when a request is waited for as a whole that allows `timeout_ms`.
pub(crate) fn deadline(broker: &Broker, timeout_ms: i32) -> Tick {
    let asked = Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0));
    broker.environment.clock.now().plus(asked.max(WAIT_MIN))
}

/// What becomes of the rows, in their order; at most `at_once` are under way. (Boxed: the compiler does not see through
/// the borrows of so many layers.)
pub(crate) async fn run<'a, Row, Answer>(
    rows: Vec<Row>,
    at_once: usize,
    begin: impl Fn(Row) -> BoxFuture<'a, Answer>,
) -> Vec<Answer> {
    let mut answers = Vec::with_capacity(rows.len());
    let mut waiting = rows.into_iter();
    let mut under_way = FuturesOrdered::new();
    loop {
        while under_way.len() < at_once {
            let Some(row) = waiting.next() else { break };
            under_way.push_back(begin(row));
        }
        match under_way.next().await {
            Some(answer) => answers.push(answer),
            None => return answers,
        }
    }
}

/// What comes of the one change of a request that names no time-out.
pub(crate) async fn untimed<T>(
    broker: &Broker,
    change: impl Future<Output = Result<T, SubmitError>>,
) -> Result<T, Refusal> {
    let done = until(broker, untimed_deadline(broker), change).await;
    done.ok_or_else(late)?.map_err(Refusal::from)
}

/// Of a change that was not done by its deadline.
pub(crate) fn late() -> Refusal {
    let words = "The metadata could not be written in time; the change may still happen.";
    Refusal::new(ErrorCode::RequestTimedOut, words)
}

/// What comes of `change`; `None` once the deadline has passed. It may still happen then if it was begun, and is not
/// begun any more after it.
pub(crate) async fn until<T>(
    broker: &Broker,
    deadline: Tick,
    change: impl Future<Output = T>,
) -> Option<T> {
    let clock = &broker.environment.clock;
    if deadline <= clock.now() {
        return None;
    }
    tokio::select! {
        biased;
        done = change => Some(done),
        () = clock.sleep_until(deadline) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn rows_begin_in_order_together_and_are_answered_in_order() {
        let (under_way, most) = (&AtomicUsize::new(0), &AtomicUsize::new(0));
        let answers = run((0..10).collect(), 4, |row: u32| {
            Box::pin(async move {
                let now = under_way.fetch_add(1, Ordering::Relaxed) + 1;
                most.fetch_max(now, Ordering::Relaxed);
                // The first ones take the longest.
                for _ in row..10 {
                    tokio::task::yield_now().await;
                }
                under_way.fetch_sub(1, Ordering::Relaxed);
                row
            })
        });
        assert_eq!(answers.await, (0..10).collect::<Vec<_>>());
        assert_eq!(most.load(Ordering::Relaxed), 4);
    }
}
