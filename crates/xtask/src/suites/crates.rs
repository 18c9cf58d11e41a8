//! The integration tests of Rust clients, which travel in their crates.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::{Case, Stage, registry_source};
use crate::process::{self, Output};

const BUILD_LIMIT: Duration = Duration::from_secs(30 * 60);
const RUN_LIMIT: Duration = Duration::from_secs(15 * 60);

/// A crate with tests, and how it is told where the broker is.
pub(crate) struct Package {
    name: &'static str,
    version: &'static str,
    /// Environment: the value `ADDRESS` stands for the broker's.
    environment: &'static [(&'static str, &'static str)],
    /// Dependencies whose locked version today's compiler refuses.
    updates: &'static [&'static str],
    /// Files whose tests have the broker's address built in: the file, that place, and what stands there instead.
    changed: &'static [(&'static str, &'static str, &'static str)],
    /// Only these of its test programs, without the dependencies that others of them need.
    only: Option<Part>,
}

struct Part {
    programs: &'static [&'static str],
    without: &'static [&'static str],
}

pub(crate) const RUST_RDKAFKA: Package = Package {
    name: "rdkafka",
    version: "0.39.0",
    environment: &[("KAFKA_HOST", "ADDRESS"), ("KAFKA_VERSION", "4.3.0")],
    updates: &[],
    changed: &[
        ("test_high_producers.rs", "\"localhost\"", "get_bootstrap_server().as_str()"),
        (
            "test_metadata.rs",
            "port(), 9092",
            "port(), get_bootstrap_server().rsplit(':').next().unwrap().parse::<i32>().unwrap()",
        ),
    ],
    only: None,
};
pub(crate) const RSKAFKA: Package = Package {
    name: "rskafka",
    version: "0.6.0",
    environment: &[
        ("TEST_INTEGRATION", "1"),
        ("TEST_BROKER_IMPL", "kafka"),
        ("KAFKA_CONNECT", "ADDRESS"),
    ],
    updates: &["rsasl"],
    changed: &[],
    only: None,
};
/// Without what compares it with librdkafka, Java and itself: that takes minutes to compile.
pub(crate) const RSKAFKA_QUICK: Package = Package {
    only: Some(Part {
        programs: &["client", "consumer", "producer"],
        without: &["criterion", "j4rs", "proptest", "proptest-derive", "rdkafka", "rustls-pemfile"],
    }),
    ..RSKAFKA
};

pub(crate) fn run(stage: &Stage, package: &Package) -> Result<Vec<Case>> {
    let folder = prepare(stage, package)?;
    let log = stage.logs.join("tests.log");
    let mut test = package.cargo_test(&folder);
    test.args(["--no-fail-fast", "--"]);
    // One after another: they share topics and wait for fixed times.
    test.arg("--test-threads=1").args(&stage.wanted);
    for (name, value) in package.environment {
        test.env(name, value.replace("ADDRESS", &stage.address));
    }
    let finished = process::run(&mut test, &Output::Log(&log), RUN_LIMIT)?;
    let text = String::from_utf8_lossy(&std::fs::read(&log)?).into_owned();
    let mut cases = outcomes(&text);
    if finished.status.is_none() || cases.is_empty() {
        cases.push(Case::failed("(the run)", finished.describe()));
    }
    Ok(cases)
}

impl Package {
    fn folder(&self) -> String {
        match self.only {
            None => self.name.to_owned(),
            Some(_) => format!("{}-quick", self.name),
        }
    }

    fn cargo_test(&self, folder: &Path) -> Command {
        let mut test = Command::new("cargo");
        test.current_dir(folder).arg("test").env("CARGO_PROFILE_DEV_DEBUG", "0");
        match &self.only {
            None => {
                test.arg("--tests");
            }
            Some(part) => {
                test.args(part.programs.iter().flat_map(|program| ["--test", program]));
            }
        }
        test
    }

    /// The package's manifest as it is built here: a workspace of its own, of the wanted part. Cargo wrote the text,
    /// so that a table begins with a line of its own and has a dependency or a program in it.
    fn manifest(&self, text: &str) -> String {
        let mut sections: Vec<String> = Vec::new();
        for line in text.lines() {
            match sections.last_mut() {
                Some(section) if !line.starts_with('[') => section.push_str(line),
                _ => sections.push(line.to_owned()),
            }
            sections.iter_mut().last().into_iter().for_each(|section| section.push('\n'));
        }
        let is_wanted = |section: &String, part: &Part| {
            let head = section.lines().next().unwrap_or_default();
            let named = |name: &&&str| section.contains(&format!("\nname = \"{name}\"\n"));
            match head {
                "[[bench]]" => false,
                "[[test]]" => part.programs.iter().any(|name| named(&name)),
                _ => !part.without.iter().any(|it| head == format!("[dev-dependencies.{it}]")),
            }
        };
        if let Some(part) = &self.only {
            sections.retain(|section| is_wanted(section, part));
        }
        sections.concat() + "\n[workspace]\n"
    }
}

