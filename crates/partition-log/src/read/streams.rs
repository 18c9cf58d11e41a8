//! Who reads a partition in order, and how far ahead of them to load. Pure.
//!
//! Owns: recognising sequential readers, their windows, how much of a window is planned.
//! Does not own: what is where (`windows`), loading (`loads`), room in memory (`spans`).
//!
//! A fetch does not say who asks. A stream is therefore known by where it stopped: whoever asks for
//! exactly that offset next continues it. Readers in lockstep share a stream, because the second one
//! asks inside of what the first one was just given. A stream starts with no window at all, so that
//! a point read costs what it asks for; the window appears with the second read in order and doubles
//! each time as much was read as it is wide.

use std::collections::HashMap;
use std::ops::Range;
use std::time::Duration;
use vocabulary::{Offset, Partition, Tick};

/// The first window, in bytes: about one span.
const WINDOW_BYTES_FIRST: u64 = 1024 * 1024;

/// Streams of one partition. Beyond it the one that has been idle longest is forgotten.
const STREAMS_PER_PARTITION_MAX: usize = 16;

/// Partitions with streams; about 1 KiB each at most. Beyond it idle ones are forgotten.
const PARTITIONS_MAX: usize = 4096;

/// A stream that has not been continued for so long is idle.
const IDLE_AFTER: Duration = Duration::from_secs(30);

/// What to load for a stream: from this offset on, about so many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) stream: u64,
    pub(super) from: Offset,
    pub(super) bytes: u64,
}

/// A read that was served: whole batches of `[from, to)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Served {
    pub(super) partition: Partition,
    pub(super) from: Offset,
    pub(super) to: Offset,
    pub(super) bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Stream {
    id: u64,
    /// What was served last.
    from: Offset,
    /// Where it goes on.
    next: Offset,
    window: u64,
    /// Read since the window has this width.
    since_growth: u64,
    /// Up to where it is planned, never before `next`.
    planned: Offset,
    /// From `next` to `planned`.
    planned_bytes: u64,
    is_planning: bool,
    touched: Tick,
}

/// Every stream of one broker.
#[derive(Debug, Default)]
pub(super) struct Streams {
    partitions: HashMap<Partition, Vec<Stream>>,
    next_id: u64,
    /// Streams that have a window.
    active: u64,
    /// When idle streams were looked for last.
    swept: Tick,
}

impl Streams {
    /// Notes a read; says what to load now. `bytes_max` is for all streams together, `window_max` for
    /// one. A plan is answered with [`Streams::planned`] before the stream gets another.
    pub(super) fn served(
        &mut self,
        served: Served,
        now: Tick,
        window_max: u64,
        bytes_max: u64,
    ) -> Option<Plan> {
        let window_max = window_max.min(bytes_max / self.active.max(1));
        self.make_room(served.partition, now);
        let streams = self.partitions.entry(served.partition).or_default();
        let continues = |it: &&mut Stream| it.from <= served.from && served.from <= it.next;
        let Some(stream) = streams.iter_mut().find(continues) else {
            self.next_id += 1;
            streams.push(Stream::new(self.next_id, served, now));
            return None;
        };
        stream.touched = now;
        if served.to <= stream.next {
            return None; // The second of several readers in lockstep.
        }
        let had_window = 0 < stream.window;
        stream.advance(served, window_max);
        let (id, next, plan) = (stream.id, stream.next, stream.plan());
        let has_window = 0 < stream.window;
        self.active += u64::from(has_window && !had_window);
        self.active -= u64::from(had_window && !has_window);
        // Streams that meet are one from now on.
        let mut gone = 0;
        streams.retain(|it| {
            let stays = it.id == id || it.next != next;
            gone += u64::from(!stays && 0 < it.window);
            stays
        });
        self.active -= gone;
        plan
    }

    /// The window of the stream that goes on at `next`, in bytes.
    pub(super) fn window(&self, partition: Partition, next: Offset) -> u64 {
        let streams = self.partitions.get(&partition).into_iter().flatten();
        streams.filter(|it| it.next == next).map(|it| it.window).max().unwrap_or(0)
    }

