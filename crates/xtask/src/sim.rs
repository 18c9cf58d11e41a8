//! `cargo xtask sim`: lives simulated nodes, seed after seed, for as long as it is told to.
//!
//! Owns: which seeds, for how long, the summary. Does not own: what a seed does and checks (the crate
//! `simulator`, whose own test runs the same on a fixed range).

mod planted;

use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use crate::process::{self, Output};
use crate::workspace::Workspace;

const BUILD_LIMIT: Duration = Duration::from_secs(30 * 60);

/// One round of seeds takes seconds to minutes; one that takes longer hangs.
const ROUND_LIMIT: Duration = Duration::from_secs(30 * 60);

/// Failing seeds after which it is clear that something is broken.
const FAILED_ROUNDS_MAX: usize = 5;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How long to go on, in minutes. The round under way is finished.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// The first seed. Unless told, one that no earlier run had.
    #[arg(long)]
    from: Option<u64>,
    /// Seeds of one round.
    #[arg(long, default_value_t = 96)]
    round: u64,
    /// Cargo profile. `release` lives more seeds an hour and checks fewer assertions.
    #[arg(long, default_value = "dev")]
    profile: String,
    /// Instead: plant the known bugs whose name contains this (all without a text), one at a time, and show
    /// what catches them.
    #[arg(long, num_args = 0..=1, default_missing_value = "")]
    planted: Option<String>,
}

pub(crate) fn run(options: &Options, workspace: &Workspace) -> Result<()> {
    if let Some(only) = &options.planted {
        return planted::run(workspace, only);
    }
    let started = Instant::now();
    let limit = Duration::try_from_secs_f64(options.minutes * 60.0).context("--minutes")?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let first = options.from.unwrap_or(now * 1000);
    let test = |more: &[&str]| {
        let mut command = Command::new("cargo");
        command.current_dir(&workspace.root);
        command.args(["test", "--quiet", "--package", "simulator", "--test", "seeds"]);
        command.args(["--profile", &options.profile]).args(more);
        command
    };
    let built = process::run(&mut test(&["--no-run"]), &Output::Shown, BUILD_LIMIT)?;
    anyhow::ensure!(built.succeeded(), "building: {}", built.describe());

    let (mut next, mut failed) = (first, Vec::new());
    loop {
        let round = format!("{next}..{}", next + options.round);
        println!("== seeds {round}");
        let mut command = test(&["--", "--nocapture"]);
        command.env("SIM_SEEDS", &round);
        let finished = process::run(&mut command, &Output::Shown, ROUND_LIMIT)?;
        next += options.round;
        if !finished.succeeded() {
            println!("seeds {round}: {}", finished.describe());
            failed.push(round);
        }
        if limit <= started.elapsed() || FAILED_ROUNDS_MAX <= failed.len() {
            break;
        }
    }
    println!(
        "{} seeds from {first} in {:.1} min",
        next - first,
        started.elapsed().as_secs_f64() / 60.0
    );
    if !failed.is_empty() {
        bail!("failing seeds are in the rounds {}; run one with SIM_SEED=…", failed.join(", "));
    }
    Ok(())
}
