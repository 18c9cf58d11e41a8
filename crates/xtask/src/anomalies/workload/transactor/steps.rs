//! The steps of one transaction, and how it ends.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use anyhow::{Result, bail};
use protocol::ErrorCode;
use protocol::messages::add_offsets_to_txn::{self, AddOffsetsToTxn};
use protocol::messages::add_partitions_to_txn::{self, AddPartitionsToTxn};
use protocol::messages::end_txn::{self, EndTxn};
use protocol::messages::offset_fetch::{self, OffsetFetch};
use protocol::messages::txn_offset_commit::{self, TxnOffsetCommit};

use super::{Held, LINGER, POLL_BYTES, Rules, name_of};
use crate::anomalies::Random;
use crate::anomalies::history::{Fate, Move, Outcome, Partition, Transaction};
use crate::anomalies::workload::line::{KNOW_LIMIT, Line, Sender, code, compression};
use crate::anomalies::workload::producer::partition;
use crate::anomalies::workload::reader::Session;
use crate::anomalies::workload::{CALM_LIMIT, PARTITIONS, Site, TRY_AGAIN};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Commit,
    Abort,
    /// The client is gone in the middle; the next one to hold the id ends its transaction.
    Crash,
    /// The commit comes after the transaction's time is up.
    Linger,
    /// A commit, after which the client crashes and forgets where it was.
    Forget,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    Well,
    /// Something was refused: this transaction cannot commit any more.
    Spoiled,
    /// Somebody else has the id, or may have.
    Fenced,
}

/// A transaction under way.
pub(super) struct Open<'a> {
    site: &'a Site,
    line: &'a mut Line,
    pub(super) random: Random,
    name: String,
    held: Held,
    keeps: bool,
    transaction: Transaction,
    /// Of the old rules.
    added: BTreeSet<Partition>,
    /// Offsets as polls of this transaction left them.
    read_to: BTreeMap<Partition, (i64, i64)>,
    pub(super) health: Health,
    /// Something was sent that the transaction's coordinator may know of.
    is_begun: bool,
    is_shaken: bool,
    /// An answer of which nobody can make sense.
    pub(super) broken: Option<String>,
}

