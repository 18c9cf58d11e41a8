//! librdkafka's own tests of a broker; the sources travel in the crate `rdkafka-sys`.
//!
//! Every test number runs in a process of its own, as it may abort. A failure is tried a second time, alone: the
//! tests wait for fixed times, and two cores have weak moments. That it took a second try is in the result.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Case, Outcome, Stage, registry_source};
use crate::process::{self, Output};

const PACKAGE: &str = "rdkafka-sys-4.10.0+2.12.1";
const BUILD_LIMIT: Duration = Duration::from_secs(20 * 60);
const CASE_LIMIT: Duration = Duration::from_secs(300);
const WORKERS: usize = 4;
/// What `--quick` and `cargo xtask test` run: fast, of every area, and nothing that calls the command line tools.
const QUICK: [&str; 14] = [
    "0001", "0002", "0005", "0012", "0017", "0022", "0029", "0039", "0041", "0054", "0073", "0090",
    "0099", "0140",
];
/// Topic configs that Kafka 4 refuses (KIP-1030) and the test does not hang on, and what they are replaced by, for
/// both brokers.
const CHANGED: [(&str, &str, &str); 1] = [(
    "0129-fetch_aborted_msgs.c",
    "\"segment.bytes\", \"20000\"",
    "\"segment.bytes\", \"1048576\"",
)];
/// One test of everything in the admin API; where it fails, which of its parts pass is told, too.
const ADMIN: &str = "0081_admin";
const ADMIN_PARTS: [&str; 20] = [
    "CreateTopics",
    "DeleteTopics",
    "CreatePartitions",
    "AlterConfigs",
    "IncrementalAlterConfigs",
    "DescribeConfigs",
    "DeleteRecords",
    "ListConsumerGroups",
    "DescribeConsumerGroups",
    "DescribeTopics",
    "DescribeCluster",
    "DeleteGroups",
    "DeleteConsumerGroupOffsets",
    "ListOffsets",
    "AlterConsumerGroupOffsets",
    "ListConsumerGroupOffsets",
    "UserScramCredentials",
    "CreateAcls",
    "DescribeAcls",
    "DeleteAcls",
];
/// What skips itself in the quick mode of librdkafka's own.
const UNHURRIED: [&str; 1] = ["0082"];
/// The command line tools that the tests call, and their main classes.
const TOOLS: [(&str, &str); 3] = [
    ("kafka-topics.sh", "org.apache.kafka.tools.TopicCommand"),
    ("kafka-acls.sh", "org.apache.kafka.tools.AclCommand"),
    ("kafka-run-class.sh", ""),
];

pub(crate) fn run(stage: &Stage, scenario: &str, protocol: &str) -> Result<Vec<Case>> {
    let folder = prepare(stage)?;
    let tests = folder.join("tests");
    let conf = stage.logs.join("test.conf");
    let address = &stage.address;
    std::fs::write(
        &conf,
        format!("bootstrap.servers={address}\ntest.timeout.multiplier=3\ntest.topic.random=true\n"),
    )?;
    let entries = declared(&std::fs::read_to_string(tests.join("test.c"))?);
    let wanted = |entry: &&Entry| {
        entry.scenario.split(',').any(|it| it == scenario) && !entry.skipped_whole()
    };
    let chosen = |number: &&str| {
        let named = stage.wanted.is_empty() || stage.wanted.iter().any(|it| it == number);
        named && (!stage.quick || QUICK.contains(number))
    };
    let numbers: BTreeSet<&str> =
        entries.iter().filter(wanted).map(Entry::number).filter(chosen).collect();
    let bench = Bench { stage, tests: &tests, conf: &conf, scenario, protocol };
    let queue = Mutex::new(numbers.iter().copied().collect::<VecDeque<&str>>());
    let found = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some(number) = next else { return };
                    let cases = bench.try_number(number, None, "first");
                    found.lock().unwrap_or_else(PoisonError::into_inner).insert(number, cases);
                }
            });
        }
    });
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    for (number, cases) in &mut found {
        let failed = !matches!(cases, Ok(cases) if cases.values().all(|case| case.outcome != Outcome::Failed));
        if failed {
            *cases = bench.try_number(number, None, "second");
        }
    }
    let mut cases = Vec::new();
    for entry in entries.iter().filter(wanted) {
        match found.get_mut(entry.number()) {
            None => {}
            Some(Err(error)) => cases.push(Case::failed(&entry.name, format!("{error:#}"))),
            Some(Ok(results)) => cases.push(match results.remove(&entry.name) {
                Some(case) => case,
                None => Case::failed(&entry.name, "not in the report"),
            }),
        }
    }
    if cases.iter().any(|case| case.name == ADMIN && case.outcome == Outcome::Failed) {
        cases.extend(ADMIN_PARTS.map(|part| bench.try_part(ADMIN, part)));
    }
    Ok(cases)
}

