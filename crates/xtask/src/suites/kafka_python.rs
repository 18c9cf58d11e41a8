//! kafka-python's integration tests, from its source package.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::{Case, Stage};
use crate::process::{self, Output};

const PACKAGE: &str = "kafka-python==3.0.12";
/// What the broker is taken for; some tests compare it with what they infer from ApiVersions.
const VERSION: &str = "4.3.0";
const PIP_LIMIT: Duration = Duration::from_secs(300);
const RUN_LIMIT: Duration = Duration::from_secs(15 * 60);
/// Codecs, and what the tests and their fixtures import.
const NEEDED: [&str; 7] =
    ["pytest==8.4.2", "pytest-mock", "pytest-timeout", "py", "lz4", "zstandard", "python-snappy"];
/// The source package leaves this module of its tests out; an external broker needs no more of it.
const SERVICE: &str = "class ExternalService:\n    \
    def __init__(self, host, port):\n        self.host, self.port = host, port\n\n    \
    def open(self):\n        pass\n\n    def close(self):\n        pass\n\n\nclass SpawnedService:\n    pass\n";

pub(crate) fn run(stage: &Stage) -> Result<Vec<Case>> {
    let environment = stage.cache().join("python");
    let python = environment.join("bin").join("python");
    let folder = stage.cache().join("kafka-python");
    if !folder.join(".prepared").exists() {
        prepare(stage)?;
    }
    let log = stage.logs.join("pytest.log");
    let mut test = Command::new(python);
    test.current_dir(&folder).args(["-m", "pytest", "-p", "no:cacheprovider", "-q", "-rA"]);
    test.args(["--timeout", "60", "test/integration"]);
    if !stage.wanted.is_empty() {
        test.args(["-k", &stage.wanted.join(" or ")]);
    }
    test.env("PYTHONPATH", ".").env("KAFKA_VERSION", VERSION);
    test.env("KAFKA_URI", format!("kafka://{}", stage.address));
    let finished = process::run(&mut test, &Output::Log(&log), RUN_LIMIT)?;
    let text = String::from_utf8_lossy(&std::fs::read(&log)?).into_owned();
    let mut cases = outcomes(&text);
    if finished.status.is_none() || cases.is_empty() {
        cases.push(Case::failed("(the run)", finished.describe()));
    }
    Ok(cases)
}

fn prepare(stage: &Stage) -> Result<()> {
    let log = stage.logs.join("install.log");
    let environment = stage.cache().join("python");
    let mut make = Command::new("python3");
    process::must(make.args(["-m", "venv", "--clear"]).arg(&environment), &log, PIP_LIMIT)?;
    let pip = || {
        let mut pip = Command::new(environment.join("bin").join("python"));
        pip.args(["-m", "pip", "--disable-pip-version-check", "-q"]);
        pip
    };
    process::must(pip().arg("install").arg(PACKAGE).args(NEEDED), &log, PIP_LIMIT)?;
    let folder = process::fresh_folder(stage.cache().join("kafka-python"))?;
    let mut download = pip();
    download.args(["download", "--no-deps", "--no-binary", ":all:", PACKAGE, "-d"]).arg(&folder);
    process::must(&mut download, &log, PIP_LIMIT)?;
    let mut unpack = Command::new("sh");
    unpack.current_dir(&folder).args(["-c", "tar xzf *.tar.gz --strip-components=1"]);
    process::must(&mut unpack, &log, PIP_LIMIT)?;
    // The standard library has a package `test`, too; and the fixtures look for a folder of servers.
    std::fs::write(folder.join("test").join("__init__.py"), "")?;
    std::fs::write(folder.join("test").join("service.py"), SERVICE)?;
    std::fs::create_dir_all(folder.join("servers").join(VERSION).join("kafka-bin"))?;
    Ok(std::fs::write(folder.join(".prepared"), "")?)
}

/// Reads pytest's closing lines: `PASSED test/integration/FILE.py::NAME`, `SKIPPED [3] FILE:LINE: REASON`.
fn outcomes(log: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    for line in log.lines() {
        let Some((verdict, rest)) = line.split_once(' ') else { continue };
        let rest = rest.strip_prefix("test/integration/").unwrap_or(rest);
        let (name, detail) = rest.split_once(" - ").unwrap_or((rest, "see the log"));
        match verdict {
            "PASSED" => cases.push(Case::passed(name)),
            "FAILED" | "ERROR" if name.contains("::") => cases.push(Case::failed(name, detail)),
            "SKIPPED" => {
                let place = rest.split_once("] ").map_or(rest, |(_, place)| place);
                let (place, reason) = place.split_once(": ").unwrap_or((place, ""));
                cases.push(Case::skipped(place.trim_start_matches("test/integration/"), reason));
            }
            _ => {}
        }
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::outcomes;
    use crate::suites::{Case, Outcome};

    #[test]
    fn pytest_is_understood() {
        let log = "PASSED test/integration/test_a.py::test_x[none]\n\
            FAILED test/integration/test_a.py::test_y - AssertionError: no\n\
            SKIPPED [3] test/integration/test_b.py:38: Testing on external Kafka Broker\nnoise\n";
        let cases = outcomes(log);
        assert_eq!(cases[0], Case::passed("test_a.py::test_x[none]"));
        assert_eq!(cases[1], Case::failed("test_a.py::test_y", "AssertionError: no"));
        assert_eq!((cases[2].name.as_str(), cases[2].outcome), ("test_b.py:38", Outcome::Skipped));
        assert_eq!(cases[2].detail, "Testing on external Kafka Broker");
    }
}
