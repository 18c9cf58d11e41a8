//! `cargo xtask test`: the one command that runs every test.
//!
//! Owns: the order of the steps, their limits, which are chosen.
//! Does not own: the steps themselves (`tidy`, `messages`, `scenarios`, cargo).
//!
//! Client programs run against the binary of the `dev` profile unless told otherwise: dependencies are optimised
//! there already, debug assertions and overflow checks are on, and nothing is compiled a second time.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::broker::{Kind, Program};
use crate::process::{self, Output};
use crate::report::{Report, Row};
use crate::scenarios::{self, Scenario, Setting};
use crate::tools::{self, Tool};
use crate::workspace::Workspace;
use crate::{differential, messages, suites, tidy};

mod stores;

const FORMAT_LIMIT: Duration = Duration::from_secs(120);
const BUILD_LIMIT: Duration = Duration::from_secs(30 * 60);
const UNIT_LIMIT: Duration = Duration::from_secs(20 * 60);
/// Of what a failed test printed, in the table.
const SAID_LINES_MAX: usize = 40;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Run only these parts (may be repeated or separated by commas).
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Run only the client scenarios whose name contains one of these.
    #[arg(long, value_delimiter = ',')]
    client: Vec<String>,
    /// Which broker the client scenarios run against; `kafka` proves the scenarios themselves.
    #[arg(long, value_enum, default_value = "aquifer")]
    broker: Kind,
    /// Cargo profile of the binary under test.
    #[arg(long, default_value = "dev")]
    profile: String,
    /// Take this binary for the client scenarios instead of building one.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Folder with Kafka's message definitions, checked against ours.
    #[arg(long)]
    against: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Format, tidiness, message definitions.
    Static,
    /// `cargo test`: unit, property, simulation and fuzz-smoke tests.
    Unit,
    /// The bucket's conformance suite against servers of object storage: MinIO, versitygw, our fake.
    Stores,
    /// Client scenarios against the real binary.
    Clients,
    /// Kafka's recorded answers, and the quick part of other people's test suites.
    Suites,
}

pub(crate) fn run(options: &Options, workspace: &Workspace) -> Result<()> {
    let logs = process::fresh_folder(workspace.logs())?;
    let mut report = Report::default();
    let wanted = |part| {
        let chosen = options.only.is_empty() || options.only.contains(&part);
        // Naming a client asks for the clients alone.
        chosen && (options.client.is_empty() || part == Part::Clients)
    };
    if wanted(Part::Static) {
        report.add(format(workspace));
        report.add(tidy(workspace));
        report.add(definitions(options.against.as_deref()));
    }
    if wanted(Part::Unit) {
        report.add(cargo_test(workspace, &logs));
    }
    if wanted(Part::Stores) {
        stores::run(workspace, &logs, &mut report);
    }
    if wanted(Part::Clients) {
        clients(options, workspace, &mut report)?;
    }
    if wanted(Part::Suites) && options.broker == Kind::Aquifer {
        suites(options, workspace, &mut report)?;
    }
    report.finish(&logs);
    if report.failed() {
        bail!("some tests failed");
    }
    Ok(())
}

fn timed(name: &str, body: impl FnOnce(&mut Row) -> Result<()>) -> Row {
    println!("== {name}");
    let (mut row, started) = (Row::new(name), Instant::now());
    if let Err(error) = body(&mut row) {
        row.failures.push(format!("{error:#}"));
    }
    row.elapsed = started.elapsed();
    row
}

fn cargo(workspace: &Workspace, arguments: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(&workspace.root).args(arguments);
    command
}

fn format(workspace: &Workspace) -> Row {
    timed("format", |row| {
        let mut command = cargo(workspace, &["fmt", "--all", "--check"]);
        if !process::answers("rustfmt", "--version") {
            row.skipped = 1;
            row.notes.push("rustfmt is missing".to_owned());
            return Ok(());
        }
        let finished = process::run(&mut command, &Output::Shown, FORMAT_LIMIT)?;
        let problem = if finished.succeeded() { Ok(()) } else { Err(finished.describe()) };
        row.check("cargo fmt --all --check", problem);
        Ok(())
    })
}

