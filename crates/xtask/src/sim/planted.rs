//! `cargo xtask sim --planted`: plants known bugs one at a time in a copy of the sources, and shows which
//! simulation or property test fails, and after how many seeds.
//!
//! Owns: the copy, planting, the table. Does not own: the bugs (`crates/simulator/planted.toml`), the tests.
//!
//! A bug is a piece of text that occurs once in a file, and what is put in its place. Text that is not found
//! any more is an error: the code has changed, and whether the bug would still be caught is not known.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::process::{self, Output};
use crate::workspace::Workspace;

const LIST: &str = "crates/simulator/planted.toml";

/// One test with its build.
const TEST_LIMIT: Duration = Duration::from_secs(15 * 60);

/// Seeds of whole nodes that a bug has to be found by.
const NODE_SEEDS: &str = "0..100";

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    bug: Vec<Bug>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Bug {
    name: String,
    /// What the broker does wrong.
    what: String,
    file: PathBuf,
    find: String,
    replace: String,
    /// The tests that may catch it, the cheapest first.
    by: Vec<Test>,
}

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
    let text = std::fs::read_to_string(workspace.root.join(LIST)).context(LIST)?;
    let bugs = toml::from_str::<List>(&text).context(LIST)?.bug;
    let names: BTreeSet<&str> = bugs.iter().map(|it| &*it.name).collect();
    ensure!(names.len() == bugs.len(), "two bugs of {LIST} have one name");
    let tree = workspace.root.join("target/planted/tree");
    let logs = process::fresh_folder(workspace.root.join("target/planted/logs"))?;
    copy(workspace, &tree)?;
    println!("| planted | where | caught by | seeds | what is said |");
    println!("| --- | --- | --- | ---: | --- |");
    let mut missed = Vec::new();
    for bug in bugs.iter().filter(|it| it.name.contains(only)) {
        let patch = Patch { file: tree.join(&bug.file), find: &bug.find, replace: &bug.replace };
        let started = Instant::now();
        let log = logs.join(format!("{}.log", bug.name));
        let caught = patch.within(|| hunt(bug, &tree, &log)).with_context(|| bug.name.clone())?;
        let place = bug.file.strip_prefix("crates").unwrap_or(&bug.file).display().to_string();
        let place = place.replace("/src/", "/");
        match caught {
            Some(Caught { by, seed, says }) => {
                let seeds = seed.map_or("-".to_owned(), |it| (it + 1).to_string());
                println!("| {} | `{place}` | {} | {seeds} | {says} |", bug.what, by.name());
            }
            None => {
                println!("| {} | `{place}` | **nothing** | | |", bug.what);
                missed.push(bug.name.as_str());
            }
        }
        eprintln!("{}: {:.0} s", bug.name, started.elapsed().as_secs_f64());
    }
    if !missed.is_empty() {
        bail!("not caught: {}", missed.join(", "));
    }
    Ok(())
}

/// A change of one file, by its text.
pub(crate) struct Patch<'a> {
    pub(crate) file: PathBuf,
    pub(crate) find: &'a str,
    pub(crate) replace: &'a str,
}

impl Patch<'_> {
    /// The file is changed while `body` runs.
    pub(crate) fn within<T>(&self, body: impl FnOnce() -> Result<T>) -> Result<T> {
        let whole = std::fs::read_to_string(&self.file)?;
        let places = whole.matches(self.find).count();
        ensure!(places == 1, "its text is found {places} times in {:?}", self.file);
        std::fs::write(&self.file, whole.replace(self.find, self.replace))?;
        let outcome = body();
        std::fs::write(&self.file, whole)?;
        outcome
    }
}

fn hunt(bug: &Bug, tree: &Path, log: &Path) -> Result<Option<Caught>> {
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

/// What git knows, as it is now. Unchanged files keep their times, so that nothing is built again for them.
pub(crate) fn copy(workspace: &Workspace, tree: &Path) -> Result<()> {
    let listed = Command::new("git")
        .current_dir(&workspace.root)
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .output()
        .context("git ls-files")?;
    ensure!(listed.status.success(), "git ls-files failed");
    for name in String::from_utf8(listed.stdout)?.split_terminator('\0') {
        let (from, to) = (workspace.root.join(name), tree.join(name));
        let Ok(bytes) = std::fs::read(&from) else { continue }; // Deleted, or a link to a folder.
        if std::fs::read(&to).is_ok_and(|it| it == bytes) {
            continue;
        }
        std::fs::create_dir_all(to.parent().context("a file is in a folder")?)?;
        std::fs::copy(&from, &to).with_context(|| name.to_owned())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_tells_the_first_seed_and_what_was_said() {
        let log = "seed 7 failed: run it alone with SIM_SEED=7\nthread 'x' panicked at a.rs:1:2:\n\
                   A1: gone | lost\nnote: more\nseed 3 failed: run it alone with SIM_SEED=3\n";
        assert_eq!(first_seed(log), Some(3));
        assert_eq!(told(log), "A1: gone / lost");
        assert_eq!((first_seed("ok"), &*told("ok")), (None, "a test fails"));
    }

    /// Whether a bug can still be planted costs nothing to know.
    #[test]
    fn every_listed_bug_is_still_possible() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let text = std::fs::read_to_string(root.join(LIST)).expect("the list");
        let bugs = toml::from_str::<List>(&text).expect("it is well-formed").bug;
        for bug in bugs {
            let file = std::fs::read_to_string(root.join(&bug.file)).expect("the file is there");
            assert_eq!(file.matches(&bug.find).count(), 1, "{}: {:?}", bug.name, bug.file);
            assert!(!bug.by.is_empty() && bug.find != bug.replace, "{}", bug.name);
        }
    }
}
