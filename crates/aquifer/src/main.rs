//! The binary: reads what it was told, assembles the rooms, runs them, stops them in a written order.
//!
//! Deliberately absent: decisions. What a config means is `broker::configs`, what a broker does is
//! `broker`.
//!
//! # Map
//!
//! - `arguments`, `settings`: command line and properties file to one configuration.
//! - `lock`: one process per data directory. `node`: what lives as long as the process.
//! - `assembly`: opens one broker epoch in order, and closes it in the opposite one; `write_ahead`: its
//!   log, and the logs it takes over; `standby`: waits while another process serves the cluster.
//! - `serve`: the runtime, signals, joining again after a fence, exit codes. `backoff`: growing waits.
//! - `steps`: how long each step of a start took.
//! - `doctor`, `inspect`, on a `place`: a look at what is stored.
//! - `banner`, `failure`: what people read.
//! - `telemetry`: logs on stderr. `allocator`: jemalloc and what it says.
//!
//! # Exit codes
//!
//! 0: stopped as asked. 1: could not start, or was cut short while stopping. 2: wrong arguments.
//! 3: `doctor` or `inspect` has found something broken.
//! 70: a part that guards data failed; everything acknowledged is durable.

mod allocator;
mod arguments;
mod assembly;
mod backoff;
mod banner;
mod doctor;
mod failure;
mod inspect;
mod lock;
mod node;
mod place;
mod serve;
mod settings;
mod standby;
mod steps;
mod telemetry;
mod write_ahead;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use crate::arguments::{Arguments, Command};
use crate::failure::Failure;

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Serve(arguments) => serve::run(&arguments).map(|()| 0),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Configs => print(&broker::configuration_manual()).map(|()| 0),
    };
    match outcome {
        Ok(exit_code) => ExitCode::from(exit_code),
        Err(failure) => {
            // Nobody may be reading; the exit code says it as well.
            let _ = writeln!(std::io::stderr(), "{failure}");
            ExitCode::from(failure.exit_code)
        }
    }
}

fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    match written {
        // `aquifer configs | head` is not a failure.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::start(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}
