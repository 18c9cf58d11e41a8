//! One share-partition: who has which records, for how long, and what comes of it.
//!
//! Owns: the image and the locks. Does not own: the log (what was read is told), the clock, when an event is a
//! snapshot (`shard`).
//!
//! A decision gives the spans whose state changes; applying them is what changes the image. Locks are changed
//! at once: they are soft.

use std::sync::Arc;
use std::time::Duration;

use protocol::ErrorCode;
use vocabulary::{Offset, Tick};

use super::command::{
    AcknowledgeKind, AcknowledgementBatch, Acquire, AcquiredSpan, LogBatch, NextFetch, ShareLimits,
};
use super::image::{Delivery, DeliveryState, ShareImage, StateSpan};
use super::ranges::Ranges;

/// Records that came back less often are not suspected yet.
const HALVING_FROM_MIN: i16 = 2;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Lock {
    member: Arc<str>,
    until: Tick,
    /// Deliveries, this one included.
    count: i16,
}

/// How an offset from the start on stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Delivered that often.
    Available(i16),
    Locked,
    Done,
}

/// What a decision changes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    /// In ascending order.
    pub(super) spans: Vec<StateSpan>,
    /// Where the share-partition starts from now on, if that changes.
    pub(super) start: Option<Offset>,
}

impl Change {
    pub(super) fn is_empty(&self) -> bool {
        self.spans.is_empty() && self.start.is_none()
    }

    /// Whether somebody may get something that somebody else had.
    pub(super) fn frees(&self) -> bool {
        self.spans.iter().any(|it| !it.state.is_done())
    }
}

#[derive(Debug)]
pub(super) struct SharePartition {
    pub(super) image: ShareImage,
    /// As of the last look. Soft, as locks are: before a look after a load there is nothing to bound.
    pub(super) limits: ShareLimits,
    locks: Ranges<Lock>,
    /// Since the last snapshot.
    pub(super) updates: u32,
    /// The last snapshot lies at this offset of the log, or after it.
    pub(super) floor: Offset,
}

impl SharePartition {
    pub(super) fn new(image: ShareImage, limits: ShareLimits, floor: Offset) -> SharePartition {
        SharePartition { image, limits, locks: Ranges::default(), updates: 0, floor }
    }

    /// A snapshot says it all; who holds locks that it does not fit is told when it acknowledges.
    pub(super) fn replace(&mut self, image: ShareImage, floor: Offset) {
        let is_rewritten = image.state_epoch == self.image.state_epoch;
        if !is_rewritten {
            self.locks = Ranges::default();
        }
        self.image = image;
        self.updates = 0;
        self.floor = floor;
        self.forget_locks_below_start();
    }

    pub(super) fn apply(&mut self, start: Option<Offset>, spans: &[StateSpan]) {
        self.image.overlay(start, spans);
        self.updates += 1;
        self.forget_locks_below_start();
    }

    fn forget_locks_below_start(&mut self) {
        self.locks.clear(i64::MIN, self.image.start.0 - 1);
    }

    /// The last offset that was ever acquired, as far as is known; one before the start if none was.
    fn end(&self) -> i64 {
        let ends = self.locks.end().into_iter().chain(self.image.spans.end());
        ends.max().unwrap_or(i64::MIN).max(self.image.start.0 - 1)
    }

    pub(super) fn wake_at(&self) -> Option<Tick> {
        self.locks.iter().map(|(_, _, it)| it.until).min()
    }

    /// Records below the start of the log are gone.
    pub(super) fn follow_log_start(&self, log_start: Offset) -> Change {
        if log_start <= self.image.start {
            return Change::default();
        }
        Change { spans: Vec::new(), start: Some(Offset(self.start_after(log_start.0, &[]))) }
    }

    pub(super) fn next_fetch(&self, bounds: ShareLimits) -> NextFetch {
        let (start, end) = (self.image.start.0, self.end());
        for (first, _, standing) in self.standings(start, end) {
            if let Standing::Available(_) = standing {
                return NextFetch::Returned(Offset(first));
            }
        }
        match self.is_full(bounds) {
            true => NextFetch::Full,
            false => NextFetch::Fresh(Offset(end + 1)),
        }
    }

    /// Whether no new record may be acquired.
    pub(super) fn is_full(&self, bounds: ShareLimits) -> bool {
        bounds.locks_max <= self.end() - self.image.start.0 + 1
    }