fn tidy(workspace: &Workspace) -> Row {
    timed("tidy", |row| {
        for (name, problems) in tidy::examine(workspace)? {
            let summary = format!("{} problems\n{}", problems.len(), problems.join("\n"));
            row.check(name, if problems.is_empty() { Ok(()) } else { Err(summary) });
        }
        Ok(())
    })
}

fn definitions(against: Option<&Path>) -> Row {
    timed("message definitions", |row| {
        let outcome = messages::run(against);
        row.check("definitions", outcome.map_err(|error| format!("{error:#}")));
        Ok(())
    })
}

/// The integration tests of a package need its binaries, so these flags build what the tests and the client
/// scenarios use with one and the same set of features.
fn cargo_test(workspace: &Workspace, logs: &Path) -> Row {
    timed("cargo test --workspace", |row| {
        let started = Instant::now();
        let mut build = cargo(workspace, &["test", "--workspace", "--no-run", "--quiet"]);
        let finished = process::run(&mut build, &Output::Shown, BUILD_LIMIT)?;
        if !finished.succeeded() {
            bail!("building the tests: {}", finished.describe());
        }
        row.notes.push(format!("building took {:.0} s", started.elapsed().as_secs_f64()));
        let log = logs.join("cargo-test.log");
        let mut test = cargo(workspace, &["test", "--workspace", "--no-fail-fast"]);
        let finished = process::run(&mut test, &Output::Log(&log), UNIT_LIMIT)?;
        let text = String::from_utf8_lossy(&std::fs::read(&log)?).into_owned();
        count_tests(&text, row);
        if !finished.succeeded() && row.failures.is_empty() {
            let end = process::tail(&log, SAID_LINES_MAX);
            row.failures.push(format!("{}\n{end}", finished.describe()));
        }
        Ok(())
    })
}

/// Adds up the lines `test result: ok. 3 passed; 0 failed; 1 ignored; …` and names what failed, with what it said:
/// who reads of a failure often has nothing but the table.
fn count_tests(log: &str, row: &mut Row) {
    for line in log.lines() {
        if let Some(result) = line.strip_prefix("test result: ") {
            for part in result.split(';') {
                let mut words = part.split_whitespace().rev();
                let (kind, count) =
                    (words.next(), words.next().and_then(|it| it.parse::<usize>().ok()));
                match (kind, count) {
                    (Some("passed"), Some(count)) => row.passed += count,
                    (Some("ignored"), Some(count)) => row.skipped += count,
                    _ => {}
                }
            }
        } else if let Some(test) =
            line.strip_prefix("test ").and_then(|it| it.strip_suffix(" ... FAILED"))
        {
            row.failures.push(format!("{test}{}", said(log, test)));
        }
    }
}

/// The first lines of what a failed test printed, each on a line of its own.
fn said(log: &str, test: &str) -> String {
    let head = format!("---- {test} stdout ----");
    let lines = log.lines().skip_while(|line| *line != head).skip(1);
    let own = lines.take_while(|line| !line.starts_with("---- ") && *line != "failures:");
    let told = own.filter(|line| !line.is_empty()).take(SAID_LINES_MAX);
    told.map(|line| format!("\n           {line}")).collect()
}

fn build_binary(workspace: &Workspace, profile: &str) -> Row {
    timed("build the binary", |row| {
        // With `--tests` the features are those of `cargo test`, so no dependency is compiled again.
        let mut arguments = vec!["build", "--quiet", "--workspace", "--bins", "--profile", profile];
        if profile == "dev" {
            arguments.push("--tests");
        }
        let mut command = cargo(workspace, &arguments);
        let finished = process::run(&mut command, &Output::Shown, BUILD_LIMIT)?;
        let problem = if finished.succeeded() { Ok(()) } else { Err(finished.describe()) };
        row.check("cargo build", problem);
        Ok(())
    })
}

/// The broker under test, built if need be; nothing if that failed.
fn program(
    options: &Options,
    workspace: &Workspace,
    report: &mut Report,
) -> Result<Option<Program>> {
    match (options.broker, &options.binary) {
        (Kind::Aquifer, Some(binary)) => {
            return Ok(Some(Program::Aquifer(std::path::absolute(binary)?)));
        }
        (Kind::Aquifer, None) => {
            let row = build_binary(workspace, &options.profile);
            let failed = !row.failures.is_empty();
            report.add(row);
            if failed {
                return Ok(None);
            }
        }
        (Kind::Kafka, _) => {}
    }
    Ok(Some(scenarios::program(options.broker, workspace, &options.profile)))
}

