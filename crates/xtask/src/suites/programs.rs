//! The programs of Apache Kafka's own system tests, from its jars.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use protocol::messages::create_topics::{self, CreateTopics};
use serde_json::Value;

use super::{Case, Stage};
use crate::process::{self, Output, Running};
use crate::wire::Client;

const INSTALL_LIMIT: Duration = Duration::from_secs(300);
const PROGRAM_LIMIT: Duration = Duration::from_secs(90);
const SMOKE_LIMIT: Duration = Duration::from_secs(400);
const DEPENDENCY_PLUGIN: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1";
const TOOLS: &str = "org.apache.kafka.tools";
const RECORDS: usize = 10_000;
/// What the smoke test of Streams reads and writes.
const SMOKE_TOPICS: [&str; 13] = [
    "data",
    "echo",
    "max",
    "min",
    "min-suppressed",
    "min-raw",
    "dif",
    "sum",
    "sws-raw",
    "sws-suppressed",
    "cnt",
    "avg",
    "tagg",
];
/// As many as in Kafka's own system test.
const SMOKE_PARTITIONS: i32 = 5;

pub(crate) fn run(stage: &Stage) -> Result<Vec<Case>> {
    let jars = jars(stage)?;
    let programs = Programs { stage, jars: &jars };
    let mut cases = vec![
        Case::of("ClientCompatibilityTest", programs.compatibility()),
        Case::of("VerifiableProducer, VerifiableConsumer", programs.verifiable("classic")),
        Case::of("VerifiableConsumer, consumer groups", programs.verifiable("consumer")),
        Case::of("TransactionalMessageCopier", programs.copier()),
    ];
    for guarantee in ["at_least_once", "exactly_once_v2"] {
        let name = format!("StreamsSmokeTest {guarantee}");
        cases.push(Case::of(name, programs.smoke(guarantee)));
    }
    Ok(cases)
}

/// The folder of the jars, fetched once.
pub(crate) fn jars(stage: &Stage) -> Result<PathBuf> {
    let (folder, pom) = (stage.jars(), stage.workspace.root.join("tests/suites/pom.xml"));
    let (jars, stamp) = (folder.join("lib"), folder.join(".made-from"));
    let text = std::fs::read(&pom)?;
    if std::fs::read(&stamp).is_ok_and(|made_from| made_from == text) {
        return Ok(jars);
    }
    process::fresh_folder(jars.clone())?;
    let mut maven = Command::new("mvn");
    maven.args(["-q", "-B", "-f"]).arg(&pom).arg(format!("{DEPENDENCY_PLUGIN}:copy-dependencies"));
    maven.arg("-DincludeScope=runtime").arg(format!("-DoutputDirectory={}", jars.display()));
    process::must(&mut maven, &stage.logs.join("install.log"), INSTALL_LIMIT)?;
    std::fs::write(&stamp, &text)?;
    Ok(jars)
}

/// Kafka's programs against one broker or several.
pub(crate) struct Programs<'a> {
    pub(crate) stage: &'a Stage,
    pub(crate) jars: &'a Path,
}

