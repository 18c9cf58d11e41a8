//! What clients did and saw, as they noted it, and the file it is kept in.
//!
//! Owns: the operations, their text form (one JSON object a line), counting them. Does not own: what of it may not
//! be (`checker`), who did it (`workload`).
//!
//! Times are microseconds since the start of the run, all of one clock: an operation that was answered before another
//! one was called came before it, and that is what checks may rely on.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

pub(crate) type Partition = i32;
/// Microseconds since the start of the run.
pub(crate) type Micros = u64;

/// A file with more operations is not one of ours; it is refused before memory ends.
const OPERATIONS_MAX: usize = 5_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Fate {
    /// The first value has this offset, the others follow it.
    Acknowledged(i64),
    /// It is not in the log and never will be.
    Refused,
    /// It may be in the log or not.
    Unknown,
}

/// Values `first`, `first + 1` … in one batch. Every value is sent once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Batch {
    pub(crate) partition: Partition,
    pub(crate) first: u64,
    pub(crate) count: u64,
    pub(crate) called: Micros,
    pub(crate) answered: Micros,
    pub(crate) fate: Fate,
}

impl Batch {
    /// Each value and, if the batch was acknowledged, its offset.
    pub(crate) fn values(&self) -> impl Iterator<Item = (u64, Option<i64>)> + use<> {
        let (first, fate) = (self.first, self.fate);
        (0..self.count).map(move |nth| {
            let offset = match fate {
                Fate::Acknowledged(base) => Some(base + i64::try_from(nth).unwrap_or(i64::MAX)),
                Fate::Refused | Fate::Unknown => None,
            };
            (first + nth, offset)
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Level {
    /// `read_uncommitted`.
    Uncommitted,
    /// `read_committed`.
    Committed,
}

/// What one answer held of one partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) partition: Partition,
    /// What was asked for.
    pub(crate) from: i64,
    /// Where the reader goes on.
    pub(crate) next: i64,
    /// The high watermark the answer told.
    pub(crate) end: i64,
    /// Offset and value, in the order of the answer.
    pub(crate) reads: Vec<(i64, u64)>,
}

/// One fetch that was answered. Partitions with an error are left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Poll {
    /// Polls of one session go on where the one before ended.
    pub(crate) session: u32,
    pub(crate) level: Level,
    pub(crate) called: Micros,
    pub(crate) answered: Micros,
    pub(crate) parts: Vec<Part>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome {
    Committed,
    /// Nobody asked for a commit, or it was refused.
    Aborted,
    /// A commit was asked for, and its answer is not known.
    Unknown,
}

/// A group's offset of one partition, as a transaction moves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Move {
    pub(crate) partition: Partition,
    pub(crate) from: i64,
    pub(crate) to: i64,
}

/// Consume, transform, produce. `group` stands for the group and for its producer's transactional id alike: whoever
/// holds the id has fenced whoever held it before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Transaction {
    pub(crate) process: u32,
    pub(crate) group: u32,
    pub(crate) began: Micros,
    pub(crate) ended: Micros,
    pub(crate) polls: Vec<Poll>,
    pub(crate) sends: Vec<Batch>,
    /// What was sent to the group's coordinator, all of it acknowledged if `commit_called` is set.
    pub(crate) moves: Vec<Move>,
    /// When a commit was first asked for.
    pub(crate) commit_called: Option<Micros>,
    pub(crate) outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Operation {
    /// Outside of transactions.
    Send {
        process: u32,
        batch: Batch,
    },
    Transaction(Transaction),
    /// Of a reader without a group.
    Poll(Poll),
    /// Everything from the start to the end, when nobody wrote any more.
    Whole(Poll),
    /// What a group's offset was when nobody moved it any more.
    Offset {
        group: u32,
        partition: Partition,
        offset: i64,
    },
    /// An answer that no reader can go on with.
    Broken {
        what: String,
    },
    /// Something was not answered, ended or readable for long, although nothing disturbed.
    Stuck {
        what: String,
    },
}

#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) operations: Vec<Operation>,
}

impl History {
    pub(crate) fn transactions(&self) -> impl Iterator<Item = &Transaction> {
        self.operations.iter().filter_map(|it| match it {
            Operation::Transaction(transaction) => Some(transaction),
            _ => None,
        })
    }

    /// All batches, with their transaction's place in [`History::transactions`].
    pub(crate) fn batches(&self) -> impl Iterator<Item = (&Batch, Option<usize>)> {
        let outside = self.operations.iter().filter_map(|it| match it {
            Operation::Send { batch, .. } => Some((batch, None)),
            _ => None,
        });
        let inside = self.transactions().enumerate();
        let inside = inside.flat_map(|(nth, it)| it.sends.iter().map(move |it| (it, Some(nth))));
        outside.chain(inside)
    }

    /// All polls: of readers, in transactions, of everything.
    pub(crate) fn polls(&self) -> impl Iterator<Item = &Poll> {
        self.operations.iter().flat_map(|it| match it {
            Operation::Poll(poll) | Operation::Whole(poll) => std::slice::from_ref(poll),
            Operation::Transaction(transaction) => transaction.polls.as_slice(),
            _ => &[],
        })
    }

    pub(crate) fn wholes(&self) -> impl Iterator<Item = &Poll> {
        self.operations.iter().filter_map(|it| match it {
            Operation::Whole(poll) => Some(poll),
            _ => None,
        })
    }

