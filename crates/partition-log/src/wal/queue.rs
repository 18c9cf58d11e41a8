//! The decisions of group commit: what goes into the next group, and what may be released.
//!
//! Owns: the queue of appends, which groups are in flight, the order of release.
//! Does not own: segments, time, the backend, listeners (`committer`).
//!
//! Pure: no clock, no task, no log line. Invariants, checked after every step:
//! - Q1 groups in flight have consecutive sequences and are no more than allowed;
//! - Q2 queued bytes are the sum of what is queued;
//! - Q3 a group exceeds its limit only if it is a single item;
//! - Q4 results are released in sequence; behind the first failed group everything is lost.

use std::collections::VecDeque;
use std::time::Duration;
use vocabulary::Tick;

/// The shape of groups.
///
/// A group waits for more under load, that is, when something in it came while a write was in flight:
/// - while one is, until the budget of the linger has a start for it;
/// - once none is, and everybody who was waiting for an answer is back, for at most three quarters of a
///   linger after the last start: nothing more would come. So a producer that waits for its answers
///   meets one write and little else;
/// - what comes as the echo of a release waits for the rest of it, a few milliseconds: who waited for
///   one write together sends together, and what starts with the first of them leaves the others to the
///   next write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct QueueLimits {
    /// A group holds at most this many bytes, but always one item.
    pub(super) group_bytes_max: u64,
    /// Groups being written at once; at least 1.
    pub(super) in_flight_max: usize,
    /// An item that comes while something is in flight, and what comes behind it, waits until this
    /// long after the last start, unless a group is full before. At rates that fill groups, up to twice
    /// as long: requests matter more there than their latency. Zero: nothing waits.
    pub(super) linger: Duration,
    /// Starts that need not wait so long: one is saved up in each linger without a start, and no more
    /// than this are kept. So the linger bounds the requests of a long time, and who produces now and
    /// then never meets it.
    pub(super) starts_saved_max: u32,
    /// A group counts as full from here on; at rates that would fill it within a linger from
    /// one and a half of what comes in a linger on, so that the linger decides and groups grow.
    pub(super) full_bytes_min: u64,
}

/// How many lingers' worth of bytes, in halves, are a full group: enough that a steady rate never
/// fills one before its linger is over. No more: clients that wait for answers have only so much under
/// way, and a group that is full with less than that starts once they are back.
const FULL_LINGERS_HALVES: u64 = 3;

/// From so many thousandths of what fills a group in a linger on, nobody's echo is waited for: then
/// bytes decide, and clients that come back fill a group by themselves.
const ECHO_RATE_PER_MILLE_MAX: u32 = 250;

/// Times below are shares of the linger, in hundredths. With one of 100 ms they are milliseconds.
///
/// How long after a start the next one is made without budget, nothing being in flight: the bound of
/// requests on a store that is faster than that.
const ALONE_PER_CENT: u32 = 75;
/// What comes this soon after a release is its echo.
const ECHO_PER_CENT: u32 = 10;
/// An echo is over when nothing has come for so long, or when as much has come as was released,
const ECHO_QUIET_PER_CENT: u32 = 6;
/// but no later than this after the release.
const ECHO_MAX_PER_CENT: u32 = 50;

/// How the write of a group ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    Durable,
    /// Neither this group nor a later one will ever be durable for this writer.
    Failed,
}

/// What became of a group, in the order of sequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Released {
    Durable(u64),
    Lost(u64),
}

/// Items wait here for their group; groups wait here for their turn to be released.
#[derive(Debug)]
pub(super) struct CommitQueue<T> {
    limits: QueueLimits,
    queued: VecDeque<(T, u64)>,
    queued_bytes: u64,
    /// Sequence of the front of `in_flight`; of the next group when nothing is in flight.
    first_in_flight: u64,
    in_flight: VecDeque<Flight>,
    last_start: Tick,
    last_arrival: Tick,
    /// Set by a release, until the next start.
    echo: Option<Echo>,
    /// When the starts so far, at one in each linger, would have been made.
    paid_until: Option<Tick>,
    /// The linger at the rate of late.
    linger: Duration,
    /// That rate: of what fills a group in a linger, in thousandths, at most all.
    rate_per_mille: u32,
    /// Something in the queue came while a write was in flight: this is load, it can wait for more.
    is_crowded: bool,
    /// From here on a group is full.
    full_bytes: u64,
    /// When the bytes of `arrived` began to be counted.
    counted_from: Option<Tick>,
    arrived: u64,
    failed: bool,
    draining: bool,
}

