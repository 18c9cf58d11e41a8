//! The partitions of one fetch, read several at once, within one budget and one deadline.
//!
//! Owns: which read begins when and with how many bytes, and how long they are waited for.
//! Does not own: what a read is and what its absence looks like (`fetch`), requests to the bucket and
//! their limits (`partition-log`, where a read that is given up here goes on filling the cache).
//!
//! Invariants:
//! - R1 bytes served and promised to reads under way never exceed the fetch's, but for the one batch
//!   that is served whatever its size (KIP-74);
//! - R2 a read begins with all its partition may get, or else with what is left once no read is under
//!   way: partitions further back take nothing from those in front;
//! - R3 only a read that begins with nothing served and nothing under way may exceed its limit;
//! - R4 the fetch ends at its deadline, and soon once there are records; what lies at hand then is
//!   served nevertheless.

use std::future::Future;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use environment::Clock;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use protocol::messages::fetch::response::PartitionData;
use vocabulary::Tick;

/// Partitions of one fetch that wait for storage at once. Larger: a fetch of many cold partitions is
/// answered sooner, and takes more from other readers.
const READS_AT_ONCE: usize = 16;

/// How long a fetch waits for storage beyond its max.wait. Clients give up a request after ten seconds
/// beyond max.wait at the earliest (franz-go; Java, kafkajs and sarama after 30).
pub(super) const STORAGE_WAIT_MAX: Duration = Duration::from_secs(5);

/// How long records that are there wait for those of other partitions: several GETs of a healthy
/// store, as Kafka waits for remote storage (remote.fetch.max.wait.ms, KIP-1018).
const COMPANY_WAIT_MAX: Duration = Duration::from_millis(500);

/// What is left of a fetch's bytes.
#[derive(Debug)]
struct Budget {
    left: usize,
    promised: usize,
    is_untouched: bool,
}

impl Budget {
    /// The bytes of a read that may take `share`; `None` while reads in front of it hold too much.
    fn promise(&mut self, share: usize, is_alone: bool) -> Option<usize> {
        let free = self.left - self.promised;
        if free < share && !is_alone {
            return None;
        }
        let bytes = share.min(free);
        self.promised += bytes;
        Some(bytes)
    }

    fn settle(&mut self, promised: usize, served: usize) {
        self.promised -= promised;
        self.left = self.left.saturating_sub(served).max(self.promised);
        self.is_untouched &= served == 0;
    }
}

struct Done {
    number: usize,
    promised: usize,
    may_exceed: bool,
    data: PartitionData,
}

pub(super) fn bytes_of(data: &PartitionData) -> usize {
    data.records.as_ref().map_or(0, |chunks| chunks.byte_length())
}

/// How one fetch reads: `read(number, bytes, may_exceed)` is a read of the partition of that number.
pub(super) struct Reads<'a, F> {
    pub(super) clock: &'a dyn Clock,
    pub(super) deadline: Tick,
    pub(super) bytes_max: usize,
    /// What each partition may get at most.
    pub(super) shares: &'a [usize],
    pub(super) read: F,
}

impl<F, R> Reads<'_, F>
where
    F: Fn(usize, usize, bool) -> R,
    R: Future<Output = PartitionData>,
{
    /// In the order of the partitions; `None` for those that storage did not answer in time.
    pub(super) async fn run(self) -> Vec<Option<PartitionData>> {
        let mut answers: Vec<Option<PartitionData>> = Vec::new();
        answers.resize_with(self.shares.len(), || None);
        let mut budget = Budget { left: self.bytes_max, promised: 0, is_untouched: true };
        let mut under_way = FuturesUnordered::new();
        // Read with nothing to show for it, while a larger batch was not allowed.
        let mut too_small = Vec::new();
        let begun = self.clock.now();
        let mut next = 0;
        loop {
            while next < self.shares.len() && under_way.len() < READS_AT_ONCE {
                let Some(mut read) = self.begin(next, &mut budget, under_way.is_empty()) else {
                    break;
                };
                next += 1;
                match futures::poll!(&mut read) {
                    Poll::Ready(done) => settle(done, &mut budget, &mut answers, &mut too_small),
                    Poll::Pending => under_way.push(read),
                }
            }
            if under_way.is_empty() {
                break;
            }
            let until = match budget.is_untouched {
                true => self.deadline,
                false => self.deadline.min(begun.plus(COMPANY_WAIT_MAX)),
            };
            tokio::select! {
                biased;
                Some(done) = under_way.next() => {
                    settle(done, &mut budget, &mut answers, &mut too_small);
                }
                () = self.clock.sleep_until(until) => break,
            }
        }
        drop(under_way);
        budget.promised = 0;
        if budget.is_untouched {
            self.exceed(too_small, &mut budget, &mut answers).await;
            budget.promised = 0;
        }
        for number in next..self.shares.len() {
            self.at_hand(number, &mut budget, &mut answers).await; // R4
        }
        answers
    }

    fn begin(
        &self,
        number: usize,
        budget: &mut Budget,
        is_alone: bool,
    ) -> Option<Pin<Box<impl Future<Output = Done> + use<F, R>>>> {
        let promised = budget.promise(self.shares[number], is_alone)?;
        let may_exceed = is_alone && budget.is_untouched; // R3
        let read = (self.read)(number, promised, may_exceed);
        Some(Box::pin(async move { Done { number, promised, may_exceed, data: read.await } }))
    }

    /// Nothing was served: the first of those whose next batch may just have been too large.
    async fn exceed(
        &self,
        mut numbers: Vec<usize>,
        budget: &mut Budget,
        answers: &mut [Option<PartitionData>],
    ) {
        numbers.sort_unstable();
        for number in numbers {
            let Some(read) = self.begin(number, budget, true) else { return };
            tokio::select! {
                biased;
                done = read => settle(done, budget, answers, &mut Vec::new()),
                () = self.clock.sleep_until(self.deadline) => return,
            }
            if !budget.is_untouched {
                return;
            }
        }
    }

    /// Takes what needs no waiting.
    async fn at_hand(
        &self,
        number: usize,
        budget: &mut Budget,
        answers: &mut [Option<PartitionData>],
    ) {
        let Some(mut read) = self.begin(number, budget, true) else { return };
        match futures::poll!(&mut read) {
            Poll::Ready(done) => settle(done, budget, answers, &mut Vec::new()),
            Poll::Pending => budget.promised = 0,
        }
    }
}

fn settle(
    done: Done,
    budget: &mut Budget,
    answers: &mut [Option<PartitionData>],
    too_small: &mut Vec<usize>,
) {
    let served = bytes_of(&done.data);
    budget.settle(done.promised, served);
    if served == 0 && !done.may_exceed {
        too_small.push(done.number);
    }
    answers[done.number] = Some(done.data);
}

#[cfg(test)]
mod tests;
