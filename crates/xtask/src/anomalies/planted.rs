//! `cargo xtask anomalies --planted`: plants known bugs one at a time in a copy of the sources, and shows which checks
//! find them in what the clients saw.
//!
//! Owns: the hunt. Does not own: planting and the table (`planted`), the bugs (`planted.toml`).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::place::Place;
use super::{Rounds, Totals};
use crate::broker::Program;
use crate::planted::{self, Bug, Hunted};
use crate::process::{self, Output};
use crate::workspace::Workspace;

const LIST: &str = "crates/xtask/src/anomalies/planted.toml";
const BUILD_LIMIT: Duration = Duration::from_secs(30 * 60);
/// A bug is hunted through so many rounds, of this length, on places in turn.
const ROUNDS_MAX: u64 = 6;
const ROUND: Duration = Duration::from_secs(20);

/// Plants every bug whose name contains `only`. A bug's `by` are the numbers of the checks that may catch it.
pub(super) fn run(workspace: &Workspace, folder: &Path, only: &str) -> Result<()> {
    let log = process::fresh_folder(folder.to_owned())?.join("build.log");
    let head = ["caught by", "rounds", "seconds"];
    planted::run(workspace, LIST, only, &head, |bug: &Bug<u8>, tree| {
        let binary = build(tree, &log)?;
        let started = Instant::now();
        let (found, rounds) = hunt(&binary, &process::fresh_folder(folder.join(&bug.name))?)?;
        let seconds = started.elapsed().as_secs().to_string();
        let expected = |it: &String| bug.by.iter().any(|by| *it == format!("K{by}"));
        let is_caught = found.iter().any(expected);
        Ok(Hunted { columns: vec![found.join(", "), rounds.to_string(), seconds], is_caught })
    })
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

    #[test]
    fn every_listed_bug_is_still_possible() {
        planted::check_list::<u8>(LIST);
    }
}
