//! What comes with one request: spans of a run, and of small runs behind it in the same segment. Pure.
//!
//! Owns: which spans go together, how far apart they may lie. Does not own: who is about to read what
//! (`streams`), what is here or on its way already, requests and budgets (`loads`).
//!
//! A segment that was packed by a flush, or lies in a log, has a small run of each of many partitions, side
//! by side. A consumer of all of them, far behind, would ask for each by itself until merging has made
//! larger ones. So whoever loads one of them brings those along whose readers are about to come here.

use super::place::Place;
use super::spans::SpanKey;
use std::ops::Range;

/// One request of several spans stops before it exceeds this, in bytes. Larger: fewer requests, later
/// first bytes, more memory in flight.
pub(super) const GET_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Between two runs of one request lies at most this, in bytes, which is read in vain. Larger: fewer
/// requests, more read in vain.
const GAP_BYTES_MAX: u64 = 256 * 1024;

/// Runs behind the one that is loaded that are looked at.
pub(super) const NEIGHBOURS_MAX: usize = 128;

/// One span of one run.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) place: Place,
    pub(super) number: u32,
    pub(super) key: SpanKey,
}

impl Item {
    fn new(place: &Place, number: u32) -> Item {
        Item { place: place.clone(), number, key: place.key(number) }
    }

    fn end(&self) -> u64 {
        self.key.position + self.key.length
    }
}

/// The bytes of the segment that hold all of them, gaps included.
pub(super) fn extent(items: &[Item]) -> Range<u64> {
    match (items.first(), items.last()) {
        (Some(first), Some(last)) => first.key.position..last.end(),
        _ => 0..0,
    }
}

/// Their lengths, and between them those of the gaps, which nobody wants.
pub(super) fn pieces(items: &[Item]) -> Vec<(u64, bool)> {
    let mut pieces = Vec::with_capacity(items.len());
    let mut end = extent(items).start;
    for it in items {
        if end < it.key.position {
            pieces.push((it.key.position - end, false));
        }
        pieces.push((it.key.length, true));
        end = it.end();
    }
    pieces
}

/// Whether a run may still come with a request that is `asked` so far: it is near, and not too much.
pub(super) fn may_come_along(asked: &Range<u64>, run: &Range<u64>) -> bool {
    let gap = run.start.checked_sub(asked.end);
    gap.is_some_and(|it| it <= GAP_BYTES_MAX) && run.end - asked.start <= GET_BYTES_MAX
}

/// The spans of `numbers` up to the first that is not missing, within one request, and at least the first
/// if it is. If those are all up to the end of the run, whole runs of `behind`, which lie behind it in
/// the order of the segment, as far as they come along and nothing of them is here.
pub(super) fn together(
    place: &Place,
    numbers: Range<u32>,
    behind: &[Place],
    is_missing: impl Fn(&SpanKey) -> bool,
) -> Vec<Item> {
    let mut items: Vec<Item> = Vec::new();
    for number in numbers {
        let item = Item::new(place, number);
        let fits = items.first().is_none_or(|it| item.end() - it.key.position <= GET_BYTES_MAX);
        if !fits || !is_missing(&item.key) {
            return items;
        }
        items.push(item);
    }
    if items.last().is_none_or(|it| it.number + 1 < place.spans()) {
        return items;
    }
    for next in behind {
        let run = next.run.position..next.run.position + next.run.length;
        if !may_come_along(&extent(&items), &run) {
            break;
        }
        let spans: Vec<Item> = (0..next.spans()).map(|it| Item::new(next, it)).collect();
        if spans.iter().all(|it| is_missing(&it.key)) {
            items.extend(spans);
        }
    }
    items
}