fn prepare(stage: &Stage, package: &Package) -> Result<PathBuf> {
    let Package { name, version, updates, .. } = package;
    let folder = stage.cache().join(package.folder());
    let log = stage.logs.join("build.log");
    let stamp = folder.join(".prepared");
    if !stamp.exists() {
        // A package that depends on it makes cargo fetch it.
        let fetching = process::fresh_folder(stage.cache().join("fetch"))?;
        std::fs::write(fetching.join("lib.rs"), "")?;
        let manifest = format!(
            "[package]\nname = \"fetch\"\nedition = \"2024\"\n[workspace]\n[lib]\npath = \"lib.rs\"\n\
             [dependencies]\n{name} = \"={version}\"\n"
        );
        std::fs::write(fetching.join("Cargo.toml"), manifest)?;
        let mut fetch = Command::new("cargo");
        process::must(fetch.current_dir(&fetching).arg("fetch"), &log, BUILD_LIMIT)?;
        let source = registry_source(&format!("{name}-{version}"))?;
        stage.fresh_copy(&source, &package.folder())?;
        let manifest = folder.join("Cargo.toml");
        std::fs::write(&manifest, package.manifest(&std::fs::read_to_string(&manifest)?))?;
        for (file, before, after) in package.changed {
            let path = folder.join("tests").join(file);
            let text = std::fs::read_to_string(&path)?;
            ensure!(text.contains(before), "{file} has no {before}");
            std::fs::write(&path, text.replace(before, after))?;
        }
        // Which compiler is ours to choose.
        let _ = std::fs::remove_file(folder.join("rust-toolchain.toml"));
        for dependency in *updates {
            let mut update = Command::new("cargo");
            update.current_dir(&folder).args(["update", "--package", dependency]);
            process::must(&mut update, &log, BUILD_LIMIT)?;
        }
        std::fs::write(&stamp, "")?;
    }
    process::must(package.cargo_test(&folder).arg("--no-run"), &log, BUILD_LIMIT)?;
    Ok(folder)
}

/// Reads `test NAME ... ok`; what a test prints may stand between the dots and the verdict. Names that several
/// binaries have get the binary's name before them.
fn outcomes(log: &str) -> Vec<Case> {
    let (mut cases, mut binary, mut open) = (Vec::new(), String::new(), None);
    for line in log.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let ["Running", path, ..] = words[..] {
            path.trim_start_matches("tests/").trim_end_matches(".rs").clone_into(&mut binary);
        }
        let verdict = if let Some((name, rest)) =
            line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... "))
        {
            open = Some(format!("{binary}::{}", name.trim()));
            rest.trim()
        } else {
            line.trim()
        };
        let case = match (&open, verdict) {
            (Some(name), it) if it.ends_with("ok") => Case::passed(name),
            (Some(name), it) if it.ends_with("FAILED") => Case::failed(name, "see the log"),
            (Some(name), "ignored") => Case::skipped(name, "ignored by its authors"),
            (Some(name), it) if it.starts_with("ignored, ") => Case::skipped(name, it),
            _ => continue,
        };
        cases.push(case);
        open = None;
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::{RSKAFKA, RSKAFKA_QUICK, outcomes};
    use crate::suites::Outcome;

    #[test]
    fn a_part_of_a_package_needs_less() {
        let text = "# made\n\n[package]\nname = \"x\"\n[[test]]\nname = \"client\"\n[[test]]\n\
            name = \"java_helper\"\n[[bench]]\nname = \"b\"\n[dev-dependencies.j4rs]\nversion = \"1\"\n\
            [dev-dependencies.uuid]\nversion = \"1\"\n";
        let whole = RSKAFKA.manifest(text);
        assert_eq!(whole, format!("{text}\n[workspace]\n"));
        let part = RSKAFKA_QUICK.manifest(text);
        for gone in ["j4rs", "java_helper", "bench"] {
            assert!(!part.contains(gone), "{gone}: {part}");
        }
        assert!(part.contains("uuid") && part.contains("client"), "{part}");
    }

    #[test]
    fn outcomes_are_read_from_between_the_noise() {
        let log = "     Running tests/a.rs (target/debug/deps/a-1)\n\
            test one ... ok\ntest two ... noise\nmore noise\nFAILED\n\
            test three ... ignored, no server\n\
            test result: FAILED. 1 passed; 1 failed\n";
        let cases = outcomes(log);
        let names: Vec<&str> = cases.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, ["a::one", "a::two", "a::three"]);
        let outcomes: Vec<Outcome> = cases.iter().map(|it| it.outcome).collect();
        assert_eq!(outcomes, [Outcome::Passed, Outcome::Failed, Outcome::Skipped]);
    }
}
