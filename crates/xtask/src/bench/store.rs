//! `cargo xtask bench --store`: our broker with its log in a bucket, on an S3 server of our own whose answers take as
//! long as those of a real one.
//!
//! Owns: which measurements, their order and sizes, and what the broker's meters say of each.
//! Does not own: the client (`driver`), reading the meters (`meters`), the server (`fake_store`).
//!
//! Every part starts on an empty store and an empty broker.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::driver::Driver;
use super::meters::Meters;
use super::results::Results;
use super::{GIB, Options, build, number};
use crate::broker::{Broker, Program};
use crate::control::Shared;
use crate::fake_store::FakeStore;
use crate::process::{self, Output};
use crate::tools::{self, Tool};
use crate::workspace::Workspace;

const SYSTEM: &str = "aquifer";
const DELAYS: &str = "s3";
const PRODUCERS: u32 = 16;
const SETTLE: Duration = Duration::from_secs(3);
/// How long flushing and merging may go on behind a load before the meters are read.
const QUIET_LIMIT: Duration = Duration::from_secs(180);
const QUIET_POLL: Duration = Duration::from_secs(5);
const RDKAFKA_LIMIT: Duration = Duration::from_secs(180);
/// Well below what one default Java producer reaches on one partition, or latencies would be those of its queue.
const TAIL_RATE_KB: u32 = 200;
/// A load goes on for this long before the store goes away under it.
const BEFORE_OUTAGE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Part {
    /// Acknowledgements at low load beside the PUTs of that time.
    Latency,
    /// One producer on one partition, Java and librdkafka.
    Single,
    /// Sixteen producers: speed, processor, requests and bytes by purpose.
    Load,
    /// Start after kill -9 with everything unflushed.
    Recovery,
    /// Tail producing and fetching beside a consumer that reads cold data at full speed.
    Backfill,
    /// The store goes away under load.
    Outage,
    /// Requests while nothing is produced.
    Idle,
}

const PARTS: [Part; 7] = [
    Part::Latency,
    Part::Single,
    Part::Load,
    Part::Recovery,
    Part::Backfill,
    Part::Outage,
    Part::Idle,
];

/// How much each part moves.
struct Sizes {
    seconds: u32,
    single_megabytes: u32,
    load_megabytes: u32,
    unflushed_megabytes: u32,
    cold_megabytes: u32,
    backfill_rounds: u32,
    outage_seconds: u32,
    idle_seconds: u32,
}

const FULL: Sizes = Sizes {
    seconds: 30,
    single_megabytes: 40,
    load_megabytes: 4000,
    unflushed_megabytes: 4300,
    cold_megabytes: 2000,
    backfill_rounds: 3,
    outage_seconds: 60,
    idle_seconds: 60,
};
const QUICK: Sizes = Sizes {
    seconds: 10,
    single_megabytes: 10,
    load_megabytes: 500,
    unflushed_megabytes: 300,
    cold_megabytes: 500,
    backfill_rounds: 1,
    outage_seconds: 10,
    idle_seconds: 10,
};

/// Nothing is flushed, so that the log alone holds what was produced.
const UNFLUSHED: [(&str, &str); 3] = [
    ("aquifer.flush.bytes", "34359738368"),
    ("aquifer.unflushed.bytes", "34359738368"),
    ("aquifer.flush.age.ms", "86400000"),
];

pub(super) fn run(options: &Options, workspace: &Workspace) -> Result<()> {
    tools::prepare(Tool::Java, workspace).context("the bench needs Java and Kafka's jars")?;
    let python = tools::prepare(Tool::Python, workspace);
    if let Err(error) = &python {
        println!("no librdkafka: {error:#}");
    }
    let folder = workspace.target.join(&options.profile);
    let aquifer = match &options.binary {
        Some(binary) => std::path::absolute(binary)?,
        None => {
            build(options, workspace, &["aquifer", "fake-s3"])?;
            folder.join("aquifer")
        }
    };
    let fake = aquifer.with_file_name("fake-s3");
    let mut bench = Bench {
        workspace,
        aquifer,
        fake,
        with_rdkafka: python.is_ok(),
        sizes: if options.quick { &QUICK } else { &FULL },
        driver: Driver::start(workspace)?,
        results: Results::default(),
    };
    let chosen = |part: &Part| options.part.is_empty() || options.part.contains(part);
    for part in PARTS.into_iter().filter(chosen) {
        println!("== {part:?}");
        bench.measure(part)?;
    }
    println!("\n{}", bench.results.table(&[SYSTEM]));
    let json = options.json.clone().unwrap_or_else(|| workspace.target.join("bench-store.json"));
    std::fs::write(&json, serde_json::to_string_pretty(&bench.results.json())?)?;
    println!("\n{}", json.display());
    Ok(())
}

