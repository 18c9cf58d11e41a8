//! `fake-s3`: the server as a process of its own, so that benchmarks measure their broker alone.
//!
//! Owns: the command line. It runs until SIGINT or SIGTERM.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool whose output is text")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use fake_s3::{Delays, FakeS3, Faults, Options};
use tokio::signal::unix::{SignalKind, signal};

#[derive(Debug, Parser)]
#[command(about = "An S3 server for tests and benchmarks, with delays and faults by seed")]
struct Arguments {
    /// Where to listen; loopback only, port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:9444")]
    listen: SocketAddr,
    /// `none` or `s3`.
    #[arg(long, default_value = "none", value_parser = delays)]
    delays: Delays,
    /// `none`, `bad-day`, or `name=value,…` such as `lost-answer=0.01,operations=put`.
    #[arg(long, default_value = "none")]
    faults: Faults,
    /// Fixes the fate and the delay of the n-th request.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Keep bodies in files in this directory, which is absent or empty, instead of in memory.
    #[arg(long)]
    directory: Option<PathBuf>,
    /// Hold at most so many bytes; beyond it writes are answered 507.
    #[arg(long, default_value_t = Options::default().bytes_max)]
    bytes_max: u64,
    /// Refuse requests that carry no signature.
    #[arg(long)]
    require_signature: bool,
    /// Print the counts at the end; `GET /_fake-s3/counts` gives them at any time.
    #[arg(long)]
    print_counts: bool,
}

fn delays(name: &str) -> Result<Delays, String> {
    Delays::named(name).ok_or_else(|| "delays are `none` or `s3`".to_owned())
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> std::io::Result<()> {
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    let server = FakeS3::start(Options {
        listen: arguments.listen,
        seed: arguments.seed,
        delays: arguments.delays,
        faults: arguments.faults,
        directory: arguments.directory,
        bytes_max: arguments.bytes_max,
        require_signature: arguments.require_signature,
        ..Options::default()
    })
    .await?;
    println!("fake-s3 listens on {}", server.endpoint());
    tokio::select! {
        _ = terminated.recv() => {}
        _ = interrupted.recv() => {}
    }
    let counts = server.counts();
    server.stop().await;
    if arguments.print_counts {
        print!("{counts}");
    }
    Ok(())
}
