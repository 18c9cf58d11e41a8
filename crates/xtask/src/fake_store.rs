//! Our own S3 server as a process beside a broker under test.
//!
//! Owns: starting it on a free loopback port, its address as a broker's setting, outages, delays and faults while it
//! runs.
//! Does not own: what it simulates (`fake-s3`).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::broker::free_address;
use crate::process::{self, Output, Running};

const READY_LIMIT: Duration = Duration::from_secs(20);
const READY_POLL: Duration = Duration::from_millis(10);
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// What the server may hold, in bytes: a benchmark's data, merged copies and garbage in their grace.
const BYTES_MAX: u64 = 64 << 30;

/// A running server. Its objects are gone once it is dropped.
#[derive(Debug)]
pub(crate) struct FakeStore {
    address: SocketAddr,
    running: Running,
}

impl FakeStore {
    /// `delays` is a preset: `none` or `s3`. Bodies are kept in files below `folder`, which is emptied.
    pub(crate) fn start(program: &Path, folder: &Path, delays: &str) -> Result<FakeStore> {
        FakeStore::start_with(program, folder, &["--delays", delays])
    }

    /// Like [`FakeStore::start`], with any of the program's own arguments.
    pub(crate) fn start_with(
        program: &Path,
        folder: &Path,
        arguments: &[&str],
    ) -> Result<FakeStore> {
        let folder = process::fresh_folder(folder.to_owned())?;
        let (address, log) = (free_address()?, folder.join("fake-s3.log"));
        let mut command = Command::new(program);
        command.args(arguments).arg("--listen").arg(address.to_string());
        command.arg("--bytes-max").arg(BYTES_MAX.to_string());
        command.arg("--directory").arg(folder.join("objects"));
        let running = Running::start(&mut command, &Output::Log(&log))?;
        let store = FakeStore { address, running };
        let deadline = Instant::now() + READY_LIMIT;
        while store.ask("GET", "counts").is_err() {
            if deadline <= Instant::now() {
                bail!("fake-s3 does not answer\n{}", process::tail(&log, 15));
            }
            std::thread::sleep(READY_POLL);
        }
        Ok(store)
    }

    /// The value of `aquifer.bucket`.
    pub(crate) fn uri(&self) -> String {
        format!("s3://wells/bench?endpoint=http://{}&region=us-east-1", self.address)
    }

    pub(crate) fn set_delays(&self, preset: &str) -> Result<()> {
        self.ask("POST", &format!("delays?{preset}")).map(drop)
    }

    /// As on the program's command line.
    pub(crate) fn set_faults(&self, faults: &str) -> Result<()> {
        self.ask("POST", &format!("faults?{faults}")).map(drop)
    }

    /// Stops the process where it stands: connections stay, and nothing is answered.
    pub(crate) fn pause(&self) -> Result<()> {
        self.running.pause()
    }

    /// Lets a paused process go on.
    pub(crate) fn resume(&self) -> Result<()> {
        self.running.resume()
    }

    /// From now on nothing is answered; it ends by itself.
    pub(crate) fn outage(&self, time: Duration) -> Result<()> {
        self.ask("POST", &format!("outage?for-ms={}", time.as_millis())).map(drop)
    }

    fn ask(&self, method: &str, page: &str) -> Result<String> {
        request(self.address, method, &format!("/_fake-s3/{page}"))
    }
}

/// One HTTP request without a body; the body of a successful answer.
pub(crate) fn request(address: SocketAddr, method: &str, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_LIMIT)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\n");
    write!(stream, "{head}Connection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no end of the head")?;
    let status = head.split(' ').nth(1).context("no status")?;
    anyhow::ensure!(status == "200", "{method} {path}: {status}");
    Ok(body.to_owned())
}