impl Programs<'_> {
    pub(crate) fn java(&self, class: &str) -> Command {
        let mut command = crate::broker::java(self.jars);
        command.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx512m"]);
        command.args(["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", class]);
        command
    }

    /// Runs a program to its end and returns what it printed, this time: each run has a log of its own.
    pub(crate) fn printed(
        &self,
        mut command: Command,
        name: &str,
        limit: Duration,
    ) -> Result<String> {
        let number = std::fs::read_dir(&self.stage.logs)?.count();
        let log = self.stage.logs.join(format!("{number}-{name}.log"));
        process::must(&mut command, &log, limit)?;
        Ok(String::from_utf8_lossy(&std::fs::read(&log)?).into_owned())
    }

    fn compatibility(&self) -> Result<()> {
        let mut command = self.java(&format!("{TOOLS}.ClientCompatibilityTest"));
        command.args(["--bootstrap-server", &self.stage.address, "--topic", "compatibility"]);
        command.args(["--num-cluster-nodes", "1", "--expect-record-too-large-exception", "False"]);
        for promise in ["offsets-for-times", "cluster-id", "create-topics", "describe-configs"] {
            command.args([&format!("--{promise}-supported"), "True"]);
        }
        command.args(["--idempotent-producer-supported", "True"]);
        // It then expects SECURITY_DISABLED, which is what a Kafka without an authorizer answers.
        command.args(["--describe-acls-supported", "True"]);
        self.printed(command, "compatibility", PROGRAM_LIMIT).map(|_| ())
    }

    pub(crate) fn produce(&self, address: &str, topic: &str, records: usize) -> Result<()> {
        let mut command = self.java(&format!("{TOOLS}.VerifiableProducer"));
        command.args(["--bootstrap-server", address, "--topic", topic]);
        command.args(["--max-messages", &records.to_string(), "--throughput", "-1"]);
        let printed = self.printed(command, &format!("produce-{topic}"), PROGRAM_LIMIT)?;
        let acknowledged = sum(&printed, "producer_send_success", |_| 1);
        ensure!(acknowledged == records, "{acknowledged} of {records} acknowledged");
        Ok(())
    }

    pub(crate) fn consume(
        &self,
        address: &str,
        topic: &str,
        protocol: &str,
        records: usize,
    ) -> Result<()> {
        let mut command = self.java(&format!("{TOOLS}.VerifiableConsumer"));
        command.args(["--bootstrap-server", address, "--topic", topic]);
        command.args(["--group-id", &format!("{topic}-{protocol}"), "--group-protocol", protocol]);
        command.args(["--max-messages", &records.to_string()]);
        let name = format!("consume-{topic}-{protocol}");
        let printed = self.printed(command, &name, PROGRAM_LIMIT)?;
        let count = |event: &Value| event["count"].as_u64().unwrap_or(0) as usize;
        let consumed = sum(&printed, "records_consumed", count);
        ensure!(consumed == records, "{consumed} of {records} consumed");
        Ok(())
    }

    fn verifiable(&self, protocol: &str) -> Result<()> {
        let topic = format!("verifiable-{protocol}");
        self.produce(&self.stage.address, &topic, RECORDS)?;
        self.consume(&self.stage.address, &topic, protocol, RECORDS)
    }

    /// Copies a topic in transactions of which some are aborted at random; what is committed is all of it, once.
    fn copier(&self) -> Result<()> {
        self.produce(&self.stage.address, "copied", RECORDS)?;
        let mut command = self.java(&format!("{TOOLS}.TransactionalMessageCopier"));
        command.args(["--broker-list", &self.stage.address, "--input-topic", "copied"]);
        command.args(["--input-partition", "0", "--output-topic", "copy"]);
        command.args(["--transactional-id", "copier", "--consumer-group", "copiers"]);
        command.args(["--transaction-size", "500", "--enable-random-aborts"]);
        self.printed(command, "copier", PROGRAM_LIMIT)?;
        let isolation = self.stage.logs.join("read-committed.properties");
        std::fs::write(&isolation, "isolation.level=read_committed\n")?;
        let mut command = self.java(&format!("{TOOLS}.VerifiableConsumer"));
        command.args(["--bootstrap-server", &self.stage.address, "--topic", "copy"]);
        command.args(["--group-id", "copy", "--max-messages", &RECORDS.to_string(), "--verbose"]);
        command.arg("--command-config").arg(&isolation);
        let printed = self.printed(command, "copy", PROGRAM_LIMIT)?;
        let values = events(&printed, "record_data");
        let mut seen: Vec<u64> = values
            .filter_map(|event| event["value"].as_str().and_then(|it| it.parse().ok()))
            .collect();
        seen.sort_unstable();
        let expected = 0..u64::try_from(RECORDS)?;
        ensure!(seen.iter().copied().eq(expected), "{} records, not each once", seen.len());
        Ok(())
    }

    /// The driver produces, the application aggregates, the driver verifies what came out.
    fn smoke(&self, guarantee: &str) -> Result<()> {
        let mut broker = self.stage.another_broker()?;
        broker.start()?;
        let address = broker.address.to_string();
        let state = self.stage.logs.join(format!("state-{guarantee}"));
        let properties = self.stage.logs.join(format!("{guarantee}.properties"));
        let text = format!(
            "bootstrap.servers={address}\nstate.dir={}\nprocessing.guarantee={guarantee}\n",
            state.display()
        );
        std::fs::write(&properties, text)?;
        let class = "org.apache.kafka.streams.tests.StreamsSmokeTest";
        let start = |role: &str| {
            let log = self.stage.logs.join(format!("smoke-{guarantee}-{role}.log"));
            let mut command = self.java(class);
            command.arg(&properties).arg(role);
            Running::start(&mut command, &Output::Log(&log)).map(|running| (running, log))
        };
        // Streams creates nothing that it reads, and it reads what it writes.
        create(broker.address, &SMOKE_TOPICS)?;
        let (mut driver, log) = start("run")?;
        let (application, _) = start("process")?;
        let started = Instant::now();
        let status = loop {
            if let Some(status) = driver.ended()? {
                break status;
            }
            let left = started.elapsed() < SMOKE_LIMIT;
            ensure!(left, "not verified in time\n{}", process::tail(&log, 5));
            std::thread::sleep(Duration::from_millis(200));
        };
        drop(application);
        broker.stop()?;
        let text = String::from_utf8_lossy(&std::fs::read(&log)?).into_owned();
        // The program ends with 0 either way.
        let verified = text.lines().any(|line| line.trim() == "SUCCESS");
        ensure!(status.success() && verified, "{}", process::tail(&log, 15));
        let complaints = broker.complaints();
        let first = complaints.first().map(String::as_str);
        first.map_or(Ok(()), |first| Err(anyhow::anyhow!("the broker complains: {first}")))
    }
}

