//! The client scenarios: real clients against a real broker, each named after whom it protects.
//!
//! Owns: the list, which programs each runs, running one against a fresh broker, the verdict on the broker.
//! Does not own: what the programs check (`tests/clients`), the hostile frames (`frames`).
//!
//! Invariants:
//! - S1 every scenario starts on an empty data folder and is bounded in time;
//! - S2 a scenario fails if a check fails, a program fails without a word, the broker dies, its log holds an
//!   ERROR or a panic, or it does not stop cleanly.

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::anomalies::{self, Place};
use crate::broker::{Broker, Kind, Program};
use crate::control::{self, Shared};
use crate::fake_store::FakeStore;
use crate::frames;
use crate::process::{self, Output};
use crate::report::Row;
use crate::tools::Tool;
use crate::workspace::Workspace;

/// Settings of every broker: Kafka's own defaults make each first member of a group wait three seconds, let no group
/// have its members heartbeat more often than every five, and lock for thirty what a member of a share group forgot.
const SETTINGS: [(&str, &str); 4] = [
    ("group.initial.rebalance.delay.ms", "0"),
    ("group.consumer.min.heartbeat.interval.ms", "200"),
    ("group.share.min.record.lock.duration.ms", "1000"),
    ("group.share.record.lock.duration.ms", "4000"),
];
/// ACLs count for what they speak of; the rest is everybody's.
const AUTHORIZER: [(&str, &str); 2] = [
    ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
    ("allow.everyone.if.no.acl.found", "true"),
];
const CROSS_WRITERS: [(Tool, &str); 7] = [
    (Tool::Kcat, "kcat"),
    (Tool::Python, "librdkafka"),
    (Tool::Python, "kafka-python"),
    (Tool::Node, "kafkajs"),
    (Tool::Java, "java"),
    (Tool::Rust, "rust-rdkafka"),
    (Tool::Go, "franz-go"),
];

/// Who is protected, and how.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// The tools without which there is nothing to run.
    pub(crate) needs: &'static [Tool],
    limit: Duration,
    body: Body,
    /// Aquifer has its log and its data in our own S3 server, which the program may make unavailable.
    on_store: bool,
    /// Of the broker, beside [`SETTINGS`].
    settings: &'static [(&'static str, &'static str)],
}

/// What an outage of the store is told as in the broker's log: once, and not a fault of the broker.
const STORE_TROUBLE: &str = "the bucket does not take WAL segments";

enum Body {
    Programs(fn(&Setting) -> Vec<Command>),
    Frames,
    /// Rounds of this length on brokers of their own.
    Anomalies(Duration),
}

/// Against what and with what the scenarios run.
pub(crate) struct Setting {
    pub(crate) workspace: Workspace,
    pub(crate) broker: Kind,
    pub(crate) program: Program,
    /// The tools that are ready.
    pub(crate) tools: Vec<Tool>,
}

pub(crate) fn all() -> Vec<Scenario> {
    let minutes = |count: u64| Duration::from_secs(60 * count);
    let programs = |name, needs, limit, programs| Scenario {
        name,
        needs,
        limit,
        body: Body::Programs(programs),
        on_store: false,
        settings: &[],
    };
    vec![
        programs("kcat", &[Tool::Kcat], minutes(3), |it| vec![it.kcat(&["scenarios"])]),
        programs("librdkafka (python)", &[Tool::Python], minutes(4), |it| {
            vec![it.python("confluent_client.py", &["scenarios"])]
        }),
        programs("librdkafka, consumer protocol", &[Tool::Python], minutes(6), |it| {
            vec![it.python("consumer_groups.py", &["scenarios"])]
        }),
        programs("librdkafka transactions", &[Tool::Python], minutes(4), |it| {
            vec![it.python("transaction_client.py", &["scenarios"])]
        }),
        programs("java transactions", &[Tool::Java], minutes(4), |it| {
            vec![it.java(&["transactions"])]
        }),
        programs("java consumer groups", &[Tool::Java], minutes(6), |it| {
            vec![it.java(&["groups"])]
        }),
        Scenario {
            settings: &AUTHORIZER,
            ..programs("java access control", &[Tool::Java], minutes(5), |it| {
                vec![it.java(&["access"])]
            })
        },
        programs("java share groups", &[Tool::Java], minutes(6), |it| vec![it.java(&["shares"])]),
        programs("kafka-python", &[Tool::Python], minutes(3), |it| {
            vec![it.python("kafka_python_client.py", &["scenarios"])]
        }),
        programs("kafkajs", &[Tool::Node], minutes(3), |it| vec![it.node(&["scenarios"])]),
        programs("java tools", &[Tool::Java], minutes(4), |it| vec![it.java(&["scenarios"])]),
        programs("streams and connect", &[Tool::Java], minutes(4), |it| {
            vec![it.java(&["frameworks"])]
        }),
        programs("rust-rdkafka", &[Tool::Rust], minutes(3), |it| vec![it.rust(&["scenarios"])]),
        programs("franz-go and sarama", &[Tool::Go], minutes(3), |it| vec![it.go(&["scenarios"])]),
        programs("cross-client codecs", &[], minutes(5), Setting::cross),
        Scenario {
            name: "hostile frames",
            needs: &[],
            limit: minutes(3),
            body: Body::Frames,
            on_store: false,
            settings: &[],
        },
        Scenario {
            name: "anomalies",
            needs: &[],
            limit: minutes(5),
            body: Body::Anomalies(Duration::from_secs(4)),
            on_store: false,
            settings: &[],
        },
        programs("kill -9", &[Tool::Python], minutes(6), |it| vec![it.python("kill_nine.py", &[])]),
        Scenario {
            on_store: true,
            ..programs("outage of the store", &[Tool::Python], minutes(4), |it| {
                vec![it.python("store_outage.py", &[])]
            })
        },
    ]
}