fn suites(options: &Options, workspace: &Workspace, report: &mut Report) -> Result<()> {
    let Some(program) = program(options, workspace, report)? else { return Ok(()) };
    report.add(timed("Kafka's recorded answers", |row| {
        let (fields, differences) = differential::recorded(program.clone(), workspace)?;
        row.passed = fields.saturating_sub(differences.len());
        row.failures = differences;
        Ok(())
    }));
    let lacks: Vec<&str> =
        ["make", "cc", "c++"].into_iter().filter(|it| !process::answers(it, "--version")).collect();
    if !lacks.is_empty() {
        report.add(Row::skipped("other people's tests", format!("needs {}", lacks.join(", "))));
        return Ok(());
    }
    for row in suites::quick(&program, workspace)? {
        report.add(row);
    }
    Ok(())
}

fn clients(options: &Options, workspace: &Workspace, report: &mut Report) -> Result<()> {
    let Some(program) = program(options, workspace, report)? else { return Ok(()) };
    let scenarios: Vec<Scenario> = scenarios::all()
        .into_iter()
        .filter(|scenario| {
            options.client.is_empty()
                || options.client.iter().any(|it| scenario.name.contains(it.as_str()))
        })
        .collect();
    if scenarios.is_empty() {
        let names: Vec<&str> = scenarios::all().iter().map(|it| it.name).collect();
        bail!("no scenario has such a name; there are: {}", names.join(", "));
    }
    let missing = prepare_tools(options, &scenarios, workspace, report);
    let setting = Setting {
        workspace: workspace.clone(),
        broker: options.broker,
        program,
        tools: Tool::ALL.into_iter().filter(|tool| !missing.contains(tool)).collect(),
    };
    if options.broker == Kind::Kafka && missing.contains(&Tool::Java) {
        bail!("Apache Kafka needs Java");
    }
    for scenario in &scenarios {
        println!("== {}", scenario.name);
        let lacks: Vec<&str> =
            scenario.needs.iter().filter(|it| missing.contains(it)).map(|it| it.name()).collect();
        report.add(if lacks.is_empty() {
            scenarios::run(scenario, &setting)
        } else {
            Row::skipped(scenario.name, format!("needs {}", lacks.join(", ")))
        });
    }
    Ok(())
}

/// Installs what the chosen scenarios need and returns what could not be had.
fn prepare_tools(
    options: &Options,
    scenarios: &[Scenario],
    workspace: &Workspace,
    report: &mut Report,
) -> Vec<Tool> {
    let cross = scenarios.iter().any(|scenario| scenario.name.starts_with("cross"));
    let needed = |tool: &Tool| {
        let kafka = options.broker == Kind::Kafka && *tool == Tool::Java;
        kafka || cross || scenarios.iter().any(|scenario| scenario.needs.contains(tool))
    };
    let mut missing = Vec::new();
    for tool in Tool::ALL {
        if !needed(&tool) {
            missing.push(tool);
            continue;
        }
        let started = Instant::now();
        match tools::prepare(tool, workspace) {
            Ok(()) => {
                println!("== {} is ready ({:.1} s)", tool.name(), started.elapsed().as_secs_f64());
            }
            Err(error) => {
                report.add(Row::skipped(format!("tool {}", tool.name()), format!("{error:#}")));
                missing.push(tool);
            }
        }
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::{Row, count_tests};

    #[test]
    fn results_of_cargo_test_are_added_up() {
        let log = "running 2 tests\ntest a::b ... ok\ntest a::c ... FAILED\n\n\
            failures:\n\n---- a::c stdout ----\n\nthread 'a::c' panicked at a.rs:1:2:\nA1 gone\n\n\n\
            failures:\n    a::c\n\n\
            test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out\n\
            test result: ok. 40 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out\n";
        let mut row = Row::new("x");
        count_tests(log, &mut row);
        let failure = "a::c\n           thread 'a::c' panicked at a.rs:1:2:\n           A1 gone";
        assert_eq!(
            (row.passed, row.skipped, row.failures.as_slice()),
            (41, 2, &[failure.to_owned()][..])
        );
    }
}