    /// Locks what is available of what was read. Offsets at which there is no record to give are done with at once.
    pub(super) fn acquire(
        &mut self,
        now: Tick,
        bounds: ShareLimits,
        acquire: &Acquire,
    ) -> (Vec<AcquiredSpan>, Change) {
        let mut taking = Taking {
            left: acquire.records_max,
            until: now.plus(Duration::from_millis(acquire.lock_ms)),
            spans: Vec::new(),
            lost: Vec::new(),
        };
        let member: Arc<str> = acquire.member.as_str().into();
        let mut start = self.image.start.0;
        let mut next = acquire.from.0.max(start);
        // With nothing on its way the start follows what is passed: a hole may be longer than may be locked.
        let mut follows = next == start && self.end() < start;
        let mut limit = self.end();
        for batch in &acquire.batches {
            let LogBatch { first: Offset(first), last: Offset(last), is_withheld } = *batch;
            if taking.left <= 0 || last < next {
                continue;
            }
            if follows {
                next = next.max(first);
                if is_withheld {
                    next = last + 1;
                }
                start = next;
                follows = is_withheld;
            }
            // Beyond it more offsets would be on their way than may be.
            limit = self.end().max(start + bounds.locks_max - 1);
            let last = last.min(limit);
            // Between batches there is nothing: compacted away.
            if next < first {
                let end = first.min(last + 1);
                self.lose(next, end - 1, &mut taking.lost);
                next = end;
            }
            match is_withheld {
                _ if last < next => continue,
                true => self.lose(next, last, &mut taking.lost),
                false => self.take((next, last), bounds, acquire, &member, &mut taking),
            }
            next = last + 1;
        }
        assert!(self.end() <= limit, "H3: no more on their way than may be");
        let start = self.start_after(start, &taking.lost);
        let start = (start != self.image.start.0).then_some(Offset(start));
        (taking.spans, Change { spans: taking.lost, start })
    }

    fn take(
        &mut self,
        (first, last): (i64, i64),
        bounds: ShareLimits,
        acquire: &Acquire,
        member: &Arc<str>,
        taking: &mut Taking,
    ) {
        for (from, mut to, standing) in self.standings(first, last) {
            let Standing::Available(count) = standing else { continue };
            let some = suspects(to - from + 1, count, bounds);
            if some.is_some() && !taking.spans.is_empty() {
                taking.left = 0; // They go by themselves, or what is good would go down with them.
                return;
            }
            to = some.map_or(to, |it| from + it - 1);
            if acquire.is_exact {
                if taking.left <= 0 {
                    return;
                }
                to = to.min(from + taking.left - 1);
            }
            let count = count.saturating_add(1);
            let lock = Lock { member: Arc::clone(member), until: taking.until, count };
            self.locks.set(from, to, lock);
            taking.left = if some.is_some() { 0 } else { taking.left - (to - from + 1) };
            match taking.spans.last_mut() {
                Some(before)
                    if before.last.0 + 1 == from
                        && before.delivery_count == count
                        && before.last.0 - before.first.0 + 1 < acquire.span_records =>
                {
                    before.last = Offset(to);
                }
                _ => taking.spans.push(AcquiredSpan {
                    first: Offset(from),
                    last: Offset(to),
                    delivery_count: count,
                }),
            }
            if some.is_some() {
                return;
            }
        }
    }

    /// Of these offsets, those that nobody has will never be delivered.
    fn lose(&self, first: i64, last: i64, lost: &mut Vec<StateSpan>) {
        for (from, to, standing) in self.standings(first, last) {
            if let Standing::Available(delivery_count) = standing {
                push(lost, span(from, to, DeliveryState::Archived, delivery_count));
            }
        }
    }

    /// Whether something up to that offset, from the start on, is known to have been acquired.
    fn has_gone_out(&self, offset: i64) -> bool {
        let offset = offset.max(self.image.start.0);
        let firsts = self.locks.start().into_iter().chain(self.image.spans.start());
        firsts.min().is_some_and(|it| it <= offset)
    }