impl Setting {
    fn kcat(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("bash");
        command.arg(self.workspace.clients().join("kcat").join("kcat_client.sh")).args(arguments);
        command
    }

    fn python(&self, program: &str, arguments: &[&str]) -> Command {
        let python = self.workspace.installed().join("python").join("bin").join("python");
        let mut command = Command::new(python);
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        command.arg(self.workspace.clients().join("python").join(program)).args(arguments);
        command
    }

    fn node(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("node");
        command.arg(self.workspace.installed().join("node").join("kafkajs_client.mjs"));
        command.args(arguments);
        command
    }

    fn java(&self, arguments: &[&str]) -> Command {
        let mut command = java_program(&self.workspace, "JavaClient");
        command.args(arguments);
        command
    }

    fn rust(&self, arguments: &[&str]) -> Command {
        let folder = self.workspace.installed().join("rust").join("debug");
        let mut command = Command::new(folder.join("rdkafka-client"));
        command.args(arguments);
        command
    }

    fn go(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.workspace.installed().join("go").join("go-client"));
        command.args(arguments);
        command
    }

    /// Every client writes with every codec; then every client reads what all of them wrote.
    fn cross(&self) -> Vec<Command> {
        let ready = CROSS_WRITERS.iter().filter(|(tool, _)| self.tools.contains(tool));
        let names: Vec<&str> = ready.map(|(_, name)| *name).collect();
        let program = |name: &str, arguments: &[&str]| match name {
            "kcat" => self.kcat(arguments),
            "librdkafka" => self.python("confluent_client.py", arguments),
            "kafka-python" => self.python("kafka_python_client.py", arguments),
            "kafkajs" => self.node(arguments),
            "java" => self.java(arguments),
            "franz-go" => self.go(arguments),
            _ => self.rust(arguments),
        };
        let reading: Vec<&str> = std::iter::once("cross-read").chain(names.clone()).collect();
        let writes = names.iter().map(|name| program(name, &["cross-write"]));
        let reads = names.iter().map(|name| program(name, &reading));
        writes.chain(reads).collect()
    }
}

/// A JVM that starts fast.
fn java_program(workspace: &Workspace, class: &str) -> Command {
    let flags = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx512m"];
    java_command(workspace, &flags, class)
}

/// A JVM with our compiled programs and Kafka's jars on its class path.
pub(crate) fn java_command(workspace: &Workspace, flags: &[&str], class: &str) -> Command {
    let folder = workspace.installed().join("java");
    let path = format!("{}:{}", folder.join("classes").display(), folder.join("lib/*").display());
    let mut command = Command::new("java");
    command.args(flags).arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=error");
    command.args(["-cp", &path, class]);
    command
}

/// Runs one scenario on a fresh broker.
pub(crate) fn run(scenario: &Scenario, setting: &Setting) -> Row {
    if scenario.on_store && setting.broker == Kind::Kafka {
        return Row::skipped(scenario.name, "Kafka has no object store".to_owned());
    }
    let mut row = Row::new(scenario.name);
    let started = Instant::now();
    if let Err(error) = try_run(scenario, setting, &mut row) {
        row.failures.push(format!("{error:#}"));
    }
    row.elapsed = started.elapsed();
    row
}

