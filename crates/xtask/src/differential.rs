//! `cargo xtask differential`: one sequence of requests, and what Apache Kafka 4.3.1 and Aquifer answer to it.
//!
//! Owns: starting the brokers, the recorded answers of Kafka, comparing field by field, what may differ.
//! Does not own: the requests (`script`), how answers become lines (`answers`).
//!
//! Kafka's answers are recorded in `tests/differential/kafka-4.3.1.txt` (`--record` makes them anew), so that our side
//! is compared without Java. What may differ stands in `tests/differential/intended.toml`: on purpose, with its reason,
//! or open, as a fault of ours that waits. An entry that nothing needs any more fails the run, too.

mod answers;
mod script;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use self::answers::Answers;
use crate::broker::{Broker, Kind, Program};
use crate::process::{self, Output};
use crate::scenarios;
use crate::tools::{self, Tool};
use crate::workspace::Workspace;

const BUILD_LIMIT: std::time::Duration = std::time::Duration::from_secs(30 * 60);
/// Of a second broker, for what is asked where ACLs count.
const AUTHORIZER: [(&str, &str); 2] = [
    ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
    ("allow.everyone.if.no.acl.found", "true"),
];
/// Both brokers are told what a client could see.
const SETTINGS: [(&str, &str); 3] =
    [("group.initial.rebalance.delay.ms", "0"), ("node.id", "1"), ("num.partitions", "1")];

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Ask Apache Kafka 4.3.1 and record what it answers, before ours is compared.
    #[arg(long)]
    record: bool,
    /// Cargo profile of our binary.
    #[arg(long, default_value = "dev")]
    profile: String,
    /// Take this binary instead of building one.
    #[arg(long)]
    binary: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Intended {
    difference: Vec<Difference>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Difference {
    /// What the line's key contains.
    fields: Vec<String>,
    status: Status,
    reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    /// Ours is meant to differ.
    Intended,
    /// A fault of ours that is known and not repaired.
    Open,
}

impl Status {
    fn name(self) -> &'static str {
        match self {
            Status::Intended => "on purpose",
            Status::Open => "open",
        }
    }
}

pub(crate) fn run(options: &Options, workspace: &Workspace) -> Result<()> {
    let folder = workspace.root.join("tests").join("differential");
    let recorded = folder.join("kafka-4.3.1.txt");
    if options.record {
        tools::prepare(Tool::Java, workspace).context("Kafka needs Java and its jars")?;
        let program = scenarios::program(Kind::Kafka, workspace, &options.profile);
        std::fs::write(&recorded, answers_of(program, workspace)?.text())?;
    }
    let program = match &options.binary {
        Some(binary) => Program::Aquifer(std::path::absolute(binary)?),
        None => {
            let mut build = std::process::Command::new("cargo");
            build.current_dir(&workspace.root).args(["build", "--quiet", "--workspace", "--bins"]);
            build.args(["--profile", &options.profile]);
            let finished = process::run(&mut build, &Output::Shown, BUILD_LIMIT)?;
            anyhow::ensure!(finished.succeeded(), "building: {}", finished.describe());
            scenarios::program(Kind::Aquifer, workspace, &options.profile)
        }
    };
    let (total, differences) = against_record(program, &folder, &recorded, workspace)?;
    for Difference { fields, status, reason } in &intended(&folder)?.difference {
        println!("{}: {reason} ({})", status.name(), fields.join("; "));
    }
    println!("{total} fields compared, {} differ and should not", differences.len());
    for line in &differences {
        println!("{line}");
    }
    match differences.len() {
        0 => Ok(()),
        count => bail!("{count} answers are not Kafka's"),
    }
}

/// Our answers against the recorded ones; returns how many fields were compared, and what differs and should not.
pub(crate) fn recorded(program: Program, workspace: &Workspace) -> Result<(usize, Vec<String>)> {
    let folder = workspace.root.join("tests").join("differential");
    against_record(program, &folder, &folder.join("kafka-4.3.1.txt"), workspace)
}

