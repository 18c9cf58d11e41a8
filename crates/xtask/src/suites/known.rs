//! What is known to fail or to be skipped, and why: `tests/suites/known.toml`.

use anyhow::{Context, Result};
use serde::Deserialize;

use super::{Case, Outcome};
use crate::broker::Kind;
use crate::workspace::Workspace;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Known {
    #[serde(rename = "known")]
    entries: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// The beginning of the suite's name.
    suite: String,
    cases: Vec<String>,
    on: On,
    status: Status,
    reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    /// The reason says it all: what the case wants is not there, or the case is at fault.
    Explained,
    /// Why it fails is not known, or it waits for its repair.
    Open,
    /// It fails now and then, by a race of its own: that it passes is no news.
    Racy,
}

/// On which broker the cases fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum On {
    Aquifer,
    Kafka,
    Both,
}

impl On {
    fn is(self, broker: Kind) -> bool {
        match self {
            On::Both => true,
            On::Aquifer => broker == Kind::Aquifer,
            On::Kafka => broker == Kind::Kafka,
        }
    }
}

impl Known {
    pub(crate) fn read(workspace: &Workspace) -> Result<Known> {
        let path = workspace.root.join("tests").join("suites").join("known.toml");
        let text = std::fs::read_to_string(&path).context("tests/suites/known.toml")?;
        toml::from_str(&text).context("tests/suites/known.toml")
    }

    /// Gives known failures and skips their reason; returns what nobody expected.
    pub(crate) fn judge(&self, suite: &str, broker: Kind, cases: &mut [Case]) -> Vec<String> {
        let mut unexpected = Vec::new();
        for case in cases {
            let entry = self.entries.iter().find(|entry| {
                suite.starts_with(&entry.suite)
                    && entry.on.is(broker)
                    && entry.cases.contains(&case.name)
            });
            match (case.outcome, entry) {
                (Outcome::Passed, Some(entry)) if entry.status == Status::Racy => (),
                (Outcome::Passed, Some(_)) => {
                    println!("   passes now, though known to fail: {}", case.name);
                }
                (Outcome::Failed | Outcome::Skipped, Some(entry)) => {
                    case.detail = match entry.status {
                        Status::Explained => entry.reason.clone(),
                        Status::Racy => format!("now and then: {}", entry.reason),
                        Status::Open => format!("open: {}", entry.reason),
                    };
                }
                (Outcome::Failed, None) => {
                    unexpected.push(format!("{}: {}", case.name, case.detail))
                }
                (Outcome::Skipped, None) if case.detail.is_empty() => {
                    unexpected.push(format!("{}: skipped without a reason", case.name));
                }
                (Outcome::Passed | Outcome::Skipped, None) => {}
            }
        }
        unexpected
    }
}

#[cfg(test)]
mod tests {
    use super::{Case, Entry, Kind, Known, Status};
    use crate::suites::SUITES;
    use crate::workspace::Workspace;

    const TEXT: &str = "[[known]]\nsuite = 'a'\ncases = ['x', 'y']\non = 'aquifer'\nstatus = 'open'\n\
        reason = 'why'\n";

    #[test]
    fn what_is_not_known_is_a_regression_and_what_is_gets_its_reason() {
        let known: Known = toml::from_str(TEXT).expect("it parses");
        let cases =
            || [Case::failed("x", "boom"), Case::failed("z", "bang"), Case::skipped("s", "")];
        let mut ours = cases();
        let found = known.judge("a b", Kind::Aquifer, &mut ours);
        assert_eq!(found, ["z: bang", "s: skipped without a reason"]);
        assert_eq!(ours[0].detail, "open: why");
        let racy: Known = toml::from_str(&TEXT.replace("open", "racy")).expect("it parses");
        let mut ours = [Case::failed("x", "boom"), Case::passed("y")];
        assert_eq!(racy.judge("a b", Kind::Aquifer, &mut ours), [""; 0]);
        assert_eq!(ours[0].detail, "now and then: why");
        assert_eq!(known.judge("a b", Kind::Kafka, &mut cases()).len(), 3);
        assert_eq!(known.judge("other", Kind::Aquifer, &mut cases()).len(), 3);
    }

    #[test]
    fn known_cases_belong_to_suites_that_exist() {
        let workspace = Workspace::find().expect("a workspace");
        let known = Known::read(&workspace).expect("it reads");
        for Entry { suite: name, cases, status, reason, .. } in &known.entries {
            assert!(SUITES.iter().any(|suite| suite.name.starts_with(name)), "{name}");
            assert!(!reason.is_empty() && !cases.is_empty(), "{cases:?}: {reason:?}");
            let unknown = reason.contains("not investigated");
            assert!(!unknown || *status == Status::Open, "{cases:?}: nothing explains them");
        }
    }
}
