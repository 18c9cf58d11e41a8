//! The spans in memory: one share for readers near the end, one for readers that lag.
//!
//! Owns: what is kept, what goes first, which of it was read ahead and not wanted yet.
//! Does not own: loading (`loads`), what to read ahead (`streams`).
//!
//! The shares are apart so that a scan of cold data evicts nothing that tail readers have in common.
//! They also forget differently. Tail readers come again and again to the same few spans, so their
//! share keeps what is asked for often (`quick_cache`, which resists scans). Lagging readers pass each
//! span once: their share drops what was read longest ago, and keeps what was read ahead until it is
//! wanted. A policy that favours what was touched would do the opposite there: keep the spans behind
//! the reader and drop those in front of it. What stays behind the reader is for the next group that
//! reads the same.
//!
//! Invariants of the lagging share: it never holds more than its bytes; of these, spans read ahead
//! never hold more than [`Spans::ahead_bytes_max`].

use bytes::Bytes;
use quick_cache::sync::Cache;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard};
use vocabulary::SegmentName;

/// The tail readers' share of the memory for spans, in percent. Larger: a backfill has less room to
/// read ahead.
const TAIL_SHARE_PERCENT: u64 = 50;

/// What may be read ahead and not wanted yet, in percent of the lagging share. Larger: less is kept
/// for the next reader of the same data.
const AHEAD_SHARE_PERCENT: u64 = 75;

/// What a span costs besides its bytes.
const ENTRY_BYTES: u64 = 128;

/// Whom a span is loaded for: it decides about permits, cache share and the request's purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Class {
    /// Near the end of the partition, where somebody waits for what comes.
    Tail,
    /// In older data, at the pace that is left.
    Lagging,
}

/// Some bytes of an object, which never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct SpanKey {
    pub(super) segment: SegmentName,
    /// Of the first byte in the segment.
    pub(super) position: u64,
    pub(super) length: u64,
}

#[derive(Clone)]
struct SpanWeight;

impl quick_cache::Weighter<SpanKey, Bytes> for SpanWeight {
    fn weight(&self, _: &SpanKey, bytes: &Bytes) -> u64 {
        weight(bytes)
    }
}

fn weight(bytes: &Bytes) -> u64 {
    bytes.len() as u64 + ENTRY_BYTES
}

/// Both shares.
pub(super) struct Spans {
    tail: Cache<SpanKey, Bytes, SpanWeight>,
    /// A leaf lock: map steps only.
    lagging: Mutex<Lagging>,
    ahead_bytes_max: u64,
}

/// What became of spans that were read ahead.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct AheadFates {
    pub(super) useful: u64,
    pub(super) wasted: u64,
}

impl Spans {
    pub(super) fn new(bytes_max: u64) -> Spans {
        let tail_bytes = bytes_max / 100 * TAIL_SHARE_PERCENT;
        let items = usize::try_from(tail_bytes >> 20).unwrap_or(64).max(16);
        let lagging_bytes = bytes_max.saturating_sub(tail_bytes);
        let ahead_bytes_max = lagging_bytes / 100 * AHEAD_SHARE_PERCENT;
        Spans {
            tail: Cache::with_weighter(items, tail_bytes, SpanWeight),
            lagging: Mutex::new(Lagging::new(lagging_bytes, ahead_bytes_max)),
            ahead_bytes_max,
        }
    }

    /// A span that somebody of `class` wants now. What a tail reader finds in the other share moves.
    pub(super) fn get(&self, key: &SpanKey, class: Class) -> Option<Bytes> {
        match class {
            Class::Tail => self.tail.get(key).or_else(|| {
                let bytes = self.lagging().take(key)?;
                self.tail.insert(*key, bytes.clone());
                Some(bytes)
            }),
            // Peeked at: a passer-by does not make a span of the tail worth keeping.
            Class::Lagging => {
                let found = self.lagging().read(key);
                found.or_else(|| self.tail.peek(key))
            }
        }
    }

    pub(super) fn contains(&self, key: &SpanKey) -> bool {
        self.lagging().entries.contains_key(key) || self.tail.contains_key(key)
    }

    /// Keeps a span that was loaded because somebody of `class` waits for it.
    pub(super) fn insert(&self, key: SpanKey, bytes: Bytes, class: Class) {
        match class {
            Class::Tail => self.tail.insert(key, bytes),
            Class::Lagging => self.lagging().insert(key, bytes, false),
        }
    }

