//! A broker under test: ours or Apache Kafka, on loopback, with a data folder that outlives its process.
//!
//! Owns: configuration for both kinds, start until ready, clean stop, kill -9, memory and CPU readings,
//! and the verdict on its log.
//! Does not own: the programs that talk to it.
//!
//! Invariants:
//! - B1 at most one process per data folder;
//! - B2 a port once chosen is kept over restarts, so that clients find the broker again.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::fake_store;
use crate::process::{self, Output, Running};

const READY_LIMIT: Duration = Duration::from_secs(60);
const READY_POLL: Duration = Duration::from_millis(2);
const FORMAT_LIMIT: Duration = Duration::from_secs(60);
const KAFKA_HEAP: &str = "-Xmx1g";
const CLUSTER_ID: &str = "AAAAAAAAAAAAAAAAAAAAAQ";

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    Aquifer,
    Kafka,
}

/// Which program to start.
#[derive(Debug, Clone)]
pub(crate) enum Program {
    /// The path of the `aquifer` binary.
    Aquifer(PathBuf),
    /// The folder with Apache Kafka's jars.
    Kafka(PathBuf),
}

/// A broker and its place on this machine.
#[derive(Debug)]
pub(crate) struct Broker {
    program: Program,
    settings: BTreeMap<String, String>,
    pub(crate) address: SocketAddr,
    second: SocketAddr,
    folder: PathBuf,
    log: PathBuf,
    running: Option<Running>,
    formatted: bool,
}

impl Broker {
    /// Prepares, but does not start, a broker in `folder` (emptied). `settings` are Kafka's broker properties.
    pub(crate) fn new(
        program: Program,
        folder: PathBuf,
        settings: &[(&str, &str)],
    ) -> Result<Broker> {
        let folder = process::fresh_folder(folder)?;
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Ok(Broker {
            program,
            settings: settings.iter().map(owned).collect(),
            address: free_address()?,
            second: free_address()?,
            log: folder.join("broker.log"),
            folder,
            running: None,
            formatted: false,
        })
    }

    /// Starts it and waits until it serves; returns how long that took from the start of the process.
    pub(crate) fn start(&mut self) -> Result<Duration> {
        if self.running.is_some() {
            bail!("the broker already runs");
        }
        if matches!(self.program, Program::Kafka(_)) && !self.formatted {
            self.format_kafka()?;
        }
        let started = Instant::now();
        self.start_without_waiting()?;
        while !self.is_ready() {
            let running = self.running.as_mut().context("the broker was just started")?;
            if let Some(status) = running.ended()? {
                self.running = None;
                bail!("the broker ended before it was ready ({status})\n{}", self.log_tail());
            }
            if READY_LIMIT <= started.elapsed() {
                self.kill()?;
                bail!("not ready after {} s\n{}", READY_LIMIT.as_secs(), self.log_tail());
            }
            std::thread::sleep(READY_POLL);
        }
        Ok(started.elapsed())
    }

    /// Only begins to start; it may not serve for a while, or ever.
    pub(crate) fn start_without_waiting(&mut self) -> Result<()> {
        let mut command = self.command();
        self.running = Some(Running::start(&mut command, &Output::Log(&self.log))?);
        Ok(())
    }

    /// A clean stop; an exit status other than success is an error for our own broker.
    pub(crate) fn stop(&mut self) -> Result<()> {
        let Some(mut running) = self.running.take() else { return Ok(()) };
        let status = running.stop()?;
        if matches!(self.program, Program::Aquifer(_)) && !status.success() {
            bail!("the broker answered SIGTERM with {status}\n{}", self.log_tail());
        }
        Ok(())
    }

    /// kill -9: nothing is flushed, closed or said goodbye to.
    pub(crate) fn kill(&mut self) -> Result<()> {
        match self.running.take() {
            None => Ok(()),
            Some(mut running) => running.kill(),
        }
    }

    /// Stops the process where it stands; it knows nothing of it.
    pub(crate) fn pause(&self) -> Result<()> {
        self.running.as_ref().context("the broker does not run")?.pause()
    }

    /// Lets a paused process go on.
    pub(crate) fn resume(&self) -> Result<()> {
        self.running.as_ref().context("the broker does not run")?.resume()
    }

