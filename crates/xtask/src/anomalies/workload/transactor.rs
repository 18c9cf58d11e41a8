//! A client that consumes, transforms and produces in transactions, with every way to end them: commit, abort, crash,
//! time-out, and somebody else who takes the transactional id over.
//!
//! Owns: what a transaction does, when it ends how, what is known of its outcome. Does not own: single steps
//! (`steps`), whether what came of it is right (`checker`).
//!
//! Half of the producers follow Kafka's old rules and half the new ones (KIP-890). Under the old ones a request that
//! was not answered may arrive in a later transaction of the same epoch: a flaw of the protocol, that Jepsen found
//! in Kafka itself. So a producer of the old rules takes another epoch after a transaction in which an answer was
//! missing, as Jepsen advises; one of the new rules needs not.

mod steps;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::ErrorCode;

pub(super) use self::steps::offsets;
use self::steps::{Ending, Health, Open};
use super::line::{KNOW_LIMIT, Line};
use super::reader::Session;
use super::{CALM_LIMIT, GROUPS, Site, TRY_AGAIN};
use crate::anomalies::Random;
use crate::anomalies::history::{Level, Operation, Outcome, Partition, Transaction};

/// Longer than most pauses of a broker and shorter than the longest, in milliseconds.
const TRANSACTION_TIMEOUT_MS: i32 = 4_000;
/// How often a transaction is left open for longer than that.
const LINGER: Duration = Duration::from_millis(6_500);
const SENDS_MAX: u64 = 4;
const BATCH_MAX: u64 = 3;
const POLLS_MAX: u64 = 2;
const BREATH: Duration = Duration::from_millis(10);
/// Small enough that a group stays behind for a while and reads what is merged long ago, in bytes.
const POLL_BYTES: [u64; 4] = [512, 2 << 10, 16 << 10, 128 << 10];

/// Whose rules a producer follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rules {
    /// Partitions and groups are added by requests of their own.
    V1,
    /// Writing adds, and every end bumps the epoch.
    V2,
}

/// A transactional id that is held, until somebody else takes it.
struct Held {
    rules: Rules,
    producer: (i64, i16),
    sequences: BTreeMap<Partition, i32>,
    /// The group's offsets as of the last commit, where it is not fetched anew.
    positions: Option<BTreeMap<Partition, i64>>,
}

pub(super) struct Transactor {
    site: Arc<Site>,
    process: u32,
    group: u32,
    line: Line,
    random: Random,
    held: Option<Held>,
    operations: Vec<Operation>,
}

impl Transactor {
    pub(super) fn new(site: Arc<Site>, process: u32) -> Transactor {
        let (line, random) = (site.line(), site.random(process));
        let group = process % GROUPS;
        Transactor { site, process, group, line, random, held: None, operations: Vec::new() }
    }

    pub(super) fn run(mut self) -> Vec<Operation> {
        while !self.site.is_over() {
            // Another id now and then: whoever holds it is fenced, in the middle of things.
            if self.random.below(40) == 0 {
                self.group = u32::try_from(self.random.below(GROUPS.into())).unwrap_or(0);
                self.held = None;
            }
            let ending = match self.random.below(100) {
                0..70 => Ending::Commit,
                70..88 => Ending::Abort,
                88..94 => Ending::Crash,
                94 => Ending::Linger,
                _ => Ending::Forget,
            };
            self.one(ending);
            // Now and then the next one begins while markers of this one are still being written.
            if self.random.below(2) == 0 {
                std::thread::sleep(BREATH);
            }
        }
        self.operations
    }

    /// Takes `group` over and brings one transaction to its commit.
    pub(super) fn settle(mut self, group: u32) -> Vec<Operation> {
        self.group = group;
        let started = Instant::now();
        while self.one(Ending::Commit) != Some(Outcome::Committed) {
            if CALM_LIMIT <= started.elapsed() {
                let limit = CALM_LIMIT.as_secs();
                let what = format!("group {group} commits nothing within {limit} s of calm");
                self.operations.push(Operation::Stuck { what });
                break;
            }
            std::thread::sleep(TRY_AGAIN);
        }
        self.operations
    }

    /// `None`: nothing was begun.
    fn one(&mut self, ending: Ending) -> Option<Outcome> {
        let held = self.held.take().or_else(|| self.take_over())?;
        let began = self.site.now();
        let transaction = Transaction {
            process: self.process,
            group: self.group,
            began,
            ended: began,
            polls: Vec::new(),
            sends: Vec::new(),
            moves: Vec::new(),
            commit_called: None,
            outcome: Outcome::Aborted,
        };
        let random = Random(self.random.below(u64::MAX));
        let mut open = Open::new(&self.site, &mut self.line, random, held, transaction, self.group);
        act(&mut open, &self.site);
        open.end(ending);
        if let Some(what) = open.broken.take() {
            self.operations.push(Operation::Broken { what });
        }
        let (transaction, held) = open.finish();
        self.held = held;
        let outcome = transaction.outcome;
        self.operations.push(Operation::Transaction(transaction));
        Some(outcome)
    }

    fn take_over(&mut self) -> Option<Held> {
        let name = name_of(&self.site, self.group);
        let rules = if self.random.below(2) == 0 { Rules::V1 } else { Rules::V2 };
        let started = Instant::now();
        while started.elapsed() < KNOW_LIMIT {
            let granted = self.line.identify(Some((&name, TRANSACTION_TIMEOUT_MS)));
            match granted {
                Some(Ok(producer)) => {
                    let sequences = BTreeMap::new();
                    return Some(Held { rules, producer, sequences, positions: None });
                }
                Some(Err(code)) if !code.is_retriable() && code != ErrorCode::ProducerFenced => {
                    return None;
                }
                _ => std::thread::sleep(TRY_AGAIN),
            }
        }
        None
    }
}

/// Of the id and of its group.
fn name_of(site: &Site, group: u32) -> String {
    format!("{}-{group}", site.topic)
}

/// What a transaction does before it ends.
fn act(open: &mut Open<'_>, site: &Site) {
    let consumes = open.random.below(2) == 0;
    if consumes {
        let Some(positions) = open.positions() else { return };
        let mut session = Session::new(site, Level::Committed, positions);
        for _ in 0..1 + open.random.below(POLLS_MAX) {
            open.poll(&mut session);
        }
    }
    let offsets_first = open.random.below(3) == 0;
    if consumes && offsets_first {
        open.commit_offsets();
    }
    for _ in 0..1 + open.random.below(SENDS_MAX) {
        if open.health != Health::Well {
            return;
        }
        let count = 1 + open.random.below(BATCH_MAX);
        open.send(count);
    }
    if consumes && !offsets_first && open.health == Health::Well {
        open.commit_offsets();
    }
}