impl<'a> Open<'a> {
    pub(super) fn new(
        site: &'a Site,
        line: &'a mut Line,
        random: Random,
        held: Held,
        transaction: Transaction,
        group: u32,
    ) -> Open<'a> {
        Open {
            site,
            line,
            random,
            name: name_of(site, group),
            held,
            keeps: true,
            transaction,
            added: BTreeSet::new(),
            read_to: BTreeMap::new(),
            health: Health::Well,
            is_begun: false,
            is_shaken: false,
            broken: None,
        }
    }

    /// Where the group goes on. `None`: it cannot be had.
    pub(super) fn positions(&mut self) -> Option<BTreeMap<Partition, i64>> {
        let known = self.held.positions.clone().filter(|_| self.random.below(2) == 0);
        let positions = match known {
            Some(positions) => positions,
            None => fetch_offsets(self.line, self.site, &self.name)?,
        };
        self.held.positions = Some(positions.clone());
        Some(positions)
    }

    pub(super) fn poll(&mut self, session: &mut Session) {
        let bytes = self.random.one_of(&POLL_BYTES);
        let poll = match session.poll(self.site, self.line, bytes) {
            Ok(Some(poll)) => poll,
            Ok(None) => return,
            Err(error) => return self.broken = Some(format!("{}: {error:#}", self.name)),
        };
        for part in &poll.parts {
            let read_to = self.read_to.entry(part.partition).or_insert((part.from, part.from));
            read_to.1 = part.next;
        }
        self.transaction.polls.push(poll);
    }

    /// A batch somewhere.
    pub(super) fn send(&mut self, count: u64) {
        let partition = partition(&mut self.random);
        let Some(first) = self.site.values(count) else { return };
        if self.held.rules == Rules::V1 && !self.added.contains(&partition) {
            if !self.add_partition(partition) {
                return;
            }
            self.added.insert(partition);
        }
        self.is_begun = true;
        let codec = compression(&mut self.random);
        let mut sender = Sender {
            version: if self.held.rules == Rules::V1 { 9 } else { 12 },
            transactional_id: Some(&self.name),
            producer: self.held.producer,
            sequences: &mut self.held.sequences,
        };
        let sent = sender.send(self.site, self.line, partition, (first, count), codec);
        self.is_shaken |= sent.is_shaken;
        if !matches!(sent.batch.fate, Fate::Acknowledged(_)) {
            match sent.refused_by {
                Some(code) => self.refused(code),
                None => self.health = Health::Spoiled,
            }
            // The sequence is in doubt.
            self.keeps = false;
        }
        self.transaction.sends.push(sent.batch);
    }

    fn add_partition(&mut self, partition: Partition) -> bool {
        let (producer_id, producer_epoch) = self.held.producer;
        let topic = add_partitions_to_txn::request::AddPartitionsToTxnTopic {
            name: self.site.topic.clone(),
            partitions: vec![partition],
        };
        let request = add_partitions_to_txn::Request {
            v3_and_below_transactional_id: self.name.clone(),
            v3_and_below_producer_id: producer_id,
            v3_and_below_producer_epoch: producer_epoch,
            v3_and_below_topics: vec![topic],
            ..Default::default()
        };
        self.until_done(|line| {
            let answer = line.ask::<AddPartitionsToTxn>(3, &request)?;
            let topics = answer.results_by_topic_v3_and_below;
            let codes = topics.iter().flat_map(|topic| &topic.results_by_partition);
            Some(first_error(codes.map(|it| it.partition_error_code)))
        })
    }

    /// The group's offsets become part of the transaction, as far as they moved.
    pub(super) fn commit_offsets(&mut self) {
        let moved = self.read_to.iter().filter(|(_, (from, to))| from < to);
        let moves: Vec<Move> = moved
            .map(|(partition, (from, to))| Move { partition: *partition, from: *from, to: *to })
            .collect();
        if moves.is_empty() || (self.held.rules == Rules::V1 && !self.add_offsets()) {
            return;
        }
        let (producer_id, producer_epoch) = self.held.producer;
        let partition = |it: &Move| txn_offset_commit::request::TxnOffsetCommitRequestPartition {
            partition_index: it.partition,
            committed_offset: it.to,
            ..Default::default()
        };
        let request = txn_offset_commit::Request {
            transactional_id: self.name.clone(),
            group_id: self.name.clone(),
            producer_id,
            producer_epoch,
            topics: vec![txn_offset_commit::request::TxnOffsetCommitRequestTopic {
                name: self.site.topic.clone(),
                partitions: moves.iter().map(partition).collect(),
                ..Default::default()
            }],
            ..Default::default()
        };
        let version = if self.held.rules == Rules::V1 { 3 } else { 5 };
        let done = self.until_done(|line| {
            let answer = line.ask::<TxnOffsetCommit>(version, &request)?;
            let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
            Some(first_error(partitions.map(|it| it.error_code)))
        });
        if done {
            self.transaction.moves = moves;
        }
    }

    fn add_offsets(&mut self) -> bool {
        let (producer_id, producer_epoch) = self.held.producer;
        let request = add_offsets_to_txn::Request {
            transactional_id: self.name.clone(),
            producer_id,
            producer_epoch,
            group_id: self.name.clone(),
        };
        self.until_done(|line| Some(code(line.ask::<AddOffsetsToTxn>(3, &request)?.error_code)))
    }

    /// Asks until it is granted. Otherwise the transaction is spoiled.
    fn until_done(&mut self, mut ask: impl FnMut(&mut Line) -> Option<ErrorCode>) -> bool {
        self.is_begun = true;
        let started = Instant::now();
        while started.elapsed() < KNOW_LIMIT {
            match ask(self.line) {
                None => self.is_shaken = true,
                Some(ErrorCode::None) => return true,
                Some(code) if !code.is_retriable() => {
                    self.refused(code);
                    return false;
                }
                Some(_) => std::thread::sleep(TRY_AGAIN),
            }
        }
        self.health = Health::Spoiled;
        false
    }

    fn refused(&mut self, code: ErrorCode) {
        self.health = match code {
            ErrorCode::ProducerFenced
            | ErrorCode::InvalidProducerEpoch
            | ErrorCode::InvalidProducerIdMapping => Health::Fenced,
            _ => Health::Spoiled,
        };
    }

    pub(super) fn end(&mut self, ending: Ending) {
        if !self.is_begun {
            return; // Nobody knows of it.
        }
        if ending == Ending::Crash || self.health == Health::Fenced {
            self.keeps = false;
            self.line.drop_connection();
            return;
        }
        if ending == Ending::Linger {
            std::thread::sleep(LINGER);
        }
        let is_empty = self.transaction.sends.is_empty();
        if ending == Ending::Abort || self.health == Health::Spoiled || is_empty {
            self.abort();
        } else {
            self.commit();
        }
        if ending == Ending::Forget {
            self.keeps = false;
            self.line.drop_connection();
        }
    }

    fn commit(&mut self) {
        self.transaction.commit_called = Some(self.site.now());
        self.transaction.outcome = match self.ask_to_end(true) {
            Answer::Done => {
                if let Some(positions) = &mut self.held.positions {
                    let moves = self.transaction.moves.iter();
                    positions.extend(moves.map(|it| (it.partition, it.to)));
                }
                self.transaction.outcome = Outcome::Committed;
                return;
            }
            Answer::Refused => Outcome::Aborted,
            Answer::Unknown => Outcome::Unknown,
        };
        self.keeps = false;
    }

    fn abort(&mut self) {
        self.keeps &= matches!(self.ask_to_end(false), Answer::Done);
        self.held.positions = None;
    }

    fn ask_to_end(&mut self, committed: bool) -> Answer {
        let (producer_id, producer_epoch) = self.held.producer;
        let transactional_id = self.name.clone();
        let request = end_txn::Request { transactional_id, producer_id, producer_epoch, committed };
        let version = if self.held.rules == Rules::V1 { 3 } else { 5 };
        let (started, mut in_doubt) = (Instant::now(), false);
        while started.elapsed() < KNOW_LIMIT {
            let Some(answer) = self.line.ask::<EndTxn>(version, &request) else {
                (in_doubt, self.is_shaken) = (true, true);
                continue;
            };
            match code(answer.error_code) {
                ErrorCode::None => {
                    if self.held.rules == Rules::V2 {
                        self.held.producer = (answer.producer_id, answer.producer_epoch);
                        self.held.sequences.clear();
                    }
                    return Answer::Done;
                }
                // It is being ended, by this request's earlier try or by a time-out, or the coordinator went away
                // between the decision and its durability.
                ErrorCode::UnknownServerError => in_doubt = true,
                code if code.is_retriable() => in_doubt = true,
                _ if in_doubt => return Answer::Unknown,
                _ => return Answer::Refused,
            }
            std::thread::sleep(TRY_AGAIN);
        }
        Answer::Unknown
    }

    /// What became of it, and the id, if it can be used again.
    pub(super) fn finish(mut self) -> (Transaction, Option<Held>) {
        self.transaction.ended = self.site.now();
        let flawed = self.held.rules == Rules::V1 && self.is_shaken;
        let keeps = self.keeps && !flawed && self.health != Health::Fenced;
        (self.transaction, keeps.then_some(self.held))
    }
}

