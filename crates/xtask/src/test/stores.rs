//! Servers of object storage that others wrote, run on loopback for the bucket's conformance suite, and our own
//! beside them.
//!
//! Owns: which servers in which versions, building them with `go install` below `target/clients`, starting one
//! on an empty folder with one bucket in it.
//! Does not own: what a store must do (`bucket::conformance` and its probe, in `bucket`'s test `real_stores`).
//!
//! Where Go is absent, or a server cannot be built, the step is skipped loudly, like every tool's; the fake needs no
//! Go and is never skipped.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::{BUILD_LIMIT, cargo, count_tests, timed};
use crate::broker::free_address;
use crate::process::{self, Output, Running};
use crate::report::{Report, Row};
use crate::workspace::Workspace;

/// MinIO takes two and a half minutes on two cores with nothing cached, versitygw one.
const INSTALL_LIMIT: Duration = Duration::from_secs(15 * 60);
const READY_LIMIT: Duration = Duration::from_secs(60);
const READY_POLL: Duration = Duration::from_millis(100);
const SUITE_LIMIT: Duration = Duration::from_secs(5 * 60);
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
const BUCKET: &str = "wells";
const ACCESS_KEY: &str = "aquifer";
const SECRET_KEY: &str = "aquifer-secret";
/// What the test prints once the suite has passed; a test that skipped itself does not.
const PROOF: &str = "conformance passed on";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Store {
    Fake,
    Minio,
    Versity,
}

impl Store {
    const ALL: [Store; 3] = [Store::Fake, Store::Minio, Store::Versity];

    fn name(self) -> &'static str {
        match self {
            Store::Fake => "fake-s3",
            Store::Minio => "minio",
            Store::Versity => "versitygw",
        }
    }

    /// What `go install` is told, and the exact version.
    fn module(self) -> Option<(&'static str, &'static str)> {
        match self {
            Store::Fake => None,
            // MinIO's module has no tags that Go could read: this is its last commit, of February 2026.
            Store::Minio => Some(("github.com/minio/minio", "v0.0.0-20260212201848-7aac2a2c5b7c")),
            Store::Versity => Some(("github.com/versity/versitygw/cmd/versitygw", "v1.8.0")),
        }
    }

    /// Serves the folders in `data` as buckets on `address`.
    fn command(self, program: &Path, address: SocketAddr, data: &Path) -> Result<Command> {
        let mut command = Command::new(program);
        match self {
            Store::Fake => {
                command.args(["--require-signature", "--print-counts", "--listen"]);
                command.arg(address.to_string());
            }
            Store::Minio => {
                command.env("MINIO_ROOT_USER", ACCESS_KEY).env("MINIO_ROOT_PASSWORD", SECRET_KEY);
                // It has a second port, which would otherwise be one on all interfaces.
                command.env("MINIO_BROWSER", "off").env("MINIO_UPDATE", "off");
                command.args(["server", "--quiet", "--address"]).arg(address.to_string());
                command.arg("--console-address").arg(free_address()?.to_string()).arg(data);
            }
            Store::Versity => {
                command.args(["--access", ACCESS_KEY, "--secret", SECRET_KEY, "--port"]);
                command.arg(address.to_string()).arg("posix").arg(data);
            }
        }
        Ok(command)
    }
}

pub(super) fn run(workspace: &Workspace, logs: &Path, report: &mut Report) {
    let built = build(workspace);
    let failed = !built.failures.is_empty();
    report.add(built);
    if failed {
        return;
    }
    for store in Store::ALL {
        let name = format!("store {}", store.name());
        match install(store, workspace, logs) {
            Ok(program) => {
                report.add(timed(&name, |row| suite(store, &program, workspace, logs, row)))
            }
            Err(error) => report.add(Row::skipped(name, format!("{error:#}"))),
        }
    }
}

/// The fake and the suite, with the features of `cargo test`, so that no dependency is compiled again.
fn build(workspace: &Workspace) -> Row {
    timed("build the stores' suite", |row| {
        let mut command =
            cargo(workspace, &["build", "--quiet", "--workspace", "--bins", "--tests"]);
        let finished = process::run(&mut command, &Output::Shown, BUILD_LIMIT)?;
        let problem = if finished.succeeded() { Ok(()) } else { Err(finished.describe()) };
        row.check("cargo build", problem);
        Ok(())
    })
}

