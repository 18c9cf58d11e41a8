//! Where a broker of a round lives: its log, its bucket, its settings.
//!
//! Owns: the kinds of places, starting and restarting the broker there, the store beside it. Does not own: the
//! processes themselves (`broker`, `fake_store`), when what goes wrong (`days`).
//!
//! Limits are as small as they may be, so that within a minute records go every way there is: out of memory, into
//! segments, through merges and, for the internal topics, through compaction.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::Random;
use super::workload::PARTITIONS;
use crate::broker::{Broker, Kind, Program};
use crate::fake_store::FakeStore;
use crate::process;

const RIVAL_ID: &str = "7";
/// How long a rival serves.
const REIGN: Duration = Duration::from_millis(500);
/// A start asks the store for some dozen things, and any of them may be refused.
const START_TRIES_MAX: u32 = 40;
const START_PAUSE: Duration = Duration::from_millis(100);
/// On every day one request in twenty-five goes wrong in some way, in the store's own words.
pub(super) const EVERY_DAY: &str = "slow-down=0.003,slow-down-requests=3,internal-error=0.005,\
    internal-error-applied=0.005,reset-before-body=0.005,reset-after-body=0.005,lost-answer=0.01,\
    half-answer=0.005,conflict=0.005,stall=0.0005,stall-for-ms=5000";
const HEALED: &str = "none";

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Place {
    /// WAL and bucket in a directory.
    Directory,
    /// WAL and bucket in an object store: what a killed broker left, the next one ends and adopts.
    Store,
    /// The WAL on a volume, the bucket in an object store.
    Volume,
}

impl Place {
    /// Where this kind of broker can live.
    pub(crate) fn of(kind: Kind) -> &'static [Place] {
        match kind {
            Kind::Aquifer => &[Place::Directory, Place::Store, Place::Volume],
            Kind::Kafka => &[Place::Directory],
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Place::Directory => "a directory",
            Place::Store => "an object store",
            Place::Volume => "a volume and an object store",
        }
    }
}

/// A broker with its store, over kills and restarts.
pub(super) struct Lives {
    pub(super) broker: Broker,
    pub(super) store: Option<FakeStore>,
    /// A second broker on the same store, where there is one, with its log in the bucket: it has nothing of its own to
    /// lose.
    rival: Option<Broker>,
    /// Stops that were not clean: an outage may last longer than a broker waits for it.
    pub(super) stopped_late: u32,
    /// Starts that a bad day of the store has ended, with a reason.
    pub(super) refused_starts: u32,
    /// What its log said whenever it had ended by itself.
    deaths: Vec<String>,
}

impl Lives {
    pub(super) fn begin(
        place: Place,
        program: &Program,
        folder: &Path,
        seed: u64,
    ) -> Result<Lives> {
        let folder = process::fresh_folder(folder.to_owned())?;
        let mut settings = settings(&mut Random(seed));
        let store = match (place, program) {
            (Place::Directory, _) => None,
            (_, Program::Kafka(_)) => bail!("Kafka has no object store"),
            (Place::Store | Place::Volume, Program::Aquifer(binary)) => {
                let program = binary.with_file_name("fake-s3");
                let seed = seed.to_string();
                let arguments = ["--faults", EVERY_DAY, "--seed", &seed];
                Some(FakeStore::start_with(&program, &folder.join("store"), &arguments)?)
            }
        };
        if let Some(store) = &store {
            settings.push(("aquifer.bucket", store.uri()));
        }
        if place == Place::Volume {
            let volume: PathBuf = folder.join("broker").join("volume");
            settings.push(("aquifer.wal", format!("file:{}", volume.display())));
        }
        let is_known =
            |name: &str| matches!(program, Program::Aquifer(_)) || !name.starts_with("aquifer.");
        let known = settings.iter().filter(|(name, _)| is_known(name));
        let settings: Vec<(&str, &str)> = known.map(|(name, it)| (*name, &**it)).collect();
        let broker = Broker::new(program.clone(), folder.join("broker"), &settings)?;
        let rival = match &store {
            None => None,
            Some(_) => {
                let of_its_own = [("node.id", RIVAL_ID), ("aquifer.wal", "bucket:")];
                let settings = [&settings[..], &of_its_own].concat();
                Some(Broker::new(program.clone(), folder.join("rival"), &settings)?)
            }
        };
        let deaths = Vec::new();
        let mut lives = Lives { broker, store, rival, stopped_late: 0, refused_starts: 0, deaths };
        lives.start()?;
        Ok(lives)
    }