    /// All of it or nothing. What lies below the start is passed over, unless nothing else is told.
    ///
    /// # Errors
    /// INVALID_REQUEST for batches that make no sense, INVALID_RECORD_STATE where the member does not have
    /// a record: its lock has run out, or it never had it.
    pub(super) fn acknowledge(
        &mut self,
        now: Tick,
        bounds: ShareLimits,
        member: &str,
        batches: &[AcknowledgementBatch],
        lock: Duration,
    ) -> Result<Change, ErrorCode> {
        let mut runs = Vec::new();
        let mut before = None;
        for batch in batches {
            let AcknowledgementBatch { first: Offset(first), last: Offset(last), kinds } = batch;
            if last < first || *first < 0 || before.is_some_and(|it| *first <= it) {
                return Err(ErrorCode::InvalidRequest);
            }
            if self.end() < *last && self.image.start.0 <= *last {
                // Where nothing is on its way up to it, the locks may have gone with a load or a new start.
                return Err(match self.has_gone_out(*first) {
                    true => ErrorCode::InvalidRequest,
                    false => ErrorCode::InvalidRecordState,
                });
            }
            before = Some(*last);
            runs_of(*first, *last, kinds, &mut runs)?;
        }
        // All of it is done with, and whoever did it was not this member: it would have had a lock until then.
        if before.is_some_and(|it| it < self.image.start.0) {
            return Err(ErrorCode::InvalidRecordState);
        }
        let mut held = Vec::new();
        for (first, last, kind) in runs {
            // The start has moved into the batch: what lies below it is done with.
            let mut next = first.max(self.image.start.0);
            for (from, to, lock) in self.locks.within(next, last) {
                if from != next || *lock.member != *member {
                    return Err(ErrorCode::InvalidRecordState);
                }
                held.push((from, to, kind, lock));
                next = to + 1;
            }
            if next <= last {
                return Err(ErrorCode::InvalidRecordState);
            }
        }
        let mut spans = Vec::with_capacity(held.len());
        for (first, last, kind, mut held) in held {
            let state = match kind {
                AcknowledgeKind::Renew => {
                    held.until = now.plus(lock);
                    self.locks.set(first, last, held);
                    continue;
                }
                AcknowledgeKind::Accept => DeliveryState::Acknowledged,
                AcknowledgeKind::Gap | AcknowledgeKind::Reject => DeliveryState::Archived,
                AcknowledgeKind::Release => given_back(held.count, bounds),
            };
            self.locks.clear(first, last);
            push(&mut spans, span(first, last, state, held.count));
        }
        Ok(self.settled(spans))
    }

    /// The member is gone: what it has was not delivered after all.
    pub(super) fn release(&mut self, member: &str) -> Change {
        let locks = self.locks.iter().filter(|(_, _, it)| *it.member == *member);
        let locks: Vec<(i64, i64, i16)> = locks.map(|(a, b, it)| (a, b, it.count)).collect();
        let mut spans = Vec::with_capacity(locks.len());
        for (first, last, count) in locks {
            self.locks.clear(first, last);
            push(&mut spans, span(first, last, DeliveryState::Available, (count - 1).max(0)));
        }
        self.settled(spans)
    }

    /// Locks that have run out.
    pub(super) fn expire(&mut self, now: Tick, bounds: ShareLimits) -> Change {
        let due = self.locks.iter().filter(|(_, _, it)| it.until <= now);
        let due: Vec<(i64, i64, i16)> = due.map(|(a, b, it)| (a, b, it.count)).collect();
        let mut spans = Vec::with_capacity(due.len());
        for (first, last, count) in due {
            self.locks.clear(first, last);
            push(&mut spans, span(first, last, given_back(count, bounds), count));
        }
        self.settled(spans)
    }

    fn settled(&self, spans: Vec<StateSpan>) -> Change {
        let start = self.start_after(self.image.start.0, &spans);
        Change { start: (start != self.image.start.0).then_some(Offset(start)), spans }
    }

    /// The first offset from `start` on that is not done with, once these spans are as they say. They ascend.
    fn start_after(&self, start: i64, spans: &[StateSpan]) -> i64 {
        let mut next = start;
        let mut spans = spans.iter().peekable();
        loop {
            while spans.peek().is_some_and(|it| it.last.0 < next) {
                spans.next();
            }
            match spans.peek() {
                Some(it) if it.first.0 <= next => {
                    if !it.state.is_done() {
                        return next;
                    }
                    next = it.last.0 + 1;
                }
                _ => match self.image.spans.at(next) {
                    Some((last, it)) if it.state.is_done() => next = last + 1,
                    _ => return next,
                },
            }
        }
    }