enum Answer {
    Done,
    Refused,
    Unknown,
}

/// [`ErrorCode::None`] if all are; an empty answer is none.
fn first_error(codes: impl Iterator<Item = i16>) -> ErrorCode {
    let mut codes = codes.peekable();
    if codes.peek().is_none() {
        return ErrorCode::UnknownServerError;
    }
    codes.map(code).find(|it| *it != ErrorCode::None).unwrap_or_default()
}

/// Committed offsets of which no open transaction may change any (KIP-447).
fn fetch_offsets(line: &mut Line, site: &Site, group: &str) -> Option<BTreeMap<Partition, i64>> {
    let topic = offset_fetch::request::OffsetFetchRequestTopics {
        name: site.topic.clone(),
        partition_indexes: (0..PARTITIONS).collect(),
        ..Default::default()
    };
    let request = offset_fetch::Request {
        groups: vec![offset_fetch::request::OffsetFetchRequestGroup {
            group_id: group.to_owned(),
            member_id: None,
            member_epoch: -1,
            topics: Some(vec![topic]),
        }],
        require_stable: true,
        ..Default::default()
    };
    let started = Instant::now();
    while started.elapsed() < KNOW_LIMIT {
        let Some(answer) = line.ask::<OffsetFetch>(9, &request) else { continue };
        let rows = answer.groups.iter().filter(|it| it.error_code == 0);
        let rows = rows.flat_map(|it| &it.topics).flat_map(|it| &it.partitions);
        let stable = rows.filter(|it| it.error_code == 0);
        let offsets: BTreeMap<Partition, i64> =
            stable.map(|it| (it.partition_index, it.committed_offset.max(0))).collect();
        if offsets.len() == PARTITIONS.unsigned_abs() as usize {
            return Some(offsets);
        }
        std::thread::sleep(TRY_AGAIN);
    }
    None
}

/// Where a group is when nobody moves it any more.
pub(in crate::anomalies::workload) fn offsets(
    site: &Site,
    group: u32,
) -> Result<BTreeMap<Partition, i64>> {
    let (mut line, started) = (site.line(), Instant::now());
    while started.elapsed() < CALM_LIMIT {
        if let Some(offsets) = fetch_offsets(&mut line, site, &name_of(site, group)) {
            return Ok(offsets);
        }
    }
    bail!("the offsets of group {group} cannot be had within {} s of calm", CALM_LIMIT.as_secs())
}