fn try_run(scenario: &Scenario, setting: &Setting, row: &mut Row) -> Result<()> {
    if let Body::Anomalies(each) = scenario.body {
        return bad_days(each, setting, row);
    }
    let slug: String =
        scenario.name.chars().map(|it| if it.is_alphanumeric() { it } else { '-' }).collect();
    let folder = setting.workspace.installed().join("brokers").join(&slug);
    let store = match &setting.program {
        Program::Aquifer(binary) if scenario.on_store => {
            let objects = folder.with_extension("objects");
            let program = binary.with_file_name("fake-s3");
            Some(Arc::new(FakeStore::start(&program, &objects, "s3")?))
        }
        _ => None,
    };
    let uri = store.as_ref().map(|store| store.uri());
    let mut settings = SETTINGS.to_vec();
    settings.extend(scenario.settings);
    settings.extend(uri.as_deref().map(|uri| ("aquifer.bucket", uri)));
    let shared = Shared::new(Broker::new(setting.program.clone(), folder, &settings)?);
    shared.lock().start()?;
    if let Body::Programs(programs) = scenario.body {
        let log = setting.workspace.logs().join(format!("{slug}.out"));
        let weak = store.as_ref().map_or_else(Weak::new, Arc::downgrade);
        let control = control::serve(shared.clone(), weak)?;
        let address = shared.lock().address;
        for mut command in programs(setting) {
            command.env("BOOTSTRAP", address.to_string());
            command.env("CONTROL", control.to_string());
            if setting.broker == Kind::Kafka {
                command.env("KILLS", "4"); // Each restart of the JVM takes seconds.
            }
            run_program(&mut command, &log, scenario.limit, row)?;
        }
    } else {
        frames::attack(&shared, row)?;
    }
    judge_broker(&mut shared.lock(), scenario, row);
    Ok(())
}

fn bad_days(each: Duration, setting: &Setting, row: &mut Row) -> Result<()> {
    let folder = setting.workspace.target.join("anomalies");
    let places = Place::of(setting.broker);
    let told = anomalies::live(&setting.program, &folder, places, (Duration::ZERO, each), 1)?;
    row.passed += 1;
    row.notes.push(told);
    Ok(())
}

fn run_program(command: &mut Command, log: &PathBuf, limit: Duration, row: &mut Row) -> Result<()> {
    let errors = log.with_extension("err");
    for file in [log, &errors] {
        let _ = std::fs::remove_file(file);
    }
    let before = row.failures.len();
    let finished = process::run(command, &Output::Split(log, &errors), limit)?;
    row.add_program_output(&String::from_utf8_lossy(&std::fs::read(log)?));
    if !finished.succeeded() && row.failures.len() == before {
        row.failures.push(format!("the program: {}", finished.describe()));
    }
    if row.failures.len() > before {
        println!("---- end of standard error\n{}", process::tail(&errors, 40));
    }
    Ok(())
}

fn judge_broker(broker: &mut Broker, scenario: &Scenario, row: &mut Row) {
    let before = row.failures.len();
    if !broker.is_alive() {
        row.failures.push("the broker died".to_owned());
    }
    if let Err(error) = broker.stop() {
        row.failures.push(format!("the broker's stop: {error:#}"));
    }
    let mut complaints = broker.complaints();
    complaints.retain(|line| !(scenario.on_store && line.contains(STORE_TROUBLE)));
    if let Some(first) = complaints.first() {
        row.failures.push(format!("{} complaints in its log, first: {first}", complaints.len()));
    }
    if row.failures.len() > before || before > 0 {
        println!("---- end of the broker's log\n{}", broker.log_tail());
    }
}

/// What to start for `kind`.
pub(crate) fn program(kind: Kind, workspace: &Workspace, profile: &str) -> Program {
    match kind {
        Kind::Kafka => Program::Kafka(workspace.installed().join("java").join("lib")),
        Kind::Aquifer => {
            let folder = if profile == "dev" { "debug" } else { profile };
            Program::Aquifer(workspace.target.join(folder).join("aquifer"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn scenarios_have_names_of_their_own() {
        let names: BTreeSet<&str> = super::all().iter().map(|it| it.name).collect();
        assert_eq!(names.len(), super::all().len());
    }
}