/// A test as `test.c` declares it.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    name: String,
    flags: String,
    scenario: String,
}

impl Entry {
    fn number(&self) -> &str {
        &self.name[..4]
    }

    /// Needs no broker, or is for people at a keyboard, or known to its authors not to work.
    fn skipped_whole(&self) -> bool {
        let marks = ["TEST_F_LOCAL", "TEST_F_MANUAL", "TEST_F_KNOWN_ISSUE"];
        // Some are known issues on other systems only.
        self.flags.split('|').any(|flag| marks.contains(&flag.trim()))
            || self.name.ends_with("_mock")
    }
}

/// Reads the table `tests[]`: `_TEST(name, flags, …)`, where the rest may name a scenario.
fn declared(source: &str) -> Vec<Entry> {
    let Some((_, table)) = source.split_once("struct test tests[] = {") else { return Vec::new() };
    let table = table.split_once("\n};").map_or(table, |(table, _)| table);
    table
        .split("_TEST(")
        .skip(1)
        .filter_map(|text| {
            let (name, rest) = text.split_once(',')?;
            let flags: String = rest.chars().take_while(|it| *it != ',' && *it != ')').collect();
            let scenario = rest.split_once(".scenario = \"").and_then(|(_, it)| it.split_once('"'));
            Some(Entry {
                name: name.trim().to_owned(),
                flags: flags.trim().to_owned(),
                scenario: scenario.map_or("default", |(name, _)| name).to_owned(),
            })
        })
        .collect()
}

struct Bench<'a> {
    stage: &'a Stage,
    tests: &'a Path,
    conf: &'a Path,
    scenario: &'a str,
    protocol: &'a str,
}

impl Bench<'_> {
    /// The outcome of one part of a test, named `do_test_PART` in its source.
    fn try_part(&self, test: &str, part: &str) -> Case {
        let name = format!("{test}: {part}");
        let function = format!("do_test_{part}");
        match self.try_number(&test[..4], Some(&function), part) {
            // To the runner a part that it does not find has passed.
            Ok(mut cases) => match cases.remove(test) {
                Some(case) if case.outcome != Outcome::Passed => Case { name, ..case },
                Some(_) if self.log(&test[..4], part).1.contains(&format!("[ {function}:")) => {
                    Case::passed(name)
                }
                _ => Case::skipped(name, "not a part of the test with this group protocol"),
            },
            Err(error) => Case::failed(name, format!("{error:#}")),
        }
    }

    /// Where a run's log is, and what is in it.
    fn log(&self, number: &str, attempt: &str) -> (PathBuf, String) {
        let path = self.stage.logs.join(format!("{number}-{attempt}.log"));
        let text = std::fs::read(&path).unwrap_or_default();
        let text = plain(&String::from_utf8_lossy(&text));
        (path, text)
    }

    /// The outcome of every test of this number.
    fn try_number(
        &self,
        number: &str,
        part: Option<&str>,
        attempt: &str,
    ) -> Result<BTreeMap<String, Case>> {
        let (log, _) = self.log(number, attempt);
        let report = log.with_extension("json");
        let mut command = Command::new(self.tests.join("test-runner"));
        command.current_dir(self.tests).args(["-L", "-p1", "-s", self.scenario]);
        if !UNHURRIED.contains(&number) {
            command.arg("-Q");
        }
        command
            .env("LD_LIBRARY_PATH", "../src:../src-cpp")
            .env("RDKAFKA_TEST_CONF", self.conf)
            .env("KAFKA_PATH", self.stage.cache().join("kafka"))
            .env("BROKERS", &self.stage.address)
            .env("TEST_KAFKA_VERSION", "4.3.0")
            .env("TEST_CONSUMER_GROUP_PROTOCOL", self.protocol)
            .env("TEST_REPORT", &report)
            .env("TESTS", number);
        command.envs(part.map(|part| ("SUBTESTS", part)));
        let finished = process::run(&mut command, &Output::Log(&log), CASE_LIMIT)?;
        let (_, text) = self.log(number, attempt);
        let report = std::fs::read(&report).with_context(|| finished.describe())?;
        let report: Value = serde_json::from_slice(&report)?;
        let mut cases = BTreeMap::new();
        for (name, test) in report["tests"].as_object().context("no tests in the report")? {
            if !name.starts_with(number) {
                continue;
            }
            let case = match test["state"].as_str() {
                Some("PASSED") if attempt == "second" => {
                    Case { detail: "on the second try".to_owned(), ..Case::passed(name) }
                }
                Some("PASSED") => Case::passed(name),
                Some("SKIPPED") => Case::skipped(name, skip_reason(&text, name)),
                _ => Case::failed(name, failure(&text).unwrap_or_else(|| finished.describe())),
            };
            cases.insert(name.clone(), case);
        }
        Ok(cases)
    }
}

