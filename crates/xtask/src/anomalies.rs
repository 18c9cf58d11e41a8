//! `cargo xtask anomalies`: sends, polls and transactions against the real binary on its bad days, and a checker of
//! what they saw.
//!
//! Owns: rounds, their length, what is kept of them, the report. Does not own: where a broker lives (`place`), the bad
//! days (`days`), the clients (`workload`), what they noted (`history`), what counts as an anomaly (`checker`).
//!
//! A run is a row of rounds, each with a broker, a bucket and a topic of its own, so that the checker's memory is that
//! of one round, however long the run. A round ends with calm: what was left open is ended, everything is read, the
//! broker is stopped and started, and everything is read again.

mod checker;
mod days;
mod history;
mod place;
mod planted;
mod workload;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use self::checker::Check;
use self::days::Days;
use self::history::{History, Tally};
use self::place::Lives;
pub(crate) use self::place::Place;
use crate::broker::{Kind, Program};
use crate::process::{self, Output};
use crate::scenarios;
use crate::workspace::Workspace;

const BUILD_LIMIT: Duration = Duration::from_secs(30 * 60);
/// Good days between bad ones, in milliseconds.
const QUIET_MS: [u64; 4] = [300, 1_000, 2_000, 4_000];
/// After so many rounds with anomalies it is clear that something is broken.
const FAILED_ROUNDS_MAX: u32 = 5;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How long, all rounds together. The round under way is finished.
    #[arg(long, default_value_t = 5.0)]
    minutes: f64,
    /// Length of a round in seconds, before its calm end.
    #[arg(long, default_value_t = 60)]
    round: u64,
    /// Fixes the order of bad days and what clients send; not what the machine makes of it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only on this place (may be repeated): where log and bucket are.
    #[arg(long, value_enum)]
    place: Vec<Place>,
    /// Cargo profile of our binary.
    #[arg(long, default_value = "dev")]
    profile: String,
    /// Take this binary instead of building one; `fake-s3` is taken from beside it.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Which broker; `kafka` proves the checks themselves, on its one place, a directory.
    #[arg(long, value_enum, default_value = "aquifer")]
    broker: Kind,
    /// Where histories are written; unset: `target/anomalies`. The last round's is kept, and each with an anomaly.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Instead: check a history that was written before.
    #[arg(long)]
    check: Option<PathBuf>,
    /// Instead: plant the known bugs whose name contains this (all without a text), one at a time, and show what
    /// catches them.
    #[arg(long, num_args = 0..=1, default_missing_value = "")]
    planted: Option<String>,
}

pub(crate) fn run(options: &Options, workspace: &Workspace) -> Result<()> {
    if let Some(path) = &options.check {
        return check_again(path);
    }
    if let Some(only) = &options.planted {
        return planted::run(workspace, &workspace.target.join("anomalies-planted"), only);
    }
    let program = match (options.broker, &options.binary) {
        (Kind::Aquifer, Some(binary)) => Program::Aquifer(std::path::absolute(binary)?),
        (Kind::Aquifer, None) => build(workspace, &options.profile)?,
        (Kind::Kafka, _) => scenarios::program(Kind::Kafka, workspace, &options.profile),
    };
    let length = Duration::try_from_secs_f64(options.minutes * 60.0).context("--minutes")?;
    let each = Duration::from_secs(options.round);
    let folder = options.folder.clone().unwrap_or_else(|| workspace.target.join("anomalies"));
    let places = match options.place.is_empty() {
        true => Place::of(options.broker),
        false => &options.place,
    };
    live(&program, &folder, places, (length, each), options.seed).map(drop)
}

fn check_again(path: &Path) -> Result<()> {
    let history = History::read(path)?;
    println!("{}", history.tally());
    let report = checker::check(&history);
    println!("{} transactions in write cycles that Kafka allows", report.entangled);
    report.lines().iter().for_each(|line| println!("{line}"));
    ensure!(report.is_empty(), "there are anomalies");
    Ok(())
}

