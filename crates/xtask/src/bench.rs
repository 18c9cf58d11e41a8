//! `cargo xtask bench`: Aquifer and Apache Kafka side by side, same client, same machine, interleaved rounds.
//!
//! Owns: which systems, which measurements, their order and sizes.
//! Does not own: the client (`driver`, a warm JVM), medians and the table (`results`).
//!
//! Apache Kafka runs twice: with its default settings, under which an acknowledged record may exist in memory only,
//! and with `log.flush.interval.messages=1`, which syncs before it acknowledges, as Aquifer does.

mod compaction;
mod driver;
mod meters;
mod results;
mod share;
mod store;
mod transactions;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;

use self::driver::Driver;
use self::results::Results;
use crate::broker::{self, Broker, Kind, Program};
use crate::control::Shared;
use crate::process::{self, Output};
use crate::scenarios;
use crate::tools::{self, Tool};
use crate::workspace::Workspace;

const BUILD_LIMIT: Duration = Duration::from_secs(60 * 60);
const PARTITIONS: u32 = 4;
const MANY_PARTITIONS: u32 = 10_000;
const MANY_TOPICS: u32 = 10;
const SETTLE: Duration = Duration::from_secs(2);
const SAMPLE: Duration = Duration::from_millis(100);
const GIB: f64 = 1024.0 * 1024.0 * 1024.0;
const MIB: f64 = 1024.0 * 1024.0;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// A short smoke run: small sizes, one round, fewer partitions.
    #[arg(long)]
    quick: bool,
    /// Rounds; each measures every system once.
    #[arg(long)]
    rounds: Option<u32>,
    /// Measure only systems whose name contains one of these.
    #[arg(long, value_delimiter = ',')]
    system: Vec<String>,
    /// Cargo profile of our binary.
    #[arg(long, default_value = "release")]
    profile: String,
    /// Take this binary instead of building one.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Measure our broker alone, with its log on an S3 server of our own that answers as slowly as a real one.
    #[arg(long)]
    store: bool,
    /// Measure only what transactions cost a producer.
    #[arg(long, conflicts_with = "store")]
    transactions: bool,
    /// Measure only what one member of a share group reads, beside a plain consumer.
    #[arg(long, conflicts_with_all = ["store", "transactions", "compaction"])]
    share: bool,
    /// Measure only, of our broker alone, how a large partition is compacted.
    #[arg(long, conflicts_with_all = ["store", "transactions"])]
    compaction: bool,
    /// With --store: only these parts.
    #[arg(long, value_enum, value_delimiter = ',')]
    part: Vec<store::Part>,
    /// Where the JSON goes; below the target folder unless told otherwise.
    #[arg(long)]
    json: Option<PathBuf>,
}

struct System {
    name: &'static str,
    kind: Kind,
    settings: &'static [(&'static str, &'static str)],
}

const SYSTEMS: [System; 3] = [
    System { name: "aquifer", kind: Kind::Aquifer, settings: &[] },
    System { name: "kafka", kind: Kind::Kafka, settings: &[] },
    System {
        name: "kafka, flush each",
        kind: Kind::Kafka,
        settings: &[("log.flush.interval.messages", "1")],
    },
];

/// How much each measurement moves.
struct Sizes {
    rounds: u32,
    warm_up_megabytes: u32,
    /// Record size in bytes and megabytes to produce.
    produce: [(u32, u32); 3],
    /// Of 1 KiB, with transactions and without.
    transactional_megabytes: u32,
    /// Of 1 KiB, read by a plain and by a share consumer.
    share_megabytes: u32,
    seconds: u32,
    many_partitions: u32,
}

const FULL: Sizes = Sizes {
    rounds: 3,
    warm_up_megabytes: 100,
    produce: [(100, 100), (1024, 1000), (16_384, 2000)],
    transactional_megabytes: 1000,
    share_megabytes: 300,
    seconds: 20,
    many_partitions: MANY_PARTITIONS,
};
const QUICK: Sizes = Sizes {
    rounds: 1,
    warm_up_megabytes: 10,
    produce: [(100, 5), (1024, 30), (16_384, 50)],
    transactional_megabytes: 100,
    share_megabytes: 50,
    seconds: 3,
    many_partitions: 500,
};