    /// How each offset from `first` to `last` stands, in ascending order, without a hole.
    fn standings(&self, first: i64, last: i64) -> Vec<(i64, i64, Standing)> {
        let mut all = Vec::new();
        let mut next = first;
        while next <= last {
            let (to, standing) = match (self.locks.at(next), self.image.spans.at(next)) {
                (Some((to, _)), _) => (to, Standing::Locked),
                (None, Some((to, Delivery { state, count }))) => {
                    let standing = match state.is_done() {
                        true => Standing::Done,
                        false => Standing::Available(*count),
                    };
                    (self.locks.next_after(next).map_or(to, |it| to.min(it - 1)), standing)
                }
                (None, None) => {
                    let others = [self.locks.next_after(next), self.image.spans.next_after(next)];
                    let to = others.into_iter().flatten().min().map_or(last, |it| it - 1);
                    (to, Standing::Available(0))
                }
            };
            let to = to.min(last);
            all.push((next, to, standing));
            next = to + 1;
        }
        all
    }

    /// H1 and H2.
    pub(super) fn check(&self) {
        let start = self.image.start.0;
        let firsts = self.locks.iter().map(|it| it.0).chain(self.image.spans.iter().map(|it| it.0));
        assert!(firsts.min().is_none_or(|it| start <= it), "H1: nothing below the start");
        let at_start = self.image.spans.at(start);
        assert!(
            at_start.is_none_or(|(_, it)| !it.state.is_done()),
            "H1: the start is not done with"
        );
        for (first, last, _) in self.locks.iter() {
            let mut spans = self.image.spans.within(first, last);
            assert!(spans.all(|(_, _, it)| !it.state.is_done()), "H2: locked and done with");
        }
    }
}

/// What is being locked.
struct Taking {
    left: i64,
    until: Tick,
    spans: Vec<AcquiredSpan>,
    /// In ascending order.
    lost: Vec<StateSpan>,
}

/// How many of a run of records that came back `count` times are given out together; `None`: as many as are asked for.
///
/// One record that nobody can process takes along what is delivered with it, until all of it is archived. From half of
/// the limit on half as many go out with each attempt, and at the last attempt each goes alone (KAFKA-17541).
fn suspects(run: i64, count: i16, bounds: ShareLimits) -> Option<i64> {
    let limit = bounds.delivery_count_limit;
    let halving_from = (limit / 2 + limit % 2).max(HALVING_FROM_MIN);
    match count {
        _ if count < halving_from || limit <= count => None,
        _ if count == limit - 1 => Some(1),
        _ => Some((run >> (count - halving_from + 1).min(62)).max(1)),
    }
}

/// A record that comes back often enough is not delivered again.
fn given_back(count: i16, bounds: ShareLimits) -> DeliveryState {
    match bounds.delivery_count_limit <= count {
        true => DeliveryState::Archived,
        false => DeliveryState::Available,
    }
}

fn span(first: i64, last: i64, state: DeliveryState, delivery_count: i16) -> StateSpan {
    StateSpan { first: Offset(first), last: Offset(last), state, delivery_count }
}

/// Neighbours that are alike are one.
fn push(spans: &mut Vec<StateSpan>, next: StateSpan) {
    match spans.last_mut() {
        Some(last)
            if last.last.0 + 1 == next.first.0
                && (last.state, last.delivery_count) == (next.state, next.delivery_count) =>
        {
            last.last = next.last;
        }
        _ => spans.push(next),
    }
}

/// Offsets of one kind each.
fn runs_of(
    first: i64,
    last: i64,
    kinds: &[AcknowledgeKind],
    runs: &mut Vec<(i64, i64, AcknowledgeKind)>,
) -> Result<(), ErrorCode> {
    if let [kind] = kinds {
        runs.push((first, last, *kind));
        return Ok(());
    }
    if i64::try_from(kinds.len()).ok() != last.checked_sub(first).and_then(|it| it.checked_add(1)) {
        return Err(ErrorCode::InvalidRequest);
    }
    let mut own: Vec<(i64, i64, AcknowledgeKind)> = Vec::new();
    for (offset, kind) in (first..).zip(kinds) {
        match own.last_mut() {
            Some(run) if run.2 == *kind => run.1 = offset,
            _ => own.push((offset, offset, *kind)),
        }
    }
    runs.append(&mut own);
    Ok(())
}

#[cfg(test)]
mod tests;
