//! The results of suites, kept in `target/suites/results.json` and shown in `results.md` beside it.
//!
//! Runs add to each other: a page may be of several days and binaries, so it is for reading and not for publishing.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::{Case, Outcome};
use crate::broker::Kind;
use crate::workspace::Workspace;

const HEAD: &str = "# Other people's test suites\n\n\
    `cargo xtask suites` runs them against Aquifer, `cargo xtask suites --broker kafka` against Apache Kafka\n\
    4.3.1 with the same settings, on one node. Each row is of the latest run of that suite. What may\n\
    fail stands with its reason in `tests/suites/known.toml`; anything else fails the run.\n\n";

/// By suite, then by broker.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Results(BTreeMap<String, BTreeMap<String, Vec<Case>>>);

impl Results {
    pub(crate) fn read(workspace: &Workspace) -> Result<Results> {
        match std::fs::read_to_string(folder(workspace).join("results.json")) {
            Ok(text) => Ok(serde_json::from_str(&text)?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Results::default()),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn put(&mut self, suite: &str, broker: Kind, cases: Vec<Case>) {
        self.0.entry(suite.to_owned()).or_default().insert(name(broker).to_owned(), cases);
    }

    pub(crate) fn write(&self, workspace: &Workspace) -> Result<()> {
        let folder = folder(workspace);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("results.json"), serde_json::to_string_pretty(self)? + "\n")?;
        std::fs::write(folder.join("results.md"), self.page()?)?;
        println!("wrote {}", folder.join("results.md").display());
        Ok(())
    }

    fn page(&self) -> Result<String> {
        let mut page = HEAD.to_owned();
        page.push_str("| suite | broker | cases | passed | failed | skipped |\n");
        page.push_str("| --- | --- | ---: | ---: | ---: | ---: |\n");
        for (suite, brokers) in &self.0 {
            for (broker, cases) in brokers {
                let [passed, failed, skipped] = counts(cases);
                let all = cases.len();
                writeln!(page, "| {suite} | {broker} | {all} | {passed} | {failed} | {skipped} |")?;
            }
        }
        for (suite, brokers) in &self.0 {
            for (broker, cases) in brokers {
                let others: Vec<&Case> =
                    cases.iter().filter(|case| case.outcome != Outcome::Passed).collect();
                if others.is_empty() {
                    continue;
                }
                writeln!(page, "\n## {suite}: {broker}\n")?;
                for case in others {
                    let verdict = verdict(case.outcome);
                    let line = case.detail.lines().next().unwrap_or_default();
                    let detail: String = line.chars().take(200).collect();
                    writeln!(page, "- {verdict} `{}`: {detail}", case.name)?;
                }
            }
        }
        Ok(page)
    }
}

fn folder(workspace: &Workspace) -> PathBuf {
    workspace.target.join("suites")
}

/// Prints a suite's line at once, so that a long run can be watched.
pub(crate) fn announce(suite: &str, cases: &[Case], elapsed: Duration) {
    let [passed, failed, skipped] = counts(cases);
    let seconds = elapsed.as_secs_f64();
    println!(
        "{suite:<32} {passed:>4} passed {failed:>3} failed {skipped:>3} skipped {seconds:>7.1} s"
    );
    for case in cases.iter().filter(|case| case.outcome != Outcome::Passed) {
        println!("   {:<8} {}: {}", verdict(case.outcome), case.name, case.detail);
    }
}

fn counts(cases: &[Case]) -> [usize; 3] {
    [Outcome::Passed, Outcome::Failed, Outcome::Skipped]
        .map(|wanted| cases.iter().filter(|case| case.outcome == wanted).count())
}

fn verdict(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Passed => "passed",
        Outcome::Failed => "failed",
        Outcome::Skipped => "skipped",
    }
}

fn name(broker: Kind) -> &'static str {
    match broker {
        Kind::Aquifer => "Aquifer",
        Kind::Kafka => "Kafka 4.3.1",
    }
}
