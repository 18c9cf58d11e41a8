//! What an examination found: which promise is broken, where exactly, and what that means.
//!
//! Owns: the words of a report, its limits. Does not own: finding anything, printing (`row`).

use std::fmt;
use std::ops::Range;

use crate::row::Row;

/// Findings and notes that a report keeps of each; more are only counted.
const LINES_MAX: usize = 1000;

/// The promise that a check is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// Acknowledged means durable.
    A1,
    /// Readers never see what is not durable.
    A2,
    /// Runs cover the log without gap or overlap.
    A3,
    /// The storage stops an old leader.
    A4,
    /// A retry gets its first offset.
    A5,
    /// What is referenced exists and is intact.
    A6,
    /// What is not referenced gets swept.
    A7,
    /// read_committed means it.
    A8,
    /// Not an invariant of its own: every entry of the metadata can be decoded.
    Metadata,
}

impl Invariant {
    pub fn name(self) -> &'static str {
        match self {
            Invariant::A1 => "A1",
            Invariant::A2 => "A2",
            Invariant::A3 => "A3",
            Invariant::A4 => "A4",
            Invariant::A5 => "A5",
            Invariant::A6 => "A6",
            Invariant::A7 => "A7",
            Invariant::A8 => "A8",
            Invariant::Metadata => "metadata",
        }
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub invariant: Invariant,
    /// A key of the bucket, a file, or what of the metadata.
    pub object: String,
    /// The bytes of the object that are concerned, where it is not all of it.
    pub range: Option<Range<u64>>,
    pub what: String,
    pub safe: &'static str,
    pub advice: &'static str,
}

impl Finding {
    pub(crate) fn row(&self) -> Row {
        Row::new("finding")
            .with("invariant", self.invariant.name())
            .with("object", self.object.as_str())
            .with("from_byte", self.range.as_ref().map(|it| it.start))
            .with("to_byte", self.range.as_ref().map(|it| it.end))
            .with("what", self.what.as_str())
            .with("safe", self.safe)
            .with("advice", self.advice)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.invariant, self.object)?;
        if let Some(range) = &self.range {
            write!(f, ", bytes {} to {}", range.start, range.end)?;
        }
        write!(f, ": {}\n  safe: {}\n  do: {}", self.what, self.safe, self.advice)
    }
}

/// How much of something was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Check {
    invariant: Invariant,
    what: &'static str,
    count: u64,
}

/// What an examination gives.
#[derive(Debug, Clone, Default)]
pub struct Report {
    checks: Vec<Check>,
    findings: Vec<Finding>,
    findings_count: u64,
    notes: Vec<String>,
    notes_count: u64,
}

impl Report {
    pub fn is_healthy(&self) -> bool {
        self.findings_count == 0
    }

    /// At most a thousand of them; see [`Report::findings_count`].
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    pub fn findings_count(&self) -> u64 {
        self.findings_count
    }

    /// What is worth knowing and not wrong.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Everything, as rows to print.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for check in &self.checks {
            let row = Row::new("check").with("invariant", check.invariant.name());
            rows.push(row.with("checked", check.what).with("count", check.count));
        }
        let not_checked = Row::new("check").with("invariant", "A8");
        rows.push(
            not_checked.with("checked", "not checked: no transactions yet").with("count", 0u64),
        );
        rows.extend(self.notes.iter().map(|it| Row::new("note").with("note", it.as_str())));
        rows.extend(self.findings.iter().map(Finding::row));
        let verdict = if self.is_healthy() { "healthy" } else { "damaged" };
        rows.push(
            Row::new("summary")
                .with("verdict", verdict)
                .with("findings", self.findings_count)
                .with("findings_shown", self.findings.len() as u64)
                .with("notes", self.notes_count),
        );
        rows
    }

    /// Whether one of the checks looked at `count` of these. For tests of the examination itself.
    pub fn checked(&self, what: &str) -> Option<u64> {
        self.checks.iter().find(|it| it.what == what).map(|it| it.count)
    }

    pub(crate) fn count(&mut self, invariant: Invariant, what: &'static str, count: u64) {
        let same = |it: &&mut Check| it.invariant == invariant && it.what == what;
        match self.checks.iter_mut().find(same) {
            Some(check) => check.count += count,
            None => self.checks.push(Check { invariant, what, count }),
        }
    }

    pub(crate) fn find(&mut self, finding: Finding) {
        self.findings_count += 1;
        if self.findings.len() < LINES_MAX {
            self.findings.push(finding);
        }
    }

    pub(crate) fn note(&mut self, note: String) {
        self.notes_count += 1;
        if self.notes.len() < LINES_MAX {
            self.notes.push(note);
        }
    }
}
