//! `cargo xtask anomalies`: sends and polls against the real binary on its bad days, and a checker of what they saw.
//!
//! Owns: the bad days (kill -9, a stopped process, a store that stalls and loses answers), their length, the report.
//! Does not own: the clients (`workload`), what counts as an anomaly (`checker`).
//!
//! Half of the time the broker keeps its log and bucket in a directory, half of it on `fake-s3` with faults, where a
//! killed broker leaves a log behind that the next one must end and adopt.

mod checker;
mod workload;

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::broker::{self, Broker, Kind, Program};
use crate::process::{self, Output, Running};
use crate::scenarios;
use crate::workspace::Workspace;

const BUILD_LIMIT: Duration = Duration::from_secs(30 * 60);
const STORE_LIMIT: Duration = Duration::from_secs(10);
/// How long a stopped process stands still, in milliseconds: below and above what clients wait for an answer.
const PAUSES_MS: [u64; 4] = [200, 1_000, 3_000, 6_000];
/// Good days between bad ones, in milliseconds.
const QUIET_MS: [u64; 4] = [300, 1_000, 2_000, 4_000];
const START_TRIES_MAX: u32 = 5;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How long, both stores together.
    #[arg(long, default_value_t = 5.0)]
    minutes: f64,
    /// Fixes the order of bad days and what clients send; not what the machine makes of it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Cargo profile of our binary.
    #[arg(long, default_value = "dev")]
    profile: String,
    /// Take this binary instead of building one; `fake-s3` is taken from beside it.
    #[arg(long)]
    binary: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    Directory,
    ObjectStore,
}

impl Place {
    fn name(self) -> &'static str {
        match self {
            Place::Directory => "a directory",
            Place::ObjectStore => "an object store with faults",
        }
    }
}

pub(crate) fn run(options: &Options, workspace: &Workspace) -> Result<()> {
    let binary = match &options.binary {
        Some(binary) => std::path::absolute(binary)?,
        None => build(workspace, &options.profile)?,
    };
    let each = Duration::from_secs_f64(options.minutes * 60.0 / 2.0);
    live(&binary, each, options.seed, workspace)
}

fn live(binary: &std::path::Path, each: Duration, seed: u64, workspace: &Workspace) -> Result<()> {
    let mut anomalies = 0;
    for place in [Place::Directory, Place::ObjectStore] {
        let found = one_life(binary, place, each, seed, workspace)
            .with_context(|| format!("on {}", place.name()))?;
        for anomaly in &found {
            println!("ANOMALY on {}: {anomaly}", place.name());
        }
        anomalies += found.len();
    }
    if anomalies == 0 { Ok(()) } else { bail!("{anomalies} anomalies") }
}

fn build(workspace: &Workspace, profile: &str) -> Result<PathBuf> {
    let mut build = Command::new("cargo");
    build.current_dir(&workspace.root).args(["build", "--quiet", "--workspace", "--bins"]);
    build.args(["--profile", profile]);
    let finished = process::run(&mut build, &Output::Shown, BUILD_LIMIT)?;
    ensure!(finished.succeeded(), "building: {}", finished.describe());
    match scenarios::program(Kind::Aquifer, workspace, profile) {
        Program::Aquifer(binary) | Program::Kafka(binary) => Ok(binary),
    }
}

/// Lives for `length`, then waits until everything that was acknowledged can be read, and checks.
fn one_life(
    binary: &std::path::Path,
    place: Place,
    length: Duration,
    seed: u64,
    workspace: &Workspace,
) -> Result<Vec<String>> {
    println!("== {} for {:.0} s, seed {seed}", place.name(), length.as_secs_f64());
    let mut random = Random(seed);
    let folder = workspace.installed().join("brokers").join("anomalies");
    let mut store = None;
    let mut settings = vec![("num.partitions", workload::PARTITIONS.to_string())];
    if matches!(place, Place::ObjectStore) {
        let (running, address) = start_store(binary, seed, workspace)?;
        store = Some(running);
        let bucket = format!("s3://wells/anomalies?endpoint=http://{address}&region=us-east-1");
        settings.push(("aquifer.bucket", bucket));
    }
    let settings: Vec<(&str, &str)> =
        settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut broker = Broker::new(Program::Aquifer(binary.to_owned()), folder, &settings)?;
    broker.start()?;
    let work = workload::Work::start(broker.address, seed)?;
    let (started, mut days) = (Instant::now(), Days::default());
    while started.elapsed() < length {
        std::thread::sleep(Duration::from_millis(random.one_of(&QUIET_MS)));
        days.one_more(&mut broker, store.as_ref(), &mut random)?;
    }
    let history = work.finish()?;
    broker.stop()?;
    println!(
        "   {} sends, {} acknowledged, {} reads; {days}",
        history.sends(),
        history.acknowledged(),
        history.reads()
    );
    ensure!(history.acknowledged() > 0, "nothing was acknowledged: this run shows nothing");
    // Slow and failing stores are logged as such; what must not be there is a panic.
    let panics: Vec<String> =
        broker.complaints().into_iter().filter(|line| line.contains("panicked at")).collect();
    ensure!(panics.is_empty(), "the broker panicked: {}", panics.join("; "));
    Ok(history.anomalies())
}

/// Our object store on a bad day; its answers are lost, late and wrong by seed.
fn start_store(
    binary: &std::path::Path,
    seed: u64,
    workspace: &Workspace,
) -> Result<(Running, std::net::SocketAddr)> {
    let address = broker::free_address()?;
    let mut command = Command::new(binary.with_file_name("fake-s3"));
    command.args(["--listen", &address.to_string(), "--faults", "bad-day"]);
    command.args(["--seed", &seed.to_string()]);
    let log = workspace.logs().join("anomalies-store.log");
    let running = Running::start(&mut command, &Output::Log(&log))?;
    let started = Instant::now();
    while std::net::TcpStream::connect(address).is_err() {
        ensure!(started.elapsed() < STORE_LIMIT, "no store\n{}", process::tail(&log, 5));
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok((running, address))
}

/// How many bad days of each kind there were.
#[derive(Debug, Default)]
struct Days {
    kills: u32,
    stands: u32,
    stalls: u32,
}

impl std::fmt::Display for Days {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Days { kills, stands, stalls } = self;
        write!(
            formatter,
            "killed {kills} times, stopped {stands} times, store stalled {stalls} times"
        )
    }
}

impl Days {
    fn one_more(
        &mut self,
        broker: &mut Broker,
        store: Option<&Running>,
        random: &mut Random,
    ) -> Result<()> {
        let pause = Duration::from_millis(random.one_of(&PAUSES_MS));
        match (random.below(3), store) {
            (0, Some(store)) => {
                self.stalls += 1;
                store.pause()?;
                std::thread::sleep(pause);
                store.resume()
            }
            (1, _) => {
                self.stands += 1;
                broker.pause()?;
                std::thread::sleep(pause);
                broker.resume()
            }
            _ => {
                self.kills += 1;
                broker.kill()?;
                start_again(broker)
            }
        }
    }
}

/// A start may fail on a bad day of the store: it is refused, with a reason, and tried again as a supervisor would.
fn start_again(broker: &mut Broker) -> Result<()> {
    let mut last = None;
    for _ in 0..START_TRIES_MAX {
        match broker.start() {
            Ok(_) => return Ok(()),
            Err(error) => last = Some(error),
        }
    }
    Err(last.context("tried at least once")?)
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
