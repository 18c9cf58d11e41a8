//! `cargo xtask anomalies --planted`: plants known bugs one at a time in a copy of the sources, and shows which checks
//! find them in what the clients saw.
//!
//! Owns: the hunt, the table. Does not own: the copy of the sources (`sim::planted`), the bugs (`planted.toml`).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::place::Place;
use super::{Rounds, Totals};
use crate::broker::Program;
use crate::process::{self, Output};
use crate::sim::planted::{Patch, copy};
use crate::workspace::Workspace;

const LIST: &str = "crates/xtask/src/anomalies/planted.toml";
const BUILD_LIMIT: Duration = Duration::from_secs(30 * 60);
/// A bug is hunted through so many rounds, of this length, on places in turn.
const ROUNDS_MAX: u64 = 6;
const ROUND: Duration = Duration::from_secs(20);

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
    /// The numbers of the checks that may catch it.
    by: Vec<u8>,
}

/// Plants every bug whose name contains `only`.
pub(super) fn run(workspace: &Workspace, folder: &Path, only: &str) -> Result<()> {
    let text = std::fs::read_to_string(workspace.root.join(LIST)).context(LIST)?;
    let bugs = toml::from_str::<List>(&text).context(LIST)?.bug;
    let tree = workspace.root.join("target/planted/tree");
    let log = process::fresh_folder(folder.to_owned())?.join("build.log");
    copy(workspace, &tree)?;
    println!("| planted | caught by | rounds | seconds |");
    println!("| --- | --- | ---: | ---: |");
    let mut missed = Vec::new();
    for bug in bugs.iter().filter(|it| it.name.contains(only)) {
        let patch = Patch { file: tree.join(&bug.file), find: &bug.find, replace: &bug.replace };
        let binary = patch.within(|| build(&tree, &log).with_context(|| bug.name.clone()))?;
        let started = Instant::now();
        let (found, rounds) = hunt(&binary, &process::fresh_folder(folder.join(&bug.name))?)?;
        let seconds = started.elapsed().as_secs();
        println!("| {} | {} | {rounds} | {seconds} |", bug.what, found.join(", "));
        let expected = |it: &String| bug.by.iter().any(|by| *it == format!("K{by}"));
        if !found.iter().any(expected) {
            missed.push(bug.name.as_str());
        }
    }
    if !missed.is_empty() {
        bail!("not caught by a check it is listed for: {}", missed.join(", "));
    }
    Ok(())
}

fn build(tree: &Path, log: &Path) -> Result<PathBuf> {
    let target = tree.with_file_name("target");
    let mut build = Command::new("cargo");
    build.current_dir(tree).env("CARGO_TARGET_DIR", &target);
    build.args(["build", "--package", "aquifer", "--package", "fake-s3", "--bins"]);
    let finished = process::run(&mut build, &Output::Log(log), BUILD_LIMIT)?;
    ensure!(finished.succeeded(), "it does not build\n{}", process::tail(log, 20));
    Ok(target.join("debug").join("aquifer"))
}

/// Which checks found it, or that the broker did not come through, and after how many rounds.
fn hunt(binary: &Path, folder: &Path) -> Result<(Vec<String>, u64)> {
    let program = Program::Aquifer(binary.to_owned());
    let places = [Place::Store, Place::Directory, Place::Volume];
    for (nth, place) in (0..ROUNDS_MAX).zip(places.iter().cycle()) {
        let mut totals = Totals::default();
        let rounds = Rounds { program: &program, folder, each: ROUND };
        if let Err(error) = rounds.one(nth, *place, 1_000 + nth, &mut totals) {
            return Ok((vec![format!("the broker: {error:#}").replace(['\n', '|'], " ")], nth + 1));
        }
        if !totals.found.is_empty() {
            return Ok((totals.found.keys().map(ToString::to_string).collect(), nth + 1));
        }
    }
    Ok((vec!["**nothing**".to_owned()], ROUNDS_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

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
