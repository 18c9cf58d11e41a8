//! What a run found, step by step, and the table at its end.
//!
//! Owns: counting, the table, the closing line `N passed, N failed, N skipped`.
//! Does not own: how a step is run.

use std::path::Path;
use std::time::Duration;

/// One line of the final table.
#[derive(Debug, Default)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) passed: usize,
    pub(crate) skipped: usize,
    /// One text a failure; the row failed if there is any.
    pub(crate) failures: Vec<String>,
    /// Remarks for the table: why it was skipped, what was measured.
    pub(crate) notes: Vec<String>,
    pub(crate) elapsed: Duration,
}

impl Row {
    pub(crate) fn new(name: impl Into<String>) -> Row {
        Row { name: name.into(), ..Row::default() }
    }

    /// A whole step that could not run.
    pub(crate) fn skipped(name: impl Into<String>, reason: impl Into<String>) -> Row {
        Row { skipped: 1, notes: vec![reason.into()], ..Row::new(name) }
    }

    /// One check with its outcome.
    pub(crate) fn check(&mut self, name: &str, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => self.passed += 1,
            Err(reason) => self.failures.push(format!("{name}: {reason}")),
        }
    }

    /// Adds the lines `ok - …`, `not ok - …`, `ok - … # SKIP …` and `# remark` of a client program.
    pub(crate) fn add_program_output(&mut self, text: &str) {
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("not ok - ") {
                self.failures.push(rest.to_owned());
            } else if let Some(rest) = line.strip_prefix("ok - ") {
                match rest.split_once("# SKIP") {
                    None => self.passed += 1,
                    Some((name, reason)) => {
                        self.skipped += 1;
                        self.notes.push(format!("skipped {}: {}", name.trim(), reason.trim()));
                    }
                }
            } else if let Some(remark) = line.strip_prefix("# ") {
                self.notes.push(remark.to_owned());
            }
        }
    }

    fn verdict(&self) -> &'static str {
        match (self.failures.is_empty(), self.passed) {
            (false, _) => "FAILED",
            (true, 0) => "SKIPPED",
            (true, _) => "passed",
        }
    }

    /// Prints the row at once, so that a long run can be watched.
    pub(crate) fn announce(&self) {
        println!(
            "{:<8} {:<28} {:>5} passed {:>3} failed {:>3} skipped {:>7.1} s",
            self.verdict(),
            self.name,
            self.passed,
            self.failures.len(),
            self.skipped,
            self.elapsed.as_secs_f64()
        );
        for failure in &self.failures {
            println!("         FAILED {failure}");
        }
        for note in &self.notes {
            println!("         {note}");
        }
    }
}

/// Everything that ran.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

impl Report {
    pub(crate) fn add(&mut self, row: Row) {
        row.announce();
        self.rows.push(row);
    }

    pub(crate) fn failed(&self) -> bool {
        self.rows.iter().any(|row| !row.failures.is_empty())
    }

    /// The table and the closing line. `logs` is where details are.
    pub(crate) fn finish(&self, logs: &Path) {
        println!("\n== summary (logs in {})", logs.display());
        self.rows.iter().for_each(Row::announce);
        let skipped_whole = || self.rows.iter().filter(|row| row.verdict() == "SKIPPED");
        if skipped_whole().next().is_some() {
            println!("\n!! NOT COVERED BY THIS RUN:");
            for row in skipped_whole() {
                println!("!!   {}: {}", row.name, row.notes.join("; "));
            }
        }
        let sum = |count: fn(&Row) -> usize| self.rows.iter().map(count).sum::<usize>();
        println!(
            "\n{} passed, {} failed, {} skipped",
            sum(|row| row.passed),
            sum(|row| row.failures.len()),
            sum(|row| row.skipped)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::Row;

    #[test]
    fn program_output_is_counted() {
        let mut row = Row::new("x");
        row.add_program_output(
            "ok - a (0.1 s)\nnoise\nnot ok - b # it broke\nok - c # SKIP no tool\n# 7 ms\n",
        );
        assert_eq!((row.passed, row.failures.len(), row.skipped), (1, 1, 1));
        assert_eq!(row.notes, ["skipped c: no tool", "7 ms"]);
        assert_eq!(row.verdict(), "FAILED");
    }
}
