//! A connection's answers, in the order of their requests.
//!
//! Owns: which of them leave in one write. Does not own: writing, and how many may wait.

use bytes::Buf;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::mpsc;

use crate::gather::Gathered;

/// Answers behind the first leave with it while there are fewer bytes than this: one group commit is the answer to
/// several requests, and a write costs more than their bytes. Larger: fewer writes of mid-sized answers.
const TOGETHER_BYTES_MAX: usize = 64 * 1024;

/// Answers that leave in one write.
pub(super) const TOGETHER_MAX: usize = 64;

/// An answer in the queue.
pub(super) enum Answer {
    Ready(Gathered),
    Pending(Finish),
}

/// Resolves to `None` if the connection has to close instead.
pub(super) type Finish = BoxFuture<'static, Option<Gathered>>;

/// What the writer takes from.
pub(super) struct Answers {
    queue: mpsc::Receiver<Answer>,
    /// The next one, which was not ready when it was looked at.
    awaited: Option<Finish>,
    /// The next one is the end of the connection.
    closes: bool,
}

impl Answers {
    pub(super) fn new(queue: mpsc::Receiver<Answer>) -> Answers {
        Answers { queue, awaited: None, closes: false }
    }

    /// The next answer, and of those behind it what is ready without a wait. `None`: the connection ends here.
    pub(super) async fn next(&mut self) -> Option<Gathered> {
        if self.closes {
            return None;
        }
        let mut gathered = match self.awaited.take() {
            Some(finish) => finish.await?,
            None => match self.queue.recv().await? {
                Answer::Ready(gathered) => gathered,
                Answer::Pending(finish) => finish.await?,
            },
        };
        for _ in 1..TOGETHER_MAX {
            if TOGETHER_BYTES_MAX <= gathered.remaining() {
                break;
            }
            match self.queue.try_recv() {
                Ok(Answer::Ready(next)) => gathered.append(next),
                Ok(Answer::Pending(mut finish)) => match finish.as_mut().now_or_never() {
                    Some(Some(next)) => gathered.append(next),
                    Some(None) => {
                        self.closes = true;
                        break;
                    }
                    None => {
                        self.awaited = Some(finish);
                        break;
                    }
                },
                Err(_) => break, // None is there yet, or none will come: the next call tells.
            }
        }
        Some(gathered)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use protocol::Frame;
    use tokio::sync::oneshot;

    use super::*;

    fn frame(byte: u8, length: usize) -> Gathered {
        let chunks = vec![Bytes::from(vec![byte; length])];
        Gathered::from(Frame { chunks, length })
    }

    fn queue() -> (mpsc::Sender<Answer>, Answers) {
        let (sender, queue) = mpsc::channel(200);
        (sender, Answers::new(queue))
    }

    fn ready(sender: &mpsc::Sender<Answer>, byte: u8, length: usize) {
        assert!(sender.try_send(Answer::Ready(frame(byte, length))).is_ok());
    }

    /// An answer of one byte once it is told; of none if the promise is dropped.
    fn pending(sender: &mpsc::Sender<Answer>) -> oneshot::Sender<u8> {
        let (promise, told) = oneshot::channel();
        let finish = Box::pin(async { told.await.ok().map(|byte| frame(byte, 1)) });
        assert!(sender.try_send(Answer::Pending(finish)).is_ok());
        promise
    }

    async fn next(answers: &mut Answers) -> Option<Vec<u8>> {
        let mut gathered = answers.next().await?;
        let length = gathered.remaining();
        Some(gathered.copy_to_bytes(length).to_vec())
    }

    #[tokio::test]
    async fn what_is_ready_leaves_together_and_in_order() {
        let (sender, mut answers) = queue();
        let promises: Vec<_> = (0..5).map(|_| pending(&sender)).collect();
        ready(&sender, 5, 2);
        // All but the fourth, the later ones first.
        let mut promises: Vec<_> = promises.into_iter().map(Some).collect();
        for byte in [4, 2, 1, 0] {
            let promise = promises[byte].take().expect("it is kept once");
            promise.send(byte as u8).expect("it is waited for");
        }
        assert_eq!(next(&mut answers).await, Some(vec![0, 1, 2]));
        let mut rest = Box::pin(next(&mut answers));
        assert!(futures::poll!(rest.as_mut()).is_pending(), "nobody overtakes the fourth");
        promises[3].take().expect("it was not kept").send(3).expect("it is waited for");
        assert_eq!(rest.await, Some(vec![3, 4, 5, 5]));
        drop(sender);
        assert_eq!(next(&mut answers).await, None);
    }

    #[tokio::test]
    async fn an_answer_that_was_looked_at_too_early_wakes_who_waits_for_it() {
        let (sender, mut answers) = queue();
        ready(&sender, 0, 1);
        let promise = pending(&sender);
        assert_eq!(next(&mut answers).await, Some(vec![0]));
        let telling = async {
            tokio::task::yield_now().await;
            promise.send(1).expect("it is waited for");
        };
        let (second, ()) = tokio::join!(next(&mut answers), telling);
        assert_eq!(second, Some(vec![1]));
    }

    #[tokio::test]
    async fn what_leaves_together_is_bounded_in_bytes_and_in_answers() {
        let (sender, mut answers) = queue();
        for byte in 0..3 {
            ready(&sender, byte, TOGETHER_BYTES_MAX / 2 + 1);
        }
        ready(&sender, 3, TOGETHER_BYTES_MAX);
        (0..TOGETHER_MAX + 1).for_each(|_| ready(&sender, 4, 1));
        drop(sender);
        let mut lengths = Vec::new();
        while let Some(bytes) = next(&mut answers).await {
            lengths.push(bytes.len());
        }
        let half = TOGETHER_BYTES_MAX / 2 + 1;
        assert_eq!(lengths, [2 * half, half + TOGETHER_BYTES_MAX, TOGETHER_MAX, 1]);
    }

    #[tokio::test]
    async fn what_was_answered_leaves_before_the_connection_closes() {
        let (sender, mut answers) = queue();
        ready(&sender, 0, 1);
        let promise = pending(&sender);
        ready(&sender, 2, 1);
        drop(promise);
        assert_eq!(next(&mut answers).await, Some(vec![0]));
        assert_eq!(next(&mut answers).await, None);
        assert_eq!(next(&mut answers).await, None, "and nothing behind it");
    }
}
