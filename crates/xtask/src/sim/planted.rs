//! `cargo xtask sim --planted`: plants known bugs one at a time in a copy of the sources, and shows which
//! simulation or property test fails, and after how many seeds.
//!
//! Owns: the hunt. Does not own: planting and the table (`planted`), the bugs (`crates/simulator/planted.toml`), the
//! tests.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::planted::{self, Bug, Hunted};
use crate::process::{self, Output};
use crate::workspace::Workspace;

const LIST: &str = "crates/simulator/planted.toml";

/// One test with its build.
const TEST_LIMIT: Duration = Duration::from_secs(15 * 60);

/// Seeds of whole nodes that a bug has to be found by.
const NODE_SEEDS: &str = "0..100";

#[derive(Debug, Clone, Copy, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Test {
    /// Whole nodes.
    Node,
    /// Brokers that take over each other's logs in the bucket.
    Takeovers,
    /// The log on a volume.
    Volume,
    /// The log in the bucket under a store that the test controls.
    Objects,
    /// The log engine: flush, merge, crash, retention.
    Engine,
    /// Rules of the metadata, over a model.
    Metadata,
    /// The database that the metadata is kept in.
    Database,
}

impl Test {
    fn name(self) -> &'static str {
        match self {
            Test::Node => "node",
            Test::Takeovers => "takeovers",
            Test::Volume => "volume",
            Test::Objects => "objects",
            Test::Engine => "engine",
            Test::Metadata => "metadata",
            Test::Database => "database",
        }
    }

    fn arguments(self) -> &'static [&'static str] {
        match self {
            Test::Node => &["-p", "simulator", "--test", "seeds"],
            Test::Takeovers => &["-p", "partition-log", "--lib", "wal::tests::takeovers"],
            Test::Volume => &["-p", "partition-log", "--lib", "wal::tests::simulation"],
            Test::Objects => &["-p", "partition-log", "--lib", "wal::tests::objects"],
            Test::Engine => &["-p", "partition-log", "--lib", "engine::tests"],
            Test::Metadata => &["-p", "cluster", "--lib", "state::tests"],
            Test::Database => &["-p", "cluster", "--lib", "store::"],
        }
    }
}

/// What became of one bug.
struct Caught {
    by: Test,
    /// Of seeds tried in order, the first that failed; where the test has seeds.
    seed: Option<u64>,
    says: String,
}

/// Plants every bug whose name contains `only`.
pub(super) fn run(workspace: &Workspace, only: &str) -> Result<()> {
    let logs = process::fresh_folder(workspace.root.join("target/planted/logs"))?;
    let head = ["where", "caught by", "seeds", "what is said"];
    planted::run(workspace, LIST, only, &head, |bug, tree| {
        let caught = hunt(bug, tree, &logs.join(format!("{}.log", bug.name)))?;
        let place = bug.file.strip_prefix("crates").unwrap_or(&bug.file).display().to_string();
        let place = format!("`{}`", place.replace("/src/", "/"));
        let is_caught = caught.is_some();
        let columns = match caught {
            Some(Caught { by, seed, says }) => {
                let seeds = seed.map_or("-".to_owned(), |it| (it + 1).to_string());
                vec![place, by.name().to_owned(), seeds, says]
            }
            None => vec![place, "**nothing**".to_owned(), String::new(), String::new()],
        };
        Ok(Hunted { columns, is_caught })
    })
}

/// The tests of the bug are tried in order, the cheapest first.
fn hunt(bug: &Bug<Test>, tree: &Path, log: &Path) -> Result<Option<Caught>> {
    for test in &bug.by {
        let cargo = |more: &[&str]| {
            let mut command = Command::new("cargo");
            command.current_dir(tree).arg("test").args(test.arguments()).args(more);
            command.env("CARGO_TARGET_DIR", tree.with_file_name("target"));
            command.env("SIM_SEEDS", NODE_SEEDS).env("SIM_FAIL_FAST", "1");
            command.env("RUST_BACKTRACE", "0");
            command
        };
        let built = process::run(&mut cargo(&["--no-run"]), &Output::Log(log), TEST_LIMIT)?;
        ensure!(built.succeeded(), "{}: it does not build, see {}", bug.name, log.display());
        let finished = process::run(&mut cargo(&[]), &Output::Log(log), TEST_LIMIT)?;
        if !finished.succeeded() {
            let text = std::fs::read_to_string(log)?;
            return Ok(Some(Caught { by: *test, seed: first_seed(&text), says: told(&text) }));
        }
    }
    Ok(None)
}

/// The lowest seed that a test names as failing.
fn first_seed(log: &str) -> Option<u64> {
    let seeds = log.match_indices("SIM_SEED=").filter_map(|(at, mark)| {
        let digits = log[at + mark.len()..].split(|it: char| !it.is_ascii_digit()).next()?;
        digits.parse().ok()
    });
    seeds.min()
}

/// The first line of the first panic, cut to what fits a table.
fn told(log: &str) -> String {
    const CHARS_MAX: usize = 90;
    let mut lines = log.lines().skip_while(|it| !it.contains("panicked at"));
    let said = lines.nth(1).unwrap_or("a test fails").replace('|', "/");
    said.chars().take(CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_tells_the_first_seed_and_what_was_said() {
        let log = "thread 'x' panicked at a.rs:1:2:\nA1: gone | lost\nnote: more\n\
                   run one of them alone: [\n\"SIM_SEED=7: A1: gone | lost\",\n\"SIM_SEED=3: A2\",\n]\n";
        assert_eq!(first_seed(log), Some(3));
        assert_eq!(told(log), "A1: gone / lost");
        assert_eq!((first_seed("ok"), &*told("ok")), (None, "a test fails"));
    }

    #[test]
    fn every_listed_bug_is_still_possible() {
        planted::check_list::<Test>(LIST);
    }
}
