//! When a slow PUT is sent a second time. Pure.
//!
//! Owns: what counts as slow, from the latencies of late; how many second requests there may be.
//! Does not own: sending them.
//!
//! The delay follows the store: a store that is slow as a whole makes the delay longer, so hedging
//! never answers overload with more load. The share bounds the rest.

use std::collections::VecDeque;
use std::time::Duration;

/// Latencies that are remembered. More: steadier, slower to follow the store.
const LATENCIES_KEPT: usize = 64;

/// Fewer than this say nothing about what is usual.
const LATENCIES_NEEDED: usize = 8;

/// Of so many latencies in a hundred, the delay is half as much again as the greatest.
const USUAL_PER_CENT: usize = 95;

/// Unused hedges that are saved up for a bad minute.
const HEDGES_SAVED_MAX: u64 = 8;

/// Bounds of hedging.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HedgeLimits {
    pub(super) delay_min: Duration,
    pub(super) delay_max: Duration,
    /// Second requests in a thousand writes.
    pub(super) share_per_mille: u64,
}

#[derive(Debug)]
pub(super) struct Hedging {
    limits: HedgeLimits,
    latencies: VecDeque<Duration>,
    /// In thousandths of a hedge.
    saved: u64,
}

impl Hedging {
    pub(super) fn new(limits: HedgeLimits) -> Hedging {
        Hedging { limits, latencies: VecDeque::with_capacity(LATENCIES_KEPT), saved: 0 }
    }

    /// A write begins; says after how long without an answer it is slow.
    pub(super) fn begin(&mut self) -> Duration {
        self.saved = (self.saved + self.limits.share_per_mille).min(1000 * HEDGES_SAVED_MAX);
        if self.latencies.len() < LATENCIES_NEEDED {
            return self.limits.delay_max;
        }
        let mut sorted: Vec<_> = self.latencies.iter().copied().collect();
        sorted.sort_unstable();
        let usual = sorted[(sorted.len() * USUAL_PER_CENT).div_ceil(100) - 1];
        (usual * 3 / 2).clamp(self.limits.delay_min, self.limits.delay_max)
    }

    /// Whether a slow write may be sent again; if so, that is counted.
    pub(super) fn take(&mut self) -> bool {
        let may = 1000 <= self.saved;
        if may {
            self.saved -= 1000;
        }
        may
    }

    /// A write was answered after `latency`.
    pub(super) fn observe(&mut self, latency: Duration) {
        if self.latencies.len() == LATENCIES_KEPT {
            self.latencies.pop_front();
        }
        self.latencies.push_back(latency);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    fn hedging() -> Hedging {
        Hedging::new(HedgeLimits { delay_min: ms(50), delay_max: ms(2000), share_per_mille: 100 })
    }

    #[test]
    fn the_delay_follows_the_store_within_bounds() {
        let mut hedging = hedging();
        assert_eq!(hedging.begin(), ms(2000), "nothing is known yet");
        (0..64).for_each(|_| hedging.observe(ms(100)));
        assert_eq!(hedging.begin(), ms(150));
        (0..3).for_each(|_| hedging.observe(ms(900)));
        assert_eq!(hedging.begin(), ms(150), "three in 64 are the exception");
        (0..3).for_each(|_| hedging.observe(ms(900)));
        assert_eq!(hedging.begin(), ms(1350), "one in ten is usual");
        (0..64).for_each(|_| hedging.observe(ms(1)));
        assert_eq!(hedging.begin(), ms(50));
        (0..64).for_each(|_| hedging.observe(ms(9000)));
        assert_eq!(hedging.begin(), ms(2000));
    }

    #[test]
    fn one_write_in_ten_is_hedged_however_slow_all_are() {
        let mut hedging = hedging();
        let mut hedged = 0;
        for _ in 0..1000 {
            hedging.begin();
            hedged += usize::from(hedging.take());
        }
        assert_eq!(hedged, 100);
        for _ in 0..1000 {
            hedging.begin();
        }
        assert_eq!((0..100).filter(|_| hedging.take()).count(), 8, "saved up, but not without end");
    }
}