/// A group being written.
#[derive(Debug, Clone, Copy)]
struct Flight {
    items: usize,
    /// `None` until its write ends.
    written: Option<Written>,
}

/// Where the answers of clients to a release are.
#[derive(Debug, Clone, Copy)]
struct Echo {
    released_at: Tick,
    /// In the queue once everybody who was released is back.
    items: usize,
}

impl<T> CommitQueue<T> {
    pub(super) fn new(limits: QueueLimits, next_sequence: u64) -> CommitQueue<T> {
        assert!(0 < limits.in_flight_max, "a log that may not write");
        CommitQueue {
            full_bytes: limits.full_bytes_min.min(limits.group_bytes_max),
            linger: limits.linger,
            rate_per_mille: 0,
            limits,
            queued: VecDeque::new(),
            queued_bytes: 0,
            first_in_flight: next_sequence,
            in_flight: VecDeque::new(),
            last_start: Tick(0),
            last_arrival: Tick(0),
            echo: None,
            paid_until: None,
            is_crowded: false,
            counted_from: None,
            arrived: 0,
            failed: false,
            draining: false,
        }
    }

    pub(super) fn push(&mut self, item: T, bytes: u64, now: Tick) {
        if self.queued.is_empty() {
            // Too late for an echo: whoever this is did not wait for the release.
            let latest = |echo: &Echo| echo.released_at.plus(self.share(ECHO_PER_CENT));
            self.echo = self.echo.filter(|echo| now < latest(echo));
        }
        self.last_arrival = now;
        self.queued.push_back((item, bytes));
        self.queued_bytes += bytes;
        self.arrived += bytes;
        self.is_crowded |= !self.in_flight.is_empty();
    }

    /// Full groups no longer wait for more.
    pub(super) fn drain(&mut self) {
        self.draining = true;
    }

    /// The next group, if one is to be written now, with its sequence.
    pub(super) fn start(&mut self, now: Tick) -> Option<(u64, Vec<T>)> {
        if !self.slot_free() || self.wake_at().is_some_and(|at| now < at) {
            return None;
        }
        let (mut count, mut bytes) = (0, 0);
        for (_, length) in &self.queued {
            if count != 0 && self.limits.group_bytes_max < bytes + length {
                break; // Q3
            }
            count += 1;
            bytes += length;
        }
        let group = self.queued.drain(..count).map(|(item, _)| item).collect();
        self.queued_bytes -= bytes;
        let sequence = self.next_sequence();
        self.in_flight.push_back(Flight { items: count, written: None });
        self.last_start = now;
        self.echo = None;
        self.pay(now);
        self.is_crowded = !self.queued.is_empty();
        self.measure(now);
        self.check();
        Some((sequence, group))
    }

    /// A full group may start before its time, but owes nothing to those after it.
    fn pay(&mut self, now: Tick) {
        let most = now.plus(self.linger * (1 + self.limits.starts_saved_max));
        let paid = self.paid_until.map_or(now, |at| at.max(now)).plus(self.linger);
        self.paid_until = Some(paid.min(most));
    }

    /// Adjusts what is full, and the linger, to the rate of arrivals, measured over at least a linger.
    fn measure(&mut self, now: Tick) {
        let Some(from) = self.counted_from else {
            (self.counted_from, self.arrived) = (Some(now), 0);
            return;
        };
        let (elapsed, linger) = (now.since(from).as_micros(), self.limits.linger.as_micros());
        if elapsed < linger.max(1) {
            return;
        }
        let in_a_linger = u128::from(self.arrived) * linger / elapsed;
        let most = self.limits.group_bytes_max;
        let least = self.limits.full_bytes_min.min(most);
        let full = u64::try_from(in_a_linger * u128::from(FULL_LINGERS_HALVES) / 2);
        self.full_bytes = full.unwrap_or(most).clamp(least, most);
        let rate = (in_a_linger * 1000 / u128::from(least.max(1))).min(1000);
        self.rate_per_mille = u32::try_from(rate).expect("at most a thousand");
        self.linger = self.limits.linger + self.limits.linger * self.rate_per_mille / 1000;
        (self.counted_from, self.arrived) = (Some(now), 0);
    }

    fn share(&self, per_cent: u32) -> Duration {
        self.limits.linger * per_cent / 100
    }

