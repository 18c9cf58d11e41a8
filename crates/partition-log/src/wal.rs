//! A broker's write-ahead log: many partitions' appends become few durable segments.
//!
//! Owns: group commit, the order of acknowledgements, the bytes admitted, recovery of what is
//! durable. Does not own: offsets (the log assigns them before it submits), flushing, trimming policy.
//!
//! # Map
//!
//! - [`Wal`] and `committer`: one task that groups appends, writes segments, calls listeners;
//! - `queue`: the decisions of that task, pure: what goes into the next group, what may be released;
//! - [`WalBackend`]: the port below it; `file` and `recovery`: the one over a [`crate::volume::Volume`];
//! - `chain`: what the files found after a crash mean, pure.
//!
//! # Invariants
//!
//! - W1 a listener hears `durable` only after the segment with its batch is durable (A1);
//! - W2 listeners are called strictly in the order of submission, whatever order writes end in (A2);
//! - W3 after one append is lost, every later one is lost, too (A4);
//! - W4 bytes queued and in flight never exceed what was reserved, and that has a limit.

mod backend;
mod chain;
mod committer;
mod file;
mod metrics;
mod queue;
mod recovery;

pub use backend::{RecoveredSegment, WalBackend, WalError, WalHealth};
pub use committer::{Append, CommitListener, Reservation, Wal, WalOptions, WalPlace};
pub use file::{FileWal, FileWalOptions};
pub use metrics::WalMetrics;

#[cfg(test)]
mod tests;