    /// Whether somebody reads the partition and, going on in order, comes to the run of `offsets` and
    /// `bytes` before much else: it lies behind what is planned, and no further than the window, or the
    /// first window of somebody who has read once.
    pub(super) fn comes_to(
        &self,
        partition: Partition,
        offsets: Range<Offset>,
        bytes: u64,
        now: Tick,
    ) -> bool {
        let records = u128::from((offsets.end.0 - offsets.start.0).max(1).unsigned_abs());
        let comes = |it: &Stream| {
            let at = it.next.max(it.planned);
            let between = u128::from((offsets.start.0 - at.0).max(0).unsigned_abs());
            let window = it.window.max(WINDOW_BYTES_FIRST);
            let is_near = between * u128::from(bytes) / records <= u128::from(window);
            at < offsets.end && is_near && now.since(it.touched) < IDLE_AFTER
        };
        self.partitions.get(&partition).is_some_and(|it| it.iter().any(comes))
    }

    /// What came of a plan: loads are under way up to `reached`, `bytes` of them.
    pub(super) fn planned(
        &mut self,
        partition: Partition,
        plan: Plan,
        reached: Offset,
        bytes: u64,
    ) {
        let streams = self.partitions.get_mut(&partition).into_iter().flatten();
        let Some(stream) = streams.into_iter().find(|it| it.id == plan.stream) else { return };
        stream.is_planning = false;
        if stream.planned < reached {
            stream.planned = reached;
            stream.planned_bytes += bytes;
        }
    }

    fn make_room(&mut self, partition: Partition, now: Tick) {
        let is_new = !self.partitions.contains_key(&partition);
        let is_full = is_new && PARTITIONS_MAX <= self.partitions.len();
        if is_full || IDLE_AFTER <= now.since(self.swept) {
            self.sweep(now);
        }
        if is_new && PARTITIONS_MAX <= self.partitions.len() {
            self.partitions.clear(); // Rare: so many at once. Every window starts again.
            self.active = 0;
        }
        let Some(streams) = self.partitions.get_mut(&partition) else { return };
        if STREAMS_PER_PARTITION_MAX <= streams.len() {
            let oldest = streams.iter().enumerate().min_by_key(|(_, it)| it.touched);
            if let Some(oldest) = oldest.map(|(index, _)| index) {
                let gone = streams.swap_remove(oldest);
                self.active -= u64::from(0 < gone.window);
            }
        }
    }

    fn sweep(&mut self, now: Tick) {
        self.swept = now;
        self.active = 0;
        self.partitions.retain(|_, streams| {
            streams.retain(|it| now.since(it.touched) < IDLE_AFTER);
            self.active += streams.iter().filter(|it| 0 < it.window).count() as u64;
            !streams.is_empty()
        });
    }
}

impl Stream {
    fn new(id: u64, served: Served, now: Tick) -> Stream {
        Stream {
            id,
            from: served.from,
            next: served.to,
            window: 0,
            since_growth: 0,
            planned: served.to,
            planned_bytes: 0,
            is_planning: false,
            touched: now,
        }
    }

    fn advance(&mut self, served: Served, window_max: u64) {
        (self.from, self.next) = (served.from, served.to);
        self.planned_bytes = self.planned_bytes.saturating_sub(served.bytes);
        if self.planned <= self.next {
            (self.planned, self.planned_bytes) = (self.next, 0);
        }
        self.since_growth += served.bytes;
        if self.window == 0 {
            (self.window, self.since_growth) = (WINDOW_BYTES_FIRST, 0);
        } else if self.window <= self.since_growth {
            (self.window, self.since_growth) = (self.window * 2, 0);
        }
        self.window = self.window.min(window_max);
    }

    /// Not before half of the window is to be filled, so that requests are large.
    fn plan(&mut self) -> Option<Plan> {
        let bytes = self.window.saturating_sub(self.planned_bytes);
        if self.is_planning || self.window == 0 || bytes < self.window.div_ceil(2) {
            return None;
        }
        self.is_planning = true;
        Some(Plan { stream: self.id, from: self.planned, bytes })
    }
}

#[cfg(test)]
mod tests;
