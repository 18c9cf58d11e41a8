//! One whole node of the shipped code, killed at any moment, on a disk that tears, over a bucket that
//! lies, with a checker that remembers what clients were told.
//!
//! A life is one process: the cluster's controller over its database in the bucket, the broker's port
//! between metadata and log, the log engine over a write-ahead log on a simulated disk; opened in the
//! binary's order. Clients work on it until it is killed, and the next life has to keep every promise
//! that was given. Only arguments differ from what ships: clock, chance, tasks, volume and store.
//!
//! # Map
//!
//! - `runner`: [`simulate`], one seed from the first life to the healed end.
//! - `swarm`: what a seed draws: options, sizes of the workload, faults, how each life ends.
//! - `world`: what outlives a process: disk, bucket, wall time.
//! - `time`: the metadata's wall clock, which is set forth and back.
//! - `shelf`: the objects themselves, with simulated ages and writes that land after their writer died.
//! - `node`: one life.
//! - `workload`: the clients of one life.
//! - `transactions`: those of them with transactions, and readers of committed records.
//! - `changelog`: those of them with a compacted topic, and what its readers must find.
//! - `history`: what clients were told and have seen, and what contradicts it.
//! - `checker`: compares a node and its bucket with the history.
//!
//! # What is checked
//!
//! - **A1** what was acknowledged is at its offset, byte for byte, unless the log start passed it;
//! - **A2** what a reader was served is never lost nor different later, offsets are dense;
//! - **A3**, **A6** listed runs join, and each has its object with the right checksum;
//! - **A5** no batch of a producer is twice in a log, a retry gets the first offset;
//! - **A7** once healed and after the graces, every data object is referenced;
//! - **A8** readers of committed records are served what was committed and nothing else that is of a
//!   transaction, also while its end is on its way, and nothing at or above the last stable offset;
//!   once all are ended that is the high watermark;
//! - in a compacted topic the newest committed record of each key is found by whoever reads from below it,
//!   at its offset, unless it is a tombstone; nothing undecided goes, nothing older is told of a key that was
//!   deleted; once healed, tombstones, aborted records and markers of nothing vanish;
//! - **A9** nothing panics, and once healed everything asked is answered;
//! - topics, partition counts and configs are as answered, producer ids and epochs are never reused, a
//!   log start moves only forward and only past what was deleted or expired.
//!
//! # How far a seed determines a run
//!
//! A seed fixes the options, the faults, what each client draws, the disk's and the lies' chances, the
//! names and jitter that SlateDB draws, and all of time. It does not fix the order in which std's hash
//! maps are walked, nor tokio's choice in an unbiased `select!`: those move requests among each other.
//! So a failing seed nearly always fails again, at times only after some tries:
//! `SIM_SEED=7 SIM_TIMES=20`.
//!
//! Deliberately absent: sockets and handlers (real clients test those), groups, coordinators of
//! transactions (clients write the markers themselves), more than one node.

mod changelog;
mod checker;
mod history;
mod node;
mod runner;
mod shelf;
mod swarm;
mod time;
mod transactions;
mod workload;
mod world;

pub use history::Tally;
pub use runner::simulate;