/// Rounds on each place in turn, until `length` is over; at least one on each. What happened, for a line of a report.
pub(crate) fn live(
    program: &Program,
    folder: &Path,
    places: &[Place],
    (length, each): (Duration, Duration),
    seed: u64,
) -> Result<String> {
    let folder = process::fresh_folder(std::path::absolute(folder)?)?;
    let (started, mut totals) = (Instant::now(), Totals::default());
    let rounds = Rounds { program, folder: &folder, each };
    for (nth, place) in (0..).zip(places.iter().cycle()) {
        if length <= started.elapsed() && places.len() as u64 <= nth {
            break;
        }
        let seed = seed.wrapping_mul(1_000).wrapping_add(nth);
        if let Err(error) = rounds.one(nth, *place, seed, &mut totals) {
            println!("ANOMALY, seed {seed}: it broke off: {error:#}");
            totals.failed += 1;
        }
        let minutes = started.elapsed().as_secs_f64() / 60.0;
        println!("   so far: {} rounds, {minutes:.1} min; {totals}", nth + 1);
        if totals.failed == FAILED_ROUNDS_MAX {
            break;
        }
    }
    if 0 < totals.failed {
        bail!("{} rounds with anomalies: see {}", totals.failed, folder.display());
    }
    Ok(totals.to_string())
}

fn build(workspace: &Workspace, profile: &str) -> Result<Program> {
    let mut build = Command::new("cargo");
    build.current_dir(&workspace.root).args(["build", "--quiet", "--workspace", "--bins"]);
    build.args(["--profile", profile]);
    let finished = process::run(&mut build, &Output::Shown, BUILD_LIMIT)?;
    ensure!(finished.succeeded(), "building: {}", finished.describe());
    Ok(scenarios::program(Kind::Aquifer, workspace, profile))
}

/// All rounds so far.
#[derive(Debug, Default)]
struct Totals {
    tally: Tally,
    days: Days,
    /// Rounds with anomalies, and of which kinds they were.
    failed: u32,
    found: BTreeMap<Check, usize>,
}

impl std::fmt::Display for Totals {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}; {}", self.tally, self.days)
    }
}

/// What all rounds of a run have in common.
struct Rounds<'a> {
    program: &'a Program,
    folder: &'a Path,
    each: Duration,
}

impl Rounds<'_> {
    fn one(&self, nth: u64, place: Place, seed: u64, totals: &mut Totals) -> Result<()> {
        let (name, each) = (place.name(), self.each);
        println!("== round {nth}, on {name}, seed {seed}, {:.0} s", each.as_secs_f64());
        let lived = self.live(place, seed, totals);
        if lived.is_err() {
            self.keep(seed)?;
        }
        lived.with_context(|| format!("round {nth}, on {name}"))
    }

    fn live(&self, place: Place, seed: u64, totals: &mut Totals) -> Result<()> {
        let mut random = Random(seed);
        let mut lives = Lives::begin(place, self.program, &self.folder.join("round"), seed)?;
        let topic = format!("anomalies-{seed}");
        let work = workload::Work::start(lives.broker.address, topic, seed)?;
        let (started, mut days) = (Instant::now(), Days::default());
        while started.elapsed() < self.each {
            std::thread::sleep(Duration::from_millis(random.one_of(&QUIET_MS)));
            days.one_more(&mut lives, &mut random)?;
        }
        lives.heal()?;
        let mut finished = work.finish()?;
        lives.restart()?;
        finished.read_everything();
        lives.stop()?;
        totals.days.add(days);
        println!("   {days}");
        self.judge(&finished.history, seed, &lives, totals)
    }

    fn judge(
        &self,
        history: &History,
        seed: u64,
        lives: &Lives,
        totals: &mut Totals,
    ) -> Result<()> {
        let (tally, report) = (history.tally(), checker::check(history));
        println!("   {tally}; {} of them in write cycles that Kafka allows", report.entangled);
        totals.tally.add(tally);
        let last = self.folder.join("last.jsonl");
        history.write(&last)?;
        ensure!(0 < tally.acknowledged, "nothing was acknowledged: this round shows nothing");
        ensure!(0 < tally.committed, "nothing was committed: this round shows nothing");
        let complaints = lives.complaints();
        if report.is_empty() && complaints.is_empty() {
            return Ok(());
        }
        totals.failed += 1;
        for (check, count) in report.counts() {
            *totals.found.entry(check).or_default() += count;
        }
        for line in report.lines().iter().chain(&complaints) {
            println!("ANOMALY, seed {seed}: {line}");
        }
        self.keep(seed)?;
        Ok(std::fs::rename(
            &last,
            self.folder.join(format!("failed-{seed}")).join("history.jsonl"),
        )?)
    }

    /// All of it: the broker's log and its directories.
    fn keep(&self, seed: u64) -> Result<()> {
        let kept = self.folder.join(format!("failed-{seed}"));
        Ok(std::fs::rename(self.folder.join("round"), kept)?)
    }
}

/// splitmix64, Steele and others 2014.
#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    fn one_of(&mut self, choices: &[u64; 4]) -> u64 {
        choices[usize::try_from(self.below(4)).unwrap_or(0)]
    }
}
