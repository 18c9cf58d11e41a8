//! How fast merging may go. Pure: numbers in, a wait out.
//!
//! Owns: the rate left over by produce and fetch. Does not own: waiting, pauses.
//!
//! Merging gets what the others leave of its limit, and at least as much as was produced on average
//! over the last [`AVERAGED`], and a little more: less would let small runs pile up for ever. A burst
//! hardly moves that average, so merging makes way for it and catches up later.

use std::time::Duration;
use vocabulary::Tick;

/// Between looks at what the others did.
const SAMPLED: Duration = Duration::from_secs(1);

/// Over about this time production is averaged.
const AVERAGED: Duration = Duration::from_secs(600);

/// So much of the average production is left to merging whatever the others do.
const KEEP_UP_PERCENT: u64 = 125;

/// Merging never comes to a halt by its pace, in bytes a second.
const RATE_MIN: u64 = 1024 * 1024;

#[derive(Debug)]
pub(super) struct Pace {
    rate_max: u64,
    rate: u64,
    /// What was taken so far is paid off at this time.
    free_at: Option<Tick>,
    sampled: Option<Sample>,
    /// Bytes a second.
    produced_average: u64,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Tick,
    produced: u64,
    fetched: u64,
}

impl Pace {
    pub(super) fn new(rate_max: u64) -> Pace {
        Pace { rate_max, rate: rate_max, free_at: None, sampled: None, produced_average: 0 }
    }

    /// How long to wait before `bytes` are moved, given all that was produced and fetched so far.
    pub(super) fn take(&mut self, now: Tick, produced: u64, fetched: u64, bytes: u64) -> Duration {
        self.sample(Sample { at: now, produced, fetched });
        let start = self.free_at.map_or(now, |it| it.max(now));
        let micros = u128::from(bytes) * 1_000_000 / u128::from(self.rate.max(1));
        let took = Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX));
        self.free_at = Some(start.plus(took));
        start.since(now)
    }

    fn sample(&mut self, sample: Sample) {
        let Some(last) = self.sampled else {
            self.sampled = Some(sample);
            return;
        };
        let passed = sample.at.since(last.at);
        if passed < SAMPLED {
            return;
        }
        let per_second = |bytes: u64| {
            let rate = u128::from(bytes) * 1_000_000 / passed.as_micros();
            u64::try_from(rate).unwrap_or(u64::MAX)
        };
        let produced = per_second(sample.produced.saturating_sub(last.produced));
        let fetched = per_second(sample.fetched.saturating_sub(last.fetched));
        let weight = passed.min(AVERAGED).as_millis() as u64;
        let rest = AVERAGED.as_millis() as u64 - weight;
        let weighed = u128::from(produced) * u128::from(weight)
            + u128::from(self.produced_average) * u128::from(rest);
        self.produced_average = (weighed / AVERAGED.as_millis()) as u64; // Below the greater of both.
        let left = self.rate_max.saturating_sub(produced.saturating_add(fetched));
        let keep_up = self.produced_average.saturating_mul(KEEP_UP_PERCENT) / 100;
        self.rate = left.max(keep_up).max(RATE_MIN).min(self.rate_max);
        self.sampled = Some(sample);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn at(seconds: u64) -> Tick {
        Tick::default().plus(Duration::from_secs(seconds))
    }

    #[test]
    fn alone_it_goes_at_its_limit() {
        let mut pace = Pace::new(100 * MIB);
        assert_eq!(pace.take(at(0), 0, 0, 50 * MIB), Duration::ZERO);
        assert_eq!(pace.take(at(0), 0, 0, 50 * MIB), Duration::from_millis(500));
        assert_eq!(pace.take(at(10), 0, 0, 50 * MIB), Duration::ZERO, "nothing is saved up");
    }

    #[test]
    fn it_makes_way_for_a_burst() {
        let mut pace = Pace::new(100 * MIB);
        pace.take(at(0), 0, 0, 0);
        pace.take(at(1), 40 * MIB, 50 * MIB, 10 * MIB);
        assert_eq!(
            pace.take(at(1), 40 * MIB, 50 * MIB, 0),
            Duration::from_secs(1),
            "a tenth is left"
        );
        pace.take(at(20), 40 * MIB, 50 * MIB, 50 * MIB);
        assert_eq!(
            pace.take(at(20), 40 * MIB, 50 * MIB, 0),
            Duration::from_millis(500),
            "it is over"
        );
    }

    #[test]
    fn it_keeps_up_with_a_load_that_lasts_and_never_stops() {
        let mut pace = Pace::new(100 * MIB);
        for second in 0..7200 {
            pace.take(at(second), second * 60 * MIB, second * 90 * MIB, 0);
        }
        assert!((70 * MIB..75 * MIB).contains(&pace.rate), "{}", pace.rate);
        let mut pace = Pace::new(100 * MIB);
        pace.take(at(0), 0, 0, 0);
        pace.take(at(1), 0, 900 * MIB, 0);
        assert_eq!(pace.rate, RATE_MIN);
        let mut pace = Pace::new(MIB / 2);
        pace.take(at(0), 0, 0, 0);
        pace.take(at(1), 0, 900 * MIB, 0);
        assert_eq!(pace.rate, MIB / 2, "the limit is the limit");
    }
}