fn create(address: SocketAddr, names: &[&str]) -> Result<()> {
    let topic = |name: &&str| create_topics::request::CreatableTopic {
        name: (*name).to_owned(),
        num_partitions: SMOKE_PARTITIONS,
        replication_factor: 1,
        ..Default::default()
    };
    let topics = names.iter().map(topic).collect();
    let request = create_topics::Request { topics, timeout_ms: 20_000, validate_only: false };
    let mut client = Client::connect(address, Duration::from_secs(20))?;
    let answer = client.call::<CreateTopics>(7, &request)?;
    let refused = answer.topics.iter().find(|topic| topic.error_code != 0);
    ensure!(refused.is_none(), "creating topics: {refused:?}");
    Ok(())
}

/// The lines that are JSON objects with this `name`.
fn events<'a>(printed: &'a str, name: &'a str) -> impl Iterator<Item = Value> + 'a {
    let parsed = printed.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    parsed.filter(move |event| event["name"] == name)
}

fn sum(printed: &str, name: &str, of: impl Fn(&Value) -> usize) -> usize {
    events(printed, name).map(|event| of(&event)).sum()
}

/// For suites that start programs in the background.
pub(crate) fn started(mut command: Command, log: &Path) -> Result<Running> {
    Running::start(&mut command, &Output::Log(log)).context("starting a program")
}

#[cfg(test)]
mod tests {
    use super::sum;

    #[test]
    fn events_are_counted_among_other_lines() {
        let printed = "[main] WARN x\n{\"name\":\"records_consumed\",\"count\":3}\n\
            {\"name\":\"records_consumed\",\"count\":4}\n{\"name\":\"other\",\"count\":9}\n";
        let count = |event: &serde_json::Value| event["count"].as_u64().unwrap_or(0) as usize;
        assert_eq!(sum(printed, "records_consumed", count), 7);
    }
}