    pub(crate) fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for (batch, _) in self.batches() {
            tally.sends += 1;
            tally.values += batch.count;
            match batch.fate {
                Fate::Acknowledged(_) => tally.acknowledged += 1,
                Fate::Refused => tally.refused += 1,
                Fate::Unknown => tally.unknown += 1,
            }
        }
        for transaction in self.transactions() {
            match transaction.outcome {
                Outcome::Committed => tally.committed += 1,
                Outcome::Aborted => tally.aborted += 1,
                Outcome::Unknown => tally.undecided += 1,
            }
            tally.moves += u64::from(!transaction.moves.is_empty());
        }
        for poll in self.polls() {
            tally.polls += 1;
            tally.reads += poll.parts.iter().map(|it| it.reads.len() as u64).sum::<u64>();
        }
        tally
    }

    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let mut file =
            BufWriter::new(File::create(path).with_context(|| path.display().to_string())?);
        for operation in &self.operations {
            serde_json::to_writer(&mut file, operation)?;
            file.write_all(b"\n")?;
        }
        Ok(file.flush()?)
    }

    pub(crate) fn read(path: &Path) -> Result<History> {
        let file = BufReader::new(File::open(path).with_context(|| path.display().to_string())?);
        let mut history = History::default();
        for (nth, line) in file.lines().enumerate() {
            ensure!(nth < OPERATIONS_MAX, "more than {OPERATIONS_MAX} operations");
            let operation = serde_json::from_str(&line?);
            let place = || format!("{}, line {}", path.display(), nth + 1);
            history.operations.push(operation.with_context(place)?);
        }
        Ok(history)
    }
}

/// How much there was of what.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) sends: u64,
    pub(crate) values: u64,
    pub(crate) acknowledged: u64,
    pub(crate) refused: u64,
    pub(crate) unknown: u64,
    pub(crate) committed: u64,
    pub(crate) aborted: u64,
    pub(crate) undecided: u64,
    /// Transactions that moved offsets.
    pub(crate) moves: u64,
    pub(crate) polls: u64,
    pub(crate) reads: u64,
}

impl Tally {
    /// Sends, polls and ends of transactions.
    pub(crate) fn operations(&self) -> u64 {
        self.sends + self.polls + self.committed + self.aborted + self.undecided
    }

    pub(crate) fn add(&mut self, other: Tally) {
        let Tally { sends, values, acknowledged, refused, unknown, .. } = other;
        let Tally { committed, aborted, undecided, moves, polls, reads, .. } = other;
        self.sends += sends;
        self.values += values;
        self.acknowledged += acknowledged;
        self.refused += refused;
        self.unknown += unknown;
        self.committed += committed;
        self.aborted += aborted;
        self.undecided += undecided;
        self.moves += moves;
        self.polls += polls;
        self.reads += reads;
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Tally { sends, values, acknowledged, refused, unknown, .. } = self;
        let Tally { committed, aborted, undecided, moves, polls, reads, .. } = self;
        let operations = self.operations();
        write!(
            formatter,
            "{operations} operations: {sends} sends of {values} values ({acknowledged} acknowledged, {refused} \
             refused, {unknown} unknown), {committed} transactions committed, {aborted} aborted, {undecided} unknown, \
             {moves} of them with offsets, {polls} polls of {reads} values"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_reads_back_from_its_file() {
        let batch = Batch {
            partition: 1,
            first: 7,
            count: 2,
            called: 1,
            answered: 2,
            fate: Fate::Acknowledged(5),
        };
        let part = Part { partition: 1, from: 5, next: 7, end: 7, reads: vec![(5, 7), (6, 8)] };
        let poll =
            Poll { session: 3, level: Level::Committed, called: 3, answered: 4, parts: vec![part] };
        let transaction = Transaction {
            process: 1,
            group: 2,
            began: 0,
            ended: 9,
            polls: vec![poll.clone()],
            sends: vec![Batch { first: 9, fate: Fate::Unknown, ..batch.clone() }],
            moves: vec![Move { partition: 1, from: 5, to: 7 }],
            commit_called: Some(8),
            outcome: Outcome::Unknown,
        };
        let operations = vec![
            Operation::Send { process: 0, batch },
            Operation::Transaction(transaction),
            Operation::Poll(poll.clone()),
            Operation::Whole(poll),
            Operation::Offset { group: 2, partition: 1, offset: 7 },
            Operation::Broken { what: "half a batch".to_owned() },
            Operation::Stuck { what: "a transaction".to_owned() },
        ];
        let history = History { operations };
        let folder = std::env::temp_dir().join(format!("anomalies-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join("history.jsonl");
        history.write(&path).expect("written");
        let again = History::read(&path).expect("read");
        std::fs::write(&path, "{}\n").expect("written");
        let refused = History::read(&path).expect_err("not an operation").to_string();
        std::fs::remove_dir_all(&folder).expect("removed");
        assert_eq!(again.operations, history.operations);
        assert!(refused.contains("line 1"), "{refused}");
        let tally = again.tally();
        assert_eq!((tally.sends, tally.values, tally.undecided, tally.reads), (2, 4, 1, 6));
        assert_eq!(tally.operations(), 2 + 3 + 1);
    }
}