    /// Whether the process lives.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.running.as_mut().is_some_and(|running| matches!(running.ended(), Ok(None)))
    }

    /// Resident memory in bytes.
    pub(crate) fn resident_bytes(&self) -> Result<u64> {
        let status = std::fs::read_to_string(self.process_file("status")?)?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|rest| rest.split_whitespace().next()).context("no VmRSS")?;
        Ok(kib.parse::<u64>()? * 1024)
    }

    /// Processor time used so far, user and system.
    pub(crate) fn processor_time(&self) -> Result<Duration> {
        let stat = std::fs::read_to_string(self.process_file("stat")?)?;
        let after_name = stat.rsplit_once(')').context("no process name in stat")?.1;
        let fields: Vec<&str> = after_name.split_whitespace().collect();
        // utime and stime are fields 14 and 15 of proc(5); the text after the name starts at field 3.
        let ticks = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
        Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
    }

    /// The text of `/metrics`, of our own broker only.
    pub(crate) fn metrics(&self) -> Result<String> {
        fake_store::request(self.second, "GET", "/metrics")
    }

    /// What the log says that it must not: panics and ERROR lines. Apache Kafka's own log is not judged.
    pub(crate) fn complaints(&self) -> Vec<String> {
        if matches!(self.program, Program::Kafka(_)) {
            return Vec::new();
        }
        let text = std::fs::read(&self.log).unwrap_or_default();
        complaints_in(&String::from_utf8_lossy(&text))
    }

    pub(crate) fn log_tail(&self) -> String {
        process::tail(&self.log, 30)
    }

    fn process_file(&self, name: &str) -> Result<PathBuf> {
        let running = self.running.as_ref().context("the broker does not run")?;
        Ok(Path::new("/proc").join(running.id().to_string()).join(name))
    }

    fn command(&self) -> Command {
        match &self.program {
            Program::Aquifer(binary) => {
                let mut command = Command::new(binary);
                command.arg("serve").env("NO_COLOR", "1");
                // For a store of our own; any will do.
                command.env("AWS_ACCESS_KEY_ID", "aquifer").env("AWS_SECRET_ACCESS_KEY", "aquifer");
                let own = [
                    ("listeners", format!("PLAINTEXT://{}", self.address)),
                    // Said, as in Kafka's own configuration: programs ask where it comes from.
                    ("advertised.listeners", format!("PLAINTEXT://{}", self.address)),
                    ("aquifer.admin.listener", self.second.to_string()),
                    ("aquifer.data.dir", self.folder.join("data").display().to_string()),
                ];
                for (name, value) in own {
                    command.arg("--set").arg(format!("{name}={value}"));
                }
                for (name, value) in &self.settings {
                    command.arg("--set").arg(format!("{name}={value}"));
                }
                command
            }
            Program::Kafka(jars) => {
                let mut command = java(jars);
                command
                    .args([KAFKA_HEAP, "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"])
                    .arg("kafka.Kafka")
                    .arg(self.folder.join("server.properties"));
                command
            }
        }
    }

    fn format_kafka(&mut self) -> Result<()> {
        let Program::Kafka(jars) = &self.program else { return Ok(()) };
        let properties = self.folder.join("server.properties");
        std::fs::write(&properties, self.kafka_properties())?;
        let mut command = java(jars);
        command.args(["-XX:TieredStopAtLevel=1", "kafka.tools.StorageTool", "format"]);
        command.args(["-t", CLUSTER_ID, "-c"]).arg(&properties);
        process::must(&mut command, &self.folder.join("format.log"), FORMAT_LIMIT)?;
        self.formatted = true;
        Ok(())
    }

    fn kafka_properties(&self) -> String {
        let (address, controller) = (self.address, self.second);
        let mut properties: BTreeMap<String, String> = [
            ("process.roles", "broker,controller".to_owned()),
            ("node.id", "1".to_owned()),
            ("listeners", format!("PLAINTEXT://{address},CONTROLLER://{controller}")),
            ("advertised.listeners", format!("PLAINTEXT://{address}")),
            ("controller.listener.names", "CONTROLLER".to_owned()),
            ("controller.quorum.voters", format!("1@{controller}")),
            ("log.dirs", self.folder.join("data").display().to_string()),
            ("offsets.topic.replication.factor", "1".to_owned()),
            ("transaction.state.log.replication.factor", "1".to_owned()),
            ("transaction.state.log.min.isr", "1".to_owned()),
            ("share.coordinator.state.topic.replication.factor", "1".to_owned()),
            ("share.coordinator.state.topic.min.isr", "1".to_owned()),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
        properties.extend(self.settings.clone());
        properties.iter().map(|(name, value)| format!("{name}={value}\n")).collect()
    }

    fn is_ready(&self) -> bool {
        match self.program {
            Program::Aquifer(_) => http_status(self.second, "/readyz").is_some_and(|it| it == 200),
            Program::Kafka(_) => answers_api_versions(self.address),
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// `java` with a folder of jars as its class path.
pub(crate) fn java(jars: &Path) -> Command {
    let mut command = Command::new("java");
    command.arg("-cp").arg(jars.join("*"));
    command
}

/// A loopback address nobody listens on at the moment.
pub(crate) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}

/// Sends an ApiVersions request (version 0) and waits for the first byte of the answer.
pub(crate) fn answers_api_versions(address: SocketAddr) -> bool {
    let request = [
        0, 0, 0, 14, // length
        0, 18, 0, 0, // ApiVersions, version 0
        0, 0, 0, 1, // correlation id
        0, 4, b't', b'e', b's', b't',
    ];
    let mut answer = [0; 4];
    connect(address).is_some_and(|mut stream| {
        stream.write_all(&request).is_ok() && stream.read_exact(&mut answer).is_ok()
    })
}

fn http_status(address: SocketAddr, path: &str) -> Option<u16> {
    let mut stream = connect(address)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).ok()?;
    std::str::from_utf8(&answer[9..]).ok()?.parse().ok()
}

fn connect(address: SocketAddr) -> Option<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    Some(stream)
}

fn complaints_in(log: &str) -> Vec<String> {
    let is_complaint = |line: &&str| {
        line.contains("panicked at") || line.split_whitespace().take(3).any(|word| word == "ERROR")
    };
    log.lines().filter(is_complaint).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::complaints_in;

    #[test]
    fn error_lines_and_panics_are_complaints_and_nothing_else_is() {
        let log = "2026-11-21T04:00:00Z  INFO aquifer: ready\n\
                   2026-11-21T04:00:01Z ERROR broker::connection: it broke\n\
                   2026-11-21T04:00:02Z  WARN broker: a client said ERROR\n\
                   thread 'main' panicked at src/main.rs:1:2:\n";
        let found = complaints_in(log);
        assert_eq!(found.len(), 2);
        assert!(found[0].contains("it broke") && found[1].contains("panicked"));
    }
}