pub(crate) fn run(options: &Options, workspace: &Workspace) -> Result<()> {
    if options.store {
        return store::run(options, workspace);
    }
    if options.compaction {
        return compaction::run(options, workspace);
    }
    let sizes = if options.quick { &QUICK } else { &FULL };
    tools::prepare(Tool::Java, workspace).context("the bench needs Java and Kafka's jars")?;
    let chosen = |system: &&System| {
        options.system.is_empty()
            || options.system.iter().any(|it| system.name.contains(it.as_str()))
    };
    let systems: Vec<&System> = SYSTEMS.iter().filter(chosen).collect();
    let ours = systems.iter().any(|system| system.kind == Kind::Aquifer);
    if ours && options.binary.is_none() {
        build(options, workspace, &["aquifer"])?;
    }
    let mut driver = Driver::start(workspace)?;
    let mut results = Results::default();
    for round in 1..=options.rounds.unwrap_or(sizes.rounds) {
        for system in &systems {
            println!("== round {round}: {}", system.name);
            let mut bench = Bench { system, sizes, driver: &mut driver, results: &mut results };
            let folder = workspace.installed().join("brokers").join("bench");
            let program = match (system.kind, &options.binary) {
                (Kind::Aquifer, Some(binary)) => Program::Aquifer(std::path::absolute(binary)?),
                (kind, _) => scenarios::program(kind, workspace, &options.profile),
            };
            let broker = Broker::new(program, folder, system.settings)?;
            let broker = Shared::new(broker);
            if options.transactions {
                bench.transactions(&broker)?;
            } else if options.share {
                bench.share(&broker)?;
            } else {
                bench.measure(&broker, round == 1)?;
            }
        }
    }
    let names: Vec<&str> = systems.iter().map(|system| system.name).collect();
    println!("\n{}", results.table(&names));
    let json = options.json.clone().unwrap_or_else(|| workspace.target.join("bench.json"));
    std::fs::write(&json, serde_json::to_string_pretty(&results.json())?)?;
    println!("\nall rounds: {}", json.display());
    Ok(())
}

fn build(options: &Options, workspace: &Workspace, packages: &[&str]) -> Result<()> {
    let mut command = std::process::Command::new("cargo");
    command.current_dir(&workspace.root);
    command.args(["build", "--profile", &options.profile]);
    command.args(packages.iter().flat_map(|package| ["--package", package]));
    let finished = process::run(&mut command, &Output::Shown, BUILD_LIMIT)?;
    anyhow::ensure!(finished.succeeded(), "building: {}", finished.describe());
    Ok(())
}

struct Bench<'a> {
    system: &'a System,
    sizes: &'a Sizes,
    driver: &'a mut Driver,
    results: &'a mut Results,
}

