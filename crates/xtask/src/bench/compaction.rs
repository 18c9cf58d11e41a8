//! `cargo xtask bench --compaction`: what compacting one large partition takes, and whether its result is right.
//!
//! Owns: sizes, when compaction is done, what is asked of the result.
//! Does not own: the client (`driver`).
//!
//! The partition is filled as one that is never compacted, and then becomes compacted: all of it is dirty at once.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::driver::Driver;
use super::meters::Meters;
use super::results::Results;
use super::{GIB, MIB, Options, build, number};
use crate::broker::{Broker, Program};
use crate::tools::{self, Tool};
use crate::workspace::Workspace;

const SYSTEM: &str = "aquifer";
const TOPIC: &str = "compacted";

/// How much there is to compact.
struct Sizes {
    keys: u32,
    /// Larger than `keys`: each key comes at least once, most come twice.
    records: u32,
    /// Bytes of a value; a key has 8.
    size: u32,
}

const FULL: Sizes = Sizes { keys: 10_000_000, records: 20_500_000, size: 512 };
const QUICK: Sizes = Sizes { keys: 100_000, records: 205_000, size: 512 };

/// Everything that lies in the bucket for ten seconds counts as rolled, as after Kafka's `segment.ms`.
const COMPACT: &str = "cleanup.policy:compact,segment.ms:10000,min.cleanable.dirty.ratio:0.01";

/// A look at what there is to clean comes after this instead of 15 s.
const BACKOFF: (&str, &str) = ("log.cleaner.backoff.ms", "1000");

const SAMPLE: Duration = Duration::from_millis(100);

/// Without another pass and without another record dropped for this long, compaction is done.
const CALM: Duration = Duration::from_secs(90);

const COMPACTION_LIMIT: Duration = Duration::from_secs(45 * 60);

const PASSES: &str = "aquifer_log_compaction_passes_total";
const DROPPED: &str = "aquifer_log_compaction_records_dropped_total";
const UNFLUSHED: &str = "aquifer_log_unflushed_bytes";

pub(super) fn run(options: &Options, workspace: &Workspace) -> Result<()> {
    tools::prepare(Tool::Java, workspace).context("the bench needs Java and Kafka's jars")?;
    let aquifer = match &options.binary {
        Some(binary) => std::path::absolute(binary)?,
        None => {
            build(options, workspace, &["aquifer"])?;
            workspace.target.join(&options.profile).join("aquifer")
        }
    };
    let sizes = if options.quick { &QUICK } else { &FULL };
    let mut results = Results::default();
    for _ in 0..options.rounds.unwrap_or(1) {
        round(&aquifer, sizes, workspace, &mut results)?;
    }
    println!("\n{}", results.table(&[SYSTEM]));
    let json =
        options.json.clone().unwrap_or_else(|| workspace.target.join("bench-compaction.json"));
    std::fs::write(&json, serde_json::to_string_pretty(&results.json())?)?;
    println!("\n{}", json.display());
    Ok(())
}

fn round(
    aquifer: &Path,
    sizes: &Sizes,
    workspace: &Workspace,
    results: &mut Results,
) -> Result<()> {
    let mut driver = Driver::start(workspace)?;
    let folder = workspace.installed().join("brokers").join("bench-compaction");
    let mut broker = Broker::new(Program::Aquifer(aquifer.to_path_buf()), folder, &[BACKOFF])?;
    broker.start()?;
    let mut note = |metric: &str, value: f64| {
        println!("   {metric:<56} {value:>14.2}");
        results.add(SYSTEM, metric, value);
    };
    let address = broker.address;
    let mut ask = |command: &str, rest: &str| {
        driver.ask(&format!("{command} bootstrap={address} topic={TOPIC} {rest}"))
    };
    let Sizes { keys, records, size } = sizes;
    ask("create", "partitions=1")?;
    let answer = ask("produce-keys", &format!("records={records} keys={keys} size={size}"))?;
    let bytes = number(&answer, "bytes")?;
    note("values in the partition, GiB", bytes / GIB);
    note("keys, millions", f64::from(*keys) / 1e6);
    wait_until_flushed(&broker)?;
    note("memory before, MiB", broker.resident_bytes()? as f64 / MIB);

    ask("alter", &format!("configs={COMPACT}"))?;
    let before = broker.processor_time()?;
    let compaction = watch(&broker)?;
    note("compaction, s", compaction.took.as_secs_f64());
    note("passes", compaction.passes);
    note("records dropped, millions", compaction.dropped / 1e6);
    note("memory while it compacts, at most, MiB", compaction.peak_bytes as f64 / MIB);
    let spent = (compaction.processor_time - before).as_secs_f64();
    note("CPU s per GiB of values", spent * GIB / bytes);

    let answer = ask("latest", &format!("records={records} keys={keys}"))?;
    for (field, name) in [
        ("records", "records read afterwards, millions"),
        ("keys", "keys among them, millions"),
        ("newest", "keys with their newest record, millions"),
    ] {
        note(name, number(&answer, field)? / 1e6);
    }
    broker.stop()
}

struct Compaction {
    took: Duration,
    passes: f64,
    dropped: f64,
    peak_bytes: u64,
    processor_time: Duration,
}

/// Until compaction rests. Its time ends with the last step it took.
fn watch(broker: &Broker) -> Result<Compaction> {
    let started = Instant::now();
    let mut seen = Compaction {
        took: Duration::ZERO,
        passes: 0.0,
        dropped: 0.0,
        peak_bytes: 0,
        processor_time: broker.processor_time()?,
    };
    while started.elapsed() < seen.took + CALM || seen.passes == 0.0 {
        anyhow::ensure!(started.elapsed() < COMPACTION_LIMIT, "compaction has no end");
        std::thread::sleep(SAMPLE);
        seen.peak_bytes = seen.peak_bytes.max(broker.resident_bytes()?);
        let meters = Meters::parse(&broker.metrics()?);
        let (passes, dropped) = (meters.known(PASSES)?, meters.known(DROPPED)?);
        if (passes, dropped) != (seen.passes, seen.dropped) {
            let (took, processor_time) = (started.elapsed(), broker.processor_time()?);
            seen = Compaction { took, passes, dropped, processor_time, ..seen };
        }
    }
    Ok(seen)
}

/// What is not in the bucket yet is not compacted.
fn wait_until_flushed(broker: &Broker) -> Result<()> {
    let started = Instant::now();
    while 0.0 < Meters::parse(&broker.metrics()?).known(UNFLUSHED)? {
        anyhow::ensure!(started.elapsed() < COMPACTION_LIMIT, "what was produced is not flushed");
        std::thread::sleep(SAMPLE);
    }
    Ok(())
}