    pub(super) fn start(&mut self) -> Result<()> {
        start(&mut self.broker, &mut self.refused_starts)
    }

    /// While the broker stands still, another one takes its place, ends its log if that is in the bucket, and dies. The
    /// broker, which knows nothing of it, must not go on as if nothing had been, and must come back by itself.
    pub(super) fn usurp(&mut self) -> Result<()> {
        let rival = self.rival.as_mut().context("there is no rival here")?;
        self.broker.pause()?;
        let reign = start(rival, &mut self.refused_starts).and_then(|()| {
            std::thread::sleep(REIGN);
            rival.kill()
        });
        self.broker.resume()?;
        reign
    }

    pub(super) fn has_rival(&self) -> bool {
        self.rival.is_some()
    }

    pub(super) fn restart(&mut self) -> Result<()> {
        if self.broker.stop().is_err() {
            self.stopped_late += 1;
        }
        self.start()
    }

    /// A broker that has ended by itself is noted and started again.
    pub(super) fn look(&mut self) -> Result<()> {
        if self.broker.is_alive() {
            return Ok(());
        }
        self.deaths.push(format!("the broker ended by itself\n{}", self.broker.log_tail()));
        self.broker.kill()?;
        self.start()
    }

    /// Nothing goes wrong any more.
    pub(super) fn heal(&mut self) -> Result<()> {
        if let Some(store) = &self.store {
            store.set_faults(HEALED)?;
        }
        self.look()
    }

    /// A clean one: everything is well.
    pub(super) fn stop(&mut self) -> Result<()> {
        self.broker.stop()
    }

    /// Slow and failing stores are logged as such; what must not be there is a panic, or an end that nobody asked for.
    pub(super) fn complaints(&self) -> Vec<String> {
        let complaints = self.broker.complaints().into_iter();
        let panics = complaints.filter(|line| line.contains("panicked at"));
        self.deaths.iter().cloned().chain(panics).collect()
    }
}

/// A start may fail on a bad day of the store: it is refused, with a reason, and tried again as a supervisor would.
fn start(broker: &mut Broker, refused: &mut u32) -> Result<()> {
    let mut last = None;
    for _ in 0..START_TRIES_MAX {
        match broker.start() {
            Ok(_) => return Ok(()),
            Err(error) => last = Some(error),
        }
        *refused += 1;
        std::thread::sleep(START_PAUSE);
    }
    Err(last.context("tried at least once")?)
}

fn settings(random: &mut Random) -> Vec<(&'static str, String)> {
    let mebibyte = (1 << 20).to_string();
    vec![
        ("num.partitions", PARTITIONS.to_string()),
        // The records' times are made up, and nothing may be missing at the end.
        ("log.retention.ms", "-1".to_owned()),
        ("offsets.topic.num.partitions", "3".to_owned()),
        ("transaction.state.log.num.partitions", "3".to_owned()),
        ("transaction.abort.timed.out.transaction.cleanup.interval.ms", "1000".to_owned()),
        ("log.cleaner.backoff.ms", "500".to_owned()),
        ("log.cleaner.min.cleanable.ratio", "0.01".to_owned()),
        ("aquifer.flush.age.ms", random.one_of(&[100, 500, 2_000, 10_000]).to_string()),
        ("aquifer.flush.bytes", mebibyte.clone()),
        ("aquifer.merge.target.bytes", mebibyte.clone()),
        ("aquifer.tail.cache.bytes", mebibyte.clone()),
        ("aquifer.block.cache.bytes", mebibyte.clone()),
        ("aquifer.index.cache.bytes", mebibyte),
        ("aquifer.wal.group.bytes", random.one_of(&[65_536, 65_536, 1 << 20, 8 << 20]).to_string()),
    ]
}
