//! `cargo xtask suites`: test suites that others wrote, run against Aquifer or Apache Kafka 4.3.1.
//!
//! Owns: the list of suites and the brokers they need, running one, holding its results against what is known.
//! Does not own: how a suite is set up and read (its module), what is known (`known`, a data file), the table
//! (`table`). `cargo xtask test` does not run it.
//!
//! Invariants:
//! - U1 a case that fails and is not known to fail is a regression, and fails the run;
//! - U2 a case is skipped with a reason, the suite's own or one from the data file, or it counts as failed;
//! - U3 that Kafka behaves the same is never only said: the same data file judges a run with `--broker kafka`.

mod crates;
mod kafka_python;
mod known;
mod librdkafka;
mod mirror;
mod programs;
mod table;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use self::known::Known;
use self::table::Results;
use crate::broker::{Broker, Kind, Program};
use crate::process::{self, Output};
use crate::report::Row;
use crate::scenarios;
use crate::tools::{self, Tool};
use crate::workspace::Workspace;

const BUILD_LIMIT: Duration = Duration::from_secs(30 * 60);

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Run only suites whose name contains one of these.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Only what `cargo xtask test` runs of them, a minute in all; writes no table.
    #[arg(long)]
    quick: bool,
    /// Only the cases whose name contains one of these (librdkafka's: their numbers); writes no table.
    #[arg(long, value_delimiter = ',')]
    case: Vec<String>,
    /// Against which broker; `kafka` shows what Apache Kafka 4.3.1 makes of the same cases.
    #[arg(long, value_enum, default_value = "aquifer")]
    broker: Kind,
    /// Cargo profile of the binary under test.
    #[arg(long, default_value = "dev")]
    profile: String,
    /// Take this binary instead of building one.
    #[arg(long)]
    binary: Option<PathBuf>,
}

/// One test of somebody's suite.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) outcome: Outcome,
    /// Why it was skipped or how it failed; empty where nobody said.
    pub(crate) detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    Passed,
    Failed,
    Skipped,
}

impl Case {
    pub(crate) fn passed(name: impl Into<String>) -> Case {
        Case { name: name.into(), outcome: Outcome::Passed, detail: String::new() }
    }

    pub(crate) fn failed(name: impl Into<String>, detail: impl Into<String>) -> Case {
        Case { name: name.into(), outcome: Outcome::Failed, detail: detail.into() }
    }

    pub(crate) fn skipped(name: impl Into<String>, detail: impl Into<String>) -> Case {
        Case { name: name.into(), outcome: Outcome::Skipped, detail: detail.into() }
    }

    pub(crate) fn of(name: impl Into<String>, outcome: Result<()>) -> Case {
        match outcome {
            Ok(()) => Case::passed(name),
            Err(error) => Case::failed(name, format!("{error:#}")),
        }
    }
}

/// A suite and the broker that it expects.
struct Suite {
    name: &'static str,
    settings: &'static [(&'static str, &'static str)],
    run: fn(&Stage) -> Result<Vec<Case>>,
    /// Whether `--quick` runs it, then with fewer cases and without Java.
    quick: bool,
}

/// Kafka's default makes each first member of a group wait three seconds.
const NO_DELAY: (&str, &str) = ("group.initial.rebalance.delay.ms", "0");
/// As librdkafka's and kafka-python's authors have their brokers: ACLs are kept, and count for what they speak of. The
/// clients are all `User:ANONYMOUS`.
const AUTHORIZER: (&str, &str) =
    ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer");
