//! Values by metric and system over the rounds: medians, ratios, a Markdown table, JSON.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Value, json};

/// Metrics in the order in which they were first measured.
#[derive(Debug, Default)]
pub(super) struct Results {
    metrics: Vec<String>,
    values: BTreeMap<(String, String), Vec<f64>>,
}

impl Results {
    pub(super) fn add(&mut self, system: &str, metric: &str, value: f64) {
        if !self.metrics.iter().any(|known| known == metric) {
            self.metrics.push(metric.to_owned());
        }
        self.values.entry((metric.to_owned(), system.to_owned())).or_default().push(value);
    }

    fn median(&self, metric: &str, system: &str) -> Option<f64> {
        let mut values = self.values.get(&(metric.to_owned(), system.to_owned()))?.clone();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        Some(if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        })
    }

    /// Medians, and how many times the first system's value each other system's is.
    pub(super) fn table(&self, systems: &[&str]) -> String {
        let mut table = String::from("| median of rounds |");
        let mut rule = String::from("|---|");
        for (index, system) in systems.iter().enumerate() {
            let _ = write!(table, " {system} |");
            rule.push_str("---:|");
            if index > 0 {
                let _ = write!(table, " {system} / {} |", systems[0]);
                rule.push_str("---:|");
            }
        }
        let _ = write!(table, "\n{rule}");
        for metric in &self.metrics {
            let _ = write!(table, "\n| {metric} |");
            let first = systems.first().and_then(|system| self.median(metric, system));
            for (index, system) in systems.iter().enumerate() {
                let value = self.median(metric, system);
                let _ = write!(table, " {} |", shown(value));
                if index > 0 {
                    let ratio = value.zip(first).filter(|(_, first)| *first > 0.0);
                    let _ =
                        write!(table, " {} |", shown(ratio.map(|(value, first)| value / first)));
                }
            }
        }
        table
    }

    pub(super) fn json(&self) -> Value {
        let rows = self.values.iter().map(|((metric, system), values)| {
            let median = self.median(metric, system);
            json!({ "metric": metric, "system": system, "rounds": values, "median": median })
        });
        Value::Array(rows.collect())
    }
}

fn shown(value: Option<f64>) -> String {
    match value {
        None => String::new(),
        Some(value) if value.abs() >= 100.0 => format!("{value:.0}"),
        Some(value) if value.abs() >= 10.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::Results;

    #[test]
    fn the_table_shows_medians_and_ratios() {
        let mut results = Results::default();
        for (system, value) in [("a", 1.0), ("a", 3.0), ("a", 2.0), ("b", 4.0), ("b", 6.0)] {
            results.add(system, "x", value);
        }
        let table = results.table(&["a", "b"]);
        assert!(table.ends_with("| x | 2.00 | 5.00 | 2.50 |"), "{table}");
    }
}