/// The reason in the closing table: `| NAME | SKIPPED | 0.000s | REASON`.
fn skip_reason(log: &str, name: &str) -> String {
    let mut lines = log.lines().filter(|line| line.starts_with('|'));
    let fields = lines.find_map(|line| {
        let fields: Vec<&str> = line.split('|').map(str::trim).collect();
        (fields.get(1) == Some(&name)).then_some(fields)
    });
    fields.and_then(|fields| fields.get(4).copied()).unwrap_or_default().to_owned()
}

/// The first line that says what went wrong, the assertion rather than the place where there is one.
fn failure(log: &str) -> Option<String> {
    let assertion = log.lines().find(|line| line.starts_with("Test assertion failed"));
    let place = || log.lines().find(|line| line.starts_with("### Test"));
    assertion.or_else(place).map(|line| line.chars().take(300).collect())
}

/// Without the terminal's colours.
fn plain(text: &str) -> String {
    let mut parts = text.split('\u{1b}');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |all, part| all + part.split_once('m').map_or(part, |(_, rest)| rest))
}

/// Builds the library and its tests once, and the scripts that they call.
fn prepare(stage: &Stage) -> Result<PathBuf> {
    let folder = stage.cache().join("librdkafka");
    let kafka = stage.cache().join("kafka").join("bin");
    std::fs::create_dir_all(&kafka)?;
    let jars = stage.workspace.installed().join("java").join("lib");
    // The tests compile a Java program of their own against what they find here.
    let libraries = stage.cache().join("kafka").join("libs");
    let _ = std::fs::remove_file(&libraries);
    std::os::unix::fs::symlink(&jars, &libraries)?;
    for (name, class) in TOOLS {
        let script = format!(
            "#!/bin/sh\nexec java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xmx256m \
             -Dorg.slf4j.simpleLogger.defaultLogLevel=error -cp \"$CLASSPATH:{}/*\" {class} \"$@\"\n",
            jars.display()
        );
        let path = kafka.join(name);
        std::fs::write(&path, script)?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o755))?;
    }
    if folder.join("tests").join("test-runner").exists() {
        return Ok(folder);
    }
    let mut fetch = Command::new("cargo");
    fetch.args(["fetch", "--locked", "--manifest-path"]);
    fetch.arg(stage.workspace.clients().join("rust").join("Cargo.toml"));
    let log = stage.logs.join("build.log");
    process::must(&mut fetch, &log, BUILD_LIMIT)?;
    stage.fresh_copy(&registry_source(PACKAGE)?.join("librdkafka"), "librdkafka")?;
    for (file, before, after) in CHANGED {
        let path = folder.join("tests").join(file);
        let text = std::fs::read_to_string(&path)?;
        ensure!(text.contains(before), "{file} has no {before}");
        std::fs::write(&path, text.replace(before, after))?;
    }
    let mut configure = Command::new("./configure");
    // What is tested is the broker: a build that takes a third of the time is worth more than a fast library.
    configure.args(["--disable-optimization", "--disable-debug-symbols"]);
    configure.args(["--disable-curl", "--disable-sasl", "--disable-ssl"]);
    process::must(configure.current_dir(&folder), &log, BUILD_LIMIT)?;
    for target in [&["libs"][..], &["-C", "tests", "build"][..]] {
        let mut make = Command::new("make");
        process::must(make.current_dir(&folder).arg("-j2").args(target), &log, BUILD_LIMIT)?;
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::{declared, failure, plain, skip_reason};

    #[test]
    fn the_table_of_tests_is_read() {
        let source = "x\nstruct test tests[] = {\n  {.name = \"<MAIN>\"},\n  _TEST(0001_a, 0),\n  \
            _TEST(0002_b,\n        TEST_F_LOCAL | TEST_F_KNOWN_ISSUE_WIN32,\n  _THRES(.ucpu = 1)),\n  \
            _TEST(0003_c, TEST_F_SOCKEM, TEST_BRKVER(0, 9, 0, 0), .scenario = \"noautocreate\"),\n};\n";
        let entries = declared(source);
        let names: Vec<&str> = entries.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, ["0001_a", "0002_b", "0003_c"]);
        assert_eq!(
            entries.iter().map(|it| it.skipped_whole()).collect::<Vec<_>>(),
            [false, true, false]
        );
        assert_eq!(entries[2].scenario, "noautocreate");
    }

    #[test]
    fn reasons_are_found_among_colours() {
        let log = plain(
            "\u{1b}[0m|\u{1b}[36m 0098_x  |  SKIPPED |  0.000s \u{1b}[0m|\u{1b}[36m no json\u{1b}[0m\n\
            ### Test \"0098_x\" failed at test.c:1\nTest assertion failed: \"a\": b\n",
        );
        assert_eq!(skip_reason(&log, "0098_x"), "no json");
        assert_eq!(failure(&log).as_deref(), Some("Test assertion failed: \"a\": b"));
    }
}
