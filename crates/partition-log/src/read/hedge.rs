//! When a second request for the same bytes is worth its price. Pure.
//!
//! Owns: how long an answer usually takes, how many second requests there may be.
//! Does not own: making them (`loads`).
//!
//! An object store answers most requests quickly and a few very late, for reasons that a second
//! request usually does not meet. Only readers that somebody waits for are hedged, and only a small
//! share of their requests, so that a store that is slow for everybody is not asked for twice as much.

use std::time::Duration;

/// Second requests, in percent of the first ones. Larger: fewer late answers, more requests to pay.
const SHARE_PERCENT: u64 = 5;

/// Second requests that may be saved up by a quiet time.
const SAVED_MAX: u64 = 10;

/// A second request is made after so many usual times.
const USUAL_TIMES: u32 = 4;

const DELAY_MIN: Duration = Duration::from_millis(20);
const DELAY_MAX: Duration = Duration::from_secs(2);

/// Before anything is known of a store.
const USUAL_AT_FIRST: Duration = Duration::from_millis(60);

/// Each answer moves what is usual by this part of the difference.
const WEIGHT: u32 = 8;

#[derive(Debug, Clone)]
pub(super) struct Hedge {
    usual: Duration,
    /// In percent of a request.
    saved: u64,
}

impl Hedge {
    pub(super) fn new() -> Hedge {
        Hedge { usual: USUAL_AT_FIRST, saved: 100 }
    }

    /// A first request starts: how long to wait for it alone.
    pub(super) fn started(&mut self) -> Duration {
        self.saved = (self.saved + SHARE_PERCENT).min(SAVED_MAX * 100);
        (self.usual * USUAL_TIMES).clamp(DELAY_MIN, DELAY_MAX)
    }

    /// A request was answered.
    pub(super) fn answered(&mut self, took: Duration) {
        let took = took.min(DELAY_MAX);
        self.usual = self.usual - self.usual / WEIGHT + took / WEIGHT;
    }

    /// Whether there may be a second request now; if so, it is paid for.
    pub(super) fn may_hedge(&mut self) -> bool {
        let may = 100 <= self.saved;
        self.saved -= if may { 100 } else { 0 };
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_share_of_requests_is_hedged_and_savings_are_bounded() {
        let mut hedge = Hedge::new();
        let hedged = (0..1000).filter(|_| {
            hedge.started();
            hedge.may_hedge()
        });
        assert_eq!(hedged.count() as u64, 1 + 1000 * SHARE_PERCENT / 100);
        for _ in 0..100_000 {
            hedge.started();
        }
        let saved = (0..100).filter(|_| hedge.may_hedge()).count() as u64;
        assert_eq!(saved, SAVED_MAX);
    }

    #[test]
    fn the_delay_follows_the_store() {
        let mut hedge = Hedge::new();
        for _ in 0..100 {
            hedge.answered(Duration::from_millis(30));
        }
        let delay = hedge.started();
        let usual = Duration::from_millis(120);
        assert!(usual.abs_diff(delay) < Duration::from_millis(10), "{delay:?}");
        for _ in 0..100 {
            hedge.answered(Duration::from_micros(50));
        }
        assert_eq!(hedge.started(), DELAY_MIN);
        for _ in 0..100 {
            hedge.answered(Duration::from_secs(60));
        }
        assert_eq!(hedge.started(), DELAY_MAX);
    }
}