    /// Keeps a span that nobody has asked for yet, whoever it is for.
    pub(super) fn insert_ahead(&self, key: SpanKey, bytes: Bytes) {
        self.lagging().insert(key, bytes, true);
    }

    pub(super) fn ahead_bytes_max(&self) -> u64 {
        self.ahead_bytes_max
    }

    /// Bytes read ahead that nobody has asked for yet.
    pub(super) fn ahead_bytes(&self) -> u64 {
        self.lagging().ahead_bytes
    }

    /// In both shares.
    pub(super) fn bytes(&self) -> u64 {
        self.tail.weight() + self.lagging().bytes
    }

    /// Since this was asked last.
    pub(super) fn take_fates(&self) -> AheadFates {
        std::mem::take(&mut self.lagging().fates)
    }

    fn lagging(&self) -> MutexGuard<'_, Lagging> {
        self.lagging.lock().expect("no holder of this leaf lock panics: map steps only")
    }
}

/// Least recently read goes first; unread spans go only when there is nothing else.
struct Lagging {
    bytes_max: u64,
    ahead_bytes_max: u64,
    entries: HashMap<SpanKey, Entry>,
    /// By turn, the oldest first: spans that were read.
    read: BTreeMap<u64, SpanKey>,
    /// By turn, the oldest first: spans read ahead that nobody has asked for.
    ahead: BTreeMap<u64, SpanKey>,
    bytes: u64,
    ahead_bytes: u64,
    turn: u64,
    fates: AheadFates,
}

struct Entry {
    bytes: Bytes,
    turn: u64,
    is_ahead: bool,
}

impl Lagging {
    fn new(bytes_max: u64, ahead_bytes_max: u64) -> Lagging {
        Lagging {
            bytes_max,
            ahead_bytes_max,
            entries: HashMap::new(),
            read: BTreeMap::new(),
            ahead: BTreeMap::new(),
            bytes: 0,
            ahead_bytes: 0,
            turn: 0,
            fates: AheadFates::default(),
        }
    }

    fn read(&mut self, key: &SpanKey) -> Option<Bytes> {
        let bytes = self.take(key)?;
        self.insert(*key, bytes.clone(), false);
        Some(bytes)
    }

    /// Removes a span that somebody wants.
    fn take(&mut self, key: &SpanKey) -> Option<Bytes> {
        let entry = self.remove(key)?;
        self.fates.useful += u64::from(entry.is_ahead);
        Some(entry.bytes)
    }

    fn insert(&mut self, key: SpanKey, bytes: Bytes, is_ahead: bool) {
        let weight = weight(&bytes);
        let bytes_max = if is_ahead { self.ahead_bytes_max } else { self.bytes_max };
        if bytes_max < weight {
            self.fates.wasted += u64::from(is_ahead);
            return;
        }
        self.remove(&key);
        self.turn += 1;
        self.bytes += weight;
        self.ahead_bytes += if is_ahead { weight } else { 0 };
        let order = if is_ahead { &mut self.ahead } else { &mut self.read };
        order.insert(self.turn, key);
        self.entries.insert(key, Entry { bytes, turn: self.turn, is_ahead });
        self.shrink();
    }

    fn shrink(&mut self) {
        while self.ahead_bytes_max < self.ahead_bytes {
            let Some((_, oldest)) = self.ahead.first_key_value() else { break };
            let oldest = *oldest;
            self.remove(&oldest);
            self.fates.wasted += 1;
        }
        while self.bytes_max < self.bytes {
            let oldest = self.read.first_key_value().or_else(|| self.ahead.first_key_value());
            let Some(oldest) = oldest.map(|(_, key)| *key) else { break };
            let gone = self.remove(&oldest);
            self.fates.wasted += u64::from(gone.is_some_and(|it| it.is_ahead));
        }
    }

    fn remove(&mut self, key: &SpanKey) -> Option<Entry> {
        let entry = self.entries.remove(key)?;
        let weight = weight(&entry.bytes);
        self.bytes -= weight;
        if entry.is_ahead {
            self.ahead_bytes -= weight;
            self.ahead.remove(&entry.turn);
        } else {
            self.read.remove(&entry.turn);
        }
        Some(entry)
    }
}

#[cfg(test)]
mod tests;
