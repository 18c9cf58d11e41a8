//! The project's own commands: `cargo xtask tidy | messages | test | sim | suites | differential | anomalies | bench`.
//!
//! Owns: the command line. Does not own: product code, of which it knows nothing but the wire format.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a tool with threads and wall time of its own, whose output is text"
)]

mod anomalies;
mod bench;
mod broker;
mod control;
mod differential;
mod fake_store;
mod frames;
mod messages;
mod planted;
mod process;
mod report;
mod scenarios;
mod sim;
mod suites;
mod test;
mod tidy;
mod tools;
mod wire;
mod workspace;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use crate::workspace::Workspace;

#[derive(Debug, Parser)]
#[command(about = "Aquifer's own commands")]
enum Command {
    /// Check the layers and the tidiness of the sources.
    Tidy,
    /// Check the message definitions, alone or against a folder of Kafka's.
    Messages {
        /// Folder with Kafka's message definitions.
        #[arg(long)]
        against: Option<PathBuf>,
    },
    /// Run every test: format, tidiness, unit, property, simulation, fuzz-smoke and client tests.
    Test(test::Options),
    /// Live simulated nodes on bad days, seed after seed.
    Sim(sim::Options),
    /// Run the test suites of others, against Aquifer or Apache Kafka.
    Suites(suites::Options),
    /// Compare answers with those of Apache Kafka, field by field.
    Differential(differential::Options),
    /// Send and poll through bad days, and check what was seen.
    Anomalies(anomalies::Options),
    /// Measure Aquifer and Apache Kafka side by side.
    Bench(bench::Options),
}

fn main() -> ExitCode {
    match run(Command::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    let workspace = Workspace::find()?;
    match command {
        Command::Tidy => tidy::run(&workspace),
        Command::Messages { against } => messages::run(against.as_deref()),
        Command::Sim(options) => sim::run(&options, &workspace),
        Command::Suites(options) => suites::run(&options, &workspace),
        Command::Differential(options) => differential::run(&options, &workspace),
        Command::Anomalies(options) => anomalies::run(&options, &workspace),
        Command::Bench(options) => bench::run(&options, &workspace),
        Command::Test(options) => test::run(&options, &workspace),
    }
}