struct Bench<'a> {
    workspace: &'a Workspace,
    aquifer: PathBuf,
    fake: PathBuf,
    with_rdkafka: bool,
    sizes: &'a Sizes,
    driver: Driver,
    results: Results,
}

impl Bench<'_> {
    fn measure(&mut self, part: Part) -> Result<()> {
        let folder = self.workspace.installed().join("brokers");
        let store = FakeStore::start(&self.fake, &folder.join("bench-objects"), DELAYS)?;
        let uri = store.uri();
        let mut settings = vec![("aquifer.bucket", uri.as_str())];
        if part == Part::Recovery {
            settings.extend(UNFLUSHED);
        }
        let program = Program::Aquifer(self.aquifer.clone());
        let broker = Shared::new(Broker::new(program, folder.join("bench-store"), &settings)?);
        broker.lock().start()?;
        match part {
            Part::Latency => self.latency(&broker),
            Part::Single => self.single(&broker),
            Part::Load => self.load(&broker),
            Part::Recovery => self.recovery(&broker, &store),
            Part::Backfill => self.backfill(&broker),
            Part::Outage => self.outage(&broker, &store),
            Part::Idle => self.idle(&broker),
        }?;
        let complaints = broker.lock().complaints();
        // An outage is told as an error, once.
        if part != Part::Outage && !complaints.is_empty() {
            println!("   complaints in the broker's log: {complaints:?}");
        }
        broker.lock().kill()
    }

    fn note(&mut self, metric: &str, value: f64) {
        println!("   {metric:<56} {value:>10.2}");
        self.results.add(SYSTEM, metric, value);
    }

    fn create(&mut self, broker: &Shared, topic: &str, partitions: u32) -> Result<()> {
        let address = broker.lock().address;
        let prime = "prime=yes"; // Each partition has met its first producer.
        let command = format!("create bootstrap={address} topic={topic} partitions={partitions}");
        self.driver.ask(&format!("{command} {prime}")).map(drop)
    }

    fn ask(&mut self, broker: &Shared, rest: &str) -> Result<serde_json::Value> {
        let address = broker.lock().address;
        let (command, rest) = rest.split_once(' ').context("a command has parameters")?;
        self.driver.ask(&format!("{command} bootstrap={address} {rest}"))
    }

    fn latency(&mut self, broker: &Shared) -> Result<()> {
        self.create(broker, "latency", 1)?;
        self.ask(broker, "produce-at topic=latency size=1024 rate_kb=5 seconds=5")?;
        for (name, rate) in [("5 records/s", 5), ("200 KB/s", TAIL_RATE_KB)] {
            let before = meters(broker)?;
            let seconds = self.sizes.seconds;
            let rest =
                format!("produce-at topic=latency size=1024 rate_kb={rate} seconds={seconds}");
            let answer = self.ask(broker, &rest)?;
            let spent = meters(broker)?.since(&before);
            for (field, label) in [("mean_ms", "mean"), ("p50_ms", "p50"), ("p99_ms", "p99")] {
                self.note(&format!("ack at {name}, {label} ms"), number(&answer, field)?);
            }
            self.note(
                &format!("PUT in that time, mean ms ({name})"),
                1000.0 * spent.wal_put_mean_seconds(),
            );
            for (quantile, label) in [(0.5, "p50"), (0.99, "p99")] {
                let seconds = spent.wal_put_seconds(quantile).context("no PUT was seen")?;
                self.note(&format!("PUT in that time, {label} ms ({name})"), 1000.0 * seconds);
            }
            let per_second = spent.puts("wal") / f64::from(seconds);
            self.note(&format!("WAL PUT/s ({name})"), per_second);
        }
        Ok(())
    }

    fn single(&mut self, broker: &Shared) -> Result<()> {
        self.create(broker, "single", 1)?;
        let megabytes = self.sizes.single_megabytes;
        let rest = format!("produce topic=single size=1024 megabytes={megabytes}");
        let answer = self.ask(broker, &rest)?;
        self.note("one default Java producer, 1 partition, MB/s", number(&answer, "mb_s")?);
        if self.with_rdkafka {
            let speed = self.rdkafka(broker, "single", 10 * megabytes, &[])?;
            self.note("one default librdkafka producer, 1 partition, MB/s", speed);
            let speed = self.rdkafka(broker, "single", 5 * megabytes, &["idempotent"])?;
            self.note("the same with enable.idempotence, MB/s", speed);
        }
        Ok(())
    }

    fn rdkafka(
        &self,
        broker: &Shared,
        topic: &str,
        megabytes: u32,
        options: &[&str],
    ) -> Result<f64> {
        let python = self.workspace.installed().join("python").join("bin").join("python");
        let mut command = std::process::Command::new(python);
        command.arg(self.workspace.clients().join("python").join("bench_producer.py"));
        command.args([topic, "1024", &megabytes.to_string()]).args(options);
        command.env("BOOTSTRAP", broker.lock().address.to_string());
        let out = self.workspace.logs().join("bench-rdkafka.out");
        let _ = std::fs::remove_file(&out);
        let errors = out.with_extension("err");
        let finished = process::run(&mut command, &Output::Split(&out, &errors), RDKAFKA_LIMIT)?;
        anyhow::ensure!(finished.succeeded(), "librdkafka: {}", process::tail(&errors, 10));
        number(&serde_json::from_str(&std::fs::read_to_string(&out)?)?, "mb_s")
    }

    fn load(&mut self, broker: &Shared) -> Result<()> {
        self.create(broker, "load", PRODUCERS)?;
        let megabytes = self.sizes.load_megabytes;
        let warm = format!("produce topic=load size=1024 megabytes=100 producers={PRODUCERS}");
        let first = meters(broker)?;
        let warm_bytes = number(&self.ask(broker, &warm)?, "bytes")?;
        let before = meters(broker)?;
        let spent = broker.lock().processor_time()?;
        let started = Instant::now();
        let rest =
            format!("produce topic=load size=1024 megabytes={megabytes} producers={PRODUCERS}");
        let answer = self.ask(broker, &rest)?;
        let spent = broker.lock().processor_time()? - spent;
        let cores = spent.as_secs_f64() / started.elapsed().as_secs_f64();
        let bytes = number(&answer, "bytes")?;
        self.note("16 Java producers, 16 partitions, MB/s", number(&answer, "mb_s")?);
        self.note("the same, server CPU in cores", cores);
        self.note("the same, server CPU s/GiB", spent.as_secs_f64() * GIB / bytes);
        let wal = meters(broker)?.since(&before);
        self.note("WAL PUT/GiB, while it runs", wal.puts("wal") * GIB / bytes);
        wait_until_quiet(broker)?;
        let last = meters(broker)?;
        let all = last.since(&before);
        // What was produced to warm up is flushed and merged with the rest.
        let (merged, merged_bytes) = (last.since(&first), bytes + warm_bytes);
        let (mut sum, mut uploaded) = (0.0, Vec::new());
        for (purpose, spent, bytes) in [
            ("wal", &wal, bytes),
            ("flush", &merged, merged_bytes),
            ("merge", &merged, merged_bytes),
        ] {
            let puts = spent.puts(purpose) * GIB / bytes;
            sum += puts;
            self.note(&format!("PUT/GiB, {purpose}"), puts);
            uploaded.push(spent.written(purpose) / bytes);
            self.note(&format!("bytes uploaded per byte, {purpose}"), uploaded[uploaded.len() - 1]);
        }
        self.note("PUT/GiB, wal + flush + merge", sum);
        // The meters count what was answered, and of a hedged write only the first answer is waited for.
        let hedges = all.get("aquifer_wal_put_hedges_total");
        self.note("PUT/GiB, second WAL PUTs beside these", hedges * GIB / bytes);
        let hedged = all.get("aquifer_wal_put_hedge_bytes_total") / bytes;
        self.note("bytes uploaded per byte, second WAL PUTs beside these", hedged);
        let segments = all.get("aquifer_wal_bytes_total") / bytes;
        self.note("bytes of WAL segments per byte of values", segments);
        self.note("PUT/GiB, all purposes", all.all_puts() * GIB / bytes);
        let before_merging = uploaded[0] + uploaded[1];
        self.note("bytes uploaded per byte, before merging", before_merging);
        self.note("bytes uploaded per byte, in all", before_merging + uploaded[2]);
        Ok(())
    }

    fn recovery(&mut self, broker: &Shared, store: &FakeStore) -> Result<()> {
        self.create(broker, "tail", PRODUCERS)?;
        // Filling takes its time either way; the starts are what counts.
        store.set_delays("none")?;
        let megabytes = self.sizes.unflushed_megabytes;
        let rest =
            format!("produce topic=tail size=1024 megabytes={megabytes} producers={PRODUCERS}");
        for delays in ["none", DELAYS] {
            store.set_delays("none")?;
            self.ask(broker, &rest)?;
            let unflushed = meters(broker)?.get("aquifer_log_unflushed_bytes") / GIB;
            self.note(&format!("unflushed at kill -9, GiB (delays {delays})"), unflushed);
            broker.lock().kill()?;
            store.set_delays(delays)?;
            let ready = broker.lock().start()?;
            self.note(&format!("kill -9 to serving, s (delays {delays})"), ready.as_secs_f64());
        }
        Ok(())
    }

    fn backfill(&mut self, broker: &Shared) -> Result<()> {
        self.create(broker, "cold", 4)?;
        self.create(broker, "hot", 1)?;
        let megabytes = self.sizes.cold_megabytes;
        let rest = format!("produce topic=cold size=1024 megabytes={megabytes} producers=4");
        let answer = self.ask(broker, &rest)?;
        let records = number(&answer, "records")?;
        wait_until_quiet(broker)?;
        broker.lock().stop()?;
        broker.lock().start()?; // Nothing of it is in memory.
        let mut reader = Driver::start(self.workspace)?;
        let address = broker.lock().address;
        let consume = format!("consume bootstrap={address} topic=cold records={records:.0}");
        self.ask(broker, "produce-at topic=hot size=1024 rate_kb=200 seconds=5")?;
        for _ in 0..self.sizes.backfill_rounds {
            self.tail(broker, "alone")?;
            let done = AtomicBool::new(false);
            let speed = std::thread::scope(|scope| {
                let backfill = scope.spawn(|| -> Result<Vec<f64>> {
                    let mut speeds = Vec::new();
                    while !done.load(Ordering::Relaxed) {
                        speeds.push(number(&reader.ask(&consume)?, "mb_s")?);
                    }
                    Ok(speeds)
                });
                let measured = self.tail(broker, "beside a backfill");
                done.store(true, Ordering::Relaxed);
                let speeds = backfill.join().expect("the reader does not panic");
                measured.and(speeds)
            })?;
            for speed in speed {
                self.note("backfill, MB/s", speed);
            }
        }
        Ok(())
    }

    /// Latencies at the end of a partition: of acknowledgements, and of arrivals at a consumer.
    fn tail(&mut self, broker: &Shared, name: &str) -> Result<()> {
        let seconds = self.sizes.seconds;
        for (command, label) in [("produce-at", "ack"), ("end-to-end", "end to end")] {
            let rest =
                format!("{command} topic=hot size=1024 rate_kb={TAIL_RATE_KB} seconds={seconds}");
            let answer = self.ask(broker, &rest)?;
            for (field, quantile) in [("p50_ms", "p50"), ("p99_ms", "p99")] {
                let metric = format!("tail {label} {name}, {quantile} ms");
                self.note(&metric, number(&answer, field)?);
            }
        }
        Ok(())
    }

    fn outage(&mut self, broker: &Shared, store: &FakeStore) -> Result<()> {
        self.create(broker, "outage", 4)?;
        let outage = Duration::from_secs(self.sizes.outage_seconds.into());
        let seconds = self.sizes.outage_seconds + 30;
        let rest = format!("steady topic=outage size=1024 rate_kb=1000 seconds={seconds}");
        let answer = std::thread::scope(|scope| {
            let breaks = scope.spawn(|| {
                std::thread::sleep(BEFORE_OUTAGE);
                store.outage(outage)
            });
            let answer = self.ask(broker, &rest);
            breaks.join().expect("it does not panic").and(answer)
        })?;
        anyhow::ensure!(broker.lock().is_alive(), "the broker did not outlive the outage");
        let fields = ["sent", "acknowledged", "refused", "lost", "twice", "gap_ms"]
            .map(|it| (it, number(&answer, it)));
        for (field, value) in fields {
            self.note(&format!("outage of {} s: {field}", outage.as_secs()), value?);
        }
        Ok(())
    }

    fn idle(&mut self, broker: &Shared) -> Result<()> {
        self.create(broker, "idle", 4)?;
        wait_until_quiet(broker)?;
        let before = meters(broker)?;
        let seconds = self.sizes.idle_seconds;
        std::thread::sleep(Duration::from_secs(seconds.into()));
        let spent = meters(broker)?.since(&before);
        self.note(&format!("PUT in {seconds} idle seconds"), spent.all_puts());
        Ok(())
    }
}

fn meters(broker: &Shared) -> Result<Meters> {
    Ok(Meters::parse(&broker.lock().metrics()?))
}

/// Nothing is left to flush, and nothing was uploaded for a while.
fn wait_until_quiet(broker: &Shared) -> Result<()> {
    std::thread::sleep(SETTLE);
    let deadline = Instant::now() + QUIET_LIMIT;
    let mut last = meters(broker)?;
    loop {
        std::thread::sleep(QUIET_POLL);
        let now = meters(broker)?;
        let is_flushed = now.get("aquifer_log_unflushed_bytes") == 0.0;
        if (is_flushed && now.all_puts() == last.all_puts()) || deadline <= Instant::now() {
            return Ok(());
        }
        last = now;
    }
}
