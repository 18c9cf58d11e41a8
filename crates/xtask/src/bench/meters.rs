//! A broker's own meters: `/metrics` read twice, and what lies between.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

/// Samples by their name and labels, as they stand in the text.
#[derive(Debug, Clone, Default)]
pub(super) struct Meters(BTreeMap<String, f64>);

const BUCKET_REQUESTS: &str = "aquifer_bucket_requests_total";
const WRITTEN_BYTES: &str = "aquifer_bucket_written_bytes_total";
const REQUEST_SECONDS: &str = "aquifer_bucket_request_seconds";

impl Meters {
    pub(super) fn parse(text: &str) -> Meters {
        let sample = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        Meters(text.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect())
    }

    pub(super) fn since(&self, earlier: &Meters) -> Meters {
        let grown = |(name, value): (&String, &f64)| {
            (name.clone(), value - earlier.0.get(name).copied().unwrap_or(0.0))
        };
        Meters(self.0.iter().map(grown).collect())
    }

    pub(super) fn get(&self, sample: &str) -> f64 {
        self.0.get(sample).copied().unwrap_or(0.0)
    }

    /// A sample that is there from the start on; an error if it is not, as then its name is wrong.
    pub(super) fn known(&self, sample: &str) -> Result<f64> {
        self.0.get(sample).copied().with_context(|| format!("the broker has no metric {sample}"))
    }

    /// The sum of the samples of `name` whose labels contain all of `labels`.
    fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let of_name = |sample: &&String| {
            let rest = sample.strip_prefix(name);
            rest.is_some_and(|it| it.starts_with('{') && labels.iter().all(|l| it.contains(l)))
        };
        self.0.keys().filter(of_name).map(|sample| self.0[sample]).sum()
    }

    pub(super) fn puts(&self, purpose: &str) -> f64 {
        let purpose = format!("purpose=\"{purpose}\"");
        self.sum(BUCKET_REQUESTS, &[&purpose, "operation=\"put\""])
    }

    pub(super) fn all_puts(&self) -> f64 {
        self.sum(BUCKET_REQUESTS, &["operation=\"put\""])
    }

    pub(super) fn written(&self, purpose: &str) -> f64 {
        self.sum(WRITTEN_BYTES, &[&format!("purpose=\"{purpose}\"")])
    }

    /// Seconds that PUTs of the log took: the quantile, read off the histogram (its steps double, within one
    /// it is interpolated), and the mean.
    pub(super) fn wal_put_seconds(&self, quantile: f64) -> Option<f64> {
        let name = format!("{REQUEST_SECONDS}_bucket");
        let mut steps: Vec<(f64, f64)> = Vec::new();
        for (sample, count) in &self.0 {
            let Some(labels) = sample.strip_prefix(&name) else { continue };
            if labels.contains("purpose=\"wal\"") && labels.contains("operation=\"put\"") {
                let bound = labels.split("le=\"").nth(1)?.split('"').next()?;
                steps.push((bound.parse().unwrap_or(f64::INFINITY), *count));
            }
        }
        steps.sort_by(|one, other| one.0.total_cmp(&other.0));
        let wanted = steps.last().filter(|last| 0.0 < last.1)?.1 * quantile;
        let (mut from, mut below) = (0.0, 0.0);
        for (bound, count) in steps {
            if wanted <= count {
                let share = (wanted - below) / (count - below);
                return Some(if bound.is_finite() { from + (bound - from) * share } else { from });
            }
            (from, below) = (bound, count);
        }
        None
    }

    pub(super) fn wal_put_mean_seconds(&self) -> f64 {
        let labels = ["purpose=\"wal\"", "operation=\"put\""];
        let sum = self.sum(&format!("{REQUEST_SECONDS}_sum"), &labels);
        sum / self.sum(&format!("{REQUEST_SECONDS}_count"), &labels)
    }
}

#[cfg(test)]
mod tests {
    use super::Meters;

    const TEXT: &str = "# TYPE x counter\n\
        aquifer_bucket_requests_total{purpose=\"wal\",operation=\"put\"} 7\n\
        aquifer_bucket_requests_total{purpose=\"flush\",operation=\"put\"} 2\n\
        aquifer_bucket_requests_total{purpose=\"wal\",operation=\"get\"} 9\n\
        aquifer_bucket_request_seconds_bucket{le=\"0.064\",purpose=\"wal\",operation=\"put\"} 5\n\
        aquifer_bucket_request_seconds_bucket{le=\"0.128\",purpose=\"wal\",operation=\"put\"} 10\n\
        aquifer_bucket_request_seconds_bucket{le=\"+Inf\",purpose=\"wal\",operation=\"put\"} 10\n\
        aquifer_wal_bytes_total 100\n";

    #[test]
    fn counters_and_quantiles_are_read_from_the_text() {
        let meters = Meters::parse(TEXT);
        assert_eq!((meters.puts("wal"), meters.all_puts()), (7.0, 9.0));
        assert_eq!(meters.get("aquifer_wal_bytes_total"), 100.0);
        assert_eq!(meters.wal_put_seconds(0.5), Some(0.064));
        assert_eq!(meters.wal_put_seconds(0.75), Some(0.096));
        assert_eq!(meters.since(&meters).puts("wal"), 0.0);
    }
}