impl Bench<'_> {
    fn measure(&mut self, broker: &Shared, with_partitions: bool) -> Result<()> {
        self.start(broker, "start")?;
        std::thread::sleep(SETTLE);
        self.memory(broker, "memory idle, MiB")?;
        self.create(broker, "warm", PARTITIONS)?;
        let warm = format!("size=1024 megabytes={}", self.sizes.warm_up_megabytes);
        self.ask(broker, "warm", "produce", &warm)?;
        let produced = self.produce(broker)?;
        self.latency(broker)?;
        self.consume(broker, "tail", &produced)?;
        broker.lock().stop()?;
        self.start(broker, "restart")?;
        self.consume(broker, "after restart", &produced)?;
        if with_partitions {
            self.idle_partitions(broker)?;
        }
        broker.lock().stop()
    }

    /// What partitions cost that nobody uses, on a broker that has just started.
    fn idle_partitions(&mut self, broker: &Shared) -> Result<()> {
        broker.lock().stop()?;
        self.start(broker, "third start")?;
        std::thread::sleep(SETTLE);
        self.memory(broker, "memory before idle partitions, MiB")?;
        let mut seconds = 0.0;
        // Kafka's controller takes at most 10,000 records in one step.
        for number in 0..MANY_TOPICS {
            let each = self.sizes.many_partitions / MANY_TOPICS;
            seconds += self.create(broker, &format!("many-{number}"), each)?;
        }
        let name = format!("{} partitions", self.sizes.many_partitions);
        self.note(&format!("creating {name}, s"), seconds);
        std::thread::sleep(SETTLE);
        self.memory(broker, &format!("memory with {name}, MiB"))
    }

    fn note(&mut self, metric: &str, value: f64) {
        println!("   {metric:<44} {value:>10.2}");
        self.results.add(self.system.name, metric, value);
    }

    /// Time until ready and until the first byte of an answer.
    fn start(&mut self, broker: &Shared, name: &str) -> Result<()> {
        let started = Instant::now();
        let ready = broker.lock().start()?;
        self.note(&format!("{name} to ready, ms"), ready.as_secs_f64() * 1000.0);
        let address = broker.lock().address;
        anyhow::ensure!(broker::answers_api_versions(address), "no answer when ready");
        self.note(&format!("{name} to first byte, ms"), started.elapsed().as_secs_f64() * 1000.0);
        Ok(())
    }

    fn memory(&mut self, broker: &Shared, metric: &str) -> Result<()> {
        let bytes = broker.lock().resident_bytes()?;
        self.note(metric, bytes as f64 / MIB);
        Ok(())
    }

    fn ask(&mut self, broker: &Shared, topic: &str, command: &str, rest: &str) -> Result<Value> {
        let address = broker.lock().address;
        self.driver.ask(&format!("{command} bootstrap={address} topic={topic} {rest}"))
    }

    fn create(&mut self, broker: &Shared, topic: &str, partitions: u32) -> Result<f64> {
        let prime = if partitions == PARTITIONS { " prime=yes" } else { "" };
        let rest = format!("partitions={partitions}{prime}");
        let answer = self.ask(broker, topic, "create", &rest)?;
        number(&answer, "seconds")
    }

    /// Runs a command and returns its answer with the broker's processor seconds per GiB and its peak memory.
    fn loaded(
        &mut self,
        broker: &Shared,
        topic: &str,
        command: &str,
        rest: &str,
    ) -> Result<(Value, Load)> {
        let before = broker.lock().processor_time()?;
        let (peak, done) = (AtomicU64::new(0), AtomicBool::new(false));
        let answer = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let now = broker.lock().resident_bytes().unwrap_or(0);
                    peak.fetch_max(now, Ordering::Relaxed);
                    std::thread::sleep(SAMPLE);
                }
            });
            let answer = self.ask(broker, topic, command, rest);
            done.store(true, Ordering::Relaxed);
            answer
        })?;
        let spent = broker.lock().processor_time()? - before;
        let load = Load { spent, peak_bytes: peak.load(Ordering::Relaxed) };
        Ok((answer, load))
    }

    /// Produces as fast as it goes with each record size; returns the number of records of each topic.
    fn produce(&mut self, broker: &Shared) -> Result<Vec<(u32, f64)>> {
        let mut produced = Vec::new();
        let mut peak = 0;
        for (size, megabytes) in self.sizes.produce {
            let topic = format!("produce-{size}");
            self.create(broker, &topic, PARTITIONS)?;
            let rest = format!("size={size} megabytes={megabytes}");
            let (answer, load) = self.loaded(broker, &topic, "produce", &rest)?;
            self.note(&format!("produce {size} B, MB/s"), number(&answer, "mb_s")?);
            let per_gib = load.spent.as_secs_f64() * GIB / number(&answer, "bytes")?;
            self.note(&format!("produce {size} B, CPU s/GiB"), per_gib);
            peak = peak.max(load.peak_bytes);
            produced.push((size, number(&answer, "records")?));
        }
        self.note("memory under load, MiB", peak as f64 / MIB);
        Ok(produced)
    }

    fn latency(&mut self, broker: &Shared) -> Result<()> {
        let seconds = self.sizes.seconds;
        self.create(broker, "latency", PARTITIONS)?;
        for rate in [10, 20] {
            let rest = format!("size=1024 rate_kb={} seconds={seconds}", rate * 1000);
            let (answer, load) = self.loaded(broker, "latency", "produce-at", &rest)?;
            self.percentiles(&format!("produce at {rate} MB/s"), &answer)?;
            let share = load.spent.as_secs_f64() / f64::from(seconds);
            self.note(&format!("produce at {rate} MB/s, CPU cores"), share);
        }
        let rest = format!("size=1024 rate_kb=1000 seconds={seconds}");
        let answer = self.ask(broker, "latency", "end-to-end", &rest)?;
        self.percentiles("end to end at 1 MB/s", &answer)
    }

    fn percentiles(&mut self, name: &str, answer: &Value) -> Result<()> {
        for (field, label) in [("p50_ms", "p50"), ("p99_ms", "p99"), ("p999_ms", "p99.9")] {
            self.note(&format!("{name}, {label} ms"), number(answer, field)?);
        }
        Ok(())
    }

    fn consume(&mut self, broker: &Shared, name: &str, produced: &[(u32, f64)]) -> Result<()> {
        for (size, records) in produced {
            let topic = format!("produce-{size}");
            let (answer, load) =
                self.loaded(broker, &topic, "consume", &format!("records={records:.0}"))?;
            self.note(&format!("consume {name} {size} B, MB/s"), number(&answer, "mb_s")?);
            let per_gib = load.spent.as_secs_f64() * GIB / number(&answer, "bytes")?;
            self.note(&format!("consume {name} {size} B, CPU s/GiB"), per_gib);
        }
        Ok(())
    }
}

/// What a command cost the broker.
struct Load {
    spent: Duration,
    peak_bytes: u64,
}

fn number(answer: &Value, field: &str) -> Result<f64> {
    answer[field].as_f64().with_context(|| format!("no {field} in {answer}"))
}