fn against_record(
    program: Program,
    folder: &Path,
    recorded: &Path,
    workspace: &Workspace,
) -> Result<(usize, Vec<String>)> {
    let kafka = Answers::parse(&std::fs::read_to_string(recorded)?);
    let intended = intended(folder)?;
    let ours = answers_of(program, workspace)?;
    std::fs::write(workspace.logs().join("differential.txt"), ours.text())?;
    let total = kafka.0.len().max(ours.0.len());
    let (unintended, used) = compare(&kafka.0, &ours.0, &intended.difference);
    let mut problems = unintended;
    for difference in &intended.difference {
        for field in &difference.fields {
            if !used.contains(&field.as_str()) {
                problems.push(format!("nothing differs any more in: {field}"));
            }
        }
    }
    Ok((total, problems))
}

fn intended(folder: &Path) -> Result<Intended> {
    Ok(toml::from_str(&std::fs::read_to_string(folder.join("intended.toml"))?)?)
}

/// Asks a broker at an address, and notes its answers.
type Script = fn(std::net::SocketAddr, &mut Answers) -> Result<()>;
type Settings<'a> = &'a [(&'a str, &'a str)];

fn answers_of(program: Program, workspace: &Workspace) -> Result<Answers> {
    std::fs::create_dir_all(workspace.logs())?;
    let mut answers = Answers::default();
    let with_authorizer = [&SETTINGS[..], &AUTHORIZER[..]].concat();
    let asked: [(&str, Settings<'_>, Script); 2] = [
        ("differential", &SETTINGS, script::run),
        ("differential-access", &with_authorizer, script::run_with_authorizer),
    ];
    for (name, settings, script) in asked {
        let folder = workspace.installed().join("brokers").join(name);
        let mut broker = Broker::new(program.clone(), folder, settings)?;
        broker.start()?;
        script(broker.address, &mut answers)?;
        anyhow::ensure!(broker.is_alive(), "the broker died\n{}", broker.log_tail());
        broker.stop()?;
        if let Some(first) = broker.complaints().first() {
            bail!("the broker complains: {first}");
        }
    }
    Ok(answers)
}

/// The lines that differ without a reason, and which entries were needed.
fn compare<'a>(
    kafka: &BTreeMap<String, String>,
    ours: &BTreeMap<String, String>,
    intended: &'a [Difference],
) -> (Vec<String>, Vec<&'a str>) {
    let (mut unintended, mut used) = (Vec::new(), Vec::new());
    let keys = kafka.keys().chain(ours.keys().filter(|key| !kafka.contains_key(*key)));
    for key in keys {
        let (theirs, own) = (kafka.get(key), ours.get(key));
        if theirs == own {
            continue;
        }
        let fields = intended.iter().flat_map(|it| it.fields.iter());
        let reasons: Vec<&str> =
            fields.filter(|it| key.contains(*it)).map(String::as_str).collect();
        if reasons.is_empty() {
            let shown =
                |value: Option<&String>| value.map_or("(absent)", String::as_str).to_owned();
            unintended.push(format!("{key}: Kafka {}, Aquifer {}", shown(theirs), shown(own)));
        }
        used.extend(reasons);
    }
    (unintended, used)
}

#[cfg(test)]
mod tests {
    use super::{Answers, Difference, Intended, Status, compare};
    use crate::workspace::Workspace;

    #[test]
    fn only_what_has_a_reason_may_differ() {
        let kafka = Answers::parse("a = 1\nb = 2\nc = 3\n").0;
        let ours = Answers::parse("a = 1\nb = 3\nd = 4\n").0;
        let fields = vec!["c".to_owned(), "z".to_owned()];
        let intended = [Difference { fields, status: Status::Open, reason: String::new() }];
        let (unintended, used) = compare(&kafka, &ours, &intended);
        assert_eq!(unintended, ["b: Kafka 2, Aquifer 3", "d: Kafka (absent), Aquifer 4"]);
        assert_eq!(used, ["c"]);
    }

    #[test]
    fn what_nobody_looked_into_is_open() {
        let workspace = Workspace::find().expect("a workspace");
        let folder = workspace.root.join("tests").join("differential");
        let text = std::fs::read_to_string(folder.join("intended.toml")).expect("it reads");
        let intended: Intended = toml::from_str(&text).expect("it parses");
        for Difference { fields, status, reason } in &intended.difference {
            assert!(!reason.is_empty() && !fields.is_empty(), "{fields:?}: {reason:?}");
            let unknown = reason.contains("not investigated");
            assert!(!unknown || *status == Status::Open, "{fields:?}: nobody can have meant it");
        }
    }
}