/// Where the store's program is, built if need be. An error is the reason for a skip.
fn install(store: Store, workspace: &Workspace, logs: &Path) -> Result<PathBuf> {
    let Some((module, version)) = store.module() else {
        return Ok(workspace.target.join("debug").join(store.name()));
    };
    let folder = workspace.installed().join("stores").join(format!("{}-{version}", store.name()));
    let program = folder.join(store.name());
    if program.exists() {
        return Ok(program);
    }
    if !process::answers("go", "version") {
        bail!("needs Go, to build {module}@{version}");
    }
    println!("== building {module}@{version}, some minutes once");
    let started = Instant::now();
    // Renamed at the end, so that an interrupted build is not taken for a finished one.
    let unfinished = folder.with_extension("unfinished");
    process::fresh_folder(unfinished.clone())?;
    let mut go = Command::new("go");
    go.arg("install").arg(format!("{module}@{version}")).current_dir(&unfinished);
    // No other toolchain is fetched, and no C compiler is needed.
    go.env("GOBIN", &unfinished).env("GOTOOLCHAIN", "local").env("CGO_ENABLED", "0");
    let log = logs.join(format!("install-{}.log", store.name()));
    process::must(&mut go, &log, INSTALL_LIMIT).context("building it failed")?;
    std::fs::rename(&unfinished, &folder)?;
    println!("== {} is ready ({:.0} s)", store.name(), started.elapsed().as_secs_f64());
    Ok(program)
}

/// Starts the store, runs the suite against it and stops it.
fn suite(
    store: Store,
    program: &Path,
    workspace: &Workspace,
    logs: &Path,
    row: &mut Row,
) -> Result<()> {
    let data = workspace.installed().join("stores").join(format!("{}-data", store.name()));
    process::fresh_folder(data.clone())?;
    // Both real servers take a folder for a bucket; the fake makes its own.
    std::fs::create_dir(data.join(BUCKET))?;
    let address = free_address()?;
    let server_log = logs.join(format!("store-{}.log", store.name()));
    let mut command = store.command(program, address, &data)?;
    let mut server = Running::start(&mut command, &Output::Log(&server_log))?;
    wait_until_ready(&mut server, address)
        .with_context(|| format!("{}\n{}", store.name(), process::tail(&server_log, 15)))?;

    let uri = format!("s3://{BUCKET}/cluster-1?endpoint=http://{address}&region=us-east-1");
    let mut test =
        cargo(workspace, &["test", "--workspace", "--test", "real_stores", "--", "--nocapture"]);
    test.env("AQUIFER_TEST_STORE_URI", &uri);
    test.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    let log = logs.join(format!("suite-{}.log", store.name()));
    let _ = std::fs::remove_file(&log);
    let finished = process::run(&mut test, &Output::Log(&log), SUITE_LIMIT)?;
    let text = String::from_utf8_lossy(&std::fs::read(&log)?).into_owned();
    count_tests(&text, row);
    if !finished.succeeded() {
        row.failures.push(format!("{}\n{}", finished.describe(), process::tail(&log, 25)));
    } else if !text.contains(PROOF) {
        row.failures.push(format!("the suite did not run\n{}", process::tail(&log, 25)));
    }
    row.notes.extend(text.lines().filter(|it| it.starts_with("# ")).map(|it| it[2..].to_owned()));
    let _ = server.stop();
    std::fs::remove_dir_all(&data)?;
    Ok(())
}

/// Ready once it answers requests with anything but a server's error.
fn wait_until_ready(server: &mut Running, address: SocketAddr) -> Result<()> {
    let deadline = Instant::now() + READY_LIMIT;
    loop {
        if let Some(status) = server.ended()? {
            bail!("it ended with {status}");
        }
        if status(address).is_some_and(|it| it < 500 || it == 501) {
            return Ok(());
        }
        if deadline <= Instant::now() {
            bail!("not ready after {} s", READY_LIMIT.as_secs());
        }
        std::thread::sleep(READY_POLL);
    }
}

/// The status of a request without a signature.
fn status(address: SocketAddr) -> Option<u16> {
    let mut stream = TcpStream::connect_timeout(&address, PROBE_TIMEOUT).ok()?;
    stream.set_read_timeout(Some(PROBE_TIMEOUT)).ok()?;
    let request = format!("GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut head = [0; 12];
    stream.read_exact(&mut head).ok()?;
    std::str::from_utf8(&head).ok()?.split(' ').nth(1)?.parse().ok()
}