    /// When [`CommitQueue::start`] would act by itself. `None` if a step has to come first.
    pub(super) fn wake_at(&self) -> Option<Tick> {
        if !self.slot_free() || self.full_bytes <= self.queued_bytes || self.draining {
            return None;
        }
        let budget = self.paid_until.filter(|_| self.is_crowded).map(|at| {
            let saved = self.linger * self.limits.starts_saved_max;
            Tick(at.0.saturating_sub(micros(saved)))
        });
        if !self.in_flight.is_empty() {
            return budget;
        }
        let echo = self.echo.filter(|_| self.rate_per_mille < ECHO_RATE_PER_MILLE_MAX);
        let Some(echo) = echo else { return budget };
        if echo.items <= self.queued.len() {
            // Everybody is back: nothing would come before they are answered.
            let alone = self.last_start.plus(self.share(ALONE_PER_CENT));
            return budget.map(|at| at.min(alone));
        }
        let quiet = self.last_arrival.plus(self.share(ECHO_QUIET_PER_CENT));
        budget.max(Some(quiet.min(echo.released_at.plus(self.share(ECHO_MAX_PER_CENT)))))
    }

    /// Whether nothing can start before a write has ended, whatever is pushed and whenever. Without a linger alone:
    /// a linger goes by when things came.
    pub(super) fn waits_for_write(&self) -> bool {
        self.limits.linger.is_zero() && self.limits.in_flight_max <= self.in_flight.len()
    }

    /// Records the end of one write; says what is released by it.
    pub(super) fn finish(
        &mut self,
        sequence: u64,
        written: Written,
        now: Tick,
        out: &mut Vec<Released>,
    ) {
        if self.failed && sequence < self.first_in_flight {
            return; // Lost with a failure before it, while its own write was still going on.
        }
        let index = usize::try_from(sequence - self.first_in_flight).unwrap_or(usize::MAX);
        let flight = self.in_flight.get_mut(index).expect("only what was started ends");
        assert_eq!(flight.written.replace(written), None, "a write ends once");
        self.failed |= written == Written::Failed;
        self.release(Some(now), out);
        self.check();
    }

    /// Ends all writes in flight as failed: they are given up.
    pub(super) fn give_up(&mut self, out: &mut Vec<Released>) {
        self.failed = true;
        for flight in &mut self.in_flight {
            flight.written.get_or_insert(Written::Failed);
        }
        self.release(None, out);
        self.check();
    }

    /// Everything queued, once it is certain that nothing of it will be written. The items of lost
    /// groups come before it.
    pub(super) fn take_lost(&mut self) -> impl Iterator<Item = T> {
        let lost = if self.failed && self.in_flight.is_empty() { self.queued.len() } else { 0 };
        if lost != 0 {
            self.queued_bytes = 0;
        }
        self.queued.drain(..lost).map(|(item, _)| item)
    }

    pub(super) fn next_sequence(&self) -> u64 {
        self.first_in_flight + self.in_flight.len() as u64
    }

    fn slot_free(&self) -> bool {
        !self.failed && !self.queued.is_empty() && self.in_flight.len() < self.limits.in_flight_max
    }

    /// `now`: whoever waited may answer. `None`: nobody will.
    fn release(&mut self, now: Option<Tick>, out: &mut Vec<Released>) {
        let mut items = 0;
        while let Some(Flight { items: released, written: Some(written) }) =
            self.in_flight.front().copied()
        {
            if written == Written::Failed {
                // Q4: what is behind it is lost whether or not its own write got through.
                let lost = self.in_flight.len() as u64;
                out.extend((self.first_in_flight..).take(lost as usize).map(Released::Lost));
                self.first_in_flight += lost;
                self.in_flight.clear();
                return;
            }
            out.push(Released::Durable(self.first_in_flight));
            self.first_in_flight += 1;
            self.in_flight.pop_front();
            items += released;
        }
        let Some(released_at) = now.filter(|_| 0 < items) else { return };
        // Writes that end one after another have one echo.
        let before =
            self.echo.filter(|it| released_at < it.released_at.plus(self.share(ECHO_PER_CENT)));
        let before = before.map_or(self.queued.len(), |it| it.items);
        self.echo = Some(Echo { released_at, items: before + items });
    }

    fn check(&self) {
        assert!(self.in_flight.len() <= self.limits.in_flight_max, "Q1");
        assert!(self.in_flight.front().is_none_or(|it| it.written.is_none()), "Q4");
        if cfg!(debug_assertions) {
            assert_eq!(self.queued_bytes, self.queued.iter().map(|it| it.1).sum::<u64>(), "Q2");
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
