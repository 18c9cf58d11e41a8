//! What operators see of the transactions coordinated here. No label names an id, so the number of series does not
//! grow with them.
//!
//! Owns: the series. Does not own: the counting (`coordinator`), when (`owners`).

use std::time::Duration;

use coordinator::transactions::{TransactionCensus, TransactionState, TransactionTally};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::owners::Metrics;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

/// Cheap to clone: every clone counts into the same series.
#[derive(Debug, Clone)]
pub(crate) struct TransactionMetrics {
    ids: Family<StateLabel, Gauge>,
    begun: Counter,
    committed: Counter,
    aborted: Counter,
    timed_out: Counter,
    fenced: Counter,
    expired: Counter,
    load_seconds: Histogram,
}

impl TransactionMetrics {
    pub(crate) fn register(registry: &mut Registry) -> TransactionMetrics {
        let metrics = TransactionMetrics {
            ids: Family::default(),
            begun: Counter::default(),
            committed: Counter::default(),
            aborted: Counter::default(),
            timed_out: Counter::default(),
            fenced: Counter::default(),
            expired: Counter::default(),
            // 1 ms to 65 s.
            load_seconds: Histogram::new(exponential_buckets(0.001, 4.0, 9)),
        };
        let registry = registry.sub_registry_with_prefix("aquifer_transaction");
        registry.register(
            "ids",
            "Transactional ids coordinated here, by state",
            metrics.ids.clone(),
        );
        for (name, help, counter) in [
            ("begun", "Transactions begun", &metrics.begun),
            ("committed", "Transactions decided to be committed", &metrics.committed),
            ("aborted", "Transactions decided to be aborted, for any reason", &metrics.aborted),
            ("timed_out", "Aborted because open for longer than their timeout", &metrics.timed_out),
            ("fenced", "Aborted because another producer took the id", &metrics.fenced),
            ("ids_expired", "Ids forgotten (transactional.id.expiration.ms)", &metrics.expired),
        ] {
            registry.register(name, help, counter.clone());
        }
        registry.register(
            "load_seconds",
            "Time to load one partition of __transaction_state",
            metrics.load_seconds.clone(),
        );
        metrics
    }
}

impl Metrics for TransactionMetrics {
    type Census = TransactionCensus;
    type Tally = TransactionTally;

    fn count(&self, tally: TransactionTally) {
        let TransactionTally { begun, committed, aborted, timed_out, fenced, expired } = tally;
        self.begun.inc_by(begun);
        self.committed.inc_by(committed);
        self.aborted.inc_by(aborted);
        self.timed_out.inc_by(timed_out);
        self.fenced.inc_by(fenced);
        self.expired.inc_by(expired);
    }

    fn loaded(&self, took: Duration) {
        self.load_seconds.observe(took.as_secs_f64());
    }

    fn move_gauges(&self, from: &TransactionCensus, to: &TransactionCensus) {
        for (state, (before, after)) in
            TransactionState::ALL.into_iter().zip(from.ids.into_iter().zip(to.ids))
        {
            let gauge = self.ids.get_or_create(&StateLabel { state: state.name() });
            gauge.inc_by(after as i64 - before as i64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::owners::Counted;

    #[test]
    fn shards_add_up_and_leave_nothing_behind() {
        let mut registry = Registry::default();
        let metrics = TransactionMetrics::register(&mut registry);
        let open = || metrics.ids.get_or_create(&StateLabel { state: "Ongoing" }).get();
        let census = |open| TransactionCensus { ids: [0, open, 0, 0, 0, 0] };
        let mut first = Counted::new(metrics.clone(), census(2));
        let second = Counted::new(metrics.clone(), census(1));
        assert_eq!(open(), 3);
        first.set(census(0));
        assert_eq!(open(), 1);
        drop(first);
        drop(second);
        assert_eq!(open(), 0);
    }
}
