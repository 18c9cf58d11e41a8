//! The clients: producers, transactors and readers, each a thread that notes what it did and saw.
//!
//! Owns: who is at work, starting and ending them, what they share, the calm at the end. Does not own: single requests
//! (`line`), what each kind does (`producer`, `transactor`, `reader`), the faults around them.
//!
//! All speak through our own small client: it says exactly when a request was called and answered, retries only what
//! it is told to, and has no state of its own that could be to blame. Each asks one thing at a time.

mod line;
mod producer;
mod reader;
mod transactor;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use self::line::Line;
use self::producer::Producer;
use self::reader::Reader;
use self::transactor::Transactor;
use crate::anomalies::Random;
use crate::anomalies::history::{History, Level, Micros, Operation};

pub(crate) const PARTITIONS: i32 = 4;
const PRODUCERS: u32 = 2;
const TRANSACTORS: u32 = 3;
/// Transactional ids, each with a group of its own. Fewer than twice the transactors, so that they meet.
const GROUPS: u32 = 4;
const READERS: [Level; 4] =
    [Level::Committed, Level::Committed, Level::Uncommitted, Level::Uncommitted];
/// Values of one run: they and what is read of them are in memory until it is checked. Beyond it nobody sends.
const VALUES_MAX: u64 = 400_000;
const TRY_AGAIN: Duration = Duration::from_millis(50);
/// At the end everything must be answered, ended and readable within this.
const CALM_LIMIT: Duration = Duration::from_secs(120);

/// What all clients of a run share.
struct Site {
    address: SocketAddr,
    topic: String,
    started: Instant,
    seed: u64,
    over: AtomicBool,
    values: AtomicU64,
    sessions: AtomicU64,
}

impl Site {
    fn now(&self) -> Micros {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(Micros::MAX)
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// The first of `count` values nobody has sent before.
    fn values(&self, count: u64) -> Option<u64> {
        let first = self.values.fetch_add(count, Ordering::Relaxed);
        (first + count <= VALUES_MAX).then_some(first)
    }

    fn session(&self) -> u32 {
        // Sessions of a run are far fewer.
        u32::try_from(self.sessions.fetch_add(1, Ordering::Relaxed)).unwrap_or(u32::MAX)
    }

    fn random(&self, process: u32) -> Random {
        Random(self.seed ^ u64::from(process + 1).rotate_left(32))
    }

    fn line(&self) -> Line {
        Line::new(self.address)
    }
}

/// Clients at work until they are told to finish.
pub(crate) struct Work {
    site: Arc<Site>,
    clients: Vec<JoinHandle<Vec<Operation>>>,
}

impl Work {
    /// Makes the topic and begins. The broker must be well.
    pub(crate) fn start(address: SocketAddr, topic: String, seed: u64) -> Result<Work> {
        let site = Arc::new(Site {
            address,
            topic,
            started: Instant::now(),
            seed,
            over: AtomicBool::new(false),
            values: AtomicU64::new(0),
            sessions: AtomicU64::new(0),
        });
        prepare(&site)?;
        let mut work = Work { site, clients: Vec::new() };
        for _ in 0..PRODUCERS {
            work.client(|site, process| Producer::new(site, process).run());
        }
        for _ in 0..TRANSACTORS {
            work.client(|site, process| Transactor::new(site, process).run());
        }
        for level in READERS {
            work.client(move |site, process| Reader::new(site, process, level).run());
        }
        Ok(work)
    }

    fn client(&mut self, run: impl FnOnce(Arc<Site>, u32) -> Vec<Operation> + Send + 'static) {
        let process = u32::try_from(self.clients.len()).unwrap_or(u32::MAX);
        let site = Arc::clone(&self.site);
        self.clients.push(std::thread::spawn(move || run(site, process)));
    }

    /// Ends the clients; the broker must be well. Every transactional id is taken over, which ends what was left open,
    /// and goes through one more transaction: who is stuck is found out here. Then everything is read.
    pub(crate) fn finish(mut self) -> Result<Finished> {
        self.site.over.store(true, Ordering::Relaxed);
        let mut history = History::default();
        for client in std::mem::take(&mut self.clients) {
            history.operations.extend(client.join().ok().context("a client panicked")?);
        }
        let process = PRODUCERS + TRANSACTORS + READERS.len() as u32;
        for group in 0..GROUPS {
            let last = Transactor::new(Arc::clone(&self.site), process + group);
            history.operations.extend(last.settle(group));
        }
        let mut finished = Finished { site: Arc::clone(&self.site), history };
        finished.read_everything();
        Ok(finished)
    }
}

impl Drop for Work {
    /// A round that broke off leaves nobody at work.
    fn drop(&mut self) {
        self.site.over.store(true, Ordering::Relaxed);
    }
}

/// Nobody writes any more.
pub(crate) struct Finished {
    site: Arc<Site>,
    pub(crate) history: History,
}

impl Finished {
    /// All records of both levels, and where the groups are.
    pub(crate) fn read_everything(&mut self) {
        let operations = &mut self.history.operations;
        for level in [Level::Uncommitted, Level::Committed] {
            operations.push(match reader::everything(&self.site, level) {
                Ok(whole) => Operation::Whole(whole),
                Err(error) => Operation::Stuck { what: format!("{error:#}") },
            });
        }
        for group in 0..GROUPS {
            match transactor::offsets(&self.site, group) {
                Ok(offsets) => operations.extend(
                    offsets.into_iter().map(|(partition, offset)| Operation::Offset {
                        group,
                        partition,
                        offset,
                    }),
                ),
                Err(error) => operations.push(Operation::Stuck { what: format!("{error:#}") }),
            }
        }
    }
}

/// The clients' topic and, as Kafka makes them only for who looks for a coordinator, the internal ones.
fn prepare(site: &Site) -> Result<()> {
    let (mut line, started) = (site.line(), Instant::now());
    while started.elapsed() < CALM_LIMIT {
        if line.create_topic(&site.topic) && line.find_coordinators(&site.topic) {
            return Ok(());
        }
        std::thread::sleep(TRY_AGAIN);
    }
    bail!("the topics do not come to be within {} s", CALM_LIMIT.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_end_and_are_given_once() {
        let site = Site {
            address: SocketAddr::from(([127, 0, 0, 1], 9)),
            topic: String::new(),
            started: Instant::now(),
            seed: 1,
            over: AtomicBool::new(false),
            values: AtomicU64::new(VALUES_MAX - 5),
            sessions: AtomicU64::new(0),
        };
        assert_eq!(site.values(3), Some(VALUES_MAX - 5));
        assert_eq!(site.values(2), Some(VALUES_MAX - 2));
        assert_eq!(site.values(1), None);
        assert_ne!(site.random(0).below(1 << 40), site.random(1).below(1 << 40));
    }
}