const EVERYONE: (&str, &str) = ("allow.everyone.if.no.acl.found", "true");
const SUITES: [Suite; 8] = [
    Suite {
        name: "librdkafka, classic groups",
        settings: &[NO_DELAY, AUTHORIZER, EVERYONE, ("num.partitions", "4")],
        run: |stage| librdkafka::run(stage, "default", "classic"),
        quick: true,
    },
    Suite {
        name: "librdkafka, consumer groups",
        settings: &[NO_DELAY, AUTHORIZER, EVERYONE, ("num.partitions", "4")],
        run: |stage| librdkafka::run(stage, "default", "consumer"),
        quick: false,
    },
    Suite {
        name: "librdkafka, no auto-creation",
        settings: &[
            NO_DELAY,
            AUTHORIZER,
            EVERYONE,
            ("num.partitions", "4"),
            ("auto.create.topics.enable", "false"),
        ],
        run: |stage| librdkafka::run(stage, "noautocreate", "classic"),
        quick: false,
    },
    Suite {
        name: "rust-rdkafka",
        settings: &[NO_DELAY, ("num.partitions", "3")],
        run: |stage| crates::run(stage, &crates::RUST_RDKAFKA),
        quick: false,
    },
    Suite {
        name: "rskafka",
        // As its authors have it: one test asks for a topic that must not come to be.
        settings: &[NO_DELAY, ("auto.create.topics.enable", "false")],
        run: |stage| match stage.quick {
            true => crates::run(stage, &crates::RSKAFKA_QUICK),
            false => crates::run(stage, &crates::RSKAFKA),
        },
        quick: true,
    },
    Suite {
        name: "kafka-python",
        // Its groups have sessions of three seconds.
        settings: &[
            NO_DELAY,
            AUTHORIZER,
            EVERYONE,
            ("num.partitions", "4"),
            ("group.min.session.timeout.ms", "500"),
        ],
        run: kafka_python::run,
        quick: false,
    },
    Suite {
        name: "Kafka's test programs",
        settings: &[NO_DELAY],
        run: programs::run,
        quick: false,
    },
    Suite { name: "MirrorMaker 2", settings: &[NO_DELAY], run: mirror::run, quick: false },
];

/// What a suite gets: a running broker and its own places on the disk.
pub(crate) struct Stage {
    pub(crate) workspace: Workspace,
    /// `127.0.0.1:PORT` of the broker.
    pub(crate) address: String,
    pub(crate) quick: bool,
    /// What the names of the wanted cases contain; nothing stands for all.
    pub(crate) wanted: Vec<String>,
    /// Emptied for each run of a suite.
    pub(crate) logs: PathBuf,
    /// For suites that need a second broker.
    program: Program,
    settings: &'static [(&'static str, &'static str)],
}

impl Stage {
    /// What suites are made of; kept between runs.
    pub(crate) fn cache(&self) -> PathBuf {
        self.workspace.target.join("suites")
    }

    pub(crate) fn jars(&self) -> PathBuf {
        self.cache().join("java")
    }

    /// Another broker of the same kind, not started yet.
    pub(crate) fn another_broker(&self) -> Result<Broker> {
        Broker::new(self.program.clone(), self.logs.join("second"), self.settings)
    }

    /// The folder of a package of a registry's cache, copied to where it may be built.
    pub(crate) fn fresh_copy(&self, source: &Path, name: &str) -> Result<PathBuf> {
        let folder = process::fresh_folder(self.cache().join(name))?;
        let mut copy = std::process::Command::new("cp");
        copy.arg("-r").arg(source.join(".")).arg(&folder);
        process::must(&mut copy, &self.logs.join("copy.log"), BUILD_LIMIT)?;
        Ok(folder)
    }
}

pub(crate) fn run(options: &Options, workspace: &Workspace) -> Result<()> {
    let known = Known::read(workspace)?;
    let program = program(options, workspace)?;
    let mut results = Results::read(workspace)?;
    let mut regressions = Vec::new();
    let chosen = |suite: &&Suite| {
        let named =
            options.only.is_empty() || options.only.iter().any(|it| suite.name.contains(it));
        named && (suite.quick || !options.quick)
    };
    let suites: Vec<&Suite> = SUITES.iter().filter(chosen).collect();
    if suites.is_empty() {
        bail!("there are: {}", SUITES.map(|it| it.name).join("; "));
    }
    for suite in suites {
        println!("== {}", suite.name);
        let started = Instant::now();
        let mut cases = perform(suite, options.quick, &options.case, &program, workspace)?;
        cases.sort_by(|a, b| a.name.cmp(&b.name));
        let found = known.judge(suite.name, options.broker, &mut cases);
        table::announce(suite.name, &cases, started.elapsed());
        regressions.extend(found.into_iter().map(|it| format!("{}: {it}", suite.name)));
        results.put(suite.name, options.broker, cases);
    }
    if !options.quick && options.case.is_empty() {
        results.write(workspace)?;
    }
    for regression in &regressions {
        println!("REGRESSION {regression}");
    }
    match regressions.len() {
        0 => Ok(()),
        count => bail!("{count} cases are not as tests/suites/known.toml has them"),
    }
}

/// The quick part against our broker, one row a suite.
pub(crate) fn quick(program: &Program, workspace: &Workspace) -> Result<Vec<Row>> {
    let known = Known::read(workspace)?;
    let perform = |suite: &Suite| {
        let (mut row, started) = (Row::new(suite.name), Instant::now());
        match perform(suite, true, &[], program, workspace) {
            Err(error) => row.failures.push(format!("{error:#}")),
            Ok(mut cases) => {
                row.failures = known.judge(suite.name, Kind::Aquifer, &mut cases);
                let count = |outcome| cases.iter().filter(|it| it.outcome == outcome).count();
                row.passed = count(Outcome::Passed);
                row.skipped = count(Outcome::Skipped);
                let other = cases.iter().filter(|it| it.outcome != Outcome::Passed);
                row.notes.extend(other.map(|it| format!("{}: {}", it.name, it.detail)));
            }
        }
        row.elapsed = started.elapsed();
        row
    };
    Ok(SUITES.iter().filter(|suite| suite.quick).map(perform).collect())
}

fn program(options: &Options, workspace: &Workspace) -> Result<Program> {
    if options.broker == Kind::Kafka || !options.quick {
        tools::prepare(Tool::Java, workspace).context("the suites need Java and Kafka's jars")?;
    }
    match (options.broker, &options.binary) {
        (Kind::Aquifer, Some(binary)) => Ok(Program::Aquifer(std::path::absolute(binary)?)),
        (Kind::Aquifer, None) => {
            let mut build = std::process::Command::new("cargo");
            build.current_dir(&workspace.root).args(["build", "--quiet", "--workspace", "--bins"]);
            build.args(["--profile", &options.profile]);
            let finished = process::run(&mut build, &Output::Shown, BUILD_LIMIT)?;
            anyhow::ensure!(finished.succeeded(), "building: {}", finished.describe());
            Ok(scenarios::program(Kind::Aquifer, workspace, &options.profile))
        }
        (Kind::Kafka, _) => Ok(scenarios::program(Kind::Kafka, workspace, &options.profile)),
    }
}

fn perform(
    suite: &Suite,
    quick: bool,
    wanted: &[String],
    program: &Program,
    workspace: &Workspace,
) -> Result<Vec<Case>> {
    let slug = slug(suite.name);
    let logs = process::fresh_folder(workspace.logs().join("suites").join(&slug))?;
    let folder = workspace.installed().join("brokers").join(&slug);
    let mut broker = Broker::new(program.clone(), folder, suite.settings)?;
    broker.start()?;
    let stage = Stage {
        workspace: workspace.clone(),
        address: broker.address.to_string(),
        quick,
        wanted: wanted.to_vec(),
        logs,
        program: program.clone(),
        settings: suite.settings,
    };
    let mut cases = (suite.run)(&stage).with_context(|| format!("suite {}", suite.name))?;
    let complaints = broker.complaints();
    let alive = broker.is_alive();
    let outcome = match complaints.first() {
        _ if !alive => Err(anyhow::anyhow!("the broker died\n{}", broker.log_tail())),
        Some(first) => Err(anyhow::anyhow!("{} complaints, first: {first}", complaints.len())),
        None => broker.stop(),
    };
    cases.push(Case::of("(the broker lives, complains of nothing and stops)", outcome));
    Ok(cases)
}

/// A name as part of a path.
pub(crate) fn slug(name: &str) -> String {
    let plain = |it: char| if it.is_alphanumeric() { it.to_ascii_lowercase() } else { '-' };
    name.chars().map(plain).collect()
}

/// Where cargo keeps the sources of a package, say `rskafka-0.6.0`.
pub(crate) fn registry_source(package: &str) -> Result<PathBuf> {
    let home = match std::env::var_os("CARGO_HOME") {
        Some(home) => PathBuf::from(home),
        None => PathBuf::from(std::env::var_os("HOME").context("no HOME")?).join(".cargo"),
    };
    for registry in std::fs::read_dir(home.join("registry").join("src"))? {
        let folder = registry?.path().join(package);
        if folder.exists() {
            return Ok(folder);
        }
    }
    bail!("cargo fetched no {package}")
}
